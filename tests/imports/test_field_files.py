"""Small files as people send them, with made-up names and numbers: what is right for each row."""

from pathlib import Path

from oracle.identifiers import Reading
from oracle.imports.reading import Reader, RowChecks

FILES = Path(__file__).parent / "field"


def read(name: str) -> list[str]:
    """Return the code or the identifier of each row."""
    reader = Reader(RowChecks(Reading()))
    chunks = [*reader.feed((FILES / name).read_bytes()), *reader.finish()]
    return [row.code or row.identifier for chunk in chunks for row in chunk.rows]


def test_marks_of_missing_values_and_currencies_that_do_not_exist_are_refused() -> None:
    """XTS is the code of ISO 4217 for tests."""
    marks = ["missing_value_mark"] * 4
    assert read("missing_values.csv") == [*marks, "unknown_currency", "525512340104", "525512340105"]


def test_scientific_notation_is_refused_but_not_an_identifier_with_an_e() -> None:
    assert read("scientific_notation.csv") == ["scientific_notation", "scientific_notation", "219E01BE"]


def test_rows_without_the_separators_of_empty_last_cells_are_read() -> None:
    assert read("excel_drops_empty_cells.csv") == ["525512340201", "525512340202", "525512340203"]
