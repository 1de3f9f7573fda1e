"""Measures what sealing and verifying cost: `python -m loadtests.sealing [--events 1000000]`.

registrations   POST /participants over --connections connections, in one service, in alternating rounds with the jobs
                process stopped (SIGSTOP) and running; each round with it begins with no backlog
bulk            the same with 20,000 aliases a transaction, as an import or `oracle seed` writes them
sealing         the backlog up to --events, as fast as possible, with no other load: rate, CPU of the sealer
verification    `oracle audit verify` over all of them: time, CPU, memory
tampering       a superuser changes history in five ways; the findings of the same command, and its time
sizes           bytes an event, table by table

A shared machine gives ratios, not records: compare only figures of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from loadtests import machine
from loadtests.arguments import parse_count
from loadtests.stack import (
    Service,
    StackError,
    find_descendants,
    make_room,
    read_cpu,
    run_oracle,
    wait_for_cache,
    wait_until,
)

CHUNK: Final = 20_000
_ADD: Final = """
INSERT INTO aliases (party_id_type, identifier, fsp_id)
SELECT 'MSISDN', (600000000000 + n)::text, 'greenbank' FROM generate_series($1::bigint, $2::bigint) AS n
"""
_SIZES: Final = """
SELECT CASE WHEN c.relname LIKE 'events%' THEN 'events' ELSE c.relname END AS name,
       sum(pg_total_relation_size(c.oid)) AS bytes
FROM pg_class c WHERE c.relkind = 'r' AND (c.relname LIKE 'audit%' OR c.relname LIKE 'events%') GROUP BY 1 ORDER BY 1
"""
# The statements of each kind, and the beginnings of its findings.
TAMPERING: Final = {
    "alter one": (["UPDATE events SET fsp_id = 'other' WHERE event_id = {0}"], ["altered: event {0} "]),
    "delete one": (["DELETE FROM events WHERE event_id = {0}"], ["removed: the event of leaf "]),
    "swap two": (
        [
            (
                "UPDATE events a SET party_identifier = b.party_identifier FROM events b"
                " WHERE (a.event_id, b.event_id) IN (({0}, {0} + 1), ({0} + 1, {0}))"
            )
        ],
        ["altered: event {0} ", "altered: event {1} "],
    ),
    "insert one": (
        [
            (
                "INSERT INTO events (event_id, xact, entity, action, channel, actor)"
                " SELECT 2000000000 + {0}, xact, 'alias', 'removed', 'admin', 'nobody' FROM events WHERE event_id = {0}"
            )
        ],
        ["inserted: event {2} "],
    ),
    "change a checkpoint": (
        [
            (
                "UPDATE audit_checkpoints SET root = sha256('x')"
                " WHERE size = (SELECT min(size) FROM audit_checkpoints WHERE size > {0})"
            )
        ],
        ["checkpoint: of "],
    ),
}


class Sealer:
    """The jobs process of a service; it can be paused and resumed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        pids = [pid for pid in find_descendants(service.process.pid) if b"--role\0jobs" in _read_command(pid)]
        if not pids:
            raise StackError("there is no jobs process")
        self.pid = pids[0]

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue, and wait until no backlog is left."""
        os.kill(self.pid, signal.SIGCONT)
        wait_until(self.is_done, "sealing", 600)

    def is_done(self) -> bool:
        return bool(asyncio.run(_fetch(self._service.database_url, _UNSEALED)) == 0)


_UNSEALED: Final = """
SELECT (SELECT last_value FROM events_event_id_seq) - greatest(max(event_id_max), 0) FROM audit_batches
"""


def _read_command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def _fetch(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


# Writers ------------------------------------------------------------------------------------------------------------


class Numbers:
    """Gives out each identifier once."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, count: int) -> int:
        first, self.next = self.next, self.next + count
        return first


async def measure_registrations(url: str, numbers: Numbers, seconds: float, connections: int) -> float:
    """Measure registrations a second, over connections that each wait for their answer."""
    address = urlsplit(url)
    end = time.monotonic() + seconds

    async def one() -> int:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        count = 0
        while time.monotonic() < end:
            body = b'{"fspId":"greenbank","currency":"MXN"}'
            head = f"POST /participants/MSISDN/5{numbers.take(1):011} HTTP/1.1\r\nHost: oracle\r\n"
            head += "FSPIOP-Source: greenbank\r\n"
            kind = "Content-Type: application/vnd.interoperability.participants+json;version=1.1\r\n"
            writer.write(f"{head}{kind}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 201 " not in answer.partition(b"\r\n")[0]:
                raise StackError(f"a registration was answered {answer[:40]!r}")
            length = next(
                int(line[15:]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:")
            )
            await reader.readexactly(length)
            count += 1
        writer.close()
        return count

    began = time.monotonic()
    total = sum(await asyncio.gather(*(one() for _ in range(connections))))
    return total / (time.monotonic() - began)


async def measure_bulk(url: str, numbers: Numbers, rows: int) -> float:
    connection = await asyncpg.connect(url)
    try:
        began = time.monotonic()
        for _ in range(0, rows, CHUNK):
            first = numbers.take(CHUNK)
            async with connection.transaction():
                await connection.execute(_ADD, first, first + CHUNK - 1)
        return rows / (time.monotonic() - began)
    finally:
        await connection.close()


def compare_rates(sealer: Sealer, rounds: int, once: Callable[[], float]) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"off": [], "on": []}
    for number in range(rounds):
        # The second one has a larger table and a later checkpoint, so each is second in half of the rounds.
        for name in ("off", "on") if number % 2 else ("on", "off"):
            (sealer.resume if name == "on" else sealer.pause)()
            rates[name].append(once())
    medians = {name: statistics.median(each) for name, each in rates.items()}
    return {"off": medians["off"], "on": medians["on"], "ratio": medians["on"] / medians["off"], "rounds": rates}


# Sealing and verifying ----------------------------------------------------------------------------------------------


def measure_sealing(service: Service, sealer: Sealer, numbers: Numbers, events: int) -> dict[str, float]:
    sealer.pause()
    missing = events - asyncio.run(_fetch(service.database_url, "SELECT count(*) FROM events"))
    if missing > 0:
        asyncio.run(measure_bulk(service.database_url, numbers, missing))
    waiting = asyncio.run(_fetch(service.database_url, _UNSEALED))
    before, began = read_cpu([sealer.pid]), time.monotonic()
    sealer.resume()
    seconds, used = time.monotonic() - began, read_cpu([sealer.pid]).since(before)
    return {"events": waiting, "rate": waiting / seconds, "cpu_us": used.total / max(waiting, 1) * 1e6}


def run_verification(service: Service, key_file: Path) -> dict[str, Any]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORACLE_")}
    env |= {"ORACLE_DATABASE_URL": service.database_url, "ORACLE_AUDIT_KEY_FILE": str(key_file)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "oracle", "audit", "verify"], env=env, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": time.monotonic() - began,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "resident_mib": after.ru_maxrss / 1024,
        "code": ran.returncode,
        "findings": ran.stdout.splitlines(),
        "summary": ran.stderr.strip(),
    }


