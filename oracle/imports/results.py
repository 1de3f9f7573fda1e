"""The results file: the result of each row, in the order of the uploaded file, made from the chunks while it is sent.

Each row is there as it came, too, read from the uploaded file (`originals`) and written by `results_files`.

A row that has not been applied is pending; once the batch has ended it is cancelled.  The file of a batch that has
ended is always the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, Literal

from oracle.identifiers import PartyKey
from oracle.imports import chunks, results_files
from oracle.imports.chunks import RowResult
from oracle.imports.originals import Originals
from oracle.imports.results_files import Result
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


class ResultsFile:
    """The results of one batch, as a file: open it, then send its pieces."""

    def __init__(
        self,
        postgres: Postgres,
        batch_id: int,
        file_format: str,
        form: Form | None = None,
        *,
        only_failed: bool = False,
    ) -> None:
        """`file_format`: of the uploaded file, csv or ndjson.  `form`: of the results, by default the same."""
        self.form: Form = form or ("ndjson" if file_format == "ndjson" else "csv")
        self._postgres = postgres
        self._batch_id = batch_id
        self._file_format = file_format
        self._only_failed = only_failed
        self._originals = Originals(postgres, batch_id)

    async def open(self) -> None:
        """Raises DirectoryUnavailable."""
        await self._originals.open()
        self._writer = results_files.choose_writer(self._originals, self._file_format, self.form)

    @property
    def charset(self) -> str:
        """The encoding of a CSV file of results is that of the uploaded file; that of NDJSON is UTF-8."""
        is_mirrored = self.form == self._file_format == "csv"
        return self._originals.encoding.partition("-le")[0].partition("-be")[0] if is_mirrored else "utf-8"

    async def stream(self) -> AsyncGenerator[bytes]:
        """Yield the file in pieces.  Raises DirectoryUnavailable, also in the middle."""
        if head := self._writer.write_head():
            yield head
        first = 0
        while found := await self._postgres.rows("batch_results", self._batch_id, first, CHUNKS_AT_ONCE):
            for chunk in found:
                # In a thread, because thousands of lines take milliseconds in which other calls would wait.
                results = await asyncio.to_thread(self._list_chunk, chunk)
                while results:
                    await self._originals.fetch(results[-1].line)
                    yield await asyncio.to_thread(self._write_available, results)
            first += CHUNKS_AT_ONCE

    def _list_chunk(self, chunk: Any) -> list[Result]:
        """Return the results of a chunk, the last one first."""
        results = list(list_results(chunk, only_failed=self._only_failed))
        results.reverse()
        return results

    def _write_available(self, results: list[Result]) -> bytes:
        """Write the results whose rows have been read, and remove them from the list."""
        return self._writer.write(self._take_available(results))

    def _take_available(self, results: list[Result]) -> Iterator[Result]:
        while results and self._originals.has(results[-1].line):
            yield results.pop()


async def stream_results(
    postgres: Postgres, batch_id: int, form: Form | None = None, *, file_format: str = "csv", only_failed: bool = False
) -> AsyncGenerator[bytes]:
    """Open the results of a batch, and yield them in pieces.  Raises DirectoryUnavailable, also in the middle."""
    file = ResultsFile(postgres, batch_id, file_format, form, only_failed=only_failed)
    await file.open()
    async for piece in file.stream():
        yield piece


def list_results(chunk: Any, *, only_failed: bool) -> Iterator[Result]:
    done: bytes = chunk["results"]
    if only_failed and chunk["state"] == "done" and chunks.are_in_force(done):
        return  # all rows of a batch that is done have results: there is no need to unpack these
    unapplied = _UNAPPLIED.get(chunk["state"], _PENDING)
    for at, row in enumerate(chunks.unpack_rows(chunk["rows"])):
        if row.code:
            yield Result(row.line, "invalid", row.code, row.message, "")
            continue
        status, code, message = chunks.ROW_RESULTS[done[at]] if at < len(done) else unapplied
        if not only_failed or status in _FAILED:
            yield Result(row.line, status, code, message, row.identifier)


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
