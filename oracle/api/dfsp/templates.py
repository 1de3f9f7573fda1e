"""URLs of endpoints: a template with placeholders, filled with what a DFSP sent (scheme.base.PATHS).

Values are percent-encoded, never HTML-escaped.  In a path a value is one segment (RFC 3986, section 3.3): `/` becomes
`%2F`.  In a query only unreserved characters stay, so no value can add a parameter.  In the host only `{{fsp}}` can be
used, and only a value that is a host name: else a party identifier would choose which server we call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote

TEMPLATES_MAX: Final = 8192  # kept compiled: some ten of each FSP

_SEGMENT_SAFE: Final = "-._~!$&'()*+,;=:@"  # pchar, without the percent sign
_QUERY_SAFE: Final = "-._~"
_LITERAL_SAFE: Final = "-._~!$&'()*+,;=:@/?[]%"
_HOLE: Final = re.compile(r"\{\{\{?\s*&?\s*(\w+)\s*\}?\}\}")  # {{name}}, and the two forms without escapes
_AUTHORITY: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
_RESOURCE: Final = re.compile(r"/(?:participants|parties)(?=[/?]|$)")
_is_plain: Final = re.compile(r"[A-Za-z0-9_+-]+").fullmatch
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")


class BadTemplate(ValueError):
    """The URL of an endpoint cannot be used.  The text does not repeat it."""


class _Hole(NamedTuple):
    name: str
    safe: str  # '' in the host


class Rendered(NamedTuple):
    url: str
    uri: str  # of the header fspiop-uri: the path from /participants or /parties on


class _Part(NamedTuple):
    """A part of a URL: `form` has %s for each hole."""

    form: str
    holes: tuple[_Hole, ...]


class Template:
    """A compiled template."""

    def __init__(self, text: str) -> None:
        """Raises BadTemplate."""
        text = text.strip().partition("#")[0]  # a fragment is never sent
        authority = _AUTHORITY.match(text)
        if authority is None:
            raise BadTemplate("no absolute URL")
        path = text.find("/", authority.end())
        question = text.find("?", authority.end())
        question = len(text) if question < 0 else question
        path = question if path < 0 or path > question else path
        resources = [found.start() for found in _RESOURCE.finditer(text, path, question)]
        start = resources[-1] if resources else path
        self._base = _compile(text, 0, start, authority.end(), question)
        self._uri = _compile(text, start, question, authority.end(), question)
        self._query = _compile(text, question, len(text), authority.end(), question)

    def render(self, values: Mapping[str, str]) -> Rendered:
        """Fill the placeholders; those without a value become empty.  Raises BadTemplate."""
        uri = _fill(self._uri, values)
        query = _fill(self._query, values) if self._query.form else ""
        return Rendered(_fill(self._base, values) + uri + query, uri)


@lru_cache(TEMPLATES_MAX)
def compile_template(text: str) -> Template:
    """Raises BadTemplate."""
    return Template(text)


def encode_segment(value: str) -> str:
    """Percent-encode a value as one segment of a path.  A dot segment is encoded, too: else clients resolve it."""
    if _is_plain(value):  # most of them; `quote` takes ten times as long
        return value
    if value in {".", ".."}:
        return value.replace(".", "%2E")
    return quote(value, safe=_SEGMENT_SAFE)


def _compile(text: str, start: int, end: int, authority_end: int, question: int) -> _Part:
    forms: list[str] = []
    holes: list[_Hole] = []
    at = start
    for found in _HOLE.finditer(text, start, end):
        name = found[1]
        if found.start() < authority_end and name != "fsp":
            raise BadTemplate("the host of the URL depends on a request")
        safe = "" if found.start() < authority_end else _SEGMENT_SAFE if found.start() < question else _QUERY_SAFE
        forms.append(_quote_literal(text[at : found.start()]))
        holes.append(_Hole(name, safe))
        at = found.end()
    forms.append(_quote_literal(text[at:end]))
    return _Part("%s".join(form.replace("%", "%%") for form in forms), tuple(holes))


def _quote_literal(text: str) -> str:
    return quote(text, safe=_LITERAL_SAFE)


def _fill(part: _Part, values: Mapping[str, str]) -> str:
    return part.form % tuple([_encode(safe, values.get(name, "")) for name, safe in part.holes])


def _encode(safe: str, value: str) -> str:
    if safe == _SEGMENT_SAFE:
        return encode_segment(value)
    if not safe and not _HOST.fullmatch(value):
        raise BadTemplate("the name of the FSP is no host name")
    return quote(value, safe=safe)
