"""Short runs of the programs: the requests and the verdict of locust, and that no process remains."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from loadtests.stack import ROOT
from loadtests.thresholds import TOTAL, read_csv

NOBODY = b'{"partyList":[]}'
CALLS = 20  # after so many requests of locust the test stops it


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    heads: list[dict[str, str]] = []  # noqa: RUF012 - emptied by the test
    body = NOBODY
    called = threading.Event()

    def do_GET(self) -> None:
        self.heads.append(dict(self.headers.items()))
        self.called.set()
        self.send_response(200)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_one_answer(body: bytes) -> Iterator[str]:
    Handler.heads, Handler.body = [], body
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def run_locust(url: str, prefix: Path) -> subprocess.CompletedProcess[str]:
    """Run locust until it has sent CALLS requests; a busy machine can take long to start it."""
    words = ["-f", "loadtests/locustfile.py", "--headless", "--only-summary", "--host", url, "--profile", "unknown"]
    words += ["--users", "2", "--spawn-rate", "2", "--run-time", "50s", "--csv", str(prefix), "--loglevel", "ERROR"]
    command = [sys.executable, "-m", "locust", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            while len(Handler.heads) < CALLS and program.poll() is None:
                Handler.called.wait(0.1)
                Handler.called.clear()
            program.terminate()
            stdout, stderr = program.communicate(timeout=60)
        finally:
            program.kill()
    return subprocess.CompletedProcess(command, program.returncode, stdout, stderr)


@pytest.mark.parametrize(("body", "code"), [(NOBODY, 0), (b'{"partyList":[{"fspId":"fsp-001"}]}', 1)])
def test_locust_sends_the_headers_of_a_hub_and_fails_on_a_wrong_answer(tmp_path: Path, body: bytes, code: int) -> None:
    with serve_one_answer(body) as url:
        outcome = run_locust(url, tmp_path / "unknown")
    assert outcome.returncode == code, outcome.stdout + outcome.stderr
    assert ("100.00% of the answers were wrong or failed (limit 0.00%)" in outcome.stdout) == (code == 1)
    assert outcome.stdout.count("\nnot compared: no baseline was given (--baseline DIR)\n") == 1
    assert set(Handler.heads[0]) == {
        *("content-type", "date", "fspiop-source", "accept", "fspiop-destination"),
        *("User-Agent", "Accept-Encoding", "Host", "Connection"),
    }
    assert Handler.heads[0]["User-Agent"] == "axios/1.18.1"
    assert Handler.heads[0]["Connection"] == "keep-alive"
    total = read_csv(tmp_path / "unknown_final.csv")[TOTAL]
    assert total.requests > 0
    assert total.failures == (total.requests if code else 0)


RUNNING = """
import time
from loadtests.stack import make_room, run_oracle, run_valkey
try:
    with make_room() as home, run_valkey(home) as cache, run_oracle(home, {"ORACLE_REDIS_URL": cache.url}) as service:
        print(home, *service.hub_pids, flush=True)
        time.sleep(600)
except KeyboardInterrupt:
    raise SystemExit(130) from None
"""


def test_a_stopped_program_stops_all_processes_that_it_started() -> None:
    command = [sys.executable, "-c", RUNNING]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as program:
        try:
            assert program.stdout is not None
            home, worker = program.stdout.readline().split()
            family = name_living(psutil.Process(program.pid).children(recursive=True))
            assert {"valkey-server", "postgres"} <= set(family.values())
            assert int(worker) in {process.pid for process in family}
            program.send_signal(signal.SIGTERM)
            assert program.wait(60) == 130
        finally:
            program.kill()
    psutil.wait_procs(family, timeout=60)
    assert not name_living(family)
    assert not Path(home).exists()


def name_living(processes: Iterable[psutil.Process]) -> dict[psutil.Process, str]:
    """Return the names of living processes, without zombies."""
    found = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found[process] = process.name()
    return found
