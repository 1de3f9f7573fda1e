"""Lanes: pools of connections to one PostgreSQL, each behind a breaker.

Failures.  An error that means "not now" leaves a lane as DirectoryUnavailable: the server is away, or it refuses the
           lane, or a statement did not get its lock or its result in time.  Every other error passes through.
Breaker.   While the server is known to be away, calls of all lanes fail at once, because the lanes share the server.
           While a working server refuses one lane (its disk is full, it only reads), calls of that lane alone fail at
           once.  One call every retry_s tries again (half-open), so that nobody else waits for a time-out.
Shares.    Calls in the name of one holder (`holder`) have at most half of the connections of a lane at the same time.
           So nobody can stop the calls of all others, however slow theirs are.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import asyncpg
import msgspec

from oracle.errors import DirectoryUnavailable
from oracle.store.cache.coherence import COMMIT_MAX_S
from oracle.store.diagnosis import explain
from oracle.store.queries import QUERIES
from oracle.store.servers import Servers
from oracle.store.sessions import UnfitSession

STREAM_ROWS: Final = 1_000
# How long a portion of a stream can take on a busy server, seconds.  The limit of a statement (PostgresLimits) is too
# short for it: PostgreSQL must sort first in some plans, and the reader of a broken file must begin again.
PORTION_MAX_S: Final = 60.0
FORGET_S: Final = 10.0

# In whose name this task calls: a credential.  '' is the service itself, which has no limit.
holder: Final[ContextVar[str]] = ContextVar("holder", default="")

# SQLSTATE classes that mean "the server is away": connection, shutdown.
_AWAY: Final = ("08", "57P")
# A server that works refuses this statement or this connection, but others can succeed: resources (disk, memory,
# connections), an input or output error (a full disk, too), read-only, no such database, no entry for this client.
_REFUSED: Final = ("53", "58", "25006", "3D000", "28")
# "Not now" for one statement: lock and statement time-outs, a transaction that was idle for too long (because this
# process stalled), deadlock, serialization failure.
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


def is_refused(error: BaseException) -> bool:
    """Return whether the error means that a server that works cannot do this now, for want of a resource or a right."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_REFUSED)
    return isinstance(error, UnfitSession)


def is_busy(error: BaseException) -> bool:
    """Return whether the error means that one statement failed for now, on a server that works."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_BUSY)
    return isinstance(error, TimeoutError)


def explain_refusal(error: BaseException) -> str:
    """Say in a few words, which hold no values, why a working server does not take changes."""
    return "commits get no answer" if isinstance(error, TimeoutError) else explain(error) or "commits get no answer"


def is_unavailable(error: BaseException) -> bool:
    """Return whether the error means "not now", for any of these reasons."""
    return is_away(error) or is_refused(error) or is_busy(error)


def is_collision(error: BaseException | None) -> bool:
    """Return whether two changes collided.  The same change can succeed when it runs again."""
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate) in ("40P01", "40001")


class Outage:
    """Whether something is known to fail, and who may try it again."""

    def __init__(self, retry_s: float = LIMITS.retry_s) -> None:
        self._loop = asyncio.get_running_loop()
        self.retry_s = retry_s
        self._until = 0.0
        self._trying = False
        self._failure: BaseException | None = None  # the last one

    @property
    def lasts(self) -> bool:
        return self._until > 0

    def begin(self, failure: BaseException) -> None:
        """It fails: refuse every call for retry_s."""
        self._until = self._loop.time() + self.retry_s
        self._failure = failure

    def end(self) -> None:
        """It works: let every call through."""
        self._until = 0.0

    def find_failure(self, since: float = 0.0) -> BaseException | None:
        """Return the failure while it lasts; None when nobody has tried for FORGET_S, or since then (loop time)."""
        recent = self.lasts and self._loop.time() - self._until < FORGET_S and self._until - self.retry_s >= since
        return self._failure if recent else None

    def begin_try(self) -> None:
        """Let this call try, and refuse the others for as long as it takes.  Raises DirectoryUnavailable."""
        if self._trying or self._loop.time() < self._until:
            raise DirectoryUnavailable
        self._trying = True

    def end_try(self) -> None:
        self._trying = False


class Breaker:
    """Fails the calls of a lane at once while they would fail anyway.  All lanes share the outage of the server."""

    def __init__(self, server: Outage) -> None:
        self.server = server
        self.lane = Outage(server.retry_s)  # on a server that works
        self.errors = 0

    def take_errors(self) -> int:
        """Return how many calls failed since the last call of this method."""
        taken, self.errors = self.errors, 0
        return taken

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[bool]:
        """Run one call; yield whether it tries what failed a moment ago.  Raises DirectoryUnavailable."""
        server, lane = self.server, self.lane
        outage = server if server.lasts else lane if lane.lasts else None
        if outage is not None:
            outage.begin_try()
        try:
            yield outage is not None
        except asyncio.CancelledError:  # by its deadline: a server that is stopped (SIGSTOP) does not refuse calls
            if outage is not None and outage.lasts:
                outage.begin(TimeoutError())
            raise
        except Exception as exc:
            if is_away(exc):
                server.begin(exc)
            elif outage is not None and isinstance(exc, TimeoutError):
                outage.begin(exc)
            elif is_refused(exc):
                server.end()
                lane.begin(exc)
            elif not is_busy(exc):
                server.end()  # a refusal is an answer, too
                raise
            self.errors += 1
            raise DirectoryUnavailable from exc
        else:
            server.end()
            lane.end()
        finally:
            if outage is not None:
                outage.end_try()


class Shares:
    """Lets each holder have some connections of a lane at the same time; further calls of that holder wait."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._calls: Counter[str] = Counter()  # of each holder: those that have a connection, and those that wait

    @asynccontextmanager
    async def take(self, limit_s: float) -> AsyncIterator[None]:
        """Take a connection of the present holder's share.  Raises DirectoryUnavailable after limit_s."""
        name = holder.get()
        if not name:
            yield
            return
        turns = self._turns.setdefault(name, asyncio.Semaphore(self._each))
        self._calls[name] += 1
        try:
            try:
                async with asyncio.timeout(limit_s):
                    await turns.acquire()
            except TimeoutError:
                raise DirectoryUnavailable from None
            try:
                yield
            finally:
                turns.release()
        finally:
            self._calls[name] -= 1
            if not self._calls[name]:
                del self._calls[name], self._turns[name]


