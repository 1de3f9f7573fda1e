"""The rules of ALS's OpenAPI description for query, path and body, by hand: the first error alone (section 2.5).

A number, a truth value or null in the place of a text becomes a text, as with ALS: `"fspId": 5` is `"5"`.  Unknown
members pass.  No text repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.headers import FSP_ID_LENGTH_MAX, ApiType
from oracle.api.dfsp.iso20022 import check_report
from oracle.api.dfsp.targets import Operation, Target
from oracle.api.hub.slices import Slices
from oracle.identifiers import list_hub_currencies
from oracle.telemetry.metrics import PARTY_ID_TYPES

BULK_MAX: Final = 10_000
IDENTIFIER_LENGTH_MAX: Final = 128
EXTENSIONS_MAX: Final = 16
_TYPES: Final = frozenset(PARTY_ID_TYPES)
_ALLOWED: Final = "must be equal to one of the allowed values"
_IDENTIFIER: Final = r"^[^\s{}]+$"
_IS_IDENTIFIER: Final = re.compile(r"[^\s{}\ufeff]+").fullmatch
_IS_REQUEST_ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[1-7][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[0-9A-HJKMNP-TV-Z]{26}", re.ASCII
).fullmatch
_IS_ERROR_CODE: Final = re.compile(r"[1-9]\d{3}", re.ASCII).fullmatch
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII)
# Their bodies go on byte for byte.  Of the others, the content is enough: a bulk can have 5 MB of them.
_FORWARDED: Final = frozenset({"put_participant_error", "put_party", "put_party_error"})
# The operations whose query can name a currency.
_WITH_CURRENCY: Final = frozenset({"get_participant", "post_participant", "put_participant", "delete_participant"})

_decode = msgspec.json.Decoder().decode
Content = dict[str, Any]


def read_asked(
    target: Target,
    method: str,
    headers: Sequence[tuple[bytes, bytes]],
    named: Mapping[bytes, str],
    body: bytes,
    api_type: ApiType = "fspiop",
) -> Asked:
    """Make the request that the works get.  `named` has passed `check_fsps`.  Raises Fault."""
    currency = _read_query(target) if target.query else None
    if target.party is not None:
        _check_party(target.party)
    read = _ISO_READERS.get(target.operation) if api_type == "iso20022" else None
    read = read or _READERS.get(target.operation)
    content = None if read is None else read(body)
    if target.operation in _OWN_FSP and content is not None:
        _check_own(content, named[b"fspiop-source"])
    traceparent = named.get(b"traceparent")
    if traceparent is not None and _TRACEPARENT.fullmatch(traceparent) is None:
        traceparent = None
    return Asked(
        method=method,
        resource=target.resource,
        source=named[b"fspiop-source"],
        headers=headers,
        body=body if target.operation in _FORWARDED else b"",
        party=target.party,
        is_error=target.is_error,
        destination=named.get(b"fspiop-destination"),
        proxy=named.get(b"fspiop-proxy"),
        currency=currency,
        content=content,
        traceparent=traceparent,
        tracestate=named.get(b"tracestate") if traceparent is not None else None,
        version=named[b"content-type"].rpartition("version=")[2],
    )


def _read_query(target: Target) -> str | None:
    """Read `currency`, the only member of a query that is allowed."""
    found: str | None = None
    for member in target.query.split(b"&"):
        name, _, value = member.partition(b"=")
        if name != b"currency" or target.operation not in _WITH_CURRENCY or found is not None:
            raise Fault("3103", "/query must NOT have additional properties")
        found = unquote_plus(value.decode("ascii", "replace"))
        if found not in list_hub_currencies():
            raise Fault("3100", f"/query/currency {_ALLOWED}")
    return found


def _check_party(party: Party) -> None:
    if party.party_id_type not in _TYPES:
        raise Fault("3100", f"/path/Type {_ALLOWED}")
    if len(party.identifier) > IDENTIFIER_LENGTH_MAX:
        raise Fault("3100", f"/path/ID must NOT have more than {IDENTIFIER_LENGTH_MAX} characters")
    if _IS_IDENTIFIER(party.identifier) is None:
        raise Fault("3100", f'/path/ID must match pattern "{_IDENTIFIER}"')


# The body of each operation -----------------------------------------------------------------------------------------


def _read_registration(body: bytes) -> Content:
    """POST /participants/{Type}/{ID}.  A body that is no JSON lacks all that it must have."""
    content = _read_object(body, if_broken={})
    _require(content, "/requestBody", "fspId")
    _check_registration(content)
    return content


def _read_update(body: bytes) -> Content:
    """PUT /participants/{Type}/{ID}: `fspId` can be absent."""
    content = _read_object(body)
    _check_registration(content)
    return content


def _check_registration(content: Content) -> None:
    _check_fsp(content, "/requestBody")
    _check_currency(content, "/requestBody")
    _check_extensions(content, "/requestBody")


def _check_own(content: Content, source: str) -> None:
    if content.get("fspId", source) != source:
        raise Fault("3003", "fspId must be the FSP of fspiop-source")


def _read_bulk(body: bytes) -> Content:
    content = _read_object(body, if_broken={})
    _require(content, "/requestBody", "requestId", "partyList")
    request_id = _read_text(content, "requestId", "/requestBody")
    if request_id is not None and _IS_REQUEST_ID(request_id) is None:
        raise Fault("3100", "/requestBody/requestId must match pattern")
    _read_items(content)
    _check_currency(content, "/requestBody")
    return content


def _read_bulk_answer(body: bytes) -> Content:
    """PUT /participants/{ID}: the answer to a bulk."""
    content = _read_object(body, if_broken={})
    _require(content, "/requestBody", "partyList")
    _read_items(content)
    return content


async def check_items(asked: Asked, slices: Slices) -> None:
    """Check the items of a bulk, which `read_asked` has not looked at.  Raises Fault."""
    assert asked.content is not None  # noqa: S101 - a bulk has it
    await slices.rest()
    for number, item in enumerate(asked.content["partyList"]):
        place = f"/requestBody/partyList/{number}"
        if not isinstance(item, dict):
            raise Fault("3101", f"{place} must be object")
        _require(item, place, "partyIdType", "partyIdentifier")
        if _read_text(item, "partyIdType", place) not in _TYPES:
            raise Fault("3100", f"{place}/partyIdType {_ALLOWED}")
        _check_length(item, "partyIdentifier", place, IDENTIFIER_LENGTH_MAX)
        _check_length(item, "partySubIdOrType", place, IDENTIFIER_LENGTH_MAX)
        _check_fsp(item, place)
        if slices.over:
            await slices.rest()


def _read_items(content: Content) -> list[Any]:
    items = content["partyList"]
    if not isinstance(items, list):
        raise Fault("3101", "/requestBody/partyList must be array")
    if len(items) > BULK_MAX:
        raise Fault("3100", f"/requestBody/partyList must NOT have more than {BULK_MAX} items")
    if not items:
        raise Fault("3100", "/requestBody/partyList must NOT have fewer than 1 items")
    return items


def _read_party(body: bytes) -> Content:
    content = _read_object(body, if_broken={})
    _require(content, "/requestBody", "party")
    if not isinstance(content["party"], dict):
        raise Fault("3101", "/requestBody/party must be object")
    return content


def _read_error(body: bytes) -> Content:
    content = _read_object(body, if_broken={})
    _require(content, "/requestBody", "errorInformation")
    place = "/requestBody/errorInformation"
    information = content["errorInformation"]
    if not isinstance(information, dict):
        raise Fault("3101", f"{place} must be object")
    _require(information, place, "errorCode", "errorDescription")
    code = _read_text(information, "errorCode", place)
    if code is None or _IS_ERROR_CODE(code) is None:
        raise Fault("3100", f'{place}/errorCode must match pattern "^[1-9]\\d{{3}}$"')
    _check_length(information, "errorDescription", place, IDENTIFIER_LENGTH_MAX)
    _check_extensions(information, place)
    return content


def _read_iso(body: bytes) -> Content:
    """PUT /parties and its error, in ISO 20022 (acmt.024)."""
    content = _read_object(body, if_broken={})
    check_report(content)
    return content


_OWN_FSP: Final = frozenset({"post_participant", "put_participant"})
Read = Callable[[bytes], Content]
_READERS: Final[Mapping[Operation, Read]] = {
    "post_participant": _read_registration,
    "put_participant": _read_update,
    "put_participant_error": _read_error,
    "post_participants": _read_bulk,
    "put_participants": _read_bulk_answer,
    "put_participants_error": _read_error,
    "put_party": _read_party,
    "put_party_error": _read_error,
}
_ISO_READERS: Final[Mapping[Operation, Read]] = {"put_party": _read_iso, "put_party_error": _read_iso}


# Parts of bodies ----------------------------------------------------------------------------------------------------


def _read_object(body: bytes, if_broken: Content | None = None) -> Content:
    """Decode a body.  `if_broken`: what a body counts as that is no JSON; without it, it is refused."""
    if not body:
        return {}
    try:
        content = _decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        if if_broken is None:
            raise Fault("3101", "/requestBody must be object") from None
        return if_broken
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise Fault("3101", "/requestBody must be object")
    return content


def _require(content: Content, place: str, *names: str) -> None:
    for name in names:
        if name not in content:
            raise Fault("3102", f"{place} must have required property '{name}'")


def _read_text(content: Content, name: str, place: str) -> str | None:
    """Return the text of a member, and keep it as text; None if it is absent."""
    value = content.get(name, _ABSENT)
    if isinstance(value, str):
        return value
    if value is _ABSENT:
        return None
    if isinstance(value, (dict, list)):
        raise Fault("3101", f"{place}/{name} must be string")
    text = content[name] = _spell(value)
    return text


_ABSENT: Final = object()


def _spell(value: float | bool | None) -> str:
    """Spell a value as ALS's validator does."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_length(content: Content, name: str, place: str, length_max: int) -> None:
    text = _read_text(content, name, place)
    if text is None:
        return
    if len(text) > length_max:
        raise Fault("3100", f"{place}/{name} must NOT have more than {length_max} characters")
    if not text:
        raise Fault("3100", f"{place}/{name} must NOT have fewer than 1 characters")


