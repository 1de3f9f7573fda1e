"""The results file: the result of each row, in the order of the uploaded file, made from the chunks while it is sent.

Each row is there as it came, too, read from the uploaded file (`originals`) and written by `results_files`.

A row that has not been applied is pending; once the batch has ended it is cancelled.  The file of a batch that has
ended is always the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, Literal, NamedTuple

from oracle.identifiers import PartyKey
from oracle.imports import chunks, results_files
from oracle.imports.chunks import RowResult
from oracle.imports.originals import Originals
from oracle.imports.results_files import Result
from oracle.imports.rows import FileRow
from oracle.store.postgres import Postgres

Form = Literal["csv", "ndjson"]

CHUNKS_AT_ONCE: Final = 4
MARKS_AT_ONCE: Final = 100  # results of chunks, without their rows: a byte a row
CHUNKS_OF_PAGE_MAX: Final = 4  # whose rows are read for one page
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


class Position(NamedTuple):
    """Where a page of results begins."""

    chunk: int
    line: int  # behind this one


async def list_page(
    postgres: Postgres, batch_id: int, begin: Position, limit: int, *, only_failed: bool
) -> tuple[list[tuple[FileRow, RowResult]], Position | None]:
    """List rows with their results, and where the next page begins; None: there are no more.

    A page can have fewer rows than `limit`, even none, and still a next page: a call reads a few chunks at most.
    Raises DirectoryUnavailable.
    """
    found: list[tuple[FileRow, RowResult]] = []
    first, read = begin.chunk, 0
    while marks := await postgres.rows("batch_marks", batch_id, first, MARKS_AT_ONCE):
        for mark in marks:
            if only_failed and _is_in_force(mark):
                continue
            if read == CHUNKS_OF_PAGE_MAX:
                return found, Position(mark["chunk"], 0)
            read += 1
            stored = await postgres.row("batch_chunk", batch_id, mark["chunk"])
            if stored is None:
                return found, None  # it is read again, or deleted
            chunk = {**stored, "state": mark["state"]}
            for row, result in await asyncio.to_thread(_list_rows, chunk, only_failed=only_failed):
                if row.line <= begin.line:
                    continue
                if len(found) == limit:
                    return found, Position(mark["chunk"], found[-1][0].line)
                found.append((row, result))
        first += MARKS_AT_ONCE
    return found, None


def _is_in_force(chunk: Any) -> bool:
    """Whether all rows of a chunk are applied: all rows of a batch that is done have results."""
    return chunk["state"] == "done" and chunks.are_in_force(chunk["results"])


def _list_rows(chunk: Any, *, only_failed: bool) -> list[tuple[FileRow, RowResult]]:
    done: bytes = chunk["results"]
    unapplied = _UNAPPLIED.get(chunk["state"], _PENDING)
    found = []
    for at, row in enumerate(chunks.unpack_rows(chunk["rows"])):
        if row.code:
            result = RowResult("invalid", row.code, row.message)
        else:
            result = chunks.ROW_RESULTS[done[at]] if at < len(done) else unapplied
        if not only_failed or result.status in _FAILED:
            found.append((row, result))
    return found


def list_results(chunk: Any, *, only_failed: bool) -> Iterator[Result]:
    if only_failed and _is_in_force(chunk):
        return  # there is no need to unpack these
    for row, (status, code, message) in _list_rows(chunk, only_failed=only_failed):
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
