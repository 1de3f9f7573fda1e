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
    """One kind of call in one run; percentiles in ms."""

    requests: int
    failures: int
    percentiles: Mapping[int, float]


class Limits(NamedTuple):
    failures_share: float = 0.0
    ratios: Mapping[int, float] = {50: 1.5, 95: 1.75, 99: 2.0}


class Verdict(NamedTuple):
    name: str
    what: str
    measured: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.limit

    def __str__(self) -> str:
        sign, word = ("<=", "ok") if self.holds else (">", "FAIL")
        return f"{word:5}{self.name}: {self.what} {self.measured:g} {sign} {self.limit:g}"


def read_csv(file: Path) -> dict[str, Row]:
    """Read locust's statistics file, by method and name; the last row is the total."""
    with file.open(encoding="utf-8", newline="") as table:
        return {_read_name(row): _read_row(row) for row in csv.DictReader(table)}


def _read_name(row: Mapping[str, str]) -> str:
    return " ".join(part for part in (row["Type"], row["Name"]) if part)


def _read_row(row: Mapping[str, str]) -> Row:
    percentiles = {at: float(row[f"{at}%"]) for at in Limits().ratios if row[f"{at}%"] not in {"", "N/A"}}
    return Row(int(row["Request Count"]), int(row["Failure Count"]), percentiles)


def judge(run: Mapping[str, Row], baseline: Mapping[str, Row], limits: Limits) -> Iterator[Verdict]:
    """Judge a run.  With an empty baseline only failures count; a run without requests has failed."""
    total = run.get(TOTAL)
    yield Verdict(TOTAL, "runs without a request", float(total is None or total.requests == 0), 0)
    for name, row in run.items():
        if row.requests:
            yield Verdict(name, "share of failures", row.failures / row.requests, limits.failures_share)
        earlier = baseline.get(name)
        if earlier is not None and min(row.requests, earlier.requests) >= REQUESTS_MIN:
            yield from _judge_percentiles(name, row, earlier, limits)


def _judge_percentiles(name: str, row: Row, earlier: Row, limits: Limits) -> Iterator[Verdict]:
    for at, ratio in limits.ratios.items():
        if at in row.percentiles and at in earlier.percentiles:
            limit = earlier.percentiles[at] * ratio + RESOLUTION_MS
            yield Verdict(name, f"p{at} ms against {earlier.percentiles[at]:g} before", row.percentiles[at], limit)
