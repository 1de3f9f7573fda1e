"""Seals history: appends every committed event to the Merkle log and signs what the log is then.

Use.       `await Sealer(database_url, KeyFile(path), metrics).run(stop)` in a background process; any number of them
           may run, on any number of machines.  It comes back when `stop` is set, and gets over a PostgreSQL that is
           away.
One.       Who holds an advisory lock seals, the others look every interval_s whether it is free.  Should two believe
           that they hold it, the primary key of the batches lets one of them through.
Once.      Batch, hashes and checkpoint are one transaction.  Whoever comes next begins where the last batch ends, so no
           event is sealed twice or left out, whenever the sealer before was killed.
Order.     See `log`.  A transaction that is open for an hour holds sealing up for an hour; the lag is in the metrics.
Cost.      About 10 µs of CPU an event here and 5 in PostgreSQL, in portions after which it rests for as long as they
           took: an import beside it keeps its core.
Refuses.   To sign a log that does not extend what it signed last, or without the key: it says so and looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

import asyncpg

from oracle.audit import leaf, log, merkle
from oracle.audit.checkpoint import BadNote, Checkpoint, Signer, signed
from oracle.audit.keys import KEYS_LOCK, SEALING_LOCK, KeyFile, KeyFileError, first_key, signers_of
from oracle.audit.log import Bound, Era
from oracle.store.lanes import is_away, is_busy
from oracle.store.queries import QUERIES
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

# 32 whole tiles, some 150 ms: what is lost when the sealer is killed, and how long `stop` takes.
BATCH: Final = 8_192
INTERVAL_S: Final = 1.0
PARTITIONS_S: Final = 6 * 3600.0
# The server drops us when we hang: the lock must not stay with a process that does nothing.
_WRITE_SETTINGS: Final = {"statement_timeout": "60000", "idle_in_transaction_session_timeout": "60000"}

events_log = logs.Log(__name__)


class Refused(Exception):
    """Not to be sealed now; one line for the operator."""


class _Superseded(Exception):
    """A key has come since the signers were chosen."""


class Sealer:
    def __init__(
        self,
        database_url: str,
        key_file: KeyFile,
        metrics: Metrics | None = None,
        *,
        interval_s: float = INTERVAL_S,
        rest: float = 1.0,
    ) -> None:
        self._url = database_url
        self._file = key_file
        self._metrics = metrics
        self._interval_s = interval_s
        self._rest = rest  # pause after a portion, in times of what it took
        self._condition = logs.Condition(events_log, "sealing of history")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            try:
                await self._hold(stop)
            except (Refused, KeyFileError, BadNote, log.Damaged) as exc:
                # These texts are ours and hold no identifier.
                self._condition.now(f"refused: {exc}")
            except Exception as exc:
                if not (is_away(exc) or is_busy(exc) or isinstance(exc, asyncpg.UniqueViolationError)):
                    raise
                self._condition.now("interrupted", exc=exc)
            await _pause(stop, self._interval_s)

    async def _hold(self, stop: asyncio.Event) -> None:
        """Seal for as long as we hold the lock."""
        writer = await log.connect(self._url, "oracle sealer", **_WRITE_SETTINGS)
        reader = None
        try:
            while not await writer.fetchval("SELECT pg_try_advisory_lock($1)", SEALING_LOCK):
                if await _pause(stop, self._interval_s):
                    return
            reader = await log.connect(self._url, "oracle sealer")
            sealing = await Sealing.begin(writer, reader, self._file)
            events_log.info("history is sealed here", size=sealing.tree.size)
            await self._seal(sealing, stop)
        finally:
            for connection in (reader, writer):
                if connection is not None:
                    await _close(connection)

    async def _seal(self, sealing: Sealing, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        partitions_at = loop.time()
        while not stop.is_set():
            began = loop.time()
            async with aclosing(sealing.portions()) as portions:
                async for sealed in portions:
                    self._count(sealed)
                    # The rest is for whoever is doing something that is waited for.
                    if await _pause(stop, (loop.time() - began) * self._rest if sealed >= BATCH else 0):
                        return
                    began = loop.time()
            self._tell(await sealing.waiting_s())
            self._condition.now("ok")
            if loop.time() >= partitions_at:
                await _partitions_ahead(sealing.writer)
                partitions_at = loop.time() + PARTITIONS_S
            await _pause(stop, self._interval_s)

    def _count(self, sealed: int) -> None:
        if self._metrics is not None:
            self._metrics.add("audit_sealed_total", sealed)

    def _tell(self, waiting_s: float) -> None:
        if self._metrics is not None:
            self._metrics.cells[self._metrics.slot("audit_waiting_seconds")] = waiting_s


class Sealing:
    """What one holder of the lock works with."""

    def __init__(self, writer: asyncpg.Connection, reader: asyncpg.Connection, file: KeyFile) -> None:
        self.writer, self._reader, self._file = writer, reader, file
        self.tree = merkle.Frontier()
        self._era = Era(0, 0, None)
        self._bound = log.START
        self._origin = ""
        self._signers: Sequence[Signer] = ()
        self._keys = 0

    @classmethod
    async def begin(cls, writer: asyncpg.Connection, reader: asyncpg.Connection, file: KeyFile) -> Sealing:
        """Raises Refused, KeyFileError."""
        sealing = cls(writer, reader, file)
        sealing._origin = await writer.fetchval(QUERIES["audit_origin"])
        if not await log.keys(writer):
            await first_key(writer, sealing._origin, file)
        await sealing._choose_signers()
        await writer.execute(QUERIES["audit_era_begin"])
        state = await log.state(writer)
        sealing.tree, sealing._bound = await log.frontier(writer, state.size), state.bound
        sealing._era = (await log.eras(writer))[state.era]
        await sealing._compare()
        return sealing

    async def _compare(self) -> None:
        last = self._file.last()
        if last is None:
            return
        if last.origin != self._origin:
            raise Refused("the key file remembers another log")
        if last.size > self.tree.size or await log.root(self.writer, last.size) != last.root:
            raise Refused("the log does not extend what was signed here last: oracle audit verify, oracle audit accept")

    async def _choose_signers(self) -> None:
        keys = await log.keys(self.writer)
        self._signers, self._keys = signers_of(self._origin, keys, self._file.read()), len(keys)

    async def portions(self) -> Any:
        """Seal all that can be sealed now; how many events each time."""
        while True:
            async with aclosing(log.events(self._reader, self._era, self._bound)) as events:
                rows: list[Any] = []
                async for more in events:
                    rows += more
                    while len(rows) >= BATCH:
                        await self._append(rows[:BATCH])
                        yield BATCH
                        rows = rows[BATCH:]
            if rows:
                await self._append(rows)
                yield len(rows)
            if self._era.until_event_id is None:
                return
            # All of this era is sealed: what came after it was in another cluster.
            self._era, self._bound = (await log.eras(self.writer))[self._era.number + 1], log.START

    async def _append(self, rows: list[Any]) -> None:
        hashes = []
        for at in range(0, len(rows), log.CHUNK):
            hashes += [leaf.leaf_hash(leaf.line(row)) for row in rows[at : at + log.CHUNK]]
            await asyncio.sleep(0)  # other jobs of this process
        tree = self.tree.copy()
        first = tree.size
        tree.extend(hashes)
        fragments = merkle.fragments(first, hashes, tree.completed)
        root = tree.root()
        bound = Bound(rows[-1]["xact"], rows[-1]["event_id"])
        ids_max = max(row["event_id"] for row in rows)
        while True:
            note = signed(Checkpoint(self._origin, tree.size, root).text, self._signers)
            try:
                async with self.writer.transaction():
                    await self.writer.execute(QUERIES["audit_key_lock"], KEYS_LOCK)
                    if await self.writer.fetchval(QUERIES["audit_keys_count"]) != self._keys:
                        raise _Superseded
                    batch = (first, len(rows), self._era.number, str(bound.xact), bound.event_id, ids_max)
                    await self.writer.execute(QUERIES["audit_batch_add"], *batch)
                    columns = [list(column) for column in zip(*fragments, strict=True)]
                    await self.writer.execute(QUERIES["audit_tiles_add"], *columns)
                    await self.writer.execute(QUERIES["audit_checkpoint_add"], tree.size, root, note)
                break
            except _Superseded:
                await self._choose_signers()
        self.tree, self._bound = tree, bound
        self._file.remember(note)

    async def waiting_s(self) -> float:
        """Since when the oldest event is waiting that is committed and not sealed."""
        bound = (str(self._bound.xact), self._bound.event_id, self._era.after_event_id)
        return float(await self._reader.fetchval(QUERIES["audit_waiting"], *bound) or 0)


async def _partitions_ahead(connection: asyncpg.Connection) -> None:
    try:
        made = await connection.fetchval(QUERIES["partitions_ahead"])
    except asyncpg.PostgresError as exc:
        # A long query stood in the way; there are months left to try again.
        events_log.warning("partitions of history were not made", exc=exc)
        return
    if made:
        events_log.info("partitions of history made", months=made)


async def _close(connection: asyncpg.Connection) -> None:
    with suppress(Exception):
        await connection.close(timeout=2)
        return
    connection.terminate()


async def _pause(stop: asyncio.Event, seconds: float) -> bool:
    """Whether to stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()
