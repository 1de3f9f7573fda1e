"""`oracle route …`: prefix routes, which answer for identifiers that no FSP has registered.

A new route is tried first: the command shows the routes that overlap it.  The person must accept them (`--yes`, or an
answer at the terminal) before the route is added.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import Misused, Refused
from oracle.commands.output import format_count, format_value, print_note, show, show_pages
from oracle.commands.verbs import (
    ALL_KINDS,
    REASON,
    Arguments,
    Verbs,
    add_if_match,
    add_kind,
    add_limit,
    add_party,
    parse_number,
    parse_time,
    parse_time_or_never,
    require_consent,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply

COLUMNS: Final = ("routeId", "kind", "prefix", "fspId", "validFrom", "validTo", "note")
DOUBTFUL_COLUMNS: Final = (
    "route.routeId",
    "route.kind",
    "route.prefix",
    "route.fspId",
    "doubt.message",
    "doubt.advice",
)
OVERLAPS_SHOWN: Final = 20
_RELATIONS: Final = {"other_kind": "of another kind"}


def add(commands: Any) -> None:
    routes = Verbs(
        commands, "route", "add, end, list or test prefix routes, for identifiers that nobody has registered"
    )

    new = routes.add("add", _add, "add a prefix route: identifiers that start with PREFIX belong to an FSP")
    add_kind(new)
    new.add_argument("prefix", metavar="PREFIX", help="first characters of the identifiers, for example 646180")
    new.add_argument("--fsp", required=True, metavar="FSP", help="id of the FSP that is the answer")
    _add_period(new, "now", "never")
    new.add_argument("--reason", metavar="TEXT", help=REASON)
    new.add_argument("--yes", action="store_true", help="add it without asking, also if it overlaps other routes")
    new.add_argument("--dry-run", action="store_true", help="add nothing; only show the routes that it overlaps")

    listed = routes.add("list", _list, "list the routes, sorted by prefix")
    listed.add_argument("--kind", type=str.upper, metavar="KIND", help=f"only this kind: {ALL_KINDS}")
    listed.add_argument("--fsp", metavar="FSP", help="only routes to this FSP")
    listed.add_argument(
        "--prefix", metavar="PREFIX", help="only routes whose prefix begins this one, or begins with it"
    )
    listed.add_argument("--at", type=parse_time, metavar="TIME", help="only routes valid at this time: 2027-01-31, 90d")
    add_limit(listed)

    routes.add(
        "doubtful", _list_doubtful, "list the routes that a person should look at, each with the reason",
        "Older versions did not keep the kind of a route, and accepted prefixes with which no identifier begins. To"
        " correct a route, add the right one and end this one.",
    )  # fmt: skip

    _add_id(routes.add("show", _show, "show one route"))

    update = routes.add("update", _update, "change the period or the note of a route")
    _add_id(update)
    _add_period(update, "unchanged", "unchanged")
    update.add_argument("--reason", metavar="TEXT", help=REASON)
    add_if_match(update)

    end = routes.add("end", _end, "end a route; a route that has not begun is deleted")
    _add_id(end)
    end.add_argument(
        "--at", type=parse_time, metavar="TIME", help="when it ends: 2027-01-31, or 90d from now (default: now)"
    )
    end.add_argument("--reason", required=True, metavar="TEXT", help=REASON)
    add_if_match(end)

    several = routes.add(
        "import", _import, "add all routes of a CSV file, or none",
        "The file has the columns prefix,fspId and, if you like, kind,validFrom,validTo,note. The published list of"
        " CLABE institutions works as it is; then --fsp makes the FSP id from its columns, for example mx-{abm_code}.",
    )  # fmt: skip
    several.add_argument("file", type=Path, metavar="FILE", help="CSV file")
    several.add_argument(
        "--fsp", metavar="FSP", help="the FSP of rows without fspId; it can contain columns, for example mx-{abm_code}"
    )
    several.add_argument(
        "--unknown-fsps",
        choices=("refuse", "skip", "create"),
        default="refuse",
        help="rows with an unknown FSP: refuse the file (default), skip the row, or create the FSP",
    )
    several.add_argument("--reason", metavar="TEXT", help=REASON)
    several.add_argument(
        "--yes", action="store_true", help="add them without asking, also if they overlap other routes"
    )
    several.add_argument("--dry-run", action="store_true", help="add nothing; only show what would be added")

    question = routes.add("what-if", _what_if, "show which FSP a lookup finds for an identifier, and why")
    add_party(question)
    question.add_argument("--currency", type=str.upper, metavar="CURRENCY", help="look up for this currency only")
    question.add_argument(
        "--at", type=parse_time, metavar="TIME", help="answer for this time, past or future: 2027-01-31 (default: now)"
    )


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("route_id", type=parse_number, metavar="ROUTE", help="number of the route, as `list` shows it")


def _add_period(parser: argparse.ArgumentParser, begin: str, end: str) -> None:
    parser.add_argument(
        "--from", dest="valid_from", type=parse_time, metavar="TIME",
        help=f"begin: 2027-01-31, or 90d from now (default: {begin})",
    )  # fmt: skip
    parser.add_argument(
        "--to", dest="valid_to", type=parse_time_or_never, metavar="TIME",
        help=f"end: 2027-01-31, 90d from now, or never (default: {end})",
    )  # fmt: skip
    parser.add_argument("--note", metavar="TEXT", help="a note for people")


# One --------------------------------------------------------------------------------------------------------------


def _add(client: Client, arguments: Arguments) -> None:
    body = {"kind": arguments.kind, "prefix": arguments.prefix, "fspId": arguments.fsp, **_make_period(arguments)}
    tried = client.call("POST", "/routes", query={"dryRun": True}, body=body, reads=True).body
    if arguments.dry_run:
        _show_trial(tried, arguments)
        return
    if tried["conflict"] is None:
        _require_consent(tried["overlaps"], _describe_overlaps(tried), arguments)
    made = client.call("POST", "/routes", body=body)
    show(made.body["route"], as_json=arguments.json, version=made.etag)


def _show_trial(tried: Any, arguments: Arguments) -> None:
    if arguments.json:
        show(tried, as_json=True)
        return
    _note_overlaps(tried["overlaps"], _describe_overlaps(tried))
    if tried["conflict"] is not None:
        raise Refused(
            f"route {tried['conflict']['routeId']} already has this kind and prefix at that time",
            "End that route first, or choose another period",
            code="route_overlap",
        )


def _describe_overlaps(tried: Any) -> list[str]:
    return [f"route {other['routeId']}: {format_value(other['explanation'])}" for other in tried["wouldOverlap"]]


def _note_overlaps(count: int, overlaps: list[str]) -> None:
    for overlap in overlaps[:OVERLAPS_SHOWN]:
        print_note(overlap)
    if count > OVERLAPS_SHOWN:
        print_note(f"and {count - OVERLAPS_SHOWN:,} more")


def _require_consent(count: int, overlaps: list[str], arguments: Arguments) -> None:
    """Show the overlaps and ask.  Raises CommandError unless the person accepts them."""
    if not count or arguments.yes:
        return
    _note_overlaps(count, overlaps)
    require_consent(f"This overlaps {format_count(count, 'route')}.", "Add it?", "nothing was added", yes=False)


def _show(client: Client, arguments: Arguments) -> None:
    _print_reply(client.call("GET", "/routes/{route_id}", route_id=arguments.route_id), arguments)


def _update(client: Client, arguments: Arguments) -> None:
    body = _make_period(arguments)
    if not body.keys() - {"reason"}:
        raise Misused("nothing to change. Add --from, --to or --note")
    changed = client.call(
        "PATCH", "/routes/{route_id}", route_id=arguments.route_id, body=body, if_match=arguments.if_match
    )
    _print_reply(changed, arguments)


def _end(client: Client, arguments: Arguments) -> None:
    body = {"reason": arguments.reason} | ({} if arguments.at is None else {"at": arguments.at})
    ended = client.call(
        "POST", "/routes/{route_id}/end", route_id=arguments.route_id, body=body, if_match=arguments.if_match
    )
    _print_reply(ended, arguments)
    if ended.etag is None:
        print_note("The route had not begun: it is deleted.")


def _what_if(client: Client, arguments: Arguments) -> None:
    question = {
        "kind": arguments.kind,
        "identifier": arguments.identifier,
        "subId": arguments.sub,
        "country": arguments.country,
        "currency": arguments.currency,
        "at": arguments.at,
    }
    body = {name: value for name, value in question.items() if value is not None}
    found = client.call("POST", "/routes/what-if", body=body, reads=True).body
    if arguments.json:
        show(found, as_json=True)
        return
    answers = [answer["fspId"] for answer in found["answer"]]
    show({"answer": answers, "by": found["by"], "why": found["explanation"]}, as_json=False)
    for route in found["considered"]:
        print_note(
            f"route {route['routeId']}: {route['kind']} {format_value(route['prefix'])} to"
            f" {format_value(route['fspId'])}: {route['verdict']}"
        )


def _make_period(arguments: Arguments) -> dict[str, Any]:
    values = {
        "validFrom": arguments.valid_from,
        "validTo": arguments.valid_to,
        "note": arguments.note,
        "reason": arguments.reason,
    }
    return {name: None if value == "never" else value for name, value in values.items() if value is not None}


def _print_reply(reply: Reply, arguments: Arguments) -> None:
    show(reply.body, as_json=arguments.json, version=reply.etag)


# Many -------------------------------------------------------------------------------------------------------------


def _list(client: Client, arguments: Arguments) -> None:
    own = client.me["fspId"]
    query = {"kind": arguments.kind, "validAt": arguments.at}
    if own is None:
        query |= {"fspId": arguments.fsp, "prefix": arguments.prefix}
        pages = client.fetch_pages("/routes", query=query, limit=arguments.limit)
    else:
        pages = client.fetch_pages(
            "/fsps/{fsp_id}/routes", query=query, limit=arguments.limit, fsp_id=arguments.fsp or own
        )
    show_pages(pages, COLUMNS, as_json=arguments.json)


def _list_doubtful(client: Client, arguments: Arguments) -> None:
    show_pages(client.fetch_pages("/routes/doubtful"), DOUBTFUL_COLUMNS, as_json=arguments.json)


def _import(client: Client, arguments: Arguments) -> None:
    from oracle.commands.client import Upload  # noqa: PLC0415 - imports as in cli

    content = arguments.file.read_bytes()
    upload = Upload(lambda: iter([content]), "text/csv", len(content))
    query = {"unknownFsps": arguments.unknown_fsps, "fspId": arguments.fsp, "reason": arguments.reason}
    tried = client.call("POST", "/routes/import", query={**query, "dryRun": True}, upload=upload, reads=True).body
    if arguments.dry_run and arguments.json:
        show(tried, as_json=True)
        return
    for row in tried["bad"]:
        print_note(f"line {row['line']}: {row['message']} ({row['code']})")
    if tried["badRows"]:
        raise Refused(
            f"nothing was added: {format_count(tried['badRows'], 'row')} of the file cannot be used",
            "Correct the rows, then import the whole file again",
        )
    overlaps = [
        f"line {cut['line']}: route {cut['routeId']} is {_RELATIONS.get(cut['relation'], cut['relation'])}:"
        f" {cut['kind']} {format_value(cut['prefix'])} to {format_value(cut['fspId'])}"
        for cut in tried["wouldOverlap"]
    ]
    if arguments.dry_run:
        _note_overlaps(tried["overlaps"], overlaps)
        _sum_up(tried)
        return
    _require_consent(tried["overlaps"], overlaps, arguments)
    done = client.call("POST", "/routes/import", query=query, upload=upload).body
    if arguments.json:
        show(done, as_json=True)
    else:
        _sum_up(done)


def _sum_up(done: Any) -> None:
    counts = {name: done[name] for name in ("rows", "created", "unchanged", "skipped")}
    show({**counts, "fspsCreated": done["fspsCreated"]}, as_json=False)
