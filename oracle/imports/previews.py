"""A sample of what a waiting batch would do: for some of its rows, the entries of the alias now and afterwards.

The rows are chosen at random each time, so that nobody can know before which ones a checker sees.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final, NamedTuple

from oracle.imports import chunks
from oracle.imports.rows import FileRow
from oracle.store.postgres import Postgres

CHUNKS_MAX: Final = 2  # each has thousands of rows to unpack

Currencies = list[str | None]  # of the entries of an alias, the one that answers without a currency first


class Preview(NamedTuple):
    row: FileRow
    before: Currencies
    after: Currencies


async def sample_changes(postgres: Postgres, batch: Any, limit: int) -> list[Preview]:
    """Choose some valid rows of a waiting batch, at most `limit`, in the order of the file.

    Raises DirectoryUnavailable.
    """
    numbers = sorted(random.sample(range(batch["chunks"]), min(batch["chunks"], CHUNKS_MAX)))
    rows: list[FileRow] = []
    for number in numbers:
        stored = await postgres.row("batch_chunk", batch["batch_id"], number)
        if stored is not None:  # else it was deleted meanwhile
            rows += await asyncio.to_thread(_choose, stored["rows"], limit)
    rows = sorted(random.sample(rows, min(len(rows), limit)))
    present: list[Currencies] = [[] for _ in rows]
    if rows:
        keys = zip(*[(row.party_id_type, row.identifier, row.sub_id) for row in rows], strict=True)
        for entry in await postgres.rows("alias_entries", batch["fsp_id"], *keys):
            present[entry["ord"] - 1].append(entry["currency"] or None)
    registers = batch["change_action"] != "update"
    return [
        Preview(row, before, apply_to(row, before, registers=registers))
        for row, before in zip(rows, present, strict=True)
    ]


def _choose(packed: bytes, limit: int) -> list[FileRow]:
    rows = [row for row in chunks.unpack_rows(packed) if not row.code]
    return random.sample(rows, min(len(rows), limit))


def apply_to(row: FileRow, before: Currencies, *, registers: bool = True) -> Currencies:
    """Return the entries that the row would leave (`applying`), if the directory accepts it.

    `registers`: whether a replacement registers an alias that is not there.
    """
    currency = row.currency or None
    if row.action == "add":
        return before if currency in before else [*before, currency]
    if row.action == "replace":
        return [currency] if before or registers else []
    return [each for each in before if currency is not None and each != currency]
