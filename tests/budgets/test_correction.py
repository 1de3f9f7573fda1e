"""Several processes share the budget of an FSP through Redis: how exactly, and what they do without it."""

from __future__ import annotations

import asyncio
import random

import pytest
from budget_workers import A_TOKEN, CLASSES, NOBODY, SIZE, WORKERS, Worker, correct, dial, open_workers, scan, settle

from oracle.budgets.changes import reserve
from oracle.budgets.changes import settle as settle_change
from oracle.budgets.correction import State, charge, make_key, read_state, read_tokens

KEY = make_key("t")


@pytest.mark.parametrize("pattern", ["even", "one", "bursts"])
async def test_a_scan_over_two_services_and_four_workers_gets_one_question_a_worker_too_much(
    redis_url: str, pattern: str
) -> None:
    async with open_workers(redis_url, WORKERS) as workers:
        await settle(workers)
        chance = random.Random(17)
        answered = 0
        for _ in range(60):  # as many corrections
            if pattern == "even":
                answered += sum(worker.ask(200) for worker in workers)
            elif pattern == "one":
                answered += workers[0].ask(800)
            else:
                answered += sum(worker.ask(chance.choice([0, 1, 5, 5_000])) for worker in workers)
            await correct(workers)
        over = answered * NOBODY - SIZE
        print(f"{pattern}: {answered} answered of {SIZE / NOBODY:.0f} paid, {over} tokens over")
        assert -NOBODY * WORKERS <= over <= NOBODY * WORKERS + A_TOKEN


async def test_what_a_scan_got_too_much_is_owed(redis_url: str) -> None:
    async with open_workers(redis_url, WORKERS) as workers:
        await settle(workers)
        for worker in workers:
            worker.ask(1_000)
        await scan(workers)
        state = await read_tokens(workers[0].session, "t", CLASSES)  # type: ignore[arg-type]
        assert state.processes == WORKERS
        assert -NOBODY * WORKERS <= state.tokens["bank"] < 0
        assert sum(worker.ask() for worker in workers) == 0


async def test_a_worker_that_starts_brings_at_most_its_share_more(redis_url: str) -> None:
    async with open_workers(redis_url, WORKERS) as workers:
        old, new = workers[:-1], workers[-1]
        await settle(old)
        await correct([new])  # the others do not know of it yet
        answered = await scan(workers)
        assert SIZE <= answered * NOBODY <= SIZE + SIZE / WORKERS + NOBODY * WORKERS + A_TOKEN
        assert sum(worker.ask() for worker in workers) == 0


async def test_a_worker_that_starts_anew_finds_what_was_spent_before(redis_url: str) -> None:
    async with open_workers(redis_url, 2) as (old, new):
        await settle([old])
        assert old.ask(10_000) == SIZE / NOBODY
        await correct([old])
        await correct([new])
        assert new.bucket.left <= A_TOKEN


async def test_without_redis_each_worker_goes_on_with_its_share(redis_url: str) -> None:
    async with open_workers(redis_url, 2) as workers:
        await settle(workers)
        sessions = [worker.session for worker in workers]
        for worker in workers:
            worker.session = None
        answered = 0.0
        for worker in workers:
            share = worker.bucket.left
            answered += share / NOBODY
            assert SIZE / 4 <= share <= SIZE / 2
            assert not await worker.correction.correct()
            assert share <= worker.ask(10_000) * NOBODY <= share + NOBODY + A_TOKEN
            assert not await worker.correction.correct()
            assert worker.ask(10_000) <= 1  # of the refill
        assert workers[0].metrics.read_gauge("budget_corrected") == 0
        for worker, session in zip(workers, sessions, strict=True):
            worker.session = session
        await correct(workers)  # what they took meanwhile counts
        answered += await scan(workers)
        assert abs(answered * NOBODY - SIZE) <= 4 * NOBODY
        assert workers[0].metrics.read_gauge("budget_corrected") == 1


async def test_a_redis_that_lost_the_budgets_gets_them_back(redis_url: str) -> None:
    """Emptied, or replaced by an empty one: else each time would be a full bucket for everybody."""
    async with open_workers(redis_url, WORKERS) as workers:
        old, new = workers[:-1], workers[-1]
        await settle(old)
        answered = old[0].ask(100)
        await settle(old)
        for _ in range(3):
            await old[0].session.ask(KEY, (b"UNLINK", KEY))  # type: ignore[union-attr]
            await charge(old[0].session, "t", CLASSES, {"greenbank": 10.0})  # type: ignore[arg-type]
            await correct([new])  # it starts just now, and knows nothing
            answered += old[0].ask(10)
            await settle(workers)
        state = await read_tokens(new.session, "t", CLASSES)  # type: ignore[arg-type]
        assert state.tokens["bank"] == pytest.approx(SIZE - answered * NOBODY, abs=A_TOKEN)
        answered += await scan(workers)
        assert -NOBODY * WORKERS <= answered * NOBODY - SIZE <= NOBODY * WORKERS + A_TOKEN


