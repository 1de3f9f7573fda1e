"""The console in the process of the test: how it asks the API, files that pass through it, identity providers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from issuer import Issuer, issuing
from litestar import Router
from msgspec.structs import replace

from oracle.api.admin.access import DOUBTED_MAX, FAILURES_MAX, Access
from oracle.api.admin.app import AdminServices, admin_app
from oracle.api.admin.callers import Caller, Inside
from oracle.api.console.answers import Answer
from oracle.api.console.api import Question
from oracle.api.console.console import Console
from oracle.api.console.declarations import page
from oracle.identity.identity import Role
from oracle.identity.sessions import Session, Sessions
from oracle.run.bootstrap import bootstrap
from oracle.run.wiring import _open_health, _open_ways, open_store
from oracle.settings import load
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

    from oracle.api.console.visits import Visit

RULES: Final = '[[oidc.map]]\nclaim = "roles"\nhas = "boss"\nrole = "operator"\n'
ROWS: Final = b"kind,identifier,sub_id,currency,country,action\n"


@page("test_upload", "POST", "/upload", "Upload", uploads=True)
async def upload(visit: Visit) -> Answer:
    assert visit.upload is not None
    reply = await visit.ask(
        "uploadBatch", path={"fsp_id": visit.form["fsp"]}, query={"fileName": visit.upload.file_name},
        content=visit.upload.pieces, content_type="text/csv",
    )  # fmt: skip
    return visit.lead("home") if reply.ok else visit.show("problem.html", http_status=422, title="", said=[])


@page("test_download", "GET", "/download", "Download")
async def download(visit: Visit) -> Answer:
    name = visit.query["name"]
    return await visit.download("getTemplate", path={"name": name}, file_name="plantilla ñ.csv")


@page("test_events", "GET", "/events", "Events", is_part=True)
async def follow(visit: Visit) -> Answer:
    async def write() -> AsyncIterator[tuple[str, str]]:
        try:
            while True:
                yield "step", "<p>one</p>\n<p>two</p>"
                await asyncio.sleep(0)
        finally:
            ended.set()

    return visit.stream(write())


ended: Final = asyncio.Event()


class Site(NamedTuple):
    console: Console
    client: httpx.AsyncClient  # a browser that keeps Secure cookies: it believes to speak https
    issuer: Issuer
    key: str
    app: Any

    async def sign_in(self) -> str:
        """Sign in with the key; return a token for forms."""
        await self.client.post("/console/sign-in", data={"key": self.key, "csrf": await self.read_csrf()})
        return await self.read_csrf("/console")

    async def read_csrf(self, path: str = "/console/sign-in") -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', (await self.client.get(path)).text)
        assert found is not None
        return found[1]


@asynccontextmanager
async def open_site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        file = tmp_path / "oidc.toml"
        file.write_text(
            f'[[oidc.issuer]]\nalias="hub"\nissuer="{issuer.url}"\naudience="alias-oracle"\nname="Staff & <friends>"\n'
            f'console_client="console"\n{RULES}'
        )
        environ = {"ORACLE_DATABASE_URL": database_url, "ORACLE_ADMIN_AUTH": "keys,oidc",
                   "ORACLE_OIDC_FILE": str(file)}  # fmt: skip
        settings, metrics = load(environ).settings, Metrics.open(None, "admin", 0)
        key = await bootstrap(database_url)
        assert key is not None
        store = await stack.enter_async_context(open_store(settings, metrics, desk=True))
        health = await stack.enter_async_context(_open_health(store, metrics))
        ways = await stack.enter_async_context(_open_ways(settings, metrics))
        services = AdminServices(store.changes, store.postgres, health, metrics, ways=ways)
        console = Console(services)
        tests = Router(
            "/console/test", route_handlers=[console._make_handler(one) for one in (upload, download, follow)]
        )
        app = admin_app(services, [console.router(), tests])
        console.attach(app)
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Litestar's scope is typed more narrowly
        client = httpx.AsyncClient(
            transport=transport, base_url="https://oracle.example", headers={"sec-fetch-site": "same-origin"}
        )
        await stack.enter_async_context(client)
        yield Site(console, client, issuer, key, app)


OPERATOR: Final = Inside(Caller("tester", Role.OPERATOR, None, "key", None, secret="s"), "192.0.2.7")
STRANGER: Final = Inside(Caller("other", Role.MAKER, frozenset({"red"}), "key", None, secret="s"), "192.0.2.8")


async def test_the_api_answers_the_console_by_its_own_rules(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        api = site.console.api
        body = {"fspId": "green/bank"}
        made = await api.ask(OPERATOR, Question("createFsp", body=body, idempotency_key="k"))
        assert (made.status, made.json["fspId"]) == (201, "green/bank")
        again = await api.ask(OPERATOR, Question("createFsp", body=body, idempotency_key="k"))
        assert (again.status, again.headers["idempotency-replayed"]) == (201, "true")
        other = await api.ask(OPERATOR, Question("createFsp", body=body))
        assert other.problem is not None
        assert (other.problem.code, other.problem.field) == ("exists", "fspId")
        read = await api.ask(OPERATOR, Question("getFsp", {"fsp_id": "green/bank"}))
        assert read.ok
        change = Question("changeFsp", {"fsp_id": "green/bank"}, body={"name": "Green"}, if_match='"0"')
        assert (await api.ask(OPERATOR, change)).status == 412
        foreign = await api.ask(STRANGER, Question("getFsp", {"fsp_id": "green/bank"}))
        assert foreign.problem is not None
        assert foreign.problem.code == "foreign"
        refusals = (await api.ask(OPERATOR, Question("listRefusedCalls"))).json["items"]
        assert [(one["credentialId"], one["address"]) for one in refusals] == [("other", "192.0.2.8")]
        assert api.may(STRANGER.caller, "listAliases", "red")
        assert not api.may(STRANGER.caller, "listAliases", "green/bank")
        assert not api.may(STRANGER.caller, "createFsp")


async def test_a_question_costs_less_than_a_millisecond(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        question, times = Question("getTemplate", {"name": "import.csv"}), []
        await site.console.api.ask(OPERATOR, question)
        for _ in range(50):
            begin = time.perf_counter()
            await site.console.api.ask(OPERATOR, question)
            times.append(time.perf_counter() - begin)
        print(f"a question that needs no database: {sorted(times)[25] * 1e6:.0f} µs")
        assert sorted(times)[5] < 0.02


async def test_only_an_object_of_this_process_is_a_caller(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        found: list[int] = []

        async def send(message: Any) -> None:
            found.append(message.get("status", 0))

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        for forged in ("operator", {"actor": "x", "role": "operator"}, b"x", ("x", "y")):
            scope = site.console.api._make_scope(OPERATOR, Question("listFsps"))
            scope["oracle.inside"] = forged
            await site.app(scope, receive, send)
        assert [status for status in found if status] == [401, 401, 401, 401]


async def test_a_file_passes_through_to_the_api(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        csrf = await site.sign_in()
        await site.console.api.ask(OPERATOR, Question("createFsp", body={"fspId": "green"}))
        rows = ROWS + b"".join(b"MSISDN,+5255%08d,,MXN,,add\n" % number for number in range(5_000))
        data = {"csrf": csrf, "fsp": "green"}
        sent = await site.client.post("/console/test/upload", data=data, files={"file": ("mañana.csv", rows)})
        assert sent.status_code == 303, sent.text
        batches = (await site.console.api.ask(OPERATOR, Question("listAllBatches"))).json["items"]
        assert [one["fileName"] for one in batches] == ["mañana.csv"]
        refused = await site.client.post(
            "/console/test/upload", data={"csrf": "x", "fsp": "green"}, files={"file": ("a", rows)}
        )
        assert refused.status_code == 403
        empty = await site.client.post("/console/test/upload", data=data, files={"file": ("", b"")})
        assert empty.status_code == 422
        broken = await site.client.post(
            "/console/test/upload", content=b"--x\r\nContent-Disposition: form-da",
            headers={"content-type": "multipart/form-data; boundary=x"},
        )  # fmt: skip
        assert broken.status_code in (400, 403)


async def test_a_file_comes_back_and_a_refusal_is_a_page(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        await site.sign_in()
        file = await site.client.get("/console/test/download?name=import.csv")
        assert file.text.startswith("kind,identifier")
        assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''plantilla%20%C3%B1.csv"
        assert file.headers["cache-control"] == "no-store"
        nothing = await site.client.get("/console/test/download?name=no.csv")
        assert nothing.status_code == 404
        assert "<main" in nothing.text


async def test_no_value_of_a_header_begins_another_one() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    given = Answer(b"", headers=[("location", "/a\r\nset-cookie: a=b\0")])
    await given.to_asgi_response()({}, None, send)
    assert (b"location", b"/aset-cookie: a=b") in sent[0]["headers"]


async def test_a_file_that_breaks_off_has_no_end(database_url: str, tmp_path: Path) -> None:
    """A browser shows a download as failed only if the server does not end its body."""
    async with open_site(database_url, tmp_path) as site:
        await site.sign_in()
        sent: list[Any] = []

        async def break_off(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"some rows\n", "more_body": True})

        async def send(message: Any) -> None:
            sent.append(message)

        site.console.api._app = break_off  # type: ignore[assignment]
        scope = {**make_scope(site, "/console/test/download"), "query_string": b"name=import.csv"}
        await site.app(scope, asyncio.Event().wait, send)
        assert [(one.get("status"), one.get("body"), one.get("more_body")) for one in sent] == [
            (200, None, None), (None, b"some rows\n", True)
        ]  # fmt: skip


def make_scope(site: Site, path: str) -> dict[str, Any]:
    """Make what the application gets for a request of the browser of this site."""
    cookie = "; ".join(f"{one.name}={one.value}" for one in site.client.cookies.jar)
    scope: dict[str, Any] = site.console.api._make_scope(OPERATOR, Question("listFsps"))
    return scope | {"path": path, "raw_path": path.encode(), "scheme": "https",
                    "headers": [(b"cookie", cookie.encode()), (b"host", b"oracle.example")]}  # fmt: skip


async def test_events_end_when_the_browser_goes_away(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        await site.sign_in()
        parts: list[bytes] = []
        gone = asyncio.Event()

        async def send(message: Any) -> None:
            parts.append(message.get("body", b""))
            if len(parts) > 5:
                gone.set()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        await asyncio.wait_for(site.app(make_scope(site, "/console/test/events"), receive, send), 30)
        assert ended.is_set()
        assert parts[1] == b"event: step\ndata: <p>one</p>\ndata: <p>two</p>\n\n"


# Identity providers ---------------------------------------------------------------------------------------------


async def visit_issuer(site: Site, back: str = "/console") -> str:
    """Go to the identity provider as a browser does; return the address where it sends the browser."""
    begun = await site.client.get("/console/sign-in/hub", params={"back": back})
    assert begun.status_code == 303, begun.text
    async with httpx.AsyncClient() as browser:
        sent_back = await browser.get(begun.headers["location"])
    address = urlsplit(sent_back.headers["location"])
    assert (address.netloc, address.path) == ("oracle.example", "/console/sign-in/hub/back")
    return f"{address.path}?{address.query}"


async def test_a_person_signs_in_at_an_identity_provider(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        page = await site.client.get("/console/sign-in?back=/console/fsps")
        assert "Sign in with Staff &amp; &lt;friends&gt;" in page.text
        assert f"form-action 'self' {site.issuer.url}" in page.headers["content-security-policy"]
        site.issuer.access_claims = {"realm_access": None, "roles": ["boss"]}
        back = await visit_issuer(site, "/console/fsps")
        answer = await site.client.get(back)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/fsps")
        account = await site.client.get("/console/account")
        assert "oidc:hub:ana" in account.text
        assert (await site.client.get("/console/new-fsp")).status_code == 200
        assert (await site.client.get(back)).status_code == 403  # no code counts twice


async def test_a_person_without_a_role_or_with_a_foreign_answer_stays_outside(
    database_url: str, tmp_path: Path
) -> None:
    async with open_site(database_url, tmp_path) as site:
        site.issuer.access_claims = {"realm_access": None, "roles": ["guest"]}
        answer = await site.client.get(await visit_issuer(site))
        assert answer.status_code == 403
        assert "you have no role here" in answer.text
        site.issuer.access_claims = {"realm_access": None, "roles": ["boss"]}
        back = await visit_issuer(site)
        site.client.cookies.clear()
        assert (await site.client.get(back)).status_code == 403
        assert (await site.client.get("/console")).status_code == 303
        assert (await site.client.get("/console/sign-in/nobody")).status_code == 404
        site.issuer.status = 500


async def test_guesses_at_a_sign_in_count_like_bad_keys(database_url: str, tmp_path: Path) -> None:
    """A visitor writes the cookie of a sign-in themselves, so each guess is a call to the identity provider."""
    async with open_site(database_url, tmp_path) as site:
        statuses = []
        for number in range(FAILURES_MAX + 3):
            back = await visit_issuer(site)
            answer = await site.client.get(re.sub(r"code=[^&]+", f"code=guess{number}", back))
            statuses.append(answer.status_code)
        assert (statuses[0], statuses[-1], set(statuses)) == (403, 429, {403, 429})
        assert "Too many attempts" in answer.text
        assert int(answer.headers["retry-after"]) >= 1
        found = (await site.console.api.ask(OPERATOR, Question("listRefusedCalls"))).json["items"]
        assert {(one["route"], one["status"], one["reason"]) for one in found} == {
            ("/sign-in/{alias}/back", 401, "unauthorized")
        }
        assert len(found) == statuses.count(403)
        site.issuer.access_claims = {"realm_access": None, "roles": ["boss"]}
        assert (await site.client.get(await visit_issuer(site))).status_code == 303  # a valid one works


async def test_answers_that_never_reach_the_provider_count_nothing(database_url: str, tmp_path: Path) -> None:
    """A page of somebody else can make a browser send them."""
    async with open_site(database_url, tmp_path) as site:
        for _ in range(FAILURES_MAX + 3):
            answer = await site.client.get("/console/sign-in/hub/back?state=x&code=y&error=%3Cscript%3E")
            assert answer.status_code == 403
            assert "<script>" not in answer.text
        assert site.issuer.forms == []


class HeldSessions(Sessions):
    """Finds the session of one token, and holds up those who ask for any other."""

    def __init__(self, console: Console, free: str) -> None:
        super().__init__(console.services.postgres)
        self.free = free
        self.opened, self.begun = asyncio.Event(), asyncio.Event()
        self.at_work = self.most = 0

    async def find(self, token: str, *, notes: bool = True) -> Session | None:
        if token != self.free:
            self.at_work += 1
            self.most = max(self.most, self.at_work)
            self.begun.set()
            await self.opened.wait()
            self.at_work -= 1
        return await super().find(token, notes=notes)


async def test_guessed_sessions_take_nothing_from_people_who_are_signed_in(database_url: str, tmp_path: Path) -> None:
    """Each guess asks the directory, by the same connections as everybody's keys."""
    async with open_site(database_url, tmp_path) as site:
        await site.sign_in()

        async def guess(number: int) -> int:
            async with httpx.AsyncClient(transport=site.client._transport, base_url=site.client.base_url) as stranger:
                stranger.cookies.set("__Host-oracle-session", f"{number:043}")
                return (await stranger.get("/console")).status_code

        assert {await guess(number) for number in range(FAILURES_MAX)} == {303}
        site.console.sessions = held = HeldSessions(site.console, site.client.cookies["__Host-oracle-session"])
        guesses = [asyncio.create_task(guess(number)) for number in range(20)]
        await held.begun.wait()
        assert (await site.client.get("/console")).status_code == 200
        held.opened.set()
        assert set(await asyncio.gather(*guesses)) == {303}
        assert held.most == DOUBTED_MAX


