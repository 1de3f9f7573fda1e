"""Files as people make them, and what becomes of each row."""

import codecs
import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from oracle.identifiers import KINDS, Reading
from oracle.imports import results_csv, templates
from oracle.imports.reading import Chunk, FileRefused, FileRow, Reader, RowChecks
from oracle.imports.refusals import FIELD_MAX, LINE_MAX, RECORD_LINES_MAX, REFUSALS, RowCode

READING = Reading()
TEMPLATES = Path(__file__).parents[2] / "schemas" / "templates"
CLABE = "032180000118359719"
NUMBER = "525512345678"


def read(data: bytes | str, rules: RowChecks | None = None, **options: Any) -> list[FileRow]:
    reader = Reader(rules or RowChecks(READING), **options)
    content = data.encode() if isinstance(data, str) else data
    return [row for chunk in [*reader.feed(content), *reader.finish()] for row in chunk.rows]


def of_lines(*lines: str, header: str = "kind,identifier,sub_id,currency,country,action") -> list[FileRow]:
    return read("\n".join((header, *lines)))


def outcome(line: str) -> str:
    """Read one row: its code, or its identifier."""
    (row,) = of_lines(line, header="kind,identifier")
    assert row.line == 2
    assert bool(row.code) == bool(row.message) == (not row.identifier)
    return row.code or row.identifier


def file_code(data: bytes | str, **options: Any) -> str:
    with pytest.raises(FileRefused) as refusal:
        read(data, **options)
    assert refusal.value.message
    return refusal.value.code


def keys(rows: Iterable[FileRow]) -> list[tuple[int, str]]:
    return [(row.line, row.code or row.identifier) for row in rows]


# Good files -------------------------------------------------------------------------------------------------


def test_a_row_with_everything() -> None:
    assert of_lines("clabe, 032 180 00011835971 9 ,,mxn,mx,Replace") == [
        FileRow(2, "replace", "CLABE", "ACCOUNT_ID", CLABE, "", "MXN")
    ]
    assert of_lines("ACCOUNT_ID,7,savings,,,remove") == [
        FileRow(2, "remove", "ACCOUNT_ID", "ACCOUNT_ID", "7", "savings", "")
    ]


def test_columns_stand_in_any_order_and_may_be_left_out() -> None:
    assert of_lines("MXN,+525512345678,MSISDN", header=" Currency ,IDENTIFIER,kind") == [
        FileRow(2, "add", "MSISDN", "MSISDN", NUMBER, "", "MXN")
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"], ids=["plain", "bom", "utf-16", "utf-16-be"]
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_spreadsheets_write_in_many_ways(end: str, delimiter: str, encoding: str, quote: str) -> None:
    table = (("kind", "identifier"), ("MSISDN", NUMBER), ("ALIAS", "señora"))
    text = end.join(delimiter.join(quote + cell + quote for cell in row) for row in table) + end
    data = text.encode(encoding)
    if encoding == "utf-16-be":
        data = codecs.BOM_UTF16_BE + data
    assert keys(read(data)) == [(2, NUMBER), (3, "señora")]


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_excel_names_its_separator(first: str) -> None:
    assert keys(read(f"{first}\r\nkind;identifier\r\nMSISDN;{NUMBER}\r\n")) == [(3, NUMBER)]


def test_empty_lines_are_no_rows_but_they_count() -> None:
    data = f"\n\nkind,identifier\n\n , \nMSISDN,{NUMBER}\n,\n\r\nMSISDN,1\n"
    assert keys(read(data)) == [(6, NUMBER), (9, "bad_identifier")]


def test_lines_are_counted_as_an_editor_does() -> None:
    data = f'kind,identifier\nALIAS,"a\nb"\nALIAS,a\x0bb\nALIAS,a\x85b\u2028c\nMSISDN,{NUMBER}'
    assert keys(read(data)) == [
        (2, "bad_identifier"),
        (4, "bad_identifier"),
        (5, "bad_identifier"),
        (6, NUMBER),
    ]


def test_ndjson() -> None:
    lines = [
        f'{{"identifier": "+{NUMBER}", "kind": "msisdn", "currency": null}}',
        "",
        f'{{"kind":"CLABE","identifier":"{CLABE}","sub_id":"x","action":"remove"}}',
        '{"kind":"ALIAS","identifier":"a\\u0062c"}',
    ]
    assert read("\r\n".join(lines)) == [
        FileRow(1, "add", "MSISDN", "MSISDN", NUMBER, "", ""),
        FileRow(3, "remove", "CLABE", "ACCOUNT_ID", CLABE, "x", ""),
        FileRow(4, "add", "ALIAS", "ALIAS", "abc", "", ""),
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"kind":"MSISDN","identifier":525512345678}', "not_text"),
        ('{"kind":"MSISDN","identifier":' + "1" * 5_000 + "}", "not_text"),
        ('{"kind":"MSISDN","identifier":["1"]}', "not_text"),
        ('{"kind":"MSISDN","identifier":"1","Kind":"MSISDN"}', "unknown_member"),
        ('{"kind":"MSISDN","identifier":"525512345678","kind":"MSISDN"}', "duplicate_member"),
        ('{"kind":"MSISDN","identifier":null}', "missing_identifier"),
        ('{"identifier":"1"}', "missing_kind"),
        ('{"kind":"MSISDN"', "bad_json"),
        ('["MSISDN"]', "bad_json"),
        ("[" * 50_000, "bad_json"),
        ('{"kind":"ALIAS","identifier":"\\ud800"}', "bad_identifier"),
        ('{"kind":"ALIAS","identifier":"\\u0000"}', "bad_identifier"),
    ],
)
def test_what_is_wrong_with_an_object(line: str, code: str) -> None:
    good = f'{{"kind":"MSISDN","identifier":"{NUMBER}"}}'
    assert keys(read(f"{good}\n{line}\n{good}\n")) == [(1, NUMBER), (2, code), (3, NUMBER)]


