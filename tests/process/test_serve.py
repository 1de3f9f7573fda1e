"""The supervisor: how it starts, what it does about deaths, and that it never leaves a process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
from oracle_process import PATIENCE_S, OracleProcess, is_gone, run_oracle, start_oracle, until

from oracle.run.crew import Crew, CrewLimits, Post, WorkerProcess
from oracle.run.order import ROLES, Report
from oracle.settings import load

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))

Start = Callable[..., OracleProcess]


@pytest.fixture
def servers(database_url: str, redis_url: str) -> dict[str, str]:
    return {"ORACLE_DATABASE_URL": database_url, "ORACLE_REDIS_URL": redis_url}


@pytest.fixture
def start(tmp_path: Path, servers: dict[str, str]) -> Iterator[Start]:
    """A supervisor with stand-ins for workers."""
    started: list[OracleProcess] = []

    def one(**env: str) -> OracleProcess:
        started.append(start_oracle(tmp_path, {**servers, **env}, command=STAND_IN))
        return started[-1]

    yield one
    for oracle in started:
        oracle.close()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def ask_pid(port: int) -> int:
    """The process id of the worker that answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        return int(connection.makefile().readline())


def the_worker(oracle: OracleProcess) -> psutil.Process:
    (worker,) = oracle.workers()
    return worker


# Start --------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_oracle(tmp_path, "serve", env={"ORACLE_HUB_PORT": str(port)})
    assert (done.returncode, done.stdout) == (1, "")
    holder = f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"
    where = f"port {port} on 127.0.0.1 (hub listener)"
    assert done.stderr == f"oracle: {where} is taken by {holder}: stop it, or set ORACLE_HUB_PORT to a free port\n"
    assert not (tmp_path / "data").exists()


def test_an_unreachable_database_is_one_line_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://somebody:hush-hush@127.0.0.1:1/directory"
    env = {"ORACLE_DATABASE_URL": url, "ORACLE_REDIS_URL": "redis://127.0.0.1:1", "ORACLE_START_WAIT_S": "0"}
    done = run_oracle(tmp_path, "serve", env={**env, "ORACLE_LOG_LEVEL": "error"})
    assert done.returncode == 6
    assert done.stderr.startswith("oracle: database postgresql://somebody:***@127.0.0.1:1/directory: ")
    assert done.stderr.count("\n") == 1
    assert "hush" not in done.stderr


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    done = run_oracle(tmp_path, "serve")
    assert done.returncode == 1
    assert done.stderr.startswith("oracle: data directory ")
    assert done.stderr.count("\n") == 1


async def test_a_schema_after_the_post_migrations_of_a_newer_version_is_one_line(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    await execute(servers["ORACLE_DATABASE_URL"], "INSERT INTO migrations VALUES (9999, 'post', 'future')")
    done = await asyncio.to_thread(run_oracle, tmp_path, "serve", env=servers)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "oracle: the database is of a newer version (migration 9999_post_future): start that version of the oracle"
    )


def test_a_worker_that_dies_at_its_start_ends_serve(tmp_path: Path, servers: dict[str, str]) -> None:
    with OracleProcess(STAND_IN, tmp_path, {**servers, "STAND_IN": "dies"}) as oracle:
        assert oracle.process.wait(PATIENCE_S) == 1
        assert "ServeError" in oracle.output
        oracle.wait_gone()


def test_a_signal_during_the_start_ends_serve(tmp_path: Path, servers: dict[str, str]) -> None:
    with OracleProcess(STAND_IN, tmp_path, {**servers, "STAND_IN": "never-ready"}) as oracle:
        until(lambda: len(oracle.descendants()) == 2)
        assert oracle.stop() == 0
        oracle.wait_gone()


@pytest.mark.parametrize(("part", "roles"), [("hub", {"hub"}), ("admin", {"admin", "jobs"})])
def test_one_listener_alone(tmp_path: Path, servers: dict[str, str], part: str, roles: set[str]) -> None:
    command = (sys.executable, "-m", "oracle", "serve", "--only", part)
    with start_oracle(tmp_path, servers, command=command, cold=True) as oracle:
        assert {role for role in ROLES if oracle.workers(role)} == roles
        port = urlsplit(str(oracle.find_log_lines("The oracle is ready")[0][f"{part}_url"])).port
        ports = {"ORACLE_HUB_PORT": "9", "ORACLE_ADMIN_PORT": "10", f"ORACLE_{part.upper()}_PORT": str(port)}
        health = run_oracle(tmp_path, "health", env={**servers, **ports})
        assert (health.returncode, health.stdout) == (0, f"{part}: ok\n")


