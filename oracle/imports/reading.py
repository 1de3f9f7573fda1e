"""Turns the bytes of an uploaded file into rows that are checked and in canonical form.

    reader = Reader(RowChecks(Reading.of(settings)))
    for data in upload:
        for chunk in reader.feed(data): ...
    for chunk in reader.finish(): ...

Each chunk has exactly `rows_per_chunk` rows, the last one fewer.  Chunks depend on the file alone, not on how it was
cut into `data`: a second reading of a file gives the same chunk under the same number.

The reader converts bytes to UTF-8 and collects them to a block that ends with a line.  It reads a block at once: by
splitting lines if the block contains no quote, else with the csv module in its strict form.  A faulty line never costs
another line.  If a quote is not closed within RECORD_LINES_MAX lines and LINE_MAX characters, the reader refuses the
line in which it opens, and goes on with the next line.  So it reads no line more often than that, however many quotes
are open.  It never keeps more than a block and a line in memory.

Excel leaves out the separators of empty last cells.  So a row can end early if it lacks optional columns only.  A last
row that ends early and has no line end is refused: it is more likely the place where the file was cut.
"""

import csv
import io
import json
import operator
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from oracle.identifiers import BadIdentifier
from oracle.identifiers.characters import name_character
from oracle.imports import csv_dialect
from oracle.imports.csv_dialect import FileHead, Format
from oracle.imports.encoding import Encoding, decode
from oracle.imports.refusals import (
    FIELD_MAX,
    LINE_MAX,
    RECORD_LINES_MAX,
    FileRefused,
    RowRefused,
    describe_length,
    suggest,
)
from oracle.imports.rows import (
    COLUMNS,
    REQUIRED,
    FileRow,
    RowChange,
    RowChecks,
    check_text,
    read_change,
    read_identifier,
    read_kind,
    refuse_identifier,
    refuse_row,
)

__all__ = ["Chunk", "FileRefused", "FileRow", "Format", "Reader", "RowChecks"]

ROWS_PER_CHUNK: Final = 10_000
ROWS_MAX: Final = 10_000_000
BLOCK_BYTES: Final = 256 * 1024


_CHANGES_MAX: Final = 4_096
_CHANGE_CHARACTERS_MAX: Final = 500  # of cells that are remembered: a file can pad each of them with a thousand spaces

_LINE_ENDS: Final = ("\n", "\r")

# Makes a row of known cells, in a third of the time that calling FileRow takes.
_make_row: Final[Callable[..., FileRow]] = tuple.__new__

_get_code: Final = operator.itemgetter(FileRow._fields.index("code"))

_decode_members: Final = msgspec.json.Decoder(dict[str, str]).decode


class Chunk(NamedTuple):
    number: int  # from 0
    rows: list[FileRow]  # good and refused ones, in the order of the file
    refused: int  # how many of them


