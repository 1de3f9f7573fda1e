"""The addresses of a host: asked of the name service by the loop, and not kept for long."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from ipaddress import ip_address

from oracle.calls.limits import CallLimits


class Addresses:
    """One per host.  However many calls need it, one question at a time is open.

    A name service that fails or is slow delays no host whose addresses were known a moment ago.
    """

    def __init__(self, host: str, limits: CallLimits) -> None:
        self._host = host
        self._limits = limits
        self._known: list[str] = []
        self._asked_at = -limits.name_stale_s
        self._is_name = False
        self._question: asyncio.Task[None] | None = None
        try:
            self._known = [str(ip_address(host))]
        except ValueError:
            self._is_name = True

    async def find(self) -> list[str]:
        """Return some addresses, the one to try first at the front.  Raises OSError or UnicodeError."""
        loop = asyncio.get_running_loop()
        age_s = loop.time() - self._asked_at
        if self._is_name and not (self._known and age_s < self._limits.name_fresh_s):
            if self._question is None:
                self._question = loop.create_task(self._ask())
                self._question.add_done_callback(self._end_question)
            question = asyncio.shield(self._question)
            if self._known and age_s < self._limits.name_stale_s:
                with suppress(OSError, UnicodeError):  # TimeoutError is an OSError
                    await asyncio.wait_for(question, self._limits.name_slow_s)
            else:
                await question
        return self._known[: self._limits.addresses_max]

    def prefer(self, address: str) -> None:
        """Note that this one accepted a connection."""
        if self._known and self._known[0] != address and address in self._known:
            self._known.remove(address)
            self._known.insert(0, address)

    def close(self) -> None:
        if self._question is not None:
            self._question.cancel()

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if not addresses:
            raise OSError("the name has no address")
        last = self._known[0] if self._known else ""
        self._known, self._asked_at = addresses, loop.time()
        self.prefer(last)

    def _end_question(self, question: asyncio.Task[None]) -> None:
        self._question = None
        if not question.cancelled():
            question.exception()  # those who wait have it; perhaps nobody waits any more
