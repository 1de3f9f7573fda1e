"""A session is as we need it, whatever the database, its owner or a pooler prefers; else it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest
import servers
from oracle_process import run_oracle
from pooler import open_pooler
from test_changes import open_store

from oracle.errors import DirectoryUnavailable
from oracle.store.cache.values import Entry
from oracle.store.migrate import check_schema, migrate, read_migrations
from oracle.store.postgres import open_postgres
from oracle.store.servers import connect
from oracle.store.sessions import PINNED, UnfitSession

if TYPE_CHECKING:
    from oracle.run.embedded import PostgresServer

DEFAULTS: Final = {
    "repeatable read": {"default_transaction_isolation": "'repeatable read'"},
    "serializable": {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
    "time limits": {
        "statement_timeout": "1",
        "lock_timeout": "1",
        "idle_session_timeout": "1",
        "idle_in_transaction_session_timeout": "1",
    },
    "text forms": {
        "TimeZone": "'Asia/Yangon'",
        "DateStyle": "'German, DMY'",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "-15",
        "bytea_output": "escape",
        "standard_conforming_strings": "off",
    },
}


async def set_defaults(url: str, defaults: dict[str, str]) -> None:
    connection = await asyncpg.connect(url)
    name = await connection.fetchval("SELECT current_database()")
    for setting, value in defaults.items():
        await connection.execute(f"ALTER DATABASE {name} SET {setting} = {value}")
    await connection.close()


@pytest.mark.parametrize("defaults", DEFAULTS.values(), ids=DEFAULTS)
async def test_changes_succeed_whatever_the_defaults_of_the_database(
    defaults: dict[str, str], database_url: str, redis_url: str
) -> None:
    await set_defaults(database_url, defaults)
    async with open_store(database_url, redis_url) as store:
        # Several at once on one row: each waits for the one before, and must then see what that one wrote.
        assert sorted(await asyncio.gather(*(store.add("a", "1") for _ in range(4)))) == [["new"], *[["same"]] * 3]
        await asyncio.gather(*(store.update("a", "1", currency) for currency in ("USD", "MXN", "EUR")))
        await store.update("a", "1", "MXN")
        assert await store.get("1") == [Entry("a", "MXN", "")]
        await store.remove("a", "1")
        assert await store.get("1") == []
    assert await migrate(database_url) == 0


async def test_every_pinned_setting_overrides_the_default_of_the_role_and_of_the_database(database_url: str) -> None:
    await set_defaults(database_url, {name: value for each in DEFAULTS.values() for name, value in each.items()})
    connection = await connect(database_url, "test")
    try:
        shown = "SELECT lower(name), setting FROM pg_settings WHERE lower(name) = ANY ($1)"
        rows = await connection.fetch(shown, list(PINNED))
        assert {row["lower"]: row["setting"] for row in rows} == PINNED
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("keep", "own_key", "reason"),
    [
        (False, True, r"the session lost its settings \(datestyle is .*\): connect directly, not through a pooler"),
        (False, False, "the session lost its settings .*: connect directly, not through a pooler"),
        (True, True, "the session is shared with other clients: connect directly, not through a pooler"),
    ],
    ids=["both", "settings", "process"],
)
async def test_a_pooler_is_refused(
    keep: bool, own_key: bool, reason: str, empty_database_url: str, postgres_server: PostgresServer
) -> None:
    """Also one that keeps all settings: locks, notifications and the process of a change belong to a session."""
    await set_defaults(empty_database_url, {"DateStyle": "SQL", "TimeZone": "'America/Mexico_City'"})
    with servers.temporary_home() as folder:
        upstream = servers.postgres_socket(postgres_server)
        async with open_pooler(folder, upstream, keep=keep, own_key=own_key) as place:
            url = empty_database_url.partition("?")[0] + place
            for act in (migrate, check_schema):
                with pytest.raises(UnfitSession, match=reason):
                    await act(url)
            async with open_postgres(url, desk=True) as postgres:  # a service that runs already
                for call in (postgres.reads.rows, postgres.desk.rows, postgres.note):
                    with pytest.raises(DirectoryUnavailable):
                        await call("generation")
                with pytest.raises(DirectoryUnavailable):
                    await postgres.watch.ask()
    connection = await asyncpg.connect(empty_database_url)
    assert await connection.fetchval("SELECT to_regclass('migrations')") is None
    assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    await connection.close()
    async with open_pooler_without_effect(empty_database_url, postgres_server) as url:
        assert await migrate(url) == len(read_migrations())


@asynccontextmanager
async def open_pooler_without_effect(url: str, server: PostgresServer) -> AsyncIterator[str]:
    """A proxy that hands on everything is no pooler."""
    with servers.temporary_home() as folder:
        async with open_pooler(folder, servers.postgres_socket(server), keep=True, own_key=False) as place:
            yield url.partition("?")[0] + place


async def test_rules_that_are_switched_off_are_refused(database_url: str, postgres_server: PostgresServer) -> None:
    name = database_url.partition("?")[0].rpartition("/")[2]
    await servers.administer(postgres_server, f"ALTER DATABASE {name} SET session_replication_role = replica")
    with pytest.raises(UnfitSession, match="session_replication_role is replica, but must be origin"):
        await check_schema(database_url)


@pytest.fixture
def other_encoding_url(encoding: str, postgres_server: PostgresServer) -> Iterator[str]:
    provider = "" if servers.is_version_14(postgres_server) else "LOCALE_PROVIDER libc"
    name = f"t_{encoding.lower()}"
    made = f"CREATE DATABASE {name} OWNER oracle TEMPLATE template0 {provider} ENCODING '{encoding}'"
    asyncio.run(servers.administer(postgres_server, f"{made} LC_COLLATE 'C' LC_CTYPE 'C'"))
    yield postgres_server.url(name)
    asyncio.run(servers.drop_database(postgres_server, name))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
async def test_a_database_of_another_encoding_is_refused_untouched(encoding: str, other_encoding_url: str) -> None:
    for act in (migrate, check_schema):
        with pytest.raises(UnfitSession, match=f"the encoding of the database is {encoding}, but must be UTF8"):
            await act(other_encoding_url)
    connection = await asyncpg.connect(other_encoding_url)
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert await connection.fetchval(tables) == 0
    await connection.close()


@pytest.mark.parametrize("encoding", ["LATIN1"])
def test_migrate_and_serve_refuse_another_encoding_in_one_line(other_encoding_url: str, tmp_path: Path) -> None:
    for command in ("migrate", "serve"):
        done = run_oracle(tmp_path, command, env={"ORACLE_DATABASE_URL": other_encoding_url})
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        assert line == (
            f"oracle: database {other_encoding_url}: the encoding of the database is LATIN1, but must be UTF8:"
            " make a database with ENCODING 'UTF8' TEMPLATE template0, and use that one"
        )
