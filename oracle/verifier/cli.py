"""`oracle-verify export` and `oracle-verify proof`: what an auditor types, on any system, without the service.

Exit codes.  0 verified, 1 not verified, 2 a wrong command or a file that cannot be opened.
Output.      ASCII, so that every console shows it; texts of other people become escapes where a console lacks a letter.
             No identifier of a party, unless --show asks for it.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Sequence
from glob import glob
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from . import leaf
from .exports import verify_exports
from .files import Malformed, Unreadable, read_checkpoint, read_keys
from .manifest import CSV, EVENTS, HASHES, MANIFEST
from .printable import escape_text
from .proof import Proof, read_proof, verify_proof
from .verdict import Finding, Verdict, explain

VERIFIED: Final = 0
NOT_VERIFIED: Final = 1
UNUSABLE: Final = 2

_LINE_MAX: Final = 500

_EXIT_CODES: Final = (
    "Exit code: 0 verified; 1 not verified (the output says why); 2 wrong command, or a file cannot be opened."
)


_WORDS: Final = (  # what argparse says, in words for people
    (re.compile(r"the following arguments are required: (.*)"), r"missing: \1"),
    (re.compile(r"unrecognized arguments: (.*)"), r"not known: \1"),
    (re.compile(r"argument COMMAND: invalid choice: (.*) \(choose from .*\)"), r"no such command: \1"),
    (re.compile(r"argument (\S+): expected one argument"), r"\1 needs a value"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        for pattern, words in _WORDS:
            message = pattern.sub(words, message)
        raise Unreadable(f"{message}. To see the commands and options: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the console of Windows lacks most letters
    try:
        parsed = make_parser().parse_args(words)
        code: int = parsed.run(parsed)
    except Unreadable as exc:
        if "--json" in words:
            _print_json({"verified": False, "error": {"message": str(exc)}})
        else:
            print(escape_text(f"oracle-verify: {exc}"), file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("oracle-verify: stopped before the end; nothing is verified", file=sys.stderr)
        return UNUSABLE
    return code


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="oracle-verify",
        description="Check the history of an alias oracle: exported files, or the proof of one event."
        " It needs no network, no database and no account.",
        epilog=_EXIT_CODES,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"oracle-verify {_find_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    export = commands.add_parser(
        "export",
        help="check exported history",
        description="Check exported history: every event, and that nothing is missing. Several exports are checked"
        " together: they must be parts of one history, without a gap.",
        epilog=_EXIT_CODES,
        allow_abbrev=False,
    )
    export.add_argument(
        "path", nargs="+", metavar="DIR", help=f"the directory of an export, or a file in it such as {MANIFEST}"
    )
    _add_options(export, "a checkpoint that you kept; the history must continue it; can be repeated")
    export.set_defaults(run=_check_exports)

    proof = commands.add_parser(
        "proof",
        help="check the proof of one event",
        description="Check the proof of one event: a file that `oracle audit proof EVENT --out FILE` wrote.",
        epilog=_EXIT_CODES,
        allow_abbrev=False,
    )
    proof.add_argument("file", type=Path, metavar="FILE", help="the proof")
    _add_options(proof, "a checkpoint that you kept; the proof must lead to it; can be repeated")
    proof.add_argument("--show", action="store_true", help="show the whole event, with the identifier of the party")
    proof.set_defaults(run=_check_proof)
    return parser


def _add_options(parser: argparse.ArgumentParser, checkpoint_help: str) -> None:
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="FILE",
        help="the public key of the history, or a file of such keys; get it by another way than these files;"
        " can be repeated",
    )
    parser.add_argument(
        "--checkpoint", action="append", type=Path, default=[], metavar="FILE",
        help=f"{checkpoint_help}; an older export can be named instead",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def _find_version() -> str:
    # The service installs this program, too.
    distribution = "oracle-verify" if __package__ == "oracle_verify" else "alias-oracle"
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


# Exports ----------------------------------------------------------------------------------------------------------


def _check_exports(arguments: argparse.Namespace) -> int:
    directories = list(dict.fromkeys(each for word in arguments.path for each in _find_directories(word)))
    keys = read_keys(arguments.key)
    verdict = verify_exports(directories, keys, [read_checkpoint(path) for path in arguments.checkpoint])
    subject = f"{verdict.leaves:,} {'event is' if verdict.leaves == 1 else 'events are'} exactly as sealed"
    return _report(verdict, arguments, subject, "these files", {"events": verdict.leaves})


def _find_directories(word: str) -> list[Path]:
    """Return the directories that a person means.  The shell of Windows leaves wildcards to the program."""
    path = Path(word)
    if not path.exists() and any(mark in word for mark in "*?["):
        paths = [Path(each) for each in sorted(glob(word))]  # noqa: PTH207 - Path.glob refuses absolute patterns
        if not paths:
            raise Unreadable(f"{word}: no file has such a name")
    else:
        paths = [path]
    return [_find_directory(each) for each in paths]


def _find_directory(path: Path) -> Path:
    if path.is_file():
        if path.name not in (MANIFEST, EVENTS, HASHES, CSV):
            raise Unreadable(
                f"{path}: not a file of an export. Name a directory with {MANIFEST}, {EVENTS} and {HASHES};"
                " if you have an archive, unpack it first"
            )
        return path.parent
    return path


# Proofs -----------------------------------------------------------------------------------------------------------


def _check_proof(arguments: argparse.Namespace) -> int:
    keys = read_keys(arguments.key)
    kept = [read_checkpoint(path) for path in arguments.checkpoint]
    try:
        proof = read_proof(arguments.file)
    except Malformed as exc:
        return _report(Verdict([Finding("proof", str(exc))]), arguments, "", "this file", {})
    verdict = verify_proof(proof, keys, kept)
    subject = f"event {proof.event_id} is leaf {proof.leaf_index} of a history of {proof.size} leaves"
    more: dict[str, Any] = {"eventId": proof.event_id, "leafIndex": proof.leaf_index, "size": proof.size}
    if arguments.json and arguments.show:
        more["line"] = proof.line
    elif not arguments.json:
        _show_event(proof, whole=arguments.show)
    return _report(verdict, arguments, subject, "this file", more)


def _show_event(proof: Proof, *, whole: bool) -> None:
    """Show what the line says.  It is not verified yet."""
    try:
        event = leaf.read(proof.line.encode("utf-8", "surrogatepass"))
    except ValueError:
        return
    if not whole:
        at = "" if event.at is None else f" on {event.at[:10]} at {event.at[11:19]} UTC"
        print(
            escape_text(shorten(f"event {event.event_id}: {event.entity} {event.action}{at}, through {event.channel}"))
        )
        return
    for name, value in msgspec.structs.asdict(event).items():
        text = bytes(value).decode() if isinstance(value, msgspec.Raw) else "" if value is None else str(value)
        print(escape_text(f"{name:<17} {text}".rstrip()))


# The outcome ------------------------------------------------------------------------------------------------------


def _report(verdict: Verdict, arguments: argparse.Namespace, subject: str, these: str, more: dict[str, Any]) -> int:
    if arguments.json:
        _print_json(
            {
                "verified": verdict.is_verified,
                **more,
                "confirmedBy": verdict.vouchers,
                "keys": verdict.signers,
                "findings": [{"kind": each.kind, "text": shorten(each.where)} for each in verdict.findings],
                "notes": verdict.notes,
            }
        )
    else:
        for line in (*map(str, verdict.findings), *(f"note: {note}" for note in verdict.notes)):
            print(escape_text(shorten(line)))
        for line in explain(verdict, subject, these):
            print(escape_text(line))
    return VERIFIED if verdict.is_verified else NOT_VERIFIED


def shorten(text: str) -> str:
    """A hostile file must not fill the screen."""
    return text if len(text) <= _LINE_MAX else f"{text[:_LINE_MAX]} ..."


def _print_json(answer: dict[str, Any]) -> None:
    print(json.dumps(answer))  # ASCII: a console or a pipe of any encoding can carry it
