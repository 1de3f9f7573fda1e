"""What spreadsheets do to a cell: undone where nothing is lost, recognised where something is.

Undone:     spaces around, non-breaking spaces, `'` in front of a text, `="..."` around one.
Recognised: formulas, scientific notation, decimals, thousands separators, lost zeros and digits of a CLABE.  Those are
            refused even where the kind's own grammar would let them pass: `-5512345678` would be read as a phone
            number, and `5.5E+11` as an account.  What was meant is never guessed.
"""

import re
from typing import Final

from oracle.identifiers import BadIdentifier, canonical, clabe
from oracle.imports.refusals import RowCode

_SPACES: Final = str.maketrans(dict.fromkeys("\u00a0\u202f\u2007", " "))
_AROUND: Final = " \t"

_as_formula_text: Final = re.compile(r'="([^"]*)"').fullmatch
_scientific: Final = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE]\+[0-9]{2,3}").fullmatch
_decimal: Final = re.compile(r"[0-9]+[.,]0{1,2}").fullmatch
_thousands: Final = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+").fullmatch

# What a formula begins with, and a value of the kind does not.
_FORMULA_BEGINS: Final = "=+-@"
_FORMULA_BEGINS_BY_KIND: Final = {"MSISDN": "=-@", "EMAIL": "=", "ALIAS": "=+-"}


def cleaned(cell: str) -> str:
    text = cell.translate(_SPACES).strip(_AROUND)
    if text[:1] == "'":
        return text[1:].strip(_AROUND)
    wrapped = _as_formula_text(text)
    return wrapped[1].strip(_AROUND) if wrapped else text


def fault(text: str, kind: str = "") -> RowCode | None:
    """Name what happened to this cleaned cell, of an identifier of this kind or of a SubId."""
    if text[:1] and text[0] in _FORMULA_BEGINS_BY_KIND.get(kind, _FORMULA_BEGINS):
        return "formula"
    if _scientific(text):
        return "scientific_notation"
    if _decimal(text):
        return "decimal_number"
    if _thousands(text):
        return "thousands_separator"
    return None


def clabe_fault(text: str) -> RowCode | None:
    """Name what a spreadsheet did to a refused CLABE, if it looks so."""
    digits = text.translate(str.maketrans("", "", " -"))
    if not (digits.isascii() and digits.isdigit()):
        return None
    if len(digits) == clabe.LENGTH:
        return "digits_lost" if digits.endswith("000") and not digits.startswith("000") else None
    # No bank has the code 000: two zeros in front are the most that can be lost.
    if len(digits) in {clabe.LENGTH - 1, clabe.LENGTH - 2} and _is_clabe(digits.zfill(clabe.LENGTH)):
        return "leading_zero_lost"
    return None


def _is_clabe(digits: str) -> bool:
    try:
        canonical("CLABE", digits)
    except BadIdentifier:
        return False
    return True
