"""Writes the results of rows beside the rows as they came, so that a person can correct them and upload them again.

CSV of CSV.        The columns of the result, then the columns of the file: its header, separator and byte order mark.
                   Cells that a spreadsheet would run or change get a `'` in front, which the reader removes again.
NDJSON of NDJSON.  The members of the result, then those of the object, spelled as they came.
The other two.     The columns of the file become members, or the members columns.
`row`              holds a row as it came if it does not fit into columns or members.

An upload ignores the columns of the result (`csv_dialect.RESULT_COLUMNS`).  So a row that nobody corrected is refused
again for its old reason.
"""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, Final, Protocol

import msgspec

from oracle.imports.cells import keep
from oracle.imports.chunks import Status
from oracle.imports.csv_dialect import RESULT_COLUMNS, RESULT_SIGNS
from oracle.imports.originals import Originals
from oracle.imports.rows import COLUMNS
from oracle.verifier.spreadsheet import quote_formula

# All but `row`, which only some files need.
_SHOWN: Final = RESULT_COLUMNS[:-1]
_NO_CELLS: Final = [""] * len(COLUMNS)
_OPEN: Final = "bad_quoting"  # of a row whose quotes do not match


class Result(msgspec.Struct, frozen=True):
    """The result of one row."""

    line: int  # where the row begins in the file
    status: Status
    code: str
    message: str
    canonical: str  # '' for a row that is not valid


class Writer(Protocol):
    def write_head(self) -> bytes: ...

    def write(self, results: Iterable[Result]) -> bytes: ...


def choose_writer(originals: Originals, file_format: str, form: str) -> Writer:
    """Return what writes results in this form; the file has `file_format`.  Both are csv or ndjson."""
    if form == "csv":
        return _CsvOfCsv(originals) if file_format == "csv" else _CsvOfNdjson(originals)
    return _NdjsonOfCsv(originals) if file_format == "csv" else _NdjsonOfNdjson(originals)


class _CsvOfCsv:
    def __init__(self, originals: Originals) -> None:
        self._originals = originals
        self._delimiter = originals.head.delimiter or ","

    def write_head(self) -> bytes:
        originals = self._originals
        head = originals.head
        separator = f"{head.separator_line}\r\n" if head.separator_line else ""
        header = [*_SHOWN, *(head.header or COLUMNS)]
        return originals.mark + self._encode(separator + _write_csv([header], self._delimiter))

    def write(self, results: Iterable[Result]) -> bytes:
        read = self._originals.read_cells
        rows = (
            (
                result.line, result.status, result.code, result.message, quote_formula(result.canonical),
                *map(keep, read(result.line, is_open=result.code == _OPEN)),
            )
            for result in results
        )  # fmt: skip
        return self._encode(_write_csv(rows, self._delimiter))

    def _encode(self, text: str) -> bytes:
        return text.encode(self._originals.encoding)


class _CsvOfNdjson:
    def __init__(self, originals: Originals) -> None:
        self._originals = originals

    def write_head(self) -> bytes:
        return _write_csv([[*RESULT_COLUMNS, *COLUMNS]]).encode()

    def write(self, results: Iterable[Result]) -> bytes:
        return _write_csv(map(self._make_row, results)).encode()

    def _make_row(self, result: Result) -> tuple[object, ...]:
        text = self._originals.read_text(result.line)
        cells = _read_cells(text)
        return (
            result.line, result.status, result.code, result.message, quote_formula(result.canonical),
            "" if cells else keep(text), *map(keep, cells or _NO_CELLS),
        )  # fmt: skip


class _NdjsonOfCsv:
    def __init__(self, originals: Originals) -> None:
        self._originals = originals

    def write_head(self) -> bytes:
        return b""

    def write(self, results: Iterable[Result]) -> bytes:
        return _encode_lines([self._make_members(result) for result in results])

    def _make_members(self, result: Result) -> dict[str, Any]:
        originals, columns = self._originals, self._originals.head.columns
        cells = originals.read_cells(result.line, is_open=result.code == _OPEN)
        members = msgspec.structs.asdict(result)
        if result.code == _OPEN or len(cells) > len(columns):
            return {**members, "row": originals.read_text(result.line)}
        return {**members, **dict(zip(columns, cells, strict=False))}


class _NdjsonOfNdjson:
    def __init__(self, originals: Originals) -> None:
        self._originals = originals

    def write_head(self) -> bytes:
        return b""

    def write(self, results: Iterable[Result]) -> bytes:
        return b"".join(map(self._make_line, results))

    def _make_line(self, result: Result) -> bytes:
        text = self._originals.read_text(result.line).strip()
        own = _take_members(text)
        row = b'"row":' + _encode(text) if own is None else own
        return _encode(result)[:-1] + (b"," if row else b"") + row + b"}\n"


_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines
_decode_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text: Final = msgspec.json.Decoder(dict[str, str | None]).decode


def _take_members(text: str) -> bytes | None:
    """Return the members of an object, spelled as they came, without those of an earlier result; None if it is none."""
    try:
        members = _decode_raw(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    if not members.keys() & set(RESULT_COLUMNS):
        return text[1:-1].strip().encode()
    if not members.keys() >= RESULT_SIGNS or _repeats_a_name(text):
        return None  # a member of its own has the name of one of ours, or members would be lost
    return b",".join(
        _encode(name) + b":" + bytes(value) for name, value in members.items() if name not in RESULT_COLUMNS
    )


def _read_cells(text: str) -> list[str]:
    """Return the members of an object, in the order of COLUMNS; none if columns cannot hold all of it."""
    try:
        members = _decode_text(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return []
    if members.keys() >= RESULT_SIGNS:
        members = {name: value for name, value in members.items() if name not in RESULT_COLUMNS}
    if not members.keys() <= set(COLUMNS) or _repeats_a_name(text):
        return []
    return [members.get(column) or "" for column in COLUMNS]


def _repeats_a_name(text: str) -> bool:
    """Whether an object has the same name twice: a decoder keeps the last one only."""
    try:
        names: list[str] = json.loads(text, object_pairs_hook=_list_names)
    except (ValueError, RecursionError):
        return True
    return len(names) != len(set(names))


def _list_names(pairs: list[tuple[str, object]]) -> list[str]:
    return [name for name, _ in pairs]


def _write_csv(rows: Iterable[Iterable[object]], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()
