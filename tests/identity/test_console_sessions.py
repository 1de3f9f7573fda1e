"""Sessions of people who signed in, in a real database."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from oracle.identity.identity import Identity, Role
from oracle.identity.sessions import SessionLimits, Sessions, is_csrf, is_same_site, make_csrf
from oracle.run.housekeeping import Housekeeping, Retention
from oracle.store.postgres import open_postgres

ANA = Identity("oidc:hub:ana", Role.OPERATOR, None, "oidc", "oidc:hub:ana")
BEN = Identity("oidc:hub:ben", Role.CHECKER, frozenset({"green", "red"}), "oidc", None)
ORIGIN = "https://oracle.example"


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


@asynccontextmanager
async def opened(database_url: str, limits: SessionLimits | None = None) -> AsyncIterator[Sessions]:
    async with open_postgres(database_url, desk=True) as postgres:
        yield Sessions(postgres, limits or SessionLimits())


async def find(sessions: Sessions, token: str) -> Identity | None:
    session = await sessions.find(token)
    return session and session.identity


async def run(database_url: str, statement: str, *arguments: Any) -> int:
    """Run a statement; return how many rows it found or changed."""
    connection = await asyncpg.connect(database_url)
    try:
        return len(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


async def move(database_url: str, column: str, seconds: float, token: str | None = None) -> None:
    """Move a time of one session, or of all."""
    by_column = {
        "ends_at": "UPDATE console_sessions SET ends_at = ends_at + make_interval(secs => $1)",
        "seen_at": "UPDATE console_sessions SET seen_at = seen_at + make_interval(secs => $1)",
    }
    statement = f"{by_column[column]} WHERE $2::bytea IS NULL OR token_sha256 = $2"
    await run(database_url, statement, float(seconds), None if token is None else digest(token))


async def test_a_session_is_its_person_until_it_ends(database_url: str) -> None:
    async with opened(database_url) as sessions:
        tokens = {identity: await sessions.start(identity) for identity in (ANA, BEN)}
        for identity, token in tokens.items():
            assert await find(sessions, token) == identity
        await sessions.end(tokens[ANA])
        assert await find(sessions, tokens[ANA]) is None
        assert await find(sessions, tokens[BEN]) == BEN
        assert await sessions.end_all(BEN.actor) == 1
        assert await find(sessions, tokens[BEN]) is None


async def test_the_directory_holds_only_a_hash_of_the_token(database_url: str) -> None:
    async with opened(database_url) as sessions:
        token = await sessions.start(ANA)
        assert await run(database_url, "SELECT FROM console_sessions WHERE token_sha256 = $1", digest(token)) == 1
        row = "SELECT FROM console_sessions c WHERE c::text LIKE '%' || $1 || '%'"
        assert await run(database_url, row, token) == 0
        assert await run(database_url, row, token.encode().hex()) == 0


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "a" * 44, "é" * 43, "' OR true --", "a" * 42 + "\n"])
async def test_other_tokens_are_nobody(database_url: str, token: str) -> None:
    async with opened(database_url) as sessions:
        await sessions.start(ANA)
        assert await find(sessions, token) is None


async def test_a_session_ends_after_12_hours_and_after_30_minutes_of_rest(database_url: str) -> None:
    async with opened(database_url) as sessions:
        for column, life_s in (("ends_at", 12 * 3_600), ("seen_at", 1_800)):
            token = await sessions.start(ANA)
            await move(database_url, column, 20 - life_s)
            assert await find(sessions, token) == ANA
            await move(database_url, column, -life_s)
            assert await find(sessions, token) is None
            await sessions.end_all(ANA.actor)


async def test_a_session_that_is_used_does_not_rest(database_url: str) -> None:
    async with opened(database_url) as sessions:
        token = await sessions.start(ANA)
        for _ in range(3):
            await move(database_url, "seen_at", -1_200)
            assert await find(sessions, token) == ANA
        await move(database_url, "seen_at", -1_200)
        assert await find(sessions, token) == ANA


async def test_an_actor_has_a_bounded_number_of_sessions(database_url: str) -> None:
    async with opened(database_url, SessionLimits(actor_max=2)) as sessions:
        of_ben = await sessions.start(BEN)
        tokens = [await sessions.start(ANA) for _ in range(4)]
        found = [await find(sessions, token) for token in tokens]
        assert found == [None, None, ANA, ANA]
        assert await find(sessions, of_ben) == BEN


async def test_sessions_that_ended_are_deleted_in_the_background(database_url: str) -> None:
    async with open_postgres(database_url, desk=True) as postgres:
        sessions = Sessions(postgres)
        ended, rested, open_one = [await sessions.start(ANA) for _ in range(3)]
        await move(database_url, "ends_at", -13 * 3_600, ended)
        await move(database_url, "seen_at", -3_600, rested)
        await Housekeeping(postgres, Retention(1e6, 1e6, None)).sweep(asyncio.Event())
        assert await run(database_url, "SELECT FROM console_sessions") == 1
        assert await find(sessions, open_one) == ANA


@pytest.mark.parametrize(
    ("role", "fsp_ids"),
    [("dfsp-maker", None), ("dfsp-checker", []), ("operator", ["green"]), ("auditor", ["green"])],
)
async def test_the_database_refuses_a_session_with_fsps_that_its_role_cannot_have(
    database_url: str, role: str, fsp_ids: list[str] | None
) -> None:
    """A maker without an FSP would be a maker of every FSP."""
    statement = (
        "INSERT INTO console_sessions (token_sha256, actor, ends_at, role, fsp_ids)"
        " VALUES (sha256('x'), 'oidc:hub:ana', now(), $1::text::credential_role, $2)"
    )
    with pytest.raises(asyncpg.CheckViolationError):
        await run(database_url, statement, role, fsp_ids)


def test_the_csrf_token_belongs_to_one_session() -> None:
    one, other = "a" * 43, "b" * 43
    assert is_csrf(one, make_csrf(one))
    for sent in ("", make_csrf(other), make_csrf(one)[:-1], make_csrf(one) + "=", one, "é"):
        assert not is_csrf(one, sent)


def test_a_call_of_another_site_is_none_of_ours() -> None:
    for headers in ({"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {"origin": ORIGIN}):
        assert is_same_site(headers, ORIGIN)
    for headers in (
        {}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "null"},
        {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site", "origin": ORIGIN},
    ):  # fmt: skip
        assert not is_same_site(headers, ORIGIN)
