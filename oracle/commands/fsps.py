"""`oracle fsp …`: the FSPs, the kinds and currencies that each can register, and whether lookups find their aliases."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands import fsp_endpoints
from oracle.commands.failures import Misused
from oracle.commands.output import format_count, open_output, print_note, show, show_pages
from oracle.commands.verbs import REASON, Arguments, Verbs, add_if_match, add_limit, parse_country, parse_list

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply

COLUMNS: Final = ("status", "fspId", "name", "twoPersons", "createdAt")

# Option: member of the body, metavar, help, how its text is read.
_FIELDS: Final[dict[str, tuple[str, str, str, Any]]] = {
    "name": ("name", "TEXT", 'name for people, for example "Green Bank"', str),
    "locale-name": ("localeName", "TEXT", "name in the language of the country", str),
    "type": ("dfspType", "TEXT", "type of institution, for example bank", str),
    "info": ("additionalInfo", "TEXT", "more information", str),
    "kinds": ("kinds", "LIST", "kinds that it can register, for example MSISDN,CLABE", parse_list),
    "currencies": ("currencies", "LIST", "currencies that it can register, for example MXN,USD", parse_list),
    "country": (
        "defaultCountry",
        "CC",
        "country of phone numbers without country code in its files and commands, for example MX",
        parse_country,
    ),
    "use-cases": ("useCases", "LIST", "use cases that it takes part in, for example p2p,merchant", parse_list),
}
_CLEARABLE: Final = (*_FIELDS, "contact")
_CONTACT: Final = ("name", "email", "phone")
_TWO_PERSONS: Final = (
    "a second person (role dfsp-checker, or an operator) must approve each file of this FSP, and each change of one"
    " alias; changes through the hub need no approval"
)
_HUB_CHANGES: Final = "off: the hub cannot add, change or remove aliases of this FSP (lookups go on)"


def add(commands: Any) -> None:
    fsps = Verbs(commands, "fsp", "create, change, suspend, close or list FSPs (banks, wallets)")

    listed = fsps.add("list", _list, "list the FSPs")
    listed.add_argument(
        "--status", choices=("provisional", "active", "suspended", "closed"), help="only FSPs with this status"
    )
    listed.add_argument("--use-case", metavar="TEXT", help="only FSPs that take part in it, for example p2p")
    add_limit(listed)

    _add_id(fsps.add("show", _show, "show one FSP"))

    impact = fsps.add(
        "impact", _show_impact, "show what a suspension of an FSP would stop: aliases, routes, open files, keys"
    )
    _add_id(impact)

    create = fsps.add(
        "create", _create, "create an FSP; it is active at once",
        "Without --kinds and --currencies the FSP can register every kind and every currency.",
    )  # fmt: skip
    _add_id(create)
    _add_fields(create)
    create.add_argument("--two-persons", action="store_true", help=_TWO_PERSONS)
    create.add_argument("--hub-changes", choices=("on", "off"), help=f"{_HUB_CHANGES}; default: on")

    update = fsps.add("update", _update, "change an FSP; options that you leave out change nothing")
    _add_id(update)
    _add_fields(update)
    update.add_argument("--two-persons", action=argparse.BooleanOptionalAction, help=_TWO_PERSONS)
    update.add_argument("--hub-changes", choices=("on", "off"), help=_HUB_CHANGES)
    update.add_argument(
        "--clear", type=parse_list, default=[], metavar="LIST",
        help=f"remove these values, separated by commas: {', '.join(_CLEARABLE)}",
    )  # fmt: skip
    add_if_match(update)

    for name, work, text in (
        ("activate", _activate, "confirm a provisional FSP, or end a suspension"),
        ("suspend", _suspend, "suspend an FSP: lookups do not find its aliases until it is active again"),
        ("close", _close, "close an FSP: lookups do not find its aliases, and its keys stop working"),
    ):
        status = fsps.add(name, work, text)
        _add_id(status)
        status.add_argument("--reason", required=True, metavar="TEXT", help=REASON)
        add_if_match(status)

    logo = fsps.add("logo", _change_or_download_logo, "set, download or remove the logo of an FSP")
    _add_id(logo)
    how = logo.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="set this image: PNG, JPEG or GIF of at most 16 KiB"
    )
    how.add_argument("--out", type=Path, metavar="FILE", help="download the logo to this file; - is stdout")
    how.add_argument("--remove", action="store_true", help="remove the logo")

    fsp_endpoints.add(fsps)


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fsp_id", metavar="FSP", help="id of the FSP, for example greenbank")


def _add_fields(parser: argparse.ArgumentParser) -> None:
    for option, (_, metavar, text, kind) in _FIELDS.items():
        parser.add_argument(f"--{option}", type=kind, metavar=metavar, help=text)
    for part in _CONTACT:
        parser.add_argument(f"--contact-{part}", metavar="TEXT", help=f"{part} of the contact person")


def _list(client: Client, arguments: Arguments) -> None:
    query = {"status": arguments.status, "useCase": arguments.use_case}
    pages = client.fetch_pages("/fsps", query=query, limit=arguments.limit)
    show_pages(pages, COLUMNS, as_json=arguments.json)


def _show(client: Client, arguments: Arguments) -> None:
    _print_reply(client.call("GET", "/fsps/{fsp_id}", fsp_id=arguments.fsp_id), arguments)


def _show_impact(client: Client, arguments: Arguments) -> None:
    reply = client.call("GET", "/fsps/{fsp_id}/impact", fsp_id=arguments.fsp_id)
    show(reply.body, as_json=arguments.json)


def _create(client: Client, arguments: Arguments) -> None:
    body = {"fspId": arguments.fsp_id, **_make_body(arguments)}
    _print_reply(client.call("POST", "/fsps", body=body), arguments)


def _update(client: Client, arguments: Arguments) -> None:
    body = _make_body(arguments)
    for name in arguments.clear:
        if name not in _CLEARABLE:
            raise Misused(f"--clear: {name!r} cannot be cleared. Choose from: {', '.join(_CLEARABLE)}")
        body[_FIELDS[name][0] if name in _FIELDS else name] = [] if name == "use-cases" else None
    if not body:
        raise Misused("nothing to change. Add an option, for example --name; `oracle fsp update --help` lists them")
    changed = client.call("PATCH", "/fsps/{fsp_id}", fsp_id=arguments.fsp_id, body=body, if_match=arguments.if_match)
    _print_reply(changed, arguments)


def _make_body(arguments: Arguments) -> dict[str, Any]:
    """Collect the members that were typed.  The parts of a contact are set together: a contact is one value."""
    values = {member: getattr(arguments, option.replace("-", "_")) for option, (member, *_) in _FIELDS.items()}
    parts = {part: getattr(arguments, f"contact_{part}") for part in _CONTACT}
    contact = {part: value for part, value in parts.items() if value is not None}
    values |= {"contact": contact or None, "twoPersons": arguments.two_persons,
               "hubChanges": arguments.hub_changes}  # fmt: skip
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
    _print_reply(changed, arguments)


def _change_or_download_logo(client: Client, arguments: Arguments) -> None:
    fsp_id = arguments.fsp_id
    if arguments.out is not None:
        image = client.call("GET", "/fsps/{fsp_id}/logo", fsp_id=fsp_id).raw
        if str(arguments.out) == "-":
            sys.stdout.buffer.write(image)
        else:
            with open_output(arguments.out) as file:
                file.write(image)
            print_note(f"{format_count(len(image), 'byte')} written to {arguments.out}")
    elif arguments.remove:
        _print_reply(client.call("DELETE", "/fsps/{fsp_id}/logo", fsp_id=fsp_id), arguments)
    else:
        from oracle.commands.client import Upload  # noqa: PLC0415 - imports as in cli

        image = arguments.file.read_bytes()
        upload = Upload(lambda: iter([image]), "application/octet-stream", len(image))
        _print_reply(client.call("PUT", "/fsps/{fsp_id}/logo", fsp_id=fsp_id, upload=upload), arguments)


def _print_reply(reply: Reply, arguments: Arguments) -> None:
    show(reply.body, as_json=arguments.json, version=reply.etag)
    fsp = reply.body
    if fsp["twoPersons"] and fsp["hubChanges"] == "on" and not arguments.json:
        print_note(
            "Changes through the hub need no second person, because the hub must get its answer at once."
            f" To refuse them: oracle fsp update {fsp['fspId']} --hub-changes off"
        )
