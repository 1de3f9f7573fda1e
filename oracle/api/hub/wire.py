"""The hub's messages as they stand on the wire (FSPIOP 1.1 and 2.0, als-contract section 1); camelCase only here.

Members we do not know, extensionList among them, pass unread: ALS forwards whatever the DFSP wrote.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

BULK_MAX: Final = 10_000  # FSPIOP Table 9


class PartyBody(msgspec.Struct, rename="camel"):
    """POST and PUT of one party.  `fsp_id` is looked at after decoding, so that its absence gets a code of its own."""

    fsp_id: str | None = None
    currency: str | None = None
    party_sub_id_or_type: str | None = None


class BulkBody(msgspec.Struct, rename="camel"):
    """POST of many.  The items are read one by one: a bad one must not fail the others."""

    party_list: Annotated[list[Any], msgspec.Meta(min_length=1)] | None = None
    currency: str | None = None


class PartyEntry(msgspec.Struct, rename="camel", omit_defaults=True):
    """One entry of an answer; a member that is not there is left out (ALS drops `""` and null SubIds' entries)."""

    fsp_id: str
    currency: str | None = None
    party_sub_id_or_type: str | None = None


class PartyList(msgspec.Struct, rename="camel"):
    party_list: list[PartyEntry]


decode_party: Final = msgspec.json.Decoder(PartyBody).decode
decode_bulk: Final = msgspec.json.Decoder(BulkBody).decode
encode: Final = msgspec.json.Encoder().encode

EMPTY_LIST: Final = b'{"partyList":[]}'
EMPTY_OBJECT: Final = b"{}"
