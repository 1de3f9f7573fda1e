"""Whether a history keeps the promises of `oracle.store.cache.coherence`.  Pure functions over a History.

Each key is checked by itself: a history is linearizable if and only if it is for each object (Herlihy and Wing,
"Linearizability: a correctness condition for concurrent objects", TOPLAS 12(3), 1990; the "P-compositionality" of
Horn and Kroening, FORTE 2015).

A key is a register.  Whether a history of a register is linearizable is NP-complete in general (Gibbons and Korach,
"Testing shared memories", SIAM J. Comput. 26(4), 1997), and the usual search (Wing and Gong, JPDC 17, 1993, with Lowe's
memory of states, CCPE 29(4), 2017) needs time exponential in the number of overlapping calls.  The same paper of
Gibbons and Korach has the way out: with the order of the writes known it is easy.  Here it is known, from the events:

    An event is numbered by a sequence in a trigger of the statement that changes the row of the key.  That statement
    holds the row (or its place in the primary key) until its transaction ends; the next transaction waits for it and
    takes its number later.  So the numbers of the events of one key are in the order of their commits, although those
    of different keys need not be.

Then each call has a place in the order: change i of the key has place 2i, a look that saw its result 2i + 1.  The
history is linearizable, with this order of changes, if and only if no call that ended before another started has the
higher place: sorted by (place, start) the calls then keep both the order in time and the meaning of a register;
and the other way round such a pair contradicts any order.  A look that saw nobody, or a refusal, fits several places;
taking the calls by their start, each gets the least that is not below the place of a call that had ended before.
Any assignment that works is nowhere below this one, by induction over the starts, so if this one fails, all do.
One sort and one sweep.  (test_checker compares it with the plain search on small histories.)

Promise A is the part of it that speaks of acknowledged changes only, and so holds under failures; C speaks of the
time of the commit instead.  Both are promised for one failure at a time.  A machine that is busy adds failures of its
own: a Redis that answers too late.  One such pair is known to be too much: a service is cut off from PostgreSQL, and
another one moves the generation because it could not reach Redis, so it cannot raise the marker either.  Some process
that reaches both does so within 1.5 s.  The record of the moves shows such moves; for that time the looks at the
service that was cut off are not judged (`excuses`, counted in the report).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from math import inf
from typing import Final, Literal, NamedTuple

from history import NOBODY, Call, Event, Fault, History, Said

SETTLE_S: Final = 1.5  # promise C
# Processes learn of a change by hand by notification and lease; psql reports COMMIT before that.
BY_HAND_SETTLE_S: Final = 1.5
MARKED_S: Final = 1.5  # until the marker shows a move, by any process
# The time of a commit comes from the database's clock, which is read apart from ours.
CLOCKS_S: Final = 0.02
# Faults that keep a service from hearing of a move of the generation.
CUT_OFF: Final = ("postgres-away", "postgres-half-open", "postgres-slow")
SHOWN_MAX: Final = 12
SHOWN_BEFORE_S: Final = 5.0

Promise = Literal["A", "B", "C", "lost", "events", "phantom", "agreement", "odd"]


class Violation(NamedTuple):
    promise: Promise
    key: str
    text: str
    calls: tuple[Call, ...] = ()
    faults: tuple[Fault, ...] = ()  # during or shortly before

    def __str__(self) -> str:
        lines = [f"{self.promise}: key {self.key}: {self.text}"]
        lines += [f"    {f.start:14.4f} .. {f.end:14.4f}  {f.kind} of {f.target}" for f in self.faults]
        return "\n".join(lines + [f"    {_describe(call)}" for call in self.calls])


class Version(NamedTuple):
    """A state of a key: who owns it since which change."""

    owner: str
    start: float  # the earliest start of a call that can have made it
    acknowledged: float
    committed: float


def check(history: History) -> list[Violation]:
    """Every promise that is broken.

    B is asked for in the calm times of the history, A and C until faults overlap.  What is acknowledged may never be
    lost, and in the end all must agree.
    """
    found = [Violation("odd", "", text) for text in history.odd]
    calls: dict[str, list[Call]] = defaultdict(list)
    events: dict[str, list[Event]] = defaultdict(list)
    for call in history.calls:
        calls[call.key].append(call)
    for event in sorted(history.events, key=lambda e: e.event_id):
        events[event.key].append(event)
    excused = excuses(history)
    for key in sorted(calls.keys() | events.keys()):
        found += _check_key(key, calls[key], events[key], history, excused)
    found += _agreement(events, history.said)
    return [violation._replace(faults=_about(violation, history.faults)) for violation in found]


def _about(violation: Violation, faults: Sequence[Fault]) -> tuple[Fault, ...]:
    begin = min((call.start for call in violation.calls), default=inf) - SHOWN_BEFORE_S
    end = max((call.end for call in violation.calls), default=-inf)
    return tuple(fault for fault in faults if fault.start <= end and begin <= fault.recovered)


class Excuse(NamedTuple):
    """From when to when which services may answer old state."""

    begin: float
    end: float
    services: Sequence[str]


def excuses(history: History) -> list[Excuse]:
    found: list[Excuse] = []
    for fault in history.faults:
        if fault.kind not in CUT_OFF:
            continue
        services = fault.target.split("+")
        found += [
            Excuse(move.at, min(fault.recovered, move.at + MARKED_S + CLOCKS_S), services)
            for move in history.moves
            if fault.start <= move.at <= fault.recovered and move.who not in ("sql", *services)
        ]
    return found


def _is_within(look: Call, excused: Sequence[Excuse]) -> bool:
    return any(look.where in excuse.services and excuse.begin <= look.end <= excuse.end for excuse in excused)


def _check_key(
    key: str, calls: list[Call], events: list[Event], history: History, excused: Sequence[Excuse]
) -> list[Violation]:
    found = list(_replay(key, events))
    if found:
        return found  # nothing below means anything then
    found += _account_for(key, calls, events)
    versions = _versions(calls, events, history.faults)
    known: dict[str, float] = {}
    for version in versions:
        known[version.owner] = min(version.start, known.get(version.owner, inf))
    looks = []
    for call in calls:
        if call.kind == "look" and call.outcome == "ok":
            if known.get(call.owner, inf) >= call.end:
                text = f"{call.owner!r} was not the owner at that time, or never"
                found.append(Violation("phantom", key, text, (call,)))
            elif call.start < history.overlapping_from and not _is_within(call, excused):
                looks.append(call)
    found += _stale("A", key, looks, calls, versions, [v.acknowledged for v in versions])
    found += _stale("C", key, looks, calls, versions, [v.committed + SETTLE_S + CLOCKS_S for v in versions])
    for begin, end in history.calm:
        # All changes, and what was seen in that time: a part of a linearizable history is linearizable.
        part = [c for c in calls if (c.kind != "look" and c.outcome != "refused") or begin <= c.start <= c.end <= end]
        found += _order(key, part, versions)
    return found


# The events -----------------------------------------------------------------------------------------------


def _replay(key: str, events: Sequence[Event]) -> Iterator[Violation]:
    owner = NOBODY
    for event in events:
        if event.before != owner or event.before == event.after:
            text = f"event {event.event_id} says {event.before!r} -> {event.after!r}, the owner was {owner!r}"
            yield Violation("events", key, text)
        owner = event.after


def _change(event: Event) -> tuple[str, str]:
    """Return the kind and the owner of the calls that can have made it."""
    if event.after == NOBODY:
        return "remove", event.before
    return ("register" if event.before == NOBODY else "set"), event.after


def _group(calls: Iterable[Call], events: Iterable[Event]) -> dict[tuple[str, str], tuple[list[Call], list[Event]]]:
    groups: dict[tuple[str, str], tuple[list[Call], list[Event]]] = defaultdict(lambda: ([], []))
    for call in calls:
        if call.kind != "look":
            groups[call.kind, call.owner][0].append(call)
    for event in events:
        groups[_change(event)][1].append(event)
    return groups


def _account_for(key: str, calls: list[Call], events: list[Event]) -> Iterator[Violation]:
    """Every acknowledged change has its one event; every event has a call that can have made it."""
    for (kind, owner), (asked, written) in _group(calls, events).items():
        done = sum(call.outcome == "ok" for call in asked)
        perhaps = sum(call.outcome == "unknown" for call in asked)
        # A registration that exists already is confirmed again and written once.
        least = min(done, 1) if kind == "register" else done
        most = done + perhaps
        if least <= len(written) <= most:
            continue
        promise: Promise = "lost" if len(written) < least else "events"
        text = f"{kind} {owner!r}: {done} acknowledged, {perhaps} unknown, {len(written)} events"
        yield Violation(promise, key, text, tuple(asked))


def _versions(calls: list[Call], events: list[Event], faults: Sequence[Fault]) -> list[Version]:
    """All states of the key in order, the first being that nobody has it."""
    groups = _group(calls, events)
    taken: set[tuple[str, str]] = set()
    versions = [Version(NOBODY, -inf, -inf, -inf)]
    for event in events:
        change = _change(event)
        able = [call for call in groups[change][0] if call.outcome != "refused"]
        start = min((call.start for call in able), default=inf)
        acknowledged = inf
        # Of several events of one change (a call that was thought lost came through late) the acknowledgement is held
        # for the first one's: it asks for the least.
        if change not in taken:
            taken.add(change)
            acknowledged = min((_acknowledgement_time(call) for call in able if call.outcome == "ok"), default=inf)
        versions.append(Version(event.after, start, acknowledged, _visible(event.committed_at, faults)))
    return versions


def _acknowledgement_time(call: Call) -> float:
    return call.end + BY_HAND_SETTLE_S if call.where == "sql" else call.end


def _visible(committed_at: float, faults: Sequence[Fault]) -> float:
    """From when others could read it: a database that is stopped in the middle of a commit has not shown it yet."""
    ends = [
        fault.recovered
        for fault in faults
        if fault.kind.startswith("postgres") and fault.start <= committed_at <= fault.end
    ]
    return max([committed_at, *ends])


# The looks ------------------------------------------------------------------------------------------------


def _by_owner(versions: Sequence[Version]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for number, version in enumerate(versions):
        places[version.owner].append(number)
    return places


def _stale(
    promise: Promise, key: str, looks: list[Call], calls: list[Call], versions: list[Version], due: list[float]
) -> Iterator[Violation]:
    """Looks that started after a version was due, and saw one from before it."""
    by_due = sorted(range(len(versions)), key=lambda number: due[number])
    times = [due[number] for number in by_due]
    newest = list(accumulate(by_due, max))
    places = _by_owner(versions)
    # For each owner's versions, counted from the last: the earliest start among those from here on.
    starts = {
        owner: list(accumulate((versions[n].start for n in reversed(numbers)), min))[::-1]
        for owner, numbers in places.items()
    }
    for look in looks:
        least = newest[bisect_left(times, look.start) - 1]
        at = bisect_left(places[look.owner], least)
        if at < len(places[look.owner]) and starts[look.owner][at] < look.end:
            continue
        version = versions[least]
        late_ms = (look.start - due[least]) * 1000
        text = f"{look.owner!r} seen {late_ms:.1f} ms after {version.owner!r} was due"
        yield Violation(promise, key, text, _around(calls, version, look))


class _Placed(NamedTuple):
    call: Call
    places: Sequence[int]  # it may have any of them, ascending


def _order(key: str, calls: list[Call], versions: list[Version]) -> Iterator[Violation]:
    """Promise B, see the module."""
    reached, reached_by = -1, None
    ended: list[tuple[float, int, int, Call]] = []
    for number, (call, places) in enumerate(sorted(_place(calls, versions), key=lambda p: p.call.start)):
        while ended and ended[0][0] < call.start:
            _, place, _, other = heapq.heappop(ended)
            if place > reached:
                reached, reached_by = place, other
        at = bisect_left(places, reached)
        if at == len(places):
            before = (reached_by,) if reached_by is not None else ()
            yield Violation("B", key, "no place in any order of the calls", (*before, call))
            continue  # the others are judged without it
        heapq.heappush(ended, (call.end, places[at], number, call))


def _place(calls: list[Call], versions: list[Version]) -> Iterator[_Placed]:
    owners = _by_owner(versions)
    events: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, (old, new) in enumerate(pairwise(versions), 1):
        events[_change(Event(0, "", old.owner, new.owner, 0))].append(2 * number)
    held = [2 * n + 1 for n, version in enumerate(versions) if version.owner != NOBODY]
    free = [2 * n + 1 for n, version in enumerate(versions) if version.owner == NOBODY]
    # A call that was repeated, because its first attempt seemed lost: either attempt can have made the event.
    attempts: Counter[tuple[str, str]] = Counter(
        (call.kind, call.owner) for call in calls if call.kind != "look" and call.outcome != "refused"
    )
    for call in calls:
        change = events.get((call.kind, call.owner), [])
        if attempts[call.kind, call.owner] > 1 and call.outcome != "refused":
            continue
        if call.kind == "look" and call.outcome == "ok":
            yield _Placed(call, [2 * n + 1 for n in owners.get(call.owner, ())])
        elif call.outcome == "ok" and change:
            yield _Placed(call, change)
        elif call.outcome == "unknown" and change:  # without an event it has not happened
            yield _Placed(_drop_end(call), change)
        elif call.outcome == "refused" and call.kind == "remove" and call.status == 404:  # nobody had it
            yield _Placed(call, free)
        elif call.outcome == "refused" and call.kind != "look" and call.status in (403, 409):  # somebody else had it
            own = {2 * n + 1 for n in owners.get(call.owner, ())}
            yield _Placed(call, [place for place in held if place not in own])


def _drop_end(call: Call) -> Call:
    return Call(call.kind, call.key, call.owner, call.start, inf, call.outcome, call.where, call.status)


# In the end -----------------------------------------------------------------------------------------------


def _agreement(events: dict[str, list[Event]], said: Iterable[Said]) -> Iterator[Violation]:
    for word in said:
        owner = events[word.key][-1].after if events.get(word.key) else NOBODY
        if word.owner != owner:
            yield Violation("agreement", word.key, f"{word.who} says {word.owner!r}, the history {owner!r}")


# For people -----------------------------------------------------------------------------------------------


def _around(calls: list[Call], version: Version, look: Call) -> tuple[Call, ...]:
    """The changes and a few looks around what went wrong, in order."""
    since = min(version.start, look.start) - 0.05
    near = [call for call in calls if since <= call.start <= look.end and call is not look]
    near.sort(key=lambda call: call.start)
    changes = [call for call in near if call.kind != "look"]
    looks = [call for call in near if call.kind == "look" and call.start > look.start - 0.05]
    shown = changes[-SHOWN_MAX:] + looks[-SHOWN_MAX // 2 :] + [look]
    return tuple(sorted(shown, key=lambda call: call.start))


def _describe(call: Call) -> str:
    span = f"{call.start:14.4f} .. {call.end:14.4f}"
    return f"{span}  {call.where:4} {call.kind:8} {call.owner or 'nobody':12} {call.outcome} {call.status or ''}"
