"""Oracles elsewhere: what is sent to them over a socket, byte for byte, and what a DFSP gets of their answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest
import servers
from harness import Bench, Message, Mock, Reply, open_bench, row
from noise import make_bodies

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.directory import BulkItem, Entry
from oracle.api.dfsp.faults import Extension, Fault, encode
from oracle.api.dfsp.oracles import OracleDirectories, RemoteOracle
from oracle.api.health import Health
from oracle.api.http import HttpServer
from oracle.api.hub.listener import Hub
from oracle.api.hub.participants import Participants
from oracle.calls import Answer, Call, Caller, CallLimits, Calls
from oracle.errors import DirectoryUnavailable
from oracle.identifiers import Reading
from oracle.scheme.oracles import Registry
from oracle.store.oracles import TYPES, RegisteredOracle
from oracle.telemetry.metrics import Metrics
from oracle.telemetry.tracing import Tracing

METRICS = Metrics.open(None, "test", 0)
PHONE = Party("MSISDN", "+525512345678")
NRC = Party("PERSONAL_ID", "12/OUKAMA(N) 123456", "NATIONAL_REGISTRATION")
CONTENT_TYPE = b"application/vnd.interoperability.participants+json;version=1.1"
SECRETS = [(b"Cookie", b"a=b"), (b"Authorization", b"Basic eDp5"), (b"Connection", b"upgrade"), (b"X-Other", b"1")]
ASKED = Asked(
    "GET", "participants", "payerfsp",
    [(b"Content-Type", CONTENT_TYPE), (b"Accept", b"application/vnd.interoperability.participants+json;version=1"),
     (b"TraceParent", b"00-aa-bb-01"), *SECRETS],
)  # fmt: skip


class Elsewhere:
    """An oracle that keeps what it is asked, and gives the answers that a test has prepared."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[tuple[int, bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
                content = await reader.readexactly(int(headers.pop("content-length", 0)))
                method, target, _ = first.split(" ")
                self.requests.append((method, target, headers, json.loads(content) if content else None))
                status, body = self.answers.pop(0)
                length = b"" if status == 204 else b"content-length: %d\r\n" % len(body)
                writer.write(b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, length, body))
        writer.close()


class World:
    def __init__(self, elsewhere: Elsewhere, remote: RemoteOracle, calls: Calls) -> None:
        self.elsewhere, self.remote, self.calls = elsewhere, remote, calls

    async def find(self, status: int, body: bytes | dict[str, Any] | list[Any], party: Party = PHONE) -> Any:
        self.prepare(status, body)
        return await self.remote.find(ASKED, party, None)

    def prepare(self, status: int, body: Any) -> None:
        self.elsewhere.answers.append((status, body if isinstance(body, bytes) else json.dumps(body).encode()))

    async def fail(self, status: int, body: Any, party: Party = PHONE) -> tuple[str, str]:
        with pytest.raises(Fault) as caught:
            await self.find(status, body, party)
        return caught.value.code, caught.value.description


@pytest.fixture
async def world() -> AsyncIterator[World]:
    elsewhere = Elsewhere()
    server = await asyncio.start_server(elsewhere.serve, "127.0.0.1", 0)
    elsewhere.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base"
    calls = Calls(METRICS, CallLimits(timeout_s=5))
    try:
        yield World(elsewhere, RemoteOracle(elsewhere.url, calls, METRICS, hub_name="Hub"), calls)
    finally:
        await calls.close()
        server.close()
        await server.wait_closed()


