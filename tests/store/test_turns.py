"""Changes without fences take turns: one service without Redis must not take the copies from all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from stand_ins import until
from test_changes import Store, open_store

from oracle.store.aliases import Allowance
from oracle.store.postgres import TURN_EVERY_S, TURN_S


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def find_wait(store: Store) -> float:
    """How long a change would wait if a turn took no time and the next one began in an hour."""
    row: Any = await store.postgres.writes.row("unfenced_turn", 3600.0, 0.0)
    return float(row["wait_s"])


async def test_changes_without_redis_move_the_generation_in_turns_while_others_use_the_cache(
    database_url: str, redis_url: str, db: asyncpg.Connection
) -> None:
    async with open_store(database_url, redis_url), open_store(database_url, None) as without:
        assert await without.add("a", "1") == ["new"]
        together = await asyncio.gather(*(without.add("a", str(n)) for n in range(2, 6)))
        assert together == [["new"]] * 4
        first, *later = await db.fetchval(
            "SELECT array_agg(extract(epoch FROM at)::float8 ORDER BY at) FROM events WHERE entity = 'alias'"
        )
        assert later[0] - first >= TURN_EVERY_S - TURN_S  # the first one can have been slow after its turn began
        assert later[-1] - later[0] < TURN_EVERY_S


async def test_changes_without_redis_wait_for_no_turn_while_nobody_uses_a_cache(
    database_url: str, redis_url: str, db: asyncpg.Connection
) -> None:
    async with open_store(database_url, None) as without:
        await db.execute("UPDATE cache_generation SET unfenced_since = clock_timestamp()")
        assert await find_wait(without) == 0
        async with open_store(database_url, redis_url) as cached:
            while await find_wait(without) == 0:
                await cached.coherence.confirm()
            cached.coherence._dial = None
            cached.coherence.session.close()  # type: ignore[union-attr]
            while await find_wait(without) > 0:
                await cached.coherence.confirm()
        async with open_store(database_url, redis_url) as cached:
            while await find_wait(without) == 0:
                await cached.coherence.confirm()
        await until(lambda: cached.coherence.session is None)
        while await find_wait(without) > 0:  # noqa: ASYNC110 - the server notices the end of the connection
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("moves", [1, 2])
async def test_a_change_whose_fences_became_old_is_fenced_again_and_does_not_move_the_generation(
    database_url: str, redis_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    async with open_store(database_url, redis_url) as store:
        real, left = store.changes.admit, [None] * moves

        async def move_meanwhile(*arguments: Any, **options: Any) -> Allowance:
            allowance = await real(*arguments, **options)
            if left:
                left.pop()
                await db.execute("SELECT cache_generation_bump()")
            return allowance

        monkeypatch.setattr(store.changes, "admit", move_meanwhile)
        before = await db.fetchval("SELECT generation FROM cache_generation")
        assert await store.add("a", "1") == ["new"]
        after = await db.fetchval("SELECT generation FROM cache_generation")
        assert after - before == (1 if moves == 1 else 3)  # after a second move, only a move of its own is certain
        assert store.coherence.generation == after
