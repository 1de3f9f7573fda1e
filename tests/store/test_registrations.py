"""Registrations that arrive together: each has the answer, the entries and the history that it has alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from servers import make_database
from stand_ins import until
from test_changes import PER_CURRENCY, Store, as_fsp, db, name_result, open_proxied, open_store, statements, store
from test_rules import check_rules, fetch_entries, replay_events

from oracle.errors import DirectoryUnavailable, OracleError
from oracle.identifiers import PartyKey
from oracle.store import aliases
from oracle.store.base import Context, Registration
from oracle.store.postgres import Transaction
from oracle.store.registrations import BATCH_MAX, Registrations

if TYPE_CHECKING:
    from oracle.run.embedded import PostgresServer

__all__ = ["db", "statements", "store"]  # fixtures

Wanted = tuple[str, str, str, str]  # FSP, identifier, SubId, currency
EVENTS = """
SELECT event_id, entity, action, channel, actor, role, party_id_type::text, party_identifier, sub_id, fsp_id,
       before, after, reason, request_id, trace_id FROM events WHERE entity = 'alias' ORDER BY event_id
"""


@pytest.fixture
async def joined(store: Store) -> AsyncIterator[Registrations]:
    made = Registrations(store.changes, limit_s=60)
    yield made
    await made.close()


def make_context(fsp_id: str, number: int) -> Context:
    return Context(
        channel="hub", actor=fsp_id, role="fsp", fsp_id=fsp_id, reason=f"because {number}", request_id=f"r{number}",
        trace_id=f"{number:032x}",
    )  # fmt: skip


async def register(joined: Registrations, wanted: Wanted, number: int = 0) -> str:
    fsp_id, identifier, sub_id, currency = wanted
    registration = Registration(PartyKey("ALIAS", identifier, sub_id), currency)
    try:
        return name_result(await joined.register(make_context(fsp_id, number), registration))
    except OracleError as exc:
        return type(exc).__name__


async def register_all(joined: Registrations, every: Sequence[Wanted]) -> list[str]:
    return await asyncio.gather(*(register(joined, wanted, number) for number, wanted in enumerate(every)))


async def register_alone(store: Store, every: Sequence[Wanted]) -> list[str]:
    results = []
    for number, (fsp_id, identifier, sub_id, currency) in enumerate(every):
        registration = Registration(PartyKey("ALIAS", identifier, sub_id), currency)
        try:
            (result,) = await store.changes.register(make_context(fsp_id, number), fsp_id, [registration])
            results.append(name_result(result))
        except OracleError as exc:
            results.append(type(exc).__name__)
    return results


def new(count: int, first: int = 0) -> list[Wanted]:
    return [("ab"[n % 2], str(n), "", "USD") for n in range(first, first + count)]


# The same as one by one ----------------------------------------------------------------------------------------


async def prepare(store: Store, db: asyncpg.Connection, policy: str) -> None:
    """FSPs of every kind, and keys in every state."""
    await db.execute(
        "INSERT INTO fsps (fsp_id, status, kinds, currencies, hub_changes) VALUES ('a', 'active', NULL, NULL, true),"
        " ('b', 'provisional', NULL, '{USD,MXN}', true), ('c', 'active', '{MSISDN}', NULL, true),"
        " ('d', 'suspended', NULL, NULL, true), ('e', 'active', NULL, NULL, false), ('f', 'closed', NULL, NULL, true)"
    )
    await store.add("a", "0", currency="USD")
    await store.add("b", "1", currency="MXN", sub_id="s")
    await store.add("a", "2", currency="")
    await store.put_hint("a", Registration(PartyKey("ALIAS", "3", ""), "USD"))
    await store.put_hint("b", Registration(PartyKey("ALIAS", "4", ""), ""))
    await store.add("a", "5", currency="USD")
    await store.add("a", "5", currency="EUR")
    if policy == "per-currency":
        await db.execute(PER_CURRENCY)


async def read_history(db: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """The events of each key in their order, without their numbers."""
    rows = [tuple(row) for row in await db.fetch(EVENTS)]
    return [row[1:] for row in sorted(rows, key=lambda row: (row[7], row[8], row[0]))]


@pytest.mark.parametrize("policy", ["unique", "per-currency"])
@pytest.mark.parametrize("registration", ["auto", "closed"])
async def test_each_has_the_answer_and_the_history_that_it_has_alone(
    postgres_template: PostgresServer, redis_url: str, policy: str, registration: str
) -> None:
    choose = random.Random(f"{policy} {registration}")
    every = [
        (
            choose.choice("aaabbbcdefgh"),
            str(choose.randrange(12)),
            choose.choice(("", "", "s")),
            choose.choice(_CURRENCIES),
        )
        for _ in range(100)
    ]
    found = []
    for together in (True, False):
        url = postgres_template.url(await make_database(postgres_template))
        connection = await asyncpg.connect(url)
        async with open_store(url, redis_url, registration) as store:
            await prepare(store, connection, policy)
            joined = Registrations(store.changes, limit_s=60)
            results = await (register_all(joined, every) if together else register_alone(store, every))
            await joined.close()
            await check_rules(connection)
            found.append((results, await fetch_entries(connection), await read_history(connection)))
        await connection.close()
    assert found[0] == found[1]
    assert len(set(found[0][0])) > 4


_CURRENCIES = ("", "USD", "USD", "MXN", "EUR")


async def test_many_take_few_transactions_and_each_keeps_its_context(
    store: Store, joined: Registrations, db: asyncpg.Connection, statements: list[str]
) -> None:
    await store.add("a", "first")
    await store.add("b", "second")
    statements.clear()
    assert await register_all(joined, new(BATCH_MAX + 2)) == ["new"] * (BATCH_MAX + 2)
    assert statements == ["registrations_begin", "registrations_add", "generation"] * 2
    rows = await db.fetch(EVENTS + " OFFSET 2")
    assert len({row["trace_id"] for row in rows}) == len(rows) == BATCH_MAX + 2
    for row in rows:
        number = int(row["party_identifier"])
        context = make_context("ab"[number % 2], number)
        assert (row["actor"], row["fsp_id"], row["trace_id"]) == (context.fsp_id, context.actor, context.trace_id)
        assert (row["channel"], row["role"], row["reason"], row["request_id"]) == (
            context.channel, context.role, context.reason, context.request_id,
        )  # fmt: skip
    assert await replay_events(db) == await fetch_entries(db)


async def test_one_by_itself_is_an_ordinary_change(store: Store, joined: Registrations, statements: list[str]) -> None:
    await store.add("a", "first")
    statements.clear()
    assert await register(joined, ("a", "1", "", "")) == "new"
    assert statements == ["fsp_status", "aliases_add", "generation"]


async def test_equal_keys_keep_their_order(store: Store, joined: Registrations, db: asyncpg.Connection) -> None:
    await store.add("a", "first")
    await store.add("b", "second")
    every: list[Wanted] = [("ab"[n % 2], str(n // 4), "", "USD") for n in range(40)]
    assert await register_all(joined, every) == ["new", "AlreadyRegistered", "same", "AlreadyRegistered"] * 10
    assert {entry["fsp_id"] for entry in await db.fetch("SELECT fsp_id FROM aliases WHERE identifier ~ '^[0-9]$'")} == {
        "a"
    }


async def test_without_redis_a_batch_moves_the_generation_once(database_url: str, db: asyncpg.Connection) -> None:
    async with open_store(database_url, None) as store:
        await store.add("a", "first")
        await store.add("b", "second")
        joined = Registrations(store.changes, limit_s=60)
        before = await db.fetchval("SELECT generation FROM cache_generation")
        assert await register_all(joined, new(50)) == ["new"] * 50
        assert await db.fetchval("SELECT generation FROM cache_generation") == before + 1


async def test_without_redis_a_batch_waits_for_its_turn(
    database_url: str, db: asyncpg.Connection, statements: list[str]
) -> None:
    waits = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
               AND clock_timestamp() - query_start > interval '200 ms'"""
    async with open_store(database_url, None) as store:
        await store.add("a", "first")
        await store.add("b", "second")
        joined = Registrations(store.changes, limit_s=60)
        observer = await asyncpg.connect(database_url)  # a transaction sees one state of the activity
        statements.clear()
        async with db.transaction():
            await db.execute("SELECT FROM cache_generation FOR UPDATE")
            waiting = asyncio.create_task(register_all(joined, new(20)))
            while not await observer.fetchval(waits):
                assert not waiting.done()
        assert await waiting == ["new"] * 20
        assert statements == ["registrations_begin", "registrations_add"]
        await observer.close()