@pytest.mark.parametrize("name", ["import.csv", "import.ndjson"])
def test_the_templates_are_good_files(name: str) -> None:
    rows = read((TEMPLATES / name).read_bytes())
    assert [row.message for row in rows if row.code] == []
    assert {row.kind for row in rows} == set(KINDS)


def test_the_templates_are_the_samples_of_every_kind() -> None:
    """When this fails: `make contract`."""
    assert (TEMPLATES / "import.csv").read_bytes() == templates.make_csv()
    assert (TEMPLATES / "import.ndjson").read_bytes() == templates.make_ndjson()


def test_both_templates_say_the_same() -> None:
    by_name = [read((TEMPLATES / name).read_bytes()) for name in ("import.csv", "import.ndjson")]
    assert [row[1:] for row in by_name[0]] == [row[1:] for row in by_name[1]]


# Spreadsheets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"MSISDN,'{NUMBER}", NUMBER),
        (f'MSISDN,="{NUMBER}"', NUMBER),
        (f'MSISDN,"=""{NUMBER}"""', NUMBER),
        ("MSISDN,\u00a0+52\u00a055\u202f1234 5678\u00a0", NUMBER),
        ("ALIAS,'@ana", "@ana"),
        ("ACCOUNT_ID,000000356", "000000356"),
        ("MSISDN,5.25512E+11", "scientific_notation"),
        ("ACCOUNT_ID,5.25512345678e+11", "scientific_notation"),
        ('CLABE,"3,2E+16"', "scientific_notation"),
        ("ACCOUNT_ID,525512345678.0", "decimal_number"),
        ("MSISDN,525512345678.0", "decimal_number"),
        ('MSISDN,"525,512,345,678"', "thousands_separator"),
        ('ACCOUNT_ID,"1,234"', "thousands_separator"),
        ("CLABE,32180000118359719", "leading_zero_lost"),
        ("CLABE,2010077777777771", "leading_zero_lost"),
        ("CLABE,32180000118359718", "bad_identifier"),
        ("CLABE,032180000118359000", "digits_lost"),
        ("MSISDN,=1+1", "formula"),
        ("MSISDN,-525512345678", "formula"),
        ("ACCOUNT_ID,+1+1", "formula"),
        ("BUSINESS,@SUM(A1)", "formula"),
        ('ALIAS,"=HYPERLINK(""x"")"', "formula"),
    ],
)
def test_what_spreadsheets_do(line: str, found: str) -> None:
    assert outcome(line) == found


