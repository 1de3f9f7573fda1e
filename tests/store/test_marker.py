"""A process without PostgreSQL, and a PostgreSQL that is another one: rules 8 to 12 on real servers.

The processes are stores as `serve` opens them.  PostgreSQL is cut off, killed, promoted and brought back; others change
what its lookups answer.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import servers
from stand_ins import Proxy, proxy, read_marker, until

from oracle.api.health import Health
from oracle.errors import DirectoryUnavailable
from oracle.identifiers import PartyKey
from oracle.run.embedded import PostgresServer
from oracle.run.wiring import Store, open_store
from oracle.settings import Settings
from oracle.store.base import Context, Registration
from oracle.store.cache.coherence import WITHOUT_DIRECTORY
from oracle.store.cache.values import ANSWER, unpack_entries
from oracle.store.migrate import migrate
from oracle.store.postgres import Transaction
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from conftest import StartPostgres, StartValkey

OPERATOR = Context(channel="admin", actor="test")
# Longer than a busy machine stalls: without PostgreSQL a session that was lost cannot be opened to another server.
CACHE_TIMEOUT_MS = 5_000


def choose_settings(database_url: str, redis_url: str, **settings: Any) -> Settings:
    return Settings(
        database_url=database_url, redis_url=redis_url, cache_timeout_ms=CACHE_TIMEOUT_MS,
        lookup_timeout_ms=10_000, **settings,
    )  # fmt: skip


@asynccontextmanager
async def open_process(database_url: str, redis_url: str, **settings: Any) -> AsyncIterator[Store]:
    async with open_store(choose_settings(database_url, redis_url, **settings), Metrics.open(None, "hub", 0)) as store:
        await until(lambda: store.coherence.session is not None)
        yield store


async def register(store: Store, identifier: str, fsp_id: str = "green") -> None:
    context = Context(channel="hub", actor=fsp_id, role="fsp", fsp_id=fsp_id)
    registration = Registration(PartyKey("ALIAS", identifier, ""), "")
    (result,) = await store.changes.register(context, fsp_id, [registration])
    assert result.refused is None


async def look_up(store: Store, identifier: str) -> str | None:
    """As the hub's listener does: the FSP of the entry, else of the route; None for nobody."""
    entries = unpack_entries(await store.lookups.get("ALIAS", identifier))
    found = entries[0].fsp_id if entries else store.routes.match("ALIAS", identifier)
    return found or None


async def warm(store: Store, identifier: str) -> None:
    """Until the answer is a copy, not a fence."""
    session: Any = store.coherence.session
    key = store.coherence.key("ALIAS", identifier)
    while not ((await session.call((b"GET", key)))[0] or b"").startswith(ANSWER):
        await session.call((b"DEL", key))  # as if FENCE_MS had gone by
        await look_up(store, identifier)


async def suspend(store: Store) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.run("fsp_set_status", "green", "suspended")

    await store.changes.administer(OPERATOR, work, settles=True)


async def add_route(store: Store) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction._connection.execute(
            "INSERT INTO routes (party_id_type, prefix, fsp_id) VALUES ('ALIAS', 'routed', 'green')"
        )

    await store.changes.administer(OPERATOR, work, settles=True)


async def follow_up(store: Store) -> None:
    """What a change does whose commit could not be verified."""
    await store.coherence.bump()
    await store.coherence._mark()


async def change_by_hand(store: Store) -> None:
    """Promise C: until another process has adopted it."""
    before = store.coherence.marker
    async with store.postgres.transaction(OPERATOR, fenced=True) as transaction:
        await transaction._connection.execute("SELECT set_config('oracle.cache', '', true)")
        await transaction._connection.execute("UPDATE aliases SET currency = 'MXN' WHERE identifier = 'other'")
        await transaction.commit()
    await until(lambda: store.coherence.marker != before and store.coherence._marked[1] == store.coherence.marker)


class CutOff:
    """Two processes; the second one reaches PostgreSQL through a proxy."""

    def __init__(self, one: Store, two: Store, gate: Proxy) -> None:
        self.one, self.two, self._gate = one, two, gate

    async def cut(self) -> None:
        self._gate.refuses = True
        self._gate.cut()
        await until(lambda: not self.two.coherence.reachable and not self.two.coherence.fresh)

    def open(self) -> None:
        self._gate.refuses = False

    async def heal(self) -> None:
        self.open()
        await until(lambda: self.two.coherence.fresh)


