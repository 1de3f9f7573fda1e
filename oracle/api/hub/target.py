"""Reads a raw request target and decodes it exactly once (docs/als-contract.md sections 2 and 7).

The target is cut into segments before anything is decoded, so that `%2F` stays inside an identifier, and `+` stays a
plus in path and query.  ALS does not percent-encode: it HTML-escapes, and what follows the `#` of an entity is lost.
So an `&` in a path shows that the identifier was damaged on its way: `12&` was `12/OUKAMA(N)123456`, or the NRC of any
other person of that state.  Such a target is refused: never looked up, never stored.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from oracle.errors import Malformed, NoSuchResource, TooManyElements
from oracle.identifiers import PartyIdType

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MEMBERS: Final = {b"partySubIdOrType": 0, b"currency": 1}

PARTICIPANTS: Final = b"participants"
_MSISDN: Final = b"/participants/MSISDN/"
_MSISDN_LENGTH: Final = len(_MSISDN)
_PLAIN_HEADS: Final = {b"/participants/" + name.encode(): name.value for name in PartyIdType}


class Target(NamedTuple):
    party_id_type: str  # '' for /participants itself (bulk)
    identifier: str
    sub_id: str | None
    currency: str | None


BULK: Final = Target("", "", None, None)


def read_target(target: bytes) -> Target:
    """Read `/participants[/{Type}/{ID}[/{SubId}]][?partySubIdOrType=&currency=]`.

    Raises NoSuchResource for any other path, Malformed or TooManyElements for one of these that is not valid.
    """
    path, question, query = target.partition(b"?")
    segments = path.lstrip(b"/").split(b"/")  # ALS joins its base URL and the path: a base ending in / doubles it
    if segments[0] != PARTICIPANTS:
        raise NoSuchResource
    while len(segments) > 1 and segments[-1] == b"":
        segments.pop()
    if len(segments) == 1:
        if query:
            raise TooManyElements("This URI has no query parameters")
        return BULK
    if len(segments) not in (3, 4):
        raise NoSuchResource
    party_id_type = _decode(segments[1])
    identifier = _decode(segments[2])
    if not identifier:
        raise Malformed("The party identifier is empty")
    sub_id = _decode(segments[3]) if len(segments) == 4 else None  # noqa: PLR2004 - /participants/T/I/SUB
    if not question:
        return Target(party_id_type, identifier, sub_id, None)
    asked_sub_id, currency = _read_query(query)
    if sub_id is None:
        sub_id = asked_sub_id
    elif asked_sub_id is not None and asked_sub_id != sub_id:
        raise Malformed("The path and the query have different values for partySubIdOrType")
    return Target(party_id_type, identifier, sub_id, currency)


def read_plain_target(target: bytes) -> tuple[str, str]:
    """Read `/participants/{Type}/{ID}` if the identifier has letters and digits only, as `read_target` would.

    Returns two empty texts for any other target.
    """
    if target.startswith(_MSISDN):  # most lookups
        identifier = target[_MSISDN_LENGTH:]
        return ("MSISDN", identifier.decode("ascii")) if identifier.isalnum() else ("", "")
    head, _, identifier = target.rpartition(b"/")
    party_id_type = _PLAIN_HEADS.get(head)
    if party_id_type is None or not identifier.isalnum():
        return "", ""
    return party_id_type, identifier.decode("ascii")


def _decode(raw: bytes) -> str:
    if b"&" in raw:
        raise Malformed("The URI was cut or escaped on its way: an identifier cannot contain '&'")
    if b"%" in raw:
        if _BAD_ESCAPE.search(raw):
            raise Malformed("The URI has an invalid percent-encoding")
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Malformed("The URI is not valid UTF-8") from None


def _read_query(query: bytes) -> tuple[str | None, str | None]:
    found: list[str | None] = [None, None]
    if not query:
        return None, None
    for member in query.split(b"&"):
        name, equals, raw = member.partition(b"=")
        at = _MEMBERS.get(name)
        if at is None or not equals:
            raise Malformed("The only query parameters allowed are partySubIdOrType and currency")
        if found[at] is not None:
            raise TooManyElements("The same query parameter appears twice")
        value = _decode(raw)
        if not value:
            raise Malformed("A query parameter has no value")
        found[at] = value
    return found[0], found[1]
