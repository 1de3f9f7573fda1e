"""Prefix rules: longest first, in their time, and the same from the database as from a list."""

from __future__ import annotations

import math

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.store.postgres import open_postgres
from oracle.store.routes import RouteRow, Routes, compile_routes

ALWAYS = -math.inf, math.inf


async def routes_of(*rows: RouteRow) -> Routes:
    async def fetch() -> list[RouteRow]:
        return list(rows)

    routes = Routes(fetch)
    await routes.reload(1)
    return routes


async def test_the_longest_prefix_of_the_type_wins() -> None:
    routes = await routes_of(
        ("ACCOUNT_ID", "646", "a", *ALWAYS), ("ACCOUNT_ID", "646180", "b", *ALWAYS), ("IBAN", "6", "c", *ALWAYS)
    )
    assert routes.match("ACCOUNT_ID", "646180111812345679") == "b"
    assert routes.match("ACCOUNT_ID", "646180") == "b"
    assert routes.match("ACCOUNT_ID", "64618") == "a"
    assert routes.match("ACCOUNT_ID", "64") is None
    assert routes.match("MSISDN", "646180") is None


async def test_a_rule_outside_its_time_lets_a_shorter_one_match() -> None:
    routes = await routes_of(
        ("IBAN", "MX", "short", *ALWAYS), ("IBAN", "MX1", "first", 10.0, 20.0), ("IBAN", "MX1", "next", 20.0, math.inf)
    )
    for at, fsp_id in ((9.9, "short"), (10.0, "first"), (19.9, "first"), (20.0, "next")):
        assert routes.match("IBAN", "MX1", at) == fsp_id


async def test_a_rule_of_a_suspended_fsp_still_matches() -> None:
    routes = await routes_of(("IBAN", "MX", "a", *ALWAYS), ("IBAN", "MX1", "", *ALWAYS))
    assert routes.match("IBAN", "MX1") == ""


async def test_rules_of_the_database_are_loaded(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    await db.execute("""
        INSERT INTO fsps (fsp_id, status) VALUES ('a', 'active'), ('s', 'suspended'), ('p', 'provisional');
        INSERT INTO routes (party_id_type, prefix, fsp_id, valid_from, valid_to) VALUES
        ('ACCOUNT_ID', '1', 'a', '-infinity', 'infinity'), ('ACCOUNT_ID', '12', 's', '2020-01-01', 'infinity'),
        ('ACCOUNT_ID', '13', 'p', '2020-01-01', '2021-01-01'), ('ACCOUNT_ID', '14', 'p', now() + '1 hour', 'infinity')
    """)
    async with open_postgres(database_url) as postgres:
        routes = Routes(postgres.reads.fetch_routes)
        await routes.reload(7)
    await db.close()
    assert routes.version == 7
    expected = {"1": "a", "12": "", "13": "a", "14": "a"}
    assert {i: routes.match("ACCOUNT_ID", i) for i in expected} == expected
    assert routes.match("ACCOUNT_ID", "14", now_s=4e9) == "p"


async def test_a_reload_that_fails_keeps_the_old_rules() -> None:
    routes = await routes_of(("IBAN", "MX", "a", *ALWAYS))

    async def fails() -> list[RouteRow]:
        raise ConnectionError

    routes._fetch = fails
    with pytest.raises(ConnectionError):
        await routes.reload(2)
    assert routes.match("IBAN", "MX1") == "a"
    assert routes.version == 1


prefixes = st.text("01", min_size=1, max_size=5)


@given(
    st.lists(st.tuples(prefixes, st.sampled_from(["a", "b", ""]), st.integers(0, 5), st.integers(0, 5)), max_size=12),
    st.text("01", max_size=6),
    st.integers(0, 5),
)
def test_the_tables_match_as_a_scan_of_every_rule_would(
    rules: list[tuple[str, str, int, int]], identifier: str, at: int
) -> None:
    rows: list[RouteRow] = [("IBAN", p, f, float(begin), float(end)) for p, f, begin, end in rules]

    async def fetch() -> list[RouteRow]:
        return rows

    routes = Routes(fetch)
    routes._tables = compile_routes(rows)
    holding = [r for r in rows if identifier.startswith(r[1]) and r[3] <= at < r[4]]
    longest = max((len(r[1]) for r in holding), default=0)
    expected = next((r[2] for r in holding if len(r[1]) == longest), None)
    assert routes.match("IBAN", identifier, float(at)) == expected
