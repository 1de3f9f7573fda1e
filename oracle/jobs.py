"""Work in the background: named jobs, side by side, each kept going until the process is to stop.

Job.      An async function that is given `stop`.  When that is set, it returns at its next safe point: where the
          database holds what it has done, and whoever comes next can go on from there.
Failure.  A job that raises is said in a line and started again after 1 s, then 2, 4, up to 30, while it keeps
          failing; the others go on.  So a PostgreSQL that is away is a pause.  A job that returns is done.
Twice.    The same jobs may run in two processes at once: while a worker is being replaced, and on several
          machines.  What only one may do is for the job to lock, in the database.
Stop.     `run` returns when every job has ended; those that have not after timeout_s are cancelled and waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from oracle.telemetry import logs

Job = Callable[[asyncio.Event], Awaitable[None]]
Named = tuple[str, Job]
Pause = Callable[[float, asyncio.Event], Awaitable[None]]

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
STEADY_S: Final = 60.0  # who ran for as long got over what it failed of before

log = logs.Log(__name__)


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """So long, or until `stop`."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def run(
    jobs: Sequence[Named], stop: asyncio.Event, *, timeout_s: float | None = None, pause: Pause = pause
) -> None:
    """All of them, until `stop` is set and they have ended."""
    tasks = [asyncio.create_task(_keep(name, job, stop, pause), name=name) for name, job in jobs]
    try:
        await stop.wait()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                log.warning("job cancelled, it did not stop in time", job=task.get_name())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(name: str, job: Job, stop: asyncio.Event, pause: Pause) -> None:
    clock = asyncio.get_running_loop().time
    failures = 0  # in a row, each too soon after its start
    while not stop.is_set():
        began = clock()
        try:
            await job(stop)
        except (Exception, asyncio.CancelledError) as exc:
            if _is_cancelled():
                raise
            failures = 1 if clock() - began > STEADY_S else failures + 1
            again_in_s = PAUSES_S[min(failures, len(PAUSES_S)) - 1]
            log.warning("job failed", exc=exc, job=name, again_in_s=again_in_s)
            await pause(again_in_s, stop)
        else:
            return


def _is_cancelled() -> bool:
    """Whether it is we who are to end.  Else a job was waiting for something that was cancelled: a failure of it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
