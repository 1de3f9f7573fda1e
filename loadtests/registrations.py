"""Measures registrations of one alias each: `python -m loadtests.registrations [--connections 1,32,128]`.

For each number of connections, which each wait for their answer: registrations a second, latency, and the CPU time that
each process used for one registration.  History and sealing are on.  The client is a process of its own.  Each
identifier is new.  At the end, the directory and its events must hold every alias that was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import uvloop

from loadtests import machine
from loadtests.arguments import parse_numbers
from loadtests.one_by_one import OneByOne
from loadtests.stack import Service, StackError, find_descendants, make_room, read_cpu, run_oracle, wait_for_cache

FSPS: Final = ("greenbank", "bluebank", "redbank", "goldbank")
_BODY: Final = b'{"fspId":"%b","currency":"MXN"}'
_HEAD: Final = (
    b"POST /participants/MSISDN/5%011d HTTP/1.1\r\nHost: oracle\r\nFSPIOP-Source: %b\r\n"
    b"Content-Type: application/vnd.interoperability.participants+json;version=1.1\r\nContent-Length: %d\r\n\r\n%b"
)
_CHECK: Final = """
SELECT (SELECT count(*) FROM aliases WHERE party_id_type = 'MSISDN') AS aliases,
       (SELECT count(*) FROM events WHERE entity = 'alias') AS events,
       (SELECT count(*) FROM aliases a
         JOIN events e ON (e.party_identifier, e.party_id_type) = (a.identifier, a.party_id_type)
        WHERE e.entity = 'alias' AND e.actor = a.fsp_id AND e.fsp_id = a.fsp_id) AS matched
"""


# The client, in a process of its own ----------------------------------------------------------------------------


class Run:
    def __init__(self, first: int, seconds: float) -> None:
        self.next = first
        self.end_at = time.monotonic() + seconds
        self.latencies: list[float] = []
        self.failures: list[bytes] = []


class Client:
    """What one connection sends and gets."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sent_at = 0.0

    def make_next(self) -> bytes | None:
        """Make the next registration; None when the time is up, but always one."""
        run, now = self._run, time.monotonic()
        if self._sent_at and now >= run.end_at:
            return None
        number, run.next = run.next, run.next + 1
        fsp_id = FSPS[number % len(FSPS)].encode()
        body = _BODY % fsp_id
        self._sent_at = now
        return _HEAD % (number, fsp_id, len(body), body)

    def take(self, answer: bytes) -> None:
        self._run.latencies.append(time.monotonic() - self._sent_at)
        if not answer.startswith(b"HTTP/1.1 201 "):
            self._run.failures.append(answer[:200])


def open_client(run: Run) -> OneByOne:
    client = Client(run)
    return OneByOne(client.make_next, client.take)


async def drive(url: str, first: int, seconds: float, connections: int) -> dict[str, Any]:
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 80
    run = Run(first, seconds)
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    opened = [(await loop.create_connection(lambda: open_client(run), host, port))[1] for _ in range(connections)]
    await asyncio.gather(*(each.closed for each in opened))
    took = time.monotonic() - began
    latencies = sorted(run.latencies)
    return {
        "count": len(latencies),
        "seconds": took,
        "next": run.next,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        "failures": [text.decode("latin-1") for text in run.failures[:3]],
        "failed": len(run.failures),
    }


