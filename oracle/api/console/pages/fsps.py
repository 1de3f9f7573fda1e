"""The FSPs of the directory: the list, a new one, what one is, and what an operator changes about it.

Its form keeps what the person saw: see `edits`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from oracle.api.console import words
from oracle.api.console.bodies import Form
from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.edits import list_meanwhile, merge, read_seen, write_seen
from oracle.api.console.languages import Lazy, _, lazy
from oracle.api.console.pages.fsp_status import STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.edits import Meanwhile
    from oracle.api.console.visits import Errors, Visit


# The fields of the form, in its order.
LABELS: Final[dict[str, Lazy]] = {
    "fspId": lazy("FSP id"),
    "name": lazy("Name"),
    "localeName": lazy("Name in the local language"),
    "dfspType": lazy("Type of institution"),
    "additionalInfo": lazy("More information"),
    "defaultCountry": lazy("Country"),
    "kinds": lazy("Kinds of aliases"),
    "currencies": lazy("Currencies"),
    "useCases": lazy("Use cases"),
    "contactName": lazy("Contact: name"),
    "contactEmail": lazy("Contact: email"),
    "contactPhone": lazy("Contact: phone"),
    "twoPersons": lazy("Two persons"),
    "hubChanges": lazy("Changes through the hub"),
}
_TEXTS: Final = ("name", "localeName", "dfspType", "additionalInfo", "defaultCountry")
_LISTS: Final = ("currencies", "useCases")
_CONTACT: Final = {"contactName": "name", "contactEmail": "email", "contactPhone": "phone"}

# What the API calls the fields of the contact, and how a form names them.
_OF_CONTACT: Final = {f"contact.{member}": name for name, member in _CONTACT.items()}


# The list ---------------------------------------------------------------------------------------------------------


@page("fsps", "GET", "/fsps", lazy("FSPs"), needs=("listFsps",), menu=60)
async def show_fsps(visit: Visit) -> Answer:
    query = {name: visit.query[name] for name in ("status", "cursor")}
    page = await visit.get("listFsps", query={**query, "limit": PAGE_ITEMS})
    return visit.show(
        "fsps/list.html", block="list", fsps=page["items"], next=page["next"], status=query["status"],
        statuses=list(words.STATUSES.items()),
    )  # fmt: skip


# Not below /fsps: an FSP can have the id "new".
@page("new_fsp", "GET", "/new-fsp", lazy("New FSP"), needs=("createFsp",), under="fsps")
async def show_new_fsp(visit: Visit) -> Answer:
    return visit.show("fsps/new.html", errors=None, labels=LABELS, values=Form(), kinds=words.list_kinds())


@page("create_fsp", "POST", "/new-fsp", lazy("New FSP"), needs=("createFsp",), under="fsps")
async def create_fsp(visit: Visit) -> Answer:
    values = _read_form(visit.form)
    body = {"fspId": visit.form.text("fspId"), **_make_change(_EMPTY, values)}
    reply = await visit.ask("createFsp", body=body, once=True)
    if reply.ok:
        message = _("The FSP {name} was created. Next, give its people their keys.").format(name=body["fspId"])
        return visit.lead("fsp", message, fsp_id=body["fspId"])
    return visit.show(
        "fsps/new.html", errors=find_errors(visit, reply), labels=LABELS,
        values=Form.of({"fspId": body["fspId"], **values}), kinds=words.list_kinds(),
    )  # fmt: skip


# One FSP ----------------------------------------------------------------------------------------------------------


@page("fsp", "GET", "/fsps/{fsp_id}", lazy("FSP"), needs=("getFsp",), under="fsps")
async def show_fsp(visit: Visit, fsp_id: str) -> Answer:
    path = {"fsp_id": fsp_id}
    found, endpoints, keys, budgets = await asyncio.gather(
        visit.fetch("getFsp", path=path), visit.get("getFspEndpoints", path=path), visit.get("listJwsKeys", path=path),
        visit.ask("listBudgets", query={"fspId": fsp_id}),
    )  # fmt: skip
    budget = next(iter(budgets.json["items"]), None) if budgets.ok else None
    return visit.show(
        "fsps/fsp.html", fsp=found.json, version=found.etag, endpoints=endpoints, keys=keys["items"],
        budget=budget, mode=budgets.json["mode"] if budgets.ok else "off",
        steps=[(status, text) for status, text in STEPS[found.json["status"]] if visit.may("setFspStatus", fsp_id)],
    )  # fmt: skip


@page("change_fsp", "GET", "/fsps/{fsp_id}/change", lazy("Change the FSP"), needs=("changeFsp",), under="fsps")
async def show_change(visit: Visit, fsp_id: str) -> Answer:
    found = await visit.fetch("getFsp", path={"fsp_id": fsp_id})
    values = _describe(found.json)
    return _show_change(visit, fsp_id, values, values, found.etag)


@page("save_fsp", "POST", "/fsps/{fsp_id}/change", lazy("Change the FSP"), needs=("changeFsp",), under="fsps")
async def save_fsp(visit: Visit, fsp_id: str) -> Answer:
    seen, wanted = read_seen(visit.form["seen"], _EMPTY), _read_form(visit.form)
    body = _make_change(seen, wanted)
    reply = await visit.ask("changeFsp", path={"fsp_id": fsp_id}, body=body, if_match=visit.form["version"])
    if reply.ok:
        return visit.lead("fsp", _("The changes are saved.") if body else _("Nothing was changed."), fsp_id=fsp_id)
    if not reply.is_outdated:
        return _show_change(visit, fsp_id, seen, wanted, visit.form["version"], reply)
    found = await visit.fetch("getFsp", path={"fsp_id": fsp_id})
    now = _describe(found.json)
    return _show_change(
        visit, fsp_id, now, merge(seen, now, wanted), found.etag, changes=list_meanwhile(LABELS, seen, now, wanted)
    )


def _show_change(
    visit: Visit, fsp_id: str, seen: Mapping[str, str], values: Mapping[str, str], version: str,
    reply: Reply | None = None, changes: list[Meanwhile] | None = None,
) -> Answer:  # fmt: skip
    return visit.show(
        "fsps/change.html", http_status=_choose_status(reply, changes),
        fsp_id=fsp_id, labels=LABELS, values=Form.of(values), seen=write_seen(seen), version=version,
        kinds=words.list_kinds(), errors=None if reply is None else find_errors(visit, reply), changes=changes,
    )  # fmt: skip


def _choose_status(reply: Reply | None, changes: list[Meanwhile] | None) -> int:
    """Return the status of the form: why the API refused it, or that somebody else changed the FSP."""
    if reply is not None:
        return reply.status if reply.status in (403, 404) else 422
    return 200 if changes is None else 409


# Its logo ---------------------------------------------------------------------------------------------------------


@page("fsp_logo", "GET", "/fsps/{fsp_id}/logo.image", lazy("Logo"), needs=("getLogo",), under="fsps", is_part=True)
async def show_logo(visit: Visit, fsp_id: str) -> Answer:
    return await visit.download("getLogo", path={"fsp_id": fsp_id}, accept="image/*")


@page("change_logo", "GET", "/fsps/{fsp_id}/logo", lazy("Logo"), needs=("setLogo",), under="fsps")
async def show_change_logo(visit: Visit, fsp_id: str) -> Answer:
    return await _show_logo(visit, fsp_id)


@page("set_logo", "POST", "/fsps/{fsp_id}/logo", lazy("Logo"), needs=("setLogo",), under="fsps", uploads=True)
async def set_logo(visit: Visit, fsp_id: str) -> Answer:
    upload = visit.upload
    reply = await visit.ask(
        "setLogo", path={"fsp_id": fsp_id}, content=upload.pieces, content_type=upload.content_type,
        if_match=upload.form["version"],
    )  # fmt: skip
    if reply.ok:
        return visit.lead("fsp", _("The logo is saved."), fsp_id=fsp_id)
    return await _show_logo(visit, fsp_id, reply)


@page("remove_logo", "POST", "/fsps/{fsp_id}/logo/remove", lazy("Remove the logo"), needs=("removeLogo",), under="fsps")
async def remove_logo(visit: Visit, fsp_id: str) -> Answer:
    reply = await visit.ask("removeLogo", path={"fsp_id": fsp_id}, if_match=visit.form["version"])
    if reply.ok:
        return visit.lead("fsp", _("The logo is removed."), fsp_id=fsp_id)
    return await _show_logo(visit, fsp_id, reply)


async def _show_logo(visit: Visit, fsp_id: str, reply: Reply | None = None) -> Answer:
    found = await visit.fetch("getFsp", path={"fsp_id": fsp_id})
    return visit.show(
        "fsps/logo.html", fsp=found.json, version=found.etag,
        errors=visit.errors_of(reply),
    )  # fmt: skip


# Forms ------------------------------------------------------------------------------------------------------------


def _describe(fsp: Mapping[str, Any]) -> dict[str, str]:
    """Write an FSP as the fields of its form."""
    contact = fsp["contact"] or {}
    return {
        **{name: fsp[name] or "" for name in _TEXTS},
        "kinds": " ".join(sorted(fsp["kinds"] or ())),
        **{name: " ".join(fsp[name] or ()) for name in _LISTS},
        **{name: contact.get(member) or "" for name, member in _CONTACT.items()},
        "twoPersons": "on" if fsp["twoPersons"] else "",
        "hubChanges": fsp["hubChanges"],
    }


_EMPTY: Final = dict.fromkeys((name for name in LABELS if name != "fspId"), "") | {"hubChanges": "on"}


def _read_form(form: Form) -> dict[str, str]:
    return {
        **{name: form.text(name) for name in (*_TEXTS, *_CONTACT, "twoPersons")},
        "kinds": " ".join(sorted(form.list("kinds"))),
        **{name: " ".join(form[name].replace(",", " ").split()) for name in _LISTS},
        "hubChanges": form.text("hubChanges") or "on",
    }


def _make_change(seen: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, Any]:
    """Make the body of a change: the members that differ from what the person has seen."""
    changed = {name for name in wanted if wanted[name] != seen[name]}
    body: dict[str, Any] = {name: wanted[name] or None for name in _TEXTS if name in changed}
    for name in ("kinds", "currencies"):
        if name in changed:
            body[name] = wanted[name].split() or None
    if "useCases" in changed:
        body["useCases"] = wanted["useCases"].split()
    if changed & _CONTACT.keys():
        body["contact"] = {member: wanted[name] for name, member in _CONTACT.items() if wanted[name]} or None
    if "twoPersons" in changed:
        body["twoPersons"] = bool(wanted["twoPersons"])
    if "hubChanges" in changed:
        body["hubChanges"] = wanted["hubChanges"]
    return body


def find_errors(visit: Visit, reply: Reply) -> Errors | None:
    """Find the mistakes of a form of an FSP, by the fields of the form."""
    errors = visit.errors_of(reply)
    if errors is None:
        return None
    fields = {_OF_CONTACT.get(name, name.partition("[")[0]): text for name, text in errors.fields.items()}
    return errors._replace(fields=fields)
