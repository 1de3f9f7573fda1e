"""A limit for the requests of one client that are at work at the same time, also of a client behind our own proxies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from oracle.api.admin.early_refusals import BUSY, send_refusal
from oracle.api.admin.speaking import speak
from oracle.identity.addresses import Network, address_of, is_proxy

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send


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
                await send_refusal(BUSY, speak(send, scope))
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
