"""Tasks of a second person: what waits, a sample of what it would change, whether the caller can decide, and decisions.

The decision itself is in `batches`: approveBatch, rejectBatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter
from msgspec import Meta

from oracle.api.admin.access import allow
from oracle.api.admin.batches import DECIDERS, Batch, BatchPage, describe_batches, fetch_batch, refuse_decision
from oracle.api.admin.calls import Call, Resource, answer
from oracle.api.admin.codes import Code
from oracle.api.admin.fsps import READERS
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.people import ByQuery, find_people
from oracle.api.admin.problems import Refusal
from oracle.api.admin.values import FspIdQuery
from oracle.identifiers import Kind, display
from oracle.identity.identity import Role
from oracle.imports import decisions, previews
from oracle.sentences import Sentence

SAMPLE: Final = 20
SAMPLE_MAX: Final = 100
_LISTERS: Final = allow(*Role, narrows=True)


class Verdict(Resource):
    """Whether the caller can approve or reject a batch."""

    allowed: bool
    code: Annotated[Code | None, Meta(description="Why not: what approveBatch would answer")]
    detail: Sentence | None
    hint: Sentence | None


class Task(Resource):
    batch: Batch
    verdict: Annotated[Verdict | None, Meta(description="null: the role of the caller decides about nothing")]


class TaskPage(Resource):
    items: list[Task]
    next: str | None


class SampledChange(Resource):
    """A row of a waiting batch: the currencies of the FSP's alias now, and after the row if the directory accepts it.

    null in a list: an entry for every currency; []: the FSP has not registered the alias.
    """

    line: Annotated[int, Meta(description="Where the row begins in the file, from 1")]
    action: Literal["add", "replace", "remove"]
    kind: Kind
    identifier: Annotated[str, Meta(description="Canonical")]
    display: Annotated[str, Meta(description="As people write it")]
    sub_id: str | None
    before: list[str | None]
    after: list[str | None]


class ChangeSample(Resource):
    items: Annotated[list[SampledChange], Meta(description="Chosen at random, in the order of the file")]
    valid: Annotated[int, Meta(description="The number of rows to choose from")]


def handlers() -> list[HTTPRouteHandler]:
    return [list_waiting, list_decided, sample_batch, check_decision]


@operation(
    "listWaitingBatches",
    "GET",
    "/batches/waiting",
    _LISTERS,
    "List what waits for a second person, the oldest first",
    answers=TaskPage,
)
async def list_waiting(
    call: NamedDependency[Call], fsp_id: FspIdQuery = None, limit: Limit = PAGE, cursor: Cursor = None
) -> Response[bytes]:
    cursors = Cursors(call.caller, "waiting batches", fsp_id)
    after = cursors.open(cursor, int) or 0
    found = await call.postgres.rows("batches_waiting_page", fsp_id, call.list_fsps(), after, limit + 1)
    rows = found[:limit]
    batches = await describe_batches(call.postgres.rows, rows)
    verdicts = await _judge(call, rows)
    items = [Task(batch=batch, verdict=verdict) for batch, verdict in zip(batches, verdicts, strict=True)]
    following = cursors.close(rows[-1]["batch_id"]) if len(found) > limit else None
    # No 304: the alias of a change, and the persons of keys, can change without the batch.
    return answer(TaskPage(items=items, next=following)).response()


async def _judge(call: Call, rows: Sequence[Any]) -> list[Verdict | None]:
    caller = call.caller
    if caller.role not in DECIDERS.roles:
        return [None] * len(rows)
    labels = await decisions.fetch_labels(call.postgres.rows, rows, caller.actor)
    verdicts: list[Verdict | None] = []
    for row in rows:
        try:
            with refuse_decision(row):
                decisions.require_second(row, caller.actor, caller.person, labels)
            verdicts.append(Verdict(allowed=True, code=None, detail=None, hint=None))
        except Refusal as refused:
            verdicts.append(Verdict(allowed=False, code=refused.code, detail=refused.detail, hint=refused.hint))
    return verdicts


@operation(
    "listDecidedBatches",
    "GET",
    "/batches/decided",
    _LISTERS,
    "List what was approved or rejected, the last decision first",
    answers=BatchPage,
)
async def list_decided(
    call: NamedDependency[Call],
    fsp_id: FspIdQuery = None,
    by: ByQuery = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    """`by`: who decided."""
    cursors = Cursors(call.caller, "decided batches", fsp_id, by)
    before = cursors.open(cursor, tuple[datetime, int]) or (None, None)
    people = await find_people(call, by)
    found = await call.postgres.rows("batches_decided_page", fsp_id, call.list_fsps(), people, *before, limit + 1)
    rows = found[:limit]
    items = await describe_batches(call.postgres.rows, rows)
    following = cursors.close((rows[-1]["decided_at"], rows[-1]["batch_id"])) if len(found) > limit else None
    return call.read_page(BatchPage(items=items, next=following))


@operation(
    "sampleBatch",
    "GET",
    "/fsps/{fsp_id:str}/batches/{batch_id:int}/sample",
    READERS,
    "Show for some rows of a waiting batch what they would change",
    answers=ChangeSample,
)
async def sample_batch(
    call: NamedDependency[Call],
    fsp_id: FromPath[str],
    batch_id: FromPath[int],
    limit: Annotated[int, QueryParameter(ge=1, le=SAMPLE_MAX, description="The largest number of rows")] = SAMPLE,
) -> Response[bytes]:
    """Other rows each time.  When the batch does not wait any more, there are none: read its rows."""
    row = await fetch_batch(call.postgres, fsp_id, batch_id)
    chosen = await previews.sample_changes(call.postgres, row, limit) if row["state"] == "waiting" else []
    return answer(ChangeSample(items=[_describe(one) for one in chosen], valid=row["rows_valid"])).response()


def _describe(preview: previews.Preview) -> SampledChange:
    row = preview.row
    kind: Any = row.kind
    return SampledChange(
        line=row.line, action=row.action,  # type: ignore[arg-type] # one of them, because the row is valid
        kind=kind, identifier=row.identifier, display=display(kind, row.identifier).text, sub_id=row.sub_id or None,
        before=preview.before, after=preview.after,
    )  # fmt: skip


@operation(
    "checkDecision",
    "GET",
    "/fsps/{fsp_id:str}/batches/{batch_id:int}/decision",
    DECIDERS,
    "Ask whether you can approve or reject a batch",
    answers=Verdict,
)
async def check_decision(
    call: NamedDependency[Call], fsp_id: FromPath[str], batch_id: FromPath[int]
) -> Response[bytes]:
    row = await fetch_batch(call.postgres, fsp_id, batch_id)
    (verdict,) = await _judge(call, [row])
    return answer(verdict).response()
