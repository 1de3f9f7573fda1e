"""What callers leave in the database has a quota or an end: kept answers, uploads that break off, files, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import pytest
from bulk_engine import Engine, as_uploader, open_engine

from oracle import errors
from oracle.api.admin.callers import Caller
from oracle.api.admin.calls import Once, Replayed
from oracle.api.admin.keeping import ANSWER_BYTES_MAX, Answer, Keeping
from oracle.api.admin.problems import Refusal
from oracle.identity.identity import Role
from oracle.imports import quota, uploads
from oracle.imports.import_limits import ImportLimits
from oracle.run.housekeeping import Housekeeping, Retention
from oracle.store.cache.coherence import Timing

if TYPE_CHECKING:
    from oracle.store.postgres import Transaction

DAY_S: Final = 86_400.0
CALLER: Final = Caller(
    actor="aaaaaaaaaaaa", role=Role.MAKER, fsp_ids=frozenset({"a"}), way="key", person=None,
    secret="the secret of the caller",
)  # fmt: skip
PERSONAL: Final = b'{"identifier":"525512345678"}'


@pytest.fixture
async def engine(database_url: str, redis_url: str) -> AsyncIterator[Engine]:
    async with open_engine(database_url, redis_url, timing=Timing(lease_s=0.05)) as made:
        yield made


async def call(engine: Engine, keeping: Keeping, key: str, given: Answer, caller: Caller = CALLER) -> Answer:
    """Make a change that is answered so, or get the answer of the first call."""
    await keeping.look(engine.postgres, caller.actor)

    async def work(_: Transaction) -> Answer:
        return given

    try:
        return await engine.changes.administer(as_uploader("a"), work, Once(caller, key, b"digest", keeping))
    except Replayed as replayed:
        return replayed.answer


async def sweep(engine: Engine, retention: Retention) -> None:
    await Housekeeping(engine.postgres, retention).sweep(asyncio.Event())


async def test_every_answer_is_kept_encrypted_and_in_bounds(engine: Engine) -> None:
    keeping = Keeping(answers_max=3)
    ordinary = Answer(201, PERSONAL, {"ETag": '"1"'})
    refusal = Answer(409, PERSONAL)
    long = Answer(200, bytes(range(256)) * 400 + PERSONAL, {"ETag": '"2"'})
    random_like = Answer(200, b"".join(n.to_bytes(4) for n in range(0, 2**32, 2**18)) + PERSONAL)
    for key, given in (("ordinary", ordinary), ("refused", refusal), ("random", random_like)):
        assert await call(engine, keeping, key, given) == given
    for row in await engine.db.fetch("SELECT answer FROM idempotency"):
        assert b"5255" not in row["answer"]
        assert len(row["answer"]) < ANSWER_BYTES_MAX + 8
    with pytest.raises(Refusal, match="quota of kept answers") as over:
        await call(engine, keeping, "one more", long)
    assert (over.value.status, over.value.code) == (429, "too_many_kept")
    assert await engine.db.fetchval("SELECT count(*) FROM idempotency") == 3, "the refused call leaves nothing"
    again = await call(engine, keeping, "ordinary", Answer(500, b""))
    assert (again.status, again.body) == (201, PERSONAL)
    assert again.headers["Idempotency-Replayed"] == "true"
    with pytest.raises(Refusal, match="too long to keep") as lost:
        await call(engine, keeping, "random", Answer(500, b""))
    assert (lost.value.status, lost.value.code) == (409, "answer_lost")
    other = Caller(
        actor="bbbbbbbbbbbb", role=Role.READER, fsp_ids=None, way="key", person=None, secret="another secret"
    )
    assert await call(engine, keeping, "ordinary", refusal, other) == refusal, "each credential has its own quota"


async def test_the_quota_counts_bytes_and_what_other_processes_keep(engine: Engine) -> None:
    await call(engine, Keeping(), "first", Answer(200, PERSONAL))
    await engine.db.execute("UPDATE idempotency SET answer = answer || convert_to(repeat('x', 1000), 'UTF8')")
    restarted = Keeping(bytes_max=1_000)
    with pytest.raises(Refusal, match="quota of kept answers"):
        await call(engine, restarted, "second", Answer(200, PERSONAL))
    await engine.db.execute("UPDATE idempotency SET made_at = made_at - interval '1 day 1 second'")
    assert (await call(engine, Keeping(bytes_max=1_000), "second", Answer(200, PERSONAL))).status == 200


async def test_an_answer_that_was_kept_in_clear_becomes_unreadable_and_is_not_done_again(engine: Engine) -> None:
    clear = b"\0\x82\xa6status\xcc\xc9\xa4body\xc4\x03525"  # msgpack of an Answer, as earlier versions kept it
    await engine.db.execute("INSERT INTO idempotency VALUES ($1, 'old', $2, $3)", CALLER.actor, b"digest", clear)
    assert (await call(engine, Keeping(), "old", Answer(500, b""))).body == b"525", "until housekeeping comes"
    await sweep(engine, Retention(DAY_S, 365 * DAY_S, None))
    assert b"525" not in await engine.db.fetchval("SELECT answer FROM idempotency")
    with pytest.raises(Refusal, match="not kept any more"):
        await call(engine, Keeping(), "old", Answer(500, b""))


@pytest.mark.parametrize("end", ["reset", "too long", "over the quota", "killed"])
async def test_an_upload_that_breaks_off_counts_for_the_day(engine: Engine, end: str) -> None:
    limits = quota.Quota(bytes_max=10_000)
    few = ImportLimits(part_bytes=1_000, file_bytes_max=4_500 if end == "too long" else 2**30)

    async def send() -> None:
        with limits.count_upload("a") as coming:
            await coming.look(engine.postgres, "a")

            async def body() -> AsyncIterator[bytes]:
                for _ in range(20 if end == "over the quota" else 4):
                    coming.add(1_000)
                    yield b"x" * 1_000
                if end == "too long":
                    coming.add(1_000)
                    yield b"x" * 1_000
                raise ConnectionResetError

            if end == "killed":
                # No code runs any more: the row of the upload stays, as after kill -9.
                left = "INSERT INTO batch_uploads (batch_id, fsp_id, bytes) VALUES ($1, 'a', 4000)"
                await engine.db.execute(left, 77 + len(sent))
                raise ConnectionResetError
            await uploads.receive(engine.changes, as_uploader("maker"), body(), few, fsp_id="a", begun=coming.begin)

    sent: list[str] = []
    while sent[-1:] != ["TooManyBytes"]:
        with pytest.raises((ConnectionResetError, uploads.TooLong, quota.TooManyBytes)) as broken:
            await send()
        sent.append(broken.typename)
        assert len(sent) <= 4, "the quota is never used up"
    with limits.count_upload("b") as other:
        await other.look(engine.postgres, "b")
    await engine.db.execute("DELETE FROM batch_uploads")
    await engine.db.execute("UPDATE uploads_broken_off SET hour = hour - interval '26 hours'")
    with limits.count_upload("a") as later:
        await later.look(engine.postgres, "a", announced=9_999)  # free again after a day
        with pytest.raises(quota.TooManyBytes):
            await later.look(engine.postgres, "a", announced=10_001)


async def test_files_and_refusals_end_after_their_time_and_batches_stay(engine: Engine) -> None:
    engine.set_limits(part_bytes=200, rows_per_chunk=7)
    old, waiting, young = [await engine.upload_rows(*(f"ALIAS,{n}{i},,,,add" for i in range(30))) for n in "xyz"]
    await engine.work(old, waiting, young)
    await engine.db.execute(
        "UPDATE batches SET finished_at = finished_at - interval '31 days' WHERE batch_id = $1", old
    )
    await engine.db.execute(
        "UPDATE batches SET finished_at = NULL, state = 'waiting', uploaded_at = '2020-01-01' WHERE batch_id = $1",
        waiting,
    )
    await engine.db.execute(
        "INSERT INTO access_refusals (at, method, route, status, reason)"
        " SELECT now() - make_interval(days => d), '', '', 401, '' FROM unnest('{89,99,101}'::int[]) AS d"
    )
    events = await engine.db.fetchval("SELECT count(*) FROM events")
    kept = "SELECT DISTINCT batch_id FROM {} ORDER BY 1"

    async def list_kept(table: str) -> list[int]:
        return [row["batch_id"] for row in await engine.db.fetch(kept.format(table))]

    await sweep(engine, Retention(DAY_S, 365 * DAY_S, None))
    assert await list_kept("batch_files") == await list_kept("batch_chunks") == [old, waiting, young]
    for _ in range(2):
        await sweep(engine, Retention(DAY_S, 100 * DAY_S, 30 * DAY_S))
        assert await list_kept("batch_files") == await list_kept("batch_chunks") == [waiting, young]
        batch = await engine.fetch_batch(old)
        assert (batch["rows_changed"], batch["file_deleted_at"] is not None) == (30, True)
    assert (await engine.fetch_batch(young))["file_deleted_at"] is None
    assert await engine.db.fetchval("SELECT count(*) FROM access_refusals") == 2
    assert await engine.db.fetchval("SELECT count(*) FROM events") == events


async def test_a_repeated_upload_is_not_stored_again() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"12345"
        yield b"67890"

    assert len(await uploads.compute_digest(body())) == 32
    with pytest.raises(errors.TooLarge):
        await uploads.compute_digest(body(), ImportLimits(file_bytes_max=9))
