"""Keeps the copies in Redis in step with the truth in PostgreSQL: the promises and the rules behind them.

Promises
    A  A lookup that starts after a change was acknowledged never answers the older state.  This holds in every process
       and through any one failure.
    B  Without failures lookups are linearizable, also around changes in flight, while the generation does not move.
       (For one lease after a move, one process can still answer a state that another process has left.)
    C  If a process dies after it committed a change, every lookup that starts 1.5 s later answers that change.  So does
       one that starts 1.5 s after a change by hand.

Words
    copy        an answer in Redis, stored under the generation and the identifier
    fence       a mark in place of a copy: "this key is changing, read PostgreSQL"
    token       a mark in place of a copy: "a lookup is reading this key, and may store its answer here"
    generation  a number in PostgreSQL and in the name of every copy: a new number makes all older copies unreachable
    lease       the second in which a process believes copies after it asked PostgreSQL for the generation
    marker      a value in Redis: the newest generation that any process has seen
    degraded    a process without a lease that still believes copies, because PostgreSQL does not answer
    lineage     which PostgreSQL it is: its system identifier and its timeline
    run id      the identity of one running Redis server
    session     one connection to Redis, which never reconnects

Rules, each with the race that it prevents
    1 fence       Before its commit a change sets fences (3 s) on its keys.  It commits within 2 s of the fences, or
                  sets them again first, or rolls back.  Nobody deletes a fence; a lookup that finds one stores nothing.
                  Race: a lookup reads the old row, the change commits, the lookup stores the old row.
    2 token       A lookup that finds nothing takes a token (1 s, atomically).  It stores its answer only while the key
                  still holds that very token.
                  Race: as in rule 1; and of two lookups that store, the slower one has the older row.
    3 verify      After the commit and before the acknowledgement, the change checks that its fences are there under the
                  current generation.  It sets missing ones again.
                  Race: Redis loses a fence (a flush, an eviction, a new generation) and a lookup stores the old row.
    4 generation  A change that cannot fence moves the generation in its own transaction.  A change that cannot verify
                  moves it right after the commit.  A trigger moves it for changes by hand.  Changes that cannot fence
                take turns while any process uses the cache (`changes`).
                  Race: without Redis, old copies would survive the change.
    5 lease       A process believes copies for 1 s after it asked for the generation (from the time of asking).  A
                  change that moved the generation waits one lease before it is acknowledged.  So does a change that
                  heard of a move within the last lease, because its fences exist under the new generation only.
                  Race: a process that has not heard of the new generation answers from copies of the old one.
    6 run id      The generation also names the Redis servers whose copies count.  A session to any other server moves
                  the generation first, and is used one lease later (`run_ids_age_s`).  A process whose server is no
                  longer named closes its session.
                  Race: Redis restarts with an old snapshot, or a lagging replica takes over; or, during a failover, one
                  process fences on the new primary while another reads its copy on the old one, alive and cut off.
    7 session     A command is sent on the session, and under the generation, for which its key was made; or not at all.
                  Race: a store that was prepared before a reconnect reaches a server that never had the fence.
    8 marker    Each process raises the marker after each answer of PostgreSQL, and once more before it acknowledges a
                change.  Without a lease a process reads the marker together with its copies.  It believes them only if
                the marker is exactly what it has adopted.
                Race: one process is cut off from PostgreSQL, and others move the generation or change the routes.
    9 patience  A process is degraded only if its lease was valid when the question began that PostgreSQL did not
                answer, and for `degraded_max_s` after the last answer.  Without a lease it opens a session only to the
                server that was named last.
                Race: a process wakes from a stall, PostgreSQL is gone, and others moved the generation without Redis.
    10 ask      A change that waited for leases asks PostgreSQL once more before it is acknowledged.
       again    Race: PostgreSQL dies right after the commit, so that no other process can hear of it.
    11 lineage  A PostgreSQL of another lineage moves the generation once, far (`generation_settle_lineage`).  Under the
                same system identifier, a lower timeline than the process or the marker knows is refused.  A change is
                not acknowledged if the lineage has changed since it began.
                Race: a lagging standby takes over, and copies of lost commits survive; or the old primary comes back.
    12 clock    Routes begin and end by PostgreSQL's clock, which each answer of PostgreSQL brings (`store.routes`).
                Race: the worker's clock is slow, so it does not answer an acknowledged route.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from oracle.backoff import Backoff
from oracle.errors import DirectoryUnavailable
from oracle.store.base import Confirmed, CopyKey, Generation, Generations, Lineage, Session
from oracle.store.cache.session import Unreachable
from oracle.store.cache.tags import Tags, make_floor
from oracle.store.cache.values import Marker
from oracle.telemetry import logs

NOT_WRITTEN: Final = "it does not take what the service writes"
WITHOUT_DIRECTORY: Final = "it can be used when PostgreSQL answers"
NOT_YET: Final = "not connected yet"
REPLACED: Final = "another server of the cache has replaced it"

log = logs.Log(__name__)

LEASE_S: Final = 1.0
# Waiting for the leases of other processes takes a little longer: no two clocks or timers agree exactly.
LEASE_MARGIN_S: Final = 0.01
POLL_S: Final = 0.3  # three tries within a lease
FENCE_MS: Final = 3_000
COMMIT_MAX_S: Final = 2.0
TOKEN_MS: Final = 1_000
# How long to leave a Redis alone that just failed: half to once this, so that processes do not come back in step.
REDIAL_PAUSES_S: Final = (0.25, 0.5, 1.0, 2.0)
# How long a process that starts waits for its first look at the marker (rule 11); Redis can come later.
MEET_S: Final = 2.5
DEGRADED_MAX_S: Final = 120.0
# How long lookups wait for PostgreSQL, once in an outage, when another process has reached it: a standby was promoted.
CATCH_UP_S: Final = 0.5
AGREE_TRIES: Final = 3  # others can move the generation meanwhile
RIVAL_PAUSE_S: Final = 10.0

NO_ROUTES: Final = -1  # the version of the routes before any were loaded


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The times of the protocol.  They are the same in all processes of a directory, so they are no settings."""

    lease_s: float = LEASE_S
    lease_margin_s: float = LEASE_MARGIN_S
    poll_s: float = POLL_S
    fence_ms: int = FENCE_MS  # longer than commit_max_s
    commit_max_s: float = COMMIT_MAX_S


