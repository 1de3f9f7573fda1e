"""A whole lookup with participants from each source: a central ledger over HTTP, and the directory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
from harness import Bench, Reply, open_bench, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARTY = "/parties/MSISDN/525512345678"


async def look_up(bench: Bench) -> None:
    """Ask as the payer and answer as the payee."""
    assert (await bench.ask("GET", PARTY)).status == 202
    (asked,) = await bench.payee.received(1)
    assert asked.target == f"/payeefsp{PARTY}"
    reply = await bench.ask("PUT", PARTY, {"party": {}}, source="payeefsp", headers={"fspiop-destination": "payerfsp"})
    assert reply.status == 200
    (answered,) = await bench.payer.received(1)
    assert answered.target == f"/payerfsp{PARTY}"
    bench.payer.forget()
    bench.payee.forget()


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_ledger_is_asked_once_and_its_failure_hides_no_fsp(database_url: str, redis_url: str) -> None:
    async with connect(database_url) as connection, open_bench(database_url, redis_url, real_scheme=True) as bench:
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('payerfsp'), ('payeefsp')")
        await bench.register("MSISDN", "525512345678")
        await look_up(bench)
        asked = {message.target for message in bench.ledger.messages}
        assert asked >= {"/participants/payerfsp", "/participants/payeefsp", "/participants/payeefsp/endpoints"}
        bench.ledger.fails = Reply(500)
        await look_up(bench)
        reply = await bench.ask("GET", PARTY, source="thirdfsp")
        assert reply.status == 503
        assert b'"errorCode":"2003"' in reply.body


async def test_without_a_ledger_the_directory_says_where_fsps_are_called(database_url: str, redis_url: str) -> None:
    async with (
        connect(database_url) as connection,
        open_bench(database_url, redis_url, real_scheme=True, ledger_url=None) as bench,
    ):
        assert (await bench.ask("GET", PARTY)).status == 400
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('payerfsp'), ('payeefsp')")
        for dfsp in (bench.payer, bench.payee):
            await connection.execute(
                "INSERT INTO fsp_endpoints (fsp_id, base_url) VALUES ($1, $2)", dfsp.name, f"{dfsp.url}/{dfsp.name}"
            )
        statuses: list[int] = []

        async def ask_until_known() -> None:
            while statuses[-1:] != [202]:
                await asyncio.sleep(0.05)
                statuses.append((await bench.ask("GET", "/participants/MSISDN/525512345678")).status)

        async with asyncio.timeout(60):
            await ask_until_known()
        await until(lambda: bench.payer.messages)
        bench.payer.forget()
        await bench.register("MSISDN", "525512345678")
        await look_up(bench)
        assert bench.ledger.messages == []
