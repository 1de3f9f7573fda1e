"""The hub's HTTP server over real sockets: on asyncio, and on uvloop, which production uses."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oracle import errors
from oracle.api.http import LIMITS, SLICE_BYTES_MAX, App, HttpServer, Limits, Request

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
WAIT_S = 20.0

# The request of ALS, as captured (docs/als-contract.md section 3).
LOOKUP = (
    b"GET /participants/MSISDN/525512345678 HTTP/1.1\r\n"
    b"content-type: application/vnd.interoperability.participants+json;version=2.0\r\n"
    b"fspiop-source: payerfsp\r\nUser-Agent: axios/1.18.1\r\nHost: 127.0.0.1:18444\r\nConnection: keep-alive\r\n\r\n"
)
REGISTER = b"POST /participants/MSISDN/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n" + b'{"fspId":"payerfsp"}'
CHUNKED = (
    b"POST /participants/MSISDN/1 HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\nContent-Length: 20\r\n\r\n"
    b'9\r\n{"fspId":\r\nb;ext=1\r\n"payerfsp"}\r\n0\r\nx-trailer: t\r\n\r\n'
)
GOOD = (
    LOOKUP,
    REGISTER,
    CHUNKED,
    b"DELETE /participants/ALIAS/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /participants HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
    b"HEAD /participants/ALIAS/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
)


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(loop_name: str, **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(test(**arguments))

    own = inspect.signature(test).parameters.values()
    loop_name = inspect.Parameter("loop_name", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([loop_name, *own])  # type: ignore[attr-defined]
    marked: Callable[..., None] = pytest.mark.parametrize("loop_name", list(LOOPS))(run)
    return marked


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    interim: list[int]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the errorInformation; fails unless the body is one that ALS can pass on."""
        assert self.headers["content-type"] == "application/json"
        information = self.json["errorInformation"]
        assert set(self.json) == {"errorInformation"}
        assert set(information) == {"errorCode", "errorDescription"}
        assert 1 <= len(information["errorDescription"]) <= 128
        code: str = information["errorCode"]
        assert len(code) == 4
        assert code.isdigit()
        return code

    @property
    def kept(self) -> bool:
        return self.headers["connection"] == "keep-alive"


def parse_answer(data: bytes, method: str = "GET") -> tuple[Answer | None, bytes]:
    """Read one answer as a strict client does; returns it (None if incomplete) and the bytes after it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    if data:  # to h11, no bytes mean the end
        client.receive_data(data)
    answer = Answer(0, {}, b"", [])
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            return None, data
        if isinstance(event, h11.InformationalResponse):
            answer.interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            answer.status = event.status_code
            answer.headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            answer.body += bytes(event.data)
        else:
            assert isinstance(event, h11.EndOfMessage)
            return answer, client.trailing_data[0]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.received = b""

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, method: str = "GET") -> Answer:
        async with asyncio.timeout(WAIT_S):
            while True:
                answer, self.received = parse_answer(self.received, method)
                if answer is not None:
                    return answer
                more = await self.reader.read(65536)
                assert more, f"closed before the answer was whole: {self.received[:200]!r}"
                self.received += more

    async def ask(self, data: bytes, method: str = "GET") -> Answer:
        self.send(data)
        return await self.answer(method)

    async def read_until(self, end: bytes) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readuntil(end)

    async def expect_close(self) -> None:
        """Wait for the FIN of the server; nothing may come before it."""
        async with asyncio.timeout(WAIT_S):
            assert self.received + await self.reader.read() == b""

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def echo(request: Request) -> None:
    seen = {
        "method": request.method,
        "target": request.target.decode(),
        "body": request.body.decode("latin-1"),
    }
    request.respond(200, json.dumps(seen).encode())


@dataclass
class Serving:
    server: HttpServer
    port: int
    errors: list[BaseException] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    async def connect(self, receive_buffer: int | None = None) -> Client:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        client = Client(*await asyncio.open_connection(sock=sock))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, method: str = "GET") -> Answer:
        client = await self.connect()
        return await client.ask(data, method)

    async def ask_and_expect_close(self, data: bytes, method: str = "GET") -> Answer:
        """Return the answer; the server must close after it."""
        client = await self.connect()
        answer = await client.ask(data, method)
        assert not answer.kept
        await client.expect_close()
        return answer

    async def check_service(self) -> None:
        assert (await self.ask(LOOKUP)).status == 200

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():  # noqa: ASYNC110 - the condition is inside the server or the kernel
                await asyncio.sleep(0.001)


@asynccontextmanager
async def serve(app: App = echo, **limits: Any) -> AsyncIterator[Serving]:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    port = sock.getsockname()[1]
    heard: list[BaseException] = []
    server = HttpServer(app, Limits(**limits) if limits else LIMITS, on_error=heard.append)
    await server.start(sock)
    site = Serving(server, port, heard)
    try:
        yield site
    finally:
        server.close()
        for client in site.clients:
            client.writer.close()
            with suppress(OSError):
                await client.writer.wait_closed()
        await site.wait_until(lambda: not server.connections)


class Later:
    """An application whose requests the test answers."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> None:
        self.requests.append(request)


