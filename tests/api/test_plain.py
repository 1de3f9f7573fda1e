"""The short way of a plain request (`plain`) against the way of all others (`message`): they read the same, or it
declines.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any, cast

import pytest
from caller import Wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_http import CHUNKED, GOOD, LOOKUP, REGISTER, TOKENS, mutate

from oracle import errors
from oracle.api.http import HttpServer, Limits, Request
from oracle.api.http.request import PlainRequest
from oracle.api.http.turns import Turns

PLAIN = [
    LOOKUP,
    b"GET / HTTP/1.1\r\n\r\n",
    LOOKUP + b"\r\n",  # empty lines between requests count for nothing
    LOOKUP + b"\r\n\r\n",
    b"GET /a?b=%2F&c#d HTTP/1.1\r\nX-Empty:\r\nx-EMPTY: 2 \r\nFSPIOP-Source:\t payerfsp \t\r\n\r\n",
    b"GET /a HTTP/1.1\r\nfspiop-source: \xe1\x81\x81 : a: b\r\ntraceparent: 00-1-2-01\r\n\r\n",
    b"GET /a HTTP/1.1\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
    b"GET /a HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
    b"GET /a HTTP/1.1\r\n" + b"a:b\r\n" * 256 + b"\r\n",
    b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
]
OTHERS = [
    *GOOD[1:], REGISTER, CHUNKED, LOOKUP + LOOKUP, b"\r\n" + LOOKUP,
    LOOKUP[:-1], LOOKUP[:-2], LOOKUP + REGISTER, LOOKUP + REGISTER[:-20],
    b"HEAD / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET /\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n", b"GET /  HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1 \r\n\r\n", b"GET / HTTP/2.0\r\n\r\n",
    b"GET http://host/ HTTP/1.1\r\n\r\n", b"GET * HTTP/1.1\r\n\r\n", b"GET /\xe1\x81\x81 HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: keep-alive, close\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    *(
        b"GET / HTTP/1.1\r\n%b\r\n\r\n" % line
        for line in (
            b"Transfer-Encoding: chunked", b"transfer-encoding: gzip", b"Transfer-Encoding:", b"A : b", b"A\t: b",
            b"Transfer-Encoding: identity\r\nContent-Length: 0", b"Transfer-Encoding: chunked\r\n\r\n0",
            b"A: b\r\n folded", b"A: b\r\n\tfolded", b"A: b\nB: c", b"A: b\rB: c", b"no colon", b": no name",
            b"A: \x00", b"A: \x7f", b"A: \x0b", b"\xc3\xa9: b", b"A: b\n", b"A: b\r", b"A\r\n: b",
            b"a:b\r\n" * 256 + b"a:b",
        )
    ),
    b"GET / HTTP/1.1\nA: b\r\n\r\n", b"GET / HTTP/1.1\r\r\n\r\n", b"GET /" + b"a" * 17000 + b" HTTP/1.1\r\n\r\n",
]  # fmt: skip


class Readers:
    """Both ways to read, of one server."""

    def __init__(self) -> None:
        self.taken: list[Request] = []
        self.failed: list[BaseException] = []
        self.server = HttpServer(self.taken.append, Limits(), on_error=self.failed.append)

    def read_long(self, data: bytes) -> tuple[list[Request], Turns, Wire]:
        """Read as `message` does, on a connection of its own."""
        turns, wire = Turns(self.server), Wire()
        turns.connection_made(cast("Any", wire))
        self.taken.clear()
        turns._message.feed(data)
        turns._advance()
        return list(self.taken), turns, wire

    def compare(self, data: bytes) -> bool:
        """Check that the short way declines, or reads what the long one does.  Return whether it reads it."""
        target = self.server.plain.read(data)
        assert self.server.plain.read(LOOKUP) == b"/participants/MSISDN/525512345678", data  # nothing is left of it
        if not target:
            return False
        (request,), turns, wire = self.read_long(data)
        short = PlainRequest(turns, target, data)
        for field in ("method", "target", "body", "keep_alive", "closed"):
            assert getattr(short, field) == getattr(request, field), (field, data)
        assert short.list_headers() == request.list_headers(), data
        assert not turns._message.receiving
        assert not turns.discarding
        assert not wire.written
        names = {name.lower() for name, _ in request._headers} | {b"fspiop-source", b"traceparent", b"host", b"x"}
        for name in names:
            assert short.header(name) == request.header(name), (name, data)
            assert read_only(short, name) == read_only(request, name), (name, data)
        assert not self.failed
        turns.connection_lost(None)
        return True


def read_only(request: Request, name: bytes) -> bytes | str | None:
    try:
        return request.only(name)
    except errors.Malformed as error:
        return str(error)


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    async def make() -> Readers:
        return Readers()

    with asyncio.Runner() as runner:
        yield runner.run(make())


@pytest.mark.parametrize("data", PLAIN)
def test_a_plain_request_is_read_from_its_bytes_as_from_its_headers(readers: Readers, data: bytes) -> None:
    assert readers.compare(data)


@pytest.mark.parametrize("data", OTHERS)
def test_every_other_request_is_declined(readers: Readers, data: bytes) -> None:
    assert not readers.compare(data)


LINES = [
    *TOKENS, *LOOKUP.split(b"\r\n"), b"\r\n", b"\r\n", b"\r\n\r\n", b"GET / HTTP/1.1", b"GET /participants/A/", b"a:",
    b"Content-Length: 0", b"Content-Length: 4\r\n\r\n\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:", b"connection: ", b"keep-alive", b"\r\n ", b"\t", b"\x0b", b"\xa0",
]  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", LOOKUP[:-2], b"GET / HTTP/1.1\r\n", b"GET /a"]),
    parts=st.lists(st.one_of(st.sampled_from(LINES), st.binary(max_size=12)), max_size=10),
    end=st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]),
)
def test_any_bytes_are_read_alike_or_declined(readers: Readers, start: bytes, parts: list[bytes], end: bytes) -> None:
    readers.compare(start + b"".join(parts) + end)


def test_mutated_requests_are_read_alike_or_declined(readers: Readers) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    accepted = 0
    for _ in range(6_000):
        data = bytearray(rng.choice((LOOKUP, rng.choice(PLAIN[:-2]))))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randint(1, 4)]
                case 2:
                    data[at:at] = rng.choice(LINES)
                case 3:
                    data[at:at] = data[at : at + rng.randint(1, 60)]
            data = data or bytearray(b"\r")
        accepted += readers.compare(bytes(data))
        readers.compare(b"".join(mutate(rng)))
    assert accepted > 500
