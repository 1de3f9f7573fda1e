"""Changes of the directory: fence, transaction, commit, verify, acknowledge (rules 1, 3, 4, 5 of `coherence`).

The rules of ownership and the events are the database's own (migrations/0001); what is decided here is what a caller
is told and in which order statements run.  Each change is one transaction of a handful of statements, however many
aliases it names.

A commit whose outcome is not known (the connection broke, or the server did not answer in time) is not acknowledged.
It may still take effect, after the fences have expired: so in the background the server process that ran it is ended,
and once it is gone the generation is moved (`_repair`), which makes true what promise C asks for.  It is moved, too,
when a commit could not be verified in the end (PostgreSQL went away right after it, or the caller's time was over).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import compress
from typing import Any, Final, Protocol, TypeVar

import asyncpg
import msgspec

from oracle import errors
from oracle.identifiers import PartyKey
from oracle.store.base import Context, Registration
from oracle.store.cache.coherence import Coherence, Fence
from oracle.store.lanes import is_collision
from oracle.store.postgres import Postgres, Transaction
from oracle.telemetry import logs

log = logs.Log(__name__)

ATTEMPTS: Final = 4
REPAIR_PAUSE_S: Final = 0.5

Key = tuple[str, str]
T = TypeVar("T")

# SQLSTATEs of the rules in migrations/0001, and what they mean to the caller.
_RULES: Final[dict[str, type[errors.OracleError]]] = {
    "OR001": errors.NotOwner,
    "OR002": errors.UnknownFsp,
    "OR003": errors.AlreadyRegistered,
    "OR005": errors.RouteOverlap,
}
# The PartyIdType of a kind of alias that has a name of its own (design section 2).
_TYPE_OF_KIND: Final = {"CLABE": "ACCOUNT_ID", "NRC": "PERSONAL_ID"}


class Beside(Protocol):
    """What a caller has done in the transaction of its change: `first`, which may refuse by raising, and `last`."""

    async def first(self, transaction: Transaction) -> None: ...
    async def last(self, transaction: Transaction, result: Any) -> None: ...


class Outcome(msgspec.Struct, frozen=True):
    """What became of one registration: `refused` says why not, else it stands; `changed` if it did not before."""

    changed: bool = False
    refused: errors.OracleError | None = None


class _Vanished(Exception):
    pass


class _Moved(Exception):  # not an error: the generation moved on from under the fences
    pass


class Changes:
    """The write side for one process."""

    def __init__(self, postgres: Postgres, coherence: Coherence, *, fsp_registration: str) -> None:
        self._postgres = postgres
        self._coherence = coherence
        self._admit = fsp_registration == "auto"
        self._repairs: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in list(self._repairs):
            task.cancel()
        await asyncio.gather(*self._repairs, return_exceptions=True)

    # -- what can be asked for ------------------------------------------------------------------------------------

    async def register(
        self,
        context: Context,
        fsp_id: str,
        registrations: Sequence[Registration],
        beside: Beside | None = None,
    ) -> list[Outcome]:
        """Register aliases for one FSP; one outcome each, in order.  One that is refused does not touch the others.

        Raises DirectoryUnavailable: then none of them stands, or it is not known (never acknowledged).
        """
        keys = sorted({(r.key.party_id_type, r.key.identifier) for r in registrations})

        async def work(transaction: Transaction) -> tuple[list[Outcome], bool]:
            allowed = await self.admitted(transaction, fsp_id)
            return await _register(transaction, fsp_id, registrations, allowed)

        try:
            return await self.change(context, keys, work, beside)
        except errors.UnknownFsp as refused:
            return [Outcome(refused=refused) for _ in registrations]

    async def update(
        self, context: Context, fsp_id: str, key: PartyKey, currency: str | None, beside: Beside | None = None
    ) -> None:
        """The FSP's entries under the key become one, with this currency (None: as they are).

        Raises PartyNotFound, NotOwner, AlreadyRegistered (the currency is another FSP's), NotAllowed,
        DirectoryUnavailable.
        """

        async def work(transaction: Transaction) -> tuple[None, bool]:
            wrote = await _update(transaction, fsp_id, key, currency)
            if wrote and currency is not None:
                rows = await transaction.rows("fsp_status", fsp_id)
                if not Allowance.of(rows[0]).includes(key.party_id_type, currency):
                    raise errors.NotAllowed
            return None, wrote

        await self.change(context, [(key.party_id_type, key.identifier)], work, beside)

    async def remove(
        self,
        context: Context,
        fsp_id: str,
        party_id_type: str,
        identifier: str,
        sub_id: str | None,
        currency: str | None,
        beside: Beside | None = None,
    ) -> None:
        """Remove the FSP's entry.  The hub names no SubId when it forwards a removal (als-contract section 1): then
        it is the entry without SubId, else the only SubId there is (design section 7).

        Raises PartyNotFound, ForeignRemoval, AmbiguousRemoval, DirectoryUnavailable.
        """

        async def work(transaction: Transaction) -> tuple[None, bool]:
            return None, await _remove(transaction, fsp_id, party_id_type, identifier, sub_id, currency)

        await self.change(context, [(party_id_type, identifier)], work, beside)

    async def ignore_removal(self, context: Context, party_id_type: str, identifier: str) -> None:
        """Record a removal that nobody who holds the alias asked for.  Raises DirectoryUnavailable."""
        async with self._postgres.transaction(context, fenced=True) as transaction:
            await transaction.run(
                "removal_ignored",
                context.actor,
                party_id_type,
                identifier,
                context.reason,
                context.trace_id or None,
            )
            await transaction.commit()

    async def administer(
        self,
        context: Context,
        work: Callable[[Transaction], Awaitable[T]],
        beside: Beside | None = None,
        *,
        settles: bool = False,
    ) -> T:
        """A change of anything but aliases: FSPs, routes, credentials, batches; one transaction.

        `settles`: of something that lookups go by (an FSP's status, a route).  The database moves what copies and
        compiled routes are worth by trigger; a lease later nobody goes by the old ones, and then it is acknowledged.
        Raises what `work` raises, UnknownFsp, RouteOverlap, DirectoryUnavailable.
        """
        for attempt in range(ATTEMPTS):
            try:
                async with self._postgres.transaction(context, fenced=True) as transaction:
                    if beside is not None:
                        await beside.first(transaction)
                    result = await work(transaction)
                    if beside is not None:
                        await beside.last(transaction, result)
                    await transaction.commit()
                break
            except errors.DirectoryUnavailable as exc:
                if not is_collision(exc.__cause__) or attempt == ATTEMPTS - 1:
                    raise
            except asyncpg.PostgresError as exc:
                rule = _RULES.get(str(exc.sqlstate))
                if rule is None:
                    raise
                raise rule from exc
        if settles:
            await self._coherence.outlive_leases()
        return result

    # -- how it is done -------------------------------------------------------------------------------------------

    async def change(
        self,
        context: Context,
        keys: Sequence[Key],
        work: Callable[[Transaction], Awaitable[tuple[T, bool]]],
        beside: Beside | None = None,
    ) -> T:
        """Change aliases under `keys`, by the protocol.

        `work` returns its result and whether it wrote anything; without that there is nothing to commit.  It may be
        called again, in a new transaction.
        """
        if beside is not None:
            work = _joined(beside, work)
        moved = False
        for attempt in range(ATTEMPTS):
            try:
                return await self._attempt(context, keys, work, fenced=not moved)
            except _Vanished:
                continue
            except _Moved:
                moved = True  # and may go on moving: moving it as well is what surely works
            except errors.DirectoryUnavailable as exc:
                if not is_collision(exc.__cause__) or attempt == ATTEMPTS - 1:
                    raise
            except asyncpg.PostgresError as exc:
                rule = _RULES.get(str(exc.sqlstate))
                if rule is None:
                    raise
                raise rule from exc
        raise errors.DirectoryUnavailable

    async def _attempt(
        self,
        context: Context,
        keys: Sequence[Key],
        work: Callable[[Transaction], Awaitable[tuple[T, bool]]],
        *,
        fenced: bool,
    ) -> T:
        fence = await self._coherence.fence(keys)
        if not fenced:
            fence = msgspec.structs.replace(fence, standing=False)
        unverified = False
        try:
            async with self._postgres.transaction(context, fenced=fence.standing) as transaction:
                result, changed = await work(transaction)
                if changed:
                    fence = await self._fence_to_commit_under(transaction, fence)
                    await self._commit(transaction)
                    unverified = fence.standing
            # Also when nothing was written: "it stands already" is an acknowledgement, of a change whose own writer may
            # have died before it verified.
            await self._coherence.settle(fence if changed else msgspec.structs.replace(fence, standing=True))
        except BaseException:
            if unverified:
                self._follow_up(None)
            raise
        return result

    async def _fence_to_commit_under(self, transaction: Transaction, fence: Fence) -> Fence:
        """Raises _Moved, DirectoryUnavailable."""
        if fence.standing and not self._coherence.in_time(fence):
            # A bulk of 10,000 on a busy machine.  Its fences may be gone, and copies there from before this commit:
            # those are overwritten, and it is as if the change had begun just now.
            fence = await self._coherence.fence(fence.keys)
            if not fence.standing:
                raise _Moved
        # Under a generation that came after the fences, copies may stand from before this commit.  `settle` would see
        # to them, but we may die before it (promise C).
        if fence.standing and (await transaction.rows("generation"))[0]["generation"] != fence.generation:
            raise _Moved
        if not self._coherence.in_time(fence):
            raise errors.DirectoryUnavailable
        return fence

    async def _commit(self, transaction: Transaction) -> None:
        try:
            await transaction.commit()
        except BaseException:
            self._follow_up(transaction.backend_pid)
            raise

    def _follow_up(self, backend_pid: int | None) -> None:
        task = asyncio.get_running_loop().create_task(self._repair(backend_pid))
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)

    async def _repair(self, backend_pid: int | None) -> None:
        """See the module.  Goes on until it has succeeded: there is no later occasion.  None: it is committed."""
        log.warning("commit outcome unknown or not verified, moving the cache generation")
        while True:
            try:
                if backend_pid is None or await self._postgres.watch.end_backend(backend_pid):
                    await self._coherence.bump()
                    return
            except errors.DirectoryUnavailable:
                pass
            except Exception as exc:  # noqa: BLE001 - giving up would leave an old copy for its whole TTL
                log.error("cache generation not moved yet", exc=exc)
            await asyncio.sleep(REPAIR_PAUSE_S)

    async def admitted(self, transaction: Transaction, fsp_id: str) -> Allowance:
        """What the FSP may register; under registration `auto` an unknown one becomes provisional.

        Raises UnknownFsp.
        """
        rows = await transaction.rows("fsp_status", fsp_id)
        if not rows and self._admit:
            await transaction.run("fsp_admit", fsp_id)
            return Allowance()
        if not rows:
            raise errors.UnknownFsp("The FSP is not known to the directory")
        if rows[0]["status"] not in ("active", "provisional"):
            raise errors.UnknownFsp("The FSP is not active")
        return Allowance.of(rows[0])


class Allowance(msgspec.Struct, frozen=True):
    """What an FSP may register; None is everything."""

    party_id_types: frozenset[str] | None = None
    currencies: frozenset[str] | None = None

    @classmethod
    def of(cls, row: Any) -> Allowance:
        kinds, currencies = row["kinds"], row["currencies"]
        return cls(
            None if kinds is None else frozenset(_TYPE_OF_KIND.get(kind, kind) for kind in kinds),
            None if currencies is None else frozenset(currencies),
        )

    def includes(self, party_id_type: str, currency: str) -> bool:
        """An entry that names no currency is never one too many."""
        return (self.party_id_types is None or party_id_type in self.party_id_types) and (
            self.currencies is None or not currency or currency in self.currencies
        )


def _joined(
    beside: Beside, work: Callable[[Transaction], Awaitable[tuple[T, bool]]]
) -> Callable[[Transaction], Awaitable[tuple[T, bool]]]:
    async def both(transaction: Transaction) -> tuple[T, bool]:
        await beside.first(transaction)
        result, _ = await work(transaction)
        await beside.last(transaction, result)
        return result, True  # what stands beside has to be committed, too

    return both


async def _register(
    transaction: Transaction, fsp_id: str, registrations: Sequence[Registration], allowed: Allowance
) -> tuple[list[Outcome], bool]:
    included = [allowed.includes(r.key.party_id_type, r.currency) for r in registrations]
    if not all(included):
        outcomes, wrote = await _register_all(transaction, fsp_id, list(compress(registrations, included)))
        remaining = iter(outcomes)
        not_allowed = Outcome(refused=errors.NotAllowed())
        return [next(remaining) if may else not_allowed for may in included], wrote
    return await _register_all(transaction, fsp_id, registrations)


async def _register_all(
    transaction: Transaction, fsp_id: str, registrations: Sequence[Registration]
) -> tuple[list[Outcome], bool]:
    columns = (
        [r.key.party_id_type for r in registrations],
        [r.key.identifier for r in registrations],
        [r.key.sub_id for r in registrations],
        [r.currency for r in registrations],
        fsp_id,
    )
    wrote = await transaction.run("aliases_add", *columns)
    standing = {row["ord"]: row for row in await transaction.rows("aliases_standing", *columns)}
    if len(standing) < len(registrations):
        raise _Vanished
    if any(row["may_add"] for row in standing.values()):
        wrote += await transaction.run("currencies_add", *columns)
        standing = {row["ord"]: row for row in await transaction.rows("aliases_standing", *columns)}
        if len(standing) < len(registrations) or any(row["may_add"] for row in standing.values()):
            raise _Vanished
    refused = errors.AlreadyRegistered()
    outcomes = [
        Outcome(changed=standing[ord_]["is_new"]) if standing[ord_]["stands"] else Outcome(refused=refused)
        for ord_ in range(1, len(registrations) + 1)
    ]
    return outcomes, wrote > 0


async def _update(transaction: Transaction, fsp_id: str, key: PartyKey, currency: str | None) -> bool:
    entries = await transaction.rows("entries_locked", key.party_id_type, key.identifier)
    entries += await transaction.rows("currencies_of", key.party_id_type, key.identifier)
    here = [e for e in entries if e["sub_id"] == key.sub_id]
    mine = [e for e in here if e["fsp_id"] == fsp_id]
    if not here:
        raise errors.PartyNotFound
    if not mine:
        raise errors.NotOwner
    wanted = mine[0]["currency"] if currency is None else currency
    if any(e["currency"] == wanted and e["fsp_id"] != fsp_id for e in here):
        raise errors.AlreadyRegistered
    where = (key.party_id_type, key.identifier, key.sub_id)
    wrote = 0
    if mine[0]["is_default"]:
        wrote += await transaction.run("currencies_remove", *where, None, fsp_id)
        wrote += await transaction.run("default_currency", *where, wanted, fsp_id)
        return wrote > 0
    # The default entry is another FSP's (policy per-currency): what is ours stands beside it.
    for entry in mine:
        if entry["currency"] != wanted:
            wrote += await transaction.run("currencies_remove", *where, entry["currency"], fsp_id)
    columns = ([key.party_id_type], [key.identifier], [key.sub_id], [wanted], fsp_id)
    return wrote + await transaction.run("currencies_add", *columns) > 0


async def _remove(
    transaction: Transaction,
    fsp_id: str,
    party_id_type: str,
    identifier: str,
    sub_id: str | None,
    currency: str | None,
) -> bool:
    entries = await transaction.rows("entries_locked", party_id_type, identifier)
    entries += await transaction.rows("currencies_of", party_id_type, identifier)
    if sub_id is not None:
        entries = [e for e in entries if e["sub_id"] == sub_id]
    if not entries:
        raise errors.PartyNotFound
    mine = [e for e in entries if e["fsp_id"] == fsp_id]
    if not mine:
        raise errors.ForeignRemoval
    subs = {e["sub_id"] for e in mine}
    if "" not in subs and len(subs) > 1:
        raise errors.AmbiguousRemoval
    target = "" if "" in subs else subs.pop()
    where = (party_id_type, identifier, target, currency, fsp_id)
    # The further currencies first: else one of them would become the default entry in between.
    wrote = await transaction.run("currencies_remove", *where) + await transaction.run("default_remove", *where)
    if not wrote:
        raise errors.PartyNotFound
    return True
