"""What changes cost: only an answer that shows something about other FSPs takes tokens.

A registration that succeeds costs nothing.  An alias that another FSP holds costs `conflict`, and one that nobody has
registered costs `nobody`: a removal or an update shows that.

With `enforce`, an FSP with an empty bucket cannot try: a refusal of ours in place of a conflict would show it as much.
Each try first takes the tokens of its dearest answer, and gives back afterwards what it did not cost.  Without that,
changes that run at the same time could all be tried with the tokens for one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from oracle import errors
from oracle.budgets.buckets import Bucket, Buckets
from oracle.store.aliases import ChangeResult
from oracle.store.base import Registration

News = Literal["conflict", "nobody", ""]  # another FSP holds the alias; nobody does; nothing
Register = Callable[[Sequence[Registration]], Awaitable[list[ChangeResult]]]
# How much of what is left the registrations of a bulk can take for a moment: lookups of the FSP go on meanwhile.
BULK_SHARE: Final = 0.5


class Payment:
    """What a change has told its FSP, for a change that does not raise it."""

    def __init__(self) -> None:
        self.news: News = ""

    def note(self, error: BaseException | None) -> None:
        self.news = find_news(error)


@contextmanager
def pay_for_change(budgets: Buckets | None, source: str) -> Iterator[Payment]:
    """Let the FSP pay for what the change inside tells it: what it raises or notes.  Raises OverBudget."""
    payment = Payment()
    if budgets is None:
        yield payment
        return
    bucket = find_bucket(budgets, source)
    if budgets.refuses(bucket):
        raise errors.OverBudget
    reserved, _ = reserve(budgets, bucket, 1)
    try:
        yield payment
    except errors.OracleError as exc:
        payment.note(exc)
        raise
    finally:
        settle(budgets, bucket, reserved, find_cost(budgets, payment.news))


async def register_within(
    budgets: Buckets | None, source: str, wanted: Sequence[Registration], register: Register
) -> list[ChangeResult]:
    """Register the items of a bulk, and let the FSP pay for its conflicts.  One result each, in order.

    With `enforce` they are registered in parts that the bucket could pay if all of them were conflicts, and what
    remains when it is empty is refused: else one bulk could try 10,000 aliases with the tokens for one.
    """
    if budgets is None:
        return await register(wanted)
    bucket = find_bucket(budgets, source)
    results: list[ChangeResult] = []
    while len(results) < len(wanted):
        if budgets.refuses(bucket):
            refused = ChangeResult(refused=errors.OverBudget())
            results += [refused] * (len(wanted) - len(results))
            break
        reserved, tries = reserve(budgets, bucket, len(wanted) - len(results))
        cost = 0.0
        try:
            found = await register(wanted[len(results) : len(results) + tries])
            cost = sum(find_cost(budgets, find_news(result.refused)) for result in found)
        finally:
            settle(budgets, bucket, reserved, cost)
        results += found
    return results


def find_bucket(budgets: Buckets, source: str) -> Bucket:
    return budgets.of(source.encode("latin-1", "replace"))


def find_news(error: BaseException | None) -> News:
    """Find what this refusal of a change tells about other FSPs."""
    if isinstance(error, errors.AlreadyRegistered | errors.NotOwner):
        return "conflict"
    return "nobody" if isinstance(error, errors.PartyNotFound) else ""


def find_cost(budgets: Buckets, news: News) -> float:
    return {"conflict": budgets.conflict, "nobody": budgets.nobody, "": 0.0}[news]


def reserve(budgets: Buckets, bucket: Bucket, wanted: int) -> tuple[float, int]:
    """Take the tokens for so many changes, or fewer, at the dearest price; return them, and how many can try."""
    most = max(budgets.conflict, budgets.nobody)
    if not budgets.enforces or not most:
        return 0.0, wanted
    tries = min(wanted, max(1, int(BULK_SHARE * bucket.left / most)))
    reserved = tries * most
    bucket.left -= reserved
    return reserved, tries


def settle(budgets: Buckets, bucket: Bucket, reserved: float, cost: float) -> None:
    """Give back what was reserved, and take the cost."""
    bucket.left += reserved
    if cost:
        budgets.take(bucket, cost)
