"""HTTP/1.1 for mock FSPs: a server and a client that read only what the service sends."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

# A connection, method, path, head and body.
App = Callable[["Served", bytes, bytes, bytes, bytes], None]
Done = Callable[[int], None]  # the status, or 0 if the connection ended

ACCEPTED: Final = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
# Younger than the time after which the service closes an idle connection.
IDLE_S: Final = 300.0


def read_length(head: bytes) -> int:
    start = head.lower().find(b"content-length:")
    return int(head[start + 15 : head.find(b"\r\n", start)]) if start >= 0 else 0


def make_answer(status: int, body: bytes, *lines: bytes) -> bytes:
    extra = b"".join(line + b"\r\n" for line in lines)
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
    return head % (status, extra, len(body)) + body


class Served(asyncio.Protocol):
    """One connection to a mock: calls the app for each request.  The app writes to `transport`."""

    def __init__(self, app: App, connections: set[Served]) -> None:
        self._app, self._connections = app, connections
        self._data = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end]
            size = end + 4 + (0 if head.startswith(b"GET ") else read_length(head))
            if len(data) < size:
                break
            method, path, _ = head[: head.find(b"\r\n")].split(b" ")
            body, data = data[end + 4 : size], data[size:]
            self._app(self, method, path, head, body)
        self._data = data


class Mock:
    """A listener of a mock, on the same port each time; `close` also cuts its connections, as a dead host does."""

    def __init__(self, app: App) -> None:
        self._app, self.port = app, 0
        self._connections: set[Served] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        if self._server is None:
            make = lambda: Served(self._app, self._connections)  # noqa: E731 - of this listener
            self._server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self._connections):
            connection.transport.abort()


class Sender(asyncio.Protocol):
    """A connection to the service, with one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._data = b""
        self._done: Done | None = None
        self.used_at = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, data: bytes, done: Done) -> None:
        self._done = done
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        data = self._data = self._data + data if self._data else data
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) < end + 4 + read_length(data[:end]):
            return
        self._data = b""
        done, self._done = self._done, None
        if b"connection: close" in data[:end].lower():
            self.transport.close()
        else:
            self._pool.take_back(self)
        if done is not None:
            done(int(data[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._pool.drop(self)
        done, self._done = self._done, None
        if done is not None:
            done(0)


class Pool:
    """Connections to one place, made when they are needed; never more than `connections_max`."""

    def __init__(self, port: int, connections_max: int) -> None:
        self._port, self._room = port, connections_max
        self._idle: list[Sender] = []
        self._waiting: deque[tuple[bytes, Done]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, data: bytes, done: Done) -> None:
        while self._idle:
            sender = self._idle.pop()
            if not sender.transport.is_closing():
                sender.send(data, done)
                return
        self._waiting.append((data, done))
        if self._room > 0:
            self._room -= 1
            task = asyncio.create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            _, sender = await loop.create_connection(lambda: Sender(self), "127.0.0.1", self._port)
        except OSError:
            self._room += 1
            if self._waiting:
                self._waiting.popleft()[1](0)
            return
        self.take_back(sender)

    def take_back(self, sender: Sender) -> None:
        sender.used_at = time.monotonic()
        if self._waiting:
            sender.send(*self._waiting.popleft())
        else:
            self._idle.append(sender)

    def drop(self, sender: Sender) -> None:
        self._room += 1
        if sender in self._idle:
            self._idle.remove(sender)
        if self._waiting and not self._idle and self._room > 0:  # nobody else would send it
            data, done = self._waiting.popleft()
            self.send(data, done)

    async def close(self) -> None:
        await asyncio.gather(*self._tasks)
        for sender in tuple(self._idle):
            sender.transport.abort()
