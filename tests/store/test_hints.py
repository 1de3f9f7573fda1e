"""Hints: what ALS has found in another scheme answers, and gives way to every registration."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from itertools import product
from typing import Any

import asyncpg
import pytest
from patience import in_time
from test_alias_statements import COUNT, KEYS, change
from test_changes import PER_CURRENCY, Store, as_fsp, count, db, name_result, reg, statements, store
from test_rules import check_rules, events, expect_refusal, run, state

from oracle.errors import AlreadyRegistered, ForeignRemoval, NotAllowed, PartyNotFound, UnknownFsp
from oracle.store import aliases
from oracle.store.aliases import Columns, ForgottenHints
from oracle.store.cache.values import Entry
from oracle.store.changes import Changes

__all__ = ["db", "in_time", "statements", "store"]  # fixtures

HINT = {"hint": True}


async def fetch_hints(db: asyncpg.Connection) -> set[tuple[str, str]]:
    rows = await db.fetch("SELECT identifier, sub_id FROM aliases WHERE is_hint")
    return {tuple(row) for row in rows}


# Stored -------------------------------------------------------------------------------------------------------


async def test_a_hint_answers_and_history_names_it(store: Store, db: asyncpg.Connection) -> None:
    assert await store.get("1") == []
    assert await store.put_hint("remote", reg("1"))
    assert await store.get("1") == [Entry("remote", "", "")]
    assert not await store.put_hint("remote", reg("1"))
    assert await events(db) == [("registered", "1", "remote", None, state("remote") | HINT)]
    assert await count(db, "entity = 'alias' AND channel = 'self-heal'") == 1
    await check_rules(db)


async def test_the_newest_hint_wins(store: Store, db: asyncpg.Connection) -> None:
    await store.put_hint("remote", reg("1"))
    assert await store.put_hint("other", reg("1"))
    assert await store.get("1") == [Entry("other", "", "")]
    assert await store.put_hint("other", reg("1", "MXN"))
    assert await fetch_hints(db) == {("1", "")}
    assert [event[0] for event in await events(db)] == ["registered", "changed", "changed"]
    await check_rules(db)


@pytest.mark.parametrize("policy", ["unique", "per-currency"])
async def test_a_hint_is_never_stored_over_or_beside_a_registration(
    store: Store, db: asyncpg.Connection, policy: str
) -> None:
    await db.execute("UPDATE key_policies SET policy = $1::key_policy", policy)
    await store.register("a", [reg("1", "USD"), reg("1", "MXN")])
    before = await count(db, "true")
    for currency in ("", "USD", "EUR"):
        with pytest.raises(AlreadyRegistered):
            await store.put_hint("remote", reg("1", currency))
        assert not await store.put_hint("a", reg("1", currency))
    assert await store.get("1") == [Entry("a", "USD", ""), Entry("a", "MXN", "")]
    assert await count(db, "true") == before  # a hint that is not stored makes no FSP either
    assert await store.put_hint("remote", reg("1", "", "TILL"))  # another key
    await check_rules(db)


async def test_a_hint_needs_what_a_registration_needs(store: Store, db: asyncpg.Connection) -> None:
    await db.execute("INSERT INTO fsps (fsp_id, kinds, currencies) VALUES ('remote', '{MSISDN}', '{MXN}')")
    with pytest.raises(NotAllowed):
        await store.put_hint("remote", reg("1"))
    await db.execute("UPDATE fsps SET kinds = NULL")
    with pytest.raises(NotAllowed):
        await store.put_hint("remote", reg("1", "USD"))
    for status in ("suspended", "closed"):
        await db.execute("UPDATE fsps SET status = $1::fsp_status", status)
        with pytest.raises(UnknownFsp):
            await store.put_hint("remote", reg("1"))
    strict = Changes(store.postgres, store.coherence, fsp_registration="required")
    with pytest.raises(UnknownFsp):
        await strict.put_hint(as_fsp("nobody", "self-heal"), "nobody", reg("1"))
    assert await db.fetchval("SELECT count(*) FROM aliases") == 0
    assert await db.fetchval("SELECT count(*) FROM fsps") == 1


# Replaced -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["unique", "per-currency"])
async def test_a_registration_replaces_a_hint(store: Store, db: asyncpg.Connection, policy: str) -> None:
    """Of the hint's own FSP and of another one, with any currencies of the two."""
    await db.execute("UPDATE key_policies SET policy = $1::key_policy", policy)
    cases = list(product(["remote", "local"], ["", "MXN"], ["", "MXN", "USD"]))
    for number, (fsp_id, hinted, currency) in enumerate(cases):
        key = str(number)
        await store.put_hint("remote", reg(key, hinted))
        assert await store.get(key) == [Entry("remote", hinted, "")]
        assert await store.add(fsp_id, key, currency=currency) == ["new"]
        assert await store.get(key) == [Entry(fsp_id, currency, "")]
        assert await store.add(fsp_id, key, currency=currency) == ["same"]
        changed = ("changed", key, fsp_id, state("remote", hinted) | HINT, state(fsp_id, currency))
        assert [event for event in await events(db) if event[1] == key][1:] == [changed]
        assert await store.forget_hints("local", key) == ForgottenHints(removed=False, registered=True)
    assert await fetch_hints(db) == set()
    await check_rules(db)