class Reader:
    """Turns bytes into chunks.  Do not use it again after FileRefused."""

    def __init__(
        self,
        checks: RowChecks,
        *,
        file_format: Format | None = None,  # None: NDJSON if the first character is `{`, else CSV
        rows_per_chunk: int = ROWS_PER_CHUNK,
        rows_max: int = ROWS_MAX,
        block_bytes: int = BLOCK_BYTES,
        line_max: int = LINE_MAX,
    ) -> None:
        self.rows_read = 0
        self.rows_refused = 0
        self._checks = checks
        self._rows_per_chunk = rows_per_chunk
        self._rows_max = rows_max
        self._block_bytes = block_bytes
        self._line_max = line_max
        # A character has at most four bytes: a line with more bytes has more than `line_max` characters.
        self._line_bytes_max = 4 * line_max + len(b"\r")

        self._encoding = Encoding()
        self._buffer = bytearray()
        self._waiting = 0  # bytes of the buffer that cannot be read before more arrive
        self._skipping = False  # inside a line that is too long

        self._lines = 0  # lines read
        self._head = FileHead(file_format)
        self._delimiter = ""
        self._read_body: Callable[[str, bool], str] | None = None  # after the header
        self._columns: list[str] = []
        self._identifier_at = 0
        self._cells_min = 0  # as many as the required columns need
        self._changes: dict[tuple[object, ...], RowChange] = {}  # by the other cells, as they are in the line
        self._changes_of_quoted: dict[tuple[object, ...], RowChange] = {}  # by the same, without their quotes

        self._rows: list[FileRow] = []
        self._chunks = 0

    @property
    def file_format(self) -> Format | None:
        """None: not known yet."""
        return self._head.format

    def feed(self, data: bytes) -> list[Chunk]:
        """Read the next bytes, and return the chunks that are complete.  Raises FileRefused."""
        chunks: list[Chunk] = []
        for at in range(0, len(data), self._block_bytes):
            self._take(self._encoding.convert(data[at : at + self._block_bytes]))
            chunks += self._cut_chunks()
        return chunks

    def finish(self) -> list[Chunk]:
        """Read the end of the file, and return the last chunks.  Raises FileRefused."""
        self._take(self._encoding.convert(b"", final=True), final=True)
        chunks = self._cut_chunks()
        if self._rows:
            chunks.append(self._make_chunk(self._rows))
            self._rows = []
        if not self.rows_read:
            raise FileRefused("empty_file", "The file has no rows.", "Write one alias a line below the first line.")
        return chunks

    # Bytes --------------------------------------------------------------------------------------------------

    def _take(self, data: bytes, *, final: bool = False) -> None:
        self._buffer += data
        if not final and len(self._buffer) - self._waiting < self._block_bytes:
            return
        if self._skipping:
            self._skip(final=final)
        if not self._skipping:
            self._read(final=final)
        self._waiting = len(self._buffer)

    def _skip(self, *, final: bool) -> None:
        """Drop the rest of a line, including its end."""
        buffer = self._buffer
        ends = [at for at in (buffer.find(b"\n"), buffer.find(b"\r")) if at >= 0]
        if not ends:
            buffer.clear()
            return
        at = min(ends)
        if buffer[at] == ord("\r"):
            if at + 1 == len(buffer) and not final:
                del buffer[:at]  # a line feed may follow
                return
            at += buffer[at + 1 : at + 2] == b"\n"
        del buffer[: at + 1]
        self._lines += 1
        self._skipping = False

    def _read(self, *, final: bool) -> None:
        """Read all complete lines, and leave the rest in the buffer."""
        buffer = self._buffer
        # A carriage return at the very end can be half of a line's end.
        whole = max(buffer.rfind(b"\n"), buffer.rfind(b"\r", 0, max(len(buffer) - 1, 0))) + 1
        cut = len(buffer) if final else whole
        overlong = len(buffer) - cut > self._line_bytes_max
        text = decode(bytes(buffer[:cut]))
        rest = self._parse(text, final or overlong) if text else ""
        if overlong:
            if self._read_body is None:
                raise csv_dialect.make_overlong_header(self._line_max)
            self._refuse(self._lines + 1, _describe_overlong_line(self._line_max))
            self._skipping = True
            cut = len(buffer) - buffer.endswith(b"\r")
        buffer[:cut] = rest.encode("utf-8", "surrogateescape")

    # Text ---------------------------------------------------------------------------------------------------

    def _parse(self, text: str, closed: bool) -> str:
        """Read complete lines.  Return the last record if its quote is open and later lines can close it.

        No later lines can do so if `closed`.
        """
        if self._read_body is None:
            text = self._read_header(text)
        return self._read_body(text, closed) if self._read_body is not None and text else ""

    def _read_header(self, text: str) -> str:
        """Read the lines up to the header, choose how to read the body, and return the text of the body."""
        lines, head = io.StringIO(text, newline=""), self._head
        for line in lines:
            if not head.take(line, self._line_max):
                self._lines += 1
                continue
            if head.format == "ndjson":
                self._read_body = self._read_ndjson
                return line + lines.read()
            self._lines += 1
            self._delimiter, self._columns = head.delimiter, head.columns
            self._identifier_at = self._columns.index("identifier")
            self._cells_min = 1 + max(map(self._columns.index, REQUIRED))
            self._read_body = self._read_csv
            return lines.read()
        return ""

    def _read_csv(self, text: str, closed: bool) -> str:
        if '"' in text or self._head.kept is not None:
            return self._read_quoted(text, closed)
        delimiter, at, changes, rows = self._delimiter, self._identifier_at, self._changes, self._rows
        lines = _split(text)
        unended = None if text.endswith(_LINE_ENDS) else lines.pop()
        for number, line in enumerate(lines, self._lines + 1):
            parts: list[Any] = line.split(delimiter, at + 1)
            try:
                identifier = parts.pop(at)
                action, kind, party_id_type, sub_id, currency, ordinary, read, _ = changes[tuple(parts)]
                if ordinary(identifier):
                    entry = (number, action, kind, party_id_type, read(identifier), sub_id, currency, "", "")
                    rows.append(_make_row(FileRow, entry))
                    continue
            except BadIdentifier as exc:
                self._refuse_known(number, changes[tuple(parts)], identifier, exc, line.split(delimiter))
                continue
            except (IndexError, KeyError):
                if not line:
                    continue
            others = tuple(parts)
            known = changes.get(others)
            change = self._read_csv_row(number, line.split(delimiter), line, known)
            if change is not known and change is not None:
                _remember(changes, others, change)
        self._lines += len(lines)
        if unended is not None:
            self._lines += 1
            self._read_csv_row(self._lines, unended.split(delimiter), unended, has_end=False)
        return ""

    def _read_quoted(self, text: str, closed: bool) -> str:
        """Read lines, some of which contain quotes.  Return those that the next block can complete."""
        lines = list(io.StringIO(text, newline=""))
        at = 0
        while True:
            at, seen = self._read_records(lines, at)
            if at == len(lines):
                break
            if seen == len(lines) and not closed and sum(map(len, lines[at:])) <= self._line_max:
                break
            overlong = len(lines[at].rstrip("\r\n")) > self._line_max
            refusal = _describe_overlong_line(self._line_max) if overlong else self._describe_quotes(lines[at])
            self._refuse(self._lines + at + 1, refusal)
            at += 1
        self._lines += at
        return "".join(lines[at:])

    def _read_records(self, lines: list[str], at: int) -> tuple[int, int]:
        """Read records from line `at` on.  Return the line where the next record begins, and the line reached in it.

        The first is len(lines) at the end; else it is the line of a record that is broken, too long or incomplete.
        """
        changes, rows, position = self._changes_of_quoted, self._rows, self._identifier_at
        origin, line_max = at, self._line_max
        unended = 0 if lines[-1].endswith(_LINE_ENDS) else len(lines)  # where a record without a line end leads

        def yield_lines() -> Iterator[str]:
            """Yield the lines, and stop as if they ended when a record (which begins at `at`) has too many."""
            for number in range(origin, len(lines)):
                if number == at:
                    characters = 0
                characters += len(lines[number])
                if number > at and (number - at == RECORD_LINES_MAX or characters > line_max):
                    return
                yield lines[number]

        reader = csv.reader(yield_lines(), delimiter=self._delimiter, strict=True)
        records = reader if self._head.kept is None else map(self._head.drop_results, reader)
        try:
            for cells in records:
                line, at = at, origin + reader.line_num
                number = self._lines + line + 1
                others = (*cells[:position], *cells[position + 1 :])
                try:
                    action, kind, party_id_type, sub_id, currency, ordinary, read, _ = changes[others]
                    identifier = cells[position]
                    if ordinary(identifier) and at != unended:
                        entry = (number, action, kind, party_id_type, read(identifier), sub_id, currency, "", "")
                        rows.append(_make_row(FileRow, entry))
                        continue
                except BadIdentifier as exc:
                    self._refuse_known(number, changes[others], identifier, exc, cells)
                    continue
                except (IndexError, KeyError):
                    if not cells:
                        continue
                known = changes.get(others)
                change = self._read_csv_row(number, cells, lines[line], known, has_end=at != unended)
                if change is not known and change is not None:
                    _remember(changes, others, change)
        except csv.Error:
            return at, origin + reader.line_num
        return at, at

    def _read_ndjson(self, text: str, _closed: bool) -> str:
        changes, rows = self._changes, self._rows
        lines = _split(text)
        for number, line in enumerate(lines, self._lines + 1):
            others: tuple[object, ...] = ()
            try:
                members = _decode_members(line)
                # Four quotes for each member: no name occurs twice.  The decoder does not report that.
                if line.count('"') == 4 * len(members):
                    identifier = members.pop("identifier")
                    others = tuple(members.items())
                    action, kind, party_id_type, sub_id, currency, ordinary, read, _ = changes[others]
                    if ordinary(identifier):
                        entry = (number, action, kind, party_id_type, read(identifier), sub_id, currency, "", "")
                        rows.append(_make_row(FileRow, entry))
                        continue
            except (msgspec.DecodeError, RecursionError, UnicodeError, KeyError, BadIdentifier):
                pass
            change = self._read_ndjson_row(number, line)
            if change is not None and others:
                _remember(changes, others, change)
        self._lines += len(lines)
        return ""

    # Rows ---------------------------------------------------------------------------------------------------

    def _read_csv_row(
        self, number: int, cells: list[str], line: str, known: RowChange | None = None, *, has_end: bool = True
    ) -> RowChange | None:
        """Read a row the careful way.  Return its RowChange, or None if its other cells are bad or it is no row.

        `known`: the RowChange of its other cells, if they have been read.  An empty line is no row.
        """
        kind = ""
        try:
            if len(line.rstrip("\r\n")) > self._line_max:
                raise _describe_overlong_line(self._line_max)
            if not any(cell.strip() for cell in cells) and not self._head.is_result(line):
                return None
            for at, cell in enumerate(cells):
                if not cell.isascii() or "\0" in cell:
                    check_text(cell, f"cell {at + 1}")
            if len(cells) > len(self._columns):
                found = f"The row has {len(cells)} cells, and the first line names {len(self._columns)} columns"
                raise RowRefused("too_many_fields", found)
            if len(cells) < (self._cells_min if has_end else len(self._columns)):
                raise self._describe_short(cells, has_end=has_end)
            named = dict(zip(self._columns, cells, strict=False))
            kind = read_kind(named["kind"])
            return self._read_carefully(number, named, known)
        except RowRefused as exc:
            self._refuse(number, exc, kind)
            return None

    def _read_ndjson_row(self, number: int, line: str) -> RowChange | None:
        """Do the same as `_read_csv_row`."""
        kind = ""
        try:
            if len(line) > self._line_max:
                raise _describe_overlong_line(self._line_max)
            if not line.strip():
                return None
            check_text(line)
            named = _decode_carefully(line)
            kind = read_kind(named.get("kind", ""))
            return self._read_carefully(number, named)
        except RowRefused as exc:
            self._refuse(number, exc, kind)
            return None

    def _read_carefully(self, number: int, named: dict[str, str], known: RowChange | None = None) -> RowChange:
        for name, cell in named.items():
            if len(cell) > FIELD_MAX:
                raise RowRefused("too_long", describe_length(f"The {name}", cell, FIELD_MAX))
        kind, identifier, sub_id, currency, country, action = (named.get(column, "") for column in COLUMNS)
        change = known or read_change(self._checks, kind, sub_id, currency, country, action)
        try:
            found = read_identifier(change, identifier, country or self._checks.default_country or "")
        except RowRefused as exc:
            self._refuse(number, exc, change.kind)
            return change
        self._rows.append(
            FileRow(number, change.action, change.kind, change.party_id_type, found, change.sub_id, change.currency),
        )
        return change

    def _refuse_known(
        self, number: int, change: RowChange, identifier: str, exc: BadIdentifier, cells: list[str]
    ) -> None:
        """Refuse an ordinary identifier beside cells that are known: the careful way would say the same."""
        country = dict(zip(self._columns, cells, strict=False)).get("country") or self._checks.default_country or ""
        self._refuse(number, refuse_identifier(change, identifier, exc, country), change.kind)

    def _describe_quotes(self, line: str) -> RowRefused:
        """Say where the quotes of a line go wrong: a quoted cell begins and ends at a separator."""
        text, at, delimiter = line.rstrip("\r\n"), 0, self._delimiter
        while at < len(text):
            if text[at] != '"':
                at = text.find(delimiter, at) + 1 or len(text)
                continue
            opened, end = at, text.find('"', at + 1)
            while end >= 0 and text[end + 1 : end + 2] == '"':
                end = text.find('"', end + 2)
            if end < 0:
                return RowRefused("bad_quoting", f"The quote at character {opened + 1} of the line is not closed")
            if end + 1 < len(text) and text[end + 1] != delimiter:
                found = name_character(text[end + 1])
                return RowRefused("bad_quoting", f"Character {end + 2} of the line is {found}, after a closing quote")
            at = end + 2
        return RowRefused("bad_quoting")

    def _describe_short(self, cells: list[str], *, has_end: bool) -> RowRefused:
        count = f"{len(cells)} cell" if len(cells) == 1 else f"{len(cells)} cells"
        if not has_end:
            needed = f"this last row has no line break at its end, so all {len(self._columns)} are needed"
        else:
            needed = f"the column {self._columns[self._cells_min - 1]} is number {self._cells_min}"
        return RowRefused("too_few_fields", f"The row ends after {count}, and {needed}")

    def _refuse(self, number: int, refusal: RowRefused, kind: str = "") -> None:
        self._rows.append(refuse_row(number, refusal, kind))

    # Chunks -------------------------------------------------------------------------------------------------

    def _cut_chunks(self) -> list[Chunk]:
        size = self._rows_per_chunk
        self.rows_read = self._chunks * size + len(self._rows)
        if self.rows_read > self._rows_max:
            raise FileRefused(
                "too_many_rows", f"The file has more than {self._rows_max:,} rows.", "Divide it into several files."
            )
        chunks = []
        while len(self._rows) >= size:
            chunks.append(self._make_chunk(self._rows[:size]))
            del self._rows[:size]
        return chunks

    def _make_chunk(self, rows: list[FileRow]) -> Chunk:
        chunk = Chunk(self._chunks, rows, sum(map(bool, map(_get_code, rows))))
        self._chunks += 1
        self.rows_refused += chunk.refused
        return chunk


