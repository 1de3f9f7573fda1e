"""A list of routes as a file: all of it or nothing, every bad row told with its line.

CSV.            UTF-8, with `,` `;` or tab, the columns named in the first line: prefix, fspId, and kind (CLABE where
                there is none), validFrom, validTo, note.
Institutions.   The list of CLABE institutions as it is published is read as well: `abm_code` is the prefix, and what an
                institution is called becomes the note.  Whose prefix it is it does not say, so the operator does:
                    in a column fspId that he adds to it; institutions without are left alone;
                    or by `fspId` of the call, made of columns: `mx-{abm_code}`.
Unknown FSPs.   `unknownFsps`: refuse the list; skip their rows, where the list knows more institutions than this hub
                has; or create them, provisional, under the name in the list.
Again.          A rule that stands already, of the same FSP and for as long, is left as it is: next month's list can be
                imported over this month's.
Dry run.        The same answer, with the rules that the list would cut into or that cut into it; nothing changes.
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

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter
from msgspec import Meta

from oracle.api.admin.access import OPERATOR
from oracle.api.admin.calls import Answer, Call, Resource, answer, digest_of
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Problem, Refusal
from oracle.api.admin.routes import OVERLAPS_MAX, period, read_prefix
from oracle.identifiers import KINDS, Reading
from oracle.imports import cells
from oracle.imports.refusals import REFUSALS
from oracle.store.postgres import Transaction

ROWS_MAX: Final = 100_000
BYTES_MAX: Final = 16 * 1_048_576
TOLD_MAX: Final = 1_000
NOTE_MAX: Final = 256
NAME_MAX: Final = 128
# Rows of one statement: a fraction of the time that one may take.
CHUNK: Final = 2_500

T = TypeVar("T")
UnknownFsps = Literal["refuse", "skip", "create"]

_COLUMNS: Final = ("prefix", "fspid", "kind", "validfrom", "validto", "note", "name")
_INSTITUTION: Final = "abmcode"
_NAMES: Final = ("name", "namecatalogmx", "nameclabevalidator", "nameclabepython")
_fsp_id: Final = re.compile(r"(?!\.{1,2}\Z)[!-~]{1,32}").fullmatch
_placeholder: Final = re.compile(r"\{([^{}]*)\}")
_NOTHING_BUT_LETTERS: Final = re.compile(r"[^a-z0-9]")


class BadRow(Resource):
    line: int
    code: str
    message: str


class Cut(Resource):
    """A rule that stands and one of the list, of which the longer one wins."""

    line: int
    route_id: int
    prefix: Annotated[str, Meta(description="Of the rule that stands")]
    fsp_id: str
    relation: Annotated[Literal["shorter", "longer"], Meta(description="Than the prefix in the list")]


class RouteList(Resource):
    rows: Annotated[int, Meta(description="Of the list, bad ones included")]
    created: Annotated[int, Meta(description="Routes that are new, or would be")]
    unchanged: Annotated[int, Meta(description="Routes that stood already")]
    skipped: Annotated[int, Meta(description="Rows without an FSP, or of unknown ones")]
    fsps_created: Annotated[list[str], Meta(description="FSPs that are new, or would be")]
    bad: Annotated[list[BadRow], Meta(description=f"Up to {TOLD_MAX} of them; only in a dry run, else it is refused")]
    bad_rows: int
    would_overlap: Annotated[list[Cut], Meta(description=f"In a dry run: up to {OVERLAPS_MAX} of them")]
    overlaps: int


class RowsProblem(Problem, frozen=True, kw_only=True, rename="camel"):
    rows: list[BadRow]
    bad_rows: int


class RowsRefused(Refusal):
    """Nothing of the list is accepted."""

    def __init__(self, status: int, bad: list[BadRow]) -> None:
        message = f"Nothing is imported: rows that are refused: {len(bad)}"
        super().__init__(status, "rows_refused", message)
        rows = sorted(bad, key=lambda row: row.line)[:TOLD_MAX]
        self.problem = RowsProblem("rows_refused", message, "See rows", rows=rows, bad_rows=len(bad))


class _Row(NamedTuple):
    line: int
    party_id_type: str
    prefix: str
    fsp_id: str
    valid_from: datetime | None
    valid_to: datetime | None
    note: str | None
    fsp_name: str | None


class _Read(NamedTuple):
    rows: list[_Row]
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
    "POST", "/routes/import", OPERATOR, "Create the routes of a list, or of the list of CLABE institutions",
    answers=RouteList, takes="text/csv", streams=True,
)  # fmt: skip
async def import_routes(
    request: Request[Any, Any, Any],
    call: NamedDependency[Call],
    reading: NamedDependency[Reading],
    dry_run: Annotated[bool, QueryParameter(name="dryRun", description="Change nothing")] = False,
    unknown_fsps: Annotated[
        UnknownFsps, QueryParameter(name="unknownFsps", description="What to do with rows of FSPs that are not known")
    ] = "refuse",
    fsp_id: Annotated[
        str | None,
        QueryParameter(name="fspId", max_length=256, description="Made of the columns in braces: mx-{abm_code}"),
    ] = None,
    reason: FromQuery[str | None] = None,
) -> Response[bytes]:
    body = await _body(request)
    call.sha256 = digest_of(request, body)
    if reason is not None and not 1 <= len(reason) <= NOTE_MAX:
        raise Refusal(400, "invalid", "reason has 1 to 256 characters")
    found = await asyncio.to_thread(_read, body, reading, fsp_id)

    async def work(transaction: Transaction) -> Answer:
        return answer(await _applied(transaction, found, unknown_fsps, dry_run=dry_run))

    return await call.administer(work, reason=reason or "", settles=not dry_run)


async def _body(request: Request[Any, Any, Any]) -> bytes:
    body = bytearray()
    async for data in request.stream():
        body += data
        if len(body) > BYTES_MAX:
            raise Refusal(413, "too_large", "The list is larger than 16 MiB", "Import it in parts")
    return bytes(body)


# Into the directory -------------------------------------------------------------------------------------------


async def _applied(transaction: Transaction, found: _Read, unknown_fsps: UnknownFsps, *, dry_run: bool) -> RouteList:
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
        bad += [_bad(row.line, "unknown_fsp", "There is no such FSP.") for row in rows if row.fsp_id not in statuses]
    bad += [_bad(row.line, "fsp_closed", "The FSP is closed.") for row in known if statuses[row.fsp_id] == "closed"]
    # Without taking the turn, which would be long: a rule that comes in between is met by the insertion (RouteOverlap).
    standing = await _standing(transaction, known)
    bad += [
        _bad(known[at].line, "route_overlap", f"Route {other['route_id']} has this prefix at that time.")
        for at, other in standing.items()
        if not _stands(known[at], other)
    ]
    if bad and not dry_run:
        raise RowsRefused(400 if found.bad else 409, bad)
    wrong = {row.line for row in bad}
    new = [row for at, row in enumerate(known) if at not in standing and row.line not in wrong]
    cuts: list[Any] = []
    if dry_run:
        cuts = await _cuts(transaction, new)
    else:
        for at in range(0, len(new), CHUNK):
            await transaction.run("routes_add", *_columns(new[at : at + CHUNK]))
    return RouteList(
        rows=found.total, created=len(new), unchanged=sum(_stands(known[at], standing[at]) for at in standing),
        skipped=skipped, fsps_created=unknown if unknown_fsps == "create" else [],
        bad=sorted(bad, key=lambda row: row.line)[:TOLD_MAX], bad_rows=len(bad),
        would_overlap=[_cut(new[cut["ord"] - 1], cut) for cut in cuts], overlaps=cuts[0]["total"] if cuts else 0,
    )  # fmt: skip


async def _standing(transaction: Transaction, rows: list[_Row]) -> dict[int, Any]:
    """By the number of a row, the first rule of its prefix that is in its way, or in its place."""
    found: dict[int, Any] = {}
    for at in range(0, len(rows), CHUNK):
        types, prefixes, _, begins, ends, _ = _columns(rows[at : at + CHUNK])
        for other in await transaction.rows("routes_standing", types, prefixes, begins, ends):
            found.setdefault(at + other["ord"] - 1, other)
    return found


def _stands(row: _Row, other: Any) -> bool:
    return bool(other["covers"]) and other["fsp_id"] == row.fsp_id


async def _cuts(transaction: Transaction, rows: list[_Row]) -> list[Any]:
    """The rules that the list would meet: a sample, each with the number of all."""
    found: list[Any] = []
    total = 0
    for at in range(0, len(rows), CHUNK):
        types, prefixes, _, begins, ends, _ = _columns(rows[at : at + CHUNK])
        cuts = await transaction.rows("routes_cut", types, prefixes, begins, ends, OVERLAPS_MAX)
        total += cuts[0]["total"] if cuts else 0
        found += [dict(cut) | {"ord": at + cut["ord"]} for cut in cuts][: OVERLAPS_MAX - len(found)]
    for cut in found:
        cut["total"] = total
    return found


def _cut(row: _Row, cut: Any) -> Cut:
    relation: Literal["shorter", "longer"] = "shorter" if len(cut["prefix"]) < len(row.prefix) else "longer"
    return Cut(
        line=row.line, route_id=cut["route_id"], prefix=cut["prefix"], fsp_id=cut["fsp_id"], relation=relation
    )  # fmt: skip


def _columns(rows: list[_Row]) -> tuple[list[Any], ...]:
    """Types, prefixes, FSPs, from, to, notes."""
    return tuple([row[place] for row in rows] for place in range(1, 7))


# From the file ------------------------------------------------------------------------------------------------


def _read(body: bytes, reading: Reading, template: str | None) -> _Read:
    """Raises Refusal for what is no such list at all."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal(400, "not_text", "The list is not UTF-8", "Save it as CSV UTF-8") from None
    if "\0" in text:
        raise Refusal(400, "not_text", "The list is not text", "Save it as CSV UTF-8")
    lines = _lines(text)
    header = next(lines, (0, None))[1]
    if not isinstance(header, list):
        raise Refusal(400, "no_header", "The first line does not name the columns", "prefix,fspId,…")
    columns = [_NOTHING_BUT_LETTERS.sub("", cells.clean(cell).lower()) for cell in header]
    row_of = _Rows(columns, reading, template)
    rows: list[_Row] = []
    bad: list[BadRow] = []
    total = skipped = 0
    for line, fields in lines:
        total += 1
        if total > ROWS_MAX:
            raise Refusal(400, "too_many_rows", f"The list has more than {ROWS_MAX} rows", "Import it in parts")
        try:
            row = row_of(line, fields)
        except _Bad as exc:
            bad.append(_bad(line, exc.code, exc.message))
        else:
            skipped += row is None
            rows += [] if row is None else [row]
    return _Read(rows, bad + _meeting(rows), skipped, total)


