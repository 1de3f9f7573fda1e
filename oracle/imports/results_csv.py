"""The results file: one line per row of the uploaded file, in its order.

It is opened in spreadsheets, which run what begins with = + - @ or a tab as a formula.  Such a cell gets a `'` in
front, which reading takes off again.
"""

import csv
import io
from collections.abc import Iterable
from typing import Final

COLUMNS: Final = ("line", "status", "code", "message", "kind", "identifier")
_FORMULA_BEGINS: Final = frozenset("=+-@\t\r")


def header() -> bytes:
    return ",".join(COLUMNS).encode() + b"\r\n"


def lines(results: Iterable[tuple[int, str, str, str, str, str]]) -> bytes:
    """Write results (as COLUMNS); the identifier is the canonical form, '' where there is none."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        (line, status, code, message, kind, safe(identifier))
        for line, status, code, message, kind, identifier in results
    )
    return text.getvalue().encode()


def safe(cell: str) -> str:
    return "'" + cell if cell[:1] in _FORMULA_BEGINS else cell