# Stop ---------------------------------------------------------------------------------------------------------


def test_no_process_is_left_after_a_stop(start: Start) -> None:
    oracle = start(ORACLE_WORKERS="2")
    assert len(oracle.workers()) == 2
    oracle.signal(signal.SIGTERM)
    assert oracle.process.wait(PATIENCE_S) == 0
    oracle.wait_gone()
    assert "Traceback" not in oracle.output


def test_a_start_without_settings_leaves_no_process_and_finds_its_data_again(tmp_path: Path) -> None:
    with start_oracle(tmp_path, cold=True) as oracle:
        names = {process.name() for process in oracle.descendants()}
        assert {"postgres", "valkey-server"} <= names
        assert run_oracle(tmp_path, "seed", "--count", "10", "--fsps", "2").returncode == 0
        assert oracle.stop() == 0
        oracle.wait_gone(0.1)
        assert not oracle.find_log_lines("Uncaught exception")
    with start_oracle(tmp_path) as oracle:
        found = run_oracle(tmp_path, "lookup", "MSISDN", "+525500000003")
        assert found.stdout == "MSISDN/525500000003  fsp-002\n"
        oracle.kill()  # the supervisor alone: it can end nothing any more
        oracle.wait_gone()


def test_ctrl_c_reaches_the_whole_group_and_stops_in_order(start: Start) -> None:
    oracle = start()
    os.killpg(os.getpgid(oracle.pid), signal.SIGINT)
    assert oracle.process.wait(PATIENCE_S) == 0
    oracle.wait_gone()
    assert "Traceback" not in oracle.output


def test_kill_9_of_the_supervisor_ends_workers_that_hang(start: Start) -> None:
    oracle = start(STAND_IN="hangs", ORACLE_STOP_TIMEOUT_S="1")
    until(lambda: oracle.output.count("will hang") == 3)
    oracle.kill()
    oracle.wait_gone()


def test_a_worker_that_hangs_is_killed_in_time(start: Start) -> None:
    oracle = start(STAND_IN="hangs", ORACLE_STOP_TIMEOUT_S="1")
    until(lambda: oracle.output.count("will hang") == 3)
    assert oracle.stop() == 0
    assert len(oracle.find_log_lines("A worker did not stop in time; killing it")) == 3
    oracle.wait_gone()


def test_a_second_signal_shortens_the_stop(start: Start) -> None:
    oracle = start(STAND_IN="hangs", ORACLE_STOP_TIMEOUT_S="3600")
    until(lambda: oracle.output.count("will hang") == 3)
    oracle.signal(signal.SIGTERM)
    until(lambda: oracle.output.count("hanging") == 3)
    assert oracle.process.poll() is None
    oracle.signal(signal.SIGTERM)
    assert oracle.process.wait(PATIENCE_S) == 0
    oracle.wait_gone()


def test_no_client_waits_at_a_port_whose_workers_have_ended_while_others_still_stop(start: Start) -> None:
    oracle = start(ORACLE_WORKERS="2", ORACLE_STOP_TIMEOUT_S="3600").wait_ready()
    port = oracle.hub_port
    (admin,) = oracle.workers("admin")
    admin.suspend()
    oracle.signal(signal.SIGTERM)
    until(lambda: not oracle.workers())

    def is_refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
        except ConnectionRefusedError:
            return True
        return False

    until(is_refused)
    assert oracle.process.poll() is None  # the admin worker is stopping
    admin.resume()
    assert oracle.process.wait(PATIENCE_S) == 0


