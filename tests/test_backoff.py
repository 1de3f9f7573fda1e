"""The pauses between tries, and the pause that a stop ends."""

from __future__ import annotations

import asyncio

import pytest

from oracle.backoff import Backoff, pause


def test_pauses_grow_with_each_failure_and_the_last_one_stays() -> None:
    backoff = Backoff((0.0, 1.0, 4.0))
    assert [backoff.fail() for _ in range(5)] == [0.0, 1.0, 4.0, 4.0, 4.0]


def test_a_success_starts_a_new_row() -> None:
    backoff = Backoff((1.0, 2.0))
    backoff.fail()
    backoff.reset()
    assert [backoff.fail(), backoff.fail()] == [1.0, 2.0]


@pytest.mark.parametrize(("ran_s", "second_pause_s"), [(9.9, 2.0), (10.0, 2.0), (10.1, 1.0)])
def test_a_try_that_ran_for_long_starts_a_new_row(ran_s: float, second_pause_s: float) -> None:
    backoff = Backoff((1.0, 2.0), steady_s=10.0)
    backoff.fail()
    assert backoff.fail(ran_s) == second_pause_s


def test_a_spread_shortens_each_pause_by_a_random_part() -> None:
    backoff = Backoff((2.0,), spread=0.5)
    pauses = {backoff.fail() for _ in range(100)}
    assert len(pauses) > 90
    assert all(1.0 <= each <= 2.0 for each in pauses)


async def test_a_pause_ends_after_its_time_or_with_the_stop() -> None:
    stop = asyncio.Event()
    assert not await pause(0.01, stop)
    waiting = asyncio.create_task(pause(3600, stop))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting
