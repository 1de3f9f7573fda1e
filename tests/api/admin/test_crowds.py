"""Many, slow and silent clients of the admin listener: each costs itself, and nobody else."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from litestar import Litestar, Request, get, post

from oracle.api.admin.app import _refuse
from oracle.api.admin.connections import Limits
from oracle.api.admin.envelope import Budget, wrap_app
from oracle.api.memory import Spare, read_rss_bytes
from oracle.run.asgi import serve_asgi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from admin_service import Service

WITHOUT_HUB = True  # see admin_service

TIMEOUT_S: Final = 60.0
HEAD: Final = b"GET /now HTTP/1.1\r\nHost: x\r\n"
NOW: Final = HEAD + b"\r\n"
LATER: Final = b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n"
ONE_READ: Final = 4_096  # bytes that arrive as one
SHORT: Final = Limits(head_timeout_s=0.4, idle_timeout_s=0.4, patience_s=0.4)


def test_a_thousand_silent_clients_and_half_requests_stop_nobody(service: Service) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    address = "127.0.0.1", service.oracle.admin_port
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, TIMEOUT_S)) for _ in range(1_000)]
        for client in clients[:200]:
            client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for client in clients[200:400]:
            client.sendall(b"POST /admin/v1/fsps HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n{")
        for source in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection(address, 10, (source, 0)) as client:
                client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        clients[-1].sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")  # an idle one is still served
        assert clients[-1].recv(4096).startswith(b"HTTP/1.1 200 ")


# The listener alone, with limits that a test can reach ---------------------------------------------------------------


class Clients:
    """Clients of one listener."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.stop = asyncio.Event()
        self.go_on = asyncio.Event()  # answers /later
        self.at_work = 0
        self.addresses: list[str] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def send(self, data: bytes, source: str = "127.0.0.1") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(source, 0))
        self.writers.append(writer)
        writer.write(data)
        return Client(reader, writer)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def status(self) -> int:
        async with asyncio.timeout(TIMEOUT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            await self.reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        return int(head.split()[1])

    async def ask(self, data: bytes = NOW) -> int:
        self.writer.write(data)
        return await self.status()

    async def rest(self) -> bytes:
        """Everything until the end of the connection."""
        async with asyncio.timeout(TIMEOUT_S):
            received = b""
            with suppress(ConnectionError):
                while data := await self.reader.read(65_536):
                    received += data
            return received


async def until(condition: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - a condition of many kinds
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listen(
    limits: Limits, *, proxies: Sequence[str] = (), budget: int = 2**30, stop_s: float = TIMEOUT_S
) -> AsyncIterator[Clients]:
    """A real listener, whose application answers at once, later, endlessly, or with the length of the body."""
    options: dict[str, Any] = {"opt": {"streams": False}}

    @get("/now", sync_to_thread=False, **options)
    def now(request: Request[Any, Any, Any]) -> str:
        return ",".join(f"{name}={value}" for name, value in request.headers.multi_items() if name.startswith("x-"))

    @get("/later", **options)
    async def later() -> str:
        clients.at_work += 1
        try:
            await clients.go_on.wait()
        finally:
            clients.at_work -= 1
        return "later"

    @post("/body", status_code=200, **options)
    async def body(request: Request[Any, Any, Any]) -> str:
        length = len(await request.body())
        await later.fn()
        return str(length)

    @post("/upload", status_code=200, opt={"streams": True}, request_max_body_size=None)
    async def upload(request: Request[Any, Any, Any]) -> str:
        length = 0
        async for part in request.stream():
            length += len(part)
        return str(length)

    app: Any = Litestar(
        [now, later, body, upload], exception_handlers={Exception: _refuse}, openapi_config=None, logging_config=None
    )
    app.asgi_handler = wrap_app(app.asgi_handler, Budget(budget))
    sock = socket.create_server(("127.0.0.1", 0))
    clients = Clients(sock.getsockname()[1])
    ready = asyncio.Event()
    serving = asyncio.create_task(
        serve_asgi(app, sock, ready.set, clients.stop, timeout_s=stop_s, limits=limits, proxies=proxies)
    )
    await ready.wait()
    try:
        yield clients
    finally:
        clients.go_on.set()
        for writer in clients.writers:
            writer.transport.abort()
        clients.stop.set()
        await serving


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"GET /",
        HEAD + b"X-Slow: ",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n{",
        b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: ",
    ],
)
async def test_a_client_that_goes_on_by_single_bytes_is_cut_off(sent: bytes) -> None:
    async def trickle(client: Client) -> None:
        while sent and not client.writer.is_closing():
            await asyncio.sleep(0.05)
            client.writer.write(b"\n" if sent == b"\r\n" else b"1")

    async with listen(SHORT) as clients:
        client = await clients.send(sent)
        trickling = asyncio.create_task(trickle(client))
        received = await client.rest()
        assert received == b"" or b"broken_off" in received or b" 400 " in received
        trickling.cancel()


async def test_a_client_that_rests_between_two_requests_has_the_time_of_an_idle_one() -> None:
    async with listen(Limits(head_timeout_s=0.2, patience_s=0.2)) as clients:
        client, slow = await clients.send(NOW), await clients.send(HEAD)
        assert await client.status() == 200
        assert await slow.rest() == b""
        assert await client.ask() == 200
    async with listen(SHORT) as clients:
        client = await clients.send(NOW)
        assert await client.status() == 200
        assert await client.rest() == b""


async def test_a_call_that_takes_long_is_not_the_fault_of_its_client() -> None:
    async with listen(SHORT) as clients:
        body = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        working = [await clients.send(LATER), await clients.send(body), await clients.send(LATER + HEAD)]
        await until(lambda: clients.at_work == 3)
        assert await (await clients.send(b"")).rest() == b""  # as long as all the limits
        assert await (await clients.send(b"G")).rest() == b""
        clients.go_on.set()
        assert [await each.status() for each in working] == [200, 200, 200]


async def test_a_body_and_an_answer_that_go_on_take_as_long_as_they_need() -> None:
    async with listen(SHORT) as clients:
        client = await clients.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 81920\r\n\r\n")
        for _ in range(20):  # 1 s: longer than the patience
            await asyncio.sleep(0.05)
            client.writer.write(b"x" * 4096)
        assert await client.status() == 200


async def test_above_the_limit_of_an_address_the_connection_that_waited_longest_makes_room() -> None:
    async with listen(Limits(connections_per_address_max=3)) as clients:
        first, second, working = [await clients.send(each) for each in (NOW, NOW, LATER)]
        assert await first.status() == await second.status() == 200
        assert await first.ask() == 200  # so the second is the one that has waited longest
        await until(lambda: clients.at_work == 1)
        fourth = await clients.send(NOW)
        assert await fourth.status() == 200
        assert await second.rest() == b""
        assert await first.ask() == 200
        others = [await clients.send(NOW, source) for source in ("127.0.0.2",) * 3]
        assert [await each.status() for each in others] == [200] * 3
        assert await first.ask() == await fourth.ask() == 200
        clients.go_on.set()
        assert await working.status() == 200


@pytest.mark.parametrize("limits", [Limits(connections_per_address_max=2), Limits(connections_max=2)])
async def test_a_client_is_refused_while_all_the_others_are_at_work(limits: Limits) -> None:
    async with listen(limits) as clients:
        working = [await clients.send(LATER) for _ in range(2)]
        await until(lambda: clients.at_work == 2)
        refused = await (await clients.send(b"")).rest()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"unavailable"' in refused
        assert b"\r\nRetry-After: 1\r\n" in refused
        clients.go_on.set()
        assert [await each.status() for each in working] == [200, 200]
        assert await (await clients.send(NOW)).status() == 200


async def test_behind_a_proxy_the_requests_of_each_client_are_limited_and_not_the_connections() -> None:
    limits = Limits(connections_per_address_max=2, requests_per_address_max=3)
    async with listen(limits, proxies=["127.0.0.1", "127.0.0.8/30"]) as clients:

        def ask(path: bytes, client: bytes) -> bytes:
            return b"GET %b HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.1, %b\r\n\r\n" % (path, client)

        for source in ("127.0.0.1", "127.0.0.9", "127.0.0.1"):
            await clients.send(ask(b"/later", b"10.0.0.7"), source)
        await until(lambda: clients.at_work == 3)
        assert await (await clients.send(ask(b"/now", b"10.0.0.7"))).status() == 503
        assert await (await clients.send(ask(b"/now", b"10.0.0.8"))).status() == 200
        # The header counts only if a proxy sends it.
        direct = [await clients.send(ask(b"/later", b"10.0.0.%d" % n), "127.0.0.2") for n in range(2)]
        await until(lambda: clients.at_work == 5)
        assert (await (await clients.send(NOW, "127.0.0.2")).rest()).startswith(b"HTTP/1.1 503 ")
        clients.go_on.set()
        assert [await each.status() for each in direct] == [200, 200]
        assert await (await clients.send(ask(b"/now", b"10.0.0.7"))).status() == 200


async def test_requests_that_are_sent_at_once_are_all_answered_in_their_order() -> None:
    async with listen(Limits()) as clients:
        requests = [b"GET /now HTTP/1.1\r\nHost: x\r\nX-N: %d.\r\n\r\n" % n for n in range(400)]
        body = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000
        client = await clients.send(b"".join([*requests, body, *requests]) + b"GET /now HTTP/1.0\r\n\r\n")
        received = await client.rest()
        assert [int(n) for n in re.findall(rb"x-n=(\d+)\.", received)] == [*range(400), *range(400)]
        assert received.count(b"HTTP/1.1 200 ") == 802


async def test_what_comes_behind_a_request_at_work_does_not_answer_for_it() -> None:
    async with listen(Limits()) as clients:
        for broken in (b"GET /now\r\n\r\n", b"\x00\r\n\r\n", b"GET /now HTTP/1.1\r\nHost : x\r\n\r\n",
                       HEAD + b"X: %b\r\n\r\n" % (b"a" * 70_000)):  # fmt: skip
            client = await clients.send(LATER + broken)
            await until(lambda: clients.at_work == 1)
            clients.go_on.set()
            received = await client.rest()
            assert received.startswith(b"HTTP/1.1 200 ")
            # The end of what is long can arrive after that answer: then it has an answer of its own.
            own = re.findall(rb"HTTP/1.1 (\d+) ", received)[1:]
            assert own == [] or (len(broken) > ONE_READ and own == [b"431"])
            clients.go_on.clear()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (HEAD + b"X: " + b"a" * 70_000, 431),
        (HEAD + b"X: a\r\n" * 300 + b"\r\n", 431),
        (b"\r\n" * 40_000, 431),
        (b"GET /" + b"a" * 70_000, 431),
        (b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 70_000, 400),
        (b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 70_000, 400),
        (b"FOO /now HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
async def test_what_is_too_long_or_no_request_is_refused_and_the_connection_closed(raw: bytes, status: int) -> None:
    async with listen(Limits()) as clients:
        received = await (await clients.send(raw)).rest()
        assert received == b"" or received.startswith(b"HTTP/1.1 %d " % status)
        assert b"application/problem+json" in received or received == b""


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_a_client_that_is_still_sending_reads_why_it_was_refused(connection: str) -> None:
    async with listen(Limits(), budget=100_000) as clients:
        head = f"POST /body HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\nContent-Length: 900000\r\n\r\n"
        client = await clients.send(head.encode() + b"x" * 450_000)
        assert await client.status() == 503
        client.writer.write(b"x" * 450_000)
        if connection == "close":
            assert await client.rest() == b""
        else:
            assert await client.ask() == 200


async def test_a_trailer_is_no_header() -> None:
    async with listen(Limits()) as clients:
        body = b"3\r\nabc\r\n0\r\nX-Request-ID: other\r\n\r\n"
        head = b"POST /upload HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = await clients.send(head)
        client.writer.write(body + b"GET /now HTTP/1.0\r\n\r\n")
        received = await client.rest()
        assert received.count(b"x-request-id: mine") == 1
        assert b"other" not in received


async def test_bodies_beyond_the_budget_are_refused_and_uploads_are_not_counted() -> None:
    async with listen(Limits(), budget=10_000) as clients:

        def send(path: bytes, length: int) -> bytes:
            return b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, length) + b"x" * length

        held = [await clients.send(send(b"body", 4_000)) for _ in range(2)]
        await until(lambda: clients.at_work == 2)
        for length in (4_000, 200_000):
            refused = await clients.send(send(b"body", length))
            assert await refused.status() == 503
        assert await (await clients.send(send(b"upload", 200_000))).status() == 200
        clients.go_on.set()
        assert [await each.status() for each in held] == [200, 200]
        assert await (await clients.send(send(b"body", 9_000))).status() == 200  # all of it was given back


async def test_memory_is_given_back_after_a_burst() -> None:
    Spare(every_s=0, grown_bytes=-(2**40)).give_back()  # else the burst would fill what earlier tests have freed
    spare = Spare(every_s=0)
    before = read_rss_bytes()
    kept = []
    burst = []
    for _ in range(4_000):  # 64 MiB, with something that stays behind each
        burst.append(bytes(16_384))
        kept.append(bytes(600))
    burst.clear()
    assert read_rss_bytes() - before > 48 * 2**20
    assert spare.give_back()
    assert read_rss_bytes() - before < 32 * 2**20  # what stays behind keeps a page of 4 KiB each: 16 MiB
    assert not spare.give_back()
    assert len(kept) == 4_000


async def test_at_a_stop_calls_are_answered_and_the_rest_is_closed() -> None:
    async with listen(Limits(drain_idle_s=0.2)) as clients:
        idle, working, half = [await clients.send(each) for each in (NOW, LATER, HEAD)]
        assert await idle.status() == 200
        await until(lambda: clients.at_work == 1)
        clients.stop.set()
        assert await idle.rest() == await half.rest() == b""
        clients.go_on.set()
        received = await working.rest()
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in received


async def test_a_stop_does_not_wait_longer_than_its_time() -> None:
    async with listen(Limits(), stop_s=0.2) as clients:
        working = await clients.send(LATER)
        await until(lambda: clients.at_work == 1)
        clients.stop.set()
        assert await working.rest() == b""
