"""The damage that spreadsheets and programs do to a cell: repaired if nothing is lost, else recognised and refused.

Repaired:   spaces around, non-breaking spaces, `'` in front of a text, `="..."` around one.  The results
            file of a batch has `'` in front of cells that a spreadsheet would change (`keep`).
Recognised: marks of a missing value, formulas, scientific notation, decimals, thousands separators, lost zeros and
            digits of a CLABE.  These are refused even if the kind's own grammar accepts them: `-5512345678` would be
            read as a phone number, `5.5E+11` as an account, `nan` as an alias.  The intended value is never guessed.

The admin API refuses marks and spoiled numbers, too, and route prefixes are checked like identifiers.  A hub is not: it
sends what a DFSP's own system holds.
"""

import re
from typing import Final

from oracle.identifiers import FORMULA_MARKS, find_scheme
from oracle.imports.refusals import RowCode
from oracle.verifier.spreadsheet import quote_formula

_SPACES: Final = str.maketrans(dict.fromkeys("\u00a0\u202f\u2007", " "))
_AROUND: Final = " \t"

_as_formula_text: Final = re.compile(r'="([^"]*)"').fullmatch

# What programs write in place of a value that is not there, in any case.
MARKS: Final = frozenset(
    {
        *("nan", "-nan", "+nan", "none", "null", "nil", "undefined", "<na>", "<null>", "<none>", "(null)", "(none)"),
        *("(nil)", "[null]", "\\n", "n/a", "n.a.", "n.a", "#na", "#n/a", "#n/d"),
    }
)
# Of R and of pandas.  In another case they can be somebody's alias.  As a country NA is Namibia.
EXACT_MARKS: Final = frozenset({"NA", "NaT"})
# Dashes and the like, and the errors of Excel (in English and Spanish) and LibreOffice.
_looks_empty: Final = re.compile(
    r"[-\u2013\u2014]+|[#?.]+|#[\u00a1\u00bf]?\w+(?:/0)?[!?]|#GETTING_DATA|Err:[0-9]{3}", re.IGNORECASE
).fullmatch

# A mantissa with a decimal point and any exponent: 1.23457e17, 1,23457E+017, 1.2E-5.  An integer only with E+, because
# 12E5 and 219E01BE are identifiers.  A power of ten, as 1.23457×10^17, 1.23457*10**17, 1.23457·10¹⁷.
_scientific: Final = re.compile(
    r"""[+-]? (?: [0-9]+[.,][0-9]* | [.,][0-9]+ ) [ ]? e [ ]? [+\u2212-]? [0-9]+
      | [+-]? [0-9]+ e \+ [0-9]{1,3}
      | [+-]? [0-9]* [.,]? [0-9]+ [ ]? [x*\u00d7\u00b7\u22c5] [ ]? 10 [ ]?
        (?: (?: \^ | \*\* ) [ ]? \(? [+\u2212-]? [0-9]+ \)? | [\u207a\u207b]? [\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+ )
    """,
    re.IGNORECASE | re.VERBOSE,
).fullmatch
# Up to two zeros as spreadsheets show them; six and more as printf and databases do.  Between them, `12345.0001` and
# `12345.000` are accounts with a suffix.
_decimal: Final = re.compile(r"[0-9]+[.,](?:0{1,2}|0{6,})").fullmatch
# 1,234,567 and 1'234'567, with decimals or without; 12,34,567; 1.234.567,00 and 1 234 567,00.  Groups between dots or
# spaces alone are how people write phone numbers and identity cards, and lose nothing.
_thousands: Final = re.compile(
    r"[0-9]{1,3}([,'\u2019\u02bc`\u00b4])[0-9]{3}(?:\1[0-9]{3})*(?:\.[0-9]+)?"
    r"|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?"
    r"|[0-9]{1,3}(?:[. ][0-9]{3})+,[0-9]{1,2}"
).fullmatch


def clean(cell: str) -> str:
    """Return the cell without what spreadsheets and people put around the value."""
    text = cell.translate(_SPACES).strip(_AROUND)
    if text[:1] == "'":
        text = text[1:].strip(_AROUND)
    wrapped = _as_formula_text(text)
    return wrapped[1].strip(_AROUND) if wrapped else text


# Numbers, dates and times as a spreadsheet takes them, except a whole number of up to 11 digits.  It shows a longer one
# as 5.25512E+11 and saves it so, drops leading zeros and those after a decimal point, and keeps 15 digits.
_looks_like_number: Final = re.compile(r"(?!(?:0|[1-9][0-9]{0,10})\Z)[0-9][0-9.,:/eE+%-]*").fullmatch


def keep(cell: str) -> str:
    """Return a cell of an uploaded file so that a spreadsheet neither runs nor changes it, and `clean` reads the same.

    A cell that begins with `'` is safe as it is; a second one would become part of the value.
    """
    if not cell or cell.lstrip()[:1] == "'":
        return cell
    return "'" + cell if _looks_like_number(cell) else quote_formula(cell)


def is_mark(text: str) -> bool:
    """Whether a cleaned cell is a mark of a missing value, as `nan`, `NULL` or `#N/A`."""
    return text.lower() in MARKS or text in EXACT_MARKS or _looks_empty(text) is not None


def find_fault(text: str, kind: str = "") -> RowCode | None:
    """Name the damage to a cleaned cell: an identifier of this kind, or a SubId if there is no kind."""
    if is_mark(text):
        return "missing_value_mark"
    marks = find_scheme(kind).formula_marks if kind else FORMULA_MARKS
    if text[:1] and text[0] in marks:
        return "formula"
    return find_spoiled_number(text)


def find_damage(text: str) -> RowCode | None:
    """Name a mark of a missing value or a spoiled number, in a text from any source; None if it is neither."""
    cleaned = clean(text)
    return "missing_value_mark" if is_mark(cleaned) else find_spoiled_number(cleaned)


def find_spoiled_number(text: str) -> RowCode | None:
    """Name what a program did to the digits of a number, or None."""
    if _scientific(text):
        return "scientific_notation"
    if _decimal(text):
        return "decimal_number"
    if _thousands(text):
        return "thousands_separator"
    return None
