"""Prefix rules: longest first, in their time, and the same from the database as from a list."""

from __future__ import annotations

import math

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.errors import DirectoryUnavailable
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
        ("ACCOUNT_ID", "ACCOUNT_ID", "646", "a", *ALWAYS),
        ("ACCOUNT_ID", "ACCOUNT_ID", "646180", "b", *ALWAYS),
        ("IBAN", "IBAN", "6", "c", *ALWAYS),
    )
    assert routes.match("ACCOUNT_ID", "646180111812345679") == "b"
    assert routes.match("ACCOUNT_ID", "646180") == "b"
    assert routes.match("ACCOUNT_ID", "64618") == "a"
    assert routes.match("ACCOUNT_ID", "64") is None
    assert routes.match("MSISDN", "646180") is None


async def test_a_rule_outside_its_time_lets_a_shorter_one_match() -> None:
    routes = await routes_of(
        ("IBAN", "IBAN", "MX", "short", *ALWAYS),
        ("IBAN", "IBAN", "MX1", "first", 10.0, 20.0),
        ("IBAN", "IBAN", "MX1", "next", 20.0, math.inf),
    )
    for at, fsp_id in ((9.9, "short"), (10.0, "first"), (19.9, "first"), (20.0, "next")):
        assert routes.match("IBAN", "MX1", at) == fsp_id


async def test_a_rule_of_a_suspended_fsp_still_matches() -> None:
    routes = await routes_of(("IBAN", "IBAN", "MX", "a", *ALWAYS), ("IBAN", "IBAN", "MX1", "", *ALWAYS))
    assert routes.match("IBAN", "MX1") == ""


def complete_clabe(digits: str) -> str:
    """Add the check digit to 17 digits."""
    total = sum(int(digit) * (3, 7, 1)[place % 3] for place, digit in enumerate(digits))
    return digits + str(-total % 10)


CLABE = complete_clabe("01218000011835971")
NOT_CLABES = (
    "012", "0123456789", "0121-44", CLABE[:-1], CLABE + "0", CLABE[:-1] + str((int(CLABE[-1]) + 1) % 10),
    CLABE[:4] + " " + CLABE[4:], "000180000118359719",
)  # fmt: skip


async def test_a_rule_answers_only_the_kind_that_it_was_made_for() -> None:
    routes = await routes_of(
        ("ACCOUNT_ID", "CLABE", "012", "bank", *ALWAYS), ("ACCOUNT_ID", "CLABE", "000", "no bank", *ALWAYS),
        ("PERSONAL_ID", "NRC", "12-", "registry", *ALWAYS), ("ACCOUNT_ID", "IMEI", "0", "of a newer version", *ALWAYS),
    )  # fmt: skip
    assert routes.match("ACCOUNT_ID", CLABE) == "bank"
    assert {text: routes.match("ACCOUNT_ID", text) for text in NOT_CLABES} == dict.fromkeys(NOT_CLABES)
    assert routes.match("PERSONAL_ID", "12-250019-N-123456") == "registry"
    others = ("12-", "12-345", "12-250019-N-12345", "12-250019-X-123456", "12-250019-n-123456")
    assert {text: routes.match("PERSONAL_ID", text) for text in others} == dict.fromkeys(others)


async def test_a_rule_that_does_not_fit_lets_a_shorter_one_match() -> None:
    routes = await routes_of(
        ("ACCOUNT_ID", "ACCOUNT_ID", "01", "wallet", *ALWAYS), ("ACCOUNT_ID", "CLABE", "012180", "bank", *ALWAYS),
        ("ACCOUNT_ID", "CLABE", "0121", "", *ALWAYS), ("ACCOUNT_ID", "ACCOUNT_ID", "0121800001183", "branch", *ALWAYS),
    )  # fmt: skip
    assert routes.match("ACCOUNT_ID", "0121801") == "wallet"
    assert routes.match("ACCOUNT_ID", "01218000011835971x") == "branch"
    assert routes.match("ACCOUNT_ID", complete_clabe("01218000022222222")) == "bank"
    assert routes.match("ACCOUNT_ID", CLABE) == "branch"
    assert routes.match("ACCOUNT_ID", complete_clabe("01210000011835971")) == ""


