"""Administration of routes: rules that answer identifiers nobody has registered, by how they begin.

Longest wins.  A rule cuts into a shorter one of the same type, and a longer one cuts into it.  Both are shown, by
               `dryRun` before it is accepted and again when it is.
One at a time. Rules of one prefix follow each other in time; two that hold at the same instant are refused, the other
               one named.  Writers take turns, so of two equal calls the later one sees the earlier one's rule.
No past.       What has begun is never dated back and what is over stays as it was, so the table says for every instant
               of the past which rules held then.  A rule that has not begun may be changed, or withdrawn without trace
               but that of history.
Acknowledged.  When every process goes by it (Changes.administer).
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from oracle.api.admin.access import OPERATOR, Role, allow
from oracle.api.admin.calls import PAGE, PAGE_MAX, Answer, Body, Call, Resource, answer, cursor_of, position_of
from oracle.api.admin.fsps import READERS, FspId, Reason, Status, no_such_fsp
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.identifiers import PARTY_ID_TYPES, BadIdentifier, Kind, PartyIdType, Reading, find_scheme
from oracle.identifiers.prefix import bound_above, list_prefixes
from oracle.store.postgres import Transaction

OVERLAPS_MAX: Final = 1_000
_TYPES: Final = frozenset(PARTY_ID_TYPES.values())
_ID_MAX: Final = 2**63 - 1

Time = Annotated[datetime, Meta(tz=True)]
Prefix = Annotated[str, Meta(min_length=1, max_length=128)]
Note = Annotated[str, Meta(min_length=1, max_length=256)]

HUB_READERS: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER)


# What comes in ------------------------------------------------------------------------------------------------


class NewRoute(Body):
    kind: Annotated[Kind, Meta(description="A CLABE is an ACCOUNT_ID, an NRC a PERSONAL_ID, whose form is checked")]
    prefix: Annotated[Prefix, Meta(description="How the identifiers begin")]
    fsp_id: FspId
    valid_from: Annotated[Time | None, Meta(description="null: from now on")] = None
    valid_to: Annotated[
        Time | None, Meta(description="The first instant at which it does not hold; null: for ever")
    ] = None
    note: Note | None = None
    reason: Reason | None = None


class RouteChange(Body):
    """What is left out stays; null takes away."""

    valid_from: Time | UnsetType = UNSET
    valid_to: Time | UnsetType | None = UNSET
    note: Note | UnsetType | None = UNSET
    reason: Reason | None = None


class RouteEnd(Body):
    reason: Reason
    at: Annotated[Time | None, Meta(description="null: now")] = None


# What goes out ------------------------------------------------------------------------------------------------


class Route(Resource):
    route_id: int
    kind: PartyIdType
    prefix: str
    fsp_id: str
    valid_from: Annotated[datetime | None, Meta(description="null: always has")]
    valid_to: Annotated[datetime | None, Meta(description="null: for ever")]
    note: str | None
    created_at: datetime
    changed_at: datetime


class RoutePage(Resource):
    items: list[Route]
    next: str | None


class Neighbour(Resource):
    """Another rule that an identifier could come under at some time when the new one holds."""

    route_id: int
    prefix: str
    fsp_id: str
    fsp_status: Status
    valid_from: datetime | None
    valid_to: datetime | None


class Overlap(Neighbour):
    relation: Annotated[
        Literal["shorter", "longer"], Meta(description="Than the new prefix: a shorter one yields, a longer one stays")
    ]
    explanation: str


class Placed(Resource):
    """A rule among the others."""

    route: Annotated[Route | None, Meta(description="null: nothing was changed (dryRun)")]
    prefix: Annotated[str, Meta(description="As it is compared")]
    would_overlap: Annotated[list[Overlap], Meta(description=f"Up to {OVERLAPS_MAX} of them, shorter ones first")]
    overlaps: Annotated[int, Meta(description="How many there are")]
    conflict: Annotated[
        Neighbour | None, Meta(description="A rule of this very prefix that holds at that time: it would be refused")
    ]


def handlers() -> list[HTTPRouteHandler]:
    return [list_routes, create_route, read_route, change_route, end_route, list_routes_of_fsp]


def route_of(row: Any) -> Route:
    values = {name: row[name] for name in Route.__struct_fields__ if name != "kind"}
    return Route(kind=PartyIdType(row["party_id_type"]), **values)


def no_such_route() -> Refusal:
    return Refusal(404, "not_found", "No such route", "GET /admin/v1/routes lists them")


def read_prefix(reading: Reading, kind: str, text: str) -> tuple[str, str]:
    """PartyIdType and prefix.  Raises Refusal."""
    try:
        return reading.read_prefix(kind, text)
    except BadIdentifier as exc:
        raise Refusal(400, "bad_prefix", str(exc), f"Write {find_scheme(kind).prefix_form}") from None


def _as_compared(reading: Reading, kind: str, text: str) -> str:
    """A whole identifier, or a prefix; what is neither is the beginning of nothing."""
    with suppress(BadIdentifier):
        return reading.read_key(kind, text).identifier
    with suppress(Refusal):
        return read_prefix(reading, kind, text)[1]
    return text


def instant(name: str, at: datetime | None) -> datetime | None:
    """The same in UTC.  Raises Refusal for what no calendar here has."""
    if at is None:
        return None
    try:
        found = at.astimezone(UTC)
    except (OverflowError, ValueError):
        found = None
    if found is None or not 1900 <= found.year < 9999:  # noqa: PLR2004 - beyond it the database has other words for time
        raise Refusal(400, "invalid", f"{name} is out of range", "Name a time from 1900 to 9998")
    return found


def period(valid_from: datetime | None, valid_to: datetime | None) -> tuple[datetime | None, datetime | None]:
    """From and to of a new rule; None is now, and for ever.  Raises Refusal."""
    begins, ends = instant("validFrom", valid_from), instant("validTo", valid_to)
    now = datetime.now(UTC)
    if begins is not None and begins < now:
        raise Refusal(400, "in_the_past", "validFrom is over", "Leave it out for now; the past is not written anew")
    if ends is not None and ends <= (begins or now):
        raise Refusal(400, "invalid", "validTo is not after validFrom", "Leave it out for ever")
    return begins, ends


# The calls ----------------------------------------------------------------------------------------------------


@operation("GET", "/routes", HUB_READERS, "List the routes, in the order of their prefixes", answers=RoutePage)
async def list_routes(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    kind: FromQuery[Kind | None] = None,
    fsp_id: Annotated[str | None, QueryParameter(name="fspId")] = None,
    prefix: Annotated[
        str | None,
        QueryParameter(
            min_length=1,
            max_length=128,
            description="Rules that it comes under, or that come under it; with a kind, in any spelling",
        ),
    ] = None,
    valid_at: Annotated[datetime | None, QueryParameter(name="validAt")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    around = prefix if kind is None or prefix is None else _as_compared(reading, kind, prefix)
    return await _page(call, kind, fsp_id, around, valid_at, limit, cursor)


@operation("GET", "/fsps/{fsp_id:str}/routes", READERS, "List the routes of one FSP", answers=RoutePage)
async def list_routes_of_fsp(
    call: NamedDependency[Call],
    fsp_id: FromPath[str],
    kind: FromQuery[Kind | None] = None,
    valid_at: Annotated[datetime | None, QueryParameter(name="validAt")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    if await call.postgres.row("fsp", fsp_id) is None:
        raise no_such_fsp()
    return await _page(call, kind, fsp_id, None, valid_at, limit, cursor)


async def _page(
    call: Call,
    kind: str | None,
    fsp_id: str | None,
    prefix: str | None,
    valid_at: datetime | None,
    limit: int,
    cursor: str | None,
) -> Response[bytes]:
    if valid_at is not None and valid_at.tzinfo is None:
        raise Refusal(400, "invalid", "validAt names no time zone", "Add Z, or +00:00 with the + escaped")
    position = position_of(cursor, str, str, int) or (None, None, None)
    if position[0] is not None and (position[0] not in _TYPES or not 0 < position[2] <= _ID_MAX):
        raise Refusal(400, "invalid", "The cursor cannot be read", "Use `next` of the page before")
    around = (None, None, None) if prefix is None else (list_prefixes(prefix), prefix, bound_above(prefix))
    rows = await call.postgres.rows(
        "routes_page",
        kind and PARTY_ID_TYPES[kind],
        fsp_id,
        *around,
        instant("validAt", valid_at),
        *position,
        limit + 1,
    )
    items = [route_of(row) for row in rows[:limit]]
    last = items[-1] if len(rows) > limit else None
    following = None if last is None else cursor_of(last.kind, last.prefix, last.route_id)
    return call.read(RoutePage(items=items, next=following))


@operation(
    "POST",
    "/routes",
    OPERATOR,
    "Create a route, or say what it would cut into",
    answers=Placed,
    status=201,
    also=(200,),
)
async def create_route(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    data: JSONBody[NewRoute],
    dry_run: Annotated[
        bool, QueryParameter(name="dryRun", description="Change nothing: 200, with what stands around it")
    ] = False,
) -> Response[bytes]:
    party_id_type, prefix = read_prefix(reading, data.kind, data.prefix)

    async def work(transaction: Transaction) -> Answer:
        begins, ends = period(data.valid_from, data.valid_to)  # here: a repeated call gets the answer of then
        await _require_open(transaction, data.fsp_id)
        if not dry_run:
            await transaction.rows("routes_turn")
        around = await _around(transaction, party_id_type, prefix, data.fsp_id, begins, ends)
        if dry_run:
            return answer(around)
        if around.conflict is not None:
            raise overlapping(around.conflict.route_id)
        added = await transaction.rows("route_add", party_id_type, prefix, data.fsp_id, begins, ends, data.note)
        (row,) = await transaction.rows("route", added[0]["route_id"])
        around.route = route_of(row)
        location = f"/admin/v1/routes/{row['route_id']}"
        return answer(around, status=201, version=row["version"], location=location)

    return await call.administer(work, reason=data.reason or data.note or "", settles=not dry_run)


@operation("GET", "/routes/{route_id:int}", HUB_READERS, "Read a route", answers=Route)
async def read_route(call: NamedDependency[Call], route_id: FromPath[int]) -> Response[bytes]:
    row = await call.postgres.row("route", route_id) if 0 < route_id <= _ID_MAX else None
    if row is None:
        raise no_such_route()
    return call.read(route_of(row), row["version"])


@operation("PATCH", "/routes/{route_id:int}", OPERATOR, "Change when a route holds, or its note", answers=Route)
async def change_route(
    call: NamedDependency[Call], route_id: FromPath[int], data: JSONBody[RouteChange]
) -> Response[bytes]:
    changed = {
        name: value for name in ("valid_from", "valid_to", "note") if (value := getattr(data, name)) is not UNSET
    }

    async def work(transaction: Transaction) -> Answer:
        row = await _locked(transaction, call, route_id)
        wanted = {name: row[name] for name in ("valid_from", "valid_to", "note")} | changed
        begins, ends = instant("validFrom", wanted["valid_from"]), instant("validTo", wanted["valid_to"])
        if (begins, ends) != (row["valid_from"], row["valid_to"]):
            _check_period(row, begins, ends)
            shown = await _around(
                transaction, row["party_id_type"], row["prefix"], row["fsp_id"], begins, ends, without=route_id
            )
            if shown.conflict is not None:
                raise overlapping(shown.conflict.route_id)
        if (begins, ends, wanted["note"]) != (row["valid_from"], row["valid_to"], row["note"]):
            await transaction.run("route_change", route_id, begins, ends, wanted["note"])
        (row,) = await transaction.rows("route", route_id)
        return answer(route_of(row), version=row["version"])

    return await call.administer(work, reason=data.reason or "", settles=True)


@operation(
    "POST", "/routes/{route_id:int}/end", OPERATOR, "End a route, now or later; one that has not begun is withdrawn",
    answers=Route,
)  # fmt: skip
async def end_route(call: NamedDependency[Call], route_id: FromPath[int], data: JSONBody[RouteEnd]) -> Response[bytes]:
    at = instant("at", data.at)

    async def work(transaction: Transaction) -> Answer:
        if at is not None and at < datetime.now(UTC):  # here: a repeated call gets the answer of then
            raise Refusal(400, "in_the_past", "at is over", "Leave it out for now; the past is not written anew")
        row = await _locked(transaction, call, route_id)
        _require_time_left(row)
        if at is not None and row["valid_to"] is not None and at > row["valid_to"]:
            raise Refusal(409, "ends_earlier", "The route ends before that", "PATCH its validTo to have it hold longer")
        if not row["has_begun"] and (at is None or at <= row["valid_from"]):
            await transaction.run("route_withdraw", route_id)
            return answer(route_of(row))
        await transaction.run("route_end", route_id, at)
        (row,) = await transaction.rows("route", route_id)
        return answer(route_of(row), version=row["version"])

    return await call.administer(work, reason=data.reason, settles=True)


# How it is done -----------------------------------------------------------------------------------------------


def overlapping(route_id: int) -> Refusal:
    return Refusal(
        409, "route_overlap", f"Route {route_id} has this prefix at that time",
        f"End it first (POST /admin/v1/routes/{route_id}/end), or choose another time",
    )  # fmt: skip


def closed(fsp_id: str) -> Refusal:
    return Refusal(409, "fsp_closed", f"The FSP {fsp_id} is closed", "Set it active first")


async def _require_open(transaction: Transaction, fsp_id: str) -> None:
    rows = await transaction.rows("route_fsps", [fsp_id])
    if not rows:
        raise no_such_fsp()
    if rows[0]["status"] == "closed":
        raise closed(fsp_id)


async def _locked(transaction: Transaction, call: Call, route_id: int) -> Any:
    await transaction.rows("routes_turn")
    rows = await transaction.rows("route_locked", route_id) if 0 < route_id <= _ID_MAX else []
    if not rows:
        raise no_such_route()
    call.match(rows[0]["version"])
    return rows[0]


def _require_time_left(row: Any) -> None:
    if row["is_over"]:
        raise Refusal(409, "route_ended", "The route has ended", "Create another one")


def _check_period(row: Any, begins: datetime | None, ends: datetime | None) -> None:
    _require_time_left(row)
    now = datetime.now(UTC)
    if begins != row["valid_from"]:
        if row["has_begun"]:
            raise Refusal(
                409, "route_begun", "The route has begun: when, is not changed any more", "Create another one"
            )
        if begins is not None and begins < now:
            raise Refusal(400, "in_the_past", "validFrom is over", "The past is not written anew")
    if ends is not None and (ends < now or (begins is not None and ends <= begins)):
        raise Refusal(400, "invalid", "validTo is over, or not after validFrom", "POST …/end ends a route now")


async def _around(
    transaction: Transaction,
    party_id_type: str,
    prefix: str,
    fsp_id: str,
    begins: datetime | None,
    ends: datetime | None,
    without: int | None = None,
) -> Placed:
    """A rule among those that hold at some time when it would."""
    rows = await transaction.rows(
        "routes_overlapping", party_id_type, prefix, list_prefixes(prefix), bound_above(prefix), begins, ends, without,
        OVERLAPS_MAX,
    )  # fmt: skip
    same = [row for row in rows if row["prefix"] == prefix]
    others = [_overlap(row, prefix, fsp_id) for row in rows if row["prefix"] != prefix]
    total = rows[0]["total"] - len(same) if rows else 0
    conflict = Neighbour(**_columns(same[0])) if same else None
    return Placed(route=None, prefix=prefix, would_overlap=others, overlaps=total, conflict=conflict)


def _columns(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in Neighbour.__struct_fields__}


def _overlap(row: Any, prefix: str, fsp_id: str) -> Overlap:
    other = row["prefix"]
    if len(other) < len(prefix):
        said = f"What begins with {prefix} goes to {fsp_id} instead of {row['fsp_id']}; {other} keeps the rest"
        return Overlap(**_columns(row), relation="shorter", explanation=said)
    said = f"What begins with {other} stays with {row['fsp_id']}: the longest prefix wins"
    return Overlap(**_columns(row), relation="longer", explanation=said)
