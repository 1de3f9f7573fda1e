"""Lists the stored aliases of an FSP that are doubtful: those that the hub would refuse today, or read otherwise.

Rules become stricter with time, and the directory keeps what it has.  The owner of a doubtful alias should look at it,
register the right one, and remove it: by its stored key (see `stored`).

Entries.    Each item is one entry, so an alias with a doubtful currency beside a good one is listed without the latter.
Bounds.     A page reads SCAN_MAX entries at most, in chunks, with memory for one chunk.  It can be empty and still have
            a `next`.  `scanned` says how many entries it has looked at.
Order.      As in the list of aliases: type after type, by the time of the last change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, NamedTuple

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Meta

from oracle.api.admin.aliases import READERS, state_of
from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.fsps import fetch_rules
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.values import AliasState
from oracle.identifiers import BadIdentifier, PartyIdType, PartyKey, Reading, list_hub_currencies
from oracle.sentences import Sentence
from oracle.store.postgres import Rows
from oracle.store.rows import ScannedEntryRow

SCAN_MAX: Final = 20_000
SCAN_CHUNK: Final = 2_000
_TYPES: Final = tuple(member.value for member in PartyIdType)
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)

_REFUSED: Final = "The hub refuses it today"
_READ_OTHERWISE: Final = "The hub reads it as another identifier today, so no lookup finds it"
_NO_CURRENCY: Final = "The hub refuses its currency today: it is no code of ISO 4217"


class Doubt(Resource):
    code: Annotated[
        Literal["refused", "read_otherwise", "currency"],
        Meta(description="The identifier is refused today; it is read as another one; the currency is refused"),
    ]
    message: Annotated[Sentence, Meta(description="Why, for people")]
    reason: Annotated[str | None, Meta(description="With `refused`: the reason, for programs")]
    read_as: Annotated[str | None, Meta(description="With `read_otherwise`: what the hub reads today")]


class DoubtfulEntry(Resource):
    party_id_type: PartyIdType
    identifier: Annotated[str, Meta(description="As it is stored: with asStored=true it names the alias")]
    sub_id: str | None
    currency: Annotated[str | None, Meta(description="null: every currency")]
    default: Annotated[bool, Meta(description="It answers lookups without a currency")]
    changed_at: datetime
    state: AliasState
    doubt: Doubt


class DoubtfulPage(Resource):
    items: list[DoubtfulEntry]
    scanned: Annotated[int, Meta(description="How many entries this page has looked at")]
    next: Annotated[str | None, Meta(description="The cursor of the next page; an empty page can have one, too")]


class _Position(NamedTuple):
    """The entry behind which a page begins."""

    type_index: int
    changed_at: datetime
    identifier: str = ""
    sub_id: str = ""
    currency: str = ""


_START: Final = _Position(0, _BEGINNING)


def handlers() -> list[HTTPRouteHandler]:
    return [list_doubtful_aliases]


@operation(
    "listDoubtfulAliases",
    "GET",
    "/fsps/{fsp_id:str}/aliases/doubtful",
    READERS,
    "List the stored aliases that the hub refuses or reads otherwise today",
    answers=DoubtfulPage,
)
async def list_doubtful_aliases(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response[bytes]:  # fmt: skip
    cursors = Cursors(call.caller, "doubtful aliases", fsp_id)
    position = cursors.open(cursor, _Position)
    state = state_of((await fetch_rules(call.postgres.rows, fsp_id))["status"])
    page, following = await fetch_page(call.postgres.rows, reading, fsp_id, state, position or _START, limit)
    page.next = None if following is None else cursors.close(following)
    return call.read_page(page)


async def fetch_page(
    rows: Rows, reading: Reading, fsp_id: str, state: AliasState, position: _Position, limit: int
) -> tuple[DoubtfulPage, _Position | None]:
    """Look at the entries behind the position; return the doubtful ones, and where the next page begins."""
    page = DoubtfulPage(items=[], scanned=0, next=None)
    while position.type_index < len(_TYPES):
        if page.scanned >= SCAN_MAX or len(page.items) == limit:
            return page, position
        party_id_type = _TYPES[position.type_index]
        found: list[ScannedEntryRow] = await rows("aliases_scan", fsp_id, party_id_type, *position[1:], SCAN_CHUNK)
        # In a thread, so that the event loop goes on: reading thousands of identifiers takes a while.
        read = await asyncio.to_thread(_read_entries, reading, party_id_type, found, state, limit - len(page.items))
        items, count = read
        page.items += items
        page.scanned += count
        if count == len(found) < SCAN_CHUNK:
            position = _Position(position.type_index + 1, _BEGINNING)
        else:
            last = found[count - 1]
            position = _Position(
                position.type_index, last["changed_at"], last["identifier"], last["sub_id"], last["currency"]
            )
    return page, None


def _read_entries(
    reading: Reading, party_id_type: str, rows: Sequence[ScannedEntryRow], state: AliasState, limit: int
) -> tuple[list[DoubtfulEntry], int]:
    """Return the doubtful ones among the first rows, at most `limit`, and how many rows that took."""
    items: list[DoubtfulEntry] = []
    for number, row in enumerate(rows, 1):
        doubt = find_doubt(reading, PartyKey(party_id_type, row["identifier"], row["sub_id"]), row["currency"])
        if doubt is None:
            continue
        items.append(
            DoubtfulEntry(
                party_id_type=PartyIdType(party_id_type), identifier=row["identifier"], sub_id=row["sub_id"] or None,
                currency=row["currency"] or None, default=row["is_default"], changed_at=row["changed_at"],
                state=state, doubt=doubt,
            )
        )  # fmt: skip
        if len(items) == limit:
            return items, number
    return items, len(rows)


def find_doubt(reading: Reading, key: PartyKey, currency: str) -> Doubt | None:
    """Say what is doubtful about a stored entry; None if the hub would accept it today, exactly so."""
    try:
        read = reading.read_hub_key(key.party_id_type, key.identifier, key.sub_id or None)
    except BadIdentifier as exc:
        return Doubt(code="refused", message=f"{_REFUSED}. {exc}", reason=exc.reason, read_as=None)
    if read != key:
        return Doubt(code="read_otherwise", message=_READ_OTHERWISE, reason=None, read_as=read.identifier)
    if currency and currency not in list_hub_currencies():
        return Doubt(code="currency", message=_NO_CURRENCY, reason=None, read_as=None)
    return None
