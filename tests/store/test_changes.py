"""Changes on a real PostgreSQL and a real Valkey: the results of callers, and the entries afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import msgspec
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENT, PATIENT_TIMING, in_time
from servers import make_database, make_template, postgres_socket
from stand_ins import Proxy, proxy, until
from test_rules import check_rules, fetch_entries, replay_events

from oracle.errors import (
    AlreadyRegistered,
    AmbiguousRemoval,
    DirectoryUnavailable,
    ForeignRemoval,
    NotOwner,
    OracleError,
    PartyNotFound,
    UnknownFsp,
)
from oracle.identifiers import PartyKey
from oracle.store.aliases import Allowance, ChangeResult, ForgottenHints
from oracle.store.base import Context, Registration
from oracle.store.cache.coherence import LEASE_S, TOKEN_MS, Coherence, Timing
from oracle.store.cache.lookups import Lookups
from oracle.store.cache.session import dial
from oracle.store.cache.values import Entry, pack_entries, unpack_entries
from oracle.store.changes import STATEMENT_MAX, Changes
from oracle.store.lanes import LIMITS, PostgresLimits
from oracle.store.postgres import Postgres, Transaction, open_postgres
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from conftest import StartPostgres

    from oracle.run.embedded import PostgresServer
    from oracle.store.base import Session


T = TypeVar("T")


__all__ = ["in_time"]  # a fixture

# For tests of what changes do, not of when they are acknowledged.
SHORT_LEASE_S = 0.05
SHORT_LEASES = msgspec.structs.replace(PATIENT_TIMING, lease_s=SHORT_LEASE_S)


class Store:
    """One oracle process, without HTTP."""

    def __init__(self, postgres: Postgres, coherence: Coherence, registration: str) -> None:
        self.postgres = postgres
        self.coherence = coherence
        self.changes = Changes(postgres, coherence, fsp_registration=registration)
        self.lookups = Lookups(
            coherence, postgres.reads, Metrics.open(None, "hub", 0), timeout_s=60, ttl_s=1000, negative_ttl_s=1000
        )

    async def add(self, fsp_id: str, *identifiers: str, currency: str = "", sub_id: str = "") -> list[str]:
        """Register each; return new, same, or the name of the refusal."""
        return [name_result(o) for o in await self.register(fsp_id, [reg(i, currency, sub_id) for i in identifiers])]

    async def register(self, fsp_id: str, registrations: Sequence[Registration]) -> list[ChangeResult]:
        return await self.changes.register(as_fsp(fsp_id), fsp_id, registrations)

    async def update(self, fsp_id: str, identifier: str, currency: str | None, sub_id: str = "") -> None:
        await self.changes.update(as_fsp(fsp_id), fsp_id, PartyKey("ALIAS", identifier, sub_id), currency)

    async def remove(
        self, fsp_id: str, identifier: str, sub_id: str | None = None, currency: str | None = None
    ) -> None:
        await self.changes.remove(as_fsp(fsp_id), fsp_id, "ALIAS", identifier, sub_id, currency)

    async def put_hint(self, fsp_id: str, hint: Registration) -> bool:
        return await self.changes.put_hint(as_fsp(fsp_id, "self-heal"), fsp_id, hint)

    async def forget_hints(self, fsp_id: str, identifier: str, sub_id: str | None = None) -> ForgottenHints:
        return await self.changes.forget_hints(as_fsp(fsp_id, "self-heal"), "ALIAS", identifier, sub_id)

    async def get(self, identifier: str) -> list[Entry]:
        return unpack_entries(await self.lookups.get("ALIAS", identifier))


def as_fsp(fsp_id: str, channel: str = "hub") -> Context:
    return Context(channel=channel, actor=fsp_id, role="fsp", fsp_id=fsp_id)


def reg(identifier: str, currency: str = "", sub_id: str = "") -> Registration:
    return Registration(PartyKey("ALIAS", identifier, sub_id), currency)


def name_result(outcome: ChangeResult) -> str:
    if outcome.refused is not None:
        return type(outcome.refused).__name__
    return "new" if outcome.changed else "same"


@asynccontextmanager
async def open_store(
    database_url: str,
    redis_url: str | None,
    registration: str = "auto",
    *,
    timeout_ms: int = 30_000,
    limits: PostgresLimits = PATIENT,
    timing: Timing = PATIENT_TIMING,
) -> AsyncIterator[Store]:
    """With a session that is trusted and leases of older generations over, unless there is no Redis."""

    async def connect() -> Session:
        assert redis_url is not None
        return await dial(redis_url, timeout_ms=timeout_ms, token_ms=TOKEN_MS)

    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(open_postgres(database_url, limits=limits))
        coherence = Coherence(postgres.watch, connect if redis_url else None, "t", timing=timing)
        postgres.watch.on_notice = coherence.confirm_soon
        stack.push_async_callback(coherence.close)
        await coherence.open()
        store = Store(postgres, coherence, registration)
        stack.push_async_callback(store.lookups.close)
        stack.push_async_callback(store.changes.close)
        if redis_url is not None:
            await until(lambda: coherence.session is not None)
        yield store


@pytest.fixture
async def store(
    request: pytest.FixtureRequest,
    database_url: str,
    redis_url: str,
) -> AsyncIterator[Store]:
    limits, timing = PATIENT, SHORT_LEASES
    if "in_time" in request.fixturenames:
        limits, timing = LIMITS, Timing(lease_s=SHORT_LEASE_S)
    async with open_store(database_url, redis_url, limits=limits, timing=timing) as made:
        yield made


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def count(db: asyncpg.Connection, where: str = "entity = 'alias'") -> int:
    return int(await db.fetchval(f"SELECT count(*) FROM events WHERE {where}"))  # noqa: S608


PER_CURRENCY = "UPDATE key_policies SET policy = 'per-currency'"


# Registration --------------------------------------------------------------------------------------------------


async def test_one_read_answers_each_key_for_itself_whatever_the_others_are(store: Store) -> None:
    """Also a key that nobody can register, with the character that joins the keys of a read."""
    assert await store.add("a", "1", "2") == ["new", "new"]
    keys = [("ALIAS", "1\x1f2"), ("ALIAS", "2"), ("MSISDN", "1"), ("ALIAS", "1\x1f"), ("ALIAS", "\x1f"), ("ALIAS", "1")]
    nobody, found = pack_entries([]), pack_entries([Entry("a", "", "")])
    assert await store.postgres.reads.answers(keys) == [nobody, found, nobody, nobody, nobody, found]
    assert await store.postgres.reads.answers(keys[:1]) == [nobody]


async def test_a_second_registration_changes_nothing(store: Store, db: asyncpg.Connection) -> None:
    assert await store.add("a", "1", "2") == ["new", "new"]
    assert await store.add("a", "1") == ["same"]
    assert await count(db) == 2
    assert await store.get("1") == [Entry("a", "", "")]
    assert await store.add("b", "1") == ["AlreadyRegistered"]
    assert await store.add("a", "1", currency="MXN") == ["new"]
    assert await store.get("1") == [Entry("a", "", ""), Entry("a", "MXN", "")]
    await check_rules(db)


async def test_each_item_of_a_bulk_gets_its_own_result(store: Store, db: asyncpg.Connection) -> None:
    await store.add("a", "mine")
    await store.add("b", "theirs")
    many = [reg("mine"), reg("theirs"), reg("new"), reg("new"), reg("mine", "MXN"), reg("new", "", "SUB")]
    outcomes = [name_result(o) for o in await store.register("a", many)]
    assert outcomes == ["same", "AlreadyRegistered", "new", "new", "new", "new"]
    assert await count(db, "actor = 'a' AND entity = 'alias'") == 4
    await check_rules(db)


async def test_one_key_twice_in_a_bulk_in_two_currencies(store: Store, db: asyncpg.Connection) -> None:
    many = [reg("1", "USD"), reg("1", "MXN"), reg("1", "USD"), reg("1", "EUR")]
    assert [name_result(o) for o in await store.register("a", many)] == ["new"] * 4
    assert await store.get("1") == [Entry("a", "USD", ""), Entry("a", "EUR", ""), Entry("a", "MXN", "")]
    await check_rules(db)


async def test_per_currency_two_fsps_share_a_key(store: Store, db: asyncpg.Connection) -> None:
    await db.execute(PER_CURRENCY)
    assert await store.add("a", "1", currency="USD") == ["new"]
    assert await store.add("b", "1", currency="MXN") == ["new"]
    assert await store.add("c", "1", currency="MXN") == ["AlreadyRegistered"]
    assert await store.get("1") == [Entry("a", "USD", ""), Entry("b", "MXN", "")]
    await store.remove("a", "1")
    assert await store.get("1") == [Entry("b", "MXN", "")]
    await check_rules(db)


async def test_further_currencies_are_answered_in_order_whatever_the_plan(
    store: Store, db: asyncpg.Connection, database_url: str
) -> None:
    await db.execute(PER_CURRENCY)
    for fsp_id, currency in (("z", "USD"), ("b", "MXN"), ("a", "EUR"), ("b", "BRL"), ("a", "ZAR")):
        assert await store.add(fsp_id, "1", currency=currency) == ["new"]
    ordered = ["USD", "BRL", "EUR", "MXN", "ZAR"]
    assert [entry.currency for entry in await store.get("1")] == ordered
    for plan in ("enable_indexscan", "enable_bitmapscan", "enable_nestloop"):
        separator = "&" if "?" in database_url else "?"
        async with open_store(f"{database_url}{separator}{plan}=off", None) as other:
            assert [entry.currency for entry in await other.get("1")] == ordered


async def test_only_known_active_fsps_can_register(store: Store, db: asyncpg.Connection, database_url: str) -> None:
    await store.add("new", "1")
    assert await db.fetchval("SELECT status::text FROM fsps WHERE fsp_id = 'new'") == "provisional"
    for status in ("suspended", "closed"):
        await db.execute("UPDATE fsps SET status = $1::fsp_status", status)
        assert await store.add("new", "2") == ["UnknownFsp"]
        assert await store.get("1") == [Entry("", "", "")]
    strict = Changes(store.postgres, store.coherence, fsp_registration="required")
    outcomes = await strict.register(as_fsp("other"), "other", [reg("3"), reg("4")])
    assert [type(o.refused) for o in outcomes] == [UnknownFsp, UnknownFsp]
    assert await db.fetchval("SELECT count(*) FROM fsps") == 1
    assert database_url


async def test_a_bulk_that_is_refused_as_a_whole_leaves_no_fsp_behind(store: Store, db: asyncpg.Connection) -> None:
    await store.add("a", "1")
    before = await count(db, "true")
    assert await store.add("new", "1", "1") == ["AlreadyRegistered"] * 2
    assert await db.fetchval("SELECT count(*) FROM fsps") == 1
    assert await count(db, "true") == before


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement of a transaction, by name."""
    seen: list[str] = []

    def note(real: Any) -> Any:
        def inner(self: Transaction, query: str, *arguments: Any) -> Any:
            seen.append(query)
            return real(self, query, *arguments)

        return inner

    for name in ("run", "rows"):
        monkeypatch.setattr(Transaction, name, note(getattr(Transaction, name)))
    return seen


