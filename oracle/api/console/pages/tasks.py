"""Tasks of a second person: what waits, one task with a sample of its changes, approve, reject, and past decisions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from oracle.api.console.bodies import Form
from oracle.api.console.choices import fetch_fsp
from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.languages import Lazy, lazy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.api import Reply
    from oracle.api.console.visits import Visit

SAMPLE: Final = 20

# Of a row of a file, and of a change without a file.
ACTIONS: Final[Mapping[str, Lazy]] = {
    "add": lazy("Add"),
    "replace": lazy("Replace"),
    "update": lazy("Replace"),
    "remove": lazy("Remove"),
}
# A decision: its operation, and what it did to a file and to a change without one.
_ACTS: Final[Mapping[str, tuple[str, Lazy, Lazy]]] = {
    "approve": ("approveBatch", lazy("File {number} is approved."), lazy("Change {number} is approved.")),
    "reject": ("rejectBatch", lazy("File {number} is rejected."), lazy("Change {number} is rejected.")),
}
# Why this person cannot decide.  The API says it exactly, in English.
_REASONS: Final[Mapping[str, Lazy]] = {
    "same_person": lazy("You sent this yourself, perhaps with another key. A second person must approve or reject it."),
    "person_unknown": lazy(
        "Nobody can tell whether you are another person than the sender. Sign in the same way as the sender, or ask an"
        " operator to note the person of the key."
    ),
}


def name_obstacle(verdict: Any) -> str:
    """Say why this person cannot decide; '' where they can."""
    return "" if verdict["allowed"] else str(_REASONS.get(verdict["code"], verdict["detail"]))


# Lists ------------------------------------------------------------------------------------------------------------


@page("tasks", "GET", "/tasks", lazy("Tasks"), needs=("listWaitingBatches",), menu=50)
async def show_tasks(visit: Visit) -> Answer:
    found = await visit.get(
        "listWaitingBatches", query={"fspId": visit.fsp_id, "cursor": visit.query["cursor"], "limit": PAGE_ITEMS}
    )
    return visit.show(
        "tasks/list.html", block="list", tasks=found["items"], next=found["next"], actions=ACTIONS,
        fsp=visit.query.text("fsp"), has_several=_has_several(visit),
    )  # fmt: skip


@page("decisions", "GET", "/tasks/decisions", lazy("Decisions"), needs=("listDecidedBatches",), under="tasks")
async def show_decisions(visit: Visit) -> Answer:
    by = visit.query.text("by")
    reply = await visit.ask(
        "listDecidedBatches",
        query={"fspId": visit.fsp_id, "by": by, "cursor": visit.query["cursor"], "limit": PAGE_ITEMS},
    )
    found = reply.listing
    return visit.show(
        "tasks/decisions.html", block="list", batches=found["items"], next=found["next"], actions=ACTIONS,
        errors=visit.errors_of(reply), by=by, fsp=visit.query.text("fsp"),
        has_several=_has_several(visit),
    )  # fmt: skip


def _has_several(visit: Visit) -> bool:
    """Whether a list can have things of several FSPs."""
    return visit.fsp_id is None


# One task ---------------------------------------------------------------------------------------------------------


@page("task", "GET", "/tasks/{fsp_id}/{batch_id}", lazy("Task"), needs=("getBatch", "sampleBatch"), under="tasks")
async def show_task(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    return await _show_task(visit, fsp_id, batch_id)


async def _show_task(visit: Visit, fsp_id: str, batch_id: str, refused: Reply | None = None, act: str = "") -> Answer:
    """Show a task; `refused`: what the API says of the act `approve` or `reject`."""
    path = {"fsp_id": fsp_id, "batch_id": batch_id}
    reply, sample, verdict, fsp = await asyncio.gather(
        visit.fetch("getBatch", path=path),
        visit.get("sampleBatch", path=path, query={"limit": SAMPLE}),
        _ask_verdict(visit, path),
        fetch_fsp(visit, fsp_id),
    )
    return visit.show(
        "tasks/task.html", block="sample", batch=reply.json, path=path, fsp=fsp,
        version=reply.etag, sample=sample, verdict=verdict, obstacle=name_obstacle(verdict) if verdict else "",
        actions=ACTIONS, act=act, values=visit.form if act else Form(),
        errors=visit.errors_of(refused),
    )  # fmt: skip


async def _ask_verdict(visit: Visit, path: dict[str, str]) -> Any:
    """Ask whether this person can decide; None: people with their role decide about nothing."""
    if not visit.may("checkDecision", path["fsp_id"]):
        return None
    return await visit.get("checkDecision", path=path)


@page("approve_task", "POST", "/tasks/{fsp_id}/{batch_id}/approve", lazy("Approve"), needs=("approveBatch",),
      under="tasks")  # fmt: skip
async def approve_task(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    return await _decide(visit, "approve", fsp_id, batch_id)


@page("reject_task", "POST", "/tasks/{fsp_id}/{batch_id}/reject", lazy("Reject"), needs=("rejectBatch",),
      under="tasks")  # fmt: skip
async def reject_task(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    return await _decide(visit, "reject", fsp_id, batch_id)


async def _decide(visit: Visit, act: str, fsp_id: str, batch_id: str) -> Answer:
    """Decide about the version that the person has seen; `act`: one of _ACTS."""
    operation, file_done, change_done = _ACTS[act]
    reply = await visit.ask(
        operation, path={"fsp_id": fsp_id, "batch_id": batch_id}, body={"reason": visit.form.text("reason") or None},
        if_match=visit.form["version"], once=True,
    )  # fmt: skip
    if not reply.ok:
        return await _show_task(visit, fsp_id, batch_id, reply, act)
    done = change_done if reply.json["change"] else file_done
    return visit.lead("tasks", str(done).format(number=batch_id))
