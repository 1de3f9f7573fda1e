"""A superuser can change history in the database, but the check finds the change and its place."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from oracle_process import run_oracle
from sealing import as_superuser, count, execute, findings, open_connection, register, seal, tampering

from oracle.audit.sealer import Refused, SealingLimits
from oracle.audit.signer import Signer, sign_note
from oracle.store.migrate import migrate
from oracle.verifier.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Administration

    from oracle.run.embedded import PostgresServer


@pytest.fixture(scope="module")
def written(
    postgres_template: PostgresServer, administration: Administration, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The name of the database that each test has a copy of, and its keys."""

    async def write(url: str) -> None:
        for first in range(0, 1200, 300):
            await register(url, first, 300)
        assert await seal(url, keys, SealingLimits(batch=256)) == 1201
        assert await findings(url) == []

    name, keys = administration.make_database(), tmp_path_factory.mktemp("written") / "keys"
    asyncio.run(write(postgres_template.url(name)))
    yield name, keys
    administration.drop_database(name)


@pytest.fixture
def history(
    postgres_template: PostgresServer, administration: Administration, written: tuple[str, Path], tmp_path: Path
) -> Iterator[str]:
    """1,201 events in five batches of at most 256 leaves; the first is that of the FSP."""
    template, keys = written
    shutil.copytree(keys.parent, tmp_path, dirs_exist_ok=True)  # with what was signed last
    name = administration.make_database(template)
    yield postgres_template.url(name)
    administration.drop_database(name)


