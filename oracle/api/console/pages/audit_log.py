"""The sealed log of the history: its checkpoints and keys, and exports of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from oracle.api.admin.problems import Refusal
from oracle.api.console.answers import Answer
from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.languages import lazy
from oracle.api.console.pages.audit import ENTITIES, read_span

if TYPE_CHECKING:
    from oracle.api.console.visits import Visit

_TEXT = "text/plain; charset=utf-8"
# The files of a whole export, in the order in which they are checked.
_FILES = {
    "events.ndjson": "exportEvents",
    "hashes.bin": "exportHashes",
    "events.csv": "exportEventTable",
}


# Checkpoints --------------------------------------------------------------------------------------------------------


@page("checkpoints", "GET", "/audit/log", lazy("Sealed log"), needs=("listCheckpoints",), under="audit")
async def show_checkpoints(visit: Visit) -> Answer:
    listed = visit.get("listCheckpoints", query={"cursor": visit.query["cursor"], "limit": PAGE_ITEMS})
    found, status, keys = await asyncio.gather(listed, visit.get("getLogStatus"), visit.get("listLogKeys"))
    return visit.show(
        "audit_log/checkpoints.html", block="list", checkpoints=found["items"], next=found["next"], status=status,
        keys=keys,
    )  # fmt: skip


@page(
    "checkpoint", "GET", "/audit/log/checkpoints/{size}", lazy("Checkpoint"), needs=("proveConsistency",),
    under="audit", is_part=True,
)  # fmt: skip
async def download_checkpoint(visit: Visit, size: str) -> Answer:
    found = await visit.get("proveConsistency", query={"from": size, "to": size})
    if found["checkpoint"] is None:
        raise Refusal(404, "not_found", "No checkpoint of this size was signed", "Choose one from the list")
    return _send_file(found["checkpoint"], f"checkpoint-{found['second']}")


@page(
    "log_keys", "GET", "/audit/log/keys", lazy("Public keys of the log"), needs=("listLogKeys",), under="audit",
    is_part=True,
)  # fmt: skip
async def download_keys(visit: Visit) -> Answer:
    keys = await visit.get("listLogKeys")
    return _send_file("".join(f"{key['vkey']}\n" for key in keys["items"]), "log.vkey")


def _send_file(text: str, name: str) -> Answer:
    headers = [("content-disposition", f"attachment; filename={name}")]
    return Answer(text.encode(), media_type=_TEXT, headers=headers)


# Exports ------------------------------------------------------------------------------------------------------------


@page("audit_export", "GET", "/audit/export", lazy("Export of the history"), needs=("exportManifest",), under="audit")
async def show_export(visit: Visit) -> Answer:
    span = read_span(visit)
    values = {**span.typed, **{name: visit.query.text(name) for name in ("fspId", "entity", "format")}}
    reply = None
    if visit.query.has("whole"):
        reply = await visit.ask("exportManifest", query=span.asked)
    return visit.show(
        "audit_log/export.html", http_status=200 if reply is None else reply.status, values=values, entities=ENTITIES,
        errors=visit.errors_of(reply),
        manifest=reply.json if reply is not None and reply.ok else None, files=list(_FILES),
    )  # fmt: skip


@page(
    "export_manifest", "GET", "/audit/export/files/manifest.json", lazy("Manifest"), needs=("exportManifest",),
    under="audit", is_part=True,
)  # fmt: skip
async def download_manifest(visit: Visit) -> Answer:
    return await visit.download("exportManifest", query=_read_range(visit), file_name="manifest.json")


@page(
    "export_file", "GET", "/audit/export/files/{file}", lazy("Export of the history"),
    needs=("exportManifest", "exportEvents"), under="audit", is_part=True,
)  # fmt: skip
async def download_file(visit: Visit, file: str) -> Answer:
    operation = _FILES.get(file)
    if operation is None:
        raise Refusal(404, "not_found", "No such file", "Choose one from the list")
    return await visit.download(operation, query=_read_range(visit), file_name=file)


@page(
    "export_filtered", "GET", "/audit/export/filtered", lazy("Export of the history"),
    needs=("exportFilteredEvents",), under="audit", is_part=True,
)  # fmt: skip
async def download_filtered(visit: Visit) -> Answer:
    query = {**{name: visit.query.text(name) for name in ("fspId", "entity", "format")}, **read_span(visit).asked}
    ending = "csv" if query["format"] == "csv" else "ndjson"
    return await visit.download("exportFilteredEvents", query=query, file_name=f"events.{ending}")


def _read_range(visit: Visit) -> dict[str, Any]:
    return {name: visit.query.text(name) for name in ("begin", "end")}