TIMING: Final = Timing()


class Fence(msgspec.Struct, frozen=True):
    """The fences of one change.  If `is_set` is False the change must move the generation instead."""

    keys: tuple[CopyKey, ...]
    begun_at: float  # before the first fence was sent; the commit must come within commit_max_s
    generation: int  # under which the fences are
    is_set: bool
    lineage: Lineage = ("", 0)  # the PostgreSQL that the change began on


class Coherence:
    """Knows which copies this process can believe: its generation, lease and session.  One per process."""

    # What each lookup reads, see `Lookups`.
    __slots__ = (
        "__dict__", "__weakref__", "_clock", "_lease_s", "confirmed_at", "floor", "key_prefix", "reachable", "session",
        "tags",
    )  # fmt: skip

    def __init__(
        self,
        generations: Generations,
        dial: Callable[[], Awaitable[Session]] | None,
        prefix: str,
        routes_reload: Callable[[int], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        timing: Timing = TIMING,
        degraded_max_s: float = DEGRADED_MAX_S,
        follow_clock: Callable[[float, float, float], None] = lambda _asked, _answered, _server: None,
        now_s: Callable[[], float] = time.time,
        tags: Tags | None = None,
    ) -> None:
        """`dial` opens a session to Redis or raises Unreachable; None if there is no cache at all.

        `routes_reload(version)` is awaited before the lease is renewed, if the version of the routes has moved.
        `follow_clock(asked, answered, server)` hears PostgreSQL's time, between two times of `clock` (rule 12).
        `now_s` returns that time now, in seconds since 1970: until then copies count.  `tags`: of all that is written.
        `clock` is read each time: the time of the event loop does not advance during a long callback, but leases end.
        """
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._timing = timing
        self._lease_s = timing.lease_s
        self.fence_ms = timing.fence_ms
        self._generations = generations
        self._dial = dial
        self.cache_failure = NOT_YET  # why Redis cannot be used
        self.failure: Exception | None = None  # of the last question to PostgreSQL
        self._failed_at = float("-inf")
        self._prefix = prefix
        self._routes_reload = routes_reload
        self._degraded_max_s = degraded_max_s
        self._follow_clock = follow_clock
        self.now_s = now_s
        self.tags = tags or Tags()
        self.floor = make_floor(now_s())  # what copies must exceed that still count; moves with each poll
        self._confirming: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._session_lost = asyncio.Event()
        self._met_cache = asyncio.Event()
        self.session: Session | None = None
        self.generation = 0
        self.key_prefix = b""
        self._old_prefix = b""  # of the generation before
        self.confirmed_at = float("-inf")
        self._adopted_at = float("-inf")
        self.run_ids: tuple[str, ...] = ()
        self.routes_version = NO_ROUTES
        self._routes_asked_at = float("-inf")  # when this process asked for the row that had this version
        self._loading = asyncio.Lock()
        self._rival_until = float("-inf")
        self.lineage: Lineage = ("", 0)
        self._refused_before: Lineage | None = (
            None  # servers of an earlier timeline than this were refused: logged once
        )
        self.confirmed: Confirmed | None = None  # the row as last adopted, and when it was asked for
        self.marker_key = self.marker = b""  # as this process has adopted it
        self.markers: tuple[bytes, ...] = ()  # the same with the tag of each key that is accepted; ours is the first
        self._named: tuple[str, Marker] | None = None  # the directory and the numbers that these are made of
        self._marked: tuple[Session | None, bytes] = (None, b"")  # where this process saw which marker last
        self._following: asyncio.Task[None] | None = None
        self.reachable = False  # PostgreSQL, at the last asking
        self._patient_until = float("-inf")
        self._behind_since: float | None = None  # when copies were refused first in this outage
        self._lease_state = logs.Condition(log, "lease")
        self.bumps = 0
        self.fences = 0

    # -- start and stop -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Ask for the generation, then keep lease and session alive in the background.

        Without PostgreSQL it answers nothing, unless something was recalled that can be believed without it.
        """
        with contextlib.suppress(DirectoryUnavailable):
            await self._confirm()
        self._tasks.append(self._loop.create_task(self._keep_lease()))
        if self._dial is None:
            return
        self._tasks.append(self._loop.create_task(self._keep_session()))
        # Rule 11: this PostgreSQL can be an old primary, and the marker knows.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEET_S):
                await self._met_cache.wait()
        if not self.fresh and not self.patient:
            with contextlib.suppress(DirectoryUnavailable):
                await self.confirm()

    def recall(self, confirmed: Confirmed) -> None:
        """Begin with what another process of this machine has confirmed, before `open`.

        Without routes: a process that answers from routes must load them first.
        """
        self._take_row(confirmed.row, confirmed.at)
        self._patient_until = confirmed.at + self._degraded_max_s
        self._generations.learn(confirmed.row.lineage)

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []  # from here on `confirm_soon` starts nothing
        tasks += [task for task in (self._confirming, self._following) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.session is not None:
            self.session.close()
            self.session = None

    def take_counts(self) -> tuple[int, int]:
        """Return how often this process moved the generation, and how many fences it set, since the last call."""
        taken = self.bumps, self.fences
        self.bumps = self.fences = 0
        return taken

    # -- the lease (rule 5) ---------------------------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        """Whether the lease is valid."""
        return self._clock() - self.confirmed_at <= self._lease_s

    @property
    def degraded(self) -> bool:
        """Whether the lease has expired: PostgreSQL does not answer."""
        return not self.fresh

    @property
    def patient(self) -> bool:
        """Whether the process believes copies without a lease, if the marker allows it (rules 8 and 9)."""
        return not self.reachable and self._clock() <= self._patient_until

    def catches_up(self) -> bool:
        """Return whether a lookup whose copy was refused without a lease (rule 8) can wait for `confirm`.

        After a promotion the first process that finds the new primary raises the marker.  The others find it a moment
        later, so lookups wait for that moment.  A process that is cut off for longer refuses them at once.
        """
        if self.fresh:
            return False
        if self._behind_since is None:
            self._behind_since = self._clock()
        return self._clock() - self._behind_since <= CATCH_UP_S

    async def confirm(self) -> None:
        """Ask PostgreSQL for the generation, to renew the lease.  Raises DirectoryUnavailable.

        Calls at the same time share one answer.  That is safe: `fresh` counts from the moment of asking.
        """
        await asyncio.shield(self._begin_confirming())

    def confirm_soon(self) -> None:
        """Ask now instead of at the next poll: PostgreSQL has notified (LISTEN) that something moved."""
        if self._tasks:
            self._begin_confirming()

    def _begin_confirming(self) -> asyncio.Task[None]:
        if self._confirming is None:
            self._confirming = self._loop.create_task(self._confirm())
            self._confirming.add_done_callback(self._end_confirming)
        return self._confirming

    def _end_confirming(self, task: asyncio.Task[None]) -> None:
        self._confirming = None
        if not task.cancelled():
            task.exception()  # marks it as retrieved: each waiter has it already, or nobody waits

    async def _confirm(self) -> None:
        patient = self.fresh or self.patient
        try:
            try:
                await self._ask()
            except DirectoryUnavailable:
                if self.fresh or not self.reachable:
                    raise
                # The last question had an answer, and the lease ended during this one.  A process that wakes from a
                # stall sees exactly this: its own time-out fires before it reads the answer.  Others can have moved the
                # generation during the stall, so this failure is no reason to go on believing copies: ask again.
                await self._ask()
        except Exception as exc:
            self.reachable, self.failure, self._failed_at = False, exc, self._clock()
            last = self.confirmed.at if patient and self.confirmed is not None else float("-inf")
            self._patient_until = last + self._degraded_max_s
            raise
        self.reachable, self.failure = True, None
        self._patient_until = float("-inf")
        self._behind_since = None
        if self.session is not None:
            self._raise_marker(self.session)

    async def _ask(self) -> None:
        asked = self._clock()
        row = await self._generations.ask()
        await self._adopt(row, asked)

    async def _adopt(self, row: Generation, asked: float) -> None:
        self._follow_clock(asked, self._clock(), row.now_s)
        self.floor = make_floor(self.now_s())
        is_known = row.generation < self.generation + (row.lineage != self.lineage)
        if is_known and asked > self._adopted_at:
            # This process asked when it knew this or a higher number already, and the answer is lower, or of another
            # PostgreSQL: the database has lost commits (a failover, a restore).  Copies of the lost state exist under
            # the numbers that come next, so the generation must move past them.
            row = await self._generations.raise_above(self.generation, self.routes_version)
            self.bumps += 1
        if row.routes_version != self.routes_version and not await self._load_routes(row, asked):
            return
        if row.generation >= self.generation:
            self._take_row(row, asked)
            self.confirmed_at = max(self.confirmed_at, asked)
            if self.session is not None and self.session.run_ids != row.run_ids:
                self.session.close()  # rule 6: its server is no longer named

    async def _load_routes(self, row: Generation, asked: float) -> bool:
        """Load the routes for a row; return False if a later answer has brought newer ones meanwhile.

        One load at a time: the slower of two could put back what the other one has replaced.
        """
        async with self._loading:
            if row.routes_version < self.routes_version and asked <= self._routes_asked_at:
                return False
            if row.routes_version != self.routes_version:
                if self._routes_reload is not None:
                    await self._routes_reload(row.routes_version)
                self.routes_version, self._routes_asked_at = row.routes_version, asked
            return True

    def _take_row(self, row: Generation, asked: float) -> None:
        if row.generation > self.generation:
            self._adopted_at = self._clock()
            self._old_prefix = self.key_prefix
        self.generation = row.generation
        self.run_ids = row.run_ids
        self.lineage = row.lineage
        named = row.directory_id, _marker_of(row)
        if named != self._named:  # not at each poll: mostly nothing has changed
            self._named = named
            self.key_prefix = f"{self._prefix}:{row.directory_id[:8]}.{row.generation}:".encode()
            self.marker_key = f"{self._prefix}:{row.directory_id[:8]}:marker".encode()
            self.markers = self.tags.sign_marker(self.marker_key, named[1])
            self.marker = self.markers[0]
        if self.confirmed is None or asked >= self.confirmed.at:
            self.confirmed = Confirmed(row, asked)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(self._timing.poll_s)
            self.floor = make_floor(self.now_s())  # also without PostgreSQL
            try:
                await self.confirm()
            except DirectoryUnavailable:
                pass
            except Exception as exc:  # noqa: BLE001 - if this loop ended, nothing would renew the lease any more
                self._lease_state.now("failing", exc=exc)
            else:
                self._lease_state.now("ok")

    # -- the marker (rules 8 and 11) ------------------------------------------------------------------------------

    def _raise_marker(self, session: Session) -> None:
        markers = self.markers
        session.raise_marker(self.marker_key, self.marker, markers[1:], partial(self._take_markers, session, markers))

    def _take_markers(self, session: Session, markers: tuple[bytes, ...], found: list[bytes] | None) -> None:
        higher, forged = self._judge(markers, found)
        if found is not None and higher is None and not forged:
            self._marked = session, markers[0]
        elif (higher or forged) and self._tasks and self._following is None:
            self._following = self._loop.create_task(self._follow_later(session, higher, forged))

    def _judge(self, own: tuple[bytes, ...], found: Sequence[bytes] | None) -> tuple[Marker | None, tuple[bytes, ...]]:
        """Return a marker that this process must follow, and those that no service with our key has made.

        The script returns the own marker or a higher one.
        """
        higher: Marker | None = None
        forged: list[bytes] = []
        for value in found or ():
            if value in own:
                continue
            marker = self.tags.read_marker(self.marker_key, value)
            if marker is None:
                forged.append(value)
                self.tags.refuse("marker")
            elif higher is None and not (
                marker.system_identifier != self.lineage[0] and self._clock() < self._rival_until
            ):
                higher = marker
        return higher, tuple(dict.fromkeys(forged))

    def _note_rival(self) -> None:
        """Leave the markers of another PostgreSQL alone for a while: else each would exceed the other forever."""
        if self._clock() < self._rival_until + RIVAL_PAUSE_S:
            log.error("Another PostgreSQL with this directory id uses this Redis: give each of them a Redis of its own")
        self._rival_until = self._clock() + RIVAL_PAUSE_S

    async def _follow_later(self, session: Session, higher: Marker | None, forged: tuple[bytes, ...]) -> None:
        try:
            if higher is not None:
                await self._follow(higher)
            if forged:
                await self._replace_markers(session, forged)
        except DirectoryUnavailable:
            pass  # the next poll finds the marker again
        finally:
            self._following = None

    async def _replace_markers(self, session: Session, forged: tuple[bytes, ...]) -> None:
        """Put our marker in the place of those that we cannot check.  Raises DirectoryUnavailable.

        Another service can have made one, with another key, and know a newer generation.  We ask after we saw it, so
        that ours is not older.
        """
        await self._ask()
        # Without a look at the reply: somebody who puts one back each time must not keep us busy.  The next poll looks.
        session.raise_marker(self.marker_key, self.marker, (*self.markers[1:], *forged), lambda _: None)

    async def _follow(self, higher: Marker) -> None:
        """Adopt what another process has seen.  Raises DirectoryUnavailable."""
        system_identifier, timeline = self.lineage
        if system_identifier == higher.system_identifier and timeline < higher.timeline:
            later = (system_identifier, higher.timeline)
            if later != self._refused_before:
                log.error("PostgreSQL is an old primary: another process has seen a later timeline; refusing it")
                self._refused_before = later
            self._generations.learn(later)
            self.confirmed_at = float("-inf")
            raise DirectoryUnavailable
        if system_identifier != higher.system_identifier:
            self._note_rival()
        asked = self._clock()
        row = await self._generations.ask()
        mine = _marker_of(row)
        if mine != higher and not mine.exceeds(higher):
            # Asked after the marker was seen, and still not higher: the database has lost commits, or is another one.
            row = await self._generations.raise_above(higher.generation, higher.routes_version)
            self.bumps += 1
        await self._adopt(row, asked)

    async def _mark(self) -> None:
        """Raise the marker before an acknowledgement.  Without Redis, the processes that have it do so within 1.5 s.

        Raises DirectoryUnavailable.
        """
        session = self.session
        if session is not None and self._marked != (session, self.marker):
            await self._agree(session)

    async def _agree(self, session: Session) -> bool:
        """Raise the marker and follow a higher one; return whether it is certain.  Raises DirectoryUnavailable."""
        forged: tuple[bytes, ...] = ()
        if not self.markers:
            return False  # PostgreSQL was away since the start: nothing is known to raise
        for _ in range(AGREE_TRIES):
            found: asyncio.Future[list[bytes] | None] = self._loop.create_future()
            markers = self.markers
            replaced = (*markers[1:], *forged)
            session.raise_marker(self.marker_key, markers[0], replaced, partial(_set_result, found))
            values = await found
            higher, forged = self._judge(markers, values)
            if higher is not None:
                await self._follow(higher)
            elif forged:
                await self._ask()  # as in `_replace_markers`
            else:
                if values is not None:
                    self._marked = session, markers[0]
                return values is not None
        return False

    # -- the session (rules 6 and 7) ------------------------------------------------------------------------------

    async def _keep_session(self) -> None:
        backoff = Backoff(REDIAL_PAUSES_S, spread=0.5)
        while True:
            try:
                await self._open_session()
                backoff.reset()
                await self._session_lost.wait()
            except Unreachable as exc:
                self.cache_failure = str(exc)
            except DirectoryUnavailable:
                self.cache_failure = WITHOUT_DIRECTORY  # Redis answers: what it lacked before is no reason any more
            except Exception as exc:  # noqa: BLE001 - if this loop ended, nothing would try the cache again
                log.error("The cache cannot be used; trying again later", exc=exc)
            self.session = None
            self._met_cache.set()
            await asyncio.sleep(backoff.fail())

    async def _open_session(self) -> None:
        assert self._dial is not None  # noqa: S101 - the task runs only with a dial
        session = await self._dial()
        try:
            if not (self.patient and session.run_ids == self.run_ids):  # rule 9: else it counts, as far as anyone knows
                await self._introduce(session)
        except BaseException:
            session.close()
            raise
        self.cache_failure = ""
        self._met_cache.set()
        self._session_lost.clear()
        session.lost = self._lose_session
        self.session = session
        self._generations.uses_cache = True
        if not session.alive:  # it ended before `lost` was set
            self._lose_session()

    async def _introduce(self, session: Session) -> None:
        """Make the generation name the server of this session.  Raises Unreachable, DirectoryUnavailable."""
        if not await self._agree(session):
            raise Unreachable(session.refusal or NOT_WRITTEN)
        self._met_cache.set()
        asked = self._clock()
        row = await self._generations.ask()
        if row.run_ids != session.run_ids:
            asked = self._clock()
            row = await self._generations.open_for(session.run_ids)
            self.bumps += 1
        while row.run_ids == session.run_ids and row.run_ids_age_s <= self._lease_s:
            await asyncio.sleep(self._lease_s - max(row.run_ids_age_s, 0.0) + self._timing.lease_margin_s)
            asked = self._clock()
            row = await self._generations.ask()
        if row.run_ids != session.run_ids or not session.alive:
            raise Unreachable(session.refusal or REPLACED)
        await self._adopt(row, asked)
        if not await self._agree(session):
            raise Unreachable(session.refusal or NOT_WRITTEN)
        if self.run_ids != session.run_ids:  # the generation named another server meanwhile
            raise Unreachable(REPLACED)

    def _lose_session(self) -> None:
        self.cache_failure = (self.session and self.session.refusal) or "its connection ended"
        self.session = None
        self._generations.uses_cache = False
        self._session_lost.set()

    @property
    def failed_s_ago(self) -> float:
        """Return how long ago PostgreSQL did not answer; infinity if it always has."""
        return self._clock() - self._failed_at

    @property
    def generation_age_s(self) -> float:
        """Return how long ago this process saw the generation move; infinity if it never did."""
        return self._clock() - self._adopted_at if self._old_prefix else float("inf")

    @property
    def old_prefix(self) -> bytes:
        """Return the prefix of the generation before, or b"" while a process can still have a lease under it."""
        is_over = self.generation_age_s > self._lease_s + self._timing.lease_margin_s
        return self._old_prefix if is_over else b""

    # -- a change (rules 1, 3 and 4) ------------------------------------------------------------------------------

    def key(self, party_id_type: str, identifier: str) -> bytes:
        """Return the name of a copy in Redis, under the current generation."""
        return self.key_prefix + f"{party_id_type}:{identifier}".encode()

    async def fence(self, keys: Sequence[CopyKey]) -> Fence:
        """Set fences (rule 1).  If that fails, the caller moves the generation in its transaction (rule 4).

        Raises DirectoryUnavailable.
        """
        if not self.fresh:
            await self.confirm()
        session, begun_at = self.session, self._clock()
        self.fences += len(keys)
        if session is None:
            return Fence(tuple(keys), begun_at, self.generation, is_set=False, lineage=self.lineage)
        generation, lineage = self.generation, self.lineage
        is_set = await session.fence([self.key(*k) for k in keys], self._timing.fence_ms)
        return Fence(tuple(keys), begun_at, generation, is_set, lineage)

    def can_commit(self, fence: Fence) -> bool:
        """Check the time of the commit (rule 1): if it came later, the fence could expire before it takes effect."""
        return self._clock() - fence.begun_at <= self._timing.commit_max_s

    async def settle(self, fence: Fence) -> None:
        """Do what is due after the commit and before the acknowledgement (rules 3, 4, 5, 8, 10 and 11).

        Raises DirectoryUnavailable when the caller must not acknowledge the change: it is committed, but PostgreSQL
        does not answer any more, or another PostgreSQL does, which can have lost it.
        """
        if not fence.is_set:
            # The transaction moved the generation itself, so there is nothing to verify: a process that knows the new
            # generation read it after the commit, and reads the new state with it.
            await self.settle_move(fence.lineage)
            return
        await self._ask_again(fence.lineage)
        if not await self._verify(fence):
            await self.bump()
            await self._mark()
        # Other processes can hold a lease from before the last move that this process heard of.  Under that lease they
        # have copies that our fences do not cover.  Mostly that move is long past, and this does not wait.
        if await self._outlive_leases(self._adopted_at):
            await self._ask_again(fence.lineage)

    async def settle_move(self, lineage: Lineage) -> None:
        """Do what `settle` does for a change that moved the generation or the routes, after its commit.

        `lineage` is the one that the change began on.  Raises DirectoryUnavailable as `settle`.
        """
        committed_at = self._clock()
        await self._ask_again(lineage)
        await self._outlive_leases(committed_at)
        await self._ask_again(lineage)

    async def _ask_again(self, lineage: Lineage) -> None:
        await self._ask()
        await self._mark()
        if self.lineage != lineage:
            raise DirectoryUnavailable

    async def _outlive_leases(self, since: float) -> bool:
        """Wait until every lease that was renewed before `since` has ended (rule 5); return whether that took time."""
        ends_at = since + self._lease_s + self._timing.lease_margin_s
        waited = False
        while (left_s := ends_at - self._clock()) > 0:
            waited = True
            await asyncio.sleep(left_s)
        return waited

    async def bump(self) -> None:
        """Move the generation, so that all copies are unreachable (rule 4).  Raises DirectoryUnavailable."""
        asked = self._clock()
        await self._adopt(await self._generations.bump(), asked)
        self.bumps += 1

    async def _verify(self, fence: Fence) -> bool:
        """Check that the fences are there, and set missing ones again (rule 3); False if that is not certain."""
        session = self.session
        if session is None:
            return False
        keys = [self.key(*k) for k in fence.keys]
        missing = await session.find_unfenced(keys)
        if missing is None:
            return False
        return not missing or await session.fence(missing, self._timing.fence_ms)


def _set_result(future: asyncio.Future[list[bytes] | None], values: list[bytes] | None) -> None:
    if not future.done():  # the caller can be cancelled meanwhile
        future.set_result(values)


def _marker_of(row: Generation) -> Marker:
    return Marker(row.timeline, row.generation, row.routes_version, row.system_identifier)
