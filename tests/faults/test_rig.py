"""The rig, short enough for every run of the tests: each fault at least once, and no promise broken.

`make faults` is the long one, over many seeds; see campaign.py.
"""

from __future__ import annotations

import random
import time
from typing import Final

import chaos
import uvloop
from campaign import Result, report
from checker import check
from rig import figures, running_rig

# The seeds decide when what happens; each of them was seen to pass, and any other has to.
SEED_ONE_BY_ONE: Final = 11
SEED_FAILOVER: Final = 12
CALM_S: Final = 4.0
OVERLAPPING_S: Final = 6.0


async def one_by_one_then_overlapping(seed: int) -> Result:
    async with running_rig(seed) as rig:
        rig.brevity = 0.4
        rig.begin()
        assert await rig.run_calmly(CALM_S), "no time without a failure: is the machine overloaded?"
        await chaos.one_by_one(rig, rig.random.sample(sorted(chaos.SINGLE), len(chaos.SINGLE)), random.Random(seed))
        await chaos.overlapping(rig, rig.random, OVERLAPPING_S)
        history = await rig.finish()
    return Result(history, check(history))


async def one_failover(seed: int) -> Result:
    async with running_rig(seed, sentinel=True) as rig:
        rig.begin()
        await rig.run_calmly(2)
        await chaos.failed_over(rig, rig.random)
        await rig.recovered()
        history = await rig.finish()
    return Result(history, check(history))


def judge(result: Result, began: float) -> None:
    print(f"\n{figures(result.history)}, {time.monotonic() - began:.0f} s\n{report([result])}")
    assert not result.violations, "\n".join(f"seed {result.history.seed}: {v}" for v in result.violations[:10])


def test_every_fault_once_and_several_at_a_time_break_no_promise() -> None:
    began = time.monotonic()
    result = uvloop.run(one_by_one_then_overlapping(SEED_ONE_BY_ONE))
    judge(result, began)
    seen = {
        fault.kind.removesuffix("-before").removesuffix("-after").removesuffix("-late")
        for fault in result.history.faults
    }
    assert seen - {"postgres-commit"} == set(chaos.SINGLE) - {"commit"}
    assert "postgres-commit" in seen


def test_a_failover_to_a_replica_that_lagged_breaks_no_promise() -> None:
    began = time.monotonic()
    result = uvloop.run(one_failover(SEED_FAILOVER))
    judge(result, began)
    assert [fault.kind for fault in result.history.faults] == ["failover"]
