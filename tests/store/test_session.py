"""A session to Redis: the failures that end it, and the answers that it never believes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis.connection
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import free_port, tcp_url, valkey_command
from stand_ins import fake_redis, read_marker, tag, turns, until
from tls import make_certificate, serve_tls

from oracle.store.cache.session import FILL_CHUNK, Address, RedisSession, Unreachable, dial, explain_dialling, parse_url
from oracle.store.cache.values import FENCE, Marker, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import StartValkey

    from oracle.run.embedded import ValkeyServer
    from oracle.store.base import Copy

TIMEOUT_MS = 30_000
PASSWORD = "secret"


@asynccontextmanager
async def open_session(url: str, timeout_ms: int = TIMEOUT_MS) -> AsyncIterator[RedisSession]:
    """The budget holds from here on: on a busy machine to open it takes longer than some of them."""
    session = await dial(url, timeout_ms=TIMEOUT_MS, token_ms=60_000)
    if session._timer is not None:
        session._timer.cancel()
        session._timer = None
    session._timeout_s = timeout_ms / 1000
    try:
        yield session
    finally:
        session.close()


async def mget(session: RedisSession, *keys: bytes) -> list[bytes | None] | None:
    future: asyncio.Future[list[bytes | None] | None] = asyncio.get_running_loop().create_future()
    session.mget(keys, future.set_result)
    return await future


async def lease(session: RedisSession, keys: list[bytes], token: bytes) -> list[bool]:
    future: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
    session.lease(keys, token, future.set_result)
    return await future


async def fill(session: RedisSession, key: bytes, token: bytes, value: bytes, ttl_ms: int = 60_000) -> bool:
    """Whether it was stored."""
    return await count_lost(session, (key, token, value, ttl_ms)) == 0


async def count_lost(session: RedisSession, *copies: Copy) -> int:
    """Fill, and count what was not stored."""
    lost: list[int] = []
    session.fill(copies, lost.append)
    with contextlib.suppress(Unreachable):
        await session.call((b"PING",))
    return sum(lost)


@contextmanager
def stop_for_a_while(server: ValkeyServer) -> Iterator[None]:
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


# The commands --------------------------------------------------------------------------------------------------


async def test_one_lookup_gets_the_token_and_only_its_token_fills(redis_url: str) -> None:
    async with open_session(redis_url) as session, open_session(redis_url) as other:
        mine, theirs = new_token(), new_token()
        assert await mget(session, b"k", b"l") == [None, None]
        assert await lease(session, [b"k", b"l"], mine) == [True, True]
        assert await lease(other, [b"k"], theirs) == [False]
        assert not await fill(other, b"k", theirs, b"Vtheirs")
        assert await fill(session, b"k", mine, b"Vmine")
        assert not await fill(session, b"k", mine, b"Vtwice")
        assert await session.fence([b"l"], 30_000)
        assert not await fill(session, b"l", mine, b"Vlate")
        assert await mget(other, b"k", b"l") == [b"Vmine", FENCE]
        ttls = await session.call((b"PTTL", b"k"), (b"PTTL", b"l"))
        assert 30_000 < ttls[0] <= 60_000
        assert 0 < ttls[1] <= 30_000


async def test_a_token_expires_and_its_fill_comes_too_late(redis_url: str) -> None:
    session = await dial(redis_url, timeout_ms=TIMEOUT_MS, token_ms=20)
    token = new_token()
    assert await lease(session, [b"k"], token) == [True]
    while await mget(session, b"k") != [None]:
        pass
    assert not await fill(session, b"k", token, b"Vlate")
    assert await mget(session, b"k") == [None]
    session.close()


async def test_fences_replace_any_value(redis_url: str) -> None:
    async with open_session(redis_url) as session, open_session(redis_url) as reader:
        keys = [b"%d" % n for n in range(10_000)]
        await session.call((b"MSET", *(word for key in keys[:100] for word in (key, b"Vold"))))
        fencing = asyncio.ensure_future(session.fence(keys, 60_000))
        await turns(1)
        assert await mget(session, b"other") == [None]  # gets its turn in between
        assert not fencing.done()
        assert await fencing
        assert await session.find_unfenced(keys) == []
        await session.call((b"DEL", keys[0]), (b"SET", keys[9_999], b"Vnew"))
        assert await reader.find_unfenced(keys) == [keys[0], keys[9_999]]


async def test_fills_go_on_after_the_scripts_were_flushed(valkey_server: ValkeyServer, redis_url: str) -> None:
    async with open_session(redis_url) as session:
        valkey_command(valkey_server, "SCRIPT", "FLUSH")
        token = new_token()
        await lease(session, [b"k", b"l"], token)
        assert not await fill(session, b"k", token, b"Vone")
        assert await fill(session, b"l", token, b"Vtwo")
        assert session.alive


async def test_a_script_runs_the_first_time_and_after_the_scripts_were_flushed(
    valkey_server: ValkeyServer, redis_url: str
) -> None:
    script = b"redis.call('SET', KEYS[1], ARGV[1]); return {KEYS[1], ARGV[2]}"
    async with open_session(redis_url) as session:
        assert await session.run(script, [b"k"], [b"v", 5]) == [b"k", b"5"]
        assert await mget(session, b"k") == [b"v"]
        valkey_command(valkey_server, "SCRIPT", "FLUSH")
        assert await session.run(script, [b"k"], [b"w", 5]) == [b"k", b"5"]
        assert await mget(session, b"k") == [b"w"]
        with pytest.raises(Unreachable):
            await session.run(b"return redis.call('NO-SUCH-COMMAND')", [b"k"], [])
        assert session.alive


async def test_what_is_sent_in_one_turn_of_the_loop_keeps_its_order_and_is_written_at_once(redis_url: str) -> None:
    append = b"return redis.call('APPEND', KEYS[1], ARGV[1])"
    async with open_session(redis_url) as session:
        assert await session.run(append, [b"k"], [b"V"]) == 1
        assert session._transport is not None
        transport: asyncio.Transport = session._transport
        writes: list[bytes] = []

        class Counting:
            def write(self, data: bytes) -> None:
                writes.append(data)
                transport.write(data)

        session._transport = Counting()  # type: ignore[assignment]
        try:
            running = [session.run(append, [b"k"], [b"%d" % number]) for number in (1, 2, 3)]
            assert await asyncio.gather(*running) == [2, 3, 4]
            assert len(writes) == 1
            session.write(b"k", (b"APPEND", b"k", b"4"))
            reading = asyncio.ensure_future(mget(session, b"k"))
            await turns(1)
            session.write(b"k", (b"APPEND", b"k", b"5"))
            assert await reading == [b"V1234"]
            assert await mget(session, b"k") == [b"V12345"]
        finally:
            session._transport = transport


async def test_what_was_not_written_fails_with_the_session(redis_url: str) -> None:
    async with open_session(redis_url) as session:
        running = asyncio.ensure_future(session.run(b"return 1", [b"k"], []))
        await turns(1)
        session.close()
        with pytest.raises(Unreachable):
            await running


async def test_a_value_of_another_kind_is_no_copy(valkey_server: ValkeyServer, redis_url: str) -> None:
    async with open_session(redis_url) as session:
        valkey_command(valkey_server, "LPUSH", "k", "x")
        assert await mget(session, b"k") == [None]  # MGET's way to say so
        assert await lease(session, [b"k", b"l"], new_token()) == [False, True]
        assert await session.fence([b"k"], 3000)


COUNT = 2 * FILL_CHUNK + 3  # of copies: several scripts


def make_copies(token: bytes) -> tuple[list[bytes], list[Copy]]:
    keys = [b"k%d" % number for number in range(COUNT)]
    return keys, [(key, token, b"V" + key, 60_000) for key in keys]


@pytest.mark.parametrize("clustered", [False, True], ids=["one server", "a node of a cluster"])
async def test_of_a_batch_exactly_those_are_stored_whose_keys_hold_their_token(redis_url: str, clustered: bool) -> None:
    """Between token and fill: fences, another's token, a copy, the end of the token, a value that is no string."""
    async with open_session(redis_url) as session, open_session(redis_url) as other:
        session.clustered = clustered
        mine, theirs = new_token(), new_token()
        keys, copies = make_copies(mine)
        assert await lease(session, keys, mine) == [True] * COUNT
        assert await other.fence([keys[0], keys[FILL_CHUNK]], 30_000)
        gone, taken, copied, odd = keys[1], keys[2], keys[-1], keys[3]
        await other.call((b"DEL", gone, taken, odd), (b"SET", copied, b"Vother"), (b"LPUSH", odd, b"x"))
        assert await lease(other, [taken], theirs) == [True]
        assert await count_lost(session, *copies) == 6
        expected: dict[bytes, bytes | None] = {key: b"V" + key for key in keys}
        expected |= {keys[0]: FENCE, keys[FILL_CHUNK]: FENCE, gone: None, taken: theirs, copied: b"Vother", odd: None}
        assert dict(zip(keys, await mget(other, *keys) or (), strict=True)) == expected
        assert await session.call((b"TYPE", odd), (b"TTL", copied)) == [b"list", -1]
        ttls = await session.call(*((b"PTTL", key) for key in keys if expected[key] == b"V" + key))
        assert all(30_000 < ttl <= 60_000 for ttl in ttls)
        assert await count_lost(session, *copies) == COUNT  # none of them holds its token any more


