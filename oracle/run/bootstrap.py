"""The first operator's key: made while there is no operator, shown once.

`serve` makes it at its first start, if it is started at a terminal.  `oracle key bootstrap` makes it for anyone who can
write the database: after the last operator's key has expired, or where nobody saw the first start.  With --force it
makes one even if an operator exists: a lost key stays valid until it expires, and would lock everybody out.  It is an
operator's key like any other and expires after a week.  Its purpose is to issue the keys that people work with.  Its
event says who forced it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from oracle.api.admin.access import hash_of, new_credential_id, new_secret, token_of
from oracle.identity.identity import Role
from oracle.store.queries import QUERIES
from oracle.store.servers import connect

VALID_FOR: Final = timedelta(days=7)


async def bootstrap(database_url: str, *, forced_by: str | None = None) -> str | None:
    """Make the first key and return it; None when there is an operator already.  Raises what asyncpg raises.

    `forced_by`: the person who gets a key even if an operator exists.
    """
    # An open transaction of somebody else must not block the start of the service forever.
    connection = await connect(database_url, "oracle bootstrap", {"lock_timeout": "10000"})
    try:
        async with connection.transaction():
            # Of ten services that start at once, one makes the key: the others wait here, and then see it.
            await connection.execute("LOCK TABLE credentials IN SHARE ROW EXCLUSIVE MODE")
            reason = "the first key"
            if await connection.fetchval(QUERIES["operators_exist"]):
                if forced_by is None:
                    return None
                reason = f"forced by {forced_by} while an operator existed"
            context = ("admin", "bootstrap", "operator", "", "", reason, "", "")
            await connection.execute(QUERIES["transaction_begin"], *context)
            credential_id, secret = new_credential_id(), new_secret()
            expires_at = datetime.now(UTC) + VALID_FOR
            await connection.execute(
                QUERIES["credential_add"],
                credential_id,
                Role.OPERATOR,
                None,
                "bootstrap",
                expires_at,
                None,
                "bootstrap",
            )
            await connection.execute(QUERIES["secret_add"], credential_id, hash_of(secret))
    finally:
        await connection.close()
    return token_of(credential_id, secret)
