"""The hub's listener: HTTP/1.1 with httptools (llhttp) as the parser and everything else in view.

For.      ALS turns an answer without `errorInformation` into an error that carries our address, so every byte
          this port can say has to be ours.  A ready-made server answers a broken request line, a long URI or a
          bad chunk by itself with an empty body, decodes the path (%2F is then lost), and costs two to three
          times as much CPU per request.
Accepts.  HTTP/1.0 and 1.1, keep-alive, pipelining, chunked bodies (trailers are dropped), HEAD, absolute-form
          targets, Expect: 100-continue, half-closed clients.  What ALS forwards from DFSPs: `Upgrade: h2c`
          (served as if it were not there), Transfer-Encoding beside Content-Length (the chunks count).
Refuses.  All else, with errorInformation and a close.  llhttp is strict but for that one leniency: no bare LF,
          no folded header, no second Content-Length, no byte above 127 in a target.
Order.    A connection is answered in the order it asks, one request at a time.  While one is at work the
          bytes behind it wait unparsed, and reading is paused.
Limits.   `Limits`, each with its reason.  Of a client that reads slowly nothing more is read until it has.
Not here. TLS and HTTP/2 (a mesh or a proxy in front), virtual hosts (the Host header is not looked at),
          streaming (a request is whole before the application sees it, and so is an answer).

The hot path is data_received, on_message_complete, the application, Request.respond, one write: no task, no
timer and no clock per request.  Waiting is counted in sweeps of the server instead (`Connection.ticks`).

Longer than most files here: the framing of a message, its order and its end are one state machine.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from math import ceil
from typing import Final

import msgspec
from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from oracle import errors
from oracle.api.hub import faults

JSON: Final = b"application/json"

# Bytes parsed at a time.  It bounds what is parsed ahead of the request at work: the shortest request is 18
# bytes, so 910 of them, however much the client has sent.
SLICE_BYTES_MAX: Final = 16 * 1024


class Limits(msgspec.Struct, frozen=True):
    body_bytes_max: int = 4 * 1024 * 1024  # ALS's largest bulk was measured at 0.9 MiB
    header_bytes_max: int = 64 * 1024  # ALS forwards whatever the DFSP sent; Node takes 16 KiB
    header_count_max: int = 256
    target_bytes_max: int = 16 * 1024  # an identifier is 128 characters, 12 bytes each when percent-encoded
    idle_timeout_s: float = 3600  # ALS keeps idle sockets for ever and never retries: closing one loses a lookup
    request_timeout_s: float = 30  # from the first byte of a request to its last
    write_timeout_s: float = 60  # for a client to take an answer larger than the buffers
    linger_s: float = 2  # after our last answer, for the client to close first (Connection._linger)
    drain_idle_s: float = 1  # after the last accept, for the client of an idle connection to ask once more
    linger_bytes_max: int = 8 * 1024 * 1024  # read and dropped meanwhile
    connections_max: int = 10_000


LIMITS: Final = Limits()

Refusal = tuple[int, bytes]  # a status and its errorInformation


def _refusal(error: errors.OracleError, status: int | None = None) -> Refusal:
    """FSPIOP's code comes from the one bridge; HTTP has the finer statuses."""
    usual, body = faults.error_body(error)
    return status or usual, body


_UNREADABLE: Final = _refusal(errors.Malformed("The request is not valid HTTP/1.1"))
_CUT_SHORT: Final = _refusal(errors.Malformed("The request ended before it was complete"))
_CODING: Final = _refusal(errors.Malformed("The only transfer coding understood is chunked"))
_TARGET_TOO_LONG: Final = _refusal(errors.Malformed("The request URI is too long"), 414)
_HEADERS_TOO_LARGE: Final = _refusal(errors.BadRequest("The request headers are too large or too many"), 431)
_TOO_SLOW: Final = _refusal(errors.BadRequest("The request took too long to arrive"), 408)
_BODY_TOO_LARGE: Final = _refusal(errors.TooLarge("The request body is too large"))
_CONNECT: Final = _refusal(errors.MethodNotAllowed("CONNECT is not served here"))
_CROWDED: Final = _refusal(errors.Overloaded("Too many connections, try again later"))
_DEFECT: Final = _refusal(errors.OracleError())