@row("O30", "O35", "D910", "D914")
async def test_a_lookup_is_sent_as_als_sends_it(world: World) -> None:
    assert await world.find(200, {"partyList": [{"fspId": "payeefsp"}]}) == [Entry("payeefsp")]
    world.prepare(200, {"partyList": []})
    assert await world.remote.find(ASKED, NRC, "MXN") == []
    plain, encoded = world.elsewhere.requests
    assert plain[:2] == ("GET", "/base/participants/MSISDN/%2B525512345678")
    assert encoded[1] == (
        "/base/participants/PERSONAL_ID/12%2FOUKAMA%28N%29%20123456?currency=MXN&partySubIdOrType=NATIONAL_REGISTRATION"
    )
    headers = dict(plain[2])
    assert headers.pop("date").endswith(" GMT")
    assert headers.pop("host").startswith("127.0.0.1:")
    assert headers == {
        "content-type": CONTENT_TYPE.decode(),
        "accept": "application/vnd.interoperability.participants+json;version=1",
        "connection": "keep-alive",
        "via": "1.1 Hub-account-lookup",
        "fspiop-source": "payerfsp",
        "fspiop-destination": "Hub",
        "traceparent": "00-aa-bb-01",
    }
    # The DFSP's own destination is passed on, and without its content-type there is a usual one.
    asked = Asked("GET", "parties", "payerfsp", [], destination="payeefsp")
    world.prepare(200, b"")
    assert await world.remote.find(asked, PHONE, None) == []
    headers = world.elsewhere.requests[-1][2]
    assert headers["fspiop-destination"] == "payeefsp"
    assert headers["content-type"] == headers["accept"] == "application/vnd.interoperability.parties+json;version=2.0"


@row("O31", "O32", "O36", "D909", "D911")
async def test_changes_are_sent_as_als_sends_them(world: World) -> None:
    body = b'{"fspId":"payerfsp","extensionList":{"extension":[{"key":"a","value":"b"}]},"foo":{"a":1}}'
    headers = [(b"content-type", CONTENT_TYPE)]
    asked = Asked("POST", "participants", "payerfsp", headers, body, content=json.loads(body))
    for status, text in ((201, b""), (200, b"{}"), (204, b""), (202, b"{}")):
        world.prepare(status, text)
    remote = world.remote
    await remote.register(asked, NRC, "payerfsp", "MXN")
    await remote.update(asked, PHONE, "payerfsp", None)
    await remote.remove(asked, NRC, "MXN")
    await remote.remove(asked, PHONE, None)
    post, put, named, delete = world.elsewhere.requests
    target = "/base/participants/PERSONAL_ID/12%2FOUKAMA%28N%29%20123456"
    assert post[:2] == ("POST", target)
    assert post[3] == json.loads(body) | {"currency": "MXN", "partySubIdOrType": "NATIONAL_REGISTRATION"}
    assert put[:2] == ("PUT", "/base/participants/MSISDN/%2B525512345678")
    assert put[3] == json.loads(body)
    assert "accept" in post[2]
    assert "accept" not in put[2]
    assert (named[1], named[3]) == (f"{target}?currency=MXN&partySubIdOrType=NATIONAL_REGISTRATION", None)
    assert delete[:2] == ("DELETE", "/base/participants/MSISDN/%2B525512345678")


@row("O34", "O35")
async def test_hints_are_sent_in_the_name_of_parties(world: World) -> None:
    asked = Asked("PUT", "parties", "remotefsp", [], b'{"party":{"name":"secret"}}', proxy="proxy")
    world.prepare(201, b"")
    world.prepare(204, b"")
    await world.remote.put_hint(asked, NRC, "remotefsp")
    await world.remote.forget_hints(asked, NRC)
    post, delete = world.elsewhere.requests
    assert post[3] == {"fspId": "remotefsp", "partySubIdOrType": "NATIONAL_REGISTRATION"}
    assert "accept" not in post[2]
    for request in (post, delete):
        assert request[2]["content-type"] == "application/vnd.interoperability.parties+json;version=2.0"
        assert request[2]["fspiop-source"] == "remotefsp"
    assert delete[1].endswith("?partySubIdOrType=NATIONAL_REGISTRATION")


@row("O36")
async def test_entries_are_read_and_nobody_is_no_entry(world: World) -> None:
    listed = [
        {"fspId": "a", "partySubIdOrType": "S", "currency": "MXN", "more": [1]},
        {"fspId": "b", "partySubIdOrType": "", "currency": ["MXN", "USD"]},
        {"fspId": "c", "partySubIdOrType": None, "currency": None},
    ]
    assert await world.find(202, {"partyList": listed}) == [
        Entry("a", "S", "MXN"), Entry("b", None, "MXN"), Entry("b", None, "USD"), Entry("c"),
    ]  # fmt: skip
    for status, body in ((200, {"partyList": []}), (200, {}), (200, b""), (204, b""), (200, {"partyList": None})):
        assert await world.find(status, body) == []


