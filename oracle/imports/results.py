"""The results file: the result of each row, in the order of the uploaded file, made from the chunks while it is sent.

A row that has not been applied is pending; once the batch has ended it is cancelled.  The file of a batch that has
ended is always the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Final, Literal

import msgspec

from oracle.identifiers import PartyKey
from oracle.imports import chunks, results_csv
from oracle.imports.chunks import RowResult
from oracle.imports.rows import FileRow
from oracle.store.postgres import Postgres

Form = Literal["csv", "ndjson"]

CHUNKS_AT_ONCE: Final = 4
_FAILED: Final = frozenset({"invalid", "refused", "cancelled"})
_PENDING: Final = RowResult("pending")
_UNAPPLIED: Final = {
    "cancelled": RowResult("cancelled", "cancelled", "The batch was cancelled before this row was applied."),
    "rejected": RowResult("cancelled", "rejected", "The batch was rejected."),
    "failed": RowResult("cancelled", "file_refused", "The file was refused as a whole."),
}

Result = tuple[int, str, str, str, str, str]
_encode_lines: Final = msgspec.json.Encoder().encode_lines


async def stream_results(
    postgres: Postgres, batch_id: int, form: Form = "csv", *, only_failed: bool = False
) -> AsyncGenerator[bytes]:
    """Yield the file in pieces.  Raises DirectoryUnavailable, also in the middle."""
    if form == "csv":
        yield results_csv.write_header()
    write = results_csv.write_lines if form == "csv" else _write_ndjson
    first = 0
    while found := await postgres.rows("batch_results", batch_id, first, CHUNKS_AT_ONCE):
        for chunk in found:
            # In a thread, because thousands of lines take milliseconds in which other calls would wait.
            yield await asyncio.to_thread(_write_chunk, write, chunk, only_failed)
        first += CHUNKS_AT_ONCE


def _write_chunk(write: Callable[[Iterator[Result]], bytes], chunk: Any, only_failed: bool) -> bytes:
    return write(list_results(chunk, only_failed=only_failed))


def list_results(chunk: Any, *, only_failed: bool) -> Iterator[Result]:
    done: bytes = chunk["results"]
    unapplied = _UNAPPLIED.get(chunk["state"], _PENDING)
    for at, row in enumerate(chunks.unpack_rows(chunk["rows"])):
        if row.code:
            yield row.line, "invalid", row.code, row.message, row.kind, ""
            continue
        status, code, message = chunks.ROW_RESULTS[done[at]] if at < len(done) else unapplied
        if not only_failed or status in _FAILED:
            yield row.line, status, code, message, row.kind, row.identifier


def _write_ndjson(results: Iterator[Result]) -> bytes:
    return _encode_lines([dict(zip(results_csv.COLUMNS, result, strict=True)) for result in results])


async def find_rows_about(postgres: Postgres, batch_id: int, key: PartyKey, xact: str | None = None) -> list[FileRow]:
    """Find the rows of a batch that have this key.

    `xact`, the transaction of an event that a row of this batch made, selects the chunks to search; None: all of them.
    """
    found: list[FileRow] = []
    for chunk in await postgres.rows("batch_chunks_of", batch_id, xact):
        stored = await postgres.row("batch_chunk", batch_id, chunk["chunk"])
        rows = await asyncio.to_thread(chunks.unpack_rows, stored["rows"])
        found += [row for row in rows if (row.party_id_type, row.identifier, row.sub_id) == tuple(key)]
    return found
