"""The commands that call the admin API: a module a noun, declared in one way (verbs), printed in one way (output).

Each operation of the published description has a command, and a test holds the two together: it finds the calls in the
source, as a method and a path in so many words.  `oracle audit` is declared by audit_log:
it reads the database as well.
"""

from __future__ import annotations

from typing import Any

from oracle.commands.verbs import Command


def add(commands: Any, command: Command) -> None:
    """All of them; `command(commands, name, run, text)` is cli's way to add one."""
    from oracle.commands import aliases, batches, fsps, keys, routes  # noqa: PLC0415 - they are made with what is above

    for noun in (fsps, keys, aliases, routes, batches):
        noun.add(commands, command)
