"""One call that we make, its answer, and why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

Header = tuple[bytes, bytes]

# Why a call has no answer.
#   bad_url     the URL, the method or a header cannot be sent: a line end in it would begin another request
#   busy        this host has too many calls already, or its breaker is open, or this process ends: nothing was sent
#   unreachable no connection could be made (name, refused, TLS): nothing was sent
#   timed_out   no whole answer in time
#   broken      the connection ended, or the answer is not HTTP, or it is too large
Reason = Literal["bad_url", "busy", "unreachable", "timed_out", "broken"]


class Call(msgspec.Struct, frozen=True, gc=False):
    """A request.  `url` is absolute and percent-encoded.

    `host`, `content-length` and `connection` are added.  Headers of the caller that frame a message are left out
    (`request`).
    """

    method: str
    url: str
    headers: Sequence[Header] = ()
    body: bytes = b""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole answer, of any status.  The names of `headers` are in lower case."""

    status: int
    headers: Sequence[Header] = ()
    body: bytes = b""


class CallFailed(Exception):
    """There is no answer.  The text names neither the URL nor anything of the request.

    `sent`: bytes of the request can have reached the other side, so it can have acted on it.
    """

    def __init__(self, reason: Reason, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.sent = sent


class Caller(Protocol):
    """Makes calls.  A slow or dead host holds up no other one."""

    async def call(self, call: Call, *, timeout_s: float | None = None) -> Answer:
        """Make the call, within this time or the default of the process.  Raises CallFailed, and nothing else.

        It is made a second time only if nothing of it was sent.
        """

    async def close(self) -> None:
        """End all connections.  Calls under way fail."""
