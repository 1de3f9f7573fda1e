"""Runs imports in one event loop, on a real PostgreSQL and a real Valkey, without HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import asyncpg

from oracle import errors
from oracle.identifiers import Reading
from oracle.imports import decisions, results, uploads
from oracle.imports.applying import PASSES_MAX
from oracle.imports.import_limits import ImportLimits
from oracle.imports.worker import Imports
from oracle.store.base import Context
from oracle.store.cache.coherence import TIMING, TOKEN_MS, Coherence, Timing
from oracle.store.cache.session import dial
from oracle.store.changes import Changes
from oracle.store.postgres import Postgres, Transaction, open_postgres
from oracle.telemetry.metrics import Metrics

READING = Reading()
HEADER = "kind,identifier,sub_id,currency,country,action\n"
BUSY = frozenset({"validating", "applying"})


class Engine:
    def __init__(self, database_url: str, postgres: Postgres, changes: Changes, db: asyncpg.Connection) -> None:
        self.database_url = database_url
        self.postgres = postgres
        self.changes = changes
        self.db = db
        self.metrics = Metrics.open(None, "jobs", 0)
        self.passes_max = PASSES_MAX
        self.limits = ImportLimits(look_s=0.01, idle_s=0.01)

    def make_imports(self) -> Imports:
        return Imports(
            self.changes, self.postgres, self.metrics, reading=READING, limits=self.limits,
            passes_max=self.passes_max,
        )  # fmt: skip

    def set_limits(self, **limits: Any) -> None:
        self.limits = replace(self.limits, **limits)

    async def upload(self, data: str | bytes, fsp_id: str = "a", by: str = "maker") -> int:
        """Upload a file, and return the number of its batch.  Nothing reads it yet."""
        context = as_uploader(by)
        raw = data.encode() if isinstance(data, str) else data

        async def body() -> AsyncIterator[bytes]:
            for at in range(0, len(raw), 1000):
                yield raw[at : at + 1000]

        received = await uploads.receive(self.changes, context, body(), self.limits, fsp_id=fsp_id)
        new = uploads.NewBatch(fsp_id=fsp_id, file_name=f"{fsp_id}.csv")

        async def add(transaction: Transaction) -> Any:
            return await uploads.add_batch(transaction, context, received, new)

        batch = await self.changes.administer(context, add)
        return int(batch["batch_id"])

    async def upload_rows(self, *lines: str, fsp_id: str = "a") -> int:
        return await self.upload(HEADER + "".join(f"{line}\n" for line in lines), fsp_id)

    async def work(self, *batch_ids: int) -> list[Any]:
        """Import until these batches have nothing left to do; return their rows."""
        async with self.run_imports():
            return [await self.wait_settled(batch_id) for batch_id in batch_ids]

    @asynccontextmanager
    async def run_imports(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.make_imports().run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def wait_settled(self, batch_id: int) -> Any:
        return await self.wait_until(batch_id, lambda batch: batch["state"] not in BUSY)

    async def wait_until(self, batch_id: int, condition: Callable[[Any], bool]) -> Any:
        """Return the batch when the condition holds.  Try again if PostgreSQL is unavailable, as imports do."""
        async with asyncio.timeout(120):
            while True:
                with suppress(errors.DirectoryUnavailable):
                    batch = await self.fetch_batch(batch_id)
                    if condition(batch):
                        return batch
                await asyncio.sleep(0.01)

    async def fetch_batch(self, batch_id: int) -> Any:
        return await self.postgres.row("batch", batch_id, None)

    async def decide(self, batch_id: int, *, approve: bool, by: str = "checker") -> None:
        async def work(transaction: Transaction) -> None:
            batch = await decisions.lock_batch(transaction, "a", batch_id)
            await decisions.decide(transaction, batch, approve=approve, by=by, person=None, reason="because")

        await self.changes.administer(as_uploader(by), work)

    async def cancel(self, batch_id: int) -> None:
        async def work(transaction: Transaction) -> None:
            await decisions.cancel(transaction, await decisions.lock_batch(transaction, "a", batch_id), by="maker")

        await self.changes.administer(as_uploader("maker"), work)

    async def fetch_results(
        self, batch_id: int, form: results.Form | None = None, *, only_failed: bool = False
    ) -> bytes:
        file_format = (await self.fetch_batch(batch_id))["file_format"]
        pieces = results.stream_results(self.postgres, batch_id, form, file_format=file_format, only_failed=only_failed)
        return b"".join([piece async for piece in pieces])

    async def list_results(self, batch_id: int) -> list[tuple[int, str]]:
        """Return each line with its result: the code if it has one, else the status."""
        rows = map(json.loads, (await self.fetch_results(batch_id, "ndjson")).splitlines())
        return [(row["line"], row["code"] or row["status"]) for row in rows]

    async def import_rows(self, *lines: str, fsp_id: str = "a") -> list[str]:
        """Import a file with these rows, and return the result of each."""
        batch_id = await self.upload_rows(*lines, fsp_id=fsp_id)
        await self.work(batch_id)
        return [outcome for _, outcome in await self.list_results(batch_id)]


def as_uploader(by: str) -> Context:
    return Context(channel="admin", actor=by, role="dfsp-maker")


@asynccontextmanager
async def open_engine(
    database_url: str, redis_url: str, fsps: Sequence[str] = ("a", "b"), *, timing: Timing = TIMING
) -> AsyncIterator[Engine]:
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(open_postgres(database_url, desk=True))
        coherence = Coherence(postgres.watch, _make_dialler(redis_url), "t", timing=timing)
        postgres.watch.on_notice = coherence.confirm_soon
        stack.push_async_callback(coherence.close)
        await coherence.open()
        async with asyncio.timeout(60):
            while coherence.session is None:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
        changes = Changes(postgres, coherence, fsp_registration="required")
        stack.push_async_callback(changes.close)
        db = await asyncpg.connect(database_url)
        stack.callback(db.terminate)
        await db.execute("INSERT INTO fsps (fsp_id) SELECT unnest($1::text[])", list(fsps))
        yield Engine(database_url, postgres, changes, db)


def _make_dialler(redis_url: str) -> Callable[[], Awaitable[Any]]:
    async def connect() -> Any:
        return await dial(redis_url, timeout_ms=1000, token_ms=TOKEN_MS)

    return connect
