"""Reads the history log from the database: events in the order of sealing, hashes, proofs.  Writes nothing.

Order.     Leaves are events, ordered by (xact, event_id).  Every transaction before the horizon has ended, so no event
           can later appear before a sealed one.  A batch can end inside a transaction.
Era.       Each PostgreSQL cluster counts its own transactions.  After a dump is restored into another cluster, the
           order begins again: a new era.  migrations/0003 defines where one era ends.
Index.     No row is stored for each event.  Its leaf index is the first leaf of its batch plus the number of events
           before it in that batch.
Cost.      A proof is one query for at most two tiles a level.  Three levels hold 16 million leaves, four levels hold
           4 billion.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import asyncpg

from oracle.store.lanes import PORTION_MAX_S
from oracle.store.queries import QUERIES
from oracle.store.servers import Servers
from oracle.verifier import leaf, merkle
from oracle.verifier.checkpoint import VerifierKey
from oracle.verifier.merkle import Range, Stored, Subtree

# One index gives the order.  Without these settings the planner may sort 100 million events.
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
CHUNK: Final = 2_048  # rows at once: 1 MB, and the event loop waits about 20 ms at most
# Rows for each snapshot: while one is open, vacuum cannot remove deleted rows anywhere in the database.
SNAPSHOT_ROWS: Final = 500_000
LAST: Final = (1 << 63) - 1
FIRST: Final = -(1 << 63)


class Bound(NamedTuple):
    """The place of an event in the order of its era."""

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


async def connect(servers: Servers | str, name: str, **settings: str) -> asyncpg.Connection:
    """Open a connection to the primary of some servers, or of a URL.  Raises as `Servers.connect`."""
    if isinstance(servers, str):
        servers = Servers(servers)
    return await servers.connect(name, {**CONNECTION_SETTINGS, **settings})


async def fetch_state(connection: asyncpg.Connection) -> State:
    row = await connection.fetchrow(QUERIES["audit_state"])
    return State(0, 0, START) if row is None else State(row["size"], row["era"], Bound(row["xact"], row["event_id"]))


async def fetch_waiting(connection: asyncpg.Connection) -> float:
    """Return for how many seconds the oldest event has waited that is committed and not sealed; 0 if none waits."""
    state, eras = await fetch_state(connection), await fetch_eras(connection)
    after = eras[state.era].after_event_id if state.era < len(eras) else FIRST  # nothing was ever sealed
    place = str(state.bound.xact), state.bound.event_id, after
    return float(await connection.fetchval(QUERIES["audit_waiting"], *place) or 0)


async def fetch_eras(connection: asyncpg.Connection) -> list[Era]:
    return [Era(*row) for row in await connection.fetch(QUERIES["audit_eras"])]


async def fetch_keys(connection: asyncpg.Connection) -> list[VerifierKey]:
    rows = await connection.fetch(QUERIES["audit_keys"])
    return [VerifierKey(row["vkey"], row["from_size"], row["statement"]) for row in rows]


# Events ---------------------------------------------------------------------------------------------------------


async def stream_events(
    connection: asyncpg.Connection,
    era: Era,
    after: Bound,
    until: Bound | None = None,
    *,
    snapshot_rows: int = SNAPSHOT_ROWS,
) -> AsyncGenerator[list[Any]]:
    """Stream the rows of an era after a bound, in order, CHUNK at a time.

    Without `until` it ends at the horizon: no event can later appear before it.  It runs inside its own transactions:
    close it (`aclosing`) when you leave early.
    """
    while True:
        rows_read = 0
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            end = until or Bound(await _fetch_end(connection, era), LAST)
            span = (str(after.xact), after.event_id, str(end.xact), end.event_id)
            ids = (era.after_event_id, LAST if era.until_event_id is None else era.until_event_id)
            sql = QUERIES["events_in_order"]
            cursor = await connection.cursor(sql, *span, *ids, snapshot_rows, timeout=PORTION_MAX_S)
            while rows := await cursor.fetch(CHUNK, timeout=PORTION_MAX_S):
                rows_read += len(rows)
                after = Bound(rows[-1]["xact"], rows[-1]["event_id"])
                yield rows
        if rows_read < snapshot_rows:
            return


async def _fetch_end(connection: asyncpg.Connection, era: Era) -> int:
    """Fetch the last transaction that counts.  In a past era all transactions have ended (migrations/0003)."""
    if era.until_event_id is not None:
        return LAST
    return int(await connection.fetchval(QUERIES["audit_horizon"])) - 1


async def stream_leaves(connection: asyncpg.Connection, begin: int, end: int) -> AsyncGenerator[list[Any]]:
    """Stream the events that are leaves [begin, end), in order.  Raises LookupError where there are fewer."""
    eras = {era.number: era for era in await fetch_eras(connection)}
    while begin < end:
        batch = await connection.fetchrow(QUERIES["audit_batches_from"], begin, 1)
        if batch is None:
            raise LookupError(
                f"the log has no leaf {begin}: choose an earlier one; `oracle audit status` shows how many there are"
            )
        before = await connection.fetchrow(QUERIES["audit_batch_before"], batch["first_leaf"], batch["era"])
        era = eras[batch["era"]]
        skip = begin - batch["first_leaf"]
        last = await connection.fetchrow(QUERIES["audit_era_end"], era.number, end)
        reached = begin
        after = Bound(*before) if before else START
        async with aclosing(stream_events(connection, era, after, Bound(*last))) as stream:
            async for rows in stream:
                part = rows[skip : skip + end - reached]
                skip = max(0, skip - len(rows))
                reached += len(part)
                if part:
                    yield part
                if reached == end:
                    return
        if reached == begin:
            raise LookupError("events are missing: run oracle audit verify")
        begin = reached


async def find_leaf_index(connection: asyncpg.Connection, event_id: int) -> int | None:
    """Find the leaf of an event; None while it is not sealed, and where there is no such event."""
    row = await connection.fetchrow(QUERIES["audit_batch_of_event"], event_id)
    return None if row is None else row["first_leaf"] + row["before"]


# Hashes and proofs ----------------------------------------------------------------------------------------------


class Damaged(Exception):
    """Hashes of the log are missing."""


async def fetch_hashes(connection: asyncpg.Connection, wanted: Sequence[Stored]) -> list[list[bytes]]:
    """Raises Damaged."""
    found = await fetch_stored_hashes(connection, wanted)
    try:
        return [[have[want.first + n] for n in range(want.width)] for want, have in zip(wanted, found, strict=True)]
    except KeyError as exc:
        raise Damaged("a part of the log is incomplete: run `oracle audit verify`") from exc


async def fetch_stored_hashes(connection: asyncpg.Connection, wanted: Sequence[Stored]) -> list[dict[int, bytes]]:
    """Fetch hashes by place: at least the wanted ones, as far as they exist."""
    columns = [list(column) for column in zip(*wanted, strict=True)] if wanted else [[], [], []]
    found: list[dict[int, bytes]] = [{} for _ in wanted]
    for row in await connection.fetch(QUERIES["audit_hashes"], *columns):
        data: bytes = row["hashes"]
        # Within one tile: only some readers would see hashes beyond its end.
        room = (merkle.TILE_WIDTH - row["first"] % merkle.TILE_WIDTH) * merkle.HASH_BYTES
        for at in range(0, min(len(data), room), merkle.HASH_BYTES):
            # A fragment that lies over another one replaces its hashes: the signed roots reveal that.
            found[row["wanted"]][row["first"] + at // merkle.HASH_BYTES] = data[at : at + merkle.HASH_BYTES]
    return found


async def fetch_subtree_hashes(connection: asyncpg.Connection, wanted: Sequence[Subtree]) -> dict[Subtree, bytes]:
    """Fetch the hashes of subtrees; each tile is read once.  Raises Damaged."""
    parts = {subtree: merkle.locate(subtree) for subtree in wanted}
    ends: dict[tuple[int, int], int] = {}
    for level, first, width in parts.values():
        tile = level, first // merkle.TILE_WIDTH
        ends[tile] = max(ends.get(tile, 0), first % merkle.TILE_WIDTH + width)
    tiles = [Stored(level, number * merkle.TILE_WIDTH, width) for (level, number), width in ends.items()]
    found = dict(zip(ends, await fetch_stored_hashes(connection, tiles), strict=True))
    hashes = {}
    for subtree, (level, first, width) in parts.items():
        have = found[level, first // merkle.TILE_WIDTH]
        if any(place not in have for place in range(first, first + width)):
            raise Damaged("a part of the log is incomplete: run `oracle audit verify`")
        hashes[subtree] = merkle.full_root([have[place] for place in range(first, first + width)])
    return hashes


async def prove(connection: asyncpg.Connection, ranges: Sequence[Range]) -> list[bytes]:
    """Compute one hash for each range."""
    wanted = [subtree for each in ranges for subtree in merkle.subtrees(*each)]
    return merkle.prove(ranges, (await fetch_subtree_hashes(connection, wanted)).__getitem__)


async def fetch_root(connection: asyncpg.Connection, size: int) -> bytes:
    return (await prove(connection, [Range(0, size)]))[0]


async def prove_inclusion(connection: asyncpg.Connection, index: int, size: int) -> list[bytes]:
    """Make the RFC 9162 inclusion proof.  `size` is at most that of the log.  Raises ValueError for no such leaf."""
    return await prove(connection, merkle.inclusion_ranges(index, size))


async def prove_consistency(connection: asyncpg.Connection, old: int, new: int) -> list[bytes]:
    """Make the RFC 9162 consistency proof.  `new` is at most the size of the log.  Raises ValueError for old > new."""
    return await prove(connection, merkle.consistency_ranges(old, new))


class EventProof(NamedTuple):
    """The proof that an event is in the log.

    Hash the line (see `leaf`), combine it with the hashes of the proof, compare with the root.
    """

    line: bytes
    leaf_index: int
    proof: list[bytes]
    size: int  # of the log that the root and the proof belong to
    root: bytes
    checkpoint: str | None  # the note of this size; None where no checkpoint was signed at it


class OutOfRange(ValueError):
    """The log has no proof for the size that was asked for; `size` is that of the log."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the log has {size} leaves")
        self.size = size


