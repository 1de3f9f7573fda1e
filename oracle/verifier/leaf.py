r"""Writes an event as one line of text: the log hashes this line, and an export holds it, byte for byte.

Form.      One JSON object, no spaces, these members in this order, absent values as null, UTF-8.  In a file a line feed
           follows it; the hash leaves the line feed out:

               event_id          number, one sequence for all events
               xact              number, the transaction; with event_id it gives the order of sealing
               at                "2026-03-03T10:00:00.000000Z": UTC, always six digits
               entity action channel actor role
               party_id_type party_identifier sub_id fsp_id
               before after      JSON values, the members of objects sorted by code point
               reason request_id trace_id

Text.      As in RFC 8785: only ", \ and U+0000 to U+001F are escaped (\b \t \n \f \r, others \u00xx in lower case).
Numbers.   As PostgreSQL's jsonb writes them, digit by digit: they are never read as binary floats.
Nulls.     A JSON null in place of an absent value has a space before it.  No trigger writes one.  Without the space, an
           attacker could replace an absent value by a JSON null unseen, and so change answers that depend on it.
Times.     A time that no calendar has is null.  No event is sealed with one, but somebody could write one later.
Hash.      SHA-256 of a zero byte and the line (RFC 9162): any hash tool can compute it.
Forever.   A column that events get later is not part of this form: sealed events would no longer have their hashes.
           Such a column needs a new form, from some event on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from .merkle import leaf_hash
from .spreadsheet import quote_formula

__all__ = ["FIELDS", "Leaf", "csv_header", "csv_row", "leaf_hash", "line", "read"]


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    event_id: int
    xact: int
    at: str | None
    entity: str
    action: str
    channel: str
    actor: str
    role: str | None
    party_id_type: str | None
    party_identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    before: msgspec.Raw
    after: msgspec.Raw
    reason: str | None
    request_id: str | None
    trace_id: str | None


FIELDS: Final = Leaf.__struct_fields__

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(float_hook=lambda digits: msgspec.Raw(digits.encode())).decode
_NULL: Final = msgspec.Raw(b"null")
_JSON_NULL: Final = msgspec.Raw(b" null")
_PART: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_read = msgspec.json.Decoder(Leaf).decode


# Thousands of events have the same `after`.  Bounded: 4,096 texts of some hundred bytes.
@lru_cache(maxsize=4096)
def _sort_members(text: str | None) -> msgspec.Raw:
    if text is None:
        return _NULL
    if text == "null":
        return _JSON_NULL
    try:
        return msgspec.Raw(_encode_sorted(_decode(text)))
    except (msgspec.MsgspecError, RecursionError):
        return msgspec.Raw(_sort_by_hand(text))


def _sort_by_hand(text: str) -> bytes:
    """Do the same for values that jsonb holds and no decoder accepts: very long numbers, very deep nesting.

    A writer of events must not be able to stop the sealer with such a value.
    """
    stack: list[list[bytes]] = [[]]
    for part in _PART.findall(text):
        if part in "{[":
            stack.append([])
        elif part in "}]":
            inside = stack.pop()
            if part == "}":
                members = sorted(zip(inside[::2], inside[1::2], strict=True), key=lambda each: str(_decode(each[0])))
                inside = [b":".join(each) for each in members]
            stack[-1].append((b"[%b]" if part == "]" else b"{%b}") % b",".join(inside))
        elif part not in ",:":
            stack[-1].append(_encode(_decode(part)) if part.startswith('"') else part.encode())
    return stack[0][0]


def line(record: Sequence[Any]) -> bytes:
    """Return the line of a row from a query of audit.sql: FIELDS in order, `before` and `after` as text."""
    (
        event_id, xact, at, entity, action, channel, actor, role,
        party_id_type, party_identifier, sub_id, fsp_id, before, after, reason, request_id, trace_id,
    ) = record  # fmt: skip
    return _encode(
        Leaf(
            event_id, xact, _instant(at), entity, action, channel, actor, role,
            party_id_type, party_identifier, sub_id, fsp_id, _sort_members(before), _sort_members(after),
            reason, request_id, trace_id,
        )
    )  # fmt: skip


def _instant(at: datetime | None) -> str | None:
    # asyncpg gives UTC: the last six characters are its offset.
    return None if at is None else at.isoformat(timespec="microseconds")[:-6] + "Z"


def read(text: bytes) -> Leaf:
    """Raises ValueError where the line is not an event.  Only its hash tells whether the spelling is canonical."""
    try:
        return _read(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError("not a line of an export") from exc


def csv_header() -> bytes:
    return ",".join(FIELDS).encode() + b"\r\n"


def csv_row(text: bytes) -> bytes:
    """Write the same event for a spreadsheet: an empty field for null, a quoted one for an empty text.

    A text that a spreadsheet would run gets a `'` in front (`oracle.spreadsheet`).
    """
    values: Mapping[str, Any] = msgspec.structs.asdict(read(text))
    return ",".join(map(_csv_field, values.values())).encode() + b"\r\n"


def _csv_field(value: object) -> str:
    if value is None or (isinstance(value, msgspec.Raw) and value == _NULL):
        return ""
    if value == "":
        return '""'
    if isinstance(value, str):
        text = quote_formula(value)
    else:
        text = bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
    if not any(mark in text for mark in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'
