"""Encodes the answer to a lookup in the bytes that ALS needs.

An answer has at most one entry: ALS forwards a payment to every entry it gets.  The answer repeats the SubId of the
lookup exactly, or has none if the lookup has none: ALS drops any other entry (docs/als-contract.md section 4).
"""

from __future__ import annotations

from typing import Final

from oracle.api.hub.wire import EMPTY_LIST, PartyEntry, PartyList, encode
from oracle.store.cache.values import unpack_entries
from oracle.store.resolution import choose_entry

# Most answers are one of a few: an FSP without SubId and currency.  The bound is for FSPs times currencies.
MEMO_MAX: Final = 4096


def encode_answer(fsp_id: str, currency: str, asked_sub_id: str | None) -> bytes:
    """Encode the answer that names one FSP; '' names nobody."""
    if not fsp_id:
        return EMPTY_LIST
    return encode(PartyList([PartyEntry(fsp_id, currency or None, asked_sub_id)]))


class PlainAnswers:
    """A memo of the answers to lookups without SubId and currency; its key is the value that the store holds."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes | None] = {}

    def encode(self, value: bytes) -> bytes | None:
        """Encode the answer.  None if nobody has registered the key: the routes decide."""
        try:
            return self._known[value]
        except KeyError:
            pass
        entry = choose_entry(unpack_entries(value), "", None)
        body = encode_answer(entry.fsp_id, entry.currency, None) if entry is not None else None
        if len(self._known) >= MEMO_MAX:
            self._known.clear()
        self._known[value] = body
        return body
