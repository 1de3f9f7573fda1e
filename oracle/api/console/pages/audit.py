"""The history: events, one event, what differs between two times, and who asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from oracle.api.console import formats
from oracle.api.console.answers import Answer
from oracle.api.console.choices import find_own, list_choices
from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.languages import _, lazy, pgettext
from oracle.api.console.words import ACTIONS, CHANNELS, name_change, name_kind, name_status
from oracle.api.naming import join_label, name_role
from oracle.verifier.files import Malformed
from oracle.verifier.proof import encode_proof, make_proof

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oracle.api.console.languages import Lazy
    from oracle.api.console.visits import Visit

DIFFERENCES_MAX: Final = 100  # on the page; the file has all

ENTITIES: Final[Mapping[str, Lazy]] = {
    "alias": lazy("Alias"),
    "fsp": lazy("FSP"),
    "route": lazy("Route"),
    "policy": lazy("Policy"),
    "credential": lazy("Key"),
    "secret": lazy("Secret of a key"),
    "session": lazy("Session"),
    "batch": lazy("File"),
    "endpoints": lazy("Endpoints"),
    "jws-key": lazy("JWS key"),
    "budget": lazy("Budget"),
    "oracle": lazy("Other oracle"),
    "als-oracle": lazy("Registration at the ALS"),
    "audit-key": lazy("Key of the log"),
    "audit-reads": lazy("Records of who asked"),
}
QUESTIONS: Final[Mapping[str, Lazy]] = {
    "events": lazy("Search of events"),
    "event": lazy("One event"),
    "resolve": lazy("Who answered at a time"),
    "timeline": lazy("Life of an identifier"),
    "diff": lazy("Differences between two times"),
    "proof": lazy("Proof of an event"),
    "export": lazy("Export of events"),
    "reads": lazy("Who asked"),
    "verification": lazy("Start of a verification"),
    "what-if": lazy("What if"),
    "aliases": lazy("Export of aliases"),
}
# What a state of an event is made of, in the database's names.
MEMBERS: Final[Mapping[str, Lazy]] = {
    "fsp_id": lazy("FSP"),
    "currency": lazy("Currency"),
    "default": lazy("Default entry"),
    "sub_id": lazy("SubId"),
    "name": lazy("Name"),
    "status": lazy("Status"),
    "two_persons": lazy("Two persons"),
    "default_country": lazy("Country"),
    "kind": lazy("Kind"),
    "kinds": lazy("Kinds"),
    "currencies": lazy("Currencies"),
    "prefix": lazy("Prefix"),
    "valid_from": lazy("Valid from"),
    "valid_to": lazy("Valid until"),
    "role": lazy("Role"),
    "label": lazy("Label"),
    "credential_id": lazy("Key"),
    "expires_at": lazy("Expires"),
    "created_at": lazy("Created"),
    "changed_at": lazy("Last change"),
    "version": lazy("Version"),
    "hint": lazy("Only a hint"),
    "policy": lazy("Policy"),
    "party_id_type": lazy("Type of identifier"),
    "created_by": lazy("Issued by"),
    "revoked_at": lazy("Revoked"),
    "person": lazy("Person"),
    "note": lazy("Note"),
    "reason": lazy("Reason"),
    "url": lazy("URL"),
    "locale_name": lazy("Name in the local language"),
    "contact": lazy("Contact"),
    "hub_changes": lazy("The hub can change it"),
    "file_name": lazy("File"),
    "state": lazy("State"),
    "session_id": lazy("Session"),
    "actor": lazy("Who"),
}
# Members whose codes have names.
_NAMED: Final[Mapping[str, Callable[[str], str]]] = {
    "role": name_role, "status": name_status, "kind": name_kind, "kinds": name_kind,
}  # fmt: skip
# What a question named, as the API calls it.
DETAILS: Final[Mapping[str, Lazy]] = {
    "as": lazy("Format"),
    "begin": lazy("First leaf"),
    "end": lazy("Leaf after the last"),
    "at": lazy("Time"),
    "from": lazy("From"),
    "to": lazy("Until before"),
    "by": lazy("Person or key"),
    "kind": lazy("Kind"),
    "currency": lazy("Currency"),
    "action": lazy("Action"),
    "channel": lazy("Way"),
    "entity": lazy("What"),
    "state": lazy("State"),
    "prefix": lazy("Prefix"),
    "eventId": lazy("Event"),
    "request_id": lazy("Request"),
    "requestId": lazy("Request"),
    "directory": lazy("Directory, too"),
    "fspId": lazy("FSP"),
}
_TIMES: Final = ("_at", "_from", "_to")


# Events -------------------------------------------------------------------------------------------------------------


@page("audit", "GET", "/audit", lazy("Audit"), needs=("listFspEvents",), menu=90)
async def show_events(visit: Visit) -> Answer:
    filters = {name: visit.query.text(name) for name in ("by", "action", "channel", "requestId")}
    span = read_span(visit)
    question = {**filters, **span.asked, "cursor": visit.query["cursor"], "limit": PAGE_ITEMS}
    own = find_own(visit)
    if own is None:
        filters |= {name: visit.query.text(name) for name in ("fspId", "entity")}
        reply = await visit.ask("listEvents", query={**question, **filters})
    else:
        filters["fsp"] = own
        reply = await visit.ask("listFspEvents", path={"fsp_id": own}, query=question)
    found = reply.listing
    kept = {**filters, **span.typed}
    return visit.show(
        "audit/events.html", block="list", http_status=reply.status, errors=visit.errors_of(reply), own=own,
        own_choices=list_choices(visit),
        events=[(event, describe_subject(event)) for event in found["items"]], next=found["next"],
        filters=kept, is_filtered=any(value for name, value in kept.items() if name not in ("fsp", "zone")),
        entities=ENTITIES, actions=ACTIONS, channels=CHANNELS,
    )  # fmt: skip


@page("audit_event", "GET", "/audit/events/{event_id}", lazy("Event"), needs=("listFspEvents",), under="audit")
async def show_event(visit: Visit, event_id: str) -> Answer:
    own = find_own(visit)
    if own is None:
        event = await visit.get("getEvent", path={"event_id": event_id})
    else:
        event = await visit.get("getFspEvent", path={"fsp_id": own, "event_id": event_id})
    return visit.show(
        "audit/event.html", event=event, own=own, subject=describe_subject(event), members=list_members(event),
        entities=ENTITIES,
    )  # fmt: skip


@page(
    "event_proof", "GET", "/audit/events/{event_id}/proof", lazy("Proof"), needs=("listFspEvents",), under="audit",
    is_part=True,
)  # fmt: skip
async def download_proof(visit: Visit, event_id: str) -> Answer:
    """Send the proof of an event as the file that `oracle-verify proof` checks."""
    own = find_own(visit)
    asked = (
        visit.get("getLogEntry", path={"event_id": event_id})
        if own is None
        else visit.get("getFspLogEntry", path={"fsp_id": own, "event_id": event_id})
    )
    entry, keys = await asyncio.gather(asked, visit.get("listLogKeys"))
    try:
        content = encode_proof(make_proof(entry, keys["items"], None))
    except Malformed:  # no checkpoint of this size yet: the answer of the API is a proof without one
        content = msgspec.json.format(msgspec.json.encode(entry))
    name = f"attachment; filename=proof-of-event-{entry['eventId']}.json"
    return Answer(content, media_type="application/json", headers=[("content-disposition", name)])


# Differences --------------------------------------------------------------------------------------------------------


@page(
    "differences", "GET", "/audit/differences", lazy("Differences between two times"), needs=("compareAliases",),
    under="audit",
)  # fmt: skip
async def show_differences(visit: Visit) -> Answer:
    own, span = find_own(visit), read_span(visit)
    fsp_id = own or visit.query.text("fspId")
    values = {"fspId": fsp_id, **span.typed}
    if not visit.query:
        values |= _propose_days()
    result: dict[str, Any] = {"errors": None, "lines": None, "end": None, "http_status": 200}
    if "from" in visit.query or "to" in visit.query:
        result |= await _compare(visit, fsp_id, span)
    return visit.show(
        "audit/differences.html", block="list", own=own,
        own_choices=list_choices(visit), values=values, most=DIFFERENCES_MAX, **result,
    )  # fmt: skip


@page(
    "differences_file", "GET", "/audit/differences/file", lazy("Differences"), needs=("compareAliases",),
    under="audit", is_part=True,
)  # fmt: skip
async def download_differences(visit: Visit) -> Answer:
    fsp_id = find_own(visit) or visit.query.text("fspId")
    return await visit.download(
        "compareAliases", path={"fsp_id": fsp_id or "-"}, query={**read_span(visit).asked, "format": "csv"},
        file_name=f"differences-{fsp_id}.csv",
    )  # fmt: skip


async def _compare(visit: Visit, fsp_id: str, span: Span) -> dict[str, Any]:
    """Read the first differences, and the counts if these are all."""
    path = {"fsp_id": fsp_id or "-"}
    async with visit.open("compareAliases", path=path, query=span.asked) as stream:
        if not stream.ok:
            reply = await stream.read()
            return {"errors": visit.errors_of(reply), "http_status": reply.status}
        lines: list[Any] = []
        rest = b""
        async for piece in stream.pieces:
            *whole, rest = (rest + piece).split(b"\n")
            for line in filter(None, whole):
                found = msgspec.json.decode(line)
                if "end" in found:
                    return {"lines": lines, "end": found["end"]}
                if len(lines) == DIFFERENCES_MAX:
                    return {"lines": lines}
                lines.append(found)
        return {"lines": lines}


def _propose_days() -> dict[str, str]:
    """Propose yesterday, as a whole."""
    today = formats.now_here().replace(hour=0, minute=0, second=0)
    return {"from": formats.write_local(today - timedelta(days=1)), "to": formats.write_local(today)}


# Who asked ----------------------------------------------------------------------------------------------------------


@page("reads", "GET", "/audit/reads", lazy("Who asked"), needs=("listHistoryReads",), under="audit")
async def show_reads(visit: Visit) -> Answer:
    span, by = read_span(visit), visit.query.text("by")
    question = {"by": by, **span.asked, "cursor": visit.query["cursor"], "limit": PAGE_ITEMS}
    reply = await visit.ask("listHistoryReads", query=question)
    found = reply.listing
    return visit.show(
        "audit/reads.html", block="list", http_status=reply.status, errors=visit.errors_of(reply),
        reads=[(read, _describe_details(read["details"])) for read in found["items"]], next=found["next"],
        filters={"by": by, **span.typed}, questions=QUESTIONS,
    )  # fmt: skip


def _describe_details(details: dict[str, Any]) -> str:
    return "; ".join(join_label(str(DETAILS.get(name, name)), _write_detail(name, value))
                     for name, value in details.items())  # fmt: skip


def _write_detail(name: str, value: Any) -> str:
    names = {"action": ACTIONS, "channel": CHANNELS, "entity": ENTITIES}.get(name, {})
    return str(names.get(value, "") if isinstance(value, str) else "") or _write(name, value)


# What several pages need --------------------------------------------------------------------------------------------


class Span(msgspec.Struct, frozen=True):
    """Two times of a form, each by its name: as the form shows them, and as the API is asked."""

    typed: dict[str, str]
    asked: dict[str, str]


def read_span(visit: Visit) -> Span:
    """Read `from` and `to`.  A link has the zone of the person who made it, so the instants stay the same."""
    zone = visit.query["zone"]
    zone = zone if formats.is_time_zone(zone) else visit.time_zone
    typed, asked = {"zone": visit.time_zone}, {}
    for name in ("from", "to"):
        typed[name] = text = visit.query.text(name)
        if (moment := formats.read_local(text, zone)) is not None:
            text = moment.isoformat()
            with suppress(OverflowError):
                typed[name] = formats.write_local(moment)
        if text:
            asked[name] = text
    return Span(typed, asked)


# The change of one alias: what the API stores in place of the name of a file, before the action.
_ONE_ALIAS: Final = "one alias: "


def describe_subject(event: dict[str, Any]) -> str:
    """Name the thing that an event is about; '' where its FSP says all."""
    if event["identifier"] is not None:
        return str(event["display"] or event["identifier"])
    state = event["after"] or event["before"] or {}
    for name in ("prefix", "label", "file_name", "name", "credential_id"):
        if state.get(name):
            return _name_file(str(state[name])) if name == "file_name" else str(state[name])
    return ""


def _name_file(name: str) -> str:
    action = name.removeprefix(_ONE_ALIAS)
    return name_change(action) if action != name else name


def list_members(event: dict[str, Any]) -> Iterator[tuple[str, str | None, str, str, bool]]:
    """List what the states before and after hold: name, its words or None, before, after, whether they differ."""
    before, after = event["before"] or {}, event["after"] or {}
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        label = MEMBERS.get(name)
        yield name, None if label is None else str(label), _write(name, was), _write(name, now), was != now


def _write(name: str, value: Any) -> str:
    if value is None or value == "":
        return formats.DASH
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if isinstance(value, list):
        return ", ".join(_write(name, each) for each in value)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if value == "infinity":
        return pgettext("end", "Never")
    if name.endswith(_TIMES) and isinstance(value, str):
        try:
            return formats.format_time(value)
        except (ValueError, OverflowError):
            return value
    return _NAMED[name](value) if name in _NAMED and isinstance(value, str) else str(value)
