"""Rows take effect: some thousand in one transaction, which also says what became of each and moves the counters.

Once.      The transaction holds the batch's row, and finds it applying and the chunk's results as long as they were
           when the rows were chosen; else nothing happens.  So whoever dies, and however many try, no row is applied
           twice and none is left out.
Order.     Rows of one key take effect in the order of their lines.  A transaction does the first row of each key, all
           at once, then the second ones, and so on (`Plan`); a row that repeats the one before it is decided by that.
           A key that comes more often than PASSES_MAX times ends the transaction's share early.
Add        is a registration by the owner: a key that stands already is unchanged, another currency comes beside.
Replace    makes the FSP's entry the one of the row, and registers it where there was none.
Remove     takes the entry with this SubId away: in this currency, or in all when the row names none.
Refused.   Why stands in chunks.OUTCOMES.  A removal of what another FSP holds is answered like that of nothing.
Size.      The commit has to come within 2 s of the fences.  A share that was too slow is halved and tried again, one
           that was quick grows (`Pace`).  One that the database refuses is halved, too, down to the row it is about.
Courtesy.  Lookups go first.  This process has a low priority, PostgreSQL's half of the work has not; so who had to wait
           for a core during a transaction rests before the next one, and PostgreSQL with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from oracle import errors
from oracle.imports import chunks
from oracle.imports.rows import FileRow
from oracle.store import aliases
from oracle.store.aliases import Allowance, Columns, Effect
from oracle.store.base import Context
from oracle.store.changes import Changes
from oracle.store.postgres import Postgres, Transaction
from oracle.telemetry import logs

log = logs.Log(__name__)

PASSES_MAX: Final = 16
SLOW_S: Final = 0.8
ROWS_MIN: Final = 100  # not fewer because the machine is slow: each commit costs as much as these
RATE_OVER_S: Final = 5.0
# Waiting for a core is 4 % of a transaction while nobody else wants one, a fifth beside lookups that want them all.
# Their p99 is 2.1 to 2.4 times the quiet one with the rest, 3.0 to 3.3 times without; rows a second 15,500, not 18,000.
CROWDED: Final = 0.12
REST: Final = 0.5  # of the transaction's time
SCHEDULED: Final = Path("/proc/self/schedstat")  # of Linux: nanoseconds on a core, and waiting for one

Key = tuple[str, str, str]


class Superseded(Exception):
    """The batch is not where it was: cancelled, or somebody else is at it."""


# One share ------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What to do with some rows: `outcomes` of those that are decided already, the others in passes of distinct keys.

    Each repeat names a row and the one that decides it.
    """

    outcomes: bytearray
    passes: list[list[int]]
    repeats: list[tuple[int, int]]
    size: int  # how many rows it is for, from the first on


def planned(rows: Sequence[FileRow], allowed: Allowance | None) -> Plan:
    """`allowed` is what the FSP may register, None when it is not active."""
    plan = Plan(bytearray(len(rows)), [], [], len(rows))
    seen: dict[Key, tuple[int, int]] = {}  # the last row of the key, and its pass
    checked = allowed != Allowance()
    for at, row in enumerate(rows):
        if row.code:
            plan.outcomes[at] = chunks.INVALID
            continue
        if checked:
            if allowed is None:
                plan.outcomes[at] = chunks.FSP_NOT_ACTIVE
                continue
            if row.action != "remove" and not allowed.includes(row.party_id_type, row.currency):
                plan.outcomes[at] = chunks.NOT_ALLOWED
                continue
        key = (row.party_id_type, row.identifier, row.sub_id)
        before = seen.get(key)
        number = 0
        if before is not None:
            last, number = rows[before[0]], before[1] + 1
            if last.action == row.action and last.currency == row.currency:
                plan.repeats.append((at, before[0]))
                continue
            if number == PASSES_MAX:
                return plan._replace(outcomes=plan.outcomes[:at], size=at)
        if number == len(plan.passes):
            plan.passes.append([])
        plan.passes[number].append(at)
        seen[key] = (at, number)
    return plan


