"""What differs between the rows of ALS and the wanted ones, and which acts are allowed: each trap with its code."""

from __future__ import annotations

import random

import pytest

from oracle.registration.rows import MEANINGS, BadEndpoint, Row, Wanted, choose, examine, list_wanted

OURS = "http://oracle"
THEIRS = "http://other"


def row(number: int, url: str = OURS, currency: str = "", *, is_default: bool = False) -> Row:
    return Row(number, "MSISDN", currency, url, is_default)


def want(*currencies: str, is_default: bool = False) -> list[Wanted]:
    return list_wanted(OURS, ["MSISDN"], currencies, is_default=is_default)


def find(rows: list[Row], wanted: list[Wanted], *, replace: bool = False) -> list[tuple[str, str, list[str]]]:
    return [
        (each.state, each.code, [f"{act.action} {act.row.oracle_id}" for act in each.acts])
        for each in examine(rows, wanted, replace=replace)
    ]


CREATE, REPLACE = ["registered 0"], ["removed 1", "registered 0"]


@pytest.mark.parametrize(
    ("rows", "wanted", "code", "without", "with_replace"),
    [
        ([], want(), "missing", CREATE, CREATE),
        ([row(1)], want(), "registered", [], []),
        ([row(1, is_default=True)], want(), "registered", [], []),
        # A row that differs is replaced only where that is allowed.
        ([row(1, THEIRS)], want(), "other_endpoint", [], REPLACE),
        ([row(1, f"{OURS}/")], want(), "double_slash", [], REPLACE),
        ([row(1)], want(is_default=True), "not_default", [], REPLACE),
        ([row(1), row(2)], want(), "duplicate", [], ["removed 2"]),
        ([row(1, THEIRS), row(2)], want(), "duplicate", [], ["removed 1"]),
        # A second row without a default: ALS would refuse every lookup.
        ([row(1, THEIRS, "MXN")], want(), "no_default", [], []),
        ([row(1, OURS, "MXN")], want(), "no_default", [], []),
        ([row(1), row(2, THEIRS, "USD")], want(), "no_default", [], []),
        # Another oracle answers now.
        ([row(1, THEIRS, "MXN")], want(is_default=True), "takes_over", [], CREATE),
        # With two default rows the newer one would answer, and which one is newer changes.
        ([row(1, THEIRS, "MXN", is_default=True)], want(is_default=True), "other_default", [], []),
        ([row(1, THEIRS, "MXN", is_default=True)], want(), "other_default", [], []),
        ([row(1, THEIRS, "MXN", is_default=True), row(2)], want(), "other_default", [], []),
        ([row(1, is_default=True), row(2, THEIRS, "MXN")], want(is_default=True), "registered", [], []),
        ([row(1, is_default=True), row(2, THEIRS, "MXN", is_default=True)], want(), "other_default", [], []),
        # Whatever else there is: ALS asks this oracle.
        ([row(1, THEIRS, "MXN", is_default=True), row(2, is_default=True)], want(), "registered", [], []),
    ],
)
def test_each_situation_has_its_code_and_its_acts(
    rows: list[Row], wanted: list[Wanted], code: str, without: list[str], with_replace: list[str]
) -> None:
    ((_, found, acts),) = find(rows, wanted)
    assert (found, acts) == (code, without)
    ((_, _, acts),) = find(rows, wanted, replace=True)
    assert acts == with_replace
    assert code in MEANINGS


def test_a_row_of_each_currency_is_created_and_one_that_differs_stops_no_other() -> None:
    assert find([], want("MXN", "USD", is_default=True)) == [("missing", "missing", CREATE)] * 2
    there = [row(1, currency="MXN", is_default=True), row(2, f"{OURS}/", "USD")]
    assert find(there, want("MXN", "USD", "EUR", is_default=True)) == [
        ("registered", "registered", []),
        ("different", "double_slash", []),
        ("missing", "missing", CREATE),
    ]


def test_types_are_examined_apart() -> None:
    wanted = list_wanted(OURS, ["MSISDN", "ALIAS"], (), is_default=False)
    assert find([row(1, THEIRS)], wanted) == [("different", "other_endpoint", []), ("missing", "missing", CREATE)]


@pytest.mark.parametrize(
    "url", [f"{OURS}/", f"{OURS}//", "oracle", "ftp://oracle", "http://u:secret@oracle", f"{OURS}?a", f"{OURS}/{{x}}"]
)
def test_an_endpoint_that_als_could_not_call_is_refused(url: str) -> None:
    with pytest.raises(BadEndpoint) as refused:
        list_wanted(url, ["MSISDN"], (), is_default=False)
    assert "secret" not in str(refused.value)


def test_rows_of_several_currencies_need_a_default_one() -> None:
    with pytest.raises(BadEndpoint, match="2001"):
        want("MXN", "USD")


def test_acts_never_leave_a_type_worse_than_before() -> None:
    """Whatever ALS has: after the acts it asks this oracle; without `replace` no row is removed and none overruled."""
    chance = random.Random(17)
    for _ in range(3_000):
        rows = [
            row(number, chance.choice((OURS, THEIRS, f"{OURS}/")), chance.choice(("", "MXN", "USD")),
                is_default=chance.random() < 0.4)
            for number in range(1, chance.randint(1, 5))
        ]  # fmt: skip
        wanted = chance.choice((want(), want("MXN"), want(is_default=True), want("MXN", "USD", is_default=True)))
        replace = chance.random() < 0.5
        findings = examine(rows, wanted, replace=replace)
        acts = [act for each in findings for act in each.acts]
        after = [each for each in rows if all(act.row != each or act.action != "removed" for act in acts)]
        after += [act.row for act in acts if act.action == "registered"]
        if acts:
            chosen = choose(after)
            assert chosen is not None
            assert chosen.url == OURS or any(each.state == "different" for each in findings)
        if not replace:
            before = choose(rows)
            assert all(act.action == "registered" for act in acts)
            assert not (acts and before is not None and before.url != OURS)
        if all(each.is_registered for each in findings):
            chosen = choose(rows)
            assert chosen is not None
            assert chosen.url == OURS
        keys = [each.key for each in after]
        assert replace or len(keys) - len(set(keys)) <= len(rows) - len({each.key for each in rows})