async def test_a_batch_with_tokens_of_several_lookups_and_one_key_twice(redis_url: str) -> None:
    async with open_session(redis_url) as session:
        one, two = new_token(), new_token()
        assert await lease(session, [b"k", b"k"], one) == [True, False]
        assert await lease(session, [b"l"], two) == [True]
        copies = [(b"k", one, b"V1", 60_000), (b"l", two, b"V2", 60_000), (b"m", one, b"V3", 60_000)]
        assert await count_lost(session, *copies) == 1
        assert await mget(session, b"k", b"l", b"m") == [b"V1", b"V2", None]


@pytest.mark.parametrize("clustered", [False, True], ids=["one server", "a node of a cluster"])
async def test_a_batch_is_lost_whole_when_its_script_is_gone_or_memory_is_full_or_the_session_ends(
    valkey_server: ValkeyServer, redis_url: str, clustered: bool
) -> None:
    async with open_session(redis_url) as session:
        session.clustered = clustered
        token = new_token()
        keys, copies = make_copies(token)
        assert await lease(session, keys, token) == [True] * COUNT
        valkey_command(valkey_server, "SCRIPT", "FLUSH")
        assert await count_lost(session, *copies) == COUNT
        try:
            valkey_command(valkey_server, "CONFIG", "SET", "maxmemory-policy", "noeviction")
            valkey_command(valkey_server, "CONFIG", "SET", "maxmemory", "1")
            assert await count_lost(session, *copies) == COUNT
        finally:
            valkey_command(valkey_server, "CONFIG", "SET", "maxmemory", "0")
        assert await mget(session, *keys) == [token] * COUNT
        assert session.alive
        waiting = asyncio.ensure_future(count_lost(session, *copies))
        await turns(1)
        session.close()
        assert await waiting == COUNT  # some can be stored: nobody knows
        assert await count_lost(session, *copies) == COUNT


