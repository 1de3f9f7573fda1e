"""The console: pages for people, at /console of the admin listener.

Way of a request.  Is the browser's way here safe?  Who is it (session)?  Does a form come from one of our pages (CSRF)?
                   May this person open this page (the guards of the operations that it needs)?  Then the page.
Sessions.          Each request asks the directory, so a revoked key, a closed FSP or "sign out everywhere" counts at
                   once.
Forms.             Every POST below /console passes the same check here, whichever page it is for.
Errors.            Each becomes a page.  Nothing that a person sends is a 500.
"""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import msgspec
from litestar import Request, Response, Router
from litestar.handlers import HTTPRouteHandler

from oracle.api.admin.access import PUBLIC, make_forbidden
from oracle.api.admin.compression import accepts_gzip
from oracle.api.admin.operations import BODY_BYTES_MAX
from oracle.api.admin.problems import DEFECT, Refusal, refusal_of
from oracle.api.console import formats, languages
from oracle.api.console.answers import Answer, dress
from oracle.api.console.api import Api
from oracle.api.console.assets import PATH as ASSETS_PATH
from oracle.api.console.assets import Asset, load_assets
from oracle.api.console.bodies import Form, read_form, read_upload
from oracle.api.console.cookies import FLASH, LANGUAGE, VISITOR, ZONE, read_flash
from oracle.api.console.declarations import ROOT, Page, list_pages
from oracle.api.console.languages import _, lazy
from oracle.api.console.templating import Templates
from oracle.api.console.visits import CSRF_FIELD, Shown, Visit, current, make_helpers, make_url
from oracle.identity.addresses import is_proxy, networks_of
from oracle.identity.cookies import SESSION, read_cookie, remove_cookie
from oracle.identity.flow import Client, Flow
from oracle.identity.sessions import CSRF_HEADER, SessionLimits, Sessions, is_csrf, is_same_site
from oracle.telemetry import logs

if TYPE_CHECKING:
    from litestar import Litestar

    from oracle.api.admin.app import AdminServices
    from oracle.identity.issuers import Issuer
    from oracle.settings import Settings

STRANGER_S: Final = 600.0  # between two equal lines of the log
SIGN_IN: Final = "sign_in"  # the name of the page
_FOREVER: Final = "public, max-age=31536000, immutable"
_FOREIGN: Final = Refusal(403, "forbidden", "This form does not come from your session")

log = logs.Log(__name__)


@cache
def read_files() -> tuple[dict[str, Asset], Templates]:
    """Read what does not change while the process lives, so that no page waits for it."""
    for code in languages.LANGUAGES:
        languages.load(code)
    formats.list_time_zones()
    assets = load_assets()
    return assets, Templates(assets, make_helpers())


class ConsoleOptions(msgspec.Struct, frozen=True):
    url: str = ""  # where browsers reach the listener; '': the host that they name
    limits: SessionLimits = SessionLimits()

    @classmethod
    def of(cls, settings: Settings) -> ConsoleOptions:
        limits = SessionLimits(settings.console_rest_minutes * 60.0, settings.console_session_hours * 3_600.0)
        return cls((settings.console_url or "").rstrip("/"), limits)


