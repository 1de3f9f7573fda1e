"""The aliases of an FSP: the list, one alias with its history, a new one, changes, and a list that is checked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from oracle.api.console.api_texts import explain_identifier
from oracle.api.console.bodies import Form
from oracle.api.console.choices import choose_fsp, fetch_fsp
from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.languages import _, lazy
from oracle.api.console.visits import make_url
from oracle.api.console.words import REMOVAL_REASONS, list_kinds
from oracle.identifiers import guess_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.visits import Visit
    from oracle.identifiers import Reading

EVENTS: Final = 25
SEEN_DIGITS: Final = 12
LINES_MAX: Final = 1_000  # the kinds of more lines are not guessed: the API refuses so many
_WAITS: Final = 202  # a second person must approve it
_CREATED: Final = 201
_INVALID: Final = 400
_FILTERS: Final = ("kind", "currency", "state")  # those that an address can show


class Name(NamedTuple):
    """Which alias an address means: the key that is stored, exactly."""

    fsp_id: str
    kind: str
    identifier: str
    sub_id: str | None

    @property
    def path(self) -> dict[str, str]:
        return {"fsp_id": self.fsp_id, "kind": self.kind, "identifier": self.identifier}

    @property
    def query(self) -> dict[str, str]:
        return {"subId": self.sub_id or "", "asStored": "true"}


def make_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Make choices of names that need no translation."""
    return [(name, name) for name in names]


def seal_name(visit: Visit, fsp_id: str, alias: dict[str, Any], kind: str = "") -> str:
    return visit.seal(Name(fsp_id, kind or alias["kind"], alias["identifier"], alias["subId"]))


# The list ---------------------------------------------------------------------------------------------------------


@page("aliases", "GET", "/aliases", lazy("Aliases"), needs=("listAliases",), menu=30)
async def show_aliases(visit: Visit) -> Answer:
    fsp_id = visit.fsp_id
    if fsp_id is None:
        return await choose_fsp(visit)
    filters, path = _read_filters(visit), {"fsp_id": fsp_id}
    fsp, reply = await asyncio.gather(
        visit.get("getFsp", path=path),
        visit.ask("listAliases", path=path, query={**filters, "cursor": visit.query["cursor"], "limit": PAGE_ITEMS}),
    )
    if reply.problem is not None and reply.status != _INVALID:
        return visit.show_problem(reply.problem)
    listed = reply.listing
    aliases = [(seal_name(visit, fsp_id, alias), alias) for alias in listed["items"]]
    return visit.show(
        "aliases/list.html", block="list", fsp=fsp, aliases=aliases, next=listed["next"],
        kinds=list_kinds(), filters=filters, errors=visit.errors_of(reply),
        address={"fsp": fsp_id, **{name: visit.query[name] for name in (*_FILTERS, "prefix")}},
    )  # fmt: skip


@page("filter_aliases", "POST", "/aliases", lazy("Aliases"), needs=("listAliases",), under="aliases")
async def filter_aliases(visit: Visit) -> Answer:
    """Lead to the list with these filters.  The beginning of an identifier is personal data, too."""
    prefix = visit.form.text("prefix")
    filters = {name: visit.form.text(name) for name in _FILTERS}
    return visit.lead(make_url("aliases", fsp=visit.fsp_id, **filters, prefix=visit.seal(prefix) if prefix else ""))


@page(
    "export_aliases", "GET", "/aliases/export", lazy("Export"), needs=("exportAliases",), under="aliases", is_part=True
)
async def export_aliases(visit: Visit) -> Answer:
    fsp_id = visit.fsp_id
    if fsp_id is None:
        return visit.lead("aliases")
    form = "ndjson" if visit.query["format"] == "ndjson" else "csv"
    return await visit.download(
        "exportAliases", path={"fsp_id": fsp_id}, query={**_read_filters(visit), "format": form},
        file_name=f"aliases-{fsp_id}.{form}",
    )  # fmt: skip


