"""The job that keeps the registration at ALS: it heals within its interval, one process does it, and it reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import isnan
from typing import TYPE_CHECKING

from als_stand_in import open_als, write
from test_registration import OURS, THEIRS, World

from oracle.registration.job import REPLACEMENTS_HOUR_MAX, RegistrationJob
from oracle.store.servers import Servers
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import pytest

EVERY_S = 0.02


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a condition of another server
            await asyncio.sleep(0.005)


def read(metrics: Metrics, party_id_type: str = "MSISDN") -> float:
    return metrics.cells[metrics.slot("als_registered", party_id_type=party_id_type)]


@asynccontextmanager
async def run_job(
    world: World, *, replace: bool = False, is_default: bool = False, every_s: float = EVERY_S
) -> AsyncIterator[Metrics]:
    metrics = Metrics.open(None, "jobs", 0)
    servers = Servers(world.database_url)
    job = RegistrationJob(
        world.make("MSISDN", "ALIAS", is_default=is_default), lambda: servers.connect("test"), metrics,
        every_s=every_s, replace=replace, look_s=0.02,
    )  # fmt: skip
    stop = asyncio.Event()
    running = asyncio.create_task(job.run(stop))
    try:
        yield metrics
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


async def test_a_wiped_als_heals_within_the_interval_and_each_act_is_an_event(database_url: str) -> None:
    async with open_als() as als:
        world = World(als, database_url)
        async with run_job(world) as metrics:
            await wait_for(lambda: len(als.rows) == 2)
            als.rows.clear()  # as an upgrade of the hub does
            await wait_for(lambda: len(als.rows) == 2)
            await wait_for(lambda: read(metrics) == read(metrics, "ALIAS") == 1)
            assert metrics.cells[metrics.slot("als_checked_timestamp_seconds")] > 0
        await world.calls.close()
        assert await world.list_events() == [("registered", "registration", None, OURS)] * 4


async def test_two_processes_register_once_and_the_second_goes_on_when_the_first_ends(database_url: str) -> None:
    async with open_als() as als:
        world = World(als, database_url)
        async with run_job(world) as first, run_job(world) as second:
            await wait_for(lambda: read(first) == 1 or read(second) == 1)
            checks = len(als.calls)
            await wait_for(lambda: len(als.calls) > checks + 5)
            assert isnan(read(first)) != isnan(read(second))
        async with run_job(world) as third:
            await wait_for(lambda: read(third) == 1)
        await world.calls.close()
        assert als.changes == ["POST /oracles"] * 2


async def test_a_row_of_another_endpoint_is_reported_and_left(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "oracle.registration")
    async with open_als() as als:
        world = World(als, database_url)
        als.have("MSISDN", THEIRS)
        async with run_job(world) as metrics:
            await wait_for(lambda: read(metrics) == 0 and read(metrics, "ALIAS") == 1)
            als.rows[0] = als.rows[0]._replace(url=OURS)
            await wait_for(lambda: read(metrics) == 1)
        await world.calls.close()
        assert als.changes == ["POST /oracles"]
    reported = [each for each in caplog.records if each.getMessage().startswith("The registration at ALS")]
    assert [each.getMessage() for each in reported] == [
        "The registration at ALS is not as wanted: see `oracle als status`",
        "The registration at ALS is as wanted",
    ]
    assert reported[0].__dict__["fields"]["types"] == "MSISDN"


async def test_it_replaces_where_it_may_and_not_without_end(database_url: str) -> None:
    async with open_als() as als:
        world = World(als, database_url)
        als.have("ALIAS", OURS)
        async with run_job(world, replace=True) as metrics:
            for _ in range(REPLACEMENTS_HOUR_MAX):
                als.rows = [each for each in als.rows if each.party_id_type != "MSISDN"]
                als.have("MSISDN", THEIRS)
                await wait_for(lambda: als.choose("MSISDN") == OURS)
                # A change while the job checks its own row counts as none, so the next one waits for the end of that.
                changed = len(als.calls)
                await wait_for(lambda changed=changed: len(als.calls) > changed + 3)  # type: ignore[misc]
            als.rows = [each for each in als.rows if each.party_id_type != "MSISDN"]
            als.have("MSISDN", THEIRS)
            await wait_for(lambda: read(metrics) == 0)
            checks = len(als.calls)
            await wait_for(lambda: len(als.calls) > checks + 3)
            assert als.choose("MSISDN") == THEIRS
        await world.calls.close()


async def test_while_als_fails_the_metric_keeps_what_was_found_and_the_job_goes_on(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_als() as als:
        world = World(als, database_url)

        async def fail(_method: str, _target: str) -> bytes | None:
            return write(503, b"")

        async with run_job(world) as metrics:
            await wait_for(lambda: read(metrics) == 1)
            als.fault = fail
            als.rows.clear()
            checks = len(als.calls)
            await wait_for(lambda: len(als.calls) > checks + 3)
            assert read(metrics) == 1
            als.fault = None
            await wait_for(lambda: len(als.rows) == 2)
        await world.calls.close()
    texts = [each.getMessage() for each in caplog.records]
    assert "ALS cannot be checked: ALS answered with status 503" in texts


async def test_what_als_does_not_create_is_reported_as_lost(database_url: str) -> None:
    async def refuse(method: str, _target: str) -> bytes | None:
        return write(500, b"{}") if method == "POST" else None

    async with open_als() as als:
        world = World(als, database_url)
        async with run_job(world) as metrics:
            await wait_for(lambda: read(metrics) == read(metrics, "ALIAS") == 1)
            als.fault = refuse
            als.rows.clear()
            await wait_for(lambda: read(metrics) == read(metrics, "ALIAS") == 0)
            als.fault = None
            await wait_for(lambda: read(metrics) == read(metrics, "ALIAS") == 1)
        await world.calls.close()


async def test_it_stops_at_once_during_a_long_interval(database_url: str) -> None:
    async with open_als() as als:
        world = World(als, database_url)
        async with run_job(world, every_s=3600) as metrics:
            await wait_for(lambda: read(metrics) == 1)
        await world.calls.close()
