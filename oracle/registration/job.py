"""Checks the registration at ALS again and again, in the jobs process, and makes what is missing.

One.       Of all processes on all machines, one does it (`store/leader`).
Report.    The metric als_registered, and a line in the log when it changes.  While ALS does not answer, the metric
           keeps what the last complete check found; als_checked_timestamp_seconds says when that was.
Bound.     With `replace`, at most REPLACEMENTS_HOUR_MAX rows in an hour: if two services replace each other's rows,
           lookups fail between each removal and creation.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import nan
from typing import TYPE_CHECKING, Final

import msgspec

from oracle.backoff import pause
from oracle.errors import DirectoryUnavailable
from oracle.jobs import assume_presence
from oracle.registration.als_admin import AlsFailed
from oracle.registration.registration import Unfinished
from oracle.registration.rows import MEANINGS, Act, Finding
from oracle.store.base import Context
from oracle.store.leader import IsAway, Leader
from oracle.telemetry import logs

if TYPE_CHECKING:
    import asyncio

    import asyncpg

    from oracle.registration.registration import Registration
    from oracle.telemetry.metrics import Metrics

JOB_LOCK: Final = 0x616C736A6F62
LOOK_S: Final = 10.0  # whether another machine has stopped
HEARTBEAT_S: Final = 10.0
REPEAT_S: Final = 300.0
HOUR_S: Final = 3600.0
REPLACEMENTS_HOUR_MAX: Final = 10
CONTEXT: Final = Context(channel="self-heal", actor="registration")

_log = logs.Log(__name__)


class RegistrationJob:
    """A job, see `jobs`."""

    def __init__(
        self,
        registration: Registration,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        metrics: Metrics,
        *,
        every_s: float,
        replace: bool,
        look_s: float = LOOK_S,
        is_away: IsAway = assume_presence,
    ) -> None:
        """`connect` opens the connection that holds the lock of the leader."""
        self._registration, self._connect, self._metrics = registration, connect, metrics
        self._every_s, self._replace, self._look_s, self._is_away = every_s, replace, look_s, is_away
        self._replaced_at: deque[float] = deque()
        self._leading = logs.Condition(_log, "The check of the registration at ALS")
        self._answers = logs.Condition(_log, "ALS", good="answers", repeat_s=REPEAT_S)
        self._condition = logs.Condition(
            _log, "The registration at ALS", good="is as wanted", level=logging.ERROR, repeat_s=REPEAT_S, quiet_s=0
        )

    async def run(self, stop: asyncio.Event) -> None:
        await Leader(
            self._connect, JOB_LOCK, self._lead, self._leading,
            look_s=self._look_s, heartbeat_s=HEARTBEAT_S, notice=self._leave_to_others, is_away=self._is_away,
        ).run(stop)  # fmt: skip

    async def _lead(self, _connection: asyncpg.Connection, stop: asyncio.Event) -> None:
        self._leading.now("ok")
        while not stop.is_set():
            await self._check()
            await pause(self._every_s, stop)

    async def _check(self) -> None:
        """Check once, and make what is missing.  Raises DirectoryUnavailable."""
        try:
            outcome = await self._registration.register(CONTEXT, replace=self._may_replace())
        except Unfinished as exc:
            self._note_acts(exc.acts)
            self._note_failure(exc)
            await self._report_as_it_is()
            return
        except AlsFailed as exc:
            self._note_failure(exc)
            return
        except DirectoryUnavailable:
            # Something is missing, and nothing is changed without its event.
            await self._report_as_it_is()
            self._condition.now("cannot be corrected while PostgreSQL is away")
            raise
        self._answers.now("answers")
        self._note_acts(outcome.acts)
        self._report(outcome.findings)

    def _may_replace(self) -> bool:
        now = time.monotonic()
        while self._replaced_at and now - self._replaced_at[0] > HOUR_S:
            self._replaced_at.popleft()
        if len(self._replaced_at) < REPLACEMENTS_HOUR_MAX:
            return self._replace
        if self._replace:
            _log.warning(
                "Rows of ALS were replaced too often in an hour; none is replaced until that hour ends. Find out who"
                " changes them: another service with other settings can be one",
                replaced=len(self._replaced_at),
            )
        return False

    def _note_acts(self, acts: Sequence[Act]) -> None:
        for act in acts:
            row = self._registration.describe(act.row)
            _log.warning("A row of ALS was changed", action=act.action, row=msgspec.json.encode(row).decode())
            if act.action == "removed":
                self._replaced_at.append(time.monotonic())

    async def _report_as_it_is(self) -> None:
        """Report what is missing and could not be made: lookups of the hub fail meanwhile."""
        with suppress(AlsFailed):  # it does not even answer: nobody knows
            self._report(await self._registration.examine())

    def _note_failure(self, error: AlsFailed) -> None:
        self._answers.now(f"cannot be checked: {error}", als=self._registration.als.url)

    def _report(self, findings: Sequence[Finding]) -> None:
        lost: dict[str, str] = {}
        for each in findings:
            if not each.is_registered:
                lost.setdefault(each.wanted.party_id_type, each.code)
        for party_id_type in {each.wanted.party_id_type for each in findings}:
            self._metrics.set("als_registered", float(party_id_type not in lost), party_id_type=party_id_type)
        self._metrics.set("als_checked_timestamp_seconds", time.time())
        if not lost:
            self._condition.now("is as wanted")
            return
        # The first type is enough for the sentence; `oracle als status` shows all of them.
        party_id_type, code = next(iter(lost.items()))
        self._condition.now(
            "is not as wanted: see `oracle als status`",
            types=", ".join(lost), party_id_type=party_id_type, reason=MEANINGS[code][0],  # type: ignore[index]
        )  # fmt: skip

    def _leave_to_others(self, works: bool) -> None:  # noqa: ARG002 - another machine checks, and reports
        for each in {wanted.party_id_type for wanted in self._registration.wanted}:
            self._metrics.set("als_registered", nan, party_id_type=each)
        self._metrics.set("als_checked_timestamp_seconds", nan)
