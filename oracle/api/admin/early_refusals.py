"""Refusals of the admin listener from before its application: of bytes that are no HTTP, and of what is too much.

They are English, because no Accept-Language of theirs has been read: a head that is not complete, a connection without
a request.  Only a request too many is refused in the language of the caller.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from oracle.api.admin.problems import MEDIA_TYPE, Refusal

if TYPE_CHECKING:
    from litestar.types import Send

BUSY: Final = Refusal(
    503, "unavailable", "Too many connections or requests are open", "Close some of them, or try again in a moment",
    {"Retry-After": "1"},
)  # fmt: skip
NO_HTTP: Final = Refusal(400, "bad_request", "The request is not valid HTTP/1.1", "Check the program that sent it")
UNKNOWN_METHOD: Final = Refusal(
    405, "method_not_allowed", "This resource does not support that method",
    "The page /docs lists the methods of each path", {"Allow": "DELETE, GET, PATCH, POST, PUT"},
)  # fmt: skip
NO_TLS: Final = Refusal(400, "bad_request", "This port needs TLS", "Write https in place of http in the address")
HEAD_TOO_LARGE: Final = Refusal(431, "bad_request", "The head of the request is too large", "Send shorter headers")


async def send_refusal(refusal: Refusal, send: Send) -> None:
    """Answer a request."""
    headers = [(name.encode(), value.encode()) for name, value in _headers(refusal).items()]
    body = msgspec.json.encode(refusal.problem())
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _headers(refusal: Refusal) -> dict[str, str]:
    return {
        **refusal.headers,
        "content-type": MEDIA_TYPE,
        "content-length": str(len(msgspec.json.encode(refusal.problem()))),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "connection": "close",
    }


def write_refusal(refusal: Refusal) -> bytes:
    """Write a whole answer, for a connection that has no request."""
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in _headers(refusal).items()]
    return "\r\n".join([*lines, "", ""]).encode() + msgspec.json.encode(refusal.problem())
