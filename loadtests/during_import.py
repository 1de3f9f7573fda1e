"""Measures lookups during an import, start-up time and memory: `python -m loadtests.during_import`.

Import      p50 and p99 of lookups while `oracle seed` writes rows into the same directory, as a ratio to the quiet
            ones before.  Each chunk of rows increases the cache generation, so most lookups go to PostgreSQL.
Start       seconds from `oracle serve` to its first answer: with an empty data directory, and with existing data.
Memory      resident bytes of a worker: idle, and after the load.
Bounds      the import is stopped after the last measurement, or ends before it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from loadtests import dataset, machine, wrk
from loadtests.arguments import parse_count
from loadtests.figures import format_figures
from loadtests.keys import FSPS, Keys
from loadtests.stack import (
    LONG_TTL,
    Service,
    StackError,
    make_room,
    read_resident_bytes,
    run_oracle,
    run_valkey,
    start,
    stop,
    wait_for_cache,
)
from loadtests.warm import warm
from loadtests.wrk import Result, Targets, WrkError

MIB: Final = 2**20


def start_seed(service: Service, rows: int, log: Path) -> Any:
    """Start `oracle seed` in another process, as an operator would.  Its first rows exist already and stay."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORACLE_")}
    command = [sys.executable, "-m", "oracle", "seed", "--count", str(rows), "--fsps", str(FSPS), "--yes"]
    return start(command, log, {**env, "ORACLE_DATABASE_URL": service.database_url})


def measure_first_answer_s(began: float, url: str) -> float:
    with urllib.request.urlopen(f"{url}/participants/MSISDN/525500000000", timeout=20) as answer:  # noqa: S310 - ours
        answer.read()
    return time.monotonic() - began


def measure(service: Service, arguments: argparse.Namespace, log: Path) -> dict[str, Any]:
    targets = Targets("/participants/MSISDN/5255", 8, arguments.aliases)
    uvloop.run(warm(service.hub_url, (targets.make_target(i) for i in range(targets.size))))

    def once() -> Result:
        return wrk.run(service.hub_url, targets, seconds=arguments.seconds, connections=arguments.connections)

    quiet = [once() for _ in range(arguments.rounds)]
    importing = start_seed(service, arguments.aliases + arguments.rows, log)
    try:
        began = time.monotonic()
        busy: list[Result] = []
        while len(busy) < arguments.rounds and importing.poll() is None:
            busy.append(once())
        seconds = time.monotonic() - began
        ended = importing.poll() is not None
        if ended and len(busy) > 1:
            busy.pop()  # a part of it was quiet again
    finally:
        stop(importing)
    if not busy or (ended and importing.returncode != 0):
        raise StackError(f"oracle seed: {log.read_text()}")
    return {
        **compare(quiet, busy),
        "measured_during_import_s": seconds,
        "import_ended_meanwhile": ended,
        "imported_rows": asyncio.run(count_aliases(service)) - arguments.aliases,
    }


async def count_aliases(service: Service) -> int:
    import asyncpg  # noqa: PLC0415 - once

    connection = await asyncpg.connect(service.database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM aliases"))
    finally:
        await connection.close()


def compare(quiet: Sequence[Result], busy: Sequence[Result]) -> dict[str, float]:
    """Return the medians over the rounds, and the ratio of busy to quiet."""
    figures: dict[str, float] = {}
    for name in ("p50_ms", "p99_ms", "rate"):
        before, during = (statistics.median(getattr(one, name) for one in many) for many in (quiet, busy))
        figures |= {f"{name}_quiet": before, f"{name}_importing": during, f"{name}_ratio": during / before}
    return figures


def run(home: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    with run_valkey(home) as cache:
        settings = {**LONG_TTL, "ORACLE_REDIS_URL": cache.url}
        began = time.monotonic()
        with run_oracle(home, settings) as service:
            figures: dict[str, Any] = {"start_first_s": measure_first_answer_s(began, service.hub_url)}
            asyncio.run(dataset.fill_with_progress(service.database_url, Keys(mix="consecutive"), arguments.aliases))
        began = time.monotonic()
        with run_oracle(home, settings) as service:
            figures["start_again_s"] = measure_first_answer_s(began, service.hub_url)
            wait_for_cache(service)
            (worker,) = service.hub_pids
            figures["resident_idle_mib"] = read_resident_bytes(worker) / MIB
            figures |= measure(service, arguments, home / "seed.log")
            figures["resident_loaded_mib"] = read_resident_bytes(worker) / MIB
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--aliases",
        type=parse_count,
        default=200_000,
        help="aliases before the import, all of them cached (default 200,000)",
    )
    parser.add_argument("--rows", type=parse_count, default=1_000_000, help="rows to import (default 1,000,000)")
    parser.add_argument(
        "--rounds", type=parse_count, default=3, help="number of quiet rounds, and of rounds during the import"
    )
    parser.add_argument("--seconds", type=parse_count, default=6, help="seconds of each round")
    parser.add_argument("--connections", type=parse_count, default=64)
    arguments = parser.parse_args()
    watch = machine.Watch()
    try:
        with make_room() as home:
            figures = run(home, arguments)
    except (StackError, WrkError, dataset.Refused, ExceptionGroup) as exc:
        print(f"during_import: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    surroundings = watch.end()
    print(*format_figures(figures), sep="\n")
    machine.show(surroundings)
    print(f"saved: {machine.save('during_import', vars(arguments), figures, surroundings=surroundings)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
