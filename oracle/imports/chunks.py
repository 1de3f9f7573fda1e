"""The form in which the database keeps the rows of a batch (thousands in a chunk), and the result of each row.

Rows are msgpack, compressed with zlib at its fastest: 9 bytes for a phone number, 0.4 µs to pack and 1.6 µs to unpack.
Higher levels save a twentieth and take twice the time.  Columns instead of rows save a sixth and pack half as fast.

The result of a row is one byte, a position in ROW_RESULTS.  Databases contain these bytes: add new results at the end.
"""

from __future__ import annotations

import zlib
from typing import Final, Literal, NamedTuple

import msgspec

from oracle.imports.rows import FileRow

# A transaction that applies as many takes some 0.2 s; it must end within 2 s.
ROWS_PER_CHUNK: Final = 5_000

Status = Literal["added", "changed", "unchanged", "removed", "invalid", "refused", "cancelled", "pending"]


class RowResult(NamedTuple):
    status: Status
    code: str = ""
    message: str = ""


ROW_RESULTS: Final = (
    RowResult("added"),
    RowResult("changed"),
    RowResult("unchanged"),
    RowResult("removed"),
    RowResult("invalid"),  # the row has the code and the message
    # The message does not name the other FSP.  Where possible, an entry of another FSP looks like no entry.
    RowResult(
        "refused",
        "held_elsewhere",
        "Another FSP has registered the identifier. The customer must first ask that FSP to remove it.",
    ),
    RowResult(
        "refused", "not_registered", "This FSP has not registered this identifier with this sub_id and currency."
    ),
    RowResult("refused", "fsp_not_active", "The FSP was not active when the row was applied."),
    RowResult("refused", "not_allowed", "This FSP can no longer register this kind or currency."),
    RowResult("refused", "not_accepted", "The directory does not accept this entry."),
    RowResult(
        "refused",
        "changed_since",
        "The alias has changed since this change was asked for. Look at the alias, then ask for the change again.",
    ),
)
(
    ADDED,
    CHANGED,
    UNCHANGED,
    REMOVED,
    INVALID,
    HELD_ELSEWHERE,
    NOT_REGISTERED,
    FSP_NOT_ACTIVE,
    NOT_ALLOWED,
    NOT_ACCEPTED,
    CHANGED_SINCE,
) = range(len(ROW_RESULTS))

_IN_FORCE: Final = bytes((ADDED, CHANGED, UNCHANGED, REMOVED))
_DONE: Final = bytes((ADDED, CHANGED, REMOVED))

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[FileRow]).decode


def pack_rows(rows: list[FileRow]) -> bytes:
    return zlib.compress(_encode(rows), 1)


def unpack_rows(data: bytes) -> list[FileRow]:
    return _decode(zlib.decompress(data))


class Tally(NamedTuple):
    """Counts of rows: those in force, those of them that changed anything, and those that were refused."""

    applied: int
    changed: int
    refused: int


def are_in_force(results: bytes) -> bool:
    """Whether all these rows are applied."""
    return not results.translate(None, _IN_FORCE)


def count_results(results: bytes) -> Tally:
    unapplied = len(results.translate(None, _IN_FORCE))
    unchanged = len(results.translate(None, _DONE))
    return Tally(len(results) - unapplied, len(results) - unchanged, unapplied - results.count(INVALID))
