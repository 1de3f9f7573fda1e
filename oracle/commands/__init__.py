"""The commands: a module a noun, declared and run in one way (verbs), printed in one way (output).

Each operation of the published admin API has a command.  A test compares the two: it finds the calls in the source by
method and path, so both are written out in each call.
"""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    """Declare all of them."""
    from oracle.commands import (  # noqa: PLC0415 - their modules need this package
        aliases,
        audit_log,
        batches,
        completion,
        directory,
        fsps,
        keys,
        routes,
        service,
    )

    for noun in (service, directory, fsps, keys, aliases, routes, batches, audit_log, completion):
        noun.add(commands)
