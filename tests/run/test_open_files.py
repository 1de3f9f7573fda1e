"""Open files: the soft limit is raised, clients are refused below it, and one log line shows the limit."""

from __future__ import annotations

import resource
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from oracle_process import PATIENCE_S, SERVE, start_oracle, until

from oracle.api.http import LIMITS
from oracle.calls import CallLimits
from oracle.run.open_files import CLIENTS_MAX, REFUSED_MAX, RESERVED, count_calls, count_clients

LOW = "The hard limit of open files is low: hub workers refuse clients early. Raise it (ulimit -Hn)"
ENOUGH = "The limit of open files"
STAND_IN = (sys.executable, str(Path(__file__).parents[1] / "process" / "stand_in.py"))


@pytest.mark.parametrize("open_files", [0, 64, 160, 1_024, 4_096, 15_000, 20_000, 65_536, resource.RLIM_INFINITY])
def test_clients_and_the_files_of_the_worker_fit_below_the_limit(open_files: int) -> None:
    served, refused = count_clients(open_files)
    assert 1 <= served <= CLIENTS_MAX
    assert 1 <= refused <= REFUSED_MAX
    if open_files > RESERVED + 2:
        assert served + refused + RESERVED <= open_files
    if open_files == resource.RLIM_INFINITY or open_files >= 65_536:
        assert (served, refused) == (LIMITS.connections_max, LIMITS.connections_refused_max)
        assert count_calls(open_files) == CallLimits().connections_all_max
    calls = count_calls(open_files)
    served, refused = count_clients(open_files, calls=calls)
    assert min(calls, served, refused) >= 1
    if open_files > RESERVED + 3:
        assert calls + served + refused + RESERVED <= open_files


@pytest.mark.parametrize(("soft", "hard", "expected", "line"), [(100, 1_024, 1_024, LOW), (64, 16_384, 16_384, ENOUGH)])
def test_the_soft_limit_is_raised_for_all_processes_and_logged_once(
    tmp_path: Path, database_url: str, redis_url: str, soft: int, hard: int, expected: int, line: str
) -> None:
    env = {"ORACLE_DATABASE_URL": database_url, "ORACLE_REDIS_URL": redis_url}

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with start_oracle(tmp_path, env, command=SERVE if line == LOW else STAND_IN, preexec_fn=lower) as oracle:
        workers = [worker for role in ("hub", "admin", "jobs") for worker in oracle.workers(role)]
        assert {worker.rlimit(resource.RLIMIT_NOFILE)[0] for worker in workers} == {expected}
        (logged,) = oracle.find_log_lines(line)
        assert (logged["open_files"], logged["hub_clients_max"]) == (expected, count_clients(expected).served)
        if line == LOW:
            _check_crowd(oracle.hub_port, count_clients(expected).served)
            # The worker still has files for itself: it connects, and answers from the directory.
            until(lambda: _ask(oracle.hub_port).startswith(b"HTTP/1.1 200"))


def _check_crowd(port: int, served: int) -> None:
    """Every client up to the limit is served, and the next ones get an answer that says why they are not."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(served)]
        for client in (clients[0], clients[-1]):
            client.settimeout(PATIENCE_S)
            client.sendall(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        assert _ask(port).startswith(b"HTTP/1.1 503")


def _ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        client.sendall(b"GET /participants/ALIAS/nobody HTTP/1.1\r\nhost: x\r\nfspiop-source: a\r\n\r\n")
        return client.recv(4096)
