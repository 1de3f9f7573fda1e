"""Hostile answers: no crash, no call without an end, no answer in another call, no connection left."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import h11
import pytest
from peer import OK, Client, Peer, calling, get, on_each_loop, put, serving

from oracle.calls import Answer, CallFailed, CallLimits
from oracle.calls.connection import Connection
from oracle.calls.exchange import Exchange
from oracle.calls.host import Host
from oracle.calls.origin import Place
from oracle.calls.totals import Totals

CASES, CASES_SAMPLE = 10_000, 3_000
GOOD = (
    OK,
    b"HTTP/1.1 202 Accepted\r\nconnection: keep-alive\r\nkeep-alive: timeout=5\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\ndate: Sat, 21 Nov 2026 19:14:11 GMT\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;a=b\r\n0123\r\n0\r\nx-t: 1\r\n\r\n",
    b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 400 Bad\r\ncontent-length: 3\r\n\r\nbad",
    b"HTTP/1.0 200 OK\r\ncontent-type: text/html\r\n\r\n<html>",
    b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\nbody",
    b"HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 4\r\n\r\noops",
    b"HTTP/1.1 301 Moved\r\nlocation: /\r\ncontent-length: 0\r\n\r\n" + OK,
)
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\r\n\r\n", b"0\r\n\r\n", b"ffffffff\r\n", b"content-length: 5\r\n",
    b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip\r\n",
    b"connection: close\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"keep-alive: timeout=99999999999\r\n", b"keep-alive: timeout=0\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n", b"HTTP/9.9 ", b"\xff\xfe",
    b"x: " + b"a" * 3000 + b"\r\n", b"a: b\r\n" * 30,
)  # fmt: skip
LIMITS = CallLimits(
    failures_max=10**9, head_bytes_max=2500, header_count_max=20, answer_body_bytes_max=200, origins_max=1
)
TOKEN = b"this is mine"
MINE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(TOKEN), TOKEN)


def mutate(chance: random.Random) -> bytes:
    data = bytearray(chance.choice(GOOD))
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randrange(1, 12)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 40)]
            case 3 | 4:
                data[at:at] = chance.choice(TOKENS)
            case 5:
                del data[at:]
                data += chance.choice(GOOD)[chance.randrange(20) :]
            case _:
                line = data.rfind(b"\r\n", 0, at) + 2 if at else 0
                data[line:line] = chance.choice(TOKENS)
    return bytes(data)


def cut(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Cut the bytes into pieces as a network does, half of the time into one."""
    while data:
        size = len(data) if chance.random() < 0.5 else chance.randrange(1, len(data) + 1)
        yield data[:size]
        data = data[size:]


class Wire(asyncio.Transport):
    """The transport of a connection, in the hands of the test."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        assert not self.closing
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def get_write_buffer_size(self) -> int:
        return 0


class WatchedHost(Host):
    def report(self, error: BaseException) -> None:
        raise AssertionError("a defect") from error


class Rig:
    """A host whose connections are wires."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.totals = Totals(LIMITS, lambda: None)
        self.host = WatchedHost(Place("http", "127.0.0.1", 1), self.totals, lambda: pytest.fail("no TLS here"))

    def connect(self) -> tuple[Connection, Wire]:
        connection, wire = Connection(self.host), Wire(self.sock)
        connection.connection_made(wire)
        self.totals.use_one()
        self.host._take_up(connection)
        return connection, wire

    def begin(self) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.host.take(Exchange(self.host, b"GET / HTTP/1.1\r\n\r\n", b"", future))
        return future

    def check_nothing_left(self) -> None:
        totals = self.totals
        assert (totals.connections, len(totals.active), totals.answer_bytes) == (0, 0, 0)
        assert not any((self.host._connections, self.host._idle, self.host._waiting))


def read_by_h11(data: bytes) -> tuple[int, bytes, bool] | None:
    """Read one answer with another parser: status, body, whether bytes follow; None if it accepts none."""
    other = h11.Connection(h11.CLIENT)
    other.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    other.send(h11.EndOfMessage())
    other.receive_data(data)
    status, body = 0, b""
    try:
        while True:
            match other.next_event():
                case h11.Response(status_code=status):
                    pass
                case h11.Data(data=part):
                    body += part
                case h11.EndOfMessage():
                    return status, body, bool(other.trailing_data[0].strip(b"\r\n"))
                case h11.InformationalResponse():
                    pass
                case _:
                    return None
    except h11.RemoteProtocolError:
        return None


def test_mutated_answers_end_their_call_and_no_other(complete: bool) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            rig = Rig(ours)
            chance = random.Random(16)
            answered = used_again = compared = 0
            for number in range(CASES if complete else CASES_SAMPLE):
                data = mutate(chance)
                connection, wire = rig.connect()
                future = rig.begin()
                assert wire.written == [b"GET / HTTP/1.1\r\n\r\n"], number
                for piece in cut(data, chance):
                    if wire.closing:
                        break
                    connection.data_received(piece)
                if not wire.closing and connection in rig.host._idle:
                    # It will be used again, so there was exactly one answer.
                    used_again += 1
                    found = read_by_h11(data) if number % 4 == 0 else None
                    if found is not None:
                        compared += 1
                        assert (future.result().status, future.result().body, False) == found, data
                    second = rig.begin()
                    assert len(wire.written) == 2
                    connection.data_received(MINE)
                    assert second.result().body == TOKEN, data
                elif not wire.closing and chance.random() < 0.5:
                    connection.eof_received()
                connection.connection_lost(None if chance.random() < 0.5 else ConnectionResetError())
                assert future.done(), data
                if future.exception() is None:
                    answered += 1
                    assert len(future.result().body) <= LIMITS.answer_body_bytes_max
                else:
                    failure = future.exception()
                    assert isinstance(failure, CallFailed)
                    assert (failure.reason, failure.sent) == ("broken", True)
                rig.check_nothing_left()
            print(f"answered {answered}, used again {used_again}, compared {compared}")
            assert min(answered, used_again, compared) > 100  # else the mutations are too coarse to test much

    asyncio.run(run())


