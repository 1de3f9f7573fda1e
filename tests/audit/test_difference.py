"""Differences: what somebody did to a sequence is found, by place, also across windows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.verifier.difference import Difference, Windows, compare
from oracle.verifier.merkle import leaf_hash


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % n) for n in range(count)]


def other(n: int = 0) -> bytes:
    return leaf_hash(b"other %d" % n)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda h: h, []),
        (lambda h: [*h[:3], other(), *h[4:]], [Difference("altered", 3, 3)]),
        (lambda h: [*h[:3], *h[4:]], [Difference("removed", 3, None)]),
        (lambda h: h[:-1], [Difference("removed", 9, None)]),
        (lambda h: h[1:], [Difference("removed", 0, None)]),
        (lambda h: [*h[:3], other(), *h[3:]], [Difference("inserted", None, 3)]),
        (lambda h: [*h, other()], [Difference("inserted", None, 10)]),
        (lambda h: [*h[:2], *h[3:8], h[2], *h[8:]], [Difference("moved", 2, 7)]),
        (lambda h: [*h, h[4]], [Difference("inserted", None, 10)]),
        (lambda _: [], [Difference("removed", n, None) for n in range(10)]),
    ],
)
def test_one_change_is_found_by_place(change: object, expected: list[Difference]) -> None:
    assert list(compare(hashes(10), change(hashes(10)))) == expected  # type: ignore[operator]


@given(st.integers(0, 100_000), st.integers(1, 6), st.integers(0, 400))
def test_windows_find_the_same_as_one_comparison(seed: int, changes: int, size: int) -> None:
    chance = random.Random(seed)
    sealed = hashes(size)
    found = sealed.copy()
    for n in range(changes):
        place = chance.randrange(len(found) + 1)
        match chance.choice(["alter", "remove", "insert"]):
            case "alter" if place < len(found):
                found[place] = other(n)
            case "remove" if place < len(found):
                del found[place]
            case "insert":
                found.insert(place, other(n))
    windows = Windows(window=16)
    in_windows = []
    for at in range(0, max(len(sealed), len(found)), 7):
        in_windows += windows.feed(sealed[at : at + 7], found[at : at + 7])
    in_windows += windows.end()
    at_once = list(compare(sealed, found))
    assert (in_windows == []) == (sealed == found)
    # The differences turn one sequence into the other; how a run of changes is paired may depend on the window.
    for each in (in_windows, at_once):
        assert replay(sealed, found, each) == found


def replay(sealed: list[bytes], found: list[bytes], differences: list[Difference]) -> list[bytes]:
    gone = {d.sealed for d in differences if d.sealed is not None}
    came = {d.found: found[d.found] for d in differences if d.found is not None}
    kept = iter([each for place, each in enumerate(sealed) if place not in gone])
    return [came[place] if place in came else next(kept) for place in range(len(found))]
