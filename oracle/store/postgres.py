"""The directory on PostgreSQL, as lanes (see `lanes`).

reads    up to DATABASE_BATCHES connections for lookups.  Planned for nested index look-ups only: a batch is small and
         the table can hold 100 million rows, so no estimate may lead the planner to a scan.
writes   for changes.  The server cancels statements and idle transactions after the commit limit of the protocol.
keys     for the check of a credential, in the processes that serve administrators and auditors.  Nothing else uses it,
         so that no slow read delays the check.
desk     for their short reads.  Each query is planned for its own arguments.
streams  for their long reads, which can last as long as their clients go on reading.
watch    two connections.  One listens, and reads the generation several times a second.  It does nothing else, so that
         nothing delays the lease.  The other one moves the generation, and ends server processes of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg

from oracle.errors import DirectoryUnavailable
from oracle.store.base import Context, CopyKey, Generation, Lineage
from oracle.store.cache.lookups import DATABASE_BATCHES
from oracle.store.cache.values import PlainEntry, pack_entries
from oracle.store.lanes import LIMITS, Breaker, Lane, Outage, PostgresLimits, is_refused, is_unavailable, open_pool
from oracle.store.queries import QUERIES
from oracle.store.routes import RouteRow
from oracle.store.rows import GenerationRow, TurnRow
from oracle.store.servers import READ_ONLY, Servers

_AnyLane = TypeVar("_AnyLane", bound=Lane)
Rows = Callable[..., Awaitable[list[Any]]]  # runs a named query, as `Postgres.rows` and `Transaction.rows` do

WRITES_MAX: Final = 8
# The processes for administrators and auditors have three lanes more.  docs/operate.md names the sums.
KEYS_MAX: Final = 2
DESK_MAX: Final = 6
STREAMS_MAX: Final = 4
ROUTES_CHUNK: Final = 1_000
KEY_SEPARATOR: Final = "\x1f"
# Changes without fences take turns, while another process uses the cache.  Each turn makes all copies unreachable.
# So copies are of use for three quarters of the time, and a change waits for its turn at most 1.5 s.
TURN_EVERY_S: Final = 2.0
TURN_S: Final = 0.5

_READ_SETTINGS: Final = {
    "application_name": "oracle lookups",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    READ_ONLY: "on",
}
# Callers filter lists by any column, so a plan for all arguments would be a bad plan for most.
_DESK_SETTINGS: Final = {
    "application_name": "oracle desk",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "300000",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    READ_ONLY: "on",
}
_KEY_SETTINGS: Final = {**_DESK_SETTINGS, "application_name": "oracle keys"}
# A client that reads slowly keeps its transaction waiting between two portions.
_STREAM_SETTINGS: Final = {
    **_DESK_SETTINGS,
    "application_name": "oracle streams",
    "idle_in_transaction_session_timeout": "3600000",
}

# A transaction for several callers.  While the tables are small a plan with a scan is the best one; such a plan is kept
# until the next ANALYZE, however fast they grow.
_BEGIN_SHARED: Final = "BEGIN; SET LOCAL enable_seqscan = off"


def write_settings(limits: PostgresLimits) -> dict[str, str]:
    # A COMMIT that waits in a stopped server's socket must not run after the fences are gone (rule 1): so the server
    # itself ends a transaction that was idle for longer.
    commit_ms = _ms(limits.commit_s)
    return {
        "application_name": "oracle changes",
        "statement_timeout": commit_ms,
        "lock_timeout": commit_ms,
        "idle_in_transaction_session_timeout": commit_ms,
        "jit": "off",
    }


def join_keys(keys: Sequence[CopyKey]) -> tuple[str, str]:
    """Join types and identifiers for entries_by_keys."""
    types = KEY_SEPARATOR.join([party_id_type for party_id_type, _ in keys])
    identifiers = KEY_SEPARATOR.join([identifier for _, identifier in keys])
    if identifiers.count(KEY_SEPARATOR) >= len(keys):
        # Nobody can have registered it: like a space, the separator is not allowed (aliases_identifier_check).
        identifiers = KEY_SEPARATOR.join([identifier.replace(KEY_SEPARATOR, " ") for _, identifier in keys])
    return types, identifiers


class Reads(Lane):
    """The lane of lookups; implements base.Reads."""

    async def answers(self, keys: Sequence[tuple[str, str]]) -> list[bytes]:
        """Return one answer for each key, see base.Reads."""
        async with (
            self.breaker.guard() as trying,
            asyncio.timeout(
                self.breaker.server.retry_s if trying else None
            ),  # a short wait for a server known to be away
            self._pool.acquire() as connection,
        ):
            try:
                rows = await connection.fetch(QUERIES["entries_by_keys"], *join_keys(keys))
            except asyncio.CancelledError:
                # The deadline.  A connection that goes back to the pool first waits, for seconds, until the server
                # confirms the cancellation; a server that does not answer would make the next lookups wait, too.
                connection.terminate()
                raise
        entries: list[list[PlainEntry]] = [[] for _ in keys]
        for row in rows:
            entries[row[0] - 1].append(row[1:])
        return list(map(pack_entries, entries))

    async def fetch_routes(self) -> list[RouteRow]:
        """Fetch every rule that is or will be valid."""
        async with self.breaker.guard(), self._pool.acquire() as connection, connection.transaction():
            # In portions, so that lookups have their turn between them: there can be 100,000 rules.
            cursor = await connection.cursor(QUERIES["routes_all"])
            rules: list[RouteRow] = []
            try:
                while some := await cursor.fetch(ROUTES_CHUNK):
                    rules += map(tuple, some)
            except TimeoutError:
                connection.terminate()  # else the lease waits for a stopped server, and then again for its ROLLBACK
                raise
            return rules


class Line:
    """One connection, opened again when it is gone.  Its calls run one after the other."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], limits: PostgresLimits) -> None:
        self._connect = connect
        self._limits = limits
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    @asynccontextmanager
    async def lend(self, limit_s: float) -> AsyncIterator[asyncpg.Connection]:
        """Lend the connection for limit_s, or for connect_s when it must be opened first.

        Raises DirectoryUnavailable.  After any error the connection is closed.
        """
        async with self._turn:
            try:
                # One limit for the whole of it: a stopped server must not hold the lock of the connection forever.
                async with asyncio.timeout(limit_s if self._connection is not None else self._limits.connect_s):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await self._connect()
                    yield self._connection
            except BaseException as exc:
                self.close()
                if is_unavailable(exc):
                    raise DirectoryUnavailable from exc
                raise


