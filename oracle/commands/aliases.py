"""`oracle alias …`: the aliases of an FSP; for operators, the FSP behind an identifier.

People type an identifier in any spelling of its kind; the commands print the canonical one.  `doubtful_aliases` has the
verb for aliases that were stored under older rules, `alias_export` the one for all of them.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands import alias_export, doubtful_aliases
from oracle.commands.batch_words import explain_waiting
from oracle.commands.failures import Misused
from oracle.commands.identifier_files import is_file_name, read_identifiers
from oracle.commands.kept_keys import quote_word
from oracle.commands.output import format_count, print_json_lines, print_note, show, show_pages
from oracle.commands.verbs import (
    ALL_KINDS,
    REASON,
    Arguments,
    Verbs,
    add_as_stored,
    add_country,
    add_fsp,
    add_if_match,
    add_kind,
    add_limit,
    add_party,
    add_sub,
    find_fsp,
    parse_past_time,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply

COLUMNS: Final = ("kind", "identifier", "subId", "currencies", "state", "hint", "changedAt")
CHECKED: Final = ("asked", "exists", "kind", "identifier", "subId", "error.message")
FOUND: Final = (
    "asked",
    "fspId",
    "kind",
    "identifier",
    "subId",
    "currency",
    "state",
    "hint",
    "routePrefix",
    "error.message",
)
REASONS: Final = ("user_requested", "account_closed", "moved", "fraud", "correction", "other")
ITEMS_MAX: Final = 1_000  # a call


def add(commands: Any) -> None:
    aliases = Verbs(commands, "alias", "register, change, remove, list, check or look up aliases")

    new = aliases.add("add", _add, "register an alias for an FSP")
    _add_name(new)
    new.add_argument(
        "--currency",
        type=str.upper,
        metavar="CURRENCY",
        help="answer only for this currency, for example MXN (default: any currency)",
    )
    new.add_argument("--reason", metavar="TEXT", help=REASON)

    shown = aliases.add("show", _show, "show one alias of an FSP")
    _add_name(shown)
    add_as_stored(shown)

    update = aliases.add("update", _update, "change the currency of an alias")
    _add_name(update)
    add_as_stored(update)
    update.add_argument(
        "--currency", type=_currency_or_any, required=True, metavar="CURRENCY",
        help="the new currency, for example MXN; or any",
    )  # fmt: skip
    update.add_argument("--reason", required=True, metavar="TEXT", help=REASON)
    add_if_match(update)

    remove = aliases.add("remove", _remove, "remove an alias, or one currency of it")
    _add_name(remove)
    add_as_stored(remove)
    remove.add_argument(
        "--currency", type=str.upper, metavar="CURRENCY", help="remove only the entry for this currency"
    )
    remove.add_argument("--reason", choices=REASONS, required=True, help="why; history keeps it")
    remove.add_argument("--note", metavar="TEXT", help="more about the reason; history keeps this text")
    add_if_match(remove)

    text = "list the aliases of an FSP, sorted by type and time of change, with --prefix by identifier"
    listed = aliases.add("list", _list, text)
    _add_filters(listed)
    add_limit(listed, "show all, as they were at one moment, in no order; with --json without `display`: `show` has it")
    add_fsp(listed)

    _add_filters(alias_export.add(aliases))

    check = aliases.add("check", _check, "show which of these identifiers the FSP has registered")
    _add_many(check)
    add_fsp(check)
    _add_many(aliases.add("lookup", _lookup, "for operators: show which FSPs have registered these identifiers"))
    doubtful_aliases.add(aliases)


def _add_name(parser: argparse.ArgumentParser) -> None:
    add_party(parser)
    add_fsp(parser)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", type=str.upper, metavar="KIND", help=f"only this kind: {ALL_KINDS}")
    parser.add_argument(
        "--prefix", metavar="PREFIX",
        help="only identifiers that begin so, for example 5255; --kind says how to read it (default: as any kind)",
    )  # fmt: skip
    parser.add_argument(
        "--currency", metavar="CODE", help="only aliases with an entry in this currency, for example MXN"
    )
    parser.add_argument(
        "--state", choices=("answered", "unanswered"),
        help="answered: only aliases that lookups find; unanswered: only those of a suspended or closed FSP",
    )  # fmt: skip
    parser.add_argument(
        "--changed-from", type=parse_past_time, metavar="TIME",
        help="only those changed at this time or later: 2026-11-30, or 7d for a week ago",
    )  # fmt: skip
    parser.add_argument(
        "--changed-to", type=parse_past_time, metavar="TIME", help="only those changed before this time"
    )


def _add_many(parser: argparse.ArgumentParser) -> None:
    add_kind(parser)
    parser.add_argument(
        "identifiers", nargs="*", default=[], metavar="IDENTIFIER",
        help="in any spelling of the kind (default: read from --file or stdin)",
    )  # fmt: skip
    parser.add_argument(
        "--file", metavar="FILE",
        help="read the identifiers from this file of any size, one a line; or from a column of a CSV file (-: stdin)",
    )  # fmt: skip
    parser.add_argument(
        "--column", metavar="NAME",
        help="the column of a CSV file whose first line has the names (default for FILE.csv: identifier)",
    )  # fmt: skip
    add_sub(parser)
    add_country(parser)
    add_as_stored(parser)


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
    _print_reply(
        client.call("POST", "/fsps/{fsp_id}/aliases", fsp_id=find_fsp(client, arguments), body=given), arguments
    )


def _show(client: Client, arguments: Arguments) -> None:
    found = client.call(
        "GET", "/fsps/{fsp_id}/aliases/{kind}/{identifier}", query=_make_query(arguments),
        **_fill_path(client, arguments),
    )  # fmt: skip
    _print_reply(found, arguments)


def _update(client: Client, arguments: Arguments) -> None:
    body = {"currency": None if arguments.currency == "any" else arguments.currency, "reason": arguments.reason}
    changed = client.call(
        "PATCH", "/fsps/{fsp_id}/aliases/{kind}/{identifier}", query=_make_query(arguments), body=body,
        if_match=arguments.if_match, **_fill_path(client, arguments),
    )  # fmt: skip
    _print_reply(changed, arguments)


def _remove(client: Client, arguments: Arguments) -> None:
    query = {"reason": arguments.reason, "note": arguments.note, "currency": arguments.currency}
    removed = client.call(
        "DELETE", "/fsps/{fsp_id}/aliases/{kind}/{identifier}", query=query | _make_query(arguments),
        if_match=arguments.if_match, **_fill_path(client, arguments),
    )  # fmt: skip
    if removed.body is not None:  # it waits for a second person
        _print_reply(removed, arguments)


def _fill_path(client: Client, arguments: Arguments) -> dict[str, Any]:
    return {"fsp_id": find_fsp(client, arguments), "kind": arguments.kind, "identifier": arguments.identifier}


def _make_query(arguments: Arguments) -> dict[str, Any]:
    return {"subId": arguments.sub, "country": arguments.country, "asStored": arguments.as_stored or None}


def _print_reply(reply: Reply, arguments: Arguments) -> None:
    if "batchId" in reply.body and not arguments.json:
        explain_waiting(reply.body, arguments)
    else:
        show(reply.body, as_json=arguments.json, version=reply.etag)


# Many -------------------------------------------------------------------------------------------------------------


def _list(client: Client, arguments: Arguments) -> None:
    import msgspec

    fsp_id, filters = find_fsp(client, arguments), alias_export.make_filters(arguments)
    if arguments.limit:
        pages = client.fetch_pages("/fsps/{fsp_id}/aliases", query=filters, limit=arguments.limit, fsp_id=fsp_id)
        show_pages(pages, COLUMNS, as_json=arguments.json, reshape=_add_currencies)
        return
    blocks = alias_export.fetch_aliases(client, fsp_id, filters)
    if arguments.json:
        print_json_lines(blocks)
    else:
        items = map(msgspec.json.Decoder().decode_lines, blocks)
        show_pages(items, COLUMNS, as_json=False, reshape=_add_currencies)


def _add_currencies(alias: dict[str, Any]) -> dict[str, Any]:
    alias["currencies"] = [entry["currency"] or "any" for entry in alias["entries"]]
    return alias


def _check(client: Client, arguments: Arguments) -> None:
    fsp_id = find_fsp(client, arguments)
    count: Counter[str] = Counter()

    def ask(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        body = {"items": items}
        found = client.call("POST", "/fsps/{fsp_id}/aliases/check", fsp_id=fsp_id, body=body, reads=True).body["items"]
        count.update("bad" if each["error"] else "found" if each["exists"] else "missing" for each in found)
        return _pair(items, found)

    show_pages(map(ask, _split_items(arguments)), CHECKED, as_json=arguments.json)
    _sum_up(arguments, count, "registered by the FSP")


def _lookup(client: Client, arguments: Arguments) -> None:
    count: Counter[str] = Counter()

    def ask(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        found = client.call("POST", "/aliases/lookup", body={"items": items}, reads=True).body["items"]
        count.update(
            "bad" if each["error"] else "found" if each["holders"] or each["route"] else "missing" for each in found
        )
        return _pair(items, found)

    pages = map(ask, _split_items(arguments))
    items = pages if arguments.json else ([line for item in page for line in _list_holders(item)] for page in pages)
    show_pages(items, FOUND, as_json=arguments.json)
    _sum_up(arguments, count, "answered by an FSP")


def _sum_up(arguments: Arguments, count: Counter[str], found: str) -> None:
    """Say what became of a file, whose lines nobody counts."""
    if arguments.file is not None:
        print_note(
            f"{format_count(count.total(), 'identifier')}: {count['found']:,} {found}, {count['missing']:,} not,"
            f" {count['bad']:,} not valid"
        )


def _list_holders(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Print one line for each holder; one line without a holder where nobody holds it."""
    route = found["route"]
    if route is not None:
        yield {**found, "fspId": route["fspId"], "state": route["state"], "routePrefix": route["prefix"]}
    for holder in found["holders"]:
        yield {**found, **holder}
    if route is None and not found["holders"]:
        yield found


