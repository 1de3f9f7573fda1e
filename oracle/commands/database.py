"""The settings of a command, and the database that they name.

Without ORACLE_DATABASE_URL, a command uses the database of a running `serve` on the same data directory.  When none
runs, the command starts the same PostgreSQL and stops it at the end.  ORACLE_DATABASE_OWNER_URL alone is enough for a
command that works as the owner; the others refuse it, because the embedded PostgreSQL is another database.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oracle.settings import Configuration, Settings
    from oracle.store.migrate import Stage


def load_settings(arguments: argparse.Namespace) -> Configuration:
    """Read `--config` and the environment.  Raises SettingsError."""
    from oracle.settings import load

    return load(os.environ, arguments.config)


@asynccontextmanager
async def open_database(settings: Settings, *, migrate_own: bool = False, owner: bool = False) -> AsyncIterator[str]:
    """Yield the URL to connect to; with `owner`, as the owner of the tables.  Raises SettingsError.

    Every failure of PostgreSQL inside the block leaves it as one line (DatabaseError).
    `migrate_own` first migrates an embedded database.  Beside a running `serve`, which can be an older version, it
    applies only the migrations that such a version can work with.
    """
    from oracle.run.errors import explain_database_errors
    from oracle.settings import require_database_url

    named = (settings.database_owner_url if owner else None) or settings.database_url
    if named is not None:
        with explain_database_errors(named):
            yield named
        return
    require_database_url(settings)
    from oracle.run.embedded import find_running, join_embedded
    from oracle.store.migrate import migrate

    stage: Stage = "pre" if find_running(settings.data_dir) else "post"
    async with join_embedded(settings.data_dir) as embedded:
        url = (embedded.owner_url if owner else embedded.database_url) or ""
        with explain_database_errors(url):
            if migrate_own:
                await migrate(embedded.owner_url or "", stage)
            yield url