async def test_ten_thousand_registrations_take_few_statements(
    store: Store, db: asyncpg.Connection, statements: list[str]
) -> None:
    assert await store.add("a", "first") == ["new"]
    assert statements == ["fsp_status", "fsp_admit", "aliases_add", "generation"]
    statements.clear()
    many = [reg(str(n)) for n in range(10_000)]
    begun = cpu_s(await list_backends(db))
    outcomes = await store.register("a", many)
    taken_s = cpu_s(await list_backends(db)) - begun
    assert taken_s < 2  # the commit limit, on a machine that has nothing else to do
    print(f"10,000 registrations: {taken_s:.2f} s")
    assert Counter(map(name_result, outcomes)) == {"new": 10_000}
    parts = 10_000 // STATEMENT_MAX
    assert statements == ["fsp_status", *["aliases_add"] * parts, "generation"]
    statements.clear()
    again = await store.register("a", [reg(str(n), "MXN" if n % 2 else "") for n in range(10_000)])
    assert Counter(map(name_result, again)) == {"same": 5_000, "new": 5_000}
    part = ["aliases_add", "registrations_compare", "currencies_add", "registrations_compare"]
    assert statements == ["fsp_status", *part * parts, "generation"]
    assert await count(db) == 15_001


async def test_bulks_with_common_keys_in_opposite_order_both_come_through(store: Store, db: asyncpg.Connection) -> None:
    numbers = [str(n) for n in range(300)]
    for currency in ("", "MXN"):
        orders = (numbers, numbers[::-1], numbers[100:] + numbers[:100], numbers[::-1][50:])
        found = await asyncio.gather(
            *(store.add(f"fsp{n}", *order, currency=currency) for n, order in enumerate(orders))
        )
        assert {outcome for outcomes in found for outcome in outcomes} <= {"new", "same", "AlreadyRegistered"}
    assert await db.fetchval("SELECT count(*) FROM aliases") == 300
    await check_rules(db)


