"""Watches whether uploaded files advance.

Who.     A process that does not import asks the database, so that it also notices when no process imports.
What.    The files whose turn it is: those that are read, and for each FSP the one that is applied.  Files behind them
         wait, which is no fault.  The time counts from the first look that saw the file as it is now.
Reasons. A lock on the directory that somebody holds, a defect that puts the file aside, no jobs process.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from oracle.errors import DirectoryUnavailable
from oracle.imports.import_limits import IMPORT_LIMITS
from oracle.store.postgres import Postgres
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

LOOK_EVERY_S: Final = 5.0

_log = logs.Log(__name__)


async def watch(postgres: Postgres, metrics: Metrics, *, every_s: float = LOOK_EVERY_S) -> None:
    """Publish for how long the file that advanced least lately has not advanced, until cancelled; 0 without files.

    `postgres` has a lane for the desk.
    """
    condition = logs.Condition(_log, "Progress of files", good="is known")
    seen: dict[int, tuple[int, float]] = {}
    while True:
        # Away: the last states remain, because a file cannot advance without PostgreSQL.
        with suppress(DirectoryUnavailable):
            try:
                rows = await postgres.desk.rows("batches_on_turn", IMPORT_LIMITS.files_read_max)
            except DirectoryUnavailable:
                raise
            except Exception as exc:  # noqa: BLE001 - if this loop ended, nothing would raise the alarm
                condition.now("is unknown", exc=exc)
            else:
                condition.now("is known")
                now = time.monotonic()
                seen = {
                    row["batch_id"]: old
                    if (old := seen.get(row["batch_id"])) is not None and old[0] == row["version"]
                    else (row["version"], now)
                    for row in rows
                }
        now = time.monotonic()
        metrics.set("import_stalled_seconds", max((now - since for _, since in seen.values()), default=0.0))
        await asyncio.sleep(every_s)
