"""Every key is asked once; a service that refuses one is not warm."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from loadtests.warm import WarmError, warm


class Answering:
    """Answers every request in two parts, cut before the last byte."""

    def __init__(self, body: bytes) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        self.asked: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.split()[1])
                writer.write(self.answer[:-1])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(self.answer[-1:])
        writer.close()


def list_targets(many: int) -> Iterator[str]:
    return (f"/participants/MSISDN/{n}" for n in range(many))


@pytest.mark.parametrize("body", [b'{"partyList":[]}', b'{"partyList":[{"fspId":"a"}]}'])
async def test_every_key_is_asked_once(body: bytes) -> None:
    service = Answering(body)
    server = await asyncio.start_server(service, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await warm(f"http://127.0.0.1:{port}", list_targets(1_000), connections=4) == 1_000
    assert sorted(service.asked) == sorted(target.encode() for target in list_targets(1_000))


async def test_a_refused_lookup_is_an_error() -> None:
    server = await asyncio.start_server(Answering(b'{"errorInformation":{"errorCode":"2003"}}'), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ExceptionGroup) as raised:
            await warm(f"http://127.0.0.1:{port}", list_targets(10), connections=1)
    assert raised.group_contains(WarmError, match="refused")
