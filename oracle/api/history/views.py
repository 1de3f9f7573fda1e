"""Makes answers of events, and traces them to their origin: the person, the file, the line.

An event that an import wrote has `batch:{number}` as its request.  The number leads to the file, its uploader and its
approver; the transaction leads to the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from oracle.api.admin.calls import Resource
from oracle.api.admin.people import NOBODY, fetch_people
from oracle.identifiers import BadIdentifier, PartyKey, Reading, display
from oracle.imports.results import find_rows_about
from oracle.store.base import BATCH_PREFIX
from oracle.store.history import decode_json
from oracle.store.postgres import Postgres
from oracle.store.rows import BatchOriginRow


class BatchOrigin(Resource):
    """The file that an event came from."""

    batch_id: int
    fsp_id: str
    file_name: str
    file_sha256: str
    uploaded_by: str
    uploaded_by_label: str | None
    uploaded_by_name: str | None
    uploaded_at: datetime
    decided_by: Annotated[str | None, Meta(description="The person who approved the file, if approval was needed")]
    decided_by_label: str | None
    decided_by_name: str | None
    decided_at: datetime | None
    decision_reason: str | None
    lines: Annotated[list[int], Meta(description="The lines of the file with this alias")]


class HistoryEvent(Resource):
    """One change, as its own transaction recorded it."""

    event_id: int
    transaction: Annotated[int, Meta(description="Events with the same number were committed together")]
    at: datetime
    entity: str
    action: str
    channel: str
    actor: Annotated[str, Meta(description="A credential, an FSP, or a database user")]
    role: str | None
    kind: str | None
    party_id_type: str | None
    identifier: str | None
    display: str | None
    sub_id: str | None
    fsp_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None
    request_id: str | None
    trace_id: str | None
    actor_label: str | None = None
    actor_name: Annotated[str | None, Meta(description="For people, for example Ana (maker of bluebank)")] = None
    batch: BatchOrigin | None = None


def event_of(row: Any, reading: Reading, *, own: str | None = None) -> HistoryEvent:
    """`own`: only what this FSP may see; the states that belong to another FSP are left out."""
    before, after = decode_json(row["before"]), decode_json(row["after"])
    fsp_id = row["fsp_id"]
    if own is not None:
        before, after = (side if side is not None and side.get("fsp_id") == own else None for side in (before, after))
        fsp_id = own
    party_id_type, identifier = row["party_id_type"], row["party_identifier"]
    kind = text = None
    if party_id_type is not None and identifier is not None:
        kind = reading.read_kind(PartyKey(party_id_type, identifier, row["sub_id"] or ""))
        text = display_of(kind, identifier)
    return HistoryEvent(
        event_id=row["event_id"], transaction=row["xact"], at=row["at"], entity=row["entity"], action=row["action"],
        channel=row["channel"], actor=row["actor"], role=row["role"], kind=kind, party_id_type=party_id_type,
        identifier=identifier, display=text, sub_id=row["sub_id"] or None, fsp_id=fsp_id,
        before=before, after=after, reason=row["reason"], request_id=row["request_id"], trace_id=row["trace_id"],
    )  # fmt: skip


def display_of(kind: str, identifier: str) -> str:
    try:
        return display(kind, identifier).text
    except BadIdentifier:  # it was stored under older rules
        return identifier


async def name_actors(postgres: Postgres, events: Iterable[HistoryEvent], own: frozenset[str] | None = None) -> None:
    """With `own`, name only people of these FSPs and of the hub: a name would say which other FSP acted."""
    people = await fetch_people(postgres.rows, {event.actor for event in events}, own)
    for event in events:
        if (person := people.get(event.actor)) is not None:
            event.actor_label, event.actor_name = person.label, person.name


async def trace(postgres: Postgres, events: Sequence[HistoryEvent], own: frozenset[str] | None = None) -> None:
    """Add to each event of an import the file and the lines that it came from; `own` as in `name_actors`."""
    await name_actors(postgres, events, own)
    for event in events:
        number = batch_number(event.request_id)
        if number is not None and event.channel == "import":
            event.batch = await _fetch_origin(postgres, number, event, own)


def batch_number(request_id: str | None) -> int | None:
    if request_id is None or not request_id.startswith(BATCH_PREFIX):
        return None
    number = request_id.removeprefix(BATCH_PREFIX)
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 18 else None  # noqa: PLR2004 - a bigint


async def _fetch_origin(
    postgres: Postgres, number: int, event: HistoryEvent, own: frozenset[str] | None
) -> BatchOrigin | None:
    row: BatchOriginRow | None = await postgres.row("batch_origin", number)
    if row is None:
        return None
    people = await fetch_people(postgres.rows, {row["uploaded_by"], row["decided_by"]}, own)
    uploader, decider = people.get(row["uploaded_by"], NOBODY), people.get(row["decided_by"], NOBODY)
    lines: list[int] = []
    if event.party_id_type is not None and event.identifier is not None:
        key = PartyKey(event.party_id_type, event.identifier, event.sub_id or "")
        lines = [found.line for found in await find_rows_about(postgres, number, key, str(event.transaction))]
    return BatchOrigin(
        batch_id=number, fsp_id=row["fsp_id"], file_name=row["file_name"], file_sha256=row["file_sha256"],
        uploaded_by=row["uploaded_by"], uploaded_by_label=uploader.label, uploaded_by_name=uploader.name,
        uploaded_at=row["uploaded_at"], decided_by=row["decided_by"], decided_by_label=decider.label,
        decided_by_name=decider.name, decided_at=row["decided_at"],
        decision_reason=row["decision_reason"], lines=lines,
    )  # fmt: skip
