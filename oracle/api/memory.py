"""Gives memory back to the system after a burst.

The C library keeps what was freed between blocks that are still in use.  Measured after 120 bodies of 0.9 MB: 121 MiB
stayed, and after `malloc_trim` 62 MiB, in 12 ms.  A fixed M_MMAP_THRESHOLD did not help.
"""

from __future__ import annotations

import ctypes
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_PAGE_BYTES: Final = resource.getpagesize()
_STATM: Final = Path("/proc/self/statm")
_libc: Any = ctypes.CDLL(None)


class Spare:
    """Memory that the process has and no longer needs."""

    def __init__(
        self, *, grown_bytes: int = 32 * 1024 * 1024, every_s: float = 10, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._grown_bytes = grown_bytes
        self._every_s = every_s
        self._clock = clock
        self._kept_bytes = read_rss_bytes()  # after the last time
        self._at = clock()

    def give_back(self) -> bool:
        """Give memory back if much has come since the last time; return whether this was tried."""
        if self._clock() - self._at < self._every_s:
            return False
        rss_bytes = read_rss_bytes()
        self._kept_bytes = min(self._kept_bytes, rss_bytes)
        if rss_bytes - self._kept_bytes < self._grown_bytes or not hasattr(_libc, "malloc_trim"):  # musl has none
            return False
        _libc.malloc_trim(0)
        self._kept_bytes = read_rss_bytes()
        self._at = self._clock()
        return True


def read_rss_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
