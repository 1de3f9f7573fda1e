"""The same session over one server, a Sentinel's primary, or a cluster."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import servers
from redis.crc import key_slot
from stand_ins import read_marker, tag
from tls import make_certificate, serve_tls
from valkey_cluster import cluster, cluster_url, find_owner, move_slot, until

from oracle.run.embedded.binaries import find_valkey_binary
from oracle.store.cache.session import Unreachable
from oracle.store.cache.topology import ClusterSession, dialler, find_slot, list_hosts
from oracle.store.cache.values import FENCE, Marker

if TYPE_CHECKING:
    from conftest import StartValkey

    from oracle.run.embedded import ValkeyServer
    from oracle.store.base import Session

KEYS = [b"k:%d" % number for number in range(300)]


def dial(url: str) -> Callable[[], Awaitable[Session]]:
    return dialler(url, timeout_ms=30_000, token_ms=60_000)


async def mget(session: Session, keys: list[bytes]) -> list[bytes | None] | None:
    future: asyncio.Future[list[bytes | None] | None] = asyncio.get_running_loop().create_future()
    session.mget(keys, future.set_result)
    return await future


async def lease(session: Session, keys: list[bytes], token: bytes) -> list[bool]:
    future: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
    session.lease(keys, token, future.set_result)
    return await future


@pytest.mark.parametrize(
    "key", [b"", b"k:1", b"a{b}c", b"a{}c", b"{}", b"a{b", b"a}b{c}", b"{{x}}", b"x{a}{b}", b"\xff"]
)
def test_a_slot_is_the_one_of_the_library(key: bytes) -> None:
    assert find_slot(key) == key_slot(key)


async def test_a_cluster_answers_as_one_server_would(start_valkey: StartValkey) -> None:
    async with cluster(start_valkey) as nodes:
        session = await dial(cluster_url(nodes))()
        assert len(session.run_ids) == 3
        assert await mget(session, KEYS) == [None] * len(KEYS)
        assert await lease(session, KEYS, b"token") == [True] * len(KEYS)
        assert await lease(session, KEYS, b"token") == [False] * len(KEYS)
        lost: list[int] = []
        session.fill([(key, b"token", b"V" + key, 60_000) for key in KEYS], lost.append)
        session.fill([(KEYS[0], b"another", b"V", 10_000)], lost.append)
        assert await mget(session, KEYS) == [b"V" + key for key in KEYS]
        assert lost == [1]
        assert await session.fence(KEYS[:100], 60_000)
        assert await mget(session, KEYS[:101]) == [FENCE] * 100 + [b"V" + KEYS[100]]
        assert sorted(await session.find_unfenced(KEYS) or []) == sorted(KEYS[100:])
        read = b"return redis.call('GET', KEYS[1])"
        assert [await session.run(read, [key], []) for key in KEYS[100:120]] == [b"V" + key for key in KEYS[100:120]]
        session.unlink(KEYS[101:])
        assert await mget(session, KEYS[100:]) == [b"V" + KEYS[100]] + [None] * len(KEYS[101:])
        session.close()


async def test_a_cluster_accepts_a_password_among_the_members_of_its_url(start_valkey: StartValkey) -> None:
    """A password that is a setting of its own becomes such a member."""
    async with cluster(start_valkey) as nodes:
        for node in nodes:
            servers.valkey_command(node, "CONFIG", "SET", "requirepass", "one")
        with pytest.raises(Unreachable):
            await dial(cluster_url(nodes))()
        (await dial(f"{cluster_url(nodes)}?password=one")()).close()


async def test_a_cluster_session_ends_with_the_first_of_its_nodes(start_valkey: StartValkey) -> None:
    async with cluster(start_valkey) as nodes:
        session = await dial(cluster_url(nodes))()
        assert isinstance(session, ClusterSession)
        ends: list[int] = []
        session.lost = lambda: ends.append(1)
        nodes[2].kill()
        await until(lambda: not session.alive)
        assert ends == [1]
        assert await mget(session, KEYS) is None
        assert not await session.fence(KEYS, 3000)
        with pytest.raises(Unreachable):
            await dial(cluster_url(nodes[2:]))()


async def test_each_node_of_a_cluster_holds_the_marker_also_after_slots_have_moved(start_valkey: StartValkey) -> None:
    """A reader with an old map of the slots reads a key that a writer with a new map raises as well."""
    own, later = Marker(1, 5, 2, "1"), Marker(1, 6, 2, "1")
    async with cluster(start_valkey) as nodes:
        session = await dial(cluster_url(nodes))()
        assert isinstance(session, ClusterSession)
        assert await mget_marked(session, own) is None
        assert await raise_marker(session, own) == {own}
        assert await mget_marked(session, own) == [None] * len(KEYS)
        assert await mget_marked(session, later) is None
        # A slot with a marker moves, and nobody has told the reader.
        tag = session._marker_tags()[0]
        key = f"marker{tag.decode()}"
        owner = find_owner(nodes, key)
        servers.valkey_command(nodes[owner], "DEL", key)
        move_slot(nodes, key, (owner + 1) % 3)
        mover: Session | None = None

        async def raised() -> bool:
            nonlocal mover
            if mover is None or not mover.alive:
                mover = await dial(cluster_url(nodes))()
            return await raise_marker(mover, later) == {later}

        await until(raised)
        assert await mget_marked(session, own) is None
        assert await mget_marked(mover, later) == [None] * len(KEYS)
        assert mover is not None
        assert await raise_marker(mover, own) == {later}
        session.close()
        mover.close()


async def raise_marker(session: Session, marker: Marker) -> set[Marker] | None:
    future: asyncio.Future[list[bytes] | None] = asyncio.get_running_loop().create_future()
    session.raise_marker(b"marker", tag(marker), (), future.set_result)
    values = await future
    return None if values is None else set(map(read_marker, values))


async def mget_marked(session: Session | None, marker: Marker) -> list[bytes | None] | None:
    assert session is not None
    future: asyncio.Future[list[bytes | None] | None] = asyncio.get_running_loop().create_future()
    session.mget_marked(b"marker", [tag(marker)], KEYS, future.set_result)
    return await future


async def test_a_moved_slot_ends_the_session_and_the_next_dial_finds_it(start_valkey: StartValkey) -> None:
    async with cluster(start_valkey) as nodes:
        session = await dial(cluster_url(nodes))()
        move_slot(nodes, "k:1", (find_owner(nodes, "k:1") + 1) % 3)
        assert await mget(session, [b"k:1"]) is None
        assert not session.alive

        async def knows() -> bool:
            again = await dial(cluster_url(nodes))()
            values = await mget(again, [b"k:1"])
            again.close()
            return values == [None]

        await until(knows)


async def test_a_cluster_without_all_its_slots_is_unreachable(start_valkey: StartValkey) -> None:
    node = await start_valkey({"cluster-enabled": "yes"})
    servers.valkey_command(node, "CLUSTER", "ADDSLOTSRANGE", "0", "100")
    with pytest.raises(Unreachable):
        await dial(cluster_url([node]))()


@asynccontextmanager
async def sentinel(primary: ValkeyServer, home: Path, *lines: str) -> AsyncIterator[int]:
    port = servers.free_port()
    file = home / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {home}\n"
        f"sentinel monitor directory 127.0.0.1 {primary.options['port']} 1\n"
        "sentinel down-after-milliseconds directory 300\nsentinel failover-timeout directory 2000\n"
        + "".join(f"{line}\n" for line in lines)
    )
    process = subprocess.Popen(  # noqa: ASYNC220 - forks once, and waits for nothing
        [str(find_valkey_binary()), str(file), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def test_sentinel_reports_the_primary_also_after_a_failover(start_valkey: StartValkey, tmp_path: Path) -> None:
    primary = await start_valkey({"repl-diskless-sync-delay": "0"})
    replica = await start_valkey({"replicaof": f"127.0.0.1 {primary.options['port']}"})
    await until(lambda: b"master_link_status:up" in servers.valkey_command(replica, "INFO", "replication"))
    async with sentinel(primary, tmp_path) as port:
        connect = dial(f"redis+sentinel://127.0.0.1:{port}/directory/0")

        async def is_reached(server: ValkeyServer) -> bool:
            try:
                session = await connect()
            except Unreachable:
                return False
            session.close()
            return session.run_ids[0].encode() in servers.valkey_command(server, "INFO", "server")

        await until(lambda: is_reached(primary))
        # The sentinel learns of the replica from the primary, every ten seconds or so.
        await until(lambda: b"num-slaves" in _sentinel(port) and _slaves(port) == 1)
        primary.kill()
        await until(lambda: is_reached(replica))


async def test_sentinels_and_the_primary_have_their_own_passwords_and_the_same_tls(
    start_valkey: StartValkey, tmp_path: Path
) -> None:
    primary = await start_valkey()
    servers.valkey_command(primary, "CONFIG", "SET", "requirepass", "one")
    certificate = make_certificate(tmp_path, "127.0.0.1")
    members = "sentinel_password=two&ssl_check_hostname=false"
    async with (
        serve_tls(certificate, primary.socket) as front,
        sentinel(primary, tmp_path, "requirepass two", "sentinel auth-pass directory one") as port,
        serve_tls(certificate, port) as watcher,
    ):

        async def is_reached(url: str) -> bool:
            try:
                (await dial(url)()).close()
            except Unreachable:
                return False
            return True

        await until(lambda: is_reached(f"redis+sentinel://:one@127.0.0.1:{port}/directory?sentinel_password=two"))
        assert await is_reached(f"redis+sentinel://127.0.0.1:{port}/directory?sentinel_password=two&password=one")
        # It names its primary's own port; clients find the one with TLS.
        _sentinel(port, "AUTH two", f"SENTINEL MONITOR front 127.0.0.1 {front} 1")
        assert not await is_reached(f"redis+sentinel://:one@127.0.0.1:{port}/directory")
        assert not await is_reached(f"redis+sentinel://127.0.0.1:{port}/directory?sentinel_password=two")
        secure = f"rediss+sentinel://:one@127.0.0.1:{watcher}/front?{members}"
        assert await is_reached(f"{secure}&ssl_ca_certs={certificate}")
        assert await is_reached(f"{secure}&ssl_cert_reqs=none")
        assert not await is_reached(secure)


def _sentinel(port: int, *commands: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        for command in commands or ("SENTINEL MASTER directory",):
            client.sendall(f"{command}\r\n".encode())
            answer = client.recv(65536)
        return answer


def _slaves(port: int) -> int:
    words = _sentinel(port).split(b"\r\n")
    return int(words[words.index(b"num-slaves") + 2])


@pytest.mark.parametrize(
    ("netloc", "credentials", "hosts"),
    [
        ("a:1,b:2", "", [("a", 1), ("b", 2)]),
        ("user:p%40ss@a,b:2", "user:p%40ss@", [("a", 0), ("b", 2)]),
        ("[::1]:7000", "", [("::1", 7000)]),
    ],
)
def test_thelist_hosts_of_a_url(netloc: str, credentials: str, hosts: list[tuple[str, int]]) -> None:
    assert list_hosts(netloc) == (credentials, hosts)


async def test_a_sentinel_that_is_away_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        await dial(f"redis+sentinel://127.0.0.1:{servers.free_port()}/directory")()
