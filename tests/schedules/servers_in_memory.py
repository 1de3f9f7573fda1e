"""A Redis and a PostgreSQL in memory, and the networks to them, on which every message is a scheduling point.

The clients are the production code down to the bytes for Redis (`RedisSession` on a transport of ours) and down
to the driver's connections for PostgreSQL (the lanes of `Postgres`, with connections of ours).  A message has a delay
of its own; on the way it may be held back (it comes late, also after its sender has given up) or be lost with its
connection.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha1
from typing import Any, Final, Protocol, cast

import asyncpg
import hiredis
from universe import Universe, VirtualLoop

from oracle.store import servers
from oracle.store.base import Lineage
from oracle.store.cache import session as redis_session
from oracle.store.cache.coherence import COMMIT_MAX_S, TOKEN_MS
from oracle.store.cache.session import RedisSession, Unreachable
from oracle.store.cache.values import FENCE, TOKEN_LENGTH, Marker
from oracle.store.lanes import LIMITS, Breaker, Outage
from oracle.store.postgres import KEY_SEPARATOR, Postgres, Reads, Watch, Writes
from oracle.store.queries import QUERIES
from oracle.store.routes import RouteRow
from oracle.store.servers import Servers

SESSION_TIMEOUT_MS: Final = 50
NAMES: Final = {sql: name for name, sql in QUERIES.items()}
DIRECTORY: Final = uuid.UUID(int=0)
LONG_AGO: Final = -3600.0
ROUTED: Final = "r"  # the key that nobody registers: a route answers it
FAR: Final = 1 << 20
SHARED_LOCK_WAIT_S: Final = 0.1
_ACTIVE: Final = {"status": "active", "kinds": None, "currencies": None, "hub_changes": True}
_MOVES: Final = (
    "generation_bump", "generation_bump_unfenced", "generation_raise", "generation_open", "generation_settle_lineage",
    "ROUTES",
)  # fmt: skip


class World(Protocol):
    """The schedule, as the servers in it see it."""

    universe: Universe

    def latency(self, what: str) -> float:
        """Of one message: "redis" and "redis answer", "notice", or a statement's name, and that with " answer"."""

    def flip(self, probability: float) -> bool: ...
    def note_commit(self, backend: Backend, wrote: dict[str, int]) -> None: ...


@dataclass(eq=False)
class Network:
    """From one process to both kinds of server.  `…_held` are messages that may still arrive."""

    loop: VirtualLoop
    redis_cut: bool = False
    redis_held: list[tuple[RedisWire, bytes]] = field(default_factory=list)
    redis_wires: list[RedisWire] = field(default_factory=list)
    postgres: PostgresServer | None = None  # the one that new connections reach first
    postgres_cut: bool = False
    postgres_held: list[Callable[[], None]] = field(default_factory=list)
    postgres_slow_s: float = 0.0
    connections: list[Connection] = field(default_factory=list)


# -- Redis ------------------------------------------------------------------------------------------------------------


