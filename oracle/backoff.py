"""Wait and try again: the pauses between tries, and a pause that ends when the process stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from math import inf


class Backoff:
    """Counts failures in a row, and gives a longer pause after each.

    pauses_s   after the first failure, the second, …; the last pause holds for all further failures.
    steady_s   a try that ran for longer was a success: its failure is the first of a new row.
    spread     each pause is shortened by a random part, up to this share of it, so that many processes do not try
               again all at the same time.
    """

    def __init__(self, pauses_s: Sequence[float], *, steady_s: float = inf, spread: float = 0.0) -> None:
        self._pauses_s = pauses_s
        self._steady_s = steady_s
        self._spread = spread
        self._failures = 0

    def fail(self, ran_s: float = 0.0) -> float:
        """Count the failure of a try that ran for `ran_s`; return the pause before the next try, in seconds."""
        self._failures = 1 if ran_s > self._steady_s else self._failures + 1
        pause_s = self._pauses_s[min(self._failures, len(self._pauses_s)) - 1]
        return pause_s * random.uniform(1 - self._spread, 1)  # noqa: S311 - spreads retries, keeps no secret

    def reset(self) -> None:
        """Count a success: the next failure is the first of a new row."""
        self._failures = 0


async def pause(seconds: float, stop: asyncio.Event) -> bool:
    """Wait for this long, or until `stop` is set; return whether it is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()
