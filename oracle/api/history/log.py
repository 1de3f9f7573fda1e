"""The Merkle log and its exports over HTTP: what is needed to check history without believing the service.

Checkpoint.  A signed note; whoever keeps one can ask for the proof that a later one extends it.  They say nothing of
             what happened, so DFSPs may have them, too.
Entry.       The line of an event, its leaf index and the hashes that lead from it to a root.
Export.      `manifest` first: it names the leaves [begin, end) and the checkpoint; then `events.ndjson`, `hashes.bin`
             and, if wanted, `events.csv` with its begin and end.  Put into one directory they are what
             `oracle audit verify --offline` checks.
Filtered.    Of one FSP, or of a time: NDJSON, each line with its leaf index, so that every event can be proved; and a
             manifest as the last line, which says that it is filtered.  Or a table of the columns of `events.csv`,
             with neither.  That nothing was left out of it cannot be proved: an export that is not filtered is for
             that.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream
from msgspec import Meta

from oracle.api.admin.access import Role, allow
from oracle.api.admin.calls import PAGE, PAGE_MAX, Call, Resource, cursor_of, position_of
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.api.history.questions import AUDIT, OWN, read_instant, record
from oracle.audit import export, leaf, log
from oracle.errors import Overloaded
from oracle.identifiers import PartyKey
from oracle.store.history import decode_json
from oracle.store.postgres import Postgres
from oracle.store.queries import QUERIES

NOTES: Final = allow(Role.AUDITOR, Role.OPERATOR, Role.MAKER, Role.CHECKER, shared=True)
FILTERED: Final = "alias-oracle-history-filtered/1"
EXPORTS_MAX: Final = 2  # at a time: each has one of the connections that administrators wait for
_NUMBER_MAX: Final = (1 << 63) - 1
_NDJSON: Final = "application/x-ndjson"
_CSV: Final = "text/csv"

_encode = msgspec.json.Encoder().encode
_exporting = 0


class Checkpoint(Resource):
    size: int
    root: Annotated[str, Meta(description="Base64")]
    note: Annotated[str, Meta(description="Signed: C2SP tlog-checkpoint")]
    signed_at: datetime


class CheckpointPage(Resource):
    items: list[Checkpoint]
    next: str | None


class LogKey(Resource):
    vkey: str
    from_size: Annotated[int, Meta(description="It signs checkpoints larger than this")]
    statement: Annotated[str | None, Meta(description="By which the key before it introduces it")]


class LogKeys(Resource):
    origin: str
    items: list[LogKey]


class LogEntry(Resource):
    event_id: int
    leaf_index: int
    line: Annotated[str, Meta(description="The event as it was hashed: SHA-256 of a zero byte and this text")]
    leaf_hash: str
    size: int
    root: str
    proof: Annotated[list[str], Meta(description="RFC 9162 inclusion proof for this size; Base64")]
    checkpoint: Annotated[str | None, Meta(description="The note of this size, where one was signed")]


class Consistency(Resource):
    first: int
    second: int
    first_root: str
    second_root: str
    proof: Annotated[list[str], Meta(description="RFC 9162 consistency proof; Base64")]
    checkpoint: Annotated[str | None, Meta(description="The note of the second size, where one was signed")]


class LogStatus(Resource):
    size: Annotated[int, Meta(description="Events that are sealed")]
    signed_at: datetime | None
    waiting_s: Annotated[float | None, Meta(description="Since when the oldest event waits; null: none does")]


def handlers() -> list[HTTPRouteHandler]:
    return [
        latest_checkpoint, list_checkpoints, list_keys, read_entry, read_own_entry, read_consistency, read_status,
        export_manifest, export_events, export_table, export_hashes, export_filtered,
    ]  # fmt: skip


@asynccontextmanager
async def _log(postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection with the plans of the log.  Raises DirectoryUnavailable, Refusal where the log is damaged."""
    try:
        async with postgres.desk.lend(**log.CONNECTION_SETTINGS) as connection:
            yield connection
    except log.Damaged as exc:
        raise Refusal(409, "log_damaged", str(exc), "oracle audit verify says what and where") from exc


# Checkpoints ------------------------------------------------------------------------------------------------------