def test_a_closed_terminal_stops_serve(tmp_path: Path, servers: dict[str, str]) -> None:
    ours, theirs = os.openpty()
    terminal: dict[str, Any] = {
        "stdin": theirs,
        "start_new_session": False,
        "preexec_fn": lambda: _take_terminal(theirs),
    }
    with closing(os.fdopen(ours, "wb", 0)) as master, OracleProcess(STAND_IN, tmp_path, servers, **terminal) as oracle:
        os.close(theirs)
        oracle.wait_ready()
        master.close()
        assert oracle.process.wait(PATIENCE_S) == 0
        oracle.wait_gone()


def _take_terminal(descriptor: int) -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


# Life ---------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_started_again_and_the_others_go_on(start: Start) -> None:
    oracle = start()
    worker, (admin,) = the_worker(oracle), oracle.workers("admin")
    worker.kill()
    until(lambda: oracle.find_log_lines("A worker ended; starting another one"))
    assert ask_pid(oracle.hub_port) != worker.pid
    assert [other.pid for other in oracle.workers("admin")] == [admin.pid]
    assert oracle.find_log_lines("A worker ended; starting another one")[0]["reason"] == "killed by SIGKILL"


def test_a_worker_that_keeps_dying_starts_after_longer_pauses(start: Start) -> None:
    oracle = start()
    for _ in range(3):
        deaths = len(oracle.find_log_lines("A worker ended; starting another one"))
        os.kill(ask_pid(oracle.hub_port), signal.SIGKILL)
        until(partial(_more_ended, oracle, deaths))
    assert [line["pause_s"] for line in oracle.find_log_lines("A worker ended; starting another one")] == [
        0.0,
        0.25,
        0.5,
    ]


def _more_ended(oracle: OracleProcess, deaths: int) -> bool:
    return len(oracle.find_log_lines("A worker ended; starting another one")) > deaths


def test_workers_ignore_a_terminal_and_calls_wait_in_the_listener_while_there_is_none(start: Start) -> None:
    oracle = start()
    worker = the_worker(oracle)
    worker.send_signal(signal.SIGINT)
    worker.send_signal(signal.SIGHUP)
    assert ask_pid(oracle.hub_port) == worker.pid
    worker.suspend()
    with socket.create_connection(("127.0.0.1", oracle.hub_port), timeout=PATIENCE_S) as connection:
        worker.kill()
        assert int(connection.makefile().readline()) != worker.pid


def test_a_rolling_restart_keeps_the_port_answering(start: Start) -> None:
    oracle = start(ORACLE_WORKERS="2")
    port, old = oracle.hub_port, {worker.pid for worker in oracle.workers()}
    answers: list[int] = []
    done = threading.Event()

    def ask_on() -> None:
        while not done.is_set():
            answers.append(ask_pid(port))

    asker = threading.Thread(target=ask_on)
    asker.start()
    try:
        until(lambda: answers)
        oracle.signal(signal.SIGHUP)
        until(lambda: oracle.find_log_lines("All workers are replaced"))
        until(lambda: answers and answers[-1] not in old)
    finally:
        before = len(answers)
        until(lambda: len(answers) > before or not asker.is_alive())
        done.set()
        asker.join()
    assert answers[0] in old
    new = {worker.pid for worker in oracle.workers()}
    assert len(new) == 2
    assert not new & old
    assert not oracle.find_log_lines("A worker ended; starting another one")


def test_a_rolling_restart_that_fails_keeps_the_old_workers(start: Start, tmp_path: Path) -> None:
    oracle = start()
    worker = the_worker(oracle)
    # The new worker cannot start, because its run directory is gone.
    (tmp_path / "data" / "run").rename(tmp_path / "elsewhere")
    oracle.signal(signal.SIGHUP)
    until(lambda: oracle.find_log_lines("The new worker did not start; keeping the old one"))
    assert ask_pid(oracle.hub_port) == worker.pid
    assert not is_gone(worker)


