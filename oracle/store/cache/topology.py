"""Opens a session to Redis as it is set up: one server, one at a time (Sentinel), or several (Cluster).

    redis://host:6379/0   rediss://…   unix:///path/redis.sock
    redis+sentinel://[user:password@]sentinel1:26379,sentinel2:26379/name-of-the-primary[/db]
    redis+cluster://[user:password@]node1:6379,node2:6379           and rediss+… for both
    members of each: ssl_ca_certs, ssl_cert_reqs, ssl_check_hostname, ssl_certfile, ssl_keyfile; with Sentinel also
    sentinel_username, sentinel_password

The rest of the store sees one Session in each case.  Sentinel only reports which server to dial.  After a failover the
old session ends, by itself or because the generation names another server (rule 6 of `coherence`), and the next dial
asks Sentinel again.  The session of a cluster is one connection to every primary, and ends with the first of them: its
slots and servers are then out of date.  Until the next dial, lookups are answered from the directory.

A cluster has MARKERS keys for the marker (rule 8), spread evenly over the slots, all with the same value.  Processes
can differ about which node serves which slot.  So a process that raises the marker raises all keys.  A process
that reads copies takes a key that their node serves.  If the slot of that key has moved away, the node refuses the
read, and the session ends.
"""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from oracle.store.base import Copy, Session
from oracle.store.cache.session import RedisSession, Unreachable, dial, make_tls_context, read_tls

SLOTS: Final = 16384
MARKERS: Final = 32
DISCOVERY_TIMEOUT_S: Final = 1.0


def dialler(url: str, *, timeout_ms: int, token_ms: int) -> Callable[[], Awaitable[Session]]:
    """Return the function that opens a session, for `Coherence`.  It raises Unreachable."""
    scheme = url.partition("://")[0]

    async def open_one(at: str) -> RedisSession:
        return await dial(at, timeout_ms=timeout_ms, token_ms=token_ms)

    async def connect() -> Session:
        if scheme.endswith("+sentinel"):
            return await open_one(await _primary(url))
        if scheme.endswith("+cluster"):
            return await _open_cluster(url, open_one)
        return await open_one(url)

    return connect


def list_hosts(netloc: str) -> tuple[str, list[tuple[str, int]]]:
    """Return the `user:password@` of a URL, as written, and its hosts."""
    credentials, at, hosts = netloc.rpartition("@")
    found: list[tuple[str, int]] = []
    for host in hosts.split(","):
        name, colon, port = host.rpartition(":")
        bare = name if colon and port.isdigit() else host
        found.append((bare.strip("[]"), int(port) if colon and port.isdigit() else 0))
    return credentials + at, found


def _single(parts: Any, credentials: str, host: str, port: int, db: str = "") -> str:
    """Return the URL of one of the servers, with the scheme, the credentials and the TLS of all.

    Credentials can be before the host or among the members, as settings write a password of its own.
    """
    name = f"[{host}]" if ":" in host else host
    query = urlencode([each for each in parse_qsl(parts.query) if not each[0].startswith("sentinel_")])
    url: str = urlunsplit((parts.scheme.partition("+")[0], f"{credentials}{name}:{port}", f"/{db}", query, ""))
    return url


async def _primary(url: str) -> str:
    # Only Sentinel needs this library, which would take a third of the start of every worker.
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    parts = urlsplit(url)
    credentials, sentinels = list_hosts(parts.netloc)
    name, _, db = parts.path.strip("/").partition("/")
    options = dict(parse_qsl(parts.query))
    tls: dict[str, Any] = {"ssl": True, **read_tls(parts.query)} if parts.scheme.startswith("rediss") else {}
    if "ssl_check_hostname" in tls or tls.get("ssl_cert_reqs") == "none":
        tls["ssl_check_hostname"] = make_tls_context(read_tls(parts.query)).check_hostname
    watchers = Sentinel(  # type: ignore[no-untyped-call]
        [(host, port or 26379) for host, port in sentinels],
        # Without retries of the library: the caller dials again anyway, and the next sentinel can know the primary now.
        sentinel_kwargs={
            "socket_timeout": DISCOVERY_TIMEOUT_S,
            "socket_connect_timeout": DISCOVERY_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            "username": options.get("sentinel_username"),
            "password": options.get("sentinel_password"),
            **tls,
        },
    )
    try:
        host, port = await watchers.discover_master(unquote(name))
    except (RedisError, OSError) as exc:
        # The library reports one error for all Sentinels, whatever each of them answered.
        raise Unreachable("no Sentinel names the primary: ask one with `SENTINEL MASTER` and the name") from exc
    finally:
        await asyncio.gather(*(watcher.aclose() for watcher in watchers.sentinels), return_exceptions=True)
    return _single(parts, credentials, str(host), int(port), db)


