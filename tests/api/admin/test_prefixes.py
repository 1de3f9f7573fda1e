"""The list of prefixes, as the client of ThitsaWorks' Pivotal expects it."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from collections import Counter
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from oracle_process import until

from oracle.api.admin.bodies import SharedBody
from oracle.api.admin.prefixes import LOGO_CHARS_MAX, PrefixList, _Element, _List, _place_logos
from oracle.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from admin_service import Service

WITHOUT_HUB = True  # see admin_service

MEMBERS = {
    "id": int, "prefix": int, "fspId": str, "createdAt": str, "status": str, "localeName": str, "dfspType": str,
    "additionalInfo": str, "logoDataType": str, "logoBase64": str, "name": str,
}  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
RULES = """\
kind;prefix;fspId;validFrom
ACCOUNT_ID;120;wallet;
ACCOUNT_ID;002;wallet;
ACCOUNT_ID;12A;wallet;
ACCOUNT_ID;1234567890123456;wallet;
ACCOUNT_ID;130;shut;
ACCOUNT_ID;140;greenbank;2099-01-01T00:00:00Z
CLABE;646180;provisional;
MSISDN;95;wallet;
"""


class Pivotal:
    """What its PrefixOracleClient does: GET, JSON, 404."""

    def __init__(self, endpoint: str) -> None:
        self.client = httpx.Client(base_url=endpoint, timeout=30)

    def all(self) -> list[dict[str, Any]]:
        answer = self.client.get("/prefixes")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        found: list[dict[str, Any]] = answer.json()
        return found

    def by_use_case(self, use_case: str) -> list[dict[str, Any]] | None:
        answer = self.client.get(f"/prefixesByUseCase/{use_case}")
        assert answer.status_code in (200, 404)
        return None if answer.status_code == 404 else answer.json()


@pytest.fixture(scope="module")
def pivotal(service: Service) -> Iterator[Pivotal]:
    operator = service.operator
    wallet = {
        "fspId": "wallet", "name": "Demo Wallet", "localeName": "ဒီမို", "dfspType": "wallet", "additionalInfo": "{}",
        "useCases": ["PERSON_TO_PERSON"],
    }  # fmt: skip
    operator.post("/fsps", json=wallet).raise_for_status()
    operator.post("/fsps", json={"fspId": "idle", "useCases": ["BILLS"]}).raise_for_status()
    operator.post("/fsps", json={"fspId": "shut", "useCases": ["PERSON_TO_PERSON"]}).raise_for_status()
    operator.put("/fsps/wallet/logo", content=PNG).raise_for_status()
    made = operator.post("/routes/import", params={"unknownFsps": "create"}, content=RULES.encode())
    assert made.json()["fspsCreated"] == ["provisional"], made.text
    operator.post("/fsps/shut/status", json={"status": "suspended", "reason": "a test"}).raise_for_status()
    pivotal = Pivotal(f"{service.oracle.admin_url}/admin-api")
    until(lambda: {each["fspId"] for each in pivotal.all()} == {"wallet", "provisional"})
    yield pivotal
    pivotal.client.close()


def test_every_element_has_the_members_of_the_client_in_their_types(pivotal: Pivotal) -> None:
    for element in pivotal.all():
        assert {name: type(value) for name, value in element.items()} == MEMBERS
        assert list(element) == list(MEMBERS)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", element["createdAt"])
        assert element["status"] == "active"


def test_the_list_has_the_valid_routes_for_account_numbers_of_answered_fsps(pivotal: Pivotal) -> None:
    assert [(each["prefix"], each["fspId"]) for each in pivotal.all()] == [
        (2, "wallet"), (120, "wallet"), (646180, "provisional"),
    ]  # fmt: skip
    ids = [each["id"] for each in pivotal.all()]
    assert len(set(ids)) == len(ids)


def test_an_element_shows_the_data_of_its_fsp_or_empty_text(pivotal: Pivotal) -> None:
    first, _, last = pivotal.all()
    assert (first["name"], first["localeName"], first["dfspType"]) == ("Demo Wallet", "ဒီမို", "wallet")
    assert (first["logoDataType"], base64.b64decode(first["logoBase64"])) == ("image/png", PNG)
    assert (last["name"], last["localeName"]) == ("provisional", "provisional")
    assert {last[name] for name in ("dfspType", "additionalInfo", "logoDataType", "logoBase64")} == {""}


def test_a_use_case_has_its_prefixes_and_an_unknown_one_is_404(pivotal: Pivotal) -> None:
    found = pivotal.by_use_case("PERSON_TO_PERSON")
    assert found is not None
    assert [each["prefix"] for each in found] == [2, 120]
    assert pivotal.by_use_case("BILLS") == []
    for unknown in ("nobody", "person_to_person", "%2F", "%00", "%20", "x" * 1000, "%FF", "..%2Fprefixes"):
        assert pivotal.by_use_case(unknown) is None
    error = pivotal.client.get("/prefixesByUseCase/nobody").json()
    assert error["code"] == "not_found"


def test_an_unchanged_list_is_not_sent_again(pivotal: Pivotal) -> None:
    etag = pivotal.client.get("/prefixes").headers["etag"]
    again = pivotal.client.get("/prefixes", headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert pivotal.client.get("/prefixesByUseCase/BILLS", headers={"If-None-Match": etag}).status_code == 200


def test_no_other_path_is_public_there(pivotal: Pivotal) -> None:
    assert pivotal.client.post("/prefixes").status_code == 405
    assert pivotal.client.get("/").status_code == 404


async def test_the_list_is_read_once_in_a_while_however_many_ask() -> None:
    class Postgres:
        reads = 0

        async def stream(self, _: str) -> Any:
            self.reads += 1
            yield []

        async def rows(self, *_: Any) -> list[Any]:
            return []

    now = [0.0]
    postgres: Any = Postgres()
    prefixes = PrefixList(lambda: now[0])
    for now[0] in (0.0, 0.5, 0.99, 1.0, 1.5):
        await prefixes.current(postgres)
    assert postgres.reads == 2


def test_one_picture_never_makes_gigabytes() -> None:
    rows = [{"fsp_id": "big"}] * 1000 + [{"fsp_id": "small"}] * 3
    logos = {"big": "x" * 20_000, "small": "y"}
    shown = _place_logos(rows, logos)
    assert [len(logo) for logo in shown] == [20_000, *[0] * 999, 1, 0, 0]
    assert _place_logos(rows[-3:], logos) == ["y"] * 3
    assert sum(
        map(len, _place_logos([{"fsp_id": str(n)} for n in range(200)], {str(n): logos["big"] for n in range(200)}))
    ) <= (LOGO_CHARS_MAX)


def test_all_answers_share_one_body_in_each_form_and_none_is_sent_twice(pivotal: Pivotal) -> None:
    url = str(pivotal.client.base_url)
    root = url.removesuffix("/admin-api/")
    for path in ("/admin-api/prefixes", "/admin-api/prefixesByUseCase/BILLS", "/openapi.json", "/docs/hub.openapi.json",
                 "/docs", "/docs/errors", "/docs/assets/docs.css"):  # fmt: skip
        tags = set()
        plain, *others = [
            httpx.get(root + path, headers={"Accept-Encoding": accepted})
            for accepted in ("identity", "gzip", "br, gzip;q=0.5", "gzip;q=0", "gzip;q=0.0, br")
        ]
        for answer, form in zip(others, ("gzip", "gzip", None, None), strict=True):
            assert (answer.status_code, answer.headers.get("content-encoding")) == (200, form)
            assert answer.content == plain.content
            assert answer.headers["vary"] == "Accept-Encoding"
            tags.add(answer.headers["etag"])
            again = answer.request.headers.copy()
            again["If-None-Match"] = f'"another", W/{answer.headers["etag"]}'
            unchanged = httpx.get(root + path, headers=again)
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            assert unchanged.headers["etag"] == answer.headers["etag"]
        assert len(tags) == 2


def test_answers_that_nobody_reads_have_few_places_and_share_their_bytes(service: Service, pivotal: Pivotal) -> None:
    """A list of 4 MB, asked for 100 times by one client that reads nothing."""
    url = httpx.URL(service.oracle.admin_url)
    long = "x" * 1024
    service.operator.patch("/fsps/wallet", json={"additionalInfo": long}).raise_for_status()
    rules = "kind;prefix;fspId;validFrom\n" + "".join(f"ACCOUNT_ID;{n};wallet;\n" for n in range(200_000, 203_000))
    service.operator.post("/routes/import", content=rules.encode()).raise_for_status()
    until(lambda: len(pivotal.all()) > 3_000)
    (worker,) = service.oracle.workers("admin")
    before = worker.memory_info().rss
    with ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((url.host, url.port))
            client.sendall(b"GET /admin-api/prefixes HTTP/1.1\r\nHost: oracle\r\n\r\n")
        refused = until_status(pivotal, 503)
        assert (refused.headers["retry-after"], refused.json()["code"]) == ("1", "unavailable")
        assert service.operator.get("/fsps/wallet").status_code == 200
        assert worker.memory_info().rss - before < 50 * 1_048_576
    until_status(pivotal, 200)


def test_an_answer_that_the_kernel_could_keep_whole_takes_a_place_too(service: Service, pivotal: Pivotal) -> None:
    """Of 1.7 MB, so less than the 4 MiB that a socket may grow to."""
    url = httpx.URL(service.oracle.admin_url)
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((url.host, url.port))
            client.sendall(b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: oracle\r\n\r\n")
        until_status(pivotal, 503)
        # It lasts: no answer is given to the kernel whole.
        assert {pivotal.client.get("/prefixes").status_code for _ in range(100)} == {503}
    until_status(pivotal, 200)


class Counted(_List):
    """Counts the bodies that it makes."""

    made = 0

    def _make_body(self, use_case: str | None) -> SharedBody:
        self.made += 1
        return super()._make_body(use_case)


async def ask_at_once(prefixes: _List, use_cases: list[str]) -> Counter[str]:
    """Ask from one address, with clients that read nothing before all have asked; count the outcomes."""
    here = asyncio.Barrier(len(use_cases))

    async def ask(use_case: str) -> str:
        waited = False

        async def send(_: Any) -> None:
            nonlocal waited
            if not waited:
                waited = True
                await here.wait()

        request: Any = SimpleNamespace(headers={"accept-encoding": "gzip"}, state=SimpleNamespace(address="client"))
        whole: Any = (await prefixes.answer(request, use_case)).to_asgi_response(None, request)
        try:
            await whole({"type": "http", "method": "GET"}, None, send)
        except Overloaded:
            await here.wait()
            return "refused"
        return "sent"

    return Counter(await asyncio.gather(*map(ask, use_cases)))


@pytest.mark.parametrize(("use_cases", "made"), [(["A"], 1), ([f"U{n}" for n in range(40)], 16)])
async def test_a_body_is_made_once_and_only_for_an_answer_that_has_a_place(use_cases: list[str], made: int) -> None:
    prefixes = Counted([_Element(frozenset(use_cases), b"{}")], frozenset(use_cases))
    asked = (use_cases * 40)[:40]
    assert await ask_at_once(prefixes, asked) == {"sent": 16, "refused": 24}
    assert prefixes.made == made


def until_status(pivotal: Pivotal, wanted: int) -> httpx.Response:
    answers: list[httpx.Response] = []

    def ask() -> bool:
        answers.append(pivotal.client.get("/prefixes"))
        return answers[-1].status_code == wanted

    until(ask)
    return answers[-1]


@pytest.mark.parametrize(("size", "status"), [(16_384, 200), (16_385, 400), (262_144, 400)])
def test_a_logo_has_at_most_16_kib(service: Service, size: int, status: int) -> None:
    answer = service.operator.put("/fsps/idle/logo", content=PNG.ljust(size, b"x"))
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["detail"] == f"The logo has {size:,} bytes; at most 16,384 (16 KiB) are allowed"
