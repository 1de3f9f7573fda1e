"""The directory on PostgreSQL, as lanes (see `lanes`).

reads    up to DATABASE_BATCHES connections for lookups.  Planned for nested index look-ups only: a batch is small and
         the table can hold 100 million rows, so no estimate may lead the planner to a scan.
writes   for changes.  The server cancels statements and idle transactions after the commit limit of the protocol.
desk     for reads of administrators and auditors, in the processes that serve them.  Each query is planned for its
         own arguments.
watch    one connection: LISTEN, and the generation, read several times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import asyncpg

from oracle.errors import DirectoryUnavailable
from oracle.store.base import Context, Generation
from oracle.store.cache.lookups import DATABASE_BATCHES
from oracle.store.cache.values import Entry, pack_entries
from oracle.store.lanes import LIMITS, Breaker, Lane, PostgresLimits, is_away, is_busy, open_pool
from oracle.store.queries import QUERIES
from oracle.store.routes import RouteRow
from oracle.store.rows import GenerationRow

WRITES_MAX: Final = 8
DESK_MAX: Final = 8
ROUTES_CHUNK: Final = 1_000

_READ_SETTINGS: Final = {
    "application_name": "oracle lookups",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "default_transaction_read_only": "on",
}
# Callers filter lists by any column, so a plan for all arguments would be a bad plan for most.
_DESK_SETTINGS: Final = {
    "application_name": "oracle desk",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "300000",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "default_transaction_read_only": "on",
}


def write_settings(limits: PostgresLimits) -> dict[str, str]:
    # A COMMIT that waits in a stopped server's socket must not run after the fences are gone (rule 1): so the server
    # itself ends a transaction that was idle for longer.
    commit_ms = str(int(limits.commit_s * 1000))
    return {
        "application_name": "oracle changes",
        "statement_timeout": commit_ms,
        "lock_timeout": commit_ms,
        "idle_in_transaction_session_timeout": commit_ms,
        "jit": "off",
    }


class Reads(Lane):
    """The lane of lookups; implements base.Reads."""

    async def answers(self, keys: Sequence[tuple[str, str]]) -> list[bytes]:
        """Return one answer for each key, see base.Reads."""
        async with (
            self._breaker.guard() as trying,
            asyncio.timeout(self._breaker.retry_s if trying else None),  # a short wait for a server known to be away
            self._pool.acquire() as connection,
        ):
            try:
                rows = await connection.fetch(
                    QUERIES["entries_by_keys"],
                    [party_id_type for party_id_type, _ in keys],
                    [identifier for _, identifier in keys],
                )
            except asyncio.CancelledError:
                # The deadline.  A connection that goes back to the pool first waits, for seconds, until the server
                # confirms the cancellation; a server that does not answer would make the next lookups wait, too.
                connection.terminate()
                raise
        entries: list[list[Entry]] = [[] for _ in keys]
        for ord_, sub_id, currency, fsp_id in rows:
            entries[ord_ - 1].append(Entry(fsp_id, currency, sub_id))
        return [pack_entries(e) for e in entries]

    async def fetch_routes(self) -> list[RouteRow]:
        """Fetch every rule that is or will be valid."""
        async with self._breaker.guard(), self._pool.acquire() as connection, connection.transaction():
            # In portions, so that lookups have their turn between them: there can be 100,000 rules.
            cursor = await connection.cursor(QUERIES["routes_all"])
            rules: list[RouteRow] = []
            while some := await cursor.fetch(ROUTES_CHUNK):
                rules += map(tuple, some)
            return rules


class Watch:
    """The lane of one connection that listens and reads the generation; implements base.Generations."""

    def __init__(self, url: str, breaker: Breaker, limits: PostgresLimits = LIMITS) -> None:
        self._url = url
        self._breaker = breaker
        self._limits = limits
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self.on_notice: Callable[[], None] = lambda: None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    async def ask(self) -> Generation:
        return await self._read_generation()

    async def bump(self) -> Generation:
        return await self._read_generation("generation_bump")

    async def raise_above(self, generation: int) -> Generation:
        return await self._read_generation("generation_raise", generation)

    async def open_for(self, run_ids: tuple[str, ...]) -> Generation:
        return await self._read_generation("generation_open", list(run_ids))

    async def _read_generation(self, first: str | None = None, *arguments: Any) -> Generation:
        """Run `first`, if any, then read the row.  Connects again when the connection is gone."""
        limits = self._limits
        async with self._turn:
            try:
                # One limit for the whole of it: a stopped server must not hold the lock of the connection forever.
                async with asyncio.timeout(limits.ask_s if self._connection is not None else limits.connect_s):
                    connection = await self._open_if_closed()
                    if first is not None:
                        await connection.execute(QUERIES[first], *arguments)
                    row: GenerationRow = await connection.fetchrow(QUERIES["generation"])
            except Exception as exc:
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
                if not (is_away(exc) or is_busy(exc)):
                    raise
                if first is None or is_away(exc):  # else a transaction by hand locks the row: lookups can go on
                    self._breaker.trip()
                raise DirectoryUnavailable from exc
        self._breaker.reset()  # it answers: lookups need not wait for their next try
        return Generation(
            directory_id=row["directory_id"].hex,
            generation=row["generation"],
            run_ids=tuple(row["run_ids"]),
            run_ids_age_s=row["run_ids_age_s"],
            routes_version=row["routes_version"],
        )

    async def _open_if_closed(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._listen()
        return self._connection

    async def _listen(self) -> asyncpg.Connection:
        settings = {"application_name": "oracle watch", "statement_timeout": str(int(2000 * self._limits.ask_s))}
        connection = await asyncpg.connect(
            self._url, server_settings=settings, timeout=self._limits.connect_s, target_session_attrs="primary"
        )
        try:
            await connection.add_listener("oracle_cache", lambda *_: self.on_notice())
        except BaseException:
            connection.terminate()  # nobody else has a reference to it
            raise
        return connection

    async def end_backend(self, backend_pid: int) -> bool:
        """End a server process of ours that has not answered a COMMIT; return whether it is gone.

        Raises DirectoryUnavailable.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(self._limits.connect_s):
                    connection = await self._open_if_closed()
                    return not await connection.fetchval(QUERIES["backend_end"], backend_pid)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as exc:
                raise DirectoryUnavailable from exc


