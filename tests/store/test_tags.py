"""Somebody writes to Redis who must not: what they put there is not believed, counted, and replaced."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from stand_ins import read_marker, until
from test_marker import look_up, open_cut_off, open_process, register, warm

from oracle.run.embedded import keep_cache_key
from oracle.run.redis_risks import find_risks
from oracle.run.wiring import Store
from oracle.settings import SettingsError, load
from oracle.store.cache.session import REMOVED_BY
from oracle.store.cache.tags import TAG_LENGTH, TIME_MAX, Tags
from oracle.store.cache.values import ANSWER, Entry, Marker, pack_entries

KEY, OTHER = (bytes(range(first, first + 32)).hex() for first in (0, 100))
THIEF = pack_entries([Entry("thief", "", "")])


async def call(store: Store, *command: bytes) -> Any:
    session: Any = store.coherence.session
    return (await session.call(command))[0]


async def read_copy(store: Store, identifier: str) -> bytes | None:
    value: bytes | None = await call(store, b"GET", store.coherence.key("ALIAS", identifier))
    return value


@asynccontextmanager
async def open_two(database_url: str, redis_url: str, one: tuple[str, ...], two: tuple[str, ...]) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_process(database_url, redis_url, cache_key=keys))
            for keys in (one, two)
        ]


def forge_each(store: Store, copy: bytes, moved: bytes, old: bytes) -> dict[str, bytes]:
    """Return values that nobody with the key has made for `k`."""
    forged = {f"byte {at}": copy[:at] + bytes([copy[at] ^ 1]) + copy[at + 1 :] for at in range(len(copy))}
    forged |= {f"the first {length} bytes": copy[:length] for length in range(len(copy))}
    return forged | {
        "of another key": moved,
        "of an old generation": old,
        "without a tag": b"V" + THIEF,
        "with the tag of no key": Tags().seal(store.coherence.key("ALIAS", "k"), THIEF, TIME_MAX),
        "empty": b"",
        "huge": ANSWER + b"\xff" * 2_000_000,
        "almost a fence": b"Fence",
        "almost a token": b"T" + b"x" * 17,
        "a byte more": copy + b"x",
        "two copies": copy + copy,
    }


async def test_a_copy_that_nobody_with_the_key_made_is_not_believed_and_is_replaced(
    database_url: str, redis_url: str
) -> None:
    async with open_process(database_url, redis_url, cache_key=(KEY,)) as store:
        await register(store, "k")
        await register(store, "another", "thief")
        await warm(store, "k")
        old = await read_copy(store, "k")
        assert old is not None
        await store.coherence.bump()
        await warm(store, "another")
        await warm(store, "k")
        copy, moved = await read_copy(store, "k"), await read_copy(store, "another")
        assert copy is not None
        assert moved is not None
        key = store.coherence.key("ALIAS", "k")
        forged = forge_each(store, copy, moved, old)
        store.coherence.tags.take_refused()
        for what, value in forged.items():
            await call(store, b"SET", key, value)  # and nothing ends it
            assert await look_up(store, "k") == "green", what
            assert await read_copy(store, "k") in (None, b""), what
        assert store.coherence.tags.take_refused() == {"tag": len(forged), "expired": 0, "marker": 0, "fence": 0}
        await warm(store, "k")
        assert 0 < await call(store, b"PTTL", key) <= 330_000


async def test_a_copy_does_not_outlive_the_ttl_that_we_set(database_url: str, redis_url: str) -> None:
    async with open_process(database_url, redis_url, cache_key=(KEY,)) as store:
        await register(store, "k")
        key = store.coherence.key("ALIAS", "k")
        now_s = store.coherence.now_s()
        for left_s, counts in ((-60.0, False), (-4.0, False), (60.0, True)):
            await call(store, b"SET", key, store.coherence.tags.seal(key, THIEF, now_s + left_s))
            assert await look_up(store, "k") == ("thief" if counts else "green"), left_s
        assert store.coherence.tags.take_refused()["expired"] == 2
        # What we store ends with the TTL that we set, by the directory's clock.
        await call(store, b"DEL", key)
        await look_up(store, "k")
        copy = b""
        while not copy.startswith(ANSWER):  # the fill comes after the answer
            copy = await read_copy(store, "k") or b""
        ends_s = int.from_bytes(copy[1:5], "big")
        before_s = store.coherence.now_s()
        left_s = (await call(store, b"PTTL", key)) / 1000  # Redis forgets it earlier, if its clock is right
        assert before_s + left_s < ends_s <= store.coherence.now_s() + 340


UNENDING: dict[str, tuple[bytes, ...]] = {
    "a fence without an end": (b"SET", b"%s", b"F"),
    "a fence for a day": (b"SET", b"%s", b"F", b"PX", b"86400000"),
    "a token without an end": (b"SET", b"%s", b"T" + b"x" * 16),
    "a list": (b"RPUSH", b"%s", b"x"),
    "a hash": (b"HSET", b"%s", b"x", b"y"),
    "a set": (b"SADD", b"%s", b"x"),
}


async def test_nothing_that_others_put_under_a_key_keeps_it_without_a_copy(database_url: str, redis_url: str) -> None:
    async with open_process(database_url, redis_url, cache_key=(KEY,)) as store:
        await register(store, "k")
        key = store.coherence.key("ALIAS", "k")
        for what, command in UNENDING.items():
            await call(store, b"DEL", key)
            await call(store, *(part if part != b"%s" else key for part in command))
            store.coherence.tags.take_refused()
            assert await look_up(store, "k") == "green", what
            assert await call(store, b"PTTL", key) in range(-2, 3_001), what
            assert await call(store, b"EXISTS", key) == what.startswith(("a fence", "a token")), what
            assert store.coherence.tags.take_refused()["fence"] == 1, what
        # A fence and a token of ours keep their time.
        for value in (b"F", b"T" + b"x" * 16):
            await call(store, b"SET", key, value, b"PX", b"900")
            assert await look_up(store, "k") == "green"
            assert await call(store, b"PTTL", key) <= 900
        assert store.coherence.tags.take_refused()["fence"] == 0


FORGED_MARKERS: dict[str, Callable[[Marker], bytes]] = {
    "of a later timeline": lambda m: m._replace(timeline=m.timeline + 1).pack() + b":" + b"0" * 2 * TAG_LENGTH,
    "far ahead": lambda m: m._replace(generation=10**15).pack() + b":" + b"0" * 2 * TAG_LENGTH,
    "of the form without a tag": lambda m: m._replace(generation=m.generation + 9).pack(),
    "of another PostgreSQL": lambda m: m._replace(system_identifier="1").pack() + b":" + b"0" * 2 * TAG_LENGTH,
    "not UTF-8": lambda _: b"9:9:9:\xff:" + b"0" * 2 * TAG_LENGTH,
    "a number too long to read": lambda m: b"9" * 5000 + b":1:1:" + m.system_identifier.encode() + b":00",
    # Longer than what Redis and a process exchange within the time limit of a session.
    "huge and far ahead": lambda m: m._replace(generation=10**15).pack() + b":" + b"0" * 60_000_000,
    "garbage": lambda _: b"\0garbage",
    "empty": lambda _: b"",
}


async def test_a_forged_marker_stops_nothing_and_moves_nothing(database_url: str, redis_url: str) -> None:
    async with open_process(database_url, redis_url, cache_key=(KEY,)) as store:
        await register(store, "k")
        session, marker_key = store.coherence.session, store.coherence.marker_key
        own, generation = store.coherence.marker, store.coherence.generation
        for what, forge in FORGED_MARKERS.items():
            await call(store, b"SET", marker_key, forge(read_marker(own)))
            await until_marker(store, own)
            assert store.coherence.session is session, what
            assert (store.coherence.generation, store.coherence.fresh) == (generation, True), what
        await call(store, b"DEL", marker_key)
        await call(store, b"RPUSH", marker_key, b"a list")
        await until_marker(store, own)
        assert session is not None
        assert await store.coherence._agree(session)
        assert store.coherence.generation == generation


async def until_marker(store: Store, marker: bytes) -> None:
    while True:
        await store.coherence.confirm()
        kind = await call(store, b"TYPE", store.coherence.marker_key)
        if str(kind, "ascii") == "string" and await call(store, b"GET", store.coherence.marker_key) == marker:
            return


async def test_a_forged_marker_makes_no_old_copy_believed(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """A process is cut off from PostgreSQL, and others moved the generation: the marker alone tells it."""
    async with open_cut_off(database_url, redis_url, tmp_path) as both:
        await register(both.two, "k")
        await register(both.two, "other")
        await warm(both.two, "k")
        own = read_marker(both.two.coherence.marker)
        await both.cut()
        await call(both.two, b"SET", both.two.coherence.marker_key, own.pack() + b":" + b"0" * 2 * TAG_LENGTH)
        assert not await believes_copies_without_lease(both.two)
        await both.heal()


async def test_a_key_is_replaced_without_a_cold_cache(database_url: str, redis_url: str) -> None:
    """Each step while services of the step before still serve: no copy and no marker is refused.

    The last step comes a TTL later, so there are no copies of the old key then.
    """
    for before, after in (((KEY,), (KEY, OTHER)), ((KEY, OTHER), (OTHER, KEY)), ((OTHER, KEY), (OTHER,))):
        async with open_two(database_url, redis_url, before, after) as (one, two):
            for writer, reader in ((one, two), (two, one)):
                identifier = f"{len(after)}-{after[0][:2]}-{writer is one}"
                await register(writer, identifier)
                await warm(writer, identifier)
                assert await is_cached(reader, identifier)
                assert await believes_copies_without_lease(reader)
            for store in (one, two):
                assert set(store.coherence.tags.take_refused().values()) == {0}


async def is_cached(store: Store, identifier: str) -> bool:
    cached: list[bool] = []
    store.lookups.ask("ALIAS", identifier, lambda _, hit: cached.append(hit))
    await until(lambda: bool(cached))
    return cached[0]


async def believes_copies_without_lease(store: Store) -> bool:
    found: list[list[bytes | None] | None] = []
    session = store.coherence.session
    assert session is not None
    session.mget_marked(store.coherence.marker_key, store.coherence.markers, [b"x"], found.append)
    await until(lambda: bool(found))
    return found[0] is not None


async def test_services_with_different_keys_are_both_right_and_say_what_to_do(
    database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_two(database_url, redis_url, (KEY,), (OTHER,)) as (one, two):
        for owner in ("green", "blue"):
            for store in (one, two, one, two):
                identifier = f"{owner}-{id(store)}"
                await register(store, identifier, owner)
                await warm(store, identifier)
                for each in (two, one, two):
                    assert await look_up(each, identifier) == owner
        await one.coherence.bump()
        await until(lambda: one.coherence.generation == two.coherence.generation)
        for store in (one, two):
            assert store.coherence.tags.take_refused()["tag"] > 0
            assert await store.coherence._agree(store.coherence.session)
        lines = [record.getMessage() for record in caplog.records if "made; PostgreSQL answers" in record.getMessage()]
        assert len(lines) == 2  # one each, however many copies were refused
        assert all("Give the same ORACLE_CACHE_KEY to all services" in line for line in lines)
        assert not any("green-" in line for line in lines)


def test_our_own_key_is_kept_private_and_outlives_a_restart(tmp_path: Path) -> None:
    key = keep_cache_key(tmp_path)
    assert keep_cache_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "cache.key").stat().st_mode) == 0o600
    assert load({"ORACLE_CACHE_KEY": key}).settings.cache_key == (key,)
    for damaged in ("", key[:-1], "x" * 64):
        (tmp_path / "cache.key").write_text(damaged)
        assert len(keep_cache_key(tmp_path)) == 64
    assert keep_cache_key(tmp_path) != key


WEAK = ["secret", "ab" * 31, "00" * 32, "0123456789abcdef" * 4, "x" * 64, f"{KEY},{OTHER},{KEY}", f"{KEY},", "a" * 130]


@pytest.mark.parametrize("text", WEAK)
def test_a_weak_key_is_refused_and_shown_to_nobody(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"ORACLE_CACHE_KEY": text})
    assert "ORACLE_CACHE_KEY" in str(refused.value)
    assert text not in str(refused.value).replace("openssl rand -hex 32", "")
    configuration = load({"ORACLE_CACHE_KEY": f"{KEY}, {OTHER}"})
    assert configuration.settings.cache_key == (KEY, OTHER)
    shown = "\n".join(configuration.format_lines()) + repr(configuration.settings)
    assert KEY not in shown
    assert OTHER not in shown
    assert "ORACLE_CACHE_KEY=***,***" in shown


@pytest.mark.parametrize(("url", "risks"), [
    ("redis://127.0.0.1:6379/0", 0), ("redis://localhost", 0), ("unix:///run/redis.sock", 0), ("redis://[::1]:1", 0),
    ("redis://cache:6379/0", 2), ("rediss://cache", 1), ("redis://:word@cache", 1), ("rediss://u:word@cache/1", 0),
    ("rediss://u@cache", 1), ("redis+sentinel://127.0.0.1:1,cache:2/main", 2),
    ("rediss+cluster://u:word@one:1,two:2", 0), ("rediss+cluster://one:1,[::1]:2", 1), ("redis+cluster://[::1]:1", 0),
])  # fmt: skip
def test_a_redis_elsewhere_without_tls_or_password_is_reported(url: str, risks: int) -> None:
    with_key = load({"ORACLE_REDIS_URL": url, "ORACLE_CACHE_KEY": KEY}).settings
    assert len(find_risks(with_key)) == risks
    without = find_risks(load({"ORACLE_REDIS_URL": url}).settings)
    assert len(without) == risks + 1
    assert "redirect lookups" in without[0]
    assert not any("word" in risk.replace("password", "") for risk in without)
    assert find_risks(load({}).settings) == []


def test_what_removes_a_copy_removes_no_fence() -> None:
    """The script compares the beginning: no fence and no token is as long as that."""
    assert REMOVED_BY > 17
