"""One connection of the admin listener: uvicorn's HTTP/1.1 with its httptools parser, and what that leaves open.

Time.     A head must be complete after `head_timeout_s`.  A body and an unread answer must go on: each second without
          enough bytes costs a second of `patience_s`, and bytes give it back.  While we read nothing, none is lost.
Memory.   A read takes 16 KiB at most, and nothing of a body is read until the application asks for it.  Heads are
          parsed in small parts: what is behind a waiting request stays unparsed.
Refuses.  Bytes that are no HTTP get a 400, a long head gets a 431, and then the connection closes.  A request with
          both Content-Length and chunks is refused.  Trailers are dropped.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserInvalidMethodError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from oracle.api.admin.certificates import NAMES
from oracle.api.admin.early_refusals import BUSY, HEAD_TOO_LARGE, NO_HTTP, UNKNOWN_METHOD, write_refusal
from oracle.api.tls import Channel, list_names

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send
    from litestar.types import HTTPReceiveMessage as ReceiveEvent
    from litestar.types import Message as SendEvent

    from oracle.api.admin.connections import Connections
    from oracle.api.admin.problems import Refusal

PART_BYTES: Final = 2 * 1024  # that can begin new requests: 113 of the shortest


class Socket(asyncio.BufferedProtocol):
    """Reads into our small buffer.  For a plain `Protocol`, which uvicorn's is, uvloop would read 256 KB at once."""

    def __init__(self, connection: Connection | Channel, buffer: bytearray) -> None:
        self._connection = connection
        self._buffer = buffer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._connection.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the interface of asyncio
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.data_received(bytes(memoryview(self._buffer)[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()


class _Answering:
    """The transport as an answer sees it: `close` lets a client that is still sending read the answer first."""

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.close_gently()


class Connection(HttpToolsProtocol):
    """One connection: uvicorn's, within the limits of `Connections`."""

    def __init__(self, all_: Connections) -> None:
        super().__init__(all_.config, all_.state, {}, asyncio.get_running_loop())
        self.access_log = False  # its lines would hold identifiers
        self.address: str | None = None  # of the client, if it is no proxy
        self._all = all_
        self._limits = all_.limits
        self._unparsed = b""  # behind the requests that are at work or wait for their turn
        self._lingers = False  # the last answer is sent, and the rest of its body still arrives
        self._paused = False  # for this body, once
        self._refused: Refusal | None = None  # nothing more is read
        # Of the request that arrives:
        self._in_head = True
        self._length = 0  # of the body still to come, if it was announced
        self._head_bytes = 0  # since the head before it
        self._head_s = 0.0  # since its first byte
        self._silent_bytes = 0  # since the last data of its body: framing, trailers
        self._rest_bytes = 0  # behind an answer that did not wait for them
        # Of what goes on, in either direction:
        self._patience_s = self._limits.patience_s
        self._moved_bytes = 0  # since the last tick
        self._unsent_bytes = 0  # at the last tick

    # The socket ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.scheme == "https":
            self.app_state[NAMES] = list_names(transport.get_extra_info("peercert"))
        self._answering = _Answering(self)
        if not self._all.admit(self, self.client[0] if self.client else ""):
            self._refuse(BUSY)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_keepalive_if_required()
        self._all.leave(self)
        super().connection_lost(exc)
        self.pipeline.clear()
        self._unparsed = b""

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, as far as its turn has come."""
        data = self._unparsed + data
        while data and not self.pipeline and self._refused is None and not self.transport.is_closing():
            size = max(PART_BYTES, self._length)
            part, data = (data, b"") if len(data) <= size else (data[:size], data[size:])
            self._parse(part)
        self._unparsed = data
        if not self._in_head and not self._paused:
            self._paused = True
            self.flow.pause_reading()  # until the application asks for the body
        if len(data) > self._limits.head_bytes_max:
            self.transport.abort()  # somebody who sends ever more requests without waiting for answers
        elif data:
            self.flow.pause_reading()

    def _parse(self, part: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(part)
        self._silent_bytes += len(part)
        self._moved_bytes += len(part)
        super().data_received(part)
        if self._in_head and self._head_bytes > self._limits.head_bytes_max:
            self._refuse(HEAD_TOO_LARGE)
        elif not self._in_head and self._silent_bytes > self._limits.head_bytes_max:
            self._refuse(NO_HTTP)

    # The parser ----------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: it must not become a header behind the checks
        if len(self.headers) >= self._limits.head_count_max:
            self._refuse(HEAD_TOO_LARGE)
            raise ValueError  # ends the parser
        if len(name) == len("content-length") and name.lower() == b"content-length":
            self._length = int(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._refused is not None or self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError  # ends the parser
        self._in_head = False
        self._head_bytes, self._head_s = 0, 0.0
        self._silent_bytes = self._rest_bytes = 0
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", self._answering)
        if self.parser.should_upgrade() or self._all.draining:
            self.cycle.keep_alive = False  # the parser takes nothing behind an upgrade
        self._patience_s = self._limits.patience_s
        self._paused = False
        self._all.work(self)

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        self._length -= len(body)
        if self.cycle.response_complete:
            self._rest_bytes += len(body)
            if self._rest_bytes > self._limits.rest_bytes_max:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._length = 0
        super().on_message_complete()
        if self._lingers:
            self.transport.close()

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self._all.wait(self)
        super().on_response_complete()
        if self._unparsed:
            self.data_received(b"")

    # Refusing ------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's
        # The parser knows no method but the registered ones.
        is_method = isinstance(sys.exception(), HttpParserInvalidMethodError)
        self._refuse(UNKNOWN_METHOD if is_method else NO_HTTP)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, unless there is an answer already, and close."""
        if self._refused is not None:
            return
        self._refused = refusal
        if self._works():
            if self.pipeline and self.cycle.more_body:
                self.transport.abort()  # an answer now would be taken for that of an earlier request
            elif self.cycle.more_body:  # its own body is broken
                self._end(b"" if self.cycle.response_started else write_refusal(refusal))
            else:  # the requests before it come first
                self.close_after_answer()
                self.flow.pause_reading()
        else:
            self._end(write_refusal(refusal))

    def _end(self, last: bytes) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(last)
        self.transport.close()

    def _works(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def close_after_answer(self) -> None:
        if self._works():
            self.cycle.keep_alive = False  # the last one, if several wait for their turn

    def close_gently(self) -> None:
        """Close after an answer.  The kernel drops an answer that is not read yet if bytes of the client arrive later,
        so the rest of the body is read first, in its limits.
        """
        if self._in_head or self.pipeline or self.transport.is_closing():
            self.transport.close()
        elif not self._lingers:
            self._lingers = True
            self.transport.write_eof()
            self.flow.resume_reading()

    def give_way(self) -> None:
        """Make room for another connection.  Nothing of a request is lost: none is at work."""
        self._all.leave(self)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # Time ----------------------------------------------------------------------------------------------------

    def resume_writing(self) -> None:
        super().resume_writing()
        self._patience_s = self._limits.patience_s

    def tick(self, passed_s: float) -> None:
        """Close the connection if its client has been too slow."""
        unsent = self.transport.get_write_buffer_size()
        if unsent or self._unsent_bytes:
            self._lose_patience(passed_s, max(0, self._unsent_bytes - unsent))
            self._unsent_bytes = unsent
        elif not self._in_head:
            if not self.flow.read_paused:
                self._lose_patience(passed_s, self._moved_bytes)
        elif (self._head_bytes or self.cycle is None) and not self._works():
            self._head_s += passed_s
            if self._head_s > self._limits.head_timeout_s:
                self.transport.close()
        self._moved_bytes = 0

    def _lose_patience(self, passed_s: float, moved_bytes: int) -> None:
        patience_s = self._patience_s - passed_s + moved_bytes / self._limits.bytes_per_s_min
        self._patience_s = min(patience_s, self._limits.patience_s)
        if self._patience_s < 0:
            self.transport.abort()


def announce_close(app: ASGIApp, rest_bytes_max: int) -> ASGIApp:
    """Say `connection: close` in an answer that does not wait for a long body.

    The rest of that body is not read to its end.  A client that does not know it would send its next request on a
    connection that breaks, and not learn whether the request had an effect.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_long(scope, rest_bytes_max):
            await app(scope, receive, send)
            return
        arrived = False

        async def take() -> ReceiveEvent:
            nonlocal arrived
            event = cast("ReceiveEvent", await receive())
            arrived = event["type"] == "http.request" and not event["more_body"]
            return event

        async def give(event: SendEvent) -> None:
            if event["type"] == "http.response.start" and not arrived:
                event["headers"] = [*event["headers"], (b"connection", b"close")]
            await send(event)

        await app(scope, take, give)

    return serve


def _is_long(scope: Scope, rest_bytes_max: int) -> bool:
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return True
        if name == b"content-length":
            return int(value) > rest_bytes_max
    return False
