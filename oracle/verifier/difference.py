"""Finds where two sequences of hashes differ: what was sealed, and what is there now.

Different events have different hashes, so a hash that is in both sequences is an anchor.  The longest run of anchors
that rises in both sequences is in place; the other anchors were moved.  Between two anchors, the rest is paired: each
pair is an altered event, and a hash without a partner was removed or inserted.  The work is done in windows: the
memory is that of one window, for any length.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final, Literal, NamedTuple

WINDOW: Final = 8_192  # hashes

Kind = Literal["altered", "removed", "inserted", "moved"]


class Difference(NamedTuple):
    """`sealed` is the place in what was sealed, `found` the place in what is there; None where there is none."""

    kind: Kind
    sealed: int | None
    found: int | None


def compare(sealed: Sequence[bytes], found: Sequence[bytes]) -> Iterator[Difference]:
    """Find all differences, in the order of what was sealed."""
    if sealed != found:
        yield from _between(sealed, found, _find_anchors(sealed, found), len(sealed), len(found))


class Windows:
    """Compares two streams: `feed` takes what arrived and returns what is certain so far, `end` returns the rest."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._sealed: list[bytes] = []
        self._found: list[bytes] = []
        self._sealed_at = self._found_at = 0

    def feed(self, sealed: Sequence[bytes], found: Sequence[bytes]) -> list[Difference]:
        self._sealed += sealed
        self._found += found
        differences: list[Difference] = []
        while min(len(self._sealed), len(self._found)) >= self._window:
            differences += self._compare_window()
        return differences

    def end(self) -> list[Difference]:
        return [self._place(each) for each in compare(self._sealed, self._found)]

    def _compare_window(self) -> list[Difference]:
        sealed, found = self._sealed[: self._window], self._found[: self._window]
        if sealed == found:
            return self._take(self._window, self._window, [])
        anchors = _find_anchors(sealed, found)
        # After the last anchor, a partner may be in the next window.  Without an anchor, all of this window differs.
        to_sealed, to_found = (anchors[-1][0] + 1, anchors[-1][1] + 1) if anchors else (self._window, self._window)
        return self._take(to_sealed, to_found, list(_between(sealed, found, anchors, to_sealed, to_found)))

    def _take(self, sealed: int, found: int, differences: list[Difference]) -> list[Difference]:
        placed = [self._place(each) for each in differences]
        del self._sealed[:sealed], self._found[:found]
        self._sealed_at += sealed
        self._found_at += found
        return placed

    def _place(self, each: Difference) -> Difference:
        """Convert a position in the window to one in the whole stream."""
        sealed = None if each.sealed is None else each.sealed + self._sealed_at
        found = None if each.found is None else each.found + self._found_at
        return Difference(each.kind, sealed, found)


def _find_anchors(sealed: Sequence[bytes], found: Sequence[bytes]) -> list[tuple[int, int]]:
    """Find the longest run of (sealed, found) that rises in both."""
    places = {each: place for place, each in enumerate(sealed)}
    matches = [(places[each], place) for place, each in enumerate(found) if each in places]
    tails: list[int] = []  # of the runs of each length, the lowest end
    ends: list[int] = []
    before = [-1] * len(matches)
    for n, (place, _) in enumerate(matches):
        length = bisect_left(tails, place)
        before[n] = ends[length - 1] if length else -1
        if length == len(tails):
            tails.append(place)
            ends.append(n)
        else:
            tails[length] = place
            ends[length] = n
    run: list[tuple[int, int]] = []
    n = ends[-1] if ends else -1
    while n >= 0:
        run.append(matches[n])
        n = before[n]
    return run[::-1]


def _between(
    sealed: Sequence[bytes], found: Sequence[bytes], anchors: Sequence[tuple[int, int]], to_sealed: int, to_found: int
) -> Iterator[Difference]:
    in_place = {place for place, _ in anchors}, {place for _, place in anchors}
    elsewhere = {each: place for place, each in enumerate(found[:to_found]) if place not in in_place[1]}
    moved = {
        place: elsewhere[each]
        for place, each in enumerate(sealed[:to_sealed])
        if place not in in_place[0] and each in elsewhere
    }
    moved_to = set(moved.values())
    from_sealed = from_found = 0
    for until_sealed, until_found in (*anchors, (to_sealed, to_found)):
        gone, came = range(from_sealed, until_sealed), range(from_found, until_found)
        yield from (Difference("moved", place, moved[place]) for place in gone if place in moved)
        for was, now in zip_longest(
            (place for place in gone if place not in moved), (place for place in came if place not in moved_to)
        ):
            yield Difference("removed" if now is None else "inserted" if was is None else "altered", was, now)
        from_sealed, from_found = until_sealed + 1, until_found + 1
