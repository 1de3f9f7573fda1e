"""Answers that anybody can ask for without a key: one body for all, made once.

Memory.   All answers share the bytes, and `sending` gives the server a piece at a time: an answer that nobody reads
          costs that piece and the server's buffer, not the whole body.
Network.  Each form (plain, gzip) has a strong ETag; who has it already gets a 304.
Places.   One address can have 16 such answers in progress, and all together 64; a further one is 503.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from litestar import Response

from oracle.api.admin.streams import Places
from oracle.errors import Overloaded

if TYPE_CHECKING:
    from litestar import Request

GZIP_LEVEL: Final = 6
_PUBLIC: Final = Places(64, 16, Overloaded)
_gzip: Final = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?=,|$)", re.IGNORECASE)
_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


class SharedBody:
    """One body, with its compressed form once somebody has asked for that."""

    def __init__(self, plain: bytes, media_type: str) -> None:
        self._plain = plain
        self._media_type = media_type
        self._zipped: bytes | None = None
        self._zipping = asyncio.Lock()
        self._tag = hashlib.sha256(plain).hexdigest()[:32]

    async def answer(self, request: Request[Any, Any, Any], cache_control: str = "no-cache") -> Response[bytes]:
        """Answer with the form that the client accepts, or 304."""
        zips = bool(_gzip.search(request.headers.get("accept-encoding", "")))
        etag = f'"{self._tag}-gzip"' if zips else f'"{self._tag}"'
        headers = {"ETag": etag, "Cache-Control": cache_control, "Vary": "Accept-Encoding"}
        if _has(request.headers.get("if-none-match", ""), etag):
            return Response(b"", status_code=304, headers=headers, media_type=self._media_type)
        if zips:
            headers["Content-Encoding"] = "gzip"
        return _Shared(await self._zip() if zips else self._plain, request.state.address, headers, self._media_type)

    async def _zip(self) -> bytes:
        async with self._zipping:
            if self._zipped is None:
                self._zipped = await asyncio.to_thread(partial(gzip.compress, self._plain, GZIP_LEVEL, mtime=0))
        return self._zipped


def _has(if_none_match: str, etag: str) -> bool:
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


class _Shared(Response[bytes]):
    """Takes a place while it is sent."""

    def __init__(self, body: bytes, address: str, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(body, headers=dict(headers), media_type=media_type)
        self._address = address

    def to_asgi_response(self, *arguments: Any, **options: Any) -> Any:
        response: Any = super().to_asgi_response(*arguments, **options)

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            with _PUBLIC.take(self._address):
                await response(scope, receive, send)

        return answer
