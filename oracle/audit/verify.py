"""Checks the history in the database against the log: every event, every hash, every signed checkpoint.

Events.       Each is read and hashed anew and compared with what was sealed at its place.  What was altered, removed,
              inserted or moved is found and named.
Hashes.       The stored ones have to make every root that was signed, and the upper tiles.  Where events and hashes
              disagree, the one that makes the signed root is believed.
Checkpoints.  One a batch, signed by the key that signs at its size, growing.
Hidden.       What is checked is found by the order of sealing, hence by an index.  A count of the table itself shows
              what lies beside that: of no transaction, of no era, or put in while its index was switched off.
Not seen.     The end of the log cut off, as long as nothing else remembers it: give the checkpoint that was kept.
              When a batch was sealed, and that two were put together, is not signed.
Cost.         About 10 µs an event; memory of one batch, whatever the length.  Reads only, beside a working sealer: what
              is sealed meanwhile is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import asyncpg

from oracle.audit import leaf, log, merkle
from oracle.audit.checkpoint import BadNote, Checkpoint, Trust
from oracle.audit.difference import differences
from oracle.audit.log import Bound, Damaged, Era
from oracle.audit.merkle import Stored
from oracle.audit.offline import Finding
from oracle.store.queries import QUERIES

_PAGE: Final = 1_000
_WINDOW: Final = 32 * merkle.TILE_WIDTH
# Events that one batch may turn out to have beyond those that were sealed in it, before the rest is only counted.
_SURPLUS_MAX: Final = 100_000
# No sealer makes a longer batch; one that says so is not to fill the memory.
_LEAVES_MAX: Final = 1 << 20
_LISTED_MAX: Final = 1_000
_PARTS_MAX: Final = 64  # half a million numbers, should that many be hidden
_NOTHING: Final = b"\0" * merkle.HASH_BYTES


class Batch(NamedTuple):
    first_leaf: int
    leaves: int
    era: int
    bound: Bound
    event_id_max: int
    sealed_at: Any

    @property
    def end(self) -> int:
        return self.first_leaf + self.leaves

    def __str__(self) -> str:
        return f"batch {self.first_leaf} to {self.end - 1}, sealed {self.sealed_at:%Y-%m-%dT%H:%M:%SZ}"


class Summary(NamedTuple):
    """What was looked at."""

    begin: int
    end: int
    checkpoints: int
    waiting: int  # events that are not sealed yet


class Verification:
    """Iterate `findings`, then look at `summary`."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        trusted: Sequence[str] = (),
        *,
        begin: int = 0,
        end: int | None = None,
        since: str | None = None,
    ) -> None:
        """Of the batches that have leaves [begin, end).  `trusted` vkeys: absent, the first key in the database."""
        self._connection = connection
        self._trusted, self._since = trusted, since
        self._begin, self._end = begin, end
        self._tree = merkle.Frontier()
        self._sure = True  # the tree is what was signed, as far as it goes
        self._checkpoints = 0
        self._walked: int | None = 0  # events; None where not all of them could be
        self.summary = Summary(0, 0, 0, 0)

    async def findings(self) -> AsyncGenerator[Finding]:
        connection = self._connection
        disguised = await connection.fetch(QUERIES["audit_disguised"])
        for row in disguised:
            yield Finding("table", f"{row['place']} is not as it was made: others may be shown something else")
        if any(row["is_other"] for row in disguised):
            return
        origin = await connection.fetchval(QUERIES["audit_origin"])
        keys = await log.keys(connection)
        state = await log.state(connection)
        self._eras = {era.number: era for era in await log.eras(connection)}
        if not keys:
            if state.size or self._trusted or self._since is not None:
                yield Finding("key", f"the log has {state.size} leaves and no key")
            return
        try:
            self._trust = Trust(origin, keys, self._trusted or [keys[0].vkey])
        except BadNote as exc:
            yield Finding("key", str(exc))
            return
        for number, (_, verifier) in enumerate(self._trust.keys):
            if verifier not in self._trust.believed:
                yield Finding("key", f"number {number} was not introduced by a key that is trusted")
            elif verifier.vkey != keys[number].vkey or verifier in [each for _, each in self._trust.keys[:number]]:
                yield Finding("key", f"number {number} is there twice, or spelled as nobody spells it")
        for finding in self._era_gaps():
            yield finding
        end = min(state.size, state.size if self._end is None else self._end)
        async for finding in self._batches(min(self._begin, end), end):
            yield finding
        if self._end is None:
            async for finding in self._beyond(state):
                yield finding
            if not self._begin and self._walked is not None:
                async for finding in self._hidden(state, self._walked):
                    yield finding
        if self._since is not None:
            async for finding in self._kept(self._since, state.size):
                yield finding

    def _era_gaps(self) -> Iterator[Finding]:
        after = log.FIRST
        for expected, (number, era) in enumerate(sorted(self._eras.items())):
            if number != expected or era.after_event_id < after or (number == 0 and era.after_event_id != log.FIRST):
                yield Finding("era", f"number {number} does not begin where it has to")
            after = era.after_event_id

    # -- batch by batch -------------------------------------------------------------------------------------------

    async def _batches(self, begin: int, end: int) -> AsyncIterator[Finding]:
        at, era, bound = begin, 0, log.START
        too_long = -1
        events: _Events | None = None
        stored = _StoredLeaves(self._connection)
        try:
            while at < end:
                rows = await self._connection.fetch(QUERIES["audit_batches_from"], at, _PAGE)
                page = [Batch(r["first_leaf"], r["leaves"], r["era"], Bound(r["xact"], r["event_id"]),
                              r["event_id_max"], r["sealed_at"]) for r in rows]  # fmt: skip
                if not page:
                    self._walked = None
                    yield Finding("batch", f"leaves {at} to {end - 1} are in no batch")
                    return
                checkpoints = await self._checkpoints_of(min(at, page[0].first_leaf), page[-1].end)
                page_began = at
                for batch in page:
                    if batch.first_leaf >= end:
                        break
                    if batch.leaves > _LEAVES_MAX:
                        if batch.first_leaf != too_long:
                            yield Finding("batch", f"{batch} is longer than any that is sealed")
                        too_long = batch.first_leaf
                        continue
                    if batch.era not in self._eras:
                        self._walked = None
                        yield Finding("batch", f"{batch} is of an era that is not there")
                        return
                    if events is None:
                        at = min(at, batch.first_leaf)
                        era, bound = batch.era, await self._bound_before(batch)
                        async for finding in self._set_out(at):
                            yield finding
                        events = _Events(self._connection, self._eras[era], bound)
                    if batch.first_leaf > at:
                        yield Finding("batch", f"leaves {at} to {batch.first_leaf - 1} are in no batch")
                    elif batch.first_leaf < at:
                        yield Finding("batch", f"{batch} begins before the one before it ends")
                        continue
                    if batch.era != era:
                        async for finding in self._rest_of_era(events):
                            yield finding
                        era = batch.era
                        await events.close()
                        events = _Events(self._connection, self._eras[era], log.START)
                    elif batch.bound <= events.bound:
                        yield Finding("batch", f"{batch} ends before the one before it")
                    sealed = await stored.take(at, batch.end)
                    found, surplus = await events.until(batch.bound, len(sealed) + _SURPLUS_MAX)
                    async for finding in self._batch(batch, at, sealed, found, checkpoints):
                        yield finding
                    self._count(len(found) + surplus)
                    if surplus:
                        yield Finding("inserted", f"{surplus} more events, {batch}")
                    at = batch.end
                if at == page_began:
                    self._walked = None
                    yield Finding("batch", f"leaves {at} to {end - 1} are in no batch")
                    return
        finally:
            if events is not None:
                await events.close()
            self.summary = Summary(begin, at, self._checkpoints, 0)

    def _count(self, events: int) -> None:
        if self._walked is not None:
            self._walked += events

    async def _bound_before(self, batch: Batch) -> Bound:
        row = await self._connection.fetchrow(QUERIES["audit_batch_before"], batch.first_leaf, batch.era)
        return Bound(*row) if row else log.START

    async def _checkpoints_of(self, begin: int, end: int) -> dict[int, Any]:
        rows = await self._connection.fetch(QUERIES["audit_checkpoints_between"], begin, end)
        return {row["size"]: row for row in rows}

    async def _set_out(self, begin: int) -> AsyncIterator[Finding]:
        """The tree before the first batch, as it is stored."""
        try:
            self._tree = await log.frontier(self._connection, begin)
        except Damaged:
            self._tree, self._sure = merkle.Frontier(begin, [_NOTHING] * len(merkle.subtrees(0, begin))), False
            yield Finding("hashes", f"those of the leaves before {begin} are incomplete")
            return
        row = await self._connection.fetchrow(QUERIES["audit_checkpoint_at"], begin) if begin else None
        if row is not None and row["size"] == begin and row["root"] != self._tree.root():
            self._sure = False
            yield Finding("root", f"the leaves before {begin} do not make the root that was signed for them")

    async def _batch(
        self,
        batch: Batch,
        begin: int,
        sealed: list[bytes | None],
        found: list[tuple[int, bytes]],
        checkpoints: dict[int, Any],
    ) -> AsyncIterator[Finding]:
        """One batch: events against hashes, hashes against the checkpoint."""
        hashes = [each or _NOTHING for each in sealed]
        computed = [each for _, each in found]
        before = self._tree.copy()
        self._tree.extend(hashes)
        checkpoint, complaint = self._opened(batch, checkpoints.pop(batch.end, None))
        if complaint is not None:
            yield complaint
        for size in [size for size in checkpoints if begin < size < batch.end]:
            checkpoints.pop(size)
            yield Finding("checkpoint", f"of {size} leaves: {batch} does not end there")
        hashes_right = checkpoint is not None and self._tree.root() == checkpoint.root
        events_right = False
        if hashes != computed and checkpoint is not None and not hashes_right and len(hashes) == len(computed):
            by_events = before.copy()
            by_events.extend(computed)
            events_right = by_events.root() == checkpoint.root
            if events_right:
                self._tree = by_events
        if events_right:
            for place, (was, now) in enumerate(zip(hashes, computed, strict=True)):
                if was != now:
                    yield Finding("hash", f"of leaf {begin + place} is not what was sealed, {batch}")
        elif hashes != computed:
            for finding in _named(batch, begin, hashes, found):
                yield finding
        elif begin == batch.first_leaf and max(event_id for event_id, _ in found) != batch.event_id_max:
            yield Finding("batch", f"{batch} says that its largest event is {batch.event_id_max}, which it is not")
        async for finding in self._against_root(batch, before, checkpoint, right=hashes_right or events_right):
            yield finding
        async for finding in self._upper_tiles():
            yield finding

    async def _against_root(
        self, batch: Batch, before: merkle.Frontier, checkpoint: Checkpoint | None, *, right: bool
    ) -> AsyncIterator[Finding]:
        if checkpoint is None:
            return
        if right:
            self._sure = True
            return
        if not self._sure:
            # Something before is wrong in a way that the hashes cannot tell.  The upper tiles may have kept the truth.
            try:
                again = await log.frontier(self._connection, batch.end)
            except Damaged:
                return
            if again.root() == checkpoint.root:
                self._tree, self._sure = again, True
            return
        self._sure = False
        yield Finding(
            "root",
            f"the leaves up to {batch.end - 1} do not make the one signed, those up to {before.size - 1} do: {batch}",
        )

    def _opened(self, batch: Batch, row: Any) -> tuple[Checkpoint | None, Finding | None]:
        if row is None:
            return None, Finding("checkpoint", f"of {batch.end} leaves is gone: {batch}")
        self._checkpoints += 1
        try:
            checkpoint = self._trust.opened(row["note"] or "")
        except BadNote as exc:
            return None, Finding("checkpoint", f"of {batch.end} leaves: {exc}: {batch}")
        if (checkpoint.size, checkpoint.root) != (batch.end, row["root"]):
            return checkpoint if checkpoint.size == batch.end else None, Finding(
                "checkpoint", f"of {batch.end} leaves: the note says something else: {batch}"
            )
        return checkpoint, None

    async def _upper_tiles(self) -> AsyncIterator[Finding]:
        """What the leaves completed, against what is stored."""
        completed, self._tree.completed = sorted(self._tree.completed), []
        if not completed or not self._sure:
            return
        rows = await log.stored_hashes(self._connection, [Stored(level, place, 1) for level, place, _ in completed])
        for (level, place, made), row in zip(completed, rows, strict=True):
            if row.get(place) != made:
                yield Finding("hash", f"of tile level {level}, place {place} is not what its leaves make")

    # -- what is in no batch --------------------------------------------------------------------------------------

    async def _rest_of_era(self, events: _Events) -> AsyncIterator[Finding]:
        """An era that is over is sealed to its end."""
        found, surplus = await events.until(Bound(log.LAST, log.LAST), _SURPLUS_MAX)
        self._count(len(found) + surplus)
        for event_id, _ in found:
            yield Finding("inserted", f"event {event_id} was not sealed with its era")
        if surplus:
            yield Finding("inserted", f"{surplus} more events were not sealed with their era")

    async def _beyond(self, state: log.State) -> AsyncIterator[Finding]:
        for row in await self._connection.fetch(QUERIES["audit_beyond"], state.size):
            yield Finding(row["kind"], f"of {row['place']}: the log ends with {state.size} leaves")
        if self._eras:
            after = max(era.after_event_id for era in self._eras.values())
            for row in await self._connection.fetch(QUERIES["audit_nowhere"], after):
                yield Finding("inserted", f"event {row['event_id']} is of no transaction that there was")
        if state.era in self._eras:
            after = self._eras[state.era].after_event_id
            waiting = await self._connection.fetchval(
                QUERIES["audit_unsealed"], str(state.bound.xact), state.bound.event_id, after
            )
            self.summary = self.summary._replace(waiting=waiting)

    async def _hidden(self, state: log.State, walked: int) -> AsyncIterator[Finding]:
        """What lies in the table and is not come by in the order of sealing."""
        connection = self._connection
        era = self._eras.get(state.era)
        if era is None:
            return
        place = str(state.bound.xact), state.bound.event_id, era.after_event_id, era.until_event_id
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await _by_table(connection, on=True)
            there = await connection.fetchval(QUERIES["audit_census"], *place)
            if there == walked:
                return
            lying = _Census(connection, "audit_census_ids", place, by_table=True)
            first = self._eras[min(self._eras)].after_event_id
            ordered = _Census(connection, "audit_census_ids_in_order", (*place, first), by_table=False)
            parts = set(sorted(await lying.parts() - await ordered.parts())[:_PARTS_MAX])
            hidden = await lying.ids(parts) - await ordered.ids(parts)
        for event_id in list(hidden.elements())[:_LISTED_MAX]:
            yield Finding("inserted", f"event {event_id} lies in the table and is not come by in its order")
        if hidden.total() != there - walked or hidden.total() > _LISTED_MAX:
            yield Finding("table", f"{there} events lie in it, {walked} are come by in the order of sealing")

    async def _kept(self, note: str, size: int) -> AsyncIterator[Finding]:
        try:
            kept = self._trust.opened(note)
        except BadNote as exc:
            yield Finding("checkpoint", f"that was kept: {exc}")
            return
        if kept.size > size:
            yield Finding("rewritten", f"{kept.size} leaves were signed before, this log has {size}")
            return
        try:
            root = await log.root(self._connection, kept.size)
        except Damaged:
            root = b""
        if root != kept.root:
            yield Finding("rewritten", f"the log does not extend what was signed at {kept.size} leaves")


