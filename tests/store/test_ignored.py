"""Calls without a key at the hub listener leave a bounded number of rows, and history says how many more there were."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import asyncpg
import pytest
from test_changes import Store, as_fsp, db, reg, statements, store

from oracle.api.hub.ignored import PROVISIONAL, PROVISIONAL_SHARES, UNKNOWN, Allowance, IgnoredCalls
from oracle.errors import TooManyUnknownFsps, UnknownFsp
from oracle.store.base import Context
from oracle.store.changes import Changes
from oracle.telemetry.metrics import Metrics

__all__ = ["db", "statements", "store"]  # fixtures

IGNORED = "SELECT actor, party_identifier, reason FROM events WHERE action = 'ignored'"


async def test_ignored_calls_beyond_an_allowance_are_one_event(
    store: Store, db: asyncpg.Connection, statements: list[str]
) -> None:
    """Removals of unregistered aliases, and hints: each FSP has its own allowance; invented names share one."""
    for fsp_id in ("victim", "loud"):
        await store.add(fsp_id, fsp_id)
    await db.execute("UPDATE fsps SET status = 'active'")
    ignored = IgnoredCalls(store.changes, Metrics.open(None, "hub", 0), hour_max=3, summary_s=0.01)
    statements.clear()
    for number in range(20):
        await ignored.record(as_fsp("loud"), "ALIAS", str(number))
        await ignored.record(as_fsp(f"invented{number}"), "ALIAS", str(number))
    await ignored.record(as_fsp("victim"), "ALIAS", "mine")
    await ignored.close()
    rows = await db.fetch(IGNORED)
    listed = Counter(row["actor"] for row in rows if row["party_identifier"] is not None)
    assert listed == {"loud": 3, "invented0": 1, "invented1": 1, "invented2": 1, "victim": 1}
    left_out = Counter[str]()
    for row in rows:
        if row["party_identifier"] is None:
            left_out[row["actor"]] += int(row["reason"].split()[0])
    assert left_out == {"loud": 17, UNKNOWN: 17}


async def test_provisional_fsps_share_ten_allowances(store: Store, db: asyncpg.Connection) -> None:
    """A registration makes an invented name a provisional FSP: 30 of them do not bring 30 allowances."""
    names = [f"invented{number}" for number in range(30)]
    await store.add("known", "known")
    await db.execute("INSERT INTO fsps (fsp_id, status) SELECT unnest($1::text[]), 'provisional'", names)
    await db.execute("UPDATE fsps SET status = 'active' WHERE fsp_id = 'known'")
    ignored = IgnoredCalls(store.changes, Metrics.open(None, "hub", 0), hour_max=2, summary_s=3600.0)
    for number in range(3):
        for name in names:
            await ignored.record(as_fsp(name), "ALIAS", str(number))
    for number in range(3):
        await ignored.record(as_fsp("known"), "ALIAS", str(number))
    await ignored.close()
    rows = await db.fetch(IGNORED)
    listed = Counter(row["actor"] for row in rows if row["party_identifier"] is not None)
    assert listed.pop("known") == 2, "other FSPs do not use up the allowance of a confirmed one"
    assert listed.total() == 2 * PROVISIONAL_SHARES
    left_out = Counter[str]()
    for row in rows:
        if row["party_identifier"] is None:
            left_out[row["actor"]] += int(row["reason"].split()[0])
    assert left_out == {PROVISIONAL: 3 * 30 - 2 * PROVISIONAL_SHARES, "known": 1}


async def test_calls_that_are_only_counted_are_recorded_later_and_at_the_end(
    store: Store, db: asyncpg.Connection
) -> None:
    await store.add("a", "1")
    for summary_s in (0.01, 3600.0):
        ignored = IgnoredCalls(store.changes, Metrics.open(None, "hub", 0), hour_max=1, summary_s=summary_s)
        for number in range(5):
            await ignored.record(as_fsp("a"), "ALIAS", str(number))
        while summary_s < 1 and not await db.fetch(f"{IGNORED} AND party_identifier IS NULL"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await ignored.close()
    reasons = [row["reason"] for row in await db.fetch(f"{IGNORED} AND party_identifier IS NULL")]
    assert sum(int(reason.split()[0]) for reason in reasons) == 2 * 4
    assert all(" further calls " in reason for reason in reasons)


def test_an_allowance_fills_again_within_an_hour() -> None:
    now = [time.monotonic()]
    allowance = Allowance(10, lambda: now[0])
    assert [allowance.take() for _ in range(12)] == [True] * 10 + [False] * 2
    now[0] += 730
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    now[0] += 1e6
    assert sum(allowance.take() for _ in range(20)) == 10


@pytest.mark.parametrize("way", ["register", "bulk", "hint"])
async def test_unknown_fsps_are_limited_in_a_day(store: Store, db: asyncpg.Connection, way: str) -> None:
    changes = Changes(store.postgres, store.coherence, fsp_registration="auto", unknown_fsps_day_max=2)

    async def enter(fsp_id: str) -> object:
        if way == "hint":
            try:
                await changes.put_hint(as_fsp(fsp_id), fsp_id, reg(fsp_id))
            except UnknownFsp as exc:
                return type(exc)
            return None
        names = [fsp_id] if way == "register" else [fsp_id, f"{fsp_id}-2"]
        results = await changes.register(as_fsp(fsp_id), fsp_id, [reg(name) for name in names])
        (refused,) = {type(result.refused) for result in results}
        return None if refused is type(None) else refused

    assert [await enter(fsp_id) for fsp_id in "abcd"] == [None, None, TooManyUnknownFsps, TooManyUnknownFsps]
    assert await enter("a") is None  # the ones that are known go on
    await db.execute("UPDATE fsps SET status = 'active' WHERE fsp_id = 'a'")  # an operator has looked at it
    assert await enter("c") is None
    assert await enter("d") is TooManyUnknownFsps
    await db.execute("INSERT INTO fsps (fsp_id, status) VALUES ('d', 'active')")
    assert await enter("d") is None


async def test_a_close_while_a_summary_is_committed_does_not_record_it_twice(
    store: Store, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add("a", "1")
    ignored = IgnoredCalls(store.changes, Metrics.open(None, "hub", 0), hour_max=1, summary_s=0.01)
    committed, closing = asyncio.Event(), asyncio.Event()
    record = store.changes.record_ignored

    async def record_and_wait(context: Context, *party: str | None) -> None:
        await record(context, *party)
        if party[0] is None:
            committed.set()
            await closing.wait()

    monkeypatch.setattr(store.changes, "record_ignored", record_and_wait)
    for number in range(5):
        await ignored.record(as_fsp("a"), "ALIAS", str(number))
    await committed.wait()
    asyncio.get_running_loop().call_soon(closing.set)
    await ignored.close()
    rows = await db.fetch(f"{IGNORED} AND party_identifier IS NULL")
    assert sum(int(row["reason"].split()[0]) for row in rows) == 4
