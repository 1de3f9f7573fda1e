"""Identifiers in a file of any size: one a line, or a column of a CSV file.  The file is read as it is needed."""

from __future__ import annotations

import codecs
import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from oracle.commands.failures import CommandError

if TYPE_CHECKING:
    from typing import TextIO

COLUMN: Final = "identifier"
TABLES: Final = (".csv", ".tsv")  # files that are CSV also without --column

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DELIMITERS: Final = ",;\t"


def is_file_name(text: str) -> bool:
    """Whether a person who typed this among identifiers probably meant a file of them."""
    return text.lower().endswith((*TABLES, ".txt")) or os.path.isfile(text)  # noqa: PTH113 - any text


def read_identifiers(name: str, column: str | None) -> Iterator[str]:
    """Yield the identifiers of a file; `-` is stdin.  Raises CommandError, OSError."""
    with _open(name) as file:
        try:
            if column is None and not name.lower().endswith(TABLES):
                yield from _list_texts(file)
            else:
                yield from _list_texts(_read_column(file, name, column or COLUMN))
        except UnicodeDecodeError as exc:
            raise CommandError(f"{name}: this is not text in UTF-8", "Save the file as CSV UTF-8") from exc
        except csv.Error as exc:
            raise CommandError(f"{name}: the quotes of a line do not match", "Correct the file") from exc


def _list_texts(texts: Iterable[str]) -> Iterator[str]:
    stripped = map(str.strip, texts)
    return (text for text in stripped if text)


@contextmanager
def _open(name: str) -> Iterator[TextIO]:
    if name == "-":
        yield sys.stdin
        return
    with open(name, "rb") as file:  # noqa: PTH123 - as the name was typed
        yield _decode(file)


def _decode(file: io.BufferedReader) -> TextIO:
    """Excel writes a mark at the beginning, in UTF-8 and in UTF-16 (its `Unicode text`)."""
    encoding = "utf-16" if file.peek(2)[:2] in _UTF_16 else "utf-8-sig"
    return io.TextIOWrapper(file, encoding, newline="")


def _read_column(file: TextIO, name: str, column: str) -> Iterator[str]:
    from oracle.imports.cells import clean  # noqa: PLC0415 - imports as in cli

    first = file.readline()
    if first.strip().strip('"').lower().startswith("sep="):  # Excel's own line
        first = file.readline()
    for delimiter in _DELIMITERS:
        headings = [clean(cell).lower() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        if column.lower() in headings:
            break
    else:
        raise CommandError(
            f"{name}: the first line has no column {column}",
            "Write the names of the columns in the first line, and name the one to read with --column",
        )
    at = headings.index(column.lower())
    for cells in csv.reader(file, delimiter=delimiter):
        if len(cells) > at:
            yield clean(cells[at])