@operation(
    "getLatestCheckpoint",
    "GET",
    "/log/checkpoint",
    NOTES,
    "Read the latest signed checkpoint of the audit log",
    answers=str,
    media_type="text/plain",
)
async def latest_checkpoint(call: NamedDependency[Call]) -> Response[bytes]:
    row = await call.postgres.row("audit_checkpoint_latest")
    if row is None:
        raise _not_sealed()
    return Response(row["note"].encode(), media_type="text/plain; charset=utf-8")


@operation(
    "listCheckpoints",
    "GET",
    "/log/checkpoints",
    NOTES,
    "List the signed checkpoints of the audit log, the newest first",
    answers=CheckpointPage,
)
async def list_checkpoints(
    call: NamedDependency[Call],
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX)] = PAGE,
    cursor: FromQuery[str | None] = None,
) -> Response[bytes]:
    position = position_of(cursor, int)
    below = _NUMBER_MAX if position is None else max(0, min(position[0], _NUMBER_MAX))
    rows = await call.postgres.rows("log_checkpoints", below, limit)
    items = [
        Checkpoint(size=row["size"], root=_base64(row["root"]), note=row["note"], signed_at=row["signed_at"])
        for row in rows
    ]
    return call.read(CheckpointPage(items=items, next=cursor_of(items[-1].size) if len(items) == limit else None))


@operation(
    "listLogKeys", "GET", "/log/keys", NOTES, "List the public keys of the audit log, the newest last", answers=LogKeys
)
async def list_keys(call: NamedDependency[Call]) -> Response[bytes]:
    async with _log(call.postgres) as connection:
        origin = await connection.fetchval(QUERIES["audit_origin"])
        keys = await log.fetch_keys(connection)
    items = [LogKey(vkey=key.vkey, from_size=key.from_size, statement=key.statement) for key in keys]
    return call.read(LogKeys(origin=origin, items=items))


@operation(
    "proveConsistency",
    "GET",
    "/log/consistency",
    NOTES,
    "Prove that the audit log only grew between two sizes",
    answers=Consistency,
)
async def read_consistency(
    call: NamedDependency[Call],
    first: Annotated[int, QueryParameter(ge=0, le=_NUMBER_MAX, name="from")],
    second: Annotated[int | None, QueryParameter(ge=0, le=_NUMBER_MAX, name="to")] = None,
) -> Response[bytes]:
    async with _log(call.postgres) as connection:
        size = (await log.fetch_state(connection)).size
        to = size if second is None else second
        if first > to:
            raise _backwards()
        if to > size:
            raise _beyond(size)
        proof = await log.prove_consistency(connection, first, to)
        roots = [_base64(await log.fetch_root(connection, each)) for each in (first, to)]
        note = await connection.fetchval(QUERIES["log_checkpoint_of"], to)
    return call.read(
        Consistency(
            first=first, second=to, first_root=roots[0], second_root=roots[1], proof=[_base64(each) for each in proof],
            checkpoint=note,
        )
    )  # fmt: skip


@operation(
    "getLogStatus",
    "GET",
    "/log/status",
    NOTES,
    "Read how many events the audit log holds and how many wait",
    answers=LogStatus,
)
async def read_status(call: NamedDependency[Call]) -> Response[bytes]:
    async with _log(call.postgres) as connection:
        state = await log.fetch_state(connection)
        era = (await log.fetch_eras(connection))[state.era]
        bound = str(state.bound.xact), state.bound.event_id, era.after_event_id
        waiting_s = await connection.fetchval(QUERIES["audit_waiting"], *bound)
        latest = await connection.fetchrow(QUERIES["audit_checkpoint_latest"])
    signed_at = None if latest is None else latest["signed_at"]
    return call.read(LogStatus(size=state.size, signed_at=signed_at, waiting_s=waiting_s))


# Entries ----------------------------------------------------------------------------------------------------------


@operation(
    "getLogEntry",
    "GET",
    "/log/entries/{event_id:int}",
    AUDIT,
    "Read one event of the audit log and the proof that it is there",
    answers=LogEntry,
)
async def read_entry(
    call: NamedDependency[Call],
    event_id: FromPath[int],
    size: Annotated[
        int | None, QueryParameter(ge=0, le=_NUMBER_MAX, description="Of the log; that of the latest checkpoint")
    ] = None,
) -> Response[bytes]:
    return await _entry(call, event_id, size, None)


