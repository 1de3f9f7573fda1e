"""Both servers together: opened for `serve` and kept running, or joined by a command."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from oracle.backoff import Backoff
from oracle.run.embedded.directory import (
    ServerUrls,
    announce,
    find_running,
    lock,
    make_socket_directory,
    prepare_home,
)
from oracle.run.embedded.errors import EmbeddedError, InUseError, add_remedy
from oracle.run.embedded.machine import Machine
from oracle.run.embedded.postgres import PostgresServer
from oracle.run.embedded.process import POLL_S, START_S, Server
from oracle.run.embedded.valkey import ValkeyServer
from oracle.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

log = logs.Log(__name__)

PAUSES_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
STEADY_S: Final = 10.0  # a server that ran longer did not die because of its start


@asynccontextmanager
async def open_embedded(
    data_dir: Path,
    *,
    postgres: bool,
    valkey: bool,
    durable: bool = True,
    machine: Machine | None = None,
    connections: int = 0,
) -> AsyncIterator[ServerUrls]:
    """Run the servers while the block runs, and announce them to other processes: for `serve`.

    `connections`: how many PostgreSQL must have at least.
    """
    home = prepare_home(data_dir)
    machine = machine or Machine()
    with lock(home), make_socket_directory(home) as run:
        database = (
            PostgresServer(home, run, durable=durable, machine=machine, connections=connections) if postgres else None
        )
        cache = ValkeyServer(home, run, machine=machine) if valkey else None
        async with _run_servers(home, database, cache, keep=True) as urls:
            with announce(home, urls):
                yield urls


@asynccontextmanager
async def join_embedded(data_dir: Path) -> AsyncIterator[ServerUrls]:
    """Use the servers of a running `serve`, else a PostgreSQL of our own while the block runs: for commands.

    Our own is not announced, because a command that joined it would lose it when we end.  So two commands at
    once take turns, and a command that meets a starting `serve` waits, START_S at most.
    """
    home = prepare_home(data_dir)
    async with AsyncExitStack() as stack:
        urls = await _wait_for_serve_or_lock(home, stack)
        if urls is None:
            run = stack.enter_context(make_socket_directory(home))
            servers = _run_servers(home, PostgresServer(home, run), None, keep=False)
            urls = await stack.enter_async_context(servers)
        yield urls


async def _wait_for_serve_or_lock(home: Path, stack: AsyncExitStack) -> ServerUrls | None:
    """Return the URLs of a running `serve`; None when the lock is ours instead."""
    deadline = time.monotonic() + START_S
    while True:
        urls = find_running(home)
        if urls is not None and urls.database_url is not None:
            return urls
        try:
            stack.enter_context(lock(home))
        except InUseError:
            # A serve that announced itself without a PostgreSQL will not have one later either.
            if urls is not None or time.monotonic() > deadline:
                raise
        else:
            return None
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _run_servers(
    home: Path, database: PostgresServer | None, cache: ValkeyServer | None, *, keep: bool
) -> AsyncIterator[ServerUrls]:
    servers: list[Server] = [server for server in (database, cache) if server is not None]
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.push_async_callback(server.stop)
        # One failure must not leave the other's start() running into its stop(): wait for both, then raise.
        for outcome in await asyncio.gather(*(server.start() for server in servers), return_exceptions=True):
            if isinstance(outcome, OSError):
                raise EmbeddedError(f"the servers in {home} cannot start: {add_remedy(str(outcome))}") from outcome
            if isinstance(outcome, BaseException):
                raise outcome
        service = None
        if database is not None:
            await database.add_roles()
            service = database.url(role="oracle_service")
        if keep:
            stack.push_async_callback(_cancel, [asyncio.create_task(_keep_running(server)) for server in servers])
        yield ServerUrls(service, cache.url() if cache else None, database.url() if database else None)


async def _keep_running(server: Server) -> None:
    """Start the server again whenever it dies, until cancelled."""
    backoff, failure = Backoff(PAUSES_S, steady_s=STEADY_S), ""
    while True:
        born = time.monotonic()
        reason = failure or await server.wait_for_end()
        pause_s = backoff.fail(time.monotonic() - born)
        log.error("A server ended; starting it again", server=server.name, reason=reason, pause_s=pause_s)
        await asyncio.sleep(pause_s)
        try:
            await server.start()
        except (EmbeddedError, OSError) as exc:
            server.kill()
            failure = f"it did not start: {exc}"
        else:
            failure = ""
            log.info("The server runs again", server=server.name)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