class RedisServer:
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.starts = 0
        self.data: dict[bytes, tuple[bytes, float]] = {}
        self.paused = False
        self.replica = False
        self.fills_by_token = True  # rule 2, in the script; a test that drops the rule says False
        self.largest_fill = 0  # copies in one script
        self.wires: list[RedisWire] = []
        self._backlog: list[tuple[RedisWire, bytes]] = []
        self.start({})

    def start(self, data: dict[bytes, tuple[bytes, float]]) -> None:
        """As a new process, with what it found on its disk; all connections end."""
        self.starts += 1
        self.run_id = f"{self.name}{self.starts}"
        self.data = dict(data)
        self._backlog.clear()
        self.replica = False
        wires, self.wires = self.wires, []
        for wire in wires:
            wire.hang_up()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        """Let the waiting messages take effect now, also those whose sender has given up."""
        self.paused = False
        backlog, self._backlog = self._backlog, []
        for wire, data in backlog:
            wire.take(data)

    def arrive(self, wire: RedisWire, data: bytes) -> None:
        if self.paused:
            self._backlog.append((wire, data))
        else:
            wire.take(data)

    def get(self, key: bytes) -> bytes | None:
        value, expires = self.data.get(key, (b"", 0.0))
        return value if expires > self.world.universe.now else None

    def _set(self, key: bytes, value: bytes, px: bytes) -> None:
        self.data[key] = (value, self.world.universe.now + int(px) / 1000)

    def run(self, command: list[bytes]) -> bytes:
        name = command[0]
        if name == b"MGET":
            return b"*%d\r\n" % (len(command) - 1) + b"".join(_bulk(self.get(key)) for key in command[1:])
        if name in (b"SET", b"EVALSHA", b"UNLINK") and self.replica:
            return b"-READONLY You can't write against a read only replica.\r\n"
        if name == b"SET" and command[3] == b"NX":  # SET key token NX GET PX milliseconds
            present = self.get(command[1])
            if present is None:
                self._set(command[1], command[2], command[6])
            return _bulk(present)
        if name == b"SET":
            self._set(command[1], command[2], command[4])
            return b"+OK\r\n"
        if name == b"EVALSHA" and command[1] == _sha(redis_session._RAISE):
            _, _, _, key, marker, *replaced = command
            present = self.get(key)
            if present is None or present in replaced or _read_marker(marker).exceeds(_read_marker(present)):
                self.data[key] = (marker, float("inf"))
            return _bulk(self.get(key))
        if name == b"EVALSHA" and command[1] == _sha(redis_session._REMOVE):
            _, _, _, key, begin = command
            if (self.get(key) or b"").startswith(begin):
                del self.data[key]
            return b":1\r\n"
        if name == b"EVALSHA" and command[1] == _sha(redis_session._SHORTEN):
            _, _, _, key, px = command
            value, expires = self.data.get(key, (b"", 0.0))
            is_long = self.get(key) is not None and expires > self.world.universe.now + int(px) / 1000
            if not is_long or len(value) > TOKEN_LENGTH:
                return b":0\r\n"
            self._set(key, value, px)
            return b":1\r\n"
        if name == b"EVALSHA":
            count = int(command[2])
            keys, copies = command[3 : 3 + count], command[3 + count :]
            lost, self.largest_fill = 0, max(self.largest_fill, count)
            for key, token, value, px in zip(keys, copies[::3], copies[1::3], copies[2::3], strict=True):
                present = self.get(key)
                if present == token or (not self.fills_by_token and present != FENCE):
                    self._set(key, value, px)
                else:
                    lost += 1
            return b":%d\r\n" % lost
        if name == b"UNLINK":
            return b":%d\r\n" % sum(self.data.pop(key, None) is not None for key in command[1:])
        if name == b"INFO":
            role = "slave" if self.replica else "master"
            return _bulk(f"role:{role}\r\nrun_id:{self.run_id}\r\n".encode())
        if name == b"SCRIPT":
            return _bulk(_sha(command[2]))
        assert name == b"PING", command
        return b"+PONG\r\n"


def _sha(script: bytes) -> bytes:
    return sha1(script, usedforsecurity=False).hexdigest().encode()


def _read_marker(value: bytes) -> Marker:
    """Read a marker as the script does: without a look at its tag."""
    return Marker.unpack(value.rpartition(b":")[0])


def _bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


