"""Changes of the directory: fence, transaction, commit, verify, acknowledge (rules 1, 3, 4 and 5 of `coherence`).

`aliases` has the statements and rules of alias changes; the triggers of the database (migrations/0001) enforce
ownership and write the events.  This module decides in which order things happen, and what a caller may believe.  Each
change is one transaction of a handful of statements, however many aliases it names.

The outcome of a commit can be unknown: the connection broke, or the server did not answer in time.  Such a change is
not acknowledged.  It can still take effect later, when its fences have expired.  `repairs` makes that good.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

import asyncpg
import msgspec

from oracle import errors
from oracle.identifiers import PartyKey
from oracle.store import aliases
from oracle.store.aliases import Allowance, ChangeResult, ForgottenHints
from oracle.store.base import Context, CopyKey, OwnRegistration, Registration
from oracle.store.cache.coherence import Coherence, Fence
from oracle.store.lanes import explain_refusal, is_collision
from oracle.store.postgres import Postgres, Transaction
from oracle.store.repairs import Repairs
from oracle.telemetry import logs

log = logs.Log(__name__)

ATTEMPTS: Final = 4
FENCED_ATTEMPTS: Final = 2
FENCE_TRIES: Final = 4  # for one transaction
STATEMENT_MAX: Final = 250  # registrations in one statement, which take some 1 ms to encode or decode

T = TypeVar("T")
Work = Callable[[Transaction], Awaitable[tuple[T, bool]]]  # the result, and whether anything was written

# SQLSTATEs of the rules in migrations/0001, and the errors that they are for the caller.
_RULES: Final[dict[str, type[errors.OracleError]]] = {
    "OR001": errors.NotOwner,
    "OR002": errors.UnknownFsp,
    "OR003": errors.AlreadyRegistered,
    "OR005": errors.RouteOverlap,
}


class Companion(Protocol):
    """Does more in the transaction of a change: `begin` before it, which can refuse by raising, and `finish` after."""

    async def begin(self, transaction: Transaction) -> None: ...
    async def finish(self, transaction: Transaction, result: Any) -> None: ...


class TooSlow(errors.DirectoryUnavailable):
    """The fences expire faster than this process can commit: nothing was committed."""


class _Moved(Exception):
    """Not an error: the generation has moved since the fences were set."""


class Changes:
    """The write side of one process."""

    def __init__(
        self, postgres: Postgres, coherence: Coherence, *, fsp_registration: str, unknown_fsps_day_max: int = 1000
    ) -> None:
        self._postgres = postgres
        self._coherence = coherence
        self._admits_unknown = fsp_registration == "auto"
        self._unknown_fsps_day_max = unknown_fsps_day_max
        self.repairs = Repairs(postgres.watch.end_backends, coherence.bump)

    @property
    def can_fence(self) -> bool:
        """Whether a cache is connected.  Without it, each change moves the generation and waits for a lease."""
        return self._coherence.session is not None

    async def close(self) -> None:
        await self.repairs.close()

    def explain_failure(self, since: float = 0.0) -> str | None:
        """Say why a PostgreSQL that answers does not take changes; None if it does, as far as this process knows.

        `since`: a time of the loop; what failed before it does not count.
        """
        failure = self._postgres.writes.breaker.lane.find_failure(since)
        if failure is not None and isinstance(failure, TimeoutError) and self.repairs.waits_for_standby:
            return "commits wait for a synchronous standby"
        if failure is not None:
            return explain_refusal(failure)
        return "commits without an answer are not repaired yet" if self.repairs.waiting else None

    # -- what the hub asks for ------------------------------------------------------------------------------------

    async def register(
        self,
        context: Context,
        fsp_id: str,
        registrations: Sequence[Registration],
        *,
        ended: Callable[[], None] | None = None,
    ) -> list[ChangeResult]:
        """Register aliases for one FSP; one result each, in order.  A refused one does not affect the others.

        `ended` as in `change`.
        Raises DirectoryUnavailable: then none of them is registered, or nobody knows (they are never acknowledged).
        """
        keys: dict[CopyKey, None] = {}
        statements = await _split(registrations)
        for positions in statements:
            keys.update(dict.fromkeys(registrations[at].key[:2] for at in positions))
            if len(statements) > 1:
                await asyncio.sleep(0)

        async def work(transaction: Transaction) -> tuple[list[ChangeResult], bool]:
            allowance = await self.admit(transaction, fsp_id, by_hub=True)
            results = [ChangeResult()] * len(registrations)
            for positions in statements:
                wanted = [registrations[at] for at in positions]
                found = await aliases.register(transaction, fsp_id, wanted, allowance)
                for at, result in zip(positions, found, strict=True):
                    results[at] = result
            return results, any(result.changed for result in results)

        try:
            return await self.change(context, list(keys), work, ended=ended)
        except (errors.UnknownFsp, errors.HubChangesOff) as refused:
            return [ChangeResult(refused=refused) for _ in registrations]

    async def register_together(
        self, wanted: Sequence[OwnRegistration], *, limit_s: float, ended: Callable[[], None]
    ) -> list[ChangeResult | None]:
        """Register aliases of several FSPs in one transaction; one result each, in order.  The keys are distinct.

        None: this one must be done by `register`, alone.  So must all of them if the transaction fails.  Only when it
        can be committed nevertheless, those that it has changed are refused with DirectoryUnavailable.
        `ended` as in `change`.
        """
        results: list[ChangeResult | None] = [None] * len(wanted)
        last: Transaction | None = None

        async def work(transaction: Transaction) -> tuple[None, bool]:
            nonlocal last
            last = transaction
            results[:] = await aliases.register_together(transaction, wanted, admits_unknown=self._admits_unknown)
            return None, any(result is not None and result.changed for result in results)

        keys = dict.fromkeys(each.registration.key[:2] for each in wanted)
        try:
            async with asyncio.timeout(limit_s):
                await self.change(None, list(keys), work, ended=ended)
        except Exception as exc:  # noqa: BLE001 - whatever it is, each of them gets its own answer
            if not isinstance(exc, errors.DirectoryUnavailable | TimeoutError):
                log.error("Registrations failed together; doing each of them alone", exc=exc)
            can_be_committed = last is not None and last.can_be_committed
            return [_refuse_unknown(result) if can_be_committed else None for result in results]
        return results

    async def update(self, context: Context, fsp_id: str, key: PartyKey, currency: str | None) -> None:
        """Make the FSP's entries under the key one entry with this currency; see `aliases.update`, also for errors."""

        async def work(transaction: Transaction) -> tuple[None, bool]:
            return None, await aliases.update(transaction, fsp_id, key, currency, by_hub=True)

        await self.change(context, [(key.party_id_type, key.identifier)], work)

    async def remove(
        self,
        context: Context,
        fsp_id: str,
        party_id_type: str,
        identifier: str,
        sub_id: str | None,
        currency: str | None,
    ) -> None:
        """Remove the FSP's entry; see `aliases.remove`, also for errors."""

        async def work(transaction: Transaction) -> tuple[None, bool]:
            await aliases.remove(transaction, fsp_id, party_id_type, identifier, sub_id, currency, by_hub=True)
            return None, True

        await self.change(context, [(party_id_type, identifier)], work)

    async def put_hint(self, context: Context, fsp_id: str, hint: Registration) -> bool:
        """Store what ALS has found in another scheme; see `aliases.put_hint`, also for errors.  Raises UnknownFsp."""

        async def work(transaction: Transaction) -> tuple[bool, bool]:
            allowance = await self.admit(transaction, fsp_id, by_hub=True)
            changed = await aliases.put_hint(transaction, fsp_id, hint, allowance)
            return changed, changed

        return await self.change(context, [(hint.key.party_id_type, hint.key.identifier)], work)

    async def forget_hints(
        self, context: Context, party_id_type: str, identifier: str, sub_id: str | None
    ) -> ForgottenHints:
        """Remove hints; see `aliases.forget_hints`.  Raises DirectoryUnavailable."""

        async def work(transaction: Transaction) -> tuple[ForgottenHints, bool]:
            forgotten = await aliases.forget_hints(transaction, party_id_type, identifier, sub_id)
            return forgotten, forgotten.removed

        return await self.change(context, [(party_id_type, identifier)], work)

    async def record_ignored(
        self, context: Context, party_id_type: str | None, identifier: str | None, sub_id: str | None = None
    ) -> None:
        """Record a call of ALS that changed nothing, with the reason in `context`; or, without a party, many calls.

        Raises DirectoryUnavailable.
        """
        async with self._postgres.transaction(context, fenced=True) as transaction:
            await transaction.run(
                "call_ignored",
                context.actor,
                party_id_type,
                identifier,
                sub_id,
                context.reason,
                context.trace_id or None,
            )
            await transaction.commit()

    async def read_fsp_status(self, context: Context, fsp_id: str) -> str | None:
        """Return None for an unknown FSP.  Raises DirectoryUnavailable."""
        async with self._postgres.transaction(context, fenced=True) as transaction:
            rows = await transaction.rows("fsp_status", fsp_id)
            return str(rows[0]["status"]) if rows else None

    async def admit(self, transaction: Transaction, fsp_id: str, *, by_hub: bool = False) -> Allowance:
        """Return what the FSP may register, by the setting for unknown FSPs.  See `aliases.admit`, also for errors."""
        return await aliases.admit(
            transaction,
            fsp_id,
            admits_unknown=self._admits_unknown,
            day_max=self._unknown_fsps_day_max,
            by_hub=by_hub,
        )

    # -- any change -----------------------------------------------------------------------------------------------

    async def administer(
        self,
        context: Context,
        work: Callable[[Transaction], Awaitable[T]],
        companion: Companion | None = None,
        *,
        settles: bool = False,
    ) -> T:
        """Change anything but aliases: FSPs, routes, credentials, batches.  One transaction, no fences.

        `settles`: the change affects lookups (an FSP's status, a route).  A trigger of the database has made copies and
        compiled routes invalid.  After one lease no process uses the old ones; only then is the change acknowledged,
        if PostgreSQL still answers.
        Raises what `work` raises, UnknownFsp, RouteOverlap, DirectoryUnavailable.
        """
        if settles and not self._coherence.fresh:
            await self._coherence.confirm()  # else this process does not know which PostgreSQL it changes
        lineage = self._coherence.lineage
        for attempt in range(ATTEMPTS):
            try:
                async with self._postgres.transaction(context, fenced=True) as transaction:
                    if companion is not None:
                        await companion.begin(transaction)
                    result = await work(transaction)
                    if companion is not None:
                        await companion.finish(transaction, result)
                    await self._commit(transaction, moves=False)
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
            await self._coherence.settle_move(lineage)
        return result

    async def change(
        self,
        context: Context | None,
        keys: Sequence[CopyKey],
        work: Work[T],
        companion: Companion | None = None,
        *,
        ended: Callable[[], None] | None = None,
    ) -> T:
        """Change aliases under `keys`, by the protocol.

        `context` of None: `work` says first who makes the change.  `ended` is called when the transaction has ended
        well, before the copies are verified.
        `work` returns its result and whether it wrote anything; if not, there is nothing to commit.  It can be called
        again, in a new transaction.  Raises what `work` raises, the errors of the database's rules, and
        DirectoryUnavailable.
        """
        if companion is not None:
            work = _join(companion, work)
        moves = 0
        for attempt in range(ATTEMPTS):
            try:
                return await self._attempt(context, keys, work, fenced=moves < FENCED_ATTEMPTS, ended=ended)
            except _Moved:
                # It can move again and again.  A change that moves it as well surely succeeds, but it makes the copies
                # of all processes unreachable.  So try first with fences under the new generation.
                moves += 1
                await self._coherence.confirm()
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
        context: Context | None,
        keys: Sequence[CopyKey],
        work: Work[T],
        *,
        fenced: bool,
        ended: Callable[[], None] | None,
    ) -> T:
        fence = await self._coherence.fence(keys)
        if not fenced:
            fence = msgspec.structs.replace(fence, is_set=False)
        elif not fence.is_set and await self._wait_for_turn():
            fence = await self._coherence.fence(keys)  # Redis can be back
        unverified = False
        try:
            async with self._postgres.transaction(context, fenced=fence.is_set) as transaction:
                result, changed = await work(transaction)
                if changed:
                    fence = await self._check_fence(transaction, fence)
                    await self._commit(transaction)
                    unverified = fence.is_set
            if ended is not None:
                ended()
            # Also if nothing was written.  "It is registered already" acknowledges the change that registered it, and
            # the process that made that change can have died before it verified.
            await self._coherence.settle(fence if changed else msgspec.structs.replace(fence, is_set=True))
        except BaseException:
            if unverified:
                self.repairs.add_move()
            raise
        return result

    async def _wait_for_turn(self) -> bool:
        """Wait until changes without fences can move the generation; return whether that took time.

        They do it together.  Else one service that cannot reach Redis would take the copies from all others with each
        of its changes.  Raises DirectoryUnavailable.
        """
        wait_s = await self._postgres.find_turn()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        return wait_s > 0

    async def _check_fence(self, transaction: Transaction, fence: Fence) -> Fence:
        """Return the fence under which the transaction may commit: this one, or a new one if this one is too old.

        A transaction that moves the generation itself has no fences, and so no time in which it must commit.
        Raises _Moved, TooSlow, DirectoryUnavailable.
        """
        for _ in range(FENCE_TRIES):
            if not fence.is_set:
                return fence
            if not self._coherence.can_commit(fence):
                # For example a bulk of thousands on a busy machine.  Its fences can have expired, and lookups can have
                # stored copies from before this commit.  New fences overwrite those, as if the change had begun now.
                fence = await self._coherence.fence(fence.keys)
                if not fence.is_set:
                    raise _Moved
            # If the generation is newer than the fences, copies from before this commit can exist under it.  `settle`
            # would deal with them, but this process can die before it settles (promise C).
            if (await transaction.rows("generation"))[0]["generation"] != fence.generation:
                raise _Moved
            if self._coherence.can_commit(fence):
                return fence
        raise TooSlow

    async def _commit(self, transaction: Transaction, *, moves: bool = True) -> None:
        """Commit; `moves`: when nobody knows the outcome, the generation must move."""
        try:
            await transaction.commit()
        except BaseException:
            self.repairs.add(transaction.backend_pid, moves=moves)
            raise


