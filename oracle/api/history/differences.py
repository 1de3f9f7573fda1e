"""Streams how an FSP's aliases at one instant differ from those at another."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

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

_encode = msgspec.json.Encoder().encode


class DiffQuestion(Body):
    since: Annotated[datetime, Meta(description="The first instant")] = msgspec.field(name="from")
    until: Annotated[datetime, Meta(description="The second instant")] = msgspec.field(name="to")


def handlers() -> list[HTTPRouteHandler]:
    return [read_diff]


@operation(
    "compareAliases",
    "GET",
    "/fsps/{fsp_id:str}/diff",
    OWN,
    "Compare an FSP's aliases at two times",
    media_type="application/x-ndjson",
)
@from_query(DiffQuestion)
async def read_diff(
    call: NamedDependency[Call], reading: NamedDependency[Reading], fsp_id: FromPath[str], data: DiffQuestion
) -> Streamed:
    """One line for each alias whose entries differ: `change` (added, removed, changed), `partyIdType`, `identifier`,
    `subId`, `kind` and `display` for people, `removed` and `added` (entries with `currency`, `default`, and `hint`
    where it is one), `eventIds`.  The last line is `{"end": …}` with the counts: without it the answer is incomplete.
    """
    since, until = read_time("from", data.since), read_time("to", data.until)
    if since > until:
        raise Refusal(400, "invalid", "`from` is after `to`", "Swap `from` and `to`", field="from")
    await record(call, "diff", None, fsp_id, {"from": since, "to": until})
    return Streamed(call, READINGS, _stream_lines(call, reading, fsp_id, since, until), "application/x-ndjson")


async def _stream_lines(
    call: Call, reading: Reading, fsp_id: str, since: datetime, until: datetime
) -> AsyncGenerator[bytes]:
    counts = {"added": 0, "removed": 0, "changed": 0}
    async with aclosing(history.stream_differences(call.postgres, fsp_id, since, until)) as stream:
        async for differences in stream:
            lines = []
            for each in differences:
                change = "changed" if each.removed and each.added else "removed" if each.removed else "added"
                counts[change] += 1
                kind = reading.read_kind(PartyKey(each.party_id_type, each.identifier, each.sub_id))
                lines.append(
                    _encode({
                        "change": change, "partyIdType": each.party_id_type, "identifier": each.identifier,
                        "subId": each.sub_id or None, "kind": kind,
                        "display": display_of(kind, each.identifier),
                        "removed": [_entry_of(entry) for entry in each.removed],
                        "added": [_entry_of(entry) for entry in each.added], "eventIds": each.event_ids,
                    })
                )  # fmt: skip
            yield b"".join(line + b"\n" for line in lines)
    yield _encode({"end": {"fspId": fsp_id, "from": since, "to": until, **counts}}) + b"\n"


def _entry_of(entry: history.CurrencyEntry) -> dict[str, Any]:
    found = {"currency": entry.currency or None, "default": entry.is_default}
    return {**found, "hint": True} if entry.is_hint else found
