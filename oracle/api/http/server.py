"""One listening socket: accepts connections, counts their waiting time, drains them at the end."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from math import ceil
from typing import Final, cast

from oracle.api.http import refusals
from oracle.api.http.limits import LIMITS, SLICE_BYTES_MAX, Limits
from oracle.api.http.plain import PlainReader
from oracle.api.http.request import JSON, App
from oracle.api.http.turns import Turns
from oracle.api.tls import Handshakes, Tls

# Of the time per request, at each release: the last ten or so decide.
SHARE_OF_LAST: Final = 0.1
# Fields with which a request does not end with its head, or its connection does not go on.
_SPECIAL: Final = re.compile(
    rb"\r\n(?:content-length|transfer-encoding|expect|upgrade)[ \t]*:|\r\nconnection:(?![ \t]*keep-alive[ \t]*\r)",
    re.IGNORECASE,
)


def is_plain(data: bytes) -> bool:
    """Return whether the bytes are exactly one request without a body, after which the connection goes on.

    Only then it can be answered unparsed.  A parser that takes a line feed alone for the end of a line would see more
    requests than this does, so there must be none.
    """
    return (
        data.find(b"\r\n\r\n") == len(data) - 4
        and b" HTTP/1.1\r\n" in data[: data.find(b"\n") + 1]
        and data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")
        and _SPECIAL.search(data) is None
    )


class HttpServer:
    """Serves one listening socket on the running loop; several processes may share the socket."""

    def __init__(
        self,
        app: App,
        limits: Limits = LIMITS,
        *,
        on_error: Callable[[BaseException], None],
        refusal_fields: bytes = JSON,
    ) -> None:
        """`on_error` gets the exceptions of the application; nothing of the request is passed to it.

        `refusal_fields`: the header lines of the answers that the server gives by itself.
        """
        self.refusal_fields = refusal_fields
        self._clock = asyncio.get_running_loop().time
        self.app = app
        self.limits = limits
        self.plain = PlainReader(limits)
        self.on_error = on_error
        self.connections: set[Turns] = set()
        self.answers: dict[bytes, bytes] = {}  # of this date, by their bodies: see `turns`
        self.body_bytes = 0  # of all bodies that arrive, wait or are worked on
        self.draining = False
        self.slice_bytes = min(SLICE_BYTES_MAX, limits.header_bytes_max)
        self.direct_bytes_max = self.slice_bytes  # to be parsed as they arrive; 0 while requests are held back
        self._held_start = b""
        self._held: deque[Turns] = deque()  # in the order of their arrival; some can be lost meanwhile
        self._held_s = 0.0  # the time that one of them takes until the next one has its turn, lately
        self._released_at = 0.0
        self.on_surplus: Callable[[], None] = lambda: None
        timeouts = (limits.idle_timeout_s, limits.request_timeout_s, limits.write_timeout_s, limits.linger_s)
        self._sweep_s = min(1.0, min(timeouts) / 4)
        self.idle_ticks, self.request_ticks, self.write_ticks, self.linger_ticks = (
            ceil(timeout / self._sweep_s) for timeout in timeouts
        )
        self._listener: asyncio.Server | None = None
        self._handshakes: Handshakes | None = None  # None without TLS
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_gone = asyncio.Event()
        self._set_date()

    async def start(self, sock: socket.socket, *, backlog: int = 4096, tls: Tls | None = None) -> None:
        """Accept on a bound socket, ours to close from here on.  The loop calls listen() on it again."""
        loop = asyncio.get_running_loop()
        make: Callable[[], asyncio.BaseProtocol] = self._make_turns
        if tls is not None:
            self._handshakes = tls.begin(self._make_secured_turns, refusals.write_whole(refusals.NO_TLS))
            self._handshakes.on_gone = self._notice_gone
            make = self._handshakes.make_channel
        self._listener = await loop.create_server(make, sock=sock, backlog=backlog)
        self._sweep()

    def _make_turns(self) -> asyncio.Protocol:
        return cast("asyncio.Protocol", Turns(self))  # it has the methods

    def _make_secured_turns(self) -> Turns:
        turns = Turns(self)
        if self.draining:  # its handshake was complete too late for the others' time of grace
            asyncio.get_running_loop().call_later(self.limits.drain_idle_s, turns.close_if_idle)
        return turns

    # Backpressure: a client that waits does not ask again, and bytes that wait have cost next to nothing.

    def hold(self, start: bytes) -> None:
        """Leave new requests unparsed that begin with these bytes, until `release`."""
        self.direct_bytes_max = 0
        self._held_start = start

    def release(self) -> None:
        """Take up the requests that wait, oldest first, until they are all taken or the application calls `hold`."""
        self.direct_bytes_max = self.slice_bytes
        now, count = self._clock(), len(self._held)
        while self._held and self.direct_bytes_max:
            self._held.popleft().go_on()
        taken = count - len(self._held)
        if taken:
            took_s = min((now - self._released_at) / taken, self.limits.held_max_s)
            self._held_s += (took_s - self._held_s) * SHARE_OF_LAST
        self._released_at = now

    def hold_back(self, turns: Turns, data: bytes) -> bool:
        """Hold the bytes of a lookup back, or refuse it if it would wait too long; return False for all others.

        It would wait for as long as those before it take, and for as long as nothing has gone on.
        """
        if self.direct_bytes_max or len(data) > self.slice_bytes or not data.startswith(self._held_start):
            return False
        now = self._clock()
        if not self._held:
            self._released_at = now
        elif len(self._held) * self._held_s + now - self._released_at > self.limits.held_max_s and is_plain(data):
            self.on_surplus()
            turns.turn_away(*refusals.OVERLOADED)
            return True
        self._held.append(turns)
        turns.hold(data)
        return True

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)
        self._set_date()
        for connection in tuple(self.connections):
            connection.tick()

    def _set_date(self) -> None:
        self.answers.clear()
        date = formatdate(usegmt=True).encode()
        # keep-alive is written out: HTTP/1.0 clients need it, and asking the parser for the version costs more.
        self.tail_keep_alive = b"\r\ndate: %b\r\nconnection: keep-alive\r\n\r\n" % date
        self.tail_close = b"\r\ndate: %b\r\nconnection: close\r\n\r\n" % date

    def forget(self, connection: Turns) -> None:
        self.connections.discard(connection)
        self._notice_gone()

    def _notice_gone(self) -> None:
        if self.draining and not self.connections and not self._handshakes:
            self._all_gone.set()

    async def drain(self, timeout_s: float) -> int:
        """Accept no more, answer the requests that have arrived, then close idle connections.

        Returns how many connections were cut at the end.  An idle connection is closed after `drain_idle_s`, not at
        once: its client may have connected and not have written yet, or be about to use it again.  Requests that
        arrive before then are still answered, with `connection: close`.  A hub whose connection is cut does not retry.
        """
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for _ in range(2):  # the loop reports the last accepted connections in its next rounds
            await asyncio.sleep(0)
        if self.connections or self._handshakes:
            self._all_gone.clear()  # it may have been set between the last known connection and the last accepted
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
        """Close at once: requests at work are cut off."""
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._listener is not None:
            self._listener.close()
        if self._handshakes is not None:
            self._handshakes.close()
        for connection in tuple(self.connections):
            connection.abort()
