"""A Valkey cluster of three nodes, each with a third of the slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import servers

from oracle.store.cache.topology import SLOTS, find_slot

if TYPE_CHECKING:
    from conftest import StartValkey

    from oracle.run.embedded import ValkeyServer


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while True:
            met = condition()
            if await met if isinstance(met, Awaitable) else met:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def cluster(start_valkey: StartValkey) -> AsyncIterator[list[ValkeyServer]]:
    nodes = [
        await start_valkey({"cluster-enabled": "yes", "cluster-node-timeout": "1000", "repl-diskless-sync-delay": "0"})
        for _ in range(3)
    ]
    share = SLOTS // 3 + 1
    for number, node in enumerate(nodes):
        last = min(SLOTS, (number + 1) * share) - 1
        assert servers.valkey_command(node, "CLUSTER", "ADDSLOTSRANGE", str(number * share), str(last)) == b"+OK\r\n"
        servers.valkey_command(node, "CLUSTER", "MEET", "127.0.0.1", str(nodes[0].options["port"]))
    await until(lambda: all(b"cluster_state:ok" in servers.valkey_command(n, "CLUSTER", "INFO") for n in nodes))
    await until(lambda: all(servers.valkey_command(n, "CLUSTER", "SLOTS").startswith(b"*3") for n in nodes))
    for node in nodes:  # a second without a word, which made them agree soon, is no failure on a busy machine
        assert servers.valkey_command(node, "CONFIG", "SET", "cluster-node-timeout", "60000") == b"+OK\r\n"
    yield nodes


def cluster_url(nodes: list[ValkeyServer]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.options['port']}" for node in nodes)


def find_owner(nodes: Sequence[ValkeyServer], key: str) -> int:
    """Find the node that serves the key; return its number."""
    return next(i for i, n in enumerate(nodes) if b"MOVED" not in servers.valkey_command(n, "EXISTS", key))


def move_slot(nodes: Sequence[ValkeyServer], key: str, heir: int) -> None:
    """Tell all nodes that this one serves the slot of the key, which must be empty: the heir learns it first."""
    slot = str(find_slot(key.encode()))
    name = read_name(nodes[heir])
    for node in (nodes[heir], *(node for i, node in enumerate(nodes) if i != heir)):
        servers.valkey_command(node, "CLUSTER", "SETSLOT", slot, "NODE", name)


def read_name(node: ValkeyServer) -> str:
    return servers.valkey_command(node, "CLUSTER", "MYID").split(b"\r\n")[1].decode()


async def add_replica(start_valkey: StartValkey, nodes: Sequence[ValkeyServer], number: int) -> ValkeyServer:
    """Add a replica of a node, and wait until it has the node's data."""
    replica = await start_valkey({"cluster-enabled": "yes", "cluster-node-timeout": "60000"})
    name = read_name(nodes[number])
    servers.valkey_command(replica, "CLUSTER", "MEET", "127.0.0.1", str(nodes[number].options["port"]))
    await until(lambda: servers.valkey_command(replica, "CLUSTER", "REPLICATE", name) == b"+OK\r\n")
    await until(lambda: b"master_link_status:up" in servers.valkey_command(replica, "INFO", "replication"))
    return replica
