"""The bodies of POST and PUT /oracles: read by the rules of ALS's admin API, the first error only.

As there, numbers and words are taken for the type that is meant (`"true"`, 1), and unknown members pass.  URLs are
checked, because the account lookup service calls them: ALS takes any text.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from oracle.api.dfsp.faults import Fault
from oracle.identifiers import list_hub_currencies
from oracle.scheme.oracles import check_url
from oracle.store.oracles import TYPES

_WORDS: Final = {"true": True, "false": False}


class Wanted(msgspec.Struct, frozen=True):
    party_id_type: str
    url: str
    currency: str | None  # None: not named
    is_default: bool | None  # None: not named


def read_oracle(body: bytes) -> Wanted:
    """Raises Fault: 3102, 3101 or 3100, with the place of the first error."""
    content = _decode(body)
    _require(content, "/requestBody", "oracleIdType", "endpoint")
    party_id_type = _choose(content, "/requestBody", "oracleIdType", TYPES)
    endpoint = content["endpoint"]
    if not isinstance(endpoint, dict):
        raise Fault("3101", "/requestBody/endpoint must be object")
    _require(endpoint, "/requestBody/endpoint", "value", "endpointType")
    url = _read_url(endpoint["value"])
    _choose(endpoint, "/requestBody/endpoint", "endpointType", ("URL",))
    currency = _choose(content, "/requestBody", "currency", list_hub_currencies()) if "currency" in content else None
    is_default = _read_flag(content["isDefault"]) if "isDefault" in content else None
    return Wanted(party_id_type, url, currency, is_default)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        content = {}  # as no body
    if not isinstance(content, dict):
        raise Fault("3101", "/requestBody must be object")
    return content


def _require(content: dict[str, Any], place: str, *names: str) -> None:
    for name in names:
        if name not in content:
            raise Fault("3102", f"{place} must have required property '{name}'")


def _choose(content: dict[str, Any], place: str, name: str, allowed: Any) -> str:
    value = content[name]
    if not isinstance(value, str) or value not in allowed:
        raise Fault("3100", f"{place}/{name} must be equal to one of the allowed values")
    return value


def _read_url(value: Any) -> str:
    place = "/requestBody/endpoint/value"
    if not isinstance(value, str):
        raise Fault("3101", f"{place} must be string")
    try:
        check_url(value)
    except ValueError as exc:
        raise Fault("3100", f"{place} {exc}") from None
    return value


def _read_flag(value: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    raise Fault("3101", "/requestBody/isDefault must be boolean")
