"""The FSP that a page is about, for people with several FSPs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


async def fetch_fsp(visit: Visit, fsp_id: str | None) -> Any:
    """Fetch an FSP for the notice about its status, `ui.fsp_notice`; None: no FSP, or one that the person cannot read.

    Only people of an FSP work with its status in mind, so a page of all FSPs asks nothing.
    """
    if fsp_id is None or not visit.may("getFsp", fsp_id):
        return None
    reply = await visit.ask("getFsp", path={"fsp_id": fsp_id})
    return reply.json if reply.ok else None


def find_own(visit: Visit) -> str | None:
    """Find the FSP whose history the person sees; None: that of all."""
    own = visit.caller.fsp_ids
    if own is None:
        return None
    return visit.fsp_id or min(own, default="-")


def list_choices(visit: Visit) -> list[tuple[str, str]]:
    """List the FSPs that a person of several FSPs chooses from."""
    return [(fsp_id, fsp_id) for fsp_id in sorted(visit.caller.fsp_ids or ())]
