"""Batches, which are uploaded files: upload, follow, approve, reject, cancel, and the result of each row.

The body of an upload is the file itself, sent as it is read: `curl --data-binary @file.csv`.  Its answer comes when all
of it is stored.  The rest happens in the background (oracle/imports); read the batch, or follow its events, to see it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import datetime
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta

from oracle.api.admin.access import ANYBODY, allow, is_still_valid, make_unauthorized
from oracle.api.admin.budgets import Budgets
from oracle.api.admin.callers import Caller
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.fsps import READERS
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.people import ByQuery, Rows, find_people, name_people
from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit
from oracle.api.admin.streams import DOWNLOADS, WATCHERS, Streamed
from oracle.api.admin.times import read_time
from oracle.api.admin.values import NOTE_MAX, BatchState, CountryQuery, FspIdQuery, Reason, capitalise, require_country
from oracle.backoff import pause
from oracle.errors import DirectoryUnavailable, MissingElement
from oracle.identifiers import Kind, Reading, display
from oracle.identity.identity import Role
from oracle.imports import checking, chunks, decisions, one_alias, quota, results, uploads
from oracle.imports.chunks import RowResult, Status
from oracle.imports.rows import FileRow, RowChecks
from oracle.sentences import Sentence
from oracle.store.postgres import Postgres, Transaction

UPLOADERS: Final = allow(Role.OPERATOR, Role.MAKER)
DECIDERS: Final = allow(Role.OPERATOR, Role.CHECKER)
EVERYWHERE: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER, narrows=True)
ENDERS: Final = allow(Role.OPERATOR, Role.MAKER, Role.CHECKER)

# Checks of files at once: one can take a tenth of a second of a thread.
_CHECKING: Final = asyncio.Semaphore(2)

# Rows that are valid can still have failed, in the counts as well.
_WITH_UNAPPLIED: Final = ("rejected", "cancelled")

_BATCH: Final = "/fsps/{fsp_id:str}/batches/{batch_id:int}"

REPORT_EVERY_S: Final = 0.5
ALIVE_EVERY_S: Final = 15.0  # a comment, so that nothing in between takes the silence for a dead connection

_TEMPLATES: Final = {"import.csv": "text/csv; charset=utf-8", "import.ndjson": "application/x-ndjson"}


class Approval(Body):
    reason: Reason | None = None


class Rejection(Body):
    reason: Reason


class Cancellation(Body):
    reason: Reason | None = None


class BatchRows(Resource):
    """The number of rows of the file at each step."""

    read: Annotated[int, Meta(description="Read from the file so far")]
    valid: int
    applied: Annotated[int, Meta(description="Rows that are applied to the directory")]
    changed: Annotated[int, Meta(description="Applied rows that changed something")]
    failed: Annotated[int, Meta(description="Not valid, or refused by the directory")]


class FileError(Resource):
    code: str
    message: Sentence


class CheckedRows(Resource):
    read: int
    valid: int
    failed: int


class CheckedRow(Resource):
    """A row that an import would refuse."""

    line: Annotated[int, Meta(description="Where the row begins in the file, from 1")]
    code: str
    message: Sentence
    kind: Kind | None


class FileCheck(Resource):
    """What an import would find in a file.  The directory can still refuse rows that are valid."""

    file_format: Literal["csv", "ndjson"]
    rows: CheckedRows
    failed: Annotated[list[CheckedRow], Meta(description="The first rows that are not valid")]
    error: Annotated[FileError | None, Meta(description="Why the file would be refused as a whole")]


class BatchRow(Resource):
    """A row of a file with its result.  Rows that are not valid have no identifier: the results file has them as they
    came.
    """

    line: Annotated[int, Meta(description="Where the row begins in the file, from 1")]
    status: Status
    code: str | None
    message: Sentence | None
    kind: Kind | None
    identifier: Annotated[str | None, Meta(description="Canonical")]
    display: Annotated[str | None, Meta(description="As people write it")]
    sub_id: str | None
    currency: str | None


class BatchRowPage(Resource):
    items: list[BatchRow]
    next: Annotated[str | None, Meta(description="A page can be short, or empty, and still have a next one")]


class BatchChange(Resource):
    """The change of one alias that a second person must approve.

    Without the file, null: kind, identifier, display, subId.
    """

    action: one_alias.Action
    kind: Kind | None
    identifier: Annotated[str | None, Meta(description="Canonical")]
    display: Annotated[str | None, Meta(description="As people write it")]
    sub_id: str | None
    currency: Annotated[
        str | None,
        Meta(description="null: add and update make an entry for every currency, remove removes all entries"),
    ]
    present: Annotated[
        list[str | None] | None,
        Meta(
            description="The currencies of the alias now, while the change waits; null in the list: an entry for every"
            " currency; []: the FSP has not registered the alias"
        ),
    ]
    if_match: Annotated[
        bool, Meta(description="The change is refused if the alias has changed since it was asked for with If-Match")
    ]


class Batch(Resource):
    batch_id: int
    fsp_id: str
    state: BatchState
    file_name: str
    file_format: Literal["csv", "ndjson"]
    file_bytes: int
    file_sha256: str
    note: str | None
    country: Annotated[
        str | None, Meta(description="Of phone numbers without a country code, in rows without a country")
    ]
    uploaded_by: str
    uploaded_by_name: Annotated[str | None, Meta(description="For people, for example Ana (maker of bluebank)")]
    uploaded_role: str
    uploaded_at: datetime
    needs_approval: bool
    decided_by: str | None
    decided_by_name: str | None
    decided_at: datetime | None
    decision_reason: str | None
    cancelled_by: str | None
    cancelled_by_name: str | None
    rows: BatchRows
    bytes_read: int
    rows_per_s: Annotated[float | None, Meta(description="The present rate, while the file is read or applied")]
    seconds_left: Annotated[float | None, Meta(description="Seconds until this step ends, at the present rate")]
    validated_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    file_deleted_at: Annotated[
        datetime | None, Meta(description="Since then the file and its results are deleted; what it changed stays")
    ]
    error: Annotated[FileError | None, Meta(description="Why the file was refused as a whole")]
    change: Annotated[BatchChange | None, Meta(description="Of one alias, asked for without a file; null: a file")]


class BatchPage(Resource):
    items: list[Batch]
    next: str | None


_MADE: Final = (
    "rows", "file_sha256", "seconds_left", "error", "change",
    "uploaded_by_name", "decided_by_name", "cancelled_by_name",
)  # fmt: skip
_SAME_NAMES: Final = tuple(name for name in Batch.__struct_fields__ if name not in _MADE)


def handlers() -> list[HTTPRouteHandler]:
    return [
        list_all_batches, list_batches, upload_batch, read_batch, approve_batch, reject_batch, cancel_batch,
        read_results, follow_batch, read_file, read_template, check_file, list_rows,
    ]  # fmt: skip


def _name_actors(row: Any) -> dict[str | None, str]:
    return name_people(row["people"], [row["uploaded_by"], row["decided_by"], row["cancelled_by"]])


def batch_of(row: Any, present: list[str | None] | None = None) -> Batch:
    """Make the resource; `present`: the currencies of the alias now, of a change that waits."""
    names = _name_actors(row)
    return Batch(
        **{name: row[name] for name in _SAME_NAMES},
        uploaded_by_name=names.get(row["uploaded_by"]),
        decided_by_name=names.get(row["decided_by"]),
        cancelled_by_name=names.get(row["cancelled_by"]),
        rows=BatchRows(**{name: row[f"rows_{name}"] for name in BatchRows.__struct_fields__}),
        file_sha256=row["file_sha256"].hex(),
        seconds_left=_seconds_left(row),
        error=None if row["error_code"] is None else FileError(code=row["error_code"], message=row["error_message"]),
        change=None if row["change_action"] is None else _change_of(row, present),
    )


async def describe_batches(rows: Rows, found: Sequence[Any]) -> list[Batch]:
    """Make the resources, each of a waiting change with what its alias is now."""
    waiting = [
        (row["fsp_id"], row["batch_id"], change)
        for row in found
        if row["state"] == "waiting" and (change := _read_row(row)) is not None
    ]
    present: dict[int, list[str | None]] = {batch_id: [] for _, batch_id, _ in waiting}
    for fsp_id in sorted({fsp_id for fsp_id, _, _ in waiting}):
        of = [(batch_id, change) for owner, batch_id, change in waiting if owner == fsp_id]
        keys = zip(*[(each.party_id_type, each.identifier, each.sub_id) for _, each in of], strict=True)
        for entry in await rows("alias_entries", fsp_id, *keys):
            present[of[entry["ord"] - 1][0]].append(entry["currency"] or None)
    return [batch_of(row, present.get(row["batch_id"])) for row in found]


def _read_row(row: Any) -> FileRow | None:
    """Return the row of a change of one alias; None for a file, and after the row is deleted."""
    return None if row["change_rows"] is None else chunks.unpack_rows(row["change_rows"])[0]


def _change_of(row: Any, present: list[str | None] | None) -> BatchChange:
    known = _read_row(row)
    return BatchChange(
        action=row["change_action"],
        kind=known.kind if known else None,
        identifier=known.identifier if known else None,
        display=display(known.kind, known.identifier).text if known and known.identifier else None,
        sub_id=known.sub_id or None if known else None,
        currency=known.currency or None if known else None,
        present=present,
        if_match=row["change_version"] is not None,
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
    return Refusal(404, "not_found", "No such batch", "List the batches of this FSP to see their numbers")


async def fetch_batch(postgres: Postgres, fsp_id: str, batch_id: int) -> Any:
    """Fetch the row of a batch.  Raises Refusal 404."""
    row = await postgres.row("batch", _number(batch_id), fsp_id)
    if row is None:
        raise _no_such_batch()
    return row


def _number(batch_id: int) -> int:
    """Raises Refusal for a number that the directory cannot look up."""
    if not 0 <= batch_id < 2**63:
        raise _no_such_batch()
    return batch_id


# Lists --------------------------------------------------------------------------------------------------------

_InState = Annotated[BatchState | None, QueryParameter(name="state")]
_UploadedBy = Annotated[str | None, QueryParameter(name="uploadedBy", description="A person, as in `by`")]
_From = Annotated[datetime | None, QueryParameter(name="from", description="Uploaded then or later")]
_To = Annotated[datetime | None, QueryParameter(name="to", description="Uploaded before then")]
_Only = Annotated[
    Literal["files", "changes"] | None,
    QueryParameter(name="only", description="Only files, or only changes of one alias without a file"),
]


@operation(
    "listAllBatches",
    "GET",
    "/batches",
    EVERYWHERE,
    "List the uploaded files of all FSPs, the newest first",
    answers=BatchPage,
)
async def list_all_batches(
    call: NamedDependency[Call],
    fsp_id: FspIdQuery = None,
    in_state: _InState = None,
    uploaded_by: _UploadedBy = None,
    by: ByQuery = None,
    since: _From = None,
    until: _To = None,
    only: _Only = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    return await _answer_page(call, fsp_id, in_state, uploaded_by, by, since, until, only, limit, cursor)


@operation(
    "listBatches",
    "GET",
    "/fsps/{fsp_id:str}/batches",
    READERS,
    "List the uploaded files of an FSP, the newest first",
    answers=BatchPage,
)
async def list_batches(
    call: NamedDependency[Call],
    fsp_id: FromPath[str],
    in_state: _InState = None,
    uploaded_by: _UploadedBy = None,
    by: ByQuery = None,
    since: _From = None,
    until: _To = None,
    only: _Only = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    return await _answer_page(call, fsp_id, in_state, uploaded_by, by, since, until, only, limit, cursor)


async def _answer_page(
    call: Call,
    fsp_id: str | None,
    state: str | None,
    uploaded_by: str | None,
    by: str | None,
    since: datetime | None,
    until: datetime | None,
    only: str | None,
    limit: int,
    cursor: str | None,
) -> Response[bytes]:
    since, until = read_time("from", since), read_time("to", until)
    cursors = Cursors(call.caller, "batches", fsp_id, state, uploaded_by, by, since, until, only)
    before = cursors.open(cursor, int)
    states = None if state is None else [state]
    uploaders, people = await find_people(call, uploaded_by, "uploadedBy"), await find_people(call, by)
    rows = await call.postgres.rows(
        "batches_page", fsp_id, states, uploaders, since, until, before, limit + 1, people, call.list_fsps(),
        None if only is None else only == "changes",
    )  # fmt: skip
    items = await describe_batches(call.postgres.rows, rows[:limit])
    return call.read_page(BatchPage(items=items, next=cursors.close(items[-1].batch_id) if len(rows) > limit else None))


# Upload -------------------------------------------------------------------------------------------------------


@operation(
    "uploadBatch",
    "POST",
    "/fsps/{fsp_id:str}/batches",
    UPLOADERS,
    "Upload a CSV or NDJSON file of up to 10 million rows",
    answers=Batch,
    status=201,
    takes="text/csv",
    streams=True,
)
async def upload_batch(
    call: NamedDependency[Call],
    request: Request[Any, Any, Any],
    budgets: NamedDependency[Budgets],
    fsp_id: FromPath[str],
    file_name: Annotated[str, QueryParameter(name="fileName", min_length=1, max_length=255)] = "upload",
    note: Annotated[str | None, QueryParameter(min_length=1, max_length=NOTE_MAX)] = None,
    country: CountryQuery = None,
) -> Response[bytes]:
    """The columns are `kind,identifier,sub_id,currency,country,action`; the actions are add, replace and remove.  See
    the templates.

    `country` (ISO 3166 alpha-2) is that of phone numbers without a country code, in rows without a country; if you
    leave it out, it is `defaultCountry` of the FSP.

    The answer is 429 while the FSP has too many unfinished files, after it uploaded too much within 24 hours, or while
    less than half of its budget against scans is left and that is enforced.
    """
    if await call.postgres.row("fsp", fsp_id) is None:
        raise Refusal(404, "not_found", "No such FSP", "List the FSPs to see their ids")
    for field, text in (("fileName", file_name), ("note", note or "")):
        if not text.isprintable():
            raise Refusal(400, "invalid", "fileName or note is not valid", "Use printable characters only", field=field)
    country = capitalise(country)
    require_country(country, "country")
    _require_file(request)
    context = call.context(reason=file_name)
    limits: quota.Quota = request.app.state.services.quota
    with _refuse_excess(limits), limits.count_upload(fsp_id) as coming:
        if await call.is_repeated():  # a repeated call gets its first answer, however much there is now
            return await _answer_again(call, request, file_name)
        await budgets.require_room_for_file(call, fsp_id)
        announced = request.headers.get("content-length", "")
        await coming.look(call.postgres, fsp_id, int(announced) if announced.isdigit() else 0)
        received = await uploads.receive(
            call.changes, context, _body(request, coming.add), fsp_id=fsp_id, begun=coming.begin
        )
        call.sha256 = hashlib.sha256(call.sha256 + received.file_sha256).digest()
        new = uploads.NewBatch(
            fsp_id=fsp_id, file_name=file_name, note=note, country=country, person=call.caller.person
        )

        async def work(transaction: Transaction) -> Answer:
            await _require_still_valid(transaction, call)
            row = await uploads.add_batch(transaction, context, received, new)
            location = f"{request.url.path}/{received.batch_id}"
            return answer(batch_of(row), status=201, version=row["version"], location=location)

        try:
            answered = await call.administer(work, reason=file_name)
            coming.count_as_ended()
        finally:
            # Removes nothing once it is a batch; a repeated call that was answered before has left its parts.
            await uploads.abandon(call.changes, context, received.batch_id)
        return answered


async def _answer_again(call: Call, request: Request[Any, Any, Any], file_name: str) -> Response[bytes]:
    """Answer an upload that is repeated.  Only the digest of the file is needed: nothing is stored."""
    call.sha256 = hashlib.sha256(call.sha256 + await uploads.compute_digest(_body(request))).digest()

    async def work(_: Transaction) -> Answer:
        raise DirectoryUnavailable  # the first answer has expired just now: the next attempt finds none

    return await call.administer(work, reason=file_name)


def _require_file(request: Request[Any, Any, Any]) -> None:
    """Refuse a body that is not the file itself: it would be stored, and fail later for a reason nobody understands."""
    headers = request.headers
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise Refusal(
            400, "invalid", "The body must be the file itself", "Use curl --data-binary @FILE, not -F",
            field="Content-Type",
        )  # fmt: skip
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(
            400, "invalid", "The body must not be encoded", "Send the file as it is, without Content-Encoding",
            field="Content-Encoding",
        )  # fmt: skip
    if "content-range" in headers:
        raise Refusal(
            400, "invalid", "An upload cannot be resumed", "Upload the whole file, without Content-Range",
            field="Content-Range",
        )  # fmt: skip


async def _require_still_valid(transaction: Transaction, call: Call) -> None:
    """Refuse the file if its key was revoked or replaced during the upload, which can take an hour."""
    if not await is_still_valid(transaction.rows, call.caller):
        raise make_unauthorized()


@contextmanager
def refuse_excess(open_max: int) -> Iterator[None]:
    """Raises Refusal 429 where an FSP would have more unfinished batches than it can."""
    try:
        yield
    except (quota.TooManyOpen, one_alias.TooManyWaiting) as exc:
        of = "unfinished files" if isinstance(exc, quota.TooManyOpen) else "waiting changes"
        hint = f"At most {open_max:,} {of} are allowed: approve, reject or cancel some first"
        raise Refusal(429, "too_many_open", str(exc), hint, describe_limit(of, open_max)) from exc


@contextmanager
def _refuse_excess(limits: quota.Quota) -> Iterator[None]:
    """Raises Refusal 429 where an upload exceeds the limits."""
    try:
        with refuse_excess(limits.open_max):
            yield
    except quota.TooManyComing as exc:
        hint = f"At most {quota.COMING_MAX} uploads at once are allowed: wait until one ends"
        limit = describe_limit("uploads", quota.COMING_MAX, unit="concurrent-requests")
        raise Refusal(429, "too_many_at_once", str(exc), hint, limit) from exc
    except quota.TooManyBytes as exc:
        hint = f"At most {limits.bytes_max:,} bytes within 24 hours: try again tomorrow, or ask the operator of the hub"
        limit = describe_limit("uploaded bytes", limits.bytes_max, unit="content-bytes", window_s=quota.HELD_FOR_S)
        raise Refusal(429, "too_many_bytes", str(exc), hint, limit) from exc


async def _body(request: Request[Any, Any, Any], count: Callable[[int], None] = lambda _: None) -> AsyncIterator[bytes]:
    announced = request.headers.get("content-length")
    received = 0
    try:
        async for data in request.stream():
            received += len(data)
            count(len(data))
            yield data
    except HTTPException:
        raise _broken_off() from None
    if announced is not None and announced.isdigit() and int(announced) != received:
        raise _broken_off()


def _broken_off() -> Refusal:
    return Refusal(400, "broken_off", "The upload ended before the file was complete", "Upload the file again")


@operation(
    "checkFile",
    "POST",
    "/fsps/{fsp_id:str}/batches/check",
    UPLOADERS,
    "Check a file, or its beginning of up to 1 MiB, and store nothing",
    answers=FileCheck,
    takes="text/csv",
    reads=True,
)
async def check_file(
    call: NamedDependency[Call],
    request: Request[Any, Any, Any],
    reading: NamedDependency[Reading],
    fsp_id: FromPath[str],
    country: CountryQuery = None,
    is_part: Annotated[
        bool, QueryParameter(name="isPart", description="The file goes on: the last lines are left out")
    ] = False,
    limit: Annotated[int, QueryParameter(ge=1, le=100, description="The largest number of rows in `failed`")] = 20,
) -> Response[bytes]:
    """The rows that an import of this file would refuse as not valid, before it is uploaded."""
    fsp = await call.postgres.row("fsp", fsp_id)
    if fsp is None:
        raise Refusal(404, "not_found", "No such FSP", "List the FSPs to see their ids")
    country = capitalise(country)
    require_country(country, "country")
    _require_file(request)
    if not call.body:
        raise MissingElement("The file is empty: choose another one")
    checks = RowChecks(reading, fsp["kinds"], fsp["currencies"], country or fsp["default_country"])
    async with _CHECKING:
        checked = await asyncio.to_thread(checking.check_file, call.body, checks, is_part=is_part)
    failure = checked.failure
    return answer(
        FileCheck(
            file_format=checked.file_format,
            rows=CheckedRows(read=checked.rows, valid=checked.rows - len(checked.refused), failed=len(checked.refused)),
            failed=[
                CheckedRow(line=row.line, code=row.code, message=row.message, kind=_kind_of(row))
                for row in checked.refused[:limit]
            ],
            error=None if failure is None else FileError(code=failure.code, message=str(failure)),
        )
    ).response()


def _kind_of(row: FileRow) -> Kind | None:
    return row.kind or None


# One batch ----------------------------------------------------------------------------------------------------


@operation("getBatch", "GET", _BATCH, READERS, "Read a batch: its state and its progress", answers=Batch)
async def read_batch(call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int]) -> Response[bytes]:
    row = await fetch_batch(call.postgres, fsp_id, batch_id)
    (batch,) = await describe_batches(call.postgres.rows, [row])
    if batch.change is not None and batch.change.present is not None:
        return answer(batch, version=row["version"]).response()  # no 304: the alias can change without the batch
    return call.read(batch, row["version"])


@operation(
    "approveBatch",
    "POST",
    f"{_BATCH}/approve",
    DECIDERS,
    "Approve a file that another person uploaded",
    answers=Batch,
)
async def approve_batch(
    call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int], data: JSONBody[Approval]
) -> Response[bytes]:
    return await _decide(call, fsp_id, batch_id, data.reason, approve=True)


@operation(
    "rejectBatch", "POST", f"{_BATCH}/reject", DECIDERS, "Reject a file that another person uploaded", answers=Batch
)
async def reject_batch(
    call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int], data: JSONBody[Rejection]
) -> Response[bytes]:
    return await _decide(call, fsp_id, batch_id, data.reason, approve=False)


async def _decide(call: Call, fsp_id: str, batch_id: int, reason: str | None, *, approve: bool) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        batch = await _lock(transaction, call, fsp_id, batch_id)
        caller = call.caller
        with refuse_decision(batch):
            row = await decisions.decide(
                transaction, batch, approve=approve, by=caller.actor, person=caller.person, reason=reason
            )
        return answer(batch_of(row), version=row["version"])

    return await call.administer(work, reason=reason or "")


@contextmanager
def refuse_decision(batch: Any) -> Iterator[None]:
    """Raises Refusal where a caller cannot approve or reject the batch."""
    try:
        yield
    except decisions.NotWaiting as exc:
        raise Refusal(409, "not_waiting", str(exc), _describe_state(batch)) from exc
    except decisions.SameLabel as exc:
        hint = "A second person must decide. If you are one, an operator can change the label of one key"
        raise Refusal(403, "same_person", str(exc), hint) from exc
    except decisions.SamePerson as exc:
        raise Refusal(403, "same_person", str(exc), "A second person must decide, with another key") from exc
    except decisions.PersonUnknown as exc:
        hint = "Come in the same way as the sender, or ask an operator to note the person of the key"
        raise Refusal(403, "person_unknown", str(exc), hint) from exc


@operation(
    "cancelBatch",
    "POST",
    f"{_BATCH}/cancel",
    ENDERS,
    "Cancel a batch; applied rows stay, the others are never applied",
    answers=Batch,
)
async def cancel_batch(
    call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int], data: JSONBody[Cancellation]
) -> Response[bytes]:
    async def work(transaction: Transaction) -> Answer:
        batch = await _lock(transaction, call, fsp_id, batch_id)
        try:
            row = await decisions.cancel(transaction, batch, by=call.caller.actor)
        except decisions.AlreadyEnded as exc:
            raise Refusal(409, "already_ended", str(exc), _describe_state(batch)) from exc
        return answer(batch_of(row), version=row["version"])

    return await call.administer(work, reason=data.reason or "")


def _describe_state(row: Any) -> str:
    """Write `Its state is rejected, by Ben (checker of bluebank)`."""
    state, names = row["state"], _name_actors(row)
    acts = {"applying": "approved", "done": "approved", "rejected": "rejected", "cancelled": "cancelled"}
    name = names.get(row["cancelled_by" if state == "cancelled" else "decided_by"])
    if name is None or state not in acts:
        return f"Its state is {state}"
    return f"Its state is {state}. It was {acts[state]} by {name}"


async def _lock(transaction: Transaction, call: Call, fsp_id: str, batch_id: int) -> Any:
    try:
        batch = await decisions.lock_batch(transaction, fsp_id, _number(batch_id))
    except decisions.NoSuchBatch as exc:
        raise _no_such_batch() from exc
    call.match(batch["version"])
    return batch


@operation(
    "listBatchRows",
    "GET",
    f"{_BATCH}/rows",
    READERS,
    "List the rows of a batch with their results, in the order of the file",
    answers=BatchRowPage,
    deleted=True,
)
async def list_rows(
    call: NamedDependency[Call],
    fsp_id: FromPath[str],
    batch_id: FromPath[int],
    only: Annotated[Literal["failed"] | None, QueryParameter()] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    """Rows as they are understood.  `downloadBatchResults` has them as they came."""
    row = await _read_kept(call.postgres, fsp_id, batch_id)
    cursors = Cursors(call.caller, "batch rows", batch_id, only)
    begin = cursors.open(cursor, results.Position) or results.Position(0, 0)
    found: list[tuple[FileRow, RowResult]] = []
    after = None
    if only is None or row["rows_failed"] or row["state"] in _WITH_UNAPPLIED:
        found, after = await results.list_page(call.postgres, batch_id, begin, limit, only_failed=only is not None)
    items = [_make_row(read, result) for read, result in found]
    return call.read_page(BatchRowPage(items=items, next=None if after is None else cursors.close(after)))


def _make_row(row: FileRow, result: RowResult) -> BatchRow:
    kind, identifier = _kind_of(row), row.identifier or None
    return BatchRow(
        line=row.line, status=result.status, code=result.code or None, message=result.message or None, kind=kind,
        identifier=identifier, display=display(kind, identifier).text if kind and identifier else None,
        sub_id=row.sub_id or None, currency=row.currency or None,
    )  # fmt: skip


# Answers that are streams -------------------------------------------------------------------------------------


@operation(
    "downloadBatchResults",
    "GET",
    f"{_BATCH}/results",
    READERS,
    "Download the result of each row of a batch, as CSV or NDJSON",
    media_type="text/csv",
    also_as=("application/x-ndjson",),
    deleted=True,
)
async def read_results(
    call: NamedDependency[Call],
    request: Request[Any, Any, Any],
    fsp_id: FromPath[str],
    batch_id: FromPath[int],
    form: Annotated[results.Form | None, QueryParameter(name="format")] = None,
    only: Annotated[Literal["failed"] | None, QueryParameter()] = None,
) -> Streamed:
    """Each row as it came, in the order of the file, behind the columns of its result: line, status, code, message and
    canonical (the identifier as it is stored).  A row that does not fit into columns is in `row`.  Rows that are not
    processed yet are pending.

    You can correct the file and upload it again: in a file with `line` and `message`, these columns are ignored.  In
    CSV, cells that a spreadsheet would run or change have a `'` in front, which an upload ignores as well.

    Without `format`, the Accept header decides; without both, the file has the format of the upload.
    """
    row = await _read_kept(call.postgres, fsp_id, batch_id)
    chosen: results.Form | None = form or _find_accepted(request.headers.get("accept", ""))
    file = results.ResultsFile(call.postgres, batch_id, row["file_format"], chosen, only_failed=only is not None)
    await file.open()
    media_type = (
        "application/x-ndjson" if file.form == "ndjson" else f"text/csv; charset={file.charset}; header=present"
    )
    name = f"results-{batch_id}.{file.form}"
    return _download(call, _whole(call.postgres, row, file.stream()), name, media_type)


def _find_accepted(accepted: str) -> results.Form | None:
    if "ndjson" in accepted:
        return "ndjson"
    return "csv" if "text/csv" in accepted else None


@operation(
    "downloadBatchFile",
    "GET",
    f"{_BATCH}/file",
    READERS,
    "Download the file of a batch as it was uploaded",
    media_type="application/octet-stream",
    deleted=True,
)
async def read_file(call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int]) -> Streamed:
    row = await _read_kept(call.postgres, fsp_id, batch_id)
    pieces, name = _parts(call.postgres, batch_id), f"batch-{batch_id}.{row['file_format']}"
    return _download(call, _whole(call.postgres, row, pieces), name, "application/octet-stream")


async def _read_kept(postgres: Postgres, fsp_id: str, batch_id: int) -> Any:
    """Read a batch whose file and results are there.  Raises Refusal 404, 410."""
    row = await fetch_batch(postgres, fsp_id, batch_id)
    if row["file_deleted_at"] is not None:
        at = row["file_deleted_at"].date().isoformat()
        raise Refusal(
            410, "file_deleted",
            f"The file and its results were deleted on {at} (UTC). They are kept for a limited time",
            "Read the batch for its counts, or ask history what it changed",
        )  # fmt: skip
    return row


async def _whole(postgres: Postgres, row: Any, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Break the answer off if the file was deleted meanwhile: nobody must take a part for the whole.

    Raises DirectoryUnavailable.
    """
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece
    now = await postgres.row("batch", row["batch_id"], row["fsp_id"])
    if now["file_deleted_at"] is not None:
        raise DirectoryUnavailable


