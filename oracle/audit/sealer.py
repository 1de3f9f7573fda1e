"""Seals history: appends every committed event to the Merkle log, and signs the log's new state.

Use.       `await Sealer(servers, KeyFile(path), metrics).run(stop)` in a background process.  Any number of
           processes can run it, on any number of machines.  It returns when `stop` is set, and waits while PostgreSQL
           is away.
Leader.    One process at a time seals (see `store/leader`).  Should two hold the lock for a moment, the primary key of
           the batches lets one of them through.
Once.      Batch, hashes and checkpoint are one transaction.  The next sealer begins where the last batch ends, so no
           event is sealed twice or left out, whenever the sealer before was killed.
Order.     See `log`.  A transaction that is open for an hour delays sealing for an hour; see `waiting`.
Cost.      About 10 µs of CPU an event here and 5 in PostgreSQL, in portions.  After each portion the sealer rests for
           as long as the portion took, so that an import beside it keeps its core.
Refusal.   It does not sign a log that does not extend what it signed last, and does not sign without the key.  It logs
           the reason and tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final

import asyncpg
import msgspec

from oracle.audit import log
from oracle.audit.keys import KEYS_LOCK, SEALING_LOCK, KeyFile, KeyFileError, create_first_key, signers_of
from oracle.audit.log import Bound, Era
from oracle.audit.signer import Signer, sign_note
from oracle.backoff import pause
from oracle.jobs import assume_presence
from oracle.store.leader import IsAway, Leader, close
from oracle.store.queries import QUERIES
from oracle.store.servers import Servers
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics
from oracle.verifier import leaf, merkle
from oracle.verifier.checkpoint import BadNote, Checkpoint

INTERVAL_S: Final = 1.0
REPEAT_S: Final = 300.0  # a log line that nobody saw comes again
PARTITIONS_S: Final = 6 * 3600.0
# The server ends the session of a process that hangs: such a process must not keep the lock.
_WRITE_SETTINGS: Final = {"statement_timeout": "60000", "idle_in_transaction_session_timeout": "60000"}

events_log = logs.Log(__name__)


class SealingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is sealed at once."""

    batch: int = 8_192  # events: 32 whole tiles, some 150 ms of work that a kill loses and a `stop` waits for
    snapshot_rows: int = log.SNAPSHOT_ROWS


LIMITS: Final = SealingLimits()


class Refused(Exception):
    """The log cannot be sealed now; the text is one line for the operator."""


class _Superseded(Exception):
    """A key was added after the signers were chosen."""


class Sealer:
    def __init__(
        self,
        servers: Servers,
        key_file: KeyFile,
        metrics: Metrics | None = None,
        *,
        interval_s: float = INTERVAL_S,
        rest: float = 1.0,
        limits: SealingLimits = LIMITS,
        is_away: IsAway = assume_presence,
    ) -> None:
        """`rest`: the pause after a portion, as a multiple of the time that the portion took.

        `is_away`: as for `Leader`.
        """
        self._servers = servers
        self._file = key_file
        self._metrics = metrics
        self._interval_s = interval_s
        self._rest = rest
        self._limits = limits
        self._is_away = is_away
        self._condition = logs.Condition(events_log, "Sealing of history", level=logging.ERROR, repeat_s=REPEAT_S)

    async def run(self, stop: asyncio.Event) -> None:
        """Seal until `stop` is set.  A job, see `jobs`."""
        self._report_sealing(False)
        await Leader(
            self._connect, SEALING_LOCK, self._lead, self._condition, look_s=self._interval_s,
            # The texts of these are ours and hold no identifier.
            refusals=(Refused, KeyFileError, BadNote, log.Damaged),
            transient=(asyncpg.UniqueViolationError,), notice=self._report_state, is_away=self._is_away,
        ).run(stop)  # fmt: skip

    async def _connect(self) -> asyncpg.Connection:
        return await log.connect(self._servers, "oracle sealer", **_WRITE_SETTINGS)

    async def _lead(self, writer: asyncpg.Connection, stop: asyncio.Event) -> None:
        """Seal on the connection that holds the lock: without the lock nothing is written."""
        reader = await log.connect(self._servers, "oracle sealer")
        try:
            sealing = await Sealing.begin(writer, reader, self._file, self._limits)
            events_log.info("This process seals history now", size=sealing.tree.size)
            self._report_sealing(True)
            await self._seal(sealing, stop)
        finally:
            self._report_sealing(False)
            await close(reader)

    async def _seal(self, sealing: Sealing, stop: asyncio.Event) -> None:
        """Seal what is committed, look for more every interval_s, and make partitions every PARTITIONS_S."""
        loop = asyncio.get_running_loop()
        partitions_at = loop.time()
        while not stop.is_set():
            began = loop.time()
            async with aclosing(sealing.portions()) as portions:
                async for sealed in portions:
                    self._count(sealed)
                    # During the rest, other processes do work that somebody waits for.
                    if await pause((loop.time() - began) * self._rest if sealed >= self._limits.batch else 0, stop):
                        return
                    began = loop.time()
            self._report_state(True)
            self._condition.now("ok")
            if loop.time() >= partitions_at:
                await _make_partitions(sealing.writer)
                partitions_at = loop.time() + PARTITIONS_S
            await pause(self._interval_s, stop)

    def _report_sealing(self, seals: bool) -> None:
        if self._metrics is not None:
            self._metrics.set("audit_sealing", float(seals))

    def _report_state(self, works: bool) -> None:
        if self._metrics is not None:
            self._metrics.set("job_failing", float(not works), job="sealing")

    def _count(self, sealed: int) -> None:
        if self._metrics is not None:
            self._metrics.add("audit_sealed_total", sealed)


