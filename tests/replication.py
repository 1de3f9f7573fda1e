"""Two real PostgreSQL servers, a primary and its standby, and what can happen to them.

Both listen on a Unix socket of their own.  `url()` names the standby first, as after a failover and the return of the
old primary; that is the order in which the most goes wrong.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from oracle.run.embedded import PostgresServer

OPTIONS: Final = {"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on", "synchronous_commit": "on"}


class Pair:
    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary, self.standby = primary, standby

    def url(self, role: str = "oracle") -> str:
        return url_of([self.standby, self.primary], role)

    async def promote(self) -> None:
        """Make the standby the primary; return when it takes changes."""
        connection = await asyncpg.connect(self.standby.url("postgres", "postgres"))
        try:
            assert await connection.fetchval("SELECT pg_promote()")
        finally:
            await connection.close()

    async def until_followed(self) -> None:
        """Wait until the standby streams from the primary, and confirms commits if it is to."""
        connection = await asyncpg.connect(self.primary.url("postgres", "postgres"))
        wanted = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        if await connection.fetchval("SHOW synchronous_standby_names"):
            wanted += " AND sync_state = 'sync'"
        while not await connection.fetchval(wanted):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await connection.close()


def url_of(hosts: Sequence[PostgresServer], role: str = "oracle") -> str:
    return f"postgresql://{role}@/oracle?host={','.join(str(host.run) for host in hosts)}&port=5432"


async def make_data(home: Path) -> Path:
    """Make the data of a server with an empty database `oracle`, for `open_pair` to copy."""
    server = await servers.start_postgres(home, OPTIONS)
    await server.stop()
    return server.data


@asynccontextmanager
async def open_pair(data: Path, *, synchronous: bool = False) -> AsyncIterator[Pair]:
    """Start a primary and a standby that follows it, both on copies of this data."""
    with servers.temporary_home() as home:
        primary, standby = (servers.make_postgres(home / name, home / name / "run", OPTIONS) for name in "ab")
        try:
            for server in (primary, standby):
                server.run.mkdir(parents=True, mode=0o700)
                shutil.copytree(data, server.data)
            (standby.data / "standby.signal").touch()
            follow = f"primary_conninfo = 'host={primary.run} port=5432 user=postgres application_name=standby'\n"
            with (standby.data / "postgresql.auto.conf").open("a") as file:
                file.write(follow)
            if synchronous:
                primary.options["synchronous_standby_names"] = "standby"
            await primary.start()
            await standby.start()
            pair = Pair(primary, standby)
            await pair.until_followed()
            yield pair
        finally:
            for server in (standby, primary):
                if server.process is not None:
                    resume(server)
                    await server.stop()


def list_processes(server: PostgresServer) -> list[int]:
    """List the processes of a server, the postmaster first."""
    assert server.process is not None
    found = [server.process.pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in found:
                    found.append(int(entry.name))
    return found


def halt(server: PostgresServer) -> None:
    """Stop it in the middle, as a host without power or network: it neither answers nor refuses."""
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)  # first, so that it starts no more processes
    for pid in list_processes(server)[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)


def resume(server: PostgresServer) -> None:
    for pid in list_processes(server):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def kill(server: PostgresServer) -> None:
    """End it at once, without a word to its clients."""
    for pid in reversed(list_processes(server)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
