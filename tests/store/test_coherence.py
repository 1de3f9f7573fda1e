"""The seven rules, each by the race it is there for, on real servers with several processes' worth of stores."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import pytest
from patience import PATIENT_TIMING
from servers import valkey_command
from stand_ins import FIRST, Dialler, ManualGenerations, ManualSession, replace_row, turns, until
from test_changes import Store, as_fsp, open_store

from oracle.errors import DirectoryUnavailable
from oracle.store.aliases import Allowance
from oracle.store.cache.coherence import LEASE_S, Coherence
from oracle.store.cache.session import dial
from oracle.store.cache.tags import TIME_MAX, Tags
from oracle.store.cache.values import ANSWER, FENCE, Entry, pack_entries

if TYPE_CHECKING:
    from conftest import StartValkey

A, B = [Entry("a", "", "")], [Entry("b", "", "")]


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


class Two:
    """Two processes on one PostgreSQL and one Redis, with all leases of older generations over."""

    def __init__(self, database_url: str, redis_url: str | None, second_redis_url: str | None = None) -> None:
        self._urls = database_url, redis_url, second_redis_url or redis_url
        self._stack = AsyncExitStack()
        self.one: Store
        self.two: Store

    async def __aenter__(self) -> Self:
        database_url, first, second = self._urls
        opening = open_store(database_url, first), open_store(database_url, second)
        self.one, self.two = await asyncio.gather(*(self._stack.enter_async_context(o) for o in opening))
        for store in (self.one, self.two):
            store.coherence._adopted_at = float("-inf")
        await until(lambda: self.one.coherence.generation == self.two.coherence.generation)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


@pytest.fixture
async def both(database_url: str, redis_url: str, db: asyncpg.Connection) -> AsyncIterator[Two]:
    session = await dial(redis_url, timeout_ms=30_000, token_ms=1000)
    await db.execute("UPDATE cache_generation SET run_ids = $1", session.run_ids)  # met long ago: no need to wait
    session.close()
    async with Two(database_url, redis_url) as two:
        await two.one.add("a", "k")
        await drop_fence(two.one)
        yield two


async def drop_fence(store: Store, identifier: str = "k") -> None:
    """As if FENCE_MS had gone by."""
    assert store.coherence.session is not None
    session: Any = store.coherence.session
    await session.call((b"DEL", store.coherence.key("ALIAS", identifier)))


async def fetch_copy(store: Store, identifier: str = "k") -> bytes | None:
    session: Any = store.coherence.session
    (value,) = await session.call((b"GET", store.coherence.key("ALIAS", identifier)))
    return value if value is None else bytes(value)


async def warm(store: Store, identifier: str = "k") -> None:
    await store.get(identifier)
    while not (await fetch_copy(store, identifier) or b"").startswith(ANSWER):
        await store.get(identifier)


async def give(store: Store, to: str = "b") -> None:
    """Another FSP gets the key: by the protocol, in one transaction."""
    coherence = store.coherence
    fence = await coherence.fence([("ALIAS", "k")])
    async with store.postgres.transaction(as_fsp(""), fenced=fence.is_set) as transaction:
        await transaction.run("fsp_admit", to, 1000)
        await transaction._connection.execute("UPDATE aliases SET fsp_id = $1", to)
        await transaction.commit()
    await coherence.settle(fence)


@contextmanager
def block_news(store: Store) -> Iterator[None]:
    """Inside, this process does not hear of news before its lease ends: no NOTIFY, and its polls are stuck."""
    received = asyncio.Event()

    async def waits() -> None:
        await received.wait()
        raise DirectoryUnavailable

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.postgres.watch, "on_notice", lambda: None)
        patch.setattr(store.coherence, "_confirm", waits)
        yield
    received.set()


async def read_within_lease(store: Store) -> list[Entry]:
    """Look up while the lease is valid: the clock of the process does not advance, however slow the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.coherence, "_clock", lambda: store.coherence.confirmed_at)
        return await store.get("k")


