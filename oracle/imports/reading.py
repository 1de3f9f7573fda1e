"""From the bytes of an uploaded file to rows that are read, checked and in canonical form.

    reader = Reader(RowChecks(Reading.of(settings)))
    for data in upload:
        for chunk in reader.feed(data): ...
    for chunk in reader.finish(): ...

Chunks hold exactly `rows_per_chunk` rows, the last one what is left.  They depend on the file alone, not on how it was
cut into `data`: who reads a file again gets the same chunk under the same number.

Bytes come in, are brought to UTF-8, and pile up to a block that ends with a line.  A block is read at once: without a
quote in it by splitting lines, with one by the csv module in its strict form.  What is wrong with one line never takes
another with it: a quote that is not closed within RECORD_LINES_MAX lines and LINE_MAX characters refuses the line it
opens in, and reading goes on with the next line.  So no line is looked at more often than that, however many quotes are
left open.  Nothing longer than a block and a line is ever held.
"""

import codecs
import csv
import io
import json
import operator
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

import msgspec

from oracle.identifiers import BadIdentifier
from oracle.imports import csv_dialect
from oracle.imports.refusals import FIELD_MAX, LINE_MAX, RECORD_LINES_MAX, FileRefused, RowRefused
from oracle.imports.rows import (
    COLUMNS,
    FileRow,
    RowChange,
    RowChecks,
    check_text,
    read_change,
    read_identifier,
    read_kind,
    refuse_row,
)

__all__ = ["Chunk", "FileRefused", "FileRow", "Format", "Reader", "RowChecks"]

Format = Literal["csv", "ndjson"]

ROWS_PER_CHUNK: Final = 10_000
ROWS_MAX: Final = 10_000_000
BLOCK_BYTES: Final = 256 * 1024

# A character is at most four bytes: what is longer than this is longer than LINE_MAX.
_LINE_BYTES_MAX: Final = 4 * LINE_MAX + len(b"\r")
_PLANS_MAX: Final = 4_096
_PLAN_CHARACTERS_MAX: Final = 500  # of cells that are remembered: a file may pad each of them with a thousand spaces
_SIGNATURE_BYTES: Final = 4

_SIGNATURES: Final = {
    b"PK\x03\x04": "This is an Excel workbook or a ZIP archive.",
    b"\xd0\xcf\x11\xe0": "This is an Excel workbook.",
    b"\x1f\x8b": "This file is compressed.",
    b"\xff\xfe\0\0": "This file is UTF-32.",
}

# What a row of known cells is made with: a third of the time that calling FileRow takes.
_row: Final[Callable[..., FileRow]] = tuple.__new__

_code_of: Final = operator.itemgetter(FileRow._fields.index("code"))

_members: Final = msgspec.json.Decoder(dict[str, str]).decode


class Chunk(NamedTuple):
    number: int  # from 0
    rows: list[FileRow]  # good and refused ones, in the order of the file
    refused: int  # how many of them


