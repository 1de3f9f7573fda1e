"""The rig, short enough for every run of the tests: each fault at least once, and no promise broken.

`make faults` is the long one, over many seeds.  That this one would notice a rule that is broken can be seen by
`PYTHONPATH=tests python tests/faults/campaign.py --seed 13 --short --broken verify` (see broken_worker.py for others).
"""

from __future__ import annotations

import time
from typing import Final

import chaos
import pytest
import uvloop
from campaign import Result, report, run_short, run_short_failover
from rig import figures

# 100 s on an idle machine, 240 s beside ten others: a start of a worker takes seconds there.
pytestmark = pytest.mark.timeout(1200)

# The seeds decide what happens when; any other must pass as well.
SEED: Final = 13
SEED_FAILOVER: Final = 12


def judge(result: Result, began: float) -> None:
    print(f"\n{figures(result.history)}, {time.monotonic() - began:.0f} s\n{report([result])}")
    assert not result.violations, "\n".join(f"seed {result.history.seed}: {v}" for v in result.violations[:10])


def test_every_fault_once_and_several_at_a_time_break_no_promise() -> None:
    began = time.monotonic()
    result = uvloop.run(run_short(SEED))
    judge(result, began)
    assert result.history.calm, "never without a failure, so B was not judged: is the machine overloaded?"
    kinds = {fault.kind for fault in result.history.faults}
    assert {"commit" if kind.startswith("postgres-commit") else kind for kind in kinds} == set(chaos.SINGLE)


def test_a_failover_to_a_replica_that_lagged_breaks_no_promise() -> None:
    began = time.monotonic()
    result = uvloop.run(run_short_failover(SEED_FAILOVER))
    judge(result, began)
    assert [fault.kind for fault in result.history.faults] == ["failover"]
