"""What the service did in the last hour, in the memory of one process: a sample each 15 s of what all processes count.

For.      The page of health of the console, where nobody runs a monitoring.  The counters are those of `/metrics`.
Bounds.   One hour of samples, some 30 numbers each.  They begin anew with the process; nothing is stored.
Counters. A sample has what came since the one before.  A counter that went back (its file began anew) counts as none.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from oracle.telemetry.cells import BOUNDS
from oracle.telemetry.metrics import LOOKUP_RESULTS, Snapshot

EVERY_S: Final = 15.0
KEPT: Final = 240  # an hour
_DONE: Final = ("done",)


class Totals(msgspec.Struct, frozen=True):
    """What is counted, since the files of the counters began."""

    at_s: float  # time.monotonic()
    lookups: tuple[float, ...]  # by LOOKUP_RESULTS
    durations: tuple[float, ...]  # lookups by their duration, as BOUNDS
    errors: float
    changes: float
    rows: float
    sealed: float
    over_budget: float


class Sample(msgspec.Struct, frozen=True):
    """What happened in `span_s` seconds that ended at `at` (Unix time)."""

    at: float
    span_s: float
    lookups: tuple[float, ...]
    durations: tuple[float, ...]
    errors: float
    changes: float
    rows: float
    sealed: float
    over_budget: float
    waiting_s: float | None  # how long the oldest event waited to be sealed, at the end; None: not known

    def count(self, *results: str) -> float:
        """Return how many lookups had these results; without any, all."""
        return sum(
            count for name, count in zip(LOOKUP_RESULTS, self.lookups, strict=True) if not results or name in results
        )

    @property
    def hit_ratio(self) -> float | None:
        """The share of lookups with a known answer that the cache had; None: there were none."""
        hits = self.count("hit", "negative_hit")
        known = hits + self.count("directory", "directory_empty")
        return hits / known if known else None


class Samples:
    """The samples of one process."""

    def __init__(
        self,
        look: Callable[[], Snapshot],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._look, self._clock, self._now = look, clock, now
        self._last: Totals | None = None
        self._kept: deque[Sample] = deque(maxlen=KEPT)

    @property
    def kept(self) -> Sequence[Sample]:
        """The samples, the oldest first."""
        return tuple(self._kept)

    def take(self) -> None:
        """Take a sample; the first call only begins."""
        snapshot = self._look()
        totals, last = _add_up(snapshot, self._clock()), self._last
        self._last = totals
        if last is not None:
            waiting = snapshot.read_gauges("audit_waiting_seconds").get("")
            self._kept.append(_subtract(totals, last, self._now(), waiting))

    async def watch(self, *, every_s: float = EVERY_S) -> None:
        """Take samples until cancelled."""
        while True:
            self.take()
            await asyncio.sleep(every_s)


def _add_up(snapshot: Snapshot, at_s: float) -> Totals:
    by_result = snapshot.count_by("lookups_total", "result")
    return Totals(
        at_s=at_s,
        lookups=tuple(by_result[name] for name in LOOKUP_RESULTS),
        durations=tuple(snapshot.count_buckets("lookup_duration_seconds", operation="lookup")),
        errors=snapshot.count("errors_total"),
        changes=snapshot.count("changes_total", result=_DONE),
        rows=snapshot.count("import_rows_applied_total", result=("added", "changed", "removed")),
        sealed=snapshot.count("audit_sealed_total"),
        over_budget=snapshot.count("budget_exceeded_total"),
    )


def _subtract(now: Totals, before: Totals, at: float, waiting_s: float | None) -> Sample:
    def since(name: str) -> float:
        return float(max(0.0, getattr(now, name) - getattr(before, name)))

    def each_since(name: str) -> tuple[float, ...]:
        return tuple(max(0.0, a - b) for a, b in zip(getattr(now, name), getattr(before, name), strict=True))

    return Sample(
        at=at, span_s=now.at_s - before.at_s, lookups=each_since("lookups"), durations=each_since("durations"),
        errors=since("errors"), changes=since("changes"), rows=since("rows"), sealed=since("sealed"),
        over_budget=since("over_budget"), waiting_s=waiting_s,
    )  # fmt: skip


def join(samples: Sequence[Sample]) -> Sample | None:
    """Join samples that follow each other to one; None without any."""
    if not samples:
        return None
    waits = [each.waiting_s for each in samples if each.waiting_s is not None]

    def add(name: str) -> float:
        return float(sum(getattr(each, name) for each in samples))

    def add_each(name: str) -> tuple[float, ...]:
        return tuple(sum(column) for column in zip(*(getattr(each, name) for each in samples), strict=True))

    return Sample(
        at=samples[-1].at, span_s=add("span_s"), lookups=add_each("lookups"), durations=add_each("durations"),
        errors=add("errors"), changes=add("changes"), rows=add("rows"), sealed=add("sealed"),
        over_budget=add("over_budget"), waiting_s=max(waits, default=None),
    )  # fmt: skip


def find_quantile(durations: Sequence[float], share: float) -> float | None:
    """Find the duration in seconds that this share of calls did not exceed, by their buckets; None: there were none.

    As Prometheus does: in a straight line within a bucket.  What took longer than the last bound counts as that bound.
    """
    total = sum(durations)
    if not total:
        return None
    wanted, seen, lower = share * total, 0.0, 0.0
    for count, upper in zip(durations, BOUNDS, strict=False):
        if count and seen + count >= wanted:
            return lower + (upper - lower) * (wanted - seen) / count
        seen, lower = seen + count, upper
    return lower
