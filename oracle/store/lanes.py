"""Lanes: pools of connections to one PostgreSQL, behind one breaker.

Failures.  An error that means "not now" leaves a lane as DirectoryUnavailable: the server is away, or a statement did
           not get its lock or its result in time.  Every other error passes through.
Breaker.   The lanes share one, because they share the server.  While the server is known to be away, calls fail at
           once.  One call every retry_s tries again (half-open), so that nobody else waits for a time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import msgspec

from oracle.errors import DirectoryUnavailable
from oracle.store.cache.coherence import COMMIT_MAX_S
from oracle.store.queries import QUERIES

STREAM_ROWS: Final = 1_000

# SQLSTATE classes and codes that mean "the server is away": connection, resources, shutdown, read-only after a
# failover, no such database, or no entry for this client there.
_AWAY: Final = ("08", "53", "57P", "25006", "3D000", "28")
# SQLSTATEs that mean "not now" for one statement: lock and statement time-outs, a transaction that was idle for too
# long (because this process stalled), deadlock, serialization failure.
_BUSY: Final = ("55P03", "57014", "25P03", "40")


class PostgresLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a process waits for PostgreSQL, in seconds."""

    connect_s: float = 2.0
    # To read the generation is one row by primary key: no answer within half a lease counts as no answer.
    ask_s: float = 0.5
    # A statement, a COMMIT, or the wait for a free connection (rule 1 of `coherence`).
    commit_s: float = COMMIT_MAX_S
    retry_s: float = 0.2  # between two tries at a server that is away


LIMITS: Final = PostgresLimits()


def is_away(error: BaseException) -> bool:
    """Return whether the error means that the server cannot be reached."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "08").startswith(_AWAY)
    # InternalClientError: the driver raises it on a connection that the server has closed, while the driver has not
    # read the end of the stream yet ("protocol is in the failed state").
    gone = OSError | asyncpg.InterfaceError | asyncpg.InternalClientError
    return isinstance(error, gone) and not isinstance(error, TimeoutError)


def is_busy(error: BaseException) -> bool:
    """Return whether the error means that one statement failed for now, on a server that works."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_BUSY)
    return isinstance(error, TimeoutError)


def is_collision(error: BaseException | None) -> bool:
    """Return whether two changes collided.  The same change can succeed when it runs again."""
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate) in ("40P01", "40001")


class Breaker:
    """Knows whether the server is away, and who may try it again."""

    def __init__(self, retry_s: float = LIMITS.retry_s) -> None:
        self._loop = asyncio.get_running_loop()
        self.retry_s = retry_s
        self._away_until = 0.0
        self._trying = False
        self.errors = 0

    @property
    def away(self) -> bool:
        return self._away_until > 0

    def trip(self) -> None:
        """The server is away: fail every call for retry_s."""
        self._away_until = self._loop.time() + self.retry_s

    def reset(self) -> None:
        """The server answers: let every call through."""
        self._away_until = 0.0

    def take_errors(self) -> int:
        """Return how many calls failed since the last call of this method."""
        taken, self.errors = self.errors, 0
        return taken

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[bool]:
        """Run one call; yield whether it tries a server that was away a moment ago.  Raises DirectoryUnavailable."""
        trying = self.away
        if trying and (self._trying or self._loop.time() < self._away_until):
            raise DirectoryUnavailable
        self._trying = trying  # half-open: this call tries, however long it takes; the others go on failing at once
        try:
            yield trying
        except asyncio.CancelledError:  # by its deadline: a server that is stopped (SIGSTOP) does not refuse calls
            if trying and self.away:
                self.trip()
            raise
        except Exception as exc:
            if is_away(exc) or (trying and isinstance(exc, TimeoutError)):
                self.trip()
            elif not is_busy(exc):
                self.reset()  # a refusal is an answer, too
                raise
            self.errors += 1
            raise DirectoryUnavailable from exc
        else:
            self.reset()
        finally:
            if trying:
                self._trying = False


class Lane:
    """One pool of connections, and the breaker of its server.  All methods raise DirectoryUnavailable."""

    def __init__(self, pool: asyncpg.Pool, breaker: Breaker, limits: PostgresLimits = LIMITS) -> None:
        self._pool = pool
        self._breaker = breaker
        self._limits = limits

    @asynccontextmanager
    async def lend(self, **settings: str) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection of the pool, with these settings of PostgreSQL until it is given back."""
        async with self._breaker.guard(), self._pool.acquire(timeout=self._limits.commit_s) as connection:
            if not settings:
                yield connection
                return
            try:
                await connection.execute(QUERIES["settings_set"], list(settings), list(settings.values()))
                self._breaker.reset()  # it answers: a stream can take minutes, and other calls need not wait for it
                yield connection
            finally:
                if not connection.is_closed():
                    with contextlib.suppress(asyncpg.PostgresError, OSError, asyncpg.InterfaceError):
                        await connection.execute("RESET ALL")

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Fetch all rows of a named query."""
        async with self.lend() as connection:
            rows: list[Any] = await connection.fetch(QUERIES[query], *arguments)
            return rows

    async def row(self, query: str, *arguments: Any) -> Any:
        """Fetch the first row of a named query, or None."""
        rows = await self.rows(query, *arguments)
        return rows[0] if rows else None

    async def stream(self, query: str, *arguments: Any) -> AsyncIterator[list[Any]]:
        """Fetch the rows of a named query in portions, all from one snapshot."""
        async with self.lend() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            cursor = await connection.cursor(QUERIES[query], *arguments)
            while rows := await cursor.fetch(STREAM_ROWS):
                yield rows

    def count_connections(self) -> tuple[int, int]:
        """Return the number of open connections, and of those that are idle."""
        return self._pool.get_size(), self._pool.get_idle_size()


@asynccontextmanager
async def open_pool(
    url: str, size: int, settings: dict[str, str], limits: PostgresLimits = LIMITS
) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool with these server settings, and close it at the end.  Raises DirectoryUnavailable."""
    try:
        pool = await asyncpg.create_pool(
            url, min_size=1, max_size=size, server_settings=settings, timeout=limits.connect_s, reset=_keep_session,
            target_session_attrs="primary",  # of several hosts in the URL, the one that has all commits, also for reads
            command_timeout=limits.connect_s + limits.commit_s, max_inactive_connection_lifetime=0,
        )  # fmt: skip
    except Exception as exc:
        if is_away(exc) or is_busy(exc):
            raise DirectoryUnavailable from exc
        raise
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 2)
        except TimeoutError:
            pool.terminate()


async def _keep_session(connection: asyncpg.Connection) -> None:
    """Reset nothing: the settings of a transaction are local to it, and a reset costs a round trip for each batch."""