class RedisWire(asyncio.Transport):
    """One connection: both ways in order, each message with a delay of its own."""

    def __init__(self, network: Network, server: RedisServer) -> None:
        super().__init__()
        self.session = RedisSession(SESSION_TIMEOUT_MS, TOKEN_MS)
        self._network = network
        self._server = server
        self._run_id = server.run_id
        self._reader = hiredis.Reader()
        self._open = True  # at the client
        self._lost = False  # nothing gets through any more
        self._arrives_at = self._answers_at = 0.0
        network.redis_wires.append(self)
        server.wires.append(self)
        self.session.connection_made(self)

    def write(self, data: Any) -> None:
        world = self._server.world
        self._arrives_at = max(self._arrives_at, world.universe.now + world.latency("redis"))
        world.universe.at(self._arrives_at, partial(self.arrive, bytes(data)))

    def abort(self) -> None:
        """The client has given up; what is on the way gets there, or not."""
        self._open = False
        self._lost = self._lost or self._server.world.flip(0.5)

    def hang_up(self) -> None:
        """The connection breaks, and the client notices at once."""
        self._lost = self._lost or self._server.world.flip(0.5)
        if self._open:
            self._open = False
            self._network.loop.call_soon(self.session.connection_lost, None)

    def arrive(self, data: bytes) -> None:
        if self._lost or self._server.run_id != self._run_id:
            return
        if self._network.redis_cut:
            self._network.redis_held.append((self, data))
        else:
            self._server.arrive(self, data)

    def take(self, data: bytes) -> None:
        self._reader.feed(data)
        replies = []
        while (command := self._reader.gets()) is not False:
            replies.append(self._server.run(cast("list[bytes]", command)))
        world = self._server.world
        self._answers_at = max(self._answers_at, world.universe.now + world.latency("redis answer"))
        world.universe.at(self._answers_at, partial(self._answer, b"".join(replies)))

    def _answer(self, data: bytes) -> None:
        if self._network.redis_cut:
            self._lost = True  # a stream with a hole in it
        elif self._open and not self._lost:
            self._network.loop.call_soon(self.session.data_received, data)


async def dial(network: Network, server: RedisServer) -> RedisSession:
    """As session.dial.  Raises Unreachable."""
    await asyncio.sleep(server.world.latency("redis") * 2)
    if network.redis_cut:
        await asyncio.sleep(1.0)
        raise Unreachable
    session = RedisWire(network, server).session
    try:
        await session.greet(None, None, 0)
    except BaseException:
        session.close()
        raise
    return session


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Backend:
    """A server process: one for each connection."""

    server: PostgresServer
    network: Network
    pid: int
    gone: bool = False
    open: bool = False  # a transaction
    lock_wait_s: float = COMMIT_MAX_S
    writes: dict[str, int] = field(default_factory=dict)
    moves: int = 0  # of the generation, in this transaction
    routes_moves: int = 0
    turn_at: float = LONG_AGO  # that began with this transaction
    uses_cache: bool = False
    begun_at: float = 0.0
    locks: list[str] = field(default_factory=list)
    idle_since: float = 0.0
    idle: bool = True


@dataclass
class State:
    """All that is committed."""

    values: dict[str, int]
    generation: int = 1
    run_ids: tuple[str, ...] = ()
    run_ids_since: float = LONG_AGO
    routes_version: int = 1
    unfenced_since: float = LONG_AGO
    lineage: Lineage = ("1", 1)
    route_from: float = LONG_AGO  # when the route that is a value of ROUTED began, by the server's clock

    def copy(self) -> State:
        return replace(self, values=dict(self.values))


Reply = Callable[[Any], None]


