"""Rebuilds the directory at an instant from its events, and pages through them.

Instant.   A transaction counts as one change, from the time of its last event (of those that concern the question).
           No answer is built from half a change.  Lookups see a transaction when it commits, which is later: at most
           2 s later for the application, whose transactions are cut there; without limit for one that a person keeps
           open by hand.  Between the two times the hub may still have answered with the state before the change.
Final.     An event that already has its time may still be uncommitted.  An answer about an instant after
           `final_before` can still change.  An answer about an earlier instant never changes again.
Order.     For each slot (an entry of a key, an FSP, a route) the event with the highest number counts.  Writers of one
           slot wait for each other, so numbers follow the order of what happened, even if a clock was set back.
Heirs.     When a default entry is removed, a further currency takes its place.  The triggers write that as events too
           (removed, removed, registered), so this module guesses nothing.
Cost.      At an instant: the index entries of this identifier, of routes with one of its prefixes, and of the FSPs in
           these.  A page of events looks at WORK rows at most: it may be short or empty and still have a next page.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from oracle.identifiers.prefix import list_prefixes
from oracle.store.aliases import ANSWERED_STATUSES
from oracle.store.cache.values import Entry
from oracle.store.postgres import Postgres
from oracle.store.queries import QUERIES
from oracle.store.routes import fits, rank
from oracle.store.rows import FinalRow

WORK: Final = 20_000  # rows: about 50 ms
SPANS_MAX: Final = 60  # spans of time that one page looks into
BULK_ROWS: Final = 1_000
BULK_TIMEOUT_S: Final = 600.0  # to sort the changes of an FSP with millions of aliases
_BULK_SETTINGS: Final = {
    "statement_timeout": str(int(BULK_TIMEOUT_S * 1000)),
    "work_mem": "64MB",
}
# See _fetch_by_index.
_WALK_SETTINGS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
}
# Planned anew for each span: by its time where the caller wants most of its events, else by events_by_fsp_in_order.
# Without these settings the planner may hope to find enough rows soon, and read a month from the wrong end.
_SPAN_SETTINGS: Final = {
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "off",
    "enable_indexscan": "off",
}
_WALK_ORDERED: Final = ("enable_seqscan", "enable_bitmapscan", "enable_sort")
_STEPS_SETTINGS: Final = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
LAST_EVENT: Final = (1 << 63) - 1
FIRST_EVENT: Final = -(1 << 63)
LAST_INT: Final = (1 << 31) - 2
_MICROSECOND: Final = timedelta(microseconds=1)
_FIRST_SPAN: Final = timedelta(seconds=1)
BEGINNING: Final = datetime(1, 1, 2, tzinfo=UTC)  # a day inside the range of a datetime
END: Final = datetime(9999, 12, 30, tzinfo=UTC)


# At an instant ----------------------------------------------------------------------------------------------------


class EntryVersion(NamedTuple):
    """An entry of a key, and the event that wrote it as it is."""

    entry: Entry  # with the FSP that registered it, whether lookups answer with that FSP or not
    is_default: bool
    is_hint: bool
    event: Any


class RouteVersion(NamedTuple):
    """A route, and the event that wrote it as it is."""

    route_id: int
    kind: str
    prefix: str
    fsp_id: str
    valid_from: datetime
    valid_to: datetime
    event: Any


class StatusVersion(NamedTuple):
    """The status of an FSP, and the event that wrote it."""

    status: str
    event: Any


_Slot = tuple[str, str | None]  # SubId; the currency, or None for the default entry


class Situation:
    """Everything that decides about one identifier.  `apply` adds one event; the order of the calls does not matter."""

    def __init__(self, party_id_type: str, identifier: str) -> None:
        self.party_id_type = party_id_type
        self.identifier = identifier
        self.statuses: dict[str, StatusVersion] = {}
        self._entries: dict[_Slot, tuple[Any, EntryVersion | None]] = {}
        self._routes: dict[int, tuple[Any, RouteVersion | None]] = {}

    def apply(self, event: Any) -> None:
        entity = event["entity"]
        if entity == "alias":
            if event["action"] != "ignored":
                self._apply_alias(event)
        elif entity == "fsp":
            known = self.statuses.get(event["fsp_id"])
            if known is None or known.event["event_id"] < event["event_id"]:
                self.statuses[event["fsp_id"]] = StatusVersion(decode_json(event["after"])["status"], event)
        elif entity == "route":
            self._apply_route(event)

    def _apply_alias(self, event: Any) -> None:
        before, after = decode_json(event["before"]), decode_json(event["after"])
        state = after or before
        slot = event["sub_id"], None if state["default"] else state["currency"]
        known = self._entries.get(slot)
        if known is not None and known[0]["event_id"] > event["event_id"]:
            return
        version = None
        if after is not None:
            version = EntryVersion(
                Entry(after["fsp_id"], after["currency"], event["sub_id"]), after["default"], "hint" in after, event
            )
        self._entries[slot] = event, version

    def _apply_route(self, event: Any) -> None:
        before, after = decode_json(event["before"]), decode_json(event["after"])
        route_id = (after or before)["route_id"]
        known = self._routes.get(route_id)
        if known is not None and known[0]["event_id"] > event["event_id"]:
            return
        version = None
        if after is not None and after["party_id_type"] == self.party_id_type:
            span = parse_instant(after["valid_from"]), parse_instant(after["valid_to"])
            # Before migration 0005 a route had no kind, and answered every identifier of its type.
            kind = after.get("kind", self.party_id_type)
            version = RouteVersion(route_id, kind, after["prefix"], after["fsp_id"], *span, event)
        self._routes[route_id] = event, version

    def list_entries(self) -> list[EntryVersion]:
        """List the entries, the default ones first, in the order of the hub."""
        versions = [version for _, version in self._entries.values() if version is not None]
        return sorted(versions, key=lambda each: (not each.is_default, each.entry.sub_id, each.entry.currency))

    def list_cached_entries(self) -> list[Entry]:
        """List the entries as the cache holds them (see values): '' in place of a suspended or closed FSP."""
        return [each.entry._replace(fsp_id=self.mask_fsp(each.entry.fsp_id)) for each in self.list_entries()]

    def find_last_event(self, sub_id: str) -> Any:
        """Find the last event of the key with this SubId, also where that event removed the entry."""
        events = [event for (sub, _), (event, _) in self._entries.items() if sub == sub_id]
        return max(events, key=lambda event: event["event_id"], default=None)

    def mask_fsp(self, fsp_id: str) -> str:
        """Give the FSP back, or '' where its status keeps lookups from answering with it."""
        version = self.statuses.get(fsp_id)
        return fsp_id if version is not None and version.status in ANSWERED_STATUSES else ""

    def list_routes(self) -> list[RouteVersion]:
        """List the routes whose prefix begins this identifier, of any kind and valid at any time."""
        versions = (version for _, version in self._routes.values() if version is not None)
        return [version for version in versions if self.identifier.startswith(version.prefix)]

    def find_route(self, at: datetime) -> RouteVersion | None:
        """Find the longest route that is valid at an instant and fits, for an FSP of any status."""
        valid = [
            route
            for route in self.list_routes()
            if route.valid_from <= at < route.valid_to and fits(route.kind, self.identifier)
        ]
        return min(valid, key=lambda route: rank(route.prefix, route.kind), default=None)


async def fetch_situation(postgres: Postgres, party_id_type: str, identifier: str, at: datetime) -> Situation:
    """Fetch what decided about an identifier at an instant.  Raises DirectoryUnavailable."""
    situation = Situation(party_id_type, identifier)
    arguments = party_id_type, identifier, list_prefixes(identifier), at
    for event in await _fetch_by_index(postgres, "history_as_of", *arguments):
        situation.apply(event)
    return situation


async def fetch_final_before(postgres: Postgres) -> tuple[datetime, datetime]:
    """Fetch the time now, and the instant up to which history is complete.

    Ask before the question whose answer you want to call final.  Raises DirectoryUnavailable.
    """
    row: FinalRow = await postgres.row("history_final")
    return row["now"], row["final_before"]


class Step(NamedTuple):
    """A transaction, as far as it concerns one identifier."""

    at: datetime
    events: list[Any]


async def stream_steps(postgres: Postgres, party_id_type: str, identifier: str) -> AsyncGenerator[Step]:
    """Stream every transaction that ever concerned an identifier, the oldest first.

    Close it (`aclosing`) when you leave early.  Raises DirectoryUnavailable.
    """
    step: Step | None = None
    number: tuple[int, int] | None = None
    arguments = party_id_type, identifier, list_prefixes(identifier)
    async with aclosing(_stream(postgres, _STEPS_SETTINGS, "history_of_party", *arguments)) as stream:
        async for rows in stream:
            for row in rows:
                if step is not None and number == (row["era"], row["xact"]):
                    step.events.append(row)
                    continue
                if step is not None:
                    yield step
                step, number = Step(row["since"], [row]), (row["era"], row["xact"])
    if step is not None:
        yield step


def decode_json(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def parse_instant(text: str) -> datetime:
    """Read a time as jsonb writes it.  A time that no calendar has becomes the first or last one that we have."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return BEGINNING if text == "-infinity" or text.endswith("BC") else END
    return min(max(at, BEGINNING), END)


