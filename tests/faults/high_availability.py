"""Causes one failure of PostgreSQL or of a worker at a time, and measures what it costs: `make failover`.

Two services on real servers, under load.  Each fault is judged: no stale answer, no acknowledged change lost, at least
99 % of the cached lookups answered, and cold lookups and changes back within one connection time-out after the
promotion.  The exit code says whether all passed.  `make failover FAULTS="kill halt"` runs some.

With RIG_BROKEN=marker `cut` must fail, and with RIG_BROKEN=patience `stall` (see broken_worker.py).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg
import costs
import httpx
import main_loop
from checker import check
from costs import Cost, Spell, State, find_stale
from history import NOBODY, Call
from hub_client import COLD, Book, Connection, call, look_up
from replication import halt, kill
from replication import resume as resume_server
from rig import Load, Rig, Service, running_rig, until

from oracle.run.bootstrap import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer

PROMOTION_S: Final = 3.0
OBSERVED_S: Final = 6.0  # after the promotion
LOAD: Final = Load(looks=3, pace_s=0.02, changes=6, cold=1)
SETTINGS: Final = {"ORACLE_CACHE_TIMEOUT_MS": "1000"}  # on a busy machine Redis can take longer than 50 ms
BOUND_S: Final = 10  # of the copies, in the scenario that waits for its end
LEASE_S: Final = 1.0
TRIES: Final = 50
REPLACED_MAX_S: Final = 15.0  # ten seconds of silence, and the start of a worker
TIMEOUT_S: Final = 30.0


# The stage ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def loaded_rig(env: Mapping[str, str] | None = None, **options: Any) -> AsyncIterator[Rig]:
    """Two services under load; what is registered once is in the cache."""
    async with running_rig(1, latency_ms=0, load=LOAD, env={**SETTINGS, **(env or {})}, **options) as rig:
        rig.begin()
        await until(lambda: _are_copied(rig, rig.book.still), pause_s=0.1)
        await asyncio.sleep(LEASE_S)
        yield rig


async def _are_copied(rig: Rig, keys: Sequence[str], owner: str | None = None) -> bool:
    """Return whether there is a copy of each key, with this owner (or any; `NOBODY` is none)."""
    owners = [copy.owner for copy in await rig.copies(keys)]
    return len(owners) == len(keys) and all(each != NOBODY if owner is None else each == owner for each in owners)


async def judge(
    rig: Rig, spells: Sequence[Spell], stale: Sequence[Call] = (), private: Sequence[str] = (), lost: int = 0
) -> list[Cost]:
    """Measure each spell; what the checker finds counts for the first one.  `private`: keys that it must not judge."""
    await rig.wait_recovered()
    history = await rig.finish()
    history.events = [event for event in history.events if event.key not in private]
    violations = check(history)
    for violation in violations[:5]:
        print(violation)
    old = len(stale) + sum(violation.promise in ("A", "B", "C", "phantom", "agreement") for violation in violations)
    lost += sum(violation.promise in ("lost", "events") for violation in violations)
    odd = [violation.text for violation in violations if violation.promise == "odd"]
    calls, still = history.calls, rig.book.still
    return [
        costs.measure(spell, calls, still, *((0, 0, ()) if number else (old, lost, odd)))
        for number, spell in enumerate(spells)
    ]


def all_of(rig: Rig) -> list[str]:
    return [service.name for service in rig.services]


# A standby takes over -----------------------------------------------------------------------------------------------


async def promote_later(rig: Rig, end: Callable[[PostgresServer], None]) -> tuple[float, float]:
    """End the primary, promote the standby a little later; return both times."""
    assert rig.pair is not None
    async with rig.fault("postgres-failover", end.__name__):
        began = time.monotonic()
        end(rig.pair.primary)
        await asyncio.sleep(PROMOTION_S)
        await rig.pair.promote()
        rig.postgres = rig.pair.standby
    return began, time.monotonic()


async def fail_over(name: str, end: Callable[[PostgresServer], None]) -> list[Cost]:
    async with loaded_rig(standby="synchronous") as rig:
        began, promoted_at = await promote_later(rig, end)
        await asyncio.sleep(OBSERVED_S)
        return await judge(rig, [Spell(name, all_of(rig), began, promoted_at, time.monotonic())])


async def kill_primary() -> list[Cost]:
    return await fail_over("kill", kill)


async def halt_primary() -> list[Cost]:
    return await fail_over("halt", halt)


async def let_old_primary_return() -> list[Cost]:
    """The replication is asynchronous, so the old primary takes changes; but at the halt the standby has them all."""
    async with loaded_rig(standby="asynchronous") as rig:
        assert rig.pair is not None
        async with rig.no_changes():
            await rig.pair.until_received()
            began, promoted_at = await promote_later(rig, halt)
        await asyncio.sleep(OBSERVED_S)
        returned_at = time.monotonic()
        resume_server(rig.pair.primary)
        await asyncio.sleep(2)
        worker = rig.services[0].hub_workers()[0]
        worker.kill()
        await until(lambda: worker not in rig.services[0].hub_workers() and len(rig.services[0].hub_workers()) == 2)
        await asyncio.sleep(OBSERVED_S)
        now = time.monotonic()
        spells = [
            Spell("return", all_of(rig), began, promoted_at, returned_at),
            Spell("  the old primary is back", all_of(rig), returned_at, returned_at, now, now, True, True),
        ]
        return await judge(rig, spells)


async def lose_commits() -> list[Cost]:
    """An asynchronous standby takes over; it has not received what others have copies of."""
    async with loaded_rig(standby="asynchronous") as rig:
        assert rig.pair is not None
        book, service = Book(2, 0, 0, 0), rig.services[0]
        moved, new = [f"moved-{n}" for n in range(8)], [f"new-{n}" for n in range(8)]
        for key in moved:
            assert await change(book, service, "register", key, "greenbank")
        async with rig.no_changes():
            await rig.pair.until_received()
            await rig.pair.lag()
            for key in moved:
                assert await change(book, service, "remove", key, "greenbank")
                assert await change(book, service, "register", key, "redbank")
            for key in new:
                assert await change(book, service, "register", key, "redbank")
            readers = read(rig, book, [*moved, *new])
            await until(lambda: _are_copied(rig, [*moved, *new], "redbank"), pause_s=0.1)
            began, promoted_at = await promote_later(rig, kill)
        await asyncio.sleep(OBSERVED_S)
        await end_reading(book, readers)
        spell = Spell("lossy", all_of(rig), began, promoted_at, time.monotonic())
        back = (c.end for c in rig.book.calls if c.kind in ("register", "remove") and c.outcome == "ok")
        known_from = min((end for end in back if end > promoted_at), default=promoted_at)
        stale: list[Call] = []
        for key in (*moved, *new):
            owner = "greenbank" if key in moved else NOBODY
            looks = [c for c in book.calls if c.kind == "look" and c.key == key]
            stale += find_stale(looks, [State("redbank", 0, 0), State(owner, promoted_at, known_from)])
        return await judge(rig, [spell], stale, [*moved, *new])


# PostgreSQL is there, in part ---------------------------------------------------------------------------------------


async def lose_standby() -> list[Cost]:
    """The synchronous standby hangs: commits wait, nothing else does."""
    async with loaded_rig(standby="synchronous") as rig:
        assert rig.pair is not None
        async with rig.fault("postgres-standby", "lost"):
            began = time.monotonic()
            halt(rig.pair.standby)
            await asyncio.sleep(15)
            resume_server(rig.pair.standby)
            over = time.monotonic()
        await asyncio.sleep(OBSERVED_S)
        now = time.monotonic()
        return await judge(rig, [Spell("standby", all_of(rig), began, over, now, cold_goes_on=True)])


async def fill_disk() -> list[Cost]:
    """The disk of the data is full, that of the WAL is not (needs root: the data is on a small tmpfs)."""
    async with running_rig(1, latency_ms=0, load=LOAD, env=SETTINGS) as rig:
        await rig.postgres.stop()
        with small_disk(rig.postgres):
            await rig.postgres.start()
            await rig.wait_recovered()
            rig.begin()
            await until(lambda: _are_copied(rig, rig.book.still), pause_s=0.1)
            filler = rig.postgres.data / "filler"
            async with rig.fault("postgres-full", "disk"):
                began = time.monotonic()
                with filler.open("wb") as file, suppress(OSError):
                    while True:
                        file.write(bytes(1 << 16))
                        file.flush()
                await asyncio.sleep(10)
                filler.unlink()
                over = time.monotonic()
            await asyncio.sleep(OBSERVED_S)
            now = time.monotonic()
            return await judge(rig, [Spell("full", all_of(rig), began, over, now, cold_goes_on=True)])


@contextmanager
def small_disk(server: PostgresServer) -> Iterator[None]:
    """Move the data of a server, which is stopped, to a disk that can be filled; its WAL stays on the large one."""
    data = server.data
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


async def stay_away() -> list[Cost]:
    """Nobody takes over.  Copies are believed until their bound, and not longer."""
    async with loaded_rig({"ORACLE_CACHE_DEGRADED_MAX_S": str(BOUND_S)}) as rig:
        async with rig.fault("postgres-killed", "primary"):
            began = time.monotonic()
            await end_postgres(rig)
            await asyncio.sleep(BOUND_S + 5)
            over_bound = time.monotonic() - 5 + LEASE_S
            before_start = time.monotonic()
            await rig.postgres.start()
            over = time.monotonic()
        await asyncio.sleep(OBSERVED_S)
        spell = Spell("away", all_of(rig), began, over, time.monotonic(), copies_until=began + BOUND_S - LEASE_S)
        late = [
            c
            for c in rig.book.calls
            if c.kind == "look" and c.outcome == "ok" and over_bound < c.start and c.end < before_start
        ]
        return await judge(rig, [spell], late)


async def end_postgres(rig: Rig) -> None:
    kill(rig.postgres)
    assert rig.postgres.process is not None
    await asyncio.to_thread(rig.postgres.process.wait)


# One of two services is cut off -------------------------------------------------------------------------------------


class Operator:
    """Changes statuses and routes through one service, one after the other, and notes what was acknowledged when."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.states: dict[str, list[State]] = {}

    async def post(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        """Repeat it while the answer is 503, or there is none."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with suppress(httpx.TransportError):
                    answer = await self._client.post(path, json=body)
                    if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                        return answer.raise_for_status()
                await asyncio.sleep(0.05)

    async def try_once(self, path: str, body: Mapping[str, object]) -> bool:
        """Return whether it was acknowledged."""
        try:
            return (await self._client.post(path, json=body)).is_success
        except httpx.TransportError:
            return False

    async def move(self, party: str, owner: str, path: str, body: Mapping[str, object]) -> httpx.Response:
        """Make this FSP (or nobody) the one that answers for a party."""
        begun = time.monotonic()
        answer = await self.post(path, body)
        self.states.setdefault(party, []).append(State(owner, begun, time.monotonic()))
        return answer

    async def set_status(self, party: str, fsp_id: str, status: str) -> None:
        owner = fsp_id if status == "active" else NOBODY
        await self.move(party, owner, f"/fsps/{fsp_id}/status", {"status": status, "reason": "a test"})


@asynccontextmanager
async def operating(rig: Rig) -> AsyncIterator[Operator]:
    process = rig.services[0].process
    assert process is not None
    headers = {"Authorization": f"Bearer {await bootstrap(rig.database_url)}"}
    url = f"{process.admin_url}/admin/v1"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S) as client:
        yield Operator(client)


async def cut_off(name: str, *, cut: bool = False, **rules: Any) -> list[Cost]:
    """One service has a bad way to PostgreSQL, while status, routes and aliases change through the other."""
    async with loaded_rig() as rig, operating(rig) as operator:
        near, far = rig.services
        rig.begin_changes(near, 3)  # the other clients wait for the service that is cut off
        book = Book(2, 0, 0, 0)
        await operator.post("/fsps", {"fspId": "paused"})
        await operator.post("/fsps", {"fspId": "routed"})
        assert await change(book, near, "register", "paused-1", "paused")
        operator.states = {"paused-1": [State("paused", 0, 0)], "routed-1": [State(NOBODY, 0, 0)]}
        readers = read(rig, book, list(operator.states))
        await until(lambda: _are_copied(rig, ["paused-1"], "paused"), pause_s=0.1)

        async with rig.fault(f"postgres-{name}", far.name):
            began = time.monotonic()
            await rig.network.set(far.postgres_gates, **rules)
            if cut:
                await rig.network.cut(far.postgres_gates)
            await asyncio.sleep(4)  # aliases change all the time, and the generation does not move
            moving_from = time.monotonic()
            async with rig.by_hand(0.5):
                for _ in range(2):
                    await operator.set_status("paused-1", "paused", "suspended")
                    body = {"kind": "ALIAS", "prefix": "routed-", "fspId": "routed", "reason": "a test"}
                    route = (await operator.move("routed-1", "routed", "/routes", body)).json()["route"]
                    await asyncio.sleep(0.5)
                    await operator.set_status("paused-1", "paused", "active")
                    await operator.move("routed-1", NOBODY, f"/routes/{route['routeId']}/end", {"reason": "a test"})
                    await asyncio.sleep(0.5)
            await rig.network.heal(far.postgres_gates)
            over = time.monotonic()
        await asyncio.sleep(OBSERVED_S)
        await end_reading(book, readers)
        stale: list[Call] = []
        for party, states in operator.states.items():
            looks = [c for c in book.calls if c.kind == "look" and c.key == party]
            stale += find_stale(looks, states)
        until_s = time.monotonic()
        moved_at = min(
            (move.at for move in await rig.read_moves() if began < move.at < moving_from), default=moving_from
        )
        spells = [
            Spell(name, [far.name], began, over, until_s, copies_until=moved_at),
            Spell("  at the other service", [near.name], began, over, until_s, cold_goes_on=True, changes_go_on=True),
        ]
        return await judge(rig, spells, stale, list(operator.states))


async def cut_one() -> list[Cost]:
    return await cut_off("cut", cut=True, refuse=True)


async def hold_one() -> list[Cost]:
    return await cut_off("held", hold="both")


async def delay_one() -> list[Cost]:
    return await cut_off("delayed", delay_ms=[200, 600])


# A worker hangs -----------------------------------------------------------------------------------------------------


async def stop_worker() -> list[Cost]:
    """A connection to it waits; new ones go to the others."""
    async with loaded_rig() as rig, asyncio.TaskGroup() as callers:
        service = rig.services[0]
        callers.create_task(look_on_new_connections(rig.book, service))
        victim = service.hub_workers()[0]
        async with rig.fault("worker-hang", service.name):
            began = time.monotonic()
            victim.suspend()
            await until(lambda: victim not in service.hub_workers() and len(service.hub_workers()) == service.workers)
            over = time.monotonic()
        await asyncio.sleep(OBSERVED_S)
        now = time.monotonic()
        found = await judge(rig, [Spell("worker", all_of(rig), began, over, now, now, True, True)])
        print(f"the worker was replaced after {over - began:.1f} s")
        if over - began > REPLACED_MAX_S:
            found[0] = found[0]._replace(problems=[*found[0].problems, f"not replaced within {REPLACED_MAX_S} s"])
        return found


# The same moment, again and again -----------------------------------------------------------------------------------


class Trial(NamedTuple):
    counts: bool  # the case in question came about
    stale: int
    back_s: float  # from the start of PostgreSQL to the first answer


async def change(book: Book, service: Service, kind: Any, key: str, owner: str) -> bool:
    """Make one change, on a connection of its own; repeat it until it is acknowledged or refused."""
    connection = Connection(lambda: service.port)
    async with asyncio.timeout(TIMEOUT_S):
        try:
            while True:
                done = await call(book, connection, kind, key, owner, service.name)
                if done.outcome != "unknown":
                    return done.outcome == "ok"
                await asyncio.sleep(0.05)
        finally:
            connection.close()


async def look(book: Book, service: Service, key: str) -> Call:
    """On a connection of its own, so at any worker."""
    connection = Connection(lambda: service.port)
    try:
        return await call(book, connection, "look", key, where=service.name)
    finally:
        connection.close()


def read(rig: Rig, book: Book, keys: Sequence[str]) -> list[asyncio.Task[None]]:
    """Begin to read these keys at every service, until `end_reading`."""
    return [
        asyncio.create_task(look_up(book, service.name, lambda s=service: s.port, 0.02, keys))  # type: ignore[misc]
        for service in rig.services
        for _ in range(2)
    ]


async def end_reading(book: Book, readers: Sequence[asyncio.Task[None]]) -> None:
    book.stopped = True
    await asyncio.gather(*readers)


async def until_seen(book: Book, services: Sequence[Service], key: str, owner: str) -> None:
    async def is_seen() -> bool:
        return all([(await look(book, service, key)).owner == owner for service in services])

    async with asyncio.timeout(TIMEOUT_S):
        await until(is_seen, pause_s=0.05)


async def until_copied(book: Book, rig: Rig, key: str, owner: str) -> None:
    """Ask until the answer is a copy, not a fence."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            await until_seen(book, rig.services, key, owner)
            if await _are_copied(rig, [key], owner):
                return
            await asyncio.sleep(0.05)


async def count_answers(book: Book, rig: Rig, key: str, owner: str, seconds: float) -> int:
    """Ask every service for so long; count the answers that name this owner."""
    ends_at, found = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        looks = await asyncio.gather(*(look(book, service, key) for service in rig.services for _ in range(3)))
        found += sum(each.outcome == "ok" and each.owner == owner for each in looks)
        await asyncio.sleep(0.02)
    return found


async def look_on_new_connections(book: Book, service: Service) -> None:
    for number in count():
        if book.stopped:
            return
        await look(book, service, book.still[number % 2])
        await look(book, service, f"{COLD}new-{number}")
        await asyncio.sleep(0.05)


async def suspend_and_kill(tries: int) -> list[Cost]:
    """PostgreSQL dies in the moment of a suspension.  If that is acknowledged, all other processes answer it."""
    rng, book, trials = random.Random(1), Book(2, 0, 0, 0), []
    usual_s = 1.05
    async with running_rig(1, workers=(1, 1), latency_ms=0, env=SETTINGS) as rig, operating(rig) as operator:
        await operator.post("/fsps", {"fspId": "paused"})
        assert await change(book, rig.services[0], "register", "paused-1", "paused")
        for number in range(tries):
            await until_copied(book, rig, "paused-1", "paused")
            body = {"status": "suspended", "reason": "a test"}
            asked_at = time.monotonic()
            suspending = asyncio.create_task(operator.try_once("/fsps/paused/status", body))
            early = rng.uniform(0, usual_s) if number % 3 == 0 else usual_s + rng.uniform(-0.06, 0.01)
            await asyncio.wait({suspending}, timeout=early)
            kill(rig.postgres)
            acknowledged = await suspending
            if acknowledged:
                usual_s = (usual_s + min(time.monotonic() - asked_at, 2.0)) / 2
            stale = await count_answers(book, rig, "paused-1", "paused", 0.5) if acknowledged else 0
            await end_postgres(rig)
            trials.append(Trial(acknowledged, stale, await start_and_wait(book, rig)))
            await operator.post("/fsps/paused/status", {**body, "status": "active"})
        return [summarise("suspension", trials, at_least=tries // 10)]


async def stall_and_kill(tries: int) -> list[Cost]:
    """A worker stalls for longer than a lease; meanwhile a change by hand, and the death of PostgreSQL.  It wakes up.

    No other process is there that could say in Redis that the generation has moved.
    """
    rng, book, trials = random.Random(1), Book(2, 0, 0, 0), []
    async with running_rig(1, workers=(1,), latency_ms=0, env=SETTINGS, hub_only=True) as rig:
        (service,) = rig.services
        owners = ["greenbank", "redbank"]
        for owner in owners:
            assert await change(book, service, "register", f"of-{owner}", owner)
        assert await change(book, service, "register", "stalled", owners[0])
        for _ in range(tries):
            old, new = owners
            await until_copied(book, rig, "stalled", old)
            (worker,) = service.hub_workers()
            worker.suspend()
            try:
                await set_owner_by_hand(rig, "stalled", new)
                committed_at = time.monotonic()
                pause_s = rng.uniform(1.55, 2.5)
                await asyncio.sleep(rng.uniform(0, pause_s))
                await end_postgres(rig)
                await asyncio.sleep(max(committed_at + pause_s - time.monotonic(), 0))
            finally:
                worker.resume()
            stale = await count_answers(book, rig, "stalled", old, 0.5)
            trials.append(Trial(True, stale, await start_and_wait(book, rig)))
            owners.reverse()
        return [summarise("stall", trials, at_least=tries)]


async def set_owner_by_hand(rig: Rig, key: str, owner: str) -> None:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(rig.database_url)
    try:
        done = await connection.execute("UPDATE aliases SET fsp_id = $2 WHERE identifier = $1", key, owner)
        assert done == "UPDATE 1"
    finally:
        await connection.close()


async def start_and_wait(book: Book, rig: Rig) -> float:
    """Start PostgreSQL; return how long after that all services answered a lookup that needs it."""
    await rig.postgres.start()
    began = time.monotonic()
    await until_seen(book, rig.services, f"anew-{began}", NOBODY)
    return time.monotonic() - began


def summarise(name: str, trials: Sequence[Trial], *, at_least: int) -> Cost:
    counted, slowest_s = sum(trial.counts for trial in trials), max(trial.back_s for trial in trials)
    stale = sum(trial.stale for trial in trials)
    print(f"{name}: {len(trials)} tries, {counted} of them count, {stale} stale answers")
    problems = [f"only {counted} tries count"] * (counted < at_least)
    problems += [f"{stale} stale"] * (stale > 0)
    problems += [f"cold back after more than {costs.BACK_MAX_S} s"] * (slowest_s > costs.BACK_MAX_S)
    spell = Spell(f"{name}, {counted} of {len(trials)}", [], 0, 0, 0)
    return Cost(spell, None, {}, {"cold": slowest_s}, stale, 0, problems)


def list_faults(tries: int) -> dict[str, Callable[[], Coroutine[None, None, list[Cost]]]]:
    return {
        "kill": kill_primary,
        "halt": halt_primary,
        "return": let_old_primary_return,
        "lossy": lose_commits,
        "standby": lose_standby,
        "full": fill_disk,
        "away": stay_away,
        "cut": cut_one,
        "held": hold_one,
        "delayed": delay_one,
        "worker": stop_worker,
        "suspension": partial(suspend_and_kill, tries),
        "stall": partial(stall_and_kill, tries),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("faults", nargs="*", metavar="fault", help=f"{', '.join(list_faults(0))}; all if none is named")
    parser.add_argument("--tries", type=int, default=TRIES, help="of suspension and stall")
    options = parser.parse_args()
    faults = list_faults(options.tries)
    found: list[Cost] = []
    if unknown := set(options.faults) - faults.keys():
        parser.error(f"no such fault: {', '.join(unknown)}")
    for name in options.faults or faults:
        began = time.monotonic()
        try:
            some = main_loop.run(faults[name]())
        except Exception as exc:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            some = [Cost(Spell(name, [], 0, 0, 0), None, {}, {}, 0, 0, [f"not measured: {exc!r}"])]
        found += some
        print(
            costs.head(), *map(costs.row, some), f"({name}: {time.monotonic() - began:.0f} s)\n", sep="\n", flush=True
        )
    print(costs.head(), *map(costs.row, found), sep="\n")
    return int(any(cost.problems for cost in found))


if __name__ == "__main__":
    sys.exit(main())
