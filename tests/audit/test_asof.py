"""As of an instant: equal to what the hub said then, and to going through all events one by one."""

from __future__ import annotations

import asyncio
import os
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from differences import list_differences
from random_history import Asked, Event, RandomHistory, Seen, all_events, replay, some_question, time_of

from oracle.api.hub.answers import encode_answer
from oracle.identifiers import Reading
from oracle.store import history
from oracle.store.postgres import Postgres, open_postgres
from oracle.store.resolution import resolve

if TYPE_CHECKING:
    from admin_service import Service

# More of everything: AS_OF_STEPS=400 AS_OF_PAIRS=10000 (three minutes).
STEPS = int(os.environ.get("AS_OF_STEPS", "75"))
PAIRS = int(os.environ.get("AS_OF_PAIRS", "2000"))
SEED = int(os.environ.get("AS_OF_SEED", "6"))

READING = Reading()


@pytest.fixture(scope="module")
def made(service: Service) -> list[Seen]:
    life = RandomHistory(service, SEED)
    life.make(STEPS)
    return life.seen


async def resolve_question(postgres: Postgres, asked: Asked, at: datetime) -> tuple[str, str, Any]:
    key = READING.read_key(asked.party_id_type, asked.identifier, sub_id=asked.sub_id)
    situation = await history.fetch_situation(postgres, key.party_id_type, key.identifier, at)
    found = resolve(situation, key.sub_id, asked.currency, at)
    return (
        found.fsp_id,
        found.currency,
        msgspec.json.decode(encode_answer(found.fsp_id, found.currency, asked.sub_id))["partyList"],
    )


async def test_as_of_is_what_the_hub_said_live(service: Service, made: list[Seen]) -> None:
    assert any(seen.party_list for seen in made)
    ends = ends_of_rules(await all_events(service.database_url))
    async with open_postgres(service.database_url, desk=True) as postgres:
        for seen in made:
            # Between the two routes may have begun or ended by themselves.
            instants = [seen.before, *(at for at in ends if seen.before < at < seen.after), seen.after]
            answers = [(await resolve_question(postgres, seen.asked, at))[2] for at in instants]
            assert seen.party_list in answers, seen


@pytest.mark.usefixtures("made")
async def test_the_directory_is_what_all_events_make_of_it(service: Service) -> None:
    """After hints, heirs, transfers, suspensions, routes that moved, and whole transactions by hand."""
    assert await list_differences(service.database_url) == []


def ends_of_rules(events: list[Event]) -> set[datetime]:
    """When any rule ever began or ended."""
    said = [event.after for event in events if event.entity == "route" and event.after]
    return {time_of(each[end]) for each in said for end in ("valid_from", "valid_to")}


@pytest.mark.usefixtures("made")
async def test_as_of_is_what_all_events_say_one_by_one(service: Service) -> None:
    events = await all_events(service.database_url)
    rng = random.Random(SEED)
    found: dict[str, int] = {"nobody": 0, "answered": 0}
    async with open_postgres(service.database_url, desk=True) as postgres:
        for _ in range(PAIRS):
            asked, at = some_question(rng), some_instant(rng, events)
            wanted = replay(events, asked, at)
            assert (await resolve_question(postgres, asked, at))[:2] == wanted, (asked, at)
            found["answered" if wanted[0] else "nobody"] += 1
    assert min(found.values()) > PAIRS / 10


def some_instant(rng: random.Random, events: list[Event]) -> datetime:
    """Any, or next to an event, where mistakes are."""
    if rng.random() < 0.5:
        first, last = events[0].at, events[-1].at
        return first + rng.random() * (last - first)
    microseconds = rng.choice((-1, 0, 1))
    return rng.choice(events).at + timedelta(microseconds=microseconds)


def test_the_same_over_http_and_with_the_reasons(service: Service, made: list[Seen]) -> None:
    auditor = service.client("auditor")
    url = f"{service.oracle.admin_url}/audit/v1/resolve"
    ends = ends_of_rules(asyncio.run(all_events(service.database_url)))
    reasons = set()
    for seen in made[:: max(1, len(made) // 100)]:
        asked = seen.asked
        body = {"kind": asked.party_id_type, "identifier": asked.identifier, "subId": asked.sub_id,
                "currency": asked.currency}  # fmt: skip
        instants = [seen.before, *(at for at in ends if seen.before < at < seen.after), seen.after]
        answers = [auditor.post(url, json={**body, "at": at.isoformat()}).json() for at in instants]
        assert seen.party_list in [each["partyList"] for each in answers]
        assert answers[0]["isFinal"]
        reasons.add(answers[0]["reason"])
        if answers[0]["fspId"]:
            assert answers[0]["events"], answers
    assert {"alias", "nobody"} <= reasons


@pytest.mark.usefixtures("made")
async def test_a_life_says_what_as_of_says(service: Service) -> None:
    """Each moment of a timeline is the answer from there on to the next one."""
    auditor = service.client("auditor")
    url = f"{service.oracle.admin_url}/audit/v1/timeline"
    rng = random.Random(SEED)
    async with open_postgres(service.database_url, desk=True) as postgres:
        for _ in range(30):
            asked = some_question(rng)
            body: dict[str, Any] = {"kind": asked.party_id_type, "identifier": asked.identifier, "subId": asked.sub_id,
                                    "currency": asked.currency, "limit": 7}  # fmt: skip
            moments: list[Any] = []
            while True:
                page = (await asyncio.to_thread(auditor.post, url, json=body)).json()
                moments += page["items"]
                if page["next"] is None:
                    break
                body["cursor"] = page["next"]
            instants = [datetime.fromisoformat(moment["at"]) for moment in moments]
            assert instants == sorted(instants)
            for moment, at, until in zip(moments, instants, [*instants, datetime.now(UTC)][1:], strict=True):
                for when in (at, at + (until - at) / 2, until - timedelta(microseconds=1)):
                    if at <= when < until:
                        answer = await resolve_question(postgres, asked, when)
                        assert answer[:2] == (moment["fspId"] or "", moment["currency"] or ""), (asked, when)