# Bad rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("FAX,1,,,,", "unknown_kind"),
        (",1,,,,", "missing_kind"),
        ("MSISDN, ,,,,", "missing_identifier"),
        ("MSISDN,09250000001,,,,", "bad_identifier"),
        ("MSISDN,09250000001,,,XX,", "bad_country"),
        ("MSISDN,09250000001,,,Mexico,", "bad_country"),
        (f"MSISDN,{NUMBER},,pesos,,", "bad_currency"),
        (f"MSISDN,{NUMBER},,ＭＸＮ,,", "bad_currency"),
        (f"MSISDN,{NUMBER},,,,upsert", "unknown_action"),
        (f"MSISDN,{NUMBER},a b,,,", "bad_sub_id"),
        (f"MSISDN,{NUMBER},=1,,,", "formula"),
        (f"MSISDN,{NUMBER}", "too_few_fields"),
        (f"MSISDN,{NUMBER},,,,,", "too_many_fields"),
        (f"MSISDN,{NUMBER}\0,,,,", "nul_character"),
        ("ALIAS,se\ufffdora,,,,", "bad_encoding"),
        (f"MSISDN,{NUMBER}{' ' * FIELD_MAX},,,,", "too_long"),
        (f"MSISDN,{NUMBER},,,," + "," * LINE_MAX, "too_long"),
        (f"MSISDN,{NUMBER},,,," + "x" * 3 * LINE_MAX, "too_long"),
        (f"MSISDN,{NUMBER},,,," + "x" * 30 * LINE_MAX, "too_long"),
        (f'"MSISDN"x,{NUMBER},,,,', "bad_quoting"),
        (f'MSISDN,{NUMBER},,,,"', "bad_quoting"),
    ],
    ids=lambda value: value[:40].replace("\0", "NUL"),
)
def test_a_bad_row_is_named_and_leaves_the_others_alone(line: str, code: str) -> None:
    good = f"MSISDN,{NUMBER},,,,"
    rows = of_lines(good, line, good, good)
    assert keys(rows) == [(2, NUMBER), (3, code), (4, NUMBER), (5, NUMBER)]
    assert NUMBER not in rows[1].message


def test_every_code_has_its_words() -> None:
    assert set(REFUSALS) == set(get_args(RowCode))


def test_what_is_not_utf_8_is_told_by_line() -> None:
    data = b"kind,identifier\nALIAS,se\xf1ora\nALIAS,senora\n"
    assert keys(read(data)) == [(2, "bad_encoding"), (3, "senora")]
    torn = "kind,identifier\nALIAS,a\nALIAS,b".encode("utf-16")[:-1]
    assert keys(read(torn)) == [(2, "a"), (3, "bad_encoding")]
    lone = codecs.BOM_UTF16_LE + "kind,identifier\nALIAS,\ud800\nALIAS,b".encode("utf-16-le", "surrogatepass")
    assert keys(read(lone)) == [(2, "bad_encoding"), (3, "b")]


def test_a_quote_that_is_never_closed_costs_one_row() -> None:
    rows = of_lines("ALIAS,a", 'ALIAS,"b', *["ALIAS,c"] * 20_000, header="kind,identifier")
    assert keys(rows[:4]) == [(2, "a"), (3, "bad_quoting"), (4, "c"), (5, "c")]
    assert [row.line for row in rows] == list(range(2, 20_004))


def test_a_quoted_record_has_so_many_lines_and_no_more() -> None:
    """Else a file of quotes left open is read through to its end from each of its lines."""
    header = "kind,identifier,sub_id"
    longest = 'ALIAS,a,"' + "\n" * (RECORD_LINES_MAX - 1) + '"'
    assert keys(of_lines(longest, "ALIAS,b,", header=header)) == [(2, "bad_sub_id"), (RECORD_LINES_MAX + 2, "b")]
    longer = 'ALIAS,a,"' + "\n" * RECORD_LINES_MAX + '"'
    assert keys(of_lines(longer, "ALIAS,b,", header=header)) == [
        (2, "bad_quoting"), (RECORD_LINES_MAX + 2, "bad_quoting"), (RECORD_LINES_MAX + 3, "b"),
    ]  # fmt: skip
    # Open when read from its own beginning, and open when read within a quote.
    rows = of_lines(*['x","'] * 10_000, "ALIAS,b,", header=header)
    assert {row.code for row in rows[:-1]} == {"bad_quoting"}
    assert keys(rows[-1:]) == [(10_002, "b")]


def test_a_file_of_another_shape_is_told_what_shape_it_has() -> None:
    assert file_code('[{"kind":"ALIAS","identifier":"a"}]\n') == "not_ndjson"
    with pytest.raises(FileRefused, match="Column 3 has no name"):
        read("kind,identifier,\nALIAS,a,\n")


def test_a_message_says_why_and_what_to_do() -> None:
    (row,) = of_lines("MSISDN,09250000001,,,,")
    assert row.message == (
        "MSISDN: a national number needs a country (national_without_country). "
        "Fill in the column country, or write + and the calling code."
    )
    assert (row.kind, row.identifier) == ("MSISDN", "")


