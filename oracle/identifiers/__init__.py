"""Identifiers: text in, the one spelling under which a party is stored and found out.

`canonical` for one identifier, `party_key` for what a hub asks, `key_of_kind` for what people write, `display` for what
they read.  All are pure; the tables they use lie in data/ and in `phonenumbers`, are loaded when first
needed, and all at once by `preload`.  What is refused raises BadIdentifier, which never says the identifier.

One file per scheme: msisdn, clabe, nrc (with townships), iban, mail, opaque; characters is what all of them
refuse.
"""

from oracle.identifiers import clabe, iban, msisdn, townships
from oracle.identifiers.display import Display, display
from oracle.identifiers.errors import BadIdentifier
from oracle.identifiers.key import PartyIdType, PartyKey, canonical, party_key
from oracle.identifiers.kinds import KINDS, is_permitted, key_of_kind
from oracle.identifiers.msisdn import set_home_countries

__all__ = [
    "KINDS",
    "BadIdentifier",
    "Display",
    "PartyIdType",
    "PartyKey",
    "canonical",
    "display",
    "is_permitted",
    "key_of_kind",
    "party_key",
    "preload",
    "set_home_countries",
]


def preload() -> None:
    """Load every table now, so that the first lookups are as fast as the rest."""
    msisdn.preload()
    iban.preload()
    townships.table()
    clabe.institutions()