def _read_filters(visit: Visit) -> dict[str, str]:
    """Raises Refusal for a prefix that was sealed for somebody else."""
    prefix = visit.query["prefix"]
    filters = {name: visit.query.text(name) for name in _FILTERS}
    return {**filters, "prefix": visit.unseal(prefix, str) if prefix else ""}


# A new one --------------------------------------------------------------------------------------------------------


@page("new_alias", "GET", "/aliases/new", lazy("New alias"), needs=("registerAlias", "getFsp"), under="aliases")
async def show_new_alias(visit: Visit) -> Answer:
    return await _show_new(visit, Form.of({"kind": visit.query["kind"]}))


@page("add_alias", "POST", "/aliases/new", lazy("New alias"), needs=("registerAlias", "getFsp"), under="aliases")
async def add_alias(visit: Visit) -> Answer:
    fsp_id = visit.fsp_id
    if fsp_id is None:
        return visit.lead("aliases")
    reply = await visit.ask("registerAlias", path={"fsp_id": fsp_id}, body=_read_alias(visit.form), once=True)
    if not reply.ok:
        return await _show_new(visit, visit.form, reply)
    if reply.status == _WAITS:
        return _lead_to_waiting(visit, fsp_id, reply)
    sealed = seal_name(visit, fsp_id, reply.json)
    if reply.status == _CREATED:
        return visit.lead("alias", _("The alias was added."), sealed=sealed)
    return visit.lead("alias", _("The alias was registered already. Nothing changed."), kind="warning", sealed=sealed)


async def _show_new(visit: Visit, values: Form, reply: Reply | None = None) -> Answer:
    fsp_id = visit.fsp_id
    if fsp_id is None:
        return await choose_fsp(visit)
    fsp = await visit.get("getFsp", path={"fsp_id": fsp_id})
    return visit.show(
        "aliases/new.html", fsp=fsp, kinds=list_kinds(fsp["kinds"]), values=values, errors=visit.errors_of(reply),
        pairs=make_pairs,
    )  # fmt: skip


def _read_alias(form: Form) -> dict[str, Any]:
    names = ("kind", "identifier", "subId", "currency", "country", "reason")
    return {name: form.text(name) or None for name in names} | {"identifier": form.text("identifier")}


def _lead_to_waiting(visit: Visit, fsp_id: str, reply: Reply) -> Answer:
    number = reply.json["batchId"]
    text = _("Change {number} waits for a second person. Nothing changes before they approve it.").format(number=number)
    if visit.may("sampleBatch", fsp_id):
        return visit.lead("task", text, kind="warning", fsp_id=fsp_id, batch_id=number)
    return visit.lead("aliases", text, kind="warning", fsp=fsp_id)


# One --------------------------------------------------------------------------------------------------------------


@page("alias", "GET", "/aliases/of/{sealed}", lazy("Alias"), needs=("getAlias",), under="aliases")
async def show_alias(visit: Visit, sealed: str) -> Answer:
    name = visit.unseal(sealed, Name)
    alias, events, fsp = await asyncio.gather(
        visit.get("getAlias", path=name.path, query=name.query),
        _fetch_events(visit, name),
        fetch_fsp(visit, name.fsp_id),
    )
    return visit.show(
        "aliases/alias.html", block="events", alias=alias, sealed=sealed, name=name, events=events, fsp=fsp
    )


async def _fetch_events(visit: Visit, name: Name) -> dict[str, Any] | None:
    """Fetch a page of the history; None for those who cannot read it."""
    if not visit.may("searchFspEvents", name.fsp_id):
        return None
    body = {"kind": name.kind, "identifier": name.identifier, "asStored": True, "limit": EVENTS}
    cursor = visit.query["cursor"]
    found: dict[str, Any] = await visit.get(
        "searchFspEvents", path={"fsp_id": name.fsp_id}, body={**body, "cursor": cursor} if cursor else body
    )
    found["items"] = [event for event in found["items"] if event["subId"] == name.sub_id]
    return found


