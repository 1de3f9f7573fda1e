"""`oracle alias …`: what an FSP has registered, and for operators whose an identifier is.

An identifier is typed in any spelling of its kind; what is printed is the canonical one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.output import show, show_pages
from oracle.commands.verbs import (
    Arguments,
    Command,
    Verbs,
    add_fsp,
    add_if_match,
    add_limit,
    fsp_of,
    past,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply

COLUMNS: Final = ("kind", "identifier", "subId", "currencies", "state", "changedAt")
CHECKED: Final = ("asked", "exists", "kind", "identifier", "subId", "error.message")
FOUND: Final = ("asked", "fspId", "kind", "identifier", "subId", "currency", "state", "routePrefix", "error.message")
REASONS: Final = ("user_requested", "account_closed", "moved", "fraud", "correction", "other")
ITEMS_MAX: Final = 1_000  # a call


def add(commands: Any, command: Command) -> None:
    aliases = Verbs(commands, command, "alias", "aliases: register, change, remove, list, check, look up")

    new = aliases.add("add", _add, "register an alias")
    _add_name(new)
    new.add_argument("--currency", type=str.upper, metavar="C", help="answers for this one alone")
    new.add_argument("--reason", metavar="WHY", help="stands in the history")

    _add_name(aliases.add("show", _show, "show an alias"))

    update = aliases.add("update", _update, "give an alias another currency")
    _add_name(update)
    update.add_argument("--currency", type=_currency_or_any, required=True, metavar="C", help="MXN; any: all of them")
    update.add_argument("--reason", required=True, metavar="WHY", help="stands in the history")
    add_if_match(update)

    remove = aliases.add("remove", _remove, "remove an alias", json=False)
    _add_name(remove)
    remove.add_argument("--currency", type=str.upper, metavar="C", help="only its entry in this one")
    remove.add_argument("--reason", choices=REASONS, required=True)
    remove.add_argument("--note", metavar="TEXT", help="stands in the history, too")
    add_if_match(remove)

    listed = aliases.add("list", _list, "list the aliases of an FSP, by type and time of change")
    listed.add_argument("--kind", type=str.upper, metavar="KIND", help="only these: MSISDN, CLABE, NRC, …")
    listed.add_argument("--state", choices=("answered", "unanswered"), help="only these")
    listed.add_argument(
        "--changed-from", type=past, metavar="WHEN", help="changed then or later: 2026-11-30, or 7d for a week ago"
    )
    listed.add_argument("--changed-to", type=past, metavar="WHEN", help="changed before")
    add_limit(listed)
    add_fsp(listed)

    check = aliases.add("check", _check, "which of these identifiers the FSP has registered")
    _add_many(check)
    add_fsp(check)
    _add_many(aliases.add("lookup", _lookup, "for operators: whose these identifiers are"))


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", help="MSISDN, CLABE, NRC, ACCOUNT_ID, …")
    parser.add_argument("identifier", metavar="ID", help="in any spelling of its kind")
    parser.add_argument("--sub", metavar="S", help="the SubId or type")
    parser.add_argument("--country", type=str.upper, metavar="CC", help="allows the national form of an MSISDN")
    add_fsp(parser)


def _add_many(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", help="MSISDN, CLABE, NRC, ACCOUNT_ID, …")
    parser.add_argument("identifiers", nargs="*", metavar="ID", help="left out: one a line from stdin")
    parser.add_argument("--sub", metavar="S", help="the SubId or type")
    parser.add_argument("--country", type=str.upper, metavar="CC", help="allows the national form of an MSISDN")


def _currency_or_any(text: str) -> str:
    return text if text == "any" else text.upper()


# One --------------------------------------------------------------------------------------------------------------


def _add(client: Client, arguments: Arguments) -> None:
    body = {
        "kind": arguments.kind,
        "identifier": arguments.identifier,
        "subId": arguments.sub,
        "country": arguments.country,
        "currency": arguments.currency,
        "reason": arguments.reason,
    }
    given = {name: value for name, value in body.items() if value is not None}
    _shown(client.call("POST", "/fsps/{fsp_id}/aliases", fsp_id=fsp_of(client, arguments), body=given), arguments)


def _show(client: Client, arguments: Arguments) -> None:
    found = client.call(
        "GET", "/fsps/{fsp_id}/aliases/{kind}/{identifier}", query=_query(arguments), **_named(client, arguments)
    )  # fmt: skip
    _shown(found, arguments)


def _update(client: Client, arguments: Arguments) -> None:
    body = {"currency": None if arguments.currency == "any" else arguments.currency, "reason": arguments.reason}
    changed = client.call(
        "PATCH", "/fsps/{fsp_id}/aliases/{kind}/{identifier}", query=_query(arguments), body=body,
        if_match=arguments.if_match, **_named(client, arguments),
    )  # fmt: skip
    _shown(changed, arguments)


def _remove(client: Client, arguments: Arguments) -> None:
    query = {"reason": arguments.reason, "note": arguments.note, "currency": arguments.currency}
    client.call(
        "DELETE", "/fsps/{fsp_id}/aliases/{kind}/{identifier}", query=query | _query(arguments),
        if_match=arguments.if_match, **_named(client, arguments),
    )  # fmt: skip


def _named(client: Client, arguments: Arguments) -> dict[str, Any]:
    return {"fsp_id": fsp_of(client, arguments), "kind": arguments.kind, "identifier": arguments.identifier}


def _query(arguments: Arguments) -> dict[str, Any]:
    return {"subId": arguments.sub, "country": arguments.country}


def _shown(reply: Reply, arguments: Arguments) -> None:
    show(reply.body, as_json=arguments.json, version=reply.etag)


# Many -------------------------------------------------------------------------------------------------------------


def _list(client: Client, arguments: Arguments) -> None:
    query = {
        "kind": arguments.kind,
        "state": arguments.state,
        "changedFrom": arguments.changed_from,
        "changedTo": arguments.changed_to,
    }
    pages = client.pages("/fsps/{fsp_id}/aliases", query=query, limit=arguments.limit, fsp_id=fsp_of(client, arguments))
    show_pages(pages, COLUMNS, as_json=arguments.json, shaped=_with_currencies)


def _with_currencies(alias: dict[str, Any]) -> dict[str, Any]:
    return {**alias, "currencies": [entry["currency"] or "any" for entry in alias["entries"]]}


def _check(client: Client, arguments: Arguments) -> None:
    fsp_id = fsp_of(client, arguments)

    def asked(items: Sequence[dict[str, str]]) -> Any:
        return client.call(
            "POST", "/fsps/{fsp_id}/aliases/check", fsp_id=fsp_id, body={"items": items}, reads=True
        ).body  # fmt: skip

    pages = (_beside(items, asked(items)["items"]) for items in _items(arguments))
    show_pages(pages, CHECKED, as_json=arguments.json)


def _lookup(client: Client, arguments: Arguments) -> None:
    def asked(items: Sequence[dict[str, str]]) -> Any:
        return client.call("POST", "/aliases/lookup", body={"items": items}, reads=True).body

    pages = (_beside(items, asked(items)["items"]) for items in _items(arguments))
    shown = pages if arguments.json else ([line for item in page for line in _holders(item)] for page in pages)
    show_pages(shown, FOUND, as_json=arguments.json)


def _holders(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A line a holder; one that says so where there is none."""
    route = found["route"]
    if route is not None:
        yield {**found, "fspId": route["fspId"], "state": route["state"], "routePrefix": route["prefix"]}
    for holder in found["holders"]:
        yield {**found, **holder}
    if route is None and not found["holders"]:
        yield found


def _beside(items: Sequence[dict[str, str]], answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"asked": item["identifier"], **found} for item, found in zip(items, answers, strict=True)]


def _items(arguments: Arguments) -> Iterator[list[dict[str, str]]]:
    """What is asked for, as much at a time as one call takes."""
    common = {"kind": arguments.kind, "subId": arguments.sub, "country": arguments.country}
    given = {name: value for name, value in common.items() if value is not None}
    texts: Iterable[str] = arguments.identifiers or (line.strip() for line in sys.stdin)
    identifiers = iter(text for text in texts if text)
    while some := list(islice(identifiers, ITEMS_MAX)):
        yield [{**given, "identifier": identifier} for identifier in some]
