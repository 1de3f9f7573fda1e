"""The migration that gives each route its kind: what changes, what stays, and the older version that runs beside it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from oracle.identifiers import BadIdentifier
from oracle.identifiers.clabe import load_institutions
from oracle.identifiers.nrc import Nrc
from oracle.store import history
from oracle.store.migrate import migrate, read_migrations
from oracle.store.postgres import open_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIGRATION = next(m for m in read_migrations() if (m.number, m.stage) == (5, "pre"))
BEFORE = [m for m in read_migrations() if m.number < MIGRATION.number]

# As the version before wrote them: it had no kinds.
INSERT = "INSERT INTO routes (party_id_type, prefix, fsp_id, valid_from, valid_to) VALUES ($1, $2, 'bank', $3, $4)"
LONG_AGO, FOREVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
KINDS = {
    ("ACCOUNT_ID", "012"): "CLABE",
    ("ACCOUNT_ID", "646"): "CLABE",
    ("ACCOUNT_ID", "000"): "ACCOUNT_ID",
    ("ACCOUNT_ID", "999"): "ACCOUNT_ID",
    ("ACCOUNT_ID", "01"): "ACCOUNT_ID",
    ("ACCOUNT_ID", "646180"): "ACCOUNT_ID",
    ("ACCOUNT_ID", "0123456789"): "ACCOUNT_ID",
    ("MSISDN", "646"): "MSISDN",
    ("BUSINESS", "012"): "BUSINESS",
    ("PERSONAL_ID", "12-"): "PERSONAL_ID",
    ("PERSONAL_ID", "9-250019-"): "NRC",
    ("PERSONAL_ID", "14-250019-N-12"): "NRC",
    ("PERSONAL_ID", "12"): "PERSONAL_ID",
    ("PERSONAL_ID", "012"): "PERSONAL_ID",
    ("PERSONAL_ID", "15-"): "PERSONAL_ID",
    ("PERSONAL_ID", "12-25"): "PERSONAL_ID",
    ("PERSONAL_ID", "12-250909-"): "PERSONAL_ID",
    ("PERSONAL_ID", "12-250019-X"): "PERSONAL_ID",
    ("ALIAS", "12-"): "ALIAS",
}
CLABE = "012180000118359713"


async def add_rules(db: asyncpg.Connection) -> None:
    for party_id_type, prefix in KINDS:
        await db.execute(INSERT, party_id_type, prefix, LONG_AGO, FOREVER)


async def read_kinds(db: asyncpg.Connection) -> dict[tuple[str, str], str]:
    rows = await db.fetch("SELECT party_id_type::text, prefix, kind FROM routes WHERE valid_to > now()")
    return {(row["party_id_type"], row["prefix"]): row["kind"] for row in rows}


@pytest.fixture
async def db(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A directory of the version before, with an FSP."""
    await migrate(empty_database_url, migrations=BEFORE)
    db = await asyncpg.connect(empty_database_url)
    await db.execute("INSERT INTO fsps (fsp_id) VALUES ('bank')")
    yield db
    await db.close()


async def test_a_rule_with_the_code_of_a_bank_or_the_form_of_an_nrc_gets_its_kind(
    db: asyncpg.Connection, empty_database_url: str
) -> None:
    await add_rules(db)
    await db.execute(INSERT, "ACCOUNT_ID", "014", LONG_AGO, LONG_AGO + timedelta(days=9))
    rules = "SELECT to_jsonb(r) - 'kind' - 'version' - 'changed_at' AS rule FROM routes r ORDER BY route_id"
    before = await db.fetch(rules)
    events = await db.fetchval("SELECT max(event_id) FROM events")
    (loaded,) = await db.fetch("SELECT routes_version, clock_timestamp() AS at FROM cache_generation")
    assert await migrate(empty_database_url) == len(read_migrations()) - len(BEFORE)
    assert await read_kinds(db) == KINDS
    assert await db.fetch(rules) == before
    assert await db.fetchval("SELECT kind FROM routes WHERE prefix = '014'") == "ACCOUNT_ID"  # it had ended

    # Each change is one event, and all processes load the rules again.
    changed = await db.fetch("SELECT * FROM events WHERE event_id > $1 AND entity = 'route' ORDER BY event_id", events)
    assert {(e["action"], e["channel"]) for e in changed} == {("changed", "sql")}
    assert all("kind" in e["reason"] for e in changed)
    after = [json.loads(e["after"]) for e in changed]
    assert {(e["party_id_type"], e["prefix"]): e["kind"] for e in after} == {
        rule: kind for rule, kind in KINDS.items() if kind != rule[0]
    }
    assert await db.fetchval("SELECT routes_version FROM cache_generation") > loaded["routes_version"]

    # History answers as the hub did: by the prefix alone before the migration, and then by the kind.
    async with open_postgres(empty_database_url, desk=True) as postgres:
        for identifier, then, now in DECISIONS:
            for at, expected in ((loaded["at"], then), (datetime.now(UTC), now)):
                found = (await history.fetch_situation(postgres, "ACCOUNT_ID", identifier, at)).find_route(at)
                assert (found and (found.kind, found.prefix)) == expected, (identifier, at)


