"""What FSPs get when their budget is used up: lookups, registrations and bulks of the hub, and requests of DFSPs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from caller import Caller
from valkey_cluster import cluster, cluster_url, until

from oracle.api.http.request import PlainRequest
from oracle.api.hub.participants import Participants
from oracle.budgets.buckets import Bucket, Buckets
from oracle.budgets.emptiness import Emptiness
from oracle.budgets.work import open_budgets
from oracle.identifiers import Reading
from oracle.run.wiring import open_store
from oracle.settings import Settings, SettingsError, load
from oracle.telemetry.metrics import Metrics
from oracle.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from conftest import StartValkey

OVER = (429, "2005")
SIZE = 300
SIZES = tuple((name, SIZE, 3) for name in ("A", "B", "C", "D", "E", "unknown"))
STATED: dict[str, Any] = {"budget_als_cache_off": "yes", "budget_sources_bound": "yes"}


@dataclass
class Hub:
    participants: Participants
    budgets: Buckets
    metrics: Metrics

    async def look(self, number: int, source: str = "bank") -> tuple[int, str]:
        """Look up; return the status, and the code of the error or who answers."""
        caller = Caller()
        target = b"/participants/MSISDN/5255%08d" % number
        data = b"GET %b HTTP/1.1\r\nhost: x\r\nfspiop-source: %b\r\naccept: y\r\n\r\n" % (target, source.encode())
        request = PlainRequest(caller._turns, target, data)
        caller._turns.current = request
        self.participants.serve(request)
        return read(await caller.answered)

    async def change(self, method: str, number: int, source: str = "bank") -> tuple[int, str]:
        body = b"" if method == "DELETE" else json.dumps({"fspId": source}).encode()
        return read(await self.send(method, b"/participants/MSISDN/5255%08d" % number, body, source))

    async def send(self, method: str, target: bytes, body: bytes, source: str = "bank") -> tuple[int, bytes]:
        caller = Caller()
        headers = [(b"fspiop-source", source.encode())]
        self.participants.serve(caller.make_request(method, target, headers, body))
        return await caller.answered

    def left(self, source: str = "bank") -> float:
        return self.budgets.of(source.encode()).left


def read(answer: tuple[int, bytes]) -> tuple[int, str]:
    status, body = answer
    document = json.loads(body or b"{}")
    if "errorInformation" in document:
        return status, document["errorInformation"]["errorCode"]
    return status, ",".join(entry["fspId"] for entry in document.get("partyList", ()))


@asynccontextmanager
async def open_hub(database_url: str, redis_url: str, mode: str = "enforce", **settings: Any) -> AsyncIterator[Hub]:
    """A hub worker whose budgets are not corrected while the test runs, so that its figures are exact."""
    await fill(database_url)
    emptiness, every_s = settings.pop("emptiness", None), settings.pop("every_s", 3_600.0)
    stated: Any = {"budget_mode": mode, "budget_sizes": SIZES, **STATED, **settings}
    made = Settings(database_url=database_url, redis_url=redis_url, **stated)
    metrics = Metrics.open(None, "hub", 0)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(made, metrics))
        async with asyncio.timeout(60):
            while store.find_session() is None:  # noqa: ASYNC110 - without Redis it begins with a share of the buckets
                await asyncio.sleep(0.01)
        budgets = await stack.enter_async_context(
            open_budgets(
                made, store.postgres, store.find_session, metrics, channel="hub", every_s=every_s, emptiness=emptiness
            )
        )
        assert budgets is not None
        participants = Participants(
            store.lookups, store.changes, store.routes, metrics, Tracing.open("t", None), change_timeout_s=60,
            reading=Reading(), budgets=budgets,
        )  # fmt: skip
        yield Hub(participants, budgets, metrics)
        await participants.close()


async def fill(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ('bank'), ('greenbank')")
        await connection.execute(
            "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
            " SELECT 'MSISDN', '5255' || lpad(n::text, 8, '0'), 'greenbank' FROM generate_series(10000000, 10000999) n"
        )
    finally:
        await connection.close()


@pytest.fixture(autouse=True)
def _preloaded() -> None:
    Reading().preload()


HELD, FREE = 10_000_000, 20_000_000  # the first numbers


async def test_a_scan_gets_what_its_tokens_pay_and_then_429(database_url: str, redis_url: str) -> None:
    async with open_hub(database_url, redis_url) as hub:
        answers = await asyncio.gather(*(hub.look(FREE + number) for number in range(400)))
        assert answers.count((200, "")) == SIZE / 3
        assert answers.count(OVER) == 400 - SIZE / 3
        assert await hub.look(HELD) == OVER
        assert await hub.look(HELD, "greenbank") == (200, "greenbank")  # others go on
        assert await hub.look(HELD, "stranger-1") == (200, "greenbank")
        page = hub.metrics.render().decode()
        assert 'lookups_total{party_id_type="MSISDN",result="over_budget"} 301.0' in page
        assert 'errors_total{code="2005"} 0.0' in page  # it is no fault of the service


async def test_a_lookup_costs_what_its_answer_tells(database_url: str, redis_url: str) -> None:
    async with open_hub(database_url, redis_url) as hub:
        for ask, cost in (
            (hub.look(HELD), 1),
            (hub.look(FREE), 3),
            (hub.look(FREE), 3),  # from the cache
            (hub.change("POST", HELD), 10),
            (hub.change("DELETE", HELD), 10),
            (hub.change("PUT", HELD), 10),
            (hub.change("DELETE", FREE), 3),
            (hub.change("POST", FREE), 0),
            (hub.change("POST", FREE), 0),
            (hub.change("DELETE", FREE), 0),
            (hub.look(12), 3),
        ):
            before = hub.left()
            await ask
            assert before - hub.left() == pytest.approx(cost)
        assert hub.left("greenbank") == SIZE


async def test_strangers_share_one_bucket(database_url: str, redis_url: str) -> None:
    async with open_hub(database_url, redis_url) as hub:
        answers = [await hub.look(FREE + number, f"stranger-{number}") for number in range(SIZE // 3 + 5)]
        assert answers.count(OVER) == 5
        assert await hub.look(HELD) == (200, "greenbank")


async def test_an_fsp_of_another_scheme_that_the_settings_name_has_a_bucket_of_its_own(
    database_url: str, redis_url: str
) -> None:
    async with open_hub(database_url, redis_url, budget_fsps=(("foreignbank", "A"),)) as hub:
        assert [await hub.look(FREE + n, f"stranger-{n}") for n in range(SIZE // 3 + 1)][-1] == OVER
        assert await hub.look(HELD, "foreignbank") == (200, "greenbank")
        assert hub.left("foreignbank") == SIZE - 1


@pytest.mark.parametrize("costs", [(10, 3), (0, 30), (1, 100)])
async def test_changes_at_the_same_time_cannot_try_more_than_their_tokens_pay(
    database_url: str, redis_url: str, costs: tuple[int, int]
) -> None:
    """The dearest answers count: removals of unregistered aliases, and of aliases of other FSPs."""
    conflict, nobody = costs
    settings: dict[str, Any] = {"budget_cost_conflict": conflict, "budget_cost_nobody": nobody}
    async with open_hub(database_url, redis_url, **settings) as hub:
        first = FREE if nobody > conflict else HELD
        answers = await asyncio.gather(*(hub.change("DELETE", first + number) for number in range(60)))
        assert sum(answer != OVER for answer in answers) == SIZE // max(costs)


async def test_registrations_cannot_scan_either(database_url: str, redis_url: str) -> None:
    async with open_hub(database_url, redis_url) as hub:
        answers = await asyncio.gather(*(hub.change("POST", HELD + number) for number in range(60)))
        assert answers.count((409, "3003")) == SIZE / 10
        assert answers.count(OVER) == 60 - SIZE / 10
        assert await hub.change("POST", FREE) == OVER  # a success would tell that nobody has it


async def test_one_bulk_cannot_try_more_than_its_tokens_pay(database_url: str, redis_url: str) -> None:
    async with open_hub(database_url, redis_url) as hub:
        items = [
            {"partyIdType": "MSISDN", "partyIdentifier": f"5255{HELD + number}", "fspId": "bank"}
            for number in range(99)
        ]
        body = json.dumps({"requestId": "1", "partyList": items}).encode()
        status, answer = await hub.send("POST", b"/participants", body)
        assert status == 201
        codes = [item["errorInformation"]["errorCode"] for item in json.loads(answer)["partyList"]]
        assert codes == ["3003"] * (SIZE // 10) + ["2005"] * (99 - SIZE // 10)
        mine = [{**item, "partyIdentifier": f"5255{FREE + number}"} for number, item in enumerate(items)]
        body = json.dumps({"requestId": "1", "partyList": [{**item, "fspId": "greenbank"} for item in mine]}).encode()
        status, answer = await hub.send("POST", b"/participants", body, "greenbank")
        assert not any("errorInformation" in item for item in json.loads(answer)["partyList"])
        assert hub.left("greenbank") == SIZE


async def test_lookups_go_on_while_a_node_of_a_cluster_is_away(database_url: str, start_valkey: StartValkey) -> None:
    async with cluster(start_valkey) as nodes, open_hub(database_url, cluster_url(nodes), every_s=0.02) as hub:
        await until(lambda: hub.metrics.read_gauge("budget_corrected") == 1)
        nodes[1].kill()
        await until(lambda: hub.metrics.read_gauge("budget_corrected") == 0)
        answers = [await hub.look(FREE + number) for number in range(SIZE // 3 + 20)]
        assert answers[:20] == [(200, "")] * 20
        assert answers[-1] == OVER  # with its share, and no more
        assert await hub.look(HELD, "greenbank") == (200, "greenbank")


async def test_observe_answers_everybody_and_counts(database_url: str, redis_url: str) -> None:
    async with open_hub(database_url, redis_url, "observe", budget_fsps=(("bank", "E"),)) as hub:
        for number in range(SIZE // 3 + 20):
            assert await hub.look(FREE + number) == (200, "")
        assert await hub.change("POST", HELD) == (409, "3003")
        assert hub.budgets.of(b"bank").over == 21


async def test_a_bucket_that_stays_empty_is_one_event_an_hour(database_url: str, redis_url: str) -> None:
    async with open_hub(database_url, redis_url, "observe", emptiness=Emptiness(patience_s=0.01), every_s=0.02) as hub:
        connection = await asyncpg.connect(database_url)
        try:
            query = "SELECT channel, actor, action, fsp_id, after, reason FROM events WHERE entity = 'budget'"
            asked = 0
            while not (events := await connection.fetch(query)):
                for number in range(20):
                    assert (await hub.look(FREE + asked + number))[0] == 200
                asked += 20
            # Another process notices the same.
            changed = await connection.execute(
                "INSERT INTO empty_budgets AS e VALUES ('bank', 'C', 1, 1, 'observe') ON CONFLICT (fsp_id)"
                " DO UPDATE SET noticed_at = now() WHERE e.noticed_at < now() - interval '1 hour'"
            )
            assert changed == "INSERT 0 0"
            (event,) = events
        finally:
            await connection.close()
    assert tuple(event[:4]) == ("hub", "bank", "changed", "bank")
    after = json.loads(event["after"])
    assert {name: after[name] for name in ("fsp_class", "size", "refill", "mode")} == {
        "fsp_class": "C", "size": SIZE, "refill": 3, "mode": "observe",
    }  # fmt: skip
    assert event["reason"] == "the budget has been empty for 5 minutes"


def test_emptiness_is_noticed_after_its_patience_and_ends_with_a_pause() -> None:
    watched = Emptiness(patience_s=300, gap_s=10)
    bucket = Bucket("bank", "C", 0)
    assert [at for at in range(0, 8_000, 5) if watched.look([bucket], at)] == [300, 3_900, 7_500]
    bucket.left = 1
    assert not watched.look([bucket], 8_010)
    bucket.left = 0
    assert [at for at in range(8_020, 13_000, 5) if watched.look([bucket], at)] == [11_100]


@pytest.mark.parametrize("stated", STATED)
def test_enforce_starts_only_when_both_facts_are_stated(stated: str) -> None:
    environ = {"ORACLE_BUDGET_MODE": "enforce"} | {f"ORACLE_{name.upper()}": "yes" for name in STATED if name != stated}
    with pytest.raises(SettingsError) as refused:
        load(environ)
    (problem,) = refused.value.problems
    assert f"ORACLE_{stated.upper()} is not yes" in problem
    assert load({**environ, f"ORACLE_{stated.upper()}": "yes"}).settings.budget_mode == "enforce"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SIZES", "C"), ("SIZES", "X=1/1"), ("SIZES", "C=0/1"), ("SIZES", "C=1441/1"), ("SIZES", "C=1/99999999999"),
        ("SIZES", "C=1/61"), ("SIZES", "C=10000/1000000000"), ("SIZES", "C=8000/2000,C=1/1"), ("SIZES", "C=-1/1"),
        ("SIZES", "C=nan/1"), ("SIZES", "C=1e3/1"), ("SIZES", "C=1/0"), ("FSPS", "bank=A,bank=E"),
        ("COST_FOUND", "-1"), ("COST_NOBODY", "nan"), ("COST_CONFLICT", "1001"), ("COST_NOBODY", "1.5"),
        ("FSPS", "bank"), ("FSPS", "bank=X"), ("FSPS", "=A"), ("FSPS", "a b=A"), ("FSPS", "bank=unknown"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(name: str, text: str) -> None:
    with pytest.raises(SettingsError):
        load({f"ORACLE_BUDGET_{name}": text})


@pytest.mark.parametrize(
    "size", [(1, 60), (1, 1), (1_440, 1), (1_000_000_000, 1_000_000_000), (16_666_667, 1_000_000_000)]
)
async def test_the_smallest_and_the_largest_buckets_answer_and_refuse(
    database_url: str, redis_url: str, size: tuple[int, int]
) -> None:
    sizes = tuple((name, *size) for name, *_ in SIZES)
    async with open_hub(database_url, redis_url, budget_sizes=sizes, every_s=0.01) as hub:
        await until(lambda: hub.metrics.read_gauge("budget_corrected") == 1)
        assert await hub.look(HELD) == (200, "greenbank")
        bucket = hub.budgets.of(b"bank")
        bucket.left = 0.0  # all of it is spent
        assert await hub.look(HELD) == OVER
        if size[1] > 1_000:
            await until(lambda: bucket.left > 0)  # its refill


def test_sizes_and_classes_are_read() -> None:
    made = load({"ORACLE_BUDGET_SIZES": " E = 10/20 ,A=5/5", "ORACLE_BUDGET_FSPS": "bank=A, x=y=E"}).settings
    assert {name: size for name, *size in made.budget_sizes}["E"] == [10, 20]
    assert {name: size for name, *size in made.budget_sizes}["C"] == [8_000, 2_000]
    assert made.budget_fsps == (("bank", "A"), ("x=y", "E"))