# Pages of events --------------------------------------------------------------------------------------------------


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events the caller wants; None accepts any value."""

    party: tuple[str, str] | None = None  # type, identifier
    fsp_id: str | None = None
    entity: str | None = None
    actor: str | None = None
    people: tuple[str, ...] | None = None  # the credentials of one person
    channel: str | None = None
    action: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def actors(self) -> list[str] | None:
        if self.people is None:
            return None if self.actor is None else [self.actor]
        return [each for each in self.people if self.actor in (None, each)]


class PagePosition(NamedTuple):
    """The event before which the next page begins; `at` counts only where pages follow time."""

    at: datetime
    event_id: int


class EventPage(NamedTuple):
    events: list[Any]
    next: PagePosition | None  # None: this is the last page


async def fetch_page(postgres: Postgres, wanted: EventFilter, position: PagePosition | None, limit: int) -> EventPage:
    """Fetch events, the newest first.  Looks at about WORK of them at most.  Raises DirectoryUnavailable."""
    start = position or PagePosition(END, LAST_EVENT)
    exact = wanted.since or BEGINNING, wanted.until or END
    months = _month(exact[0]), _month(exact[1], 1)
    more = wanted.actors, wanted.channel, wanted.action
    calls = wanted.request_id, wanted.trace_id

    async def fetch_of_party(before: int, work: int, left: int) -> list[Any]:
        walk = *(wanted.party or ()), before, *months, work, left
        filters = *more, wanted.entity, *calls, wanted.fsp_id, *exact
        return await _fetch_by_index(postgres, "events_of_party", *walk, *filters)

    async def fetch_of_fsp(before: int, work: int, left: int) -> list[Any]:
        return await _fetch_in_order(
            postgres, "events_of_fsp", wanted.fsp_id, before, work, left, *more, wanted.entity, *calls
        )

    async def fetch_of_entity(before: int, work: int, left: int) -> list[Any]:
        filters = *more, *calls, *exact
        return await _fetch_in_order(postgres, "events_of_entity", wanted.entity, before, *months, work, left, *filters)

    async def fetch_of_all(before: int, work: int, left: int) -> list[Any]:
        filters = *more, wanted.entity, *calls, *exact
        return await _fetch_in_order(postgres, "events_from", before, *months, work, left, *filters)

    if wanted.party is not None:
        return await _page_by_number(fetch_of_party, start, limit)
    if wanted.fsp_id is not None:
        # A limit in time has no place in the index: by number the page would read all that came after it.  And a page
        # that an older version of this program began goes on by time.
        by_time = wanted.since or wanted.until or start.event_id == FIRST_EVENT
        return await (
            _page_by_time(postgres, wanted, start, limit) if by_time else _page_by_number(fetch_of_fsp, start, limit)
        )
    if wanted.entity not in (None, "alias"):
        return await _page_by_number(fetch_of_entity, start, limit)
    if wanted.until is None:
        return await _page_by_number(fetch_of_all, start, limit)
    # By number the page would read everything that came after `until`.
    return await _page_by_time(postgres, wanted, start, limit)


def _month(at: datetime, later: int = 0) -> datetime:
    """Return the beginning of the month, or of the one after it."""
    year, month = divmod(at.year * 12 + at.month - 1 + later, 12)
    return END if year > END.year else datetime(year, month + 1, 1, tzinfo=UTC)


async def _page_by_number(
    fetch: Callable[[int, int, int], Awaitable[list[Any]]], position: PagePosition, limit: int
) -> EventPage:
    """`fetch(before, work, left)` looks at `work` events before that one.  The work grows while few events match."""
    found: list[Any] = []
    walked, work = 0, limit
    while walked < WORK:
        rows = await fetch(position.event_id, work, limit - len(found))
        found += [row for row in rows if row["event_id"] is not None]
        if len(found) == limit:
            return EventPage(found, PagePosition(found[-1]["at"], found[-1]["event_id"]))
        if rows[0]["walked"] < work:
            return EventPage(found, None)
        walked += work
        position, work = PagePosition(END, rows[0]["walked_to"]), min(work * 8, WORK)
    return EventPage(found, position)


async def _page_by_time(postgres: Postgres, wanted: EventFilter, start: PagePosition, limit: int) -> EventPage:
    """Read spans of time, each as long as WORK rows allow.

    A span grows after one that was nearly empty.  It shrinks after one that held too many rows, and no later span
    reaches back as far as the beginning of that one again.
    """
    since, now = wanted.since or BEGINNING, datetime.now(UTC)
    position = PagePosition(wanted.until, FIRST_EVENT) if wanted.until and wanted.until <= start.at else start
    filters = (
        wanted.actors,
        wanted.channel,
        wanted.action,
        wanted.entity,
        wanted.request_id,
        wanted.trace_id,
        wanted.fsp_id,
    )
    found: list[Any] = []
    walked, dense = 0, None
    width = max(position.at - now, timedelta()) + _FIRST_SPAN  # the future holds hardly any events
    async with postgres.desk.lend(**_SPAN_SETTINGS) as connection:
        for _ in range(SPANS_MAX):
            if position.at < since or (position.at == since and position.event_id == FIRST_EVENT):
                return EventPage(found, None)
            begin = max(since, _subtract(position.at, width))
            # More than WORK at one instant: somebody wrote the time by hand.
            most = WORK if width > _MICROSECOND else LAST_INT
            rows = await connection.fetch(
                QUERIES["events_of_span"], begin, *position, most, limit - len(found), *filters
            )
            here = rows[0]["walked"]
            if here > most:
                dense, width = begin, max((position.at - begin) / 8, _MICROSECOND)
                continue
            found += [row for row in rows if row["event_id"] is not None]
            if len(found) == limit:
                return EventPage(found, PagePosition(found[-1]["at"], found[-1]["event_id"]))
            walked += here
            if walked >= WORK:
                return EventPage(found, PagePosition(begin, FIRST_EVENT) if begin > since else None)
            if begin < now < position.at:
                width = _FIRST_SPAN
            elif here < WORK // 16:
                width *= 8 if here else 64
            position = PagePosition(begin, FIRST_EVENT)
            if dense is not None:
                width = min(width, max((begin - dense) / 2, _MICROSECOND))
    return EventPage(found, position)


def _subtract(at: datetime, width: timedelta) -> datetime:
    return at - width if at - BEGINNING > width else BEGINNING


# Between two instants ---------------------------------------------------------------------------------------------


class CurrencyEntry(NamedTuple):
    """An entry that an FSP has under a key."""

    currency: str
    is_default: bool
    is_hint: bool


class Difference(NamedTuple):
    """How the entries of an FSP under one key changed, and the events that changed them."""

    party_id_type: str
    identifier: str
    sub_id: str
    removed: list[CurrencyEntry]
    added: list[CurrencyEntry]
    event_ids: list[int]


class DifferenceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When the first keys are read apart, in the order of an index, and how many events are read for them."""

    many: int = 50_000  # events of an FSP: sorting more takes longer than a person likes to wait for the first lines
    walk: int = 10_000


