"""One request of a person: who they are, what they sent, what the API answers them, and the page that they see.

In a page:

    page = await visit.get("listFsps", query={"cursor": visit.query["cursor"]})
    return visit.show("fsps/list.html", page=page)

    reply = await visit.ask("createFsp", body={…}, once=True)
    if reply.ok:
        return visit.lead("fsps", _("FSP {name} was created.").format(name=…))
    return visit.show("fsps/new.html", errors=visit.errors_of(reply), values=visit.form)  # errors: the status is 422
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import msgspec
from markupsafe import Markup

from oracle.api.admin.access import is_still_valid
from oracle.api.admin.callers import Caller, Inside
from oracle.api.admin.encryption import CallerCipher, NotReadable
from oracle.api.admin.problems import Problem, Refusal
from oracle.api.admin.streams import Places
from oracle.api.console.answers import Answer
from oracle.api.console.api import Question, Reply, Stream
from oracle.api.console.api_texts import explain_identifier, translate
from oracle.api.console.bodies import Form, Upload
from oracle.api.console.cookies import FLASH, VISITOR, Flash, write_flash
from oracle.api.console.declarations import ROOT, Page, list_pages
from oracle.api.console.languages import Text
from oracle.api.naming import read_person
from oracle.errors import DirectoryUnavailable
from oracle.identity.cookies import SESSION, remove_cookie, write_cookie
from oracle.identity.issuers import is_loopback
from oracle.identity.sessions import make_csrf

if TYPE_CHECKING:
    from litestar import Request

    from oracle.api.console.console import Console
    from oracle.identity.sessions import Session

T = TypeVar("T")

CSRF_FIELD: Final = "csrf"
YEAR_S: Final = 31_536_000
STREAMS: Final = Places(200, 20)  # of events: each asks the directory again and again
_ITEM: Final = re.compile(r"(?:^|; )([A-Za-z][\w.]*): (.*?)(?=; [A-Za-z][\w.]*: |$)")  # in the hint of several mistakes
_PEOPLE: Final = ("by", "uploadedBy")
_OF_ADDRESSES: Final = "In a URL"  # a hint for programs

# The request that is being answered; for the helpers of the templates.
current: ContextVar[Visit] = ContextVar("visit")


class Errors(NamedTuple):
    """What is wrong with a form: a text for all, what to do, and texts for single fields, by the API's names."""

    detail: str
    hint: str
    fields: Mapping[str, str]
    code: str

    @classmethod
    def of_field(cls, name: str, text: str) -> Self:
        """Make the mistake of one field, where the API was not asked."""
        return cls(text, "", {name: text}, "invalid")


class MenuItem(NamedTuple):
    page: Page
    url: str
    is_current: bool


