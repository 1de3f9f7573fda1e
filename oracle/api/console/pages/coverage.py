"""Who answers below a prefix, as a picture and as a table."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from oracle.api.console import words
from oracle.api.console.bodies import Form
from oracle.api.console.coverage import ROW, TOP, WIDTH, draw
from oracle.api.console.declarations import page
from oracle.api.console.languages import lazy
from oracle.api.console.pages.routes import LABELS
from oracle.identifiers import PARTY_ID_TYPES

if TYPE_CHECKING:
    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.visits import Visit

_TITLE: Final = lazy("Coverage of a prefix")
_NEEDS: Final = ("listRoutes", "listFsps")
_ROUTES_MAX: Final = 400
_FSPS_MAX: Final = 1_000
_SHOWN_MAX: Final = 100  # routes of the table


@page("coverage", "GET", "/routes/coverage", _TITLE, needs=_NEEDS, under="routes")
async def show_form(visit: Visit) -> Answer:
    return _show(visit, Form.of({"kind": "CLABE"}))


@page("show_coverage", "POST", "/routes/coverage", _TITLE, needs=_NEEDS, under="routes")
async def show_coverage(visit: Visit) -> Answer:
    kind, prefix = visit.form.text("kind"), visit.form.text("prefix")
    at = datetime.now(UTC).isoformat()

    async def ask(kind: str, prefix: str) -> Reply:
        query = {"kind": kind, "prefix": prefix, "validAt": at, "limit": _ROUTES_MAX}
        return await visit.ask("listRoutes", query=query)

    async def list_fsps(status: str) -> list[str]:
        reply = await visit.ask("listFsps", query={"status": status, "limit": _FSPS_MAX})
        return [one["fspId"] for one in reply.json["items"]] if reply.ok else []

    found, suspended, closed = await asyncio.gather(ask(kind, prefix), list_fsps("suspended"), list_fsps("closed"))
    if not found.ok:
        return _show(visit, visit.form, reply=found)
    pages: list[Any] = [found.json]
    root: str = found.json["prefix"] or ""
    general = PARTY_ID_TYPES.get(kind, kind)
    if general != kind and root:
        wider = await ask(general, root)  # its routes answer identifiers of the narrower kind, too
        pages += [wider.json] if wider.ok else []
    routes = [route for one in pages for route in one["items"]]
    return _show(
        visit, visit.form, root=root, picture=draw(root, routes, frozenset([*suspended, *closed]), kind),
        is_cut=any(one["next"] for one in pages),
    )  # fmt: skip


def _show(
    visit: Visit, values: Form, *, reply: Reply | None = None, picture: Any = None, root: str = "", is_cut: bool = False
) -> Answer:
    return visit.show(
        "coverage/coverage.html", values=values, root=root, kinds=words.list_kinds(), errors=visit.errors_of(reply),
        picture=picture, is_cut=is_cut, labels=LABELS, width=WIDTH, top=TOP, row=ROW,
        routes_max=_ROUTES_MAX, shown_max=_SHOWN_MAX,
    )  # fmt: skip
