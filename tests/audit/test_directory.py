"""The directory is what its events made it: `oracle audit verify --directory` names each difference."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import aclosing
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from oracle_process import run_oracle
from sealing import execute, open_connection, seal, tampering

from oracle.audit import log
from oracle.audit.directory import WHOLE, Comparison, Key, open_snapshot
from oracle.audit.rounds import Rounds
from oracle.store.servers import Servers
from oracle.telemetry.metrics import Metrics

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


# What people and hubs do, each with its trigger.  A session of a person can have another time zone.
LIFE = (
    "SET timezone = 'Asia/Yangon'",
    "INSERT INTO fsps (fsp_id, name, contact) VALUES ('greenbank', 'Green', '{\"mail\": \"a@b\"}'), ('redbank', NULL, NULL)",
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
    "INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('EMAIL', 'ä@b.mx', 'redbank'), ('ALIAS', '5', 'redbank')",
    "INSERT INTO events (entity, action, channel, actor, party_id_type, party_identifier, sub_id, fsp_id)"
    " VALUES ('alias', 'ignored', 'self-heal', 'hub', 'MSISDN', '525512340013', '', 'redbank')",
    "UPDATE fsps SET status = 'suspended' WHERE fsp_id = 'redbank'",
    "UPDATE fsps SET status = 'active' WHERE fsp_id = 'redbank'",
    "INSERT INTO routes (party_id_type, prefix, fsp_id) VALUES ('MSISDN', '52', 'redbank'), ('MSISDN', '95', 'redbank'),"
    " ('ACCOUNT_ID', '646', 'greenbank')",
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
)


@pytest.fixture
async def directory(database_url: str) -> str:
    await execute(database_url, *LIFE)
    return database_url


async def differences(url: str) -> list[str]:
    connection = await log.connect(url, "test")
    try:
        comparison = Comparison(connection, chunk=3)
        async with open_snapshot(connection, WHOLE), aclosing(comparison.find()) as found:
            return [str(each.finding) async for each in found]
    finally:
        await connection.close()


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
        [
            of(
                15,
                ", further currency USD: the directory has redbank for USD, but its events have nothing (the last is event ",
            )
        ],
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
            "route: 2, prefix 95, valid_to: the directory has 2020-01-01T00:00:00Z, but its events have infinity (event ",
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
        ["secret: auditoraudit, secret of 20"],
    ),
    Planted(
        "UPDATE credential_secrets SET expires_at = 'infinity' WHERE secret_sha256 = sha256('one')",
        ["secret: makermakerma, secret of 20", "secret: makermakerma, secret of 20"],
    ),
)


async def test_an_honest_directory_has_no_difference(directory: str) -> None:
    assert await differences(directory) == []


async def test_each_change_by_a_superuser_is_found_and_named(directory: str, tmp_path: Path) -> None:
    async with tampering(directory) as superuser:
        for planted in PLANTED:
            status = await superuser.execute(planted.statement)
            assert status.endswith(" 1"), planted
        await superuser.execute("ALTER TABLE aliases DISABLE TRIGGER aliases_updated")
    found = await differences(directory)
    for begin in (begin for planted in PLANTED for begin in planted.found):
        assert any(line.startswith(begin) for line in found), begin
        found.remove(next(line for line in found if line.startswith(begin)))
    assert found == ["table: aliases has no trigger that writes its events (aliases_updated), or it is switched off"]
    await seal(directory, tmp_path / "keys")
    env = {"ORACLE_DATABASE_URL": directory, "ORACLE_AUDIT_KEY_FILE": str(tmp_path / "keys")}
    verdict = await asyncio.to_thread(run_oracle, tmp_path, "audit", "verify", "--directory", env=env)
    assert verdict.returncode == 1
    lines = verdict.stdout.splitlines()
    assert len(lines) == 1 + sum(len(planted.found) for planted in PLANTED)
    assert "the directory: " in verdict.stderr
