"""A client of the hub listener without a socket: the server's end of the connection is real, the wire is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from oracle.api.http import HttpServer, Request
from oracle.api.http.request import LadenRequest
from oracle.api.http.turns import Turns


class Wire:
    """The client's end: it keeps what it gets.  As a transport, it has what `Turns` calls."""

    family = 1  # AF_UNIX

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended = False
        self.on_write: Callable[[bytes], None] = self.written.append

    def write(self, data: bytes) -> None:
        self.on_write(data)

    def get_extra_info(self, name: str) -> Any:  # noqa: ARG002 - nothing but the socket is asked for
        return self

    def is_closing(self) -> bool:
        return self.ended

    def write_eof(self) -> None:
        self.ended = True

    abort = close = write_eof

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Caller:
    """One client with one request, which `make_request` makes as the server would have read it."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.failed: list[BaseException] = []
        self.server = HttpServer(lambda _: None, on_error=self.failed.append)
        wire = Wire()
        wire.on_write = self._take_answer
        self._turns = Turns(self.server)
        self._turns.connection_made(cast("Any", wire))

    def make_request(self, method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Request:
        self.server.body_bytes += len(body)  # as while a body arrives
        make = LadenRequest if body else Request
        request = make(self._turns, method, target, headers, body, True)
        self._turns.current = request
        return request

    def _take_answer(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        self.answered.set_result((int(head.split(b" ")[1]), body))
