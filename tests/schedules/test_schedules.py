"""The cache protocol in production code under schedules of every kind; `explore.py` runs more of the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import model
import pytest
from dropped import DROPPED, Dropped, later_and_dying, moved_and_dying
from explore import explore, explore_cases
from plans import PLANS
from scenes import (
    Scene,
    SceneSchedule,
    cut_short,
    failed_over,
    heard_by_one,
    lost,
    repeated,
    restored,
    rolled_back,
    stalled,
    suspended,
)
from schedule import NEVER, Plan, RandomSchedule
from systematic import KEY, Case, SystematicSchedule

# For each plan, in a usual run and with --complete.
SCHEDULES = (2, 10)
FEW = (1, 5)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_promises_hold_under_random_schedules(plan: Plan, complete: bool) -> None:
    count = (FEW if plan.settles else SCHEDULES)[complete]
    lookups, hits, broken = explore(plan, 0, count)
    assert broken == []
    assert lookups > 20 * count
    assert hits >= count


def test_lookups_of_a_crowd_share_their_scripts() -> None:
    schedule = RandomSchedule(next(plan for plan in PLANS if plan.crowds), 0)
    assert schedule.run() is None
    assert max(server.largest_fill for server in schedule.redis) > 1
    schedule.end()


def test_registrations_of_one_moment_share_their_transaction() -> None:
    schedule = RandomSchedule(next(plan for plan in PLANS if plan.registers), 0)
    assert schedule.run() is None
    assert schedule.postgres.largest_batch > 1
    assert sum(change.acknowledged < NEVER for change in schedule.changes.values()) > 5
    schedule.end()


@pytest.mark.parametrize(("delays", "every"), [(0, 5), (1, 1_301), (2, 100_003)])
def test_promises_hold_around_one_change_however_few_messages_are_late(delays: int, every: int, complete: bool) -> None:
    count, broken = explore_cases(delays, every if complete else 2 * every + 1)
    assert broken == []
    assert count > (50 if complete else 20)


@pytest.mark.parametrize("cases", [later_and_dying, moved_and_dying], ids=lambda cases: cases.__name__)
def test_promises_hold_for_a_change_whose_fences_became_old(cases: Callable[[], Iterable[Case]]) -> None:
    for case in cases():
        schedule = SystematicSchedule(case)
        before = schedule.postgres.state.values[KEY]
        assert schedule.run() is None
        assert schedule.postgres.state.values[KEY] != before
        schedule.end()


@pytest.mark.parametrize(
    "scenes",
    [stalled, cut_short, suspended, lost, failed_over, repeated, rolled_back, restored, heard_by_one],
    ids=lambda scenes: scenes.__name__,
)
def test_promises_hold_in_scenes_around_one_change(
    scenes: Callable[[], Iterator[Scene]],
) -> None:
    for scene in scenes():
        schedule = SceneSchedule(scene)
        assert schedule.run() is None
        assert any(lookup.cached for lookup in schedule.lookups)
        assert schedule.changes.keys() & {state.value for state in schedule.states[KEY]}  # it was committed
        schedule.end()


@pytest.mark.parametrize("dropped", DROPPED, ids=lambda dropped: dropped.rule)
def test_no_rule_can_be_dropped(dropped: Dropped) -> None:
    found = dropped.shows(1_500)
    assert found is not None, "nothing was broken without it"
    where, violation, tried = found
    print(f"without {dropped.rule}: {violation.promise} broken by {where} ({tried} tried): {violation.text}")


def test_a_seed_is_a_schedule() -> None:
    logs = []
    for _ in range(2):
        schedule = RandomSchedule(Plan("all of it", ("failover", "cut", "stall", "death"), hand=True), 7, trace=True)
        schedule.run()
        schedule.end()
        logs.append(schedule.log)
    assert logs[0] == logs[1]
    assert len(logs[0] or ()) > 50


@pytest.mark.parametrize("faults", model.EXPLORED, ids=lambda faults: ", ".join(faults) or "no fault")
def test_the_model_keeps_its_promises(faults: tuple[str, ...]) -> None:
    assert model.explore(80, model.ALL, faults)[1] == []


@pytest.mark.parametrize("rule", model.RULES)
def test_the_model_needs_each_rule(rule: str) -> None:
    rest, first = model.ALL - {rule}, model.FIRST.get(rule, 0)
    assert model.explore(6_000, rest, model.SHOWN_BY[rule], first=first, first_only=True)[1] != []
