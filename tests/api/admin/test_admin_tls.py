"""TLS of the admin listener: what a call learns of the client's certificate, bodies, limits, and the stop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificates import Authority, Identity
from litestar import Litestar, Request, get, post

from oracle.api.admin.certificates import read_certificate_names
from oracle.api.admin.connections import Limits
from oracle.api.tls import Tls
from oracle.run.asgi import serve_asgi
from oracle.run.tls import Credentials, make_context

HOST = "127.0.0.1"
TIMEOUT_S = 20.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@asynccontextmanager
async def listen(authority: Authority, limits: Limits | None = None) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A real listener: its address, and what stops it."""

    @get("/names", sync_to_thread=False)
    def names(request: Request[Any, Any, Any]) -> list[str]:
        return [request.scope["scheme"], *sorted(read_certificate_names(request.scope))]

    @post("/upload", status_code=200, request_max_body_size=None)
    async def upload(request: Request[Any, Any, Any]) -> bytes:
        return b"".join([part async for part in request.stream()])

    app = Litestar([names, upload], openapi_config=None, logging_config=None)
    identity = authority.make("admin", HOST)
    context = make_context(
        Credentials(identity.certificate.read_text(), identity.key.read_text(), 0, authority.file.read_text())
    )
    sock = socket.create_server((HOST, 0))
    ready, stop = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        serve_asgi(
            app, sock, ready.set, stop,
            timeout_s=TIMEOUT_S, limits=limits or Limits(drain_idle_s=0.1), tls=Tls(context, "admin"),
        )
    )  # fmt: skip
    await ready.wait()
    try:
        yield f"https://{HOST}:{sock.getsockname()[1]}", stop
    finally:
        stop.set()
        assert await serving == 0  # no connection is cut


def make_client(authority: Authority, shown: Identity | None = None) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=authority.file)
    if shown is not None:
        context.load_cert_chain(*shown)
    return httpx.AsyncClient(verify=context, timeout=TIMEOUT_S)


async def test_a_call_learns_the_names_of_the_verified_certificate_alone(authority: Authority) -> None:
    gateway = authority.make("gateway", "gateway.example", uri="spiffe://hub/gateway")
    stranger = Authority(authority.file.parent, "stranger").make("forged", "gateway.example")
    async with listen(authority) as (url, _):
        async with make_client(authority, gateway) as client:
            for _ in range(2):
                answer = await client.get(f"{url}/names", headers={"x-certificate-names": "forged"})
                assert answer.json() == ["https", "gateway", "gateway.example", "spiffe://hub/gateway"]
        async with make_client(authority) as client:
            assert (await client.get(f"{url}/names")).json() == ["https"]
        async with make_client(authority, stranger) as client:
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await client.get(f"{url}/names")


async def test_long_bodies_and_answers_arrive_whole(authority: Authority) -> None:
    body = bytes(range(256)) * 20_000
    async with listen(authority) as (url, _), make_client(authority) as client:
        for _ in range(2):
            assert (await client.post(f"{url}/upload", content=body)).content == body


async def test_plain_http_gets_a_problem(authority: Authority) -> None:
    async with listen(authority) as (url, _), httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        answer = await client.get(url.replace("https", "http"))
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "This port needs TLS"


async def test_a_client_that_sends_no_head_is_cut_off_in_time(authority: Authority) -> None:
    async with listen(authority, Limits(head_timeout_s=0.2, drain_idle_s=0.1)) as (url, _):
        context = ssl.create_default_context(cafile=authority.file)
        reader, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]), ssl=context)
        writer.write(b"GET /names HT")
        async with asyncio.timeout(TIMEOUT_S):
            assert await reader.read() == b""
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def test_a_stop_answers_a_client_whose_handshake_has_begun(authority: Authority) -> None:
    async with listen(authority) as (url, stop), make_client(authority) as client:
        context = ssl.create_default_context(cafile=authority.file)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
        reader, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(outgoing.read())
        incoming.write(await reader.read(65_536))
        await client.get(f"{url}/names")
        stop.set()
        while True:  # until nobody accepts any more
            try:
                _, other = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
            except ConnectionError:
                break
            other.close()
        tls.do_handshake()
        tls.write(b"GET /names HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write(outgoing.read())
        incoming.write(await reader.read())
        assert tls.read(65_536).startswith(b"HTTP/1.1 200")
        writer.close()
