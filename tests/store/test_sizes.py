"""The sizes of PostgreSQL and Redis, as the metrics show them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import isnan

import asyncpg
from redis.asyncio import Redis

from oracle.store import sizes
from oracle.store.cache.coherence import Coherence
from oracle.store.cache.topology import dialler
from oracle.store.postgres import open_postgres
from oracle.telemetry.metrics import Metrics


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


async def test_the_sizes_of_both_servers_are_shown_and_vanish_without_redis(database_url: str, redis_url: str) -> None:
    metrics = Metrics.open(None, "admin", 0)
    connection, redis = await asyncpg.connect(database_url), Redis.from_url(redis_url)
    await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('greenbank')")
    await connection.execute(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
        " SELECT 'MSISDN', 525500000000 + n, 'greenbank' FROM generate_series(1, 1000) AS n"
    )
    await connection.execute("ANALYZE aliases")
    await redis.set("some", "key")
    await redis.config_set("maxmemory", 123_000_000)
    async with open_postgres(database_url, desk=True) as postgres:
        coherence = Coherence(postgres.watch, dialler(redis_url, timeout_ms=5000, token_ms=1000), "t")
        await coherence.open()
        await until(lambda: coherence.session is not None)
        watching = asyncio.create_task(sizes.watch(postgres, coherence, metrics, every_s=0.02))
        try:
            await until(lambda: metrics.read_gauge("cache_keys") >= 1)
            assert metrics.read_gauge("directory_aliases") == 1000
            assert metrics.read_gauge("database_bytes") > 1_000_000
            assert metrics.read_gauge("database_connections_max") == int(
                await connection.fetchval("SHOW max_connections")
            )
            assert metrics.read_gauge("database_connections_used") >= 2
            assert metrics.read_gauge("cache_memory_bytes") > 100_000
            assert metrics.read_gauge("cache_memory_max_bytes") == 123_000_000
            assert metrics.read_gauge("cache_evicted_keys") == 0
            await coherence.close()  # as if Redis were away
            await until(lambda: isnan(metrics.read_gauge("cache_keys")))
            assert isnan(metrics.read_gauge("cache_memory_max_bytes"))
            assert metrics.read_gauge("directory_aliases") == 1000
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await redis.config_set("maxmemory", 0)
            await redis.aclose()
            await connection.close()


async def test_a_redis_role_that_cannot_ask_shows_no_sizes(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    await redis.acl_setuser("small", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-dbsize"])
    session = await dialler(redis_url.replace("unix://", "unix://small:secret@"), timeout_ms=5000, token_ms=1000)()
    try:
        assert await sizes.measure_cache(session) == {}
    finally:
        session.close()
        await redis.acl_deluser("small")
        await redis.aclose()
    assert await sizes.measure_cache(None) == {}