ALTERED = "altered: event 700 differs from what was sealed as leaf 699, batch 512 to 767, sealed "
TAMPERINGS = {
    "an event altered": (
        ["UPDATE events SET fsp_id = 'other' WHERE event_id = 700"],
        [ALTERED],
    ),
    "its value altered": (
        ["""UPDATE events SET after = after || '{"fsp_id": "other"}' WHERE event_id = 700"""],
        [ALTERED],
    ),
    "its time altered": (
        ["UPDATE events SET at = at + interval '1 microsecond' WHERE event_id = 700"],
        [ALTERED],
    ),
    "a null for an empty text": (["UPDATE events SET sub_id = NULL WHERE event_id = 700"], [ALTERED]),
    "a JSON null for an absent value": (["UPDATE events SET before = 'null' WHERE event_id = 700"], [ALTERED]),
    "a time that no calendar has": (["UPDATE events SET at = '20000-01-01' WHERE event_id = 700"], [ALTERED]),
    "a value that no decoder takes": (
        ["UPDATE events SET after = (repeat('[', 3000) || repeat(']', 3000))::jsonb WHERE event_id = 700"],
        [ALTERED],
    ),
    "the same number in another partition": (
        [
            """INSERT INTO events (event_id, xact, at, entity, action, channel, actor)
               SELECT event_id, xact, '1999-01-01', entity, action, channel, actor FROM events WHERE event_id = 700"""
        ],
        ["inserted: event 700 was not sealed, batch 512 to 767, "],
    ),
    "an event of no transaction": (
        [
            "ALTER TABLE events ALTER xact DROP NOT NULL",
            """INSERT INTO events (event_id, xact, entity, action, channel, actor)
               VALUES (5000, NULL, 'alias', 'removed', 'admin', 'nobody')""",
        ],
        ["inserted: event 5000 is in the table, but the order of sealing does not reach it"],
    ),
    "an event of no era": (
        [
            "UPDATE audit_eras SET after_event_id = 0",
            """INSERT INTO events (event_id, xact, entity, action, channel, actor)
               VALUES (-5, '3', 'alias', 'removed', 'admin', 'nobody')""",
        ],
        [
            "era: number 0 does not begin where the era before it ends",
            "inserted: event -5 is in the table, but the order of sealing does not reach it",
        ],
    ),
    "an event that its index does not know": (
        [
            "UPDATE pg_index SET indisready = false WHERE pg_get_indexdef(indexrelid) LIKE '% (xact, event_id)'",
            """INSERT INTO events (event_id, xact, entity, action, channel, actor)
               SELECT 5000, xact, 'alias', 'removed', 'admin', 'nobody' FROM events WHERE event_id = 700""",
            "UPDATE pg_index SET indisready = true WHERE pg_get_indexdef(indexrelid) LIKE '% (xact, event_id)'",
        ],
        ["inserted: event 5000 is in the table, but the order of sealing does not reach it"],
    ),
    "an era inserted": (
        ["INSERT INTO audit_eras VALUES (5, 1201, 'x')"],
        ["era: number 5 does not begin where the era before it ends"],
    ),
    "others are shown less": (
        ["ALTER TABLE events ENABLE ROW LEVEL SECURITY"],
        ["table: events differs from the migrations: others may see other events"],
    ),
    "a view in its place": (
        ["ALTER TABLE events RENAME TO truth", "CREATE VIEW events AS SELECT * FROM truth WHERE event_id <> 700"],
        ["table: events differs from the migrations: others may see other events"],
    ),
    "an event removed": (
        ["DELETE FROM events WHERE event_id = 700"],
        ["removed: the event of leaf 699 is missing (after event 699, before event 701), batch 512 to 767, sealed "],
    ),
    "the first event removed": (
        ["DELETE FROM events WHERE event_id = 1"],
        ["removed: the event of leaf 0 is missing (before event 2), batch 0 to 255, "],
    ),
    "the last event removed": (
        ["DELETE FROM events WHERE event_id = 1201"],
        ["removed: the event of leaf 1200 is missing (after event 1200), batch 1024 to 1200, "],
    ),
    "two events swapped": (
        [
            "UPDATE events SET event_id = -1 WHERE event_id = 10",
            "UPDATE events SET event_id = 10 WHERE event_id = 900",
            "UPDATE events SET event_id = 900 WHERE event_id = -1",
        ],
        [
            "removed: the event of leaf 9 is missing (after event 9, before event 11), ",
            "removed: the event of leaf 899 is missing ",
            "inserted: event 10 was not sealed, ",
            "inserted: event 900 was not sealed, ",
        ],
    ),
    "the contents of two swapped": (
        [
            """UPDATE events a SET party_identifier = b.party_identifier FROM events b
               WHERE (a.event_id, b.event_id) IN ((20, 21), (21, 20))"""
        ],
        [
            "altered: event 20 differs from what was sealed as leaf 19, ",
            "altered: event 21 differs from what was sealed as leaf 20, ",
        ],
    ),
    "an event inserted": (
        [
            """INSERT INTO events (event_id, xact, entity, action, channel, actor)
               SELECT 5000, xact, 'alias', 'removed', 'admin', 'nobody' FROM events WHERE event_id = 700"""
        ],
        ["inserted: event 5000 was not sealed, batch 768 to 1023, "],
    ),
    "an event inserted before all": (
        [
            """INSERT INTO events (event_id, xact, entity, action, channel, actor)
               VALUES (5000, '3', 'alias', 'removed', 'admin', 'nobody')"""
        ],
        ["inserted: event 5000 was not sealed, batch 0 to 255, "],
    ),
    "an event inserted where nobody would look": (
        [
            """INSERT INTO events (event_id, xact, entity, action, channel, actor)
               SELECT id, xact::xid8, 'alias', 'removed', 'admin', 'nobody'
               FROM (VALUES (-9223372036854775808, '3'), (-7, '3'), (-3, '0'), (0, '0'),
                     (6000, '18446744073709551615'), (6001, '9223372036854775807')) AS v (id, xact)"""
        ],
        [
            "inserted: event -9223372036854775808 ",
            "inserted: event -7 was not sealed, batch 0 to 255, ",
            "inserted: event -3 was not sealed, batch 0 to 255, ",
            "inserted: event 0 was not sealed, batch 0 to 255, ",
            "inserted: event 6000 belongs to a transaction that never ran",
            "inserted: event 6001 belongs to a transaction that never ran",
        ],
    ),
    "a checkpoint altered": (
        ["UPDATE audit_checkpoints SET root = sha256('x') WHERE size = 512"],
        ["checkpoint: of 512 leaves: the note differs from the stored size or root: batch 256 to 511, "],
    ),
    "the note of a checkpoint altered": (
        ["UPDATE audit_checkpoints SET note = replace(note, chr(10) || '512', chr(10) || '511') WHERE size = 512"],
        ["checkpoint: of 512 leaves: the signature does not match the key that it names: batch 256 to 511, "],
    ),
    "a checkpoint removed": (
        ["DELETE FROM audit_checkpoints WHERE size = 512"],
        ["checkpoint: of 512 leaves is missing: batch 256 to 511, "],
    ),
    "a checkpoint without its note": (
        ["ALTER TABLE audit_checkpoints ALTER note DROP NOT NULL",
         "UPDATE audit_checkpoints SET note = NULL WHERE size = 512"],
        ["checkpoint: of 512 leaves: not a signed note: batch 256 to 511, "],
    ),
    "the largest event of a batch altered": (
        ["UPDATE audit_batches SET event_id_max = 7 WHERE first_leaf = 512"],
        ["batch: batch 512 to 767, "],
    ),
    "a batch of more leaves than there is memory": (
        ["UPDATE audit_batches SET leaves = 2000000000 WHERE first_leaf = 512"],
        ["batch: batch 512 to 2000000511, ", "batch: leaves 512 to 767 are in no batch", "checkpoint: of 768 leaves: "],
    ),
    "the last batch of more leaves than there is memory": (
        ["UPDATE audit_batches SET leaves = 2000000000 WHERE first_leaf = 1024"],
        ["batch: batch 1024 to 2000001023, ", "batch: leaves 1024 to 2000001023 are in no batch"],
    ),
    "a batch removed": (
        ["DELETE FROM audit_batches WHERE first_leaf = 256"],
        ["batch: leaves 256 to 511 are in no batch", "checkpoint: of 512 leaves: batch 512 to 767, "],
    ),
    "the first batch removed": (
        ["DELETE FROM audit_batches WHERE first_leaf = 0"],
        ["batch: leaves 0 to 255 are in no batch", "checkpoint: of 256 leaves: batch 256 to 511, "],
    ),
    "the last batch removed": (
        ["DELETE FROM audit_batches WHERE first_leaf = 1024"],
        ["checkpoint: of 1201 leaves: the log ends with 1024 leaves", "hash: of tile level 0, place 1024: "],
    ),
    "a stored hash altered": (
        ["UPDATE audit_tiles SET hashes = overlay(hashes placing 'x' FROM 33) WHERE (tile_level, first) = (0, 512)"],
        ["hash: of leaf 513 differs from what was sealed, batch 512 to 767, "],
    ),
    "an upper hash altered": (
        ["UPDATE audit_tiles SET hashes = overlay(hashes placing 'x' FROM 1) WHERE (tile_level, first) = (1, 1)"],
        ["hash: of tile level 1, place 1 does not follow from its leaves"],
    ),
    "upper hashes that there cannot be yet": (
        ["INSERT INTO audit_tiles VALUES (1, 4, sha256('x')), (2, 0, sha256('x')), (9, 0, sha256('x'))"],
        [f"hash: of tile level {place}: the log ends with 1201 leaves" for place in ("1, place 4", "2, place 0",
                                                                                    "9, place 0")],
    ),
    "hashes put where proofs do not look": (
        [
            """UPDATE audit_tiles SET hashes = hashes ||
               (SELECT hashes FROM audit_tiles WHERE (tile_level, first) = (0, 256))
               WHERE (tile_level, first) = (0, 0)""",
            "DELETE FROM audit_tiles WHERE (tile_level, first) = (0, 256)",
        ],
        [f"hash: of leaf {leaf} differs from what was sealed, batch 256 to 511, " for leaf in range(256, 512)],
    ),
    "the key put there twice": (
        ["INSERT INTO audit_keys SELECT 1, vkey || ' ', 0, NULL FROM audit_keys"],
        ["key: number 1 is a duplicate, or has another spelling than it was given"],
    ),
    "the bound of a batch altered": (
        ["UPDATE audit_batches SET event_id = 200 WHERE first_leaf = 0"],
        ["removed: the event of leaf 200 is missing", "inserted: event 201 was not sealed, batch 256 to 511, "],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_it_is_found_and_located(history: str, name: str) -> None:
    statements, expected = TAMPERINGS[name]
    async with tampering(history) as connection:
        for statement in statements:
            await connection.execute(statement)
    found = await findings(history)
    for wanted in expected:
        assert any(line.startswith(wanted) for line in found), (wanted, found)
    if name not in ("the last batch removed", "the bound of a batch altered"):
        assert len(found) == len(expected), found


async def test_events_and_hashes_rewritten_together_do_not_make_what_was_signed(history: str) -> None:
    """The owner of the database computes everything anew, but cannot sign: the batch is named."""
    from oracle.audit import log
    from oracle.verifier import leaf

    async with tampering(history) as connection:
        await connection.execute("UPDATE events SET fsp_id = 'other' WHERE event_id = 700")
        async for rows in log.stream_leaves(connection, 699, 700):
            forged = leaf.leaf_hash(leaf.line(rows[0]))
        await connection.execute(
            "UPDATE audit_tiles SET hashes = overlay(hashes placing $1 FROM 32 * 187 + 1)"
            " WHERE (tile_level, first) = (0, 512)",
            forged,
        )
    found = await findings(history)
    assert len(found) == 1, found
    assert found[0].startswith(
        "root: leaves up to 767 do not lead to the signed root, those up to 511 do: batch 512 to 767"
    )


async def test_a_log_signed_anew_with_another_key_is_not_believed(history: str) -> None:
    async with tampering(history) as connection:
        first = await connection.fetchval("SELECT vkey FROM audit_keys")
        origin = await connection.fetchval("SELECT 'alias-oracle/' || directory_id FROM cache_generation")
        forger = Signer.new(origin)
        await connection.execute("UPDATE audit_keys SET vkey = $1", forger.verifier.vkey)
        for row in await connection.fetch("SELECT size, root FROM audit_checkpoints"):
            note = sign_note(Checkpoint(origin, row["size"], row["root"]).text, [forger])
            await connection.execute("UPDATE audit_checkpoints SET note = $2 WHERE size = $1", row["size"], note)
    assert await findings(history) == [], "without a known key the forgery looks right"
    assert await findings(history, trusted=[first]) == ["key: the log has none of the keys that you trust"]


async def test_the_end_cut_off_is_shown_by_the_checkpoint_that_was_kept(history: str, tmp_path: Path) -> None:
    async with tampering(history) as connection:
        kept = await connection.fetchval("SELECT note FROM audit_checkpoints WHERE size = 1201")
        await connection.execute("DELETE FROM audit_batches WHERE first_leaf >= 1024")
        await connection.execute("DELETE FROM audit_checkpoints WHERE size > 1024")
        await connection.execute("DELETE FROM audit_tiles WHERE tile_level = 0 AND first >= 1024")
        await connection.execute("UPDATE events SET fsp_id = 'other' WHERE event_id = 1100")
    assert await findings(history) == []
    assert await findings(history, since=kept) == ["rewritten: 1201 leaves were signed, but this log has only 1024"]
    with pytest.raises(Refused, match="does not extend what was signed here last"):
        await seal(history, tmp_path / "keys")
    env = {"ORACLE_DATABASE_URL": history, "ORACLE_AUDIT_KEY_FILE": str(tmp_path / "keys")}
    ran = run_oracle(tmp_path, "audit", "verify", env=env)
    assert ran.stdout == "rewritten: 1201 leaves were signed, but this log has only 1024\n", ran.stderr
    (tmp_path / "keys.last").unlink()
    assert await seal(history, tmp_path / "keys") == 1201
    assert await findings(history) == []
    assert await findings(history, since=kept) == ["rewritten: the log does not extend the checkpoint of 1201 leaves"]


async def test_a_log_that_is_gone_is_missed_by_who_knows_that_there_was_one(history: str) -> None:
    async with tampering(history) as connection:
        kept = await connection.fetchval("SELECT note FROM audit_checkpoints WHERE size = 1201")
        vkey = await connection.fetchval("SELECT vkey FROM audit_keys")
        for table in ("audit_batches", "audit_checkpoints", "audit_tiles", "audit_keys", "events"):
            await connection.execute(f"DELETE FROM {table}")  # noqa: S608 - of these
    assert await findings(history) == [], "like a directory that is new"
    assert await findings(history, since=kept) == ["key: the log has 0 leaves and no key"]
    assert await findings(history, trusted=[vkey]) == ["key: the log has 0 leaves and no key"]


async def test_a_second_event_on_the_place_of_one_is_found_wherever_one_snapshot_ends(history: str) -> None:
    async with tampering(history) as connection:
        await connection.execute(
            "INSERT INTO events (event_id, xact, at, entity, action, channel, actor)"
            " SELECT event_id, xact, '1999-01-01', entity, action, channel, actor FROM events WHERE event_id % 100 = 0"
        )
    assert len(await findings(history, snapshot_rows=100)) == 12


async def test_an_event_that_no_decoder_takes_stops_nobody(history: str, tmp_path: Path) -> None:
    """A person with the application's password can write one: it is sealed like any other."""
    await execute(
        history.replace("oracle@", "oracle_service@"),
        "INSERT INTO events (entity, action, channel, actor, after) VALUES"
        " ('alias', 'removed', 'sql', 'x', jsonb_build_object('b', 10::numeric ^ 5000, 'é', '[]'::jsonb, 'a', 1.50)),"
        " ('alias', 'removed', 'sql', 'x', (repeat('[', 3000) || repeat(']', 3000))::jsonb)",
    )
    assert await seal(history, tmp_path / "keys") == 1203
    assert await findings(history) == []


async def test_a_range_is_checked_alone(history: str) -> None:
    async with tampering(history) as connection:
        await connection.execute("UPDATE events SET fsp_id = 'other' WHERE event_id = 700")
    assert await findings(history, begin=0, end=512) == []
    assert await findings(history, begin=770) == []
    assert [line[:31] for line in await findings(history, begin=600, end=601)] == [ALTERED[:31]]


async def test_nobody_but_a_superuser_can_do_it(history: str) -> None:
    """By the owner's triggers, on the partitions as well; the application's role has not even the right to try."""
    log = [f"audit_{name}" for name in ("batches", "tiles", "checkpoints", "keys", "eras")]
    async with open_connection(history) as owner:
        partitions = await owner.fetch(
            "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'events'::regclass"
        )
        names = "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 1"
        tables = {table: await owner.fetchval(names, table) for table in ("events", *(p[0] for p in partitions), *log)}
        for table, column in tables.items():
            for statement in _changes(table, column):
                with pytest.raises(asyncpg.PostgresError, match="is not allowed"):
                    await owner.execute(statement)
    async with open_connection(as_superuser(history)) as application:
        await application.execute("SET ROLE oracle_service")
        for table, column in tables.items():
            for statement in _changes(table, column):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await application.execute(statement)
        for statement in (
            "ALTER TABLE events DISABLE TRIGGER ALL",
            "DROP TRIGGER events_fixed ON events",
            "SET session_replication_role = replica",
            "INSERT INTO events (xact, entity, action, channel, actor) VALUES ('3', 'alias', 'removed', 'sql', 'x')",
            "INSERT INTO events (at, entity, action, channel, actor) VALUES (now(), 'alias', 'removed', 'sql', 'x')",
            "INSERT INTO events (event_id, entity, action, channel, actor) VALUES (3, 'alias', 'removed', 'sql', 'x')",
            "INSERT INTO audit_eras VALUES (9, 0, '')",
            "SELECT setval('events_event_id_seq', 1)",
            "CREATE TABLE events_2 ()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await application.execute(statement)
    assert await findings(history) == []


def _changes(table: str, column: str) -> list[str]:
    return [f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"]  # noqa: S608


async def test_the_application_role_puts_nothing_before_the_tables(history: str) -> None:
    """An alias that is changed while a temporary table is called events would leave no event."""
    await migrate(history)
    async with open_connection(history.replace("oracle@", "oracle_service@")) as application:
        for statement in ("CREATE TEMP TABLE events ()", "CREATE TEMP VIEW fsps AS SELECT 'ghost' AS fsp_id"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await application.execute(statement)
    await migrate(history.replace("oracle@", "oracle_service@"))


async def test_the_application_role_can_do_its_work(history: str, tmp_path: Path) -> None:
    service = history.replace("oracle@", "oracle_service@")
    await register(service, 5_000, 10, "bluebank")
    await execute(
        service,
        "UPDATE fsps SET status = 'suspended' WHERE fsp_id = 'bluebank'",
        "DELETE FROM aliases WHERE identifier = '5255005000'",
        "SELECT events_partitions_ahead(5)",
    )
    assert await seal(service, tmp_path / "keys") == await count(history) == 1201 + 13
    assert await findings(service) == []