@operation(
    "getFspLogEntry",
    "GET",
    "/fsps/{fsp_id:str}/log/entries/{event_id:int}",
    OWN,
    "Read one event of an FSP's own alias and the proof that it is in the log",
    answers=LogEntry,
)
async def read_own_entry(
    call: NamedDependency[Call],
    fsp_id: FromPath[str],
    event_id: FromPath[int],
    size: Annotated[
        int | None, QueryParameter(ge=0, le=_NUMBER_MAX, description="Of the log; that of the latest checkpoint")
    ] = None,
) -> Response[bytes]:
    return await _entry(call, event_id, size, fsp_id)


async def _entry(call: Call, event_id: int, size: int | None, own: str | None) -> Response[bytes]:
    row = await call.postgres.row("event_by_id", event_id) if abs(event_id) <= _NUMBER_MAX else None
    if row is None or not _is_own(row, own):
        raise Refusal(404, "not_found", "No such event")
    key = None
    if row["party_id_type"] is not None:
        key = PartyKey(row["party_id_type"], row["party_identifier"] or "", row["sub_id"] or "")
    await record(call, "proof", key, row["fsp_id"], {"eventId": event_id})
    async with _log(call.postgres) as connection:
        index = await log.find_leaf_index(connection, event_id)
        if index is None:
            raise _not_sealed()
        latest = await connection.fetchrow(QUERIES["audit_checkpoint_latest"])
        whole = (await log.fetch_state(connection)).size
        wanted = size if size is not None else latest["size"] if latest is not None else whole
        if not index < wanted <= whole:
            raise _beyond(whole)
        proof = await log.prove_inclusion(connection, index, wanted)
        root = await log.fetch_root(connection, wanted)
        note = await connection.fetchval(QUERIES["log_checkpoint_of"], wanted)
    line = leaf.line(tuple(row))
    return call.read(
        LogEntry(
            event_id=event_id, leaf_index=index, line=line.decode(), leaf_hash=_base64(leaf.leaf_hash(line)),
            size=wanted, root=_base64(root), proof=[_base64(each) for each in proof], checkpoint=note,
        )
    )  # fmt: skip


def _is_own(row: Any, own: str | None) -> bool:
    """The line is one whole: one that also tells of another FSP is not shown."""
    if own is None:
        return True
    sides = [side["fsp_id"] for side in (decode_json(row["before"]), decode_json(row["after"])) if side is not None]
    return row["entity"] == "alias" and row["fsp_id"] == own and set(sides) == {own}


# Exports ----------------------------------------------------------------------------------------------------------


@operation(
    "exportManifest",
    "GET",
    "/export/manifest.json",
    AUDIT,
    "Begin an export: read which events it holds, under which checkpoint",
)
async def export_manifest(
    call: NamedDependency[Call],
    begin: Annotated[int | None, QueryParameter(ge=0, le=_NUMBER_MAX, description="The first leaf")] = None,
    end: Annotated[
        int | None, QueryParameter(ge=0, le=_NUMBER_MAX, description="The first leaf that is not in it")
    ] = None,
    since: Annotated[datetime | None, QueryParameter(name="from", description="What was sealed from here on")] = None,
    until: Annotated[datetime | None, QueryParameter(name="to", description="What was sealed before this")] = None,
    since_size: Annotated[
        int | None,
        QueryParameter(
            ge=0, le=_NUMBER_MAX, name="sinceSize", description="Prove that a checkpoint of this size is extended"
        ),
    ] = None,
) -> Response[bytes]:
    first_at, last_at = read_instant("from", since), read_instant("to", until)
    async with _log(call.postgres) as connection:
        first = begin or 0
        if first_at is not None:
            first = max(first, await connection.fetchval(QUERIES["audit_leaf_at"], first_at))
        if last_at is not None:
            last = await connection.fetchval(QUERIES["audit_leaf_at"], last_at)
            end = last if end is None else min(end, last)
        try:
            made = await export.make_manifest(connection, first, end, since_size)
        except export.ExportError as exc:
            raise Refusal(400, "invalid", str(exc), "GET /log/status says how many there are") from exc
    return Response(export.encode_manifest(made), media_type="application/json")


