"""Joins registrations that arrive together: one transaction for all, as lookups are one read.

Gather.    A registration that arrives while none is under way goes at once.  Those that arrive meanwhile form the next
           batch.  So nobody waits for others to come, and the batches grow with the load.  One that is by itself is
           done as any other change.
Contexts.  Each registration keeps its own: who asks, and in which trace.  History shows no difference.
Keys.      A batch has each key once.  A registration whose key is under way waits, so equal keys keep their order.
Alone.     What needs more than a new entry under a free key is done alone, after its batch: an unknown FSP, a hint, a
           further currency, a key that somebody took meanwhile.  So are all of a batch that failed or waited too long
           for a lock.  Each of them then has the rest of its own time.
Unknown.   When nobody knows whether a batch was committed, its new entries are not acknowledged (`repairs`).
Next.      A batch begins when the transaction of the last one has ended, or takes longer than PATIENCE_S.  So one that
           waits for a lock holds up nobody else.  Nor does the settling of one, which takes a lease without Redis.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from typing import Any, Final

from oracle.identifiers import PartyKey
from oracle.store.aliases import ChangeResult
from oracle.store.base import Context, OwnRegistration, Registration
from oracle.store.changes import Changes

BATCH_MAX: Final = 128  # which take some 0.5 ms to encode
PATIENCE_S: Final = 0.1


class _Call:
    """A registration that somebody waits for."""

    __slots__ = ("answer", "ended", "holds_key", "key", "wanted")

    def __init__(self, wanted: OwnRegistration, answer: asyncio.Future[ChangeResult | None]) -> None:
        self.wanted = wanted
        self.key: PartyKey = wanted.registration.key
        self.answer = answer
        self.holds_key = False  # it is done alone, and nobody else may begin with its key
        self.ended: Callable[[], None] | None = None  # to call when its own transaction has ended


class Registrations:
    """The registrations of one process, one alias each."""

    def __init__(self, changes: Changes, *, limit_s: float) -> None:
        """`limit_s`: how long a batch can take."""
        self._loop = asyncio.get_running_loop()
        self._changes = changes
        self._limit_s = limit_s
        self._waiting: deque[_Call] = deque()
        self._busy: set[PartyKey] = set()  # the keys that are under way
        self._runs = False  # the transaction of a batch
        self._is_due = False  # a look at those that wait
        self._tasks: set[asyncio.Task[None]] = set()

    async def register(self, context: Context, registration: Registration) -> ChangeResult:
        """Register an alias for the FSP of the context.  Raises DirectoryUnavailable, as `Changes.register`."""
        call = _Call(OwnRegistration(context, registration), self._loop.create_future())
        self._waiting.append(call)
        self._look_soon()
        try:
            result = await call.answer
            if result is None:
                (result,) = await self._changes.register(context, context.fsp_id, [registration], ended=call.ended)
            return result
        finally:
            if call.ended is not None:
                call.ended()
            if call.holds_key:
                self._busy.discard(call.key)
                self._look_soon()

    async def close(self) -> None:
        """Wait until the batches have ended whose callers have given up."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _look_soon(self) -> None:
        """Begin the next batch in the next turn of the loop: all that arrive in this turn are in it."""
        if self._waiting and not self._runs and not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._is_due = False
        if self._runs or not (calls := self._take()):
            return
        self._runs = True
        if len(calls) == 1:
            calls[0].ended = self._make_end()
            self._answer(calls, [None])
        else:
            self._spawn(self._run(calls))

    def _make_end(self) -> Callable[[], None]:
        """Make what is called, once or more often, when the transaction that now begins has ended."""
        runs = True

        def end() -> None:
            nonlocal runs
            if runs:
                runs = self._runs = False
                timer.cancel()
                self._look_soon()

        timer = self._loop.call_later(PATIENCE_S, end)
        return end

    def _take(self) -> list[_Call]:
        """Take the next batch from those that wait."""
        taken: list[_Call] = []
        left: list[_Call] = []
        while self._waiting and len(taken) < BATCH_MAX:
            call = self._waiting.popleft()
            if call.answer.done():  # its caller has given up
                continue
            if call.key in self._busy:
                left.append(call)
                continue
            self._busy.add(call.key)
            taken.append(call)
        self._waiting.extendleft(reversed(left))
        return taken

    async def _run(self, calls: list[_Call]) -> None:
        end = self._make_end()
        results: list[ChangeResult | None] = [None] * len(calls)
        try:
            wanted = [call.wanted for call in calls]
            results = await self._changes.register_together(wanted, limit_s=self._limit_s, ended=end)
        finally:
            self._answer(calls, results)
            end()
            self._look_soon()

    def _answer(self, calls: list[_Call], results: list[ChangeResult | None]) -> None:
        for call, result in zip(calls, results, strict=True):
            if result is None and not call.answer.done():
                call.holds_key = True
            else:
                self._busy.discard(call.key)
            if not call.answer.done():
                call.answer.set_result(result)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # In no caller's name: a batch belongs to all of them.
        task = self._loop.create_task(work, context=Variables())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
