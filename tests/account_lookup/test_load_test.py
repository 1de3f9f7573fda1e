"""The load test of `loadtests/dfsps`: it counts what became of each lookup."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from harness import Bench, open_bench

from loadtests.dfsps.__main__ import count_lost
from loadtests.dfsps.scene import PAYER, Lookup, Manner, Scene, name_party, name_payee, summarize

PAYEES = 2


@pytest.fixture
async def bench(database_url: str, redis_url: str) -> AsyncIterator[Bench]:
    async with open_bench(database_url, redis_url, call_timeout_s=1) as opened:
        yield opened


@pytest.fixture
async def scene(bench: Bench) -> AsyncIterator[Scene]:
    made = Scene(PAYEES)
    await made.open()
    for name in (PAYER, *map(name_payee, range(PAYEES))):
        bench.ledger.endpoints[name] = made.list_endpoints(name)
    made.connect(bench.port, 4)
    for number in range(4):
        target = f"/participants/MSISDN/{name_party(number)}"
        payee = name_payee(number % PAYEES)
        assert (await bench.ask("POST", target, {"fspId": payee}, source=payee)).status == 202
    await bench.settle()
    yield made
    await made.close()


async def test_each_lookup_and_its_answers_are_counted(scene: Scene) -> None:
    lookups = await scene.ask(4, 1_000)
    summary = summarize(lookups)
    assert (summary.asked, summary.accepted, summary.answers, summary.nothing) == (4, 4, {"party": 4}, 0)
    assert summary.puts == {200: 4}
    assert all(0 < lookup.added_s < lookup.done_at - lookup.asked_at for lookup in lookups)
    assert 0 < summary.p50_ms <= summary.p99_ms
    steadily = summarize(await scene.ask_steadily(0.001, 4))
    assert (steadily.asked, steadily.answers, steadily.nothing) == (4, {"party": 4}, 0)
    by_hub = summarize(await scene.ask(4, 1_000, resource="participants"))
    assert (by_hub.answers, by_hub.nothing) == ({"party": 4}, 0)


@pytest.mark.parametrize("manner", ["dead", "hang", "garbage", "cut", "redirect", "refuse"])
async def test_a_payer_hears_of_each_failure_of_a_payee(scene: Scene, manner: Manner) -> None:
    await scene.set_manner(0, manner)
    lookups = await scene.ask(4, 1_000)
    assert [lookup.answers for lookup in lookups] == [["1001"], ["party"]] * 2
    await scene.set_manner(0, "well")


def test_what_was_accepted_and_not_answered_is_lost() -> None:
    lost, refused, cut = (Lookup(0, 0.0) for _ in range(3))
    lost.status, refused.status, cut.status = 202, 503, 0
    summary = summarize([lost, refused, cut])
    assert (summary.nothing, summary.refused) == (1, {503: 1, 0: 1})
    assert "1 got nothing" in summary.describe()
    assert count_lost({"a": {"b": summary._asdict()}, "c": 5}) == 1
