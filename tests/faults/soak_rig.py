"""The rig in its short form: each fault at least once, and no promise broken.

`make faults` runs it first, and then the long form, over many seeds and with failovers of Redis and PostgreSQL.  That
this one would notice a rule that is broken can be seen by
`PYTHONPATH=tests python tests/faults/campaign.py --seed 13 --short --broken verify` (see broken_worker.py for others).
"""

from __future__ import annotations

import time
from typing import Final

import chaos
import pytest
import uvloop
from campaign import report, run_short
from rig import count_joined, figures

# 100 s on an idle machine, 240 s beside ten others: a start of a worker takes seconds there.
pytestmark = pytest.mark.timeout(1200)

# It decides what happens when; any other must pass as well.
SEED: Final = 13


def test_every_fault_once_and_several_at_a_time_break_no_promise() -> None:
    began = time.monotonic()
    result = uvloop.run(run_short(SEED))
    print(f"\n{figures(result.history)}, {time.monotonic() - began:.0f} s\n{report([result])}")
    assert not result.violations, "\n".join(f"seed {SEED}: {v}" for v in result.violations[:10])
    assert result.history.calm, "never without a failure, so B was not judged: is the machine overloaded?"
    assert count_joined(result.history.events) > 0, "no registrations shared a transaction"
    kinds = {fault.kind for fault in result.history.faults}
    assert {"commit" if kind.startswith("postgres-commit") else kind for kind in kinds} == set(chaos.SINGLE)
