"""Open GET /parties on several workers: errors of ours and answers of payees exclude each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest
from harness import row
from servers import tcp_url, valkey_command

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.exchanges import CLOSED_MAX, OPEN_MAX, Due, Exchanges
from oracle.store.cache.session import RedisSession, Unreachable, dial
from oracle.store.cache.topology import dialler

if TYPE_CHECKING:
    from conftest import StartValkey

    from oracle.run.embedded import ValkeyServer

PAYER: Final = "payerfsp"
PARTY: Final = Party("MSISDN", "525512345678")
PAYEES: Final = ("bankb", "bankc", "bankd")
TIMEOUT_MS: Final = 30_000


def make_get(party: Party = PARTY, source: str = PAYER) -> Asked:
    return Asked(method="GET", resource="parties", source=source, headers=(), party=party)


def make_put(payee: str, party: Party = PARTY, destination: str = PAYER) -> Asked:
    return Asked(method="PUT", resource="parties", source=payee, headers=(), party=party, destination=destination)


@asynccontextmanager
async def open_sessions(url: str, count: int = 2) -> AsyncIterator[list[RedisSession]]:
    sessions = [await dial(url, timeout_ms=TIMEOUT_MS, token_ms=60_000) for _ in range(count)]
    try:
        yield sessions
    finally:
        for session in sessions:
            session.close()


def make_workers(sessions: list[RedisSession], party_timeout_s: float = 0) -> list[Exchanges]:
    def make(session: RedisSession) -> Exchanges:
        return Exchanges(lambda: session if session.alive else None, "t", party_timeout_s=party_timeout_s)

    return [make(session) for session in sessions]


def make_alone(party_timeout_s: float = 0) -> Exchanges:
    """A worker without Redis."""
    return Exchanges(lambda: None, "t", party_timeout_s=party_timeout_s)


# The rules, one by one, with Redis and without --------------------------------------------------------------------


@pytest.fixture(params=["redis", "memory"])
async def workers(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[tuple[Exchanges, Exchanges]]:
    """Two workers that share Redis, or one worker without it, twice."""
    if request.param == "memory":
        alone = make_alone()
        yield alone, alone
        return
    async with open_sessions(redis_url) as sessions:
        one, other = make_workers(sessions)
        yield one, other


async def test_an_answer_that_matches_nothing_is_forwarded(workers: tuple[Exchanges, Exchanges]) -> None:
    one, other = workers
    assert await one.answer(make_put("bankb"))
    await one.start(make_get(), ["bankb"])
    assert await other.answer(make_put("bankb"))
    assert await one.answer(make_put("bankb"))


async def test_no_error_follows_an_answer(workers: tuple[Exchanges, Exchanges]) -> None:
    one, other = workers
    asked = make_get()
    await one.start(asked, ["bankb"])
    assert await other.answer(make_put("bankb"))
    assert not await one.fail(asked)
    assert await one.end(asked) == "closed"


async def test_no_answer_follows_an_error(workers: tuple[Exchanges, Exchanges]) -> None:
    one, other = workers
    asked = make_get()
    await one.start(asked, ["bankb"])
    assert await one.fail(asked)
    assert not await other.answer(make_put("bankb"))
    assert not await other.answer(make_put("bankb"))
    assert not await one.fail(asked)


async def test_any_payee_that_was_asked_can_answer(workers: tuple[Exchanges, Exchanges]) -> None:
    one, other = workers
    for payee in ("bankb", "bankc"):
        asked = make_get()
        await one.start(asked, ["bankb", "bankc"])
        assert await other.answer(make_put(payee))
        assert not await one.fail(asked)
    refused = make_get()
    await one.start(refused, ["bankb", "bankc"])
    assert await one.fail(refused)
    for payee in ("bankb", "bankc"):
        assert not await other.answer(make_put(payee))


async def test_two_open_requests_get_two_answers(workers: tuple[Exchanges, Exchanges]) -> None:
    one, other = workers
    first, second = make_get(), make_get()
    await one.start(first, ["bankb"])
    await other.start(second, ["bankb"])
    assert await one.answer(make_put("bankb"))
    assert await one.answer(make_put("bankb"))
    assert not await one.fail(first)
    assert not await other.fail(second)


async def test_one_error_leaves_the_other_request_its_answer(workers: tuple[Exchanges, Exchanges]) -> None:
    one, other = workers
    first, second = make_get(), make_get()
    await one.start(first, ["bankb"])
    await other.start(second, ["bankb"])
    assert await one.fail(first)
    assert await one.answer(make_put("bankb"))
    assert not await one.answer(make_put("bankb"))
    assert not await other.fail(second)


@row("L27a")
async def test_what_an_unasked_fsp_sends_is_forwarded_and_closes_no_request(
    workers: tuple[Exchanges, Exchanges],
) -> None:
    one, other = workers
    failed, answered = make_get(), make_get()
    await one.start(failed, ["bankb"])
    assert await other.answer(make_put("bankz"))
    assert await one.fail(failed)
    assert await other.answer(make_put("bankz"))
    await one.start(answered, ["bankb"])
    assert await other.answer(make_put("bankz"))
    assert await other.answer(make_put("bankb"))
    assert not await one.fail(answered)


async def test_another_payer_party_or_sub_id_is_another_exchange(workers: tuple[Exchanges, Exchanges]) -> None:
    one, other = workers
    asked = make_get()
    await one.start(asked, ["bankb"])
    assert await one.fail(asked)
    assert await other.answer(make_put("bankb", destination="otherfsp"))
    assert await other.answer(make_put("bankb", Party("MSISDN", "525512345678", "S1")))
    assert await other.answer(make_put("bankb", Party("ALIAS", "525512345678")))
    assert await other.answer(make_put("bankb", Party("MSISDN", "525512345679")))
    assert not await other.answer(make_put("bankb"))


# Random orders on two workers, against a model ------------------------------------------------------------------


@dataclass
class Request:
    asked: Asked
    payees: frozenset[str]
    state: str = "open"


@dataclass
class Model:
    """What a payer hears of its requests for one party: the rules of the module, on a list."""

    requests: list[Request] = field(default_factory=list)

    def start(self, asked: Asked, payees: list[str]) -> None:
        self.requests.append(Request(asked, frozenset(payees)))

    def fail(self, request: Request) -> bool:
        if request.state != "open":
            return False
        request.state = "error"
        return True

    def end(self, request: Request) -> bool:
        if request.state == "open":
            request.state = "error"
        return request.state == "error"

    def answer(self, payee: str) -> bool:
        asked = [r for r in self.requests if payee in r.payees]
        open_ones = [r for r in asked if r.state == "open"]
        if not open_ones and any(r.state == "error" for r in asked):
            return False
        if open_ones:
            open_ones[0].state = "answered"
        return True


async def check_random_order(workers: list[Exchanges], seed: int, steps: int) -> None:
    rng = random.Random(seed)
    party = Party("ALIAS", f"party{seed}")
    model = Model()
    for _ in range(steps):
        worker = rng.choice(workers)
        step = rng.choice(("start", "start", "fail", "fail", "answer", "answer", "end"))
        if step == "start":
            asked, payees = make_get(party), rng.sample(PAYEES, rng.choice((1, 1, 2, 3)))
            await worker.start(asked, payees)
            model.start(asked, payees)
        elif step == "answer":
            payee = rng.choice(PAYEES)
            assert await worker.answer(make_put(payee, party)) == model.answer(payee), seed
        elif model.requests:
            request = rng.choice(model.requests)
            if step == "fail":
                assert await worker.fail(request.asked) == model.fail(request), seed
            else:
                ended = await worker.end(request.asked)
                assert (ended == "tell") == model.end(request), seed


@pytest.mark.parametrize("party_timeout_s", [0, 600])
async def test_two_workers_do_what_the_model_does(redis_url: str, party_timeout_s: float, complete: bool) -> None:
    async with open_sessions(redis_url) as sessions:
        workers = make_workers(sessions, party_timeout_s)
        for seed in range(2_000 if complete else 60):
            await check_random_order(workers, seed, 25)


async def test_a_worker_without_redis_does_what_the_model_does() -> None:
    for seed in range(200):
        await check_random_order([make_alone()], seed, 25)


@row("K23")
async def test_of_an_answer_and_an_error_that_race_one_wins(redis_url: str) -> None:
    async with open_sessions(redis_url) as sessions:
        one, other = make_workers(sessions)
        for number in range(100):
            party = Party("ALIAS", f"race{number}")
            asked = make_get(party)
            await one.start(asked, ["bankb"])
            both = (one.fail(asked), other.answer(make_put("bankb", party)))
            pair = await asyncio.gather(*(both if number % 2 else reversed(both)))
            assert sorted(pair) == [False, True]


# Bounds, keys, expiry -------------------------------------------------------------------------------------------


@row("K25")
async def test_a_party_that_is_asked_for_without_end_takes_bounded_room(redis_url: str) -> None:
    async with open_sessions(redis_url) as sessions:
        one, other = make_workers(sessions)
        key = one.keys.exchange(PAYER, PARTY)
        answered = [make_get() for _ in range(3 * CLOSED_MAX)]
        for asked in answered:
            await one.start(asked, ["bankb"])
            assert await other.answer(make_put("bankb"))
        assert (await sessions[0].call((b"HLEN", key)))[0] <= CLOSED_MAX + 1
        assert not any([await one.fail(asked) for asked in answered])
        waiting = [make_get() for _ in range(OPEN_MAX + 20)]
        for asked in waiting:
            await one.start(asked, ["bankb"])
        assert (await sessions[0].call((b"HLEN", key)))[0] <= OPEN_MAX + 1
        told = [await one.fail(asked) for asked in waiting]
        assert all(told)


@row("K22")
async def test_keys_hold_no_identifier_are_of_one_slot_and_expire(valkey_server: ValkeyServer, redis_url: str) -> None:
    async with open_sessions(redis_url) as sessions:
        one, _ = make_workers(sessions, party_timeout_s=5)
        await one.start(make_get(), ["bankb"])
        (names,) = await sessions[0].call((b"KEYS", b"*"))
        assert sorted(names) == sorted([one.keys.due, one.keys.exchange(PAYER, PARTY)])
        for name in names:
            assert name.startswith(b"t:{dfsp}:")
            assert PARTY.identifier.encode() not in name
            assert 0 < (await sessions[0].call((b"PTTL", name)))[0] <= 700_000
    assert valkey_command(valkey_server, "FLUSHALL") == b"+OK\r\n"


async def test_an_answer_ends_the_time_out(redis_url: str) -> None:
    async with open_sessions(redis_url) as sessions:
        one, other = make_workers(sessions, party_timeout_s=5)
        first, second = make_get(), make_get()
        await one.start(first, ["bankb"])
        assert (await sessions[0].call((b"ZCARD", one.keys.due)))[0] == 1
        assert await other.answer(make_put("bankb"))
        assert (await sessions[0].call((b"ZCARD", one.keys.due)))[0] == 0
        await one.start(second, ["bankb"])
        assert await one.fail(second)
        assert (await sessions[0].call((b"ZCARD", one.keys.due)))[0] == 0


@row("K20")
async def test_an_answered_request_is_kept_only_until_its_call_has_ended(redis_url: str) -> None:
    async with open_sessions(redis_url) as sessions:
        one, other = make_workers(sessions)
        key = one.keys.exchange(PAYER, PARTY)
        for _ in range(2):
            await one.start(make_get(), ["bankb"])
        lives = []
        for _ in range(2):
            assert await other.answer(make_put("bankb"))
            lives += await sessions[0].call((b"PTTL", key))
        assert 30_000 < lives[0] <= 120_000
        assert 0 < lives[1] <= 30_000
        refused = make_get()
        await one.start(refused, ["bankb"])
        assert await one.fail(refused)
        await one.start(make_get(), ["bankb"])
        assert await other.answer(make_put("bankb"))
        assert (await sessions[0].call((b"PTTL", key)))[0] > 30_000


async def test_requests_are_dropped_when_their_time_is_over(redis_url: str) -> None:
    """An answer that comes later matches nothing."""
    async with open_sessions(redis_url) as sessions:
        short = Exchanges(lambda: sessions[0], "t", kept_s=0.001, call_timeout_s=0)
        long = Exchanges(lambda: sessions[1], "t")
        asked = make_get()
        await short.start(asked, ["bankb"])
        await short.fail(asked)
        while (await sessions[0].call((b"EXISTS", short.keys.exchange(PAYER, PARTY))))[0]:
            pass
        assert await long.answer(make_put("bankb"))


@row("K22")
async def test_in_a_cluster_all_is_in_one_slot(start_valkey: StartValkey) -> None:
    server = await start_valkey({"cluster-enabled": "yes"})
    node = await dial(tcp_url(server), timeout_ms=TIMEOUT_MS, token_ms=60_000)
    await node.call((b"CLUSTER", b"ADDSLOTSRANGE", 0, 16383))
    while b"cluster_state:ok" not in (await node.call((b"CLUSTER", b"INFO")))[0]:
        pass
    node.close()
    host = tcp_url(server).partition("://")[2]
    session = await dialler(f"redis+cluster://{host}", timeout_ms=TIMEOUT_MS, token_ms=60_000)()
    exchanges = Exchanges(lambda: session, "t", party_timeout_s=5)
    asked = make_get()
    await exchanges.start(asked, ["bankb"])
    assert await exchanges.fail(asked)
    exchanges.note_told(asked)
    assert not await exchanges.answer(make_put("bankb"))
    assert await exchanges.end(asked) == "closed"
    session.close()


# Without Redis --------------------------------------------------------------------------------------------------


@row("K24")
async def test_what_redis_cannot_keep_is_kept_in_memory(redis_url: str) -> None:
    async with open_sessions(redis_url) as sessions:
        one, other = make_workers(sessions)
        before, after = make_get(Party("ALIAS", "before")), make_get(Party("ALIAS", "after"))
        await one.start(before, ["bankb"])
        sessions[0].close()
        await one.start(after, ["bankb"])
        # The worker knows the second one, and cannot know the first: nothing is withheld, no error is kept back.
        assert await one.answer(make_put("bankb", Party("ALIAS", "after")))
        assert not await one.fail(after)
        assert await one.answer(make_put("bankb", Party("ALIAS", "before")))
        assert await one.fail(before)
        assert await other.answer(make_put("bankb", Party("ALIAS", "before")))


@row("K24")
async def test_what_a_full_redis_refuses_is_kept_in_memory(start_valkey: StartValkey) -> None:
    server = await start_valkey({"maxmemory": "3mb", "maxmemory-policy": "noeviction"})
    session = await dial(server.url(), timeout_ms=TIMEOUT_MS, token_ms=60_000)
    for size in (100_000, 1_000, 10):  # a command takes room itself, which comes back after it
        number = 0
        while (await session.call((b"SET", b"%d-%d" % (size, number), b"x" * size)))[0] == b"OK":
            number += 1
    worker, other = Exchanges(lambda: session, "t"), Exchanges(lambda: session, "t")
    asked = make_get()
    await worker.start(asked, ["bankb"])
    assert await other.answer(make_put("bankb"))  # another worker knows nothing of it, and forwards
    assert await worker.fail(asked)
    assert not await worker.answer(make_put("bankb"))
    assert session.alive
    session.close()


async def test_an_error_from_the_time_without_redis_withholds_no_answer_to_a_later_request(redis_url: str) -> None:
    async with open_sessions(redis_url) as sessions:
        session: list[RedisSession | None] = [None]
        worker = Exchanges(lambda: session[0], "t")
        first, second = make_get(), make_get()
        await worker.start(first, ["bankb"])
        assert await worker.fail(first)
        session[0] = sessions[0]
        assert not await worker.answer(make_put("bankb"))
        await worker.start(second, ["bankb"])
        assert await worker.answer(make_put("bankb"))
        assert not await worker.fail(second)
        assert not await worker.answer(make_put("bankb"))


async def test_a_full_memory_keeps_nothing_more_and_withholds_nothing() -> None:
    alone = Exchanges(lambda: None, "t", memory_max=1)
    first, second = make_get(Party("ALIAS", "first")), make_get(Party("ALIAS", "second"))
    await alone.start(first, ["bankb"])
    await alone.start(second, ["bankb"])
    assert await alone.answer(make_put("bankb", Party("ALIAS", "second")))
    assert await alone.fail(second)
    assert await alone.answer(make_put("bankb", Party("ALIAS", "first")))
    assert not await alone.fail(first)


async def test_the_memory_is_given_back() -> None:
    alone = Exchanges(lambda: None, "t", kept_s=0, call_timeout_s=0, memory_max=1)
    await alone.start(make_get(), ["bankb"])
    assert alone.sweep() == []
    again = make_get()
    await alone.start(again, ["bankb"])
    assert await alone.fail(again)
    assert not await alone.answer(make_put("bankb"))


async def test_a_time_out_in_memory_is_due_once() -> None:
    alone = make_alone(party_timeout_s=0.001)
    asked = make_get(Party("MSISDN", "525512345678", "S1"))
    await alone.start(asked, ["bankb"])
    due: list[Due] = []
    while not due:
        due = alone.sweep()
    assert due[0].ask_again().party == asked.party
    assert alone.sweep() == []
    assert not await alone.answer(make_put("bankb", Party("MSISDN", "525512345678", "S1")))


async def test_an_end_that_is_not_certain_is_reported(redis_url: str) -> None:
    async with open_sessions(redis_url) as sessions:
        one = Exchanges(lambda: sessions[0], "t")
        sessions[0].close()
        with pytest.raises(Unreachable):
            await one.end(make_get())
