"""The history log as it stands in the database: events in the order of sealing, hashes, proofs.  Reads only.

Order.     Leaves are events by (xact, event_id): every transaction before the horizon has ended, so nothing can come to
           stand before what is sealed.  A batch may end inside a transaction.
Era.       Each cluster counts its transactions by itself; after a dump was restored elsewhere the order begins anew.
           migrations/0003 says how the line is drawn.
Index.     No row is kept per event: its leaf index is the first leaf of its batch plus the events before it there.
Cost.      A proof is one query for at most two tiles a level: three levels hold 16 million leaves, four all others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import asyncpg

from oracle.audit import leaf, merkle
from oracle.audit.checkpoint import VerifierKey
from oracle.audit.merkle import Range, Stored, Subtree
from oracle.store.queries import QUERIES

# One index gives the order; a plan that sorts 100 million events would be no plan.
CONNECTION_SETTINGS: Final = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
}
CHUNK: Final = 2_048  # rows at once: 1 MB, and the event loop waits some 20 ms at most
# Rows a snapshot: while one is held, vacuum keeps what was deleted in the whole database.
SNAPSHOT_ROWS: Final = 500_000
LAST: Final = (1 << 63) - 1
FIRST: Final = -(1 << 63)


class Bound(NamedTuple):
    """An event's place in the order of its era."""

    xact: int
    event_id: int


START: Final = Bound(0, FIRST)


class Era(NamedTuple):
    number: int
    after_event_id: int
    until_event_id: int | None


class State(NamedTuple):
    """Where the log ends."""

    size: int
    era: int
    bound: Bound


async def connect(url: str, name: str, **settings: str) -> asyncpg.Connection:
    wanted = {**CONNECTION_SETTINGS, "application_name": name, **settings}
    return await asyncpg.connect(url, timeout=10, server_settings=wanted, target_session_attrs="primary")


async def state(connection: asyncpg.Connection) -> State:
    row = await connection.fetchrow(QUERIES["audit_state"])
    return State(0, 0, START) if row is None else State(row["size"], row["era"], Bound(row["xact"], row["event_id"]))


async def eras(connection: asyncpg.Connection) -> list[Era]:
    return [Era(*row) for row in await connection.fetch(QUERIES["audit_eras"])]


async def keys(connection: asyncpg.Connection) -> list[VerifierKey]:
    rows = await connection.fetch(QUERIES["audit_keys"])
    return [VerifierKey(row["vkey"], row["from_size"], row["statement"]) for row in rows]


# Events ---------------------------------------------------------------------------------------------------------


async def events(
    connection: asyncpg.Connection, era: Era, after: Bound, until: Bound | None = None
) -> AsyncGenerator[list[Any]]:
    """Rows of an era behind a bound, in order, CHUNK at a time; `until` absent: as far as no more can come between.

    Inside a transaction of its own: close it (`aclosing`) when leaving early.
    """
    while True:
        rows_read = 0
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            end = until or Bound(await _end(connection, era), LAST)
            span = (str(after.xact), after.event_id, str(end.xact), end.event_id)
            ids = (era.after_event_id, LAST if era.until_event_id is None else era.until_event_id)
            cursor = await connection.cursor(QUERIES["events_in_order"], *span, *ids, SNAPSHOT_ROWS)
            while rows := await cursor.fetch(CHUNK):
                rows_read += len(rows)
                after = Bound(rows[-1]["xact"], rows[-1]["event_id"])
                yield rows
        if rows_read < SNAPSHOT_ROWS:
            return


async def _end(connection: asyncpg.Connection, era: Era) -> int:
    """The last transaction that counts.  Of an era that is over, all have ended (migrations/0003)."""
    if era.until_event_id is not None:
        return LAST
    return int(await connection.fetchval(QUERIES["audit_horizon"])) - 1


async def leaves(connection: asyncpg.Connection, begin: int, end: int) -> AsyncGenerator[list[Any]]:
    """The events that are leaves [begin, end), in order.  Raises LookupError where there are fewer."""
    of = {era.number: era for era in await eras(connection)}
    while begin < end:
        batch = await connection.fetchrow(QUERIES["audit_batches_from"], begin, 1)
        if batch is None:
            raise LookupError("the log is shorter")
        before = await connection.fetchrow(QUERIES["audit_batch_before"], batch["first_leaf"], batch["era"])
        era = of[batch["era"]]
        skip = begin - batch["first_leaf"]
        last = await connection.fetchrow(QUERIES["audit_era_end"], era.number, end)
        came = begin
        async with aclosing(events(connection, era, Bound(*before) if before else START, Bound(*last))) as behind:
            async for rows in behind:
                part = rows[skip : skip + end - came]
                skip = max(0, skip - len(rows))
                came += len(part)
                if part:
                    yield part
                if came == end:
                    return
        if came == begin:
            raise LookupError("events are missing")
        begin = came


