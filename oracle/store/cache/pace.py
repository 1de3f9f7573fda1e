"""Measures how fast PostgreSQL answers while work waits for it, and returns how much work can wait."""

from __future__ import annotations

from typing import Final

# Each batch counts this much less with each batch after it: the last four to eight decide.
FADE: Final = 0.8


class Pace:
    """Counts the batches that go to the places of a stage and leave them.  All times are of one clock, in seconds.

    Batches, not keys: a batch of few keys takes nearly as long as one of many.
    The stage is full while all its places are taken.  Only then its rate says what it can do: before, it is as fast
    as its callers.
    """

    __slots__ = ("_full_since", "_passed", "_places", "_taken", "_took_s")

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0
        self._passed = 0.0
        self._took_s = 0.0
        self._full_since: float | None = None  # the last batch left, or the stage became full

    def enter(self, now: float) -> None:
        self._taken += 1
        if self._taken == self._places and self._full_since is None:
            self._full_since = now

    def leave(self, now: float, *, full: bool) -> None:
        """Count a batch that is answered.  `full`: another one takes its place at once."""
        self._taken -= 1
        if self._full_since is not None:
            self._passed = self._passed * FADE + 1
            self._took_s = self._took_s * FADE + now - self._full_since
        self._full_since = now if full else None

    def count_room(self, seconds: float, now: float) -> int:
        """Return how many batches can wait for a stage that is full, so that the last is answered in `seconds`."""
        batch_s = self._took_s / self._passed if self._passed else 0.0
        if self._full_since is not None:
            # A stage that hangs lets nothing pass, so no measurement shows it: the silence does.
            batch_s = max(batch_s, (now - self._full_since) / self._places)
        if batch_s * 1e6 < seconds:
            return 1_000_000
        return max(0, int(seconds / batch_s) - self._places)
