"""The named queries of the .sql files beside this one, read once at import: `QUERIES["entries_by_keys"]`.

A name exists once, whichever file it is in.  Each name has a signature, which a test compares with the database:

    -- name: fsp_status(text) -> AllowanceRow

The types of the parameters, then the row: a type of `store/rows`, or int, float, bool or str for one column, or
`ignored` where nobody reads the rows.  A query that returns no columns has no arrow.  Continuation lines begin with --.

What several queries of a file begin with, or contain, is written once, and included as whole lines:

    -- fragment: batch_columns
    -- include: batch_columns
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final, NamedTuple

_GAP = r"(?:\s|--)*"
_HEADER: Final = re.compile(rf"^-- name: (\w+)\(([^)]*)\)(?:{_GAP}->{_GAP}(\w+))?\n", re.MULTILINE)
_FRAGMENT: Final = re.compile(r"^-- fragment: (\w+)\n(.*?)(?=^-- (?:name|fragment): |\Z)", re.MULTILINE | re.DOTALL)
_INCLUDE: Final = re.compile(r"^-- include: (\w+)$", re.MULTILINE)
_SEPARATOR: Final = re.compile(rf",{_GAP}")


class Query(NamedTuple):
    sql: str
    parameters: list[str]
    row: str | None


def parse(text: str) -> dict[str, Query]:
    """Read a file of `-- name: x(…)` sections; the comments below a name stay in the SQL, for pg_stat_activity.

    Raises ValueError for a name without a signature, for a name that exists twice, and for an unknown fragment.
    """
    text = _include_fragments(text)
    parts = _HEADER.split(text)
    found = {
        name: Query(sql.strip(), _SEPARATOR.split(parameters) if parameters else [], row)
        for name, parameters, row, sql in zip(parts[1::4], parts[2::4], parts[3::4], parts[4::4], strict=True)
    }
    if len(found) != text.count("-- name:"):
        raise ValueError("a query has no signature, or its name exists twice")
    return found


def _include_fragments(text: str) -> str:
    fragments = {name: sql.strip() for name, sql in _FRAGMENT.findall(text)}
    unknown = set(_INCLUDE.findall(text)) - fragments.keys()
    if unknown:
        raise ValueError(f"no fragment has the name {', '.join(sorted(unknown))}")
    return _INCLUDE.sub(lambda found: fragments[found[1]], _FRAGMENT.sub("", text))


def read_all() -> dict[str, Query]:
    """Read the queries of all files.  Raises ValueError as `parse`."""
    folder = files("oracle.store.queries").iterdir()
    return parse("\n".join(file.read_text(encoding="utf-8") for file in folder if file.name.endswith(".sql")))


QUERIES: Final = {name: query.sql for name, query in read_all().items()}
