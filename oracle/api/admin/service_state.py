"""`/service`: the state of the service, and what it did in the last hour, for people without a monitoring.

It is what `/health` and `/metrics` have, in one place and in words: nothing here asks PostgreSQL, Redis or the ALS of
the hub.  The samples are in the memory of this process (`oracle/telemetry/samples`), so they begin when it starts.
Another instance of the service has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isnan
from typing import TYPE_CHECKING, Annotated, Final, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from oracle.api.admin.access import allow
from oracle.api.admin.budgets import Mode
from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.operations import operation
from oracle.api.health import CHANGES
from oracle.identity.identity import Role
from oracle.sentences import Sentence
from oracle.telemetry.metrics import LOOKUP_RESULTS, Metrics, ProcessState, Snapshot
from oracle.telemetry.samples import EVERY_S, Sample, Samples, find_quantile, join

if TYPE_CHECKING:
    from oracle.api.health import Health

STAFF: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER)
RECENT: Final = 4  # samples: a minute
State = Literal["OK", "DOWN"]


class ServicePart(Resource):
    name: Annotated[str, Meta(description="datastore (PostgreSQL), cache (Redis), or what fails: changes, jobs, …")]
    status: State
    reason: Annotated[Sentence | None, Meta(description="Why it is down, as far as the service knows")]


class ServiceProcess(Resource):
    """A living process of this instance.  null: it has not reported it."""

    role: Annotated[str, Meta(description="hub, admin, jobs, account-lookup or oracles")]
    index: str
    started_at: datetime
    memory_bytes: int
    cpu_seconds: float
    event_loop_lag_s: Annotated[float | None, Meta(description="The worst delay in the last 15 seconds")]
    database_connected: bool | None
    cache_connected: bool | None
    lease_age_s: Annotated[
        float | None, Meta(description="Since PostgreSQL last confirmed that the copies in Redis count")
    ]
    connections: Annotated[int | None, Meta(description="Of clients, open now")]
    database_connections: int | None
    certificate_expires_at: Annotated[datetime | None, Meta(description="null: its listener has no TLS")]


class DatabaseState(Resource):
    connected: bool
    takes_changes: bool
    aliases: Annotated[int | None, Meta(description="As PostgreSQL estimates")]
    size_bytes: int | None
    connections: Annotated[int | None, Meta(description="That the server has, of all its clients")]
    connections_max: int | None
    repairs_waiting: Annotated[int, Meta(description="Commits without an answer that are not made good yet")]


class CacheState(Resource):
    connected: bool
    degraded: Annotated[bool, Meta(description="Lookups of a process bypass it, or its lease has expired")]
    keys: int | None
    memory_bytes: int | None
    memory_max_bytes: Annotated[int | None, Meta(description="null: no limit, or not known")]
    evicted_keys: Annotated[int | None, Meta(description="Removed for lack of memory since it started")]


class SealingState(Resource):
    is_sealing: Annotated[bool, Meta(description="A process of this instance seals the history")]
    waiting_s: Annotated[float | None, Meta(description="How long the oldest unsealed event waits; null: not known")]
    directory_differences: Annotated[
        int | None, Meta(description="What the last comparison of the directory with its history found; null: none yet")
    ]
    directory_compared_at: datetime | None


class ImportState(Resource):
    batches: Annotated[dict[str, int], Meta(description="Unfinished uploaded files by state")]
    stalled_s: Annotated[float | None, Meta(description="How long the file that advanced least has not advanced")]


class AlsState(Resource):
    """The registration at the ALS of the hub, as the last complete check of the jobs process found it."""

    is_set: Annotated[bool, Meta(description="The settings name an ALS")]
    registered: Annotated[dict[str, bool], Meta(description="By type of party identifier; empty: not checked yet")]
    checked_at: datetime | None


class BudgetState(Resource):
    mode: Mode
    empty: Annotated[int, Meta(description="FSPs whose bucket is empty now, as the worst process sees it")]


class CallState(Resource):
    """Calls that the service makes: to DFSPs, proxies, a ledger, other oracles."""

    connections: int
    under_way: int
    hosts_blocked: Annotated[int, Meta(description="Hosts that are not called, because too many calls failed")]


class ServiceSample(Resource):
    """What happened in some seconds."""

    at: Annotated[datetime, Meta(description="The end of these seconds")]
    seconds: float
    lookups: Annotated[dict[str, int], Meta(description="Answered lookups by result, as in the metric lookups_total")]
    hit_ratio: Annotated[float | None, Meta(description="Share of the lookups that Redis could answer; null: none")]
    p50_s: Annotated[float | None, Meta(description="Half of the lookups took no longer; null: there were none")]
    p99_s: float | None
    errors: Annotated[int, Meta(description="Error answers to the hub")]
    changes: Annotated[int, Meta(description="Changes done through the hub")]
    rows: Annotated[int, Meta(description="Rows of files that changed something")]
    sealed: Annotated[int, Meta(description="Events that were sealed")]
    over_budget: Annotated[int, Meta(description="Questions of FSPs whose budget was used up")]
    sealing_wait_s: Annotated[float | None, Meta(description="The longest wait of an event; null: not known")]


class ServiceState(Resource):
    status: Annotated[State, Meta(description="OK: lookups are answered")]
    version: str
    started_at: Annotated[datetime, Meta(description="When this admin process started")]
    parts: list[ServicePart]
    processes: list[ServiceProcess]
    database: DatabaseState
    cache: CacheState
    sealing: SealingState
    imports: ImportState
    als: AlsState
    budgets: BudgetState
    calls: CallState
    failing_jobs: Annotated[list[str], Meta(description="Jobs in the background that cannot work")]
    recent: Annotated[ServiceSample | None, Meta(description="The last minute; null: not known yet")]


class ServiceSamples(Resource):
    every_s: float
    items: Annotated[list[ServiceSample], Meta(description="Of the last hour at most, the oldest first")]


class ServiceReader:
    """Reads the state for the admin process."""

    def __init__(self, health: Health, metrics: Metrics, mode: Mode, *, has_als: bool) -> None:
        self._health, self._metrics, self._mode, self._has_als = health, metrics, mode, has_als
        self.samples = Samples(lambda: metrics.look())  # noqa: PLW0108 - the description is made without metrics

    def describe(self) -> ServiceState:
        snapshot, health = self._metrics.look(), self._health
        processes = snapshot.list_processes()
        parts = health.list_services()
        recent = join(self.samples.kept[-RECENT:])
        return ServiceState(
            status="OK" if health.datastore else "DOWN",
            version=health.version,
            started_at=health.started_at,
            parts=[
                ServicePart(name=each.name, status="OK" if each.status == "OK" else "DOWN", reason=each.reason or None)
                for each in parts
            ],
            processes=[_describe_process(each) for each in sorted(processes, key=lambda one: (one.role, one.index))],
            database=_describe_database(
                snapshot, processes, connected=health.datastore,
                takes_changes=not any(each.name == CHANGES for each in parts),
            ),
            cache=_describe_cache(snapshot, processes, connected=health.cache),
            sealing=_describe_sealing(snapshot, processes),
            imports=ImportState(
                batches=_count_each(snapshot, "import_batches", "state"),
                stalled_s=_read_gauge(snapshot, "import_stalled_seconds"),
            ),
            als=_describe_als(snapshot, is_set=self._has_als),
            budgets=BudgetState(
                mode=self._mode, empty=sum(_count_each(snapshot, "budget_empty", "fsp_class").values())
            ),
            calls=_describe_calls(processes),
            failing_jobs=[job for job, value in snapshot.read_gauges("job_failing", "job").items() if value > 0],
            recent=None if recent is None else describe_sample(recent),
        )  # fmt: skip


# Gauges of the whole service, which one process sets ------------------------------------------------------------


def _read_gauge(snapshot: Snapshot, name: str) -> float | None:
    return snapshot.read_gauges(name).get("")


def _read_whole(snapshot: Snapshot, name: str) -> int | None:
    found = _read_gauge(snapshot, name)
    return None if found is None else int(found)


def _read_time(snapshot: Snapshot, name: str) -> datetime | None:
    found = _read_gauge(snapshot, name)
    return None if found is None else _make_time(found)


def _count_each(snapshot: Snapshot, name: str, label: str) -> dict[str, int]:
    return {value: int(count) for value, count in snapshot.read_gauges(name, label).items()}


def _make_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _list_values(processes: Sequence[ProcessState], gauge: str) -> list[float]:
    """List the values of a gauge that each process sets for itself."""
    return [each.gauges[gauge] for each in processes if gauge in each.gauges]


# What is described ----------------------------------------------------------------------------------------------


def _describe_database(
    snapshot: Snapshot, processes: Sequence[ProcessState], *, connected: bool, takes_changes: bool
) -> DatabaseState:
    return DatabaseState(
        connected=connected, takes_changes=connected and takes_changes,
        aliases=_read_whole(snapshot, "directory_aliases"), size_bytes=_read_whole(snapshot, "database_bytes"),
        connections=_read_whole(snapshot, "database_connections_used"),
        connections_max=_read_whole(snapshot, "database_connections_max"),
        repairs_waiting=int(sum(_list_values(processes, "database_repairs_waiting"))),
    )  # fmt: skip


def _describe_cache(snapshot: Snapshot, processes: Sequence[ProcessState], *, connected: bool) -> CacheState:
    return CacheState(
        connected=connected, degraded=any(_list_values(processes, "cache_degraded")),
        keys=_read_whole(snapshot, "cache_keys"), memory_bytes=_read_whole(snapshot, "cache_memory_bytes"),
        memory_max_bytes=_read_whole(snapshot, "cache_memory_max_bytes") or None,
        evicted_keys=_read_whole(snapshot, "cache_evicted_keys"),
    )  # fmt: skip


def _describe_sealing(snapshot: Snapshot, processes: Sequence[ProcessState]) -> SealingState:
    return SealingState(
        is_sealing=any(_list_values(processes, "audit_sealing")),
        waiting_s=_read_gauge(snapshot, "audit_waiting_seconds"),
        directory_differences=_read_whole(snapshot, "audit_directory_differences"),
        directory_compared_at=_read_time(snapshot, "audit_directory_compared_timestamp_seconds"),
    )


def _describe_als(snapshot: Snapshot, *, is_set: bool) -> AlsState:
    registered = snapshot.read_gauges("als_registered", "party_id_type")
    return AlsState(
        is_set=is_set,
        registered={party_id_type: value > 0 for party_id_type, value in registered.items()},
        checked_at=_read_time(snapshot, "als_checked_timestamp_seconds"),
    )


def _describe_calls(processes: Sequence[ProcessState]) -> CallState:
    return CallState(
        connections=int(sum(_list_values(processes, "calls_connections"))),
        under_way=int(sum(_list_values(processes, "calls_under_way"))),
        hosts_blocked=int(sum(_list_values(processes, "calls_hosts_blocked"))),
    )


def _describe_process(process: ProcessState) -> ServiceProcess:
    gauges: Mapping[str, float] = process.gauges
    expires = gauges.get("tls_certificate_expires_timestamp_seconds")

    def whole(name: str) -> int | None:
        return int(gauges[name]) if name in gauges else None

    def flag(name: str) -> bool | None:
        return gauges[name] > 0 if name in gauges else None

    return ServiceProcess(
        role=process.role, index=process.index, started_at=_make_time(process.started_at),
        memory_bytes=int(process.resident_bytes), cpu_seconds=process.cpu_s,
        event_loop_lag_s=gauges.get("event_loop_lag_seconds"), database_connected=flag("database_connected"),
        cache_connected=flag("cache_connected"), lease_age_s=gauges.get("lease_age_seconds"),
        connections=whole("http_connections"), database_connections=whole("database_pool_size"),
        certificate_expires_at=None if expires is None or isnan(expires) else _make_time(expires),
    )  # fmt: skip


def describe_sample(sample: Sample) -> ServiceSample:
    return ServiceSample(
        at=_make_time(sample.at), seconds=round(sample.span_s, 3),
        lookups={name: int(count) for name, count in zip(LOOKUP_RESULTS, sample.lookups, strict=True)},
        hit_ratio=sample.hit_ratio, p50_s=find_quantile(sample.durations, 0.5),
        p99_s=find_quantile(sample.durations, 0.99), errors=int(sample.errors), changes=int(sample.changes),
        rows=int(sample.rows), sealed=int(sample.sealed), over_budget=int(sample.over_budget),
        sealing_wait_s=sample.waiting_s,
    )  # fmt: skip


def handlers() -> list[HTTPRouteHandler]:
    return [read_state, list_samples]


@operation(
    "getServiceState", "GET", "/service", STAFF, "Read the state of the service: its processes, stores and jobs",
    answers=ServiceState,
)  # fmt: skip
async def read_state(call: NamedDependency[Call], service: NamedDependency[ServiceReader]) -> Response[bytes]:
    return call.read(service.describe())


@operation(
    "listServiceSamples", "GET", "/service/samples", STAFF, "List what the service did in the last hour, each 15 s",
    answers=ServiceSamples,
)  # fmt: skip
async def list_samples(call: NamedDependency[Call], service: NamedDependency[ServiceReader]) -> Response[bytes]:
    items = [describe_sample(each) for each in service.samples.kept]
    return call.read(ServiceSamples(every_s=EVERY_S, items=items))
