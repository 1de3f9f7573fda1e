"""Calls: the caller of this process, for all hosts."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from oracle.calls.call import Answer, Call, Caller, CallFailed
from oracle.calls.exchange import Exchange
from oracle.calls.host import Host
from oracle.calls.limits import LIMITS, CallLimits
from oracle.calls.origin import Origin, Place, read_origin, split_url
from oracle.calls.request import write_head
from oracle.calls.tls import CallFiles, check_files
from oracle.calls.totals import Totals
from oracle.telemetry.cells import observe

if TYPE_CHECKING:
    from oracle.settings import Settings
    from oracle.telemetry.metrics import Metrics

_CLASSES: Final = ("other", "other", "2xx", "3xx", "4xx", "5xx")
_CLOSE_S: Final = 1.0


class Calls(Caller):
    """Used on one loop.  Nothing is opened before the first call."""

    def __init__(self, metrics: Metrics, limits: CallLimits = LIMITS, files: CallFiles | None = None) -> None:
        self._cells = metrics.cells
        self._results = metrics.slots("calls_total", by="result")
        self._duration = metrics.slot("call_duration_seconds")
        self._open, self._under_way, self._blocked = map(
            metrics.slot, ("calls_connections", "calls_under_way", "calls_hosts_blocked")
        )
        self._limits = limits
        self._files = CallFiles() if files is None else files
        expires_at = self._files.read_expiry()
        if expires_at is not None:
            metrics.set("calls_certificate_expires_timestamp_seconds", expires_at)
        self._tls: ssl.SSLContext | None = None
        self.totals = Totals(limits, self._close_idle)
        self._hosts: dict[Place, Host] = {}
        self._origins: dict[str, tuple[Host, Origin]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        # Calls with the usual time limit, oldest first, and until when each can last.  One timer is for all of them: it
        # costs more than the rest of this module to make and to cancel one for each call.
        self._deadlines: dict[Exchange, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def call(self, call: Call, *, timeout_s: float | None = None) -> Answer:
        """Make the call.  Raises CallFailed, and nothing else."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        result = "abandoned"
        try:
            text, target = split_url(call.url)
            host, origin = self._origins.get(text) or self._find(text)
            head = write_head(
                call.method, target, origin.lines, call.headers, len(call.body), authorizes=origin.authorizes
            )
            exchange = Exchange(host, head, call.body, loop.create_future())
            own_timer: asyncio.TimerHandle | None = None
            if timeout_s is None:
                self._deadlines[exchange] = began + self._limits.timeout_s
                if self._timer is None:
                    self._timer = loop.call_later(self._limits.timeout_s, self._time_out)
            else:
                own_timer = loop.call_later(timeout_s, exchange.time_out)
            try:
                host.take(exchange)
                answer = await exchange.future
            finally:
                if own_timer is not None:
                    own_timer.cancel()
                else:
                    self._deadlines.pop(exchange, None)
                if not exchange.ended:
                    host.abandon(exchange)
            status_class = answer.status // 100
            result = _CLASSES[status_class] if status_class < len(_CLASSES) else "other"
        except CallFailed as failure:
            result = failure.reason
            raise
        finally:
            self._cells[self._results[result]] += 1
            observe(self._cells, self._duration, loop.time() - began)
        return answer

    async def close(self) -> None:
        """End all connections.  Calls under way fail, and so do all later ones."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for exchange in tuple(self.totals.active):
            exchange.host.cut_off(exchange)
        tasks = [task for host in self._hosts.values() for task in host.close()]
        if tasks:
            await asyncio.wait(tasks)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.totals.all_closed.wait()
        self._hosts.clear()
        self._origins.clear()
        self._note_state()

    def _time_out(self) -> None:
        """End the calls whose time has ended, and wait for the next one."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._deadlines:
            exchange, until = next(iter(self._deadlines.items()))
            if until > now:
                self._timer = loop.call_at(until, self._time_out)
                return
            del self._deadlines[exchange]
            exchange.time_out()

    # Hosts.

    def _find(self, text: str) -> tuple[Host, Origin]:
        """Find the host of an origin whose text is new.  Raises CallFailed."""
        if self._closed:
            raise CallFailed("busy", sent=False)
        origin = read_origin(text)
        host = self._hosts.get(origin.place)
        if host is None:
            if len(self._hosts) >= self._limits.hosts_max:
                self._forget_one()
            host = self._hosts[origin.place] = Host(origin.place, self.totals, self._get_tls)
            if self._sweeper is None:
                self._plan_sweep()
        if len(host.origins) < self._limits.origins_max:
            host.origins.append(text)
            self._origins[text] = (host, origin)
        return host, origin

    def _forget_one(self) -> None:
        """Forget a host that nobody uses, to make room for another one.  Raises CallFailed."""
        for place, host in self._hosts.items():
            if host.is_quiet():
                self._forget(place)
                return
        raise CallFailed("busy", sent=False)

    def _forget(self, place: Place) -> None:
        host = self._hosts.pop(place)
        host.close()
        for text in host.origins:
            del self._origins[text]

    def _plan_sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self._limits.sweep_s, self._sweep)

    def _sweep(self) -> None:
        """Look after all hosts, each second for as long as there is one."""
        now = asyncio.get_running_loop().time()
        for place in [place for place, host in self._hosts.items() if host.sweep(now)]:
            self._forget(place)
        if self.totals.starved:
            self._close_idle()
        self._note_state()
        self._sweeper = None
        if self._hosts:
            self._plan_sweep()

    def _close_idle(self) -> None:
        any(host.close_idle() for host in self._hosts.values())

    def _note_state(self) -> None:
        self._cells[self._open] = self.totals.connections
        self._cells[self._under_way] = len(self.totals.active)
        self._cells[self._blocked] = self.totals.blocked

    def _get_tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._files.make_context()
        return self._tls


def open_calls(settings: Settings, metrics: Metrics, *, connections_max: int = LIMITS.connections_all_max) -> Calls:
    """Make the caller of a process, with at most so many connections to all hosts together.

    Raises SettingsError if the files for TLS cannot be used.
    """
    check_files(settings)
    limits = CallLimits(
        timeout_s=settings.call_timeout_s,
        connections_max=settings.calls_connections_max,
        connections_all_max=connections_max,
    )
    return Calls(metrics, limits, CallFiles.of(settings))
