"""A change whose statements take longer than it may take from its fences to its commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from test_changes import Store, as_fsp, open_store

from oracle.identifiers import PartyKey
from oracle.store import aliases
from oracle.store.base import Session
from oracle.store.cache.coherence import Fence
from oracle.store.cache.session import Unreachable
from oracle.store.cache.values import ANSWER, Entry
from oracle.store.postgres import Transaction

KEY = PartyKey("ALIAS", "1", "")


async def update_slowly(writer: Store, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """Change the currency to EUR; `meanwhile` happens in the transaction after its statements, before the commit."""

    async def work(transaction: Transaction) -> tuple[None, bool]:
        changed = await aliases.update(transaction, "a", KEY, "EUR")
        await meanwhile()
        return None, changed

    await writer.changes.change(as_fsp("a"), [(KEY.party_id_type, KEY.identifier)], work)


class Died(Exception):
    pass


def late_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look at the clock says that the fences may be gone."""
    looks = iter([False])
    monkeypatch.setattr(store.coherence, "can_commit", lambda _: next(looks, True))


def dying_after_the_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(_: Fence) -> None:
        raise Died

    monkeypatch.setattr(store.coherence, "settle", die)
    monkeypatch.setattr(store.changes.repairs, "add_move", lambda: None)


async def test_its_keys_are_fenced_again_so_that_nothing_stored_meanwhile_is_answered(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it dies right after the commit: nobody else would look after the copies."""
    async with open_store(database_url, redis_url) as writer, open_store(database_url, redis_url) as reader:
        await writer.add("a", "1", currency="MXN")
        redis: Any = writer.coherence.session
        key = writer.coherence.key(KEY.party_id_type, KEY.identifier)

        async def fence_is_gone() -> None:
            await redis.call((b"DEL", key))
            assert await reader.get("1") == [Entry("a", "MXN", "")]
            while not ((await redis.call((b"GET", key)))[0] or b"").startswith(ANSWER):  # noqa: ASYNC110 - it is in Redis
                await asyncio.sleep(0.001)

        late_once(writer, monkeypatch)
        dying_after_the_commit(writer, monkeypatch)
        with pytest.raises(Died):
            await update_slowly(writer, fence_is_gone)
        assert await reader.get("1") == [Entry("a", "EUR", "")]


async def test_where_they_cannot_be_fenced_again_the_generation_moves(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(database_url, redis_url) as writer, open_store(database_url, redis_url) as reader:
        await writer.add("a", "1", currency="MXN")
        before = writer.coherence.generation

        async def refuse() -> Session:
            raise Unreachable

        async def redis_is_lost() -> None:
            monkeypatch.setattr(writer.coherence, "_dial", refuse)  # else a new session can fence the keys again
            if writer.coherence.session is not None:
                writer.coherence.session.close()
            assert await reader.get("1") == [Entry("a", "MXN", "")]

        late_once(writer, monkeypatch)
        await update_slowly(writer, redis_is_lost)
        assert writer.coherence.generation > before
        assert await reader.get("1") == [Entry("a", "EUR", "")]
