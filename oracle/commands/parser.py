"""The parser of the command line: help that names every kind of identifier, and plain words for wrong usage.

A name that is not known gets the name that was probably meant.  A command without a help text is hidden: no list, no
choice and no suggestion shows it.
"""
# ruff: noqa: PLC0415, SLF001 - imports as in cli; argparse has no public way to list what a parser knows

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from oracle.commands.failures import UsageError
from oracle.commands.suggestions import suggest
from oracle.commands.verbs import ALL_KINDS

# What argparse reports, and the words for it here.
_USAGE_ERRORS: Final[tuple[tuple[str, Callable[[re.Match[str]], str]], ...]] = (
    (r"the following arguments are required: (.*)", lambda found: f"missing: {found[1]}"),
    (r"one of the arguments (.*) is required", lambda found: f"missing: {found[1].replace(' ', ' or ')}"),
    (r"argument (\S+): not allowed with argument (.*)", lambda found: f"{found[1]} and {found[2]}: use only one"),
    (r"argument (\S+): expected one argument", lambda found: f"{found[1]} needs a value"),
    (r"argument (\S+): expected at least one argument", lambda found: f"{found[1]} needs a value"),
    (r"argument (\S+): ignored explicit argument .*", lambda found: f"{found[1]} takes no value"),
    (r"argument (\S+): invalid int value: (.*)", lambda found: f"{found[1]}: {found[2]} is not a whole number"),
    (r"argument (\S+): invalid float value: (.*)", lambda found: f"{found[1]}: {found[2]} is not a number"),
    (r"argument (\S+): invalid \S+ value: (.*)", lambda found: f"{found[1]}: {found[2]} cannot be used"),
    (
        r"ambiguous option: (\S+) could match (.*)",
        lambda found: f"{found[1]} can mean {found[2].replace(', ', ' or ')}: write all of it",
    ),
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


def explain_kinds() -> str:
    """Write a line for each kind of identifier, with an example."""
    from oracle.identifiers import list_examples

    return "\n".join(f"  {kind:<12}  {example}" for kind, example in list_examples())


class HelpFormatter(argparse.HelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str:
        return explain_argument(action)


class Parser(argparse.ArgumentParser):
    """Also the parser of each command: argparse makes those of the same class."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **options})

    # What it knows ------------------------------------------------------------------------------------------------

    def list_commands(self) -> dict[str, tuple[Parser, str]]:
        """Return the commands below this one that are not hidden, with their parsers and help texts."""
        return {
            listed.dest: (action.choices[listed.dest], listed.help or "")
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for listed in action._choices_actions
        }

    def list_options(self) -> dict[str, argparse.Action]:
        """Return the options, by each of their spellings."""
        return {name: each for name, each in self._option_string_actions.items() if each.help != argparse.SUPPRESS}

    def list_positionals(self) -> list[argparse.Action]:
        return [each for each in self._get_positional_actions() if not isinstance(each, argparse._SubParsersAction)]

    # Help ---------------------------------------------------------------------------------------------------------

    def format_help(self) -> str:
        text = super().format_help()
        if any(ALL_KINDS in (action.help or "") for action in self._actions):
            text += f"\nkinds of identifiers, with an example each:\n{explain_kinds()}\n"
        return text

    # Wrong usage --------------------------------------------------------------------------------------------------

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        """Refuse unknown words here: the parser of all commands does not know the options of this one."""
        parsed, unknown = super().parse_known_args(*given, **named)
        if unknown and not self.list_commands():
            options = [word.partition("=")[0] for word in unknown if word.startswith("--")]
            hints = "".join(suggest(option, self.list_options()) for option in options)
            self.error(f"not known: {' '.join(unknown)}{'.' if hints else ''}{hints}")
        return parsed, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = list(self.list_commands()) if isinstance(action, argparse._SubParsersAction) else list(action.choices)
        choices = ", ".join(map(str, known))
        raise argparse.ArgumentError(
            action, f"{value!r} is not known.{suggest(str(value), map(str, known))} Choose from: {choices}"
        )

    def error(self, message: str) -> NoReturn:
        explained, usage = _explain_usage(message), self.format_usage()
        commands = self.list_commands()
        if not (commands and message.startswith("the following arguments are required")):
            raise UsageError(self.prog, explained, usage=usage)
        width = max(map(len, commands))
        lines = [f"\n  {name:<{width}}  {text}" for name, (_, text) in commands.items()]
        hint = f"Choose from: {', '.join(commands)}"
        raise UsageError(self.prog, explained, hint, usage=usage, more="".join(lines))


def _explain_usage(message: str) -> str:
    for pattern, explain in _USAGE_ERRORS:
        found = re.fullmatch(pattern, message, re.DOTALL)
        if found:
            return explain(found)
    return message
