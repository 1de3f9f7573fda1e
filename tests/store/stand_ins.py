"""The store's Protocols in the hands of a test: nothing is answered before the test decides it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from oracle.errors import DirectoryUnavailable
from oracle.store.base import Copy, Generation, Lineage
from oracle.store.cache.session import Unreachable
from oracle.store.cache.tags import HEAD_LENGTH, TAG_LENGTH, TIME_MAX, Tags
from oracle.store.cache.values import Marker

FIRST = Generation("00000000000000000000000000000000", 1, ("run-1",), 3600.0, 1)


async def turns(count: int = 10) -> None:
    """Let everything run that is ready to."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.001)


class ManualGenerations:
    """The row of cache_generation, in a variable.  `away`: PostgreSQL does not answer."""

    def __init__(self) -> None:
        self.row = FIRST
        self.away = False
        self.uses_cache = False
        self.asked = 0
        self.failure: Exception | None = None
        self.learnt: list[Lineage] = []

    async def ask(self) -> Generation:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        if self.away:
            raise DirectoryUnavailable
        return self.row

    async def bump(self) -> Generation:
        self.row = replace_row(self.row, generation=self.row.generation + 1)
        return await self.ask()

    async def raise_above(self, generation: int, routes_version: int) -> Generation:
        self.row = replace_row(
            self.row,
            generation=max(generation, self.row.generation) + 1,
            routes_version=max(routes_version, self.row.routes_version) + 1,
        )
        return await self.ask()

    def learn(self, lineage: Lineage) -> None:
        self.learnt.append(lineage)

    async def open_for(self, run_ids: tuple[str, ...]) -> Generation:
        if run_ids != self.row.run_ids:
            generation = self.row.generation + 1
            self.row = replace_row(self.row, generation=generation, run_ids=run_ids, run_ids_age_s=3600.0)
        return await self.ask()


def replace_row(row: Generation, **changed: Any) -> Generation:
    values = {name: getattr(row, name) for name in row.__struct_fields__}
    return Generation(**(values | changed))


@dataclass
class Call:
    """One command that waits for the test's answer."""

    keys: list[bytes]
    done: Callable[[Any], None]
    token: bytes = b""


class ManualSession:
    """Redis as the lookups see it: `gets` and `leases` wait for the test, `fills` are noted.

    `marker` is what the marker is raised to; a test can set a higher one.
    """

    def __init__(self, *run_ids: str) -> None:
        self.run_ids = run_ids or FIRST.run_ids
        self.refusal = ""
        self.alive = True
        self.lost: Callable[[], None] = lambda: None
        self.gets: list[Call] = []
        self.leases: list[Call] = []
        self.fills: list[Copy] = []
        self.fenced: list[bytes] = []
        self.fences_stand = True
        self.marker = b""
        self.unlinked: list[bytes] = []
        self.removed: list[tuple[bytes, bytes]] = []

    def mget(self, keys: Sequence[bytes], done: Callable[[list[bytes | None] | None], None]) -> None:
        if self.alive:
            self.gets.append(Call(list(keys), lambda values: done(seal_copies(keys, values))))
        else:
            done(None)

    def mget_marked(
        self,
        key: bytes,
        markers: Sequence[bytes],
        keys: Sequence[bytes],
        done: Callable[[list[bytes | None] | None], None],
    ) -> None:
        assert key
        self.mget(keys, lambda values: done(values if self.marker in markers else None))

    def raise_marker(
        self, key: bytes, marker: bytes, replaced: Sequence[bytes], done: Callable[[list[bytes] | None], None]
    ) -> None:
        assert key
        if not self.alive:
            done(None)
            return
        if not self.marker or self.marker in replaced or read_marker(marker).exceeds(read_marker(self.marker)):
            self.marker = marker
        done([self.marker])

    def lease(self, keys: Sequence[bytes], token: bytes, done: Callable[[list[bool]], None]) -> None:
        if self.alive:
            self.leases.append(Call(list(keys), done, token))
        else:
            done([False] * len(keys))

    def fill(self, copies: Sequence[Copy], lost: Callable[[int], None]) -> None:  # noqa: ARG002
        self.fills += copies

    def unlink(self, keys: Sequence[bytes]) -> None:
        self.unlinked += keys

    def remove(self, key: bytes, value: bytes) -> None:
        self.removed.append((key, value))

    def shorten(self, key: bytes, ttl_ms: int, done: Callable[[], None]) -> None: ...

    async def fence(self, keys: Sequence[bytes], ttl_ms: int) -> bool:  # noqa: ARG002
        await asyncio.sleep(0)
        self.fenced += keys
        return self.alive and self.fences_stand

    async def find_unfenced(self, keys: Sequence[bytes]) -> list[bytes] | None:
        await asyncio.sleep(0)
        return [key for key in keys if key not in self.fenced] if self.alive else None

    async def run(self, script: bytes, keys: Sequence[bytes], arguments: Sequence[bytes | int]) -> Any:  # noqa: ARG002
        raise AssertionError("the cache protocol runs no script of a caller")

    async def ask(self, key: bytes, *commands: tuple[bytes | str | int, ...]) -> list[Any]:  # noqa: ARG002
        raise AssertionError("the cache protocol asks no command of a caller")

    def write(self, key: bytes, *commands: tuple[bytes | str | int, ...]) -> None:  # noqa: ARG002
        raise AssertionError("the cache protocol writes no command of a caller")

    def ping(self) -> None: ...

    def close(self) -> None:
        """As the real one: first nothing works any more, then all that wait hear of it, then the owner."""
        if not self.alive:
            return
        self.alive = False
        gets, self.gets = self.gets, []
        leases, self.leases = self.leases, []
        for call in gets:
            call.done(None)
        for call in leases:
            call.done([False] * len(call.keys))
        self.lost()


