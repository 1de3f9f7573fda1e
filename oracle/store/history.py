"""What the directory was at an instant, made of its events, and walks through them.

Instant.   A transaction counts as one, from the time of its last event on (of those that concern the question): no
           answer is made of half a change.  Lookups see it when it is committed, which is later: by 2 s at most for
           what the application does (its transactions are cut there), by any time for one that somebody keeps open by
           hand.  Within that time after a change the hub may have said what stood before it, and nowhere else.
Final.     An event that has its time already may not be committed yet.  What is asked about an instant after
           `final_before` may still change; what lies before it is the same for ever.
Order.     Of each place (an entry of a key, an FSP, a rule) the event with the highest number counts: those who write
           one place wait for each other, so numbers are in the order of what happened, even if a clock was set back.
Heirs.     When a default entry goes, a further currency takes its place.  The triggers write that as events, too
           (removed, removed, registered), so nothing has to be guessed here.
Cost.      As of an instant: the index entries of this identifier, of rules with one of its prefixes, and of the FSPs in
           these.  A page of events: WORK rows looked at, at most; it may be short, or empty, and still go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from oracle.errors import DirectoryUnavailable
from oracle.store.cache.values import Entry
from oracle.store.postgres import Postgres, is_away, is_busy
from oracle.store.queries import QUERIES

ANSWERED: Final = frozenset({"active", "provisional"})
WORK: Final = 20_000  # rows: some 50 ms
SPANS_MAX: Final = 60  # of time that one page looks into
BULK_ROWS: Final = 1_000
BULK_TIMEOUT_S: Final = 600.0  # to sort the changes of an FSP with millions of aliases
_BULK_SETTINGS: Final = {
    "statement_timeout": str(int(BULK_TIMEOUT_S * 1000)),
    "work_mem": "64MB",
}
# See _by_index.
_WALK_SETTINGS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
}
# Planned for each span: by its time where much of all that happened is wanted, else by events_by_fsp.  No plan that
# hopes to come by enough rows soon and walks through a month from the wrong end.
_SPAN_SETTINGS: Final = {
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "off",
    "enable_indexscan": "off",
}
_LIFE_SETTINGS: Final = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
LAST_EVENT: Final = (1 << 63) - 1
FIRST_EVENT: Final = -(1 << 63)
LAST_INT: Final = (1 << 31) - 2
_MICROSECOND: Final = timedelta(microseconds=1)
_SPAN_FIRST: Final = timedelta(seconds=1)
BEGINNING: Final = datetime(1, 1, 2, tzinfo=UTC)  # a day inside of what a datetime can say
END: Final = datetime(9999, 12, 30, tzinfo=UTC)


# As of an instant -------------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """An entry of a key, and the event that made it what it is."""

    entry: Entry  # fsp_id as registered, answered or not
    is_default: bool
    event: Any


class Rule(NamedTuple):
    """A route, and the event that made it what it is."""

    route_id: int
    prefix: str
    fsp_id: str
    valid_from: datetime
    valid_to: datetime
    event: Any


class Status(NamedTuple):
    status: str
    event: Any


_Slot = tuple[str, str | None]  # SubId; the currency, or None for the default entry


class Standing:
    """What stands around one identifier; `apply` takes it from one event to the next, in any order."""

    def __init__(self, party_id_type: str, identifier: str) -> None:
        self.party_id_type = party_id_type
        self.identifier = identifier
        self.statuses: dict[str, Status] = {}
        self._slots: dict[_Slot, tuple[Any, Held | None]] = {}
        self._rules: dict[int, tuple[Any, Rule | None]] = {}

    def apply(self, event: Any) -> None:
        entity = event["entity"]
        if entity == "alias":
            if event["action"] != "ignored":
                self._apply_alias(event)
        elif entity == "fsp":
            known = self.statuses.get(event["fsp_id"])
            if known is None or known.event["event_id"] < event["event_id"]:
                self.statuses[event["fsp_id"]] = Status(json_of(event["after"])["status"], event)
        elif entity == "route":
            self._apply_route(event)

    def _apply_alias(self, event: Any) -> None:
        before, after = json_of(event["before"]), json_of(event["after"])
        said = after or before
        slot = event["sub_id"], None if said["default"] else said["currency"]
        known = self._slots.get(slot)
        if known is not None and known[0]["event_id"] > event["event_id"]:
            return
        held = None
        if after is not None:
            held = Held(Entry(after["fsp_id"], after["currency"], event["sub_id"]), after["default"], event)
        self._slots[slot] = event, held

    def _apply_route(self, event: Any) -> None:
        before, after = json_of(event["before"]), json_of(event["after"])
        route_id = (after or before)["route_id"]
        known = self._rules.get(route_id)
        if known is not None and known[0]["event_id"] > event["event_id"]:
            return
        rule = None
        if after is not None and after["party_id_type"] == self.party_id_type:
            span = instant_of(after["valid_from"]), instant_of(after["valid_to"])
            rule = Rule(route_id, after["prefix"], after["fsp_id"], *span, event)
        self._rules[route_id] = event, rule

    # -- what stands ----------------------------------------------------------------------------------------------

    def held(self) -> list[Held]:
        """The default entries first, as the hub has them."""
        held = [each for _, each in self._slots.values() if each is not None]
        return sorted(held, key=lambda each: (not each.is_default, each.entry.sub_id, each.entry.currency))

    def entries(self) -> list[Entry]:
        """As the cache would hold them (see values): an FSP that is not answered is ''."""
        return [each.entry._replace(fsp_id=self.answered(each.entry.fsp_id)) for each in self.held()]

    def last_event(self, sub_id: str) -> Any:
        """Of the key with this SubId: what left it as it is, also when nothing stands there."""
        events = [event for (sub, _), (event, _) in self._slots.items() if sub == sub_id]
        return max(events, key=lambda event: event["event_id"], default=None)

    def answered(self, fsp_id: str) -> str:
        status = self.statuses.get(fsp_id)
        return fsp_id if status is not None and status.status in ANSWERED else ""

    def rules(self) -> Iterator[Rule]:
        for _, rule in self._rules.values():
            if rule is not None and self.identifier.startswith(rule.prefix):
                yield rule

    def rule_at(self, at: datetime) -> Rule | None:
        """The longest rule that holds at an instant, whether its FSP is answered or not."""
        holding = [rule for rule in self.rules() if rule.valid_from <= at < rule.valid_to]
        return max(holding, key=lambda rule: len(rule.prefix), default=None)


def prefixes_of(identifier: str) -> list[str]:
    return [identifier[:length] for length in range(1, len(identifier) + 1)]


async def standing(postgres: Postgres, party_id_type: str, identifier: str, at: datetime) -> Standing:
    """What stood around an identifier at an instant.  Raises DirectoryUnavailable."""
    stood = Standing(party_id_type, identifier)
    for event in await _by_index(postgres, "history_as_of", party_id_type, identifier, prefixes_of(identifier), at):
        stood.apply(event)
    return stood


async def final_before(postgres: Postgres) -> tuple[datetime, datetime]:
    """The time now, and until when history is complete.  To be asked before what is to be called final.

    Raises DirectoryUnavailable.
    """
    row = await postgres.row("history_final")
    return row["now"], row["final_before"]


class Step(NamedTuple):
    """A transaction, as far as it concerns one identifier."""

    at: datetime
    events: list[Any]


async def steps(postgres: Postgres, party_id_type: str, identifier: str) -> AsyncGenerator[Step]:
    """All that ever concerned an identifier.  Close it when leaving early (aclosing).  Raises DirectoryUnavailable."""
    step: Step | None = None
    number: tuple[int, int] | None = None
    arguments = party_id_type, identifier, prefixes_of(identifier)
    async with aclosing(_streamed(postgres, _LIFE_SETTINGS, "history_of_party", *arguments)) as streamed:
        async for rows in streamed:
            for row in rows:
                if step is not None and number == (row["era"], row["xact"]):
                    step.events.append(row)
                    continue
                if step is not None:
                    yield step
                step, number = Step(row["since"], [row]), (row["era"], row["xact"])
    if step is not None:
        yield step


def json_of(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def instant_of(text: str) -> datetime:
    """Of a time as jsonb has it; what no calendar has is as far off as there is."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return BEGINNING if text == "-infinity" or text.endswith("BC") else END
    return min(max(at, BEGINNING), END)


