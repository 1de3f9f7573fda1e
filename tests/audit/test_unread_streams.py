"""Streams that nobody reads: they hold few connections, and none after their client is gone or takes nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

import httpx
import pytest
from sealing import open_connection, register, seal

from oracle.api.admin.app import AdminServices, admin_app
from oracle.run.asgi import serve_asgi
from oracle.run.bootstrap import bootstrap
from oracle.run.wiring import _open_health, open_store
from oracle.settings import Settings
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

ALIASES: Final = 3_000  # a difference of 0.7 MB
SPAN: Final = "from=2001-01-01T00:00:00Z&to=2099-01-01T00:00:00Z"
DIFF: Final = f"/audit/v1/fsps/greenbank/diff?{SPAN}"
EVENTS: Final = f"/audit/v1/export/events.ndjson?begin=0&end={ALIASES}"
TABLE: Final = f"/audit/v1/export/events.csv?begin=0&end={ALIASES}"
FILTERED: Final = "/audit/v1/export/filtered.ndjson"
EXPORT: Final = "/admin/v1/fsps/greenbank/aliases/export?format=aliases"
# Connections for streams that are in use.
BUSY: Final = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'oracle streams' AND state <> 'idle'"""


class Desk(NamedTuple):
    """A running admin listener of this process."""

    url: str
    port: int
    database_url: str
    operator: httpx.AsyncClient
    others: list[httpx.AsyncClient]

    async def issue(self, role: str, fsp_id: str | None = None) -> str:
        issued = await self.operator.post(
            "/admin/v1/credentials", json={"role": role, "fspId": fsp_id, "label": f"{role} of {fsp_id}"}
        )
        issued.raise_for_status()
        key: str = issued.json()["key"]
        return key

    def as_key(self, key: str) -> httpx.AsyncClient:
        client = httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=20)
        self.others.append(client)
        return client

    def open_unread(self, path: str, key: str, *, method: str = "GET", headers: str = "") -> socket.socket:
        """Ask, and read nothing of the answer."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        client.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: oracle\r\nAuthorization: Bearer {key}\r\n{headers}\r\n".encode()
        )
        return client

    async def wait_for_busy(self, wanted: int, *, or_fewer: bool = False) -> None:
        """Wait until so many connections of the database are in use."""
        async with open_connection(self.database_url) as connection, asyncio.timeout(20):
            while (busy := await connection.fetchval(BUSY)) != wanted:
                if or_fewer and busy < wanted:
                    return
                await asyncio.sleep(0.02)


@asynccontextmanager
async def open_desk(database_url: str, stall_s: float, export_s: float = 60) -> AsyncIterator[Desk]:
    key = await bootstrap(database_url)
    settings, metrics = Settings(database_url=database_url, redis_url=None), Metrics.open(None, "admin", 0)
    stop, sock = asyncio.Event(), socket.create_server(("127.0.0.1", 0))
    async with open_store(settings, metrics, desk=True) as store, _open_health(store, metrics) as health:
        services = AdminServices(store.changes, store.postgres, health, metrics, stall_s=stall_s, export_s=export_s)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # for the connections that it accepts
        listening = asyncio.Event()
        serving = asyncio.create_task(serve_asgi(admin_app(services), sock, listening.set, stop, timeout_s=1))
        await listening.wait()
        port = sock.getsockname()[1]
        operator = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=20
        )
        desk = Desk(f"http://127.0.0.1:{port}", port, database_url, operator, [operator])
        try:
            yield desk
        finally:
            for client in desk.others:
                await client.aclose()
            stop.set()
            await serving


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for each in opened:
        each.close()


async def test_unread_streams_of_one_key_stop_nobody_else(
    database_url: str, sockets: list[socket.socket], tmp_path: Any
) -> None:
    await register(database_url, 0, ALIASES)
    await seal(database_url, tmp_path / "key")
    async with open_desk(database_url, stall_s=60) as desk:
        maker, auditor = await desk.issue("dfsp-maker", "greenbank"), await desk.issue("auditor")
        for count in (8, 16):
            sockets += [desk.open_unread(DIFF, maker) for _ in range(count)]
            await desk.wait_for_busy(2)
            for role, path in (("auditor", "/audit/v1/log/checkpoint"), ("dfsp-checker", "/admin/v1/fsps/greenbank")):
                other = desk.as_key(await desk.issue(role, None if role == "auditor" else "greenbank"))
                assert (await other.get(path)).status_code == 200
            read = await other.get(DIFF)
            assert (read.status_code, read.text.count("\n")) == (200, ALIASES + 1)
            refused = await desk.as_key(maker).get(DIFF)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
            assert refused.json()["code"] == "too_many_streams"
        # All places are taken: of the streams, not of the reads.
        sockets += [desk.open_unread(path, auditor) for path in (EVENTS, TABLE, FILTERED, EVENTS)]
        await desk.wait_for_busy(4)
        full = await other.get(DIFF)
        assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (503, "unavailable", "1")
        assert (await other.get("/admin/v1/fsps/greenbank")).status_code == 200
        # A key that is revoked does not wait for its client.
        await desk.operator.post(f"/admin/v1/credentials/{auditor.split('_')[1]}/revoke", json={"reason": "a test"})
        await desk.wait_for_busy(2)
        while sockets:
            sockets.pop().close()
        await desk.wait_for_busy(0)
        for path in (DIFF, EVENTS, TABLE, FILTERED):
            await wait_until_served(desk.operator, path)
        await desk.wait_for_busy(0)


async def wait_until_served(client: httpx.AsyncClient, path: str) -> None:
    async with asyncio.timeout(20):
        while (await client.get(path)).status_code != 200:  # noqa: ASYNC110 - a place sets no event
            await asyncio.sleep(0.02)


async def read_slowly(desk: Desk, key: str, stall_s: float) -> tuple[float, bytes]:
    """Read a stream for longer than a stall, and return how long it took, and its end."""
    loop = asyncio.get_running_loop()
    began, end = loop.time(), b""
    with desk.open_unread(DIFF, key, headers="Connection: close\r\n") as client:
        client.setblocking(False)
        count = 0
        while data := await loop.sock_recv(client, 4096):
            end = (end + data)[-100:]
            count += len(data)
            if count > 32_768:  # a twentieth of it
                count = 0
                await asyncio.sleep(stall_s / 10)
    return loop.time() - began, end


async def read_rest(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    client.setblocking(False)
    data = b""
    with suppress(ConnectionError):
        while more := await asyncio.get_running_loop().sock_recv(client, 65_536):
            data += more
    return data


async def test_who_takes_or_sends_nothing_is_cut_and_who_is_slow_is_served(
    database_url: str, sockets: list[socket.socket], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", "json", stream=sys.stderr)
    await register(database_url, 0, ALIASES)
    stall_s = 2.0
    async with open_desk(database_url, stall_s) as desk, asyncio.timeout(60):
        maker, slow = await desk.issue("dfsp-maker", "greenbank"), await desk.issue("dfsp-maker", "greenbank")
        reading = asyncio.create_task(read_slowly(desk, slow, stall_s))
        unread = [desk.open_unread(DIFF, maker) for _ in range(2)]
        sockets += unread
        await desk.wait_for_busy(3)
        # The two that read nothing are cut, without an end; their places are free, while they are still connected.
        await desk.wait_for_busy(1, or_fewer=True)  # on a busy machine the slow one can be served before
        await wait_until_served(desk.as_key(maker), DIFF)
        for each in unread:
            assert not (await read_rest(each)).endswith(b"\r\n0\r\n\r\n")
        took_s, end = await reading
        assert end.endswith(b"\r\n0\r\n\r\n")
        # One line for each that was cut, with the reason, and none of the server.
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        ends = [line["event"] for line in lines if "sending" in line["logger"] or "uvicorn" in line["logger"]]
        assert ends == ["An answer ended early: its client takes nothing"] * 2
        assert took_s > 1.2 * stall_s
        # A body that stops coming.
        fsp = "/admin/v1/fsps/greenbank"
        for path, kind in ((f"{fsp}/batches", "text/csv"), (f"{fsp}/aliases", "application/json")):
            begun = desk.open_unread(
                path, maker, method="POST", headers=f"Content-Type: {kind}\r\nContent-Length: 99\r\n"
            )
            sockets.append(begun)
            answer = await read_rest(begun)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b'"code":"broken_off"' in answer


async def test_an_export_of_aliases_ends_after_its_time(database_url: str, sockets: list[socket.socket]) -> None:
    """It holds a snapshot: a client that takes a little now and then could keep it for days."""
    await register(database_url, 0, ALIASES)
    async with open_desk(database_url, stall_s=60, export_s=3) as desk, asyncio.timeout(60):
        sockets.append(desk.open_unread(EXPORT, await desk.issue("dfsp-maker", "greenbank")))
        await desk.wait_for_busy(1)
        await desk.wait_for_busy(0)  # it is not complete: its client has read nothing
        # The connection of the lane is whole: the next export gets it.
        assert (await desk.operator.get(EXPORT + "&prefix=5299")).status_code == 200