def _lines(text: str) -> Iterator[tuple[int, list[str] | None]]:
    """The lines that hold anything, each with its number; None for one whose quotes do not match: it ends the list."""
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


class _Rows:
    """Makes rows of the fields of a line."""

    def __init__(self, columns: list[str], reading: Reading, template: str | None) -> None:
        """Raises Refusal for columns that are not those of a list."""
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
            raise _header("duplicate_column", "A column stands twice in the first line")
        if "prefix" not in self._at:
            raise _header("missing_column", "There is no column prefix")
        if template is None and "fspid" not in self._at:
            raise _header("missing_column", "There is no column fspId, and fspId does not name FSPs, as mx-{abm_code}")
        if is_own and not set(self._at) <= set(_COLUMNS):
            raise _header("unknown_column", "A column is not known")
        if not set(self._placeholders) <= set(self._at):
            raise _header("missing_column", "fspId of the call names a column that is not there")

    def __call__(self, line: int, fields: list[str] | None) -> _Row | None:
        """None for a row without an FSP, where that may be.  Raises _Bad."""
        if fields is None:
            raise _Bad("bad_quoting", REFUSALS["bad_quoting"])
        if len(fields) > self._width:
            raise _Bad("too_many_fields", "The line has more fields than the first one.")
        self._fields = [cells.clean(field) for field in fields] + [""] * (self._width - len(fields))
        fsp_id = self._fsp_id()
        if not fsp_id and (self._of_institutions or self._template is not None):
            return None
        if not _fsp_id(fsp_id):
            raise _Bad("bad_fsp_id", "The FSP id is not 1 to 32 visible ASCII characters.")
        kind = self._cell("kind").upper() or "CLABE"
        if kind not in KINDS:
            raise _Bad("unknown_kind", "The kind is not known. Write CLABE, for example.")
        party_id_type, prefix = self._prefix(kind)
        begins, ends = self._period()
        name = next((self._cell(column) for column in _NAMES if self._cell(column)), "")[:NAME_MAX] or None
        note = self._cell("note") or name
        if note is not None and len(note) > NOTE_MAX:
            raise _Bad("too_long", "The note has more than 256 characters.")
        return _Row(line, party_id_type, prefix, fsp_id, begins, ends, note, name)

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

    def _prefix(self, kind: str) -> tuple[str, str]:
        text = self._cell("prefix")
        wrong = cells.find_fault(text, kind)
        if wrong is not None:
            raise _Bad(wrong, REFUSALS[wrong])
        return _or_bad(lambda: read_prefix(self._reading, kind, text))

    def _period(self) -> tuple[datetime | None, datetime | None]:
        begins, ends = _time(self._cell("validfrom")), _time(self._cell("validto"))
        return _or_bad(lambda: period(begins, ends))


