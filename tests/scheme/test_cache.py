"""The cache of a source's answers: what waits, what is asked, and what stays when the source fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oracle.scheme.base import LedgerUnavailable
from oracle.scheme.cache import Bucket, Cache, CacheTimes

TIMES = CacheTimes(fresh_s=3.0, nothing_s=3.0, stale_s=60.0, patience_s=0.05)


class Source:
    """Answers with the number of the question, for keys that do not begin with `no`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self, key: str) -> str | None:
        self.asked.append(key)
        number = len(self.asked)
        await self.gate.wait()
        if self.fails:
            raise LedgerUnavailable
        return None if key.startswith("no") else f"{key} {number}"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Kit:
    def __init__(self, **limits: Any) -> None:
        self.source, self.clock = Source(), Clock()
        burst = limits.pop("burst", 1000)
        self.cache: Cache[str] = Cache(
            self.source.ask, TIMES, clock=self.clock, bucket=Bucket(burst, 1.0, self.clock), **limits
        )

    async def settle(self) -> None:
        """Let the questions in the background end."""
        await asyncio.gather(*self.cache._tasks)


@asynccontextmanager
async def open_kit(**limits: Any) -> AsyncIterator[Kit]:
    kit = Kit(**limits)
    try:
        yield kit
    finally:
        await kit.cache.close()


