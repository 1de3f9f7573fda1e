"""The HTTP/1.1 of the admin listener: uvicorn with its httptools parser, and here what it leaves open.

For.      An idle client costs its socket and a few KiB, so thousands of them disturb nobody.  uvicorn knows no time for
          a head or a body, no length of a head, and no number of clients.
Waiting.  A connection waits while no request of it is at work.  Where there are too many, the one that has waited
          longest makes room: so its address, or the whole listener, goes on answering.  Where all are at work, the new
          client gets a 503.
Address.  `connections_per_address_max` bounds the connections of one address (IPv6: of one network).  Our own proxies
          (ORACLE_ADMIN_PROXIES) are exempt: there, `Crowd` bounds the requests of each client behind them.
Time.     A head must be complete after `head_timeout_s`.  A body and an unread answer must go on: each second without
          enough bytes costs a second of `patience_s`, and bytes give it back.  While we read nothing, none is lost.
Memory.   A read takes 16 KiB at most, and nothing of a body is read until the application asks for it.  Heads are
          parsed in small parts: what is behind a waiting request stays unparsed.
Refuses.  What is no HTTP is a 400, a long head a 431, and then the connection closes.  No Content-Length beside
          chunked.  Trailers are dropped.
Language. Those refusals, and that of a connection too many, are English: no Accept-Language of theirs has been read.
          The refusal of a request too many is in the language of the caller.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from httptools import HttpParserInvalidMethodError
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from oracle.api.admin.certificates import NAMES
from oracle.api.admin.problems import MEDIA_TYPE, Refusal
from oracle.api.admin.speaking import speak
from oracle.api.memory import Spare
from oracle.api.tls import App, Channel, Handshakes, Tls, list_names
from oracle.identity.addresses import Network, address_of, is_proxy

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send
    from litestar.types import HTTPReceiveMessage as ReceiveEvent
    from litestar.types import Message as SendEvent

READ_BYTES: Final = 16 * 1024
PART_BYTES: Final = 2 * 1024  # that can begin new requests: 113 of the shortest
TICK_S: Final = 1.0

BUSY: Final = Refusal(
    503, "unavailable", "Too many connections or requests are open", "Close some of them, or try again in a moment",
    {"Retry-After": "1"},
)  # fmt: skip
_NO_HTTP: Final = Refusal(400, "bad_request", "The request is not valid HTTP/1.1", "Check the program that sent it")
_UNKNOWN_METHOD: Final = Refusal(
    405, "method_not_allowed", "This resource does not support that method",
    "The page /docs lists the methods of each path", {"Allow": "DELETE, GET, PATCH, POST, PUT"},
)  # fmt: skip
_NO_TLS: Final = Refusal(400, "bad_request", "This port needs TLS", "Write https in place of http in the address")
_HEAD_TOO_LARGE: Final = Refusal(431, "bad_request", "The head of the request is too large", "Send shorter headers")


class Limits(msgspec.Struct, frozen=True):
    connections_max: int = 10_000
    connections_per_address_max: int = 1_000
    requests_per_address_max: int = 256  # at work at the same time
    head_bytes_max: int = 64 * 1024
    head_count_max: int = 256
    head_timeout_s: float = 30
    idle_timeout_s: float = 600  # between two requests; a proxy in front closes earlier, and so never loses one
    patience_s: float = 30
    bytes_per_s_min: int = 4096  # of a body, or of an answer: less costs patience
    rest_bytes_max: int = 1024 * 1024  # of a body whose answer was sent already, so that the client reads the answer
    drain_idle_s: float = 1  # at a stop, for the client of an idle connection to send one more request


LIMITS: Final = Limits()


class Crowd:
    """Bounds the requests of one client address that are at work at the same time."""

    def __init__(self, requests_max: int, proxies: Sequence[Network]) -> None:
        self._max = requests_max
        self._at_work: dict[str, int] = {}
        self._proxies = proxies
        self._is_proxy = lru_cache(4096)(lambda peer: is_proxy(peer, proxies))
        self._direct = lru_cache(4096)(lambda peer: address_of(peer, "", ()))

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            address = self._find_address(scope)
            at_work = self._at_work.get(address, 0)
            if at_work >= self._max:
                await _answer(BUSY, speak(send, scope))
                return
            self._at_work[address] = at_work + 1
            try:
                await app(scope, receive, send)
            finally:
                if self._at_work[address] == 1:
                    del self._at_work[address]
                else:
                    self._at_work[address] -= 1

        return serve

    def _find_address(self, scope: Scope) -> str:
        client = scope["client"]
        peer = client[0] if client else ""
        if not self._is_proxy(peer):
            return self._direct(peer)
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        return address_of(peer, forwarded.decode("latin-1"), self._proxies)


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


async def _answer(refusal: Refusal, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in _headers(refusal).items()]
    body = msgspec.json.encode(refusal.problem())
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _headers(refusal: Refusal) -> dict[str, str]:
    return {
        **refusal.headers,
        "content-type": MEDIA_TYPE,
        "content-length": str(len(msgspec.json.encode(refusal.problem()))),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "connection": "close",
    }


def _message(refusal: Refusal) -> bytes:
    """Write a whole answer, for a connection that has no request."""
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in _headers(refusal).items()]
    return "\r\n".join([*lines, "", ""]).encode() + msgspec.json.encode(refusal.problem())


class Connections:
    """All connections of the listener, and what they share."""

    def __init__(self, app: ASGIApp, limits: Limits = LIMITS, proxies: Sequence[Network] = ()) -> None:
        crowd = Crowd(limits.requests_per_address_max, proxies)
        self.limits = limits
        self.draining = False
        self.state = ServerState()
        served = cast("Any", announce_close(crowd.wrap(app), limits.rest_bytes_max))
        self.config = Config(
            served, http=Connection, ws="none", loop="none", lifespan="off", log_config=None,
            access_log=False, proxy_headers=False, server_header=False, interface="asgi3",
            timeout_keep_alive=cast("int", limits.idle_timeout_s),
        )  # fmt: skip
        self.config.load()
        self.read_buffer = bytearray(READ_BYTES)  # for all: what is read is taken out at once
        self._proxies = proxies
        self._waiting: dict[Connection, None] = {}  # the longest first; without those of proxies
        self._of_address: dict[str, _Address] = {}
        self._all_gone = asyncio.Event()
        self._spare = Spare()
        self._handshakes: Handshakes | None = None  # None without TLS
        self._ticker: asyncio.TimerHandle | None = None
        self._tick_s = min(TICK_S, limits.head_timeout_s / 4, limits.patience_s / 4)

    def make(self) -> asyncio.BufferedProtocol:
        """Make the protocol of a new connection."""
        return _Socket(Connection(self), self.read_buffer)

    def secure(self, tls: Tls) -> Callable[[], asyncio.BufferedProtocol]:
        """Return what makes the protocol of a new connection with TLS."""
        handshakes = self._handshakes = tls.begin(self._make_secured, _message(_NO_TLS))
        handshakes.on_gone = self._notice_gone
        return lambda: _Socket(handshakes.make_channel(), self.read_buffer)

    def _make_secured(self) -> App:
        connection = Connection(self)
        if self.draining:  # its handshake was complete too late for the others' time of grace
            asyncio.get_running_loop().call_later(self.limits.drain_idle_s, connection.shutdown)
        return connection

    # Who is here ---------------------------------------------------------------------------------------------

    def admit(self, connection: Connection, peer: str) -> bool:
        """Count a new connection, if need be in the place of one that waits; return False if there is no place."""
        if not is_proxy(peer, self._proxies):
            connection.address = address_of(peer, "", ())
            same = self._of_address.setdefault(connection.address, _Address())
            same.count += 1
            if same.count > self.limits.connections_per_address_max and not _make_room(same.waiting):
                return False
        if len(self.state.connections) > self.limits.connections_max and not _make_room(self._waiting):
            return False
        self.wait(connection)
        return True

    def wait(self, connection: Connection) -> None:
        """Note that no request of the connection is at work."""
        if connection.address is not None:
            self._waiting[connection] = self._of_address[connection.address].waiting[connection] = None

    def work(self, connection: Connection) -> None:
        """Note that a request of the connection is at work."""
        if connection.address is not None:
            self._waiting.pop(connection, None)
            self._of_address[connection.address].waiting.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed or will be at once."""
        self.state.connections.discard(connection)
        self.work(connection)
        address, connection.address = connection.address, None
        if address is not None:
            same = self._of_address[address]
            same.count -= 1
            if not same.count:
                del self._of_address[address]
        self._notice_gone()

    def _notice_gone(self) -> None:
        if self.draining and not self.state.connections and not self._handshakes:
            self._all_gone.set()

    # Time ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Begin to look at all connections, once a second from now on."""
        self._ticker = asyncio.get_running_loop().call_later(self._tick_s, self.tick)
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        for connection in tuple(self.state.connections):
            cast("Connection", connection).tick(self._tick_s)
        self._spare.give_back()

    async def drain(self, timeout_s: float) -> int:
        """Answer what has arrived, then close; returns how many connections were cut.

        An idle connection is closed after `drain_idle_s`, not at once: its client may be about to use it.
        """
        self.draining = True
        for connection in tuple(self.state.connections):
            cast("Connection", connection).close_after_answer()
        self._notice_gone()
        grace_s = min(self.limits.drain_idle_s, timeout_s / 2)
        await _wait(self._all_gone, grace_s)
        for connection in tuple(self.state.connections):
            connection.shutdown()
        await _wait(self._all_gone, timeout_s - grace_s)
        cut = len(self.state.connections)
        self.close()
        return cut

    def close(self) -> None:
        """Close at once."""
        if self._ticker is not None:
            self._ticker.cancel()
        if self._handshakes is not None:
            self._handshakes.close()
        for connection in tuple(self.state.connections):
            cast("Connection", connection).transport.abort()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    await asyncio.wait({asyncio.ensure_future(event.wait())}, timeout=timeout_s)


