"""The results of a file: each row as it came, and a file of failed rows that a person corrects and uploads again."""

import codecs
import csv
import io
import json
from collections.abc import AsyncIterator

import pytest
from bulk_engine import Engine, open_engine

from oracle.identifiers import Reading
from oracle.imports.cells import clean, keep
from oracle.imports.csv_dialect import RESULT_COLUMNS
from oracle.imports.originals import Lines
from oracle.imports.reading import FileRefused, FileRow, Reader, RowChecks
from oracle.imports.refusals import LINE_MAX
from oracle.imports.results import Form

HEADER = ["Kind", "currency", "identifier", "sub_id"]
GOOD = ["MSISDN", "MXN", "+525512340301", ""]
# Each with the right cells, and in the order of the file.
BAD: list[tuple[list[str], list[str]]] = [
    (["FAX", "", "+525512340302", ""], ["MSISDN", "", "+525512340302", ""]),
    (["clabe", "MXN", "03218000011835971", ""], ["clabe", "MXN", "032180000118359719", ""]),
    (["MSISDN", "ZZZ", "+52 55 1234 0303", "shop"], ["MSISDN", "MXN", "+52 55 1234 0303", "shop"]),
    (["ALIAS", "", "se\u00f1ora", "a b"], ["ALIAS", "", "se\u00f1ora", "ab"]),
    (["ALIAS", "pesos", "@ana", "x"], ["ALIAS", "MXN", "@ana", "x"]),
    (["MSISDN", "1", '="525512340304"', ""], ["MSISDN", "", '="525512340304"', ""]),
    (["MSISDN", "1", "'+525512340305", ""], ["MSISDN", "", "'+525512340305", ""]),
    (["MSISDN", "1", "525512340306", ""], ["MSISDN", "", "525512340306", ""]),
    (["ACCOUNT_ID", "1", "000000356", ""], ["ACCOUNT_ID", "", "000000356", ""]),
    (["ACCOUNT_ID", "1", "12E5", ""], ["ACCOUNT_ID", "", "12E5", ""]),
    (["ALIAS", "1", "wit,h;\t", "a\nb"], ["ALIAS", "", "with", "ab"]),
    (["ALIAS", "", "=HYPERLINK(1)", ""], ["ALIAS", "", "link", ""]),
]  # fmt: skip
RIGHT = [
    *("525512340301", "525512340302", "032180000118359719", "525512340303", "se\u00f1ora", "@ana", "525512340304"),
    *("525512340305", "525512340306", "000000356", "12E5", "with", "link"),
]


@pytest.fixture
async def engine(database_url: str, redis_url: str) -> AsyncIterator[Engine]:
    """Open an engine whose files have parts and chunks of a few rows."""
    async with open_engine(database_url, redis_url) as made:
        made.set_limits(part_bytes=300, block_bytes=200, rows_per_chunk=5)
        yield made


