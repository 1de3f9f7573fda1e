"""Answers `/participants`, the only API that ALS calls (docs/als-contract.md).

    GET, HEAD    one party       200, one entry or an empty list
    POST         one party       201 {}; a hint of ALS: always 201 {}
    PUT          one party       200 {}
    DELETE       one party       204; ALS that takes its hints back: always 204
    POST         many parties    201, one item for each item in the same order, with its own errorInformation if refused

The lookup path has no task and no await up to the cache:

    1. http.turns.Turns.data_received    makes one Request of the bytes: http.plain, else http.message
    2. listener.Hub.serve                counts the request and passes it on by its path
    3. Participants.serve                reads the target: target.read_plain_target, else target.read_target
    4. Participants._look_up             reads the canonical key (identifiers.Reading.read_asked_key)
    5. Lookups.ask                       store/cache/lookups.py: the cache, else PostgreSQL, once for all who wait
    6. _Lookup.__call__                  gets the stored value and chooses the answer:
                                         answers.PlainAnswers, else store.resolution.choose_entry, else Routes.match
    7. Request.respond                   writes it

A call with `parties` in its content-type is one that ALS makes by itself: a POST stores what it found in another scheme
(a hint), a DELETE takes that back.  ALS forwards the payee's answer only after a 2xx of this POST, and starts discovery
only after a 2xx of this DELETE.  So both are answered with success whatever happens (docs/als-contract.md section 5).

The header `fspiop-source` names the DFSP that acts, and it can only act for itself.  Nobody but ALS may reach this
listener.  A lookup has the same answer for every `fspiop-source`, because ALS caches lookups by their URL.  Only an FSP
that has used up its budget gets another one, if the operator lets it (`budgets`): then that cache must be off.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

from oracle import errors
from oracle.api import faults
from oracle.api.currencies import parse_currency, parse_stored_currency
from oracle.api.http import Request, make_fields
from oracle.api.hub import answers, wire
from oracle.api.hub.ignored import IgnoredCalls, describe_ignored
from oracle.api.hub.queue import BulkQueue
from oracle.api.hub.slices import Slices
from oracle.api.hub.target import BULK, PARTICIPANTS, Target, read_plain_target, read_target
from oracle.budgets.buckets import Bucket, Buckets
from oracle.budgets.changes import pay_for_change, register_within
from oracle.identifiers import BadIdentifier, PartyKey, Reading, list_hub_currencies
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
from oracle.telemetry.tracing import Tracing, trace_id_of

log = logs.Log(__name__)
T = TypeVar("T")


class _ReadItem(msgspec.Struct, frozen=True, gc=False):  # of a bulk there are thousands
    """One item of a bulk: what it asks for, or its errorInformation.  Its partyId and errors are JSON."""

    party_id: bytes
    registration: Registration | None
    error: bytes


_PARTY_METHODS: Final = "DELETE, GET, HEAD, POST, PUT"
ROUTE: Final = "{method} /participants/{Type}/{ID}"
# Of a call that ALS makes by itself.
_SUCCESS: Final = {"POST": (201, wire.EMPTY_OBJECT), "DELETE": (204, b"")}
# How long a bulk can wait for a place, of the time that it has in all.
BULK_WAIT_SHARE: Final = 0.5
# The rest is for the answer: a bulk that was registered in part must not end in a 503.
BULK_TIME_SHARE: Final = 0.9
_FSP_ID: Final = re.compile(r"[!-~]{1,32}")


class Participants:
    """One per process.  `serve` answers a request, now or later."""

    def __init__(
        self,
        lookups: Lookups,
        changes: Changes,
        routes: Routes,
        metrics: Metrics,
        tracing: Tracing,
        *,
        change_timeout_s: float,
        reading: Reading,
        ignored_hour_max: int = 1_000,
        budgets: Buckets | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lookups = lookups
        self.budgets = budgets  # None: nobody has one
        self._changes = changes
        self._registrations = Registrations(changes, limit_s=change_timeout_s)
        self._ignored = IgnoredCalls(changes, metrics, hour_max=ignored_hour_max)
        self.routes = routes
        self.tracing = tracing
        self._change_timeout_s = change_timeout_s
        self._reading = reading
        self._read_key = reading.read_hub_key
        list_hub_currencies()  # loads the table before the first lookup
        self._tasks: set[asyncio.Task[None]] = set()
        self._bulks = BulkQueue()
        self._slices = Slices()
        self.plain = answers.PlainAnswers()
        self.metrics = metrics
        self.cells = metrics.cells
        self.results = {r: metrics.slots("lookups_total", "party_id_type", result=r) for r in _RESULTS}
        self._overloaded = faults.encode_error(errors.Overloaded())
        self.over_budget = faults.encode_error(errors.OverBudget())
        self._count_overloaded = metrics.slot("errors_total", code=faults.describe(errors.Overloaded())[1].error_code)
        self.lookup_durations = metrics.slot("lookup_duration_seconds", operation="lookup")
        self.durations = {o: metrics.slot("lookup_duration_seconds", operation=o) for o in _OPERATIONS}

    def serve(self, request: Request) -> None:
        method = request.method
        try:
            if method in ("GET", "HEAD"):
                party_id_type, identifier = read_plain_target(request.target)
                if identifier:
                    self._look_up(request, party_id_type, identifier, None, None)
                    return
                target = read_target(request.target)
                if target is BULK:
                    raise errors.MethodNotAllowed(allowed="POST")
                self._look_up(request, target.party_id_type, target.identifier, target.sub_id, target.currency)
                return
            target = read_target(request.target)
            handler = _HANDLERS.get(method)
            if handler is None or (target is BULK and method != "POST"):
                raise errors.MethodNotAllowed(allowed="POST" if target is BULK else _PARTY_METHODS)
            hint_handler = _HINT_HANDLERS.get(method) if _is_parties(request) and target is not BULK else None
        except (errors.OracleError, BadIdentifier) as exc:
            if _is_damaged_hint(request):
                self._pass_over(request, exc)
                return
            self._refuse(request, exc)
            if method in ("GET", "HEAD"):
                self.cells[self.results["refused"]["other"]] += 1
            return
        if hint_handler is None:
            operation = "bulk" if target is BULK else _CHANGES[method]
            work = self._run(request, handler(self, request, target), operation, self._refuse)
        else:
            work = self._run(request, hint_handler(self, request, target), _HINT_CHANGES[method], self._pass_over)
        self._spawn(work)

    def count_surplus(self) -> None:
        """Count a lookup that was refused when it arrived, unparsed."""
        self.cells[self._count_overloaded] += 1
        self.cells[self.results["unavailable"]["other"]] += 1

    async def close(self) -> None:
        """Wait until all changes are answered."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._registrations.close()
        await self._ignored.close()

    # -- lookups --------------------------------------------------------------------------------------------------

    def _look_up(
        self, request: Request, party_id_type: str, identifier: str, sub_id: str | None, currency: str | None
    ) -> None:
        """Ask for the entries of the key.  Raises BadIdentifier, BadElement."""
        key = self._reading.read_asked_key(party_id_type, identifier, sub_id)
        if currency is not None:
            currency = parse_currency(currency)
        budgets = self.budgets
        if budgets is not None and budgets.refusing and budgets.refuses(self.find_bucket(request)):
            self.cells[self.results["over_budget"][key[0]]] += 1
            request.respond(*self.over_budget)
            return
        self._lookups.ask(key[0], key[1], _Lookup(self, request, key, sub_id, currency))

    def find_bucket(self, request: Request) -> Bucket:
        """Find the bucket of the FSP that asks, where no window of the request is known."""
        assert self.budgets is not None  # noqa: S101 - the caller has looked
        found = self.budgets.read(request.data, len(request.target))
        return self.budgets.of(request.header(b"fspiop-source")) if found is None else found

    # -- changes --------------------------------------------------------------------------------------------------

    async def _post(self, request: Request, target: Target) -> None:
        if target is BULK:
            await self._post_bulk(request)
            return
        body = _decode_party(request)
        source, key = self._read_own_entry(request, target, body)
        with pay_for_change(self.budgets, source):
            registration = Registration(key, _read_currency(target, body) or "")
            result = await self._registrations.register(self._make_context(request, source), registration)
            if result.refused is not None:
                self._count_unknown_fsp(result.refused)
                raise result.refused
        self._count("register", result)
        request.respond(201, wire.EMPTY_OBJECT)

    async def _put(self, request: Request, target: Target) -> None:
        body = _decode_party(request)
        source, key = self._read_own_entry(request, target, body)
        currency = _read_currency(target, body)
        with pay_for_change(self.budgets, source):
            await self._changes.update(self._make_context(request, source), source, key, currency)
        self.metrics.add("changes_total", operation="update", result="done")
        request.respond(200, wire.EMPTY_OBJECT)

    async def _delete(self, request: Request, target: Target) -> None:
        source = _read_source(request)
        key = self._read_key(target.party_id_type, target.identifier, target.sub_id)
        sub_id = None if target.sub_id is None else key.sub_id
        currency = None if target.currency is None else parse_stored_currency(target.currency)
        context = self._make_context(request, source)
        with pay_for_change(self.budgets, source):
            await self._changes.remove(context, source, key.party_id_type, key.identifier, sub_id, currency)
        self.metrics.add("changes_total", operation="remove", result="done")
        request.respond(204)

    async def _post_bulk(self, request: Request) -> None:
        source = _read_source(request)
        deadline = self._loop.time() + BULK_TIME_SHARE * self._change_timeout_s
        async with self._bulks.admit(source, BULK_WAIT_SHARE * self._change_timeout_s):
            await self._slices.rest()
            items = await self._read_items(request, source)
            valid = [item.registration for item in items if item.registration is not None]
            results: Iterator[ChangeResult] = iter(())
            if valid:
                context = self._make_context(request, source)

                async def register(part: Sequence[Registration]) -> list[ChangeResult]:
                    return await register_bulk(self._changes, context, source, part, deadline=deadline)

                results = iter(await register_within(self.budgets, source, valid, register))
            request.respond(201, await self._encode_items(items, results))

    async def _read_items(self, request: Request, source: str) -> list[_ReadItem]:
        """Read the items one by one: a bad item does not stop the others."""
        body = _decode_body(request, wire.decode_bulk)
        text = bytes(body.party_list)
        if text in (b"", b"null"):
            raise errors.MissingElement("partyList is missing")
        items: list[_ReadItem] = []
        with _refuse_bad_json():
            for raws in wire.split_list(text):
                if len(items) + len(raws) > wire.BULK_MAX:
                    raise errors.TooManyElements(f"partyList has more than {wire.BULK_MAX} items")
                for raw in raws:
                    items.append(self._read_raw_item(raw, source, body.currency))
                    if self._slices.over:
                        await self._slices.rest()
        if not items:
            raise errors.Malformed("An element of the body has the wrong type")
        return items

    def _read_raw_item(self, raw: msgspec.Raw, source: str, currency: str | None) -> _ReadItem:
        item = wire.decode_item(raw) if len(raw) <= wire.PARTY_BYTES_MAX else None
        party_id = wire.encode(_copy_item(item))
        try:
            return _ReadItem(party_id, self._read_item(item, source, currency), b"")
        except (errors.OracleError, BadIdentifier) as exc:
            return _ReadItem(party_id, None, wire.encode(faults.describe(exc)[1]))

    async def _encode_items(self, items: list[_ReadItem], results: Iterator[ChangeResult]) -> bytes:
        """Encode the answer to a bulk, and count its items; `results` are those of its valid items, in order."""
        parties: list[bytes] = []
        for item in items:
            result, error = None, item.error
            if item.registration is not None:
                result = next(results)
                if result.refused is not None:
                    error = wire.encode(faults.describe(result.refused)[1])
            self._count("bulk_item", result)
            information = b',"errorInformation":%b' % error if error else b""
            parties.append(b'{"partyId":%b%b}' % (item.party_id, information))
            if self._slices.over:
                await self._slices.rest()
        return b'{"partyList":[%b]}' % b",".join(parties)

    def _read_item(self, item: object, source: str, currency: str | None) -> Registration:
        if not isinstance(item, dict):
            raise errors.Malformed("An item of partyList is not an object")
        party_id_type, identifier = _read_text(item, "partyIdType"), _read_text(item, "partyIdentifier")
        if party_id_type is None or identifier is None:
            raise errors.MissingElement("partyIdType or partyIdentifier is missing")
        _check_fsp(_read_text(item, "fspId"), source)
        key = self._read_key(party_id_type, identifier, _read_text(item, "partySubIdOrType"))
        wanted = _read_text(item, "currency") or currency
        return Registration(key, parse_currency(wanted) if wanted else "")

    # -- hints of ALS ---------------------------------------------------------------------------------------------

    async def _put_hint(self, request: Request, target: Target) -> None:
        source = _read_source(request)
        key = self._read_key(target.party_id_type, target.identifier, target.sub_id)
        try:
            body = _decode_party(request)
            _, key = self._read_own_entry(request, target, body)
            hint = Registration(key, _read_currency(target, body) or "")
            changed = await self._changes.put_hint(self._make_hint_context(request, source), source, hint)
        except errors.Unavailable:
            raise
        except (errors.OracleError, BadIdentifier) as exc:
            reason = describe_ignored(exc)
            self._count_unknown_fsp(exc)
            context = self._make_hint_context(request, source, f"hint not stored: {reason.replace('_', ' ')}")
            await self._ignored.record(context, *key)
            self.metrics.add("hints_ignored_total", reason=reason)
            self.metrics.add("changes_total", operation="hint", result="refused")
        else:
            self.metrics.add("changes_total", operation="hint", result="done" if changed else "unchanged")
        request.respond(*_SUCCESS["POST"])

    async def _forget_hints(self, request: Request, target: Target) -> None:
        """Remove hints, of any FSP: ALS names the payer or a stranger as the source.

        Registrations stay: ALS sends this call also when the ledger fails, or a DFSP names a wrong destination.  Then
        history records the call.
        """
        source = _read_source(request)
        key = self._read_key(target.party_id_type, target.identifier, target.sub_id)
        sub_id = None if target.sub_id is None else key.sub_id
        context = self._make_hint_context(request, source)
        forgotten = await self._changes.forget_hints(context, key.party_id_type, key.identifier, sub_id)
        if forgotten.removed:
            self.metrics.add("changes_total", operation="hint_removal", result="done")
        if forgotten.registered or not forgotten.removed:
            context = self._make_hint_context(request, source, "removal not asked for by the owner")
            await self._ignored.record(context, key.party_id_type, key.identifier, sub_id)
            self.metrics.add("ignored_removals_total")
        request.respond(*_SUCCESS["DELETE"])

    def _pass_over(self, request: Request, error: BaseException) -> None:
        """Answer a call of ALS with success although it failed, and history could not record it."""
        reason = describe_ignored(error)
        if request.method == "POST":
            self.metrics.add("hints_ignored_total", reason=reason)
            event = "A hint of the hub was not stored, and history has no record of it"
        else:
            self.metrics.add("ignored_removals_total")
            event = "A removal by the hub was ignored, and history has no record of it"
        if self._ignored.permits_line():  # a caller without a key can make millions of them
            log.warning(event, reason=reason)
        request.respond(*_SUCCESS[request.method])

    # -- parts ----------------------------------------------------------------------------------------------------

    def _read_own_entry(self, request: Request, target: Target, body: wire.PartyBody) -> tuple[str, PartyKey]:
        """Read who acts, and on which key.  Path, query and body may each name the SubId, but only the same one."""
        source = _read_source(request)
        _check_fsp(body.fsp_id, source)
        sub_id = target.sub_id
        if body.party_sub_id_or_type is not None:
            if sub_id is not None and sub_id != body.party_sub_id_or_type:
                raise errors.Malformed("The URI and the body have different values for partySubIdOrType")
            sub_id = body.party_sub_id_or_type
        return source, self._read_key(target.party_id_type, target.identifier, sub_id)

    def _make_context(self, request: Request, source: str) -> Context:
        trace_id = trace_id_of(request.header(b"traceparent")) or ""
        return Context(channel="hub", actor=source, role="fsp", fsp_id=source, trace_id=trace_id)

    def _make_hint_context(self, request: Request, source: str, reason: str = "") -> Context:
        return msgspec.structs.replace(self._make_context(request, source), channel="self-heal", reason=reason)

    def _count_unknown_fsp(self, error: object) -> None:
        if isinstance(error, errors.TooManyUnknownFsps):
            self.metrics.add("unknown_fsps_refused_total")

    def _count(self, operation: str, result: ChangeResult | None) -> None:
        """Count a change.  None: the request was refused before the directory could decide."""
        if result is None:
            label = "refused"
        elif result.refused is not None:
            label = "unavailable" if isinstance(result.refused, errors.Unavailable) else "refused"
            self._count_unknown_fsp(result.refused)
        else:
            label = "done" if result.changed else "unchanged"
        self.metrics.add("changes_total", operation=operation, result=label)

    async def _run(
        self,
        request: Request,
        work: Coroutine[None, None, None],
        operation: str,
        refuse: Callable[[Request, BaseException], None],
    ) -> None:
        """Run a change within its time, and answer what it raises with `refuse`.  `operation` is that of the metric."""
        started, started_ns = time.monotonic(), time.time_ns()
        traceparent = request.header(b"traceparent")
        failure: BaseException | None = None
        try:
            try:
                async with asyncio.timeout(self._change_timeout_s):
                    await work
            except TimeoutError as exc:
                raise errors.DirectoryUnavailable from exc
        except (errors.OracleError, BadIdentifier) as exc:
            failure = exc
            refuse(request, exc)
            result = "unavailable" if isinstance(exc, errors.Unavailable) else "refused"
            self.metrics.add("changes_total", operation=operation, result=result)
        except Exception as exc:  # noqa: BLE001 - for every error the caller gets an answer and the log a line
            failure = exc
            log.error("change failed", exc=exc)
            refuse(request, exc)
        measured = operation if operation in _OPERATIONS else _CHANGES[request.method]
        self.metrics.observe(self.durations[measured], time.monotonic() - started)
        if self.tracing.is_sampled(traceparent):
            name = ROUTE.replace("{method}", request.method)
            self.tracing.record(name, traceparent, started_ns, time.time_ns(), error=failure)
        # Its traceback holds this frame: a cycle, and the body would count until the garbage collector runs.
        failure = None

    def _refuse(self, request: Request, error: BaseException) -> None:
        status, body = faults.encode_error(error)
        self.metrics.add("errors_total", code=faults.describe(error)[1].error_code)
        request.respond(status, body, make_fields(error))

    def refuse_lookup(self, request: Request, error: Exception) -> None:
        if type(error) is errors.Overloaded:  # thousands a second, and the time they take is missing elsewhere
            self.cells[self._count_overloaded] += 1
            request.respond(*self._overloaded)
            return
        if not isinstance(error, errors.OracleError):
            log.error("lookup failed", exc=error)
        self._refuse(request, error)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_Handler = Callable[[Participants, Request, Target], Coroutine[None, None, None]]
