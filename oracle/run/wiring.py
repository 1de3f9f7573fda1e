"""Connects the parts: the only file that knows every concrete class.  Opens in order, closes in reverse.

    run_hub     one hub worker: metrics, tracing, PostgreSQL, coherence, lookups, changes, HTTP
    run_admin   the admin process: the same store, Litestar on uvicorn
    run_jobs    the jobs process: the same store, and the background work

The first two serve a socket that `serve` has bound.  All return when `stop` is set and the calls in flight have ended.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oracle import jobs
from oracle.api.health import Health
from oracle.api.hub.http import HttpServer, Limits
from oracle.api.hub.listener import LOOKUP, Hub
from oracle.api.hub.participants import Participants
from oracle.identifiers import Reading
from oracle.imports.quota import Quota
from oracle.run.handover import RoutesFile
from oracle.run.housekeeping import Housekeeping, Retention
from oracle.run.open_files import count_clients
from oracle.run.order import Role, Target
from oracle.run.worker import Link
from oracle.settings import Settings
from oracle.store.base import Confirmed
from oracle.store.cache.coherence import NO_ROUTES, TOKEN_MS, Coherence
from oracle.store.cache.lookups import Lookups
from oracle.store.cache.tags import Tags
from oracle.store.cache.topology import dialler
from oracle.store.changes import Changes
from oracle.store.diagnosis import explain
from oracle.store.postgres import Postgres, open_postgres
from oracle.store.routes import Routes
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics, watch_event_loop
from oracle.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from oracle.audit.keys import KeyFile

# A lookup that arrives while there is too much work can wait for its turn for so many times the lookup's own time-out.
HELD_TIMES: Final = 2

# A job notices that its connection has ended when it uses it next.
NOTICED_S: Final = 15.0

log = logs.Log(__name__)

# What one role alone needs.  In the others it would cost start-up time and memory.
_MODULES: Final[Mapping[Role, Sequence[str]]] = {
    "hub": (),
    "admin": ("oracle.api.admin.app", "oracle.run.asgi"),
    "jobs": ("oracle.audit.sealer", "oracle.imports.worker"),
}


def load(role: Role) -> Target:
    """Import all that a role needs, and return its function."""
    for module in _MODULES[role]:
        import_module(module)
    targets: dict[Role, Target] = {"hub": run_hub, "admin": run_admin, "jobs": run_jobs}
    return targets[role]


class Store:
    """The directory and the cache in front of it, open."""

    def __init__(
        self, postgres: Postgres, coherence: Coherence, routes: Routes, metrics: Metrics, settings: Settings
    ) -> None:
        self.settings = settings
        self.postgres = postgres
        self.coherence = coherence
        self.routes = routes
        self.lookups = Lookups(
            coherence,
            postgres.reads,
            metrics,
            timeout_s=settings.lookup_timeout_ms / 1000,
            ttl_s=settings.cache_ttl_s,
            negative_ttl_s=settings.cache_negative_ttl_s,
        )
        self.changes = Changes(
            postgres, coherence, fsp_registration=settings.fsp_registration,
            unknown_fsps_day_max=settings.unknown_fsps_day_max,
        )  # fmt: skip

    async def is_away(self) -> bool:
        """Ask PostgreSQL, for the whole process, whether it is away, or was: a job can notice it later."""
        try:
            await self.coherence.confirm()
        except Exception:  # noqa: BLE001 - whatever it is, the state of the datastore shows it
            return True
        return self.coherence.failed_s_ago < NOTICED_S


@asynccontextmanager
async def open_store(
    settings: Settings,
    metrics: Metrics,
    *,
    desk: bool = False,
    run_dir: Path | None = None,
    known: Confirmed | None = None,
) -> AsyncIterator[Store]:
    """Open the store.  PostgreSQL and Redis can come later.

    `desk`: with connections for the reads of administrators and auditors, and without routes, because this process
    answers no lookups.
    `known`: what an earlier worker read of the generation.  While PostgreSQL is away, this process begins with it, and
    with the routes that are in run_dir.
    """
    assert settings.database_url is not None  # noqa: S101 - serve has set the embedded one
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(open_postgres(settings.database_url, desk=desk))
        file = RoutesFile(run_dir)
        routes = Routes(postgres.reads.fetch_routes, keep=file.keep)
        url = settings.redis_url
        dial = None if url is None else dialler(url, timeout_ms=settings.cache_timeout_ms, token_ms=TOKEN_MS)
        coherence = Coherence(
            postgres.watch, dial, settings.cache_prefix, None if desk else routes.reload,
            degraded_max_s=settings.cache_degraded_max_s, follow_clock=routes.follow_clock,
            now_s=routes.now_s, tags=Tags([bytes.fromhex(key) for key in settings.cache_key]),
        )  # fmt: skip
        postgres.watch.on_notice = coherence.confirm_soon
        stack.push_async_callback(coherence.close)
        if known is not None:
            coherence.recall(known)
        await coherence.open()
        _begin_with_routes(file, routes, coherence)
        store = Store(postgres, coherence, routes, metrics, settings)
        stack.push_async_callback(store.lookups.close)
        stack.push_async_callback(store.changes.close)
        yield store


def _begin_with_routes(file: RoutesFile, routes: Routes, coherence: Coherence) -> None:
    """Without PostgreSQL, begin with the routes of the generation that this process begins with, and with its clock."""
    confirmed = coherence.confirmed
    if confirmed is None or coherence.routes_version != NO_ROUTES:
        return
    routes.follow_clock(confirmed.at, confirmed.at, confirmed.row.now_s)
    version = confirmed.row.routes_version
    rows = file.read(version)
    if rows is not None:
        routes.begin_with(version, rows)
        coherence.routes_version = version


@asynccontextmanager
async def _open_health(store: Store, metrics: Metrics, link: Link | None = None) -> AsyncIterator[Health]:
    health = Health(
        store.coherence, store.postgres, store.changes, metrics,
        waiting_max_s=store.settings.audit_waiting_max_s, logs_states=link is None or link.logs_states,
    )  # fmt: skip
    if link is not None:
        link.read_states = health.read_states
    tasks = [asyncio.create_task(health.watch()), asyncio.create_task(watch_event_loop(metrics))]
    try:
        yield health
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_hub(
    settings: Settings,
    sock: socket.socket,
    index: int,
    run_dir: Path | None,
    link: Link,
    stop: asyncio.Event,
) -> None:
    reading = Reading.of(settings)
    reading.preload()
    metrics = Metrics.open(run_dir, "hub", index)
    tracing = Tracing.open("alias-oracle", settings.otlp_endpoint, settings.trace_ratio, metrics=metrics)
    try:
        async with (
            open_store(settings, metrics, run_dir=run_dir, known=link.confirmed) as store,
            _open_health(store, metrics, link) as health,
        ):
            participants = Participants(
                store.lookups,
                store.changes,
                store.routes,
                metrics,
                tracing,
                change_timeout_s=settings.change_timeout_ms / 1000,
                reading=reading,
                ignored_hour_max=settings.ignored_hour_max,
            )
            hub = Hub(participants, health, metrics)
            clients = count_clients()
            limits = Limits(
                body_bytes_max=settings.body_max_bytes, bodies_bytes_max=settings.bodies_max_bytes,
                idle_timeout_s=settings.idle_timeout_s,
                connections_max=clients.served, connections_refused_max=clients.refused,
                held_max_s=HELD_TIMES * settings.lookup_timeout_ms / 1000,
            )  # fmt: skip
            server = HttpServer(hub, limits, on_error=hub.on_error)
            store.lookups.on_full, store.lookups.on_room = partial(server.hold, LOOKUP), server.release
            server.on_surplus = participants.count_surplus
            health.connections = lambda: len(server.connections)
            link.read_confirmed = lambda: store.coherence.confirmed
            await server.start(sock)
            _settle_memory()
            link.report_ready()
            await stop.wait()
            cut = await server.drain(settings.stop_timeout_s)
            await participants.close()
            log.info("The hub worker stopped", index=index, connections_cut=cut)
    finally:
        tracing.close()
        metrics.close()


async def run_admin(
    settings: Settings,
    sock: socket.socket,
    index: int,
    run_dir: Path | None,
    link: Link,
    stop: asyncio.Event,
) -> None:
    from oracle.api.admin.app import AdminServices, admin_app  # noqa: PLC0415 - _MODULES
    from oracle.api.admin.connections import Limits as AdminLimits  # noqa: PLC0415
    from oracle.api.admin.keeping import Keeping  # noqa: PLC0415
    from oracle.audit import waiting  # noqa: PLC0415
    from oracle.run.asgi import serve_asgi  # noqa: PLC0415

    metrics = Metrics.open(run_dir, "admin", index)
    try:
        async with open_store(settings, metrics, desk=True) as store, _open_health(store, metrics, link) as health:
            services = AdminServices(
                store.changes, store.postgres, health, metrics,
                quota=Quota(open_max=settings.import_open_max, bytes_max=settings.import_day_bytes_max),
                keeping=Keeping(retention_s=settings.idempotency_retention_hours * 3600),
                proxies=settings.admin_proxies, reading=Reading.of(settings),
                bodies_max_bytes=settings.bodies_max_bytes,
            )  # fmt: skip
            services.stopping = stop
            clients = count_clients().served
            limits = AdminLimits(
                connections_max=clients,
                connections_per_address_max=min(AdminLimits().connections_per_address_max, clients // 2),
            )
            watching = asyncio.create_task(waiting.watch(store.postgres, metrics, settings.audit_waiting_max_s))
            app = admin_app(services)
            _settle_memory()
            try:
                cut = await serve_asgi(
                    app, sock, link.report_ready, stop,
                    timeout_s=settings.stop_timeout_s, limits=limits, proxies=settings.admin_proxies,
                )  # fmt: skip
                log.info("The admin worker stopped", index=index, connections_cut=cut)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    finally:
        metrics.close()


async def run_jobs(settings: Settings, index: int, run_dir: Path | None, link: Link, stop: asyncio.Event) -> None:
    from oracle.audit.keys import KeyFile, key_file  # noqa: PLC0415 - _MODULES

    metrics = Metrics.open(run_dir, "jobs", index)

    signing_keys = KeyFile(key_file(settings))

    def notice(job: str, works: bool) -> None:
        metrics.set("job_failing", float(not works), job=job)

    async def run_with_store(stop: asyncio.Event) -> None:
        notice("store", True)
        async with open_store(settings, metrics, desk=True) as store, _open_health(store, metrics, link):
            made = _make_jobs(store, metrics, signing_keys)
            await jobs.run(made, stop, notice=notice, explain=explain, is_away=store.is_away)

    try:
        # Nobody waits for this process, so PostgreSQL can be slow or away when it starts: opening the store is a job,
        # repeated until it succeeds.
        link.report_ready()
        await jobs.run([("store", run_with_store)], stop, timeout_s=settings.stop_timeout_s, notice=notice)
        log.info("The jobs worker stopped", index=index)
    finally:
        metrics.close()


def _make_jobs(store: Store, metrics: Metrics, signing_keys: KeyFile) -> list[jobs.Named]:
    """Make the background work that needs the store, by name."""
    from oracle.audit.rounds import Rounds  # noqa: PLC0415 - _MODULES
    from oracle.audit.sealer import Sealer  # noqa: PLC0415
    from oracle.imports.worker import Imports  # noqa: PLC0415

    imports = Imports(store.changes, store.postgres, metrics, reading=Reading.of(store.settings), is_away=store.is_away)
    sealer = Sealer(store.postgres.servers, signing_keys, metrics, is_away=store.is_away)
    housekeeping = Housekeeping(store.postgres, Retention.of(store.settings))
    made: list[jobs.Named] = [
        ("imports", imports.run),
        ("housekeeping", housekeeping.run),
        ("sealing", sealer.run),
    ]
    if store.settings.audit_directory_every_s:
        rounds = Rounds(
            store.postgres.servers, metrics, every_s=store.settings.audit_directory_every_s,
            rows_per_s=store.settings.audit_directory_rows_per_s, is_away=store.is_away,
        )  # fmt: skip
        made.append(("directory", rounds.run))
    return made


def _settle_memory() -> None:
    """Exempt the objects of the start from garbage collection: they stay, and each full collection would visit them."""
    gc.collect()
    gc.freeze()
