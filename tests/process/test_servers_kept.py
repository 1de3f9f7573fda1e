"""An embedded server that dies under `oracle serve` is started again, with everything that was acknowledged."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import psutil
import pytest
from oracle_process import SERVE, OracleProcess, run_oracle, start_oracle, until

HEALTHY: Final = 3  # the whole, the datastore, the cache
ENDED: Final = "A server ended; starting it again"
RUNS_AGAIN: Final = "The server runs again"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def oracle(home: Path) -> Iterator[OracleProcess]:
    with start_oracle(home, command=(*SERVE, "--only", "hub")) as oracle:
        yield oracle


def find_server(oracle: OracleProcess, name: str) -> psutil.Process:
    """The process that the supervisor started: a postmaster has children of the same name."""
    (found,) = [child for child in psutil.Process(oracle.pid).children() if child.name() == name]
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("name", ["postgres", "valkey-server"])
def test_a_server_that_ends_is_started_again(oracle: OracleProcess, name: str, number: signal.Signals) -> None:
    party = f"{oracle.hub_url}/participants/ALIAS/kept-{name}-{number}"

    def request(method: str) -> httpx.Response:
        """Repeat the request until the workers have the server again; 503 is right before that."""
        answers: list[httpx.Response] = []
        body = {"fspId": "greenbank"} if method == "POST" else None

        def is_answered() -> bool:
            answers.append(httpx.request(method, party, json=body, headers={"fspiop-source": "greenbank"}))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        until(is_answered)
        return answers[-1]

    assert request("POST").status_code == httpx.codes.CREATED
    before = find_server(oracle, name)
    again = len(oracle.find_log_lines(RUNS_AGAIN))
    before.send_signal(number)
    until(lambda: len(oracle.find_log_lines(RUNS_AGAIN)) > again)
    assert find_server(oracle, name).pid != before.pid
    assert request("GET").json()["partyList"] == [{"fspId": "greenbank"}]
    # 404: the first try removed it, and its answer was 503.
    assert request("DELETE").status_code in {httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND}
    assert request("GET").json()["partyList"] == []
    until(lambda: httpx.get(f"{oracle.hub_url}/health").text.count('"OK"') == HEALTHY)


def test_a_command_that_postgresql_refuses_says_why_in_one_line(oracle: OracleProcess, home: Path) -> None:
    """A command migrates the embedded database first, which needs the owner's connection."""

    async def set_limit(connections: int) -> None:
        superuser = await asyncpg.connect(host=str(home / "data" / "run"), user="postgres", database="oracle")
        await superuser.execute(f"ALTER ROLE oracle CONNECTION LIMIT {connections}")
        await superuser.close()

    asyncio.run(set_limit(0))
    refused = run_oracle(home, "audit", "verify")
    asyncio.run(set_limit(-1))
    assert refused.returncode == 6
    (line,) = refused.stderr.splitlines()
    assert line.startswith("oracle: database ")
    assert "too many connections" in line
    assert oracle.process.poll() is None


def test_a_missing_data_directory_is_not_replaced_by_an_empty_one(oracle: OracleProcess, home: Path) -> None:
    ended, again = len(oracle.find_log_lines(ENDED)), len(oracle.find_log_lines(RUNS_AGAIN))
    (home / "data" / "postgres").rename(home / "elsewhere")
    find_server(oracle, "postgres").kill()
    until(lambda: len(oracle.find_log_lines(ENDED)) > ended + 1)
    assert "is gone" in oracle.find_log_lines(ENDED)[ended + 1]["reason"]
    assert not (home / "data" / "postgres").exists()
    (home / "elsewhere").rename(home / "data" / "postgres")
    until(lambda: len(oracle.find_log_lines(RUNS_AGAIN)) > again)
