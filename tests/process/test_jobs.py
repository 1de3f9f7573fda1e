"""Background work: jobs that fail start again; they run in a process of `serve`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import StartPostgres
from oracle_process import PATIENCE_S, OracleProcess, is_gone, start_oracle, until

from oracle import jobs
from oracle.telemetry import logs

SECRET = "525512345678"


async def forever(stop: asyncio.Event) -> None:
    await stop.wait()


class Pauses:
    """Pauses that take no time.  The last one sets `stop`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken: list[float] = []

    async def __call__(self, seconds: float, stop: asyncio.Event) -> None:
        self.taken.append(seconds)
        if len(self.taken) == self.most:
            stop.set()


# The runner ---------------------------------------------------------------------------------------------------


async def failing(_: asyncio.Event) -> None:
    raise ValueError(SECRET)


async def wait_for_a_cancelled_task(_: asyncio.Event) -> None:
    other = asyncio.create_task(asyncio.sleep(60))
    other.cancel()
    await other


@pytest.mark.parametrize("job", [failing, wait_for_a_cancelled_task])
async def test_a_job_that_keeps_failing_starts_again_after_longer_and_longer_pauses(job: jobs.Job) -> None:
    pauses = Pauses(8)
    await jobs.run([("failing", job)], asyncio.Event(), pause=pauses)
    assert pauses.taken == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_a_job_that_ran_for_long_starts_again_soon() -> None:
    pauses = Pauses(3)
    await jobs.run([("failing", failing)], asyncio.Event(), pause=pauses, steady_s=-1.0)
    assert pauses.taken == [1, 1, 1]


async def test_the_others_go_on_while_one_fails() -> None:
    stop, asked, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    pauses = Pauses(3)

    async def answering(_: asyncio.Event) -> None:
        await asked.wait()
        answered.set()

    async def failing_twice(stop: asyncio.Event) -> None:
        if len(pauses.taken) < 2:
            raise OSError
        asked.set()
        await answered.wait()
        stop.set()

    await jobs.run([("answering", answering), ("failing", failing_twice)], stop, pause=pauses)
    assert pauses.taken == [1, 2]


async def test_a_failure_is_logged_without_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", stream=sys.stderr)
    await jobs.run([("failing", failing)], asyncio.Event(), pause=Pauses(1))
    text = capsys.readouterr().err
    assert SECRET not in text
    line = json.loads(text)
    assert (line["event"], line["job"], line["exception"][0]["type"]) == (
        "A job failed; starting it again",
        "failing",
        "ValueError",
    )


async def test_a_job_that_returns_is_done() -> None:
    stop, runs = asyncio.Event(), []

    async def once(_: asyncio.Event) -> None:
        runs.append(1)

    running = asyncio.create_task(jobs.run([("once", once)], stop))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    stop.set()
    await running
    assert runs == [1]


async def test_a_stop_waits_for_all_jobs() -> None:
    stop, begun, ended = asyncio.Event(), asyncio.Event(), []

    def taking(turns: int) -> jobs.Job:
        async def job(stop: asyncio.Event) -> None:
            begun.set()
            await stop.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            ended.append(turns)

        return job

    running = asyncio.create_task(jobs.run([("short", taking(1)), ("long", taking(50))], stop))
    await begun.wait()
    stop.set()
    await running
    assert ended == [1, 50]


async def test_a_stop_ends_the_pause_after_a_failure() -> None:
    stop, failed = asyncio.Event(), asyncio.Event()

    async def failing_once(_: asyncio.Event) -> None:
        failed.set()
        raise OSError

    running = asyncio.create_task(jobs.run([("failing", failing_once)], stop, pauses_s=(3600.0,)))
    await failed.wait()
    stop.set()
    await running


