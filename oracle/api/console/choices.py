"""The FSP that a page is about, where the person has several: they choose it first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Visit

_ITEMS = 100


async def choose_fsp(visit: Visit) -> Answer:
    """Show the FSPs of the person; each leads to the page that is asked for, with ?fsp=."""
    own = visit.caller.fsp_ids
    fsps, following = [{"fspId": name, "name": None} for name in sorted(own or ())], None
    if visit.may("listFsps"):
        found = await visit.get("listFsps", query={"cursor": visit.query["cursor"], "limit": _ITEMS})
        fsps, following = found["items"], found["next"]
    return visit.show("choose_fsp.html", block="list", fsps=fsps, next=following)