def _or_bad(read: Callable[[], T]) -> T:
    try:
        return read()
    except Refusal as exc:
        raise _Bad(exc.problem.code, f"{exc.problem.message}. {exc.problem.hint}.") from None


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise _Bad("bad_time", "A time is not RFC 3339 with its zone. Write 2027-01-01T00:00:00-06:00, for example.")
    return at


def _header(code: str, message: str) -> Refusal:
    return Refusal(400, code, message, "prefix,fspId[,kind,validFrom,validTo,note], or the list of institutions")


def _bad(line: int, code: str, message: str) -> BadRow:
    return BadRow(line=line, code=code, message=message)


def _meeting(rows: list[_Row]) -> list[BadRow]:
    """Rows of one prefix that hold at the same time."""
    now, never = datetime.now(UTC), datetime.max.replace(tzinfo=UTC)
    by_prefix: dict[tuple[str, str], list[tuple[datetime, datetime, int]]] = {}
    for row in rows:
        of_prefix = by_prefix.setdefault((row.party_id_type, row.prefix), [])
        of_prefix.append((row.valid_from or now, row.valid_to or never, row.line))
    bad = []
    for of_prefix in by_prefix.values():
        of_prefix.sort()
        for (_, before_ends, before), (begins, _, line) in pairwise(of_prefix):
            if begins < before_ends:
                bad.append(_bad(line, "route_overlap", f"Line {before} has this prefix at that time."))
    return bad
