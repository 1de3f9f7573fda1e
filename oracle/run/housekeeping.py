"""Forgets in the background what has had its time: answers kept for repetitions, refused calls.

Some rows at a time, each its own transaction, so that no call waits for it.  Two processes may sweep at once: what
one has locked the other leaves.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from oracle import jobs

if TYPE_CHECKING:
    from oracle.store.postgres import Postgres

EVERY_S: Final = 600.0
QUERIES: Final = ("idempotency_forget", "refusals_forget")


class Housekeeping:
    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def run(self, stop: asyncio.Event) -> None:
        """A job, see `jobs`.  Raises DirectoryUnavailable."""
        while not stop.is_set():
            await self.sweep(stop)
            await jobs.pause(EVERY_S, stop)

    async def sweep(self, stop: asyncio.Event) -> None:
        for query in QUERIES:
            while not stop.is_set() and await self._postgres.note(query):
                pass
