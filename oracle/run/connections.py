"""How many connections to PostgreSQL this service can open, and whether PostgreSQL has as many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from oracle.run.order import Role, count_processes

if TYPE_CHECKING:
    from oracle.settings import Settings
    from oracle.store.rows import ConnectionsRow

# Of one process: the table in docs/operate.md.
MOST: Final[dict[Role, int]] = {"hub": 14, "admin": 27, "jobs": 27, "account-lookup": 14, "oracles": 14}
COMMANDS: Final = 8  # of people, beside the service
RESERVED: Final = 3  # PostgreSQL keeps as many for superusers
LISTEN_S: Final = 3.0


def count_connections(settings: Settings, roles: Sequence[Role]) -> int:
    """Count what the processes of these roles can open, while one of them is replaced."""
    most = max(MOST[role] for role in roles)
    return sum(MOST[role] * count_processes(settings, role) for role in roles) + most


async def find_shortage(url: str, settings: Settings, roles: Sequence[Role]) -> str:
    """Return a sentence, with its remedy, if PostgreSQL has fewer connections than the service can open; else ''.

    Raises what `store.servers.connect` raises.
    """
    from oracle.store.queries import QUERIES  # noqa: PLC0415 - as asyncpg
    from oracle.store.servers import Servers  # noqa: PLC0415 - as asyncpg

    connection = await Servers(url).connect("oracle check", timeout_s=LISTEN_S)
    try:
        row: ConnectionsRow = await connection.fetchrow(QUERIES["connections_left"])
    finally:
        connection.terminate()
    return describe_shortage(row, count_connections(settings, roles))


async def find_superuser(url: str) -> str:
    """Return a sentence, with its remedy, if the role of the service is a superuser; else ''.  Raises as above."""
    from oracle.store.servers import Servers  # noqa: PLC0415 - as asyncpg

    connection = await Servers(url).connect("oracle check", timeout_s=LISTEN_S)
    try:
        is_superuser = await connection.fetchval("SHOW is_superuser") == "on"
    finally:
        connection.terminate()
    return (
        "The role of ORACLE_DATABASE_URL is a superuser, so it can change history and what protects it. Use a role that"
        " owns nothing: docs/audit.md, Roles of the database, shows how to make one"
        if is_superuser
        else ""
    )


def describe_shortage(row: ConnectionsRow, needed: int) -> str:
    """Describe a limit that is too low; '' if there is none."""
    free = row["connections_max"] - row["reserved"] - row["used"]
    if free < needed:
        return (
            f"PostgreSQL has too few connections: this service can open {needed}, and {free} are free"
            f" (max_connections {row['connections_max']}, reserved {row['reserved']}, in use {row['used']}). Raise"
            " max_connections, or lower ORACLE_WORKERS"
        )
    for name, limit in (("role", row["role_max"]), ("database", row["database_max"])):
        if 0 <= limit < needed:
            return (
                f"The {name} of ORACLE_DATABASE_URL can have too few connections: this service can open {needed}, and"
                f" the limit is {limit}. Raise it: ALTER {name.upper()} … CONNECTION LIMIT {needed}"
            )
    return ""
