"""`oracle fsp …`: the FSPs, what they may register, whether they are answered."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.output import note, show, show_pages
from oracle.commands.verbs import Arguments, Command, Misused, Verbs, add_if_match, add_limit, words

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply

COLUMNS: Final = ("status", "fspId", "name", "twoPersons", "createdAt")

# Option: member of the body, what is said of it, how its text is read.
_FIELDS: Final[dict[str, tuple[str, str, Any]]] = {
    "name": ("name", "for people", str),
    "locale-name": ("localeName", "the name in the language of the country", str),
    "type": ("dfspType", "what kind of institution", str),
    "info": ("additionalInfo", "anything more", str),
    "kinds": ("kinds", "what it may register, as MSISDN,CLABE", words),
    "currencies": ("currencies", "in which currencies, as MXN,USD", words),
    "use-cases": ("useCases", "as p2p,merchant", words),
}
_CONTACT: Final = ("name", "email", "phone")


def add(commands: Any, command: Command) -> None:
    fsps = Verbs(commands, command, "fsp", "the FSPs: create, confirm, suspend, close")

    listed = fsps.add("list", _list, "list the FSPs")
    listed.add_argument("--status", choices=("provisional", "active", "suspended", "closed"), help="only these")
    listed.add_argument("--use-case", metavar="U", help="only those that take part in it")
    add_limit(listed)

    _add_id(fsps.add("show", _show, "show an FSP"))

    create = fsps.add("create", _create, "create an FSP, active at once")
    _add_id(create)
    _add_fields(create)
    create.add_argument("--two-persons", action="store_true", help="its files wait for a checker")

    update = fsps.add("update", _update, "change what is named, and nothing else")
    _add_id(update)
    _add_fields(update)
    update.add_argument("--two-persons", action=argparse.BooleanOptionalAction, help="its files wait for a checker")
    update.add_argument(
        "--clear", type=words, default=[], metavar="NAMES", help=f"take away: {', '.join((*_FIELDS, 'contact'))}"
    )
    add_if_match(update)

    for name, work, text in (
        ("activate", _activate, "confirm a provisional one, or end a suspension"),
        ("suspend", _suspend, "its aliases are not answered until it is active again"),
        ("close", _close, "its aliases are not answered, and its credentials not let in"),
    ):
        status = fsps.add(name, work, text)
        _add_id(status)
        status.add_argument("--reason", required=True, metavar="WHY", help="stands in the history")
        add_if_match(status)

    logo = fsps.add("logo", _logo, "set the logo of an FSP from a file, write it to one, or remove it")
    _add_id(logo)
    how = logo.add_mutually_exclusive_group(required=True)
    how.add_argument("file", nargs="?", type=Path, metavar="FILE", help="PNG, JPEG or GIF, up to 256 KiB")
    how.add_argument("--out", type=Path, metavar="FILE", help="write it there")
    how.add_argument("--remove", action="store_true")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fsp_id", metavar="FSP")


def _add_fields(parser: argparse.ArgumentParser) -> None:
    for option, (_, text, kind) in _FIELDS.items():
        parser.add_argument(f"--{option}", type=kind, metavar="X", help=text)
    for part in _CONTACT:
        parser.add_argument(f"--contact-{part}", metavar="X", help=f"{part} of the contact")


def _list(client: Client, arguments: Arguments) -> None:
    query = {"status": arguments.status, "useCase": arguments.use_case}
    pages = client.pages("/fsps", query=query, limit=arguments.limit)
    show_pages(pages, COLUMNS, as_json=arguments.json)


def _show(client: Client, arguments: Arguments) -> None:
    _shown(client.call("GET", "/fsps/{fsp_id}", fsp_id=arguments.fsp_id), arguments)


def _create(client: Client, arguments: Arguments) -> None:
    body = {"fspId": arguments.fsp_id, **_given(arguments)}
    _shown(client.call("POST", "/fsps", body=body), arguments)


def _update(client: Client, arguments: Arguments) -> None:
    body = _given(arguments)
    for name in arguments.clear:
        if name not in _FIELDS and name != "contact":
            raise Misused(f"--clear: {name!r} is none of {', '.join((*_FIELDS, 'contact'))}")
        body[_FIELDS[name][0] if name in _FIELDS else name] = [] if name == "use-cases" else None
    if not body:
        raise Misused("name what to change")
    changed = client.call("PATCH", "/fsps/{fsp_id}", fsp_id=arguments.fsp_id, body=body, if_match=arguments.if_match)
    _shown(changed, arguments)


def _given(arguments: Arguments) -> dict[str, Any]:
    """What was named.  A contact is one thing: its parts are set together."""
    values = {member: getattr(arguments, option.replace("-", "_")) for option, (member, _, _) in _FIELDS.items()}
    parts = {part: getattr(arguments, f"contact_{part}") for part in _CONTACT}
    contact = {part: value for part, value in parts.items() if value is not None}
    values |= {"contact": contact or None, "twoPersons": arguments.two_persons}
    return {member: value for member, value in values.items() if value is not None}


def _activate(client: Client, arguments: Arguments) -> None:
    _set_status(client, arguments, "active")


def _suspend(client: Client, arguments: Arguments) -> None:
    _set_status(client, arguments, "suspended")


def _close(client: Client, arguments: Arguments) -> None:
    _set_status(client, arguments, "closed")


def _set_status(client: Client, arguments: Arguments, status: str) -> None:
    body = {"status": status, "reason": arguments.reason}
    changed = client.call(
        "POST", "/fsps/{fsp_id}/status", fsp_id=arguments.fsp_id, body=body, if_match=arguments.if_match
    )
    _shown(changed, arguments)


def _logo(client: Client, arguments: Arguments) -> None:
    fsp_id = arguments.fsp_id
    if arguments.out is not None:
        image = client.call("GET", "/fsps/{fsp_id}/logo", fsp_id=fsp_id).raw
        if str(arguments.out) == "-":
            sys.stdout.buffer.write(image)
        else:
            arguments.out.write_bytes(image)
            note(f"{len(image):,} bytes in {arguments.out}")
    elif arguments.remove:
        _shown(client.call("DELETE", "/fsps/{fsp_id}/logo", fsp_id=fsp_id), arguments)
    else:
        from oracle.commands.client import Upload  # noqa: PLC0415 - imports as in cli

        image = arguments.file.read_bytes()
        upload = Upload(lambda: iter([image]), "application/octet-stream", len(image))
        _shown(client.call("PUT", "/fsps/{fsp_id}/logo", fsp_id=fsp_id, upload=upload), arguments)


def _shown(reply: Reply, arguments: Arguments) -> None:
    show(reply.body, as_json=arguments.json, version=reply.etag)
