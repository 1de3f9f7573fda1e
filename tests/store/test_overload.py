"""More lookups than PostgreSQL answers in time: refused when the cache did not answer, by the rate of the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from stand_ins import turns, until
from test_lookups import Bench, open_bench

from oracle.errors import Overloaded
from oracle.store.cache.lookups import LookupLimits
from oracle.store.cache.pace import Pace
from oracle.store.cache.values import FENCE

SMALL = LookupLimits(batch_max=4, cache_batches=8, database_batches=1, full_at=1_000)


def make_pace(batch_s: float, places: int = 1, *, full_since: float | None = None) -> Pace:
    """Make a pace of this many seconds between two batches; its places are free, or taken since a time."""
    pace = Pace(places)
    for _ in range(places):
        pace.enter(0.0)
    for batch in range(8):
        pace.leave((batch + 1) * batch_s, full=True)
        pace.enter((batch + 1) * batch_s)
    for place in range(places):
        pace.leave(8 * batch_s + (place + 1) * batch_s, full=False)
    if full_since is not None:
        for _ in range(places):
            pace.enter(full_since)
    return pace


@pytest.mark.parametrize(
    ("pace", "now", "room"),
    [
        (Pace(4), 0.0, 1_000_000),
        (make_pace(1.0, 4), 0.0, 71),
        (make_pace(20.0, 4), 0.0, 0),
        (make_pace(1.0, 4, full_since=500.0), 504.0, 71),
        (make_pace(1.0, 4, full_since=500.0), 530.0, 6),
        (make_pace(1.0, 4, full_since=500.0), 576.0, 0),
        (make_pace(1.0, 1), 0.0, 74),
    ],
    ids=["unknown", "a rate", "slow", "as fast as before", "slower than before", "silence", "one place"],
)
def test_the_room_is_what_passes_in_time(pace: Pace, now: float, room: int) -> None:
    assert pace.count_room(75.5, now) == room


def test_a_new_rate_is_known_after_a_few_batches() -> None:
    pace = make_pace(1.0, full_since=100.0)
    now = 100.0
    for _ in range(16):
        now += 10.0
        pace.leave(now, full=True)
        pace.enter(now)
    assert 6 <= pace.count_room(75.5, now) <= 8


def test_a_stage_with_a_free_place_is_not_measured() -> None:
    pace = make_pace(1.0, 2)
    pace.enter(100.0)
    pace.leave(200.0, full=False)
    assert pace.count_room(75.5, 200.0) == 73


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A batch of four at a time takes three seconds: within three quarters of ten seconds one more can wait."""
    async with open_bench(SMALL) as made:
        made.lookups._database_pace = make_pace(3.0)
        yield made


def list_refused(bench: Bench) -> list[str]:
    return [name for name, got in bench.answers.items() if got and isinstance(got[0][0], Overloaded)]


def list_waiting(bench: Bench) -> list[str]:
    return [name for name, got in bench.answers.items() if not got]


async def ask_until_full(bench: Bench) -> None:
    await bench.misses("a", "b", "c", "d")


@pytest.mark.parametrize("found", [None, FENCE], ids=["absent", "fenced"])
async def test_the_newest_are_refused_at_once_and_take_no_token(bench: Bench, found: bytes | None) -> None:
    await ask_until_full(bench)
    bench.ask(*"12")
    await turns()
    bench.ask(*"3456789")
    await turns()
    while bench.session.gets:
        get = bench.session.gets.pop(0)
        get.done([found] * len(get.keys))
    assert list_refused(bench) == ["5", "6", "7", "8", "9"]
    assert sum(len(lease.keys) for lease in bench.session.leases) == (4 if found is None else 0)
    for lease in bench.session.leases:
        lease.done([True] * len(lease.keys))
    for _ in range(2):
        await bench.reads_waiting()
        bench.reads.answer()
        await turns()
    assert list_waiting(bench) == []
    assert len(list_refused(bench)) == 5
    assert bench.lookups._waiting == 0
    assert bench.lookups._taking_tokens == bench.lookups._reading == 0


async def test_without_redis_the_newest_are_refused_at_once(bench: Bench) -> None:
    await ask_until_full(bench)
    bench.ask(*"1234567")
    await turns()
    bench.session.close()
    assert list_refused(bench) == ["5", "6", "7"]


@pytest.mark.parametrize("found", [b"Vcopy", b"V\x90"], ids=["somebody", "nobody"])
async def test_copies_are_answered_while_the_directory_has_no_room(bench: Bench, found: bytes) -> None:
    bench.lookups._database_pace = make_pace(1_000.0)
    await ask_until_full(bench)
    bench.ask("cold", "cached")
    await turns()
    bench.session.gets.pop().done([None, found])
    assert list_refused(bench) == ["cold"]
    assert bench.answers["cached"] == [(found, True)]


async def test_a_free_place_is_used_however_slow_the_directory_was(bench: Bench) -> None:
    bench.lookups._database_pace = make_pace(1_000.0)
    await bench.misses("1", "2", "3", "4")
    bench.reads.answer()
    await turns()
    await bench.misses("5", "6")
    bench.reads.answer()
    await turns()
    assert not list_waiting(bench)
    assert not list_refused(bench)


# The callers ----------------------------------------------------------------------------------------------------


async def test_callers_wait_from_a_bound_until_there_is_room() -> None:
    async with open_bench(LookupLimits(full_at=3)) as bench:
        calls: list[str] = []
        bench.lookups.on_full = lambda: calls.append("full")
        bench.lookups.on_room = lambda: calls.append("room")
        bench.ask("1", "2", "3")
        assert calls == []
        bench.ask("4", "4", "5")  # they were on their way: none is refused
        await turns()
        assert calls == ["full"]
        get = bench.session.gets.pop()
        get.done([b"V"] * len(get.keys))
        assert calls == ["full", "room"]
        assert not list_waiting(bench)
        assert not list_refused(bench)


async def test_lookups_that_a_hanging_directory_keeps_do_not_stop_the_callers() -> None:
    async with open_bench(LookupLimits(batch_max=4, database_batches=1, full_at=3)) as bench:
        calls: list[str] = []
        bench.lookups.on_full = lambda: calls.append("full")
        bench.lookups.on_room = lambda: calls.append("room")
        await bench.misses("1", "2", "3", "4")
        assert calls == ["full"]
        bench.lookups._database_pace = make_pace(1.0, full_since=-1_000.0)  # no answer for a long time
        await until(lambda: calls == ["full", "room"])
        bench.ask("5", "6")
        assert calls == ["full", "room"]
        bench.lookups._database_pace = make_pace(0.0, full_since=float("inf"))  # it answers again
        bench.ask("7")
        assert calls == ["full", "room", "full"]