@row("O39", "D913", "D916")
async def test_an_answer_that_cannot_be_read_is_an_error_and_is_not_shown(world: World) -> None:
    unreadable = "1001", "Destination communication error - The answer of the oracle cannot be read"
    wrong: list[Any] = [
        b"<html>", b"{", b"[]", b"5", b"\xff", b"[" * 100_000, {"partyList": {}}, {"partyList": ["payeefsp"]},
        {"partyList": [{}]}, {"partyList": [{"fspId": ""}]}, {"partyList": [{"fspId": 5}]},
        {"partyList": [{"fspId": "a" * 33}]}, {"partyList": [{"fspId": "a\r\nx: y"}]}, {"partyList": [{"fspId": "ñ"}]},
        {"partyList": [{"fspId": "a", "currency": {}}]}, {"partyList": [{"fspId": "a", "partySubIdOrType": 1}]},
        {"partyList": [{"fspId": "a"}] * 1_001}, b'{"partyList":[],"x":"%b"}' % (b"a" * 1_100_000),
    ]  # fmt: skip
    for body in wrong:
        assert await world.fail(200, body) == unreadable, body


@row("O37", "D918")
async def test_an_error_of_the_oracle_is_passed_on(world: World) -> None:
    def describe(code: Any, description: Any, **more: Any) -> dict[str, Any]:
        return {"errorInformation": {"errorCode": code, "errorDescription": description, **more}}

    for status in (400, 404, 503, 200):
        assert await world.fail(status, describe("3204", "Party not found")) == ("3204", "Party not found")
    assert await world.fail(400, describe("3003", "x" * 200)) == ("3003", "x" * 128)
    # Without a text that can be passed on, the DFSP gets the general one.
    assert await world.fail(400, describe("3003", "")) == ("3003", "Add Party information error")
    assert await world.fail(400, describe("5001", None)) == ("5001", "The oracle refused the request")
    # An identifier can be in that text, so it is not where logs and metrics look.
    world.prepare(400, describe("3204", "nobody has +525512345678"))
    with pytest.raises(Fault) as caught:
        await world.remote.find(ASKED, PHONE, None)
    assert "5255" not in caught.value.detail + str(caught.value)
    listed = {"extension": [{"key": "a", "value": "b"}]}
    world.prepare(400, describe("3204", "no", extensionList=listed))
    with pytest.raises(Fault) as caught:
        await world.remote.find(ASKED, PHONE, None)
    assert caught.value.extensions == (Extension("a", "b"),)
    assert json.loads(encode(caught.value)) == describe("3204", "no", extensionList=listed)
    wrong: list[Any] = [5, {}, {"extension": []}, {"extension": [{"key": 1, "value": "b"}]}, {"extension": "x"}]
    for bad in wrong:
        world.prepare(400, describe("3204", "no", extensionList=bad))
        with pytest.raises(Fault) as caught:
            await world.remote.find(ASKED, PHONE, None)
        assert caught.value.extensions == ()


@row("O38", "D910", "D913", "D917")
async def test_other_failures_show_nothing_of_the_oracle(world: World) -> None:
    texts = {
        "3200": "Generic ID not found - The oracle refused the request",
        "3000": "Generic client error - The oracle refused the request",
        "1001": "Destination communication error - The oracle of this party type does not answer",
    }
    leak = b'{"message":"inside 10.0.0.1","errorInformation":{"errorCode":"9999","errorDescription":"x"}}'
    for status, code in ((404, "3200"), (400, "3000"), (401, "3000"), (429, "3000"), (500, "1001"), (503, "1001")):
        assert await world.fail(status, leak) == (code, texts[code])
        assert await world.fail(status, b"") == (code, texts[code])
    redirected = "1001", "Destination communication error - The answer of the oracle cannot be read"
    assert await world.fail(301, b"") == redirected
    for bad_code in (5, "99", "0001", "12345", None):
        body = {"errorInformation": {"errorCode": bad_code, "errorDescription": "x"}}
        assert (await world.fail(400, body))[0] == "3000"
    nobody = RemoteOracle(f"http://127.0.0.1:{servers.free_port()}", world.calls, METRICS, hub_name="Hub")
    with pytest.raises(Fault) as caught:
        await nobody.register(ASKED, PHONE, "payerfsp", None)
    assert (caught.value.code, caught.value.description) == ("1001", texts["1001"])
    for identifier in (".", ".."):
        with pytest.raises(Fault) as caught:
            await world.remote.remove(ASKED, Party("ALIAS", identifier), None)
        assert caught.value.code == "3101"


