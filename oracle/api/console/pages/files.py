"""Files: the list, an upload with the first mistakes before it, progress as it happens, results, and failed rows.

Upload.    The form streams through to the API: no file is whole in memory.
Check.     With script, the first part of a chosen file is checked at once; without, a button does it.
Progress.  The events of the API become parts of the page.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import msgspec
from markupsafe import Markup, escape

from oracle.api.admin.operations import BODY_BYTES_MAX
from oracle.api.admin.streams import Places
from oracle.api.console.answers import Answer
from oracle.api.console.api import BrokenOff
from oracle.api.console.api_texts import translate_sentences
from oracle.api.console.bodies import Form
from oracle.api.console.choices import fetch_fsp, list_choices
from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.languages import Lazy, _, lazy
from oracle.api.console.visits import Errors, make_url
from oracle.api.console.words import BATCH_STATES
from oracle.batch_states import FINAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from oracle.api.console.api import Reply
    from oracle.api.console.visits import Visit

FIRST_ROWS: Final = 20  # failed rows beside the state of a file
BUSY: Final = frozenset({"validating", "applying"})
FOLLOWED_MAX: Final = 5  # files of a list: a person can follow 20 at once
CHECK_BYTES: Final = BODY_BYTES_MAX
CHECKS: Final = Places(40, 4)  # each has the first part of a file in memory, for as long as it arrives

# Why a row or a file is refused, in a few words.  The message of the API, in English, says it exactly.
REASONS: Final[Mapping[str, Lazy]] = {
    "bad_country": lazy("The country is not valid"),
    "bad_currency": lazy("The currency is not valid"),
    "bad_encoding": lazy("Characters are damaged"),
    "bad_header": lazy("The first line is not valid"),
    "bad_identifier": lazy("The identifier is not valid"),
    "bad_json": lazy("The line is not JSON"),
    "bad_quoting": lazy("The quotes do not match"),
    "bad_separator": lazy("The separator is not valid"),
    "bad_sub_id": lazy("The sub-identifier is not valid"),
    "cancelled": lazy("The file was cancelled before"),
    "changed_since": lazy("The alias has changed meanwhile"),
    "currency_not_allowed": lazy("The FSP cannot use this currency"),
    "damaged_file": lazy("The stored file is damaged"),
    "decimal_number": lazy("A spreadsheet changed the number"),
    "digits_lost": lazy("A spreadsheet lost the last digits"),
    "duplicate_column": lazy("A column is there twice"),
    "duplicate_member": lazy("A name is there twice"),
    "empty_file": lazy("The file has no rows"),
    "file_refused": lazy("The whole file was refused"),
    "formula": lazy("The value is a formula"),
    "fsp_not_active": lazy("The FSP was not active"),
    "held_elsewhere": lazy("Another FSP has this identifier"),
    "kind_not_allowed": lazy("The FSP cannot use this kind"),
    "leading_zero_lost": lazy("A spreadsheet lost zeros in front"),
    "missing_column": lazy("A column is missing"),
    "missing_identifier": lazy("The identifier is missing"),
    "missing_kind": lazy("The kind is missing"),
    "missing_value_mark": lazy("A value is missing"),
    "no_header": lazy("The first line does not contain the column names"),
    "not_accepted": lazy("The directory does not accept it"),
    "not_allowed": lazy("The FSP can no longer use this kind or currency"),
    "not_ndjson": lazy("The file is not NDJSON"),
    "not_registered": lazy("The FSP has no such alias"),
    "not_text": lazy("It is not text"),
    "nul_character": lazy("The line has an invisible NUL character"),
    "rejected": lazy("The file was rejected"),
    "scientific_notation": lazy("A spreadsheet rounded the number"),
    "thousands_separator": lazy("The number has separators"),
    "too_few_fields": lazy("The row is too short"),
    "too_long": lazy("The value or the line is too long"),
    "too_many_bad_rows": lazy("Nearly all rows are wrong"),
    "too_many_fields": lazy("The row has too many values"),
    "too_many_rows": lazy("The file has too many rows"),
    "unknown_action": lazy("The action is not known"),
    "unknown_column": lazy("A column is not known"),
    "unknown_currency": lazy("The currency is not known"),
    "unknown_kind": lazy("The kind is not known"),
    "unknown_member": lazy("A name in the object is not known"),
}
STATUSES: Final[Mapping[str, tuple[Lazy, str]]] = {
    "added": (lazy("Added"), "good"),
    "changed": (lazy("Changed"), "good"),
    "unchanged": (lazy("Unchanged"), "good"),
    "removed": (lazy("Removed"), "good"),
    "invalid": (lazy("Not valid"), "bad"),
    "refused": (lazy("Refused"), "bad"),
    "cancelled": (lazy("Cancelled"), "plain"),
    "pending": (lazy("Not yet processed"), "plain"),
}


def name_reason(code: str | None) -> str:
    return str(REASONS.get(code or "", code or ""))


def explain(message: str, code: str | None = None) -> Markup:
    """Write a message of the API about a row or a file; sentences that are not translated are marked as English.

    `code`: the page writes its reason before the message.  If the first sentence has the same words, it is left out.
    """
    sentences = translate_sentences(message)
    if code and sentences[0][0].rstrip(".။") == name_reason(code):
        del sentences[0]
    return Markup(" ").join(
        escape(text) if is_known else Markup('<span lang="en">{}</span>').format(text) for text, is_known in sentences
    )


# The list ---------------------------------------------------------------------------------------------------------


@page("files", "GET", "/files", lazy("Files"), needs=("listBatches",), menu=40)
async def show_files(visit: Visit) -> Answer:
    fsp_id, query = _choose_fsp(visit), visit.query
    asked = {
        "only": "files", "state": query["state"], "uploadedBy": query.text("uploadedBy"),
        "from": _read_day(visit, "from"), "to": _read_day(visit, "to", days=1), "cursor": query["cursor"],
        "limit": PAGE_ITEMS,
    }  # fmt: skip
    if visit.may("listAllBatches"):
        reply = await visit.ask("listAllBatches", query={**asked, "fspId": fsp_id})
    else:
        reply = await visit.ask("listBatches", path={"fsp_id": fsp_id}, query=asked)
    found = reply.listing
    filters = {name: query.text(name) for name in ("fsp", "state", "uploadedBy", "from", "to")}
    return visit.show(
        "files/list.html", block="list", files=found["items"], next=found["next"], errors=visit.errors_of(reply),
        filters=filters, fsp_id=fsp_id, fsps=_list_fsps(visit),
        states=[("", _("All")), *((state, str(name)) for state, (name, _kind) in BATCH_STATES.items())],
        is_filtered=any(filters.values()),
        busy=[f"{file['fspId']}/{file['batchId']}" for file in found["items"] if file["state"] in BUSY][:FOLLOWED_MAX],
    )  # fmt: skip


@page("files_events", "GET", "/files/events", lazy("Files"), needs=("followBatch",), under="files", is_part=True)
async def follow_files(visit: Visit) -> Answer:
    """The rows of the list as they change: ?of=greenbank/12&of=…"""
    followed = [one.rpartition("/")[::2] for one in visit.query.list("of")[:FOLLOWED_MAX]]
    fsp_id = None if visit.query["all"] else "-"  # whether the rows have a column for the FSP

    async def follow() -> AsyncIterator[tuple[str, bytes]]:
        changes: asyncio.Queue[Any] = asyncio.Queue()
        following = [asyncio.create_task(_follow_one(visit, *one, changes)) for one in followed]
        try:
            left = len(following)
            while left:
                batch = await changes.get()
                if batch is None:
                    left -= 1
                    continue
                yield "", visit.render("files/changed.html", file=batch, fsp_id=fsp_id)
            yield "end", b""
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    return visit.stream(follow())


async def _follow_one(visit: Visit, fsp_id: str, batch_id: str, changes: asyncio.Queue[Any]) -> None:
    """Put each change of a file into the queue, and None at the end."""
    try:
        async with visit.open("followBatch", path={"fsp_id": fsp_id, "batch_id": batch_id}) as stream:
            if not stream.ok:
                return
            async for _name, batch in _read_events(stream.pieces):
                await changes.put(batch)
                if batch["state"] not in BUSY:
                    return
    finally:
        await changes.put(None)


def _choose_fsp(visit: Visit) -> str | None:
    """Return the FSP that is meant; None: all FSPs, for those who see all."""
    own = visit.caller.fsp_ids
    if visit.fsp_id is not None or not own or visit.may("listAllBatches"):
        return visit.fsp_id
    return min(own)


def _list_fsps(visit: Visit) -> list[tuple[str, str]]:
    """List the FSPs to choose from, for ui.select; none for those who have one, or see all."""
    own = list_choices(visit)
    return own if len(own) > 1 else []


def _read_day(visit: Visit, name: str, days: int = 0) -> str:
    """Read a date as the beginning of a day where the person is; leave it to the API to refuse anything else."""
    text = visit.query.text(name)
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
        return datetime.combine(day, time(), ZoneInfo(visit.time_zone)).isoformat()
    except (ValueError, OverflowError):
        return text


# Upload -----------------------------------------------------------------------------------------------------------


@page("new_file", "GET", "/files/new", lazy("Upload a file"), needs=("uploadBatch",), under="files")
async def show_new_file(visit: Visit) -> Answer:
    return await _show_form(visit, Form.of({"fsp": visit.fsp_id}))


@page("upload_file", "POST", "/files/new", lazy("Upload a file"), needs=("uploadBatch",), under="files", uploads=True)
async def upload_file(visit: Visit) -> Answer:
    fsp_id = _choose_fsp(visit)
    if fsp_id is None:
        return await _show_form(visit, visit.form, Errors.of_field("fsp", _("Choose the FSP that the file is for.")))
    reply = await visit.ask(
        "uploadBatch",
        path={"fsp_id": fsp_id},
        query={
            "fileName": _clean(visit.upload.file_name),
            "note": visit.form.text("note"),
            "country": visit.form.text("country"),
        },
        content=visit.upload.pieces,
        content_type="text/csv",
        once=True,
    )
    if reply.ok:
        path = {"fsp_id": fsp_id, "batch_id": reply.json["batchId"]}
        if visit.is_partial:  # sent by files.js, which shows how far it is
            return Answer(b"", headers=[("hx-redirect", make_url("file", **path))])
        return visit.lead("file", **path)
    return await _show_form(visit, visit.form, _errors_of_file(visit, reply))


@page("check_file", "POST", "/files/check", lazy("Upload a file"), needs=("checkFile",), under="files", uploads=True)
async def check_file(visit: Visit) -> Answer:
    """Check the first part of a file, and show its mistakes: beside the form, or alone if there is no script."""
    fsp_id = _choose_fsp(visit)
    with CHECKS.take(visit.caller.actor):
        data, is_part = await _read_beginning(visit.upload.pieces)
    if fsp_id is None:
        return await _show_form(visit, visit.form, Errors.of_field("fsp", _("Choose the FSP that the file is for.")))
    reply = await visit.ask(
        "checkFile",
        path={"fsp_id": fsp_id},
        query={"country": visit.form.text("country"), "isPart": "true" if is_part else "", "limit": FIRST_ROWS},
        content=data,
        content_type="text/csv",
    )
    if not reply.ok:
        return await _show_form(visit, visit.form, _errors_of_file(visit, reply))
    return await _show_form(visit, visit.form, checked=reply.json, is_part=is_part)


async def _read_beginning(pieces: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """Read the first part of a file, and whether there is more.  Take the rest in: a browser reads no answer before."""
    data = bytearray()
    is_part = False
    async for piece in pieces:
        room = CHECK_BYTES - len(data)
        is_part = is_part or len(piece) > room
        data += piece[:room]
    return bytes(data), is_part


async def _show_form(
    visit: Visit, values: Form, errors: Errors | None = None, *, checked: Any = None, is_part: bool = False
) -> Answer:
    return visit.show(
        "files/new.html", block="checked", values=values, errors=errors,
        checked=checked, is_part=is_part, fsps=_list_fsps(visit), fsp_id=visit.fsp_id, name_reason=name_reason,
        fsp=await fetch_fsp(visit, visit.fsp_id), explain=explain, asks_fsp=visit.caller.fsp_ids is None,
        check_bytes=CHECK_BYTES + 1,  # one more shows that there is more
    )  # fmt: skip


def _clean(name: str) -> str:
    """Return the name of a file without its folder and without characters that nobody sees.

    File names in Burmese have invisible ones between words, and the API takes none.
    """
    return "".join(letter for letter in name.replace("\\", "/").rpartition("/")[2] if letter.isprintable()).strip()


def _errors_of_file(visit: Visit, reply: Reply) -> Errors | None:
    """Find what is wrong with the form; a mistake that is of no field is one of the file."""
    errors = visit.errors_of(reply)
    if errors is not None and not errors.fields and reply.status in (400, 413):
        return errors._replace(fields={"file": errors.detail})
    return errors


@page(
    "file_template", "GET", "/file-templates/{template}", lazy("Template"), needs=("getTemplate",), under="files",
    is_part=True,
)  # fmt: skip
async def get_template(visit: Visit, template: str) -> Answer:
    return await visit.download("getTemplate", path={"name": template})


# One file ---------------------------------------------------------------------------------------------------------


@page("file", "GET", "/files/{fsp_id}/{batch_id}", lazy("File"), needs=("getBatch",), under="files")
async def show_file(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    batch = await visit.get("getBatch", path={"fsp_id": fsp_id, "batch_id": batch_id})
    return visit.show("files/file.html", block="state", **await _describe(visit, batch))


async def _describe(visit: Visit, batch: Any) -> dict[str, Any]:
    """Collect what the page of a file shows."""
    path = {"fsp_id": batch["fspId"], "batch_id": batch["batchId"]}
    failed: Any = {"items": [], "next": None}
    if batch["state"] not in ("validating", "applying") and batch["rows"]["failed"] and not batch["fileDeletedAt"]:
        reply = await visit.ask("listBatchRows", path=path, query={"only": "failed", "limit": FIRST_ROWS})
        failed = reply.listing
    fsp = await fetch_fsp(visit, batch["fspId"]) if batch["state"] == "waiting" else None
    return {
        "batch": batch, "fsp": fsp, "path": path, "failed": failed,
        "is_final": batch["state"] in FINAL, "share": _share(batch),
        "statuses": STATUSES, "name_reason": name_reason, "explain": explain,
    }  # fmt: skip


def _share(batch: Any) -> Any:
    """Return how much of the present step is done, from 0 to 1; None: nothing is at work."""
    rows = batch["rows"]
    if batch["state"] == "validating":
        return round(batch["bytesRead"] / max(batch["fileBytes"], 1), 2)
    if batch["state"] == "applying":
        refused = rows["failed"] - (rows["read"] - rows["valid"])
        return round((rows["applied"] + refused) / max(rows["valid"], 1), 2)
    return None


@page(
    "file_events", "GET", "/files/{fsp_id}/{batch_id}/events", lazy("File"), needs=("followBatch",), under="files",
    is_part=True,
)  # fmt: skip
async def follow_file(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    """The state of a file as it changes: each event is the part of the page, and `end` closes the stream."""

    async def follow() -> AsyncIterator[tuple[str, bytes]]:
        async with visit.open("followBatch", path={"fsp_id": fsp_id, "batch_id": batch_id}) as stream:
            if stream.ok:
                async for name, batch in _read_events(stream.pieces):
                    yield "", visit.render("files/file.html", "state", **await _describe(visit, batch))
                    if name == "end":
                        break
        yield "end", b""

    return visit.stream(follow())


async def _read_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, Any]]:
    """Read server-sent events: the name and the data of each, until there are no more, for whatever reason."""
    waiting = b""
    with suppress(BrokenOff):
        async for piece in pieces:
            *events, waiting = (waiting + piece).split(b"\n\n")
            for event in events:
                fields = dict(line.partition(b": ")[::2] for line in event.split(b"\n"))
                if fields.get(b"data"):
                    yield fields.get(b"event", b"").decode(), msgspec.json.decode(fields[b"data"])


@page("file_rows", "GET", "/files/{fsp_id}/{batch_id}/rows", lazy("Rows"), needs=("listBatchRows",), under="files")
async def show_rows(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    only = visit.query["only"]
    query = {"only": only, "cursor": visit.query["cursor"], "limit": PAGE_ITEMS}
    path = {"fsp_id": fsp_id, "batch_id": batch_id}
    found = await visit.get("listBatchRows", path=path, query=query)
    return visit.show(
        "files/rows.html", block="list", rows=found["items"], next=found["next"], only=only, path=path,
        statuses=STATUSES, name_reason=name_reason, explain=explain,
    )  # fmt: skip


@page(
    "file_results", "GET", "/files/{fsp_id}/{batch_id}/results", lazy("Results"), needs=("downloadBatchResults",),
    under="files", is_part=True,
)  # fmt: skip
async def download_results(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    query = {"only": visit.query["only"], "format": visit.query["format"]}
    return await visit.download("downloadBatchResults", path={"fsp_id": fsp_id, "batch_id": batch_id}, query=query)


@page(
    "file_original", "GET", "/files/{fsp_id}/{batch_id}/file", lazy("File"), needs=("downloadBatchFile",),
    under="files", is_part=True,
)  # fmt: skip
async def download_file(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    """Its name is one of ours, because the uploader chose the other: it could end with .exe."""
    return await visit.download("downloadBatchFile", path={"fsp_id": fsp_id, "batch_id": batch_id})


@page(
    "cancel_file", "GET", "/files/{fsp_id}/{batch_id}/cancel", lazy("Cancel a file"), needs=("cancelBatch",),
    under="files",
)  # fmt: skip
async def show_cancel(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    batch = await visit.get("getBatch", path={"fsp_id": fsp_id, "batch_id": batch_id})
    if batch["state"] in FINAL:
        return visit.lead("file", fsp_id=fsp_id, batch_id=batch_id)
    return visit.show("files/cancel.html", batch=batch, errors=None, values=Form())


@page(
    "cancel_file_now", "POST", "/files/{fsp_id}/{batch_id}/cancel", lazy("Cancel a file"), needs=("cancelBatch",),
    under="files",
)  # fmt: skip
async def cancel_file(visit: Visit, fsp_id: str, batch_id: str) -> Answer:
    path = {"fsp_id": fsp_id, "batch_id": batch_id}
    body = {"reason": visit.form.text("reason") or None}
    reply = await visit.ask("cancelBatch", path=path, body=body, once=True)
    if reply.ok:
        text = _("It is cancelled. Rows that were processed before stay as they are.")
        return visit.lead("file", text, **path)
    batch = await visit.get("getBatch", path=path)
    return visit.show("files/cancel.html", batch=batch, errors=visit.errors_of(reply), values=visit.form)
