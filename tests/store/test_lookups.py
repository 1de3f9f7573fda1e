"""The loader's bad schedules, each forced: no servers here, the test answers in their place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from stand_ins import Dialler, ManualGenerations, ManualReads, ManualSession, open_copy, read_marker, tag, turns, until

from oracle.errors import DirectoryUnavailable, Overloaded
from oracle.store.base import AnswerCallback
from oracle.store.cache.coherence import CATCH_UP_S, DEGRADED_MAX_S, Coherence, Timing
from oracle.store.cache.lookups import (
    BATCH_MAX,
    CACHE_BATCHES,
    LOOKUP_LIMITS,
    NOBODY,
    WAITING_MAX,
    LookupLimits,
    Lookups,
)
from oracle.store.cache.values import FENCE, new_token, pack_entries
from oracle.telemetry.metrics import Metrics

Answer = tuple[bytes | Exception, bool]


class Bench:
    """Lookups over stand-ins, with a session that is in use."""

    def __init__(self, limits: LookupLimits = LOOKUP_LIMITS) -> None:
        self.generations = ManualGenerations()
        self.session = ManualSession()
        self.second = ManualSession()
        self.dial = Dialler(self.session, self.second)
        self.reads = ManualReads()
        # Its clock does not advance by itself: a lease ends when a test ends it, not when the machine stalls.
        self.now = 100.0
        timing = Timing(poll_s=3600.0)  # nobody else asks for the generation
        self.coherence = Coherence(self.generations, self.dial, "t", clock=lambda: self.now, timing=timing)
        self.answers: dict[str, list[Answer]] = {}
        self.lookups = self.make(limits=limits)

    def make(self, timeout_s: float = 10.0, limits: LookupLimits = LOOKUP_LIMITS) -> Lookups:
        return Lookups(
            self.coherence, self.reads, Metrics.open(None, "hub", 0),
            timeout_s=timeout_s, ttl_s=100, negative_ttl_s=10, limits=limits,
        )  # fmt: skip

    def ask(self, *identifiers: str) -> None:
        for identifier in identifiers:
            self.lookups.ask("ALIAS", identifier, self.note(self.answers.setdefault(identifier, [])))

    @staticmethod
    def note(got: list[Answer]) -> AnswerCallback:
        return lambda answer, cached: got.append((answer, cached))

    async def lose_lease(self) -> None:
        """Ask while the lease is valid, without an answer, until the lease has ended."""
        with contextlib.suppress(Exception):
            await self.coherence.confirm()
        assert not self.coherence.reachable
        self.now += 1.1

    async def reads_waiting(self, count: int = 1) -> None:
        await until(lambda: len(self.reads.batches) >= count)

    async def misses(self, *identifiers: str, lease: bool = True) -> None:
        """Ask, find nothing in the cache, take (or do not get) the right to fill, and reach the directory."""
        self.ask(*identifiers)
        await turns()
        get = self.session.gets.pop()
        get.done([None] * len(get.keys))
        self.session.leases.pop().done([lease] * len(get.keys))
        await self.reads_waiting()


@asynccontextmanager
async def open_bench(limits: LookupLimits = LOOKUP_LIMITS) -> AsyncIterator[Bench]:
    made = Bench(limits)
    await made.coherence.open()
    await until(lambda: made.coherence.session is made.session)
    yield made
    await made.lookups.close()
    await made.coherence.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as made:
        yield made


async def test_lookups_of_one_turn_are_one_read(bench: Bench) -> None:
    bench.ask("1", "2")
    assert bench.session.gets == []  # never before `ask` returns
    await turns()
    (get,) = bench.session.gets
    assert get.keys == [bench.coherence.key("ALIAS", i) for i in ("1", "2")]
    get.done([b"Vone", b"Vtwo"])
    assert bench.answers == {"1": [(b"Vone", True)], "2": [(b"Vtwo", True)]}


async def test_a_burst_of_ten_thousand_equal_keys_is_one_read(bench: Bench) -> None:
    bench.ask(*["1"] * 10_000)
    await turns()
    (get,) = bench.session.gets
    assert len(get.keys) == 1
    get.done([None])
    bench.session.leases.pop().done([True])
    await bench.reads_waiting()
    ((keys, _),) = bench.reads.batches
    assert keys == [("ALIAS", "1")]
    bench.reads.answer()
    await turns()
    assert bench.answers["1"] == [(b"V1", False)] * 10_000
    assert bench.lookups._waiting == 0


async def test_a_lookup_that_starts_after_a_read_was_sent_does_not_share_it(bench: Bench) -> None:
    bench.ask("1")
    await turns()
    bench.ask("1")
    await turns()
    first, second = bench.session.gets
    first.done([b"Vold"])
    second.done([b"Vnew"])
    assert bench.answers["1"] == [(b"Vold", True), (b"Vnew", True)]


async def test_a_lookup_does_not_share_a_query_that_was_sent(bench: Bench) -> None:
    await bench.misses("1")
    await bench.misses("1", lease=False)
    await bench.reads_waiting(2)
    (_, first), (_, second) = bench.reads.batches
    second.set_result([b"Vnew"])
    await turns()
    first.set_result([b"Vold"])
    await turns()
    assert bench.answers["1"] == [(b"Vnew", False), (b"Vold", False)]


async def test_two_batches_that_miss_one_key_ask_the_directory_once(bench: Bench) -> None:
    """The key is the last of one batch and the first of the next; the second batch gets no token."""
    bench.ask(*(str(n) for n in range(BATCH_MAX)))
    await turns()
    bench.ask(str(BATCH_MAX - 1), "more")
    await turns()
    first, second = bench.session.gets
    first.done([None] * BATCH_MAX)
    second.done([None] * 2)
    lease, other = bench.session.leases
    lease.done([True] * BATCH_MAX)
    other.done([False, True])
    await bench.reads_waiting()
    await turns()
    asked = [key for keys, _ in bench.reads.batches for key in keys]
    assert len(asked) == len(set(asked)) == BATCH_MAX + 1
    bench.reads.answer()
    await turns()
    assert len(bench.answers[str(BATCH_MAX - 1)]) == 2
    assert len(bench.session.fills) == BATCH_MAX + 1


async def test_batches_and_batches_in_flight_are_limited(bench: Bench) -> None:
    bench.ask(*(str(n) for n in range(BATCH_MAX * (CACHE_BATCHES + 2) + 1)))
    await turns()
    assert [len(get.keys) for get in bench.session.gets] == [BATCH_MAX] * CACHE_BATCHES
    while any(not got for got in bench.answers.values()):
        get = bench.session.gets.pop(0)
        get.done([b"V" + key for key in get.keys])
        await turns()
    for identifier, got in bench.answers.items():
        assert got == [(b"V" + bench.coherence.key("ALIAS", identifier), True)]


async def test_a_caller_that_goes_away_fails_no_other(bench: Bench) -> None:
    leaving = asyncio.ensure_future(bench.lookups.get("ALIAS", "1"))
    staying = asyncio.ensure_future(bench.lookups.get("ALIAS", "1"))
    other = asyncio.ensure_future(bench.lookups.get("ALIAS", "2"))
    await turns()
    get = bench.session.gets.pop()
    leaving.cancel()
    await turns()
    get.done([b"Vone", None])
    bench.session.leases.pop().done([True])
    await bench.reads_waiting()
    bench.reads.answer()
    assert await staying == b"Vone"
    assert await other == b"V2"
    assert leaving.cancelled()


@pytest.mark.parametrize("cached", [True, False])
async def test_a_caller_that_raises_is_reported_and_fails_no_other(bench: Bench, cached: bool) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def fails(answer: object, cached: object) -> None:
        raise IndexError(answer, cached)

    bench.ask("1", "2")
    bench.lookups.ask("ALIAS", "2", fails)
    bench.lookups.ask("ALIAS", "3", fails)
    bench.ask("2", "3", "4")
    await turns()
    get = bench.session.gets.pop()
    if cached:
        get.done([b"V" + key[-1:] for key in get.keys])
    else:
        get.done([None] * 4)
        bench.session.leases.pop().done([True] * 4)
        await bench.reads_waiting()
        bench.reads.answer()
        await turns()
        assert len(bench.session.fills) == 4
    expected = {n: (b"V" + n.encode(), cached) for n in "1234"}
    assert bench.answers == {"1": [expected["1"]], "2": [expected["2"]] * 2, "3": [expected["3"]], "4": [expected["4"]]}
    assert [type(context["exception"]) for context in reported] == [IndexError, IndexError]
    assert bench.session.alive
    assert bench.lookups._waiting == 0


@pytest.mark.parametrize("odd", [b"", b"X", b"\x00", b"v", b"F2"])
async def test_an_unknown_value_is_read_from_the_directory(bench: Bench, odd: bytes) -> None:
    bench.ask("1", "2")
    await turns()
    bench.session.gets.pop().done([odd, b"Vtwo"])
    assert bench.answers["2"] == [(b"Vtwo", True)]
    await bench.reads_waiting()
    bench.reads.answer()
    await turns()
    assert bench.answers["1"] == [(b"V1", False)]
    assert bench.session.fills == []


@pytest.mark.parametrize("found", [FENCE, new_token()], ids=["a fence", "another's token"])
async def test_a_fence_or_a_token_sends_the_lookup_to_the_directory_and_nothing_is_stored(
    bench: Bench, found: bytes
) -> None:
    bench.ask("1")
    await turns()
    bench.session.gets.pop().done([found])
    await bench.reads_waiting()
    bench.reads.answer()
    await turns()
    assert bench.answers["1"] == [(b"V1", False)]
    assert bench.session.leases == []
    assert bench.session.fills == []


async def test_a_lookup_without_a_token_stores_nothing(bench: Bench) -> None:
    await bench.misses("1", lease=False)
    bench.reads.answer()
    await turns()
    assert bench.answers["1"] == [(b"V1", False)]
    assert bench.session.fills == []


async def test_the_answer_nobody_is_stored_for_a_shorter_time(bench: Bench) -> None:
    await bench.misses("1", "2")
    bench.reads.answer(lambda identifier: NOBODY if identifier == "1" else b"V2")
    await turns()
    (_, _, nobody, short), (_, _, _, long) = bench.session.fills
    assert open_copy(nobody) == pack_entries([]) == NOBODY
    assert 9_000 <= short <= 11_000
    assert 90_000 <= long <= 110_000


async def test_redis_breaking_in_the_middle_of_a_batch_sends_it_to_the_directory(bench: Bench) -> None:
    bench.ask("1", "2")
    await turns()
    bench.session.close()
    await bench.reads_waiting()
    bench.reads.answer()
    await turns()
    assert bench.answers == {"1": [(b"V1", False)], "2": [(b"V2", False)]}
    assert bench.session.fills == []


async def test_twenty_thousand_keys_waiting_survive_the_end_of_the_session(bench: Bench) -> None:
    """The dead session answers each batch at once, from within the sending of it: that must not nest too deep."""
    bench.ask(*(str(n) for n in range(WAITING_MAX)))
    await turns()
    bench.session.close()
    while any(not got for got in bench.answers.values()):
        await bench.reads_waiting()
        bench.reads.answer()
        await turns()
    assert bench.lookups._waiting == 0


async def test_a_session_lost_between_token_and_fill_is_not_filled_nor_is_the_next(bench: Bench) -> None:
    await bench.misses("1")
    bench.session.close()
    await until(lambda: bench.coherence.session is bench.second)
    bench.reads.answer()
    await turns()
    assert bench.answers["1"] == [(b"V1", False)]
    assert bench.session.fills == bench.second.fills == []


async def test_a_key_is_leased_and_filled_under_the_generation_it_was_read_under(bench: Bench) -> None:
    bench.ask("1")
    await turns()
    (key,) = bench.session.gets[0].keys
    await bench.coherence.bump()
    assert bench.coherence.key("ALIAS", "1") != key
    bench.session.gets.pop().done([None])
    lease = bench.session.leases.pop()
    assert lease.keys == [key]
    lease.done([True])
    await bench.reads_waiting()
    bench.reads.answer()
    await turns()
    ((filled, token, _, _),) = bench.session.fills
    assert (filled, token) == (key, lease.token)


async def test_copies_of_the_generation_before_are_removed_when_they_are_met(bench: Bench) -> None:
    old = bench.coherence.key("ALIAS", "1")
    await bench.coherence.bump()
    for now, ttl_ms, unlinked in (
        (100.5, 30_000, []),
        (101.5, 30_000, [old]),
        (150.0, 100_000, [old]),
        (220.0, 100_000, []),
    ):
        bench.now = now
        await bench.coherence.confirm()
        bench.session.fills, bench.session.unlinked = [], []
        await bench.misses("1")
        bench.reads.answer()
        await turns()
        ((_, _, _, spread_ms),) = bench.session.fills
        assert 0.9 * ttl_ms - 1 <= spread_ms <= 1.1 * ttl_ms
        assert bench.session.unlinked == unlinked


async def test_a_failure_of_the_directory_fails_only_lookups_that_need_it(bench: Bench) -> None:
    bench.ask("1", "2")
    await turns()
    bench.session.gets.pop().done([b"Vone", FENCE])
    await bench.reads_waiting()
    bench.reads.fail(DirectoryUnavailable())
    await turns()
    assert bench.answers["1"] == [(b"Vone", True)]
    ((failure, _),) = bench.answers["2"]
    assert isinstance(failure, DirectoryUnavailable)


async def test_an_unexpected_failure_of_the_query_reaches_its_callers(bench: Bench) -> None:
    await bench.misses("1", "2")
    bench.reads.fail(KeyError("unforeseen"))
    await turns()
    for identifier in ("1", "2"):
        ((failure, _),) = bench.answers[identifier]
        assert isinstance(failure, KeyError)
    assert bench.lookups._waiting == bench.lookups._database_batches == 0


async def test_a_query_that_takes_too_long_is_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.misses("1")
    assert bench.answers["1"] == []
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + 11)
    await until(lambda: bool(bench.answers["1"]))
    ((failure, _),) = bench.answers["1"]
    assert isinstance(failure, DirectoryUnavailable)
    assert bench.reads.batches[0][1].cancelled()


async def test_a_lookup_that_waited_past_its_deadline_is_not_begun() -> None:
    async with open_bench(LookupLimits(database_batches=1)) as bench:
        await bench.misses("1")
        await bench.misses("2", lease=False)
        bench.lookups._cold[b"ALIAS:2"].asked_at -= 11
        bench.reads.answer()
        await turns()
        ((failure, _),) = bench.answers["2"]
        assert isinstance(failure, Overloaded)
        assert bench.reads.batches == []


@pytest.mark.parametrize("equal", [True, False], ids=["one key", "many keys"])
async def test_more_lookups_than_can_wait_are_refused_at_once(equal: bool) -> None:
    async with open_bench(LookupLimits(waiting_max=3)) as bench:
        waiting = ["1"] * 3 if equal else ["1", "2", "3"]
        bench.ask(*waiting)
        refused: list[Any] = []
        bench.lookups.ask("ALIAS", "1", lambda answer, _: refused.append(answer))
        assert refused == []  # never before `ask` returns
        await turns(1)
        assert [type(answer) for answer in refused] == [Overloaded]
        get = bench.session.gets.pop()
        get.done([b"V"] * len(get.keys))
        bench.ask("4")
        await turns()
        assert len(bench.session.gets) == 1


async def test_without_a_lease_it_asks_first_and_only_once(bench: Bench) -> None:
    bench.coherence.confirmed_at = float("-inf")
    asked = bench.generations.asked
    bench.ask("1", "2")
    await turns(2)
    bench.ask("3")
    await turns()
    assert bench.generations.asked == asked + 1
    assert [len(get.keys) for get in bench.session.gets] == [3]


@pytest.mark.parametrize("failure", [None, KeyError("unforeseen")])
async def test_without_a_lease_and_without_postgresql_it_goes_on_with_the_copies(
    bench: Bench, failure: Exception | None
) -> None:
    bench.generations.away, bench.generations.failure = True, failure
    await bench.lose_lease()
    bench.ask("1")
    await turns()
    bench.session.gets.pop().done([b"Vone"])
    assert bench.answers["1"] == [(b"Vone", True)]
    assert bench.coherence.degraded


@pytest.mark.parametrize("seen", ["nothing", "a generation", "routes", "a timeline", "another PostgreSQL"])
async def test_without_a_lease_a_copy_counts_only_under_the_marker_of_its_process(bench: Bench, seen: str) -> None:
    own = read_marker(bench.session.marker)
    bench.generations.away = True
    await bench.lose_lease()
    bench.session.marker = {
        "nothing": b"",
        "a generation": tag(own._replace(generation=own.generation + 1)),
        "routes": tag(own._replace(routes_version=own.routes_version + 1)),
        "a timeline": tag(own._replace(timeline=own.timeline + 1)),
        "another PostgreSQL": tag(own._replace(system_identifier="2")),
    }[seen]
    bench.ask("1")
    await turns()
    bench.session.gets.pop().done([b"Vone"])
    await until(lambda: bool(bench.session.gets))  # it waits a moment for PostgreSQL
    bench.now += CATCH_UP_S + 0.01
    bench.session.gets.pop().done([b"Vone"])
    assert bench.answers["1"] == []
    await bench.reads_waiting()
    bench.reads.fail(DirectoryUnavailable())
    await turns()
    ((failure, _),) = bench.answers["1"]
    assert isinstance(failure, DirectoryUnavailable)


async def test_without_a_lease_copies_count_for_a_limited_time(bench: Bench) -> None:
    bench.generations.away = True
    await bench.lose_lease()
    bench.now = 100.0 + DEGRADED_MAX_S
    bench.ask("1")
    await turns()
    bench.session.gets.pop().done([b"Vone"])
    assert bench.answers["1"] == [(b"Vone", True)]
    bench.now += 0.01
    bench.ask("2")
    await bench.reads_waiting()
    assert bench.session.gets == []


async def test_after_a_stall_no_copy_counts_without_postgresql(bench: Bench) -> None:
    """The lease ended before the question began that PostgreSQL did not answer."""
    bench.now += 2.5
    bench.generations.away = True
    bench.ask("1")
    await bench.reads_waiting()
    assert bench.session.gets == []
    bench.generations.away = False
    await bench.coherence.confirm()
    bench.ask("2")
    await turns()
    assert len(bench.session.gets) == 1


async def test_lookups_are_answered_while_the_routes_cannot_be_loaded(bench: Bench) -> None:
    async def fails(_: int) -> None:
        raise DirectoryUnavailable

    bench.coherence._routes_reload = fails
    bench.coherence.routes_version = 0
    await bench.lose_lease()
    bench.ask("1")
    await turns()
    bench.session.gets.pop().done([b"Vone"])
    assert bench.answers["1"] == [(b"Vone", True)]


async def test_lookups_wait_for_a_slow_lease_until_their_deadline(bench: Bench) -> None:
    """As with 100,000 new routes, which are read before it is renewed."""
    arrived = asyncio.Event()

    async def reloads(_: int) -> None:
        await arrived.wait()

    bench.lookups = bench.make(timeout_s=0.05)
    bench.coherence._routes_reload = reloads
    bench.coherence.routes_version = 0
    bench.coherence.confirmed_at = float("-inf")
    bench.ask("1", "2")
    await until(lambda: bool(bench.answers["1"] and bench.answers["2"]))
    assert [type(bench.answers[key][0][0]) for key in "12"] == [Overloaded] * 2
    bench.lookups._timeout_s = 10.0
    bench.ask("3")
    await turns()
    assert bench.session.gets == []
    arrived.set()
    await until(lambda: bool(bench.session.gets))
    bench.session.gets.pop().done([b"Vthree"])
    assert bench.answers["3"] == [(b"Vthree", True)]
    assert bench.lookups._waiting == 0


async def test_close_answers_all_lookups(bench: Bench) -> None:
    await bench.misses("1")
    await bench.lookups.close()
    ((failure, _),) = bench.answers["1"]
    assert isinstance(failure, DirectoryUnavailable)
