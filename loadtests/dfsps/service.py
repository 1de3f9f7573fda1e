"""The account lookup service with its servers, for one run: one worker, and a directory with a payee for each party."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.dfsps.scene import PARTIES, Scene, name_party, name_payee
from loadtests.profiles import make_hub_headers
from loadtests.stack import (
    LONG_TTL,
    StackError,
    find_descendants,
    find_free_port,
    is_listening,
    read_exact_cpu,
    start,
    stop,
)
from oracle.run.embedded import PostgresServer, ValkeyServer
from oracle.store.migrate import migrate

START_S: Final = 90.0
BULK: Final = 2_000
ROLE: Final = "--role account-lookup"


class Running(NamedTuple):
    process: subprocess.Popen[bytes]
    postgres: PostgresServer
    valkey: ValkeyServer
    valkey_port: int
    port: int  # of the account lookup listener
    hub_url: str
    admin_url: str
    log: Path

    def find_workers(self) -> list[int]:
        return [pid for pid in find_descendants(self.process.pid) if ROLE in _read_command(pid)]

    def find_pids(self) -> dict[str, list[int]]:
        """The processes whose CPU a lookup costs."""
        postgres, valkey = self.postgres.process, self.valkey.process
        assert postgres is not None
        assert valkey is not None
        return {
            "worker": self.find_workers(),
            "Redis": [valkey.pid],
            "PostgreSQL": [postgres.pid, *find_descendants(postgres.pid)],
        }

    def read_cpu(self) -> dict[str, dict[int, float]]:
        """Read the CPU time of each of them, in seconds; a backend of PostgreSQL can end meanwhile."""
        found: dict[str, dict[int, float]] = {}
        for name, pids in self.find_pids().items():
            times = found[name] = {}
            for pid in pids:
                with suppress(OSError):
                    times[pid] = read_exact_cpu([pid]).total
        return found

    def kill_worker(self) -> None:
        for pid in self.find_workers()[:1]:
            os.kill(pid, signal.SIGKILL)

    def reload(self) -> None:
        """Let the supervisor replace its workers, which drain."""
        self.process.send_signal(signal.SIGHUP)


def sum_cpu(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Sum what these processes took, in seconds; those that began in between count from zero."""
    return sum(time - before.get(pid, 0.0) for pid, time in after.items())


def _read_command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


@asynccontextmanager
async def run_service(
    home: Path, scene: Scene, settings: Mapping[str, str], workers: int = 1
) -> AsyncIterator[Running]:
    """Run it, with its own PostgreSQL and Valkey; the parties of the scene are registered."""
    postgres_home, valkey_home, data = home / "directory", home / "valkey", home / "oracle"
    for place in (postgres_home, valkey_home):
        place.mkdir(mode=0o700)
    ports = {name: find_free_port() for name in ("valkey", "hub", "admin", "lookup")}
    options = {"bind": "127.0.0.1", "port": str(ports["valkey"]), "maxmemory": "1gb"}
    postgres = PostgresServer(postgres_home, postgres_home, connections=100)
    valkey = ValkeyServer(valkey_home, valkey_home, options=options)
    log = home / "oracle.log"
    process: subprocess.Popen[bytes] | None = None
    try:
        await postgres.start()
        await valkey.start()
        await migrate(postgres.url())
        env = {name: value for name, value in os.environ.items() if not name.startswith("ORACLE_")}
        env |= {
            "ORACLE_DATA_DIR": str(data),
            "ORACLE_DATABASE_URL": postgres.url(),
            "ORACLE_REDIS_URL": f"redis://127.0.0.1:{ports['valkey']}/0",
            "ORACLE_HUB_PORT": str(ports["hub"]),
            "ORACLE_ADMIN_PORT": str(ports["admin"]),
            "ORACLE_ACCOUNT_LOOKUP": "on",
            "ORACLE_ACCOUNT_LOOKUP_PORT": str(ports["lookup"]),
            "ORACLE_ACCOUNT_LOOKUP_WORKERS": str(workers),
            "ORACLE_LEDGER_URL": scene.ledger_url,
            "ORACLE_LOG_FORMAT": "json",
            "ORACLE_WORKERS": "1",
            "ORACLE_AUDIT_DIRECTORY_EVERY_S": "0",
            **LONG_TTL,
            **settings,
        }
        process = start([sys.executable, "-m", "oracle", "serve"], log, env)
        for port in (ports["hub"], ports["lookup"]):
            await _wait_for_port(port, process, log)
        running = Running(
            process, postgres, valkey, ports["valkey"], ports["lookup"], f"http://127.0.0.1:{ports['hub']}",
            f"http://127.0.0.1:{ports['admin']}", log,
        )  # fmt: skip
        await asyncio.to_thread(_register, running.hub_url, len(scene.manners))
        yield running
    finally:
        if process is not None:
            stop(process)
        await valkey.stop()
        await postgres.stop()


async def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(START_S):
        while not is_listening(port):
            if process.poll() is not None:
                raise StackError(f"oracle serve ended:\n{log.read_text()}")  # noqa: ASYNC240 - nothing else runs
            await asyncio.sleep(0.05)


def _register(hub_url: str, payees: int) -> None:
    """Register the parties by bulks of the hub; the first can come before the service is ready."""
    for payee in range(payees):
        numbers = range(payee, PARTIES, payees)
        for first in range(0, len(numbers), BULK):
            items = [
                {"partyIdType": "MSISDN", "partyIdentifier": name_party(number), "fspId": name_payee(payee)}
                for number in numbers[first : first + BULK]
            ]
            body = json.dumps({"requestId": str(uuid.uuid4()), "partyList": items}).encode()
            headers = make_hub_headers(name_payee(payee))
            request = urllib.request.Request(f"{hub_url}/participants", body, headers, method="POST")  # noqa: S310
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - ours
                refused = b"errorInformation" in answer.read()
            if refused:
                raise StackError("the directory refused a party of the load test")
