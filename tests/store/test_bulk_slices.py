"""A bulk leaves the event loop to others again and again: no stretch of its work is a large share of the whole."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from caller import Caller
from test_changes import open_store

from oracle.api.hub.participants import Participants
from oracle.api.hub.queue import BulkLimits, BulkQueue
from oracle.api.hub.slices import Slices
from oracle.api.hub.wire import split_list
from oracle.errors import Overloaded
from oracle.identifiers import Reading
from oracle.store.routes import Routes
from oracle.telemetry.metrics import Metrics
from oracle.telemetry.tracing import Tracing

READING = Reading()


@pytest.fixture(scope="module", autouse=True)
def _load_tables() -> None:
    READING.preload()


@asynccontextmanager
async def open_participants(
    database_url: str, redis_url: str | None, timeout_s: float = 300
) -> AsyncIterator[Participants]:
    metrics = Metrics.open(None, "hub", 0)
    async with open_store(database_url, redis_url) as store:
        routes = Routes(store.postgres.reads.fetch_routes)
        participants = Participants(
            store.lookups, store.changes, routes, metrics, Tracing.open("t", None), change_timeout_s=timeout_s,
            reading=READING,
        )  # fmt: skip
        yield participants
        await participants.close()


def send(participants: Participants, body: bytes, source: str = "a") -> asyncio.Future[tuple[int, bytes]]:
    caller = Caller()
    headers = [(b"fspiop-source", source.encode())]
    participants.serve(caller.make_request("POST", b"/participants", headers, body))
    return caller.answered


@contextmanager
def measure_turns() -> Iterator[list[float]]:
    """Measure the CPU time of each callback of the loop, in seconds.  Other processes make it no longer."""
    turns: list[float] = []
    run = asyncio.Handle._run

    def run_measured(handle: asyncio.Handle) -> None:
        began_s = time.thread_time()
        run(handle)
        turns.append(time.thread_time() - began_s)

    gc.disable()  # a worker has frozen the objects of its start, which this process has not
    asyncio.Handle._run = run_measured  # type: ignore[method-assign, assignment]
    try:
        yield turns
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]
        gc.enable()


def make_items(kind: str, identifiers: Iterable[str], **more: object) -> list[dict[str, object]]:
    return [{"partyIdType": kind, "partyIdentifier": text, "fspId": "a", **more} for text in identifiers]


def make_bulk(items: list[dict[str, object]]) -> bytes:
    return json.dumps({"requestId": "b51ec534-ee48-4575-b6a9-ead2955b8069", "partyList": items}).encode()


EXTENSIONS = {"extension": [{"key": f"k{n}", "value": "},{" + "v" * 20} for n in range(4)]}
BULKS = {
    "slow numbers": make_items("MSISDN", (f"+218028{n:04}" for n in range(1_000))),
    "other letters": make_items("ACCOUNT_ID", (f"{n:04}" + "a\u0301" * 62 for n in range(1_000))),
    "refused": make_items("MSISDN", (f"0{n}" for n in range(5_000))),
    "ordinary": make_items("MSISDN", (f"52551234{n:04}" for n in range(5_000))),
    "lists within items": make_items("ALIAS", (f"e{n}" for n in range(2_000)), extensionList=EXTENSIONS),
}
# The answer is made in one turn: on some machines that takes a tenth of a bulk whose items are refused.
SHARE_MAX = 1 / 7


# A stretch of the work is large each time.  Once, on a busy machine, a turn can pay for what others did to the caches.
MEASURED = 3


async def measure_share(participants: Participants, name: str) -> float:
    """Send a bulk; return the share of the CPU time that its longest turn took."""
    with measure_turns() as turns:
        status, body = await send(participants, make_bulk(BULKS[name]))
    assert status == 201
    assert len(json.loads(body)["partyList"]) == len(BULKS[name])
    return max(turns) / sum(turns)


@pytest.mark.parametrize("cached", [True, False])
async def test_no_turn_of_the_loop_does_a_large_share_of_a_bulk(
    database_url: str, redis_url: str, cached: bool
) -> None:
    """Whatever is slow: reading an identifier, the list, PostgreSQL's part or the answer."""
    async with open_participants(database_url, redis_url if cached else None) as participants:
        await send(participants, make_bulk(BULKS["slow numbers"][:1]))  # compiles patterns
        shares = {}
        for name in BULKS if cached else ["ordinary"]:  # without a cache, all items are one transaction
            shares[name] = 1.0
            for _ in range(MEASURED):
                if shares[name] >= SHARE_MAX:
                    shares[name] = await measure_share(participants, name)
    assert max(shares.values()) < SHARE_MAX, shares


async def test_bulks_share_the_turns_of_the_loop() -> None:
    """However many bulks there are, others wait for one slice of one of them."""
    slices, took = Slices(slice_s=0), []

    async def work() -> None:
        for _ in range(20):
            await slices.rest()
            took.append(turn)

    turn = 0
    bulks = [asyncio.create_task(work()) for _ in range(10)]
    while not all(bulk.done() for bulk in bulks):
        await asyncio.sleep(0)
        turn += 1
    assert max(Counter(took).values()) == 1


async def test_a_source_has_one_bulk_at_work_and_its_bulks_do_not_delay_another_source() -> None:
    queue, order = BulkQueue(), []
    release = asyncio.Event()

    async def work(source: str) -> None:
        async with queue.admit(source, wait_s=60):
            order.append(source)
            await release.wait()

    async with asyncio.TaskGroup() as group:
        for source in ["a", "a", "a", "b", "c"]:
            group.create_task(work(source))
        await asyncio.sleep(0)
        assert order == ["a", "b"]  # c waits for a place in the process, the others for one of their source
        release.set()
    assert order == ["a", "b", "a", "c", "a"]


async def test_bulks_that_cannot_wait_are_refused_as_an_overload() -> None:
    queue = BulkQueue(BulkLimits(running_max=2, waiting_max=3, waiting_of_source_max=2))

    async def try_bulk(source: str, wait_s: float) -> str:
        try:
            async with queue.admit(source, wait_s):
                return "done"
        except Overloaded:
            return "refused"

    async with queue.admit("a", 60), queue.admit("b", 60):
        waiting = [asyncio.create_task(try_bulk(source, 60)) for source in ["a", "a", "b"]]
        await asyncio.sleep(0)
        assert await try_bulk("a", 60) == "refused"  # a has two
        assert await try_bulk("c", 60) == "refused"  # the process has three
        waiting.pop().cancel()  # as its time-out does
        await asyncio.sleep(0)
        assert await try_bulk("c", 0) == "refused"  # there was a place to wait, but no time
    assert await asyncio.gather(*waiting) == ["done", "done"]
    assert await try_bulk("c", 0) == "done"


@pytest.mark.parametrize("items", [
    [],
    [1, "},{", None, [[]], {"a": "},{"}],
    [{"a": [{"b": 1}, {"c": '},{"party'}]}] * 3_000,
    [{"a": ["x" * 40_000]}, {}, {"b": [{}] * 20_000}] * 2,
    list(range(20_000)),
])  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_is_split_into_its_items(items: list[object], indent: int | None) -> None:
    pieces = list(split_list(json.dumps(items, indent=indent).encode()))
    assert [json.loads(bytes(raw)) for piece in pieces for raw in piece] == items
