"""One complete request, and the way to answer it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from oracle import errors

if TYPE_CHECKING:
    from oracle.api.hub.http.turns import Turns

JSON: Final = b"content-type: application/json"


def make_fields(error: BaseException) -> bytes:
    """Make the header lines about the JSON body of a refusal.  Those of 405 name the allowed methods (RFC 9110)."""
    if isinstance(error, errors.MethodNotAllowed):
        return b"%b\r\nallow: %b" % (JSON, error.allowed.encode())
    return JSON


class Request:
    """The application calls `respond` exactly once, from the same loop, now or later."""

    __slots__ = ("_headers", "_turns", "body", "closed", "keep_alive", "method", "target")

    def __init__(
        self,
        turns: Turns,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        keep_alive: bool,
    ) -> None:
        self._turns: Turns | None = turns
        self._headers = headers
        self.method = method
        self.target = target  # path and query exactly as sent: nothing is decoded
        self.body = body
        self.keep_alive = keep_alive  # the connection stays open after the answer
        self.closed = False  # the client has gone: nobody receives an answer

    def header(self, name: bytes) -> bytes | None:
        """Find the first header of that lower-case name.  A walk over the list: only a caller that asks pays."""
        size = len(name)
        for key, value in self._headers:
            if len(key) == size and key.lower() == name:
                return value.strip()
        return None

    def only(self, name: bytes) -> bytes | None:
        """Find a header that decides who acts.

        Raises Malformed when the request has it twice: a proxy may have read the other one.
        """
        found = [value for key, value in self._headers if key.lower() == name]
        if len(found) > 1:
            raise errors.Malformed(f"The request has the header {name.decode()} twice")
        return found[0].strip() if found else None

    def respond(self, status: int, body: bytes = b"", fields: bytes = JSON) -> None:
        """Answer.  `fields` are the header lines about the body; date, length and connection are added."""
        if self.closed:
            return
        turns, self._turns = self._turns, None
        if turns is None:
            raise RuntimeError("a request is answered once")
        turns.answer(self, status, body, fields)

    @property
    def answered(self) -> bool:
        return self._turns is None


class LadenRequest(Request):
    """A request with a body, which counts among the bodies of the process until nobody holds the request."""

    __slots__ = ("_free",)

    def __init__(
        self,
        turns: Turns,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        keep_alive: bool,
    ) -> None:
        super().__init__(turns, method, target, headers, body, keep_alive)
        self._free = turns.free_body

    def __del__(self) -> None:
        self._free(len(self.body))


App = Callable[[Request], None]