# Update and removal --------------------------------------------------------------------------------------------


async def test_an_update_leaves_one_entry_with_the_currency_it_names(store: Store, db: asyncpg.Connection) -> None:
    await store.register("a", [reg("1", c) for c in ("USD", "MXN", "EUR")])
    await store.update("a", "1", "MXN")
    assert await store.get("1") == [Entry("a", "MXN", "")]
    before = await count(db)
    await store.update("a", "1", None)
    await store.update("a", "1", "MXN")
    assert await count(db) == before
    for fsp_id, identifier, error in (("b", "1", NotOwner), ("a", "2", PartyNotFound)):
        with pytest.raises(error):
            await store.update(fsp_id, identifier, "USD")
    await check_rules(db)


async def test_an_update_beside_another_fsps_default_entry(store: Store, db: asyncpg.Connection) -> None:
    await db.execute(PER_CURRENCY)
    await store.add("a", "1", currency="USD")
    await store.register("b", [reg("1", "MXN"), reg("1", "EUR")])
    await store.update("b", "1", "GBP")
    assert await store.get("1") == [Entry("a", "USD", ""), Entry("b", "GBP", "")]
    for fsp_id, currency in (("b", "USD"), ("a", "GBP")):
        with pytest.raises(AlreadyRegistered):
            await store.update(fsp_id, "1", currency)
    assert await store.get("1") == [Entry("a", "USD", ""), Entry("b", "GBP", "")]
    await check_rules(db)


