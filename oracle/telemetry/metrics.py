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
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
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

from oracle.telemetry.cells import BOUNDS, BUCKETS, observe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
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
    "over_budget",  # the FSP has used up its budget, and budget_mode is enforce
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
# The classes of FSPs of `budgets`; unknown: the sources that the directory does not know.
FSP_CLASSES = ("A", "B", "C", "D", "E", "unknown")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
BATCH_STATES = ("validating", "waiting", "applying", "done", "rejected", "cancelled", "failed")
ROWS_READ = ("valid", "invalid")
ROWS_APPLIED = ("added", "changed", "unchanged", "removed", "refused")
JOBS = ("store", "imports", "housekeeping", "sealing", "directory", "registration", "verification")
PROMISES_TOLD = ("promise", "timeout")
SPAN_RESULTS = ("recorded", "exported", "failed")  # recorded and neither of the others: waiting or dropped
# answer and error: made by the hub; forward: a message of one FSP to another
CALLBACKS = ("answer", "error", "forward")
CALLBACK_RESULTS = (
    "delivered",
    "refused",  # the FSP answered with another status than 2xx
    "no_answer",  # it did not answer, or not in time, or could not be reached
    "no_endpoint",  # it has no endpoint of that type, or one that cannot be called
    "failed",  # its endpoints could not be read, or a defect: the log has it
)
# Calls to DFSPs, proxies, a ledger and other oracles: the class of the answer's status, or why there is no answer.
CALL_RESULTS = (
    *("2xx", "3xx", "4xx", "5xx"),
    "bad_url",  # the URL or a header cannot be sent
    "busy",  # the host, or this process, has too many calls under way, or the host failed too often
    "unreachable",  # no connection
    "timed_out",
    "broken",  # the connection ended, or the answer was not HTTP or too large
    "abandoned",  # nobody wanted the answer any more
)
TLS_RESULTS = (
    "done",
    "no_tls",  # the client sent something else, for example plain HTTP
    "old_version",  # the client knows no TLS 1.2
    "no_shared_cipher",
    "timed_out",
    "closed",  # by the client
    "crowded",  # too many clients were at it
    "refused_by_client",  # the client does not accept our certificate
    "no_certificate",  # the client showed none, and must
    "certificate_expired",
    "certificate_not_yet_valid",
    "certificate_of_unknown_authority",
    "certificate_refused",  # for another reason
)
ERROR_CODES = (
    *("2001", "2003", "2004", "2005", "3000", "3002", "3003", "3040"),
    *("3100", "3101", "3102", "3103", "3104", "3201", "3204"),
)


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
    Series(
        "counter", "errors_total", "Error answers by FSPIOP code, without those of budgets", (("code", ERROR_CODES),)
    ),
    Series(
        "counter",
        "party_answers_withheld_total",
        "Answers of FSPs about parties that were not forwarded, because the payer had an error already",
    ),
    Series(
        "counter",
        "promises_told_total",
        "Requests that ended with an error because their worker was killed (promise) or no payee answered (timeout)",
        (("why", PROMISES_TOLD),),
    ),
    Series(
        "counter",
        "budget_tokens_total",
        "Tokens that FSPs have taken by lookups and conflicts, by class of the FSP",
        (("fsp_class", FSP_CLASSES),),
    ),
    Series(
        "counter",
        "budget_exceeded_total",
        "Questions of FSPs whose bucket was empty: refused if budget_mode is enforce, else answered",
        (("fsp_class", FSP_CLASSES),),
    ),
    Series(
        "gauge", "budget_empty", "FSPs whose bucket is empty, as this process sees it", (("fsp_class", FSP_CLASSES),)
    ),
    Series("gauge", "budget_corrected", "1 while budgets are corrected through Redis, else 0"),
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
    Series("gauge", "cache_memory_bytes", "Memory that Redis uses, the sum of all its servers"),
    Series("gauge", "cache_memory_max_bytes", "Memory that Redis can use, the sum of all its servers; 0: no limit"),
    Series("gauge", "cache_keys", "Keys in Redis, the sum of all its servers"),
    Series("gauge", "cache_evicted_keys", "Keys that Redis removed for lack of memory since it started"),
    Series("gauge", "cache_degraded", "1 while lookups bypass the cache or its lease has expired, else 0"),
    Series("age", "lease_age_seconds", "Time since the directory last confirmed the cache generation"),
    Series("gauge", "database_connected", "1 while the database answers, else 0"),
    Series(
        "gauge", "database_takes_changes", "1 while the database takes changes, as far as this process knows, else 0"
    ),
    Series("gauge", "database_repairs_waiting", "Commits without an answer that are not made good yet"),
    Series("gauge", "database_pool_size", "Database connections open"),
    Series("gauge", "database_pool_idle", "Database connections open and idle"),
    Series("gauge", "database_bytes", "Size of the database"),
    Series("gauge", "database_connections_used", "Connections that the PostgreSQL server has, of all its clients"),
    Series("gauge", "database_connections_max", "Connections that the PostgreSQL server can have"),
    Series("gauge", "directory_aliases", "Aliases in the directory, as PostgreSQL estimates"),
    Series("counter", "database_batches_total", "Queries that carried lookups"),
    Series("counter", "database_batched_keys_total", "Keys looked up by those queries"),
    Series("counter", "database_errors_total", "Database calls that failed or came back too late"),
    Series("gauge", "http_connections", "Client connections open", start=0.0),
    Series("counter", "http_requests_total", "Requests read, by method", (("method", METHODS),)),
    Series(
        "counter",
        "tls_handshakes_total",
        "TLS handshakes of clients, by result: done, or the reason why it failed",
        (("result", TLS_RESULTS),),
    ),
    Series(
        "gauge",
        "tls_certificate_expires_timestamp_seconds",
        "When the certificate of this process's listener expires, in seconds since 1970",
    ),
    Series(
        "gauge",
        "calls_certificate_expires_timestamp_seconds",
        "When the certificate that this process shows in its calls expires, in seconds since 1970",
    ),
    Series(
        "gauge", "issuers_away", "Identity providers whose keys could not be fetched at the last try, of those in use"
    ),
    Series("counter", "audit_sealed_total", "Events appended to the history log"),
    Series("gauge", "audit_sealing", "1 while this process seals history, else 0"),
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
    Series(
        "gauge",
        "als_registered",
        "1 while this oracle is registered at the ALS of the hub as wanted, else 0; as the last complete check found",
        (("party_id_type", PARTY_ID_TYPES),),
    ),
    Series(
        "gauge",
        "als_checked_timestamp_seconds",
        "When the registration at the ALS of the hub was last checked completely (Unix time)",
    ),
    Series("gauge", "job_failing", "1 while a background job cannot work, else 0", (("job", JOBS),)),
    Series(
        "gauge",
        "import_batches",
        "Uploaded files by state, as the jobs process last saw them",
        (("state", BATCH_STATES),),
    ),
    Series("gauge", "import_stalled_seconds", "How long the file that advanced least lately has not advanced"),
    Series("counter", "import_rows_read_total", "Rows of uploaded files read and checked", (("result", ROWS_READ),)),
    Series(
        "counter",
        "import_rows_applied_total",
        "Valid rows of uploaded files, by result",
        (("result", ROWS_APPLIED),),
    ),
    Series(
        "counter",
        "calls_total",
        "Calls made to DFSPs, proxies, a ledger and other oracles, by result",
        (("result", CALL_RESULTS),),
    ),
    Series("histogram", "call_duration_seconds", "Time from the start of a call to its answer or its failure"),
    Series("gauge", "calls_connections", "Connections open for calls"),
    Series("gauge", "calls_under_way", "Calls that wait for a connection or for their answer"),
    Series("gauge", "calls_hosts_blocked", "Hosts that are not called, because too many calls in a row failed"),
    Series("gauge", "compiled", "1 if the process runs the lookup path compiled, else 0"),
    Series("gauge", "event_loop_lag_seconds", "Worst delay of the event loop in the last 15 seconds"),
    Series(
        "counter",
        "spans_total",
        "Trace spans recorded, exported and failed to export",
        (("result", SPAN_RESULTS),),
    ),
    Series(
        "counter",
        "callbacks_total",
        "Messages to FSPs, by what they are and by what became of them",
        (("kind", CALLBACKS), ("result", CALLBACK_RESULTS)),
    ),
)

