"""The results file as CSV: one line for each row of the uploaded file, in its order.

An identifier that a spreadsheet would run gets a `'` in front, which the reader of import files removes again.
"""

import csv
import io
from collections.abc import Iterable
from typing import Final

from oracle.verifier.spreadsheet import quote_formula

COLUMNS: Final = ("line", "status", "code", "message", "kind", "identifier")


def write_header() -> bytes:
    return ",".join(COLUMNS).encode() + b"\r\n"


def write_lines(results: Iterable[tuple[int, str, str, str, str, str]]) -> bytes:
    """Write results, in the order of COLUMNS.  The identifier is the canonical form; '' for none."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        (line, status, code, message, kind, quote_formula(identifier))
        for line, status, code, message, kind, identifier in results
    )
    return text.getvalue().encode()
