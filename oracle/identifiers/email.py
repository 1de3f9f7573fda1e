"""E-mail addresses, by the pattern that the hub's Account Lookup Service demands, without the `%` that it
cannot carry.

Canonical form.  Lower case.  RFC 5321 allows a case-sensitive local part, but no mail provider in use has
one, and two spellings of one mailbox must not be two parties.  Spaces are refused, not removed: without a
space inside it would be another address.
"""

import re
import string
from typing import Final

from oracle.identifiers.characters import describe_other, screen
from oracle.identifiers.errors import BadIdentifier, Reason
from oracle.identifiers.scheme import PartyIdType, Sample, Scheme

_LETTERS: Final = string.ascii_letters + string.digits
_address: Final = re.compile(r"[a-zA-Z0-9._+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}").fullmatch


_beginning: Final = re.compile(r"[a-z0-9._+-]+(?:@[a-z0-9.-]*)?").fullmatch


class Email(Scheme):
    kind = "EMAIL"
    party_id_type = PartyIdType.EMAIL
    samples: tuple[Sample, ...] = (Sample("ana@example.com"),)
    prefix_form = "the beginning of an address"
    formula_marks = "="

    def canonicalise(self, text: object) -> str:
        address = screen(text, "EMAIL")
        if not _address(address):
            raise BadIdentifier("bad_structure", "EMAIL")
        return address.lower()

    def describe_fault(self, text: str, reason: Reason, country: str = "") -> str:
        if reason != "bad_structure":
            return super().describe_fault(text, reason, country)
        name, at, domain = text.partition("@")
        if not at or "@" in domain:
            return f"it has {text.count('@')} signs @, and one is needed" if at else "it has no @"
        if not name or not domain:
            return "something is missing before the @" if domain else "something is missing after the @"
        found = describe_other(name, _LETTERS + "._+-", "it is not allowed before the @")
        if found:
            return found
        found = describe_other(text, _LETTERS + "._+-@", "it is not allowed") or describe_other(
            "\0" * (len(name) + 1) + domain, _LETTERS + ".-\0", "it is not allowed after the @"
        )
        return found or "it must end with a dot and at least two letters, such as .mx"

    def canonicalise_prefix(self, text: str) -> str:
        written = screen(text, "EMAIL prefix")
        if not written.isascii() or not _beginning(written.lower()):
            raise BadIdentifier("bad_structure", "EMAIL prefix")
        return written.lower()
