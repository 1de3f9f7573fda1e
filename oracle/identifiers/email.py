"""E-mail addresses, by the pattern that the hub's Account Lookup Service demands, without the `%` that it
cannot carry.

Canonical form.  Lower case.  RFC 5321 allows a case-sensitive local part, but no mail provider in use has
one, and two spellings of one mailbox must not be two parties.  Spaces are refused, not removed: without a
space inside it would be another address.
"""

import re
from typing import Final

from oracle.identifiers.characters import screen
from oracle.identifiers.errors import BadIdentifier
from oracle.identifiers.scheme import PartyIdType, Sample, Scheme

_address: Final = re.compile(r"[a-zA-Z0-9._+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}").fullmatch


_beginning: Final = re.compile(r"[a-z0-9._+-]+(?:@[a-z0-9.-]*)?").fullmatch


class Email(Scheme):
    kind = "EMAIL"
    party_id_type = PartyIdType.EMAIL
    samples = (Sample("ana@example.com"),)
    prefix_form = "the beginning of an address"
    formula_marks = "="

    def canonicalise(self, text: object) -> str:
        address = screen(text, "EMAIL")
        if not _address(address):
            raise BadIdentifier("bad_structure", "EMAIL")
        return address.lower()

    def canonicalise_prefix(self, text: str) -> str:
        written = screen(text, "EMAIL prefix")
        if not written.isascii() or not _beginning(written.lower()):
            raise BadIdentifier("bad_structure", "EMAIL prefix")
        return written.lower()