class _Address:
    __slots__ = ("count", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.waiting: dict[Connection, None] = {}  # the longest first


def _make_room(waiting: dict[Connection, None]) -> bool:
    """Close the connection that has waited longest; return False if none waits."""
    for connection in waiting:
        connection.give_way()
        return True
    return False


class _Socket(asyncio.BufferedProtocol):
    """Reads little at a time: uvloop would read 256 KB at once.  It takes no buffer from a `Protocol`, as uvicorn's."""

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
    """One connection."""

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
            self._refuse(_HEAD_TOO_LARGE)
        elif not self._in_head and self._silent_bytes > self._limits.head_bytes_max:
            self._refuse(_NO_HTTP)

    # The parser ----------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: it must not become a header behind the checks
        if len(self.headers) >= self._limits.head_count_max:
            self._refuse(_HEAD_TOO_LARGE)
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
        self._refuse(_UNKNOWN_METHOD if is_method else _NO_HTTP)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, unless there is an answer already, and close."""
        if self._refused is not None:
            return
        self._refused = refusal
        if self._works():
            if self.pipeline and self.cycle.more_body:
                self.transport.abort()  # an answer now would be taken for that of an earlier request
            elif self.cycle.more_body:  # its own body is broken
                self._end(b"" if self.cycle.response_started else _message(refusal))
            else:  # the requests before it come first
                self.close_after_answer()
                self.flow.pause_reading()
        else:
            self._end(_message(refusal))

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