def _refuse_unknown(result: ChangeResult | None) -> ChangeResult | None:
    """Return what to answer when nobody knows whether the result was committed; None if that does not matter."""
    if result is None or not result.changed:
        return None
    return ChangeResult(refused=errors.DirectoryUnavailable())


async def _split(registrations: Sequence[Registration]) -> Sequence[Sequence[int]]:
    """Split registrations into statements: their positions.

    In the order of the keys, in which a statement takes its locks as well: two bulks of the same keys must not wait for
    each other.  It leaves the loop to others again and again, and so must they who use the result.
    """
    count = len(registrations)
    if count <= STATEMENT_MAX:
        return [range(count)]

    def read_order(at: int) -> tuple[str, str, str]:
        party_id_type, identifier, sub_id = registrations[at].key
        return identifier, party_id_type, sub_id

    runs: list[list[int]] = []
    for start in range(0, count, STATEMENT_MAX):
        runs.append(sorted(range(start, min(start + STATEMENT_MAX, count)), key=read_order))
        await asyncio.sleep(0)
    statements: list[list[int]] = []
    positions = heapq.merge(*runs, key=read_order)
    while some := list(islice(positions, STATEMENT_MAX)):
        statements.append(some)
        await asyncio.sleep(0)
    return statements


def _join(companion: Companion, work: Work[T]) -> Work[T]:
    async def work_together(transaction: Transaction) -> tuple[T, bool]:
        await companion.begin(transaction)
        result, _ = await work(transaction)
        await companion.finish(transaction, result)
        return result, True  # the companion's writes must be committed, too

    return work_together
