"""Decides if a run passes: no failures, and percentiles within a ratio of an earlier run's on the same machine.

Limits are relative, because an absolute time depends more on the machine than on the program.  locust counts in whole
milliseconds, so each limit is one millisecond higher: 2 ms against 1 ms can be less than twice as slow.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

RESOLUTION_MS: Final = 1.0
# With fewer calls, the 99th percentile is one of the slowest few, which is chance.
REQUESTS_MIN: Final = 200
TOTAL: Final = "Aggregated"


class Row(NamedTuple):
    """One kind of call in one run; percentiles in ms, requests a second."""

    requests: int
    failures: int
    percentiles: Mapping[int, float]
    rate: float = 0.0


class Limits(NamedTuple):
    failures_share: float = 0.0
    ratios: Mapping[int, float] = {50: 1.5, 95: 1.75, 99: 2.0}


class Verdict(NamedTuple):
    """One limit: `what` is measured for the calls `name`; `earlier` is the figure of the baseline, if it has one."""

    name: str
    what: str
    measured: float
    limit: float
    earlier: float | None = None

    @property
    def holds(self) -> bool:
        return self.measured <= self.limit

    def __str__(self) -> str:
        word = "ok" if self.holds else "FAIL"
        if self.earlier is not None:
            text = f"{self.what} {self.measured:g} ms (limit {self.limit:g} ms; {self.earlier:g} ms in the baseline)"
        elif self.what == FAILURES:
            text = f"{self.measured:.2%} of the answers were wrong or failed (limit {self.limit:.2%})"
        else:
            text = "requests were answered" if self.holds else "no request was answered"
        return f"{word:5}{name_calls(self.name)}: {text}"


FAILURES: Final = "failures"
NO_REQUEST: Final = "no request"
_CALLS: Final = {
    TOTAL: "all calls",
    "GET just registered": "lookups of an alias just registered",
    "POST one": "registrations of one alias",
}


def name_calls(name: str) -> str:
    """Return the words for a row of locust: `lookups of MSISDN` for `GET MSISDN`."""
    method, _, what = name.partition(" ")
    if name in _CALLS or method not in {"GET", "POST"}:
        return _CALLS.get(name, name)
    return f"lookups of {what}" if method == "GET" else f"registrations, {what}"


def read_csv(file: Path) -> dict[str, Row]:
    """Read locust's statistics file, by method and name; the last row is the total."""
    with file.open(encoding="utf-8", newline="") as table:
        return {_read_name(row): _read_row(row) for row in csv.DictReader(table)}


def _read_name(row: Mapping[str, str]) -> str:
    return " ".join(part for part in (row["Type"], row["Name"]) if part)


def _read_row(row: Mapping[str, str]) -> Row:
    percentiles = {at: float(row[f"{at}%"]) for at in Limits().ratios if row[f"{at}%"] not in {"", "N/A"}}
    return Row(int(row["Request Count"]), int(row["Failure Count"]), percentiles, float(row.get("Requests/s") or 0.0))


def judge(run: Mapping[str, Row], baseline: Mapping[str, Row], limits: Limits) -> Iterator[Verdict]:
    """Judge a run.  With an empty baseline only failures count; a run without requests has failed."""
    total = run.get(TOTAL)
    yield Verdict(TOTAL, NO_REQUEST, float(total is None or total.requests == 0), 0)
    for name, row in run.items():
        if row.requests:
            yield Verdict(name, FAILURES, row.failures / row.requests, limits.failures_share)
        earlier = baseline.get(name)
        if earlier is not None and min(row.requests, earlier.requests) >= REQUESTS_MIN:
            yield from _judge_percentiles(name, row, earlier, limits)


def _judge_percentiles(name: str, row: Row, earlier: Row, limits: Limits) -> Iterator[Verdict]:
    for at, ratio in limits.ratios.items():
        if at in row.percentiles and at in earlier.percentiles:
            limit = earlier.percentiles[at] * ratio + RESOLUTION_MS
            yield Verdict(name, f"p{at}", row.percentiles[at], limit, earlier.percentiles[at])


# An open model, at a fixed rate -------------------------------------------------------------------------------

# What Mojaloop's operators expect of an oracle: ms by percentile, with no lookup dropped.
OPEN_LIMITS_MS: Final[Mapping[int, float]] = {95: 10.0, 99: 50.0}


def find_broken_limits(total: Row, dropped: int, limits_ms: Mapping[int, float] = OPEN_LIMITS_MS) -> Iterator[str]:
    """Yield each limit of an open model that a run has broken, with its figure."""
    for at, limit in limits_ms.items():
        if total.percentiles.get(at, 0.0) >= limit:
            yield f"p{at} {total.percentiles[at]:g} ms (limit {limit:g} ms)"
    if dropped:
        yield f"{dropped:,} lookups dropped, because all connections waited (limit 0)"


# The comparison with an earlier run, in words -----------------------------------------------------------------


class Comparison(NamedTuple):
    """`made` is false if nothing was compared; `text` gives the result or the reason."""

    made: bool
    slower: bool
    text: str


def compare(
    run: Mapping[str, Row], baseline: Mapping[str, Row] | None, limits: Limits, disturbance: str = ""
) -> Comparison:
    """Compare the percentiles of a run with those of a baseline; None: no baseline was given.

    `disturbance`: why the times of one of the two mean nothing, for example other programs on the machine.
    """
    total = run.get(TOTAL)
    verdicts = [verdict for verdict in judge(run, baseline or {}, limits) if verdict.earlier is not None]
    broken = [verdict for verdict in verdicts if not verdict.holds]
    if total is None or total.requests == 0:
        return _refuse("no request was answered")
    if baseline is None:
        return _refuse("no baseline was given (--baseline DIR)")
    if not baseline:
        return _refuse("the baseline does not have this profile")
    if disturbance:
        return _refuse(disturbance)
    if not verdicts:
        earlier = baseline.get(TOTAL, Row(0, 0, {}))
        return _refuse(
            f"{total.requests:,} requests here and {earlier.requests:,} in the baseline are too few"
            f" ({REQUESTS_MIN} of one kind are needed): use a longer --duration"
        )
    if broken:
        found = "; ".join(str(verdict).removeprefix("FAIL ") for verdict in broken)
        return Comparison(made=True, slower=True, text=f"slower than the baseline: {found}")
    judged = {verdict.name for verdict in verdicts}
    few = ", ".join(name_calls(name) for name, row in run.items() if row.requests and name not in judged)
    rest = f"; too few requests to compare: {few}" if few else ""
    text = f"not slower than the baseline: {len(verdicts)} percentiles compared{rest}"
    return Comparison(made=True, slower=False, text=text)


def _refuse(reason: str) -> Comparison:
    return Comparison(made=False, slower=False, text=f"not compared: {reason}")
