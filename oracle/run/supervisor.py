"""`oracle serve`: one supervisor, the servers it was not given, and the worker processes that answer.

Start.     Listeners first: a taken port is the commonest mistake and should be told at once.  Then workers,
           which import while PostgreSQL starts; they get their settings when the schema is right.
Control.   Each worker has a socket pair with the supervisor.  Down go the settings (with secrets, so not by
           arguments), up comes one byte when the worker answers.  After that the pair only says, by its end,
           that the supervisor is gone: then a worker stops by itself, whatever killed the supervisor.
Listeners. All workers of a role share one listening socket, opened here.  A worker that dies loses the calls
           it had in hand and none that wait in the kernel.
Jobs.      The worker of this role has no listener, because nobody calls it.  It is started when the others
           answer, and its priority is low from its first import on.  The rest holds for it as for them.
Deaths.    A worker that dies is started again: at once, later and later when it keeps dying.  One that dies
           before the first start was complete ends `serve`: that is a mistake in the settings, no accident.
SIGHUP.    Workers are replaced one after the other, the new one answering before the old one stops: for new
           code or fresh memory.  Settings stay as they were; the supervisor itself stays.
Stop.      SIGTERM or SIGINT cancels the one task that serves, and the stop is its unwinding: workers end
           (stop_timeout_s, then by force), then the servers.  Each further signal cuts that short.
Servers.   Those of our own are started again as well (store/embedded).
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from oracle.settings import Settings, url_masked
from oracle.telemetry import logs

if TYPE_CHECKING:
    from oracle.run.embedded import ServerUrls

Role = Literal["hub", "admin", "jobs"]
ROLES: Final[tuple[Role, ...]] = ("hub", "admin", "jobs")
# `--only`: jobs are ordered at the admin listener, so they run where that is.
PARTS: Final[Mapping[str, tuple[Role, ...]]] = {"hub": ("hub",), "admin": ("admin", "jobs")}

# What a worker runs: settings, listener (left out where the role has none), index, run_dir, ready, stop.
Target = Callable[..., Awaitable[None]]
# The command of a worker: role, index, file descriptor of the listener, if there is one, and of the control socket.
Command = Callable[[Role, int, int | None, int], Sequence[str]]

BACKLOG: Final = 4096  # a restart of the hub brings all its connections at once
READY_S: Final = 60.0  # importing on a busy machine takes seconds; more than this is a worker that hangs
STEADY_S: Final = 10.0  # who lived as long did not die of its start
CLOSING_S: Final = 2  # beyond stop_timeout_s, which a worker gives its calls: to close what it has open
JOBS_NICE: Final = 10  # about a tenth of a core that a lookup wants as well, all of one that nobody wants
BACKOFF_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

log = logs.Log(__name__)


class ServeError(Exception):
    """An expected failure; one line for the operator."""


class DatabaseError(ServeError):
    """PostgreSQL cannot be used; the text names it without its password."""


class Order(msgspec.Struct, frozen=True):
    """What a worker is told."""

    settings: Settings
    run_dir: Path


def serve(settings: Settings, roles: Sequence[Role] = ROLES, command: Command | None = None) -> None:
    """Serve until a signal says stop.  From the main thread: the servers' death with us depends on it."""
    _configure_logs(settings, "supervisor")
    asyncio.run(_until_signalled(settings, roles, command or worker_command))


def worker_command(role: Role, index: int, listener: int | None, control: int) -> Sequence[str]:
    return [sys.executable, "-m", "oracle", *worker_arguments(role, index, listener, control)]


def worker_arguments(role: Role, index: int, listener: int | None, control: int) -> Sequence[str]:
    told = f"worker --role {role} --index {index} --control {control}".split()
    return told if listener is None else [*told, "--fd", str(listener)]


@contextmanager
def database_named(url: str) -> Iterator[None]:
    """Whatever PostgreSQL or the way to it says becomes one line."""
    import asyncpg  # noqa: PLC0415 - 0.1 s that listeners and workers need not wait for

    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError) as exc:
        raise DatabaseError(f"database {url_masked(url)}: it has no schema yet: oracle migrate") from exc
    except (asyncpg.PostgresError, OSError) as exc:
        # The first line: behind it come details, which hold values.
        reason = next(iter(str(exc).splitlines()), "") or type(exc).__name__
        raise DatabaseError(f"database {url_masked(url)}: {reason}") from exc
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as exc:
        # No reason given: these quote parts of the URL.  The second is a server's that has just died.
        raise DatabaseError(f"database {url_masked(url)}: cannot be used ({type(exc).__name__})") from exc


