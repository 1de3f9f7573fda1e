"""The first lines of a CSV file: which separator, which columns.

The separator is the one of , ; and tab with which the header line names most columns, unless Excel's own `sep=;` stands
before it.  A header that is not understood refuses the whole file: guessing a column would put every row of it under a
wrong key.  It may be no header at all but somebody's phone number, so its words are repeated only where they can be
nothing but a name.
"""

import csv
import re
from typing import Final

from oracle.imports import cells
from oracle.imports.refusals import FileRefused
from oracle.imports.rows import COLUMNS, REQUIRED

DELIMITERS: Final = ",;\t"

_HINT: Final = f"Name the columns in the first line: {','.join(COLUMNS)}; all but kind and identifier may be left out."

_separator: Final = re.compile(r'"?sep=(.?)"?', re.IGNORECASE).fullmatch
_name: Final = re.compile(r"[a-z_ ]{1,32}").fullmatch


def separator_named(line: str) -> str:
    """Give the separator of a `sep=;` line; '' where this is another line."""
    match = _separator(line.strip(" \r\n"))
    if match is None:
        return ""
    if not match[1] or match[1] not in DELIMITERS:
        raise FileRefused("bad_separator", "The separator after sep= cannot be used.", "Use , or ; or tab.")
    return match[1]


def header(line: str, delimiter: str) -> tuple[str, list[str]]:
    """Give the separator, tried out where it is '', and the columns in their order, or raise FileRefused."""
    if "\0" in line:
        raise FileRefused("not_text", "This is not a text file in UTF-8.", "Save it as CSV UTF-8.")
    delimiter = delimiter or max(DELIMITERS, key=lambda tried: len(_known(_names(line, tried))))
    names = _names(line, delimiter)
    if not names:
        raise FileRefused("bad_header", "The quotes in the first line do not match.", _HINT)
    if not _known(names):
        raise FileRefused("no_header", "The first line does not name the columns.", _HINT)
    for position, name in enumerate(names, 1):
        if name in COLUMNS:
            continue
        if not name:
            raise FileRefused("unknown_column", f"Column {position} has no name in the first line.", _HINT)
        shown = f'"{name}"' if _name(name) else "without a known name"
        raise FileRefused("unknown_column", f"Column {position} ({shown}) is not known.", _HINT)
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise FileRefused("duplicate_column", f"The first line names the column {twice[0]} twice.", _HINT)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise FileRefused("missing_column", f"The column {missing[0]} is missing.", _HINT)
    return delimiter, names


def _names(line: str, delimiter: str) -> list[str]:
    """Read the line with this separator; none where that cannot be done."""
    try:
        row = next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    return [cells.clean(cell).lower() for cell in row]


def _known(names: list[str]) -> set[str]:
    return set(names) & set(COLUMNS)