@page("change_alias", "GET", "/aliases/of/{sealed}/change", lazy("Change an alias"), needs=("changeAlias", "getFsp"),
      under="aliases")  # fmt: skip
async def show_change(visit: Visit, sealed: str) -> Answer:
    return await _show_act(visit, sealed, "aliases/change.html")


@page("do_change_alias", "POST", "/aliases/of/{sealed}/change", lazy("Change an alias"),
      needs=("changeAlias", "getFsp"), under="aliases")  # fmt: skip
async def change_alias(visit: Visit, sealed: str) -> Answer:
    name, form = visit.unseal(sealed, Name), visit.form
    reply = await visit.ask(
        "changeAlias", path=name.path, query=name.query, if_match=form["version"], once=True,
        body={"currency": form.text("currency") or None, "reason": form.text("reason")},
    )  # fmt: skip
    if not reply.ok:
        return await _show_act(visit, sealed, "aliases/change.html", reply)
    if reply.status == _WAITS:
        return _lead_to_waiting(visit, name.fsp_id, reply)
    if reply.etag == form["version"]:
        return visit.lead(
            "alias", _("The alias has this currency already. Nothing changed."), kind="warning", sealed=sealed
        )
    return visit.lead("alias", _("The alias was changed."), sealed=sealed)


@page("remove_alias", "GET", "/aliases/of/{sealed}/remove", lazy("Remove an alias"), needs=("removeAlias", "getFsp"),
      under="aliases")  # fmt: skip
async def show_removal(visit: Visit, sealed: str) -> Answer:
    return await _show_act(visit, sealed, "aliases/remove.html")


@page("do_remove_alias", "POST", "/aliases/of/{sealed}/remove", lazy("Remove an alias"),
      needs=("removeAlias", "getFsp"), under="aliases")  # fmt: skip
async def remove_alias(visit: Visit, sealed: str) -> Answer:
    name, form = visit.unseal(sealed, Name), visit.form
    chosen = {"reason": form.text("reason"), "note": form.text("note"), "currency": form.text("currency")}
    reply = await visit.ask(
        "removeAlias", path=name.path, query={**name.query, **chosen}, if_match=form["version"], once=True
    )
    if not reply.ok:
        return await _show_act(visit, sealed, "aliases/remove.html", reply)
    if reply.status == _WAITS:
        return _lead_to_waiting(visit, name.fsp_id, reply)
    if chosen["currency"]:
        return visit.lead("alias", _("The currency was removed."), sealed=sealed)
    return visit.lead("aliases", _("The alias was removed."), fsp=name.fsp_id)


async def _show_act(visit: Visit, sealed: str, template: str, refused: Reply | None = None) -> Answer:
    """Show the form of a change or a removal, with the alias as it is now."""
    name = visit.unseal(sealed, Name)
    fsp, reply = await asyncio.gather(
        visit.get("getFsp", path={"fsp_id": name.fsp_id}), visit.fetch("getAlias", path=name.path, query=name.query)
    )
    return visit.show(
        template, fsp=fsp, alias=reply.json, version=reply.etag, sealed=sealed, values=visit.form,
        errors=visit.errors_of(refused), reasons=list(REMOVAL_REASONS.items()), pairs=make_pairs,
    )  # fmt: skip


# Many of them -----------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    number: int
    text: str
    kind: str | None = None


class Checked(NamedTuple):
    """One line of a list, and what the API says of it."""

    line: Line
    result: dict[str, Any]
    sealed: str  # '' where there is no alias of the FSP

    @property
    def place(self) -> int:
        """Bad ones first, then those that are not registered."""
        return 0 if self.result["error"] else 2 if self.result["exists"] else 1


@page("check_list", "GET", "/aliases/check", lazy("Check a list"), needs=("checkAliases", "getFsp"), under="aliases")
async def show_check(visit: Visit) -> Answer:
    return await _show_checked(visit, [])


@page("check_aliases", "POST", "/aliases/check", lazy("Check a list"), needs=("checkAliases", "getFsp"),
      under="aliases")  # fmt: skip