async def test_one_key_twice_in_a_bulk_over_a_hint(store: Store, db: asyncpg.Connection) -> None:
    await store.put_hint("remote", reg("1"))
    many = [reg("1", "USD"), reg("1", "MXN"), reg("1", "USD")]
    assert [name_result(o) for o in await store.register("a", many)] == ["new"] * 3
    assert await store.get("1") == [Entry("a", "USD", ""), Entry("a", "MXN", "")]
    await check_rules(db)


async def test_an_update_makes_the_hint_of_its_fsp_a_registration(store: Store, db: asyncpg.Connection) -> None:
    for identifier, currency in (("1", None), ("2", ""), ("3", "MXN")):
        await store.put_hint("remote", reg(identifier))
        with pytest.raises(PartyNotFound):  # for others a hint is no registration
            await store.update("local", identifier, currency)
        await store.update("remote", identifier, currency)
        assert await store.get(identifier) == [Entry("remote", currency or "", "")]
    assert await fetch_hints(db) == set()
    await check_rules(db)


SET_BASED = [("add", "added"), ("replace", "added")]


@pytest.mark.parametrize("policy", ["unique", "per-currency"])
@pytest.mark.parametrize(("action", "effect"), SET_BASED)
async def test_a_file_replaces_the_hints_among_its_keys(
    store: Store, db: asyncpg.Connection, statements: list[str], policy: str, action: str, effect: str
) -> None:
    await db.execute("UPDATE key_policies SET policy = $1::key_policy", policy)
    await store.add("local", "elsewhere")
    await store.add("other", KEYS[0], currency="USD")
    for key, fsp_id in zip(KEYS[1:6], ["remote", "remote", "local", "remote", "local"], strict=True):
        await store.put_hint(fsp_id, reg(key, "MXN"))
    statements.clear()
    refused = "not_owner" if action == "replace" and policy == "unique" else "held_elsewhere"
    assert await change(store, "local", action, "USD") == {effect: COUNT - 1, refused: 1}
    assert len(statements) <= 8
    assert await fetch_hints(db) == set()
    assert await store.get(KEYS[1]) == await store.get(KEYS[9]) == [Entry("local", "USD", "")]
    assert await change(store, "local", action, "USD") == {"unchanged": COUNT - 1, refused: 1}
    await check_rules(db)


async def test_a_second_row_of_a_file_finds_what_the_first_made_of_a_hint(store: Store, db: asyncpg.Connection) -> None:
    await store.put_hint("remote", reg("1"))
    await store.put_hint("local", reg("2"))
    wanted = Columns(["ALIAS"] * 2, ["1", "2"], [""] * 2, ["MXN"] * 2)

    async def work(transaction: Any) -> Any:
        first = await aliases.add_entries(transaction, "local", wanted)
        again = await aliases.add_entries(transaction, "local", wanted, touched=True)
        changed = await aliases.replace_entries(
            transaction, "local", wanted._replace(currencies=["USD"] * 2), touched=True
        )
        return (first, again, changed), True

    effects = await store.changes.change(as_fsp("local"), [("ALIAS", "1"), ("ALIAS", "2")], work)
    assert effects == (["added"] * 2, ["unchanged"] * 2, ["changed"] * 2)
    await check_rules(db)


