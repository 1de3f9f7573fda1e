"""All connections of the admin listener: how many there can be, and which makes room for another.

For.      An idle client costs its socket and a few KiB, so thousands of them disturb nobody.  uvicorn knows no time for
          a head or a body, no length of a head, and no number of clients: see `protocol` for one connection.
Waiting.  A connection waits while no request of it is at work.  Where there are too many, the one that has waited
          longest makes room: so its address, or the whole listener, goes on answering.  Where all are at work, the new
          client gets a 503.
Address.  `connections_per_address_max` bounds the connections of one address (IPv6: of one network).  Our own proxies
          (ORACLE_ADMIN_PROXIES) are exempt: there, `crowds` bounds the requests of each client behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState

from oracle.api.admin.crowds import Crowd
from oracle.api.admin.early_refusals import NO_TLS, write_refusal
from oracle.api.admin.protocol import Connection, Socket, announce_close
from oracle.api.memory import Spare
from oracle.api.tls import App, Handshakes, Tls
from oracle.identity.addresses import Network, address_of, is_proxy

if TYPE_CHECKING:
    from litestar.types import ASGIApp

READ_BYTES: Final = 16 * 1024
TICK_S: Final = 1.0


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
        return Socket(Connection(self), self.read_buffer)

    def secure(self, tls: Tls) -> Callable[[], asyncio.BufferedProtocol]:
        """Return what makes the protocol of a new connection with TLS."""
        handshakes = self._handshakes = tls.begin(self._make_secured, write_refusal(NO_TLS))
        handshakes.on_gone = self._notice_gone
        return lambda: Socket(handshakes.make_channel(), self.read_buffer)

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
