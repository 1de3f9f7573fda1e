"""The script that makes the roles of PostgreSQL, run by psql as the image of PostgreSQL and a person run it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import asyncpg
import pytest
from deploy_tools import TOP

from oracle.run.embedded.binaries import find_postgres_binaries
from oracle.store.migrate import migrate

if TYPE_CHECKING:
    from conftest import StartPostgres

SCRIPT = TOP / "deploy" / "compose" / "postgres-roles.sh"
# Characters that end a word, a quotation or a URL somewhere.
OWNER, SERVICE = "own/er@'pw\"$x`", "ser vice#%41\\"


async def test_the_roles_can_migrate_and_serve_but_not_change_history(start_postgres: StartPostgres) -> None:
    server = await start_postgres()
    place = {"host": str(server.run), "user": "postgres"}
    administrator = await asyncpg.connect(**place, database="postgres")
    await administrator.execute("DROP DATABASE oracle")  # the embedded server makes what the script makes
    await administrator.execute("DROP ROLE oracle_service, oracle_app")
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs here
        ["sh", str(SCRIPT)],
        env={
            "PATH": f"{find_postgres_binaries(server.data)}:{os.environ['PATH']}", "PGHOST": str(server.run),
            "ORACLE_OWNER_PASSWORD": OWNER, "ORACLE_SERVICE_PASSWORD": SERVICE,
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    hashes = await administrator.fetch("SELECT rolname, rolpassword FROM pg_authid WHERE rolname ^@ 'oracle_'")
    assert {row["rolname"]: row["rolpassword"] is not None for row in hashes} == {
        "oracle_app": False, "oracle_owner": True, "oracle_service": True,
    }  # fmt: skip
    await administrator.close()
    assert await migrate(f"postgresql://oracle_owner@/oracle?host={server.run}", "post") > 0
    service = await asyncpg.connect(host=str(server.run), user="oracle_service", database="oracle")
    assert await service.fetchval("SELECT count(*) FROM aliases") == 0
    for statement in ("DELETE FROM events", "CREATE TABLE mine ()", "CREATE TEMPORARY TABLE mine ()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute(statement)
    await service.close()
