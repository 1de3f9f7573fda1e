"""Measures what questions to history cost: `python -m loadtests.history [--events 1000000,10000000]`.

It starts a PostgreSQL of its own, fills it with that many events in monthly partitions, as after two years, and removes
it afterwards.  Each alias has three events: registered, then two changes of currency.  300 FSPs are suspended and
resumed now and then; 1,000 routes begin and change.  The functions of the API answer questions about random
identifiers and instants.

ms       median and 99th percentile of a question, from memory
buffers  pages of 8 KiB that PostgreSQL reads for one question
diff     the differences of one FSP over the whole time, as they stream
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from loadtests import machine
from loadtests.arguments import parse_count, parse_numbers
from oracle.identifiers.prefix import list_prefixes
from oracle.run.embedded import PostgresServer
from oracle.store import history
from oracle.store.history import EventFilter
from oracle.store.migrate import migrate
from oracle.store.postgres import Postgres, open_postgres
from oracle.store.queries import QUERIES
from oracle.store.resolution import resolve

BLOCK: Final = 300_000  # events of one set of identifiers: three each
KEYS: Final = BLOCK // 3
FSPS: Final = 300
SMALL: Final = f"fsp-{FSPS}"  # one more, without aliases: a handful of events among all of them
ROUTES: Final = 1_000
CHUNK: Final = 100_000
MONTHS: Final = 24
ROUNDS: Final = 400
EVENTS_MAX: Final = 100_000_000

# The events have equal distances, so that the largest number of them fills the months.
_NOW: Final = datetime.now(UTC)
_BEGIN: Final = datetime(_NOW.year - MONTHS // 12, _NOW.month, 1, tzinfo=UTC)
_PARTITION: Final = """
CREATE TABLE {name} (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (event_id));
ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ('{since}') TO ('{until}')
"""
_FSPS: Final = """
INSERT INTO events (at, entity, action, channel, actor, fsp_id, before, after)
SELECT $1::timestamptz + r * interval '1 day', 'fsp', CASE r WHEN 0 THEN 'registered' ELSE 'changed' END, 'admin',
       'operator', 'fsp-' || n, CASE WHEN r > 0 THEN jsonb_build_object('fsp_id', 'fsp-' || n, 'status',
                                             CASE r % 2 WHEN 1 THEN 'active' ELSE 'suspended' END) END,
       jsonb_build_object('fsp_id', 'fsp-' || n, 'status', CASE r % 2 WHEN 0 THEN 'active' ELSE 'suspended' END)
FROM generate_series(0, $2::int - 1) AS n, generate_series(0, 4) AS r
"""
_ROUTES: Final = """
INSERT INTO events (at, entity, action, channel, actor, party_id_type, fsp_id, before, after)
SELECT $1::timestamptz + r * interval '20 days', 'route', CASE r WHEN 0 THEN 'registered' ELSE 'changed' END, 'admin',
       'operator', 'MSISDN', said ->> 'fsp_id', CASE WHEN r > 0 THEN said END, said
FROM generate_series(0, $2::int - 1) AS n, generate_series(0, 1) AS r, LATERAL (SELECT jsonb_build_object(
    'route_id', n, 'party_id_type', 'MSISDN', 'prefix', (5255000 + n)::text, 'fsp_id', 'fsp-' || (n + r) % 300,
    'valid_from', $1::timestamptz, 'valid_to', 'infinity') AS said) AS s
"""
# 7919 has no divisor in common with the number of keys, so neighbours are far apart.
_ALIASES: Final = """
INSERT INTO events (at, entity, action, channel, actor, role, party_id_type, party_identifier, sub_id, fsp_id, before,
                    after, request_id)
SELECT $3::timestamptz + n * $4::interval, 'alias', CASE r WHEN 0 THEN 'registered' ELSE 'changed' END, 'import',
       'maker', 'dfsp-maker', 'MSISDN', (525500000000 + n / 300000 * 100000 + n * 7919 % 100000)::text, '', fsp_id,
       CASE WHEN r > 0 THEN jsonb_build_object('fsp_id', fsp_id, 'default', true, 'currency',
                                               (ARRAY['', 'MXN', 'USD'])[r]) END,
       jsonb_build_object('fsp_id', fsp_id, 'default', true, 'currency', (ARRAY['', 'MXN', 'USD'])[r + 1]), 'batch:1'
