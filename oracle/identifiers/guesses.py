"""Guesses what kind of identifier a person has written, for pages with one field for every kind.

Clear.   The spelling alone shows the kind: an IBAN, a CLABE, an e-mail address or an NRC that is valid, or has a fault
         that only such an identifier can have; a telephone number with `+`, or a valid one of a home country.
Unclear. Everything else, because nearly every text is also a valid ACCOUNT_ID, DEVICE or ALIAS.  People choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from oracle.identifiers.errors import BadIdentifier, Reason
from oracle.identifiers.opaque import Opaque
from oracle.identifiers.reading import Reading
from oracle.identifiers.registry import KINDS, display, find_scheme

# A text that is refused for one of these has everything else that the kind demands.
_TELLING: Final[frozenset[Reason]] = frozenset({
    "bad_check_digit", "bad_check_digits", "bad_number_length", "bad_state", "bad_township", "bad_type",
    "bank_code_000", "check_digits_out_of_range", "missing_type", "stray_separator", "ambiguous_township_latin",
    "unknown_township_latin",
})  # fmt: skip


class Meaning(NamedTuple):
    """What a text can mean."""

    kind: str
    country: str  # '' unless it is a national number of this country
    text: str  # as people write it


def guess_kind(reading: Reading, text: str) -> str | None:
    """Return the kind that the spelling shows, also of a broken identifier; None if it is not clear."""
    found = [kind for kind in KINDS if _is_clear(reading, kind, text)]
    return found[0] if len(found) == 1 else None


def list_meanings(reading: Reading, text: str) -> list[Meaning]:
    """List everything that a text can be: its kinds, and the home countries of a national telephone number."""
    found: list[Meaning] = []
    for kind in KINDS:
        if _exists(reading, kind):
            found += _read(reading, kind, text)
    return found


def _read(reading: Reading, kind: str, text: str) -> Iterator[Meaning]:
    seen: set[str] = set()
    for country in ("", *(reading.home_countries if find_scheme(kind).takes_country else ())):
        try:
            canonical = reading.canonicalise(kind, text, country or None)
        except BadIdentifier:
            continue
        if canonical not in seen:
            seen.add(canonical)
            yield Meaning(kind, country, display(kind, canonical).text)


def _is_clear(reading: Reading, kind: str, text: str) -> bool:
    scheme = reading.choose_scheme(kind, None)
    if scheme.kind != kind or isinstance(scheme, Opaque):
        return False
    if scheme.takes_country:
        return _is_clear_number(reading, kind, text)
    try:
        reading.canonicalise(kind, text)
    except BadIdentifier as exc:
        return exc.subject == kind and exc.reason in _TELLING
    return True


def _is_clear_number(reading: Reading, kind: str, text: str) -> bool:
    if text.lstrip(" (").startswith("+"):
        return True
    try:
        found = display(kind, reading.canonicalise(kind, text))
    except BadIdentifier:
        return False
    return found.country in reading.home_countries


def _exists(reading: Reading, kind: str) -> bool:
    """Whether the deployment has this kind; away from its country a kind is read as its PartyIdType."""
    return reading.choose_scheme(kind, None).kind == kind