async def test_a_fill_on_a_server_that_became_a_replica_ends_the_session(start_valkey: StartValkey) -> None:
    primary, server = await start_valkey(), await start_valkey()
    async with open_session(tcp_url(server)) as session:
        token = new_token()
        keys, copies = make_copies(token)
        assert await lease(session, keys, token) == [True] * COUNT
        assert valkey_command(server, "REPLICAOF", "127.0.0.1", str(primary.options["port"])) == b"+OK\r\n"
        assert await count_lost(session, *copies) == COUNT
        assert not session.alive


# To which servers it connects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "redis://", "redis://h:7/3", "redis:///4", "redis://h/x", "redis://[::1]:6380/2",
        "rediss://u:p%40x@h:1/0", "redis://:pw@h", "redis://u@h?username=v", "redis://h?password=a%2Bb&username=z",
        "redis://h?db=5", "redis://h/2?db=5", "rediss://h?ssl_ca_certs=/a.pem&ssl_cert_reqs=none",
        "unix:///a/b%20c.sock", "unix://u:p@/a.sock?db=4",
    ],
)  # fmt: skip
def test_a_url_means_what_it_means_to_the_library(url: str) -> None:
    read = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    assert parse_url(url) == Address(
        path=read.get("path", ""),
        host=read.get("host", "127.0.0.1"),
        port=read.get("port", 6379),
        is_encrypted=read.get("connection_class") is redis.connection.SSLConnection,
        username=read.get("username"),
        password=read.get("password"),
        db=int(read.get("db", 0)),
        tls={name: value for name, value in read.items() if name.startswith("ssl_")},
    )


