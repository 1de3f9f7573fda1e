"""`serve` while PostgreSQL is away: at its start, and when all workers die."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest
from oracle_process import PATIENCE_S, PATIENT, SERVE, OracleProcess, is_gone, start_oracle, until
from servers import free_port

from oracle.run.handover import RoutesFile
from oracle.run.wiring import open_store
from oracle.settings import load as load_settings
from oracle.store.base import Confirmed, Generation
from oracle.store.migrate import migrate
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from conftest import StartPostgres

    from oracle.run.embedded import PostgresServer

UNAVAILABLE = (503, {"errorInformation": {
    "errorCode": "2003", "errorDescription": "The directory is not available; try again later"
}})  # fmt: skip


class Hub:
    """A client that asks the hub listener, with a new connection each time."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def look(self, party: str) -> tuple[int, object]:
        answer = httpx.get(f"{self.url}/participants/{party}", headers={"fspiop-source": "hub"}, timeout=60)
        return answer.status_code, answer.json()

    def until_answered(self, party: str, expected: tuple[int, object]) -> None:
        until(lambda: self.look(party) == expected)


def answer(*fsp_ids: str) -> tuple[int, object]:
    return 200, {"partyList": [{"fspId": fsp_id} for fsp_id in fsp_ids]}


async def fill(url: str) -> None:
    await migrate(url)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("""
            INSERT INTO fsps (fsp_id, status) VALUES ('bluebank', 'active'), ('redbank', 'active');
            INSERT INTO aliases (party_id_type, identifier, sub_id, currency, fsp_id)
            VALUES ('ALIAS', 'registered', '', '', 'bluebank');
            INSERT INTO routes (party_id_type, prefix, fsp_id, valid_from, valid_to)
            VALUES ('ALIAS', 'routed', 'redbank', '-infinity', 'infinity')
        """)
    finally:
        await connection.close()


