"""Administration of routes: rules that answer unregistered identifiers by their first characters.

Longest wins.  A route takes over a part of each shorter route of the same type, and a longer one takes over a part of
               it.  `dryRun` shows both before the route is created, and the answer shows them again.
Kind.          A route keeps the kind that the caller named, and answers only identifiers of that kind.  Two kinds of
               one type can have the same prefix; the narrower kind decides then (oracle/store/routes.py).
One at a time. Routes with one kind and prefix follow each other in time.  A second one that is valid at the same
               instant is refused, and the refusal names the first one.  Writers take turns, so of two equal calls the
               later one sees the route of the earlier one.
No past.       A route that has begun never begins earlier, and an ended route stays as it was: for every past instant,
               the table shows the routes that were valid.  A route that has not begun can be changed or withdrawn;
               only history keeps it then.
Acknowledged.  A change is acknowledged when every process follows it (Changes.administer).
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from oracle.api.admin.access import OPERATOR, allow
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.fsps import READERS, no_such_fsp
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.problems import Refusal
from oracle.api.admin.times import Time, read_future, read_time
from oracle.api.admin.values import FspId, FspIdQuery, FspStatus, Note, Reason
from oracle.identifiers import PARTY_ID_TYPES, BadIdentifier, Kind, Reading, find_scheme
from oracle.identifiers.errors import BadPrefix
from oracle.identifiers.prefix import RoutePrefix, bound_above, list_prefixes
from oracle.identity.identity import Role
from oracle.imports.cells import find_damage
from oracle.imports.refusals import REFUSALS
from oracle.sentences import Sentence
from oracle.store.postgres import Transaction
from oracle.store.rows import LockedRouteRow, OverlapRow

OVERLAPS_MAX: Final = 1_000
_ID_MAX: Final = 2**63 - 1
_NOW: Final = "Past routing cannot be changed; leave the time out for now"

Prefix = Annotated[str, Meta(min_length=1, max_length=128)]
Relation = Literal["shorter", "longer", "other_kind"]
RELATIONS: Final = (
    "The other prefix is shorter or longer than the new one, and the longest prefix decides; other_kind: it is the same"
    " prefix for another kind, and the narrower kind decides"
)

HUB_READERS: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER)
LISTERS: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER, narrows=True)


# What comes in ------------------------------------------------------------------------------------------------


class NewRoute(Body):
    kind: Annotated[
        Kind,
        Meta(
            description="The route answers identifiers of this kind only: with CLABE valid CLABEs, with ACCOUNT_ID"
            " every account number"
        ),
    ]
    prefix: Annotated[Prefix, Meta(description="The first characters of the identifiers")]
    fsp_id: FspId
    valid_from: Annotated[Time | None, Meta(description="null: from now on")] = None
    valid_to: Annotated[Time | None, Meta(description="Valid before this time; null: forever")] = None
    note: Note | None = None
    reason: Reason | None = None


class RouteChange(Body):
    """A member that you leave out stays as it is; null removes it."""

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
    kind: Annotated[Kind, Meta(description="The route answers identifiers of this kind only")]
    prefix: str
    fsp_id: str
    valid_from: Annotated[datetime | None, Meta(description="null: since the beginning")]
    valid_to: Annotated[datetime | None, Meta(description="null: forever")]
    note: str | None
    created_at: datetime
    changed_at: datetime


class RoutePage(Resource):
    items: list[Route]
    next: str | None
    prefix: Annotated[
        str | None, Meta(description="The prefix of the question, in its canonical spelling if it has one")
    ]


class RoutePosition(NamedTuple):
    """The route behind which a page begins."""

    party_id_type: str | None = None
    prefix: str | None = None
    route_id: int | None = None

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(row["party_id_type"], row["prefix"], row["route_id"])


class Neighbour(Resource):
    """Another route that can match the same identifiers while the new one is valid."""

    route_id: int
    kind: Kind
    prefix: str
    fsp_id: str
    fsp_status: FspStatus
    valid_from: datetime | None
    valid_to: datetime | None


class Overlap(Neighbour):
    relation: Annotated[Relation, Meta(description=RELATIONS)]
    explanation: Sentence


class Placed(Resource):
    """A route among the others."""

    route: Annotated[Route | None, Meta(description="null: nothing was changed, because of dryRun")]
    kind: Kind
    prefix: Annotated[str, Meta(description="In its canonical spelling")]
    would_overlap: Annotated[list[Overlap], Meta(description=f"Up to {OVERLAPS_MAX} routes, shorter ones first")]
    overlaps: Annotated[int, Meta(description="How many there are in all")]
    conflict: Annotated[
        Neighbour | None,
        Meta(description="A route with the same kind and prefix at that time: the new one would be refused"),
    ]


def handlers() -> list[HTTPRouteHandler]:
    return [list_routes, create_route, read_route, change_route, end_route, list_routes_of_fsp]


def route_of(row: Any) -> Route:
    return Route(**{name: row[name] for name in Route.__struct_fields__})


def no_such_route() -> Refusal:
    return Refusal(404, "not_found", "No such route", "List the routes to see their numbers")


def read_prefix(reading: Reading, kind: str, text: str) -> RoutePrefix:
    """Read the prefix of a route in its canonical spelling.  Raises Refusal."""
    damage = find_damage(text)
    if damage is not None:
        raise Refusal(400, "damaged_value", REFUSALS[damage], f"Reason: {damage}", field="prefix")
    try:
        return reading.read_prefix(kind, text)
    except BadIdentifier as exc:
        raise make_bad_prefix(kind, exc) from None


def make_bad_prefix(kind: str, exc: BadIdentifier) -> Refusal:
    """Name the form of a prefix of this kind."""
    written = exc.written if isinstance(exc, BadPrefix) else ""
    form = written or find_scheme(kind.upper()).prefix_form
    return Refusal(400, "bad_prefix", str(exc), f"Write {form}", field="prefix")


def _canonicalise_question(reading: Reading, kind: str, text: str) -> str:
    """Read a whole identifier or a prefix in its canonical spelling; any other text matches nothing."""
    with suppress(BadIdentifier):
        return reading.read_key(kind, text).identifier
    with suppress(Refusal):
        return read_prefix(reading, kind, text).prefix
    return text


def read_period(valid_from: datetime | None, valid_to: datetime | None) -> tuple[datetime | None, datetime | None]:
    """Read from and to of a new route; None is now, and forever.  Raises Refusal."""
    begins, ends = read_future("validFrom", valid_from, _NOW), read_time("validTo", valid_to)
    if ends is not None and ends <= (begins or datetime.now(UTC)):
        raise Refusal(
            400, "invalid", "validTo must be after validFrom", "Leave validTo out to keep the route forever",
            field="validTo",
        )  # fmt: skip
    return begins, ends


# The calls ----------------------------------------------------------------------------------------------------


@operation("listRoutes", "GET", "/routes", LISTERS, "List the routes by prefix", answers=RoutePage)
async def list_routes(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    kind: FromQuery[Kind | None] = None,
    fsp_id: FspIdQuery = None,
    prefix: Annotated[
        str | None,
        QueryParameter(
            min_length=1,
            max_length=128,
            description="Routes that match it, or that begin with it; with a kind, in any spelling",
        ),
    ] = None,
    valid_at: Annotated[datetime | None, QueryParameter(name="validAt")] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    around = prefix if kind is None or prefix is None else _canonicalise_question(reading, kind, prefix)
    return await _answer_page(call, kind, fsp_id, around, valid_at, limit, cursor)


@operation(
    "listFspRoutes", "GET", "/fsps/{fsp_id:str}/routes", READERS, "List the routes of one FSP", answers=RoutePage
)
async def list_routes_of_fsp(
    call: NamedDependency[Call],
    fsp_id: FromPath[str],
    kind: FromQuery[Kind | None] = None,
    valid_at: Annotated[datetime | None, QueryParameter(name="validAt")] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    if await call.postgres.row("fsp", fsp_id) is None:
        raise no_such_fsp()
    return await _answer_page(call, kind, fsp_id, None, valid_at, limit, cursor)


async def _answer_page(
    call: Call,
    kind: str | None,
    fsp_id: str | None,
    prefix: str | None,
    valid_at: datetime | None,
    limit: int,
    cursor: str | None,
) -> Response[bytes]:
    at = read_time("validAt", valid_at)
    cursors = Cursors(call.caller, "routes", kind, fsp_id, prefix, at)
    position = cursors.open(cursor, RoutePosition) or RoutePosition()
    around = (None, None, None) if prefix is None else (list_prefixes(prefix), prefix, bound_above(prefix))
    rows = await call.postgres.rows(
        "routes_page",
        kind,
        fsp_id,
        *around,
        at,
        *position,
        limit + 1,
        call.list_fsps(),
        None if kind is None else PARTY_ID_TYPES[kind],
    )
    last = rows[limit - 1] if len(rows) > limit else None
    following = None if last is None else cursors.close(RoutePosition.of(last))
    return call.read_page(RoutePage(items=[route_of(row) for row in rows[:limit]], next=following, prefix=prefix))


@operation(
    "createRoute",
    "POST",
    "/routes",
    OPERATOR,
    "Create a route, or show the routes that it would overlap",
    answers=Placed,
    status=201,
    also=(200,),
)
async def create_route(
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    data: JSONBody[NewRoute],
    dry_run: Annotated[
        bool, QueryParameter(name="dryRun", description="Change nothing; the answer, 200, shows the overlapping routes")
    ] = False,
) -> Response[bytes]:
    wanted = read_prefix(reading, data.kind, data.prefix)

    async def work(transaction: Transaction) -> Answer:
        begins, ends = read_period(data.valid_from, data.valid_to)  # here: a repeated call must get its first answer
        await _require_open(transaction, data.fsp_id)
        if not dry_run:
            await transaction.rows("routes_turn")
        around = await _find_around(transaction, wanted, data.fsp_id, begins, ends)
        if dry_run:
            return answer(around)
        if around.conflict is not None:
            raise make_route_overlap(around.conflict.route_id)
        added = await transaction.rows("route_add", *wanted, data.fsp_id, begins, ends, data.note)
        (row,) = await transaction.rows("route", added[0]["route_id"])
        around.route = route_of(row)
        location = f"/admin/v1/routes/{row['route_id']}"
        return answer(around, status=201, version=row["version"], location=location)

    return await call.administer(work, reason=data.reason or data.note or "", settles=not dry_run, keeps=not dry_run)


@operation("getRoute", "GET", "/routes/{route_id:int}", HUB_READERS, "Read a route", answers=Route)
async def read_route(call: NamedDependency[Call], route_id: FromPath[int]) -> Response[bytes]:
    row = await call.postgres.row("route", route_id) if 0 < route_id <= _ID_MAX else None
    if row is None:
        raise no_such_route()
    return call.read(route_of(row), row["version"])


@operation(
    "changeRoute",
    "PATCH",
    "/routes/{route_id:int}",
    OPERATOR,
    "Change the period or the note of a route",
    answers=Route,
)
async def change_route(
    call: NamedDependency[Call], route_id: FromPath[int], data: JSONBody[RouteChange]
) -> Response[bytes]:
    changed = {
        name: value for name in ("valid_from", "valid_to", "note") if (value := getattr(data, name)) is not UNSET
    }

    async def work(transaction: Transaction) -> Answer:
        row = await _lock(transaction, call, route_id)
        wanted = {name: row[name] for name in ("valid_from", "valid_to", "note")} | changed
        begins, ends = read_time("validFrom", wanted["valid_from"]), read_time("validTo", wanted["valid_to"])
        if (begins, ends) != (row["valid_from"], row["valid_to"]):
            _check_period(row, begins, ends)
            placed = RoutePrefix(row["party_id_type"], row["kind"], row["prefix"])
            around = await _find_around(transaction, placed, row["fsp_id"], begins, ends, without=route_id)
            if around.conflict is not None:
                raise make_route_overlap(around.conflict.route_id)
        if (begins, ends, wanted["note"]) != (row["valid_from"], row["valid_to"], row["note"]):
            await transaction.run("route_change", route_id, begins, ends, wanted["note"])
        (row,) = await transaction.rows("route", route_id)
        return answer(route_of(row), version=row["version"])

    return await call.administer(work, reason=data.reason or "", settles=True)


@operation(
    "endRoute",
    "POST",
    "/routes/{route_id:int}/end",
    OPERATOR,
    "End a route now or later, or withdraw one that has not begun",
    answers=Route,
)
async def end_route(call: NamedDependency[Call], route_id: FromPath[int], data: JSONBody[RouteEnd]) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        at = read_future("at", data.at, _NOW)  # here: a repeated call must get its first answer
        row = await _lock(transaction, call, route_id)
        _require_time_left(row)
        if at is not None and row["valid_to"] is not None and at > row["valid_to"]:
            raise Refusal(
                409, "ends_earlier", "The route already ends before that time",
                "To keep the route longer, change the end of the route (validTo)", field="at",
            )  # fmt: skip
        if not row["has_begun"] and (at is None or at <= row["valid_from"]):
            await transaction.run("route_withdraw", route_id)
            return answer(route_of(row))
        await transaction.run("route_end", route_id, at)
        (row,) = await transaction.rows("route", route_id)
        return answer(route_of(row), version=row["version"])

    return await call.administer(work, reason=data.reason, settles=True)


# How it is done -----------------------------------------------------------------------------------------------


def make_route_overlap(route_id: int) -> Refusal:
    return Refusal(
        409, "route_overlap", f"Route {route_id} has this kind and prefix at that time",
        "End that route first, or choose another time",
    )  # fmt: skip


def make_fsp_closed(fsp_id: str) -> Refusal:
    return Refusal(409, "fsp_closed", f"The FSP {fsp_id} is closed", "Set the FSP to active first", field="fspId")


async def _require_open(transaction: Transaction, fsp_id: str) -> None:
    rows = await transaction.rows("route_fsps", [fsp_id])
    if not rows:
        raise no_such_fsp()
    if rows[0]["status"] == "closed":
        raise make_fsp_closed(fsp_id)


async def _lock(transaction: Transaction, call: Call, route_id: int) -> Any:
    await transaction.rows("routes_turn")
    rows = await transaction.rows("route_locked", route_id) if 0 < route_id <= _ID_MAX else []
    if not rows:
        raise no_such_route()
    call.match(rows[0]["version"])
    return rows[0]


def _require_time_left(row: LockedRouteRow) -> None:
    if row["is_over"]:
        raise Refusal(409, "route_ended", "The route has ended", "Create another route")


def _check_period(row: LockedRouteRow, begins: datetime | None, ends: datetime | None) -> None:
    _require_time_left(row)
    now = datetime.now(UTC)
    if begins != row["valid_from"]:
        if row["has_begun"]:
            raise Refusal(
                409, "route_begun", "The route has begun: its start cannot change any more",
                "End this route and create another one", field="validFrom",
            )  # fmt: skip
        if begins is not None and begins < now:
            raise Refusal(400, "in_the_past", "validFrom is in the past", _NOW, field="validFrom")
    if ends is not None and (ends < now or (begins is not None and ends <= begins)):
        raise Refusal(
            400, "invalid", "validTo must be in the future and after validFrom",
            "Choose a later time. To stop the route now, end it", field="validTo",
        )  # fmt: skip


async def _find_around(
    transaction: Transaction,
    wanted: RoutePrefix,
    fsp_id: str,
    begins: datetime | None,
    ends: datetime | None,
    without: int | None = None,
) -> Placed:
    """Place a route among those that are valid at some time when it is."""
    party_id_type, kind, prefix = wanted
    rows = await transaction.rows(
        "routes_overlapping", party_id_type, prefix, list_prefixes(prefix), bound_above(prefix), begins, ends, without,
        kind, OVERLAPS_MAX,
    )  # fmt: skip
    same = [row for row in rows if (row["kind"], row["prefix"]) == (kind, prefix)]
    others = [_overlap(row, wanted, fsp_id) for row in rows[len(same) :]]
    total = rows[0]["total"] - len(same) if rows else 0
    conflict = Neighbour(**_columns(same[0])) if same else None
    return Placed(route=None, kind=kind, prefix=prefix, would_overlap=others, overlaps=total, conflict=conflict)


def _columns(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in Neighbour.__struct_fields__}


def relate(other: str, prefix: str) -> Relation:
    """Relate the prefix of another route to that of a new one."""
    if other == prefix:
        return "other_kind"
    return "shorter" if len(other) < len(prefix) else "longer"


def _overlap(row: OverlapRow, wanted: RoutePrefix, fsp_id: str) -> Overlap:
    other, relation = row["prefix"], relate(row["prefix"], wanted.prefix)
    # Both rules can only answer identifiers that are of the narrower kind of the two.
    narrower = next((kind for kind in (wanted.kind, row["kind"]) if kind != wanted.party_id_type), None)
    subject = "Identifiers" if narrower is None else f"{narrower} identifiers"
    if relation == "longer":
        text = f"{subject} that begin with {other} stay with {row['fsp_id']}: the longest prefix wins"
    elif relation == "other_kind" and wanted.kind != narrower:
        text = f"{subject} that begin with {other} stay with {row['fsp_id']}: the narrower kind wins"
    else:
        text = (
            f"{subject} that begin with {wanted.prefix} go to {fsp_id} instead of {row['fsp_id']};"
            f" the other identifiers of {other} stay"
        )
    return Overlap(**_columns(row), relation=relation, explanation=text)
