"""What became of the rows of a batch, and its file as it came.

A batch keeps its file and its results for a limited time.  Then these operations answer 410.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter
from msgspec import Meta

from oracle.api.admin.batches import BATCH, fetch_batch
from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.fsps import READERS
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.problems import Refusal
from oracle.api.admin.streams import DOWNLOADS, Streamed
from oracle.errors import DirectoryUnavailable
from oracle.identifiers import Kind, display
from oracle.imports import results
from oracle.imports.chunks import RowResult, Status
from oracle.imports.rows import FileRow
from oracle.sentences import Sentence
from oracle.store.postgres import Postgres

# Rows that are valid can still have failed, in the counts as well.
_WITH_UNAPPLIED: Final = ("rejected", "cancelled")


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


def handlers() -> list[HTTPRouteHandler]:
    return [list_rows, read_results, read_file]


@operation(
    "listBatchRows",
    "GET",
    f"{BATCH}/rows",
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
    kind, identifier = row.kind or None, row.identifier or None
    return BatchRow(
        line=row.line, status=result.status, code=result.code or None, message=result.message or None, kind=kind,
        identifier=identifier, display=display(kind, identifier).text if kind and identifier else None,
        sub_id=row.sub_id or None, currency=row.currency or None,
    )  # fmt: skip


# Downloads ----------------------------------------------------------------------------------------------------


@operation(
    "downloadBatchResults",
    "GET",
    f"{BATCH}/results",
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
    f"{BATCH}/file",
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