LIMITS: Final = DifferenceLimits()


async def stream_differences(
    postgres: Postgres, fsp_id: str, since: datetime, until: datetime, limits: DifferenceLimits = LIMITS
) -> AsyncGenerator[list[Difference]]:
    """Stream how the entries of an FSP at `until` differ from those at `since`: key by key, some keys at a time.

    To sort the events of an FSP with millions takes PostgreSQL a minute.  So for such an FSP the keys from its first
    identifier on come from the order of an index; then follow the others, sorted.  The memory is that of a walk.

    Raises DirectoryUnavailable.
    """
    span = fsp_id, since, until
    async with _open_snapshot(postgres, {}) as connection:
        begin = end = ""
        if await connection.fetchval(QUERIES["history_has_many"], fsp_id, limits.many):
            begin = await connection.fetchval(QUERIES["first_identifier"], fsp_id) or ""
            first, end = await _fetch_first_keys(connection, *span, begin, limits.walk)
            keys = [list(group) for _, group in groupby(first, _key_of)]
            for at in range(0, len(keys), BULK_ROWS):  # who makes lines of them lets other calls work in between
                yield _compare_all(keys[at : at + BULK_ROWS], *span)
        rest: list[Any] = []
        cursor = await connection.cursor(QUERIES["history_of_fsp"], *span, begin, end)
        while rows := await cursor.fetch(BULK_ROWS, timeout=BULK_TIMEOUT_S):
            groups = [list(group) for _, group in groupby([*rest, *rows], _key_of)]
            rest = groups.pop()  # the next rows may belong to the same key
            yield _compare_all(groups, *span)
        if rest:
            yield _compare_all([rest], *span)