@row("O33", "D912")
async def test_a_type_that_fails_does_not_fail_the_items_of_other_types(world: World) -> None:
    items = [
        BulkItem(Party("MSISDN", "1"), "payerfsp"), BulkItem(Party("EMAIL", "a@b.mx", "S"), "payerfsp"),
        BulkItem(Party("MSISDN", "2"), "payerfsp"), BulkItem(Party("MSISDN", "3"), "other"),
        BulkItem(Party("ALIAS", "x"), "payerfsp"),
    ]  # fmt: skip

    def name(party_id_type: str, identifier: str, **more: Any) -> dict[str, Any]:
        return {"partyId": {"partyIdType": party_id_type, "partyIdentifier": identifier}, **more}

    held = {"errorCode": "3003", "errorDescription": "Already registered to other FSP"}
    # In another order than they were sent.
    world.prepare(201, {"partyList": [name("MSISDN", "2", errorInformation=held), name("MSISDN", "1")]})
    world.prepare(500, b"down")
    world.prepare(201, {"partyList": [name("ALIAS", "X")]})  # written in another form
    found = await world.remote.register_many(ASKED, "b51e", items, "MXN")
    assert [None if each is None else (each.code, each.description) for each in found] == [
        None,
        ("1001", "Destination communication error - The oracle of this party type does not answer"),
        ("3003", "Already registered to other FSP"),
        ("3003", "Add Party information error - Only the FSP that holds this alias can change it"),
        None,
    ]
    assert [(request[1], request[3]["requestId"]) for request in world.elsewhere.requests] == [
        ("/base/participants", "b51e")
    ] * 3
    first, second, _ = (request[3]["partyList"] for request in world.elsewhere.requests)
    assert [item["partyIdentifier"] for item in first] == ["1", "2"]
    assert second == [
        {
            "partyIdType": "EMAIL",
            "partyIdentifier": "a@b.mx",
            "fspId": "payerfsp",
            "partySubIdOrType": "S",
            "currency": "MXN",
        }
    ]


@row("O33")
async def test_a_bulk_without_a_result_for_an_item_is_an_error_of_that_item(world: World) -> None:
    items = [BulkItem(Party("MSISDN", str(number)), "payerfsp") for number in range(3)]
    one = {"partyId": {"partyIdType": "MSISDN", "partyIdentifier": "1"}}
    silent = "Add Party information error - The oracle did not answer for this party"
    answers: list[tuple[Any, list[Any]]] = [
        ({"partyList": [one]}, [silent, None, silent]),
        ({"partyList": [one] * 9}, [silent, None, silent]),
        ({"partyList": []}, [silent] * 3),
        (b"", [silent] * 3),
        ({"partyList": [{"partyIdType": "MSISDN"}]}, ["1001"] * 3),
        (b"<html>", ["1001"] * 3),
    ]
    for body, expected in answers:
        world.prepare(201, body)
        found = await world.remote.register_many(ASKED, "b51e", items, None)
        got = [None if each is None else each.code if each.code == "1001" else each.description for each in found]
        assert got == expected, body


