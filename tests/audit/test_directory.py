"""The directory is what its events made it: `oracle audit verify --directory` names each difference."""

# ruff: noqa: S608, ISC004 - statements for a test's own database

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import NamedTuple

import pytest
from differences import list_differences
from oracle_process import run_oracle
from sealing import execute, open_connection, seal, tampering

from oracle.api.health import list_alarms
from oracle.audit import log
from oracle.audit.directory import Comparison, Key, open_snapshot
from oracle.audit.rounds import ROUNDS_LOCK, Rounds
from oracle.store.queries import QUERIES
from oracle.store.servers import Servers
from oracle.telemetry.metrics import Metrics

COMPARED = "audit_directory_compared_timestamp_seconds"
ID = "52551234%04d"


def alias(number: int, fsp_id: str, rest: str = "") -> str:
    return (
        "INSERT INTO aliases (party_id_type, identifier, fsp_id, sub_id, currency, is_hint) VALUES"
        f" ('MSISDN', '{ID % number}', '{fsp_id}', {rest or quote('', '', 'false')})"
    )


def quote(sub_id: str, currency: str, is_hint: str) -> str:
    return f"'{sub_id}', '{currency}', {is_hint}"


def further(number: int, fsp_id: str, currency: str) -> str:
    return (
        "INSERT INTO alias_currencies (party_id_type, identifier, fsp_id, currency)"
        f" VALUES ('MSISDN', '{ID % number}', '{fsp_id}', '{currency}')"
    )


def at(number: int) -> str:
    return f"identifier = '{ID % number}'"


def jws_key(digit: str) -> str:
    pem = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n"
    return f"('greenbank', 'one', '{pem}', '{digit * 64}')"


