"""Checks a file, or its first part, and stores nothing, so that people see the first mistakes before they upload it."""

from __future__ import annotations

from typing import NamedTuple

from oracle.imports.reading import FileRefused, Format, Reader, RowChecks
from oracle.imports.refusals import RECORD_LINES_MAX
from oracle.imports.rows import FileRow


class Checked(NamedTuple):
    file_format: Format
    rows: int
    refused: list[FileRow]  # in the order of the file
    failure: FileRefused | None  # why the file is refused as a whole


def check_file(data: bytes, checks: RowChecks, *, is_part: bool) -> Checked:
    """Read a file as an import reads it.

    `is_part`: the file goes on behind `data`.  Then the last lines are left out: the cut can go through a row, or
    through a value in quotes that covers several lines.
    """
    reader = Reader(checks)
    rows: list[FileRow] = []
    failure: FileRefused | None = None
    try:
        for chunk in (*reader.feed(data), *reader.finish()):
            rows += chunk.rows
    except FileRefused as exc:
        failure = exc
    if is_part and rows:
        last = rows[-1].line - RECORD_LINES_MAX
        rows = [row for row in rows if row.line <= last]
    return Checked(reader.file_format or "csv", len(rows), [row for row in rows if row.code], failure)