class Watch:
    """Reads and moves the generation; implements base.Generations.  All methods raise DirectoryUnavailable."""

    def __init__(self, servers: Servers, server: Outage, limits: PostgresLimits = LIMITS) -> None:
        """`server`: the outage that all lanes share."""
        self._servers = servers
        self._server = server
        self._limits = limits
        self._asking = Line(self._listen, limits)
        self._moving = Line(self._open_for_moves, limits)
        self.on_notice: Callable[[], None] = lambda: None
        self.uses_cache = False
        self._announced: tuple[asyncpg.Connection | None, bool] = (None, False)

    def close(self) -> None:
        self._asking.close()
        self._moving.close()

    async def ask(self) -> Generation:
        try:
            async with self._asking.lend(self._limits.ask_s) as connection:
                generation = await self._fetch_generation(connection)
                await self._announce(connection)
        except DirectoryUnavailable as exc:
            # A server that refuses this connection (there are too many) can work for those that are open.
            if exc.__cause__ is None or not is_refused(exc.__cause__):
                self._server.begin(exc)
            raise
        self._server.end()  # it answers: lookups need not wait for their next try
        return generation

    async def bump(self) -> Generation:
        return await self._move("generation_bump")

    async def raise_above(self, generation: int, routes_version: int) -> Generation:
        return await self._move("generation_raise", generation, routes_version)

    async def open_for(self, run_ids: tuple[str, ...]) -> Generation:
        return await self._move("generation_open", list(run_ids))

    def learn(self, lineage: Lineage) -> None:
        self._servers.learn(lineage)

    async def _announce(self, connection: asyncpg.Connection) -> None:
        """Hold a lock of the directory, shared with other processes, while this process uses the cache."""
        announced = self._announced[1] if self._announced[0] is connection else False
        if announced != self.uses_cache:
            uses_cache = self.uses_cache
            await connection.execute(QUERIES["cache_use_begin" if uses_cache else "cache_use_end"])
            self._announced = connection, uses_cache

    async def _move(self, query: str, *arguments: Any) -> Generation:
        async with self._moving.lend(self._limits.commit_s) as connection:
            await self._settle_lineage(connection)
            await connection.execute(QUERIES[query], *arguments)
            generation = await self._fetch_generation(connection)
        self._server.end()
        return generation

    async def _fetch_generation(self, connection: asyncpg.Connection) -> Generation:
        row: GenerationRow = await connection.fetchrow(QUERIES["generation"])
        system_identifier, timeline = self._servers.lineage_of(connection)
        return Generation(
            directory_id=row["directory_id"].hex,
            generation=row["generation"],
            run_ids=tuple(row["run_ids"]),
            run_ids_age_s=row["run_ids_age_s"],
            routes_version=row["routes_version"],
            system_identifier=system_identifier,
            timeline=timeline,
            now_s=row["now_s"],
        )

    async def end_backends(self, backend_pids: Collection[int]) -> dict[int, str]:
        """End server processes of ours that have not answered a COMMIT.

        Returns those that are not gone yet, each with what it waits for ('' for nothing).
        """
        async with self._moving.lend(self._limits.commit_s) as connection:
            rows = await connection.fetch(QUERIES["backends_end"], list(backend_pids))
            return {row["pid"]: row["wait_event"] for row in rows}

    async def _listen(self) -> asyncpg.Connection:
        settings = {"statement_timeout": _ms(2 * self._limits.ask_s), "synchronous_commit": "local"}
        connection = await self._dial("oracle watch", settings)
        try:
            await self._settle_lineage(connection)
            await connection.add_listener("oracle_cache", lambda *_: self.on_notice())
        except BaseException:
            connection.terminate()  # nobody else has a reference to it
            raise
        return connection

    async def _open_for_moves(self) -> asyncpg.Connection:
        # A move must take effect also while no synchronous standby is there to confirm it: else copies from before a
        # change that nobody could confirm would be answered until then.  A failover can lose a move, and with its new
        # timeline the generation moves anyway.
        settings = {"statement_timeout": _ms(self._limits.commit_s), "synchronous_commit": "local"}
        return await self._dial("oracle repairs", settings)

    async def _settle_lineage(self, connection: asyncpg.Connection) -> None:
        """Move the generation if its row names another PostgreSQL (rule 11 of `coherence`).

        Not before `end_backends`: a commit that waits for a standby can hold the row, and that is what ends it.
        """
        lineage = self._servers.lineage_of(connection)
        if lineage[0]:  # else this role cannot read it
            await connection.execute(QUERIES["generation_settle_lineage"], *lineage)

    async def _dial(self, name: str, settings: dict[str, str]) -> asyncpg.Connection:
        return await self._servers.connect(name, settings, timeout_s=self._limits.connect_s)


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


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
    async def transaction(self, context: Context | None, *, fenced: bool) -> AsyncIterator[Transaction]:
        """Run one change.  The caller ends it with `commit`; leaving without a commit rolls back.

        `context` of None: the first statement of the caller says who makes the change (`aliases.register_together`).
        Raises DirectoryUnavailable; an error of the statements that does not mean "not now" passes through.
        """
        async with self.lend() as connection:
            transaction = Transaction(connection, self._limits.commit_s, self.breaker.lane, fenced=fenced)
            await connection.execute("BEGIN" if context is not None else _BEGIN_SHARED)
            try:
                if context is not None:
                    await connection.execute(
                        QUERIES["transaction_begin"],
                        context.channel, context.actor, context.role, context.fsp_id, transaction.cache,
                        context.reason, context.request_id, context.trace_id,
                    )  # fmt: skip
                if not fenced:
                    # First of all, so that all transactions that bump wait here, and none holds rows that another
                    # one waits for.
                    await connection.execute(QUERIES["generation_bump_unfenced"], TURN_EVERY_S)
                yield transaction
            finally:
                if not transaction.ended:
                    await transaction.roll_back()


