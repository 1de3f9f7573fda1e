"""Scans the directory against its budget: `python -m loadtests.scan [--numbers 100000] [--services 2] [--workers 2]`.

One FSP asks for numbers one by one, over many connections to all workers of all services of one directory, as fast as
they answer.  With `enforce` it gets what its tokens pay and then 429.  Another FSP asks a few lookups a second
meanwhile, and must get an answer to all of them.

Figures.   answered   lookups of the scan that were answered, and what they cost
           paid       the bucket at the beginning, and what was refilled until the end
           over       answered - paid, in tokens.  The bound is one lookup for each worker (`oracle.budgets.correction`)
Mode.      `--mode observe` answers everything, and shows what the scan costs the service then.
Exit.      0; 1 if the scan got more than the bound, or the other FSP was refused, or a server did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import uvloop

from loadtests.arguments import parse_count
from loadtests.one_by_one import OneByOne
from loadtests.stack import Service, StackError, make_room, read_cpu, run_oracle, run_valkey, wait_for_cache

SIZE, REFILL, NOBODY = 8_000, 2_000, 3
SCANNER, OTHER = "scanbank", "otherbank"
OTHER_EVERY_S: Final = 0.2
_HEAD: Final = (
    b"GET /participants/MSISDN/5255%08d HTTP/1.1\r\ncontent-type: application/json\r\n"
    b"fspiop-source: %b\r\nhost: x\r\n\r\n"
)


class Scan:
    """What the connections share: the next number, and what was answered."""

    def __init__(self, numbers: int) -> None:
        self.next = 0
        self.numbers = numbers
        self.statuses: Counter[str] = Counter()

    def make_next(self) -> bytes | None:
        if self.next >= self.numbers:
            return None
        self.next += 1
        return _HEAD % (self.next, SCANNER.encode())

    def take(self, answer: bytes) -> None:
        self.statuses[answer[9:12].decode()] += 1


async def scan_services(services: list[Service], numbers: int, connections: int) -> tuple[Scan, float, Counter[str]]:
    """Scan; return it, how long it took in seconds, and what another FSP got meanwhile, by status."""
    scan, loop = Scan(numbers), asyncio.get_running_loop()
    addresses = [
        (urlsplit(service.hub_url).hostname or "", urlsplit(service.hub_url).port or 80) for service in services
    ]
    others: Counter[str] = Counter()
    asking = asyncio.create_task(_ask_meanwhile(addresses, others))
    began = time.monotonic()
    clients = []
    for number in range(connections):
        host, port = addresses[number % len(addresses)]
        opening = loop.create_connection(lambda: OneByOne(scan.make_next, scan.take), host, port)
        clients.append((await opening)[1])
    await asyncio.gather(*(client.closed for client in clients))
    took_s = time.monotonic() - began
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return scan, took_s, others


async def _ask_meanwhile(addresses: list[tuple[str, int]], statuses: Counter[str]) -> None:
    number = 50_000_000
    while True:
        for host, port in addresses:
            number += 1
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(_HEAD % (number, OTHER.encode()))
            statuses[(await reader.readline())[9:12].decode()] += 1
            writer.close()
        await asyncio.sleep(OTHER_EVERY_S)


async def create_fsps(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("INSERT INTO fsps (fsp_id) SELECT unnest($1::text[])", [SCANNER, OTHER])
    finally:
        await connection.close()


def run(home: Path, arguments: argparse.Namespace) -> bool:
    with ExitStack() as stack:
        cache = stack.enter_context(run_valkey(home))
        settings = {
            "ORACLE_REDIS_URL": cache.url,
            "ORACLE_WORKERS": str(arguments.workers),
            "ORACLE_BUDGET_MODE": arguments.mode,
            "ORACLE_BUDGET_ALS_CACHE_OFF": "yes",
            "ORACLE_BUDGET_SOURCES_BOUND": "yes",
            "ORACLE_BUDGET_SIZES": f"C={SIZE}/{REFILL}",
        }
        services = [stack.enter_context(run_oracle(home, settings))]
        asyncio.run(create_fsps(services[0].database_url))
        for number in range(1, arguments.services):
            (home / str(number)).mkdir()
            url = services[0].database_url
            services.append(stack.enter_context(run_oracle(home / str(number), settings, url)))
        for service in services:
            wait_for_cache(service)
        print("waiting until each worker has read the FSPs", flush=True)
        time.sleep(arguments.settle)
        before_s = sum(read_cpu(service.hub_pids).total for service in services)
        scan, took_s, others = uvloop.run(scan_services(services, arguments.numbers, arguments.connections))
        cpu_s = sum(read_cpu(service.hub_pids).total for service in services) - before_s
        return show(scan, took_s, others, cpu_s, arguments)


def show(scan: Scan, took_s: float, others: Counter[str], cpu_s: float, arguments: argparse.Namespace) -> bool:
    workers = arguments.services * arguments.workers
    answered, refused = scan.statuses["200"], scan.statuses["429"]
    paid, bound = SIZE + REFILL / 60 * took_s, NOBODY * workers
    over = answered * NOBODY - paid
    print(f"{arguments.services} services with {arguments.workers} workers each, mode {arguments.mode}")
    print(f"asked     {scan.numbers:>9,} numbers in {took_s:.1f} s, {scan.numbers / took_s:,.0f} a second")
    rest = {status: count for status, count in scan.statuses.items() if status not in ("200", "429")}
    print(f"answered  {answered:>9,} with 200, {refused:,} with 429, {rest or 'none'} with another status")
    print(f"paid      {paid:>9,.0f} tokens ({SIZE:,} and the refill); the answers cost {answered * NOBODY:,}")
    print(f"over      {over:>9,.0f} tokens; the bound is {bound}")
    print(f"CPU       {cpu_s / scan.numbers * 1e6:>9.1f} µs of the workers for a question")
    print(f"meanwhile another FSP got {dict(others)}")
    if arguments.mode != "enforce":
        return True
    return over <= bound and "429" not in others and refused > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--numbers", type=parse_count, default=100_000)
    parser.add_argument("--services", type=parse_count, default=2)
    parser.add_argument("--workers", type=parse_count, default=2, help="of each service")
    parser.add_argument("--connections", type=parse_count, default=64)
    parser.add_argument("--mode", choices=("enforce", "observe", "off"), default="enforce")
    parser.add_argument("--settle", type=float, default=12.0, help="seconds until all workers know the FSPs")
    arguments = parser.parse_args()
    try:
        with make_room() as home:
            return 0 if run(home, arguments) else 1
    except (StackError, ExceptionGroup) as exc:
        print(f"scan: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
