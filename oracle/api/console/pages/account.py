"""What a person decides for themselves: language, time zone, and where they are signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracle.api.admin.problems import Refusal
from oracle.api.console.cookies import LANGUAGE
from oracle.api.console.declarations import page
from oracle.api.console.formats import is_time_zone, list_time_zones, name_time_zones
from oracle.api.console.languages import LANGUAGES, _, language, lazy, ngettext
from oracle.api.console.visits import YEAR_S
from oracle.identity.cookies import write_cookie

if TYPE_CHECKING:
    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Visit


@page("account", "GET", "/account", lazy("My account"), menu=900)
async def show_account(visit: Visit) -> Answer:
    assert visit.session is not None  # noqa: S101 - this page is not open
    sessions = await visit.console.sessions.list(visit.caller.actor, visit.session.digest)
    own = await visit.get("getOwnCredential")
    return visit.show(
        "account/account.html",
        name=own["label"],
        sessions=sessions,
        zones=name_time_zones(list_time_zones()),
        session=visit.session,
    )


@page("set_preferences", "POST", "/account", lazy("My account"), under="account")
async def set_preferences(visit: Visit) -> Answer:
    chosen, zone = visit.form.text("language"), visit.form.text("timeZone")
    if chosen not in ("", *LANGUAGES) or (zone and not is_time_zone(zone)):
        raise Refusal(400, "invalid", "This language or time zone is not known here", "Choose one of the list")
    await visit.console.sessions.set_preferences(visit.caller.actor, chosen or None, zone or None)
    if chosen:
        visit.cookies.append(write_cookie(LANGUAGE, chosen, YEAR_S))
        language.set(chosen)
    return visit.lead("account", _("Your preferences are saved."))


@page("end_session", "POST", "/account/sessions/{session_id}/end", lazy("Sign out there"), under="account")
async def end_session(visit: Visit, session_id: str) -> Answer:
    await visit.console.sessions.end_one(visit.caller.actor, session_id)
    return visit.lead("account", _("That session has ended."))


@page("end_sessions", "POST", "/account/sessions/end", lazy("Sign out everywhere"), under="account")
async def end_sessions(visit: Visit) -> Answer:
    count = await visit.console.sessions.end_all(visit.caller.actor)
    visit.end_session()
    message = ngettext("{n} session has ended. Sign in again.", "{n} sessions have ended. Sign in again.", count)
    return visit.lead("sign_in", message.format(n=count))
