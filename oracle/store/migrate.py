"""Brings a database to the schema of this program: migrations/NNNN_{pre,post}_name.sql, each applied once, in order.

Stage.     A *pre* migration runs before the new program starts, and must suit the old one too.  A *post* migration runs
           when no old program is left.  `migrate` applies both; with stage="pre" it stops before the first post
           migration that is not applied.
Newer.     A pre migration that this program does not know suits it: a newer program has begun an upgrade.  After a post
           migration that it does not know, this program can work no more.
Once.      Ten processes that start at once apply each migration once: an advisory lock makes the others wait, and then
           they find nothing to do.  They wait for a limited time, and name the session that holds the lock.
Lock.      Each file is one transaction, under a lock timeout.  A migration that waits behind a long query fails;
           otherwise every lookup would wait behind the migration.
After it.  Each run also does what follows from the schema: it grants the application's role its rights on new tables,
           and makes the partitions of history and of the records of who asked, for the coming months.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, Literal

import asyncpg
import msgspec

from oracle.store.servers import connect
from oracle.telemetry import logs

Stage = Literal["pre", "post"]

log = logs.Log(__name__)

# Any number that nobody else uses: "alias" in ASCII.
ADVISORY_LOCK: Final = 0x616C696173
LOCK_TIMEOUT_MS: Final = 4_000
WAIT_S: Final = 60.0  # for another session that migrates
# A member of this role can do what the application does.  It can change neither history nor the schema.
APPLICATION_ROLE: Final = "oracle_app"
FOLDER: Final = files("oracle.store").joinpath("migrations")

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


# A temporary table hides ours of the same name: with one called events, an alias could change without an event.
_NO_TEMPORARY_TABLES = """
DO $$ BEGIN
    IF has_database_privilege('oracle_app', current_database(), 'TEMPORARY') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    NULL;  -- this role has no right to revoke it, or there is no such role: see docs/audit.md
END $$
"""


# Up to PostgreSQL 14 every role can create tables in the schema public, and a superuser owns it.
_OPEN_SCHEMA: Final = """
SELECT current_schema() FROM pg_roles WHERE rolname = $1 AND has_schema_privilege(oid, current_schema(), 'CREATE')
"""


# PostgreSQL shows the two halves of the number of an advisory lock.
_HOLDER: Final = """
SELECT pid, coalesce(usename, '?') AS role, coalesce(nullif(application_name, ''), '?') AS application,
       coalesce(date_trunc('second', backend_start)::text, '?') AS since
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datname = current_database()
  AND classid = ($1::bigint >> 32)::oid AND objid = ($1::bigint & 4294967295)::oid
"""


class SchemaError(Exception):
    """The program cannot work on this database; the text is one line for the operator."""


class Migration(msgspec.Struct, frozen=True):
    number: int
    stage: str
    name: str
    sql: str

    def __str__(self) -> str:
        return f"{self.number:04}_{self.stage}_{self.name}"


def read_migrations(folder: Traversable = FOLDER) -> list[Migration]:
    """Read the migrations of a folder, in the order in which they are applied."""
    named = ((_FILE.fullmatch(file.name), file) for file in folder.iterdir())
    found = [Migration(int(m[1]), m[2], m[3], file.read_text(encoding="utf-8")) for m, file in named if m]
    return sorted(found, key=lambda migration: (migration.number, migration.stage == "post"))


def _log_wait(holder: str) -> None:
    log.warning("Another session migrates the database; waiting for it", holder=holder)


async def migrate(
    database_url: str,
    stage: Stage = "post",
    *,
    migrations: Sequence[Migration] | None = None,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    wait_s: float = WAIT_S,
    on_wait: Callable[[str], object] = _log_wait,
) -> int:
    """Apply the migrations that are missing (by default of this program's); return how many.

    `wait_s`: how long to wait for another session that migrates; `on_wait` is called with a text that names it.

    Raises SchemaError when the database has post migrations that this program does not know (a newer version made it),
    when the role has no right to migrate, or when the other session does not end in time.  Raises any error of asyncpg
    when the database cannot be reached or a statement fails, and UnfitSession.
    """
    connection = await connect(database_url, "oracle migrate")
    try:
        async with _hold_lock(connection, wait_s, on_wait):
            # Not with IF NOT EXISTS: that needs rights which the application does not have, and a look needs none.
            if not await connection.fetchval("SELECT to_regclass('migrations') IS NOT NULL"):
                await connection.execute(_LEDGER)
            applied = 0
            for migration in _find_missing(
                await _list_applied(connection), read_migrations() if migrations is None else migrations
            ):
                if migration.stage == "post" and stage == "pre":
                    break
                await _apply(connection, migration, lock_timeout_ms)
                applied += 1
            await _grant_and_partition(connection)
    except asyncpg.InsufficientPrivilegeError as exc:
        raise SchemaError(
            f"this role may not migrate: {exc}. Set ORACLE_DATABASE_OWNER_URL to the owner's URL"
        ) from exc
    else:
        return applied
    finally:
        await connection.close()


@asynccontextmanager
async def _hold_lock(
    connection: asyncpg.Connection, wait_s: float, on_wait: Callable[[str], object]
) -> AsyncIterator[None]:
    """Hold the lock of migrations while the block runs.  Raises SchemaError when another session keeps it."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", ADVISORY_LOCK):
        on_wait(_describe(await connection.fetchrow(_HOLDER, ADVISORY_LOCK)))
        try:
            await connection.execute(f"SET lock_timeout = {max(1, int(wait_s * 1000))}")
            await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
        except asyncpg.LockNotAvailableError as exc:
            raise SchemaError(_explain_holder(await connection.fetchrow(_HOLDER, ADVISORY_LOCK), wait_s)) from exc
        await connection.execute("SET lock_timeout = 0")
    try:
        yield
    finally:
        # Not only by the end of the session, which can be later than that of this connection.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await connection.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK)


