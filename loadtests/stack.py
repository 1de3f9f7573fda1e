"""Starts the servers of a load test on loopback in a temporary directory, and always stops them, by process id.

    with make_room() as home:               a temporary directory with a path short enough for sockets
        with run_valkey(home) as cache:     no eviction, no disk; on loopback TCP, as a deployment reaches it
            with run_oracle(home, {...}) as service:    `python -m oracle serve` on free ports, with its own PostgreSQL

Ctrl-C and SIGTERM end these blocks in order.  The processes are in groups of their own, so a terminal's Ctrl-C reaches
only the test program.  If that is killed, the kernel ends the servers (setpriv).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from oracle.run.embedded import EmbeddedError, PostgresServer, ValkeyServer
from oracle.store.cache.lookups import YOUNG_S
from oracle.store.migrate import migrate

ROOT: Final = Path(__file__).resolve().parent.parent
START_S: Final = 60.0
STOP_S: Final = 20.0

# A test must find what it has warmed.  How long a copy is kept changes nothing on the path of a lookup.
LONG_TTL: Final = {"ORACLE_CACHE_TTL_S": "86400", "ORACLE_CACHE_NEGATIVE_TTL_S": "86400"}


class StackError(Exception):
    """A server did not start or misbehaved; the text has one line or a few."""


@contextmanager
def make_room() -> Iterator[Path]:
    """Make a temporary directory, and treat SIGTERM like Ctrl-C, so that both end the blocks in order."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    home = Path(tempfile.mkdtemp(prefix="oracle-load-", dir="/tmp"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)
        signal.signal(signal.SIGTERM, previous)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def start(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    with log.open("ab") as file:
        return subprocess.Popen(
            [*guard, *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=dict(env) if env is not None else None,
            cwd=ROOT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """Stop a process in order, then by force.  A second Ctrl-C shortens only the wait."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(STOP_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Valkey -----------------------------------------------------------------------------------------------------


class Cache(NamedTuple):
    server: ValkeyServer
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self.server.process is not None
        return self.server.process.pid

    def read_used_bytes(self) -> int:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as redis, redis.makefile("rb") as replies:
            redis.sendall(b"INFO memory\r\n")
            text = replies.read(int(replies.readline()[1:])).decode()
        figures = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return int(figures["used_memory"])

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        asyncio.run(self.server.start())


@contextmanager
def run_valkey(home: Path) -> Iterator[Cache]:
    """Run a Valkey, the same binary for every side of a comparison.  4 GB hold 30 million copies, without eviction."""
    place = home / "valkey"
    place.mkdir()
    port = find_free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "maxmemory": "4gb", "maxmemory-policy": "noeviction"}
    cache = Cache(ValkeyServer(place, place, options=options), port)
    try:
        cache.start()
        yield cache
    except EmbeddedError as exc:
        raise StackError(str(exc)) from exc
    finally:
        asyncio.run(cache.server.stop())


# PostgreSQL -------------------------------------------------------------------------------------------------


@contextmanager
def run_postgres(home: Path, connections: int) -> Iterator[str]:
    """Run a PostgreSQL with an empty directory, for several services; yield its URL."""
    place = home / "directory"
    place.mkdir(mode=0o700)
    server = PostgresServer(place, place, connections=connections)
    try:
        asyncio.run(server.start())
        asyncio.run(migrate(server.url()))
        yield server.url()
    except EmbeddedError as exc:
        raise StackError(str(exc)) from exc
    finally:
        asyncio.run(server.stop())


# The oracle -------------------------------------------------------------------------------------------------


class Service(NamedTuple):
    process: subprocess.Popen[bytes]
    hub_url: str
    admin_url: str
    database_url: str
    started_s: float  # from the command until it is ready

    @property
    def hub_pids(self) -> list[int]:
        return [pid for pid in find_descendants(self.process.pid) if _is_hub_worker(pid)]

    @property
    def admin_pids(self) -> list[int]:
        return [pid for pid in find_descendants(self.process.pid) if "admin" in _read_command(pid)]

    @property
    def postgres_pids(self) -> list[int]:
        """The embedded PostgreSQL with all its present backends; none if the database is not embedded."""
        return [pid for pid in find_descendants(self.process.pid) if _read_command(pid)[:1] == ["postgres"]]

    def read_counters(self, name: str, label: str) -> dict[str, float]:
        """Read a counter of /metrics, summed by one of its labels ('' for none)."""
        with urllib.request.urlopen(f"{self.admin_url}/metrics", timeout=10) as page:  # noqa: S310 - ours
            text = page.read().decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"moja_oracle_{name}":
                    key = sample.labels.get(label, "")
                    sums[key] = sums.get(key, 0.0) + sample.value
        return sums


@contextmanager
def run_oracle(
    home: Path,
    settings: Mapping[str, str],
    database_url: str | None = None,
    data_dir: Path | None = None,
    python: str = sys.executable,
) -> Iterator[Service]:
    """Run the oracle on the given database or data directory; without both, on its own PostgreSQL in `home`."""
    data, log = data_dir or home / "oracle", home / "oracle.log"
    log.unlink(missing_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORACLE_")}
    env |= {
        "ORACLE_DATA_DIR": str(data.resolve()),
        "ORACLE_HUB_PORT": "0",
        "ORACLE_ADMIN_PORT": "0",
        "ORACLE_LOG_FORMAT": "json",
        "ORACLE_AUDIT_DIRECTORY_EVERY_S": "0",  # the aliases of data sets have no events
        **({"ORACLE_DATABASE_URL": database_url} if database_url else {}),
        **settings,
    }
    began = time.monotonic()
    process = start([python, "-m", "oracle", "serve"], log, env)
    try:
        wait_until(lambda: process.poll() is not None or _find_ready_event(log) is not None, "oracle serve")
        ready = _find_ready_event(log)
        if ready is None:
            raise StackError(f"oracle serve ended:\n{log.read_text()}")
        started_s = time.monotonic() - began
        database_url = database_url or json.loads((data / "running.json").read_bytes())["owner_url"]
        yield Service(process, ready["hub_url"], ready["admin_url"], str(database_url), started_s)
    finally:
        stop(process)


def _find_ready_event(log: Path) -> dict[str, str] | None:
    for line in log.read_text().splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == "The oracle is ready":
                return dict(event)
    return None


def wait_for_cache(service: Service, seconds: float = 15.0) -> None:
    """Wait until the cache is in use, and copies are stored for their whole TTL.

    The service trusts a new Redis one second after it connects, and makes the copies of a young generation short-lived.
    """
    wait_until(
        lambda: min(service.read_counters("cache_connected", "role").values(), default=0) > 0,
        "cache connected",
        seconds,
    )
    time.sleep(YOUNG_S)


# Figures of the kernel about processes ----------------------------------------------------------------------


class Cpu(NamedTuple):
    """Seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def since(self, earlier: Cpu) -> Cpu:
        return Cpu(self.user - earlier.user, self.system - earlier.system)


def read_cpu(pids: Sequence[int]) -> Cpu:
    """Sum the CPU time of living processes.  Measure only processes that stay alive."""
    user = system = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user, system = user + int(fields[11]), system + int(fields[12])
    tick = os.sysconf("SC_CLK_TCK")
    return Cpu(user / tick, system / tick)


def read_exact_cpu(pids: Sequence[int]) -> Cpu:
    """Like read_cpu, in nanoseconds instead of steps of 10 ms; without threads that have ended."""
    exact = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                exact += int((task / "schedstat").read_text().split()[0])
    counted = read_cpu(pids)
    scale = exact / 1e9 / counted.total if counted.total else 0.0
    return Cpu(counted.user * scale, counted.system * scale)


def pin(pids: Sequence[int], core: int) -> None:
    """Let processes run on one core only, with all their threads."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


def read_resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def find_descendants(pid: int) -> list[int]:
    """Find children, their children and so on, of all threads, because any thread can start a process."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *find_descendants(int(child))]
    return found


def _read_command(pid: int) -> list[str]:
    """Return the command line, its first word without the directory and without the activity of a backend."""
    with suppress(OSError):
        words = [word for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0") if word]
        if words:
            return [Path(words[0].partition(":")[0]).name, *words[1:]]
    return []


def _is_hub_worker(pid: int) -> bool:
    return "--role hub" in " ".join(_read_command(pid))
