"""What all hosts of a process use together."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from oracle.calls.limits import CallLimits

if TYPE_CHECKING:
    from oracle.calls.exchange import Exchange
    from oracle.calls.host import Host


class Totals:
    def __init__(self, limits: CallLimits, close_idle: Callable[[], None]) -> None:
        """`close_idle` closes an idle connection of some host."""
        self.limits = limits
        self._close_idle = close_idle
        self.connections = 0  # open, or being opened
        self.active: set[Exchange] = set()  # calls under way
        self.body_bytes = 0  # of their requests
        self.answer_bytes = 0  # of answers that arrive
        self.blocked = 0  # hosts whose breaker is open
        self.all_closed = asyncio.Event()
        self.all_closed.set()
        # Hosts that have calls and no connection, because there are too many of other hosts.
        self.starved: OrderedDict[Host, None] = OrderedDict()

    @property
    def free(self) -> int:
        return self.limits.connections_all_max - self.connections

    def use_one(self) -> None:
        self.connections += 1
        self.all_closed.clear()

    def free_one(self) -> None:
        self.connections -= 1
        if not self.connections:
            self.all_closed.set()

    def starve(self, host: Host) -> None:
        """Take note that a host needs its first connection, and that there are too many."""
        if host not in self.starved:
            self.starved[host] = None
            self._close_idle()

    def feed(self) -> None:
        """Give a connection that has become free to a host that has none."""
        while self.starved and self.free > 0:
            self.starved.popitem(last=False)[0].advance()