_HANDLERS: Final[dict[str, _Handler]] = {
    "POST": Participants._post,  # noqa: SLF001 - a table of the class above
    "PUT": Participants._put,  # noqa: SLF001
    "DELETE": Participants._delete,  # noqa: SLF001
}
_HINT_HANDLERS: Final[dict[str, _Handler]] = {
    "POST": Participants._put_hint,  # noqa: SLF001
    "DELETE": Participants._forget_hints,  # noqa: SLF001
}


class _Lookup:
    """One lookup that waits for the stored value; called once, with the value or with the error."""

    __slots__ = ("_currency", "_key", "_participants", "_request", "_started", "_sub_id")

    def __init__(
        self,
        participants: Participants,
        request: Request,
        key: tuple[str, str, str],
        sub_id: str | None,
        currency: str | None,
    ) -> None:
        self._participants = participants
        self._request = request
        self._key = key  # as of a PartyKey
        self._sub_id = sub_id
        self._currency = currency
        self._started = time.monotonic()

    def __call__(self, answer: bytes | Exception, cached: bool) -> None:
        participants = self._participants
        try:
            if isinstance(answer, bytes):
                body, result = self._choose_answer(answer, cached)
                budgets, request = participants.budgets, self._request
                if budgets is None:
                    request.respond(200, body)
                else:
                    # As `Buckets.take` does, in line: each lookup passes here.
                    data: Any = request.data  # of bytes, compiled code takes no slice object
                    try:
                        bucket = budgets.windows[data[budgets.slices[len(request.target)]]]
                    except LookupError:
                        bucket = participants.find_bucket(request)
                    left = bucket.left
                    if left > 0:
                        bucket.left = left - (budgets.nobody if body == _NOBODY else budgets.found)
                        request.respond(200, body)
                    elif budgets.take(bucket, 0):
                        request.respond(200, body)
                    else:
                        result = "over_budget"
                        request.respond(*participants.over_budget)
            else:
                result = "unavailable"
                participants.refuse_lookup(self._request, answer)
        except Exception as exc:  # noqa: BLE001 - unforeseen ones, too: nobody else would answer this request
            result = "unavailable"
            participants.refuse_lookup(self._request, exc)
        participants.cells[participants.results[result][self._key[0]]] += 1
        observe(participants.cells, participants.lookup_durations, time.monotonic() - self._started)
        if participants.tracing.is_on:
            self._trace(result)

    def _choose_answer(self, answer: bytes, cached: bool) -> tuple[bytes, str]:
        participants, key = self._participants, self._key
        if self._sub_id is None and self._currency is None:
            body = participants.plain.encode(answer)
        else:
            body = self._encode_chosen(answer)
        if body is not None:
            return body, "hit" if cached else "directory"
        fsp_id = participants.routes.match(key[0], key[1])
        if fsp_id is not None:
            return answers.encode_answer(fsp_id, "", self._sub_id), "routed"
        return wire.EMPTY_LIST, "negative_hit" if cached else "directory_empty"

    def _encode_chosen(self, answer: bytes) -> bytes | None:
        entry = choose_entry(unpack_entries(answer), self._key[2], self._currency)
        return None if entry is None else answers.encode_answer(entry.fsp_id, entry.currency, self._sub_id)

    def _trace(self, result: str) -> None:
        tracing, traceparent = self._participants.tracing, self._request.header(b"traceparent")
        if not tracing.is_sampled(traceparent):
            return
        end_ns = time.time_ns()
        start_ns = end_ns - int((time.monotonic() - self._started) * 1e9)
        attributes = {"party_id_type": self._key[0], "result": result}
        tracing.record(ROUTE.replace("{method}", "GET"), traceparent, start_ns, end_ns, attributes)


