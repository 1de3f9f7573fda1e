"""SIGHUP: new settings come into effect with new workers, or the old ones stay in use and the log says why."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import cast

import httpx
import msgspec
from oracle_process import PATIENT, SERVE, OracleProcess, start_oracle, until

from oracle.run.crew import Crew, CrewLimits, Post, WorkerProcess
from oracle.run.order import Order
from oracle.run.reload import AT_START, OF_COMMANDS
from oracle.run.tls import Credentials
from oracle.settings import SETTINGS, Settings

READ = "The settings were read again"
REFUSED = "The settings cannot be used; the old ones stay in use. Correct them, then send SIGHUP again"
RESTART = "Some changed settings need a restart; until then the old ones stay in use"
REPLACED = "All workers are replaced"


def hang_up(oracle: OracleProcess, event: str) -> dict[str, object]:
    """Send SIGHUP; return the next line of this event."""
    before = len(oracle.find_log_lines(event))
    oracle.signal(signal.SIGHUP)
    until(lambda: len(oracle.find_log_lines(event)) > before)
    return oracle.find_log_lines(event)[-1]


def post(oracle: OracleProcess) -> int:
    kind = "application/vnd.interoperability.participants+json;version=1.1"
    headers = {"fspiop-source": "fsp-new", "content-type": kind}
    content = b'{"fspId":"fsp-new"}' + b" " * 2_000
    return httpx.post(f"{oracle.hub_url}/participants/ALIAS/1", headers=headers, content=content).status_code


def test_sighup_reads_the_settings_again(tmp_path: Path, database_url: str, redis_url: str) -> None:
    file = tmp_path / "oracle.toml"
    first = f'database_url = "{database_url}"\nredis_url = "{redis_url}"\nbody_max_bytes = 1024\n'
    file.write_text(first)
    command = (*SERVE, "--only", "hub", "--config", str(file))
    with start_oracle(tmp_path, {**PATIENT, "ORACLE_CACHE_TTL_S": "100"}, command=command) as oracle:
        assert post(oracle) == 413
        port = oracle.hub_port
        workers = [worker.pid for worker in oracle.workers()]

        for broken, problem in (
            ("= nothing", "is not valid TOML"),
            (f"{first}body_max_bites = 1", "body_max_bites: no such setting; did you mean body_max_bytes?"),
            (first.replace("1024", "12"), "body_max_bytes: '12' is not allowed; use a whole number from 1024"),
            (f'{first}nrc_townships = "/nowhere.csv"', "ORACLE_NRC_TOWNSHIPS: "),
            (None, "cannot be read"),
        ):
            file.unlink(missing_ok=True)
            if broken is not None:
                file.write_text(broken)
            assert problem in str(hang_up(oracle, REFUSED)["problems"])
        assert [worker.pid for worker in oracle.workers()] == workers
        assert not oracle.find_log_lines("Replacing the workers")
        assert post(oracle) == 413

        secret = "postgresql://u:hush-hush@elsewhere/oracle"
        lines = (
            f'database_url = "{secret}"',
            f'redis_url = "{redis_url}"',
            "hub_port = 1",
            "body_max_bytes = 4096",
            "cache_ttl_s = 7",
            'otlp_endpoint = "http://127.0.0.1:1/v1?token=hush-hush"',
            'admin_url = "http://a"',
        )
        file.write_text("\n".join(lines))
        line = hang_up(oracle, REPLACED)
        assert oracle.find_log_lines(READ)[-1]["changed"] == [  # and not cache_ttl_s, which the environment sets
            "ORACLE_BODY_MAX_BYTES: 1024 -> 4096", "ORACLE_OTLP_ENDPOINT: not set -> http://127.0.0.1:1/v1?token=***",
        ]  # fmt: skip
        (restart,) = oracle.find_log_lines(RESTART)
        # The port 0 of the environment goes on as well: only the file has changed.
        assert [str(each).partition(":")[0] for each in cast("list[object]", restart["settings"])] == [
            "ORACLE_DATABASE_URL"
        ]
        assert "hush-hush" not in oracle.output
        assert line["level"] == "info"
        assert post(oracle) == 201
        assert oracle.hub_port == port
        assert not {worker.pid for worker in oracle.workers()} & set(workers)

        file.write_text(file.read_text().replace("4096", "1024").replace(secret, database_url))
        hang_up(oracle, REPLACED)
        assert post(oracle) == 413
        assert len(oracle.find_log_lines(RESTART)) == 1


class Worker:
    """A worker that starts, or does not, with the order that it gets."""

    born = 0.0
    end_reason = "exit code 1"
    confirmed = None

    def __init__(self, is_good: bool) -> None:
        self.is_good = is_good
        self.orders: list[Order] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def instruct(self, order: Order) -> None:
        self.orders.append(order)

    async def is_ready(self) -> bool:
        return self.is_good

    def signal(self, _: int) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def test_when_a_worker_does_not_start_with_new_settings_all_go_on_with_the_old_ones(tmp_path: Path) -> None:
    """Also those that were replaced before, and those that are started again later."""
    started: list[Worker] = []

    async def start_worker(_: Post) -> WorkerProcess:
        started.append(Worker(is_good=len(started) != 4))  # the second one of the replacement
        return cast("WorkerProcess", started[-1])

    old = Order(Settings(workers=3, cache_ttl_s=100), tmp_path)
    new = msgspec.structs.replace(old, settings=Settings(workers=3, cache_ttl_s=200))
    crew = Crew(old.settings, ("hub",), {}, start_worker, CrewLimits())
    await crew.instruct(old)
    await crew.wait_ready()
    await crew.replace_all(old, new)
    ttls = [worker.orders[0].settings.cache_ttl_s for worker in started]
    assert ttls == [100, 100, 100, 200, 200, 100]
    living = [worker for worker in started if not worker.ended.done()]
    assert [started.index(worker) for worker in living] == [1, 2, 5]
    assert {worker.orders[0].settings.cache_ttl_s for worker in living} == {100}
    await crew.replace_all(old, new)
    assert [worker.orders[0].settings.cache_ttl_s for worker in started[6:]] == [200, 200, 200]


async def test_when_a_worker_does_not_start_with_a_new_certificate_all_go_on_with_the_old_one(tmp_path: Path) -> None:
    started: list[Worker] = []

    async def start_worker(_: Post) -> WorkerProcess:
        started.append(Worker(is_good=len(started) != 3))  # the second one of the replacement
        return cast("WorkerProcess", started[-1])

    old = Order(Settings(workers=2), tmp_path, credentials={"hub": Credentials("old", "", 0)})
    new = msgspec.structs.replace(old, credentials={"hub": Credentials("new", "", 0)})
    crew = Crew(old.settings, ("hub",), {}, start_worker, CrewLimits())
    await crew.instruct(old)
    await crew.wait_ready()
    await crew.replace_all(old, new)
    assert [worker.orders[0].credentials["hub"].chain for worker in started] == ["old", "old", "new", "new", "old"]
    assert [worker.ended.done() for worker in started] == [True, False, True, True, False]


def test_each_setting_that_is_read_at_the_start_exists() -> None:
    assert SETTINGS.keys() >= AT_START | OF_COMMANDS
    assert {"hub_host", "admin_host", "hub_port", "admin_port"} <= AT_START
