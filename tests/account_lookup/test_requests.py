"""What the listener answers at once: paths, methods, headers, bodies (docs/account-lookup.md, sections 1 and 2)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio
import servers
from certificates import Authority, Identity
from harness import HOST, Bench, Message, Reply, make_headers, open_bench, read_message, row

from oracle.api.tls import Tls
from oracle.run.tls import Credentials, make_context

if TYPE_CHECKING:
    from oracle.run.embedded import PostgresServer, ValkeyServer

PARTY: Final = "/MSISDN/525512345678"
PARTICIPANT: Final = f"/participants{PARTY}"
PARTIES: Final = f"/parties{PARTY}"
FSP: Final = {"fspId": "payerfsp"}
ERROR: Final = {"errorInformation": {"errorCode": "3204", "errorDescription": "Party not found"}}
ANSWER: Final = {"party": {"partyIdInfo": {"partyIdType": "MSISDN", "partyIdentifier": "525512345678"}}}
REQUEST_ID: Final = "b51ec534-ee48-4575-b6a9-ead2955b8069"
ITEM: Final = {"partyIdType": "MSISDN", "partyIdentifier": "525512345678"}
AGENT: Final = {"Agt": {"FinInstnId": {"Othr": {"Id": "payeefsp"}}}}
REPORT: Final[dict[str, Any]] = {
    "Assgnmt": {
        "MsgId": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "CreDtTm": "2026-11-28T04:54:43.542Z", "Assgnr": AGENT, "Assgne": AGENT,
    },
    "Rpt": {"OrgnlId": "01ARZ3NDEKTSV4RRFFQ69G5FAW", "Vrfctn": True},
}  # fmt: skip
BULK: Final[dict[str, Any]] = {"requestId": REQUEST_ID, "partyList": [ITEM]}
LENGTH: Final = "must NOT have more than 32 characters"
EMPTY: Final = "must NOT have fewer than 1 characters"
ALLOWED: Final = "must be equal to one of the allowed values"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(postgres_template: PostgresServer, valkey_server: ValkeyServer) -> AsyncIterator[Bench]:
    name = await servers.make_database(postgres_template)
    async with open_bench(postgres_template.url(name), valkey_server.url()) as opened:
        yield opened
    await servers.drop_database(postgres_template, name)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(shared: Bench) -> AsyncIterator[Bench]:
    yield shared
    await shared.settle()
    shared.renew()
    assert not shared.defects


def check_error(reply: Message, status: int, code: str, description: str) -> None:
    """Check status, code and description of a refusal, and the headers of every refusal."""
    assert (reply.status, *reply.error) == (status, code, description), reply
    headers = reply.headers
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert reply.json.keys() == {"errorInformation"}


def check_empty(reply: Message, status: int) -> None:
    assert (reply.status, reply.body) == (status, b""), reply
    headers = reply.headers
    assert headers.keys() == {"cache-control", "content-length", "date", "connection"}
    assert (headers["cache-control"], headers["content-length"]) == ("no-cache", "0")


@row("N01", "N02", "N03", "N04", "N05", "N08", "N09", "N10", "N11", "N16", "C23", "C36")
async def test_what_is_accepted_is_answered_without_a_body(bench: Bench) -> None:
    more = {"anything": [1], "fspId": "payerfsp"}
    for sub_id in ("", "/S1", f"/{'9' * 129}"):
        participant, party = PARTICIPANT + sub_id, PARTIES + sub_id
        check_empty(await bench.ask("GET", participant), 202)
        check_empty(await bench.ask("POST", participant, more), 202)
        check_empty(await bench.ask("PUT", participant, more), 200)
        check_empty(await bench.ask("DELETE", participant), 202)
        check_empty(await bench.ask("PUT", f"{participant}/error", ERROR), 200)
        check_empty(await bench.ask("GET", party), 202)
        check_empty(await bench.ask("PUT", party, ANSWER), 200)
        check_empty(await bench.ask("PUT", f"{party}/error", ERROR), 200)
    check_empty(await bench.ask("POST", "/participants", BULK | more), 200)
    await bench.settle()


@row("N06", "N07", "C32", "D101")
async def test_an_answer_to_a_bulk_is_not_implemented(bench: Bench) -> None:
    target = f"/participants/{REQUEST_ID}"
    check_error(await bench.ask("PUT", target, {"partyList": [{"partyId": ITEM}]}), 501, "2002", "Not implemented")
    check_error(await bench.ask("PUT", f"{target}/error", ERROR), 501, "2002", "Not implemented")
    start = "/requestBody"
    for body, code, description in (
        ({"partyList": []}, "3100", f"Generic validation error - {start}/partyList must NOT have fewer than 1 items"),
        ({}, "3102", f"Missing mandatory element - {start} must have required property 'partyList'"),
        ({"partyList": {}}, "3101", f"Malformed syntax - {start}/partyList must be array"),
    ):
        check_error(await bench.ask("PUT", target, body), 400, code, description)


@row("N12")
async def test_the_endpoints_are_forgotten_without_any_header(bench: Bench) -> None:
    check_empty(await bench.ask_with("DELETE", "/endpointcache", []), 202)
    reply = await bench.ask_with("GET", "/endpointcache", [])
    check_error(reply, 405, "3000", "Generic client error - Method Not Allowed")


@row("N13")
async def test_health_and_metrics_need_no_header(bench: Bench) -> None:
    health = await bench.ask_with("GET", "/health", [])
    assert health.status == 200
    assert {"status", "uptime", "startTime", "versionNumber", "services"} <= health.json.keys()
    assert {"name": "datastore", "status": "OK"} in health.json["services"]
    metrics = await bench.ask_with("GET", "/metrics", [])
    assert metrics.status == 200
    assert b"moja_oracle_http_requests_total" in metrics.body


@row("N14", "D103")
async def test_another_method_on_a_known_path_is_405(bench: Bench) -> None:
    one = "DELETE, GET, POST, PUT"
    for method, target, allowed in (
        ("PATCH", PARTICIPANT, one),
        ("OPTIONS", PARTICIPANT, one),
        ("PATCH", f"{PARTICIPANT}/S1", one),
        ("GET", "/participants", "POST"),
        ("DELETE", "/participants", "POST"),
        ("GET", "/participants/MSISDN", "PUT"),
        ("GET", f"{PARTICIPANT}/S1/error", "PUT"),
        ("POST", PARTIES, "GET, PUT"),
        ("DELETE", PARTIES, "GET, PUT"),
        ("POST", "/parties", ""),
        ("POST", "/health", "GET"),
    ):
        reply = await bench.ask(method, target)
        check_error(reply, 405, "3000", "Generic client error - Method Not Allowed")
        assert reply.headers["allow"] == allowed, (method, target)
    head = await bench.ask("HEAD", PARTIES)
    assert (head.status, head.body) == (405, b"")
    assert int(head.headers["content-length"]) > 0


@row("N15", "D102")
async def test_another_path_is_404(bench: Bench) -> None:
    for target in (
        "/documentation", "/swagger.json", "/", "/nothing",
        "/Participants/MSISDN/1", "/participants/", f"{PARTICIPANT}/", "/participants//1",
        "/participants/MSISDN//S1", "/parties/MSISDN", "/parties/MSISDN/", f"/{PARTICIPANT}", "/health/",
        f"{PARTICIPANT}/S1/T1", f"{PARTICIPANT}/S1/T1/error", "/parties/MSISDN/1/2/3/4",
    ):  # fmt: skip
        check_error(await bench.ask("GET", target), 404, "3002", "Unknown URI - Not Found")


@row("N18", "D105")
async def test_a_connection_takes_one_request_after_the_other(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection(HOST, bench.port)
    for target, status in ((PARTIES, 202), ("/nothing", 404), (PARTIES, 202)):
        lines = "".join(f"{name}: {value}\r\n" for name, value in make_headers(PARTIES).items())
        writer.write(f"GET {target} HTTP/1.1\r\nhost: a\r\n{lines}\r\n".encode())
        reply = await read_message(reader)
        assert (reply.status, reply.headers["connection"]) == (status, "keep-alive")
        assert "keep-alive" not in reply.headers  # no time after which the connection ends
    writer.close()


@row("D104")
async def test_what_is_no_http_is_refused_with_a_reason(bench: Bench) -> None:
    for data in (b"GET / HTTP/9.9\r\n\r\n", b"hello\r\n\r\n", b"GET /parties/MSISDN/1 HTTP/1.1\r\na b: c\r\n\r\n"):
        reply = await bench.send(data)
        assert (reply.status, reply.error[0]) == (400, "3101")


@row("C01")
async def test_a_path_that_cannot_be_decoded_is_refused(bench: Bench) -> None:
    for identifier in ("%zz", "1%", "%c3%28", "%ff", "%e0%80%80"):
        for target in (f"/participants/MSISDN/{identifier}", f"/parties/MSISDN/1/{identifier}", f"/x/{identifier}"):
            check_error(await bench.ask("GET", target), 400, "3000", "Generic client error - Bad Request")


@row("C02", "D205")
async def test_a_header_that_decides_is_there_once(bench: Bench) -> None:
    for name in (
        "fspiop-source",
        "Fspiop-Destination",
        "FSPIOP-Proxy",
        "x-client-id",
        "accept",
        "content-type",
        "date",
    ):
        good = [f"{key}: {value}" for key, value in make_headers(PARTIES).items() if key != name.lower()]
        reply = await bench.ask_with("GET", PARTIES, [*good, f"{name}: payerfsp", f"{name.upper()}: payerfsp"])
        check_error(reply, 400, "3101", f"Malformed syntax - The header {name.lower()} is there twice")


@row("C03", "C04", "C05", "C06", "C07", "D207")
async def test_the_gateway_binds_the_source(database_url: str, redis_url: str) -> None:
    source = "Generic validation error - Invalid fspiop-source header"
    proxy = "Generic validation error - Invalid fspiop-proxy header"
    missing = "Missing mandatory element - x-client-id is required"
    cases: list[tuple[str, Mapping[str, str | None], tuple[str, str] | None]] = [
        ("optional", {}, None),
        ("optional", {"x-client-id": "payerfsp"}, None),
        ("optional", {"X-Client-ID": " payerfsp "}, None),
        ("optional", {"x-client-id": "payeefsp"}, ("3100", source)),
        ("optional", {"x-client-id": "payerfsp", "fspiop-source": None}, ("3100", source)),
        ("optional", {"x-client-id": "proxya", "fspiop-source": "foreign", "fspiop-proxy": "proxya"}, None),
        ("optional", {"x-client-id": "payerfsp", "fspiop-proxy": "payeefsp"}, ("3100", proxy)),
        ("optional", {"x-client-id": "payerfsp", "fspiop-proxy": "payerfsp"}, ("3100", proxy)),
        ("required", {}, ("3102", missing)),
        ("required", {"x-client-id": ""}, ("3102", missing)),
        ("required", {"x-client-id": "payerfsp"}, None),
        ("off", {"x-client-id": "payeefsp"}, None),
    ]
    for demand in ("optional", "required", "off"):
        async with open_bench(database_url, redis_url, account_lookup_client_id=demand) as bench:
            await bench.add("proxya", is_proxy=True)
            for _, headers, error in (case for case in cases if case[0] == demand):
                reply = await bench.ask("GET", PARTIES, headers=headers)
                if error is None:
                    check_empty(reply, 202)
                else:
                    check_error(reply, 400, *error)
    other = {"account_lookup_client_header": "X-Verified-Subject", "account_lookup_client_id": "required"}
    async with open_bench(database_url, redis_url, **other) as bench:
        reply = await bench.ask("GET", PARTIES, headers={"x-client-id": "payerfsp"})
        check_error(reply, 400, "3102", "Missing mandatory element - X-Verified-Subject is required")
        check_error(await bench.ask("GET", PARTIES, headers={"x-verified-subject": "payeefsp"}), 400, "3100", source)
        check_empty(
            await bench.ask("GET", PARTIES, headers={"x-verified-subject": "payerfsp", "x-client-id": "x"}), 202
        )


@row("C44")
async def test_a_client_certificate_binds_the_source(database_url: str, redis_url: str, tmp_path: Path) -> None:
    scheme, host = Authority(tmp_path, "scheme"), Authority(tmp_path, "host")
    host.make("listener", HOST)
    text = {one: (tmp_path / one).read_text() for one in ("listener.crt", "listener.key", "scheme.pem")}
    context = make_context(Credentials(text["listener.crt"], text["listener.key"], 0, text["scheme.pem"]))
    source = "Generic validation error - Invalid fspiop-source header"
    proxy = "Generic validation error - Invalid fspiop-proxy header"
    missing = "Missing mandatory element - a client certificate with one common name is required"
    both = scheme.make("both", common_names=("payerfsp", "payeefsp"))
    foreign = {"fspiop-source": "foreign", "fspiop-proxy": "proxya"}
    cases: list[tuple[Identity | None, Mapping[str, str | None], tuple[str, str] | None]] = [
        (scheme.make("payerfsp"), {}, None),
        (scheme.make("payerfsp"), {"x-client-id": "payeefsp"}, None),
        (scheme.make("host", "payerfsp", common_names=("payeefsp",)), {}, ("3100", source)),  # only the common name
        (scheme.make("payeefsp"), {"x-client-id": "payerfsp"}, ("3100", source)),
        (scheme.make("PayerFSP"), {}, ("3100", source)),
        (scheme.make("proxya"), foreign, None),
        (scheme.make("payerfsp"), foreign, ("3100", proxy)),
        (both, {}, ("3102", missing)),
        (None, {}, ("3102", missing)),
        (None, {"x-client-id": "payerfsp"}, ("3102", missing)),
    ]
    settings = {"account_lookup_client_id": "certificate", "tls": Tls(context, "account-lookup")}
    async with open_bench(database_url, redis_url, **settings) as bench:
        await bench.add("proxya", is_proxy=True)
        for identity, headers, error in cases:
            bench.client_tls = ssl.create_default_context(cafile=host.file)
            if identity is not None:
                bench.client_tls.load_cert_chain(*identity)
            reply = await bench.ask("GET", PARTIES, headers=headers)
            if error is None:
                check_empty(reply, 202)
            else:
                check_error(reply, 400, *error)


ACCEPT_VERSION: Final = (
    "Unacceptable version requested - The Client requested an unsupported version, see extension list for supported"
    " version(s)."
)
ACCEPT_LIST: Final = [("1", "0"), ("1", "1"), ("2", "0")]
TYPE_VERSION: Final = (
    "Unacceptable version requested - Client supplied a protocol version which is not supported by the server"
)
TYPE_LIST: Final = [("1", "1"), ("1", "0"), ("2", "0")]
FORM: Final = "application/vnd.interoperability.parties+json"


def check_versions(reply: Message, description: str, versions: list[tuple[str, str]]) -> None:
    check_error(reply, 406, "3001", description[:128])
    listed = reply.json["errorInformation"]["extensionList"]["extension"]
    assert [(one["key"], one["value"]) for one in listed] == versions


@row("C08", "C09", "C10")
async def test_accept(bench: Bench) -> None:
    required = "Missing mandatory element - Accept is required"
    for method, target, body in (("GET", PARTIES, b""), ("DELETE", PARTICIPANT, b""), ("POST", PARTICIPANT, FSP)):
        check_error(await bench.ask(method, target, body, headers={"accept": None}), 400, "3102", required)
        check_error(await bench.ask(method, target, body, headers={"accept": ""}), 400, "3102", required)
    check_empty(await bench.ask("PUT", PARTIES, ANSWER, headers={"accept": None}), 200)
    invalid = "Malformed syntax - Invalid accept header"
    check_error(await bench.ask("PUT", PARTIES, ANSWER, headers={"accept": "*/*"}), 400, "3101", invalid)
    for accept in (
        "*/*", "application/json", "application/vnd.interoperability.participants+json;version=1",
        f"{FORM};version=1, */*",
        f"{FORM};version=1,{FORM};version=2", f"{FORM};version=", f"{FORM};version=1.", f"{FORM};version=1;q=0.5",
        f"{FORM};  version=1", FORM.upper(), "application/vnd.interoperability.iso20022.parties+json;version=2.0",
        f"x{FORM};version=1",
    ):  # fmt: skip
        check_error(await bench.ask("GET", PARTIES, headers={"accept": accept}), 400, "3101", invalid)
    for version in ("1", "1.0", "1.1", "2", "2.0", "3,2.0"):
        check_empty(await bench.ask("GET", PARTIES, headers={"accept": f"{FORM};version={version}"}), 202)
        check_empty(await bench.ask("GET", PARTIES, headers={"accept": f" {FORM}; version={version} "}), 202)
    for accept in (FORM, f"{FORM};version=3", f"{FORM};version=1.2", f"{FORM};version=01", f"{FORM};version=3,4"):
        check_versions(await bench.ask("GET", PARTIES, headers={"accept": accept}), ACCEPT_VERSION, ACCEPT_LIST)


@row("C11", "C12")
async def test_date(bench: Bench) -> None:
    required = "Missing mandatory element - Missing required date header"
    check_error(await bench.ask("GET", PARTIES, headers={"date": None}), 400, "3102", required)
    check_error(await bench.ask("PUT", PARTIES, ANSWER, headers={"date": ""}), 400, "3102", required)
    assert datetime(2026, 11, 28, tzinfo=UTC).strftime("%a") == "Sat"
    for date in ("Sat, 28 Nov 2026 04:54:43 GMT", "Thu, 29 Feb 1996 00:00:00 GMT"):
        check_empty(await bench.ask("GET", PARTIES, headers={"date": date}), 202)
    for date in (
        "Mon, 28 Nov 2026 04:54:43 GMT", "Sat, 28 Nov 2026 04:54:43 gmt", "Sat, 28 Nov 2026 04:54:43 UTC",
        "Sat, 28 Nov 2026 04:54:43 +0000", "Sun, 1 Nov 2026 04:54:43 GMT", "sat, 28 Nov 2026 04:54:43 GMT",
        "Sat, 28 nov 2026 04:54:43 GMT", "Sat, 28 Nov 2026 24:00:00 GMT", "Sat, 31 Nov 2026 04:54:43 GMT", "0",
        "Saturday, 28-Nov-26 04:54:43 GMT", "2026-11-28T04:54:43Z", "Sat, 28 Nov 2026 04:54:60 GMT",
    ):  # fmt: skip
        reply = await bench.ask("GET", PARTIES, headers={"date": date})
        check_error(reply, 400, "3101", "Malformed syntax - Invalid date header")


@row("C13", "C14", "C15")
async def test_content_type(bench: Bench) -> None:
    required = "Missing mandatory element - Content-type is required"
    for method, target, body in (
        ("GET", PARTIES, b""), ("DELETE", PARTICIPANT, b""), ("POST", PARTICIPANT, FSP), ("PUT", PARTIES, ANSWER),
    ):  # fmt: skip
        check_error(await bench.ask(method, target, body, headers={"content-type": None}), 400, "3102", required)
    for content_type in (f"{FORM};version=1.0", f"{FORM};version=1.1", f"{FORM}; version=2.0"):
        check_empty(await bench.ask("GET", PARTIES, headers={"content-type": content_type}), 202)
    for content_type in (
        FORM, f"{FORM};version=2", f"{FORM};version=2.0;charset=utf-8", f"{FORM};  version=2.0", "application/json",
        f"{FORM.upper()};version=2.0", "application/vnd.interoperability.participants+json;version=2.0",
        "application/vnd.interoperability.iso20022.parties+json;version=2.0",
    ):  # fmt: skip
        reply = await bench.ask("GET", PARTIES, headers={"content-type": content_type})
        check_error(reply, 400, "3101", "Malformed syntax - Invalid content-type header")
    for version in ("3.0", "1.2", "2.1"):
        reply = await bench.ask("GET", PARTIES, headers={"content-type": f"{FORM};version={version}"})
        check_versions(reply, TYPE_VERSION, TYPE_LIST)


async def test_the_first_rule_that_is_broken_decides(bench: Bench) -> None:
    broken: dict[str, str | None] = {
        "x-client-id": "payeefsp", "accept": None, "date": None, "content-type": None, "fspiop-source": None,
    }  # fmt: skip
    good = make_headers(PARTICIPANT)
    steps = [
        ("x-client-id", None, "3100"), ("accept", good["accept"], "3102"), ("date", good["date"], "3102"),
        ("content-type", good["content-type"], "3102"), ("fspiop-source", "x" * 33, "3102"),
        ("fspiop-source", "nobody", "3100"),
    ]  # fmt: skip
    for name, mended, code in steps:
        reply = await bench.ask("POST", "/participants/FAX/1%202?a=b", b"[]", headers=broken)
        assert (reply.status, reply.error[0]) == (400, code), reply
        broken[name] = mended
    for target, code in (("/participants/FAX/1?a=b", "3103"), ("/participants/FAX/1", "3100"), (PARTICIPANT, "3101")):
        reply = await bench.ask("POST", target, b"[]", headers=broken)
        assert (reply.status, reply.error[0]) == (400, code), reply
    reply = await bench.ask("POST", PARTICIPANT, {"fspId": "nobody"}, headers=broken)
    check_error(reply, 400, "3200", "Generic ID not found - Requester FSP not found")


@row("C16")
async def test_the_signature_comes_after_the_headers_and_before_the_body(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = {"jws_validate": "on", "jws_verification_keys_dir": tmp_path}
    async with open_bench(database_url, redis_url, **settings) as bench:
        reply = await bench.ask("POST", "/participants/FAX/1", b"{", headers={"date": None})
        assert reply.error[0] == "3102"
        reply = await bench.ask("POST", "/participants/FAX/1", b"{")
        assert (reply.status, reply.error[0]) == (400, "3105")
        reply = await bench.ask("GET", "/participants/FAX/1")
        assert reply.error[0] == "3100"


@row("C17", "C18")
async def test_the_fsps_of_the_headers(bench: Bench) -> None:
    for method, target, body in (("GET", PARTIES, b""), ("PUT", PARTIES, ANSWER), ("POST", "/participants", BULK)):
        reply = await bench.ask(method, target, body, headers={"fspiop-source": None})
        detail = "/header must have required property 'fspiop-source'"
        check_error(reply, 400, "3102", f"Missing mandatory element - {detail}")
        for name in ("fspiop-source", "fspiop-destination"):
            for value, detail in (("", EMPTY), ("f" * 33, LENGTH)):
                reply = await bench.ask(method, target, body, headers={name: value})
                check_error(reply, 400, "3100", f"Generic validation error - /header/{name} {detail}")
    check_empty(await bench.ask("GET", PARTIES, headers={"fspiop-destination": "f" * 32}), 202)


@row("C19", "C20")
async def test_the_query(bench: Bench) -> None:
    for method, body in (("GET", b""), ("POST", FSP), ("PUT", FSP), ("DELETE", b"")):
        status = 200 if method == "PUT" else 202
        check_empty(await bench.ask(method, f"{PARTICIPANT}?currency=MXN", body), status)
        reply = await bench.ask(method, f"{PARTICIPANT}?currency=mxn", body)
        check_error(reply, 400, "3100", f"Generic validation error - /query/currency {ALLOWED}")
        await bench.settle()
    many = "Too many elements - /query must NOT have additional properties"
    for target in (
        f"{PARTICIPANT}?a=1", f"{PARTICIPANT}?partySubIdOrType=S1", f"{PARTICIPANT}?currency=MXN&currency=MXN",
        f"{PARTICIPANT}?currency=MXN&a=1", f"{PARTIES}?currency=MXN", f"{PARTIES}?x", f"{PARTICIPANT}?Currency=MXN",
    ):  # fmt: skip
        check_error(await bench.ask("GET", target), 400, "3103", many)
    check_error(await bench.ask("POST", "/participants?currency=MXN", BULK), 400, "3103", many)
    check_empty(await bench.ask("GET", f"{PARTIES}?"), 202)


@row("C21", "C22")
async def test_the_type_and_the_identifier(bench: Bench) -> None:
    for kind in ("MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS"):
        check_empty(await bench.ask("GET", f"/parties/{kind}/1"), 202)
    for kind in ("msisdn", "CONSENT", "FAX", "%20"):
        reply = await bench.ask("GET", f"/parties/{kind}/1")
        check_error(reply, 400, "3100", f"Generic validation error - /path/Type {ALLOWED}")
    check_empty(await bench.ask("GET", f"/parties/ALIAS/{'%C3%A9' * 128}"), 202)
    reply = await bench.ask("GET", f"/parties/ALIAS/{'%C3%A9' * 129}")
    check_error(reply, 400, "3100", "Generic validation error - /path/ID must NOT have more than 128 characters")
    for identifier in ("1%202", "%7B1%7D", "1%0A", "%C2%A01", "%EF%BB%BF"):
        reply = await bench.ask("GET", f"/parties/ALIAS/{identifier}")
        check_error(reply, 400, "3100", r'Generic validation error - /path/ID must match pattern "^[^\s{}]+$"')


PATTERN: Final = r'must match pattern "^[1-9]\d{3}$"'
PROPERTY: Final = "Missing mandatory element - /requestBody{} must have required property '{}'"
VALIDATION: Final = "Generic validation error - /requestBody{}"
SYNTAX: Final = "Malformed syntax - /requestBody{}"


@row("C24", "C25", "C26", "C27", "C28", "C29", "D204", "D206")
async def test_the_body_about_one_party(bench: Bench) -> None:
    pair = {"key": "a", "value": "b"}
    missing = ("3102", PROPERTY.format("", "fspId"))
    other = ("3003", "Add Party information error - fspId must be the FSP of fspiop-source")
    extension = VALIDATION.format("/extensionList/extension")
    for body, of_post, of_put in (
        (b"", missing, None),
        (b"{}", missing, None),
        (b"null", missing, None),
        (b"{", missing, ("3101", SYNTAX.format(" must be object"))),
        (b"\xff", missing, ("3101", SYNTAX.format(" must be object"))),
        (b"[]", ("3101", SYNTAX.format(" must be object")), ("3101", SYNTAX.format(" must be object"))),
        (b'"payerfsp"', ("3101", SYNTAX.format(" must be object")), ("3101", SYNTAX.format(" must be object"))),
        (b"[" * 5000, missing, ("3101", SYNTAX.format(" must be object"))),
        *(
            (json.dumps(content).encode(), error, error)
            for content, error in [
                ({"fspId": ""}, ("3100", VALIDATION.format(f"/fspId {EMPTY}"))),
                ({"fspId": None}, ("3100", VALIDATION.format(f"/fspId {EMPTY}"))),
                ({"fspId": "f" * 33}, ("3100", VALIDATION.format(f"/fspId {LENGTH}"))),
                ({"fspId": {}}, ("3101", SYNTAX.format("/fspId must be string"))),
                ({"fspId": 5}, other),
                ({"fspId": "payeefsp"}, other),
                (FSP | {"currency": "XTS"}, None),
                (FSP | {"currency": "mxn"}, ("3100", VALIDATION.format(f"/currency {ALLOWED}"))),
                (FSP | {"currency": 1}, ("3100", VALIDATION.format(f"/currency {ALLOWED}"))),
                (FSP | {"extensionList": {"extension": [pair] * 16}}, None),
                (FSP | {"extensionList": {}}, ("3102", PROPERTY.format("/extensionList", "extension"))),
                (FSP | {"extensionList": []}, ("3101", SYNTAX.format("/extensionList must be object"))),
                (FSP | {"extensionList": {"extension": []}}, ("3100", f"{extension} must NOT have fewer than 1 items")),
                (FSP | {"extensionList": {"extension": [pair] * 17}},
                 ("3100", f"{extension} must NOT have more than 16 items")),
                (FSP | {"extensionList": {"extension": [{"key": "a"}]}},
                 ("3102", PROPERTY.format("/extensionList/extension/0", "value"))),
                (FSP | {"extensionList": {"extension": [pair, {"key": "a" * 33, "value": ""}]}},
                 ("3100", f"{extension}/1/key {LENGTH}")),
            ]
        ),
    ):  # fmt: skip
        for method, error in (("POST", of_post), ("PUT", of_put)):
            reply = await bench.ask(method, PARTICIPANT, body)
            if error is None:
                check_empty(reply, 202 if method == "POST" else 200)
            else:
                check_error(reply, 400, *error)
    await bench.add("5")
    check_empty(await bench.ask("POST", PARTICIPANT, {"fspId": 5}, source="5"), 202)
    check_empty(await bench.ask("PUT", PARTICIPANT, {"fspId": 5.0}, source="5"), 200)


@row("C30", "C31")
async def test_the_body_about_many_parties(bench: Bench) -> None:
    for request_id in (REQUEST_ID, "01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        check_empty(await bench.ask("POST", "/participants", BULK | {"requestId": request_id}), 200)
    pattern = ("3100", VALIDATION.format("/requestId must match pattern"))
    where = "/partyList/1"
    for changed, error in (
        ({"requestId": "x"}, pattern),
        ({"requestId": REQUEST_ID.replace("-4575", "-8575")}, pattern),
        ({"requestId": None}, pattern),
        ({"requestId": []}, ("3101", SYNTAX.format("/requestId must be string"))),
        ({"partyList": []}, ("3100", VALIDATION.format("/partyList must NOT have fewer than 1 items"))),
        ({"partyList": {}}, ("3101", SYNTAX.format("/partyList must be array"))),
        ({"partyList": [{}] * 10_001}, ("3100", VALIDATION.format("/partyList must NOT have more than 10000 items"))),
        ({"currency": "mxn"}, ("3100", VALIDATION.format(f"/currency {ALLOWED}"))),
        ({"partyList": [ITEM, []]}, ("3101", SYNTAX.format(f"{where} must be object"))),
        ({"partyList": [ITEM, {}]}, ("3102", PROPERTY.format(where, "partyIdType"))),
        ({"partyList": [ITEM, {"partyIdType": "MSISDN"}]}, ("3102", PROPERTY.format(where, "partyIdentifier"))),
        ({"partyList": [ITEM, ITEM | {"partyIdType": "msisdn"}]},
         ("3100", VALIDATION.format(f"{where}/partyIdType {ALLOWED}"))),
        ({"partyList": [ITEM, ITEM | {"partyIdentifier": ""}]},
         ("3100", VALIDATION.format(f"{where}/partyIdentifier {EMPTY}"))),
        ({"partyList": [ITEM, ITEM | {"partyIdentifier": {}}]},
         ("3101", SYNTAX.format(f"{where}/partyIdentifier must be string"))),
        ({"partyList": [ITEM, ITEM | {"fspId": "f" * 33}]}, ("3100", VALIDATION.format(f"{where}/fspId {LENGTH}"))),
    ):  # fmt: skip
        check_error(await bench.ask("POST", "/participants", BULK | changed), 400, *error)
    for name in ("requestId", "partyList"):
        body = {key: value for key, value in BULK.items() if key != name}
        check_error(await bench.ask("POST", "/participants", body), 400, "3102", PROPERTY.format("", name))
    check_error(await bench.ask("POST", "/participants", b"{"), 400, "3102", PROPERTY.format("", "requestId"))


@row("C33", "C34")
async def test_the_bodies_that_are_forwarded(bench: Bench) -> None:
    for body, error in (
        (b"{}", ("3102", PROPERTY.format("", "party"))),
        (b"{", ("3102", PROPERTY.format("", "party"))),
        (b'{"party":[]}', ("3101", SYNTAX.format("/party must be object"))),
    ):
        check_error(await bench.ask("PUT", PARTIES, body), 400, *error)
    at = "/errorInformation"
    long = "must NOT have more than 128 characters"
    good = ERROR["errorInformation"]
    for information, error in (
        (None, ("3102", PROPERTY.format("", "errorInformation"))),
        ([], ("3101", SYNTAX.format(f"{at} must be object"))),
        ({"errorCode": "3204"}, ("3102", PROPERTY.format(at, "errorDescription"))),
        ({"errorDescription": "x"}, ("3102", PROPERTY.format(at, "errorCode"))),
        (good | {"errorCode": "0204"},
         ("3100", VALIDATION.format(f"{at}/errorCode {PATTERN}"))),
        (good | {"errorDescription": ""}, ("3100", VALIDATION.format(f"{at}/errorDescription {EMPTY}"))),
        (good | {"errorDescription": "x" * 129}, ("3100", VALIDATION.format(f"{at}/errorDescription {long}"))),
    ):  # fmt: skip
        content: dict[str, Any] = {} if information is None else {"errorInformation": information}
        for target in (
            f"{PARTICIPANT}/error",
            f"{PARTIES}/error",
            f"{PARTIES}/S1/error",
            f"/participants/{REQUEST_ID}/error",
        ):
            check_error(await bench.ask("PUT", target, content), 400, *error)
    check_empty(await bench.ask("PUT", f"{PARTIES}/error", {"errorInformation": good | {"errorCode": 3204}}), 200)


@row("C35")
async def test_the_bodies_of_iso_20022(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url, account_lookup_api_type="iso20022") as bench:
        for target in (PARTIES, f"{PARTIES}/error"):
            missing = PROPERTY.format("", "Assgnmt")
            check_error(await bench.ask("PUT", target, ANSWER | ERROR), 400, "3102", missing)
            check_error(await bench.ask("PUT", target, {"Assgnmt": {}}), 400, "3102", PROPERTY.format("", "Rpt"))
            check_error(await bench.ask("PUT", target, b"{"), 400, "3102", missing)
            check_empty(await bench.ask("PUT", target, REPORT), 200)
        check_empty(await bench.ask("POST", PARTICIPANT, FSP), 202)
        for name in ("accept", "content-type"):
            plain = make_headers(PARTIES)[name]
            reply = await bench.ask("GET", PARTIES, headers={name: plain})
            check_error(reply, 400, "3101", f"Malformed syntax - Invalid {name} header")


@row("C37", "D201")
async def test_a_body_can_have_5_mib_and_no_more(bench: Bench) -> None:
    body = json.dumps(ANSWER).encode()
    check_empty(await bench.ask("PUT", PARTIES, body + b" " * (5 * 1024 * 1024 - len(body))), 200)
    reply = await bench.ask("PUT", PARTIES, body + b" " * (5 * 1024 * 1024 + 1 - len(body)))
    check_error(reply, 413, "3104", reply.error[1])


@row("C38", "C39", "C40", "D203")
async def test_a_source_that_is_no_participant(bench: Bench) -> None:
    unknown = (400, "3200", "Generic ID not found - Requester FSP not found")
    for method, target, body in (
        ("GET", PARTICIPANT, b""), ("POST", PARTICIPANT, {"fspId": "nobody"}), ("PUT", PARTICIPANT, b""),
        ("DELETE", PARTICIPANT, b""), ("POST", "/participants", BULK), ("PUT", f"{PARTICIPANT}/error", ERROR),
        ("PUT", PARTIES, ANSWER), ("PUT", f"{PARTIES}/error", ERROR),
    ):  # fmt: skip
        check_error(await bench.ask(method, target, body, source="nobody"), *unknown)
    reply = await bench.ask("GET", PARTIES, source="nobody")
    check_error(reply, 400, "3101", "Malformed syntax - invalid fspiop-source header")
    reply = await bench.ask("GET", PARTIES, source="nobody", headers={"fspiop-proxy": "noproxy"})
    check_error(reply, 400, "3101", "Malformed syntax - invalid fspiop-proxy header")
    await bench.add("proxy", is_proxy=True)
    check_empty(await bench.ask("GET", PARTIES, source="nobody", headers={"fspiop-proxy": "proxy"}), 202)


@row("C40", "D209")
async def test_no_fsp_acts_for_another_one_as_its_proxy(database_url: str, redis_url: str) -> None:
    bad_proxy = (400, "3101", "Malformed syntax - invalid fspiop-proxy header")
    bad_source = (400, "3101", "Malformed syntax - invalid fspiop-source header")
    messages: list[tuple[str, str, Any]] = [
        ("GET", PARTIES, b""),
        ("PUT", PARTIES, ANSWER),
        ("PUT", f"{PARTIES}/error", ERROR),
    ]
    changes: list[tuple[str, str, Any]] = [
        ("GET", PARTICIPANT, b""), ("POST", PARTICIPANT, FSP), ("PUT", PARTICIPANT, FSP), ("DELETE", PARTICIPANT, b""),
        ("POST", "/participants", BULK), ("PUT", f"{PARTICIPANT}/error", ERROR),
    ]  # fmt: skip
    async with open_bench(database_url, redis_url, account_lookup_client_id="required") as bench:
        await bench.add("proxya", is_proxy=True)
        fsp = {"x-client-id": "thirdfsp", "fspiop-proxy": "thirdfsp", "fspiop-destination": "payeefsp"}
        proxy = fsp | {"x-client-id": "proxya", "fspiop-proxy": "proxya"}
        for method, target, body in messages + changes:
            check_error(await bench.ask(method, target, body, headers=fsp), *bad_proxy)
        for method, target, body in changes:
            check_error(await bench.ask(method, target, body, headers=proxy), *bad_proxy)
        for method, target, body in messages:
            check_error(await bench.ask(method, target, body, headers=proxy), *bad_source)
        assert not bench.listener.working
        assert [message for dfsp in bench.dfsps.values() for message in dfsp.messages] == []


@row("C41")
async def test_a_source_that_nobody_could_tell_of_an_error(bench: Bench) -> None:
    detail = "Destination communication error - no {} endpoint for the FSP"
    one, many = "FSPIOP_CALLBACK_URL_PARTICIPANT_PUT_ERROR", "FSPIOP_CALLBACK_URL_PARTICIPANT_BATCH_PUT_ERROR"
    endpoints = bench.ledger.endpoints["payerfsp"]
    del endpoints[one], endpoints[many]
    for method, target, body, error_type in (
        ("POST", PARTICIPANT, FSP, one), ("PUT", PARTICIPANT, FSP, one), ("DELETE", PARTICIPANT, b"", one),
        ("POST", "/participants", BULK, many),
    ):  # fmt: skip
        check_error(await bench.ask(method, target, body), 400, "1001", detail.format(error_type)[:128])
    check_empty(await bench.ask("GET", PARTICIPANT), 202)
    del endpoints["FSPIOP_CALLBACK_URL_PARTICIPANT_PUT"]
    await bench.settle()
    check_error(await bench.ask("GET", PARTICIPANT), 400, "1001", detail.format(one))


@row("C42", "D202")
async def test_a_ledger_that_does_not_answer_is_told_before_the_202(bench: Bench) -> None:
    bench.ledger.fails = Reply(500)
    for method, target, body in (
        ("GET", PARTIES, b""), ("GET", PARTICIPANT, b""), ("POST", PARTICIPANT, {"fspId": "fresh"}),
        ("PUT", PARTICIPANT, b""), ("DELETE", PARTICIPANT, b""), ("POST", "/participants", BULK),
    ):  # fmt: skip
        reply = await bench.ask(method, target, body, source="fresh")
        assert (reply.status, reply.error[0]) == (503, "2003"), reply
        assert reply.error[1].startswith("Service currently unavailable - ")
    for target, body in ((PARTIES, ANSWER), (f"{PARTIES}/error", ERROR), (f"{PARTICIPANT}/error", ERROR)):
        check_empty(await bench.ask("PUT", target, body, source="fresh"), 200)


@row("C43", "D208")
async def test_too_many_requests_at_work_are_refused(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url, account_lookup_works_max=2) as bench:
        bench.payee.reply = Reply(hangs=True)
        to_payee = {"fspiop-destination": "payeefsp"}
        for _ in range(2):
            check_empty(await bench.ask("GET", PARTIES, headers=to_payee), 202)
        reply = await bench.ask("GET", PARTIES, headers=to_payee)
        check_error(reply, 503, "2005", "Server busy - Too many requests are at work; try again later")
        await bench.payee.received(2)
        await bench.payee.stop()
        await bench.settle()
        check_empty(await bench.ask("GET", PARTIES), 202)


@row("C45")
async def test_an_fsp_that_has_used_up_its_budget_is_refused(database_url: str, redis_url: str) -> None:
    budgets: dict[str, Any] = {
        "budget_mode": "enforce", "budget_als_cache_off": "yes", "budget_sources_bound": "yes",
        "budget_sizes": (("C", 30, 1), ("unknown", 30, 1)),
    }  # fmt: skip
    async with open_bench(database_url, redis_url, **budgets) as bench:
        asked = 0
        while asked < 10:  # until the first correction, a worker has a part of its share
            asked += (await bench.ask("GET", PARTIES)).status == 202  # nobody has the party
            await bench.settle()
        while (reply := await bench.ask("GET", PARTIES)).status == 202:
            await bench.settle()
            asked += 1
        assert asked <= 12
        text = "Server busy - this FSP has asked about too many parties; ask fewer, and try again later"
        check_error(reply, 429, "2005", text)
        check_error(await bench.ask("POST", PARTICIPANT, {"fspId": "payerfsp"}), 429, "2005", text)
        # It can still ask an FSP that it names, answer others, and others can ask.
        check_empty(await bench.ask("GET", PARTIES, headers={"fspiop-destination": "payeefsp"}), 202)
        check_empty(await bench.ask("PUT", PARTIES, ANSWER, headers={"fspiop-destination": "payeefsp"}), 200)
        check_empty(await bench.ask("GET", PARTIES, source="thirdfsp"), 202)
        await bench.settle()


@row("N17")
async def test_no_error_repeats_what_was_sent(bench: Bench) -> None:
    """Neither headers nor identifiers, nor FSPs; and a description has at most 128 characters."""
    secrets = {"authorization": "Bearer s3cret-token", "cookie": "sid=s3cret"}
    for method, target, body in (
        ("GET", f"{PARTICIPANT}?x=s3cret", b""), ("GET", "/parties/s3cret/s3cret", b""), ("PUT", "/s3cret", b""),
        ("POST", PARTICIPANT, b'{"fspId":"s3cret"}'), ("POST", "/participants", BULK | {"requestId": "s3cret"}),
        ("PUT", PARTIES, {"party": "s3cret"}), ("GET", f"/parties/MSISDN/{'s3cret' * 30}", b""),
    ):  # fmt: skip
        reply = await bench.ask(method, target, body, headers=secrets)
        assert reply.status >= 400
        assert b"s3cret" not in b"".join([*reply.lines, reply.body]), reply
        assert len(reply.error[1]) <= 128
