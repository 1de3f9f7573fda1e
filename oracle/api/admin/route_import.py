"""Import a list of routes from a file: all of it or nothing, with the line of every bad row.

CSV.            UTF-8, with `,` `;` or tab; the first line names the columns: prefix, fspId, and kind (default: CLABE),
                validFrom, validTo, note.
Institutions.   The published list of CLABE institutions is read as well: `abm_code` is the prefix, and the name of an
                institution becomes the note.  That list does not name FSPs, so the operator does:
                    in an added column fspId; institutions without one are left alone;
                    or by `fspId` of the call, made of columns: `mx-{abm_code}`.
Unknown FSPs.   `unknownFsps`: refuse the list; skip their rows, where the list has more institutions than this hub; or
                create them, provisional, under the name in the list.
Again.          An existing route of the same kind and FSP and of at least the same period stays as it is: next month's
                list can be imported over this month's.
Dry run.        The same answer, with the routes that the list would overlap; nothing changes.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from msgspec import Meta

from oracle.api.admin.access import OPERATOR
from oracle.api.admin.calls import Call, Resource, answer, digest_of
from oracle.api.admin.codes import ROUTE_ROWS, Code
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import NOT_A_TIME, Problem, Refusal
from oracle.api.admin.routes import OVERLAPS_MAX, RELATIONS, Relation, read_period, read_prefix, relate
from oracle.api.admin.values import LINE_PATTERN, NOTE_MAX
from oracle.identifiers import KINDS, Kind, Reading
from oracle.identifiers.prefix import RoutePrefix
from oracle.identity.identity import is_fsp_id
from oracle.imports import cells
from oracle.imports.refusals import REFUSALS
from oracle.sentences import Sentence
from oracle.store.postgres import Transaction

ROWS_MAX: Final = 100_000
BYTES_MAX: Final = 16 * 1_048_576
REPORTED_MAX: Final = 1_000
NAME_MAX: Final = 128
# Rows of one statement: a fraction of the time that one may take.
CHUNK: Final = 2_500

T = TypeVar("T")
UnknownFsps = Literal["refuse", "skip", "create"]

_COLUMNS: Final = ("prefix", "fspid", "kind", "validfrom", "validto", "note", "name")
_INSTITUTION: Final = "abmcode"
_NAMES: Final = ("name", "namecatalogmx", "nameclabevalidator", "nameclabepython")
_placeholder: Final = re.compile(r"\{([^{}]*)\}")
_NOTHING_BUT_LETTERS: Final = re.compile(r"[^a-z0-9]")


class BadRow(Resource):
    line: int
    code: str
    message: Sentence


class RowOverlap(Resource):
    """An existing route and a row of the list that match the same identifiers; the longer prefix wins."""

    line: int
    route_id: int
    kind: Annotated[Kind, Meta(description="The kind of the existing route")]
    prefix: Annotated[str, Meta(description="The prefix of the existing route")]
    fsp_id: str
    relation: Annotated[Relation, Meta(description=RELATIONS)]


class RouteList(Resource):
    rows: Annotated[int, Meta(description="Rows of the list, bad ones included")]
    created: Annotated[int, Meta(description="The number of added routes; in a dry run, of those that would be added")]
    unchanged: Annotated[int, Meta(description="Routes that exist already")]
    skipped: Annotated[int, Meta(description="Rows without an FSP, or of an unknown FSP")]
    fsps_created: Annotated[list[str], Meta(description="The created FSPs; in a dry run, those that would be created")]
    bad: Annotated[
        list[BadRow],
        Meta(description=f"In a dry run: up to {REPORTED_MAX} bad rows.  Without one, a bad row refuses the list"),
    ]
    bad_rows: Annotated[int, Meta(description="How many bad rows there are in all")]
    would_overlap: Annotated[list[RowOverlap], Meta(description=f"In a dry run: up to {OVERLAPS_MAX} overlaps")]
    overlaps: Annotated[int, Meta(description="In a dry run: how many overlaps there are in all")]


class RowsProblem(Problem, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    rows: list[BadRow]
    bad_rows: int


class RowsRefused(Refusal):
    """Nothing of the list is accepted."""

    def __init__(self, status: int, bad: list[BadRow]) -> None:
        super().__init__(
            status, "rows_refused", f"Nothing was imported: {len(bad)} rows are refused",
            "Correct the rows that `rows` lists, then import the whole list again",
        )  # fmt: skip
        self._bad = bad

    def problem(self) -> Problem:
        rows = sorted(self._bad, key=lambda row: row.line)[:REPORTED_MAX]
        return RowsProblem(**msgspec.structs.asdict(super().problem()), rows=rows, bad_rows=len(self._bad))


class _RouteLine(NamedTuple):
    line: int
    party_id_type: str
    kind: str
    prefix: str
    fsp_id: str
    valid_from: datetime | None
    valid_to: datetime | None
    note: str | None
    fsp_name: str | None


class _ParsedFile(NamedTuple):
    rows: list[_RouteLine]
    bad: list[BadRow]
    skipped: int
    total: int


class _Bad(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code, self.message = code, message


def handlers() -> list[HTTPRouteHandler]:
    return [import_routes]


@operation(
    "importRoutes",
    "POST",
    "/routes/import",
    OPERATOR,
    "Import routes from a list",
    answers=RouteList,
    takes="text/csv",
    streams=True,
)
async def import_routes(
    request: Request[Any, Any, Any],
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    dry_run: Annotated[bool, QueryParameter(name="dryRun", description="Change nothing")] = False,
    unknown_fsps: Annotated[
        UnknownFsps, QueryParameter(name="unknownFsps", description="What to do with rows of unknown FSPs")
    ] = "refuse",
    fsp_id: Annotated[
        str | None,
        QueryParameter(
            name="fspId",
            max_length=256,
            description="The FSP id of rows without one; braces hold the name of a column: mx-{abm_code}",
        ),
    ] = None,
    reason: Annotated[str | None, QueryParameter(min_length=1, max_length=NOTE_MAX, pattern=LINE_PATTERN)] = None,
) -> Response[bytes]:
    """A CSV file with the columns prefix and fspId, and if you like kind, validFrom, validTo and note; or the published
    list of CLABE institutions.
    """
    body = await _read_body(request)
    call.sha256 = digest_of(request, body)
    parsed = await asyncio.to_thread(_parse, body, reading, fsp_id)

    async def work(transaction: Transaction) -> Answer:
        return answer(await _apply(transaction, parsed, unknown_fsps, dry_run=dry_run))

    return await call.administer(work, reason=reason or "", settles=not dry_run, keeps=not dry_run)


async def _read_body(request: Request[Any, Any, Any]) -> bytes:
    body = bytearray()
    async for data in request.stream():
        body += data
        if len(body) > BYTES_MAX:
            raise Refusal(413, "too_large", "The list is larger than 16 MiB", "Divide it into parts")
    return bytes(body)


# Into the directory -------------------------------------------------------------------------------------------


async def _apply(
    transaction: Transaction, found: _ParsedFile, unknown_fsps: UnknownFsps, *, dry_run: bool
) -> RouteList:
    """Raises RowsRefused."""
    rows, bad = found.rows, list(found.bad)
    named = sorted({row.fsp_id for row in rows})
    statuses = {row["fsp_id"]: row["status"] for row in await transaction.rows("route_fsps", named)}
    unknown = [fsp_id for fsp_id in named if fsp_id not in statuses]
    if unknown and unknown_fsps == "create":
        if not dry_run:
            names = {row.fsp_id: row.fsp_name for row in reversed(rows)}
            await transaction.run("route_fsps_add", unknown, [names[fsp_id] for fsp_id in unknown])
        statuses |= dict.fromkeys(unknown, "provisional")
    known = [row for row in rows if row.fsp_id in statuses]
    skipped = found.skipped + (len(rows) - len(known) if unknown_fsps == "skip" else 0)
    if unknown_fsps == "refuse":
        bad += [_bad(row.line, "unknown_fsp") for row in rows if row.fsp_id not in statuses]
    bad += [_bad(row.line, "fsp_closed") for row in known if statuses[row.fsp_id] == "closed"]
    # Without taking the turn, which would be long: the insertion refuses a route that comes in between (RouteOverlap).
    existing = await _fetch_existing(transaction, known)
    bad += [
        _bad(known[at].line, "route_overlap", f"Route {other['route_id']} has this kind and prefix at that time.")
        for at, other in existing.items()
        if not _is_same(known[at], other)
    ]
    if bad and not dry_run:
        raise RowsRefused(400 if found.bad else 409, bad)
    wrong = {row.line for row in bad}
    new = [row for at, row in enumerate(known) if at not in existing and row.line not in wrong]
    overlaps: list[Any] = []
    if dry_run:
        overlaps = await _fetch_overlaps(transaction, new)
    else:
        for at in range(0, len(new), CHUNK):
            await transaction.run("routes_add", *_columns(new[at : at + CHUNK]))
    return RouteList(
        rows=found.total, created=len(new), unchanged=sum(_is_same(known[at], existing[at]) for at in existing),
        skipped=skipped, fsps_created=unknown if unknown_fsps == "create" else [],
        bad=sorted(bad, key=lambda row: row.line)[:REPORTED_MAX], bad_rows=len(bad),
        would_overlap=[_overlap(new[found["ord"] - 1], found) for found in overlaps],
        overlaps=overlaps[0]["total"] if overlaps else 0,
    )  # fmt: skip


async def _fetch_existing(transaction: Transaction, rows: list[_RouteLine]) -> dict[int, Any]:
    """Find for each row number the first route with its prefix at its time."""
    found: dict[int, Any] = {}
    for at in range(0, len(rows), CHUNK):
        types, kinds, prefixes, _, begins, ends, _ = _columns(rows[at : at + CHUNK])
        for other in await transaction.rows("routes_same_prefix", types, kinds, prefixes, begins, ends):
            found.setdefault(at + other["ord"] - 1, other)
    return found


def _is_same(row: _RouteLine, other: Any) -> bool:
    return bool(other["covers"]) and other["fsp_id"] == row.fsp_id


async def _fetch_overlaps(transaction: Transaction, rows: list[_RouteLine]) -> list[Any]:
    """Find the routes that the list would overlap: a sample, each with the number of all."""
    found: list[Any] = []
    total = 0
    for at in range(0, len(rows), CHUNK):
        types, kinds, prefixes, _, begins, ends, _ = _columns(rows[at : at + CHUNK])
        cuts = await transaction.rows("routes_cut", types, kinds, prefixes, begins, ends, OVERLAPS_MAX)
        total += cuts[0]["total"] if cuts else 0
        found += [dict(cut) | {"ord": at + cut["ord"]} for cut in cuts][: OVERLAPS_MAX - len(found)]
    for cut in found:
        cut["total"] = total
    return found


def _overlap(row: _RouteLine, other: Any) -> RowOverlap:
    return RowOverlap(
        line=row.line, route_id=other["route_id"], kind=other["kind"], prefix=other["prefix"], fsp_id=other["fsp_id"],
        relation=relate(other["prefix"], row.prefix),
    )  # fmt: skip


def _columns(rows: list[_RouteLine]) -> tuple[list[Any], ...]:
    """Types, kinds, prefixes, FSPs, from, to, notes."""
    return tuple([row[place] for row in rows] for place in range(1, 8))


# From the file ------------------------------------------------------------------------------------------------


def _parse(body: bytes, reading: Reading, template: str | None) -> _ParsedFile:
    """Raises Refusal for a file that is not a list of routes at all."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal(400, "not_text", "The list is not in UTF-8", "Save it as CSV UTF-8") from None
    if "\0" in text:
        raise Refusal(400, "not_text", "The list is not text", "Save it as CSV UTF-8")
    lines = _lines(text)
    header = next(lines, (0, None))[1]
    if not isinstance(header, list):
        raise Refusal(400, "no_header", "The first line does not name the columns", "Begin with prefix,fspId,…")
    columns = [_NOTHING_BUT_LETTERS.sub("", cells.clean(cell).lower()) for cell in header]
    row_of = _RouteLines(columns, reading, template)
    rows: list[_RouteLine] = []
    bad: list[BadRow] = []
    total = skipped = 0
    for line, fields in lines:
        total += 1
        if total > ROWS_MAX:
            raise Refusal(400, "too_many_rows", f"The list has more than {ROWS_MAX} rows", "Divide it into parts")
        try:
            row = row_of(line, fields)
        except _Bad as exc:
            bad.append(_bad(line, exc.code, exc.message))
        else:
            skipped += row is None
            rows += [] if row is None else [row]
    return _ParsedFile(rows, bad + _find_conflicts(rows), skipped, total)


