"""A real service with more cold lookups than PostgreSQL answers: the surplus is refused before any of it is late."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path

import asyncpg
import httpx
from oracle_process import PATIENCE_S, PATIENT, OracleProcess, start_oracle

from oracle.store.cache.lookups import FULL_AT

CLIENTS = 2 * FULL_AT


async def ask(port: int, party: str, answers: list[str], start: asyncio.Barrier | None = None) -> str:
    """Look up on a connection of its own; returns and appends the error code, '' for a party list.

    With `start`, each waits until all are connected: to connect them can take longer than a lookup may.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if start is not None:
            await start.wait()
        writer.write(f"GET /participants/ALIAS/{party} HTTP/1.1\r\nhost: x\r\nfspiop-source: hub\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = json.loads(await reader.readexactly(size))
        code = str(body.get("errorInformation", {}).get("errorCode", ""))
        answers.append(code)
        return code
    finally:
        writer.close()


async def ask_until_copied(oracle: OracleProcess, port: int, party: str) -> None:
    """Look up until a copy answers: a service can be ready before its copies count."""
    async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(base_url=oracle.admin_url) as admin:
        while True:
            await ask(port, party, [])
            lines = (await admin.get("/metrics")).text.splitlines()
            hits = [line for line in lines if line.startswith("moja_oracle_lookups_total{") and "negative_hit" in line]
            if any(not line.endswith(" 0.0") for line in hits):
                return


async def test_the_surplus_is_refused_while_the_rest_waits_and_copies_are_answered(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    env = {
        **PATIENT,
        "ORACLE_LOOKUP_TIMEOUT_MS": "3000",
        "ORACLE_DATABASE_URL": database_url,
        "ORACLE_REDIS_URL": redis_url,
    }
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * CLIENTS)), hard))
    oracle = await asyncio.to_thread(start_oracle, tmp_path, env)
    tasks: list[asyncio.Task[str]] = []
    connection = await asyncpg.connect(database_url)
    try:
        port = oracle.hub_port
        await ask_until_copied(oracle, port, "cached")
        await connection.execute("BEGIN; LOCK TABLE aliases IN ACCESS EXCLUSIVE MODE")
        answers: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            # On a busy machine the lookups can come too slowly to be too many: then they wait until it is too late, and
            # the surplus comes after that.
            while "2005" not in answers or answers.index("2003") <= CLIENTS / 4:
                answers.clear()
                start = asyncio.Barrier(CLIENTS)
                tasks = [asyncio.create_task(ask(port, f"cold-{n}", answers, start)) for n in range(CLIENTS)]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                # There, too, the worker can be without progress for so long that it refuses one of these.
                assert "" in [await ask(port, "cached", []) for _ in range(10)]
                await asyncio.gather(*tasks)
                # 2005: refused, because it would have waited for too long.  2003: it waited, and then it was too late.
                assert set(answers) <= {"2005", "2003"}
        await connection.execute("ROLLBACK")
        while await ask(port, "cold-0", []):
            pass
    finally:
        for task in tasks:
            task.cancel()
        await connection.close()
        await asyncio.to_thread(oracle.close)
