"""`/budgets`: the budget against scans of each FSP, with the tokens that it has now (`oracle.budgets`).

The tokens shown are those that all processes have told Redis in the last second.  While less than half of a bucket is
left, the processes hold shares of it, and `tokens` is without these.

Paid.      A registration that meets the alias of another FSP tells the same here as at the hub listener.  So it takes
           the same tokens, of the FSP whose people call.  People of the hub pay nothing: they can look up everything.
Files.     The jobs process takes the tokens for their conflicts (`oracle.budgets.charges`).  With `enforce`, an FSP can
           send a file only while half of its bucket is full.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Final, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from oracle import errors
from oracle.api.admin.access import ANYBODY
from oracle.api.admin.calls import Call, Resource, answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit
from oracle.api.admin.values import FspIdQuery
from oracle.budgets.buckets import Buckets
from oracle.budgets.changes import Payment, find_bucket, pay_for_change
from oracle.budgets.classes import UNKNOWN_FSPS, Classes
from oracle.budgets.correction import read_tokens
from oracle.store.base import Session
from oracle.store.cache.session import Unreachable

Mode = Literal["off", "observe", "enforce"]

FILE_SHARE: Final = 0.5  # of the bucket, which must be there for another file


class Budget(Resource):
    fsp_id: Annotated[str | None, Meta(description="null: all sources that the directory does not know")]
    fsp_class: Annotated[str, Meta(description="A to E, or unknown")]
    size: Annotated[int, Meta(description="Tokens of a full bucket")]
    refill_per_minute: Annotated[int, Meta(description="Tokens that it gets back in a minute")]
    tokens: Annotated[
        int | None,
        Meta(description="Tokens now; below zero: owed. null: not known, because the mode is off or Redis is away"),
    ]


class BudgetPage(Resource):
    mode: Annotated[Mode, Meta(description="The setting budget_mode")]
    items: list[Budget]
    next: Annotated[str | None, Meta(description="The cursor of the next page")]


class Budgets:
    """The budgets, for the admin process."""

    def __init__(
        self,
        mode: Mode,
        classes: Classes,
        find_session: Callable[[], Session | None],
        prefix: str,
        buckets: Buckets | None = None,
    ) -> None:
        """`buckets`: those of this process, from which changes are paid; None: nobody pays."""
        self.mode = mode
        self._buckets = buckets
        self._classes = classes
        self._find_session = find_session
        self._prefix = prefix

    async def fetch_tokens(self) -> Mapping[str, float] | None:
        """Fetch the tokens of the FSPs whose bucket is not full; None if nobody knows."""
        session = self._find_session()
        if self.mode == "off" or session is None:
            return None
        try:
            return (await read_tokens(session, self._prefix, self._classes)).tokens
        except Unreachable:
            return None

    @asynccontextmanager
    async def pay(self, call: Call, fsp_id: str) -> AsyncIterator[Payment]:
        """Let the FSP pay for what the change inside tells its people.  Raises Refusal 429, DirectoryUnavailable."""
        buckets = None if call.fsp_ids is None else self._buckets
        if buckets is not None:
            buckets.know([fsp_id])  # it can be new
            if buckets.enforces and find_bucket(buckets, fsp_id).left <= 0 and await call.is_repeated():
                buckets = None  # it gets its first answer, which tells nothing new
        try:
            with pay_for_change(buckets, fsp_id) as payment:
                yield payment
        except errors.OverBudget:
            left = 0.0 if buckets is None else find_bucket(buckets, fsp_id).left
            raise self._refuse(
                fsp_id, left, wanted=1.0, detail="This FSP has met too many aliases of other FSPs"
            ) from None

    async def require_room_for_file(self, call: Call, fsp_id: str) -> None:
        """Require that the FSP can send another file.  Raises Refusal 429."""
        if self.mode != "enforce" or call.fsp_ids is None:
            return
        tokens = await self.fetch_tokens()
        size = self._classes.size_of(fsp_id)
        wanted = FILE_SHARE * size.tokens
        left = size.tokens if tokens is None else tokens.get(fsp_id, size.tokens)
        if left < wanted:
            raise self._refuse(
                fsp_id, left, wanted, detail="A file needs half of the budget of this FSP, and less is left"
            )

    def _refuse(self, fsp_id: str, left: float, wanted: float, detail: str) -> Refusal:
        budget = self.describe(fsp_id, {fsp_id: left})
        wait_s = max(1, math.ceil((wanted - left) / budget.refill_per_minute * 60))
        hint = f"Wait {wait_s:,} seconds, then try again. `GET /budgets` shows how much is left"
        return Refusal(429, "over_budget", detail, hint, {"Retry-After": str(wait_s), **describe_budget(budget)})

    def describe(self, fsp_id: str, tokens: Mapping[str, float] | None) -> Budget:
        size = self._classes.size_of(fsp_id)
        return Budget(
            fsp_id=None if fsp_id == UNKNOWN_FSPS else fsp_id,
            fsp_class=self._classes.find(fsp_id),
            size=size.tokens,
            refill_per_minute=size.refill,
            tokens=None if tokens is None else int(tokens.get(fsp_id, size.tokens)),
        )


def handlers() -> list[HTTPRouteHandler]:
    return [list_budgets]


@operation(
    "listBudgets", "GET", "/budgets", ANYBODY,
    "List the budgets of FSPs against scans; the people of an FSP see their own", answers=BudgetPage,
)  # fmt: skip
async def list_budgets(
    call: NamedDependency[Call], budgets: NamedDependency[Budgets], fsp_id: FspIdQuery = None, limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:  # fmt: skip
    cursors = Cursors(call.caller, "budgets", fsp_id)
    after = cursors.open(cursor, str)
    bound = call.list_fsps()
    if fsp_id is not None:
        bound = [fsp_id] if bound is None or fsp_id in bound else []
    rows = await call.postgres.rows("budgets_page", bound, after, limit + 1)
    tokens = await budgets.fetch_tokens()
    items = [budgets.describe(row["fsp_id"], tokens) for row in rows[:limit]]
    following = cursors.close(rows[limit - 1]["fsp_id"]) if len(rows) > limit else None
    if bound is None and following is None:
        items.append(budgets.describe(UNKNOWN_FSPS, tokens))
    page = BudgetPage(mode=budgets.mode, items=items, next=following)
    if call.fsp_ids is not None and len(items) == 1 and items[0].tokens is not None:
        return answer(page, headers=describe_budget(items[0])).response()
    return call.read_page(page)


def describe_budget(budget: Budget) -> dict[str, str]:
    """Describe the budget of one FSP as RateLimit fields."""
    left = budget.tokens or 0
    refill_s = budget.refill_per_minute / 60
    return describe_limit(
        budget.fsp_id or UNKNOWN_FSPS, budget.size, unit="tokens", left=left,
        window_s=budget.size / refill_s, wait_s=(budget.size - left) / refill_s,
    )  # fmt: skip
