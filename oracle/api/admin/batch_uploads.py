"""Uploads: a file that becomes a batch, a file that is only checked, and templates for files.

The body of an upload is the file itself, sent as it is read: `curl --data-binary @file.csv`.  Its answer comes when all
of it is stored.  The rest happens in the background (oracle/imports): see `batches`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter
from msgspec import Meta

from oracle.api.admin.access import ANYBODY, allow, is_still_valid, make_unauthorized
from oracle.api.admin.batches import Batch, FileError, batch_of, refuse_excess
from oracle.api.admin.budgets import Budgets
from oracle.api.admin.calls import Call, Resource, answer
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit
from oracle.api.admin.values import NOTE_MAX, CountryQuery, capitalise, require_country
from oracle.errors import DirectoryUnavailable, MissingElement
from oracle.identifiers import Kind, Reading
from oracle.identity.identity import Role
from oracle.imports import checking, quota, uploads
from oracle.imports.rows import RowChecks
from oracle.sentences import Sentence
from oracle.store.postgres import Transaction

UPLOADERS: Final = allow(Role.OPERATOR, Role.MAKER)

# Checks of files at once: one can take a tenth of a second of a thread.
_CHECKING: Final = asyncio.Semaphore(2)

_TEMPLATES: Final = {"import.csv": "text/csv; charset=utf-8", "import.ndjson": "application/x-ndjson"}


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


def handlers() -> list[HTTPRouteHandler]:
    return [upload_batch, check_file, read_template]


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


# Check --------------------------------------------------------------------------------------------------------


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
                CheckedRow(line=row.line, code=row.code, message=row.message, kind=row.kind or None)
                for row in checked.refused[:limit]
            ],
            error=None if failure is None else FileError(code=failure.code, message=str(failure)),
        )
    ).response()


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
