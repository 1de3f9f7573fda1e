"""Measures a file from the upload to the results with `oracle serve`: `python -m loadtests.file_import --rows 1000000`.

File        phone numbers in random order (or `--order sequential`), with `--bad` rows of ten kinds among them.
Rates       rows a second while it is read and checked, while it is applied with its history, and end to end, from the
            first byte sent to the state `done`; and the rate of the results file.
CPU         of the jobs process and of PostgreSQL, for each row while rows are applied.  Compare this on a machine
            with other load.  It includes the sealing of the history, which happens at the same time.
Memory      the peak resident memory of the admin process and of the jobs process.
Lookups     `--beside`: p50 and p99 of cached lookups before the import, and while rows are applied.
            The file registers other identifiers, because lookups of changed ones go to PostgreSQL anyway.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import httpx
import uvloop

from loadtests import dataset, machine, wrk
from loadtests.arguments import parse_count
from loadtests.figures import format_figures
from loadtests.keys import Keys
from loadtests.stack import (
    LONG_TTL,
    Service,
    StackError,
    find_descendants,
    make_room,
    read_cpu,
    read_resident_bytes,
    run_oracle,
    run_valkey,
    wait_for_cache,
)
from loadtests.warm import warm
from loadtests.wrk import Result, Targets, WrkError
from oracle.run.bootstrap import bootstrap

MIB: Final = 2**20
HEADER: Final = b"kind,identifier,sub_id,currency,country,action\n"
FSP: Final = "loadbank"
ASK_S: Final = 0.2
LINES_AT_ONCE: Final = 5_000
BAD: Final = (
    b"FAX,%d,,,,\n",
    b",5255%08d,,,,\n",
    b"MSISDN,,,,,\n",
    b"MSISDN,5.25512E+%02d,,,,\n",
    b"MSISDN,=5255%08d,,,,\n",
    b"MSISDN,055%08d,,,,\n",
    b"MSISDN,5255%08d,,pesos,,\n",
    b"MSISDN,5255%08d,,,,upsert\n",
    b"MSISDN,5255%08d\n",
    b"CLABE,032180000118359710,,,,\n",
)


def make_lines(rows: int, bad: int, order: str) -> Iterator[bytes]:
    """Yield the file, some lines at a time."""
    yield HEADER
    # A walk through all residues looks random and needs no memory.
    step = 1 if order == "sequential" else 61_803_399
    every = rows // bad if bad else rows + 1
    for first in range(0, rows, LINES_AT_ONCE):
        numbers = range(first, min(first + LINES_AT_ONCE, rows))
        yield b"".join(
            b"MSISDN,5233%08d,,MXN,,add\n" % (n * step % 10**8) if n % every or not bad else _make_bad_line(n, every)
            for n in numbers
        )


def _make_bad_line(number: int, every: int) -> bytes:
    line = BAD[number // every % len(BAD)]
    return line % (number % 90 + 10) if b"%" in line else line


class Watch:
    """Records the peak memory of the processes of each role, in a thread."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._over = threading.Event()
        self.most: dict[str, int] = {"admin": 0, "jobs": 0}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        pids = {role: find_worker(self._service, role) for role in self.most}
        while not self._over.wait(ASK_S):
            for role, pid in pids.items():
                self.most[role] = max(self.most[role], read_resident_bytes(pid))


def find_worker(service: Service, role: str) -> int:
    for pid in find_descendants(service.process.pid):
        if f"--role\0{role}\0" in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise StackError(f"there is no {role} process")


def open_client(service: Service) -> httpx.Client:
    key = asyncio.run(bootstrap(service.database_url))
    client = httpx.Client(
        base_url=f"{service.admin_url}/admin/v1", headers={"Authorization": f"Bearer {key}"}, timeout=300
    )
    client.post("/fsps", json={"fspId": FSP}).raise_for_status()
    return client


