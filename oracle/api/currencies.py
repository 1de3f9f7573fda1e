"""Currencies in requests of hubs and DFSPs."""

from __future__ import annotations

import re
from typing import Final

from oracle import errors
from oracle.identifiers import list_hub_currencies

_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")
_MESSAGE: Final = "The currency must be an ISO 4217 code, for example MXN"


def parse_currency(text: str) -> str:
    """Read the currency of a lookup or of a new entry.  Raises BadElement."""
    currency = text.upper()
    if currency not in list_hub_currencies() or not text.isascii():
        raise errors.BadElement(_MESSAGE)
    return currency


def parse_stored_currency(text: str) -> str:
    """Read the currency of an entry that is removed: an earlier version stored codes that do not exist.

    Raises BadElement.
    """
    if not _CURRENCY.fullmatch(text):
        raise errors.BadElement(_MESSAGE)
    return text.upper()
