"""Defines a kind of identifier: the class that every kind implements, and the types that they share.

A kind is one object of a subclass of `Scheme`, in a file of its own, with one line in `registry`.  The rest of the
program knows a kind only by the attributes and methods of that object: how people write it, show it and fill it in in
a file, and how it is stored.

A hub knows a closed list of types, PartyIdType.  A kind that is not in the list travels under one of them and is
*named* by a SubId: CLABE as an ACCOUNT_ID, NRC as a PERSONAL_ID.  A SubId that only names the kind is not part of the
key.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Self

import msgspec

from oracle.identifiers.characters import LENGTH_MAX, describe_refused
from oracle.identifiers.errors import BadIdentifier, Reason
from oracle.identifiers.townships import Township

Matcher = Callable[[str], object]  # truthy for a match
Read = Callable[[str], str]  # text to canonical form; raises BadIdentifier

# Damage by a spreadsheet to the digits of an identifier that it takes for a number.
Damage = Literal["digits_lost", "leading_zero_lost"]


class PartyIdType(StrEnum):
    MSISDN = "MSISDN"
    EMAIL = "EMAIL"
    PERSONAL_ID = "PERSONAL_ID"
    BUSINESS = "BUSINESS"
    DEVICE = "DEVICE"
    ACCOUNT_ID = "ACCOUNT_ID"
    IBAN = "IBAN"
    ALIAS = "ALIAS"


# Compiled classes have no docstrings, and the contract of the admin API shows this one.
_ABOUT: Final = "FSPIOP API Definition 1.1 and the path enum of the Account Lookup Service."
setattr(PartyIdType, "__doc__", _ABOUT)  # noqa: B010 - mypyc refuses to compile an assignment


class PartyKey(NamedTuple):
    """The key of a party, as the directory stores it and a hub asks for it."""

    party_id_type: str
    identifier: str  # canonical
    sub_id: str  # '' for none


class Display(msgspec.Struct, frozen=True, omit_defaults=True):
    """An identifier as people write it.  For screens and reports: never parse it, never use it as a key."""

    text: str  # the form to show first
    lossless_latin: str | None = None  # NRC: every Burmese letter has its own spelling
    burmese: str | None = None  # NRC: as printed on the card
    institution: str | None = None  # CLABE: the bank, where its code is known
    country: str | None = None  # MSISDN: its country (ISO 3166 alpha-2), where the number is valid


class Sample(NamedTuple):
    """A made-up row of the import template."""

    identifier: str
    sub_id: str = ""
    currency: str = ""
    country: str = ""
    action: str = "add"


class Choices(NamedTuple):
    """What a deployment chooses about kinds of identifiers."""

    home_countries: tuple[str, ...] = ("MX", "MM")  # ISO 3166 alpha-2
    msisdn_national: str = "refuse"  # or "accept": see `msisdn`
    nrc_townships: tuple[Township, ...] = ()  # those that the operator adds


DEFAULTS: Final = Choices()
FORMULA_MARKS: Final = "=+-@"


class Scheme(ABC):
    """One kind of identifier.

    Every canonical form must be canonical under the kind's PartyIdType, too: the hub reads it there.
    """

    kind: str
    party_id_type: PartyIdType
    samples: tuple[Sample, ...]  # the first identifier is the example that people are shown

    # All SubIds that name this kind, including `kind` itself, under which nothing else is accepted.
    sub_ids: frozenset[str] = frozenset()
    country: str | None = None  # the kind exists only where this is a home country; elsewhere it is its PartyIdType
    issuer: str | None = None  # the only country that issues identifiers of this kind
    takes_country: bool = False  # a country lets them be read: see `choose_written_reader`
    is_recognised: bool = False  # also read, and shown, when only the PartyIdType is named: see `recognise`

    # The beginning of an identifier, in a route, for people: "Write …".
    prefix_form: str = "1 to 128 characters, as the identifiers are written"

    # In files.  A match for text that needs no cleaning, None for the usual one; the characters with which a formula
    # begins and an identifier of this kind does not.
    ordinary: Matcher | None = None
    formula_marks: str = FORMULA_MARKS

    @abstractmethod
    def canonicalise(self, text: object) -> str:
        """Return the one spelling under which the identifier is stored and found, or raise BadIdentifier."""

    def choose_written_reader(self, country: str | None = None, default_country: str | None = None) -> Read:  # noqa: ARG002
        """Return the function that does the same with what people write, where a country (ISO 3166 alpha-2) is named.

        A default country only says where national forms are from.
        """
        return self.canonicalise

    def check_country(self, canonical: str, country: str) -> None:  # noqa: ARG002
        """Raise BadIdentifier if an identifier cannot be of this country (ISO 3166 alpha-2)."""
        if self.issuer is not None and country != self.issuer:
            raise BadIdentifier("country_contradicts_kind", self.kind)

    @abstractmethod
    def canonicalise_prefix(self, text: str) -> str:
        """Return the beginning of an identifier as the beginning of canonical forms, or raise BadIdentifier."""

    def is_canonical(self, text: str) -> bool:
        try:
            return self.canonicalise(text) == text
        except BadIdentifier:
            return False

    def recognise(self, text: object) -> str | None:  # noqa: ARG002
        """Return the canonical form of a text that is an identifier of this kind; None for another document's.

        Called when only the PartyIdType is named.  Raises BadIdentifier for a broken identifier: stored unchanged, it
        could never be found by its right spelling.
        """
        return None

    def claims_prefix(self, prefix: str) -> bool:  # noqa: ARG002
        """Whether a prefix for the PartyIdType was perhaps meant for this kind."""
        return False

    def display(self, canonical: str) -> Display:
        """Return the forms people write.  Text that cannot be shown better is shown unchanged.

        An auditor also reads keys that were stored under older rules.
        """
        return Display(canonical)

    def describe_fault(self, text: str, reason: Reason, country: str = "") -> str:
        """Say what was found in a refused text, and what is needed; '' if the explanation of the reason is enough.

        For the results of a file alone: see `errors`.  `country` (ISO 3166 alpha-2) is the one that the row names.
        """
        if reason == "input_too_long":
            return f"it has {len(text):,} characters, and at most {LENGTH_MAX} are allowed"
        if reason == "country_contradicts_kind" and self.issuer is not None:
            return f"the country is {country}, and every {self.kind} is of {self.issuer}"
        if reason == "forbidden_character":
            return describe_refused(text)
        return ""

    def find_damage(self, text: str) -> Damage | None:  # noqa: ARG002
        """Name the damage by a spreadsheet to a refused identifier; None if there are no signs of any."""
        return None

    def find_cut(self, text: str, sub_id: str) -> bool:  # noqa: ARG002
        """Whether a slash has cut one identifier in two: its beginning is the text, and the rest is the SubId."""
        return False

    def with_choices(self, choices: Choices) -> Self:  # noqa: ARG002
        """Return the scheme for a deployment."""
        return self

    def preload(self) -> None:  # noqa: B027 - most kinds have no tables
        """Load all tables now, so that the first lookups are as fast as the rest."""

    @property
    def is_plain(self) -> bool:
        """Whether a hub names this kind by its PartyIdType alone."""
        return self.kind == self.party_id_type