@contextmanager
def crowd(*ports: int, size: int = 200) -> Iterator[None]:
    """Many clients that stay; each one gets a 503 or is cut off, and none waits."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
            for port in ports
            for _ in range(size)
        ]
        for client in clients:
            with suppress(ConnectionError):
                client.sendall(b"GET /participants/ALIAS/registered HTTP/1.1\r\nhost: x\r\nfspiop-source: hub\r\n\r\n")
                assert client.recv(12) in {b"", b"HTTP/1.1 503"}
        yield


# At the start ---------------------------------------------------------------------------------------------------


def refuse(server: PostgresServer) -> Callable[[], None]:
    """Stop the server, so that it refuses connections; returns how it comes back."""
    asyncio.run(server.stop())
    return lambda: asyncio.run(server.start())


def hang(server: PostgresServer) -> Callable[[], None]:
    """Stop the postmaster, so that it accepts connections and never answers; returns how it comes back."""
    assert server.process is not None
    pid = server.process.pid
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("go_away", [refuse, hang])
def test_a_service_that_has_never_reached_postgresql_answers_503_until_it_does(
    tmp_path: Path,
    redis_url: str,
    start_postgres: StartPostgres,
    go_away: Callable[[PostgresServer], Callable[[], None]],
) -> None:
    server = asyncio.run(start_postgres())
    asyncio.run(fill(server.url()))
    come_back = go_away(server)
    hub_port, admin_port = free_port(), free_port()
    env = {
        **PATIENT,
        "ORACLE_DATABASE_URL": server.url(),
        "ORACLE_REDIS_URL": redis_url,
        "ORACLE_HUB_PORT": str(hub_port),
        "ORACLE_ADMIN_PORT": str(admin_port),
    }

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))  # fewer files than clients of the crowd

    with OracleProcess(SERVE, tmp_path, env, preexec_fn=lower) as oracle:
        hub = Hub(hub_port)
        until(lambda: oracle.find_log_lines("The workers wait for PostgreSQL; answering 503 until it is ready"))
        assert hub.look("ALIAS/registered") == UNAVAILABLE
        admin = f"http://127.0.0.1:{admin_port}"
        problem = httpx.get(f"{admin}/admin/v1/fsps")
        assert (problem.status_code, problem.json()["code"]) == (503, "unavailable")
        assert problem.headers["content-type"] == "application/problem+json"
        for listener in (hub.url, admin):
            states = {path: httpx.get(f"{listener}/{path}").status_code for path in ("live", "ready", "health")}
            assert states == {"live": 200, "ready": 503, "health": 503}
        assert not oracle.find_log_lines("The oracle is ready")
        with crowd(hub_port, admin_port):
            come_back()
            oracle.wait_ready()
        hub.until_answered("ALIAS/registered", answer("bluebank"))
        assert httpx.get(f"{admin}/ready").status_code == 200
        assert not oracle.find_log_lines("The cache cannot be used; trying again later")


# Later ----------------------------------------------------------------------------------------------------------


def test_workers_that_start_without_postgresql_answer_from_copies(
    tmp_path: Path, redis_url: str, start_postgres: StartPostgres
) -> None:
    server = asyncio.run(start_postgres())
    asyncio.run(fill(server.url()))
    env = {**PATIENT, "ORACLE_DATABASE_URL": server.url(), "ORACLE_REDIS_URL": redis_url, "ORACLE_WORKERS": "2"}
    with start_oracle(tmp_path, env, command=(*SERVE, "--only", "hub")) as oracle:
        hub = Hub(oracle.hub_port)
        until(lambda: httpx.get(f"{hub.url}/health").text.count('"OK"') == 3)
        parties = {"ALIAS/registered": answer("bluebank"), "ALIAS/routed1": answer("redbank"), "ALIAS/no": answer()}
        reported_at = time.monotonic() + 2  # the workers report every half second what they know
        while time.monotonic() < reported_at:
            # Again and again: on a busy machine the copy of one lookup can come too late to be stored.
            for party, expected in parties.items():
                assert hub.look(party) == expected
        server.kill()
        kill_workers(oracle)

        # The new workers have the generation from the supervisor, and the routes from the run directory.
        for party, expected in parties.items():
            hub.until_answered(party, expected)
        assert hub.look("ALIAS/never-asked") == UNAVAILABLE
        assert httpx.get(f"{hub.url}/ready").status_code == 200
        assert httpx.get(f"{hub.url}/health").status_code == 503
        changed = httpx.post(
            f"{hub.url}/participants/ALIAS/new", json={"fspId": "bluebank"}, headers={"fspiop-source": "bluebank"}
        )
        assert (changed.status_code, changed.json()) == UNAVAILABLE

        # Without routes, a worker knows the registered parties.  It cannot know that a party is not found.
        (tmp_path / "data" / "run" / "routes.msgpack").unlink()
        kill_workers(oracle)
        hub.until_answered("ALIAS/registered", answer("bluebank"))
        assert hub.look("ALIAS/routed1") == UNAVAILABLE
        assert hub.look("ALIAS/no") == UNAVAILABLE

        asyncio.run(server.start())
        for party, expected in {**parties, "ALIAS/never-asked": answer(), "ALIAS/routed2": answer("redbank")}.items():
            hub.until_answered(party, expected)
        assert not oracle.find_log_lines("The worker failed")


async def test_a_worker_without_postgresql_goes_by_the_clock_of_postgresql(tmp_path: Path) -> None:
    """Not by the one of its machine, which can be years off: see rule 12."""
    server_s = 1e9
    RoutesFile(tmp_path).keep(
        7,
        [
            ("ALIAS", "ALIAS", "now", "redbank", server_s - 60, server_s + 600),
            ("ALIAS", "ALIAS", "over", "redbank", server_s - 60, server_s - 30),
            ("ALIAS", "ALIAS", "later", "redbank", server_s + 600, inf),
        ],
    )
    row = Generation("directory", 3, (), 0.0, routes_version=7, system_identifier="1", timeline=1, now_s=server_s)
    settings = load_settings({"ORACLE_DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/directory"}).settings
    metrics = Metrics.open(tmp_path, "hub", 0)
    try:
        known = Confirmed(row, time.monotonic())
        async with open_store(settings, metrics, run_dir=tmp_path, known=known) as store:
            found = [store.routes.match("ALIAS", party) for party in ("now1", "over1", "later1")]
    finally:
        metrics.close()
    assert found == ["redbank", None, None]


def kill_workers(oracle: OracleProcess) -> None:
    """Kill all hub workers, and wait until there are new ones."""
    killed = oracle.workers()
    for worker in killed:
        worker.kill()
    until(lambda: all(is_gone(worker) for worker in killed) and len(oracle.workers()) == len(killed))
