"""Time for the stores of a test: a busy machine is no failure of theirs.  Holds in a module that imports both fixtures.

Commits, fences and the asking for the generation have limits of a second or so, after which a change is refused.  Where
ten others want the two cores a test meets them by chance, so here they are a minute; a test that is about the limits
says so: @pytest.mark.usefixtures("in_time").
"""

from __future__ import annotations

from typing import Final

import pytest

from oracle.store.cache import coherence
from oracle.store.lanes import PostgresLimits

LONG_S: Final = 60.0
PATIENT: Final = PostgresLimits(connect_s=LONG_S, ask_s=LONG_S, commit_s=LONG_S)


@pytest.fixture
def in_time() -> None:
    """The limits as they are."""


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "in_time" in request.fixturenames:
        return
    monkeypatch.setattr(coherence, "COMMIT_MAX_S", LONG_S)
    monkeypatch.setattr(coherence, "FENCE_MS", 2 * int(LONG_S * 1000))  # longer than a commit may take