# Requests as the application gets them.


@pytest.mark.parametrize(
    ("sent", "given_"),
    [
        (b"/participants/PERSONAL_ID/12%2FOUKAMA(N)1?partySubIdOrType=a+b%20", None),
        (b"/participants/ALIAS/tom&amp;jerry&", None),
        (b"/participants/ALIAS/100%", None),
        (b"/ALIAS/[x]|y^z#f", None),
        (b"//participants//x", None),
        (b"*", None),
        (b"http://host:81/participants/ALIAS/a%2Fb?x=http://y/z", b"/participants/ALIAS/a%2Fb?x=http://y/z"),
        (b"http://host", b"/"),
        (b"http://user@host?x=/", b"/?x=/"),
    ],
)
@on_each_loop
async def test_the_target_arrives_exactly_as_sent_without_scheme_and_host(sent: bytes, given_: bytes | None) -> None:
    async with serve() as site:
        answer = await site.ask(b"OPTIONS %b HTTP/1.1\r\nHost: a\r\n\r\n" % sent)
    assert answer.json["target"].encode() == (given_ or sent)


@on_each_loop
async def test_headers_are_found_by_lower_case_name_without_the_space_around_them() -> None:
    app = Later()
    async with serve(app) as site:
        client = await site.connect()
        client.send(b"GET / HTTP/1.1\r\nFSPIOP-Source:  payerfsp \t\r\nX-Empty:\r\nX: 1\r\nx: 2\r\n\r\n")
        await site.wait_until(lambda: bool(app.requests))
        request = app.requests[0]
        assert request.header(b"fspiop-source") == b"payerfsp"
        assert request.header(b"x-empty") == b""
        assert request.header(b"x") == b"1"
        assert request.header(b"accept") is None


@on_each_loop
async def test_with_chunks_and_a_length_the_chunks_count_and_the_connection_closes() -> None:
    async with serve() as site:
        for head in (
            b"Transfer-Encoding: chunked\r\nContent-Length: 20",
            b"content-length: 3\r\ntransfer-encoding: Chunked",
            b"Content-Length: 3\r\nTRANSFER-ENCODING:\t CHUNKED  ",
        ):
            answer = await site.ask_and_expect_close(
                b"POST / HTTP/1.1\r\n%b\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n" % head
            )
            assert (answer.status, answer.json["body"]) == (200, "abcd")


@on_each_loop
async def test_a_chunked_body_alone_keeps_the_connection_and_its_trailers_are_dropped() -> None:
    app = Later()
    async with serve(app) as site:
        client = await site.connect()
        client.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nfspiop-source: b\r\n\r\n")
        await site.wait_until(lambda: bool(app.requests))
        assert app.requests[0].body == b"a"
        assert app.requests[0].header(b"fspiop-source") is None
        app.requests[0].respond(200)
        assert (await client.answer()).kept
        client.send(LOOKUP)
        await site.wait_until(lambda: len(app.requests) == 2)
        assert app.requests[1].header(b"fspiop-source") == b"payerfsp"


@pytest.mark.parametrize(
    ("rest", "body"),
    [
        (b"\r\n", ""),
        (b"Content-Length: 27\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n!", "GET /smuggled HTTP/1.1\r\n\r\n!"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
    ],
)
@on_each_loop
async def test_an_upgrade_is_ignored_and_its_body_is_not_a_request(rest: bytes, body: str) -> None:
    request = b"POST /a%2Fb HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n" + rest
    async with serve() as site:
        client = await site.connect()
        client.send(request + request + LOOKUP)
        for _ in range(2):
            answer = await client.answer()
            assert (answer.status, answer.kept) == (200, True)
            assert answer.json == {"method": "POST", "target": "/a%2Fb", "body": body}
        assert (await client.answer()).json["target"] == "/participants/MSISDN/525512345678"
        for byte in request:
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer()).json["body"] == body


