"""One schedule: two processes of production code on servers in memory, what happens to them, and what was promised.

A schedule records each lookup (when it was asked, when it was answered, what) and each state of a key (when committed,
when acknowledged) and judges the record:

    A     A lookup that starts after a change was acknowledged never answers an older state.
    B     Lookups are linearizable: nor does one that starts after another lookup has answered the newer state.
    C     What a process committed that then died is answered by every lookup that starts SETTLE_S later.
    hand  And so is what a person committed in SQL.
    lost  No change is acknowledged that a PostgreSQL holds which is not the primary any more.
    live  When all is well again, every lookup answers, what PostgreSQL says, and from the cache.
    error Nothing fails in a way that nobody expected.
"""

from __future__ import annotations

import asyncio
import random as global_random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

import asyncpg
from servers_in_memory import ROUTED, Backend, Network, PostgresServer, RedisServer, dial, in_memory_postgres
from servers_in_memory import State as ServerState
from universe import Universe, VirtualLoop

from oracle.errors import DirectoryUnavailable, OracleError
from oracle.identifiers import PartyKey
from oracle.store.base import Context, Registration, Session
from oracle.store.cache.coherence import Coherence
from oracle.store.cache.lookups import Lookups
from oracle.store.cache.values import unpack_entries
from oracle.store.changes import Changes
from oracle.store.postgres import Transaction
from oracle.store.queries import QUERIES
from oracle.store.registrations import Registrations
from oracle.store.routes import Routes
from oracle.telemetry.metrics import Metrics

SETTLE_S: Final = 1.5
TYPE: Final = "ALIAS"
KEYS: Final = ("k", "m", "h", ROUTED)
WARM_UP_S: Final = 3.0
# Until all is well again: the longest pause before a redial, the wait for a new server, a fence, repairs.
HEAL_MAX_S: Final = 14.0
HEAL_MIN_S: Final = 3.5  # longer than the longest change, and than its fences
LATE_S: Final = 0.3
CHANGE_S: Final = 9.0  # how long a change can take
FAILOVER_SETTLE_S: Final = 2.5  # a connection, a poll and a lease
CONTEXT: Final = Context(channel="test", actor="a")
METRICS: Final = Metrics.open(None, "hub", 0)

Stamp = tuple[float, int]  # time, and the order of what happens at one time
NEVER: Final[Stamp] = (float("inf"), 0)


@dataclass(eq=False)
class Change:
    value: int
    keys: Sequence[str]
    started: Stamp
    process: Process | None = None  # None: by hand
    acknowledged: Stamp = NEVER


@dataclass(eq=False)
class State:
    """One state of one key, from its commit."""

    value: int
    committed: Stamp
    change: Change | None = None
    settled: Stamp = NEVER  # also for reasons other than its own acknowledgement

    @property
    def due(self) -> Stamp:
        return min(self.settled, self.change.acknowledged if self.change is not None else NEVER)


@dataclass(eq=False)
class Lookup:
    key: str
    process: Process
    started: Stamp
    ended: Stamp = NEVER
    value: int = -1  # -1: there was no answer
    cached: bool = False


@dataclass(frozen=True)
class Violation:
    promise: str
    text: str