async def test_a_removal_without_a_sub_id_takes_the_only_candidate(store: Store, db: asyncpg.Connection) -> None:
    for sub_id in ("", "X", "Y"):
        await store.add("a", "1", sub_id=sub_id)
    await store.remove("a", "1")
    assert {e.sub_id for e in await store.get("1")} == {"X", "Y"}
    with pytest.raises(AmbiguousRemoval):
        await store.remove("a", "1")
    await store.remove("a", "1", "X")
    with pytest.raises(PartyNotFound):
        await store.remove("a", "1", "X")
    with pytest.raises(ForeignRemoval):
        await store.remove("b", "1")
    await store.remove("a", "1")
    assert await store.get("1") == []
    with pytest.raises(PartyNotFound):
        await store.remove("a", "1")
    await check_rules(db)


async def test_a_removal_by_currency_and_the_heir(store: Store, db: asyncpg.Connection) -> None:
    await store.register("a", [reg("1", c) for c in ("USD", "MXN", "EUR")])
    with pytest.raises(PartyNotFound):
        await store.remove("a", "1", currency="GBP")
    await store.remove("a", "1", currency="USD")
    assert await store.get("1") == [Entry("a", "EUR", ""), Entry("a", "MXN", "")]
    await store.remove("a", "1")
    assert await store.get("1") == []
    await check_rules(db)


async def test_an_ignored_call_is_recorded_and_changes_nothing(store: Store, db: asyncpg.Connection) -> None:
    await store.add("a", "1")
    await store.changes.record_ignored(as_fsp("payer"), "ALIAS", "1")
    assert await store.get("1") == [Entry("a", "", "")]
    assert await count(db, "action = 'ignored' AND actor = 'payer' AND channel = 'self-heal'") == 1
    await check_rules(db)


# History -------------------------------------------------------------------------------------------------------