# What people and hubs do, each with its trigger.  A session of a person can have another time zone.
LIFE = (
    "SET timezone = 'Asia/Yangon'",
    "INSERT INTO fsps (fsp_id, contact) VALUES ('greenbank', '{\"mail\": \"a@b\"}'), ('redbank', NULL)",
    "INSERT INTO fsps (fsp_id, status) VALUES ('bluebank', 'provisional')",
    "UPDATE key_policies SET policy = 'per-currency' WHERE party_id_type = 'MSISDN'",
    *(alias(number, "greenbank") for number in range(20)),
    *(alias(number, "greenbank", quote("till", "MXN", "false")) for number in range(5, 10)),
    *(further(number, "redbank", currency) for number in range(5) for currency in ("MXN", "USD")),
    "SET timezone = 'America/Mexico_City'",
    f"UPDATE aliases SET fsp_id = 'redbank' WHERE {at(10)}",  # given to another FSP
    f"DELETE FROM aliases WHERE {at(11)}",
    f"DELETE FROM aliases WHERE {at(0)}",  # with an heir
    f"DELETE FROM alias_currencies WHERE {at(1)} AND currency = 'USD'",
    f"DELETE FROM aliases WHERE {at(12)}",
    alias(12, "redbank"),  # and back
    alias(30, "bluebank", quote("", "", "true")),  # a hint that stays
    alias(31, "bluebank", quote("", "", "true")),
    f"UPDATE aliases SET fsp_id = 'greenbank', is_hint = false WHERE {at(31)}",  # and one that somebody registers
    "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
    " VALUES ('EMAIL', 'ä@b.mx', 'redbank'), ('ALIAS', '5', 'redbank')",
    "INSERT INTO events (entity, action, channel, actor, party_id_type, party_identifier, sub_id, fsp_id)"
    " VALUES ('alias', 'ignored', 'self-heal', 'hub', 'MSISDN', '525512340013', '', 'redbank')",
    "UPDATE fsps SET status = 'suspended' WHERE fsp_id = 'redbank'",
    "UPDATE fsps SET status = 'active' WHERE fsp_id = 'redbank'",
    "INSERT INTO routes (party_id_type, prefix, fsp_id)"
    " VALUES ('MSISDN', '52', 'redbank'), ('MSISDN', '95', 'redbank'), ('ACCOUNT_ID', '646', 'greenbank')",
    "UPDATE routes SET note = 'moved', fsp_id = 'greenbank' WHERE prefix = '95'",
    "DELETE FROM routes WHERE prefix = '646'",
    "INSERT INTO fsp_logos VALUES ('greenbank', 'png')",
    "UPDATE fsps SET logo_sha256 = sha256('png'), logo_data_type = 'image/png' WHERE fsp_id = 'greenbank'",
    "INSERT INTO credentials (credential_id, role, fsp_id, label, created_by) VALUES"
    " ('makermakerma', 'dfsp-maker', 'redbank', 'm', 'x'), ('auditoraudit', 'auditor', NULL, 'a', 'x')",
    "INSERT INTO credential_secrets (credential_id, secret_sha256) VALUES"
    " ('makermakerma', sha256('one')), ('makermakerma', sha256('two')), ('auditoraudit', sha256('three'))",
    "UPDATE credential_secrets SET expires_at = now() + interval '1 day' WHERE secret_sha256 = sha256('one')",
    "UPDATE credentials SET revoked_at = now() WHERE credential_id = 'auditoraudit'",
    "INSERT INTO oracles (party_id_type, url) VALUES ('MSISDN', 'http://a'), ('EMAIL', 'http://a'), ('IBAN', 'http://a')",
    "UPDATE oracles SET url = 'http://b', is_default = true WHERE party_id_type = 'MSISDN'",
    "DELETE FROM oracles WHERE party_id_type = 'IBAN'",
    "INSERT INTO fsp_endpoints (fsp_id, base_url) VALUES ('greenbank', 'http://a'), ('redbank', 'http://a')",
    "UPDATE fsp_endpoints SET base_url = 'http://b', is_proxy = true WHERE fsp_id = 'greenbank'",
    f"INSERT INTO fsp_jws_keys (fsp_id, label, pem, sha256) VALUES {jws_key('1')}, {jws_key('2')}, {jws_key('3')}",
    "DELETE FROM fsp_jws_keys WHERE sha256 LIKE '3%'",
)


@pytest.fixture
async def directory(database_url: str) -> str:
    await execute(database_url, *LIFE)
    return database_url


class Planted(NamedTuple):
    statement: str
    found: list[str]  # how the findings begin


def of(number: int, rest: str) -> str:
    return f"alias: MSISDN {ID % number}{rest}"


