"""Every named query has, on the migrated schema, the parameters and the columns that its signature declares."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args, get_type_hints
from uuid import UUID

import asyncpg
import pytest

import oracle
from oracle.store import rows
from oracle.store.queries import QUERIES, Query, parse, read_all

PYTHON_TYPES: Final[dict[str, type]] = {
    "batch_state": str,
    "bool": bool,
    "bytea": bytes,
    "bytea[]": list[bytes],
    "float8": float,
    "int2": int,
    "int4": int,
    "int8": int,
    "jsonb": str,
    "text": str,
    "text[]": list[str],
    "timestamptz": datetime,
    "timestamptz[]": list[datetime],
    "uuid": UUID,
}
SCALARS: Final = {"bool": bool, "float": float, "int": int, "str": str}
ROWS: Final = {name: row for name, row in vars(rows).items() if name.endswith("Row")}


def without_none(type_: Any) -> Any:
    """Remove None from a union; PostgreSQL does not report which columns can be NULL."""
    (found,) = [each for each in get_args(type_) if each is not NoneType] if NoneType in get_args(type_) else [type_]
    return found


def differences(query: Query, parameters: list[str], columns: list[tuple[str, str]]) -> list[str]:
    """Compare a query's signature with its parameters and with its columns, each a name and a PostgreSQL type."""
    found = []
    if query.parameters != parameters:
        found.append(f"parameters are {', '.join(parameters)}")
    # A record gives the last of two columns with one name.
    actual = {name: PYTHON_TYPES.get(type_) for name, type_ in columns}
    if query.row is None or query.row == "ignored":
        if bool(columns) != (query.row == "ignored"):
            found.append(f"columns are {', '.join(actual) or 'none'}")
    elif query.row in SCALARS:
        if list(actual.values()) != [SCALARS[query.row]]:
            found.append(f"the result is {actual}")
    elif query.row not in ROWS:
        found.append(f"there is no row type {query.row}")
    else:
        # PostgreSQL does not report how many dimensions an array has.
        declared = {
            name: list[str] if type_ == list[list[str]] else without_none(type_)
            for name, type_ in get_type_hints(ROWS[query.row]).items()
        }
        if list(declared.items()) != list(actual.items()):
            found.append(f"{query.row} declares {declared}, the columns are {actual}")
    return found


async def test_every_query_has_the_parameters_and_columns_of_its_signature(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        found = {}
        for name, query in read_all().items():
            prepared = await connection.prepare(query.sql)
            parameters = [type_.name for type_ in prepared.get_parameters()]
            columns = [(column.name, column.type.name) for column in prepared.get_attributes()]
            found[name] = differences(query, parameters, columns)
    finally:
        await connection.close()
    assert {name: different for name, different in found.items() if different} == {}
    assert len(found) > 100


STATUS: Final = [("fsp_id", "text"), ("status", "text")]


@pytest.mark.parametrize(
    ("signature", "parameters", "columns"),
    [
        ("(text[])", ["text"], STATUS),
        ("(text)", ["text", "int8"], STATUS),
        ("(text)", ["text"], [("fsp_id", "text"), ("state", "text")]),
        ("(text)", ["text"], [("fsp_id", "text"), ("status", "bool")]),
        ("(text)", ["text"], [("fsp_id", "text"), ("status", "point")]),
        ("(text)", ["text"], [*STATUS, ("name", "text")]),
        ("(text)", ["text"], STATUS[:1]),
        ("(text)", ["text"], STATUS[::-1]),
        ("(text)", ["text"], []),
    ],
)
def test_a_query_that_differs_from_its_signature_is_found(
    signature: str, parameters: list[str], columns: list[tuple[str, str]]
) -> None:
    query = parse(f"-- name: one{signature} -> FspStatusRow\nSELECT")["one"]
    assert len(differences(query, parameters, columns)) == 1


@pytest.mark.parametrize(
    ("row", "columns"),
    [("", STATUS), (" -> ignored", []), (" -> int", [("count", "text")]), (" -> int", STATUS), (" -> NoRow", STATUS)],
)
def test_a_result_that_differs_from_its_signature_is_found(row: str, columns: list[tuple[str, str]]) -> None:
    assert len(differences(parse(f"-- name: one(){row}\nSELECT")["one"], [], columns)) == 1


def test_a_signature_can_take_several_lines() -> None:
    text = "-- name: one(text,\n--     int8[]) ->\n--     FspStatusRow\n-- Why.\nSELECT\n\n-- name: two()\nSELECT 2\n"
    assert parse(text) == {
        "one": Query("-- Why.\nSELECT", ["text", "int8[]"], "FspStatusRow"),
        "two": Query("SELECT 2", [], None),
    }


@pytest.mark.parametrize("second", ["-- name: two\nSELECT", "-- name: two(text\nSELECT", "-- name: one()\nSELECT"])
def test_a_query_without_a_signature_or_with_a_taken_name_is_refused(second: str) -> None:
    with pytest.raises(ValueError, match="no signature, or its name exists twice"):
        parse(f"-- name: one()\nSELECT\n\n{second}")


SOURCE: Final = "\n".join(file.read_text(encoding="utf-8") for file in Path(oracle.__file__).parent.rglob("*.py"))
RUN: Final = re.compile(r'(?:QUERIES\[|\.(?:rows|row|run|note|stream)\(\s*)"(\w+)"')


def test_every_query_is_run_and_every_query_that_is_run_exists() -> None:
    assert QUERIES.keys() - set(re.findall(r'"(\w+)"', SOURCE)) == set()
    assert set(RUN.findall(SOURCE)) - QUERIES.keys() == set()


def test_every_row_type_is_returned() -> None:
    assert ROWS.keys() - {query.row for query in read_all().values()} == set()


def test_a_fragment_is_included_where_it_is_named() -> None:
    text = "-- fragment: some\nSELECT 1\n\n-- name: one() -> int\n-- Why.\n-- include: some\nFROM t\n"
    assert parse(text)["one"].sql == "-- Why.\nSELECT 1\nFROM t"
    with pytest.raises(ValueError, match="no fragment has the name other"):
        parse(f"{text}-- include: other\n")
