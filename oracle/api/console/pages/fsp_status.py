"""The status of an FSP: confirm, suspend, reactivate, close; what follows is shown before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from oracle.api.admin.problems import Refusal
from oracle.api.console.declarations import page
from oracle.api.console.formats import format_number
from oracle.api.console.languages import Lazy, _, lazy, ngettext
from oracle.store.aliases import ANSWERED_STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.visits import Visit

_TITLE: Final = lazy("Status of the FSP")
_NEEDS: Final = ("setFspStatus", "getFspImpact")

# What can be done with an FSP of a status: the status that it gets, and the word for that.
_CLOSE: Final = ("closed", lazy("Close the FSP"))
STEPS: Final[Mapping[str, tuple[tuple[str, Lazy], ...]]] = {
    "provisional": (("active", lazy("Confirm")), ("suspended", lazy("Suspend")), _CLOSE),
    "active": (("suspended", lazy("Suspend")), _CLOSE),
    "suspended": (("active", lazy("Reactivate")), _CLOSE),
    "closed": (("active", lazy("Open again")),),
}
_QUESTIONS: Final[Mapping[tuple[str, str], Lazy]] = {
    ("provisional", "active"): lazy("Confirm {name}?"),
    ("suspended", "active"): lazy("Reactivate {name}?"),
    ("closed", "active"): lazy("Open {name} again?"),
}
_QUESTION_OF: Final[Mapping[str, Lazy]] = {"suspended": lazy("Suspend {name}?"), "closed": lazy("Close {name}?")}
_DONE: Final[Mapping[str, Lazy]] = {
    "active": lazy("The FSP {name} is active."),
    "suspended": lazy("The FSP {name} is suspended. Lookups do not find its aliases."),
    "closed": lazy("The FSP {name} is closed."),
}


@page("fsp_status", "GET", "/fsps/{fsp_id}/status/{status}", _TITLE, needs=_NEEDS, under="fsps")
async def show_status(visit: Visit, fsp_id: str, status: str) -> Answer:
    return await _show(visit, fsp_id, status)


@page("set_fsp_status", "POST", "/fsps/{fsp_id}/status/{status}", _TITLE, needs=_NEEDS, under="fsps")
async def set_status(visit: Visit, fsp_id: str, status: str) -> Answer:
    _require_status(status)
    reply = await visit.ask(
        "setFspStatus", path={"fsp_id": fsp_id}, body={"status": status, "reason": visit.form.text("reason")},
        if_match=visit.form["version"], once=True,
    )  # fmt: skip
    if reply.ok:
        return visit.lead("fsp", str(_DONE[status]).format(name=fsp_id), fsp_id=fsp_id)
    return await _show(visit, fsp_id, status, reply)


def _require_status(status: str) -> None:
    if status not in _DONE:
        raise Refusal(404, "not_found", "No such status", "Choose one on the page of the FSP")


async def _show(visit: Visit, fsp_id: str, status: str, reply: Reply | None = None) -> Answer:
    _require_status(status)
    path = {"fsp_id": fsp_id}
    found, counted = await asyncio.gather(visit.fetch("getFsp", path=path), visit.get("getFspImpact", path=path))
    before = found.json["status"]
    is_changed = reply is not None and reply.is_outdated
    question = str(_QUESTIONS.get((before, status), _QUESTION_OF.get(status, ""))).format(name=fsp_id)
    return visit.show(
        "fsp_status/status.html", fsp=found.json, status=status,
        step=next((text for name, text in STEPS[before] if name == status), None), question=question,
        lines=_list_consequences(found.json, status, counted), version=found.etag, reason=visit.form["reason"],
        errors=None if is_changed else visit.errors_of(reply), is_changed=is_changed,
    )  # fmt: skip


def _list_consequences(fsp: Mapping[str, Any], status: str, counted: Mapping[str, Any]) -> list[str]:
    """List what follows, the gravest first."""
    lines: list[str] = []
    before = fsp["status"]
    answered_before, answered = (one in ANSWERED_STATUSES for one in (before, status))
    if answered_before and not answered:
        lines += [_count_aliases_lost(counted), *_count_routes_lost(counted), *_count_files(counted)]
    elif answered and not answered_before:
        lines += [_count_aliases_back(counted), *_count_routes_back(counted)]
    elif status == "active":
        lines.append(_("Its aliases are answered already, and stay so."))
        lines.append(_("Everybody sees that an operator has checked this FSP."))
    if status == "closed":
        lines.append(_count_keys_lost(counted))
        lines.append(_("You can open the FSP again later. Its aliases stay in the directory."))
    elif before == "closed":
        lines.append(_("Keys that were not revoked and have not expired work again. Revoke those that must not."))
    elif status == "suspended":
        lines += _list_abilities(has_two_persons=fsp["twoPersons"])
        lines.append(_("You can undo this: reactivate the FSP."))
    return lines


def _list_abilities(*, has_two_persons: bool) -> list[str]:
    """List what the people of a suspended FSP can still do.  The API refuses new aliases; imports refuse all rows."""
    return [
        _("Its people can still sign in, read, and upload files. New aliases are refused, and all rows of files fail."),
        _("Changes and removals that a second person approves fail, too.")
        if has_two_persons
        else _("Its people can still change and remove single aliases."),
    ]


def _count_aliases_lost(counted: Mapping[str, Any]) -> str:
    n = counted["aliases"]
    if not counted["aliasesExact"]:
        return _("About {n} aliases stop answering. Payments to them find nobody.").format(n=format_number(n))
    if not n:
        return _("It has no aliases, so no lookup changes.")
    return ngettext(
        "{n} alias stops answering. Payments to it find nobody.",
        "{n} aliases stop answering. Payments to them find nobody.", n,
    ).format(n=format_number(n))  # fmt: skip


def _count_aliases_back(counted: Mapping[str, Any]) -> str:
    n = counted["aliases"]
    if not counted["aliasesExact"]:
        return _("About {n} aliases answer again.").format(n=format_number(n))
    if not n:
        return _("It has no aliases, so no lookup changes.")
    return ngettext("{n} alias answers again.", "{n} aliases answer again.", n).format(n=format_number(n))


def _count_routes_lost(counted: Mapping[str, Any]) -> list[str]:
    n = counted["routes"]
    text = ngettext(
        "{n} route answers nobody. No shorter route answers in its place.",
        "{n} routes answer nobody. No shorter routes answer in their place.", n,
    )  # fmt: skip
    return [text.format(n=format_number(n))] if n else []


def _count_routes_back(counted: Mapping[str, Any]) -> list[str]:
    n = counted["routes"]
    text = ngettext("{n} route answers again.", "{n} routes answer again.", n)
    return [text.format(n=format_number(n))] if n else []


def _count_files(counted: Mapping[str, Any]) -> list[str]:
    n = counted["openFiles"]
    text = ngettext(
        "{n} file or change is open. Rows that are applied from now on are refused.",
        "{n} files or changes are open. Rows that are applied from now on are refused.", n,
    )  # fmt: skip
    return [text.format(n=format_number(n))] if n else []


def _count_keys_lost(counted: Mapping[str, Any]) -> str:
    n = counted["keys"]
    if not n:
        return _("Nobody of this FSP can sign in any more.")
    return ngettext(
        "{n} key stops working at once. Nobody of this FSP can sign in any more.",
        "{n} keys stop working at once. Nobody of this FSP can sign in any more.", n,
    ).format(n=format_number(n))  # fmt: skip
