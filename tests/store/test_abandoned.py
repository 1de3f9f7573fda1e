"""A caller that gives up at the very moment in which it has connected leaves no connection open."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from oracle.store.servers import Servers

NAME = "given up"
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"


@pytest.mark.parametrize("hosts", [1, 2])
async def test_a_connection_is_not_left_open_by_a_caller_that_gives_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch, hosts: int
) -> None:
    servers = Servers(database_url)
    servers._hosts *= hosts
    settle = servers._settle

    def settle_and_cancel(found: Any) -> None:
        settle(found)
        using.cancel()

    async def use() -> None:
        connection = await servers.connect(NAME)
        try:
            await asyncio.sleep(3600)
        finally:
            connection.terminate()

    monkeypatch.setattr(servers, "_settle", settle_and_cancel)
    using = asyncio.create_task(use())
    with pytest.raises(asyncio.CancelledError):
        await using
    watcher = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(10):
            while await watcher.fetchval(COUNT, NAME):  # noqa: ASYNC110 - a database sets no event
                await asyncio.sleep(0.01)
    finally:
        await watcher.close()