PLANTED = (
    Planted(
        f"UPDATE aliases SET fsp_id = 'redbank' WHERE {at(2)}",
        [of(2, ": the directory has redbank, but its events have greenbank (event ")],
    ),
    Planted(
        f"DELETE FROM aliases WHERE {at(13)}",
        [of(13, ": the directory has nothing, but its events have greenbank (event ")],
    ),
    Planted(alias(40, "redbank"), [of(40, ": the directory has redbank, but no event registered it")]),
    Planted(
        alias(11, "redbank"),
        [of(11, ": the directory has redbank, but its events have nothing (the last is event ")],
    ),
    Planted(
        f"UPDATE aliases SET currency = 'USD' WHERE {at(14)}",
        [of(14, ": the directory has greenbank for USD, but its events have greenbank (event ")],
    ),
    Planted(
        further(15, "redbank", "USD"),
        [of(15, ", further currency USD: the directory has redbank for USD, but its events have nothing (the last ")],
    ),
    Planted(
        f"DELETE FROM alias_currencies WHERE {at(3)} AND currency = 'MXN'",
        [of(3, ", further currency MXN: the directory has nothing, but its events have redbank for MXN (event ")],
    ),
    Planted(
        f"UPDATE alias_currencies SET fsp_id = 'greenbank' WHERE {at(4)} AND currency = 'USD'",
        [of(4, ", further currency USD: the directory has greenbank for USD, but its events have redbank for USD (")],
    ),
    Planted(
        f"UPDATE aliases SET sub_id = 'shop' WHERE {at(5)} AND sub_id = 'till'",
        [
            of(5, ", SubId shop: the directory has greenbank for MXN, but no event registered it"),
            of(5, ", SubId till: the directory has nothing, but its events have greenbank for MXN (event "),
        ],
    ),
    Planted(
        f"UPDATE aliases SET identifier = '{ID % 41}' WHERE {at(16)}",
        [
            of(16, ": the directory has nothing, but its events have greenbank (event "),
            of(41, ": the directory has greenbank, but no event registered it"),
        ],
    ),
    Planted(
        f"UPDATE aliases SET is_hint = true WHERE {at(17)}",
        [of(17, ": the directory has greenbank as a hint, but its events have greenbank (event ")],
    ),
    Planted(
        "UPDATE routes SET fsp_id = 'greenbank' WHERE prefix = '52'",
        ["route: 1, prefix 52, fsp_id: the directory has greenbank, but its events have redbank (event "],
    ),
    Planted(
        "UPDATE routes SET valid_to = '2020-01-01', valid_from = '2019-01-01' WHERE prefix = '95'",
        [
            "route: 2, prefix 95, valid_from: the directory has 2019-01-01T00:00:00Z, but its events have 20",
            "route: 2, prefix 95, valid_to: the directory has 2020-01-01T00:00:00Z, but its events have infinity (",
        ],
    ),
    Planted(
        "INSERT INTO routes (party_id_type, kind, prefix, fsp_id) VALUES ('ALIAS', 'ALIAS', 'a', 'redbank')",
        ["route: 4, prefix a: it is in the directory, but no event made it"],
    ),
    Planted(
        "UPDATE fsps SET status = 'active' WHERE fsp_id = 'bluebank'",
        ["fsp: bluebank, status: the directory has active, but its events have provisional (event "],
    ),
    Planted(
        "INSERT INTO fsps (fsp_id) VALUES ('ghost')",
        ["fsp: ghost: it is in the directory, but no event made it"],
    ),
    Planted("UPDATE fsp_logos SET data = 'gif'", ["fsp: greenbank, logo: the directory has \\x"]),
    Planted(
        "UPDATE key_policies SET policy = 'per-currency' WHERE party_id_type = 'EMAIL'",
        ["policy: EMAIL, policy: the directory has per-currency, but its events have unique (no event changed it)"],
    ),
    Planted(
        "UPDATE key_policies SET policy = 'unique' WHERE party_id_type = 'MSISDN'",
        ["policy: MSISDN, policy: the directory has unique, but its events have per-currency (event "],
    ),
    Planted(
        "DELETE FROM key_policies WHERE party_id_type = 'DEVICE'",
        ["policy: DEVICE, policy: the directory has nothing, but its events have unique (no event changed it)"],
    ),
    Planted(
        "UPDATE credentials SET role = 'operator', fsp_id = NULL WHERE credential_id = 'makermakerma'",
        [
            "credential: makermakerma, fsp_id: the directory has nothing, but its events have redbank (event ",
            "credential: makermakerma, role: the directory has operator, but its events have dfsp-maker (event ",
        ],
    ),
    Planted(
        "UPDATE credentials SET revoked_at = 'infinity' WHERE credential_id = 'auditoraudit'",
        ["credential: auditoraudit, revoked_at: the directory has infinity, but its events have 20"],
    ),
    Planted(
        "INSERT INTO credential_secrets (credential_id, secret_sha256) VALUES ('auditoraudit', sha256('four'))",
        ["secret: auditoraudit, made at 20"],
    ),
    Planted(
        "UPDATE credential_secrets SET expires_at = 'infinity' WHERE secret_sha256 = sha256('one')",
        ["secret: makermakerma, made at 20", "secret: makermakerma, made at 20"],
    ),
    Planted(
        "UPDATE oracles SET url = 'http://c' WHERE party_id_type = 'MSISDN'",
        ["oracle: 1, url: the directory has http://c, but its events have http://b (event "],
    ),
    Planted(
        "DELETE FROM oracles WHERE party_id_type = 'EMAIL'",
        ["oracle: 2: it is not in the directory, but event "],
    ),
    Planted(
        "INSERT INTO oracles (party_id_type, url) VALUES ('ALIAS', 'http://c')",
        ["oracle: 4: it is in the directory, but no event made it"],
    ),
    Planted(
        "UPDATE fsp_endpoints SET base_url = 'http://thief' WHERE fsp_id = 'greenbank'",
        ["endpoints: greenbank, base_url: the directory has http://thief, but its events have http://b (event "],
    ),
    Planted(
        "DELETE FROM fsp_endpoints WHERE fsp_id = 'redbank'",
        ["endpoints: redbank: it is not in the directory, but event "],
    ),
    Planted(
        f"INSERT INTO fsp_jws_keys (fsp_id, label, pem, sha256) VALUES {jws_key('4')}",
        ["jws-key: 4: it is in the directory, but no event made it"],
    ),
    Planted(
        "UPDATE fsp_jws_keys SET fsp_id = 'redbank' WHERE sha256 LIKE '1%'",
        ["jws-key: 1, fsp_id: the directory has redbank, but its events have greenbank (event "],
    ),
)


