"""Leadership: work that only one process may do, of all processes on all machines that use one database.

Lock.      The leader holds an advisory lock of PostgreSQL, on a connection of its own.  The other processes look every
           look_s whether the lock is free.  The server frees it when the connection ends.
Lost.      With heartbeat_s the leader asks on that connection that often, and its work is cancelled when there is no
           answer.  A leader can lose the lock without knowing it for a moment, so two may work at once: the work itself
           must be safe then, by a constraint or a state in the database.
Failures.  After an error that means "not now", the process looks for the lock again.  Every other error passes through.
           While PostgreSQL is away for the whole process, the process reports that, and not this job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg

from oracle.backoff import pause
from oracle.errors import DirectoryUnavailable
from oracle.jobs import assume_presence
from oracle.store.diagnosis import explain
from oracle.store.lanes import is_unavailable
from oracle.store.queries import QUERIES

if TYPE_CHECKING:
    from oracle.telemetry.logs import Condition

CLOSE_S: Final = 2.0

Connect = Callable[[], Awaitable[asyncpg.Connection]]
# Given the connection that holds the lock, and `stop`: it returns at its next safe point after that is set.
Work = Callable[[asyncpg.Connection, asyncio.Event], Awaitable[None]]
IsAway = Callable[[], Awaitable[bool]]


class Leader:
    """Runs `work` for as long as this process holds the lock.

    refusals    errors of the work whose text is for the operator and holds no identifier: it is logged.
    transient   further errors that mean "not now".
    notice      hears whether this process cannot do the work, for another reason than an error that passes.
    is_away     asks PostgreSQL for the whole process: is it away?
    """

    def __init__(
        self,
        connect: Connect,
        lock: int,
        work: Work,
        condition: Condition,
        *,
        look_s: float,
        heartbeat_s: float | None = None,
        refusals: tuple[type[Exception], ...] = (),
        transient: tuple[type[Exception], ...] = (),
        notice: Callable[[bool], None] = lambda _works: None,
        is_away: IsAway = assume_presence,
    ) -> None:
        self._notice = notice
        self._is_away = is_away
        self._connect = connect
        self._lock = lock
        self._work = work
        self._condition = condition
        self._look_s = look_s
        self._heartbeat_s = heartbeat_s
        self._refusals = refusals
        self._transient: tuple[type[Exception], ...] = (DirectoryUnavailable, *transient)

    async def run(self, stop: asyncio.Event) -> None:
        """Lead, whenever the lock is free, until `stop` is set.  A job, see `jobs`."""
        while not stop.is_set():
            interruption: Exception | None = None
            try:
                await self._lead(stop)
            except self._refusals as exc:
                self._notice(False)
                self._condition.now(f"refused: {exc}")
            except Exception as exc:
                if not (is_unavailable(exc) or isinstance(exc, self._transient)):
                    raise
                if not await self._is_away():
                    interruption = exc
            await pause(self._look_s, stop)
            # Asked again: the first connections of a process can end some time before the others.
            if interruption is not None and not await self._is_away():
                note_interruption(self._condition, interruption)

    async def _lead(self, stop: asyncio.Event) -> None:
        """Wait for the lock, then work until `stop` is set or the connection ends."""
        connection = await self._connect()
        try:
            while not await connection.fetchval(QUERIES["lead"], self._lock):
                self._notice(True)
                self._condition.now("ok")  # another process does the work
                if await pause(self._look_s, stop):
                    return
            if self._heartbeat_s is None:
                await self._work(connection, stop)
            else:
                await self._work_while_heard(connection, stop, self._heartbeat_s)
        finally:
            await close(connection)

    async def _work_while_heard(self, connection: asyncpg.Connection, stop: asyncio.Event, heartbeat_s: float) -> None:
        work = asyncio.ensure_future(self._work(connection, stop))
        try:
            while not (await asyncio.wait({work}, timeout=heartbeat_s))[0]:
                await connection.fetchval("SELECT 1")
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


def note_interruption(condition: Condition, error: Exception) -> None:
    """Log that work waits after an error that means "not now": the reason, or the frames if none is known."""
    reason = explain(error)
    if reason:
        condition.now(f"interrupted: {reason}", level=logging.WARNING)
    else:
        condition.now("interrupted", exc=error, level=logging.WARNING)


async def close(connection: asyncpg.Connection) -> None:
    """Close a connection; drop it when the server does not answer within CLOSE_S."""
    with suppress(Exception):
        await connection.close(timeout=CLOSE_S)
        return
    connection.terminate()
