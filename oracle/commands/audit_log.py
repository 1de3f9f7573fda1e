"""`oracle audit …`: verify, export, keys, checkpoint, accept.  Findings go to stdout, one a line; the rest to stderr.

Exit codes as in `cli`: 0 all is as it was sealed, 1 something is not, or it could not be looked at.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oracle.commands import audit_questions
from oracle.commands.audit_questions import text_of_file, vkeys_of
from oracle.commands.verbs import CommandError, Misused

if TYPE_CHECKING:
    import asyncpg

    from oracle.settings import Settings

Arguments = argparse.Namespace
Command = Callable[[Any, str, Callable[[Arguments], int], str], argparse.ArgumentParser]


def add(commands: Any, command: Command) -> None:
    """`command(commands, name, run, text)` is cli's way to add one."""
    text = "ask, verify and export history"
    audit = commands.add_parser("audit", help=text, description=text)
    kinds = audit.add_subparsers(metavar="WHAT", required=True)

    verify = command(kinds, "verify", _verify, "check history against what was sealed and signed")
    _add_range(verify)
    verify.add_argument("--offline", type=Path, metavar="DIR", help="an export, without any access to the service")
    verify.add_argument("--since", type=Path, metavar="FILE", help="a checkpoint that was kept: it has to be extended")
    audit_questions.add_keys(verify)

    export = command(kinds, "export", _export, "write history as files that can be checked anywhere")
    export.add_argument("directory", type=Path, metavar="DIR", help="new, or empty")
    _add_range(export)
    export.add_argument("--since", type=Path, metavar="FILE", help="prove that this checkpoint is extended")
    export.add_argument("--csv", action="store_true", help="a table as well")

    command(kinds, "checkpoint", _checkpoint, "print the latest signed checkpoint: keep it somewhere else")
    keys = command(kinds, "keys", _keys, "print the public keys, the newest last")
    keys.add_argument(
        "change",
        nargs="?",
        choices=("rotate", "replace"),
        help="rotate: introduce a new key by the old one; replace: begin one without, because the old one is lost",
    )
    command(kinds, "accept", _accept, "go on sealing though the log does not extend what was signed here last")
    audit_questions.add(kinds, command)


def _add_range(parser: argparse.ArgumentParser) -> None:
    place = "a leaf number, or an instant (2026-03-03T10:00:00Z) of sealing"
    parser.add_argument("--from", dest="begin", type=_place, default=0, metavar="WHERE", help=place)
    parser.add_argument("--to", dest="end", type=_place, metavar="WHERE", help=f"{place}; not included")


def _place(text: str) -> int | datetime:
    if text.isascii() and text.isdigit() and len(text) <= 18:  # noqa: PLR2004 - what a bigint holds
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor an instant") from exc
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# Verify ---------------------------------------------------------------------------------------------------------


def _verify(arguments: Arguments) -> int:
    import asyncio

    since = text_of_file(arguments.since)
    keys = vkeys_of(arguments.key)
    if arguments.offline is not None:
        if arguments.begin or arguments.end is not None:
            raise Misused("--offline: an export is checked as a whole, without --from and --to")
        return _verify_offline(arguments.offline, keys, since)
    return asyncio.run(_verify_database(arguments, keys, since))


def _verify_offline(directory: Path, keys: list[str], since: str | None) -> int:
    from oracle.audit.offline import verify_export

    try:
        verdict = verify_export(directory, keys, since)
    except OSError as exc:
        raise CommandError(f"{exc.filename}: {exc.strerror}") from exc
    for note in verdict.notes:
        print(note, file=sys.stderr)
    for finding in verdict.findings:
        print(finding)
    return _verdict(len(verdict.findings), f"{verdict.leaves} leaves")


async def _verify_database(arguments: Arguments, keys: list[str], since: str | None) -> int:
    from oracle.audit.verify import Verification

    count = 0
    last = None if since else _last(arguments)  # before the log is looked at: it grows
    async with _connected(arguments) as (connection, settings):
        begin, end = await _range(connection, arguments)
        trusted, since = keys or _own_keys(settings), since or last
        verification = Verification(connection, trusted, begin=begin, end=end, since=since)
        async with aclosing(verification.findings()) as findings:
            async for finding in findings:
                print(finding, flush=True)
                count += 1
    told = verification.summary
    return _verdict(count, f"leaves {told.begin} to {told.end}, {told.checkpoints} checkpoints; {told.waiting} waiting")


def _verdict(count: int, looked_at: str) -> int:
    print(f"{count or 'no'} finding{'' if count == 1 else 's'} in {looked_at}", file=sys.stderr)
    return 1 if count else 0