async def test_a_worker_replaced_during_the_pause_is_not_started_again() -> None:
    """SIGHUP fills the post while `serve` waits before it starts a worker again that keeps dying."""

    class Dead:
        born = 0.0
        ended = asyncio.get_running_loop().create_future()

        @property
        def end_reason(self) -> str:  # the crew asks for it right before the pause
            post.worker = fresh
            return "killed by SIGKILL"

    async def start_worker(post: Post) -> WorkerProcess:
        started.append(post)
        return fresh

    started: list[Post] = []
    crew = Crew(load({}).settings, (), {}, start_worker, CrewLimits())
    post = Post("hub", 0, None, CrewLimits())
    fresh = cast("WorkerProcess", object())
    post.worker = cast("WorkerProcess", Dead())
    Dead.ended.set_result(None)
    post.vacant.set()
    keeping = asyncio.create_task(crew.keep_post(post))
    for _ in range(10):
        await asyncio.sleep(0)
    assert post.worker is fresh
    assert started == []
    assert not keeping.done()
    keeping.cancel()


# Silence ------------------------------------------------------------------------------------------------------

HANGS = "A worker hangs; killing it"


def test_a_hung_worker_of_every_role_is_replaced_while_the_others_answer(start: Start) -> None:
    oracle = start(ORACLE_WORKERS="2", STAND_IN_SILENT_S="2")
    until(lambda: oracle.output.count("has reported") == 4)  # a worker that still starts, as jobs can, has 60 s for it
    hung = [oracle.workers("hub")[0], *oracle.workers("admin"), *oracle.workers("jobs")]
    (other,) = {worker.pid for worker in oracle.workers("hub")} - {hung[0].pid}
    for worker in hung:
        worker.suspend()
    port = oracle.hub_port

    def is_found() -> bool:
        assert ask_pid(port) == other or is_gone(hung[0])  # calls never wait for the worker that hangs
        return bool(oracle.find_log_lines(HANGS))

    until(is_found)
    until(lambda: all(is_gone(worker) for worker in hung))
    until(lambda: {line["worker"].split()[0] for line in oracle.find_log_lines(HANGS)} == set(ROLES))
    until(lambda: len(oracle.find_log_lines("A worker ended; starting another one")) == len(hung))
    assert {line["reason"] for line in oracle.find_log_lines("A worker ended; starting another one")} == {
        "killed by SIGKILL"
    }
    until(lambda: [len(oracle.workers(role)) for role in ROLES] == [2, 1, 1])
    assert other in {worker.pid for worker in oracle.workers("hub")}
    assert ask_pid(oracle.admin_port) != hung[1].pid


def test_no_worker_is_killed_for_the_time_in_which_the_whole_machine_was_suspended(start: Start) -> None:
    oracle = start(ORACLE_WORKERS="2", STAND_IN_SILENT_S="2")
    before = {worker.pid for role in ROLES for worker in oracle.workers(role)}
    supervisor = psutil.Process(oracle.pid)
    frozen = [supervisor, *oracle.descendants()]
    for process in frozen:
        process.suspend()
    thawed_at = time.monotonic() + 3
    until(lambda: time.monotonic() > thawed_at)
    supervisor.resume()  # the first: it must not judge the others by the clock
    for process in frozen[1:]:
        process.resume()
    # The supervisor goes on looking: a worker that hangs now is found, and only that one.
    hung = oracle.workers("admin")[0]
    hung.suspend()
    until(lambda: is_gone(hung))
    assert [line["worker"] for line in oracle.find_log_lines(HANGS)] == ["admin worker 0"]
    assert before - {hung.pid} < {worker.pid for role in ROLES for worker in oracle.workers(role)} | {hung.pid}


@pytest.mark.parametrize(
    ("reports", "limit_s"),
    [(b"", 6.0), (Report(ready=True).encode(), 2.0), (b"\n", inf), (b'{"of a later version":1}\n', 2.0)],
    ids=["not ready", "ready", "of an older version", "of a later version"],
)
async def test_how_long_a_worker_can_be_silent(reports: bytes, limit_s: float) -> None:
    """Until its first report it has the time of a start; a worker that never reports later is not judged by that."""
    process = await asyncio.create_subprocess_exec("sleep", "60")
    ours, theirs = socket.socketpair()
    worker = WorkerProcess(process, ours, ready_s=6.0)
    try:
        with theirs:
            theirs.sendall(reports)
            if reports:
                assert await worker.is_ready()
            counted = 0.0
            while counted < 20 and not worker.hangs(1.0, silent_max_s=2.0):
                counted += 1.0
            assert counted == min(limit_s, 20)
    finally:
        process.kill()
        await worker.ended
