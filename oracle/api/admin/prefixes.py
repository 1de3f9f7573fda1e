"""The list of prefixes, in the shape that the client of ThitsaWorks' Pivotal reads; public, outside /admin/v1.

    GET /admin-api/prefixes                        every prefix
    GET /admin-api/prefixesByUseCase/{usecase}     those of FSPs with this use case; 404 where no FSP has it

One element for each route for account numbers (ACCOUNT_ID, and so CLABE) that is valid now, is made of digits, and
whose FSP is active or provisional.  The client's members, and what they are here:

    id               the number of the route
    prefix           an integer, so it has no zeros in front: 012 is 12.  Its readers know the width of a prefix (three
                     digits: they take the rest for the account).  A prefix of more than 15 digits is left out:
                     JavaScript would read another number
    createdAt        when the route was created, UTC, to the millisecond
    status           always `active`: the list has no suspended or closed FSP
    localeName, name of the FSP; without them, its name and its id
    dfspType, additionalInfo, logoDataType, logoBase64    of the FSP, '' where it has none

All are text, never null.  Every prefix of an FSP has its logo, while all logos together stay below LOGO_CHARS_MAX;
beyond that only an FSP's first prefix has it, and then none: the list of an FSP with thousands of routes would be
gigabytes of one picture.  A logo of more than LOGO_BYTES_MAX, from before that limit, is left out.

Anybody may ask as often as they like: the list is read once a second at most, and at most a tenth of the time, however
many ask.  Its body is made once for each change, and all answers share it (see `bodies`).
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import Counter, OrderedDict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from litestar import Request, Response, Router
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath
from msgspec import Meta

from oracle.api.admin.access import PUBLIC
from oracle.api.admin.bodies import SharedAnswer, SharedBody
from oracle.api.admin.fsps import LOGO_BYTES_MAX
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.store.rows import PrefixRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from oracle.store.postgres import Postgres

KEEP_S: Final = 1.0
KEEP_MAX_S: Final = 60.0
LOGO_CHARS_MAX: Final = 2 * 1_048_576
USE_CASES_KEPT: Final = 16  # lists of one use case that are kept
_use_case: Final = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
_encode: Final = msgspec.json.Encoder().encode


class Prefix(msgspec.Struct, kw_only=True, rename="camel"):
    id: int
    prefix: Annotated[int, Meta(ge=0)]
    fsp_id: str
    created_at: Annotated[str, Meta(description="2025-06-10T12:52:37.000Z")]
    status: str
    locale_name: str
    dfsp_type: str
    additional_info: str
    logo_data_type: str
    logo_base64: str
    name: str


class _Element(msgspec.Struct, frozen=True):
    use_cases: frozenset[str]
    body: bytes


class _List:
    def __init__(self, elements: list[_Element], use_cases: frozenset[str]) -> None:
        """`use_cases`: those that any FSP has, with a prefix or without."""
        self.elements = elements
        self.use_cases = use_cases
        self._bodies: OrderedDict[str | None, SharedBody] = OrderedDict()
        self._turn = asyncio.Lock()  # bodies are made and compressed one after the other, however many ask

    def is_equal(self, other: _List) -> bool:
        return self.elements == other.elements and self.use_cases == other.use_cases

    async def answer(self, request: Request[Any, Any, Any], use_case: str | None = None) -> Response[bytes]:
        """Answer with all elements, or with those of a use case."""
        kept = self._bodies.get(use_case)
        return (kept and kept.match(request)) or SharedAnswer(request, partial(self.find_body, use_case))

    async def find_body(self, use_case: str | None = None) -> SharedBody:
        """Make the body of all elements, or of those of a use case, or return the one made before."""
        async with self._turn:
            found = self._bodies.get(use_case)
            if found is None:
                # In a thread, so that the event loop goes on: there may be thousands of routes.
                found = self._bodies[use_case] = await asyncio.to_thread(self._make_body, use_case)
                if len(self._bodies) > USE_CASES_KEPT:
                    self._bodies.popitem(last=False)
            return found

    def _make_body(self, use_case: str | None) -> SharedBody:
        wanted = [each.body for each in self.elements if use_case is None or use_case in each.use_cases]
        return SharedBody(b"[" + b",".join(wanted) + b"]", "application/json", self._turn)


class PrefixList:
    """Keeps the list for a moment, and reads it once for all callers at the same time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: _List | None = None
        self._until = 0.0
        self._reading = asyncio.Lock()

    async def current(self, postgres: Postgres) -> _List:
        """Raises DirectoryUnavailable."""
        async with self._reading:
            if self._kept is None or self._clock() >= self._until:
                began = self._clock()
                found = await _read(postgres)
                if self._kept is None or not self._kept.is_equal(found):
                    self._kept = found
                took_s = self._clock() - began
                self._until = began + min(max(KEEP_S, 10 * took_s), KEEP_MAX_S)
            return self._kept


