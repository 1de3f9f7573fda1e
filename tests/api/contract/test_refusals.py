"""Every refusal has the one shape that ALS passes on, whichever part of the program refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hub import als, shapes
from hub.messages import (
    PARTICIPANTS,
    PAYER,
    STRANGER,
    SUB,
    delete,
    get,
    percent_encode,
    post,
    put,
    request,
    with_headers,
)
from hub.process import Hub, run_oracle
from hub.wire import Wire, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer, ValkeyServer

MIB: Final = 1024 * 1024


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    with run_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("oracle")) as hub:
        with Wire(hub.port) as wire:
            for target, body in (
                (b"/participants/ALIAS/held", PAYER),
                (b"/participants/ALIAS/twofold", SUB % b"a"),
                (b"/participants/ALIAS/twofold", SUB % b"b"),
            ):
                als.read_post(wire.ask(post(target, body)))
        yield hub


T: Final = b"/participants/MSISDN/525512345678"
BULK: Final = b'{"requestId":"1","partyList":[{"partyIdType":"ALIAS","partyIdentifier":"l","fspId":"payerfsp"}]}'
LARGE: Final = b'{"fspId":"payerfsp","x":"' + b"x" * (4 * MIB) + b'"}'

REFUSALS: Final = (
    ("a path that cannot be read", get(b"/participants/ALIAS/a%zz"), 400, {"3101"}),
    ("an identifier that is none", get(b"/participants/MSISDN/12"), 400, {"3101"}),
    ("an identifier too long", get(b"/participants/ALIAS/" + b"x" * 129), 400, {"3101"}),
    ("a type that is none", get(b"/participants/TAX_ID/1"), 400, {"3100", "3101"}),
    ("a currency that is none", get(T + b"?currency=MXNN"), 400, {"3100", "3101"}),
    ("an empty SubId", get(T + b"?partySubIdOrType="), 400, {"3100", "3101"}),
    ("a query member too many", get(T + b"?a=b"), 400, {"3101", "3103"}),
    ("a body that cannot be read", post(T, b"{"), 400, {"3100", "3101"}),
    ("a body of another shape", post(T, b"[]"), 400, {"3100", "3101"}),
    ("a member of another type", post(T, b'{"fspId":1}'), 400, {"3100", "3101"}),
    ("a member too long", post(T, b'{"fspId":"' + b"f" * 33 + b'"}'), 400, {"3100", "3101"}),
    ("a currency of another shape", post(T, b'{"fspId":"payerfsp","currency":"mx"}'), 400, {"3100", "3101"}),
    ("a source that is not the FSP", post(T, b'{"fspId":"payeefsp"}'), 400, {"3100", "3101"}),
    ("a member missing", post(T, b"{}"), 400, {"3102"}),
    (
        "a header missing",
        post(T, PAYER, PARTICIPANTS.replace(b"fspiop-source", b"x-source")),
        400,
        {"3102"},
    ),
    ("a body too large", post(T, LARGE), 413, {"3104"}),
    ("a body too large for one party", post(T, LARGE[: 65 * 1024]), 413, {"3104"}),
    (
        "a body too large, in chunks",
        request(b"POST " + T, with_headers(PARTICIPANTS, b"transfer-encoding: chunked"))
        + b"".join(b"40000\r\n" + LARGE[:0x40000] + b"\r\n" for _ in range(17)),
        413,
        {"3104"},
    ),
    ("a path that is not there", get(b"/nowhere"), 404, {"3002"}),
    ("a page of the other listener", get(b"/docs"), 404, {"3002"}),
    ("half a path", get(b"/participants/MSISDN"), 404, {"3002"}),
    ("a path too deep", get(T + b"/a/b"), 404, {"3002"}),
    ("a base path", get(b"/oracle" + T), 404, {"3002"}),
    ("parties, which an oracle does not serve", get(b"/parties/MSISDN/525512345678"), 404, {"3002"}),
    ("a method that no URI has", request(b"PATCH " + T, PARTICIPANTS), 405, {"3000"}),
    ("OPTIONS", request(b"OPTIONS " + T, PARTICIPANTS), 405, {"3000"}),
    ("GET of the bulk", get(b"/participants"), 405, {"3000"}),
    ("nothing to change", put(b"/participants/ALIAS/unheld", PAYER), 404, {"3204"}),
    ("nothing to remove", delete(b"/participants/ALIAS/unheld"), 404, {"3204"}),
    ("taken", post(b"/participants/ALIAS/held", b'{"fspId":"strangerfsp"}', STRANGER), 409, {"3003"}),
    (
        "somebody else's to change",
        put(b"/participants/ALIAS/held", b'{"fspId":"strangerfsp"}', STRANGER),
        403,
        {"3003", "3040"},
    ),
    ("somebody else's to remove", delete(b"/participants/ALIAS/held", STRANGER), 403, {"3040"}),
    (
        "an FSP that is suspended",
        post(T, b'{"fspId":"suspendedfsp"}', PARTICIPANTS.replace(b"source: payerfsp", b"source: suspendedfsp")),
        400,
        {"3201"},
    ),
    ("ambiguous", delete(b"/participants/ALIAS/twofold"), 409, {"3040"}),
    (
        "two FSPs behind one call",
        post(T, PAYER, PARTICIPANTS + b"FSPIOP-Source: other\r\n"),
        400,
        {"3101"},
    ),
    (
        "a currency in the query that is not the body's",
        post(T + b"?currency=EUR", b'{"fspId":"payerfsp","currency":"JPY"}'),
        400,
        {"3101"},
    ),
    # The HTTP server refuses these before the path is read.
    ("a broken request line", b"nonsense\r\n\r\n", 400, {"3101"}),
    ("a request of no version", b"GET /health\r\n\r\n", 400, {"3101"}),
    ("a version before this protocol", b"GET /health HTTP/0.9\r\n\r\n", 400, {"3101"}),
    ("a version after it", b"GET /health HTTP/2.0\r\n\r\n", 400, {"3101"}),
    ("another protocol", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, {"3101"}),
    ("a folded header", b"GET /health HTTP/1.1\r\na: b\r\n c\r\n\r\n", 400, {"3101"}),
    ("two lengths", b"POST /x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400, {"3101"}),
    ("an invalid length", b"POST /x HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, {"3101"}),
    (
        "a coding that is not understood",
        b"POST /x HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        400,
        {"3101"},
    ),
    ("a URI too long", get(b"/participants/ALIAS/" + b"x" * 20_000), 414, {"3101"}),
    ("headers too many", get(T, with_headers(PARTICIPANTS, *[b"a: b"] * 300)), 431, {"3100"}),
    ("headers too large", get(T, with_headers(PARTICIPANTS, b"a: " + b"b" * 100_000)), 431, {"3100"}),
    ("a tunnel", b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 405, {"3000"}),
)


@pytest.mark.parametrize(("raw", "status", "codes"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_a_refusal_is_error_information_and_nothing_else(hub: Hub, raw: bytes, status: int, codes: set[str]) -> None:
    shapes.expect_refusal(ask(hub.port, raw), status, codes, als.read_delete)


def test_refusals_of_requests_leave_the_connection_open(hub: Hub) -> None:
    """Other DFSPs share the socket: a bad request must not make their lookups fail."""
    with Wire(hub.port) as wire:
        for name, raw, status, _ in REFUSALS[: [r[0] for r in REFUSALS].index("a broken request line")]:
            if status != 413:  # the rest of such a body is not read
                assert wire.ask(raw).status == status, name
        assert wire.opened == 1


@pytest.mark.parametrize(
    ("target", "methods"),
    [
        (b"/participants", {"POST"}),
        (b"//participants/", {"POST"}),
        (T, {"DELETE", "GET", "HEAD", "POST", "PUT"}),
        (T + b"/sub?currency=MXN", {"DELETE", "GET", "HEAD", "POST", "PUT"}),
        *((page, {"GET", "HEAD"}) for page in (b"/", b"/health", b"/ready", b"/live", b"/openapi.json?a")),
    ],
)
def test_a_405_names_the_methods_that_the_path_has(hub: Hub, target: bytes, methods: set[str]) -> None:
    refused = set()
    with Wire(hub.port) as wire:
        for method in ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"):
            answer = wire.ask(request(method.encode() + b" " + target, PARTICIPANTS))
            if answer.status == 405:
                assert set(answer.headers["allow"].split(", ")) == methods, method
                refused.add(method)
            else:
                assert "allow" not in answer.headers
                assert method in methods
    assert not refused & methods


def test_a_tunnel_has_no_methods(hub: Hub) -> None:
    assert ask(hub.port, b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n").headers["allow"] == ""


def test_a_request_cut_short(hub: Hub) -> None:
    with Wire(hub.port) as wire:
        wire.send(post(T, PAYER)[:-5])
        wire.finish()
        shapes.expect_refusal(wire.receive(), 400, {"3101"}, als.read_post)
        assert wire.at_end()


def test_a_body_just_under_the_limit_is_read(hub: Hub) -> None:
    for target, start, limit in (
        (b"/participants/ALIAS/large", PAYER[:-1], 64 * 1024),
        (b"/participants", BULK[:-1], 4 * MIB),
    ):
        padding = limit - len(start) - len(b',"x":""}')
        body = start + b',"x":"' + b"x" * padding + b'"}'
        assert len(body) == limit
        answer = ask(hub.port, post(target, body))
        assert answer.status == 201, answer


def test_head_has_no_body(hub: Hub) -> None:
    """Served or refused, but with the right framing: the bytes after it are the next answer."""
    with Wire(hub.port) as wire:
        assert wire.ask(request(b"HEAD " + T, PARTICIPANTS)).status in {200, 405}
        assert shapes.expect_party_list(wire.ask(get(T))) == []


CUT: Final = [
    ("12", "OUKAMA(N)654321"),
    ("12", "oukama-n-654321"),
    ("12", "OUKAMA[N]654321"),
    ("12", "250019-N-654321"),
    ("12", "OUKAMA(N)65432"),  # a digit is missing as well
    ("\u1041\u1042", "\u1025\u1000\u1019(\u1014\u102d\u102f\u1004\u103a)\u1046\u1045\u1044\u1043\u1042\u1041"),
    ("1", "MAKANA(N)654321"),
]


@pytest.mark.parametrize(("state", "rest"), CUT)
def test_an_nrc_that_a_proxy_cut_at_its_slash_is_refused(hub: Hub, state: str, rest: str) -> None:
    """Stored as an id and a SubId, it would be a second key of a card that another FSP can hold."""
    raw_state, raw_rest = (percent_encode(text.encode()) for text in (state, rest))
    base = b"/participants/PERSONAL_ID/" + raw_state
    path, query = base + b"/" + raw_rest, base + b"?partySubIdOrType=" + raw_rest
    body = SUB % rest.encode()
    requests = [get(path), get(query), post(path, PAYER), post(query, PAYER), post(base, body), post(path, body)]
    requests += [put(path, PAYER), put(query, PAYER), put(base, body), delete(path), delete(query)]
    item = {"partyIdType": "PERSONAL_ID", "partyIdentifier": state, "fspId": "payerfsp", "partySubIdOrType": rest}
    with Wire(hub.port) as wire:
        for message in requests:
            answer = wire.ask(message)
            information = answer.json()["errorInformation"]
            assert (answer.status, information["errorCode"]) == (400, "3101"), message
            assert "slash" in information["errorDescription"]
            assert "654321"[:5] not in information["errorDescription"]
        (party,) = wire.ask(post(b"/participants", shapes.dump_json({"partyList": [item]}))).json()["partyList"]
        assert party["errorInformation"]["errorCode"] == "3101"
        # The type of the card in the path as well: no such URI.
        for method in (get(path + b"/NATIONAL_REGISTRATION"), post(path + b"/NATIONAL_REGISTRATION", PAYER)):
            assert wire.ask(method).status == 404
        assert wire.ask(get(path + b"?partySubIdOrType=NATIONAL_REGISTRATION")).status == 400
        # Any other SubId is still part of the key.
        assert shapes.expect_party_list(wire.ask(get(base + b"?partySubIdOrType=PASSPORT"))) == []


@pytest.mark.parametrize(
    ("identifier", "reason"),
    [
        (b"5588887777", "country"), (b"+5588887777", "country"), (b"3312340006", "country"), (b"9250000012", "country"),
        (b"00525512345678", "00"), (b"tel:+525512345678", "tel"),
    ],
)  # fmt: skip
def test_a_number_without_its_country_is_refused_for_every_method(hub: Hub, identifier: bytes, reason: str) -> None:
    target = b"/participants/MSISDN/" + identifier
    with Wire(hub.port) as wire:
        for message in (get(target), post(target, PAYER), put(target, PAYER), delete(target)):
            answer = wire.ask(message)
            information = answer.json()["errorInformation"]
            assert (answer.status, information["errorCode"]) == (400, "3101")
            assert reason in information["errorDescription"]


def test_a_number_that_is_valid_nowhere_or_abroad_is_served(hub: Hub) -> None:
    burmese = percent_encode("၉၅၉၂၅၀၀၀၀၀၁၂".encode())
    with Wire(hub.port) as wire:
        for identifier in (b"123456789", b"44123456789", b"17891239876", b"9512345678", b"16135551212", burmese):
            target = b"/participants/MSISDN/" + identifier
            als.read_post(wire.ask(post(target, PAYER)))
            assert len(shapes.expect_party_list(wire.ask(get(target)))) == 1
        assert len(shapes.expect_party_list(wire.ask(get(b"/participants/MSISDN/959250000012")))) == 1
