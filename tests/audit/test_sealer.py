"""The sealer: it seals every committed event once, in a fixed order, whichever process dies meanwhile."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import asyncpg
import pytest
from sealing import count, execute, findings, open_connection, register, seal, tampering

from oracle.audit import log, sealer
from oracle.audit.keys import KeyFile, KeyFileError, rotate
from oracle.audit.sealer import Refused, Sealer, SealingLimits
from oracle.run.embedded.binaries import find_postgres_binaries
from oracle.store.servers import Servers
from oracle.verifier.leaf import leaf_hash, line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.run.embedded import PostgresServer


class StartPostgres(Protocol):
    async def __call__(
        self, options: Mapping[str, str] | None = None, *, another_cluster: bool = False
    ) -> PostgresServer: ...


PROCESS = Path(__file__).with_name("sealing_process.py")


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - a database sets no event
            await asyncio.sleep(0.01)


async def size(url: str) -> int:
    connection = await log.connect(url, "test")
    try:
        return (await log.fetch_state(connection)).size
    finally:
        await connection.close()


async def fetch_sealed_ids(url: str) -> list[int]:
    """Return the events in the order of the log, and prove for some of them that they are in it."""
    connection = await log.connect(url, "test")
    try:
        end = (await log.fetch_state(connection)).size
        rows = [row async for part in log.stream_leaves(connection, 0, end) for row in part]
        root = await log.fetch_root(connection, end)
        from oracle.verifier import merkle

        for index in random.sample(range(end), min(end, 20)):
            assert await log.find_leaf_index(connection, rows[index]["event_id"]) == index
            proof = await log.prove_inclusion(connection, index, end)
            assert merkle.verify_inclusion(index, end, leaf_hash(line(rows[index])), proof, root)
        return [row["event_id"] for row in rows]
    finally:
        await connection.close()


async def test_killed_at_random_moments_with_writers_beside_it_no_event_is_sealed_twice_or_left_out(
    database_url: str, tmp_path: Path
) -> None:
    done = asyncio.Event()
    writers = [asyncio.create_task(_write(database_url, writer, done)) for writer in range(3)]
    killed_at = []
    for _ in range(3):
        process = subprocess.Popen(  # noqa: ASYNC220 - killed like any process
            [sys.executable, str(PROCESS), database_url, str(tmp_path / "keys")], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        with process.stdout as output:
            assert await asyncio.to_thread(output.readline) == b"sealing\n"
            before = await size(database_url)
            await until(lambda before=before: _has_grown(database_url, before))  # type: ignore[misc]
            await asyncio.sleep(random.uniform(0, 0.15))  # a moment in its work, not a time to wait for
            process.kill()
            process.wait()
        killed_at.append(await size(database_url))
    done.set()
    await asyncio.gather(*writers)
    assert killed_at == sorted(killed_at)
    assert killed_at[0] < killed_at[-1]
    assert await seal(database_url, tmp_path / "keys") == await count(database_url)
    ids = await fetch_sealed_ids(database_url)
    assert len(ids) == len(set(ids)) == await count(database_url)
    assert await findings(database_url) == []


async def _has_grown(url: str, before: int) -> bool:
    return await size(url) > before


async def _write(url: str, writer: int, done: asyncio.Event) -> None:
    """Transactions that overlap, of many sizes; some stay open for a while, some are rolled back."""
    chance = random.Random(writer)
    at = writer * 10_000_000
    async with open_connection(url) as connection:
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('greenbank') ON CONFLICT DO NOTHING")
        while not done.is_set():
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(chance.randint(1, 3)):
                rows = chance.choice([1, 1, 5, 200])
                await connection.execute(
                    "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
                    " SELECT 'MSISDN', (1000000000 + n)::text, 'greenbank' FROM generate_series($1::int, $2::int) AS n",
                    at,
                    at + rows - 1,
                )
                at += rows
                await asyncio.sleep(chance.choice([0, 0, 0.02]))
            await (transaction.rollback() if chance.random() < 0.2 else transaction.commit())


async def test_one_call_gives_the_proof_that_an_event_is_in_the_log(database_url: str, tmp_path: Path) -> None:
    from oracle.verifier import merkle
    from oracle.verifier.checkpoint import Checkpoint

    await register(database_url, 0, 300)
    connection = await log.connect(database_url, "test")
    try:
        assert await log.prove_event(connection, 5) is None, "not sealed yet"
        await seal(database_url, tmp_path / "keys")
        given = await log.prove_event(connection, 5)
        assert given is not None
        signed = Checkpoint.of_note(given.checkpoint or "")
        assert merkle.verify_inclusion(given.leaf_index, signed.size, leaf_hash(given.line), given.proof, signed.root)
        assert b'"event_id":5,' in given.line
        assert await log.prove_event(connection, 9_999) is None
    finally:
        await connection.close()


async def test_an_open_transaction_delays_the_events_after_it(database_url: str, tmp_path: Path) -> None:
    """Otherwise an event of the open transaction would later precede sealed events."""
    async with open_connection(database_url) as connection:
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('one')")
        async with connection.transaction():
            await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('two')")
            await register(database_url, 0, 10)
            assert await seal(database_url, tmp_path / "keys") == 1
    assert await seal(database_url, tmp_path / "keys") == 13
    assert await findings(database_url) == []


async def test_a_transaction_larger_than_a_batch_is_sealed_in_parts(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, 1_000)
    assert await seal(database_url, tmp_path / "keys", SealingLimits(batch=100, snapshot_rows=250)) == 1_001
    assert await findings(database_url) == []
    assert len(await fetch_sealed_ids(database_url)) == 1_001


async def test_of_several_sealers_one_works_and_another_takes_over(database_url: str, tmp_path: Path) -> None:
    files = KeyFile(tmp_path / "keys")
    sealers = [Sealer(Servers(database_url), files, interval_s=0.01) for _ in range(3)]
    stops = [asyncio.Event() for _ in sealers]
    tasks = [asyncio.create_task(each.run(stop)) for each, stop in zip(sealers, stops, strict=True)]
    for round_, stop in enumerate(stops):
        await register(database_url, round_ * 100, 100)

        async def all_sealed() -> bool:
            return await size(database_url) == await count(database_url)

        await until(all_sealed)
        stop.set()
    await asyncio.gather(*tasks)
    assert await findings(database_url) == []


async def test_it_goes_on_after_the_database_was_away(start_postgres: StartPostgres, tmp_path: Path) -> None:
    from oracle.store.migrate import migrate

    # Without this the killed server would lose what was sealed and signed, and the sealer would rightly refuse.
    server = await start_postgres({"synchronous_commit": "on"})
    await migrate(server.url())
    stop = asyncio.Event()
    task = asyncio.create_task(Sealer(Servers(server.url()), KeyFile(tmp_path / "keys"), interval_s=0.01).run(stop))
    await register(server.url(), 0, 10)
    await until(lambda: _is(server.url(), 11))
    server.kill()
    await server.start()
    await register(server.url(), 100, 10)
    await until(lambda: _is(server.url(), 21))
    stop.set()
    await task
    assert await findings(server.url()) == []


async def _is(url: str, wanted: int) -> bool:
    return await size(url) == wanted


# Keys -----------------------------------------------------------------------------------------------------------


async def test_the_private_key_is_made_once_and_is_only_in_its_file(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, 10)
    await seal(database_url, tmp_path / "new" / "keys")
    path = tmp_path / "new" / "keys"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    text = path.read_text()
    await register(database_url, 100, 10)
    await seal(database_url, path)
    assert path.read_text() == text
    async with open_connection(database_url) as connection:
        vkey = await connection.fetchval("SELECT vkey FROM audit_keys")
    name, key_id, public = vkey.split("+", 2)
    assert text.startswith(f"PRIVATE+KEY+{name}+{key_id}+")
    assert not text.strip().endswith(public)


async def test_without_the_key_nothing_is_sealed_and_no_new_key_is_made(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, 10)
    await seal(database_url, tmp_path / "keys")
    await register(database_url, 100, 10)
    with pytest.raises(KeyFileError, match="does not hold the key"):
        await seal(database_url, tmp_path / "other")
    (tmp_path / "keys").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        await seal(database_url, tmp_path / "keys")
    assert await size(database_url) == 11


async def test_a_rotated_key_is_followed_from_either_end_and_found_by_a_sealer_at_work(
    database_url: str, tmp_path: Path
) -> None:
    file = KeyFile(tmp_path / "keys")
    await register(database_url, 0, 10)
    stop = asyncio.Event()
    task = asyncio.create_task(Sealer(Servers(database_url), file, interval_s=0.01).run(stop))
    await until(lambda: _is(database_url, 11))
    async with open_connection(database_url) as connection:
        new = await rotate(connection, file)
        old = await connection.fetchval("SELECT vkey FROM audit_keys WHERE number = 0")
    await register(database_url, 100, 10)
    await until(lambda: _is(database_url, 22))
    stop.set()
    await task
    assert await findings(database_url, trusted=[old]) == []
    assert await findings(database_url, trusted=[new.vkey]) == []
    async with open_connection(database_url) as connection:
        note = await connection.fetchval("SELECT note FROM audit_checkpoints WHERE size = 22")
    assert note.count("\n— ") == 2, "the old key signs as well for a while"
    # The old key alone is not enough any more.
    async with tampering(database_url) as connection:
        head, _, tail = note.rpartition("\n\n")
        alone = head + "\n\n" + tail.splitlines()[1] + "\n"
        await connection.execute("UPDATE audit_checkpoints SET note = $1 WHERE size = 22", alone)
    found = await findings(database_url, trusted=[old])
    assert found[0].startswith("checkpoint: of 22 leaves: not signed by the key that must sign at this size"), found


async def test_a_lost_key_is_replaced_and_verifiers_must_trust_both(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, 10)
    await seal(database_url, tmp_path / "keys")
    (tmp_path / "keys").unlink()
    await register(database_url, 100, 10)
    with pytest.raises(KeyFileError):
        await seal(database_url, tmp_path / "keys")
    async with open_connection(database_url) as connection:
        new = await rotate(connection, KeyFile(tmp_path / "keys"), lost=True)
        old = await connection.fetchval("SELECT vkey FROM audit_keys WHERE number = 0")
    assert await seal(database_url, tmp_path / "keys") == 22
    assert await findings(database_url, trusted=[old, new.vkey]) == []
    assert (await findings(database_url, trusted=[old]))[0].startswith("key: number 1 is not introduced")


async def test_a_key_without_an_introduction_is_not_trusted(database_url: str, tmp_path: Path) -> None:
    from oracle.audit.signer import Signer

    await register(database_url, 0, 10)
    await seal(database_url, tmp_path / "keys")
    async with tampering(database_url) as connection:
        name = await connection.fetchval("SELECT split_part(vkey, '+', 1) FROM audit_keys")
        forged = Signer.new(name).verifier.vkey
        await connection.execute("INSERT INTO audit_keys VALUES (1, $1, 5, 'believe me')", forged)
    found = await findings(database_url)
    assert found[0] == "key: number 1 is not introduced by a trusted key"
    assert found[1].startswith("checkpoint: of 11 leaves: the key that must sign at this size is not trusted")


# Another cluster ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_identifier", [False, True])
async def test_the_log_goes_on_in_a_cluster_with_a_lower_transaction_counter(
    database_url: str,
    postgres_server: PostgresServer,
    start_postgres: StartPostgres,
    tmp_path: Path,
    *,
    same_identifier: bool,
) -> None:
    """Sealed events, unsealed events, and events written there before a sealer ran: each is sealed once."""
    async with open_connection(database_url) as connection:
        for _ in range(2_000):
            await connection.execute("SELECT pg_current_xact_id()")
    await register(database_url, 0, 50)
    await seal(database_url, tmp_path / "keys")
    async with open_connection(database_url) as connection, connection.transaction():
        # The lowest event_id is that of a transaction which stays unsealed in the dump.
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('open')")
        await register(database_url, 1_000, 20)
        await seal(database_url, tmp_path / "keys")
    kept = await size(database_url)
    there = await start_postgres(another_cluster=True)
    binaries = find_postgres_binaries(postgres_server.data)
    await asyncio.to_thread(_copy, binaries, database_url, there.url())
    url = there.url()
    if same_identifier:
        async with tampering(url) as connection:
            await connection.execute("UPDATE audit_eras SET system_identifier = audit_cluster()")
    await register(url, 2_000, 30)
    async with open_connection(url) as connection, connection.transaction():
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('here')")
    assert kept < await count(url)
    assert await seal(url, tmp_path / "keys") == await count(url)
    await register(url, 3_000, 30)
    assert await seal(url, tmp_path / "keys") == await count(url)
    ids = await fetch_sealed_ids(url)
    assert len(ids) == len(set(ids)) == await count(url)
    assert await findings(url) == []
    async with open_connection(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM audit_eras") == 2
    async with tampering(url) as connection:
        await connection.execute("DELETE FROM events WHERE event_id = $1", ids[kept + 3])
        await connection.execute(
            "INSERT INTO events (event_id, xact, entity, action, channel, actor)"
            " SELECT -5, max(xact), 'alias', 'removed', 'admin', 'x' FROM events WHERE event_id <= $1",
            ids[kept - 1],
        )
    found = await findings(url)
    assert sorted(line.partition(":")[0] for line in found) == ["inserted", "removed"], found


def _copy(binaries: Path, source: str, target: str) -> None:
    dump = subprocess.run([binaries / "pg_dump", "--no-owner", source], capture_output=True, check=True)
    restore = [str(binaries / "psql"), "--quiet", "--set=ON_ERROR_STOP=1", target]
    subprocess.run(restore, input=dump.stdout, capture_output=True, check=True)


async def test_an_older_backup_is_not_signed_before_an_operator_accepts_it(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, 10)
    await seal(database_url, tmp_path / "keys")
    remembered = (tmp_path / "keys.last").read_text()
    (tmp_path / "keys.last").write_text(remembered.replace("\n11\n", "\n12\n"))
    with pytest.raises(Refused, match="does not extend"):
        await seal(database_url, tmp_path / "keys")
    KeyFile(tmp_path / "keys").delete_last()
    assert await seal(database_url, tmp_path / "keys") == 11


# Partitions -----------------------------------------------------------------------------------------------------


async def test_events_of_any_time_have_a_partition_and_each_month_its_own(database_url: str, tmp_path: Path) -> None:
    missing = (
        "SELECT count(*) FROM generate_series(0, 14) AS n WHERE to_regclass('events_' || to_char("
        "date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYY_MM')) IS NULL"
    )
    async with open_connection(database_url) as connection, connection.transaction():  # at one instant
        wanted = await connection.fetchval(missing)
        assert wanted >= 11
        assert await connection.fetchval("SELECT events_partitions_ahead(14)") == wanted
        assert await connection.fetchval(missing) == 0
        assert await connection.fetchval("SELECT events_partitions_ahead(14)") == 0
    async with tampering(database_url) as connection:
        await connection.execute(
            "INSERT INTO events (at, entity, action, channel, actor)"
            " SELECT at::timestamptz, 'alias', 'ignored', 'sql', 'x'"
            " FROM unnest(ARRAY['2001-01-01', '2999-01-01']) AS at"
        )
        assert await connection.fetchval("SELECT count(*) FROM events_default") == 2
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                "INSERT INTO events (at, entity, action, channel, actor)"
                " VALUES ('infinity', 'alias', 'ignored', 'sql', 'x')"
            )
    await register(database_url, 0, 10)
    assert await seal(database_url, tmp_path / "keys") == 13
    assert await findings(database_url) == []


MONTHS_ENDS = (
    *("2027-12-31T23:59:59.999999Z", "2029-01-01T00:00:00Z", "2030-01-31T17:30:00Z", "2032-02-29T05:59:59Z"),
    *("2036-02-29T23:59:59.999999Z", "2037-03-01T03:00:00Z", "2038-10-31T11:00:00Z"),
)


@pytest.mark.parametrize("zone", ["America/Mexico_City", "Pacific/Kiritimati"])
async def test_a_month_is_that_of_utc_at_any_instant_and_in_any_zone(database_url: str, zone: str) -> None:
    added = (
        "INSERT INTO events (at, entity, action, channel, actor) VALUES ($1, 'alias', 'ignored', 'sql', 'x')"
        " RETURNING tableoid::regclass::text"
    )
    async with tampering(database_url) as connection:
        # The function believes this clock instead of PostgreSQL's.
        await connection.execute(f"""
            CREATE SCHEMA clock;
            GRANT USAGE ON SCHEMA clock TO PUBLIC;
            CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql
                AS $$SELECT current_setting('clock.now')::timestamptz$$;
            ALTER FUNCTION events_partitions_ahead(int) SET search_path = public, clock, pg_catalog, pg_temp;
            SET TIME ZONE '{zone}'""")
        for now in map(datetime.fromisoformat, MONTHS_ENDS):
            await connection.execute("SELECT set_config('clock.now', $1, false)", now.isoformat())
            assert await connection.fetchval("SELECT events_partitions_ahead()") == 4
            months = [now.year * 12 + now.month - 1 + n for n in range(5)]
            for begin, end in pairwise(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in months):
                for instant in (begin, end - timedelta(microseconds=1)):
                    assert await connection.fetchval(added, instant) == f"events_{begin:%Y_%m}"
        assert await connection.fetchval("SELECT count(*) FROM events_default") == 0


async def test_old_events_become_a_partition_without_a_copy(empty_database_url: str, tmp_path: Path) -> None:
    from oracle.store.migrate import migrate, read_migrations

    await migrate(empty_database_url, migrations=[m for m in read_migrations() if m.number < 3])
    await register(empty_database_url, 0, 100)
    async with open_connection(empty_database_url) as connection:
        file = await connection.fetchval("SELECT pg_relation_filenode('events')")
        before = await connection.fetch("SELECT * FROM events ORDER BY event_id")
    await migrate(empty_database_url)
    async with open_connection(empty_database_url) as connection:
        assert await connection.fetchval("SELECT pg_relation_filenode('events_before')") == file, "not copied"
        assert await connection.fetch("SELECT * FROM events ORDER BY event_id") == before
    await register(empty_database_url, 500, 10)
    assert await seal(empty_database_url, tmp_path / "keys") == 111
    assert sorted(await fetch_sealed_ids(empty_database_url)) == list(range(1, 112))
    assert await findings(empty_database_url) == []
    for statement in ("DELETE FROM events_before", "UPDATE events_before SET actor = 'x'", "TRUNCATE events_before"):
        with pytest.raises(asyncpg.PostgresError, match="is not allowed"):
            await execute(empty_database_url, statement)


@pytest.mark.parametrize(("body", "error"), [
    ("PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(9)", asyncpg.PostgresConnectionError),
    ("RAISE 'gone' USING ERRCODE = '08006'", asyncpg.PostgresConnectionError),
    ("RAISE 'locked' USING ERRCODE = '55P03'", None),
])  # fmt: skip
async def test_partitions_wait_for_a_lock_but_a_postgresql_that_goes_away_ends_sealing(
    database_url: str, body: str, error: type[Exception] | None
) -> None:
    async with open_connection(database_url) as connection:
        await connection.execute(
            "CREATE OR REPLACE FUNCTION events_partitions_ahead(months int DEFAULT 12) RETURNS int LANGUAGE plpgsql"
            f" AS $$ BEGIN {body}; RETURN 0; END $$"
        )
        with pytest.raises(error) if error else nullcontext():
            await sealer._make_partitions(connection)
