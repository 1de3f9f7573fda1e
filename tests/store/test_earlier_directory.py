"""A directory of the version before the stricter rules: migrated, nothing is lost, and all that is doubtful can go.

`data/earlier_directory.sql` is a dump of it, with a sealed history; `data/make_earlier_directory.py` made it.  The
tests run on one service, in this order: the last ones remove what is doubtful.
"""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest
import servers
from admin_service import Service
from differences import list_differences
from oracle_process import PATIENT, start_oracle

from oracle.audit import log
from oracle.audit.verify import Verification
from oracle.run.embedded.binaries import find_postgres_binaries
from oracle.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shell import Shell

    from oracle.run.embedded import PostgresServer, ValkeyServer

DUMP: Final = Path(__file__).parent / "data" / "earlier_directory.sql"

# FSP, type, identifier, SubId, and why today's hub refuses it.
DOUBTFUL_KEYS: Final = [
    ("whitebank", "MSISDN", "5588887777", "", "national_without_country"),
    ("whitebank", "MSISDN", "3312340006", "", "national_without_country"),
    ("bluebank", "MSISDN", "5588887778", "", "national_without_country"),
    ("mangobank", "MSISDN", "9250000012", "", "national_without_country"),
    ("farfsp", "PERSONAL_ID", "12", "OUKAMA(N)654321", "cut_at_slash"),
    ("farfsp", "PERSONAL_ID", "9", "ဥကမ(နိုင်)654322", "cut_at_slash"),
]
# The same, and the currency; the last member says whether the key has an entry that stays.
DOUBTFUL_CURRENCIES: Final = [
    ("bluebank", "MSISDN", "525512340002", "", "ZZZ", True),
    ("bluebank", "MSISDN", "525512340003", "", "MXX", True),
    ("bluebank", "MSISDN", "525512340101", "", "NAN", False),
    ("bluebank", "EMAIL", "ana@example.org", "", "NAN", False),
    ("bluebank", "DEVICE", "till-1", "", "MXX", False),
    ("bluebank", "ACCOUNT_ID", "000000356", "savings", "ZZZ", False),
    ("whitebank", "IBAN", "GB82WEST12345698765432", "", "NAN", True),
    ("whitebank", "ALIAS", "shared", "", "ZZZ", True),
]
# Routes that a person should look at: kind after the migration, prefix.
DOUBTFUL_ROUTES: Final = {
    ("ACCOUNT_ID", "6461570"),  # for CLABE or for other accounts
    ("ACCOUNT_ID", "0123"),
    ("MSISDN", "52155"),  # no number begins so
    ("MSISDN", "9509"),
}
# The tables, and the order in which their rows are compared: new events come last.
TABLES: Final = {
    "aliases": "identifier, party_id_type, sub_id",
    "alias_currencies": "identifier, party_id_type, sub_id, currency",
    "routes": "route_id",
    "events": "event_id",
    "fsps": "fsp_id",
    "key_policies": "party_id_type",
    "credentials": "credential_id",
    "batches": "batch_id",
    "batch_files": "batch_id, part",
    "batch_chunks": "batch_id, chunk",
    "audit_batches": "first_leaf",
    "audit_checkpoints": "size",
    "audit_tiles": "tile_level, first",
    "audit_keys": "number",
}
ROUTE_CHANGES: Final = {"changed_at", "version"}  # a route that a migration has given a kind


