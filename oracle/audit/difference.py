"""Where two sequences of hashes differ: what was sealed, and what is there now.

Hashes of different events are different, so what stands in both is an anchor.  Anchors in rising order (the longest
such run) are in place; others have been moved; what lies between two anchors on either side was altered pairwise, and
what is left over was removed, or inserted.  In windows: the memory is that of one window, whatever the length.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Literal, NamedTuple

WINDOW = 8_192

Kind = Literal["altered", "removed", "inserted", "moved"]


class Difference(NamedTuple):
    """`sealed` is the place in what was sealed, `found` that in what is there; absent where there is none."""

    kind: Kind
    sealed: int | None
    found: int | None


def differences(sealed: Sequence[bytes], found: Sequence[bytes]) -> Iterator[Difference]:
    """All of them, in the order of what was sealed."""
    if sealed != found:
        yield from _between(sealed, found, _anchors(sealed, found), len(sealed), len(found))


class Windows:
    """The same of two streams: `feed` what came, get what can be said so far; `end` says the rest."""

    def __init__(self) -> None:
        self._sealed: list[bytes] = []
        self._found: list[bytes] = []
        self._sealed_at = self._found_at = 0

    def feed(self, sealed: Sequence[bytes], found: Sequence[bytes]) -> list[Difference]:
        self._sealed += sealed
        self._found += found
        told: list[Difference] = []
        while min(len(self._sealed), len(self._found)) >= WINDOW:
            told += self._window()
        return told

    def end(self) -> list[Difference]:
        told = list(differences(self._sealed, self._found))
        return [self._placed(each) for each in told]

    def _window(self) -> list[Difference]:
        sealed, found = self._sealed[:WINDOW], self._found[:WINDOW]
        if sealed == found:
            return self._take(WINDOW, WINDOW, [])
        anchors = _anchors(sealed, found)
        # Behind the last anchor the partner may be in the next window.  Without any, all of this one is something else.
        to_sealed, to_found = (anchors[-1][0] + 1, anchors[-1][1] + 1) if anchors else (WINDOW, WINDOW)
        return self._take(to_sealed, to_found, list(_between(sealed, found, anchors, to_sealed, to_found)))

    def _take(self, sealed: int, found: int, told: list[Difference]) -> list[Difference]:
        placed = [self._placed(each) for each in told]
        del self._sealed[:sealed], self._found[:found]
        self._sealed_at += sealed
        self._found_at += found
        return placed

    def _placed(self, each: Difference) -> Difference:
        sealed = None if each.sealed is None else each.sealed + self._sealed_at
        found = None if each.found is None else each.found + self._found_at
        return Difference(each.kind, sealed, found)


def _anchors(sealed: Sequence[bytes], found: Sequence[bytes]) -> list[tuple[int, int]]:
    """The longest run of (sealed, found) that rises in both."""
    places = {each: place for place, each in enumerate(sealed)}
    matches = [(places[each], place) for place, each in enumerate(found) if each in places]
    tails: list[int] = []  # of the runs of each length, the one that ends lowest
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
