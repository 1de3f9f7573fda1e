"""A session: one connection to one Redis (or Valkey) server, from its opening to its first trouble.

Rule 7 of `coherence` needs a connection that never reconnects by itself: a command is sent on the connection for which
its key was made, or not at all.  Client libraries reconnect and retry.  So this module has a connection of its own,
with the reader and packer of the library (hiredis).  It uses callbacks instead of tasks, because every lookup passes
here.

Any trouble ends the session: a reply that takes longer than the time limit (a slow Redis counts as unreachable), a
broken stream, a server that is not a primary any more.  Commands without a reply are reported as unknown.  They can
still take effect later, and the protocol allows for that.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import sha1
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import hiredis

from oracle.store.base import Copy
from oracle.store.cache.values import FENCE

# Replies of a server that must not be used now: none of its copies can be believed.
_NOT_A_PRIMARY: Final = (
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "NOAUTH",
    "NOPERM",
    "CLUSTERDOWN",
    "MOVED",
    "ASK",
    "UNBLOCKED",
)
# The slot of the key moves to another node now, and the key is not here any more.  In a cluster this is an error of one
# command, as each caller takes it: every other key is where it was.  Until all keys of the slot have moved, a new
# session would meet the same, and the budgets ask for the same key every second.
_MOVES: Final = "ASK"
# Store the values whose keys hold their tokens; return how many are lost.  Each key has a token, a value and a TTL.
# MGET and not GET: a key with a value that is no string must not end the script.
_FILL: Final = b"""
local found = redis.call('MGET', unpack(KEYS))
local lost = 0
for i, key in ipairs(KEYS) do
    if found[i] == ARGV[3 * i - 2] then
        redis.call('SET', key, ARGV[3 * i - 1], 'PX', ARGV[3 * i])
    else
        lost = lost + 1
    end
end
return lost
"""
# Raise the marker; return what it is now.  See `values.Marker.exceeds`.  A script cannot check tags, because it has no
# key: the caller does, and names the values that must not stay.  It reads the beginning only: no marker of ours is
# longer, and a reply of megabytes would end the session each time.
_RAISE: Final = b"""
local present = redis.pcall('GETRANGE', KEYS[1], 0, 255)
if type(present) == 'table' then present = false end  -- not a string
if present == ARGV[1] then return present end
for i = 2, #ARGV do
    if present == ARGV[i] then present = false end
end
if present then
    local form = '^(%d+):(%d+):(%d+):([^:]*):%x+$'
    local t, g, r, s = string.match(present, form)
    local T, G, R, S = string.match(ARGV[1], form)
    if t then
        t, g, r, T, G, R = tonumber(t), tonumber(g), tonumber(r), tonumber(T), tonumber(G), tonumber(R)
        if s ~= S then t, T = 0, 0 end
        if t > T or (t == T and (g > G or (g == G and r >= R))) then return present end
    end
end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
"""
# Remove a value that begins with this, if it is still there.  Not a fence that was set meanwhile: nobody deletes one.
_REMOVE: Final = b"""
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
return 1
"""
# End a fence or a token that would stay for longer than any of ours, and a value that is no string.  A fence gets the
# time of a new one: it can be real, and nobody deletes one.
_SHORTEN: Final = b"""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return 0 end
if kind ~= 'string' then
    redis.call('UNLINK', KEYS[1])
    return 1
end
local left = redis.call('PTTL', KEYS[1])
if redis.call('STRLEN', KEYS[1]) > 17 or (left >= 0 and left <= tonumber(ARGV[1])) then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""
REMOVED_BY: Final = 64  # bytes from the beginning; a value can be huge
# The type stub of hiredis allows tuples of one element only.
_pack: Final = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)
_HEADS: Final = [b"$%d\r\n" % length for length in range(1024)]  # of an argument; `_pack` takes longer to write them
_PING: Final = _pack((b"PING",))
# A long list of fences is sent in chunks, so that lookups on the same connection get their turn in between.
FENCE_CHUNK: Final = 256
# Nothing else runs in Redis while a script does: so many keys take it less than a millisecond.
FILL_CHUNK: Final = 64

