"""Which proxy an FSP of another scheme is behind: learnt from its messages, shared by Redis, for kept_s after the last.

Each use renews it.  A process also has a copy in its memory.  It writes to Redis when it learns something new, or when
its last writing is a tenth of kept_s old, so an FSP that sends a thousand messages a second causes no such writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from oracle.store.base import Session
from oracle.store.cache.session import Unreachable

KEPT_S: Final = 24 * 3600.0
MEMORY_MAX: Final = 10_000  # FSPs
RENEWED_AFTER: Final = 0.1  # of kept_s

_REMEMBER: Final = b"redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1"
_FIND: Final = b"""
local proxy = redis.call('GET', KEYS[1])
if proxy then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return proxy
"""


class Mappings:
    """No method raises: while Redis is away, the memory of this process is used."""

    def __init__(
        self,
        find_session: Callable[[], Session | None],
        prefix: str,
        *,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find_session, self._prefix = find_session, prefix
        self._kept_s, self._clock = kept_s, clock
        self._known: dict[str, tuple[str, float]] = {}  # the proxy, and when it was written or read in Redis

    def _name(self, fsp_id: str) -> bytes:
        return f"{self._prefix}:behind:{blake2b(fsp_id.encode(), digest_size=16).hexdigest()}".encode()

    def _keep(self, fsp_id: str, proxy: str) -> None:
        self._known.pop(fsp_id, None)  # the newest is the last
        self._known[fsp_id] = proxy, self._clock()
        if len(self._known) > MEMORY_MAX:
            del self._known[next(iter(self._known))]

    def _recall(self, fsp_id: str, age_s: float) -> str | None:
        """Return what the memory has, if it is younger than this."""
        proxy, at = self._known.get(fsp_id, (None, 0.0))
        return proxy if self._clock() - at < age_s else None

    async def remember(self, fsp_id: str, proxy: str) -> None:
        if self._recall(fsp_id, self._kept_s * RENEWED_AFTER) == proxy:
            return
        self._keep(fsp_id, proxy)
        session = self._find_session()
        if session is not None:
            with suppress(Unreachable):
                await session.run(_REMEMBER, [self._name(fsp_id)], [proxy.encode(), int(self._kept_s * 1000)])

    async def find(self, fsp_id: str) -> str | None:
        session = self._find_session()
        if session is not None:
            with suppress(Unreachable):
                found = await session.run(_FIND, [self._name(fsp_id)], [int(self._kept_s * 1000)])
                if found is not None:
                    proxy: str = found.decode("utf-8", "replace")
                    self._keep(fsp_id, proxy)
                    return proxy
        proxy_known = self._recall(fsp_id, self._kept_s)
        if proxy_known is not None:
            self._keep(fsp_id, proxy_known)
        return proxy_known
