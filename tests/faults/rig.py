"""Several oracle services on one PostgreSQL and one Valkey, with a bad network in between, under load, and faults.

    hub clients ──► service 0 (2 hub workers, admin) ─┐             ┌─► PostgreSQL   (commit times are kept)
                ──► service 1 (2 hub workers)        ─┴─► proxies ──┴─► Valkey
                                                          one for each service and server

A run makes a History; `checker` judges it.  What can happen is in chaos.py.  Everything is on this machine, on Unix
sockets and loopback; everything is bounded; every started process is stopped by its process id, also after a failure.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg
import failover
import psutil
import servers
from history import NOBODY, Call, Event, Fault, History, Move, Said
from hub_client import (
    COLD,
    HOT_SHARE,
    TYPE,
    Book,
    Broken,
    Connection,
    call,
    change,
    change_by_hand,
    change_together,
    look_up,
    look_up_anew,
)
from oracle_process import SERVE, OracleProcess, is_gone, start_oracle
from proxy import Network
from redis import Redis
from replication import Pair, make_data, open_pair

from oracle.run.embedded import PostgresServer, ValkeyServer
from oracle.store.cache.tags import HEAD_LENGTH, TAG_LENGTH
from oracle.store.cache.values import ANSWER, unpack_entries

# A process that is killed must not take what it acknowledged with it: PostgreSQL writes its log before it answers.
# Not to the disk, which no fault here takes away.
DATABASE_OPTIONS: Final = {"synchronous_commit": "on", "full_page_writes": "on", "track_commit_timestamp": "on"}
Standby = Literal["none", "synchronous", "asynchronous"]
RECOVERY_MAX_S: Final = 90.0
HEALTH_S: Final = 5.0
CALM_PIECE_S: Final = 1.1  # more than a lease
CALM_TRIES: Final = 10
FENCES_GONE_S: Final = 3.3
QUIET_MAX_S: Final = 20.0
STARTS_MAX: Final = 10
LOPSIDED_MAX: Final = 30
HOT_SHARE_MUCH: Final = 0.8
STILL_LOOKS: Final = 2
HEALTH_ASKED: Final = 4  # connections at once: the workers of a service share a listener, and chance chooses
MOVES_NOTED: Final = """
CREATE TABLE rig_moves (generation bigint NOT NULL, who text NOT NULL);
CREATE FUNCTION rig_note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rig_moves VALUES (new.generation, coalesce(nullif(current_setting('rig.who', true), ''), 'sql'));
    RETURN NULL;
