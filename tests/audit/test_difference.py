"""Differences: what somebody did to a sequence is told, by place, also across windows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.audit import difference
from oracle.audit.difference import Difference, Windows, differences
from oracle.audit.merkle import leaf_hash


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % n) for n in range(count)]


def other(n: int = 0) -> bytes:
    return leaf_hash(b"other %d" % n)


@pytest.mark.parametrize(
    ("change", "told"),
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
def test_one_change_is_told_by_place(change: object, told: list[Difference]) -> None:
    assert list(differences(hashes(10), change(hashes(10)))) == told  # type: ignore[operator]


@given(st.integers(0, 100_000), st.integers(1, 6), st.integers(0, 400))
def test_in_windows_the_same_is_told_as_at_once(seed: int, changes: int, size: int) -> None:
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(difference, "WINDOW", 16)
        windows = Windows()
        told = []
        for at in range(0, max(len(sealed), len(found)), 7):
            told += windows.feed(sealed[at : at + 7], found[at : at + 7])
        told += windows.end()
    at_once = list(differences(sealed, found))
    assert (told == []) == (sealed == found)
    # Replayed, what is told makes the one sequence of the other; how a run of changes is paired may differ by window.
    for each in (told, at_once):
        assert replayed(sealed, found, each) == found


def replayed(sealed: list[bytes], found: list[bytes], told: list[Difference]) -> list[bytes]:
    gone = {d.sealed for d in told if d.sealed is not None}
    came = {d.found: found[d.found] for d in told if d.found is not None}
    kept = iter([each for place, each in enumerate(sealed) if place not in gone])
    return [came[place] if place in came else next(kept) for place in range(len(found))]
