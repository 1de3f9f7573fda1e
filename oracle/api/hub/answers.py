"""From what the store knows of an identifier to the answer of one lookup, in the bytes ALS needs.

At most one entry: ALS forwards a payment to every entry it is given.  The SubId is echoed exactly as asked, or left out
when none was: ALS drops an entry that does either differently (als-contract section 4).
"""

from __future__ import annotations

from typing import Final

from oracle.api.hub.wire import EMPTY_LIST, PartyEntry, PartyList, encode
from oracle.store.cache.values import entries_of
from oracle.store.resolution import choose_entry

# Most answers are one of a few: an FSP without SubId and currency.  The bound is for FSPs times currencies.
MEMO_MAX: Final = 4096


def body_of(fsp_id: str, currency: str, asked_sub_id: str | None) -> bytes:
    """The answer that names one FSP; '' names nobody."""
    if not fsp_id:
        return EMPTY_LIST
    return encode(PartyList([PartyEntry(fsp_id, currency or None, asked_sub_id)]))


class Plain:
    """The answers to lookups without SubId and currency, remembered by the stored value itself.

    None in place of a body: nobody has registered this key, the routes decide.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, bytes | None] = {}

    def body(self, value: bytes) -> bytes | None:
        try:
            return self._known[value]
        except KeyError:
            pass
        entry = choose_entry(entries_of(value), "", None)
        body = body_of(entry.fsp_id, entry.currency, None) if entry is not None else None
        if len(self._known) >= MEMO_MAX:
            self._known.clear()
        self._known[value] = body
        return body
