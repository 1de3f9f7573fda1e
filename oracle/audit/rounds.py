"""Compares the directory with its history in the background, again and again, slowly (`audit/directory`).

Round.     From the first key to the last, in slices.  Each slice has a snapshot of its own, which ends after some
           milliseconds, and rests until rows_per_s is kept.  A round that is interrupted begins again.
Twice.     What a slice finds is looked up in a second snapshot, and counts if it is there, too.
Alarm.     The metrics `audit_directory_differences` and `audit_directory_compared_timestamp_seconds`, an error in the
           log, repeated, and a line in /health.  They name kinds and numbers: `oracle audit verify --directory` names
           the identifiers.
One.       Of all processes on all machines, one does it (`store/leader`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from math import nan
from typing import TYPE_CHECKING, Final

from oracle.audit import log
from oracle.audit.directory import ENTITIES, KINDS, Comparison, Difference, Key, open_snapshot
from oracle.backoff import pause
from oracle.jobs import assume_presence
from oracle.store.leader import IsAway, Leader
from oracle.telemetry import logs

if TYPE_CHECKING:
    import asyncpg

    from oracle.store.servers import Servers
    from oracle.telemetry.metrics import Metrics

ROUNDS_LOCK: Final = 0x6175646976
SLICE_ROWS: Final = 1_000
_CHUNK: Final = SLICE_ROWS // 4  # a slice uses half of what it fetches last
FIRST_AFTER_S: Final = 60.0  # not at the moment of a start, when copies are cold
LOOK_S: Final = 10.0  # whether another machine has stopped
REPEAT_S: Final = 300.0

_log = logs.Log(__name__)

Find = Callable[[Comparison], AsyncGenerator[Difference]]


class Rounds:
    """A job, see `jobs`."""

    def __init__(
        self,
        servers: Servers,
        metrics: Metrics,
        *,
        every_s: float,
        rows_per_s: float,
        first_after_s: float = FIRST_AFTER_S,
        slice_rows: int = SLICE_ROWS,
        is_away: IsAway = assume_presence,
    ) -> None:
        """`every_s`: from the end of a round to the begin of the next one.  `is_away`: as for `Leader`."""
        self._is_away = is_away
        self._servers, self._metrics = servers, metrics
        self._every_s, self._rows_per_s = every_s, rows_per_s
        self._first_after_s, self._slice_rows = first_after_s, slice_rows
        self._found: Counter[str] = Counter()  # in this round
        self._last = 0  # in the round before
        self._leading = logs.Condition(_log, "Comparison of the directory with history")
        self._condition = logs.Condition(
            _log, "The directory", good="is as history says", level=logging.ERROR, repeat_s=REPEAT_S, quiet_s=0
        )

    async def run(self, stop: asyncio.Event) -> None:
        await Leader(
            self._connect, ROUNDS_LOCK, self._lead, self._leading,
            look_s=LOOK_S, notice=self._leave_to_others, is_away=self._is_away,
        ).run(stop)  # fmt: skip

    async def _connect(self) -> asyncpg.Connection:
        return await log.connect(self._servers, "oracle directory rounds", plan_cache_mode="force_generic_plan")

    async def _lead(self, connection: asyncpg.Connection, stop: asyncio.Event) -> None:
        self._leading.now("ok")
        if await pause(self._first_after_s, stop):
            return
        while not stop.is_set():
            if await self._go_round(connection, stop):
                self._conclude()
                await pause(self._every_s, stop)

    async def _go_round(self, connection: asyncpg.Connection, stop: asyncio.Event) -> bool:
        """Compare everything once, and rest after each slice; return whether it came to the end."""
        self._found.clear()
        began = time.monotonic()
        async with aclosing(compare_slices(connection, self._slice_rows)) as slices:
            async for rows, differences in slices:
                self._count(differences)
                self._report()
                rest_s = rows / self._rows_per_s - (time.monotonic() - began)
                if await pause(max(rest_s, 0), stop):
                    return False
                began = time.monotonic()
        return True

    def _count(self, differences: list[Difference]) -> None:
        if not differences:
            return
        self._found.update(each.entity for each in differences)
        # The number of the last round stays, until this one has found more or is complete.
        self._metrics.set("audit_directory_differences", float(max(self._found.total(), self._last)))

    def _report(self) -> None:
        if self._found:
            kinds = ", ".join(f"{kind} {self._found[kind]}" for kind in KINDS if self._found[kind])
            self._condition.now("is not as history says: run `oracle audit verify --directory`", kinds=kinds)

    def _leave_to_others(self, works: bool) -> None:  # noqa: ARG002 - another machine compares, and reports
        self._last = 0
        for name in ("audit_directory_differences", "audit_directory_compared_timestamp_seconds"):
            self._metrics.set(name, nan)

    def _conclude(self) -> None:
        self._last = self._found.total()
        self._metrics.set("audit_directory_differences", float(self._found.total()))
        self._metrics.set("audit_directory_compared_timestamp_seconds", time.time())
        if not self._found:
            self._condition.now("is as history says")


async def compare_slices(
    connection: asyncpg.Connection, slice_rows: int = SLICE_ROWS
) -> AsyncGenerator[tuple[int, list[Difference]]]:
    """Compare the whole directory, a slice at a time: how many rows it read, and what differs in two snapshots."""
    for find in (Comparison.find_altered, *(_make_find_of(entity) for entity in ENTITIES)):
        comparison, found = await _compare_twice(connection, find)
        yield comparison.rows.total(), found
    begin: Key | None = None
    while True:
        comparison, found = await _compare_twice(connection, _make_find_aliases(begin, slice_rows))
        yield comparison.rows.total(), found
        begin = comparison.next
        if begin is None:
            return


async def _compare_twice(connection: asyncpg.Connection, find: Find) -> tuple[Comparison, list[Difference]]:
    comparison, found = await _list_differences(connection, find)
    if found:
        again = {(each.entity, each.place) for each in (await _list_differences(connection, find))[1]}
        found = [each for each in found if (each.entity, each.place) in again]
    return comparison, found


def _make_find_of(entity: str) -> Find:
    return lambda comparison: comparison.find_of(entity)


def _make_find_aliases(begin: Key | None, rows_max: int) -> Find:
    return lambda comparison: comparison.find_aliases(begin, rows_max)


async def _list_differences(connection: asyncpg.Connection, find: Find) -> tuple[Comparison, list[Difference]]:
    comparison = Comparison(connection, chunk=_CHUNK)
    async with open_snapshot(connection), aclosing(find(comparison)) as differences:
        return comparison, [each async for each in differences]
