"""Records calls of ALS that changed nothing, without letting them fill the directory.

The hub listener has no authentication.  So everybody who reaches it can send removals of unregistered aliases forever.
Each FSP has its own allowance, so that none can use up that of another one.  Names that the directory does not know
share one: else each invented name would bring a new allowance.  A registration makes an invented name a provisional
FSP, so all provisional FSPs together have no more than a few allowances.  Calls beyond it are counted, and each minute
one event says how many there were.  A call is answered before or after that in the same way (docs/als-contract.md
section 5).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from oracle import errors
from oracle.errors import DirectoryUnavailable
from oracle.identifiers import BadIdentifier
from oracle.store.base import Context
from oracle.store.changes import Changes
from oracle.store.diagnosis import explain
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

log = logs.Log(__name__)

HOUR_S: Final = 3600.0
SUMMARY_S: Final = 60.0
UNKNOWN: Final = "unknown FSPs"  # with a space, which no FSP id has
PROVISIONAL: Final = "provisional FSPs"
PROVISIONAL_SHARES: Final = 10  # allowances of all provisional FSPs together
CLOSE_S: Final = 5.0


class Allowance:
    """So many calls at once, and as many again in an hour."""

    def __init__(self, hour_max: int, clock: Callable[[], float]) -> None:
        self._hour_max = hour_max
        self._clock = clock
        self._left, self._at = float(hour_max), clock()

    def take(self) -> bool:
        now = self._clock()
        self._left = min(self._hour_max, self._left + (now - self._at) * self._hour_max / HOUR_S)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class IgnoredCalls:
    """The ignored calls of one process."""

    def __init__(
        self,
        changes: Changes,
        metrics: Metrics,
        *,
        hour_max: int,
        summary_s: float = SUMMARY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changes = changes
        self._metrics = metrics
        self._hour_max = hour_max
        self._summary_s = summary_s
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}  # of FSPs that the directory knows, and of UNKNOWN
        self._confirmed: set[str] = set()  # FSPs that an operator made or activated
        self._provisional = Allowance(PROVISIONAL_SHARES * hour_max, clock)  # of all provisional FSPs together
        self._lines = Allowance(hour_max, clock)
        self._counted: Counter[tuple[str, str]] = Counter()  # by actor and reason
        self._summary: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def record(self, context: Context, party_id_type: str, identifier: str, sub_id: str | None = None) -> None:
        """Record the call, or count it.  Raises DirectoryUnavailable."""
        actor = context.actor
        status = None
        if actor not in self._confirmed:
            status = await self._changes.read_fsp_status(context, actor)
            if status is None:
                actor = UNKNOWN
            elif status != "provisional":
                self._confirmed.add(actor)
        own = self._allowances.setdefault(actor, Allowance(self._hour_max, self._clock))
        if own.take() and (status != "provisional" or self._provisional.take()):
            await self._changes.record_ignored(context, party_id_type, identifier, sub_id)
            return
        # One event a minute for all provisional FSPs, not one for each.
        self._counted[PROVISIONAL if status == "provisional" else actor, context.reason] += 1
        self._metrics.add("ignored_calls_summarised_total")
        if self._summary is None:
            self._summary = asyncio.create_task(self._summarise_later())

    def permits_line(self) -> bool:
        """Whether the log can have one more line about a call that history cannot record."""
        return self._lines.take()

    async def close(self) -> None:
        """Record what is only counted yet."""
        self._closing.set()
        try:
            async with asyncio.timeout(CLOSE_S):
                if self._summary is not None:
                    await self._summary  # to its end: if it were cut off after a commit, that would be recorded twice
                await self._summarise()
        except (DirectoryUnavailable, TimeoutError) as exc:
            calls = self._counted.total()
            log.warning("History has no record of some ignored calls of the hub", reason=explain(exc), calls=calls)

    async def _summarise_later(self) -> None:
        condition = logs.Condition(log, "The record of ignored calls of the hub", good="is complete", quiet_s=0)
        while self._counted and not await self._closes_within(self._summary_s):
            try:
                await self._summarise()
            except DirectoryUnavailable as exc:
                condition.now("waits", reason=explain(exc))
            else:
                condition.now("is complete")
        self._summary = None

    async def _closes_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        return self._closing.is_set()

    async def _summarise(self) -> None:
        for (actor, reason), calls in list(self._counted.items()):
            text = f"{calls} further calls like this in {self._summary_s:.0f} s, not listed one by one: {reason}"
            context = Context(channel="self-heal", actor=actor, role="fsp", reason=text)
            await self._changes.record_ignored(context, None, None)
            self._counted[actor, reason] -= calls  # more can have come meanwhile
        self._counted = +self._counted


def describe_ignored(error: BaseException) -> str:
    """Describe by one of metrics.HINTS_IGNORED why a hint was not stored."""
    return next((reason for kind, reason in _IGNORED.items() if isinstance(error, kind)), "failed")


_IGNORED: Final[dict[type[Exception], str]] = {
    errors.AlreadyRegistered: "held_elsewhere",
    errors.UnknownFsp: "unknown_fsp",
    errors.HubChangesOff: "hub_changes_off",
    errors.NotAllowed: "not_allowed",
    errors.Unavailable: "unavailable",
    BadIdentifier: "bad_identifier",
    errors.OracleError: "bad_request",
}
