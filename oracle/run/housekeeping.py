"""Deletes in the background what has expired: kept answers, refused calls, sessions, uploaded files with results.

Each statement deletes a portion of the rows, in its own transaction, so that no call waits for it.  Two processes can
sweep at once: each skips the rows that the other has locked, or finds them deleted.  A file is marked first: from then
on nobody gets it, whatever remains of it.  Its batch and what it changed stay.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oracle.backoff import pause

if TYPE_CHECKING:
    from oracle.settings import Settings
    from oracle.store.postgres import Postgres

EVERY_S: Final = 600.0
PARTS_DROPPED: Final = 64  # in one transaction; a part is 1 MiB before compression, a chunk some thousand rows
FORGOTTEN: Final = b"\3\0\0"  # replaces an answer that an earlier version kept in clear (oracle/api/admin/keeping.py)
_HOUR_S: Final = 3_600.0
_DAY_S: Final = 86_400.0


class Retention(NamedTuple):
    """How long things are kept, in seconds; None: forever."""

    answers_s: float
    refusals_s: float
    files_s: float | None

    @classmethod
    def of(cls, settings: Settings) -> Retention:
        return cls(
            settings.idempotency_retention_hours * _HOUR_S,
            settings.refusal_retention_days * _DAY_S,
            settings.file_retention_days * _DAY_S or None,
        )


class Housekeeping:
    def __init__(self, postgres: Postgres, retention: Retention) -> None:
        self._postgres = postgres
        self._retention = retention

    async def run(self, stop: asyncio.Event) -> None:
        """Run as a job, see `jobs`.  Raises DirectoryUnavailable."""
        while not stop.is_set():
            await self.sweep(stop)
            await pause(EVERY_S, stop)

    async def sweep(self, stop: asyncio.Event) -> None:
        """Delete all that has expired."""
        await self._repeat(stop, "idempotency_delete_expired", self._retention.answers_s)
        await self._repeat(stop, "idempotency_forget_clear", FORGOTTEN)
        await self._repeat(stop, "refusals_delete_expired", self._retention.refusals_s)
        await self._repeat(stop, "sessions_delete_expired")
        await self._repeat(stop, "uploads_broken_off_delete_expired")
        if self._retention.files_s is not None:
            await self._repeat(stop, "files_expire", self._retention.files_s)
        while not stop.is_set() and (found := await self._postgres.row("files_expired")) is not None:
            await self._drop_file(stop, found["batch_id"])

    async def _drop_file(self, stop: asyncio.Event, batch_id: int) -> None:
        await self._repeat(stop, "upload_parts_drop", batch_id, PARTS_DROPPED)
        await self._repeat(stop, "file_chunks_drop", batch_id, PARTS_DROPPED)
        if not stop.is_set():
            await self._postgres.note("file_deleted", batch_id)

    async def _repeat(self, stop: asyncio.Event, query: str, *arguments: Any) -> None:
        while not stop.is_set() and await self._postgres.note(query, *arguments):
            pass