def test_a_country_makes_a_number_national() -> None:
    assert keys(of_lines("MSISDN,09250000001,,,mm,")) == [(2, "959250000001")]


def test_what_the_fsp_may_not_register_it_may_remove() -> None:
    rules = RowChecks(READING, kinds={"CLABE", "MSISDN"}, currencies={"MXN"})
    data = f"""kind,identifier,currency,action
MSISDN,{NUMBER},MXN,add
MSISDN,{NUMBER},USD,add
MSISDN,{NUMBER},,replace
ALIAS,ana,,replace
ALIAS,ana,,remove
CLABE,{CLABE},MXN,add
ACCOUNT_ID,{CLABE},MXN,add
"""
    codes = ["", "currency_not_allowed", "", "kind_not_allowed", "", "", "kind_not_allowed"]
    assert [row.code for row in read(data, rules)] == codes


def test_the_deployment_says_what_an_account_and_a_personal_id_is() -> None:
    data = "kind,identifier\nACCOUNT_ID,32180000118359719\nPERSONAL_ID,12/OUKAMA(N)123456\n"
    assert keys(read(data, RowChecks(Reading(account_id_format="clabe")))) == [
        (2, "leading_zero_lost"),
        (3, "12-250019-N-123456"),
    ]
    assert keys(read(data, RowChecks(Reading(("MX",))))) == [(2, "32180000118359719"), (3, "bad_identifier")]


# Bad files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\n\n", "empty_file"),
        (b"kind,identifier\n", "empty_file"),
        (f"MSISDN,{NUMBER}\n", "no_header"),
        ("kind,identifier,colour\n", "unknown_column"),
        ("kind,identifier,,\n", "unknown_column"),
        (f"kind,{NUMBER}\n", "unknown_column"),
        ("kind,identifier,Kind\n", "duplicate_column"),
        ("kind,currency\n", "missing_column"),
        ("kind|identifier\n", "no_header"),
        ('kind,"identifier\n', "bad_header"),
        ("sep=|\nkind|identifier\n", "bad_separator"),
        ("kind,identifier\n".encode("utf-16-le"), "not_text"),
        (b"PK\x03\x04rest", "not_text"),
        (b"\x1f\x8brest", "not_text"),
        ("kind,identifier\n".encode("utf-32"), "not_text"),
        (b"x" * 10 * LINE_MAX, "no_header"),
        (b"{" + b"x" * 10 * LINE_MAX, "no_header"),
    ],
)
def test_a_file_that_cannot_be_read(data: bytes | str, code: str) -> None:
    assert file_code(data) == code


def test_a_file_that_is_not_what_it_was_said_to_be() -> None:
    assert file_code('{"kind":"MSISDN"}', file_format="csv") == "no_header"
    assert file_code("kind,identifier\n", file_format="ndjson") == "not_ndjson"


def test_a_header_that_may_be_data_is_not_repeated() -> None:
    with pytest.raises(FileRefused) as refusal:
        read(f"kind,{NUMBER}\n")
    assert NUMBER not in str(refusal.value)


def test_too_many_rows_refuse_the_file() -> None:
    data = "kind,identifier\n" + f"MSISDN,{NUMBER}\n" * 11
    assert len(read(data, rows_max=11)) == 11
    assert file_code(data, rows_max=10) == "too_many_rows"


# Chunks and results -----------------------------------------------------------------------------------------


def test_chunks_are_full_and_numbered() -> None:
    data = ("kind,identifier\n" + f"MSISDN,{NUMBER}\nMSISDN,1\n" * 12).encode()
    reader = Reader(RowChecks(READING), rows_per_chunk=10)
    chunks: list[Chunk] = [*reader.feed(data), *reader.finish()]
    assert [(chunk.number, len(chunk.rows), chunk.refused) for chunk in chunks] == [(0, 10, 5), (1, 10, 5), (2, 4, 2)]
    assert (reader.rows_read, reader.rows_refused) == (24, 12)


def test_results_are_text_to_a_spreadsheet_and_can_be_read_again() -> None:
    written = results_csv.write_lines(
        [(2, "applied", "", "", "ALIAS", "@ana"), (3, "refused", "formula", 'a "b", c', "", "")]
    )
    table = list(csv.reader(io.StringIO((results_csv.write_header() + written).decode())))
    assert table == [
        ["line", "status", "code", "message", "kind", "identifier"],
        ["2", "applied", "", "", "ALIAS", "'@ana"],
        ["3", "refused", "formula", 'a "b", c', "", ""],
    ]
    assert outcome(f"ALIAS,{table[1][5]}") == "@ana"
