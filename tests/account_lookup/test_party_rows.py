"""Parties over sockets: section 6 of docs/account-lookup.md, row by row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from harness import Bench, Message, Reply, open_bench, row, until

from oracle.api.dfsp.exchanges import Promises
from oracle.scheme.base import PATHS

MSISDN: Final = "525512345678"
PATH: Final = f"/parties/MSISDN/{MSISDN}"
# Not as a library would write it: what arrives must be what was sent.
BODY: Final = (
    b'{ "party" : {"partyIdInfo":{"partyIdType":"MSISDN","partyIdentifier":"525512345678"} , "name":"\\u00d1"}}'
)
ERROR: Final = b'{"errorInformation": {"errorCode":"5100", "errorDescription":"\\u00d1o"} }'
PRIVATE: Final = {"cookie": "a=b", "authorization": "Bearer x", "x-custom": "1", "fspiop-signature": "{}"}


@pytest.fixture
async def bench(database_url: str, redis_url: str) -> AsyncIterator[Bench]:
    async with open_bench(database_url, redis_url) as opened:
        yield opened


async def get(bench: Bench, path: str = PATH, **named: Any) -> None:
    reply = await bench.ask("GET", path, **named)
    assert (reply.status, reply.body) == (202, b"")
    await bench.settle()


async def put(
    bench: Bench, path: str = PATH, *, source: str = "payeefsp", to: str | None = "payerfsp", **more: str
) -> None:
    body = ERROR if path.endswith("/error") else BODY
    headers = {"fspiop-destination": to, "accept": None, **more}
    reply = await bench.ask("PUT", path, body, source=source, headers=headers)
    assert (reply.status, reply.body) == (200, b"")
    await bench.settle()


def take(bench: Bench, name: str) -> list[Message]:
    """Return what a DFSP got since the last time."""
    messages = list(bench.dfsps[name].messages)
    bench.dfsps[name].forget()
    return messages


def take_error(bench: Bench, name: str, path: str = PATH) -> tuple[str, str]:
    """Return the one error callback that a DFSP got."""
    (message,) = take(bench, name)
    assert message.line == f"PUT /{name}{path}/error HTTP/1.1".encode()
    assert (message.headers["fspiop-source"], message.headers["fspiop-destination"]) == ("Hub", name)
    assert message.headers["content-type"] == "application/vnd.interoperability.parties+json;version=2.0"
    return message.error


def promises_of(bench: Bench) -> Promises:
    promises = bench.listener._promises
    assert isinstance(promises, Promises)
    return promises


async def sweep_until(bench: Bench, condition: Callable[[], object]) -> None:
    promises, session = promises_of(bench), bench.store.coherence.session
    assert session is not None
    # As if workers had been here for longer than a lease.
    end_pause = b"redis.call('SET', KEYS[1], string.format('%d 0', redis.call('TIME')[1] * 1000))"
    await session.run(end_pause, [promises._swept], [])

    async def sweep() -> None:
        while not condition():
            await promises.sweep()
            await asyncio.sleep(0.005)

    await asyncio.wait_for(sweep(), 60)


@row("L01", "L02", "L03", "L04")
async def test_a_question_goes_to_the_payee(bench: Bench) -> None:
    await bench.register("MSISDN", MSISDN)
    await get(bench, headers=PRIVATE)
    (asked,) = take(bench, "payeefsp")
    assert asked.line == f"GET /payeefsp{PATH} HTTP/1.1".encode()
    assert asked.headers["fspiop-source"] == "payerfsp"
    assert asked.headers["fspiop-destination"] == "payeefsp"
    assert asked.headers["accept"] == "application/vnd.interoperability.parties+json;version=2"
    assert not {"cookie", "authorization"} & set(asked.headers)
    assert asked.headers["x-custom"] == "1"
    await get(bench, headers={"fspiop-destination": "thirdfsp"})
    (asked,) = take(bench, "thirdfsp")  # the directory names another FSP, and is not asked
    assert asked.line == f"GET /thirdfsp{PATH} HTTP/1.1".encode()
    await get(bench, f"{PATH}/S1", headers={"fspiop-destination": "thirdfsp"})
    (asked,) = take(bench, "thirdfsp")
    assert asked.line == f"GET /thirdfsp{PATH}/S1 HTTP/1.1".encode()
    assert take(bench, "payeefsp") == take(bench, "payerfsp") == []


@row("L03", "L07", "L08", "D601", "D607")
async def test_nobody_has_the_party(bench: Bench) -> None:
    expected = ("3204", "Party not found - No proxy found to start inter-scheme discovery flow")
    await get(bench)
    assert take_error(bench, "payerfsp") == expected
    await bench.register("MSISDN", MSISDN)
    del bench.ledger.endpoints["payeefsp"]
    await get(bench)
    assert take_error(bench, "payerfsp") == expected
    await get(bench, headers={"fspiop-destination": "nobody"})
    assert take_error(bench, "payerfsp") == expected
    bench.ledger.add(bench.payee)
    await get(bench)  # the alias is still there
    assert len(take(bench, "payeefsp")) == 1
    await get(bench, "/parties/MSISDN/abc")
    code, text = take_error(bench, "payerfsp", "/parties/MSISDN/abc")
    assert (code, text) == ("3101", "Malformed syntax - Invalid MSISDN identifier")


@row("L11a", "D416")
async def test_an_endpoint_that_is_this_service_is_called_once(bench: Bench) -> None:
    await bench.register("MSISDN", MSISDN)
    base = f"http://127.0.0.1:{bench.port}"
    bench.ledger.endpoints["payeefsp"] = {kind: base + path for kind, path in PATHS.items()}
    before = bench.read_metric("moja_oracle_http_requests_total")
    await get(bench)
    text = "Destination communication error - the endpoint of the FSP leads back to this service"
    assert take_error(bench, "payerfsp") == ("1001", text)
    assert bench.read_metric("moja_oracle_http_requests_total") == before + 2


@row("L22", "X12", "X14", "X15")
async def test_fsps_of_other_schemes_are_reached_through_their_proxies(bench: Bench) -> None:
    await bench.add("proxya", is_proxy=True)
    through = {"fspiop-proxy": "proxya"}
    await bench.register("MSISDN", MSISDN)
    await get(bench, source="foreign", headers=through | {"fspiop-destination": "payeefsp"})
    (asked,) = take(bench, "payeefsp")
    assert asked.headers["fspiop-source"] == "foreign"
    await put(bench, to="foreign")
    (answer,) = take(bench, "proxya")
    assert (answer.target, answer.body) == (f"/proxya{PATH}", BODY)
    assert answer.headers["fspiop-destination"] == "foreign"
    await get(bench, source="foreign", headers=through | {"fspiop-destination": "thirdfsp"})
    (refused,) = take(bench, "proxya")
    assert refused.error == ("3204", "Party not found - External party resolution error")
    assert refused.headers["fspiop-destination"] == "foreign"
    await get(bench, headers={"fspiop-destination": "foreign"})
    (asked,) = take(bench, "proxya")
    assert (asked.target, asked.headers["fspiop-destination"]) == (f"/proxya{PATH}", "foreign")
    await get(bench, headers={"fspiop-destination": "nobody"})
    (asked,) = take(bench, "proxya")
    assert "fspiop-destination" not in asked.headers
    assert take(bench, "payerfsp") == take(bench, "thirdfsp") == []


@row("L03", "L09", "L10", "L14", "D602", "D603")
async def test_a_payee_that_cannot_be_asked(bench: Bench) -> None:
    await until(lambda: bench.store.coherence.session)
    await bench.register("MSISDN", MSISDN)
    inside = b'{"errorInformation":{"errorCode":"2001","errorDescription":"inside"}}'
    for status, code in ((500, "1001"), (503, "1001"), (400, "1001"), (404, "3200")):
        bench.payee.reply = Reply(status, inside)
        await get(bench)
        (message,) = take(bench, "payerfsp")
        information = message.json["errorInformation"]
        assert information["errorCode"] == code
        assert information["extensionList"]["extension"] == [{"key": "status", "value": str(status)}]
        assert not any(secret in message.body for secret in (b"inside", b"payeefsp", b"127.0.0.1"))
    for reply in (Reply(raw=b"garbage\r\n\r\n", closes=True), Reply(raw=b"HTTP/1.1 2", closes=True)):
        bench.payee.reply = reply
        await get(bench)
        (message,) = take(bench, "payerfsp")
        assert message.error[0] == "1001"
    take(bench, "payeefsp")
    await put(bench)  # it is too late
    assert take(bench, "payerfsp") == []
    code, text = take_error(bench, "payeefsp")
    assert (code, text) == ("3300", "Generic expired error - The payer already has an error for this request")
    await put(bench, f"{PATH}/error")
    assert take(bench, "payerfsp") == take(bench, "payeefsp") == []
    await bench.payee.stop()
    await get(bench, f"{PATH}/S1", headers={"fspiop-destination": "payeefsp"})
    (message,) = take(bench, "payerfsp")
    assert (message.target, message.error[0]) == (f"/payerfsp{PATH}/S1/error", "1001")


@row("L13", "L15", "L27", "D603")
async def test_an_answer_before_the_failure_and_two_answers_for_two_questions(bench: Bench) -> None:
    await until(lambda: bench.store.coherence.session)  # before that, this state is in the memory of the worker
    await bench.register("MSISDN", MSISDN)
    bench.payee.reply = Reply(500, delay_s=0.3)
    reply = await bench.ask("GET", PATH)
    assert reply.status == 202
    await bench.payee.received(1)
    answered = await bench.ask("PUT", PATH, BODY, source="payeefsp", headers={"fspiop-destination": "payerfsp"})
    assert answered.status == 200
    await bench.settle()
    (answer,) = take(bench, "payerfsp")
    assert answer.body == BODY
    bench.payee.reply = Reply(202)
    for _ in range(2):
        await get(bench)
    for _ in range(3):  # the third one matches nothing
        await put(bench)
    assert [message.body for message in take(bench, "payerfsp")] == [BODY] * 3


@row("L27a")
async def test_an_answer_of_an_fsp_that_was_not_asked_keeps_no_error_from_the_payer(bench: Bench) -> None:
    await until(lambda: bench.store.coherence.session)
    await bench.register("MSISDN", MSISDN)
    go_on = asyncio.Event()
    bench.payee.reply = Reply(500, wait=go_on)
    assert (await bench.ask("GET", PATH)).status == 202
    await bench.payee.received(1)
    stranger = await bench.ask("PUT", PATH, BODY, source="payerfsp", headers={"fspiop-destination": "payerfsp"})
    assert stranger.status == 200
    await bench.payer.received(1)
    go_on.set()
    await bench.settle()
    forwarded, error = take(bench, "payerfsp")
    assert forwarded.body == BODY
    assert error.error[0] == "1001"


@row("L20", "L21")
async def test_an_answer_goes_to_the_payer_byte_for_byte(bench: Bench) -> None:
    for path in (PATH, f"{PATH}/S1", f"{PATH}/error", f"{PATH}/S1/error"):
        await put(bench, path, **PRIVATE)
        (answer,) = take(bench, "payerfsp")
        assert answer.line == f"PUT /payerfsp{path} HTTP/1.1".encode()
        assert answer.body == (ERROR if path.endswith("/error") else BODY)
        assert answer.headers["fspiop-source"] == "payeefsp"
        assert answer.headers["fspiop-destination"] == "payerfsp"
        assert answer.headers["fspiop-signature"] == "{}"
        assert answer.headers["content-type"] == "application/vnd.interoperability.parties+json;version=2.0"
        assert not {"cookie", "authorization"} & set(answer.headers)
    assert take(bench, "payeefsp") == []


@row("L23", "L24", "L26", "D605")
async def test_an_answer_that_cannot_be_forwarded_is_told_to_the_payee(bench: Bench) -> None:
    for path in (PATH, f"{PATH}/error"):
        await put(bench, path, to="nobody")
        assert take_error(bench, "payeefsp") == ("3201", "Destination FSP Error - Destination FSP not found")
        await put(bench, path, to=None)
        expected = ("3102", "Missing mandatory element - Missing required fspiop-destination header")
        assert take_error(bench, "payeefsp") == expected
        bench.payer.reply = Reply(500)
        await put(bench, path)
        assert len(take(bench, "payerfsp")) == 1
        assert take_error(bench, "payeefsp")[0] == "1001"
        bench.payer.reply = Reply(200)
    assert take(bench, "payerfsp") == []


@row("L25")
async def test_the_proxy_of_a_payee_is_remembered(bench: Bench) -> None:
    proxy = await bench.add("proxya", is_proxy=True)
    await put(bench, source="foreign", **{"fspiop-proxy": "proxya"})
    assert len(take(bench, "payerfsp")) == 1
    await get(bench, headers={"fspiop-destination": "foreign"})
    (asked,) = await proxy.received(1)
    assert asked.headers["fspiop-destination"] == "foreign"


@row("L17", "D606")
async def test_a_payee_that_never_answers(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url, party_timeout_s=1) as bench:
        await until(lambda: bench.store.coherence.session)
        destination = {"fspiop-destination": "payeefsp"}
        await get(bench, f"{PATH}/S1", headers=destination)
        await get(bench, headers=destination)
        await put(bench)
        assert len(take(bench, "payerfsp")) == 1
        await sweep_until(bench, lambda: bench.payer.messages)
        assert take_error(bench, "payerfsp", f"{PATH}/S1") == ("3303", "Transfer expired")
        take(bench, "payeefsp")
        await put(bench, f"{PATH}/S1")
        assert take_error(bench, "payeefsp", f"{PATH}/S1")[0] == "3300"
        assert take(bench, "payerfsp") == []


@row("K01", "K02")
async def test_a_worker_that_stops_finishes_or_tells(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url) as bench:
        await until(lambda: bench.store.coherence.session)
        # What can be finished is finished.
        bench.payee.reply = Reply(202, delay_s=0.2)
        assert (await bench.ask("GET", PATH, headers={"fspiop-destination": "payeefsp"})).status == 202
        assert await bench.listener.close(60) == 0
        assert len(take(bench, "payeefsp")) == 1
        # What cannot is told.
        bench.payee.reply = Reply(hangs=True)
        assert (await bench.ask("GET", PATH, headers={"fspiop-destination": "payeefsp"})).status == 202
        await bench.payee.received(1)
        assert await bench.listener.close(0.01) == 1
        await bench.payer.received(1)
        code, text = take_error(bench, "payerfsp")
        assert (code, text) == ("2003", "Service currently unavailable - try again later")


@row("K06")
async def test_what_is_done_leaves_nothing_in_redis(bench: Bench) -> None:
    await until(lambda: bench.store.coherence.session)
    await bench.register("MSISDN", MSISDN)
    await get(bench)
    await put(bench)
    session = bench.store.coherence.session
    assert session is not None
    promises = promises_of(bench)
    await promises.sweep()
    assert promises._kept == {}
    read = b"return redis.call('ZCARD', KEYS[1])"
    await until(lambda: not promises._done)
    assert await session.run(read, [promises._key], []) == 0


@row("D608")
async def test_an_answer_of_a_stranger_is_refused_at_once(bench: Bench) -> None:
    for path in (PATH, f"{PATH}/error"):
        body = ERROR if path.endswith("/error") else BODY
        reply = await bench.ask("PUT", path, body, source="nobody", headers={"fspiop-destination": "payerfsp"})
        assert (reply.status, reply.error[0]) == (400, "3200")
    assert take(bench, "payerfsp") == []


def test_the_bodies_are_json() -> None:
    assert json.loads(BODY)["party"]
    assert json.loads(ERROR)["errorInformation"]