@asynccontextmanager
async def open_cut_off(database_url: str, redis_url: str, place: Path, **settings: Any) -> AsyncIterator[CutOff]:
    head, _, run = database_url.partition("host=")
    socket = Path(run.partition("&")[0]) / ".s.PGSQL.5432"
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(proxy(str(place / ".s.PGSQL.5432"), str(socket)))
        one = await stack.enter_async_context(open_process(database_url, redis_url))
        two = await stack.enter_async_context(open_process(f"{head}host={place}&port=5432", redis_url, **settings))
        yield CutOff(one, two, gate)


@pytest.mark.parametrize("change", [suspend, add_route, follow_up, change_by_hand], ids=lambda change: change.__name__)
async def test_a_process_cut_off_from_postgresql_answers_nothing_that_others_have_left(
    database_url: str, redis_url: str, tmp_path: Path, change: Callable[[Store], Awaitable[None]]
) -> None:
    async with open_cut_off(database_url, redis_url, tmp_path) as both:
        for identifier in ("k", "other"):
            await register(both.one, identifier)
        for identifier in ("k", "routed"):
            await warm(both.two, identifier)
        await both.cut()
        assert await look_up(both.two, "k") == "green"  # from its copies
        assert await look_up(both.two, "routed") is None
        await change(both.one)
        for identifier in ("k", "routed"):
            with pytest.raises(DirectoryUnavailable):
                await look_up(both.two, identifier)
        await both.heal()
        for identifier in ("k", "routed"):
            assert await look_up(both.two, identifier) == await look_up(both.one, identifier)


