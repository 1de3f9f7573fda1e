"""The head of a request that we send."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from oracle.calls.call import CallFailed, Header

# Not HEAD and CONNECT: the parser cannot be told that their answers have no body.
METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH"})
_LADEN: Final = frozenset({"POST", "PUT", "PATCH"})  # they say the length of their body even if it is 0 (RFC 9110)
# Ours to write.  A second one of them could make the other side see another request behind this one, or promise it
# what we cannot do: a tunnel, trailers, an answer that we would have to decompress.
_OURS: Final = frozenset({
    b"accept-encoding", b"connection", b"content-length", b"expect", b"host", b"http2-settings", b"keep-alive",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
# The names come from data, so there is a bound; a call has about ten of a few dozen.
_STARTS_MAX: Final = 1024
_starts: Final[dict[bytes, bytes]] = {}


def write_head(
    method: str, target: str, origin_lines: bytes, headers: Sequence[Header], size: int, *, authorizes: bool
) -> bytes:
    """Write it.  `origin_lines`: the header lines of the origin, without the last line end; `size`: that of the body.

    Raises CallFailed for a header that is not one line: what follows its line end would be another header, or another
    request.
    """
    if method not in METHODS:
        raise CallFailed("bad_url", sent=False)
    if authorizes:
        headers = [pair for pair in headers if pair[0].lower() != b"authorization"]
    lines = []
    for name, value in headers:
        start = _starts.get(name)
        if start is None:
            start = _start_line(name)
        if start:
            lines.append(start + value)
    fields = b"".join(lines)
    # Only the line ends that are ours.
    if len(fields.translate(None, b"\r\n\0")) != len(fields) - 2 * len(lines):
        raise CallFailed("bad_url", sent=False)
    length = b"content-length: %d\r\n" % size if size or method in _LADEN else b""
    return b"%b%b%b\r\n%bconnection: keep-alive\r\n\r\n" % (
        f"{method} {target} HTTP/1.1\r\n".encode(),
        origin_lines,
        fields,
        length,
    )


def _start_line(name: bytes) -> bytes:
    """Write the line end before a header, and its name, or nothing for one that is left out.  Raises CallFailed."""
    if _TOKEN.fullmatch(name) is None:
        raise CallFailed("bad_url", sent=False)
    start = b"" if name.lower() in _OURS else b"\r\n%b: " % name
    if len(_starts) < _STARTS_MAX:
        _starts[name] = start
    return start
