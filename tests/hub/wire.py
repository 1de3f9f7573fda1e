"""The hub's end of a socket: it sends bytes as given and returns answers as they are.

No HTTP client is between a test and the wire, because every client changes what it sends: it re-encodes the path,
drops hop-by-hop headers and refuses Transfer-Encoding beside Content-Length.  ALS does none of that.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_S: Final = 20  # the time that ALS gives an oracle


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Wire:
    """One connection, kept alive; `ask` opens a new one after an answer with `connection: close`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.opened = 0
        self._open()

    def _open(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")
        self._closing = False
        self.opened += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, raw: bytes) -> None:
        if self._closing:
            self.close()
            self._open()
        self._socket.sendall(raw)

    def finish(self) -> None:
        """Send FIN: no more requests follow."""
        self._socket.shutdown(socket.SHUT_WR)

    def receive(self, *, head: bool = False) -> Answer:
        """Read the next final answer.  `head`: the request was a HEAD, so no body follows."""
        while True:
            answer = self._receive(head=head)
            if answer.status >= 200:
                self._closing = answer.closes
                return answer

    def _receive(self, *, head: bool) -> Answer:
        line = self._stream.readline()
        if not line:
            raise ConnectionError("closed without an answer")
        version, status, _ = line.split(b" ", 2)
        assert version == b"HTTP/1.1", line
        headers: dict[str, str] = {}
        while (line := self._stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("ascii").partition(":")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        assert line == b"\r\n", "the head of the answer is cut"
        length = 0 if head else int(headers.get("content-length", "0"))
        body = self._stream.read(length)
        assert len(body) == length, "the body of the answer is cut"
        return Answer(int(status), headers, body)

    def ask(self, raw: bytes) -> Answer:
        self.send(raw)
        return self.receive(head=raw.startswith(b"HEAD "))

    def at_end(self) -> bool:
        """Wait for the end; true if the oracle closes and sends nothing before."""
        return self._stream.read(1) == b""


def ask(port: int, raw: bytes) -> Answer:
    """Send one request on a connection of its own."""
    with Wire(port) as wire:
        return wire.ask(raw)
