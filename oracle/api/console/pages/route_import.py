"""Import a list of routes: first what it would do, then the list itself.  The file stays with the person until then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oracle.api.console.bodies import Form
from oracle.api.console.declarations import page
from oracle.api.console.formats import format_number
from oracle.api.console.languages import lazy, ngettext

if TYPE_CHECKING:
    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.visits import Visit

_TITLE: Final = lazy("Import routes")
_NEEDS: Final = ("importRoutes",)
_SHOWN_MAX: Final = 100


@page("import_routes", "GET", "/routes/import", _TITLE, needs=_NEEDS, under="routes")
async def show_import(visit: Visit) -> Answer:
    return _show(visit, Form())


@page("check_routes", "POST", "/routes/import/check", _TITLE, needs=_NEEDS, under="routes", uploads=True)
async def check_routes(visit: Visit) -> Answer:
    return _show(visit, visit.form, await _send(visit, {"dryRun": "true"}))


@page("do_import_routes", "POST", "/routes/import", _TITLE, needs=_NEEDS, under="routes", uploads=True)
async def import_routes(visit: Visit) -> Answer:
    reply = await _send(visit, {})
    if reply.ok:
        count = reply.json["created"]
        text = ngettext("{n} route is created.", "{n} routes are created.", count)
        return visit.lead("routes", text.format(n=format_number(count)))
    return _show(visit, visit.form, reply)


async def _send(visit: Visit, query: dict[str, Any]) -> Reply:
    names = ("unknownFsps", "fspId", "reason")
    return await visit.ask(
        "importRoutes", query={**query, **{name: visit.form.text(name) for name in names}},
        content=visit.upload.pieces, content_type="text/csv",
    )  # fmt: skip


def _show(visit: Visit, values: Form, reply: Reply | None = None) -> Answer:
    checked = reply.json if reply is not None and reply.ok else None
    bad, bad_rows = [], 0
    if checked is not None:
        bad, bad_rows = checked["bad"], checked["badRows"]
    elif reply is not None and "rows" in reply.json:
        bad, bad_rows = reply.json["rows"], reply.json["badRows"]
    return visit.show(
        "route_import/import.html", block="result", values=values, errors=visit.errors_of(reply), checked=checked,
        bad=bad[:_SHOWN_MAX], bad_rows=bad_rows, shown_max=_SHOWN_MAX,
    )  # fmt: skip
