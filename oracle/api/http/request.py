"""One complete request, and the way to answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from oracle import errors

if TYPE_CHECKING:
    from oracle.api.http.turns import Turns

JSON: Final = b"content-type: application/json"
_NO_HEADERS: Final[list[tuple[bytes, bytes]]] = []


def make_fields(error: BaseException) -> bytes:
    """Make the header lines about the JSON body of a refusal.  Those of 405 name the allowed methods (RFC 9110)."""
    if isinstance(error, errors.MethodNotAllowed):
        return b"%b\r\nallow: %b" % (JSON, error.allowed.encode())
    return JSON


class Request:
    """The application calls `respond` exactly once, from the same loop, now or later."""

    __slots__ = ("_headers", "_turns", "body", "closed", "data", "keep_alive", "method", "target")

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
        self.data = b""  # of a PlainRequest: all its bytes

    def header(self, name: bytes) -> bytes | None:
        """Find the first header of that lower-case name.  A walk over the list: only a caller that asks pays."""
        size = len(name)
        for key, value in self._headers:
            if len(key) == size and key.lower() == name:
                return value.strip()
        return None

    def list_headers(self) -> list[tuple[bytes, bytes]]:
        """List all headers as they arrived."""
        return self._headers

    def only(self, name: bytes) -> bytes | None:
        """Find a header that decides who acts.

        Raises Malformed when the request has it twice: a proxy may have read the other one.
        """
        found = [value for key, value in self._headers if key.lower() == name]
        if len(found) > 1:
            raise errors.Malformed(f"The request has the header {name.decode()} twice")
        return found[0].strip() if found else None

    def find_certificate(self) -> Mapping[str, Any] | None:
        """Return the verified certificate of the client, as `ssl` describes it; None if there is none."""
        return None if self._turns is None else self._turns.find_certificate()

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


class PlainRequest(Request):
    """A request whose headers are still in the bytes that arrived: see `plain`, which has read them."""

    __slots__ = ()

    def __init__(self, turns: Turns, target: bytes, data: bytes) -> None:
        self._turns = turns
        self._headers = _NO_HEADERS
        self.data = data
        self.method = "GET"
        self.target = target
        self.body = b""
        self.keep_alive = True
        self.closed = False

    def header(self, name: bytes) -> bytes | None:
        # A line end, the name and a colon: the parser allows no space before it, and no line that goes on.
        data = self.data
        start = data.lower().find(b"\r\n%b:" % name)
        if start < 0:
            return None
        start += len(name) + 3
        return data[start : data.find(b"\r\n", start)].strip()

    def list_headers(self) -> list[tuple[bytes, bytes]]:
        if not self._headers:
            head, _, _ = self.data.partition(b"\r\n\r\n")  # empty lines can be behind it
            self._headers = [split_line(line) for line in head.split(b"\r\n")[1:]]
        return self._headers

    def only(self, name: bytes) -> bytes | None:
        self.list_headers()
        return super().only(name)


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


def split_line(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.lstrip(b" \t")  # as the parser does


App = Callable[[Request], None]
