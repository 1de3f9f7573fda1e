"""Stores an uploaded file part by part in the database; a complete file becomes a batch.

An interrupted upload leaves no batch.  Its parts are deleted at once if possible, else by the importing process an hour
later; its bytes count for the quota of the FSP.  At most two parts are in memory; a thread compresses them.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from oracle import errors
from oracle.imports.import_limits import IMPORT_LIMITS, ImportLimits
from oracle.store.base import Context
from oracle.store.changes import Changes
from oracle.store.postgres import Transaction

ABANDON_S: Final = 5.0

_MARKS: Final = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    fsp_id: str
    file_name: str
    note: str | None = None
    country: str | None = None  # of its phone numbers without one; None: that of the FSP
    person: str | None = None  # who sends it, if that is known


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose parts are all stored."""

    batch_id: int
    file_format: str
    file_bytes: int
    file_sha256: bytes


class TooLong(errors.TooLarge):
    default = f"The file is larger than {IMPORT_LIMITS.file_bytes_max // 1024**3} GiB"


class Abandoned(errors.BadRequest):
    default = "The upload took too long and was stopped"


async def receive(
    changes: Changes,
    context: Context,
    body: AsyncIterator[bytes],
    limits: ImportLimits = IMPORT_LIMITS,
    *,
    fsp_id: str,
    begun: Callable[[int], None] = lambda _: None,
) -> Upload:
    """Store a file part by part.  `begun` gets its number.

    Raises TooLong, Abandoned, MissingElement (empty file), DirectoryUnavailable.
    """

    async def begin(transaction: Transaction) -> int:
        batch_id: int = (await transaction.rows("batch_number"))[0]["batch_id"]
        await transaction.run("upload_begin", batch_id, fsp_id)
        return batch_id

    batch_id = await changes.administer(context, begin)
    begun(batch_id)
    try:
        return await _store_parts(changes, context, batch_id, body, limits)
    except BaseException:
        await abandon(changes, context, batch_id, limits)
        raise


async def compute_digest(body: AsyncIterator[bytes], limits: ImportLimits = IMPORT_LIMITS) -> bytes:
    """Read a file and store nothing of it.  Raises TooLong."""
    digest, file_bytes = hashlib.sha256(), 0
    async for data in body:
        file_bytes += len(data)
        if file_bytes > limits.file_bytes_max:
            raise TooLong
        digest.update(data)
    return digest.digest()


async def add_batch(transaction: Transaction, context: Context, upload: Upload, new: NewBatch) -> Any:
    """Make a batch of a file that has been received, and return its row.  Raises Abandoned, NoSuchResource (no FSP)."""
    if not await transaction.run("upload_end", upload.batch_id):
        raise Abandoned
    added = await transaction.run(
        "batch_add", upload.batch_id, new.fsp_id, new.file_name, upload.file_format, upload.file_bytes,
        upload.file_sha256, new.note, context.actor, context.role,
    )  # fmt: skip
    if not added:
        raise errors.NoSuchResource("No such FSP")
    await transaction.run("batch_country", upload.batch_id, new.fsp_id, new.country)
    if new.person is not None:
        await transaction.run("batch_person", upload.batch_id, new.person)
    return (await transaction.rows("batch", upload.batch_id, new.fsp_id))[0]


async def abandon(changes: Changes, context: Context, batch_id: int, limits: ImportLimits = IMPORT_LIMITS) -> None:
    """Delete the parts of an upload, as far as possible now; `drop_abandoned` deletes the rest later."""
    try:
        async with asyncio.timeout(ABANDON_S):
            while await changes.administer(context, lambda transaction: _drop(transaction, batch_id, limits)):
                pass
    except (errors.OracleError, TimeoutError):
        pass


async def drop_abandoned(changes: Changes, unseen_s: float, limits: ImportLimits = IMPORT_LIMITS) -> bool:
    """Delete some parts of an upload that has sent nothing for `unseen_s`.  Return whether there was one."""

    async def work(transaction: Transaction) -> bool:
        found = await transaction.rows("uploads_abandoned", unseen_s)
        if found:
            await _drop(transaction, found[0]["batch_id"], limits)
        return bool(found)

    return await changes.administer(Context(channel="import", actor="oracle"), work)


async def _drop(transaction: Transaction, batch_id: int, limits: ImportLimits) -> bool:
    """Delete some parts.  Return whether more can remain.

    If the answer of the last commit was lost, the upload can be a batch already: then its parts stay.
    """
    if not await transaction.rows("upload_locked", batch_id):
        return False
    if await transaction.run("upload_parts_drop", batch_id, limits.parts_dropped):
        return True
    await transaction.run("upload_break_off", batch_id)
    return False


async def _store_parts(
    changes: Changes, context: Context, batch_id: int, body: AsyncIterator[bytes], limits: ImportLimits
) -> Upload:
    parts = _UploadParts(changes, context, batch_id)
    waiting = bytearray()
    file_bytes = 0
    try:
        async for data in body:
            waiting += data
            file_bytes += len(data)
            if file_bytes > limits.file_bytes_max:
                raise TooLong
            while len(waiting) >= limits.part_bytes:
                await parts.add(bytes(waiting[: limits.part_bytes]))
                del waiting[: limits.part_bytes]
        if waiting:
            await parts.add(bytes(waiting))
        await parts.finish()
    finally:
        await parts.close()
    if not file_bytes:
        raise errors.MissingElement("The file is empty: choose another one")
    return Upload(
        batch_id=batch_id, file_format=parts.file_format, file_bytes=file_bytes, file_sha256=parts.digest.digest()
    )


class _UploadParts:
    """Stores one part while the next one comes in."""

    def __init__(self, changes: Changes, context: Context, batch_id: int) -> None:
        self.digest = hashlib.sha256()
        self.file_format = "csv"
        self._changes = changes
        self._context = context
        self._batch_id = batch_id
        self._number = 0
        self._storing: asyncio.Task[None] | None = None

    async def add(self, data: bytes) -> None:
        if not self._number:
            self.file_format = _find_format(data)
        await self.finish()
        self._storing = asyncio.create_task(self._store(self._number, data))
        self._number += 1

    async def finish(self) -> None:
        if self._storing is not None:
            await self._storing

    async def close(self) -> None:
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.gather(self._storing, return_exceptions=True)

    async def _store(self, number: int, data: bytes) -> None:
        packed = await asyncio.to_thread(self._pack, data)

        async def work(transaction: Transaction) -> None:
            if not await transaction.run("upload_part", self._batch_id, number, packed, len(data)):
                raise Abandoned

        await self._changes.administer(self._context, work)

    def _pack(self, data: bytes) -> bytes:
        self.digest.update(data)
        return zlib.compress(data, 1)


def _find_format(data: bytes) -> str:
    """Return the format that the reader will find: NDJSON begins with a brace.  Ignore the zero bytes of UTF-16."""
    for mark in _MARKS:
        data = data.removeprefix(mark)
    return "ndjson" if data[:4096].replace(b"\0", b"").lstrip().startswith(b"{") else "csv"
