"""The first differences of an FSP with many events come from an index; with the rest they are all that a sort finds."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from query_plans import count_read
from sealing import execute, open_connection

from oracle.store.history import _WALK_ORDERED, Difference, DifferenceLimits, stream_differences
from oracle.store.postgres import open_postgres
from oracle.store.queries import QUERIES

if TYPE_CHECKING:
    import asyncpg

FSPS: Final = ("greenbank", "redbank")
BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
CHANGES: Final = (
    "INSERT INTO aliases (party_id_type, identifier, fsp_id, currency) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    "UPDATE aliases SET fsp_id = $3 WHERE party_id_type = $1 AND identifier = $2 AND $4 <> ''",
    "UPDATE aliases SET currency = $4 WHERE party_id_type = $1 AND identifier = $2 AND $3 <> ''",
    "DELETE FROM aliases WHERE party_id_type = $1 AND identifier = $2 AND $3 || $4 <> ''",
)


async def change(connection: asyncpg.Connection, seed: int) -> None:
    """Register, change and remove some aliases; each change is a transaction."""
    rng = random.Random(seed)
    for _ in range(60):
        key = rng.choice(["MSISDN", "ALIAS"]), str(525500000000 + rng.randrange(12))
        await connection.execute(rng.choice(CHANGES), *key, rng.choice(FSPS), rng.choice(["MXN", "USD"]))


async def test_the_first_keys_of_a_walk_and_the_sorted_others_are_all_differences(database_url: str) -> None:
    async with open_connection(database_url) as connection:
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('greenbank'), ('redbank')")
        await change(connection, 1)
        middle = await connection.fetchval("SELECT clock_timestamp()")
        await change(connection, 2)
    later = datetime.now(UTC) + timedelta(days=1)

    async with open_postgres(database_url, desk=True) as postgres:

        async def list_all(fsp_id: str, since: datetime, limits: DifferenceLimits) -> list[Difference]:
            async with aclosing(stream_differences(postgres, fsp_id, since, later, limits)) as stream:
                return [each async for part in stream for each in part]

        for fsp_id in (*FSPS, "nobody"):
            for since in (middle, BEGINNING, later):
                sorted_all = await list_all(fsp_id, since, DifferenceLimits(many=1_000_000))
                assert bool(sorted_all) == (fsp_id in FSPS and since != later)
                for walk in (1, 7, 30, 1_000):
                    found = await list_all(fsp_id, since, DifferenceLimits(many=0, walk=walk))
                    assert sorted(found) == sorted(sorted_all)


async def test_the_first_differences_of_many_read_a_few_events_from_the_first_alias_on(database_url: str) -> None:
    await execute(
        database_url,
        "INSERT INTO fsps (fsp_id) VALUES ('greenbank'), ('redbank')",
        "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
        " SELECT 'MSISDN', (525500000000 + n)::text, CASE WHEN n > 500 THEN 'redbank' ELSE 'greenbank' END"
        " FROM generate_series(1, 1000) AS n",
        "ANALYZE events",
    )
    later = datetime.now(UTC) + timedelta(days=1)
    span = "redbank", BEGINNING, later
    async with open_connection(database_url) as connection, connection.transaction():
        begin = await connection.fetchval(QUERIES["first_identifier"], "redbank")
        assert begin == "525500000501"
        for setting in _WALK_ORDERED:
            await connection.execute(f"SET LOCAL {setting} = off")
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES['history_of_first_keys']}"
        (plan,) = json.loads(await connection.fetchval(explain, *span, begin, 20))
        months = await connection.fetch("SELECT inhrelid::regclass::text FROM pg_inherits"
                                        " WHERE inhparent = 'events'::regclass")  # fmt: skip
        assert sum(count_read(plan["Plan"], month) for (month,) in months) <= 20 + len(months)
    async with open_postgres(database_url, desk=True) as postgres, asyncio.timeout(60):
        limits = DifferenceLimits(many=499, walk=20)
        async with aclosing(stream_differences(postgres, *span, limits)) as stream:
            parts = [len(part) async for part in stream]
        assert (parts[0], sum(parts)) == (19, 500)
