"""Small files as people send them, with made-up names and numbers: what is right for each row."""

from pathlib import Path

from oracle.identifiers import Reading
from oracle.imports.reading import FileRow, Reader, RowChecks

FILES = Path(__file__).parent / "field"


def read(name: str, default_country: str | None = None) -> list[str]:
    """Return the code or the identifier of each row; the reason of a bad identifier."""
    reader = Reader(RowChecks(Reading(), default_country=default_country))
    chunks = [*reader.feed((FILES / name).read_bytes()), *reader.finish()]
    return [_describe(row) for chunk in chunks for row in chunk.rows]


def _describe(row: FileRow) -> str:
    if row.code == "bad_identifier":
        return row.message.partition("(")[2].partition(")")[0]
    return row.code or row.identifier


def test_a_national_number_needs_the_country_of_its_row_its_file_or_its_fsp() -> None:
    """The fifth is valid nowhere: test data of the scheme."""
    refused, others = "national_without_country", ["123456789", "525512340006", "525512340007", "959250000013"]
    assert read("national_without_country.csv") == [*[refused] * 4, *others]
    mexican = ["525512340006", "523312340006", "528112340006"]
    assert read("national_without_country.csv", "MX") == [*mexican, refused, *others]
    assert read("national_without_country.csv", "MM") == [*[refused] * 3, "959250000012", *others]


def test_marks_of_missing_values_and_currencies_that_do_not_exist_are_refused() -> None:
    """XTS is the code of ISO 4217 for tests."""
    marks = ["missing_value_mark"] * 4
    assert read("missing_values.csv") == [*marks, "unknown_currency", "525512340104", "525512340105"]


def test_scientific_notation_is_refused_but_not_an_identifier_with_an_e() -> None:
    assert read("scientific_notation.csv") == ["scientific_notation", "scientific_notation", "219E01BE"]


def test_rows_without_the_separators_of_empty_last_cells_are_read() -> None:
    assert read("excel_drops_empty_cells.csv") == ["525512340201", "525512340202", "525512340203"]
