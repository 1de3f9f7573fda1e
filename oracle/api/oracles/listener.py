"""The admin API of the account lookup service: which oracle answers for a party id type.  Hub provisioning calls it.

Form.     As ALS answers it (docs/account-lookup.md, "Admin API /oracles"), without its defects.
Trust.    It has no credentials, and the account lookup service calls the URLs that are stored here.  So it is a
          listener and a process of its own, off unless its port is set, and bound to loopback unless told otherwise.
History.  Each change is an event of channel `account-lookup`, actor `account-lookup-admin`: nobody knows who it was.
Bounds.   The oracles, the changes in an hour, the size of a body and the connections have limits, because everybody
          who reaches the port can call.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from oracle.api.dfsp.faults import Fault, encode
from oracle.api.http import Limits, Request
from oracle.api.oracles.bodies import read_oracle
from oracle.errors import DirectoryUnavailable
from oracle.store.base import Context
from oracle.store.oracles import (
    ORACLES_MAX,
    NoSuchOracle,
    OracleChanges,
    OracleExists,
    RegisteredOracle,
    TooManyOracles,
    fetch_oracles,
)
from oracle.telemetry import logs
from oracle.telemetry.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from oracle.store.postgres import Postgres

LIMITS: Final = Limits(
    body_bytes_max=65_536, bodies_bytes_max=4 * 1024 * 1024, connections_max=200, connections_refused_max=200,
    idle_timeout_s=60,
)  # fmt: skip
CHANGES_HOUR_MAX: Final = 1_000
HOUR_S: Final = 3600.0
HEALTH_S: Final = 2.0  # within that time PostgreSQL must answer
ID_MAX: Final = 2**63 - 1

_ORACLES: Final = b"/oracles"
_NO_CACHE: Final = b"cache-control: no-cache"
JSON: Final = b"content-type: application/json; charset=utf-8\r\n" + _NO_CACHE
_ID: Final = re.compile(r"[0-9]{1,19}")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# What ALS says.  Hub provisioning compares the code, to go on when the oracle is there already.
_EXISTS: Final = "Active oracle with matching partyIdTypeId, endpointTypeId, currencyId already exists"
_CONTEXT: Final = Context(channel="account-lookup", actor="account-lookup-admin")

log = logs.Log(__name__)


class Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    value: str
    endpoint_type: str = "URL"  # the only type that there is


class Shown(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An oracle as GET /oracles lists it."""

    oracle_id: int
    oracle_id_type: str
    endpoint: Endpoint
    currency: str = ""
    is_default: int  # 0 or 1, as ALS


