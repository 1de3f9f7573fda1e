"""Shares the event loop between bulks and lookups.

Some identifiers take 0.5 ms to read and others 1 µs, so work is cut by time, not by the number of items.  All bulks of
a process together have one slice in each turn of the loop: a lookup waits for one slice, however many bulks there are.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

SLICE_S: Final = 0.001


class Slices:
    """One per process.  A loop over items asks `over` after each of them, and then awaits `rest`."""

    def __init__(self, slice_s: float = SLICE_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._slice_s = slice_s
        self._clock = time.monotonic  # that of uvloop does not move during a turn
        self._ends_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def over(self) -> bool:
        return self._clock() >= self._ends_at

    async def rest(self) -> None:
        """Wait for the next slice."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._call_next)
        await turn
        self._ends_at = self._clock() + self._slice_s

    def _call_next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its bulk ran out of time while it waited
                turn.set_result(None)
                break
        if self._waiting:
            self._loop.call_soon(self._call_next)
