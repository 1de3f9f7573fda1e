"""A connection of a load test on which the next request follows the answer to the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class OneByOne(asyncio.Protocol):
    """Sends what `make_next` makes, and closes when that is None.  Each answer has one JSON object as its body."""

    def __init__(self, make_next: Callable[[], bytes | None], take: Callable[[bytes], None]) -> None:
        """`take` gets each whole answer, before the next request is made."""
        self._make_next = make_next
        self._take = take
        self._transport: Any = None
        self._received = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"}"):
            received, self._received = self._received, b""
            self._take(received)
            self._send()

    def _send(self) -> None:
        request = self._make_next()
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)
