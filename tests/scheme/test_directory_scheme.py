"""The participants of the directory, followed on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mock_ledger import open_ledger, row

from oracle.calls.calls import open_calls
from oracle.run.handover import ParticipantsFile
from oracle.scheme.base import PARTICIPANT_PUT, PARTIES_GET, PATHS, LedgerUnavailable, Participant
from oracle.scheme.directory import DirectoryScheme, LedgerAndKeys
from oracle.settings import Settings
from oracle.store.migrate import migrate
from oracle.store.participants import DirectoryParticipants
from oracle.store.postgres import open_postgres
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from conftest import StartPostgres

BASE = "http://greenbank.example:8080/fspiop"
PEM = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n"
EVERY_S = 0.02


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - PostgreSQL has no event for it
            await asyncio.sleep(0.005)


@asynccontextmanager
async def open_kit(
    url: str, keep: Callable[[DirectoryParticipants], None] = lambda _: None
) -> AsyncIterator[tuple[DirectoryScheme, asyncpg.Connection]]:
    async with open_postgres(url) as postgres:
        connection = await asyncpg.connect(url)
        scheme = DirectoryScheme(postgres, keep=keep, every_s=EVERY_S)
        try:
            await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('greenbank'), ('bluebank'), ('proxy')")
            await scheme.open()
            yield scheme, connection
        finally:
            await scheme.close()
            with contextlib.suppress(Exception):
                await connection.close(timeout=1)


async def put(connection: asyncpg.Connection, fsp_id: str, **columns: Any) -> None:
    values = {"base_url": None, "urls": "{}", "is_proxy": False, **columns}
    await connection.execute(
        "INSERT INTO fsp_endpoints (fsp_id, base_url, urls, is_proxy) VALUES ($1, $2, $3::text::jsonb, $4)"
        " ON CONFLICT (fsp_id) DO UPDATE SET (base_url, urls, is_proxy) ="
        " (excluded.base_url, excluded.urls, excluded.is_proxy)",
        fsp_id, *values.values(),
    )  # fmt: skip


@row("E08")
async def test_each_change_of_an_fsp_its_endpoints_or_its_keys_is_followed(database_url: str) -> None:
    async with open_kit(database_url) as (scheme, connection):
        assert await scheme.find_participant("greenbank") == Participant("greenbank")
        assert await scheme.find_participant("GreenBank") is None
        assert await scheme.find_endpoint("greenbank", PARTIES_GET) is None
        assert await scheme.find_endpoint("nobody", PARTIES_GET) is None
        assert list(await scheme.list_proxies()) == []

        async def finds(endpoint_type: str, url: str | None) -> bool:
            await until(lambda: _is(scheme.find_endpoint("greenbank", endpoint_type), url))
            return True

        await put(connection, "greenbank", base_url=BASE)
        assert await finds(PARTIES_GET, BASE + PATHS[PARTIES_GET])
        own = "https://other.example/{{partyIdType}}/{{partyIdentifier}}"
        await put(connection, "greenbank", base_url=BASE, urls=json.dumps({PARTIES_GET: own}))
        assert await finds(PARTIES_GET, own)
        assert await finds(PARTICIPANT_PUT, BASE + PATHS[PARTICIPANT_PUT])
        assert await scheme.find_endpoint("greenbank", "FSPIOP_CALLBACK_URL_OTHER") is None
        await put(connection, "greenbank", urls=json.dumps({PARTIES_GET: own}))
        assert await finds(PARTICIPANT_PUT, None)
        assert await finds(PARTIES_GET, own)

        await put(connection, "proxy", is_proxy=True)
        await until(lambda: _is(scheme.list_proxies(), ["proxy"]))
        assert await scheme.find_participant("proxy") == Participant("proxy", is_proxy=True)

        for number, digit in enumerate("ab", 1):
            await connection.execute(
                "INSERT INTO fsp_jws_keys (fsp_id, label, pem, sha256) VALUES ('greenbank', 'one', $1, $2)",
                PEM.replace("MIIB", f"MII{digit}"), digit * 64,
            )  # fmt: skip
            await until(lambda number=number: _has(scheme.find_jws_keys("greenbank"), number))  # type: ignore[misc]
        assert [pem[30:31] for pem in await scheme.find_jws_keys("greenbank")] == ["b", "a"]
        assert list(await scheme.find_jws_keys("bluebank")) == []
        await connection.execute("DELETE FROM fsp_jws_keys WHERE sha256 LIKE 'b%'")
        await until(lambda: _has(scheme.find_jws_keys("greenbank"), 1))


async def _is(answer: Awaitable[object], wanted: object) -> bool:
    return await answer == wanted


async def _has(answer: Awaitable[Any], count: int) -> bool:
    return len(await answer) == count


@row("E09")
async def test_a_suspended_fsp_is_not_found_and_can_still_be_answered_and_a_closed_one_has_nothing(
    database_url: str,
) -> None:
    async with open_kit(database_url) as (scheme, connection):
        await put(connection, "proxy", base_url=BASE, is_proxy=True)
        await connection.execute(
            "INSERT INTO fsp_jws_keys (fsp_id, label, pem, sha256) VALUES ('proxy', 'one', $1, $2)", PEM, "a" * 64
        )
        await until(lambda: _is(scheme.list_proxies(), ["proxy"]))
        await connection.execute("UPDATE fsps SET status = 'suspended' WHERE fsp_id = 'proxy'")
        await until(lambda: _is(scheme.find_participant("proxy"), None))
        assert list(await scheme.list_proxies()) == []
        assert await scheme.find_endpoint("proxy", PARTIES_GET) == BASE + PATHS[PARTIES_GET]
        assert len(await scheme.find_jws_keys("proxy")) == 1
        await connection.execute("UPDATE fsps SET status = 'closed' WHERE fsp_id = 'proxy'")
        await until(lambda: _is(scheme.find_endpoint("proxy", PARTIES_GET), None))
        assert await scheme.find_participant("proxy") is None
        assert list(await scheme.find_jws_keys("proxy")) == []
        await connection.execute("UPDATE fsps SET status = 'provisional' WHERE fsp_id = 'proxy'")
        await until(lambda: _is(scheme.find_participant("proxy"), Participant("proxy", is_proxy=True)))


@row("E10")
async def test_what_was_read_answers_while_postgresql_is_away_also_in_the_next_process(
    start_postgres: StartPostgres,
) -> None:
    server = await start_postgres()
    await migrate(server.url())
    kept: list[DirectoryParticipants] = []
    async with open_kit(server.url(), kept.append) as (scheme, connection), open_postgres(server.url()) as postgres:
        await put(connection, "greenbank", base_url=BASE)
        await until(lambda: _is(scheme.find_endpoint("greenbank", PARTIES_GET), BASE + PATHS[PARTIES_GET]))
        await server.stop()
        late = DirectoryScheme(postgres, every_s=EVERY_S)
        await late.open()
        handed = DirectoryScheme(postgres, known=kept[-1], every_s=EVERY_S)
        try:
            for question in (
                late.find_participant("greenbank"),
                late.find_endpoint("greenbank", PARTIES_GET),
                late.list_proxies(),
                late.find_jws_keys("greenbank"),
            ):
                with pytest.raises(LedgerUnavailable):
                    await question
            for known in (scheme, handed):
                assert await known.find_endpoint("greenbank", PARTIES_GET) == BASE + PATHS[PARTIES_GET]
                assert await known.find_participant("greenbank") == Participant("greenbank")
            await server.start()
            await until(lambda: _finds(late))
        finally:
            await late.close()


async def _finds(scheme: DirectoryScheme) -> bool:
    with contextlib.suppress(LedgerUnavailable):
        return await scheme.find_participant("greenbank") is not None
    return False


@row("E07")
async def test_forget_endpoints_in_one_process_reaches_the_ledger_scheme_of_another(database_url: str) -> None:
    async with open_ledger() as ledger, open_postgres(database_url) as postgres:
        ledger.have("greenbank", {PARTIES_GET: "http://old.example/{{partyIdentifier}}"})
        caller = open_calls(Settings(), Metrics.open(None, "account-lookup", 0))
        schemes = []
        try:
            for _ in range(2):
                directory = DirectoryScheme(postgres, every_s=EVERY_S)
                await directory.open()
                schemes.append(LedgerAndKeys(ledger.url, caller, directory, hub_name="Hub"))
            one, other = schemes
            for scheme in schemes:
                assert await scheme.find_endpoint("greenbank", PARTIES_GET) == "http://old.example/{{partyIdentifier}}"
            ledger.have("greenbank", {PARTIES_GET: "http://new.example/{{partyIdentifier}}"})
            assert await other.find_endpoint("greenbank", PARTIES_GET) == "http://old.example/{{partyIdentifier}}"
            one.forget_endpoints()
            assert await one.find_endpoint("greenbank", PARTIES_GET) == "http://new.example/{{partyIdentifier}}"
            await until(
                lambda: _is(other.find_endpoint("greenbank", PARTIES_GET), "http://new.example/{{partyIdentifier}}")
            )
        finally:
            for scheme in schemes:
                await scheme.close()
            await caller.close()


async def test_the_participants_are_kept_in_a_file_of_the_run_directory(tmp_path: Path, database_url: str) -> None:
    kept = ParticipantsFile(tmp_path)
    assert kept.read() is None
    async with open_kit(database_url, kept.keep) as (scheme, connection):
        await put(connection, "greenbank", base_url=BASE)
        await until(lambda: _is(scheme.find_endpoint("greenbank", PARTIES_GET), BASE + PATHS[PARTIES_GET]))
        found = kept.read()
        assert found is not None
        assert [fsp.fsp_id for fsp in found.fsps if fsp.base_url == BASE] == ["greenbank"]
    (tmp_path / "participants.msgpack").write_bytes(b"nonsense")
    assert kept.read() is None