_RESULTS: Final[dict[Effect, int]] = {
    "added": chunks.ADDED,
    "changed": chunks.CHANGED,
    "unchanged": chunks.UNCHANGED,
    "removed": chunks.REMOVED,
    "held_elsewhere": chunks.HELD_ELSEWHERE,
    "not_owner": chunks.HELD_ELSEWHERE,
    "not_registered": chunks.NOT_REGISTERED,
}
# The result of a row that repeats the one before it.
_REPEATED: Final = {
    chunks.ADDED: chunks.UNCHANGED,
    chunks.CHANGED: chunks.UNCHANGED,
    chunks.REMOVED: chunks.NOT_REGISTERED,
}


async def apply_rows(transaction: Transaction, fsp_id: str, rows: Sequence[FileRow], plan: Plan) -> bytes:
    """What became of each row."""
    await transaction.rows("plan_anew")
    outcomes = plan.outcomes
    for number, positions in enumerate(plan.passes):
        # Keys are distinct within a pass, so the order of these three does not matter.
        for action, change in _ACTIONS:
            here = [at for at in positions if rows[at].action == action]
            if here:
                effects = await change(transaction, fsp_id, _columns([rows[at] for at in here]), number > 0)
                for at, effect in zip(here, effects, strict=True):
                    outcomes[at] = _RESULTS[effect]
    for at, before in plan.repeats:
        outcomes[at] = _REPEATED.get(outcomes[before], outcomes[before])
    return bytes(outcomes)


async def _add(transaction: Transaction, fsp_id: str, wanted: Columns, touched: bool) -> list[Effect]:
    return await aliases.add_entries(transaction, fsp_id, wanted, touched=touched)


async def _replace(transaction: Transaction, fsp_id: str, wanted: Columns, touched: bool) -> list[Effect]:
    return await aliases.replace_entries(transaction, fsp_id, wanted, touched=touched)


async def _remove(transaction: Transaction, fsp_id: str, named: Columns, _: bool) -> list[Effect]:
    every = [currency or None for currency in named.currencies]  # a row without a currency removes all of them
    return await aliases.remove_entries(transaction, fsp_id, named._replace(currencies=every))


_ACTIONS: Final = (("add", _add), ("replace", _replace), ("remove", _remove))


def _columns(rows: Sequence[FileRow]) -> Columns:
    return Columns(
        [row.party_id_type for row in rows],
        [row.identifier for row in rows],
        [row.sub_id for row in rows],
        [row.currency for row in rows],
    )


# A batch --------------------------------------------------------------------------------------------------------


class Rate:
    """How many rows a second, of late."""

    def __init__(self) -> None:
        self.per_s: float | None = None

    def count(self, rows: int, seconds: float) -> None:
        rate, weight = rows / max(seconds, 1e-3), min(1.0, seconds / RATE_OVER_S)
        self.per_s = rate if self.per_s is None else self.per_s + (rate - self.per_s) * weight


