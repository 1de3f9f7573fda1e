"""Questions to history: what changed, what an identifier resolved to at an instant, and who asked.

Instants.   What an answer for an instant means, and when it is final, is said in store/history; times in answers are
            those of events.  `isFinal` is false for the last moments only, while something that began before is open.
In URLs.    An identifier is personal data, and URLs are written down by many.  Each question that has one can be asked
            by POST, with the same members in a body.
Pages.      The newest first.  A page looks at a bounded number of events, so one may be short, or empty, and still
            have a `next`: go on until there is none.
DFSPs.      Below /fsps/{its own} a DFSP asks about its own aliases; what others had of an identifier is not there.
Recorded.   Every question, before it is answered: who, when, which identifier.  Auditors can read that; nobody
            can change it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream
from msgspec import Meta

from oracle.api.admin.access import Role, allow
from oracle.api.admin.aliases import Reading
from oracle.api.admin.calls import PAGE, PAGE_MAX, Body, Call, Resource, cursor_of, position_of
from oracle.api.admin.fsps import no_such_fsp
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.api.history.views import HistoryEvent, batch_of, event_of, name_actors, shown_of, trace
from oracle.api.hub.answers import encode_answer
from oracle.identifiers import BadIdentifier, PartyKey
from oracle.identifiers.kinds import PARTY_ID_TYPES
from oracle.store import history
from oracle.store.history import EventFilter, PagePosition, Situation
from oracle.store.resolution import Reason, Resolution, resolve

AUDIT: Final = allow(Role.AUDITOR, Role.OPERATOR)
OWN: Final = allow(Role.AUDITOR, Role.OPERATOR, Role.MAKER, Role.CHECKER)
AUDITORS: Final = allow(Role.AUDITOR)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")
_encode = msgspec.json.Encoder().encode

Text = Annotated[str, Meta(min_length=1, max_length=256)]
# As the database has them: what is mistyped is refused, instead of an answer that there is nothing.
Channel = Literal["hub", "admin", "import", "self-heal", "seed", "sql"]
Action = Literal["registered", "changed", "removed", "ignored"]
Entity = Literal["alias", "fsp", "route", "policy", "credential", "batch"]


# What is asked ----------------------------------------------------------------------------------------------------


class Party(Body):
    """An identifier, as a person has it."""

    kind: Annotated[str, Meta(description="MSISDN, CLABE, NRC, ACCOUNT_ID, …, in any case")]
    identifier: Annotated[str, Meta(description="In any spelling of its kind")]
    sub_id: str | None = None
    country: Annotated[str | None, Meta(description="Lets an MSISDN be written in its national form")] = None
    as_stored: Annotated[
        bool, Meta(description="Take the identifier letter by letter: it may be stored under older rules")
    ] = False


class Question(Party):
    at: Annotated[datetime | None, Meta(description="null: now")] = None
    currency: str | None = None


class LifeQuestion(Party):
    currency: str | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE
    cursor: str | None = None


class Search(Body):
    kind: str | None = None
    identifier: str | None = None
    country: str | None = None
    as_stored: bool = False
    fsp_id: Text | None = None
    actor: Text | None = None
    channel: Channel | None = None
    action: Action | None = None
    entity: Entity | None = None
    request_id: Text | None = None
    trace_id: Text | None = None
    since: Annotated[datetime | None, Meta(description="Included")] = None
    until: Annotated[datetime | None, Meta(description="Not included")] = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE
    cursor: str | None = None


# What is answered -------------------------------------------------------------------------------------------------


class EventPage(Resource):
    items: list[HistoryEvent]
    next: Annotated[str | None, Meta(description="The cursor of the next page, which may be there after a short one")]


class StoodEntry(Resource):
    """An entry of the identifier as it stood."""

    sub_id: str | None
    currency: Annotated[str | None, Meta(description="null: every currency")]
    fsp_id: str
    default: bool
    fsp_status: str | None
    event_id: Annotated[int, Meta(description="That made it so")]


class StoodRoute(Resource):
    route_id: int
    prefix: str
    fsp_id: str
    fsp_status: str | None
    valid_from: datetime
    valid_to: datetime
    event_id: Annotated[int, Meta(description="That made it so")]


class PartyName(Resource):
    kind: str
    party_id_type: str
    identifier: Annotated[str, Meta(description="Canonical: as events and exports have it")]
    sub_id: str | None
    display: str


class Resolved(Resource):
    party: PartyName
    at: datetime
    is_final: Annotated[bool, Meta(description="false: something that began before may still be committed")]
    asked_currency: str | None
    fsp_id: Annotated[str | None, Meta(description="Whom the hub was told; null: nobody")]
    currency: str | None
    reason: Annotated[Reason, Meta(description="What decided")]
    party_list: Annotated[list[dict[str, str]], Meta(description="What the hub would have got, member by member")]
    entries: list[StoodEntry]
    route: StoodRoute | None
    events: Annotated[list[HistoryEvent], Meta(description="That made it so")]


class Moment(Resource):
    """From here on, until the next one, this was the answer."""

    at: datetime
    fsp_id: str | None
    currency: str | None
    reason: Reason
    entries: list[StoodEntry]
    events: Annotated[list[HistoryEvent], Meta(description="That made it so; none where a route began or ended")]


class Life(Resource):
    party: PartyName
    items: Annotated[list[Moment], Meta(description="The oldest first")]
    next: str | None


class HistoryRead(Resource):
    read_id: int
    at: datetime
    credential_id: str
    role: str
    caller_fsp_id: str | None
    asked: str
    party_id_type: str | None
    identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    details: dict[str, Any]
    request_id: str | None
    trace_id: str | None


class ReadPage(Resource):
    items: list[HistoryRead]
    next: str | None


def handlers() -> list[HTTPRouteHandler]:
    return [
        list_events, search_events, read_resolution, ask_resolution, read_timeline, ask_timeline,
        list_own_events, search_own_events, ask_own_resolution, ask_own_timeline, read_diff, list_reads,
    ]  # fmt: skip


# Events -----------------------------------------------------------------------------------------------------------


@operation("GET", "/events", AUDIT, "List events, the newest first", answers=EventPage)
async def list_events(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    kind: FromQuery[str | None] = None,
    identifier: FromQuery[str | None] = None,
    country: FromQuery[str | None] = None,
    as_stored: Annotated[bool, QueryParameter(name="asStored")] = False,
    fsp_id: Annotated[str | None, QueryParameter(min_length=1, max_length=256, name="fspId")] = None,
    actor: Annotated[str | None, QueryParameter(min_length=1, max_length=256)] = None,
    channel: FromQuery[Channel | None] = None,
    action: FromQuery[Action | None] = None,
    entity: FromQuery[Entity | None] = None,
    request_id: Annotated[str | None, QueryParameter(min_length=1, max_length=256, name="requestId")] = None,
    trace_id: Annotated[str | None, QueryParameter(min_length=1, max_length=256, name="traceId")] = None,
    since: Annotated[datetime | None, QueryParameter(name="from")] = None,
    until: Annotated[datetime | None, QueryParameter(name="to")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    search = Search(
        kind=kind, identifier=identifier, country=country, as_stored=as_stored, fsp_id=fsp_id, actor=actor,
        channel=channel, action=action, entity=entity, request_id=request_id, trace_id=trace_id, since=since,
        until=until, limit=limit, cursor=cursor,
    )  # fmt: skip
    return await _events(call, reading, search)


@operation("POST", "/events/search", AUDIT, "List events, with the filters in the body", answers=EventPage)
async def search_events(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[Search]
) -> Response[bytes]:
    return await _events(call, reading, data)


@operation("GET", "/fsps/{fsp_id:str}/events", OWN, "List events of an FSP's aliases, the newest first",
           answers=EventPage)  # fmt: skip
async def list_own_events(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    fsp_id: FromPath[str],
    since: Annotated[datetime | None, QueryParameter(name="from")] = None,
    until: Annotated[datetime | None, QueryParameter(name="to")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    search = Search(since=since, until=until, limit=limit, cursor=cursor)
    return await _events(call, reading, search, own=fsp_id)


@operation("POST", "/fsps/{fsp_id:str}/events/search", OWN, "List events of an FSP's aliases, with filters",
           answers=EventPage, reads=True)  # fmt: skip
async def search_own_events(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: JSONBody[Search]
) -> Response[bytes]:
    if data.fsp_id not in (None, fsp_id) or data.entity not in (None, "alias"):
        raise Refusal(400, "invalid", "These are the events of one FSP's aliases", "Leave out fspId and entity")
    return await _events(call, reading, data, own=fsp_id)


async def _events(call: Call, reading: Reading, search: Search, own: str | None = None) -> Response[bytes]:
    key = None
    if search.identifier is not None:
        if search.kind is None:
            raise Refusal(400, "invalid", "An identifier is of a kind", "Name its kind, too")
        key = key_of(reading, search.kind, search.identifier, None, search.country, as_stored=search.as_stored)
    since, until = instant("from", search.since), instant("to", search.until)
    position = position_of(search.cursor, int, int)
    place = None if position is None else _place(*position)
    details = {
        name: value
        for name in Search.__struct_fields__
        if name not in ("kind", "identifier", "country", "cursor", "limit", "as_stored")
        and (value := getattr(search, name)) is not None
    }
    await record(call, "events", key, own or search.fsp_id, details)
    wanted = EventFilter(
        party=None if key is None else (key.party_id_type, key.identifier),
        fsp_id=own or search.fsp_id,
        entity="alias" if own else search.entity,
        actor=search.actor, channel=search.channel, action=search.action, request_id=search.request_id,
        trace_id=search.trace_id, since=since, until=until,
    )  # fmt: skip
    page = await history.fetch_page(call.postgres, await _narrowed(call, wanted), place, search.limit)
    items = [event_of(row, reading, own=own) for row in page.events]
    await name_actors(call.postgres, items)
    following = page.next
    return call.read(
        EventPage(items=items, next=None if following is None else cursor_of(_us(following.at), following.event_id))
    )


async def _narrowed(call: Call, wanted: EventFilter) -> EventFilter:
    """A batch was applied within a time, which is quicker to walk than all of history."""
    number = batch_of(wanted.request_id)
    if number is None or wanted.party is not None or wanted.since is not None or wanted.until is not None:
        return wanted
    row = await call.postgres.row("batch_origin", number)
    if row is None or row["started_at"] is None:
        return wanted
    hour = timedelta(hours=1)  # should clocks differ
    until = None if row["finished_at"] is None else row["finished_at"] + hour
    return msgspec.structs.replace(wanted, since=row["uploaded_at"] - hour, until=until)


# As of an instant -------------------------------------------------------------------------------------------------


@operation("GET", "/resolve", AUDIT, "What the hub would have been told of an identifier at an instant, and why",
           answers=Resolved)  # fmt: skip
async def read_resolution(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    kind: FromQuery[str],
    identifier: FromQuery[str],
    at: FromQuery[datetime | None] = None,
    sub_id: Annotated[str | None, QueryParameter(name="subId")] = None,
    currency: FromQuery[str | None] = None,
    country: FromQuery[str | None] = None,
    as_stored: Annotated[bool, QueryParameter(name="asStored")] = False,
) -> Response[bytes]:
    question = Question(
        kind=kind, identifier=identifier, at=at, sub_id=sub_id, currency=currency, country=country, as_stored=as_stored
    )
    return await _resolved(call, reading, question)


@operation("POST", "/resolve", AUDIT, "The same, with the identifier in the body", answers=Resolved)
async def ask_resolution(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[Question]
) -> Response[bytes]:
    return await _resolved(call, reading, data)


@operation("POST", "/fsps/{fsp_id:str}/resolve", OWN, "What an FSP's own alias was answered with at an instant",
           answers=Resolved, reads=True)  # fmt: skip
async def ask_own_resolution(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: JSONBody[Question]
) -> Response[bytes]:
    """Entries of other FSPs, and routes, are left out: where they decided, the answer is nobody."""
    return await _resolved(call, reading, data, own=fsp_id)


async def _resolved(call: Call, reading: Reading, question: Question, own: str | None = None) -> Response[bytes]:
    key, currency = _key(reading, question), _currency(question.currency)
    at = instant("at", question.at)
    await record(call, "resolve", key, own, {"at": at, "currency": currency})
    now, final_before = await history.fetch_final_before(call.postgres)
    at = at or now
    stood = await history.fetch_situation(call.postgres, key.party_id_type, key.identifier, at)
    found = _seen_by(own, resolve(stood, key.sub_id, currency, at))
    events = [event_of(row, reading, own=own if row["entity"] == "alias" else None) for row in found.events]
    await trace(call.postgres, events)
    body = msgspec.json.decode(encode_answer(found.fsp_id, found.currency, question.sub_id))
    return call.read(
        Resolved(
            party=_named(reading, key),
            at=at,
            is_final=at < final_before,
            asked_currency=currency,
            fsp_id=found.fsp_id or None,
            currency=found.currency or None,
            reason=found.reason,
            party_list=body["partyList"],
            entries=_entries(stood, own),
            route=_route(stood, found),
            events=events,
        )
    )


def _seen_by(own: str | None, found: Resolution) -> Resolution:
    """For the eyes of one FSP."""
    if own is None or (found.held is not None and found.held.entry.fsp_id == own):
        return found
    return Resolution("", "", "nobody", None, None, [])


# A life -----------------------------------------------------------------------------------------------------------


@operation("GET", "/timeline", AUDIT, "The life of an identifier: what the answer was, from when on, and why",
           answers=Life)  # fmt: skip
async def read_timeline(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    kind: FromQuery[str],
    identifier: FromQuery[str],
    sub_id: Annotated[str | None, QueryParameter(name="subId")] = None,
    currency: FromQuery[str | None] = None,
    country: FromQuery[str | None] = None,
    as_stored: Annotated[bool, QueryParameter(name="asStored")] = False,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    question = LifeQuestion(
        kind=kind, identifier=identifier, sub_id=sub_id, currency=currency, country=country, as_stored=as_stored,
        limit=limit, cursor=cursor,
    )  # fmt: skip
    return await _life(call, reading, question)


@operation("POST", "/timeline", AUDIT, "The same, with the identifier in the body", answers=Life)
async def ask_timeline(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: JSONBody[LifeQuestion]
) -> Response[bytes]:
    return await _life(call, reading, data)


@operation("POST", "/fsps/{fsp_id:str}/timeline", OWN, "The life of an FSP's own alias", answers=Life, reads=True)
async def ask_own_timeline(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: JSONBody[LifeQuestion]
) -> Response[bytes]:
    return await _life(call, reading, data, own=fsp_id)


async def _life(call: Call, reading: Reading, question: LifeQuestion, own: str | None = None) -> Response[bytes]:
    key, currency = _key(reading, question), _currency(question.currency)
    position = position_of(question.cursor, int, int)
    await record(call, "timeline", key, own, {"currency": currency})
    moments: list[Moment] = []
    places = [position or (_us(history.BEGINNING), 0)]  # of the moments: several may share an instant
    counted = history.BEGINNING, 0
    following = None
    async with aclosing(_moments(call, reading, key, currency, own)) as told:
        async for moment in told:
            counted = moment.at, counted[1] + 1 if counted[0] == moment.at else 0
            place = _us(moment.at), counted[1]
            if position is not None and place <= position:
                continue
            if len(moments) == question.limit:
                following = cursor_of(*places[-1])
                break
            moments.append(moment)
            places.append(place)
    await trace(call.postgres, [event for moment in moments for event in moment.events])
    return call.read(Life(party=_named(reading, key), items=moments, next=following))


async def _moments(
    call: Call, reading: Reading, key: PartyKey, currency: str | None, own: str | None
) -> AsyncGenerator[Moment]:
    """Every change of an alias, and everything else where it changed the answer."""
    stood = Situation(key.party_id_type, key.identifier)
    answered: tuple[Any, ...] = ("", "", "nobody")
    reached = history.BEGINNING
    async with aclosing(history.stream_steps(call.postgres, key.party_id_type, key.identifier)) as steps:
        async for step in steps:
            for at in _boundaries(stood, reached, step.at):
                found = _seen_by(own, resolve(stood, key.sub_id, currency, at))
                if found[:3] != answered:
                    answered = found[:3]
                    yield _moment(at, found, stood, own, [])
            for row in step.events:
                stood.apply(row)
            reached = step.at
            found = _seen_by(own, resolve(stood, key.sub_id, currency, step.at))
            rows = [row for row in step.events if _concerns(row, own)]
            if found[:3] != answered or any(row["entity"] == "alias" for row in rows):
                moved = found[:3] != answered
                answered = found[:3]
                # What else was written then is of interest where it moved the answer.
                rows = [row for row in rows if moved or row["entity"] == "alias"]
                yield _moment(step.at, found, stood, own, [event_of(row, reading, own=own) for row in rows])
    for at in _boundaries(stood, reached, datetime.now(UTC)):
        found = _seen_by(own, resolve(stood, key.sub_id, currency, at))
        if found[:3] != answered:
            answered = found[:3]
            yield _moment(at, found, stood, own, [])


def _concerns(row: Any, own: str | None) -> bool:
    if own is None:
        return True
    if row["entity"] == "fsp":
        return bool(row["fsp_id"] == own)
    if row["entity"] != "alias":
        return False
    return row["fsp_id"] == own or (history.decode_json(row["before"]) or {}).get("fsp_id") == own


def _boundaries(stood: Situation, after: datetime, until: datetime) -> list[datetime]:
    """When rules began or ended by themselves."""
    times = {at for rule in stood.list_routes() for at in (rule.valid_from, rule.valid_to)}
    return sorted(at for at in times if after < at < until)


def _moment(at: datetime, found: Resolution, stood: Situation, own: str | None, events: list[HistoryEvent]) -> Moment:
    return Moment(
        at=at, fsp_id=found.fsp_id or None, currency=found.currency or None, reason=found.reason,
        entries=_entries(stood, own), events=events,
    )  # fmt: skip


# Between two instants ---------------------------------------------------------------------------------------------


@operation(
    "GET", "/fsps/{fsp_id:str}/diff", OWN, "How an FSP's aliases at one instant differ from those at another (NDJSON)",
    media_type="application/x-ndjson",
)  # fmt: skip
async def read_diff(
    call: NamedDependency[Call],
    fsp_id: FromPath[str],
    since: Annotated[datetime, QueryParameter(name="from")],
    until: Annotated[datetime, QueryParameter(name="to")],
) -> Stream:
    """A line for each alias of which entries have gone or come: `change` (added, removed, changed), `partyIdType`,
    `identifier`, `subId`, `removed` and `added` (entries with `currency` and `default`), `eventIds`.  The last line is
    `{"end": …}` with the counts: without it the answer is not whole.
    """
    first, last = instant("from", since), instant("to", until)
    assert first is not None  # noqa: S101 - both are required
    assert last is not None  # noqa: S101
    if first > last:
        raise Refusal(400, "invalid", "The time ends before it begins", "Exchange `from` and `to`")
    await record(call, "diff", None, fsp_id, {"from": first, "to": last})
    return Stream(_diff(call, fsp_id, first, last), media_type="application/x-ndjson")


async def _diff(call: Call, fsp_id: str, since: datetime, until: datetime) -> AsyncIterator[bytes]:
    counts = {"added": 0, "removed": 0, "changed": 0}
    async with aclosing(history.stream_differences(call.postgres, fsp_id, since, until)) as parts:
        async for part in parts:
            lines = []
            for each in part:
                change = "changed" if each.removed and each.added else "removed" if each.removed else "added"
                counts[change] += 1
                lines.append(
                    _encode({
                        "change": change, "partyIdType": each.party_id_type, "identifier": each.identifier,
                        "subId": each.sub_id or None, "removed": [_part(p) for p in each.removed],
                        "added": [_part(p) for p in each.added], "eventIds": each.event_ids,
                    })
                )  # fmt: skip
            if lines:
                yield b"\n".join(lines) + b"\n"
    yield _encode({"end": {"fspId": fsp_id, "from": since, "to": until, **counts}}) + b"\n"


def _part(part: history.CurrencyEntry) -> dict[str, Any]:
    return {"currency": part.currency or None, "default": part.is_default}


# Who asked --------------------------------------------------------------------------------------------------------


@operation("GET", "/reads", AUDITORS, "List who read history, the newest first", answers=ReadPage)
async def list_reads(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    kind: FromQuery[str | None] = None,
    identifier: FromQuery[str | None] = None,
    credential_id: Annotated[str | None, QueryParameter(min_length=1, max_length=256, name="credentialId")] = None,
    since: Annotated[datetime | None, QueryParameter(name="from")] = None,
    until: Annotated[datetime | None, QueryParameter(name="to")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    key = None
    if identifier is not None:
        key = key_of(reading, kind or "", identifier, None, None)
    first, last = instant("from", since), instant("to", until)
    position = position_of(cursor, int)
    before = history.LAST_EVENT if position is None else _place(0, position[0]).event_id
    await record(call, "reads", key, None, {"credential_id": credential_id, "since": since, "until": until})
    party = (None, None) if key is None else (key.identifier, key.party_id_type)
    rows = await call.postgres.rows("reads_page", before, *party, credential_id, first, last, limit)
    items = [
        HistoryRead(
            read_id=row["read_id"], at=row["at"], credential_id=row["credential_id"], role=row["role"],
            caller_fsp_id=row["caller_fsp_id"], asked=row["asked"], party_id_type=row["party_id_type"],
            identifier=row["party_identifier"], sub_id=row["sub_id"] or None, fsp_id=row["fsp_id"],
            details=msgspec.json.decode(row["details"]), request_id=row["request_id"], trace_id=row["trace_id"],
        )
        for row in rows
    ]  # fmt: skip
    return call.read(ReadPage(items=items, next=cursor_of(items[-1].read_id) if len(items) == limit else None))


async def record(
    call: Call, asked: str, key: PartyKey | None, fsp_id: str | None, details: dict[str, Any] | None = None
) -> None:
    """Before the answer: what cannot be recorded is not answered.

    Raises DirectoryUnavailable; Refusal 404 for an unknown FSP: no events would read like a clean answer, to whom
    mistyped its name.  There is none that was: FSPs are closed, not deleted.
    """
    if fsp_id not in (None, call.caller.fsp_id) and await call.postgres.row("fsp_status", fsp_id) is None:
        raise no_such_fsp()
    said = {name: value for name, value in (details or {}).items() if value is not None}
    party = (None, None, None) if key is None else tuple(key)
    caller = call.caller
    await call.postgres.note(
        "read_record", caller.credential_id, caller.role, caller.fsp_id, asked, *party, fsp_id,
        msgspec.json.encode(said).decode(), call.request_id, call.trace_id or None,
    )  # fmt: skip


# Reading what was asked -------------------------------------------------------------------------------------------


def key_of(
    reading: Reading, kind: str, identifier: str, sub_id: str | None, country: str | None, *, as_stored: bool = False
) -> PartyKey:
    """Raises BadIdentifier."""
    if not as_stored:
        return reading.key(kind, identifier, sub_id, country)
    party_id_type = PARTY_ID_TYPES.get(kind.upper())
    if party_id_type is None:
        raise BadIdentifier("unknown_kind")
    if not 1 <= len(identifier) <= 128 or len(sub_id or "") > 128:  # noqa: PLR2004 - nothing longer is stored
        raise Refusal(400, "invalid", "Nothing of this length is stored", "1 to 128 characters")
    return PartyKey(party_id_type, identifier, sub_id or "")


def _key(reading: Reading, party: Party) -> PartyKey:
    return key_of(reading, party.kind, party.identifier, party.sub_id, party.country, as_stored=party.as_stored)


def _currency(text: str | None) -> str | None:
    if text is None:
        return None
    if not _CURRENCY.fullmatch(text):
        raise Refusal(400, "invalid", "The currency cannot be read", "Three letters of ISO 4217")
    return text.upper()


def instant(name: str, at: datetime | None) -> datetime | None:
    if at is None:
        return None
    if at.tzinfo is not None and history.BEGINNING.year < at.year < history.END.year:
        return at.astimezone(UTC)
    raise Refusal(400, "invalid", f"{name}: the time cannot be read", "RFC 3339 with an offset: 2026-03-03T10:00:00Z")


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _place(at_us: int, event_id: int) -> PagePosition:
    try:
        at = _EPOCH + at_us * _MICROSECOND
    except OverflowError:
        at = history.END
    return PagePosition(
        min(max(at, history.BEGINNING), history.END), max(min(event_id, history.LAST_EVENT), history.FIRST_EVENT)
    )


def _named(reading: Reading, key: PartyKey) -> PartyName:
    kind = reading.kind(key)
    return PartyName(
        kind=kind, party_id_type=key.party_id_type, identifier=key.identifier, sub_id=key.sub_id or None,
        display=shown_of(kind, key.identifier),
    )  # fmt: skip


def _entries(stood: Situation, own: str | None) -> list[StoodEntry]:
    return [
        StoodEntry(
            sub_id=held.entry.sub_id or None, currency=held.entry.currency or None, fsp_id=held.entry.fsp_id,
            default=held.is_default, fsp_status=_status(stood, held.entry.fsp_id), event_id=held.event["event_id"],
        )
        for held in stood.list_entries()
        if own is None or held.entry.fsp_id == own
    ]  # fmt: skip


def _route(stood: Situation, found: Resolution) -> StoodRoute | None:
    rule = found.rule
    if rule is None:
        return None
    return StoodRoute(
        route_id=rule.route_id, prefix=rule.prefix, fsp_id=rule.fsp_id, fsp_status=_status(stood, rule.fsp_id),
        valid_from=rule.valid_from, valid_to=rule.valid_to, event_id=rule.event["event_id"],
    )  # fmt: skip


def _status(stood: Situation, fsp_id: str) -> str | None:
    known = stood.statuses.get(fsp_id)
    return None if known is None else known.status