@pytest.mark.parametrize("hours", [0.01, 1, 20])
async def test_a_clock_of_redis_that_goes_back_empties_no_bucket(redis_url: str, hours: float) -> None:
    """The hash is as if all had been written by a clock that was ahead."""
    async with open_workers(redis_url, 2) as workers:
        await settle(workers)
        assert workers[0].ask(50) == 50
        await settle(workers)
        for worker in workers:
            assert worker.session is not None
            (fields,) = await worker.session.ask(KEY, (b"HGETALL", KEY))
            for field, at in zip(fields[::2], fields[1::2], strict=True):
                if not field.startswith(b"  "):
                    await worker.session.ask(KEY, (b"HSET", KEY, field, b"%.3f" % (float(at) + hours * 3_600_000)))
            await settle(workers)
            assert worker.correction.processes == 2
        state = await read_tokens(workers[0].session, "t", CLASSES)  # type: ignore[arg-type]
        assert state.tokens["bank"] == pytest.approx(SIZE - 50 * NOBODY, abs=A_TOKEN)
        assert min(worker.bucket.left for worker in workers) > 0


async def test_what_is_asked_while_redis_answers_is_told_the_next_time(redis_url: str) -> None:
    async with open_workers(redis_url, 1) as (worker,):
        await settle([worker])
        for _ in range(5):
            correcting = asyncio.create_task(worker.correction.correct())
            await asyncio.sleep(0)  # it has sent what was taken
            assert worker.ask(20) == 20
            assert await correcting
        await correct([worker])
        assert worker.bucket.left == pytest.approx(SIZE - 5 * 20 * NOBODY, abs=A_TOKEN)


async def test_in_observe_an_empty_bucket_owes_nothing(redis_url: str) -> None:
    session = await dial(redis_url)
    worker = Worker(session, processes=1, enforces=False)
    try:
        await settle([worker])
        assert worker.ask(5_000) == 5_000
        await correct([worker])
        assert worker.metrics.read_gauge("budget_empty", fsp_class="C") == 1
        state = await read_tokens(session, "t", CLASSES)
        assert 0 <= state.tokens["bank"] <= A_TOKEN
        page = worker.metrics.render().decode()
        assert 'moja_oracle_budget_tokens_total{fsp_class="C"} 3000.0' in page
        assert 'moja_oracle_budget_exceeded_total{fsp_class="C"} 4000.0' in page
    finally:
        session.close()


async def test_values_of_another_program_do_no_harm(redis_url: str) -> None:
    async with open_workers(redis_url, 1) as (worker,):
        assert worker.session is not None
        values: dict[str | bytes, str] = {
            "bank": "nonsense", "other": "9" * 400, "green": "nan", "red": "inf", "blue": "-inf", b"\xff\xfe": "-1",
            " x": "nonsense", " y": "nan", " z": "9" * 400, " ": "nan", "  ": "nan", "": "1",
        }  # fmt: skip
        await worker.session.ask(KEY, (b"HSET", KEY, *(word for pair in values.items() for word in pair)))
        for _ in range(70):  # one of them sweeps
            await correct([worker])
        assert worker.correction.processes == 1
        assert worker.bucket.left == SIZE
        await worker.session.ask(KEY, (b"SET", KEY, "no hash"))
        assert not await worker.correction.correct()
        assert worker.ask() == 1
        await worker.session.ask(KEY, (b"DEL", KEY))
        assert await worker.correction.correct()


async def test_full_buckets_and_workers_that_are_gone_leave_redis(redis_url: str) -> None:
    async with open_workers(redis_url, 1) as (worker,):
        assert worker.session is not None
        await worker.session.ask(KEY, (b"HSET", KEY, "green", "1000", " gone", "1000"))
        worker.ask()
        for _ in range(70):
            await correct([worker])
        (fields,) = await worker.session.ask(KEY, (b"HKEYS", KEY))
        assert sorted(field[:3] for field in fields if field[:1] != b" " or field[:2] == b"  ") == [b"  i", b"ban"]
        assert len(fields) == 3


def test_a_reply_of_another_form_counts_as_full_buckets() -> None:
    for reply in (None, [], [1], b"x", [1, [], []]):
        assert read_state(reply, CLASSES) == State({}, 0)


async def test_what_a_change_reserves_and_gives_back_is_taken_from_nobody(redis_url: str) -> None:
    """Also if a correction came between: else changes that succeed would empty the bucket for the other workers."""
    async with open_workers(redis_url, 2) as workers:
        await settle(workers)
        one, other = workers
        for _ in range(50):
            reserved, _ = reserve(one.buckets, one.bucket, 1)
            await correct(workers)
            settle_change(one.buckets, one.bucket, reserved, 0.0)
        await settle(workers)
        state = await read_tokens(other.session, "t", CLASSES)  # type: ignore[arg-type]
        assert state.tokens.get("bank", SIZE) == pytest.approx(SIZE, abs=A_TOKEN)
        assert one.bucket.left == pytest.approx(SIZE / 4, abs=A_TOKEN)
        assert 'budget_tokens_total{fsp_class="C"} 10.0' in one.metrics.render().decode()