class Reader:
    """Push bytes in, take chunks out.  After FileRefused it is of no more use."""

    def __init__(
        self,
        checks: RowChecks,
        *,
        file_format: Format | None = None,  # None: as the first character says, `{` being NDJSON
        rows_per_chunk: int = ROWS_PER_CHUNK,
        rows_max: int = ROWS_MAX,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.rows_read = 0
        self.rows_refused = 0
        self._checks = checks
        self._rows_per_chunk = rows_per_chunk
        self._rows_max = rows_max
        self._block_bytes = block_bytes

        self._start: bytearray | None = bytearray()  # until the byte order mark, if any, is known
        self._utf16: codecs.IncrementalDecoder | None = None
        self._buffer = bytearray()
        self._waiting = 0  # bytes of the buffer that cannot be read before more come
        self._skipping = False  # the rest of a line that is too long

        self._lines = 0  # lines read
        self._format = file_format
        self._delimiter = ""
        self._body: Callable[[str, bool], str] | None = None  # after the header
        self._columns: list[str] = []
        self._identifier_at = 0
        self._plans: dict[tuple[object, ...], RowChange] = {}  # by the other cells, as the line has them
        self._plans_of_quoted: dict[tuple[object, ...], RowChange] = {}  # the same, unquoted

        self._rows: list[FileRow] = []
        self._chunks = 0

    def feed(self, data: bytes) -> list[Chunk]:
        """Take the next bytes; may raise FileRefused."""
        chunks: list[Chunk] = []
        for at in range(0, len(data), self._block_bytes):
            self._take(self._as_utf8(data[at : at + self._block_bytes]))
            chunks += self._full_chunks()
        return chunks

    def finish(self) -> list[Chunk]:
        """Say that the file has ended; may raise FileRefused."""
        self._take(self._as_utf8(b"", final=True), final=True)
        chunks = self._full_chunks()
        if self._rows:
            chunks.append(self._chunk(self._rows))
            self._rows = []
        if not self.rows_read:
            raise FileRefused("empty_file", "The file has no rows.")
        return chunks

    # Bytes --------------------------------------------------------------------------------------------------

    def _as_utf8(self, data: bytes, *, final: bool = False) -> bytes:
        if self._start is not None:
            self._start += data
            if len(self._start) < _SIGNATURE_BYTES and not final:
                return b""
            data, self._start = bytes(self._start), None
            data = self._without_mark(data)
        if self._utf16 is None:
            return data
        # What is no UTF-16 becomes what is no UTF-8, and so a refusal of its line.
        try:
            text: str = self._utf16.decode(data, final)
        except UnicodeDecodeError:
            return b"\xff"
        return text.encode("utf-8", "surrogatepass")

    def _without_mark(self, data: bytes) -> bytes:
        for signature, what in _SIGNATURES.items():
            if data.startswith(signature):
                raise FileRefused("not_text", what, "Save it as CSV UTF-8, then upload it.")
        if data.startswith(codecs.BOM_UTF8):
            return data[len(codecs.BOM_UTF8) :]
        for mark, name in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
            if data.startswith(mark):
                self._utf16 = codecs.getincrementaldecoder(name)("surrogatepass")
                return data[len(mark) :]
        return data

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
        """Drop the rest of a line, its end included."""
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
        """Read all lines that are whole, and leave the rest."""
        buffer = self._buffer
        # A carriage return at the very end may be half of a line's end.
        whole = max(buffer.rfind(b"\n"), buffer.rfind(b"\r", 0, max(len(buffer) - 1, 0))) + 1
        cut = len(buffer) if final else whole
        overlong = len(buffer) - cut > _LINE_BYTES_MAX
        text = _decoded(bytes(buffer[:cut]))
        rest = self._parse(text, final or overlong) if text else ""
        if overlong:
            if self._body is None:
                raise _overlong_header()
            self._refuse(self._lines + 1, RowRefused("too_long"))
            self._skipping = True
            cut = len(buffer) - buffer.endswith(b"\r")
        buffer[:cut] = rest.encode("utf-8", "surrogateescape")

    # Text ---------------------------------------------------------------------------------------------------

    def _parse(self, text: str, closed: bool) -> str:
        """Read whole lines; give back a record that may yet be closed by what follows, if anything does."""
        if self._body is None:
            text = self._after_header(text)
        return self._body(text, closed) if self._body is not None and text else ""

    def _after_header(self, text: str) -> str:
        lines = io.StringIO(text, newline="")
        for line in lines:
            if len(line.rstrip("\r\n")) > LINE_MAX:
                raise _overlong_header()
            stripped = line.strip()
            if not stripped:
                self._lines += 1
                continue
            self._format = self._format or ("ndjson" if stripped[0] in "{[" else "csv")
            if self._format == "ndjson":
                if stripped[0] != "{":
                    raise FileRefused(
                        "not_ndjson", "The first line is not a JSON object.", "Write one object on each line."
                    )
                self._body = self._ndjson
                return line + lines.read()
            self._lines += 1
            if not self._delimiter:
                self._delimiter = csv_dialect.read_separator(line)
                if self._delimiter:
                    continue
            self._delimiter, self._columns = csv_dialect.read_header(line.rstrip("\r\n"), self._delimiter)
            self._identifier_at = self._columns.index("identifier")
            self._body = self._csv
            return lines.read()
        return ""

    def _csv(self, text: str, closed: bool) -> str:
        if '"' in text:
            return self._quoted(text, closed)
        delimiter, at, plans, rows = self._delimiter, self._identifier_at, self._plans, self._rows
        lines = _split(text)
        for number, line in enumerate(lines, self._lines + 1):
            parts: list[Any] = line.split(delimiter, at + 1)
            try:
                identifier = parts.pop(at)
                action, kind, party_id_type, sub_id, currency, ordinary, read, _ = plans[tuple(parts)]
                if ordinary(identifier):
                    entry = (number, action, kind, party_id_type, read(identifier), sub_id, currency, "", "")
                    rows.append(_row(FileRow, entry))
                    continue
            except (IndexError, KeyError, BadIdentifier):
                if not line:
                    continue
            plan = self._csv_row(number, line.split(delimiter), line)
            if plan is not None:
                _remember(plans, tuple(parts), plan)
        self._lines += len(lines)
        return ""

    def _quoted(self, text: str, closed: bool) -> str:
        """Read lines of which some hold quotes."""
        lines = list(io.StringIO(text, newline=""))
        at = 0
        while True:
            at, seen = self._records(lines, at)
            if at == len(lines):
                break
            if seen == len(lines) and not closed and sum(map(len, lines[at:])) <= LINE_MAX:
                break
            overlong = len(lines[at].rstrip("\r\n")) > LINE_MAX
            self._refuse(self._lines + at + 1, RowRefused("too_long" if overlong else "bad_quoting"))
            at += 1
        self._lines += at
        return "".join(lines[at:])

    def _records(self, lines: list[str], at: int) -> tuple[int, int]:
        """Read records from a line on.  Give the line where the next one begins, and the line reached in it.

        The first is len(lines) at the end; else it is the line of a record that is broken, too long, or not whole.
        """
        plans, rows, position = self._plans_of_quoted, self._rows, self._identifier_at
        origin = at

        def within() -> Iterator[str]:
            """The lines, until a record (which begins at `at`) has too many of them: then they seem to end."""
            for number in range(origin, len(lines)):
                if number == at:
                    held = 0
                held += len(lines[number])
                if number > at and (number - at == RECORD_LINES_MAX or held > LINE_MAX):
                    return
                yield lines[number]

        reader = csv.reader(within(), delimiter=self._delimiter, strict=True)
        try:
            for cells in reader:
                line, at = at, origin + reader.line_num
                number = self._lines + line + 1
                others = (*cells[:position], *cells[position + 1 :])
                try:
                    action, kind, party_id_type, sub_id, currency, ordinary, read, _ = plans[others]
                    identifier = cells[position]
                    if ordinary(identifier):
                        entry = (number, action, kind, party_id_type, read(identifier), sub_id, currency, "", "")
                        rows.append(_row(FileRow, entry))
                        continue
                except (IndexError, KeyError, BadIdentifier):
                    if not cells:
                        continue
                plan = self._csv_row(number, cells, lines[line])
                if plan is not None:
                    _remember(plans, others, plan)
        except csv.Error:
            return at, origin + reader.line_num
        return at, at

    def _ndjson(self, text: str, _closed: bool) -> str:
        plans, rows = self._plans, self._rows
        lines = _split(text)
        for number, line in enumerate(lines, self._lines + 1):
            others: tuple[object, ...] = ()
            try:
                members = _members(line)
                # Four quotes a member: none stands twice, which the decoder does not tell.
                if line.count('"') == 4 * len(members):
                    identifier = members.pop("identifier")
                    others = tuple(members.items())
                    action, kind, party_id_type, sub_id, currency, ordinary, read, _ = plans[others]
                    if ordinary(identifier):
                        entry = (number, action, kind, party_id_type, read(identifier), sub_id, currency, "", "")
                        rows.append(_row(FileRow, entry))
                        continue
            except (msgspec.DecodeError, RecursionError, UnicodeError, KeyError, BadIdentifier):
                pass
            plan = self._ndjson_row(number, line)
            if plan is not None and others:
                _remember(plans, others, plan)
        self._lines += len(lines)
        return ""

    # Rows ---------------------------------------------------------------------------------------------------

    def _csv_row(self, number: int, cells: list[str], line: str) -> RowChange | None:
        """Read a row the careful way.  Give its plan if it is good; nothing at all for an empty one."""
        kind = ""
        try:
            if len(line.rstrip("\r\n")) > LINE_MAX:
                raise RowRefused("too_long")
            if not any(cell.strip() for cell in cells):
                return None
            for cell in cells:
                check_text(cell)
            if len(cells) != len(self._columns):
                raise RowRefused("too_few_fields" if len(cells) < len(self._columns) else "too_many_fields")
            named = dict(zip(self._columns, cells, strict=True))
            kind = read_kind(named["kind"])
            return self._careful(number, named)
        except RowRefused as exc:
            self._refuse(number, exc, kind)
            return None

    def _ndjson_row(self, number: int, line: str) -> RowChange | None:
        """As `_csv_row`."""
        kind = ""
        try:
            if len(line) > LINE_MAX:
                raise RowRefused("too_long")
            if not line.strip():
                return None
            check_text(line)
            named = _members_carefully(line)
            kind = read_kind(named.get("kind", ""))
            return self._careful(number, named)
        except RowRefused as exc:
            self._refuse(number, exc, kind)
            return None

    def _careful(self, number: int, named: dict[str, str]) -> RowChange:
        if any(len(cell) > FIELD_MAX for cell in named.values()):
            raise RowRefused("too_long")
        kind, identifier, sub_id, currency, country, action = (named.get(column, "") for column in COLUMNS)
        plan = read_change(self._checks, kind, sub_id, currency, country, action)
        found = read_identifier(plan, identifier)
        self._rows.append(
            FileRow(number, plan.action, plan.kind, plan.party_id_type, found, plan.sub_id, plan.currency),
        )
        return plan

    def _refuse(self, number: int, refusal: RowRefused, kind: str = "") -> None:
        self._rows.append(refuse_row(number, refusal, kind))

    # Chunks -------------------------------------------------------------------------------------------------

    def _full_chunks(self) -> list[Chunk]:
        size = self._rows_per_chunk
        self.rows_read = self._chunks * size + len(self._rows)
        if self.rows_read > self._rows_max:
            raise FileRefused(
                "too_many_rows", f"The file has more than {self._rows_max:,} rows.", "Divide it into several files."
            )
        chunks = []
        while len(self._rows) >= size:
            chunks.append(self._chunk(self._rows[:size]))
            del self._rows[:size]
        return chunks

    def _chunk(self, rows: list[FileRow]) -> Chunk:
        chunk = Chunk(self._chunks, rows, sum(map(bool, map(_code_of, rows))))
        self._chunks += 1
        self.rows_refused += chunk.refused
        return chunk


def _remember(plans: dict[tuple[object, ...], RowChange], cells: tuple[object, ...], plan: RowChange) -> None:
    if len(str(cells)) > _PLAN_CHARACTERS_MAX:
        return
    if len(plans) >= _PLANS_MAX:  # a SubId of its own in every row
        plans.clear()
    plans[cells] = plan


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="surrogateescape")


def _split(text: str) -> list[str]:
    """Split into lines as an editor does: not at form feeds and the like, as str.splitlines would."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


class _Pairs(list[tuple[str, object]]):
    """An object as it is written, so that a member that stands twice is seen."""


def _members_carefully(line: str) -> dict[str, str]:
    try:
        # Numbers as text: a long one would take Python long to read, and none is wanted.
        pairs = json.loads(line, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError):
        raise RowRefused("bad_json") from None
    if not isinstance(pairs, _Pairs):
        raise RowRefused("bad_json")
    named: dict[str, str] = {}
    seen = set()
    for name, value in pairs:
        if name not in COLUMNS:
            raise RowRefused("unknown_member")
        if name in seen:
            raise RowRefused("duplicate_member")
        seen.add(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise RowRefused("not_text")
        named[name] = value
    return named


class _Number:
    """A number in a JSON line."""

    def __init__(self, _: str) -> None:
        pass


def _overlong_header() -> FileRefused:
    message = f"The first line is longer than {LINE_MAX:,} characters."
    return FileRefused("no_header", message, "Check that it is a CSV or NDJSON file.")
