"""The servers of a load test: started on loopback in a temporary directory, stopped by process id, whatever happens.

    with machine_room() as home:                a directory that goes away, with room for sockets in its path
        with valkey(home) as cache:             no eviction, no disk; on loopback TCP, as a deployment reaches it
            with oracle_serve(home, {...}) as service:  `python -m oracle serve` on free ports, with its own PostgreSQL

Ctrl-C and SIGTERM unwind these blocks.  The processes are in groups of their own, so a terminal's Ctrl-C reaches us
alone; and the kernel ends them should we be killed (setpriv).
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

from oracle.run.embedded import EmbeddedError, ValkeyServer

ROOT: Final = Path(__file__).resolve().parent.parent
START_S: Final = 60.0
STOP_S: Final = 20.0

# A test must find what it has warmed.  How long a copy is kept changes nothing on the path of a lookup.
LONG_TTL: Final = {"ORACLE_CACHE_TTL_S": "86400", "ORACLE_CACHE_NEGATIVE_TTL_S": "86400"}


class StackError(Exception):
    """One line or a few: what did not start."""


@contextmanager
def machine_room() -> Iterator[Path]:
    """Also makes SIGTERM what Ctrl-C is, so that both unwind."""
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
    """Orderly, then by force.  A second Ctrl-C shortens the wait, not the end."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(STOP_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], what: str, seconds: float = START_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
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

    def used_bytes(self) -> int:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as redis, redis.makefile("rb") as replies:
            redis.sendall(b"INFO memory\r\n")
            text = replies.read(int(replies.readline()[1:])).decode()
        told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return int(told["used_memory"])

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        asyncio.run(self.server.start())


@contextmanager
def valkey(home: Path) -> Iterator[Cache]:
    """The same binary for every side of a comparison.  4 GB hold 30 million copies; nothing is evicted."""
    place = home / "valkey"
    place.mkdir()
    port = free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "maxmemory": "4gb", "maxmemory-policy": "noeviction"}
    cache = Cache(ValkeyServer(place, place, options=options), port)
    try:
        cache.start()
        yield cache
    except EmbeddedError as exc:
        raise StackError(str(exc)) from exc
    finally:
        asyncio.run(cache.server.stop())


# The oracle -------------------------------------------------------------------------------------------------


class Service(NamedTuple):
    process: subprocess.Popen[bytes]
    hub_url: str
    admin_url: str
    database_url: str
    started_s: float  # from the command to its being ready

    @property
    def hub_pids(self) -> list[int]:
        return [pid for pid in descendants(self.process.pid) if _is_hub_worker(pid)]

    @property
    def postgres_pids(self) -> list[int]:
        """The embedded one with all its backends as they are now; none when the database is somebody else's."""
        return [pid for pid in descendants(self.process.pid) if _command(pid)[:1] == ["postgres"]]

    def counters(self, name: str, label: str) -> dict[str, float]:
        """A counter of /metrics, summed up by one of its labels ('' for none)."""
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
def oracle_serve(
    home: Path, settings: Mapping[str, str], database_url: str | None = None, data_dir: Path | None = None
) -> Iterator[Service]:
    """On its own PostgreSQL below `home`, unless there is a better one: a server, or a data directory."""
    data, log = data_dir or home / "oracle", home / "oracle.log"
    log.unlink(missing_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORACLE_")}
    env |= {
        "ORACLE_DATA_DIR": str(data.resolve()),
        "ORACLE_HUB_PORT": "0",
        "ORACLE_ADMIN_PORT": "0",
        "ORACLE_LOG_FORMAT": "json",
        **({"ORACLE_DATABASE_URL": database_url} if database_url else {}),
        **settings,
    }
    began = time.monotonic()
    process = start([sys.executable, "-m", "oracle", "serve"], log, env)
    try:
        until(lambda: process.poll() is not None or _ready(log) is not None, "oracle serve")
        ready = _ready(log)
        if ready is None:
            raise StackError(f"oracle serve ended:\n{log.read_text()}")
        started_s = time.monotonic() - began
        database_url = database_url or json.loads((data / "running.json").read_bytes())["owner_url"]
        yield Service(process, ready["hub_url"], ready["admin_url"], str(database_url), started_s)
    finally:
        stop(process)


def _ready(log: Path) -> dict[str, str] | None:
    for line in log.read_text().splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == "The oracle is ready":
                return dict(event)
    return None


def wait_for_cache(service: Service, seconds: float = 15.0) -> None:
    """A Redis that is new to the directory is trusted a second after it was met."""
    until(lambda: min(service.counters("cache_connected", "role").values(), default=0) > 0, "cache connected", seconds)


# What the kernel says of processes --------------------------------------------------------------------------


class Cpu(NamedTuple):
    """Seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def since(self, earlier: Cpu) -> Cpu:
        return Cpu(self.user - earlier.user, self.system - earlier.system)


def cpu(pids: Sequence[int]) -> Cpu:
    """Of living processes; what a dead one used is not in it, so measure those that stay."""
    user = system = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user, system = user + int(fields[11]), system + int(fields[12])
    tick = os.sysconf("SC_CLK_TCK")
    return Cpu(user / tick, system / tick)


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    """Children, their children and so on; of all threads, for any of them may have started one."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def _command(pid: int) -> list[str]:
    """The first word without its directory and, of PostgreSQL's backends, without what they do."""
    with suppress(OSError):
        words = [word for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0") if word]
        if words:
            return [Path(words[0].partition(":")[0]).name, *words[1:]]
    return []


def _is_hub_worker(pid: int) -> bool:
    return "--role hub" in " ".join(_command(pid))