def measure_import(
    service: Service, client: httpx.Client, arguments: argparse.Namespace, applying: Callable[[], None]
) -> dict[str, Any]:
    """Import a file, and measure it.  Calls `applying` when rows begin to be applied."""
    began = time.monotonic()
    body = make_lines(arguments.rows, arguments.bad, arguments.order)
    answer = client.post(f"/fsps/{FSP}/batches", params={"fileName": "load.csv"}, content=body)
    answer.raise_for_status()
    uploaded = time.monotonic()
    path = f"/fsps/{FSP}/batches/{answer.json()['batchId']}"
    while (batch := client.get(path).json())["state"] == "validating":
        time.sleep(ASK_S / 4)
    validated = time.monotonic()
    used = read_cpu([find_worker(service, "jobs")]), read_cpu(service.postgres_pids)
    applying()
    while (batch := client.get(path).json())["state"] == "applying":
        time.sleep(ASK_S)
    done = time.monotonic()
    jobs_cpu = read_cpu([find_worker(service, "jobs")]).since(used[0]).total
    postgres_cpu = read_cpu(service.postgres_pids).since(used[1]).total
    if batch["state"] != "done":
        raise StackError(f"the batch is {batch['state']}: {batch['error']}")
    size, count = 0, 0
    with client.stream("GET", f"{path}/results") as results:
        for piece in results.iter_bytes():
            size, count = size + len(piece), count + piece.count(b"\n")
    if count != arguments.rows + 1 or batch["rows"]["failed"] != arguments.bad:
        raise StackError(f"{count - 1} results, {batch['rows']}")
    return {
        "file_mib": batch["fileBytes"] / MIB,
        "upload_mib_per_s": batch["fileBytes"] / MIB / (uploaded - began),
        "validated_rows_per_s": arguments.rows / (validated - uploaded),
        "applied_rows_per_s": arguments.rows / (done - validated),
        "jobs_cpu_us_per_row": jobs_cpu / arguments.rows * 1e6,
        "postgres_cpu_us_per_row": postgres_cpu / arguments.rows * 1e6,
        "end_to_end_rows_per_s": arguments.rows / (done - began),
        "end_to_end_s": done - began,
        "results_rows_per_s": arguments.rows / (time.monotonic() - done),
        "results_mib": size / MIB,
    }


class Lookups:
    """Measures cached lookups, first quiet and then beside the import."""

    def __init__(self, service: Service, arguments: argparse.Namespace) -> None:
        self._service, self._arguments = service, arguments
        self._targets = Targets("/participants/MSISDN/5255", 8, arguments.aliases)
        asyncio.run(dataset.fill_with_progress(service.database_url, Keys(mix="consecutive"), arguments.aliases))
        uvloop.run(warm(service.hub_url, (self._targets.make_target(i) for i in range(self._targets.size))))
        self._quiet = [self._measure() for _ in range(arguments.rounds)]
        self._busy: list[Result] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure_beside, daemon=True)

    def _measure(self) -> Result:
        arguments = self._arguments
        return wrk.run(
            self._service.hub_url, self._targets, seconds=arguments.seconds, connections=arguments.connections
        )

    def start(self) -> None:
        self._thread.start()

    def _measure_beside(self) -> None:
        while len(self._busy) < self._arguments.rounds and not self._over.is_set():
            self._busy.append(self._measure())

    def compute_figures(self) -> dict[str, Any]:
        self._over.set()
        self._thread.join()
        if len(self._busy) < self._arguments.rounds:
            self._busy.pop()  # a part of it was quiet again
        if not self._busy:
            raise StackError("the import ended before lookups were measured: use more --rows, or fewer --seconds")
        found: dict[str, Any] = {"lookup_rounds_beside": len(self._busy)}
        for name in ("p50_ms", "p99_ms", "rate"):
            quiet, busy = (statistics.median(getattr(one, name) for one in many) for many in (self._quiet, self._busy))
            found |= {
                f"lookup_{name}_quiet": quiet,
                f"lookup_{name}_beside": busy,
                f"lookup_{name}_ratio": busy / quiet,
            }
        return found


def run(home: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    with run_valkey(home) as cache, run_oracle(home, {**LONG_TTL, "ORACLE_REDIS_URL": cache.url}) as service:
        wait_for_cache(service)
        client = open_client(service)
        lookups = Lookups(service, arguments) if arguments.beside else None
        with Watch(service) as watch:
            figures = measure_import(service, client, arguments, lookups.start if lookups else lambda: None)
        figures |= {f"{role}_most_mib": most / MIB for role, most in watch.most.items()}
        return figures | (lookups.compute_figures() if lookups else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=parse_count, default=1_000_000)
    parser.add_argument(
        "--bad", type=int, default=1_000, help="bad rows among them, of ten kinds in turn (default 1,000)"
    )
    parser.add_argument("--order", choices=("random", "sequential"), default="random")
    parser.add_argument("--beside", action="store_true", help="also measure lookups during the import")
    parser.add_argument("--aliases", type=parse_count, default=200_000, help="aliases to look up (default 200,000)")
    parser.add_argument(
        "--rounds", type=parse_count, default=3, help="number of quiet rounds, and of rounds beside the import"
    )
    parser.add_argument("--seconds", type=parse_count, default=6, help="seconds of each round")
    parser.add_argument("--connections", type=parse_count, default=64)
    arguments = parser.parse_args()
    watch = machine.Watch()
    try:
        with make_room() as home:
            figures = run(home, arguments)
    except (StackError, WrkError, dataset.Refused, httpx.HTTPError, ExceptionGroup) as exc:
        print(f"file_import: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    surroundings = watch.end()
    print(*format_figures(figures), sep="\n")
    machine.show(surroundings)
    print(f"saved: {machine.save('file_import', vars(arguments), figures, surroundings=surroundings)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
