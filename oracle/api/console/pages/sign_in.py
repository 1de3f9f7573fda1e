"""Signing in, by key or at an identity provider, and signing out; the language of somebody who is not signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from oracle.api.admin.access import hash_of
from oracle.api.admin.problems import Refusal
from oracle.api.console.cookies import LANGUAGE
from oracle.api.console.declarations import ROOT, page
from oracle.api.console.languages import LANGUAGES, Text, _, lazy
from oracle.api.console.visits import YEAR_S
from oracle.api.texts import translate
from oracle.identity.cookies import LOGIN, read_cookie, remove_cookie, write_cookie
from oracle.identity.flow import LOGIN_S, LoginFailed, NotAccepted, check_back
from oracle.identity.identity import Identity
from oracle.identity.sessions import Place

if TYPE_CHECKING:
    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Visit

_TITLE: Final = lazy("Sign in")


@page("sign_in", "GET", "/sign-in", _TITLE, is_open=True)
async def show_sign_in(visit: Visit) -> Answer:
    back = _read_back(visit.query["back"])
    if visit.is_signed_in:
        return visit.lead(back)
    return _show(visit, back)


@page("sign_in_by_key", "POST", "/sign-in", _TITLE, is_open=True)
async def sign_in_by_key(visit: Visit) -> Answer:
    back = _read_back(visit.form["back"])
    if not visit.console.takes_keys:
        raise Refusal(404, "not_found", "Nobody signs in with a key here", "Use your identity provider")
    try:
        caller = await visit.console.access.check_key(visit.request, visit.form.text("key"))
    except Refusal as refused:
        await visit.console.access.record(visit.request, visit.request.route_handler, refused)
        if refused.status == 429:  # noqa: PLR2004 - too many failures
            return _show_too_many(visit, back, refused)
        return _show(visit, back, _("This key is not valid. Check that you pasted all of it."), status=401)
    identity = Identity(caller.actor, caller.role, caller.fsp_ids, "key", caller.person)
    await _start(visit, identity, hash_of(caller.secret))
    return visit.lead(back)


@page("sign_in_begin", "GET", "/sign-in/{alias}", _TITLE, is_open=True, is_part=True)
async def begin(visit: Visit, alias: str) -> Answer:
    flow = visit.console.find_flow(alias, visit.origin)
    if flow is None:
        raise Refusal(404, "not_found", "Nobody signs in there", "Go back to the page to sign in")
    try:
        url, cookie = await flow.begin(_read_back(visit.query["back"]))
    except LoginFailed as failed:
        return _show(visit, ROOT, translate(str(failed)), status=502)
    visit.cookies.append(write_cookie(LOGIN, cookie, LOGIN_S))
    answer = visit.lead(ROOT)
    answer.lines = [("location", url)]
    return answer


@page("sign_in_back", "GET", "/sign-in/{alias}/back", _TITLE, is_open=True, is_part=True)
async def finish(visit: Visit, alias: str) -> Answer:
    flow, identities = visit.console.find_flow(alias, visit.origin), visit.console.services.ways.identities
    if flow is None or identities is None:
        raise Refusal(404, "not_found", "Nobody signs in there", "Go back to the page to sign in")
    cookie = read_cookie(visit.sent_cookies, LOGIN)
    visit.cookies.append(remove_cookie(LOGIN))
    try:
        async with visit.console.access.doubt(visit.request, NotAccepted):
            signed_in = await flow.finish(list(visit.request.query_params.multi_items()), cookie)
    except LoginFailed as failed:
        if isinstance(failed, NotAccepted):
            refused = Refusal(401, "unauthorized", str(failed))
            await visit.console.access.record(visit.request, visit.request.route_handler, refused)
        return _show(visit, ROOT, translate(str(failed)), status=403)
    except Refusal as refused:
        return _show_too_many(visit, ROOT, refused)
    identity = identities.mapping.choose(signed_in.claims)
    if identity is None:
        text = _("Your identity provider knows you, but you have no role here. Ask the operator of the hub for one.")
        return _show(visit, ROOT, text, status=403)
    await _start(visit, identity, None)
    return visit.lead(_read_back(signed_in.back))


@page("sign_out", "POST", "/sign-out", lazy("Sign out"))
async def sign_out(visit: Visit) -> Answer:
    await visit.console.sessions.end(visit.token)
    visit.end_session()
    return visit.lead("sign_in", _("You are signed out."))


@page("choose_language", "POST", "/language", lazy("Language"), is_open=True)
async def choose_language(visit: Visit) -> Answer:
    chosen = visit.form.text("language")
    if chosen in LANGUAGES:
        visit.cookies.append(write_cookie(LANGUAGE, chosen, YEAR_S))
        if visit.session is not None:
            await visit.console.sessions.set_preferences(visit.caller.actor, chosen, visit.session.time_zone)
    return visit.lead(_read_back(visit.form["back"]))


def _show(visit: Visit, back: str, error: Text = "", *, status: int = 200) -> Answer:
    console = visit.console
    return visit.show(
        "sign_in/sign_in.html", http_status=status, back=back, error=error, takes_keys=console.takes_keys,
        issuers=console.issuers,
    )  # fmt: skip


def _show_too_many(visit: Visit, back: str, refused: Refusal) -> Answer:
    wait_s = refused.headers["Retry-After"]
    text = _("Too many attempts failed. Wait {seconds} seconds, then try again.").format(seconds=wait_s)
    answer = _show(visit, back, text, status=429)
    answer.add("retry-after", wait_s)
    return answer


async def _start(visit: Visit, identity: Identity, secret_sha256: bytes | None) -> None:
    """Start a session with a new token; the one that the browser had ends."""
    if visit.token:
        await visit.console.sessions.end(visit.token)
    place = Place(visit.request.headers.get("user-agent", "").replace("\0", ""), visit.address)
    token = await visit.console.sessions.start(identity, secret_sha256, place)
    visit.start_session(token, int(visit.console.limits.life_s))


def _read_back(path: str) -> str:
    """Return a path of the console; its home in place of any other."""
    parts = unquote(path.partition("?")[0]).split("/")
    is_inside = parts[:2] == ["", ROOT[1:]] and not {".", ".."} & set(parts)
    return path if is_inside and check_back(path) == path else ROOT
