"""Identifiers as people write them.  For screens and reports: never parse these, never key on them.

What cannot be shown better is shown as it is: an auditor also reads keys that were stored under older rules.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import phonenumbers
from phonenumbers import PhoneNumberFormat

from oracle.identifiers import clabe, nrc
from oracle.identifiers.errors import BadIdentifier


class Display(msgspec.Struct, frozen=True, omit_defaults=True):
    text: str  # the form to show first
    lossless_latin: str | None = None  # NRC: every Burmese letter has its own spelling
    burmese: str | None = None  # NRC: as printed on the card
    institution: str | None = None  # CLABE: the bank, where its code is known


def of_nrc(canonical_text: str) -> Display:
    forms = nrc.forms(canonical_text)
    if not forms:
        return Display(canonical_text)
    return Display(forms.popular_latin, lossless_latin=forms.lossless_latin, burmese=forms.burmese)


def of_clabe(canonical_text: str) -> Display:
    bank, plaza, account, check = (
        canonical_text[:3],
        canonical_text[3:6],
        canonical_text[6:17],
        canonical_text[17:],
    )
    grouped = f"{bank} {plaza} {account} {check}" if len(canonical_text) == clabe.LENGTH else canonical_text
    return Display(grouped, institution=clabe.institutions().get(bank))


def of_msisdn(canonical_text: str) -> Display:
    international = "+" + canonical_text
    try:
        number = phonenumbers.parse(international)
    except phonenumbers.NumberParseException:
        return Display(international)
    if not phonenumbers.is_valid_number(number):
        return Display(international)
    return Display(phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL))


def of_iban(canonical_text: str) -> Display:
    return Display(" ".join(canonical_text[i : i + 4] for i in range(0, len(canonical_text), 4)))


_SHOWN: Final[dict[str, Callable[[str], Display]]] = {
    "MSISDN": of_msisdn,
    "CLABE": of_clabe,
    "IBAN": of_iban,
    "NRC": of_nrc,
    "PERSONAL_ID": of_nrc,  # a passport is no NRC and shows as it is
} | dict.fromkeys(("ACCOUNT_ID", "BUSINESS", "DEVICE", "ALIAS", "EMAIL"), Display)


def display(kind: str, canonical_text: str) -> Display:
    show = _SHOWN.get(kind)
    if show is None:
        raise BadIdentifier("unknown_kind")
    return show(canonical_text)