class _Stop(Exception):
    """Raised in a parser callback: nothing after this byte is to be parsed."""


class Request:
    """One request, whole.  `respond` is called exactly once, from the same loop, now or later."""

    __slots__ = ("_connection", "_headers", "_keep_alive", "body", "closed", "method", "target")

    def __init__(
        self,
        connection: Connection,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        self._connection: Connection | None = connection
        self._headers = headers
        self._keep_alive = True
        self.method = method
        self.target = target  # path and query exactly as sent: nothing is decoded
        self.body = body
        self.closed = False  # the client has gone: an answer goes nowhere

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name.  A walk over the list: nobody pays who does not ask."""
        size = len(name)
        for key, value in self._headers:
            if len(key) == size and key.lower() == name:
                return value.strip()
        return None

    def only(self, name: bytes) -> bytes | None:
        """As `header`, for one that decides who acts.

        Raises Malformed when it is there twice: a proxy may have looked at the other one.
        """
        found = [value for key, value in self._headers if key.lower() == name]
        if len(found) > 1:
            raise errors.Malformed(f"The header {name.decode()} is given twice")
        return found[0].strip() if found else None

    def respond(self, status: int, body: bytes = b"", content_type: bytes = JSON) -> None:
        if self.closed:
            return
        connection, self._connection = self._connection, None
        if connection is None:
            raise RuntimeError("a request is answered once")
        connection.answer(self, status, body, content_type)

    @property
    def answered(self) -> bool:
        return self._connection is None


App = Callable[[Request], None]


@lru_cache(256)
def _head(status: int, content_type: bytes) -> bytes:
    """The answer up to the length of its body, which 204 and 304 do not have (RFC 9110 section 8.6)."""
    try:
        phrase = HTTPStatus(status).phrase.encode()
    except ValueError:
        phrase = b""
    line = b"HTTP/1.1 %d %b" % (status, phrase)
    return line if status in _BODYLESS else b"%b\r\ncontent-type: %b\r\ncontent-length: " % (line, content_type)


_BODYLESS: Final = frozenset({204, 304})
_VERSIONS: Final = frozenset({"1.1", "1.0"})  # llhttp would take 0.9 and 2.0 for one of these
_FRAMING: Final = frozenset({b"expect", b"content-length", b"transfer-encoding"})
_FRAMING_LENGTHS: Final = frozenset(map(len, _FRAMING))


class Connection(asyncio.Protocol):
    """One client.  The parser's callbacks (`on_…`) fill in a message; `_advance` picks what is done next.

    Receiving, handling and lingering overlap with a full write buffer and with the client's FIN, so these are
    flags and not one state.
    """

    ticks = 0  # sweeps of the server since this connection last got on

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._transport: asyncio.Transport
        self._parser: HttpRequestParser = self._new_parser()
        # The message being received.
        self._receiving = False
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._message_headers = self._headers
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._unparsed = 0  # bytes of slices that brought neither the end of the head nor any body
        self._framing_doubtful = False
        self._upgrading = False
        self._continue_due = False
        # The one at work and all that waits behind it, in this order.
        self._current: Request | None = None
        self._queue: deque[Request] = deque()
        self._refusal: Refusal | None = None
        self._pending: deque[bytes | memoryview] = deque()
        self._eof = False
        self._more = False  # any of the above waits: one look for the hot path
        self._advancing = False
        # The ends of the wire.
        self._deaf = False  # what comes in is dropped
        self._discarded = 0
        self._lingering = False  # our last answer is written
        self._lost = False
        self._reading_paused = False
        self._write_paused = False

    def _new_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(self)
        # ALS sends both Transfer-Encoding and Content-Length for a chunked DFSP request; llhttp refuses that.
        parser.set_dangerous_leniencies(lenient_chunked_length=True)
        return parser

    # From the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            # uvloop has set it; asyncio does so only if the listening socket was made with proto=IPPROTO_TCP.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = self._server
        server.connections.add(self)
        surplus = len(server.connections) - self._limits.connections_max
        if surplus > self._limits.connections_max:
            transport.abort()  # even refusing politely holds a socket for linger_s
        elif surplus > 0:
            self._refuse(_CROWDED)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._discard(len(data))
        elif self._current is None and not self._more and len(data) <= self._server.slice_bytes:
            self._feed(data)
        else:
            self._pending.append(data)
            self._more = True
            self._advance()
            if self._pending:
                self._pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more, but may well be reading: what it has asked is still answered."""
        self._eof = self._more = True
        if not self._lingering:
            self._advance()
        return not (self._lingering or self._transport.is_closing())

    def pause_writing(self) -> None:
        self._write_paused = self._more = True
        self.ticks = 0

    def resume_writing(self) -> None:
        self._write_paused = False
        self.ticks = 0
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = self._deaf = True
        for request in (*self._queue, *([self._current] if self._current else [])):
            request.closed = True
        self._current = None
        self._queue.clear()
        self._pending.clear()
        del self._parser  # it holds our bound methods: a cycle
        self._server.forget(self)

    # From the parser.

    def on_message_begin(self) -> None:
        self.ticks = 0
        self._receiving = True
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._limits.target_bytes_max:
            self._stop(_TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        headers = self._message_headers = self._headers
        if len(headers) > self._limits.header_count_max or (
            # A head within one slice is no longer than a slice, which is no longer than the limit.
            self._unparsed and sum(len(name) + len(value) for name, value in headers) > self._limits.header_bytes_max
        ):
            self._stop(_HEADERS_TOO_LARGE)
        self._unparsed = 0
        self._framing_doubtful = False
        if self._parser.get_http_version() not in _VERSIONS:
            self._stop(_UNREADABLE)
        if self._parser.should_upgrade():
            if self._parser.get_method() == b"CONNECT":
                self._stop(_CONNECT)
            self._upgrading = True
            return
        for name, _ in headers:
            if len(name) in _FRAMING_LENGTHS and name.lower() in _FRAMING:  # half the cost of lower() alone
                self._check_framing()
                break

    def _check_framing(self) -> None:
        length = coding = expect = None
        for name, value in self._headers:
            match name.lower():
                case b"content-length":
                    length = int(value)  # llhttp has seen that it is one number
                case b"transfer-encoding":
                    coding = value
                case b"expect":
                    expect = value
        if coding is not None:
            if coding.strip().lower() != b"chunked":
                # With the leniency above llhttp would take "gzip" for a body until the client closes.
                self._stop(_CODING)
            # RFC 9112 section 6.1: the chunks count, and the connection MUST close after the answer: a proxy
            # in front that believes the length sees another request begin elsewhere.  ALS obeys a close.
            self._framing_doubtful = length is not None or self._parser.get_http_version() != "1.1"
        elif length is not None and length > self._limits.body_bytes_max:
            self._stop(_BODY_TOO_LARGE)
        if expect is not None and expect.strip().lower() == b"100-continue":
            # `_advance` says it, once all that was asked before is answered.
            self._continue_due = self._more = self._parser.get_http_version() == "1.1"

    def on_chunk_header(self) -> None:
        self._headers = []  # trailers come here and are dropped

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes_max:
            self._stop(_BODY_TOO_LARGE)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return  # its body is not parsed: `_without_upgrade` asks again
        self._receiving = self._continue_due = False
        body = b""
        if self._body_bytes:
            body = b"".join(self._body)
            self._body = []
            self._body_bytes = 0
        parser = self._parser
        target = self._target
        if not target.startswith(b"/"):
            target = _origin_form(target)
        keep_alive = parser.should_keep_alive() and not self._framing_doubtful
        request = Request(self, parser.get_method().decode(), target, self._message_headers, body)
        request._keep_alive = keep_alive  # noqa: SLF001
        if self._current is None and not self._more:
            self._start(request)
        else:
            self._queue.append(request)
            self._more = True
        if not keep_alive:
            self._deaf = True
            raise _Stop

    def _stop(self, refusal: Refusal) -> None:
        self._refuse(refusal)
        raise _Stop

    # What happens next.

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
        except HttpParserError as error:
            if not self._deaf:  # else it is our own _Stop, or bytes after a `Connection: close`
                defect = isinstance(error, HttpParserCallbackError)
                if defect:
                    self._server.on_error(error.__context__ or error)
                self._refuse(_DEFECT if defect else _UNREADABLE)
        else:
            if self._receiving:
                # A header, trailer or chunk extension without end: the parser keeps or skips it in silence.
                self._unparsed += len(data)
                if self._unparsed > self._limits.header_bytes_max + self._server.slice_bytes:
                    self._refuse(_HEADERS_TOO_LARGE)
        if self._more:
            self._advance()

    def _without_upgrade(self, rest: bytes | memoryview) -> None:
        """Ask again without the Upgrade header.

        httptools takes every byte behind the head of such a request for another protocol, the body included.
        Parsed on as HTTP, that body would be the next request: a DFSP could put words in the hub's mouth.
        """
        parser = self._parser
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self._target, parser.get_http_version().encode())]
        lines += [b"%b: %b" % pair for pair in self._message_headers if pair[0].lower() != b"upgrade"]
        self._parser = self._new_parser()
        self._upgrading = False
        if len(rest):
            self._pending.appendleft(rest)
            self._more = True
        self._feed(b"\r\n".join((*lines, b"", b"")))

    def _start(self, request: Request) -> None:
        self._current = request
        try:
            self._server.app(request)
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the client gets an answer
            if not request.answered:
                request.respond(*faults.error_body(error))
            self._server.on_error(error)

    def answer(self, request: Request, status: int, body: bytes, content_type: bytes) -> None:
        self._current = None
        self.ticks = 0
        server = self._server
        keep_alive = request._keep_alive and (not server.draining or bool(self._queue or self._pending))  # noqa: SLF001
        self._write(status, body, content_type, keep_alive, request.method == "HEAD")
        if not keep_alive:
            self._linger()
        elif self._more:
            self._advance()

    def _write(self, status: int, body: bytes, content_type: bytes, keep_alive: bool, head_only: bool = False) -> None:
        head = _head(status, content_type)
        tail = self._server.tail_keep_alive if keep_alive else self._server.tail_close
        if status in _BODYLESS:
            self._transport.write(head + tail)
        else:
            self._transport.write(b"%b%d%b%b" % (head, len(body), tail, b"" if head_only else body))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer in turn, then close.  Nothing the client sends after this is looked at."""
        if not self._deaf:
            self._deaf = self._more = True
            self._refusal = refusal
            self._pending.clear()
            self._advance()

    def _advance(self) -> None:
        # Guard: an application that answers at once comes back here from `answer`, 910 deep for 910 requests.
        if self._advancing or self._lost:
            return
        self._advancing = True
        try:
            while self._current is None and not self._write_paused and not self._lingering:
                if self._queue:
                    self._start(self._queue.popleft())
                elif self._refusal is not None:
                    status, body = self._refusal
                    self._write(status, body, JSON, keep_alive=False)
                    self._linger()
                elif self._pending:
                    self._feed(self._next_slice())
                elif not self._eof:
                    self._caught_up()
                    return
                elif self._receiving:
                    self._refuse(_CUT_SHORT)
                else:
                    self._transport.close()
                    return
        finally:
            self._advancing = False

    def _next_slice(self) -> bytes | memoryview:
        data, size = self._pending.popleft(), self._server.slice_bytes
        if len(data) <= size:
            return data
        view = memoryview(data)
        self._pending.appendleft(view[size:])
        return view[:size]

    def _caught_up(self) -> None:
        self._more = False
        if self._continue_due:
            self._continue_due = False
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
        """Close, but let the client do it first.

        The race: (1) we answer 413 and close; (2) more of the body arrives; (3) our kernel answers with RST;
        (4) the client's kernel drops our answer unread.  So: send FIN, read and drop until it closes too.
        """
        self._deaf = self._lingering = True
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
        self._discarded += size
        if self._lingering:
            if self._discarded > self._limits.linger_bytes_max:
                self._transport.abort()
        else:
            self._pause_reading()  # an answer is still due: the rest can wait in the kernel

    # From the server.

    def tick(self) -> None:
        """Once per sweep.  An application that takes its time is not our affair: it has its own deadlines."""
        self.ticks += 1
        server = self._server
        if self._write_paused or (self._lingering and self._transport.get_write_buffer_size()):
            if self.ticks > server.write_ticks:
                self._transport.abort()
        elif self._lingering:
            if self.ticks > server.linger_ticks:
                self._transport.abort()
        elif self._current is not None:
            pass
        elif self._receiving:
            if self.ticks > server.request_ticks:
                self._refuse(_TOO_SLOW)
        elif self.ticks > server.idle_ticks:
            self._transport.close()

    def close_if_idle(self) -> None:
        if not (self._current or self._queue or self._pending or self._receiving or self._lingering or self._refusal):
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


def _origin_form(target: bytes) -> bytes:
    """http://host/path?query, as sent to a proxy, is /path?query; `*` stays."""
    _, scheme, rest = target.partition(b"://")
    if not scheme:
        return target
    ends = [at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0]
    path = rest[min(ends) :] if ends else b""
    return path if path.startswith(b"/") else b"/" + path


