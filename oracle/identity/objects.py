"""Strict JSON of others: one object, in UTF-8, without a name that comes twice.

Two readers of `{"sub": "a", "sub": "b"}` can see two people (RFC 8725, section 2.4, RFC 7515, section 4).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def read_object(data: bytes) -> dict[str, Any]:
    """Raises ValueError, without a part of the data."""
    try:
        found = json.loads(data.decode(), object_pairs_hook=_join, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON, or a name comes twice") from None
    if not isinstance(found, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - the caller has one error to expect
    return found


def _join(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    joined = dict(pairs)
    if len(joined) != len(pairs):
        raise ValueError
    return joined


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON
