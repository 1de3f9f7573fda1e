"""Applies the rows of a batch: a portion of some thousand rows in each transaction, with their results and counters.

Once.      The transaction locks the batch.  It checks that the batch is still applying, and that the chunk has as many
           results as when the rows were chosen; otherwise it does nothing.  So no row is applied twice or left out,
           even if processes die, or several work on the batch at once.
Order.     Rows of one key are applied in the order of their lines.  A transaction applies the first row of every key
           together, then the second rows, and so on (`ChunkPlan`).  A row that repeats the row before it takes its
           result from that row.  A key with more than PASSES_MAX rows ends the portion early.
Add        registers the entry for the owner: an entry that exists is unchanged; another currency is a further entry.
Replace    makes the FSP's entry that of the row, and registers it if there was none.
Remove     removes the entry with this SubId: in this currency, or in all if the row names none.
One alias  (`one_alias`): an update is a replacement that registers nothing; an alias with another version than that of
           the change is left as it is.
Refused.   The reasons are in `chunks`.  A removal of another FSP's entry gets the same result as that of no entry.
Size.      The commit must come within 2 s of the fences.  A portion that was too slow is halved and tried again; after
           a quick one the next is larger (`Pace`).  A portion that the database refuses is halved, too, down to the one
           row at fault.
Courtesy.  Lookups go first.  This process has a low priority, but PostgreSQL's half of the work does not.  So if a
           transaction had to wait for a core, this process rests before the next one, and PostgreSQL rests with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from oracle import errors
from oracle.identifiers import PartyKey
from oracle.imports import chunks
from oracle.imports.rows import FileRow
from oracle.store import aliases
from oracle.store.aliases import Allowance, Columns, Effect
from oracle.store.base import BATCH_PREFIX, Context
from oracle.store.changes import Changes
from oracle.store.postgres import Postgres, Transaction
from oracle.telemetry import logs

log = logs.Log(__name__)

PASSES_MAX: Final = 16
SLOW_S: Final = 0.8
ROWS_MIN: Final = 100  # not fewer on a slow machine either: each commit costs as much as these
RATE_OVER_S: Final = 5.0
# A transaction waits for a core for 4 % of its time on a quiet machine, and for a fifth beside lookups on all cores.
# With rests, the p99 of these lookups is 2.1 to 2.4 times the quiet one; without, 3.0 to 3.3 times.  The price: 15,500
# rows a second instead of 18,000.
CROWDED: Final = 0.12
REST: Final = 0.5  # of the transaction's time
SCHEDULED: Final = Path("/proc/self/schedstat")  # of Linux: nanoseconds spent on a core, and waiting for one

EntryKey = tuple[str, str, str]


class Superseded(Exception):
    """The batch has moved on: it was cancelled, or another process works on it."""


# One portion ----------------------------------------------------------------------------------------------------


class ChunkPlan(NamedTuple):
    """The work on some rows: `results` of rows that are decided already; the other rows in passes of distinct keys.

    Each repeat is the position of a row and of the row that decides it.
    """

    results: bytearray
    passes: list[list[int]]
    repeats: list[tuple[int, int]]
    size: int  # how many of the rows it covers, from the first on


def plan_rows(rows: Sequence[FileRow], allowed: Allowance | None, passes_max: int = PASSES_MAX) -> ChunkPlan:
    """Plan a portion.  `allowed` is what the FSP may register; None if it is not active."""
    plan = ChunkPlan(bytearray(len(rows)), [], [], len(rows))
    seen: dict[EntryKey, tuple[int, int]] = {}  # the last row of the key, and its pass
    checked = allowed != Allowance()
    for at, row in enumerate(rows):
        if row.code:
            plan.results[at] = chunks.INVALID
            continue
        if checked:
            if allowed is None:
                plan.results[at] = chunks.FSP_NOT_ACTIVE
                continue
            if row.action != "remove" and not allowed.includes(row.party_id_type, row.currency):
                plan.results[at] = chunks.NOT_ALLOWED
                continue
        key = (row.party_id_type, row.identifier, row.sub_id)
        before = seen.get(key)
        number = 0
        if before is not None:
            last, number = rows[before[0]], before[1] + 1
            if last.action == row.action and last.currency == row.currency:
                plan.repeats.append((at, before[0]))
                continue
            if number == passes_max:
                return plan._replace(results=plan.results[:at], size=at)
        if number == len(plan.passes):
            plan.passes.append([])
        plan.passes[number].append(at)
        seen[key] = (at, number)
    return plan


_CODES: Final[dict[Effect, int]] = {
    "added": chunks.ADDED,
    "changed": chunks.CHANGED,
    "unchanged": chunks.UNCHANGED,
    "removed": chunks.REMOVED,
    "held_elsewhere": chunks.HELD_ELSEWHERE,
    "not_owner": chunks.HELD_ELSEWHERE,
    "not_registered": chunks.NOT_REGISTERED,
}
# The result of a row that repeats the row before it.
_CODES_OF_REPEATS: Final = {
    chunks.ADDED: chunks.UNCHANGED,
    chunks.CHANGED: chunks.UNCHANGED,
    chunks.REMOVED: chunks.NOT_REGISTERED,
}


async def apply_rows(transaction: Transaction, fsp_id: str, rows: Sequence[FileRow], plan: ChunkPlan) -> bytes:
    """Apply the rows; return the result code of each."""
    await transaction.rows("plan_anew")
    results = plan.results
    for number, positions in enumerate(plan.passes):
        # Keys are distinct within a pass, so the order of these three does not matter.
        for action, change in _ACTIONS:
            here = [at for at in positions if rows[at].action == action]
            if here:
                effects = await change(transaction, fsp_id, _make_columns([rows[at] for at in here]), number > 0)
                for at, effect in zip(here, effects, strict=True):
                    results[at] = _CODES[effect]
    for at, before in plan.repeats:
        results[at] = _CODES_OF_REPEATS.get(results[before], results[before])
    return bytes(results)


async def _add(transaction: Transaction, fsp_id: str, wanted: Columns, touched: bool) -> list[Effect]:
    return await aliases.add_entries(transaction, fsp_id, wanted, touched=touched)


async def _replace(transaction: Transaction, fsp_id: str, wanted: Columns, touched: bool) -> list[Effect]:
    return await aliases.replace_entries(transaction, fsp_id, wanted, touched=touched)


async def _remove(transaction: Transaction, fsp_id: str, named: Columns, _: bool) -> list[Effect]:
    every = [currency or None for currency in named.currencies]  # a row without a currency removes all of them
    return await aliases.remove_entries(transaction, fsp_id, named._replace(currencies=every))


_ACTIONS: Final = (("add", _add), ("replace", _replace), ("remove", _remove))


async def apply_change(
    transaction: Transaction, fsp_id: str, row: FileRow, plan: ChunkPlan, action: str, version: str | None
) -> bytes:
    """Apply the change of one alias (`one_alias`); return the code of its result."""
    if not plan.passes:
        return bytes(plan.results)
    if version is not None:
        key = PartyKey(row.party_id_type, row.identifier, row.sub_id)
        entries = await aliases.lock_entries(transaction, fsp_id, key)
        if not entries or aliases.compute_version_of(entries) != version:
            return bytes([chunks.CHANGED_SINCE])
    if action != "update":
        return await apply_rows(transaction, fsp_id, [row], plan)
    (effect,) = await aliases.replace_entries(transaction, fsp_id, _make_columns([row]), registers=False)
    # It has no such entry any more; that of another FSP looks like none.
    return bytes([chunks.NOT_REGISTERED if effect == "not_owner" else _CODES[effect]])


def _make_columns(rows: Sequence[FileRow]) -> Columns:
    return Columns(
        [row.party_id_type for row in rows],
        [row.identifier for row in rows],
        [row.sub_id for row in rows],
        [row.currency for row in rows],
    )


# A batch --------------------------------------------------------------------------------------------------------


class Rate:
    """Measures the recent rate, in rows a second."""

    def __init__(self) -> None:
        self.per_s: float | None = None

    def count(self, rows: int, seconds: float) -> None:
        rate, weight = rows / max(seconds, 1e-3), min(1.0, seconds / RATE_OVER_S)
        self.per_s = rate if self.per_s is None else self.per_s + (rate - self.per_s) * weight


class Pace:
    """Adapts the number of rows in a transaction, and the rest before the next one, to the time that they take."""

    def __init__(self) -> None:
        self.rows = chunks.ROWS_PER_CHUNK
        self.rate = Rate()
        self.rest_s = 0.0

    def adapt(self, seconds: float, waited_s: float) -> None:
        """Adapt to a transaction that took this long and waited for a core for `waited_s` of it."""
        self.rest_s = seconds * REST if waited_s > seconds * CROWDED else 0.0
        if seconds > SLOW_S:
            self.slow_down(ROWS_MIN)
        elif seconds < SLOW_S / 2:
            self.rows = min(self.rows * 2, chunks.ROWS_PER_CHUNK)

    def slow_down(self, least: int) -> None:
        self.rows = max(self.rows // 2, min(self.rows, least))


def read_waited_s(path: Path = SCHEDULED) -> float:
    """Return how long this process has waited for a core since its start; 0 if the kernel does not report it."""
    try:
        return int(path.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Applying:
    """Applies one batch, from the first row without a result on."""

    def __init__(
        self, changes: Changes, postgres: Postgres, batch: Any, pace: Pace,
        report: Callable[[bytes], None] = lambda _: None,  # gets the result codes of rows, after the commit
        *, passes_max: int = PASSES_MAX,
    ) -> None:  # fmt: skip
        self._changes = changes
        self._postgres = postgres
        self._batch_id: int = batch["batch_id"]
        self._fsp_id: str = batch["fsp_id"]
        self._chunks: int = batch["chunks"]
        self._chunk: int = batch["chunks_applied"]
        self._rows: list[FileRow] = []  # of this chunk
        self._at = 0  # how many of them are applied
        self._pace = pace
        self._report = report
        self._passes_max = passes_max
        self._change: tuple[str, str | None] | None = None  # of one alias: action and version
        reason = batch["file_name"]
        if batch["change_action"] is not None:
            self._change = batch["change_action"], batch["change_version"]
            reason = batch["note"] or reason  # the one that its caller gave
        self._context = Context(
            channel="import", actor=batch["uploaded_by"], role=batch["uploaded_role"], fsp_id=self._fsp_id,
            reason=reason, request_id=make_request_id(self._batch_id),
        )  # fmt: skip

    async def step(self) -> bool:
        """Apply a portion of the rows; return False when none are left.

        Raises Superseded; DirectoryUnavailable, then the same portion can be tried again.
        """
        if self._chunk == self._chunks:
            await self._end()
            return False
        began, waited_before_s = time.monotonic(), read_waited_s()
        if not self._rows:
            await self._load()
        try:
            applied = await self._apply()
        except errors.DirectoryUnavailable:
            self._pace.slow_down(ROWS_MIN)
            raise
        except (errors.Refused, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as exc:
            # The checks of this module allowed these rows, and those of the database refuse one or a few of them.
            log.warning("database refused a portion of a batch", exc=exc, batch=self._batch_id, rows=self._pace.rows)
            if self._pace.rows > 1:
                self._pace.slow_down(1)
                return True
            applied = await self._apply(refuse=True)
        seconds = time.monotonic() - began
        self._pace.adapt(seconds, read_waited_s() - waited_before_s)
        self._pace.rate.count(applied, seconds + self._pace.rest_s)
        return True

    async def _end(self) -> None:
        """End the batch, in a transaction of its own.

        The batch is done when every lookup answers its last rows.  Without Redis that is later than their commit.
        """
        await self._changes.administer(self._context, lambda transaction: transaction.run("batch_done", self._batch_id))

    async def _load(self) -> None:
        found = await self._postgres.row("batch_chunk", self._batch_id, self._chunk)
        if found is None:
            raise Superseded
        self._rows, self._at = chunks.unpack_rows(found["rows"]), len(found["results"])

    async def _apply(self, *, refuse: bool = False) -> int:
        rows = self._rows[self._at : self._at + self._pace.rows]
        plan = plan_rows(rows, Allowance(), self._passes_max)
        rows = rows[: plan.size]
        keys = sorted({(row.party_id_type, row.identifier) for row in rows if not row.code})

        async def work(transaction: Transaction) -> tuple[tuple[bool, bytes], bool]:
            await self._lock_portion(transaction)
            if refuse:
                results = bytes([chunks.NOT_ACCEPTED] * len(rows))
            else:
                allowed = await self._admit(transaction)
                here = plan_rows(rows, allowed, self._passes_max) if allowed != Allowance() else _copy_plan(plan)
                if self._change is None:
                    results = await apply_rows(transaction, self._fsp_id, rows, here)
                else:
                    results = await apply_change(transaction, self._fsp_id, rows[0], here, *self._change)
            return (await self._record(transaction, results), results), True

        if keys:
            is_whole, results = await self._changes.change(self._context, keys, work)
        else:  # only invalid rows: there are no copies of them
            (is_whole, results), _ = await self._changes.administer(self._context, work)
        self._report(results)
        self._at += len(rows)
        if is_whole:
            self._chunk, self._rows, self._at = self._chunk + 1, [], 0
        return len(rows)

    async def _lock_portion(self, transaction: Transaction) -> None:
        """Lock the batch until the commit, so that nobody else applies rows or cancels.  Raises Superseded."""
        (batch,) = await transaction.rows("batch_locked", self._batch_id, None)
        chunk = await transaction.rows("chunk_progress", self._batch_id, self._chunk)
        where = (batch["state"], batch["chunks_applied"], [row["done"] for row in chunk])
        if where != ("applying", self._chunk, [self._at]):
            raise Superseded

    async def _admit(self, transaction: Transaction) -> Allowance | None:
        try:
            return await self._changes.admit(transaction, self._fsp_id)
        except errors.UnknownFsp:
            return None

    async def _record(self, transaction: Transaction, results: bytes) -> bool:
        (chunk,) = await transaction.rows("chunk_applied", self._batch_id, self._chunk, results)
        is_whole: bool = chunk["is_whole"]
        await transaction.run(
            "batch_applied", self._batch_id, *chunks.count_results(results), int(is_whole), self._pace.rate.per_s
        )
        return is_whole


def _copy_plan(plan: ChunkPlan) -> ChunkPlan:
    """Copy the results, because the work can run again in another transaction."""
    return plan._replace(results=bytearray(plan.results))


def make_request_id(batch_id: int) -> str:
    """Return the name of a batch in the history."""
    return f"{BATCH_PREFIX}{batch_id}"