def _own_keys(settings: Settings) -> list[str]:
    from oracle.audit.keys import KeyFile, KeyFileError, key_file

    file = key_file(settings)
    try:
        keys = [signer.verifier.vkey for signer in KeyFile(file).read()]
    except KeyFileError as exc:
        raise CommandError(str(exc)) from exc
    used = f"those in {file} were used" if keys else "none is here; the first one in the database was used"
    print(f"no key was given; {used}", file=sys.stderr)
    return keys


def _last(arguments: Arguments) -> str | None:
    from oracle.audit.keys import KeyFile, KeyFileError, key_file
    from oracle.commands.database import loaded

    file = KeyFile(key_file(loaded(arguments).settings))
    try:
        note = file.last_note()
    except KeyFileError as exc:
        raise CommandError(str(exc)) from exc
    if note is not None:
        print(
            f"no checkpoint was given; the last one that was signed here, {file.last_path}, was used", file=sys.stderr
        )
    return note


# The others -----------------------------------------------------------------------------------------------------


def _export(arguments: Arguments) -> int:
    import asyncio

    return asyncio.run(_exported(arguments))


async def _exported(arguments: Arguments) -> int:
    from oracle.audit.checkpoint import BadNote, Checkpoint
    from oracle.audit.export import ExportError, export
    from oracle.audit.log import Damaged

    since = text_of_file(arguments.since)
    async with _connected(arguments) as (connection, _):
        begin, end = await _range(connection, arguments)
        try:
            kept = None if since is None else Checkpoint.of_note(since)
            made = await export(connection, arguments.directory, begin, end, since=kept, with_csv=arguments.csv)
        except (ExportError, LookupError, Damaged, BadNote) as exc:
            raise CommandError(str(exc)) from exc
        except OSError as exc:
            raise CommandError(f"{exc.filename}: {exc.strerror}") from exc
    print(f"{made.count} leaves, {made.begin} to {made.end}, in {arguments.directory}", file=sys.stderr)
    return 0


def _checkpoint(arguments: Arguments) -> int:
    import asyncio

    async def latest() -> str | None:
        from oracle.store.queries import QUERIES

        async with _connected(arguments) as (connection, _):
            row = await connection.fetchrow(QUERIES["audit_checkpoint_latest"])
            return None if row is None else str(row["note"])

    note = asyncio.run(latest())
    if note is None:
        raise CommandError("nothing is sealed yet")
    print(note, end="")
    return 0


def _keys(arguments: Arguments) -> int:
    import asyncio

    return asyncio.run(_listed(arguments))


async def _listed(arguments: Arguments) -> int:
    from oracle.audit import log
    from oracle.audit.checkpoint import BadNote
    from oracle.audit.keys import KeyFile, KeyFileError, key_file, rotate

    async with _connected(arguments) as (connection, settings):
        if arguments.change:
            try:
                await rotate(connection, KeyFile(key_file(settings)), lost=arguments.change == "replace")
            except (KeyFileError, BadNote) as exc:
                raise CommandError(str(exc)) from exc
        for key in await log.keys(connection):
            print(key.vkey)
    return 0


def _accept(arguments: Arguments) -> int:
    from oracle.audit.keys import KeyFile, KeyFileError, key_file
    from oracle.commands.database import loaded

    file = KeyFile(key_file(loaded(arguments).settings))
    try:
        was_there = file.forget()
    except KeyFileError as exc:
        raise CommandError(str(exc)) from exc
    if was_there:
        print("the next checkpoint will be signed as the log stands; the one before it is no longer remembered here")
    else:
        print(f"nothing to accept: no checkpoint is remembered in {file.last_path}")
    return 0


# The database ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _connected(arguments: Arguments) -> AsyncIterator[tuple[asyncpg.Connection, Settings]]:
    """The database of the settings, and those."""
    from oracle.audit import log
    from oracle.commands.database import database, loaded
    from oracle.run.supervisor import database_named

    settings = loaded(arguments).settings
    async with database(settings, migrated=True) as url:
        with database_named(url):
            connection = await log.connect(url, "oracle audit")
            try:
                yield connection, settings
            finally:
                await connection.close()


async def _range(connection: asyncpg.Connection, arguments: Arguments) -> tuple[int, int | None]:
    begin = await _leaf(connection, arguments.begin)
    end = None if arguments.end is None else await _leaf(connection, arguments.end)
    if end is not None and end < begin:
        raise CommandError("--to is before --from")
    return begin, end


async def _leaf(connection: asyncpg.Connection, place: int | datetime) -> int:
    from oracle.store.queries import QUERIES

    if isinstance(place, int):
        return place
    return int(await connection.fetchval(QUERIES["audit_leaf_at"], place))
