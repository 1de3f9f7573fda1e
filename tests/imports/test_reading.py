"""Files as people make them, and the result of each row."""

import codecs
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from oracle.identifiers import KINDS, Reading
from oracle.imports import templates
from oracle.imports.reading import Chunk, FileRefused, FileRow, Reader, RowChecks
from oracle.imports.refusals import FIELD_MAX, LINE_MAX, RECORD_LINES_MAX, REFUSALS, RowCode

READING = Reading()
TEMPLATES = Path(__file__).parents[2] / "schemas" / "templates"
CLABE = "032180000118359719"
NUMBER = "525512345678"


def read_file(data: bytes | str, checks: RowChecks | None = None, **options: Any) -> list[FileRow]:
    reader = Reader(checks or RowChecks(READING), **options)
    content = data.encode() if isinstance(data, str) else data
    return [row for chunk in [*reader.feed(content), *reader.finish()] for row in chunk.rows]


def read_lines(*lines: str, header: str = "kind,identifier,sub_id,currency,country,action") -> list[FileRow]:
    return read_file("\n".join((header, *lines)))


def read_row(line: str) -> str:
    """Read one row; return its code, or its identifier."""
    (row,) = read_lines(line, header="kind,identifier")
    assert row.line == 2
    assert bool(row.code) == bool(row.message) == (not row.identifier)
    return row.code or row.identifier


def read_refusal(data: bytes | str, **options: Any) -> str:
    with pytest.raises(FileRefused) as refusal:
        read_file(data, **options)
    assert refusal.value.message
    return refusal.value.code


def list_keys(rows: Iterable[FileRow]) -> list[tuple[int, str]]:
    return [(row.line, row.code or row.identifier) for row in rows]


# Good files -------------------------------------------------------------------------------------------------


def test_a_row_can_use_every_column() -> None:
    assert read_lines("clabe, 032 180 00011835971 9 ,,mxn,mx,Replace") == [
        FileRow(2, "replace", "CLABE", "ACCOUNT_ID", CLABE, "", "MXN")
    ]
    assert read_lines("ACCOUNT_ID,7,savings,,,remove") == [
        FileRow(2, "remove", "ACCOUNT_ID", "ACCOUNT_ID", "7", "savings", "")
    ]


