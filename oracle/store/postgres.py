"""The directory on PostgreSQL: the pools, what can go wrong with them, and the two read sides.

reads    up to DATABASE_BATCHES connections for lookups, planned for nested index look-ups only (a batch is small and
         the table may hold 100 million rows: no estimate may talk the planner into a scan)
writes   for changes; statements and idle transactions are cut by the server after the commit limit of the protocol
desk     what administrators and auditors read, in the processes that serve them: planned for their very arguments
watch    one connection: LISTEN, and the generation asked several times a second

Everything that means "not now" is DirectoryUnavailable, at once while the database is known to be away: one try
(half-open) every RETRY_S, the others are not made to wait for a time-out each.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from oracle.errors import DirectoryUnavailable
from oracle.store.base import Context, Generation
from oracle.store.cache.coherence import COMMIT_MAX_S
from oracle.store.cache.lookups import DATABASE_BATCHES
from oracle.store.cache.values import Entry, answer_of
from oracle.store.queries import QUERIES

WRITES_MAX: Final = 8
DESK_MAX: Final = 8
STREAM_ROWS: Final = 1_000
ROUTES_CHUNK: Final = 1_000
RETRY_S: Final = 0.2
CONNECT_TIMEOUT_S: Final = 2.0
# Asking for the generation is one row by primary key: half a lease without an answer is no answer.
ASK_TIMEOUT_S: Final = 0.5
COMMIT_MAX_MS: Final = int(COMMIT_MAX_S * 1000)

_READ_SETTINGS: Final = {
    "application_name": "oracle lookups",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "default_transaction_read_only": "on",
}
# A COMMIT that lies in a stopped server's socket must not be carried out after the fences are gone (rule 1): the
# server itself ends a transaction that has been idle for longer.
_WRITE_SETTINGS: Final = {
    "application_name": "oracle changes",
    "statement_timeout": str(COMMIT_MAX_MS),
    "lock_timeout": str(COMMIT_MAX_MS),
    "idle_in_transaction_session_timeout": str(COMMIT_MAX_MS),
    "jit": "off",
}
# Lists are filtered by whatever the caller named, so a plan for any argument would be a bad one for most.
_DESK_SETTINGS: Final = {
    "application_name": "oracle desk",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "300000",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "default_transaction_read_only": "on",
}
_WATCH_SETTINGS: Final = {"application_name": "oracle watch", "statement_timeout": "1000"}

# SQLSTATE classes and codes that say "the server is away": connection, resources, shutdown, read-only after a
# failover, no such database or no entry for us there.
_AWAY: Final = ("08", "53", "57P", "25006", "3D000", "28")
# And those that say "not now" of one statement: lock and statement time-outs, a transaction that was left idle for too
# long (by a stall of this process), deadlock, serialization.
_BUSY: Final = ("55P03", "57014", "25P03", "40")


def is_away(error: BaseException) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "08").startswith(_AWAY)
    # InternalClientError: the driver's word for a connection to which the server has said good-bye, but whose end it
    # has not seen yet ("protocol is in the failed state").
    gone = OSError | asyncpg.InterfaceError | asyncpg.InternalClientError
    return isinstance(error, gone) and not isinstance(error, TimeoutError)


def is_busy(error: BaseException) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate).startswith(_BUSY)
    return isinstance(error, TimeoutError)


def is_collision(error: BaseException | None) -> bool:
    """Two changes got in each other's way: the same change again will do."""
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate) in ("40P01", "40001")