# Under the names that dashboards of ALS have.  A page shows them where account lookup workers run.
# ing_…: until the answer to the call; without it: until all is done; egress_…: one call, or one lookup.
ALS_PREFIX = "moja_als_"
ALS_SERVICE = "account-lookup-service"
ALS_NAMES = {
    "ing_getParticipantsByTypeAndID": "GET /participants/{Type}/{ID}, until its answer",
    "ing_postParticipantsbyTypeAndID": "POST /participants/{Type}/{ID}, until its answer",
    "ing_putParticipantsByTypeAndID": "PUT /participants/{Type}/{ID}, until its answer",
    "ing_deleteParticipantsByTypeAndID": "DELETE /participants/{Type}/{ID}, until its answer",
    "ing_postParticipantsBatch": "POST /participants, until its answer",
    "ing_putParticipantsErrorByTypeAndID": "PUT /participants/{Type}/{ID}/error, until its answer",
    "ing_getPartiesByTypeAndID": "GET /parties/{Type}/{ID}, until its answer",
    "ing_putPartiesByTypeAndID": "PUT /parties/{Type}/{ID}, until its answer",
    "ing_putPartiesErrorByTypeAndID": "PUT /parties/{Type}/{ID}/error, until its answer",
    "ing_ResetParticipantEndpointCache": "DELETE /endpointcache",
    "getParticipantsByTypeAndID": "GET /participants/{Type}/{ID}, with its callback",
    "postParticipants": "POST /participants/{Type}/{ID}, with its callback",
    "putParticipantsByTypeAndID": "PUT /participants/{Type}/{ID}, with its callback",
    "deleteParticipants": "DELETE /participants/{Type}/{ID}, with its callback",
    "postParticipantsBatch": "POST /participants, with its callback",
    "putParticipantsErrorByTypeAndID": "PUT /participants/{Type}/{ID}/error, forwarded",
    "getPartiesByTypeAndID": "GET /parties/{Type}/{ID}, forwarded",
    "putPartiesByTypeAndID": "PUT /parties/{Type}/{ID}, forwarded",
    "putPartiesErrorByTypeAndID": "PUT /parties/{Type}/{ID}/error, forwarded",
    "egress_oracleRequest": "A lookup in the directory, or a call of an oracle elsewhere",
    "egress_sendRequestToParticipant": "A call of an FSP",
}
SUCCESS = ("true", "false")
ALS_SERIES = tuple(Series("histogram", name, text, (("success", SUCCESS),)) for name, text in ALS_NAMES.items())

