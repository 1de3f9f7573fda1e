"""Migrations: ten processes apply each once, a failure leaves nothing, and together they make `schemas/schema.sql`.

That file is for reading and for review: it shows the effect of a migration as a plain difference.  To write it:

    python tests/store/test_migrate.py --write
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for --write; pytest has done it already
import servers
from oracle_process import run_oracle
from pooler import open_pooler

from oracle.run.embedded.binaries import find_postgres_binaries
from oracle.run.errors import DatabaseAway, explain_database_errors, wait_for_database
from oracle.store.migrate import ADVISORY_LOCK, FOLDER, Migration, SchemaError, migrate, read_migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer

SCHEMA = Path(__file__).parents[2] / "schemas" / "schema.sql"
HEADER = """\
-- The schema that the migrations make, as pg_dump shows it.  For reading; nothing executes it.
-- The migrations hold the reasons.  A test compares the two.  After a new migration, write this file again:
--
--     python tests/store/test_migrate.py --write

"""
# Session settings, the versions of server and program, the random keys of a dump: not of the schema.
NOISE = re.compile(r"^(?:SET .*;|SELECT pg_catalog\.set_config.*|\\(?:un)?restrict .*|--.*)$", re.MULTILINE)


def dump_schema(database_url: str, binaries: Path) -> str:
    """Dump the schema without owners, noise and months of history, in the order of pg_dump: by kind and name."""
    command = [str(binaries / "pg_dump"), "--schema-only", "--no-owner", "--dbname", database_url]
    command += ["--exclude-table", "events_2*", "--exclude-table", "audit_reads_2*"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return HEADER + re.sub(r"\n{3,}", "\n\n", NOISE.sub("", text)).strip() + "\n"


def binaries_of(server: PostgresServer) -> Path:
    return find_postgres_binaries(server.data)


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with copies of the program's migrations, for a test to add some."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for file in FOLDER.iterdir():
        if file.name.endswith(".sql"):
            (folder / file.name).write_text(file.read_text(encoding="utf-8"))
    return folder


def test_the_migrations_give_exactly_schema_sql(database_url: str, postgres_server: PostgresServer) -> None:
    assert dump_schema(database_url, binaries_of(postgres_server)) == SCHEMA.read_text(encoding="utf-8"), (
        "python tests/store/test_migrate.py --write"
    )


async def test_ten_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(10)))
    assert sorted(applied) == [0] * 9 + [len(read_migrations())]
    assert await ask(empty_database_url, "SELECT count(*) FROM migrations") == len(read_migrations())
    assert await migrate(empty_database_url) == 0


async def test_pre_stops_before_the_first_post_and_post_goes_on(empty_database_url: str, folder: Path) -> None:
    (folder / "9001_pre_one.sql").write_text("CREATE TABLE one ()")
    (folder / "9001_post_two.sql").write_text("CREATE TABLE two ()")
    (folder / "9002_pre_three.sql").write_text("CREATE TABLE three ()")
    own, all_ = read_migrations(), read_migrations(folder)
    assert [m.name for m in all_] == [*(m.name for m in own), "one", "two", "three"]

    assert await migrate(empty_database_url, "pre", migrations=all_) == len(own) + 1
    assert await migrate(empty_database_url, "pre", migrations=all_) == 0
    assert await ask(empty_database_url, "SELECT to_regclass('one')") == "one"
    assert await ask(empty_database_url, "SELECT to_regclass('two')") is None
    assert await migrate(empty_database_url, "post", migrations=all_) == 2
    assert await ask(empty_database_url, "SELECT to_regclass('three')") == "three"


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(database_url: str) -> None:
    await execute(database_url, "INSERT INTO migrations VALUES (9999, 'post', 'what_we_will_think_of')")
    with pytest.raises(SchemaError, match=r"newer version \(migration 9999_post_what_we_will_think_of\)"):
        await migrate(database_url)


@pytest.mark.parametrize("broken", ["SELECT 1/0", "INSERT INTO half VALUES ('a')", "SELECT ("])
async def test_a_migration_that_fails_leaves_nothing_half_done(
    empty_database_url: str, folder: Path, broken: str
) -> None:
    (folder / "9001_pre_half.sql").write_text(f"CREATE TABLE half (n int); {broken}")
    with pytest.raises(asyncpg.PostgresError):
        await migrate(empty_database_url, migrations=read_migrations(folder))
    assert await ask(empty_database_url, "SELECT to_regclass('half')") is None
    assert await ask(empty_database_url, "SELECT count(*) FROM migrations WHERE number = 9001") == 0
    (folder / "9001_pre_half.sql").write_text("CREATE TABLE half (n int)")
    assert await migrate(empty_database_url, migrations=read_migrations(folder)) == 1


async def test_a_migration_behind_a_long_query_fails_so_that_lookups_go_on(database_url: str, folder: Path) -> None:
    (folder / "9001_pre_wide.sql").write_text("ALTER TABLE fsps ADD COLUMN wide int")
    reader = await asyncpg.connect(database_url)
    try:
        async with reader.transaction():
            await reader.fetch("SELECT * FROM fsps")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await migrate(database_url, migrations=read_migrations(folder), lock_timeout_ms=50)
        assert await migrate(database_url, migrations=read_migrations(folder)) == 1
    finally:
        await reader.close()


async def test_a_long_query_on_history_delays_no_start(database_url: str) -> None:
    """The partitions of coming months can wait."""
    await execute(database_url, "ALTER FUNCTION events_partitions_ahead(int) SET lock_timeout = '50ms'")
    partitions = "SELECT max(relname) FROM pg_class WHERE relkind = 'r' AND relname ~ '^events_2'"
    name = await ask(database_url, partitions)
    await execute(database_url, f"DROP TABLE {name}")
    reader = await asyncpg.connect(database_url)
    try:
        async with reader.transaction():
            await reader.fetch("SELECT count(*) FROM events")
            assert await migrate(database_url) == 0
            assert await ask(database_url, f"SELECT to_regclass('{name}')") is None
        assert await migrate(database_url) == 0
        assert await ask(database_url, f"SELECT to_regclass('{name}')") == name
    finally:
        await reader.close()


async def test_a_killed_process_releases_the_lock(empty_database_url: str) -> None:
    holder = await asyncpg.connect(empty_database_url)
    await holder.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
    waiting = asyncio.create_task(migrate(empty_database_url))
    while not await holder.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
        assert not waiting.done()
    holder.terminate()  # as a killed process would
    assert await waiting == len(read_migrations())


async def test_a_lock_that_nobody_releases_is_reported_with_its_holder(empty_database_url: str, tmp_path: Path) -> None:
    """As a pooler leaves it: the session goes on, and nobody in it migrates.  Then a start must not hang."""
    holder = await asyncpg.connect(empty_database_url, server_settings={"application_name": "stranded"})
    await holder.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
    pid = holder.get_server_pid()
    seen: list[str] = []
    named = rf"process {pid} of PostgreSQL \(role oracle, application stranded, connected since 2"
    with pytest.raises(SchemaError, match=rf"{named}.*pg_terminate_backend\({pid}\)"):
        await migrate(empty_database_url, wait_s=0.01, on_wait=seen.append)
    assert [re.match(named, text) is not None for text in seen] == [True]

    env = {"ORACLE_DATABASE_URL": empty_database_url}
    done = await asyncio.to_thread(run_oracle, tmp_path, "migrate", "--wait", "0", env=env)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert re.match(f"waiting for {named}", first)
    assert re.match(f"oracle: waited 0 s for the lock of migrations, which {named}", second)
    assert await ask(empty_database_url, "SELECT to_regclass('migrations')") is None

    await execute(empty_database_url, f"SELECT pg_terminate_backend({pid})")
    assert await migrate(empty_database_url) == len(read_migrations())
    assert await ask(empty_database_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_the_same_number_in_another_database_or_of_two_halves_blocks_nobody(
    empty_database_url: str, database_url: str
) -> None:
    others = [await asyncpg.connect(url) for url in (database_url, empty_database_url)]
    await others[0].execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
    await others[1].execute("SELECT pg_advisory_lock($1, $2)", ADVISORY_LOCK >> 32, ADVISORY_LOCK & 0xFFFFFFFF)
    assert await migrate(empty_database_url, wait_s=0.01) == len(read_migrations())
    for other in others:
        await other.close()


async def test_migrate_can_wait_for_a_database_that_comes_up(
    empty_database_url: str, postgres_server: PostgresServer
) -> None:
    away = asyncio.Event()
    with servers.temporary_home() as folder:
        url = f"{empty_database_url.partition('?')[0]}?host={folder}&port=5432"

        async def apply() -> int:
            with explain_database_errors(url):
                return await migrate(url)

        waiting = asyncio.create_task(wait_for_database(apply, 300, lambda *_: away.set()))
        await away.wait()
        async with open_pooler(folder, servers.postgres_socket(postgres_server), keep=True, own_key=False):
            assert await waiting == len(read_migrations())
        with pytest.raises(DatabaseAway):
            await wait_for_database(apply, 0, lambda *_: None)


async def test_tables_of_others_beside_ours_are_left_alone(database_url: str) -> None:
    superuser = await asyncpg.connect(urlsplit(database_url)._replace(netloc="postgres@").geturl())
    await superuser.execute("CREATE TABLE aliases_copy AS TABLE aliases")
    assert await migrate(database_url) == 0  # before: permission denied for table aliases_copy
    assert await superuser.fetchval("SELECT relacl FROM pg_class WHERE relname = 'aliases_copy'") is None
    await superuser.close()


def test_every_file_of_the_folder_is_a_migration() -> None:
    names = {file.name for file in FOLDER.iterdir() if file.name.endswith(".sql")}
    assert names == {f"{migration}.sql" for migration in read_migrations()}
    assert len({(m.number, m.stage) for m in read_migrations()}) == len(names)
    assert all(isinstance(m, Migration) and m.sql for m in read_migrations())


def dump_own_schema() -> Iterator[str]:
    """Yield the schema of a fresh database, on a server that ends afterwards."""
    with servers.temporary_home() as home:
        server = asyncio.run(servers.start_postgres(home))
        try:
            asyncio.run(migrate(server.url()))
            yield dump_schema(server.url(), binaries_of(server))
        finally:
            asyncio.run(server.stop())


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/store/test_migrate.py --write")
    for schema in dump_own_schema():
        SCHEMA.write_text(schema, encoding="utf-8")


@pytest.mark.parametrize("owner", ["oracle", "postgres"])
async def test_nobody_creates_tables_beside_ours_or_the_operator_reads_why(
    owner: str, empty_database_url: str, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As PostgreSQL 14 makes a database: everybody can create, and the owner of our tables may not own the schema."""
    database = urlsplit(empty_database_url).path.strip("/")
    await servers.administer(
        postgres_server, f"ALTER SCHEMA public OWNER TO {owner}; GRANT ALL ON SCHEMA public TO PUBLIC", database
    )
    for _ in range(2):
        caplog.clear()
        await migrate(empty_database_url)
        connection = await asyncpg.connect(empty_database_url)
        is_open = await connection.fetchval("SELECT has_schema_privilege('oracle_app', 'public', 'CREATE')")
        await connection.close()
        assert is_open == (owner == "postgres")
        assert ("REVOKE CREATE ON SCHEMA" in caplog.text) == is_open
    await servers.administer(postgres_server, servers.CLOSE_SCHEMA, database)
    caplog.clear()
    await migrate(empty_database_url)
    assert "REVOKE" not in caplog.text
