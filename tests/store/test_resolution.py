"""The FSP that answers for an identifier, for every small set of entries and routes."""

from __future__ import annotations

from itertools import combinations

import pytest

from oracle.store.cache.values import Entry
from oracle.store.resolution import OTHER_CURRENCIES, Decision, choose_entry, decide

ALL, USD, MXN = Entry("a", "", ""), Entry("b", "USD", ""), Entry("c", "MXN", "")
SUSPENDED, OTHER_SUB_ID = Entry("", "USD", ""), Entry("d", "", "X")


@pytest.mark.parametrize(
    ("entries", "currency", "route", "expected"),
    [
        ([], None, None, Decision("", "", "nobody")),
        ([], None, "r", Decision("r", "", "route")),
        ([], "USD", "r", Decision("r", "", "route")),
        ([], None, "", Decision("", "", "route_not_answered")),
        ([OTHER_SUB_ID], None, "r", Decision("r", "", "route")),
        ([OTHER_SUB_ID], None, None, Decision("", "", "nobody")),
        ([USD, MXN], None, "r", Decision("b", "USD", "alias", USD)),
        ([USD, MXN], "MXN", "r", Decision("c", "MXN", "alias", MXN)),
        ([ALL, MXN], "USD", "r", Decision("a", "", "alias", ALL)),
        ([USD, ALL], "MXN", "r", Decision("a", "", "alias", ALL)),
        ([ALL, MXN], "MXN", "r", Decision("c", "MXN", "alias", MXN)),
        ([USD, MXN], "EUR", "r", Decision("", "", "other_currencies")),
        ([USD], "EUR", None, Decision("", "", "other_currencies")),
        ([SUSPENDED], None, "r", Decision("", "", "alias_not_answered", SUSPENDED)),
        ([SUSPENDED, MXN], "USD", "r", Decision("", "", "alias_not_answered", SUSPENDED)),
    ],
)
def test_each_rule_decides(entries: list[Entry], currency: str | None, route: str | None, expected: Decision) -> None:
    assert decide(entries, "", currency, route) == expected


def test_a_registered_key_never_falls_through_to_a_route() -> None:
    """Over every ordered pick of entries: the hub's choice and the decision with a reason agree."""
    every = [ALL, USD, MXN, SUSPENDED, OTHER_SUB_ID]
    for count in range(len(every) + 1):
        for entries in combinations(every, count):
            for currency in (None, "USD", "MXN", "EUR"):
                chosen = choose_entry(entries, "", currency)
                decision = decide(entries, "", currency, "r")
                is_registered = any(entry.sub_id == "" for entry in entries)
                assert (chosen is not None) == is_registered == (decision.reason != "route")
                assert decision.fsp_id == ("r" if chosen is None else chosen.fsp_id)
                assert (decision.reason == "other_currencies") == (chosen is OTHER_CURRENCIES)