async def test_a_job_that_does_not_stop_in_time_is_cancelled_and_can_clean_up() -> None:
    stop, begun, cleaned = asyncio.Event(), asyncio.Event(), False

    async def deaf(_: asyncio.Event) -> None:
        nonlocal cleaned
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    async def outer(stop: asyncio.Event) -> None:
        await jobs.run([("deaf", deaf)], stop)

    running = asyncio.create_task(jobs.run([("outer", outer), ("forever", forever)], stop, timeout_s=0))
    await begun.wait()
    stop.set()
    await running
    assert cleaned


async def test_without_jobs_it_waits_for_the_stop() -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(jobs.run([], stop))
    await asyncio.sleep(0)
    assert not running.done()
    stop.set()
    await running


# The process --------------------------------------------------------------------------------------------------


@pytest.fixture
def servers(database_url: str, redis_url: str) -> dict[str, str]:
    return {"ORACLE_DATABASE_URL": database_url, "ORACLE_REDIS_URL": redis_url}


def the_worker(oracle: OracleProcess) -> psutil.Process:
    (worker,) = oracle.workers("jobs")
    return worker


def check_metrics(oracle: OracleProcess, series: str) -> Callable[[], bool]:
    """Whether the metrics page has this line."""

    def look() -> bool:
        with urllib.request.urlopen(f"{oracle.admin_url}/metrics", timeout=PATIENCE_S) as page:  # noqa: S310 - our own
            return series in page.read().decode().splitlines()

    return look


def test_it_is_one_process_that_lets_others_go_first(tmp_path: Path, servers: dict[str, str]) -> None:
    with start_oracle(tmp_path, servers) as oracle:
        worker = the_worker(oracle)
        until(check_metrics(oracle, 'moja_oracle_database_connected{index="0",role="jobs"} 1.0'))
        until(check_metrics(oracle, 'moja_oracle_processes{role="jobs"} 1.0'))
        (hub,) = oracle.workers("hub")
        assert worker.nice() == hub.nice() + 10
        assert not [c for c in worker.net_connections("inet") if c.status == psutil.CONN_LISTEN]

        oracle.signal(signal.SIGHUP)
        until(lambda: oracle.find_log_lines("All workers are replaced"))
        fresh = the_worker(oracle)
        assert fresh.pid != worker.pid
        assert oracle.find_log_lines("The jobs worker stopped")
        assert not oracle.find_log_lines("A worker ended; starting another one")

        fresh.kill()
        until(lambda: {worker.pid for worker in oracle.workers("jobs")} - {fresh.pid})
        (death,) = oracle.find_log_lines("A worker ended; starting another one")
        assert (death["worker"], death["reason"]) == ("jobs worker 0", "killed by SIGKILL")

        assert oracle.stop() == 0
        oracle.wait_gone()
        assert not oracle.find_log_lines("A worker did not stop in time; killing it")
        assert "Traceback" not in oracle.output


async def test_it_waits_while_postgresql_is_away_also_at_its_start(
    tmp_path: Path, start_postgres: StartPostgres, redis_url: str
) -> None:
    server = await start_postgres()
    urls = {"ORACLE_DATABASE_URL": server.url(), "ORACLE_DATABASE_OWNER_URL": server.url()}
    env = {**urls, "ORACLE_REDIS_URL": redis_url, "ORACLE_WORKERS": "1"}
    oracle = await asyncio.to_thread(start_oracle, tmp_path, env)
    with oracle:
        old = the_worker(oracle)
        await server.stop()
        old.kill()
        await asyncio.to_thread(until, lambda: is_gone(old) and oracle.workers("jobs"))
        await asyncio.to_thread(
            until, lambda: any(line["event"].startswith("datastore down: ") for line in oracle.read_lines())
        )
        worker = the_worker(oracle)
        await server.start()
        await asyncio.to_thread(
            until, check_metrics(oracle, 'moja_oracle_database_connected{index="0",role="jobs"} 1.0')
        )
        assert not is_gone(worker)
        assert the_worker(oracle).pid == worker.pid
        assert not [line for line in oracle.read_lines() if "exception" in line]
        assert await asyncio.to_thread(oracle.stop) == 0
