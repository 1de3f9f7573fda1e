"""No secret of a credential comes, ends or comes back without a trace, and no refused call is forgotten soon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sealing import as_superuser

HASH, OTHER_HASH = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
async def application(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """What a person can do who has the application's password, on a directory with an operator's credential."""
    connection = await asyncpg.connect(as_superuser(database_url))
    try:
        await connection.execute(
            "INSERT INTO credentials (credential_id, role, label, created_by)"
            " VALUES ('bossbossboss', 'operator', 'the boss', 'x')"
        )
        await connection.execute("SET ROLE oracle_app")
        yield connection
    finally:
        await connection.close()


async def list_events(connection: asyncpg.Connection) -> list[tuple[str, Any, Any]]:
    rows = await connection.fetch("SELECT action, before, after FROM events WHERE entity = 'secret' ORDER BY event_id")
    return [(row["action"], *(json.loads(row[side] or "null") for side in ("before", "after"))) for row in rows]


async def add(connection: asyncpg.Connection, secret: bytes = HASH) -> None:
    await connection.execute(
        "INSERT INTO credential_secrets (credential_id, secret_sha256) VALUES ('bossbossboss', $1)", secret
    )


async def test_a_secret_added_with_the_password_of_the_application_is_an_event(application: asyncpg.Connection) -> None:
    await add(application)
    ((action, before, after),) = await list_events(application)
    assert (action, before) == ("registered", None)
    assert after["credential_id"] == "bossbossboss"
    assert set(after) == {"credential_id", "created_at", "expires_at"}, "never the hash"


async def test_the_end_of_a_secret_is_an_event_and_final(application: asyncpg.Connection) -> None:
    await add(application)
    await application.execute("UPDATE credential_secrets SET expires_at = now() - interval '1 hour'")
    await application.execute("UPDATE credential_secrets SET expires_at = expires_at")
    events = await list_events(application)
    assert [action for action, _, _ in events] == ["registered", "changed"]
    assert events[1][1]["expires_at"] == "infinity"
    assert events[1][2]["expires_at"] != "infinity"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE credential_secrets SET expires_at = 'infinity'",
        "UPDATE credential_secrets SET secret_sha256 = $1",
        "UPDATE credential_secrets SET created_at = now() - interval '1 year'",
        "UPDATE credential_secrets SET credential_id = 'else'",
        "DELETE FROM credential_secrets",
        "TRUNCATE credential_secrets",
        "ALTER TABLE credential_secrets DISABLE TRIGGER ALL",
    ],
)
async def test_a_secret_cannot_come_back_or_become_another_one(application: asyncpg.Connection, change: str) -> None:
    await add(application)
    await application.execute("UPDATE credential_secrets SET expires_at = now() - interval '1 hour'")
    before = await application.fetch("SELECT * FROM credential_secrets")
    with pytest.raises(asyncpg.PostgresError):
        await application.execute(change, *([OTHER_HASH] if "$1" in change else []))
    assert await application.fetch("SELECT * FROM credential_secrets") == before


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM access_refusals", "UPDATE access_refusals SET reason = 'x'", "TRUNCATE access_refusals"],
)
async def test_a_refused_call_stays_on_record(application: asyncpg.Connection, change: str) -> None:
    add_one = (
        "INSERT INTO access_refusals (at, method, route, status, reason) VALUES (now() - $1::interval, '', '', 401, '')"
    )
    await application.execute(add_one.replace("$1", "'89 days'"))
    with pytest.raises(asyncpg.PostgresError):
        await application.execute(change)
    await application.execute(add_one.replace("$1", "'91 days'"))
    await application.execute("DELETE FROM access_refusals WHERE at < now() - interval '90 days'")
    assert await application.fetchval("SELECT count(*) FROM access_refusals") == 1
