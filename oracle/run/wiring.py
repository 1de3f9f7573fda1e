"""Connects the parts: the only file that knows every concrete class.  Opens in order, closes in reverse.

    run_hub     one hub worker: metrics, tracing, PostgreSQL, coherence, lookups, changes, HTTP
    run_admin   the admin process: the same store, Litestar on uvicorn
    run_jobs    the jobs process: the same store, and the background work
    run_account_lookup   one worker for DFSPs: the same store, the participants of the scheme, calls, HTTP
    run_oracles          the admin API of ALS (/oracles): PostgreSQL, HTTP

All but the jobs serve a socket that `serve` has bound.  All return when `stop` is set and the calls in flight have
ended.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle import compiled, jobs
from oracle.api.health import LOOK_EVERY_S, Health
from oracle.api.http import HttpServer, Limits
from oracle.api.hub.listener import LOOKUP, Hub
from oracle.api.hub.participants import Participants
from oracle.budgets.classes import Classes, Costs
from oracle.budgets.work import open_budgets
from oracle.identifiers import Reading
from oracle.imports.quota import Quota
from oracle.run.handover import OraclesFile, ParticipantsFile, RoutesFile
from oracle.run.housekeeping import Housekeeping, Retention
from oracle.run.open_files import count_calls, count_clients
from oracle.run.order import Role, Target
from oracle.run.tls import make_tls
from oracle.run.worker import Link
from oracle.settings import Settings
from oracle.store import sizes
from oracle.store.base import Confirmed
from oracle.store.cache.coherence import NO_ROUTES, TOKEN_MS, Coherence
from oracle.store.cache.lookups import Lookups
from oracle.store.cache.tags import Tags
from oracle.store.cache.topology import dialler
from oracle.store.changes import Changes
from oracle.store.diagnosis import explain
from oracle.store.oracles import fetch_oracles
from oracle.store.postgres import Postgres, open_postgres
from oracle.store.routes import Routes
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics, watch_event_loop
from oracle.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from litestar import Litestar

    from oracle.api.admin.app import AdminServices
    from oracle.api.admin.callers import Ways
    from oracle.api.dfsp.asked import Asked
    from oracle.api.dfsp.faults import Fault
    from oracle.api.dfsp.listener import AccountLookup
    from oracle.api.dfsp.oracles import OracleDirectories
    from oracle.api.dfsp.request_log import RequestLog
    from oracle.api.dfsp.signatures import KeySource, Signer, Validator
    from oracle.api.hub.slices import Slices
    from oracle.audit.keys import KeyFile
    from oracle.budgets.charges import Charges
    from oracle.calls import Caller
    from oracle.registration.registration import Registration
    from oracle.scheme.base import Scheme
    from oracle.store.base import Session

# A lookup that arrives while there is too much work can wait for its turn for so many times the lookup's own time-out.
HELD_TIMES: Final = 2

# Calls to one host, one after the other.
REGISTRATION_CALLS_MAX: Final = 4

# A job notices that its connection has ended when it uses it next.
NOTICED_S: Final = 15.0

log = logs.Log(__name__)

# What one role alone needs.  In the others it would cost start-up time and memory.
_MODULES: Final[Mapping[Role, Sequence[str]]] = {
    "hub": (),
    "admin": ("oracle.api.admin.app", "oracle.run.asgi"),
    "jobs": ("oracle.audit.sealer", "oracle.imports.worker"),
    "account-lookup": (
        "oracle.api.dfsp.discovery",
        "oracle.api.dfsp.listener",
        "oracle.api.dfsp.oracles",
        "oracle.api.dfsp.participants",
        "oracle.api.dfsp.parties",
        "oracle.calls.calls",
        "oracle.scheme.directory",
    ),
    "oracles": ("oracle.api.oracles.listener",),
}


def load(role: Role) -> Target:
    """Import all that a role needs, and return its function."""
    for module in _MODULES[role]:
        import_module(module)
    targets: dict[Role, Target] = {
        "hub": run_hub,
        "admin": run_admin,
        "jobs": run_jobs,
        "account-lookup": run_account_lookup,
        "oracles": run_oracles,
    }
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

    def find_session(self) -> Session | None:
        return self.coherence.session

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
    watching = asyncio.create_task(watch_event_loop(metrics, LOOK_EVERY_S, health.look))
    try:
        yield health
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def _log_form(state: compiled.State) -> None:
    if state.compiled:
        log.info("Lookups run compiled")
    else:
        log.info("Lookups run as plain Python", reason=state.reason)


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
            open_budgets(settings, store.postgres, store.find_session, metrics, channel="hub") as budgets,
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
                budgets=budgets,
            )
            hub = Hub(participants, health, metrics)
            clients = count_clients()
            limits = Limits(
                body_bytes_max=settings.body_max_bytes, bodies_bytes_max=settings.bodies_max_bytes,
                idle_timeout_s=settings.idle_timeout_s,
                connections_max=clients.served, connections_refused_max=clients.refused,
                held_max_s=HELD_TIMES * settings.lookup_timeout_ms / 1000,
            )  # fmt: skip
            server = HttpServer(hub.serve, limits, on_error=hub.on_error)
            store.lookups.on_full, store.lookups.on_room = partial(server.hold, LOOKUP), server.release
            server.on_surplus = participants.count_surplus
            health.connections = lambda: len(server.connections)
            link.read_confirmed = lambda: store.coherence.confirmed
            await server.start(sock, tls=make_tls("hub", link.credentials, metrics))
            _settle_memory()
            link.report_ready()
            if index == 0:  # once for all workers
                _log_form(compiled.find_state())
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
    from oracle.api.admin.app import AdminServices  # noqa: PLC0415 - _MODULES
    from oracle.api.admin.budgets import Budgets  # noqa: PLC0415
    from oracle.api.admin.connections import Limits as AdminLimits  # noqa: PLC0415
    from oracle.api.admin.keeping import Keeping  # noqa: PLC0415
    from oracle.audit import waiting  # noqa: PLC0415
    from oracle.imports import stalled  # noqa: PLC0415
    from oracle.run.asgi import serve_asgi  # noqa: PLC0415

    metrics = Metrics.open(run_dir, "admin", index)
    try:
        async with (
            open_store(settings, metrics, desk=True) as store,
            _open_health(store, metrics, link) as health,
            _open_registration(store, metrics) as registration,
            _open_ways(settings, metrics) as ways,
            open_budgets(settings, store.postgres, store.find_session, metrics, channel="admin") as buckets,
        ):
            services = AdminServices(
                store.changes, store.postgres, health, metrics,
                quota=Quota(open_max=settings.import_open_max, bytes_max=settings.import_day_bytes_max),
                keeping=Keeping(retention_s=settings.idempotency_retention_hours * 3600),
                proxies=settings.admin_proxies, ways=ways, reading=Reading.of(settings),
                bodies_max_bytes=settings.bodies_max_bytes, registration=registration,
                budgets=Budgets(
                    settings.budget_mode, Classes.of(settings), store.find_session, settings.cache_prefix, buckets
                ),
                home="console" if settings.console == "on" else "docs",
            )  # fmt: skip
            services.stopping = stop
            clients = count_clients().served
            limits = AdminLimits(
                connections_max=clients,
                connections_per_address_max=min(AdminLimits().connections_per_address_max, clients // 2),
            )
            watches = [
                asyncio.create_task(watch)
                for watch in (
                    waiting.watch(store.postgres, metrics, settings.audit_waiting_max_s),
                    stalled.watch(store.postgres, metrics),
                    sizes.watch(store.postgres, store.coherence, metrics),
                    services.service.samples.watch(),
                )
            ]
            app = _make_app(services, settings)
            _settle_memory()
            try:
                cut = await serve_asgi(
                    app, sock, link.report_ready, stop,
                    timeout_s=settings.stop_timeout_s, limits=limits, proxies=settings.admin_proxies,
                    tls=make_tls("admin", link.credentials, metrics),
                )  # fmt: skip
                log.info("The admin worker stopped", index=index, connections_cut=cut)
            finally:
                for watching in watches:
                    watching.cancel()
                await asyncio.gather(*watches, return_exceptions=True)
    finally:
        metrics.close()


def _make_app(services: AdminServices, settings: Settings) -> Litestar:
    """Make the application of the admin listener, with the console if it is on."""
    from oracle.api.admin.app import admin_app  # noqa: PLC0415 - _MODULES

    if settings.console == "off":
        return admin_app(services)
    from oracle.api.console.console import Console, ConsoleOptions  # noqa: PLC0415 - only where it is on

    console = Console(services, ConsoleOptions.of(settings))
    app = admin_app(services, [console.router()], console.show_stray)
    console.attach(app)
    return app


@asynccontextmanager
async def _open_ways(settings: Settings, metrics: Metrics) -> AsyncIterator[Ways]:
    """Open the ways in that the settings name.  Raises SettingsError."""
    from oracle.api.admin.callers import Ways  # noqa: PLC0415 - not needed by the other roles

    keys = "keys" in settings.admin_auth
    if "oidc" not in settings.admin_auth and "gateway" not in settings.admin_auth:
        yield Ways(keys)
        return
    from oracle.identity.opening import make_gateway, open_identities  # noqa: PLC0415 - only where they are on

    gateway = make_gateway(settings) if "gateway" in settings.admin_auth else None
    if "oidc" not in settings.admin_auth:
        yield Ways(keys, None, gateway)
        return
    async with open_identities(settings, metrics) as identities:
        yield Ways(keys, identities, gateway)


async def run_jobs(settings: Settings, index: int, run_dir: Path | None, link: Link, stop: asyncio.Event) -> None:
    from oracle.audit.keys import KeyFile, key_file  # noqa: PLC0415 - _MODULES

    metrics = Metrics.open(run_dir, "jobs", index)

    signing_keys = KeyFile(key_file(settings))

    def notice(job: str, works: bool) -> None:
        metrics.set("job_failing", float(not works), job=job)

    async def run_with_store(stop: asyncio.Event) -> None:
        notice("store", True)
        async with (
            open_store(settings, metrics, desk=True) as store,
            _open_health(store, metrics, link),
            _open_registration(store, metrics) as registration,
            _open_charges(store, metrics) as charges,
        ):
            made = _make_jobs(store, metrics, signing_keys, registration, charges)
            await jobs.run(made, stop, notice=notice, explain=explain, is_away=store.is_away)

    try:
        # Nobody waits for this process, so PostgreSQL can be slow or away when it starts: opening the store is a job,
        # repeated until it succeeds.
        link.report_ready()
        await jobs.run([("store", run_with_store)], stop, timeout_s=settings.stop_timeout_s, notice=notice)
        log.info("The jobs worker stopped", index=index)
    finally:
        metrics.close()


@asynccontextmanager
async def _open_registration(store: Store, metrics: Metrics) -> AsyncIterator[Registration | None]:
    """Open the registration at an ALS elsewhere, with calls of its own; None if no ALS is set."""
    if store.settings.als_admin_url is None:
        yield None
        return
    from oracle.calls.calls import open_calls  # noqa: PLC0415 - for the few who set it
    from oracle.registration.registration import open_registration  # noqa: PLC0415

    calls = open_calls(store.settings, metrics, connections_max=REGISTRATION_CALLS_MAX)
    try:
        yield open_registration(store.settings, calls, store.postgres.servers)
    finally:
        await calls.close()


@asynccontextmanager
async def _open_charges(store: Store, metrics: Metrics) -> AsyncIterator[Charges | None]:
    """Open what takes the tokens for files; None if nobody pays."""
    from oracle.budgets.charges import Charges  # noqa: PLC0415 - _MODULES

    settings = store.settings
    if settings.budget_mode == "off":
        yield None
        return
    charges = Charges(Classes.of(settings), Costs.of(settings), store.find_session, metrics, settings.cache_prefix)
    async with _run_beside(charges.run):
        yield charges


def _make_jobs(
    store: Store, metrics: Metrics, signing_keys: KeyFile, registration: Registration | None, charges: Charges | None
) -> list[jobs.Named]:
    """Make the background work that needs the store, by name."""
    from oracle.audit.rounds import Rounds  # noqa: PLC0415 - _MODULES
    from oracle.audit.sealer import Sealer  # noqa: PLC0415
    from oracle.audit.verifications import Verifications  # noqa: PLC0415
    from oracle.imports.worker import Imports  # noqa: PLC0415

    imports = Imports(
        store.changes, store.postgres, metrics, reading=Reading.of(store.settings), is_away=store.is_away,
        charge=None if charges is None else charges.add,
    )  # fmt: skip
    sealer = Sealer(store.postgres.servers, signing_keys, metrics, is_away=store.is_away)
    housekeeping = Housekeeping(store.postgres, Retention.of(store.settings))
    verifications = Verifications(store.postgres, waiting_max_s=store.settings.audit_waiting_max_s)
    made: list[jobs.Named] = [
        ("imports", imports.run),
        ("housekeeping", housekeeping.run),
        ("sealing", sealer.run),
        ("verification", verifications.run),
    ]
    if store.settings.audit_directory_every_s:
        rounds = Rounds(
            store.postgres.servers, metrics, every_s=store.settings.audit_directory_every_s,
            rows_per_s=store.settings.audit_directory_rows_per_s, is_away=store.is_away,
        )  # fmt: skip
        made.append(("directory", rounds.run))
    if registration is not None:
        from oracle.registration.job import RegistrationJob  # noqa: PLC0415 - for the few who set it

        checks = RegistrationJob(
            registration, partial(store.postgres.servers.connect, "oracle als check"), metrics,
            every_s=store.settings.als_check_interval_s, replace=store.settings.als_replace == "on",
            is_away=store.is_away,
        )  # fmt: skip
        made.append(("registration", checks.run))
    return made


async def run_account_lookup(
    settings: Settings,
    sock: socket.socket,
    index: int,
    run_dir: Path | None,
    link: Link,
    stop: asyncio.Event,
) -> None:
    from oracle.api.dfsp.listener import BODY_BYTES_MAX, ERROR  # noqa: PLC0415 - _MODULES

    Reading.of(settings).preload()
    metrics = Metrics.open(run_dir, "account-lookup", index)
    try:
        async with (
            open_store(settings, metrics, run_dir=run_dir, known=link.confirmed) as store,
            _open_health(store, metrics, link) as health,
            open_account_lookup(store, health, metrics, run_dir=run_dir) as listener,
        ):
            clients = count_clients(calls=count_calls())
            limits = Limits(
                body_bytes_max=BODY_BYTES_MAX, bodies_bytes_max=settings.bodies_max_bytes,
                idle_timeout_s=settings.idle_timeout_s,
                connections_max=clients.served, connections_refused_max=clients.refused,
            )  # fmt: skip
            server = HttpServer(listener.serve, limits, on_error=listener.on_error, refusal_fields=ERROR)
            health.connections = lambda: len(server.connections)
            link.read_confirmed = lambda: store.coherence.confirmed
            await server.start(sock, tls=make_tls("account-lookup", link.credentials, metrics))
            _settle_memory()
            link.report_ready()
            await stop.wait()
            cut, unfinished = await drain(server, listener, settings.stop_timeout_s)
            log.info(
                "The account lookup worker stopped", index=index, connections_cut=cut, requests_unfinished=unfinished
            )
    finally:
        metrics.close()


async def drain(server: HttpServer, listener: AccountLookup, timeout_s: float) -> tuple[int, int]:
    """Accept no more, answer what has arrived, and finish all that was accepted.

    Returns how many connections and how many accepted requests were cut.  The sources of those requests get error
    callbacks.
    """
    clock = asyncio.get_running_loop().time
    ends_at = clock() + timeout_s
    cut = await server.drain(timeout_s)
    return cut, await listener.close(max(ends_at - clock(), 0))


@asynccontextmanager
async def open_account_lookup(
    store: Store, health: Health, metrics: Metrics, *, scheme: Scheme | None = None, run_dir: Path | None = None
) -> AsyncIterator[AccountLookup]:
    """Open all that answers DFSPs: calls, the participants of the scheme, callbacks, promises, the works."""
    from oracle.api.dfsp.als_metrics import AlsMetrics, MeasuredCalls  # noqa: PLC0415 - _MODULES
    from oracle.api.dfsp.callbacks import Callbacks  # noqa: PLC0415
    from oracle.api.dfsp.clients import Clients  # noqa: PLC0415
    from oracle.api.dfsp.discovery import Discovery  # noqa: PLC0415
    from oracle.api.dfsp.exchanges import Exchanges, Promises  # noqa: PLC0415
    from oracle.api.dfsp.headers import HeaderRules  # noqa: PLC0415
    from oracle.api.dfsp.listener import AccountLookup, list_works  # noqa: PLC0415
    from oracle.api.dfsp.paid import PaidDirectories  # noqa: PLC0415
    from oracle.api.dfsp.participants import ParticipantRequests  # noqa: PLC0415
    from oracle.api.dfsp.parties import PartyRequests  # noqa: PLC0415
    from oracle.api.hub.slices import Slices  # noqa: PLC0415
    from oracle.calls.calls import open_calls  # noqa: PLC0415
    from oracle.scheme.directory import open_scheme  # noqa: PLC0415

    settings, prefix, slices = store.settings, store.settings.cache_prefix, Slices()
    find_session = store.find_session
    async with AsyncExitStack() as stack:
        calls = open_calls(settings, metrics, connections_max=count_calls())
        stack.push_async_callback(calls.close)
        keys: KeySource | None = None
        if scheme is None:
            file = ParticipantsFile(run_dir)
            scheme = keys = await open_scheme(settings, store.postgres, calls, known=file.read(), keep=file.keep)
        stack.push_async_callback(scheme.close)
        directories = await stack.enter_async_context(_open_directories(store, metrics, calls, slices, run_dir))
        als = AlsMetrics(metrics)
        signer = _make_signer(settings)
        if signer is not None:
            stack.callback(signer.close)
        callbacks = Callbacks(
            scheme, MeasuredCalls(calls, metrics), hub_name=settings.hub_name, signer=signer,
            iso20022=settings.account_lookup_api_type == "iso20022", metrics=metrics, name=_name_service(store),
        )  # fmt: skip
        audit = _make_request_log(settings)

        def note_error(asked: Asked, fault: Fault) -> None:
            als.note_error(asked)
            if audit is not None:
                audit.note_error(asked, fault)

        callbacks.on_error = note_error
        exchanges = Exchanges(
            find_session, prefix, party_timeout_s=settings.party_timeout_s, call_timeout_s=settings.call_timeout_s
        )
        promises = Promises(find_session, exchanges, callbacks, metrics)
        promises.open()
        stack.push_async_callback(promises.close)
        discovery = Discovery(
            scheme, callbacks, directories.choose, find_session, prefix=prefix,
            asks_proxies=settings.account_lookup_proxies == "on", timeout_s=settings.discovery_timeout_s,
        )  # fmt: skip
        await stack.enter_async_context(_run_beside(discovery.run))
        budgets = await stack.enter_async_context(
            open_budgets(settings, store.postgres, find_session, metrics, channel="account-lookup")
        )
        paid = PaidDirectories(directories, budgets)
        participants = ParticipantRequests(paid, callbacks, scheme, slices=slices)
        parties = PartyRequests(scheme, paid, callbacks, discovery, exchanges, metrics)
        yield AccountLookup(
            list_works(participants, parties), scheme, health, metrics,
            check_endpoints=participants.check_endpoints,
            clients=Clients(settings.account_lookup_client_id, settings.account_lookup_client_header),
            rules=HeaderRules(settings.account_lookup_api_type),
            promises=promises, validator=_make_validator(settings, keys),
            works_max=settings.account_lookup_works_max, slices=slices, als=als, audit=audit,
            check_budget=paid.check,
        )  # fmt: skip


def _name_service(store: Store) -> str:
    """Name this service in `via`.  The hubs of two schemes can have the same name; their directories differ."""
    confirmed = store.coherence.confirmed
    directory = "" if confirmed is None else confirmed.row.directory_id
    return f"{store.settings.hub_name}-{blake2b(directory.encode(), digest_size=6).hexdigest()}"


@asynccontextmanager
async def _open_directories(
    store: Store, metrics: Metrics, caller: Caller, slices: Slices, run_dir: Path | None
) -> AsyncIterator[OracleDirectories]:
    """Open our own directory, and the choice between it and the oracles elsewhere."""
    from oracle.api.dfsp.directory import OwnDirectory  # noqa: PLC0415 - _MODULES
    from oracle.api.dfsp.oracles import OracleDirectories  # noqa: PLC0415
    from oracle.scheme.oracles import Registry  # noqa: PLC0415

    settings = store.settings
    own = OwnDirectory(
        store.lookups, store.changes, store.routes, metrics, reading=Reading.of(settings),
        change_timeout_s=settings.change_timeout_ms / 1000, slices=slices,
        ignored_hour_max=settings.ignored_hour_max,
    )  # fmt: skip
    file = OraclesFile(run_dir)
    registry = Registry(
        partial(fetch_oracles, store.postgres.reads), settings.account_lookup_own_urls,
        known=file.read(), keep=file.keep,
    )  # fmt: skip
    await registry.open()
    try:
        yield OracleDirectories(
            registry,
            own,
            caller,
            metrics,
            hub_name=settings.hub_name,
            iso20022=settings.account_lookup_api_type == "iso20022",
            slices=slices,
        )
    finally:
        await registry.close()
        await own.close()


def _make_signer(settings: Settings) -> Signer | None:
    if settings.jws_sign == "off" or settings.jws_signing_key_file is None:
        return None
    from oracle.api.dfsp.signatures import BadKey, Signer  # noqa: PLC0415 - it loads a library for cryptography

    try:
        return Signer(settings.jws_signing_key_file)
    except BadKey as exc:  # its text has no part of the key, but an exception is logged without its text
        log.error("The key for signatures cannot be used", file=settings.jws_signing_key_file, reason=str(exc))
        raise


def _make_request_log(settings: Settings) -> RequestLog | None:
    if settings.account_lookup_audit == "off":
        return None
    from oracle.api.dfsp.request_log import RequestLog  # noqa: PLC0415 - _MODULES

    return RequestLog(settings.audit_digest_key[0], Reading.of(settings))


def _make_validator(settings: Settings, source: KeySource | None) -> Validator | None:
    if settings.jws_validate == "off":
        return None
    from oracle.api.dfsp.signatures import KeyDirectory, Validator  # noqa: PLC0415 - as above

    folder = settings.jws_verification_keys_dir
    files = None if folder is None else KeyDirectory(folder)
    return Validator(files, source, put_parties=settings.jws_validate_put_parties == "on")


@asynccontextmanager
async def _run_beside(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run it while the block runs; it ends by itself when its event is set."""
    stop = asyncio.Event()
    running = asyncio.create_task(run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def run_oracles(
    settings: Settings,
    sock: socket.socket,
    index: int,
    run_dir: Path | None,
    link: Link,
    stop: asyncio.Event,
) -> None:
    from oracle.api.oracles.listener import JSON, LIMITS, OraclesApi  # noqa: PLC0415 - _MODULES

    assert settings.database_url is not None  # noqa: S101 - serve has set the embedded one
    metrics = Metrics.open(run_dir, "oracles", index)
    try:
        async with open_postgres(settings.database_url) as postgres:
            api = OraclesApi(postgres, metrics)
            server = HttpServer(api.serve, LIMITS, on_error=api.on_error, refusal_fields=JSON)
            connections = metrics.slot("http_connections")

            def look() -> None:
                metrics.cells[connections] = float(len(server.connections))

            watching = asyncio.create_task(watch_event_loop(metrics, LOOK_EVERY_S, look))
            await server.start(sock, tls=make_tls("oracles", link.credentials, metrics))
            _settle_memory()
            link.report_ready()
            await stop.wait()
            cut = await server.drain(settings.stop_timeout_s)
            await api.close()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            log.info("The worker of /oracles stopped", connections_cut=cut)
    finally:
        metrics.close()


def _settle_memory() -> None:
    """Exempt the objects of the start from garbage collection: they stay, and each full collection would visit them."""
    gc.collect()
    gc.freeze()
