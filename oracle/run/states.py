"""Logs how PostgreSQL and Redis change, as the workers report them: one line for all workers together.

Down.      The first worker that cannot use a server makes it down; it is ok when all workers can use it again.
Settled.   A server that stops gives several reasons within a second: the connection ended, it is stopping, nothing
           listens.  So a reason must last for SETTLE_S.  Reasons that change all the time are logged after LATEST_S.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from oracle.telemetry import logs

GOOD: Final = "ok"
LOOK_S: Final = 0.5  # as often as a worker reports
SETTLE_S: Final = 1.4
LATEST_S: Final = 5.0

log = logs.Log(__name__)


class States:
    """What all workers report; `look` is called every LOOK_S."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._subjects: dict[str, _Subject] = {}

    def look(self, reports: Sequence[Mapping[str, str]]) -> None:
        """Take the last report of each worker."""
        for name in dict.fromkeys(name for report in reports for name in report):
            bad = [report[name] for report in reports if report.get(name, GOOD) != GOOD]
            subject = self._subjects.setdefault(name, _Subject(name))
            subject.take(bad[0] if bad else GOOD, self._clock(), workers=len(bad))


class _Subject:
    def __init__(self, name: str) -> None:
        self._condition = logs.Condition(log, name)
        self._logged = self._seen = GOOD
        self._seen_at = self._left_at = 0.0

    def take(self, state: str, now: float, *, workers: int) -> None:
        if self._seen == self._logged:
            self._left_at = now
        if state != self._seen:
            self._seen, self._seen_at = state, now
        if now - self._seen_at < SETTLE_S and now - self._left_at < LATEST_S:
            return
        is_logged = self._condition.now(state, workers=workers) if workers else self._condition.now(state)
        if is_logged:
            self._logged = state
