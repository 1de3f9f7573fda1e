"""Registration: examines the rows of ALS, and changes them until they are as wanted.  Each change has its event.

One.       A process that changes ALS holds an advisory lock of PostgreSQL, so two never do it at the same time.  Under
           the lock it reads the rows again before each change.
Event.     It is written before ALS is called, and committed after ALS has answered: without PostgreSQL nothing is
           changed, and a change that ALS refuses leaves no event.  Where the answer is lost, the rows of ALS show what
           happened.  If they cannot be read either, the event is committed: the change can have been made.
End.       One call makes as many changes as its first reading asked for, and at most one more for each wanted row.
           Without this bound, another service that creates its rows again at once would keep it at work without an
           end, with an event each time.
Between.   A row that is replaced is missing for a moment.  If its creation fails, it is tried again at once, and by the
           jobs process at its next check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec

from oracle.errors import DirectoryUnavailable
from oracle.registration.als_admin import AlsAdmin, AlsFailed, RowExists
from oracle.registration.rows import Act, Finding, Row, Wanted, examine, list_wanted
from oracle.settings import Settings, mask_url
from oracle.store.base import Context
from oracle.store.lanes import is_unavailable
from oracle.store.leader import close
from oracle.store.queries import QUERIES
from oracle.telemetry import logs

if TYPE_CHECKING:
    from oracle.calls import Caller
    from oracle.store.servers import Servers

CHANGE_LOCK: Final = 0x616C73726F77
# For `connect`: a change waits for another process that changes ALS, and then for ALS itself.
CONNECTION_SETTINGS: Final = {
    "lock_timeout": "20000",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "60000",
}
CREATION_PAUSES_S: Final = (0.2, 0.5, 1.0)

_log = logs.Log(__name__)

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Outcome(msgspec.Struct, frozen=True):
    """What ALS has now, and what was changed."""

    findings: tuple[Finding, ...]
    acts: tuple[Act, ...] = ()

    @property
    def is_registered(self) -> bool:
        return all(each.is_registered for each in self.findings)


class Unfinished(AlsFailed):
    """ALS failed after some changes, or during one: `acts` were made."""

    def __init__(self, text: str, acts: Sequence[Act], *, unknown: bool = False) -> None:
        super().__init__(text, unknown=unknown)
        self.acts = tuple(acts)


def open_registration(settings: Settings, caller: Caller, servers: Servers) -> Registration:
    """Make the registration that the settings describe: als_admin_url and als_endpoint are set."""
    assert settings.als_admin_url is not None  # noqa: S101 - the caller asks for it
    assert settings.als_endpoint is not None  # noqa: S101 - the settings refuse the one without the other
    wanted = list_wanted(
        settings.als_endpoint, settings.als_types, settings.als_currencies, is_default=settings.als_default == "on"
    )

    def connect() -> Awaitable[asyncpg.Connection]:
        return servers.connect("oracle als registration", CONNECTION_SETTINGS)

    return Registration(AlsAdmin(caller, settings.als_admin_url), wanted, connect)


class Registration:
    """What one ALS must have.  Of one process, one call changes it at a time."""

    def __init__(
        self,
        als: AlsAdmin,
        wanted: Sequence[Wanted],
        connect: Connect,
        *,
        pauses_s: Sequence[float] = CREATION_PAUSES_S,
    ) -> None:
        """`connect` opens a connection to PostgreSQL, with CONNECTION_SETTINGS, for the events."""
        self.als = als
        self.wanted = tuple(wanted)
        self._connect = connect
        self._pauses_s = pauses_s
        self._turn = asyncio.Lock()

    async def examine(self, *, replace: bool = False) -> tuple[Finding, ...]:
        """Compare, and change nothing.  Raises AlsFailed."""
        return tuple(examine(await self.als.list_rows(), self.wanted, replace=replace))

    async def register(self, context: Context, *, replace: bool) -> Outcome:
        """Create what is missing; with `replace`, replace what differs.

        Raises AlsFailed, Unfinished and DirectoryUnavailable.
        """
        findings = await self.examine(replace=replace)
        planned = sum(len(each.acts) for each in findings)
        if not planned:
            return Outcome(findings)
        async with self._turn:
            try:
                return await self._change(context, replace=replace, acts_max=planned + len(self.wanted))
            except Exception as exc:
                if is_unavailable(exc):
                    raise DirectoryUnavailable from exc
                raise

    async def _change(self, context: Context, *, replace: bool, acts_max: int) -> Outcome:
        connection = await self._connect()
        acts: list[Act] = []
        try:
            while True:
                findings = await self._make_next(connection, context, acts, replace=replace)
                if findings is not None:
                    return Outcome(findings, tuple(acts))
                if len(acts) > acts_max:
                    raise AlsFailed("The rows of ALS change again and again: find out who else changes them")
        except AlsFailed as exc:
            raise Unfinished(str(exc), acts, unknown=exc.unknown) from None
        finally:
            await close(connection)

    async def _make_next(
        self, connection: asyncpg.Connection, context: Context, acts: list[Act], *, replace: bool
    ) -> tuple[Finding, ...] | None:
        """Make the next act and add it to `acts`.  Returns the findings where there is none left."""
        transaction = connection.transaction()
        await transaction.start()
        called = False
        try:
            await connection.execute(
                QUERIES["transaction_begin"], context.channel, context.actor, context.role, "", "",
                context.reason, context.request_id, context.trace_id,
            )  # fmt: skip
            await connection.execute(QUERIES["als_lock"], CHANGE_LOCK)
            findings = await self.examine(replace=replace)
            act = next((act for each in findings for act in each.acts), None)
            if act is None:
                await transaction.rollback()
                return findings
            if act in acts:
                raise AlsFailed("ALS accepts the change, but its list does not show it: check the URL of its admin API")
            await self._write_event(connection, act)
            called = True
            await self._make(act, is_replacement=any(each.row.key == act.row.key for each in acts))
        except AlsFailed as exc:
            if exc.unknown:
                await transaction.commit()
            else:
                await transaction.rollback()
            raise
        except BaseException:
            if called:
                _log.error("A change of ALS was interrupted: ALS can have made it, and history has no event of it")
            await _roll_back(transaction)
            raise
        acts.append(act)
        try:
            await transaction.commit()
        except BaseException:
            _log.error("ALS was changed, but the event in history may be missing", action=act.action)
            raise
        return None

    async def _write_event(self, connection: asyncpg.Connection, act: Act) -> None:
        row = msgspec.json.encode(self.describe(act.row)).decode()
        before, after = (row, None) if act.action == "removed" else (None, row)
        await connection.execute(QUERIES["als_changed"], act.action, before, after)

    def describe(self, row: Row) -> dict[str, object]:
        """Describe a row for history and for people: without passwords, which a URL can have."""
        return {
            "als": self.als.url,
            "oracle_id": row.oracle_id or None,
            "party_id_type": row.party_id_type,
            "currency": row.currency,
            "url": mask_url(row.url),
            "is_default": row.is_default,
        }

    async def _make(self, act: Act, *, is_replacement: bool) -> None:
        """Call ALS.  Raises AlsFailed; `unknown` of it: nobody knows whether it was done."""
        if act.action == "removed":
            await self._settle(act, self.als.remove)
            return
        for pause_s in (*self._pauses_s, None):
            try:
                await self._settle(act, self.als.add)
            except RowExists:
                raise
            except AlsFailed as exc:
                # Nobody has removed anything for a row that was only missing: the next check is early enough.
                if exc.unknown or pause_s is None or not is_replacement:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return

    async def _settle(self, act: Act, call: Callable[[Row], Awaitable[None]]) -> None:
        """Make one call.  Where its answer is lost, find out by the rows of ALS whether it was done."""
        try:
            await call(act.row)
        except AlsFailed as exc:
            if not exc.unknown:
                raise
            try:
                rows = await self.als.list_rows()
            except AlsFailed:
                raise exc from None
            if act.action == "removed":
                is_done = all(row.oracle_id != act.row.oracle_id for row in rows)
            else:
                is_done = any(row.key == act.row.key and row.url == act.row.url for row in rows)
            if not is_done:
                raise AlsFailed(str(exc)) from None


async def _roll_back(transaction: asyncpg.transaction.Transaction) -> None:
    try:
        await transaction.rollback()
    except Exception:  # noqa: BLE001 - the connection has ended, and the transaction with it
        return