async def _parts(postgres: Postgres, batch_id: int) -> AsyncGenerator[bytes]:
    part = 0
    while (row := await postgres.row("batch_part", batch_id, part)) is not None:
        yield await asyncio.to_thread(zlib.decompress, row["data"])
        part += 1


def _download(call: Call, pieces: AsyncGenerator[bytes], name: str, media_type: str) -> Streamed:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Streamed(call, DOWNLOADS, pieces, media_type, headers)


@operation(
    "followBatch",
    "GET",
    f"{_BATCH}/events",
    READERS,
    "Follow the progress of a batch (server-sent events)",
    media_type="text/event-stream",
)
async def follow_batch(
    call: NamedDependency[Call], request: Request[Any, Any, Any], fsp_id: FromPath[str], batch_id: FromPath[int]
) -> Streamed:
    """The event `progress` comes about twice a second while the batch changes, `end` with the final state.  The data of
    each event is the batch.  The stream ends when the key is revoked, its secret is replaced, or the token expires.
    """
    row = await fetch_batch(call.postgres, fsp_id, batch_id)
    stopping: asyncio.Event = request.app.state.services.stopping
    progress = _report_progress(call.postgres, row, call.caller, stopping)
    return Streamed(call, WATCHERS, progress, "text/event-stream", {"X-Accel-Buffering": "no"})