class Process:
    """One oracle process: the production store, on a loop and networks of its own."""

    def __init__(self, schedule: Schedule, slot: int) -> None:
        self.slot = slot
        self.loop: VirtualLoop = schedule.universe.loop()
        self.loop.set_exception_handler(schedule.on_error)
        self.network = Network(self.loop, postgres=schedule.postgres)
        self.redis = schedule.redis[0]  # where it dials
        self.dead = False
        self.coherence: Coherence
        self.routes: Routes
        self.lookups: Lookups | None = None
        self.changes: Changes
        self.registrations: Registrations
        self._schedule = schedule
        self._main = self.loop.create_task(self._open())

    async def _open(self) -> None:
        """As wiring.open_store."""
        schedule = self._schedule
        postgres = in_memory_postgres(self.network)
        self.routes = Routes(postgres.reads.fetch_routes, schedule.universe.time)
        self.routes._offset_s = schedule.wall_skew_s(self.slot)
        self.coherence = Coherence(
            postgres.watch, self._dial, "o", self.routes.reload,
            clock=schedule.universe.time, follow_clock=self.routes.follow_clock,
            now_s=self.routes.now_s,
        )  # fmt: skip
        postgres.watch.on_notice = self.coherence.confirm_soon
        opened = False
        while not opened:
            try:
                await self.coherence.open()
                opened = True
            except DirectoryUnavailable:
                await asyncio.sleep(0.2)
        self.lookups = Lookups(self.coherence, postgres.reads, METRICS, timeout_s=4.0, ttl_s=60.0, negative_ttl_s=10.0)
        self.changes = Changes(postgres, self.coherence, fsp_registration="auto")
        self.registrations = Registrations(self.changes, limit_s=CHANGE_S)

    async def _dial(self) -> Session:
        return await dial(self.network, self.redis)

    def stall(self, seconds: float) -> None:
        self.loop.stalled_until = max(self.loop.stalled_until, self._schedule.universe.now + seconds)

    def die(self) -> None:
        """Kill it; messages that it has sent can still arrive."""
        self.dead = self.loop.ended = True
        for wire in self.network.redis_wires:
            wire.abort()
        for connection in list(self.network.connections):
            connection.terminate()


