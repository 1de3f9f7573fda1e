"""`oracle audit events`, `event`, `resolve`, `timeline`, `diff` and `reads`: questions about history, by the API.

They are for auditors, who have a key and no access to the database.  A key of one FSP asks about the aliases of that
FSP.  Identifiers go in bodies, never in URLs.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import Unreachable
from oracle.commands.output import (
    explain_nrc,
    format_json,
    format_value,
    note_more,
    print_line,
    print_note,
    shorten_time,
    show,
    show_pages,
)
from oracle.commands.verbs import (
    ALL_KINDS,
    Arguments,
    add_as_stored,
    add_by,
    add_call,
    add_country,
    add_fsp,
    add_limit,
    add_party,
    find_fsp,
    parse_number,
    parse_past_time,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client, Pages

CHANNELS: Final = ("hub", "account-lookup", "admin", "import", "self-heal", "seed", "sql")
ACTIONS: Final = ("registered", "changed", "removed", "ignored")
ENTITIES: Final = (
    *("alias", "fsp", "route", "policy", "credential", "batch", "audit-key", "secret", "oracle"),
    *("endpoints", "jws-key", "als-oracle", "budget", "session"),
    "audit-reads",
)

ROOT: Final = "/audit/v1"
_EVENT: Final = (
    "at",
    "eventId",
    "entity",
    "action",
    "channel",
    "actor",
    "fspId",
    "kind",
    "identifier",
    "subId",
    "now",
    "reason",
)
_BOOKKEEPING: Final = frozenset({"version", "changed_at", "created_at"})
_READ: Final = ("at", "readId", "credential", "role", "asked", "partyIdType", "identifier", "fspId")

# Why lookups were answered so, for people.
REASONS: Final = {
    "alias": "alias",
    "route": "route",
    "alias_not_answered": "registered, but its FSP was suspended or closed",
    "route_not_answered": "a route decided, but its FSP was suspended or closed",
    "other_currencies": "registered for other currencies only",
    "nobody": "not registered",
}

TIME: Final = "2026-03-03T10:00:00Z, 2026-03-03T10:00-06:00, 2026-03-03 (in UTC), or 7d for a week ago"


def add(verbs: Any) -> None:
    """`verbs` are those of `oracle audit`."""
    events = add_call(verbs, "events", _list_events, "list changes of the directory, newest first")
    events.add_argument("--kind", metavar="KIND", help=f"kind of the --identifier: {ALL_KINDS}")
    events.add_argument("--identifier", metavar="IDENTIFIER", help="only changes of this identifier; needs --kind")
    add_country(events)
    events.add_argument("--fsp", metavar="FSP", help="only changes of this FSP and its aliases")
    events.add_argument("--channel", choices=CHANNELS, help="only changes that came this way")
    events.add_argument("--action", choices=ACTIONS, help="only this action")
    events.add_argument("--entity", choices=ENTITIES, help="only changes of this type of object")
    for name, metavar, text in (
        ("actor", "ID", "only changes by this key, FSP or database user, by its id"),
        ("request", "ID", "only changes of the call with this X-Request-ID, or batch:NUMBER for those of a file"),
        ("trace", "ID", "only changes of the call with this trace id"),
    ):
        events.add_argument(f"--{name}", metavar=metavar, help=text)
    add_by(events, "only changes by this person")
    _add_times(events)
    add_limit(events)

    event = add_call(verbs, "event", _show_event, "show one change of the directory, and the file that it came from")
    event.add_argument("event", type=parse_number, metavar="EVENT", help="number of the event, as `events` shows it")

    text = "show which FSP lookups found for an identifier at a given time, and who registered it"
    resolve = add_call(verbs, "resolve", _resolve, text)
    _add_stored_party(resolve)
    resolve.add_argument("--at", type=parse_past_time, metavar="TIME", help=f"{TIME} (default: now)")
    resolve.add_argument("--currency", metavar="CURRENCY", type=str.upper, help="look up for this currency only")

    text = "list how the answer for an identifier changed over time, oldest first"
    timeline = add_call(verbs, "timeline", _list_moments, text)
    _add_stored_party(timeline)
    timeline.add_argument("--currency", metavar="CURRENCY", type=str.upper, help="look up for this currency only")
    add_limit(timeline)

    diff = add_call(verbs, "diff", _list_differences, "list the differences between the aliases of an FSP at two times")
    add_fsp(diff)
    diff.add_argument(
        "--from", dest="since", type=parse_past_time, metavar="TIME", required=True, help=f"the first time: {TIME}"
    )
    diff.add_argument(
        "--to", dest="until", type=parse_past_time, metavar="TIME", required=True, help=f"the second time: {TIME}"
    )

    reads = add_call(verbs, "reads", _list_reads, "list who read history, newest first")
    reads.add_argument("--credential", metavar="ID", help="only reads with the key of this id")
    add_by(reads, "only reads by this person")
    _add_times(reads)
    add_limit(reads)


def _add_stored_party(parser: argparse.ArgumentParser) -> None:
    add_party(parser)
    add_as_stored(parser)


def _add_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="since", type=parse_past_time, metavar="TIME", help=f"only at this time or later: {TIME}"
    )
    parser.add_argument("--to", dest="until", type=parse_past_time, metavar="TIME", help="only before this time")


# What happened ----------------------------------------------------------------------------------------------------


def _list_events(client: Client, arguments: Arguments) -> None:
    question = {
        "kind": arguments.kind, "identifier": arguments.identifier, "country": arguments.country,
        "fspId": arguments.fsp, "actor": arguments.actor, "by": arguments.by,
        "channel": arguments.channel, "action": arguments.action,
        "entity": arguments.entity, "requestId": arguments.request, "traceId": arguments.trace,
        "from": arguments.since, "to": arguments.until,
    }  # fmt: skip
    pages = _search(client, "/events/search", question, arguments.limit)
    show_pages(pages, _EVENT, as_json=arguments.json, reshape=_add_summary)


def _show_event(client: Client, arguments: Arguments) -> None:
    path = f"{ROOT}{make_prefix(client)}/events/{{event}}"
    event = client.call("GET", client.url + path, event=arguments.event).body
    if arguments.json:
        print_line(format_json(event))
        return
    _explain(event)
    print_line(f"  {describe_change(event)}")


def _add_summary(event: Any) -> Any:
    """Add what the event did: in words for a terminal; elsewhere what is registered now, for programs."""
    return {**event, "now": describe_change(event) if sys.stdout.isatty() else event["after"]}


def describe_change(event: Any) -> str:
    """Write `currency MXN, default yes`; of a change what differs; of a removal what was there."""
    before, after = event["before"] or {}, event["after"] or {}
    if not after:
        return f"nothing; before: {_describe_members(before)}" if before else ""
    if not before:
        return _describe_members(after)
    names = [name for name in after if after[name] != before.get(name) and name not in _BOOKKEEPING]
    return ", ".join(
        f"{_name_member(name)} {_describe_value(after[name])} (before: {_describe_value(before.get(name))})"
        for name in names
    )


def _describe_members(members: Any) -> str:
    return ", ".join(
        f"{_name_member(name)} {_describe_value(value)}"
        for name, value in members.items()
        if name not in _BOOKKEEPING and (value is False or value not in (None, "", [], 0))
    )


def _name_member(name: str) -> str:
    return name.replace("fsp_id", "FSP").replace("_", " ")


def _describe_value(value: Any) -> str:
    if value is None or value in ("", []):
        return "none"
    if value == "infinity":
        return "never"
    text = format_value(value)
    return shorten_time(text.removeprefix("\\x"))


def _resolve(client: Client, arguments: Arguments) -> None:
    question = {**_make_party(arguments), "currency": arguments.currency, "at": arguments.at}
    answer = _post(client, "/resolve", question)
    if arguments.json:
        print_line(format_json(answer))
        return
    answer["reason"] = REASONS.get(answer["reason"], answer["reason"])
    party = answer.pop("party")
    entries, events = answer.pop("entries"), answer.pop("events")
    show({**party, **answer}, as_json=False)
    for entry in entries:
        print_line(f"entry: {entry['fspId']} ({entry['fspStatus']}), {entry['currency'] or 'any currency'}, "
              f"SubId {entry['subId'] or 'none'}, registered by event {entry['eventId']}")  # fmt: skip
    for event in events:
        _explain(event)


def _explain(event: Any) -> None:
    who = _name_person(event, "actor")
    role = f" as {event['role']}" if event["role"] and not event["actorName"] else ""
    reason = f": {event['reason']}" if event["reason"] else ""
    print_line(f"event {event['eventId']}: {event['at']} {event['entity']} {event['action']} by {who}{role}"
          f" through {event['channel']}{reason}")  # fmt: skip
    batch = event["batch"]
    if batch is not None:
        lines = ", ".join(map(str, batch["lines"])) or "unknown"
        print_line(f"  from file {batch['fileName']}, line {lines} (batch {batch['batchId']},"
              f" SHA-256 {batch['fileSha256']})")  # fmt: skip
        print_line(f"  uploaded by {_name_person(batch, 'uploadedBy')} at {batch['uploadedAt']}")
        if batch["decidedBy"]:
            reason = f": {batch['decisionReason']}" if batch["decisionReason"] else ""
            print_line(f"  approved by {_name_person(batch, 'decidedBy')} at {batch['decidedAt']}{reason}")


def _name_person(item: Any, member: str) -> str:
    """Write `Ana (maker of bluebank), key abcdefghijkl`; the id alone for an actor that has no name."""
    name = item[f"{member}Name"]
    return f"{name}, key {item[member]}" if name else str(item[member])


def _list_moments(client: Client, arguments: Arguments) -> None:
    question = {**_make_party(arguments), "currency": arguments.currency}

    def name_party(page: Any) -> None:
        if not arguments.json:
            party = page["party"]
            print_line(f"{party['kind']} {explain_nrc(party['identifier'], party['display'])}")

    pages = _search(client, "/timeline", question, arguments.limit, name_party)
    for page in pages:
        for moment in page:
            if arguments.json:
                print_line(format_json(moment))
                continue
            answer = moment["fspId"] or "nobody"
            currency = f" {moment['currency']}" if moment["currency"] else ""
            print_line(f"{moment['at']}  {answer}{currency} ({REASONS.get(moment['reason'], moment['reason'])})")
            for event in moment["events"]:
                print("  ", end="")
                _explain(event)
    note_more(pages)


def _list_differences(client: Client, arguments: Arguments) -> None:
    path = f"{client.url}{ROOT}/fsps/{{fsp_id}}/diff"
    query = {"from": arguments.since, "to": arguments.until}
    with client.download(path, query=query, fsp_id=find_fsp(client, arguments)) as pieces:
        last = None
        for line in _split_lines(pieces):
            last = decode(line)
            if "end" in last:
                break
            print(format_json(last) if arguments.json else _format_difference(last))
    if last is None or "end" not in last:
        raise Unreachable("the connection broke before the list was complete. Try again")
    end = last["end"]
    print_note(f"{end['added']} added, {end['removed']} removed, {end['changed']} changed")


def _format_difference(difference: Any) -> str:
    parts = [f"{sign}{part['currency'] or 'any'}" for sign, name in (("-", "removed"), ("+", "added"))
             for part in difference[name]]  # fmt: skip
    change, type_, sub_id = (format_value(difference[name]) for name in ("change", "partyIdType", "subId"))
    identifier = difference["identifier"]
    shown = format_value(identifier)
    if sys.stdout.isatty():
        type_, shown = _write_party(type_, shown)
    return "\t".join([change, type_, shown, sub_id, *parts])


def _write_party(type_: str, identifier: str) -> tuple[str, str]:
    """Write the kind and the identifier as people write them."""
    from oracle.identifiers import display

    if type_ == "MSISDN":
        return type_, display("MSISDN", identifier).text
    shown = explain_nrc(identifier) if type_ == "PERSONAL_ID" else identifier
    return type_ if shown == identifier else "NRC", shown


def _list_reads(client: Client, arguments: Arguments) -> None:
    query = {"credentialId": arguments.credential, "by": arguments.by, "from": arguments.since, "to": arguments.until}
    pages = client.fetch_pages(f"{client.url}{ROOT}/reads", query=query, limit=arguments.limit)
    show_pages(pages, _READ, as_json=arguments.json)


# Verifications by the service --------------------------------------------------------------------------------------


# Calls ------------------------------------------------------------------------------------------------------------


def _make_party(arguments: Arguments) -> dict[str, Any]:
    return {"kind": arguments.kind, "identifier": arguments.identifier, "subId": arguments.sub,
            "country": arguments.country, "asStored": arguments.as_stored}  # fmt: skip


def make_prefix(client: Client) -> str:
    """Make the beginning of the path at which a key of one FSP can ask."""
    from urllib.parse import quote

    fsp_id = client.me["fspId"]
    return "" if fsp_id is None else f"/fsps/{quote(fsp_id, safe='')}"


def _post(client: Client, path: str, question: dict[str, Any]) -> Any:
    body = {name: value for name, value in question.items() if value is not None}
    return client.call("POST", f"{client.url}{ROOT}{make_prefix(client)}{path}", body=body, reads=True).body


def _search(
    client: Client, path: str, question: dict[str, Any], limit: int, begin: Callable[[Any], None] = lambda _: None
) -> Pages:
    """`begin` gets the first page as a whole."""
    from oracle.commands.client import Pages

    def fetch(size: int, cursor: str | None) -> Any:
        page = _post(client, path, {**question, "limit": size, "cursor": cursor})
        if cursor is None:
            begin(page)
        return page

    return Pages(fetch, limit)


def _split_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def decode(text: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise Unreachable("the answer did not come from an audit API. Check ORACLE_ADMIN_URL") from exc
