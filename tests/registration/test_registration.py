"""Registration at a stand-in of ALS's admin API, over HTTP, with its events in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from als_stand_in import Als, open_als, write

from oracle.calls import CallLimits, Calls
from oracle.errors import DirectoryUnavailable
from oracle.registration.als_admin import AlsAdmin, AlsFailed
from oracle.registration.registration import Registration, Unfinished
from oracle.registration.rows import list_wanted
from oracle.store.base import Context
from oracle.store.servers import Servers
from oracle.telemetry.metrics import Metrics

OURS = "http://oracle:3000"
THEIRS = "http://other:3000"
CONTEXT = Context(channel="admin", actor="tester", reason="a test")


class World:
    """A registration of MSISDN, an ALS, and the history."""

    def __init__(self, als: Als, database_url: str) -> None:
        self.als = als
        self.database_url = database_url
        self.calls = Calls(Metrics.open(None, "jobs", 0), CallLimits(failures_max=1_000))

    def make(
        self, *types: str, currencies: tuple[str, ...] = (), is_default: bool = False, timeout_s: float = 20
    ) -> Registration:
        wanted = list_wanted(OURS, types or ["MSISDN"], currencies, is_default=is_default)
        servers = Servers(self.database_url)

        async def connect() -> asyncpg.Connection:
            return await servers.connect("test")

        als = AlsAdmin(self.calls, self.als.url, timeout_s=timeout_s)
        return Registration(als, wanted, connect, pauses_s=(0.01, 0.01))

    async def list_events(self) -> list[tuple[str, str, str | None, str | None]]:
        """Action, actor, URL before and after."""
        connection = await asyncpg.connect(self.database_url)
        try:
            rows = await connection.fetch(
                "SELECT action, actor, before->>'url', after->>'url' FROM events WHERE entity = 'als-oracle'"
                " ORDER BY event_id"
            )
        finally:
            await connection.close()
        return [tuple(row) for row in rows]


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_als() as als:
        world = World(als, database_url)
        try:
            yield world
        finally:
            await world.calls.close()


async def test_what_is_missing_is_created_once_each_with_its_event(world: World) -> None:
    registration = world.make("MSISDN", "ALIAS", currencies=("MXN", "USD"), is_default=True)
    assert [each.state for each in await registration.examine()] == ["missing"] * 4
    outcome = await registration.register(CONTEXT, replace=False)
    assert (outcome.is_registered, len(outcome.acts)) == (True, 4)
    assert world.als.shown == [
        (kind, currency, OURS, True) for kind in ("MSISDN", "ALIAS") for currency in ("MXN", "USD")
    ]
    assert (world.als.choose("MSISDN"), world.als.choose_for_bulk("ALIAS", "USD")) == (OURS, OURS)
    assert await world.list_events() == [("registered", "tester", None, OURS)] * 4
    before = len(world.als.calls)
    again = await registration.register(CONTEXT, replace=True)
    assert (again.is_registered, again.acts, world.als.calls[before:]) == (True, (), ["GET /oracles"])
    assert len(await world.list_events()) == 4


async def test_a_wiped_als_is_healed(world: World) -> None:
    registration = world.make()
    for _ in range(2):
        await registration.register(CONTEXT, replace=False)
        assert world.als.choose("MSISDN") == OURS
        world.als.rows.clear()


async def test_a_row_that_differs_is_replaced_only_on_request_and_never_by_put(world: World) -> None:
    number = world.als.have("MSISDN", f"{OURS}/")
    registration = world.make()
    outcome = await registration.register(CONTEXT, replace=False)
    assert [each.code for each in outcome.findings] == ["double_slash"]
    assert (world.als.changes, await world.list_events()) == ([], [])
    outcome = await registration.register(CONTEXT, replace=True)
    assert (outcome.is_registered, world.als.choose("MSISDN")) == (True, OURS)
    assert world.als.changes == [f"DELETE /oracles/{number}", "POST /oracles"]
    assert await world.list_events() == [
        ("removed", "tester", f"{OURS}/", None),
        ("registered", "tester", None, OURS),
    ]


async def test_a_password_in_a_url_of_als_is_in_no_event(world: World) -> None:
    world.als.have("MSISDN", "http://user:secret@other")
    await world.make().register(CONTEXT, replace=True)
    (removed, _) = await world.list_events()
    assert removed[2] == "http://user:***@other"


async def test_a_url_of_als_with_any_characters_can_be_replaced(world: World) -> None:
    world.als.have("MSISDN", "http://other/\0\x1b[31m\n")
    outcome = await world.make().register(CONTEXT, replace=True)
    assert (outcome.is_registered, world.als.shown) == (True, [("MSISDN", None, OURS, False)])
    assert (await world.list_events())[0][2] == "http://other/\ufffd\ufffd[31m\ufffd"


async def test_rows_that_come_back_at_once_do_not_keep_it_at_work_for_ever(world: World) -> None:
    async def add(method: str, _target: str) -> None:
        if method == "GET" and len(world.als.calls) < 1_000:
            world.als.have("MSISDN", THEIRS)

    world.als.have("MSISDN", OURS)
    world.als.fault = add
    with pytest.raises(Unfinished, match="again and again"):
        await world.make().register(CONTEXT, replace=True)
    assert 0 < len(await world.list_events()) < 10


async def test_the_traps_are_refused_and_lookups_go_on(world: World) -> None:
    world.als.have("MSISDN", THEIRS, "MXN")
    for replace in (False, True):
        outcome = await world.make().register(CONTEXT, replace=replace)
        assert [each.code for each in outcome.findings] == ["no_default"]
    outcome = await world.make(is_default=True).register(CONTEXT, replace=False)
    assert [each.code for each in outcome.findings] == ["takes_over"]
    assert (world.als.changes, world.als.choose("MSISDN")) == ([], THEIRS)
    outcome = await world.make(is_default=True).register(CONTEXT, replace=True)
    assert (outcome.is_registered, world.als.choose("MSISDN")) == (True, OURS)
    assert world.als.choose_for_bulk("MSISDN", "MXN") == THEIRS


async def test_two_at_once_create_each_row_once(world: World) -> None:
    one, other = world.make("MSISDN", "ALIAS"), world.make("MSISDN", "ALIAS")
    outcomes = await asyncio.gather(*(each.register(CONTEXT, replace=True) for each in (one, other, one)))
    assert all(each.is_registered for each in outcomes)
    assert sum(len(each.acts) for each in outcomes) == 2
    assert world.als.changes == ["POST /oracles"] * 2
    assert len(await world.list_events()) == 2


GARBAGE: dict[str, bytes] = {
    "no JSON": write(200, b"<html>"),
    "another shape": write(200, b'{"oracles":[]}'),
    "a row without an endpoint": write(200, b'[{"oracleId":1,"oracleIdType":"MSISDN"}]'),
    "a number that is a text": write(200, b'[{"oracleId":"1","oracleIdType":"MSISDN","endpoint":{"value":"x"}}]'),
    "deep": write(200, b"[" * 100_000),
    "nothing": write(200, b""),
    "no HTTP": b"hello\r\n\r\n",
    "an error": write(500, b'{"errorInformation":{"errorCode":"2001","errorDescription":"secret words"}}'),
    "an error without JSON": write(503, b"busy"),
    "an error of another shape": write(500, b'{"errorInformation":["2001"]}'),
    "forbidden": write(403, b""),
    "a redirection": write(302, b"", "location: http://127.0.0.1:1/oracles"),
    "the end of the connection": b"",
}


@pytest.mark.parametrize("case", GARBAGE)
async def test_an_answer_that_is_no_list_changes_nothing(world: World, case: str) -> None:
    async def answer(_method: str, _target: str) -> bytes | None:
        return GARBAGE[case]

    world.als.fault = answer
    with pytest.raises(AlsFailed, match=r"^ALS (answered|cannot be reached)") as failed:
        await world.make().register(CONTEXT, replace=True)
    assert "secret" not in str(failed.value)
    assert (world.als.changes, await world.list_events()) == ([], [])


async def test_an_als_that_is_slow_or_dead_is_given_up(world: World) -> None:
    stuck = asyncio.Event()

    async def wait(_method: str, _target: str) -> bytes | None:
        await stuck.wait()
        return b""

    world.als.fault = wait
    with pytest.raises(AlsFailed, match="did not answer in time"):
        await world.make(timeout_s=0.05).register(CONTEXT, replace=False)
    stuck.set()
    world.als.url = "http://127.0.0.1:1"
    with pytest.raises(AlsFailed, match="no connection can be made"):
        await world.make().register(CONTEXT, replace=False)


def fail_on(method: str, answer: bytes, times: int = 1_000, *, after: Any = lambda: None) -> Any:
    """A fault: the first `times` calls of this method get this answer."""
    left = [times]

    async def fault(called: str, _target: str) -> bytes | None:
        if called != method or not left[0]:
            return None
        left[0] -= 1
        after()
        return answer

    return fault


ERROR = write(500, json.dumps({"errorInformation": {"errorCode": "2001", "errorDescription": "x"}}).encode())


async def test_a_creation_that_als_refuses_leaves_no_event(world: World) -> None:
    for answer in (ERROR, write(400, b""), b""):
        world.als.fault = fail_on("POST", answer)
        with pytest.raises(Unfinished) as failed:
            await world.make().register(CONTEXT, replace=False)
        assert failed.value.acts == ()
    assert (world.als.rows, await world.list_events()) == ([], [])


async def test_a_lost_answer_is_found_by_the_rows(world: World) -> None:
    """ALS created the row, and its answer is lost: one event, and no second row."""
    world.als.fault = fail_on("POST", b"", after=lambda: world.als.have("MSISDN", OURS))
    outcome = await world.make().register(CONTEXT, replace=False)
    assert (outcome.is_registered, len(outcome.acts), len(world.als.rows)) == (True, 1, 1)
    assert await world.list_events() == [("registered", "tester", None, OURS)]


async def test_a_change_with_an_unknown_end_is_in_history(world: World) -> None:
    """The answer of the change is lost, and ALS cannot be read any more: it can have made the change."""

    async def lose(method: str, _target: str) -> bytes | None:
        return b"" if method == "POST" or world.als.changes else None

    world.als.fault = lose
    with pytest.raises(Unfinished) as failed:
        await world.make().register(CONTEXT, replace=False)
    assert failed.value.unknown
    assert await world.list_events() == [("registered", "tester", None, OURS)]


async def test_a_replacement_tries_its_creation_again_at_once(world: World) -> None:
    world.als.have("MSISDN", THEIRS)
    world.als.fault = fail_on("POST", ERROR, times=2)
    outcome = await world.make().register(CONTEXT, replace=True)
    assert (outcome.is_registered, world.als.choose("MSISDN")) == (True, OURS)
    assert [action for action, *_ in await world.list_events()] == ["removed", "registered"]


async def test_a_replacement_that_stops_halfway_is_completed_later_without_permission_to_replace(world: World) -> None:
    world.als.have("MSISDN", THEIRS)
    world.als.fault = fail_on("POST", ERROR)
    with pytest.raises(Unfinished) as failed:
        await world.make().register(CONTEXT, replace=True)
    assert [act.action for act in failed.value.acts] == ["removed"]
    world.als.fault = None
    assert (await world.make().register(CONTEXT, replace=False)).is_registered
    assert [action for action, *_ in await world.list_events()] == ["removed", "registered"]


async def test_an_als_that_accepts_and_shows_nothing_is_not_asked_for_ever(world: World) -> None:
    world.als.fault = fail_on("POST", write(201, b""))
    with pytest.raises(Unfinished, match="its list does not show it"):
        await world.make().register(CONTEXT, replace=False)
    assert world.als.changes == ["POST /oracles"]


async def test_a_row_that_somebody_else_creates_meanwhile_is_no_second_one(world: World) -> None:
    exists = world.als.answer  # the row is there when POST arrives

    def appear() -> None:
        world.als.have("MSISDN", OURS)

    body = json.dumps({"oracleIdType": "MSISDN", "endpoint": {"value": OURS, "endpointType": "URL"}}).encode()

    async def race(method: str, target: str) -> bytes | None:
        if method != "POST":
            return None
        appear()
        return write(*exists(method, target, {"accept": "*/*"}, body))

    world.als.fault = race
    with pytest.raises(Unfinished, match="already"):
        await world.make().register(CONTEXT, replace=False)
    world.als.fault = None
    assert (await world.make().register(CONTEXT, replace=False)).is_registered
    assert (len(world.als.rows), await world.list_events()) == (1, [])


async def test_without_postgresql_nothing_is_changed(world: World) -> None:
    registration = world.make()

    async def refuse() -> asyncpg.Connection:
        raise ConnectionRefusedError

    registration._connect = refuse
    with pytest.raises(DirectoryUnavailable):
        await registration.register(CONTEXT, replace=True)
    assert world.als.changes == []
