"""How much one FSP may upload: files that are not finished, and bytes in a day, so that nobody fills the disk alone.

Files.    Those that are read, wait or are applied, and those that are coming in.
Bytes.    Of the files that are not finished, and of all that came in the last 24 hours: a file stays when it is
          finished, also one that was refused at its first line.
Where.    What is stored is asked of the database when an upload begins; what comes in meanwhile is counted here, in the
          one process that takes uploads.  Of several machines each counts its own, so that together they may be over
          by what is coming in at once.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from oracle import errors

if TYPE_CHECKING:
    from oracle.store.postgres import Postgres

HELD_FOR_S: Final = 86_400
COMING_MAX: Final = 20  # at once: each holds two parts in memory, however slowly it sends them


class TooManyOpen(errors.Refused):
    default = "The FSP has too many unfinished files"


class TooManyComing(errors.Refused):
    default = "The FSP is uploading too many files at the same time"


class TooManyBytes(errors.Refused):
    default = "The FSP has used up its upload quota for 24 hours"


class Coming:
    """One upload that is coming in.  `add` raises TooManyBytes."""

    def __init__(self, quota: Quota, others: list[Coming]) -> None:
        self._quota = quota
        self._others = others  # this one included
        self.before = 0  # bytes of files that are there
        self.bytes = 0

    async def look(self, postgres: Postgres, fsp_id: str) -> None:
        """Raises TooManyOpen, TooManyBytes, DirectoryUnavailable."""
        # Of two that begin at once the second one counts the first, not each the other.
        ahead = self._others.index(self)
        held = await postgres.row("batches_in_quota", fsp_id, HELD_FOR_S)
        self.before += held["bytes"]
        if held["open"] + ahead >= self._quota.open_max:
            raise TooManyOpen
        self.add(0)

    def add(self, count: int) -> None:
        self.bytes += count
        if self.before + sum(one.bytes for one in self._others) > self._quota.bytes_max:
            raise TooManyBytes

    def stored(self) -> None:
        """It is a batch now: those that began before it have not seen it in the database."""
        for other in self._others:
            if other is not self:
                other.before += self.bytes
        self.bytes = 0


class Quota:
    """Without arguments there is no limit."""

    def __init__(self, *, open_max: int = sys.maxsize, bytes_max: int = sys.maxsize) -> None:
        self.open_max = open_max
        self.bytes_max = bytes_max
        self._coming: defaultdict[str, list[Coming]] = defaultdict(list)

    @contextmanager
    def coming(self, fsp_id: str) -> Iterator[Coming]:
        """Raises TooManyComing."""
        others = self._coming[fsp_id]
        if len(others) >= COMING_MAX:
            raise TooManyComing
        one = Coming(self, others)
        others.append(one)
        try:
            yield one
        finally:
            others.remove(one)
            if not others:
                self._coming.pop(fsp_id, None)