async def _fetch_first_keys(
    connection: asyncpg.Connection, fsp_id: str, since: datetime, until: datetime, begin: str, walk: int
) -> tuple[list[Any], str]:
    """Fetch the events of the first identifiers from `begin` on, and the identifier before which these end."""
    for setting in _WALK_ORDERED:
        await connection.execute(f"SET LOCAL {setting} = off")
    arguments = fsp_id, since, until, begin, walk
    rows = await connection.fetch(QUERIES["history_of_first_keys"], *arguments, timeout=BULK_TIMEOUT_S)
    for setting in _WALK_ORDERED:
        await connection.execute(f"SET LOCAL {setting} = on")
    end = rows[0]["walked_to"] or begin
    return [row for row in rows if row["event_id"] is not None and row["party_identifier"] < end], end


def _key_of(row: Any) -> tuple[str, str, str]:
    return row["party_identifier"], row["party_id_type"], row["sub_id"]


def _compare_all(groups: list[list[Any]], fsp_id: str, since: datetime, until: datetime) -> list[Difference]:
    differences = (_compare(group, fsp_id, since, until) for group in groups)
    return [each for each in differences if each is not None]


def _compare(events: list[Any], fsp_id: str, since: datetime, until: datetime) -> Difference | None:
    """`events` are those of one key, in their order."""
    ends: dict[int, datetime] = {}
    for event in events:
        ends[event["xact"]] = max(event["at"], ends.get(event["xact"], BEGINNING))
    first: dict[str | None, CurrencyEntry | None] = {}
    last: dict[str | None, CurrencyEntry | None] = {}
    counted = [event for event in events if since < ends[event["xact"]] <= until]
    for event in counted:
        before, after = decode_json(event["before"]), decode_json(event["after"])
        state = after or before
        slot = None if state["default"] else state["currency"]
        first.setdefault(slot, _own_entry(before, fsp_id))
        last[slot] = _own_entry(after, fsp_id)
    removed = [entry for slot, entry in first.items() if entry is not None and entry != last[slot]]
    added = [entry for slot, entry in last.items() if entry is not None and entry != first[slot]]
    if not removed and not added:
        return None
    identifier, party_id_type, sub_id = _key_of(events[0])
    return Difference(party_id_type, identifier, sub_id, removed, added, [event["event_id"] for event in counted])


