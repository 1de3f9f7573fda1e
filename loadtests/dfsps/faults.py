"""Failures beside lookups: what the payers got, what the payees got, and how many lookups had no answer.

Each failure begins after a quarter of the lookups and ends after three quarters of them.  A lookup that the service
did not accept (no 202) is no lost one: its payer knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtests.dfsps.cost import open_scene
from loadtests.dfsps.scene import LedgerManner, Manner, Scene, summarize
from loadtests.dfsps.service import Running

Act = Callable[[Scene, Running], Awaitable[None]]

# Short, so that a failure is over within a short run.
SETTINGS: Final = {"ORACLE_CALL_TIMEOUT_S": "2", "ORACLE_PARTY_TIMEOUT_S": "4"}
PAYEES: Final[tuple[Manner, ...]] = ("dead", "hang", "slow", "silent", "garbage", "cut", "redirect", "refuse")
LEDGERS: Final[tuple[LedgerManner, ...]] = ("away", "slow", "wrong", "lie")
RECOVER_S: Final = 4.0  # until nobody remembers what a ledger that lies has told
SETTLE_S: Final = 45.0  # longer than a worker's lease of a request


class Failure(NamedTuple):
    name: str
    begin: Act
    end: Act


def _payee(manner: Manner) -> Failure:
    async def begin(scene: Scene, _: Running) -> None:
        await scene.set_manner(0, manner)

    async def end(scene: Scene, _: Running) -> None:
        await scene.set_manner(0, "well")

    return Failure(f"payee {manner}", begin, end)


def _ledger(manner: LedgerManner) -> Failure:
    async def begin(scene: Scene, _: Running) -> None:
        await scene.set_ledger(manner)

    async def end(scene: Scene, _: Running) -> None:
        await scene.set_ledger("well")

    return Failure(f"ledger {manner}", begin, end)


async def _nothing(_: Scene, __: Running) -> None:
    """Do nothing."""


async def _kill_redis(_: Scene, running: Running) -> None:
    running.valkey.kill()


async def _start_redis(_: Scene, running: Running) -> None:
    await running.valkey.start()


async def _kill_postgres(_: Scene, running: Running) -> None:
    running.postgres.kill()


async def _start_postgres(_: Scene, running: Running) -> None:
    await running.postgres.start()


async def _kill_worker(_: Scene, running: Running) -> None:
    running.kill_worker()


async def _reload(_: Scene, running: Running) -> None:
    running.reload()


FAILURES: Final = (
    Failure("none", _nothing, _nothing),
    *(_payee(manner) for manner in PAYEES),
    *(_ledger(manner) for manner in LEDGERS),
    Failure("Redis away", _kill_redis, _start_redis),
    Failure("PostgreSQL away", _kill_postgres, _start_postgres),
    Failure("worker killed", _kill_worker, _nothing),
    Failure("drain", _reload, _nothing),
)


async def run(home: Path, names: list[str], *, lookups: int, rate: float, workers: int) -> dict[str, Any]:
    """Cause each failure in turn on one service; print a line for each."""
    found: dict[str, Any] = {}
    async with open_scene(home, SETTINGS, workers) as (scene, running):
        await scene.ask(min(2_000, lookups), 300)
        for failure in FAILURES:
            if names and failure.name not in names:
                continue
            found[failure.name] = await _cause(failure, scene, running, lookups, rate)
        if running.process.poll() is not None:
            print("the service has ended:", running.log.read_text()[-2000:])
    return found


async def _cause(failure: Failure, scene: Scene, running: Running, count: int, rate: float) -> dict[str, Any]:
    asking = asyncio.create_task(scene.ask(count, rate, settle_s=SETTLE_S))
    await asyncio.sleep(count / rate / 4)
    await failure.begin(scene, running)
    await asyncio.sleep(count / rate / 2)
    await failure.end(scene, running)
    summary = summarize(await asking)
    await asyncio.sleep(RECOVER_S)
    print(f"{failure.name}: {summary.describe()}; payees' PUTs by status: {summary.puts}", flush=True)
    return summary._asdict()
