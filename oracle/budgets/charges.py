"""What files cost: tokens for the conflicts that their rows found, taken in Redis after the rows are applied.

The jobs process holds no share of the buckets, because nobody waits for it.  It takes the tokens from the bucket in
Redis, and from no more than is there: a large file must not leave its FSP in debt, because the lookups of its payments
need the next tokens.  Instead, the FSP can send its next file only when half of its bucket is full again
(`oracle.api.admin.budgets`).  While Redis is away, the charges wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from oracle.backoff import pause
from oracle.budgets.classes import Classes, Costs
from oracle.budgets.correction import charge
from oracle.store.cache.session import Unreachable
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import asyncio

    from oracle.store.base import Session

EVERY_S: Final = 1.0


class Charges:
    """Collects the charges of one process, and takes them once a second."""

    def __init__(
        self, classes: Classes, costs: Costs, find_session: Callable[[], Session | None], metrics: Metrics, prefix: str
    ) -> None:
        self._classes = classes
        self._conflict = costs.conflict
        self._find_session = find_session
        self._metrics = metrics
        self._prefix = prefix
        self._owed = Counter[str]()  # conflicts, by FSP

    def add(self, fsp_id: str, conflicts: int) -> None:
        if conflicts:
            self._owed[fsp_id] += conflicts

    async def run(self, stop: asyncio.Event, every_s: float = EVERY_S) -> None:
        while not await pause(every_s, stop):
            await self.settle()
        await self.settle()

    async def settle(self) -> None:
        """Take what is owed.  Without Redis it stays owed."""
        session = self._find_session()
        if session is None or not self._owed:
            return
        owed, self._owed = self._owed, Counter()
        tokens = {fsp_id: conflicts * self._conflict for fsp_id, conflicts in owed.items()}
        try:
            await charge(session, self._prefix, self._classes, tokens)
        except Unreachable:
            self._owed += owed
            return
        for fsp_id, taken in tokens.items():
            self._metrics.add("budget_tokens_total", taken, fsp_class=self._classes.find(fsp_id))