_encode: Final = msgspec.json.Encoder().encode


async def _report_progress(
    postgres: Postgres, row: Any, caller: Caller, stopping: asyncio.Event
) -> AsyncGenerator[bytes]:
    fsp_id, batch_id = row["fsp_id"], row["batch_id"]
    sent_at, version = 0.0, None
    while True:
        is_final = row["state"] in decisions.FINAL
        if row["version"] != version:
            sent_at, version = time.monotonic(), row["version"]
            yield b"event: %s\nid: %d\ndata: %s\n\n" % (
                b"end" if is_final else b"progress", version, _encode(batch_of(row))
            )  # fmt: skip
        elif time.monotonic() - sent_at > ALIVE_EVERY_S:
            sent_at = time.monotonic()
            yield b": still here\n\n"
        if is_final or stopping.is_set():
            return
        await pause(REPORT_EVERY_S, stopping)
        with suppress(DirectoryUnavailable):  # when it is available again, the next round reports the change
            if caller.has_ended or not await is_still_valid(postgres.keys.rows, caller):
                return  # expired, revoked or replaced meanwhile
            row = await postgres.row("batch", batch_id, fsp_id)


# Templates ----------------------------------------------------------------------------------------------------


@operation(
    "getTemplate",
    "GET",
    "/templates/{name:str}",
    ANYBODY,
    "Download a template for a file: import.csv or import.ndjson",
    media_type="text/csv",
)
async def read_template(name: FromPath[str]) -> Response[bytes]:
    if name not in _TEMPLATES:
        raise Refusal(404, "not_found", "No such template", "The templates are import.csv and import.ndjson")
    body = files("oracle.schemas").joinpath("templates", name).read_bytes()
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=_TEMPLATES[name], headers=headers)
