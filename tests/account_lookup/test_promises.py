"""What a worker has accepted is done, or another worker tells its source that it was not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from harness import row
from servers import valkey_command

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.exchanges import Due, Exchanges, Promises
from oracle.api.dfsp.faults import Fault
from oracle.store.cache.session import RedisSession, dial
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from oracle.run.embedded import ValkeyServer

PARTY: Final = Party("MSISDN", "525512345678", "S1")
TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BULK: Final = b'{"requestId":"7c0d8f3c-2a4e-4f5a-9b7e-0a1b2c3d4e5f","partyList":[{"partyIdType":"MSISDN"}]}'


def make_asked(**changed: Any) -> Asked:
    values: dict[str, Any] = {
        "method": "GET", "resource": "parties", "source": "payerfsp", "headers": (), "party": PARTY,
        "traceparent": TRACE,
    }  # fmt: skip
    return Asked(**(values | changed))


class Fsp:
    """Hears the errors.  `hears`: whether it can be reached."""

    def __init__(self) -> None:
        self.errors: list[tuple[Asked, str, str, str]] = []

    async def put_error(
        self, asked: Asked, fsp_id: str, fault: Fault, *, party: Party | None = None, request_id: str = ""
    ) -> bool:
        assert party == asked.party
        self.errors.append((asked, fsp_id, fault.code, request_id))
        return True

    @property
    def codes(self) -> list[str]:
        return [code for _, _, code, _ in self.errors]


class Worker:
    """What a process has.  `kill` ends it as SIGKILL would: nothing is written any more."""

    def __init__(self, session: RedisSession, fsp: Fsp, *, lease_s: float, party_timeout_s: float) -> None:
        self.session: RedisSession | None = session
        self.exchanges = Exchanges(lambda: self.session, "t", party_timeout_s=party_timeout_s)
        self.promises = Promises(
            lambda: self.session, self.exchanges, fsp, Metrics.open(None, "hub", 0), lease_s=lease_s, sweep_s=0.01
        )

    def kill(self) -> None:
        assert self.session is not None
        self.session.close()
        self.session = None


@asynccontextmanager
async def open_workers(
    url: str, *, count: int = 2, lease_s: float = 0.05, party_timeout_s: float = 0
) -> AsyncIterator[tuple[Fsp, list[Worker]]]:
    fsp = Fsp()
    sessions = [await dial(url, timeout_ms=30_000, token_ms=60_000) for _ in range(count)]
    try:
        yield fsp, [Worker(one, fsp, lease_s=lease_s, party_timeout_s=party_timeout_s) for one in sessions]
    finally:
        for session in sessions:
            session.close()


async def sweep_until(worker: Worker, condition: Callable[[], bool]) -> None:
    while not condition():
        await worker.promises.sweep()
        await asyncio.sleep(0.001)


async def find_due(worker: Worker) -> dict[bytes, float]:
    """Wait for the writes of this session; return what is due, and when."""
    assert worker.session is not None
    await asyncio.sleep(0)  # promises are written in the next turn of the loop
    (found,) = await worker.session.call((b"ZRANGE", worker.exchanges.keys.due, 0, -1, b"WITHSCORES"))
    return {found[i]: float(found[i + 1]) for i in range(0, len(found), 2)}


async def end_pause(worker: Worker) -> None:
    """Let workers take at once what others left, as if they had been here for longer than a lease."""
    assert worker.session is not None
    time_ms = b"return redis.call('TIME')[1] * 1000"
    now_ms = await worker.session.run(time_ms, [worker.exchanges.keys.swept], [])
    await worker.session.call((b"SET", worker.exchanges.keys.swept, b"%d 0" % now_ms))


async def make_due_now(worker: Worker) -> None:
    assert worker.session is not None
    key = worker.exchanges.keys.due
    for member in await find_due(worker):
        await worker.session.call((b"ZADD", key, 0, member))


@row("K04", "K08", "D609")
async def test_what_a_killed_worker_left_is_told_with_all_that_its_source_needs(redis_url: str) -> None:
    async with open_workers(redis_url) as (fsp, (dying, living)):
        lookup = make_asked()
        removal = make_asked(method="DELETE", resource="participants", currency="MXN")
        bulk = make_asked(method="POST", resource="participants", party=None, content=json.loads(BULK))
        answer = make_asked(method="PUT", source="payeefsp", destination="payerfsp", is_error=True)
        for asked in (lookup, removal, bulk, answer):
            dying.promises.keep(asked)
        done = dying.promises.keep(make_asked())
        dying.promises.fulfil(done)
        while len(await find_due(dying)) > 4:
            pass
        dying.kill()
        await sweep_until(living, lambda: len(fsp.errors) == 4)
        told = {error[0].name: error for error in fsp.errors}
        for asked in (lookup, removal, bulk, answer):
            again, fsp_id, code, request_id = told[asked.name]
            assert (fsp_id, code) == (asked.source, "2003")
            for member in ("method", "resource", "party", "is_error", "currency", "destination", "traceparent"):
                assert getattr(again, member) == getattr(asked, member)
            assert request_id == ("7c0d8f3c-2a4e-4f5a-9b7e-0a1b2c3d4e5f" if asked is bulk else "")
        while await find_due(living):
            pass


@row("K07")
async def test_a_living_worker_keeps_its_promises_however_long_they_take(redis_url: str) -> None:
    async with open_workers(redis_url, lease_s=600) as (fsp, (slow, other)):
        kept = slow.promises.keep(make_asked())
        assert isinstance(kept, bytes)
        await slow.promises.sweep()
        before = await find_due(slow)
        slow.promises._kept[kept] -= 400  # as if that time were over
        await slow.promises.sweep()
        assert (await find_due(slow))[kept] >= before[kept]
        assert slow.promises._kept[kept] > asyncio.get_running_loop().time() + 500
        await other.promises.sweep()
        assert fsp.errors == []


async def test_each_promise_is_told_by_one_worker(redis_url: str) -> None:
    async with open_workers(redis_url, count=3, lease_s=0.05) as (fsp, (dying, *living)):
        for _ in range(60):
            dying.promises.keep(make_asked(resource="participants"))
        await find_due(dying)
        dying.kill()
        for worker in living:
            await worker.promises.sweep()
            worker.promises._lease_s = 600
        await end_pause(living[0])
        await make_due_now(living[0])
        while len(fsp.errors) < 60:
            await asyncio.gather(*(worker.promises.sweep() for worker in living))
        assert len({error[0].name for error in fsp.errors}) == len(fsp.errors) == 60


@row("K04")
async def test_a_worker_takes_a_bounded_number_at_once(redis_url: str) -> None:
    async with open_workers(redis_url) as (fsp, (dying, living)):
        for _ in range(250):
            dying.promises.keep(make_asked(resource="participants"))
        await find_due(dying)
        dying.kill()
        gate, told = asyncio.Event(), fsp.put_error

        async def wait(*args: Any, **named: Any) -> bool:
            await gate.wait()
            return await told(*args, **named)

        fsp.put_error = wait  # type: ignore[method-assign]
        await sweep_until(living, lambda: len(living.promises._telling) >= 100)
        for _ in range(3):
            await living.promises.sweep()
        assert len(living.promises._telling) == 100
        gate.set()
        await sweep_until(living, lambda: len(fsp.errors) >= 250)
        assert len({error[0].name for error in fsp.errors}) == 250


async def test_a_second_worker_that_is_killed_leaves_the_promise_to_a_third(redis_url: str) -> None:
    async with open_workers(redis_url, count=3) as (fsp, (first, second, third)):
        first.promises.keep(make_asked(resource="participants"))
        await find_due(first)
        first.kill()
        never, told = asyncio.Event(), fsp.put_error

        async def hang(*args: Any, **named: Any) -> bool:  # noqa: ARG001
            return await never.wait()

        fsp.put_error = hang  # type: ignore[method-assign]
        await sweep_until(second, lambda: bool(second.promises._telling))
        second.kill()
        fsp.put_error = told  # type: ignore[method-assign]
        await sweep_until(third, lambda: bool(fsp.errors))
        assert fsp.codes == ["2003"]
        for task in second.promises._telling:
            task.cancel()


@row("K05")
async def test_a_lookup_whose_answer_was_forwarded_gets_no_error_from_another_worker(redis_url: str) -> None:
    async with open_workers(redis_url) as (fsp, (dying, living)):
        answered, open_one = make_asked(party=Party("ALIAS", "a")), make_asked(party=Party("ALIAS", "b"))
        for asked in (answered, open_one):
            dying.promises.keep(asked)
            await dying.exchanges.start(asked, ["payeefsp"])
        dying.kill()
        put = {"method": "PUT", "source": "payeefsp", "destination": "payerfsp"}
        assert await living.exchanges.answer(make_asked(party=Party("ALIAS", "a"), **put))
        await sweep_until(living, lambda: bool(fsp.errors))
        while await find_due(living):
            await living.promises.sweep()
        assert [error[0].name for error in fsp.errors] == [open_one.name]
        assert not await living.exchanges.answer(make_asked(party=Party("ALIAS", "b"), **put))


@row("K02")
async def test_a_stopping_worker_tells_what_it_cannot_finish(redis_url: str) -> None:
    async with open_workers(redis_url, lease_s=600) as (fsp, (stopping, living)):
        await end_pause(living)
        answered, asking, other = (
            make_asked(party=Party("ALIAS", "a")),
            make_asked(),
            make_asked(resource="participants"),
        )
        for asked in (answered, asking, other):
            stopping.promises.keep(asked)
        for asked in (answered, asking):
            await stopping.exchanges.start(asked, ["payeefsp"])
        put = {"method": "PUT", "source": "payeefsp", "destination": "payerfsp"}
        assert await living.exchanges.answer(make_asked(party=Party("ALIAS", "a"), **put))
        assert stopping.promises.hand_over() == 3
        await stopping.promises.close()
        assert {error[0].name for error in fsp.errors} == {asking.name, other.name}
        assert fsp.codes == ["2003", "2003"]
        assert await find_due(stopping) == {}
        assert not await living.exchanges.answer(make_asked(**put))


async def close_late(fsp: Fsp, worker: Worker) -> None:
    """Stop a worker that cannot send its error callbacks in time."""
    never, tell = asyncio.Event(), fsp.put_error

    async def hang(*args: Any, **named: Any) -> bool:  # noqa: ARG001
        return await never.wait()

    fsp.put_error = hang  # type: ignore[method-assign]
    await worker.promises.close(timeout_s=0.02)
    fsp.put_error = tell  # type: ignore[method-assign]
    assert not worker.promises._telling


@row("K02")
async def test_what_a_stopping_worker_cannot_tell_in_time_is_handed_over(redis_url: str) -> None:
    async with open_workers(redis_url, lease_s=600) as (fsp, (stopping, living)):
        await end_pause(living)
        kept = stopping.promises.keep(make_asked(resource="participants"))
        await find_due(stopping)
        stopping.promises.open()
        await close_late(fsp, stopping)
        stopping.promises.fulfil(kept)  # the work was cut: this must not keep the promise
        assert await find_due(stopping) == {kept: 0.0}
        await sweep_until(living, lambda: bool(fsp.errors))
        assert fsp.codes == ["2003"]


@row("K03")
async def test_without_redis_a_stopping_worker_tells_what_it_cannot_finish(redis_url: str) -> None:
    async with open_workers(redis_url, count=1) as (fsp, (alone,)):
        alone.kill()
        answered, asking, other = (
            make_asked(party=Party("ALIAS", "a")),
            make_asked(),
            make_asked(resource="participants"),
        )
        kept = [alone.promises.keep(asked) for asked in (answered, asking, other)]
        for asked in (answered, asking):
            await alone.exchanges.start(asked, ["payeefsp"])
        put = {"method": "PUT", "source": "payeefsp", "destination": "payerfsp"}
        assert await alone.exchanges.answer(make_asked(party=Party("ALIAS", "a"), **put))
        assert alone.promises.hand_over() == 3
        for one in kept:
            alone.promises.fulfil(one)
        await alone.promises.close()
        assert {error[0].name for error in fsp.errors} == {asking.name, other.name}
        assert fsp.codes == ["2003", "2003"]


# Time-outs of payees ----------------------------------------------------------------------------------------------


async def test_a_payee_that_never_answers_is_told_to_the_payer_by_any_worker(redis_url: str) -> None:
    async with open_workers(redis_url, party_timeout_s=0.01) as (fsp, (asking, other)):
        asked = make_asked()
        await asking.exchanges.start(asked, ["payeefsp"])
        asking.kill()
        await sweep_until(other, lambda: bool(fsp.errors))
        again, fsp_id, code, _ = fsp.errors[0]
        assert (fsp_id, code, again.party, again.traceparent) == ("payerfsp", "3303", PARTY, TRACE)
        late = make_asked(method="PUT", source="payeefsp", destination="payerfsp")
        assert not await other.exchanges.answer(late)
        while await find_due(other):
            await other.promises.sweep()
        assert await other.exchanges.end(asked) == "closed"
        assert fsp.codes == ["3303"]


async def test_no_time_out_follows_an_answer_or_another_error(redis_url: str) -> None:
    async with open_workers(redis_url, party_timeout_s=600) as (fsp, (asking, other)):
        await end_pause(other)
        answered, failed, left = (make_asked(party=Party("ALIAS", name)) for name in "abc")
        for asked in (answered, failed, left):
            await asking.exchanges.start(asked, ["payeefsp"])
        put = {"method": "PUT", "source": "payeefsp", "destination": "payerfsp"}
        assert await other.exchanges.answer(make_asked(party=Party("ALIAS", "a"), **put))
        assert await asking.exchanges.fail(failed)
        await make_due_now(other)
        await sweep_until(other, lambda: bool(fsp.errors))
        while await find_due(other):
            await other.promises.sweep()
        assert [(error[0].name, error[2]) for error in fsp.errors] == [(left.name, "3303")]


async def test_without_redis_the_worker_itself_notices_the_time_out(redis_url: str) -> None:
    async with open_workers(redis_url, count=1, party_timeout_s=0.01) as (fsp, (alone,)):
        alone.kill()
        await alone.exchanges.start(make_asked(), ["payeefsp"])
        await sweep_until(alone, lambda: bool(fsp.errors))
        assert fsp.codes == ["3303"]


# Trouble with Redis -----------------------------------------------------------------------------------------------


@row("K09")
async def test_a_promise_is_written_again_after_redis_lost_it(valkey_server: ValkeyServer, redis_url: str) -> None:
    async with open_workers(redis_url, count=3, lease_s=0.05) as (fsp, (worker, new, other)):
        kept = worker.promises.keep(make_asked(resource="participants"))
        await worker.promises.sweep()
        assert valkey_command(valkey_server, "FLUSHALL") == b"+OK\r\n"
        worker.session = None
        made_meanwhile = worker.promises.keep(make_asked(resource="participants"))
        assert await find_due(other) == {}
        worker.session = new.session
        await worker.promises.sweep()
        assert set(await find_due(worker)) == {kept, made_meanwhile}
        worker.kill()
        await sweep_until(other, lambda: len(fsp.errors) == 2)


@row("K09")
async def test_a_promise_is_written_again_after_redis_was_emptied(valkey_server: ValkeyServer, redis_url: str) -> None:
    async with open_workers(redis_url, lease_s=600) as (_, (worker, other)):
        kept = {worker.promises.keep(make_asked(resource="participants")) for _ in range(3)}
        await worker.promises.sweep()
        assert valkey_command(valkey_server, "FLUSHALL") == b"+OK\r\n"
        await worker.promises.sweep()
        await find_due(worker)
        assert set(await find_due(other)) == kept


@row("K10")
async def test_what_was_done_while_redis_was_away_is_not_told(redis_url: str) -> None:
    async with open_workers(redis_url, count=3, lease_s=0.05) as (fsp, (worker, new, other)):
        kept = worker.promises.keep(make_asked(resource="participants"))
        left = worker.promises.keep(make_asked(resource="participants"))
        assert set(await find_due(worker)) == {kept, left}
        worker.session = None
        worker.promises.fulfil(kept)
        await worker.promises.sweep()  # without Redis: what is done is remembered
        worker.session = new.session
        await worker.promises.sweep()
        assert set(await find_due(worker)) == {left}
        worker.kill()
        await sweep_until(other, lambda: bool(fsp.errors))
        assert len(fsp.errors) == 1


@row("K02")
async def test_a_new_worker_takes_at_once_if_others_were_there(redis_url: str) -> None:
    async with open_workers(redis_url, count=3, lease_s=600) as (fsp, (old, stopping, new)):
        await end_pause(old)
        await old.promises.sweep()
        stopping.promises.keep(make_asked(resource="participants"))
        await close_late(fsp, stopping)
        await new.promises.sweep()
        assert list(new.promises._telling.values()) != []
        await sweep_until(new, lambda: bool(fsp.errors))


@row("K10")
async def test_after_a_time_without_any_sweep_nothing_is_taken_at_first(redis_url: str) -> None:
    async with open_workers(redis_url, lease_s=600) as (fsp, (back, late)):
        await end_pause(back)
        back.promises._gap_s = -1  # any pause is too long
        late.promises.keep(make_asked(resource="participants"))
        await make_due_now(late)
        for _ in range(3):
            await back.promises.sweep()
        assert fsp.errors == []


@row("K10")
async def test_a_worker_takes_nothing_before_the_others_had_time_to_come_back(redis_url: str) -> None:
    async with open_workers(redis_url, lease_s=600) as (fsp, (back, late)):
        late.promises.keep(make_asked(resource="participants"))
        await make_due_now(late)
        for _ in range(3):
            await back.promises.sweep()
        assert fsp.errors == []


async def test_a_member_that_is_no_promise_is_removed(redis_url: str) -> None:
    async with open_workers(redis_url) as (fsp, (worker, other)):
        assert other.session is not None
        await other.session.call((b"ZADD", worker.exchanges.keys.due, 0, b"garbage", 0, b"\xc1"))
        while await find_due(worker):
            await worker.promises.sweep()
        assert fsp.errors == []


@row("K21")
async def test_all_that_is_in_redis_expires(redis_url: str) -> None:
    async with open_workers(redis_url) as (_, (worker, other)):
        worker.promises.keep(make_asked())
        assert len(await find_due(worker)) == 1
        assert other.session is not None
        assert 0 < (await other.session.call((b"PTTL", worker.exchanges.keys.due)))[0] <= 600_000


async def test_a_worker_that_cannot_ask_redis_tells_later(redis_url: str) -> None:
    async with open_workers(redis_url) as (fsp, (worker, _)):
        due = Due.of(make_asked(), "promise")
        assert worker.session is not None
        worker.session.close()
        await worker.promises._tell(due, b"member")
        assert fsp.errors == []
