"""The lanes: "not now" leaves them as DirectoryUnavailable, and one breaker holds for all of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import asyncpg
import pytest

from oracle.errors import DirectoryUnavailable
from oracle.store.lanes import Breaker, Lane, Outage, PostgresLimits, fetch_portions, holder
from oracle.store.postgres import Postgres, open_postgres
from oracle.store.servers import NotPrimary


async def test_a_process_without_the_desk_lane_says_how_to_open_it(database_url: str) -> None:
    async with open_postgres(database_url) as postgres:
        with pytest.raises(RuntimeError, match="desk=True"):
            await postgres.rows("use_cases")
        assert postgres.count_connections() == (0, 0)  # a lane connects at its first use
        await postgres.reads.answers([("ALIAS", "1")])
        assert postgres.count_connections() == (1, 1)


async def test_a_lent_connection_has_its_settings_until_it_is_given_back(database_url: str) -> None:
    async with open_postgres(database_url, desk=True) as postgres:
        async with postgres.desk.lend(work_mem="3MB", jit="on") as connection:
            assert await connection.fetchval("SHOW work_mem") == "3MB"
        async with postgres.desk.lend() as connection:
            assert await connection.fetchval("SHOW work_mem") != "3MB"
            assert await connection.fetchval("SHOW jit") == "off"
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await postgres.desk.rows("settings_set", ["work_mem"], ["much"])
        assert not postgres.away


async def break_a_connection(postgres: Postgres) -> None:
    async with postgres.desk.lend() as connection:
        connection.terminate()
        await connection.fetchval("SELECT 1")


async def test_a_connection_that_breaks_in_any_lane_stops_calls_in_all_of_them(database_url: str) -> None:
    async with open_postgres(database_url, desk=True) as postgres:
        with pytest.raises(DirectoryUnavailable):
            await break_a_connection(postgres)
        assert postgres.away
        with pytest.raises(DirectoryUnavailable):
            await postgres.reads.rows("use_cases")
        assert postgres.take_errors() == 1
        assert postgres.take_errors() == 0
        await postgres.watch.ask()
        assert not postgres.away
        assert await postgres.reads.rows("use_cases") == []


async def test_of_many_calls_one_tries_a_server_that_is_away() -> None:
    outage = Outage(retry_s=0.0)
    reads, writes = Breaker(outage), Breaker(outage)
    with pytest.raises(DirectoryUnavailable):
        async with writes.guard():
            raise ConnectionRefusedError
    async with reads.guard() as trying:
        assert trying
        for breaker in (reads, writes):
            with pytest.raises(DirectoryUnavailable):
                async with breaker.guard():
                    pytest.fail("two tries at once")
        assert outage.lasts
    assert not outage.lasts
    async with writes.guard() as trying:
        assert not trying


@pytest.mark.parametrize(
    ("failure", "away"),
    [
        (ConnectionResetError(), True),
        (asyncpg.AdminShutdownError(), True),
        (asyncpg.InterfaceError("closed"), True),
        (NotPrimary("db:5432 is a standby"), True),
        (TimeoutError(), False),
        (asyncpg.DeadlockDetectedError(), False),
        (asyncpg.LockNotAvailableError(), False),
    ],
)
async def test_a_failure_for_now_becomes_directory_unavailable(failure: Exception, away: bool) -> None:
    breaker = Breaker(Outage())
    with pytest.raises(DirectoryUnavailable) as caught:
        async with breaker.guard():
            raise failure
    assert caught.value.__cause__ is failure
    assert (breaker.server.lasts, breaker.lane.lasts, breaker.errors) == (away, False, 1)


@pytest.mark.parametrize(
    "failure",
    [
        asyncpg.DiskFullError(),
        asyncpg.OutOfMemoryError(),
        asyncpg.TooManyConnectionsError(),
        asyncpg.PostgresIOError(),
        asyncpg.ReadOnlySQLTransactionError(),
        asyncpg.InvalidAuthorizationSpecificationError(),
    ],
)
async def test_a_server_that_refuses_one_lane_serves_the_others(failure: Exception) -> None:
    outage = Outage(retry_s=3600.0)
    reads, writes = Breaker(outage), Breaker(outage)
    with pytest.raises(DirectoryUnavailable):
        async with writes.guard():
            raise failure
    with pytest.raises(DirectoryUnavailable):
        async with writes.guard():
            pytest.fail("the lane is known to fail")
    assert not outage.lasts
    async with reads.guard() as trying:
        assert not trying


async def test_a_lane_that_was_refused_works_again_after_one_call_that_succeeds() -> None:
    breaker = Breaker(Outage(retry_s=0.0))
    for _ in range(2):
        with pytest.raises(DirectoryUnavailable):
            async with breaker.guard():
                raise asyncpg.DiskFullError
        assert breaker.lane.lasts
    async with breaker.guard() as trying:
        assert trying
    assert not breaker.lane.lasts


async def test_any_other_failure_passes_through_and_is_an_answer_of_the_server() -> None:
    breaker = Breaker(Outage(retry_s=0.0))
    breaker.server.begin(ConnectionResetError())
    with pytest.raises(asyncpg.UniqueViolationError):
        async with breaker.guard():
            raise asyncpg.UniqueViolationError
    assert (breaker.server.lasts, breaker.errors) == (False, 0)


async def test_a_try_that_is_cancelled_or_times_out_leaves_the_server_away() -> None:
    breaker = Breaker(Outage(retry_s=0.0))
    breaker.server.begin(ConnectionResetError())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), breaker.guard():
            await asyncio.sleep(60)
    assert breaker.server.lasts
    with pytest.raises(DirectoryUnavailable):
        async with breaker.guard():
            raise TimeoutError
    assert breaker.server.lasts


async def test_one_holder_has_at_most_half_of_a_lane(database_url: str) -> None:
    """So slow reads of one key stop neither the reads of another key nor the check of keys, in any lane."""
    limits = PostgresLimits(commit_s=0.2)
    async with open_postgres(database_url, desk=True, limits=limits) as postgres, AsyncExitStack() as stack:

        async def hold(lane: Lane, name: str) -> None:
            holder.set(name)
            await stack.enter_async_context(lane.lend())

        for lane, size in ((postgres.keys, 2), (postgres.desk, 6), (postgres.streams, 4), (postgres.writes, 8)):
            for name in ("slow", "other"):
                for _ in range(size // 2):
                    await hold(lane, name)
                with pytest.raises(DirectoryUnavailable):
                    await hold(lane, name)
            assert not postgres.away
        holder.set("slow")
        await stack.aclose()
        for lane in (postgres.keys, postgres.desk, postgres.streams, postgres.writes):
            assert lane._shares._turns == {}
            assert await lane.rows("use_cases") == []


async def test_a_portion_of_a_stream_can_take_longer_than_a_statement(database_url: str) -> None:
    """PostgreSQL sorts before the first row, and a busy server needs long for it."""
    connection = await asyncpg.connect(database_url, command_timeout=0.5)
    try:
        with pytest.raises(TimeoutError):
            await connection.fetch("SELECT pg_sleep(60)")
        async with connection.transaction():
            portions = [rows async for rows in fetch_portions(connection, "SELECT 1 FROM pg_sleep($1)", 0.8)]
    finally:
        connection.terminate()
    assert [len(rows) for rows in portions] == [1]