class Postgres:
    """See the module.  `open_postgres` makes one; it implements Reads and Generations."""

    def __init__(self, url: str, *, desk: bool = False) -> None:
        self._url = url
        self._has_desk = desk
        self._loop = asyncio.get_running_loop()
        self.reads: asyncpg.Pool | None = None
        self.writes: asyncpg.Pool | None = None
        self.desk: asyncpg.Pool | None = None
        self._watch: asyncpg.Connection | None = None
        self._watching = asyncio.Lock()
        self._away_until = 0.0
        self._trying = False
        self.on_notice: Callable[[], None] = lambda: None
        self.errors = 0

    async def open(self) -> None:
        """Raises DirectoryUnavailable."""
        try:
            self.reads = await _pool(self._url, DATABASE_BATCHES, _READ_SETTINGS)
            self.writes = await _pool(self._url, WRITES_MAX, _WRITE_SETTINGS)
            if self._has_desk:
                self.desk = await _pool(self._url, DESK_MAX, _DESK_SETTINGS)
        except Exception as exc:
            if is_away(exc) or is_busy(exc):
                raise DirectoryUnavailable from exc
            raise

    async def close(self) -> None:
        for pool in (self.reads, self.writes, self.desk):
            if pool is not None:
                try:
                    await asyncio.wait_for(pool.close(), 2)
                except TimeoutError:
                    pool.terminate()
        if self._watch is not None:
            self._watch.terminate()

    # -- the breaker ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _breaker(self) -> AsyncIterator[bool]:
        """Whether this is a try at a server that was away a moment ago."""
        trying = self.away
        if trying and (self._trying or self._loop.time() < self._away_until):
            raise DirectoryUnavailable
        self._trying = trying  # half-open: this one tries, however long that takes; the others go on failing at once
        try:
            yield trying
        except asyncio.CancelledError:  # its deadline: a server that stands still refuses nothing
            if trying and self.away:
                self._away_until = self._loop.time() + RETRY_S
            raise
        except Exception as exc:
            if is_away(exc) or (trying and isinstance(exc, TimeoutError)):
                self._away_until = self._loop.time() + RETRY_S
            elif not is_busy(exc):
                self._away_until = 0.0  # a refusal is an answer, too
                raise
            self.errors += 1
            raise DirectoryUnavailable from exc
        else:
            self._away_until = 0.0
        finally:
            if trying:
                self._trying = False

    @property
    def away(self) -> bool:
        return self._away_until > 0

    def take_errors(self) -> int:
        """How often a query failed since this was last asked."""
        taken, self.errors = self.errors, 0
        return taken

    def pool_state(self) -> tuple[int, int]:
        """Connections open, and of these idle."""
        pools = [pool for pool in (self.reads, self.writes, self.desk) if pool is not None]
        return sum(pool.get_size() for pool in pools), sum(pool.get_idle_size() for pool in pools)

    # -- Reads ----------------------------------------------------------------------------------------------------

    async def answers(self, keys: Sequence[tuple[str, str]]) -> list[bytes]:
        """One answer for each key, see base.Reads."""
        assert self.reads is not None  # noqa: S101 - opened by wiring
        async with (
            self._breaker() as trying,
            asyncio.timeout(RETRY_S if trying else None),  # nobody waits for long for one that is known to be away
            self.reads.acquire() as connection,
        ):
            try:
                rows = await connection.fetch(
                    QUERIES["entries_by_keys"],
                    [party_id_type for party_id_type, _ in keys],
                    [identifier for _, identifier in keys],
                )
            except asyncio.CancelledError:
                # The deadline.  Given back as it is, the connection would first wait, for seconds, until the server
                # that does not answer has confirmed the cancellation; and the lookups would wait with it.
                connection.terminate()
                raise
        entries: list[list[Entry]] = [[] for _ in keys]
        for ord_, sub_id, currency, fsp_id in rows:
            entries[ord_ - 1].append(Entry(fsp_id, currency, sub_id))
        return [answer_of(e) for e in entries]

    async def routes(self) -> list[tuple[str, str, str, float, float]]:
        """Every rule that holds or will: type, prefix, FSP ('' when it is not answered), valid from, valid to."""
        assert self.reads is not None  # noqa: S101
        async with self._breaker(), self.reads.acquire() as connection, connection.transaction():
            # In parts, so that lookups have their turn between them: there may be 100,000 rules.
            cursor = await connection.cursor(QUERIES["routes_all"])
            rules: list[tuple[str, str, str, float, float]] = []
            while some := await cursor.fetch(ROUTES_CHUNK):
                rules += map(tuple, some)
            return rules

    # -- Generations ----------------------------------------------------------------------------------------------

    async def ask(self) -> Generation:
        return await self._watched()

    async def bump(self) -> Generation:
        return await self._watched("generation_bump")

    async def raise_above(self, generation: int) -> Generation:
        return await self._watched("generation_raise", generation)

    async def open_for(self, run_ids: tuple[str, ...]) -> Generation:
        return await self._watched("generation_open", list(run_ids))

    async def _watched(self, first: str | None = None, *arguments: Any) -> Generation:
        """Run `first`, if any, then read the row; on the watching connection, made anew when it is gone."""
        async with self._watching:
            try:
                # The budget holds for the whole of it; a stopped server must not hold the connection's lock for ever.
                async with asyncio.timeout(ASK_TIMEOUT_S if self._watch is not None else CONNECT_TIMEOUT_S):
                    if self._watch is None or self._watch.is_closed():
                        self._watch = await self._listen()
                    if first is not None:
                        await self._watch.execute(QUERIES[first], *arguments)
                    row = await self._watch.fetchrow(QUERIES["generation"])
            except Exception as exc:
                if self._watch is not None:
                    self._watch.terminate()
                    self._watch = None
                if not (is_away(exc) or is_busy(exc)):
                    raise
                if first is None or is_away(exc):  # else the row is locked, by a transaction by hand: lookups may go on
                    self._away_until = self._loop.time() + RETRY_S
                raise DirectoryUnavailable from exc
        self._away_until = 0.0  # it answers: lookups need not wait for their next try
        return Generation(
            directory_id=row["directory_id"].hex,
            generation=row["generation"],
            run_ids=tuple(row["run_ids"]),
            run_ids_age_s=row["run_ids_age_s"],
            routes_version=row["routes_version"],
        )

    async def _listen(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self._url, server_settings=_WATCH_SETTINGS, timeout=CONNECT_TIMEOUT_S, target_session_attrs="primary"
        )
        try:
            await connection.add_listener("oracle_cache", lambda *_: self.on_notice())
        except BaseException:
            connection.terminate()  # nobody else knows of it
            raise
        return connection

    async def ended(self, backend_pid: int) -> bool:
        """End a server process of ours that has not answered a COMMIT; whether it is gone.

        Raises DirectoryUnavailable.
        """
        async with self._watching:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    if self._watch is None or self._watch.is_closed():
                        self._watch = await self._listen()
                    return not await self._watch.fetchval(QUERIES["backend_end"], backend_pid)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as exc:
                raise DirectoryUnavailable from exc

    # -- the desk ---------------------------------------------------------------------------------------------------

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """All rows of a named query, in processes opened with a desk.  Raises DirectoryUnavailable."""
        assert self.desk is not None  # noqa: S101
        async with self._breaker(), self.desk.acquire(timeout=COMMIT_MAX_S) as connection:
            rows: list[Any] = await connection.fetch(QUERIES[query], *arguments)
            return rows

    async def row(self, query: str, *arguments: Any) -> Any:
        """The first row, or None.  Raises DirectoryUnavailable."""
        rows = await self.rows(query, *arguments)
        return rows[0] if rows else None

    async def note(self, query: str, *arguments: Any) -> int:
        """A write that is no change of the directory: a last use, a refused call; how many rows.

        Raises DirectoryUnavailable.
        """
        assert self.writes is not None  # noqa: S101
        async with self._breaker(), self.writes.acquire(timeout=COMMIT_MAX_S) as connection:
            status: str = await connection.execute(QUERIES[query], *arguments)
            return int(status.rsplit(" ", 1)[-1])

    async def stream(self, query: str, *arguments: Any) -> AsyncIterator[list[Any]]:
        """The rows of a named query, some at a time, as they stood when it began.  Raises DirectoryUnavailable."""
        assert self.desk is not None  # noqa: S101
        async with (
            self._breaker(),
            self.desk.acquire(timeout=COMMIT_MAX_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            cursor = await connection.cursor(QUERIES[query], *arguments)
            while rows := await cursor.fetch(STREAM_ROWS):
                yield rows

    # -- changes --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def transaction(self, context: Context, *, fenced: bool) -> AsyncIterator[Transaction]:
        """One change.  The caller ends it with `commit`; leaving without one rolls back.

        Raises DirectoryUnavailable; an error of the statements that is none of "not now" passes through.
        """
        assert self.writes is not None  # noqa: S101
        async with self._breaker(), self.writes.acquire(timeout=COMMIT_MAX_S) as connection:
            transaction = Transaction(connection)
            await connection.execute("BEGIN")
            try:
                await connection.execute(
                    QUERIES["transaction_begin"],
                    context.channel, context.actor, context.role, context.fsp_id, "fenced" if fenced else "bumped",
                    context.reason, context.request_id, context.trace_id,
                )  # fmt: skip
                if not fenced:
                    # First of all, so that all who bump queue up here and none holds rows another one waits for.
                    await connection.execute(QUERIES["generation_bump"])
                yield transaction
            finally:
                if not transaction.ended:
                    await _rollback(connection)


class Transaction:
    """What a change may do with its connection: run named queries, and end."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.ended = False
        self.backend_pid: int = connection.get_server_pid()

    async def run(self, query: str, *arguments: Any) -> int:
        """Run a named query; how many rows it wrote."""
        status: str = await self._connection.execute(QUERIES[query], *arguments)
        return int(status.rsplit(" ", 1)[-1])

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(QUERIES[query], *arguments)
        return rows

    async def commit(self) -> None:
        self.ended = True
        try:
            await self._connection.execute("COMMIT", timeout=COMMIT_MAX_S)
        except BaseException:
            self._connection.terminate()  # whether it counts is not known: see changes
            raise


async def _rollback(connection: asyncpg.Connection) -> None:
    with contextlib.suppress(Exception):
        await connection.execute("ROLLBACK", timeout=COMMIT_MAX_S)
        return
    connection.terminate()


async def _pool(url: str, size: int, settings: dict[str, str]) -> asyncpg.Pool:
    return await asyncpg.create_pool(
        url, min_size=1, max_size=size, server_settings=settings, timeout=CONNECT_TIMEOUT_S, reset=_keep,
        target_session_attrs="primary",  # of several hosts in the URL the one that has all commits, also for reads
        command_timeout=CONNECT_TIMEOUT_S + COMMIT_MAX_S, max_inactive_connection_lifetime=0,
    )  # fmt: skip


async def _keep(connection: asyncpg.Connection) -> None:
    """Nothing to reset: what a transaction says of itself is local to it, and a round trip per batch would be dear."""


@asynccontextmanager
async def open_postgres(url: str, *, desk: bool = False) -> AsyncIterator[Postgres]:
    """Raises DirectoryUnavailable."""
    postgres = Postgres(url, desk=desk)
    try:
        await postgres.open()
        yield postgres
    finally:
        await postgres.close()
