"""Streams the sealed events that somebody wants, each with its leaf index.

PostgreSQL numbers the events and leaves out the others, so this process reads few rows for few events.

Few.     Where an FSP or an entity has few events, only the batches that hold them are read.
Period.  Events are sealed in the order of their transactions, and a transaction can stay open for long.  So events of a
         period can come late in the log.  At first, and after portions without any, it asks whether there are more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from oracle.audit import log
from oracle.audit.log import START, Bound, Era
from oracle.store.lanes import PORTION_MAX_S
from oracle.store.queries import QUERIES
from oracle.verifier import leaf

PORTION_LEAVES: Final = 65_536  # of one query, and of one snapshot
FEW: Final = 1_000  # events whose batches are looked up
_BATCHES: Final = 4_096  # rows of the list of batches that are read at once
# The question reads the whole period if the answer is no.
_REST_SETTINGS: Final = {
    "enable_bitmapscan": "on", "enable_indexscan": "off", "enable_indexonlyscan": "off", "statement_timeout": "3000",
}  # fmt: skip


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events; None accepts any value.  Events by which an FSP lost an alias belong to its history, too."""

    fsp_id: str | None = None
    entity: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is read at once."""

    portion_leaves: int = PORTION_LEAVES
    few: int = FEW


LIMITS: Final = Limits()


class _Portion(NamedTuple):
    """Batches of one era, one behind the other."""

    era: int
    first: int
    end: int
    after: Bound  # of the batch before
    until: Bound


async def stream_wanted(
    connection: asyncpg.Connection, begin: int, end: int, wanted: Wanted, limits: Limits = LIMITS
) -> AsyncGenerator[list[tuple[int, bytes]]]:
    """Stream the leaf indexes and lines of wanted events among the leaves [begin, end), some thousand at once.

    Close it (`aclosing`) when you leave early.  Raises LookupError where events are missing.
    """
    eras = {era.number: era for era in await log.fetch_eras(connection)}
    few = await _find_few(connection, wanted, limits.few)
    source = _list_portions(connection, begin, end, limits.portion_leaves) if few is None else _repeat(few)
    rest = _Rest(connection, wanted)
    if eras and not await rest.has_more(eras[min(eras)], START):
        return
    async with aclosing(source) as portions:
        async for portion in portions:
            if portion.end <= begin or portion.first >= end:
                continue
            found = 0
            async with aclosing(_stream_portion(connection, eras[portion.era], portion, wanted)) as stream:
                async for rows in stream:
                    inside = [(index, line) for index, line in rows if begin <= index < end]
                    found += len(inside)
                    if inside:
                        yield inside
            if not found and not await rest.has_more(eras[portion.era], portion.until):
                return


async def _stream_portion(
    connection: asyncpg.Connection, era: Era, portion: _Portion, wanted: Wanted
) -> AsyncGenerator[list[tuple[int, bytes]]]:
    last = portion.end - portion.first - 1
    span = (str(portion.after.xact), portion.after.event_id, str(portion.until.xact), portion.until.event_id)
    ids = (era.after_event_id, log.LAST if era.until_event_id is None else era.until_event_id)
    filters = (wanted.fsp_id, wanted.entity, wanted.since, wanted.until)
    place = -1
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        sql = QUERIES["audit_wanted"]
        cursor = await connection.cursor(sql, *span, *ids, *filters, last, timeout=PORTION_MAX_S)
        while rows := await cursor.fetch(log.CHUNK, timeout=PORTION_MAX_S):
            place = rows[-1]["place"]
            yield [
                (portion.first + row["place"], leaf.line(tuple(row)[:-2]))
                for row in rows
                if row["is_wanted"] and row["place"] <= last
            ]
    if place < last:
        raise LookupError("events are missing: run oracle audit verify")


# Which batches ------------------------------------------------------------------------------------------------------


async def _find_few(connection: asyncpg.Connection, wanted: Wanted, most: int) -> list[_Portion] | None:
    """Find the batches of the wanted events, by an FSP or an entity that has at most so many events; else None."""
    entity = None if wanted.entity == "alias" else wanted.entity
    for asked in ((None, entity), (wanted.fsp_id, None)):
        if asked != (None, None):
            rows = await connection.fetch(QUERIES["audit_batches_of_few"], *asked, most)
            if rows[0]["events"] <= most:
                return [_read_batch(row, _read_bound(row)) for row in rows if row["first_leaf"] is not None]
    return None


async def _list_portions(connection: asyncpg.Connection, begin: int, end: int, leaves: int) -> AsyncGenerator[_Portion]:
    at, last = begin, None
    while at < end:
        rows = await connection.fetch(QUERIES["audit_batches_from"], at, _BATCHES)
        if not rows:
            return
        after = START
        if last is not None and last.era == rows[0]["era"]:
            after = last.until
        elif last is None:
            before = await connection.fetchrow(QUERIES["audit_batch_before"], rows[0]["first_leaf"], rows[0]["era"])
            after = Bound(*before) if before else START
        for last in _join(rows, after, leaves):
            yield last
            if last.end >= end:
                return
        at = last.end if last is not None else end


def _join(rows: Sequence[Any], after: Bound, leaves: int) -> Iterator[_Portion]:
    """Join batches to portions of so many leaves at least, within one era."""
    joined: _Portion | None = None
    for row in rows:
        if joined is not None and joined.era != row["era"]:
            yield joined
            joined, after = None, START
        batch = _read_batch(row, after)
        joined = batch if joined is None else batch._replace(first=joined.first, after=joined.after)
        after = batch.until
        if joined.end - joined.first >= leaves:
            yield joined
            joined = None
    if joined is not None:
        yield joined


def _read_batch(row: Any, after: Bound) -> _Portion:
    until = Bound(row["xact"], row["event_id"])
    first = row["first_leaf"]
    return _Portion(row["era"], first, first + row["leaves"], after, until)


def _read_bound(row: Any) -> Bound:
    return START if row["before_xact"] is None else Bound(row["before_xact"], row["before_event_id"])


async def _repeat(portions: Sequence[_Portion]) -> AsyncGenerator[_Portion]:
    for portion in portions:
        yield portion


# Behind a period ----------------------------------------------------------------------------------------------------


class _Rest:
    """Whether wanted events of a period follow.  Each answer "yes" doubles the portions until the next question."""

    def __init__(self, connection: asyncpg.Connection, wanted: Wanted) -> None:
        self._connection, self._wanted = connection, wanted
        self._pause = self._left = 1

    async def has_more(self, era: Era, after: Bound) -> bool:
        """Return whether they follow a place; True where PostgreSQL would need long to know."""
        if self._wanted.until is None:
            return True
        self._left -= 1
        if self._left:
            return True
        self._pause = self._left = self._pause * 2
        last = log.LAST if era.until_event_id is None else era.until_event_id
        filters = (self._wanted.fsp_id, self._wanted.entity, self._wanted.since, self._wanted.until)
        try:
            async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                for setting, value in _REST_SETTINGS.items():
                    await self._connection.execute(f"SET LOCAL {setting} = {value}")
                place = (str(after.xact), after.event_id, era.after_event_id, last)
                return bool(await self._connection.fetchval(QUERIES["audit_has_later"], *place, *filters))
        except asyncpg.QueryCanceledError:
            self._left = -1  # do not ask again
            return True
