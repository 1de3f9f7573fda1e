"""Reads random bytes, cut at random places: the rows, or FileRefused, are those that a slow reader finds."""

import codecs
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from oracle.identifiers import KINDS, BadIdentifier, Reading
from oracle.imports import cells, reading
from oracle.imports.reading import FileRefused, FileRow, Reader, RowChecks

LINE_MAX = 48  # short texts reach it

HEADER = b"kind,identifier,sub_id\n"
SCRAPS = [
    *("\n", "\r", "\r\n", ",", '"', '""', " ", "\t", ";", "'", "=", "\0", "\x0b", "\u2028", "\u00a0", "\ufffd", "ñ"),
    *("MSISDN", "ALIAS", "CLABE", "525512345678", "+525512345678", "5.2E+11", "ana", "shop"),
    *("MSISDN,525512345678,\n", "ALIAS,ana,shop\n", "ALIAS,ana,shop\r\n", '"ALIAS","ana","shop"\n', 'ALIAS,"a\nb",\n'),
    *("MSISDN,525512345678\n", "ALIAS,ana\n", '"ALIAS",ana\n', "ALIAS,nan,\n", "ALIAS,ana,NULL\n", "1.2e5", "#N/A"),
    *("x" * 20, "y" * 50, "z" * 300),
]
JSON_SCRAPS = [
    *("\n", "\r\n", "{", "}", '"', ":", ",", " ", "null", "1e5", "[", "\\", "\\u0000", '\\"', "NaN", "ñ", "\ufffd"),
    *(
        '"kind"',
        '"identifier"',
        '"sub_id"',
        '"MSISDN"',
        '"525512345678"',
        '{"kind":"MSISDN","identifier":"525512345678"}\n',
    ),
    *('{"identifier":"ana","kind":"ALIAS","sub_id":"shop"}\n'),
]

READING = Reading()


def join_scraps(scraps: list[str]) -> st.SearchStrategy[bytes]:
    known = st.sampled_from(scraps).map(str.encode)
    return st.lists(st.one_of(known, known, known, st.binary(max_size=4)), max_size=40).map(b"".join)


bodies = join_scraps(SCRAPS)
files = st.one_of(
    bodies,
    bodies.map(HEADER.__add__),
    bodies.map(b"sep=;\nkind;identifier\n".__add__),
    join_scraps(JSON_SCRAPS),
    join_scraps(JSON_SCRAPS).map(b'{"kind":"ALIAS","identifier":"ana"}\n'.__add__),
    bodies.map(lambda body: codecs.BOM_UTF16_LE + (HEADER + body).decode(errors="replace").encode("utf-16-le")),
    bodies.map(lambda body: codecs.BOM_UTF16_BE + body),
    bodies.map(codecs.BOM_UTF8.__add__),
)


def read_rows(data: bytes, cuts: list[int], **options: Any) -> list[FileRow] | str:
    reader = Reader(RowChecks(READING), line_max=LINE_MAX, **options)
    found: list[FileRow] = []
    try:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            for chunk in reader.feed(data[start:end]):
                assert len(chunk.rows) == options.get("rows_per_chunk", reading.ROWS_PER_CHUNK)
                found += chunk.rows
        for chunk in reader.finish():
            found += chunk.rows
    except FileRefused as refusal:
        return refusal.code
    assert reader.rows_read == len(found)
    assert reader.rows_refused == sum(bool(row.code) for row in found)
    return found


@settings(max_examples=300, deadline=None)
@given(data=files, block=st.integers(1, 80), per_chunk=st.integers(1, 5), source=st.data())
@example(data=b'kind,identifier,sub_id\nALIAS,"a\n\nb",\r\nALIAS,c,\r', block=1, per_chunk=1, source=None)
def test_rows_do_not_depend_on_how_the_bytes_are_cut(data: bytes, block: int, per_chunk: int, source: Any) -> None:
    cuts = sorted(source.draw(st.lists(st.integers(0, len(data)), max_size=8))) if source else list(range(len(data)))
    whole = read_rows(data, [])
    assert read_rows(data, cuts, block_bytes=block, rows_per_chunk=per_chunk) == whole
    assert read_rows(data, cuts, rows_per_chunk=per_chunk) == whole
    if not isinstance(whole, str):
        assert [row.line for row in whole] == sorted({row.line for row in whole})
        assert all(bool(row.code) != bool(row.identifier) for row in whole)


@settings(max_examples=300, deadline=None)
@given(body=bodies, block=st.integers(1, 80))
@example(body=b";,ana,\n", block=80)
def test_csv_rows_are_those_that_a_slow_reader_finds(body: bytes, block: int) -> None:
    found = read_rows(HEADER + body, [], block_bytes=block)
    slow = list(read_slowly((HEADER + body).decode(errors="surrogateescape")))
    if found == "empty_file":
        found = []
    assert isinstance(found, list)
    assert [row.line for row in found] == [line for line, _ in slow]
    for row, (_, parts) in zip(found, slow, strict=True):
        if isinstance(parts, str):
            assert row.code == parts
        elif row.code in {"too_few_fields", "too_many_fields"}:
            assert len(parts) != 3
        else:
            assert expect_key(parts) == (None if row.code else (row.party_id_type, row.identifier, row.sub_id))


def expect_key(parts: list[str]) -> tuple[str, str, str] | None:
    if len(parts) != 3 or any("\0" in part or "\ufffd" in part for part in parts):
        return None
    kind, identifier, sub_id = map(cells.clean, parts)
    if kind.upper() not in KINDS or cells.find_fault(identifier, kind.upper()) or cells.find_fault(sub_id):
        return None
    try:
        return READING.read_key(kind, identifier, sub_id=sub_id or None)
    except BadIdentifier:
        return None


def read_slowly(text: str) -> Iterator[tuple[int, list[str] | str]]:
    """Read records one character at a time.  Yield the first line of each, and its cells or the code of its fault."""
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text)
    at = 1  # after the header
    while at < len(lines):
        parts, used = read_record(lines[at:])
        long_line = len(lines[at].rstrip("\r\n")) > LINE_MAX
        if parts is None or (used > 1 and sum(map(len, lines[at : at + used])) > LINE_MAX):
            yield at + 1, "too_long" if long_line else "bad_quoting"
            used = 1
        elif used == 1 and long_line:
            yield at + 1, "too_long"
        elif any(part.strip() for part in parts):
            cut = lines[at + used - 1][-1:] not in ("\r", "\n")
            yield at + 1, parts if cut or len(parts) != 2 else [*parts, ""]  # the separator of an empty last cell
        at += used


def read_record(lines: list[str]) -> tuple[list[str] | None, int]:
    parts, part, state = [], "", "start"
    for used, line in enumerate(lines, 1):
        ending = line[len(line.rstrip("\r\n")) :] if line.rstrip("\r\n") != line else ""
        for character in line.removesuffix(ending):
            if state == "quoted":
                if character == '"':
                    state = "after"
                else:
                    part += character
            elif character == ",":
                parts.append(part)
                part, state = "", "start"
            elif state == "after":
                if character != '"':
                    return None, 1
                part, state = part + '"', "quoted"
            elif state == "start" and character == '"':
                state = "quoted"
            else:
                part, state = part + character, "plain"
        if state != "quoted":
            return [*parts, part], used
        part += ending
    return None, 1
