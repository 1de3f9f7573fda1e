"""Long limits for the stores of a test, so that a busy machine makes no test fail.

Commits, fences and questions for the generation have limits of a second or so, after which a change is refused.  Where
ten others want the two cores, a test exceeds them by chance; so here they are a minute.  A test of the limits
themselves asks for them: @pytest.mark.usefixtures("in_time").
"""

from __future__ import annotations

from typing import Final

import pytest

from oracle.store.cache.coherence import Timing
from oracle.store.lanes import PostgresLimits

LONG_S: Final = 60.0
PATIENT: Final = PostgresLimits(connect_s=LONG_S, ask_s=LONG_S, commit_s=LONG_S)
PATIENT_TIMING: Final = Timing(commit_max_s=LONG_S, fence_ms=2 * int(LONG_S * 1000))


@pytest.fixture
def in_time() -> None:
    """The store of this test has the limits of production."""