def _own_entry(state: Any, fsp_id: str) -> CurrencyEntry | None:
    if state is None or state["fsp_id"] != fsp_id:
        return None
    return CurrencyEntry(state["currency"], state["default"], "hint" in state)


# Connections ------------------------------------------------------------------------------------------------------


async def _fetch_by_index(postgres: Postgres, query: str, *arguments: Any) -> list[Any]:
    """Fetch rows on a connection that plans once, for index look-ups.

    With one partition a month to plan for, planning each time would take many times longer than the query itself.
    Raises DirectoryUnavailable.
    """
    return await postgres.reads.rows(query, *arguments)


async def _fetch_in_order(postgres: Postgres, query: str, *arguments: Any) -> list[Any]:
    """Fetch rows by walking an index from its end: a sort could meet millions of rows.  Raises DirectoryUnavailable."""
    async with postgres.desk.lend(**_WALK_SETTINGS) as connection:
        rows: list[Any] = await connection.fetch(QUERIES[query], *arguments)
        return rows


@asynccontextmanager
async def _open_snapshot(postgres: Postgres, settings: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection with one snapshot, without a time limit."""
    async with (
        postgres.streams.lend(**_BULK_SETTINGS, **settings) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def _stream(
    postgres: Postgres, settings: dict[str, str], query: str, *arguments: Any
) -> AsyncGenerator[list[Any]]:
    """Stream rows of one snapshot, without a time limit."""
    async with _open_snapshot(postgres, settings) as connection:
        cursor = await connection.cursor(QUERIES[query], *arguments)
        while rows := await cursor.fetch(BULK_ROWS, timeout=BULK_TIMEOUT_S):
            yield rows