class Visit:
    """What a page needs of its request.  `console` makes one for each."""

    def __init__(self, console: Console, request: Request[Any, Any, Any], page: Page) -> None:
        self.console = console
        self.request = request
        self.page = page
        self.caller_or_none: Caller | None = None
        self.session: Session | None = None
        self.token = ""  # of the session
        self.visitor = ""  # of a browser without a session
        self.form = Form()
        self.upload_or_none: Upload | None = None
        self.language = "en"
        self.time_zone = "UTC"
        self.flash: Flash | None = None
        self.sent_cookies = "; ".join(request.headers.getall("cookie", []))  # some proxies cut HTTP/2's into lines
        self.cookies: list[str] = []  # to set
        self.query = Form(request.query_params.multi_items())
        self.address: str = request.state.address

    # -- who ---------------------------------------------------------------------------------------------------------

    @property
    def caller(self) -> Caller:
        """The person whose session it is.  Only an open page can be without one."""
        assert self.caller_or_none is not None  # noqa: S101 - `console` lets nobody else come here
        return self.caller_or_none

    @property
    def upload(self) -> Upload:
        """The file that was sent.  Only a page with `uploads` has one."""
        assert self.upload_or_none is not None  # noqa: S101 - `console` reads one for each such page
        return self.upload_or_none

    @property
    def is_signed_in(self) -> bool:
        return self.caller_or_none is not None

    @property
    def fsp_id(self) -> str | None:
        """The FSP that a page is about: that of the path, of the form or of ?fsp=, else the only one of the person;
        None: no one.  The form decides before ?fsp=, because the person sees it.
        """
        own = self.caller.fsp_ids
        named = self.request.path_params.get("fsp_id") or self.form["fsp"] or self.query["fsp"]
        return named or (min(own) if own is not None and len(own) == 1 else None)

    @property
    def own_fsp_id(self) -> str | None:
        """The FSP that the person acts for on this page; None: one of several, or none.

        An address can name any FSP, and somebody else can have written it.
        """
        own = self.caller.fsp_ids
        return None if own is None else self.fsp_id if self.fsp_id in own else min(own) if len(own) == 1 else None

    def may(self, operation: str, fsp_id: str | None = None) -> bool:
        """Whether this person may call an operation (for this FSP)."""
        return self.is_signed_in and self.console.api.may(self.caller, operation, fsp_id)

    async def is_still_valid(self) -> bool:
        """Whether this person is still signed in: for long answers.  False, too, if the directory cannot be asked.

        The API asks that itself before each event that it sends (`followBatch`), but not before a call that it answers
        at once.
        """
        try:
            rows = self.console.services.postgres.keys.rows
            return not self.caller.has_ended and await is_still_valid(rows, self.caller)
        except DirectoryUnavailable:
            return False

    def may_open(self, page: Page) -> bool:
        return page.is_open or (self.is_signed_in and all(self.may(operation) for operation in page.needs))

    @property
    def menu(self) -> list[MenuItem]:
        listed = sorted((one for one in list_pages().values() if one.menu is not None), key=lambda one: one.menu or 0)
        here = {self.page.name, self.page.under}
        return [MenuItem(one, one.url, one.name in here) for one in listed if self.may_open(one)]

    # -- what the API answers ----------------------------------------------------------------------------------------

    async def ask(
        self,
        operation: str,
        *,
        path: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content: AsyncIterator[bytes] | bytes | None = None,
        content_type: str = "application/json",
        if_match: str = "",
        once: bool = False,
    ) -> Reply:
        """Ask an operation of the API in the name of this person.  Never raises for a refusal: see `Reply.problem`.

        `once`: a form that is sent twice does its work once; the form needs {{ ui.once() }}.  Empty values of `query`
        are left out.  A person can be named there as the pages name them, in the language of the reader.
        """
        query = {name: read_person(value) if name in _PEOPLE and isinstance(value, str) else value
                 for name, value in (query or {}).items()}  # fmt: skip
        question = Question(
            operation, path or {}, query, body, content, content_type,
            idempotency_key=self.form["once"] if once else "", if_match=if_match,
            request_id=self.request.state.request_id,
        )  # fmt: skip
        return await self.console.api.ask(self._inside, question)

    async def get(self, operation: str, **options: Any) -> Any:
        """Ask, and return the JSON of the answer.  Raises Shown, which shows the problem as the page."""
        return (await self.fetch(operation, **options)).json

    async def fetch(self, operation: str, **options: Any) -> Reply:
        """Ask, and return the answer with its version.  Raises Shown, which shows the problem as the page."""
        reply = await self.ask(operation, **options)
        if reply.problem is not None:
            raise Shown(self.show_problem(reply.problem))
        return reply

    def open(
        self,
        operation: str,
        *,
        path: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        accept: str = "",
    ) -> AbstractAsyncContextManager[Stream]:
        """Ask for an answer that comes in pieces: `async with visit.open("followBatch", …) as stream`."""
        request_id = self.request.state.request_id
        question = Question(operation, path or {}, query or {}, accept=accept, request_id=request_id)
        return self.console.api.open(self._inside, question)

    async def download(self, operation: str, *, file_name: str = "", **options: Any) -> Answer:
        """Pass an answer of the API on as a file.  A refusal becomes a page."""
        opened = self.open(operation, **options)
        stream = await opened.__aenter__()
        if not stream.ok:
            reply = await stream.read()
            await opened.__aexit__(None, None, None)
            assert reply.problem is not None  # noqa: S101 - see ok
            return self.show_problem(reply.problem)

        async def pass_on() -> AsyncIterator[bytes]:
            try:
                async for piece in stream.pieces:
                    yield piece
            finally:
                await opened.__aexit__(None, None, None)

        passed = [(name, stream.headers[name]) for name in ("content-disposition", "content-length", "content-encoding")
                  if name in stream.headers]  # fmt: skip
        answer = Answer(pass_on(), media_type=stream.headers.get("content-type", ""), headers=passed)
        if file_name:
            answer.lines = [(name, value) for name, value in answer.lines if name != "content-disposition"]
            answer.add("content-disposition", f"attachment; filename*=UTF-8''{quote(file_name, safe='')}")
        return answer

    def stream(self, events: AsyncIterator[tuple[str, str | bytes]]) -> Answer:
        """Answer with server-sent events: pairs of the event's name ('' for a message) and its data, often HTML.

        A person who has too many of them open gets 429.
        """

        async def write() -> AsyncIterator[bytes]:
            async for name, data in events:
                text = data.decode() if isinstance(data, bytes) else data
                lines = [f"event: {name}"] if name else []
                lines += [f"data: {line}" for line in text.splitlines() or [""]]
                yield ("\n".join(lines) + "\n\n").encode()

        answer = Answer(write(), media_type="text/event-stream", headers=[("x-accel-buffering", "no")])
        answer.take_place = partial(STREAMS.take, self.caller.actor)
        return answer

    @property
    def _inside(self) -> Inside:
        return Inside(self.caller, self.address)

    # -- what the person sees ----------------------------------------------------------------------------------------

    @property
    def is_partial(self) -> bool:
        """Whether htmx asks for a part of the page."""
        headers = self.request.headers
        return headers.get("hx-request") == "true" and headers.get("hx-request-type") != "full"

    def show(
        self, template: str, /, *, block: str | None = None, http_status: int | None = None, has_secret: bool = False,
        **values: Any,
    ) -> Answer:  # fmt: skip
        """Show a page, or only a block of it where htmx asks for a part.

        Without `http_status`, a page has the status 422 if it has `errors`, or if its form is outdated (`is_changed`,
        or `changes` of somebody else: see `edits`); any other has 200.  `has_secret`: see `Answer`.
        """
        is_refused = values.get("errors") or values.get("is_changed") or values.get("changes") is not None
        status = http_status or (422 if is_refused else 200)
        body = self.render(template, block if self.is_partial else None, **values)
        return Answer(body, status=status, has_secret=has_secret)

    def render(self, template: str, block: str | None = None, /, **values: Any) -> bytes:
        """Render a page, or a block: for events, and parts that are always alone."""
        return self.console.templates.render(template, block, {"visit": self, "page": self.page, **values})

    def lead(self, to: str, message: Text = "", *, kind: str = "success", **values: Any) -> Answer:
        """Lead to a page (by its name, or a path that begins with /console) after a form, with a message there."""
        url = to if to.startswith(ROOT) else make_url(to, **values)
        answer = Answer(b"", status=303, media_type="", headers=[("location", url)])
        if str(message):
            self.cookies.append(write_cookie(FLASH, write_flash(kind, str(message)), 60))
        return answer

    def show_problem(self, problem: Problem) -> Answer:
        """Show as a page why something did not work."""
        title, detail, hint = map(translate, (problem.title, problem.detail, problem.hint))
        said = [text for text in (detail, hint) if text and text != title]
        return self.show("problem.html", block="content", http_status=problem.status, title=title, said=said)

    def errors_of(self, reply: Reply | None) -> Errors | None:
        """Find what the API says is wrong with a form; None: nothing, or the API was not asked."""
        problem = None if reply is None else reply.problem
        if problem is None:
            return None
        fields = {problem.field: problem.hint or problem.detail} if problem.field else dict(_ITEM.findall(problem.hint))
        if problem.field and (problem.code != "invalid" or problem.hint.startswith(_OF_ADDRESSES)):
            fields = {problem.field: problem.detail}
        if problem.code == "bad_identifier" and self.form["identifier"]:
            # The API must not repeat what was sent; the person who wrote it sees what is wrong in it.
            values = (self.form.text(name) for name in ("identifier", "subId", "country"))
            fields = {problem.field: explain_identifier(problem.detail, problem.hint, *values)}
        else:  # the page already writes the label of the field before the text
            fields = {name: translate(text.removeprefix(f"{name}: ")) for name, text in fields.items()}
        return Errors(translate(problem.detail), translate(problem.hint), fields, problem.code)

    # -- what an address must not show ---------------------------------------------------------------------------------

    def seal(self, value: Any) -> str:
        """Encrypt a value that a JSON has, for an address that only this person can open.

        Addresses are written down in many places, and an identifier is personal data.
        """
        encrypted = self._seals.encrypt(msgspec.json.encode(value))
        return base64.urlsafe_b64encode(encrypted).rstrip(b"=").decode()

    def unseal(self, sealed: str, of: type[T]) -> T:
        """Decrypt it.  Raises Refusal 404."""
        try:
            encrypted = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            return msgspec.json.decode(self._seals.decrypt(encrypted), type=of)
        except (NotReadable, ValueError, msgspec.DecodeError):
            raise Refusal(
                404, "not_found", "Nothing is at this address", "Such an address works only for the person who got it"
            ) from None

    @property
    def _seals(self) -> CallerCipher:
        return CallerCipher(self.caller.secret, "console address")

    # -- forms and cookies -------------------------------------------------------------------------------------------

    @property
    def csrf(self) -> str:
        """A token for a form or for htmx, masked anew each time."""
        if not self.token and not self.visitor:
            self.visitor = secrets.token_urlsafe(32)
            self.cookies.append(write_cookie(VISITOR, self.visitor, 86_400))
        return make_csrf(self.token or self.visitor)

    def start_session(self, token: str, life_s: int) -> None:
        self.cookies.append(write_cookie(SESSION, token, life_s))
        self.cookies.append(remove_cookie(VISITOR))

    def end_session(self) -> None:
        self.cookies.append(remove_cookie(SESSION))

    # -- how the browser came here -----------------------------------------------------------------------------------

    @property
    def is_https(self) -> bool:
        return self.console.is_https(self.request)

    @property
    def host(self) -> str:
        """The host that the browser asked for; '' if the request names two: a proxy can have used the other one."""
        sent = self.request.headers.getall("host", [])
        return sent[0] if len(sent) == 1 else ""

    @property
    def origin(self) -> str:
        """Where the browser thinks that it is."""
        return self.console.url or f"{'https' if self.is_https else 'http'}://{self.host}"

    @property
    def is_safe(self) -> bool:
        """Whether the browser keeps our cookies, and nobody on the way reads them: by TLS, or on this machine."""
        if self.is_https:
            return True
        try:
            return is_loopback(urlsplit(f"//{self.host}").hostname or "")
        except ValueError:
            return False

    @property
    def here(self) -> str:
        """The path and the query of this request, to come back to."""
        path, query = self.request.scope["raw_path"], self.request.scope["query_string"].decode("latin-1")
        return path.decode("latin-1") + (f"?{query}" if query else "")

    @property
    def back(self) -> str:
        """Where a person comes back to after a form that belongs to no page."""
        if self.page.is_open:
            return self.query["back"] or make_url("home")
        return self.here if self.request.method == "GET" else make_url(self.page.under or "home")


class Shown(Exception):
    """Not an error of ours: this is the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def make_url(name: str, **values: Any) -> str:
    """Make the address of a page; values that its path does not name go into the query, without empty ones."""
    found = list_pages()[name]
    rest = {key: value for key, value in values.items() if key not in found.parameters and value not in (None, "")}
    return found.fill(values) + (f"?{urlencode(rest, doseq=True)}" if rest else "")


def make_helpers() -> dict[str, Callable[..., Any]]:
    """Make the functions that templates call."""
    return {
        "url": make_url,
        "may": lambda operation, fsp_id=None: current.get().may(operation, fsp_id),
        "csrf_field": lambda: Markup('<input type="hidden" name="{}" value="{}">').format(
            CSRF_FIELD, current.get().csrf
        ),
        "once_value": lambda: str(uuid4()),
        "back_here": lambda: current.get().back,
    }