class HttpServer:
    """Serves one listening socket on the running loop; several processes may share the socket."""

    def __init__(self, app: App, limits: Limits = LIMITS, *, on_error: Callable[[BaseException], None]) -> None:
        """`on_error` hears what the application raised; nothing of the request is passed to it."""
        self.app = app
        self.limits = limits
        self.on_error = on_error
        self.connections: set[Connection] = set()
        self.draining = False
        self.slice_bytes = min(SLICE_BYTES_MAX, limits.header_bytes_max)
        timeouts = (limits.idle_timeout_s, limits.request_timeout_s, limits.write_timeout_s, limits.linger_s)
        self._sweep_s = min(1.0, min(timeouts) / 4)
        self.idle_ticks, self.request_ticks, self.write_ticks, self.linger_ticks = (
            ceil(timeout / self._sweep_s) for timeout in timeouts
        )
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_gone = asyncio.Event()
        self._set_date()

    async def start(self, sock: socket.socket, *, backlog: int = 4096) -> None:
        """Accept on a bound socket, ours to close from here on.  The loop calls listen() on it again."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), sock=sock, backlog=backlog)
        self._sweep()

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)
        self._set_date()
        for connection in tuple(self.connections):
            connection.tick()

    def _set_date(self) -> None:
        date = formatdate(usegmt=True).encode()
        # keep-alive is said aloud: HTTP/1.0 clients need it, asking the parser for the version costs more.
        self.tail_keep_alive = b"\r\ndate: %b\r\nconnection: keep-alive\r\n\r\n" % date
        self.tail_close = b"\r\ndate: %b\r\nconnection: close\r\n\r\n" % date

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self._all_gone.set()

    async def drain(self, timeout_s: float) -> int:
        """Accept no more, answer what is asked, then close what is idle.  How many connections had to be cut.

        An idle connection is closed after `drain_idle_s`, not at once: whoever asks until then is answered, and told
        `connection: close`.  Its client may have connected and not have written yet, or be about to use it again, and
        who is cut off there does not ask another time.
        """
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for _ in range(2):  # what was accepted last is made known by the loop's next rounds
            await asyncio.sleep(0)
        if self.connections:
            self._all_gone.clear()  # it may have been set between the last that was known and the last accepted
        else:
            self._all_gone.set()
        grace_s = min(self.limits.drain_idle_s, timeout_s / 2)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_gone.wait(), grace_s)
        for connection in tuple(self.connections):
            connection.close_if_idle()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_gone.wait(), timeout_s - grace_s)
        cut = len(self.connections)
        self.close()
        return cut

    def close(self) -> None:
        """At once: what is in flight is cut off."""
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self.connections):
            connection.abort()
