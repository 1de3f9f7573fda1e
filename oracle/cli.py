"""The command line: `oracle COMMAND`.

Exit codes.  0 it worked; 1 it did not (wrong settings included); 2 it was called wrongly, or the identifier is bad.
Failures.    What can be expected is one line on stderr, `oracle: ...`; a traceback is a bug of ours.
Database.    A command uses the database of the settings; with none set, that of a running `serve` on the same
             data directory; with none running, it starts the same PostgreSQL for the time it needs.
Imports.     Inside the functions, all of them: every worker starts through here, and whoever types a command
             waits for what that command needs, not for what all of them need together.
"""
# ruff: noqa: PLC0415 - see Imports

from __future__ import annotations

import argparse
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oracle.identifiers import PartyKey
    from oracle.settings import Settings
    from oracle.store.migrate import Stage

OK: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130  # as a shell says of what Ctrl-C ended

CONNECT_TIMEOUT_S: Final = 10
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Arguments = argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        parsed = _parser().parse_args(arguments)
        run: Callable[[Arguments], int] = parsed.run
        code = run(parsed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # `oracle ... | head` has what it wanted
        return FAILED
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in FULL:
            _drop_output()
            _complain(f"cannot write: {exc.strerror}")
            return FAILED
        lines = _expected(exc)
        if not lines:
            raise
        _complain(*lines)
        return _code_of(exc)
    return code


def _drop_output() -> None:
    """Python flushes once more at exit: into nothing, then."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code_of(exc: Exception) -> int:
    from oracle.commands.verbs import Misused

    return MISUSED if isinstance(exc, Misused) else FAILED


def _expected(exc: Exception) -> list[str]:
    """What to say of a failure that can be expected; nothing for a bug."""
    from oracle.commands.verbs import CommandError, Misused
    from oracle.run.embedded import EmbeddedError
    from oracle.run.supervisor import ServeError
    from oracle.settings import SettingsError
    from oracle.store.migrate import SchemaError

    if isinstance(exc, SettingsError):
        return exc.problems
    return [str(exc)] if isinstance(exc, (CommandError, Misused, ServeError, EmbeddedError, SchemaError)) else []


def _complain(*lines: str) -> None:
    print(*(f"oracle: {line}" for line in lines), sep="\n", file=sys.stderr)


# What can be typed ------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oracle", description="The alias directory oracle: which FSP holds this party?"
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML; the environment wins")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_serve,
        _add_migrate,
        _add_seed,
        _add_lookup,
        _add_canon,
        _add_check_config,
        _add_administration,
        _add_audit,
        _add_worker,
    ):
        add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"oracle {version('alias-oracle')}")
        parser.exit()


def _command(commands: Any, name: str, run: Callable[[Arguments], int], text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    # Not given here must not undo what was given before the command.
    command.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="settings in TOML")
    command.set_defaults(run=run)
    return command


def _add_serve(commands: Any) -> None:
    command = _command(commands, "serve", _serve, "answer the hub and the administrators, until stopped")
    command.add_argument("--only", choices=("hub", "admin"), help="one of the two listeners")


def _add_migrate(commands: Any) -> None:
    command = _command(commands, "migrate", _migrate, "bring the database to the schema of this version")
    command.add_argument(
        "--stage",
        choices=("pre", "post"),
        default="post",
        help="pre: only what the previous version can live with; post: all (default)",
    )


def _add_seed(commands: Any) -> None:
    command = _command(commands, "seed", _seed, "fill the directory with made-up MSISDNs")
    # At most what eight digits can tell apart.
    command.add_argument("--count", type=_whole(1, 100_000_000), required=True, metavar="N", help="aliases")
    command.add_argument("--fsps", type=_whole(1, 10_000), required=True, metavar="K", help="FSPs to hold them")


def _add_lookup(commands: Any) -> None:
    command = _command(commands, "lookup", _lookup, "say which FSP the database has for a party")
    command.add_argument("type", metavar="TYPE", help="a PartyIdType, or CLABE or NRC")
    command.add_argument("id", metavar="ID", help="the identifier, in any spelling a hub may use")
    command.add_argument("--sub", metavar="S", help="the SubId or type")
    command.add_argument("--currency", metavar="C", type=str.upper, help="only what answers for this currency")
    command.add_argument("--json", action="store_true", help="as one JSON object")


def _add_canon(commands: Any) -> None:
    command = _command(commands, "canon", _canon, "print the one spelling under which an identifier is stored")
    command.add_argument("kind", metavar="KIND", help="a PartyIdType, or CLABE or NRC")
    command.add_argument("value", metavar="VALUE")
    command.add_argument("--country", metavar="CC", help="allows the national form of an MSISDN")


def _add_check_config(commands: Any) -> None:
    _command(commands, "check-config", _check_config, "print the effective settings, or what is wrong with them")


def _add_administration(commands: Any) -> None:
    from oracle.commands import add

    add(commands, _command)


def _add_audit(commands: Any) -> None:
    from oracle.commands.audit_log import add

    add(commands, _command)


def _add_worker(commands: Any) -> None:
    """What `serve` starts; without a help text it is not listed."""
    command = commands.add_parser("worker")
    command.add_argument("--role", choices=("hub", "admin", "jobs"), required=True)
    for name in ("--index", "--control"):
        command.add_argument(name, type=int, required=True)
    command.add_argument("--fd", type=int)  # none where the role has no listener
    command.set_defaults(run=_worker)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value:,} is not from {least:,} to {most:,}")
        return value

    return number


# What it does -----------------------------------------------------------------------------------------------


def _serve(arguments: Arguments) -> int:
    from oracle.commands.database import loaded
    from oracle.run.supervisor import PARTS, ROLES, serve

    serve(loaded(arguments).settings, PARTS[arguments.only] if arguments.only else ROLES)
    return OK


def _worker(arguments: Arguments) -> int:
    from oracle.run.supervisor import work

    return work(arguments.role, arguments.index, arguments.fd, arguments.control)


def _check_config(arguments: Arguments) -> int:
    from oracle.commands.database import loaded

    print(*loaded(arguments).rendered(), sep="\n")
    return OK


def _canon(arguments: Arguments) -> int:
    from oracle.identifiers import BadIdentifier, canonical

    try:
        print(canonical(arguments.kind.upper(), arguments.value, arguments.country))
    except BadIdentifier as exc:
        _complain(str(exc))
        return MISUSED
    return OK


def _migrate(arguments: Arguments) -> int:
    import asyncio

    from oracle.commands.database import loaded

    applied = asyncio.run(_migrated(loaded(arguments).settings, arguments.stage))
    print(f"migrations applied: {applied}")
    return OK


async def _migrated(settings: Settings, stage: Stage) -> int:
    from oracle.commands.database import database
    from oracle.run.supervisor import database_named
    from oracle.store.migrate import migrate

    async with database(settings, owner=True) as url:
        with database_named(url):
            return await migrate(url, stage)


def _seed(arguments: Arguments) -> int:
    import asyncio

    from oracle.commands.database import loaded

    asyncio.run(_seeded(loaded(arguments).settings, arguments.count, arguments.fsps))
    return OK


async def _seeded(settings: Settings, count: int, fsps: int) -> None:
    from oracle.commands.database import database
    from oracle.commands.seed import seed_shown
    from oracle.run.supervisor import database_named

    async with database(settings, migrated=True) as url:
        with database_named(url):
            await seed_shown(url, count, fsps)


def _lookup(arguments: Arguments) -> int:
    import asyncio

    from oracle.commands.database import loaded
    from oracle.identifiers import BadIdentifier

    settings = loaded(arguments).settings
    try:
        key = _party_key(settings, arguments.type.upper(), arguments.id, arguments.sub)
    except BadIdentifier as exc:
        _complain(str(exc))
        return MISUSED
    entries = asyncio.run(_entries(settings, key))
    if arguments.currency:
        entries = [(fsp_id, currency) for fsp_id, currency in entries if currency in {"", arguments.currency}]
    (_print_json if arguments.json else _print_entries)(key, entries)
    return OK if any(fsp_id for fsp_id, _ in entries) else FAILED


def _party_key(settings: Settings, kind: str, text: str, sub_id: str | None) -> PartyKey:
    from oracle.identifiers import key_of_kind

    return key_of_kind(kind, text, sub_id=sub_id, clabe_only=settings.clabe_only, nrc=settings.nrc)


async def _entries(settings: Settings, key: PartyKey) -> list[tuple[str, str]]:
    """FSP ('' for one that is suspended or closed) and currency ('' for any), the default entry first."""
    rows = await _fetched(settings, "entries_by_keys", [key.party_id_type], [key.identifier])
    return [(row["fsp_id"], row["currency"]) for row in rows if row["sub_id"] == key.sub_id]


def _print_entries(key: PartyKey, entries: list[tuple[str, str]]) -> None:
    name = "/".join(part for part in key if part)
    for fsp_id, currency in entries:
        print(f"{name}  {fsp_id or '(an FSP that is suspended or closed)'}  {currency}".rstrip())
    if not entries:
        _complain(f"{name}: nobody is registered")


def _print_json(key: PartyKey, entries: list[tuple[str, str]]) -> None:
    import json

    named = [{"fspId": fsp_id or None, "currency": currency or None} for fsp_id, currency in entries]
    told = {
        "partyIdType": key.party_id_type,
        "partyIdentifier": key.identifier,
        "partySubIdOrType": key.sub_id or None,
    }
    print(json.dumps({**told, "entries": named}))


async def _fetched(settings: Settings, query: str, *arguments: object) -> list[Any]:
    import asyncpg

    from oracle.commands.database import database
    from oracle.run.supervisor import database_named
    from oracle.store.queries import QUERIES

    async with database(settings, migrated=True) as url:
        with database_named(url):
            connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
            try:
                rows: list[Any] = await connection.fetch(QUERIES[query], *arguments)
            finally:
                await connection.close()
    return rows
