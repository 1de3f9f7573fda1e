"""E-mail addresses, by the pattern the hub's Account Lookup Service itself demands, less the `%` it cannot
carry.

Canonical form.  Lower case.  The local part may by RFC 5321 be case-sensitive; no mail provider in use
treats it so, and two spellings of one mailbox must not be two parties.  Spaces are refused, not dropped:
dropping one inside makes another address.
"""

import re
from typing import Final

from oracle.identifiers.characters import screened
from oracle.identifiers.errors import BadIdentifier

_address: Final = re.compile(r"[a-zA-Z0-9._+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}").fullmatch


def canonical(text: object) -> str:
    address = screened(text, "EMAIL")
    if not _address(address):
        raise BadIdentifier("bad_structure", "EMAIL")
    return address.lower()
