"""Servers of our own that die under `oracle serve` are there again, with all that was acknowledged."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest
from oracle_process import OracleProcess, start_oracle, until

HEALTHY: Final = 3  # all of it, the datastore, the cache


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleProcess]:
    with start_oracle(tmp_path_factory.mktemp("kept")) as oracle:
        yield oracle


def server(oracle: OracleProcess, name: str) -> psutil.Process:
    """The one that the supervisor has started: a postmaster has children of the same name."""
    (found,) = [child for child in psutil.Process(oracle.pid).children() if child.name() == name]
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("name", ["postgres", "valkey-server"])
def test_a_server_that_ends_is_started_again(oracle: OracleProcess, name: str, number: signal.Signals) -> None:
    party = f"{oracle.hub_url}/participants/ALIAS/kept-{name}-{number}"

    def answered(method: str) -> httpx.Response:
        """Until the workers have noticed, 503 is right."""
        answers: list[httpx.Response] = []
        body = {"fspId": "greenbank"} if method == "POST" else None

        def is_answered() -> bool:
            answers.append(httpx.request(method, party, json=body, headers={"fspiop-source": "greenbank"}))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        until(is_answered)
        return answers[-1]

    assert answered("POST").status_code == httpx.codes.CREATED
    before = server(oracle, name)
    again = len(oracle.logged("server started again"))
    before.send_signal(number)
    until(lambda: len(oracle.logged("server started again")) > again)
    assert server(oracle, name).pid != before.pid
    assert answered("GET").json()["partyList"] == [{"fspId": "greenbank"}]
    assert answered("DELETE").status_code in {httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND}  # of a second try
    assert answered("GET").json()["partyList"] == []
    until(lambda: httpx.get(f"{oracle.hub_url}/health").text.count('"OK"') == HEALTHY)


def test_a_directory_that_is_gone_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with start_oracle(tmp_path) as oracle:
        (tmp_path / "data" / "postgres").rename(tmp_path / "elsewhere")
        server(oracle, "postgres").kill()
        until(lambda: len(oracle.logged("server ended")) > 1)
        assert "is gone" in oracle.logged("server ended")[1]["fate"]
        assert not (tmp_path / "data" / "postgres").exists()
        (tmp_path / "elsewhere").rename(tmp_path / "data" / "postgres")
        until(lambda: oracle.logged("server started again"))
