"""The settings of a command, and the database that they name.

Without ORACLE_DATABASE_URL, a command uses the database of a running `serve` on the same data directory.  When none
runs, the command starts the same PostgreSQL and stops it at the end.  ORACLE_DATABASE_OWNER_URL alone is enough for a
command that works as the owner; the others refuse it, because the embedded PostgreSQL is another database.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from oracle.settings import Configuration, Settings
    from oracle.store.migrate import Stage


def load_settings(arguments: argparse.Namespace) -> Configuration:
    """Read `--config` and the environment.  Raises SettingsError."""
    from oracle.settings import load

    return load(os.environ, arguments.config)


@asynccontextmanager
async def open_database(
    settings: Settings, *, migrate_own: bool = False, owner: bool = False, create: bool = False, without: str = ""
) -> AsyncIterator[str]:
    """Yield the URL to connect to; with `owner`, as the owner of the tables.  Raises SettingsError.

    Every failure of PostgreSQL inside the block leaves it as one line (DatabaseError).
    `create` makes the embedded PostgreSQL if there is none; without it that is a mistake, for example a command in
    another working directory than that of `serve`.
    `without` is what a person can do who has no database.
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
    if not create:
        _require_own(settings.data_dir, without)
    from oracle.run.embedded import find_running, join_embedded
    from oracle.store.migrate import migrate

    stage: Stage = "pre" if find_running(settings.data_dir) else "post"
    async with join_embedded(settings.data_dir) as embedded:
        url = (embedded.owner_url if owner else embedded.database_url) or ""
        with explain_database_errors(url):
            if migrate_own:
                await migrate(embedded.owner_url or "", stage)
            yield url


def _require_own(data_dir: Path, without: str) -> None:
    """Refuse a data directory without a PostgreSQL; one that cannot be read is refused where it is opened."""
    from oracle.commands.failures import Unreachable

    with suppress(PermissionError, NotADirectoryError):
        try:
            (data_dir / "postgres").stat()
        except FileNotFoundError:
            way = "Set ORACLE_DATABASE_URL, or set ORACLE_DATA_DIR to the data directory of `oracle serve`"
            raise Unreachable(
                f"there is no PostgreSQL in {data_dir.resolve()}, and ORACLE_DATABASE_URL is not set",
                f"{way}. {without}" if without else way,
            ) from None
