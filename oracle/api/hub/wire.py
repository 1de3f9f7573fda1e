"""The hub's messages on the wire (FSPIOP 1.1 and 2.0, docs/als-contract.md section 1).  camelCase is used only here.

Unknown members, extensionList among them, are ignored: ALS forwards every member that the DFSP wrote.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

BULK_MAX: Final = 10_000  # FSPIOP Table 9


class PartyBody(msgspec.Struct, rename="camel"):
    """POST and PUT of one party.  `fsp_id` is checked after decoding: its absence has an error code of its own."""

    fsp_id: str | None = None
    currency: str | None = None
    party_sub_id_or_type: str | None = None


class BulkBody(msgspec.Struct, rename="camel"):
    """POST of many parties.  The items are read one by one: a bad item must not fail the others."""

    party_list: Annotated[list[Any], msgspec.Meta(min_length=1)] | None = None
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

EMPTY_LIST: Final = b'{"partyList":[]}'
EMPTY_OBJECT: Final = b"{}"