class Schedule:
    """The world, and the record.  A subclass says what happens when."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        # Spreads of pauses and lifetimes in production code come from the module's own generator.
        global_random.seed(seed)
        self.random = Random(seed)
        self.universe = Universe(self.random)
        self.redis = [RedisServer(self, "one"), RedisServer(self, "two")]
        self.postgres = PostgresServer(self, KEYS)
        self.states: dict[str, list[State]] = {key: [State(0, (-1.0, 0))] for key in KEYS}
        self.changes: dict[int, Change] = {}
        self.lookups: list[Lookup] = []
        self.errors: list[str] = []
        self.hits = 0
        self.log: list[str] | None = [] if trace else None
        self._stamps = 0
        self.lost: dict[int, float] = {}  # changes that the primary does not have, and since when
        self.dead: list[Process] = []
        self.processes = [Process(self, slot) for slot in (0, 1)]

    # -- the World of the servers ---------------------------------------------------------------------------------

    def latency(self, what: str) -> float:
        """All small enough that nothing runs into a time-out without a fault; most of them very small."""
        x = self.random.random() ** 4
        if what.startswith("redis"):
            return 0.0002 + 0.018 * x
        if what == "notice":
            return 0.0005 + 0.4 * x
        return 0.0005 + 0.06 * x

    def wall_skew_s(self, slot: int) -> float:  # noqa: ARG002 - a subclass may
        return 0.0

    def flip(self, probability: float) -> bool:
        return self.random.random() < probability

    def note_commit(self, backend: Backend, wrote: dict[str, int]) -> None:
        if backend.server is not self.postgres:  # see `lost`
            self.note(f"committed on an old primary: {wrote}")
            self.lost |= dict.fromkeys(wrote.values(), self.universe.now)
            return
        for key, value in wrote.items():
            change = self.changes[value]
            state = State(value, self.stamp(), change)
            if change.process is None:
                state.settled = (self.universe.now + SETTLE_S, 0)
                self.due(key, SETTLE_S)
            self.states[key].append(state)
            self.note(f"committed {key}={value}")

    # -- the record -----------------------------------------------------------------------------------------------

    def stamp(self) -> Stamp:
        self._stamps += 1
        return (self.universe.now, self._stamps)

    def note(self, text: str) -> None:
        if self.log is not None:
            self.log.append(f"{self.universe.now:9.4f}  {text}")

    def on_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def due(self, key: str, seconds: float) -> None:
        """From then on the newest state of the key must be answered: the moment to ask."""

    # -- what clients do ------------------------------------------------------------------------------------------

    def ask(self, process: Process, key: str) -> Lookup:
        """The client's clock: from here on it waits, also while the process is stalled."""
        lookup = Lookup(key, process, self.stamp())

        def ask() -> None:
            if process.lookups is not None:
                process.lookups.ask(TYPE, key, partial(self._record_answer, lookup))

        process.loop.call_soon(ask)
        self.lookups.append(lookup)
        return lookup

    def _record_answer(self, lookup: Lookup, answer: bytes | Exception, cached: bool) -> None:
        lookup.ended, lookup.cached = self.stamp(), cached
        self.hits += cached
        if isinstance(answer, bytes):
            entries = unpack_entries(answer)
            fsp_id = entries[0].fsp_id if entries else lookup.process.routes.match(TYPE, lookup.key)
            lookup.value = int(fsp_id[1:]) if fsp_id else 0
        elif not isinstance(answer, OracleError):
            self.errors.append(f"a lookup got {answer!r}")
        if self.log is not None:
            how = "copy" if cached else "directory"
            answered = f"process {lookup.process.slot} answers {lookup.key}={lookup.value}"
            self.note(f"{answered} ({how}), asked {lookup.started[0]:.4f}")

    def change(self, process: Process, keys: Sequence[str]) -> Change:
        change = Change(len(self.changes) + 1, keys, self.stamp(), process)
        self.changes[change.value] = change
        if process.lookups is not None:
            self.note(f"process {process.slot} begins {change.value} of {','.join(keys)}")
            process.loop.call_soon(lambda: process.loop.create_task(self._change(process, change)))
        return change

    async def _change(self, process: Process, change: Change) -> None:
        async def work(transaction: Transaction) -> tuple[None, bool]:
            for key in change.keys:
                await transaction._connection.execute("WRITE", key, change.value)
                if self.flip(0.02):
                    raise asyncpg.exceptions.DeadlockDetectedError
            return None, True

        await self._note_end(process, change, process.changes.change(CONTEXT, [(TYPE, k) for k in change.keys], work))

    async def _note_end(self, process: Process, change: Change, changing: Awaitable[None]) -> None:
        try:
            await changing
        except DirectoryUnavailable:
            self.note(f"process {process.slot} refuses {change.value}")
            return
        change.acknowledged = self.stamp()
        self.note(f"process {process.slot} acknowledges {change.value}")
        self.due(change.keys[0], 0.0)
        # What was answered just before the primary went away is acknowledged just after it.
        if self.lost.get(change.value, NEVER[0]) + LATE_S < self.universe.now:
            self.errors.append(f"lost: {change.value} was acknowledged")

    def register(self, process: Process, keys: Sequence[str], limits_s: Sequence[float] = (CHANGE_S,)) -> None:
        """Registrations that arrive together, of one key each; a key can come twice.  `limits_s`: of the callers."""
        for key in keys:
            change = Change(len(self.changes) + 1, [key], self.stamp(), process)
            self.changes[change.value] = change
            limit_s = self.random.choice(limits_s)
            if process.lookups is not None:
                self.note(f"process {process.slot} begins to register {change.value} of {key}")
                process.loop.call_soon(partial(self._spawn_registration, process, change, limit_s))

    def _spawn_registration(self, process: Process, change: Change, limit_s: float) -> None:
        process.loop.create_task(self._note_end(process, change, self._register(process, change, limit_s)))

    async def _register(self, process: Process, change: Change, limit_s: float) -> None:
        context = Context(channel="hub", actor="hub", fsp_id=f"f{change.value}")
        registration = Registration(PartyKey(TYPE, change.keys[0], ""))
        try:
            async with asyncio.timeout(limit_s):
                result = await process.registrations.register(context, registration)
        except (TimeoutError, asyncpg.InternalServerError) as exc:
            raise DirectoryUnavailable from exc
        if result.refused is not None:
            raise result.refused

    def settle(self, process: Process, key: str) -> Change:
        """A suspension, or a route: it moves the generation or the routes, without fences."""
        change = Change(len(self.changes) + 1, [key], self.stamp(), process)
        self.changes[change.value] = change
        if process.lookups is not None:
            self.note(f"process {process.slot} begins {change.value}, which settles, of {key}")
            process.loop.call_soon(lambda: process.loop.create_task(self._settle(process, change)))
        return change

    async def _settle(self, process: Process, change: Change) -> None:
        (key,) = change.keys

        async def work(transaction: Transaction) -> None:
            await transaction._connection.execute("WRITE", key, change.value)
            await transaction._connection.execute("ROUTES" if key == ROUTED else QUERIES["generation_bump"])

        await self._note_end(process, change, process.changes.administer(CONTEXT, work, settles=True))

    def repeat(self, process: Process, key: str) -> None:
        """A change that finds its state there already; that it is there is acknowledged."""
        if process.lookups is not None:
            process.loop.call_soon(lambda: process.loop.create_task(self._repeat(process, key)))

    async def _repeat(self, process: Process, key: str) -> None:
        seen: list[State] = []

        async def work(transaction: Transaction) -> tuple[None, bool]:
            ((_, value),) = await transaction._connection.fetch("READ", key)
            seen.append(self._state(key, value, self.stamp()))
            return None, False

        try:
            await process.changes.change(CONTEXT, [(TYPE, key)], work)
        except DirectoryUnavailable:
            return
        seen[-1].settled = min(seen[-1].settled, self.stamp())
        self.note(f"process {process.slot} acknowledges that {key}={seen[-1].value} is there already")
        self.due(key, 0.0)

    def by_hand(self, key: str) -> None:
        if self.postgres.down:
            return
        change = Change(len(self.changes) + 1, [key], self.stamp())
        self.changes[change.value] = change
        self.note(f"by hand: {key}={change.value}")
        self.postgres.by_hand(key, change.value)

    def promote(self, state: ServerState) -> None:
        """A standby with this state takes over.  The old primary is gone."""
        old = self.postgres
        new = PostgresServer(self, KEYS, (old.lineage[0], old.lineage[1] + 1))
        new.state, new.skew_s = state.copy(), old.skew_s
        new.kept = new.state.copy()
        old.stop()
        self.note(f"failover of postgres to timeline {new.lineage[1]}: {new.state.values}")
        self.postgres = new
        for process in self.processes:
            process.network.postgres = new
        for key, value in new.state.values.items():
            if value == old.state.values[key]:
                continue
            values = [state.value for state in self.states[key]]
            lost = values[len(values) - values[::-1].index(value) :]
            self.lost |= dict.fromkeys(lost, self.universe.now)
            # The first process that connects moves the generation; after that it is as for a change by hand.
            restored = State(value, self.stamp(), settled=(self.universe.now + FAILOVER_SETTLE_S, 0))
            self.states[key].append(restored)
            self.due(key, FAILOVER_SETTLE_S)

    # -- the verdict ----------------------------------------------------------------------------------------------

    def _state(self, key: str, value: int, at: Stamp) -> State:
        """Return the newest state of this value that was committed at this time."""
        return next(s for s in reversed(self.states[key]) if s.value == value and s.committed <= at)

    def judge(self, promises: Sequence[str]) -> Violation | None:
        if self.errors:
            return Violation("lost" if self.errors[0].startswith("lost") else "error", self.errors[0])
        for key, states in self.states.items():
            answered = sorted((x for x in self.lookups if x.key == key and x.value >= 0), key=lambda x: x.ended)
            found = self._judge_key(key, states, answered, promises)
            if found is not None:
                return found
        return None

    def _judge_key(
        self, key: str, states: list[State], answered: list[Lookup], promises: Sequence[str]
    ) -> Violation | None:
        proven: list[tuple[Stamp, int]] = []  # from when on which state must be seen
        for lookup in answered:
            candidates = [n for n, s in enumerate(states) if s.value == lookup.value and s.committed <= lookup.ended]
            if not candidates:
                return Violation("A", f"{key}={lookup.value} was answered before it was committed")
            seen = candidates[-1]
            for n in range(len(states) - 1, seen, -1):
                state = states[n]
                promise = self._promise_of(state)
                if state.due < lookup.started and promise in promises:
                    return Violation(promise, _describe(lookup, state, "due", state.due))
            if "B" in promises:
                for ended, n in proven:
                    if n > seen and ended < lookup.started:
                        return Violation("B", _describe(lookup, states[n], "answered", ended))
                proven.append((lookup.ended, seen))
        return None

    @staticmethod
    def _promise_of(state: State) -> str:
        change = state.change
        if change is None or change.acknowledged <= state.settled:
            return "A"
        return "hand" if change.process is None else "C" if change.process.dead else "A"

    def end(self) -> None:
        for process in self.processes + self.dead:
            if process.lookups is not None:
                process.coherence.reachable = False  # else what waits would ask again and again
        self.universe.end()

    def well_again(self) -> Violation | None:
        """Promise `live`: run on without faults, and ask until every process has every key right, from the cache."""
        began = self.universe.now
        while True:
            asked = [self.ask(process, key) for key in (*KEYS[:2], ROUTED) for process in self.processes]
            self.universe.run(self.universe.now + 0.3)
            waiting = [lookup for lookup in asked if not self._is_well(lookup)]
            if not waiting and self.universe.now - began > HEAL_MIN_S:
                return None
            if waiting and self.universe.now - began > HEAL_MAX_S:
                lookup = waiting[0]
                truth, how = self.postgres.state.values[lookup.key], "copy" if lookup.cached else "directory"
                text = f"{lookup.key}={lookup.value} ({how}) from process {lookup.process.slot} in the end, not {truth}"
                return Violation("live", text)

    def _is_well(self, lookup: Lookup) -> bool:
        return lookup.cached and lookup.value == self.postgres.state.values[lookup.key]


