"""The named queries of queries.sql, read once at import: `QUERIES["entries_by_keys"]`."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final


def load(text: str) -> dict[str, str]:
    """Name to SQL, from a file of `-- name: x` sections; the comments below a name stay, for pg_stat_activity."""
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}


QUERIES: Final = load(files("oracle.store").joinpath("queries.sql").read_text(encoding="utf-8"))
