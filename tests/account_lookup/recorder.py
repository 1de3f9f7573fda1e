"""FSPs that record each request as the bytes that arrived, and a scheme of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from oracle.scheme.base import PATHS, LedgerUnavailable, Participant

REASONS = {200: b"OK", 404: b"Not Found"}


@dataclass(frozen=True)
class Message:
    """A request that an FSP got."""

    method: str
    target: str  # raw
    headers: list[tuple[str, str]]  # the names in lower case
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, f"{name} twice"
        return found[0] if found else None

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.headers}


@dataclass
class Fsp:
    """Answers each request with a status, by its target; None: it closes the connection."""

    name: str
    answer: Callable[[Message], int | None] = lambda _: 200
    messages: list[Message] = field(default_factory=list)
    port: int = 0
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def wait(self, count: int = 1) -> list[Message]:
        """Wait for so many messages in all."""
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def take(self) -> Message:
        """Wait for the only message, and forget it."""
        (message,) = await self.wait()
        self.messages.clear()
        return message

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = await _read(reader)
                status = self.answer(message)
                async with self._arrived:
                    self.messages.append(message)
                    self._arrived.notify_all()
                if status is None:
                    break
                reason = REASONS.get(status, b"Any")
                writer.write(b"HTTP/1.1 %d %b\r\ncontent-length: 9\r\n\r\nits words" % (status, reason))
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Message:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = next((int(value) for name, value in headers if name == "content-length"), 0)
    return Message(method, target, headers, await reader.readexactly(length))


@asynccontextmanager
async def open_fsps(*names: str) -> AsyncIterator[list[Fsp]]:
    fsps = [Fsp(name) for name in names]
    opened = []
    for fsp in fsps:
        server = await asyncio.start_server(fsp.serve, "127.0.0.1", 0, limit=4 * 1024 * 1024)
        fsp.port = server.sockets[0].getsockname()[1]
        opened.append(server)
    try:
        yield fsps
    finally:
        for server in opened:
            server.close()


@dataclass
class Scheme:
    """The FSPs of a test, each with all endpoints below its URL."""

    fsps: Sequence[Fsp]
    missing: set[tuple[str, str]] = field(default_factory=set)  # (FSP, type of the endpoint)
    templates: dict[tuple[str, str], str] = field(default_factory=dict)
    away: bool = False

    def recall_participant(self, fsp_id: str) -> Participant | None: ...

    def recall_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None: ...

    async def find_participant(self, fsp_id: str) -> Participant | None:
        if self.away:
            raise LedgerUnavailable
        return Participant(fsp_id) if any(fsp.name == fsp_id for fsp in self.fsps) else None

    async def find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        if self.away:
            raise LedgerUnavailable
        key = fsp_id, endpoint_type
        found = next((fsp for fsp in self.fsps if fsp.name == fsp_id), None)
        if found is None or key in self.missing:
            return None
        return self.templates.get(key, found.url + "/cb" + PATHS[endpoint_type])

    async def list_proxies(self) -> Sequence[str]:
        return ()

    def forget_endpoints(self) -> None:
        pass

    async def close(self) -> None:
        pass
