"""Buckets that stay empty for 5 minutes: history has an event of each, at most one an hour for an FSP.

A scan empties its bucket again and again, each time when the refill has brought a few tokens.  So a bucket stays empty
while it was found empty at least every GAP_S.  Every process can notice it, also without Redis; the database keeps one
event of them (migrations/0025).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

from oracle.budgets.buckets import Bucket
from oracle.budgets.classes import UNKNOWN_FSPS, Size
from oracle.store.base import Context

if TYPE_CHECKING:
    from oracle.store.postgres import Postgres

PATIENCE_S: Final = 300.0
GAP_S: Final = 10.0
AGAIN_S: Final = 3_600.0

Mode = Literal["observe", "enforce"]


class Emptiness:
    """Notices the buckets of one process that stay empty."""

    def __init__(self, patience_s: float = PATIENCE_S, gap_s: float = GAP_S) -> None:
        self._patience_s, self._gap_s = patience_s, gap_s
        self._empty: dict[Bucket, tuple[float, float]] = {}  # since when, and when it was found empty last
        self._told: dict[Bucket, float] = {}

    def look(self, buckets: Iterable[Bucket], now: float) -> list[Bucket]:
        """Return those that have stayed empty for long enough and were not returned within the hour."""
        for bucket in buckets:
            if bucket.left <= 0:
                self._empty[bucket] = self._empty.get(bucket, (now, now))[0], now
        self._empty = {bucket: seen for bucket, seen in self._empty.items() if now - seen[1] <= self._gap_s}
        self._told = {bucket: at for bucket, at in self._told.items() if now - at < AGAIN_S}
        due = [
            bucket
            for bucket, (since, last) in self._empty.items()
            if last - since >= self._patience_s and bucket not in self._told
        ]
        self._told.update(dict.fromkeys(due, now))
        return due


async def record(postgres: Postgres, channel: str, bucket: Bucket, size: Size, mode: Mode) -> None:
    """Record that the bucket of an FSP stays empty, once for all processes.  Raises DirectoryUnavailable."""
    actor = "oracle" if bucket.fsp_id == UNKNOWN_FSPS else bucket.fsp_id
    reason = f"the budget has been empty for {PATIENCE_S / 60:.0f} minutes"
    context = Context(channel=channel, actor=actor, role="fsp", reason=reason)
    async with postgres.transaction(context, fenced=True) as transaction:
        await transaction.run("budget_empty", bucket.fsp_id, bucket.fsp_class, size.tokens, size.refill, mode)
        await transaction.commit()
