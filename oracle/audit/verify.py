"""Checks the history in the database against the log: every event, every hash, every signed checkpoint.

Events.       Each event is read, hashed again and compared with the hash that was sealed at its place.  A finding names
              each event that was altered, removed, inserted or moved.
Hashes.       The stored hashes must lead to every signed root and to the upper tiles.  Where events and hashes
              disagree, the side that leads to the signed root is right.
Checkpoints.  One for each batch, signed by the key that must sign at its size, with growing sizes.
Hidden.       The check follows the order of sealing, and so an index.  A count of the table itself shows events that
              the index does not reach: of no transaction, of no era, or added while the index was switched off.
Not seen.     A log whose end was cut off, unless you give a checkpoint that you kept.  The times of sealing, and the
              borders between batches, are not signed.
Cost.         About 10 µs an event; the memory of one batch, for any length.  It only reads, beside a working
              sealer, and leaves out what is sealed meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from math import inf
from typing import Any, Final, NamedTuple

import asyncpg

from oracle.audit import log
from oracle.audit.log import Bound, Damaged, Era
from oracle.store.queries import QUERIES
from oracle.verifier import leaf, merkle
from oracle.verifier.checkpoint import BadNote, Checkpoint, Trust
from oracle.verifier.difference import compare
from oracle.verifier.merkle import Stored
from oracle.verifier.verdict import Finding

_PAGE: Final = 1_000
_WINDOW: Final = 32 * merkle.TILE_WIDTH
# Events beyond those that were sealed in a batch: more than so many are counted, not listed.
_SURPLUS_MAX: Final = 100_000
# No sealer makes a longer batch.  A forged length must not fill the memory.
_LEAVES_MAX: Final = 1 << 20
_LISTED_MAX: Final = 1_000
_PARTS_MAX: Final = 64  # half a million numbers, if that many are hidden
Rest = Callable[[int], Awaitable[None]]

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
    """What the check has read."""

    begin: int
    end: int
    checkpoints: int
    waiting: int  # events that are not sealed yet


class Verification:
    """Iterate over `find`, then look at `summary`."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        trusted: Sequence[str] = (),
        *,
        begin: int = 0,
        end: int | None = None,
        since: str | None = None,
        snapshot_rows: int = log.SNAPSHOT_ROWS,
        waiting_max_s: float = inf,
        rest: Rest | None = None,
    ) -> None:
        """Checks the batches of leaves [begin, end).  `trusted` are vkeys; default: the first in the database.

        An event that has waited longer than waiting_max_s to be sealed is a finding, if the end of the log is checked.
        `rest` is awaited after each batch, and gets the leaf that was reached.
        """
        self._rest = rest
        self._connection = connection
        self._trusted, self._since = trusted, since
        self._begin, self._end = begin, end
        self._snapshot_rows = snapshot_rows
        self._waiting_max_s = waiting_max_s
        self._tree = merkle.Frontier()
        self._sure = True  # the tree is the signed one, as far as it goes
        self._checkpoints = 0
        self._walked: int | None = 0  # events; None if the check could not read all of them
        self.summary = Summary(0, 0, 0, 0)

    async def find(self) -> AsyncGenerator[Finding]:
        connection = self._connection
        disguised = await connection.fetch(QUERIES["audit_altered_tables"])
        for row in disguised:
            yield Finding("table", f"{row['place']} differs from the migrations: others may see other events")
        if any(row["is_other"] for row in disguised):
            return
        origin = await connection.fetchval(QUERIES["audit_origin"])
        keys = await log.fetch_keys(connection)
        state = await log.fetch_state(connection)
        self._eras = {era.number: era for era in await log.fetch_eras(connection)}
        async for finding in self._check_waiting():
            yield finding
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
                yield Finding("key", f"number {number} is not introduced by a trusted key")
            elif verifier.vkey != keys[number].vkey or verifier in [each for _, each in self._trust.keys[:number]]:
                yield Finding("key", f"number {number} is a duplicate, or has another spelling than it was given")
        for finding in self._check_eras():
            yield finding
        end = min(state.size, state.size if self._end is None else self._end)
        async for finding in self._check_batches(min(self._begin, end), end):
            yield finding
        if self._end is None:
            async for finding in self._check_beyond(state):
                yield finding
            if not self._begin and self._walked is not None:
                async for finding in self._check_hidden(state, self._walked):
                    yield finding
        if self._since is not None:
            async for finding in self._check_kept(self._since, state.size):
                yield finding

    def _check_eras(self) -> Iterator[Finding]:
        after = log.FIRST
        for expected, (number, era) in enumerate(sorted(self._eras.items())):
            if number != expected or era.after_event_id < after or (number == 0 and era.after_event_id != log.FIRST):
                yield Finding("era", f"number {number} does not begin where the era before it ends")
            after = era.after_event_id

    # -- batch by batch -------------------------------------------------------------------------------------------

    async def _check_batches(self, begin: int, end: int) -> AsyncIterator[Finding]:
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
                checkpoints = await self._fetch_checkpoints(min(at, page[0].first_leaf), page[-1].end)
                page_began = at
                for batch in page:
                    if batch.first_leaf >= end:
                        break
                    if batch.leaves > _LEAVES_MAX:
                        if batch.first_leaf != too_long:
                            yield Finding("batch", f"{batch} is longer than any batch that a sealer makes")
                        too_long = batch.first_leaf
                        continue
                    if batch.era not in self._eras:
                        self._walked = None
                        yield Finding("batch", f"{batch} belongs to an unknown era")
                        return
                    if events is None:
                        at = min(at, batch.first_leaf)
                        era, bound = batch.era, await self._fetch_bound_before(batch)
                        async for finding in self._start_tree(at):
                            yield finding
                        events = _Events(self._connection, self._eras[era], bound, self._snapshot_rows)
                    if batch.first_leaf > at:
                        yield Finding("batch", f"leaves {at} to {batch.first_leaf - 1} are in no batch")
                    elif batch.first_leaf < at:
                        yield Finding("batch", f"{batch} overlaps the batch before it")
                        continue
                    if batch.era != era:
                        async for finding in self._check_rest_of_era(events):
                            yield finding
                        era = batch.era
                        await events.close()
                        events = _Events(self._connection, self._eras[era], log.START, self._snapshot_rows)
                    elif batch.bound <= events.bound:
                        yield Finding("batch", f"{batch} ends before the batch before it")
                    sealed = await stored.take(at, batch.end)
                    found, surplus = await events.take(batch.bound, len(sealed) + _SURPLUS_MAX)
                    async for finding in self._check_batch(batch, at, sealed, found, checkpoints):
                        yield finding
                    self._count(len(found) + surplus)
                    if surplus:
                        yield Finding("inserted", f"{surplus} more events were not sealed, {batch}")
                    at = batch.end
                    if self._rest is not None:
                        await self._rest(at)
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

    async def _fetch_bound_before(self, batch: Batch) -> Bound:
        row = await self._connection.fetchrow(QUERIES["audit_batch_before"], batch.first_leaf, batch.era)
        return Bound(*row) if row else log.START

    async def _fetch_checkpoints(self, begin: int, end: int) -> dict[int, Any]:
        rows = await self._connection.fetch(QUERIES["audit_checkpoints_between"], begin, end)
        return {row["size"]: row for row in rows}

    async def _start_tree(self, begin: int) -> AsyncIterator[Finding]:
        """Take the tree before the first batch from the stored hashes."""
        try:
            self._tree = await log.fetch_frontier(self._connection, begin)
        except Damaged:
            self._tree, self._sure = merkle.Frontier(begin, [_NOTHING] * len(merkle.subtrees(0, begin))), False
            yield Finding("hashes", f"some of the leaves before {begin} are missing")
            return
        row = await self._connection.fetchrow(QUERIES["audit_checkpoint_at"], begin) if begin else None
        if row is not None and row["size"] == begin and row["root"] != self._tree.root():
            self._sure = False
            yield Finding("root", f"the leaves before {begin} do not lead to the root that was signed for them")

    async def _check_batch(
        self,
        batch: Batch,
        begin: int,
        sealed: list[bytes | None],
        found: list[tuple[int, bytes]],
        checkpoints: dict[int, Any],
    ) -> AsyncIterator[Finding]:
        """Compare events with hashes, and hashes with the checkpoint."""
        hashes = [each or _NOTHING for each in sealed]
        computed = [each for _, each in found]
        before = self._tree.copy()
        self._tree.extend(hashes)
        checkpoint, complaint = self._open_checkpoint(batch, checkpoints.pop(batch.end, None))
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
                    yield Finding("hash", f"of leaf {begin + place} differs from what was sealed, {batch}")
        elif hashes != computed:
            for finding in _name_differences(batch, begin, hashes, found):
                yield finding
        elif begin == batch.first_leaf and max(event_id for event_id, _ in found) != batch.event_id_max:
            yield Finding("batch", f"{batch}, names {batch.event_id_max} as its largest event, which is wrong")
        async for finding in self._check_root(batch, before, checkpoint, right=hashes_right or events_right):
            yield finding
        async for finding in self._check_upper_tiles():
            yield finding

    async def _check_root(
        self, batch: Batch, before: merkle.Frontier, checkpoint: Checkpoint | None, *, right: bool
    ) -> AsyncIterator[Finding]:
        if checkpoint is None:
            return
        if right:
            self._sure = True
            return
        if not self._sure:
            # Something earlier is wrong, and the hashes cannot show what.  The upper tiles may still be right.
            try:
                again = await log.fetch_frontier(self._connection, batch.end)
            except Damaged:
                return
            if again.root() == checkpoint.root:
                self._tree, self._sure = again, True
            return
        self._sure = False
        yield Finding(
            "root",
            f"leaves up to {batch.end - 1} do not lead to the signed root, those up to {before.size - 1} do: {batch}",
        )

    def _open_checkpoint(self, batch: Batch, row: Any) -> tuple[Checkpoint | None, Finding | None]:
        if row is None:
            return None, Finding("checkpoint", f"of {batch.end} leaves is missing: {batch}")
        self._checkpoints += 1
        try:
            checkpoint = self._trust.open(row["note"] or "")
        except BadNote as exc:
            return None, Finding("checkpoint", f"of {batch.end} leaves: {exc}: {batch}")
        if (checkpoint.size, checkpoint.root) != (batch.end, row["root"]):
            return checkpoint if checkpoint.size == batch.end else None, Finding(
                "checkpoint", f"of {batch.end} leaves: the note differs from the stored size or root: {batch}"
            )
        return checkpoint, None

    async def _check_upper_tiles(self) -> AsyncIterator[Finding]:
        """Compare the subtrees that the leaves completed with the stored ones."""
        completed, self._tree.completed = sorted(self._tree.completed), []
        if not completed or not self._sure:
            return
        rows = await log.fetch_stored_hashes(
            self._connection, [Stored(level, place, 1) for level, place, _ in completed]
        )
        for (level, place, made), row in zip(completed, rows, strict=True):
            if row.get(place) != made:
                yield Finding("hash", f"of tile level {level}, place {place} does not follow from its leaves")

    # -- what is in no batch --------------------------------------------------------------------------------------

    async def _check_rest_of_era(self, events: _Events) -> AsyncIterator[Finding]:
        """A past era must be sealed to its end."""
        found, surplus = await events.take(Bound(log.LAST, log.LAST), _SURPLUS_MAX)
        self._count(len(found) + surplus)
        for event_id, _ in found:
            yield Finding("inserted", f"event {event_id} was not sealed with its era")
        if surplus:
            yield Finding("inserted", f"{surplus} more events were not sealed with their era")

    async def _check_waiting(self) -> AsyncIterator[Finding]:
        """Sealing that has stopped leaves events that anybody with rights on the tables can change unseen."""
        if self._end is not None:
            return
        waiting_s = await log.fetch_waiting(self._connection)
        if waiting_s > self._waiting_max_s:
            yield Finding(
                "sealing", f"the oldest unsealed event has waited {waiting_s:.0f} s: see the log of the jobs process"
            )

    async def _check_beyond(self, state: log.State) -> AsyncIterator[Finding]:
        # One snapshot: a sealer works beside this, and what it writes after a first look would be beyond the end.
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            size = (await log.fetch_state(self._connection)).size
            beyond = await self._connection.fetch(QUERIES["audit_beyond_end"], size)
        for row in beyond:
            yield Finding(row["kind"], f"of {row['place']}: the log ends with {size} leaves")
        if self._eras:
            after = max(era.after_event_id for era in self._eras.values())
            for row in await self._connection.fetch(QUERIES["audit_unplaced_events"], after):
                yield Finding("inserted", f"event {row['event_id']} belongs to a transaction that never ran")
        if state.era in self._eras:
            after = self._eras[state.era].after_event_id
            waiting = await self._connection.fetchval(
                QUERIES["audit_unsealed"], str(state.bound.xact), state.bound.event_id, after
            )
            self.summary = self.summary._replace(waiting=waiting)

    async def _check_hidden(self, state: log.State, walked: int) -> AsyncIterator[Finding]:
        """Find events in the table that the order of sealing does not reach."""
        connection = self._connection
        era = self._eras.get(state.era)
        if era is None:
            return
        place = str(state.bound.xact), state.bound.event_id, era.after_event_id, era.until_event_id
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await _plan_by_table(connection, on=True)
            there = await connection.fetchval(QUERIES["audit_census"], *place)
            if there == walked:
                return
            in_table = _Census(connection, "audit_census_ids", place, by_table=True)
            first = self._eras[min(self._eras)].after_event_id
            in_order = _Census(connection, "audit_census_ids_in_order", (*place, first), by_table=False)
            parts = set(sorted(await in_table.count_parts() - await in_order.count_parts())[:_PARTS_MAX])
            hidden = await in_table.count_ids(parts) - await in_order.count_ids(parts)
        for event_id in list(hidden.elements())[:_LISTED_MAX]:
            yield Finding("inserted", f"event {event_id} is in the table, but the order of sealing does not reach it")
        if hidden.total() != there - walked or hidden.total() > _LISTED_MAX:
            yield Finding("table", f"events has {there} rows, but the order of sealing reaches {walked}")

    async def _check_kept(self, note: str, size: int) -> AsyncIterator[Finding]:
        try:
            kept = self._trust.open(note)
        except BadNote as exc:
            yield Finding("checkpoint", f"the one that you kept: {exc}")
            return
        if kept.size > size:
            yield Finding("rewritten", f"{kept.size} leaves were signed, but this log has only {size}")
            return
        try:
            root = await log.fetch_root(self._connection, kept.size)
        except Damaged:
            root = b""
        if root != kept.root:
            yield Finding("rewritten", f"the log does not extend the checkpoint of {kept.size} leaves")