async def _by_table(connection: asyncpg.Connection, *, on: bool) -> None:
    """For what is planned from here on in this transaction: by the table itself, or by its indexes as elsewhere."""
    for setting, with_table in (("seqscan", True), ("indexscan", False), ("indexonlyscan", False)):
        await connection.execute(f"SET LOCAL enable_{setting} = {'on' if with_table == on else 'off'}")


class _Census:
    """Which events a query comes by: first how many of each part of all numbers, then those of the parts wanted."""

    _PART: Final = 13  # bits: 8,192 numbers

    def __init__(self, connection: asyncpg.Connection, query: str, place: Sequence[Any], *, by_table: bool) -> None:
        self._connection, self._query, self._place, self._by_table = connection, query, place, by_table

    async def parts(self) -> Counter[int]:
        found: Counter[int] = Counter()
        async for ids in self._all():
            found.update(event_id >> self._PART for event_id in ids)
        return found

    async def ids(self, parts: Collection[int]) -> Counter[int]:
        found: Counter[int] = Counter()
        async for ids in self._all():
            found.update(event_id for event_id in ids if event_id >> self._PART in parts)
        return found

    async def _all(self) -> AsyncIterator[list[int]]:
        await _by_table(self._connection, on=self._by_table)
        cursor = await self._connection.cursor(QUERIES[self._query], *self._place)
        while rows := await cursor.fetch(log.CHUNK):
            yield [row["event_id"] for row in rows]


