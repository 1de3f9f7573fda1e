"""One host (scheme, name, port): its connections, the calls that wait for one, and its breaker.

call      an idle connection, else a new one, else a place in the queue, else `busy`
open      a task makes one connection.  It serves the call that has waited longest, not the one it was begun for.
answer    the connection serves the next call that waits, else it is idle
failure   ends one call and counts for the breaker.  When the breaker opens, the calls that wait end as well.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from oracle.calls.addresses import Addresses
from oracle.calls.breaker import Breaker
from oracle.calls.call import Answer, Reason
from oracle.calls.connection import Connection
from oracle.calls.exchange import Exchange
from oracle.calls.origin import Place
from oracle.calls.totals import Totals
from oracle.telemetry import logs

_OPEN_AGAIN_S: Final = 1.0  # after a host has refused one connection more
_TLS_SHUTDOWN_S: Final = 1.0  # the loop's default is 30 s, during which a dead host keeps its connections

log = logs.Log(__name__)


class Host:
    def __init__(self, place: Place, totals: Totals, get_tls: Callable[[], ssl.SSLContext]) -> None:
        self.place = place
        self.totals = totals
        self.limits = totals.limits
        self.now = asyncio.get_running_loop().time
        self.origins: list[str] = []  # the spellings that are kept
        self.used_at = self.now()
        self._get_tls = get_tls
        self._breaker = Breaker(self.limits)
        self._addresses = Addresses(place.host, self.limits)
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []  # the last one was used last, so the surplus ones grow old
        self._opening: set[asyncio.Task[Connection]] = set()
        self._waiting: OrderedDict[Exchange, None] = OrderedDict()
        self._active = 0  # calls under way
        self._body_bytes = 0
        self._heard_at = 0.0  # the last answer, or the first call after a time without any
        self._open_again_at = 0.0
        self._closed = False

    # From the calls.

    def take(self, exchange: Exchange) -> None:
        """Begin a call, which ends at once if there is no room for it."""
        self.used_at = now = self.now()
        if not self._active:
            self._heard_at = now
        self._active += 1
        self.totals.active.add(exchange)
        if exchange.body:
            self._count_body(len(exchange.body))
        if not self._has_room(exchange, now):
            self._end(exchange)
            exchange.fail("busy")
            return
        if self._breaker.is_open:
            exchange.probe = True
            self._breaker.begin_probe()
        if self._waiting or not self._start(exchange):
            if len(self._waiting) >= self.limits.waiting_max or self._is_stalled(now):
                self._end(exchange)
                exchange.fail("busy")
                return
            self._waiting[exchange] = None
            self.advance()

    def _has_room(self, exchange: Exchange, now: float) -> bool:
        """Return whether the breaker and the bytes of the bodies allow it.  Those of `exchange` are counted already."""
        return self._breaker.allows(now) and not (
            exchange.body
            and (
                self._body_bytes > self.limits.host_body_bytes_max
                or self.totals.body_bytes > self.limits.body_bytes_max
            )
        )

    def _is_stalled(self, now: float) -> bool:
        return now - self._heard_at > self.limits.stall_s and len(self._connections) >= self.limits.connections_max

    def time_out(self, exchange: Exchange) -> None:
        if exchange.ended:
            return
        sent = exchange.connection is not None
        self.abandon(exchange)
        exchange.fail("timed_out")
        if sent:
            self._count_failure(exchange)

    def abandon(self, exchange: Exchange) -> None:
        """End a call whose answer nobody wants any more."""
        self._waiting.pop(exchange, None)
        if exchange.connection is not None and exchange.connection.exchange is exchange:
            exchange.connection.give_up()
        self._end(exchange)

    def cut_off(self, exchange: Exchange) -> None:
        """End a call because the process ends."""
        sent = exchange.connection is not None
        self.abandon(exchange)
        exchange.fail("broken" if sent else "busy")

    def is_quiet(self) -> bool:
        """Return whether nothing is lost when the host is forgotten."""
        return not (self._is_used() or self._breaker.is_open)

    def sweep(self, now: float) -> bool:
        """Close what was idle for too long.  Returns whether the host can be forgotten."""
        stale = [connection for connection in self._idle if connection.usable_until <= now]
        if stale:
            self._idle = [connection for connection in self._idle if connection.usable_until > now]
            for connection in stale:
                connection.close()
        self.advance()
        return self.used_at + self.limits.forget_s < now and not self._is_used() and self._breaker.allows(now)

    def _is_used(self) -> bool:
        return bool(self._active or self._connections or self._opening)

    def close_idle(self) -> bool:
        """Close the idle connection that was used longest ago, for another host."""
        if not self._idle:
            return False
        self._idle.pop(0).close()
        return True

    def close(self) -> list[asyncio.Task[Connection]]:
        """Close all connections, when no call is under way.  Returns the tasks that end soon."""
        self._closed = True
        self._addresses.close()
        for connection in tuple(self._connections):
            connection.abort()
        for task in self._opening:
            task.cancel()
        if self._breaker.is_open:
            self._breaker.succeed()
            self.totals.blocked -= 1
        return list(self._opening)

    # What comes next.

    def advance(self) -> None:
        """Start calls that wait, and open connections for the others."""
        while self._waiting:
            exchange = next(iter(self._waiting))
            if self._start(exchange):
                self._waiting.popitem(last=False)
            elif len(self._opening) < len(self._waiting) and self._may_open():
                self._begin_opening()
            else:
                return

    def _start(self, exchange: Exchange) -> bool:
        now = self.now()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable_until <= now:
                connection.close()
            elif connection.start(exchange):
                return True
        return False

    def _may_open(self) -> bool:
        open_now = len(self._connections) + len(self._opening)
        free = self.totals.free
        if not open_now:
            if free <= 0:
                self.totals.starve(self)
            return free > 0
        return open_now < self.limits.connections_max and open_now < free and self.now() >= self._open_again_at

    # Connections.

    def _begin_opening(self) -> None:
        self.totals.use_one()
        task = asyncio.get_running_loop().create_task(self._open())
        self._opening.add(task)
        task.add_done_callback(self._end_opening)

    async def _open(self) -> Connection:
        async with asyncio.timeout(self.limits.connect_timeout_s):
            return await self._connect()

    async def _connect(self) -> Connection:
        addresses = await self._addresses.find()
        share_s = self.limits.connect_timeout_s / len(addresses)
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(share_s):
                    return await self._connect_to(address)
            except OSError:  # TimeoutError is one
                continue
        return await self._connect_to(addresses[-1])

    async def _connect_to(self, address: str) -> Connection:
        loop = asyncio.get_running_loop()
        place, connection = self.place, Connection(self)
        if place.scheme == "https":
            await loop.create_connection(
                lambda: connection, address, place.port, ssl=self._get_tls(), server_hostname=place.host,
                ssl_handshake_timeout=self.limits.connect_timeout_s, ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
            )  # fmt: skip
        else:
            await loop.create_connection(lambda: connection, address, place.port)
        self._addresses.prefer(address)
        return connection

    def _end_opening(self, task: asyncio.Task[Connection]) -> None:
        self._opening.discard(task)
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            self._take_up(task.result())
        else:
            self.totals.free_one()
            if error is not None:
                self._fail_opening(error)
        self.totals.feed()

    def _take_up(self, connection: Connection) -> None:
        """Use a new connection.  One that was closed before a byte was sent is replaced once."""
        if connection.lost:
            self.totals.free_one()
        else:
            self._connections.add(connection)
        if self._closed:
            connection.abort()
        elif not self._waiting:
            connection.usable_until = self.now() + self.limits.idle_s
            self._idle.append(connection)
        else:
            exchange = next(iter(self._waiting))
            if connection.start(exchange):
                self._waiting.popitem(last=False)
            elif exchange.tried:
                self._fail_opening()
            else:
                exchange.tried = True
            self.advance()

    def _fail_opening(self, error: BaseException | None = None) -> None:
        """Take note that a connection could not be made.  If others are at work, they serve the calls that wait."""
        if error is not None and not isinstance(error, OSError | UnicodeError):
            self.report(error)
        if any(connection.exchange is not None for connection in self._connections):
            self._open_again_at = self.now() + _OPEN_AGAIN_S
            return
        failed: Exchange | None = None
        if self._waiting:
            failed, _ = self._waiting.popitem(last=False)
            self._end(failed)
            failed.fail("unreachable")
        self._count_failure(failed)
        self.advance()

    def forget(self, connection: Connection) -> None:
        """Take note that a connection has ended."""
        if connection not in self._connections:
            return  # it ended while it was opened: `_take_up` finds that
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self.totals.free_one()
        self.advance()
        self.totals.feed()

    # The end of a call.

    def finish(self, exchange: Exchange, answer: Answer, connection: Connection | None) -> None:
        """Give a call its answer.  `connection`: for the next one, if it can be used again."""
        self._end(exchange)
        self._heard_at = self.now()
        if not exchange.future.done():
            exchange.future.set_result(answer)
        if self._breaker.succeed():
            self.totals.blocked -= 1
            log.info("A host answers again, and is called again", host=self.place.host, port=self.place.port)
        if connection is None:
            return
        if self.totals.starved and not self._waiting:
            connection.close()
            return
        self._idle.append(connection)
        if self._waiting:
            self.advance()

    def fail(self, exchange: Exchange, reason: Reason) -> None:
        """End a call whose connection has ended."""
        self._end(exchange)
        exchange.fail(reason)
        self._count_failure(exchange)

    def report(self, error: BaseException) -> None:
        """Log a defect of this package."""
        log.error("A call failed because of a defect", exc=error)

    def _end(self, exchange: Exchange) -> None:
        if exchange.ended:
            return
        exchange.ended = True
        self._active -= 1
        self.totals.active.discard(exchange)
        if exchange.body:
            self._count_body(-len(exchange.body))
        if exchange.probe:
            self._breaker.give_up_probe()

    def _count_body(self, size: int) -> None:
        self.totals.body_bytes += size
        self._body_bytes += size

    def _count_failure(self, failed: Exchange | None) -> None:
        if not self._breaker.fail(self.now(), is_probe=failed is not None and failed.probe):
            return
        self.totals.blocked += 1
        log.warning(
            "A host failed too often in a row. It is called again after a pause. Check that it runs and is reachable",
            host=self.place.host,
            port=self.place.port,
        )
        while self._waiting:
            exchange, _ = self._waiting.popitem(last=False)
            self._end(exchange)
            exchange.fail("busy")