END $$;
CREATE TRIGGER rig_note_move AFTER UPDATE ON cache_generation FOR EACH ROW EXECUTE FUNCTION rig_note_move();
"""
# An FSP that nobody knows is registered alone.  These share a transaction with others.
FSPS_KNOWN: Final = "INSERT INTO fsps (fsp_id) SELECT 'fsp-' || n FROM generate_series(1, 20000, 2) AS n"
# The errors that a worker logs when it starts while the database is away (it is started again), when it hangs, and when
# an old primary comes back.
EXPECTED: Final = (
    '"The worker failed"',
    '"The new worker did not start; keeping the old one"',
    '"A worker hangs; killing it"',
    '"PostgreSQL is an old primary: another process has seen a later timeline; refusing it"',
)
BROKEN_WORKER: Final = Path(__file__).with_name("broken_worker.py")


async def until(condition: Callable[[], bool | Awaitable[Any]], pause_s: float = 0.01) -> None:
    """Without a limit of its own: what waits is bounded by its caller."""
    while True:
        met = condition()
        if await met if isinstance(met, Awaitable) else met:
            return
        await asyncio.sleep(pause_s)


class Load:
    """The load of a run; the defaults leave a machine of two cores room for the servers."""

    def __init__(
        self,
        *,
        looks: int = 8,
        pace_s: float = 0.005,
        changes: int = 12,
        cold: int = 0,
        keys: int = 24,
        hot: int = 5,
        calm: int = 6,
    ) -> None:
        self.looks, self.pace_s = looks, pace_s  # clients of each service
        self.cold = cold  # clients of each service that ask for parties for the first time
        self.changes = changes
        self.keys, self.hot, self.calm = keys, hot, calm


class NotRecovered(AssertionError):
    """A service is not itself again, long after the fault; what its workers say is in the text."""


class Service:
    """One `oracle serve` behind its two proxies."""

    def __init__(
        self, name: str, home: Path, workers: int, env: Mapping[str, str], command: Sequence[str], *, cold: bool
    ) -> None:
        self.name = name
        self.home = home
        self.workers = workers
        self.env = env
        self.command = command
        self.cold = cold
        self.process: OracleProcess | None = None
        self.port = 1  # nobody listens there
        self.postgres_gates: list[str] = []  # one for each server of its URL
        self._lopsided = 0  # how often in a row only some of the workers were met, and those were well
        self.health_report = b""  # by /health, when it was last asked

    @property
    def gates(self) -> list[str]:
        return [self.redis_gate, *self.postgres_gates]

    @property
    def redis_gate(self) -> str:
        return f"{self.name}.redis"

    async def start(self) -> None:
        """Start it again and again, as a service manager does: without a database it does not start."""
        for left in reversed(range(STARTS_MAX)):
            try:
                process = await asyncio.to_thread(
                    start_oracle, self.home, self.env, command=self.command, cold=self.cold
                )
            except AssertionError:
                if not left:
                    raise
                await asyncio.sleep(0.2)
            else:
                self.process, self.port = process, process.hub_port
                return

    def hub_workers(self) -> list[psutil.Process]:
        assert self.process is not None
        return self.process.workers("hub")

    async def kill(self) -> None:
        """All of it at once, as when its machine goes."""
        process = self.process
        assert process is not None
        victims = process.descendants()
        process.process.kill()
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        process.process.wait()
        await until(lambda: all(is_gone(victim) for victim in victims))

    async def stop(self) -> None:
        if self.process is not None:
            for process in self.process.descendants():
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(self.process.close)

    async def is_itself(self) -> bool:
        """Every worker there, each with its directory and its cache, as far as /health says."""
        if self.process is None or self.process.process.poll() is not None:
            return False
        if len(self.hub_workers()) < self.workers:
            return False
        asked = (self._health() for _ in range(HEALTH_ASKED * self.workers))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        seen: set[str] = set()
        for answer in answers:
            if isinstance(answer, Broken):
                self.health_report = str(answer).encode()
                return False
            if isinstance(answer, BaseException):
                raise answer
            status, self.health_report = answer
            if status != 200 or b"DOWN" in self.health_report:
                return False
            seen.add(json.loads(self.health_report)["startTime"])
        # The kernel may give every connection to the same worker, while all of them have nothing to do.
        self._lopsided = 0 if len(seen) == self.workers else self._lopsided + 1
        if 0 < self._lopsided <= LOPSIDED_MAX:
            return False
        self._lopsided = 0
        return True

    async def _health(self) -> tuple[int, bytes]:
        """Raises Broken."""
        connection = Connection(lambda: self.port)
        try:
            return await connection.ask("GET", "/health", timeout_s=HEALTH_S)
        finally:
            connection.close()

    def count_connections(self) -> int:
        """Count the connections of its workers."""
        found = [each for worker in self.hub_workers() for each in worker.net_connections("tcp")]
        return sum(each.laddr.port == self.port and each.status == psutil.CONN_ESTABLISHED for each in found)


class Rig:
    """See the module.  `running_rig` makes one."""

    def __init__(self, seed: int, network: Network, postgres: PostgresServer, valkey: ValkeyServer, load: Load) -> None:
        self.seed = seed
        self.brevity = 1.0  # how long faults last, of what they usually do
        self.random = random.Random(seed)
        self.network = network
        self.postgres = postgres
        self.valkey = valkey
        self.watched: failover.Watched | None = None
        self.pair: Pair | None = None  # of PostgreSQL
        self.services: list[Service] = []
        self.book = Book(seed, load.keys, load.hot, load.calm)
        self.load = load
        self.faults: list[Fault] = []
        self.calm: list[tuple[float, float]] = []
        self.overlapping_from = inf
        self._clients: list[asyncio.Task[None]] = []

    @property
    def database_url(self) -> str:
        return self.postgres.url()

    # -- load ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        ports: list[tuple[str, Callable[[], int]]] = [(s.name, lambda s=s: s.port) for s in self.services]  # type: ignore[misc]
        for name, port in ports:
            for _ in range(self.load.looks):
                self._spawn(look_up(self.book, name, port, self.load.pace_s))
            # And some that ask for what is in the cache: while the directory is away, all others wait for it.
            for _ in range(STILL_LOOKS):
                self._spawn(look_up(self.book, name, port, self.load.pace_s, self.book.still))
            for number in range(self.load.cold):
                self._spawn(look_up_anew(self.book, name, port, self.load.pace_s, f"{COLD}{name}-{number}"))
        for _ in range(self.load.changes):
            self._spawn(change(self.book, ports))
        self._spawn(change_together(self.book, ports))

    def begin_changes(self, service: Service, clients: int) -> None:
        """Add clients that make changes through this service alone."""
        for _ in range(clients):
            self._spawn(change(self.book, [(service.name, lambda: service.port)]))

    def _spawn(self, client: Any) -> None:
        self._clients.append(asyncio.create_task(client))

    async def end(self) -> None:
        """The clients finish the calls they have in hand; what one of them died of is raised."""
        self.book.stopped = True
        clients, self._clients = self._clients, []
        await asyncio.gather(*clients)

    async def abort(self) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def run_calmly(self, seconds: float) -> None:
        """Let the load run until nothing has failed for so many seconds in all, unless on this machine something always
        does.

        A machine that is busy may stop a server for longer than an oracle waits for it, and that is a failure as well:
        the generation moves.  So the time is put together from pieces, each more than a lease later than the last move.
        """
        async with self.much_about_few():
            generation, quiet, left_s = await self._generation(), 0, seconds
            ends_at = time.monotonic() + CALM_TRIES * seconds
            while left_s > 0 and time.monotonic() < ends_at:
                begin = time.monotonic()
                await asyncio.sleep(CALM_PIECE_S)
                before, generation = generation, await self._generation()
                quiet = quiet + 1 if before == generation else 0
                if quiet > 1:  # the first one lets the leases of before it end
                    begin = self.calm.pop()[0] if quiet > 2 else begin
                    self.calm.append((begin, time.monotonic()))
                    left_s -= CALM_PIECE_S

    @asynccontextmanager
    async def much_about_few(self) -> AsyncIterator[None]:
        """Most looks are for what is being changed: only where these meet can it be seen that something is wrong."""
        self.book.hot_share = HOT_SHARE_MUCH
        try:
            yield
        finally:
            self.book.hot_share = HOT_SHARE

    async def _generation(self) -> int:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.database_url, timeout=60)
        try:
            return int(await connection.fetchval("SELECT generation FROM cache_generation"))
        finally:
            await connection.close()

    # -- faults -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def fault(self, kind: str, target: str) -> AsyncIterator[Fault]:
        fault = Fault(kind, target, time.monotonic(), inf, inf)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            fault.end = time.monotonic()

    async def wait_recovered(self) -> None:
        """Until every service is itself again; raises NotRecovered."""
        try:
            async with asyncio.timeout(RECOVERY_MAX_S):
                for service in self.services:
                    await until(service.is_itself, pause_s=0.05)
        except TimeoutError as exc:
            reports = {s.name: (len(s.hub_workers()), s.health_report) for s in self.services if s.process is not None}
            raise NotRecovered(f"seed {self.seed}: {reports} after {self.faults[-1:]}") from exc
        now = time.monotonic()
        for fault in self.faults:
            fault.recovered = min(fault.recovered, now)

    @asynccontextmanager
    async def no_changes(self) -> AsyncIterator[None]:
        """Changes would move the generation when they meet the fault, and cover up for rules that are about copies."""
        self.book.resting = True
        try:
            await until(lambda: not self.book.changing)
            yield
        finally:
            self.book.resting = False

    @asynccontextmanager
    async def by_hand(self, pace_s: float = 0.1) -> AsyncIterator[None]:
        task = asyncio.create_task(change_by_hand(self.book, self.database_url, pace_s))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- what came of it ----------------------------------------------------------------------------------------

    async def finish(self) -> History:
        """End the load, let everything settle, and ask everybody."""
        await self.end()
        await self.wait_recovered()
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.database_url, timeout=60)
        try:
            await self._quiet(connection)
            said: list[Said] = []
            copies: list[Said] = []
            for _ in range(3):  # on a busy machine a service may be without its Redis just now
                await self._ask_services(said)
                await self._ask_services(said)  # now from what the first ones have cached
                prefix = await _prefix(connection)
                copies = await asyncio.to_thread(self._copies, prefix, self.book.keys)
                said += copies
                if len(copies) > len(self.book.keys) // 2:
                    break
            events = await self._events(connection)
            moves = await self._moves(connection)
            standing = dict(await connection.fetch("SELECT identifier, fsp_id FROM aliases"))
            said += [Said("postgres", key, standing.get(key, NOBODY)) for key in self.book.keys]
        finally:
            await connection.close()
        odd = self.book.odd + self._complaints()
        if len(copies) <= len(self.book.keys) // 2:
            odd.append(f"only {len(copies)} of {len(self.book.keys)} keys are in the cache in the end, under {prefix}")
        return History(
            self.seed,
            self.book.calls,
            events,
            self.faults,
            said,
            odd,
            moves=moves,
            calm=self.calm,
            overlapping_from=self.overlapping_from,
        )

    async def _quiet(self, connection: Any) -> None:
        """Wait until no change is in flight and no fence is set."""
        under_way = (
            "SELECT pid, state, query, now() - xact_start AS age FROM pg_stat_activity"
            " WHERE application_name = 'oracle changes' AND state <> 'idle'"
        )
        for _ in range(2):  # one that waits for a connection is not seen at first
            ends_at = time.monotonic() + QUIET_MAX_S
            while found := await connection.fetch(under_way):
                if time.monotonic() > ends_at:
                    raise AssertionError(f"transactions that do not end: {found}")
                await asyncio.sleep(0.1)
            await asyncio.sleep(FENCES_GONE_S / 2)

    async def _ask_services(self, said: list[Said]) -> None:
        for service in self.services:
            for number in range(HEALTH_ASKED):
                asking = Connection(lambda s=service: s.port)  # type: ignore[misc]
                for key in self.book.keys:
                    look = await call(self.book, asking, "look", key, where=service.name)
                    who = f"{service.name}#{number}"
                    said.append(Said(who, key, look.owner if look.outcome == "ok" else "(no answer)"))
                asking.close()

    async def _events(self, connection: Any) -> list[Event]:
        # The database's clock and ours, compared where we are: it is the same machine.
        offset = time.time() - time.monotonic()
        rows = await connection.fetch(
            "SELECT event_id, party_identifier, coalesce(before->>'fsp_id', '') AS old,"
            " coalesce(after->>'fsp_id', '') AS new,"
            " extract(epoch FROM pg_xact_commit_timestamp(xact::xid))::float8 AS at"
            " FROM events WHERE entity = 'alias' ORDER BY event_id"
        )
        return [Event(r["event_id"], r["party_identifier"], r["old"], r["new"], r["at"] - offset) for r in rows]

    async def read_moves(self) -> list[Move]:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.database_url, timeout=60)
        try:
            return await self._moves(connection)
        finally:
            await connection.close()

    async def _moves(self, connection: Any) -> list[Move]:
        offset = time.time() - time.monotonic()
        rows = await connection.fetch(
            "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS at, generation, who FROM rig_moves"
            " ORDER BY generation"
        )
        return [Move(row["at"] - offset, row["generation"], row["who"]) for row in rows]

    async def copies(self, keys: Sequence[str]) -> list[Said]:
        """Read the copies of these keys on the server that counts."""
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.database_url, timeout=60)
        try:
            prefix = await _prefix(connection)
        finally:
            await connection.close()
        return await asyncio.to_thread(self._copies, prefix, keys)

    def _copies(self, prefix: str, keys: Sequence[str]) -> list[Said]:
        server = self.watched.ask_sentinel() if self.watched is not None else self.valkey
        with Redis(unix_socket_path=str(server.socket)) as redis:
            values: list[Any] = redis.mget([f"{prefix}{TYPE}:{key}" for key in keys])
        copies = []
        for key, value in zip(keys, values, strict=True):
            if value is not None and value[:1] == ANSWER:
                entries = unpack_entries(value[HEAD_LENGTH:-TAG_LENGTH])
                copies.append(Said("cache", key, entries[0].fsp_id if entries else NOBODY))
        return copies

    def _complaints(self) -> list[str]:
        """List the log lines of the services that report a defect of their own."""
        found: list[str] = []
        for service in self.services:
            for log in sorted(service.home.glob("oracle-*.log")):
                lines = log.read_text(errors="replace").splitlines()
                found += [f"{service.name} logged: {line}" for line in lines if _is_complaint(line)]
        return found[:20]


async def _prefix(connection: Any) -> str:
    row = await connection.fetchrow("SELECT directory_id, generation FROM cache_generation")
    return f"oracle:{row['directory_id'].hex[:8]}.{row['generation']}:"


def _is_complaint(line: str) -> bool:
    if any(event in line for event in EXPECTED):
        return False
    return '"level":"error"' in line.replace(": ", ":") or "Traceback" in line or "was never" in line


@asynccontextmanager
async def running_rig(
    seed: int,
    *,
    workers: Sequence[int] = (2, 2),
    latency_ms: float = 20,
    load: Load | None = None,
    env: Mapping[str, str] | None = None,
    broken: str = "",
    sentinel: bool = False,
    standby: Standby = "none",
    hub_only: bool = False,
    cold: bool = True,
) -> AsyncIterator[Rig]:
    """The services, up and each with its cache; no load yet.

    `broken` (or RIG_BROKEN) names what broken_worker.py leaves out.  `sentinel`: a primary and a replica, watched by a
    sentinel, which the services reach without a proxy, because a sentinel names the servers themselves.  `standby`:
    PostgreSQL has one.  `hub_only`: no service has an admin process or jobs.  `cold`: as for start_oracle.
    """
    broken = broken or os.environ.get("RIG_BROKEN", "")
    async with AsyncExitStack() as stack:
        home = stack.enter_context(servers.temporary_home())
        network = await stack.enter_async_context(Network())
        for name in ("postgres", "valkey"):
            (home / name).mkdir()
        pair: Pair | None = None
        if standby == "none":
            postgres = await servers.start_postgres(home / "postgres", DATABASE_OPTIONS)
            stack.push_async_callback(_end_postgres, postgres)
        else:
            data = await make_data(home / "postgres")
            pair = await stack.enter_async_context(open_pair(data, synchronous=standby == "synchronous"))
            postgres = pair.primary
        valkey = await servers.start_valkey(home / "valkey")
        stack.push_async_callback(_end_valkey, valkey)
        redis_url = ""
        if sentinel:
            watched = await stack.enter_async_context(failover.open_watched(home, valkey, network))
            redis_url = watched.url
        rig = Rig(seed, network, postgres, valkey, load or Load())
        rig.watched = watched if sentinel else None
        rig.pair = pair
        await _migrate(rig.database_url)
        stack.push_async_callback(rig.abort)
        for number, count in enumerate(workers):
            place = home / f"s{number}"
            place.mkdir()
            weather = {"seed": seed, "latency_ms": latency_ms}
            databases = [postgres] if pair is None else [pair.primary, pair.standby]
            urls, gates = await _behind_proxies(network, place, f"s{number}", databases, valkey.socket, weather)
            urls["ORACLE_REDIS_URL"] = redis_url or urls["ORACLE_REDIS_URL"]
            # Each registration of the clients is of a new FSP.
            urls["ORACLE_UNKNOWN_FSPS_DAY_MAX"] = "1000000"
            settings = {**urls, "ORACLE_WORKERS": str(count), "RIG_BROKEN": broken, **(env or {})}
            command = [*((sys.executable, str(BROKEN_WORKER)) if broken else SERVE)]
            if number or hub_only:
                command += ["--only", "hub"]
            service = Service(f"s{number}", place, count, settings, command, cold=cold)
            service.postgres_gates = gates
            rig.services.append(service)
            stack.push_async_callback(service.stop)
        await asyncio.gather(*(service.start() for service in rig.services))
        await rig.wait_recovered()
        gc.collect()
        gc.freeze()  # else each full garbage collection takes longer, the more is recorded
        yield rig


async def _behind_proxies(
    network: Network,
    place: Path,
    name: str,
    databases: Sequence[PostgresServer],
    redis: Path,
    weather: Mapping[str, Any],
) -> tuple[dict[str, str], list[str]]:
    """Open the ways to a service's servers: how it reaches them, and the gates of PostgreSQL."""
    ways = {f"{name}.postgres": place} if len(databases) == 1 else {}
    if not ways:
        ways = {f"{name}.postgres{number}": place / str(number) for number in range(len(databases))}
    for (gate, way), database in zip(ways.items(), databases, strict=True):
        way.mkdir(exist_ok=True)
        await network.open(gate, way / ".s.PGSQL.5432", servers.postgres_socket(database), **weather)
    await network.open(f"{name}.redis", place / "redis.sock", redis, **weather)
    hosts = ",".join(map(str, ways.values()))
    urls = {
        # The option says in the database who it is that moves the generation.
        "ORACLE_DATABASE_URL": f"postgresql://oracle@/oracle?host={hosts}&port=5432&options=-c%20rig.who%3D{name}",
        "ORACLE_REDIS_URL": f"unix://{place / 'redis.sock'}",
    }
    return urls, list(ways)


