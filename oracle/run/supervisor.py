"""`oracle serve`: one supervisor, the servers it was not given, and the worker processes that answer.

Start.     Listeners first: a taken port is the most common mistake, and the operator should see it at once.  Then
           workers, which import while PostgreSQL starts; they get their order when the schema is right.  If that takes
           long, or PostgreSQL does not answer, the supervisor itself answers 503 (porter.py).
Schema.    An embedded PostgreSQL is ours alone, so all migrations are applied.  With an external one, processes of an
           older version can still work: only pre migrations are applied, and only with the owner's URL.  Without it
           the schema is checked.  The stage post is the operator's act.
Listeners. All workers of a role share one listening socket, opened here.  A worker that dies loses the calls
           it was answering, and none that wait in the kernel.
Jobs.      The worker of this role has no listener, because nobody calls it.  It starts when the others answer, with
           a low priority from its first import on.  In all else it is a worker like the others.
SIGHUP.    Reads the settings again (reload.py) and replaces the workers (crew.py): for new settings, new code or fresh
           memory.  The supervisor itself stays.
Stop.      SIGTERM or SIGINT cancels the one task that serves, and the stop is its unwinding: workers end
           (stop_timeout_s, then by force), then the servers.  Each further signal shortens that.
Servers.   Our own servers are started again when they die, as workers are (run/embedded).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from oracle.run.connections import COMMANDS, RESERVED, count_connections, find_shortage
from oracle.run.crew import Crew, CrewLimits, Renew, worker_starter
from oracle.run.errors import DatabaseError, explain_database_errors, wait_for_database
from oracle.run.greeting import can_show_key, print_greeting, print_step
from oracle.run.listeners import BACKLOG, Place, list_places, open_listeners
from oracle.run.open_files import log_open_files, raise_open_files
from oracle.run.order import ROLES, Command, Order, Role, worker_arguments
from oracle.run.porter import answer_for_workers
from oracle.run.redis_risks import find_risks
from oracle.run.reload import make_renewal
from oracle.run.secrecy import forbid_core_dumps, hide_process
from oracle.run.tls import Credentials, list_tls_warnings, read_credentials
from oracle.settings import Settings, is_every_address, list_warnings
from oracle.telemetry import logs

if TYPE_CHECKING:
    from oracle.run.embedded import ServerUrls
    from oracle.store.migrate import Stage

log = logs.Log(__name__)


def worker_command(role: Role, index: int, listener: int | None, control: int) -> Sequence[str]:
    return [sys.executable, "-m", "oracle", *worker_arguments(role, index, listener, control)]


def serve(
    settings: Settings,
    roles: Sequence[Role] = ROLES,
    command: Command = worker_command,
    limits: CrewLimits | None = None,
    read_settings: Callable[[], Settings] | None = None,
) -> None:
    """Serve until a signal stops it.  Call it from the main thread, which the embedded servers' end is tied to.

    `read_settings` reads the settings again, and raises SettingsError; without it they stay as they are.
    """
    logs.configure(settings.log_level, settings.log_format, role="supervisor")
    forbid_core_dumps()
    hide_process()
    asyncio.run(_serve_until_signal(settings, roles, command, limits or CrewLimits(), read_settings))


async def _serve_until_signal(
    settings: Settings,
    roles: Sequence[Role],
    command: Command,
    limits: CrewLimits,
    read_settings: Callable[[], Settings] | None,
) -> None:
    loop = asyncio.get_running_loop()
    replace = asyncio.Event()
    renew = make_renewal(settings, read_settings or (lambda: settings), roles)
    serving = asyncio.create_task(_serve(settings, roles, command, limits, replace, renew))
    had_terminal = os.isatty(0)

    def on_hangup() -> None:
        # A terminal that was closed sends SIGHUP as well; then nobody is left to serve for.
        if had_terminal and not os.isatty(0):
            serving.cancel()
        else:
            replace.set()

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


async def _serve(
    settings: Settings,
    roles: Sequence[Role],
    command: Command,
    limits: CrewLimits,
    replace: asyncio.Event,
    renew: Renew,
) -> None:
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        credentials = read_credentials(settings, roles)
        places = list_places(settings, roles)
        listeners = open_listeners(places)
        for listener in listeners.values():
            stack.enter_context(listener)
        urls = {place.role: _url(place, listeners[place.role], tls=place.role in credentials) for place in places}
        print_step(settings, f"Starting the oracle on {' and '.join(urls.values())}")
        raise_open_files()
        crew = Crew(settings, roles, listeners, worker_starter(command, limits.ready_s, settings), limits)
        stack.push_async_callback(crew.end)
        await crew.start()
        async with answer_for_workers(listeners, BACKLOG, credentials):
            own_database = settings.database_url is None
            connections = count_connections(settings, roles) + COMMANDS + RESERVED
            settings = await _open_missing_servers(settings, stack, connections)
            stack.push_async_callback(crew.end)  # again, because workers end before the servers they use
            first_key = await _prepare_database(settings, roles, own=own_database)
        log_open_files()  # not before: a start that fails is one line
        log_warnings(settings, credentials)
        if not own_database:
            await _log_shortage(settings, roles)
        settings = msgspec.structs.replace(settings, database_owner_url=None)  # no worker uses it
        run_dir = stack.enter_context(_open_run_directory(settings.data_dir))
        await crew.instruct(Order(settings, run_dir, credentials=credentials))
        await crew.wait_ready()
        seconds = round(time.monotonic() - began, 2)
        named: dict[str, Any] = dict.fromkeys(("hub_url", "admin_url"))
        named |= {f"{role.replace('-', '_')}_url": url for role, url in urls.items()}
        log.info("The oracle is ready", **named, seconds=seconds)
        print_greeting(settings, urls, first_key)
        await crew.keep(replace, renew)


async def _open_missing_servers(settings: Settings, stack: AsyncExitStack, connections: int) -> Settings:
    """Start servers of our own for the URLs that are missing; returns the settings with their URLs.

    `connections`: how many a PostgreSQL of our own must have.
    """
    postgres, valkey = settings.database_url is None, settings.redis_url is None
    if not (postgres or valkey):
        return settings
    from oracle.run.embedded import keep_cache_key, open_embedded  # noqa: PLC0415 - a deployment with its own servers lacks it

    names = " and ".join(name for name, wanted in (("PostgreSQL", postgres), ("Valkey", valkey)) if wanted)
    print_step(settings, f"Starting {names} in {settings.data_dir.resolve()} (the first start takes some seconds)")
    opening = open_embedded(settings.data_dir, postgres=postgres, valkey=valkey, connections=connections)
    embedded: ServerUrls = await stack.enter_async_context(opening)
    return msgspec.structs.replace(
        settings,
        database_url=settings.database_url or embedded.database_url,
        database_owner_url=settings.database_owner_url or embedded.owner_url,
        redis_url=settings.redis_url or embedded.redis_url,
        cache_key=settings.cache_key or ((keep_cache_key(settings.data_dir),) if valkey else ()),
    )


async def _prepare_database(settings: Settings, roles: Sequence[Role], *, own: bool) -> str | None:
    """Make the schema right, and return the first operator's key if it was made.

    Waits for a PostgreSQL that does not answer, for start_wait_s.  `own`: it is the embedded one.
    """

    async def prepare() -> str | None:
        await _make_schema_right(settings, own=own)
        return await _make_first_key(settings) if "admin" in roles else None

    def log_wait(reason: str, left_s: float) -> None:
        log.warning("PostgreSQL does not answer; trying again", reason=reason, wait_s=round(left_s))

    return await wait_for_database(prepare, settings.start_wait_s, log_wait)


async def _make_schema_right(settings: Settings, *, own: bool) -> None:
    url = settings.database_url or ""
    with explain_database_errors(settings.database_owner_url or url):
        from oracle.store.migrate import check_schema, migrate  # noqa: PLC0415 - see explain_database_errors

        if settings.database_owner_url is not None:
            stage: Stage = "post" if own else "pre"
            applied = await migrate(settings.database_owner_url, stage, wait_s=settings.start_wait_s)
            if applied:
                log.info("The database has the schema of this version", migrations=applied)
    with explain_database_errors(url):
        await check_schema(url)


async def _log_shortage(settings: Settings, roles: Sequence[Role]) -> None:
    """Warn if PostgreSQL has too few connections for all processes.  Without an answer there is nothing to compare."""
    url = settings.database_url or ""
    with suppress(DatabaseError), explain_database_errors(url):
        shortage = await find_shortage(url, settings, roles)
        if shortage:
            log.warning(shortage)


def log_warnings(settings: Settings, credentials: Mapping[str, Credentials]) -> None:
    for warning in [*list_warnings(settings), *list_tls_warnings(settings, credentials), *find_risks(settings)]:
        log.warning(warning)


@contextmanager
def _open_run_directory(data_dir: Path) -> Iterator[Path]:
    """Open <data_dir>/run, where our own servers have their sockets as well; else a private one."""
    run = data_dir / "run"
    with suppress(OSError):
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.access(run, os.W_OK | os.X_OK):
        yield run.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="oracle-") as private:
        yield Path(private)


def _url(place: Place, listener: socket.socket, *, tls: bool) -> str:
    name = "localhost" if is_every_address(place.host) else place.host
    return f"{'https' if tls else 'http'}://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"


async def _make_first_key(settings: Settings) -> str | None:
    """Make it only where a person will see it: other people read and keep what goes to a file."""
    if not can_show_key(settings):
        return None
    url = settings.database_url or ""
    with explain_database_errors(url):
        from oracle.run.bootstrap import bootstrap  # noqa: PLC0415 - see explain_database_errors

        return await bootstrap(url)
