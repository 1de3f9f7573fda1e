"""The faults of a run: each begins, lasts, and has ended when its function returns.

`SINGLE` are the faults of one server, one process or one network at a time, for which promises A and C hold.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from math import inf
from typing import Final

import psutil
import replication
import servers
from rig import Rig, Service, resume, until

from oracle.run.embedded import ValkeyServer

Fault = Callable[[Rig, random.Random], Awaitable[None]]
PAGE: Final = "x" * 1024
REPLACED: Final = "All workers are replaced"
GIVEN_UP: Final = "The new worker did not start; keeping the old one"


async def _send_command(server: ValkeyServer, *words: str) -> None:
    await asyncio.to_thread(servers.valkey_command, server, *words)


def _choose_services(rig: Rig, rng: random.Random) -> list[Service]:
    """One of the services, or all."""
    return list(rig.services) if rng.random() < 0.3 else [rng.choice(rig.services)]


def _join_names(services: Sequence[Service]) -> str:
    return "+".join(service.name for service in services)


def _postgres_gates(services: Sequence[Service]) -> list[str]:
    return [gate for service in services for gate in service.postgres_gates]


# Processes of ours --------------------------------------------------------------------------------------------


async def worker_kill(rig: Rig, rng: random.Random) -> None:
    service = rng.choice(rig.services)
    async with rig.fault("worker-kill", service.name):
        victim = rng.choice(service.hub_workers())
        victim.kill()
        await until(lambda: len(service.hub_workers()) >= service.workers)


async def worker_stop(rig: Rig, rng: random.Random) -> None:
    """It stops in the middle of its work, and goes on; somebody works in psql, too."""
    service = rng.choice(rig.services)
    async with rig.by_hand(0.2), rig.fault("worker-stop", service.name):
        victim = rng.choice(service.hub_workers())
        victim.suspend()
        try:
            await asyncio.sleep(rng.uniform(0.5, 4) * rig.brevity)
        finally:
            with suppress(psutil.NoSuchProcess):
                victim.resume()


async def service_kill(rig: Rig, rng: random.Random) -> None:
    service = rng.choice(rig.services)
    async with rig.fault("service-kill", service.name):
        await service.kill()
        await asyncio.sleep(rng.uniform(0, 0.5))
        await service.start()


async def rolling_restart(rig: Rig, rng: random.Random) -> None:
    service = rng.choice(rig.services)
    process = service.process
    assert process is not None
    done = len(process.find_log_lines(REPLACED)) + len(process.find_log_lines(GIVEN_UP))
    async with rig.fault("rolling-restart", service.name), asyncio.timeout(180):
        process.signal(signal.SIGHUP)
        # Without a database the new worker does not begin, and the old ones stay.
        await until(
            lambda: done < len(process.find_log_lines(REPLACED)) + len(process.find_log_lines(GIVEN_UP)), pause_s=0.1
        )


# Redis --------------------------------------------------------------------------------------------------------


async def valkey_stop(rig: Rig, rng: random.Random) -> None:
    server = rig.valkey
    assert server.process is not None
    async with rig.fault("valkey-stop", "valkey"):
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(rng.choice((rng.uniform(0.02, 0.2), rng.uniform(0.5, 3) * rig.brevity)))
        finally:
            os.kill(server.process.pid, signal.SIGCONT)


async def valkey_restart_empty(rig: Rig, rng: random.Random) -> None:
    server = rig.valkey
    async with rig.fault("valkey-restart-empty", "valkey"):
        server.kill()
        await asyncio.sleep(rng.choice((0, rng.uniform(0, 1))))
        await server.start()


async def valkey_restart_old(rig: Rig, rng: random.Random) -> None:
    """It comes back with what it held some seconds ago."""
    server = rig.valkey
    dump, kept = server.home / "dump.rdb", server.home / "kept.rdb"
    await _send_command(server, "SAVE")
    shutil.move(dump, kept)
    await asyncio.sleep(rng.uniform(2, 5))
    async with AsyncExitStack() as stack:
        if rng.random() < 0.7:
            await stack.enter_async_context(rig.no_changes())
        async with rig.fault("valkey-restart-old", "valkey"):
            server.kill()
            shutil.move(kept, dump)
            await asyncio.sleep(rng.choice((0, rng.uniform(0, 1))))
            try:
                await server.start()
            finally:
                dump.unlink()
        with suppress(AssertionError):  # where faults overlap it sometimes waits for others
            await rig.wait_recovered()
        await asyncio.sleep(0.3)


async def flushall(rig: Rig, rng: random.Random) -> None:
    """Again and again, so that some of them fall between a change's fence and its commit."""
    async with rig.fault("flushall", "valkey"), rig.much_about_few():
        for _ in range(25):
            await _send_command(rig.valkey, "FLUSHALL")
            await asyncio.sleep(rng.uniform(0.005, 0.3))  # what was cached wrongly has some time to be seen


