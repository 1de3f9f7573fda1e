"""Lists who read history: the records that `questions.record` writes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import Cursors
from oracle.api.admin.people import NOBODY, By, fetch_people, find_people
from oracle.api.admin.times import read_time
from oracle.api.history.questions import AUDITORS, Actor, Search, from_query, read_filter_key, record
from oracle.api.history.views import display_of
from oracle.identifiers import PartyKey, Reading
from oracle.store import history


class ReadSearch(Search, kw_only=True):
    credential_id: Actor | None = None
    by: By = None


class HistoryRead(Resource):
    """One question to history, as it was recorded before its answer."""

    read_id: int
    at: datetime
    credential_id: str
    credential_name: Annotated[str | None, Meta(description="For people, for example Rosa (auditor)")]
    role: str
    caller_fsp_id: str | None
    asked: str
    party_id_type: str | None
    identifier: str | None
    display: str | None
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
    details = {"credential_id": data.credential_id, "by": data.by, "since": data.since, "until": data.until}
    cursors = Cursors(call.caller, "reads", key, details)
    before = cursors.open(data.cursor, int) or history.LAST_EVENT
    people = await find_people(call, data.by)
    await record(call, "reads", key, None, details)
    if data.credential_id is not None:
        people = [data.credential_id] if people is None or data.credential_id in people else []
    party = (None, None) if key is None else (key.identifier, key.party_id_type)
    rows = await call.postgres.rows("reads_page", before, *party, people, since, until, data.limit)
    names = await fetch_people(call.postgres.rows, {row["credential_id"] for row in rows})
    items = [
        HistoryRead(
            read_id=row["read_id"], at=row["at"], credential_id=row["credential_id"],
            credential_name=names.get(row["credential_id"], NOBODY).name, role=row["role"],
            caller_fsp_id=row["caller_fsp_id"], asked=row["asked"], party_id_type=row["party_id_type"],
            identifier=row["party_identifier"], display=_show(reading, row), sub_id=row["sub_id"] or None,
            fsp_id=row["fsp_id"], details=msgspec.json.decode(row["details"]),
            request_id=row["request_id"], trace_id=row["trace_id"],
        )
        for row in rows
    ]  # fmt: skip
    following = cursors.close(items[-1].read_id) if len(items) == data.limit else None
    return call.read_page(ReadPage(items=items, next=following))


def _show(reading: Reading, row: Any) -> str | None:
    """Write the identifier of a record as people write it."""
    if row["party_id_type"] is None or row["party_identifier"] is None:
        return None
    key = PartyKey(row["party_id_type"], row["party_identifier"], row["sub_id"] or "")
    return display_of(reading.read_kind(key), key.identifier)
