"""The hub, small and merciless: keep-alive connections that look up and change, and write down every call."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from itertools import count
from math import inf
from typing import Any, Final

import asyncpg
from history import NOBODY, Call, CallResult, Kind

TYPE: Final = "ALIAS"
COLD: Final = "cold-"
LOOK_TIMEOUT_S: Final = 4.0
# Above the deadline that the oracle has for a change.
CHANGE_TIMEOUT_S: Final = 12.0
CONTENT: Final = "application/vnd.interoperability.participants+json;version=1.1"
RECONNECT_S: Final = 0.02
TOGETHER: Final = 6
# Of the looks, for the keys that are being changed all the time: that is where changes and looks meet.
HOT_SHARE: Final = 0.3
# Possible statuses of each call, besides 503.
DONE: Final[dict[Kind, int]] = {"look": 200, "register": 201, "remove": 204}
REFUSALS: Final[dict[Kind, tuple[int, ...]]] = {"look": (), "register": (409,), "remove": (403, 404)}


class Broken(Exception):
    """No answer, or none that can be read."""


class Connection:
    """One keep-alive connection, opened anew whenever it broke.  `port` is asked anew then, too."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, *, source: str = "hub", body: bytes = b"", timeout_s: float = LOOK_TIMEOUT_S
    ) -> tuple[int, bytes]:
        """Raises Broken."""
        head = f"{method} {path} HTTP/1.1\r\nhost: oracle\r\nfspiop-source: {source}\r\n"
        if body:
            head += f"content-type: {CONTENT}\r\ncontent-length: {len(body)}\r\n"
        try:
            async with asyncio.timeout(timeout_s):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port())
                reader, writer = self._streams
                writer.write(head.encode() + b"\r\n" + body)
                return await self._answer(reader)
        except (OSError, EOFError, TimeoutError, ValueError) as exc:
            self.close()
            raise Broken(repr(exc)) from exc

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status, body = int(head[9:12]), b""
        _, found, rest = head.partition(b"content-length:")
        if found and status != 204:
            body = await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        if b"connection: close" in head:
            self.close()
        return status, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Book:
    """The record of all calls; it also decides which client changes which key next."""

    def __init__(self, seed: int, keys: int, hot: int, calm: int) -> None:
        self.random = random.Random(seed)
        self.keys = [f"party-{number:02}" for number in range(keys)]
        self.hot = self.keys[:hot]
        self.calm = set(self.keys[-calm:])
        self.still = self.keys[-2:]  # registered once and left alone
        self.calls: list[Call] = []
        self.odd: list[str] = []
        self.stopped = False
        self.resting = False  # nobody begins a change
        self.changing = 0
        self.hot_share = HOT_SHARE
        self._owners = 0
        now = time.monotonic()
        self._due = {key: now + self.random.uniform(0, 2) for key in self.keys}

    def new_owner(self) -> str:
        self._owners += 1
        return f"fsp-{self._owners}"

    def next_key(self) -> str | None:
        """Choose a key to change now.

        A hot one again at once, so that changes meet each other.  A calm one seldom, so that there are copies to live
        on.  The others rest until the fence of the last change (3 s) is about to go, or until copies are made.
        """
        now = time.monotonic()
        due = [key for key in self.keys if self._due[key] <= now]
        if not due:
            return None
        key = self.random.choice(due)
        span = (0, 0.1) if key in self.hot else (10, 40) if key in self.calm else (2.9, 5)
        self._due[key] = inf if key in self.still else now + self.random.uniform(*span)
        return key

    def note(self, call: Call) -> Call:
        self.calls.append(call)
        return call


async def call(
    book: Book, connection: Connection, kind: Kind, key: str, owner: str = NOBODY, where: str = "", path: str = TYPE
) -> Call:
    """One call, written down."""
    method = {"look": "GET", "register": "POST", "remove": "DELETE"}[kind]
    body = json.dumps({"fspId": owner}).encode() if kind == "register" else b""
    source = owner if kind != "look" else "hub"
    timeout_s = LOOK_TIMEOUT_S if kind == "look" else CHANGE_TIMEOUT_S
    start = time.monotonic()
    status, answer = 0, b""
    try:
        target = f"/participants/{path}/{key}"
        status, answer = await connection.ask(method, target, source=source, body=body, timeout_s=timeout_s)
    except Broken:
        pass
    end = time.monotonic()
    outcome: CallResult = "unknown"
    if status == DONE[kind]:
        outcome = "ok"
        if kind == "look":
            parties = json.loads(answer)["partyList"]
            owner = parties[0]["fspId"] if parties else NOBODY
            if len(parties) > 1:
                book.odd.append(f"{len(parties)} owners of {key} at {end:.3f}: {answer!r}")
    elif status in REFUSALS[kind]:
        outcome = "refused"
    elif status not in (0, 503):
        book.odd.append(f"{method} of {key} was answered {status} {answer!r} at {end:.3f}")
    return book.note(Call(kind, key, owner, start, end, outcome, where, status))


