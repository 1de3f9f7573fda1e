"""The whole service on two real PostgreSQL servers: it starts past a server that hangs, and goes on past another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from oracle_process import OracleProcess, start_oracle, until
from replication import halt, make_data, open_pair, resume
from servers import temporary_home


def request(oracle: OracleProcess, method: str, identifier: str) -> httpx.Response:
    """Repeat the request until its answer is not 503."""
    answers: list[httpx.Response] = []

    def is_answered() -> bool:
        url = f"{oracle.hub_url}/participants/ALIAS/{identifier}"
        body = {"fspId": "greenbank"} if method == "POST" else None
        try:
            answers.append(httpx.request(method, url, json=body, headers={"fspiop-source": "greenbank"}, timeout=60))
        except httpx.TransportError:  # the worker was replaced
            return False
        return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

    until(is_answered)
    return answers[-1]


def check_service(oracle: OracleProcess, identifier: str) -> None:
    assert request(oracle, "POST", identifier).status_code in {httpx.codes.CREATED, httpx.codes.BAD_REQUEST}
    assert request(oracle, "GET", identifier).json()["partyList"] == [{"fspId": "greenbank"}]
    assert request(oracle, "GET", f"cold-{identifier}").json()["partyList"] == []
    # Each process finds the primary by itself.
    until(lambda: httpx.get(f"{oracle.admin_url}/health", timeout=60).json()["status"] == "OK")


async def test_a_service_starts_past_a_server_that_hangs_and_survives_a_failover(
    tmp_path: Path, redis_url: str
) -> None:
    with temporary_home() as home:
        data = await make_data(home)
        async with open_pair(data) as pair:
            halt(pair.standby)  # the first in the URL
            urls = {"ORACLE_DATABASE_URL": pair.url(), "ORACLE_DATABASE_OWNER_URL": pair.url()}
            env = {**urls, "ORACLE_REDIS_URL": redis_url}
            oracle = await asyncio.to_thread(start_oracle, tmp_path, env)
            try:
                await asyncio.to_thread(check_service, oracle, "before")
                resume(pair.standby)
                await pair.until_received()  # it can stream, and lag behind
                halt(pair.primary)
                await pair.promote()
                await asyncio.to_thread(check_service, oracle, "after")
                before = await asyncio.to_thread(request, oracle, "GET", "before")
                assert before.json()["partyList"] == [{"fspId": "greenbank"}]
            finally:
                await asyncio.to_thread(oracle.close)