class PostgresServer:
    def __init__(self, world: World, keys: Sequence[str], lineage: Lineage = ("1", 1)) -> None:
        self.world = world
        self.lineage = lineage
        self.down = False
        self.skew_s = 0.0  # its clock, against the time of the world
        self.state = State(dict.fromkeys(keys, 0))
        self.kept = self.state.copy()  # as of some backup
        self.bumps = True  # rule 4; a test that drops the rule says False
        self._backends: dict[int, Backend] = {}
        self._listening: list[Connection] = []
        self._owner: dict[str, Backend] = {}
        self._queue: list[tuple[str, Backend, Callable[[], None]]] = []
        self._pids = 0
        self.largest_batch = 0  # of registrations

    # What a client does.

    def connect(self, network: Network) -> Backend:
        if self.down:
            raise ConnectionRefusedError
        self._pids += 1
        backend = Backend(self, network, self._pids)
        self._backends[self._pids] = backend
        return backend

    def listen(self, connection: Connection) -> None:
        self._listening.append(connection)

    def leave(self, backend: Backend) -> None:
        """Its client has gone, or it was ended: what is not committed never was."""
        if not backend.gone:
            backend.gone = True
            self._backends.pop(backend.pid, None)
            self._finish(backend)

    def run(self, backend: Backend, sql: str, arguments: tuple[Any, ...], reply: Reply) -> None:
        if backend.gone:
            reply(_broken())
            return
        if backend.open and self.world.universe.now - backend.idle_since > COMMIT_MAX_S:
            self.leave(backend)
            reply(asyncpg.exceptions.IdleInTransactionSessionTimeoutError())
            return
        backend.idle = False

        def finish(result: Any) -> None:
            backend.idle, backend.idle_since = True, self.world.universe.now
            if backend.open:
                self.world.universe.after(COMMIT_MAX_S + 0.001, partial(self._idle_too_long, backend))
            reply(result)

        self._run(backend, NAMES.get(sql, sql), arguments, finish)

    def _run(self, backend: Backend, name: str, arguments: tuple[Any, ...], done: Reply) -> None:
        state = self.state
        if name.startswith("BEGIN"):  # with settings behind it for a transaction of several callers
            backend.open, backend.begun_at = True, self.now_s
            backend.lock_wait_s = COMMIT_MAX_S if name == "BEGIN" else SHARED_LOCK_WAIT_S
            done("BEGIN")
        elif name == "COMMIT":
            self._commit(backend)
            done("COMMIT")
        elif name == "ROLLBACK":
            self._finish(backend)
            done("ROLLBACK")
        elif name == "transaction_begin":
            done("SELECT 1")
        elif name == "WRITE":
            key, value = arguments

            def write() -> None:
                backend.writes[key] = value
                done("UPDATE 1")

            self._lock(backend, key, write, done)
        elif name == "fsp_status":
            done([_ACTIVE])
        elif name == "registrations_begin":
            done([{"ord": n, "is_free": True, **_ACTIVE} for n, _ in enumerate(arguments[3], 1)])
        elif name == "registrations_add":
            # As if each key were free: here an FSP is a value, and the values of a key follow each other.
            wanted = zip(arguments[1], arguments[4], strict=True)
            self._add(backend, sorted((key, int(fsp_id[1:])) for key, fsp_id in wanted), done)
        elif name == "aliases_add":
            self._add(backend, sorted((key, int(arguments[4][1:])) for key in arguments[1]), done)
        elif name == "ALL ROUTES":
            done(state.copy())
        elif name == "READ":
            done([(arguments[0], state.values[arguments[0]])])
        elif name == "entries_by_keys":
            keys = arguments[1].split(KEY_SEPARATOR)
            found = [(n, state.values[key]) for n, key in enumerate(keys, 1) if key != ROUTED]
            done([(n, f"f{value}", "", "") for n, value in found if value])
        elif name == "generation":
            row = {
                "directory_id": DIRECTORY,
                "generation": state.generation,
                "run_ids": list(state.run_ids),
                "run_ids_age_s": self.world.universe.now - state.run_ids_since,
                "routes_version": state.routes_version,
                "now_s": self.now_s,
            }
            done([row])
        elif name in ("cache_use_begin", "cache_use_end"):
            backend.uses_cache = name == "cache_use_begin"
            done("SELECT 1")
        elif name == "unfenced_turn":
            age_s, (every_s, for_s) = self.now_s - state.unfenced_since, arguments
            waits = for_s <= age_s < every_s and any(each.uses_cache for each in self._backends.values())
            done([{"wait_s": every_s - age_s if waits else 0.0}])
        elif name == "backends_end":
            waited_for = [self._backends[pid] for pid in arguments[0] if pid in self._backends]
            for each in waited_for:
                self.world.universe.after(self.world.latency("postgres"), partial(self.leave, each))
            done([{"pid": each.pid, "wait_event": ""} for each in waited_for])
        elif name == "generation_settle_lineage" and state.lineage == arguments:
            done("UPDATE 0")
        elif name in _MOVES:
            self._lock(backend, "generation", partial(self._move, backend, name, arguments, done), done)
        else:
            raise AssertionError(name)

    def _add(self, backend: Backend, wanted: list[tuple[str, int]], done: Reply) -> None:
        """Write values, one after the other; now and then it fails."""
        self.largest_batch = max(self.largest_batch, len(wanted))
        if self.world.flip(0.02):
            done(asyncpg.exceptions.DeadlockDetectedError())
            return
        if self.world.flip(0.02):
            done(asyncpg.exceptions.InternalServerError())
            return
        left = list(wanted)

        def write_next() -> None:
            if not left:
                done(f"INSERT 0 {len(wanted)}")
                return
            key, value = left[0]
            self._lock(backend, key, partial(write, key, value), done)

        def write(key: str, value: int) -> None:
            backend.writes[key] = value
            del left[0]
            write_next()

        write_next()

    def _move(self, backend: Backend, name: str, arguments: tuple[Any, ...], done: Reply) -> None:
        """One of the statements that write the row of the generation."""
        if backend.open:
            if name == "ROUTES":
                backend.routes_moves += 1
            else:
                backend.moves += 1 if self.bumps else 0
            if name == "generation_bump_unfenced" and self.now_s - self.state.unfenced_since >= arguments[0]:
                backend.turn_at = self.now_s
            done("SELECT 1")
            return
        state = self.state
        if name in ("generation_bump", "generation_bump_unfenced"):
            state.generation += 1 if self.bumps else 0
        elif name == "generation_raise":
            state.generation = max(state.generation, arguments[0]) + 1
            state.routes_version = max(state.routes_version, arguments[1]) + 1
        elif name == "generation_settle_lineage":
            if state.lineage != arguments:
                skipped = max(arguments[1] - state.lineage[1], 1)
                state.generation, state.routes_version = state.generation + FAR * skipped, state.routes_version + FAR
                state.lineage = arguments
        elif name == "ROUTES":
            state.routes_version += 1
        elif list(state.run_ids) != arguments[0]:
            state.generation += 1
            state.run_ids, state.run_ids_since = tuple(arguments[0]), self.world.universe.now
        self._finish(backend)
        self._notify()
        done("UPDATE 1")

    # Locks of rows, first come first served.

    def _lock(self, backend: Backend, row: str, go_on: Callable[[], None], done: Reply) -> None:
        owner = self._owner.get(row)
        if owner is None or owner is backend:
            if owner is None:
                self._owner[row] = backend
                backend.locks.append(row)
            go_on()
            return
        waiting = (row, backend, go_on)
        self._queue.append(waiting)

        def too_long() -> None:
            if waiting in self._queue:
                self._queue.remove(waiting)
                done(asyncpg.exceptions.LockNotAvailableError())

        self.world.universe.after(backend.lock_wait_s, too_long)

    def _finish(self, backend: Backend) -> None:
        """The transaction has ended, one way or the other."""
        backend.open, backend.writes, backend.moves, backend.routes_moves = False, {}, 0, 0
        backend.turn_at = LONG_AGO
        locks, backend.locks = backend.locks, []
        for row in locks:
            del self._owner[row]
        for waiting in [w for w in self._queue if w[1] is backend]:
            self._queue.remove(waiting)
        for waiting in list(self._queue):
            row, other, go_on = waiting
            if row not in self._owner and waiting in self._queue:
                self._queue.remove(waiting)
                self._owner[row] = other
                other.locks.append(row)
                go_on()

    def _commit(self, backend: Backend) -> None:
        wrote, moves = backend.writes, backend.moves + backend.routes_moves
        self.state.values.update(wrote)
        self.state.generation += backend.moves
        self.state.routes_version += backend.routes_moves
        self.state.unfenced_since = max(self.state.unfenced_since, backend.turn_at)
        if ROUTED in wrote:
            self.state.route_from = backend.begun_at
        if wrote:
            self.world.note_commit(backend, wrote)
        self._finish(backend)
        if moves:
            self._notify()

    def _idle_too_long(self, backend: Backend) -> None:
        if backend.open and backend.idle and self.world.universe.now - backend.idle_since > COMMIT_MAX_S:
            self.leave(backend)

    def _notify(self) -> None:
        """NOTIFY."""
        self._listening = [c for c in self._listening if not c.closed and not c.backend.gone]
        for connection in self._listening:
            connection.notice()

    # What can happen to it.

    def by_hand(self, key: str, value: int) -> None:
        """A person's UPDATE: the trigger moves the generation with it."""
        backend = self.connect(_NOBODY)

        def go_on_after_write(result: Any) -> None:
            if isinstance(result, Exception):
                self.leave(backend)
            else:
                self.run(backend, "generation_bump", (), go_on_after_move)

        def go_on_after_move(result: Any) -> None:
            if not isinstance(result, Exception):
                self._commit(backend)
            self.leave(backend)

        self.run(backend, "BEGIN", (), lambda _: None)
        self.run(backend, "WRITE", (key, value), go_on_after_write)

    @property
    def now_s(self) -> float:
        return self.world.universe.now + self.skew_s

    def stop(self) -> None:
        self.down = True
        self.restart()

    def restart(self) -> None:
        for backend in list(self._backends.values()):
            self.leave(backend)
            for connection in list(backend.network.connections):
                if connection.backend is backend:
                    connection.break_off()

    def restore(self) -> None:
        """Back to the backup; the generation, too."""
        self.restart()
        self.state = self.kept.copy()