_NOBODY: Final = wire.EMPTY_LIST
_RESULTS: Final = (
    "hit", "negative_hit", "directory", "directory_empty", "routed", "refused", "unavailable", "over_budget",
)  # fmt: skip
_OPERATIONS: Final = ("lookup", "register", "update", "remove", "bulk")
_CHANGES: Final = {"POST": "register", "PUT": "update", "DELETE": "remove"}
_HINT_CHANGES: Final = {"POST": "hint", "DELETE": "hint_removal"}


def _decode_body(request: Request, decode: Callable[[bytes], T]) -> T:
    """Decode the body as JSON, with any content-type and content-encoding.

    ALS forwards the DFSP's `content-encoding: gzip` with a plain body.
    """
    if not request.body.strip():
        raise errors.MissingElement("The request has no body")
    with _refuse_bad_json():
        return decode(request.body)


def _decode_party(request: Request) -> wire.PartyBody:
    """Decode a body about one party.  A long one would hold up the lookups for as long as it takes to decode."""
    if len(request.body) > wire.PARTY_BYTES_MAX:
        raise errors.TooLarge("The body is too large for one party")
    return _decode_body(request, wire.decode_party)


@contextmanager
def _refuse_bad_json() -> Iterator[None]:
    try:
        yield
    except msgspec.ValidationError:
        raise errors.Malformed("An element of the body has the wrong type") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.Malformed("The body is not valid JSON") from None


