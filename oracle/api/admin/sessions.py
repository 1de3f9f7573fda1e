"""Sessions of people who signed in to the console: an operator lists and ends them.

End.     The next request with the session is refused in every process, and its open answers end within two seconds, as
         with a revoked key.  Calls that began before go on.  The end is an event in the history.
Again.   The person can sign in again.  To keep them out, revoke the key, or remove the role at the identity provider.
Secret.  Neither the token of a session nor its hash leaves the database.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta

from oracle.api.admin.access import OPERATOR, allow
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.people import ACTOR_MAX, NOBODY, ByQuery, fetch_people, find_people
from oracle.api.admin.problems import Refusal
from oracle.api.admin.values import LINE_PATTERN, FspIdQuery, Reason
from oracle.identity.identity import Role, Way
from oracle.names import find_way
from oracle.store.postgres import Transaction

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class _Position(NamedTuple):
    started_at: datetime
    session_id: str


class ConsoleSession(Resource):
    session_id: str
    actor: Annotated[str, Meta(description="How history names the person: the id of their key, or oidc:{alias}:{sub}")]
    actor_name: Annotated[str | None, Meta(description="For people, for example Ana (maker of bluebank)")]
    way: Annotated[Way, Meta(description="How they signed in")]
    issuer: Annotated[str | None, Meta(description="The alias of their identity provider; null: they have a key")]
    person: Annotated[str | None, Meta(description="Who they are, whichever way they came in; null: nobody knows")]
    role: Role
    fsp_ids: Annotated[list[str] | None, Meta(description="The FSPs that they can act for; null: all")]
    browser: Annotated[str, Meta(description="As the browser names itself")]
    address: str
    started_at: datetime
    last_used_at: Annotated[datetime, Meta(description="To a minute")]
    ends_at: Annotated[datetime, Meta(description="At the latest; earlier if nobody uses it")]


class ConsoleSessionPage(Resource):
    items: list[ConsoleSession]
    next: str | None


class SessionEnd(Body):
    reason: Reason


class SessionsEnd(Body):
    actor: Annotated[
        str,
        Meta(
            min_length=1, max_length=ACTOR_MAX, pattern=LINE_PATTERN,
            description="The id of a key, or oidc:{alias}:{sub}. Sessions of other keys of the same person end, too",
        ),
    ]  # fmt: skip
    reason: Reason


class EndedSessions(Resource):
    ended: Annotated[int, Meta(description="How many sessions this call ended; 0: they had ended before")]


def handlers() -> list[HTTPRouteHandler]:
    return [list_sessions, read_session, end_session, end_sessions]


@operation(
    "listSessions", "GET", "/sessions", allow(Role.OPERATOR, narrows=True),
    "List the open sessions of the console, the newest first", answers=ConsoleSessionPage,
)  # fmt: skip
async def list_sessions(
    call: NamedDependency[Call],
    by: ByQuery = None,
    fsp_id: FspIdQuery = None,
    role: FromQuery[Role | None] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    cursors = Cursors(call.caller, "sessions", by, fsp_id, role)
    position = cursors.open(cursor, _Position)
    people = await find_people(call, by)
    rows = await call.postgres.rows(
        "open_sessions", people, fsp_id, role, *(position or (None, None)), limit + 1, call.list_fsps(), None
    )
    items = await _make_sessions(call, rows[:limit])
    following = cursors.close(_Position(items[-1].started_at, items[-1].session_id)) if len(rows) > limit else None
    return call.read_page(ConsoleSessionPage(items=items, next=following))


@operation(
    "getSession", "GET", "/sessions/{session_id:str}", OPERATOR, "Read an open session of the console",
    answers=ConsoleSession, unversioned=True,
)  # fmt: skip
async def read_session(call: NamedDependency[Call], session_id: FromPath[str]) -> Response[bytes]:
    named = _read_id(session_id)
    rows = await call.postgres.rows("open_sessions", None, None, None, None, None, 1, call.list_fsps(), named)
    if not rows:
        raise _no_such_session()
    (session,) = await _make_sessions(call, rows)
    return call.read(session)


@operation(
    "endSession", "POST", "/sessions/{session_id:str}/end", OPERATOR, "End a session of the console now",
    answers=EndedSessions, unversioned=True,
)  # fmt: skip
async def end_session(
    call: NamedDependency[Call], session_id: FromPath[str], data: JSONBody[SessionEnd]
) -> Response[bytes]:
    named = _read_id(session_id)

    async def work(transaction: Transaction) -> Answer:
        return answer(EndedSessions(ended=await transaction.run("session_end_as_operator", named)))

    return await call.administer(work, reason=data.reason)


@operation(
    "endSessions", "POST", "/sessions/end", OPERATOR, "End all sessions of a person now", answers=EndedSessions,
    unversioned=True,
)  # fmt: skip
async def end_sessions(call: NamedDependency[Call], data: JSONBody[SessionsEnd]) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        keys = await transaction.rows("credential", data.actor)
        names = [data.actor, *(row["person"] for row in keys if row["person"] is not None)]
        return answer(EndedSessions(ended=await transaction.run("sessions_end_as_operator", names)))

    return await call.administer(work, reason=data.reason)


def _read_id(text: str) -> UUID:
    """Raises Refusal."""
    if not _ID.fullmatch(text):
        raise _no_such_session()
    return UUID(text)


def _no_such_session() -> Refusal:
    return Refusal(404, "not_found", "No such session", "It has ended, or its id is wrong: list the sessions")


async def _make_sessions(call: Call, rows: Sequence[Any]) -> list[ConsoleSession]:
    people = await fetch_people(call.postgres.rows, {row["actor"] for row in rows}, call.fsp_ids)
    return [
        ConsoleSession(
            session_id=row["session_id"], actor=row["actor"], actor_name=people.get(row["actor"], NOBODY).name,
            way="key" if row["is_of_key"] else find_way(row["actor"]), issuer=_name_issuer(row), person=row["person"],
            role=row["role"], fsp_ids=None if row["fsp_ids"] is None else sorted(row["fsp_ids"]),
            browser=row["browser"], address=row["address"], started_at=row["started_at"],
            last_used_at=row["seen_at"], ends_at=row["ends_at"],
        )
        for row in rows
    ]  # fmt: skip


def _name_issuer(row: Any) -> str | None:
    return None if row["is_of_key"] else row["actor"].split(":")[1]
