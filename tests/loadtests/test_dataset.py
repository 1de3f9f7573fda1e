"""An empty directory is filled completely or not at all; any other directory is refused."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from loadtests.dataset import Refused, count_aliases, fill
from loadtests.keys import Keys


@pytest.fixture
async def connection(database_url: str) -> Any:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_fill_changes_only_the_aliases(connection: Any, database_url: str) -> None:
    keys = Keys()
    primary_key = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'aliases'::regclass"
    triggers = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'aliases'::regclass ORDER BY tgname"
    before = [await connection.fetch(query) for query in (f"{primary_key} ORDER BY conname", triggers)]
    generation = await connection.fetchval("SELECT generation FROM cache_generation")

    advanced: list[int] = []
    filled = await fill(database_url, keys, 2_500, 1, advanced.append)

    assert before == [await connection.fetch(query) for query in (f"{primary_key} ORDER BY conname", triggers)]
    assert await connection.fetchval("SELECT generation FROM cache_generation") == generation + 1
    assert await connection.fetchval("SELECT count(*) FROM events WHERE entity = 'alias'") == 0
    assert await connection.fetchval("SELECT count(*) FROM fsps") == 300
    rows = await connection.fetch("SELECT party_id_type::text, identifier, sub_id, fsp_id FROM aliases")
    assert {tuple(row) for row in rows} == {tuple(keys.make_alias(index)) for index in range(2_500)}
    assert sum(advanced) == filled.aliases == 2_500
    assert filled.table_bytes > 0
    assert "no events" in str(filled)
    assert await count_aliases(database_url, keys) == 2_500
    with pytest.raises(Refused, match="other aliases"):
        await count_aliases(database_url, Keys(seed=7))


async def test_a_directory_with_one_alias_is_refused(connection: Any, database_url: str) -> None:
    await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('a')")
    await connection.execute(
        "INSERT INTO aliases (identifier, party_id_type, fsp_id) VALUES ('525512345678', 'MSISDN', 'a')"
    )
    with pytest.raises(Refused, match="has aliases"):
        await fill(database_url, Keys(), 100, 1)
    assert await connection.fetchval("SELECT count(*) FROM aliases") == 1

    await connection.execute("DELETE FROM aliases")
    with pytest.raises(Refused, match="history"):
        await fill(database_url, Keys(), 100, 1)
    assert await connection.fetchval("SELECT count(*) FROM fsps") == 1


async def test_an_interrupted_fill_leaves_nothing(connection: Any, database_url: str) -> None:
    def fail(_: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await fill(database_url, Keys(), 100, 1, fail)
    assert await connection.fetchval("SELECT count(*) FROM aliases") == 0
    assert await connection.fetchval("SELECT count(*) FROM fsps") == 0
    await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('a')")
    await connection.execute(
        "INSERT INTO aliases (identifier, party_id_type, fsp_id) VALUES ('525512345678', 'MSISDN', 'a')"
    )
    assert await connection.fetchval("SELECT count(*) FROM events WHERE entity = 'alias'") == 1


async def test_a_count_above_the_number_of_keys_is_refused(database_url: str) -> None:
    with pytest.raises(Refused, match="allows"):
        await fill(database_url, Keys(mix="consecutive"), 100_000_001, 1)
    assert await count_aliases(database_url, Keys()) == 0
