"""The lookup path below HTTP: many lookups in, few reads out.

    ask ─► all that arrive in one turn of the event loop ─► one MGET ─┬─ an answer ──────────────► done
                                                                      ├─ a fence, or somebody's token ─► PostgreSQL
                                                                      └─ nothing ─► take a token ─► PostgreSQL ─► fill
    and what goes to PostgreSQL in one turn goes as one query.

Equal keys share one slot while the slot waits, so a stampede on one key is one read.  A slot that has been sent is
closed: a lookup that starts later must not share a read that began before it, or it could miss a change that was
acknowledged in between (promise A of `coherence`).

Callbacks, not tasks: a caller that goes away leaves a callback that does nothing, so it cannot take the others' read
with it; one key that cannot be served fails its own callers.

Bounds.   BATCH_MAX keys in one read, so that one reply does not hold up the loop; CACHE_BATCHES and DATABASE_BATCHES in
          flight, what comes meanwhile makes the next batch larger; WAITING_MAX callers in all, beyond it Overloaded at
          once (20,000 lookups are about a second of work for one process: more would wait past their deadline).
Deadline. timeout_s from ask to answer; what waits longer gets Overloaded (it never started) or DirectoryUnavailable.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Final

import msgspec

from oracle.errors import DirectoryUnavailable, Overloaded
from oracle.store.base import Answered, Reads, Session
from oracle.store.cache.coherence import Coherence
from oracle.store.cache.values import ANSWER, new_token
from oracle.telemetry.metrics import Metrics

BATCH_MAX: Final = 256
CACHE_BATCHES: Final = 8
DATABASE_BATCHES: Final = 4
WAITING_MAX: Final = 20_000

Key = tuple[str, str]  # party_id_type, identifier
NOBODY: Final = b"V\x90"


class Fill(msgspec.Struct, frozen=True):
    """The right to store one answer: on this session, under this key, while it holds this token."""

    session: Session
    key: bytes
    token: bytes


class Slot:
    """One key that is waited for."""

    __slots__ = ("asked_at", "callers", "fill")

    def __init__(self, asked_at: float, callers: list[Answered], fill: Fill | None = None) -> None:
        self.asked_at = asked_at
        self.callers = callers
        self.fill = fill


class Lookups:
    """One per process.  `ask` is the way in; everything else happens in callbacks."""

    def __init__(
        self,
        coherence: Coherence,
        reads: Reads,
        metrics: Metrics,
        *,
        timeout_s: float,
        ttl_s: float,
        negative_ttl_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._coherence = coherence
        self._reads = reads
        self._timeout_s = timeout_s
        self._ttl_ms = int(ttl_s * 1000)
        self._negative_ttl_ms = int(negative_ttl_s * 1000)
        self._hot: dict[Key, Slot] = {}  # waiting for the next MGET
        self._cold: dict[Key, Slot] = {}  # waiting for the next query
        self._waiting = 0
        self._cache_batches = 0
        self._database_batches = 0
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

    def ask(self, party_id_type: str, identifier: str, done: Answered) -> None:
        """`done` gets the answer (see values) or the reason why there is none, never before this returns."""
        if self._waiting >= WAITING_MAX:
            self._loop.call_soon(done, Overloaded(), False)
            return
        key = (party_id_type, identifier)
        slot = self._hot.get(key)
        if slot is not None:
            self._waiting += 1
            slot.callers.append(done)
            return
        if not self._hot:
            self._loop.call_soon(self._send)
        self._waiting += 1
        self._hot[key] = Slot(self._loop.time(), [done])

    async def get(self, party_id_type: str, identifier: str) -> bytes:
        """`ask` for those who can wait.  Raises what `ask` hands out."""
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

    def _send(self) -> None:
        """Send what waits, as far as the bounds allow."""
        coherence = self._coherence
        while self._hot and self._cache_batches < CACHE_BATCHES:
            if not coherence.fresh and coherence.reachable:
                self._confirm_first()
                return
            batch = _take(self._hot, BATCH_MAX)
            session = coherence.session
            if session is None:
                self._cells[self._count_unreachable] += 1
                for key, slot in batch:
                    self._go_cold(key, slot, None)
                continue
            prefix = coherence.key_prefix
            keys = [prefix + f"{t}:{i}".encode() for (t, i), _ in batch]
            self._cache_batches += 1
            self._cells[self._count_cache_batches] += 1
            self._cells[self._count_reads] += len(keys)
            session.mget(keys, _Read(self, batch, keys, session))

    def _confirm_first(self) -> None:
        """The lease has run out (rule 5): ask, then send.  When PostgreSQL does not answer, `reachable` says so, and
        what waits goes on with the copies there are.
        """
        if self._confirming:
            return
        self._confirming = True
        self._spawn(self._confirm())

    async def _confirm(self) -> None:
        try:
            while await self._confirms_too_late():
                self._turn_away()
        finally:
            self._confirming = False
            self._loop.call_soon(self._send)

    async def _confirms_too_late(self) -> bool:
        """For the one that has waited longest.  With 100,000 new routes a lease may take longer than a lookup has."""
        oldest = next(iter(self._hot.values())).asked_at if self._hot else self._loop.time()
        try:
            async with asyncio.timeout_at(oldest + self._timeout_s) as patience:
                await self._coherence.confirm()
        except Exception:  # noqa: BLE001 - it has left `reachable` False; the poll of the lease logs it
            return patience.expired()
        return False

    def _turn_away(self) -> None:
        """Those in the queue whose deadline is over."""
        late = self._loop.time() - self._timeout_s
        for key in [key for key, slot in self._hot.items() if slot.asked_at <= late]:
            self._answered(self._hot.pop(key), Overloaded(), cached=False)

    def _read(
        self,
        batch: list[tuple[Key, Slot]],
        keys: list[bytes],
        session: Session,
        values: list[bytes | None] | None,
    ) -> None:
        self._cache_batches -= 1
        if values is None:
            self._cells[self._count_unreachable] += 1
            for key, slot in batch:
                self._go_cold(key, slot, None)
        else:
            absent: list[tuple[Key, Slot]] = []
            absent_keys: list[bytes] = []
            for (key, slot), redis_key, value in zip(batch, keys, values, strict=True):
                if value is None:
                    absent.append((key, slot))
                    absent_keys.append(redis_key)
                elif value[:1] == ANSWER:
                    self._answered(slot, value, cached=True)
                else:
                    self._go_cold(key, slot, None)
            if absent:
                self._lease(absent, absent_keys, session)
        if self._hot:
            self._send()

    def _lease(self, absent: list[tuple[Key, Slot]], keys: list[bytes], session: Session) -> None:
        """Rule 2: the right to fill, where nobody else has it."""
        tokens = [new_token() for _ in keys]
        self._cells[self._count_tokens] += len(keys)

        def leased(ours: list[bool]) -> None:
            for (key, slot), redis_key, token, mine in zip(absent, keys, tokens, ours, strict=True):
                self._go_cold(key, slot, Fill(session, redis_key, token) if mine else None)

        session.lease(keys, tokens, leased)

    # -- from the directory ---------------------------------------------------------------------------------------

    def _go_cold(self, key: Key, slot: Slot, fill: Fill | None) -> None:
        present = self._cold.get(key)
        if present is not None:  # not sent yet, so its read begins after both have asked
            present.callers += slot.callers
            present.fill = fill or present.fill
            return
        slot.fill = fill
        if not self._cold:
            self._loop.call_soon(self._query)
        self._cold[key] = slot

    def _query(self) -> None:
        while self._cold and self._database_batches < DATABASE_BATCHES:
            batch = _take(self._cold, BATCH_MAX)
            self._database_batches += 1
            self._cells[self._count_batches] += 1
            self._cells[self._count_keys] += len(batch)
            self._spawn(self._answer(batch))

    async def _answer(self, batch: list[tuple[Key, Slot]]) -> None:
        answers: list[bytes] | None = None
        failure: Exception = DirectoryUnavailable()
        try:
            oldest = min(slot.asked_at for _, slot in batch)
            left_s = self._timeout_s - (self._loop.time() - oldest)
            if left_s <= 0:
                failure = Overloaded()
            else:
                async with asyncio.timeout(left_s):
                    answers = await self._reads.answers([key for key, _ in batch])
        except (DirectoryUnavailable, TimeoutError):
            pass
        except Exception as exc:  # noqa: BLE001 - the callers are told, and the API logs it
            failure = exc
        finally:
            self._database_batches -= 1
            for index, (_, slot) in enumerate(batch):
                self._answered(slot, failure if answers is None else answers[index], cached=False)
            if self._cold:
                self._loop.call_soon(self._query)
        if answers is not None:
            self._fill(batch, answers)

    def _fill(self, batch: list[tuple[Key, Slot]], answers: list[bytes]) -> None:
        """After the callers have their answers: however late the copy arrives, the token decides (rule 2)."""
        for (_, slot), answer in zip(batch, answers, strict=True):
            fill = slot.fill
            if fill is not None and fill.session.alive:  # rule 7: on that very connection or not at all
                ttl_ms = self._negative_ttl_ms if answer == NOBODY else self._ttl_ms
                # Spread, so that what was filled together does not expire together.
                spread_ms = int(ttl_ms * random.uniform(0.9, 1.1))  # noqa: S311
                fill.session.fill(fill.key, fill.token, answer, spread_ms, self._lose_fill)
                self._cells[self._count_fills] += 1

    def _lose_fill(self) -> None:
        self._cells[self._count_lost] += 1

    def _answered(self, slot: Slot, answer: bytes | Exception, *, cached: bool) -> None:
        """A caller that fails is reported and fails nobody else: the others of its batch are still to be answered."""
        callers = slot.callers
        self._waiting -= len(callers)
        for caller in callers:
            try:
                caller(answer, cached)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is the caller's
                self._loop.call_exception_handler({"message": "A lookup's caller failed", "exception": exc})

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Read:
    """What an MGET was for.  A class of slots: one per batch, cheaper than a closure and readable in a profile."""

    __slots__ = ("batch", "keys", "lookups", "session")

    def __init__(self, lookups: Lookups, batch: list[tuple[Key, Slot]], keys: list[bytes], session: Session) -> None:
        self.lookups = lookups
        self.batch = batch
        self.keys = keys
        self.session = session

    def __call__(self, values: list[bytes | None] | None) -> None:
        self.lookups._read(self.batch, self.keys, self.session, values)  # noqa: SLF001 - two halves of one class


def _take(waiting: dict[Key, Slot], most: int) -> list[tuple[Key, Slot]]:
    """Remove and return the first `most` entries."""
    if len(waiting) <= most:
        batch = list(waiting.items())
        waiting.clear()
        return batch
    batch = [(key, waiting[key]) for key in list(waiting)[:most]]
    for key, _ in batch:
        del waiting[key]
    return batch
