"""The admin API /oracles over raw sockets: each row of docs/account-lookup.md, "Admin API /oracles"."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import pytest
import servers
from harness import row
from noise import make_bodies

from oracle.api.dfsp.faults import Fault
from oracle.api.http import HttpServer
from oracle.api.oracles.bodies import read_oracle
from oracle.api.oracles.listener import JSON, LIMITS, OraclesApi
from oracle.store.oracles import TYPES
from oracle.store.postgres import open_postgres
from oracle.telemetry.metrics import Metrics

# The headers of Mojaloop's Testing Toolkit.
TTK = (
    "Accept: application/vnd.interoperability.participants+json;version=1\r\n"
    "Content-Type: application/vnd.interoperability.participants+json;version=1.0\r\n"
    "Date: Sat, 28 Nov 2026 10:00:00 GMT\r\n"
)
EXISTS = "Internal server error - Active oracle with matching partyIdTypeId, endpointTypeId, currencyId already exists"
URL = "http://oracle.example:3000"


class Answered(NamedTuple):
    status: int
    head: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """The status, the code and the description; the answer must hold nothing else."""
        assert "content-type: application/json" in self.head
        (information,) = self.json.values()
        assert information.keys() == {"errorCode", "errorDescription"}
        return self.status, information["errorCode"], information["errorDescription"]


class Admin:
    """The listener on a free port of this machine, and a client of it."""

    def __init__(self, port: int, database_url: str) -> None:
        self.port = port
        self.database_url = database_url

    async def call(self, method: str, target: str, body: Any = None, headers: str = TTK) -> Answered:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: als\r\n{headers}Content-Length: {len(content)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + content)
        received = await reader.read()
        writer.close()
        answered, _, rest = received.partition(b"\r\n\r\n")
        text = answered.decode().lower()
        status = int(text.split(" ")[1])
        if target != "/metrics":
            assert "cache-control: no-cache" in text
        return Answered(status, text, rest)

    async def add(self, party_id_type: str, url: str = URL, **more: Any) -> Answered:
        return await self.call("POST", "/oracles", describe(party_id_type, url, **more))

    async def show(self, query: str = "") -> list[dict[str, Any]]:
        answered = await self.call("GET", f"/oracles{query}")
        assert answered.status == 200
        return list(answered.json)

    async def query(self, statement: str) -> list[Any]:
        db = await asyncpg.connect(self.database_url)
        try:
            return list(await db.fetch(statement))
        finally:
            await db.close()

    async def events(self) -> list[tuple[Any, ...]]:
        rows = await self.query(
            "SELECT action, channel, actor, before->>'url', after->>'url' FROM events"
            " WHERE entity = 'oracle' ORDER BY event_id"
        )
        return [tuple(row) for row in rows]


def describe(party_id_type: str, url: str = URL, **more: Any) -> dict[str, Any]:
    return {"oracleIdType": party_id_type, "endpoint": {"value": url, "endpointType": "URL"}, **more}


@asynccontextmanager
async def open_admin(database_url: str, **limits: int) -> AsyncIterator[Admin]:
    async with open_postgres(database_url) as postgres:
        api = OraclesApi(postgres, Metrics.open(None, "oracles", 0), **limits)
        failed: list[BaseException] = []
        server = HttpServer(api.serve, LIMITS, on_error=failed.append, refusal_fields=JSON)
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        await server.start(sock)
        try:
            yield Admin(port, database_url)
        finally:
            server.close()
            await api.close()
        assert not failed


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[Admin]:
    async with open_admin(database_url) as admin:
        yield admin


@row("O01", "O04", "D902")
async def test_a_hub_is_provisioned_twice_as_the_testing_toolkit_does_it(admin: Admin) -> None:
    for code in ("201", "2001"):
        for party_id_type in TYPES:
            answered = await admin.add(party_id_type, f"{URL}/oracle", currency="MXN", isDefault=True)
            # The check of the toolkit: an error must be 2001, everything else 201.
            if code == "201":
                assert (answered.status, answered.body) == (201, b"")
            else:
                assert answered.error == (409, "2001", EXISTS)
    listed = await admin.show()
    assert [each["oracleIdType"] for each in listed] == list(TYPES)
    shown = (await admin.call("GET", "/oracles?type=MSISDN")).body.decode()
    assert re.sub(r"\d+", "1", shown) == (
        '[{"oracleId":1,"oracleIdType":"MSISDN","endpoint":{"value":"http://oracle.example:1/oracle","endpointType":"URL"},'
        '"currency":"MXN","isDefault":1}]'
    )
    assert await admin.show("?type=MSISDN&currency=MXN") == [
        {
            "oracleId": listed[0]["oracleId"],
            "oracleIdType": "MSISDN",
            "endpoint": {"value": f"{URL}/oracle", "endpointType": "URL"},
            "currency": "MXN",
            "isDefault": 1,
        }
    ]
    assert await admin.events() == [
        ("registered", "account-lookup", "account-lookup-admin", None, f"{URL}/oracle")
    ] * len(TYPES)


@row("O01", "O02", "O03", "O04")
async def test_oracles_are_listed_by_type_and_currency(admin: Admin) -> None:
    assert await admin.show() == []
    await admin.add("MSISDN")
    await admin.add("MSISDN", currency="MXN", isDefault="true")
    await admin.add("EMAIL", f"{URL}/", currency="XTS", isDefault=0, more={"members": ["pass"]})
    everyone = await admin.show()
    assert [(each["oracleIdType"], each.get("currency"), each["isDefault"]) for each in everyone] == [
        ("MSISDN", None, 0), ("MSISDN", "MXN", 1), ("EMAIL", "XTS", 0),
    ]  # fmt: skip
    assert "currency" not in everyone[0]
    assert everyone[2]["endpoint"]["value"] == f"{URL}/"  # as it was registered
    assert await admin.show("?type=MSISDN") == everyone[:2]
    assert await admin.show("?currency=MXN") == everyone[1:2]
    assert await admin.show("?type=EMAIL&currency=MXN") == []
    assert await admin.show("?type=NONE") == []
    assert await admin.show("?currency=mxn") == []
    assert await admin.show("?type=") == []
    surplus = 400, "3103", "Too many elements - /query must NOT have additional properties"
    for query in ("?id=1", "?type=MSISDN&x=", "?Type=MSISDN"):
        assert (await admin.call("GET", f"/oracles{query}")).error == surplus
    twice = 400, "3101", "Malformed syntax - /query/type must be string"
    assert (await admin.call("GET", "/oracles?type=MSISDN&type=EMAIL")).error == twice
    assert (await admin.call("POST", "/oracles?type=MSISDN", describe("IBAN"))).error == surplus


@row("O06", "O07", "D901", "D902")
async def test_a_put_changes_an_oracle_and_keeps_what_it_does_not_name(admin: Admin) -> None:
    await admin.add("MSISDN", currency="MXN", isDefault=True)
    number = (await admin.show())[0]["oracleId"]
    put = f"/oracles/{number}"
    answered = await admin.call("PUT", put, describe("MSISDN", "https://other.example/base"))
    assert (answered.status, answered.body) == (204, b"")
    (changed,) = await admin.show()
    assert (changed["oracleId"], changed["endpoint"]["value"]) == (number, "https://other.example/base")
    assert (changed["currency"], changed["isDefault"]) == ("MXN", 1)
    assert (await admin.call("PUT", put, describe("ALIAS", currency="USD", isDefault=False))).status == 204
    (changed,) = await admin.show()
    assert (changed["oracleIdType"], changed["currency"], changed["isDefault"]) == ("ALIAS", "USD", 0)
    # The same again changes nothing, so history has nothing of it.
    assert (await admin.call("PUT", put, describe("ALIAS"))).status == 204
    assert [event[0] for event in await admin.events()] == ["registered", "changed", "changed"]
    await admin.add("ALIAS", currency="MXN")
    assert (await admin.call("PUT", put, describe("ALIAS", currency="MXN"))).error == (409, "2001", EXISTS)
    missing = 400, "3003", "Add Party information error - Oracle not found"
    for name in (str(number + 1000), "x", "-1", "1.0", "%31%20", "%FF", "9" * 19, "9" * 40):
        assert (await admin.call("PUT", f"/oracles/{name}", describe("ALIAS"))).error == missing
    assert (await admin.call("PUT", put, {"oracleIdType": "ALIAS"})).error[1] == "3102"


@row("O08")
async def test_a_delete_always_answers_204_and_the_oracle_can_be_registered_again(admin: Admin) -> None:
    await admin.add("MSISDN")
    number = (await admin.show())[0]["oracleId"]
    for name in (str(number), str(number), "x", str(number + 1000), "9" * 40):
        answered = await admin.call("DELETE", f"/oracles/{name}")
        assert (answered.status, answered.body) == (204, b"")
    assert await admin.show() == []
    assert (await admin.add("MSISDN")).status == 201
    assert [(event[0], event[3], event[4]) for event in await admin.events()] == [
        ("registered", None, URL), ("removed", URL, None), ("registered", None, URL),
    ]  # fmt: skip


@row("O05")
async def test_bodies_are_refused_with_the_place_of_the_first_error(admin: Admin) -> None:
    one_of = "Generic validation error - /requestBody{} must be equal to one of the allowed values"
    endpoint = {"value": URL, "endpointType": "URL"}
    lacks = "Missing mandatory element - /requestBody{} must have required property '{}'"
    no_object = "Malformed syntax - /requestBody/endpoint must be object"
    wrong: list[tuple[Any, str, str]] = [
        (b"", "3102", lacks.format("", "oracleIdType")),
        (b"{", "3102", lacks.format("", "oracleIdType")),
        (b"\xff\xfe", "3102", lacks.format("", "oracleIdType")),
        (b"[" * 50_000, "3102", lacks.format("", "oracleIdType")),
        ([], "3101", "Malformed syntax - /requestBody must be object"),
        ({"endpoint": endpoint}, "3102", lacks.format("", "oracleIdType")),
        ({"oracleIdType": "MSISDN"}, "3102", lacks.format("", "endpoint")),
        ({"oracleIdType": "CLABE", "endpoint": endpoint}, "3100", one_of.format("/oracleIdType")),
        ({"oracleIdType": "msisdn", "endpoint": endpoint}, "3100", one_of.format("/oracleIdType")),
        ({"oracleIdType": ["MSISDN"], "endpoint": endpoint}, "3100", one_of.format("/oracleIdType")),
        (
            {"oracleIdType": "MSISDN", "endpoint": URL},
            "3101",
            no_object,
        ),
        ({"oracleIdType": "MSISDN", "endpoint": {}}, "3102", lacks.format("/endpoint", "value")),
        ({"oracleIdType": "MSISDN", "endpoint": {"value": URL}}, "3102", lacks.format("/endpoint", "endpointType")),
        (describe("MSISDN", currency="mxn"), "3100", one_of.format("/currency")),
        (describe("MSISDN", currency=None), "3100", one_of.format("/currency")),
        (describe("MSISDN", isDefault="yes"), "3101", "Malformed syntax - /requestBody/isDefault must be boolean"),
        (describe("MSISDN", isDefault=2), "3101", "Malformed syntax - /requestBody/isDefault must be boolean"),
    ]
    for body, code, description in wrong:
        assert (await admin.call("POST", "/oracles", body)).error == (400, code, description), body
    ftp = describe("MSISDN") | {"endpoint": {"value": URL, "endpointType": "FTP"}}
    assert (await admin.call("POST", "/oracles", ftp)).error[2] == one_of.format("/endpoint/endpointType")
    assert await admin.show() == []
    assert (await admin.call("POST", "/oracles", b" " * 100_000)).error[:2] == (413, "3104")


NO_URLS: list[Any] = [
    *("", "oracle", "ftp://oracle", "http:/oracle", "http://", "http:///x", "HTTP//x", "http://a b", "http://a/\n"),
    *("http://a/\x7f", "http://user:secret@oracle", "http://oracle?x=1", "http://oracle/#x", "http://oracle:0"),
    *("http://oracle:65536", "http://oracle:x", "http://[::1", "http://oracle/{{x}}", "http://oräcle"),
    *("javascript:alert(1)", "http://" + "a" * 1_018, 5, None, ["http://a"]),
]


@row("O05")
def test_whatever_a_body_holds_it_is_read_or_refused(complete: bool) -> None:
    words = ("oracleIdType", "endpoint", "value", "endpointType", "URL", "currency", "isDefault", "MSISDN", "http://a")
    refused, lengths = Counter[str](), set[int]()
    for body in make_bodies(words, 100_000 if complete else 3_000):
        try:
            read_oracle(body)
        except Fault as fault:
            refused[fault.code] += 1
            lengths.add(len(fault.description))
    assert refused.keys() == {"3100", "3101", "3102"}
    assert max(lengths) <= 128


@row("D903", "D904")
async def test_a_text_that_is_no_base_url_is_refused_and_not_repeated(admin: Admin) -> None:
    for url in NO_URLS:
        status, code, description = (await admin.add("MSISDN", url)).error
        assert (status, code in ("3100", "3101")) == (400, True), url
        assert re.match(r"[\w ]+ - /requestBody/endpoint/value must ", description)
        assert "secret" not in description
    assert await admin.show() == []


async def test_a_base_url_is_accepted_and_shown_as_it_was_sent(admin: Admin) -> None:
    urls = ["http://a", "https://a.B-c.example:8444/x/y", "http://[::1]:3000", "http://10.0.0.1/"]
    for party_id_type, url in zip(TYPES, urls, strict=False):
        assert (await admin.add(party_id_type, url)).status == 201
    assert [each["endpoint"]["value"] for each in await admin.show()] == urls


@row("O09", "O12", "D919")
async def test_paths_methods_and_the_accept_header_are_checked_first(admin: Admin) -> None:
    unknown = 404, "3002", "Unknown URI - Not Found"
    for target in (
        "/",
        "/oracles/",
        "/oracles/1/",
        "/oracles/1/2",
        "/oracle",
        "//oracles",
        "/endpointcache",
        "/documentation",
    ):
        assert (await admin.call("GET", target)).error == unknown, target
    not_allowed = 405, "3000", "Generic client error - Method Not Allowed"
    for method, target, allowed in (
        ("PUT", "/oracles", "get, post"), ("OPTIONS", "/oracles", "get, post"), ("GET", "/oracles/1", "put, delete"),
        ("POST", "/oracles/1", "put, delete"), ("POST", "/health", "get"), ("DELETE", "/metrics", "get"),
    ):  # fmt: skip
        answered = await admin.call(method, target)
        assert answered.error == not_allowed
        assert f"allow: {allowed}\r\n" in answered.head
    assert (await admin.call("HEAD", "/oracles")).status == 405
    bad = 400, "3000", "Generic client error - Bad Request"
    assert (await admin.call("PUT", "/oracles/%zz", describe("MSISDN"))).error == bad
    lacks = 400, "3102", "Missing mandatory element - /header must have required property 'accept'"
    for method, target in (
        ("GET", "/oracles?x=1"),
        ("POST", "/oracles"),
        ("PUT", "/oracles/1"),
        ("DELETE", "/oracles/1"),
    ):
        assert (await admin.call(method, target, headers="")).error == lacks
    # Any value will do, and no other header is required.
    assert (
        await admin.call("POST", "/oracles", describe("IBAN"), headers="accept: x\r\ndate: never\r\n")
    ).status == 201


@row("D915")
async def test_a_web_page_in_the_browser_of_an_operator_cannot_call(admin: Admin) -> None:
    refused = 403, "3000", "Generic client error - Web pages cannot call this API"
    body = describe("MSISDN")
    # What browsers send: for a form or a script of another site, and for a page whose name now leads to this machine.
    for line in ("Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: same-origin"):
        headers = f"Accept: */*\r\nContent-Type: text/plain\r\n{line}\r\n"
        assert (await admin.call("POST", "/oracles", body, headers=headers)).error == refused
        assert (await admin.call("GET", "/oracles", headers=headers)).error == refused
    assert await admin.show() == []
    typed = "Accept: text/html\r\nSec-Fetch-Site: none\r\n"  # a person who types the address
    assert (await admin.call("GET", "/oracles", headers=typed)).status == 200


@row("O10", "O11")
async def test_health_and_metrics_are_reported(admin: Admin) -> None:
    answered = await admin.call("GET", "/health", headers="")
    assert answered.status == 200
    assert answered.json.keys() == {"status", "uptime", "startTime", "versionNumber", "services"}
    assert answered.json["services"] == [{"name": "datastore", "status": "OK"}]
    assert re.fullmatch(r"[\d-]+T[\d:]+\.\d{3}Z", answered.json["startTime"])
    page = await admin.call("GET", "/metrics", headers="")
    assert b'moja_oracle_http_requests_total{method="GET"} 2.0' in page.body


@row("D905")
async def test_changes_in_an_hour_are_bounded(database_url: str) -> None:
    async with open_admin(database_url, changes_hour_max=3) as admin:
        assert [(await admin.add(kind)).status for kind in ("MSISDN", "EMAIL", "EMAIL")] == [201, 201, 409]
        full = 503, "2005", "Server busy - At most 3 changes in an hour; try again later"
        assert (await admin.add("IBAN")).error == full
        assert (await admin.call("DELETE", "/oracles/1")).error == full
        assert len(await admin.show()) == 2


@row("D905")
async def test_oracles_are_bounded(admin: Admin) -> None:
    await admin.query(
        "INSERT INTO oracles (party_id_type, currency, url) SELECT 'IBAN', 'A' || chr(65 + n / 26) || chr(65 + n % 26),"
        " 'http://a' FROM generate_series(0, 499) n"
    )
    full = 409, "3003", "Add Party information error - At most 500 oracles can be registered; remove some first"
    assert (await admin.add("MSISDN")).error == full


@row("O10", "O13")
async def test_nothing_of_the_inside_is_shown_while_postgresql_is_away() -> None:
    nobody = f"postgresql://secret@127.0.0.1:{servers.free_port()}/oracle"
    async with open_admin(nobody) as admin:
        away = 503, "2003", "Service currently unavailable - The directory is not available; try again later"
        assert (await admin.call("GET", "/oracles")).error == away
        assert (await admin.add("EMAIL")).error == away
        health = await admin.call("GET", "/health")
        assert (health.status, health.json["status"]) == (503, "DOWN")
        assert health.json["services"] == [{"name": "datastore", "status": "DOWN"}]