def write_table(rows: list[list[str]], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


def read_table(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def read_rows(data: str) -> list[FileRow]:
    reader = Reader(RowChecks(Reading()))
    return [row for chunk in [*reader.feed(data.encode()), *reader.finish()] for row in chunk.rows]


async def list_identifiers(engine: Engine) -> list[str]:
    return [row["identifier"] for row in await engine.db.fetch("SELECT identifier FROM aliases")]


@pytest.mark.parametrize(
    ("mark", "encoding", "delimiter", "first"),
    [
        (b"", "utf-8", ",", ""),
        (codecs.BOM_UTF8, "utf-8", ";", ""),
        (codecs.BOM_UTF8, "utf-8", ";", "sep=;\r\n"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "\t", ""),
    ],
    ids=["program", "excel", "excel-sep", "excel-unicode"],
)
async def test_failed_rows_of_a_table_are_corrected_and_uploaded_again(
    engine: Engine, mark: bytes, encoding: str, delimiter: str, first: str
) -> None:
    """The file of failed rows is one that the same program opens: it has the encoding and the form of the upload."""
    table = write_table([HEADER, GOOD, *(row for row, _ in BAD)], delimiter)
    batch_id = await engine.upload(mark + (first + table).encode(encoding))
    await engine.work(batch_id)
    failed = await engine.fetch_results(batch_id, only_failed=True)
    assert failed.startswith(mark)
    text = failed.removeprefix(mark).decode(encoding)
    assert text.startswith(first)
    header, *lines = read_table(text.removeprefix(first), delimiter)
    assert header == ["line", "status", "code", "message", "canonical", *HEADER]
    assert [[clean(cell) for cell in line[5:]] for line in lines] == [[clean(cell) for cell in row] for row, _ in BAD]
    assert [line[5][:1] + line[7][:1] for line in lines] == ["F'", "c'", "M'", "As", "A'", "M'", "M'", "M'", "A'",
                                                             "A'", "Aw", "A'"]  # fmt: skip
    for line in lines:
        assert (line[0].isdigit(), line[1], bool(line[3])) == (True, "invalid", True)

    again = await engine.upload(failed)
    (unchanged,) = await engine.work(again)
    assert (unchanged["state"], unchanged["rows_read"], unchanged["rows_applied"]) == ("done", len(BAD), 0)
    codes = await engine.list_results(again)
    assert [code for _, code in codes] == [line[2] for line in lines], "each row is refused for its old reason"

    right = [[*line[:5], *map(keep, cells)] for line, (_, cells) in zip(lines, BAD, strict=True)]
    corrected = await engine.upload(mark + (first + write_table([header, *right], delimiter)).encode(encoding))
    (done,) = await engine.work(corrected)
    assert (done["state"], done["rows_applied"], done["rows_failed"]) == ("done", len(BAD), 0)
    assert sorted(await list_identifiers(engine)) == sorted(RIGHT)


async def test_failed_objects_are_corrected_and_uploaded_again(engine: Engine) -> None:
    """NDJSON comes back as NDJSON, each member spelled as it came."""
    good = '{"kind":"ALIAS","identifier":"ana"}'
    bad = [
        ('{"kind": "ALIAS", "identifier": 1.50, "sub_id": null}', "not_text"),
        ('{"kind":"ALIAS","identifier":"eva","Status":"x"}', "unknown_member"),
        ('{"kind":"ALIAS","identifier":"eva","status":"closed"}', "unknown_member"),
        ('{"kind":"ALIAS","identifier":"eva","identifier":"eva"}', "duplicate_member"),
        ('{"kind":"CLABE","identifier":"03218000011835971","sub_id":"\\u00f1"}', "bad_identifier"),
        ('{"kind":"ALIAS"', "bad_json"),
        ("{}", "missing_kind"),
    ]
    batch_id = await engine.upload("\n".join([good, *(line for line, _ in bad), ""]))
    await engine.work(batch_id)
    failed = await engine.fetch_results(batch_id, only_failed=True)
    lines = failed.decode().splitlines()
    assert [json.loads(line)["code"] for line in lines] == [code for _, code in bad]
    assert [json.loads(line)["line"] for line in lines] == list(range(2, 9))
    for at in (0, 1, 3, 4):
        assert lines[at].endswith(f",{bad[at][0][1:]}")
    assert [json.loads(lines[at])["row"] for at in (2, 5)] == [bad[2][0], bad[5][0]]

    again = await engine.upload(failed)
    await engine.work(again)
    expected = ["missing_kind" if at in (2, 5) else code for at, (_, code) in enumerate(bad)]
    assert [code for _, code in await engine.list_results(again)] == expected
    twice = (await engine.fetch_results(again, only_failed=True)).decode().splitlines()
    assert twice[4].endswith(bad[4][0][1:]), "the results of the first upload are gone"

    fixes = [{"kind": "ALIAS", "identifier": f"fixed{at}"} for at in range(len(bad))]
    kept = [{name: value for name, value in json.loads(line).items() if name in RESULT_COLUMNS} for line in lines]
    right = [json.dumps({**results, **fix}) for results, fix in zip(kept, fixes, strict=True)]
    corrected = await engine.upload("\n".join(right))
    (done,) = await engine.work(corrected)
    assert (done["rows_applied"], done["rows_failed"]) == (len(bad), 0), await engine.list_results(corrected)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_results_come_in_the_other_form_too(engine: Engine, form: Form) -> None:
    """What does not fit into columns or members is in `row`, so that nothing of it is lost without a word."""
    rows = ["ALIAS,ana,shop", 'ALIAS,"an""a"', "ALIAS,a,b,c,d", 'ALIAS,"open', "ALIAS"]
    objects = ['{"kind":"ALIAS","identifier":"ana","sub_id":"shop"}', '{"kind":"ALIAS","identifier":"an\\"a"}',
               '{"kind":"ALIAS","identifier":7}', '{"kind":', '{"kind":"ALIAS"}']  # fmt: skip
    text = "\n".join(objects if form == "csv" else ["kind,identifier,sub_id", *rows]) + "\n"
    batch_id = await engine.upload(text)
    await engine.work(batch_id)
    written = await engine.fetch_results(batch_id, form)
    if form == "csv":
        header, *lines = read_table(written.decode())
        found = [{name: value for name, value in zip(header, line, strict=True) if value} for line in lines]
    else:
        found = [{name: value for name, value in json.loads(line).items() if value} for line in written.splitlines()]
    assert [line.get("row") for line in found] == [
        None, None, *(objects[2:4] if form == "csv" else rows[2:4]), None,
    ]  # fmt: skip
    assert [line.get("identifier") for line in found] == ["ana", 'an"a', None, None, None]
    assert [(line.get("kind"), line.get("sub_id")) for line in found[:1]] == [("ALIAS", "shop")]
    again = await engine.upload(written)
    await engine.work(again)
    assert [code for _, code in await engine.list_results(again)] == [
        "unchanged", "bad_identifier", "missing_kind", "missing_kind",
        "missing_identifier",
    ]  # fmt: skip


async def test_rows_that_cannot_be_read_come_back_as_they_came(engine: Engine) -> None:
    lines = [
        b"ALIAS,ana", b"", b"ALIAS,se\xf1ora", b'ALIAS,"open', b"ALIAS,a,b,c", b"ALIAS", b'"ALIAS"x,eva',
        b"ALIAS,a\0b", b"ALIAS," + b"y" * (2 * LINE_MAX), b'ALIAS,"two\nlines"', b"ALIAS,z" + b" " * 1_000,
    ]  # fmt: skip
    batch_id = await engine.upload(b"kind,identifier\n" + b"\r\n".join(lines))
    await engine.work(batch_id)
    written = await engine.fetch_results(batch_id)
    _, *rows = read_table(written.decode())
    assert [(int(row[0]), row[2], row[5:]) for row in rows] == [
        (2, "", ["ALIAS", "ana"]),
        (4, "bad_encoding", ["ALIAS", "se\ufffdora"]),
        (5, "bad_quoting", ["ALIAS", '"open']),
        (6, "too_many_fields", ["ALIAS", "a", "b", "c"]),
        (7, "too_few_fields", ["ALIAS"]),
        (8, "bad_quoting", ['"ALIAS"x', "eva"]),
        (9, "nul_character", ["ALIAS", "a\0b"]),
        (10, "too_long", ["ALIAS", "y" * (LINE_MAX - len("ALIAS,"))]),
        (11, "bad_identifier", ["ALIAS", "two\nlines"]),
        (13, "too_long", ["ALIAS", "z" + " " * 1_000]),
    ]
    again = await engine.upload(written)
    await engine.work(again)
    outcomes = [outcome for _, outcome in await engine.list_results(again)]
    assert "added" not in outcomes[1:], "a row that nobody corrected is never applied"
    assert len(outcomes) == len(rows)


# Columns of results -----------------------------------------------------------------------------------------------


def test_columns_of_results_are_ignored_wherever_they_are() -> None:
    data = 'message,kind,canonical,identifier,line,code\n"a, b",ALIAS,x,ana,7,c\n,ALIAS,,eva\nm,,,,,\n\n,,,,,\n'
    assert [(row.line, row.code or row.identifier) for row in read_rows(data)] == [
        (2, "ana"), (3, "eva"), (4, "missing_kind")
    ]  # fmt: skip
    objects = '{"line":1,"message":"x","row":"r","kind":"ALIAS","identifier":"ana"}\n{"line":"1","message":"x"}\n'
    assert [row.code or row.identifier for row in read_rows(objects)] == ["ana", "missing_kind"]


@pytest.mark.parametrize("name", ["status", "code", "line", "message", "row", "canonical"])
def test_a_column_with_the_name_of_a_result_is_unknown_in_any_other_file(name: str) -> None:
    """A file whose status is `closed` must not register its rows."""
    with pytest.raises(FileRefused, match=f'Column 3 \\("{name}"\\) is not known'):
        read_rows(f"kind,identifier,{name}\nALIAS,ana,closed\n")
    (row,) = read_rows(f'{{"kind":"ALIAS","identifier":"ana","{name}":"closed"}}\n')
    assert row.code == "unknown_member"


@pytest.mark.parametrize(
    "cell",
    [
        *("+525512345678", "525512345678", "0123", "12E5", "1.10", "2026-11-28", "12:30", "=1+1", "-7", "@a", "'+52 1"),
        *(
            "''a",
            '="0123"',
            '\t="0123"',
            "\t'5",
            " '5",
            "'\"",
            "",
            " ",
            "\u00a0=1",
            "＝1",
            "\n=1",
            "' 5",
            '\'="7"',
            "7",
        ),
        *("12345678901", "ana", "12/OUKAMA(N)123456", "219E01BE", '="a"b"', "-", "nan"),
    ],
)
def test_a_cell_that_a_spreadsheet_cannot_change_is_read_as_before(cell: str) -> None:
    assert clean(keep(cell)) == clean(cell)
    assert keep(cell).lstrip("\t")[:1] not in {*"=+-@\n", "＝"}


@pytest.mark.parametrize("cut", [1, 3, 7, 1_000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_numbered_as_the_reader_numbers_them(cut: int, end: str) -> None:
    written = ["kind,identifier", "", "ALIAS,a", "x" * 200, "ALIAS,\u00e9", "", "ALIAS,b", "y" * 70, "ALIAS,c"]
    data = end.join(written).encode()
    lines = Lines(line_max=50)
    for at in range(0, len(data), cut):
        lines.feed(data[at : at + cut])
    lines.feed(None)
    assert [line.rstrip("\r\n")[:50] for line in lines.lines] == [line[:50] for line in written]
    assert (lines.first, lines.end, lines.is_end) == (1, len(written) + 1, True)
    lines.drop_before(5)
    assert (lines.first, lines.lines[0].rstrip()) == (5, "ALIAS,\u00e9")
