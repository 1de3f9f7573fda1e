"""The hub listener with too much work: lookups wait unparsed, in their order, and all else goes on."""

from __future__ import annotations

import asyncio

import pytest
from test_http import Later, Serving, serve

from oracle.api.http import Request
from oracle.api.hub.listener import LOOKUP

HELD = b"GET /participants/ALIAS/%d HTTP/1.1\r\nhost: x\r\n\r\n"
OTHERS = [
    b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
    b"DELETE /participants/ALIAS/1 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /participants HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
]


def number(request: Request) -> int:
    return int(request.target.rpartition(b"/")[2])


async def wait_for_held(site: Serving, count: int) -> None:
    await site.wait_until(lambda: len(site.server._held) == count)


async def test_lookups_wait_and_then_go_in_the_order_of_their_arrival() -> None:
    app = Later()
    async with serve(app) as site:
        site.server.hold(LOOKUP)
        clients = []
        for n in range(5):
            clients.append(await site.connect())
            clients[-1].send(HELD % n)
            await wait_for_held(site, n + 1)
        assert app.requests == []
        site.server.release()
        assert [number(request) for request in app.requests] == list(range(5))
        for request in app.requests:
            request.respond(200, b"{}")
        assert [(await client.answer()).status for client in clients] == [200] * 5
        clients[0].send(HELD % 7)  # not held any more
        await site.wait_until(lambda: len(app.requests) == 6)


@pytest.mark.parametrize("request_", OTHERS, ids=["health", "a change", "a bulk"])
async def test_everything_but_a_lookup_is_answered_meanwhile(request_: bytes) -> None:
    async with serve(lambda request: request.respond(200, b"{}")) as site:
        site.server.hold(LOOKUP)
        held = await site.connect()
        held.send(HELD % 1)
        await wait_for_held(site, 1)
        assert (await site.ask(request_)).status == 200
        site.server.release()
        assert (await held.answer()).status == 200


async def test_the_application_can_stop_the_release() -> None:
    async with serve(app := Later()) as site:

        def take_one(request: Request) -> None:
            app(request)
            site.server.hold(LOOKUP)

        site.server.app = take_one
        site.server.hold(LOOKUP)
        for n in range(3):
            (await site.connect()).send(HELD % n)
            await wait_for_held(site, n + 1)
        for count in (1, 2, 3):
            site.server.release()
            assert [number(request) for request in app.requests] == list(range(count))


async def test_a_client_that_left_is_passed_over() -> None:
    async with serve(app := Later()) as site:
        site.server.hold(LOOKUP)
        first, second = await site.connect(), await site.connect()
        first.send(HELD % 1)
        await wait_for_held(site, 1)
        second.send(HELD % 2)
        await wait_for_held(site, 2)
        first.reset()
        await site.wait_until(lambda: len(site.server.connections) == 1)
        site.server.release()
        assert [number(request) for request in app.requests] == [2]


async def test_a_request_in_two_parts_is_whole_after_the_release() -> None:
    async with serve(lambda request: request.respond(200, b"{}")) as site:
        site.server.hold(LOOKUP)
        client = await site.connect()
        client.send((HELD % 1)[:30])
        await wait_for_held(site, 1)
        client.send((HELD % 1)[30:])
        site.server.release()
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("end", [b"", HELD % 2], ids=["the end", "another request"])
async def test_what_follows_a_request_that_waits_has_its_turn_after_it(end: bytes) -> None:
    async with serve(lambda request: request.respond(200, request.target)) as site:
        site.server.hold(LOOKUP)
        client = await site.connect()
        client.send(HELD % 1)
        await wait_for_held(site, 1)
        (turns,) = site.server.connections
        if end:
            client.send(end)
            await site.wait_until(lambda: bool(turns._pending))
        else:
            client.writer.write_eof()
            await site.wait_until(lambda: turns._eof)
        assert client.received == b""
        site.server.release()
        for n in (1, 2)[: 1 + bool(end)]:
            assert (await client.answer()).body == b"/participants/ALIAS/%d" % n
        if not end:
            await client.expect_close()


async def test_lookups_that_wait_are_answered_when_the_server_stops() -> None:
    async with serve(lambda request: request.respond(200, b"{}")) as site:
        site.server.hold(LOOKUP)
        client = await site.connect()
        client.send(HELD % 1)
        await wait_for_held(site, 1)
        drain = asyncio.create_task(site.server.drain(60))
        await site.wait_until(lambda: site.server.draining)
        site.server.release()
        assert (await client.answer()).status == 200
        assert await drain == 0


