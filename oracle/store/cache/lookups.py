"""The lookup path below HTTP: joins many lookups into few reads.

    ask ─► all that arrive in one turn of the event loop ─► one MGET ─┬─ an answer ──────────────► done
                                                                      ├─ a fence, or another's token ─► PostgreSQL
                                                                      ├─ a copy that is refused (`tags`) ─► PostgreSQL
                                                                      └─ nothing ─► take a token ─► PostgreSQL ─► fill
    and all that go to PostgreSQL in one turn go as one query.

Equal keys share one slot while the slot waits, so a stampede on one key is one read.  A slot that was sent is closed: a
lookup that starts later must not share a read that began before it.  It could miss a change that was acknowledged in
between (promise A of `coherence`).

Callbacks, not tasks: a caller that goes away leaves a callback that does nothing, so it cannot end the read of the
others.  A key that cannot be served fails its own callers only.

Bounds.   See LookupLimits.  While the bounds are reached, waiting lookups make the next batch larger.
Deadline. timeout_s from `ask` to the answer.  Later than that a lookup gets Overloaded (its read never started) or
          DirectoryUnavailable.
Overload. PostgreSQL answers fewer lookups than the cache does, and a read that ends after the deadline is wasted.  So
          while its places are taken, a lookup that the cache did not answer gets Overloaded at once, if it would wait
          for longer than PATIENCE of the deadline: the queue, divided by the rate at which it moves (`pace.Pace`).
          Lookups from copies are not limited by it.  For those nothing is gained by an early refusal: the event loop
          spends most of a cached lookup before it knows the key, so to refuse costs nearly what the answer costs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Final

import msgspec

from oracle.errors import DirectoryUnavailable, Overloaded
from oracle.store.base import AnswerCallback, Copy, Reads, Session
from oracle.store.cache.coherence import Coherence
from oracle.store.cache.pace import Pace
from oracle.store.cache.values import new_token
from oracle.telemetry.metrics import Metrics

BATCH_MAX: Final = 256
CACHE_BATCHES: Final = 8
DATABASE_BATCHES: Final = 4
WAITING_MAX: Final = 20_000
FULL_AT: Final = 512
ROOM_CHECK_S: Final = 0.05

# When the generation moves again and again, copies are of use for a moment only, so they must not stay for long.
YOUNG_S: Final = 5.0
YOUNG_TTL_MS: Final = 30_000

CATCH_UP_PAUSE_S: Final = 0.03  # between two questions to PostgreSQL
# The part of the deadline that a lookup can wait for PostgreSQL, by the prediction; the rest is for its error.
PATIENCE: Final = 0.75

NOBODY = b"\x90"  # not Final: compiled code would have copies, and the schedules show what is lost with another value

# How many copies with a wrong tag a process removes in a second, so that others take their place.  Two services with
# different keys would remove each other's copies without end: this limits what that costs.
REMOVALS_MAX: Final = 500


class LookupLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much work one process takes on."""

    batch_max: int = BATCH_MAX  # keys in one read, so that one reply does not hold up the event loop
    cache_batches: int = CACHE_BATCHES  # reads in flight at Redis
    database_batches: int = DATABASE_BATCHES  # reads in flight at PostgreSQL
    # Callers that wait.  Further ones get Overloaded at once: 20,000 lookups are about a second of work for one
    # process, so more would wait past their deadline.
    waiting_max: int = WAITING_MAX
    # Callers that wait, from which on the next ones had better ask later: two full reads.  With more nothing becomes
    # faster, and each waits for longer.
    full_at: int = FULL_AT


LOOKUP_LIMITS: Final = LookupLimits()


class Fill(msgspec.Struct, frozen=True):
    """The right to store one answer: on this session, under this key, while it holds this token."""

    session: Session
    key: bytes
    token: bytes


class Slot:
    """One key that callers wait for."""

    __slots__ = ("asked_at", "callers", "fill", "identifier", "name", "party_id_type")

    def __init__(
        self, party_id_type: str, identifier: str, name: bytes, asked_at: float, callers: list[AnswerCallback]
    ) -> None:
        self.party_id_type = party_id_type
        self.identifier = identifier
        self.name = name  # of its copy in Redis, without the prefix of the generation
        self.asked_at = asked_at
        self.callers = callers
        self.fill: Fill | None = None


