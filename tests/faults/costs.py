"""What a fault cost the callers of a service, made of their calls, and whether more than is promised.

cached   looks for what was registered long ago and is in the cache
cold     looks up unregistered parties that no client has asked for before: PostgreSQL must answer
change   registrations and removals

An answer counts, a 503 does not.  So answering 503 to everything passes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple

from history import Call
from hub_client import COLD

from oracle.store.lanes import LIMITS

CACHED_SHARE_MIN: Final = 0.99
# After the promotion, or when the way is free again: one connection time-out.
BACK_MAX_S: Final = LIMITS.connect_s
COLUMNS: Final = (
    ("fault", 26),
    ("cached answered", 16),
    ("longest time without: cached", 29),
    ("cold", 7),
    ("change", 7),
    ("back: cold", 11),
    ("change", 7),
    ("stale", 6),
    ("lost", 5),
    ("verdict", 0),
)


class Spell(NamedTuple):
    """One fault as it happened to some of the services."""

    name: str
    services: Sequence[str]
    began: float
    over: float  # the cause was gone: the standby was promoted, the way was free again
    until: float  # the end of what is judged
    copies_until: float = inf  # until when the promise of the copies holds
    cold_goes_on: bool = False
    changes_go_on: bool = False


class State(NamedTuple):
    """Who answers for a party, after one of the changes that are made one after the other."""

    owner: str
    begun: float
    acknowledged: float


class Cost(NamedTuple):
    """What one spell cost; a part that was not measured is left out."""

    spell: Spell
    share: float | None
    gaps: dict[str, float]
    back: dict[str, float]
    stale: int
    lost: int
    problems: Sequence[str]


def find_stale(looks: Iterable[Call], states: Sequence[State]) -> list[Call]:
    """Find the looks that started after a change was acknowledged, and saw a state from before it."""
    found = []
    for look in looks:
        if look.outcome != "ok":
            continue
        least = max((n for n, state in enumerate(states) if state.acknowledged < look.start), default=0)
        if look.owner not in {state.owner for state in states[least:] if state.begun < look.end}:
            found.append(look)
    return found


def measure(
    spell: Spell, calls: Sequence[Call], cached: Sequence[str], stale: int = 0, lost: int = 0, other: Sequence[str] = ()
) -> Cost:
    """`cached`: the keys that are in the cache; `other`: what else was found to be wrong."""
    by_kind = {
        "cached": [c for c in calls if c.kind == "look" and c.key in cached and c.where in spell.services],
        "cold": [c for c in calls if c.kind == "look" and c.key.startswith(COLD) and c.where in spell.services],
        "change": [c for c in calls if c.kind in ("register", "remove") and c.where in spell.services],
    }
    due = [c for c in by_kind["cached"] if spell.began <= c.start and c.end <= min(spell.until, spell.copies_until)]
    share = sum(c.outcome == "ok" for c in due) / len(due) if due else 0.0
    gaps = {kind: _longest_gap_s(some, spell) for kind, some in by_kind.items()}
    back = {
        kind: min((c.end for c in by_kind[kind] if c.outcome == "ok" and c.end > spell.over), default=inf) - spell.over
        for kind in ("cold", "change")
    }
    problems = [*other, *_judge(spell, share, gaps, back)]
    if stale:
        problems.append(f"{stale} stale")
    if lost:
        problems.append(f"{lost} lost")
    return Cost(spell, share, gaps, back, stale, lost, problems)


def _judge(spell: Spell, share: float, gaps: dict[str, float], back: dict[str, float]) -> Iterator[str]:
    if share < CACHED_SHARE_MIN:
        yield f"less than {CACHED_SHARE_MIN:.0%} of the cached lookups answered"
    for kind, seconds in back.items():
        if seconds > BACK_MAX_S:
            yield f"{kind} back after more than {BACK_MAX_S} s"
    for kind, goes_on in (("cold", spell.cold_goes_on), ("change", spell.changes_go_on)):
        if goes_on and gaps[kind] > BACK_MAX_S:
            yield f"{kind} away for more than {BACK_MAX_S} s"


def _longest_gap_s(calls: Iterable[Call], spell: Spell) -> float:
    """At the service for which it was longest."""
    ends: dict[str, list[float]] = {}
    for call in calls:
        times = ends.setdefault(call.where if call.kind == "look" else "", [spell.began])
        if call.outcome == "ok" and spell.began < call.end < spell.until:
            times.append(call.end)
    return max(
        (after - before for times in ends.values() for before, after in pairwise(sorted([*times, spell.until]))),
        default=inf,
    )


def head() -> str:
    return "".join(f"{name:{width}}" for name, width in COLUMNS)


def row(cost: Cost) -> str:
    cells = [
        cost.spell.name,
        "" if cost.share is None else f"{cost.share:.2%}",
        *(_seconds(cost.gaps, kind) for kind in ("cached", "cold", "change")),
        *(_seconds(cost.back, kind) for kind in ("cold", "change")),
        str(cost.stale),
        str(cost.lost),
        "; ".join(cost.problems) or "passed",
    ]
    return "".join(f"{cell:{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))


def _seconds(times: dict[str, float], kind: str) -> str:
    return f"{times[kind]:.1f} s" if kind in times else ""