class OraclesApi:
    """The application of an HttpServer, which calls `serve` with each request."""

    def __init__(self, postgres: Postgres, metrics: Metrics, *, changes_hour_max: int = CHANGES_HOUR_MAX) -> None:
        self._reads = postgres.reads
        self._changes = OracleChanges(postgres)
        self._metrics = metrics
        self._changes_hour_max = changes_hour_max
        self._changed_at: deque[float] = deque()
        self._turn = asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()
        self._started = datetime.now(UTC)
        self._started_s = time.monotonic()

    def serve(self, request: Request) -> None:
        self._metrics.add("http_requests_total", method=request.method)
        work = asyncio.create_task(self._answer(request))
        self._work.add(work)
        work.add_done_callback(self._work.discard)

    def on_error(self, error: BaseException) -> None:
        """Log a defect; the server has answered 500 + 2001."""
        log.error("request failed", exc=error)

    async def close(self) -> None:
        await asyncio.gather(*self._work, return_exceptions=True)

    async def _answer(self, request: Request) -> None:
        try:
            await self._find_operation(request)(request)
        except Fault as fault:
            self._refuse(request, fault)
        except DirectoryUnavailable as exc:
            self._refuse(request, Fault("2003", str(exc), status=503))
        except Exception as exc:  # noqa: BLE001 - a defect; the answer holds nothing of it
            log.error("request failed", exc=exc)
            self._refuse(request, Fault("2001", status=500))

    def _refuse(self, request: Request, fault: Fault) -> None:
        self._metrics.add("errors_total", code=fault.code)
        fields = b"%b\r\nallow: %b" % (JSON, fault.allowed.encode()) if fault.allowed else JSON
        request.respond(fault.status, encode(fault), fields)

    def _find_operation(self, request: Request) -> Callable[[Request], Awaitable[None]]:
        path = request.target.partition(b"?")[0]
        if _BAD_ESCAPE.search(path):
            raise Fault("3000", "Bad Request")
        operations: dict[str, Callable[[Request], Awaitable[None]]]
        if path == _ORACLES:
            operations = {"GET": self._list, "POST": self._add}
        elif path.startswith(_ORACLES + b"/") and path.count(b"/") == 2 and not path.endswith(b"/"):  # noqa: PLR2004
            operations = {"PUT": self._change, "DELETE": self._remove}
        elif path == b"/health":
            operations = {"GET": self._report_health}
        elif path == b"/metrics":
            operations = {"GET": self._show_metrics}
        else:
            raise Fault("3002", "Not Found", status=404)
        operation = operations.get(request.method)
        if operation is None:
            raise Fault("3000", "Method Not Allowed", status=405, allowed=", ".join(operations))
        if path.startswith(_ORACLES):
            _refuse_browsers(request)
            if request.header(b"accept") is None:
                raise Fault("3102", "/header must have required property 'accept'")
        return operation

    async def _list(self, request: Request) -> None:
        wanted = _read_filter(request)
        shown = [_show(row) for row in await fetch_oracles(self._reads)]
        chosen = [
            each for each in shown
            if wanted.get("type", each.oracle_id_type) == each.oracle_id_type
            and wanted.get("currency", each.currency) == each.currency
        ]  # fmt: skip
        request.respond(200, msgspec.json.encode(chosen), JSON)

    async def _add(self, request: Request) -> None:
        _refuse_query(request)
        wanted = read_oracle(request.body)
        oracle = RegisteredOracle(
            0, wanted.party_id_type, wanted.currency or "", wanted.url, wanted.is_default or False
        )
        await self._change_directory(partial(self._changes.add, _CONTEXT, oracle))
        request.respond(201, b"", _NO_CACHE)

    async def _change(self, request: Request) -> None:
        _refuse_query(request)
        wanted = read_oracle(request.body)
        oracle_id = _read_id(request)
        if oracle_id is None:
            raise Fault("3003", "Oracle not found")
        change = partial(
            self._changes.change, _CONTEXT, oracle_id, party_id_type=wanted.party_id_type, url=wanted.url,
            currency=wanted.currency, is_default=wanted.is_default,
        )  # fmt: skip
        await self._change_directory(change)
        request.respond(204, b"", _NO_CACHE)

    async def _remove(self, request: Request) -> None:
        _refuse_query(request)
        oracle_id = _read_id(request)
        if oracle_id is not None:
            await self._change_directory(partial(self._changes.remove, _CONTEXT, oracle_id))
        request.respond(204, b"", _NO_CACHE)

    async def _change_directory(self, change: Callable[[], Awaitable[None]]) -> None:
        """Make one change after the other.  Raises Fault."""
        async with self._turn:
            self._count_change()
            try:
                await change()
            except OracleExists:
                raise Fault("2001", _EXISTS, status=409) from None
            except NoSuchOracle:
                raise Fault("3003", "Oracle not found") from None
            except TooManyOracles:
                detail = f"At most {ORACLES_MAX} oracles can be registered; remove some first"
                raise Fault("3003", detail, status=409) from None

    def _count_change(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._changed_at and now - self._changed_at[0] > HOUR_S:
            self._changed_at.popleft()
        if len(self._changed_at) >= self._changes_hour_max:
            detail = f"At most {self._changes_hour_max} changes in an hour; try again later"
            raise Fault("2005", detail, status=503)
        self._changed_at.append(now)

    async def _report_health(self, request: Request) -> None:
        status = "OK"
        try:
            async with asyncio.timeout(HEALTH_S):
                await fetch_oracles(self._reads)
        except (DirectoryUnavailable, TimeoutError):
            status = "DOWN"
        report = {
            "status": status,
            "uptime": round(time.monotonic() - self._started_s, 3),
            "startTime": self._started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "versionNumber": version("alias-oracle"),
            "services": [{"name": "datastore", "status": status}],
        }
        request.respond(200 if status == "OK" else 503, msgspec.json.encode(report), JSON)

    async def _show_metrics(self, request: Request) -> None:
        request.respond(200, self._metrics.render(), b"content-type: %b" % CONTENT_TYPE.encode())


def _show(row: RegisteredOracle) -> Shown:
    return Shown(
        oracle_id=row.oracle_id, oracle_id_type=row.party_id_type, endpoint=Endpoint(row.url),
        currency=row.currency, is_default=int(row.is_default),
    )  # fmt: skip


def _read_filter(request: Request) -> dict[str, str]:
    """Read `type` and `currency` of the query.  Raises Fault."""
    query = request.target.partition(b"?")[2].decode("ascii")
    wanted: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in ("type", "currency"):
            raise _make_surplus()
        if name in wanted:
            raise Fault("3101", f"/query/{name} must be string")
        wanted[name] = value
    return wanted


def _refuse_query(request: Request) -> None:
    if request.target.partition(b"?")[2]:
        raise _make_surplus()


def _make_surplus() -> Fault:
    return Fault("3103", "/query must NOT have additional properties")


def _refuse_browsers(request: Request) -> None:
    """Refuse calls of web pages: the browser of an operator reaches this listener, also on loopback.  Raises Fault."""
    fetched = request.header(b"sec-fetch-site")
    if request.header(b"origin") is not None or fetched not in (None, b"none"):
        raise Fault("3000", "Web pages cannot call this API", status=403)


def _read_id(request: Request) -> int | None:
    """Read the number of an oracle from the path; None for one that cannot exist."""
    text = unquote_to_bytes(request.target.partition(b"?")[0].rpartition(b"/")[2]).decode("utf-8", "replace")
    return int(text) if _ID.fullmatch(text) and int(text) <= ID_MAX else None
