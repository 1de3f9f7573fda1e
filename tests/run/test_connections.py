"""How many connections the service can open, and what is said if PostgreSQL has fewer."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import cast

import asyncpg
import pytest
from servers import temporary_home

from oracle.run.connections import COMMANDS, MOST, count_connections, describe_shortage, find_shortage, find_superuser
from oracle.run.embedded import PostgresServer
from oracle.run.order import ROLES
from oracle.settings import Settings
from oracle.store import postgres
from oracle.store.cache.lookups import DATABASE_BATCHES
from oracle.store.rows import ConnectionsRow

OPERATE = Path(__file__).parents[2] / "docs" / "operate.md"


def test_the_sums_are_those_of_the_lanes_and_of_the_document() -> None:
    lookups_and_changes = DATABASE_BATCHES + postgres.WRITES_MAX
    desk = postgres.KEYS_MAX + postgres.DESK_MAX + postgres.STREAMS_MAX
    assert MOST["hub"] == lookups_and_changes + 2  # the watch
    assert MOST["account-lookup"] == MOST["oracles"] == MOST["hub"]
    assert MOST["admin"] == lookups_and_changes + desk + 3  # and the registration at an ALS
    sums = re.findall(
        r"^\| (?:an?|the) (hub|admin|jobs|account-lookup|oracles)\b.*\| (\d+) \|$", OPERATE.read_text(), re.MULTILINE
    )
    assert {role: int(most) for role, most in sums} == MOST
    assert count_connections(Settings(workers=2), ROLES) == 2 * 14 + 27 + 27 + 27
    assert count_connections(Settings(workers=3), ["hub"]) == 4 * 14


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, ""),
        (
            {"used": 150},
            r"can open 109, and 47 are free \(max_connections 200, reserved 3, in use 150\)\. Raise max_conn",
        ),
        ({"role_max": 50}, "The role of ORACLE_DATABASE_URL can have too few .* ALTER ROLE … CONNECTION LIMIT 109"),
        ({"database_max": 0}, "The database of ORACLE_DATABASE_URL can have too few .* ALTER DATABASE … CONNECTION"),
    ],
)
def test_a_limit_that_is_too_low_is_named_with_its_remedy(row: dict[str, int], said: str) -> None:
    enough = {"connections_max": 200, "reserved": 3, "role_max": -1, "database_max": -1, "used": 0}
    found = describe_shortage(cast("ConnectionsRow", enough | row), 109)
    assert re.search(said, found) if said else not found


async def test_a_postgresql_of_our_own_has_connections_for_all_processes() -> None:
    """Whatever its file says, and a larger number of an operator stays."""
    needed = count_connections(Settings(workers=8), ROLES) + COMMANDS
    with temporary_home() as home:
        run = home / "run"
        run.mkdir(mode=0o700)
        server = PostgresServer(home, run, durable=False, connections=needed)
        try:
            await server.start()
            url = server.url(role="postgres", database="postgres")
            assert await ask(url) == needed
            assert "is a superuser, so it can change history" in await find_superuser(url)
            assert await find_superuser(server.url(database="postgres")) == ""
            assert "can open 1929, and" in await find_shortage(url, Settings(workers=132), ROLES)
            await server.stop()
            with (server.data / "postgresql.conf").open("a") as file:
                file.write(f"max_connections = {needed + 5}\n")
            await server.start()
            assert await ask(url) == needed + 5
        finally:
            await asyncio.shield(server.stop())


async def ask(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SHOW max_connections"))
    finally:
        await connection.close()