def test_bytes_between_two_answers_are_in_neither() -> None:
    """All ways to cut two answers, with which a host tries to answer a call that has not been made yet."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            rig = Rig(ours)
            for data in (OK + MINE, GOOD[3] + MINE, GOOD[2] + MINE, OK + b"x", OK + b"HTTP/1.1 100 Continue\r\n\r\n"):
                for at in range(1, len(data)):
                    connection, wire = rig.connect()
                    first = rig.begin()
                    for piece in (data[:at], data[at:]):
                        if not wire.closing:
                            connection.data_received(piece)
                    assert first.result().body != TOKEN
                    assert wire.closing
                    connection.connection_lost(None)
                    rig.check_nothing_left()

    asyncio.run(run())


@on_each_loop
async def test_hostile_hosts_disturb_no_call_to_another(complete: bool) -> None:
    chance = random.Random(17)

    async def attack(client: Client) -> None:
        while await client.read():
            data = mutate(chance)
            for piece in cut(data, chance):
                await client.write(piece)
                if chance.random() < 0.2:
                    await asyncio.sleep(0)
            if chance.random() < 0.3:
                client.close()

    async def echo(client: Client) -> None:
        while request := await client.read():
            name = request.split(b" ")[1]
            await client.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(name), name))

    async def be_attacked() -> int:
        answers = 0
        for _ in range(count):
            try:
                await calls.call(put(hostile.url, b"a" * chance.randrange(100)), timeout_s=0.2)
                answers += 1
            except CallFailed as failure:
                assert failure.reason in ("broken", "timed_out", "unreachable")  # noqa: PT017
        return answers

    async def ask(lane: int) -> None:
        for number in range(2 * count):
            assert (await calls.call(get(f"{honest.url}/{lane}/{number}"))).body == b"/%d/%d" % (lane, number)

    count = 100 if complete else 40
    limits = CallLimits(failures_max=10**9, connections_max=8)
    async with serving(attack) as hostile, serving(echo) as honest, calling(limits) as calls:
        answers, *_ = await asyncio.gather(*(be_attacked() for _ in range(6)), *(ask(lane) for lane in range(3)))
        assert answers
        await calls.close()
        await hostile.wait_open(0)


@on_each_loop
async def test_no_request_arrives_twice_and_none_that_is_reported_as_not_sent(complete: bool) -> None:
    """Hosts that close at any moment, deadlines, callers that go away, few connections, a breaker that opens often."""
    chance = random.Random(18)
    arrived: Counter[bytes] = Counter()
    unsent: set[bytes] = set()

    async def serve(client: Client) -> None:
        while chance.random() < 0.9 and (request := await client.read()):
            name = request.split(b" ")[1]
            arrived[name] += 1
            match chance.randrange(12):
                case 0:
                    return
                case 1:
                    await client.write(b"HTTP/1.1 200 OK\r\ncontent-le")
                    return
                case 2:
                    await client.write(b"junk")
                case 3:
                    await asyncio.sleep(0.02)
            await client.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(name), name))

    async def call(peer: Peer, name: bytes) -> str:
        request = put(f"{peer.url}{name.decode()}", b"a" * chance.choice((0, 10, 200_000)))
        try:
            answer = await calls.call(request, timeout_s=chance.choice((0.005, 0.05, 5)))
        except CallFailed as failure:
            if not failure.sent:
                unsent.add(name)
            return failure.reason
        assert (answer.body, arrived[name]) == (name, 1)
        return "answered"

    async def lane(number: int) -> None:
        for turn in range(count):
            name = b"/%d/%d" % (number, turn)
            peer = chance.choice(peers)
            if chance.random() < 0.1:
                task = asyncio.ensure_future(call(peer, name))
                await asyncio.wait([task], timeout=chance.choice((0, 0.001, 0.01)))
                task.cancel()
                await asyncio.wait([task])
            else:
                results[await call(peer, name)] += 1

    count = 100 if complete else 25
    results: Counter[str] = Counter()
    limits = CallLimits(
        connections_max=4, connections_all_max=9, waiting_max=20, failures_max=4, pauses_s=(0.005,), idle_s=0.01,
        sweep_s=0.01, forget_s=0.05, hosts_max=3, host_body_bytes_max=1_000_000,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(serving(serve)) for _ in range(4)]
        calls = await stack.enter_async_context(calling(limits))
        await asyncio.gather(*(lane(number) for number in range(20)))
        assert max(arrived.values()) == 1
        assert unsent
        assert not unsent & arrived.keys()
        assert results["answered"] > 10