async def test_both_sockets_a_password_and_a_database(start_valkey: StartValkey) -> None:
    server = await start_valkey({"databases": "4"})
    assert valkey_command(server, "CONFIG", "SET", "requirepass", "secret") == b"+OK\r\n"
    port = server.options["port"]
    async with open_session(f"redis://:secret@127.0.0.1:{port}/3") as session:
        await session.call((b"SET", b"k", b"v"))
        async with open_session(f"unix://:secret@{server.socket}?db=3") as same:
            assert await mget(same, b"k") == [b"v"]
            assert same.run_ids == session.run_ids
        async with open_session(f"redis://default:secret@127.0.0.1:{port}/2") as another:
            assert await mget(another, b"k") == [None]
    for wrong in (":wrong@", "nobody:secret@", ""):
        with pytest.raises(Unreachable):
            await dial(f"redis://{wrong}127.0.0.1:{port}/0", timeout_ms=1000, token_ms=1000)
    for nowhere in ("redis://127.0.0.1:1/0", "unix:///nowhere.sock", f"rediss://127.0.0.1:{port}/0"):
        with pytest.raises(Unreachable):
            await dial(nowhere, timeout_ms=1000, token_ms=1000)


async def test_the_reason_why_redis_cannot_be_used_is_known(start_valkey: StartValkey, tmp_path: Path) -> None:
    server = await start_valkey({"databases": "4"})
    at = f"127.0.0.1:{server.options['port']}"

    async def explain(url: str, timeout_ms: int = 60_000) -> str:
        with pytest.raises(Unreachable) as refused:
            await dial(url, timeout_ms=timeout_ms, token_ms=1000)
        return str(refused.value)

    assert "does not have the database" in await explain(f"redis://{at}/9")
    valkey_command(server, "ACL", "SETUSER", "weak", "on", f">{PASSWORD}", "+get", "~*")
    assert "no right to run the commands" in await explain(f"redis://weak:{PASSWORD}@{at}")
    valkey_command(server, "CONFIG", "SET", "requirepass", PASSWORD)
    assert "the URL has none" in await explain(f"redis://{at}")
    assert "does not accept the user or the password" in await explain(f"redis://:wrong@{at}")
    assert "nothing listens" in await explain(f"redis://127.0.0.1:{free_port()}")
    assert "No such file" in await explain(f"unix://{tmp_path}/nowhere.sock")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "does not answer" in await explain(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_ms=1)
    # To be refused by a name server, or by a server without TLS, can take a minute.
    assert explain_dialling(socket.gaierror(-2, "Name or service not known")) == "the name of its host is not known"
    assert explain_dialling(ssl.SSLError(1, "wrong version number")).startswith("TLS failed")


