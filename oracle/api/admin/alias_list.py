"""The aliases of an FSP, by pages.

Pages.    Type after type, and within a type by the time of the last change.  Such a time only grows, so an alias that
          exists throughout never moves to a page that was read already: a reader misses none, but can meet a changed
          one twice.  A page reads SCAN_MAX entries at most; a page that a filter made short still has a `next`.
Prefix.   With a prefix they are in the order of their identifiers, so that a page reads one range of an index.
Currency. With a currency an alias is listed at its entry in that currency.  With both, too, a page reads one range of
          the identifiers, and can be short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple, Self

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta

from oracle.api.admin import forms
from oracle.api.admin.aliases import (
    READERS,
    Alias,
    AliasEntry,
    PartyEntries,
    group_by_key,
    make_entry,
    state_of,
)
from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.fsps import fetch_rules
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.problems import Refusal
from oracle.api.admin.routes import make_bad_prefix
from oracle.api.admin.times import read_time
from oracle.api.admin.values import (
    AliasState,
    capitalise,
)
from oracle.identifiers import (
    KINDS,
    PARTY_ID_TYPES,
    BadIdentifier,
    Kind,
    PartyIdType,
    PartyKey,
    Reading,
    find_scheme,
)
from oracle.identifiers.prefix import bound_above
from oracle.store.postgres import Rows
from oracle.store.rows import ListedAliasRow

SCAN_MAX: Final = 2_000
SCAN_CHUNK: Final = 1_000
_TYPES: Final = tuple(member.value for member in PartyIdType)
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)


class AliasPage(Resource):
    items: list[Alias]
    next: Annotated[str | None, Meta(description="The cursor of the next page; a short page can have one, too")]


def handlers() -> list[HTTPRouteHandler]:
    return [list_aliases]


class ListPosition(NamedTuple):
    """The entry behind which a page begins."""

    type_index: int
    changed_at: datetime
    identifier: str = ""
    sub_id: str = ""
    currency: str = ""


class KeyPosition(NamedTuple):
    """The key behind which a page of a list with a prefix begins."""

    type_index: int = 0
    identifier: str = ""
    sub_id: str = ""

    @property
    def after(self) -> tuple[str, str]:
        """Identifier and SubId from which the next keys are: no SubId holds a control character."""
        return self.identifier, self.sub_id + "\x01"


OfCurrency = Annotated[
    str | None,
    QueryParameter(
        name="currency", pattern=forms.CURRENCY, max_length=3,
        description="Only aliases with an entry in this currency; the times are those of that entry",
    ),
]  # fmt: skip
Prefix = Annotated[
    str | None,
    QueryParameter(
        name="prefix", min_length=1, max_length=128,
        description="Only identifiers that begin so, read as a prefix of `kind`; without `kind`, as one of each kind",
    ),
]  # fmt: skip


class Filter(NamedTuple):
    """Which aliases of one FSP are wanted."""

    fsp_id: str
    kind: str | None
    state: str | None
    since: datetime
    until: datetime
    currency: str | None
    beginnings: Sequence[tuple[str, str]]  # PartyIdTypes, each with the beginning of its identifiers; '' for all

    @classmethod
    def of(
        cls, fsp_id: str, kind: str | None, state: str | None, since: datetime | None, until: datetime | None,
        currency: str | None, beginnings: Sequence[tuple[str, str]],
    ) -> Self:  # fmt: skip
        return cls(fsp_id, kind, state, since or _BEGINNING, until or _END, capitalise(currency), beginnings)

    @property
    def is_of_all_times(self) -> bool:
        return (self.since, self.until) == (_BEGINNING, _END)

    def is_first(self, row: ListedAliasRow, entries: Sequence[AliasEntry]) -> bool:
        """Whether the alias is listed here: at its entry in the currency, else at the first that changed in the period.

        So it is listed once.
        """
        if self.currency is not None:
            return row["currency"] == self.currency
        here = (row["changed_at"], row["currency"])
        return all((e.changed_at, e.currency or "") >= here for e in entries if e.changed_at >= self.since)

    @property
    def takes_all(self) -> bool:
        """Whether `takes` takes every key of the types."""
        return self.kind is None or find_scheme(self.kind).is_plain

    def takes(self, key: PartyKey) -> bool:
        """Whether the key is of the kind; a kind that the directory stores as a wider one is recognised by its form."""
        scheme = None if self.kind is None else find_scheme(self.kind)
        return scheme is None or scheme.is_plain or scheme.is_canonical(key.identifier)


def read_beginnings(reading: Reading, kind: str | None, prefix: str | None) -> list[tuple[str, str]]:
    """Return the PartyIdTypes to search, each with the beginning of its stored identifiers.

    Raises Refusal for a prefix that the kind does not have, or no kind.
    """
    if prefix is None:
        return [(name, "") for name in (_TYPES if kind is None else (PARTY_ID_TYPES[kind],))]
    if kind is not None:
        try:
            found = reading.read_prefix(kind, prefix)
        except BadIdentifier as exc:
            raise make_bad_prefix(kind, exc) from None
        return [(found.party_id_type, found.prefix)]
    read: dict[str, set[str]] = {party_id_type: set() for party_id_type in _TYPES}
    for each in KINDS:
        with suppress(BadIdentifier):
            read[PARTY_ID_TYPES[each]].add(reading.read_prefix(each, prefix).prefix)
    beginnings = [
        (party_id_type, beginning)
        for party_id_type, found in read.items()
        for beginning in sorted(found)
        if not any(beginning != other and beginning.startswith(other) for other in found)  # it is read once
    ]
    if not beginnings:
        raise Refusal(
            400, "invalid", "No identifier of any kind begins like this", "Correct the prefix, or name its kind",
            field="prefix",
        )  # fmt: skip
    return beginnings


def is_wanted_state(wanted: str | None, status: str) -> bool:
    return wanted is None or wanted == state_of(status)


@operation(
    "listAliases",
    "GET",
    "/fsps/{fsp_id:str}/aliases",
    READERS,
    "List the aliases of an FSP",
    answers=AliasPage,
)
async def list_aliases(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str],
    kind: FromQuery[Kind | None] = None,
    prefix: Prefix = None,
    currency: OfCurrency = None,
    wanted_state: Annotated[AliasState | None, QueryParameter(name="state")] = None,
    changed_from: Annotated[datetime | None, QueryParameter(name="changedFrom", description="From then on")] = None,
    changed_to: Annotated[datetime | None, QueryParameter(name="changedTo", description="Before then")] = None,
    limit: Limit = PAGE, cursor: Cursor = None,
) -> Response[bytes]:  # fmt: skip
    """With `prefix` they are sorted by type and identifier, else by type and time of change."""
    since, until = read_time("changedFrom", changed_from), read_time("changedTo", changed_to)
    wanted = Filter.of(fsp_id, kind, wanted_state, since, until, currency, read_beginnings(reading, kind, prefix))
    cursors = Cursors(call.caller, "aliases", *wanted)
    position: Any = cursors.open(cursor, ListPosition if prefix is None else KeyPosition)
    status = (await fetch_rules(call.postgres.rows, fsp_id))["status"]
    if not is_wanted_state(wanted_state, status):
        return call.read(AliasPage(items=[], next=None))
    fetch: Any = fetch_page if prefix is None else _fetch_beginning
    found, following = await fetch(call.postgres.rows, wanted, status, position, limit)
    # In a thread, so that the event loop goes on: formatting a thousand telephone numbers takes a tenth of a second.
    items = await asyncio.to_thread(lambda: [each.resource(reading) for each in found])
    return call.read_page(AliasPage(items=items, next=None if following is None else cursors.close(following)))


async def fetch_page(
    rows: Rows, wanted: Filter, status: str, position: ListPosition | None, limit: int
) -> tuple[list[PartyEntries], ListPosition | None]:
    """Read the aliases of one page, and where the next one begins."""
    picked: dict[PartyKey, PartyEntries] = {}
    position = position or ListPosition(0, wanted.since)
    scanned, chunk = 0, limit * 5 // 4 + 1  # some are further entries of aliases that are listed already
    while position.type_index < len(wanted.beginnings):
        party_id_type, _ = wanted.beginnings[position.type_index]
        place = (wanted.fsp_id, party_id_type, wanted.until, position.changed_at, position.identifier, position.sub_id)
        if wanted.currency is None:
            found = await rows("aliases_page", *place, position.currency, chunk)
        else:
            found = await rows("aliases_page_in_currency", *place, chunk, wanted.currency)
        for row in found:
            key = PartyKey(party_id_type, row["identifier"], row["sub_id"])
            entries = _entries(row)
            if wanted.is_first(row, entries) and wanted.takes(key):
                if len(picked) == limit:
                    return list(picked.values()), position
                picked[key] = PartyEntries(key, entries, status, row["is_hint"])
            position = ListPosition(
                position.type_index, row["changed_at"], row["identifier"], row["sub_id"], row["currency"]
            )
        scanned += len(found)
        if len(found) < chunk:
            position = ListPosition(position.type_index + 1, wanted.since)
        elif scanned >= SCAN_MAX:
            return list(picked.values()), position
        chunk = max(chunk, min(2 * chunk, SCAN_CHUNK))
    return list(picked.values()), None


async def _fetch_beginning(
    rows: Rows, wanted: Filter, status: str, position: KeyPosition | None, limit: int
) -> tuple[list[PartyEntries], KeyPosition | None]:
    """Do the same for a list with a prefix, in the order of the identifiers."""
    picked: list[PartyKey] = []
    position = position or KeyPosition()
    following: KeyPosition | None = None
    scanned, chunk = 0, limit + 1
    while following is None and position.type_index < len(wanted.beginnings):
        party_id_type, beginning = wanted.beginnings[position.type_index]
        start = position.after if position.identifier else (beginning, "")
        found = await rows(
            "aliases_beginning", wanted.fsp_id, party_id_type, *start, bound_above(beginning), wanted.since,
            wanted.until, chunk, wanted.currency,
        )  # fmt: skip
        for row in found:
            key = PartyKey(party_id_type, row["identifier"], row["sub_id"])
            if row["fits"] and wanted.takes(key):
                if len(picked) == limit:
                    following = position
                    break
                picked.append(key)
            position = KeyPosition(position.type_index, key.identifier, key.sub_id)
        scanned += len(found)
        if following is None:
            if len(found) < chunk:
                position = KeyPosition(position.type_index + 1)
            elif scanned >= SCAN_MAX:
                following = position
        chunk = max(chunk, min(2 * chunk, SCAN_CHUNK))
    return await _fetch_all_entries(rows, wanted.fsp_id, status, picked), following


async def _fetch_all_entries(rows: Rows, fsp_id: str, status: str, keys: Sequence[PartyKey]) -> list[PartyEntries]:
    """Read the entries of the FSP under these keys.  One that is gone meanwhile is left out."""
    found = group_by_key(keys, await rows("alias_entries", fsp_id, *zip(*keys, strict=True))) if keys else {}
    return [
        PartyEntries(
            key, [make_entry(row["currency"], row["is_default"], row["changed_at"]) for row in entries], status,
            entries[0]["is_hint"],
        )
        for key, entries in found.items()
    ]  # fmt: skip


def _entries(row: Any) -> list[AliasEntry]:
    """Return all entries of the FSP under the key of a row."""
    found = []
    if row["is_default"]:
        found.append(make_entry(row["currency"], True, row["changed_at"]))
    elif row["default_currency"] is not None:
        found.append(make_entry(row["default_currency"], True, row["default_changed_at"]))
    further = zip(row["further_currencies"] or (), row["further_changed_at"] or (), strict=True)
    return found + [make_entry(currency, False, changed_at) for currency, changed_at in further]
