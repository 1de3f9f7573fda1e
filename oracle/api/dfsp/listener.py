"""The account lookup listener: checks what a DFSP sends, answers at once, then does the work (sections 1 and 2).

    1. targets      path and method -> operation                       404, 405
    2. clients      the caller is the source                           400
    3. headers      accept, date, content-type                         400, 406
    4. Validator    the signature, if it is on                         400
    5. bodies       the OpenAPI rules, the first error alone           400
    6. the source   is a participant, and errors can reach it          400, 503 while the central ledger is away
       its budget   is not used up (`budgets`)                         429
    7. Promises     keep, then 202 or 200, then the work, then fulfil

What is accepted is carried out, or answered with an error callback: that is what the works of `works` do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

from oracle import errors
from oracle.api.dfsp import bodies
from oracle.api.dfsp.als_metrics import AlsMetrics
from oracle.api.dfsp.asked import Asked
from oracle.api.dfsp.callbacks import choose_error_type
from oracle.api.dfsp.clients import Clients
from oracle.api.dfsp.faults import Fault, encode
from oracle.api.dfsp.headers import HeaderRules, check_fsps, name_headers
from oracle.api.dfsp.request_log import RequestLog
from oracle.api.dfsp.targets import Operation, Target, make_not_allowed, read_target
from oracle.api.health import Health
from oracle.api.http import Request
from oracle.api.hub.slices import Slices
from oracle.scheme.base import Scheme
from oracle.telemetry import logs
from oracle.telemetry.metrics import CONTENT_TYPE, Metrics

log = logs.Log(__name__)

BODY_BYTES_MAX: Final = 5 * 1024 * 1024  # FSPIOP, section 3.1.1

NO_BODY: Final = b"cache-control: no-cache"
ERROR: Final = b"content-type: application/json; charset=utf-8\r\ncache-control: no-cache"
_HEALTH: Final = b"content-type: application/json; charset=utf-8\r\ncache-control: no-cache"
_METRICS: Final = b"content-type: %b\r\ncache-control: no-cache" % CONTENT_TYPE.encode()

_STATUSES: Final[Mapping[Operation, int]] = {
    "get_participant": 202,
    "post_participant": 202,
    "put_participant": 200,
    "delete_participant": 202,
    "put_participant_error": 200,
    "post_participants": 200,
    "get_party": 202,
    "put_party": 200,
    "put_party_error": 200,
}
# They bring an answer to somebody who waits for it.
_ANSWERS: Final = frozenset({"put_participant_error", "put_party", "put_party_error"})

Work = Callable[[Asked], Awaitable[None]]


class Promises(Protocol):
    """What was accepted and is not done."""

    def keep(self, asked: Asked) -> object: ...
    def fulfil(self, kept: object) -> None: ...
    def hand_over(self) -> int: ...


Headers = list[tuple[bytes, bytes]]
Promised = tuple[Request, Target, Asked, object, float]  # with the promise, and when the request came


class Validator(Protocol):
    """Verifies signatures: signatures.Validator."""

    def check(self, method: str, target: bytes, headers: Headers, body: bytes) -> bool:
        """Check the signature by the keys in memory; False if only `verify` can tell.  Raises Fault."""

    async def verify(self, method: str, target: bytes, headers: Headers, body: bytes) -> None:
        """Check the signature by all keys.  Raises Fault, errors.Unavailable."""


class Participants(Protocol):
    def get(self, asked: Asked) -> Awaitable[None]: ...
    async def post(self, asked: Asked) -> None: ...
    async def put(self, asked: Asked) -> None: ...
    async def delete(self, asked: Asked) -> None: ...
    async def bulk(self, asked: Asked) -> None: ...
    async def put_error(self, asked: Asked) -> None: ...


class Parties(Protocol):
    def get(self, asked: Asked) -> Awaitable[None]: ...
    def put(self, asked: Asked) -> Awaitable[None]: ...
    def put_error(self, asked: Asked) -> Awaitable[None]: ...


def list_works(participants: Participants, parties: Parties) -> dict[Operation, Work]:
    """List what is done for each operation after its sync answer.  Those without a work are not implemented."""
    return {
        "get_participant": participants.get,
        "post_participant": participants.post,
        "put_participant": participants.put,
        "delete_participant": participants.delete,
        "post_participants": participants.bulk,
        "put_participant_error": participants.put_error,
        "get_party": parties.get,
        "put_party": parties.put,
        "put_party_error": parties.put_error,
    }


class AccountLookup:
    """The application of the listener's HttpServer, which calls `serve` with each request."""

    def __init__(
        self,
        works: Mapping[Operation, Work],
        scheme: Scheme,
        health: Health,
        metrics: Metrics,
        *,
        check_endpoints: Work,
        clients: Clients,
        rules: HeaderRules,
        promises: Promises,
        validator: Validator | None = None,
        works_max: int = 10_000,
        slices: Slices | None = None,
        als: AlsMetrics | None = None,
        audit: RequestLog | None = None,
        check_budget: Callable[[Asked], None] = lambda _asked: None,
    ) -> None:
        """`works`: what is done for each operation after its 202; it never raises.  An operation without one is 501.

        `check_endpoints`: whether the source of a request about participants can be told how it ends; raises Fault.
        `slices`: those that all bulks of this process share.
        `check_budget`: whether the source can ask now; raises Fault.
        """
        self._works = works
        self._check_endpoints = check_endpoints
        self._scheme = scheme
        self._metrics = metrics
        self._clients = clients
        self._rules = rules
        self._promises = promises
        self._validator = validator
        self._works_max = works_max
        self._slices = slices or Slices()
        self._als = als or AlsMetrics(metrics)
        self._audit = audit
        self._check_budget = check_budget
        self._loop = asyncio.get_running_loop()
        self._promised: list[Promised] = []  # in this turn of the loop
        self._unanswered = 0  # of the promised ones
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._cells = metrics.cells
        self._requests = metrics.slots("http_requests_total", "method")
        self._pages: dict[bytes, tuple[str, Callable[[Request], None]]] = {
            b"/health": ("GET", lambda request: request.respond(*health.report(), _HEALTH)),
            b"/ready": ("GET", lambda request: request.respond(*health.ready(), _HEALTH)),
            b"/live": ("GET", lambda request: request.respond(*health.live(), _HEALTH)),
            b"/metrics": ("GET", lambda request: request.respond(200, metrics.render(als=True), _METRICS)),
            b"/endpointcache": ("DELETE", self._forget_endpoints),
        }

    def serve(self, request: Request) -> None:
        self._cells[self._requests[request.method]] += 1
        try:
            page = self._pages.get(request.target.partition(b"?")[0])
            if page is None:
                self._accept(request)
                return
            method, answer = page
            if request.method != method:
                raise make_not_allowed(method)
            answer(request)
        except Fault as fault:
            self._refuse(request, fault)
        except Exception as exc:
            if request.answered:
                raise
            self._fail(request, exc)

    def on_error(self, error: BaseException) -> None:
        """Log and count a defect; the server has answered 500 + 2001."""
        log.error("request failed", exc=error)
        self._metrics.add("errors_total", code="2001")

    async def close(self, timeout_s: float) -> int:
        """Wait until all works have ended, for so long; returns how many were cut."""
        ends_at = self._loop.time() + timeout_s
        while self.working and (left_s := ends_at - self._loop.time()) > 0:
            await asyncio.sleep(0)
            if self._tasks:  # some of them promise a request, which then has a work
                await asyncio.wait(self._tasks, timeout=left_s)
        cut = self.working
        if cut:
            self._promises.hand_over()  # it tells the sources of these requests
            self._closed = True
        late = tuple(self._tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return cut

    @property
    def working(self) -> int:
        """How many accepted requests are at work."""
        return len(self._tasks) + self._unanswered

    def _accept(self, request: Request) -> None:
        """Check the request, and promise it.  What must be waited for is left to a task.  Raises Fault."""
        target = read_target(request.method, request.target)
        headers = request.list_headers()
        named = name_headers(headers, self._clients.header)
        self._clients.check(named, request.find_certificate)
        self._rules.check(request.method, target.resource, named)
        if self.working >= self._works_max:
            raise Fault("2005", "Too many requests are at work; try again later", status=503)
        started = time.monotonic()
        try:
            asked = self._check_now(request, target, headers, named)
        except Fault:
            self._count_answer(target, started, success=False)
            raise
        if asked is None:
            self._spawn(self._check_later(request, target, headers, named, started))
        else:
            self._promise(request, target, asked, started)

    def _check_now(
        self, request: Request, target: Target, headers: Headers, named: Mapping[bytes, str]
    ) -> Asked | None:
        """Do all checks by what is known in this process; None if only `_check` can do them.  Raises Fault."""
        if target.operation == "post_participants" or b"fspiop-proxy" in named:
            return None
        validator = self._validator
        if validator is not None and not validator.check(request.method, request.target, headers, request.body):
            return None
        check_fsps(named)
        asked = bodies.read_asked(target, request.method, headers, named, request.body, self._rules.api_type)
        if target.operation not in self._works or self._scheme.recall_participant(asked.source) is None:
            return None
        if target.resource == "participants" and not asked.is_error:
            error_type = choose_error_type(asked, asked.party)
            if self._scheme.recall_endpoint(asked.source, error_type) is None:
                return None
        self._check_budget(asked)
        return asked

    async def _check_later(
        self, request: Request, target: Target, headers: Headers, named: Mapping[bytes, str], started: float
    ) -> None:
        """Do all checks, and promise the request, or refuse it."""
        try:
            asked = await self._check(request, target, headers, named)
            if target.operation not in self._works:
                raise Fault("2002", status=501)
            await self._check_source(target, asked)
            self._check_budget(asked)
        except Fault as fault:
            self._count_answer(target, started, success=False)
            self._refuse(request, fault)
        except Exception as exc:  # noqa: BLE001 - the caller gets an answer for every defect
            self._count_answer(target, started, success=False)
            self._fail(request, exc)
        else:
            self._promise(request, target, asked, started)

    def _promise(self, request: Request, target: Target, asked: Asked, started: float) -> None:
        """Promise to carry it out.  The answer comes two turns of the loop later, when the promise is written."""
        kept = self._promises.keep(asked)
        if not self._promised:
            self._loop.call_soon(self._end_turn)
        self._promised.append((request, target, asked, kept, started))
        self._unanswered += 1

    def _end_turn(self) -> None:
        """Let the promises of a turn be written, and then answer."""
        promised, self._promised = self._promised, []
        self._loop.call_soon(self._answer, promised)

    def _answer(self, promised: Sequence[Promised]) -> None:
        """Answer the requests whose promises are written, and begin their works."""
        if self._closed:
            return  # `close` has handed them over: their sources get error callbacks
        self._unanswered -= len(promised)
        for request, target, asked, kept, started in promised:
            try:
                request.respond(_STATUSES[target.operation], b"", NO_BODY)
            except Exception as exc:  # noqa: BLE001 - a defect: the other ones get their answers
                self.on_error(exc)
            self._count_answer(target, started, success=True)
            self._spawn(self._work(request, target, asked, kept, started))

    async def _work(self, request: Request, target: Target, asked: Asked, kept: object, started: float) -> None:  # noqa: ARG002
        # The request stays until all is done, because its body counts among those that this process can hold.
        self._als.begin(asked)
        if self._audit is not None:
            self._audit.begin(asked)
        try:
            await self._works[target.operation](asked)
        except Exception as exc:  # noqa: BLE001 - a defect: a work never raises
            self.on_error(exc)
        # Not when it was cancelled: then `hand_over` has told the source.
        self._promises.fulfil(kept)
        self._als.end(target.operation, asked, started)
        if self._audit is not None:
            self._audit.end(target.operation, asked, started)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count_answer(self, target: Target, started: float, *, success: bool) -> None:
        answers = self._als.answers.get(target.operation)
        if answers is not None:
            answers.count(started, success=success)

    def _fail(self, request: Request, error: Exception) -> None:
        request.respond(500, encode(Fault("2001")), ERROR)
        self.on_error(error)

    async def _check(self, request: Request, target: Target, headers: Headers, named: Mapping[bytes, str]) -> Asked:
        """Check the signature, then all that the OpenAPI description has rules for.  Raises Fault."""
        validator = self._validator
        if validator is not None and not validator.check(request.method, request.target, headers, request.body):
            try:
                await validator.verify(request.method, request.target, headers, request.body)
            except errors.Unavailable:
                raise Fault("2003", "The keys of FSPs cannot be read; try again later", status=503) from None
        check_fsps(named)
        asked = bodies.read_asked(target, request.method, headers, named, request.body, self._rules.api_type)
        if target.operation == "post_participants":
            await bodies.check_items(asked, self._slices)
        return asked

    async def _check_source(self, target: Target, asked: Asked) -> None:
        """Check that the source is a participant, and that it can be told how the request ends.  Raises Fault."""
        operation = target.operation
        if asked.proxy is not None:
            return await self._check_proxy(asked, asked.proxy)
        if target.resource == "participants" and not asked.is_error:
            return await self._check_endpoints(asked)
        try:
            if await self._scheme.find_participant(asked.source) is None:
                raise make_unknown_source(operation)
        except errors.Unavailable:
            if operation not in _ANSWERS:
                raise make_unavailable() from None
        return None

    async def _check_proxy(self, asked: Asked, proxy: str) -> None:
        """Check that a proxy brings a message about a party, from an FSP of another scheme.  Raises Fault.

        Otherwise an FSP could name itself as the proxy, and act for every other FSP: clients.py binds only the proxy.
        """
        try:
            found = await self._scheme.find_participant(proxy)
        except errors.Unavailable:
            raise make_unavailable() from None
        if asked.resource != "parties" or found is None or not found.is_proxy:
            raise Fault("3101", "invalid fspiop-proxy header")
        try:
            is_ours = await self._scheme.find_participant(asked.source) is not None
        except errors.Unavailable:
            return  # only what the scheme has said lately is known, and that is seldom about an FSP of another one
        if is_ours:
            raise Fault("3101", "invalid fspiop-source header")

    def _forget_endpoints(self, request: Request) -> None:
        started = time.monotonic()
        self._scheme.forget_endpoints()
        request.respond(202, b"", NO_BODY)
        self._als.resets.count(started, success=True)

    def _refuse(self, request: Request, fault: Fault) -> None:
        fields = ERROR
        if fault.status == HTTPStatus.METHOD_NOT_ALLOWED:
            fields = b"%b\r\nallow: %b" % (ERROR, fault.allowed.encode())
        self._metrics.add("errors_total", code=fault.code)
        request.respond(fault.status, encode(fault), fields)
        if self._audit is not None:
            self._audit.refuse(request.header(b"fspiop-source"), request.method, fault)


def make_unknown_source(operation: Operation) -> Fault:
    if operation == "get_party":
        return Fault("3101", "invalid fspiop-source header")
    return Fault("3200", "Requester FSP not found")


def make_unavailable() -> Fault:
    return Fault("2003", "The central ledger is not available; try again later", status=503)
