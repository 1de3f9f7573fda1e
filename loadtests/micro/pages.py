"""Measures a page of 100 aliases at the beginning, middle and end of a list: `python -m loadtests.micro.pages`.

It starts a PostgreSQL of its own, fills it with the aliases of one FSP (`--count`), and removes it afterwards.  Seven
in ten are phone numbers, two are accounts (a quarter of them CLABEs), one is an alias.  One phone number in twenty has
a second currency.  Identifiers are in random order, like customers.  The function of the admin API then reads the
first, the middle and the last page in turn, with and without a filter.

ms        median of a page: the queries, and the display of their rows (for phone numbers, most of the time); it reads
          the same pages again and again, so from memory
query ms  the time that PostgreSQL reports for the queries
rows      rows that the index scans returned
buffers   pages of 8 KiB that PostgreSQL read, in memory or not
ratio     last page to first page, in ms and in buffers
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from loadtests import machine
from loadtests.arguments import parse_count
from oracle.api.admin.alias_list import Filter, ListPosition, fetch_page, read_beginnings
from oracle.identifiers import Reading
from oracle.run.embedded import PostgresServer
from oracle.store.migrate import migrate
from oracle.store.postgres import Postgres, open_postgres
from oracle.store.queries import QUERIES

FSP_ID: Final = "greenbank"
LIMIT: Final = 100
CHUNK: Final = 100_000
ROUNDS: Final = 60
EXPLAINED: Final = 9
COUNT_MAX: Final = 100_000_000
SHARES: Final = {"MSISDN": 0.7, "ACCOUNT_ID": 0.2, "ALIAS": 0.1}
SPOTS: Final = {"first": 0.0, "middle": 0.5, "last": 1.0}

# 7919 has no divisor in common with a power of ten: every number occurs once, and neighbours are far apart.
_FILL: Final = {
    "MSISDN": "'5255' || lpad((n * 7919 % 100000000)::text, 8, '0')",
    "ACCOUNT_ID": (
        "CASE WHEN n % 4 > 0 THEN 'A' || base ELSE base || ((10 - (SELECT sum(substr(base, i, 1)::int"
        " * (ARRAY[3, 7, 1])[(i - 1) % 3 + 1]) FROM generate_series(1, 17) AS i) % 10) % 10)::text END"
    ),
    "ALIAS": "'customer-' || lpad((n * 7919 % 100000000)::text, 8, '0')",
}
# A second currency is added a moment after the first, so that the list has other aliases between them.
_ADD: Final = """
WITH added AS (
    INSERT INTO aliases (party_id_type, identifier, fsp_id, currency)
    SELECT '{party_id_type}', {identifier}, $3, 'MXN'
    FROM generate_series($1::bigint, $2::bigint) AS n,
         LATERAL (SELECT '032180' || lpad((n * 7919 % 100000000)::text, 11, '0') AS base) AS b
    RETURNING party_id_type, identifier, fsp_id, changed_at
)
INSERT INTO alias_currencies (party_id_type, identifier, fsp_id, currency, changed_at)
SELECT party_id_type, identifier, fsp_id, 'USD', changed_at + interval '1 millisecond' FROM added
WHERE party_id_type = 'MSISDN' AND right(identifier, 2) IN ('00', '20', '40', '60', '80')
"""
_TRIGGERS: Final = "ALTER TABLE aliases {0} TRIGGER USER; ALTER TABLE alias_currencies {0} TRIGGER USER"
_AT: Final = """
SELECT changed_at, identifier, sub_id, currency FROM aliases WHERE fsp_id = $1 AND party_id_type = $2::party_id_type
ORDER BY changed_at OFFSET $3 LIMIT 1
"""


async def fill(url: str, count: int) -> None:
    """Fill by the statements of `oracle seed`, without history, which is not read here and three times as large."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ($1)", FSP_ID)
        await connection.execute(_TRIGGERS.format("DISABLE"))
        for party_id_type, share in SHARES.items():
            statement = _ADD.format(party_id_type=party_id_type, identifier=_FILL[party_id_type])
            for first, last in _split_chunks(int(count * share)):
                await connection.execute(statement, first, last, FSP_ID)
        await connection.execute(_TRIGGERS.format("ENABLE"))
        await connection.execute("VACUUM (ANALYZE) aliases")
        await connection.execute("VACUUM (ANALYZE) alias_currencies")
    finally:
        await connection.close()


def _split_chunks(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, CHUNK):
        yield first, min(first + CHUNK, count) - 1