# Made at scrape time, without cells: name, kind, labels and meaning, for the page and for docs/metrics.md.
# Dashboards of Mojaloop tell the processes of services apart by `serviceName`.
SERVICE = "alias-oracle"
_OF_PROCESS = ("role", "index", "serviceName")
DERIVED = (
    ("process_cpu_seconds_total", "counter", _OF_PROCESS, "CPU time of a living process, user and system"),
    ("process_resident_memory_bytes", "gauge", _OF_PROCESS, "Resident memory of a living process"),
    ("process_start_time_seconds", "gauge", _OF_PROCESS, "When a living process started (Unix time)"),
    ("processes", "gauge", ("role",), "Living processes by role"),
    ("info", "gauge", ("version",), "Always 1; the label says which version serves this page"),
)

_SERIES = {series.name: series for series in (*SERIES, *ALS_SERIES)}
_PID, _STARTED = 0, 1


def _label_values(series: Series) -> Iterator[tuple[str, ...]]:
    return product(*((*allowed, OTHER) for _, allowed in series.labels))


def _positions() -> dict[tuple[str, tuple[str, ...]], int]:
    """Give every label combination of every series its cell; this order is the layout."""
    cells: dict[tuple[str, tuple[str, ...]], int] = {}
    free = _STARTED + 1
    for series in (*SERIES, *ALS_SERIES):
        for values in _label_values(series):
            cells[series.name, values] = free
            free += BUCKETS + 1 if series.kind == "histogram" else 1
    return cells


