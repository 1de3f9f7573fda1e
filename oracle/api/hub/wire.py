"""The hub's messages on the wire (FSPIOP 1.1 and 2.0, docs/als-contract.md section 1).  camelCase is used only here.

Unknown members, extensionList among them, are ignored: ALS forwards every member that the DFSP wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec

BULK_MAX: Final = 10_000  # FSPIOP Table 9
PARTY_BYTES_MAX: Final = 64 * 1024  # a body about one party, or an item of a bulk; with 16 extensions it has 4 KiB


class PartyBody(msgspec.Struct, rename="camel"):
    """POST and PUT of one party.  `fsp_id` is checked after decoding: its absence has an error code of its own."""

    fsp_id: str | None = None
    currency: str | None = None
    party_sub_id_or_type: str | None = None


class BulkBody(msgspec.Struct, rename="camel"):
    """POST of many parties.  `split_list` reads the list: to decode it at once would take 10 ms and more."""

    party_list: msgspec.Raw = msgspec.Raw()
    currency: str | None = None


class PartyEntry(msgspec.Struct, rename="camel", omit_defaults=True):
    """One entry of an answer.  Absent members are left out: ALS drops an entry whose SubId is `""` or null."""

    fsp_id: str
    currency: str | None = None
    party_sub_id_or_type: str | None = None


class PartyList(msgspec.Struct, rename="camel"):
    party_list: list[PartyEntry]


decode_party: Final = msgspec.json.Decoder(PartyBody).decode
decode_bulk: Final = msgspec.json.Decoder(BulkBody).decode
encode: Final = msgspec.json.Encoder().encode

_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
decode_item: Final = msgspec.json.Decoder().decode

# Bytes of a list that are split at a time, for some 0.05 ms.
PIECE: Final = 16 * 1024
# What is likely between two items, the likeliest first: ALS begins an item with its partyIdType.
_MARKS: Final = (b'},{"party', b"},", b",")


def split_list(text: bytes) -> Iterator[list[msgspec.Raw]]:
    """Split a valid JSON list into its items, some at a time, without reading them.

    A comma is between two items if the text before it is a valid list.  Raises msgspec.DecodeError if the text is no
    list.
    """
    text = text.strip()
    if not text.startswith(b"["):
        raise msgspec.ValidationError("Expected `array`")
    start, end, size = 1, len(text) - 1, PIECE
    while end - start > size:
        for comma in _find_commas(text, start, start + size):
            with suppress(msgspec.DecodeError):
                items = _decode_raws(b"[%b]" % text[start:comma])
                start, size = comma + 1, PIECE
                yield items
                break
        else:
            size *= 2  # a large item, or lists in many items
    yield _decode_raws(b"[%b]" % text[start:end])


def _find_commas(text: bytes, start: int, end: int) -> Iterator[int]:
    for mark in _MARKS:
        at = text.rfind(mark, start, end)
        if at >= 0:
            yield at + mark.index(b",")


EMPTY_LIST: Final = b'{"partyList":[]}'
EMPTY_OBJECT: Final = b"{}"
