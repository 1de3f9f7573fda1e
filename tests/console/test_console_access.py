"""Every page, every role, and nobody; and what an attacker tries with sessions, forms and headers.  By HTTP."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Final

import httpx
import pytest
from console_examples import PARAMETERS, fill
from console_people import Person
from oracle_process import until

from oracle.api.admin.access import FAILURES_MAX
from oracle.api.console.declarations import list_pages
from oracle.identity.sessions import make_csrf

if TYPE_CHECKING:
    from collections.abc import Callable

    from admin_service import Service

    from oracle.api.console.declarations import Page

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True

ROLES: Final = (
    ("operator", None), ("auditor", None), ("reader", None), ("dfsp-maker", "greenbank"), ("dfsp-checker", "greenbank"),
    ("reader", "greenbank"),
)  # fmt: skip
PAGES: Final = [page for page in list_pages().values() if not page.is_open]


@pytest.fixture(scope="module")
def people(person: MakePerson) -> list[Person]:
    return [person(role, fsp_id) for role, fsp_id in ROLES]


@pytest.fixture(scope="module")
def operations(service: Service) -> dict[str, tuple[str, str]]:
    """The method and the path of each operation of the API, as published."""
    document = service.operator.get(f"{service.oracle.admin_url}/openapi.json").json()
    return {
        described["operationId"]: (
            method.upper(),
            re.sub(r"\{(\w+)\}", lambda found: PARAMETERS.get(found[1], "1"), path),
        )
        for path, item in document["paths"].items()
        for method, described in item.items()
        if isinstance(described, dict) and "operationId" in described
    }


@pytest.fixture(scope="module")
def may(service: Service, operations: dict[str, tuple[str, str]]) -> Callable[[str, str], bool]:
    """Ask the API itself whether a key may call an operation, with a body that nothing comes of."""

    @cache
    def ask(key: str, operation: str) -> bool:
        method, path = operations[operation]
        body = {} if method == "GET" else {"content": b"[]", "headers": {"content-type": "application/json"}}
        with service.as_key(key).stream(method, service.oracle.admin_url + path, **body) as answer:  # type: ignore[arg-type]
            return answer.status_code != 403

    return ask


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_opens_for_those_who_can_call_its_operations(
    people: list[Person], visitor: MakePerson, may: Callable[[str, str], bool], page: Page
) -> None:
    path = fill(page)
    nobody = visitor()
    signed_out = nobody.get(path) if page.method == "GET" else nobody.post(path)
    assert signed_out.status_code == 303
    assert signed_out.headers["location"].startswith("/console/sign-in?back=")
    if page.name in ("sign_out", "end_sessions"):  # tested below, because they end the session
        return
    for one in people:
        files = {"file": ("x.csv", b"x")} if page.uploads else None
        answer = one.get(path) if page.method == "GET" else one.post(path, files=files)
        able = all(may(one.key, operation) for operation in page.needs)
        assert (answer.status_code != 403) is able, answer.text
        assert answer.status_code < 500, answer.text


# Another FSP ------------------------------------------------------------------------------------------------------

CANARY: Final = "kanarie"


def write_canaries(service: Service) -> dict[str, str]:
    """Write one text wherever redbank can have one; return the parameters of addresses that lead there."""
    service.operator.patch("/fsps/redbank", json={"name": CANARY, "twoPersons": True}).raise_for_status()
    key = service.issue("dfsp-maker", "redbank", label=CANARY)
    query = {"fileName": f"{CANARY}.csv", "note": CANARY}
    content = f"kind,identifier\nALIAS,{CANARY}\n".encode()
    maker = service.as_key(key)
    number = maker.post("/fsps/redbank/batches", params=query, content=content).raise_for_status().json()["batchId"]
    until(lambda: maker.get(f"/fsps/redbank/batches/{number}").json()["state"] == "waiting")
    route = {"kind": "MSISDN", "prefix": "+52888", "fspId": "redbank", "note": CANARY}
    route_id = service.operator.post("/routes", json=route).raise_for_status().json()["route"]["routeId"]
    (event,) = service.fetch("SELECT max(event_id) FROM events WHERE fsp_id = 'redbank'")
    return {"fsp_id": "redbank", "batch_id": str(number), "route_id": str(route_id),
            "credential_id": key.split("_")[1], "event_id": str(event[0])}  # fmt: skip


@pytest.mark.parametrize("role", ["dfsp-maker", "dfsp-checker", "reader"])
def test_people_of_an_fsp_see_and_change_nothing_of_another(
    service: Service, person: MakePerson, foreign: dict[str, str], role: str, complete: bool
) -> None:
    if role != "dfsp-maker" and not complete:
        return
    one = person(role, "greenbank")
    assert CANARY in person(role, "redbank").get(fill(list_pages()["file"], foreign)).text
    before = service.fetch("SELECT count(*), max(event_id) FROM events WHERE fsp_id = 'redbank'")
    query = {"fsp": "redbank", "fspId": "redbank", "of": f"redbank/{foreign['batch_id']}"}
    form = {**query, "kind": "ALIAS", "identifier": CANARY, "identifiers": CANARY, "reason": "a test", "version": ""}
    for page in PAGES:
        if page.name in ("sign_out", "end_sessions", "make_own_secret", "file_template"):
            continue
        path = fill(page, foreign)
        if page.method == "GET":
            answer = one.get(path, params=query)
        else:
            answer = one.post(
                path, form, files={"file": ("x.csv", b"kind,identifier\nALIAS,x\n")} if page.uploads else None
            )
        assert answer.status_code < 500, page.name
        assert answer.status_code >= 400 or CANARY not in without_fields(answer.text), page.name
        assert "/sign-in" not in answer.headers.get("location", ""), page.name
    assert service.fetch("SELECT count(*), max(event_id) FROM events WHERE fsp_id = 'redbank'") == before
    state = service.operator.get(f"/fsps/redbank/batches/{foreign['batch_id']}").json()["state"]
    assert state == "waiting"


@pytest.fixture(scope="module")
def foreign(service: Service) -> dict[str, str]:
    return write_canaries(service)


def without_fields(page: str) -> str:
    """Leave out what the fields of a form hold: there, people see what they sent."""
    return re.sub(r'value="[^"]*"|<textarea.*?</textarea>', "", page, flags=re.DOTALL)


# Signing in -------------------------------------------------------------------------------------------------------


def test_cookies_are_of_this_host_alone_and_out_of_reach_of_scripts(service: Service, visitor: MakePerson) -> None:
    one = visitor()
    seen = [*one.get("/console/sign-in").headers.get_list("set-cookie")]
    answer = one.post("/console/sign-in", {"key": service.issue("operator")})
    seen += [line for line in answer.headers.get_list("set-cookie") if "Max-Age=0" not in line]
    assert len(seen) == 2
    for line in seen:
        assert line.startswith("__Host-oracle-")
        assert line.endswith("Path=/; Max-Age=86400; Secure; HttpOnly; SameSite=Lax") or "session" in line
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(line.split("; "))
        assert "Domain" not in line


def test_a_session_that_somebody_else_chose_is_not_used(service: Service, visitor: MakePerson) -> None:
    one = visitor()
    one.cookies["__Host-oracle-session"] = chosen = "a" * 43
    one.sign_in(service.issue("operator"))
    assert one.cookies["__Host-oracle-session"] != chosen
    before = one.cookies["__Host-oracle-session"]
    one.get("/console")
    one.post("/console/sign-in", {"key": service.issue("auditor")})
    assert one.cookies["__Host-oracle-session"] != before
    thief = visitor()
    thief.cookies["__Host-oracle-session"] = before
    assert thief.get("/console").status_code == 303


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/", "//evil.example", "/docs", "/console\\@evil", "/consoleX", "/console/../docs",
        "/console/%2e%2E/docs", "/console/./..//evil.example",
    ],
)  # fmt: skip
def test_signing_in_leads_only_to_the_console(service: Service, back: str, visitor: MakePerson) -> None:
    one = visitor()
    one.get("/console/sign-in")
    answer = one.post("/console/sign-in", {"key": service.issue("operator"), "back": back})
    assert answer.headers["location"] == "/console"


def test_signing_in_leads_back_to_the_page_that_was_asked_for(service: Service, visitor: MakePerson) -> None:
    one = visitor()
    asked = one.get("/console/fsps?status=active")
    page = one.follow(asked)
    found = re.search(r'name="back" value="([^"]+)"', page.text)
    assert found is not None
    answer = one.post("/console/sign-in", {"key": service.issue("operator"), "back": found[1]})
    assert answer.headers["location"] == "/console/fsps?status=active"


def test_over_plain_http_from_elsewhere_there_is_no_form(service: Service, visitor: MakePerson) -> None:
    one = visitor(host="oracle.example")
    page = one.get("/console/sign-in")
    assert "plain HTTP" in page.text
    assert 'name="key"' not in page.text
    answer = one.post("/console/sign-in", {"key": service.issue("operator")})
    assert answer.status_code == 303
    assert "__Host-oracle-session" not in one.cookies


def test_the_log_names_a_proxy_that_is_not_listed(service: Service) -> None:
    """Its people see "plain HTTP", though their browsers show https."""
    headers = {"host": "oracle.example", "x-forwarded-proto": "https"}
    for _ in range(3):
        assert "plain HTTP" in httpx.get(f"{service.oracle.admin_url}/console/sign-in", headers=headers).text
    (line,) = service.oracle.find_log_lines(
        "A proxy with TLS is not in ORACLE_ADMIN_PROXIES: people cannot sign in through it"
    )
    assert line["peer"] == "127.0.0.1"


# The end of a session -------------------------------------------------------------------------------------------


def test_a_revoked_key_ends_its_sessions_at_once(service: Service, visitor: MakePerson) -> None:
    key = service.issue("operator")
    one = visitor()
    one.sign_in(key)
    assert one.get("/console/fsps").status_code == 200
    service.operator.post(f"/credentials/{key.split('_')[1]}/revoke", json={"reason": "a test"}).raise_for_status()
    answer = one.get("/console/fsps")
    assert answer.status_code == 303
    assert "__Host-oracle-session" not in one.cookies


def test_a_rotated_key_ends_its_sessions_with_the_old_secret(service: Service, visitor: MakePerson) -> None:
    key = service.issue("operator")
    one = visitor()
    one.sign_in(key)
    service.operator.post(f"/credentials/{key.split('_')[1]}/rotate", json={"graceS": 0}).raise_for_status()
    assert one.get("/console/fsps").status_code == 303


def test_signing_out_ends_the_session_and_everywhere_ends_all(service: Service, visitor: MakePerson) -> None:
    key = service.issue("reader", "greenbank")
    first, second = visitor(), visitor()
    for one in (first, second):
        one.sign_in(key)
    kept = dict(first.cookies)
    first.get("/console")
    assert first.post("/console/sign-out").status_code == 303
    thief = visitor()
    thief.cookies = kept
    assert thief.get("/console").status_code == 303
    assert second.get("/console").status_code == 200
    first.sign_in(key)
    first.get("/console/account")
    assert first.post("/console/account/sessions/end").status_code == 303
    assert second.get("/console").status_code == 303


def test_a_person_ends_one_of_their_own_sessions_and_no_other(service: Service, visitor: MakePerson) -> None:
    key, other = service.issue("operator"), service.issue("operator")
    first, second, stranger = (visitor() for _ in range(3))
    first.sign_in(key)
    second.sign_in(key)
    stranger.sign_in(other)
    stranger.get("/console/account")
    page = first.get("/console/account").text
    label = service.operator.get(f"/credentials/{key.split('_')[1]}").json()["label"]
    assert f">{label}</dd>" in page  # the name of the person
    found = re.search(r"/console/account/sessions/([0-9a-f-]{36})/end", page)
    assert found is not None
    assert stranger.post(found[0]).status_code == 303
    assert second.get("/console").status_code == 200
    first.get("/console/account")
    assert first.post(found[0]).status_code == 303
    assert second.get("/console").status_code == 303
    assert first.get("/console").status_code == 200


def test_a_page_names_the_own_fsp_of_the_person_whatever_its_address_says(person: MakePerson) -> None:
    """Somebody else can have written the address."""
    one = person("dfsp-maker", "greenbank")
    for path in ("/console?fsp=redbank", "/console/account?fsp=redbank", "/console/fsps/redbank"):
        who = one.get(path).text.partition('id="me"')[2].partition("</a>")[0]
        assert "greenbank" in who
        assert "redbank" not in who


def test_a_person_has_a_limited_number_of_streams(service: Service, person: MakePerson) -> None:
    """Each asks the directory every second, and takes one of the requests of its address."""
    (row,) = service.fetch(
        "INSERT INTO verifications (state, directory, asked_by, begun_at, seen_at, runner)"
        " VALUES ('running', false, 'x', now(), now() + interval '1 hour', gen_random_uuid()) RETURNING verification_id"
    )
    path = f"/console/audit/verifications/{row[0]}/events"
    one, other = person("auditor"), person("auditor")
    with ExitStack() as stack:
        opened = [stack.enter_context(one.client.stream("GET", path, headers=cookie_of(one))) for _ in range(21)]
        assert [answer.status_code for answer in opened] == [200] * 20 + [429]
        another = stack.enter_context(other.client.stream("GET", path, headers=cookie_of(other)))
        assert another.status_code == 200
        assert one.get("/console").status_code == 200

    def is_open_again() -> bool:
        with one.client.stream("GET", path, headers=cookie_of(one)) as answer:
            return answer.status_code == 200

    until(is_open_again)


def test_a_person_checks_a_limited_number_of_files_at_once(service: Service, person: MakePerson) -> None:
    """Each check has up to 1 MiB in memory until its file has arrived."""
    one, other = person("dfsp-maker", "greenbank"), person("dfsp-maker", "greenbank")

    def check(who: Person) -> int:
        return who.post("/console/files/check", files={"file": ("x.csv", b"kind,identifier\nALIAS,x\n")}).status_code

    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(begin_check(service, one))
        until(lambda: check(one) == 429)
        assert check(other) == 200
    until(lambda: check(one) == 200)


def begin_check(service: Service, one: Person) -> socket.socket:
    """Send the beginning of a file, and wait."""
    connection = socket.create_connection(("127.0.0.1", service.oracle.admin_port), 30)
    fields = f'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{one.csrf}\r\n'
    file = '--b\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\nkind,identifier\r\n'
    head = (
        f"POST /console/files/check HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie_of(one)['cookie']}\r\n"
        "Sec-Fetch-Site: same-origin\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"
    )
    connection.sendall((head + fields + file).encode())
    return connection


# Addresses without a page ---------------------------------------------------------------------------------------


def list_near() -> list[str]:
    """List the addresses above and below each page, and those that only take forms."""
    found: dict[str, None] = {}
    for page in list_pages().values():
        parts = fill(page).split("/")
        found |= dict.fromkeys("/".join(parts[:stop]) for stop in range(2, len(parts) + 1))
        found[f"{fill(page)}/no/such"] = None
    pages = {fill(page) for page in list_pages().values() if page.method == "GET"}
    return [path for path in found if path not in pages]


def test_each_address_near_a_page_answers_with_a_page(person: MakePerson) -> None:
    one = person("operator")
    seen = set()
    for path in list_near():
        answer = one.client.get(path, headers=cookie_of(one))
        seen.add(answer.status_code)
        assert answer.headers["content-type"].startswith("text/html"), path
        assert answer.status_code != 405 or answer.headers["allow"] == "OPTIONS, POST", path
    assert seen == {404, 405}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/console/aliases/tulipbank", 404), ("GET", "/console/sign-out", 405), ("POST", "/console/fsps", 405),
        ("POST", "/console", 405), ("PUT", "/console/fsps/greenbank", 405), ("DELETE", "/console/nothing", 404),
    ],
)  # fmt: skip
def test_an_address_without_a_page_has_a_page_about_that(
    person: MakePerson, visitor: MakePerson, method: str, path: str, status: int
) -> None:
    one = person("operator")
    answer = one.client.request(method, path, headers=cookie_of(one))
    assert answer.status_code == status
    assert '<nav id="menu"' in answer.text
    assert 'role="alert"' in answer.text
    signed_out = visitor().client.request(method, path)
    assert signed_out.status_code == (303 if method == "GET" else status)
    assert signed_out.headers.get("content-type", "text/html").startswith("text/html")


# Forms of somebody else -----------------------------------------------------------------------------------------

FORMS: Final = [page for page in list_pages().values() if page.method == "POST"]


@pytest.mark.parametrize("page", FORMS, ids=lambda page: page.name)
def test_a_form_of_somebody_else_is_refused(person: MakePerson, page: Page) -> None:
    one = person("operator")
    one.get("/console")
    path = fill(page)
    if page.uploads:
        assert one.client.post(path, files={"file": b"x"}, headers=cookie_of(one)).status_code == 403
        return
    assert one.post(path, {"csrf": ""}).status_code == 403
    assert one.post(path, {"csrf": make_csrf("a" * 43)}).status_code == 403
    assert one.post(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert one.post(path, headers={"sec-fetch-site": "same-site"}).status_code == 403
    assert one.get("/console").status_code == 200  # nothing has happened to the session


def cookie_of(one: Person) -> dict[str, str]:
    return {"cookie": "; ".join(f"{name}={value}" for name, value in one.cookies.items())}


def test_an_old_browser_proves_itself_by_its_origin(service: Service, person: MakePerson) -> None:
    one = person("operator")
    one.get("/console")
    del one.client.headers["sec-fetch-site"]
    data = {"language": "en"}
    assert one.post("/console/language", data, headers={"origin": "https://evil.example"}).status_code == 403
    assert one.post("/console/language", data).status_code == 403
    assert one.post("/console/language", data, headers={"origin": service.oracle.admin_url}).status_code == 303


def test_the_token_of_forms_looks_different_each_time(person: MakePerson) -> None:
    one = person("operator")
    tokens = re.findall(r'(?:value|content)="([\w-]{86})"', one.get("/console").text + one.get("/console").text)
    assert len(tokens) >= 6
    assert len(set(tokens)) == len(tokens)


# Headers, and the way into the API ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/console", "/console/sign-in", "/console/fsps", "/console/nothing", "/console/new-fsp"]
)
def test_no_page_is_kept_framed_or_guessed(person: MakePerson, path: str) -> None:
    headers = person("operator").get(path).headers
    policy = headers["content-security-policy"]
    for part in ("default-src 'self'", "img-src 'self' data:", "base-uri 'none'", "frame-ancestors 'none'",
                 "form-action 'self'"):  # fmt: skip
        assert part in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"


def test_nobody_enters_the_api_as_the_console_does(service: Service, person: MakePerson) -> None:
    """A session opens pages alone: no header, cookie or query makes a call of the API one of the console."""
    one = person("operator")
    for headers in ({**cookie_of(one)}, {"oracle.inside": "operator"}, {"x-oracle-inside": "operator"}):
        answer = httpx.get(f"{service.oracle.admin_url}/admin/v1/fsps", headers=headers)
        assert answer.status_code == 401
    assert httpx.get(f"{service.oracle.admin_url}/admin/v1/fsps?oracle.inside=1").status_code == 401


def test_a_refused_page_is_recorded(service: Service, person: MakePerson) -> None:
    before = service.operator.get("/refusals", params={"limit": 1000}).json()["items"]
    assert person("reader", "greenbank").get("/console/new-fsp").status_code == 403
    after = service.operator.get("/refusals", params={"limit": 1000}).json()["items"]
    new = [one for one in after if one not in before]
    assert [one["status"] for one in new] == [403]


def test_assets_are_small_and_kept_forever(service: Service) -> None:
    page = httpx.get(f"{service.oracle.admin_url}/console/sign-in")
    addresses = re.findall(r'"(/console/assets/[^"]+)"', page.text)
    assert len(addresses) >= 5
    size = len(page.content)
    with httpx.Client(base_url=service.oracle.admin_url) as client:
        for address in addresses:
            with client.stream("GET", address) as answer:
                assert answer.status_code == 200
                assert "immutable" in answer.headers["cache-control"]
                assert answer.headers["content-encoding"] == "gzip"
                size += len(b"".join(answer.iter_raw()))
                again = client.get(address, headers={"if-none-match": answer.headers["etag"]})
                assert again.status_code == 304
        assert client.get(addresses[0].replace("/assets/", "/assets/0")).status_code == 404
    print(f"a first visit: {size:,} bytes")
    assert size <= 60_000


# At the end, because it uses up what this address may fail.
def test_a_wrong_key_gives_one_text_and_too_many_are_429(service: Service, visitor: MakePerson) -> None:
    one = visitor()
    one.get("/console/sign-in")
    statuses = []
    for number in range(FAILURES_MAX + 5):
        answer = one.post("/console/sign-in", {"key": f"aok_{'a' * 12}_{number:064x}"})
        statuses.append(answer.status_code)
        if answer.status_code == 429:
            break
    assert set(statuses) == {401, 429}
    assert int(answer.headers["retry-after"]) >= 1
    assert "Too many attempts" in answer.text
    assert one.post("/console/sign-in", {"key": service.issue("operator")}).status_code == 303  # a valid one works