def _lines(text: str) -> Iterator[tuple[int, list[str] | None]]:
    """Read the lines that are not empty, each with its number.  One with unmatched quotes is None and the last."""
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield line, None
            return
        if any(field.strip() for field in fields):
            yield line, fields


class _RouteLines:
    """Makes a route line of the fields of a line."""

    def __init__(self, columns: list[str], reading: Reading, template: str | None) -> None:
        """Raises Refusal for wrong columns."""
        self._reading = reading
        self._of_institutions = _INSTITUTION in columns
        self._at = {name: columns.index(name) for name in columns if name}
        if "prefix" not in self._at and self._of_institutions:
            self._at["prefix"] = self._at[_INSTITUTION]
        self._width = len(columns)
        self._template = template
        self._placeholders = [
            _NOTHING_BUT_LETTERS.sub("", name.lower()) for name in _placeholder.findall(template or "")
        ]
        is_own = not self._of_institutions and template is None
        if len(self._at) < len([name for name in columns if name]):
            raise _header("duplicate_column", "The first line names a column twice")
        if "prefix" not in self._at:
            raise _header("missing_column", "The column prefix is missing")
        if template is None and "fspid" not in self._at:
            raise _header(
                "missing_column", "The column fspId is missing; or set fspId in the call, for example mx-{abm_code}"
            )
        if is_own and not set(self._at) <= set(_COLUMNS):
            raise _header("unknown_column", "The first line names an unknown column")
        if not set(self._placeholders) <= set(self._at):
            raise _header("missing_column", "fspId of the call names a column that the list does not have")

    def __call__(self, line: int, fields: list[str] | None) -> _RouteLine | None:
        """Read one line; None for a row without an FSP, where the list allows that.  Raises _Bad."""
        if fields is None:
            raise _Bad("bad_quoting", REFUSALS["bad_quoting"])
        if len(fields) > self._width:
            raise _Bad("too_many_fields", "The line has more fields than the first one.")
        self._fields = [cells.clean(field) for field in fields] + [""] * (self._width - len(fields))
        fsp_id = self._fsp_id()
        if not fsp_id and (self._of_institutions or self._template is not None):
            return None
        if not is_fsp_id(fsp_id):
            raise _Bad("bad_fsp_id", ROUTE_ROWS["bad_fsp_id"])
        kind = self._cell("kind").upper() or "CLABE"
        if kind not in KINDS:
            raise _Bad("unknown_kind", "The kind is not known. Write CLABE, for example.")
        prefix = self._prefix(kind)
        begins, ends = self._period()
        name = next((self._cell(column) for column in _NAMES if self._cell(column)), "")[:NAME_MAX] or None
        note = self._cell("note") or name
        if note is not None and len(note) > NOTE_MAX:
            raise _Bad("too_long", "The note has more than 256 characters.")
        return _RouteLine(line, *prefix, fsp_id, begins, ends, note, name)

    def _cell(self, column: str) -> str:
        at = self._at.get(column)
        return "" if at is None else self._fields[at]

    def _fsp_id(self) -> str:
        if self._template is None:
            return self._cell("fspid")
        if not all(self._cell(column) for column in self._placeholders):
            return ""
        named = iter(self._placeholders)
        return _placeholder.sub(lambda _: self._cell(next(named)), self._template)

    def _prefix(self, kind: str) -> RoutePrefix:
        text = self._cell("prefix")
        wrong = cells.find_fault(text, kind)
        if wrong is not None:
            raise _Bad(wrong, REFUSALS[wrong])
        return _catch_refusal(lambda: read_prefix(self._reading, kind, text))

    def _period(self) -> tuple[datetime | None, datetime | None]:
        begins, ends = _read_time(self._cell("validfrom")), _read_time(self._cell("validto"))
        return _catch_refusal(lambda: read_period(begins, ends))


