"""The directory behind one interface: that of this process, or that of an oracle elsewhere.

Own.      Lookups go to `store.cache.lookups`, changes to `store.changes` and `store.registrations`, in this process.
          The rules are those of the hub listener: the same key, the same answer, the same refusals.
Faults.   What the directory refuses becomes a Fault with the code of the hub listener (`api.faults`), in the form
          that DFSPs know: "<general text> - <detail>".
Hints.    What discovery found in other schemes.  They change no registration.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, Protocol

import msgspec

from oracle import errors
from oracle.api import faults as hub_faults
from oracle.api.currencies import parse_currency, parse_stored_currency
from oracle.api.dfsp.als_metrics import Outcome
from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.faults import TEXTS, Fault
from oracle.api.hub.ignored import IgnoredCalls, describe_ignored
from oracle.api.hub.queue import BulkLimits, BulkQueue
from oracle.api.hub.slices import Slices
from oracle.budgets.changes import find_news
from oracle.identifiers import BadIdentifier, PartyKey, Reading
from oracle.store.aliases import ChangeResult
from oracle.store.base import Context, Registration
from oracle.store.bulk import register_bulk
from oracle.store.cache.lookups import Lookups
from oracle.store.cache.values import unpack_entries
from oracle.store.changes import Changes
from oracle.store.registrations import Registrations
from oracle.store.resolution import choose_entry
from oracle.store.routes import Routes
from oracle.telemetry import logs
from oracle.telemetry.cells import observe
from oracle.telemetry.metrics import Metrics
from oracle.telemetry.tracing import trace_id_of

log = logs.Log(__name__)

CHANNEL: Final = "account-lookup"
# A DFSP waits for a callback and not for an answer, so a bulk can wait for its turn.
BULK_WAIT_S: Final = 60.0
BULK_TIME_S: Final = 60.0
BULK_LIMITS: Final = BulkLimits(waiting_max=256, waiting_of_source_max=64)


_FAILED: Final = ("refused", "unavailable")  # results of lookups


class Entry(NamedTuple):
    fsp_id: str
    sub_id: str | None = None
    currency: str = ""  # '' if it answers for every currency


class BulkItem(msgspec.Struct, frozen=True, gc=False):
    """An item of a bulk that its own FSP can register."""

    party: Party
    fsp_id: str


class Directory(Protocol):
    """One oracle.  Every method raises Fault, and nothing else."""

    async def find(self, asked: Asked, party: Party, currency: str | None) -> Sequence[Entry]:
        """Find who has the party: no entry for nobody."""

    async def register(self, asked: Asked, party: Party, fsp_id: str, currency: str | None) -> None: ...

    async def update(self, asked: Asked, party: Party, fsp_id: str, currency: str | None) -> None:
        """Make the FSP's entries one entry with this currency; None keeps the currency."""

    async def remove(self, asked: Asked, party: Party, currency: str | None) -> None:
        """Remove the entry of the source in this currency; None removes it in all currencies."""

    async def register_many(
        self, asked: Asked, request_id: str, items: Sequence[BulkItem], currency: str | None
    ) -> Sequence[Fault | None]:
        """Register the items of a bulk, all of the source; for each of them, in order, why it is refused."""

    async def put_hint(self, asked: Asked, party: Party, fsp_id: str) -> None:
        """Remember which FSP of another scheme has the party."""

    async def forget_hints(self, asked: Asked, party: Party) -> None: ...


class Directories(Protocol):
    def choose(self, party_id_type: str, currency: str | None) -> Directory:
        """Choose the oracle that answers for the type.  Raises Fault."""


def make_fault(error: BaseException) -> Fault:
    """Make what a DFSP sees of an error of the directory."""
    status, information = hub_faults.describe(error)
    code, detail = information.error_code, information.error_description
    return Fault(code, "" if detail == TEXTS[code] else detail, status=status, news=find_news(error))


