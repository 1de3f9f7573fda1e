"""A bulk on a PostgreSQL that is slow, or fails in the middle: every item is registered, or has an error of its own."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import pytest
from test_changes import Store, as_fsp, name_result, open_store, reg

from oracle.errors import DirectoryUnavailable
from oracle.store import bulk
from oracle.store.aliases import ChangeResult
from oracle.store.cache.coherence import Fence


async def make_trouble(url: str, body: str) -> None:
    """Let PostgreSQL run `body` before each alias that is inserted."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"""
            CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
            CREATE TRIGGER trouble BEFORE INSERT ON aliases FOR EACH ROW EXECUTE FUNCTION trouble()
        """)
    finally:
        await connection.close()


async def list_registered(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {row["identifier"] for row in await connection.fetch("SELECT identifier FROM aliases")}
    finally:
        await connection.close()


async def register(store: Store, identifiers: list[str], part: int, time_s: float = 60) -> list[ChangeResult]:
    deadline = asyncio.get_running_loop().time() + time_s
    wanted = [reg(identifier) for identifier in identifiers]
    return await bulk.register_bulk(store.changes, as_fsp("a"), "a", wanted, deadline=deadline, part=part)


LOCKED = "IF NEW.identifier = 'bad' THEN RAISE EXCEPTION 'locked' USING ERRCODE = '55P03'; END IF;"


async def test_a_part_that_takes_too_long_is_halved_until_it_succeeds(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PART_MIN", 1)
    await make_trouble(database_url, "PERFORM pg_sleep(0.3);")  # a part of eight takes longer than a statement can
    async with open_store(database_url, redis_url) as store:
        results = await register(store, [str(n) for n in range(10)], part=8)
    assert Counter(map(name_result, results)) == {"new": 10}
    assert await list_registered(database_url) == {str(n) for n in range(10)}


async def test_the_items_of_a_part_that_fails_and_those_after_it_have_an_error(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PART_MIN", 2)
    await make_trouble(database_url, LOCKED)
    identifiers = [*(str(n) for n in range(11)), "bad", "12", "13"]
    async with open_store(database_url, redis_url) as store:
        results = await register(store, identifiers, part=4)
    # Parts: 0-3, 4-7, 8-11 fails, 8-9, 10-11 fails for good.
    assert [type(result.refused) for result in results] == [type(None)] * 10 + [DirectoryUnavailable] * 4
    assert await list_registered(database_url) == {str(n) for n in range(10)}


@pytest.mark.parametrize("cached", [True, False])
async def test_nothing_is_registered_when_the_first_part_fails(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """Without a cache all items are one part, however many there are."""
    monkeypatch.setattr(bulk, "PART_MIN", 20)
    await make_trouble(database_url, LOCKED)
    identifiers = ["1", "bad", *(str(n) for n in range(2, 10))]
    async with open_store(database_url, redis_url if cached else None) as store:
        with pytest.raises(DirectoryUnavailable):
            await register(store, identifiers, part=5)
    assert await list_registered(database_url) == set()


async def test_what_is_not_done_at_the_deadline_has_an_error(database_url: str, redis_url: str) -> None:
    await make_trouble(database_url, "IF NEW.identifier >= '4' THEN PERFORM pg_sleep(1); END IF;")
    async with open_store(database_url, redis_url) as store:
        results = await register(store, [str(n) for n in range(8)], part=4, time_s=1.5)
        assert [type(result.refused) for result in results] == [type(None)] * 4 + [DirectoryUnavailable] * 4
    assert {"0", "1", "2", "3"} <= await list_registered(database_url)


async def test_fences_are_set_again_as_often_as_the_commit_comes_too_late(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the time passes while the transaction reads the generation, after its fences were in time."""
    async with open_store(database_url, redis_url) as store:
        looks = iter([True, False, False, False, False, True])
        monkeypatch.setattr(store.coherence, "can_commit", lambda _: next(looks, True))
        before = store.coherence.fences
        assert await store.add("a", "1") == ["new"]
        assert store.coherence.fences == before + 3  # the first one, and twice again


async def test_a_change_that_moves_the_generation_can_commit_at_any_time(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(database_url, redis_url) as store:
        generation = store.coherence.generation
        monkeypatch.setattr(store.coherence, "can_commit", lambda _: False)

        async def fence_nothing(keys: list[tuple[str, str]]) -> Fence:
            return Fence(tuple(keys), 0.0, generation, is_set=False, lineage=store.coherence.lineage)

        monkeypatch.setattr(store.coherence, "fence", fence_nothing)
        assert await store.add("a", "1") == ["new"]
        assert store.coherence.generation > generation


async def test_fences_that_never_hold_end_in_a_refusal(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(database_url, redis_url) as store:
        monkeypatch.setattr(store.coherence, "can_commit", lambda _: False)
        with pytest.raises(DirectoryUnavailable):
            await store.add("a", "1")
    assert await list_registered(database_url) == set()