def _read_source(request: Request) -> str:
    raw = request.only(b"fspiop-source")
    if raw is None:
        raise errors.MissingElement("The header fspiop-source is missing")
    source = raw.decode("latin-1")
    if not _FSP_ID.fullmatch(source):
        raise errors.Malformed("The header fspiop-source is not a valid FSP ID")
    return source


def _check_fsp(fsp_id: str | None, source: str) -> None:
    if fsp_id is None:
        raise errors.MissingElement("fspId is missing")
    if fsp_id != source:  # ALS does not check it (als-contract section 1)
        raise errors.BadElement("fspId must be the same as the header fspiop-source")


def _read_currency(target: Target, body: wire.PartyBody) -> str | None:
    """Read the currency of a change from the query or the body; both may name it, but only the same one."""
    currencies = {parse_currency(text) for text in (target.currency, body.currency) if text}
    if len(currencies) > 1:
        raise errors.Malformed("The URI and the body have different currencies")
    return currencies.pop() if currencies else None


def _is_parties(request: Request) -> bool:
    """Whether ALS makes this call by itself, by the media type without its parameters.  Raises Malformed.

    `vnd.interoperability.parties+json`, of ISO 20022 too (docs/als-contract.md section 3).
    """
    media_type = (request.only(b"content-type") or b"").partition(b";")[0]
    return media_type.strip().lower().endswith(b".parties+json")


def _is_damaged_hint(request: Request) -> bool:
    """Whether ALS made a call by itself for one party, with a target that cannot be read."""
    first, _, rest = request.target.partition(b"?")[0].strip(b"/").partition(b"/")
    try:
        return request.method in _SUCCESS and first == PARTICIPANTS and bool(rest) and _is_parties(request)
    except errors.Malformed:
        return False


def _read_text(item: dict[str, Any], name: str) -> str | None:
    value = item.get(name)
    if value is None or isinstance(value, str):
        return value
    raise errors.Malformed(f"{name} must be a string")


def _copy_item(item: object) -> dict[str, str]:
    """Copy the item into the partyId of its answer, without changes, as far as it could be read."""
    if not isinstance(item, dict):
        return {}
    names = ("partyIdType", "partyIdentifier", "partySubIdOrType", "fspId")
    return {name: item[name] for name in names if isinstance(item.get(name), str)}
