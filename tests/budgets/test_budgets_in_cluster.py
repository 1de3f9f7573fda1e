"""Budgets over a Redis Cluster: exact over several services, also while a node fails over or a slot moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import servers
from budget_workers import A_TOKEN, CLASSES, NOBODY, SIZE, WORKERS, Worker, correct, dial, open_workers, scan, settle
from valkey_cluster import add_replica, cluster, cluster_url, find_owner, move_slot, read_name, until

from oracle.budgets.correction import make_key, read_tokens
from oracle.store.cache.session import Unreachable
from oracle.store.cache.topology import find_slot

if TYPE_CHECKING:
    from conftest import StartValkey

    from oracle.run.embedded import ValkeyServer

KEY = make_key("t").decode()
SPENT = 100  # questions


async def dial_again(workers: list[Worker], url: str) -> None:
    """Give each worker a session in place of one that ended, as `Coherence` does."""

    async def opened(worker: Worker) -> bool:
        try:
            worker.session = await dial(url)
        except Unreachable:
            return False
        if await worker.correction.correct():
            return True
        worker.session.close()
        return False

    for worker in workers:
        if worker.session is None or not worker.session.alive:
            await until(lambda worker=worker: opened(worker))  # type: ignore[misc]


@asynccontextmanager
async def spend(url: str) -> AsyncIterator[list[Worker]]:
    """Open workers of two services, of which one has spent a part of the bucket."""
    async with open_workers(url, WORKERS) as workers:
        await settle(workers)
        assert workers[0].ask(SPENT) == SPENT
        await settle(workers)
        yield workers


async def scan_rest(workers: list[Worker]) -> None:
    """Scan what is left, and check that the bucket pays for no more than it had."""
    over = (SPENT + await scan(workers)) * NOBODY - SIZE
    assert -NOBODY * WORKERS <= over <= NOBODY * WORKERS + A_TOKEN
    assert sum(worker.ask() for worker in workers) == 0


async def test_a_scan_over_two_services_gets_no_more_from_a_cluster(start_valkey: StartValkey) -> None:
    async with cluster(start_valkey) as nodes, spend(cluster_url(nodes)) as workers:
        await scan_rest(workers)
        assert all(worker.session is not None and worker.session.alive for worker in workers)


async def test_a_node_that_fails_over_forgets_no_budget(start_valkey: StartValkey) -> None:
    async with cluster(start_valkey) as nodes:
        owner = find_owner(nodes, KEY)
        replica = await add_replica(start_valkey, nodes, owner)
        async with spend(cluster_url([*nodes, replica])) as workers:
            await until(lambda: count_offsets(nodes[owner]) == count_offsets(replica))
            nodes[owner].kill()
            assert not any(await asyncio.gather(*(worker.correction.correct() for worker in workers)))
            assert all(worker.ask() for worker in workers)  # each goes on with its share
            servers.valkey_command(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
            await dial_again(workers, cluster_url([replica]))
            await settle(workers)
            state = await read_tokens(workers[0].session, "t", CLASSES)  # type: ignore[arg-type]
            assert abs(SIZE - (SPENT + WORKERS) * NOBODY - state.tokens["bank"]) <= A_TOKEN


def count_offsets(node: ValkeyServer) -> int:
    info = servers.valkey_command(node, "INFO", "replication").decode()
    return int(next(line for line in info.splitlines() if line.startswith("master_repl_offset")).partition(":")[2])


async def test_while_any_node_is_away_each_worker_goes_on_with_its_share(start_valkey: StartValkey) -> None:
    async with cluster(start_valkey) as nodes, spend(cluster_url(nodes)) as workers:
        nodes[(find_owner(nodes, KEY) + 1) % 3].kill()  # the node with the budgets stays
        sessions = [worker.session for worker in workers if worker.session is not None]
        await until(lambda: not any(session.alive for session in sessions))
        assert not any(await asyncio.gather(*(worker.correction.correct() for worker in workers)))
        answered = sum(worker.ask(SIZE) for worker in workers)
        assert 0 < (SPENT + answered) * NOBODY <= SIZE + WORKERS * NOBODY + A_TOKEN


async def test_a_slot_that_moves_takes_its_budgets_along(start_valkey: StartValkey) -> None:
    async with cluster(start_valkey) as nodes, spend(cluster_url(nodes)) as workers:
        owner = find_owner(nodes, KEY)
        heir = (owner + 1) % 3
        slot = str(find_slot(KEY.encode()))
        servers.valkey_command(nodes[heir], "CLUSTER", "SETSLOT", slot, "IMPORTING", read_name(nodes[owner]))
        servers.valkey_command(nodes[owner], "CLUSTER", "SETSLOT", slot, "MIGRATING", read_name(nodes[heir]))
        await correct(workers)  # the key has not moved yet
        port = str(nodes[heir].options["port"])
        moved = servers.valkey_command(nodes[owner], "MIGRATE", "127.0.0.1", port, KEY, "0", "5000")
        assert moved == b"+OK\r\n"
        # The node answers ASK now.
        assert not any(await asyncio.gather(*(worker.correction.correct() for worker in workers)))
        assert all(worker.ask() for worker in workers)
        assert all(worker.session is not None and worker.session.alive for worker in workers)
        move_slot(nodes, KEY, heir)
        await asyncio.gather(*(worker.correction.correct() for worker in workers))
        await dial_again(workers, cluster_url(nodes))
        await settle(workers)
        state = await read_tokens(workers[0].session, "t", CLASSES)  # type: ignore[arg-type]
        assert abs(SIZE - (SPENT + WORKERS) * NOBODY - state.tokens["bank"]) <= A_TOKEN
