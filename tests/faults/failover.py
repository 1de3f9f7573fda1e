"""A primary, a replica that may lag, and a sentinel that watches both."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import servers
from proxy import Network

from oracle.run.embedded import ValkeyServer
from oracle.run.embedded.binaries import find_valkey_binary

NAME: Final = "directory"
LAG_GATE: Final = "replication"
FAILOVER_MAX_S: Final = 30.0


class Watched:
    """The two servers.  `primary` is the one that the sentinel named when it was last asked."""

    def __init__(self, primary: ValkeyServer, replica: ValkeyServer, sentinel_port: int, network: Network) -> None:
        self.primary, self.replica = primary, replica
        self._sentinel_port = sentinel_port
        self._network = network

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self._sentinel_port}/{NAME}/0"

    async def lag(self, seconds: float) -> None:
        """Cut the replica off from the primary for so long.

        It follows the primary through a proxy, which the sentinel would put right after some eight seconds.
        """
        port = servers.free_port()
        await self._network.open(LAG_GATE, port, int(self.primary.options["port"]))
        await _send_command(self.replica, "REPLICAOF", "127.0.0.1", str(port))
        await self._follows()
        await self._network.set([LAG_GATE], hold="down")
        await asyncio.sleep(seconds)

    async def _follows(self) -> None:
        async with asyncio.timeout(FAILOVER_MAX_S):
            while b"master_link_status:up" not in await _send_command(self.replica, "INFO", "replication"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def wait_until_settled(self) -> None:
        """The replica follows, and the sentinel knows of it.

        Asked anew each time which of the two that is: a sentinel on a busy machine changes its mind after a failover.
        """
        async with asyncio.timeout(FAILOVER_MAX_S):
            while True:
                await asyncio.to_thread(self.ask_sentinel)
                if b"master_link_status:up" in await _send_command(self.replica, "INFO", "replication"):
                    break
                await asyncio.sleep(0.05)
        async with asyncio.timeout(FAILOVER_MAX_S):
            while await asyncio.to_thread(self._field, "num-slaves") != "1":  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def until_replaced(self) -> None:
        """Until the sentinel names the other one."""
        old = self.primary
        async with asyncio.timeout(FAILOVER_MAX_S):
            while await asyncio.to_thread(self.ask_sentinel) is old:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def ask_sentinel(self) -> ValkeyServer:
        """The primary, as the sentinel says now: on a busy machine it may have changed its mind again."""
        if self._field("port") != self.primary.options["port"]:
            self.primary, self.replica = self.replica, self.primary
        return self.primary

    def _field(self, name: str) -> str:
        with socket.create_connection(("127.0.0.1", self._sentinel_port), 5) as client:
            client.sendall(f"SENTINEL MASTER {NAME}\r\n".encode())
            words = client.recv(65536).decode().split("\r\n")
        return words[words.index(name) + 2]


@asynccontextmanager
async def open_watched(home: Path, primary: ValkeyServer, network: Network) -> AsyncIterator[Watched]:
    (home / "replica").mkdir()
    (home / "sentinel").mkdir()
    port = servers.free_port()
    configuration = home / "sentinel" / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {home / 'sentinel'}\n"
        f"sentinel monitor {NAME} 127.0.0.1 {primary.options['port']} 1\n"
        f"sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 3000\n"
    )
    servers.valkey_command(primary, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
    replica = await servers.start_valkey(
        home / "replica", {"replicaof": f"127.0.0.1 {primary.options['port']}", "repl-diskless-sync-delay": "0"}
    )
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - forks once, and waits for nothing
            [str(find_valkey_binary()), str(configuration), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            pair = Watched(primary, replica, port, network)
            await asyncio.sleep(0.5)  # else nobody listens there yet
            await pair.wait_until_settled()
            yield pair
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
    finally:
        await replica.stop()


async def _send_command(server: ValkeyServer, *words: str) -> bytes:
    return await asyncio.to_thread(servers.valkey_command, server, *words)
