"""The parser of the command line: help that names every kind of identifier, and plain words for wrong usage."""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from oracle.commands.verbs import ALL_KINDS, MISUSED
from oracle.verifier.printable import escape_text

# What argparse reports, and the words for it here.  `worker` is for `serve` alone.
_USAGE_ERRORS: Final[tuple[tuple[str, Callable[[re.Match[str]], str]], ...]] = (
    (r"the following arguments are required: (.*)", lambda found: f"missing: {found[1]}"),
    (
        r"argument (\S+): invalid choice: ('.*') \(choose from (.*)\)",
        lambda found: (
            f"{found[1]}: {found[2]} is not known. Choose from: "
            + ", ".join(name for name in re.findall(r"[\w-]+", found[3]) if name != "worker")
        ),
    ),
    (r"argument (\S+): expected one argument", lambda found: f"{found[1]} needs a value"),
    (r"unrecognized arguments: (.*)", lambda found: f"not known: {found[1]}"),
    (r"argument (.*)", lambda found: found[1]),
)


def explain_argument(action: argparse.Action) -> str:
    """Return the help of an argument, with the kinds of identifiers in place of ALL_KINDS.

    Only when help is printed: the kinds come from oracle.identifiers, which takes 0.1 s to import.
    """
    text = action.help or ""
    if ALL_KINDS in text:
        from oracle.identifiers import KINDS

        text = text.replace(ALL_KINDS, ", ".join(KINDS))
    return text


class HelpFormatter(argparse.HelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str:
        return explain_argument(action)


class Parser(argparse.ArgumentParser):
    """Also the parser of each command: argparse makes those of the same class."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        complaint = escape_text(f"{self.prog}: {_explain_usage(message)}")
        self.exit(MISUSED, f"{complaint}\nFor an explanation: {self.prog} --help\n")


def _explain_usage(message: str) -> str:
    for pattern, explain in _USAGE_ERRORS:
        found = re.fullmatch(pattern, message, re.DOTALL)
        if found:
            return explain(found)
    return message
