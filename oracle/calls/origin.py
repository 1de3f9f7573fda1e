"""The two parts of a URL: the origin, which says who is called and as whom, and the target, which is sent as it is."""

from __future__ import annotations

import re
from base64 import b64encode
from ipaddress import IPv6Address
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from oracle.calls.call import CallFailed

TARGET_BYTES_MAX: Final = 16 * 1024  # as the HTTP server takes: an identifier has 128 characters of at most 12 bytes
PORTS: Final = {"http": 80, "https": 443}
PORT_MAX: Final = 65_535

# No `#`, nothing that is not visible ASCII: such a character would have to be percent-encoded.
_URL: Final = re.compile(r"([A-Za-z]{4,5}://[^/?#\s]{1,1000})((?:[/?][!\"$-~]*)?)", re.ASCII)
_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?:(?P<user>[!-~]*)@)?"
    r"(?P<host>\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::(?P<port>\d{1,5}))?",
    re.IGNORECASE | re.ASCII,
)


class Place(NamedTuple):
    """Where connections go: a host of this package is one place."""

    scheme: str
    host: str  # without brackets, in lower case
    port: int


class Origin(NamedTuple):
    place: Place
    lines: bytes  # the header lines `host` and, if the URL has a user, `authorization`; without the last line end
    authorizes: bool


def split_url(url: str) -> tuple[str, str]:
    """Return origin and target.  Raises CallFailed."""
    parts = _URL.fullmatch(url)
    if parts is None or len(url) > TARGET_BYTES_MAX:
        raise CallFailed("bad_url", sent=False)
    origin, target = parts.groups()
    return origin, target if target.startswith("/") else f"/{target}"


def read_origin(text: str) -> Origin:
    """Read `scheme://user:password@host:port`.  Raises CallFailed."""
    parts = _ORIGIN.fullmatch(text)
    if parts is None:
        raise CallFailed("bad_url", sent=False)
    scheme, host = parts["scheme"].lower(), parts["host"].lower()
    port = int(parts["port"] or PORTS[scheme])
    if not 0 < port <= PORT_MAX:
        raise CallFailed("bad_url", sent=False)
    line = host if port == PORTS[scheme] else f"{host}:{port}"
    lines = b"host: %b" % line.encode()
    user = parts["user"]
    if user is not None:
        name, _, password = user.partition(":")
        pair = b"%b:%b" % (unquote_to_bytes(name), unquote_to_bytes(password))
        lines += b"\r\nauthorization: Basic %b" % b64encode(pair)
    return Origin(Place(scheme, _bare(parts["ipv6"]) or host, port), lines, user is not None)


def _bare(ipv6: str | None) -> str | None:
    if ipv6 is None:
        return None
    try:
        return str(IPv6Address(ipv6))
    except ValueError:
        raise CallFailed("bad_url", sent=False) from None