def _catch_refusal(read: Callable[[], T]) -> T:
    try:
        return read()
    except Refusal as exc:
        raise _Bad(exc.code, f"{exc.detail}. {exc.hint}.") from None


def _read_time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise _Bad("bad_time", f"{NOT_A_TIME}.")
    return at


def _header(code: Code, detail: str) -> Refusal:
    hint = "Use prefix,fspId[,kind,validFrom,validTo,note], or the published list of institutions"
    return Refusal(400, code, detail, hint)


def _bad(line: int, code: str, message: str = "") -> BadRow:
    return BadRow(line=line, code=code, message=message or ROUTE_ROWS[code])


def _find_conflicts(rows: list[_RouteLine]) -> list[BadRow]:
    """Find rows with one kind and prefix that are valid at the same time."""
    now, never = datetime.now(UTC), datetime.max.replace(tzinfo=UTC)
    by_prefix: dict[tuple[str, str], list[tuple[datetime, datetime, int]]] = {}
    for row in rows:
        of_prefix = by_prefix.setdefault((row.kind, row.prefix), [])
        of_prefix.append((row.valid_from or now, row.valid_to or never, row.line))
    bad = []
    for of_prefix in by_prefix.values():
        of_prefix.sort()
        for (_, before_ends, before), (begins, _, line) in pairwise(of_prefix):
            if begins < before_ends:
                bad.append(_bad(line, "route_overlap", f"Line {before} has this kind and prefix at that time."))
    return bad
