"""Counters every process keeps in a small mapped file, and the Prometheus page made of all those files.

Files.     `serve` is several processes and one `/metrics`.  Each maps `<run_dir>/metrics/<role>-<index>`:
           8-byte floats, a cell for every possible series.  The process that is scraped maps and adds up all.
Hot path.  `cells[slot] += 1`: no lock, no call, nothing allocated but the float.  A process has one event
           loop and writes its own file alone, so only the reader races, and an aligned 8-byte load is whole.
           `slot()` and `slots()` are for start-up: they turn labels into positions.
Restarts.  Counters belong to role and index, not to the process: a killed process loses nothing it wrote, and the
           next one counts on.  Gauges start again, and are shown for living processes only (by Linux's /proc).
Overlap.   A process locks its file.  One that starts while its predecessor still drains takes
           `<role>-<index>.1`: with two writers a cell could go back, and Prometheus would take that for a
           start from zero.
Upgrades.  The file starts with a fingerprint of the layout.  A file of another layout is never shown, and the next
           process that claims it starts it anew.
Privacy.   Label values come from the closed lists below; all others count as `other`.  No identifier, no FSP.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import re
import time
from bisect import bisect_left
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from itertools import count, product
from math import isnan, nan
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

PREFIX = "moja_oracle_"
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"

PARTY_ID_TYPES = ("MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS")
LOOKUP_RESULTS = (
    "hit",  # the cache held entries
    "negative_hit",  # the cache held that there is no entry
    "directory",  # PostgreSQL held entries
    "directory_empty",  # PostgreSQL held none
    "routed",  # no entry, but a prefix route
    "refused",  # the identifier or the request is not valid
    "unavailable",  # neither could answer, or too many lookups were waiting
)
OPERATIONS = ("lookup", "register", "update", "remove", "bulk")
# bulk: a bulk that failed or was refused as a whole; bulk_item: each item of the others
CHANGES = ("register", "update", "remove", "bulk", "bulk_item", "hint", "hint_removal")
CHANGE_RESULTS = ("done", "unchanged", "refused", "unavailable")
# Why a hint was not stored: the first three are rules, and history has each of them.
HINTS_IGNORED = (
    "held_elsewhere",  # another FSP has registered the alias
    "unknown_fsp",  # the FSP is not known, suspended or closed
    "not_allowed",  # the FSP may not register this kind or currency
    "hub_changes_off",  # the FSP refuses changes through the hub
    "bad_identifier",
    "bad_request",
    "unavailable",
    "failed",  # a defect: the log has it
)
# tag: a copy that no service with our key made; expired: a copy that stayed for too long; marker: a generation marker
# that no service with our key made
CACHE_REFUSALS = ("tag", "expired", "marker", "fence")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
BATCH_STATES = ("validating", "waiting", "applying", "done", "rejected", "cancelled", "failed")
ROWS_READ = ("valid", "invalid")
ROWS_APPLIED = ("added", "changed", "unchanged", "removed", "refused")
JOBS = ("store", "imports", "housekeeping", "sealing", "directory")
SPAN_RESULTS = ("recorded", "exported", "failed")  # recorded and neither of the others: waiting or dropped
ERROR_CODES = (
    *("2001", "2003", "2004", "2005", "3000", "3002", "3003", "3040"),
    *("3100", "3101", "3102", "3103", "3104", "3201", "3204"),
)

# Upper ends, inclusive: a cached lookup takes well under a millisecond, and the hub gives up after seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One row of the table: `labels` lists every possible value, `start` is a gauge's value in a new process.

    counter    only grows; summed over all processes
    histogram  seconds in `BOUNDS`; summed over all processes
    gauge      the last value; a sample for each living process, by `role` and `index`; NaN: never set, not shown
    age        a gauge: the cell holds when something happened (time.monotonic()), the page says how long ago
    """

    kind: Literal["counter", "histogram", "gauge", "age"]
    name: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    start: float = nan