def _describe(holder: asyncpg.Record | None) -> str:
    if holder is None:
        return "a session that has just ended"
    return (
        f"process {holder['pid']} of PostgreSQL (role {holder['role']}, application {holder['application']},"
        f" connected since {holder['since']})"
    )


def _explain_holder(holder: asyncpg.Record | None, wait_s: float) -> str:
    text = f"waited {wait_s:g} s for the lock of migrations, which {_describe(holder)} holds. Wait until it ends"
    return text if holder is None else f"{text}. If it does not migrate: SELECT pg_terminate_backend({holder['pid']})"


async def check_schema(database_url: str, *, migrations: Sequence[Migration] | None = None) -> None:
    """Check that this program can work on the database.  It needs no rights but those of the application.

    Raises SchemaError with the command to run when a pre migration is missing, and as `migrate` does.  Makes the
    partitions of the coming months on the way, as `migrate` does.
    """
    known = read_migrations() if migrations is None else migrations
    connection = await connect(database_url, "oracle migrate")
    try:
        has_ledger = await connection.fetchval("SELECT to_regclass('migrations') IS NOT NULL")
        applied = await _list_applied(connection) if has_ledger else []
        missing = _find_missing(applied, known)
        wanted = next((migration for migration in missing if migration.stage == "pre"), None)
        if wanted is not None:
            raise SchemaError(_explain_missing(wanted, missing, fresh=not applied))
        await _grant_and_partition(connection)
    finally:
        await connection.close()


def _explain_missing(wanted: Migration, missing: Sequence[Migration], *, fresh: bool) -> str:
    owner = "with ORACLE_DATABASE_OWNER_URL, the URL of the owner of the tables"
    if fresh:
        return f"the database has no schema yet; run: oracle migrate ({owner})"
    if missing[0].stage == "post":
        return (
            f"the database lacks the migrations {missing[0]} and {wanted}: stop the older versions of the oracle, "
            f"then run: oracle migrate --stage post ({owner})"
        )
    return f"the database lacks the migration {wanted}; run: oracle migrate --stage pre ({owner})"


async def _list_applied(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT number, stage, name FROM migrations ORDER BY number, stage DESC")
    return [f"{row['number']:04}_{row['stage']}_{row['name']}" for row in rows]


def _find_missing(applied: Sequence[str], migrations: Sequence[Migration]) -> list[Migration]:
    """Return the migrations that are not applied.  Raises SchemaError, or logs, when a newer version was here."""
    known = {str(migration) for migration in migrations}
    newer = [name for name in applied if name not in known]
    for name in newer:
        found = _FILE.fullmatch(f"{name}.sql")
        if found is None or found[2] == "post":
            raise SchemaError(
                f"the database is of a newer version (migration {name}): start that version of the oracle"
            )
    if newer:
        log.warning(
            "A newer version has begun to upgrade the database; this version still works with it", migration=newer[-1]
        )
    return [migration for migration in migrations if str(migration) not in applied]


async def _apply(connection: asyncpg.Connection, migration: Migration, lock_timeout_ms: int) -> None:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {lock_timeout_ms}")
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO migrations (number, stage, name) VALUES ($1, $2, $3)",
            migration.number, migration.stage, migration.name,
        )  # fmt: skip


async def _grant_and_partition(connection: asyncpg.Connection) -> None:
    """Grant rights on new tables, if this role is the owner, and make partitions.  Nothing before migration 0003."""
    if not await connection.fetchval("SELECT to_regproc('application_grants') IS NOT NULL"):
        return
    async with connection.transaction():
        await connection.execute(
            "SELECT application_grants(rolname) FROM pg_roles WHERE rolname = $1"
            " AND (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'events'::regclass)",
            APPLICATION_ROLE,
        )
        await connection.execute(_NO_TEMPORARY_TABLES)
        if schema := await connection.fetchval(_OPEN_SCHEMA, APPLICATION_ROLE):
            log.warning(
                "The role of the application can create tables and functions beside those of the directory, and only a"
                " superuser can forbid it: run REVOKE CREATE ON SCHEMA … FROM PUBLIC, see docs/audit.md",
                schema=schema, role=APPLICATION_ROLE,
            )  # fmt: skip
    # A long query on history can hold a lock.  Months are made ahead, and the process that seals tries again.
    with suppress(asyncpg.LockNotAvailableError):
        async with connection.transaction():
            await connection.execute("SELECT events_partitions_ahead()")
    with suppress(asyncpg.LockNotAvailableError):
        async with connection.transaction():
            if await connection.fetchval("SELECT to_regproc('audit_reads_partitions_ahead') IS NOT NULL"):
                await connection.execute("SELECT audit_reads_partitions_ahead()")
