"""Bounds what a client costs that takes nothing, or sends nothing.

Pieces.   A long body is given to the server in pieces, each when the client has taken those before.  So a client that
          does not read costs a few pieces, however long the answer is.  All answers can share the same bytes.
Stalls.   An answer of which the client takes nothing for stall_s ends, and so does a body of which nothing comes for
          stall_s.  A client that is slow but goes on is served for as long as it takes.
Away.     An answer that PostgreSQL stops in the middle ends with one line that says why.

The bytes that the server has taken already are its matter (`connections`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from oracle.errors import DirectoryUnavailable, Unavailable
from oracle.store.diagnosis import explain
from oracle.telemetry import logs

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

STALL_S: Final = 30.0
PIECE_BYTES: Final = 16_384

log = logs.Log(__name__)


class _ServerLines(logging.Filter):
    """Drops the server's line about an answer without its end: ours says why."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("ASGI callable returned without completing response")


logging.getLogger("uvicorn.error").addFilter(_ServerLines())


class Stalled(Exception):
    """The client takes nothing of its answer."""


def limit_stalls(app: ASGIApp, stall_s: float = STALL_S) -> ASGIApp:
    """Wrap the whole application, outermost."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send, stall_s)
        try:
            await app(scope, exchange.receive, exchange.send)
        except Exception as exc:
            # Without its end the server closes the connection, and the client sees that the answer is not whole.
            if exchange.is_stalled:
                log.warning("An answer ended early: its client takes nothing", stall_s=stall_s)
                return
            reason = _find_reason(exc)
            if reason is None:
                raise
            if isinstance(reason, DirectoryUnavailable):  # any other was logged where it ended the answer
                log.warning("An answer ended early: the directory is not available", reason=explain(reason))

    return serve


def _find_reason(error: BaseException | None) -> Unavailable | None:
    """Find the error that means "not now" behind one that the framework raises in the middle of an answer."""
    while error is not None and not isinstance(error, Unavailable):
        error = error.__cause__
    return error


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send, stall_s: float) -> None:
        self._receive = receive
        self._send = send
        self._stall_s = stall_s
        self._has_body = True  # that is not received yet
        self._is_broken_off = False
        self.is_stalled = False

    async def receive(self) -> Any:
        if not self._has_body:  # it waits for the client to go away
            return await self._receive()
        try:
            async with asyncio.timeout(self._stall_s):
                message = await self._receive()
        except TimeoutError:
            self._is_broken_off = True
            return {"type": "http.disconnect"}
        self._has_body = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._is_broken_off:
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        body: bytes = message.get("body", b"")  # type: ignore[assignment]
        if len(body) <= PIECE_BYTES:
            await self._send_piece(message)
            return
        more_body = message.get("more_body", False)
        for begin in range(0, len(body), PIECE_BYTES):
            piece, end = body[begin : begin + PIECE_BYTES], begin + PIECE_BYTES
            await self._send_piece(
                {"type": "http.response.body", "body": piece, "more_body": bool(more_body) or end < len(body)}
            )
            await asyncio.sleep(0)  # let other calls go on: the server may take every piece at once

    async def _send_piece(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                await self._send(message)
        except TimeoutError:
            self.is_stalled = True
            raise Stalled from None