async def test_of_two_rules_with_one_prefix_the_narrower_kind_wins() -> None:
    rules: list[RouteRow] = [
        ("ACCOUNT_ID", "ACCOUNT_ID", "012", "wallet", *ALWAYS), ("ACCOUNT_ID", "CLABE", "012", "bank", *ALWAYS)
    ]  # fmt: skip
    for rows in (rules, rules[::-1]):
        routes = await routes_of(*rows)
        assert routes.match("ACCOUNT_ID", CLABE) == "bank"
        assert routes.match("ACCOUNT_ID", "0123") == "wallet"
    routes = await routes_of(rules[0], ("ACCOUNT_ID", "CLABE", "012", "bank", 10.0, 20.0))
    assert [routes.match("ACCOUNT_ID", CLABE, at) for at in (9.0, 10.0, 20.0)] == ["wallet", "bank", "wallet"]


async def test_rules_of_the_database_are_loaded(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    await db.execute("""
        INSERT INTO fsps (fsp_id, status) VALUES ('a', 'active'), ('s', 'suspended'), ('p', 'provisional');
        INSERT INTO routes (party_id_type, prefix, fsp_id, valid_from, valid_to) VALUES
        ('ACCOUNT_ID', '1', 'a', '-infinity', 'infinity'), ('ACCOUNT_ID', '12', 's', '2020-01-01', 'infinity'),
        ('ACCOUNT_ID', '13', 'p', '2020-01-01', '2021-01-01'), ('ACCOUNT_ID', '14', 'p', now() + '1 hour', 'infinity');
        INSERT INTO routes (party_id_type, kind, prefix, fsp_id) VALUES ('ACCOUNT_ID', 'CLABE', '15', 'p')
    """)
    async with open_postgres(database_url) as postgres:
        routes = Routes(postgres.reads.fetch_routes)
        await routes.reload(7)
    await db.close()
    assert routes.version == 7
    expected = {"1": "a", "12": "", "13": "a", "14": "a", "15": "a"}
    assert {i: routes.match("ACCOUNT_ID", i) for i in expected} == expected
    assert routes.match("ACCOUNT_ID", "14", now_s=4e9) == "p"
    assert routes.match("ACCOUNT_ID", complete_clabe("15".ljust(17, "0"))) == "p"


async def test_a_reload_that_fails_keeps_the_old_rules() -> None:
    routes = await routes_of(("IBAN", "IBAN", "MX", "a", *ALWAYS))

    async def fails() -> list[RouteRow]:
        raise ConnectionError

    routes._fetch = fails
    with pytest.raises(ConnectionError):
        await routes.reload(2)
    assert routes.match("IBAN", "MX1") == "a"
    assert routes.version == 1


prefixes = st.text("01", min_size=1, max_size=5)


kinds = st.sampled_from(["ACCOUNT_ID", "CLABE"])
begun_clabes = prefixes.map(lambda prefix: complete_clabe(prefix.ljust(17, "1")))


@given(
    st.lists(
        st.tuples(kinds, prefixes, st.sampled_from(["a", "b", ""]), st.integers(0, 5), st.integers(0, 5)), max_size=12
    ),
    st.text("01", max_size=6) | begun_clabes,
    st.integers(0, 5),
)
def test_the_tables_match_as_a_scan_of_every_rule_would(
    rules: list[tuple[str, str, str, int, int]], identifier: str, at: int
) -> None:
    rows: list[RouteRow] = [("ACCOUNT_ID", k, p, f, float(begin), float(end)) for k, p, f, begin, end in rules]
    is_clabe = len(identifier) == 18 and not identifier.startswith("000")

    async def fetch() -> list[RouteRow]:
        return rows

    routes = Routes(fetch)
    routes._tables = compile_routes(rows)
    holding = [
        r for r in rows if identifier.startswith(r[2]) and r[4] <= at < r[5] and (is_clabe or r[1] == "ACCOUNT_ID")
    ]
    best = max(((len(r[2]), r[1] == "CLABE") for r in holding), default=None)
    expected: set[str | None] = {r[3] for r in holding if (len(r[2]), r[1] == "CLABE") == best}
    assert routes.match("ACCOUNT_ID", identifier, float(at)) in (expected or {None})


def test_a_process_that_has_loaded_no_routes_cannot_say_that_none_matches() -> None:
    async def fetch() -> list[RouteRow]:
        return []

    routes = Routes(fetch)
    for party_id_type in ("MSISDN", "ALIAS"):
        with pytest.raises(DirectoryUnavailable):
            routes.match(party_id_type, "525512345678")
    routes.begin_with(1, [])
    assert routes.match("MSISDN", "525512345678") is None
