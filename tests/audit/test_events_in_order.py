"""Questions to the log read what they show, also in the middle of a large transaction; a filter finds every event."""

from __future__ import annotations

import itertools
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from query_plans import count_read
from sealing import execute, open_connection, register, seal

from oracle.audit import log
from oracle.audit.filtered import Limits, Wanted, stream_wanted
from oracle.audit.sealer import SealingLimits
from oracle.store.queries import QUERIES
from oracle.verifier import leaf

if TYPE_CHECKING:
    from pathlib import Path

LARGE: Final = 3_000
ALL: Final = (str(log.LAST), log.LAST, log.FIRST, log.LAST)


def count_events(plan: Any) -> int:
    """Count the events that a plan read, in any partition."""
    tables = {plan.get("Relation Name", "") for plan in walk(plan)}
    return sum(count_read(plan, table) for table in tables if table.startswith("events"))


def walk(plan: Any) -> Any:
    yield plan
    for each in plan.get("Plans", ()):
        yield from walk(each)


async def test_no_question_reads_the_rest_of_a_large_transaction(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, LARGE)
    await seal(database_url, tmp_path / "keys", SealingLimits(batch=500))
    await register(database_url, LARGE, LARGE, "redbank")
    await execute(database_url, "ANALYZE events")
    connection = await log.connect(database_url, "test")

    async def count_of(query: str, *arguments: Any) -> int:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES[query]}"
        return count_events(json.loads(await connection.fetchval(explain, *arguments))[0]["Plan"])

    try:
        middles = await connection.fetch(
            "SELECT xact::text, event_id FROM events WHERE party_identifier = ANY ($1) ORDER BY event_id",
            [f"5255{LARGE // 2:06}", f"5255{LARGE + LARGE // 2:06}"],
        )
        for xact, event_id in middles:
            assert await count_of("audit_waiting", xact, event_id, log.FIRST) <= 1
            assert await count_of("events_in_order", xact, event_id, *ALL, 50) <= 51
            assert await count_of("audit_unsealed", xact, event_id, log.FIRST) <= 1.6 * LARGE
        assert await count_of("audit_batch_of_event", middles[0]["event_id"]) <= 501
        assert await count_of("audit_batches_of_few", "nobody", None, 10) == 0
        assert await count_of("audit_batches_of_few", "redbank", "fsp", 10) <= 14
        assert await count_of("audit_batches_of_few", "greenbank", None, 10) <= 11
    finally:
        await connection.close()


async def test_a_filter_finds_the_events_that_a_filter_of_the_whole_log_finds(
    database_url: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    for first, fsp_id in ((0, "greenbank"), (40, "redbank"), (80, "bluebank"), (120, "greenbank")):
        await register(database_url, first, 40, fsp_id)
        await seal(database_url, keys, SealingLimits(batch=16))
    await execute(
        database_url,
        "UPDATE aliases SET fsp_id = 'redbank' WHERE identifier IN ('5255000003', '5255000004')",
        "UPDATE fsps SET name = 'Red' WHERE fsp_id = 'redbank'",
        # By a clock that is wrong: early in the order, late in the period.
        "ALTER TABLE events DISABLE TRIGGER USER",
        "UPDATE events SET at = '2024-01-01' WHERE party_identifier IN ('5255000100', '5255000150')",
        "ALTER TABLE events ENABLE TRIGGER USER",
    )
    size = await seal(database_url, keys, SealingLimits(batch=16))
    connection = await log.connect(database_url, "test")
    try:
        rows: list[Any] = []
        async with aclosing(log.stream_leaves(connection, 0, size)) as leaves:
            async for more in leaves:
                rows += more
        middle = rows[60]["at"]
        times = (None, datetime(2024, 1, 2, tzinfo=UTC), middle, datetime.now(UTC) + timedelta(days=1))
        wants = [
            Wanted(fsp_id=fsp_id, entity=entity, since=since, until=until)
            for fsp_id in (None, "redbank", "nobody") for entity in (None, "alias", "fsp")
            for since, until in itertools.product(times[:3], times)
        ]  # fmt: skip
        sizes = itertools.cycle([(0, size), (7, size - 5)])
        limits = itertools.cycle([Limits(), Limits(portion_leaves=1, few=0), Limits(portion_leaves=40, few=5)])
        for wanted, (begin, end), limit in zip(wants, sizes, limits, strict=False):
            found: list[tuple[int, bytes]] = []
            async with aclosing(stream_wanted(connection, begin, end, wanted, limit)) as stream:
                async for part in stream:
                    found += part
            inside = enumerate(rows[begin:end], begin)
            expected = [(n, leaf.line(row)) for n, row in inside if is_wanted(row, wanted)]
            assert found == expected, (wanted, begin, end, limit)
    finally:
        await connection.close()


async def test_an_export_ends_with_its_period_and_does_not_read_the_rest_of_the_log(
    database_url: str, tmp_path: Path
) -> None:
    for first in range(0, 60, 10):
        await register(database_url, first, 10)
    size = await seal(database_url, tmp_path / "keys", SealingLimits(batch=1))
    connection = await log.connect(database_url, "test")
    snapshots: list[str] = []
    connection.add_query_logger(lambda record: snapshots.append(record.query) if "BEGIN" in record.query else None)
    try:
        (first_day,) = await connection.fetch("SELECT max(at) AS until FROM events WHERE event_id <= 12")
        for until, most in ((datetime(2020, 1, 1, tzinfo=UTC), 1), (first_day["until"], 12 + 20)):
            snapshots.clear()
            async with aclosing(
                stream_wanted(connection, 0, size, Wanted(until=until), Limits(portion_leaves=1))
            ) as stream:
                count = sum([len(part) async for part in stream])
            assert count < 12
            assert 1 <= len(snapshots) <= most
    finally:
        await connection.close()


def is_wanted(row: Any, wanted: Wanted) -> bool:
    former = json.loads(row["before"])["fsp_id"] if row["action"] == "changed" and row["entity"] == "alias" else None
    return (
        wanted.fsp_id in (None, row["fsp_id"], former)
        and wanted.entity in (None, row["entity"])
        and (wanted.since is None or row["at"] >= wanted.since)
        and (wanted.until is None or row["at"] < wanted.until)
    )


async def test_the_leaves_before_an_instant_are_those_of_the_batches_sealed_before_it(
    database_url: str, tmp_path: Path
) -> None:
    async with open_connection(database_url) as connection:
        assert await connection.fetchval(QUERIES["audit_leaf_at"], datetime.now(UTC)) == 0
    await register(database_url, 0, 30)
    await seal(database_url, tmp_path / "keys", SealingLimits(batch=3))
    async with open_connection(database_url) as connection:
        batches = await connection.fetch("SELECT first_leaf, sealed_at FROM audit_batches ORDER BY first_leaf")
        for batch in batches:
            assert await connection.fetchval(QUERIES["audit_leaf_at"], batch["sealed_at"]) == batch["first_leaf"]
        assert await connection.fetchval(QUERIES["audit_leaf_at"], datetime.now(UTC)) == 31