class OwnDirectory:
    """The directory of this process; one per process."""

    def __init__(
        self,
        lookups: Lookups,
        changes: Changes,
        routes: Routes,
        metrics: Metrics,
        *,
        reading: Reading,
        change_timeout_s: float,
        slices: Slices | None = None,
        ignored_hour_max: int = 1_000,
    ) -> None:
        """`slices`: those that bulks share with others in this process."""
        self._loop = asyncio.get_running_loop()
        self._lookups = lookups
        self._changes = changes
        self._routes = routes
        self._metrics = metrics
        self._reading = reading
        self._change_timeout_s = change_timeout_s
        self._registrations = Registrations(changes, limit_s=change_timeout_s)
        self._ignored = IgnoredCalls(changes, metrics, hour_max=ignored_hour_max)
        self._bulks = BulkQueue(BULK_LIMITS)
        self._slices = slices or Slices()
        self._cells = metrics.cells
        self._results = {r: metrics.slots("lookups_total", "party_id_type", result=r) for r in _RESULTS}
        self._lookup_durations = metrics.slot("lookup_duration_seconds", operation="lookup")
        self._als = Outcome(metrics, "egress_oracleRequest")

    async def close(self) -> None:
        """Wait until all changes have ended."""
        await self._registrations.close()
        await self._ignored.close()

    # -- lookups --------------------------------------------------------------------------------------------------

    async def find(self, asked: Asked, party: Party, currency: str | None) -> Sequence[Entry]:
        del asked  # the answer is the same for everybody
        started = time.monotonic()
        result, kind = "refused", "other"
        try:
            key = self._reading.read_asked_key(party.party_id_type, party.identifier, party.sub_id)
            kind = key[0]
            wanted = parse_currency(currency) if currency is not None else None
            result = "unavailable"
            answer, cached = await self._ask(key)
            entry, result = self._choose(answer, key, wanted, cached)
        except (errors.OracleError, BadIdentifier) as exc:
            raise make_fault(exc) from None
        except Exception as exc:  # noqa: BLE001 - whatever it is, the DFSP gets an error
            log.error("lookup failed", exc=exc)
            raise make_fault(exc) from None
        finally:
            self._cells[self._results[result][kind]] += 1
            observe(self._cells, self._lookup_durations, time.monotonic() - started)
            self._als.count(started, success=result not in _FAILED)
        return [entry._replace(sub_id=party.sub_id)] if entry is not None else []

    async def _ask(self, key: tuple[str, str, str]) -> tuple[bytes, bool]:
        waiting: asyncio.Future[tuple[bytes | Exception, bool]] = self._loop.create_future()

        def take(answer: bytes | Exception, cached: bool) -> None:
            if not waiting.done():
                waiting.set_result((answer, cached))

        self._lookups.ask(key[0], key[1], take)
        answer, cached = await waiting
        if isinstance(answer, Exception):
            raise answer
        return answer, cached

    def _choose(
        self, answer: bytes, key: tuple[str, str, str], currency: str | None, cached: bool
    ) -> tuple[Entry | None, str]:
        """Choose the entry that answers, and name the source of the answer, as the hub listener does."""
        found = choose_entry(unpack_entries(answer), key[2], currency)
        if found is not None:
            entry = Entry(found.fsp_id, None, found.currency) if found.fsp_id else None
            return entry, "hit" if cached else "directory"
        fsp_id = self._routes.match(key[0], key[1])
        if fsp_id is not None:
            return Entry(fsp_id) if fsp_id else None, "routed"
        return None, "negative_hit" if cached else "directory_empty"

    # -- changes --------------------------------------------------------------------------------------------------

    async def register(self, asked: Asked, party: Party, fsp_id: str, currency: str | None) -> None:
        async with self._change("register"):
            wanted = parse_currency(currency) if currency is not None else ""
            registration = Registration(self._read_key(party), wanted)
            context = _make_context(asked, fsp_id)
            result = await self._registrations.register(context, registration)
            if result.refused is not None:
                raise result.refused
            self._count("register", "done" if result.changed else "unchanged")

    async def update(self, asked: Asked, party: Party, fsp_id: str, currency: str | None) -> None:
        async with self._change("update"):
            wanted = parse_currency(currency) if currency is not None else None
            await self._changes.update(_make_context(asked, fsp_id), fsp_id, self._read_key(party), wanted)
            self._count("update", "done")

    async def remove(self, asked: Asked, party: Party, currency: str | None) -> None:
        async with self._change("remove"):
            wanted = parse_stored_currency(currency) if currency is not None else None
            key = self._read_key(party)
            context = _make_context(asked, asked.source)
            # Here a removal without a SubId means the entry without one.
            await self._changes.remove(context, asked.source, key.party_id_type, key.identifier, key.sub_id, wanted)
            self._count("remove", "done")

    async def register_many(
        self, asked: Asked, request_id: str, items: Sequence[BulkItem], currency: str | None
    ) -> Sequence[Fault | None]:
        async with self._change("bulk", BULK_WAIT_S + BULK_TIME_S), self._bulks.admit(asked.source, BULK_WAIT_S):
            deadline = self._loop.time() + BULK_TIME_S
            await self._slices.rest()
            wanted = parse_currency(currency) if currency is not None else ""
            read: list[Registration | Fault] = []
            for item in items:
                read.append(self._read_item(item, asked.source, wanted))
                if self._slices.over:
                    await self._slices.rest()
            valid = [each for each in read if isinstance(each, Registration)]
            results: Iterator[ChangeResult] = iter(())
            if valid:
                context = _make_context(asked, asked.source, request_id)
                results = iter(await register_bulk(self._changes, context, asked.source, valid, deadline=deadline))
            return await self._list_faults(read, results)

    def _read_item(self, item: BulkItem, source: str, currency: str) -> Registration | Fault:
        if item.fsp_id != source:
            return make_fault(errors.NotOwner())
        try:
            return Registration(self._read_key(item.party), currency)
        except BadIdentifier as exc:
            return make_fault(exc)

    async def _list_faults(
        self, read: Sequence[Registration | Fault], results: Iterator[ChangeResult]
    ) -> list[Fault | None]:
        """List why items were refused, and count them; `results` are those of the registrations, in order."""
        found: list[Fault | None] = []
        for each in read:
            if isinstance(each, Fault):
                self._count("bulk_item", "refused")
                found.append(each)
            else:
                result = next(results)
                self._count_result("bulk_item", result)
                found.append(None if result.refused is None else make_fault(result.refused))
            if self._slices.over:
                await self._slices.rest()
        return found

    # -- hints ----------------------------------------------------------------------------------------------------

    async def put_hint(self, asked: Asked, party: Party, fsp_id: str) -> None:
        async with self._change("hint"):
            context = msgspec.structs.replace(_make_context(asked, fsp_id), channel="self-heal")
            key = self._read_key(party)
            try:
                changed = await self._changes.put_hint(context, fsp_id, Registration(key))
            except errors.OracleError as exc:
                await self._record_ignored(context, key, exc)
                raise
            self._count("hint", "done" if changed else "unchanged")

    async def _record_ignored(self, context: Context, key: PartyKey, error: errors.OracleError) -> None:
        """Record a hint that was not stored, as the hub listener does."""
        reason = describe_ignored(error)
        self._metrics.add("hints_ignored_total", reason=reason)
        if not isinstance(error, errors.Unavailable):
            text = f"hint not stored: {reason.replace('_', ' ')}"
            await self._ignored.record(msgspec.structs.replace(context, reason=text), *key)

    async def forget_hints(self, asked: Asked, party: Party) -> None:
        async with self._change("hint_removal"):
            context = msgspec.structs.replace(_make_context(asked, asked.source), channel="self-heal")
            key = self._read_key(party)
            forgotten = await self._changes.forget_hints(context, key.party_id_type, key.identifier, key.sub_id)
            self._count("hint_removal", "done" if forgotten.removed else "unchanged")

    # -- parts ----------------------------------------------------------------------------------------------------

    def _read_key(self, party: Party) -> PartyKey:
        return self._reading.read_hub_key(party.party_id_type, party.identifier, party.sub_id)

    @asynccontextmanager
    async def _change(self, operation: str, timeout_s: float | None = None) -> AsyncIterator[None]:
        """Limit the time of a change, and make a Fault of whatever it raises."""
        started = time.monotonic()
        try:
            try:
                async with asyncio.timeout(self._change_timeout_s if timeout_s is None else timeout_s):
                    yield
            except TimeoutError as exc:
                raise errors.DirectoryUnavailable from exc
        except (errors.OracleError, BadIdentifier) as exc:
            if isinstance(exc, errors.TooManyUnknownFsps):
                self._metrics.add("unknown_fsps_refused_total")
            self._count(operation, "unavailable" if isinstance(exc, errors.Unavailable) else "refused")
            raise make_fault(exc) from None
        except Exception as exc:  # noqa: BLE001 - whatever it is, the DFSP gets an error
            log.error("change failed", exc=exc)
            raise make_fault(exc) from None
        finally:
            if operation in _TIMED:
                slot = self._metrics.slot("lookup_duration_seconds", operation=operation)
                self._metrics.observe(slot, time.monotonic() - started)

    def _count_result(self, operation: str, result: ChangeResult) -> None:
        if result.refused is not None:
            label = "unavailable" if isinstance(result.refused, errors.Unavailable) else "refused"
        else:
            label = "done" if result.changed else "unchanged"
        self._count(operation, label)

    def _count(self, operation: str, result: str) -> None:
        self._metrics.add("changes_total", operation=operation, result=result)


_RESULTS: Final = ("hit", "negative_hit", "directory", "directory_empty", "routed", "refused", "unavailable")
_TIMED: Final = frozenset({"register", "update", "remove", "bulk"})


def _make_context(asked: Asked, fsp_id: str, request_id: str = "") -> Context:
    """Describe a change by a DFSP, which can only act for itself."""
    traceparent = None if asked.traceparent is None else asked.traceparent.encode("latin-1", "replace")
    trace_id = trace_id_of(traceparent) or ""
    return Context(channel=CHANNEL, actor=fsp_id, role="fsp", fsp_id=fsp_id, request_id=request_id, trace_id=trace_id)
