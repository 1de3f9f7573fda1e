"""The lanes: "not now" leaves them as DirectoryUnavailable, and one breaker holds for all of them."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from oracle.errors import DirectoryUnavailable
from oracle.store.lanes import Breaker
from oracle.store.postgres import Postgres, open_postgres


async def test_a_process_without_the_desk_lane_says_how_to_open_it(database_url: str) -> None:
    async with open_postgres(database_url) as postgres:
        with pytest.raises(RuntimeError, match="desk=True"):
            await postgres.rows("use_cases")
        assert postgres.count_connections() == (2, 2)


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
    breaker = Breaker(retry_s=0.0)
    with pytest.raises(DirectoryUnavailable):
        async with breaker.guard():
            raise ConnectionRefusedError
    async with breaker.guard() as trying:
        assert trying
        with pytest.raises(DirectoryUnavailable):
            async with breaker.guard():
                pytest.fail("two tries at once")
        assert breaker.away
    assert not breaker.away
    async with breaker.guard() as trying:
        assert not trying


@pytest.mark.parametrize(
    ("failure", "away"),
    [
        (ConnectionResetError(), True),
        (asyncpg.AdminShutdownError(), True),
        (asyncpg.InterfaceError("closed"), True),
        (TimeoutError(), False),
        (asyncpg.DeadlockDetectedError(), False),
        (asyncpg.LockNotAvailableError(), False),
    ],
)
async def test_a_failure_for_now_becomes_directory_unavailable(failure: Exception, away: bool) -> None:
    breaker = Breaker()
    with pytest.raises(DirectoryUnavailable) as caught:
        async with breaker.guard():
            raise failure
    assert caught.value.__cause__ is failure
    assert (breaker.away, breaker.errors) == (away, 1)


async def test_any_other_failure_passes_through_and_is_an_answer_of_the_server() -> None:
    breaker = Breaker(retry_s=0.0)
    breaker.trip()
    with pytest.raises(asyncpg.UniqueViolationError):
        async with breaker.guard():
            raise asyncpg.UniqueViolationError
    assert (breaker.away, breaker.errors) == (False, 0)


async def test_a_try_that_is_cancelled_or_times_out_leaves_the_server_away() -> None:
    breaker = Breaker(retry_s=0.0)
    breaker.trip()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), breaker.guard():
            await asyncio.sleep(60)
    assert breaker.away
    with pytest.raises(DirectoryUnavailable):
        async with breaker.guard():
            raise TimeoutError
    assert breaker.away
