"""One connection: whose turn it is, the answers in their order, flow control, and the close.

`Message` hands over complete requests; the application answers the one at work; `_advance` picks what comes next.
Receiving, handling and lingering overlap with a full write buffer and with the client's FIN, so these are flags and
not one state:

    flag             set by                                    what it stops
    current          `start`, until the answer                 the next request: one at a time
    backlog          every writer of work for `_advance`       the short way: `data_received` and `Message` queue
                     (queue, refusal, pending, eof, a full
                     write buffer, 100 Continue, bytes that the
                     server holds back), until all of it is done
    eof              the client's FIN                          waiting for bytes: an incomplete request is refused,
                                                               an idle connection closed
    discarding       `refuse`, `_linger`, a request without    parsing: bytes that arrive are dropped
                     keep-alive, the loss of the connection
    refusal          `refuse`                                  nothing by itself; the last answer, after the queue
    lingering        `_linger`, after the last answer          every answer; the client's FIN or a limit ends it
    write_paused     the transport, until its buffer is        parsing and answers
                     small again
    reading_paused   `data_received`, `_discard`, until        the transport's reading
                     nothing waits
    advancing        `_advance`, for its own time              an `_advance` inside the first
    held             the server, until `go_on`                 parsing and answers, of what follows as well
    lost             the transport                             everything
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from oracle.api import faults
from oracle.api.http import refusals
from oracle.api.http.message import Message
from oracle.api.http.refusals import Refusal
from oracle.api.http.request import JSON, PlainRequest, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.http.server import HttpServer

_OK: Final = 200
_BODYLESS: Final = frozenset({204, 304})
# Answers that are kept whole, for a second.
KEPT_MAX: Final = 1024
KEPT_BYTES_MAX: Final = 1024


@lru_cache(256)
def _head(status: int, fields: bytes) -> bytes:
    """Return the answer up to the length of its body, which 204 and 304 do not have (RFC 9110 section 8.6).

    Those two also have no type of a body.
    """
    try:
        phrase = HTTPStatus(status).phrase.encode()
    except ValueError:
        phrase = b""
    line = b"HTTP/1.1 %d %b" % (status, phrase)
    if status in _BODYLESS:
        kept = [each for each in fields.split(b"\r\n") if each and not each.lower().startswith(b"content-type:")]
        return b"\r\n".join([line, *kept])
    return b"%b\r\n%b\r\ncontent-length: " % (line, fields)


def _make_whole(server: HttpServer, body: bytes) -> bytes:
    """Make the usual answer, and keep it until the date changes: most answers are one of a few."""
    whole = b"%b%d%b%b" % (_head(200, JSON), len(body), server.tail_keep_alive, body)
    if len(body) <= KEPT_BYTES_MAX and len(server.answers) < KEPT_MAX:
        server.answers[body] = whole
    return whole


class Turns:
    """One per client, an `asyncio.Protocol`; without that base mypyc makes a smaller and faster object of it.

    `ticks` counts the sweeps of the server since the connection last made progress.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._transport: asyncio.Transport
        self._message = Message(self, server)
        self.ticks = 0
        # The request at work, and all that waits behind it, in this order.
        self.current: Request | None = None
        self._queue: deque[Request] = deque()
        self._refusal: Refusal | None = None
        self._pending: deque[bytes | memoryview] = deque()
        self._eof = False
        self._held: bytes | None = None
        self.backlog = False
        self._advancing = False
        # The ends of the wire.
        self.discarding = False
        self._discarded_bytes = 0
        self._lingering = False
        self._lost = False
        self._reading_paused = False
        self._write_paused = False

    # From the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            # uvloop has set it; asyncio does so only if the listening socket was made with proto=IPPROTO_TCP.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = self._server
        server.connections.add(self)
        surplus = len(server.connections) - self._limits.connections_max
        if surplus > self._limits.connections_refused_max:
            transport.abort()  # even a refusal holds a socket for linger_s
        elif surplus > 0:
            self.refuse(refusals.CROWDED)

    def data_received(self, data: bytes) -> None:
        if self.discarding:
            self._discard(len(data))
        elif self.current is None and not self.backlog and len(data) <= self._server.direct_bytes_max:
            self._read(data)
        else:
            if (
                self.current is None
                and not (self.backlog or self._message.receiving or self._server.draining)
                and (self._server.hold_back(self, data))
            ):
                return  # reading goes on: an ordinary client sends nothing until it has its answer
            self._pending.append(data)
            self.backlog = True
            self._advance()
            if self._pending:
                self._pause_reading()

    def _read(self, data: bytes) -> None:
        """Read bytes while no request is at work and nothing waits."""
        target = b"" if self._message.receiving else self._server.plain.read(data)
        if target:
            self.start(PlainRequest(self, target, data))
        else:
            self._message.feed(data)
        if self.backlog:
            self._advance()

    def eof_received(self) -> bool:
        """The client sends no more, but may still read: the requests it has sent are answered."""
        self._eof = self.backlog = True
        if not self._lingering:
            self._advance()
        return not (self._lingering or self._transport.is_closing())

    def pause_writing(self) -> None:
        self._write_paused = self.backlog = True
        self.ticks = 0

    def resume_writing(self) -> None:
        self._write_paused = False
        self.ticks = 0
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = self.discarding = True
        for request in (*self._queue, *([self.current] if self.current else [])):
            request.closed = True
        self.current = None
        self._queue.clear()
        self._pending.clear()
        self._message.close()
        self._server.forget(self)

    # From the message.

    def start(self, request: Request) -> None:
        """Give the application a request; no other is at work."""
        self.current = request
        try:
            self._server.app(request)
        except Exception as error:  # noqa: BLE001 - the client gets an answer for every error of the application
            if not request.answered:
                request.respond(*faults.encode_error(error))
            self._server.on_error(error)

    def hold(self, data: bytes) -> None:
        """Keep the bytes of a request unparsed until `go_on`."""
        self._held = data
        self.backlog = True

    def turn_away(self, status: int, body: bytes) -> None:
        """Answer a request that nobody has parsed; the connection goes on."""
        self.ticks = 0
        self._write(status, body, JSON, keep_alive=True)

    def go_on(self) -> None:
        """Take up the bytes that the server held back."""
        data, self._held = self._held, None
        if data is None or self.discarding or self._pending or self._eof:
            if data is not None and not self.discarding:
                self._pending.appendleft(data)
            self._advance()
            return
        self.backlog = False  # nothing else came meanwhile: the short way
        self._read(data)

    def enqueue(self, request: Request) -> None:
        self._queue.append(request)
        self.backlog = True

    def put_back(self, rest: bytes | memoryview) -> None:
        """Keep bytes of the slice at hand for the next one."""
        self._pending.appendleft(rest)
        self.backlog = True

    def refuse(self, refusal: Refusal) -> None:
        """Answer when its turn comes, then close.  Bytes that arrive later are dropped."""
        if not self.discarding:
            self.discarding = self.backlog = True
            self._refusal = refusal
            self._message.drop_body()
            self._pending.clear()
            self._advance()

    # From the application.

    def free_body(self, size: int) -> None:
        self._server.body_bytes -= size

    def answer(self, request: Request, status: int, body: bytes, fields: bytes) -> None:
        self.current = None
        self.ticks = 0
        keep_alive = request.keep_alive and (not self._server.draining or bool(self._queue or self._pending))
        self._write(status, body, fields, keep_alive, request.method == "HEAD")
        if not keep_alive:
            self._linger()
        elif self.backlog:
            self._advance()

    def _write(self, status: int, body: bytes, fields: bytes, keep_alive: bool, head_only: bool = False) -> None:
        server = self._server
        if status == _OK and fields is JSON and keep_alive and not head_only:
            whole = server.answers.get(body)
            self._transport.write(_make_whole(server, body) if whole is None else whole)
            return
        head = _head(status, fields)
        tail = server.tail_keep_alive if keep_alive else server.tail_close
        if status in _BODYLESS:
            self._transport.write(head + tail)
        else:
            self._transport.write(b"%b%d%b%b" % (head, len(body), tail, b"" if head_only else body))

    # What comes next.

    def _advance(self) -> None:
        # Guard: an application that answers at once comes back here from `answer`, 910 deep for 910 requests.
        if self._advancing or self._lost or self._held is not None:
            return
        self._advancing = True
        try:
            while self.current is None and not self._write_paused and not self._lingering:
                if self._queue:
                    self.start(self._queue.popleft())
                elif self._refusal is not None:
                    status, body = self._refusal
                    fields = self._server.refusal_fields
                    if status == HTTPStatus.METHOD_NOT_ALLOWED:
                        fields = b"%b\r\n%b" % (fields, refusals.NO_METHOD)
                    self._write(status, body, fields, keep_alive=False)
                    self._linger()
                elif self._pending:
                    self._message.feed(self._take_slice())
                elif not self._eof:
                    self._finish_backlog()
                    return
                elif self._message.receiving:
                    self.refuse(refusals.CUT_SHORT)
                else:
                    self._transport.close()
                    return
        finally:
            self._advancing = False

    def _take_slice(self) -> bytes | memoryview:
        data, size = self._pending.popleft(), self._server.slice_bytes
        if len(data) <= size:
            return data
        view = memoryview(data)
        self._pending.appendleft(view[size:])
        return view[:size]

    def _finish_backlog(self) -> None:
        self.backlog = False
        if self._message.continue_due:
            self._message.continue_due = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not (self._reading_paused or self._transport.is_closing()):
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _linger(self) -> None:
        """Close, but let the client close first.

        The race: (1) we answer 413 and close; (2) more of the body arrives; (3) our kernel answers with RST;
        (4) the client's kernel drops our answer unread.  So: send FIN, read and drop until the client closes too.
        """
        self.discarding = self._lingering = True
        self._queue.clear()
        self._pending.clear()
        self.ticks = 0
        if self._transport.is_closing():
            return
        if self._eof:
            self._transport.close()
        else:
            self._transport.write_eof()
            self._resume_reading()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._lingering:
            if self._discarded_bytes > self._limits.linger_bytes_max:
                self._transport.abort()
        else:
            self._pause_reading()  # an answer is still due: the rest can wait in the kernel

    # From the server.

    def tick(self) -> None:
        """Count a sweep, and end what takes too long.  A slow application does not count: it has its own deadlines."""
        self.ticks += 1
        server = self._server
        if self._write_paused or (self._lingering and self._transport.get_write_buffer_size()):
            if self.ticks > server.write_ticks:
                self._transport.abort()
        elif self._lingering:
            if self.ticks > server.linger_ticks:
                self._transport.abort()
        elif self.current is not None:
            pass
        elif self._message.receiving:
            if self.ticks > server.request_ticks:
                self.refuse(refusals.TOO_SLOW)
        elif self.ticks > server.idle_ticks:
            self._transport.close()

    def close_if_idle(self) -> None:
        busy = self.current or self._queue or self._pending or self._held or self._refusal
        if not (busy or self._message.receiving or self._lingering):
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # From a request.

    def find_certificate(self) -> Mapping[str, Any] | None:
        """Return the verified certificate of the client, as `ssl` describes it; None if there is none."""
        return self._transport.get_extra_info("peercert") or None
