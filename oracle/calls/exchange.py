"""A call under way: it waits for a connection, then it has one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from oracle.calls.call import Answer, CallFailed, Reason

if TYPE_CHECKING:
    from oracle.calls.connection import Connection
    from oracle.calls.host import Host


class Exchange:
    """`host` ends it, exactly once."""

    __slots__ = ("body", "connection", "ended", "future", "head", "host", "probe", "tried")

    def __init__(self, host: Host, head: bytes, body: bytes, future: asyncio.Future[Answer]) -> None:
        self.host = host
        self.head = head
        self.body = body
        self.future = future
        self.connection: Connection | None = None  # from the first byte that can have been sent
        self.ended = False
        self.probe = False  # it tries a host whose breaker is open
        self.tried = False  # a connection for it was closed before a byte was sent

    def fail(self, reason: Reason) -> None:
        if not self.future.done():
            self.future.set_exception(CallFailed(reason, sent=self.connection is not None))

    def time_out(self) -> None:
        self.host.time_out(self)