# Walks ------------------------------------------------------------------------------------------------------------


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events; None is any."""

    party: tuple[str, str] | None = None  # type, identifier
    fsp_id: str | None = None
    entity: str | None = None
    actor: str | None = None
    channel: str | None = None
    action: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Place(NamedTuple):
    """Before which event to go on; `at` counts where one walks by time."""

    at: datetime
    event_id: int


class Page(NamedTuple):
    events: list[Any]
    next: Place | None  # None: there is nothing more


async def page(postgres: Postgres, wanted: Wanted, place: Place | None, limit: int) -> Page:
    """Events from the newest on, WORK of them looked at or a little more.  Raises DirectoryUnavailable."""
    start = place or Place(END, LAST_EVENT)
    exact = wanted.since or BEGINNING, wanted.until or END
    span = _month(exact[0]), _month(exact[1], 1)
    more = wanted.actor, wanted.channel, wanted.action
    calls = wanted.request_id, wanted.trace_id

    async def of_party(before: int, work: int, left: int) -> list[Any]:
        filters = *more, wanted.entity, *calls, wanted.fsp_id, *exact
        return await _by_index(postgres, "events_of_party", *(wanted.party or ()), before, *span, work, left, *filters)

    async def of_entity(before: int, work: int, left: int) -> list[Any]:
        filters = *more, *calls, *exact
        return await _in_order(postgres, "events_of_entity", wanted.entity, before, *span, work, left, *filters)

    async def of_all(before: int, work: int, left: int) -> list[Any]:
        filters = *more, wanted.entity, *calls, *exact
        return await _in_order(postgres, "events_from", before, *span, work, left, *filters)

    if wanted.party is not None:
        return await _page_by_index(of_party, start, limit)
    if wanted.fsp_id is not None:
        # By number one would have to go through those of all others, who may have a thousand times as many.
        return await _page_by_time(postgres, wanted, start, limit)
    if wanted.entity not in (None, "alias"):
        return await _page_by_index(of_entity, start, limit)
    if wanted.until is None:
        return await _page_by_index(of_all, start, limit)
    # By number one would have to go through all that came after it.
    return await _page_by_time(postgres, wanted, start, limit)


def _month(at: datetime, later: int = 0) -> datetime:
    """The beginning of the month, or of the one after it."""
    year, month = divmod(at.year * 12 + at.month - 1 + later, 12)
    return END if year > END.year else datetime(year, month + 1, 1, tzinfo=UTC)


async def _page_by_index(fetch: Callable[[int, int, int], Awaitable[list[Any]]], place: Place, limit: int) -> Page:
    """`fetch(before, work, left)` looks at `work` events before that one.  More at a time while few are wanted."""
    found: list[Any] = []
    walked, work = 0, limit
    while walked < WORK:
        rows = await fetch(place.event_id, work, limit - len(found))
        found += [row for row in rows if row["event_id"] is not None]
        if len(found) == limit:
            return Page(found, Place(found[-1]["at"], found[-1]["event_id"]))
        if rows[0]["walked"] < work:
            return Page(found, None)
        walked += work
        place, work = Place(END, rows[0]["walked_to"]), min(work * 8, WORK)
    return Page(found, place)


async def _page_by_time(postgres: Postgres, wanted: Wanted, start: Place, limit: int) -> Page:
    """Spans of time, each as long as it may be for WORK rows: longer after a nearly empty one, shorter after one that
    held too many, and never again as far back as that one.
    """
    since, now = wanted.since or BEGINNING, datetime.now(UTC)
    place = Place(wanted.until, FIRST_EVENT) if wanted.until and wanted.until <= start.at else start
    filters = (
        wanted.actor,
        wanted.channel,
        wanted.action,
        wanted.entity,
        wanted.request_id,
        wanted.trace_id,
        wanted.fsp_id,
    )
    found: list[Any] = []
    walked, dense = 0, None
    width = max(place.at - now, timedelta()) + _SPAN_FIRST  # of the future there is hardly anything
    async with lent(postgres, **_SPAN_SETTINGS) as connection:
        for _ in range(SPANS_MAX):
            if place.at < since or (place.at == since and place.event_id == FIRST_EVENT):
                return Page(found, None)
            begin = max(since, _before(place.at, width))
            # So many at one instant: somebody wrote the time by hand.
            most = WORK if width > _MICROSECOND else LAST_INT
            rows = await connection.fetch(QUERIES["events_of_span"], begin, *place, most, limit - len(found), *filters)
            here = rows[0]["walked"]
            if here > most:
                dense, width = begin, max((place.at - begin) / 8, _MICROSECOND)
                continue
            found += [row for row in rows if row["event_id"] is not None]
            if len(found) == limit:
                return Page(found, Place(found[-1]["at"], found[-1]["event_id"]))
            walked += here
            if walked >= WORK:
                return Page(found, Place(begin, FIRST_EVENT) if begin > since else None)
            if begin < now < place.at:
                width = _SPAN_FIRST
            elif here < WORK // 16:
                width *= 8 if here else 64
            place = Place(begin, FIRST_EVENT)
            if dense is not None:
                width = min(width, max((begin - dense) / 2, _MICROSECOND))
    return Page(found, place)


def _before(at: datetime, width: timedelta) -> datetime:
    return at - width if at - BEGINNING > width else BEGINNING


# Between two instants ---------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """An entry of an FSP under a key."""

    currency: str
    is_default: bool


class Difference(NamedTuple):
    party_id_type: str
    identifier: str
    sub_id: str
    gone: list[Part]
    come: list[Part]
    event_ids: list[int]


async def differences(
    postgres: Postgres, fsp_id: str, since: datetime, until: datetime
) -> AsyncGenerator[list[Difference]]:
    """How the entries of an FSP at `until` differ from those at `since`, key by key, some at a time.

    The memory is that of one key.  Raises DirectoryUnavailable.
    """
    rest: list[Any] = []
    async with aclosing(_streamed(postgres, {}, "history_of_fsp", fsp_id, since, until)) as streamed:
        async for rows in streamed:
            groups = [list(group) for _, group in groupby([*rest, *rows], _key_of)]
            rest = groups.pop()  # the next rows may be of the same key
            yield _told(groups, fsp_id, since, until)
    if rest:
        yield _told([rest], fsp_id, since, until)


def _key_of(row: Any) -> tuple[str, str, str]:
    return row["party_identifier"], row["party_id_type"], row["sub_id"]


def _told(groups: list[list[Any]], fsp_id: str, since: datetime, until: datetime) -> list[Difference]:
    told = (_difference(group, fsp_id, since, until) for group in groups)
    return [each for each in told if each is not None]


def _difference(events: list[Any], fsp_id: str, since: datetime, until: datetime) -> Difference | None:
    over: dict[int, datetime] = {}
    for event in events:
        over[event["xact"]] = max(event["at"], over.get(event["xact"], BEGINNING))
    first: dict[str | None, Part | None] = {}
    last: dict[str | None, Part | None] = {}
    counted = [event for event in events if since < over[event["xact"]] <= until]
    for event in counted:
        before, after = json_of(event["before"]), json_of(event["after"])
        said = after or before
        slot = None if said["default"] else said["currency"]
        first.setdefault(slot, _part(before, fsp_id))
        last[slot] = _part(after, fsp_id)
    gone = [part for slot, part in first.items() if part is not None and part != last[slot]]
    come = [part for slot, part in last.items() if part is not None and part != first[slot]]
    if not gone and not come:
        return None
    identifier, party_id_type, sub_id = _key_of(events[0])
    return Difference(party_id_type, identifier, sub_id, gone, come, [event["event_id"] for event in counted])


def _part(said: Any, fsp_id: str) -> Part | None:
    return Part(said["currency"], said["default"]) if said is not None and said["fsp_id"] == fsp_id else None


# Connections ------------------------------------------------------------------------------------------------------


async def _by_index(postgres: Postgres, query: str, *arguments: Any) -> list[Any]:
    """Rows on a connection that plans once, for index look-ups: with a partition a month to plan for, that would take
    many times longer than what is planned.  Raises DirectoryUnavailable.
    """
    assert postgres.reads is not None  # noqa: S101 - opened by wiring
    if postgres.away:
        raise DirectoryUnavailable
    try:
        async with postgres.reads.acquire(timeout=2) as connection:
            rows: list[Any] = await connection.fetch(QUERIES[query], *arguments)
            return rows
    except Exception as exc:
        if is_away(exc) or is_busy(exc):
            raise DirectoryUnavailable from exc
        raise


async def _in_order(postgres: Postgres, query: str, *arguments: Any) -> list[Any]:
    """Rows by walking an index from its end; an FSP may have millions to sort.  Raises DirectoryUnavailable."""
    async with lent(postgres, **_WALK_SETTINGS) as connection:
        rows: list[Any] = await connection.fetch(QUERIES[query], *arguments)
        return rows


@asynccontextmanager
async def lent(postgres: Postgres, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the desk with these settings, for as long as something streams.  Raises DirectoryUnavailable."""
    assert postgres.desk is not None  # noqa: S101 - opened by wiring
    if postgres.away:
        raise DirectoryUnavailable
    try:
        async with postgres.desk.acquire(timeout=2) as connection:
            try:
                await connection.execute(QUERIES["settings_lend"], list(settings), list(settings.values()))
                yield connection
            finally:
                if not connection.is_closed():
                    with contextlib.suppress(asyncpg.PostgresError, OSError, asyncpg.InterfaceError):
                        await connection.execute("RESET ALL")
    except Exception as exc:
        if is_away(exc) or is_busy(exc):
            raise DirectoryUnavailable from exc
        raise


async def _streamed(
    postgres: Postgres, settings: dict[str, str], query: str, *arguments: Any
) -> AsyncGenerator[list[Any]]:
    """Rows as they stood when it began, in whatever time it takes."""
    async with (
        lent(postgres, **_BULK_SETTINGS, **settings) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        cursor = await connection.cursor(QUERIES[query], *arguments)
        while rows := await cursor.fetch(BULK_ROWS, timeout=BULK_TIMEOUT_S):
            yield rows
