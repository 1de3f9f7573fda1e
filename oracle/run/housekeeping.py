"""Deletes expired rows in the background: stored idempotent answers, refused calls.

Each statement deletes a portion of the rows, in its own transaction, so that no call waits for it.  Two processes can
sweep at once: each skips the rows that the other has locked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from oracle.backoff import pause

if TYPE_CHECKING:
    from oracle.store.postgres import Postgres

EVERY_S: Final = 600.0
QUERIES: Final = ("idempotency_delete_expired", "refusals_delete_expired")


class Housekeeping:
    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def run(self, stop: asyncio.Event) -> None:
        """Run as a job, see `jobs`.  Raises DirectoryUnavailable."""
        while not stop.is_set():
            await self.sweep(stop)
            await pause(EVERY_S, stop)

    async def sweep(self, stop: asyncio.Event) -> None:
        """Delete all rows that have expired."""
        for query in QUERIES:
            while not stop.is_set() and await self._postgres.note(query):
                pass