async def check_aliases(visit: Visit) -> Answer:
    fsp_id = visit.fsp_id
    if fsp_id is None:
        return visit.lead("aliases")
    lines = list(_list_lines(visit.form["items"]))
    unclear: list[Line] = []
    if not visit.form.text("kind"):
        # In a thread, so that the event loop goes on: to guess the kinds of a thousand lines takes a while.
        lines, unclear = await asyncio.to_thread(_guess_kinds, visit.console.services.reading, lines)
    items = [{"kind": line.kind or visit.form["kind"], "identifier": line.text} for line in lines]
    checked = [Checked(line, _make_unclear(), "") for line in unclear]
    if items or not checked:
        reply = await visit.ask("checkAliases", path={"fsp_id": fsp_id}, body={"items": items})
        if not reply.ok:
            return await _show_checked(visit, [], reply)
        checked += [
            Checked(line, _explain(result, line.text), seal_name(visit, fsp_id, result) if result["exists"] else "")
            for line, result in zip(lines, reply.json["items"], strict=True)
        ]
    return await _show_checked(visit, sorted(checked, key=lambda one: (one.place, one.line.number)))


def _explain(result: dict[str, Any], text: str) -> dict[str, Any]:
    """Add to the result of a line what is wrong in it."""
    if (error := result["error"]) is None:
        return result
    return {**result, "error": {**error, "own": explain_identifier(error["message"], error["hint"], text)}}


def _list_lines(text: str) -> Iterator[Line]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield Line(number, line.strip())


def _guess_kinds(reading: Reading, lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """Return the lines whose spelling shows their kind, and the others."""
    if len(lines) > LINES_MAX:
        return lines, []
    guessed = [line._replace(kind=guess_kind(reading, line.text)) for line in lines]
    return [line for line in guessed if line.kind], [line for line in guessed if not line.kind]


def _make_unclear() -> dict[str, Any]:
    message = _("The spelling does not show what it is. Choose its kind, and check again.")
    return {"kind": None, "display": None, "exists": None, "error": {"own": message}}


async def _show_checked(visit: Visit, checked: list[Checked], reply: Reply | None = None) -> Answer:
    fsp_id = visit.fsp_id
    if fsp_id is None:
        return await choose_fsp(visit)
    fsp = await visit.get("getFsp", path={"fsp_id": fsp_id})
    counts = [sum(1 for one in checked if one.place == place) for place in range(3)]
    return visit.show(
        "aliases/check.html", fsp=fsp, kinds=list_kinds(), checked=checked, counts=counts, values=visit.form,
        errors=visit.errors_of(reply),
    )  # fmt: skip


@page("doubtful_aliases", "GET", "/aliases/doubtful", lazy("Doubtful aliases"), needs=("listDoubtfulAliases",),
      under="aliases")  # fmt: skip
async def show_doubtful(visit: Visit) -> Answer:
    fsp_id = visit.fsp_id
    if fsp_id is None:
        return await choose_fsp(visit)
    begun = "cursor" in visit.query  # the page itself comes at once: to search takes a while
    found: dict[str, Any] = {"items": [], "next": "", "scanned": 0}
    if begun:
        query = {"cursor": visit.query["cursor"], "limit": PAGE_ITEMS}
        found = await visit.get("listDoubtfulAliases", path={"fsp_id": fsp_id}, query=query)
    aliases = [(seal_name(visit, fsp_id, one, one["partyIdType"]), one) for one in found["items"]]
    before = visit.query["seen"]
    seen = found["scanned"] + (int(before) if before.isdecimal() and len(before) <= SEEN_DIGITS else 0)
    return visit.show(
        "aliases/doubtful.html", block="list", fsp_id=fsp_id, aliases=aliases, next=found["next"], seen=seen,
        begun=begun, begin=f"{visit.page.url}?{urlencode({'fsp': fsp_id, 'cursor': ''})}",
    )  # fmt: skip
