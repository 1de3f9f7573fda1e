"""What a running service says of a PostgreSQL or a Redis that it cannot use: one line with the reason, no traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
from oracle_process import PATIENT, OracleProcess, start_oracle, until
from servers import valkey_command
from spoken import speak

from oracle.api.texts import translate
from oracle.store.migrate import migrate

if TYPE_CHECKING:
    from conftest import StartPostgres, StartValkey

    from oracle.run.embedded import PostgresServer


async def run_as_superuser(server: PostgresServer, *statements: str) -> None:
    connection = await asyncpg.connect(server.url("postgres", "postgres"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('oracle', 'elsewhere')"


async def stop(server: PostgresServer) -> None:
    await server.stop()


async def forbid_the_role(server: PostgresServer) -> None:
    await run_as_superuser(server, "ALTER ROLE oracle NOLOGIN", END)


async def permit_the_role(server: PostgresServer) -> None:
    await run_as_superuser(server, "ALTER ROLE oracle LOGIN")


async def leave_no_connection(server: PostgresServer) -> None:
    await run_as_superuser(server, "ALTER ROLE oracle CONNECTION LIMIT 0", END)


async def give_connections(server: PostgresServer) -> None:
    await run_as_superuser(server, "ALTER ROLE oracle CONNECTION LIMIT -1")


async def close_the_database(server: PostgresServer) -> None:
    await run_as_superuser(server, "ALTER DATABASE oracle ALLOW_CONNECTIONS false", END)


async def open_the_database(server: PostgresServer) -> None:
    await run_as_superuser(server, "ALTER DATABASE oracle ALLOW_CONNECTIONS true")


Act = Callable[["PostgresServer"], Awaitable[None]]
FAILURES: list[tuple[Act, Act, str]] = [
    (stop, lambda server: server.start(), "PostgreSQL has no socket in the directory of the URL"),
    (forbid_the_role, permit_the_role,
     "PostgreSQL does not accept this user from this machine: check the role, and pg_hba.conf"),
    (leave_no_connection, give_connections,
     "PostgreSQL has no connection left: raise max_connections, or the limit of the role or the database"),
    (close_the_database, open_the_database, "the database takes no connections"),
]  # fmt: skip


async def test_a_server_away_is_one_line_with_its_reason_and_one_when_it_is_back(
    tmp_path: Path, start_postgres: StartPostgres, start_valkey: StartValkey, complete: bool
) -> None:
    postgres, valkey = await start_postgres(), await start_valkey()
    await migrate(postgres.url())
    env = {**PATIENT, "ORACLE_DATABASE_URL": postgres.url(), "ORACLE_REDIS_URL": valkey.url()}
    with await asyncio.to_thread(start_oracle, tmp_path, env) as oracle:
        seals = "This process seals history now"
        await asyncio.to_thread(until, lambda: oracle.find_log_lines(seals))
        for go_away, come_back, reason in FAILURES if complete else FAILURES[:2]:
            begun = len(oracle.read_lines())
            await go_away(postgres)
            down = await asyncio.to_thread(wait_for_line, oracle, begun, f"datastore down: {reason}")
            await asyncio.to_thread(wait_for_reason, oracle, "datastore", down["event"])
            await come_back(postgres)
            await asyncio.to_thread(wait_for_line, oracle, begun, "datastore ok")
            await asyncio.to_thread(wait_for_line, oracle, begun, seals)
            check(oracle, begun, "datastore")

        await asyncio.to_thread(until, lambda: is_settled(oracle, "cache"))  # Redis counts a lease after PostgreSQL
        begun = len(oracle.read_lines())
        lock = ("CONFIG SET requirepass hush", "AUTH hush", "CLIENT KILL TYPE normal SKIPME yes")
        valkey_command(valkey, "\r\n".join(lock))
        hushed = "cache down: it wants a password, and the URL has none"
        down = await asyncio.to_thread(wait_for_line, oracle, begun, hushed)
        assert down["event"] == hushed
        await asyncio.to_thread(wait_for_reason, oracle, "cache", down["event"])
        valkey_command(valkey, 'AUTH hush\r\nCONFIG SET requirepass ""')
        await asyncio.to_thread(wait_for_line, oracle, begun, "cache ok")
        check(oracle, begun, "cache")


def wait_for_line(oracle: OracleProcess, begun: int, event: str) -> dict[str, Any]:
    """The first line of this event after those that were there."""
    found: list[dict[str, Any]] = []

    def is_found() -> bool:
        found[:] = [line for line in oracle.read_lines()[begun:] if line["event"].startswith(event)]
        return bool(found)

    until(is_found)
    return found[0]


def is_settled(oracle: OracleProcess, subject: str) -> bool:
    """Whether this server can be used, and the last line about it, if there is one, says that all workers can."""
    states = [line["event"] for line in oracle.read_lines() if line["event"].startswith(f"{subject} ")]
    return find_service(oracle, subject)["status"] == "OK" and (not states or states[-1] == f"{subject} ok")


def wait_for_reason(oracle: OracleProcess, name: str, event: str) -> None:
    """Wait until /health of the admin listener has the reason of this line: its process can notice it later.

    It is in the language of the caller.
    """
    until(lambda: f"{name} down: {find_reason(oracle, name)}" == event)
    spanish = speak("es", translate, event.removeprefix(f"{name} down: "))
    assert spanish not in event
    until(lambda: find_reason(oracle, name, "es") == spanish)


def find_reason(oracle: OracleProcess, name: str, code: str = "en") -> str:
    return str(find_service(oracle, name, code).get("reason"))


def find_service(oracle: OracleProcess, name: str, code: str = "en") -> dict[str, Any]:
    found = httpx.get(f"{oracle.admin_url}/health", timeout=60, headers={"accept-language": code})
    assert found.headers["content-language"] == code
    services: list[dict[str, Any]] = found.json()["services"]
    return next(each for each in services if each["name"] == name)


def check(oracle: OracleProcess, begun: int, subject: str) -> None:
    """One line of the whole service for each change of state; nothing of workers and jobs, and no traceback.

    On a busy machine a server stops and starts so slowly that the reasons on the way last, too: each is a state.  And
    one that works can be too slow for a while.
    """
    until(lambda: is_settled(oracle, subject))
    lines = oracle.read_lines()[begun:]
    states = [line for line in lines if line["event"].startswith(subject)]
    events = [line["event"] for line in states]
    assert len(events) >= 2
    assert all(event != following for event, following in pairwise(events)), lines
    assert {line["role"] for line in states} == {"supervisor"}
    assert not [line for line in lines if "exception" in line]
    assert not [line for line in lines if line["level"] != "info" and line["logger"] != states[0]["logger"]], lines
