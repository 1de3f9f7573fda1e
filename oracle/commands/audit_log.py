"""`oracle audit verify`, `export`, `checkpoint`, `keys` and `accept`: commands that read the database itself.

Findings go to stdout, one a line; everything else goes to stderr.  Exit codes as in `cli`: 0 when history is as it was
sealed, 1 when something differs or cannot be checked.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands import audit_copies, audit_questions, audit_verifications
from oracle.commands.audit_copies import KEPT, read_checkpoint, read_verifier_keys
from oracle.commands.failures import FOUND, OK, CommandError, Misused
from oracle.commands.output import format_count, print_line, print_note
from oracle.commands.verbs import (
    Arguments,
    add_command,
    add_party,
    make_sentence,
    name_user,
    require_consent,
)

if TYPE_CHECKING:
    import asyncpg

    from oracle.audit.keys import KeyFile
    from oracle.settings import Settings

READS_KEPT_DAYS: Final = 365  # the database refuses less (migrations/0016)
READS_DAYS_MAX: Final = 36_500

_DATABASE: Final = (
    "This command reads the database: ORACLE_DATABASE_URL, or the data directory of `oracle serve` (ORACLE_DATA_DIR)."
)


def add(commands: Any) -> None:
    text = "ask about history; verify, prove and export it"
    audit = commands.add_parser("audit", help=text, description=make_sentence(text))
    verbs = audit.add_subparsers(title="verbs", metavar="VERB", required=True)

    verify = add_command(verbs, "verify", _verify, "check that nobody has changed the sealed history", _DATABASE)
    _add_range(verify)
    verify.add_argument("--offline", type=Path, metavar="DIR", help="check this export instead; no database is needed")
    verify.add_argument("--since", type=Path, metavar="FILE", help=f"{KEPT}: the log must be an extension of it")
    verify.add_argument(
        "--max-wait", type=_parse_seconds, metavar="SECONDS",
        help="fail if an event has waited longer than this to be sealed; default:"
        " ORACLE_AUDIT_WAITING_MAX_S; use inf for a restored copy that no service uses",
    )  # fmt: skip
    verify.add_argument(
        "--directory",
        action="store_true",
        help="also replay all events, and compare the result with the directory: aliases, FSPs, routes, policies, keys",
    )
    audit_copies.add_keys(verify)

    export = add_command(
        verbs, "export", _export, "write history to files that anybody can verify without the database", _DATABASE
    )
    export.add_argument("directory", type=Path, metavar="DIR", help="directory for the files; new or empty")
    _add_range(export)
    export.add_argument("--since", type=Path, metavar="FILE", help=f"{KEPT}: add the proof that the log extends it")
    export.add_argument("--csv", action="store_true", help="also write the events as a CSV table")

    text = "print the latest signed checkpoint; keep it outside of this system"
    add_command(verbs, "checkpoint", _checkpoint, text, _DATABASE)
    keys = add_command(
        verbs, "keys", _print_or_change_keys, "print the public keys that sign history, newest last", _DATABASE
    )
    keys.add_argument(
        "change",
        nargs="?",
        choices=("create", "rotate", "replace"),
        help="create: write the first key to the key file, before the first start; rotate: create a new key, signed by"
        " the old key; replace: create a new key because the old key is lost",
    )
    keys.add_argument("--yes", action="store_true", help="with replace: do not ask")
    add_command(
        verbs, "accept", _accept, "continue sealing after the database was restored from a backup",
        "Sealing stops when the log does not extend the last checkpoint that was signed here. This command removes the"
        " local copy of that checkpoint. Find out the reason first: a changed history looks the same.",
    )  # fmt: skip
    drop = add_command(
        verbs, "drop-reads", _drop_reads, "delete old records of who asked, by whole months",
        "Only the owner of the tables can do it (ORACLE_DATABASE_OWNER_URL, or the data directory of `oracle serve`)."
        " The database keeps the last 365 days. History records each month that is deleted.",
    )  # fmt: skip
    drop.add_argument(
        "--older-than", type=int, required=True, metavar="DAYS", help="months that ended before; at least 365 days"
    )
    drop.add_argument("--yes", action="store_true", help="do not ask")
    digest = add_command(
        verbs, "digest", _print_digests, "print the digest of a party, to find its lines in the audit of requests",
        "The account lookup service writes a line for each request of an FSP if ORACLE_ACCOUNT_LOOKUP_AUDIT is on. Find"
        " the lines of a party by this digest. The command needs ORACLE_AUDIT_DIGEST_KEY of the service. With two keys"
        " it prints two digests; the service writes the first one.",
    )  # fmt: skip
    add_party(digest)
    audit_questions.add(verbs)
    audit_verifications.add(verbs)
    audit_copies.add(verbs)


def _print_digests(arguments: Arguments) -> None:
    from oracle.api.dfsp.request_log import make_digest
    from oracle.commands.database import load_settings
    from oracle.commands.directory import refuse_identifier
    from oracle.identifiers import BadIdentifier, Reading

    settings = load_settings(arguments).settings
    if not settings.audit_digest_key:
        raise Misused("ORACLE_AUDIT_DIGEST_KEY is not set", "Set it to the key of the service")
    try:
        key = Reading.of(settings).read_key(
            arguments.kind, arguments.identifier, sub_id=arguments.sub, country=arguments.country
        )
    except BadIdentifier as exc:
        raise refuse_identifier(exc, arguments) from exc
    for secret in settings.audit_digest_key:
        print_line(make_digest(secret, key.party_id_type, key.identifier, key.sub_id))


def _add_range(parser: argparse.ArgumentParser) -> None:
    place = "a leaf number, or a time of sealing such as 2026-03-03T10:00:00Z"
    parser.add_argument(
        "--from", dest="begin", type=_parse_place, default=0, metavar="PLACE", help=f"begin here: {place}"
    )
    parser.add_argument("--to", dest="end", type=_parse_place, metavar="PLACE", help=f"end before this: {place}")


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _parse_place(text: str) -> int | datetime:
    if text.isascii() and text.isdigit() and len(text) <= 18:  # noqa: PLR2004 - what a bigint holds
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a leaf number nor a time such as 2026-03-03T10:00:00Z"
        ) from exc
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# Verify ---------------------------------------------------------------------------------------------------------


def _verify(arguments: Arguments) -> int:
    import asyncio

    since = read_checkpoint(arguments.since)
    keys = read_verifier_keys(arguments.key)
    if arguments.offline is not None:
        if arguments.begin or arguments.end is not None:
            raise Misused("--offline checks the whole export: remove --from and --to")
        if arguments.max_wait is not None:
            raise Misused("--offline cannot know what waits: remove --max-wait")
        if arguments.directory:
            raise Misused("--offline has no directory to compare with: remove --directory")
        return _verify_offline(arguments.offline, keys, since)
    return asyncio.run(_verify_database(arguments, keys, since))


def _verify_offline(directory: Path, keys: list[str], since: str | None) -> int:
    from oracle.verifier.exports import verify_exports
    from oracle.verifier.files import Unreadable
    from oracle.verifier.verdict import explain

    try:
        verdict = verify_exports([directory], keys, [] if since is None else [since])
    except Unreadable as exc:
        hint = "DIR must be a directory that `oracle audit export` or `oracle audit fetch` wrote"
        raise CommandError(f"{exc}. {hint}") from exc
    for finding in verdict.findings:
        print_line(str(finding))
    subject = f"{format_count(verdict.leaves, 'event')} exactly as sealed"
    for note in (*verdict.notes, *explain(verdict, subject, "these files")):
        print_note(note)
    return OK if verdict.is_verified else FOUND


async def _verify_database(arguments: Arguments, keys: list[str], since: str | None) -> int:
    from oracle.audit.verify import Verification

    count = 0
    last = None if since else _read_last_checkpoint(arguments)  # before the log is read: it grows
    async with _connect(arguments) as (connection, settings):
        begin, end = await _find_range(connection, arguments)
        trusted, since = keys or _read_own_keys(settings), since or last
        verification = Verification(
            connection, trusted, begin=begin, end=end, since=since,
            waiting_max_s=settings.audit_waiting_max_s if arguments.max_wait is None else arguments.max_wait,
        )  # fmt: skip
        async with aclosing(verification.find()) as findings:
            async for finding in findings:
                print_line(str(finding))
                count += 1
        checked = verification.summary
        scope = (
            f"leaves {checked.begin} to {checked.end}, {format_count(checked.checkpoints, 'checkpoint')};"
            f" {format_count(checked.waiting, 'event')} not sealed yet"
        )
        if arguments.directory:
            found, rows = await _compare_directory(connection)
            count += found
            scope += (
                f"; the directory: {format_count(rows['directory'], 'row')}, {format_count(rows['events'], 'event')}"
            )
    return _conclude(count, scope)


async def _compare_directory(connection: asyncpg.Connection) -> tuple[int, Counter[str]]:
    """Print each difference; return how many there are, and the rows that were read."""
    from oracle.audit.directory import WHOLE, Comparison, open_snapshot

    count, comparison = 0, Comparison(connection)
    async with open_snapshot(connection, WHOLE), aclosing(comparison.find()) as differences:
        async for difference in differences:
            print_line(str(difference.finding))
            count += 1
    return count, comparison.rows


def _conclude(findings: int, scope: str) -> int:
    print_note(f"{format_count(findings, 'finding') if findings else 'no findings'} in {scope}")
    return FOUND if findings else OK


def _read_own_keys(settings: Settings) -> list[str]:
    from oracle.audit.keys import KeyFile, KeyFileError, key_file

    file = key_file(settings)
    try:
        keys = [signer.verifier.vkey for signer in KeyFile(file).read()]
    except KeyFileError as exc:
        raise CommandError(str(exc)) from exc
    trusted = f"the keys in {file}" if keys else "the first key in the database, because there is no key file here"
    print_note(f"no --key given: trusting {trusted}")
    return keys


def _read_last_checkpoint(arguments: Arguments) -> str | None:
    from oracle.audit.keys import KeyFile, KeyFileError, key_file
    from oracle.commands.database import load_settings

    file = KeyFile(key_file(load_settings(arguments).settings))
    try:
        note = file.read_last_note()
    except KeyFileError as exc:
        raise CommandError(str(exc)) from exc
    if note is not None:
        print_note(f"no --since given: the log must extend the last checkpoint signed here, {file.last_path}")
    return note


# The others -----------------------------------------------------------------------------------------------------


def _export(arguments: Arguments) -> int:
    import asyncio

    return asyncio.run(_export_range(arguments))


async def _export_range(arguments: Arguments) -> int:
    from oracle.audit.export import ExportError, export
    from oracle.audit.log import Damaged
    from oracle.verifier.checkpoint import BadNote, Checkpoint

    since = read_checkpoint(arguments.since)
    async with _connect(arguments) as (connection, _):
        begin, end = await _find_range(connection, arguments)
        try:
            kept = None if since is None else Checkpoint.of_note(since)
            made = await export(connection, arguments.directory, begin, end, since=kept, with_csv=arguments.csv)
        except (ExportError, LookupError, Damaged, BadNote) as exc:
            raise CommandError(str(exc)) from exc
        except OSError as exc:
            raise CommandError(f"{exc.filename}: {exc.strerror}") from exc
    print_note(
        f"{format_count(made.count, 'event')}, leaves {made.begin} to {made.end}, written to {arguments.directory}"
    )
    return OK


def _checkpoint(arguments: Arguments) -> int:
    import asyncio

    async def latest() -> str | None:
        from oracle.store.queries import QUERIES

        async with _connect(arguments) as (connection, _):
            row = await connection.fetchrow(QUERIES["audit_checkpoint_latest"])
            return None if row is None else str(row["note"])

    note = asyncio.run(latest())
    if note is None:
        raise CommandError("there is no checkpoint yet, because nothing is sealed", "Start `oracle serve`: it seals")
    print(note, end="")
    return OK


def _print_or_change_keys(arguments: Arguments) -> int:
    import asyncio

    return asyncio.run(_print_keys(arguments))


async def _print_keys(arguments: Arguments) -> int:
    from oracle.audit import log
    from oracle.audit.keys import KeyFile, KeyFileError, key_file, rotate, write_first_key
    from oracle.verifier.checkpoint import BadNote

    async with _connect(arguments) as (connection, settings):
        if arguments.change:
            file = KeyFile(key_file(settings))
            try:
                if arguments.change == "create":
                    print_line((await write_first_key(connection, file)).vkey)
                elif arguments.change == "replace":
                    await _replace_key(connection, file, yes=arguments.yes)
                else:
                    await rotate(connection, file, actor=name_user())
            except (KeyFileError, BadNote) as exc:
                raise CommandError(str(exc)) from exc
        for key in await log.fetch_keys(connection):
            print_line(key.vkey)
    return OK


async def _replace_key(connection: asyncpg.Connection, file: KeyFile, *, yes: bool) -> None:
    from oracle.audit.keys import require_lost, rotate

    old = await require_lost(connection, file)
    fact = (
        f"{file.path} does not hold the key that signs now. Look for a copy first: in your safe, on the other machines"
        " that seal. No older key signs the new one, so you must give it to every auditor."
    )
    require_consent(fact, "Is the key lost for good?", "no key was created", yes=yes)
    new = await rotate(connection, file, lost=True, actor=name_user())
    print_note(
        "Tell every auditor: the key is lost, why, and since when. From now on they verify with both keys:"
        f" --key {old.vkey} --key {new.vkey}"
    )


def _drop_reads(arguments: Arguments) -> int:
    import asyncio

    days: int = arguments.older_than
    if not READS_KEPT_DAYS <= days <= READS_DAYS_MAX:
        raise Misused(f"--older-than must be {READS_KEPT_DAYS} to {READS_DAYS_MAX} days")
    fact = f"Records of who asked are deleted for good, for each month that ended more than {days} days ago."
    require_consent(fact, "Delete them?", "nothing was deleted", yes=arguments.yes)
    return asyncio.run(_drop_months(arguments, days))


async def _drop_months(arguments: Arguments, days: int) -> int:
    import asyncpg

    from oracle.store.queries import QUERIES

    async with _connect(arguments, owner=True) as (connection, _), connection.transaction():
        context = ("sql", name_user(), "", "", "", f"older than {days} days", "", "")
        await connection.execute(QUERIES["transaction_begin"], *context)
        try:
            dropped = await connection.fetch(QUERIES["reads_drop"], days)
        except asyncpg.InsufficientPrivilegeError as exc:
            raise CommandError(
                "only the owner of the tables can delete records of who asked: set ORACLE_DATABASE_OWNER_URL"
            ) from exc
        except asyncpg.LockNotAvailableError as exc:
            raise CommandError("somebody reads these records at the moment: try again") from exc
    for each in dropped:
        print(f"{each['dropped']}: {format_count(each['records'], 'record')} deleted")
    print_note("each is an event in history" if dropped else "no month is that old: nothing was deleted")
    return OK


def _accept(arguments: Arguments) -> int:
    from oracle.audit.keys import KeyFile, KeyFileError, key_file
    from oracle.commands.database import load_settings

    file = KeyFile(key_file(load_settings(arguments).settings))
    try:
        had_checkpoint = file.delete_last()
    except KeyFileError as exc:
        raise CommandError(str(exc)) from exc
    if had_checkpoint:
        print("accepted: the last checkpoint was removed from this machine; the next one signs the log as it is now")
    else:
        print(f"nothing to accept: {file.last_path} does not exist")
    return OK


# The database ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _connect(arguments: Arguments, *, owner: bool = False) -> AsyncIterator[tuple[asyncpg.Connection, Settings]]:
    """Yield a connection to the database of the settings, and the settings.

    It creates no database: an empty one has no findings, which would be a false comfort.
    """
    from oracle.audit import log
    from oracle.commands.database import load_settings, open_database

    settings = load_settings(arguments).settings
    without = (
        "Without the database, fetch history with `oracle audit fetch`, then check it with `oracle audit verify"
        " --offline`"
    )
    async with open_database(settings, migrate_own=True, owner=owner, without=without) as url:
        connection = await log.connect(url, "oracle audit")
        try:
            yield connection, settings
        finally:
            await connection.close()


async def _find_range(connection: asyncpg.Connection, arguments: Arguments) -> tuple[int, int | None]:
    begin = await _find_leaf(connection, arguments.begin)
    end = None if arguments.end is None else await _find_leaf(connection, arguments.end)
    if end is not None and end < begin:
        raise Misused("--to is before --from", "Swap them")
    return begin, end


async def _find_leaf(connection: asyncpg.Connection, place: int | datetime) -> int:
    from oracle.store.queries import QUERIES

    if isinstance(place, int):
        return place
    return int(await connection.fetchval(QUERIES["audit_leaf_at"], place))
