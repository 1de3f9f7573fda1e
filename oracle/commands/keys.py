"""`oracle key …`: credentials, and the key that these commands call with.

A key is shown by the call that makes it and never again.  `--out FILE` writes it for its owner alone, unshown.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.output import note, placed, show, show_pages
from oracle.commands.verbs import (
    Arguments,
    Command,
    CommandError,
    Misused,
    Verbs,
    add_if_match,
    add_limit,
    checked_key,
    instant,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply
    from oracle.settings import Settings

ROLES: Final = ("operator", "dfsp-maker", "dfsp-checker", "auditor", "reader")
COLUMNS: Final = ("credentialId", "role", "fspId", "label", "expiresAt", "revokedAt", "lastUsedAt")
REFUSED: Final = ("at", "status", "reason", "method", "route", "credentialId", "address")
KEY_BYTES_MAX: Final = 1_024

Keep = Callable[[str], object]


def add(commands: Any, command: Command) -> None:
    keys = Verbs(commands, command, "key", "credentials: issue, rotate, revoke; the key to call with")

    listed = keys.add("list", _list, "list the credentials")
    listed.add_argument("--fsp", metavar="FSP", help="only those bound to it")
    listed.add_argument("--role", choices=ROLES, help="only these")
    add_limit(listed)

    _add_id(keys.add("show", _show, "show a credential"))

    issue = keys.add("issue", _issue, "issue a credential and print its key, this once")
    issue.add_argument("--role", choices=ROLES, required=True)
    issue.add_argument("--label", required=True, metavar="L", help="whose it is, or what for")
    issue.add_argument("--fsp", metavar="FSP", help="the FSP it is bound to: for makers and checkers")
    issue.add_argument("--expires", type=instant, metavar="WHEN", help="2027-01-31, or 90d from now")
    _add_out(issue)

    update = keys.add("update", _update, "change label or expiry")
    _add_id(update)
    update.add_argument("--label", metavar="L")
    update.add_argument("--expires", type=_instant_or_never, metavar="WHEN", help="2027-01-31, 90d, or never")
    add_if_match(update)

    rotate = keys.add("rotate", _rotate, "print a second key; the first stays valid for a while")
    rotate.add_argument("credential_id", nargs="?", metavar="ID", help="left out: the key that is called with")
    rotate.add_argument("--grace-s", type=int, metavar="S", help="how long the present one stays valid (a day)")
    add_if_match(rotate)
    _add_out(rotate)

    revoke = keys.add("revoke", _revoke, "end a credential now, in every process")
    _add_id(revoke)
    revoke.add_argument("--reason", required=True, metavar="WHY", help="stands in the history")
    add_if_match(revoke)

    add_limit(keys.add("refused", _refused, "calls that were refused, the newest first"))
    keys.add("me", _me, "whose key it is that these commands call with")

    keys.add_local("save", _save, "read a key from stdin and keep it, to call with")
    bootstrap = keys.add_local("bootstrap", _bootstrap, "make the first operator's key, in the database itself")
    _add_out(bootstrap)


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("credential_id", metavar="ID", help="of the credential; it stands in its key, after aok_")


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the key there and do not show it")


def _instant_or_never(text: str) -> str:
    return text if text == "never" else instant(text)


def _list(client: Client, arguments: Arguments) -> None:
    query = {"fspId": arguments.fsp, "role": arguments.role}
    show_pages(client.pages("/credentials", query=query, limit=arguments.limit), COLUMNS, as_json=arguments.json)


def _show(client: Client, arguments: Arguments) -> None:
    _shown(client.call("GET", "/credentials/{credential_id}", credential_id=arguments.credential_id), arguments)


def _issue(client: Client, arguments: Arguments) -> None:
    body = {"role": arguments.role, "label": arguments.label}
    body |= {"fspId": arguments.fsp} if arguments.fsp else {}
    body |= {"expiresAt": arguments.expires} if arguments.expires else {}
    with _place_for(arguments.out) as keep:
        _issued(client.call("POST", "/credentials", body=body), arguments, keep)


def _update(client: Client, arguments: Arguments) -> None:
    body: dict[str, Any] = {} if arguments.label is None else {"label": arguments.label}
    if arguments.expires is not None:
        body["expiresAt"] = None if arguments.expires == "never" else arguments.expires
    if not body:
        raise Misused("name what to change")
    changed = client.call(
        "PATCH", "/credentials/{credential_id}", credential_id=arguments.credential_id, body=body,
        if_match=arguments.if_match,
    )  # fmt: skip
    _shown(changed, arguments)


def _rotate(client: Client, arguments: Arguments) -> None:
    body = {} if arguments.grace_s is None else {"graceS": arguments.grace_s}
    with _place_for(arguments.out) as keep:
        if arguments.credential_id is None:
            made = client.call("POST", "/me/rotate", body=body)
        else:
            made = client.call(
                "POST", "/credentials/{credential_id}/rotate", credential_id=arguments.credential_id, body=body,
                if_match=arguments.if_match,
            )  # fmt: skip
        _issued(made, arguments, keep)


def _revoke(client: Client, arguments: Arguments) -> None:
    revoked = client.call(
        "POST", "/credentials/{credential_id}/revoke", credential_id=arguments.credential_id,
        body={"reason": arguments.reason}, if_match=arguments.if_match,
    )  # fmt: skip
    _shown(revoked, arguments)


def _refused(client: Client, arguments: Arguments) -> None:
    show_pages(client.pages("/refusals", limit=arguments.limit), REFUSED, as_json=arguments.json)


def _me(client: Client, arguments: Arguments) -> None:
    show(client.me, as_json=arguments.json)


def _shown(reply: Reply, arguments: Arguments) -> None:
    show(reply.body, as_json=arguments.json, version=reply.etag)


def _issued(reply: Reply, arguments: Arguments, keep: Keep | None) -> None:
    key: str = reply.body["key"]
    if keep is not None:
        keep(key)
        show(reply.body["credential"], as_json=arguments.json, version=reply.etag)
    elif arguments.json:
        show(reply.body, as_json=True)
    else:
        _print_once(key)


def _print_once(key: str) -> None:
    """Alone on stdout, so that a script can take it from there."""
    print(key)  # noqa: T201 - the command's answer
    note("This key is shown this once and stored nowhere.")


# Keys on this machine ---------------------------------------------------------------------------------------------


def _save(arguments: Arguments) -> None:
    from oracle.commands.database import loaded

    path = loaded(arguments).settings.key_path
    key = checked_key(_typed(), "stdin")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _place_for(path) as keep:
        assert keep is not None  # noqa: S101 - for the type
        keep(key)
    note(f"kept in {path}")


def _typed() -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass("key: ")
    return sys.stdin.read(KEY_BYTES_MAX)


def _bootstrap(arguments: Arguments) -> None:
    import asyncio

    from oracle.commands.database import loaded

    with _place_for(arguments.out) as keep:
        key = asyncio.run(_first_key(loaded(arguments).settings))
        if key is None:
            raise CommandError("there is an operator already: let that one issue a key")
        (keep or _print_once)(key)


async def _first_key(settings: Settings) -> str | None:
    from oracle.commands.database import database
    from oracle.run.bootstrap import bootstrap
    from oracle.run.supervisor import database_named

    async with database(settings, migrated=True) as url:
        with database_named(url):
            return await bootstrap(url)


@contextmanager
def _place_for(path: Path | None) -> Iterator[Keep | None]:
    """How the key is kept there; None where it is to be shown."""
    if path is None:
        yield None
        return
    with placed(path) as file:
        yield lambda key: file.write(f"{key}\n".encode())
