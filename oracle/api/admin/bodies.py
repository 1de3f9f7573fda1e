"""Answers that anybody can ask for without a key: one body for all, made once.

Memory.   All answers share the bytes, and `sending` gives the server a piece at a time: an answer that nobody reads
          costs that piece and the server's buffer, not the whole body.
Network.  Each form (plain, gzip) has a strong ETag; who has it already gets a 304.
Places.   One address can have 16 such answers in progress, and all together 64; a further one is 503.  An answer takes
          its place before its body is made and compressed.  An answer 304 of a body that exists needs none.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from litestar import Response

from oracle.api.admin.compression import accepts_gzip
from oracle.api.admin.streams import Places
from oracle.errors import Overloaded

if TYPE_CHECKING:
    from litestar import Request

    _Request = Request[Any, Any, Any]

GZIP_LEVEL: Final = 6
_PUBLIC: Final = Places(64, 16, Overloaded)
_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')


class SharedBody:
    """One body, with its compressed form once somebody has asked for that."""

    def __init__(self, plain: bytes, media_type: str, turn: asyncio.Lock | None = None) -> None:
        """`turn`: bodies that share it are compressed one after the other."""
        self._plain = plain
        self._media_type = media_type
        self._zipped: bytes | None = None
        self._turn = turn or asyncio.Lock()
        self._tag = hashlib.sha256(plain).hexdigest()[:32]

    async def answer(self, request: _Request, cache_control: str = "no-cache") -> Response[bytes]:
        """Answer with the form that the client accepts, or 304."""

        async def find() -> SharedBody:
            return self

        return self.match(request, cache_control) or SharedAnswer(request, find, cache_control)

    def match(self, request: _Request, cache_control: str = "no-cache") -> Response[bytes] | None:
        """Return the answer 304 if the client has this body, else None."""
        headers = self._make_headers(request, cache_control)
        if not _has(request.headers.get("if-none-match", ""), headers["ETag"]):
            return None
        return Response(b"", status_code=304, headers=headers, media_type=self._media_type)

    async def make_whole(self, request: _Request, cache_control: str) -> Response[bytes]:
        """Make the answer 200, in the form that the client accepts."""
        headers = self._make_headers(request, cache_control)
        if not _zips(request):
            return Response(self._plain, headers=headers, media_type=self._media_type)
        headers["Content-Encoding"] = "gzip"
        return Response(await self._zip(), headers=headers, media_type=self._media_type)

    def _make_headers(self, request: _Request, cache_control: str) -> dict[str, str]:
        etag = f'"{self._tag}-gzip"' if _zips(request) else f'"{self._tag}"'
        return {"ETag": etag, "Cache-Control": cache_control, "Vary": "Accept-Encoding"}

    async def _zip(self) -> bytes:
        if self._zipped is None:
            async with self._turn:
                if self._zipped is None:
                    self._zipped = await asyncio.to_thread(partial(gzip.compress, self._plain, GZIP_LEVEL, mtime=0))
        return self._zipped


class SharedAnswer(Response[bytes]):
    """Takes a place first.  Then it finds a shared body, which can be work, and sends it."""

    def __init__(
        self, request: _Request, find: Callable[[], Awaitable[SharedBody]], cache_control: str = "no-cache"
    ) -> None:
        super().__init__(b"")
        self._request = request
        self._find = find
        self._cache_control = cache_control

    def to_asgi_response(self, *arguments: Any, **options: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            with _PUBLIC.take(self._request.state.address):
                body = await self._find()
                found = body.match(self._request, self._cache_control)
                response = found or await body.make_whole(self._request, self._cache_control)
                asgi: Any = response.to_asgi_response(*arguments, **options)
                await asgi(scope, receive, send)

        return answer


def _zips(request: _Request) -> bool:
    return accepts_gzip(request.headers.get("accept-encoding", ""))


def _has(if_none_match: str, etag: str) -> bool:
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)
