"""Brings a database to the schema of this program: migrations/NNNN_{pre,post}_name.sql, each applied once, in order.

A *pre* migration runs before the new program and must suit the old one too; a *post* one runs when no old program is
left.  `migrate` applies both; `migrate(url, stage="pre")` stops before the first post that is not applied.  Ten
processes that start at once do it once: an advisory lock makes the others wait and then find nothing to do.  Each
file is one transaction, under a lock timeout, so that a migration waiting behind a long query fails instead of
stopping every lookup behind it.  Afterwards, each time, what follows from the schema is brought up to date: the role of
the application gets its rights on tables that are new, and history the partitions of the months to come.
"""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.resources import files
from typing import Final, Literal

import asyncpg
import msgspec

Stage = Literal["pre", "post"]

# Any number will do, as long as nobody else takes it: "alias" in ASCII.
ADVISORY_LOCK: Final = 0x616C696173
LOCK_TIMEOUT_MS: Final = 4_000
# A member of it can do what the application does, and can neither change history nor the schema.
APPLICATION_ROLE: Final = "oracle_app"

_FILE = re.compile(r"(\d{4})_(pre|post)_(\w+)\.sql")
_LEDGER = """
CREATE TABLE migrations (
    number      int NOT NULL,
    stage       text NOT NULL,
    name        text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (number, stage)
)
"""


# A temporary table stands before ours of the same name: with one called events, an alias could change without an event.
_NO_SHADOWS = """
DO $$ BEGIN
    IF has_database_privilege('oracle_app', current_database(), 'TEMPORARY') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    NULL;  -- not ours to say, or no such role: docs/audit.md has it
END $$
"""


class SchemaError(Exception):
    """The database is not one this program can work on; the text is one line for an operator."""


class Migration(msgspec.Struct, frozen=True, order=True):
    number: int
    stage: str  # 'post' < 'pre' in the alphabet: see `order`
    name: str

    @property
    def order(self) -> tuple[int, int]:
        return self.number, self.stage == "post"

    def sql(self) -> str:
        file = files("oracle.store").joinpath("migrations", f"{self.number:04}_{self.stage}_{self.name}.sql")
        return file.read_text(encoding="utf-8")


def known() -> list[Migration]:
    """The migrations this program brings, in order."""
    names = (_FILE.fullmatch(f.name) for f in files("oracle.store").joinpath("migrations").iterdir())
    found = [Migration(int(m[1]), m[2], m[3]) for m in names if m]
    return sorted(found, key=lambda m: m.order)


async def migrate(database_url: str, stage: Stage = "post") -> int:
    """Apply what is missing; how many were applied.

    Raises SchemaError when the database has migrations this program does not know (it was made by a newer one), or the
    role may not migrate, and whatever asyncpg raises when the database cannot be reached or a statement fails.
    """
    connection = await asyncpg.connect(database_url, server_settings={"application_name": "oracle migrate"})
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
        # Not with IF NOT EXISTS: that asks for rights which the application has not got, and needs not to look.
        if not await connection.fetchval("SELECT to_regclass('migrations') IS NOT NULL"):
            await connection.execute(_LEDGER)
        missing = await pending(connection)
        applied = 0
        for migration in missing:
            if migration.stage == "post" and stage == "pre":
                break
            await apply(connection, migration)
            applied += 1
        await settle(connection)
    except asyncpg.InsufficientPrivilegeError as exc:
        raise SchemaError(f"this role may not migrate: {exc}. Name the owner by ORACLE_DATABASE_OWNER_URL") from exc
    else:
        return applied
    finally:
        await connection.close()  # lets the advisory lock go, too


async def pending(connection: asyncpg.Connection) -> list[Migration]:
    rows = await connection.fetch("SELECT number, stage, name FROM migrations")
    there = {Migration(r["number"], r["stage"], r["name"]) for r in rows}
    mine = known()
    newer = there - set(mine)
    if newer:
        last = max(newer, key=lambda m: m.order)
        raise SchemaError(
            f"the database was made by a newer version (migration {last.number:04}_{last.stage}_{last.name})"
        )
    return [m for m in mine if m not in there]


async def apply(connection: asyncpg.Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        await connection.execute(migration.sql())
        await connection.execute(
            "INSERT INTO migrations (number, stage, name) VALUES ($1, $2, $3)",
            migration.number, migration.stage, migration.name,
        )  # fmt: skip


async def settle(connection: asyncpg.Connection) -> None:
    """Only where 0003 has been applied; rights are given by the owner."""
    if not await connection.fetchval("SELECT to_regproc('application_grants') IS NOT NULL"):
        return
    async with connection.transaction():
        await connection.execute(
            "SELECT application_grants(rolname) FROM pg_roles WHERE rolname = $1"
            " AND (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'events'::regclass)",
            APPLICATION_ROLE,
        )
        await connection.execute(_NO_SHADOWS)
    # Somebody may be reading history for long: months are made ahead, and the process that seals tries again.
    with suppress(asyncpg.LockNotAvailableError):
        async with connection.transaction():
            await connection.execute("SELECT events_partitions_ahead()")