# What others do meanwhile --------------------------------------------------------------------------------------


async def test_a_key_that_somebody_else_is_taking_holds_up_itself_alone(
    store: Store, joined: Registrations, db: asyncpg.Connection
) -> None:
    await store.add("a", "first")
    await store.add("b", "second")
    async with db.transaction():
        await db.execute("INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('ALIAS', '7', 'b')")
        taken = asyncio.create_task(register(joined, ("a", "7", "", "USD")))
        others = [asyncio.create_task(register(joined, wanted)) for wanted in new(5)]
        assert await asyncio.gather(*others) == ["new"] * 5
        later = [asyncio.create_task(register(joined, wanted)) for wanted in new(5, first=20)]
        assert await asyncio.gather(*later) == ["new"] * 5
        assert not taken.done()
    assert await taken == "AlreadyRegistered"


async def test_a_key_that_somebody_takes_between_two_statements_is_done_alone(
    store: Store, joined: Registrations, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add("a", "first")
    await store.add("b", "second")
    real = Transaction.run

    async def run(self: Transaction, query: str, *arguments: Any) -> int:
        if query == "registrations_add":
            monkeypatch.undo()
            await db.execute("INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('ALIAS', '1', 'a')")
        return await real(self, query, *arguments)

    monkeypatch.setattr(Transaction, "run", run)
    assert await register_all(joined, new(4)) == ["new", "AlreadyRegistered", "new", "new"]
    assert await replay_events(db) == await fetch_entries(db)


async def test_two_processes_that_register_the_same_keys_agree(
    store: Store, database_url: str, redis_url: str, db: asyncpg.Connection
) -> None:
    async with open_store(database_url, redis_url) as other:
        await store.add("a", "first")
        await store.add("b", "second")
        sides = [Registrations(each.changes, limit_s=60) for each in (store, other)]
        every = [[(fsp_id, str(n), "", "") for n in range(60)] for fsp_id in "ab"]
        every[1].reverse()
        first, second = await asyncio.gather(*map(register_all, sides, every))
        for one, another in zip(first, reversed(second), strict=True):
            assert {one, another} == {"new", "AlreadyRegistered"}
        for side in sides:
            await side.close()
    assert await replay_events(db) == await fetch_entries(db)


# When it cannot be done ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["registrations_begin", "registrations_add", "generation"])
async def test_a_batch_that_fails_is_repeated_one_by_one(
    store: Store, joined: Registrations, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    await store.add("a", "first")
    await store.add("b", "second")

    def fail_once(real: Any) -> Any:
        async def inner(self: Transaction, query: str, *arguments: Any) -> Any:
            result = await real(self, query, *arguments)
            if query == failing:
                monkeypatch.undo()
                raise asyncpg.exceptions.InternalServerError
            return result

        return inner

    for name in ("run", "rows"):
        monkeypatch.setattr(Transaction, name, fail_once(getattr(Transaction, name)))
    every = [*new(6), ("c", "2", "", "")]
    assert await register_all(joined, every) == [*["new"] * 6, "AlreadyRegistered"]
    assert await replay_events(db) == await fetch_entries(db)


async def test_a_batch_whose_commit_has_no_answer_is_not_acknowledged(
    postgres_template: PostgresServer, redis_url: str
) -> None:
    database = await make_database(postgres_template)
    async with open_proxied(postgres_template, database) as (url, between), open_store(url, redis_url) as store:
        await store.add("a", "first")
        await store.add("b", "second")
        joined = Registrations(store.changes, limit_s=60)
        direct = await asyncpg.connect(postgres_template.url(database))
        before = await direct.fetchval("SELECT generation FROM cache_generation")

        async def lose_the_answer(data: bytes) -> None:
            if b"COMMIT" in data:
                between.on_bytes = None
                between.deaf = True

        between.on_bytes = lose_the_answer
        waiting = asyncio.create_task(register_all(joined, [*new(4), ("b", "first", "", "")]))
        while not await direct.fetchval("SELECT count(*) FROM aliases WHERE identifier = '3'"):
            assert not waiting.done()
        between.cut()
        between.deaf = False
        *results, refused = await waiting
        assert results == ["DirectoryUnavailable"] * 4
        assert refused in ("AlreadyRegistered", "DirectoryUnavailable")
        while await direct.fetchval("SELECT generation FROM cache_generation") == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await until(lambda: not store.changes.repairs.waiting and not store.postgres.away)
        assert await register_all(joined, new(4)) == ["same"] * 4  # it was committed
        await direct.close()


async def test_a_caller_that_gives_up_affects_nobody(
    store: Store, joined: Registrations, db: asyncpg.Connection
) -> None:
    await store.add("a", "first")
    await store.add("b", "second")
    every = [asyncio.create_task(register(joined, wanted)) for wanted in new(12)]
    await asyncio.sleep(0)
    every[0].cancel()  # before its batch begins
    await until(lambda: joined._runs)
    every[1].cancel()  # while it is under way
    with suppress(asyncio.CancelledError):
        await every[0]
    assert await asyncio.gather(*every[2:]) == ["new"] * 10
    await joined.close()
    assert await register_all(joined, new(2)) == ["new", "same"]
    assert not joined._busy
    assert not joined._waiting
    assert await replay_events(db) == await fetch_entries(db)


async def test_a_batch_has_a_limit_of_time(
    store: Store, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add("a", "first")
    await store.add("b", "second")
    joined = Registrations(store.changes, limit_s=0.05)
    real = aliases.register_together

    async def stall(*arguments: Any, **named: Any) -> Any:
        await real(*arguments, **named)
        await asyncio.Event().wait()

    monkeypatch.setattr(aliases, "register_together", stall)
    assert await register_all(joined, new(5)) == ["new"] * 5
    assert await replay_events(db) == await fetch_entries(db)


# The database refuses anything else ----------------------------------------------------------------------------

_ADD = "INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('ALIAS', '1', 'a'), ('ALIAS', '2', 'b')"
_OWN = '{"party_id_type":"ALIAS","identifier":"%s","sub_id":"","channel":"hub","actor":"x","fsp_id":"%s"}'


@pytest.mark.parametrize(
    ("contexts", "statement"),
    [
        ([_OWN % ("1", "a")], _ADD),
        ([_OWN % ("1", "a"), _OWN % ("2", "a")], _ADD),
        ([_OWN % ("1", "a"), _OWN % ("2", "b"), _OWN % ("2", "b")], _ADD),
        ([_OWN % ("1", "a"), _OWN % ("1", "a")], _ADD),
        ([], _ADD),
        ([_OWN % ("1", "a"), _OWN.replace('"actor":"x"', '"actor":""') % ("2", "b")], _ADD),
        ([_OWN % ("1", "a"), _OWN.replace('"actor":"x",', "") % ("2", "b")], _ADD),
        ([_OWN % ("1", "a"), _OWN.replace('"channel":"hub",', "") % ("2", "b")], _ADD),
        ([_OWN % ("first", "a")], "UPDATE aliases SET currency = 'EUR'"),
        ([_OWN % ("first", "a")], "DELETE FROM aliases"),
        (
            [_OWN % ("first", "a")],
            "INSERT INTO alias_currencies SELECT now(), 'ALIAS', 'first', '', 'a', 'EUR'",
        ),
    ],
)
async def test_a_transaction_with_contexts_adds_entries_of_these_contexts_alone(
    store: Store, db: asyncpg.Connection, contexts: list[str], statement: str
) -> None:
    await store.add("a", "first")
    await store.add("b", "second")
    before = await db.fetch(EVENTS), await fetch_entries(db)
    await db.execute("SELECT set_config('oracle.contexts', $1, false)", f"[{','.join(contexts)}]")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await db.execute(statement)
    assert refused.value.sqlstate == "OR001"
    assert (await db.fetch(EVENTS), await fetch_entries(db)) == before


async def test_the_version_before_says_who_makes_a_change_as_before(store: Store, db: asyncpg.Connection) -> None:
    """It sets the context of the transaction, and knows nothing of contexts."""
    await store.changes.register(as_fsp("a"), "a", [Registration(PartyKey("ALIAS", "1", ""))])
    (row,) = await db.fetch(EVENTS)
    assert (row["actor"], row["channel"], row["fsp_id"], row["trace_id"]) == ("a", "hub", "a", None)
    async with db.transaction():
        await db.execute("SELECT set_config('oracle.channel', 'hub', true), set_config('oracle.actor', 'z', true)")
        await db.execute("INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('ALIAS', '2', 'a')")
    assert (await db.fetch(EVENTS))[1]["actor"] == "z"


async def test_unavailable_for_all(store: Store, joined: Registrations, monkeypatch: pytest.MonkeyPatch) -> None:
    """When PostgreSQL is away, each call ends, and the next ones work."""
    await store.add("a", "first")
    await store.add("b", "second")

    async def away(*_: object, **__: object) -> Any:
        raise DirectoryUnavailable

    monkeypatch.setattr(store.coherence, "fence", away)
    assert await register_all(joined, new(5)) == ["DirectoryUnavailable"] * 5
    monkeypatch.undo()
    assert await register_all(joined, new(5)) == ["new"] * 5