async def _migrate(url: str) -> None:
    from oracle.store.migrate import migrate

    await migrate(url)
    connection: asyncpg.Connection[Any] = await asyncpg.connect(url, timeout=60)
    try:
        await connection.execute(MOVES_NOTED)
        await connection.execute(FSPS_KNOWN)
    finally:
        await connection.close()


def resume(process: psutil.Process | None) -> None:
    """SIGCONT for it and all below it."""
    with suppress(psutil.NoSuchProcess, AttributeError):
        assert process is not None
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)


async def _end_postgres(server: PostgresServer) -> None:
    if server.process is not None:
        resume(psutil.Process(server.process.pid))
    await server.stop()


async def _end_valkey(server: ValkeyServer) -> None:
    if server.process is not None:
        resume(psutil.Process(server.process.pid))
    await server.stop()


# Figures ----------------------------------------------------------------------------------------------------


def longest_gap_s(calls: Sequence[Call], fault: Fault, services: Sequence[str]) -> float:
    """The longest time around a fault without one answered look, at the service for which that was longest."""
    until = min(fault.recovered, fault.end + 5)
    longest = 0.0
    for name in services:
        ends = sorted(
            look.end
            for look in calls
            if look.kind == "look" and look.outcome == "ok" and look.where == name and fault.start <= look.end <= until
        )
        times = [fault.start, *ends, until]
        longest = max([longest, *(b - a for a, b in pairwise(times))])
    return longest


def count_acknowledged(calls: Sequence[Call]) -> int:
    return sum(made.kind != "look" and made.outcome == "ok" for made in calls)


def count_joined(events: Sequence[Event]) -> int:
    """Count the events of transactions that have several: registrations that arrived together."""
    return sum(count for count in Counter(event.committed_at for event in events).values() if count > 1)


def figures(history: History) -> str:
    outcomes = Counter((made.kind, made.outcome) for made in history.calls)
    summary = ", ".join(f"{kind} {outcome} {count}" for (kind, outcome), count in sorted(outcomes.items()))
    calls, events = len(history.calls), len(history.events)
    return (
        f"seed {history.seed}: {calls} calls ({summary}), {events} events, {count_joined(history.events)} of them in"
        f" shared transactions, {len(history.moves)} moves of the generation"
    )
