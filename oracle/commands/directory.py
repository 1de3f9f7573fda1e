"""`oracle migrate`, `seed`, `lookup` and `canon`: commands that work on the directory itself, without the admin API."""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import NOT_FOUND, OK, Misused, complain
from oracle.commands.output import explain_nrc, format_count, format_json, print_line, print_note
from oracle.commands.verbs import (
    Arguments,
    add_as_stored,
    add_command,
    add_country,
    add_kind,
    add_party,
    require_consent,
)

if TYPE_CHECKING:
    from oracle.identifiers import BadIdentifier, PartyKey, Reading
    from oracle.settings import Settings
    from oracle.store.migrate import Stage

SEED_COUNT_MAX: Final = 100_000_000  # seed makes numbers of eight digits
SEED_FSPS_MAX: Final = 10_000
WAIT_MAX_S: Final = 86_400


def add(commands: Any) -> None:
    migrate = add_command(commands, "migrate", _migrate, "create or upgrade the tables of the database")
    migrate.add_argument(
        "--stage",
        choices=("pre", "post"),
        default="post",
        help="pre: only the changes that the previous version can work with, before the servers are replaced;"
        " post: all changes (default)",
    )
    migrate.add_argument(
        "--wait",
        type=_whole_number(0, WAIT_MAX_S),
        metavar="SECONDS",
        help="how long to wait for a database that does not answer (default: 0), and for another session that"
        " migrates (default: 60)",
    )

    seed = add_command(commands, "seed", _seed, "fill the directory with invented phone numbers, for demos and tests")
    seed.add_argument(
        "--count", type=_whole_number(1, SEED_COUNT_MAX), required=True, metavar="N", help="number of aliases"
    )
    seed.add_argument(
        "--fsps", type=_whole_number(1, SEED_FSPS_MAX), required=True, metavar="N", help="number of FSPs to share them"
    )
    seed.add_argument("--yes", action="store_true", help="do not ask, even if the directory is not empty")

    lookup = add_command(commands, "lookup", _lookup, "show which FSP an identifier is registered with")
    add_party(lookup)
    add_as_stored(lookup)
    lookup.add_argument(
        "--currency", metavar="CURRENCY", type=str.upper, help="show only entries for this currency, for example MXN"
    )
    lookup.add_argument("--json", action="store_true", help="print one JSON object")

    canon = add_command(commands, "canon", _print_canonical, "print the spelling under which an identifier is stored")
    add_kind(canon)
    canon.add_argument("identifier", metavar="IDENTIFIER", help="in any spelling of its kind")
    add_country(canon)


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value:,} is not from {least:,} to {most:,}")
        return value

    return number


# The schema and its content ---------------------------------------------------------------------------------


def _migrate(arguments: Arguments) -> None:
    import asyncio

    from oracle.commands.database import load_settings

    applied = asyncio.run(_apply_migrations(load_settings(arguments).settings, arguments.stage, arguments.wait))
    print(f"migrations applied: {applied}")


async def _apply_migrations(settings: Settings, stage: Stage, wait_s: int | None) -> int:
    from oracle.commands.database import open_database
    from oracle.run.errors import wait_for_database
    from oracle.store.migrate import WAIT_S, migrate

    def note_holder(holder: str) -> None:
        print_note(f"waiting for {holder}, which holds the lock of migrations")

    async def apply() -> int:
        async with open_database(settings, owner=True, create=True) as url:
            return await migrate(url, stage, wait_s=WAIT_S if wait_s is None else wait_s, on_wait=note_holder)

    return await wait_for_database(apply, wait_s or 0, lambda reason, _: print_note(f"{reason}; trying again"))


def _seed(arguments: Arguments) -> None:
    import asyncio

    from oracle.commands.database import load_settings

    asyncio.run(_fill(load_settings(arguments).settings, arguments.count, arguments.fsps, yes=arguments.yes))


