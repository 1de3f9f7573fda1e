"""Text for people who open our CSV files in a spreadsheet.

A spreadsheet runs a cell that begins with one of these characters as a formula, which can send the table to somebody
else.  Quotes around the cell do not help.  Such a cell gets a `'` in front, and so does one that begins with `'`.  So
a person who removes one `'` from the front of a cell always gets the original text.
"""

from __future__ import annotations

from typing import Final

# The wide forms count as formulas, too, where Chinese, Japanese or Korean is set.
_FORMULA_BEGINS: Final = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20'")


def quote_formula(cell: str) -> str:
    """Return the text so that no spreadsheet runs it."""
    return "'" + cell if cell[:1] in _FORMULA_BEGINS else cell