@on_each_loop
async def test_100_continue_is_sent_after_all_earlier_answers() -> None:
    app = Later()
    async with serve(app) as site:
        client = await site.connect()
        client.send(LOOKUP + b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        await site.wait_until(lambda: bool(app.requests))
        app.requests[0].respond(200)
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        await site.wait_until(lambda: len(app.requests) == 2)
        app.requests[1].respond(201, app.requests[1].body)
        answer = await client.answer()
        assert (answer.status, answer.body, answer.interim) == (201, b"abc", [])


@on_each_loop
async def test_expect_in_http_1_0_does_not_overtake_the_request_before_it() -> None:
    app = Later()
    async with serve(app) as site:
        client = await site.connect()
        client.send(b"GET /1 HTTP/1.1\r\n\r\n")
        await site.wait_until(lambda: bool(app.requests))
        old = b"GET /3 HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n"
        client.send(b"GET /2 HTTP/1.1\r\n\r\n" + old)
        (connection,) = site.server.connections
        await site.wait_until(lambda: connection._reading_paused)  # both have arrived, behind the first
        for number in range(1, 4):
            await site.wait_until(lambda number=number: len(app.requests) == number)  # type: ignore[misc]
            assert app.requests[-1].target == b"/%d" % number
            app.requests[-1].respond(200)
            assert (await client.answer()).interim == []


@on_each_loop
async def test_100_continue_is_not_sent_if_the_body_is_there_or_too_large() -> None:
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    async with serve() as site:
        client = await site.connect()
        assert (await client.ask(head % 3 + b"abc")).interim == []
        assert (await client.ask(LOOKUP)).interim == []
        answer = await site.ask_and_expect_close(head % 10**9)
        assert (answer.status, answer.interim) == (413, [])


# Connections.


@pytest.mark.parametrize(
    ("version", "header", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: TE, Close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
@on_each_loop
async def test_version_and_header_decide_whether_a_connection_stays_open(
    version: bytes, header: bytes, kept: bool
) -> None:
    async with serve() as site:
        client = await site.connect()
        for _ in range(3 if kept else 1):
            answer = await client.ask(b"GET / HTTP/%b\r\n%b\r\n" % (version, header))
            assert (answer.status, answer.kept) == (200, kept)
        if not kept:
            await client.expect_close()


@on_each_loop
async def test_nothing_is_served_after_connection_close() -> None:
    seen: list[bytes] = []

    def app(request: Request) -> None:
        seen.append(request.target)
        request.respond(200)

    async with serve(app) as site:
        await site.ask_and_expect_close(b"GET /1 HTTP/1.1\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        await site.ask_and_expect_close(CHUNKED + LOOKUP)
    assert seen == [b"/1", b"/participants/MSISDN/1"]


@on_each_loop
async def test_a_last_request_that_waits_behind_others_is_served_before_the_close() -> None:
    # A fault of the past: Expect puts the first in the queue, and when the parser stops at the third, nobody reads it.
    async with serve() as site:
        client = await site.connect()
        client.send(
            b"GET /1 HTTP/1.1\r\nExpect: 100-continue\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"
            b"GET /3 HTTP/1.1\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\n\r\n"
        )
        for number in range(1, 4):
            assert (await client.answer()).json["target"] == f"/{number}"
        await client.expect_close()


@on_each_loop
async def test_a_hundred_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    at_work = 0

    def app(request: Request) -> None:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        number = int(request.target[1:])
        if number % 3:
            asyncio.get_running_loop().call_later(0.0001 * (number % 5), answer, request)
        else:
            answer(request)

    def answer(request: Request) -> None:
        nonlocal at_work
        at_work -= 1
        request.respond(200, request.target + request.body)

    async with serve(app) as site:
        client = await site.connect()
        for number in range(100):
            client.send(
                b"POST /%d HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (number, number * 50, b"x" * number * 50)
            )
        for number in range(100):
            assert (await client.answer()).body == b"/%d" % number + b"x" * number * 50
        assert not site.errors


@on_each_loop
async def test_thousands_of_tiny_pipelined_requests_neither_recurse_nor_pile_up() -> None:
    app = Later()
    async with serve(app) as site:
        client = await site.connect()
        client.send(b"GET / HTTP/1.1\r\n\r\n" * 20_000)
        await site.wait_until(lambda: bool(app.requests))
        (connection,) = site.server.connections
        await site.wait_until(lambda: connection._reading_paused)
        assert len(connection._queue) <= SLICE_BYTES_MAX // 18
        assert sum(map(len, connection._pending)) <= 2 * 256 * 1024
        site.server.app = lambda request: request.respond(204)
        app.requests[0].respond(204)
        for _ in range(20_000):
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        assert not site.errors


@on_each_loop
async def test_one_slow_request_delays_no_other_connection() -> None:
    slow = Later()

    def app(request: Request) -> None:
        (slow if request.target == b"/slow" else echo)(request)

    async with serve(app) as site:
        client = await site.connect()
        client.send(b"GET /slow HTTP/1.1\r\n\r\n")
        await site.wait_until(lambda: bool(slow.requests))
        for _ in range(3):
            await site.check_service()
        slow.requests[0].respond(200)
        assert (await client.answer()).status == 200


@on_each_loop
async def test_small_writes_are_not_held_back() -> None:
    async with serve() as site:
        await site.check_service()
        (connection,) = site.server.connections
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@on_each_loop
async def test_a_client_that_has_sent_its_fin_is_still_answered() -> None:
    app = Later()
    async with serve(app) as site:
        client = await site.connect()
        client.send(LOOKUP + LOOKUP)
        client.writer.write_eof()
        for number in range(2):
            await site.wait_until(lambda number=number: len(app.requests) > number)  # type: ignore[misc]
            app.requests[number].respond(200)
            assert (await client.answer()).status == 200
        await client.expect_close()


@on_each_loop
async def test_a_request_cut_short_by_fin_is_a_400_and_a_silent_client_is_closed_silently() -> None:
    async with serve() as site:
        for part in (b"GET", LOOKUP[:-1], REGISTER[:-1], CHUNKED[:-2], LOOKUP + REGISTER[:-1]):
            client = await site.connect()
            client.send(part)
            client.writer.write_eof()
            if part.startswith(LOOKUP):
                assert (await client.answer()).status == 200
            answer = await client.answer()
            assert (answer.status, answer.code) == (400, "3101")
            await client.expect_close()
        for nothing in (b"", b"\r\n\r\n"):
            client = await site.connect()
            client.send(nothing)
            client.writer.write_eof()
            await client.expect_close()


@on_each_loop
async def test_resets_at_any_time_leave_nothing_behind() -> None:
    app = Later()
    async with serve(app) as site:
        for part in (b"", LOOKUP[:20], REGISTER[:-1]):
            client = await site.connect()
            client.send(part)
            await site.wait_until(lambda: bool(site.server.connections))
            client.reset()
            await site.wait_until(lambda: not site.server.connections)
        client = await site.connect()
        client.send(LOOKUP + LOOKUP)
        await site.wait_until(lambda: bool(app.requests))
        client.reset()
        await site.wait_until(lambda: app.requests[0].closed)
        app.requests[0].respond(200)
        assert not site.server.connections
        client = await site.connect()
        client.send(LOOKUP)
        await site.wait_until(lambda: len(app.requests) == 2)
        app.requests[1].respond(200, bytes(8 * 1024 * 1024))
        client.reset()
        await site.wait_until(lambda: not site.server.connections)
        site.server.app = echo
        await site.check_service()
        assert not site.errors


@on_each_loop
async def test_a_client_that_does_not_read_gets_nothing_more_served_until_it_does() -> None:
    served = 0
    body = bytes(1024 * 1024)

    def app(request: Request) -> None:
        nonlocal served
        served += 1
        request.respond(200, body)

    async with serve(app) as site:
        client = await site.connect(receive_buffer=4096)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(LOOKUP * 20)
        await site.wait_until(lambda: any(connection._write_paused for connection in site.server.connections))
        assert served < 20
        (connection,) = site.server.connections
        assert connection._transport.get_write_buffer_size() <= len(body) + 1024
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(20):
            assert (await client.answer()).body == body
    assert served == 20


@on_each_loop
async def test_a_client_that_never_reads_is_cut_off() -> None:
    async with serve(lambda request: request.respond(200, bytes(16 * 1024 * 1024)), write_timeout_s=0.2) as site:
        for request in (LOOKUP, b"GET / HTTP/1.0\r\n\r\n"):
            client = await site.connect(receive_buffer=4096)
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(request)
            await site.wait_until(lambda: bool(site.server.connections))
            await site.wait_until(lambda: not site.server.connections)


# Answers.


@on_each_loop
async def test_an_answer_has_type_length_date_and_no_server() -> None:
    async with serve(lambda request: request.respond(201, b"{}", b"content-type: text/plain")) as site:
        answer = await site.ask(LOOKUP)
    assert (answer.status, answer.body) == (201, b"{}")
    assert answer.headers.pop("date").endswith(" GMT")
    assert answer.headers == {"content-type": "text/plain", "content-length": "2", "connection": "keep-alive"}


@on_each_loop
async def test_an_answer_to_head_has_the_length_but_not_the_body() -> None:
    async with serve() as site:
        client = await site.connect()
        whole = await client.ask(b"GET / HTTP/1.1\r\n\r\n")
        head = await client.ask(b"HEAD / HTTP/1.1\r\n\r\n", "HEAD")
        assert head.headers["content-length"] == str(len(whole.body) + 1)
        assert (await client.ask(LOOKUP)).status == 200


@on_each_loop
async def test_204_has_neither_body_nor_length() -> None:
    async with serve(lambda request: request.respond(204, b"dropped")) as site:
        client = await site.connect()
        for _ in range(2):
            answer = await client.ask(LOOKUP)
            assert (answer.status, answer.body) == (204, b"")
            assert set(answer.headers) == {"date", "connection"}


@on_each_loop
async def test_an_exception_of_the_application_is_answered_and_reported() -> None:
    def app(request: Request) -> None:
        raise {b"/known": errors.PartyNotFound(), b"/unknown": ValueError("secret")}[request.target]

    async with serve(app) as site:
        client = await site.connect()
        known = await client.ask(b"GET /known HTTP/1.1\r\n\r\n")
        assert (known.status, known.code, known.kept) == (404, "3204", True)
        unknown = await client.ask(b"GET /unknown HTTP/1.1\r\n\r\n")
        assert (unknown.status, unknown.code, unknown.kept) == (500, "2001", True)
        assert b"secret" not in unknown.body
        assert [type(error) for error in site.errors] == [errors.PartyNotFound, ValueError]


@on_each_loop
async def test_a_second_answer_is_the_applications_error_and_never_on_the_wire() -> None:
    def app(request: Request) -> None:
        request.respond(200)
        request.respond(200)

    async with serve(app) as site:
        client = await site.connect()
        for _ in range(2):
            assert (await client.ask(LOOKUP)).status == 200
        assert client.received == b""
        assert [type(error) for error in site.errors] == [RuntimeError, RuntimeError]


# Refusals.


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS ClientHello
        b"GET\r\n\r\n",
        b"GET / HTTP/3.7\r\n\r\n",
        b"GET x HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /\xe1\x81\x81 HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        *(
            b"POST / HTTP/1.1\r\n%b\r\n\r\n0\r\n\r\n" % lines
            for lines in (
                b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
                b"Transfer-Encoding: identity\r\nHost: a\r\ntransfer-encoding: chunked",
                b"TRANSFER-ENCODING: chunked\r\nTransfer-Encoding: gzip",
                b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
                b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
                b"Transfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\nConnection: upgrade",
                b"Transfer-Encoding: chunked, chunked",
                b"Transfer-Encoding: chunked,",
                b"Transfer-Encoding: chunked;q=1",
                b'Transfer-Encoding: "chunked"',
                b"Transfer-Encoding: \x0bchunked",
                b"Transfer-Encoding: chunked\x0c",
                b"Transfer-Encoding: chunked\t",
                b"Transfer-Encoding: chunked\xa0",
            )
        ),
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"POST / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
@on_each_loop
async def test_a_request_that_is_not_http_is_a_400_with_error_information(request_: bytes) -> None:
    async with serve() as site:
        answer = await site.ask_and_expect_close(request_)
        assert (answer.status, answer.code) == (400, "3101")
        await site.check_service()
        assert not site.errors


@on_each_loop
async def test_garbage_behind_a_good_request_is_answered_after_it() -> None:
    app = Later()
    async with serve(app) as site:
        client = await site.connect()
        client.send(LOOKUP + LOOKUP + b"\x00garbage")
        for number in range(2):
            await site.wait_until(lambda number=number: len(app.requests) > number)  # type: ignore[misc]
            app.requests[number].respond(200)
            assert (await client.answer()).status == 200
        assert (await client.answer()).code == "3101"
        await client.expect_close()


@on_each_loop
async def test_connect_is_a_405() -> None:
    async with serve() as site:
        answer = await site.ask_and_expect_close(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nxyz", "GET")
        assert (answer.status, answer.code) == (405, "3000")


@on_each_loop
async def test_a_body_over_the_limit_is_a_413_and_one_at_the_limit_is_served() -> None:
    async with serve(body_bytes_max=1000) as site:
        for request in (
            b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n",  # at once: the body is never sent
            b"GET / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fa\r\n%b\r\n" % bytes(250) * 5,
            b"POST / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1001\r\n\r\n",
        ):
            answer = await site.ask_and_expect_close(request)
            assert (answer.status, answer.code) == (413, "3104")
        answer = await site.ask(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        assert len(answer.json["body"]) == 1000


@on_each_loop
async def test_a_client_that_sends_its_large_body_blindly_still_sees_the_413() -> None:
    async with serve(body_bytes_max=1000, linger_s=WAIT_S) as site:
        client = await site.connect()
        client.send(b"POST / HTTP/1.1\r\nContent-Length: 6000000\r\n\r\n")
        for _ in range(60):
            client.send(bytes(100_000))
            await client.writer.drain()
        assert (await client.answer()).status == 413
        await client.expect_close()


@on_each_loop
async def test_a_client_that_never_stops_sending_is_cut_off() -> None:
    async with serve(body_bytes_max=1000, linger_bytes_max=100_000) as site:
        client = await site.connect()
        client.send(b"POST / HTTP/1.1\r\nContent-Length: 6000000000\r\n\r\n")
        with pytest.raises(OSError):  # noqa: PT011, PT012 - reset or broken pipe, at some write
            while True:
                client.send(bytes(100_000))
                await client.writer.drain()
        assert not site.server.connections


@on_each_loop
async def test_a_client_that_does_not_close_after_a_refusal_is_closed() -> None:
    async with serve(linger_s=0.1) as site:
        client = await site.connect()
        assert (await client.ask(b"\x00")).status == 400
        await site.wait_until(lambda: not site.server.connections)


@on_each_loop
async def test_a_uri_too_long_is_a_414() -> None:
    async with serve(target_bytes_max=100) as site:
        answer = await site.ask_and_expect_close(b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * 100))
        assert (answer.status, answer.code) == (414, "3101")
        answer = await site.ask_and_expect_close(b"GET /%b" % (b"x" * 100))  # and while it grows
        assert (answer.status, answer.code) == (414, "3101")
        assert (await site.ask(b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * 99))).status == 200


@on_each_loop
async def test_headers_too_large_or_too_many_are_a_431() -> None:
    async with serve(header_bytes_max=1000, header_count_max=10) as site:
        for rest in (
            b"x: 1\r\n" * 11 + b"\r\n",
            b"x: %b\r\n\r\n" % (b"y" * 1000),
            b"x: %b\r\n" % (b"y" * 500) * 6,
            b"x: " + b"y" * 3000,  # without an end
            b"x" * 3000,
        ):
            answer = await site.ask_and_expect_close(b"GET / HTTP/1.1\r\n" + rest)
            assert (answer.status, answer.code) == (431, "3100")
        assert (await site.ask(b"GET / HTTP/1.1\r\n%b\r\n" % (b"x: 1\r\n" * 10))).status == 200
        assert (await site.ask(b"GET / HTTP/1.1\r\nx: %b\r\n\r\n" % (b"y" * 999))).status == 200


@pytest.mark.parametrize("junk", [b"0\r\nx: ", b"0\r\n", b"3;ext=", b"1\r\na\r\n1;ext="])
@on_each_loop
async def test_trailers_and_chunk_extensions_without_end_are_a_431(junk: bytes) -> None:
    filler = b"x: y\r\n" * 500 if junk == b"0\r\n" else b"y" * 3000
    async with serve(header_bytes_max=1000) as site:
        answer = await site.ask_and_expect_close(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + junk + filler
        )
        assert (answer.status, answer.code) == (431, "3100")


@on_each_loop
async def test_a_request_that_takes_too_long_to_arrive_is_a_408() -> None:
    async with serve(request_timeout_s=0.1) as site:
        for part in (b"G", LOOKUP[:-1], REGISTER[:-1], LOOKUP + CHUNKED[:-2]):
            client = await site.connect()
            client.send(part)
            if part.startswith(LOOKUP):
                assert (await client.answer()).status == 200
            answer = await client.answer()
            assert (answer.status, answer.code) == (408, "3100")
            await client.expect_close()


@on_each_loop
async def test_a_slow_application_and_an_idle_client_are_not_a_slow_request() -> None:
    app = Later()
    async with serve(app, request_timeout_s=0.04, linger_s=0.04, write_timeout_s=0.04) as site:
        client = await site.connect()
        client.send(LOOKUP)
        await site.wait_until(lambda: bool(app.requests))
        other = await site.connect()
        other.send(b"x")  # gets its 408 after one request timeout: this is the clock of the test, in sweeps
        for _ in range(3):
            probe = await site.connect()
            assert (await probe.ask(b"G")).status == 408
        app.requests[0].respond(200)
        assert (await client.answer()).kept
        for _ in range(3):
            probe = await site.connect()
            assert (await probe.ask(b"G")).status == 408
        client.send(LOOKUP)
        await site.wait_until(lambda: len(app.requests) == 2)


@on_each_loop
async def test_an_idle_connection_is_closed_after_its_hour_and_no_earlier() -> None:
    async with serve(idle_timeout_s=0.2) as site:
        client = await site.connect()
        begun = asyncio.get_running_loop().time()
        assert (await client.ask(LOOKUP)).kept
        await client.expect_close()
        # uvloop counts whole milliseconds; their difference can be 0.1999….
        assert asyncio.get_running_loop().time() - begun > 0.199
    assert LIMITS.idle_timeout_s >= 600


@on_each_loop
async def test_one_connection_over_the_limit_is_a_503_and_the_others_are_served() -> None:
    async with serve(connections_max=2, linger_s=0.2) as site:
        first, second = await site.connect(), await site.connect()
        assert (await first.ask(LOOKUP)).status == 200
        assert (await second.ask(LOOKUP)).status == 200
        answer = await site.ask_and_expect_close(LOOKUP)
        assert (answer.status, answer.code) == (503, "2005")
        assert (await first.ask(LOOKUP)).status == 200
        first.writer.close()
        await site.wait_until(lambda: len(site.server.connections) < 2)
        await site.check_service()


@on_each_loop
async def test_a_crowd_is_cut_off_without_an_answer() -> None:
    async with serve(connections_max=2) as site:
        for _ in range(40):
            await site.connect()
        await site.wait_until(lambda: len(site.server.connections) <= 4)
        assert len(site.server.connections) >= 2


# Draining.


@on_each_loop
async def test_a_drain_answers_requests_closes_idle_connections_and_accepts_no_more() -> None:
    app = Later()
    async with serve(app, drain_idle_s=0.05) as site:
        idle, busy, half = await site.connect(), await site.connect(), await site.connect()
        busy.send(LOOKUP + LOOKUP)
        half.send(LOOKUP[:-2])
        await site.wait_until(lambda: len(site.server.connections) == 3 and bool(app.requests))
        await site.wait_until(lambda: any(connection._message.receiving for connection in site.server.connections))
        draining = asyncio.create_task(site.server.drain(WAIT_S))
        await idle.expect_close()
        with pytest.raises(OSError):  # noqa: PT011 - refused
            await site.connect()
        app.requests[0].respond(200)
        assert (await busy.answer()).kept
        await site.wait_until(lambda: len(app.requests) == 2)
        app.requests[1].respond(200)
        assert not (await busy.answer()).kept
        await busy.expect_close()
        half.send(b"\r\n")
        await site.wait_until(lambda: len(app.requests) == 3)
        app.requests[2].respond(200)
        assert not (await half.answer()).kept
        assert not draining.done()
        busy.writer.close()
        half.writer.close()
        assert await draining == 0


@on_each_loop
async def test_a_request_that_had_arrived_before_the_drain_is_answered() -> None:
    async with serve() as site:
        client = await site.connect()
        assert (await client.ask(LOOKUP)).kept
        os.write(client.writer.get_extra_info("socket").fileno(), LOOKUP)  # uvloop would hold it back for a while
        draining = asyncio.create_task(site.server.drain(WAIT_S))
        assert (await client.answer()).status == 200
        client.writer.close()
        assert await draining == 0


@on_each_loop
async def test_a_connection_that_was_idle_when_the_drain_began_is_answered_once_more() -> None:
    async with serve(drain_idle_s=WAIT_S) as site:
        new, used = await site.connect(), await site.connect()
        assert (await used.ask(LOOKUP)).kept
        await site.wait_until(lambda: len(site.server.connections) == 2)
        draining = asyncio.create_task(site.server.drain(2 * WAIT_S))
        await site.wait_until(lambda: site.server.draining)
        for client in (new, used):
            answer = await client.ask(LOOKUP)
            assert (answer.status, answer.kept) == (200, False)
            await client.expect_close()
            client.writer.close()
        assert await draining == 0


@on_each_loop
async def test_a_drain_cuts_connections_that_are_not_finished_in_time() -> None:
    app = Later()
    async with serve(app) as site:
        client = await site.connect()
        client.send(LOOKUP)
        await site.wait_until(lambda: bool(app.requests))
        assert await site.server.drain(0.01) == 1
        await site.wait_until(lambda: app.requests[0].closed)
        app.requests[0].respond(200)


# Any bytes, in any pieces.


@pytest.mark.parametrize("request_", GOOD)
@on_each_loop
async def test_a_request_split_at_any_byte_gives_the_same_answer(request_: bytes) -> None:
    method = request_.split(b" ")[0].decode()
    async with serve() as site:
        whole = await site.ask(request_, method)
        assert whole.status == 200
        for at in range(1, len(request_)):
            client = await site.connect()
            client.send(request_[:at])
            await asyncio.sleep(0)
            client.send(request_[at:])
            answer = await client.answer(method)
            assert (answer.status, answer.body, answer.kept) == (200, whole.body, whole.kept), at
            client.writer.close()


async def converse(site: Serving, parts: list[bytes]) -> list[Answer]:
    """Send the parts and FIN, and read up to the server's FIN: all of it must be answers."""
    client = await site.connect()
    try:
        for part in parts:
            client.send(part)
            await asyncio.sleep(0)
        client.writer.write_eof()
        async with asyncio.timeout(WAIT_S):
            received = await client.reader.read()
    finally:
        client.writer.close()
        with suppress(OSError):
            await client.writer.wait_closed()
        site.clients.remove(client)
    answers = []
    while received:
        answer, received = parse_answer(received)
        assert answer is not None, received
        answers.append(answer)
    return answers


def plain_echo(request: Request) -> None:
    """Answer now or later, and a HEAD without a body: the reader does not know which method a mutation made."""
    body = b"" if request.method == "HEAD" else request.target[:10]
    if request.target.startswith(b"/participants/MSISDN/5"):
        asyncio.get_running_loop().call_soon(request.respond, 200, body)
    else:
        request.respond(200, body)


def check_all(answers: list[Answer]) -> None:
    for answer in answers:
        assert answer.status < 500
        if answer.status >= 400:
            assert answer.code
            assert not answer.kept
    assert all(answer.status == 200 for answer in answers[:-1])


WORDS = b"GET POST HEAD CONNECT PRI BREW / * : ; , \r\n \r\n\r\n \n \r \x00 \xff %2F HTTP/1.1 HTTP/1.0 HTTP/2.0"
TOKENS = [
    *GOOD, *WORDS.split(b" "), b" ", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n", b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n",
    b"18446744073709551616",
]  # fmt: skip


@pytest.fixture(params=list(LOOPS))
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(parts=st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=40)), min_size=1, max_size=12))
def test_any_bytes_are_served_or_refused_with_error_information(runner: asyncio.Runner, parts: list[bytes]) -> None:
    async def run() -> None:
        async with serve(plain_echo, linger_s=0.2) as site:
            check_all(await converse(site, parts))
            await site.check_service()
            assert not site.errors

    runner.run(run())


