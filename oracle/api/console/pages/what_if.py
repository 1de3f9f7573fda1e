"""What a lookup would answer, and why; as a person types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oracle.api.console import formats, words
from oracle.api.console.bodies import Form
from oracle.api.console.declarations import page
from oracle.api.console.languages import Lazy, _, lazy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Visit

_TITLE: Final = lazy("What if")
_ALIAS_VERDICTS: Final[Mapping[str, Lazy]] = {
    "answers": lazy("Answers"),
    "unanswered": lazy("Decides, but its FSP is suspended or closed"),
    "other_sub_id": lazy("Has another SubId"),
    "other_currency": lazy("Is for another currency"),
    "not_asked_for": lazy("Is not asked for"),
}
_ROUTE_VERDICTS: Final[Mapping[str, Lazy]] = {
    "answers": lazy("Answers"),
    "unanswered": lazy("Decides, but its FSP is suspended or closed"),
    "alias_first": lazy("Not needed: an alias decides"),
    "longer_first": lazy("A longer or narrower route decides"),
    "other_kind": lazy("Is for another kind"),
    "not_begun": lazy("Has not begun"),
    "ended": lazy("Has ended"),
}


@page("what_if", "GET", "/routes/what-if", _TITLE, needs=("explainLookup",), under="routes")
async def show_question(visit: Visit) -> Answer:
    return visit.show(
        "what_if/what_if.html", values=Form.of({"kind": "CLABE"}), kinds=words.list_kinds(), found=None, errors=None,
        alias_verdicts=_ALIAS_VERDICTS, route_verdicts=_ROUTE_VERDICTS, explanation="",
    )  # fmt: skip


@page("explain_lookup", "POST", "/routes/what-if", _TITLE, needs=("explainLookup",), under="routes")
async def explain_lookup(visit: Visit) -> Answer:
    form = visit.form
    reply = None
    if form.text("identifier") or not visit.is_partial:
        body = {
            "kind": form.text("kind"), "identifier": form.text("identifier"), "subId": form.text("subId") or None,
            "country": form.text("country") or None, "currency": form.text("currency") or None,
            "at": formats.write_for_api(form.text("at")),
        }  # fmt: skip
        reply = await visit.ask("explainLookup", body=body)
    found = reply.json if reply is not None and reply.ok else None
    # Somebody who types has not finished yet: that is no mistake.
    return visit.show(
        "what_if/what_if.html", block="answer", http_status=200 if visit.is_partial or found is not None else 422,
        values=form, kinds=words.list_kinds(), found=found, errors=visit.errors_of(reply),
        alias_verdicts=_ALIAS_VERDICTS, route_verdicts=_ROUTE_VERDICTS,
        explanation="" if found is None else _explain(found),
    )  # fmt: skip


def _explain(found: Mapping[str, Any]) -> str:
    """Say in a sentence why the answer is so."""
    alias, rule, is_answered = found["alias"], found["rule"], bool(found["answer"])
    if alias is not None:
        name = alias["fspId"]
        if not is_answered:
            text = _("{name} has registered it, but is suspended or closed. No route answers in its place.")
        elif alias["hint"]:
            text = _("The hub found it in another scheme, at {name}. No route is needed.")
        else:
            text = _("{name} has registered it. No route is needed.")
        return text.format(name=name)
    if found["by"] == "alias":
        return _("It is registered in other currencies only. No route answers in its place.")
    if rule is None:
        return _("Nobody has registered it, and no valid route fits it.")
    if is_answered:
        text = _("Nobody has registered it. Of the valid routes, that of the prefix {prefix} decides.")
    else:
        text = _(
            "Nobody has registered it. The route of the prefix {prefix} decides, but its FSP is suspended or closed."
        )
    return text.format(prefix=rule["prefix"])
