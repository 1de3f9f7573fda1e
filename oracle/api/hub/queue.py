"""Decides which bulks are at work, and which wait.

A bulk holds memory, a connection to PostgreSQL and a share of the loop, so only a few are at work at a time, and one of
each FSP: nobody can take the places of the others.  The rest wait, in the order of their arrival, for half of the time
that a change can take.  The hub waits twice as long as a change can take, and never repeats a bulk: to wait is better
for it than to be refused.  What cannot wait is refused with `Overloaded` (503, code 2005).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from oracle import errors


class BulkLimits(msgspec.Struct, frozen=True, kw_only=True):
    running_max: int = 2  # PostgreSQL does most of the work, so two keep this process and PostgreSQL busy
    running_of_source_max: int = 1
    waiting_max: int = 32  # each takes 0.1 s to 2 s, so more would wait in vain
    waiting_of_source_max: int = 8


LIMITS: Final = BulkLimits()


class BulkQueue:
    """One per process."""

    def __init__(self, limits: BulkLimits = LIMITS) -> None:
        self._limits = limits
        self._running: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def admit(self, source: str, wait_s: float) -> AsyncIterator[None]:
        """Wait for a place, and keep it.  Raises Overloaded."""
        if self._has_place(source):
            self._running[source] += 1
        else:
            await self._wait(source, wait_s)
        try:
            yield
        finally:
            self._leave(source)

    def _has_place(self, source: str) -> bool:
        limits = self._limits
        return self._running.total() < limits.running_max and self._running[source] < limits.running_of_source_max

    async def _wait(self, source: str, wait_s: float) -> None:
        limits = self._limits
        of_source = sum(waiting == source for waiting, _ in self._waiting)
        if len(self._waiting) >= limits.waiting_max or of_source >= limits.waiting_of_source_max:
            raise errors.Overloaded
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (source, place)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(wait_s):
                await place
        except BaseException as exc:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:  # the place came at the same moment
                self._leave(source)
            if isinstance(exc, TimeoutError):
                raise errors.Overloaded from exc
            raise

    def _leave(self, source: str) -> None:
        self._running[source] -= 1
        if not self._running[source]:
            del self._running[source]  # else the sources of all times would stay
        for entry in tuple(self._waiting):
            if self._has_place(entry[0]):
                self._waiting.remove(entry)
                self._running[entry[0]] += 1
                entry[1].set_result(None)
