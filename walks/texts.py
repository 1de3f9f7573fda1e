"""Print every text that a person can see, in one list, so that an editor can read them as a whole.

    python -m walks.texts                 all of them
    python -m walks.texts help            only what --help prints
    python -m walks.texts failures        every error as a whole, by the place where a person meets it
    python -m walks.texts errors logs     only the parts of errors and notes, and the messages of logs

The help texts come from the parser.  The others come from the source: the strings in calls that make an error, print a
note or write a log line, the sentence of each error class, and tables of explanations.  {…} is a value.  Refusals of
the admin API are listed twice: as a program reads them, and in the words of the command line.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import oracle
from oracle.cli import make_parser
from oracle.commands.parser import explain_argument
from oracle.commands.words import translate
from oracle.identifiers.errors import EXPLANATIONS
from oracle.imports.refusals import REFUSALS
from oracle.verifier import cli as verifier

PACKAGE: Final = Path(oracle.__file__).parent
_ERRORS: Final = re.compile(
    r"(Error|Refusal|Refused|Misused|Problem|Bad[A-Z]\w+|Malformed|\w+Elements?|TooLarge|NoSuchResource|\w*NotAllowed"
    r"|\w+Unavailable|Overloaded|Damaged|Unreadable)$"
)
_NOTES: Final = frozenset({"complain", "print_note", "print"})
_LOGS: Final = frozenset({"debug", "info", "warning", "error", "exception"})
_TABLE: Final = re.compile(r"_?[A-Z][A-Z_]+$")
_IS_SENTENCE: Final = re.compile(r"[A-Za-z].* .*[A-Za-z]", re.DOTALL)


class Text(NamedTuple):
    place: str
    text: str


def list_help(parser: argparse.ArgumentParser | None = None) -> Iterator[Text]:
    """Yield the description and epilog of each command, and the help of each argument; default: of both programs."""
    if parser is None:
        yield from list_help(make_parser())
        yield from list_help(verifier.make_parser())
        return
    for name, text in (("description", parser.description), ("epilog", parser.epilog)):
        if text:
            yield Text(f"{parser.prog} ({name})", text)
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            listed = {choice.dest for choice in action._choices_actions}  # noqa: SLF001
            for name, child in action.choices.items():
                if name in listed:
                    yield from list_help(child)
        else:
            name = "/".join(action.option_strings) or str(action.metavar or action.dest)
            yield Text(f"{parser.prog} {name}", explain_argument(action))


def list_errors(sources: Iterable[Path] | None = None) -> Iterator[Text]:
    """Yield the texts of errors, hints and notes in the source."""
    for place, tree in _parse(sources):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (_ERRORS.search(_get_name(node)) or _get_name(node) in _NOTES):
                for given in [*node.args, *(word.value for word in node.keywords)]:
                    yield from _read(place, given)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                if "default" in names:
                    yield from _read(place, node.value)
                elif any(map(_TABLE.match, names)) and isinstance(node.value, ast.Dict):
                    for value in node.value.values:
                        yield from _read(place, value)


# Where a person meets an error, by the beginning of the path of its source.
MET: Final[dict[str, str]] = {
    "oracle/api/admin": "admin API",
    "oracle/api/history": "admin API",
    "oracle/api/hub": "hub",
    "oracle/errors": "hub",
    "oracle/audit": "command line",
    "oracle/cli": "command line",
    "oracle/commands": "command line",
    "oracle/identifiers": "identifiers",
    "oracle/imports": "files",
    "oracle/run/embedded": "embedded servers",
    "oracle/run": "serve",
    "oracle/settings": "settings",
    "oracle/store": "serve",
    "oracle/verifier": "oracle-verify",
}
# Made for programmers, and never shown.
_BUGS: Final = frozenset(
    {"RuntimeError", "LookupError", "TimeoutError", "ValidationError", "TypeError", "AssertionError"}
)
_EXPLAINED: Final = frozenset({"ArgumentTypeError"})  # the parser adds the way to --help


class Failure(NamedTuple):
    """An error as a whole: what happened, and what to do."""

    met: str
    place: str
    name: str  # of the error
    text: str


def list_failures() -> Iterator[Failure]:
    """Yield every error that a person can meet, with all of its sentences."""
    for place, tree in _parse(None):
        met = next((words for path, words in MET.items() if place.startswith(path)), "")
        if not met:
            continue
        constants = _find_constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _ERRORS.search(_get_name(node)) and _get_name(node) not in _BUGS:
                yield from _join(met, place, node, constants)
            elif isinstance(node, ast.ClassDef) and place == "oracle/errors.py":
                for text in list_defaults(node):
                    yield Failure(met, f"{place}:{node.lineno}", node.name, text)
    for code, text in REFUSALS.items():
        yield Failure("files", f"row {code}", code, text)
    for reason, text in EXPLANATIONS.items():
        yield Failure("identifiers", f"reason {reason}", reason, text)


def list_defaults(node: ast.ClassDef) -> Iterator[str]:
    for each in node.body:
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant):
            yield str(each.value.value)


def _find_constants(tree: ast.AST) -> dict[str, ast.expr]:
    """Return the texts that a module gives a name, for all its errors."""
    return {
        target.id: node.value
        for node in ast.iter_child_nodes(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def _join(met: str, place: str, call: ast.Call, constants: dict[str, ast.expr]) -> Iterator[Failure]:
    given = [*call.args, *(word.value for word in call.keywords)]
    named = [constants.get(each.id, each) if isinstance(each, ast.Name) else each for each in given]
    parts = [[text.text for text in _read(place, each)] for each in named]
    texts = [text for part in parts for text in part]
    if not texts:
        return
    place, name = f"{place}:{call.lineno}", _get_name(call)
    yield Failure(met, place, name, ". ".join(texts))
    if name == "Refusal" and len(parts) > 2:
        code = call.args[1].value if isinstance(call.args[1], ast.Constant) else ""
        for detail in parts[2]:
            words = translate(detail, str(code), " ".join(parts[3]) if len(parts) > 3 else "")
            yield Failure("command line", place, name, ". ".join(words))


def _list_failures_as_texts() -> Iterator[Text]:
    for failure in sorted(list_failures()):
        yield Text(f"{failure.met}: {failure.place}", failure.text)


def list_logs(sources: Iterable[Path] | None = None) -> Iterator[Text]:
    for place, tree in _parse(sources):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOGS:
                for given in node.args[:1]:
                    yield from _read(place, given)


def _parse(sources: Iterable[Path] | None) -> Iterator[tuple[str, ast.AST]]:
    for source in sorted(sources or PACKAGE.rglob("*.py")):
        place = source.relative_to(PACKAGE.parent) if source.is_relative_to(PACKAGE) else source
        yield str(place), ast.parse(source.read_text(encoding="utf-8"))


def _get_name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _read(place: str, node: ast.expr) -> Iterator[Text]:
    """Yield the sentences in an expression."""
    text = _write(node)
    if text is None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.IfExp, ast.BinOp, ast.Tuple, ast.Starred, ast.Constant, ast.JoinedStr)):
                yield from _read(place, child)
    elif _IS_SENTENCE.search(text):
        yield Text(f"{place}:{node.lineno}", text)


def _write(node: ast.expr) -> str | None:
    """Return a string as a person sees it, with {…} for each value; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
            for part in node.values
            if isinstance(part, (ast.Constant, ast.FormattedValue))
        )
    return None


def _group_by_text(texts: Iterable[Text]) -> dict[str, list[str]]:
    """Collect the places of each text: the same text is often in several."""
    groups: dict[str, list[str]] = {}
    for place, text in texts:
        groups.setdefault(text, []).append(place)
    return groups


LISTS: Final[dict[str, Callable[[], Iterator[Text]]]] = {
    "help": list_help, "failures": _list_failures_as_texts, "errors": list_errors, "logs": list_logs,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lists", nargs="*", metavar="LIST", help=f"{', '.join(LISTS)} (default: all)")
    names = parser.parse_args().lists or list(LISTS)
    for name in names:
        if name not in LISTS:
            parser.error(f"{name!r} is not a list; choose from {', '.join(LISTS)}")
        for text, places in _group_by_text(LISTS[name]()).items():
            more = f" and {len(places) - 1} more" if len(places) > 1 else ""
            sys.stdout.write(f"{text.strip()}\n    {places[0]}{more}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
