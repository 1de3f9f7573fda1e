"""Watches how long committed events wait to be sealed.

Who.     A process that does not seal asks the database.  A sealer that cannot work reports nothing.
Alarm.   The metric `audit_waiting_seconds`, and an error in the log, repeated, while the wait is longer than the limit
         (`audit_waiting_max_s`).  `/health` shows the same (`api/health`).
Reasons. No process seals (its key file is gone, its key was replaced, it stopped), or a transaction stays open: events
         are sealed in the order of their transactions, up to the first one that still runs.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from oracle.audit import log
from oracle.errors import DirectoryUnavailable
from oracle.store.postgres import Postgres
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

ASK_EVERY_S: Final = 5.0
REPEAT_S: Final = 300.0

_log = logs.Log(__name__)


async def watch(postgres: Postgres, metrics: Metrics, limit_s: float, *, every_s: float = ASK_EVERY_S) -> None:
    """Ask the database again and again, until cancelled.  `postgres` has a lane for the desk."""
    condition = logs.Condition(
        _log, "Sealing of history", good="is in time", level=logging.ERROR, repeat_s=REPEAT_S, quiet_s=0
    )
    while True:
        try:
            async with postgres.desk.lend(**log.CONNECTION_SETTINGS) as connection:
                waiting_s = await log.fetch_waiting(connection)
        except DirectoryUnavailable:
            pass  # the last value remains; /health reports the database
        except Exception as exc:  # noqa: BLE001 - if this loop ended, nothing would raise the alarm
            condition.now("is unknown", exc=exc)
        else:
            metrics.set("audit_waiting_seconds", waiting_s)
            if waiting_s > limit_s:
                condition.now("is late: see the log of the jobs process, and open transactions", waiting_s=waiting_s)
            else:
                condition.now("is in time")
        await asyncio.sleep(every_s)
