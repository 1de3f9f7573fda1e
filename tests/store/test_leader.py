"""Leadership: one process works at a time, the next one takes over, and a lost lock ends the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import asyncpg
import pytest

from oracle.errors import DirectoryUnavailable
from oracle.store.leader import Leader, Work
from oracle.telemetry import logs

LOCK: Final = 0x74657374
HOLDERS: Final = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
HOLDER: Final = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"


class Log:
    """What the leader reports."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def now(self, state: str, /, *, exc: BaseException | None = None, level: int | None = None) -> bool:  # noqa: ARG002
        self.states.append(f"{state} {type(exc).__name__}" if exc else state)
        return True


@pytest.fixture
def lead(database_url: str) -> Callable[..., Leader]:
    def make(work: Work, log: Log | None = None, **options: object) -> Leader:
        condition: logs.Condition = log or Log()  # type: ignore[assignment]
        connect = partial(asyncpg.connect, database_url)
        return Leader(connect, LOCK, work, condition, look_s=0.01, **options)  # type: ignore[arg-type]

    return make


async def test_one_leader_works_and_the_next_takes_over(lead: Callable[..., Leader], database_url: str) -> None:
    working: list[int] = []
    began = asyncio.Queue[int]()

    async def work(number: int, _: asyncpg.Connection, stop: asyncio.Event) -> None:
        working.append(number)
        assert working == [number], "two at once"
        began.put_nowait(number)
        await stop.wait()
        working.remove(number)

    stops = {number: asyncio.Event() for number in range(3)}
    tasks = [asyncio.create_task(lead(partial(work, number)).run(stop)) for number, stop in stops.items()]
    led = []
    for _ in stops:
        leader = await began.get()
        led.append(leader)
        stops[leader].set()
    await asyncio.gather(*tasks)
    assert sorted(led) == [0, 1, 2]
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval(HOLDERS) == 0
    await connection.close()


async def test_a_stop_ends_the_wait_for_the_lock(lead: Callable[..., Leader], database_url: str) -> None:
    async def never(_: asyncpg.Connection, __: asyncio.Event) -> None:
        raise AssertionError

    holder = await asyncpg.connect(database_url)
    await holder.execute("SELECT pg_advisory_lock($1)", LOCK)
    stop = asyncio.Event()
    task = asyncio.create_task(lead(never).run(stop))
    await asyncio.sleep(0.05)
    stop.set()
    await task
    await holder.close()


async def test_a_lost_lock_cancels_the_work_and_it_begins_again(lead: Callable[..., Leader], database_url: str) -> None:
    begun = asyncio.Queue[None]()
    cancelled = []

    async def work(_: asyncpg.Connection, stop: asyncio.Event) -> None:
        begun.put_nowait(None)
        try:
            await stop.wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    stop, log = asyncio.Event(), Log()
    task = asyncio.create_task(lead(work, log, heartbeat_s=0.01).run(stop))
    await begun.get()
    other = await asyncpg.connect(database_url)
    await other.execute(f"SELECT pg_terminate_backend(pid) FROM ({HOLDER}) AS holder")  # noqa: S608 - our own
    await begun.get()
    assert cancelled == [True]
    assert [state.partition(":")[0] for state in log.states] == ["interrupted"]
    stop.set()
    await task
    await other.close()


class Unsound(Exception):
    pass


@pytest.mark.parametrize(
    ("failure", "options", "state"),
    [
        (Unsound("it does not fit"), {"refusals": (Unsound,)}, "refused: it does not fit"),
        (Unsound("secret"), {"transient": (Unsound,)}, "interrupted Unsound"),
        (DirectoryUnavailable(), {}, "interrupted: PostgreSQL did not answer a moment ago"),
        (ConnectionResetError(), {}, "interrupted: the connection to PostgreSQL broke"),
        (TimeoutError(), {"heartbeat_s": 60.0}, "interrupted: PostgreSQL does not answer"),
    ],
)
async def test_after_a_failure_for_now_it_leads_again(
    lead: Callable[..., Leader], failure: Exception, options: dict[str, object], state: str
) -> None:
    stop, tries = asyncio.Event(), 0

    async def fail_once(_: asyncpg.Connection, stop: asyncio.Event) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise failure
        stop.set()

    log = Log()
    await lead(fail_once, log, **options).run(stop)
    assert tries == 2
    assert log.states == [state]


@pytest.mark.parametrize("heartbeat_s", [None, 60.0])
async def test_any_other_failure_passes_through_and_frees_the_lock(
    lead: Callable[..., Leader], database_url: str, heartbeat_s: float | None
) -> None:
    async def fail(_: asyncpg.Connection, __: asyncio.Event) -> None:
        raise Unsound

    with pytest.raises(Unsound):
        await lead(fail, heartbeat_s=heartbeat_s).run(asyncio.Event())
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK)
    await connection.close()