def router() -> Router:
    prefix_list = PrefixList()

    async def _prefix_list() -> PrefixList:
        return prefix_list

    return Router(
        "/admin-api", route_handlers=[list_prefixes, list_by_use_case],
        dependencies={"prefixes": Provide(_prefix_list)}, tags=["Prefixes"],
    )  # fmt: skip


@operation(
    "listPrefixes",
    "GET",
    "/prefixes",
    PUBLIC,
    "List the prefixes of account numbers and their FSPs",
    answers=list[Prefix],
)
async def list_prefixes(
    request: Request[Any, Any, Any], state: State, prefixes: NamedDependency[PrefixList]
) -> Response[bytes]:
    now = await prefixes.current(state.services.postgres)
    return await now.answer(request)


@operation(
    "listPrefixesByUseCase",
    "GET",
    "/prefixesByUseCase/{use_case:str}",
    PUBLIC,
    "List the prefixes of the FSPs that have a use case",
    answers=list[Prefix],
)
async def list_by_use_case(
    request: Request[Any, Any, Any], state: State, prefixes: NamedDependency[PrefixList], use_case: FromPath[str]
) -> Response[bytes]:
    wanted = use_case.strip()
    if not _use_case(wanted):
        raise _no_such_use_case()
    now = await prefixes.current(state.services.postgres)
    if wanted not in now.use_cases:
        raise _no_such_use_case()
    return await now.answer(request, wanted)


def _no_such_use_case() -> Refusal:
    return Refusal(
        404, "not_found", "No FSP has this use case", "List the FSPs to see their use cases", field="use_case"
    )


async def _read(postgres: Postgres) -> _List:
    rows = [row async for some in postgres.stream("prefixes") for row in some]
    use_cases = await postgres.rows("use_cases")
    pictured = list({row["fsp_id"] for row in rows if row["logo_data_type"]})
    logos = {row["fsp_id"]: row["data"] for row in await postgres.rows("prefix_logos", pictured)}
    # In a thread, so that the event loop goes on: there may be thousands of routes.
    elements = await asyncio.to_thread(_elements, rows, logos)
    return _List(elements, frozenset(row["use_case"] for row in use_cases))


def _elements(rows: list[PrefixRow], logos: dict[str, bytes]) -> list[_Element]:
    shown = _place_logos(
        rows, {fsp_id: base64.b64encode(data).decode() for fsp_id, data in logos.items() if len(data) <= LOGO_BYTES_MAX}
    )
    elements = []
    for row, logo in zip(rows, shown, strict=True):
        body = _encode(_prefix(row, logo))
        elements.append(_Element(frozenset(row["use_cases"]), body))
    return elements


def _place_logos(rows: list[Any], logos: dict[str, str]) -> list[str]:
    """Choose the logo of each row; '' where its FSP has none, or there is no room."""
    counts = Counter(row["fsp_id"] for row in rows)
    everywhere = sum(len(logo) * counts[fsp_id] for fsp_id, logo in logos.items()) <= LOGO_CHARS_MAX
    room = LOGO_CHARS_MAX
    seen: set[str] = set()
    shown = []
    for row in rows:
        logo = logos.get(row["fsp_id"], "")
        if not everywhere and (row["fsp_id"] in seen or len(logo) > room):
            logo = ""
        seen.add(row["fsp_id"])
        room -= len(logo)
        shown.append(logo)
    return shown


def _prefix(row: PrefixRow, logo: str) -> Prefix:
    return Prefix(
        id=row["route_id"], prefix=row["prefix"], fsp_id=row["fsp_id"], created_at=_time(row["created_at"]),
        status="active", locale_name=row["locale_name"], dfsp_type=row["dfsp_type"],
        additional_info=row["additional_info"], logo_data_type=row["logo_data_type"] if logo else "",
        logo_base64=logo, name=row["name"],
    )  # fmt: skip


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
