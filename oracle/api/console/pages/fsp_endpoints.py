"""Where an FSP is called, and the keys that verify its signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oracle.api.console.bodies import Form
from oracle.api.console.declarations import page
from oracle.api.console.edits import list_meanwhile, merge, read_seen, write_seen
from oracle.api.console.formats import isolate
from oracle.api.console.languages import Lazy, _, lazy
from oracle.scheme.base import PATHS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.edits import Meanwhile
    from oracle.api.console.languages import Text
    from oracle.api.console.visits import Visit

_LABELS: Final[Mapping[str, Lazy]] = {"baseUrl": lazy("Base URL"), "isProxy": lazy("Forwards to other schemes")}
_URL: Final = "url-"  # before the type of an endpoint: a field of the form
_TITLE: Final = lazy("Endpoints")
_KEY_TITLE: Final = lazy("Add a key")
_REMOVE_TITLE: Final = lazy("Remove a key")


@page("endpoints", "GET", "/fsps/{fsp_id}/endpoints", _TITLE, needs=("setFspEndpoints",), under="fsps")
async def show_endpoints(visit: Visit, fsp_id: str) -> Answer:
    found = await visit.fetch("getFspEndpoints", path={"fsp_id": fsp_id})
    values = _describe(found.json)
    return _show(visit, fsp_id, values, values, found.etag)


@page("set_endpoints", "POST", "/fsps/{fsp_id}/endpoints", _TITLE, needs=("setFspEndpoints",), under="fsps")
async def set_endpoints(visit: Visit, fsp_id: str) -> Answer:
    form = visit.form
    seen, wanted = read_seen(form["seen"], _EMPTY), {name: form.text(name) for name in _EMPTY}
    body = {
        "baseUrl": wanted["baseUrl"] or None,
        "isProxy": bool(wanted["isProxy"]),
        "urls": {kind: wanted[_URL + kind] for kind in PATHS if wanted[_URL + kind]},
    }
    reply = await visit.ask("setFspEndpoints", path={"fsp_id": fsp_id}, body=body, if_match=form["version"])
    if reply.ok:
        return visit.lead("fsp", _("The endpoints are saved. They count within two seconds."), fsp_id=fsp_id)
    if not reply.is_outdated:
        return _show(visit, fsp_id, seen, wanted, form["version"], reply=reply)
    found = await visit.fetch("getFspEndpoints", path={"fsp_id": fsp_id})
    now = _describe(found.json)
    labels: dict[str, Text] = {**{_URL + kind: kind for kind in PATHS}, **_LABELS}
    return _show(
        visit, fsp_id, now, merge(seen, now, wanted), found.etag, changes=list_meanwhile(labels, seen, now, wanted)
    )


def _show(
    visit: Visit, fsp_id: str, seen: Mapping[str, str], values: Mapping[str, str], version: str, *,
    reply: Reply | None = None, changes: list[Meanwhile] | None = None,
) -> Answer:  # fmt: skip
    return visit.show(
        "fsp_endpoints/endpoints.html", fsp_id=fsp_id,
        values=Form.of(values), seen=write_seen(seen), version=version, errors=visit.errors_of(reply),
        changes=changes, labels=_LABELS,
        has_urls=any(values[_URL + kind] for kind in PATHS),
        types=[(kind, _URL + kind, path) for kind, path in PATHS.items()],
    )  # fmt: skip


_EMPTY: Final = dict.fromkeys(["baseUrl", "isProxy", *(_URL + kind for kind in PATHS)], "")


def _describe(endpoints: Mapping[str, Any]) -> dict[str, str]:
    """Write the endpoints as the fields of their form."""
    urls = {_URL + kind: url for kind, url in endpoints["urls"].items()}
    return {
        **_EMPTY,
        "baseUrl": endpoints["baseUrl"] or "",
        "isProxy": "on" if endpoints["isProxy"] else "",
        **{name: url for name, url in urls.items() if name in _EMPTY},
    }


# Keys -------------------------------------------------------------------------------------------------------------


@page("new_jws_key", "GET", "/fsps/{fsp_id}/jws-keys/new", _KEY_TITLE, needs=("addJwsKey",), under="fsps")
async def show_new_key(visit: Visit, fsp_id: str) -> Answer:
    return visit.show("fsp_endpoints/new_key.html", fsp_id=fsp_id, errors=None, values=Form())


@page("add_jws_key", "POST", "/fsps/{fsp_id}/jws-keys/new", _KEY_TITLE, needs=("addJwsKey",), under="fsps")
async def add_key(visit: Visit, fsp_id: str) -> Answer:
    body = {"label": visit.form.text("label"), "pem": visit.form.text("pem")}
    reply = await visit.ask("addJwsKey", path={"fsp_id": fsp_id}, body=body, once=True)
    if reply.ok:
        return visit.lead("fsp", _("The key {label} is added.").format(label=isolate(body["label"])), fsp_id=fsp_id)
    return visit.show("fsp_endpoints/new_key.html", fsp_id=fsp_id, errors=visit.errors_of(reply), values=visit.form)


@page(
    "remove_jws_key", "GET", "/fsps/{fsp_id}/jws-keys/{key_id}/remove", _REMOVE_TITLE, needs=("removeJwsKey",),
    under="fsps",
)  # fmt: skip
async def show_remove_key(visit: Visit, fsp_id: str, key_id: str) -> Answer:
    found = await visit.get("listJwsKeys", path={"fsp_id": fsp_id})
    key = next((one for one in found["items"] if str(one["keyId"]) == key_id), None)
    if key is None:
        return visit.lead("fsp", _("This key is removed already."), kind="warning", fsp_id=fsp_id)
    return visit.show("fsp_endpoints/remove_key.html", fsp_id=fsp_id, key=key, left=len(found["items"]) - 1)


@page(
    "drop_jws_key", "POST", "/fsps/{fsp_id}/jws-keys/{key_id}/remove", _REMOVE_TITLE, needs=("removeJwsKey",),
    under="fsps",
)  # fmt: skip
async def remove_key(visit: Visit, fsp_id: str, key_id: str) -> Answer:
    key = await visit.get("removeJwsKey", path={"fsp_id": fsp_id, "key_id": key_id})
    return visit.lead("fsp", _("The key {label} is removed.").format(label=key["label"]), fsp_id=fsp_id)
