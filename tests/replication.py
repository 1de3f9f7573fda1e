"""Two real PostgreSQL servers, a primary and its standby, and what can happen to them.

Both listen on a Unix socket of their own.  `url()` names the standby first, as after a failover and the return of the
old primary; that is the order in which the most goes wrong.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import servers

from oracle.run.embedded.binaries import find_postgres_binaries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from oracle.run.embedded import PostgresServer

OPTIONS: Final = {
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "synchronous_commit": "on",
    "track_commit_timestamp": "on",
    "max_standby_streaming_delay": "-1",  # a standby that was halted would cancel the short queries of a test
}
STANDBY: Final = "standby"
CONFIGURATION: Final = "postgresql.auto.conf"
PATIENCE_S: Final = 60.0


class Pair:
    """`primary` is still the old one after a promotion, until `rejoin`."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer, *, synchronous: bool = False) -> None:
        self.primary, self.standby = primary, standby
        self.synchronous = synchronous

    def url(self, role: str = "oracle") -> str:
        return url_of([self.standby, self.primary], role)

    async def promote(self) -> None:
        """Make the standby the primary; return when it takes changes."""
        # Not `pg_promote()`, which waits inside a query: replay that conflicts with it cancels it, or waits for it.
        await _fetch(self.standby, "SELECT pg_promote(wait => false)")
        await _until(self.standby, "SELECT NOT pg_is_in_recovery()")

    async def lag(self) -> None:
        """Let the standby receive nothing more: a failover loses all commits from now on."""
        await servers.administer(self.standby, "ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'")
        await servers.administer(self.standby, "SELECT pg_reload_conf()")
        await _until(self.primary, "SELECT count(*) = 0 FROM pg_stat_replication")

    async def until_received(self) -> None:
        """Wait until the standby has all that is committed now."""
        await _until(
            self.primary,
            "SELECT count(*) > 0 FROM pg_stat_replication WHERE flush_lsn >= $1::text::pg_lsn",
            await _fetch(self.primary, "SELECT pg_current_wal_insert_lsn()::text"),
        )

    async def rejoin(self) -> None:
        """After a promotion: make the old primary a standby of the new one, and exchange the names of the two."""
        self.primary, self.standby = self.standby, self.primary
        await rejoin_as_standby(self.standby, self.primary)
        if self.synchronous:
            await servers.administer(self.primary, f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
            await servers.administer(self.primary, "SELECT pg_reload_conf()")
        await self.until_followed()

    async def until_followed(self) -> None:
        """Wait until the standby streams from the primary, and confirms commits if it is to."""
        wanted = "SELECT count(*) > 0 FROM pg_stat_replication WHERE state = 'streaming'"
        await _until(self.primary, wanted + " AND sync_state = 'sync'" * self.synchronous)


def url_of(hosts: Sequence[PostgresServer], role: str = "oracle") -> str:
    return f"postgresql://{role}@/oracle?host={','.join(str(host.run) for host in hosts)}&port=5432"


async def _fetch(server: PostgresServer, query: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(server.url("postgres", "postgres"))
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def _until(server: PostgresServer, condition: str, *arguments: object) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await _fetch(server, condition, *arguments):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


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
            _follow(standby, primary)
            if synchronous:
                with (primary.data / CONFIGURATION).open("a") as file:
                    file.write(f"synchronous_standby_names = '{STANDBY}'\n")
            await primary.start()
            await standby.start()
            pair = Pair(primary, standby, synchronous=synchronous)
            await pair.until_followed()
            yield pair
        finally:
            for server in (standby, primary):
                if server.process is not None:
                    resume(server)
                    await server.stop()


def _follow(standby: PostgresServer, primary: PostgresServer) -> None:
    (standby.data / "standby.signal").touch()
    with (standby.data / CONFIGURATION).open("a") as file:
        file.write(f"primary_conninfo = 'host={primary.run} port=5432 user=postgres application_name={STANDBY}'\n")
        file.write("synchronous_standby_names = ''\n")  # once promoted it has no standby


async def rejoin_as_standby(server: PostgresServer, primary: PostgresServer) -> None:
    """Kill the server, if it runs; start it on a copy of what the primary has."""
    kill(server)
    assert server.process is not None
    await asyncio.to_thread(server.process.wait)
    shutil.rmtree(server.data)
    binary = find_postgres_binaries(primary.data, primary._machine.find_package) / "pg_basebackup"
    command = [binary, "-D", server.data, "-h", primary.run, "-p", "5432", "-U", "postgres", "-c", "fast"]
    await asyncio.to_thread(partial(subprocess.run, command, check=True, capture_output=True))
    _follow(server, primary)
    await server.start()


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
