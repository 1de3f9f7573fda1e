"""Search: one identifier in any spelling; who answers for it, why, and its life.  Each question is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oracle.api.console import formats
from oracle.api.console.bodies import Form
from oracle.api.console.choices import find_own, list_choices
from oracle.api.console.declarations import page
from oracle.api.console.languages import Lazy, _, lazy, ngettext
from oracle.api.console.pages.aliases import seal_name
from oracle.api.console.visits import Errors, make_url
from oracle.api.console.words import list_kinds, name_kind, name_status
from oracle.identifiers import guess_kind, list_meanings

if TYPE_CHECKING:
    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.visits import Visit

LIFE: Final = 20  # changes on one page
ASKED_MAX: Final = 500  # characters of a question that has an address
NEEDS: Final = ("resolveFspAliasAt", "getFspAliasTimeline")
FIELDS: Final = ("identifier", "kind", "subId", "country", "currency", "at", "zone", "fsp", "asStored")


class Why(NamedTuple):
    """Why an identifier was answered so: in one word, in a sentence, and the kind of its badge."""

    word: Lazy
    sentence: Lazy
    kind: str


REASONS: Final[Mapping[str, Why]] = {
    "alias": Why(lazy("Registered"), lazy("The FSP registered this identifier."), "good"),
    "route": Why(
        lazy("By a route"),
        lazy("Nobody registered this identifier. A route for its beginning leads to the FSP."), "good",
    ),
    "alias_not_answered": Why(
        lazy("FSP suspended or closed"),
        lazy("The FSP that registered this identifier is suspended or closed. No other FSP answers in its place."),
        "bad",
    ),
    "route_not_answered": Why(
        lazy("FSP suspended or closed"),
        lazy("A route leads to an FSP that is suspended or closed. No other FSP answers in its place."), "bad",
    ),
    "other_currencies": Why(
        lazy("Other currency"), lazy("This identifier is registered for other currencies only."), "plain"
    ),
    "nobody": Why(
        lazy("Not registered"), lazy("Nobody registered this identifier, and no route fits it."), "plain"
    ),
}  # fmt: skip
# The same with the FSP and its status, where the answer has one such FSP only.
NOT_ANSWERED: Final[Mapping[tuple[str, str], Lazy]] = {
    ("alias_not_answered", "suspended"): lazy(
        "{name} registered this identifier, but {name} is suspended. No other FSP answers in its place."
    ),
    ("alias_not_answered", "closed"): lazy(
        "{name} registered this identifier, but {name} is closed. No other FSP answers in its place."
    ),
    ("route_not_answered", "suspended"): lazy(
        "A route leads to {name}, but {name} is suspended. No other FSP answers in its place."
    ),
    ("route_not_answered", "closed"): lazy(
        "A route leads to {name}, but {name} is closed. No other FSP answers in its place."
    ),
}
OWN_NOBODY: Final = lazy(
    "The FSP {name} does not answer for this identifier. What other FSPs have of it is not shown here."
)


@page("search", "GET", "/search", lazy("Search"), needs=NEEDS, menu=20)
async def show_search(visit: Visit) -> Answer:
    """Show the empty form, or again what was asked for: its address holds it, sealed."""
    sealed = visit.query["of"]
    if not sealed:
        return _show(visit, Form())
    visit.form = Form(list(visit.unseal(sealed, dict[str, str]).items()))
    return await _find(visit)


@page("search_for", "POST", "/search", lazy("Search"), needs=NEEDS, under="search")
async def search(visit: Visit) -> Answer:
    """Answer, and give the question an address, so that a person can come back to it and load it again.

    A form with `lead` goes there at once.
    """
    asked = {name: visit.form[name] for name in (*FIELDS, "cursor") if visit.form[name]}
    is_life = bool(visit.form["cursor"]) and visit.is_partial
    if is_life or not visit.form.text("identifier") or sum(map(len, asked.values())) > ASKED_MAX:
        return await _find(visit)
    address = make_url("search", of=visit.seal(asked))
    if visit.form.has("lead") and not visit.is_partial:
        return visit.lead(address)
    answer = await _find(visit)
    answer.add("hx-push-url", address)
    return answer


async def _find(visit: Visit) -> Answer:
    form = visit.form
    text = form.text("identifier")
    if not text:
        return _show(visit, form, 422, errors=Errors.of_field("identifier", _("Write an identifier.")))
    kind = form.text("kind") or guess_kind(visit.console.services.reading, text)
    if kind is None:
        return _show(visit, form, meanings=_list_choices(visit, text))
    if form["cursor"] and visit.is_partial:
        return await _show_page_of_life(visit, kind)
    answer, life = await asyncio.gather(
        _ask(visit, "Resolution", _read_question(visit, kind)),
        _ask(visit, "Timeline", _read_question(visit, kind, is_page=True)),
    )
    for reply in (answer, life):
        if not reply.ok:
            return _show(visit, form, reply.status, errors=visit.errors_of(reply))
    return _show(
        visit, form, found=answer.json, is_guessed=not form.text("kind"),
        reason=_explain(visit, answer.json), badge=REASONS[answer.json["reason"]].kind,
        entries=_list_entries(visit, answer.json),
        evidence=_describe(visit, answer.json["events"]),
        **_describe_life(visit, form, kind, life.json),
    )  # fmt: skip


async def _show_page_of_life(visit: Visit, kind: str) -> Answer:
    life = await _ask(visit, "Timeline", _read_question(visit, kind, is_page=True))
    if life.problem is not None:
        return visit.show_problem(life.problem)
    return visit.show("search/search.html", block="life", **_describe_life(visit, visit.form, kind, life.json))


def _show(visit: Visit, form: Form, http_status: int = 200, **values: Any) -> Answer:
    zone = form["zone"] if formats.is_time_zone(form["zone"]) else visit.time_zone
    known = {"errors": None, "meanings": None, "found": None, "is_guessed": False, "own": find_own(visit)}
    return visit.show(
        "search/search.html", block="search", http_status=http_status, values=form, kinds=list_kinds(), zone=zone,
        zones=formats.name_time_zones(dict.fromkeys((visit.time_zone, zone, "UTC"))),
        own_choices=list_choices(visit), **(known | values),
    )  # fmt: skip


# What is asked ------------------------------------------------------------------------------------------------------

_OPERATIONS: Final = {  # about every FSP, and about one's own
    "Resolution": ("resolveAtByBody", "resolveFspAliasAt"),
    "Timeline": ("getTimelineByBody", "getFspAliasTimeline"),
}


async def _ask(visit: Visit, what: str, body: dict[str, Any]) -> Reply:
    own = find_own(visit)
    of_all, of_own = _OPERATIONS[what]
    if own is None:
        return await visit.ask(of_all, body=body)
    return await visit.ask(of_own, path={"fsp_id": own}, body=body)


def _read_question(visit: Visit, kind: str, *, is_page: bool = False) -> dict[str, Any]:
    form = visit.form
    asked: dict[str, Any] = {name: form.text(name) or None for name in ("identifier", "subId", "country", "currency")}
    asked |= {"kind": kind, "asStored": form.has("asStored")}
    if is_page:
        return {**asked, "limit": LIFE, "cursor": form["cursor"] or None}
    return {**asked, "at": _read_instant(visit)}


def _read_instant(visit: Visit) -> str | None:
    """Read the time of the form, in the zone that the form names."""
    zone = visit.form["zone"]
    return formats.write_for_api(visit.form.text("at"), zone if formats.is_time_zone(zone) else None)


def _list_choices(visit: Visit, text: str) -> list[tuple[str, dict[str, str]]]:
    """List what a text can mean: how a button names it, and the fields that choose it."""
    kept = {name: visit.form[name] for name in FIELDS if visit.form[name]}
    return [
        (
            _("{kind} of {country}").format(kind=name_kind(each.kind), country=formats.name_country(each.country))
            if each.country
            else name_kind(each.kind),
            {**kept, "kind": each.kind, **({"country": each.country} if each.country else {})},
        )
        for each in list_meanings(visit.console.services.reading, text)
    ]


# What is shown ------------------------------------------------------------------------------------------------------


def _explain(visit: Visit, found: Mapping[str, Any]) -> str:
    own = find_own(visit)
    if own is not None and found["reason"] == "nobody":
        return str(OWN_NOBODY).format(name=own)
    holders = [found["route"]] if found["reason"] == "route_not_answered" else found["entries"]
    known = {(one["fspId"], one["fspStatus"]) for one in holders if one}
    if len(known) == 1:
        name, status = known.pop()
        text = NOT_ANSWERED.get((found["reason"], status))
        if text is not None:
            return str(text).format(name=name)
    return str(REASONS[found["reason"]].sentence)


def _list_entries(visit: Visit, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the entries, each with the address of its page, where there is one: of now, for those who see aliases."""
    party = found["party"]
    return [
        {
            **entry,
            "address": make_url("alias", sealed=seal_name(visit, entry["fspId"], {**party, "subId": entry["subId"]}))
            if not visit.form["at"] and visit.may("getAlias", entry["fspId"])
            else "",
        }
        for entry in found["entries"]
    ]


