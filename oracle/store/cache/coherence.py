"""The cache never lies: the protocol that keeps copies in Redis and the truth in PostgreSQL in step.

What is promised
    A  A lookup that starts after a change was acknowledged never answers the older state, in any process, through any
       one failure.
    B  Without failures lookups are linearizable, also around changes still in flight, while the generation stands.
       (For a lease after it has moved, one process may still answer what another no longer does.)
    C  A change committed by a process that then died is answered by every lookup that starts 1.5 s later.

The seven rules, each with the race it is there for
    1 fence       Before it commits, a change sets FENCE (3 s) on its keys, and commits within 2 s or rolls back.  One
                  whose statements took longer sets them again first.
                  Nobody deletes a fence.  A lookup that finds one reads PostgreSQL and stores nothing.
                  Race: a lookup reads the old row; the change commits and removes the copy; the lookup stores the old
                  row.  With the fence is_set from before the commit until after it, the store fails (rule 2).
    2 token       Who finds nothing takes the right to fill (SET NX GET, 1 s) and stores only while the key still holds
                  that very token.  Race: as above, and two fillers of which the slower has the older row.
    3 verify      After the commit and before the acknowledgement the change looks whether its fences stand under the
                  current generation, and sets them again.  Race: a flush, an eviction or a new generation between fence
                  and commit, and a lookup that filled in that gap from before the commit.
    4 generation  A number in PostgreSQL, part of every key.  A change that cannot fence moves it in its own
                  transaction, one that cannot verify right after: all older copies are out of reach at once.  A
                  trigger does the same for changes by hand.
    5 lease       Copies are believed for 1 s after PostgreSQL was asked for the generation (the time of asking
                  counts).  A change that moved the generation waits one lease before it is acknowledged, and so does
                  one that knows of a move for less than a lease: its fences stand under the new generation only.
                  Race: a process that has not heard of the new generation answers from the old one's copies.
    6 run id      The generation also names the servers whose copies count.  A connection to any other server first
                  moves it.  Race: Redis comes back with an old snapshot, or a lagging replica takes over.
                  And, beyond the model's single server: nobody trusts the new server before the leases of those who
                  may still be talking to the old one are over (`run_ids_age_s`), and who learns that his server is
                  not named any more hangs up.  Race: during a failover one process fences on the new primary while
                  another still reads its copy from the old one, which is alive and cut off.
    7 session     A command goes out on the connection, and under the generation, for which its key was composed.
                  Race: a fill composed before a reconnect arrives at a server that knows nothing of the fence.

If PostgreSQL cannot be asked, nothing can be committed either: a process goes on answering from copies until their
TTL (`degraded`).  Only with a second failure, others changing the directory without Redis meanwhile, can that be old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from oracle.backoff import Backoff
from oracle.errors import DirectoryUnavailable
from oracle.store.base import Generation, Generations, Session
from oracle.store.cache.session import Unreachable
from oracle.telemetry import logs

log = logs.Log(__name__)

LEASE_S: Final = 1.0
# What waits for the others' leases to end waits a little longer: two clocks and two timers are never quite alike.
LEASE_MARGIN_S: Final = 0.01
POLL_S: Final = 0.3  # three tries within a lease
FENCE_MS: Final = 3_000
COMMIT_MAX_S: Final = 2.0
TOKEN_MS: Final = 1_000
# How long to stay away from a Redis that just failed: half to once this, so that processes do not come back in step.
REDIAL_PAUSES_S: Final = (0.25, 0.5, 1.0, 2.0)


class Fence(msgspec.Struct, frozen=True):
    """Keys a change has fenced, or tried to; `is_set` False means: move the generation."""

    keys: tuple[tuple[str, str], ...]
    begun: float  # when, before the first fence was sent; the commit must come within COMMIT_MAX_S of it
    generation: int  # under which they stand
    is_set: bool


class Coherence:
    """What this process may believe: its generation, its lease, its session.  One per process, one event loop."""

    def __init__(
        self,
        generations: Generations,
        dial: Callable[[], Awaitable[Session]] | None,
        prefix: str,
        routes_reload: Callable[[int], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`dial` opens a session to Redis or raises Unreachable; None: there is no cache at all.

        `routes_reload(version)` is awaited before a lease is renewed that says the routes have moved.
        `clock` is read anew each time: the event loop's own stands still during a long callback, and a lease would not.
        """
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._generations = generations
        self._dial = dial
        self._prefix = prefix
        self._routes_reload = routes_reload
        self._confirming: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._session_lost = asyncio.Event()
        self.session: Session | None = None
        self.generation = 0
        self.key_prefix = b""
        self.confirmed_at = float("-inf")
        self._adopted_at = float("-inf")
        self.run_ids: tuple[str, ...] = ()
        self.routes_version = 0
        self.reachable = False  # PostgreSQL, at the last asking
        self._lease_state = logs.Condition(log, "lease")
        self.bumps = 0
        self.fences = 0

    # -- start and stop -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Learn the generation (raises DirectoryUnavailable), then keep lease and session alive in the background."""
        await self._confirm()
        self._tasks.append(self._loop.create_task(self._keep_lease()))
        if self._dial is not None:
            self._tasks.append(self._loop.create_task(self._keep_session()))

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []  # no hint begins anything from here on
        if self._confirming is not None:
            tasks.append(self._confirming)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.session is not None:
            self.session.close()
            self.session = None

    def take_counts(self) -> tuple[int, int]:
        """Times this process moved the generation, and fences it set, since this was last asked."""
        taken = self.bumps, self.fences
        self.bumps = self.fences = 0
        return taken

    # -- the lease (rule 5) ---------------------------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        return self._clock() - self.confirmed_at <= LEASE_S

    @property
    def degraded(self) -> bool:
        """Answering from copies although PostgreSQL has not vouched for them within the lease."""
        return not self.fresh

    async def confirm(self) -> None:
        """Ask PostgreSQL for the generation; whoever asks meanwhile shares the answer.  Raises DirectoryUnavailable.

        Shared is right: an answer is as fresh as the moment of asking, and that is what `fresh` looks at.
        """
        if self._confirming is None:
            self._confirming = self._loop.create_task(self._confirm())
            self._confirming.add_done_callback(self._confirmed)
        await asyncio.shield(self._confirming)

    def _confirmed(self, task: asyncio.Task[None]) -> None:
        self._confirming = None
        if not task.cancelled():
            task.exception()  # seen: each waiter has got it, or nobody waits

    async def _confirm(self) -> None:
        try:
            try:
                await self._ask()
            except DirectoryUnavailable:
                if self.fresh or not self.reachable:
                    raise
                # The last asking had an answer, and the lease ran out during this one.  That is what a stall of this
                # process looks like when it wakes: its own time-out fires before the answer is read.  Others may have
                # moved the generation meanwhile, so copies are not to be believed on the strength of that.
                await self._ask()
        except Exception:
            self.reachable = False
            raise
        self.reachable = True

    async def _ask(self) -> None:
        asked = self._clock()
        await self._adopt(await self._generations.ask(), asked)

    async def _adopt(self, row: Generation, asked: float) -> None:
        if row.routes_version != self.routes_version and self._routes_reload is not None:
            await self._routes_reload(row.routes_version)
        self.routes_version = row.routes_version
        if row.generation < self.generation and asked > self._adopted_at:
            # Asked after the higher one was known, and still lower: the database has lost commits (a failover, a
            # restore).  Copies of what is lost are out there under the numbers to come, so those are passed over.
            row = await self._generations.raise_above(self.generation)
            self.bumps += 1
        if row.generation >= self.generation:
            if row.generation > self.generation:
                self._adopted_at = self._clock()
            self.generation = row.generation
            self.run_ids = row.run_ids
            self.key_prefix = f"{self._prefix}:{row.directory_id[:8]}.{row.generation}:".encode()
            self.confirmed_at = max(self.confirmed_at, asked)
            if self.session is not None and self.session.run_ids != row.run_ids:
                self.session.close()  # rule 6: this server is not named any more

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.confirm()
            except DirectoryUnavailable:
                pass
            except Exception as exc:  # noqa: BLE001 - a lease that nobody renews any more would be worse
                self._lease_state.now("failing", exc=exc)
            else:
                self._lease_state.now("ok")

    def hint(self) -> None:
        """PostgreSQL has told (LISTEN) that something moved: ask now instead of at the next poll."""
        if self._confirming is None and self._tasks:
            self._confirming = self._loop.create_task(self._confirm())
            self._confirming.add_done_callback(self._confirmed)

    # -- the session (rules 6 and 7) ------------------------------------------------------------------------------

    async def _keep_session(self) -> None:
        backoff = Backoff(REDIAL_PAUSES_S, spread=0.5)
        while True:
            try:
                await self._open_session()
                backoff.reset()
                await self._session_lost.wait()
            except (Unreachable, DirectoryUnavailable):
                pass
            except Exception as exc:  # noqa: BLE001 - a cache that is never tried again would be worse
                log.error("cache not opened", exc=exc)
            self.session = None
            await asyncio.sleep(backoff.fail())

    async def _open_session(self) -> None:
        assert self._dial is not None  # noqa: S101 - the task runs only with a dial
        session = await self._dial()
        try:
            asked = self._clock()
            row = await self._generations.ask()
            if row.run_ids != session.run_ids:
                asked = self._clock()
                row = await self._generations.open_for(session.run_ids)
                self.bumps += 1
            while row.run_ids == session.run_ids and row.run_ids_age_s <= LEASE_S:
                await asyncio.sleep(LEASE_S - max(row.run_ids_age_s, 0.0) + 0.01)
                asked = self._clock()
                row = await self._generations.ask()
            if row.run_ids != session.run_ids or not session.alive:
                raise Unreachable
            await self._adopt(row, asked)
            if self.run_ids != session.run_ids:  # while the routes were read, another server was named
                raise Unreachable
        except BaseException:
            session.close()
            raise
        self._session_lost.clear()
        session.lost = self._lose_session
        self.session = session
        if not session.alive:  # it died while nobody was listening
            self._lose_session()

    def _lose_session(self) -> None:
        self.session = None
        self._session_lost.set()

    # -- a change (rules 1, 3 and 4) ------------------------------------------------------------------------------

    def key(self, party_id_type: str, identifier: str) -> bytes:
        return self.key_prefix + f"{party_id_type}:{identifier}".encode()

    async def fence(self, keys: Sequence[tuple[str, str]]) -> Fence:
        """Rule 1.  Without a is_set fence the caller bumps the generation in its transaction (rule 4)."""
        if not self.fresh:
            await self.confirm()
        session, begun = self.session, self._clock()
        self.fences += len(keys)
        if session is None:
            return Fence(tuple(keys), begun, self.generation, is_set=False)
        generation = self.generation
        is_set = await session.fence([self.key(*k) for k in keys], FENCE_MS)
        return Fence(tuple(keys), begun, generation, is_set)

    def in_time(self, fence: Fence) -> bool:
        """Whether the change may still commit (rule 1): later, its fence could be gone before the commit counts."""
        return self._clock() - fence.begun <= COMMIT_MAX_S

    async def settle(self, fence: Fence) -> None:
        """After the commit, before the acknowledgement (rules 3, 4 and 5).

        Raises DirectoryUnavailable when neither Redis nor PostgreSQL can be told: the change stands, but must not be
        acknowledged.
        """
        asked = self._clock()
        await self._adopt(await self._generations.ask(), asked)
        if not fence.is_set:
            # The transaction moved the generation itself.  There is nothing to verify then: whoever knows the new
            # generation read it after the commit, and reads the new state with it.
            await self.outlive_leases()
            return
        if not await self._verified(fence):
            await self.bump()
        # Others may hold a lease for what was before the move this process has heard of last, and copies under it
        # that no fence of ours has touched.  Mostly that was long ago.
        await self._outlive_leases(self._adopted_at)

    async def outlive_leases(self) -> None:
        """Wait until nobody goes by what stood before now (rule 5)."""
        await self._outlive_leases(self._clock())

    async def _outlive_leases(self, since: float) -> None:
        """Wait until every lease that was renewed before `since` is over."""
        while (left_s := since + LEASE_S + LEASE_MARGIN_S - self._clock()) > 0:  # noqa: ASYNC110 - a time it is
            await asyncio.sleep(left_s)

    async def bump(self) -> None:
        """Make all copies unreachable (rule 4).  Raises DirectoryUnavailable."""
        asked = self._clock()
        await self._adopt(await self._generations.bump(), asked)
        self.bumps += 1

    async def _verified(self, fence: Fence) -> bool:
        session = self.session
        if session is None:
            return False
        keys = [self.key(*k) for k in fence.keys]
        missing = await session.unfenced(keys)
        if missing is None:
            return False
        return not missing or await session.fence(missing, FENCE_MS)
