"""The first lines of a file: its format, and for CSV the separator and the columns.

The separator is the one of comma, semicolon and tab that gives the most known column names, unless Excel's own `sep=;`
line comes first.  A header that cannot be understood refuses the whole file: a guessed column would store every row
under a wrong key.  The first line can be somebody's phone number instead of a header, so a message repeats a word of
it only if the word looks like a column name.

Results.  The results file of a batch holds the rows as they came, behind columns with the result of each.  People
correct such a file and upload it again, so a file with the columns `line` and `message` is a results file, and its
RESULT_COLUMNS are ignored.  In any other file they are unknown columns: a file whose `status` says "closed" must not
register its rows as if it did not.  The same holds for the members of an NDJSON row.
"""

import csv
import re
from itertools import chain, compress, repeat
from typing import Final, Literal

from oracle.imports import cells
from oracle.imports.refusals import FileRefused
from oracle.imports.rows import COLUMNS, REQUIRED

Format = Literal["csv", "ndjson"]

DELIMITERS: Final = ",;\t"

# Of a results file.  `canonical` is the identifier as it is stored; `row` is a row that does not fit into columns.
RESULT_COLUMNS: Final = ("line", "status", "code", "message", "canonical", "row")
RESULT_SIGNS: Final = frozenset({"line", "message"})

_HINT: Final = f"Write the column names in the first line: {','.join(COLUMNS)}. Only kind and identifier are required."

_RESULTS_HINT: Final = (
    f"Only a results file has it: keep its columns line and message, or delete its columns {', '.join(RESULT_COLUMNS)}."
)

_separator: Final = re.compile(r'"?sep=(.?)"?', re.IGNORECASE).fullmatch
is_name: Final = re.compile(r"[a-z_ ]{1,32}").fullmatch


def read_separator(line: str) -> str:
    """Return the separator of a `sep=;` line; '' for any other line.  Raises FileRefused."""
    match = _separator(line.strip(" \r\n"))
    if match is None:
        return ""
    if not match[1] or match[1] not in DELIMITERS:
        raise FileRefused("bad_separator", "The separator after sep= cannot be used.", "Use , or ; or tab.")
    return match[1]


class FileHead:
    """The lines of a file up to the first row: feed each to `take`."""

    def __init__(self, file_format: Format | None = None) -> None:
        self.format = file_format  # None: not known yet
        self.separator_line = ""  # `sep=;`, as it came, if there is one
        self.delimiter = ""
        self.header: list[str] = []  # of the columns that are read, as they came
        self.columns: list[str] = []  # their names
        self.kept: list[bool] | None = None  # which columns are read; None: all of them

    def take(self, line: str, line_max: int) -> bool:
        """Read the next line.  Return whether the rows begin: with it in NDJSON, after it in CSV.

        Raises FileRefused.
        """
        if len(line.rstrip("\r\n")) > line_max:
            raise make_overlong_header(line_max)
        stripped = line.strip()
        if not stripped:
            return False
        self.format = self.format or ("ndjson" if stripped[0] in "{[" else "csv")
        if self.format == "ndjson":
            if stripped[0] != "{":
                raise FileRefused(
                    "not_ndjson", "The first line is not a JSON object.", "Write one object on each line."
                )
            return True
        if not self.delimiter:
            self.delimiter = read_separator(line)
            if self.delimiter:
                self.separator_line = line.rstrip("\r\n")
                return False
        self._read_header(line.rstrip("\r\n"))
        return True

    def drop_results(self, record: list[str]) -> list[str]:
        """Return the cells of the columns that are read, and any beyond the last column."""
        return record if self.kept is None else list(compress(record, chain(self.kept, repeat(True))))

    def is_result(self, line: str) -> bool:
        """Whether a line has the result of a row, even if nothing is left of the row itself."""
        return self.kept is not None and bool(line.replace(self.delimiter, "").strip())

    def _read_header(self, line: str) -> None:
        if "\0" in line:
            raise FileRefused("not_text", "This is not a text file in UTF-8.", "Save it as CSV UTF-8.")
        delimiter = self.delimiter or max(DELIMITERS, key=lambda tried: len(_find_known(_read_names(line, tried))))
        header = _read_cells(line, delimiter)
        names = _read_names(line, delimiter)
        if not names:
            raise FileRefused("bad_header", "The quotes in the first line do not match.", _HINT)
        if not _find_known(names):
            raise FileRefused("no_header", "The first line does not contain the column names.", _HINT)
        if set(names) >= RESULT_SIGNS:
            self.kept = [name not in RESULT_COLUMNS for name in names]
        self.delimiter, self.header, self.columns = delimiter, self.drop_results(header), self.drop_results(names)
        _require_columns(names, self.columns)


def make_overlong_header(line_max: int) -> FileRefused:
    message = f"The first line is longer than {line_max:,} characters."
    return FileRefused("no_header", message, "Check that it is a CSV or NDJSON file.")


def _require_columns(names: list[str], columns: list[str]) -> None:
    for position, name in enumerate(names, 1):
        if name in COLUMNS or name not in columns:
            continue
        if not name:
            raise FileRefused("unknown_column", f"Column {position} has no name in the first line.", _HINT)
        if name in RESULT_COLUMNS:
            raise FileRefused("unknown_column", f'Column {position} ("{name}") is not known.', _RESULTS_HINT)
        quoted = f'"{name}"' if is_name(name) else "without a known name"
        raise FileRefused("unknown_column", f"Column {position} ({quoted}) is not known.", _HINT)
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise FileRefused("duplicate_column", f"The first line names the column {twice[0]} twice.", _HINT)
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise FileRefused("missing_column", f"The column {missing[0]} is missing.", _HINT)


def _read_cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of the line, read with this separator; none if it cannot be read."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        return []


def _read_names(line: str, delimiter: str) -> list[str]:
    return [cells.clean(cell).lower() for cell in _read_cells(line, delimiter)]


def _find_known(names: list[str]) -> set[str]:
    return set(names) & set(COLUMNS)
