"""The request that arrives on a connection: parser callbacks, framing, and the limits of a request.

`Turns` feeds the bytes, slice by slice; the parser calls `on_…` in the order of the bytes; `on_message_complete` makes
a `Request` and hands it to `Turns`.  A request that cannot be served goes to `Turns.refuse`, and parsing ends there.

    state              set by                               what it does
    receiving          the first byte of a request, until   its end makes FIN a 400 and the request timeout count
                       its last
    unparsed           each slice that ends neither a head  stops an endless header, trailer or chunk extension,
                       nor any part of a body               which the parser keeps or skips without a callback
    framing_doubtful   Transfer-Encoding beside             stops keep-alive: a proxy may see the next request
                       Content-Length, or in HTTP/1.0       begin elsewhere
    upgrading          the end of a head with an Upgrade    stops the request from being taken: it is parsed again
                                                            without that header
    continue_due       Expect: 100-continue, until the      asks `Turns` to write 100 once all earlier requests are
                       body begins to arrive                answered
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from oracle.api.http import refusals
from oracle.api.http.plain import make_parser
from oracle.api.http.refusals import Refusal
from oracle.api.http.request import LadenRequest, Request

if TYPE_CHECKING:
    from oracle.api.http.server import HttpServer
    from oracle.api.http.turns import Turns

_VERSIONS: Final = frozenset({"1.1", "1.0"})  # llhttp would take 0.9 and 2.0 for one of these
_FRAMING: Final = frozenset({b"expect", b"content-length", b"transfer-encoding"})
_FRAMING_LENGTHS: Final = frozenset(map(len, _FRAMING))


class _Stop(Exception):
    """Raised in a parser callback: the parser must not read past this byte."""


class Message:
    """One per connection, for one request after the other."""

    __deletable__ = ("_parser", "_turns")  # for mypyc: `close` deletes them

    def __init__(self, turns: Turns, server: HttpServer) -> None:
        self._turns = turns
        self._server = server
        self._limits = server.limits
        self._parser: HttpRequestParser = make_parser(self)
        self.receiving = False
        self.continue_due = False
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []  # where on_header appends: trailers get a list of their own
        self._message_headers = self._headers
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._unparsed = 0
        self._framing_doubtful = False
        self._upgrading = False

    def drop_body(self) -> None:
        """Forget the part of a body that has arrived."""
        self._server.body_bytes -= self._body_bytes
        self._body = []
        self._body_bytes = 0

    def close(self) -> None:
        """Break the cycles: the parser holds our bound methods, and Turns holds us."""
        self.drop_body()
        del self._parser, self._turns

    # From Turns.

    def feed(self, data: bytes | memoryview) -> None:
        """Parse a slice.  Turns may have a backlog afterwards."""
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._parse_again_without_upgrade(data[upgrade.args[0] :])
        except HttpParserError as error:
            if not self._turns.discarding:  # else it is our own _Stop, or bytes after a `Connection: close`
                defect = isinstance(error, HttpParserCallbackError)
                if defect:
                    self._server.on_error(error.__context__ or error)
                self._turns.refuse(refusals.DEFECT if defect else refusals.UNREADABLE)
        else:
            if self.receiving:
                self._unparsed += len(data)
                if self._unparsed > self._limits.header_bytes_max + self._server.slice_bytes:
                    self._turns.refuse(refusals.HEADERS_TOO_LARGE)

    def _parse_again_without_upgrade(self, rest: bytes | memoryview) -> None:
        """Feed the head again without the Upgrade header.

        httptools takes every byte behind the head of such a request for another protocol, the body included.
        Parsed on as HTTP, that body would be the next request: a DFSP could put words in the hub's mouth.
        """
        parser = self._parser
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self._target, parser.get_http_version().encode())]
        lines += [b"%b: %b" % pair for pair in self._message_headers if pair[0].lower() != b"upgrade"]
        self._parser = make_parser(self)
        self._upgrading = False
        if len(rest):
            self._turns.put_back(rest)
        self.feed(b"\r\n".join((*lines, b"", b"")))

    # From the parser.

    def on_message_begin(self) -> None:
        self._turns.ticks = 0
        self.receiving = True
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._limits.target_bytes_max:
            self._stop(refusals.TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        headers = self._message_headers = self._headers
        if len(headers) > self._limits.header_count_max or (
            # A head within one slice is no longer than a slice, which is no longer than the limit.
            self._unparsed and sum(len(name) + len(value) for name, value in headers) > self._limits.header_bytes_max
        ):
            self._stop(refusals.HEADERS_TOO_LARGE)
        self._unparsed = 0
        self._framing_doubtful = False
        if self._parser.get_http_version() not in _VERSIONS:
            self._stop(refusals.UNREADABLE)
        if self._parser.should_upgrade():
            if self._parser.get_method() == b"CONNECT":
                self._stop(refusals.CONNECT)
            self._upgrading = True
            return
        for name, _ in headers:
            if len(name) in _FRAMING_LENGTHS and name.lower() in _FRAMING:  # half the cost of lower() alone
                self._check_framing()
                break

    def _check_framing(self) -> None:
        length = coding = expect = None
        version = self._parser.get_http_version()
        for name, value in self._headers:
            match name.lower():
                case b"content-length":
                    length = int(value)  # llhttp has checked that it is one number
                case b"transfer-encoding":
                    coding = value if coding is None else b"%b, %b" % (coding, value)  # several lines are one list
                case b"expect":
                    expect = value
        if coding is not None:
            if coding.strip(b" ").lower() != b"chunked":
                # With the leniency above llhttp would take "gzip", and "chunked" before a tab, for a body until the
                # client closes, and would look at the last line alone.
                self._stop(refusals.CODING)
            # RFC 9112 section 6.1: the chunks count, and the connection MUST close after the answer: a proxy
            # in front that believes the length sees another request begin elsewhere.  ALS obeys a close.
            self._framing_doubtful = length is not None or version != "1.1"
        elif length is not None and length > self._limits.body_bytes_max:
            self._stop(refusals.BODY_TOO_LARGE)
        # HTTP/1.0 has no interim answers.  The backlog is only ever set here: requests may be in the queue already.
        if expect is not None and expect.strip().lower() == b"100-continue" and version == "1.1":
            self.continue_due = self._turns.backlog = True

    def on_chunk_header(self) -> None:
        self._headers = []  # trailers come here and are dropped

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        self._body_bytes += len(body)
        self._server.body_bytes += len(body)
        if self._server.body_bytes > self._limits.bodies_bytes_max:
            self._stop(refusals.BODIES_TOO_LARGE)  # nothing waits: its bytes are free again for the others
        if self._body_bytes > self._limits.body_bytes_max:
            self._stop(refusals.BODY_TOO_LARGE)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return  # its body is not parsed yet: `feed` parses the head again
        self.receiving = self.continue_due = False
        body, make = b"", Request
        if self._body_bytes:
            body = b"".join(self._body)
            self._body = []
            self._body_bytes = 0  # the request counts it from here on
            make = LadenRequest
        parser = self._parser
        target = self._target
        if not target.startswith(b"/"):
            target = _origin_form(target)
        keep_alive = parser.should_keep_alive() and not self._framing_doubtful
        turns = self._turns
        request = make(turns, parser.get_method().decode(), target, self._message_headers, body, keep_alive)
        if turns.current is None and not turns.backlog:
            turns.start(request)
        else:
            turns.enqueue(request)
        if not keep_alive:
            turns.discarding = True
            raise _Stop

    def _stop(self, refusal: Refusal) -> None:
        self._turns.refuse(refusal)
        raise _Stop


def _origin_form(target: bytes) -> bytes:
    """Cut a proxy's http://host/path?query down to /path?query; `*` stays."""
    _, scheme, rest = target.partition(b"://")
    if not scheme:
        return target
    ends = [at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0]
    path = rest[min(ends) :] if ends else b""
    return path if path.startswith(b"/") else b"/" + path
