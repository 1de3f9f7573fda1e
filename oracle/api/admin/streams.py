"""Answers that are sent while they are made: exports, differences, downloads, events.

Places.   Each kind of stream has a number of places, and one credential can have some of them.  A call without a place
          is refused before anything is sent.  So are all errors up to the first piece.
End.      A stream ends at once when its client goes away, and soon after its secret was revoked or replaced.  Then the
          generator is closed, and with it its transaction; its connection goes back to the lane.  `sending` ends a
          stream whose client takes nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final

from litestar.response import Stream
from litestar.utils.scope.state import ScopeState

from oracle.api.admin.access import is_still_valid, make_unauthorized
from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit
from oracle.errors import DirectoryUnavailable, Overloaded
from oracle.store.postgres import STREAMS_MAX
from oracle.telemetry import logs

if TYPE_CHECKING:
    from litestar.response.base import ASGIResponse
    from litestar.types import Receive, Scope, Send

    from oracle.api.admin.calls import Call

RETRY_S: Final = 10
CHECK_EVERY_S: Final = 2.0  # whether the secret of a call is still valid

log = logs.Log(__name__)


class Places:
    """How many answers of one kind this process sends at the same time."""

    def __init__(self, all_max: int, each_max: int, refuse_more: Callable[[], Exception] | None = None) -> None:
        """`each_max`: of one holder.  `refuse_more` makes what a holder gets who has so many."""
        self._all_max = all_max
        self._each_max = each_max
        self._refuse_more = refuse_more or self._make_refusal
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, holder: str) -> Iterator[None]:
        """Take a place for one answer.  `holder`: a credential or an address.  Raises Refusal 429, Overloaded."""
        if self._taken[holder] >= self._each_max:
            raise self._refuse_more()
        if self._taken.total() >= self._all_max:
            raise Overloaded
        self._taken[holder] += 1
        try:
            yield
        finally:
            self._taken[holder] -= 1
            if not self._taken[holder]:
                del self._taken[holder]

    def _make_refusal(self) -> Refusal:
        detail = f"This key already reads {self._each_max} answers of this kind"
        hint = f"Read one of them to its end or close it, or try again in {RETRY_S} seconds"
        limit = describe_limit("answers", self._each_max, unit="concurrent-requests", wait_s=RETRY_S)
        return Refusal(429, "too_many_streams", detail, hint, {"Retry-After": str(RETRY_S), **limit})


# Each of these has a connection of the lane `streams` for as long as it lasts.
READINGS: Final = Places(STREAMS_MAX, STREAMS_MAX // 2)
# These read one part after the other, and have some MB in memory.
DOWNLOADS: Final = Places(40, 10)
WATCHERS: Final = Places(100, 20)


class Streamed(Stream):
    """An answer of pieces.  It closes the generator in every case."""

    __slots__ = ("_call", "_lasts_s", "_make_headers", "_pieces", "_places")

    def __init__(
        self,
        call: Call,
        places: Places,
        pieces: AsyncGenerator[bytes],
        media_type: str,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        *,
        lasts_s: float = inf,
    ) -> None:
        """`headers` that are known only with the first piece are made by a function.

        `lasts_s`: after this time it ends, complete or not.
        """
        self._make_headers = headers if callable(headers) else dict
        headers = {} if callable(headers) else headers
        # As a header: the media type that a handler declares wins over that of a Stream.
        super().__init__(pieces, headers={**(headers or {}), "Content-Type": media_type})
        self._call = call
        self._places = places
        self._lasts_s = lasts_s
        self._pieces = pieces

    def to_asgi_response(self, *arguments: Any, **options: Any) -> Any:
        return self._send_by(super().to_asgi_response(*arguments, **options))

    def _send_by(self, response: ASGIResponse) -> Any:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            with self._places.take(self._call.caller.actor):
                sending = asyncio.create_task(_send(self._pieces, response, send, self._make_headers))
                watching = asyncio.create_task(_watch(self._call, receive, self._lasts_s))
                try:
                    await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    sending.cancel()
                    watching.cancel()
                    await asyncio.gather(sending, watching, return_exceptions=True)
            if not sending.cancelled():
                sending.result()
            elif watching.result():
                if not ScopeState.from_scope(scope).response_started:
                    raise make_unauthorized()
                log.info("An answer ended early: its key is not valid any more")
            # Without its end the server closes the connection, and the client sees that the answer is not whole.

        return answer


async def _send(
    pieces: AsyncGenerator[bytes], response: ASGIResponse, send: Send, make_headers: Callable[[], Mapping[str, str]]
) -> None:
    async with aclosing(pieces):
        piece = await anext(pieces, b"")
        for name, value in make_headers().items():
            response.headers.add(name, value)
        await response.start_response(send)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        async for piece in pieces:
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _watch(call: Call, receive: Receive, lasts_s: float) -> bool:
    """Wait until the secret of the call is not valid any more: return True.

    Return False if the client has gone before, or the time has ended.
    """
    leaving = asyncio.create_task(_wait_until_gone(receive))
    until = asyncio.get_running_loop().time() + lasts_s
    try:
        while True:
            left_s = until - asyncio.get_running_loop().time()
            await asyncio.wait({leaving}, timeout=min(CHECK_EVERY_S, max(left_s, 0.0)))
            if leaving.done():
                return False
            if left_s <= 0:
                log.warning("An answer ended early: it took too long", lasts_s=lasts_s)
                return False
            with suppress(DirectoryUnavailable):
                if not await is_still_valid(call.postgres.keys.rows, call.caller):
                    return True
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
