"""What operators see of the listener: health, metrics, its end (docs/account-lookup.md, section 11)."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from harness import WAIT_S, Message, Reply, open_bench, row, until

from oracle.api.http import Request
from oracle.run.wiring import drain
from oracle.scheme.base import Participant
from oracle.store.cache.session import RedisSession
from oracle.store.migrate import migrate

if TYPE_CHECKING:
    from conftest import StartPostgres

IDENTIFIER: Final = "525512345678"
PARTIES: Final = f"/parties/MSISDN/{IDENTIFIER}"
TO_PAYEE: Final = {"fspiop-destination": "payeefsp"}


@row("M01")
async def test_health_has_the_form_of_als(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url) as bench:
        await until(lambda: bench.store.coherence.session is not None)
        for path in ("/health", "/ready", "/live"):
            assert (await bench.ask_with("GET", path, [])).status == 200
        report = (await bench.ask_with("GET", "/health", [])).json
        assert report["status"] == "OK"
        assert isinstance(report["uptime"], float)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", report["startTime"])
        assert isinstance(report["versionNumber"], str)
        assert [one for one in report["services"] if one["name"] in ("datastore", "cache")] == [
            {"name": "datastore", "status": "OK"}, {"name": "cache", "status": "OK"},
        ]  # fmt: skip


@row("M03", "M04")
async def test_metrics_have_the_names_of_als(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url) as bench:
        await bench.register("MSISDN", IDENTIFIER)
        assert (await bench.ask("GET", PARTIES)).status == 202
        assert (await bench.ask("GET", "/parties/MSISDN/529900000000")).status == 202  # nobody has it
        assert (await bench.ask("GET", PARTIES, source="nobody")).status == 400
        await bench.settle()
        bench.payee.reply = Reply(500)
        assert (await bench.ask("GET", PARTIES)).status == 202
        assert (await bench.ask_with("DELETE", "/endpointcache", [])).status == 202
        await bench.settle()
        page = (await bench.ask_with("GET", "/metrics", [])).body.decode()
    counts = dict(re.findall(r'^moja_als_(\w+)_count\{[^}]*success="true"[^}]*\} (\d+)', page, re.MULTILINE))
    failures = dict(re.findall(r'^moja_als_(\w+)_count\{[^}]*success="false"[^}]*\} (\d+)', page, re.MULTILINE))
    for name, good, bad in (
        ("ing_postParticipantsbyTypeAndID", 1, 0), ("postParticipants", 1, 0), ("ing_getPartiesByTypeAndID", 3, 1),
        ("getPartiesByTypeAndID", 1, 2), ("egress_oracleRequest", 3, 0), ("ing_ResetParticipantEndpointCache", 1, 0),
    ):  # fmt: skip
        assert (int(counts[name]), int(failures[name])) == (good, bad), name
    assert int(failures["egress_sendRequestToParticipant"]) == 1
    assert 'serviceName="account-lookup-service"' in page
    assert "moja_oracle_lookups_total" in page
    for secret in (IDENTIFIER, "529900000000", "payerfsp", "payeefsp"):
        assert secret not in page


@row("M02")
async def test_without_postgresql_health_says_so_and_the_payer_gets_2003(
    start_postgres: StartPostgres, redis_url: str
) -> None:
    postgres = await start_postgres()
    await migrate(postgres.url())
    async with open_bench(postgres.url(), redis_url) as bench:
        assert (await bench.ask_with("GET", "/health", [])).status == 200
        await postgres.stop()
        await until(lambda: bench.store.coherence.failure is not None and not bench.store.coherence.reachable)
        health = await bench.ask_with("GET", "/health", [])
        assert (health.status, health.json["status"]) == (503, "DOWN")
        assert (await bench.ask("GET", PARTIES)).status == 202
        (error,) = await bench.payer.received(1)
        assert error.error[0] == "2003"


async def test_the_body_of_a_request_at_work_counts_among_those_that_a_process_can_hold(
    database_url: str, redis_url: str
) -> None:
    async with open_bench(database_url, redis_url) as bench:
        go_on = asyncio.Event()
        bench.payer.reply = Reply(wait=go_on)
        body = b'{"party":{}}' + b" " * 1000
        to_payer = {"fspiop-destination": "payerfsp"}
        assert (await bench.ask("PUT", PARTIES, body, source="payeefsp", headers=to_payer)).status == 200
        await bench.payer.received(1)
        assert bench.server.body_bytes == len(body)
        go_on.set()
        await bench.settle()
        await until(lambda: bench.server.body_bytes == 0)


async def test_no_request_is_answered_before_its_note_is_written(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, answered = [0], [0]
    write, respond = RedisSession._write_delayed, Request.respond

    def count_notes(session: RedisSession) -> None:
        written[0] += b"".join(session._delayed).count(b"\xa8payerfsp")  # each note has the source once
        write(session)

    def check(request: Request, *arguments: Any) -> None:
        answered[0] += 1
        assert answered[0] <= written[0]
        respond(request, *arguments)

    async with open_bench(database_url, redis_url) as bench:
        await until(lambda: bench.store.coherence.session)
        monkeypatch.setattr(RedisSession, "_write_delayed", count_notes)
        monkeypatch.setattr(Request, "respond", check)
        replies = await asyncio.gather(*[bench.ask("GET", PARTIES, headers=TO_PAYEE) for _ in range(20)])
        assert [reply.status for reply in replies] == [202] * 20
        assert answered == [20]


@row("M05")
async def test_the_end_waits_for_a_request_whose_source_is_still_asked_for(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bench(database_url, redis_url) as bench:
        go_on, scheme = asyncio.Event(), bench.listener._scheme

        async def find_late(fsp_id: str) -> Participant | None:
            await go_on.wait()
            return Participant(fsp_id)

        monkeypatch.setattr(scheme, "recall_participant", lambda _: None)
        monkeypatch.setattr(scheme, "find_participant", find_late)
        asking = asyncio.create_task(bench.ask("GET", PARTIES, headers=TO_PAYEE))
        await until(lambda: bench.listener.working)
        ending = asyncio.create_task(bench.listener.close(WAIT_S))
        await asyncio.sleep(0)
        go_on.set()
        assert await ending == 0
        assert (await asking).status == 202
        assert len(await bench.payee.received(1)) == 1


@row("M05")
async def test_a_drain_finishes_what_was_accepted(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url) as bench:
        go_on = asyncio.Event()

        def refuse_later(_: Message) -> Reply:
            return Reply(500, wait=go_on)

        bench.payee.reply = refuse_later
        for _ in range(10):
            assert (await bench.ask("GET", PARTIES, headers=TO_PAYEE)).status == 202
        await bench.payee.received(10)
        ending = asyncio.create_task(drain(bench.server, bench.listener, WAIT_S))
        await until(lambda: bench.server.draining)
        with_pending = bench.listener.working
        go_on.set()
        assert await ending == (0, 0)
        assert with_pending == 10
        errors = await bench.payer.received(10)
        assert {error.error[0] for error in errors} == {"1001"}
