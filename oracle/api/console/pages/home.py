"""The first page after signing in: what waits for this person, the last files, and how the service is."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from oracle.api.console.choices import fetch_fsp
from oracle.api.console.declarations import page
from oracle.api.console.formats import DASH, format_number, isolate
from oracle.api.console.languages import _, lazy, ngettext
from oracle.api.console.pages.health import describe_now, find_problems
from oracle.api.console.visits import make_url
from oracle.api.console.words import name_batch_state, name_change, name_status, rate_batch_state
from oracle.api.naming import join_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.console import Console
    from oracle.api.console.visits import Visit

WAITING: Final = 5  # are listed; the page of tasks has all
FILES: Final = 5
OWN: Final = 50
PROVISIONAL: Final = 100  # are counted
OWN_DAYS: Final = 7  # how long a failed upload stays here
DOUBTS: Final = 20
DOUBTS_KEPT_S: Final = 600.0  # looking for them takes a while
_NOTHING: Final[Mapping[str, Any]] = {"items": [], "next": None}
_ALIASES: Final = "listDoubtfulAliases"
_ROUTES: Final = "listDoubtfulRoutes"


class Notice(NamedTuple):
    """A thing that waits for this person, in one line."""

    kind: str  # of the badge: bad, warn, plain
    word: str  # in the badge
    text: str
    url: str = ""
    reason: str = ""  # of the API, in English


@page("home", "GET", "/", lazy("Home"), menu=10)
async def show_home(visit: Visit) -> Answer:
    fsp_id = _find_fsp(visit)
    decides = visit.may("approveBatch", fsp_id) and visit.may("listWaitingBatches")
    waiting, own, files, state, fsp, provisional = await asyncio.gather(
        _list_waiting(visit, fsp_id) if decides else _list_nothing(),
        _list_own(visit, fsp_id) if visit.may("uploadBatch", fsp_id) else _list_nothing(),
        _list(visit, fsp_id, only="files", limit=FILES),
        _fetch_state(visit),
        fetch_fsp(visit, fsp_id),
        _list_provisional(visit),
    )
    return visit.show(
        "home/home.html", fsp_id=fsp_id, fsp=fsp,
        fsps=[(make_url("home", fsp=one), one, one == fsp_id) for one in sorted(visit.caller.fsp_ids or ())],
        waiting=[_describe_waiting(one) for one in waiting["items"]],
        notices=[*_describe_provisional(provisional), *_list_notices(own["items"], is_decider=decides)],
        files=files["items"],
        doubts_of=_choose_doubts(visit, fsp_id),
        now=[] if state is None else describe_now(state),
        findings=[] if state is None else list(find_problems(state, datetime.now(UTC))),
    )  # fmt: skip


@page("home_doubts", "GET", "/doubts", lazy("Home"), under="home", is_part=True)
async def show_doubts(visit: Visit) -> Answer:
    """What is doubtful in the directory: asked for after the page, because it looks at thousands of entries."""
    fsp_id = _find_fsp(visit)
    of = _choose_doubts(visit, fsp_id)
    aliases, routes = await asyncio.gather(
        _fetch_doubts(visit, _ALIASES, fsp_id) if "aliases" in of else _find_no_doubts(),
        _fetch_doubts(visit, _ROUTES, None) if "routes" in of else _find_no_doubts(),
    )
    return visit.show("home/doubts.html", block="content", fsp_id=fsp_id, aliases=aliases, routes=routes)


def _find_fsp(visit: Visit) -> str | None:
    """Find the FSP that the page is about; of somebody with several, the first, until they choose."""
    own = visit.caller.fsp_ids
    return visit.fsp_id or (min(own) if own else None)


# What waits -------------------------------------------------------------------------------------------------------


async def _list(visit: Visit, fsp_id: str | None, **query: Any) -> Any:
    """List batches of an FSP, or of all.  Without the right to, nothing."""
    if fsp_id is not None and visit.may("listBatches", fsp_id):
        reply = await visit.ask("listBatches", path={"fsp_id": fsp_id}, query=query)
    elif visit.may("listAllBatches"):
        reply = await visit.ask("listAllBatches", query=query)
    else:
        return _NOTHING
    return reply.listing


async def _list_nothing() -> Any:
    return _NOTHING


async def _fetch_state(visit: Visit) -> Any:
    """Fetch how the service is; None for those who cannot read it."""
    return await visit.get("getServiceState") if visit.may("getServiceState") else None


async def _list_own(visit: Visit, fsp_id: str | None) -> Any:
    """List what this person uploaded in the last days."""
    since = datetime.now(UTC) - timedelta(days=OWN_DAYS)
    return await _list(
        visit, fsp_id, uploadedBy=visit.caller.person or visit.caller.actor, limit=OWN, **{"from": since.isoformat()}
    )


async def _list_waiting(visit: Visit, fsp_id: str | None) -> Any:
    """List the oldest things that wait for a second person."""
    reply = await visit.ask("listWaitingBatches", query={"fspId": fsp_id, "limit": WAITING})
    return reply.listing


async def _list_provisional(visit: Visit) -> Any:
    """List the FSPs that wait until an operator confirms them; nothing for people who cannot."""
    if not (visit.may("setFspStatus") and visit.may("listFsps")):
        return _NOTHING
    reply = await visit.ask("listFsps", query={"status": "provisional", "limit": PROVISIONAL})
    return reply.listing


def _describe_provisional(fsps: Mapping[str, Any]) -> Iterator[Notice]:
    n = len(fsps["items"])
    if not n:
        return
    text = ngettext("{n} FSP that nobody has confirmed", "{n} FSPs that nobody has confirmed", n)
    if fsps["next"]:
        text = _("More than {n} FSPs that nobody has confirmed")
    url = make_url("fsps", status="provisional")
    yield Notice("warn", name_status("provisional"), text.format(n=format_number(n)), url)


def _describe_waiting(task: Mapping[str, Any]) -> dict[str, Any]:
    batch, verdict = task["batch"], task["verdict"]
    is_own = verdict is not None and verdict["code"] == "same_person"
    return {**batch, "text": _name_batch(batch), "is_own": is_own}


def _name_batch(batch: Mapping[str, Any]) -> str:
    change = batch["change"]
    if change is None:
        return str(batch["fileName"])
    return join_label(name_change(change["action"]), change["display"] or change["identifier"] or DASH)


def _list_notices(batches: list[Any], *, is_decider: bool) -> Iterator[Notice]:
    """List what a person should know of their own uploads: what failed, and what waits for somebody else."""
    for batch in batches:
        notice = _describe_own(batch)
        if notice is not None:
            yield notice
    waiting = sum(1 for batch in batches if batch["state"] == "waiting")
    if waiting and not is_decider:
        text = ngettext("{n} upload or change of yours waits for a checker.",
                        "{n} uploads and changes of yours wait for a checker.", waiting)  # fmt: skip
        yield Notice("plain", _("Waiting"), text.format(n=format_number(waiting)))


def _describe_own(batch: Mapping[str, Any]) -> Notice | None:
    url = make_url("file", fsp_id=batch["fspId"], batch_id=batch["batchId"])
    word, name = name_batch_state(batch), _name_batch(batch)
    if batch["state"] == "failed":
        return Notice("bad", word, name, url, (batch["error"] or {}).get("message", ""))
    if batch["state"] == "rejected":
        return Notice("bad", word, name, url, batch["decisionReason"] or "")
    failed = batch["rows"]["failed"]
    if batch["state"] == "done" and failed:
        text = ngettext("{name}: {n} row failed.", "{name}: {n} rows failed.", failed)
        return Notice(rate_batch_state(batch), word, text.format(name=isolate(name), n=format_number(failed)), url)
    return None


# What is doubtful -------------------------------------------------------------------------------------------------


class Doubts(NamedTuple):
    """How many things are doubtful, as far as one question of the API looks."""

    found: int
    has_more: bool
    scanned: int
    routes: list[Any]


_NONE: Final = Doubts(0, has_more=False, scanned=0, routes=[])
_kept: WeakKeyDictionary[Console, dict[tuple[str, str | None], tuple[float, Doubts]]] = WeakKeyDictionary()


def _choose_doubts(visit: Visit, fsp_id: str | None) -> list[str]:
    """Choose what this person can correct: aliases of their FSP, or routes."""
    aliases = fsp_id is not None and visit.may("registerAlias", fsp_id) and visit.may(_ALIASES, fsp_id)
    routes = visit.may("createRoute") and visit.may(_ROUTES)
    return [name for name, able in (("aliases", aliases), ("routes", routes)) if able]


async def _fetch_doubts(visit: Visit, operation: str, fsp_id: str | None) -> Doubts:
    """Ask for the first doubtful things, at most once in some minutes for all people who can ask."""
    kept, now = _kept.setdefault(visit.console, {}), time.monotonic()
    for key in [key for key, (until, _doubts) in kept.items() if until <= now]:
        del kept[key]
    if (operation, fsp_id) not in kept:
        path = {} if fsp_id is None else {"fsp_id": fsp_id}
        reply = await visit.ask(operation, path=path, query={"limit": DOUBTS})
        if not reply.ok:
            return _NONE
        found = reply.json
        routes = found["items"] if operation == _ROUTES else []
        doubts = Doubts(len(found["items"]), found["next"] is not None, found.get("scanned", 0), routes)
        kept[operation, fsp_id] = (now + DOUBTS_KEPT_S, doubts)
    return kept[operation, fsp_id][1]


async def _find_no_doubts() -> Doubts:
    return _NONE