class Transaction:
    """A change's connection: runs named queries, and ends."""

    def __init__(self, connection: asyncpg.Connection, commit_s: float, writes: Outage, *, fenced: bool) -> None:
        self._connection = connection
        self._commit_s = commit_s
        self._writes = writes
        self.cache = "fenced" if fenced else "bumped"  # what the triggers learn of the cache
        self.ended = False
        self.can_be_committed = False  # from the moment when COMMIT is sent
        self.backend_pid: int = connection.get_server_pid()

    async def run(self, query: str, *arguments: Any) -> int:
        """Run a named query; return how many rows it wrote or locked."""
        status: str = await self._connection.execute(QUERIES[query], *arguments)
        return int(status.rsplit(" ", 1)[-1])

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Fetch all rows of a named query."""
        rows: list[Any] = await self._connection.fetch(QUERIES[query], *arguments)
        return rows

    async def commit(self) -> None:
        self.ended = self.can_be_committed = True
        try:
            await self._connection.execute("COMMIT", timeout=self._commit_s)
        except BaseException as exc:
            self._connection.terminate()  # nobody knows whether it is committed: see `changes`
            if isinstance(exc, TimeoutError):
                self._writes.begin(exc)  # commits wait, for a synchronous standby or for the disk: reads can go on
            raise

    async def roll_back(self) -> None:
        self.ended = True
        with contextlib.suppress(Exception):
            await self._connection.execute("ROLLBACK", timeout=self._commit_s)
            return
        self._connection.terminate()


class Desk(NamedTuple):
    """The lanes of administrators and auditors."""

    keys: Lane
    desk: Lane
    streams: Lane


class Postgres:
    """The lanes of one process; `open_postgres` makes it."""

    def __init__(
        self, servers: Servers, server: Outage, reads: Reads, writes: Writes, watch: Watch, desk: Desk | None = None
    ) -> None:
        self._server = server
        self.servers = servers
        self.reads = reads
        self.writes = writes
        self.watch = watch
        self._desk = desk
        self._lanes: list[Lane] = [reads, writes, *(desk or ())]

    def _require_desk(self) -> Desk:
        if self._desk is None:
            raise RuntimeError("PostgreSQL was opened without the desk lane: open_postgres(url, desk=True)")
        return self._desk

    @property
    def keys(self) -> Lane:
        return self._require_desk().keys

    @property
    def desk(self) -> Lane:
        return self._require_desk().desk

    @property
    def streams(self) -> Lane:
        return self._require_desk().streams

    @property
    def away(self) -> bool:
        return self._server.lasts

    def take_errors(self) -> int:
        """Return how many calls failed since the last call of this method."""
        return sum(lane.breaker.take_errors() for lane in self._lanes)

    def count_connections(self) -> tuple[int, int]:
        """Return the number of pooled connections that are open, and of those that are idle."""
        sizes, idle = zip(*(lane.count_connections() for lane in self._lanes), strict=True)
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

    async def find_turn(self) -> float:
        """Return how many seconds a change without fences waits for its turn."""
        row: TurnRow = await self.writes.row("unfenced_turn", TURN_EVERY_S, TURN_S)
        return row["wait_s"]

    def transaction(
        self, context: Context | None, *, fenced: bool
    ) -> contextlib.AbstractAsyncContextManager[Transaction]:
        return self.writes.transaction(context, fenced=fenced)


@asynccontextmanager
async def open_postgres(url: str, *, desk: bool = False, limits: PostgresLimits = LIMITS) -> AsyncIterator[Postgres]:
    """Open the lanes, and close them at the end.  They connect at their first use."""
    servers, server = Servers(url), Outage(limits.retry_s)
    async with AsyncExitStack() as stack:

        async def lane(kind: type[_AnyLane], size: int, settings: dict[str, str]) -> _AnyLane:
            pooled = await stack.enter_async_context(open_pool(servers, size, settings, limits))
            return kind(pooled, Breaker(server), limits, share=size // 2)

        reads = await lane(Reads, DATABASE_BATCHES, _READ_SETTINGS)
        writes = await lane(Writes, WRITES_MAX, write_settings(limits))
        reading = None
        if desk:
            keys = await lane(Lane, KEYS_MAX, _KEY_SETTINGS)
            reading = Desk(
                keys, await lane(Lane, DESK_MAX, _DESK_SETTINGS), await lane(Lane, STREAMS_MAX, _STREAM_SETTINGS)
            )
        watch = Watch(servers, server, limits)
        stack.callback(watch.close)
        yield Postgres(servers, server, reads, writes, watch, reading)