def _check_fsp(content: Content, place: str) -> None:
    _check_length(content, "fspId", place, FSP_ID_LENGTH_MAX)


def _check_currency(content: Content, place: str) -> None:
    currency = _read_text(content, "currency", place)
    if currency is not None and currency not in list_hub_currencies():
        raise Fault("3100", f"{place}/currency {_ALLOWED}")


def _check_extensions(content: Content, place: str) -> None:
    """Check an extensionList: 1 to 16 pairs of key and value."""
    if "extensionList" not in content:
        return
    listed, place = content["extensionList"], f"{place}/extensionList"
    if not isinstance(listed, dict):
        raise Fault("3101", f"{place} must be object")
    _require(listed, place, "extension")
    pairs, place = listed["extension"], f"{place}/extension"
    if not isinstance(pairs, list):
        raise Fault("3101", f"{place} must be array")
    if len(pairs) > EXTENSIONS_MAX:
        raise Fault("3100", f"{place} must NOT have more than {EXTENSIONS_MAX} items")
    if not pairs:
        raise Fault("3100", f"{place} must NOT have fewer than 1 items")
    for number, pair in enumerate(pairs):
        if not isinstance(pair, dict):
            raise Fault("3101", f"{place}/{number} must be object")
        _require(pair, f"{place}/{number}", "key", "value")
        _check_length(pair, "key", f"{place}/{number}", FSP_ID_LENGTH_MAX)
        _check_length(pair, "value", f"{place}/{number}", IDENTIFIER_LENGTH_MAX)
