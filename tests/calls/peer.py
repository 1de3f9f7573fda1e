"""A server on the test's loop that answers as the test says, byte by byte; and the loops to run it on."""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import pytest
import uvloop

from oracle.calls import Call, CallFailed, CallFiles, CallLimits, Calls
from oracle.telemetry.metrics import Metrics

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
WAIT_S: Final = 20.0
OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Script = Callable[["Client"], Awaitable[None]]
Result = int | tuple[str, bool]


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the test on asyncio, and on uvloop, which production uses."""

    @functools.wraps(test)
    def run(loop_name: str, **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(asyncio.wait_for(test(**arguments), WAIT_S))

    own = inspect.signature(test).parameters.values()
    loop_name = inspect.Parameter("loop_name", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([loop_name, *own])  # type: ignore[attr-defined]
    marked: Callable[..., None] = pytest.mark.parametrize("loop_name", list(LOOPS))(run)
    return marked


class Client:
    """The peer's side of a connection."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer

    async def read_head(self) -> bytes:
        """Read the head of a request; empty when the client has closed."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def read(self) -> bytes:
        """Read a whole request, and keep it; empty when the client has closed."""
        head = await self.read_head()
        if not head:
            return b""
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        request = head + await self.reader.readexactly(length)
        self.peer.requests.append(request)
        self.peer.arrived.set()
        return request

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    async def wait_closed(self) -> None:
        """Wait until the other side has closed."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass


class Peer:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.arrived = asyncio.Event()
        self.connections = 0
        self.open_now = 0
        self.open_max = 0
        self.closed = asyncio.Condition()
        self.url = ""
        self.port = 0
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, tls: ssl.SSLContext | None, port: int, receive_bytes: int) -> Self:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.bind((host, port))
        self.port = sock.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}"
        self._server = await asyncio.start_server(self._serve, sock=sock, ssl=tls, backlog=1000)
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_now += 1
        self.open_max = max(self.open_max, self.open_now)
        try:
            await self.script(Client(self, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open_now -= 1
            self._tasks.discard(task)
            writer.transport.abort()
            async with self.closed:
                self.closed.notify_all()

    async def wait_open(self, count: int) -> None:
        """Wait until so many connections are open."""
        async with self.closed:
            await self.closed.wait_for(lambda: self.open_now == count)

    def close_listener(self) -> None:
        """Refuse connections from now on.  Those that are open go on."""
        self._server.close()

    async def stop(self) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def serve_ok(client: Client) -> None:
    while await client.read():
        await client.write(OK)


def answer_with(*answers: bytes, close: bool = False) -> Script:
    """Answer the requests of each connection with these, the last one again and again."""

    async def serve(client: Client) -> None:
        at = 0
        while await client.read():
            await client.write(answers[min(at, len(answers) - 1)])
            at += 1
            if close:
                return client.close()
        return None

    return serve


async def never_answer(client: Client) -> None:
    while await client.read():
        pass


@asynccontextmanager
async def serving(
    script: Script = serve_ok, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0,
    receive_bytes: int = 0,
) -> AsyncIterator[Peer]:  # fmt: skip
    peer = await Peer(script).start(host, tls, port, receive_bytes)
    try:
        yield peer
    finally:
        await peer.stop()


@asynccontextmanager
async def calling(
    limits: CallLimits | None = None, files: CallFiles | None = None, metrics: Metrics | None = None
) -> AsyncIterator[Calls]:
    """Open the caller; at the end nothing may be left of its calls."""
    calls = Calls(metrics or Metrics.open(None, "test", 0), limits or CallLimits(), files)
    try:
        yield calls
    finally:
        await calls.close()
        totals = calls.totals
        left = (totals.connections, len(totals.active), totals.body_bytes, totals.answer_bytes, len(totals.starved))
        assert left == (0, 0, 0, 0, 0)
        assert totals.blocked == 0


def get(url: str) -> Call:
    return Call("GET", url)


def put(url: str, body: bytes = b"{}", headers: Sequence[tuple[bytes, bytes]] = ()) -> Call:
    return Call("PUT", url, headers, body)


async def fail(calls: Calls, call: Call, timeout_s: float | None = None) -> tuple[str, bool]:
    """Make a call that fails: the reason, and whether it can have been sent."""
    with pytest.raises(CallFailed) as caught:
        await calls.call(call, timeout_s=timeout_s)
    return caught.value.reason, caught.value.sent


async def settle(calls: Calls, call: Call) -> Result:
    """Make a call: its status, or why there is no answer and whether it can have been sent."""
    try:
        return (await calls.call(call)).status
    except CallFailed as failure:
        return failure.reason, failure.sent


async def begin(calls: Calls, url: str, count: int, size: int = 0) -> list[asyncio.Task[Result]]:
    """Begin calls, and give each a turn to find its place."""
    tasks = [asyncio.ensure_future(settle(calls, put(url, b"a" * size))) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def end_pauses(calls: Calls) -> None:
    """Let the pauses of all breakers end now."""
    for host in calls._hosts.values():
        host._breaker._open_until = 0.0


async def wait_until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the limit of time is that of the test
        await asyncio.sleep(0.005)