def run_at_once(coroutine: Coroutine[Any, Any, str | None]) -> str | None:
    """Run it without a turn of the event loop."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    value: str | None = ended.value.value
    return value


async def test_a_fresh_answer_is_returned_without_a_turn_of_the_event_loop() -> None:
    async with open_kit() as kit:
        assert await kit.cache.get("a") == "a 1"
        assert await kit.cache.get("no") is None
        kit.clock.now_s += 1.9
        assert run_at_once(kit.cache.get("a")) == "a 1"
        assert run_at_once(kit.cache.get("no")) is None
        assert kit.source.asked == ["a", "no"]


async def test_an_answer_in_use_is_renewed_in_the_background_so_nobody_waits() -> None:
    async with open_kit() as kit:
        await kit.cache.get("a")
        for number in range(2, 6):
            kit.clock.now_s += 2.5
            assert run_at_once(kit.cache.get("a")) == f"a {number - 1}"
            assert run_at_once(kit.cache.get("a")) == f"a {number - 1}"
            await kit.settle()
            assert len(kit.source.asked) == number


async def test_an_answer_of_before_is_not_returned_after_its_time() -> None:
    async with open_kit() as kit:
        await kit.cache.get("a")
        kit.clock.now_s += 3.1
        assert await kit.cache.get("a") == "a 2"


async def test_questions_about_the_same_key_are_joined() -> None:
    async with open_kit() as kit:
        kit.source.gate.clear()
        asked = [asyncio.ensure_future(kit.cache.get("a")) for _ in range(100)]
        await asyncio.sleep(0)
        kit.source.gate.set()
        assert set(await asyncio.gather(*asked)) == {"a 1"}
        assert kit.source.asked == ["a"]


async def test_a_caller_that_gives_up_does_not_end_the_question_of_the_others() -> None:
    async with open_kit() as kit:
        kit.source.gate.clear()
        leaving = asyncio.ensure_future(kit.cache.get("a"))
        staying = asyncio.ensure_future(kit.cache.get("a"))
        await asyncio.sleep(0)
        leaving.cancel()
        kit.source.gate.set()
        assert await staying == "a 1"
        assert leaving.cancelled()


async def test_while_the_source_fails_the_old_answer_stays_until_its_bound() -> None:
    async with open_kit() as kit:
        await kit.cache.get("a")
        kit.source.fails = True
        for _ in range(5):
            kit.clock.now_s += 10
            assert await kit.cache.get("a") == "a 1"
        kit.clock.now_s += 10.1  # 60.1 s
        with pytest.raises(LedgerUnavailable):
            await kit.cache.get("a")


async def test_a_source_that_fails_is_asked_about_a_key_once_a_second() -> None:
    async with open_kit() as kit:
        await kit.cache.get("a")
        kit.source.fails = True
        kit.clock.now_s += 3.1
        for _ in range(20):
            assert await kit.cache.get("a") == "a 1"
            with pytest.raises(LedgerUnavailable):
                await kit.cache.get("b")
        assert kit.source.asked == ["a", "a", "b"]
        kit.clock.now_s += 1.1
        assert await kit.cache.get("a") == "a 1"
        assert kit.source.asked == ["a", "a", "b", "a"]
        kit.source.fails = False
        kit.clock.now_s += 1.1
        assert await kit.cache.get("a") == "a 5"
        assert await kit.cache.get("b") == "b 6"


async def test_there_is_none_is_not_returned_when_the_source_fails_later() -> None:
    async with open_kit() as kit:
        assert await kit.cache.get("no") is None
        kit.source.fails = True
        kit.clock.now_s += 3.1
        with pytest.raises(LedgerUnavailable):
            await kit.cache.get("no")


async def test_an_fsp_that_is_no_more_is_not_returned_from_before() -> None:
    async with open_kit() as kit:
        await kit.cache.get("a")
        kit.cache._ask = _find_nobody
        kit.clock.now_s += 3.1
        assert await kit.cache.get("a") is None
        kit.cache._ask = kit.source.ask
        kit.source.fails = True
        kit.clock.now_s += 3.1
        with pytest.raises(LedgerUnavailable):
            await kit.cache.get("a")


async def _find_nobody(_: str) -> str | None:
    return None


async def test_a_slow_source_delays_one_caller_and_those_who_ask_at_the_same_time() -> None:
    async with open_kit() as kit:
        await kit.cache.get("a")
        kit.source.gate.clear()
        kit.clock.now_s += 3.1
        assert set(await asyncio.gather(kit.cache.get("a"), kit.cache.get("a"))) == {"a 1"}
        kit.clock.now_s += 0.1
        assert run_at_once(kit.cache.get("a")) == "a 1"
        assert kit.source.asked == ["a", "a"]
        kit.source.gate.set()
        await kit.settle()
        assert run_at_once(kit.cache.get("a")) == "a 2"


async def test_invented_names_push_out_no_name_that_exists_and_keep_no_memory() -> None:
    async with open_kit(nothing_max=10, burst=10_000) as kit:
        await kit.cache.get("a")
        for number in range(1000):
            assert await kit.cache.get(f"no{number}") is None
        kit.source.fails = True
        for number in range(1000):
            with pytest.raises(LedgerUnavailable):
                await kit.cache.get(f"other{number}")
        assert run_at_once(kit.cache.get("a")) == "a 1"
        assert len(kit.cache) == 1 + 10 + 10
        assert not kit.cache._questions


async def test_a_source_that_knows_every_name_fills_no_memory() -> None:
    async with open_kit(held_max=10, burst=10_000) as kit:
        for number in range(1000):
            await kit.cache.get(f"a{number}")
        assert len(kit.cache) == 10


async def test_new_names_are_limited_and_known_ones_go_on() -> None:
    async with open_kit(burst=10) as kit:
        await kit.cache.get("a")
        results = await asyncio.gather(*(kit.cache.get(f"no{n}") for n in range(100)), return_exceptions=True)
        assert [type(result) for result in results] == [type(None)] * 9 + [LedgerUnavailable] * 91
        kit.clock.now_s += 3.1  # three more can be asked
        assert await kit.cache.get("a") == "a 11"
        results = await asyncio.gather(*(kit.cache.get(f"no{n}") for n in range(50, 100)), return_exceptions=True)
        assert [type(result) for result in results] == [type(None)] * 3 + [LedgerUnavailable] * 47


async def test_questions_about_new_names_at_the_same_time_are_limited() -> None:
    async with open_kit(asking_max=5) as kit:
        await kit.cache.get("a")
        kit.source.gate.clear()
        asked = [asyncio.ensure_future(kit.cache.get(f"b{n}")) for n in range(20)]
        await asyncio.sleep(0)
        kit.clock.now_s += 2.5
        assert run_at_once(kit.cache.get("a")) == "a 1"
        kit.source.gate.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(result, str) for result in results] == [True] * 5 + [False] * 15
        assert await kit.cache.get("b10") == "b10 8"  # not counted as a failure of the source


async def test_after_forget_every_key_is_asked_again_and_old_answers_stay_for_a_failure() -> None:
    async with open_kit() as kit:
        await kit.cache.get("a")
        await kit.cache.get("no")
        kit.cache.forget()
        assert await kit.cache.get("a") == "a 3"
        assert await kit.cache.get("no") is None
        assert kit.source.asked == ["a", "no", "a", "no"]
        kit.cache.forget()
        kit.source.fails = True
        assert await kit.cache.get("a") == "a 3"


async def test_an_answer_to_a_question_from_before_forget_is_not_kept() -> None:
    async with open_kit() as kit:
        kit.source.gate.clear()
        before = asyncio.ensure_future(kit.cache.get("a"))
        await asyncio.sleep(0)
        kit.cache.forget()
        after = asyncio.ensure_future(kit.cache.get("a"))
        await asyncio.sleep(0)
        kit.source.gate.set()
        assert await before == "a 1"
        assert await after == "a 2"
        assert run_at_once(kit.cache.get("a")) == "a 2"


async def test_who_waits_when_the_cache_is_closed_gets_unavailable() -> None:
    async with open_kit() as kit:
        await kit.cache.get("a")
        kit.source.gate.clear()
        asked = asyncio.ensure_future(kit.cache.get("b"))
        await asyncio.sleep(0)
        await kit.cache.close()
        with pytest.raises(LedgerUnavailable):
            await asked
        kit.clock.now_s += 2.5
        assert await kit.cache.get("a") == "a 1"


async def test_recall_returns_only_what_needs_no_question() -> None:
    async with open_kit() as kit:
        assert kit.cache.recall("bank") is None
        assert await kit.cache.get("bank") == "bank 1"
        assert await kit.cache.get("nobank") is None
        kit.clock.now_s += 1.9
        assert (kit.cache.recall("bank"), kit.cache.recall("nobank")) == ("bank 1", None)
        kit.clock.now_s += 0.2  # the last third of its time: `get` asks again in the background
        assert kit.cache.recall("bank") is None
        assert await kit.cache.get("bank") == "bank 1"
        await kit.settle()
        assert kit.cache.recall("bank") == "bank 3"
        kit.cache.forget()
        assert kit.cache.recall("bank") is None
        assert kit.source.asked == ["bank", "nobank", "bank"]
