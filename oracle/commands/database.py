"""What a command works with: the settings, and the database that they name.

With none named, it is that of a running `serve` on the same data directory; with none running, the same PostgreSQL is
started for as long as the command needs it.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from oracle.settings import Loaded, Settings
    from oracle.store.migrate import Stage


def loaded(arguments: argparse.Namespace) -> Loaded:
    from oracle.settings import load

    return load(os.environ, arguments.config)


@asynccontextmanager
async def database(settings: Settings, *, migrated: bool = False, owner: bool = False) -> AsyncIterator[str]:
    """The URL to work with, if wanted as the owner.  A database of our own is brought to our schema first, if wanted.

    Where a `serve` is running, only as far as its version can live with, should it be an older one.
    """
    if settings.database_url is not None:
        yield (settings.database_owner_url if owner else None) or settings.database_url
        return
    from oracle.run.embedded import join_embedded, running
    from oracle.store.migrate import migrate

    stage: Stage = "pre" if running(settings.data_dir) else "post"
    async with join_embedded(settings.data_dir) as embedded:
        if migrated:
            await migrate(embedded.owner_url or "", stage)
        yield (embedded.owner_url if owner else embedded.database_url) or ""
