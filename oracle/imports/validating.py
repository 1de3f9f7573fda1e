"""Reads an uploaded file part by part, checks its rows, and stores them in chunks.

One transaction stores the rows of one part of the file, or those read within `ImportLimits.read_s` if that is less.

A process that continues a half-read file begins at its first byte again, because the reader's chunks depend on the file
alone.  It stores nothing before the first chunk that is missing, or that differs because the checks or the reader
changed in between.  That is always exact, and costs about 5 s for each million rows.

A thread does the reading: the other jobs of the process wait for it some milliseconds at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from oracle.imports import chunks
from oracle.imports.applying import Rate, Superseded, make_request_id
from oracle.imports.import_limits import IMPORT_LIMITS, ImportLimits
from oracle.imports.reading import Chunk, FileRefused, Reader, RowChecks
from oracle.store.base import Context
from oracle.store.changes import Changes
from oracle.store.postgres import Postgres, Transaction

_DAMAGED: Final = ("damaged_file", "The stored file is damaged. Upload it again.")


class StoredChunk:
    """A chunk in the form in which the database keeps it."""

    def __init__(self, chunk: Chunk) -> None:
        self.number = chunk.number
        self.first_line = chunk.rows[0].line
        self.row_count = len(chunk.rows)
        self.refused = chunk.refused
        self.data = chunks.pack_rows(chunk.rows)


class CheckedRows(NamedTuple):
    """The rows of one part, checked, and the totals of the file up to here."""

    found: Sequence[StoredChunk]
    chunks: int
    file_bytes: int
    rows: int
    valid: int
    is_end: bool
    failure: tuple[str, str] | None  # code and message, of a file that cannot be read at all


class Validating:
    """Reads and checks one batch, from its first byte."""

    def __init__(
        self, changes: Changes, postgres: Postgres, batch: Any, checks: RowChecks,
        # Gets how many rows are valid and how many are not, after they are stored.
        report: Callable[[int, int], None] = lambda *_: None, limits: ImportLimits = IMPORT_LIMITS,
    ) -> None:  # fmt: skip
        self._changes = changes
        self._postgres = postgres
        self._batch_id: int = batch["batch_id"]
        self._sha256: bytes = batch["file_sha256"]
        self._known: int = batch["chunks"]  # how many are stored
        self._report = report
        self._limits = limits
        self._reader = Reader(
            checks, rows_per_chunk=limits.rows_per_chunk, rows_max=limits.rows_max, block_bytes=limits.block_bytes
        )
        self._digest = hashlib.sha256()
        self._part = 0
        self._left = b""  # the unread rest of a part
        self._next: asyncio.Task[bytes | None] | None = None
        self._unstored: CheckedRows | None = None
        self._chunks = self._file_bytes = self._rows = self._refused = 0
        self._rate = Rate()
        self._context = Context(
            channel="import", actor=batch["uploaded_by"], role=batch["uploaded_role"], fsp_id=batch["fsp_id"],
            reason=batch["file_name"], request_id=make_request_id(self._batch_id),
        )  # fmt: skip

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
            self._next = None

    async def step(self) -> bool:
        """Read a part of the file; return False if that was the last.

        Raises Superseded; DirectoryUnavailable, then the same part can be tried again.
        """
        began, rows = time.monotonic(), self._rows
        if self._unstored is None:
            data = None if self._left else await self._take_part()
            self._unstored = await asyncio.to_thread(self._read, data)
        read = self._unstored
        await self._store(read)
        self._unstored = None
        if read.is_end:
            await self.close()
            return False
        self._rate.count(read.rows - rows, time.monotonic() - began)
        return True

    async def _take_part(self) -> bytes | None:
        """Return the next part, None at the end, and begin to fetch the part after it."""
        coming = self._next or asyncio.create_task(self._fetch(self._part))
        self._next = coming
        try:
            data = await asyncio.shield(coming)
        finally:
            if coming.done():
                self._next = None
        if data is not None:
            self._part += 1
            self._next = asyncio.create_task(self._fetch(self._part))
        return data

    async def _fetch(self, part: int) -> bytes | None:
        row = await self._postgres.row("batch_part", self._batch_id, part)
        return None if row is None else row["data"]

    # In a thread -----------------------------------------------------------------------------------------------

    def _read(self, data: bytes | None) -> CheckedRows:
        found: list[StoredChunk] = []
        failure: tuple[str, str] | None = None
        is_end = data is None and not self._left
        try:
            for chunk in self._reader.finish() if is_end else self._cut_chunks(data):
                found.append(StoredChunk(chunk))
                self._chunks += 1
                self._rows += len(chunk.rows)
                self._refused += chunk.refused
                if not is_end:
                    self._require_good_rows()
        except FileRefused as exc:
            failure = (exc.code, str(exc))
        except zlib.error:
            failure = _DAMAGED
        return CheckedRows(
            found, self._chunks, self._file_bytes, self._rows, self._rows - self._refused,
            is_end or failure is not None, failure,
        )  # fmt: skip

    def _require_good_rows(self) -> None:
        """Raise FileRefused when nearly no row is good.  It depends on the file alone, as chunks do."""
        limits, good = self._limits, self._rows - self._refused
        if self._refused >= limits.bad_rows_max and self._refused > good * limits.bad_rows_per_good:
            raise FileRefused(
                "too_many_bad_rows",
                f"Reading stopped after {self._rows:,} rows: {self._refused:,} of them are not valid.",
                "Look at the first results, and compare the columns and their order with the template. Correct the"
                " file, and upload it again.",
            )

    def _cut_chunks(self, data: bytes | None) -> list[Chunk]:
        """Return the chunks of a part, or of the rest of the part before if `data` is None."""
        if data is not None:
            self._left = zlib.decompress(data)
            self._digest.update(self._left)
        found: list[Chunk] = []
        block_bytes = self._limits.block_bytes
        until = time.monotonic() + self._limits.read_s
        while self._left:
            piece, self._left = self._left[:block_bytes], self._left[block_bytes:]
            self._file_bytes += len(piece)
            found += self._reader.feed(piece)
            if time.monotonic() > until:
                break
        return found

    # In a transaction ------------------------------------------------------------------------------------------

    async def _store(self, read: CheckedRows) -> None:
        new = await self._find_new(read.found)
        failure = read.failure
        if read.is_end and failure is None and self._digest.digest() != self._sha256:
            failure, new = _DAMAGED, []
        if not (new or read.is_end):
            return

        async def work(transaction: Transaction) -> None:
            (batch,) = await transaction.rows("batch_locked", self._batch_id, None)
            if (batch["state"], batch["chunks"]) != ("validating", self._known):
                raise Superseded
            if new or failure is None:
                await self._add(transaction, new, read)
            if failure is not None:
                await transaction.run("batch_fail", self._batch_id, *failure)
            elif read.is_end:
                await transaction.run("batch_validation_ended", self._batch_id)

        await self._changes.administer(self._context, work)
        self._known = read.chunks
        if new or failure is None:
            refused = sum(chunk.refused for chunk in new)
            self._report(sum(chunk.row_count for chunk in new) - refused, refused)

    async def _add(self, transaction: Transaction, new: Sequence[StoredChunk], read: CheckedRows) -> None:
        first = new[0].number if new else read.chunks
        if first < self._known:
            await transaction.run("chunks_delete", self._batch_id, first)
        if new:
            columns = zip(*((c.number, c.first_line, c.row_count, c.data) for c in new), strict=True)
            await transaction.run("chunks_add", self._batch_id, *map(list, columns))
        await transaction.run(
            "batch_validated", self._batch_id, read.chunks, read.file_bytes, read.rows, read.valid, self._rate.per_s
        )

    async def _find_new(self, found: Sequence[StoredChunk]) -> Sequence[StoredChunk]:
        """Return the chunks from the first one on that is missing in the database or differs there."""
        if not found or found[0].number >= self._known:
            return found
        rows = await self._postgres.rows("chunk_digests", self._batch_id, found[0].number, found[-1].number + 1)
        stored = {row["chunk"]: row["digest"] for row in rows}
        for at, chunk in enumerate(found):
            if stored.get(chunk.number) != hashlib.sha256(chunk.data).digest():
                return found[at:]
        return []
