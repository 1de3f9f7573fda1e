"""The rules for headers: accept, date, content-type and the FSPs that they name (section 2.3 and 2.5).

The first rule that is broken decides.  Texts are those of ALS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from oracle.api.dfsp.asked import Resource
from oracle.api.dfsp.faults import Extension, Fault

ApiType = Literal["fspiop", "iso20022"]

FSP_ID_LENGTH_MAX: Final = 32
# Of the headers that are remembered: a list of versions can have any length.
GOOD_MAX: Final = 1_000
ACCEPT_KEPT_MAX: Final = 100
# A proxy in front may have read the other one of two.
_SINGLE: Final = frozenset({
    b"fspiop-source", b"fspiop-destination", b"fspiop-proxy", b"fspiop-signature", b"fspiop-uri", b"fspiop-http-method",
    b"accept", b"content-type", b"date",
})  # fmt: skip
# Headers with few values.  None of them is a credential.
_COMMON: Final = frozenset({
    b"accept", b"content-type", b"date", b"host", b"fspiop-source", b"fspiop-destination", b"fspiop-http-method",
    b"user-agent", b"connection",
})  # fmt: skip
COMMON_MAX: Final = 1024
COMMON_LENGTH_MAX: Final = 128
_known: Final[dict[tuple[bytes, bytes], tuple[bytes, str]]] = {}
_ACCEPTED: Final = frozenset({"1", "1.0", "1.1", "2", "2.0"})
_SPOKEN: Final = frozenset({"1.0", "1.1", "2.0"})
_ACCEPT_OPTIONAL: Final = "PUT"
_VERSIONS: Final = (Extension("1", "0"), Extension("1", "1"), Extension("2", "0"))  # key: major, value: minor
_VERSIONS_SPOKEN: Final = (Extension("1", "1"), Extension("1", "0"), Extension("2", "0"))
_FORM: Final = r"application/vnd\.interoperability%s\.%s\+json"
_ACCEPT: Final = _FORM + r"(?:; ?version=(\d+(?:\.\d+)?(?:, ?\d+(?:\.\d+)?)*))?"
_CONTENT_TYPE: Final = _FORM + r"; ?version=(\d+\.\d+)"
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", re.ASCII)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def name_headers(headers: Sequence[tuple[bytes, bytes]], client: bytes) -> dict[bytes, str]:
    """Find the values by the names in lower case, without spaces around them.

    `client`: the header in which the gateway names the caller.  Raises Fault if a header that decides is there twice.
    """
    named: dict[bytes, str] = {}
    for header in headers:
        key, text = _known.get(header) or _read(header)
        if key in named and (key in _SINGLE or key == client):
            raise Fault("3101", f"The header {key.decode('latin-1')} is there twice")
        named[key] = text
    return named


def _read(header: tuple[bytes, bytes]) -> tuple[bytes, str]:
    """Read the name in lower case, and the value.  Those that most requests have are remembered."""
    name, value = header
    found = name.lower(), value.strip().decode("latin-1")
    if found[0] in _COMMON and len(value) <= COMMON_LENGTH_MAX:
        if len(_known) >= COMMON_MAX:
            _known.clear()  # each second has a date of its own
        _known[header] = found
    return found


class HeaderRules:
    """One per process."""

    def __init__(self, api_type: ApiType = "fspiop") -> None:
        self.api_type: Final = api_type
        # Methods and resources, with an accept (None: there is none) and a content-type, that are valid together.
        self._good: set[tuple[str, str, str | None, str | None]] = set()
        iso = r"\.iso20022" if api_type == "iso20022" else ""
        resources: tuple[Resource, ...] = ("participants", "parties")
        self._accepts = {one: re.compile(_ACCEPT % (iso, one), re.ASCII) for one in resources}
        self._types = {one: re.compile(_CONTENT_TYPE % (iso, one), re.ASCII) for one in resources}

    def check(self, method: str, resource: Resource, headers: Mapping[bytes, str]) -> None:
        """Check accept, date and content-type, in this order.  Raises Fault."""
        accept, content_type = headers.get(b"accept"), headers.get(b"content-type")
        known = (method, resource, accept, content_type)
        if known in self._good:
            self._check_date(headers.get(b"date"))
            return
        if accept:
            self._check_accept(resource, accept)
        elif accept is not None or method != _ACCEPT_OPTIONAL:
            raise Fault("3102", "Accept is required")
        self._check_date(headers.get(b"date"))
        if not content_type:
            raise Fault("3102", "Content-type is required")
        self._check_type(resource, content_type)
        if len(accept or "") <= ACCEPT_KEPT_MAX and len(self._good) < GOOD_MAX:
            self._good.add(known)

    @staticmethod
    def _check_date(date: str | None) -> None:
        if not date:
            raise Fault("3102", "Missing required date header")
        if not is_date(date):
            raise Fault("3101", "Invalid date header")

    def _check_accept(self, resource: Resource, accept: str) -> None:
        found = self._accepts[resource].fullmatch(accept)
        if found is None:
            raise Fault("3101", "Invalid accept header")
        if not any(version.strip() in _ACCEPTED for version in (found[1] or "").split(",")):
            detail = "The Client requested an unsupported version, see extension list for supported version(s)."
            raise Fault("3001", detail, status=406, extensions=_VERSIONS)

    def _check_type(self, resource: Resource, content_type: str) -> None:
        found = self._types[resource].fullmatch(content_type)
        if found is None:
            raise Fault("3101", "Invalid content-type header")
        if found[1] not in _SPOKEN:
            detail = "Client supplied a protocol version which is not supported by the server"
            raise Fault("3001", detail, status=406, extensions=_VERSIONS_SPOKEN)


@lru_cache(256)  # the requests of a second have the same
def is_date(text: str) -> bool:
    """Whether it is a date of HTTP, whose day of the week fits."""
    if _DATE.fullmatch(text) is None:
        return False
    day, date = text[:3], text[5:]
    try:
        month = _MONTHS.index(date[3:6]) + 1
        read = datetime(int(date[7:11]), month, int(date[:2]), int(date[12:14]), int(date[15:17]), int(date[18:20]),
                        tzinfo=UTC)  # fmt: skip
    except ValueError:
        return False
    return _DAYS[read.weekday()] == day


def check_fsps(headers: Mapping[bytes, str]) -> None:
    """Check the FSPs of the headers, by the OpenAPI description.  Raises Fault."""
    source = headers.get(b"fspiop-source")
    if source is None:
        raise Fault("3102", "/header must have required property 'fspiop-source'")
    _check_fsp("fspiop-source", source)
    for name in (b"fspiop-destination", b"fspiop-proxy"):
        fsp_id = headers.get(name)
        if fsp_id is not None:
            _check_fsp(name.decode(), fsp_id)


def _check_fsp(name: str, fsp_id: str) -> None:
    if not fsp_id:
        raise Fault("3100", f"/header/{name} must NOT have fewer than 1 characters")
    if len(fsp_id) > FSP_ID_LENGTH_MAX:
        raise Fault("3100", f"/header/{name} must NOT have more than {FSP_ID_LENGTH_MAX} characters")