async def test_tls_is_checked_as_the_url_says(start_valkey: StartValkey, tmp_path: Path) -> None:
    server = await start_valkey()
    certificate = make_certificate(tmp_path, "redis.example")
    async with serve_tls(certificate, server.socket) as port:
        for members in ("", "ssl_check_hostname=true"):
            with pytest.raises(Unreachable, match="certificate is not accepted: self-signed certificate"):
                await dial(f"rediss://127.0.0.1:{port}?{members}", timeout_ms=60_000, token_ms=1000)
        with pytest.raises(Unreachable, match=r"certificate is not accepted: .*IP address mismatch"):
            await dial(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}", timeout_ms=60_000, token_ms=1000)
        for members in (f"ssl_ca_certs={certificate}&ssl_check_hostname=false", "ssl_cert_reqs=none"):
            async with open_session(f"rediss://127.0.0.1:{port}?{members}") as session:
                assert await mget(session, b"k") == [None]


async def test_a_replica_is_refused_and_one_that_becomes_a_replica_ends_the_session(
    start_valkey: StartValkey, redis_url: str
) -> None:
    server = await start_valkey()
    async with open_session(server.url()) as session:
        valkey_command(server, "REPLICAOF", "127.0.0.1", "1")
        assert not await session.fence([b"k"], 3000)
        assert not session.alive
    with pytest.raises(Unreachable):
        await dial(server.url(), timeout_ms=1000, token_ms=1000)
    async with open_session(redis_url) as other:
        assert other.run_ids != session.run_ids


async def test_a_full_server_sets_no_token_and_no_fence(start_valkey: StartValkey) -> None:
    server = await start_valkey({"maxmemory": "1", "maxmemory-policy": "noeviction"})
    async with open_session(server.url()) as session:
        assert await lease(session, [b"k"], new_token()) == [False]
        assert not await session.fence([b"k"], 3000)
        assert await mget(session, b"k") == [None]
        assert session.alive


# What ends it --------------------------------------------------------------------------------------------------


