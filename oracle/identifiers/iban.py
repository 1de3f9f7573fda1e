"""IBAN, ISO 13616, as the SWIFT registry (release 101) has it for 89 countries.

Check digits.  ISO 7064 MOD 97-10 gives 02..98 only.  00, 01 and 99 satisfy the same congruence as 97, 98
and 02: accepting them would give one account two spellings.  Not in the registry, so refused: Mexico and
Myanmar, which have no IBAN, and the "partial" IBANs some libraries know (IR, DZ, AO ...).
Canonical form.  Upper case without spaces.  Only ASCII letters change: str.upper() would also turn U+0131
into I and U+00DF into SS.
"""

import re
import string
from collections.abc import Callable
from typing import Final

from oracle.identifiers.characters import describe_character, describe_other, screen
from oracle.identifiers.errors import BadIdentifier, BadPrefix, Reason
from oracle.identifiers.scheme import Display, PartyIdType, Sample, Scheme

LENGTH_MAX: Final = 34

# The part after country and check digits: n digits, a letters, c either.  Neighbouring fields of one class are
# merged.
_BBANS: Final = dict(
    entry.split(":")
    for entry in """
        AD:8n12c AE:19n AL:8n16c AT:16n AZ:4a20c BA:16n BE:12n BG:4a6n8c BH:4a14c BI:23n BR:23n1a1c
        BY:4c4n16c CH:5n12c CR:18n CY:8n16c CZ:20n DE:18n DJ:23n DK:14n DO:4c20n EE:16n EG:25n
        ES:20n FI:14n FK:2a12n FO:14n FR:10n11c2n GB:4a14n GE:2a16n GI:4a15c GL:14n GR:7n16c GT:24c
        HN:4a20n HR:17n HU:24n IE:4a14n IL:19n IQ:4a15n IS:22n IT:1a10n12c JO:4a4n18c KW:4a22c
        KZ:3n13c LB:4n20c LC:4a24c LI:5n12c LT:16n LU:3n13c LV:4a13c LY:21n MC:10n11c2n MD:20c
        ME:18n MK:3n10c2n MN:16n MR:23n MT:4a5n18c MU:4a19n3a NI:4a20n NL:4a10n NO:11n OM:3n16c
        PK:4a16c PL:24n PS:4a21c PT:21n QA:4a21c RO:4a16c RS:18n RU:14n15c SA:2n18c SC:4a20n3a
        SD:14n SE:20n SI:15n SK:20n SM:1a10n12c SO:19n ST:21n SV:4a20n TL:19n TN:20n TR:6n16c
        UA:6n19c VA:18n VG:4a16n XK:16n YE:4a4n18c
    """.split()  # noqa: SIM905 - a list literal of 89 strings reads worse
)
# Territories whose accounts have the code of another country, by the registry's own notes.
_ALSO_ISSUES: Final = {
    "FI": ("AX",),
    "FR": ("BL", "GF", "GP", "MF", "MQ", "NC", "PF", "PM", "RE", "TF", "WF", "YT"),
    "GB": ("GG", "IM", "JE"),
}
_CLASS_NAMES: Final = {"n": "a digit", "a": "a letter", "c": "a letter or a digit"}
_WRITTEN: Final = string.ascii_letters + string.digits + " "
_CLASSES: Final = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}
_field: Final = re.compile(r"([0-9]+)([nac])").findall


class _Structures(dict[str, Callable[[str], object]]):
    """The pattern of each country, compiled for its first IBAN."""

    def __missing__(self, country: str) -> Callable[[str], object]:
        fields = "".join(f"{_CLASSES[kind]}{{{count}}}" for count, kind in _field(_BBANS[country]))
        self[country] = matches = re.compile(f"{country}[0-9]{{2}}{fields}").fullmatch
        return matches


_STRUCTURES: Final = _Structures()
_LENGTHS: Final = {country: 4 + sum(int(count) for count, _ in _field(bban)) for country, bban in _BBANS.items()}

_BBAN_AT: Final = 4  # behind country and check digits

_alphanumeric: Final = re.compile(r"[0-9A-Za-z ]+").fullmatch
# As ISO 7064 counts: A is 10 ... Z is 35.
_AS_NUMBERS: Final = {ord(letter): str(10 + i) for i, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}


_beginning: Final = re.compile(r"[A-Z]|[A-Z]{2}[0-9]{0,2}|[A-Z]{2}[0-9]{2}[A-Z0-9]{1,29}").fullmatch