async def test_a_process_cut_off_from_postgresql_sees_changes_of_single_aliases_by_their_fences(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """They do not move the generation, so its other copies still count."""
    async with open_cut_off(database_url, redis_url, tmp_path) as both:
        for identifier in ("k", "other"):
            await register(both.one, identifier)
            await warm(both.two, identifier)
        await both.cut()
        await both.one.changes.remove(
            Context(channel="hub", actor="green", fsp_id="green"), "green", "ALIAS", "k", None, None
        )
        with pytest.raises(DirectoryUnavailable):
            await look_up(both.two, "k")
        for _ in range(100):
            assert await look_up(both.two, "other") == "green"


async def test_lookups_wait_a_moment_for_the_postgresql_that_another_process_has_reached(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """As after a promotion: one process finds the new primary first.  But they wait only once in an outage."""
    async with open_cut_off(database_url, redis_url, tmp_path) as both:
        for identifier in ("k", "l"):
            await register(both.one, identifier)
            await warm(both.two, identifier)
        for _ in range(2):
            await both.cut()
            assert await look_up(both.two, "k") == await look_up(both.one, "k")
            await follow_up(both.one)
            with pytest.raises(DirectoryUnavailable):
                await both.two.coherence.confirm()
            both.open()
            answers = await asyncio.gather(*(look_up(both.two, identifier) for identifier in ("k", "l", "k", "m")))
            assert answers == ["green", "green", "green", None]
        await both.cut()
        await follow_up(both.one)
        clock = asyncio.get_running_loop().time
        waits = []
        for _ in range(20):
            began = clock()
            with pytest.raises(DirectoryUnavailable):
                await look_up(both.two, "k")
            waits.append(clock() - began)
        assert sorted(waits)[10] < waits[0]


async def test_a_process_cut_off_from_postgresql_can_open_its_session_again(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with open_cut_off(database_url, redis_url, tmp_path) as both:
        await register(both.one, "k")
        await warm(both.two, "k")
        await both.cut()
        session = both.two.coherence.session
        assert session is not None
        session.close()
        await until(lambda: both.two.coherence.session not in (None, session))
        assert await look_up(both.two, "k") == "green"
        await suspend(both.one)
        with pytest.raises(DirectoryUnavailable):
            await look_up(both.two, "k")


@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.95, 1.2])
async def test_a_suspension_that_is_acknowledged_is_answered_when_postgresql_dies_right_then(
    start_postgres: StartPostgres, redis_url: str, after_s: float
) -> None:
    server = await start_postgres()
    await migrate(server.url())
    async with open_process(server.url(), redis_url) as one, open_process(server.url(), redis_url) as two:
        await register(one, "k")
        await warm(two, "k")
        two.postgres.watch.on_notice = lambda: None
        suspending = asyncio.ensure_future(suspend(one))
        connection = await asyncpg.connect(server.url())
        while await connection.fetchval("SELECT status::text FROM fsps") != "suspended":  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(after_s)
        server.kill()
        connection.terminate()
        with suppress(DirectoryUnavailable):
            await suspending
            for _ in range(50):
                assert await look_up(two, "k") is None
                await asyncio.sleep(0.01)
        if after_s < 0.9:
            assert isinstance(suspending.exception(), DirectoryUnavailable)


# Another PostgreSQL --------------------------------------------------------------------------------------------


async def promote_copy(server: PostgresServer, home: Path) -> PostgresServer:
    """Start a standby as it was when the server stopped last, and make it the primary."""
    heir = servers.make_postgres(home, home / "run")
    heir.run.mkdir(mode=0o700)
    shutil.copytree(server.data, heir.data, symlinks=True)
    (heir.data / "standby.signal").touch()
    await heir.start()
    connection = await asyncpg.connect(heir.url("oracle", "postgres"))
    assert await connection.fetchval("SELECT pg_promote()")
    await connection.close()
    return heir


async def test_copies_of_lost_commits_are_out_of_use_after_a_failover(
    start_postgres: StartPostgres, redis_url: str
) -> None:
    """And the old primary, which comes back, is refused: also by a process that knows nothing yet."""
    server = await start_postgres()
    await migrate(server.url())
    async with AsyncExitStack() as stack:
        home = stack.enter_context(servers.temporary_home())
        async with open_process(server.url(), redis_url) as one:
            await register(one, "kept")
        await server.stop()
        copied = stack.enter_context(servers.temporary_home())
        shutil.copytree(server.data, copied / "postgres", symlinks=True)
        await server.start()
        async with open_process(server.url(), redis_url) as one:
            await register(one, "lost")
            await warm(one, "lost")
            generation = one.coherence.generation
        await server.stop()
        source = servers.make_postgres(copied, copied)
        heir = await promote_copy(source, home)
        stack.push_async_callback(heir.stop)
        async with open_process(heir.url(), redis_url) as two:
            assert await look_up(two, "lost") is None
            assert await look_up(two, "kept") == "green"
            assert two.coherence.generation > generation
            assert two.coherence.lineage[1] == 2
            settled = two.coherence.generation
        async with open_process(heir.url(), redis_url) as two:
            assert two.coherence.generation == settled  # once
        await server.start()
        async with open_store(choose_settings(server.url(), redis_url), Metrics.open(None, "hub", 0)) as two:
            assert not two.coherence.reachable
            for identifier in ("lost", "kept"):
                with pytest.raises(DirectoryUnavailable):
                    await look_up(two, identifier)
            with pytest.raises(DirectoryUnavailable):
                await register(two, "later")
        connection = await asyncpg.connect(server.url())
        assert await connection.fetchval("SELECT generation FROM cache_generation") < settled
        await connection.close()


async def test_a_process_on_an_old_primary_leaves_it_when_another_sees_the_new_one(
    start_postgres: StartPostgres, redis_url: str
) -> None:
    server = await start_postgres()
    await migrate(server.url())
    async with open_process(server.url(), redis_url) as one:
        await register(one, "k")
        await warm(one, "k")
        session: Any = one.coherence.session
        later = read_marker(one.coherence.marker)._replace(timeline=2)
        await session.call(
            (b"SET", one.coherence.marker_key, one.coherence.tags.sign_marker(one.coherence.marker_key, later)[0])
        )
        await until(lambda: not one.coherence.reachable)
        with pytest.raises(DirectoryUnavailable):
            await suspend(one)
        assert not one.coherence.patient


async def test_another_cluster_is_accepted_and_moves_the_generation_once(
    start_postgres: StartPostgres, redis_url: str
) -> None:
    """As after pg_upgrade, or a dump that was restored elsewhere: the row of the generation comes along."""
    old, new = await start_postgres(), await start_postgres(another_cluster=True)
    for server in (old, new):
        await migrate(server.url())
    async with open_process(old.url(), redis_url) as one:
        await register(one, "k")
        await warm(one, "k")
    rows: list[Any] = []
    for server in (old, new):
        connection = await asyncpg.connect(server.url("oracle", "postgres"))
        if rows:
            await connection.execute(
                "UPDATE cache_generation SET directory_id = $1, generation = $2, run_ids = $3, routes_version = $4,"
                " system_identifier = $5, timeline = $6",
                *rows[0],
            )
        rows.append(
            await connection.fetchrow(
                "SELECT directory_id, generation, run_ids, routes_version, system_identifier, timeline"
                " FROM cache_generation"
            )
        )
        await connection.close()
    async with open_process(new.url(), redis_url) as two:
        assert await look_up(two, "k") is None
        settled = two.coherence.generation
        assert settled > rows[0]["generation"]
        assert read_marker(two.coherence.marker).system_identifier != rows[0]["system_identifier"]
        await two.coherence.confirm()
    async with open_process(new.url(), redis_url) as two:
        assert two.coherence.generation == settled


async def test_a_restored_snapshot_is_noticed_by_the_marker(
    start_postgres: StartPostgres, start_valkey: StartValkey
) -> None:
    """A disk snapshot has the same timeline.  If the generation has moved since, the marker knows."""
    server, valkey = await start_postgres(), await start_valkey()
    await migrate(server.url())
    async with AsyncExitStack() as stack:
        kept = stack.enter_context(servers.temporary_home()) / "kept"
        async with open_process(server.url(), valkey.url()) as one:
            await register(one, "k")
        await server.stop()
        shutil.copytree(server.data, kept, symlinks=True)
        await server.start()
        async with open_process(server.url(), valkey.url()) as one:
            await suspend(one)
            await register(one, "lost", "blue")
            await warm(one, "lost")
            before = one.coherence.generation
        await server.stop()
        shutil.rmtree(server.data)
        shutil.copytree(kept, server.data, symlinks=True)
        await server.start()
        async with open_process(server.url(), valkey.url()) as two:
            assert two.coherence.generation > before
            assert await look_up(two, "lost") is None
            assert await look_up(two, "k") == "green"


async def test_a_process_is_ready_while_its_copies_count(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with open_cut_off(database_url, redis_url, tmp_path, cache_degraded_max_s=1) as both:
        store = both.two
        metrics = Metrics.open(None, "hub", 0)
        health = Health(store.coherence, store.postgres, store.changes, metrics, waiting_max_s=300)
        assert health.ready()[0] == 200
        await both.cut()
        await until(lambda: not store.coherence.patient)
        assert store.coherence.session is not None
        assert health.ready()[0] == 503
        await both.heal()
        assert health.ready()[0] == 200


async def test_a_change_that_failed_while_postgresql_was_away_is_no_alarm_when_it_is_back(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Nobody tries a change for a while: so the failure would stay for some seconds."""
    async with open_cut_off(database_url, redis_url, tmp_path) as both:
        store = both.two
        metrics = Metrics.open(None, "hub", 0)
        health = Health(store.coherence, store.postgres, store.changes, metrics, waiting_max_s=300)
        lane, refusal = store.postgres.writes.breaker.lane, asyncpg.InvalidAuthorizationSpecificationError("no")
        await both.cut()
        await until(lambda: not health.datastore)
        lane.begin(refusal)
        assert health.read_states()["changes"] == "ok"
        await both.heal()
        await until(lambda: health.datastore)
        assert lane.lasts
        assert health.read_states()["changes"] == "ok"

        def fails_again() -> bool:
            lane.begin(refusal)
            return health.read_states()["changes"] != "ok"

        await until(fails_again)
        assert health.datastore


async def test_health_follows_redis_while_postgresql_is_away(
    database_url: str, start_valkey: StartValkey, tmp_path: Path
) -> None:
    valkey = await start_valkey()
    async with open_cut_off(database_url, valkey.url(), tmp_path) as both:
        store = both.two
        metrics = Metrics.open(None, "hub", 0)
        health = Health(store.coherence, store.postgres, store.changes, metrics, waiting_max_s=300)
        await both.cut()
        await until(lambda: not health.datastore)
        for _ in range(2):
            await valkey.stop()
            await until(lambda: health.read_states()["cache"] not in {"ok", f"down: {WITHOUT_DIRECTORY}"})
            await valkey.start()  # another server for the directory, which must name it first
            await until(lambda: health.read_states()["cache"] == f"down: {WITHOUT_DIRECTORY}")
        await both.heal()
        await until(lambda: health.read_states()["cache"] == "ok")