Replies = list[Any]


class Unreachable(Exception):
    """Redis cannot be reached now, or did not answer in time.  The text says why, if that is known, without values."""


class RedisSession(asyncio.Protocol):
    """A session (see the module).  `run_ids` names the server; `lost` is called once, when the session ends."""

    def __init__(self, timeout_ms: int, token_ms: int) -> None:
        self.run_ids: tuple[str, ...] = ()
        self.refusal = ""  # why the session ended, as far as this is known
        self.alive = False
        self.clustered = False  # a node of a cluster takes no command with keys of several slots
        self.lost: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_ms / 1000
        self._token_ms = b"%d" % token_ms
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        # (replies to expect, replies so far, callback), in the order of the commands
        self._pending: deque[tuple[int, Replies, Callable[[Replies | None], None]]] = deque()
        self._delayed: list[bytes] = []  # commands of this turn of the loop that are not written
        self._alive_at = 0.0  # the time of the last reply
        self._timer: asyncio.TimerHandle | None = None
        self._fill_sha = self._raise_sha = self._remove_sha = self._shorten_sha = b""

    # -- the connection -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.Transport", transport
        )  # uvloop's transport is one, but does not inherit from it
        self.alive = True

    def data_received(self, data: bytes) -> None:
        self._alive_at = self._loop.time()
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
            while reply is not False:
                self._take(reply)
                reply = self._reader.gets()
        except (hiredis.ProtocolError, IndexError):  # a stream out of step cannot be repaired
            # The first byte of TLS 1.x is the kind of its record: alert, or handshake.
            speaks_tls = data[:1] in {b"\x15", b"\x16"}
            self.refusal = (
                "it uses TLS: write rediss in place of redis"
                if speaks_tls
                else "another program listens at the address of Redis"
            )
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        # With TLS 1.3, a server refuses a client without a certificate after the handshake.
        reason = explain_dialling(exc) if isinstance(exc, ssl.SSLError) else "it closed the connection"
        self.refusal = self.refusal or reason
        self.close()

    def close(self) -> None:
        if not self.alive:
            return
        self.alive = False
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._delayed = []
        waiting, self._pending = self._pending, deque()
        for _, _, done in waiting:
            done(None)
        self.lost()

    # -- requests and replies -------------------------------------------------------------------------------------

    def send(self, payload: bytes, replies: int, done: Callable[[Replies | None], None]) -> None:
        """Write commands; `done` gets all their replies in order, or None when the session ended before the last."""
        if not self.alive or self._transport is None:
            done(None)
            return
        if not self._pending:
            self._alive_at = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout_s, self._check_life)
        self._pending.append((replies, [], done))
        if self._delayed:  # they come first, as in `_pending`
            payload = b"".join(self._delayed) + payload
            self._delayed = []
        self._transport.write(payload)

    def _send_together(self, payload: bytes, replies: int, done: Callable[[Replies | None], None]) -> None:
        """Do as `send` does, by one write for all of this turn of the loop: each write wakes the server.

        What the caller plans by `call_soon` afterwards comes after the write.
        """
        if not self.alive:
            done(None)
            return
        if not self._pending:
            self._alive_at = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout_s, self._check_life)
        self._pending.append((replies, [], done))
        if not self._delayed:
            self._loop.call_soon(self._write_delayed)
        self._delayed.append(payload)

    def _write_delayed(self) -> None:
        delayed, self._delayed = self._delayed, []
        if delayed and self._transport is not None:
            self._transport.write(b"".join(delayed))

    async def call(self, *commands: tuple[bytes | str | int, ...]) -> Replies:
        """Do as `send` does, for callers that can wait.  Raises Unreachable."""
        return await self._request(b"".join(map(_pack, commands)), len(commands))

    async def run(self, script: bytes, keys: Sequence[bytes], arguments: Sequence[bytes | int]) -> Any:
        end = (len(keys), *keys, *arguments)
        future: asyncio.Future[Replies | None] = self._loop.create_future()
        self._send_together(_pack((b"EVALSHA", _name_script(script), *end)), 1, partial(_finish, future))
        replies = await future
        if replies is None:
            raise Unreachable(self.refusal)
        reply = replies[0]
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            (reply,) = await self.call((b"EVAL", script, *end))  # the first time, and after a SCRIPT FLUSH
        if isinstance(reply, hiredis.ReplyError):
            raise Unreachable(_explain_reply(reply, self.clustered))
        return reply

    async def ask(self, key: bytes, *commands: tuple[bytes | str | int, ...]) -> Replies:  # noqa: ARG002 - as `write`
        future: asyncio.Future[Replies | None] = self._loop.create_future()
        self._send_together(b"".join(map(_pack, commands)), len(commands), partial(_finish, future))
        replies = await future
        if replies is None:
            raise Unreachable(self.refusal)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise Unreachable(_explain_reply(reply, self.clustered))
        return replies

    def write(self, key: bytes, *commands: tuple[bytes | str | int, ...]) -> None:  # noqa: ARG002 - a cluster needs it
        self._send_together(b"".join(map(_pack, commands)), len(commands), _ignore)

    async def _request(self, payload: bytes, count: int) -> Replies:
        future: asyncio.Future[Replies | None] = self._loop.create_future()
        self.send(payload, count, partial(_finish, future))
        replies = await future
        if replies is None:
            raise Unreachable(self.refusal)
        return replies

    def _take(self, reply: Any) -> None:
        if (
            isinstance(reply, hiredis.ReplyError)
            and str(reply).startswith(_NOT_A_PRIMARY)
            and not (self.clustered and str(reply).startswith(_MOVES))
        ):
            self.refusal = _explain_reply(reply, self.clustered)
            self.close()
            return
        if not self.alive:
            return
        count, replies, done = self._pending[0]
        replies.append(reply)
        if len(replies) == count:
            self._pending.popleft()
            done(replies)

    def _check_life(self, stalled: bool = False) -> None:
        """End the session if replies are due and none has arrived for the whole time limit.

        uvloop runs timers before it reads sockets: after a stall of this process the reply can be there, unread.  So
        this decides one turn of the loop later.
        """
        self._timer = None
        if not self._pending or not self.alive:
            return
        idle_s = self._loop.time() - self._alive_at
        if idle_s < self._timeout_s:
            self._timer = self._loop.call_later(self._timeout_s - idle_s, self._check_life)
        elif not stalled:
            self._timer = self._loop.call_later(0.001, self._check_life, True)
        else:
            self.refusal = "it does not answer"
            self.close()

    # -- the commands of the protocol -----------------------------------------------------------------------------

    def mget(self, keys: Sequence[bytes], done: Callable[[list[bytes | None] | None], None]) -> None:
        def answer(replies: Replies | None) -> None:
            done(self._values(replies, len(keys)))

        self.send(*self._pack_reads(keys), answer)

    def mget_marked(
        self,
        key: bytes,
        markers: Sequence[bytes],
        keys: Sequence[bytes],
        done: Callable[[list[bytes | None] | None], None],
    ) -> None:
        def answer(replies: Replies | None) -> None:
            values = self._values(replies, 1 + len(keys))
            done(values[1:] if values is not None and values[0] in markers else None)

        self.send(*self._pack_reads([key, *keys]), answer)

    def raise_marker(
        self, key: bytes, marker: bytes, replaced: Sequence[bytes], done: Callable[[list[bytes] | None], None]
    ) -> None:
        self.raise_markers([key], marker, replaced, done)

    def raise_markers(
        self,
        keys: Sequence[bytes],
        marker: bytes,
        replaced: Sequence[bytes],
        done: Callable[[list[bytes] | None], None],
    ) -> None:
        def answer(replies: Replies | None) -> None:
            if replies is not None and any(str(reply).startswith("NOSCRIPT") for reply in replies):
                self.send(_pack((b"SCRIPT", b"LOAD", _RAISE)), 1, _ignore)  # after a SCRIPT FLUSH
            certain = replies is not None and all(isinstance(reply, bytes) for reply in replies)
            done(replies if certain else None)

        commands = [_pack((b"EVALSHA", self._raise_sha, b"1", key, marker, *replaced)) for key in keys]
        self.send(b"".join(commands), len(keys), answer)

    def _pack_reads(self, keys: Sequence[bytes]) -> tuple[bytes, int]:
        """Return the commands that read these keys, and the number of their replies."""
        if self.clustered:
            return b"".join([_pack((b"GET", key)) for key in keys]), len(keys)
        try:
            return b"*%d\r\n$4\r\nMGET\r\n%b\r\n" % (1 + len(keys), b"\r\n".join([_HEADS[len(k)] + k for k in keys])), 1
        except IndexError:
            return _pack((b"MGET", *keys)), 1

    def _values(self, replies: Replies | None, count: int) -> list[bytes | None] | None:
        """Return the values that `_pack_reads` asked for; None if the session broke or the server refused."""
        if replies is None or (self.clustered and any(isinstance(reply, hiredis.ReplyError) for reply in replies)):
            return None
        values = replies if self.clustered else replies[0]
        return values if isinstance(values, list) and len(values) == count else None

    def lease(self, keys: Sequence[bytes], token: bytes, done: Callable[[list[bool]], None]) -> None:
        def answer(replies: Replies | None) -> None:
            # nil: the key was absent and holds our token now.  An error (out of memory) means that it does not.
            done([reply is None for reply in replies] if replies is not None else [False] * len(keys))

        # All commands of a batch end in the same way, so most of the packing is done once.  Not by a script: for Redis
        # that is dearer.
        end = b"\r\n" + _pack((token, b"NX", b"GET", b"PX", self._token_ms)).partition(b"\r\n")[2]
        commands = [b"*7\r\n$3\r\nSET\r\n$%d\r\n%b%b" % (len(key), key, end) for key in keys]
        self.send(b"".join(commands), len(keys), answer)

    def fill(self, copies: Sequence[Copy], lost: Callable[[int], None]) -> None:
        size = 1 if self.clustered else FILL_CHUNK
        chunks = [copies[start : start + size] for start in range(0, len(copies), size)]

        def answer(replies: Replies | None) -> None:
            missing = 0
            for chunk, reply in zip(chunks, replies or [None] * len(chunks), strict=True):
                missing += reply if isinstance(reply, int) else len(chunk)
            if missing:
                lost(missing)
            if replies is not None and any(str(reply).startswith("NOSCRIPT") for reply in replies):
                self.send(_pack((b"SCRIPT", b"LOAD", _FILL)), 1, _ignore)  # after a SCRIPT FLUSH

        self.send(b"".join([self._pack_fill(chunk) for chunk in chunks]), len(chunks), answer)

    def _pack_fill(self, copies: Sequence[Copy]) -> bytes:
        command: list[bytes | int] = [b"EVALSHA", self._fill_sha, len(copies)]
        command += [copy[0] for copy in copies]
        for copy in copies:
            command += copy[1:]
        return _pack(tuple(command))

    def unlink(self, keys: Sequence[bytes]) -> None:
        if self.clustered:
            self.send(b"".join([_pack((b"UNLINK", key)) for key in keys]), len(keys), _ignore)
        else:
            self.send(_pack((b"UNLINK", *keys)), 1, _ignore)

    def remove(self, key: bytes, value: bytes) -> None:
        command = (b"EVALSHA", self._remove_sha, b"1", key, value[:REMOVED_BY])

        def answer(replies: Replies | None) -> None:
            if replies is not None and str(replies[0]).startswith("NOSCRIPT"):
                self.send(_pack((b"SCRIPT", b"LOAD", _REMOVE)), 1, _ignore)  # after a SCRIPT FLUSH

        self.send(_pack(command), 1, answer)

    def shorten(self, key: bytes, ttl_ms: int, done: Callable[[], None]) -> None:
        def answer(replies: Replies | None) -> None:
            if replies is None:
                return
            if replies[0] == 1:
                done()
            elif str(replies[0]).startswith("NOSCRIPT"):
                self.send(_pack((b"SCRIPT", b"LOAD", _SHORTEN)), 1, _ignore)  # after a SCRIPT FLUSH

        self.send(_pack((b"EVALSHA", self._shorten_sha, b"1", key, b"%d" % ttl_ms)), 1, answer)

    def ping(self) -> None:
        self.send(_PING, 1, _ignore)

    async def fence(self, keys: Sequence[bytes], ttl_ms: int) -> bool:
        px = b"%d" % ttl_ms
        try:
            for start in range(0, len(keys), FENCE_CHUNK):
                replies = await self.call(*((b"SET", k, FENCE, b"PX", px) for k in keys[start : start + FENCE_CHUNK]))
                if any(reply != b"OK" for reply in replies):
                    return False
        except Unreachable:
            return False
        return True

    async def find_unfenced(self, keys: Sequence[bytes]) -> list[bytes] | None:
        missing: list[bytes] = []
        try:
            for start in range(0, len(keys), FENCE_CHUNK):
                chunk = keys[start : start + FENCE_CHUNK]
                values = self._values(await self._request(*self._pack_reads(chunk)), len(chunk))
                if values is None:
                    return None
                missing += [k for k, v in zip(chunk, values, strict=True) if v != FENCE]
        except Unreachable:
            return None
        return missing

    async def greet(self, username: str | None, password: str | None, db: int) -> None:
        """Log in, read the run id of the server, load the scripts.  Raises Unreachable."""
        if password:
            self._expect_ok(await self.call((b"AUTH", username or "default", password)))
        if db:
            self._expect_ok(await self.call((b"SELECT", db)))
        info, *shas = await self.call(
            (b"INFO", b"everything"), *((b"SCRIPT", b"LOAD", script) for script in (_FILL, _RAISE, _REMOVE, _SHORTEN))
        )
        if not isinstance(info, bytes) or not all(isinstance(sha, bytes) for sha in shas):
            raise Unreachable(_explain_reply(info))
        facts = dict(line.split(":", 1) for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
        # A replica answers reads, but it lags behind: a fence can be missing there.
        if facts.get("role") != "master" or "run_id" not in facts:
            raise Unreachable("it is a replica: the service needs the primary")
        self.run_ids = (facts["run_id"],)
        self._fill_sha, self._raise_sha, self._remove_sha, self._shorten_sha = shas

    def _expect_ok(self, replies: Replies) -> None:
        if replies[0] != b"OK":
            raise Unreachable(_explain_reply(replies[0]))


@lru_cache(64)
def _name_script(script: bytes) -> bytes:
    """Return the name by which a server knows a script that it has run before."""
    return sha1(script, usedforsecurity=False).hexdigest().encode()


def _finish(future: asyncio.Future[Replies | None], replies: Replies | None) -> None:
    if not future.done():  # the caller can be cancelled meanwhile
        future.set_result(replies)


def _ignore(replies: Replies | None) -> None:
    """Ignore the replies: a fill that failed costs no more than a later read."""


# How the refusals of a server begin.  Their text can quote the command, so it is not repeated.
_REFUSALS: Final = {
    "WRONGPASS": "it does not accept the user or the password of the URL",
    "NOAUTH": "it wants a password, and the URL has none",
    "NOPERM": "its user has no right to run the commands that the service needs",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "it is a replica: the service needs the primary",
    "READONLY": "it is a replica: the service needs the primary",
    "MOVED": "it is one of a cluster: write redis+cluster in place of redis",
    "ASK": "it is one of a cluster: write redis+cluster in place of redis",
    "CLUSTERDOWN": "its cluster is down",
    "MISCONF": "it takes no changes, because it cannot write to its disk",
    "ERR DB index": "it does not have the database of the URL",
    "ERR invalid DB": "it does not have the database of the URL",
    "ERR AUTH": "it has no password, and the URL has one",
    "ERR Client sent AUTH": "it has no password, and the URL has one",
}


_OF_A_CLUSTER: Final = {
    "MOVED": "a slot of its cluster has moved to another node",
    "ASK": "a slot of its cluster is moving to another node",
}


def _explain_reply(reply: object, clustered: bool = False) -> str:
    """`clustered`: the session is to a node of a cluster, as the URL says."""
    text = str(reply)
    if clustered and text.startswith(tuple(_OF_A_CLUSTER)):
        return next(reason for start, reason in _OF_A_CLUSTER.items() if text.startswith(start))
    return next((reason for start, reason in _REFUSALS.items() if text.startswith(start)), "it refuses the service")


def explain_dialling(error: BaseException) -> str:
    """Explain why a server cannot be reached, without parts of its URL."""
    if isinstance(error, Unreachable):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "TLS failed: the server does not use it, or wants a certificate of the service"
    if isinstance(error, socket.gaierror):
        return "the name of its host is not known"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens at the address of Redis"
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""


class Address(NamedTuple):
    """Where a server is, and as whom to log in."""

    path: str  # of a socket; '' if host and port count
    host: str
    port: int
    is_encrypted: bool
    username: str | None
    password: str | None
    db: int
    tls: Mapping[str, str]  # how the certificates are checked, by the names of redis-py: see `read_tls`


def parse_url(url: str) -> Address:
    """Read a `redis://`, `rediss://` or `unix://` URL, as the library does, whose import takes 0.3 s of each start."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    path = unquote(parts.path)
    is_socket = parts.scheme == "unix"
    db = options.get("db", "" if is_socket else path.strip("/"))
    return Address(
        path=path if is_socket else "",
        host=unquote(parts.hostname or "127.0.0.1"),
        port=parts.port or 6379,
        is_encrypted=parts.scheme == "rediss",
        username=unquote(parts.username or "") or options.get("username"),
        password=unquote(parts.password or "") or options.get("password"),
        db=int(db) if db.isdecimal() else 0,
        tls=read_tls(parts.query),
    )


def read_tls(query: str) -> dict[str, str]:
    """Read the members of a URL that say how the certificates of TLS are checked, as the library names them."""
    return {name: value for name, value in parse_qsl(query) if name.startswith("ssl_")}


def make_tls_context(tls: Mapping[str, str]) -> ssl.SSLContext:
    """Make the context of a connection.  Raises OSError if a file cannot be used."""
    context = ssl.create_default_context(cafile=tls.get("ssl_ca_certs"))
    if tls.get("ssl_check_hostname", "true").lower() == "false" or tls.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
    if tls.get("ssl_cert_reqs") == "none":
        context.verify_mode = ssl.CERT_NONE
    if "ssl_certfile" in tls:
        context.load_cert_chain(tls["ssl_certfile"], tls.get("ssl_keyfile"))
    return context


async def dial(url: str, *, timeout_ms: int, token_ms: int) -> RedisSession:
    """Open a session to a `redis://`, `rediss://` or `unix://` server.  Raises Unreachable."""
    at = parse_url(url)
    loop = asyncio.get_running_loop()

    def make() -> RedisSession:
        return RedisSession(timeout_ms, token_ms)

    session: RedisSession | None = None
    try:
        context = make_tls_context(at.tls) if at.is_encrypted else None
        # To open can take longer than a command: TLS, a name server, a distant server.
        async with asyncio.timeout(max(1.0, timeout_ms / 1000)):
            if at.path:
                _, session = await loop.create_unix_connection(make, at.path)
            else:
                _, session = await loop.create_connection(make, at.host, at.port, ssl=context)
            await session.greet(at.username, at.password, at.db)
    except BaseException as exc:
        if session is not None:
            session.close()
        if isinstance(exc, OSError | Unreachable):  # a TimeoutError is an OSError
            reason = explain_dialling(exc)
            if at.is_encrypted and isinstance(exc, TimeoutError):
                reason = "it does not answer, or does not use TLS: then write redis in place of rediss"
            raise Unreachable(reason) from exc
        raise
    return session
