"""Measures one cached lookup below HTTP, in process: `python -m loadtests.micro.lookups`.

The session answers at once with copies, so the figure is the cost of the program alone: joining lookups, the lease, the
names of the keys, the callbacks.  It shows what a change of `store/cache` adds to the lookup path.  It prints the CPU
time of the fastest of many short rounds, and the memory that a round leaves allocated at its highest point.
"""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from oracle.store.base import Generation
from oracle.store.cache.coherence import Coherence
from oracle.store.cache.lookups import Lookups
from oracle.store.cache.tags import TIME_MAX, Tags
from oracle.store.cache.values import Entry, pack_entries
from oracle.telemetry.metrics import Metrics

BATCH: Final = 64  # lookups of one turn of the event loop
TURNS: Final = 60
ROUNDS: Final = 60
COPY: Final = pack_entries([Entry("green", "", "")])


class _Session:
    """As a session that answers each read at once."""

    alive = True
    run_ids: tuple[str, ...] = ()

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._list: list[bytes | None] = [Tags().seal(key, COPY, TIME_MAX) for key in keys]

    def mget(self, _keys: Sequence[bytes], done: Callable[[list[bytes | None] | None], None]) -> None:
        done(self._list)


def _ignore(_answer: bytes | Exception, _cached: bool) -> None: ...


async def run_round(lookups: Lookups, identifiers: list[str]) -> float:
    started = time.process_time()
    for _ in range(TURNS):
        for identifier in identifiers:
            lookups.ask("MSISDN", identifier, _ignore)
        await asyncio.sleep(0)
    return (time.process_time() - started) / (TURNS * len(identifiers)) * 1e6


async def measure() -> None:
    coherence = Coherence(cast("Any", None), None, "oracle")
    await coherence._adopt(Generation("0" * 32, 1, (), 3600.0, 1), float("inf"))  # noqa: SLF001 - without a database
    lookups = Lookups(
        coherence, cast("Any", None), Metrics.open(None, "hub", 0), timeout_s=1, ttl_s=300, negative_ttl_s=60
    )
    identifiers = [f"52551{number:07d}" for number in range(BATCH)]
    coherence.session = cast("Any", _Session([coherence.key("MSISDN", identifier) for identifier in identifiers]))
    fastest_us = min([await run_round(lookups, identifiers) for _ in range(ROUNDS)])
    tracemalloc.start()
    tracemalloc.reset_peak()
    await run_round(lookups, identifiers)
    _, peak_bytes = tracemalloc.get_traced_memory()
    print(f"{fastest_us:.3f} µs a cached lookup, peak memory {peak_bytes / BATCH:.0f} bytes a lookup")


if __name__ == "__main__":
    asyncio.run(measure())
