"""`oracle key …`: the credentials of people and programs, and the key that these commands call with.

The call that creates a key shows it, and nothing shows it again.  `--out FILE` writes it to a file that only its owner
can read, without showing it.  `save` keeps it for the address in use: see kept_keys.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import CommandError, Misused, NotFound, Refused
from oracle.commands.output import open_output, print_note, shorten_time, show, show_pages
from oracle.commands.verbs import (
    REASON,
    Arguments,
    Verbs,
    add_if_match,
    add_limit,
    name_user,
    parse_number,
    parse_time,
    parse_time_or_never,
    require_consent,
)
from oracle.names import fold, name_person

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply
    from oracle.settings import Settings

ROLES: Final = ("operator", "dfsp-maker", "dfsp-checker", "auditor", "reader")
ROLES_HELP: Final = (
    "operator: runs the oracle, creates FSPs and keys; dfsp-maker: registers aliases and uploads files for one FSP;"
    " dfsp-checker: approves the files of one FSP; auditor: reads history and proofs; reader: reads"
)
PERSON_HELP: Final = (
    "whose key it is: ALIAS names the identity provider in the settings of the service, SUB is the person's `sub`"
    " there. A person who uploads with a key cannot then sign in and approve, and the other way round"
)
COLUMNS: Final = ("credentialId", "role", "fspId", "label", "expiresAt", "revokedAt", "lastUsedAt")
REFUSED: Final = ("at", "status", "reason", "method", "route", "credential", "address")
LISTED_MAX: Final = 10  # keys in one refusal
GRACE_S: Final = 86_400
KEPT: Final = ("url", "credentialId", "file")

Keep = Callable[[str], object]


def add(commands: Any) -> None:
    keys = Verbs(commands, "key", "issue, rotate, revoke or list keys; save the key that you call with")

    listed = keys.add("list", _list, "list the credentials (never their keys)")
    listed.add_argument("--fsp", metavar="FSP", help="only credentials of this FSP")
    listed.add_argument("--role", choices=ROLES, help="only credentials with this role")
    add_limit(listed)

    _add_id(keys.add("show", _show, "show one credential (never its key)"))

    issue = keys.add("issue", _issue, "create a credential and show its key, once")
    issue.add_argument("--role", choices=ROLES, required=True, help=ROLES_HELP)
    issue.add_argument("--label", required=True, metavar="TEXT", help="who or what uses the key")
    issue.add_argument("--fsp", metavar="FSP", help="the FSP that the key can act for; makers and checkers need it")
    issue.add_argument(
        "--expires", type=parse_time, metavar="TIME", help="2027-01-31, or 90d for 90 days from now (default: never)"
    )
    issue.add_argument("--person", metavar="oidc:ALIAS:SUB", help=PERSON_HELP)
    _add_out(issue)

    update = keys.add("update", _update, "change the label, the expiry or the person of a credential")
    _add_id(update)
    update.add_argument("--label", metavar="TEXT", help="who or what uses the key")
    update.add_argument(
        "--expires", type=parse_time_or_never, metavar="TIME", help="2027-01-31, 90d for 90 days from now, or never"
    )
    update.add_argument("--person", metavar="oidc:ALIAS:SUB", help=f"{PERSON_HELP}; none: nobody knows")
    add_if_match(update)

    rotate = keys.add("rotate", _rotate, "create a second key; the old key works for a while longer")
    rotate.add_argument(
        "credential_id", nargs="?", metavar="ID", help="id or label of the credential (default: your own)"
    )
    rotate.add_argument(
        "--grace-s",
        type=parse_number,
        default=GRACE_S,
        metavar="SECONDS",
        help=f"how long the old key still works (default: {GRACE_S}, a day)",
    )
    add_if_match(rotate)
    _add_out(rotate)

    revoke = keys.add("revoke", _revoke, "revoke a credential: its keys stop working at once")
    _add_id(revoke)
    revoke.add_argument("--reason", required=True, metavar="TEXT", help=REASON)
    add_if_match(revoke)

    add_limit(keys.add("refused", _list_refused, "list calls that were refused, newest first"))
    keys.add("me", _show_me, "show whose key you call with, where it was found, and the address that it is sent to")
    _add_local(keys)


def _add_local(keys: Verbs) -> None:
    """Declare the verbs that do not call the API: for keys kept on this machine, and for the first key."""
    save_details = (
        "Type or paste the key; at a terminal it is not shown. Without a terminal it is read from stdin. It is kept for"
        " one address, and never sent to another. ORACLE_ADMIN_URL sets the address (default: http://127.0.0.1:3001)."
    )
    save = keys.add_local("save", _save, "keep your key on this machine, so that commands find it", save_details)
    save.add_argument("--yes", action="store_true", help="do not ask, even if another key is kept for this address")
    kept = keys.add_local("kept", _list_kept, "list the addresses for which a key is kept on this machine")
    kept.add_argument("--json", action="store_true", help="print JSON, one object a line")
    forget_details = "A copy of the key still works. To end the key, use `oracle key revoke`."
    forget = keys.add_local("forget", _forget, "delete the key that is kept for an address", forget_details)
    forget.add_argument("url", nargs="?", metavar="URL", help="the address, as `oracle key kept` shows it (default: the"
                        " address in use)")  # fmt: skip
    bootstrap_details = (
        "It works only while no operator exists, or with --force. It needs the database: ORACLE_DATABASE_URL, or the"
        " data directory of `oracle serve` (ORACLE_DATA_DIR). The key expires in a week."
    )
    bootstrap = keys.add_local("bootstrap", _bootstrap, "create the key of the first operator", bootstrap_details)
    bootstrap.add_argument(
        "--force",
        action="store_true",
        help="create a key even if an operator exists, whose key is lost; history records it",
    )
    _add_out(bootstrap)


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "credential_id", metavar="ID",
        help="id of the credential: the part of its key between aok_ and the next _; or its label, if no other key has"
        " that label",
    )  # fmt: skip


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the key to this file and do not show it")


def _list(client: Client, arguments: Arguments) -> None:
    query = {"fspId": arguments.fsp, "role": arguments.role}
    show_pages(client.fetch_pages("/credentials", query=query, limit=arguments.limit), COLUMNS, as_json=arguments.json)


def _show(client: Client, arguments: Arguments) -> None:
    _print_reply(
        client.call("GET", "/credentials/{credential_id}", credential_id=_find_id(client, arguments)), arguments
    )


def _issue(client: Client, arguments: Arguments) -> None:
    body = {"role": arguments.role, "label": arguments.label}
    body |= {"fspId": arguments.fsp} if arguments.fsp else {}
    body |= {"expiresAt": arguments.expires} if arguments.expires else {}
    body |= {"person": arguments.person} if arguments.person else {}
    with _open_keep(arguments.out) as keep:
        _hand_over(client.call("POST", "/credentials", body=body), arguments, keep)


def _update(client: Client, arguments: Arguments) -> None:
    body: dict[str, Any] = {} if arguments.label is None else {"label": arguments.label}
    if arguments.expires is not None:
        body["expiresAt"] = None if arguments.expires == "never" else arguments.expires
    if arguments.person is not None:
        body["person"] = None if arguments.person == "none" else arguments.person
    if not body:
        raise Misused("nothing to change. Add --label, --expires or --person")
    changed = client.call(
        "PATCH", "/credentials/{credential_id}", credential_id=_find_id(client, arguments), body=body,
        if_match=arguments.if_match,
    )  # fmt: skip
    _print_reply(changed, arguments)


def _rotate(client: Client, arguments: Arguments) -> None:
    body = {"graceS": arguments.grace_s}
    named = None if arguments.credential_id is None else _find_id(client, arguments)
    with _open_keep(arguments.out) as keep:
        if named is None:
            made = client.call("POST", "/me/rotate", body=body)
        else:
            made = client.call(
                "POST", "/credentials/{credential_id}/rotate", credential_id=named, body=body,
                if_match=arguments.if_match,
            )  # fmt: skip
        _hand_over(made, arguments, keep)
    _explain_grace(made.body["credential"], arguments)


def _explain_grace(credential: dict[str, Any], arguments: Arguments) -> None:
    """Say until when the old key works: a key never works longer than its credential."""
    if not arguments.grace_s:
        print_note("The old key does not work any more.")
        return
    ends = datetime.now(UTC) + timedelta(seconds=arguments.grace_s)
    if credential["expiresAt"] is not None:
        ends = min(ends, datetime.fromisoformat(credential["expiresAt"]))
    print_note(
        f"The old key works until {shorten_time(ends.isoformat())}. Before then, give the new key to all who use it."
    )


def _revoke(client: Client, arguments: Arguments) -> None:
    revoked = client.call(
        "POST", "/credentials/{credential_id}/revoke", credential_id=_find_id(client, arguments),
        body={"reason": arguments.reason}, if_match=arguments.if_match,
    )  # fmt: skip
    _print_reply(revoked, arguments)


def _list_refused(client: Client, arguments: Arguments) -> None:
    show_pages(client.fetch_pages("/refusals", limit=arguments.limit), REFUSED, as_json=arguments.json)


def _show_me(client: Client, arguments: Arguments) -> None:
    show({**client.me, "url": client.url, "keyFrom": client.key_source}, as_json=arguments.json)


def _find_id(client: Client, arguments: Arguments) -> str:
    """Return the id that was typed, or that of the one key with this label or name.  Raises NotFound, Misused."""
    typed: str = arguments.credential_id
    if re.fullmatch("[a-z2-7]{12}", typed):
        return typed
    wanted = fold(typed)
    known = [each for page in client.fetch_pages("/credentials") for each in page]
    found = [each for each in known if wanted in (fold(each["label"]), fold(_name(each)))]
    usable = [each for each in found if each["revokedAt"] is None] or found
    if len(usable) == 1:
        return str(usable[0]["credentialId"])
    if usable:
        raise Misused(f"{len(usable)} keys have the label {typed}", f"Write the id of one: {_list_names(usable)}")
    near = [each for each in known if each["revokedAt"] is None and wanted in fold(_name(each))]
    hint = f"Similar: {_list_names(near)}" if near else "`oracle key list` shows the ids and labels"
    raise NotFound(f"no key has the id or the label {typed}", hint)


def _list_names(credentials: list[dict[str, Any]]) -> str:
    names = [f"{each['credentialId']} = {_name(each)}" for each in credentials[:LISTED_MAX]]
    return "; ".join([*names, *(["and more"] if len(credentials) > LISTED_MAX else [])])


def _name(credential: dict[str, Any]) -> str:
    return name_person(credential["label"], credential["role"], credential["fspId"])


def _print_reply(reply: Reply, arguments: Arguments) -> None:
    show(reply.body, as_json=arguments.json, version=reply.etag)


def _hand_over(reply: Reply, arguments: Arguments, keep: Keep | None) -> None:
    key: str = reply.body["key"]
    if keep is not None:
        keep(key)
        show(reply.body["credential"], as_json=arguments.json, version=reply.etag)
    elif arguments.json:
        show(reply.body, as_json=True)
    else:
        _print_once(key)


def _print_once(key: str) -> None:
    """The key is alone on stdout, so that a script can read it from there."""
    print(key)  # noqa: T201 - the command's answer
    print_note("Save this key now: it is not stored and cannot be shown again.")


# Keys on this machine ---------------------------------------------------------------------------------------------


def _save(arguments: Arguments) -> None:
    from oracle.commands import kept_keys
    from oracle.commands.database import load_settings

    settings = load_settings(arguments).settings
    url = kept_keys.normalise_url(settings.admin_address)
    path = kept_keys.find_path(url)
    typed = _read_typed(f"Paste your key for {url} (it is not shown): ")
    if kept_keys.is_token(typed.strip()):
        raise CommandError(
            "stdin: this is a token of an identity provider, and only keys are kept: a token expires soon",
            "Put it into a file that only you can read, and set ORACLE_KEY_FILE to it",
        )
    key = kept_keys.parse_key(typed, "stdin")
    kept_keys.make_directory()
    if kept_keys.holds_other(path, key):
        require_consent(f"Another key is kept for {url}.", "Replace it?", "no key was saved", yes=arguments.yes)
    kept_keys.write_kept(path, key)
    print_note(f"key kept for {url}, in {path}")
    for name, value in (("ORACLE_KEY", settings.key), ("ORACLE_KEY_FILE", settings.key_file)):
        if value is not None:
            print_note(f"{name} is set: commands use that key, and not the one that you saved. To use it: unset {name}")


def _read_typed(prompt: str) -> str:
    from oracle.commands.kept_keys import SECRET_BYTES_MAX

    if sys.stdin.isatty():
        from getpass import getpass

        return getpass(prompt)
    return sys.stdin.read(SECRET_BYTES_MAX)


def _list_kept(arguments: Arguments) -> None:
    from oracle.commands import kept_keys

    kept = list(kept_keys.list_kept())
    items = [{"url": each.url, "credentialId": _read_id(each.path), "file": str(each.path)} for each in kept]
    if items:
        show_pages([items], KEPT, as_json=arguments.json)
    else:
        print_note(f"no key is kept in {kept_keys.find_directory()}. To keep one: oracle key save")


def _read_id(path: Path) -> str | None:
    """Return the id in the key; None for a file that commands refuse, after a note that says why."""
    from oracle.commands import kept_keys

    try:
        return kept_keys.read_id(kept_keys.read_kept(path))
    except CommandError as exc:
        print_note(str(exc))
    except OSError as exc:
        print_note(f"{path}: {exc.strerror}")
    return None


def _forget(arguments: Arguments) -> None:
    from oracle.commands import kept_keys
    from oracle.commands.database import load_settings

    url = kept_keys.normalise_url(arguments.url or load_settings(arguments).settings.admin_address)
    path = kept_keys.find_path(url)
    try:
        path.unlink()
    except FileNotFoundError:
        raise NotFound(f"no key is kept for {url}", "To see the addresses: oracle key kept") from None
    except OSError as exc:
        kept_keys.refuse_place(path.parent, exc)
    print_note(f"the key for {url} is deleted from this machine. It still works elsewhere until it is revoked")


def _bootstrap(arguments: Arguments) -> None:
    import asyncio

    from oracle.commands.database import load_settings

    with _open_keep(arguments.out) as keep:
        key = asyncio.run(_create_first_key(load_settings(arguments).settings, force=arguments.force))
        if key is None:
            raise Refused(
                "an operator exists already: ask an operator for a key (oracle key issue)."
                " If no operator has a key any more, add --force"
            )
        (keep or _print_once)(key)
    if arguments.force:
        print_note(
            "History records this. Revoke the lost keys now: oracle key list, oracle key revoke ID --reason lost"
        )


async def _create_first_key(settings: Settings, *, force: bool) -> str | None:
    from oracle.commands.database import open_database
    from oracle.run.bootstrap import bootstrap

    async with open_database(settings, migrate_own=True) as url:
        return await bootstrap(url, forced_by=name_user() if force else None)


@contextmanager
def _open_keep(path: Path | None, *, replace: bool = False) -> Iterator[Keep | None]:
    """Yield the function that writes the key to `path`; None without a path: then the key is shown.

    Raises CommandError when there is such a file, unless it can be replaced: the key in it can be the only copy.
    """
    if path is None:
        yield None
        return
    try:
        with open_output(path, replace=replace) as file:
            yield lambda key: file.write(f"{key}\n".encode())
    except FileExistsError as exc:
        raise CommandError(f"{path} exists, and can hold a key: name another file, or move this one away") from exc
