"""Identifiers: reads text and returns the one spelling under which a party is stored and found.

    reading = Reading.of(settings)
    reading.read_hub_key("MSISDN", "+525512345678", None)  # what a hub asks
    reading.read_key("CLABE", "032 180 00011835971 9")     # what people write
    display("CLABE", "032180000118359719").text            # what people read

Everything is pure.  The tables lie in data/ and in `phonenumbers`; they are loaded when first needed, and all at once
by `Reading.preload`.  BadIdentifier is raised for everything that is refused, and never holds the identifier.

A kind of identifier is one `Scheme` object in one file, registered in `registry`: msisdn, clabe, nrc (with townships),
iban, email, opaque.  `characters` holds what all of them refuse.
"""

from oracle.identifiers.currency import list_current_currencies, list_hub_currencies
from oracle.identifiers.errors import BadIdentifier
from oracle.identifiers.guesses import Meaning, guess_kind, list_meanings
from oracle.identifiers.reading import Reading
from oracle.identifiers.registry import (
    KINDS,
    PARTY_ID_TYPES,
    SCHEMES,
    Kind,
    describe_fault,
    display,
    find_scheme,
    list_examples,
    make_stored_key,
)
from oracle.identifiers.scheme import FORMULA_MARKS, Display, PartyIdType, PartyKey, Sample, Scheme

__all__ = [
    "FORMULA_MARKS",
    "KINDS",
    "PARTY_ID_TYPES",
    "SCHEMES",
    "BadIdentifier",
    "Display",
    "Kind",
    "Meaning",
    "PartyIdType",
    "PartyKey",
    "Reading",
    "Sample",
    "Scheme",
    "describe_fault",
    "display",
    "find_scheme",
    "guess_kind",
    "list_current_currencies",
    "list_examples",
    "list_hub_currencies",
    "list_meanings",
    "make_stored_key",
]
