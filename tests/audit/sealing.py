"""Helpers of the history tests: events to seal, a sealer that runs to the end, and a user with every right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from spoken import require_translations

from oracle.audit import log
from oracle.audit.keys import SEALING_LOCK, KeyFile
from oracle.audit.sealer import LIMITS, Sealing, SealingLimits
from oracle.audit.verify import Verification


def as_superuser(database_url: str) -> str:
    parts = urlsplit(database_url)
    return urlunsplit(parts._replace(netloc="postgres@"))


@asynccontextmanager
async def open_connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def tampering(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser to whom no trigger applies."""
    async with open_connection(as_superuser(database_url)) as connection:
        await connection.execute("SET session_replication_role = replica")
        yield connection


async def execute(url: str, *statements: str) -> None:
    async with open_connection(url) as connection:
        for statement in statements:
            await connection.execute(statement)


async def register(url: str, first: int, count: int, fsp_id: str = "greenbank") -> None:
    """`count` aliases, one transaction, one event each; and one for the FSP the first time."""
    async with open_connection(url) as connection, connection.transaction():
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ($1) ON CONFLICT DO NOTHING", fsp_id)
        await connection.execute(
            "INSERT INTO aliases (party_id_type, identifier, fsp_id) SELECT 'MSISDN', (5255000000 + n)::text, $3"
            " FROM generate_series($1::int, $2::int) AS n",
            first,
            first + count - 1,
            fsp_id,
        )


# Numbers of transactions are those of the whole server: one that it has open elsewhere, or to analyze a table, would
# hold up what a test has committed.
_OTHERS = """SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL
AND (usesysid IS NULL OR datid IS DISTINCT FROM (SELECT oid FROM pg_database WHERE datname = current_database()))"""


async def seal(url: str, key_file: Path, limits: SealingLimits = LIMITS) -> int:
    """All that can be sealed, once a sealer that was killed has left; the size of the log."""
    writer, reader = await log.connect(url, "test"), await log.connect(url, "test")
    try:
        await writer.execute("SELECT pg_advisory_lock($1)", SEALING_LOCK)
        async with asyncio.timeout(60):
            while await writer.fetchval(_OTHERS):  # noqa: ASYNC110 - a database sets no event
                await asyncio.sleep(0.01)
        sealing = await Sealing.begin(writer, reader, KeyFile(key_file), limits)
        async for _ in sealing.portions():
            pass
        return sealing.tree.size
    finally:
        await writer.close()
        await reader.close()


async def findings(url: str, **options: object) -> list[str]:
    connection = await log.connect(url, "test")
    try:
        verification = Verification(connection, **options)  # type: ignore[arg-type]
        async with aclosing(verification.find()) as found:
            listed = [finding async for finding in found]
    finally:
        await connection.close()
    for finding in listed:
        require_translations(finding.where)
    return [str(finding) for finding in listed]


async def count(url: str) -> int:
    async with open_connection(url) as connection:
        return int(await connection.fetchval("SELECT count(*) FROM events"))