# The supervisor -------------------------------------------------------------------------------------------


async def _until_signalled(settings: Settings, roles: Sequence[Role], command: Command) -> None:
    loop = asyncio.get_running_loop()
    replace = asyncio.Event()
    serving = asyncio.create_task(_serve(settings, roles, command, replace))
    had_terminal = os.isatty(0)

    def hangup() -> None:
        # A terminal that was closed says SIGHUP as well; then nobody is left to serve for.
        if had_terminal and not os.isatty(0):
            serving.cancel()
        else:
            replace.set()

    loop.add_signal_handler(signal.SIGHUP, hangup)
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


async def _serve(settings: Settings, roles: Sequence[Role], command: Command, replace: asyncio.Event) -> None:
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        ports: dict[Role, int] = {"hub": settings.hub_port, "admin": settings.admin_port}
        listeners = {role: stack.enter_context(listen(settings.host, ports[role])) for role in roles if role in ports}
        crew = Crew(settings, roles, listeners, command)
        stack.push_async_callback(crew.end)
        await crew.start()
        settings = await _with_servers(settings, stack)
        stack.push_async_callback(crew.end)  # again, because workers end before the servers they use
        await _migrate(settings)
        first_key = await _first_key(settings) if "admin" in roles else None
        settings = msgspec.structs.replace(settings, database_owner_url=None)  # no worker has a use for it
        await crew.instruct(Order(settings, stack.enter_context(_run_directory(settings.data_dir))))
        await crew.ready()
        urls = {role: _url(settings.host, listener) for role, listener in listeners.items()}
        seconds = round(time.monotonic() - began, 2)
        log.info("ready", hub_url=urls.get("hub"), admin_url=urls.get("admin"), seconds=seconds)
        _greet(settings, urls, first_key)
        await crew.keep(replace)


async def _with_servers(settings: Settings, stack: AsyncExitStack) -> Settings:
    """The settings with the URLs of servers of our own in place of those that are missing."""
    postgres, valkey = settings.database_url is None, settings.redis_url is None
    if not (postgres or valkey):
        return settings
    from oracle.run.embedded import open_embedded  # noqa: PLC0415 - a deployment with its own servers lacks it

    opening = open_embedded(settings.data_dir, postgres=postgres, valkey=valkey)
    embedded: ServerUrls = await stack.enter_async_context(opening)
    return msgspec.structs.replace(
        settings,
        database_url=settings.database_url or embedded.database_url,
        database_owner_url=settings.database_owner_url or embedded.owner_url,
        redis_url=settings.redis_url or embedded.redis_url,
    )


async def _migrate(settings: Settings) -> None:
    url = settings.database_owner_url or settings.database_url or ""
    with database_named(url):
        from oracle.store.migrate import migrate  # noqa: PLC0415 - see database_named

        applied = await migrate(url)
    if applied:
        log.info("schema migrated", migrations=applied)


def listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as exc:
        raise ServeError(f"host {host}: {exc.strerror}") from exc
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a restart waits for TIME_WAIT
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        reason = " is taken" if exc.errno == errno.EADDRINUSE else f": {exc.strerror}"
        raise ServeError(f"port {port} on {host}{reason}") from exc
    listener.setblocking(False)
    return listener


@contextmanager
def _run_directory(data_dir: Path) -> Iterator[Path]:
    """<data_dir>/run, where the servers of our own have their sockets as well; else a private one."""
    run = data_dir / "run"
    with suppress(OSError):
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.access(run, os.W_OK | os.X_OK):
        yield run.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="oracle-") as private:
        yield Path(private)


def _url(host: str, listener: socket.socket) -> str:
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"


async def _first_key(settings: Settings) -> str | None:
    """Made only where a person will see it: logs are kept by others."""
    if settings.log_format == "json":
        return None
    url = settings.database_url or ""
    with database_named(url):
        from oracle.run.bootstrap import bootstrap  # noqa: PLC0415 - see database_named

        return await bootstrap(url)


