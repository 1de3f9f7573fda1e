"""Reads a plain request, as almost all lookups are, without a copy of its headers.

A plain request is a GET of HTTP/1.1 without a body, whose bytes are exactly those of one read, and after which the
connection goes on.  llhttp reads each of these bytes here too, and is exactly as strict as for `message`.  But it
reports no header: it would make two byte strings and a call of each, and of a lookup nobody reads them.  Code that
needs one finds it in the bytes (`request.PlainRequest`).

All other requests are declined, and `message` reads the same bytes from their beginning.  So to decline is always
right, and nothing is accepted that `message` would read in another way: a test compares the two for any bytes.
"""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from oracle.api.http.limits import Limits

_START: Final = b"GET /"
_TARGET_AT: Final = 4
_VERSION: Final = b" HTTP/1.1\r\n"
_END: Final = b"\r\n\r\n"
_HEADER_BYTES_MIN: Final = 4  # a name of one byte, a colon and a line end


class PlainReader:
    """One per server: between two requests nothing is left in a parser."""

    def __init__(self, limits: Limits) -> None:
        self._target_bytes_max = limits.target_bytes_max
        self._header_count_max = limits.header_count_max
        self._few_bytes = _HEADER_BYTES_MIN * limits.header_count_max  # in so many bytes there are not too many headers
        self._parser: HttpRequestParser = make_parser(self)
        self._target = b""
        self._begun = 0
        self._ended = 0
        self._goes_on = False

    def read(self, data: bytes) -> bytes:
        """Return the target of a plain request; b'' for all else, of which nothing is kept."""
        if not data.startswith(_START) or not data.endswith(_END):
            return b""
        if len(data) > self._few_bytes and data.count(b"\n") - 2 > self._header_count_max:
            return b""
        self._begun = self._ended = 0
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._ended = 0
        if self._ended != 1 or self._begun != 1 or not self._goes_on:
            self._parser = make_parser(self)  # it can be in the middle of a request
            return b""
        target = self._target
        if len(target) > self._target_bytes_max or not data.startswith(_VERSION, _TARGET_AT + len(target)):
            return b""
        return target

    # From the parser.

    def on_url(self, url: bytes) -> None:
        self._target = url
        self._begun += 1

    def on_body(self, body: bytes) -> None:  # noqa: ARG002
        self._begun += 1  # something besides a head: the count declines it

    def on_chunk_header(self) -> None:
        self._begun += 1

    def on_message_complete(self) -> None:
        self._ended += 1
        self._goes_on = self._parser.should_keep_alive()


def make_parser(protocol: object) -> HttpRequestParser:
    """Make a parser that calls the `on_…` of the protocol.  Those that it does not have cost nothing."""
    parser = HttpRequestParser(protocol)
    # ALS sends both Transfer-Encoding and Content-Length for a chunked DFSP request; llhttp refuses that.
    parser.set_dangerous_leniencies(lenient_chunked_length=True)
    return parser