@pytest.mark.parametrize("trusted", ["none", "another"])
async def test_a_session_ends_with_the_trust_in_its_identity_provider(
    database_url: str, tmp_path: Path, trusted: str
) -> None:
    """An operator removes a provider that was broken into, and starts the service again."""
    async with open_site(database_url, tmp_path) as site:
        site.issuer.access_claims = {"realm_access": None, "roles": ["boss"]}
        assert (await site.client.get(await visit_issuer(site))).status_code == 303
        assert (await site.client.get("/console")).status_code == 200
        services = site.console.services
        identities = services.ways.identities
        assert identities is not None
        others = identities._replace(issuers=[replace(one, alias="bank") for one in identities.issuers])
        ways = services.ways._replace(identities=None if trusted == "none" else others)
        site.console.access = Access(services.postgres, (), ways)
        assert (await site.client.get("/console")).status_code == 303


async def test_a_browser_behind_a_proxy_that_cuts_its_cookies_into_lines_signs_in(
    database_url: str, tmp_path: Path
) -> None:
    async with open_site(database_url, tmp_path) as site:
        site.issuer.access_claims = {"realm_access": None, "roles": ["boss"]}
        path, _, query = (await visit_issuer(site)).partition("?")
        scope = make_scope(site, path) | {"query_string": query.encode()}
        lines = [(b"cookie", part) for part in dict(scope["headers"])[b"cookie"].split(b"; ")]
        around = [(b"cookie", b"a=b"), *lines, (b"cookie", b"c=d"), (b"host", b"oracle.example")]
        assert (await call(site, scope | {"headers": around}))[0]["status"] == 303


async def test_a_request_with_two_hosts_gets_no_form(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        one, other = (b"host", b"localhost"), (b"host", b"oracle.example")
        for hosts, has_form in (([one], True), ([other], False), ([one, other], False), ([other, one], False)):
            sent = await call(site, make_scope(site, "/console/sign-in") | {"scheme": "http", "headers": hosts})
            assert (b'name="key"' in b"".join(part.get("body", b"") for part in sent)) is has_form


async def call(site: Site, scope: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await site.app(scope, receive, send)
    return sent


async def test_a_closed_fsp_ends_the_sessions_of_its_people(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path) as site:
        await site.console.api.ask(OPERATOR, Question("createFsp", body={"fspId": "green"}))
        body = {"role": "dfsp-maker", "fspId": "green", "label": "a"}
        issued = await site.console.api.ask(OPERATOR, Question("createCredential", body=body))
        maker = site._replace(key=issued.json["key"])
        await maker.sign_in()
        assert (await site.client.get("/console")).status_code == 200
        closed = Question("setFspStatus", {"fsp_id": "green"}, body={"status": "closed", "reason": "a test"})
        assert (await site.console.api.ask(OPERATOR, closed)).ok
        assert (await site.client.get("/console")).status_code == 303
