"""The budgets of one process, open: its buckets, corrected once a second until it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from oracle.backoff import pause
from oracle.budgets.buckets import Bucket, Buckets
from oracle.budgets.classes import Classes, Costs
from oracle.budgets.correction import EVERY_S, Correction, follow_fsps, learn_fsps
from oracle.budgets.emptiness import Emptiness, record
from oracle.errors import DirectoryUnavailable
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from oracle.settings import Settings
    from oracle.store.base import Session
    from oracle.store.postgres import Postgres

# How long a process that starts waits for the FSPs and its share; then it begins with what it has.
START_S: Final = 2.0

log = logs.Log(__name__)


@asynccontextmanager
async def open_budgets(
    settings: Settings,
    postgres: Postgres,
    find_session: Callable[[], Session | None],
    metrics: Metrics,
    *,
    channel: str,
    every_s: float = EVERY_S,
    emptiness: Emptiness | None = None,
) -> AsyncIterator[Buckets | None]:
    """Open the buckets of this process; None if budget_mode is off.  `channel`: that of its events."""
    mode = settings.budget_mode
    if mode == "off":
        yield None
        return
    classes = Classes.of(settings)
    costs = Costs.of(settings)
    processes = count_processes(settings)
    buckets = Buckets(classes, costs, enforces=False, share=1 / processes)
    buckets.know(fsp_id for fsp_id, _ in settings.budget_fsps)  # the directory need not know them
    correction = Correction(
        buckets, classes, find_session, metrics,
        prefix=settings.cache_prefix, processes=processes, enforces=mode == "enforce",
    )  # fmt: skip
    watched = emptiness or Emptiness()
    stop = asyncio.Event()

    async def note(bucket: Bucket) -> None:
        log.warning("The budget of an FSP stays empty", fsp_class=bucket.fsp_class, mode=mode)
        with suppress(DirectoryUnavailable):
            await record(postgres, channel, bucket, classes.sizes[bucket.fsp_class], mode)

    async def work() -> None:
        while not await pause(every_s, stop):
            try:
                due = watched.look(buckets.list_buckets(), time.monotonic())
                await correction.correct()
                for bucket in due:
                    await note(bucket)
            except Exception as exc:  # noqa: BLE001 - a defect; without corrections, buckets would stay empty
                log.error("Budgets could not be corrected", exc=exc)

    with suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            await learn_fsps(postgres.reads, correction)
            await correction.correct()
    tasks = [asyncio.create_task(work()), asyncio.create_task(follow_fsps(postgres.reads, correction, stop))]
    try:
        yield buckets
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await correction.correct(ends=True)


def count_processes(settings: Settings) -> int:
    """Count the processes of this service that share the budgets, for a start without Redis: the admin one as well."""
    return 1 + settings.workers + (settings.account_lookup_workers if settings.account_lookup == "on" else 0)
