"""Every row of docs/account-lookup.md has a test, and every test that names a row names one of the document."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
SCHEME: Final = FOLDER.parent / "scheme"  # the tests of section 10
DOCUMENT: Final = FOLDER.parents[1] / "docs" / "account-lookup.md"
ROW: Final = re.compile(r"^\| ([A-Z]\d{2,3}[a-z]?) \|", re.MULTILINE)


def list_rows(document: str) -> list[str]:
    return ROW.findall(document)


def find_named(source: str) -> Iterator[str]:
    """Yield the rows that the tests of a file name: `@row("C07", "C08")` in front of a test."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or not node.name.startswith("test_"):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "row":
                for argument in decorator.args:
                    assert isinstance(argument, ast.Constant), f"{node.name}: write the names of the rows out"
                    assert isinstance(argument.value, str)
                    yield argument.value


def test_every_row_has_a_test_and_every_test_names_a_row() -> None:
    rows = list_rows(DOCUMENT.read_text())
    assert len(rows) == len(set(rows)), "two rows have the same name"
    files = (*FOLDER.glob("test_*.py"), *SCHEME.glob("test_*.py"))
    named = {name for file in files for name in find_named(file.read_text())}
    assert sorted(set(rows) - named) == [], "rows without a test"
    assert sorted(named - set(rows)) == [], "tests of rows that the document does not have"


def test_a_row_and_its_test_are_found() -> None:
    assert list_rows("| row | what |\n|---|---|\n| C07 | x |\n| M1 | too short |\n| X100 | y |\n") == ["C07", "X100"]
    source = '@row("C07", "C08")\nasync def test_a() -> None: ...\n@other("C09")\ndef test_b() -> None: ...\n'
    assert list(find_named(source)) == ["C07", "C08"]