SERIES = (
    Series(
        "counter",
        "lookups_total",
        "Lookups answered, by party identifier type and by source of the answer",
        (("party_id_type", PARTY_ID_TYPES), ("result", LOOKUP_RESULTS)),
    ),
    Series(
        "histogram",
        "lookup_duration_seconds",
        "Time from a request read to its answer written, by operation",
        (("operation", OPERATIONS),),
    ),
    Series(
        "counter",
        "changes_total",
        "Changes requested, by operation and result",
        (("operation", CHANGES), ("result", CHANGE_RESULTS)),
    ),
    Series("counter", "ignored_removals_total", "DELETE requests that did not come from the owner and changed nothing"),
    Series(
        "counter",
        "hints_ignored_total",
        "Entries of other schemes that the hub offered and that were not stored, by reason",
        (("reason", HINTS_IGNORED),),
    ),
    Series("counter", "ignored_calls_summarised_total", "Ignored calls that history counts and does not list"),
    Series("counter", "unknown_fsps_refused_total", "Registrations of too many unknown FSPs in 24 hours"),
    Series("counter", "errors_total", "Error answers by FSPIOP code", (("code", ERROR_CODES),)),
    Series("counter", "cache_batches_total", "Round trips to the cache that carried lookups"),
    Series("counter", "cache_reads_total", "Keys read from the cache"),
    Series("counter", "cache_tokens_total", "Tokens (rights to fill an entry) taken after a miss"),
    Series("counter", "cache_fills_total", "Entries stored after a miss"),
    Series("counter", "cache_fill_lost_total", "Entries not stored because a change or another fill came first"),
    Series(
        "counter",
        "cache_refused_total",
        "Values in the cache that were not believed: their tag is not ours, or they stay for longer than ours",
        (("reason", CACHE_REFUSALS),),
    ),
    Series("counter", "cache_fences_total", "Fences set around changes"),
    Series(
        "counter",
        "cache_generation_bumps_total",
        "Times this process made all older cache entries unreachable",
    ),
    Series("counter", "cache_unreachable_total", "Cache commands that failed or came back too late"),
    Series("gauge", "cache_connected", "1 while the cache is connected, else 0"),
    Series("gauge", "cache_generation", "Generation of cache entries that this process accepts"),
    Series("gauge", "cache_degraded", "1 while lookups bypass the cache or its lease has expired, else 0"),
    Series("age", "lease_age_seconds", "Time since the directory last confirmed the cache generation"),
    Series("gauge", "database_connected", "1 while the database answers, else 0"),
    Series(
        "gauge", "database_takes_changes", "1 while the database takes changes, as far as this process knows, else 0"
    ),
    Series("gauge", "database_repairs_waiting", "Commits without an answer that are not made good yet"),
    Series("gauge", "database_pool_size", "Database connections open"),
    Series("gauge", "database_pool_idle", "Database connections open and idle"),
    Series("counter", "database_batches_total", "Queries that carried lookups"),
    Series("counter", "database_batched_keys_total", "Keys looked up by those queries"),
    Series("counter", "database_errors_total", "Database calls that failed or came back too late"),
    Series("gauge", "http_connections", "Client connections open", start=0.0),
    Series("counter", "http_requests_total", "Requests read, by method", (("method", METHODS),)),
    Series("counter", "audit_sealed_total", "Events appended to the history log"),
    Series("gauge", "audit_waiting_seconds", "How long the oldest unsealed event has been waiting in the database"),
    Series(
        "gauge",
        "audit_directory_differences",
        "Things of the directory that its history does not explain, as the background comparison found them last",
    ),
    Series(
        "gauge",
        "audit_directory_compared_timestamp_seconds",
        "When the background comparison of the directory with its history was last complete (Unix time)",
    ),
    Series("gauge", "job_failing", "1 while a background job cannot work, else 0", (("job", JOBS),)),
    Series(
        "gauge",
        "import_batches",
        "Uploaded files by state, as the jobs process last saw them",
        (("state", BATCH_STATES),),
    ),
    Series("counter", "import_rows_read_total", "Rows of uploaded files read and checked", (("result", ROWS_READ),)),
    Series(
        "counter",
        "import_rows_applied_total",
        "Valid rows of uploaded files, by result",
        (("result", ROWS_APPLIED),),
    ),
    Series("gauge", "event_loop_lag_seconds", "Worst delay of the event loop in the last 15 seconds"),
    Series(
        "counter",
        "spans_total",
        "Trace spans recorded, exported and failed to export",
        (("result", SPAN_RESULTS),),
    ),
)