def _greet(settings: Settings, urls: Mapping[Role, str], first_key: str | None) -> None:
    """Say what to try, unless somebody counts on JSON alone."""
    if settings.log_format == "json":
        return
    lines = [f"oracle {version('alias-oracle')} is ready", ""]
    lines += [f"  {role:6} {url}" for role, url in urls.items()] + ["", "Try:"]
    if "hub" in urls:
        party = f"{urls['hub']}/participants/MSISDN/525512345678"
        kind = "-H 'content-type: application/vnd.interoperability.participants+json;version=1.1'"
        caller = "-H 'fspiop-source: demo-fsp'"
        if settings.fsp_registration == "auto":  # else an unknown FSP is refused
            lines += [f'  curl -i {kind} {caller} -d \'{{"fspId":"demo-fsp"}}\' {party}']
        lines += [f"  curl -i {caller} {party}"]
    if "admin" in urls:
        lines += [f"  curl {urls['admin']}/metrics", f"  a browser at {urls['admin']}/docs"]
    if first_key is not None:
        lines += ["", "The first operator's key, shown this once and valid for a week:", "", f"  {first_key}"]
    with suppress(OSError):  # a closed pipe behind us is no reason not to serve
        print(*lines, "", sep="\n", flush=True)  # noqa: T201 - for the person who started it


# The workers, as the supervisor sees them -----------------------------------------------------------------


