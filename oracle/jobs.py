"""Background work: named jobs that run side by side, each until the process stops.

Job.       An async function that gets `stop`.  When `stop` is set, it returns at its next safe point: everything it has
           done is in the database, and the next process can go on from there.
Failure.   A job that raises is logged, and started again after the next of pauses_s while it keeps failing; the others
           go on.  So the jobs wait while PostgreSQL is away.  A job that returns is done.  `notice` hears that a job
           fails, and once it has run for steady_s again that it works.  It does not hear that PostgreSQL is away.
           A job that PostgreSQL keeps from working is one line with the reason (`explain`), and none while PostgreSQL
           `is_away` for the whole process, which then reports that itself.
Twice.     The same jobs can run in two processes at once: while a worker is replaced, and on several machines.  A job
           that only one process may do takes a lock in the database (see `store/leader`).
Stop.      `run` returns when every job has ended.  After timeout_s it cancels the others and waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from oracle.backoff import Backoff, pause
from oracle.errors import DirectoryUnavailable
from oracle.telemetry import logs

Job = Callable[[asyncio.Event], Awaitable[None]]
Named = tuple[str, Job]
Pause = Callable[[float, asyncio.Event], Awaitable[object]]
Notice = Callable[[str, bool], None]  # the job, and whether it works
Explain = Callable[[BaseException], str]

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
STEADY_S: Final = 60.0  # a job that ran for longer has recovered from its last failure

log = logs.Log(__name__)


async def assume_presence() -> bool:
    """Return that PostgreSQL is not away."""
    return False


async def run(
    jobs: Sequence[Named],
    stop: asyncio.Event,
    *,
    timeout_s: float | None = None,
    pause: Pause = pause,
    pauses_s: Sequence[float] = PAUSES_S,
    steady_s: float = STEADY_S,
    notice: Notice = lambda _job, _works: None,
    explain: Explain = lambda _error: "",
    is_away: Callable[[], Awaitable[bool]] = assume_presence,
) -> None:
    """Run all jobs until `stop` is set and they have ended."""
    tasks = [
        asyncio.create_task(
            _Keeper(name, job, pause, Backoff(pauses_s, steady_s=steady_s), steady_s, notice, explain, is_away).run(
                stop
            ),
            name=name,
        )
        for name, job in jobs
    ]
    try:
        await stop.wait()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                log.warning("A job did not stop in time; cancelling it", job=task.get_name())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Keeper:
    """Keeps one job running."""

    def __init__(
        self,
        name: str,
        job: Job,
        pause: Pause,
        backoff: Backoff,
        steady_s: float,
        notice: Notice,
        explain: Explain,
        is_away: Callable[[], Awaitable[bool]],
    ) -> None:
        self._name, self._job = name, job
        self._pause, self._backoff, self._steady_s = pause, backoff, steady_s
        self._notice, self._explain, self._is_away = notice, explain, is_away
        self._waiting = logs.Condition(log, f"The job {name}", good="works again")

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            began, recovered = loop.time(), loop.call_later(self._steady_s, self._recover)
            try:
                try:
                    await self._job(stop)
                finally:
                    recovered.cancel()
            except DirectoryUnavailable as exc:
                was_away = await self._is_away()
                await self._pause(self._backoff.fail(loop.time() - began), stop)
                if not (was_away or await self._is_away()):
                    self._waiting.now(f"waits: {self._explain(exc)}")
            except (Exception, asyncio.CancelledError) as exc:
                if _is_cancelled():
                    raise
                self._notice(self._name, False)
                pause_s = self._backoff.fail(loop.time() - began)
                log.warning("A job failed; starting it again", exc=exc, job=self._name, pause_s=pause_s)
                await self._pause(pause_s, stop)
            else:
                return

    def _recover(self) -> None:
        self._notice(self._name, True)
        self._waiting.now("works again")


def _is_cancelled() -> bool:
    """Return whether this task is cancelled.  If not, the job waited for something that was: a failure of the job."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