# Made at scrape time, without cells: name, kind, labels and meaning, for the page and for docs/metrics.md.
DERIVED = (
    (
        "process_cpu_seconds_total",
        "counter",
        ("role", "index"),
        "CPU time of a living process, user and system",
    ),
    ("process_resident_memory_bytes", "gauge", ("role", "index"), "Resident memory of a living process"),
    ("processes", "gauge", ("role",), "Living processes by role"),
    ("info", "gauge", ("version",), "Always 1; the label says which version serves this page"),
)

_SERIES = {series.name: series for series in SERIES}
_BUCKETS = len(BOUNDS) + 1  # the last one is +Inf; the sum follows the buckets
_PID, _STARTED = 0, 1


def _label_values(series: Series) -> Iterator[tuple[str, ...]]:
    return product(*((*allowed, OTHER) for _, allowed in series.labels))


def _positions() -> dict[tuple[str, tuple[str, ...]], int]:
    """Give every label combination of every series its cell; this order is the layout."""
    cells: dict[tuple[str, tuple[str, ...]], int] = {}
    free = _STARTED + 1
    for series in SERIES:
        for values in _label_values(series):
            cells[series.name, values] = free
            free += _BUCKETS + 1 if series.kind == "histogram" else 1
    return cells


_POSITIONS = _positions()
_CELLS = max(_POSITIONS.values()) + _BUCKETS + 1
_HEAD = blake2b(repr((_POSITIONS, BOUNDS, _CELLS)).encode(), digest_size=16).digest()
_SIZE = len(_HEAD) + 8 * _CELLS
_FILE = re.compile(r"(?P<role>[a-z_]+)-(?P<index>\d+(?:\.\d+)?)")


class Slots(dict[str, int]):
    """Positions by one label's value; a value that is not on the list has the position of `other`."""

    def __missing__(self, value: str) -> int:
        return self[OTHER]