def test_columns_can_have_any_order_and_can_be_left_out() -> None:
    assert read_lines("MXN,+525512345678,MSISDN", header=" Currency ,IDENTIFIER,kind") == [
        FileRow(2, "add", "MSISDN", "MSISDN", NUMBER, "", "MXN")
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"], ids=["plain", "bom", "utf-16", "utf-16-be"]
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_encodings_separators_line_ends_and_quotes_of_spreadsheets_are_read(
    end: str, delimiter: str, encoding: str, quote: str
) -> None:
    table = (("kind", "identifier"), ("MSISDN", NUMBER), ("ALIAS", "señora"))
    text = end.join(delimiter.join(quote + cell + quote for cell in row) for row in table) + end
    data = text.encode(encoding)
    if encoding == "utf-16-be":
        data = codecs.BOM_UTF16_BE + data
    assert list_keys(read_file(data)) == [(2, NUMBER), (3, "señora")]


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_the_separator_line_of_excel_is_read(first: str) -> None:
    assert list_keys(read_file(f"{first}\r\nkind;identifier\r\nMSISDN;{NUMBER}\r\n")) == [(3, NUMBER)]


def test_empty_lines_are_counted_but_are_not_rows() -> None:
    data = f"\n\nkind,identifier\n\n , \nMSISDN,{NUMBER}\n,\n\r\nMSISDN,1\n"
    assert list_keys(read_file(data)) == [(6, NUMBER), (9, "bad_identifier")]


def test_lines_are_counted_as_an_editor_does() -> None:
    data = f'kind,identifier\nALIAS,"a\nb"\nALIAS,a\x0bb\nALIAS,a\x85b\u2028c\nMSISDN,{NUMBER}'
    assert list_keys(read_file(data)) == [
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
    assert read_file("\r\n".join(lines)) == [
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
def test_a_faulty_object_is_refused_with_its_code(line: str, code: str) -> None:
    good = f'{{"kind":"MSISDN","identifier":"{NUMBER}"}}'
    assert list_keys(read_file(f"{good}\n{line}\n{good}\n")) == [(1, NUMBER), (2, code), (3, NUMBER)]


@pytest.mark.parametrize("name", ["import.csv", "import.ndjson"])
def test_the_templates_are_good_files(name: str) -> None:
    rows = read_file((TEMPLATES / name).read_bytes())
    assert [row.message for row in rows if row.code] == []
    assert {row.kind for row in rows} == set(KINDS)


def test_the_templates_are_the_samples_of_every_kind() -> None:
    """If this fails, run `make contract`."""
    assert (TEMPLATES / "import.csv").read_bytes() == templates.make_csv()
    assert (TEMPLATES / "import.ndjson").read_bytes() == templates.make_ndjson()


def test_both_templates_have_the_same_rows() -> None:
    by_name = [read_file((TEMPLATES / name).read_bytes()) for name in ("import.csv", "import.ndjson")]
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
        ("ACCOUNT_ID,\"1'234'567\"", "thousands_separator"),
        ('ACCOUNT_ID,"1,234,567.00"', "thousands_separator"),
        ('ACCOUNT_ID,"12,34,567"', "thousands_separator"),
        ('ACCOUNT_ID,"1.234.567,00"', "thousands_separator"),
        ("ACCOUNT_ID,1.234.567", "1.234.567"),
        ("ACCOUNT_ID,525512345678.000000", "decimal_number"),
        ("ACCOUNT_ID,12345.000", "12345.000"),
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
def test_damage_by_spreadsheets_is_repaired_or_refused(line: str, found: str) -> None:
    assert read_row(line) == found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "written",
    [
        *("1.23457e17", "1.23457E17", "1.23457e+17", '"1,23457e+017"', "1.23457E+017", "3.4e5", "1.2E-5", "1.e17"),
        *(".5e10", "5E+10", "5e+9", "1.23457 E+17", "1.23457×10^17", "1.23457*10^17", "1.23457x10**17", "1.2·10¹⁷"),
    ],
)
def test_a_number_in_scientific_notation_is_refused_in_every_spelling(kind: str, written: str) -> None:
    assert read_row(f"{kind},{written}") == "scientific_notation"


@pytest.mark.parametrize("text", ["219E01BE", "12E5", "5E10", "1e5", "E17", "1.23457e", "1.5.2e3", "v1.2e5", "3x10"])
def test_an_identifier_that_only_resembles_scientific_notation_is_kept(text: str) -> None:
    assert read_row(f"ACCOUNT_ID,{text}") == text


MARKS = [
    *("nan", "NaN", "NAN", "-nan", "None", "NONE", "none", "NULL", "null", "Null", "nil", "N/A", "n/a", "NA", "NaT"),
    *("undefined", "<NA>", "(null)", "\\N", "#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#¡VALOR!", "#¿NOMBRE?"),
    *("Err:502", "######", "-", "--", "—", "?"),
]
KEYED = f"MSISDN,{NUMBER}"


@pytest.mark.parametrize(
    "line",
    [
        *(
            "ALIAS,{},,,,",
            "ACCOUNT_ID,{},,,,",
            "EMAIL,{},,,,",
            "MSISDN,{},,,,",
            "ALIAS, {} ,,,,remove",
            'ALIAS,"{}",,,,',
        ),
        *(f"{KEYED},{{}},,,", f'{KEYED},"{{}}",,,replace', f"{KEYED},,{{}},,", f"{KEYED},,,,{{}}"),
        f"{{}},{NUMBER},,,,",
    ],
)
def test_a_mark_of_a_missing_value_is_no_value(line: str) -> None:
    good = f"MSISDN,{NUMBER},,,,\nALIAS,ana,,,,\nACCOUNT_ID,7,,,,\nEMAIL,a@b.mx,,,,"  # so that the fast way is taken
    for mark in MARKS:
        found = read_lines(good, line.format(mark))
        assert [(row.code, row.identifier) for row in found[4:]] == [("missing_value_mark", "")], mark
        assert mark not in found[4].message or mark in {"nan", "NULL", "N/A", "-", "?"}, mark


@pytest.mark.parametrize("mark", [mark for mark in MARKS if mark != "NA"])
def test_a_mark_of_a_missing_value_is_no_country(mark: str) -> None:
    assert list_keys(read_lines(f"{KEYED},,,{mark},")) == [(2, "missing_value_mark")]


def test_a_value_that_only_contains_a_mark_is_kept() -> None:
    """NA is Namibia.  In small letters it can be a name; Nat is one."""
    for text in ("nancy", "na", "Nat", "nonesuch", "null-7", "n-a", "banana", "shop.none"):
        assert read_row(f"ALIAS,{text}") == text
    assert list_keys(read_lines("MSISDN,0811234567,,,NA,")) == [(2, "264811234567")]


def test_a_row_removes_what_an_earlier_version_stored() -> None:
    """It stored marks as SubIds, and currencies that do not exist."""
    rows = read_lines(f"{KEYED},nan,NAN,,remove", f"{KEYED},,zzz,,remove", f"{KEYED},,HRK,,remove")
    assert [(row.code, row.sub_id, row.currency) for row in rows] == [
        ("", "nan", "NAN"),
        ("", "", "ZZZ"),
        ("", "", "HRK"),
    ]
    assert list_keys(read_lines(f"{KEYED},,pesos,,remove", "ALIAS,nan,,,,remove")) == [
        (2, "bad_currency"), (3, "missing_value_mark")
    ]  # fmt: skip


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_row_can_end_early_if_it_lacks_optional_columns_only(quote: str, end: str) -> None:
    table = [
        "identifier,currency,kind,sub_id,country",
        f"{NUMBER},,MSISDN,,", f"{NUMBER},,MSISDN", f"{NUMBER},MXN,MSISDN,shop", f"{NUMBER},,MSISDN", f"{NUMBER},MXN",
        f"{NUMBER}", f"{NUMBER},,", f"{NUMBER},,MSISDN,,,",
    ]  # fmt: skip
    quoted = [",".join(quote + cell + quote for cell in line.split(",")) for line in table]
    rows = read_file(end.join(quoted) + end)
    assert [(row.code or row.identifier, row.sub_id, row.currency) for row in rows] == [
        *((NUMBER, "", ""), (NUMBER, "", ""), (NUMBER, "shop", "MXN"), (NUMBER, "", "")),
        *(
            ("too_few_fields", "", ""),
            ("too_few_fields", "", ""),
            ("missing_kind", "", ""),
            ("too_many_fields", "", ""),
        ),
    ]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("last", ["MSISDN,525512", "MSISDN,525512345678,", "ALIAS,an", "MSISDN"])
def test_a_last_row_that_is_cut_is_refused(last: str, quote: str) -> None:
    """`ALIAS,an` without a line end can be the beginning of `ALIAS,ana,shop,MXN,,`: the file was cut there."""
    good = ["ALIAS,ana,,,,", "ALIAS,an", f"MSISDN,{NUMBER},"]
    lines = [",".join(quote + cell + quote for cell in line.split(",")) for line in [*good, last]]
    assert list_keys(read_lines(*lines)) == [(2, "ana"), (3, "an"), (4, NUMBER), (5, "too_few_fields")]


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
        ("MSISDN,02079460000,,,UK,", "bad_country"),
        (f"MSISDN,{NUMBER},,pesos,,", "bad_currency"),
        (f"MSISDN,{NUMBER},,ＭＸＮ,,", "bad_currency"),
        (f"MSISDN,{NUMBER},,,,upsert", "unknown_action"),
        (f"MSISDN,{NUMBER},a b,,,", "bad_sub_id"),
        (f"MSISDN,{NUMBER},=1,,,", "formula"),
        (f"MSISDN,{NUMBER},,ZZZ,,", "unknown_currency"),
        (f"MSISDN,{NUMBER},,HRK,,replace", "unknown_currency"),
        ("MSISDN", "too_few_fields"),
        ('"MSISDN"', "too_few_fields"),
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
def test_a_bad_row_is_refused_and_the_others_are_read(line: str, code: str) -> None:
    good = f"MSISDN,{NUMBER},,,,"
    rows = read_lines(good, line, good, good)
    assert list_keys(rows) == [(2, NUMBER), (3, code), (4, NUMBER), (5, NUMBER)]
    assert NUMBER not in rows[1].message


def test_every_code_has_a_message() -> None:
    assert set(REFUSALS) == set(get_args(RowCode))


def test_a_line_that_is_not_utf_8_is_refused() -> None:
    data = b"kind,identifier\nALIAS,se\xf1ora\nALIAS,senora\n"
    assert list_keys(read_file(data)) == [(2, "bad_encoding"), (3, "senora")]
    torn = "kind,identifier\nALIAS,a\nALIAS,b".encode("utf-16")[:-1]
    assert list_keys(read_file(torn)) == [(2, "a"), (3, "bad_encoding")]
    lone = codecs.BOM_UTF16_LE + "kind,identifier\nALIAS,\ud800\nALIAS,b".encode("utf-16-le", "surrogatepass")
    assert list_keys(read_file(lone)) == [(2, "bad_encoding"), (3, "b")]


def test_a_quote_that_is_never_closed_costs_one_row() -> None:
    rows = read_lines("ALIAS,a", 'ALIAS,"b', *["ALIAS,c"] * 20_000, header="kind,identifier")
    assert list_keys(rows[:4]) == [(2, "a"), (3, "bad_quoting"), (4, "c"), (5, "c")]
    assert [row.line for row in rows] == list(range(2, 20_004))


def test_a_quoted_record_has_a_limited_number_of_lines() -> None:
    """Otherwise the reader would read a file of open quotes to its end once for each line."""
    header = "kind,identifier,sub_id"
    longest = 'ALIAS,a,"' + "\n" * (RECORD_LINES_MAX - 1) + '"'
    assert list_keys(read_lines(longest, "ALIAS,b,", header=header)) == [(2, "bad_sub_id"), (RECORD_LINES_MAX + 2, "b")]
    longer = 'ALIAS,a,"' + "\n" * RECORD_LINES_MAX + '"'
    assert list_keys(read_lines(longer, "ALIAS,b,", header=header)) == [
        (2, "bad_quoting"), (RECORD_LINES_MAX + 2, "bad_quoting"), (RECORD_LINES_MAX + 3, "b"),
    ]  # fmt: skip
    # Each line has an open quote, read from its own beginning and also read within a quote.
    rows = read_lines(*['x","'] * 10_000, "ALIAS,b,", header=header)
    assert {row.code for row in rows[:-1]} == {"bad_quoting"}
    assert list_keys(rows[-1:]) == [(10_002, "b")]


def test_the_refusal_of_a_file_describes_its_form() -> None:
    assert read_refusal('[{"kind":"ALIAS","identifier":"a"}]\n') == "not_ndjson"
    with pytest.raises(FileRefused, match="Column 3 has no name"):
        read_file("kind,identifier,\nALIAS,a,\n")


def test_a_message_gives_the_reason_and_the_remedy() -> None:
    (row,) = read_lines("MSISDN,09250000001,,,,")
    assert row.message == (
        "MSISDN: it has 11 digits and looks like a national number; write + and the calling code, or name its country"
        " and write no + (national_without_country). "
        "The country belongs in the column country."
    )
    assert (row.kind, row.identifier) == ("MSISDN", "")


def test_a_country_makes_a_number_national() -> None:
    assert list_keys(read_lines("MSISDN,09250000001,,,mm,")) == [(2, "959250000001")]


def test_an_fsp_can_remove_what_it_cannot_register() -> None:
    checks = RowChecks(READING, kinds={"CLABE", "MSISDN"}, currencies={"MXN"})
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
    assert [row.code for row in read_file(data, checks)] == codes


def test_the_settings_decide_how_accounts_and_personal_ids_are_read() -> None:
    data = "kind,identifier\nACCOUNT_ID,32180000118359719\nPERSONAL_ID,12/OUKAMA(N)123456\n"
    assert list_keys(read_file(data, RowChecks(Reading(account_id_format="clabe")))) == [
        (2, "leading_zero_lost"),
        (3, "12-250019-N-123456"),
    ]
    assert list_keys(read_file(data, RowChecks(Reading(("MX",))))) == [(2, "32180000118359719"), (3, "bad_identifier")]


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
def test_an_unreadable_file_is_refused(data: bytes | str, code: str) -> None:
    assert read_refusal(data) == code


def test_a_file_in_another_format_than_the_given_one_is_refused() -> None:
    assert read_refusal('{"kind":"MSISDN"}', file_format="csv") == "no_header"
    assert read_refusal("kind,identifier\n", file_format="ndjson") == "not_ndjson"


def test_a_message_does_not_repeat_a_header_that_can_be_data() -> None:
    with pytest.raises(FileRefused) as refusal:
        read_file(f"kind,{NUMBER}\n")
    assert NUMBER not in str(refusal.value)


def test_too_many_rows_refuse_the_file() -> None:
    data = "kind,identifier\n" + f"MSISDN,{NUMBER}\n" * 11
    assert len(read_file(data, rows_max=11)) == 11
    assert read_refusal(data, rows_max=10) == "too_many_rows"


# Chunks and results -----------------------------------------------------------------------------------------


def test_chunks_are_full_and_numbered() -> None:
    data = ("kind,identifier\n" + f"MSISDN,{NUMBER}\nMSISDN,1\n" * 12).encode()
    reader = Reader(RowChecks(READING), rows_per_chunk=10)
    chunks: list[Chunk] = [*reader.feed(data), *reader.finish()]
    assert [(chunk.number, len(chunk.rows), chunk.refused) for chunk in chunks] == [(0, 10, 5), (1, 10, 5), (2, 4, 2)]
    assert (reader.rows_read, reader.rows_refused) == (24, 12)
