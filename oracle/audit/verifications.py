"""Does the verifications that people ask for by the history API: `oracle audit verify`, in the background.

Does.      First the log (`verify`), then, if asked, the directory in slices (`directory`).
One.       A row in the database for each, at most one of which waits or runs.  A process claims it, and writes to it
           each second.  Where a process was killed, the next one begins again.
Bounded.   It rests so that it takes about half of one core, and lists LISTED_MAX findings; it counts all.
Stop.      The person who asked, or another one, stops it in the database: the process sees that with its next note.
Trust.     This program checks itself here.  It finds what others did to the database.  An auditor who does not trust
           this program verifies an export elsewhere.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec

from oracle.audit import log
from oracle.audit.rounds import SLICE_ROWS, compare_slices
from oracle.audit.verify import Verification
from oracle.backoff import pause
from oracle.errors import DirectoryUnavailable
from oracle.store.lanes import is_unavailable
from oracle.telemetry import logs

if TYPE_CHECKING:
    import asyncpg

    from oracle.store.postgres import Postgres
    from oracle.verifier.verdict import Finding

LOOK_S: Final = 2.0
NOTE_S: Final = 1.0
DEAD_S: Final = 30.0
LEAVES_PER_S: Final = 50_000.0
ROWS_PER_S: Final = 20_000.0
LISTED_MAX: Final = 200
_EVENT: Final = re.compile(r"\bevent (\d{1,18})\b")

_log = logs.Log(__name__)


class Listed(msgspec.Struct, rename="camel"):
    """One finding: what it is, in words, and the events that it names."""

    kind: str
    text: str
    event_ids: list[int]


class _Progress:
    """What a verification has read and found so far."""

    def __init__(self) -> None:
        self.leaves = self.leaves_read = self.rows_read = self.findings = 0
        self.listed: list[Listed] = []

    def add(self, finding: Finding) -> None:
        self.findings += 1
        if len(self.listed) < LISTED_MAX:
            numbers = [int(found) for found in _EVENT.findall(finding.where)]
            self.listed.append(Listed(finding.kind, finding.where, numbers))


class Verifications:
    """A job, see `jobs`."""

    def __init__(
        self,
        postgres: Postgres,
        *,
        waiting_max_s: float,
        look_s: float = LOOK_S,
        note_s: float = NOTE_S,
        leaves_per_s: float = LEAVES_PER_S,
        rows_per_s: float = ROWS_PER_S,
        slice_rows: int = SLICE_ROWS,
    ) -> None:
        """`waiting_max_s`: an event that waits for longer to be sealed is a finding."""
        self._postgres = postgres
        self._waiting_max_s = waiting_max_s
        self._look_s, self._note_s = look_s, note_s
        self._leaves_per_s, self._rows_per_s, self._slice_rows = leaves_per_s, rows_per_s, slice_rows
        self._runner = str(uuid4())

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(DirectoryUnavailable):
                if await self._postgres.note("verification_begin", self._runner, DEAD_S):
                    for row in await self._postgres.rows("verification_begun", self._runner):
                        await self._verify(row["verification_id"], stop, directory=row["directory"])
            await pause(self._look_s, stop)

    async def _verify(self, number: int, stop: asyncio.Event, *, directory: bool) -> None:
        """Do one, and write down how it goes, until its end, until somebody stops it, or until `stop`."""
        progress = _Progress()
        work = asyncio.create_task(self._read_all(progress, directory=directory))
        stopping = asyncio.create_task(stop.wait())
        try:
            while not (await asyncio.wait({work, stopping}, timeout=self._note_s, return_when="FIRST_COMPLETED"))[0]:
                if not await self._note(number, progress, "running"):
                    _log.info("A verification was stopped", verification=number)
                    return
            if work.done():
                await self._finish(number, progress, work.exception())
        finally:
            for task in (work, stopping):
                task.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)

    async def _finish(self, number: int, progress: _Progress, error: BaseException | None) -> None:
        if error is not None and isinstance(error, Exception) and is_unavailable(error):
            raise DirectoryUnavailable from error  # it begins again, when its process counts as dead
        if error is not None:
            _log.error("A verification failed", exc=error, verification=number)
        await self._note(number, progress, "done" if error is None else "failed")
        if progress.findings:
            _log.error("A verification found differences", verification=number, findings=progress.findings)

    async def _note(self, number: int, progress: _Progress, state: str) -> bool:
        """Write down how far it is; return whether it still is ours."""
        listed = msgspec.json.encode(progress.listed).decode()
        counts = progress.leaves, progress.leaves_read, progress.rows_read, progress.findings
        try:
            return await self._postgres.note("verification_note", number, self._runner, *counts, listed, state) > 0
        except DirectoryUnavailable:
            if state != "running":
                raise
            return True

    # -- the work ----------------------------------------------------------------------------------------------------

    async def _read_all(self, progress: _Progress, *, directory: bool) -> None:
        connection = await log.connect(
            self._postgres.servers, "oracle verification", plan_cache_mode="force_generic_plan"
        )
        try:
            await self._read_log(connection, progress)
            if directory:
                await self._read_directory(connection, progress)
        finally:
            connection.terminate()

    async def _read_log(self, connection: asyncpg.Connection, progress: _Progress) -> None:
        progress.leaves = (await log.fetch_state(connection)).size
        began = time.monotonic()

        async def rest(leaves_read: int) -> None:
            progress.leaves_read = leaves_read
            progress.leaves = max(progress.leaves, leaves_read)
            await asyncio.sleep(max(leaves_read / self._leaves_per_s - (time.monotonic() - began), 0))

        verification = Verification(connection, waiting_max_s=self._waiting_max_s, rest=rest)
        async with aclosing(verification.find()) as findings:
            async for finding in findings:
                progress.add(finding)

    async def _read_directory(self, connection: asyncpg.Connection, progress: _Progress) -> None:
        began = time.monotonic()
        async with aclosing(compare_slices(connection, self._slice_rows)) as slices:
            async for rows, differences in slices:
                progress.rows_read += rows
                for each in differences:
                    progress.add(each.finding)
                await asyncio.sleep(max(progress.rows_read / self._rows_per_s - (time.monotonic() - began), 0))


def read_listed(text: str) -> list[Listed]:
    """Read the findings of a row."""
    return msgspec.json.decode(text, type=list[Listed])
