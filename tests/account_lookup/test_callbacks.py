"""Messages to FSPs, over sockets: their headers, their bodies byte for byte, and what a failure becomes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import Random
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder import Fsp, Message, Scheme, open_fsps

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.callbacks import CallbackFailed, Callbacks, Signer, select_forwarded
from oracle.api.dfsp.faults import Extension, Fault
from oracle.calls import CallLimits, Calls
from oracle.calls.limits import LIMITS
from oracle.scheme import base
from oracle.telemetry.metrics import Metrics

PARTY = Party("PERSONAL_ID", "12/OUKAMA(N)123456", "caja & más")
URI = "/PERSONAL_ID/12%2FOUKAMA(N)123456/caja%20&%20m%C3%A1s"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

# What DFSPs and gateways can send, and what a callback keeps of it.
SECRETS = {
    "Authorization": "Bearer secret",
    "Cookie": "session=secret",
    "Proxy-Authorization": "Basic secret",
    "X-Client-Id": "payerfsp",
    "X-Forwarded-For": "10.0.0.7",
    "X-Forwarded-Client-Cert": "Subject=payer",
    "X-Api-Key": "secret",
    "Forwarded": "for=10.0.0.7",
    "Via": "1.1 gateway",
    "Connection": "keep-alive, X-Hop",
    "X-Hop": "one hop only",
    "Keep-Alive": "timeout=5",
    "TE": "trailers",
    "Upgrade": "h2c",
    "Accept-Encoding": "gzip",
}
OWN = {
    "Accept": "application/vnd.interoperability.parties+json;version=1.0",
    "Content-Type": "application/vnd.interoperability.parties+json;version=1.1",
    "Date": "Sat, 28 Nov 2026 10:00:00 GMT",
    "FSPIOP-Source": "payerfsp",
    "FSPIOP-Destination": "payeefsp",
    "FSPIOP-Signature": '{"signature":"abc","protectedHeader":"def"}',
    "FSPIOP-URI": "/parties/MSISDN/1",
    "FSPIOP-HTTP-Method": "PUT",
    "FSPIOP-Encryption": '{"encryptedFields":[]}',
    "FSPIOP-Custom": "kept",
    "X-Custom": "of the DFSP",
    "tracestate": "acme=1",
}


@dataclass
class Parts:
    callbacks: Callbacks
    scheme: Scheme
    payer: Fsp
    payee: Fsp
    metrics: Metrics

    def count(self, kind: str, result: str) -> float:
        return self.metrics.cells[self.metrics.slot("callbacks_total", kind=kind, result=result)]


@asynccontextmanager
async def open_parts(limits: CallLimits = LIMITS, **settings: Any) -> AsyncIterator[Parts]:
    metrics = Metrics.open(None, "hub", 0)
    calls = Calls(metrics, limits)
    async with open_fsps("payerfsp", "payeefsp") as (payer, payee):
        scheme = Scheme([payer, payee])
        known = {"hub_name": "Hub", "signer": None, "iso20022": False} | settings
        try:
            yield Parts(Callbacks(scheme, calls, metrics=metrics, **known), scheme, payer, payee, metrics)
        finally:
            await calls.close()
            metrics.close()


def ask(resource: str = "parties", *, method: str = "GET", **parts: Any) -> Asked:
    sent = OWN | SECRETS
    known: dict[str, Any] = {
        "source": "payerfsp",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "party": PARTY,
        "traceparent": TRACE,
        "tracestate": "acme=1",
    }
    return Asked(method=method, resource=resource, **(known | parts))  # type: ignore[arg-type]


def is_recent(message: Message) -> bool:
    return abs(parsedate_to_datetime(message.header("date") or "").timestamp() - time()) < 60


# What the hub originates ------------------------------------------------------------------------------------------


async def test_an_answer_of_the_hub_has_exactly_these_headers() -> None:
    async with open_parts() as parts:
        await parts.callbacks.put(ask("participants"), "payerfsp", base.PARTICIPANT_SUB_ID_PUT, b'{"fspId": "x"}')
        message = await parts.payer.take()
        assert (message.method, message.target) == ("PUT", "/cb/participants" + URI)
        assert message.body == b'{"fspId": "x"}'
        assert message.names == {
            *("host", "content-length", "content-type", "date", "fspiop-source", "fspiop-destination"),
            *("fspiop-http-method", "fspiop-uri", "fspiop-custom", "traceparent", "tracestate"),
        } | (message.names & {"connection"})
        assert message.header("content-type") == "application/vnd.interoperability.participants+json;version=2.0"
        assert message.header("fspiop-source") == "Hub"
        assert message.header("fspiop-destination") == "payerfsp"
        assert message.header("fspiop-http-method") == "PUT"
        assert message.header("fspiop-uri") == "/participants" + URI
        assert message.header("fspiop-custom") == "kept"
        assert message.header("tracestate") == "acme=1"
        assert is_recent(message)
        assert parts.count("answer", "delivered") == 1


async def test_an_answer_about_participants_names_no_uri_where_the_request_named_none() -> None:
    async with open_parts() as parts:
        asked = ask("participants", headers=[])
        await parts.callbacks.put(asked, "payerfsp", base.PARTICIPANT_SUB_ID_PUT, b"{}")
        message = await parts.payer.take()
        assert not message.names & {"fspiop-uri", "fspiop-http-method", "fspiop-signature"}


async def test_an_error_about_parties_names_the_uri_with_the_sub_id() -> None:
    async with open_parts() as parts:
        assert await parts.callbacks.put_error(ask(headers=[]), "payerfsp", Fault("3204", "nobody has it"))
        message = await parts.payer.take()
        assert message.target == "/cb/parties" + URI + "/error"
        assert message.header("fspiop-uri") == "/parties" + URI + "/error"
        assert message.header("fspiop-http-method") == "PUT"
        assert message.header("content-type") == "application/vnd.interoperability.parties+json;version=2.0"
        assert message.body == (
            b'{"errorInformation":{"errorCode":"3204","errorDescription":"Party not found - nobody has it"}}'
        )


@pytest.mark.parametrize(
    ("resource", "party", "target"),
    [
        ("participants", None, "/cb/participants/b51ec534-ee48-4575-b6a9-ead2955b8069/error"),
        ("participants", Party("MSISDN", "+1"), "/cb/participants/MSISDN/+1/error"),
        ("participants", PARTY, "/cb/participants" + URI + "/error"),
        ("parties", Party("MSISDN", "+1"), "/cb/parties/MSISDN/+1/error"),
        ("parties", PARTY, "/cb/parties" + URI + "/error"),
    ],
)
async def test_an_error_goes_to_the_endpoint_of_its_request(resource: str, party: Party | None, target: str) -> None:
    async with open_parts() as parts:
        fault = Fault("3101", extensions=(Extension("key", "value"),))
        asked = ask(resource, party=party)
        request_id = "b51ec534-ee48-4575-b6a9-ead2955b8069"
        assert await parts.callbacks.put_error(asked, "payerfsp", fault, request_id=request_id)
        message = await parts.payer.take()
        assert message.target == target
        assert b'"extensionList":{"extension":[{"key":"key","value":"value"}]}' in message.body


@pytest.mark.parametrize(
    ("traceparent", "is_kept"),
    [(TRACE, True), (None, False), ("00-short", False), ("00-" + "0" * 32 + TRACE[35:], False)],
)
async def test_a_message_has_a_span_of_its_own(traceparent: str | None, is_kept: bool) -> None:
    async with open_parts() as parts:
        await parts.callbacks.put_error(ask(traceparent=traceparent), "payerfsp", Fault("3204"))
        message = await parts.payer.take()
        found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])", message.header("traceparent") or "")
        assert found is not None
        assert (found[1] == TRACE[3:35]) is is_kept
        assert found[2] != TRACE[36:52]
        assert found[3] == ("01" if is_kept else "00")
        assert (message.header("tracestate") == "acme=1") is is_kept


async def test_the_standard_is_part_of_the_content_type() -> None:
    async with open_parts(iso20022=True, hub_name="switch") as parts:
        await parts.callbacks.put(ask("participants"), "payerfsp", base.PARTICIPANT_SUB_ID_PUT, b"{}")
        message = await parts.payer.take()
        form = "application/vnd.interoperability.iso20022.participants+json;version=2.0"
        assert message.header("content-type") == form
        assert message.header("fspiop-source") == "switch"


async def test_the_signer_gets_what_is_sent() -> None:
    class Recorder(Signer):
        async def sign_message(self, method: str, uri: str, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
            self.seen = method, uri, dict(headers), body
            headers.append((b"fspiop-signature", b"ours"))
            return body + b" "

    signer = Recorder()
    async with open_parts(signer=signer) as parts:
        await parts.callbacks.put_error(ask(), "payerfsp", Fault("3204"))
        message = await parts.payer.take()
        method, uri, headers, body = signer.seen
        assert (method, uri, body + b" ") == ("PUT", "/parties" + URI + "/error", message.body)
        for name, value in headers.items():
            assert message.header(name.decode()) == value.decode()
        assert message.header("fspiop-signature") == "ours"
        await parts.callbacks.forward(ask(method="PUT"), "payeefsp", base.PARTIES_SUB_ID_PUT)
        assert (await parts.payee.take()).header("fspiop-signature") == OWN["FSPIOP-Signature"]


async def test_an_fsp_gets_many_errors_that_come_all_at_once() -> None:
    async with open_parts(CallLimits(connections_max=1, waiting_max=3)) as parts:
        sent = [parts.callbacks.put_error(ask(), "payerfsp", Fault("1001")) for _ in range(10)]
        assert all(await asyncio.gather(*sent))
        assert parts.count("error", "delivered") == 10
        assert parts.count("error", "no_answer") == 0


# What is forwarded ------------------------------------------------------------------------------------------------

BODY = b'{ "party" : {"name":"Ma\\u00f1ana ", "x":\t1.0}}'


async def test_a_forwarded_answer_has_the_headers_of_the_fsp_and_its_body_byte_for_byte() -> None:
    async with open_parts() as parts:
        await parts.callbacks.forward(ask(method="PUT", body=BODY), "payeefsp", base.PARTIES_SUB_ID_PUT)
        message = await parts.payee.take()
        assert (message.method, message.target, message.body) == ("PUT", "/cb/parties" + URI, BODY)
        for name, value in OWN.items():
            assert message.header(name.lower()) == value
        added = {"host", "content-length", "via"} | (message.names & {"connection"})
        assert message.names == {name.lower() for name in OWN} | added
        assert not {value for name, value in message.headers if "secret" in value or "10.0.0.7" in value}
        assert message.header("content-length") == str(len(BODY))


async def test_a_forwarded_question_names_its_destination_and_has_a_span_of_its_own() -> None:
    async with open_parts() as parts:
        await parts.callbacks.forward(ask(), "payeefsp", base.PARTIES_SUB_ID_GET, destination="payee2")
        message = await parts.payee.take()
        assert (message.method, message.target, message.body) == ("GET", "/cb/parties" + URI, b"")
        assert message.header("fspiop-destination") == "payee2"
        assert message.header("fspiop-source") == "payerfsp"
        assert message.header("content-type") == OWN["Content-Type"]
        assert message.header("accept") == OWN["Accept"]
        trace = message.header("traceparent") or ""
        assert trace[:36] == TRACE[:36]
        assert trace != TRACE
        assert not message.names & {"content-length", "transfer-encoding"}


NAMES = st.sampled_from([*OWN, *SECRETS, "X-Forwarded-Host", "x-envoy-external-address", "Set-Cookie", "X-Other"])


@given(st.lists(st.tuples(NAMES, st.text("ab, -", max_size=8)), max_size=12), st.randoms())
def test_no_credential_is_forwarded_however_its_name_is_written(headers: list[tuple[str, str]], random: Random) -> None:
    sent = [
        ("".join(random.choice((str.upper, str.lower))(letter) for letter in name).encode(), value.encode())
        for name, value in headers
    ]
    kept = select_forwarded(sent)
    assert kept == [header for header in sent if header in kept]  # in their order, and nothing else
    names = {name.lower().decode() for name, _ in kept}
    secret = {name.lower() for name in SECRETS} - {"x-hop"} | {"x-forwarded-host", "x-envoy-external-address"}
    assert not names & (secret | {"set-cookie"})
    assert {name for name in names if name.startswith("fspiop-")} == {
        name.lower().decode() for name, _ in sent if name.lower().startswith(b"fspiop-")
    }


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("DPoP", False), ("X-Vault-Token", False), ("X-Authorization", False), ("CF-Access-JWT-Assertion", False),
        ("X-Session-Id", False), ("X-Client-Secret", False), ("X-Auth-Request-User", False),
        ("X-HTTP-Method-Override", False), ("X-Original-URL", False), ("X-Rewrite-URL", False),
        ("WWW-Authenticate", False),
        ("FSPIOP-Token", True), ("X-Author", True), ("X-Custom", True), ("Baggage", True),
    ],
)  # fmt: skip
def test_what_can_be_a_credential_or_another_request_is_not_forwarded(name: str, *, is_kept: bool) -> None:
    header = (name.encode(), b"1")
    assert select_forwarded([header]) == ([header] if is_kept else [])


async def test_a_connection_header_cannot_hide_who_sent_a_message() -> None:
    headers = [(b"connection", b"fspiop-source, date, x-custom"), (b"fspiop-source", b"payerfsp"), (b"x-custom", b"1")]
    async with open_parts() as parts:
        await parts.callbacks.forward(ask(method="PUT", headers=headers), "payeefsp", base.PARTIES_SUB_ID_PUT)
        message = await parts.payee.take()
        assert message.header("fspiop-source") == "payerfsp"
        assert "x-custom" not in message.names


async def test_a_proxy_is_called_in_place_of_the_fsp_behind_it() -> None:
    async with open_parts() as parts:
        asked = ask(method="PUT", body=BODY)
        await parts.callbacks.forward(asked, "remotefsp", base.PARTIES_SUB_ID_PUT, through="payeefsp")
        assert (await parts.payee.take()).header("fspiop-destination") == OWN["FSPIOP-Destination"]


@pytest.mark.parametrize(("resource", "called"), [("parties", "payeefsp"), ("participants", "payerfsp")])
async def test_an_error_for_another_scheme_goes_through_the_proxy(resource: str, called: str) -> None:
    async with open_parts() as parts:
        assert await parts.callbacks.put_error(ask(resource, proxy="payeefsp"), "payerfsp", Fault("3204"))
        message = await (parts.payee if called == "payeefsp" else parts.payer).take()
        assert message.header("fspiop-destination") == "payerfsp"


# Failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (500, "1001", "500"),
        (503, "1001", "503"),
        (400, "1001", "400"),
        (301, "1001", "301"),
        (404, "3200", "404"),
        (None, "1001", "no answer"),
    ],
)
async def test_an_fsp_that_refuses_or_does_not_answer_is_a_fault_without_its_address(
    status: int | None, code: str, word: str
) -> None:
    async with open_parts() as parts:
        parts.payee.answer = lambda _: status
        with pytest.raises(CallbackFailed) as caught:
            await parts.callbacks.forward(ask(), "payeefsp", base.PARTIES_SUB_ID_GET)
        fault = caught.value
        assert (fault.code, fault.answered) == (code, status)
        assert fault.extensions == (Extension("status", word),)
        assert "127.0.0.1" not in fault.description
        assert "its words" not in fault.description
        assert parts.count("forward", "refused" if status else "no_answer") == 1


async def test_an_fsp_without_the_endpoint_is_named_by_the_type_alone() -> None:
    async with open_parts() as parts:
        parts.scheme.missing.add(("payeefsp", base.PARTIES_SUB_ID_GET))
        with pytest.raises(CallbackFailed) as caught:
            await parts.callbacks.forward(ask(), "payeefsp", base.PARTIES_SUB_ID_GET)
        assert caught.value.description == (
            "Destination communication error - no FSPIOP_CALLBACK_URL_PARTIES_SUB_ID_GET endpoint for the FSP"
        )
        assert caught.value.extensions == ()
        assert parts.count("forward", "no_endpoint") == 1


@pytest.mark.parametrize(
    "template", ["", "not a url", "ftp://x/y", "http://{{partyIdentifier}}/x", "http://{{fsp}}:0/x"]
)
async def test_an_endpoint_that_cannot_be_called_is_a_fault(template: str) -> None:
    async with open_parts() as parts:
        parts.scheme.templates["payeefsp", base.PARTIES_SUB_ID_GET] = template
        with pytest.raises(CallbackFailed) as caught:
            await parts.callbacks.forward(ask(), "payeefsp", base.PARTIES_SUB_ID_GET)
        assert caught.value.code == "1001"


async def test_a_ledger_that_is_away_is_not_a_missing_endpoint() -> None:
    async with open_parts() as parts:
        parts.scheme.away = True
        with pytest.raises(Fault) as caught:
            await parts.callbacks.forward(ask(), "payeefsp", base.PARTIES_SUB_ID_GET)
        assert caught.value.code == "2003"
        assert not await parts.callbacks.put_error(ask(), "payerfsp", Fault("3204"))
        assert parts.count("error", "failed") == 1


@pytest.mark.parametrize(("status", "result"), [(500, "refused"), (None, "no_answer")])
async def test_an_error_that_its_fsp_does_not_take_is_counted_and_logged_without_identifiers(
    status: int | None, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_parts() as parts:
        parts.payer.answer = lambda _: status
        assert not await parts.callbacks.put_error(ask(), "payerfsp", Fault("3204"))
        assert parts.count("error", result) == 1
        (record,) = [one for one in caplog.records if one.name.endswith("callbacks")]
        assert "OUKAMA" not in str(record.__dict__)
        assert record.__dict__["fields"]["code"] == "3204"
        assert len(parts.payer.messages) == 1  # nothing is repeated


async def test_a_message_of_this_service_is_not_forwarded_again() -> None:
    async with open_parts(name="Hub-1") as parts:
        await parts.callbacks.forward(ask(), "payeefsp", base.PARTIES_SUB_ID_GET)
        message = await parts.payee.take()
        assert message.header("via") == "1.1 Hub-1"
        again = [(b"Via", b"1.0 gateway, 1.1 Hub-1")]
        with pytest.raises(CallbackFailed) as refused:
            await parts.callbacks.forward(ask(headers=again), "payeefsp", base.PARTIES_SUB_ID_GET)
        assert refused.value.code == "1001"
        await parts.callbacks.forward(ask(headers=[(b"via", b"1.1 Hub-2")]), "payeefsp", base.PARTIES_SUB_ID_GET)
        assert (await parts.payee.take()).header("via") == "1.1 Hub-1"