class _Events:
    """The events of an era, hashed, in order, up to one bound after the other."""

    def __init__(self, connection: asyncpg.Connection, era: Era, bound: Bound) -> None:
        self.bound = bound
        self._source = log.events(connection, era, bound, Bound(log.LAST, log.LAST))
        self._rows: list[tuple[Bound, bytes]] = []
        self._at = 0

    async def until(self, bound: Bound, count_max: int) -> tuple[list[tuple[int, bytes]], int]:
        """(event id, leaf hash) of each; of more than count_max only how many they are."""
        found: list[tuple[int, bytes]] = []
        surplus = 0
        while True:
            while self._at < len(self._rows) and self._rows[self._at][0] <= bound:
                where, hashed = self._rows[self._at]
                self._at += 1
                if len(found) < count_max:
                    found.append((where.event_id, hashed))
                else:
                    surplus += 1
            if self._at < len(self._rows):
                break
            rows = await anext(self._source, None)
            if rows is None:
                break
            self._rows = [(Bound(row["xact"], row["event_id"]), leaf.leaf_hash(leaf.line(row))) for row in rows]
            self._at = 0
        self.bound = max(self.bound, bound)
        return found, surplus

    async def close(self) -> None:
        await self._source.aclose()


class _StoredLeaves:
    """The stored hashes of leaves, one after the other; None where there is none."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._begin = 0
        self._hashes: list[bytes | None] = []

    async def take(self, begin: int, end: int) -> list[bytes | None]:
        taken: list[bytes | None] = []
        while begin < end:
            at = begin - self._begin
            if not 0 <= at < len(self._hashes):
                self._begin, at = begin, 0
                first = begin - begin % merkle.TILE_WIDTH
                wanted = Stored(0, first, begin - first + _WINDOW)
                found = (await log.stored_hashes(self._connection, [wanted]))[0]
                self._hashes = [found.get(place) for place in range(begin, first + wanted.width)]
            part = self._hashes[at : at + end - begin]
            taken += part
            begin += len(part)
        return taken


def _named(batch: Batch, begin: int, hashes: list[bytes], found: list[tuple[int, bytes]]) -> list[Finding]:
    told = []
    for kind, sealed, place in differences(hashes, [each for _, each in found]):
        leaf_at = "" if sealed is None else f"leaf {begin + sealed}"
        event = "" if place is None else f"event {found[place][0]}"
        match kind:
            case "altered":
                text = f"{event} is not what was sealed as {leaf_at}, {batch}"
            case "removed":
                text = f"the event of {leaf_at} is gone{_between(found, hashes, sealed or 0)}, {batch}"
            case "inserted":
                text = f"{event} was not sealed, {batch}"
            case "moved":
                text = f"{event} was sealed as {leaf_at} and stands elsewhere, {batch}"
        told.append(Finding(kind, text))
    return told


def _between(found: list[tuple[int, bytes]], hashes: list[bytes], place: int) -> str:
    """Its neighbours, where they are there."""
    ids = {hashed: event_id for event_id, hashed in found}
    before = ids.get(hashes[place - 1]) if place else None
    after = ids.get(hashes[place + 1]) if place + 1 < len(hashes) else None
    told = [f"{word} event {event_id}" for word, event_id in (("behind", before), ("before", after)) if event_id]
    return f" ({', '.join(told)})" if told else ""


async def verified(verification: Verification) -> list[Finding]:
    """All of them at once, where few are expected."""
    async with aclosing(verification.findings()) as findings:
        return [finding async for finding in findings]
