"""Lists events: what changed, the newest first.

A page looks at a bounded number of events.  So a page can be short, or empty, and still have a `next`: go on until it
has none.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import Cursors
from oracle.api.admin.people import By, find_people
from oracle.api.admin.problems import Refusal
from oracle.api.admin.times import read_time
from oracle.api.history.questions import (
    AUDIT,
    OWN,
    Actor,
    Search,
    Text,
    fetch_event,
    from_query,
    no_such_event,
    read_filter_key,
    record,
)
from oracle.api.history.views import HistoryEvent, batch_number, event_of, name_actors, trace
from oracle.identifiers import PartyKey, Reading
from oracle.store import history
from oracle.store.history import EventFilter, PagePosition, decode_json

# As the database has them: a mistyped name is an error, and never an answer that nothing happened.
Channel = Literal["hub", "account-lookup", "admin", "import", "self-heal", "seed", "sql"]
Action = Literal["registered", "changed", "removed", "ignored"]
Entity = Literal[
    "alias",
    "fsp",
    "route",
    "policy",
    "credential",
    "batch",
    "audit-key",
    "secret",
    "oracle",
    "endpoints",
    "jws-key",
    "budget",
    "als-oracle",
    "session",
    "audit-reads",
]

_CLOCK_SKEW: Final = timedelta(hours=1)
# The record of a question names its identifier elsewhere; these say nothing of what was looked for.
_UNRECORDED: Final = ("kind", "identifier", "country", "cursor", "limit", "as_stored")


class EventSearch(Search, kw_only=True):
    """Which events; a field that is left out accepts any."""

    fsp_id: Text | None = None
    actor: Annotated[Actor | None, Meta(description="A credential, an FSP, or a database user")] = None
    by: By = None
    channel: Channel | None = None
    action: Action | None = None
    entity: Entity | None = None
    request_id: Annotated[Text | None, Meta(description="An X-Request-ID, or batch:NUMBER for what a file did")] = None
    trace_id: Text | None = None


class EventPage(Resource):
    items: list[HistoryEvent]
    next: Annotated[str | None, Meta(description="The cursor of the next page; a short page can have one too")]


def handlers() -> list[HTTPRouteHandler]:
    return [list_events, search_events, list_own_events, search_own_events, read_event, read_own_event]


@operation("listEvents", "GET", "/events", AUDIT, "List the events of the history, the newest first", answers=EventPage)
@from_query(EventSearch)
async def list_events(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: EventSearch
) -> Response[bytes]:
    return await _list(call, reading, data)


@operation(
    "searchEvents",
    "POST",
    "/events/search",
    AUDIT,
    "Search the events of the history, with the filters in the body",
    answers=EventPage,
)
async def search_events(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[EventSearch]
) -> Response[bytes]:
    return await _list(call, reading, data)


@operation(
    "listFspEvents",
    "GET",
    "/fsps/{fsp_id:str}/events",
    OWN,
    "List the events of an FSP's aliases, the newest first",
    answers=EventPage,
)
@from_query(EventSearch)
async def list_own_events(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: EventSearch
) -> Response[bytes]:
    return await _list_own(call, reading, data, fsp_id)


@operation(
    "searchFspEvents",
    "POST",
    "/fsps/{fsp_id:str}/events/search",
    OWN,
    "Search the events of an FSP's aliases, with the filters in the body",
    answers=EventPage,
    reads=True,
)
async def search_own_events(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: JSONBody[EventSearch]
) -> Response[bytes]:
    return await _list_own(call, reading, data, fsp_id)


@operation(
    "getEvent",
    "GET",
    "/events/{event_id:int}",
    AUDIT,
    "Read one event of the history, with the file that it came from",
    answers=HistoryEvent,
)
async def read_event(
    call: NamedDependency[Call], reading: NamedDependency[Reading], event_id: FromPath[int]
) -> Response[bytes]:
    return await _read(call, reading, event_id)


@operation(
    "getFspEvent",
    "GET",
    "/fsps/{fsp_id:str}/events/{event_id:int}",
    OWN,
    "Read one event of an FSP's aliases, with the file that it came from",
    answers=HistoryEvent,
)
async def read_own_event(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], event_id: FromPath[int]
) -> Response[bytes]:
    return await _read(call, reading, event_id, fsp_id)


async def _read(call: Call, reading: Reading, event_id: int, own: str | None = None) -> Response[bytes]:
    row = await fetch_event(call, event_id)
    if own is not None and not _concerns(row, own):
        raise no_such_event()
    key = None
    if row["party_id_type"] is not None:
        key = PartyKey(row["party_id_type"], row["party_identifier"] or "", row["sub_id"] or "")
    await record(call, "event", key, own or row["fsp_id"], {"eventId": event_id})
    event = event_of(row, reading, own=own)
    await trace(call.postgres, [event], call.fsp_ids)
    return call.read(event)


def _concerns(row: Any, own: str) -> bool:
    """Whether the list of an FSP's events has this one, too."""
    if row["entity"] != "alias":
        return False
    return own == row["fsp_id"] or (
        row["action"] == "changed" and own == (decode_json(row["before"]) or {}).get("fsp_id")
    )


async def _list_own(call: Call, reading: Reading, search: EventSearch, own: str) -> Response[bytes]:
    if search.fsp_id not in (None, own) or search.entity not in (None, "alias"):
        raise Refusal(
            400, "invalid", "This path lists the events of one FSP's aliases", "Leave out `fspId` and `entity`"
        )
    return await _list(call, reading, search, own)


async def _list(call: Call, reading: Reading, search: EventSearch, own: str | None = None) -> Response[bytes]:
    key = read_filter_key(reading, search)
    since, until = read_time("from", search.since), read_time("to", search.until)
    details = {
        name: value
        for name, value in msgspec.structs.asdict(search).items()
        if name not in _UNRECORDED and value is not None
    }
    cursors = Cursors(call.caller, "events", own, key, details)
    position = cursors.open(search.cursor, PagePosition)
    people = await find_people(call, search.by)
    await record(call, "events", key, own or search.fsp_id, details)
    wanted = EventFilter(
        party=None if key is None else (key.party_id_type, key.identifier),
        fsp_id=own or search.fsp_id,
        entity="alias" if own else search.entity,
        actor=search.actor, people=None if people is None else tuple(people), channel=search.channel,
        action=search.action, request_id=search.request_id,
        trace_id=search.trace_id, since=since, until=until,
    )  # fmt: skip
    page = await history.fetch_page(call.postgres, await _narrow(call, wanted), position, search.limit)
    items = [event_of(row, reading, own=own) for row in page.events]
    await name_actors(call.postgres, items, call.fsp_ids)
    following = None if page.next is None else cursors.close(page.next)
    return call.read_page(EventPage(items=items, next=following))


async def _narrow(call: Call, wanted: EventFilter) -> EventFilter:
    """Limit the events of a file to the time in which it was applied: faster to read than all of history."""
    number = batch_number(wanted.request_id)
    if number is None or wanted.party is not None or wanted.since is not None or wanted.until is not None:
        return wanted
    row = await call.postgres.row("batch_origin", number)
    if row is None or row["started_at"] is None:
        return wanted
    until = None if row["finished_at"] is None else row["finished_at"] + _CLOCK_SKEW
    return msgspec.structs.replace(wanted, since=row["uploaded_at"] - _CLOCK_SKEW, until=until)