def _pair(items: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    from oracle.commands.words import explain_fault

    for item, found in zip(items, answers, strict=True):
        problem = found["error"]
        if problem is not None and problem["code"] == "bad_identifier":
            problem["message"] = explain_fault(problem["message"], problem["hint"].removeprefix("Reason: "), item)
    return [{"asked": item["identifier"], **found} for item, found in zip(items, answers, strict=True)]


def _find_texts(arguments: Arguments) -> Iterable[str]:
    """Return the identifiers of the command, of its file, or of stdin."""
    named: list[str] = arguments.identifiers
    if named and arguments.file is not None:
        raise Misused("name identifiers or a --file, not both")
    if named and arguments.column is not None:
        raise Misused("--column needs --file")
    file = next(filter(is_file_name, named), None)
    if file is not None:
        print_note(
            f"{file} is read as an identifier. To read the identifiers in that file: --file {quote_word(Path(file))}"
        )
    return named or read_identifiers(arguments.file or "-", arguments.column)


def _split_items(arguments: Arguments) -> Iterator[list[dict[str, Any]]]:
    """Split the items of the question into pieces that one call accepts."""
    common = {
        "kind": arguments.kind,
        "subId": arguments.sub,
        "country": arguments.country,
        "asStored": arguments.as_stored or None,
    }
    given = {name: value for name, value in common.items() if value is not None}
    identifiers = iter(_find_texts(arguments))
    while some := list(islice(identifiers, ITEMS_MAX)):
        yield [{**given, "identifier": identifier} for identifier in some]
