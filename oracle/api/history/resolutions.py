"""Says what an identifier resolved to: at one instant, and from its first day on.

Times in answers are those of events.  `isFinal` is false only for the last moments, while a transaction that began
earlier is still open.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursors
from oracle.api.admin.times import read_time
from oracle.api.admin.values import Currency, capitalise
from oracle.api.history.questions import AUDIT, OWN, Cursor, Limit, Party, from_query, read_key, record
from oracle.api.history.views import HistoryEvent, display_of, event_of, trace
from oracle.api.hub.answers import encode_answer
from oracle.identifiers import PartyKey, Reading
from oracle.store import history
from oracle.store.history import Situation
from oracle.store.resolution import Reason, Resolution, resolve

# What is asked ------------------------------------------------------------------------------------------------------


class ResolveQuestion(Party, kw_only=True):
    at: Annotated[datetime | None, Meta(description="null: now")] = None
    currency: Currency | None = None


class TimelineQuestion(Party, kw_only=True):
    currency: Currency | None = None
    limit: Limit = PAGE
    cursor: Cursor | None = None


# What is answered ---------------------------------------------------------------------------------------------------


class PastEntry(Resource):
    """An entry that the identifier had."""

    sub_id: str | None
    currency: Annotated[str | None, Meta(description="null: every currency")]
    fsp_id: str
    default: bool
    fsp_status: str | None
    event_id: Annotated[int, Meta(description="The event that wrote it")]


class PastRoute(Resource):
    """The route that decided."""

    route_id: int
    kind: Annotated[str, Meta(description="The route answered identifiers of this kind only")]
    prefix: str
    fsp_id: str
    fsp_status: str | None
    valid_from: datetime
    valid_to: datetime
    event_id: Annotated[int, Meta(description="The event that wrote it")]


class PartyName(Resource):
    kind: str
    party_id_type: str
    identifier: Annotated[str, Meta(description="Canonical: as events and exports have it")]
    sub_id: str | None
    display: str


class PastAnswer(Resource):
    """What the hub would have been answered at an instant, and why."""

    party: PartyName
    at: datetime
    is_final: Annotated[bool, Meta(description="false: a transaction that began earlier can still change this answer")]
    asked_currency: str | None
    fsp_id: Annotated[str | None, Meta(description="The FSP that the hub would have been given; null: none")]
    currency: str | None
    reason: Annotated[Reason, Meta(description="What decided")]
    party_list: Annotated[list[dict[str, str]], Meta(description="The answer to the hub, member by member")]
    entries: list[PastEntry]
    route: PastRoute | None
    events: Annotated[list[HistoryEvent], Meta(description="The events that led to this answer")]


class Moment(Resource):
    """From this instant until the next one, this was the answer."""

    at: datetime
    fsp_id: str | None
    currency: str | None
    reason: Reason
    entries: list[PastEntry]
    events: Annotated[
        list[HistoryEvent],
        Meta(description="The events that led to this answer; none where a route began or ended by its own times"),
    ]


class Timeline(Resource):
    party: PartyName
    items: Annotated[list[Moment], Meta(description="The oldest first")]
    next: str | None


def handlers() -> list[HTTPRouteHandler]:
    return [read_resolution, ask_resolution, ask_own_resolution, read_timeline, ask_timeline, ask_own_timeline]


# At an instant ------------------------------------------------------------------------------------------------------


@operation(
    "resolveAt",
    "GET",
    "/resolve",
    AUDIT,
    "Find the FSP that an identifier belonged to at a past time, and why",
    answers=PastAnswer,
)
@from_query(ResolveQuestion)
async def read_resolution(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: ResolveQuestion
) -> Response[bytes]:
    return await _resolve(call, reading, data)


@operation(
    "resolveAtByBody",
    "POST",
    "/resolve",
    AUDIT,
    "Find the FSP of an identifier at a past time, with the identifier in the body",
    answers=PastAnswer,
)
async def ask_resolution(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[ResolveQuestion]
) -> Response[bytes]:
    return await _resolve(call, reading, data)


@operation(
    "resolveFspAliasAt",
    "POST",
    "/fsps/{fsp_id:str}/resolve",
    OWN,
    "Find how an FSP's own alias was answered at a past time",
    answers=PastAnswer,
    reads=True,
)
async def ask_own_resolution(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    fsp_id: FromPath[str],
    data: JSONBody[ResolveQuestion],
) -> Response[bytes]:
    """Entries of other FSPs, and routes, are left out: where they decided, the answer is nobody."""
    return await _resolve(call, reading, data, own=fsp_id)


async def _resolve(call: Call, reading: Reading, question: ResolveQuestion, own: str | None = None) -> Response[bytes]:
    key, currency = read_key(reading, question), capitalise(question.currency)
    at = read_time("at", question.at)
    await record(call, "resolve", key, own, {"at": at, "currency": currency})
    now, final_before = await history.fetch_final_before(call.postgres)
    at = at or now
    situation = await history.fetch_situation(call.postgres, key.party_id_type, key.identifier, at)
    found = _hide_foreign(own, resolve(situation, key.sub_id, currency, at))
    events = [event_of(row, reading, own=own if row["entity"] == "alias" else None) for row in found.events]
    await trace(call.postgres, events, call.fsp_ids)
    body = msgspec.json.decode(encode_answer(found.fsp_id, found.currency, question.sub_id))
    return call.read(
        PastAnswer(
            party=_name_of(reading, key),
            at=at,
            is_final=at < final_before,
            asked_currency=currency,
            fsp_id=found.fsp_id or None,
            currency=found.currency or None,
            reason=found.reason,
            party_list=body["partyList"],
            entries=_entries_of(situation, own),
            route=_route_of(situation, found),
            events=events,
        )
    )


def _hide_foreign(own: str | None, found: Resolution) -> Resolution:
    """Reduce an answer to what one FSP may see: nobody, where the entry of another FSP or a route decided."""
    if own is None or (found.held is not None and found.held.entry.fsp_id == own):
        return found
    return Resolution("", "", "nobody", None, None, [])


# From the first day on ----------------------------------------------------------------------------------------------


@operation(
    "getTimeline",
    "GET",
    "/timeline",
    AUDIT,
    "List every change of the answer for an identifier, and why it changed",
    answers=Timeline,
)
@from_query(TimelineQuestion)
async def read_timeline(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: TimelineQuestion
) -> Response[bytes]:
    return await _list_moments(call, reading, data)


@operation(
    "getTimelineByBody",
    "POST",
    "/timeline",
    AUDIT,
    "List every change of the answer for an identifier, with it in the body",
    answers=Timeline,
)
async def ask_timeline(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[TimelineQuestion]
) -> Response[bytes]:
    return await _list_moments(call, reading, data)


@operation(
    "getFspAliasTimeline",
    "POST",
    "/fsps/{fsp_id:str}/timeline",
    OWN,
    "List every change of the answer for an FSP's own alias",
    answers=Timeline,
    reads=True,
)
async def ask_own_timeline(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    fsp_id: FromPath[str],
    data: JSONBody[TimelineQuestion],
) -> Response[bytes]:
    return await _list_moments(call, reading, data, own=fsp_id)


async def _list_moments(
    call: Call, reading: Reading, question: TimelineQuestion, own: str | None = None
) -> Response[bytes]:
    key, currency = read_key(reading, question), capitalise(question.currency)
    cursors = Cursors(call.caller, "timeline", own, key, currency)
    position = cursors.open(question.cursor, tuple[datetime, int])
    await record(call, "timeline", key, own, {"currency": currency})
    items: list[Moment] = []
    # The position of a moment: its instant, and which one it is of those at that instant.
    positions = [position or (history.BEGINNING, 0)]
    at, number = history.BEGINNING, 0
    following = None
    async with aclosing(_stream_moments(call, reading, key, currency, own)) as moments:
        async for moment in moments:
            at, number = moment.at, number + 1 if at == moment.at else 0
            here = at, number
            if position is not None and here <= position:
                continue
            if len(items) == question.limit:
                following = cursors.close(positions[-1])
                break
            items.append(moment)
            positions.append(here)
    await trace(call.postgres, [event for moment in items for event in moment.events], call.fsp_ids)
    return call.read_page(Timeline(party=_name_of(reading, key), items=items, next=following))


async def _stream_moments(
    call: Call, reading: Reading, key: PartyKey, currency: str | None, own: str | None
) -> AsyncGenerator[Moment]:
    """Every change of the alias; any other change only where it changed the answer."""
    situation = Situation(key.party_id_type, key.identifier)
    answer: tuple[Any, ...] = ("", "", "nobody")
    reached = history.BEGINNING
    async with aclosing(history.stream_steps(call.postgres, key.party_id_type, key.identifier)) as steps:
        async for step in steps:
            for at in _list_boundaries(situation, reached, step.at):
                found = _hide_foreign(own, resolve(situation, key.sub_id, currency, at))
                if found[:3] != answer:
                    answer = found[:3]
                    yield _moment_of(at, found, situation, own, [])
            for row in step.events:
                situation.apply(row)
            reached = step.at
            found = _hide_foreign(own, resolve(situation, key.sub_id, currency, step.at))
            rows = [row for row in step.events if _concerns(row, own)]
            is_new = found[:3] != answer
            if is_new or any(row["entity"] == "alias" for row in rows):
                answer = found[:3]
                # Events of routes and FSPs matter only where they changed the answer.
                rows = [row for row in rows if is_new or row["entity"] == "alias"]
                events = [event_of(row, reading, own=own) for row in rows]
                yield _moment_of(step.at, found, situation, own, events)
    for at in _list_boundaries(situation, reached, datetime.now(UTC)):
        found = _hide_foreign(own, resolve(situation, key.sub_id, currency, at))
        if found[:3] != answer:
            answer = found[:3]
            yield _moment_of(at, found, situation, own, [])


def _concerns(row: Any, own: str | None) -> bool:
    if own is None:
        return True
    if row["entity"] == "fsp":
        return bool(row["fsp_id"] == own)
    if row["entity"] != "alias":
        return False
    return row["fsp_id"] == own or (history.decode_json(row["before"]) or {}).get("fsp_id") == own


def _list_boundaries(situation: Situation, after: datetime, until: datetime) -> list[datetime]:
    """List the times at which routes began or ended as planned, without an event."""
    times = {at for route in situation.list_routes() for at in (route.valid_from, route.valid_to)}
    return sorted(at for at in times if after < at < until)


# Parts of answers ---------------------------------------------------------------------------------------------------


def _moment_of(
    at: datetime, found: Resolution, situation: Situation, own: str | None, events: list[HistoryEvent]
) -> Moment:
    return Moment(
        at=at, fsp_id=found.fsp_id or None, currency=found.currency or None, reason=found.reason,
        entries=_entries_of(situation, own), events=events,
    )  # fmt: skip


def _name_of(reading: Reading, key: PartyKey) -> PartyName:
    kind = reading.read_kind(key)
    return PartyName(
        kind=kind, party_id_type=key.party_id_type, identifier=key.identifier, sub_id=key.sub_id or None,
        display=display_of(kind, key.identifier),
    )  # fmt: skip


def _entries_of(situation: Situation, own: str | None) -> list[PastEntry]:
    return [
        PastEntry(
            sub_id=version.entry.sub_id or None, currency=version.entry.currency or None, fsp_id=version.entry.fsp_id,
            default=version.is_default, fsp_status=_status_of(situation, version.entry.fsp_id),
            event_id=version.event["event_id"],
        )
        for version in situation.list_entries()
        if own is None or version.entry.fsp_id == own
    ]  # fmt: skip


def _route_of(situation: Situation, found: Resolution) -> PastRoute | None:
    route = found.rule
    if route is None:
        return None
    return PastRoute(
        route_id=route.route_id, kind=route.kind, prefix=route.prefix, fsp_id=route.fsp_id,
        fsp_status=_status_of(situation, route.fsp_id), valid_from=route.valid_from, valid_to=route.valid_to,
        event_id=route.event["event_id"],
    )  # fmt: skip


def _status_of(situation: Situation, fsp_id: str) -> str | None:
    version = situation.statuses.get(fsp_id)
    return None if version is None else version.status
