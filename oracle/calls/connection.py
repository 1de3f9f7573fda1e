"""One connection that we opened: it writes a request, reads its answer, and decides whether it can be used again.

Reads.    httptools (llhttp) is the parser, strict.  Interim answers (1xx) are skipped, trailers are dropped.  An answer
          without a length, with which the connection ends, is taken from an HTTP/1.0 program as well as from others.
Refuses.  Other versions of HTTP, `Transfer-Encoding` beside `Content-Length`, a change of protocol, and an answer that
          is longer than the limits.  The call has then no answer.
Closes.   After an answer that was there before the request was sent as a whole, and after bytes that belong to no
          answer: what comes next could be taken for the answer to another call.

    state       set by                                   what it does
    exchange    `start`, until its answer or its end     bytes that arrive without one close the connection
    _unsent     `start`, for a large body                the rest of the body that the transport could not take yet
    _in_body    the end of the head of an answer         the limit of the head does not count any more
    _done       the last byte of the answer              a further answer is surplus
    _surplus    bytes behind the answer                  the connection is closed
    lost        the transport                            everything
"""

from __future__ import annotations

import asyncio
import re
import select
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from oracle.calls.call import Answer, Header
from oracle.calls.limits import SLICE_BYTES

if TYPE_CHECKING:
    from oracle.calls.exchange import Exchange
    from oracle.calls.host import Host

_VERSIONS: Final = frozenset({"1.1", "1.0"})  # llhttp would take 0.9 and 2.0 as well
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_FINAL_MIN: Final = 200
_STATUS_MIN: Final = 100
_CHUNK_OVERHEAD: Final = 8  # bytes on the wire for each byte of a body, in chunks of one byte
_TIMEOUT: Final = re.compile(rb"timeout=(\d{1,6})", re.IGNORECASE)
_MARGIN_S: Final = 1.0  # between the time that a host announces and the last use of its connection
_HANG_UP: Final[int] = getattr(select, "POLLRDHUP", 0)


class _Stop(Exception):
    """Raised in a parser callback: the parser must not read past this byte."""


class Connection(asyncio.Protocol):
    """One at a time: a request is sent when the answer to the one before it is complete."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._limits = host.limits
        self._totals = host.totals
        self._transport: asyncio.Transport
        self._parser = HttpResponseParser(self)
        self._poll = select.poll()
        self.exchange: Exchange | None = None
        self.usable_until = 0.0
        self.lost = False
        self._write_paused = False
        self._unsent: memoryview | None = None
        # Of the answer that arrives.
        self._status = 0
        self._headers: list[Header] = []
        self._keep_alive = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._wire_bytes = 0
        self._in_body = self._done = self._surplus = self._goes_on = False

    # From the host.

    def start(self, exchange: Exchange) -> bool:
        """Send a request.  Returns False, and sends nothing, if the connection has ended meanwhile.

        The kernel knows of an end, or of bytes that nobody asked for, before the loop does: it is busy with other
        calls.  A request that is sent nevertheless is lost, and could not be sent a second time.
        """
        if self.lost or self._transport.is_closing() or self._poll.poll(0):
            self.abort()
            return False
        self._headers = []
        self._body = []
        self._keep_alive = b""
        self._status = self._body_bytes = self._wire_bytes = 0
        self._in_body = self._done = self._surplus = False
        self.exchange = exchange
        exchange.connection = self
        body = exchange.body
        if len(body) <= SLICE_BYTES:
            self._transport.write(exchange.head + body if body else exchange.head)
        else:
            self._transport.write(exchange.head)
            self._unsent = memoryview(body)
            self._send()
        return True

    def give_up(self) -> None:
        """End the exchange without an answer: the connection cannot be used again."""
        self._forget_answer()
        self.exchange = None
        self.abort()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._unsent = None
        self._transport.abort()

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # With TLS there can be bytes to read that belong to no answer: session tickets.
        events = _HANG_UP if self._host.place.scheme == "https" else _HANG_UP | select.POLLIN
        self._poll.register(transport.get_extra_info("socket").fileno(), events)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.abort()
            return
        self._wire_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._done:
                self._fail(error)
                return
            self._surplus = True
        if self._done:
            self._finish()
        elif self._wire_bytes > (
            self._limits.answer_body_bytes_max * _CHUNK_OVERHEAD if self._in_body else self._limits.head_bytes_max
        ):
            self._fail()

    def eof_received(self) -> None:
        if self.exchange is not None and self._in_body and not any(name in _FRAMING for name, _ in self._headers):
            self._goes_on = False  # the end of the connection is the end of the answer
            self._finish()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost = True
        self._unsent = None
        if self.exchange is not None:
            self._fail()
        del self._parser  # it holds our bound methods
        self._host.forget(self)

    def _send(self) -> None:
        """Give the transport as much of a large body as it takes."""
        while self._unsent is not None and not self._write_paused:
            rest = self._unsent
            self._unsent = rest[SLICE_BYTES:] if len(rest) > SLICE_BYTES else None
            self._transport.write(rest[:SLICE_BYTES])

    # From the parser.

    def on_message_begin(self) -> None:
        if self._done:
            raise _Stop

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer
        name = name.lower()
        self._headers.append((name, value.strip()))
        if name == b"keep-alive":
            self._keep_alive = value

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        self._status = parser.get_status_code()
        if (
            len(headers) > self._limits.header_count_max
            or self._status < _STATUS_MIN
            or parser.get_http_version() not in _VERSIONS
            or (
                self._wire_bytes > self._limits.head_bytes_max
                and sum(len(name) + len(value) for name, value in headers) > self._limits.head_bytes_max
            )
        ):
            raise _Stop
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        self._totals.answer_bytes += len(body)
        if (
            self._body_bytes > self._limits.answer_body_bytes_max
            or self._totals.answer_bytes > self._limits.answer_bytes_max
        ):
            raise _Stop

    def on_message_complete(self) -> None:
        if self._status < _FINAL_MIN:
            self._headers = []
            self._in_body = False
        else:
            self._done = True
            self._goes_on = self._parser.should_keep_alive()

    # The end of an exchange.

    def _finish(self) -> None:
        exchange = self.exchange
        assert exchange is not None  # noqa: S101 - for the type alone: bytes without one close the connection
        self.exchange = None
        answer = Answer(self._status, self._headers, b"".join(self._body))
        sent = self._unsent is None and not self._transport.get_write_buffer_size()
        idle_s = self._find_idle_s()
        goes_on = self._goes_on and sent and not self._surplus and idle_s > 0
        self._forget_answer()
        if not sent:
            self.abort()  # else the rest of the request would still be sent
        elif not goes_on:
            self._transport.close()
        self.usable_until = self._host.now() + idle_s
        self._host.finish(exchange, answer, self if goes_on else None)

    def _find_idle_s(self) -> float:
        if not self._keep_alive:
            return self._limits.idle_s
        announced = _TIMEOUT.search(self._keep_alive)
        return min(int(announced[1]) - _MARGIN_S, self._limits.idle_max_s) if announced else self._limits.idle_s

    def _fail(self, error: Exception | None = None) -> None:
        exchange = self.exchange
        assert exchange is not None  # noqa: S101 - for the type alone
        self._forget_answer()
        self.exchange = None
        self.abort()
        self._host.fail(exchange, "broken")
        if error is not None and error.__context__ is not None and not isinstance(error.__context__, _Stop):
            self._host.report(error.__context__)

    def _forget_answer(self) -> None:
        self._totals.answer_bytes -= self._body_bytes
        self._body_bytes = 0
        self._body = []
        self._headers = []
