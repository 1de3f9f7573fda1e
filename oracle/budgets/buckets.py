"""The token buckets in the memory of one process: each lookup takes its tokens here.

Share.     A process holds its share of each FSP's tokens, until the next correction (`correction`).  So a lookup calls
           nothing and reads no clock: it takes from a number.
Source.    The header that names the FSP is in the bytes of the request, behind headers of nearly constant length.  So a
           window of these bytes, at the place where the header was the last time, is nearly always one that was seen
           before, and names the bucket.  Otherwise the header is searched.  A window begins at the end of the line
           before it, and it is kept only if it holds the whole line: so it cannot be mistaken for another FSP or
           another header.  To search each time would take a lookup 0.2 µs longer.
Unknown.   Sources that the directory does not know share one bucket.  A caller can invent as many as it wants, so no
           more than STRANGERS_MAX of their windows are kept, and they displace no window of an FSP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from oracle.budgets.classes import UNKNOWN_FSPS, Classes, Costs

LINE: Final = b"\r\nfspiop-source: "
LINE_LENGTH: Final = len(LINE)
# The same FSP can be followed by different headers.
WINDOWS_MAX: Final = 4096
STRANGERS_MAX: Final = 64
FSP_ID_USUAL: Final = 16  # characters; a longer source that no FSP has is searched each time
# Places of the header, counted from the length of the target: the headers before it are of one of a few lengths.
PLACES_MAX: Final = 4
TARGET_MAX: Final = 128  # a longer target is searched each time
FSPS_MAX: Final = 10_000


class Bucket:
    """The share of one FSP's tokens that this process has."""

    __slots__ = ("fsp_class", "fsp_id", "granted", "left", "lent", "over")

    def __init__(self, fsp_id: str, fsp_class: str, left: float) -> None:
        self.fsp_id: str = fsp_id
        self.fsp_class: str = fsp_class
        self.left: float = left  # below zero: the last question cost more than there was
        self.granted: float = left  # what was there when `left` was set last
        self.lent: float = 0.0  # how much of that the other processes do not see any more
        self.over: int = 0  # questions since then while nothing was left


class Buckets:
    """One per process."""

    __slots__ = (
        "_by_source", "_classes", "_places", "_share", "_strangers", "_width", "conflict", "enforces", "found",
        "nobody", "refusing", "slices", "unknown", "windows",
    )  # fmt: skip

    def __init__(self, classes: Classes, costs: Costs, *, enforces: bool, share: float = 1.0) -> None:
        """`enforces`: whether a question is refused when nothing is left.  `share`: of each bucket, at the start."""
        self._classes = classes
        self._share: float = share
        self.found: float = costs.found
        self.nobody: float = costs.nobody
        self.conflict: float = costs.conflict
        self.enforces: bool = enforces
        # Whether a bucket is empty, so that a lookup can be refused before it is asked: that spares PostgreSQL a scan.
        self.refusing: bool = False
        self._by_source: dict[bytes, Bucket] = {}
        self.unknown: Bucket = self._make(UNKNOWN_FSPS)
        # What a lookup uses: the window of a request by the length of its target, and the bucket of a window.
        self.slices: list[slice] = []
        self.windows: dict[bytes, Bucket] = {}
        self._places: dict[int, list[slice]] = {}
        self._strangers: list[bytes] = []  # those of `windows` that name no FSP
        self._width: int = LINE_LENGTH + FSP_ID_USUAL + 2

    def _make(self, fsp_id: str) -> Bucket:
        return Bucket(fsp_id, self._classes.find(fsp_id), self._classes.size_of(fsp_id).tokens * self._share)

    def know(self, fsp_ids: Iterable[str]) -> None:
        """Give each of these FSPs a bucket of its own, up to FSPS_MAX; those that have one keep it."""
        for fsp_id in fsp_ids:
            source = fsp_id.encode()
            if source not in self._by_source and len(self._by_source) < FSPS_MAX:
                self._by_source[source] = self._make(fsp_id)
                self._forget_strangers()  # this FSP can have been one
                if LINE_LENGTH + len(source) + 2 > self._width:
                    self._width = LINE_LENGTH + len(source) + 2
                    self._places.clear()
                    self.windows.clear()

    def list_buckets(self) -> list[Bucket]:
        return [self.unknown, *self._by_source.values()]

    def of(self, source: bytes | None) -> Bucket:
        """Find the bucket of a source; None: the request names none."""
        return self.unknown if source is None else self._by_source.get(source, self.unknown)

    def read(self, data: bytes, target_length: int) -> Bucket | None:
        """Find the bucket of the source that the bytes of a request name; None if the header is not spelled as LINE."""
        if target_length < TARGET_MAX:
            sliced: Any = data  # of bytes, compiled code takes no slice object
            for slices in self._places.values():
                bucket = self.windows.get(sliced[slices[target_length]])
                if bucket is not None:
                    self.slices = slices
                    return bucket
        begin = data.find(LINE)
        if begin < 0:
            return None
        end = data.find(b"\r\n", begin + LINE_LENGTH)
        bucket = self._by_source.get(data[begin + LINE_LENGTH : end].strip(), self.unknown)
        if end + 2 <= begin + self._width:
            self._keep(data[begin : begin + self._width], begin - target_length, bucket)
        return bucket

    def _keep(self, window: bytes, place: int, bucket: Bucket) -> None:
        if len(self.windows) >= WINDOWS_MAX:
            self._strangers.clear()
            self.windows.clear()
        if bucket is self.unknown:
            if len(self._strangers) >= STRANGERS_MAX:
                self._forget_strangers()
            self._strangers.append(window)
        self.windows[window] = bucket
        slices = self._places.get(place)
        if slices is None:
            if len(self._places) >= PLACES_MAX:
                self._places.clear()
            slices = [slice(place + length, place + length + self._width) for length in range(TARGET_MAX)]
            self._places[place] = slices
        self.slices = slices

    def _forget_strangers(self) -> None:
        for window in self._strangers:
            self.windows.pop(window, None)
        self._strangers.clear()

    def take(self, bucket: Bucket, cost: float) -> bool:
        """Take the cost of a question; False if it must be refused.  A lookup of the hub does so in line."""
        left = bucket.left
        if left > 0:
            bucket.left = left - cost
            return True
        bucket.over += 1
        self.refusing = self.enforces
        return not self.enforces

    def refuses(self, bucket: Bucket) -> bool:
        """Whether a question must be refused before it is asked."""
        if self.enforces and bucket.left <= 0:
            bucket.over += 1
            return True
        return False