class Console:
    """The pages of one process.  `attach` gives it the application that has the API."""

    def __init__(self, services: AdminServices, options: ConsoleOptions | None = None) -> None:
        options = options or ConsoleOptions()
        self.url = options.url
        self.limits = options.limits
        self.services = services
        self.access = services.access
        self.sessions = Sessions(services.postgres, options.limits)
        self.takes_keys = services.ways.keys
        self.api: Api
        self._proxies = networks_of(services.proxies)
        # Everybody who reaches the port can send such a header.
        self._stranger = logs.Condition(log, "A proxy with TLS", repeat_s=STRANGER_S)
        self._assets, self.templates = read_files()
        self._by_path = {asset.url: asset for asset in self._assets.values()}
        identities = services.ways.identities
        self.issuers: list[Issuer] = [one for one in identities.issuers if one.console_client] if identities else []
        self._form_targets = sorted({_origin_of(one.issuer) for one in self.issuers})

    def attach(self, app: Litestar) -> None:
        """Use the operations of this application.  Raises KeyError for a page that needs one that does not exist."""
        self.api = Api(app)
        for page in list_pages().values():
            for operation in page.needs:
                self.api.operations[operation]

    def router(self) -> Router:
        handlers = [self._make_handler(page) for page in list_pages().values()]
        return Router(ROOT, route_handlers=[*handlers, self._make_asset_handler()])

    def find_flow(self, alias: str, origin: str) -> Flow | None:
        """Find how people sign in at an identity provider; None: not here."""
        identities = self.services.ways.identities
        issuer = next((one for one in self.issuers if one.alias == alias), None)
        if identities is None or issuer is None or identities.calls is None:
            return None
        back = f"{origin}{make_url('sign_in_back', alias=alias)}"
        client = Client(issuer.console_client, back, issuer.console_secret)
        return Flow(identities.tokens, issuer.issuer, client, identities.calls)

    def is_https(self, request: Request[Any, Any, Any]) -> bool:
        if request.scope["scheme"] == "https":
            return True
        peer = request.client.host if request.client else ""
        if request.headers.getall("x-forwarded-proto", []) != ["https"]:
            return False
        if not is_proxy(peer, self._proxies):
            # The page says "plain HTTP" to a person who sees https in the address: only the operator can know why.
            self._stranger.now("is not in ORACLE_ADMIN_PROXIES: people cannot sign in through it", peer=peer)
            return False
        return True

    # -- handlers ----------------------------------------------------------------------------------------------------

    def _make_handler(self, page: Page) -> HTTPRouteHandler:
        async def serve(request: Request[Any, Any, Any]) -> Response[Any]:
            return await self.answer(request, page)

        path = page.path.replace("}", ":str}")
        return HTTPRouteHandler(
            path, http_method=page.method, opt={"access": PUBLIC, "streams": page.uploads, "page": page},
            include_in_schema=False, request_max_body_size=None if page.uploads else BODY_BYTES_MAX,
        )(serve)  # fmt: skip

    def _make_asset_handler(self) -> HTTPRouteHandler:
        async def serve(request: Request[Any, Any, Any]) -> Response[Any]:
            return self._send_asset(request)

        path = ASSETS_PATH.removeprefix(ROOT) + "/{version:str}/{name:str}"
        opt = {"access": PUBLIC, "streams": False}
        return HTTPRouteHandler(path, http_method="GET", opt=opt, include_in_schema=False)(serve)

    def _send_asset(self, request: Request[Any, Any, Any]) -> Answer:
        asset = self._by_path.get(request.scope["path"])
        if asset is None:
            return Answer(b"", status=404, media_type="text/plain")
        headers = [("etag", f'"{asset.version}"'), ("cache-control", _FOREVER), ("vary", "accept-encoding"),
                   ("x-content-type-options", "nosniff")]  # fmt: skip
        if f'"{asset.version}"' in request.headers.get("if-none-match", ""):
            return Answer(b"", status=304, media_type="", headers=headers)
        zips = asset.zipped is not asset.plain and accepts_gzip(request.headers.get("accept-encoding", ""))
        if zips:
            headers.append(("content-encoding", "gzip"))
        return Answer(asset.zipped if zips else asset.plain, media_type=asset.media_type, headers=headers)

    def show_stray(self, request: Request[Any, Any, Any], refusal: Refusal) -> Response[Any] | None:
        """Show as a page that nothing has this address, or this method; None: the address is not one of the console."""
        path = request.scope["path"]
        if path != ROOT and not path.startswith(f"{ROOT}/"):
            return None
        is_get = request.method == "GET"
        if refusal.status == HTTPStatus.NOT_FOUND:
            refusal = Refusal(404, "not_found", "There is no such page", "Use the menu")
        elif is_get:
            refusal = Refusal(
                405, "method_not_allowed", "This address only takes what a form sends", "Use the menu", refusal.headers
            )

        async def show_nothing(_visit: Visit) -> Answer:
            raise refusal

        # Another method gets its answer at once: nobody can come back to it after they have signed in.
        page = Page(
            name="nothing", method="GET", path="/", title=lazy("Page not found"), show=show_nothing, is_open=not is_get
        )
        self.access.note_address(request)
        return _Stray(self, request, page)

    # -- one request -------------------------------------------------------------------------------------------------

    async def answer(self, request: Request[Any, Any, Any], page: Page) -> Answer:
        visit = Visit(self, request, page)
        current.set(visit)
        cookies = visit.sent_cookies
        self._speak(visit, cookies)
        try:
            answer = await self._find_answer(visit, cookies)
        except Shown as shown:
            answer = shown.answer
        except Exception as error:  # noqa: BLE001 - each becomes a page
            answer = self._show_error(visit, error)
        dress(answer, self._form_targets)
        if _takes_compressed(visit):
            answer.compress()
        for cookie in visit.cookies:
            answer.add("set-cookie", cookie)
        return answer

    def _speak(self, visit: Visit, cookies: str) -> None:
        """Choose language and time zone, of the account if it is known."""
        session = visit.session
        accepted = visit.request.headers.get("accept-language")
        visit.language = languages.choose(
            session.language if session else None, read_cookie(cookies, LANGUAGE), accepted
        )
        for zone in (session.time_zone if session else None, read_cookie(cookies, ZONE)):
            if zone and formats.is_time_zone(zone):
                visit.time_zone = zone
                break
        languages.language.set(visit.language)
        formats.time_zone.set(visit.time_zone)

    async def _find_answer(self, visit: Visit, cookies: str) -> Answer:
        page, request = visit.page, visit.request
        visit.visitor = read_cookie(cookies, VISITOR)
        if visit.is_safe:
            await self._enter(visit, cookies)
        elif page.name != SIGN_IN:
            return self._lead_to_sign_in(visit)
        if not page.is_open and not visit.is_signed_in:
            return self._lead_to_sign_in(visit)
        if page.method != "GET":
            await self._read_form(visit)
        if not visit.may_open(page):
            refused = make_forbidden(visit.caller.role)
            await self.access.record(request, request.route_handler, refused)
            raise refused
        if page.method == "GET" and not page.is_part and (flash := read_flash(read_cookie(cookies, FLASH))):
            visit.flash = flash
            visit.cookies.append(remove_cookie(FLASH))
        parameters = {name: request.path_params[name] for name in page.parameters}
        return await page.show(visit, **parameters)

    async def _enter(self, visit: Visit, cookies: str) -> None:
        """Find who it is.  A session ends with its key, or with the last FSP of the person.  Raises
        DirectoryUnavailable.
        """
        token = read_cookie(cookies, SESSION)
        if not token:
            return
        notes = not visit.page.is_automatic
        session = await self.access.find_session(visit.request, self.sessions, token, notes=notes)
        if session is None:
            return
        try:
            caller = await self.access.make_session_caller(session)
        except Refusal:
            caller = None
        if caller is None:
            await self.sessions.end(token)
            visit.end_session()
            return
        visit.session, visit.token, visit.caller_or_none = session, token, caller
        visit.request.state.actor = caller.actor
        self._speak(visit, cookies)

    async def _read_form(self, visit: Visit) -> None:
        """Read a form, and refuse one that is not of ours.  Raises Refusal."""
        request, headers = visit.request, visit.request.headers
        if not _is_same_site(visit):
            raise _FOREIGN
        content_type = headers.get("content-type", "")
        if visit.page.uploads:
            visit.upload_or_none = await read_upload(request.stream(), content_type)
            visit.form = visit.upload.form
        else:
            visit.form = read_form(await request.body(), content_type)
        sent = headers.get(CSRF_HEADER) or visit.form[CSRF_FIELD]
        token = visit.token or visit.visitor
        if not token or not is_csrf(token, sent):
            raise _FOREIGN
        visit.form = Form([(name, value) for name, value in visit.form.pairs if name != CSRF_FIELD])

    def _lead_to_sign_in(self, visit: Visit) -> Answer:
        """Let the person sign in, and come back to the page, or to the one that has the form or the part."""
        headers = visit.request.headers
        is_page = visit.request.method == "GET" and not visit.page.is_part
        back = visit.here if is_page else _find_path(headers.get("hx-current-url") or headers.get("referer") or "")
        where = f"{make_url(SIGN_IN)}?back={quote(back, safe='')}"
        if headers.get("hx-request") == "true":
            return Answer(b"", status=401, media_type="", headers=[("hx-redirect", where)])
        return Answer(b"", status=303, media_type="", headers=[("location", where)])

    def _show_error(self, visit: Visit, error: Exception) -> Answer:
        refusal = refusal_of(error)
        if refusal is DEFECT:
            log.error("A page of the console failed", exc=error, page=visit.page.name)
        problem = refusal.problem()
        if refusal is _FOREIGN:
            problem = msgspec.structs.replace(
                problem, title=_("Send the form again"), detail=_("This form does not come from your session"),
                hint=_("Go back, load the page again, and send the form again"),
            )  # fmt: skip
        answer = visit.show_problem(problem)
        for name, value in refusal.headers.items():
            answer.add(name.lower(), value)
        return answer