class Lane:
    """One pool of connections, and the breaker of its server.  All methods raise DirectoryUnavailable."""

    def __init__(
        self, pool: asyncpg.Pool, breaker: Breaker, limits: PostgresLimits = LIMITS, *, share: int = sys.maxsize
    ) -> None:
        """`share`: how many connections one holder can have at the same time."""
        self._pool = pool
        self.breaker = breaker
        self._limits = limits
        self._shares = Shares(share)

    @asynccontextmanager
    async def lend(self, **settings: str) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection of the pool, with these settings of PostgreSQL until it is given back."""
        async with (
            self._shares.take(self._limits.commit_s),
            self.breaker.guard(),
            self._pool.acquire(timeout=self._limits.commit_s) as connection,
        ):
            if not settings:
                yield connection
                return
            try:
                await connection.execute(QUERIES["settings_set"], list(settings), list(settings.values()))
                self.breaker.server.end()  # it answers: a stream can take minutes, and other calls need not wait for it
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
            async for rows in fetch_portions(connection, QUERIES[query], *arguments):
                yield rows

    def count_connections(self) -> tuple[int, int]:
        """Return the number of open connections, and of those that are idle."""
        return self._pool.get_size(), self._pool.get_idle_size()


async def fetch_portions(connection: asyncpg.Connection, sql: str, *arguments: Any) -> AsyncGenerator[list[Any]]:
    """Fetch the rows of a statement in portions, inside of a transaction.  Raises TimeoutError after PORTION_MAX_S."""
    cursor = await connection.cursor(sql, *arguments, timeout=PORTION_MAX_S)
    while rows := await cursor.fetch(STREAM_ROWS, timeout=PORTION_MAX_S):
        yield rows


@asynccontextmanager
async def open_pool(
    servers: Servers, size: int, settings: dict[str, str], limits: PostgresLimits = LIMITS
) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool with these server settings, and close it at the end.

    It connects at its first use: a process can start while PostgreSQL is away.
    """
    try:
        pool = await servers.open_pool(
            size, settings, timeout_s=limits.connect_s, reset=_keep_session,
            command_timeout=limits.connect_s + limits.commit_s, max_inactive_connection_lifetime=0,
        )  # fmt: skip
    except Exception as exc:
        if is_unavailable(exc):
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