async def _plan_by_table(connection: asyncpg.Connection, *, on: bool) -> None:
    """Let this transaction plan by the table itself, or by its indexes as elsewhere."""
    for setting, with_table in (("seqscan", True), ("indexscan", False), ("indexonlyscan", False)):
        await connection.execute(f"SET LOCAL enable_{setting} = {'on' if with_table == on else 'off'}")


class _Census:
    """Counts the events that a query reaches: first for each part of all numbers, then one by one in some parts."""

    _PART: Final = 13  # bits: 8,192 numbers

    def __init__(self, connection: asyncpg.Connection, query: str, place: Sequence[Any], *, by_table: bool) -> None:
        self._connection, self._query, self._place, self._by_table = connection, query, place, by_table

    async def count_parts(self) -> Counter[int]:
        found: Counter[int] = Counter()
        async for ids in self._stream():
            found.update(event_id >> self._PART for event_id in ids)
        return found

    async def count_ids(self, parts: Collection[int]) -> Counter[int]:
        found: Counter[int] = Counter()
        async for ids in self._stream():
            found.update(event_id for event_id in ids if event_id >> self._PART in parts)
        return found

    async def _stream(self) -> AsyncIterator[list[int]]:
        await _plan_by_table(self._connection, on=self._by_table)
        cursor = await self._connection.cursor(QUERIES[self._query], *self._place)
        while rows := await cursor.fetch(log.CHUNK):
            yield [row["event_id"] for row in rows]