class Interrupted:
    """A transaction in which others commit something after some of its statements."""

    def __init__(self, transaction: Any, after: dict[str, Any]) -> None:
        self._transaction, self._after = transaction, after

    async def run(self, query: str, *arguments: Any) -> int:
        written: int = await self._transaction.run(query, *arguments)
        await self._interrupt(query)
        return written

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        found: list[Any] = await self._transaction.rows(query, *arguments)
        await self._interrupt(query)
        return found

    async def _interrupt(self, query: str) -> None:
        if (others := self._after.pop(query, None)) is not None:
            await others()


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("taker", ["forgotten", "registered", "replaced"])
async def test_a_hint_that_comes_and_goes_during_an_update_is_no_change(
    store: Store, db: asyncpg.Connection, taker: str, registers: bool
) -> None:
    """The update finds no entry to lock, then a hint of its FSP is there, and then it is another call's."""

    async def put() -> None:
        assert await store.put_hint("remote", reg("1"))

    async def take() -> None:
        if taker == "forgotten":
            assert (await store.forget_hints("local", "1")).removed
        elif taker == "registered":
            assert await store.add("local", "1") == ["new"]
        else:
            assert await store.put_hint("other", reg("1"))

    async def work(transaction: Any) -> Any:
        interrupted: Any = Interrupted(transaction, {"entries_lock": put, "entries_compare": take})
        wanted = Columns(["ALIAS"], ["1"], [""], ["MXN"])
        return await aliases.replace_entries(interrupted, "remote", wanted, registers=registers), True

    await db.execute("INSERT INTO fsps (fsp_id) VALUES ('remote')")
    (effect,) = await store.changes.change(as_fsp("remote"), [("ALIAS", "1")], work)
    holders = {"forgotten": [], "registered": [Entry("local", "", "")], "replaced": [Entry("other", "", "")]}
    is_stored = registers and taker != "registered"
    assert await store.get("1") == ([Entry("remote", "MXN", "")] if is_stored else holders[taker])
    refused = "not_owner" if taker == "registered" else "not_registered"
    assert effect == ("added" if is_stored else refused)
    await check_rules(db)


# Removed ------------------------------------------------------------------------------------------------------


async def test_a_removal_of_the_hub_takes_hints_of_any_fsp_and_nothing_else(
    store: Store, db: asyncpg.Connection
) -> None:
    await store.add("a", "1")
    await store.put_hint("remote", reg("1", "", "X"))
    await store.put_hint("other", reg("1", "", "Y"))
    await store.put_hint("remote", reg("2"))
    assert len(await store.get("1")) == 3
    assert await store.forget_hints("payer", "1", "X") == ForgottenHints(removed=True, registered=False)
    assert await store.get("1") == [Entry("a", "", ""), Entry("other", "", "Y")]
    assert await store.forget_hints("payer", "1") == ForgottenHints(removed=True, registered=True)
    assert await store.get("1") == [Entry("a", "", "")]
    assert await store.forget_hints("payer", "1") == ForgottenHints(removed=False, registered=True)
    assert await store.forget_hints("payer", "3") == ForgottenHints(removed=False, registered=False)
    assert await fetch_hints(db) == {("2", "")}
    removed = await db.fetch("SELECT channel, actor, before::text FROM events WHERE action = 'removed'")
    assert {(row["channel"], row["actor"]) for row in removed} == {("self-heal", "payer")}
    assert all('"hint": true' in row["before"] for row in removed)
    await check_rules(db)


async def test_the_fsp_of_a_hint_can_remove_it(store: Store, db: asyncpg.Connection) -> None:
    await store.put_hint("remote", reg("1"))
    with pytest.raises(ForeignRemoval):
        await store.remove("local", "1")
    await store.remove("remote", "1")
    assert await store.get("1") == []
    await store.put_hint("a", reg("1", "", "X"))  # what it registered comes first
    await store.add("a", "1", sub_id="Y")
    await store.remove("a", "1")
    assert await store.get("1") == [Entry("a", "", "X")]
    await check_rules(db)


async def test_a_key_without_its_hint_is_free_again(store: Store, db: asyncpg.Connection) -> None:
    for fsp_id in ("remote", "local"):
        await store.put_hint(fsp_id, reg("1"))
        await store.forget_hints("payer", "1")
        assert await store.get("1") == []
    assert await store.add("local", "1") == ["new"]
    await check_rules(db)