class Metrics:
    """The cells of one process.  They stay usable after `close`: a late increment must not fail a request."""

    def __init__(self, memory: mmap.mmap, run_dir: Path | None, role: str, index: str, lock: int | None) -> None:
        self.cells: memoryview[float] = memoryview(memory)[len(_HEAD) :].cast("d")
        self._run_dir, self._role, self._index, self._lock = run_dir, role, index, lock
        for series in SERIES:
            if series.kind in ("gauge", "age"):
                for values in _label_values(series):
                    self.cells[_POSITIONS[series.name, values]] = series.start
        process = _process(os.getpid())
        self.cells[_STARTED] = process.started if process else 0.0
        self.cells[_PID] = float(os.getpid())

    @classmethod
    def open(cls, run_dir: Path | None, role: str, index: int) -> Metrics:
        """Claim the file of this role and index; without a run_dir (tests, CLI) use private memory."""
        if not _FILE.fullmatch(f"{role}-{index}"):
            raise ValueError("A role is lower case letters, an index a number")
        if run_dir is None:
            return cls(mmap.mmap(-1, _SIZE), None, role, str(index), None)
        folder = run_dir / "metrics"
        folder.mkdir(parents=True, exist_ok=True)
        for overlap in count():  # ends: every file that is taken belongs to a living process
            name = f"{index}.{overlap}" if overlap else str(index)
            lock = _claim(folder / f"{role}-{name}")
            if lock is not None:
                return cls(mmap.mmap(lock, _SIZE), run_dir, role, name, lock)
        raise AssertionError

    @staticmethod
    def slot(name: str, **labels: str) -> int:
        """Find the cell of one series; for a histogram the first of its cells, which `observe` takes."""
        allowed = _SERIES[name].labels
        return _POSITIONS[name, tuple(labels[key] if labels[key] in known else OTHER for key, known in allowed)]

    @classmethod
    def slots(cls, name: str, by: str, **labels: str) -> Slots:
        """Find the cells of one series by the values of label `by`: `cells[hits[party_id_type]] += 1`."""
        known = dict(_SERIES[name].labels)[by]
        return Slots({value: cls.slot(name, **{by: value}, **labels) for value in (*known, OTHER)})

    def observe(self, slot: int, seconds: float) -> None:
        cells = self.cells
        cells[slot + bisect_left(BOUNDS, seconds)] += 1
        cells[slot + _BUCKETS] += seconds

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count a rare event: this finds its cell anew every time."""
        self.cells[self.slot(name, **labels)] += amount

    def set(self, name: str, value: float, **labels: str) -> None:
        self.cells[self.slot(name, **labels)] = value

    def mark(self, name: str, at: float | None = None) -> None:
        """Record that the event of an `age` series happened now, or at that reading of time.monotonic()."""
        self.cells[_POSITIONS[name, ()]] = time.monotonic() if at is None else at

    def read_gauge(self, name: str, **labels: str) -> float:
        """Return the highest value of a gauge in the living processes of the run_dir; NaN if none has set it."""
        slot = self.slot(name, **labels)
        values = [reading.cells[slot] for reading in self._list_living()]
        return max((value for value in values if not isnan(value)), default=nan)

    def _list_living(self) -> list[_Reading]:
        if self._run_dir is None:
            return [_Reading(self._role, self._index, self.cells)]
        return [reading for reading in _readings(self._run_dir / "metrics") if reading.process()]

    def render(self) -> bytes:
        """Write the page of all processes of the run_dir, or of this one where there is none."""
        if self._run_dir is None:
            return _page([_Reading(self._role, self._index, self.cells)])
        return render(self._run_dir)

    def close(self) -> None:
        self.cells[_PID] = 0.0
        if self._lock is not None:
            # The map holds a duplicate of this descriptor, so closing alone would leave the file locked.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None


def render(run_dir: Path) -> bytes:
    """Write the Prometheus page of every process that has, or had, its cells under this run_dir."""
    return _page(list(_readings(run_dir / "metrics")))


async def watch_event_loop(metrics: Metrics, every_s: float = 0.5) -> None:
    """Measure forever how late the loop wakes this task; keep the worst of 15 s, for a scrape each 15 s."""
    slot = metrics.slot("event_loop_lag_seconds")
    worst = deque([0.0], maxlen=max(1, round(15 / every_s)))
    while True:
        due = time.monotonic() + every_s
        await asyncio.sleep(every_s)
        worst.append(max(0.0, time.monotonic() - due))
        metrics.cells[slot] = max(worst)


def _claim(path: Path) -> int | None:
    """Open and lock a file of the present layout; None when another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.pread(descriptor, len(_HEAD), 0) != _HEAD or os.fstat(descriptor).st_size < _SIZE:
            _begin(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _begin(descriptor: int) -> None:
    """Write an empty layout: its head last, so that a half-written file is begun anew.

    Zeros are written, not skipped: a hole that finds the disk full kills the process at its first increment.
    The file never shrinks: a reader that has mapped the longer one would be killed likewise.
    """
    os.pwrite(descriptor, bytes(len(_HEAD)), 0)
    os.pwrite(descriptor, bytes(_SIZE - len(_HEAD)), len(_HEAD))
    os.pwrite(descriptor, _HEAD, 0)


@dataclass(frozen=True, slots=True)
class _Process:
    started: float  # clock ticks since boot: tells a process from a later one of the same pid
    cpu_s: float
    resident_bytes: float


def _process(pid: int) -> _Process | None:
    """Read what the kernel shows of a living process; None also without /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  (a plain read of a kernel file)
            # The command name is in parentheses and can hold blanks; all fields after it are plain.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return _Process(float(fields[19]), (int(fields[11]) + int(fields[12])) / ticks, float(int(fields[21]) * page))


@dataclass(frozen=True, slots=True)
class _Reading:
    role: str
    index: str
    cells: memoryview[float]

    def process(self) -> _Process | None:
        process = _process(int(self.cells[_PID])) if self.cells[_PID] else None
        return process if process and process.started == self.cells[_STARTED] else None


def _readings(folder: Path) -> Iterator[_Reading]:
    for path in sorted(folder.glob("*-*")):
        name = _FILE.fullmatch(path.name)
        memory = _map_file(path) if name else None
        if name and memory and memory[: len(_HEAD)] == _HEAD:
            yield _Reading(name["role"], name["index"], memoryview(memory)[len(_HEAD) : _SIZE].cast("d"))


def _map_file(path: Path) -> mmap.mmap | None:
    # Mapped, not read: read() can copy byte by byte and tear a float that is being written.
    with suppress(OSError), path.open("rb") as file:
        if os.fstat(file.fileno()).st_size >= _SIZE:
            return mmap.mmap(file.fileno(), _SIZE, prot=mmap.PROT_READ)
    return None


class _Page(Collector):
    def __init__(self, readings: list[_Reading]) -> None:
        self._readings = readings
        self._alive = [(reading, process) for reading in readings if (process := reading.process())]

    def collect(self) -> Iterable[Metric]:
        draw = {
            "counter": self._counter,
            "histogram": self._histogram,
            "gauge": self._gauge,
            "age": self._gauge,
        }
        for series in SERIES:
            yield draw[series.kind](series)
        yield from self._derive_metrics()

    def _sums(self, series: Series, cell: int = 0) -> Iterator[tuple[tuple[str, ...], float]]:
        for values in _label_values(series):
            slot = _POSITIONS[series.name, values] + cell
            yield values, sum(reading.cells[slot] for reading in self._readings)

    def _counter(self, series: Series) -> Metric:
        family = CounterMetricFamily(PREFIX + series.name, series.help, labels=[key for key, _ in series.labels])
        for values, total in self._sums(series):
            if total or OTHER not in values:
                family.add_metric(values, total)
        return family

    def _histogram(self, series: Series) -> Metric:
        family = HistogramMetricFamily(PREFIX + series.name, series.help, labels=[key for key, _ in series.labels])
        columns: list[Mapping[tuple[str, ...], float]] = [
            dict(self._sums(series, cell)) for cell in range(_BUCKETS + 1)
        ]
        for values in columns[0]:
            *counts, seconds = (column[values] for column in columns)
            if any(counts) or OTHER not in values:
                family.add_metric(values, _cumulate(counts), seconds)
        return family

    def _gauge(self, series: Series) -> Metric:
        names = [key for key, _ in series.labels]
        family = GaugeMetricFamily(PREFIX + series.name, series.help, labels=["role", "index", *names])
        for (reading, _), values in product(self._alive, _label_values(series)):
            value = reading.cells[_POSITIONS[series.name, values]]
            if not isnan(value):
                shown = max(0.0, time.monotonic() - value) if series.kind == "age" else value
                family.add_metric([reading.role, reading.index, *values], shown)
        return family

    def _derive_metrics(self) -> Iterable[Metric]:
        cpu, memory, processes, info = (
            CounterMetricFamily if kind == "counter" else GaugeMetricFamily for _, kind, _, _ in DERIVED
        )
        families = [
            family(PREFIX + name, help_text, labels=labels)
            for family, (name, _, labels, help_text) in zip((cpu, memory, processes, info), DERIVED, strict=True)
        ]
        for reading, process in self._alive:
            families[0].add_metric([reading.role, reading.index], process.cpu_s)
            families[1].add_metric([reading.role, reading.index], process.resident_bytes)
        for role in sorted({reading.role for reading in self._readings}):
            families[2].add_metric([role], sum(reading.role == role for reading, _ in self._alive))
        families[3].add_metric([version("alias-oracle")], 1)
        return families


def _cumulate(counts: list[float]) -> list[tuple[str, float]]:
    """Prometheus buckets hold everything up to their end."""
    ends = [*(repr(bound) for bound in BOUNDS), "+Inf"]
    return [(end, sum(counts[: position + 1])) for position, end in enumerate(ends)]


def _page(readings: list[_Reading]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(readings))
    return generate_latest(registry)
