"""The beginning of an identifier, as a route names it: in canonical form, so that it is compared as text.

A prefix that no canonical identifier begins with would stand there and never answer anybody: what can be told by its
form is refused.  An NRC is cut between its fields: state (`12-`), township, type, some digits of the number; written
canonically, or as people write them (`12/OUKAMA`).
"""

import re
from typing import Final

from oracle.identifiers import clabe, nrc, opaque
from oracle.identifiers.characters import screened
from oracle.identifiers.errors import BadIdentifier
from oracle.identifiers.kinds import PARTY_ID_TYPES

# What to write, for people.
FORMS: Final[dict[str, str]] = {
    "MSISDN": "1 to 15 digits, from the calling code on",
    "CLABE": "3 to 17 digits, from the bank code on, zeros in front included",
    "NRC": "state, township, type, digits, as far as they are meant: 12/, 12/OUKAMA, 12/OUKAMA(N)12",
    "IBAN": "up to 33 letters and digits, from the country on",
    "EMAIL": "what an address may begin with",
}
FORM: Final = "1 to 128 characters, as the identifiers are written"

CLABE_DIGITS_MIN: Final = 3  # a bank
CLABE_DIGITS_MAX: Final = clabe.LENGTH - 1  # all of it is an alias, not a rule

_msisdn: Final = re.compile(r"[1-9][0-9]{0,14}").fullmatch
_digits: Final = re.compile(r"[0-9]+").fullmatch
_iban: Final = re.compile(r"[A-Z]|[A-Z]{2}[0-9]{0,2}|[A-Z]{2}[0-9]{2}[A-Z0-9]{1,29}").fullmatch
_mail: Final = re.compile(r"[a-z0-9._+-]+(?:@[a-z0-9.-]*)?").fullmatch
_nrc: Final = re.compile(
    r"(?:[1-9]|1[0-4])-(?:(?:(?!09)(?:[01][0-9A-F]|2[015])){3}-(?:[NEPTYS]-[0-9]{0,5})?)?"
).fullmatch
_nrc_state: Final = re.compile(r"([1-9]|1[0-4])[/\\-]?").fullmatch
_nrc_number: Final = re.compile(r"[0-9၀-၉]*\Z").search
_BURMESE_DIGITS: Final = "၀၁၂၃၄၅၆၇၈၉"
_TO_ASCII_DIGITS: Final = str.maketrans(_BURMESE_DIGITS, "0123456789")


def canonical_prefix(kind: str, text: str, *, clabe_only: bool = False, nrc_known: bool = True) -> tuple[str, str]:
    """Give PartyIdType and prefix, or raise BadIdentifier.  `clabe_only` and `nrc_known` as in `party_key`."""
    party_id_type = PARTY_ID_TYPES.get(kind)
    if party_id_type is None:
        raise BadIdentifier("unknown_kind")
    if kind == "CLABE" or (kind == "ACCOUNT_ID" and clabe_only):
        return party_id_type, _of_clabe(text)
    if kind == "NRC" and nrc_known:
        return party_id_type, _of_nrc(text)
    read = _READ.get(kind)
    return party_id_type, opaque.beginning(text, f"{kind} prefix") if read is None else read(text)


def prefixes_of(identifier: str) -> list[str]:
    """All that it begins with, itself included."""
    return [identifier[:length] for length in range(1, len(identifier) + 1)]


def beyond(prefix: str) -> str:
    """Above everything that begins with this prefix, by code points."""
    return prefix + "\U0010ffff"


def _of_clabe(text: str) -> str:
    digits = screened(text, "CLABE prefix").replace(" ", "").replace("-", "")
    if not _digits(digits):
        raise BadIdentifier("non_digit" if digits else "empty", "CLABE prefix")
    if not CLABE_DIGITS_MIN <= len(digits) <= CLABE_DIGITS_MAX:
        raise BadIdentifier("bad_length", "CLABE prefix")
    if digits.startswith("000"):
        raise BadIdentifier("bank_code_000", "CLABE prefix")
    return digits


def _of_msisdn(text: str) -> str:
    digits = screened(text, "MSISDN prefix").removeprefix("+").translate(str.maketrans("", "", " ().-"))
    if not _msisdn(digits):
        raise BadIdentifier("leading_zero" if digits.startswith("0") else "bad_structure", "MSISDN prefix")
    return digits


def _of_iban(text: str) -> str:
    written = screened(text, "IBAN prefix").replace(" ", "")
    if not written.isascii() or not _iban(written.upper()):
        raise BadIdentifier("bad_structure", "IBAN prefix")
    return written.upper()


def _of_mail(text: str) -> str:
    written = screened(text, "EMAIL prefix")
    if not written.isascii() or not _mail(written.lower()):
        raise BadIdentifier("bad_structure", "EMAIL prefix")
    return written.lower()


def _of_nrc(text: str) -> str:
    written = screened(text, "NRC prefix").strip()
    if _nrc(written.upper()):
        return written.upper()
    state = _nrc_state(written.translate(_TO_ASCII_DIGITS))
    if state:
        return f"{state[1]}-"
    readings = {reading for reading in (_to_township(written), _to_number(written)) if reading}
    if len(readings) != 1:  # none; or letters that are a township, and a shorter one with a type behind it
        raise BadIdentifier("bad_structure", "NRC prefix")
    return readings.pop()


def _to_township(written: str) -> str | None:
    """Made whole, and cut again behind the township."""
    whole = _whole(written.rstrip("/\\-") + "(N)000000")
    return whole and whole[: -len("N-000000")]


def _to_number(written: str) -> str | None:
    """Made whole with zeros, which are cut again."""
    number = _nrc_number(written)
    digits = number[0] if number else ""
    missing = nrc.NUMBER_DIGITS - len(digits)
    if missing <= 0:
        return None
    whole = _whole(written + (_BURMESE_DIGITS[0] if digits[-1:] in tuple(_BURMESE_DIGITS) else "0") * missing)
    return whole and whole[:-missing]


def _whole(text: str) -> str | None:
    try:
        return nrc.reading(text)
    except BadIdentifier:
        return None


_READ: Final = {"MSISDN": _of_msisdn, "IBAN": _of_iban, "EMAIL": _of_mail}
