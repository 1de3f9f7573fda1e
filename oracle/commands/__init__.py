"""The commands: a module a noun, declared and run in one way (verbs), printed in one way (output).

Each operation of the published admin API has a command.  A test compares the two: it finds the calls in the source by
method and path, so both are written out in each call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Final

# The commands that each module declares, in the order of the help.
MODULES: Final = {
    "service": ("serve", "health", "check-config", "worker"),
    "directory": ("migrate", "seed", "lookup", "canon"),
    "fsps": ("fsp",),
    "keys": ("key",),
    "sessions": ("session",),
    "aliases": ("alias",),
    "routes": ("route",),
    "batches": ("import", "batch"),
    "oracles": ("oracles",),
    "als": ("als",),
    "budgets": ("budgets",),
    "audit_log": ("audit",),
    "demo": ("demo",),
    "completion": ("completion",),
}
# It writes all commands into a script, so it needs all of them.
_NEEDS_ALL: Final = "completion"


def add(commands: Any, words: Sequence[str] = ()) -> None:
    """Declare the commands: those of the module whose command is in `words`, else all.

    To declare all takes 60 ms of CPU, and the supervisor starts each of its processes with a command.
    """
    for module in _list_needed(_find_command(words)):
        import_module(f"oracle.commands.{module}").add(commands)


def _list_needed(command: str) -> Iterator[str]:
    only = [module for module, declared in MODULES.items() if command in declared]
    yield from only if only and command != _NEEDS_ALL else MODULES


def _find_command(words: Sequence[str]) -> str:
    """Return the word that must be a command; '' if another option than --config comes before it."""
    rest = iter(words)
    for word in rest:
        if word == "--config":
            next(rest, None)
        elif not word.startswith("--config="):
            return "" if word.startswith("-") else word
    return ""
