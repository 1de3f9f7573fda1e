"""The rules for identifiers that come after the 202 (docs/account-lookup.md, section 3).

They are those of ALS, for every oracle.  The directory of this process has stricter ones of its own (`identifiers`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from oracle.api.dfsp.asked import Party
from oracle.api.dfsp.faults import Fault

_IS_PLAIN: Final = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\ufeff{}<>`\\]{1,128}").fullmatch
_FORMS: Final[Mapping[str, Callable[[str], object]]] = {
    "MSISDN": re.compile(r"\+?[0-9]{1,30}").fullmatch,
    "EMAIL": re.compile(r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}").fullmatch,
    "IBAN": re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}").fullmatch,
}


def check_party(party: Party) -> None:
    """Raises Fault 3101.  Its text does not repeat the identifier."""
    fits = _FORMS.get(party.party_id_type, _IS_PLAIN)
    if not _IS_PLAIN(party.identifier) or not fits(party.identifier):
        raise Fault("3101", f"Invalid {party.party_id_type} identifier")
    if party.sub_id is not None and not _IS_PLAIN(party.sub_id):
        raise Fault("3101", "Invalid partySubIdOrType")
