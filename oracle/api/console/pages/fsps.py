"""The FSPs of the directory: the list, and a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oracle.api.console.bodies import Form
from oracle.api.console.declarations import page
from oracle.api.console.languages import _, lazy

if TYPE_CHECKING:
    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Visit


@page("fsps", "GET", "/fsps", lazy("FSPs"), needs=("listFsps",), menu=60)
async def show_fsps(visit: Visit) -> Answer:
    query = {name: visit.query[name] for name in ("status", "cursor")}
    page = await visit.get("listFsps", query={**query, "limit": 50})
    return visit.show("fsps/list.html", block="list", fsps=page["items"], next=page["next"], status=query["status"])


@page("new_fsp", "GET", "/fsps/new", lazy("New FSP"), needs=("createFsp",), under="fsps")
async def show_new_fsp(visit: Visit) -> Answer:
    return visit.show("fsps/new.html", errors=None, values=Form())


@page("create_fsp", "POST", "/fsps/new", lazy("New FSP"), needs=("createFsp",), under="fsps")
async def create_fsp(visit: Visit) -> Answer:
    reply = await visit.ask("createFsp", body=_read_fsp(visit.form), once=True)
    if reply.ok:
        return visit.lead("fsps", _("The FSP {name} was created.").format(name=reply.json["fspId"]))
    return visit.show("fsps/new.html", http_status=422, errors=visit.errors_of(reply), values=visit.form)


def _read_fsp(form: Form) -> dict[str, Any]:
    return {
        "fspId": form.text("fspId"),
        "name": form.text("name") or None,
        "defaultCountry": form.text("defaultCountry") or None,
        "twoPersons": form.has("twoPersons"),
    }
