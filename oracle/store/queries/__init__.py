"""The named queries of the .sql files beside this one, read once at import: `QUERIES["entries_by_keys"]`.

A name exists once, whichever file it is in.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final


def load(text: str) -> dict[str, str]:
    """Name to SQL, from a file of `-- name: x` sections; the comments below a name stay, for pg_stat_activity."""
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}


def _all() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files("oracle.store.queries").iterdir():
        if file.name.endswith(".sql"):
            here = load(file.read_text(encoding="utf-8"))
            assert not (found.keys() & here.keys()), file.name  # noqa: S101 - two queries of one name
            found |= here
    return found


QUERIES: Final = _all()