class Pages:
    """Measures pages with one filter."""

    def __init__(self, postgres: Postgres, count: int, kind: str | None) -> None:
        self._postgres = postgres
        self._filter = Filter.of(FSP_ID, kind, None, None, None, None, read_beginnings(Reading(), kind, None))
        self._order = [party_id_type for party_id_type, _ in self._filter.beginnings]
        types = {t: int(count * share) for t, share in SHARES.items() if t in self._order}
        self._types = sorted(types.items(), key=lambda each: self._order.index(each[0]))
        self._places: dict[str, ListPosition] = {}
        self._milliseconds: dict[str, list[float]] = {spot: [] for spot in SPOTS}

    async def find(self, url: str) -> None:
        connection = await asyncpg.connect(url)
        try:
            total = sum(rows for _, rows in self._types)
            for spot, share in SPOTS.items():
                self._places[spot] = await self._find_place(connection, min(int(total * share), total - LIMIT - 1))
        finally:
            await connection.close()

    async def _find_place(self, connection: Any, offset: int) -> ListPosition:
        for party_id_type, rows in self._types:
            if offset < rows:
                row = await connection.fetchrow(_AT, FSP_ID, party_id_type, offset)
                return ListPosition(self._order.index(party_id_type), *row)
            offset -= rows
        raise AssertionError(offset)

    async def measure(self) -> None:
        for spot, place in self._places.items():
            began = time.perf_counter()
            entries, _ = await fetch_page(self._postgres.rows, self._filter, "active", place, LIMIT)
            msgspec.json.encode([each.resource(Reading()) for each in entries])
            self._milliseconds[spot].append((time.perf_counter() - began) * 1000)

    async def compute_figures(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for spot, place in self._places.items():
            explainers = [Explainer(self._postgres) for _ in range(EXPLAINED)]
            for explained in explainers:
                entries, _ = await fetch_page(explained.rows, self._filter, "active", place, LIMIT)
            found[spot] = {
                "ms": statistics.median(self._milliseconds[spot]),
                "items": len(entries),
                "queries": explainers[-1].queries,
                "query ms": statistics.median(explained.milliseconds for explained in explainers),
                "rows": explainers[-1].scanned,
                "buffers": explainers[-1].buffers,
            }
        found["ratio"] = {name: found["last"][name] / found["first"][name] for name in ("ms", "query ms", "buffers")}
        return found


class Explainer:
    """Runs each query a second time with EXPLAIN, and sums the cost."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self.queries = self.scanned = self.buffers = 0
        self.milliseconds = 0.0

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        async with self._postgres.desk.lend() as connection:
            text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {QUERIES[query]}"
            (explained,) = msgspec.json.decode(await connection.fetchval(text, *arguments))
        self.queries += 1
        self.milliseconds += explained["Execution Time"] + explained["Planning Time"]
        self.buffers += explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
        self.scanned += sum(_yield_scanned_rows(explained["Plan"]))
        return await self._postgres.rows(query, *arguments)


def _yield_scanned_rows(plan: dict[str, Any]) -> Iterator[int]:
    if "Relation Name" in plan:
        yield plan["Actual Rows"] * plan["Actual Loops"]
    for inner in plan.get("Plans", []):
        yield from _yield_scanned_rows(inner)


async def measure(url: str, count: int, rounds: int) -> dict[str, Any]:
    async with open_postgres(url, desk=True) as postgres:
        lists = {str(kind or "all"): Pages(postgres, count, kind) for kind in (None, "MSISDN", "CLABE")}
        for pages in lists.values():
            await pages.find(url)
        for _ in range(rounds):  # in turn, so that other load of the machine affects all of them
            for pages in lists.values():
                await pages.measure()
        return {name: await pages.compute_figures() for name, pages in lists.items()}


async def run(count: int, rounds: int, directory: Path | None) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="oracle-pages-", dir=directory))
    server = PostgresServer(home, home / "run", durable=False)
    try:
        (home / "run").mkdir(mode=0o700)
        await server.start()
        url = server.url()
        await migrate(url)
        began = time.monotonic()
        await fill(url, count)
        print(f"{count:,} aliases in {time.monotonic() - began:.0f} s", file=sys.stderr)
        return await measure(url, count, rounds)
    finally:
        await server.stop()
        shutil.rmtree(home)


def format_figures(figures: dict[str, Any]) -> str:
    lines = [f"{'list':8} {'page':8} {'ms':>7} {'query ms':>9} {'rows':>6} {'blocks':>8}"]
    for name, pages in figures.items():
        for spot in SPOTS:
            each = pages[spot]
            lines.append(
                f"{name:8} {spot:8} {each['ms']:7.2f} {each['query ms']:9.2f} {each['rows']:6,.0f} {each['buffers']:8,}"
            )
        ratio = pages["ratio"]
        lines.append(f"{name:8} {'ratio':8} {ratio['ms']:7.2f} {ratio['query ms']:9.2f} {'':6} {ratio['buffers']:8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=parse_count, default=10_000_000, help="aliases of the FSP (10,000,000)")
    parser.add_argument("--rounds", type=parse_count, default=ROUNDS)
    parser.add_argument(
        "--directory", type=Path, help="directory for the server's files (default: the system's temporary one)"
    )
    asked = parser.parse_args()
    if not LIMIT * 100 <= asked.count <= COUNT_MAX:
        parser.error(f"--count: {LIMIT * 100:,} to {COUNT_MAX:,}")
    watch = machine.Watch()
    figures = asyncio.run(run(asked.count, asked.rounds, asked.directory))
    surroundings = watch.end()
    print(format_figures(figures))
    machine.show(surroundings)
    kept = machine.save("pages", {"count": asked.count, "rounds": asked.rounds}, figures, surroundings=surroundings)
    print(f"saved: {kept}")


if __name__ == "__main__":
    main()
