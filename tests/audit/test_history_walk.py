"""Walks through history with a bound of work: no event is missing, for any times and for rare events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import servers
from sealing import open_connection, tampering

from oracle.store import history
from oracle.store.history import EventFilter
from oracle.store.postgres import Postgres, open_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer

# Far apart, close together, in a clock that was set back, and more of one instant than a page looks at.
FILL = """
INSERT INTO events (at, entity, action, channel, actor, party_id_type, party_identifier, sub_id, fsp_id, after)
SELECT $1::timestamptz + n * $2::interval, 'alias', 'registered', 'seed',
       CASE n % 1000 WHEN 0 THEN 'rare' ELSE 'most' END, 'ALIAS', 'a' || n % 7, '', 'bank',
       '{"fsp_id": "bank", "currency": "", "default": true}'
FROM generate_series(1, $3::int) AS n
"""
# Of one that has three events among all of them, the last of which took its alias away.
SMALL = """
INSERT INTO events (at, entity, action, channel, actor, party_id_type, party_identifier, sub_id, fsp_id, before, after)
VALUES ('2023-05-01Z', 'fsp', 'registered', 'admin', 'most', NULL, NULL, NULL, 'small', NULL, '{"fsp_id": "small"}'),
       ('2023-05-02Z', 'alias', 'registered', 'seed', 'most', 'ALIAS', 'b', '', 'small', NULL,
        '{"fsp_id": "small", "currency": "", "default": true}'),
       ('2024-02-29 23:59:59Z', 'alias', 'changed', 'seed', 'most', 'ALIAS', 'b', '', 'bank',
        '{"fsp_id": "small", "currency": "", "default": true}', '{"fsp_id": "bank", "currency": "", "default": true}')
"""
LATER = datetime(2040, 1, 1, tzinfo=UTC)
SPANS = [
    ("2024-02-29T23:59:59Z", timedelta(), 22_000),
    ("2026-01-01T00:00:00Z", timedelta(days=5), 40),
    ("2026-01-01T00:00:00Z", timedelta(microseconds=1), 5_000),
    ("2025-06-01T00:00:00Z", -timedelta(seconds=1), 300),
    ("2031-01-01T00:00:00Z", timedelta(days=100), 10),
]


async def fill_events(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for at, step, count in SPANS:
            await connection.execute(FILL, datetime.fromisoformat(at), step, count)
        await connection.execute(SMALL)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def filled_url(postgres_template: PostgresServer) -> Iterator[str]:
    name = asyncio.run(servers.make_database(postgres_template))
    asyncio.run(fill_events(postgres_template.url(name)))
    yield postgres_template.url(name)
    asyncio.run(servers.drop_database(postgres_template, name))


async def walk(postgres: Postgres, wanted: EventFilter, limit: int) -> tuple[list[int], int]:
    place, found, pages = None, list[int](), 0
    while True:
        page = await history.fetch_page(postgres, wanted, place, limit)
        found += [event["event_id"] for event in page.events]
        pages += 1
        assert len(page.events) <= limit
        if page.next is None:
            return found, pages
        place = page.next


@pytest.mark.parametrize(
    ("wanted", "condition", "order"),
    [
        (EventFilter(), "true", "event_id DESC"),
        (EventFilter(actor="rare"), "actor = 'rare'", "event_id DESC"),
        (EventFilter(since=datetime(2026, 1, 1, tzinfo=UTC)), "at >= '2026-01-01Z'", "event_id DESC"),
        (EventFilter(until=LATER), "true", "at DESC, event_id DESC"),
        (EventFilter(until=LATER, actor="rare"), "actor = 'rare'", "at DESC, event_id DESC"),
        (EventFilter(until=LATER, actor="nobody"), "false", "event_id"),
        (
            EventFilter(since=datetime(2025, 5, 1, tzinfo=UTC), until=datetime(2026, 1, 1, 0, 0, 0, 900, tzinfo=UTC)),
            "at >= '2025-05-01Z' AND at < '2026-01-01 00:00:00.0009Z'",
            "at DESC, event_id DESC",
        ),
        (EventFilter(fsp_id="bank"), "fsp_id = 'bank'", "event_id DESC"),
        (EventFilter(fsp_id="bank", actor="rare"), "actor = 'rare'", "event_id DESC"),
        (EventFilter(party=("ALIAS", "a3")), "party_identifier = 'a3'", "event_id DESC"),
        (
            EventFilter(party=("ALIAS", "a3"), actor="rare"),
            "party_identifier = 'a3' AND actor = 'rare'",
            "event_id DESC",
        ),
        (EventFilter(fsp_id="small"), "'small' IN (fsp_id, before ->> 'fsp_id')", "event_id DESC"),
        (EventFilter(fsp_id="other"), "false", "event_id"),
        *(
            (
                EventFilter(**index, since=datetime(2025, 5, 1, tzinfo=UTC), until=datetime(2026, 1, 8, tzinfo=UTC)),
                f"{condition} AND at >= '2025-05-01Z' AND at < '2026-01-08Z'",
                order,
            )
            for index, condition, order in (
                ({"fsp_id": "bank"}, "true", "at DESC, event_id DESC"),
                ({"party": ("ALIAS", "a3")}, "party_identifier = 'a3'", "event_id DESC"),
                ({"entity": "route"}, "false", "event_id DESC"),
            )
        ),
        (EventFilter(entity="route"), "false", "event_id"),
    ],
)
async def test_a_walk_gives_all_that_is_wanted(
    filled_url: str, wanted: EventFilter, condition: str, order: str
) -> None:
    query = f"SELECT event_id FROM events WHERE {condition} ORDER BY {order}"  # noqa: S608 - of the test itself
    connection = await asyncpg.connect(filled_url)
    try:
        rows: list[Any] = await connection.fetch(query)
    finally:
        await connection.close()
    async with open_postgres(filled_url, desk=True) as postgres:
        found, pages = await walk(postgres, wanted, 997)
    assert found == [row["event_id"] for row in rows]
    assert pages < 60


async def test_history_is_complete_before_the_oldest_writer_of_this_database_began(
    database_url: str, postgres_server: PostgresServer
) -> None:
    """The newest transaction counts, too, and one that cannot be inspected; one in another database does not."""
    async with (
        open_postgres(database_url, desk=True) as postgres,
        open_connection(database_url) as writer,
        tampering(database_url) as keeper,
        open_connection(postgres_server.url("postgres", "postgres")) as elsewhere,
    ):
        async with elsewhere.transaction():
            await elsewhere.execute("SELECT pg_current_xact_id()")
            now, final_before = await history.fetch_final_before(postgres)
            assert final_before == now
            async with writer.transaction():
                began = await writer.fetchval("SELECT now()")
                await writer.execute("INSERT INTO fsps (fsp_id) VALUES ('one')")
                assert (await history.fetch_final_before(postgres))[1] == began
            async with keeper.transaction():
                await keeper.execute("INSERT INTO fsps (fsp_id) VALUES ('two')")
                assert (await history.fetch_final_before(postgres))[1] < began - timedelta(days=365)
        now, final_before = await history.fetch_final_before(postgres)
        assert final_before == now
