"""A page of an FSP's newest events reads the page, and not the events of an import beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
import pytest

from oracle.store.history import _WALK_SETTINGS, EventFilter, fetch_page
from oracle.store.postgres import open_postgres
from oracle.store.queries import QUERIES

PAGE: Final = 20
ADD_EVENTS: Final = """
INSERT INTO events (entity, action, channel, actor, party_id_type, party_identifier, sub_id, fsp_id, before, after)
SELECT 'alias', CASE WHEN $3 = '' THEN 'registered' ELSE 'changed' END, 'import', 'x', 'ALIAS', i::text, '', $1,
       nullif(jsonb_build_object('fsp_id', $3::text), '{"fsp_id": ""}'), jsonb_build_object('fsp_id', $1::text)
FROM generate_series(1, $2::int) AS i
"""


def list_scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in plan:
        yield plan
    for part in plan.get("Plans", ()):
        yield from list_scans(part)


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_page_reads_no_more_than_its_events(database_url: str, analyzed: bool) -> None:
    db = await asyncpg.connect(database_url, server_settings=_WALK_SETTINGS)
    # Few events of one FSP, some of them taken over by another one; then a burst of that one, and of a third.
    for fsp_id, count, former in (("a", 30, ""), ("b", 10, "a"), ("b", 3000, ""), ("c", 3000, "")):
        await db.execute(ADD_EVENTS, fsp_id, count, former)
    if analyzed:
        await db.execute("ANALYZE events")
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {QUERIES['events_of_fsp']}"
    async with open_postgres(database_url, desk=True) as postgres:
        for fsp_id, mine in (("a", 40), ("b", 3010), ("c", 3000)):
            page = await fetch_page(postgres, EventFilter(fsp_id=fsp_id), None, PAGE)
            numbers = [row["event_id"] for row in page.events]
            assert numbers == sorted(numbers, reverse=True)
            assert len(numbers) == PAGE
            assert page.next is not None
            for before in ((1 << 63) - 1, page.next.event_id):
                (plan,) = json.loads(await db.fetchval(explain, fsp_id, before, PAGE, PAGE, *[None] * 6))
                read = sum(
                    scan["Actual Rows"] * scan["Actual Loops"] + scan.get("Rows Removed by Filter", 0)
                    for scan in list_scans(plan["Plan"])
                )
                assert read <= 2 * PAGE + len(list(list_scans(plan["Plan"])))
            seen = len(numbers)
            while page.next is not None and seen <= mine:
                page = await fetch_page(postgres, EventFilter(fsp_id=fsp_id), page.next, 1000)
                seen += len(page.events)
            assert seen == mine
    await db.close()
