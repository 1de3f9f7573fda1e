"""Serves the Merkle log over HTTP: with it you can check history without trust in the service.

Checkpoint.  A signed note.  If you keep one, you can ask for the proof that a later one extends it.  A checkpoint says
             nothing about events, so DFSPs can read checkpoints too.
Entry.       The line of an event, its leaf index, and the hashes that lead from it to a root.

`exports` serves the events of the log in files.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final

import asyncpg
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Meta, field

from oracle.api.admin.access import allow
from oracle.api.admin.calls import Body, Call, Resource
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.problems import Refusal
from oracle.api.history.questions import AUDIT, OWN, LeafNumber, fetch_event, from_query, no_such_event, record
from oracle.audit import log
from oracle.identifiers import PartyKey
from oracle.identity.identity import Role
from oracle.store.history import decode_json
from oracle.store.lanes import Lane
from oracle.store.queries import QUERIES
from oracle.verifier import leaf

NOTES: Final = allow(Role.AUDITOR, Role.OPERATOR, Role.MAKER, Role.CHECKER, shared=True)
STATUS_HINT: Final = "The status of the log shows how many events are sealed"
_NUMBER_MAX: Final = (1 << 63) - 1


class ConsistencyQuestion(Body):
    first: Annotated[LeafNumber, Meta(description="The smaller size")] = field(name="from")
    second: Annotated[LeafNumber | None, Meta(description="The larger size; null: the size of the log")] = field(
        default=None, name="to"
    )


class EntryQuestion(Body):
    size: Annotated[
        LeafNumber | None, Meta(description="The size of the log for the proof; null: that of the latest checkpoint")
    ] = None


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
    from_size: Annotated[int, Meta(description="The key signs checkpoints that are larger than this")]
    statement: Annotated[
        str | None, Meta(description="The signed statement with which the earlier key introduces this key")
    ]


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
    checkpoint: Annotated[str | None, Meta(description="The note of this size, if one was signed")]


class Consistency(Resource):
    first: int
    second: int
    first_root: str
    second_root: str
    proof: Annotated[list[str], Meta(description="RFC 9162 consistency proof; Base64")]
    checkpoint: Annotated[str | None, Meta(description="The note of the second size, if one was signed")]


class LogStatus(Resource):
    size: Annotated[int, Meta(description="The number of sealed events")]
    signed_at: datetime | None
    waiting_s: Annotated[float | None, Meta(description="How long the oldest unsealed event waits; null: none does")]


def handlers() -> list[HTTPRouteHandler]:
    return [
        read_latest_checkpoint, list_checkpoints, list_keys, read_entry, read_own_entry, read_consistency, read_status,
    ]  # fmt: skip


@asynccontextmanager
async def open_log(lane: Lane) -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection that plans for the log.  Raises DirectoryUnavailable, and Refusal for a damaged log."""
    try:
        async with lane.lend(**log.CONNECTION_SETTINGS) as connection:
            yield connection
    except log.Damaged as exc:
        raise Refusal(409, "log_damaged", str(exc), "Run `oracle audit verify`, which finds the damaged place") from exc


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
async def read_latest_checkpoint(call: NamedDependency[Call]) -> Response[bytes]:
    row = await call.postgres.row("audit_checkpoint_latest")
    if row is None:
        raise _make_not_sealed()
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
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:
    cursors = Cursors(call.caller, "checkpoints")
    below = cursors.open(cursor, int)
    rows = await call.postgres.rows("log_checkpoints", _NUMBER_MAX if below is None else below, limit)
    items = [
        Checkpoint(size=row["size"], root=_base64(row["root"]), note=row["note"], signed_at=row["signed_at"])
        for row in rows
    ]
    following = cursors.close(items[-1].size) if len(items) == limit else None
    return call.read_page(CheckpointPage(items=items, next=following))


@operation(
    "listLogKeys", "GET", "/log/keys", NOTES, "List the public keys of the audit log, the newest last", answers=LogKeys
)
async def list_keys(call: NamedDependency[Call]) -> Response[bytes]:
    async with open_log(call.postgres.desk) as connection:
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
@from_query(ConsistencyQuestion)
async def read_consistency(call: NamedDependency[Call], data: ConsistencyQuestion) -> Response[bytes]:
    first = data.first
    async with open_log(call.postgres.desk) as connection:
        size = (await log.fetch_state(connection)).size
        to = size if data.second is None else data.second
        if first > to:
            raise Refusal(400, "invalid", "`from` is after `to`", "Swap `from` and `to`", field="from")
        if to > size:
            raise out_of_range(size, "to")
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
    async with open_log(call.postgres.desk) as connection:
        state = await log.fetch_state(connection)
        waiting_s = await log.fetch_waiting(connection) or None
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
@from_query(EntryQuestion)
async def read_entry(call: NamedDependency[Call], event_id: FromPath[int], data: EntryQuestion) -> Response[bytes]:
    return await _prove(call, event_id, data.size)


@operation(
    "getFspLogEntry",
    "GET",
    "/fsps/{fsp_id:str}/log/entries/{event_id:int}",
    OWN,
    "Read one event of an FSP's own alias and the proof that it is in the log",
    answers=LogEntry,
)
@from_query(EntryQuestion)
async def read_own_entry(
    call: NamedDependency[Call], fsp_id: FromPath[str], event_id: FromPath[int], data: EntryQuestion
) -> Response[bytes]:
    return await _prove(call, event_id, data.size, own=fsp_id)


async def _prove(call: Call, event_id: int, size: int | None, own: str | None = None) -> Response[bytes]:
    row = await fetch_event(call, event_id)
    if not _is_own(row, own):
        raise no_such_event()
    key = None
    if row["party_id_type"] is not None:
        key = PartyKey(row["party_id_type"], row["party_identifier"] or "", row["sub_id"] or "")
    await record(call, "proof", key, row["fsp_id"], {"eventId": event_id})
    async with open_log(call.postgres.desk) as connection:
        try:
            proof = await log.prove_event(connection, event_id, size)
        except log.OutOfRange as exc:
            raise out_of_range(exc.size, "size") from exc
        except log.LaterThan as exc:
            message = f"Event {event_id} is leaf {exc.index}: it was sealed after the first {size} leaves"
            raise Refusal(400, "invalid", message, "Ask with a larger `size`, or without it", field="size") from exc
    if proof is None:
        raise _make_not_sealed()
    return call.read(
        LogEntry(
            event_id=event_id, leaf_index=proof.leaf_index, line=proof.line.decode(),
            leaf_hash=_base64(leaf.leaf_hash(proof.line)), size=proof.size, root=_base64(proof.root),
            proof=[_base64(each) for each in proof.proof], checkpoint=proof.checkpoint,
        )
    )  # fmt: skip


def _is_own(row: Any, own: str | None) -> bool:
    """Whether the line names no other FSP: it cannot be shown in part, because its hash covers all of it."""
    if own is None:
        return True
    if row["entity"] != "alias" or row["fsp_id"] != own:
        return False
    sides = (decode_json(row["before"]), decode_json(row["after"]))
    return {side["fsp_id"] for side in sides if side is not None} == {own}


def out_of_range(size: int, name: str) -> Refusal:
    """`name` is that of the field."""
    return Refusal(400, "invalid", f"The log has only {size} leaves (sealed events)", STATUS_HINT, field=name)


def _make_not_sealed() -> Refusal:
    return Refusal(404, "not_sealed", "The event is not sealed yet", f"Try again in a second. {STATUS_HINT}")


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
