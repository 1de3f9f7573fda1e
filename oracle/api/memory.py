"""Gives memory back to the system after a burst.

A refused call leaves its body in a cycle of references (exception, traceback, frame), and Python counts objects, not
bytes, until it looks for cycles.  The C library keeps what was freed between blocks that are still in use: after 120
bodies of 0.9 MB, 121 MiB stayed; after `malloc_trim`, 62 MiB.  A fixed M_MMAP_THRESHOLD did not help.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_PAGE_BYTES: Final = resource.getpagesize()
WAIT_MAX_S: Final = 60.0
_STATM: Final = Path("/proc/self/statm")
_libc: Any = ctypes.CDLL(None)


class Spare:
    """Memory that the process has and no longer needs."""

    def __init__(
        self, *, grown_bytes: int = 32 * 1024 * 1024, every_s: float = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._grown_bytes = grown_bytes
        self._every_s = self._wait_s = every_s
        self._clock = clock
        self._least_bytes = read_rss_bytes()
        self._at = clock()

    def give_back(self) -> bool:
        """Give memory back if the process has much more than it had once; return whether this was tried."""
        if self._clock() - self._at < self._wait_s or not self._has_grown():
            return False
        gc.collect()
        if hasattr(_libc, "malloc_trim"):  # musl has none
            _libc.malloc_trim(0)
        # What is in use stays, so do not try as often.
        self._wait_s = min(2 * self._wait_s, WAIT_MAX_S) if self._has_grown() else self._every_s
        self._at = self._clock()
        return True

    def _has_grown(self) -> bool:
        rss_bytes = read_rss_bytes()
        self._least_bytes = min(self._least_bytes, rss_bytes)
        return rss_bytes - self._least_bytes >= self._grown_bytes


def read_rss_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