async def leaf_index(connection: asyncpg.Connection, event_id: int) -> int | None:
    """None while it is not sealed, or where there is no such event."""
    row = await connection.fetchrow(QUERIES["audit_batch_of_event"], event_id)
    return None if row is None else row["first_leaf"] + row["before"]


# Hashes and proofs ----------------------------------------------------------------------------------------------


class Damaged(Exception):
    """Hashes that have to be there are not."""


async def hashes(connection: asyncpg.Connection, wanted: Sequence[Stored]) -> list[list[bytes]]:
    """Raises Damaged."""
    found = await stored_hashes(connection, wanted)
    try:
        return [[have[want.first + n] for n in range(want.width)] for want, have in zip(wanted, found, strict=True)]
    except KeyError as exc:
        raise Damaged("a tile of the log is incomplete") from exc


async def stored_hashes(connection: asyncpg.Connection, wanted: Sequence[Stored]) -> list[dict[int, bytes]]:
    """By place; at least those that are wanted, as far as they are there."""
    columns = [list(column) for column in zip(*wanted, strict=True)] if wanted else [[], [], []]
    found: list[dict[int, bytes]] = [{} for _ in wanted]
    for row in await connection.fetch(QUERIES["audit_hashes"], *columns):
        data: bytes = row["hashes"]
        # Of one tile alone: what goes beyond it is seen by some readers only.
        room = (merkle.TILE_WIDTH - row["first"] % merkle.TILE_WIDTH) * merkle.HASH_BYTES
        for at in range(0, min(len(data), room), merkle.HASH_BYTES):
            # Were a second one put over it, the first would count no more: the roots show it.
            found[row["wanted"]][row["first"] + at // merkle.HASH_BYTES] = data[at : at + merkle.HASH_BYTES]
    return found


async def subtree_hashes(connection: asyncpg.Connection, wanted: Sequence[Subtree]) -> dict[Subtree, bytes]:
    """Each tile is read once, however many of them are made of it.  Raises Damaged."""
    parts = {subtree: merkle.stored(subtree) for subtree in wanted}
    ends: dict[tuple[int, int], int] = {}
    for level, first, width in parts.values():
        tile = level, first // merkle.TILE_WIDTH
        ends[tile] = max(ends.get(tile, 0), first % merkle.TILE_WIDTH + width)
    tiles = [Stored(level, number * merkle.TILE_WIDTH, width) for (level, number), width in ends.items()]
    found = dict(zip(ends, await stored_hashes(connection, tiles), strict=True))
    made = {}
    for subtree, (level, first, width) in parts.items():
        have = found[level, first // merkle.TILE_WIDTH]
        if any(place not in have for place in range(first, first + width)):
            raise Damaged("a tile of the log is incomplete")
        made[subtree] = merkle.full_root([have[place] for place in range(first, first + width)])
    return made


async def prove(connection: asyncpg.Connection, ranges: Sequence[Range]) -> list[bytes]:
    """One hash a range."""
    wanted = [subtree for each in ranges for subtree in merkle.subtrees(*each)]
    return merkle.prove(ranges, (await subtree_hashes(connection, wanted)).__getitem__)


async def root(connection: asyncpg.Connection, size: int) -> bytes:
    return (await prove(connection, [Range(0, size)]))[0]


async def inclusion(connection: asyncpg.Connection, index: int, size: int) -> list[bytes]:
    """The RFC 9162 inclusion proof.  The size must not be beyond the log's.  Raises ValueError for no such leaf."""
    return await prove(connection, merkle.inclusion_ranges(index, size))


async def consistency(connection: asyncpg.Connection, old: int, new: int) -> list[bytes]:
    """The RFC 9162 consistency proof.  `new` must not be beyond the log's.  Raises ValueError for old > new."""
    return await prove(connection, merkle.consistency_ranges(old, new))


class EventProof(NamedTuple):
    """That an event is in the log: hash the line (see `leaf`), climb by the proof, compare with the signed root."""

    line: bytes
    leaf_index: int
    proof: list[bytes]
    checkpoint: str


async def event_proof(connection: asyncpg.Connection, event_id: int) -> EventProof | None:
    """Under the latest checkpoint; None while it is not sealed, or where there is no such event."""
    index = await leaf_index(connection, event_id)
    row = await connection.fetchrow(QUERIES["event_by_id"], event_id)
    latest = await connection.fetchrow(QUERIES["audit_checkpoint_latest"])
    if index is None or row is None or latest is None:
        return None
    return EventProof(leaf.line(row), index, await inclusion(connection, index, latest["size"]), latest["note"])


async def frontier(connection: asyncpg.Connection, size: int) -> merkle.Frontier:
    """The tree of this size, to go on from."""
    wanted = merkle.subtrees(0, size)
    found = await subtree_hashes(connection, wanted)
    return merkle.Frontier(size, [found[subtree] for subtree in wanted])