fsps = st.sampled_from(["a", "b", "c"])
keys = st.sampled_from(["1", "2"])
subs = st.sampled_from(["", "X"])
currencies = st.sampled_from(["", "USD", "MXN", "EUR"])
policies = st.sampled_from(["per-currency", "unique"])
steps = st.one_of(
    st.tuples(st.just("register"), fsps, st.lists(st.tuples(keys, currencies, subs), min_size=1, max_size=4)),
    st.tuples(st.just("update"), fsps, keys, st.one_of(st.none(), currencies), subs),
    st.tuples(st.just("remove"), fsps, keys, st.one_of(st.none(), subs), st.one_of(st.none(), currencies)),
    st.tuples(st.just("put_hint"), fsps, keys, currencies, subs),
    st.tuples(st.just("forget_hints"), fsps, keys, st.one_of(st.none(), subs)),
    st.tuples(st.just("sql"), st.builds("SELECT alias_hints_mark('{}')".format, fsps)),
    st.tuples(st.just("sql"), policies.map("UPDATE key_policies SET policy = '{}'".format)),
    st.tuples(st.just("sql"), st.builds("UPDATE aliases SET fsp_id = '{}' WHERE identifier = '{}'".format, fsps, keys)),
    st.tuples(st.just("sql"), currencies.map("UPDATE aliases SET currency = '{}'".format)),
    st.tuples(st.just("sql"), st.builds("DELETE FROM aliases WHERE fsp_id = '{}'".format, fsps)),
    st.tuples(st.just("sql"), st.builds("DELETE FROM alias_currencies WHERE currency = '{}'".format, currencies)),
    st.tuples(
        st.just("sql"),
        st.builds(
            "INSERT INTO {} (party_id_type, identifier, currency, fsp_id) SELECT 'ALIAS', '{}', c, '{}' "
            "FROM unnest(ARRAY['USD', 'MXN']) c ON CONFLICT DO NOTHING".format,
            st.sampled_from(["aliases", "alias_currencies"]), keys, fsps,
        ),
    ),
)  # fmt: skip


async def take(store: Store, db: asyncpg.Connection, step: tuple[Any, ...]) -> None:
    try:
        match step:
            case "register", fsp_id, many:
                await store.register(fsp_id, [reg(*one) for one in many])
            case "update", *arguments:
                await store.update(*arguments)
            case "remove", *arguments:
                await store.remove(*arguments)
            case "put_hint", fsp_id, *one:
                await store.put_hint(fsp_id, reg(*one))
            case "forget_hints", *arguments:
                await store.forget_hints(*arguments)
            case "sql", statement:
                await db.execute(statement)
    except DirectoryUnavailable:
        raise
    except (OracleError, asyncpg.PostgresError):
        pass  # refused


def test_the_directory_can_be_rebuilt_from_the_history(postgres_template: PostgresServer) -> None:
    """For any changes of several FSPs, through the application and by hand.  No Redis: it would only cost time."""

    @settings(max_examples=25, deadline=None)
    @given(st.lists(steps, min_size=1, max_size=12))
    def check(plan: list[tuple[Any, ...]]) -> None:
        async def inside() -> None:
            async with open_store(url, None, timing=Timing(lease_s=0.0, lease_margin_s=0.0)) as store:
                db = await asyncpg.connect(url)
                try:
                    while await fetch_entries(db):
                        await db.execute("DELETE FROM aliases")
                    await db.execute("INSERT INTO fsps (fsp_id) VALUES ('a'), ('b'), ('c') ON CONFLICT DO NOTHING")
                    for step in plan:
                        before = await count(db), await fetch_entries(db)
                        await take(store, db, step)
                        after = await count(db), await fetch_entries(db)
                        assert (after[0] > before[0]) >= (after[1] != before[1])
                    await check_rules(db)
                finally:
                    await db.close()

        asyncio.run(inside())

    url = postgres_template.url(asyncio.run(make_database(postgres_template)))
    check()


async def test_concurrent_changes_can_be_replayed_too(store: Store, db: asyncpg.Connection) -> None:
    await db.execute(PER_CURRENCY)

    async def one(fsp_id: str) -> None:
        for n in range(12):
            await take(store, db, ("register", fsp_id, [(str(n % 3), "USD", ""), (str(n % 2), "MXN", "")]))
            await take(store, db, ("remove", fsp_id, str(n % 3), None, None))
            await take(store, db, ("put_hint", fsp_id, str(n % 3), "", ""))
            await take(store, db, ("update", fsp_id, str((n + 1) % 3), "EUR", ""))
            await take(store, db, ("forget_hints", fsp_id, str((n + 2) % 3), None))

    await asyncio.gather(*(one(fsp_id) for fsp_id in "abcde"))
    assert await replay_events(db) == await fetch_entries(db)
    await check_rules(db)