MUTATED_REQUESTS = 3_000


def mutate(rng: random.Random) -> list[bytes]:
    """Change a few bytes or tokens of one to three good requests, and cut them into up to five parts."""
    data = bytearray(b"".join(rng.choices(GOOD, k=rng.randint(1, 3))))
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randint(1, 8)]
            case 2:
                data[at:at] = rng.choice(TOKENS)
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 6))
            case 4:
                data[at:at] = data[at : at + rng.randint(1, 60)]
        data = data or bytearray(b"\r")
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(0, 4)))
    return [bytes(data[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@on_each_loop
async def test_mutated_requests_are_served_or_refused_and_the_server_lives() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    statuses: dict[int, int] = {}

    async def some(site: Serving, count: int) -> None:
        for _ in range(count):
            parts = mutate(rng)
            try:
                answers = await converse(site, parts)
                check_all(answers)
            except Exception as error:
                raise AssertionError(f"seed {seed}: {parts}") from error
            for answer in answers:
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

    async with serve(plain_echo, linger_s=1) as site:
        async with asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(some(site, MUTATED_REQUESTS // len(LOOPS) // 32 + 1))
        await site.wait_until(lambda: not site.server.connections)
        await site.check_service()
        assert not site.errors
    print(statuses)
    assert statuses[200] > 500
    assert statuses[400] > 500


@on_each_loop
async def test_all_bodies_together_have_a_limit() -> None:
    """Bodies with a length and in chunks count while they arrive and until they are answered."""
    held: list[Request] = []
    limits = {"body_bytes_max": 60_000, "bodies_bytes_max": 100_000}
    whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000
    half = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9c40\r\n" + b"x" * 40_000
    async with serve(held.append, **limits) as serving:
        server = serving.server
        first, second, third = [await serving.connect() for _ in range(3)]
        first.send(whole)
        while not held:  # noqa: ASYNC110
            await asyncio.sleep(0)
        second.send(half)
        while server.body_bytes < 90_000:  # noqa: ASYNC110
            await asyncio.sleep(0)
        answer = await third.ask(whole)
        assert (answer.status, answer.code, answer.kept) == (503, "2005", False)
        assert server.body_bytes == 90_000
        second.reset()
        while server.body_bytes > 50_000:  # noqa: ASYNC110
            await asyncio.sleep(0)
        held.pop().respond(200, b"{}")
        assert (await first.answer()).status == 200
        assert server.body_bytes == 0