# Lookups without room ------------------------------------------------------------------------------------------------

SURPLUS = HELD % 2
# These cannot be answered unparsed: they end later than they seem to, or their connection must not go on.
SPECIAL = {
    "a body": b"GET /participants/ALIAS/2 HTTP/1.1\r\nhost: x\r\nContent-Length: 4\r\n\r\n",
    "a chunked body": b"GET /participants/ALIAS/2 HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n",
    "the end of the connection": b"GET /participants/ALIAS/2 HTTP/1.1\r\nhost: x\r\nCONNECTION: close\r\n\r\n",
    "an upgrade": b"GET /participants/ALIAS/2 HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, upgrade\r\n\r\n",
    "an expectation": b"GET /participants/ALIAS/2 HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n",
    "HTTP/1.0": b"GET /participants/ALIAS/2 HTTP/1.0\r\nhost: x\r\n\r\n",
    "two requests": SURPLUS + SURPLUS,
    "half a request": SURPLUS[:-1],
    "two requests for a lenient parser": b"GET /participants/ALIAS/2 HTTP/1.1\r\nhost: x\n\n" + SURPLUS,
    "a carriage return alone": b"GET /participants/ALIAS/2 HTTP/1.1\r\nhost: x\ry\r\n\r\n",
}


async def hold_one(site: Serving, *, takes_s: float) -> None:
    """Let one lookup wait, on a server whose lookups have taken so long lately."""
    site.server.hold(LOOKUP)
    (await site.connect()).send(HELD % 1)
    await wait_for_held(site, 1)
    site.server._held_s = takes_s


async def test_a_lookup_without_room_is_refused_at_once_and_its_connection_goes_on() -> None:
    refused: list[int] = []
    async with serve(app := Later(), held_max_s=10.0) as site:
        site.server.on_surplus = lambda: refused.append(1)
        await hold_one(site, takes_s=11)
        client = await site.connect()
        for _ in range(3):
            client.send(SURPLUS)
            answer = await client.answer()
            assert (answer.status, b'"2005"' in answer.body) == (503, True)
        assert (len(refused), app.requests) == (3, [])
        site.server._held_s = 9  # the pace is better again
        client.send(SURPLUS)
        await wait_for_held(site, 2)
        site.server.release()
        assert [number(request) for request in app.requests] == [1, 2]


@pytest.mark.parametrize("request_", SPECIAL.values(), ids=SPECIAL)
async def test_a_request_that_is_more_than_a_plain_lookup_is_never_answered_unparsed(request_: bytes) -> None:
    async with serve(Later(), held_max_s=10.0) as site:
        await hold_one(site, takes_s=11)
        client = await site.connect()
        client.send(request_)
        await wait_for_held(site, 2)
        assert client.received == b""


async def test_bytes_of_a_body_are_no_lookup() -> None:
    async with serve(lambda request: request.respond(200, request.body), held_max_s=10.0) as site:
        await hold_one(site, takes_s=11)
        client = await site.connect()
        client.send(b"POST /participants HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(SURPLUS))
        await site.wait_until(lambda: any(turns._message.receiving for turns in site.server.connections))
        client.send(SURPLUS)
        assert (await client.answer()).body == SURPLUS


async def test_the_time_to_wait_is_measured() -> None:
    """By what was released lately; and while nothing goes on, the silence counts."""
    now = [0.0]
    refused: list[int] = []
    async with serve(Later(), held_max_s=10.0) as site:
        site.server._clock = lambda: now[0]
        site.server.on_surplus = lambda: refused.append(1)

        async def ask(n: int) -> int:
            """Return 503, or 0 if the lookup waits."""
            client, before = await site.connect(), (len(site.server._held), len(refused))
            client.send(HELD % n)
            await site.wait_until(lambda: (len(site.server._held), len(refused)) != before)
            return (await client.answer()).status if len(refused) > before[1] else 0

        site.server.hold(LOOKUP)
        assert [await ask(n) for n in range(3)] == [0, 0, 0]
        now[0] = 9.0  # nothing has gone on for 9 s
        assert await ask(4) == 0
        now[0] = 11.0
        assert await ask(5) == 503
        site.server.release()
        for _ in range(60):
            site.server.hold(LOOKUP)
            assert await ask(6) == 0
            now[0] += 4.0
            site.server.release()
        assert site.server._held_s == pytest.approx(4.0, rel=0.1)
        site.server.hold(LOOKUP)  # the second one would wait for 4 s, the third one for 8 s, the fourth one for 12 s
        assert [await ask(7), await ask(8), await ask(9), await ask(10)] == [0, 0, 0, 503]
