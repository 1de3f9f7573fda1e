"""The metric that shows that an uploaded file does not advance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg

from oracle.imports import stalled
from oracle.store.postgres import open_postgres
from oracle.telemetry.metrics import Metrics

ADD = """
INSERT INTO batches (fsp_id, state, file_name, file_format, file_bytes, file_sha256, uploaded_by, uploaded_role,
                     needs_approval, started_at)
SELECT fsp_id, $2::text::batch_state, 'a.csv', 'csv', 9, sha256(''), 'aok', 'operator', false, clock_timestamp()
FROM unnest($1::text[]) AS fsp_id RETURNING batch_id
"""


@asynccontextmanager
async def watch(url: str) -> AsyncIterator[tuple[asyncpg.Connection, Callable[[], float]]]:
    """A watch that looks again at once; a connection to change the batches; what the metric shows."""
    metrics = Metrics.open(None, "admin", 0)
    connection = await asyncpg.connect(url)
    async with open_postgres(url, desk=True) as postgres:
        watching = asyncio.create_task(stalled.watch(postgres, metrics, every_s=0.01))
        try:
            yield connection, lambda: metrics.read_gauge("import_stalled_seconds")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await connection.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


async def keep_advancing(connection: asyncpg.Connection, batch_ids: list[int], enough: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not enough():
            await connection.execute(
                "UPDATE batches SET rows_read = rows_read + 1 WHERE batch_id = ANY ($1)", batch_ids
            )


async def add(connection: asyncpg.Connection, state: str, *fsp_ids: str) -> list[int]:
    await connection.execute("INSERT INTO fsps SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", list(fsp_ids))
    return [row["batch_id"] for row in await connection.fetch(ADD, list(fsp_ids), state)]


async def test_the_time_grows_while_a_file_does_not_advance_and_ends_with_it(database_url: str) -> None:
    async with watch(database_url) as (connection, read):
        await until(lambda: read() == 0)
        for state in ("validating", "applying"):
            (batch_id,) = await add(connection, state, "greenbank")
            await until(lambda: read() > 0.2)
            await keep_advancing(connection, [batch_id], lambda: read() < 0.2)
            await connection.execute("UPDATE batches SET state = 'done' WHERE batch_id = $1", batch_id)
            await until(lambda: read() == 0)


async def test_a_file_that_advances_does_not_hide_one_that_does_not(database_url: str) -> None:
    async with watch(database_url) as (connection, read):
        good, _ = await add(connection, "applying", "greenbank", "bluebank")
        await keep_advancing(connection, [good], lambda: read() > 0.5)


async def test_a_file_behind_others_can_wait(database_url: str) -> None:
    async with watch(database_url) as (connection, read):
        first = await add(connection, "applying", "greenbank")
        await add(connection, "applying", "greenbank")  # the same FSP
        reading = await add(connection, "validating", "a1", "a2", "a3", "a4")
        await connection.execute("UPDATE batches SET bytes_read = 1 WHERE batch_id = ANY ($1)", reading)
        await add(connection, "validating", "a5")  # more than are read at once
        rounds = 0

        def enough() -> bool:
            nonlocal rounds
            rounds += read() < 0.5
            return rounds >= 300

        await keep_advancing(connection, [*first, *reading], enough)
        await until(lambda: read() > 0.5)  # and now all of them do not advance
