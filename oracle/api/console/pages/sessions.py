"""Lists the sessions of all people in the console, and ends them.  A person's own sessions are in `account`, too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.languages import Lazy, _, lazy, ngettext
from oracle.api.naming import ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Errors, Visit

_ENDABLE: Final = ("endSession", "getSession")
_ALL_ENDABLE: Final = ("endSessions", "listSessions")
LABELS: Final[Mapping[str, Lazy]] = {
    "by": lazy("Person"),
    "role": lazy("Role"),
    "fspId": lazy("FSP"),
    "reason": lazy("Reason"),
}


@page("sessions", "GET", "/sessions", lazy("Sessions"), needs=("listSessions",), under="keys")
async def show_sessions(visit: Visit) -> Answer:
    filters = {"by": visit.query.text("by"), "role": visit.query["role"], "fspId": visit.query.text("fsp")}
    asked = {**filters, "cursor": visit.query["cursor"], "limit": PAGE_ITEMS}
    reply, own = await asyncio.gather(visit.ask("listSessions", query=asked), _find_own(visit))
    found = reply.listing
    return visit.show(
        "sessions/list.html", block="list", sessions=found["items"],
        next=found["next"], by=filters["by"], role=filters["role"], fsp=filters["fspId"], labels=LABELS,
        roles=list(ROLES.items()), errors=visit.errors_of(reply), own=own,
    )  # fmt: skip


@page("end_session_of", "GET", "/sessions/{session_id}/end", lazy("End a session"), needs=_ENDABLE, under="keys")
async def show_end(visit: Visit, session_id: str) -> Answer:
    session = await visit.get("getSession", path={"session_id": session_id})
    return await _show_end(visit, session)


@page("do_end_session_of", "POST", "/sessions/{session_id}/end", lazy("End a session"), needs=_ENDABLE, under="keys")
async def end(visit: Visit, session_id: str) -> Answer:
    path = {"session_id": session_id}
    body = {"reason": visit.form.text("reason")}
    reply = await visit.ask("endSession", path=path, body=body, once=True)
    if reply.ok:
        return await _lead_on(visit, reply.json["ended"])
    session = await visit.ask("getSession", path=path)
    if session.problem is not None:
        return visit.show_problem(session.problem)
    return await _show_end(visit, session.json, visit.errors_of(reply))


async def _show_end(visit: Visit, session: Any, errors: Errors | None = None) -> Answer:
    return visit.show(
        "sessions/end.html", session=session, errors=errors, labels=LABELS,
        reason=visit.form["reason"], is_own=session["sessionId"] == await _find_own(visit),
    )  # fmt: skip


@page("end_sessions_of", "GET", "/sessions/end", lazy("End all sessions"), needs=_ALL_ENDABLE, under="keys")
async def show_end_all(visit: Visit) -> Answer:
    """`?actor=`: the id of a key, or the name of a person in history."""
    return await _show_end_all(visit, visit.query.text("actor"))


@page("do_end_sessions_of", "POST", "/sessions/end", lazy("End all sessions"), needs=_ALL_ENDABLE, under="keys")
async def end_all(visit: Visit) -> Answer:
    actor = visit.form.text("actor")
    body = {"actor": actor, "reason": visit.form.text("reason")}
    reply = await visit.ask("endSessions", body=body, once=True)
    if reply.ok:
        return await _lead_on(visit, reply.json["ended"])
    return await _show_end_all(visit, actor, visit.errors_of(reply))


async def _show_end_all(visit: Visit, actor: str, errors: Errors | None = None) -> Answer:
    if not actor:  # the list would have the sessions of all people
        return visit.lead("sessions")
    found = await visit.get("listSessions", query={"by": actor, "limit": PAGE_ITEMS})
    own = await _find_own(visit)
    return visit.show(
        "sessions/end_all.html", sessions=found["items"],
        next=found["next"], actor=actor, errors=errors, labels=LABELS, reason=visit.form["reason"],
        has_own=any(one["sessionId"] == own for one in found["items"]), own=own,
    )  # fmt: skip


async def _find_own(visit: Visit) -> str:
    """Find the id of the session that this visit belongs to."""
    assert visit.session is not None  # noqa: S101 - these pages are not open
    sessions = await visit.console.sessions.list(visit.caller.actor, visit.session.digest)
    return next((one["session_id"] for one in sessions if one["is_this"]), "")


async def _lead_on(visit: Visit, count: int) -> Answer:
    message = ngettext("{n} session has ended.", "{n} sessions have ended.", count).format(n=count)
    if not count:
        message = _("No session was open any more.")
    if await visit.is_still_valid():
        return visit.lead("sessions", message)
    visit.end_session()  # it was the person's own
    return visit.lead("sign_in", message)