def run_client(url: str, first: int, seconds: float, connections: int) -> dict[str, Any]:
    words = [
        sys.executable,
        "-m",
        "loadtests.registrations",
        "--drive",
        url,
        str(first),
        str(seconds),
        str(connections),
    ]
    outcome = subprocess.run(words, cwd=machine.ROOT, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise StackError(f"the client failed: {outcome.stderr[-500:]}")
    return dict(json.loads(outcome.stdout))


# The measurement ------------------------------------------------------------------------------------------------


def sort_processes(service: Service) -> dict[str, list[int]]:
    """Return the processes of the service by what they are."""
    kinds: dict[str, list[int]] = {"hub workers": service.hub_pids, "PostgreSQL": [], "Valkey": [], "jobs": []}
    for pid in find_descendants(service.process.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        words = command.split(b"\0")
        name = Path(words[0].decode().partition(":")[0]).name
        if name == "postgres":
            kinds["PostgreSQL"].append(pid)
        elif "valkey" in name or "redis" in name:
            kinds["Valkey"].append(pid)
        elif b"--role\0jobs" in command:
            kinds["jobs"].append(pid)
    return kinds


def measure(service: Service, first: int, seconds: float, connections: int) -> dict[str, Any]:
    kinds = sort_processes(service)
    before = {name: read_cpu(pids) for name, pids in kinds.items()}
    figures = run_client(service.hub_url, first, seconds, connections)
    count = figures["count"]
    figures["rate"] = count / figures["seconds"]
    figures["cpu_us"] = {name: read_cpu(pids).since(before[name]).total / count * 1e6 for name, pids in kinds.items()}
    return figures


def run(home: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {"ORACLE_FSP_REGISTRATION": "auto", "ORACLE_CHANGE_TIMEOUT_MS": "9000"}
    figures: dict[str, Any] = {"rounds": []}
    with run_oracle(home, settings) as service:
        wait_for_cache(service)
        # The backends of PostgreSQL must be there before their CPU time is read.
        figures["warm"] = run_client(service.hub_url, 0, 2.0, max(arguments.connections))
        first, acknowledged = figures["warm"]["next"], figures["warm"]["count"]
        for connections in arguments.connections * arguments.rounds:
            each = measure(service, first, arguments.seconds, connections)
            figures["rounds"].append({"connections": connections, **each})
            first, acknowledged = each["next"], acknowledged + each["count"] - each["failed"]
        figures["acknowledged"] = acknowledged
        figures["found"] = asyncio.run(_check(service.database_url))
    return figures


async def _check(url: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    try:
        return dict(await connection.fetchrow(_CHECK))
    finally:
        await connection.close()


def format_figures(figures: dict[str, Any]) -> Iterator[str]:
    for each in figures["rounds"]:
        cpu = ", ".join(f"{name} {value:.0f}" for name, value in each["cpu_us"].items())
        yield (
            f"{each['connections']:4d} connections: {each['rate']:7,.0f}/s, p50 {each['p50_ms']:.1f} ms,"
            f" p99 {each['p99_ms']:.1f} ms; CPU in µs each: {cpu}; failed {each['failed']}"
        )
        yield from (f"     {text!r}" for text in each["failures"])
    found = figures["found"]
    yield (
        f"acknowledged {figures['acknowledged']:,}; the directory has {found['aliases']:,},"
        f" history {found['events']:,}, of which {found['matched']:,} name the alias and its FSP"
    )


def is_complete(figures: dict[str, Any]) -> bool:
    found = figures["found"]
    return bool(figures["acknowledged"] <= found["aliases"] == found["events"] == found["matched"])


def main() -> int:
    if sys.argv[1:2] == ["--drive"]:
        url, first, seconds, connections = sys.argv[2:]
        uvloop.install()
        print(json.dumps(asyncio.run(drive(url, int(first), float(seconds), int(connections)))))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=parse_numbers, default=[1, 32, 128], help="(default 1,32,128)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each measurement")
    arguments = parser.parse_args()
    watch = machine.Watch()
    try:
        with make_room() as home:
            figures = run(home, arguments)
    except StackError as exc:
        print(f"registrations: {exc}", file=sys.stderr)
        return 1
    surroundings = watch.end()
    print(*format_figures(figures), sep="\n")
    machine.show(surroundings)
    print(f"saved: {machine.save('registrations', vars(arguments), figures, surroundings=surroundings)}")
    return 0 if is_complete(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