FROM generate_series($1::bigint, $2::bigint) AS n,
     LATERAL (SELECT n % 300000 / 100000 AS r, 'fsp-' || (n * 7919 % 100000) % 300 AS fsp_id) AS s
"""


class FilledHistory:
    """The events that exist so far, and their times."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self.step = timedelta(days=30) * MONTHS / most
        self.until = _BEGIN

    async def open(self, connection: Any) -> None:
        for month in range(MONTHS + 1):
            since, until = _find_month(month), _find_month(month + 1)
            named = {"name": f"events_{since:%Y_%m}_filled", "since": since, "until": until}
            if not await connection.fetchval("SELECT to_regclass($1)", f"events_{since:%Y_%m}"):
                await connection.execute(_PARTITION.format(**named))
        await connection.execute(_FSPS, _BEGIN, FSPS + 1)
        await connection.execute(_ROUTES, _BEGIN, ROUTES)

    async def fill(self, connection: Any, count: int) -> None:
        while self.count < count:
            last = min(self.count + CHUNK, count) - 1
            await connection.execute(_ALIASES, self.count, last, _BEGIN, self.step)
            self.count = last + 1
        self.until = _BEGIN + self.count * self.step
        await connection.execute("VACUUM (ANALYZE) events")

    def choose_identifier(self, rng: random.Random) -> str:
        return str(525500000000 + rng.randrange(max(1, self.count // BLOCK)) * KEYS + rng.randrange(KEYS))

    def choose_instant(self, rng: random.Random) -> datetime:
        return _BEGIN + rng.random() * (self.until - _BEGIN)


def _find_month(number: int) -> datetime:
    years, month = divmod(_BEGIN.month - 1 + number, 12)
    return datetime(_BEGIN.year + years, month + 1, 1, tzinfo=UTC)


# Questions --------------------------------------------------------------------------------------------------------


Question = Callable[[], Awaitable[object]]


def make_questions(postgres: Postgres, filled: FilledHistory, rng: random.Random) -> dict[str, Question]:
    async def ask_as_of() -> object:
        at = filled.choose_instant(rng)
        return resolve(
            await history.fetch_situation(postgres, "MSISDN", filled.choose_identifier(rng), at), "", None, at
        )

    async def ask_timeline() -> object:
        return [step async for step in history.stream_steps(postgres, "MSISDN", filled.choose_identifier(rng))]

    async def ask_page(wanted: EventFilter) -> object:
        return await history.fetch_page(postgres, wanted, None, 100)

    def choose_time() -> datetime:
        return filled.choose_instant(rng)

    return {
        "as of an instant": ask_as_of,
        "timeline": ask_timeline,
        "events of an identifier": lambda: ask_page(EventFilter(party=("MSISDN", filled.choose_identifier(rng)))),
        "events of an FSP, 100": lambda: ask_page(EventFilter(fsp_id=f"fsp-{rng.randrange(FSPS)}")),
        "all events of a small FSP": lambda: ask_page(EventFilter(fsp_id=SMALL)),
        "events, 100": lambda: ask_page(EventFilter()),
        "events before an instant, 100": lambda: ask_page(EventFilter(until=choose_time())),
        "events of an FSP before, 100": lambda: ask_page(
            EventFilter(fsp_id=f"fsp-{rng.randrange(FSPS)}", until=choose_time())
        ),
        "routes, 100": lambda: ask_page(EventFilter(entity="route")),
        "by an actor who did nothing": lambda: ask_page(EventFilter(actor="nobody", until=choose_time())),
    }


async def time_questions(questions: dict[str, Question], rounds: int) -> dict[str, dict[str, float]]:
    took: dict[str, list[float]] = {name: [] for name in questions}
    for number in range(rounds + 10):
        for name, question in questions.items():  # in turn, so that other load of the machine affects all of them
            if number % 10 and name.startswith("by an actor"):
                continue  # expensive by its nature
            began = time.perf_counter()
            await question()
            if number >= 10:
                took[name].append((time.perf_counter() - began) * 1000)
    return {
        name: {"ms": statistics.median(each), "p99 ms": statistics.quantiles(each, n=100)[98]}
        for name, each in took.items()
    }


async def count_buffers(postgres: Postgres, filled: FilledHistory, rng: random.Random) -> dict[str, float]:
    """Count the buffers of the two questions that read indexes."""
    found: dict[str, list[int]] = {"as of an instant": [], "timeline": []}
    async with postgres.reads.lend() as connection:
        for _ in range(25):
            identifier = filled.choose_identifier(rng)
            party = "MSISDN", identifier, list_prefixes(identifier)
            asked = {"as of an instant": ("history_as_of", *party, filled.choose_instant(rng)),
                     "timeline": ("history_of_party", *party)}  # fmt: skip
            for name, (query, *arguments) in asked.items():
                text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {QUERIES[str(query)]}"
                (plan,) = msgspec.json.decode(await connection.fetchval(text, *arguments))
                found[name].append(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
    return {name: statistics.median(each) for name, each in found.items()}


async def measure_difference(postgres: Postgres, filled: FilledHistory) -> dict[str, float]:
    began, aliases = time.perf_counter(), 0
    async for part in history.stream_differences(postgres, "fsp-7", _BEGIN, filled.until):
        aliases += len(part)
    return {"s": time.perf_counter() - began, "aliases": aliases}


async def run(sizes: list[int], rounds: int, directory: Path | None) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="oracle-history-", dir=directory))
    server = PostgresServer(home, home / "run", durable=False)
    figures: dict[str, Any] = {}
    try:
        (home / "run").mkdir(mode=0o700)
        await server.start()
        await migrate(server.url())
        connection = await asyncpg.connect(server.url())
        filled = FilledHistory(max(sizes))
        await filled.open(connection)
        for size in sizes:
            began = time.monotonic()
            await filled.fill(connection, size)
            print(f"{size:,} events in {time.monotonic() - began:.0f} s", file=sys.stderr)
            figures[f"{size:,}"] = await measure(server.url(), filled, rounds)
        await connection.close()
    finally:
        await server.stop()
        shutil.rmtree(home)
    return figures


async def measure(url: str, filled: FilledHistory, rounds: int) -> dict[str, Any]:
    rng = random.Random(6)
    async with open_postgres(url, desk=True) as postgres:
        found: dict[str, Any] = await time_questions(make_questions(postgres, filled, rng), rounds)
        for name, pages in (await count_buffers(postgres, filled, rng)).items():
            found[name]["buffers"] = pages
        found["diff"] = await measure_difference(postgres, filled)
    return found


def format_figures(figures: dict[str, Any]) -> str:
    lines = []
    for size, found in figures.items():
        lines.append(f"{size + ' events':32} {'median ms':>10} {'p99 ms':>8} {'blocks read':>12}")
        for name, each in found.items():
            if name == "diff":
                rate = f"{each['aliases'] / each['s']:,.0f} aliases/s" if each["s"] else "-"
                lines.append(f"  all changes of an FSP: {each['aliases']:,} aliases in {each['s']:.1f} s, {rate}")
            else:
                lines.append(f"  {name:30} {each['ms']:10.2f} {each['p99 ms']:8.2f} {each.get('buffers', '-'):>12}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--events",
        type=parse_numbers,
        default="1000000,10000000",
        help="numbers of events to measure, one after the other",
    )
    parser.add_argument("--rounds", type=parse_count, default=ROUNDS)
    parser.add_argument(
        "--directory", type=Path, help="directory for the server's files (default: the system's temporary directory)"
    )
    asked = parser.parse_args()
    sizes = sorted(asked.events)
    if not BLOCK <= sizes[0] <= sizes[-1] <= EVENTS_MAX:
        parser.error(f"--events: {BLOCK:,} to {EVENTS_MAX:,}")
    watch = machine.Watch()
    figures = asyncio.run(run(sizes, asked.rounds, asked.directory))
    surroundings = watch.end()
    print(format_figures(figures))
    machine.show(surroundings)
    kept = machine.save("history", {"events": sizes, "rounds": asked.rounds}, figures, surroundings=surroundings)
    print(f"saved: {kept}")


if __name__ == "__main__":
    main()