_NOBODY: Final = Network(cast("VirtualLoop", None))


def _broken() -> Exception:
    error: Exception = asyncpg.exceptions.ConnectionDoesNotExistError(
        "connection was closed in the middle of operation"
    )
    return error


class Connection:
    """As far as `Postgres` uses an asyncpg.Connection."""

    def __init__(self, server: PostgresServer, network: Network, on_notice: Callable[[], None]) -> None:
        self.server = server
        self._network = network
        self._on_notice = on_notice
        self.backend = server.connect(network)
        self.closed = False
        self._pending: asyncio.Future[Any] | None = None
        self._arrives_at = 0.0
        network.connections.append(self)

    async def _ask(self, sql: str, arguments: tuple[Any, ...]) -> Any:
        if self.closed:
            raise asyncpg.exceptions.InterfaceError("connection is closed")
        future: asyncio.Future[Any] = self._network.loop.create_future()
        self._pending = future
        name = NAMES.get(sql, sql)
        reply = partial(self._reply, future, name)
        self._send(partial(self.server.run, self.backend, sql, arguments, reply), name)
        result = await future
        if isinstance(result, Exception):
            if isinstance(result, asyncpg.exceptions.IdleInTransactionSessionTimeoutError):
                self.closed = True
            raise result
        return result

    def _send(self, message: Callable[[], None], name: str) -> None:
        world = self.server.world
        latency = world.latency(name) + self._network.postgres_slow_s
        self._arrives_at = max(self._arrives_at, world.universe.now + latency)
        world.universe.at(self._arrives_at, partial(self._arrive, message))

    def _arrive(self, message: Callable[[], None]) -> None:
        if self._network.postgres_cut:
            self._network.postgres_held.append(message)
        else:
            message()

    def _reply(self, future: asyncio.Future[Any], name: str, result: Any) -> None:
        world = self.server.world
        latency = world.latency(f"{name} answer") + self._network.postgres_slow_s
        world.universe.after(latency, partial(self._answer, future, result))

    def _answer(self, future: asyncio.Future[Any], result: Any) -> None:
        if not self._network.postgres_cut:  # else it is lost, and so is the connection when that is noticed
            self._network.loop.call_soon(_settle, future, result)

    def notice(self) -> None:
        world = self.server.world
        world.universe.after(world.latency("notice") + self._network.postgres_slow_s, self._hint)

    def _hint(self) -> None:
        if not self.closed and not self._network.postgres_cut:
            self._network.loop.call_soon(self._on_notice)

    def break_off(self) -> None:
        """The connection breaks, and the client notices at once."""
        self.closed = True
        if self in self._network.connections:
            self._network.connections.remove(self)
        if self._pending is not None:
            self._network.loop.call_soon(_settle, self._pending, _broken())

    async def add_listener(self, _channel: str, _callback: Any) -> None:
        self.server.listen(self)

    async def execute(self, sql: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        async with asyncio.timeout(timeout):
            return cast("str", await self._ask(sql, arguments))

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        return await self._ask(sql, arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        return (await self._ask(sql, arguments))[0]

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        return await self._ask(sql, arguments)

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        """Tell the server by a message like any other: earlier messages arrive first."""
        if not self.closed:
            self.break_off()
            self._send(partial(self.server.leave, self.backend), "bye")

    def get_server_pid(self) -> int:
        return self.backend.pid


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


Connect = Callable[[], Awaitable[Connection]]


class Pool:
    """As far as a lane uses an asyncpg.Pool; it has no bound."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def acquire(self, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109, ARG002
        self._idle = [c for c in self._idle if not c.closed]
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            yield connection
        except BaseException:
            # The driver would cancel what runs and keep the connection; a new one shows the same.
            connection.terminate()
            raise
        if not connection.closed:
            self._idle.append(connection)


class InMemoryReads(Reads):
    def __init__(self, connect: Connect, breaker: Breaker) -> None:
        super().__init__(cast("Any", Pool(connect)), breaker)

    async def fetch_routes(self) -> list[RouteRow]:
        async with self.breaker.guard(), self._pool.acquire() as connection:
            async with asyncio.timeout(LIMITS.connect_s + LIMITS.commit_s):  # as the driver's
                state = await connection.fetchval("ALL ROUTES")
        owner = state.values.get(ROUTED)
        return [("ALIAS", "ALIAS", ROUTED, f"f{owner}", state.route_from, float("inf"))] if owner else []


class InMemoryWatch(Watch):
    def __init__(self, servers: Servers, connect: Connect, outage: Outage) -> None:
        super().__init__(servers, outage)
        self._open = connect

    async def _dial(self, _name: str, _settings: dict[str, str]) -> Any:
        return await self._open()


def in_memory_postgres(network: Network) -> Postgres:
    """The production lanes on connections of ours."""
    known = Servers("postgresql:")

    async def connect() -> Connection:
        server = network.postgres
        assert server is not None
        await asyncio.sleep(_round_trip_s(server, network))
        if network.postgres_cut:
            await asyncio.sleep(LIMITS.connect_s)
            raise TimeoutError
        if servers._is_older(server.lineage, known.lineage):
            raise servers.NotPrimary
        connection = Connection(server, network, lambda: watch.on_notice())  # noqa: PLW0108 - it is set later
        state = {"system_identifier": server.lineage[0], "timeline": server.lineage[1], "started_at": server}
        known._settle(servers._Primary(servers.Host(None, None), cast("Any", state), cast("Any", connection)))
        return connection

    outage = Outage()
    watch = InMemoryWatch(known, connect, outage)
    writes = Writes(cast("Any", Pool(connect)), Breaker(outage))
    return Postgres(known, outage, InMemoryReads(connect, Breaker(outage)), writes, watch)


def _round_trip_s(server: PostgresServer, network: Network) -> float:
    return 2 * (server.world.latency("postgres") + network.postgres_slow_s)
