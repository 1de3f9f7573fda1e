"""Wraps every call and answer of the admin listener, also where there is no route.

Request id.  The caller's X-Request-ID or one of ours: in the answer, and with every change in the history.  One that
             is long, has other characters, or begins as those of files do (batch:7) is replaced by one of ours.
Slash.       `%2F` in a path means a slash within a name: an FSP may have one in its id, an NRC always has.  The server
             in front of us has decoded it already, so the path is read again from its raw form.
Body.        A short body is read to its end before a refusal is sent.  The connection is closed over a long one, and a
             client that is still sending may then see a broken connection in place of the refusal.
Budget.      The bodies that calls hold in memory, all together, have a limit of bytes.  A call that would go beyond it
             is refused with 503, and its bytes are given back.  An upload is not counted: it is written as it arrives.
Language.    Texts for people are in the language of the caller's Accept-Language, also of a kept answer: `speak`.
Headers.     No proxy or browser stores an answer (assets of the pages excepted), guesses its type, or shows it within
             another page; a page loads scripts and styles of this listener only.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from oracle.api.admin.problems import Refusal
from oracle.api.admin.speaking import speak
from oracle.store.base import BATCH_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.types import ASGIApp, Message, Receive, Scope, Send

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_ESCAPED_SLASH: Final = re.compile(b"%2f", re.IGNORECASE)
# A slash within a name, while the path is cut at the others: of a private use area, so nobody's identifier has it.
SLASH: Final = "\uf82f"

SHORT_BYTES_MAX: Final = 65_536
FINISH_S: Final = 1.0  # nobody waits long for a body that a client has only announced
_PAGE: Final = b"default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
_NO_PAGE: Final = b"default-src 'none'; frame-ancestors 'none'"


class Budget:
    """How many bytes of bodies the calls of one process can hold, all together."""

    def __init__(self, bytes_max: int) -> None:
        self._max = bytes_max
        self.held_bytes = 0

    def take(self, count: int) -> bool:
        if self.held_bytes + count > self._max:
            return False
        self.held_bytes += count
        return True

    def give_back(self, count: int) -> None:
        self.held_bytes -= count


def wrap_app(app: ASGIApp, budget: Budget) -> ASGIApp:
    """Wrap the whole application: before its router, and around its answer when there is no route."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        request_id = choose_request_id([value for name, value in scope["headers"] if name == b"x-request-id"])
        scope["state"]["request_id"] = request_id
        scope["path"] = path_of(scope["path"], scope.get("raw_path") or b"")

        body = _Body(scope, receive, budget)

        async def send_enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_headers(message["headers"], request_id)]
                if message["status"] >= 400:  # noqa: PLR2004 - a refusal
                    await body.finish()
            await reply(message)

        reply = speak(send, scope)
        if _has_foreign_coding(scope):
            await _refuse_coding(send_enveloped)
            return
        try:
            await app(scope, body.receive, send_enveloped)
        finally:
            budget.give_back(body.held_bytes)

    return serve


def choose_request_id(sent: Sequence[bytes]) -> str:
    """Return the only id that was sent, if it can be a caller's, else a new one."""
    asked = sent[0].decode("latin-1") if len(sent) == 1 else ""
    is_ours = asked.lower().startswith(BATCH_PREFIX)
    return asked if _REQUEST_ID.fullmatch(asked) and not is_ours else uuid.uuid4().hex


def _has_foreign_coding(scope: Scope) -> bool:
    """Several lines of Transfer-Encoding are one list; chunked is the only coding, as on the hub listener."""
    codings = [value for name, value in scope["headers"] if name == b"transfer-encoding"]
    return bool(codings) and b",".join(codings).strip(b" \t").lower() != b"chunked"


async def _refuse_coding(send: Send) -> None:
    refusal = Refusal(
        400, "invalid", "The only transfer coding allowed is chunked", "Send one Transfer-Encoding: chunked"
    )
    # A proxy in front can see the body end elsewhere, so nothing more is read from this connection.
    body = msgspec.json.encode(refusal.problem())
    length = str(len(body)).encode()
    headers = [
        (b"content-type", b"application/problem+json"), (b"content-length", length), (b"connection", b"close"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def wrap_handler(app: ASGIApp) -> ASGIApp:
    """Wrap each handler: give it its path parameters with their slashes."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        # A new dict: the router gives the same one to each call of a path.
        scope["path_params"] = {name: _restore_slashes(value) for name, value in scope["path_params"].items()}
        await app(scope, receive, send)

    return serve


class _Body:
    """The body of a request; knows whether all of it has arrived."""

    def __init__(self, scope: Scope, receive: Receive, budget: Budget) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"")
        self._is_short = length.isdigit() and int(length) <= SHORT_BYTES_MAX
        self._scope = scope
        self._receive = receive
        self._budget = budget
        self._has_ended = False
        self.held_bytes = 0

    async def receive(self) -> Any:
        """Receive the next part.  Raises Refusal (503)."""
        message = await self._read()
        count = len(message.get("body", b""))
        if count and not self._is_upload():
            if not self._budget.take(count):
                raise Refusal(
                    503, "unavailable", "Too many bodies are being received", "Try again in a moment",
                    {"Retry-After": "1"},
                )  # fmt: skip
            self.held_bytes += count
        return message

    async def _read(self) -> Any:
        message = await self._receive()
        self._has_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def _is_upload(self) -> bool:
        handler: Any = self._scope.get("route_handler")  # none yet, or no route
        return handler is not None and handler.opt.get("streams", False)

    async def finish(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                while self._is_short and not self._has_ended:
                    await self._read()


def path_of(path: str, raw_path: bytes) -> str:
    """Decode the path; an escaped slash becomes SLASH, so that the path is not cut there."""
    if not _ESCAPED_SLASH.search(raw_path):
        return path
    parts = _ESCAPED_SLASH.split(raw_path.partition(b"?")[0])
    return SLASH.join(unquote_to_bytes(part).decode(errors="replace") for part in parts)


def _restore_slashes(value: Any) -> Any:
    return value.replace(SLASH, "/") if isinstance(value, str) else value


def _headers(sent: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    present = {name.lower(): value for name, value in sent}
    is_page = present.get(b"content-type", b"").startswith(b"text/html")
    wanted = {
        b"x-request-id": request_id.encode(),
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
        b"content-security-policy": _PAGE if is_page else _NO_PAGE,
    }
    return [(name, value) for name, value in wanted.items() if name not in present]
