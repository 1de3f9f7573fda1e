"""The protocol with one rule dropped: each is a change of the production code, for as long as a test holds it.

Each rule is listed with the schedules in which its loss shows soonest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import msgspec
from scenes import (
    Scene,
    SceneSchedule,
    cut_short,
    failed_over,
    heard_by_one,
    lost,
    repeated,
    restored,
    rolled_back,
    stalled,
    suspended,
)
from schedule import Plan, Prepare, RandomSchedule, Schedule, Violation
from servers_in_memory import InMemoryWatch
from systematic import MESSAGES, Case, SystematicSchedule

from oracle.store import servers
from oracle.store.base import CopyKey, Generation, Lineage, Session
from oracle.store.cache import coherence, lookups
from oracle.store.cache.coherence import LEASE_S, Coherence, Fence
from oracle.store.cache.session import RedisSession
from oracle.store.cache.values import Marker
from oracle.store.changes import Changes
from oracle.store.postgres import Transaction
from oracle.store.repairs import Repairs
from oracle.store.routes import Routes
from oracle.store.servers import Servers


@dataclass(frozen=True)
class Dropped:
    rule: str
    where: Plan | Callable[[], Iterable[Case | Scene]]
    patches: tuple[tuple[Any, str, Any], ...] = ()  # attributes to replace while it is dropped
    prepare: Prepare | None = None
    first: int = 0  # the seed that showed it when this was written; other code draws other numbers

    @contextmanager
    def drop_rule(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, instead in self.patches:
                stack.enter_context(patch.object(owner, name, instead))
            yield

    def schedules(self, count: int) -> Iterator[tuple[str, RandomSchedule | SystematicSchedule | SceneSchedule]]:
        """So many of those in which it shows soonest, with their names."""
        if isinstance(self.where, Plan):
            for seed in range(self.first, self.first + count):
                yield f"{self.where.name}, seed {seed}", RandomSchedule(self.where, seed, prepare=self.prepare)
        else:
            for n, case in zip(range(count), self.where(), strict=False):
                if isinstance(case, Scene):
                    yield f"scene {n}", SceneSchedule(case, prepare=self.prepare)
                else:
                    yield f"systematic, case {n}", SystematicSchedule(case, prepare=self.prepare)

    def shows(self, count: int) -> tuple[str, Violation, int] | None:
        """Return where it first breaks a promise, which one, and after how many schedules."""
        with self.drop_rule():
            for n, (name, schedule) in enumerate(self.schedules(count), 1):
                violation = schedule.run()
                schedule.end()
                if violation is not None:
                    return name, violation, n
        return None


# 1 fence


async def _no_fence(self: Coherence, keys: Sequence[CopyKey]) -> Fence:
    if not self.fresh:
        await self.confirm()
    return Fence(keys=tuple(keys), begun_at=self._clock(), generation=self.generation, is_set=True)


def _always_can_commit(_self: Coherence, _fence: Fence) -> bool:
    return True


class _Whichever(int):
    """A generation that is never another one."""

    def __ne__(self, _other: object) -> bool:
        return False

    __hash__ = int.__hash__


_fence: Final = Coherence.fence
_check_fence: Final = vars(Changes)["_check_fence"]


async def _fence_of_before(self: Changes, transaction: Transaction, fence: Fence) -> Fence:
    """As if what the first fences kept away had stayed away."""
    fence = msgspec.structs.replace(fence, begun_at=self._coherence._clock())
    under: Fence = await _check_fence(self, transaction, fence)
    return under


async def _fence_of_whichever(self: Coherence, keys: Sequence[CopyKey]) -> Fence:
    fence = await _fence(self, keys)
    return msgspec.structs.replace(fence, generation=_Whichever(fence.generation))


# 2 token


def _no_lease(_self: RedisSession, keys: Sequence[bytes], _token: bytes, done: Callable[[list[bool]], None]) -> None:
    done([True] * len(keys))


def _fills_by_nothing(schedule: Schedule) -> None:
    for server in schedule.redis:
        server.fills_by_token = False


# 3 verify


async def _as_if_verified(_self: Coherence, _fence: Fence) -> bool:
    return True


_settle: Final = Coherence.settle
_attempt: Final = Changes._attempt
_idle: Final[set[asyncio.Task[Any] | None]] = set()


async def _attempt_and_note(
    self: Changes,
    context: Any,
    keys: Sequence[CopyKey],
    work: Callable[[Any], Awaitable[tuple[Any, bool]]],
    **more: Any,
) -> Any:
    async def work_and_note(transaction: Any) -> tuple[Any, bool]:
        result, changed = await work(transaction)
        if not changed:
            _idle.add(asyncio.current_task())
        return result, changed

    try:
        return await _attempt(self, context, keys, work_and_note, **more)
    finally:
        _idle.discard(asyncio.current_task())


async def _settle_own(self: Coherence, fence: Fence) -> None:
    if asyncio.current_task() not in _idle:
        await _settle(self, fence)


# 4 generation


def _no_moves(schedule: Schedule) -> None:
    schedule.postgres.bumps = False


async def _no_repair(_self: Repairs) -> None: ...


def _forget_move(_self: Repairs) -> None: ...


_adopt: Final = Coherence._adopt


async def _adopt_lower(self: Coherence, row: Generation, asked: float) -> None:
    """Believe every answer of the database, also an older generation."""
    if row.generation < self.generation and asked > self._adopted_at:
        self.generation = row.generation
    await _adopt(self, row, asked)


# 8 marker


def _mget_any(
    self: RedisSession, _key: bytes, _markers: Sequence[bytes], keys: Sequence[bytes], done: Callable[[Any], None]
) -> None:
    self.mget(keys, done)


# What other rules cover, the marker covers as well.
_AS_MARKED: Final = ((RedisSession, "mget_marked", _mget_any),)
_marker_of: Final = coherence._marker_of


def _marker_without_routes(row: Generation) -> Marker:
    return _marker_of(row)._replace(routes_version=0)


# 10 ask again

_ask_again: Final = Coherence._ask_again


async def _ask_first_only(self: Coherence, lineage: Lineage) -> None:
    if self._clock() - vars(self).get("asked_first_at", -9.0) > 1.5 * LEASE_S:
        await _ask_again(self, lineage)
        vars(self)["asked_first_at"] = self._clock()


async def _settle_move_asking_nobody(self: Coherence, _lineage: Lineage) -> None:
    await self._outlive_leases(self._clock())


# 11 lineage


async def _follow_whichever(self: Coherence, higher: Marker) -> None:
    row = await self._generations.ask()
    if higher.exceeds(_marker_of(row)._replace(timeline=higher.timeline)):
        row = await self._generations.raise_above(higher.generation, higher.routes_version)
    await self._adopt(row, self._clock())


async def _agree_with_any(self: Coherence, session: Session) -> bool:
    self._marked = session, self.marker
    return True


async def _ask_any_lineage(self: Coherence, _lineage: Lineage) -> None:
    await self._ask()
    await self._mark()


# 5 lease


async def _no_wait(_self: Coherence, _since: float) -> None: ...


_outlive: Final = Coherence._outlive_leases
_bump: Final = Coherence.bump


async def _bump_and_note(self: Coherence) -> None:
    await _bump(self)
    vars(self)["moved_at"] = self._adopted_at


async def _outlive_own(self: Coherence, since: float) -> None:
    """Wait after a move of this process, but not after a move of another one."""
    if since != self._adopted_at or since == vars(self).get("moved_at"):
        await _outlive(self, since)


async def _confirm_once(self: Coherence) -> None:
    patient = self.fresh or self.patient
    try:
        await self._ask()
    except Exception:
        self.reachable = False
        self._patient_until = self.confirmed_at + 60.0 if patient else float("-inf")
        raise
    self.reachable, self._patient_until = True, float("-inf")
    if self.session is not None:
        self._raise_marker(self.session)


# 6 run id

_greet: Final = RedisSession.greet


async def _greet_anyone(self: RedisSession, username: str | None, password: str | None, db: int) -> None:
    await _greet(self, username, password, db)
    self.run_ids = ("anyone",)


_fetch: Final = InMemoryWatch._fetch_generation


async def _fetch_long_ago(self: InMemoryWatch, connection: Any) -> Generation:
    return msgspec.structs.replace(await _fetch(self, connection), run_ids_age_s=3600.0)


async def _adopt_and_stay(self: Coherence, row: Generation, asked: float) -> None:
    if self.session is not None:
        self.session.run_ids = row.run_ids
    await _adopt(self, row, asked)


# 7 session: what a client library does that reconnects and sends again

_send: Final = RedisSession.send
_open_session: Final = Coherence._open_session


def _send_again(self: RedisSession, payload: bytes, replies: int, done: Callable[[Any], None]) -> None:
    coherence = getattr(self.lost, "__self__", None)
    if coherence is None:  # not trusted yet
        _send(self, payload, replies, done)
        return

    def retry(result: Any) -> None:
        if result is None:
            vars(coherence).setdefault("unsent", []).append((payload, replies, done))
        else:
            done(result)

    _send(self, payload, replies, retry)


async def _open_session_and_send(self: Coherence) -> None:
    await _open_session(self)
    for payload, replies, done in vars(self).pop("unsent", []):
        if self.session is None:
            done(None)
        else:
            vars(RedisSession)["send"](self.session, payload, replies, done)


# Commits that take effect after the fences have expired and a lookup has stored what was before.
_LOOKUPS_AT: Final = (3.05, 3.15, 3.25, 3.35, 3.45)


def _late_and_dying() -> Iterable[Case]:
    delays: dict[int | str, float] = {"WRITE": 1.9, "generation": 0.4, "COMMIT": 1.3}
    return (Case(at, delays=delays, dies=True, promises=("A", "C")) for at in _LOOKUPS_AT)


def later_and_dying() -> Iterable[Case]:
    """The statements alone take longer than the first fences last."""
    delays: dict[int | str, float] = {"transaction_begin": 1.2, "WRITE": 1.9, "COMMIT": 0.5}
    return (Case(at, delays=delays, dies=True, promises=("A", "C")) for at in _LOOKUPS_AT)


def _late_and_unanswered() -> Iterable[Case]:
    return (Case(at, delays={"WRITE": 1.9, "COMMIT": 1.9, "COMMIT answer": 9.0}) for at in _LOOKUPS_AT)


def moved_and_dying() -> Iterable[Case]:
    """Between fence and commit the generation moves, and a lookup stores what was before under the new one."""
    return (
        Case(0.012 + n * 0.001, fault="bump", fault_at=0.005, delays={"WRITE": 0.02}, dies=True, promises=("A", "C"))
        for n in range(8)
    )


def _cut_before_verify() -> Iterable[Case]:
    """The fence is evicted, a lookup stores what was before, and after the commit PostgreSQL answers no more."""
    return (Case(0.0065, fault="evict", fault_at=0.0038, delays={n: 3.6}) for n in range(24, MESSAGES))


def _late_fills() -> Iterable[Case]:
    """A message of a lookup that began before the change takes longer than the fence lasts."""
    return (Case(at, delays={n: 3.6}) for n in range(4, 20) for at in (-0.0003, -0.0054))


DROPPED: Final = (
    Dropped("fence", Plan("death", ("death",), ("A", "C")), ((Coherence, "fence", _no_fence),)),
    Dropped("token", _late_fills, ((RedisSession, "lease", _no_lease),), _fills_by_nothing),
    Dropped("verify", Plan("flush", ("flush",)), ((Coherence, "_verify", _as_if_verified),)),
    Dropped("generation", Plan("cut", ("cut",)), prepare=_no_moves),
    Dropped(
        "lease",
        Plan("cut", ("cut",)),
        ((Coherence, "fresh", property(lambda _self: True)), (Coherence, "_outlive_leases", _no_wait)),
        first=15,
    ),
    Dropped("run id", Plan("rollback", ("rollback",)), ((RedisSession, "greet", _greet_anyone),), first=50),
    Dropped(
        "session",
        rolled_back,
        ((RedisSession, "send", _send_again), (Coherence, "_open_session", _open_session_and_send)),
    ),
    # Beyond the seven, or parts of them.
    Dropped(
        "wait for a new server, nor after a move",
        failed_over,
        (
            (InMemoryWatch, "_fetch_generation", _fetch_long_ago),
            (Coherence, "bump", _bump_and_note),
            (Coherence, "_outlive_leases", _outlive_own),
        ),
    ),
    Dropped("hang up on the old server", Plan("failover", ("failover",)), ((Coherence, "_adopt", _adopt_and_stay),)),
    Dropped(
        "pass over lost generations",
        restored,
        # The marker knows the lost generation as well.
        (
            (Coherence, "_adopt", _adopt_lower),
            (Coherence, "_agree", _agree_with_any),
            (Coherence, "_take_markers", lambda *_: None),
        ),
    ),
    Dropped(
        "wait after a move of another process",
        heard_by_one,
        ((Coherence, "bump", _bump_and_note), (Coherence, "_outlive_leases", _outlive_own)),
    ),
    Dropped("commit in time", _late_and_dying, ((Coherence, "can_commit", _always_can_commit),)),
    Dropped("fence again when late", later_and_dying, ((Changes, "_check_fence", _fence_of_before),)),
    Dropped(
        "look at the generation before the commit",
        moved_and_dying,
        ((Coherence, "fence", _fence_of_whichever),),
    ),
    Dropped("repair a commit without an answer", _late_and_unanswered, ((Repairs, "_run", _no_repair),)),
    Dropped("follow up a commit not verified", _cut_before_verify, ((Repairs, "add_move", _forget_move),)),
    Dropped(
        "settle before it is said that nothing is new",
        repeated,
        ((Changes, "_attempt", _attempt_and_note), (Coherence, "settle", _settle_own)),
    ),
    Dropped(
        "ask again after a stall",
        Plan("stall, by hand", ("stall",), ("A", "hand"), hand=True),
        ((Coherence, "_confirm", _confirm_once), *_AS_MARKED),
        first=143,
    ),
    Dropped(
        "marker", Plan("postgres_cut", ("postgres_cut",), settles=True), ((RedisSession, "mget_marked", _mget_any),)
    ),
    Dropped(
        "marker, against changes by hand",
        Plan("postgres_cut, by hand", ("postgres_cut",), ("A", "hand"), hand=True),
        ((RedisSession, "mget_marked", _mget_any),),
    ),
    Dropped(
        "routes in the marker",
        Plan("postgres_cut", ("postgres_cut",), settles=True),
        ((coherence, "_marker_of", _marker_without_routes),),
    ),
    Dropped(
        "patience",
        stalled,
        ((Coherence, "patient", property(lambda self: not self.reachable)),),
    ),
    Dropped(
        "ask again, after a wait",
        cut_short,
        ((Coherence, "_ask_again", _ask_first_only),),
    ),
    Dropped(
        "ask again, after a suspension",
        suspended,
        ((Coherence, "settle_move", _settle_move_asking_nobody),),
    ),
    Dropped(
        "move for a new lineage",
        lost,
        ((Servers, "lineage_of", lambda *_: ("1", 1)),),
    ),
    Dropped(
        "refuse an older lineage",
        Plan("return of the old primary", ("postgres_return",), settles=True),
        ((servers, "_is_older", lambda _one, _other: False), (Coherence, "_follow", _follow_whichever)),
    ),
    Dropped(
        "look at the marker when it starts",
        Plan("return of the old primary", ("postgres_return",), settles=True),
        ((Coherence, "_agree", _agree_with_any), (Coherence, "_take_markers", lambda *_: None)),
    ),
    Dropped(
        "acknowledge on the same lineage only",
        Plan("failover of postgres", ("postgres_failover",), settles=True),
        ((Coherence, "_ask_again", _ask_any_lineage),),
    ),
    Dropped("clock", Plan("skew", ("skew",), settles=True), ((Routes, "follow_clock", lambda *_: None),)),
    Dropped(
        "routes by a lease also after a read of the directory",
        Plan("postgres_slow", ("postgres_slow",), settles=True),
        ((lookups, "NOBODY", b"no answer"),),
        first=14,
    ),
)
