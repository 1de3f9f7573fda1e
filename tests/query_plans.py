"""What PostgreSQL reads for a query: how many rows, by which index.  Times depend on the machine, these do not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from oracle.store.queries import QUERIES


def write_explain(query: str, arguments: Sequence[str]) -> str:
    """Write the statement that runs a named query with these arguments, as SQL, and shows its plan as JSON.

    The arguments are in the text, as in a plan for the arguments of a call.
    """
    sql = QUERIES[query]
    for number, value in reversed(list(enumerate(arguments, 1))):
        sql = sql.replace(f"${number}", value)
    return f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"


def read_plan(text: str) -> Any:
    return json.loads(text)[0]["Plan"]


def list_scans(plan: Any, table: str) -> Iterator[Any]:
    """The scans of a table in a plan; of a scan by bitmap, that of the index."""
    is_of_table = plan.get("Relation Name") == table and "Bitmap" not in plan["Node Type"]
    if is_of_table or plan.get("Index Name", "").startswith(f"{table}_"):
        yield plan
    for each in plan.get("Plans", ()):
        yield from list_scans(each, table)


def count_read(plan: Any, table: str) -> int:
    """Count the rows of a table that a plan read, also those that a filter removed."""
    return sum(
        round((scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"])
        for scan in list_scans(plan, table)
    )
