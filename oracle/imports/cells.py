"""The damage that spreadsheets do to a cell: repaired if nothing is lost, recognised and refused otherwise.

Repaired:   spaces around, non-breaking spaces, `'` in front of a text, `="..."` around one.
Recognised: formulas, scientific notation, decimals, thousands separators, lost zeros and digits of a CLABE.  These are
            refused even if the kind's own grammar accepts them: `-5512345678` would be read as a phone
            number, and `5.5E+11` as an account.  The intended value is never guessed.
"""

import re
from typing import Final

from oracle.identifiers import Scheme, find_scheme
from oracle.imports.refusals import RowCode

_SPACES: Final = str.maketrans(dict.fromkeys("\u00a0\u202f\u2007", " "))
_AROUND: Final = " \t"

_as_formula_text: Final = re.compile(r'="([^"]*)"').fullmatch
_scientific: Final = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE]\+[0-9]{2,3}").fullmatch
_decimal: Final = re.compile(r"[0-9]+[.,]0{1,2}").fullmatch
_thousands: Final = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+").fullmatch


def clean(cell: str) -> str:
    """Return the cell without what spreadsheets and people put around the value."""
    text = cell.translate(_SPACES).strip(_AROUND)
    if text[:1] == "'":
        return text[1:].strip(_AROUND)
    wrapped = _as_formula_text(text)
    return wrapped[1].strip(_AROUND) if wrapped else text


def find_fault(text: str, kind: str = "") -> RowCode | None:
    """Name the damage to a cleaned cell: an identifier of this kind, or a SubId if there is no kind."""
    marks = find_scheme(kind).formula_marks if kind else Scheme.formula_marks
    if text[:1] and text[0] in marks:
        return "formula"
    if _scientific(text):
        return "scientific_notation"
    if _decimal(text):
        return "decimal_number"
    if _thousands(text):
        return "thousands_separator"
    return None
