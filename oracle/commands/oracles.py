"""`oracle oracles …`: which oracle answers for a party id type, where this service replaces ALS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oracle.commands.output import show, show_pages
from oracle.commands.verbs import Arguments, Verbs, add_if_match, parse_number

if TYPE_CHECKING:
    from oracle.commands.client import Client

TYPES: Final = (
    *("MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS"),
    *("CONSENT", "THIRD_PARTY_LINK"),
)
COLUMNS: Final = ("oracleId", "partyIdType", "currency", "isDefault", "url", "changedAt")


def add(commands: Any) -> None:
    oracles = Verbs(commands, "oracles", "add, list or remove oracles that the account lookup service asks")
    oracles.add(
        "list", _list, "list the oracles, the oldest first",
        "The directory of this service answers for a type without an oracle.",
    )  # fmt: skip
    added = oracles.add(
        "add", _add, "register an oracle for a party id type",
        "To change an oracle, remove it and add it again. The account lookup service follows within two seconds.",
    )  # fmt: skip
    added.add_argument("type", type=str.upper, choices=TYPES, metavar="TYPE", help=f"one of {', '.join(TYPES)}")
    added.add_argument("url", metavar="URL", help="base URL of the oracle; /participants is added to it")
    added.add_argument(
        "--currency", metavar="CUR", help="currency of the requests that it answers (default: all others)"
    )
    added.add_argument(
        "--default", action="store_true", help="it answers requests without a currency, or with one that no oracle has"
    )
    removed = oracles.add("remove", _remove, "remove an oracle; the next one of its type answers, or this directory")
    removed.add_argument(
        "oracle_id", type=parse_number, metavar="ORACLE", help="number of the oracle, as `list` shows it"
    )
    add_if_match(removed)


def _list(client: Client, arguments: Arguments) -> None:
    show_pages([client.call("GET", "/oracles").body["items"]], COLUMNS, as_json=arguments.json)


def _add(client: Client, arguments: Arguments) -> None:
    body = {"partyIdType": arguments.type, "url": arguments.url, "isDefault": arguments.default}
    if arguments.currency is not None:
        body["currency"] = arguments.currency
    reply = client.call("POST", "/oracles", body=body)
    show(reply.body, as_json=arguments.json)


def _remove(client: Client, arguments: Arguments) -> None:
    removed = client.call(
        "DELETE", "/oracles/{oracle_id}", oracle_id=arguments.oracle_id, if_match=arguments.if_match
    ).body
    show(removed, as_json=arguments.json)