def read_marker(value: bytes) -> Marker:
    """Read a marker as the script does: without a look at its tag."""
    return Marker.unpack(value.rpartition(b":")[0])


def tag(marker: Marker) -> bytes:
    """Make a marker as a service without a key of its own does."""
    return Tags().sign_marker(b"t:00000000:marker", marker)[0]


def open_copy(copy: bytes) -> bytes:
    """Return the answer in a copy."""
    return copy[HEAD_LENGTH:-TAG_LENGTH]


def seal_copies(keys: Sequence[bytes], values: Sequence[bytes | None] | None) -> list[bytes | None] | None:
    """Make copies of the answers, which are V… in these tests; all else stays as it is."""
    if values is None:
        return None
    return [
        Tags().seal(key, value, TIME_MAX) if value is not None and value.startswith(b"V") else value
        for key, value in zip(keys, values, strict=False)
    ]


class ManualReads:
    """PostgreSQL as the lookups see it: each batch waits until it is answered or failed."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[tuple[str, str]], asyncio.Future[list[bytes]]]] = []

    async def answers(self, keys: Sequence[tuple[str, str]]) -> list[bytes]:
        future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self.batches.append((list(keys), future))
        return await future

    def answer(self, make: Callable[[str], bytes] = lambda identifier: b"V" + identifier.encode()) -> None:
        """All that wait, by identifier."""
        batches, self.batches = self.batches, []
        for keys, future in batches:
            if not future.done():
                future.set_result([make(identifier) for _, identifier in keys])

    def fail(self, error: Exception) -> None:
        batches, self.batches = self.batches, []
        for _, future in batches:
            future.set_exception(error)


class Dialler:
    """Hands out the sessions it was given, in order; then Redis is unreachable."""

    def __init__(self, *sessions: ManualSession) -> None:
        self.sessions = list(sessions)
        self.dialled = 0

    async def __call__(self) -> ManualSession:
        await asyncio.sleep(0)
        self.dialled += 1
        if not self.sessions:
            raise Unreachable
        return self.sessions.pop(0)


class FakeRedis:
    """A server that hands the bytes it gets to the test and sends what the test says."""

    def __init__(self) -> None:
        self.received = asyncio.Queue[bytes]()
        self.writer: asyncio.StreamWriter | None = None
        self.ended = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while data := await reader.read(1 << 16):
            self.received.put_nowait(data)
        writer.close()
        self.ended.set()

    def send(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)


@asynccontextmanager
async def fake_redis(path: str) -> AsyncIterator[FakeRedis]:
    fake = FakeRedis()
    server = await asyncio.start_unix_server(fake._serve, path)
    try:
        yield fake
    finally:
        server.close()
        if fake.writer is not None:
            fake.writer.close()
            await fake.ended.wait()


class Proxy:
    """Between a client and a server's socket; `cut` breaks every connection, `hold` lets nothing pass any more.

    `on_bytes` sees what the client sends, before it is passed on, and may call either.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.open = asyncio.Event()
        self.open.set()
        self.deaf = False  # what the server says is lost
        self.refuses = False  # new connections
        self.on_bytes: Callable[[bytes], Awaitable[None]] | None = None

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.refuses:
                raise ConnectionRefusedError
            onward, back = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        self._writers += [writer, back]
        for source, target, to_server in ((reader, back, True), (onward, writer, False)):
            task = asyncio.create_task(self._pass(source, target, to_server=to_server))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, to_server: bool) -> None:
        try:
            while data := await source.read(1 << 16):
                if to_server and self.on_bytes is not None:
                    await self.on_bytes(data)
                await self.open.wait()
                if to_server or not self.deaf:
                    target.write(data)
        except OSError:
            pass
        finally:
            target.close()

    def cut(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.transport.abort()

    async def close(self) -> None:
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(path: str, target: str) -> AsyncIterator[Proxy]:
    """A Proxy that listens on `path` for a server that listens on `target`."""
    made = Proxy(target)
    server = await asyncio.start_unix_server(made.accept, path)
    try:
        yield made
    finally:
        server.close()
        await made.close()
