"""`oracle session …`: lists the sessions of the console, and ends them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import Misused
from oracle.commands.keys import ROLES
from oracle.commands.output import print_note, show, show_pages
from oracle.commands.verbs import REASON, Arguments, Verbs, add_by, add_limit

if TYPE_CHECKING:
    from oracle.commands.client import Client

COLUMNS: Final = ("sessionId", "actor", "role", "fspIds", "startedAt", "lastUsedAt", "endsAt", "address")
_AGAIN: Final = (
    "The person can sign in again. To keep them out, revoke the key (oracle key revoke), or take the role away at the"
    " identity provider."
)


def add(commands: Any) -> None:
    sessions = Verbs(commands, "session", "list or end the sessions of people who signed in to the console")

    listed = sessions.add("list", _list, "list the open sessions, the newest first")
    add_by(listed, "only sessions of this person")
    listed.add_argument("--fsp", metavar="FSP", help="only sessions that can act for this FSP, and not for all")
    listed.add_argument("--role", choices=ROLES, help="only sessions with this role")
    add_limit(listed)

    _add_id(sessions.add("show", _show, "show one open session"))

    end = sessions.add("end", _end, "end one session, or with --actor all sessions of a person, at once", _AGAIN)
    _add_id(end, nargs="?")
    end.add_argument(
        "--actor", metavar="ACTOR",
        help="end all sessions of this person: the id of a key, or oidc:ALIAS:SUB, as `show` shows it; also those of"
        " other keys of the same person, if it is known whose keys they are",
    )  # fmt: skip
    end.add_argument("--reason", required=True, metavar="TEXT", help=REASON)


def _add_id(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("session_id", nargs=nargs, metavar="SESSION", help="id of the session, as `list` shows it")


def _list(client: Client, arguments: Arguments) -> None:
    query = {"by": arguments.by, "fspId": arguments.fsp, "role": arguments.role}
    show_pages(client.fetch_pages("/sessions", query=query, limit=arguments.limit), COLUMNS, as_json=arguments.json)


def _show(client: Client, arguments: Arguments) -> None:
    reply = client.call("GET", "/sessions/{session_id}", session_id=arguments.session_id)
    show(reply.body, as_json=arguments.json)


def _end(client: Client, arguments: Arguments) -> None:
    if (arguments.session_id is None) == (arguments.actor is None):
        raise Misused("give either SESSION, or --actor for all sessions of a person")
    body = {"reason": arguments.reason}
    if arguments.actor is None:
        reply = client.call("POST", "/sessions/{session_id}/end", session_id=arguments.session_id, body=body)
    else:
        reply = client.call("POST", "/sessions/end", body={"actor": arguments.actor, **body})
    show(reply.body, as_json=arguments.json)
    if not reply.body["ended"] and not arguments.json:
        print_note("Nothing to end: no open session fits. `oracle session list` shows those that are open.")