async def test_an_honest_directory_has_no_difference(directory: str) -> None:
    assert await list_differences(directory) == []


async def test_each_change_by_a_superuser_is_found_and_named(directory: str, tmp_path: Path) -> None:
    async with tampering(directory) as superuser:
        for planted in PLANTED:
            status = await superuser.execute(planted.statement)
            assert status.endswith(" 1"), planted
        await superuser.execute("ALTER TABLE aliases DISABLE TRIGGER aliases_updated")
    found = await list_differences(directory)
    for begin in (begin for planted in PLANTED for begin in planted.found):
        assert any(line.startswith(begin) for line in found), begin
        found.remove(next(line for line in found if line.startswith(begin)))
    assert found == ["table: aliases has no trigger that writes its events (aliases_updated), or it is switched off"]
    await seal(directory, tmp_path / "keys")
    env = {"ORACLE_DATABASE_URL": directory, "ORACLE_AUDIT_KEY_FILE": str(tmp_path / "keys")}
    verdict = await asyncio.to_thread(run_oracle, tmp_path, "audit", "verify", "--directory", env=env)
    assert verdict.returncode == 7
    lines = verdict.stdout.splitlines()
    assert len(lines) == 1 + sum(len(planted.found) for planted in PLANTED)
    assert "the directory: " in verdict.stderr


ALTERED = {
    "DROP TRIGGER fsps_updated ON fsps; CREATE TRIGGER fsps_updated AFTER UPDATE ON fsps"
    " FOR EACH ROW WHEN (false) EXECUTE FUNCTION fsps_updated()": "fsps has no trigger that writes its events (fsps_up",
    "DROP TRIGGER routes_updated ON routes; CREATE TRIGGER routes_updated BEFORE UPDATE ON routes"
    " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()": "routes has no trigger that writes its",
    "CREATE TRIGGER aaa BEFORE INSERT ON aliases FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()": "aliases has a trigger that no migration made: aaa",
    "CREATE RULE none AS ON DELETE TO credentials DO ALSO NOTHING": "credentials differs from the migrations",
}


async def test_a_table_that_can_write_other_events_is_named(directory: str) -> None:
    async with tampering(directory) as superuser:
        for statement in ALTERED:
            await superuser.execute(statement)
    found = await list_differences(directory)
    for begin in ALTERED.values():
        assert any(line.startswith(f"table: {begin}") for line in found), begin
    assert len(found) == len(ALTERED)
    async with tampering(directory) as superuser:
        await superuser.execute("DROP RULE none ON credentials")  # PostgreSQL's own flag (relhasrules) would stay
    assert len(await list_differences(directory)) == len(ALTERED) - 1


