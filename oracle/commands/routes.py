"""`oracle route …`: rules that answer identifiers nobody has registered, by how they begin.

A new rule is first tried: what it cuts into, and what cuts into it, is shown, and has to be accepted (`--yes`, or at
the terminal) before it is made.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.output import note, show, show_pages, text_of
from oracle.commands.verbs import (
    Arguments,
    Command,
    CommandError,
    Misused,
    Verbs,
    add_if_match,
    add_limit,
    instant,
    number,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply

COLUMNS: Final = ("routeId", "kind", "prefix", "fspId", "validFrom", "validTo", "note")
OVERLAPS_SHOWN: Final = 20


def add(commands: Any, command: Command) -> None:
    routes = Verbs(commands, command, "route", "prefix rules: which FSP answers what nobody has registered")

    new = routes.add("add", _add, "add a rule")
    new.add_argument("kind", type=str.upper, metavar="KIND", help="CLABE, MSISDN, ACCOUNT_ID, …")
    new.add_argument("prefix", metavar="PREFIX", help="how the identifiers begin")
    new.add_argument("--fsp", required=True, metavar="FSP", help="who answers them")
    _add_period(new)
    new.add_argument("--reason", metavar="WHY", help="stands in the history")
    new.add_argument("--yes", action="store_true", help="accept that it overlaps others")
    new.add_argument("--dry-run", action="store_true", help="only show what it would overlap")

    listed = routes.add("list", _list, "list the rules, in the order of their prefixes")
    listed.add_argument("--kind", type=str.upper, metavar="KIND", help="only these")
    listed.add_argument("--fsp", metavar="FSP", help="only those of this FSP")
    listed.add_argument("--prefix", metavar="P", help="only those that it comes under, or that come under it")
    listed.add_argument("--at", type=instant, metavar="WHEN", help="only those that hold then")
    add_limit(listed)

    _add_id(routes.add("show", _show, "show a rule"))

    update = routes.add("update", _update, "change when a rule holds, or its note")
    _add_id(update)
    _add_period(update)
    update.add_argument("--reason", metavar="WHY", help="stands in the history")
    add_if_match(update)

    end = routes.add("end", _end, "end a rule; one that has not begun is withdrawn")
    _add_id(end)
    end.add_argument("--at", type=instant, metavar="WHEN", help="later than now")
    end.add_argument("--reason", required=True, metavar="WHY", help="stands in the history")
    add_if_match(end)

    several = routes.add(
        "import", _import, "add the rules of a list, or of the list of CLABE institutions: all or none"
    )
    several.add_argument("file", type=Path, metavar="FILE", help="CSV: prefix,fspId[,kind,validFrom,validTo,note]")
    several.add_argument("--fsp", metavar="FSP", help="where the list does not say: made of its columns, mx-{abm_code}")
    several.add_argument(
        "--unknown-fsps",
        choices=("refuse", "skip", "create"),
        default="refuse",
        help="the rows of unknown ones (refuse)",
    )
    several.add_argument("--reason", metavar="WHY", help="stands in the history")
    several.add_argument("--yes", action="store_true", help="accept that rules overlap others")
    several.add_argument("--dry-run", action="store_true", help="only show what would be done")

    asked = routes.add("what-if", _what_if, "say who answers an identifier, and why")
    asked.add_argument("kind", type=str.upper, metavar="KIND", help="CLABE, MSISDN, ACCOUNT_ID, …")
    asked.add_argument("identifier", metavar="ID", help="in any spelling of its kind")
    asked.add_argument("--sub", metavar="S", help="the SubId or type")
    asked.add_argument("--country", type=str.upper, metavar="CC", help="allows the national form of an MSISDN")
    asked.add_argument("--currency", type=str.upper, metavar="C")
    asked.add_argument("--at", type=instant, metavar="WHEN", help="at that instant, past or to come")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("route_id", type=number, metavar="ROUTE", help="its number")


def _add_period(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="valid_from", type=instant, metavar="WHEN", help="left out: now")
    parser.add_argument(
        "--to", dest="valid_to", type=_instant_or_never, metavar="WHEN", help="left out, or never: for ever"
    )
    parser.add_argument("--note", metavar="TEXT")


def _instant_or_never(text: str) -> str:
    return text if text == "never" else instant(text)


# One --------------------------------------------------------------------------------------------------------------


def _add(client: Client, arguments: Arguments) -> None:
    body = {"kind": arguments.kind, "prefix": arguments.prefix, "fspId": arguments.fsp, **_given(arguments)}
    tried = client.call("POST", "/routes", query={"dryRun": True}, body=body, reads=True).body
    if arguments.dry_run:
        _show_placed(tried, arguments)
        return
    if tried["conflict"] is None:
        _require_consent(tried["overlaps"], _overlaps_of(tried), arguments)
    made = client.call("POST", "/routes", body=body)
    show(made.body["route"], as_json=arguments.json, version=made.etag)


def _show_placed(tried: Any, arguments: Arguments) -> None:
    if arguments.json:
        show(tried, as_json=True)
        return
    _note_overlaps(tried["overlaps"], _overlaps_of(tried))
    if tried["conflict"] is not None:
        raise CommandError(f"route {tried['conflict']['routeId']} has this prefix at that time (route_overlap)")


def _overlaps_of(tried: Any) -> list[str]:
    return [f"route {other['routeId']}: {text_of(other['explanation'])}" for other in tried["wouldOverlap"]]


def _note_overlaps(count: int, overlaps: list[str]) -> None:
    for overlap in overlaps[:OVERLAPS_SHOWN]:
        note(overlap)
    if count > OVERLAPS_SHOWN:
        note(f"and {count - OVERLAPS_SHOWN:,} more")


def _require_consent(count: int, overlaps: list[str], arguments: Arguments) -> None:
    """Raises CommandError."""
    if not count or arguments.yes:
        return
    _note_overlaps(count, overlaps)
    asked = f"Rules that it overlaps: {count:,}."
    if not sys.stdin.isatty():
        raise CommandError(f"{asked} Accept that by --yes")
    note(f"{asked} Go on? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was added")


def _show(client: Client, arguments: Arguments) -> None:
    _shown(client.call("GET", "/routes/{route_id}", route_id=arguments.route_id), arguments)


def _update(client: Client, arguments: Arguments) -> None:
    body = _given(arguments)
    if not body.keys() - {"reason"}:
        raise Misused("name what to change")
    changed = client.call(
        "PATCH", "/routes/{route_id}", route_id=arguments.route_id, body=body, if_match=arguments.if_match
    )
    _shown(changed, arguments)


def _end(client: Client, arguments: Arguments) -> None:
    body = {"reason": arguments.reason} | ({} if arguments.at is None else {"at": arguments.at})
    ended = client.call(
        "POST", "/routes/{route_id}/end", route_id=arguments.route_id, body=body, if_match=arguments.if_match
    )
    _shown(ended, arguments)
    if ended.etag is None:
        note("It had not begun: it is withdrawn, as if it had never been.")


def _what_if(client: Client, arguments: Arguments) -> None:
    asked = {
        "kind": arguments.kind,
        "identifier": arguments.identifier,
        "subId": arguments.sub,
        "country": arguments.country,
        "currency": arguments.currency,
        "at": arguments.at,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    found = client.call("POST", "/routes/what-if", body=body, reads=True).body
    if arguments.json:
        show(found, as_json=True)
        return
    answers = [answer["fspId"] for answer in found["answer"]]
    show({"answer": answers, "by": found["by"], "why": found["explanation"]}, as_json=False)
    for rule in found["considered"]:
        note(f"route {rule['routeId']}: {rule['prefix']} to {text_of(rule['fspId'])}: {rule['verdict']}")


def _given(arguments: Arguments) -> dict[str, Any]:
    values = {
        "validFrom": arguments.valid_from,
        "validTo": arguments.valid_to,
        "note": arguments.note,
        "reason": arguments.reason,
    }
    return {name: None if value == "never" else value for name, value in values.items() if value is not None}


def _shown(reply: Reply, arguments: Arguments) -> None:
    show(reply.body, as_json=arguments.json, version=reply.etag)


# Many -------------------------------------------------------------------------------------------------------------


def _list(client: Client, arguments: Arguments) -> None:
    own = client.me["fspId"]
    query = {"kind": arguments.kind, "validAt": arguments.at}
    if own is None:
        query |= {"fspId": arguments.fsp, "prefix": arguments.prefix}
        pages = client.pages("/routes", query=query, limit=arguments.limit)
    else:
        pages = client.pages("/fsps/{fsp_id}/routes", query=query, limit=arguments.limit, fsp_id=arguments.fsp or own)
    show_pages(pages, COLUMNS, as_json=arguments.json)


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
        note(f"line {row['line']}: {row['message']} ({row['code']})")
    if tried["badRows"]:
        raise CommandError(f"{tried['badRows']:,} rows of the list are refused, and so is the list")
    overlaps = [
        f"line {cut['line']}: route {cut['routeId']} is {cut['relation']}: {text_of(cut['prefix'])} to {cut['fspId']}"
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
