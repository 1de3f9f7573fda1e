"""Bulk files: uploaded, watched, let in by a second person, cancelled, and what became of each of their rows.

The body of an upload is the file itself, sent as it is read: `curl --data-binary @file.csv`.  Its answer comes when all
of it is stored; whatever follows is done in the background (oracle/imports), and seen by reading the batch, or told as
it happens by its events.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream
from msgspec import Meta

from oracle.api.admin.access import ANYBODY, Role, allow
from oracle.api.admin.calls import PAGE, PAGE_MAX, Answer, Body, Call, Resource, answer, cursor_of, position_of
from oracle.api.admin.fsps import READERS, Reason
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.backoff import pause
from oracle.errors import DirectoryUnavailable, Overloaded
from oracle.imports import decisions, quota, results, uploads
from oracle.store.postgres import Postgres, Transaction

UPLOADERS: Final = allow(Role.OPERATOR, Role.MAKER)
DECIDERS: Final = allow(Role.OPERATOR, Role.CHECKER)
EVERYWHERE: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER)
ENDERS: Final = allow(Role.OPERATOR, Role.MAKER, Role.CHECKER)

State = Literal["validating", "waiting", "applying", "done", "rejected", "cancelled", "failed"]
_BATCH: Final = "/fsps/{fsp_id:str}/batches/{batch_id:int}"

TELL_S: Final = 0.5
ALIVE_S: Final = 15.0  # a comment, so that nothing in between takes the silence for a dead connection
WATCHERS_MAX: Final = 100
WATCHERS_OF_ONE_MAX: Final = 20  # with one credential: else one of them keeps all others out

_TEMPLATES: Final = {"import.csv": "text/csv; charset=utf-8", "import.ndjson": "application/x-ndjson"}
_MEDIA_TYPES: Final = {"csv": "text/csv; charset=utf-8; header=present", "ndjson": "application/x-ndjson"}


class Approval(Body):
    reason: Reason | None = None


class Rejection(Body):
    reason: Reason


class Cancellation(Body):
    reason: Reason | None = None


class Rows(Resource):
    """Read so far; of these valid; of those in force, and changed by that; and failed: invalid, or refused later."""

    read: int
    valid: int
    applied: int
    changed: int
    failed: int


class FileError(Resource):
    code: str
    message: str


class Batch(Resource):
    batch_id: int
    fsp_id: str
    state: State
    file_name: str
    file_format: Literal["csv", "ndjson"]
    file_bytes: int
    file_sha256: str
    note: str | None
    uploaded_by: str
    uploaded_role: str
    uploaded_at: datetime
    needs_approval: bool
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    cancelled_by: str | None
    rows: Rows
    bytes_read: int
    rows_per_s: Annotated[float | None, Meta(description="Of late, while it is read or applied")]
    seconds_left: Annotated[float | None, Meta(description="Of the present phase, at that rate")]
    validated_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error: Annotated[FileError | None, Meta(description="Why the file was refused as a whole")]


class BatchPage(Resource):
    items: list[Batch]
    next: str | None


_ALIKE: Final = tuple(
    name for name in Batch.__struct_fields__ if name not in ("rows", "file_sha256", "seconds_left", "error")
)


def handlers() -> list[HTTPRouteHandler]:
    return [
        list_all_batches, list_batches, upload_batch, read_batch, approve_batch, reject_batch, cancel_batch,
        read_results, follow_batch, read_file, read_template,
    ]  # fmt: skip


def batch_of(row: Any) -> Batch:
    return Batch(
        **{name: row[name] for name in _ALIKE},
        rows=Rows(**{name: row[f"rows_{name}"] for name in Rows.__struct_fields__}),
        file_sha256=row["file_sha256"].hex(),
        seconds_left=_seconds_left(row),
        error=None if row["error_code"] is None else FileError(code=row["error_code"], message=row["error_message"]),
    )


def _seconds_left(row: Any) -> float | None:
    rate = row["rows_per_s"]
    if not rate:
        return None
    if row["state"] == "validating":
        return float(
            round(row["rows_read"] * (row["file_bytes"] - row["bytes_read"]) / max(row["bytes_read"], 1) / rate, 1)
        )
    invalid = row["rows_read"] - row["rows_valid"]
    refused = row["rows_failed"] - invalid
    return float(round(max(row["rows_valid"] - row["rows_applied"] - refused, 0) / rate, 1))


def _no_such_batch() -> Refusal:
    return Refusal(404, "not_found", "No such batch", "GET /admin/v1/fsps/{fspId}/batches lists them")


async def _read(postgres: Postgres, fsp_id: str, batch_id: int) -> Any:
    row = await postgres.row("batch", _number(batch_id), fsp_id)
    if row is None:
        raise _no_such_batch()
    return row


def _number(batch_id: int) -> int:
    """Raises Refusal for what the directory could not even look up."""
    if not 0 <= batch_id < 2**63:
        raise _no_such_batch()
    return batch_id


# Lists --------------------------------------------------------------------------------------------------------

_InState = Annotated[State | None, QueryParameter(name="state")]
_UploadedBy = Annotated[str | None, QueryParameter(name="uploadedBy", description="A credential id")]
_From = Annotated[datetime | None, QueryParameter(name="from", description="Uploaded then or later")]
_To = Annotated[datetime | None, QueryParameter(name="to", description="Uploaded before")]
_Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)]


@operation("GET", "/batches", EVERYWHERE, "List the batches of all FSPs, the newest first", answers=BatchPage)
async def list_all_batches(
    call: NamedDependency[Call],
    fsp_id: Annotated[str | None, QueryParameter(name="fspId")] = None,
    in_state: _InState = None,
    uploaded_by: _UploadedBy = None,
    since: _From = None,
    until: _To = None,
    limit: _Limit = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    return await _page(call, fsp_id, in_state, uploaded_by, since, until, limit, cursor)


@operation(
    "GET", "/fsps/{fsp_id:str}/batches", READERS, "List the batches of an FSP, the newest first", answers=BatchPage
)
async def list_batches(
    call: NamedDependency[Call],
    fsp_id: FromPath[str],
    in_state: _InState = None,
    uploaded_by: _UploadedBy = None,
    since: _From = None,
    until: _To = None,
    limit: _Limit = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    return await _page(call, fsp_id, in_state, uploaded_by, since, until, limit, cursor)


async def _page(
    call: Call,
    fsp_id: str | None,
    state: str | None,
    uploaded_by: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
) -> Response[bytes]:
    if any(at is not None and at.tzinfo is None for at in (since, until)):
        raise Refusal(400, "invalid", "The time cannot be read", "Write an offset: 2027-01-31T10:00:00Z")
    position = position_of(cursor, int)
    before = None if position is None else _number(position[0])
    states = None if state is None else [state]
    rows = await call.postgres.rows("batches_page", fsp_id, states, uploaded_by, since, until, before, limit + 1)
    items = [batch_of(row) for row in rows[:limit]]
    return call.read(BatchPage(items=items, next=cursor_of(items[-1].batch_id) if len(rows) > limit else None))


# Upload -------------------------------------------------------------------------------------------------------


@operation(
    "POST", "/fsps/{fsp_id:str}/batches", UPLOADERS, "Upload a CSV or NDJSON file of up to 10 million rows",
    answers=Batch, status=201, takes="text/csv", streams=True,
)  # fmt: skip
async def upload_batch(
    call: NamedDependency[Call],
    request: Request[Any, Any, Any],
    fsp_id: FromPath[str],
    file_name: Annotated[str, QueryParameter(name="fileName", min_length=1, max_length=255)] = "upload",
    note: Annotated[str | None, QueryParameter(min_length=1, max_length=256)] = None,
) -> Response[bytes]:
    """Columns `kind,identifier,sub_id,currency,country,action`; actions add, replace, remove.  See the templates.

    429 where the FSP has too many unfinished files, or has uploaded too much within 24 hours.
    """
    if await call.postgres.row("fsp", fsp_id) is None:
        raise Refusal(404, "not_found", "No such FSP", "GET /admin/v1/fsps lists them")
    if any(not character.isprintable() for character in file_name + (note or "")):
        raise Refusal(400, "invalid", "fileName or note cannot be read", "Use printable characters")
    _require_file(request)
    context = call.context(reason=file_name)
    limits: quota.Quota = request.app.state.parts.quota
    with _limited(limits), limits.coming(fsp_id) as coming:
        if not await call.is_repeated():  # what was answered before is answered, however much there is by now
            await coming.look(call.postgres, fsp_id)
        received = await uploads.receive(call.changes, context, _body(request, coming))
        call.sha256 = hashlib.sha256(call.sha256 + received.file_sha256).digest()
        new = uploads.NewBatch(fsp_id=fsp_id, file_name=file_name, note=note)

        async def work(transaction: Transaction) -> Answer:
            await _require_still_valid(transaction, call)
            row = await uploads.add(transaction, context, received, new)
            location = f"{request.url.path}/{received.batch_id}"
            return answer(batch_of(row), status=201, version=row["version"], location=location)

        try:
            answered = await call.administer(work, reason=file_name)
            coming.stored()
        finally:
            # Nothing, once it is a batch; a repeated call that was answered before has left its parts.
            await uploads.abandon(call.changes, context, received.batch_id)
        return answered


def _require_file(request: Request[Any, Any, Any]) -> None:
    """Refuse what would be stored as it comes, and fail later for a reason that nobody understands."""
    headers = request.headers
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise Refusal(400, "invalid", "The body has to be the file itself", "curl --data-binary @FILE, not -F")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(400, "invalid", "The body is encoded", "Send the file as it is, without Content-Encoding")
    if "content-range" in headers:
        raise Refusal(400, "invalid", "An upload cannot be resumed", "Upload the whole file, without Content-Range")


async def _require_still_valid(transaction: Transaction, call: Call) -> None:
    """An upload may take an hour: who was revoked meanwhile brings no file any more."""
    found = await transaction.rows("credential_valid", call.caller.credential_id)
    if not found or not found[0]["valid"]:
        raise Refusal(401, "unauthorized", "A valid credential is needed", "Authorization: Bearer aok_…")


@contextmanager
def _limited(limits: quota.Quota) -> Iterator[None]:
    try:
        yield
    except quota.TooManyOpen as exc:
        hint = f"There may be {limits.open_max}: approve, reject or cancel some, or wait until they are applied"
        raise Refusal(429, "too_many_open", str(exc), hint) from exc
    except quota.TooManyComing as exc:
        raise Refusal(429, "too_many_at_once", str(exc), f"At most {quota.COMING_MAX}: wait for one to end") from exc
    except quota.TooManyBytes as exc:
        hint = f"{limits.bytes_max:,} bytes within 24 hours: go on tomorrow, or ask the operator of the hub"
        raise Refusal(429, "too_many_bytes", str(exc), hint) from exc


async def _body(request: Request[Any, Any, Any], coming: quota.Coming) -> AsyncIterator[bytes]:
    announced = request.headers.get("content-length")
    received = 0
    try:
        async for data in request.stream():
            received += len(data)
            coming.add(len(data))
            yield data
    except HTTPException:
        raise _broken_off() from None
    if announced is not None and announced.isdigit() and int(announced) != received:
        raise _broken_off()


def _broken_off() -> Refusal:
    return Refusal(400, "broken_off", "The upload broke off", "Upload the file again")


# One batch ----------------------------------------------------------------------------------------------------


@operation("GET", _BATCH, READERS, "Read a batch: its state and how far it is", answers=Batch)
async def read_batch(call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int]) -> Response[bytes]:
    row = await _read(call.postgres, fsp_id, batch_id)
    return call.read(batch_of(row), row["version"])


@operation(
    "POST", f"{_BATCH}/approve", DECIDERS, "Let a file in, as a second person: another one than uploaded it",
    answers=Batch,
)  # fmt: skip
async def approve_batch(
    call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int], data: JSONBody[Approval]
) -> Response[bytes]:
    return await _decided(call, fsp_id, batch_id, data.reason, approve=True)


@operation("POST", f"{_BATCH}/reject", DECIDERS, "Reject a file, as a second person", answers=Batch)
async def reject_batch(
    call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int], data: JSONBody[Rejection]
) -> Response[bytes]:
    return await _decided(call, fsp_id, batch_id, data.reason, approve=False)


async def _decided(call: Call, fsp_id: str, batch_id: int, reason: str | None, *, approve: bool) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        batch = await _held(transaction, call, fsp_id, batch_id)
        by = call.caller.credential_id
        try:
            row = await decisions.decide(transaction, batch, approve=approve, by=by, reason=reason)
        except decisions.NotWaiting as exc:
            raise Refusal(409, "not_waiting", str(exc), f"Its state is {batch['state']}") from exc
        except decisions.SamePerson as exc:
            raise Refusal(403, "same_person", str(exc), "Another credential has to") from exc
        return answer(batch_of(row), version=row["version"])

    return await call.administer(work, reason=reason or "")


@operation(
    "POST", f"{_BATCH}/cancel", ENDERS, "End a batch: rows that are applied stay, the others never are", answers=Batch
)
async def cancel_batch(
    call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int], data: JSONBody[Cancellation]
) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        batch = await _held(transaction, call, fsp_id, batch_id)
        try:
            row = await decisions.cancel(transaction, batch, by=call.caller.credential_id)
        except decisions.AlreadyEnded as exc:
            raise Refusal(409, "already_ended", str(exc), f"Its state is {batch['state']}") from exc
        return answer(batch_of(row), version=row["version"])

    return await call.administer(work, reason=data.reason or "")


async def _held(transaction: Transaction, call: Call, fsp_id: str, batch_id: int) -> Any:
    try:
        batch = await decisions.held(transaction, fsp_id, _number(batch_id))
    except decisions.NoSuchBatch as exc:
        raise _no_such_batch() from exc
    call.match(batch["version"])
    return batch


# What comes as a stream ---------------------------------------------------------------------------------------


@operation(
    "GET", f"{_BATCH}/results", READERS, "What became of each row, as CSV or NDJSON, in the order of the file",
    media_type="text/csv", also_as=("application/x-ndjson",),
)  # fmt: skip
async def read_results(
    call: NamedDependency[Call],
    request: Request[Any, Any, Any],
    fsp_id: FromPath[str],
    batch_id: FromPath[int],
    form: Annotated[results.Form | None, QueryParameter(name="format")] = None,
    only: Annotated[Literal["failed"] | None, QueryParameter()] = None,
) -> Stream:
    """Columns line, status, code, message, kind, identifier (its canonical form).  Rows that were not reached yet are
    pending.  Without `format` as Accept says.
    """
    await _read(call.postgres, fsp_id, batch_id)
    chosen: results.Form = form or ("ndjson" if "ndjson" in request.headers.get("accept", "") else "csv")
    pieces = results.results(call.postgres, batch_id, chosen, only_failed=only is not None)
    return _download(pieces, f"results-{batch_id}.{chosen}", _MEDIA_TYPES[chosen])


@operation("GET", f"{_BATCH}/file", READERS, "The file as it was uploaded", media_type="application/octet-stream")
async def read_file(call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int]) -> Stream:
    row = await _read(call.postgres, fsp_id, batch_id)
    return _download(
        _parts(call.postgres, batch_id), f"batch-{batch_id}.{row['file_format']}", "application/octet-stream"
    )


async def _parts(postgres: Postgres, batch_id: int) -> AsyncIterator[bytes]:
    part = 0
    while (row := await postgres.row("batch_part", batch_id, part)) is not None:
        yield await asyncio.to_thread(zlib.decompress, row["data"])
        part += 1


def _download(pieces: AsyncIterator[bytes], name: str, media_type: str) -> Stream:
    # As a header: the media type of a Stream gives way to the one that its handler declares.
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Type": media_type}
    return Stream(pieces, headers=headers)


@operation(
    "GET", f"{_BATCH}/events", READERS, "How far a batch is, told as it happens (server-sent events)",
    media_type="text/event-stream",
)  # fmt: skip
async def follow_batch(
    call: NamedDependency[Call], request: Request[Any, Any, Any], fsp_id: FromPath[str], batch_id: FromPath[int]
) -> Stream:
    """`progress` about twice a second while something moves, `end` with the final state; each is the batch."""
    row = await _read(call.postgres, fsp_id, batch_id)
    if _watchers.total() >= WATCHERS_MAX or _watchers[call.caller.credential_id] >= WATCHERS_OF_ONE_MAX:
        raise Overloaded
    stopping: asyncio.Event = request.app.state.parts.stopping
    return Stream(
        _told(call.postgres, row, call.caller.credential_id, stopping),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


_watchers: Counter[str] = Counter()  # in this process, by credential
_encode: Final = msgspec.json.Encoder().encode


async def _told(postgres: Postgres, row: Any, credential_id: str, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    _watchers[credential_id] += 1
    try:
        fsp_id, batch_id = row["fsp_id"], row["batch_id"]
        said_at, version = 0.0, None
        while True:
            is_final = row["state"] in decisions.FINAL
            if row["version"] != version:
                said_at, version = time.monotonic(), row["version"]
                yield b"event: %s\nid: %d\ndata: %s\n\n" % (
                    b"end" if is_final else b"progress", version, _encode(batch_of(row))
                )  # fmt: skip
            elif time.monotonic() - said_at > ALIVE_S:
                said_at = time.monotonic()
                yield b": still here\n\n"
            if is_final or stopping.is_set():
                return
            await pause(TELL_S, stopping)
            with suppress(DirectoryUnavailable):  # it comes back, and so does the news
                caller = await postgres.row("credential_valid", credential_id)
                if caller is None or not caller["valid"]:
                    return  # revoked in between: it hears no more
                row = await postgres.row("batch", batch_id, fsp_id)
    finally:
        _watchers[credential_id] -= 1
        if not _watchers[credential_id]:
            del _watchers[credential_id]


# Templates ----------------------------------------------------------------------------------------------------


@operation(
    "GET", "/templates/{name:str}", ANYBODY, "A template to fill in: import.csv, import.ndjson", media_type="text/csv"
)
async def read_template(name: FromPath[str]) -> Response[bytes]:
    if name not in _TEMPLATES:
        raise Refusal(404, "not_found", "No such template", "There are import.csv and import.ndjson")
    body = files("oracle.schemas").joinpath("templates", name).read_bytes()
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=_TEMPLATES[name], headers=headers)