async def tamper(url: str, events: int) -> dict[str, list[str]]:
    """Change history as a superuser without triggers; return how the findings must begin."""
    connection = await asyncpg.connect(url.replace("oracle@", "postgres@"))
    expected = {}
    try:
        await connection.execute("SET session_replication_role = replica")
        for number, (name, (statements, findings)) in enumerate(TAMPERING.items(), 1):
            place = number * events // (len(TAMPERING) + 1)
            for statement in statements:
                await connection.execute(statement.format(place))
            expected[name] = [each.format(place, place + 1, 2_000_000_000 + place) for each in findings]
    finally:
        await connection.close()
    return expected


def run(home: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    numbers, figures = Numbers(), dict[str, Any]()
    with run_oracle(home, {}) as service:
        wait_for_cache(service)
        sealer = Sealer(service)
        asyncio.run(measure_registrations(service.hub_url, numbers, 2, arguments.connections))  # warm
        figures["registrations"] = compare_rates(
            sealer,
            arguments.rounds,
            lambda: asyncio.run(
                measure_registrations(service.hub_url, numbers, arguments.seconds, arguments.connections)
            ),
        )
        figures["bulk"] = compare_rates(
            sealer, arguments.rounds, lambda: asyncio.run(measure_bulk(service.database_url, numbers, 5 * CHUNK))
        )
        figures["sealing"] = measure_sealing(service, sealer, numbers, arguments.events)
        key_file = home / "oracle" / "audit-keys" / "signing.keys"
        figures["verification"] = run_verification(service, key_file)
        rows = asyncio.run(_fetch_rows(service.database_url, _SIZES))
        count = asyncio.run(_fetch(service.database_url, "SELECT count(*) FROM events"))
        figures["bytes_an_event"] = {row["name"]: float(row["bytes"]) / count for row in rows}
        expected = asyncio.run(tamper(service.database_url, count))
        figures["tampering"] = {**run_verification(service, key_file), "expected": expected}
        found = figures["tampering"]["findings"]
        figures["missed"] = [
            name for name, lines in expected.items() for line in lines if not any(f.startswith(line) for f in found)
        ]
    return figures


async def _fetch_rows(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


def format_figures(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that a person reads."""
    for name, words in (("registrations", "registrations, one a call"), ("bulk", f"registrations, {CHUNK:,} at once")):
        each = figures[name]
        yield (
            f"{words}: {each['off']:,.0f}/s without sealing, {each['on']:,.0f}/s with it"
            f" ({each['ratio'] - 1:+.1%}; medians of {len(each['rounds']['on'])} rounds each)"
        )
    sealing, verification = figures["sealing"], figures["verification"]
    yield (
        f"sealing: {sealing['events']:,} events, {sealing['rate']:,.0f} events/s with its pauses,"
        f" {sealing['cpu_us']:.1f} µs of CPU an event"
    )
    yield (
        f"verification: {verification['seconds']:.1f} s, {verification['cpu_s']:.1f} s of CPU, peak memory"
        f" {verification['resident_mib']:.0f} MiB; it printed: {verification['summary']}"
    )
    sizes = figures["bytes_an_event"]
    yield f"disk: {sum(sizes.values()):,.0f} bytes an event"
    yield from (f"  {size:8.1f} bytes in table {name}" for name, size in sizes.items())
    yield f"tampering: {len(figures['tampering']['findings'])} findings in {figures['tampering']['seconds']:.1f} s"
    yield from (f"  {line}" for line in figures["tampering"]["findings"])
    missed = ", ".join(figures["missed"])
    yield f"tampering that was NOT found: {missed}" if missed else "tampering that was not found: none"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--events", type=parse_count, default=1_000_000, help="events to seal and to verify (default 1,000,000)"
    )
    parser.add_argument("--rounds", type=parse_count, default=8, help="rounds with and without sealing")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of registrations in each round")
    parser.add_argument("--connections", type=parse_count, default=32)
    arguments = parser.parse_args()
    watch = machine.Watch()
    try:
        with make_room() as home:
            figures = run(home, arguments)
    except StackError as exc:
        print(f"sealing: {exc}", file=sys.stderr)
        return 1
    surroundings = watch.end()
    print(*format_figures(figures), sep="\n")
    machine.show(surroundings)
    print(f"saved: {machine.save('sealing', vars(arguments), figures, surroundings=surroundings)}")
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
