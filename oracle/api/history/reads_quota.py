"""The quota of recorded questions: how many bytes of `audit_reads` each credential can write in a day.

Records of who asked stay for a year at least, and nobody but the owner of the tables can delete them.  So one key that
asks without end would fill the disk.  Each process counts for itself: a credential has a day's quota at once, and gets
it again in the course of a day.  Several admin processes together give a credential as many quotas.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit

DAY_S: Final = 86_400.0
DAY_BYTES_MAX: Final = 64 * 1024**2  # more than one ordinary question a second, all day
ROW_BYTES: Final = 512  # of each row beside its texts: ids, time, role, the entries of three indexes


class ReadsQuota:
    """One for each process."""

    def __init__(self, *, day_bytes_max: int = DAY_BYTES_MAX, clock: Callable[[], float] = time.monotonic) -> None:
        self._day_bytes_max = day_bytes_max
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}  # by credential: bytes, at

    def take(self, credential_id: str, texts: int) -> None:
        """Count a record with so many bytes of text.  Raises Refusal 429 if the credential has used up its quota."""
        now = self._clock()
        used, at = self._used.get(credential_id, (0.0, now))
        used = max(0.0, used - (now - at) * self._day_bytes_max / DAY_S) + ROW_BYTES + texts
        if used > self._day_bytes_max:
            wait_s = math.ceil((used - self._day_bytes_max) * DAY_S / self._day_bytes_max)
            raise Refusal(
                429, "too_many_questions", "Your credential has used up its quota of recorded questions",
                f"Wait {wait_s} seconds. For many identifiers, use an export: it is one question",
                {
                    "Retry-After": str(wait_s),
                    **describe_limit(
                        "recorded questions", self._day_bytes_max, unit="stored-bytes", window_s=DAY_S, wait_s=wait_s
                    ),
                },
            )  # fmt: skip
        self._used[credential_id] = (used, now)
