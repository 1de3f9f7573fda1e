"""The checker finds what is broken in histories made by hand, and agrees with the plain search on small ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from math import inf

import pytest
from checker import check
from history import NOBODY, Call, CallResult, Event, Fault, History, Kind, Move, Said

K = "party"


def look(owner: str, start: float, end: float) -> Call:
    return Call("look", K, owner, start, end, "ok")


def do(kind: Kind, owner: str, start: float, end: float, outcome: CallResult = "ok", status: int = 0) -> Call:
    return Call(kind, K, owner, start, end, outcome, status=status)


def events(*steps: tuple[str, float]) -> list[Event]:
    """(owner from then on, when that was committed)."""
    owners = [NOBODY, *(owner for owner, _ in steps)]
    return [Event(n + 1, K, owners[n], owner, at) for n, (owner, at) in enumerate(steps)]


ALWAYS = [(-inf, inf)]


def broken(history: History, *, calm: bool = False) -> set[str]:
    """Which promises; all the time was calm, or none of it."""
    history.calm = ALWAYS if calm else []
    return {violation.promise for violation in check(history)}


MOVED = [do("register", "a", 0, 1), do("remove", "a", 2, 3), do("register", "b", 4, 5)]
MOVED_EVENTS = events(("a", 0.5), (NOBODY, 2.5), ("b", 4.5))


def test_a_correct_history_breaks_nothing() -> None:
    looks = [look("", 0, 0.1), look("a", 0.2, 0.6), look("a", 1.1, 1.2), look("", 3.1, 3.2), look("b", 5.1, 5.2)]
    history = History(1, [*MOVED, *looks], MOVED_EVENTS, said=[Said("postgres", K, "b")], calm=ALWAYS)
    assert check(history) == []


@pytest.mark.parametrize(
    "stale",
    [look("", 1.1, 1.2), look("a", 3.1, 3.2), look("a", 5.1, 9.0), look("", 5.1, 5.2)],
    ids=["nobody after a registration", "the old one after a removal", "after a move", "the gap of a move"],
)
def test_a_look_after_an_acknowledgement_that_sees_the_older_state_breaks_a(stale: Call) -> None:
    assert "A" in broken(History(1, [*MOVED, stale], MOVED_EVENTS))
    assert "B" in broken(History(1, [*MOVED, stale], MOVED_EVENTS), calm=True)


def test_a_look_that_overlaps_a_change_may_see_either_side() -> None:
    for owner in ("a", ""):
        assert broken(History(1, [*MOVED, look(owner, 2.5, 2.9)], MOVED_EVENTS), calm=True) == set()
    assert broken(History(1, [*MOVED, look("b", 2.5, 2.9)], MOVED_EVENTS)) == {"phantom"}


def test_new_then_old_around_a_change_in_flight_breaks_b_alone() -> None:
    calls = [*MOVED, look("", 2.1, 2.2), look("a", 2.3, 2.4)]
    assert broken(History(1, calls, MOVED_EVENTS)) == set()
    assert broken(History(1, calls, MOVED_EVENTS), calm=True) == {"B"}


def test_the_answer_nobody_can_mean_any_time_without_an_owner() -> None:
    calls = [do("register", "a", 0, 1), do("remove", "a", 1, 9)]
    after = events(("a", 0.5), (NOBODY, 5))
    assert broken(History(1, [*calls, look("", 2, 3), look("a", 1.5, 4)], after), calm=True) == set()
    assert broken(History(1, [*calls, look("", 2, 3), look("a", 4, 5)], after), calm=True) == {"B"}


def test_a_change_of_unknown_outcome_may_come_at_any_time_or_never() -> None:
    calls = [do("register", "a", 0, 1), do("remove", "a", 2, 3, "unknown")]
    stays = History(1, [*calls, look("a", 50, 51)], events(("a", 0.5)))
    assert broken(stays) == set()
    went = events(("a", 0.5), (NOBODY, 60))
    assert broken(History(1, [*calls, look("a", 50, 51), look("", 59, 61)], went)) == set()
    assert broken(History(1, [*calls, look("", 1.5, 1.6)], went)) == {"A"}  # before it can have begun


def test_a_committed_change_that_nobody_acknowledged_is_seen_a_second_and_a_half_later() -> None:
    calls = [do("register", "a", 0, 1), do("remove", "a", 2, 3, "unknown")]
    went = events(("a", 0.5), (NOBODY, 2.5))
    assert broken(History(1, [*calls, look("a", 3.9, 4)], went)) == set()
    assert broken(History(1, [*calls, look("a", 4.1, 4.2)], went)) == {"C"}
    stopped = [Fault("postgres-stop", "postgres", 2.4, 6, 7)]
    assert broken(History(1, [*calls, look("a", 4.1, 4.2)], went, stopped)) == set()
    assert broken(History(1, [*calls, look("a", 8.6, 8.7)], went, stopped)) == {"C"}


def test_an_acknowledged_change_without_an_event_is_lost() -> None:
    assert broken(History(1, [do("register", "a", 0, 1)], [])) == {"lost"}
    twice = [do("register", "a", 0, 1), do("remove", "a", 2, 3), do("remove", "a", 2, 3)]
    assert broken(History(1, twice, events(("a", 0.5), (NOBODY, 2.5)))) == {"lost"}


def test_unexplained_and_contradicting_events_are_violations() -> None:
    refused = [do("register", "a", 0, 1, "refused", 409)]
    assert "events" in broken(History(1, refused, events(("a", 0.5))))
    assert "events" in broken(History(1, [], events(("a", 0.5))))
    assert broken(History(1, MOVED, [*MOVED_EVENTS[:1], *MOVED_EVENTS[2:]])) == {"events"}
    twice = events(("a", 0.5), (NOBODY, 2.5), ("a", 2.6))
    assert "events" in broken(History(1, MOVED[:2], twice))


def test_a_repeated_registration_can_have_one_or_two_events() -> None:
    repeated = [do("register", "a", 0, 1, "unknown"), do("register", "a", 2, 3)]
    assert broken(History(1, repeated, events(("a", 2.5)))) == set()
    late = events(("a", 2.5), (NOBODY, 4.5), ("a", 5))  # the first of them, out of a stopped process
    assert broken(History(1, [*repeated, do("remove", "a", 4, 4.6)], late)) == set()


def test_any_attempt_of_a_repeated_call_can_have_made_the_event() -> None:
    repeated = [do("register", "a", 0, 1, "unknown"), do("remove", "a", 2, 3), do("register", "a", 4, 5, "unknown")]
    assert broken(History(1, repeated, events(("a", 0.5), (NOBODY, 2.5))), calm=True) == set()


def test_an_owner_that_nobody_registered_is_a_phantom() -> None:
    assert broken(History(1, [*MOVED, look("c", 5.1, 5.2)], MOVED_EVENTS)) == {"phantom"}


def test_the_violation_names_the_service_that_disagrees_in_the_end() -> None:
    (violation,) = check(History(1, MOVED, MOVED_EVENTS, said=[Said("redis", K, "a"), Said("s0", K, "b")]))
    assert violation.promise == "agreement"
    assert "redis says 'a'" in str(violation)


def test_a_refusal_shows_the_state_it_saw() -> None:
    refused = do("register", "c", 3.1, 3.2, "refused", 409)  # between a removal and the next registration
    assert broken(History(1, [*MOVED, refused], MOVED_EVENTS), calm=True) == {"B"}
    gone = do("remove", "a", 5.5, 5.6, "refused", 404)
    assert broken(History(1, [*MOVED, gone], MOVED_EVENTS), calm=True) == {"B"}
    foreign = do("remove", "a", 5.5, 5.6, "refused", 403)
    assert broken(History(1, [*MOVED, foreign], MOVED_EVENTS), calm=True) == set()


def test_the_promises_depend_on_the_faults() -> None:
    stale = [*MOVED, look("a", 5.1, 5.2)]
    assert broken(History(1, stale, MOVED_EVENTS, overlapping_from=5)) == set()
    assert broken(History(1, stale, MOVED_EVENTS, overlapping_from=6)) == {"A", "C"}
    back = History(1, [*MOVED, look("", 2.1, 2.2), look("a", 2.3, 2.4)], MOVED_EVENTS)
    for calm, found in (((0, 3), True), ((2.25, 3), False), ((4, 9), False)):
        back.calm = [calm]
        assert bool(check(back)) == found


def test_a_service_cut_off_while_another_moves_the_generation_is_excused_for_a_moment() -> None:
    fault = Fault("postgres-half-open", "s1", 3, 7, 8)
    for where, who, at, promises in (
        ("s1", "s0", 4.5, set()),  # two failures
        ("s0", "s0", 4.5, {"A"}),  # this one was not cut off
        ("s1", "sql", 4.5, {"A"}),  # by hand is no failure
        ("s1", "s0", 6.5, {"A"}),  # moved after the look
        ("s1", "s0", 3.2, {"A"}),  # long ago: it is in the marker
    ):
        stale = Call("look", K, "", 5.1, 5.2, "ok", where)
        assert broken(History(1, [*MOVED, stale], MOVED_EVENTS, [fault], moves=[Move(at, 2, who)])) == promises


def test_each_key_is_checked_by_itself() -> None:
    other = [Call("look", "other", "", 9, 10, "ok")]
    assert broken(History(1, [*MOVED, *other], MOVED_EVENTS), calm=True) == set()


# Against the plain search -----------------------------------------------------------------------------------


def search(calls: Sequence[Call], order: Sequence[tuple[Kind, str, str]]) -> bool:
    """The algorithm of Wing and Gong with a memory of states, as published, with the writes in their known order."""

    @cache
    def possible(done: frozenset[int], written: int) -> bool:
        left = [n for n in range(len(calls)) if n not in done]
        if not left:
            return True
        first_end = min(calls[n].end for n in left)
        owner = order[written - 1][2] if written else NOBODY
        for n in left:
            call = calls[n]
            if call.start > first_end:
                continue
            if call.kind == "look":
                if call.owner == owner and possible(done | {n}, written):
                    return True
                continue
            is_next = written < len(order) and (call.kind, call.owner) == order[written][:2]
            if is_next and possible(done | {n}, written + 1):
                return True
        return False

    return possible(frozenset(), 0)


def small_history(rng: random.Random) -> tuple[list[Call], list[tuple[Kind, str, str]]]:
    """Up to four changes and six looks at random, most of them possible."""
    calls: list[Call] = []
    order: list[tuple[Kind, str, str]] = []
    owner, at = NOBODY, 0.0
    for number in range(rng.randint(1, 4)):
        at += rng.uniform(0.1, 1)
        kind: Kind
        kind, name = ("remove", owner) if owner else ("register", f"f{number}")
        owner = "" if owner else name
        calls.append(do(kind, name, at - rng.uniform(0, 1.5), at + rng.uniform(0, 1.5)))
        order.append((kind, name, owner))
    owners = ["", *{step[2] for step in order}]
    for _ in range(rng.randint(1, 6)):
        middle = rng.uniform(0, at + 1)
        calls.append(look(rng.choice(owners), middle - rng.uniform(0, 1), middle + rng.uniform(0, 1)))
    return calls, order


def test_it_agrees_with_the_search_through_all_orders() -> None:
    rng = random.Random(20)
    verdicts = {True: 0, False: 0}
    for _ in range(4000):
        calls, order = small_history(rng)
        history = History(1, calls, events(*((owner, inf) for _, _, owner in order)))
        expected = search(calls, order)
        verdicts[expected] += 1
        assert ("B" not in broken(history, calm=True)) == expected, calls
    assert min(verdicts.values()) > 400  # both kinds were there
