"""Time for the stores of a test: a busy machine is no failure of theirs.  Holds in a module that imports both fixtures.

Commits, fences and the asking for the generation have limits of a second or so, after which a change is refused.  Where
ten others want the two cores a test meets them by chance, so here they are a minute; a test that is about the limits
says so: @pytest.mark.usefixtures("in_time").
"""

from __future__ import annotations

import pytest

from oracle.store import postgres
from oracle.store.cache import coherence

LONG_S = 60.0


@pytest.fixture
def in_time() -> None:
    """The limits as they are."""


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "in_time" in request.fixturenames:
        return
    for module in (coherence, postgres):
        monkeypatch.setattr(module, "COMMIT_MAX_S", LONG_S)
    monkeypatch.setattr(coherence, "FENCE_MS", 2 * int(LONG_S * 1000))  # longer than a commit may take
    for limit in ("ASK_TIMEOUT_S", "CONNECT_TIMEOUT_S"):
        monkeypatch.setattr(postgres, limit, LONG_S)
    for name in postgres._WRITE_SETTINGS:
        if name.endswith("_timeout"):
            monkeypatch.setitem(postgres._WRITE_SETTINGS, name, str(int(LONG_S * 1000)))
    monkeypatch.setitem(postgres._WATCH_SETTINGS, "statement_timeout", str(int(LONG_S * 1000)))
