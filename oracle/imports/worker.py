"""Reads and applies import files in the background: `Imports(...).run`, a job of the jobs process.

One.       Only the holder of an advisory lock imports, in one process on one machine; the others look every second
           whether the lock is free.  That limits what imports take from lookups.  The lock ends with its connection,
           which the server closes after 30 s of silence.  If two processes believe that they hold the lock, nothing is
           done twice (see `validating`, `applying`).
Turns.     Files are read in turns of at most one part, and at the same time applied in turns of 2 s, so that a large
           file does not delay the small ones of others.  The files of one FSP are read, and applied, one after the
           other.
Kill.      After a process was killed, the next one continues from what is committed.
Away.      While PostgreSQL is too slow or cannot be reached, imports wait and try again, without limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import nan
from typing import Final

import asyncpg

from oracle.backoff import Backoff, pause
from oracle.errors import DirectoryUnavailable
from oracle.identifiers import Reading
from oracle.imports import chunks, uploads
from oracle.imports.applying import PASSES_MAX, Applying, Pace, Superseded
from oracle.imports.import_limits import IMPORT_LIMITS, ImportLimits
from oracle.imports.reading import RowChecks
from oracle.imports.validating import Validating
from oracle.jobs import assume_presence
from oracle.store.changes import Changes
from oracle.store.lanes import LIMITS
from oracle.store.leader import IsAway, Leader, note_interruption
from oracle.store.postgres import Postgres
from oracle.store.rows import BatchFspRow, BatchRow
from oracle.telemetry import logs
from oracle.telemetry.metrics import BATCH_STATES, Metrics

# Any number that nothing else uses: "import" in ASCII.
LOCK: Final = 0x696D706F7274
OPERATOR: Final = "operator"  # the role of the hub's people, as batches have it
HEARD_S: Final = 5.0
DROPPED_MS: Final = 30_000
TURN_S: Final = 2.0
ASIDE_S: Final = 30.0
PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
ABANDONED_S: Final = 3600
CLEAN_EVERY_S: Final = 60.0
MEASURE_EVERY_S: Final = 5.0

log = logs.Log(__name__)


ListWaiting = Callable[[list[int]], Awaitable[list[int]]]  # gets the batches that are put aside
Turn = Callable[[int], Awaitable[None]]
Charge = Callable[[str, int], None]  # gets an FSP, and for how many conflicts it pays


class Imports:
    def __init__(
        self,
        changes: Changes,
        postgres: Postgres,
        metrics: Metrics | None = None,
        *,
        reading: Reading,
        limits: ImportLimits = IMPORT_LIMITS,
        passes_max: int = PASSES_MAX,
        is_away: IsAway = assume_presence,
        charge: Charge | None = None,
    ) -> None:
        """`is_away`: as for `Leader`.  `charge` hears how many rows of an FSP's people met the alias of another FSP."""
        self._charge = charge
        self._changes = changes
        self._postgres = postgres
        self._metrics = metrics or Metrics.open(None, "jobs", 0)
        self._reading = reading
        self._limits = limits
        self._passes_max = passes_max
        self._is_away = is_away
        self._condition = logs.Condition(log, "import of files")

    async def run(self, stop: asyncio.Event) -> None:
        """Import until `stop` is set; commit work that has begun first."""
        await Leader(
            self._connect, LOCK, self._hold, self._condition,
            look_s=self._limits.look_s, heartbeat_s=HEARD_S, transient=(asyncpg.PostgresError,), is_away=self._is_away,
        ).run(stop)  # fmt: skip

    async def _connect(self) -> asyncpg.Connection:
        return await self._postgres.servers.connect(
            "oracle imports",
            {"idle_session_timeout": str(DROPPED_MS)},
            timeout_s=LIMITS.connect_s,
            command_timeout_s=HEARD_S,
        )

    async def _hold(self, _: asyncpg.Connection, stop: asyncio.Event) -> None:
        """Work while this process holds the lock."""
        tasks = [asyncio.create_task(work(stop)) for work in (self._validate, self._apply, self._clean, self._measure)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_turns(self, list_waiting: ListWaiting, turn: Turn, stop: asyncio.Event) -> None:
        """Give each waiting batch a turn, again and again."""
        aside: dict[int, float] = {}
        backoff = Backoff(PAUSES_S)
        while not stop.is_set():
            busy, away = False, None
            aside = {batch_id: until for batch_id, until in aside.items() if until > time.monotonic()}
            try:
                found = await list_waiting(list(aside))
            except DirectoryUnavailable as exc:
                found, away = [], exc
            for batch_id in found:
                if stop.is_set() or batch_id in aside:
                    continue
                try:
                    await turn(batch_id)
                    busy = True
                except DirectoryUnavailable as exc:
                    away = exc
                except Superseded:
                    pass  # the next look finds the new state
                except Exception as exc:  # noqa: BLE001 - a defect that shows with one file must not stop the others
                    log.error("batch put aside", exc=exc, batch=batch_id)
                    aside[batch_id] = time.monotonic() + ASIDE_S
            if away:
                was_away = await self._is_away()
                await pause(backoff.fail(), stop)
                if not (was_away or await self._is_away()):
                    note_interruption(self._condition, away)
            else:
                backoff.reset()
                self._condition.now("ok")
                await pause(0.0 if busy else self._limits.idle_s, stop)

    # -- read files -------------------------------------------------------------------------------------------

    async def _validate(self, stop: asyncio.Event) -> None:
        reading: dict[int, Validating] = {}

        async def list_waiting(aside: list[int]) -> list[int]:
            found = [
                row["batch_id"]
                for row in await self._postgres.rows(
                    "batches_validating", self._limits.files_read_max, aside, list(reading)
                )
            ]
            for batch_id in reading.keys() - set(found):
                await reading.pop(batch_id).close()  # cancelled
            return found

        async def turn(batch_id: int) -> None:
            if batch_id not in reading:
                reading[batch_id] = await self._open_file(batch_id)
            try:
                more = await reading[batch_id].step()
            except DirectoryUnavailable:
                raise
            except BaseException:
                await reading.pop(batch_id).close()
                raise
            if not more:
                del reading[batch_id]

        try:
            await self._take_turns(list_waiting, turn, stop)
        finally:
            for validating in reading.values():
                await validating.close()

    async def _open_file(self, batch_id: int) -> Validating:
        batch: BatchRow = await self._postgres.row("batch", batch_id, None)
        fsp: BatchFspRow = await self._postgres.row("batch_fsp", batch["fsp_id"])
        checks = RowChecks(self._reading, fsp["kinds"], fsp["currencies"], batch["country"])
        return Validating(self._changes, self._postgres, batch, checks, self._count_read, self._limits)

    def _count_read(self, valid: int, invalid: int) -> None:
        self._metrics.add("import_rows_read_total", valid, result="valid")
        self._metrics.add("import_rows_read_total", invalid, result="invalid")

    # -- apply rows -----------------------------------------------------------------------------------------

    async def _apply(self, stop: asyncio.Event) -> None:
        paces: dict[int, Pace] = {}

        async def list_waiting(_: list[int]) -> list[int]:
            found = [row["batch_id"] for row in await self._postgres.rows("batches_applying")]
            for batch_id in paces.keys() - set(found):
                del paces[batch_id]
            return found

        async def turn(batch_id: int) -> None:
            batch = await self._postgres.row("batch", batch_id, None)
            if batch["state"] != "applying":
                return
            pace = paces.setdefault(batch_id, Pace())
            applying = Applying(
                self._changes, self._postgres, batch, pace, partial(self._count_applied, batch),
                passes_max=self._passes_max,
            )  # fmt: skip
            until = time.monotonic() + TURN_S
            while await applying.step():
                await pause(pace.rest_s, stop)
                if time.monotonic() > until or stop.is_set():
                    return

        await self._take_turns(list_waiting, turn, stop)

    def _count_applied(self, batch: BatchRow, results: bytes) -> None:
        # People of the hub can look up everything, so what they upload costs nothing.
        if self._charge is not None and batch["uploaded_role"] != OPERATOR:
            self._charge(batch["fsp_id"], results.count(chunks.HELD_ELSEWHERE))
        for number, row_result in enumerate(chunks.ROW_RESULTS):
            if number != chunks.INVALID and (count := results.count(number)):
                self._metrics.add("import_rows_applied_total", count, result=row_result.status)

    # -- count batches ---------------------------------------------------------------------------------------

    async def _measure(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                with suppress(DirectoryUnavailable):
                    found = {row["state"]: row["batches"] for row in await self._postgres.rows("batches_by_state")}
                    for state in BATCH_STATES:
                        self._metrics.set("import_batches", found.get(state, 0), state=state)
                await pause(MEASURE_EVERY_S, stop)
        finally:  # the next process that imports reports them
            for state in BATCH_STATES:
                self._metrics.set("import_batches", nan, state=state)

    # -- delete interrupted uploads -----------------------------------------------------------------------------------

    async def _clean(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(DirectoryUnavailable):
                while await uploads.drop_abandoned(self._changes, ABANDONED_S, self._limits) and not stop.is_set():
                    pass
            await pause(CLEAN_EVERY_S, stop)
