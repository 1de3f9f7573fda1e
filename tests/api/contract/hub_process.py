"""The oracle under test: the real program in a process of its own, one for each test module."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import servers
from oracle_process import start_oracle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oracle.store.embedded import PostgresServer, ValkeyServer

FSPS: Final = ("payerfsp", "payeefsp", "remotefsp", "strangerfsp", "mallory")


@dataclass(frozen=True)
class Hub:
    port: int
    admin_port: int
    database_url: str


@contextmanager
def running_oracle(postgres: PostgresServer, valkey: ValkeyServer, directory: Path) -> Iterator[Hub]:
    """On an empty directory in which the FSPs of the tests are known."""
    name = asyncio.run(servers.make_database(postgres))
    url = postgres.url(name)
    try:
        asyncio.run(_introduce(url))
        process = start_oracle(directory, {"ORACLE_DATABASE_URL": url, "ORACLE_REDIS_URL": valkey.url()})
        try:
            yield Hub(process.hub_port, process.admin_port, url)
        finally:
            process.stop()
    finally:
        asyncio.run(servers.drop_database(postgres, name))


async def _introduce(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO fsps (fsp_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", list(FSPS)
        )
    finally:
        await connection.close()