async def test_a_large_bulk_lets_others_have_their_turn() -> None:
    items = [BulkItem(Party("MSISDN", str(number)), "payerfsp") for number in range(10_000)]
    named = [{"partyId": {"partyIdType": "MSISDN", "partyIdentifier": item.party.identifier}} for item in items]
    caller = Scripted(Answer(201, (), json.dumps({"partyList": named[:-1]}).encode()))
    turns = 0
    done = asyncio.Event()

    async def count_turns() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    found = await RemoteOracle("http://a", caller, METRICS, hub_name="Hub").register_many(ASKED, "b51e", items, "MXN")
    done.set()
    await counting
    assert [None if each is None else each.code for each in found] == [None] * 9_999 + ["3003"]
    assert turns > 10


class Scripted(Caller):
    """Gives one answer to every call."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def call(self, call: Call, *, timeout_s: float | None = None) -> Answer:  # noqa: ARG002
        return self.answer

    async def close(self) -> None: ...


WORDS = (
    *("partyList", "fspId", "partyId", "partyIdType", "partyIdentifier", "partySubIdOrType", "currency", "MSISDN"),
    *("errorInformation", "errorCode", "errorDescription", "extensionList", "extension", "key", "value", "3204"),
)


@row("O36", "O37", "O38", "O39")
async def test_whatever_an_oracle_answers_is_entries_or_an_error(complete: bool) -> None:
    items = [BulkItem(PHONE, "payerfsp"), BulkItem(NRC, "payerfsp")]
    statuses = itertools.cycle((200, 201, 204, 302, 400, 404, 500, 999))
    for status, body in zip(statuses, make_bodies(WORDS, 20_000 if complete else 800), strict=False):
        remote = RemoteOracle("http://oracle.example", Scripted(Answer(status, (), body)), METRICS, hub_name="Hub")
        for fault in await ask_all(remote, items):
            information = json.loads(encode(fault))["errorInformation"]
            assert len(information["errorCode"]) == 4
            assert 1 <= len(information["errorDescription"]) <= 128


async def ask_all(remote: RemoteOracle, items: list[BulkItem]) -> list[Fault]:
    """Ask for everything; return the faults."""
    faults: list[Fault] = []
    calls: tuple[Awaitable[Any], ...] = (
        remote.find(ASKED, PHONE, "MXN"), remote.register(ASKED, PHONE, "payerfsp", None),
        remote.update(ASKED, NRC, "payerfsp", None), remote.remove(ASKED, NRC, "MXN"),
        remote.put_hint(ASKED, NRC, "remotefsp"), remote.forget_hints(ASKED, NRC),
    )  # fmt: skip
    for call in calls:
        try:
            found = await call
        except Fault as fault:
            faults.append(fault)
        else:
            assert all(isinstance(entry, Entry) and entry.fsp_id.isascii() for entry in found or ())
    results = await remote.register_many(ASKED, "b51e", items, None)
    assert len(results) == len(items)
    return faults + [fault for fault in results if fault is not None]


# Through the listener -------------------------------------------------------------------------------------------


def answer_oracle(message: Message) -> Reply:
    """Answer as an oracle that has every party at payeefsp, and fails to register any."""
    if message.method == "GET":
        return Reply(200, b'{"partyList":[{"fspId":"payeefsp"}]}', {"content-type": "application/json"})
    return Reply(500, b"stack trace of 10.0.0.1")


@row("O20", "O21", "O30", "D912", "D913")
async def test_dfsps_reach_the_oracle_of_each_type(database_url: str, redis_url: str) -> None:
    oracle = Mock()
    oracle.reply = answer_oracle
    await oracle.start()
    db = await asyncpg.connect(database_url)
    await db.executemany(
        "INSERT INTO oracles (party_id_type, url) VALUES ($1, $2)",
        [("MSISDN", f"{oracle.url}/base"), ("EMAIL", "http://oracle-hub:3000/")],
    )
    await db.close()
    try:
        async with open_bench(database_url, redis_url, account_lookup_own_urls=("http://oracle-hub:3000",)) as bench:
            # Elsewhere.
            assert (await bench.ask("GET", "/participants/MSISDN/525512345678")).status == 202
            (callback,) = await bench.payer.received()
            assert callback.json == {"fspId": "payeefsp"}
            page = bench.metrics.render(als=True).decode()
            assert re.search(r'^moja_als_egress_oracleRequest_count\{.*success="true".*\} 1\.0$', page, re.MULTILINE)
            (asked,) = oracle.messages
            assert asked.line == b"GET /base/participants/MSISDN/525512345678 HTTP/1.1"
            assert asked.headers["fspiop-source"] == "payerfsp"
            assert (await bench.ask("GET", "/parties/MSISDN/525512345678")).status == 202
            (forwarded,) = await bench.payee.received()
            assert forwarded.line == b"GET /payeefsp/parties/MSISDN/525512345678 HTTP/1.1"
            assert "parties+json" in oracle.messages[-1].headers["content-type"]
            bench.payer.forget()
            bench.payee.forget()
            # Our own directory, under a URL of our own and for a type without an oracle.
            count = len(oracle.messages)
            await bench.register("EMAIL", "ana@example.mx")
            await bench.register("ALIAS", "ana")
            assert len(oracle.messages) == count
            # A bulk for both: the type that fails does not fail the other.
            items = [("MSISDN", "525512345679"), ("EMAIL", "eva@example.mx")]
            party_list = [{"partyIdType": kind, "partyIdentifier": text, "fspId": "payerfsp"} for kind, text in items]
            body = {"requestId": "b51ec534-ee48-4575-b6a9-ead2955b8069", "partyList": party_list}
            assert (await bench.ask("POST", "/participants", body)).status == 200
            (callback,) = await bench.payer.received()
            failed, done = callback.json["partyList"]
            assert failed["errorInformation"]["errorCode"] == "1001"
            assert "errorInformation" not in done
            assert b"10.0.0.1" not in callback.body
            assert b"127.0.0.1" not in callback.body
    finally:
        await oracle.stop()


@asynccontextmanager
async def open_hub_listener(bench: Bench) -> AsyncIterator[str]:
    """Open the hub listener on the same directory; yield its base URL."""
    tracing = Tracing.open("test", None, 0.0, metrics=bench.metrics)
    store = bench.store
    participants = Participants(
        store.lookups, store.changes, store.routes, bench.metrics, tracing, change_timeout_s=60,
        reading=Reading.of(bench.settings), ignored_hour_max=100,
    )  # fmt: skip
    health = Health(store.coherence, store.postgres, store.changes, bench.metrics, waiting_max_s=300)
    hub = Hub(participants, health, bench.metrics)
    server = HttpServer(hub.serve, on_error=bench.defects.append)
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    await server.start(sock)
    try:
        yield url
    finally:
        server.close()
        await participants.close()
        tracing.close()


async def register_url(database_url: str, url: str) -> None:
    db = await asyncpg.connect(database_url)
    await db.execute("DELETE FROM oracles")
    await db.executemany("INSERT INTO oracles (party_id_type, url) VALUES ($1, $2)", [(name, url) for name in TYPES])
    await db.close()


def simplify(message: Message) -> tuple[str, Any]:
    """Name the target and the result of a callback; of errors the codes, because descriptions have two forms."""
    content = message.json
    if "errorInformation" in content:
        return message.target, content["errorInformation"]["errorCode"]
    items = content.get("partyList")
    if items is None or "partyId" not in items[0]:
        return message.target, content
    codes = [item.get("errorInformation", {}).get("errorCode") for item in items]
    return message.target, [(item["partyId"], code) for item, code in zip(items, codes, strict=True)]


async def live(bench: Bench) -> list[tuple[str, Any]]:
    """Do what DFSPs do, one after the other; return what they were told."""
    nrc = "PERSONAL_ID/12%2FOUKAMA(N)123456/NATIONAL_REGISTRATION"
    mine, theirs = {"fspId": "payeefsp"}, {"fspId": "payerfsp"}
    party_list = [
        {"partyIdType": "MSISDN", "partyIdentifier": "525512345670", "fspId": "payerfsp"},
        {"partyIdType": "MSISDN", "partyIdentifier": "525512345678", "fspId": "payerfsp"},
        {"partyIdType": "EMAIL", "partyIdentifier": "eva+1@example.mx", "fspId": "payerfsp"},
        {"partyIdType": "ALIAS", "partyIdentifier": "eva", "partySubIdOrType": "Home", "fspId": "payerfsp"},
    ]
    bulk = {"requestId": "b51ec534-ee48-4575-b6a9-ead2955b8069", "partyList": party_list, "currency": "MXN"}
    calls: list[tuple[str, str, str, Any]] = [
        ("payeefsp", "POST", "/participants/MSISDN/525512345678", mine),
        ("payeefsp", "POST", f"/participants/{nrc}", mine | {"currency": "MMK"}),
        ("payeefsp", "POST", "/participants/ALIAS/shop/Till", mine),
        ("payerfsp", "POST", "/participants/MSISDN/525512345678", theirs),  # held by another FSP
        ("payerfsp", "GET", "/participants/MSISDN/525512345678", None),
        ("payerfsp", "GET", f"/participants/{nrc}", None),
        ("payerfsp", "GET", f"/participants/{nrc}?currency=USD", None),
        ("payerfsp", "GET", "/participants/ALIAS/shop/till", None),
        ("payerfsp", "GET", "/participants/ALIAS/nobody", None),
        ("payeefsp", "PUT", f"/participants/{nrc}", mine | {"currency": "USD"}),
        ("payerfsp", "GET", f"/participants/{nrc}?currency=USD", None),
        ("payerfsp", "DELETE", "/participants/ALIAS/shop/Till", None),  # not the owner
        ("payeefsp", "DELETE", "/participants/ALIAS/shop/Till", None),
        ("payerfsp", "GET", "/participants/ALIAS/shop/Till", None),
        ("payerfsp", "POST", "/participants", bulk),
        ("payeefsp", "GET", "/participants/EMAIL/eva%2B1@example.mx", None),
        ("payeefsp", "DELETE", "/participants/MSISDN/525512345678", None),
        ("payeefsp", "DELETE", f"/participants/{nrc}?currency=USD", None),
        ("payerfsp", "DELETE", "/participants/EMAIL/eva%2B1@example.mx", None),
        ("payerfsp", "DELETE", "/participants/MSISDN/525512345670", None),
        ("payerfsp", "DELETE", "/participants/ALIAS/eva/Home", None),
    ]
    told = []
    for source, method, target, body in calls:
        reply = await bench.ask(method, target, body or b"", source=source)
        assert reply.status in (200, 202), (target, reply)
        await bench.settle()
        (callback,) = bench.dfsps[source].messages
        told.append(simplify(callback))
        bench.dfsps[source].forget()
    return told


@row("O21", "O30", "O31", "O32", "O33")
async def test_our_own_hub_listener_answers_over_http_as_the_directory_does(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url) as bench:
        own = await live(bench)
        async with open_hub_listener(bench) as url:
            await register_url(database_url, f"{url}/")
            before = bench.read_metric("moja_oracle_http_requests_total")
            async with open_bench(database_url, redis_url) as other:
                elsewhere = await live(other)
            # One call for each request, and one more for each further type of the bulk.
            assert bench.read_metric("moja_oracle_http_requests_total") - before == len(elsewhere) + 2
    assert elsewhere == own
    refused = [code for _, code in own if isinstance(code, str)]
    assert refused == ["3003", "3204", "3204", "3204", "3040", "3204"]


@row("O25")
async def test_an_oracle_that_leads_back_to_us_is_asked_once(
    database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await register_url(database_url, f"http://127.0.0.1:{servers.free_port()}")
    async with open_bench(database_url, redis_url) as other:
        await register_url(database_url, f"http://127.0.0.1:{other.port}")
        async with open_bench(database_url, redis_url) as bench:
            for _ in range(2):
                assert (await bench.ask("GET", "/participants/MSISDN/525512345678")).status == 202
                await bench.settle()
                await other.settle()
            # The listener that is asked as an oracle accepts the call and has nothing to say; its work is refused.
            assert [message.error[0] for message in bench.payer.messages] == ["3204"] * 2
            assert [message.error[0] for message in other.payer.messages] == ["1001"] * 2
    texts = [record.getMessage() for record in caplog.records]
    assert texts.count("The URL of a registered oracle leads back to this service: correct it at /oracles") == 1


# The choice -----------------------------------------------------------------------------------------------------


def registered(number: int, currency: str = "", url: str = "", **more: Any) -> RegisteredOracle:
    return RegisteredOracle(number, "MSISDN", currency, url or f"http://{number}", **more)


async def choose(rows: list[RegisteredOracle], *own: str) -> list[str | None]:
    async def fetch() -> list[RegisteredOracle]:
        return rows

    registry = Registry(fetch, own)
    await registry.open()
    try:
        return [registry.choose("MSISDN", currency) for currency in (None, "MXN", "USD")]
    finally:
        await registry.close()


@row("O20", "O22", "O23", "D907", "D908")
async def test_the_oracle_of_a_currency_comes_before_the_default_one() -> None:
    assert await choose([]) == [None, None, None]
    assert await choose([registered(1, "MXN")]) == ["http://1"] * 3
    assert await choose([registered(1), registered(2, "MXN")]) == ["http://1", "http://2", "http://1"]
    assert await choose([registered(1, "MXN"), registered(2)]) == ["http://2", "http://1", "http://2"]
    # Several without a default: the oldest goes on.
    assert await choose([registered(1, "MXN"), registered(2, "USD")]) == ["http://1", "http://1", "http://2"]
    # Several defaults: the newest.
    defaults = [registered(1, "MXN", is_default=True), registered(2, "USD", is_default=True), registered(3)]
    assert await choose(defaults) == ["http://2", "http://1", "http://2"]


@row("O21", "D906")
async def test_a_url_of_our_own_is_our_own_directory_in_any_spelling() -> None:
    for url in ("http://oracle-hub:3000", "http://ORACLE-hub:3000/", "http://oracle-hub:3000//"):
        assert await choose([registered(1, url=url)], "http://oracle-hub:3000/") == [None] * 3
    assert await choose([registered(1, url="http://oracle-hub")], "http://oracle-hub:80") == [None] * 3
    assert await choose([registered(1, url="https://oracle-hub:443/x/")], "https://oracle-hub/x") == [None] * 3
    for url in ("https://oracle-hub:3000", "http://oracle-hub", "http://oracle-hub:3000/x"):
        assert await choose([registered(1, url=url)], "http://oracle-hub:3000") == [url] * 3


@row("O24")
async def test_the_registry_follows_changes_and_goes_on_while_postgresql_is_away(world: World) -> None:
    answers: list[list[RegisteredOracle] | None] = [None]
    read = asyncio.Condition()
    kept: list[Any] = []

    async def fetch() -> list[RegisteredOracle]:
        async with read:
            read.notify_all()
        if answers[0] is None:
            raise DirectoryUnavailable
        return answers[0]

    async def wait_for_a_read() -> None:
        for _ in range(2):  # the one under way can have begun before
            async with read:
                await read.wait()

    registry = Registry(fetch, keep=lambda rows: kept.append(list(rows)), every_s=0.001)
    await registry.open()
    own = world.remote  # any directory will do
    directories = OracleDirectories(registry, own, world.calls, METRICS, hub_name="Hub")
    try:
        with pytest.raises(Fault) as caught:
            directories.choose("MSISDN", None)
        assert (caught.value.code, caught.value.status) == ("2003", 503)
        answers[0] = [registered(1)]
        await wait_for_a_read()
        chosen = directories.choose("MSISDN", None)
        assert chosen is not own
        assert directories.choose("MSISDN", "MXN") is chosen
        assert directories.choose("EMAIL", None) is own
        answers[0] = None
        await wait_for_a_read()
        assert directories.choose("MSISDN", None) is chosen
        answers[0] = []
        await wait_for_a_read()
        assert directories.choose("MSISDN", None) is own
    finally:
        await registry.close()
    assert kept == [[registered(1)], []]
    # A process that starts while PostgreSQL is away begins with what an earlier one has read.
    answers[0] = None
    later = Registry(fetch, known=[registered(7)])
    await later.open()
    assert later.choose("MSISDN", None) == "http://7"
    await later.close()