class _Stray(Response[bytes]):
    """The page about an address without a page.  It is made when it is sent: Litestar does not wait for it before."""

    def __init__(self, console: Console, request: Request[Any, Any, Any], page: Page) -> None:
        super().__init__(b"")
        self._console, self._request, self._page = console, request, page

    def to_asgi_response(self, *_arguments: Any, **_options: Any) -> Any:
        async def send_it(scope: Any, receive: Any, send: Any) -> None:
            answer = await self._console.answer(self._request, self._page)
            await answer.to_asgi_response()(scope, receive, send)

        return send_it


def _is_same_site(visit: Visit) -> bool:
    headers = visit.request.headers
    return is_same_site({name: headers.get(name, "") for name in headers}, visit.origin)


def _takes_compressed(visit: Visit) -> bool:
    """Whether a page can be compressed.

    Another site can make a browser open a page with texts of its choice in the address, and perhaps see the length of
    the answer.  So what a signed-in person sees is compressed only where the browser names us as the one who asked.
    """
    if visit.is_signed_in and not _is_same_site(visit):
        return False
    return accepts_gzip(", ".join(visit.request.headers.getall("accept-encoding", [])))


def _find_path(url: str) -> str:
    """Find the path and the query of a page of ours; the home of the console in place of any other."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ROOT
    return (parts.path + (f"?{parts.query}" if parts.query else "")) if parts.path.startswith(f"{ROOT}/") else ROOT


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