# When it cannot be done ----------------------------------------------------------------------------------------


async def test_a_change_that_took_too_long_is_rolled_back(
    store: Store, db: asyncpg.Connection, database_url: str, redis_url: str
) -> None:
    await store.add("a", "1")
    before = await count(db, "true")
    async with open_store(database_url, redis_url, timing=Timing(commit_max_s=0.0)) as too_slow:
        with pytest.raises(DirectoryUnavailable):
            await too_slow.add("a", "2")
        with pytest.raises(DirectoryUnavailable):
            await too_slow.remove("a", "1")
    assert await count(db, "true") == before


@pytest.mark.usefixtures("in_time")
async def test_an_open_transaction_by_hand_stops_no_lookup(store: Store, db: asyncpg.Connection) -> None:
    """It has moved the generation, so nobody else can until it ends."""
    await store.add("a", "1", currency="USD")
    async with db.transaction():
        await db.execute("UPDATE aliases SET currency = 'MXN'")
        with pytest.raises(DirectoryUnavailable):
            await store.postgres.watch.bump()
        assert not store.postgres.away
        assert await store.get("unknown") == []
    await store.postgres.watch.bump()


@pytest.mark.usefixtures("in_time")
async def test_a_change_of_a_locked_key_is_refused_in_time(store: Store, db: asyncpg.Connection) -> None:
    await store.add("a", "1", currency="USD")
    async with db.transaction():
        await db.execute("UPDATE aliases SET currency = 'MXN'")
        begun = time.monotonic()
        with pytest.raises(DirectoryUnavailable):
            await store.remove("a", "1")
        assert 1.5 < time.monotonic() - begun < 15  # the lock lasts until the call returns
    await store.remove("a", "1")


