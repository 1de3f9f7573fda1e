"""The rules that hold for every writer, because the database enforces them: raw SQL here, no application in between."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import product
from typing import Any

import asyncpg
import pytest

from oracle.store.lanes import LIMITS
from oracle.store.postgres import _READ_SETTINGS, write_settings
from oracle.store.queries import QUERIES

NOT_OWNER, UNKNOWN_FSP, CONTRADICTION, FIXED, ROUTE = "OR001", "OR002", "OR003", "OR004", "OR005"
CONTEXT = ("channel", "actor", "role", "fsp_id", "cache", "reason", "request_id", "trace_id")


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Callable[[], Awaitable[asyncpg.Connection]]]:
    opened: list[asyncpg.Connection] = []

    async def one(**settings: str) -> asyncpg.Connection:
        connection = await asyncpg.connect(database_url, server_settings=settings)
        opened.append(connection)
        return connection

    yield one
    for connection in opened:
        connection.terminate()


@pytest.fixture
async def db(connect: Callable[[], Awaitable[asyncpg.Connection]]) -> asyncpg.Connection:
    """With FSPs a, b and c."""
    connection = await connect()
    await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('a'), ('b'), ('c')")
    return connection


async def say(connection: asyncpg.Connection, **said: str) -> None:
    """Inside a transaction: what the writer says of itself."""
    for name, value in said.items():
        assert name in CONTEXT
        await connection.execute("SELECT set_config($1, $2, true)", f"oracle.{name}", value)


async def run(connection: asyncpg.Connection, *statements: str, **said: str) -> None:
    async with connection.transaction():
        await say(connection, **said)
        for statement in statements:
            await connection.execute(statement)


@asynccontextmanager
async def expect_refusal(sqlstate: str) -> AsyncIterator[None]:
    with pytest.raises(asyncpg.PostgresError) as caught:
        yield
    assert caught.value.sqlstate == sqlstate


def put(identifier: str, fsp_id: str = "a", currency: str = "", sub_id: str = "") -> str:
    return (
        "INSERT INTO aliases (party_id_type, identifier, sub_id, fsp_id, currency) "  # noqa: S608
        f"VALUES ('ALIAS', '{identifier}', '{sub_id}', '{fsp_id}', '{currency}')"
    )


def also(identifier: str, fsp_id: str = "a", currency: str = "MXN") -> str:
    return put(identifier, fsp_id, currency).replace("aliases", "alias_currencies")


def drop(identifier: str, table: str = "aliases") -> str:
    return f"DELETE FROM {table} WHERE identifier = '{identifier}'"  # noqa: S608


def per_currency(party_id_type: str = "ALIAS") -> str:
    return f"UPDATE key_policies SET policy = 'per-currency' WHERE party_id_type = '{party_id_type}'"  # noqa: S608


async def fetch_entries(connection: asyncpg.Connection) -> set[tuple[Any, ...]]:
    rows = await connection.fetch(
        "SELECT party_id_type, identifier, sub_id, currency, fsp_id, true FROM aliases "
        "UNION ALL SELECT party_id_type, identifier, sub_id, currency, fsp_id, false FROM alias_currencies"
    )
    found = {tuple(row) for row in rows}
    assert len(found) == len(rows)
    return found


async def replay_events(connection: asyncpg.Connection) -> set[tuple[Any, ...]]:
    """Rebuild the entries from the history alone; each event must fit the entries before it."""
    entries: dict[tuple[Any, ...], str] = {}
    defaults: dict[tuple[Any, ...], str] = {}
    hints: set[tuple[Any, ...]] = set()
    for e in await connection.fetch("SELECT * FROM events WHERE entity = 'alias' ORDER BY event_id"):
        if e["action"] == "ignored":
            continue
        key = (e["party_id_type"], e["party_identifier"], e["sub_id"])
        before, after = json.loads(e["before"] or "null"), json.loads(e["after"] or "null")
        assert (before is None, after is None) == {
            "registered": (True, False), "changed": (False, False), "removed": (False, True),
        }[e["action"]]  # fmt: skip
        for state in (before, after):
            assert state is None or state.keys() - {"hint"} == {"fsp_id", "currency", "default"}
            assert state is None or state.get("hint") in (None, state["default"])
        if before is not None and before["default"]:
            assert defaults.pop(key) == before["currency"]
            assert (key in hints) == ("hint" in before)
            hints.discard(key)
        if before is not None:
            assert entries.pop((*key, before["currency"], before["default"])) == before["fsp_id"]
        if after is not None and after["default"]:
            assert key not in defaults
            defaults[key] = after["currency"]
            if "hint" in after:
                hints.add(key)
        if after is not None:
            place = (*key, after["currency"], after["default"])
            assert place not in entries
            entries[place] = after["fsp_id"]
    rows = await connection.fetch("SELECT party_id_type, identifier, sub_id FROM aliases WHERE is_hint")
    assert hints == {tuple(row) for row in rows}
    return {(*place[:4], fsp_id, place[4]) for place, fsp_id in entries.items()}


async def check_rules(connection: asyncpg.Connection) -> None:
    """Check what is true after every commit, by anybody."""
    await fitting(connection)
    assert await replay_events(connection) == await fetch_entries(connection)


async def fitting(connection: asyncpg.Connection) -> None:
    orphans = """SELECT count(*) FROM alias_currencies x LEFT JOIN aliases a USING (identifier, party_id_type, sub_id)
                 WHERE a.fsp_id IS NULL OR a.currency = x.currency OR a.is_hint"""
    assert await connection.fetchval(orphans) == 0
    several = """SELECT count(*) FROM alias_currencies x JOIN aliases a USING (identifier, party_id_type, sub_id)
                 JOIN key_policies p USING (party_id_type) WHERE policy = 'unique' AND a.fsp_id <> x.fsp_id"""
    assert await connection.fetchval(several) == 0


async def until_blocked(observer: asyncpg.Connection, waiting: asyncpg.Connection) -> None:
    pid = waiting.get_server_pid()
    while not await observer.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def wait_until_done_or_blocked(
    observer: asyncpg.Connection, connection: asyncpg.Connection, work: asyncio.Future[Any]
) -> None:
    blocked = asyncio.ensure_future(until_blocked(observer, connection))
    await asyncio.wait({work, blocked}, return_when=asyncio.FIRST_COMPLETED)
    blocked.cancel()
    await asyncio.gather(blocked, return_exceptions=True)


async def generation(connection: asyncpg.Connection) -> tuple[int, int]:
    return tuple(await connection.fetchrow("SELECT generation, routes_version FROM cache_generation"))


async def events(connection: asyncpg.Connection, entity: str = "alias") -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "SELECT action, party_identifier, fsp_id, before, after FROM events WHERE entity = $1 ORDER BY event_id", entity
    )
    return [
        (r["action"], r["party_identifier"], r["fsp_id"], *(json.loads(r[c] or "null") for c in ("before", "after")))
        for r in rows
    ]


def state(fsp_id: str, currency: str = "", *, default: bool = True) -> dict[str, Any]:
    return {"fsp_id": fsp_id, "currency": currency, "default": default}


# Who may -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        put("new", "b"),
        also("mine", "b"),
        drop("theirs"),
        drop("theirs2", "alias_currencies"),
        "UPDATE aliases SET currency = 'USD' WHERE identifier = 'theirs'",
        "UPDATE aliases SET fsp_id = 'a' WHERE identifier = 'theirs'",
        "UPDATE aliases SET fsp_id = 'b' WHERE identifier = 'mine'",
        "DELETE FROM aliases",
    ],
)
async def test_an_fsp_can_change_only_its_own_entries(db: asyncpg.Connection, statement: str) -> None:
    await run(db, per_currency(), put("mine"), put("theirs", "b"), put("theirs2", "b"), also("theirs2", "b"))
    before = await fetch_entries(db)
    async with expect_refusal(NOT_OWNER):
        await run(db, statement, fsp_id="a")
    assert await fetch_entries(db) == before
    await run(db, put("own"), also("own"), "UPDATE aliases SET currency = 'USD' WHERE identifier = 'own'",
              drop("own", "alias_currencies"), drop("own"), fsp_id="a")  # fmt: skip
    await check_rules(db)


async def test_the_context_of_a_transaction_ends_with_it(db: asyncpg.Connection) -> None:
    await run(db, put("1"), fsp_id="a", channel="hub", actor="x", cache="fenced")
    before = await generation(db)
    await run(db, put("2", "b"))
    last = await db.fetchrow("SELECT channel, actor, role FROM events ORDER BY event_id DESC LIMIT 1")
    assert tuple(last) == ("sql", "oracle", None)
    assert await generation(db) == (before[0] + 1, before[1])


@pytest.mark.parametrize("statement", [put("k", "nobody"), also("mine", "nobody")])
async def test_an_entry_needs_an_fsp_that_is_known(db: asyncpg.Connection, statement: str) -> None:
    await run(db, per_currency(), put("mine"))
    async with expect_refusal(UNKNOWN_FSP):
        await run(db, statement)
    async with expect_refusal(UNKNOWN_FSP):
        await run(db, "UPDATE aliases SET fsp_id = 'nobody'")
    await check_rules(db)


# What fits together --------------------------------------------------------------------------------------------


async def test_under_unique_all_entries_of_a_key_belong_to_one_fsp(db: asyncpg.Connection) -> None:
    await run(db, put("k", "a", "USD"), also("k", "a", "MXN"))
    for statement in (also("k", "b", "EUR"), "UPDATE aliases SET fsp_id = 'b'"):
        async with expect_refusal(CONTRADICTION):
            await run(db, statement)
    async with expect_refusal("23505"):
        await run(db, put("k", "b"))
    await run(db, put("k", "b", sub_id="another key"))
    await check_rules(db)


async def test_a_further_currency_needs_a_default_entry_and_exists_once(db: asyncpg.Connection) -> None:
    await run(db, per_currency(), put("k", "a", "USD"), also("k", "b", "MXN"))
    for statement in (also("k", "b", "USD"), also("lonely"), "UPDATE aliases SET currency = 'MXN'"):
        async with expect_refusal(CONTRADICTION):
            await run(db, statement)
    async with expect_refusal("23505"):
        await run(db, also("k", "c", "MXN"))
    await check_rules(db)


async def test_the_first_of_the_other_currencies_is_the_heir(db: asyncpg.Connection) -> None:
    await run(db, per_currency(), put("k", "a", "USD"), also("k", "b", "MXN"), also("k", "c", "EUR"))
    await run(db, drop("k"), fsp_id="a")  # also for an FSP that cannot touch the heir's entry itself
    assert {e[3:] for e in await fetch_entries(db)} == {("EUR", "c", True), ("MXN", "b", False)}
    await run(db, drop("k"), drop("k"))
    assert await fetch_entries(db) == set()
    await check_rules(db)


async def test_default_and_heir_can_go_in_one_statement(db: asyncpg.Connection) -> None:
    await run(db, put("k", "a", "USD"), also("k", "a", "MXN"), also("k", "a", "EUR"))
    await run(db, "WITH x AS (DELETE FROM alias_currencies WHERE currency = 'EUR') DELETE FROM aliases")
    assert {e[3:] for e in await fetch_entries(db)} == {("MXN", "a", True)}
    await check_rules(db)


async def test_a_policy_is_not_tightened_over_keys_with_several_owners(db: asyncpg.Connection) -> None:
    tighten = "UPDATE key_policies SET policy = 'unique'"
    await run(db, per_currency(), put("k", "a", "USD"), also("k", "b"))
    async with expect_refusal(CONTRADICTION):
        await run(db, tighten)
    await run(db, drop("k", "alias_currencies"), tighten)
    assert [e[0] for e in await events(db, "policy")] == ["changed", "changed"]
    await check_rules(db)


# Two at once ---------------------------------------------------------------------------------------------------

WRITES = {
    "add a": put("k", "a", "USD"),
    "add b": put("k", "b", "USD"),
    "currency a": also("k", "a", "MXN"),
    "currency b": also("k", "b", "MXN"),
    "other currency": also("k", "a", "EUR"),
    "remove": drop("k"),
    "remove currencies": drop("k", "alias_currencies"),
    "give to b": "UPDATE aliases SET fsp_id = 'b' WHERE identifier = 'k'",
    "say MXN": "UPDATE aliases SET currency = 'MXN' WHERE identifier = 'k'",
    "tighten": "UPDATE key_policies SET policy = 'unique' WHERE party_id_type = 'ALIAS'",
    "loosen": per_currency(),
}
STARTS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "a default": (put("k", "a", "USD"),),
    "two currencies": (put("k", "a", "USD"), also("k", "a", "GBP")),
    "two owners": (per_currency(), put("k", "a", "USD"), also("k", "b", "GBP")),
}


@pytest.mark.parametrize(
    ("isolation", "order"),
    [("READ COMMITTED", "waits"), ("READ COMMITTED", "follows"), ("REPEATABLE READ", "follows")],
)
async def test_the_rules_hold_for_any_two_concurrent_transactions(
    db: asyncpg.Connection,
    connect: Callable[[], Awaitable[asyncpg.Connection]],
    isolation: str,
    order: str,
    complete: bool,
) -> None:
    """Every pair of writes from every start, in a usual run each third of them: both take their snapshot; the first has
    written, the second writes too, waiting if it must, the first commits, then the second.  Or the second writes when
    the first has committed.

    Neither moves the generation, which would by itself make them take turns."""
    first, second = await connect(), await connect()
    cases = list(product(STARTS.items(), product(WRITES, WRITES)))
    seed = time.time_ns()
    print("seed", seed)
    for (start, before), (one, other) in cases if complete else random.Random(seed).sample(cases, len(cases) // 3):
        while await fetch_entries(db):  # each round removes the default entries, whose heirs are the next round's
            await db.execute("DELETE FROM aliases")
        await run(db, WRITES["tighten"], *before)
        for connection in (first, second):
            await connection.execute(f"BEGIN ISOLATION LEVEL {isolation}")
            await say(connection, cache="fenced")
            await connection.execute("SELECT 1 FROM aliases")
        with suppress(asyncpg.PostgresError):
            await first.execute(WRITES[one])
        if order == "follows":
            await first.execute("COMMIT")  # a ROLLBACK, if that was refused
        waiting = asyncio.ensure_future(second.execute(WRITES[other]))
        await wait_until_done_or_blocked(db, second, waiting)
        if order == "waits":
            await first.execute("COMMIT")
        with suppress(asyncpg.PostgresError):
            await waiting
        with suppress(asyncpg.PostgresError):
            await second.execute("COMMIT")
        try:
            await fitting(db)
        except AssertionError:
            pytest.fail(f"from {start}: {one}, then {other} ({isolation})")
    await check_rules(db)


async def test_a_currency_that_waited_for_a_default_entry_holds_the_heir(
    db: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> None:
    """The first removes the default entry, whose heir takes its place; the second adds a currency, and so must wait
    for the first; the third removes the heir, and must wait for the second, or nobody would be default."""
    first, second, third = await connect(), await connect(), await connect()
    await run(db, put("k", "a", "USD"), also("k", "a", "GBP"))
    transactions = [c.transaction() for c in (first, second, third)]
    for transaction in transactions:
        await transaction.start()
    await first.execute(drop("k"))
    adding = asyncio.ensure_future(second.execute(also("k", "a", "MXN")))
    await until_blocked(db, second)
    await transactions[0].commit()
    await adding
    removing = asyncio.ensure_future(third.execute(drop("k")))
    await wait_until_done_or_blocked(db, third, removing)
    await transactions[1].commit()
    await removing
    await transactions[2].commit()
    assert {e[3:] for e in await fetch_entries(db)} == {("MXN", "a", True)}
    await check_rules(db)


# History -------------------------------------------------------------------------------------------------------


async def test_each_written_row_has_one_event(db: asyncpg.Connection) -> None:
    await run(db, per_currency(), put("k", "a", "USD"), also("k", "b", "MXN"))
    await run(db, "UPDATE aliases SET currency = 'EUR'", "UPDATE aliases SET fsp_id = 'c'", drop("k"))
    assert await events(db) == [
        ("registered", "k", "a", None, state("a", "USD")),
        ("registered", "k", "b", None, state("b", "MXN", default=False)),
        ("changed", "k", "a", state("a", "USD"), state("a", "EUR")),
        ("changed", "k", "c", state("a", "EUR"), state("c", "EUR")),
        ("removed", "k", "c", state("c", "EUR"), None),
        ("removed", "k", "b", state("b", "MXN", default=False), None),
        ("registered", "k", "b", None, state("b", "MXN")),
    ]


async def test_copy_merge_and_on_conflict_write_events_too(db: asyncpg.Connection) -> None:
    columns = ["party_id_type", "identifier", "fsp_id"]
    await db.copy_records_to_table("aliases", columns=columns, records=[("ALIAS", str(n), "a") for n in range(3)])
    await db.execute("""MERGE INTO aliases a USING (VALUES ('1'), ('2'), ('3')) v (i) ON a.identifier = v.i
        WHEN MATCHED AND v.i = '1' THEN DELETE WHEN MATCHED THEN UPDATE SET currency = 'USD'
        WHEN NOT MATCHED THEN INSERT (party_id_type, identifier, fsp_id) VALUES ('ALIAS', v.i, 'b')""")
    await db.execute(put("0") + " ON CONFLICT DO NOTHING")
    upsert = " ON CONFLICT (identifier, party_id_type, sub_id) DO UPDATE SET currency = 'EUR'"
    await db.execute(put("0") + upsert)
    await db.execute(put("9") + upsert)
    found = Counter((action, identifier) for action, identifier, *_ in await events(db))
    assert found == Counter(
        [("registered", "0"), ("registered", "1"), ("registered", "2"), ("removed", "1"), ("changed", "2"),
         ("registered", "3"), ("changed", "0"), ("registered", "9")]
    )  # fmt: skip
    await check_rules(db)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE aliases SET currency = currency",
        "UPDATE aliases SET changed_at = now()",
        "DELETE FROM aliases WHERE false",
        put("k") + " ON CONFLICT DO NOTHING",
        "UPDATE key_policies SET policy = policy",
        "UPDATE fsps SET status = status",
        "UPDATE routes SET note = note",
    ],
)
async def test_no_event_where_nothing_changed(db: asyncpg.Connection, statement: str) -> None:
    await run(db, put("k"), "INSERT INTO routes (party_id_type, prefix, fsp_id) VALUES ('ALIAS', '6', 'a')")
    before = await db.fetchval("SELECT count(*) FROM events")
    await run(db, statement)
    assert await db.fetchval("SELECT count(*) FROM events") == before


async def test_an_event_records_actor_channel_and_reason(db: asyncpg.Connection) -> None:
    said = dict.fromkeys(CONTEXT, "x") | {"channel": "import", "fsp_id": "a", "cache": "fenced"}
    await run(db, put("k"), **said)
    event = await db.fetchrow("SELECT *, pg_current_xact_id() > xact AS past FROM events WHERE party_identifier = 'k'")
    assert [event[name] for name in ("channel", "actor", "role", "reason", "request_id", "trace_id")] == [
        "import", "x", "x", "x", "x", "x",
    ]  # fmt: skip
    assert event["past"]


async def test_fsps_and_routes_have_a_history(db: asyncpg.Connection) -> None:
    await run(db, "UPDATE fsps SET status = 'suspended', name = 'A' WHERE fsp_id = 'a'",
              "INSERT INTO routes (party_id_type, prefix, fsp_id) VALUES ('IBAN', 'MX', 'a'), ('IBAN', 'MM', 'b')",
              "UPDATE routes SET note = 'x' WHERE prefix = 'MX'", "DELETE FROM routes WHERE prefix = 'MX'")  # fmt: skip
    changed = (await events(db, "fsp"))[-1]
    assert changed[0] == "changed"
    assert [s["status"] for s in changed[3:]] == ["active", "suspended"]
    assert [(e[0], e[2], e[3] and e[3]["note"], e[4] and e[4]["note"]) for e in await events(db, "route")] == [
        ("registered", "a", None, None), ("registered", "b", None, None), ("changed", "a", None, "x"),
        ("removed", "a", "x", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'another'",
        "UPDATE events SET actor = 'another' WHERE false",
        "DELETE FROM events",
        "TRUNCATE events",
        "TRUNCATE aliases",
        "TRUNCATE alias_currencies",
        "TRUNCATE routes",
        "TRUNCATE fsps CASCADE",
        "TRUNCATE aliases, events",
        "TRUNCATE cache_generation",
        "DELETE FROM cache_generation",
        "INSERT INTO cache_generation (only_row) VALUES (true)",
        "DELETE FROM fsps WHERE fsp_id = 'c'",
        "DELETE FROM key_policies",
        "UPDATE fsps SET fsp_id = 'd' WHERE fsp_id = 'c'",
        "UPDATE aliases SET identifier = 'other'",
        "UPDATE aliases SET sub_id = 'other'",
        "UPDATE aliases SET party_id_type = 'DEVICE'",
        "UPDATE alias_currencies SET currency = 'USD'",
        put("k") + " ON CONFLICT (identifier, party_id_type, sub_id) DO UPDATE SET identifier = 'other'",
    ],
)
async def test_keys_and_events_cannot_be_changed(db: asyncpg.Connection, statement: str) -> None:
    await run(db, put("k"), also("k"))
    before = await fetch_entries(db), await db.fetchval("SELECT count(*) FROM events")
    async with expect_refusal(FIXED):
        await run(db, statement)
    assert (await fetch_entries(db), await db.fetchval("SELECT count(*) FROM events")) == before


@pytest.mark.parametrize(
    ("party_id_type", "identifier"),
    [("MSISDN", "+5255123"), ("MSISDN", "0525512345678"), ("MSISDN", "1" * 16), ("IBAN", "mx12"), ("ALIAS", ""),
     ("ALIAS", "a b"), ("ALIAS", "12&"), ("ALIAS", "a/b"), ("ALIAS", "a%2Fb"), ("ALIAS", "x" * 129), ("ALIAS", "a\tb")],
)  # fmt: skip
async def test_an_identifier_that_cannot_be_asked_for_is_not_stored(
    db: asyncpg.Connection, party_id_type: str, identifier: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(
            "INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ($1, $2, 'a')", party_id_type, identifier
        )


# Routes --------------------------------------------------------------------------------------------------------


def route(prefix: str, begin: str = "-infinity", end: str = "infinity", fsp_id: str = "a") -> str:
    return (
        "INSERT INTO routes (party_id_type, kind, prefix, fsp_id, valid_from, valid_to) "  # noqa: S608
        f"VALUES ('ACCOUNT_ID', 'ACCOUNT_ID', '{prefix}', '{fsp_id}', '{begin}', '{end}')"
    )


async def test_two_routes_of_one_prefix_are_not_valid_at_the_same_instant(db: asyncpg.Connection) -> None:
    await run(db, route("646", "2026-01-01", "2026-02-01"), route("646", "2026-02-01"), route("64", "2025-01-01"))
    for statement in (
        route("646", "2026-01-31", "2026-02-01"),
        route("646", "2027-01-01", "2028-01-01"),
        "UPDATE routes SET valid_from = '2026-01-31' WHERE valid_to = 'infinity' AND prefix = '646'",
        "UPDATE routes SET prefix = '646' WHERE prefix = '64'",
        "INSERT INTO routes (party_id_type, prefix, fsp_id) VALUES ('IBAN', 'MX', 'a'), ('IBAN', 'MX', 'b')",
    ):
        async with expect_refusal(ROUTE):
            await run(db, statement)
    async with expect_refusal("23514"):
        await run(db, route("7", "2026-01-01", "2026-01-01"))
    async with expect_refusal("23503"):
        await run(db, route("7", fsp_id="nobody"))


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
@pytest.mark.parametrize("second_writes", [route("646", fsp_id="b"), "UPDATE routes SET prefix = '646'"])
async def test_two_that_write_overlapping_routes_at_once_cannot_both(
    db: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]], isolation: Any, second_writes: str
) -> None:
    first, second = await connect(), await connect()
    await run(db, route("7"))
    transactions = [c.transaction(isolation=isolation) for c in (first, second)]
    for connection, transaction in zip((first, second), transactions, strict=True):
        await transaction.start()
        await connection.execute("SELECT 1 FROM routes")
    await first.execute(route("646"))
    waiting = asyncio.ensure_future(second.execute(second_writes))
    await until_blocked(db, second)
    await transactions[0].commit()
    with pytest.raises(asyncpg.PostgresError) as caught:
        await waiting
    assert caught.value.sqlstate in (ROUTE, "40001")


async def test_two_that_replace_different_routes_take_turns_and_do_not_deadlock(
    db: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> None:
    first, second = await connect(), await connect()
    await run(db, route("1"), route("2"))
    async with first.transaction():
        await first.execute("DELETE FROM routes WHERE prefix = '1'")
        replacing = asyncio.ensure_future(run(second, "DELETE FROM routes WHERE prefix = '2'", route("2", fsp_id="b")))
        await until_blocked(db, second)
        await first.execute(route("1", fsp_id="b"))
    await replacing
    assert await db.fetchval("SELECT count(*) FROM routes WHERE fsp_id = 'b'") == 2


# What the cache may believe ------------------------------------------------------------------------------------


async def test_changes_by_hand_make_cached_copies_unreachable(db: asyncpg.Connection) -> None:
    before, _ = await generation(db)
    for n, statement in enumerate(
        (put("k"), also("k"), drop("k", "alias_currencies"), "UPDATE aliases SET currency = 'USD'", drop("k")), 1
    ):
        await run(db, statement)
        assert (await generation(db))[0] == before + n
    for cache in ("fenced", "bumped"):
        await run(db, put("k"), also("k"), drop("k"), drop("k"), cache=cache)
    assert (await generation(db))[0] == before + n


async def test_an_fsps_status_is_part_of_every_copy_and_of_every_route(db: asyncpg.Connection) -> None:
    before = await generation(db)
    await run(db, "UPDATE fsps SET name = 'A'")
    assert await generation(db) == before
    await run(db, "UPDATE fsps SET status = 'suspended' WHERE fsp_id = 'a'", cache="fenced")
    assert await generation(db) == (before[0] + 1, before[1] + 1)
    await run(db, route("1"), "UPDATE routes SET note = 'x'", "DELETE FROM routes")
    assert await generation(db) == (before[0] + 1, before[1] + 4)


async def test_listeners_are_notified_at_the_commit(
    db: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> None:
    listener, notified = await connect(), asyncio.Event()
    await listener.add_listener("oracle_cache", lambda *_: notified.set())
    for statement in (put("k"), route("1"), "UPDATE fsps SET status = 'closed'"):
        async with db.transaction():
            await db.execute(statement)
            await listener.execute("SELECT 1")
            assert not notified.is_set()
        await notified.wait()
        notified.clear()
    await listener.remove_listener("oracle_cache", lambda *_: None)
    await run(db, put("fenced"), cache="fenced")
    await listener.execute("SELECT 1")
    assert not notified.is_set()


# Size ----------------------------------------------------------------------------------------------------------


async def test_a_trigger_runs_once_for_ten_thousand_rows(db: asyncpg.Connection) -> None:
    numbers = "generate_series(1, 10000) n"
    plain = f"SELECT 'ALIAS', n::text, 'a' FROM {numbers}"  # noqa: S608
    mxn = f"SELECT 'ALIAS', n::text, 'a', 'MXN' FROM {numbers}"  # noqa: S608
    columns = "party_id_type, identifier, fsp_id"
    begin = await generation(db)
    for statement, trigger in (
        (f"INSERT INTO aliases ({columns}) {plain}", "aliases_inserted"),
        (f"INSERT INTO alias_currencies ({columns}, currency) {mxn}", "alias_currencies_inserted"),
        ("UPDATE aliases SET currency = 'USD'", "aliases_updated"),
        ("DELETE FROM aliases", "aliases_deleted"),
    ):  # fmt: skip
        plan = json.loads(await db.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) " + statement))[0]
        calls = {t["Trigger Name"]: t["Calls"] for t in plan["Triggers"]}
        assert calls[trigger] == 1
        assert set(calls.values()) == {1}
    # The heirs were moved set-based, too: each statement trigger of theirs bumped once more.
    assert (await generation(db))[0] == begin[0] + 6
    assert await db.fetchval("SELECT count(*) FROM events WHERE entity = 'alias'") == 60_000
    await check_rules(db)


@pytest.fixture
async def big(db: asyncpg.Connection) -> None:
    """200,000 aliases, made without the triggers, which are not the question here."""
    await db.execute("ALTER TABLE aliases DISABLE TRIGGER USER")
    await db.execute(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id) "
        "SELECT 'MSISDN', (525500000000 + n)::text, 'a' FROM generate_series(1, 200000) n"
    )
    await db.execute("ANALYZE")


def nodes(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    own = (plan["Node Type"], plan.get("Relation Name", ""), plan.get("Index Name", ""))
    return [own, *(n for child in plan.get("Plans", []) for n in nodes(child))]


async def plan_of(connection: asyncpg.Connection, query: str, types: str, values: str) -> list[tuple[str, str, str]]:
    await connection.execute(f"PREPARE q ({types}) AS {query}")
    try:
        rows = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE q ({values})")
        return nodes(json.loads(rows)[0]["Plan"])
    finally:
        await connection.execute("DEALLOCATE q")


@pytest.mark.usefixtures("big")
async def test_queries_walk_the_primary_keys(connect: Callable[..., Awaitable[asyncpg.Connection]]) -> None:
    reads, writes = await connect(**_READ_SETTINGS), await connect(**write_settings(LIMITS))
    for count in (1, 32, 256):
        types, empty = (f"'{{{','.join([value] * count)}}}'" for value in ("MSISDN", '""'))
        numbers = f"'{{{','.join(str(525500000000 + n * 700) for n in range(1, count + 1))}}}'"
        joined = (f"array_to_string({words}::text[], E'\\x1f')" for words in (types, numbers))
        found = await plan_of(reads, QUERIES["entries_by_keys"], "text, text", ", ".join(joined))
        assert {relation for kind, relation, _ in found if "Seq" in kind} <= {"fsps"}
        assert {index for _, _, index in found if index} >= {"aliases_pkey", "alias_currencies_pkey"}
        for mode in ("force_generic_plan", "auto"):
            await writes.execute(f"SET plan_cache_mode = {mode}")
            columns = f"{types}, {numbers}, {empty}, {empty}, 'a'"
            five = "party_id_type[], text[], text[], text[], text"
            keys = f"{types}, {numbers}, {empty}"
            for query, parameters, arguments in (
                ("registrations_compare", five, columns),
                ("entries_lock", "party_id_type[], text[], text[]", keys),
                ("entries_compare", "party_id_type[], text[], text[], text", f"{keys}, 'a'"),
                ("defaults_change", five, columns),
                ("defaults_remove", five, columns),
            ):
                found = await plan_of(writes, QUERIES[query], parameters, arguments)
                scanned = {relation for kind, relation, _ in found if "Seq" in kind}
                assert "aliases" not in scanned, (query, mode, count)
                assert "aliases_pkey" in {index for _, _, index in found}
    for query in ("identifier_lock", "identifier_currencies"):
        found = await plan_of(writes, QUERIES[query], "party_id_type, text", "'MSISDN', '525500000700'")
        if query == "identifier_lock":
            assert {relation for kind, relation, _ in found if "Seq" in kind} <= {"fsps"}
