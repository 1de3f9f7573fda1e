"""python tests/schedules/explore.py [--schedules N] [--first SEED]: N of each plan, then without each rule."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from dropped import DROPPED
from plans import PLANS
from schedule import Plan, RandomSchedule, Violation
from systematic import SystematicSchedule, sample


def explore(plan: Plan, first: int, count: int) -> tuple[int, int, list[tuple[int, Violation]]]:
    """Lookups answered, those from the cache, and what was broken by which seed."""
    lookups = hits = 0
    broken = []
    for seed in range(first, first + count):
        schedule = RandomSchedule(plan, seed)
        violation = schedule.run()
        lookups += sum(lookup.value >= 0 for lookup in schedule.lookups)
        hits += schedule.hits
        schedule.end()
        if violation is not None:
            broken.append((seed, violation))
    return lookups, hits, broken


def explore_cases(delays: int, every: int) -> tuple[int, list[tuple[int, Violation]]]:
    """Cases tried, and what was broken by which of them."""
    count, broken = 0, []
    for case in sample(delays, every):
        schedule = SystematicSchedule(case)
        violation = schedule.run()
        schedule.end()
        if violation is not None:
            broken.append((count, violation))
        count += 1
    return count, broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    schedules = lookups_all = failures = 0
    for plan in PLANS:
        began = time.monotonic()
        lookups, hits, broken = explore(plan, options.first, options.schedules)
        schedules, lookups_all, failures = schedules + options.schedules, lookups_all + lookups, failures + len(broken)
        print(
            f"{plan.name:26} {','.join(plan.promises):7} {options.schedules} schedules, {lookups} lookups"
            f" ({hits} from the cache), {len(broken)} broken, {time.monotonic() - began:.1f} s",
            flush=True,
        )
        for seed, violation in broken[:3]:
            print(f"    seed {seed}: {violation.promise}: {violation.text}")
    for delays, every in ((0, 1), (1, max(1, 9000 // options.schedules)), (2, max(1, 3_000_000 // options.schedules))):
        count, broken = explore_cases(delays, every)
        schedules, failures = schedules + count, failures + len(broken)
        print(f"systematic, {delays} delays: {count} cases, {len(broken)} broken", flush=True)
        for n, violation in broken[:3]:
            print(f"    case {n} of every {every}: {violation.promise}: {violation.text}")
    print(f"together {schedules} schedules, {lookups_all} lookups, {failures} broken")
    print("without each rule, which must break something:")
    for dropped in DROPPED:
        found = dropped.shows(max(1_000, options.schedules))
        if found is None:
            failures += 1
            print(f"  {dropped.rule:45} nothing was broken")
        else:
            name, violation, _ = found
            print(f"  {dropped.rule:45} {violation.promise:5} {name}: {violation.text}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