class Worker:
    """One process: its control socket, whether it is ready, how it ended."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self.process = process
        self.born = time.monotonic()
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._control = control
        asyncio.get_running_loop().add_reader(control, self._hear)
        self.ended = asyncio.create_task(self._end())

    def instruct(self, order: Order) -> None:
        with suppress(OSError):  # it is dead: `ended` tells
            self._control.sendall(msgspec.json.encode(order, enc_hook=str) + b"\n")

    async def is_ready(self) -> bool:
        """False when it ended instead, or hangs."""
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self.ready), READY_S)
        return False

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        log.warning("worker killed, it did not stop in time", pid=self.process.pid)
        self.signal(signal.SIGKILL)

    @property
    def fate(self) -> str:
        code = self.process.returncode
        if code is None:
            return f"not ready after {READY_S:.0f} s"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _hear(self) -> None:
        # Whatever was heard, there is nothing more to hear: one byte, or the end.
        asyncio.get_running_loop().remove_reader(self._control)
        with suppress(OSError):
            if self._control.recv(1) and not self.ready.done():
                self.ready.set_result(True)

    async def _end(self) -> None:
        await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        if not self.ready.done():
            self.ready.set_result(False)


class Post:
    """A place that is always to be filled by one worker."""

    def __init__(self, role: Role, index: int, listener: socket.socket | None) -> None:
        self.role, self.index, self.listener = role, index, listener
        self.worker: Worker | None = None
        self.vacant = asyncio.Event()
        self.deaths = 0  # in a row, each too soon after its start

    def __str__(self) -> str:
        return f"{self.role} worker {self.index}"

    def backoff_s(self, lived_s: float) -> float:
        self.deaths = 1 if lived_s > STEADY_S else self.deaths + 1
        return BACKOFF_S[min(self.deaths, len(BACKOFF_S)) - 1]


class Crew:
    """All posts, and all living workers: during a replacement those are more than the posts."""

    def __init__(
        self, settings: Settings, roles: Sequence[Role], listeners: Mapping[Role, socket.socket], command: Command
    ) -> None:
        self._stop_timeout_s = settings.stop_timeout_s + CLOSING_S
        self._command = command
        self._order: Order | None = None
        self._living: set[Worker] = set()
        counts: dict[Role, int] = {"hub": settings.workers, "admin": 1, "jobs": 1}
        self._posts = [Post(role, index, listeners.get(role)) for role in roles for index in range(counts[role])]

    async def start(self) -> None:
        for post in self._posts:
            if post.listener is not None:
                post.worker = await self._hire(post)

    async def instruct(self, order: Order) -> None:
        self._order = order
        for worker in self._living:
            worker.instruct(order)

    async def ready(self) -> None:
        """All who answer do so; those whom nobody waits for begin now, on cores that are free again."""
        for post in self._posts:
            if post.worker is not None and not await post.worker.is_ready():
                raise ServeError(f"{post} did not start: {post.worker.fate}")
        for post in self._posts:
            if post.worker is None:
                post.worker = await self._hire(post)

    async def keep(self, replace: asyncio.Event) -> None:
        """Every post filled, for ever."""
        async with asyncio.TaskGroup() as group:
            for post in self._posts:
                group.create_task(self._keep(post))
            group.create_task(self._keep_fresh(replace))

    async def end(self) -> None:
        """All of them: orderly; by force after stop_timeout_s, or when cancelled while waiting."""
        for worker in self._living:
            worker.signal(signal.SIGTERM)
        ends = {worker.ended for worker in self._living}
        if not ends:
            return
        try:
            await asyncio.wait(ends, timeout=self._stop_timeout_s)
        finally:
            for worker in self._living:
                worker.kill()
            await asyncio.wait(ends)

    async def _hire(self, post: Post) -> Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        listener, control = None if post.listener is None else post.listener.fileno(), theirs.fileno()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command(post.role, post.index, listener, control),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[given for given in (listener, control) if given is not None],
                process_group=0,  # a terminal's Ctrl-C is for the supervisor alone
            )
        worker = Worker(process, ours)
        self._living.add(worker)
        worker.ended.add_done_callback(lambda _: self._bury(worker, post))
        if self._order is not None:
            worker.instruct(self._order)
        return worker

    def _bury(self, worker: Worker, post: Post) -> None:
        self._living.discard(worker)
        if post.worker is worker:
            post.vacant.set()

    async def _keep(self, post: Post) -> None:
        while True:
            await post.vacant.wait()
            post.vacant.clear()
            worker = post.worker
            if worker is None or not worker.ended.done():
                continue  # replaced meanwhile
            wait_s = post.backoff_s(time.monotonic() - worker.born)
            log.warning("worker ended", worker=str(post), fate=worker.fate, again_in_s=wait_s)
            await asyncio.sleep(wait_s)
            if post.worker is worker:
                post.worker = await self._hire(post)
            else:
                # SIGHUP has filled it: whoever came now would push that worker out of sight, alive until the stop.
                log.info("worker not started again, it is replaced", worker=str(post))

    async def _keep_fresh(self, replace: asyncio.Event) -> None:
        while True:
            await replace.wait()
            replace.clear()
            log.info("replacing the workers")
            for post in self._posts:
                if not await self._replace(post):
                    break
            else:
                log.info("workers replaced")

    async def _replace(self, post: Post) -> bool:
        fresh = await self._hire(post)
        if not await fresh.is_ready():
            log.error("worker not replaced: the new one did not start", worker=str(post), fate=fresh.fate)
            fresh.signal(signal.SIGKILL)
            return False
        old, post.worker = post.worker, fresh
        if old is not None and not old.ended.done():
            old.signal(signal.SIGTERM)
            # When `serve` is stopped in here, `end` gives the old one its time.
            _, late = await asyncio.wait({old.ended}, timeout=self._stop_timeout_s)
            if late:
                old.kill()
        return True


# A worker, from the inside --------------------------------------------------------------------------------


def work(role: Role, index: int, listener_fd: int | None, control_fd: int, target: Target | None = None) -> int:
    """The whole life of a worker process; its exit code."""
    # Whoever signals a whole group means the supervisor, which then stops or replaces us in its order.
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    if role == "jobs":
        # Lookups go first on a machine they share with an import.  Now, because threads inherit it from their maker.
        os.nice(JOBS_NICE)
    import uvloop  # noqa: PLC0415 - the supervisor has no use for it

    # Now, not when the settings come: the database is starting meanwhile.
    run = target or getattr(import_module("oracle.run.wiring"), f"run_{role}")
    listeners = [] if listener_fd is None else [socket.socket(fileno=listener_fd)]
    with socket.socket(fileno=control_fd) as control:
        order = _ordered(control)
        if order is None:
            return 0
        _configure_logs(order.settings, role, index)
        try:
            uvloop.run(_work(run, order, listeners, index, control))
        except Exception as exc:  # noqa: BLE001 - the supervisor is told by the exit code, people by this line
            log.error("worker failed", exc=exc)
            return 1
        finally:
            for listener in listeners:
                listener.detach()  # the process ends here, and a server may have taken and closed the descriptor
    return 0


def _ordered(control: socket.socket) -> Order | None:
    """What the supervisor says; None when it ended before it said anything."""
    heard = b""
    while not heard.endswith(b"\n"):
        part = control.recv(65_536)
        if not part:
            return None
        heard += part
    return msgspec.json.decode(heard, type=Order, dec_hook=lambda kind, value: kind(value))


async def _work(
    run: Target, order: Order, listeners: Sequence[socket.socket], index: int, control: socket.socket
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def orphaned() -> None:
        # Nobody is left to kill us should we hang: the kernel does.
        loop.remove_reader(control)
        signal.alarm(order.settings.stop_timeout_s + CLOSING_S)
        stop.set()

    def ready() -> None:
        with suppress(OSError):
            control.send(b"\n")

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(control, orphaned)
    await run(order.settings, *listeners, index, order.run_dir, ready, stop)


def _configure_logs(settings: Settings, role: str, index: int | None = None) -> None:
    key = settings.digest_key.encode() if settings.digest_key else None
    if index is None:
        logs.configure(settings.log_level, settings.log_format, digest_key=key, role=role)
    else:
        logs.configure(settings.log_level, settings.log_format, digest_key=key, role=role, index=index)
