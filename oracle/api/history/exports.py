"""Exports events of the Merkle log over HTTP.

Whole.      Ask for `manifest.json` first: it names the leaves [begin, end) and the checkpoint.  Then ask for
            `events.ndjson`, `hashes.bin` and, if you want, `events.csv`, with its begin and end.  In one directory they
            are what `oracle audit verify --offline` checks.
Filtered.   Only the events of one FSP, of one entity or of a time.  As NDJSON each line has its leaf index, so that
            every event can be proved, and the last line is a manifest that names the filter.  As CSV it has the columns
            of `events.csv`, with neither.  No filtered export can prove that it is complete: use a whole one for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, field

from oracle.api.admin.calls import Body, Call
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.api.admin.streams import READINGS, Streamed
from oracle.api.admin.times import read_time
from oracle.api.history.log import STATUS_HINT, open_log, out_of_range
from oracle.api.history.questions import AUDIT, LeafNumber, Text, from_query, record
from oracle.audit import export, log
from oracle.audit.filtered import Wanted, stream_wanted
from oracle.store.queries import QUERIES
from oracle.verifier import leaf
from oracle.verifier.manifest import Manifest

FILTERED: Final = "alias-oracle-history-filtered/1"
_CLOCK_SKEW: Final = timedelta(hours=1)  # of two servers of PostgreSQL, one of which takes over
_NDJSON: Final = "application/x-ndjson"
_CSV: Final = "text/csv"
_BINARY: Final = "application/octet-stream"

_encode = msgspec.json.Encoder().encode


class ManifestQuestion(Body):
    begin: Annotated[LeafNumber | None, Meta(description="The first leaf")] = None
    end: Annotated[LeafNumber | None, Meta(description="The first leaf after the range")] = None
    since: Annotated[datetime | None, Meta(description="Sealed from this instant on")] = field(
        default=None, name="from"
    )
    until: Annotated[datetime | None, Meta(description="Sealed before this instant")] = field(default=None, name="to")
    since_size: Annotated[
        LeafNumber | None, Meta(description="Prove that the log extends a checkpoint of this size")
    ] = None


class Range(Body):
    begin: Annotated[LeafNumber, Meta(description="The first leaf")]
    end: Annotated[LeafNumber, Meta(description="The first leaf after the range")]


class FilterQuestion(Body):
    fsp_id: Text | None = None
    entity: Text | None = None
    since: Annotated[datetime | None, Meta(description="Events from this instant on")] = field(
        default=None, name="from"
    )
    until: Annotated[datetime | None, Meta(description="Events before this instant")] = field(default=None, name="to")
    begin: LeafNumber = 0
    end: LeafNumber | None = None
    form: Annotated[Literal["csv", "ndjson"] | None, Meta(description="null: as the header Accept says")] = field(
        default=None, name="format"
    )


def handlers() -> list[HTTPRouteHandler]:
    return [export_manifest, export_events, export_table, export_hashes, export_filtered]


# Whole --------------------------------------------------------------------------------------------------------------


@operation(
    "exportManifest",
    "GET",
    "/export/manifest.json",
    AUDIT,
    "Begin an export: read which events it holds, under which checkpoint",
)
@from_query(ManifestQuestion)
async def export_manifest(call: NamedDependency[Call], data: ManifestQuestion) -> Response[bytes]:
    since, until = read_time("from", data.since), read_time("to", data.until)
    begin, end = data.begin or 0, data.end
    async with open_log(call.postgres.desk) as connection:
        if since is not None:
            begin = max(begin, await connection.fetchval(QUERIES["audit_leaf_at"], since))
        if until is not None:
            last = await connection.fetchval(QUERIES["audit_leaf_at"], until)
            end = last if end is None else min(end, last)
        manifest = await _make_manifest(connection, begin, end, data.since_size)
    return Response(export.encode_manifest(manifest), media_type="application/json")


@operation(
    "exportEvents",
    "GET",
    "/export/events.ndjson",
    AUDIT,
    "Export events [begin, end) of the audit log as NDJSON",
    media_type=_NDJSON,
)
@from_query(Range)
async def export_events(call: NamedDependency[Call], data: Range) -> Streamed:
    return await _export(call, export.stream_lines, _NDJSON, data)


@operation(
    "exportEventTable",
    "GET",
    "/export/events.csv",
    AUDIT,
    "Export events [begin, end) of the audit log as CSV",
    media_type=_CSV,
)
@from_query(Range)
async def export_table(call: NamedDependency[Call], data: Range) -> Streamed:
    return await _export(call, _stream_table, _CSV, data)


@operation(
    "exportHashes",
    "GET",
    "/export/hashes.bin",
    AUDIT,
    "Export the hashes of events [begin, end) of the audit log",
    media_type=_BINARY,
)
@from_query(Range)
async def export_hashes(call: NamedDependency[Call], data: Range) -> Streamed:
    return await _export(call, export.stream_hashes, _BINARY, data)


async def _make_manifest(
    connection: asyncpg.Connection, begin: int, end: int | None, since_size: int | None = None
) -> Manifest:
    try:
        return await export.make_manifest(connection, begin, end, since_size)
    except export.ExportError as exc:
        text = str(exc)
        raise Refusal(400, "invalid", f"{text[0].upper()}{text[1:]}", STATUS_HINT) from exc


async def _export(call: Call, stream: Any, media_type: str, asked: Range) -> Streamed:
    async with open_log(call.postgres.desk) as connection:
        size = (await log.fetch_state(connection)).size
    if asked.begin > asked.end:
        raise Refusal(400, "invalid", "`begin` is after `end`", "Swap `begin` and `end`", field="begin")
    if asked.end > size:
        raise out_of_range(size, "end")
    await record(call, "export", None, None, {"begin": asked.begin, "end": asked.end, "as": media_type})
    return _answer(call, stream, media_type, asked.begin, asked.end)


async def _stream_table(connection: asyncpg.Connection, begin: int, end: int) -> AsyncGenerator[bytes]:
    yield leaf.csv_header()
    async with aclosing(export.stream_lines(connection, begin, end)) as parts:
        async for part in parts:
            yield b"".join(leaf.csv_row(line) for line in part.splitlines())


def _answer(call: Call, stream: Any, media_type: str, begin: int, end: int) -> Streamed:
    async def parts() -> AsyncGenerator[bytes]:
        async with open_log(call.postgres.streams) as connection, aclosing(stream(connection, begin, end)) as pieces:
            async for piece in pieces:
                yield piece

    content_type = f"{media_type}; charset=utf-8" if media_type == _CSV else media_type
    return Streamed(call, READINGS, parts(), content_type)


# Filtered -----------------------------------------------------------------------------------------------------------


@operation(
    "exportFilteredEvents",
    "GET",
    "/export/filtered.ndjson",
    AUDIT,
    "Export the events of one FSP or of a period, as NDJSON or CSV",
    media_type=_NDJSON,
    also_as=(_CSV,),
)
@from_query(FilterQuestion)
async def export_filtered(
    call: NamedDependency[Call], request: Request[Any, Any, Any], data: FilterQuestion
) -> Streamed:
    """It looks at the leaves [begin, end) that were sealed from an hour before `from` on.  Without `format` the header
    Accept decides; without both it is NDJSON.

    `ndjson`: lines `{"leaf": index, "event": {…}}`, then one `{"manifest": {…}}`: without it the answer is incomplete.
    `csv`: the columns of events.csv, a header first.
    """
    accepted = request.headers.get("accept", "")
    is_table = data.form == "csv" or (data.form is None and _CSV in accepted and "ndjson" not in accepted)
    media_type = _CSV if is_table else _NDJSON
    since, until = read_time("from", data.since), read_time("to", data.until)
    asked = {"fspId": data.fsp_id, "entity": data.entity, "from": since, "to": until}
    wanted = {name: value for name, value in asked.items() if value is not None}
    filters = Wanted(fsp_id=data.fsp_id, entity=data.entity, since=since, until=until)
    async with open_log(call.postgres.desk) as connection:
        begin = data.begin
        if since is not None:  # no event was sealed before it happened
            sealed = await connection.fetchval(QUERIES["audit_leaf_at"], since - _CLOCK_SKEW)
            begin = max(begin, sealed if data.end is None else min(sealed, data.end))
        manifest = await _make_manifest(connection, begin, data.end)
    span = {"begin": manifest.begin, "end": manifest.end}
    await record(call, "export", None, data.fsp_id, {**wanted, **span, "as": media_type})

    async def stream_lines(connection: asyncpg.Connection, begin: int, end: int) -> AsyncIterator[bytes]:
        digest, count = hashlib.sha256(), 0
        async with aclosing(stream_wanted(connection, begin, end, filters)) as found:
            async for lines in found:
                count += len(lines)
                part = b"".join(b'{"leaf":%d,"event":%b}\n' % (index, line) for index, line in lines)
                digest.update(part)
                yield part
        last = {
            "format": FILTERED, "filter": wanted, "origin": manifest.origin, "begin": begin, "end": end,
            "count": count, "sha256": digest.hexdigest(), "root": manifest.root, "checkpoint": manifest.checkpoint,
            "keys": manifest.keys,
        }  # fmt: skip
        yield _encode({"manifest": last}) + b"\n"

    async def stream_table(connection: asyncpg.Connection, begin: int, end: int) -> AsyncIterator[bytes]:
        yield leaf.csv_header()
        async with aclosing(stream_wanted(connection, begin, end, filters)) as found:
            async for lines in found:
                yield b"".join(leaf.csv_row(line) for _, line in lines)

    stream = stream_table if is_table else stream_lines
    return _answer(call, stream, media_type, manifest.begin, manifest.end)