@operation(
    "exportEvents",
    "GET",
    "/export/events.ndjson",
    AUDIT,
    "Export events [begin, end) of the audit log as NDJSON",
    media_type=_NDJSON,
)
async def export_events(
    call: NamedDependency[Call],
    begin: Annotated[int, QueryParameter(ge=0, le=_NUMBER_MAX)],
    end: Annotated[int, QueryParameter(ge=0, le=_NUMBER_MAX)],
) -> Stream:
    return await _exported(call, _lines, _NDJSON, begin, end)


@operation(
    "exportEventTable",
    "GET",
    "/export/events.csv",
    AUDIT,
    "Export events [begin, end) of the audit log as CSV",
    media_type=_CSV,
)
async def export_table(
    call: NamedDependency[Call],
    begin: Annotated[int, QueryParameter(ge=0, le=_NUMBER_MAX)],
    end: Annotated[int, QueryParameter(ge=0, le=_NUMBER_MAX)],
) -> Stream:
    return await _exported(call, _table, _CSV, begin, end)


@operation(
    "exportHashes",
    "GET",
    "/export/hashes.bin",
    AUDIT,
    "Export the hashes of events [begin, end) of the audit log",
    media_type="application/octet-stream",
)
async def export_hashes(
    call: NamedDependency[Call],
    begin: Annotated[int, QueryParameter(ge=0, le=_NUMBER_MAX)],
    end: Annotated[int, QueryParameter(ge=0, le=_NUMBER_MAX)],
) -> Stream:
    return await _exported(call, export.stream_hashes, "application/octet-stream", begin, end)


@operation(
    "exportFilteredEvents",
    "GET",
    "/export/filtered.ndjson",
    AUDIT,
    "Export the events of one FSP or of a period, as NDJSON or CSV",
    media_type=_NDJSON,
    also_as=(_CSV,),
)
async def export_filtered(
    call: NamedDependency[Call],
    request: Request[Any, Any, Any],
    fsp_id: Annotated[str | None, QueryParameter(min_length=1, max_length=256, name="fspId")] = None,
    entity: Annotated[str | None, QueryParameter(min_length=1, max_length=256)] = None,
    since: Annotated[datetime | None, QueryParameter(name="from", description="By the time of the event")] = None,
    until: Annotated[datetime | None, QueryParameter(name="to")] = None,
    begin: Annotated[int, QueryParameter(ge=0, le=_NUMBER_MAX)] = 0,
    end: Annotated[
        int | None,
        QueryParameter(
            ge=0,
            le=_NUMBER_MAX,
        ),
    ] = None,
    form: Annotated[Literal["ndjson", "csv"] | None, QueryParameter(name="format")] = None,
) -> Stream:
    """All leaves [begin, end) are gone through.  Without `format` as Accept says; NDJSON if it says nothing.

    `ndjson`: lines `{"leaf": index, "event": {…}}`, then one `{"manifest": {…}}`: without it the answer is not whole.
    `csv`: the columns of events.csv, a header first.
    """
    accepted = request.headers.get("accept", "")
    is_table = form == "csv" or (form is None and _CSV in accepted and "ndjson" not in accepted)
    media_type = _CSV if is_table else _NDJSON
    first_at, last_at = read_instant("from", since), read_instant("to", until)
    asked = {"fspId": fsp_id, "entity": entity, "from": first_at, "to": last_at}
    wanted = {name: value for name, value in asked.items() if value is not None}
    async with _log(call.postgres) as connection:
        try:
            made = await export.make_manifest(connection, begin, end)
        except export.ExportError as exc:
            raise Refusal(400, "invalid", str(exc), "GET /log/status says how many there are") from exc
    await record(call, "export", None, fsp_id, {**wanted, "begin": made.begin, "end": made.end, "as": media_type})

    async def filtered(connection: asyncpg.Connection, begin: int, end: int) -> AsyncIterator[bytes]:
        digest, count = hashlib.sha256(), 0
        async with aclosing(_chosen(connection, begin, end, wanted)) as found:
            async for chosen in found:
                count += len(chosen)
                part = b"".join(b'{"leaf":%d,"event":%b}\n' % (index, line) for index, line in chosen)
                digest.update(part)
                yield part
        told = {
            "format": FILTERED, "filter": wanted, "origin": made.origin, "begin": begin, "end": end, "count": count,
            "sha256": digest.hexdigest(), "root": made.root, "checkpoint": made.checkpoint, "keys": made.keys,
        }  # fmt: skip
        yield _encode({"manifest": told}) + b"\n"

    async def table(connection: asyncpg.Connection, begin: int, end: int) -> AsyncIterator[bytes]:
        yield leaf.csv_header()
        async with aclosing(_chosen(connection, begin, end, wanted)) as found:
            async for chosen in found:
                yield b"".join(leaf.csv_row(line) for _, line in chosen)

    return _streamed(call.postgres, table if is_table else filtered, media_type, made.begin, made.end)