@pytest.mark.usefixtures("in_time")
async def test_a_stall_within_a_transaction_is_reported_as_unavailable(
    store: Store, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stalls(*_: object, **__: object) -> Allowance:
        pid = transaction_pid[0]
        while await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return Allowance()

    transaction_pid: list[int] = []
    real = Transaction.__init__

    def note(self: Transaction, connection: asyncpg.Connection, *more: Any, **named: Any) -> None:
        real(self, connection, *more, **named)
        transaction_pid.append(self.backend_pid)

    monkeypatch.setattr(Transaction, "__init__", note)
    monkeypatch.setattr(store.changes, "admit", stalls)
    with pytest.raises(DirectoryUnavailable):
        await store.add("a", "1")
    monkeypatch.undo()
    await until(lambda: not store.postgres.away)
    assert await store.get("1") == []
    assert await store.add("a", "1") == ["new"]


@asynccontextmanager
async def open_proxied(server: PostgresServer, database: str) -> AsyncIterator[tuple[str, Proxy]]:
    folder = Path(str(server.run)) / "proxy"
    folder.mkdir(exist_ok=True)
    async with proxy(str(folder / ".s.PGSQL.5432"), str(postgres_socket(server))) as between:
        yield f"postgresql://oracle@/{database}?host={folder}&port=5432", between


@pytest.fixture
async def own_server(start_postgres: StartPostgres) -> PostgresServer:
    server = await start_postgres()
    await make_template(server)
    return server


@pytest.mark.parametrize("arrives", [True, False], ids=["the server has it", "it is lost"])
async def test_a_commit_whose_outcome_is_unknown_is_not_acknowledged_and_moves_the_generation(
    postgres_template: PostgresServer,
    redis_url: str,
    arrives: bool,
) -> None:
    database = await make_database(postgres_template)
    direct = await asyncpg.connect(postgres_template.url(database))
    try:
        async with (
            open_proxied(postgres_template, database) as (url, between),
            open_store(url, redis_url, timing=SHORT_LEASES) as store,
        ):
            await store.add("a", "0")
            before = await direct.fetchval("SELECT generation FROM cache_generation")

            async def cut(data: bytes) -> None:
                if b"COMMIT" in data:
                    between.on_bytes = None
                    if arrives:
                        between.deaf = True
                    else:
                        between.cut()

            between.on_bytes = cut
            if arrives:
                waiting = asyncio.ensure_future(store.add("a", "1"))
                while not await direct.fetchval("SELECT count(*) FROM aliases WHERE identifier = '1'"):
                    assert not waiting.done()
                between.cut()
                between.deaf = False
                with pytest.raises(DirectoryUnavailable):
                    await waiting
            else:
                with pytest.raises(DirectoryUnavailable):
                    await store.add("a", "1")
            while await direct.fetchval("SELECT generation FROM cache_generation") == before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert await direct.fetchval("SELECT count(*) FROM aliases WHERE identifier = '1'") == arrives
            await until(lambda: not store.changes.repairs.waiting)
            assert await until_done(store.get, "1") == ([Entry("a", "", "")] if arrives else [])
    finally:
        await direct.close()


@pytest.mark.usefixtures("in_time")
async def test_a_stopped_postgresql_fails_changes_and_lookups_soon_and_leaves_no_locks(
    own_server: PostgresServer,
    redis_url: str,
) -> None:
    url = own_server.url(await make_database(own_server))
    db = await asyncpg.connect(url)
    async with open_store(url, redis_url, limits=LIMITS, timing=Timing(lease_s=SHORT_LEASE_S)) as store:
        store.lookups._timeout_s = 2
        await until_done(store.add, "a", "1")
        await until_done(store.get, "1")
        pids = await list_backends(db)
        assert own_server.process is not None
        pids.append(own_server.process.pid)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        try:
            found = await asyncio.wait_for(
                asyncio.gather(
                    *(store.get(str(n)) for n in range(2, 900)), *(store.add("a", f"x{n}") for n in range(20)),
                    return_exceptions=True,
                ),
                60,
            )  # fmt: skip
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        print(f"answered after {time.monotonic() - begun:.1f} s")
        assert {type(each).__name__ for each in found} <= {"DirectoryUnavailable", "Overloaded"}
        assert await until_done(store.add, "a", "after") in (["new"], ["same"])
        assert await until_done(store.get, "after") == [Entry("a", "", "")]
        assert store.lookups._waiting == store.lookups._database_batches == 0
    db.terminate()


async def until_done(call: Callable[..., Awaitable[T]], *arguments: str) -> T:
    """Return its answer when the directory is there again."""
    while True:
        with suppress(DirectoryUnavailable):
            return await call(*arguments)
        await asyncio.sleep(0.05)


async def test_a_cancelled_query_does_not_wait_for_a_silent_server(store: Store) -> None:
    """Only the backend of the lookups is stopped; the rest of PostgreSQL answers."""
    store.lookups._timeout_s = 2
    await store.get("1")
    async with store.postgres.reads.lend() as connection:
        pid = connection.get_server_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(DirectoryUnavailable):
            await store.get("2")
        assert time.monotonic() - begun < 15  # the backend is stopped for as long as this waits
        store.lookups._timeout_s = 60
        assert await store.get("3") == []
    finally:
        os.kill(pid, signal.SIGCONT)


async def list_backends(connection: asyncpg.Connection) -> list[int]:
    """The server's processes that work for the application, in this database."""
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'oracle %' AND datname = current_database()"
    )
    return [row["pid"] for row in rows]


def cpu_s(pids: Sequence[int]) -> float:
    """Of ours and these: what it costs, however busy the machine is."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in [os.getpid(), *pids])


async def test_without_redis_a_change_is_accepted_moves_the_generation_and_waits_a_lease(
    database_url: str, db: asyncpg.Connection
) -> None:
    async with open_store(database_url, None) as store:
        store.coherence._adopted_at = float("-inf")
        before = await db.fetchval("SELECT generation FROM cache_generation")
        begun = time.monotonic()
        assert await store.add("a", "1") == ["new"]
        assert time.monotonic() - begun >= LEASE_S
        assert await db.fetchval("SELECT generation FROM cache_generation") == before + 1
        assert await store.get("1") == [Entry("a", "", "")]


async def test_a_caller_that_is_cancelled_leaves_no_transaction_behind(store: Store, db: asyncpg.Connection) -> None:
    await store.add("a", "0")
    async with db.transaction():
        await db.execute("UPDATE aliases SET currency = 'MXN'")
        waiting = [asyncio.ensure_future(store.remove("a", "0")) for _ in range(12)]  # more than there are connections
        while await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < 8:
            assert not any(w.done() for w in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert await store.add("a", *map(str, range(1, 30))) == ["new"] * 29
    idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    assert await db.fetchval(idle) == 0
    await check_rules(db)
