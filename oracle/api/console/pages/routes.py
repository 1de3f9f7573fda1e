"""Routes: rules that answer unregistered identifiers by their first characters.

Prefixes.  A person can look for the routes of a whole identifier, which is personal data: what they type travels in
           forms, and is sealed where an address needs it.
Times.     Forms have them in the zone of the person; the API gets them with that zone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from oracle.api.console import formats, words
from oracle.api.console.bodies import Form
from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.edits import list_meanwhile, merge, read_seen, write_seen
from oracle.api.console.languages import Lazy, _, lazy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.edits import Meanwhile
    from oracle.api.console.visits import Visit

_SHOWN_MAX: Final = 100  # overlaps of a new route
_TITLE: Final = lazy("Routes")
_NEW: Final = lazy("New route")
_CHANGE: Final = lazy("Change the route")
_END: Final = lazy("End the route")
LABELS: Final[Mapping[str, Lazy]] = {
    "kind": lazy("Kind"),
    "prefix": lazy("Prefix"),
    "fspId": lazy("FSP"),
    "validFrom": lazy("Valid from"),
    "validTo": lazy("Valid until"),
    "note": lazy("Note"),
    "reason": lazy("Reason"),
    "at": lazy("End"),
}
_TIMES: Final = ("validFrom", "validTo")
_CHANGEABLE: Final = ("validFrom", "validTo", "note")


# The list ---------------------------------------------------------------------------------------------------------


@page("routes", "GET", "/routes", _TITLE, needs=("listRoutes",), menu=70)
async def show_routes(visit: Visit) -> Answer:
    query = visit.query
    prefix = visit.unseal(query["of"], str) if query["of"] else ""
    filters = {"kind": query["kind"], "fspId": query["fspId"], "validAt": query["validAt"]}
    asked = {**filters, "prefix": prefix, "cursor": query["cursor"], "limit": PAGE_ITEMS}
    reply = await visit.ask("listRoutes", query=asked)
    found = reply.listing
    now = datetime.now(UTC)
    return visit.show(
        "routes/list.html", block="list", errors=visit.errors_of(reply),
        routes=[(route, name_state(route, now)) for route in found["items"]], next=found["next"], filters=filters,
        prefix=prefix, of=query["of"], kinds=words.list_kinds(), labels=LABELS, cursor=query["cursor"],
    )  # fmt: skip


@page("find_routes", "POST", "/routes/find", _TITLE, needs=("listRoutes",), under="routes")
async def find_routes(visit: Visit) -> Answer:
    form = visit.form
    prefix = form.text("prefix")
    return visit.lead(
        "routes", kind=form.text("kind"), fspId=form.text("fspId"), of=visit.seal(prefix) if prefix else "",
        validAt=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if form.text("when") == "now" else "",
    )  # fmt: skip


@page("fsp_routes", "GET", "/fsps/{fsp_id}/routes", _TITLE, needs=("listFspRoutes",), under="fsps")
async def show_fsp_routes(visit: Visit, fsp_id: str) -> Answer:
    query = {"cursor": visit.query["cursor"], "limit": PAGE_ITEMS}
    found = await visit.get("listFspRoutes", path={"fsp_id": fsp_id}, query=query)
    now = datetime.now(UTC)
    return visit.show(
        "routes/of_fsp.html", block="list", fsp_id=fsp_id, next=found["next"], cursor=query["cursor"], labels=LABELS,
        routes=[(route, name_state(route, now)) for route in found["items"]],
    )  # fmt: skip


def name_state(route: Mapping[str, Any], now: datetime) -> str:
    """Name the state of a route: future, past or valid."""
    begins, ends = route["validFrom"], route["validTo"]
    if begins is not None and formats.read_time(begins) > now:
        return "future"
    return "past" if ends is not None and formats.read_time(ends) <= now else "valid"


# A new one --------------------------------------------------------------------------------------------------------


@page("new_route", "GET", "/routes/new", _NEW, needs=("createRoute",), under="routes")
async def show_new_route(visit: Visit) -> Answer:
    values = Form.of({"kind": "CLABE", "fspId": visit.query["fspId"]})
    return _show_new(visit, values)


@page("create_route", "POST", "/routes/new", _NEW, needs=("createRoute",), under="routes")
async def create_route(visit: Visit) -> Answer:
    """Create it, or with `step=check` show what it would take over."""
    form = visit.form
    is_check = form["step"] == "check"
    body = {
        "kind": form.text("kind"), "prefix": form.text("prefix"), "fspId": form.text("fspId"),
        "validFrom": formats.write_for_api(form.text("validFrom")),
        "validTo": formats.write_for_api(form.text("validTo")),
        "note": form.text("note") or None, "reason": form.text("reason") or None,
    }  # fmt: skip
    query = {"dryRun": "true"} if is_check else {}
    reply = await visit.ask("createRoute", body=body, query=query, once=not is_check)
    if not reply.ok:
        return _show_new(visit, form, reply=reply)
    if is_check:
        return _show_new(visit, form, placed=reply.json)
    return visit.lead("route", _("The route is created."), route_id=reply.json["route"]["routeId"])


def _show_new(
    visit: Visit, values: Form, *, reply: Reply | None = None, placed: Mapping[str, Any] | None = None
) -> Answer:
    return visit.show(
        "routes/new.html", values=values, kinds=words.list_kinds(), labels=LABELS, errors=visit.errors_of(reply),
        placed=placed, shown_max=_SHOWN_MAX,
    )  # fmt: skip


# One route --------------------------------------------------------------------------------------------------------


@page("route", "GET", "/routes/{route_id}", lazy("Route"), needs=("getRoute",), under="routes")
async def show_route(visit: Visit, route_id: str) -> Answer:
    route = await visit.get("getRoute", path={"route_id": route_id})
    return visit.show("routes/route.html", route=route, state=name_state(route, datetime.now(UTC)), labels=LABELS)


@page("change_route", "GET", "/routes/{route_id}/change", _CHANGE, needs=("changeRoute",), under="routes")
async def show_change(visit: Visit, route_id: str) -> Answer:
    found = await visit.fetch("getRoute", path={"route_id": route_id})
    values = _describe(found.json)
    return _show_change(visit, found.json, values, Form.of(values), found.etag)


@page("save_route", "POST", "/routes/{route_id}/change", _CHANGE, needs=("changeRoute",), under="routes")
async def save_route(visit: Visit, route_id: str) -> Answer:
    form, path = visit.form, {"route_id": route_id}
    seen = read_seen(form["seen"], dict.fromkeys(_CHANGEABLE, ""))
    wanted = {name: form.text(name) if name in form else seen[name] for name in _CHANGEABLE}
    body: dict[str, Any] = {
        name: formats.write_for_api(wanted[name]) if name in _TIMES else wanted[name] or None
        for name in _CHANGEABLE
        if wanted[name] != seen[name]
    }
    reason = form.text("reason")
    reply = await visit.ask(
        "changeRoute", path=path, body=body | ({"reason": reason} if reason else {}), if_match=form["version"]
    )
    if reply.ok:
        done = _("The changes are saved.") if body else _("Nothing was changed.")
        return visit.lead("route", done, route_id=route_id)
    found = await visit.fetch("getRoute", path=path)
    if not reply.is_outdated:
        return _show_change(visit, found.json, seen, form, form["version"], reply=reply)
    now = _describe(found.json)
    return _show_change(
        visit, found.json, now, Form.of({**merge(seen, now, wanted), "reason": reason}), found.etag,
        changes=list_meanwhile(LABELS, seen, now, wanted),
    )  # fmt: skip


def _show_change(
    visit: Visit, route: Mapping[str, Any], seen: Mapping[str, str], values: Form, version: str, *,
    reply: Reply | None = None, changes: list[Meanwhile] | None = None,
) -> Answer:  # fmt: skip
    return visit.show(
        "routes/change.html", route=route, values=values, seen=write_seen(seen), version=version, labels=LABELS,
        changes=changes, has_begun=name_state(route, datetime.now(UTC)) != "future", errors=visit.errors_of(reply),
    )  # fmt: skip


@page("end_route", "GET", "/routes/{route_id}/end", _END, needs=("endRoute",), under="routes")
async def show_end(visit: Visit, route_id: str) -> Answer:
    return await _show_end(visit, route_id)


@page("stop_route", "POST", "/routes/{route_id}/end", _END, needs=("endRoute",), under="routes")
async def end_route(visit: Visit, route_id: str) -> Answer:
    form = visit.form
    reply = await visit.ask(
        "endRoute", path={"route_id": route_id}, if_match=form["version"], once=True,
        body={"reason": form.text("reason"), "at": formats.write_for_api(form.text("at"))},
    )  # fmt: skip
    if not reply.ok:
        return await _show_end(visit, route_id, reply)
    if not reply.etag:  # it is gone: it had not begun
        return visit.lead("routes", _("The route is withdrawn. It had not begun."))
    return visit.lead("route", _("The end of the route is saved."), route_id=route_id)


async def _show_end(visit: Visit, route_id: str, reply: Reply | None = None) -> Answer:
    found = await visit.fetch("getRoute", path={"route_id": route_id})
    is_changed = reply is not None and reply.is_outdated
    return visit.show(
        "routes/end.html", route=found.json, version=found.etag,
        state=name_state(found.json, datetime.now(UTC)), labels=LABELS, values=visit.form, is_changed=is_changed,
        errors=None if is_changed else visit.errors_of(reply),
    )  # fmt: skip


# Forms ------------------------------------------------------------------------------------------------------------


def _describe(route: Mapping[str, Any]) -> dict[str, str]:
    """Write a route as the fields of its form."""
    times = {name: formats.write_local(formats.read_time(route[name])) if route[name] else "" for name in _TIMES}
    return {**times, "note": route["note"] or ""}
