"""Checks the URLs of endpoints that people enter: with placeholders ({{partyIdType}}), or base URLs without.

A URL is http or https, ASCII, and has no user, password or fragment.  Its host and port have no placeholder: nothing
that a caller writes can choose where a call goes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from oracle.scheme.base import PATHS

URL_MAX: Final = 1024
_PLACEHOLDER: Final = re.compile(r"\{\{([A-Za-z]{1,32})\}\}")
_PARTS: Final = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_HOST: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::([0-9]{1,5}))?")
# As RFC 3986 has it, without the sub-delimiters that no path of a DFSP needs.
_REST: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")


def list_placeholders(endpoint_type: str) -> frozenset[str]:
    """List the placeholders that a URL of this type can have: what a message of the type has a value for."""
    return frozenset({"fsp", *_PLACEHOLDER.findall(PATHS[endpoint_type])})


class BadUrl(ValueError):
    """Why a URL is refused; the text does not hold the URL, which can have a password."""


def check_url(url: str, placeholders: Collection[str]) -> None:
    """Raise BadUrl unless calls can be made to this URL once the placeholders are replaced."""
    if len(url) > URL_MAX:
        raise BadUrl(f"the URL is longer than {URL_MAX} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise BadUrl("the URL has a space or a character that is not ASCII; percent-encode it")
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise BadUrl(
            "the URL has a fragment (#)" if _PARTS.match(url) else "the URL must begin with http:// or https://"
        )
    _check_authority(parts[2])
    _check_rest(parts[3], placeholders)


def check_base_url(url: str) -> None:
    """Raise BadUrl unless the URL can have the path of an endpoint added."""
    check_url(url, ())
    if "?" in url:
        raise BadUrl("the base URL has a query (?); give the URL without it")
    if url.endswith("/"):
        raise BadUrl("the base URL ends with a slash; give it without")


def _check_authority(authority: str) -> None:
    if "@" in authority:
        raise BadUrl("the URL has a user or a password; give it without")
    if "{" in authority or "}" in authority:
        raise BadUrl("the host of the URL has a placeholder; only its path and query can have one")
    found = _AUTHORITY.fullmatch(authority)
    if found is None or not _is_host(found[1]):
        raise BadUrl("the host of the URL is not an address or a host name")
    if found[2] is not None and not 0 < int(found[2]) <= 65_535:  # noqa: PLR2004 - the largest port
        raise BadUrl("the port of the URL must be between 1 and 65535")


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return _HOST.fullmatch(host) is not None
    try:
        IPv6Address(host[1:-1])
    except AddressValueError:
        return False
    return True


def _check_rest(rest: str, placeholders: Collection[str]) -> None:
    for found in _PLACEHOLDER.finditer(rest):
        if found[1] not in placeholders:
            allowed = ", ".join("{{" + name + "}}" for name in sorted(placeholders)) or "none"
            raise BadUrl(f"the URL has a placeholder that is not known here; allowed: {allowed}")
    plain = _PLACEHOLDER.sub("x", rest)
    if not _REST.fullmatch(plain):
        raise BadUrl("the URL has a character that is not allowed, or a % that is not followed by two hex digits")
    segments = re.sub("%2e", ".", plain.partition("?")[0], flags=re.IGNORECASE).split("/")
    if "." in segments or ".." in segments:
        raise BadUrl("the path of the URL has a segment . or ..; give the URL without it")
