"""Starts verifications of the history by the service itself, and shows how they go and what they found.

It finds what somebody did to the database behind the service.  It proves nothing to a person who does not trust the
service: that person verifies an export elsewhere (`oracle-verify`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from oracle.api.admin.calls import Body, Call, Resource, answer
from oracle.api.admin.keeping import Answer
from oracle.api.admin.operations import operation
from oracle.api.admin.pages import PAGE, Cursor, Cursors, Limit
from oracle.api.admin.people import NOBODY, Person, fetch_people
from oracle.api.admin.problems import Refusal
from oracle.api.history.questions import AUDIT, record
from oracle.audit.verifications import read_listed
from oracle.sentences import FindingText
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from oracle.store.postgres import Transaction

KEPT_MAX: Final = 100
_NUMBER_MAX: Final = (1 << 63) - 1


class NewVerification(Body):
    directory: Annotated[
        bool, Meta(description="Also replay all events, and compare the result with the directory")
    ] = True


class VerificationFinding(Resource):
    kind: Annotated[str, Meta(description="What is wrong: altered, removed, inserted, alias, fsp …")]
    text: Annotated[FindingText, Meta(description="Where it is; it can hold an identifier")]
    event_ids: Annotated[list[int], Meta(description="The events that the text names")]


class VerificationSummary(Resource):
    """One verification, without what it found."""

    verification_id: int
    state: Literal["waiting", "running", "done", "stopped", "failed"]
    directory: bool
    asked_by: str
    asked_by_name: str | None
    asked_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    stopped_by: str | None
    stopped_by_name: str | None
    leaves: Annotated[int, Meta(description="Events of the log, when it began")]
    leaves_read: int
    rows_read: Annotated[int, Meta(description="Rows of the directory, and events about them")]
    findings: Annotated[int, Meta(description="How many things are wrong, so far")]


class VerificationReport(VerificationSummary):
    listed: Annotated[list[VerificationFinding], Meta(description="The first 200 things that are wrong")]


class BackgroundComparison(Resource):
    """The comparison of the directory with its events that the jobs process repeats by itself."""

    compared_at: Annotated[datetime | None, Meta(description="Its last end; null: none since the start, or elsewhere")]
    differences: Annotated[int | None, Meta(description="null: not known here")]


class VerificationPage(Resource):
    items: Annotated[list[VerificationSummary], Meta(description="The newest first")]
    next: str | None
    background: BackgroundComparison


def handlers() -> list[HTTPRouteHandler]:
    return [start_verification, list_verifications, read_verification, stop_verification]


@operation(
    "startVerification",
    "POST",
    "/verifications",
    AUDIT,
    "Let the service verify the history, and compare the directory with it",
    answers=VerificationReport,
    status=201,
)
async def start_verification(call: NamedDependency[Call], data: JSONBody[NewVerification]) -> Response[bytes]:
    await record(call, "verification", None, None, {"directory": data.directory})

    async def work(transaction: Transaction) -> Answer:
        asked = await transaction.rows("verification_ask", data.directory, call.caller.actor)
        if not asked:
            raise Refusal(
                409, "already_running", "A verification waits or runs already", "Wait for its end, or stop it"
            )
        await transaction.run("verifications_drop", KEPT_MAX)
        (row,) = await transaction.rows("verification", asked[0][0])
        people = await fetch_people(call.postgres.rows, {row["asked_by"]}, call.fsp_ids)
        return answer(_make_report(row, people), status=201)

    return await call.administer(work)


@operation(
    "listVerifications",
    "GET",
    "/verifications",
    AUDIT,
    "List the verifications of the history, the newest first",
    answers=VerificationPage,
)
async def list_verifications(
    call: NamedDependency[Call], counters: NamedDependency[Metrics], limit: Limit = PAGE, cursor: Cursor = None
) -> Response[bytes]:
    cursors = Cursors(call.caller, "verifications")
    below = cursors.open(cursor, int)
    rows = await call.postgres.rows("verifications_page", _NUMBER_MAX if below is None else below, limit)
    people = await _fetch_people(call, rows)
    items = [VerificationSummary(**_describe(row, people)) for row in rows]
    following = cursors.close(items[-1].verification_id) if len(items) == limit else None
    return call.read_page(VerificationPage(items=items, next=following, background=_read_background(counters)))


@operation(
    "getVerification",
    "GET",
    "/verifications/{verification_id:int}",
    AUDIT,
    "Read how a verification of the history goes, and what it found",
    answers=VerificationReport,
)
async def read_verification(call: NamedDependency[Call], verification_id: FromPath[int]) -> Response[bytes]:
    return await _read(call, verification_id)


@operation(
    "stopVerification",
    "POST",
    "/verifications/{verification_id:int}/stop",
    AUDIT,
    "Stop a verification of the history that waits or runs",
    answers=VerificationReport,
    unversioned=True,
)
async def stop_verification(call: NamedDependency[Call], verification_id: FromPath[int]) -> Response[bytes]:
    """One that has ended stays as it is."""
    if abs(verification_id) <= _NUMBER_MAX:
        await call.postgres.note("verification_stop", verification_id, call.caller.actor)
    return await _read(call, verification_id)


async def _read(call: Call, number: int) -> Response[bytes]:
    row = await call.postgres.row("verification", number) if abs(number) <= _NUMBER_MAX else None
    if row is None:
        raise Refusal(404, "not_found", "No such verification", "List the verifications to see their numbers")
    return call.read(_make_report(row, await _fetch_people(call, [row])))


async def _fetch_people(call: Call, rows: list[Any]) -> dict[str | None, Person]:
    actors = {row[name] for row in rows for name in ("asked_by", "stopped_by")}
    return await fetch_people(call.postgres.rows, actors, call.fsp_ids)


def _make_report(row: Any, people: dict[str | None, Person]) -> VerificationReport:
    listed = [VerificationFinding(kind=one.kind, text=one.text, event_ids=one.event_ids)
              for one in read_listed(row["listed"])]  # fmt: skip
    return VerificationReport(**_describe(row, people), listed=listed)


def _describe(row: Any, people: dict[str | None, Person]) -> dict[str, Any]:
    names = (
        "verification_id", "state", "directory", "asked_by", "asked_at", "begun_at", "ended_at", "stopped_by", "leaves",
        "leaves_read", "rows_read", "findings",
    )  # fmt: skip
    return {
        **{name: row[name] for name in names},
        "asked_by_name": people.get(row["asked_by"], NOBODY).name,
        "stopped_by_name": people.get(row["stopped_by"], NOBODY).name,
    }


def _read_background(counters: Metrics) -> BackgroundComparison:
    at = counters.read_gauge("audit_directory_compared_timestamp_seconds")
    differences = counters.read_gauge("audit_directory_differences")
    return BackgroundComparison(
        compared_at=None if isnan(at) or at <= 0 else datetime.fromtimestamp(at, UTC),
        differences=None if isnan(differences) else int(differences),
    )
