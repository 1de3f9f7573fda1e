"""`make faults`: the rig for longer, over many seeds; prints what happened and exits with 1 when a promise was broken.

    python campaign.py --seeds 20 --minutes 30          what `make faults` runs
    python campaign.py --seed 7 --minutes 2             one of them again
    python campaign.py --seed 13 --short --broken lease    as in soak_rig.py, with a rule left out: it must exit with 1

Each seed is one run: a time without failures (promises A, B, C), then faults one by one (A, C), then faults that
overlap (nothing acknowledged is lost, in the end all agree).  Of each four, one has a sentinel and fails Redis over
instead, and one has a synchronous standby and fails PostgreSQL over.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from typing import Final, NamedTuple

import chaos
import main_loop
from broken_worker import BROKEN
from checker import Violation, check, excuses
from history import Fault, History
from rig import Load, count_acknowledged, figures, longest_gap_s, running_rig

CALM_S: Final = 6.0
OVERLAPPING_SHARE: Final = 0.25
# Starting, settling and asking everybody in the end take about as long.
OVERHEAD_S: Final = 16.0
EVERY: Final = 4  # of so many seeds
SENTINEL, STANDBY = 0, 2  # the rest of the seed says what it is
SHOWN_MAX: Final = 10
SHORT_BREVITY: Final = 0.3
SHORT_CALM_S: Final = 3.0
SHORT_OVERLAPPING_S: Final = 3.0
SHORT_PACE_S: Final = 0.07  # lookups are most of the CPU that the rig takes; other tests run beside the short one


class Result(NamedTuple):
    history: History
    violations: list[Violation]


async def run(seed: int, seconds: float, broken: str = "") -> Result:
    """Run everything of one seed, in about that time."""
    rng = random.Random(seed)
    ends_at = time.monotonic() + max(seconds - OVERHEAD_S / 2, 20)
    if seed % EVERY == SENTINEL:
        return await _failovers(seed, ends_at, broken)
    if seed % EVERY == STANDBY:
        return await _promotions(seed, ends_at, broken)
    async with running_rig(seed, broken=broken) as rig:
        rig.begin()
        await rig.run_calmly(CALM_S)
        until_overlap = ends_at - OVERLAPPING_SHARE * (ends_at - time.monotonic())
        while time.monotonic() < until_overlap:
            names = rng.sample(sorted(chaos.SINGLE), len(chaos.SINGLE))
            await chaos.one_by_one(rig, names, rng, until_overlap)
        await chaos.overlapping(rig, rng, max(ends_at - time.monotonic(), 1))
        return _judge(await rig.finish())


async def run_short(seed: int, broken: str = "") -> Result:
    """For every run of the tests: each fault once, shorter, then a few seconds of several at a time."""
    rng = random.Random(seed)
    async with running_rig(seed, load=Load(pace_s=SHORT_PACE_S), broken=broken) as rig:
        rig.brevity = SHORT_BREVITY
        rig.begin()
        await rig.run_calmly(SHORT_CALM_S)
        await chaos.one_by_one(rig, rng.sample(sorted(chaos.SINGLE), len(chaos.SINGLE)), rng)
        await chaos.overlapping(rig, rng, SHORT_OVERLAPPING_S)
        return _judge(await rig.finish())


async def run_short_failover(seed: int, broken: str = "") -> Result:
    return await _failovers(seed, 0, broken, SHORT_CALM_S)


async def _failovers(seed: int, ends_at: float, broken: str, calm_s: float = CALM_S) -> Result:
    async with running_rig(seed, sentinel=True, broken=broken) as rig:
        assert rig.watched is not None
        rig.begin()
        await rig.run_calmly(calm_s)
        while True:
            await chaos.fail_over(rig, rig.random)
            await rig.wait_recovered()
            if time.monotonic() > ends_at:
                break
            await rig.watched.wait_until_settled()
        return _judge(await rig.finish())


async def _promotions(seed: int, ends_at: float, broken: str) -> Result:
    async with running_rig(seed, standby="synchronous", broken=broken) as rig:
        rig.begin()
        await rig.run_calmly(CALM_S)
        while True:
            await chaos.promote_standby(rig, rig.random)
            await rig.wait_recovered()
            if time.monotonic() > ends_at:
                break
        return _judge(await rig.finish())


def _judge(history: History) -> Result:
    return Result(history, check(history))


# For people -------------------------------------------------------------------------------------------------


def report(results: list[Result]) -> str:
    """The table."""
    histories = [result.history for result in results]
    broken = Counter(violation.promise for result in results for violation in result.violations)
    single = [
        (fault, history) for history in histories for fault in history.faults if fault.end < history.overlapping_from
    ]
    overlapped = Counter(
        fault.kind for history in histories for fault in history.faults if fault.end >= history.overlapping_from
    )
    looks = sum(call.kind == "look" for history in histories for call in history.calls)
    unanswered = sum(call.kind == "look" and call.outcome != "ok" for history in histories for call in history.calls)
    calls = sum(len(history.calls) for history in histories)
    calm_s = sum(end - begin for history in histories for begin, end in history.calm)
    excused = sum(
        len({excuse.end for excuse in excuses(history) if excuse.begin < history.overlapping_from})
        for history in histories
    )
    lines = [
        f"{calls:9}  operations: {looks} lookups ({unanswered} without an answer), {calls - looks} changes asked for",
        f"{sum(count_acknowledged(history.calls) for history in histories):9}  changes acknowledged",
        f"{sum(len(history.events) for history in histories):9}  events",
        f"{calm_s:9.0f}  seconds without failures, judged by B",
        f"{excused:9}  faults during which a second failure, of this machine itself, excused a service",
        f"{broken['A']:9}  violations of A (a lookup after an acknowledgement sees the older state)",
        f"{broken['B']:9}  violations of B (lookups without failures are not linearizable)",
        f"{broken['C']:9}  violations of C (a committed change is not seen 1.5 s later)",
        f"{broken['lost']:9}  changes acknowledged and lost",
        f"{broken['events']:9}  events missing, doubled or contradictory",
        f"{broken['phantom']:9}  answers that nobody can have given reason for",
        f"{broken['agreement']:9}  keys on which not all agree in the end",
        f"{broken['odd']:9}  answers outside of the contract, defects logged",
        "",
        f"{'fault':28} {'single':>6} {'overlapping':>11}   longest time without an answered lookup at one service",
    ]
    for kind in sorted({fault.kind for fault, _ in single} | set(overlapped)):
        gaps = [_gap_s(history, fault) for fault, history in single if fault.kind == kind]
        longest = f"{max(gaps) * 1000:8.0f} ms" if gaps else ""
        lines.append(f"{kind:28} {len(gaps):6} {overlapped[kind]:11}   {longest}")
    return "\n".join(lines)


def _gap_s(history: History, fault: Fault) -> float:
    services = {call.where for call in history.calls if call.kind == "look"}
    return longest_gap_s(history.calls, fault, sorted(services))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--minutes", type=float, default=30, help="for all of them")
    parser.add_argument("--short", action="store_true", help="as in soak_rig.py, however many minutes that takes")
    parser.add_argument("--broken", choices=BROKEN, default="", help="a rule to leave out")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else list(range(1, options.seeds + 1))
    results: list[Result] = []
    for seed in seeds:
        short = run_short_failover if seed % EVERY == SENTINEL else run_short
        seconds = options.minutes * 60 / len(seeds)
        result = main_loop.run(short(seed, options.broken) if options.short else run(seed, seconds, options.broken))
        results.append(result)
        print(f"{figures(result.history)}, {len(result.violations)} violations", flush=True)
        for violation in result.violations[:SHOWN_MAX]:
            print(f"seed {seed}: {violation}", flush=True)
    print(f"\n{report(results)}")
    return int(any(result.violations for result in results))


if __name__ == "__main__":
    sys.exit(main())
