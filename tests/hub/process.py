"""The oracle under test: the real program in a process of its own, one for each test module."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import servers
from oracle_process import PATIENT, SERVE, OracleProcess, start_oracle, until

from hub.wire import ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from oracle.run.embedded import PostgresServer, ValkeyServer

FSPS: Final = ("payerfsp", "payeefsp", "remotefsp", "strangerfsp", "mallory")
SUSPENDED: Final = "suspendedfsp"


@dataclass(frozen=True)
class Hub:
    port: int
    database_url: str
    process: OracleProcess


@contextmanager
def run_oracle(
    postgres: PostgresServer,
    valkey: ValkeyServer,
    directory: Path,
    settings: Mapping[str, str] | None = None,
    *,
    whole: bool = False,
) -> Iterator[Hub]:
    """Run it on a directory that has only the FSPs of the tests.  Its cache answers already.

    `whole`: with the admin listener, whose start costs two thirds of the CPU of a start.
    """
    name = asyncio.run(servers.make_database(postgres))
    url = postgres.url(name)
    try:
        asyncio.run(_create_fsps(url))
        env = {**PATIENT, "ORACLE_DATABASE_URL": url, "ORACLE_REDIS_URL": valkey.url(), **(settings or {})}
        command = SERVE if whole else (*SERVE, "--only", "hub")
        with start_oracle(directory, env, command=command) as process:
            port = process.hub_port
            until(lambda: b"DOWN" not in ask(port, b"GET /health HTTP/1.1\r\n\r\n").body)
            yield Hub(port, url, process)
    finally:
        asyncio.run(servers.drop_database(postgres, name))


async def _create_fsps(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO fsps (fsp_id) SELECT unnest($1::text[])", list(FSPS))
        await connection.execute("INSERT INTO fsps (fsp_id, status) VALUES ($1, 'suspended')", SUSPENDED)
    finally:
        await connection.close()
