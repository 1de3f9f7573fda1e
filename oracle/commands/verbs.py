"""How a command that calls the admin API is declared, and run: with a client, and one line on stderr when it fails.

The key is the first of: `--key-file`, ORACLE_KEY, ORACLE_KEY_FILE, the file that `oracle key save` writes in the
data directory.  It is never an argument: everybody on the machine can read those.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from oracle.commands.client import Client
    from oracle.settings import Settings

OK: Final = 0
FAILED: Final = 1
MISUSED: Final = 2

UNAUTHORIZED: Final = 401

LIMIT: Final = 100

Arguments = argparse.Namespace
Work = Callable[["Client", Arguments], object]
Command = Callable[[Any, str, Callable[[Arguments], int], str], argparse.ArgumentParser]


class CommandError(Exception):
    """An expected failure of the command itself; one line."""


class Misused(Exception):
    """What was typed cannot be done; one line, and another exit code."""


class Verbs:
    """`oracle NOUN VERB …`."""

    def __init__(self, commands: Any, command: Command, noun: str, text: str) -> None:
        parser = commands.add_parser(noun, help=text, description=text)
        self._verbs = parser.add_subparsers(metavar="VERB", required=True)
        self._command = command

    def add(self, name: str, work: Work, text: str, *, json: bool = True) -> argparse.ArgumentParser:
        """One that calls the API."""
        return calling(self._verbs, self._command, name, work, text, json=json)

    def add_local(self, name: str, run: Callable[[Arguments], None], text: str) -> argparse.ArgumentParser:
        """One that does not."""
        return self._command(self._verbs, name, partial(_told, run), text)


def calling(
    commands: Any, command: Command, name: str, work: Work, text: str, *, json: bool = True
) -> argparse.ArgumentParser:
    """Without `json` where what comes is a file, or nothing."""
    parser = command(commands, name, partial(_told, partial(_with_client, work)), text)
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="holds the key to call with")
    if json:
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _with_client(work: Work, arguments: Arguments) -> None:
    with _client(arguments) as client:
        work(client, arguments)


def _told(run: Callable[[Arguments], object], arguments: Arguments) -> int:
    try:
        run(arguments)
    except (CommandError, Misused) as exc:
        _complain(str(exc))
        return MISUSED if isinstance(exc, Misused) else FAILED
    except OSError as exc:
        if exc.filename is None:
            raise
        _complain(f"{exc.filename}: {exc.strerror}")
        return FAILED
    return OK


def _complain(line: str) -> None:
    print(f"oracle: {line}", file=sys.stderr)


@contextmanager
def _client(arguments: Arguments) -> Iterator[Client]:
    from oracle.commands.client import Client, ClientError
    from oracle.commands.database import loaded

    settings = loaded(arguments).settings
    key, where = _key(settings, arguments.key_file)
    try:
        with Client(settings.admin_address, key) as client:
            yield client
    except ClientError as exc:
        raise CommandError(f"{exc}. The key came from {where}" if exc.status == UNAUTHORIZED else str(exc)) from exc


# Keys in files ----------------------------------------------------------------------------------------------------


def _key(settings: Settings, named: Path | None) -> tuple[str, str]:
    """The key, and where it was found."""
    if named is None and settings.key is not None:
        return checked_key(settings.key, "ORACLE_KEY"), "ORACLE_KEY"
    file = named or settings.key_path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is not None:
            raise
        raise CommandError(
            f"no key: {file} is not there. Write one by `oracle key save`, or set ORACLE_KEY_FILE"
        ) from None
    except UnicodeDecodeError:
        text = ""
    return checked_key(text, str(file)), str(file)


def checked_key(text: str, where: str) -> str:
    """Never repeated in what is said of it."""
    key = text.strip()
    if not re.fullmatch(r"aok_[!-~]{8,256}", key):
        raise CommandError(f"{where}: that is no key; one begins with aok_")
    return key


# Arguments --------------------------------------------------------------------------------------------------------


def add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit", type=_count, default=LIMIT, metavar="N", help=f"at most so many ({LIMIT}); 0: all there are"
    )


def add_fsp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fsp", metavar="FSP", help="whose; left out, that of the key")


def add_if_match(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--if-match", metavar="VERSION", help="only if it still is this version (as shown)")


def fsp_of(client: Client, arguments: Arguments) -> str:
    """The FSP that was named, or that the key is bound to."""
    named: str | None = arguments.fsp or client.me["fspId"]
    if named is None:
        raise Misused("name the FSP by --fsp: the key is not bound to one")
    return named


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def number(text: str) -> int:
    """Of a batch or a route."""
    return _count(text)


def words(text: str) -> list[str]:
    """`MXN,USD`; `none` is none of them."""
    return [word.strip() for word in text.split(",") if word.strip()] if text != "none" else []


def instant(text: str) -> str:
    """RFC 3339; a time without an offset is UTC, a date its beginning; `90d` and `12h` from now on."""
    return _instant(text, 1)


def past(text: str) -> str:
    """The same for who looks back: `90d` and `12h` ago."""
    return _instant(text, -1)


def _instant(text: str, sign: int) -> str:
    distance = re.fullmatch(r"([0-9]{1,5})([dh])", text)
    if distance:
        hours = sign * int(distance[1]) * (24 if distance[2] == "d" else 1)
        return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no instant: 2027-01-31T10:00:00Z, 2027-01-31, 90d, 12h"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
