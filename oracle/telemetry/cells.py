"""What each lookup does with the cells of `metrics`.  A module of its own, because this part is compiled."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

# Upper ends, inclusive: a cached lookup takes well under a millisecond, and the hub gives up after seconds.
# With the type, mypyc keeps one object; without it, it would keep 13 numbers and make a tuple for each call.
BOUNDS: Final[tuple[float, ...]] = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BUCKETS: Final = len(BOUNDS) + 1  # the last one is +Inf; the sum follows the buckets


def observe(cells: memoryview[float], slot: int, seconds: float) -> None:
    """Count a duration in a histogram, whose first cell is `slot`."""
    cells[slot + bisect_left(BOUNDS, seconds)] += 1
    cells[slot + BUCKETS] += seconds
