"""Answers of the console: pages, parts of pages, redirects, files and events, all with the same headers.

Headers.      A page loads only what this listener serves, has no inline script or style, sends forms only here (and to
              the identity providers), and is kept by nobody.
Compression.  Pages and parts of them are compressed; files and events are not.  The length of a compressed page shows
              whether two texts in it are alike: an attacker who can put a text into a page could so guess another text
              of it.  So a page with a secret is never compressed (`has_secret`), a CSRF token is masked anew each time,
              and a page that another site made the browser ask for is not compressed either: see `Console.answer`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from litestar import Response

from oracle.api.admin.compression import compress

HTML: Final = "text/html; charset=utf-8"
_COMPRESSED_FROM: Final = 1_024  # bytes: a smaller page fits into one packet anyway
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none';"
    " form-action {}"
)


class Answer(Response[bytes]):
    """An answer whose headers can be there several times, as Set-Cookie is, and whose body can come in pieces."""

    def __init__(
        self,
        body: bytes | AsyncIterator[bytes],
        *,
        status: int = 200,
        media_type: str = HTML,
        headers: Sequence[tuple[str, str]] = (),
        has_secret: bool = False,
    ) -> None:
        """`has_secret`: the body has a text that only its reader must know, so it is not compressed."""
        super().__init__(b"", status_code=status)
        self.body = body
        self.is_page = media_type == HTML
        self.has_secret = has_secret
        self.take_place: Callable[[], AbstractContextManager[None]] = nullcontext  # while it is sent
        self.lines = [("content-type", media_type), *headers] if media_type else [*headers]

    def add(self, name: str, value: str) -> None:
        self.lines.append((name, value))

    def compress(self) -> None:
        """Compress the body if it is a page without a secret, and large enough."""
        if self.is_page and not self.has_secret and isinstance(self.body, bytes) and len(self.body) > _COMPRESSED_FROM:
            self.body = compress(self.body)
            self.add("content-encoding", "gzip")

    def to_asgi_response(self, *_arguments: Any, **_options: Any) -> Any:
        async def send_it(_scope: Any, receive: Any, send: Any) -> None:
            body = self.body
            # The server writes them as they are: a line break would begin another header.
            lines = [
                (name.encode(), _CONTROL.sub("", value).encode("latin-1", "replace")) for name, value in self.lines
            ]
            if isinstance(body, bytes):
                lines.append((b"content-length", str(len(body)).encode()))
            with self.take_place():
                await send({"type": "http.response.start", "status": self.status_code, "headers": lines})
                if isinstance(body, bytes):
                    await send({"type": "http.response.body", "body": body, "more_body": False})
                else:
                    await _send_pieces(body, receive, send)

        return send_it


async def _send_pieces(pieces: AsyncIterator[bytes], receive: Any, send: Any) -> None:
    """Send pieces until there are no more, or the browser has gone away."""

    async def pump() -> None:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def wait_until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    pumping, waiting = asyncio.create_task(pump()), asyncio.create_task(wait_until_gone())
    try:
        await asyncio.wait({pumping, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (pumping, waiting):
            task.cancel()
        ended, _ = await asyncio.gather(pumping, waiting, return_exceptions=True)
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
    if isinstance(ended, Exception):
        raise ended


def dress(answer: Answer, form_targets: Sequence[str]) -> None:
    """Add the headers that each answer of the console has."""
    present = {name for name, _ in answer.lines}
    wanted = {
        "content-security-policy": _POLICY.format(" ".join(["'self'", *form_targets])),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-store",
    }
    if answer.is_page:
        wanted["vary"] = "accept-encoding"
    for name, value in wanted.items():
        if name not in present:
            answer.add(name, value)
