"""Batches, which are uploaded files and changes of one alias: list, read, follow, approve, reject and cancel them.

    batch_uploads  how a file comes in
    batch_results  what became of its rows
    tasks          what waits for a second person

The rest happens in the background (oracle/imports): read the batch, or follow its events, to see it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta

from oracle.api.admin.access import allow, is_still_valid
from oracle.api.admin.callers import Caller
from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.fsps import READERS
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.people import ByQuery, find_people, name_people
from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit
from oracle.api.admin.streams import WATCHERS, Streamed
from oracle.api.admin.times import read_time
from oracle.api.admin.values import BatchState, FspIdQuery, Reason
from oracle.backoff import pause
from oracle.batch_states import FINAL
from oracle.errors import DirectoryUnavailable
from oracle.identifiers import Kind, display
from oracle.identity.identity import Role
from oracle.imports import chunks, decisions, one_alias, quota
from oracle.imports.rows import FileRow
from oracle.sentences import Sentence
from oracle.store.postgres import Postgres, Rows, Transaction

DECIDERS: Final = allow(Role.OPERATOR, Role.CHECKER)
EVERYWHERE: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER, narrows=True)
ENDERS: Final = allow(Role.OPERATOR, Role.MAKER, Role.CHECKER)

BATCH: Final = "/fsps/{fsp_id:str}/batches/{batch_id:int}"

REPORT_EVERY_S: Final = 0.5
ALIVE_EVERY_S: Final = 15.0  # a comment, so that nothing in between takes the silence for a dead connection


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
        list_all_batches, list_batches, read_batch, approve_batch, reject_batch, cancel_batch, follow_batch,
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


@contextmanager
def refuse_excess(open_max: int) -> Iterator[None]:
    """Raises Refusal 429 where an FSP would have more unfinished batches than it can."""
    try:
        yield
    except (quota.TooManyOpen, one_alias.TooManyWaiting) as exc:
        of = "unfinished files" if isinstance(exc, quota.TooManyOpen) else "waiting changes"
        hint = f"At most {open_max:,} {of} are allowed: approve, reject or cancel some first"
        raise Refusal(429, "too_many_open", str(exc), hint, describe_limit(of, open_max)) from exc


# One batch ----------------------------------------------------------------------------------------------------


@operation("getBatch", "GET", BATCH, READERS, "Read a batch: its state and its progress", answers=Batch)
async def read_batch(call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int]) -> Response[bytes]:
    row = await fetch_batch(call.postgres, fsp_id, batch_id)
    (batch,) = await describe_batches(call.postgres.rows, [row])
    if batch.change is not None and batch.change.present is not None:
        return answer(batch, version=row["version"]).response()  # no 304: the alias can change without the batch
    return call.read(batch, row["version"])


@operation(
    "approveBatch",
    "POST",
    f"{BATCH}/approve",
    DECIDERS,
    "Approve a file that another person uploaded",
    answers=Batch,
)
async def approve_batch(
    call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int], data: JSONBody[Approval]
) -> Response[bytes]:
    return await _decide(call, fsp_id, batch_id, data.reason, approve=True)


@operation(
    "rejectBatch", "POST", f"{BATCH}/reject", DECIDERS, "Reject a file that another person uploaded", answers=Batch
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
    f"{BATCH}/cancel",
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
    "followBatch",
    "GET",
    f"{BATCH}/events",
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
        is_final = row["state"] in FINAL
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