def find_slot(key: bytes) -> int:
    """Return the slot of a key, or of its hash tag if it has one (Redis Cluster specification, "Hash tags")."""
    _, opened, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return crc_hqx(tag if opened and closed and tag else key, 0) % SLOTS


async def _open_cluster(url: str, open_one: Callable[[str], Awaitable[RedisSession]]) -> ClusterSession:
    """Ask the first node that answers for the slots, then connect to every primary."""
    parts = urlsplit(url)
    credentials, seeds = list_hosts(parts.netloc)
    ranges: list[Any] = []
    reason = "no node of the cluster knows all slots"
    for host, port in seeds:
        try:
            node = await open_one(_single(parts, credentials, host, port or 6379))
        except Unreachable as exc:
            reason = str(exc)
            continue  # a replica, or unreachable: the next node has the slots, too
        try:
            (ranges,) = await node.call((b"CLUSTER", b"SLOTS"))
        except Unreachable:
            continue
        finally:
            node.close()
        if isinstance(ranges, list) and sum(end - start + 1 for start, end, *_ in ranges) == SLOTS:
            # A node that does not know its own name reports '': it is the node that was asked.
            primaries = {(primary[0].decode() or host, primary[1]) for _, _, primary, *_ in ranges}
            return await _connect_all(ranges, primaries, host, lambda h, p: open_one(_single(parts, credentials, h, p)))
    raise Unreachable(reason)


async def _connect_all(
    ranges: list[Any],
    primaries: set[tuple[str, int]],
    asked: str,
    open_at: Callable[[str, int], Awaitable[RedisSession]],
) -> ClusterSession:
    addresses = sorted(primaries)
    opened = await asyncio.gather(*(open_at(*address) for address in addresses), return_exceptions=True)
    nodes = [node for node in opened if isinstance(node, RedisSession)]
    if len(nodes) < len(addresses):
        for node in nodes:
            node.close()
        raise Unreachable("a primary of the cluster cannot be reached")
    by_address = dict(zip(addresses, nodes, strict=True))
    slots: list[RedisSession] = [nodes[0]] * SLOTS
    for start, end, primary, *_ in ranges:
        slots[start : end + 1] = [by_address[primary[0].decode() or asked, primary[1]]] * (end - start + 1)
    return ClusterSession(nodes, slots)


