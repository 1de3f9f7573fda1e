"""Records of who asked: partitioned with rows present, and deleted by whole months by the owner alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from oracle.store.migrate import migrate, read_migrations
from oracle.store.queries import QUERIES

ADD: Final = "INSERT INTO audit_reads (credential_id, role, asked, party_identifier) VALUES ('c', 'auditor', $1, $2)"
PAGE: Final = (2**62, None, None, None, None, None, 100)


async def list_asked(connection: asyncpg.Connection, *page: Any) -> list[str]:
    return [row["asked"] for row in await connection.fetch(QUERIES["reads_page"], *(page or PAGE))]


async def as_application(url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(urlsplit(url)._replace(netloc="postgres@").geturl())
    await connection.execute("SET ROLE oracle_app")
    return connection


async def list_partitions(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT inhrelid::regclass::text AS name FROM pg_inherits"
                                  " WHERE inhparent = to_regclass('audit_reads')")  # fmt: skip
    return {row["name"] for row in rows}


async def test_the_table_is_partitioned_while_the_application_writes(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url, migrations=[m for m in read_migrations() if m.number < 15])
    owner = await asyncpg.connect(empty_database_url)
    application = await as_application(empty_database_url)
    try:
        add = await application.prepare(ADD)
        await add.fetch("first", "525500000001")
        await owner.execute("INSERT INTO audit_reads (at, credential_id, role, asked) VALUES"
                            " ('2024-02-03', 'c', 'r', 'old'), ('2090-01-01', 'c', 'r', 'false time')")  # fmt: skip
        await migrate(empty_database_url)
        await add.fetch("second", "525500000001")
        assert await list_asked(application) == ["second", "false time", "old", "first"]
        assert await list_asked(application, 2**62, "525500000001", None, ["c"], None, None, 9) == ["second", "first"]
        assert {"audit_reads_before", "audit_reads_default"} < await list_partitions(owner)
        assert await owner.fetchval("SELECT asked FROM audit_reads_default") == "false time"
        assert await owner.fetchval("SELECT count(*) FROM audit_reads_before") == 3
    finally:
        await application.close()
        await owner.close()


async def test_nobody_but_the_owner_deletes_records_and_nobody_the_last_year(database_url: str) -> None:
    owner = await asyncpg.connect(database_url)
    application = await as_application(database_url)
    try:
        await application.execute(ADD, "now", None)
        month = await owner.fetchval("SELECT tableoid::regclass::text FROM audit_reads")
        for statement in (
            "DELETE FROM audit_reads", "TRUNCATE audit_reads", "UPDATE audit_reads SET role = 'x'",
            f"DELETE FROM {month}",  # noqa: S608
            f"DROP TABLE {month}", f"ALTER TABLE audit_reads DETACH PARTITION {month}",
            "SELECT audit_reads_drop(365)", "SELECT audit_reads_drop(100000)",
            "INSERT INTO audit_reads (at, credential_id, role, asked) VALUES ('2020-01-01', 'c', 'r', 'x')",
            "INSERT INTO audit_reads (read_id, credential_id, role, asked) VALUES (1, 'c', 'r', 'x')",
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await application.execute(statement)
        for days in (364, 0, -1, None):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="365 days"):
                await owner.fetch("SELECT * FROM audit_reads_drop($1)", days)
        for table in ("audit_reads", month, "audit_reads_default"):
            statement = f"DELETE FROM {table}"  # noqa: S608
            with pytest.raises(asyncpg.PostgresError, match="not allowed"):
                await owner.execute(statement)

        # Old months, as they are years after the migration.
        await owner.execute(
            "CREATE TABLE audit_reads_2019_01 PARTITION OF audit_reads"
            " FOR VALUES FROM ('2019-01-01Z') TO ('2019-02-01Z')"
        )
        await owner.execute("INSERT INTO audit_reads (at, credential_id, role, asked) VALUES"
                            " ('2019-01-02', 'c', 'r', 'a'),"
                            " ('2019-01-03', 'c', 'r', 'b'), ('2018-01-03', 'c', 'r', 'in no month')")  # fmt: skip
        dropped = await owner.fetch(QUERIES["reads_drop"], 365)
        assert [tuple(row) for row in dropped] == [("audit_reads_2019_01", 2), ("audit_reads_default", 1)]
        assert await list_asked(owner) == ["now"]
        events = await owner.fetch("SELECT action, before FROM events WHERE entity = 'audit-reads' ORDER BY event_id")
        told = [(row["action"], json.loads(row["before"])["partition"], json.loads(row["before"])["records"])
                for row in events]  # fmt: skip
        assert told == [("removed", "audit_reads_2019_01", 2), ("removed", "audit_reads_default", 1)]
        assert await owner.fetch(QUERIES["reads_drop"], 365) == []
        with pytest.raises(asyncpg.PostgresError, match="not allowed"):
            await owner.execute("DELETE FROM audit_reads_default")
    finally:
        await application.close()
        await owner.close()


async def test_partitions_are_made_ahead_by_the_application_and_pages_use_their_indexes(database_url: str) -> None:
    owner = await asyncpg.connect(database_url)
    application = await as_application(database_url)
    try:
        before = await list_partitions(owner)
        assert f"audit_reads_{datetime.now(UTC):%Y_%m}" in before
        assert len(before) == 5, "this month, three to come, and the default"
        await owner.execute(f"DROP TABLE {max(before - {'audit_reads_default'})}")
        assert await application.fetchval(QUERIES["partitions_ahead"]) == 1
        assert await list_partitions(owner) == before
        await owner.execute("INSERT INTO audit_reads (credential_id, role, asked, party_identifier)"
                            " SELECT 'c' || n % 50, 'r', 'x', n FROM generate_series(1, 20000) n")  # fmt: skip
        await owner.execute("ANALYZE audit_reads")
        await owner.execute("SET plan_cache_mode = force_custom_plan")
        for wanted in ((None, None, None), ("777", None, None), (None, None, ["c7"])):
            page = (2**62, *wanted, None, None, 20)
            plan = await (await owner.prepare(QUERIES["reads_page"])).explain(*page, analyze=True)
            pages_read = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
            assert pages_read < 60, f"the table has some 200 pages: {plan}"
    finally:
        await application.close()
        await owner.close()
