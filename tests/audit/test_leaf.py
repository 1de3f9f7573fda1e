"""A line is the same from every writer: by hand from its description, and for any value that a column can hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sealing import open_connection, register, seal, tampering

from oracle.audit import log
from oracle.verifier import leaf
from oracle.verifier.merkle import Stored

VALUES = [
    {"b": 1, "a": {"z": [1.50, -0.0, 1e3, 123456789012345678901234567890], "é": None}, "Z": True},
    {"text": 'quote " backslash \\ slash / tab \t line \n bell \x07 del \x7f sep \u2028 emoji \U0001f600'},
    [],
    "text",
]


async def test_a_line_is_what_its_description_says(database_url: str, tmp_path: Path) -> None:
    """Made here by other means: PostgreSQL's own text of the numbers, Python's json for the rest."""
    async with tampering(database_url) as connection:
        for value in VALUES:
            await connection.execute(
                "INSERT INTO events (entity, action, channel, actor, reason, after, at)"
                " VALUES ('alias', 'ignored', 'sql', $2, '', $1::text::jsonb, '2026-03-03T10:00:00Z')",
                json.dumps(value),
                'ac"tor\x1f',
            )
        rows = await connection.fetch("SELECT event_id, xact::text, after::text FROM events ORDER BY event_id")
    await seal(database_url, tmp_path / "keys")
    connection = await log.connect(database_url, "test")
    try:
        found = [row async for part in log.stream_leaves(connection, 0, len(VALUES)) for row in part]
        stored = (await log.fetch_hashes(connection, [Stored(0, 0, len(VALUES))]))[0]
    finally:
        await connection.close()
    for row, made, hashed in zip(rows, map(leaf.line, found), stored, strict=True):
        after = json.loads(row["after"], parse_float=_Digits, parse_int=_Digits)
        expected = (
            f'{{"event_id":{row["event_id"]},"xact":{row["xact"]},"at":"2026-03-03T10:00:00.000000Z"'
            ',"entity":"alias","action":"ignored","channel":"sql","actor":"ac\\"tor\\u001f","role":null'
            ',"party_id_type":null,"party_identifier":null,"sub_id":null,"fsp_id":null,"before":null'
            f',"after":{_canonical(after)},"reason":"","request_id":null,"trace_id":null}}'
        )
        assert made.decode() == expected
        assert hashed == hashlib.sha256(b"\0" + expected.encode()).digest()


class _Digits(str):
    """A number as it was written."""

    __slots__ = ()


def _canonical(value: object) -> str:
    match value:
        case _Digits():
            return str(value)
        case dict():
            return "{" + ",".join(f"{_canonical(k)}:{_canonical(v)}" for k, v in sorted(value.items())) + "}"
        case list():
            return "[" + ",".join(map(_canonical, value)) + "]"
        case _:
            # json escapes U+007F no more than we do, and the same below U+0020.
            return json.dumps(value, ensure_ascii=False)


async def test_the_time_zone_of_a_session_changes_no_line(database_url: str) -> None:
    await register(database_url, 0, 1)
    made = []
    for zone in ("UTC", "America/Mexico_City"):
        connection = await log.connect(database_url, "test", timezone=zone)
        try:
            made += [
                [leaf.line(row) for row in rows] async for rows in log.stream_events(connection, _ERA, log.START, _LAST)
            ]
        finally:
            await connection.close()
    assert len(made[0]) == 2
    assert made[0] == made[1]


_ERA = log.Era(0, log.FIRST, None)
_LAST = log.Bound(log.LAST, log.LAST)

FORMULA_BEGINS = tuple("=+-@\t\r\n＝＋－＠")

texts = st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


@given(texts, texts)
@example("=HYPERLINK(1)", "-1+1")
@example("'=1", "＝1")
@example("\t=1", "'")
def test_a_line_is_read_back_as_it_was_and_makes_one_row_of_a_table(actor: str | None, reason: str | None) -> None:
    import csv
    import io
    from datetime import UTC, datetime

    at = datetime(2026, 3, 3, 10, tzinfo=UTC)
    row = (1, 2, at, "alias", "ignored", "sql", actor or "", None, *[None] * 5, '{"a": 1}', reason, None, None)
    made = leaf.line(row)
    assert b"\n" not in made
    assert b"\r" not in made
    read = leaf.read(made)
    assert (read.actor, read.reason) == (actor or "", reason)
    (cells,) = csv.reader(io.StringIO(leaf.csv_row(made).decode(), newline=""))
    for name, text in (("actor", actor or ""), ("reason", reason or "")):
        cell = cells[leaf.FIELDS.index(name)]
        assert not cell.startswith(FORMULA_BEGINS)
        assert cell.removeprefix("'") == text
    assert cells[leaf.FIELDS.index("after")] == '{"a":1}'
    assert len(cells) == len(leaf.FIELDS)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b'{"event_id":1}', b'{"event_id":"x"}'])
def test_what_is_no_line_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a line"):
        leaf.read(text)


async def test_what_is_exported_are_these_lines(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, 5)
    await seal(database_url, tmp_path / "keys")
    async with open_connection(database_url) as connection:
        from oracle.audit.export import stream_lines

        text = b"".join([part async for part in stream_lines(connection, 0, 6)])
        rows = [row async for part in log.stream_leaves(connection, 0, 6) for row in part]
    assert text == b"".join(leaf.line(row) + b"\n" for row in rows)
