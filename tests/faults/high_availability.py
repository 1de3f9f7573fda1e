"""Measures what one failure of PostgreSQL costs a whole service: `make failover`.

A service on a primary and a synchronous standby, both real.  Three clients ask it all the time: for cached aliases, for
identifiers that nobody has asked for, and for new registrations.  For each fault it prints the share of cached lookups
that were answered, the longest time without an answer of each kind, the time from the promotion to the first answer,
and how many acknowledged registrations are missing at the end (there must be none).

kill       the primary dies (kill -9), and 3 s later the standby is promoted
halt       the primary hangs (SIGSTOP of all its processes), and 3 s later the standby is promoted
return     as halt; then the old primary goes on, unfenced, as the first server of the URL, and a worker is replaced
standby    the standby hangs for 20 s
full       the disk of the primary is full for 10 s (needs root: the data is on a small tmpfs)
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import servers
from oracle_process import OracleProcess, start_oracle
from replication import Pair, halt, kill, make_data, open_pair, resume, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS: Final = ("cached", "cold", "change")
PACE_S: Final = 0.02
PROMOTION_S: Final = 3.0
WARM_UP_S: Final = 7.0  # a fence keeps a key out of the cache for three seconds
CACHED: Final = 20
OK_MAX: Final = 299


@dataclass
class Record:
    """When each kind of request was answered, and how often it was not."""

    answered: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: list[str] = field(default_factory=list)

    def report(self, name: str, since: float, promoted_at: float | None) -> None:
        gaps, first = {}, {}
        for kind in KINDS:
            times = [since, *(at for at in self.answered[kind] if at > since), time.monotonic()]
            gaps[kind] = max(after - before for before, after in pairwise(times))
            if promoted_at is not None:
                first[kind] = min((at for at in times[1:-1] if at > promoted_at), default=float("inf")) - promoted_at
        cached = sum(at > since for at in self.answered["cached"])
        share = cached / max(1, cached + sum(at > since for at in self.failed["cached"]))
        print(f"{name:8} cached lookups answered: {share:.2%}")
        print(f"{'':8} longest time without an answer: " + ", ".join(f"{k} {gaps[k]:.1f} s" for k in KINDS))
        if first:
            print(f"{'':8} first answer after the promotion: " + ", ".join(f"{k} {first[k]:.1f} s" for k in KINDS))


async def ask(client: httpx.AsyncClient, record: Record, kind: str, method: str, identifier: str) -> bool:
    body = {"fspId": "greenbank"} if method == "POST" else None
    try:
        answer = await client.request(method, f"/participants/ALIAS/{identifier}", json=body)
        good = answer.status_code <= OK_MAX
    except httpx.HTTPError:
        good = False
    (record.answered if good else record.failed)[kind].append(time.monotonic())
    return good


async def keep_asking(oracle: OracleProcess, record: Record, name: str) -> None:
    """Ask until cancelled: one client of each kind."""
    async with httpx.AsyncClient(base_url=oracle.hub_url, headers={"fspiop-source": "greenbank"}, timeout=10) as client:

        async def repeat(kind: str) -> None:
            number = 0
            while True:
                number += 1
                if kind == "cached":
                    await ask(client, record, kind, "GET", f"cached-{number % CACHED}")
                elif kind == "cold":
                    await ask(client, record, kind, "GET", f"{name}-cold-{number}")
                elif await ask(client, record, kind, "POST", f"{name}-{number}"):
                    record.acknowledged.append(f"{name}-{number}")
                await asyncio.sleep(PACE_S)

        await asyncio.gather(*map(repeat, KINDS))


async def count_missing(oracle: OracleProcess, record: Record) -> int:
    missing = 0
    async with httpx.AsyncClient(base_url=oracle.hub_url, timeout=10) as client:
        for identifier in record.acknowledged:
            answer = await client.get(f"/participants/ALIAS/{identifier}")
            while answer.status_code > OK_MAX:
                answer = await client.get(f"/participants/ALIAS/{identifier}")
            missing += answer.json()["partyList"] == []
    return missing


# Faults -------------------------------------------------------------------------------------------------------

Fault = Callable[[Pair, OracleProcess], Awaitable[float | None]]  # the time of the promotion, if there was one


async def _promote_later(pair: Pair) -> float:
    await asyncio.sleep(PROMOTION_S)
    await pair.promote()
    promoted_at = time.monotonic()
    await asyncio.sleep(10)
    return promoted_at


async def kill_primary(pair: Pair, _: OracleProcess) -> float:
    kill(pair.primary)
    return await _promote_later(pair)


async def halt_primary(pair: Pair, _: OracleProcess) -> float:
    halt(pair.primary)
    return await _promote_later(pair)


async def let_old_primary_return(pair: Pair, oracle: OracleProcess) -> float:
    promoted_at = await halt_primary(pair, oracle)
    resume(pair.primary)
    await asyncio.sleep(2)
    with suppress(IndexError):
        oracle.workers()[0].kill()
    await asyncio.sleep(10)
    return promoted_at


async def print_health(oracle: OracleProcess) -> None:
    async with httpx.AsyncClient() as client:
        print((await client.get(f"{oracle.hub_url}/health")).text)


async def lose_standby(pair: Pair, oracle: OracleProcess) -> None:
    halt(pair.standby)
    await asyncio.sleep(20)
    await print_health(oracle)
    resume(pair.standby)
    await asyncio.sleep(5)


async def fill_disk(pair: Pair, oracle: OracleProcess) -> None:
    filler = pair.primary.data / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    await asyncio.sleep(10)
    await print_health(oracle)
    filler.unlink()
    await asyncio.sleep(5)


FAULTS: Final[dict[str, Fault]] = {
    "kill": kill_primary,
    "halt": halt_primary,
    "return": let_old_primary_return,
    "standby": lose_standby,
    "full": fill_disk,
}


# The servers --------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(pair: Pair) -> Iterator[None]:
    """Move the data of the primary, which is stopped, to a disk that can be filled; its WAL stays on the large one."""
    data = pair.primary.data
    aside = data.with_name("moved")
    data.rename(aside)
    data.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=0700", "none", str(data)], check=True)
    try:
        for entry in aside.iterdir():
            if entry.name == "pg_wal":
                (data / "pg_wal").symlink_to(entry)
            else:
                shutil.move(str(entry), data / entry.name)
        subprocess.run(["chown", "-R", "--reference", str(aside), str(data)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


@asynccontextmanager
async def open_service(home: Path, data: Path, fault: str) -> AsyncIterator[tuple[Pair, OracleProcess]]:
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(open_pair(data, synchronous=True))
        if fault == "full":
            await pair.primary.stop()
            stack.enter_context(small_disk(pair))
            await pair.primary.start()
            stack.push_async_callback(pair.primary.stop)
            await pair.until_followed()
        (home / fault).mkdir()
        valkey = await servers.start_valkey(home / fault)
        stack.push_async_callback(valkey.stop)
        env = {
            "ORACLE_DATABASE_URL": url_of([pair.primary, pair.standby]),
            "ORACLE_DATABASE_OWNER_URL": url_of([pair.primary, pair.standby]),
            "ORACLE_REDIS_URL": valkey.url(),
            "ORACLE_CACHE_TIMEOUT_MS": "1000",  # on a busy machine Redis can take longer than 50 ms
        }
        oracle = await asyncio.to_thread(start_oracle, home / fault, env)
        stack.push_async_callback(asyncio.to_thread, oracle.close)
        yield pair, oracle


async def measure(home: Path, data: Path, fault: str) -> bool:
    async with open_service(home, data, fault) as (pair, oracle):
        async with httpx.AsyncClient(base_url=oracle.hub_url, headers={"fspiop-source": "greenbank"}) as client:
            for number in range(CACHED):
                await client.post(f"/participants/ALIAS/cached-{number}", json={"fspId": "greenbank"})
        record = Record()
        asking = asyncio.create_task(keep_asking(oracle, record, fault))
        await asyncio.sleep(WARM_UP_S)
        began = time.monotonic()
        promoted_at = await FAULTS[fault](pair, oracle)
        record.report(fault, began, promoted_at)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        missing = await count_missing(oracle, record)
        print(f"{'':8} acknowledged registrations: {len(record.acknowledged)}, missing: {missing}", flush=True)
        return missing == 0


async def main(faults: list[str]) -> int:
    with servers.temporary_home() as home:
        (home / "data").mkdir()
        data = await make_data(home / "data")
        return sum([not await measure(home, data, fault) for fault in faults])


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:] or list(FAULTS))))