class Earlier:
    """The restored directory, before and after its migration: the rows of each table, as JSON would show them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.before = {table: self.read(table) for table in TABLES}
        asyncio.run(migrate(url))
        self.after = {table: self.read(table) for table in TABLES}

    def read(self, table: str) -> list[dict[str, str]]:
        sql = f"SELECT * FROM {table} ORDER BY {TABLES[table]}"  # noqa: S608 - our own names
        return [{name: str(value) for name, value in row.items()} for row in self.fetch(sql)]

    def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        async def fetch() -> list[Any]:
            connection = await asyncpg.connect(self.url)
            try:
                rows: list[Any] = await connection.fetch(sql, *arguments)
                return rows
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def list_findings(self) -> list[str]:
        """What is wrong with the sealed history."""

        async def verify() -> list[str]:
            connection = await log.connect(self.url, "test")
            try:
                async with aclosing(Verification(connection).find()) as found:
                    return [str(finding) async for finding in found]
            finally:
                await connection.close()

        return asyncio.run(verify())


@pytest.fixture(scope="module")
def earlier(postgres_server: PostgresServer) -> Iterator[Earlier]:
    name = asyncio.run(servers.make_database(postgres_server, "template0"))
    url = postgres_server.url(name)
    try:
        psql = find_postgres_binaries(postgres_server.data) / "psql"
        command = [str(psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(DUMP), "-d", url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield Earlier(url)
    finally:
        asyncio.run(servers.drop_database(postgres_server, name))


@pytest.fixture(scope="module")
def service(
    earlier: Earlier, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    env = {**PATIENT, "ORACLE_DATABASE_URL": earlier.url, "ORACLE_REDIS_URL": valkey_server.url()}
    with ExitStack() as stack:
        oracle = stack.enter_context(start_oracle(tmp_path_factory.mktemp("earlier"), env))
        yield Service(oracle, earlier.url, stack)


def list_entries(earlier: Earlier) -> set[tuple[str, ...]]:
    """FSP, type, identifier, SubId, currency of all entries."""
    names = "fsp_id, party_id_type::text, identifier, sub_id, currency"
    sql = f"SELECT {names} FROM aliases UNION ALL SELECT {names} FROM alias_currencies"  # noqa: S608 - our own names
    return {tuple(row) for row in earlier.fetch(sql)}


def list_doubtful(shell: Shell) -> list[list[str]]:
    """FSP, type, identifier, SubId, currency of the lines that `oracle alias doubtful` prints."""
    return [line[:5] for line in shell("alias", "doubtful").lines]


def test_a_migration_loses_nothing(earlier: Earlier) -> None:
    for table, before in earlier.before.items():
        after = earlier.after[table]
        assert before, table
        assert len(after) == len(before) or (table == "events" and len(after) > len(before)), table
        compared = before[0].keys() - (ROUTE_CHANGES if table == "routes" else set())
        for old, new in zip(before, after, strict=False):
            assert {name: new[name] for name in compared} == {name: old[name] for name in compared}, table
    assert earlier.list_findings() == []


def test_its_events_explain_every_row(earlier: Earlier) -> None:
    """Also columns that are younger than the events."""
    assert asyncio.run(list_differences(earlier.url)) == []


def test_lookups_answer_as_before(earlier: Earlier, service: Service) -> None:
    """Those of doubtful aliases are refused, as every other call about them."""
    refused = {row[1:4] for row in DOUBTFUL_KEYS}
    asked = 0
    for row in earlier.before["aliases"]:
        key = row["party_id_type"], row["identifier"], row["sub_id"]
        path = f"/{key[0]}/{key[1]}" + (f"?partySubIdOrType={key[2]}" if key[2] else "")
        answer = service.hub.get(path)
        if key in refused:
            again = [service.hub.request(method, path, json={"fspId": "greenbank"}) for method in ("PUT", "DELETE")]
            for each in (answer, *again):
                assert each.status_code == 400, key
                assert each.json()["errorInformation"]["errorCode"] == "3101", key
            continue
        party = {"fspId": row["fsp_id"], "currency": row["currency"], "partySubIdOrType": row["sub_id"]}
        assert answer.json() == {"partyList": [{name: value for name, value in party.items() if value}]}, key
        asked += 1
    assert asked > len(refused)


def test_everything_doubtful_is_listed(shell: Shell) -> None:
    found = {tuple(line[:4]): line for line in list_doubtful(shell)}
    expected = {row[:4] for row in DOUBTFUL_KEYS} | {row[:4] for row in DOUBTFUL_CURRENCIES}
    assert found.keys() == expected
    for *key, reason in DOUBTFUL_KEYS:
        items = shell("alias", "doubtful", "--fsp", key[0], "--json").out.splitlines()
        assert any(key[2] in item and f'"reason":"{reason}"' in item for item in items)
    for *key, currency, _ in DOUBTFUL_CURRENCIES:
        assert found[tuple(key)][4] == currency


def test_each_doubtful_alias_is_read_and_changed_by_its_stored_key(shell: Shell) -> None:
    for fsp_id, kind, identifier, sub_id, *_ in DOUBTFUL_KEYS:
        named = (kind, identifier, *(("--sub", sub_id) if sub_id else ()), "--fsp", fsp_id)
        assert shell("alias", "show", *named, "--json").json["identifier"] == identifier
        changed = shell("alias", "update", *named, "--currency", "MXN", "--reason", "a test", "--json")
        assert changed.code == 0, changed.err
        assert [entry["currency"] for entry in changed.json["entries"]] == ["MXN"]


def test_everything_doubtful_is_removed_and_nothing_else(earlier: Earlier, shell: Shell) -> None:
    before = list_entries(earlier)
    doubtful = {tuple(line) for line in list_doubtful(shell)}
    assert doubtful < before
    removed = shell("alias", "doubtful", "--remove", "--yes")
    assert (removed.code, removed.err.splitlines()[-1]) == (0, f"Removed {len(doubtful)} entries.")
    assert list_entries(earlier) == before - doubtful
    assert list_doubtful(shell) == []
    for fsp_id, kind, identifier, sub_id, currency, stays in DOUBTFUL_CURRENCIES:
        left = [row for row in list_entries(earlier) if row[1:4] == (kind, identifier, sub_id)]
        assert bool(left) is stays, (fsp_id, kind, currency)
    reasons = earlier.fetch("SELECT DISTINCT reason FROM events WHERE reason LIKE 'correction: doubtful%' ORDER BY 1")
    assert [row["reason"].rpartition(" ")[2] for row in reasons] == sorted(
        {"currency", *(row[4] for row in DOUBTFUL_KEYS)}
    )
    assert earlier.list_findings() == []


def test_every_doubtful_route_is_listed_and_can_be_ended(shell: Shell) -> None:
    found = [line[:3] for line in shell("route", "doubtful").lines]
    assert {(kind, prefix) for _, kind, prefix in found} == DOUBTFUL_ROUTES
    for route_id, _, _ in found:
        assert shell("route", "end", route_id, "--reason", "correction").code == 0
    assert shell("route", "doubtful").out == ""
    # The others are there, and a bank's route answers CLABEs only.
    listed = {tuple(line[1:3]) for line in shell("route", "list", "--limit", "0").lines}
    assert listed >= {("CLABE", "012"), ("CLABE", "646"), ("CLABE", "021"), ("MSISDN", "95979"), ("EMAIL", "info@")}


def test_events_explain_what_is_left(earlier: Earlier) -> None:
    assert asyncio.run(list_differences(earlier.url)) == []