async def look_up(
    book: Book, where: str, port: Callable[[], int], pace_s: float, keys: Sequence[str] | None = None
) -> None:
    """Looks, one after the other, until the book is closed."""
    connection = Connection(port)
    try:
        while not book.stopped:
            key = book.random.choice(keys or (book.hot if book.random.random() < book.hot_share else book.keys))
            done = await call(book, connection, "look", key, where=where)
            if done.outcome != "ok":
                await asyncio.sleep(RECONNECT_S)
            await asyncio.sleep(book.random.uniform(0, 2 * pace_s))
    finally:
        connection.close()


async def look_up_anew(book: Book, where: str, port: Callable[[], int], pace_s: float, prefix: str) -> None:
    """Look up unregistered parties for the first time, one after the other, until the book is closed."""
    connection = Connection(port)
    try:
        for number in count():
            if book.stopped:
                return
            await call(book, connection, "look", f"{prefix}-{number}", where=where)
            await asyncio.sleep(book.random.uniform(0, 2 * pace_s))
    finally:
        connection.close()


async def change(book: Book, services: Sequence[tuple[str, Callable[[], int]]]) -> None:
    """Changes through any service: who has the key loses it, and mostly another gets it (a move)."""
    connections = [(name, Connection(port)) for name, port in services]
    try:
        while not book.stopped:
            key = None if book.resting else book.next_key()
            if key is None:
                await asyncio.sleep(0.01)
                continue
            book.changing += 1
            try:
                await _change(book, key, connections)
            finally:
                book.changing -= 1
    finally:
        for _, connection in connections:
            connection.close()


async def change_together(book: Book, services: Sequence[tuple[str, Callable[[], int]]]) -> None:
    """Change several keys at the same moment through one service, so that registrations share a transaction."""
    links = [[(name, Connection(port)) for name, port in services] for _ in range(TOGETHER)]
    keys = [key for key in book.keys if key not in book.calm and key not in book.still]
    try:
        while not book.stopped:
            await asyncio.sleep(book.random.uniform(0, 0.3))
            if book.resting:
                continue
            at = book.random.randrange(len(services))
            chosen = book.random.sample(keys, min(TOGETHER, len(keys)))
            book.changing += 1
            try:
                pairs = zip(chosen, links, strict=False)
                await asyncio.gather(*(_change(book, key, [link[at]]) for key, link in pairs))
            finally:
                book.changing -= 1
    finally:
        for link in links:
            for _, connection in link:
                connection.close()


async def _change(book: Book, key: str, connections: Sequence[tuple[str, Connection]]) -> None:
    async def do(kind: Kind, owner: str = NOBODY) -> Call:
        name, connection = book.random.choice(connections)
        return await call(book, connection, kind, key, owner, name)

    seen = await do("look")
    if seen.outcome != "ok":
        await asyncio.sleep(RECONNECT_S)
        return
    if seen.owner != NOBODY:
        await do("remove", seen.owner)
        if book.random.random() < 0.2:
            return
    owner = book.new_owner()
    made = await do("register", owner)
    if made.outcome == "unknown" and book.random.random() < 0.5:
        await asyncio.sleep(book.random.uniform(0, 0.5))
        await do("register", owner)  # like a caller that got no answer


async def change_by_hand(book: Book, database_url: str, pace_s: float) -> None:
    """A person at a psql prompt: sets another owner, or removes the key.  Until cancelled."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(database_url, timeout=5)
    try:
        while True:
            await asyncio.sleep(book.random.uniform(0, 2 * pace_s))
            await _change_by_hand(book, connection, book.random.choice(book.keys[:-2]))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pass
    finally:
        connection.terminate()


async def _change_by_hand(book: Book, connection: Any, key: str) -> None:
    owner = book.new_owner()
    kind: Kind = "set"
    start = time.monotonic()
    outcome: CallResult = "unknown"
    try:
        # A transaction of two statements: the FSP first, which no lookup shows.
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ($1) ON CONFLICT DO NOTHING", owner)
        if book.random.random() < 0.3:
            kind = "remove"
            owner = await connection.fetchval("SELECT fsp_id FROM aliases WHERE identifier = $1", key) or owner
            done = await connection.execute("DELETE FROM aliases WHERE identifier = $1 AND fsp_id = $2", key, owner)
        else:
            done = await connection.execute("UPDATE aliases SET fsp_id = $2 WHERE identifier = $1", key, owner)
        outcome = "ok" if done.endswith(" 1") else "refused"
    finally:
        book.note(Call(kind, key, owner, start, time.monotonic(), outcome, "sql"))
