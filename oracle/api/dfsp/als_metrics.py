"""Counts under the names of ALS's metrics, by which its dashboards go (section 11)."""

from __future__ import annotations

import time
from typing import Final

from oracle.api.dfsp.asked import Asked
from oracle.api.dfsp.targets import Operation
from oracle.calls import Answer, Call, Caller
from oracle.telemetry.cells import observe
from oracle.telemetry.metrics import Metrics

_BAD_STATUS: Final = 400
# The operation -> the name of its time until the answer, and of its time until all is done.
_NAMES: Final[dict[Operation, tuple[str, str]]] = {
    "get_participant": ("ing_getParticipantsByTypeAndID", "getParticipantsByTypeAndID"),
    "post_participant": ("ing_postParticipantsbyTypeAndID", "postParticipants"),
    "put_participant": ("ing_putParticipantsByTypeAndID", "putParticipantsByTypeAndID"),
    "delete_participant": ("ing_deleteParticipantsByTypeAndID", "deleteParticipants"),
    "post_participants": ("ing_postParticipantsBatch", "postParticipantsBatch"),
    "put_participant_error": ("ing_putParticipantsErrorByTypeAndID", "putParticipantsErrorByTypeAndID"),
    "get_party": ("ing_getPartiesByTypeAndID", "getPartiesByTypeAndID"),
    "put_party": ("ing_putPartiesByTypeAndID", "putPartiesByTypeAndID"),
    "put_party_error": ("ing_putPartiesErrorByTypeAndID", "putPartiesErrorByTypeAndID"),
}


class Outcome:
    """A histogram for each of success and failure."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._cells = metrics.cells
        self._success = metrics.slot(name, success="true")
        self._failure = metrics.slot(name, success="false")

    def count(self, started: float, *, success: bool) -> None:
        """`started`: by time.monotonic()."""
        observe(self._cells, self._success if success else self._failure, time.monotonic() - started)


class AlsMetrics:
    """One per process.  A request that ends in an error callback of ours was no success."""

    def __init__(self, metrics: Metrics) -> None:
        self.answers = {operation: Outcome(metrics, name) for operation, (name, _) in _NAMES.items()}
        self._works = {operation: Outcome(metrics, name) for operation, (_, name) in _NAMES.items()}
        self.resets = Outcome(metrics, "ing_ResetParticipantEndpointCache")
        self._good: set[bytes] = set()  # names of the requests at work that had no error yet

    def begin(self, asked: Asked) -> None:
        self._good.add(asked.name)

    def note_error(self, asked: Asked) -> None:
        """Note that the source gets an error callback."""
        self._good.discard(asked.name)

    def end(self, operation: Operation, asked: Asked, started: float) -> None:
        good = self._good
        success = asked.name in good
        good.discard(asked.name)
        self._works[operation].count(started, success=success)


class MeasuredCalls:
    """Implements Caller: calls of FSPs, each of them counted."""

    def __init__(self, calls: Caller, metrics: Metrics) -> None:
        self._calls = calls
        self._outcome = Outcome(metrics, "egress_sendRequestToParticipant")

    async def call(self, call: Call, *, timeout_s: float | None = None) -> Answer:
        """See `Caller`.  Raises CallFailed."""
        started, success = time.monotonic(), False
        try:
            answer = await self._calls.call(call, timeout_s=timeout_s)
            success = answer.status < _BAD_STATUS
        finally:
            self._outcome.count(started, success=success)
        return answer

    async def close(self) -> None:
        """Nothing: its maker closes the calls."""