# What decided about an identifier before the migration, and after it.
DECISIONS = [
    (CLABE, ("ACCOUNT_ID", "012"), ("CLABE", "012")),
    (CLABE[:-1] + "9", ("ACCOUNT_ID", "012"), ("ACCOUNT_ID", "01")),
    ("0129", ("ACCOUNT_ID", "012"), ("ACCOUNT_ID", "01")),
    ("646", ("ACCOUNT_ID", "646"), None),
    ("6461801", ("ACCOUNT_ID", "646180"), ("ACCOUNT_ID", "646180")),
]


async def test_the_version_before_goes_on_beside_it(db: asyncpg.Connection, empty_database_url: str) -> None:
    """It inserts without a kind, changes times, and ends rules."""
    await migrate(empty_database_url)
    await add_rules(db)
    assert await read_kinds(db) == KINDS
    await db.execute("UPDATE routes SET valid_to = $1, note = 'n' WHERE prefix = '012'", FOREVER - timedelta(days=1))
    assert await read_kinds(db) == KINDS
    with pytest.raises(asyncpg.UnknownPostgresError, match="another route has this prefix"):
        await db.execute(INSERT, "ACCOUNT_ID", "012", LONG_AGO, FOREVER)
    await db.execute("DELETE FROM routes WHERE prefix = '012'")


async def test_two_kinds_can_share_a_prefix_and_one_kind_cannot(
    db: asyncpg.Connection, empty_database_url: str
) -> None:
    await migrate(empty_database_url)
    insert = "INSERT INTO routes (party_id_type, kind, prefix, fsp_id) VALUES ('ACCOUNT_ID', $1, '646', 'bank')"
    await db.execute(insert, "CLABE")
    await db.execute(insert, "ACCOUNT_ID")
    for kind in ("CLABE", "ACCOUNT_ID"):
        with pytest.raises(asyncpg.UnknownPostgresError, match="another route has this prefix"):
            await db.execute(insert, kind)
    with pytest.raises(asyncpg.UnknownPostgresError, match="another route has this prefix"):
        await db.execute("UPDATE routes SET kind = 'CLABE'")
    # A kind belongs to one type: a rule that a person moves to another type by hand does not keep it.
    await db.execute("UPDATE routes SET party_id_type = 'MSISDN' WHERE kind = 'CLABE'")
    assert await read_kinds(db) == {("MSISDN", "646"): "MSISDN", ("ACCOUNT_ID", "646"): "ACCOUNT_ID"}


def test_the_migration_knows_the_banks_of_the_data_file() -> None:
    """Of the file as it is now.  An applied migration never changes: leave out a bank that the file gets later."""
    (codes,) = re.findall(r"ANY \('\{([0-9, \n]+)\}'", MIGRATION.sql)
    assert {code.strip() for code in codes.split(",")} == set(load_institutions())


async def test_the_migration_knows_the_prefixes_of_an_nrc(db: asyncpg.Connection, empty_database_url: str) -> None:
    await migrate(empty_database_url)
    canonical = "12-250019-N-12345"
    cuts = {canonical[:length] for length in range(1, len(canonical) + 1)}
    cuts |= {f"{state}-" for state in range(16)} | {f"1-{a}{b}0000-" for a in "0123" for b in "0123456789ABCDEF"}
    rows = await db.fetch(
        "SELECT prefix, route_kind('PERSONAL_ID', prefix) AS kind FROM unnest($1::text[]) AS prefix", cuts
    )
    assert {row["prefix"] for row in rows if row["kind"] == "NRC"} == {
        cut for cut in cuts if _is_nrc_prefix(cut) and len(cut) > 4
    }  # 12- names a state only


def _is_nrc_prefix(text: str) -> bool:
    try:
        return Nrc().canonicalise_prefix(text) == text
    except BadIdentifier:
        return False