class LaterThan(ValueError):
    """The event is behind the leaves that were asked for; `index` is its leaf."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the event is leaf {index}")
        self.index = index


async def prove_event(connection: asyncpg.Connection, event_id: int, size: int | None = None) -> EventProof | None:
    """Prove an event for a log of `size` leaves; without it, for the latest checkpoint.

    Returns None while the event is not sealed, and where there is no such event.  Raises OutOfRange, LaterThan,
    Damaged.
    """
    index = await find_leaf_index(connection, event_id)
    row = await connection.fetchrow(QUERIES["event_by_id"], event_id)
    if index is None or row is None:
        return None
    whole = (await fetch_state(connection)).size
    if size is None:
        latest = await connection.fetchrow(QUERIES["audit_checkpoint_latest"])
        size = whole if latest is None else latest["size"]
    if size > whole:
        raise OutOfRange(whole)
    if index >= size:
        raise LaterThan(index)
    proof, root = await prove_inclusion(connection, index, size), await fetch_root(connection, size)
    note = await connection.fetchval(QUERIES["log_checkpoint_of"], size)
    return EventProof(leaf.line(row), index, proof, size, root, note)


async def fetch_frontier(connection: asyncpg.Connection, size: int) -> merkle.Frontier:
    """Fetch the tree of this size, ready to append to."""
    wanted = merkle.subtrees(0, size)
    found = await fetch_subtree_hashes(connection, wanted)
    return merkle.Frontier(size, [found[subtree] for subtree in wanted])
