"""Measures how much PostgreSQL and Redis hold, for the metrics.

Who.   One process of a service.  It asks each LOOK_EVERY_S, on connections that it has: a desk connection, and the
       session of the cache.
Cost.  PostgreSQL looks at the size of each file of the database: some milliseconds.  Redis answers at once.
Away.  What cannot be measured is not shown: an old size would look like a size of now.
"""

from __future__ import annotations

import asyncio
from math import nan
from typing import Final

import hiredis

from oracle.errors import DirectoryUnavailable
from oracle.store.cache.coherence import Coherence
from oracle.store.cache.session import RedisSession, Unreachable
from oracle.store.cache.topology import ClusterSession
from oracle.store.postgres import Postgres
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

LOOK_EVERY_S: Final = 15.0
_DATABASE: Final = ("database_bytes", "database_connections_used", "database_connections_max", "directory_aliases")
# What INFO calls it, by the name of the metric.
_CACHE: Final = {
    "cache_memory_bytes": "used_memory",
    "cache_memory_max_bytes": "maxmemory",
    "cache_evicted_keys": "evicted_keys",
}
_KEYS: Final = "cache_keys"

_log = logs.Log(__name__)


async def watch(postgres: Postgres, coherence: Coherence, metrics: Metrics, *, every_s: float = LOOK_EVERY_S) -> None:
    """Measure again and again, until cancelled.  `postgres` has a lane for the desk."""
    condition = logs.Condition(_log, "The size of the directory or of its copies", good="is known")
    while True:
        failure = None
        try:
            values = list((await postgres.desk.row("sizes")).values())
        except Exception as exc:  # noqa: BLE001 - a size is not worth the end of this loop
            failure = None if isinstance(exc, DirectoryUnavailable) else exc  # others report that PostgreSQL is away
            values = [nan] * len(_DATABASE)
        for name, value in zip(_DATABASE, values, strict=True):
            metrics.set(name, float(value))
        try:
            found = await measure_cache(coherence.session)
        except Exception as exc:  # noqa: BLE001 - as above
            failure, found = exc, {}
        for name in (*_CACHE, _KEYS):
            metrics.set(name, found.get(name, nan))
        if failure is None:
            condition.now("is known")
        else:
            condition.now("is unknown", exc=failure)
        await asyncio.sleep(every_s)


async def measure_cache(session: object) -> dict[str, float]:
    """Return the sums over all servers by the name of the metric; nothing if they are away or refuse the question."""
    nodes = [session] if isinstance(session, RedisSession) else []
    if isinstance(session, ClusterSession):
        nodes = session.nodes
    sums: dict[str, float] = {}
    for node in nodes:
        try:
            replies = await node.call(("INFO", "memory"), ("INFO", "stats"), ("DBSIZE",))
        except Unreachable:
            return {}
        if any(isinstance(reply, hiredis.ReplyError) for reply in replies):
            return {}  # the role cannot ask
        lines = (line.partition(":") for reply in replies[:2] for line in bytes(reply).decode().splitlines())
        info = {name: value for name, _, value in lines}
        for name, field in _CACHE.items():
            sums[name] = sums.get(name, 0.0) + float(info.get(field, 0))
        sums[_KEYS] = sums.get(_KEYS, 0.0) + float(replies[2])
    return sums