def _describe_life(visit: Visit, form: Form, kind: str, life: Mapping[str, Any]) -> dict[str, Any]:
    own = find_own(visit)
    kept = {name: form[name] for name in FIELDS if form[name]}
    moments = [
        {**moment, "why": REASONS[moment["reason"]], "events": _describe(visit, moment["events"])}
        for moment in life["items"]
    ]
    return {"moments": moments, "next": life["next"], "kept": {**kept, "kind": kind}, "own": own,
            "is_first": not form["cursor"]}  # fmt: skip


def _describe(visit: Visit, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say of each event what it did, and from which lines of which file it came."""
    own = find_own(visit)
    return [
        {
            **event,
            "what": describe_event(event),
            "source": _name_source(event["batch"]),
            # Another line names another FSP: the API does not show it.
            "is_provable": own is None or event["entity"] == "alias",
        }
        for event in events
    ]


def describe_event(event: Mapping[str, Any]) -> str:
    """Say in a few words what an event did."""
    before, after = event["before"] or {}, event["after"] or {}
    side = after or before
    fsp_id = side.get("fsp_id") or event["fspId"] or formats.DASH
    if event["entity"] == "alias":
        currency = side.get("currency") or _("every currency")
        text = {
            "registered": _("Entry of {fsp} registered, for {currency}"),
            "changed": _("Entry of {fsp} changed, for {currency}"),
            "removed": _("Entry of {fsp} removed, for {currency}"),
        }.get(event["action"], _("Change ignored at {fsp}"))
        return text.format(fsp=fsp_id, currency=currency)
    if event["entity"] == "route":
        text = {
            "registered": _("Route to {fsp} added, for {prefix}"),
            "removed": _("Route to {fsp} removed, for {prefix}"),
        }.get(event["action"], _("Route to {fsp} changed, for {prefix}"))
        return text.format(fsp=fsp_id, prefix=formats.isolate(side.get("prefix", formats.DASH)))
    if not before:
        return _("FSP {fsp} created").format(fsp=fsp_id)
    status = formats.DASH if not after else name_status(after.get("status"))
    return _("FSP {fsp} changed, status: {status}").format(fsp=fsp_id, status=status)


def _name_source(batch: Mapping[str, Any] | None) -> str:
    if batch is None:
        return ""
    if not batch["lines"]:
        return str(batch["fileName"])
    text = ngettext("{file}, line {lines}", "{file}, lines {lines}", len(batch["lines"]))
    lines = ", ".join(map(formats.format_number, batch["lines"]))
    return text.format(file=formats.isolate(batch["fileName"]), lines=lines)