async def test_a_stopped_server_is_unreachable_after_the_time_limit_and_its_late_replies_are_ignored(
    start_valkey: StartValkey,
) -> None:
    server = await start_valkey()
    lost: list[bool] = []
    assert valkey_command(server, "SET", "k", "Vold") == b"+OK\r\n"
    async with open_session(tcp_url(server), timeout_ms=50) as session:
        session.lost = lambda: lost.append(True)
        with stop_for_a_while(server):
            begun = asyncio.get_running_loop().time()
            answers = await asyncio.gather(
                mget(session, b"k"), lease(session, [b"l"], new_token()), session.fence([b"k"], 3000),
                session.find_unfenced([b"k"]),
            )  # fmt: skip
            assert list(answers) == [None, [False], False, None]
            assert asyncio.get_running_loop().time() - begun < 10  # it is stopped for as long as we wait
            assert lost == [True]
            assert not session.alive
        async with open_session(tcp_url(server)) as after:
            await after.call((b"PING",))
        assert await mget(session, b"k") is None
        assert not await session.fence([b"k"], 3000)
        assert lost == [True]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_stall_of_the_process_does_not_end_the_session(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The reply lies there, unread, when the time-out fires: uvloop looks at timers before it reads again."""

    async def check() -> None:
        running = asyncio.get_running_loop()
        ours, server = socket.socketpair()
        alarm, bell = socket.socketpair()
        _, session = await running.create_connection(lambda: RedisSession(30, 1000), sock=ours)

        def stall() -> None:
            running.remove_reader(alarm)
            server.sendall(b"*1\r\n$-1\r\n")
            time.sleep(0.1)

        with server, alarm, bell:
            reading = asyncio.ensure_future(mget(session, b"k"))
            await turns(2)
            running.add_reader(alarm, stall)
            bell.send(b"now")
            assert await reading == [None]
            assert session.alive
            session.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(check())


async def test_an_unanswered_ping_ends_an_idle_session(start_valkey: StartValkey) -> None:
    server = await start_valkey()
    async with open_session(server.url(), timeout_ms=20) as session:
        with stop_for_a_while(server):
            session.ping()
            await until(lambda: not session.alive)


@pytest.mark.parametrize(
    "error",
    [b"READONLY You can't write", b"LOADING Valkey is loading", b"MASTERDOWN Link down", b"NOAUTH Authentication",
     b"CLUSTERDOWN Hash slot", b"MOVED 1 127.0.0.1:1", b"ASK 1 127.0.0.1:1", b"NOPERM No permissions"],
)  # fmt: skip
async def test_a_server_that_must_not_be_used_now_ends_the_session(tmp_path: Path, error: bytes) -> None:
    async with open_greeted_session(tmp_path) as (fake, session):
        reading = asyncio.ensure_future(mget(session, b"k"))
        fencing = asyncio.ensure_future(session.fence([b"k"], 3000))
        await fake.received.get()
        fake.send(b"-" + error + b"\r\n+OK\r\n")
        assert await reading is None
        assert await fencing is False
        assert not session.alive


async def test_a_key_that_leaves_with_its_slot_is_no_end_of_the_session(tmp_path: Path) -> None:
    """Of a node of a cluster: each command about it has failed, and all other commands go on."""
    async with open_greeted_session(tmp_path) as (fake, session):
        session.clustered = True
        ask = b"-ASK 1 127.0.0.1:1\r\n"
        reading = asyncio.ensure_future(mget(session, b"k", b"l"))
        fencing = asyncio.ensure_future(session.fence([b"k"], 3000))
        finding = asyncio.ensure_future(session.find_unfenced([b"k"]))
        leasing = asyncio.ensure_future(lease(session, [b"k"], b"token"))
        running = asyncio.ensure_future(session.run(b"return 1", [b"k"], []))
        lost: list[int] = []
        session.fill([(b"k", b"token", b"value", 1_000)], lost.append)
        await fake.received.get()
        fake.send(b"$1\r\nv\r\n" + ask * 6)
        assert await reading is None
        assert await fencing is False
        assert await finding is None
        assert await leasing == [False]
        with pytest.raises(Unreachable, match="moving to another node"):
            await running
        await until(lambda: lost == [1])
        assert session.alive


@pytest.mark.parametrize(
    "stream",
    [b"?what\r\n", b"*1\r\n$1\r\nx\r\n+OK\r\n", b"*1\r\n$1\r\nx\r\n$-1\r\n-ERR\r\n", b"+OK\r\n", b"*0\r\n",
     b"*2\r\n$1\r\nx\r\n$1\r\nx\r\n"],
    ids=["no protocol", "a reply too many", "two too many", "another's reply", "too few values", "too many values"],
)  # fmt: skip
async def test_a_stream_out_of_step_ends_the_session(tmp_path: Path, stream: bytes) -> None:
    async with open_greeted_session(tmp_path) as (fake, session):
        reading = asyncio.ensure_future(mget(session, b"k"))
        await fake.received.get()
        fake.send(stream)
        assert await reading in (None, [b"x"])
        if stream.endswith((b"what\r\n", b"+OK\r\n", b"-ERR\r\n")) and stream != b"+OK\r\n":
            await until(lambda: not session.alive)


async def test_the_end_of_the_server_is_reported_once(tmp_path: Path) -> None:
    async with open_greeted_session(tmp_path) as (fake, session):
        lost: list[bool] = []
        session.lost = lambda: lost.append(True)
        reading = asyncio.ensure_future(mget(session, b"k"))
        await fake.received.get()
        assert fake.writer is not None
        fake.writer.close()
        assert await reading is None
        session.close()
        assert lost == [True]


async def test_a_caller_that_was_cancelled_does_not_shift_the_replies_of_the_others(redis_url: str) -> None:
    async with open_session(redis_url) as session:
        await session.call((b"MSET", b"1", b"V1", b"2", b"V2"))
        gone = asyncio.ensure_future(session.call((b"GET", b"1")))
        staying = asyncio.ensure_future(session.call((b"GET", b"2")))
        await turns(1)
        gone.cancel()
        assert await staying == [b"V2"]


async def test_a_cancelled_dial_leaves_no_connection(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with fake_redis(path) as fake:
        dialling = asyncio.ensure_future(dial(f"unix://{path}", timeout_ms=TIMEOUT_MS, token_ms=1000))
        await fake.received.get()
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        assert fake.writer is not None
        await fake.writer.wait_closed()


# Replies in pieces ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_greeted_session(folder: Path) -> AsyncIterator[tuple[Any, RedisSession]]:
    path = str(folder / "s")
    async with fake_redis(path) as fake:
        dialling = asyncio.ensure_future(dial(f"unix://{path}", timeout_ms=TIMEOUT_MS, token_ms=1000))
        await fake.received.get()
        text = b"role:master\r\nrun_id:fake-run-id\r\n"
        fake.send(b"$%d\r\n%s\r\n" % (len(text), text) + 4 * b"$4\r\nsha1\r\n")
        session = await dialling
        assert session.run_ids == ("fake-run-id",)
        try:
            yield fake, session
        finally:
            session.close()


values = st.one_of(st.none(), st.binary(max_size=20), st.just(b"\r\n$-1\r\n"))


def bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.lists(values, min_size=1, max_size=5), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 400), max_size=30),
)
def test_replies_reach_their_callers_however_the_stream_is_cut(
    batches: list[list[bytes | None]], cuts: list[int]
) -> None:
    async def check() -> None:
        session = RedisSession(1000, 1000)
        session.connection_made(_Nowhere())
        got: list[list[bytes | None] | None] = []
        for batch in batches:
            session.mget([b"k"] * len(batch), got.append)
        stream = b"".join(b"*%d\r\n" % len(batch) + b"".join(map(bulk, batch)) for batch in batches)
        borders = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
        for begin, end in pairwise(borders):
            session.data_received(stream[begin:end])
        assert got == batches
        session.close()

    asyncio.run(check())


class _Nowhere(asyncio.Transport):
    def write(self, data: Any) -> None: ...

    def abort(self) -> None: ...


# The marker ----------------------------------------------------------------------------------------------------


async def raise_marker(session: RedisSession, marker: Marker) -> Marker | None:
    found: asyncio.Future[list[bytes] | None] = asyncio.get_running_loop().create_future()
    session.raise_marker(b"marker", tag(marker), (), found.set_result)
    values = await found
    return None if values is None else read_marker(values[0])


async def mget_marked(session: RedisSession, marker: Marker, *keys: bytes) -> list[bytes | None] | None:
    found: asyncio.Future[list[bytes | None] | None] = asyncio.get_running_loop().create_future()
    session.mget_marked(b"marker", [tag(marker)], keys, found.set_result)
    return await found


async def test_the_marker_is_raised_and_never_lowered(redis_url: str) -> None:
    """The script and `Marker.exceeds` agree, for timelines, generations, routes and other systems."""
    session = await dial(redis_url, timeout_ms=TIMEOUT_MS, token_ms=1000)
    for seed in range(150):
        rng = random.Random(seed)
        one, other = (
            Marker(rng.randint(1, 2), rng.choice((9, 10, 2**20 + 9)), rng.randint(9, 10), rng.choice(("1", "2")))
            for _ in range(2)
        )
        await session.call((b"DEL", b"marker"))
        assert await raise_marker(session, one) == one
        expected = other if other.exceeds(one) else one
        assert await raise_marker(session, other) == expected
        assert await raise_marker(session, one) == expected
        assert await session.call((b"TTL", b"marker")) == [-1]
    session.close()


async def test_values_count_only_beside_the_same_marker(redis_url: str) -> None:
    session = await dial(redis_url, timeout_ms=TIMEOUT_MS, token_ms=1000)
    own = Marker(1, 5, 2, "1")
    await session.call((b"SET", b"k", b"v"))
    assert await mget_marked(session, own, b"k", b"x") is None
    await raise_marker(session, own)
    assert await mget_marked(session, own, b"k", b"x") == [b"v", None]
    for other in (own._replace(generation=4), own._replace(routes_version=3), own._replace(system_identifier="2")):
        assert await mget_marked(session, other, b"k") is None
    await session.call((b"SCRIPT", b"FLUSH"))
    assert await raise_marker(session, own) is None  # not certain
    assert await raise_marker(session, own) == own
    session.close()
    assert await mget_marked(session, own, b"k") is None
    assert await raise_marker(session, own) is None
