"""Reports the state of the service.  A task asks the servers in the background, so neither load nor a hanging server
delays the answer.

/health   in the form that Mojaloop services share; 503 when the directory does not answer.  Without the cache it is OK:
          the cache's own line is DOWN, and the directory answers lookups.  While PostgreSQL answers but does not take
          changes, a line `changes` says why.  A background job that cannot work has a line, too, and so has history
          whose events wait too long to be sealed, and a directory that differs from its history; these are taken from
          the metrics of all processes.
/live     the process runs its event loop
/ready    the process can answer some lookups: the directory answers, or the cache does and its copies still count
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import msgspec

from oracle import compiled
from oracle.api.kept import Kept
from oracle.store.cache.coherence import NOT_YET, Coherence
from oracle.store.changes import Changes
from oracle.store.diagnosis import explain
from oracle.store.postgres import Postgres
from oracle.telemetry import logs
from oracle.telemetry.metrics import JOBS, Metrics

LOOK_EVERY_S: Final = 0.5
# A Redis that is new to the directory is trusted only after a lease: this must not be a warning at every first start.
GRACE_S: Final = 3.0
DATASTORE: Final = "datastore"
CACHE: Final = "cache"
CHANGES: Final = "changes"
SUBJECTS: Final = (DATASTORE, CACHE, CHANGES)

log = logs.Log(__name__)
_encode = msgspec.json.Encoder().encode


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    status: str
    reason: str = ""


class Report(msgspec.Struct, frozen=True, rename="camel"):
    status: str
    uptime: float
    start_time: str
    version_number: str
    compiled: bool  # the lookup path, in this process
    services: list[Service]


class Health:
    """One per process; its owner calls `look` each LOOK_EVERY_S."""

    def __init__(
        self,
        coherence: Coherence,
        postgres: Postgres,
        changes: Changes,
        metrics: Metrics,
        waiting_max_s: float,
        *,
        logs_states: bool = True,
    ) -> None:
        """`waiting_max_s`: how long an event can wait to be sealed before it is reported.

        `logs_states`: False if another process logs the changes of the states (`read_states`), once for all processes.
        """
        self._waiting_max_s = waiting_max_s
        self._coherence = coherence
        self._postgres = postgres
        self._changes = changes
        self._metrics = metrics
        # It reads the metrics of all processes, for a caller without a key.
        self._alarms = Kept(lambda: list_alarms(metrics, waiting_max_s))
        self.connections: Callable[[], int] = lambda: 0
        self._started = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._away_until = 0.0  # time of the loop
        self.started_at = datetime.now(UTC)
        self.version = version("alias-oracle")
        self._compiled = compiled.find_state().compiled
        metrics.set("compiled", float(self._compiled))
        self._conditions = {name: logs.Condition(log, name) for name in SUBJECTS} if logs_states else {}

    @property
    def datastore(self) -> bool:
        """True if PostgreSQL has answered within a lease; the lease asks it three times a second."""
        return self._coherence.reachable

    @property
    def cache(self) -> bool:
        """True if a session is open.  The lease or `look` asks the server: without an answer in time it ends."""
        return self._coherence.session is not None

    def report(self) -> tuple[int, bytes]:
        uptime = round(time.monotonic() - self._started, 3)
        start_time = self.started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        services = self.list_services()
        report = Report(_name_state(self.datastore), uptime, start_time, self.version, self._compiled, services)
        return (200 if self.datastore else 503), _encode(report)

    def list_services(self) -> list[Service]:
        """List the parts of the service with their states, as `report` has them."""
        services = [
            Service(name, _name_state(reason is None), reason or "")
            for name, reason in self._find_reasons().items()
            if reason is not None or name != CHANGES
        ]
        return services + self._alarms.get()

    def read_states(self) -> dict[str, str]:
        """Return the state of each of SUBJECTS, in words for the log."""
        reasons = self._find_reasons()
        if not self.cache and time.monotonic() - self._started < GRACE_S:
            reasons[CACHE] = None
        return {name: describe_state(reason) for name, reason in reasons.items()}

    def _find_reasons(self) -> dict[str, str | None]:
        """Find why each of SUBJECTS cannot be used; None for one that works."""
        failure = self._coherence.failure
        return {
            DATASTORE: None if self.datastore else explain(failure) if failure else NOT_YET,
            CACHE: None if self.cache else self._coherence.cache_failure,
            CHANGES: self._explain_changes(),
        }

    def _explain_changes(self) -> str | None:
        """Say why a PostgreSQL that answers takes no changes.

        What failed while it was away says nothing of a PostgreSQL that is back: nobody may try a change for a while.
        """
        if not self.datastore:
            self._away_until = self._loop.time() + LOOK_EVERY_S
            return None
        return self._changes.explain_failure(self._away_until)

    def ready(self) -> tuple[int, bytes]:
        ready = self.datastore or (self.cache and (self._coherence.fresh or self._coherence.patient))
        return (200 if ready else 503), _encode({"status": _name_state(ready)})

    def live(self) -> tuple[int, bytes]:
        return 200, b'{"status":"OK"}'

    def look(self) -> None:
        """Ping the cache if nothing else asks it, publish the state as metrics and log its changes."""
        session = self._coherence.session
        if session is not None and not self._coherence.fresh:  # else the lease has raised the marker there a moment ago
            session.ping()
        self._publish()
        if self._conditions:
            states = self.read_states()
            for name, condition in self._conditions.items():
                condition.now(states[name])

    def _publish(self) -> None:
        coherence, metrics = self._coherence, self._metrics
        metrics.set("cache_connected", float(self.cache))
        metrics.set("database_connected", float(self.datastore))
        metrics.set("database_takes_changes", float(self.datastore and self._explain_changes() is None))
        metrics.set("database_repairs_waiting", float(self._changes.repairs.waiting))
        metrics.set("cache_generation", float(coherence.generation))
        metrics.set("cache_degraded", float(coherence.degraded or not self.cache))
        bumps, fences = coherence.take_counts()
        metrics.add("cache_generation_bumps_total", bumps)
        metrics.add("cache_fences_total", fences)
        for reason, refused in coherence.tags.take_refused().items():
            metrics.add("cache_refused_total", refused, reason=reason)
        metrics.add("database_errors_total", self._postgres.take_errors())
        metrics.set("http_connections", float(self.connections()))
        if coherence.confirmed_at > 0:
            metrics.mark("lease_age_seconds", coherence.confirmed_at)
        size, idle = self._postgres.count_connections()
        metrics.set("database_pool_size", float(size))
        metrics.set("database_pool_idle", float(idle))


def list_alarms(metrics: Metrics, waiting_max_s: float) -> list[Service]:
    """List what fails although lookups are answered.  `waiting_max_s`: as for `Health`."""
    failing = [job for job in JOBS if metrics.read_gauge("job_failing", job=job) > 0]
    alarms = [Service("jobs", "DOWN", f"{', '.join(failing)}: see the log of the jobs process")] if failing else []
    waiting_s = metrics.read_gauge("audit_waiting_seconds")
    if waiting_s > waiting_max_s:
        reason = f"the oldest event has waited {waiting_s:.0f} s to be sealed: see the log of the jobs process"
        alarms.append(Service("sealing", "DOWN", reason))
    differences = metrics.read_gauge("audit_directory_differences")
    if differences > 0:
        reason = f"differences from history: {differences:.0f}; run `oracle audit verify --directory`"
        alarms.append(Service("directory", "DOWN", reason))
    return alarms


def describe_state(reason: str | None) -> str:
    """Describe a state for the log, with the reason that /health shows."""
    return "ok" if reason is None else f"down: {reason}"


def _name_state(up: bool) -> str:
    return "OK" if up else "DOWN"
