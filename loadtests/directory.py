"""Measures what `oracle audit verify --directory` costs: `python -m loadtests.directory [--aliases 100000,1000000]`.

It starts a PostgreSQL of its own, registers that many aliases through the triggers, in an order that is not that of
their keys, and removes it afterwards.  Every tenth alias then moves to another FSP, every twentieth is removed.
It compares twice: as PostgreSQL plans it, and with a sort on its disk.

It prints the time of `oracle audit verify --directory` without the log; the CPU of the process that compares and of
PostgreSQL's process, and both for each event or entry; the peak memory of both, PostgreSQL's without the shared
buffers; and what PostgreSQL has written to its disk to sort.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import asyncpg

from loadtests import machine
from loadtests.arguments import parse_numbers
from loadtests.figures import format_figures
from oracle.audit import log
from oracle.audit.directory import WHOLE, Comparison, open_snapshot
from oracle.run.embedded import PostgresServer
from oracle.store.migrate import migrate
from oracle.store.queries import QUERIES

CHUNK: Final = 50_000
FSPS: Final = 100
MIB: Final = 1 << 20
# As for a directory that is larger than the memory, and in another order on the disk than its keys.
_SORT: Final = {"enable_indexscan": "off", "enable_indexonlyscan": "off"}

# 7919 has no divisor in common with a power of ten: neighbours by key are far apart on the disk.
_REGISTER: Final = """
INSERT INTO aliases (party_id_type, identifier, fsp_id)
SELECT 'MSISDN', (525500000000 + n * 7919 % $3::bigint)::text, 'fsp-' || n % 100
FROM generate_series($1::bigint, $2::bigint) AS n
"""
_LATER: Final = (
    "UPDATE aliases SET fsp_id = 'fsp-1' WHERE right(identifier, 1) = '0' AND fsp_id <> 'fsp-1'",
    "DELETE FROM aliases WHERE right(identifier, 2) IN ('05', '25', '45', '65', '85')",
    "VACUUM (ANALYZE) events",
    "VACUUM (ANALYZE) aliases",
)


async def fill(connection: Any, count: int) -> None:
    await connection.execute("INSERT INTO fsps (fsp_id) SELECT 'fsp-' || n FROM generate_series(0, $1::int) AS n", FSPS)
    for first in range(0, count, CHUNK):
        await connection.execute(_REGISTER, first, min(first + CHUNK, count) - 1, count)
    for statement in _LATER:
        await connection.execute(statement)


async def measure(url: str, count: int, settings: dict[str, str]) -> None:
    connection = await log.connect(url, "loadtest")
    try:
        before = await connection.fetchval("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
        pid = connection.get_server_pid()
        watching = asyncio.create_task(_watch_anonymous(pid))
        comparison, found, began = Comparison(connection), 0, time.perf_counter()
        own_s, server_s = time.process_time(), _read_cpu(pid)
        async with open_snapshot(connection, settings):
            plans = [
                await _explain(connection, name) for name in ("directory_alias_events", "directory_default_entries")
            ]
            async with aclosing(comparison.find()) as differences:
                async for _ in differences:
                    found += 1
        seconds = time.perf_counter() - began
        own_s, server_s = time.process_time() - own_s, _read_cpu(pid) - server_s
        watching.cancel()
        backend = max(await watching)
    finally:
        await connection.close()
    await asyncio.sleep(1)  # PostgreSQL publishes its statistics when the connection has ended
    reader = await asyncpg.connect(url)
    after = await reader.fetchval("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
    await reader.close()
    rows = comparison.rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sort = "with a sort on the disk" if settings.keys() & _SORT.keys() else "as PostgreSQL plans it"
    cpu_us = (own_s + server_s) / rows.total() * 1e6
    print(
        f"{count:,} aliases, {sort}: {rows['events']:,} events and {rows['directory']:,} entries in {seconds:.1f} s,"
        f" {rows.total() / seconds:,.0f} rows/s; {found} differences\n"
        f"  CPU of the process {own_s:.1f} s, of PostgreSQL {server_s:.1f} s: {cpu_us:.1f} µs a row\n"
        f"  peak memory of the process {peak:.0f} MiB, of PostgreSQL's process {backend / MIB:.0f} MiB;"
        f" written to sort {(after - before) / MIB:.0f} MiB\n"
        f"  plan for events: {plans[0]}\n  plan for entries: {plans[1]}",
        flush=True,
    )


def _read_cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _explain(connection: Any, name: str) -> str:
    """Return the nodes of the plan, the outer one first."""
    sql = QUERIES[name].replace("$1", "''").replace("$2", "'MSISDN'")
    plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}"))[0]["Plan"]
    nodes: list[str] = []

    def collect(node: Any) -> None:
        nodes.append(node["Node Type"] + (f" {node['Index Name']}" if "Index Name" in node else ""))
        for child in node.get("Plans", ()):
            collect(child)

    collect(plan)
    return ", ".join(dict.fromkeys(nodes))


async def _watch_anonymous(pid: int) -> list[int]:
    """Return the memory of a process that is its own, in bytes, as it was again and again until cancelled."""
    found, path = [0], Path(f"/proc/{pid}/status")
    try:
        while True:
            lines = path.read_text(encoding="ascii").splitlines()  # noqa: ASYNC240 - of /proc
            found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")))
            await asyncio.sleep(0.05)
    except (asyncio.CancelledError, OSError):
        return found


async def run(counts: list[int]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="oracle-directory-"))
    try:
        for count in counts:
            home = folder / str(count)
            server = PostgresServer(home, home / "run", durable=False)
            (home / "run").mkdir(mode=0o700, parents=True)
            await server.start()
            url = server.url()
            try:
                await migrate(url)
                connection = await asyncpg.connect(url)
                await fill(connection, count)
                await connection.close()
                for settings in (WHOLE, {**WHOLE, **_SORT}):
                    await measure(url, count, settings)
            finally:
                await server.stop()
            shutil.rmtree(home)
    finally:
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aliases", type=parse_numbers, default="100000,1000000", help="comma-separated, ascending")
    counts = parser.parse_args().aliases
    print(*format_figures(machine.collect_facts()), sep="\n")
    watch = machine.Watch()
    asyncio.run(run(counts))
    machine.show(watch.end())
    return 0


if __name__ == "__main__":
    sys.exit(main())
