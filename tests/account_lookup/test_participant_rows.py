"""Participants over sockets, from the request of a DFSP to the bytes of the callback (sections 3 to 5)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from itertools import count
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import pytest_asyncio
import servers
from harness import Bench, Dfsp, Message, Reply, open_bench, row

from oracle.scheme import base

if TYPE_CHECKING:
    from oracle.run.embedded import PostgresServer, ValkeyServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST_ID = "b51ec534-ee48-4575-b6a9-ead2955b8069"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NUMBERS = count(1000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(postgres_template: PostgresServer, valkey_server: ValkeyServer) -> AsyncIterator[Bench]:
    name = await servers.make_database(postgres_template)
    async with open_bench(postgres_template.url(name), valkey_server.url()) as bench:
        yield bench
    await servers.drop_database(postgres_template, name)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(opened: Bench) -> AsyncIterator[Bench]:
    yield opened
    await opened.settle()
    for dfsp in opened.dfsps.values():
        dfsp.forget()
        dfsp.reply = Reply()
        opened.ledger.add(dfsp)


@pytest.fixture
def number() -> str:
    """A number that no other test uses."""
    return f"52551234{next(NUMBERS)}"


async def call(
    bench: Bench, method: str, target: str, body: Any = b"", *, status: int = 202, **options: Any
) -> Message:
    """Ask, and return the only callback, which the payer gets."""
    reply = await bench.ask(method, target, body, **options)
    assert reply.status == status, reply
    assert reply.body == b""
    await bench.settle()
    (callback,) = bench.payer.messages
    bench.payer.forget()
    return callback


def remove_endpoint(bench: Bench, dfsp: Dfsp, *kinds: str) -> None:
    bench.ledger.endpoints[dfsp.name] = {kind: url for kind, url in dfsp.list_endpoints().items() if kind not in kinds}


# Section 3 --------------------------------------------------------------------------------------------------------

BAD = [
    ("MSISDN", "abc"),
    ("MSISDN", "1" * 31),
    ("MSISDN", "++1"),
    ("EMAIL", "not-an-email"),
    ("EMAIL", "a@b"),
    ("IBAN", "gb33BUKB20201555555555"),
    ("IBAN", "GB33"),
    ("ALIAS", "a<b"),
    ("ALIAS", "a`b"),
    ("ALIAS", "a\\b"),
    ("ALIAS", "a\u0007b"),
]


@row("I01", "I02", "I03", "I04", "D301", "D302")
@pytest.mark.parametrize(("party_id_type", "identifier"), BAD)
async def test_an_identifier_of_another_form_is_told_for_every_method(
    bench: Bench, party_id_type: str, identifier: str
) -> None:
    path = f"/participants/{party_id_type}/{quote(identifier, safe='')}"
    for method, body, status in (
        ("GET", b"", 202),
        ("POST", {"fspId": "payerfsp"}, 202),
        ("PUT", {"fspId": "payerfsp"}, 200),
        ("DELETE", b"", 202),
    ):
        callback = await call(bench, method, path, body, status=status)
        assert callback.target.startswith("/payerfsp/participants/")
        assert callback.target.endswith("/error")
        assert callback.error == ("3101", f"Malformed syntax - Invalid {party_id_type} identifier")
        assert identifier.encode() not in callback.body


@row("I05")
@pytest.mark.parametrize("sub_id", ["a<b", "x" * 129, "a b", "{a}"])
async def test_a_sub_id_of_another_form_is_told(bench: Bench, sub_id: str) -> None:
    callback = await call(bench, "GET", f"/participants/ALIAS/a/{quote(sub_id, safe='')}")
    assert callback.error == ("3101", "Malformed syntax - Invalid partySubIdOrType")


@row("I06")
async def test_what_the_directory_refuses_is_told_with_its_reason(bench: Bench) -> None:
    callback = await call(bench, "GET", "/participants/MSISDN/5255")
    code, text = callback.error
    assert (code, text[:26]) == ("3101", "Malformed syntax - MSISDN:")
    assert "5255" not in text


@row("I07", "D303")
@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/participants/ALIAS/a", b""),
        ("POST", "/participants/ALIAS/a", {"fspId": "nosuch"}),
        ("PUT", "/participants/ALIAS/a", {"fspId": "nosuch"}),
        ("DELETE", "/participants/ALIAS/a", b""),
        (
            "POST",
            "/participants",
            {"requestId": REQUEST_ID, "partyList": [{"partyIdType": "ALIAS", "partyIdentifier": "a"}]},
        ),
    ],
)
async def test_an_unknown_source_is_refused_at_once(bench: Bench, method: str, target: str, body: Any) -> None:
    reply = await bench.ask(method, target, body, source="nosuch")
    assert (reply.status, reply.error) == (400, ("3200", "Generic ID not found - Requester FSP not found"))


# Section 4: lookups -----------------------------------------------------------------------------------------------


@row("B01", "B05", "D401")
async def test_a_lookup_is_answered_with_the_fsp_alone(bench: Bench, number: str) -> None:
    await bench.register("MSISDN", number, currency="MXN")
    callback = await call(bench, "GET", f"/participants/MSISDN/{number}", headers={"fspiop-destination": "thirdfsp"})
    assert callback.line == f"PUT /payerfsp/participants/MSISDN/{number} HTTP/1.1".encode()
    assert callback.body == b'{"fspId":"payeefsp"}'
    assert callback.headers["fspiop-destination"] == "payerfsp"
    assert not bench.dfsps["thirdfsp"].messages


@row("B02")
async def test_a_lookup_with_a_sub_id(bench: Bench, number: str) -> None:
    await bench.register("MSISDN", number, sub_id="till")
    callback = await call(bench, "GET", f"/participants/MSISDN/{number}/till")
    assert callback.target == f"/payerfsp/participants/MSISDN/{number}/till"
    assert callback.body == b'{"fspId":"payeefsp"}'
    callback = await call(bench, "GET", f"/participants/MSISDN/{number}/shop")
    assert callback.target == f"/payerfsp/participants/MSISDN/{number}/shop/error"


@row("B03", "D402")
async def test_a_lookup_with_a_currency(bench: Bench, number: str) -> None:
    await bench.register("MSISDN", number, currency="MXN")
    callback = await call(bench, "GET", f"/participants/MSISDN/{number}?currency=MXN")
    assert (callback.target, callback.body) == (f"/payerfsp/participants/MSISDN/{number}", b'{"fspId":"payeefsp"}')
    callback = await call(bench, "GET", f"/participants/MSISDN/{number}?currency=USD")
    assert callback.error[0] == "3204"


@row("B04")
async def test_an_unknown_party(bench: Bench, number: str) -> None:
    callback = await call(bench, "GET", f"/participants/MSISDN/{number}")
    assert callback.line == f"PUT /payerfsp/participants/MSISDN/{number}/error HTTP/1.1".encode()
    assert callback.body == b'{"errorInformation":{"errorCode":"3204","errorDescription":"Party not found"}}'


# Section 4: changes -----------------------------------------------------------------------------------------------


@row("B10")
async def test_a_registration_is_answered_with_its_echo(bench: Bench, number: str) -> None:
    body = {
        "fspId": "payerfsp",
        "currency": "MXN",
        "extensionList": {"extension": [{"key": "a", "value": "b"}]},
        "unknown": [1],
    }
    callback = await call(bench, "POST", f"/participants/MSISDN/{number}", body)
    assert callback.line == f"PUT /payerfsp/participants/MSISDN/{number} HTTP/1.1".encode()
    assert callback.body == (
        b'{"partyList":[{"partyIdType":"MSISDN","partyIdentifier":"%b","fspId":"payerfsp"}],"currency":"MXN"}'
        % number.encode()
    )


@row("B11")
async def test_a_registration_with_a_sub_id(bench: Bench, number: str) -> None:
    path = f"/participants/MSISDN/{number}"
    callback = await call(bench, "POST", f"{path}/till", {"fspId": "payerfsp", "partySubIdOrType": "other"})
    assert callback.target == f"/payerfsp{path}/till"
    assert b'"partySubIdOrType":"till"' in callback.body
    callback = await call(bench, "POST", path, {"fspId": "payerfsp", "partySubIdOrType": "shop"})
    assert callback.target == f"/payerfsp{path}"
    assert b'"partySubIdOrType":"shop"' in callback.body
    assert (await call(bench, "GET", f"{path}/shop")).body == b'{"fspId":"payerfsp"}'


@row("B12", "D403")
async def test_the_answer_to_a_change_goes_to_its_destination(bench: Bench, number: str) -> None:
    reply = await bench.ask(
        "POST", f"/participants/MSISDN/{number}", {"fspId": "payerfsp"}, headers={"fspiop-destination": "payeefsp"}
    )
    assert reply.status == 202
    await bench.settle()
    (callback,) = bench.payee.messages
    assert callback.target == f"/payeefsp/participants/MSISDN/{number}"
    assert callback.headers["fspiop-source"] == "Hub"
    assert callback.headers["fspiop-destination"] == "payeefsp"
    assert not bench.payer.messages
    callback = await call(
        bench, "PUT", f"/participants/MSISDN/{number}", {}, status=200, headers={"fspiop-destination": "Hub"}
    )
    assert callback.target == f"/payerfsp/participants/MSISDN/{number}"


@row("B13")
async def test_what_another_fsp_holds_cannot_be_changed(bench: Bench, number: str) -> None:
    await bench.register("MSISDN", number)
    path = f"/participants/MSISDN/{number}"
    callback = await call(bench, "POST", path, {"fspId": "payerfsp"})
    assert callback.error == ("3003", "Add Party information error - Already registered by another FSP")
    assert callback.target == f"/payerfsp{path}/error"
    callback = await call(bench, "PUT", path, {"fspId": "payerfsp", "currency": "MXN"}, status=200)
    assert callback.error[0] == "3003"
    callback = await call(bench, "DELETE", path)
    assert callback.error[0] == "3040"
    assert (await call(bench, "GET", path)).body == b'{"fspId":"payeefsp"}'


@row("B14", "B15", "B16", "D404")
async def test_an_update(bench: Bench, number: str) -> None:
    path = f"/participants/MSISDN/{number}"
    callback = await call(bench, "PUT", path, {"currency": "MXN"}, status=200)
    assert callback.error == ("3204", "Party not found")
    await bench.register("MSISDN", number, source="payerfsp")
    callback = await call(bench, "PUT", path, {"fspId": "payerfsp", "currency": "MXN"}, status=200)
    assert callback.body == (
        b'{"partyList":[{"partyIdType":"MSISDN","partyIdentifier":"%b","fspId":"payerfsp"}],"currency":"MXN"}'
        % number.encode()
    )
    callback = await call(bench, "PUT", path, {}, status=200)
    assert callback.json["partyList"][0]["fspId"] == "payerfsp"


@row("B20", "D405")
async def test_a_removal(bench: Bench, number: str) -> None:
    await bench.register("MSISDN", number, source="payerfsp")
    callback = await call(bench, "DELETE", f"/participants/MSISDN/{number}")
    assert callback.line == f"PUT /payerfsp/participants/MSISDN/{number} HTTP/1.1".encode()
    assert callback.body == b"{}"
    assert (await call(bench, "DELETE", f"/participants/MSISDN/{number}")).error[0] == "3204"


@row("B21", "D406")
async def test_a_removal_keeps_to_its_sub_id_and_currency(bench: Bench, number: str) -> None:
    path = f"/participants/MSISDN/{number}"
    await bench.register("MSISDN", number, source="payerfsp", sub_id="till", currency="MXN")
    assert (await call(bench, "DELETE", path)).error[0] == "3204"
    assert (await call(bench, "DELETE", f"{path}/till?currency=USD")).error[0] == "3204"
    callback = await call(bench, "DELETE", f"{path}/till?currency=MXN")
    assert (callback.target, callback.body) == (f"/payerfsp{path}/till", b"{}")
    assert (await call(bench, "GET", f"{path}/till")).error[0] == "3204"


@row("B22", "D407")
async def test_a_removal_whose_callback_is_refused_is_no_error(bench: Bench, number: str) -> None:
    await bench.register("MSISDN", number, source="payerfsp")
    bench.payer.reply = Reply(501)
    callback = await call(bench, "DELETE", f"/participants/MSISDN/{number}")
    assert callback.body == b"{}"


# Section 4: bulks -------------------------------------------------------------------------------------------------


@row("B30", "B31", "D408", "D409")
async def test_a_bulk(bench: Bench, number: str) -> None:
    await bench.register("MSISDN", number)
    items = [
        {"partyIdType": "EMAIL", "partyIdentifier": f"a{number}@b.mx", "fspId": "payerfsp"},
        {"partyIdType": "MSISDN", "partyIdentifier": number, "fspId": "payerfsp"},
        {"partyIdType": "ALIAS", "partyIdentifier": f"x{number}", "fspId": "payeefsp"},
        {"partyIdType": "EMAIL", "partyIdentifier": "not-an-email", "fspId": "payerfsp"},
        {"partyIdType": "MSISDN", "partyIdentifier": f"+{number}", "partySubIdOrType": "S"},
    ]
    body = {"requestId": REQUEST_ID, "partyList": items, "currency": "MXN"}
    callback = await call(bench, "POST", "/participants", body, status=200)
    assert callback.line == f"PUT /payerfsp/participants/{REQUEST_ID} HTTP/1.1".encode()
    first, *_ = found = callback.json["partyList"]
    assert callback.json["currency"] == "MXN"
    assert [(item["partyId"]["partyIdType"], item.get("errorInformation", {}).get("errorCode")) for item in found] == [
        ("ALIAS", "3204"),
        ("EMAIL", None),
        ("EMAIL", "3101"),
        ("MSISDN", "3003"),
        ("MSISDN", None),
    ]
    assert first == {
        "partyId": items[2],
        "errorInformation": {
            "errorCode": "3204",
            "errorDescription": "Party not found",
            "extensionList": {"extension": [{"key": "ALIAS", "value": f"x{number}"}]},
        },
    }
    assert found[-1] == {"partyId": items[-1] | {"fspId": "payerfsp"}}
    assert (await call(bench, "GET", f"/participants/EMAIL/a{number}@b.mx")).body == b'{"fspId":"payerfsp"}'


@row("B32")
async def test_the_answer_to_a_bulk_goes_to_its_destination(bench: Bench, number: str) -> None:
    body = {"requestId": REQUEST_ID, "partyList": [{"partyIdType": "MSISDN", "partyIdentifier": number}]}
    reply = await bench.ask("POST", "/participants", body, headers={"fspiop-destination": "payeefsp"})
    assert reply.status == 200
    (callback,) = await bench.payee.received()
    assert callback.target == f"/payeefsp/participants/{REQUEST_ID}"


@row("B34")
async def test_a_bulk_of_10000_items(bench: Bench, number: str) -> None:
    items = [
        {"partyIdType": "ACCOUNT_ID", "partyIdentifier": f"{number}-{at}", "fspId": "payerfsp"} for at in range(10_000)
    ]
    callback = await call(bench, "POST", "/participants", {"requestId": REQUEST_ID, "partyList": items}, status=200)
    assert [item["partyId"] for item in callback.json["partyList"]] == items
    assert not any("errorInformation" in item for item in callback.json["partyList"])


# Section 4: callbacks that fail -----------------------------------------------------------------------------------


@row("B40")
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(500), "500"),
        (Reply(404), "404"),
        (Reply(302, headers={"location": "/elsewhere"}), "302"),
        (Reply(raw=b"no http\r\n\r\n", closes=True), "no answer"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", closes=True), "no answer"),
    ],
)
async def test_a_callback_that_fails_becomes_one_error_callback(
    bench: Bench, number: str, reply: Reply, status: str
) -> None:
    await bench.register("MSISDN", number)
    bench.payer.reply = lambda message: Reply() if message.target.endswith("/error") else reply
    assert (await bench.ask("GET", f"/participants/MSISDN/{number}")).status == 202
    await bench.settle()
    first, second = bench.payer.messages
    assert first.body == b'{"fspId":"payeefsp"}'
    assert second.target == f"/payerfsp/participants/MSISDN/{number}/error"
    assert second.error[0] == "1001"
    assert second.json["errorInformation"]["extensionList"]["extension"] == [{"key": "status", "value": status}]


@row("B41", "D410")
async def test_a_missing_endpoint_is_told_before_anything_is_written(bench: Bench, number: str) -> None:
    path = f"/participants/MSISDN/{number}"
    remove_endpoint(bench, bench.payer, base.PARTICIPANT_PUT)
    callback = await call(bench, "POST", path, {"fspId": "payerfsp"})
    assert callback.target == f"/payerfsp{path}/error"
    assert callback.error == (
        "1001",
        "Destination communication error - no FSPIOP_CALLBACK_URL_PARTICIPANT_PUT endpoint for the FSP",
    )
    remove_endpoint(bench, bench.payer)
    assert (await call(bench, "GET", path)).error[0] == "3204"


@row("B42", "D410")
async def test_a_change_whose_error_nobody_could_be_told_is_refused_at_once(bench: Bench, number: str) -> None:
    path = f"/participants/MSISDN/{number}"
    remove_endpoint(bench, bench.payer, base.PARTICIPANT_SUB_ID_PUT_ERROR, base.PARTICIPANT_BATCH_PUT_ERROR)
    for target, body, kind in (
        (f"{path}/till", {"fspId": "payerfsp"}, "SUB_ID_PUT_ERROR"),
        (
            "/participants",
            {"requestId": REQUEST_ID, "partyList": [{"partyIdType": "MSISDN", "partyIdentifier": number}]},
            "BATCH_PUT_ERROR",
        ),
    ):
        reply = await bench.ask("POST", target, body)
        assert reply.status == 400
        text = f"Destination communication error - no FSPIOP_CALLBACK_URL_PARTICIPANT_{kind} endpoint for the FSP"
        assert reply.error == ("1001", text)
    await bench.register("MSISDN", number)
    remove_endpoint(bench, bench.payer, base.PARTICIPANT_PUT_ERROR)
    assert (await call(bench, "GET", path)).body == b'{"fspId":"payeefsp"}'
    remove_endpoint(bench, bench.payer, base.PARTICIPANT_PUT_ERROR, base.PARTICIPANT_PUT)
    reply = await bench.ask("GET", path)
    assert (reply.status, reply.error[0]) == (400, "1001")
    remove_endpoint(bench, bench.payer)
    assert (await call(bench, "GET", f"{path}/till")).error[0] == "3204"


# Section 4: headers -----------------------------------------------------------------------------------------------

SENT = {
    "authorization": "Bearer secret",
    "cookie": "session=secret",
    "x-custom": "of the DFSP",
    "x-forwarded-for": "10.0.0.7",
    "x-api-key": "secret",
    "connection": "close, x-hop",
    "x-hop": "one hop",
    "fspiop-signature": '{"signature":"abc","protectedHeader":"def"}',
    "fspiop-uri": "/participants/MSISDN/1",
    "fspiop-http-method": "GET",
    "fspiop-encryption": "{}",
    "fspiop-custom": "kept",
    "traceparent": TRACE,
    "tracestate": "acme=1",
    "date": "Sat, 28 Nov 2026 10:00:00 GMT",
}


@row("H01", "H01a", "H02", "H03", "H04", "H05", "D411", "D412")
async def test_a_callback_of_the_hub_has_exactly_these_headers(bench: Bench, number: str) -> None:
    callback = await call(bench, "GET", f"/participants/MSISDN/{number}/a+b", headers=SENT)
    headers = callback.headers
    assert set(headers) - {"connection", "host", "content-length"} == {
        *("content-type", "date", "fspiop-source", "fspiop-destination", "fspiop-http-method", "fspiop-uri"),
        *("fspiop-custom", "traceparent", "tracestate"),
    }
    assert headers["content-type"] == "application/vnd.interoperability.participants+json;version=2.0"
    assert headers["fspiop-source"] == "Hub"
    assert headers["fspiop-destination"] == "payerfsp"
    assert headers["fspiop-http-method"] == "PUT"
    assert headers["fspiop-uri"] == f"/participants/MSISDN/{number}/a+b/error"
    assert headers["fspiop-custom"] == "kept"
    assert headers["tracestate"] == "acme=1"
    assert headers["traceparent"][:36] == TRACE[:36]
    assert headers["traceparent"][36:52] != TRACE[36:52]
    assert headers["traceparent"][52:] == "-01"
    assert abs(parsedate_to_datetime(headers["date"]).timestamp() - time()) < 60
    assert headers["content-length"] == str(len(callback.body))


@row("H01", "D415")
@pytest.mark.parametrize("version", ["1.0", "1.1", "2.0"])
async def test_a_callback_has_the_version_of_its_request(bench: Bench, number: str, version: str) -> None:
    form = "application/vnd.interoperability.participants+json;version="
    sent = {"content-type": form + version}
    assert (await call(bench, "GET", f"/participants/MSISDN/{number}", headers=sent)).headers["content-type"] == (
        form + version
    )


@row("H03", "H04")
async def test_a_callback_has_a_trace_also_if_its_request_has_none(bench: Bench, number: str) -> None:
    headers = (await call(bench, "DELETE", f"/participants/MSISDN/{number}")).headers
    assert len(headers["traceparent"]) == len(TRACE)
    assert "tracestate" not in headers
    assert "fspiop-uri" not in headers


@row("H08", "D413")
@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("12%2FOUKAMA(N)123456", "12%2FOUKAMA(N)123456"),
        ("tom%26jerry%27s%3Dshop", "tom&jerry's=shop"),
        ("say%22hi%22", "say%22hi%22"),
        ("a%3Fb%23c", "a%3Fb%23c"),
        ("100%25", "100%25"),
        ("+525512345678", "+525512345678"),
        ("%E1%81%81%E1%81%82", "%E1%81%81%E1%81%82"),
        ("..", "%2E%2E"),
        ("a;b,c:d@e$f!*~", "a;b,c:d@e$f!*~"),
    ],
)
async def test_an_identifier_is_percent_encoded_in_a_callback(bench: Bench, sent: str, written: str) -> None:
    callback = await call(bench, "GET", f"/participants/BUSINESS/{sent}")
    assert callback.target == f"/payerfsp/participants/BUSINESS/{written}/error"


@row("H09")
async def test_an_identifier_does_not_choose_the_host_of_a_callback(bench: Bench, number: str) -> None:
    endpoints = bench.ledger.endpoints["payerfsp"]
    endpoints[base.PARTICIPANT_PUT_ERROR] = "http://{{partyIdentifier}}/participants"
    reply = await bench.ask("GET", f"/participants/MSISDN/{number}")
    assert reply.status == 202
    await bench.settle()
    assert not bench.payer.messages
    endpoints[base.PARTICIPANT_PUT_ERROR] = f"{bench.payer.url}/x?id={{{{partyIdentifier}}}}&{{{{nothing}}}}"
    callback = await call(bench, "GET", "/participants/BUSINESS/a%26b=c")
    assert callback.target == "/x?id=a%26b%3Dc&"


# Section 5 --------------------------------------------------------------------------------------------------------

ERROR = b'{ "errorInformation" : {"errorCode":"3204", "errorDescription":"no\\u00f1"}}'


@row("R01", "H06", "H07", "D414")
async def test_an_error_of_an_fsp_is_forwarded_with_its_signature(bench: Bench, number: str) -> None:
    path = f"/participants/MSISDN/{number}/S/error"
    sent = SENT | {
        "fspiop-destination": "payeefsp",
        "content-type": "application/vnd.interoperability.participants+json;version=1.1",
    }
    reply = await bench.ask("PUT", path, ERROR, headers=sent)
    assert reply.status == 200
    await bench.settle()
    (callback,) = bench.payee.messages
    assert (callback.target, callback.body) == (f"/payeefsp{path}", ERROR)
    headers = callback.headers
    removed = {"authorization", "cookie", "x-forwarded-for", "x-api-key", "x-hop"}
    assert not set(headers) & removed
    for name in set(sent) - removed - {"connection", "traceparent"}:
        assert headers[name] == sent[name]
    assert headers["fspiop-source"] == "payerfsp"
    assert headers["traceparent"][:36] == TRACE[:36]
    assert headers["traceparent"] != TRACE


@row("R02")
@pytest.mark.parametrize("destination", [None, "nosuch"])
async def test_an_error_for_nobody_comes_back(bench: Bench, number: str, destination: str | None) -> None:
    callback = await call(
        bench,
        "PUT",
        f"/participants/MSISDN/{number}/error",
        ERROR,
        status=200,
        headers={"fspiop-destination": destination},
    )
    assert callback.target == f"/payerfsp/participants/MSISDN/{number}/error"
    assert json.loads(callback.body)["errorInformation"] == {
        "errorCode": "3201",
        "errorDescription": "Destination FSP Error - Destination FSP not found",
    }


@row("R03")
async def test_an_error_that_its_fsp_does_not_take_is_told_to_its_source(bench: Bench, number: str) -> None:
    bench.payee.reply = Reply(503)
    headers = {"fspiop-destination": "payeefsp"}
    path = f"/participants/MSISDN/{number}/error"
    callback = await call(bench, "PUT", path, ERROR, status=200, headers=headers)
    assert callback.target == f"/payerfsp{path}"
    assert callback.error[0] == "1001"
    assert callback.json["errorInformation"]["extensionList"]["extension"] == [{"key": "status", "value": "503"}]
    assert len(bench.payee.messages) == 1
