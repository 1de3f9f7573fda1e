"""Verifications of the history by the service: start one, watch it, and see where something differs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from oracle.api.console.declarations import page
from oracle.api.console.languages import _, lazy
from oracle.api.findings import split_events, translate_finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.languages import Lazy
    from oracle.api.console.visits import Visit

LIMIT: Final = 20
LOOK_S: Final = 1.0
WATCHED_S: Final = 3_600  # then the browser asks again
_GOES_ON: Final = ("waiting", "running")

STATES: Final[Mapping[str, tuple[Lazy, str]]] = {
    "waiting": (lazy("Waits"), "plain"),
    "running": (lazy("Runs"), "warn"),
    "done": (lazy("Complete"), "plain"),
    "stopped": (lazy("Stopped"), "plain"),
    "failed": (lazy("Failed"), "bad"),
}
KINDS: Final[Mapping[str, Lazy]] = {
    "altered": lazy("An event was altered"),
    "removed": lazy("An event was removed"),
    "inserted": lazy("An event was not sealed"),
    "moved": lazy("An event is in another place"),
    "sealing": lazy("An event waits for too long to be sealed"),
    "batch": lazy("The sealing is damaged"),
    "hash": lazy("A hash of the log is wrong"),
    "hashes": lazy("Hashes of the log are missing"),
    "root": lazy("The log does not lead to its signed root"),
    "checkpoint": lazy("A checkpoint is wrong or missing"),
    "key": lazy("A key of the log is wrong"),
    "era": lazy("The order of the log is damaged"),
    "table": lazy("A table was altered"),
    "alias": lazy("An alias differs from its events"),
    "fsp": lazy("An FSP differs from its events"),
    "route": lazy("A route differs from its events"),
    "policy": lazy("A policy differs from its events"),
    "credential": lazy("A key of a person differs from its events"),
    "secret": lazy("A secret differs from its events"),
    "oracle": lazy("An oracle differs from its events"),
    "endpoints": lazy("Endpoints differ from their events"),
    "jws-key": lazy("A JWS key differs from its events"),
}


@page(
    "verifications", "GET", "/audit/verifications", lazy("Verification"), needs=("listVerifications",), under="audit"
)  # fmt: skip
async def show_verifications(visit: Visit) -> Answer:
    found = await visit.get("listVerifications", query={"cursor": visit.query["cursor"], "limit": LIMIT})
    running = next((one for one in found["items"] if one["state"] in _GOES_ON), None)
    return visit.show(
        "verification/list.html", block="list", verifications=found["items"], next=found["next"],
        background=found["background"], running=running, states=STATES, errors=None,
    )  # fmt: skip


@page(
    "start_verification", "POST", "/audit/verifications", lazy("Verification"), needs=("startVerification",),
    under="audit",
)  # fmt: skip
async def start_verification(visit: Visit) -> Answer:
    reply = await visit.ask("startVerification", body={"directory": visit.form.has("directory")}, once=True)
    if reply.problem is not None and reply.problem.code == "already_running":
        return visit.lead("verifications", _("Another verification runs already. Wait for its end."), kind="warning")
    if reply.problem is not None:
        return visit.show_problem(reply.problem)
    return visit.lead("verification", verification_id=reply.json["verificationId"])


@page(
    "verification", "GET", "/audit/verifications/{verification_id}", lazy("Verification"), needs=("getVerification",),
    under="audit",
)  # fmt: skip
async def show_verification(visit: Visit, verification_id: str) -> Answer:
    found = await visit.get("getVerification", path={"verification_id": verification_id})
    return visit.show("verification/show.html", **_describe(found))


@page(
    "follow_verification", "GET", "/audit/verifications/{verification_id}/events", lazy("Verification"),
    needs=("getVerification",), under="audit", is_part=True,
)  # fmt: skip
async def follow_verification(visit: Visit, verification_id: str) -> Answer:
    """Send the state again whenever it changes, until the end."""
    path = {"verification_id": verification_id}
    first = await visit.get("getVerification", path=path)

    async def follow() -> AsyncIterator[tuple[str, str | bytes]]:
        found, sent = first, None  # the page can be older than the first answer
        for _second in range(WATCHED_S):
            if found != sent:
                values = {**_describe(found), "announces": sent is None or found["state"] != sent["state"]}
                yield "", visit.render("verification/show.html", "state", **values)
                sent = found
            if found["state"] not in _GOES_ON:
                yield "end", ""
                return
            await asyncio.sleep(LOOK_S)
            if not await visit.is_still_valid():
                return
            reply = await visit.ask("getVerification", path=path)
            if not reply.ok:
                return
            found = reply.json

    return visit.stream(follow())


@page(
    "stop_verification", "POST", "/audit/verifications/{verification_id}/stop", lazy("Verification"),
    needs=("stopVerification",), under="audit",
)  # fmt: skip
async def stop_verification(visit: Visit, verification_id: str) -> Answer:
    await visit.get("stopVerification", path={"verification_id": verification_id})
    return visit.lead("verification", _("The verification was stopped."), verification_id=verification_id)


def _describe(found: dict[str, Any]) -> dict[str, Any]:
    listed = [
        (KINDS.get(one["kind"], one["kind"]), split_events(translate_finding(one["text"]), one["eventIds"]))
        for one in found["listed"]
    ]
    return {"one": found, "listed": listed, "goes_on": found["state"] in _GOES_ON, "states": STATES, "announces": False}
