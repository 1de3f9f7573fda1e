"""Keeps the answers of a source for a while: of a central ledger, about one FSP each.

Fresh.     An answer that is younger than fresh_s is returned at once, without a turn of the event loop.  In the last
           third of that time, its next use also asks again in the background: an FSP that is in use never waits.
Waits.     Without a fresh answer, the caller waits for one.  All callers that ask for the same key wait for the same
           question.
Stale.     While the source fails or is slow (patience_s), the old answer is returned, up to stale_s after it came.
           After a failure the source is not asked about this key for retry_s.
Nothing.   "There is none" is kept for nothing_s, and never returned later than that: while the source fails, nobody
           knows whether there is one now.
Bounds.    Keys come from headers that anybody can write.  Answers that exist and "there is none" are kept apart, each
           with its own limit, so invented names push out no name that exists.  Questions about keys that have no
           answer yet are limited in number (asking_max) and by a bucket that fills slowly (burst, each_s).  A question
           above these limits raises LedgerUnavailable: it is not answered with "there is none".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import msgspec

from oracle.scheme.base import LedgerUnavailable
from oracle.telemetry import logs

FRESH_PART: Final = 2 / 3  # of fresh_s, after which the next use asks again
HELD_MAX: Final = 5_000
NOTHING_MAX: Final = 2_000
ASKING_MAX: Final = 64
# A process that starts can ask about all FSPs of a scheme at once; after that, nobody needs so many new names.
BURST: Final = 1_000
EACH_S: Final = 0.02

_Value = TypeVar("_Value")

log = logs.Log(__name__)


class CacheTimes(msgspec.Struct, frozen=True):
    """How long answers count, in seconds."""

    fresh_s: float
    nothing_s: float
    stale_s: float
    patience_s: float = 1.0
    retry_s: float = 1.0


class Bucket:
    """Lets `burst` calls through at once, and later one each `each_s`."""

    def __init__(self, burst: int, each_s: float, clock: Callable[[], float]) -> None:
        self._burst, self._each_s, self._clock = burst, each_s, clock
        self._empty_at = clock() - burst * each_s  # so long ago it was empty

    def take(self) -> bool:
        now = self._clock()
        self._empty_at = max(self._empty_at, now - self._burst * self._each_s)
        if self._empty_at + self._each_s > now:
            return False
        self._empty_at += self._each_s
        return True


class _Held(Generic[_Value]):
    __slots__ = ("came_at", "fresh_until", "refresh_at", "value")

    def __init__(self, value: _Value, asked_at: float, fresh_s: float) -> None:
        self.value = value
        self.came_at = asked_at
        self.refresh_at = asked_at + fresh_s * FRESH_PART
        self.fresh_until = asked_at + fresh_s


class _Question(Generic[_Value]):
    """One call of the source, which many can wait for."""

    __slots__ = ("answer", "began_at", "epoch")

    def __init__(self, began_at: float, epoch: int) -> None:
        self.began_at = began_at
        self.epoch = epoch
        self.answer: asyncio.Future[_Value | None] = asyncio.get_running_loop().create_future()


class Cache(Generic[_Value]):
    """Answers of `ask(key)`, which returns None if there is none, and raises LedgerUnavailable if it fails."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[_Value | None]],
        times: CacheTimes,
        *,
        bucket: Bucket | None = None,
        held_max: int = HELD_MAX,
        nothing_max: int = NOTHING_MAX,
        asking_max: int = ASKING_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._times = times
        self._clock = clock
        self._bucket = bucket or Bucket(BURST, EACH_S, clock)
        self._held_max, self._nothing_max, self._asking_max = held_max, nothing_max, asking_max
        self._held: dict[str, _Held[_Value]] = {}  # oldest answers first
        self._nothing: dict[str, float] = {}  # until when
        self._failed: dict[str, float] = {}  # keys without an answer: until when not to ask again
        self._questions: dict[str, _Question[_Value]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown_asked = 0
        self._epoch = 0
        self._closed = False

    def __len__(self) -> int:
        """Count what is kept of any kind."""
        return len(self._held) + len(self._nothing) + len(self._failed)

    def recall(self, key: str) -> _Value | None:
        """Return an answer that needs no question now, also not in the background; None if `get` must be asked."""
        held = self._held.get(key)
        return held.value if held is not None and self._clock() < held.refresh_at else None

    async def get(self, key: str) -> _Value | None:
        """Return the answer about the key; None if there is none.  Raises LedgerUnavailable."""
        now = self._clock()
        held = self._held.get(key)
        if held is not None:
            if now < held.refresh_at:
                return held.value
            if now < held.fresh_until:
                held.refresh_at = now + self._times.retry_s
                if not self._closed:
                    self._begin(key, now)
                return held.value
        elif self._nothing.get(key, now) > now:
            return None
        return await self._wait(key, held, now)

    def forget(self) -> None:
        """Ask again about every key when it is needed next.  Old answers stay, for the case that the source fails."""
        self._epoch += 1
        for held in self._held.values():
            held.fresh_until = held.refresh_at = 0.0
        self._nothing.clear()
        self._failed.clear()

    async def close(self) -> None:
        """End all questions; those who wait get LedgerUnavailable."""
        self._closed = True
        for question in self._questions.values():
            self._fail(question, LedgerUnavailable())  # a task that is cancelled before its first step does not do it
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait(self, key: str, held: _Held[_Value] | None, now: float) -> _Value | None:
        usable = held is not None and now < held.came_at + self._times.stale_s
        question = self._questions.get(key)
        if question is None or question.epoch != self._epoch:
            if self._failed.get(key, now) > now:
                if usable and held is not None:
                    return held.value
                raise LedgerUnavailable
            question = self._begin(key, now, unknown=held is None)
        elif usable and held is not None and now >= question.began_at + self._times.patience_s:
            return held.value
        done, _ = await asyncio.wait((question.answer,), timeout=self._times.patience_s if usable else None)
        if usable and held is not None and (not done or isinstance(question.answer.exception(), LedgerUnavailable)):
            return held.value
        return question.answer.result()

    def _begin(self, key: str, now: float, *, unknown: bool = False) -> _Question[_Value]:
        """Ask the source, unless a question about this key is under way.  Raises LedgerUnavailable."""
        question = self._questions.get(key)
        if question is not None and question.epoch == self._epoch:
            return question
        if self._closed or (unknown and (self._unknown_asked >= self._asking_max or not self._bucket.take())):
            raise LedgerUnavailable
        question = self._questions[key] = _Question(now, self._epoch)
        self._unknown_asked += unknown
        task = asyncio.create_task(self._answer(key, question, unknown), name="ask about an FSP")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return question

    async def _answer(self, key: str, question: _Question[_Value], unknown: bool) -> None:
        try:
            value = await self._ask(key)
        except asyncio.CancelledError:
            self._fail(question, LedgerUnavailable())
            raise
        except Exception as exc:  # noqa: BLE001 - those who wait get it
            if not isinstance(exc, LedgerUnavailable):
                log.error("A question about an FSP failed", exc=exc)
            self._note(self._failed, key, self._clock() + self._times.retry_s)
            self._fail(question, exc)
        else:
            self._keep(key, value, question)
            if not question.answer.done():
                question.answer.set_result(value)
        finally:
            self._unknown_asked -= unknown
            if self._questions.get(key) is question:
                del self._questions[key]

    def _fail(self, question: _Question[_Value], error: Exception) -> None:
        if question.answer.done():
            return
        question.answer.set_exception(error)
        question.answer.exception()  # a question in the background has nobody who waits for its answer

    def _keep(self, key: str, value: _Value | None, question: _Question[_Value]) -> None:
        """Keep an answer as of the time when it was asked for, unless that was before `forget`."""
        if question.epoch != self._epoch:
            return
        self._failed.pop(key, None)
        self._held.pop(key, None)
        self._nothing.pop(key, None)
        if value is None:
            self._note(self._nothing, key, question.began_at + self._times.nothing_s)
            return
        if len(self._held) >= self._held_max:
            del self._held[next(iter(self._held))]
        self._held[key] = _Held(value, question.began_at, self._times.fresh_s)

    def _note(self, notes: dict[str, float], key: str, until: float) -> None:
        notes.pop(key, None)
        if len(notes) >= self._nothing_max:
            del notes[next(iter(notes))]
        notes[key] = until