async def _chosen(
    connection: asyncpg.Connection, begin: int, end: int, wanted: dict[str, Any]
) -> AsyncGenerator[list[tuple[int, bytes]]]:
    """Leaf indexes and lines; a list for each piece of the log, also where it holds none."""
    index = begin
    async with aclosing(log.stream_leaves(connection, begin, end)) as leaves:
        async for rows in leaves:
            yield [(index + n, leaf.line(tuple(row))) for n, row in enumerate(rows) if _is_wanted(row, wanted)]
            index += len(rows)


def _is_wanted(row: Any, wanted: dict[str, Any]) -> bool:
    if "fspId" in wanted and wanted["fspId"] not in (row["fsp_id"], _former_fsp(row)):
        return False
    if "entity" in wanted and row["entity"] != wanted["entity"]:
        return False
    return not ("from" in wanted and row["at"] < wanted["from"]) and not ("to" in wanted and row["at"] >= wanted["to"])


def _former_fsp(row: Any) -> Any:
    """Whose alias it was before another FSP got it: that is of its history, too."""
    is_handed_over = row["entity"] == "alias" and row["action"] == "changed"
    return (decode_json(row["before"]) or {}).get("fsp_id") if is_handed_over else None


async def _lines(connection: asyncpg.Connection, begin: int, end: int) -> AsyncIterator[bytes]:
    async with aclosing(export.stream_lines(connection, begin, end)) as parts:
        async for part in parts:
            yield part


async def _table(connection: asyncpg.Connection, begin: int, end: int) -> AsyncIterator[bytes]:
    yield leaf.csv_header()
    async with aclosing(export.stream_lines(connection, begin, end)) as parts:
        async for part in parts:
            yield b"".join(leaf.csv_row(line) for line in part.splitlines())


async def _exported(call: Call, make: Any, media_type: str, begin: int, end: int) -> Stream:
    async with _log(call.postgres) as connection:
        size = (await log.fetch_state(connection)).size
    if begin > end:
        raise _backwards()
    if end > size:
        raise _beyond(size)
    await record(call, "export", None, None, {"begin": begin, "end": end, "as": media_type})
    return _streamed(call.postgres, make, media_type, begin, end)


def _streamed(postgres: Postgres, make: Any, media_type: str, begin: int, end: int) -> Stream:
    """Raises Overloaded."""
    if _exporting >= EXPORTS_MAX:
        raise Overloaded

    async def parts() -> AsyncIterator[bytes]:
        global _exporting  # noqa: PLW0603 - how many there are in this process
        _exporting += 1
        try:
            async with _log(postgres) as connection, aclosing(make(connection, begin, end)) as made:
                async for part in made:
                    yield part
        finally:
            _exporting -= 1

    # As a header: the media type of a Stream gives way to the one that its handler declares.
    content_type = f"{media_type}; charset=utf-8" if media_type == _CSV else media_type
    return Stream(parts(), headers={"Content-Type": content_type})


def _not_sealed() -> Refusal:
    return Refusal(404, "not_sealed", "It is not sealed yet", "A second later it should be: GET /log/status")


def _beyond(size: int) -> Refusal:
    return Refusal(400, "invalid", f"The log has {size} leaves", "GET /log/status")


def _backwards() -> Refusal:
    return Refusal(400, "invalid", "The range ends before it begins", "Exchange its two ends")


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
