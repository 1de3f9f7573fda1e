"""Processes that share the budget of an FSP, as far as budgets see them: without listeners, corrected by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import takewhile
from typing import TYPE_CHECKING

from oracle.budgets.buckets import Buckets
from oracle.budgets.classes import Classes, Costs, Size
from oracle.budgets.correction import Correction
from oracle.store.cache.topology import dialler
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from oracle.store.base import Session

SIZE, NOBODY = 3_000, 3
# It fills so slowly that a test takes no part of a token's time.
CLASSES = Classes({"C": Size(SIZE, 3), "unknown": Size(SIZE, 3)}, {}, "C")
WORKERS = 4
A_TOKEN = 0.999  # what a busy machine can let it gain meanwhile


async def dial(redis_url: str) -> Session:
    return await dialler(redis_url, timeout_ms=30_000, token_ms=1_000)()


class Worker:
    """A process that answers lookups, as far as budgets see it."""

    def __init__(self, session: Session, *, processes: int, enforces: bool = True) -> None:
        self.buckets = Buckets(CLASSES, Costs(), enforces=False, share=1 / processes)
        self.session: Session | None = session
        self.metrics = Metrics.open(None, "hub", 0)
        self.correction = Correction(
            self.buckets, CLASSES, lambda: self.session, self.metrics,
            prefix="t", processes=processes, enforces=enforces,
        )  # fmt: skip
        self.correction.know(["bank"])
        self.bucket = self.buckets.of(b"bank")

    def ask(self, times: int = 1) -> int:
        """Ask for numbers that nobody has, until one is refused; return how many were answered."""
        asked = (self.buckets.take(self.bucket, NOBODY) for _ in range(times))
        return sum(1 for _ in takewhile(bool, asked))


@asynccontextmanager
async def open_workers(redis_url: str, count: int, *, processes: int = 2) -> AsyncIterator[list[Worker]]:
    """`processes`: those of one service, as each of them knows at its start."""
    workers = []
    try:
        for _ in range(count):
            workers.append(Worker(await dial(redis_url), processes=processes))  # noqa: PERF401 - `finally` needs each
        yield workers
    finally:
        for worker in workers:
            if worker.session is not None:
                worker.session.close()
        await asyncio.sleep(0)  # the connections end


async def correct(workers: list[Worker]) -> None:
    assert await asyncio.gather(*(worker.correction.correct() for worker in workers)) == [True] * len(workers)


async def scan(workers: list[Worker]) -> int:
    """Ask as much as they answer, over 40 corrections; return how many were answered."""
    answered = 0
    for _ in range(40):
        answered += sum(worker.ask(10_000) for worker in workers)
        await correct(workers)
    return answered


async def settle(workers: list[Worker]) -> None:
    """Correct twice: at the second time, each of them knows all others."""
    await correct(workers)
    await correct(workers)
