"""The number of statements of a change does not grow with its keys: imports change thousands in one transaction."""

from __future__ import annotations

from collections import Counter

from patience import in_time
from test_changes import Store, as_fsp, db, statements, store

from oracle.store import aliases
from oracle.store.aliases import Columns, Effect
from oracle.store.postgres import Transaction

__all__ = ["db", "in_time", "statements", "store"]  # fixtures

COUNT = 500
KEYS = [str(n) for n in range(COUNT)]


def make_columns(currency: str | None) -> Columns:
    return Columns(["ALIAS"] * COUNT, KEYS, [""] * COUNT, [currency] * COUNT)


async def change(store: Store, fsp_id: str, action: str, currency: str | None) -> Counter[Effect]:
    """Do one set-based change by the protocol, and count its effects."""

    async def work(transaction: Transaction) -> tuple[list[Effect], bool]:
        if action == "add":
            effects = await aliases.add_entries(transaction, fsp_id, make_columns(currency))
        elif action == "replace":
            effects = await aliases.replace_entries(transaction, fsp_id, make_columns(currency))
        else:
            effects = await aliases.remove_entries(transaction, fsp_id, make_columns(currency))
        return effects, True

    return Counter(await store.changes.change(as_fsp(fsp_id), [("ALIAS", key) for key in KEYS], work))


async def test_each_set_based_change_is_a_few_statements(store: Store, statements: list[str]) -> None:
    async def expect(fsp_id: str, action: str, currency: str | None, effect: str, names: list[str]) -> None:
        statements.clear()
        assert await change(store, fsp_id, action, currency) == {effect: COUNT}
        assert statements == [*names, "generation"]

    await store.add("a", "first")
    await store.add("b", "second")
    compare = ["entries_lock", "entries_compare"]
    await expect("a", "add", "USD", "added", ["aliases_add"])
    await expect("a", "add", "USD", "unchanged", ["aliases_add", "registrations_compare"])
    added = ["aliases_add", "registrations_compare", "currencies_add", "registrations_compare"]
    await expect("a", "add", "MXN", "added", added)
    await expect("a", "replace", "MXN", "changed", [*compare, "currencies_drop", "defaults_change"])
    await expect("a", "replace", "MXN", "unchanged", compare)
    await expect("b", "add", "MXN", "held_elsewhere", ["aliases_add", "registrations_compare"])
    removal = ["entries_lock", "currencies_remove", "defaults_remove"]
    await expect("b", "remove", None, "not_registered", removal)
    await expect("a", "remove", "USD", "not_registered", removal)
    await expect("a", "remove", None, "removed", removal)
    await expect("a", "replace", "", "added", [*compare, "aliases_add"])


async def test_a_key_that_several_fsps_share_is_replaced_for_one_of_them(store: Store, statements: list[str]) -> None:
    async with store.postgres.transaction(as_fsp(""), fenced=False) as transaction:
        await transaction._connection.execute("UPDATE key_policies SET policy = 'per-currency'")
        await transaction.commit()
    await store.add("a", "first")
    await store.add("b", "second")
    assert await change(store, "a", "add", "USD") == {"added": COUNT}
    assert await change(store, "b", "replace", "MXN") == {"added": COUNT}
    statements.clear()
    assert await change(store, "b", "replace", "EUR") == {"changed": COUNT}
    assert len(statements) == 8
    assert await change(store, "b", "replace", "USD") == {"held_elsewhere": COUNT}
    assert await change(store, "b", "replace", "EUR") == {"unchanged": COUNT}
    assert [entry.currency for entry in await store.get("7")] == ["USD", "EUR"]
