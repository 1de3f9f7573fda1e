"""Exports the aliases of one FSP, of any number, as they were at one moment: for reconciliation.

Moment.    All lines come from one snapshot of the directory.  The header `Snapshot-At` has its time: every change that
           was committed before is in the file.
Files.     As CSV and NDJSON the export has the columns of an import file, an entry a line, so it can be uploaded again.
           The lines of an alias follow each other, its default entry first; aliases are in no order.  Hints are left
           out: an import would make registrations of them.
Aliases.   As `aliases` it has one alias a line, hints too, with the members of `listAliases`.  Only `display` is left
           out: to format a telephone number takes longer than all the rest.
Whole.     An export that ends early has no end of its last chunk, so every HTTP client sees that it is not complete.
Slow.      A snapshot keeps PostgreSQL from removing old rows, of all tables.  So an export ends after EXPORT_S, also
           one whose client goes on reading.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from oracle.api.admin.alias_list import Filter, OfCurrency, Prefix, is_wanted_state, read_beginnings
from oracle.api.admin.aliases import READERS, AliasEntry, state_of
from oracle.api.admin.calls import Call, Resource
from oracle.api.admin.fsps import fetch_default_country, fetch_rules
from oracle.api.admin.operations import operation
from oracle.api.admin.streams import READINGS, Streamed
from oracle.api.admin.times import read_time
from oracle.api.admin.values import AliasState
from oracle.api.history.questions import record
from oracle.identifiers import SCHEMES, BadIdentifier, Kind, PartyKey, Reading, find_scheme
from oracle.identifiers.prefix import bound_above
from oracle.imports.rows import COLUMNS
from oracle.store.lanes import Lane, fetch_portions
from oracle.store.queries import QUERIES
from oracle.store.rows import ExportedAliasRow
from oracle.verifier.spreadsheet import quote_formula

_CSV: Final = "text/csv"
_NDJSON: Final = "application/x-ndjson"

Form = Literal["csv", "ndjson", "aliases"]
Rows = Sequence[ExportedAliasRow]

_encode_lines: Final = msgspec.json.Encoder().encode_lines


class ImportRow(msgspec.Struct, omit_defaults=True, gc=False):
    """A line of an import file (oracle.imports.rows.COLUMNS), without the members that an export never fills."""

    kind: str
    identifier: str
    sub_id: str = ""
    currency: str = ""


class AliasLine(Resource, gc=False):
    """An alias as `listAliases` answers it, without `display`."""

    kind: str
    party_id_type: str
    identifier: str
    sub_id: str | None
    entries: list[AliasEntry]
    state: str
    hint: bool
    changed_at: datetime


def handlers() -> list[HTTPRouteHandler]:
    return [export_aliases]


@operation(
    "exportAliases",
    "GET",
    "/fsps/{fsp_id:str}/aliases/export",
    READERS,
    "Export the aliases of an FSP as one file, as they were at one moment",
    media_type=_CSV,
    also_as=(_NDJSON,),
)
async def export_aliases(
    call: NamedDependency[Call], reading: NamedDependency[Reading], state: State, fsp_id: FromPath[str],
    kind: FromQuery[Kind | None] = None,
    prefix: Prefix = None,
    currency: OfCurrency = None,
    wanted_state: Annotated[AliasState | None, QueryParameter(name="state")] = None,
    changed_from: Annotated[datetime | None, QueryParameter(name="changedFrom", description="From then on")] = None,
    changed_to: Annotated[datetime | None, QueryParameter(name="changedTo", description="Before then")] = None,
    form: Annotated[
        Form, QueryParameter(name="format", description="csv, ndjson: a file to import; aliases: an alias a line")
    ] = "csv",
) -> Streamed:  # fmt: skip
    """It has the aliases that `listAliases` lists with the same filters.  `Snapshot-At` has the time of the snapshot.

    `csv` and `ndjson` have the columns of an import file. `aliases` is NDJSON, one alias a line, without `display`.
    The answer is complete if its last chunk is.
    """
    since, until = read_time("changedFrom", changed_from), read_time("changedTo", changed_to)
    wanted = Filter.of(fsp_id, kind, wanted_state, since, until, currency, read_beginnings(reading, kind, prefix))
    status = (await fetch_rules(call.postgres.rows, fsp_id))["status"]
    asked = {"kind": kind, "prefix": prefix, "currency": wanted.currency, "state": wanted_state, "from": since,
             "to": until, "as": form}  # fmt: skip
    await record(call, "aliases", None, fsp_id, asked)
    default_country = await fetch_default_country(call.postgres.rows, fsp_id)
    write = {
        "csv": lambda: write_csv(reading, default_country),
        "ndjson": lambda: write_ndjson(reading, default_country),
        "aliases": lambda: write_aliases(reading, state_of(status)),
    }[form]()  # fmt: skip
    lasts_s: float = state.services.export_s
    export = Export(call.postgres.streams, wanted, write, lasts_s, is_empty=not is_wanted_state(wanted_state, status))
    head = f"{','.join(COLUMNS)}\n".encode() if form == "csv" else b""
    media_type = "text/csv; charset=utf-8" if form == "csv" else _NDJSON
    return Streamed(call, READINGS, export.parts(head), media_type, export.make_headers, lasts_s=lasts_s)


# What writes a line -------------------------------------------------------------------------------------------

# Each makes the bytes of some rows, all of one PartyIdType.  What they do for a row, they do ten million times.
Write = Callable[[str, Rows], bytes]


def write_csv(reading: Reading, default_country: str | None) -> Write:
    def write(party_id_type: str, rows: Rows) -> bytes:
        # Letters and digits alone need no quotes, and that is almost every identifier.
        lines = [
            f"{kind},{text if text.isalnum() else _quote(text)},{sub_id and _quote(sub_id)},{currency},,\n"
            for kind, text, sub_id, currency in _list_cells(reading, party_id_type, default_country, rows)
        ]
        return "".join(lines).encode()

    return write


def write_ndjson(reading: Reading, default_country: str | None) -> Write:
    def write(party_id_type: str, rows: Rows) -> bytes:
        cells = _list_cells(reading, party_id_type, default_country, rows)
        return _encode_lines([ImportRow(*each) for each in cells])

    return write


def _list_cells(
    reading: Reading, party_id_type: str, default_country: str | None, rows: Rows
) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, identifier, SubId and currency of each registered entry, as an import file has them.

    A stored telephone number has no +.  A few of these could also be numbers of a home country: with a + an import
    reads the same number again.
    """
    read_kind = _choose_kind_reader(reading, party_id_type)
    takes_country = find_scheme(party_id_type).takes_country
    read = reading.choose_reader(party_id_type, None, None, default_country) if takes_country else str
    kind = party_id_type
    for identifier, sub_id, currency, is_hint, _, further, _ in cast("Iterable[tuple[Any, ...]]", rows):
        if is_hint:
            continue
        try:
            written = identifier if read(identifier) == identifier else f"+{identifier}"
        except BadIdentifier:
            written = f"+{identifier}"
        if read_kind is not None:
            kind = read_kind(identifier)
        if currency is not None:
            yield kind, written, sub_id, currency
        for other in further or ():
            yield kind, written, sub_id, other


