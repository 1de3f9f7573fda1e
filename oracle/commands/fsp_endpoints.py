"""`oracle fsp endpoints …` and `oracle fsp jws-key …`: where an FSP is called, and what verifies its signatures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import Misused
from oracle.commands.output import show, show_pages
from oracle.commands.verbs import Arguments, Verbs, add_if_match, parse_number

if TYPE_CHECKING:
    from oracle.commands.client import Client

KEY_COLUMNS: Final = ("keyId", "label", "sha256", "createdAt")
_PREFIX: Final = "FSPIOP_CALLBACK_URL_"


def add(fsps: Verbs) -> None:
    endpoints = fsps.add(
        "endpoints", _show_or_change, "show or change where the account lookup service calls an FSP",
        f"TYPE is a type of endpoint, for example PARTIES_GET or {_PREFIX}PARTIES_GET. A URL of a type comes before the"
        " base URL, and can have placeholders: {{partyIdType}}, {{partyIdentifier}}, {{partySubIdOrType}},"
        " {{requestId}}. Options that you leave out change nothing.",
    )  # fmt: skip
    _add_id(endpoints)
    base = endpoints.add_mutually_exclusive_group()
    base.add_argument(
        "--base-url", metavar="URL", help="URL above all paths of the FSP, for example https://fsp.example/fspiop"
    )
    base.add_argument("--no-base-url", action="store_true", help="call only the URLs of single types")
    endpoints.add_argument(
        "--set", action="append", type=_parse_setting, default=[], metavar="TYPE=URL", help="call this URL for a type"
    )
    endpoints.add_argument(
        "--unset", action="append", type=_name_type, default=[], metavar="TYPE", help="remove the URL of a type"
    )
    endpoints.add_argument(
        "--proxy", action=argparse.BooleanOptionalAction, help="it is a proxy: it forwards to FSPs of another scheme"
    )
    add_if_match(endpoints)

    keys = fsps.add_noun("jws-key", "add, list or remove the public keys that verify the signatures of an FSP")
    added = keys.add("add", _add_key, "add a public key of an FSP; its other keys stay valid")
    _add_id(added)
    added.add_argument(
        "file", type=Path, metavar="FILE", help="RSA public key or certificate in PEM, of at least 2048 bits"
    )
    added.add_argument("--label", metavar="TEXT", help="tells the keys apart, for example 2026 (default: FILE)")
    _add_id(keys.add("list", _list_keys, "list the keys of an FSP, the newest first"))
    removed = keys.add("remove", _remove_key, "remove a key; messages that are signed with it are refused from then on")
    _add_id(removed)
    removed.add_argument("key_id", type=parse_number, metavar="KEY", help="number of the key, as `list` shows it")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fsp_id", metavar="FSP", help="id of the FSP, for example greenbank")


def _name_type(text: str) -> str:
    name = text.upper()
    return name if name.startswith(_PREFIX) else _PREFIX + name


def _parse_setting(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not separator or not name or not url:
        raise argparse.ArgumentTypeError("write TYPE=URL: the type, then = and the URL")
    return _name_type(name), url


def _show_or_change(client: Client, arguments: Arguments) -> None:
    fsp_id = arguments.fsp_id
    reply = client.call("GET", "/fsps/{fsp_id}/endpoints", fsp_id=fsp_id)
    body = _change(reply.body, arguments)
    if body is not None:
        # Its version makes sure that no other change in between is lost.
        version = arguments.if_match or reply.etag
        reply = client.call("PUT", "/fsps/{fsp_id}/endpoints", fsp_id=fsp_id, body=body, if_match=version)
    show(reply.body, as_json=arguments.json, version=reply.etag)


def _change(endpoints: Any, arguments: Arguments) -> dict[str, Any] | None:
    """Return the endpoints as they are wanted; None if the person only asks what they are."""
    named = arguments.base_url is not None or arguments.no_base_url or arguments.proxy is not None
    if not (named or arguments.set or arguments.unset):
        return None
    urls = dict(endpoints["urls"])
    for name in arguments.unset:
        if name not in urls:
            raise Misused(
                f"--unset: {name} is not set. `oracle fsp endpoints {endpoints['fspId']}` shows those that are"
            )
        del urls[name]
    urls |= dict(arguments.set)
    kept = None if arguments.no_base_url else endpoints["baseUrl"]
    return {
        "baseUrl": kept if arguments.base_url is None else arguments.base_url,
        "urls": urls,
        "isProxy": endpoints["isProxy"] if arguments.proxy is None else arguments.proxy,
    }


def _add_key(client: Client, arguments: Arguments) -> None:
    body = {
        "label": arguments.label or arguments.file.name,
        "pem": arguments.file.read_bytes().decode(errors="replace"),
    }
    key = client.call("POST", "/fsps/{fsp_id}/jws-keys", fsp_id=arguments.fsp_id, body=body).body
    _show_key(key, arguments)


def _list_keys(client: Client, arguments: Arguments) -> None:
    keys = client.call("GET", "/fsps/{fsp_id}/jws-keys", fsp_id=arguments.fsp_id).body["items"]
    show_pages([keys], KEY_COLUMNS, as_json=arguments.json)


def _remove_key(client: Client, arguments: Arguments) -> None:
    named = {"fsp_id": arguments.fsp_id, "key_id": arguments.key_id}
    key = client.call("DELETE", "/fsps/{fsp_id}/jws-keys/{key_id}", **named).body
    _show_key(key, arguments)


def _show_key(key: Any, arguments: Arguments) -> None:
    shown = key if arguments.json else {name: key[name] for name in KEY_COLUMNS}
    show(shown, as_json=arguments.json)
