"""Streams how an FSP's aliases at one instant differ from those at another."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Meta

from oracle.api.admin.calls import Body, Call
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.api.admin.streams import READINGS, Streamed
from oracle.api.admin.times import read_time
from oracle.api.history.questions import OWN, from_query, record
from oracle.api.history.views import display_of
from oracle.identifiers import PartyKey, Reading
from oracle.store import history
from oracle.verifier.spreadsheet import quote_formula

_NDJSON: Final = "application/x-ndjson"
_CSV: Final = "text/csv"
_COLUMNS: Final = ("change", "kind", "identifier", "sub_id", "currencies_before", "currencies_after", "events")

_encode = msgspec.json.Encoder().encode


Found = AsyncGenerator[list[history.Difference]]


class DiffQuestion(Body):
    since: Annotated[datetime, Meta(description="The first instant")] = msgspec.field(name="from")
    until: Annotated[datetime, Meta(description="The second instant")] = msgspec.field(name="to")
    form: Annotated[Literal["csv", "ndjson"] | None, Meta(description="null: ndjson")] = msgspec.field(
        default=None, name="format"
    )


def handlers() -> list[HTTPRouteHandler]:
    return [read_diff]


@operation(
    "compareAliases",
    "GET",
    "/fsps/{fsp_id:str}/diff",
    OWN,
    "Compare an FSP's aliases at two times",
    media_type=_NDJSON,
    also_as=(_CSV,),
)
@from_query(DiffQuestion)
async def read_diff(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: DiffQuestion
) -> Streamed:
    """One line for each alias whose entries differ: `change` (added, removed, changed), `partyIdType`, `identifier`,
    `subId`, `kind` and `display` for people, `removed` and `added` (entries with `currency`, `default`, and `hint`
    where it is one), `eventIds`.  The order of the lines is not defined.
    The last line is `{"end": …}` with the counts: without it the answer is incomplete.
    `csv`: the same for a spreadsheet, with the identifier as people write it, and without the counts.
    """
    since, until = read_time("from", data.since), read_time("to", data.until)
    if since > until:
        raise Refusal(400, "invalid", "`from` is after `to`", "Swap `from` and `to`", field="from")
    await record(call, "diff", None, fsp_id, {"from": since, "to": until})
    found = history.stream_differences(call.postgres, fsp_id, since, until)
    if data.form == "csv":
        return Streamed(call, READINGS, _stream_table(reading, found), f"{_CSV}; charset=utf-8")
    end = {"fspId": fsp_id, "from": since, "to": until}
    return Streamed(call, READINGS, _stream_lines(reading, found, end), _NDJSON)


async def _stream_lines(reading: Reading, found: Found, end: dict[str, Any]) -> AsyncGenerator[bytes]:
    counts = {"added": 0, "removed": 0, "changed": 0}
    async with aclosing(found) as stream:
        async for differences in stream:
            lines = []
            for each in differences:
                change = _name_change(each)
                counts[change] += 1
                kind, display = _read_name(reading, each)
                lines.append(
                    _encode({
                        "change": change, "partyIdType": each.party_id_type, "identifier": each.identifier,
                        "subId": each.sub_id or None, "kind": kind, "display": display,
                        "removed": [_entry_of(entry) for entry in each.removed],
                        "added": [_entry_of(entry) for entry in each.added], "eventIds": each.event_ids,
                    })
                )  # fmt: skip
            yield b"".join(line + b"\n" for line in lines)
    yield _encode({"end": {**end, **counts}}) + b"\n"


async def _stream_table(reading: Reading, found: Found) -> AsyncGenerator[bytes]:
    yield ",".join(_COLUMNS).encode() + b"\r\n"
    async with aclosing(found) as stream:
        async for differences in stream:
            text = io.StringIO()
            writer = csv.writer(text)
            for each in differences:
                sides = (_list_currencies(each.removed), _list_currencies(each.added))
                events = " ".join(map(str, each.event_ids))
                cells = (_name_change(each), *_read_name(reading, each), each.sub_id, *sides, events)
                writer.writerow(map(quote_formula, cells))
            yield text.getvalue().encode()


def _name_change(difference: history.Difference) -> str:
    return "changed" if difference.removed and difference.added else "removed" if difference.removed else "added"


def _read_name(reading: Reading, difference: history.Difference) -> tuple[str, str]:
    """Return the kind, and the identifier as people write it."""
    kind = reading.read_kind(PartyKey(difference.party_id_type, difference.identifier, difference.sub_id))
    return kind, display_of(kind, difference.identifier)


def _list_currencies(entries: list[history.CurrencyEntry]) -> str:
    return " ".join(entry.currency or "any" for entry in entries)


def _entry_of(entry: history.CurrencyEntry) -> dict[str, Any]:
    found = {"currency": entry.currency or None, "default": entry.is_default}
    return {**found, "hint": True} if entry.is_hint else found