async def test_a_slice_goes_on_where_the_one_before_it_ended(directory: str) -> None:
    """Every key is in exactly one slice, whatever the size: the differences are those of the whole."""
    async with tampering(directory) as superuser:
        await superuser.execute("UPDATE aliases SET fsp_id = 'bluebank', changed_at = now()")
    whole = [line for line in await list_differences(directory) if line.startswith("alias: ")]
    async with open_connection(directory) as connection:
        for rows_max in (1, 7):
            found: list[str] = []
            begin: Key | None = None
            while True:
                comparison = Comparison(connection, chunk=2)
                async with open_snapshot(connection):
                    found += [str(each.finding) async for each in comparison.find_aliases(begin, rows_max)]
                begin = comparison.next
                if begin is None:
                    break
            assert found == whole
    assert len(whole) > 20


# What an event that no trigger wrote can say is after it.
UNREADABLE = (
    "{}", "5", "[]", "null", '{"default": 1}', '{"default": false, "currency": [], "fsp_id": 3}',
    '{"fsp_id": 1e999}', "[" * 3000 + "]" * 3000,
)  # fmt: skip


async def test_an_event_that_no_trigger_wrote_is_named_and_stops_nothing(directory: str) -> None:
    """The application can write such events: the columns of `events` have no schema."""
    async with open_connection(directory) as connection:
        for number, after in enumerate(UNREADABLE, 5):
            for entity, party in (("alias", ID % number), ("alias", "nobody"), ("fsp", None), ("route", None),
                                  ("secret", None)):  # fmt: skip
                await connection.execute(
                    "INSERT INTO events (entity, action, channel, actor, party_id_type, party_identifier, fsp_id,"
                    " after) VALUES ($1, 'changed', 'sql', 'x',"
                    " CASE WHEN $2::text <> 'nobody' THEN 'MSISDN'::party_id_type END, $2, 'greenbank', $3)",
                    entity, party, after,
                )  # fmt: skip
    found = await list_differences(directory)
    for number in range(5, 5 + len(UNREADABLE)):
        assert any(line.startswith(f"alias: MSISDN {ID % number}: event ") for line in found), (number, found)
    assert any(line.startswith("fsp: greenbank") for line in found)
    assert {line.split(" ")[0] for line in found} <= {"alias:", "fsp:", "route:", "secret:"}
    deep = "[" * 3000 + "]" * 3000
    async with tampering(directory) as superuser:
        await superuser.execute("UPDATE fsps SET contact = $1 WHERE fsp_id = 'redbank'", deep)
    assert any(line.startswith("fsp: redbank, row: ") for line in await list_differences(directory))


async def test_secrets_that_are_older_than_their_events_get_one(directory: str) -> None:
    migration = files("oracle.store.migrations") / "0014_pre_baseline_of_secrets.sql"
    sql = migration.read_text(encoding="utf-8")
    async with tampering(directory) as superuser:
        await superuser.execute(
            "INSERT INTO credential_secrets (credential_id, secret_sha256)"
            " VALUES ('auditoraudit', sha256('old')), ('auditoraudit', sha256('older'))"
        )
    assert len(await list_differences(directory)) == 2
    for _ in range(2):  # the second time, nothing lacks an event
        await execute(directory, sql)
        assert await list_differences(directory) == []