class Sealing:
    """The state of the process that seals: its connections, the end of the log, the keys."""

    def __init__(
        self, writer: asyncpg.Connection, reader: asyncpg.Connection, file: KeyFile, limits: SealingLimits
    ) -> None:
        self.writer, self._reader, self._file, self._limits = writer, reader, file, limits
        self.tree = merkle.Frontier()
        self._era = Era(0, 0, None)
        self._bound = log.START
        self._origin = ""
        self._signers: Sequence[Signer] = ()
        self._keys = 0

    @classmethod
    async def begin(
        cls, writer: asyncpg.Connection, reader: asyncpg.Connection, file: KeyFile, limits: SealingLimits = LIMITS
    ) -> Sealing:
        """Read the end of the log, and compare it with what was signed last.  Raises Refused, KeyFileError."""
        sealing = cls(writer, reader, file, limits)
        sealing._origin = await writer.fetchval(QUERIES["audit_origin"])
        if not await log.fetch_keys(writer):
            await create_first_key(writer, sealing._origin, file)
        await sealing._choose_signers()
        await writer.execute(QUERIES["audit_era_begin"])
        state = await log.fetch_state(writer)
        sealing.tree, sealing._bound = await log.fetch_frontier(writer, state.size), state.bound
        sealing._era = (await log.fetch_eras(writer))[state.era]
        await sealing._compare()
        return sealing

    async def _compare(self) -> None:
        last = self._file.read_last()
        if last is None:
            return
        if last.origin != self._origin:
            raise Refused("the checkpoint beside the key file is of another log: use the key file of this directory")
        if last.size > self.tree.size or await log.fetch_root(self.writer, last.size) != last.root:
            raise Refused(
                "the log does not extend what was signed here last:"
                " run `oracle audit verify`, then `oracle audit accept` to sign on from the log as it is"
            )

    async def _choose_signers(self) -> None:
        keys = await log.fetch_keys(self.writer)
        self._signers, self._keys = signers_of(self._origin, keys, self._file.read()), len(keys)

    async def portions(self) -> Any:
        """Seal everything that can be sealed now; yield the number of events of each batch."""
        batch, snapshot_rows = self._limits.batch, self._limits.snapshot_rows
        while True:
            committed = log.stream_events(self._reader, self._era, self._bound, snapshot_rows=snapshot_rows)
            async with aclosing(committed) as events:
                rows: list[Any] = []
                async for more in events:
                    rows += more
                    while len(rows) >= batch:
                        await self._append(rows[:batch])
                        yield batch
                        rows = rows[batch:]
            if rows:
                await self._append(rows)
                yield len(rows)
            if self._era.until_event_id is None:
                return
            # All of this era is sealed: the events after it are of another cluster.
            self._era, self._bound = (await log.fetch_eras(self.writer))[self._era.number + 1], log.START

    async def _append(self, rows: list[Any]) -> None:
        hashes = []
        for at in range(0, len(rows), log.CHUNK):
            hashes += [leaf.leaf_hash(leaf.line(row)) for row in rows[at : at + log.CHUNK]]
            await asyncio.sleep(0)  # lets the other jobs of this process run
        tree = self.tree.copy()
        first = tree.size
        tree.extend(hashes)
        fragments = merkle.fragments(first, hashes, tree.completed)
        root = tree.root()
        bound = Bound(rows[-1]["xact"], rows[-1]["event_id"])
        ids_max = max(row["event_id"] for row in rows)
        while True:
            note = sign_note(Checkpoint(self._origin, tree.size, root).text, self._signers)
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
        self._file.write_last(note)


async def _make_partitions(connection: asyncpg.Connection) -> None:
    try:
        made = await connection.fetchval(QUERIES["partitions_ahead"])
    except (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError):
        raise  # sealing cannot go on either, and the caller reports that once
    except asyncpg.PostgresError as exc:
        # A long query holds a lock; there are months left to try again.
        events_log.warning("Cannot create partitions of history; trying again later", exc=exc)
        return
    if made:
        events_log.info("Created partitions of history", months=made)
