"""Lists who read history: the records that `questions.record` writes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import Cursors
from oracle.api.admin.times import read_time
from oracle.api.history.questions import AUDITORS, Search, Text, from_query, read_filter_key, record
from oracle.identifiers import Reading
from oracle.store import history


class ReadSearch(Search, kw_only=True):
    credential_id: Text | None = None


class HistoryRead(Resource):
    """One question to history, as it was recorded before its answer."""

    read_id: int
    at: datetime
    credential_id: str
    role: str
    caller_fsp_id: str | None
    asked: str
    party_id_type: str | None
    identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    details: dict[str, Any]
    request_id: str | None
    trace_id: str | None


class ReadPage(Resource):
    items: list[HistoryRead]
    next: str | None


def handlers() -> list[HTTPRouteHandler]:
    return [list_reads]


@operation(
    "listHistoryReads", "GET", "/reads", AUDITORS, "List who read the history, the newest first", answers=ReadPage
)
@from_query(ReadSearch)
async def list_reads(
    call: NamedDependency[Call], reading: NamedDependency[Reading], data: ReadSearch
) -> Response[bytes]:
    key = read_filter_key(reading, data)
    since, until = read_time("from", data.since), read_time("to", data.until)
    details = {"credential_id": data.credential_id, "since": data.since, "until": data.until}
    cursors = Cursors(call.caller, "reads", key, details)
    before = cursors.open(data.cursor, int) or history.LAST_EVENT
    await record(call, "reads", key, None, details)
    party = (None, None) if key is None else (key.identifier, key.party_id_type)
    rows = await call.postgres.rows("reads_page", before, *party, data.credential_id, since, until, data.limit)
    items = [
        HistoryRead(
            read_id=row["read_id"], at=row["at"], credential_id=row["credential_id"], role=row["role"],
            caller_fsp_id=row["caller_fsp_id"], asked=row["asked"], party_id_type=row["party_id_type"],
            identifier=row["party_identifier"], sub_id=row["sub_id"] or None, fsp_id=row["fsp_id"],
            details=msgspec.json.decode(row["details"]), request_id=row["request_id"], trace_id=row["trace_id"],
        )
        for row in rows
    ]  # fmt: skip
    following = cursors.close(items[-1].read_id) if len(items) == data.limit else None
    return call.read_page(ReadPage(items=items, next=following))
