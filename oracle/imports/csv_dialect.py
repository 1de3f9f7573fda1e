"""The first lines of a CSV file: the separator and the columns.

The separator is the one of comma, semicolon and tab that gives the most known column names, unless Excel's own `sep=;`
line comes first.  A header that cannot be understood refuses the whole file: a guessed column would store every row
under a wrong key.  The first line can be somebody's phone number instead of a header, so a message repeats a word of
it only if the word looks like a column name.
"""

import csv
import re
from typing import Final

from oracle.imports import cells
from oracle.imports.refusals import FileRefused
from oracle.imports.rows import COLUMNS, REQUIRED

DELIMITERS: Final = ",;\t"

_HINT: Final = f"Write the column names in the first line: {','.join(COLUMNS)}. Only kind and identifier are required."

_separator: Final = re.compile(r'"?sep=(.?)"?', re.IGNORECASE).fullmatch
_name: Final = re.compile(r"[a-z_ ]{1,32}").fullmatch


def read_separator(line: str) -> str:
    """Return the separator of a `sep=;` line; '' for any other line.  Raises FileRefused."""
    match = _separator(line.strip(" \r\n"))
    if match is None:
        return ""
    if not match[1] or match[1] not in DELIMITERS:
        raise FileRefused("bad_separator", "The separator after sep= cannot be used.", "Use , or ; or tab.")
    return match[1]


def read_header(line: str, delimiter: str) -> tuple[str, list[str]]:
    """Return the separator (found by trial if it is '') and the columns in their order.  Raises FileRefused."""
    if "\0" in line:
        raise FileRefused("not_text", "This is not a text file in UTF-8.", "Save it as CSV UTF-8.")
    delimiter = delimiter or max(DELIMITERS, key=lambda tried: len(_find_known(_read_names(line, tried))))
    names = _read_names(line, delimiter)
    if not names:
        raise FileRefused("bad_header", "The quotes in the first line do not match.", _HINT)
    if not _find_known(names):
        raise FileRefused("no_header", "The first line does not contain the column names.", _HINT)
    for position, name in enumerate(names, 1):
        if name in COLUMNS:
            continue
        if not name:
            raise FileRefused("unknown_column", f"Column {position} has no name in the first line.", _HINT)
        quoted = f'"{name}"' if _name(name) else "without a known name"
        raise FileRefused("unknown_column", f"Column {position} ({quoted}) is not known.", _HINT)
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise FileRefused("duplicate_column", f"The first line names the column {twice[0]} twice.", _HINT)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise FileRefused("missing_column", f"The column {missing[0]} is missing.", _HINT)
    return delimiter, names


def _read_names(line: str, delimiter: str) -> list[str]:
    """Return the names in the line, read with this separator; none if it cannot be read."""
    try:
        row = next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    return [cells.clean(cell).lower() for cell in row]


def _find_known(names: list[str]) -> set[str]:
    return set(names) & set(COLUMNS)