async def _fill(settings: Settings, count: int, fsps: int, *, yes: bool) -> None:
    from oracle.commands.database import open_database
    from oracle.commands.seed import is_empty, seed_with_progress

    async with open_database(settings, migrate_own=True, create=True) as url:
        if not yes and not await is_empty(url):
            fact = "The directory is not empty, and lookups would find the invented aliases."
            require_consent(fact, f"Add {format_count(count, 'alias', 'aliases')}?", "nothing was added", yes=False)
        await seed_with_progress(url, count, fsps)


# Identifiers ------------------------------------------------------------------------------------------------


def _print_canonical(arguments: Arguments) -> None:
    from oracle.commands.database import load_settings
    from oracle.commands.words import HINTS
    from oracle.identifiers import BadIdentifier, Reading
    from oracle.imports.cells import find_damage
    from oracle.imports.refusals import REFUSALS

    damage = find_damage(arguments.identifier)
    if damage:
        raise Misused(REFUSALS[damage].partition(". ")[0], HINTS["damaged_value"], code=damage)
    reading = Reading.of(load_settings(arguments).settings)
    try:
        print(reading.read_key(arguments.kind, arguments.identifier, country=arguments.country).identifier)
    except BadIdentifier as exc:
        raise refuse_identifier(exc, arguments) from exc


def refuse_identifier(exc: BadIdentifier, arguments: Arguments) -> Misused:
    from oracle.commands.words import explain_fault, explain_reason

    typed = {"identifier": arguments.identifier, "subId": getattr(arguments, "sub", None), "country": arguments.country}
    return Misused(explain_fault(str(exc), exc.reason, typed), explain_reason(exc.reason, arguments.kind))


def _lookup(arguments: Arguments) -> int:
    import asyncio

    from oracle.commands.database import load_settings
    from oracle.identifiers import BadIdentifier, Reading

    settings = load_settings(arguments).settings
    try:
        key = _read_key(Reading.of(settings), arguments)
    except BadIdentifier as exc:
        raise refuse_identifier(exc, arguments) from exc
    entries = asyncio.run(_fetch_entries(settings, key))
    if arguments.currency:
        entries = [(fsp_id, currency) for fsp_id, currency in entries if currency in {"", arguments.currency}]
    (_print_json if arguments.json else _print_entries)(key, entries)
    return OK if any(fsp_id for fsp_id, _ in entries) else NOT_FOUND


def _read_key(reading: Reading, arguments: Arguments) -> PartyKey:
    """Raises BadIdentifier."""
    from oracle.identifiers import make_stored_key

    if arguments.as_stored:
        return make_stored_key(arguments.kind, arguments.identifier, arguments.sub)
    return reading.read_key(arguments.kind, arguments.identifier, sub_id=arguments.sub, country=arguments.country)


async def _fetch_entries(settings: Settings, key: PartyKey) -> list[tuple[str, str]]:
    """FSP ('' for one that is suspended or closed) and currency ('' for any), the default entry first."""
    from oracle.commands.database import open_database
    from oracle.store.postgres import join_keys
    from oracle.store.queries import QUERIES
    from oracle.store.servers import connect

    async with open_database(settings, migrate_own=True) as url:
        connection = await connect(url, "oracle lookup")
        try:
            rows = await connection.fetch(QUERIES["entries_by_keys"], *join_keys([(key.party_id_type, key.identifier)]))
        finally:
            await connection.close()
    return [(row["fsp_id"], row["currency"]) for row in rows if row["sub_id"] == key.sub_id]


def _print_entries(key: PartyKey, entries: list[tuple[str, str]]) -> None:
    name, shown = "/".join(part for part in key if part), explain_nrc(key.identifier)
    if shown != key.identifier:
        name = f"{name} ({shown.partition(' = ')[0]})"
    for fsp_id, currency in entries:
        print_line(f"{name}  {fsp_id or '(its FSP is suspended or closed)'}  {currency}".rstrip())
    if not entries:
        complain(f"{name}: no FSP has registered this identifier")


def _print_json(key: PartyKey, entries: list[tuple[str, str]]) -> None:
    party = {
        "partyIdType": key.party_id_type,
        "partyIdentifier": key.identifier,
        "partySubIdOrType": key.sub_id or None,
        "entries": [{"fspId": fsp_id or None, "currency": currency or None} for fsp_id, currency in entries],
    }
    print_line(format_json(party))