_POSITIONS = _positions()
_CELLS = max(_POSITIONS.values()) + BUCKETS + 1
_HEAD = blake2b(repr((_POSITIONS, BOUNDS, _CELLS)).encode(), digest_size=16).digest()
_SIZE = len(_HEAD) + 8 * _CELLS
_FILE = re.compile(r"(?P<role>[a-z_-]+)-(?P<index>\d+(?:\.\d+)?)")


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
            raise ValueError("A role is lower case letters and hyphens, an index a number")
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
        observe(self.cells, slot, seconds)

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
        return [reading for reading in self._list_readings() if reading.process()]

    def _list_readings(self) -> list[_Reading]:
        if self._run_dir is None:
            return [_Reading(self._role, self._index, self.cells)]
        return list(_readings(self._run_dir / "metrics"))

    def look(self) -> Snapshot:
        """Look at all processes of the run_dir, or at this one where there is none."""
        return Snapshot(self._list_readings())

    def render(self, *, als: bool = False) -> bytes:
        """Write the page of all processes of the run_dir, or of this one where there is none.

        `als`: with the metrics that have the names of ALS.  A page of account lookup workers always has them.
        """
        if self._run_dir is None:
            return _page([_Reading(self._role, self._index, self.cells)], als=als)
        return render(self._run_dir, als=als)

    def close(self) -> None:
        self.cells[_PID] = 0.0
        if self._lock is not None:
            # The map holds a duplicate of this descriptor, so closing alone would leave the file locked.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None


def render(run_dir: Path, *, als: bool = False) -> bytes:
    """Write the Prometheus page of every process that has, or had, its cells under this run_dir."""
    return _page(list(_readings(run_dir / "metrics")), als=als)


async def watch_event_loop(metrics: Metrics, every_s: float, look: Callable[[], None]) -> None:
    """Measure forever how late the loop wakes this task; keep the worst of 15 s, for a scrape each 15 s.

    Calls `look` each time: to wake an idle process costs more than most of what it wakes for, so a second timer would.
    """
    slot = metrics.slot("event_loop_lag_seconds")
    worst = deque([0.0], maxlen=max(1, round(15 / every_s)))
    while True:
        look()
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