async def test_changes_beside_the_comparison_are_no_differences(directory: str) -> None:
    """Each side is read in portions, and both are of one snapshot."""
    stop = asyncio.Event()

    async def change() -> int:
        rounds = 0
        async with open_connection(directory) as connection:
            while not stop.is_set():
                for number in range(20, 24):
                    await connection.execute(alias(number, "greenbank"))
                    await connection.execute(f"UPDATE aliases SET fsp_id = 'redbank' WHERE {at(number)}")
                    await connection.execute(f"DELETE FROM aliases WHERE {at(number)}")
                await connection.execute("UPDATE fsps SET name = md5(random()::text) WHERE fsp_id = 'redbank'")
                rounds += 1
        return rounds

    changing = asyncio.create_task(change())
    for _ in range(5):
        assert await list_differences(directory) == []
    stop.set()
    assert await changing > 0


# In the background ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def comparing(url: str) -> AsyncIterator[Metrics]:
    metrics, stop = Metrics.open(None, "jobs", 0), asyncio.Event()
    rounds = Rounds(Servers(url), metrics, every_s=0.01, rows_per_s=1e6, first_after_s=0, slice_rows=5)
    task = asyncio.create_task(rounds.run(stop))
    try:
        yield metrics
    finally:
        stop.set()
        await task


async def until_found(metrics: Metrics, count: float) -> None:
    """Wait for a round that begins now and is complete."""
    async with asyncio.timeout(30):
        for _ in range(2):
            began = time.time()
            while not metrics.read_gauge(COMPARED) > began:  # noqa: ASYNC110 - a gauge sets no event
                await asyncio.sleep(0.01)
    assert metrics.read_gauge("audit_directory_differences") == count


async def test_rounds_report_differences_until_they_are_gone(directory: str, caplog: pytest.LogCaptureFixture) -> None:
    async with comparing(directory) as metrics:
        await until_found(metrics, 0)
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        async with tampering(directory) as superuser:
            await superuser.execute(f"UPDATE aliases SET fsp_id = 'redbank' WHERE {at(2)}")
            await superuser.execute("UPDATE fsps SET status = 'active' WHERE fsp_id = 'bluebank'")
            await until_found(metrics, 2)
            errors = [record for record in caplog.records if record.levelname == "ERROR"]
            assert "The directory is not as history says" in errors[-1].getMessage()
            assert ID % 2 not in caplog.text
            (alarm,) = list_alarms(metrics, 300)
            assert (alarm.name, alarm.status, alarm.reason[:27]) == ("directory", "DOWN", "differences from history: 2")
            await superuser.execute(f"UPDATE aliases SET fsp_id = 'greenbank' WHERE {at(2)}")
            await superuser.execute("UPDATE fsps SET status = 'provisional' WHERE fsp_id = 'bluebank'")
        await until_found(metrics, 0)


async def test_one_process_compares_and_the_next_one_takes_over(directory: str) -> None:
    async with open_connection(directory) as other:
        await other.execute("SELECT pg_advisory_lock($1)", ROUNDS_LOCK)
        async with comparing(directory) as metrics:
            async with asyncio.timeout(30):
                while not await other.fetchval(  # noqa: ASYNC110 - a database sets no event
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'oracle directory rounds'"
                    " AND state = 'idle' AND datname = current_database()"
                ):
                    await asyncio.sleep(0.01)
            assert isnan(metrics.read_gauge("audit_directory_differences"))


async def test_a_slice_walks_indexes(directory: str) -> None:
    """It neither sorts nor reads a table: a slice in the middle of 100 million would read all of them."""
    connection = await log.connect(directory, "test", plan_cache_mode="force_generic_plan")
    try:
        for query in ("directory_alias_events", "directory_default_entries", "directory_further_entries"):
            await connection.execute(f"PREPARE {query} (text, text) AS {QUERIES[query]}")
            rows = await connection.fetch(f"EXPLAIN EXECUTE {query}('525512340003', 'MSISDN')")
            plan = "\n".join(row[0] for row in rows)
            assert len(re.findall(r"Index Cond: \(+ROW\(", plan)) == plan.count("Index Scan") > 0, plan
            assert "Sort  " not in plan
            assert "Seq Scan" not in plan
    finally:
        await connection.close()