def _choose_kind_reader(reading: Reading, party_id_type: str) -> Callable[[str], str] | None:
    """Choose what reads the kind of an identifier; None where its PartyIdType has no narrower kind."""
    if all(scheme.is_plain for scheme in SCHEMES if scheme.party_id_type == party_id_type):
        return None
    return lambda identifier: reading.read_kind(PartyKey(party_id_type, identifier, ""))


def write_aliases(reading: Reading, state: str) -> Write:
    def write(party_id_type: str, rows: Rows) -> bytes:
        read_kind = _choose_kind_reader(reading, party_id_type)
        lines = []
        for row in rows:
            entries, identifier = _entries(row), row["identifier"]
            lines.append(
                AliasLine(
                    kind=party_id_type if read_kind is None else read_kind(identifier),
                    party_id_type=party_id_type,
                    identifier=identifier,
                    sub_id=row["sub_id"] or None,
                    entries=entries,
                    state=state,
                    hint=bool(row["is_hint"]),
                    changed_at=entries[0].changed_at if len(entries) == 1 else max(e.changed_at for e in entries),
                )
            )
        return _encode_lines(lines)

    return write


def _entries(row: ExportedAliasRow) -> list[AliasEntry]:
    found = []
    if row["currency"] is not None and row["changed_at"] is not None:
        found.append(AliasEntry(currency=row["currency"] or None, default=True, changed_at=row["changed_at"]))
    if row["further_currencies"]:
        further = zip(row["further_currencies"], row["further_changed_at"] or (), strict=True)
        found += [AliasEntry(currency=currency or None, default=False, changed_at=at) for currency, at in further]
    return found


def _quote(text: str) -> str:
    """Write a cell that a spreadsheet does not run, with quotes where CSV needs them."""
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow((quote_formula(text),))
    return written.getvalue()


# The snapshot -------------------------------------------------------------------------------------------------


class Export:
    """One export; it begins when its first part is asked for."""

    def __init__(self, streams: Lane, wanted: Filter, write: Write, lasts_s: float, *, is_empty: bool = False) -> None:
        self._streams = streams
        self._lasts_s = lasts_s
        self._wanted = wanted
        self._write = write
        self._is_empty = is_empty
        self._at: datetime | None = None

    def make_headers(self) -> dict[str, str]:
        """Make the headers that are known with the first part."""
        at = "" if self._at is None else self._at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return {"Snapshot-At": at}

    async def parts(self, head: bytes) -> AsyncGenerator[bytes]:
        limit_ms = str(int(self._lasts_s * 1000))
        async with (
            self._streams.lend(statement_timeout=limit_ms) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            self._at = await connection.fetchval(QUERIES["snapshot_time"])
            yield head
            for party_id_type, beginning in () if self._is_empty else self._wanted.beginnings:
                query, arguments = self._choose_query(party_id_type, beginning)
                async for rows in fetch_portions(connection, query, *arguments):
                    yield self._write(party_id_type, self._narrow(party_id_type, rows))

    def _choose_query(self, party_id_type: str, beginning: str) -> tuple[str, tuple[Any, ...]]:
        wanted = self._wanted
        place = (wanted.fsp_id, party_id_type, beginning, bound_above(beginning))
        if wanted.currency is not None:
            return QUERIES["aliases_export_in_currency"], (*place, wanted.since, wanted.until, wanted.currency)
        if wanted.is_of_all_times:
            return QUERIES["aliases_export"], place
        return QUERIES["aliases_export_changed"], (*place, wanted.since, wanted.until)

    def _narrow(self, party_id_type: str, rows: Rows) -> Rows:
        if self._wanted.takes_all:
            return rows
        return [row for row in rows if self._wanted.takes(PartyKey(party_id_type, row["identifier"], row["sub_id"]))]