class Lookups:
    """One per process.  `ask` is the way in; everything else happens in callbacks."""

    # What each lookup reads.  An object of more than 30 attributes finds those in its dictionary more slowly.
    __slots__ = (
        "__dict__", "__weakref__", "_batch_max", "_begin_tag", "_cache_batches", "_cache_batches_max", "_cells",
        "_coherence", "_cold", "_count_cache_batches", "_count_reads", "_full", "_full_at", "_hot", "_loop", "_now",
        "_send_due", "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        coherence: Coherence,
        reads: Reads,
        metrics: Metrics,
        *,
        timeout_s: float,
        ttl_s: float,
        negative_ttl_s: float,
        limits: LookupLimits = LOOKUP_LIMITS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._coherence = coherence
        self._begin_tag = coherence.tags.begin
        self._removals_left = REMOVALS_MAX
        self._removals_since = float("-inf")
        self._reads = reads
        self._timeout_s = timeout_s
        self._batch_max = limits.batch_max
        self._cache_batches_max = limits.cache_batches
        self._database_batches_max = limits.database_batches
        self._waiting_max = limits.waiting_max
        self._full_at = min(limits.full_at, limits.waiting_max)
        self._ttl_ms = int(ttl_s * 1000)
        self._negative_ttl_ms = int(negative_ttl_s * 1000)
        self._hot: dict[bytes, Slot] = {}  # waiting for the next MGET, by name
        self._send_due = False  # in this turn of the event loop, which began at `_now`
        self._now = 0.0
        self._cold: dict[bytes, Slot] = {}  # waiting for the next query
        self._waiting = 0
        self._full = False
        self.on_full: Callable[[], None] = _do_nothing  # there is enough work: callers had better wait
        self.on_room: Callable[[], None] = _do_nothing  # afterwards, when some of it is done
        self._cache_batches = 0
        self._database_batches = 0
        self._database_pace = Pace(limits.database_batches)
        self._reading = 0  # keys at PostgreSQL
        self._taking_tokens = 0  # keys that wait for their tokens, then for PostgreSQL
        self._confirming = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._cells = metrics.cells
        slot = metrics.slot
        self._count_cache_batches, self._count_reads = slot("cache_batches_total"), slot("cache_reads_total")
        self._count_tokens = slot("cache_tokens_total")
        self._count_lost = slot("cache_fill_lost_total")
        self._count_fills, self._count_unreachable = (
            slot("cache_fills_total"),
            slot("cache_unreachable_total"),
        )
        self._count_batches, self._count_keys = (
            slot("database_batches_total"),
            slot("database_batched_keys_total"),
        )

    def ask(self, party_id_type: str, identifier: str, done: AnswerCallback) -> None:
        """Look up; `done` gets the answer (see `values`) or the reason why there is none, never before this returns."""
        if self._waiting >= self._full_at:
            if self._waiting >= self._waiting_max:
                self._loop.call_soon(done, Overloaded(), False)
                return
            if not self._full and self._count_moving() >= self._full_at:
                self._full = True
                self.on_full()
                self._loop.call_later(ROOM_CHECK_S, self._check_room)
        self._waiting += 1
        name = f"{party_id_type}:{identifier}".encode()
        slot = self._hot.get(name)
        if slot is not None:
            slot.callers.append(done)
            return
        if not self._send_due:
            self._send_due = True
            self._now = self._loop.time()
            self._loop.call_soon(self._send_all)
        self._hot[name] = Slot(party_id_type, identifier, name, self._now, [done])

    async def get(self, party_id_type: str, identifier: str) -> bytes:
        """Do as `ask` does, for callers that can wait.  Raises the reason why there is no answer."""
        future: asyncio.Future[bytes | Exception] = self._loop.create_future()
        self.ask(party_id_type, identifier, lambda answer, _: None if future.done() else future.set_result(answer))
        answer = await future
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- from the cache -------------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        """Send what arrived in this turn of the event loop."""
        self._send_due = False
        self._send()

    def _send(self) -> None:
        """Send the waiting lookups, as far as the bounds allow."""
        coherence = self._coherence
        while self._hot and self._cache_batches < self._cache_batches_max:
            fresh = coherence.fresh
            if not fresh and coherence.reachable:
                self._confirm_first()
                return
            batch = _take(self._hot, self._batch_max)
            session = coherence.session
            if session is None or not (fresh or coherence.patient):
                self._cells[self._count_unreachable] += 1
                self._go_all_cold(batch)
                continue
            prefix = coherence.key_prefix
            keys = [prefix + slot.name for slot in batch]
            self._cache_batches += 1
            self._cells[self._count_cache_batches] += 1
            self._cells[self._count_reads] += len(keys)
            flight = _Flight(self, batch, keys, session)
            if fresh:
                session.mget(keys, flight)
            else:  # rule 8
                session.mget_marked(coherence.marker_key, coherence.markers, keys, flight)

    def _wait_again(self, batch: list[Slot]) -> None:
        """Put lookups back in front of those that wait: nothing has been read for them."""
        waiting, self._hot = self._hot, {slot.name: slot for slot in batch}
        for name, slot in waiting.items():
            if name in self._hot:
                self._hot[name].callers += slot.callers
            else:
                self._hot[name] = slot

    def _confirm_first(self, pause_s: float = 0) -> None:
        """Renew the lease, which has expired (rule 5), then send.

        If PostgreSQL does not answer, `reachable` becomes False, and the waiting lookups go on with copies that the
        marker allows.
        """
        if self._confirming:
            return
        self._confirming = True
        self._spawn(self._confirm(pause_s))

    async def _confirm(self, pause_s: float) -> None:
        try:
            await asyncio.sleep(pause_s)
            while not await self._confirm_in_time():
                self._turn_away()
        finally:
            self._confirming = False
            self._loop.call_soon(self._send)

    async def _confirm_in_time(self) -> bool:
        """Renew the lease; return False if the deadline of the oldest lookup came first.

        With 100,000 new routes that takes longer than a lookup can wait.
        """
        oldest = next(iter(self._hot.values())).asked_at if self._hot else self._loop.time()
        try:
            async with asyncio.timeout_at(oldest + self._timeout_s) as patience:
                await self._coherence.confirm()
        except Exception:  # noqa: BLE001 - it has left `reachable` False; the poll of the lease logs it
            return not patience.expired()
        return True

    def _turn_away(self) -> None:
        """Refuse the waiting lookups whose deadline has passed."""
        late = self._loop.time() - self._timeout_s
        for name in [name for name, slot in self._hot.items() if slot.asked_at <= late]:
            self._call_back(self._hot.pop(name), Overloaded(), False)

    def _take_values(
        self, batch: list[Slot], keys: list[bytes], session: Session, values: list[bytes | None] | None
    ) -> None:
        self._cache_batches -= 1
        if values is None:
            if self._coherence.catches_up():
                self._wait_again(batch)
                self._confirm_first(CATCH_UP_PAUSE_S)
                return
            self._cells[self._count_unreachable] += 1
            self._go_all_cold(batch)
        else:
            absent: list[int] = []
            fenced: list[Slot] = []
            begin_tag, floor = self._begin_tag, self._coherence.floor
            for at, value in enumerate(values):
                if value is None:
                    absent.append(at)
                    continue
                redis_key = keys[at]
                # As `Tags.open` does, in line: each lookup from a copy passes here.
                if value > floor:
                    body = value[:-16]
                    tag = begin_tag()
                    tag.update(redis_key)
                    tag.update(body)
                    if body + tag.digest() == value:
                        self._call_back(batch[at], body[5:], True)
                        continue
                answer = self._examine(session, redis_key, value, floor)
                if answer is None:
                    fenced.append(batch[at])
                else:
                    self._call_back(batch[at], answer, True)
            if fenced:
                self._go_all_cold(fenced)
            if absent:
                admitted = self._admit([batch[at] for at in absent])
                if admitted:
                    self._take_tokens(admitted, [keys[at] for at in absent[: len(admitted)]], session)
        if self._full:
            self._make_room()
        if self._hot:
            self._send()

    def _go_all_cold(self, batch: list[Slot]) -> None:
        """Read the directory for lookups that store no copy."""
        for slot in self._admit(batch):
            self._go_cold(slot, None)

    def _examine(self, session: Session, redis_key: bytes, value: bytes, floor: bytes) -> bytes | None:
        """Return the answer of a copy with another tag than ours; None where the directory must answer.

        A copy that is refused is removed, and a fence or token ends, else the key would be slow for as long as the
        author wants.
        """
        tags = self._coherence.tags
        found = tags.open(redis_key, value, floor)
        if found is None:
            self._shorten(session, redis_key)
            return None
        if isinstance(found, bytes):
            return found
        tags.refuse(found)
        if found == "expired" or self._may_remove():
            session.remove(redis_key, value)
        return None

    def _shorten(self, session: Session, redis_key: bytes) -> None:
        """End what keeps a key from being filled, if it stays for longer than a fence of ours."""
        session.shorten(redis_key, self._coherence.fence_ms, self._refuse_fence)

    def _refuse_fence(self) -> None:
        self._coherence.tags.refuse("fence")

    def _may_remove(self) -> bool:
        now = self._loop.time()
        if now - self._removals_since >= 1:
            self._removals_since, self._removals_left = now, REMOVALS_MAX
        self._removals_left -= 1
        return self._removals_left >= 0

    def _take_tokens(self, absent: list[Slot], keys: list[bytes], session: Session) -> None:
        """Take tokens on the absent keys (rule 2), then read the directory."""
        token = new_token()  # one for the batch: no key is in it twice
        self._cells[self._count_tokens] += len(keys)
        self._taking_tokens += len(keys)

        def go_on(ours: list[bool]) -> None:
            self._taking_tokens -= len(keys)
            for slot, redis_key, mine in zip(absent, keys, ours, strict=True):
                if not mine:  # another's token; or no string, which MGET shows as absent
                    self._shorten(session, redis_key)
                self._go_cold(slot, Fill(session, redis_key, token) if mine else None)

        session.lease(keys, token, go_on)

    # -- from the directory ---------------------------------------------------------------------------------------

    def _admit(self, batch: list[Slot]) -> list[Slot]:
        """Return the first lookups of the batch, as many as PostgreSQL can answer in time; refuse the others."""
        free = self._database_batches_max - self._database_batches
        ahead = len(self._cold) + self._taking_tokens
        if free and ahead + len(batch) <= free * self._batch_max:
            return batch
        now = self._loop.time()
        left_s = self._timeout_s * PATIENCE - (now - batch[0].asked_at)
        room = max(free, self._database_pace.count_room(left_s, now)) * self._batch_max - ahead
        for slot in batch[max(0, room) :]:
            self._call_back(slot, Overloaded(), False)
        return batch[: max(0, room)]

    def _go_cold(self, slot: Slot, fill: Fill | None) -> None:
        present = self._cold.get(slot.name)
        if present is not None:  # not sent yet, so its read begins after both lookups started
            present.callers += slot.callers
            present.fill = fill or present.fill
            return
        slot.fill = fill
        if not self._cold:
            self._loop.call_soon(self._query)
        self._cold[slot.name] = slot

    def _query(self) -> None:
        while self._cold and self._database_batches < self._database_batches_max:
            batch = _take(self._cold, self._batch_max)
            self._database_batches += 1
            self._reading += len(batch)
            self._database_pace.enter(self._loop.time())
            self._cells[self._count_batches] += 1
            self._cells[self._count_keys] += len(batch)
            self._spawn(self._read_directory(batch))

    async def _read_directory(self, batch: list[Slot]) -> None:
        answers: list[bytes] | None = None
        failure: Exception = DirectoryUnavailable()
        with_routes = True
        try:
            oldest = min([slot.asked_at for slot in batch])
            left_s = self._timeout_s - (self._loop.time() - oldest)
            if left_s <= 0:
                failure = Overloaded()
            else:
                async with asyncio.timeout(left_s):
                    answers = await self._reads.answers([(slot.party_id_type, slot.identifier) for slot in batch])
                    if not self._coherence.fresh and NOBODY in answers:
                        # Routes decide then, and without a lease those of this process can be old.
                        with_routes = False
                        await self._coherence.confirm()
                        with_routes = self._coherence.fresh
        except (DirectoryUnavailable, TimeoutError):
            pass
        except Exception as exc:  # noqa: BLE001 - the callers get it, and the API logs it
            failure = exc
        finally:
            self._database_batches -= 1
            self._reading -= len(batch)
            self._database_pace.leave(self._loop.time(), full=bool(self._cold))
            for index, slot in enumerate(batch):
                answer = failure if answers is None else answers[index]
                if answer == NOBODY and not with_routes:
                    answer = failure
                self._call_back(slot, answer, False)
            if self._cold:
                self._loop.call_soon(self._query)
            if self._full:
                self._make_room()
        if answers is not None:
            self._fill(batch, answers)

    def _fill(self, batch: list[Slot], answers: list[bytes]) -> None:
        """Store the copies, after the callers have their answers.  However late a copy arrives, its token decides.

        Remove the copies of the generation before: nobody can read those, and they would stay until their TTL.
        """
        age_s = self._coherence.generation_age_s
        most_ms = self._ttl_ms if age_s > YOUNG_S else YOUNG_TTL_MS
        old_prefix = self._coherence.old_prefix if age_s * 1000 < self._ttl_ms * 1.1 else b""
        seal, now_s, spread = self._coherence.tags.seal, self._coherence.now_s(), random.random
        known_ms, nobody_ms = min(self._ttl_ms, most_ms), min(self._negative_ttl_ms, most_ms)
        fills: dict[Session, list[Copy]] = {}
        session: Session | None = None
        copies: list[Copy] = []
        old_keys: list[bytes] = []
        for slot, answer in zip(batch, answers, strict=True):
            fill = slot.fill
            if fill is None or not fill.session.alive:  # rule 7: on that very session or not at all
                continue
            if fill.session is not session:
                session = fill.session
                copies = fills.setdefault(session, [])
            key = fill.key
            # Spread, so that copies that were stored together do not expire together.
            ttl_ms = int((nobody_ms if answer == NOBODY else known_ms) * (0.9 + 0.2 * spread()))
            copies.append((key, fill.token, seal(key, answer, now_s + ttl_ms / 1000), ttl_ms))
            if old_prefix:
                old_keys.append(old_prefix + slot.name)
        if old_keys and session is not None:
            session.unlink(old_keys)
        for session, copies in fills.items():
            self._cells[self._count_fills] += len(copies)
            session.fill(copies, self._lose_fills)

    def _count_moving(self) -> int:
        """Count the callers that wait, without those that wait for a PostgreSQL that answers too slowly."""
        if self._database_batches < self._database_batches_max:
            return self._waiting
        now = self._loop.time()
        ahead = len(self._cold) + self._taking_tokens
        room = self._database_pace.count_room(self._timeout_s * PATIENCE, now) * self._batch_max
        return self._waiting if room > ahead else self._waiting - ahead - self._reading

    def _make_room(self) -> None:
        if self._count_moving() < self._full_at:
            self._full = False
            self.on_room()

    def _check_room(self) -> None:
        """Look from time to time: a PostgreSQL that hangs is noticed by nothing but the time that passes."""
        if self._full:
            self._make_room()
        if self._full:
            self._loop.call_later(ROOM_CHECK_S, self._check_room)

    def _lose_fills(self, count: int) -> None:
        self._cells[self._count_lost] += count

    def _call_back(self, slot: Slot, answer: bytes | Exception, cached: bool) -> None:
        """Answer all callers of a slot.  A caller that fails is reported; the other callers still get their answer."""
        callers = slot.callers
        self._waiting -= len(callers)
        for caller in callers:
            try:
                caller(answer, cached)
            except Exception as exc:  # noqa: BLE001 - any error here is the caller's own
                self._loop.call_exception_handler({"message": "A lookup's caller failed", "exception": exc})

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Flight:
    """An MGET on its way, and the lookups that it is for.  One per batch: cheaper than a closure, and readable in a
    profile.
    """

    __slots__ = ("batch", "keys", "lookups", "session")

    def __init__(self, lookups: Lookups, batch: list[Slot], keys: list[bytes], session: Session) -> None:
        self.lookups = lookups
        self.batch = batch
        self.keys = keys
        self.session = session

    def __call__(self, values: list[bytes | None] | None) -> None:
        self.lookups._take_values(self.batch, self.keys, self.session, values)  # noqa: SLF001 - two halves of one class


def _do_nothing() -> None:
    pass


def _take(waiting: dict[bytes, Slot], most: int) -> list[Slot]:
    """Remove and return the first `most` entries."""
    if len(waiting) <= most:
        batch = list(waiting.values())
        waiting.clear()
        return batch
    return [waiting.pop(key) for key in list(waiting)[:most]]