async def eviction(rig: Rig, rng: random.Random) -> None:
    """Hardly any memory: copies and fences are thrown out at random, or nothing new is taken."""
    server = rig.valkey
    policy = rng.choice(("allkeys-random", "allkeys-random", "noeviction"))
    async with rig.fault("eviction", policy), rig.much_about_few():
        used = await asyncio.to_thread(servers.valkey_command, server, "INFO", "memory")
        base = int(used.partition(b"used_memory:")[2].partition(b"\r\n")[0])
        await _send_command(server, "CONFIG", "SET", "maxmemory-policy", policy)
        await _send_command(server, "CONFIG", "SET", "maxmemory", str(base + 16_384))
        try:
            for number in range(int(100 * rig.brevity)):
                for part in range(8):
                    await _send_command(server, "SET", f"filler:{number % 3}:{part}", PAGE)
                await asyncio.sleep(rng.uniform(0.01, 0.04))
        finally:
            await _send_command(server, "CONFIG", "SET", "maxmemory", "256mb")
            await _send_command(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")


async def redis_slow(rig: Rig, rng: random.Random) -> None:
    services = _choose_services(rig, rng)
    low = rng.choice((10, 30, 60))
    async with rig.fault("redis-slow", _join_names(services)):
        await _for_a_while(rig, rng, [s.redis_gate for s in services], delay_ms=[low, low + 140])


async def redis_away(rig: Rig, rng: random.Random) -> None:
    services = _choose_services(rig, rng)
    async with rig.fault("redis-away", _join_names(services)):
        gates = [service.redis_gate for service in services]
        await rig.network.set(gates, refuse=True)
        await rig.network.cut(gates)
        await _for_a_while(rig, rng, gates)


async def redis_half_open(rig: Rig, rng: random.Random) -> None:
    """Delayed messages arrive when nobody expects them any more, or never."""
    services = _choose_services(rig, rng)
    async with rig.fault("redis-half-open", _join_names(services)):
        gates = [service.redis_gate for service in services]
        await _for_a_while(rig, rng, gates, hold=rng.choice(("up", "down", "both")), cut_after=rng.random() < 0.5)


async def redis_resets(rig: Rig, rng: random.Random) -> None:
    services = _choose_services(rig, rng)
    async with rig.fault("redis-resets", _join_names(services)):
        for _ in range(rng.randint(3, 8)):
            await rig.network.cut([service.redis_gate for service in services], share=0.7)
            await asyncio.sleep(rng.uniform(0.05, 0.6))


async def _for_a_while(
    rig: Rig, rng: random.Random, gates: Sequence[str], *, cut_after: bool = False, **rules: object
) -> None:
    await rig.network.set(gates, **rules)
    try:
        await asyncio.sleep(rng.uniform(0.5, 3.5) * rig.brevity)
        if cut_after:
            await rig.network.cut(gates)
    finally:
        await rig.network.heal(gates)


# PostgreSQL ---------------------------------------------------------------------------------------------------


async def postgres_restart_fast(rig: Rig, rng: random.Random) -> None:
    async with rig.fault("postgres-restart-fast", "postgres"):
        await rig.postgres.stop()
        await asyncio.sleep(rng.uniform(0, 1))
        await rig.postgres.start()


async def postgres_restart_immediate(rig: Rig, rng: random.Random) -> None:
    """As after a crash: no transaction is ended, the log is replayed."""
    process = rig.postgres.process
    assert process is not None
    async with rig.fault("postgres-restart-immediate", "postgres"):
        process.send_signal(signal.SIGQUIT)
        await until(lambda: process.poll() is not None)
        await asyncio.sleep(rng.uniform(0, 1))
        await rig.postgres.start()


async def postgres_stop(rig: Rig, rng: random.Random) -> None:
    """The whole server is stopped; a COMMIT can wait in its sockets for a long time."""
    process = rig.postgres.process
    assert process is not None
    async with rig.fault("postgres-stop", "postgres"):
        server = psutil.Process(process.pid)
        try:
            for each in (server, *server.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    each.suspend()
            await asyncio.sleep(rng.choice((rng.uniform(0.1, 1), rng.uniform(2, 4) * rig.brevity)))
        finally:
            resume(server)


@asynccontextmanager
async def _others_move(rig: Rig, services: Sequence[Service]) -> AsyncIterator[None]:
    """While only some of the services are cut off, somebody moves the generation: the others hear of it."""
    if len(services) == len(rig.services):
        yield
        return
    async with rig.by_hand(0.2):
        yield


async def postgres_slow(rig: Rig, rng: random.Random) -> None:
    services = _choose_services(rig, rng)
    async with _others_move(rig, services), rig.fault("postgres-slow", _join_names(services)):
        await _for_a_while(rig, rng, _postgres_gates(services), delay_ms=[20, rng.choice((60, 300))])


async def postgres_away(rig: Rig, rng: random.Random) -> None:
    services = _choose_services(rig, rng)
    async with _others_move(rig, services), rig.fault("postgres-away", _join_names(services)):
        gates = _postgres_gates(services)
        await rig.network.set(gates, refuse=True)
        await rig.network.cut(gates)
        await _for_a_while(rig, rng, gates)


async def postgres_half_open(rig: Rig, rng: random.Random) -> None:
    services = _choose_services(rig, rng)
    async with _others_move(rig, services), rig.fault("postgres-half-open", _join_names(services)):
        gates = _postgres_gates(services)
        await _for_a_while(rig, rng, gates, hold=rng.choice(("up", "down", "both")), cut_after=rng.random() < 0.5)


async def commit_cut(rig: Rig, rng: random.Random) -> None:
    """Connections that break at a COMMIT: before it, after it, or while it is late."""
    services = _choose_services(rig, rng)
    mode = rng.choice(("before", "after", "late"))
    async with rig.fault(f"postgres-commit-{mode}", _join_names(services)):
        await _for_a_while(rig, rng, _postgres_gates(services), commit=mode)


async def promote_standby(rig: Rig, rng: random.Random) -> None:
    """The standby takes over; the old primary is dead, or hangs, or comes back while nobody has fenced it."""
    pair = rig.pair
    assert pair is not None
    how = rng.choice(("killed", "halted", "returned"))
    async with rig.fault("postgres-failover", how):
        (replication.kill if how == "killed" else replication.halt)(pair.primary)
        await asyncio.sleep(rng.uniform(0.5, 3) * rig.brevity)
        await pair.promote()
        rig.postgres = pair.standby
        if how == "returned":
            await asyncio.sleep(rng.uniform(0, 2) * rig.brevity)
            replication.resume(pair.primary)
            await asyncio.sleep(rng.uniform(1, 3) * rig.brevity)
    await rig.wait_recovered()
    await pair.rejoin()


# Sentinel -----------------------------------------------------------------------------------------------------


async def fail_over(rig: Rig, rng: random.Random) -> None:
    """The replica takes over, without the last writes of the primary; the old primary is dead, or only stopped."""
    watched = rig.watched
    assert watched is not None
    old = watched.primary
    await watched.lag(rng.uniform(2, 3))
    process = old.process
    assert process is not None
    stopped = rng.random() < 0.5
    async with rig.fault("failover", "stopped" if stopped else "killed"):
        if stopped:
            process.send_signal(signal.SIGSTOP)
        else:
            old.kill()
        try:
            await watched.until_replaced()
        finally:
            if stopped:
                process.send_signal(signal.SIGCONT)  # it still thinks that it is the primary
            else:
                await old.start()


# No failure at all ----------------------------------------------------------------------------------------------


async def by_hand(rig: Rig, rng: random.Random) -> None:
    async with rig.fault("by-hand", "sql"), rig.by_hand(0.15):
        await asyncio.sleep(rng.uniform(2, 4) * rig.brevity)


SINGLE: Final[dict[str, Fault]] = {
    "worker-kill": worker_kill,
    "worker-stop": worker_stop,
    "service-kill": service_kill,
    "rolling-restart": rolling_restart,
    "valkey-stop": valkey_stop,
    "valkey-restart-empty": valkey_restart_empty,
    "valkey-restart-old": valkey_restart_old,
    "flushall": flushall,
    "eviction": eviction,
    "redis-slow": redis_slow,
    "redis-away": redis_away,
    "redis-half-open": redis_half_open,
    "redis-resets": redis_resets,
    "postgres-restart-fast": postgres_restart_fast,
    "postgres-restart-immediate": postgres_restart_immediate,
    "postgres-stop": postgres_stop,
    "postgres-slow": postgres_slow,
    "postgres-away": postgres_away,
    "postgres-half-open": postgres_half_open,
    "commit": commit_cut,
    "by-hand": by_hand,
}

# Faults of the same thing take turns, also where other faults overlap.
_ABOUT: Final = {
    "valkey": "valkey",
    "flushall": "valkey",
    "eviction": "valkey",
    "redis": "redis",
    "postgres": "postgres",
}


def about(name: str) -> str:
    if name in ("postgres-slow", "postgres-away", "postgres-half-open", "commit"):
        return "postgres network"
    if name in ("worker-kill", "worker-stop", "service-kill", "rolling-restart"):
        return "service"
    return _ABOUT.get(name.partition("-")[0], name)


async def one_by_one(rig: Rig, names: Sequence[str], rng: random.Random, ends_at: float = inf) -> None:
    """Cause each when all has recovered from the one before, until the time is up."""
    for name in names:
        if time.monotonic() > ends_at:
            return
        await asyncio.sleep(rng.uniform(0.5, 1) * rig.brevity)
        await SINGLE[name](rig, rng)
        await rig.wait_recovered()


async def overlapping(rig: Rig, rng: random.Random, seconds: float, lanes: int = 3) -> None:
    """Several at a time, of different things, without a pause."""
    rig.overlapping_from = time.monotonic()
    turns = {about(name): asyncio.Lock() for name in SINGLE}
    ends_at = time.monotonic() + seconds

    async def lane() -> None:
        while time.monotonic() < ends_at:
            name = rng.choice(sorted(SINGLE))
            turn = turns[about(name)]
            if turn.locked():
                await asyncio.sleep(0.05)
                continue
            async with turn:
                try:
                    await SINGLE[name](rig, rng)
                except TimeoutError:
                    continue  # of a rolling restart, whose new worker cannot begin without a database

    async with asyncio.TaskGroup() as group:
        for _ in range(lanes):
            group.create_task(lane())
