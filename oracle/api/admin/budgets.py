"""`/budgets`: the budget against scans of each FSP, with the tokens that it has now (`oracle.budgets`).

The workers take the tokens; this process only reads what they have told Redis in the last second.  While less than half
of a bucket is left, the workers hold shares of it, and `tokens` is without these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from oracle.api.admin.access import ANYBODY
from oracle.api.admin.calls import Call, Resource, answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.rate_limits import describe_limit
from oracle.api.admin.values import FspIdQuery
from oracle.budgets.classes import UNKNOWN_FSPS, Classes
from oracle.budgets.correction import read_tokens
from oracle.store.base import Session
from oracle.store.cache.session import Unreachable

Mode = Literal["off", "observe", "enforce"]


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


class BudgetReader:
    """Reads the budgets for the admin process."""

    def __init__(self, mode: Mode, classes: Classes, find_session: Callable[[], Session | None], prefix: str) -> None:
        self.mode = mode
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
    call: NamedDependency[Call], budgets: NamedDependency[BudgetReader | None], fsp_id: FspIdQuery = None,
    limit: Limit = PAGE, cursor: Cursor = None,
) -> Response[bytes]:  # fmt: skip
    reader = budgets or BudgetReader("off", Classes.of_defaults(), lambda: None, "")
    cursors = Cursors(call.caller, "budgets", fsp_id)
    after = cursors.open(cursor, str)
    bound = call.list_fsps()
    if fsp_id is not None:
        bound = [fsp_id] if bound is None or fsp_id in bound else []
    rows = await call.postgres.rows("budgets_page", bound, after, limit + 1)
    tokens = await reader.fetch_tokens()
    items = [reader.describe(row["fsp_id"], tokens) for row in rows[:limit]]
    following = cursors.close(rows[limit - 1]["fsp_id"]) if len(rows) > limit else None
    if bound is None and following is None:
        items.append(reader.describe(UNKNOWN_FSPS, tokens))
    page = BudgetPage(mode=reader.mode, items=items, next=following)
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
