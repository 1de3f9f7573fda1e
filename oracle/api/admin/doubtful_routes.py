"""Lists the routes that a person should look at: they answer more than was meant, or can never answer.

Older versions kept no kind of a route, so a route made for CLABE answers every account number with its prefix; the
migration could convert only those whose prefix is exactly the code of a bank.  Older versions also accepted prefixes
with which no identifier begins.  Both stay as they are until a person adds the right route and ends this one.

A route that has ended is not listed.  A page looks at SCAN_MAX routes at most: it can be empty and still have a `next`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.routes import HUB_READERS, Route, RoutePosition, route_of
from oracle.identifiers import BadIdentifier, Reading
from oracle.identifiers.errors import BadPrefix
from oracle.sentences import Sentence

SCAN_MAX: Final = 5_000
_END: Final = "End this route"
_NEVER: Final = "The route can never answer"


class RouteDoubt(Resource):
    code: Annotated[
        Literal["never_answers", "perhaps_narrower", "kind_not_read"],
        Meta(
            description="No identifier begins with the prefix today; the prefix looks like one of a narrower kind; this"
            " hub reads no identifiers of the kind"
        ),
    ]
    message: Annotated[Sentence, Meta(description="Why, for people")]
    advice: Annotated[Sentence, Meta(description="What to do")]


class DoubtfulRoute(Resource):
    route: Route
    doubt: RouteDoubt


class DoubtfulRoutePage(Resource):
    items: list[DoubtfulRoute]
    next: Annotated[str | None, Meta(description="The cursor of the next page; an empty page can have one, too")]


def handlers() -> list[HTTPRouteHandler]:
    return [list_doubtful_routes]


@operation(
    "listDoubtfulRoutes",
    "GET",
    "/routes/doubtful",
    HUB_READERS,
    "List the routes that answer more than was perhaps meant, or that can never answer",
    answers=DoubtfulRoutePage,
)
async def list_doubtful_routes(
    call: NamedDependency[Call], reading: NamedDependency[Reading], limit: Limit = PAGE, cursor: Cursor = None
) -> Response[bytes]:
    cursors = Cursors(call.caller, "doubtful routes")
    position = cursors.open(cursor, RoutePosition) or RoutePosition()
    everything = (None,) * 6
    rows = await call.postgres.rows("routes_page", *everything, *position, SCAN_MAX, None, None)
    # In a thread, so that the event loop goes on: reading thousands of prefixes takes a while.
    items, looked_at = await asyncio.to_thread(_list_doubtful, reading, rows, limit)
    following = None
    if looked_at < len(rows) or len(rows) == SCAN_MAX:
        following = cursors.close(RoutePosition.of(rows[looked_at - 1]))
    return call.read_page(DoubtfulRoutePage(items=items, next=following))


def _list_doubtful(reading: Reading, rows: Sequence[Any], limit: int) -> tuple[list[DoubtfulRoute], int]:
    """Return the doubtful ones among the first rows, at most `limit`, and how many rows that took."""
    now = datetime.now(UTC)
    items: list[DoubtfulRoute] = []
    for number, row in enumerate(rows, 1):
        if row["valid_to"] is not None and row["valid_to"] <= now:
            continue
        doubt = find_doubt(reading, row["kind"], row["prefix"], row["fsp_id"])
        if doubt is not None:
            items.append(DoubtfulRoute(route=route_of(row), doubt=doubt))
            if len(items) == limit:
                return items, number
    return items, len(rows)


def find_doubt(reading: Reading, kind: str, prefix: str, fsp_id: str) -> RouteDoubt | None:
    """Say what is doubtful about a stored route; None if nothing is."""
    try:
        read = reading.read_prefix(kind, prefix)
    except BadIdentifier as exc:
        written = exc.written if isinstance(exc, BadPrefix) else ""
        return RouteDoubt(
            code="never_answers", message=f"{_NEVER}. {exc}",
            advice=_advise(kind, written, fsp_id) if written else _END,
        )  # fmt: skip
    if read.prefix != prefix:
        return RouteDoubt(
            code="never_answers",
            message=f"The route can never answer: the identifiers are stored with the beginning {read.prefix}",
            advice=_advise(kind, read.prefix, fsp_id),
        )
    if read.kind != kind:
        return RouteDoubt(
            code="kind_not_read",
            message=f"This hub reads no {kind}: its country is not a home country. The route answers nothing else",
            advice=(
                f"If other identifiers were meant, add a route for {read.kind} {prefix} to {fsp_id}, then end this one"
            ),
        )
    narrower = reading.find_narrower(read)
    if narrower is not None:
        return RouteDoubt(
            code="perhaps_narrower",
            message=f"The prefix looks like one for {narrower}, but the route answers every {kind} that begins with it",
            advice=f"If {narrower} was meant, add a route for {narrower} {prefix} to {fsp_id}, then end this one",
        )
    return None


def _advise(kind: str, prefix: str, fsp_id: str) -> str:
    return f"Add a route for {kind} {prefix} to {fsp_id}, then end this one"
