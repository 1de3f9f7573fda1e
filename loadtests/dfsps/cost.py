"""What a lookup of a DFSP costs: CPU by process, latency, one dead FSP among ten; beside a known program.

ALS.      It is seldom at hand.  Its cost was measured once beside `ceiling/lookup.node.js`, on one machine in one run:
          7,800 µs for a GET /parties with its database, and 4,700 µs for a GET /participants, where a lookup of that
          program took 38 µs.  So the same program runs here, and the cost of ALS is an estimate: that many times its.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtests import wrk
from loadtests.comparison import format_table
from loadtests.dfsps.scene import Manner, Scene, Summary, summarize
from loadtests.dfsps.service import Running, run_service, sum_cpu
from loadtests.peers import find_program, run_peer
from loadtests.stack import Cache, Cpu, StackError, read_exact_cpu
from oracle.store.cache.lookups import YOUNG_S

PAYEES: Final = 10
CONNECTIONS: Final = 64
PEER: Final = "node"
# How many times the peer's lookup a request of ALS takes, with its database.
ALS_TIMES: Final = {"parties": 7_800 / 38, "participants": 4_700 / 38}
GOAL: Final = 15
PEER_S: Final = 4.0
WARM: Final = 5_000  # parties whose copies are in Redis; each is asked for again after seconds, not before
WARM_UP_RATE: Final = 250
DEAD: Final = 0  # the payee that dies


class Cost(NamedTuple):
    """CPU in µs for each lookup, by process."""

    rate: float
    cpu: Mapping[str, float]
    summary: Summary

    @property
    def total(self) -> float:
        return sum(self.cpu.values())


@asynccontextmanager
async def open_scene(home: Path, settings: Mapping[str, str], workers: int = 1) -> AsyncIterator[tuple[Scene, Running]]:
    async with AsyncExitStack() as stack:
        scene = Scene(PAYEES)
        stack.push_async_callback(scene.close)
        await scene.open()
        running = await stack.enter_async_context(run_service(home, scene, settings, workers))
        scene.connect(running.port, CONNECTIONS)
        yield scene, running


async def measure(scene: Scene, running: Running, resource: str, rate: float, seconds: float) -> Cost:
    """Measure lookups at a fixed rate; 0: as many as the service answers.  Every answer is counted."""
    gc.collect()
    gc.disable()
    try:
        before = running.read_cpu()
        began = time.perf_counter()
        if rate:
            lookups = await scene.ask(int(rate * seconds), rate, among=WARM, resource=resource)
        else:
            lookups = await scene.ask_steadily(seconds, CONNECTIONS, among=WARM, resource=resource)
        took_s = time.perf_counter() - began
        after = running.read_cpu()
    finally:
        gc.enable()
    cpu = {name: 1e6 * sum_cpu(before[name], after[name]) / len(lookups) for name in after}
    return Cost(rate or len(lookups) / took_s, cpu, summarize(lookups))


async def warm_up(scene: Scene) -> None:
    """Ask for all parties once, when their copies stay: those of a young generation end soon."""
    await asyncio.sleep(YOUNG_S)
    await scene.ask(WARM, WARM_UP_RATE, among=WARM)


def measure_peer(home: Path, running: Running) -> float | None:
    """Measure a lookup of the peer in µs, with Redis; None if Node.js or its library is not installed."""
    program = find_program(PEER)
    if program is None:
        return None
    cache = Cache(running.valkey, running.valkey_port)
    try:
        with run_peer(home, cache, PEER, program) as side:
            targets = wrk.Targets("/participants/MSISDN/52550", 7, 20_000)
            pids = [*side.pids, cache.pid]
            wrk.run(side.url, targets, seconds=2, connections=CONNECTIONS)
            before = read_exact_cpu(pids)
            result = wrk.run(side.url, targets, seconds=PEER_S, connections=CONNECTIONS)
            spent: Cpu = read_exact_cpu(pids).since(before)
    except (StackError, wrk.WrkError) as exc:
        print(f"{PEER} cannot be measured: {str(exc).splitlines()[0]}")
        return None
    return 1e6 * spent.total / result.requests


async def run(home: Path, *, rate: float, seconds: float, dead_rate: float) -> dict[str, Any]:
    """Measure all of it; print the tables."""
    found: dict[str, Any] = {"cores": os.cpu_count(), "rate": rate, "seconds": seconds}
    async with open_scene(home, {}) as (scene, running):
        await warm_up(scene)
        costs = {resource: await measure(scene, running, resource, 0, seconds) for resource in ALS_TIMES}
        peer = await asyncio.to_thread(measure_peer, home, running)
        _print_costs(costs, peer)
        found |= {"costs": {name: _describe(cost) for name, cost in costs.items()}, "peer_us": peer}
        for name, at in (("half", costs["parties"].rate / 2), ("rate", rate)):
            cost = await measure(scene, running, "parties", at, seconds)
            print(f"\nat {at:,.0f} lookups/s: {cost.summary.describe()}; CPU {cost.total:.0f} µs each")
            print(f"time added, both ways: p50 {cost.summary.p50_ms:.2f} ms, p99 {cost.summary.p99_ms:.2f} ms")
            found[name] = _describe(cost)
        found["dead"] = await _measure_dead(scene, dead_rate, seconds)
    return found


def _describe(cost: Cost) -> dict[str, Any]:
    return cost._asdict() | {"summary": cost.summary._asdict()}


def _print_costs(costs: Mapping[str, Cost], peer: float | None) -> None:
    rows = []
    for resource, cost in costs.items():
        als = f"{peer * ALS_TIMES[resource]:,.0f}" if peer else "-"
        ratio = f"1/{peer * ALS_TIMES[resource] / cost.total:.1f}" if peer else "-"
        cells = [f"{cost.cpu[name]:.0f}" for name in ("worker", "Redis", "PostgreSQL")]
        lost = cost.summary.nothing + cost.summary.asked - cost.summary.accepted
        wrong = sum(count for answer, count in cost.summary.answers.items() if answer != "party")
        row = [f"GET /{resource}", f"{cost.rate:,.0f}", *cells, f"{cost.total:.0f}", als, ratio, f"{lost}", f"{wrong}"]
        rows.append(row)
    print(f"\nCPU in µs for each lookup; one worker, {CONNECTIONS} lookups open at once")
    heads = ["", "lookups/s", "worker", "Redis", "PostgreSQL", "all", "ALS (estimate)", f"ratio (goal 1/{GOAL})"]
    print("\n".join(format_table([*heads, "lost", "errors"], rows)))
    if peer:
        print(f"the peer, a lookup in {PEER} with Redis: {peer:.1f} µs")


async def _measure_dead(scene: Scene, rate: float, seconds: float) -> dict[str, Any]:
    """Measure the other FSPs while one is well, dead, or takes calls and never answers."""
    print(f"\none FSP of {PAYEES}, at {rate:,.0f} lookups/s; the others:")
    manners: list[Manner] = ["well", "dead", "hang", "well"]
    found: dict[str, Any] = {}
    rows = []
    for number, manner in enumerate(manners):
        await scene.set_manner(DEAD, manner)
        lookups = await scene.ask(int(rate * seconds), rate, settle_s=25)
        others = summarize([lookup for lookup in lookups if lookup.payee != DEAD])
        its = summarize([lookup for lookup in lookups if lookup.payee == DEAD])
        name = "well again" if number == len(manners) - 1 else manner
        found[name] = {"others": others._asdict(), "its": its._asdict()}
        wrong = others.asked - others.answers.get("party", 0)
        rows.append([name, f"{others.p50_ms:.2f}", f"{others.p99_ms:.2f}", f"{wrong}", its.describe()])
    await scene.set_manner(DEAD, "well")
    print("\n".join(format_table(["it is", "p50 ms", "p99 ms", "not found", "its own lookups"], rows)))
    before = found["well"]["others"]["p99_ms"]
    for name in ("dead", "hang"):
        print(f"{name}: p99 of the others is {found[name]['others']['p99_ms'] / before:.2f} x of before (goal: <= 1.5)")
    return found
