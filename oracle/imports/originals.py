"""The rows of an uploaded file as they came, found by their lines while the results of the batch are sent.

The file is read again, part by part, beside the chunks: to keep the cells of every row with its result would double
what the database stores and slow every import down.  Lines are numbered as the reader numbers them.  In memory are one
part of the file, and of a line at most LINE_MAX characters.
"""

from __future__ import annotations

import asyncio
import csv
import io
import zlib
from typing import Final

from oracle.imports.csv_dialect import FileHead
from oracle.imports.encoding import Encoding, decode
from oracle.imports.refusals import LINE_MAX, RECORD_LINES_MAX, FileRefused
from oracle.store.postgres import Postgres

# As `reading` counts: a line with more bytes has more characters than LINE_MAX.
_LINE_BYTES_MAX: Final = 4 * LINE_MAX + len(b"\r")


class Lines:
    """Cuts the bytes of a file into lines with their ends."""

    def __init__(self, line_max: int = LINE_MAX) -> None:
        self.first = 1  # the number of the first line in `lines`
        self.lines: list[str] = []
        self.encoding = Encoding()
        self.is_end = False
        self._line_max = line_max
        self._rest = bytearray()  # the beginning of a line
        self._skipping = False  # inside a line whose first characters are in `lines`

    def feed(self, data: bytes | None) -> None:
        """Read the next bytes; None: the end of the file."""
        rest, self.is_end = self._rest, data is None
        try:
            rest += self.encoding.convert(data or b"", final=data is None)
        except FileRefused:
            self.is_end = True  # such a file has no rows
        # A carriage return at the very end can be half of a line's end.
        whole = max(rest.rfind(b"\n"), rest.rfind(b"\r", 0, max(len(rest) - 1, 0))) + 1
        cut = len(rest) if self.is_end else whole
        if cut:
            self._add(decode(bytes(rest[:cut])))
            del rest[:cut]
        if len(rest) > 4 * self._line_max + 1:
            if not self._skipping:
                self.lines.append(decode(bytes(rest[: 4 * self._line_max]))[: self._line_max])
                self._skipping = True
            del rest[: len(rest) - rest.endswith(b"\r")]

    def _add(self, text: str) -> None:
        found = list(io.StringIO(text, newline=""))
        if self._skipping:
            del found[0]
            self._skipping = False
        if len(text) > self._line_max:
            found = [line if len(line) <= self._line_max else line[: self._line_max] for line in found]
        self.lines += found

    def drop_before(self, number: int) -> None:
        count = min(max(number - self.first, 0), len(self.lines))
        del self.lines[:count]
        self.first += count

    @property
    def end(self) -> int:
        """The number of the line after the last one in `lines`."""
        return self.first + len(self.lines)


class Originals:
    """The rows of one file, in its order: open it, then fetch each line before you read the row that begins there."""

    def __init__(self, postgres: Postgres, batch_id: int) -> None:
        self.head = FileHead()
        self._postgres = postgres
        self._batch_id = batch_id
        self._part = 0
        self._lines = Lines()

    @property
    def mark(self) -> bytes:
        """The byte order mark of the file."""
        return self._lines.encoding.mark

    @property
    def encoding(self) -> str:
        return self._lines.encoding.name

    async def open(self) -> None:
        """Read the first lines.  The head of a file that was refused as a whole can be empty.

        Raises DirectoryUnavailable.
        """
        number = 1
        while not self._lines.is_end or number < self._lines.end:
            if number == self._lines.end:
                await self._take_part()
                continue
            line = self._lines.lines[number - self._lines.first]
            number += 1
            try:
                if self.head.take(line, LINE_MAX):
                    return
            except FileRefused:
                return

    async def fetch(self, number: int) -> None:
        """Read on until the record that begins at this line is there, if it is in the file at all.

        Raises DirectoryUnavailable.
        """
        while not self.has(number):
            self._lines.drop_before(number)
            await self._take_part()

    def has(self, number: int) -> bool:
        """Whether the whole record that begins at this line is there."""
        return self._lines.is_end or number + RECORD_LINES_MAX <= self._lines.end

    async def _take_part(self) -> None:
        row = await self._postgres.row("batch_part", self._batch_id, self._part)
        self._part += 1
        await asyncio.to_thread(self._feed, None if row is None else row["data"])

    def _feed(self, packed: bytes | None) -> None:
        try:
            self._lines.feed(None if packed is None else zlib.decompress(packed))
        except zlib.error:
            self._lines.feed(None)  # a damaged file: the rows after it were not read

    # After `fetch` -------------------------------------------------------------------------------------------

    def read_text(self, number: int) -> str:
        """Return the line, without its end; '' for one that is not in the file.

        Characters that the encoding of the file spoiled are U+FFFD.
        """
        at = number - self._lines.first
        return _repair(self._lines.lines[at]).rstrip("\r\n") if 0 <= at < len(self._lines.lines) else ""

    def read_cells(self, number: int, *, is_open: bool) -> list[str]:
        """Return the cells of the record that begins at this line of a CSV file, without columns of results.

        `is_open`: its quotes do not match.  The cells of such a row, and of one that is too long, keep their quotes.
        """
        at, delimiter = number - self._lines.first, self.head.delimiter or ","
        lines = self._lines.lines[at : at + RECORD_LINES_MAX] if at >= 0 else []
        if not lines:
            return []
        if '"' in lines[0] and not is_open and len(lines[0]) < LINE_MAX:
            try:
                return self.head.drop_results(next(csv.reader(map(_repair, lines), delimiter=delimiter, strict=True)))
            except (csv.Error, StopIteration):
                pass
        return self.head.drop_results(_repair(lines[0]).rstrip("\r\n").split(delimiter))


def _repair(text: str) -> str:
    """Replace surrogates, which no file can hold, by U+FFFD: an upload refuses both as `bad_encoding`."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape" if _is_escaped(text) else "replace").decode("utf-8", "replace")
    return text


def _is_escaped(text: str) -> bool:
    return all(not "\ud800" <= character <= "\udfff" or "\udc80" <= character <= "\udcff" for character in text)