@cache
def find_boot(stat: str = "/proc/stat") -> float:
    """Read when the machine started (Unix time, whole seconds).

    One value for each process of ours, so that a worker has one start time.  systemd can hide /proc/stat
    (ProcSubset=pid, as in deploy/systemd): then two clocks give the same.
    """
    with suppress(OSError, StopIteration), open(stat, "rb") as file:  # noqa: PTH123  (a plain read of a kernel file)
        return next(float(line.split()[1]) for line in file if line.startswith(b"btime "))
    return float(round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)))


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


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A living process: its gauges are those without labels that it has set; ages are in seconds."""

    role: str
    index: str
    started_at: float  # Unix time
    cpu_s: float
    resident_bytes: float
    gauges: Mapping[str, float]


class Snapshot:
    """What the processes of a service count, as programs of ours read it: sums over all, and each living process."""

    def __init__(self, readings: list[_Reading]) -> None:
        self._readings = readings

    def count(self, name: str, **labels: tuple[str, ...]) -> float:
        """Sum up a counter over all values of its labels, or only over the values named here."""
        chosen = product(*(labels.get(key, (*known, OTHER)) for key, known in _SERIES[name].labels))
        slots = [_POSITIONS[name, values] for values in chosen]
        return float(sum(reading.cells[slot] for reading in self._readings for slot in slots))

    def count_by(self, name: str, label: str) -> dict[str, float]:
        """Sum up a counter for each value of a label."""
        known = dict(_SERIES[name].labels)[label]
        return {value: self.count(name, **{label: (value,)}) for value in (*known, OTHER)}

    def count_buckets(self, name: str, **labels: str) -> list[float]:
        """Sum up the buckets of a histogram: those of `BOUNDS`, then what took longer."""
        slot = Metrics.slot(name, **labels)
        return [float(sum(reading.cells[slot + each] for reading in self._readings)) for each in range(BUCKETS)]

    @cached_property
    def _alive(self) -> list[tuple[_Reading, _Process]]:
        return [(reading, process) for reading in self._readings if (process := reading.process())]

    def list_processes(self) -> list[ProcessState]:
        alive = self._alive
        booted_at, ticks = (find_boot(), os.sysconf("SC_CLK_TCK")) if alive else (0.0, 1)
        return [
            ProcessState(
                reading.role, reading.index, booted_at + process.started / ticks, process.cpu_s,
                process.resident_bytes, dict(_list_gauges(reading)),
            )
            for reading, process in alive
        ]  # fmt: skip

    def read_gauges(self, name: str, label: str = "") -> dict[str, float]:
        """Read the highest value in living processes for each value of a label ('': without one); only what is set."""
        alive = [reading for reading, _process in self._alive]
        known = dict(_SERIES[name].labels)[label] if label else ("",)
        found = {}
        for value in known:
            slot = _POSITIONS[name, (value,) if label else ()]
            values = [reading.cells[slot] for reading in alive if not isnan(reading.cells[slot])]
            if values:
                found[value] = max(values)
        return found


def _list_gauges(reading: _Reading) -> Iterator[tuple[str, float]]:
    for series in SERIES:
        if series.kind in ("gauge", "age") and not series.labels:
            value = reading.cells[_POSITIONS[series.name, ()]]
            if not isnan(value):
                yield series.name, max(0.0, time.monotonic() - value) if series.kind == "age" else value


class _Page(Collector):
    def __init__(self, readings: list[_Reading], *, als: bool) -> None:
        self._readings = readings
        # Prometheus must read one page of a service, or it counts everything twice: so this page has all of them.
        self._als = ALS_SERIES if als or any(reading.role == "account-lookup" for reading in readings) else ()
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
        for series in self._als:
            constant = {"serviceName": ALS_SERVICE, "serviceVersion": version("alias-oracle")}
            yield self._histogram(series, ALS_PREFIX, constant)
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

    def _histogram(self, series: Series, prefix: str = PREFIX, constant: Mapping[str, str] | None = None) -> Metric:
        """`constant`: labels that all its samples have."""
        constant = constant or {}
        labels = [*(key for key, _ in series.labels), *constant]
        family = HistogramMetricFamily(prefix + series.name, series.help, labels=labels)
        columns: list[Mapping[tuple[str, ...], float]] = [dict(self._sums(series, cell)) for cell in range(BUCKETS + 1)]
        for values in columns[0]:
            *counts, seconds = (column[values] for column in columns)
            if any(counts) or OTHER not in values:
                family.add_metric([*values, *constant.values()], _cumulate(counts), seconds)
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
        cpu, memory, start, processes, info = families = [
            (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(PREFIX + name, help_text, labels=labels)
            for name, kind, labels, help_text in DERIVED
        ]
        booted_at = find_boot() if self._alive else 0.0
        for reading, process in self._alive:
            labels = [reading.role, reading.index, SERVICE]
            cpu.add_metric(labels, process.cpu_s)
            memory.add_metric(labels, process.resident_bytes)
            start.add_metric(labels, booted_at + process.started / os.sysconf("SC_CLK_TCK"))
        for role in sorted({reading.role for reading in self._readings}):
            processes.add_metric([role], sum(reading.role == role for reading, _ in self._alive))
        info.add_metric([version("alias-oracle")], 1)
        return families


def _cumulate(counts: list[float]) -> list[tuple[str, float]]:
    """Prometheus buckets hold everything up to their end."""
    ends = [*(repr(bound) for bound in BOUNDS), "+Inf"]
    return [(end, sum(counts[: position + 1])) for position, end in enumerate(ends)]


def _page(readings: list[_Reading], *, als: bool = False) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(readings, als=als))
    return generate_latest(registry)