# 1 fence, 2 token ----------------------------------------------------------------------------------------------


async def test_a_copy_is_served_and_a_change_is_seen_at_once_by_the_other(both: Two) -> None:
    await warm(both.two)
    reads = both.two.lookups._cells[both.two.lookups._count_batches]
    assert await both.two.get("k") == A
    assert both.two.lookups._cells[both.two.lookups._count_batches] == reads
    await give(both.one)
    assert await both.two.get("k") == B


async def test_the_fence_exists_before_the_commit_and_for_its_time_after_it(both: Two) -> None:
    await warm(both.two)
    begun = time.monotonic()
    fence = await both.one.coherence.fence([("ALIAS", "k")])
    assert fence.is_set
    assert await fetch_copy(both.two) == FENCE
    for _ in range(3):
        assert await both.two.get("k") == A  # from PostgreSQL
        assert await fetch_copy(both.two) == FENCE
    await both.one.coherence.settle(fence)
    session: Any = both.one.coherence.session
    (left,) = await session.call((b"PTTL", both.one.coherence.key("ALIAS", "k")))
    fence_ms = PATIENT_TIMING.fence_ms
    assert fence_ms - (time.monotonic() - begun) * 1000 - 1 <= left <= fence_ms


async def test_a_fill_that_read_before_the_change_comes_too_late(both: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lookup has its token and the old row; the change fences, commits, is acknowledged; then the fill."""
    read, go_on = asyncio.Event(), asyncio.Event()
    real = both.two.postgres.reads.answers

    async def slow(keys: Any) -> Any:
        answers = await real(keys)
        read.set()
        await go_on.wait()
        return answers

    monkeypatch.setattr(both.two.postgres.reads, "answers", slow)
    looking = asyncio.ensure_future(both.two.get("k"))
    await read.wait()
    await give(both.one)
    go_on.set()
    assert await looking == A  # it began before the change
    monkeypatch.undo()
    assert await both.two.get("k") == B
    await drop_fence(both.one)
    assert await both.two.get("k") == B


# 3 verify ------------------------------------------------------------------------------------------------------


async def test_a_flush_between_fence_and_commit_is_noticed(both: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the gap a lookup even stores the old row."""
    real = both.one.coherence.settle

    async def later(fence: Any) -> None:
        session: Any = both.one.coherence.session
        key = both.one.coherence.key("ALIAS", "k")
        await session.call((b"SET", key, Tags().seal(key, pack_entries(A), TIME_MAX), b"PX", b"60000"))
        await real(fence)

    monkeypatch.setattr(both.one.coherence, "settle", later)
    await give(both.one)
    assert await fetch_copy(both.two) == FENCE
    assert await both.two.get("k") == B


async def test_a_flush_of_everything_leaves_nothing_old(both: Two) -> None:
    fence = await both.one.coherence.fence([("ALIAS", "k")])
    session: Any = both.one.coherence.session
    await session.call((b"FLUSHALL",))
    await warm(both.two)
    await both.one.coherence.settle(fence)
    assert await fetch_copy(both.two) == FENCE


# 4 generation, 5 lease -----------------------------------------------------------------------------------------


async def test_a_change_that_cannot_fence_moves_the_generation_and_waits_for_the_leases(
    both: Two, db: asyncpg.Connection
) -> None:
    await warm(both.two)
    before = await db.fetchval("SELECT generation FROM cache_generation")
    both.one.coherence._dial = Dialler()
    both.one.coherence.session.close()  # type: ignore[union-attr]
    with block_news(both.two):
        giving = asyncio.ensure_future(give(both.one))
        while not await db.fetchval("SELECT count(*) FROM aliases WHERE fsp_id = 'b'"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await read_within_lease(both.two) == A
        await giving
        assert not both.two.coherence.fresh
    assert await both.two.get("k") == B
    assert await db.fetchval("SELECT generation FROM cache_generation") == before + 1


async def test_a_change_that_cannot_verify_moves_the_generation_right_after(both: Two, db: asyncpg.Connection) -> None:
    await warm(both.two)
    before = await db.fetchval("SELECT generation FROM cache_generation")
    fence = await both.one.coherence.fence([("ALIAS", "k")])
    assert fence.is_set
    both.one.coherence._dial = Dialler()
    both.one.coherence.session.close()  # type: ignore[union-attr]
    begun = time.monotonic()
    await both.one.coherence.settle(fence)
    assert time.monotonic() - begun >= LEASE_S
    assert await db.fetchval("SELECT generation FROM cache_generation") == before + 1


async def test_every_process_learns_of_a_change_by_hand(both: Two, db: asyncpg.Connection) -> None:
    for store in (both.one, both.two):
        await warm(store)
    await db.execute("INSERT INTO fsps (fsp_id) VALUES ('b')")
    await db.execute("UPDATE aliases SET fsp_id = 'b'")
    for store in (both.one, both.two):
        while await store.get("k") != B:
            pass
        assert await store.get("k") == B


async def test_a_change_right_after_a_move_waits_for_processes_that_do_not_know_it(
    both: Two, db: asyncpg.Connection
) -> None:
    """Nothing has failed: a person changes another alias by hand, which moves the generation; one process learns of
    it at once and takes a change, whose fences are under the new one; the other still answers by its lease from a copy
    under the old one.  The change must not be acknowledged meanwhile."""
    await both.one.add("a", "another")
    await warm(both.two)
    with block_news(both.two):
        generation = both.one.coherence.generation
        await db.execute("UPDATE aliases SET currency = 'USD' WHERE identifier = 'another'")
        await until(lambda: both.one.coherence.generation > generation)
        giving = asyncio.ensure_future(give(both.one))
        while not await db.fetchval("SELECT count(*) FROM aliases WHERE fsp_id = 'b'"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await read_within_lease(both.two) == A
        await giving
        assert not both.two.coherence.fresh
    assert await both.two.get("k") == B


async def test_no_change_commits_under_fences_of_an_older_generation(
    both: Two, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between fence and commit the generation moves, and a lookup stores the old row under the new one.  The process
    that makes the change dies right after the commit, so nobody verifies."""
    await both.one.remove("a", "k")
    await drop_fence(both.one)
    real = both.one.changes.admit
    done: list[bool] = []

    async def meanwhile(*arguments: Any, **options: Any) -> Allowance:
        allowed = await real(*arguments, **options)
        if not done:
            done.append(True)
            generation = both.two.coherence.generation
            await db.execute("INSERT INTO fsps (fsp_id) VALUES ('x')")
            await db.execute("INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('ALIAS', 'other', 'x')")
            await until(lambda: both.two.coherence.generation > generation)
            await warm(both.two)
        return allowed

    async def dies(_: Any) -> None:
        raise ConnectionAbortedError

    monkeypatch.setattr(both.one.changes, "admit", meanwhile)
    monkeypatch.setattr(both.one.coherence, "settle", dies)
    with pytest.raises(ConnectionAbortedError):
        await both.one.add("a", "k")
    assert done
    committed = asked = time.monotonic()
    while await both.two.get("k") != A:
        assert asked - committed < 1.5  # promise C is about lookups that start later
        await asyncio.sleep(0.01)
        asked = time.monotonic()


async def test_an_acknowledgement_without_a_change_waits_as_well(both: Two, db: asyncpg.Connection) -> None:
    """Another process made the change.  It has no Redis, so it waits for the leases before it acknowledges.  A process
    that acknowledges "it is registered already" must wait as well."""
    await db.execute("DELETE FROM aliases")
    await both.one.coherence.confirm()
    await both.two.coherence.confirm()
    await warm(both.two)
    assert await both.two.get("k") == []
    with block_news(both.two):
        generation = both.one.coherence.generation
        await db.execute("INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('ALIAS', 'k', 'a')")
        await until(lambda: both.one.coherence.generation > generation)
        assert await both.one.add("a", "k") == ["same"]
        assert not both.two.coherence.fresh


async def test_a_lease_that_is_over_is_renewed_before_a_copy_is_believed(both: Two, db: asyncpg.Connection) -> None:
    await warm(both.two)
    both.two.postgres.watch.on_notice = lambda: None
    await db.execute("INSERT INTO fsps (fsp_id) VALUES ('b')")
    both.two.coherence.confirmed_at = float("-inf")
    await db.execute("UPDATE aliases SET fsp_id = 'b'")
    assert await both.two.get("k") == B


async def test_a_lease_counts_from_the_time_of_asking() -> None:
    generations = ManualGenerations()
    now = [100.0]
    coherence = Coherence(generations, None, "t", clock=lambda: now[0])
    real = generations.ask

    async def slow() -> Any:
        row = await real()
        now[0] += 0.4
        return row

    generations.ask = slow  # type: ignore[method-assign]
    await coherence.confirm()
    assert coherence.confirmed_at == 100.0
    now[0] = 101.0
    assert coherence.fresh
    now[0] = 101.01
    assert not coherence.fresh


async def test_the_generation_moves_past_a_database_that_lost_commits(db: asyncpg.Connection, both: Two) -> None:
    generation = both.one.coherence.generation
    for _ in range(5):
        await both.one.coherence.bump()
    assert both.one.coherence.generation == generation + 5
    await db.execute("UPDATE cache_generation SET generation = $1", generation)
    await until(lambda: both.one.coherence.generation > generation + 5)
    await until(lambda: both.two.coherence.generation == both.one.coherence.generation)
    assert both.one.coherence.generation <= generation + 8


# 6 run id, 7 session -------------------------------------------------------------------------------------------


async def test_a_server_that_came_back_with_old_copies_is_not_believed(
    database_url: str, start_valkey: StartValkey
) -> None:
    server = await start_valkey({"appendonly": "no"})
    async with Two(database_url, server.url()) as both:
        await both.one.add("a", "k")
        await drop_fence(both.one)
        await warm(both.two)
        valkey_command(server, "SAVE")
        snapshot = server.home / "dump.rdb"
        kept = Path(str(snapshot) + ".kept")
        shutil.copy(snapshot, kept)
        await give(both.one)
        generation = both.one.coherence.generation
        server.kill()
        await until(lambda: both.one.coherence.session is None and both.two.coherence.session is None)
        assert await both.two.get("k") == B
        shutil.copy(kept, snapshot)
        await server.start()
        await until(lambda: both.one.coherence.session is not None and both.two.coherence.session is not None)
        assert valkey_command(server, "DBSIZE") != b":0\r\n"
        assert both.one.coherence.generation == both.two.coherence.generation == generation + 1
        for store in (both.one, both.two):
            assert await store.get("k") == B


async def test_a_new_run_id_moves_the_generation_once(
    database_url: str, redis_url: str, db: asyncpg.Connection
) -> None:
    before = await db.fetchval("SELECT generation FROM cache_generation")
    async with AsyncExitStack() as stack:
        stores = await asyncio.gather(
            *(stack.enter_async_context(open_store(database_url, redis_url)) for _ in range(4))
        )
        assert await db.fetchval("SELECT generation FROM cache_generation") == before + 1
        assert {s.coherence.generation for s in stores} == {before + 1}


async def test_two_processes_on_two_servers_never_answer_an_older_state(
    database_url: str, start_valkey: StartValkey, db: asyncpg.Connection
) -> None:
    """Split brain: each is sent to another Redis.  They take turns in being believed; nothing old is."""
    servers = await start_valkey(), await start_valkey()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(open_store(database_url, servers[0].url()))
        two = await stack.enter_async_context(open_store(database_url, None))
        two.coherence._dial = _dial_of(servers[1].url())
        two.coherence._tasks.append(asyncio.ensure_future(two.coherence._keep_session()))
        assert await one.add("a", "k") == ["new"]
        owner, deadline = "a", time.monotonic() + 2.5
        while time.monotonic() < deadline:
            owner = "b" if owner == "a" else "a"
            await give(one if owner == "a" else two, owner)
            for _ in range(3):
                found = list(await asyncio.gather(one.get("k"), two.get("k")))
                assert found == [[Entry(owner, "", "")]] * 2
            named = await db.fetchval("SELECT run_ids FROM cache_generation")
            trusted = [s.coherence.session for s in (one, two) if s.coherence.session is not None]
            assert all(list(session.run_ids) == named for session in trusted) or len(trusted) < 2


def _dial_of(url: str) -> Any:
    async def connect() -> Any:
        return await dial(url, timeout_ms=30_000, token_ms=1000)

    return connect


async def test_a_session_to_a_server_that_is_no_longer_named_is_closed() -> None:
    generations, session = ManualGenerations(), ManualSession()
    coherence = Coherence(generations, Dialler(session), "t")
    await coherence.open()
    await until(lambda: coherence.session is session)
    generations.row = replace_row(FIRST, run_ids=("another",), generation=2)
    await coherence.confirm()
    assert not session.alive
    assert coherence.session is None
    await coherence.close()


async def test_a_new_server_is_used_one_lease_later() -> None:
    generations, session = ManualGenerations(), ManualSession("new")
    coherence = Coherence(generations, Dialler(session), "t")
    real = generations.open_for

    async def open_for(run_ids: tuple[str, ...]) -> Any:
        await real(run_ids)
        generations.row = replace_row(generations.row, run_ids_age_s=0.0)
        return generations.row

    generations.open_for = open_for  # type: ignore[method-assign]
    await coherence.open()
    begun = time.monotonic()
    await until(lambda: generations.row.run_ids == ("new",))
    assert coherence.session is None
    await asyncio.sleep(LEASE_S - 0.2)
    assert coherence.session is None
    generations.row = replace_row(generations.row, run_ids_age_s=LEASE_S + 0.01)
    await until(lambda: coherence.session is session)
    assert time.monotonic() - begun >= LEASE_S
    await coherence.close()


async def test_a_fence_on_a_broken_session_is_not_set() -> None:
    generations, session = ManualGenerations(), ManualSession()
    coherence = Coherence(generations, Dialler(session), "t")
    await coherence.open()
    await until(lambda: coherence.session is session)
    fencing = asyncio.ensure_future(coherence.fence([("ALIAS", "k")]))
    await turns(1)
    session.close()
    assert not (await fencing).is_set
    await coherence.close()


# Kept up -------------------------------------------------------------------------------------------------------


async def test_redis_is_dialled_again_after_any_error(capsys: pytest.CaptureFixture[str]) -> None:
    generations, session, failures = ManualGenerations(), ManualSession(), [ValueError("once")]
    dialler = Dialler(session)

    async def dial() -> ManualSession:
        if failures:
            raise failures.pop()
        return await dialler()

    coherence = Coherence(generations, dial, "t")
    await coherence.open()
    await until(lambda: coherence.session is session)
    await coherence.close()
    assert "once" not in capsys.readouterr().out


async def test_the_lease_is_renewed_after_any_error() -> None:
    generations = ManualGenerations()
    coherence = Coherence(generations, None, "t")
    await coherence.open()
    generations.failure = KeyError("odd")
    await until(lambda: not coherence.reachable)
    generations.failure = None
    await until(lambda: coherence.reachable)
    await coherence.close()
    asked = generations.asked
    coherence.confirm_soon()
    await turns()
    assert generations.asked == asked


async def test_without_postgresql_nothing_is_acknowledged() -> None:
    generations, session = ManualGenerations(), ManualSession()
    coherence = Coherence(generations, Dialler(session), "t")
    await coherence.open()
    await until(lambda: coherence.session is session)
    fence = await coherence.fence([("ALIAS", "k")])
    generations.away = True
    with pytest.raises(DirectoryUnavailable):
        await coherence.settle(fence)
    coherence.confirmed_at = float("-inf")
    with pytest.raises(DirectoryUnavailable):
        await coherence.fence([("ALIAS", "k")])
    await coherence.close()
