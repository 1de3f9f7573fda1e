"""What a process makes of the answers of PostgreSQL: in any order, of several PostgreSQL, and with a locked row."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest
from patience import PATIENT
from stand_ins import FIRST, Dialler, ManualGenerations, ManualSession, read_marker, replace_row, turns, until

from oracle.store.cache.coherence import RIVAL_PAUSE_S, Coherence
from oracle.store.cache.values import Marker
from oracle.store.postgres import open_postgres

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def ask(coherence: Coherence) -> None:
    await coherence._ask()


async def bump(coherence: Coherence) -> None:
    await coherence.bump()


@pytest.mark.parametrize("first", [ask, bump])
@pytest.mark.parametrize("second", [ask, bump])
async def test_the_slower_of_two_loads_of_the_routes_does_not_put_older_ones_back(
    first: Callable[[Coherence], Awaitable[None]], second: Callable[[Coherence], Awaitable[None]]
) -> None:
    generations, loads, loaded = ManualGenerations(), list[asyncio.Event](), list[int]()

    async def load(version: int) -> None:
        go_on = asyncio.Event()
        loads.append(go_on)
        await go_on.wait()
        loaded.append(version)

    coherence = Coherence(generations, None, "t", load)
    tasks = []
    for version, answer in ((2, first), (3, second)):
        generations.row = replace_row(generations.row, routes_version=version)
        tasks.append(asyncio.ensure_future(answer(coherence)))
        await turns()
    while not all(task.done() for task in tasks):
        loads.pop().set()  # the later one comes first
        await turns()
    assert loaded[-1] == coherence.routes_version == 3
    assert read_marker(coherence.marker).routes_version == 3


async def test_two_postgresql_on_one_redis_do_not_move_their_generations_on_and_on() -> None:
    now, generations, session = 0.0, ManualGenerations(), ManualSession()
    coherence = Coherence(generations, Dialler(session), "t", clock=lambda: now)
    await coherence.open()
    await until(lambda: coherence.session is session)

    async def outdo(times: int) -> int:
        """Return how often the generation moved while another PostgreSQL went past it so often."""
        before = generations.row.generation
        for _ in range(times):
            marker = Marker(1, generations.row.generation + 1, FIRST.routes_version, "another")
            session.marker = coherence.tags.sign_marker(coherence.marker_key, marker)[0]
            await coherence.confirm()
            await turns(50)
        return (generations.row.generation - before) // 2

    assert await outdo(10) == 1
    assert coherence.session is session
    assert await coherence._agree(session)  # a new session can be opened, and changes are acknowledged
    now += RIVAL_PAUSE_S
    assert await outdo(10) == 1
    await coherence.close()


async def test_a_commit_that_holds_the_row_is_ended_also_before_the_lineage_is_settled(database_url: str) -> None:
    """After a failover without a synchronous standby, a commit can wait for one, and hold the row that each connection
    for moves would write first."""
    holder = await asyncpg.connect(database_url, server_settings={"application_name": "oracle changes"})
    await holder.execute("UPDATE cache_generation SET timeline = 0")
    await holder.execute("BEGIN; SELECT cache_generation_bump()")
    async with open_postgres(database_url, limits=PATIENT) as postgres:
        pid = holder.get_server_pid()
        while await postgres.watch.end_backends([pid]):
            pass
        moved = await postgres.watch.bump()
        assert moved.generation > 1 << 20
        assert (await postgres.watch.ask()).generation == moved.generation
    holder.terminate()