def _remember(changes: dict[tuple[object, ...], RowChange], cells: tuple[object, ...], change: RowChange) -> None:
    if len(str(cells)) > _CHANGE_CHARACTERS_MAX:
        return
    if len(changes) >= _CHANGES_MAX:  # for example, another SubId in every row
        changes.clear()
    changes[cells] = change


def _split(text: str) -> list[str]:
    """Split into lines as an editor does; str.splitlines would also split at form feeds and similar characters."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


class _Pairs(list[tuple[str, object]]):
    """The members of an object as they are written, so that a name that occurs twice is found."""


def _decode_carefully(line: str) -> dict[str, str]:
    try:
        # No number is allowed, and Python would need a long time to read a long one.
        pairs = json.loads(line, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number)
    except json.JSONDecodeError as exc:
        end = "The line ends too early to be a JSON object"
        where = f"Character {exc.pos + 1} cannot be there in a JSON object"
        raise RowRefused("bad_json", end if exc.pos >= len(line.rstrip()) else where) from None
    except (ValueError, RecursionError):
        raise RowRefused("bad_json") from None
    if not isinstance(pairs, _Pairs):
        raise RowRefused("bad_json", f"The line is {_name_value(pairs)}, and a JSON object is needed")
    named: dict[str, str] = {}
    seen = set()
    ignored = csv_dialect.RESULT_COLUMNS if csv_dialect.RESULT_SIGNS.issubset(name for name, _ in pairs) else ()
    for name, value in pairs:
        if name in ignored:
            continue
        if name not in COLUMNS:
            quoted = f' "{name}"' if csv_dialect.is_name(name) else ""
            raise RowRefused("unknown_member", f"The name{quoted} in the object is not known{suggest(name, COLUMNS)}")
        if name in seen:
            raise RowRefused("duplicate_member", f"The object has the name {name} twice")
        seen.add(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise RowRefused("not_text", f"The {name} is {_name_value(value)}, and text is needed")
        named[name] = value
    return named


def _name_value(value: object) -> str:
    if isinstance(value, _Pairs):
        return "an object"
    if isinstance(value, bool):
        return "true or false"
    return "a list" if isinstance(value, list) else "text" if isinstance(value, str) else "a number"


def _describe_overlong_line(line_max: int) -> RowRefused:
    return RowRefused("too_long", f"The line has more than {line_max:,} characters. Shorten it, or delete the row")


class _Number:
    """A number in a JSON line."""

    def __init__(self, _: str) -> None:
        pass
