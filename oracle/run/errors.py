"""Why `oracle serve` or a command cannot go on: one line for the operator.

ServeError          an expected failure
  DatabaseError     PostgreSQL cannot be used; the text names it without its password
    DatabaseAway    it does not answer, or is starting: it can be used later
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from oracle.settings import mask_url

RETRY_S: Final = 0.5  # between two tries at a PostgreSQL that does not answer

Result = TypeVar("Result")


class ServeError(Exception):
    """An expected failure; its text is one line."""


class DatabaseError(ServeError):
    """PostgreSQL cannot be used; the text names it without its password."""


class DatabaseAway(DatabaseError):
    """PostgreSQL does not answer, or is starting: it can be used later."""


@contextmanager
def explain_database_errors(url: str) -> Iterator[None]:
    """Turn every error of PostgreSQL, or of the way to it, into a DatabaseError."""
    import ssl  # noqa: PLC0415 - as asyncpg

    import asyncpg  # noqa: PLC0415 - 0.1 s that listeners and workers need not wait for

    from oracle.store.diagnosis import explain  # noqa: PLC0415 - as asyncpg
    from oracle.store.sessions import UnfitSession  # noqa: PLC0415 - as asyncpg

    away = (
        asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError,
        asyncpg.PostgresConnectionError, asyncpg.TooManyConnectionsError,
    )  # fmt: skip

    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError) as exc:
        raise DatabaseError(f"database {mask_url(url)}: it has no schema yet; run: oracle migrate") from exc
    except UnfitSession as exc:
        raise DatabaseError(f"database {mask_url(url)}: {exc}") from exc
    except (asyncpg.PostgresError, OSError) as exc:
        reason = explain(exc)
        if isinstance(exc, asyncpg.PostgresError) or not reason:
            # The first line alone: the details behind it hold values.
            said = next(iter(str(exc).splitlines()), "") or type(exc).__name__
            reason = f"{reason} ({said})" if reason else said
        later = isinstance(exc, away) or (isinstance(exc, OSError) and not isinstance(exc, ssl.SSLError))
        raise (DatabaseAway if later else DatabaseError)(f"database {mask_url(url)}: {reason}") from exc
    except KeyError as exc:
        if "getpwuid" not in str(exc):
            raise
        # The driver asks the machine for the name of the user, if the URL has none.
        raise DatabaseError(f"database {mask_url(url)}: the URL must name its user: postgresql://USER@...") from exc
    except asyncpg.ClientConfigurationError as exc:
        raise DatabaseError(f"database {mask_url(url)}: {_explain_configuration(exc)}") from exc
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as exc:
        # Without their text, which quotes parts of the URL.  The second comes from a server that has just died.
        raise DatabaseError(
            f"database {mask_url(url)}: cannot be used: check each part of the URL, and that PostgreSQL runs"
        ) from exc


def _explain_configuration(error: Exception) -> str:
    """Explain what the driver cannot use.  Its texts can quote parts of the URL, except for this one."""
    reason = str(error).partition("\n")[0]
    if reason.startswith("root certificate file"):
        return f"{reason}; name another one in the URL: sslrootcert=FILE, or sslrootcert=system"
    return "cannot be used: check each part of the URL"


async def wait_for_database(
    act: Callable[[], Awaitable[Result]], wait_s: float, on_wait: Callable[[str, float], object]
) -> Result:
    """Return the result of `act`; try again for `wait_s` seconds while the database is away.  Raises what `act` raises.

    `on_wait` is called with each new reason, and with the seconds that are left.
    """
    ends_at, seen = time.monotonic() + wait_s, ""
    while True:
        try:
            return await act()
        except DatabaseAway as exc:
            if time.monotonic() >= ends_at:
                raise
            if str(exc) != seen:
                seen = str(exc)
                on_wait(seen, ends_at - time.monotonic())
        await asyncio.sleep(RETRY_S)