def _describe(lookup: Lookup, state: State, what: str, when: Stamp) -> str:
    how = "copy" if lookup.cached else "directory"
    return (
        f"process {lookup.process.slot} answered {lookup.key}={lookup.value} ({how})"
        f" to a lookup of {lookup.started[0]:.4f}; {state.value}, committed {state.committed[0]:.4f},"
        f" was {what} {when[0]:.4f}"
    )


# -- random schedules -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """The events that can happen in a schedule, and the promises that hold under it."""

    name: str
    faults: tuple[str, ...] = ()
    promises: tuple[str, ...] = ("A",)
    hand: bool = False  # changes by hand, and of the routes
    settles: bool = False  # suspensions and routes
    concurrent: bool = True  # several changes of one key at a time
    crowds: bool = False  # a lookup of one key comes with lookups of the others, so their copies share a script
    registers: bool = False  # most changes are registrations, and several arrive together
    actions: int = 90


PAUSES_S: Final = (0.0, 0.001, 0.005, 0.02, 0.06, 0.15, 0.4)
LONG_PAUSES_S: Final = (0.7, 1.5, 3.5)
STALL_PAUSE_S: Final = 2.0


class RandomSchedule(Schedule):
    def __init__(self, plan: Plan, seed: int, *, trace: bool = False, prepare: Prepare | None = None) -> None:
        super().__init__(seed, trace=trace)
        self.plan = plan
        self._snapshot: dict[bytes, tuple[bytes, float]] = {}
        self._left = plan.actions
        self._named_primary = self.redis[0]
        self._old_postgres: PostgresServer | None = None
        self._failed_over_at = 0.0
        self._sequential = not plan.concurrent or self.flip(0.5)
        self._faults: dict[str, Callable[[], None]] = {
            "restart": self._restart,
            "rollback": self._rollback,
            "flush": self._flush,
            "evict": self._evict,
            "pause": self._pause,
            "cut": self._cut,
            "failover": self._failover,
            "stall": self._stall,
            "postgres_cut": self._postgres_cut,
            "postgres_slow": self._postgres_slow,
            "postgres_restart": self._postgres_restart,
            "postgres_restore": self._postgres_restore,
            "postgres_death": self._postgres_death,
            "postgres_failover": self._postgres_failover,
            "postgres_return": self._postgres_return,
        }
        if "skew" in plan.faults:
            self.postgres.skew_s = self.random.uniform(-3, 3)
        if prepare is not None:
            prepare(self)

    def ask(self, process: Process, key: str) -> Lookup:
        if self.plan.crowds:
            for other in KEYS:
                if other != key:
                    super().ask(process, other)
        return super().ask(process, key)

    def run(self) -> Violation | None:
        self.universe.run(WARM_UP_S)
        self.universe.after(0.0, self._act)
        while self._left > 0:
            self.universe.run(self.universe.now + 1.0)
        self._heal()
        if "postgres_restore" in self.plan.faults:
            # A restore that lost commits but no move of the generation is noticed by nobody: who restores must move it.
            self.by_hand("h")
        return self.judge(self.plan.promises) or self.well_again() or self.judge(self.plan.promises)

    def wall_skew_s(self, slot: int) -> float:
        return (-2.0, 2.0)[slot] if "skew" in self.plan.faults else 0.0

    def _act(self) -> None:
        self._left -= 1
        if self._left <= 0:
            return
        pause = self.random.choice(LONG_PAUSES_S if self.flip(0.06) else PAUSES_S)
        self.universe.after(pause * self.random.uniform(0.5, 1.0), self._act)
        x = self.random.random()
        key = KEYS[0] if self.flip(0.8) else KEYS[1]
        process = self.random.choice(self.processes)
        if self.plan.settles and self.flip(0.4):
            key = ROUTED if self.flip(0.4) else key
            if x < 0.12:
                self.settle(process, key)
                return
        if x < 0.12:
            self._begin(process, key)
        elif x < 0.15:
            self.repeat(process, KEYS[0] if key == ROUTED else key)
        elif x < 0.19:
            if self.plan.hand:
                self._by_hand()
                self._follow()
        elif x < 0.30:
            if self.plan.faults:
                fault = self.random.choice(self.plan.faults)
                if fault in self._faults:
                    self._faults[fault]()
                    self._follow()
        elif x < 0.34:
            self._heal()
        else:
            for _ in range(self.random.randrange(1, 4)):
                self.ask(self.random.choice(self.processes), key)

    def due(self, key: str, seconds: float) -> None:
        for process in self.processes:
            pause = self.random.choice((0.0, 0.0002, 0.005, 0.05, 0.3))
            if self.flip(0.6) and self._left > 0:
                self.universe.after(seconds + pause + 1e-5, partial(self.ask, process, key))

    def _follow(self) -> None:
        """Something has happened: a change soon after it, and copies to be overtaken by it."""
        if self.flip(0.5):
            for process in self.processes:
                self.ask(process, KEYS[0])
            pause = self.random.choice((0.0, 0.005, 0.02, 0.06, 0.15, 0.4, 1.0, 1.2))
            process = self.random.choice(self.processes)
            then = partial(self.repeat, process, KEYS[0]) if self.flip(0.2) else partial(self._begin, process, KEYS[0])
            self.universe.after(pause, then)

    def _begin(self, process: Process, key: str) -> None:
        if key == ROUTED:
            self.settle(process, key)
            return
        pending = any(
            c.process is not None
            and not c.process.dead
            and c.acknowledged == NEVER
            and self.universe.now - c.started[0] < 2
            for c in self.changes.values()
        )
        if self._sequential and pending:
            return
        if self.plan.registers and self.flip(0.8):
            keys = self.random.choice(((key,), KEYS[:2], KEYS[:2], (key, key), (*KEYS[:2], key)))
            self.register(process, keys, (CHANGE_S, CHANGE_S, CHANGE_S, 0.05))
        else:
            self.change(process, KEYS[:2] if self.flip(0.15) else [key])

    def _by_hand(self) -> None:
        if self.flip(0.3):
            self.note("by hand: the routes")
            if self.postgres.down:
                return
            backend = self.postgres.connect(Network(self.processes[0].loop))
            self.postgres.run(backend, "ROUTES", (), lambda _: self.postgres.leave(backend))
        else:
            self.by_hand(self.random.choice(("h", "h", "k")))

    def note_commit(self, backend: Backend, wrote: dict[str, int]) -> None:
        super().note_commit(backend, wrote)
        process = next((p for p in self.processes if p.network is backend.network), None)
        if "postgres_death" in self.plan.faults and self.flip(0.2):
            self.universe.after(self.random.choice((0.0, 0.0, 0.003, 0.02, 0.3, 1.0)), self._postgres_death)
        if "death" in self.plan.faults and process is not None and self.flip(0.3):
            self.universe.after(self.random.choice((0.0, 0.0, 0.001, 0.005, 0.02)), partial(self._die, process))

    # -- faults ---------------------------------------------------------------------------------------------------

    def _die(self, process: Process) -> None:
        if process.dead:
            return
        self.note(f"process {process.slot} dies")
        process.die()
        for states in self.states.values():
            for state in states:
                if state.change is not None and state.change.process is process and state.due == NEVER:
                    state.settled = (state.committed[0] + SETTLE_S, 0)
                    self.due(state.change.keys[0], SETTLE_S)
        self.dead.append(process)
        successor = Process(self, process.slot)
        successor.redis = process.redis
        successor.network.postgres = process.network.postgres
        self.processes[process.slot] = successor

    def _primary(self) -> RedisServer:
        return self._named_primary

    def _restart(self) -> None:
        self.note("redis restarts empty")
        self._primary().start({})

    def _rollback(self) -> None:
        if self.flip(0.5):
            self.note("redis saves")
            self._snapshot = dict(self._primary().data)
        else:
            self.note("redis restarts with what it saved")
            self._primary().start(self._snapshot)

    def _flush(self) -> None:
        self.note("redis is flushed")
        self._primary().data.clear()

    def _evict(self) -> None:
        data = self._primary().data
        if data:
            key = self.random.choice(list(data))
            self.note(f"redis evicts {key.decode()}")
            del data[key]

    def _pause(self) -> None:
        self.note("redis pauses")
        self._primary().pause()

    def _cut(self) -> None:
        process = self.random.choice(self.processes)
        self.note(f"process {process.slot} is cut off from redis")
        process.network.redis_cut = True
        if self.flip(0.5):
            for wire in process.network.redis_wires:
                wire.hang_up()

    def _failover(self) -> None:
        """A lagging replica takes over.  Processes that talk to the old primary go on doing so until they notice."""
        old = self._primary()
        new = self.redis[1] if old is self.redis[0] else self.redis[0]
        if self.flip(0.4) or not self._snapshot:
            self.note("the replica falls behind")
            self._snapshot = dict(old.data)
            return
        self.note(f"failover from {old.run_id}")
        if new.run_id == "two1" and old.run_id == "one1":
            new.data = dict(self._snapshot)  # it was its replica all the time
        else:
            new.start(self._snapshot)
        self._named_primary = new
        for process in self.processes:
            self.universe.after(self.random.choice((0.0, 0.0, 0.3)), partial(self._redirect, process, new))
            if self.flip(0.6):
                for wire in process.network.redis_wires:
                    wire.hang_up()
        if self.flip(0.3):
            self.universe.after(self.random.choice((0.01, 0.5)), partial(self._demote, old, new))

    def _redirect(self, process: Process, server: RedisServer) -> None:
        if self._primary() is server:
            process.redis = server

    def _demote(self, old: RedisServer, new: RedisServer) -> None:
        """As Sentinel does it: with the same stroke its clients are sent away."""
        if self._primary() is new:
            self.note(f"{old.run_id} becomes a replica")
            old.data, old.replica = dict(new.data), True
            for wire in old.wires:
                wire.hang_up()

    def _stall(self) -> None:
        process = self.random.choice(self.processes)
        # One that asks PostgreSQL anew after a stall and stalls again over that has two failures in a row: it believes
        # its copies then, until the next poll.
        if process.loop.stalled_until + STALL_PAUSE_S > self.universe.now:
            return
        seconds = self.random.choice((0.1, 0.6, 1.2, 2.5, 4.0))
        self.note(f"process {process.slot} stalls for {seconds} s")
        process.stall(seconds)

    def _postgres_cut(self) -> None:
        process = self.random.choice(self.processes)
        if self.plan.hand and any(p.network.postgres_cut for p in self.processes):
            return  # if nobody reaches PostgreSQL, nobody knows what a person does there
        self.note(f"process {process.slot} is cut off from postgres")
        process.network.postgres_cut = True
        if self.flip(0.5):
            for connection in list(process.network.connections):
                connection.break_off()

    def _postgres_slow(self) -> None:
        slow = self.processes if self.flip(0.4) else [self.random.choice(self.processes)]
        seconds = self.random.choice((0.05, 0.2, 0.6, 1.2))
        self.note(f"postgres is {seconds} s away from {len(slow)}")
        for process in slow:
            process.network.postgres_slow_s = seconds

    def _postgres_restart(self) -> None:
        self.note("postgres restarts")
        self.postgres.restart()

    def _postgres_restore(self) -> None:
        if self.flip(0.5):
            self.note("postgres is backed up")
            self.postgres.kept = self.postgres.state.copy()
            return
        self.note("postgres is restored from its backup")
        self.postgres.restore()
        for key, value in self.postgres.state.values.items():
            self.states[key].append(State(value, self.stamp()))

    def _postgres_death(self) -> None:
        if self._left > 0:
            self.note("postgres dies")
            self.postgres.stop()

    def _postgres_failover(self) -> None:
        """A standby takes over, mostly without the last commits.  The old primary is gone."""
        old = self.postgres
        if self.flip(0.3):
            self.note("the standby falls behind")
            old.kept = old.state.copy()
            return
        self._failed_over_at = self.universe.now
        self._old_postgres = old
        self.promote(old.kept if self.flip(0.7) else old.state)

    def _postgres_return(self) -> None:
        """The old primary is there again, and somebody else goes there first: a new worker, or one that reconnects."""
        if self._old_postgres is None:
            self._postgres_failover()
            return
        if any(process.network.postgres is not self.postgres for process in self.processes):
            return
        if self.universe.now < self._failed_over_at + FAILOVER_SETTLE_S:
            return  # nobody knows of the new primary yet: only fencing helps
        process = self.random.choice(self.processes)
        self.note(f"the old primary of postgres is back, and process {process.slot} goes there")
        self._old_postgres.down = False
        if self.flip(0.5):
            self._die(process)
        process = self.processes[process.slot]
        process.network.postgres = self._old_postgres
        for connection in list(process.network.connections):
            connection.break_off()

    def _heal(self) -> None:
        self.note("all is well again")
        self.postgres.down = False
        for server in self.redis:
            server.resume()
        for process in self.processes:
            process.redis = self._primary()
            network = process.network
            if network.postgres is not self.postgres:
                network.postgres = self.postgres
                for connection in list(network.connections):
                    connection.break_off()
            network.redis_cut = network.postgres_cut = False
            network.postgres_slow_s = 0.0
            redis_held, network.redis_held = network.redis_held, []
            for wire, data in redis_held:
                wire.arrive(data)
            postgres_held, network.postgres_held = network.postgres_held, []
            for message in postgres_held:
                message()


Prepare = Callable[[Schedule], None]
