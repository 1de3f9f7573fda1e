"""How long history waits to be sealed: seen by the database, whether a sealer works or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import isnan
from pathlib import Path

import pytest
from sealing import findings, open_connection, register, seal, tampering

from oracle.audit import log, waiting
from oracle.audit.keys import KeyFile
from oracle.audit.sealer import Refused, Sealing
from oracle.store.postgres import open_postgres
from oracle.telemetry.metrics import Metrics

# Times of events are set back, because a test cannot wait for minutes.
AGE = "UPDATE events SET at = at - interval '10 minutes'"
LIMIT_S = 300.0


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[Metrics]:
    """The metrics of a process that watches."""
    metrics = Metrics.open(None, "admin", 0)
    async with open_postgres(url, desk=True) as postgres:
        task = asyncio.create_task(waiting.watch(postgres, metrics, LIMIT_S, every_s=0.01))
        try:
            yield metrics
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until_waiting(metrics: Metrics, low: float, high: float) -> None:
    async with asyncio.timeout(30):
        while not low <= metrics.read_gauge("audit_waiting_seconds") <= high:  # noqa: ASYNC110 - a gauge sets no event
            await asyncio.sleep(0.01)


async def age_events(url: str) -> None:
    async with tampering(url) as connection:
        await connection.execute(AGE)


async def test_events_that_nobody_ever_seals_wait(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    await register(database_url, 0, 3)
    await age_events(database_url)
    async with watching(database_url) as metrics:
        await until_waiting(metrics, 600, 700)
    assert [record.levelname for record in caplog.records if "is late" in record.message] == ["ERROR"]
    assert any("has waited 60" in finding for finding in await findings(database_url, waiting_max_s=LIMIT_S))
    assert await findings(database_url) == []  # a copy that no service uses: without a limit


async def test_the_wait_ends_when_events_are_sealed_and_begins_again(database_url: str, tmp_path: Path) -> None:
    metrics = Metrics.open(None, "admin", 0)
    assert isnan(metrics.read_gauge("audit_waiting_seconds"))
    await register(database_url, 0, 3)
    await seal(database_url, tmp_path / "keys")
    async with watching(database_url) as metrics:
        await until_waiting(metrics, 0, 0)
        await register(database_url, 3, 3)
        await until_waiting(metrics, 0.001, LIMIT_S)
        assert await findings(database_url, waiting_max_s=LIMIT_S) == []
        await seal(database_url, tmp_path / "keys")
        await until_waiting(metrics, 0, 0)


async def test_an_open_transaction_makes_later_events_wait(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, 1)
    await seal(database_url, tmp_path / "keys")
    async with open_connection(database_url) as open_one, watching(database_url) as metrics:
        transaction = open_one.transaction()
        await transaction.start()
        await open_one.execute("INSERT INTO fsps (fsp_id) VALUES ('slowbank')")
        await register(database_url, 1, 1)
        writer, reader = [await log.connect(database_url, "test") for _ in range(2)]
        sealing = await Sealing.begin(writer, reader, KeyFile(tmp_path / "keys"))
        assert [sealed async for sealed in sealing.portions()] == []
        await until_waiting(metrics, 0.001, LIMIT_S)
        await transaction.rollback()
        for connection in (writer, reader):
            await connection.close()
        await seal(database_url, tmp_path / "keys")
        await until_waiting(metrics, 0, 0)


async def test_events_wait_while_the_only_sealer_refuses(database_url: str, tmp_path: Path) -> None:
    await register(database_url, 0, 1)
    await seal(database_url, tmp_path / "keys")
    (tmp_path / "keys.last").write_text((tmp_path / "keys.last").read_text().replace("alias-oracle/", "alias-oracle/x"))
    await register(database_url, 1, 1)
    await age_events(database_url)
    with pytest.raises(Refused):
        await seal(database_url, tmp_path / "keys")
    async with watching(database_url) as metrics:
        await until_waiting(metrics, 600, 700)


async def test_verification_beside_a_sealer_finds_nothing(database_url: str, tmp_path: Path) -> None:
    """What is sealed while the verification reads is not "beyond the end of the log"."""
    await register(database_url, 0, 1)
    await seal(database_url, tmp_path / "keys")
    stop = asyncio.Event()

    async def go_on_sealing() -> None:
        first = 1
        while not stop.is_set():
            await register(database_url, first, 1)
            await seal(database_url, tmp_path / "keys")
            first += 1

    task = asyncio.create_task(go_on_sealing())
    try:
        found = [finding for _ in range(10) for finding in await findings(database_url)]
    finally:
        stop.set()
        await task
    assert found == []