class _Events:
    """Reads and hashes the events of an era in order, up to one bound after the other."""

    def __init__(self, connection: asyncpg.Connection, era: Era, bound: Bound, snapshot_rows: int) -> None:
        self.bound = bound
        self._source = log.stream_events(connection, era, bound, Bound(log.LAST, log.LAST), snapshot_rows=snapshot_rows)
        self._rows: list[tuple[Bound, bytes]] = []
        self._at = 0

    async def take(self, bound: Bound, count_max: int) -> tuple[list[tuple[int, bytes]], int]:
        """Take (event id, leaf hash) of each event up to a bound.  Beyond count_max events it only counts the rest."""
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
    """Reads the stored hashes of leaves, one after the other; None where a hash is missing."""

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
                found = (await log.fetch_stored_hashes(self._connection, [wanted]))[0]
                self._hashes = [found.get(place) for place in range(begin, first + wanted.width)]
            part = self._hashes[at : at + end - begin]
            taken += part
            begin += len(part)
        return taken


def _name_differences(batch: Batch, begin: int, hashes: list[bytes], found: list[tuple[int, bytes]]) -> list[Finding]:
    findings = []
    for kind, sealed, place in compare(hashes, [each for _, each in found]):
        leaf_at = None if sealed is None else begin + sealed
        event_id = None if place is None else found[place][0]
        match kind:
            case "altered":
                text = f"event {event_id} differs from what was sealed as leaf {leaf_at}, {batch}"
            case "removed":
                text = f"the event of leaf {leaf_at} is missing{_neighbours(found, hashes, sealed or 0)}, {batch}"
            case "inserted":
                text = f"event {event_id} was not sealed, {batch}"
            case "moved":
                text = f"event {event_id} was sealed as leaf {leaf_at}, but is now in another place, {batch}"
        findings.append(Finding(kind, text))
    return findings


def _neighbours(found: list[tuple[int, bytes]], hashes: list[bytes], place: int) -> str:
    """Return the events before and after a place, where they exist."""
    ids = {hashed: event_id for event_id, hashed in found}
    before = ids.get(hashes[place - 1]) if place else None
    after = ids.get(hashes[place + 1]) if place + 1 < len(hashes) else None
    words = [f"{word} event {event_id}" for word, event_id in (("after", before), ("before", after)) if event_id]
    return f" ({', '.join(words)})" if words else ""
