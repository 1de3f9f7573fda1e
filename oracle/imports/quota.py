"""The quota of one FSP: unfinished files, and bytes in 24 hours, so that no FSP fills the disk alone.

Files.    Counts files that are being uploaded, being read, waiting for approval, or being applied.
Bytes.    Counts the unfinished files, and all files of the last 24 hours.  The database keeps a file after its end,
          even if it was refused at its first line.  An upload that breaks off has written as many bytes as one that
          ends, so these count as well, to the hour.
Where.    When an upload begins, the database reports what is stored, and what is in progress on other machines.  On
          each machine, the one process that takes uploads counts those that are still in progress.  So several
          machines together can exceed the quota by what they receive at the same time.
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
COMING_MAX: Final = 20  # at once: each has two parts in memory, however slowly it sends them


class TooManyOpen(errors.Refused):
    default = "The FSP has too many unfinished files"


class TooManyComing(errors.Refused):
    default = "The FSP is uploading too many files at the same time"


class TooManyBytes(errors.Refused):
    default = "The FSP has used up its upload quota for 24 hours"


class Coming:
    """One upload in progress."""

    def __init__(self, quota: Quota, others: list[Coming]) -> None:
        self._quota = quota
        self._others = others  # this one included
        self.before = 0  # bytes of uploads that have ended
        self.bytes = 0
        self.batch_id: int | None = None  # under which the database counts it

    async def look(self, postgres: Postgres, fsp_id: str, announced: int = 0) -> None:
        """Count what is stored.  `announced`: the bytes that will come, as far as known.

        Raises TooManyOpen, TooManyBytes, DirectoryUnavailable.
        """
        # If two begin at the same time, the second counts the first, but the first does not count the second.
        ahead = self._others.index(self)
        here = [one.batch_id for one in self._others if one.batch_id is not None]
        held = await postgres.row("batches_in_quota", fsp_id, HELD_FOR_S, here)
        self.before += held["bytes"]
        if held["open"] + ahead >= self._quota.open_max:
            raise TooManyOpen
        self._require_room(announced)

    def begin(self, batch_id: int) -> None:
        self.batch_id = batch_id

    def add(self, count: int) -> None:
        """Count more bytes.  Raises TooManyBytes."""
        self.bytes += count
        self._require_room(0)

    def _require_room(self, more: int) -> None:
        if self.before + sum(one.bytes for one in self._others) + more > self._quota.bytes_max:
            raise TooManyBytes

    def count_as_ended(self) -> None:
        """Count this upload for those that began earlier: they did not find it in the database."""
        for other in self._others:
            if other is not self:
                other.before += self.bytes
        self.bytes = 0


class Quota:
    """Limits the uploads of each FSP.  Without arguments there is no limit."""

    def __init__(self, *, open_max: int = sys.maxsize, bytes_max: int = sys.maxsize) -> None:
        self.open_max = open_max
        self.bytes_max = bytes_max
        self._coming: defaultdict[str, list[Coming]] = defaultdict(list)

    @contextmanager
    def count_upload(self, fsp_id: str) -> Iterator[Coming]:
        """Count one upload while it is in progress.  Raises TooManyComing."""
        others = self._coming[fsp_id]
        if len(others) >= COMING_MAX:
            raise TooManyComing
        one = Coming(self, others)
        others.append(one)
        try:
            yield one
        finally:
            one.count_as_ended()
            others.remove(one)
            if not others:
                self._coming.pop(fsp_id, None)