class Iban(Scheme):
    kind = "IBAN"
    party_id_type = PartyIdType.IBAN
    samples: tuple[Sample, ...] = (Sample("GB82WEST12345698765432", currency="GBP"),)
    prefix_form = "up to 33 letters and digits, starting with the country code"

    def canonicalise(self, text: object) -> str:
        written = screen(text, "IBAN")
        if not _alphanumeric(written):
            raise BadIdentifier("forbidden_character", "IBAN")
        iban = written.replace(" ", "").upper()  # only ASCII is left here
        if not iban:
            raise BadIdentifier("empty", "IBAN")
        if len(iban) > LENGTH_MAX:
            raise BadIdentifier("too_long", "IBAN")
        issuer = iban[:2]
        if issuer not in _BBANS:
            raise BadIdentifier("country_not_in_registry", "IBAN")
        if len(iban) != _LENGTHS[issuer]:
            raise BadIdentifier("bad_length", "IBAN")
        if not _STRUCTURES[issuer](iban):
            raise BadIdentifier("bad_structure", "IBAN")
        if not "02" <= iban[2:4] <= "98":
            raise BadIdentifier("check_digits_out_of_range", "IBAN")
        if int((iban[4:] + iban[:4]).translate(_AS_NUMBERS)) % 97 != 1:
            raise BadIdentifier("bad_check_digits", "IBAN")
        return iban

    def describe_fault(self, text: str, reason: Reason, country: str = "") -> str:
        iban = text.replace(" ", "").upper()
        issuer = iban[:2]
        match reason:
            case "forbidden_character":
                return describe_other(text, _WRITTEN, "only letters and digits are allowed")
            case "too_long":
                return f"it has {len(iban)} characters, and at most {LENGTH_MAX} are allowed"
            case "country_not_in_registry":
                if issuer.isalpha() and issuer.isascii() and len(issuer) == len("GB"):
                    return f"it begins with {issuer}, and no country with this code has such account numbers"
                return "it must begin with the two letters of a country, such as GB"
            case "bad_length":
                return f"it has {len(iban)} characters, and one of {issuer} has {_LENGTHS[issuer]}"
            case "bad_structure":
                return _describe_structure(text, issuer)
            case "check_digits_out_of_range":
                return f"the check digits, characters 3 and 4, are {iban[2:4]}, and they must be 02 to 98"
            case "bad_check_digits":
                fitting = 98 - int((iban[4:] + issuer + "00").translate(_AS_NUMBERS)) % 97
                return f"the check digits, characters 3 and 4, are {iban[2:4]}, and {fitting:02} is needed for the rest"
            case "country_contradicts_kind":
                return f"the country is {country}, and the IBAN is of {issuer}"
        return super().describe_fault(text, reason, country)

    def canonicalise_prefix(self, text: str) -> str:
        written = screen(text, "IBAN prefix").replace(" ", "")
        prefix = written.upper()
        if not written.isascii() or not _beginning(prefix):
            raise BadIdentifier("bad_structure", "IBAN prefix")
        if not any(country.startswith(prefix[:2]) for country in _BBANS):
            raise BadPrefix("country_not_in_registry", "IBAN prefix")
        if len(prefix) >= _BBAN_AT and not "02" <= prefix[2:_BBAN_AT] <= "98":
            raise BadPrefix("check_digits_out_of_range", "IBAN prefix")
        if len(prefix) > _BBAN_AT and not _begins_bban(prefix[:2], prefix[_BBAN_AT:]):
            raise BadPrefix("begins_nothing", "IBAN prefix")
        return prefix

    def check_country(self, canonical: str, country: str) -> None:
        if country not in {canonical[:2], *_ALSO_ISSUES.get(canonical[:2], ())}:
            raise BadIdentifier("country_contradicts_kind", "IBAN")

    def display(self, canonical: str) -> Display:
        return Display(" ".join(canonical[at : at + 4] for at in range(0, len(canonical), 4)))

    def preload(self) -> None:
        for country in _BBANS:
            _STRUCTURES[country]


def _describe_structure(text: str, issuer: str) -> str:
    classes = [*"aann", *(kind for count, kind in _field(_BBANS[issuer]) for _ in range(int(count)))]
    places = [at for at, character in enumerate(text) if character != " "]
    for at, kind in zip(places, classes, strict=True):
        if not re.fullmatch(_CLASSES[kind], text[at].upper()):
            return describe_character(text, at, f"{_CLASS_NAMES[kind]} is needed")
    return ""


def _begins_bban(country: str, text: str) -> bool:
    """Whether account numbers of the country can begin with this text."""
    classes = [_CLASSES[kind] for count, kind in _field(_BBANS[country]) for _ in range(int(count))]
    return len(text) <= len(classes) and re.fullmatch("".join(classes[: len(text)]), text) is not None