class Writes(Lane):
    """The lane of changes."""

    async def note(self, query: str, *arguments: Any) -> int:
        """Write something that is no change of the directory (a last use, a refused call); return the rows written.

        Raises DirectoryUnavailable.
        """
        async with self.lend() as connection:
            status: str = await connection.execute(QUERIES[query], *arguments)
            return int(status.rsplit(" ", 1)[-1])

    @asynccontextmanager
    async def transaction(self, context: Context, *, fenced: bool) -> AsyncIterator[Transaction]:
        """Run one change.  The caller ends it with `commit`; leaving without a commit rolls back.

        Raises DirectoryUnavailable; an error of the statements that does not mean "not now" passes through.
        """
        async with self.lend() as connection:
            transaction = Transaction(connection, self._limits.commit_s)
            await connection.execute("BEGIN")
            try:
                await connection.execute(
                    QUERIES["transaction_begin"],
                    context.channel, context.actor, context.role, context.fsp_id, "fenced" if fenced else "bumped",
                    context.reason, context.request_id, context.trace_id,
                )  # fmt: skip
                if not fenced:
                    # First of all, so that all transactions that bump wait here, and none holds rows that another
                    # one waits for.
                    await connection.execute(QUERIES["generation_bump"])
                yield transaction
            finally:
                if not transaction.ended:
                    await transaction.roll_back()


class Transaction:
    """A change's connection: runs named queries, and ends."""

    def __init__(self, connection: asyncpg.Connection, commit_s: float) -> None:
        self._connection = connection
        self._commit_s = commit_s
        self.ended = False
        self.backend_pid: int = connection.get_server_pid()

    async def run(self, query: str, *arguments: Any) -> int:
        """Run a named query; return how many rows it wrote."""
        status: str = await self._connection.execute(QUERIES[query], *arguments)
        return int(status.rsplit(" ", 1)[-1])

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Fetch all rows of a named query."""
        rows: list[Any] = await self._connection.fetch(QUERIES[query], *arguments)
        return rows

    async def commit(self) -> None:
        self.ended = True
        try:
            await self._connection.execute("COMMIT", timeout=self._commit_s)
        except BaseException:
            self._connection.terminate()  # nobody knows whether it is committed: see `changes`
            raise

    async def roll_back(self) -> None:
        self.ended = True
        with contextlib.suppress(Exception):
            await self._connection.execute("ROLLBACK", timeout=self._commit_s)
            return
        self._connection.terminate()


class Postgres:
    """The lanes of one process; `open_postgres` makes it."""

    def __init__(self, breaker: Breaker, reads: Reads, writes: Writes, watch: Watch, desk: Lane | None = None) -> None:
        self._breaker = breaker
        self.reads = reads
        self.writes = writes
        self.watch = watch
        self._desk = desk

    @property
    def desk(self) -> Lane:
        if self._desk is None:
            raise RuntimeError("PostgreSQL was opened without the desk lane: open_postgres(url, desk=True)")
        return self._desk

    @property
    def away(self) -> bool:
        return self._breaker.away

    def take_errors(self) -> int:
        """Return how many calls failed since the last call of this method."""
        return self._breaker.take_errors()

    def count_connections(self) -> tuple[int, int]:
        """Return the number of pooled connections that are open, and of those that are idle."""
        lanes = [lane for lane in (self.reads, self.writes, self._desk) if lane is not None]
        sizes, idle = zip(*(lane.count_connections() for lane in lanes), strict=True)
        return sum(sizes), sum(idle)

    # The methods that most callers use, each of its lane.

    def rows(self, query: str, *arguments: Any) -> Coroutine[Any, Any, list[Any]]:
        return self.desk.rows(query, *arguments)

    def row(self, query: str, *arguments: Any) -> Coroutine[Any, Any, Any]:
        return self.desk.row(query, *arguments)

    def stream(self, query: str, *arguments: Any) -> AsyncIterator[list[Any]]:
        return self.desk.stream(query, *arguments)

    def note(self, query: str, *arguments: Any) -> Coroutine[Any, Any, int]:
        return self.writes.note(query, *arguments)

    def transaction(self, context: Context, *, fenced: bool) -> contextlib.AbstractAsyncContextManager[Transaction]:
        return self.writes.transaction(context, fenced=fenced)


@asynccontextmanager
async def open_postgres(url: str, *, desk: bool = False, limits: PostgresLimits = LIMITS) -> AsyncIterator[Postgres]:
    """Open the lanes, and close them at the end.  Raises DirectoryUnavailable."""
    breaker = Breaker(limits.retry_s)
    async with AsyncExitStack() as stack:

        async def pool(size: int, settings: dict[str, str]) -> asyncpg.Pool:
            return await stack.enter_async_context(open_pool(url, size, settings, limits))

        reads = Reads(await pool(DATABASE_BATCHES, _READ_SETTINGS), breaker, limits)
        writes = Writes(await pool(WRITES_MAX, write_settings(limits)), breaker, limits)
        reading = Lane(await pool(DESK_MAX, _DESK_SETTINGS), breaker, limits) if desk else None
        watch = Watch(url, breaker, limits)
        stack.callback(watch.close)
        yield Postgres(breaker, reads, writes, watch, reading)