class ClusterSession:
    """A Session over all primaries of a cluster: splits keys by slot and joins the answers."""

    def __init__(self, nodes: list[RedisSession], slots: list[RedisSession]) -> None:
        self.nodes = nodes
        self._slots = slots
        self._markers: tuple[bytes, dict[RedisSession, bytes]] = (b"", {})
        self.run_ids = tuple(sorted(run_id for node in nodes for run_id in node.run_ids))
        self.lost: Callable[[], None] = lambda: None
        self._closed = False
        for node in nodes:
            node.clustered = True
            node.lost = self.close

    @property
    def refusal(self) -> str:
        return next((node.refusal for node in self.nodes if node.refusal), "")

    @property
    def alive(self) -> bool:
        return not self._closed and all(node.alive for node in self.nodes)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for node in self.nodes:
            node.close()
        self.lost()

    def _node(self, key: bytes) -> RedisSession:
        return self._slots[find_slot(key)]

    @staticmethod
    @cache
    def _marker_tags() -> list[bytes]:
        """Return what follows the marker's key: one hash tag for each MARKERS-th part of the slots."""
        tags: dict[int, bytes] = {}
        for number in count():
            tag = b":{%d}" % number
            tags.setdefault(find_slot(tag) * MARKERS // SLOTS, tag)
            if len(tags) == MARKERS:
                return [tags[part] for part in sorted(tags)]
        raise AssertionError

    def _marker_keys(self, key: bytes) -> dict[RedisSession, bytes]:
        """Return a key of the marker for each node that serves one."""
        if self._markers[0] != key:
            self._markers = key, {self._node(name): name for name in (key + tag for tag in self._marker_tags())}
        return self._markers[1]

    def _split(self, keys: Sequence[bytes]) -> dict[RedisSession, list[int]]:
        """Return the positions of the keys of each node."""
        positions: dict[RedisSession, list[int]] = {}
        for position, key in enumerate(keys):
            positions.setdefault(self._node(key), []).append(position)
        return positions

    def mget(self, keys: Sequence[bytes], done: Callable[[list[bytes | None] | None], None]) -> None:
        self._read(keys, done, RedisSession.mget)

    def mget_marked(
        self,
        key: bytes,
        markers: Sequence[bytes],
        keys: Sequence[bytes],
        done: Callable[[list[bytes | None] | None], None],
    ) -> None:
        names = self._marker_keys(key)

        def read(node: RedisSession, some: list[bytes], part: Callable[[list[bytes | None] | None], None]) -> None:
            if node in names:
                node.mget_marked(names[node], markers, some, part)
            else:  # its slots are so few that no marker is among them
                part(None)

        self._read(keys, done, read)

    def _read(
        self,
        keys: Sequence[bytes],
        done: Callable[[list[bytes | None] | None], None],
        read: Callable[[RedisSession, list[bytes], Callable[[list[bytes | None] | None], None]], None],
    ) -> None:
        values: list[bytes | None] = [None] * len(keys)
        parts = self._split(keys)
        left, broken = len(parts), False

        def part(positions: list[int], found: list[bytes | None] | None) -> None:
            nonlocal left, broken
            left -= 1
            if found is None:
                broken = True
            else:
                for position, value in zip(positions, found, strict=True):
                    values[position] = value
            if not left:
                done(None if broken else values)

        for node, positions in parts.items():
            read(node, [keys[p] for p in positions], partial(part, positions))

    def raise_marker(
        self, key: bytes, marker: bytes, replaced: Sequence[bytes], done: Callable[[list[bytes] | None], None]
    ) -> None:
        parts: dict[RedisSession, list[bytes]] = {}
        for tag in self._marker_tags():
            parts.setdefault(self._node(key + tag), []).append(key + tag)
        left, certain = len(parts), True
        values: list[bytes] = []

        def part(found: list[bytes] | None) -> None:
            nonlocal left, certain
            left -= 1
            values.extend(found or ())
            certain = certain and found is not None
            if not left:
                done(values if certain else None)

        for node, names in parts.items():
            node.raise_markers(names, marker, replaced, part)

    def lease(self, keys: Sequence[bytes], token: bytes, done: Callable[[list[bool]], None]) -> None:
        ours = [False] * len(keys)
        parts = self._split(keys)
        left = len(parts)

        def part(positions: list[int], taken: list[bool]) -> None:
            nonlocal left
            left -= 1
            for position, mine in zip(positions, taken, strict=True):
                ours[position] = mine
            if not left:
                done(ours)

        for node, positions in parts.items():
            node.lease([keys[p] for p in positions], token, partial(part, positions))

    def fill(self, copies: Sequence[Copy], lost: Callable[[int], None]) -> None:
        for node, positions in self._split([copy[0] for copy in copies]).items():
            node.fill([copies[p] for p in positions], lost)

    def unlink(self, keys: Sequence[bytes]) -> None:
        for node, positions in self._split(keys).items():
            node.unlink([keys[p] for p in positions])

    def remove(self, key: bytes, value: bytes) -> None:
        self._node(key).remove(key, value)

    def shorten(self, key: bytes, ttl_ms: int, done: Callable[[], None]) -> None:
        self._node(key).shorten(key, ttl_ms, done)

    async def fence(self, keys: Sequence[bytes], ttl_ms: int) -> bool:
        parts = self._split(keys)
        are_set = await asyncio.gather(*(n.fence([keys[p] for p in at], ttl_ms) for n, at in parts.items()))
        return all(are_set)

    async def find_unfenced(self, keys: Sequence[bytes]) -> list[bytes] | None:
        parts = self._split(keys)
        missing = await asyncio.gather(*(n.find_unfenced([keys[p] for p in at]) for n, at in parts.items()))
        if any(part is None for part in missing):
            return None
        return [key for part in missing for key in part or ()]

    async def run(self, script: bytes, keys: Sequence[bytes], arguments: Sequence[bytes | int]) -> Any:
        return await self._node(keys[0]).run(script, keys, arguments)

    async def ask(self, key: bytes, *commands: tuple[bytes | str | int, ...]) -> list[Any]:
        return await self._node(key).ask(key, *commands)

    def write(self, key: bytes, *commands: tuple[bytes | str | int, ...]) -> None:
        self._node(key).write(key, *commands)

    def ping(self) -> None:
        for node in self.nodes:
            node.ping()