class Pace:
    """How many rows a transaction takes, how fast that is, and how long to rest before the next one."""

    def __init__(self) -> None:
        self.rows = chunks.ROWS_PER_CHUNK
        self.rate = Rate()
        self.rest_s = 0.0

    def took(self, seconds: float, waited_s: float) -> None:
        """`waited_s` of them for a core."""
        self.rest_s = seconds * REST if waited_s > seconds * CROWDED else 0.0
        if seconds > SLOW_S:
            self.slower(ROWS_MIN)
        elif seconds < SLOW_S / 2:
            self.rows = min(self.rows * 2, chunks.ROWS_PER_CHUNK)

    def slower(self, least: int) -> None:
        self.rows = max(self.rows // 2, min(self.rows, least))


def waited_s() -> float:
    """How long this process could have run and had no core, since its start; 0 where the kernel does not say."""
    try:
        return int(SCHEDULED.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Applying:
    """One batch, from where it stands."""

    def __init__(
        self, changes: Changes, postgres: Postgres, batch: Any, pace: Pace,
        tell: Callable[[bytes], None] = lambda _: None,  # what became of rows, once that is committed
    ) -> None:  # fmt: skip
        self._changes = changes
        self._postgres = postgres
        self._batch_id: int = batch["batch_id"]
        self._fsp_id: str = batch["fsp_id"]
        self._chunks: int = batch["chunks"]
        self._chunk: int = batch["chunks_applied"]
        self._rows: list[FileRow] = []  # of this chunk
        self._at = 0  # so many of them are applied
        self._pace = pace
        self._tell = tell
        self._context = Context(
            channel="import", actor=batch["uploaded_by"], role=batch["uploaded_role"], fsp_id=self._fsp_id,
            reason=batch["file_name"], request_id=request_id(self._batch_id),
        )  # fmt: skip

    async def step(self) -> bool:
        """Apply a share of the rows; False when none are left.

        Raises Superseded, DirectoryUnavailable: then the same share can be tried again.
        """
        if self._chunk == self._chunks:
            await self._end()
            return False
        began, waited_before_s = time.monotonic(), waited_s()
        if not self._rows:
            await self._load()
        try:
            applied = await self._apply()
        except errors.DirectoryUnavailable:
            self._pace.slower(ROWS_MIN)
            raise
        except (errors.Refused, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as exc:
            # Our rules would have let it in, those of the database do not.  It is one row, or a few.
            log.warning("share of a batch refused", exc=exc, batch=self._batch_id, rows=self._pace.rows)
            if self._pace.rows > 1:
                self._pace.slower(1)
                return True
            applied = await self._apply(refuse=True)
        seconds = time.monotonic() - began
        self._pace.took(seconds, waited_s() - waited_before_s)
        self._pace.rate.count(applied, seconds + self._pace.rest_s)
        return True

    async def _end(self) -> None:
        """Not with the last rows: they are done when every lookup answers by them, which without Redis is later."""
        await self._changes.administer(self._context, lambda transaction: transaction.run("batch_done", self._batch_id))

    async def _load(self) -> None:
        found = await self._postgres.row("batch_chunk", self._batch_id, self._chunk)
        if found is None:
            raise Superseded
        self._rows, self._at = chunks.unpacked(found["rows"]), len(found["results"])

    async def _apply(self, *, refuse: bool = False) -> int:
        rows = self._rows[self._at : self._at + self._pace.rows]
        plan = planned(rows, Allowance())
        rows = rows[: plan.size]
        keys = sorted({(row.party_id_type, row.identifier) for row in rows if not row.code})

        async def work(transaction: Transaction) -> tuple[tuple[bool, bytes], bool]:
            await self._hold(transaction)
            if refuse:
                outcomes = bytes([chunks.NOT_ACCEPTED] * len(rows))
            else:
                allowed = await self._allowed(transaction)
                here = planned(rows, allowed) if allowed != Allowance() else _fresh(plan)
                outcomes = await apply_rows(transaction, self._fsp_id, rows, here)
            return (await self._note(transaction, outcomes), outcomes), True

        if keys:
            is_whole, outcomes = await self._changes.change(self._context, keys, work)
        else:  # nothing that the cache could have a copy of
            (is_whole, outcomes), _ = await self._changes.administer(self._context, work)
        self._tell(outcomes)
        self._at += len(rows)
        if is_whole:
            self._chunk, self._rows, self._at = self._chunk + 1, [], 0
        return len(rows)

    async def _hold(self, transaction: Transaction) -> None:
        """Nobody else applies, or cancels, from here to the commit."""
        (batch,) = await transaction.rows("batch_locked", self._batch_id, None)
        chunk = await transaction.rows("chunk_progress", self._batch_id, self._chunk)
        where = (batch["state"], batch["chunks_applied"], [row["done"] for row in chunk])
        if where != ("applying", self._chunk, [self._at]):
            raise Superseded

    async def _allowed(self, transaction: Transaction) -> Allowance | None:
        try:
            return await self._changes.admit(transaction, self._fsp_id)
        except errors.UnknownFsp:
            return None

    async def _note(self, transaction: Transaction, outcomes: bytes) -> bool:
        (chunk,) = await transaction.rows("chunk_applied", self._batch_id, self._chunk, outcomes)
        is_whole: bool = chunk["is_whole"]
        await transaction.run(
            "batch_applied", self._batch_id, *chunks.tally(outcomes), int(is_whole), self._pace.rate.per_s
        )
        return is_whole


def _fresh(plan: Plan) -> Plan:
    """The work may be done again, in another transaction."""
    return plan._replace(outcomes=bytearray(plan.outcomes))


def request_id(batch_id: int) -> str:
    """By which the history names a batch."""
    return f"batch:{batch_id}"