async def test_hints_and_registrations_at_once_leave_one_entry(store: Store, db: asyncpg.Connection) -> None:
    """No error but a registration of another FSP refuses a registration, and it is never lost to a hint."""
    numbers = [str(n) for n in range(40)]
    await asyncio.gather(*(store.put_hint("remote", reg(n)) for n in numbers))

    async def disturb(fsp_id: str) -> None:
        for number in numbers[::-1]:
            with suppress(AlreadyRegistered):
                await store.put_hint(fsp_id, reg(number))
            await store.forget_hints(fsp_id, number)

    added, *_ = await asyncio.gather(store.add("local", *numbers), disturb("remote"), disturb("other"))
    assert Counter(added) == {"new": len(numbers)}
    assert await db.fetchval("SELECT count(*) FROM aliases WHERE fsp_id = 'local' AND NOT is_hint") == len(numbers)
    await check_rules(db)


# By hand ------------------------------------------------------------------------------------------------------

INSERT_HINT = "INSERT INTO aliases (party_id_type, identifier, fsp_id, is_hint) VALUES ('ALIAS', '1', 'b', true)"
A_CURRENCY = (
    "INSERT INTO alias_currencies (party_id_type, identifier, fsp_id, currency) VALUES ('ALIAS', '1', '{}', 'MXN')"
)


@pytest.fixture
async def hint(db: asyncpg.Connection) -> asyncpg.Connection:
    """A directory with FSPs a and b, and a hint of b."""
    await db.execute("INSERT INTO fsps (fsp_id) VALUES ('a'), ('b')")
    await db.execute(INSERT_HINT)
    return db


@pytest.mark.parametrize(
    ("statement", "channel"),
    [
        ("DELETE FROM aliases", "hub"),
        ("DELETE FROM aliases", "import"),
        ("UPDATE aliases SET currency = 'MXN'", "self-heal"),
        ("UPDATE aliases SET is_hint = false", "hub"),
    ],
)
async def test_an_fsp_takes_a_foreign_hint_over_and_does_nothing_else_to_it(
    hint: asyncpg.Connection, statement: str, channel: str
) -> None:
    async with expect_refusal("OR001"):
        await run(hint, statement, fsp_id="a", channel=channel)
    await run(hint, "UPDATE aliases SET fsp_id = 'a', is_hint = false", fsp_id="a", channel=channel)
    for more in ("UPDATE aliases SET fsp_id = 'b', is_hint = true", "DELETE FROM aliases"):
        async with expect_refusal("OR001"):
            await run(hint, more, fsp_id="b", channel="self-heal")
    await check_rules(hint)


async def test_a_further_currency_makes_a_hint_a_registration(hint: asyncpg.Connection) -> None:
    """Of the version before hints, too, which runs on for a while."""
    async with expect_refusal("OR003"):
        await run(hint, A_CURRENCY.format("a"))
    await run(hint, A_CURRENCY.format("b"), fsp_id="b")
    assert await fetch_hints(hint) == set()
    async with expect_refusal("OR003"):
        await run(hint, "UPDATE aliases SET is_hint = true")
    await check_rules(hint)


async def test_a_further_currency_of_another_fsp_makes_a_hint_a_registration(hint: asyncpg.Connection) -> None:
    await hint.execute(PER_CURRENCY)
    await run(hint, A_CURRENCY.format("a"), fsp_id="a")
    assert await fetch_hints(hint) == set()
    await check_rules(hint)


async def test_history_tells_which_old_entries_were_hints(store: Store, db: asyncpg.Connection) -> None:
    """The version before hints made registrations of them.  What anybody has changed since, stays one."""
    await db.execute("INSERT INTO fsps (fsp_id) VALUES ('remote'), ('local')")
    insert = (
        "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
        " SELECT 'ALIAS', i, '{}' FROM unnest('{{{}}}'::text[]) i"
    )
    await run(db, insert.format("remote", "1,2,3,4,5"), channel="self-heal", fsp_id="remote")
    await run(db, insert.format("local", "6"), channel="self-heal", fsp_id="local")
    await run(db, insert.format("remote", "7"), channel="hub", fsp_id="remote")
    await store.update("remote", "2", "MXN")
    await store.add("remote", "3", currency="MXN")
    await store.remove("remote", "4")
    await store.add("remote", "4")
    await store.changes.record_ignored(as_fsp("payer"), "ALIAS", "5")
    assert await db.fetchval("SELECT alias_hints_mark('remote')") == 2
    assert await fetch_hints(db) == {("1", ""), ("5", "")}
    assert await db.fetchval("SELECT alias_hints_mark('remote')") == 0
    await check_rules(db)
