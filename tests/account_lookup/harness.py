"""A real account lookup listener on the event loop of the test, with DFSPs and a central ledger that the test plays.

    async with open_bench(database_url, redis_url) as bench:
        reply = await bench.ask("GET", "/parties/MSISDN/525512345678")
        assert reply.status == 202
        (forwarded,) = await bench.payee.received(1)
        assert forwarded.line == b"GET /payeefsp/parties/MSISDN/525512345678 HTTP/1.1"

PostgreSQL, Redis, the listener, its HTTP server and the client for calls are real.  A mock keeps every request as it
came: its first line, the lines of its headers, the bytes of its body.  What a mock answers can be chosen: a status, a
delay, bytes that are no HTTP, a close.

`row("C07")` in front of a test names the rows of docs/account-lookup.md that it proves (test_contract_rows.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final, TypeVar

from oracle.api.dfsp.listener import BODY_BYTES_MAX, ERROR, AccountLookup
from oracle.api.health import Health
from oracle.api.http import HttpServer, Limits
from oracle.run.wiring import Store, open_account_lookup, open_store
from oracle.scheme.base import PATHS, LedgerUnavailable, Participant
from oracle.settings import Settings
from oracle.telemetry.metrics import Metrics

HOST: Final = "127.0.0.1"
WAIT_S: Final = 60.0  # for a condition that must come true; a busy machine is no reason to fail

Test = TypeVar("Test", bound=Callable[..., Any])


def row(*_: str) -> Callable[[Test], Test]:
    """Name the rows of docs/account-lookup.md that a test proves; test_contract_rows.py reads this from the source."""
    return lambda test: test


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true; the event loop goes on meanwhile."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.002)


# What is on the wire --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """A request or an answer as it came."""

    line: bytes  # the first line
    lines: Sequence[bytes]  # of the headers, as they were sent
    body: bytes

    @property
    def method(self) -> str:
        return self.line.split(b" ")[0].decode()

    @property
    def target(self) -> str:
        return self.line.split(b" ")[1].decode()

    @property
    def status(self) -> int:
        return int(self.line.split(b" ")[1])

    @property
    def headers(self) -> dict[str, str]:
        """The values by the names in lower case."""
        pairs = (line.decode("latin-1").partition(":") for line in self.lines)
        return {name.lower(): value.strip() for name, _, value in pairs}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[str, str]:
        """The code and the description of an errorInformation."""
        information = self.json["errorInformation"]
        return information["errorCode"], information["errorDescription"]


async def read_message(reader: asyncio.StreamReader, method: str = "") -> Message:
    """Read one message.  Raises asyncio.IncompleteReadError at the end of the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head[:-4].split(b"\r\n")
    message = Message(line, lines, b"")
    length = message.headers.get("content-length")
    if length is None or method == "HEAD":
        return message
    return Message(line, lines, await reader.readexactly(int(length)))


# Mocks ----------------------------------------------------------------------------------------------------------------


@dataclass
class Reply:
    """What a mock answers.  `raw`: these bytes in place of HTTP.  `closes`: then it closes.  `hangs`: no answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    raw: bytes | None = None
    closes: bool = False
    hangs: bool = False
    wait: asyncio.Event | None = None  # answer when it is set

    def encode(self) -> bytes:
        if self.raw is not None:
            return self.raw
        lines = [f"HTTP/1.1 {self.status} X", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Mock:
    """An HTTP/1.1 server that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reply: Reply | Callable[[Message], Reply] = Reply()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections from now on, and end those that are open.  `start` opens the same port again."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def received(self, count: int = 1) -> list[Message]:
        """Wait until there are so many messages, and return all of them."""
        await until(lambda: len(self.messages) >= count)
        return list(self.messages)

    def forget(self) -> None:
        self.messages.clear()

    def answer(self, message: Message) -> Reply:
        return self.reply(message) if callable(self.reply) else self.reply

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        message = await read_message(reader)
        self.messages.append(message)
        reply = self.answer(message)
        if reply.hangs:
            await reader.read()  # until the caller gives up
            return False
        if reply.wait is not None:
            await reply.wait.wait()
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        writer.write(reply.encode())
        await writer.drain()
        return not reply.closes


class Dfsp(Mock):
    """A DFSP.  The ledger knows its endpoints: those of `PATHS` below `url/name`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def list_endpoints(self) -> dict[str, str]:
        return {kind: f"{self.url}/{self.name}{path}" for kind, path in PATHS.items()}


class Ledger(Mock):
    """A central ledger: participants, their endpoints, proxies.  `reply` counts only while `fails` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: dict[str, dict[str, str]] = {}  # by the names of the participants
        self.proxies: list[str] = []
        self.fails: Reply | None = None

    def add(self, dfsp: Dfsp, *, is_proxy: bool = False) -> None:
        self.endpoints[dfsp.name] = dfsp.list_endpoints()
        if is_proxy:
            self.proxies.append(dfsp.name)

    def answer(self, message: Message) -> Reply:
        if self.fails is not None:
            return self.fails
        path, _, query = message.target.partition("?")
        match path.split("/")[1:]:
            case ["participants"]:
                names = self.proxies if query == "isProxy=true" else list(self.endpoints)
                return _reply_json([self._describe(name) for name in names])
            case ["participants", name] if name in self.endpoints:
                return _reply_json(self._describe(name))
            case ["participants", name, "endpoints"] if name in self.endpoints:
                return _reply_json([{"type": kind, "value": url} for kind, url in self.endpoints[name].items()])
        missing = {"errorCode": "3200", "errorDescription": "Generic ID not found"}
        return _reply_json({"errorInformation": missing}, 404)

    def _describe(self, name: str) -> dict[str, Any]:
        return {"name": name, "isActive": 1, "isProxy": int(name in self.proxies), "accounts": []}


class KnownScheme:
    """Implements Scheme: what the ledger of the test knows, without a call."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def _check(self) -> None:
        if self._ledger.fails is not None:
            raise LedgerUnavailable

    def recall_participant(self, fsp_id: str) -> Participant | None:
        known = fsp_id in self._ledger.endpoints and self._ledger.fails is None
        return Participant(fsp_id, fsp_id in self._ledger.proxies) if known else None

    def recall_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        if self._ledger.fails is not None:
            return None
        return self._ledger.endpoints.get(fsp_id, {}).get(endpoint_type)

    async def find_participant(self, fsp_id: str) -> Participant | None:
        self._check()
        return self.recall_participant(fsp_id)

    async def find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        self._check()
        return self.recall_endpoint(fsp_id, endpoint_type)

    async def list_proxies(self) -> Sequence[str]:
        self._check()
        return list(self._ledger.proxies)

    def forget_endpoints(self) -> None: ...

    async def close(self) -> None: ...


def _reply_json(value: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"content-type": "application/json; charset=utf-8"})


# The listener ---------------------------------------------------------------------------------------------------------


def make_headers(target: str, source: str = "payerfsp", *, iso20022: bool = False) -> dict[str, str]:
    """Make the headers of a good request."""
    resource = target.split("/")[1].partition("?")[0] if "/" in target else "parties"
    form = f"application/vnd.interoperability{'.iso20022' if iso20022 else ''}.{resource}+json"
    return {
        "accept": f"{form};version=2",
        "content-type": f"{form};version=2.0",
        "date": formatdate(usegmt=True),
        "fspiop-source": source,
    }


class Bench:
    """The listener, and those around it: `payer`, `payee` and `third` are participants."""

    def __init__(self, settings: Settings, store: Store, listener: AccountLookup, server: HttpServer) -> None:
        self.client_tls: ssl.SSLContext | None = None
        self.settings = settings
        self.store = store
        self.listener = listener
        self.server = server
        self.defects: list[BaseException] = []
        self.port = 0
        self.ledger: Ledger
        self.dfsps: dict[str, Dfsp] = {}
        self.metrics: Metrics

    @property
    def payer(self) -> Dfsp:
        return self.dfsps["payerfsp"]

    @property
    def payee(self) -> Dfsp:
        return self.dfsps["payeefsp"]

    async def add(self, name: str, *, is_proxy: bool = False) -> Dfsp:
        """Start a DFSP, as a participant of the scheme."""
        dfsp = Dfsp(name)
        await dfsp.start()
        self.dfsps[name] = dfsp
        self.ledger.add(dfsp, is_proxy=is_proxy)
        return dfsp

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | Mapping[str, Any] = b"",
        *,
        source: str = "payerfsp",
        headers: Mapping[str, str | None] | None = None,
    ) -> Message:
        """Send a good request, with these headers besides or instead; None leaves one out."""
        iso20022 = self.settings.account_lookup_api_type == "iso20022"
        merged = make_headers(target, source, iso20022=iso20022) | dict(headers or {})
        lines = [f"{name}: {value}" for name, value in merged.items() if value is not None]
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask_with(method, target, lines, text)

    async def ask_with(self, method: str, target: str, lines: Sequence[str], body: bytes = b"") -> Message:
        """Send exactly these lines of headers."""
        length = [f"content-length: {len(body)}"] if body or method in ("POST", "PUT") else []
        head = "\r\n".join([f"{method} {target} HTTP/1.1", "host: als", *lines, *length, "", ""])
        return await self.send(head.encode("latin-1") + body, method)

    async def send(self, data: bytes, method: str = "") -> Message:
        """Send these bytes on a connection of their own, and read one answer."""
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=self.client_tls)
        try:
            writer.write(data)
            async with asyncio.timeout(WAIT_S):
                return await read_message(reader, method)
        finally:
            writer.close()

    async def settle(self) -> None:
        """Wait until all that was accepted is done: after that, no callback comes any more."""
        await until(lambda: not self.listener.working)

    async def register(
        self, party_id_type: str, identifier: str, *, source: str = "payeefsp", sub_id: str = "", currency: str = ""
    ) -> None:
        """Register a party by POST, and forget its callback."""
        target = f"/participants/{party_id_type}/{identifier}" + (f"/{sub_id}" if sub_id else "")
        body = {"fspId": source} | ({"currency": currency} if currency else {})
        reply = await self.ask("POST", target, body, source=source)
        assert reply.status == 202, reply
        await self.settle()
        (callback,) = self.dfsps[source].messages
        assert not callback.target.endswith("/error"), callback
        self.dfsps[source].forget()

    def renew(self) -> None:
        """Make all around the listener as it was: for a test that shares it with others."""
        self.ledger.fails = None
        self.ledger.forget()
        for dfsp in self.dfsps.values():
            dfsp.reply = Reply()
            dfsp.forget()
            self.ledger.endpoints[dfsp.name] = dfsp.list_endpoints()

    def read_metric(self, name: str) -> float:
        """Add up the samples of a metric whose line begins so."""
        lines = self.metrics.render().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@asynccontextmanager
async def open_bench(database_url: str, redis_url: str | None, **settings: Any) -> AsyncIterator[Bench]:
    """Open the listener with these settings.  Every defect that it logs fails the test.

    `real_scheme=True`: it asks the ledger over HTTP, or the directory if `ledger_url` is None.
    `tls`: what makes the listener speak TLS.
    """
    real_scheme = settings.pop("real_scheme", False)
    tls = settings.pop("tls", None)
    ledger = Ledger()
    await ledger.start()
    values: dict[str, Any] = {"ledger_url": ledger.url} | settings
    made = Settings(database_url=database_url, redis_url=redis_url, account_lookup="on", **values)
    metrics = Metrics.open(None, "account-lookup", 0)
    try:
        async with open_store(made, metrics) as store:
            health = Health(store.coherence, store.postgres, store.changes, metrics, waiting_max_s=300)
            scheme = None if real_scheme else KnownScheme(ledger)
            async with open_account_lookup(store, health, metrics, scheme=scheme) as listener:
                limits = Limits(body_bytes_max=BODY_BYTES_MAX)
                server = HttpServer(listener.serve, limits, on_error=listener.on_error, refusal_fields=ERROR)
                bench = Bench(made, store, listener, server)
                bench.ledger, bench.metrics = ledger, metrics
                listener.on_error = bench.defects.append  # type: ignore[method-assign, assignment]
                server.on_error = bench.defects.append
                for name in ("payerfsp", "payeefsp", "thirdfsp"):
                    await bench.add(name)
                sock = socket.create_server((HOST, 0))
                bench.port = sock.getsockname()[1]
                await server.start(sock, tls=tls)
                try:
                    yield bench
                finally:
                    server.close()
                    await listener.close(WAIT_S)
                    for dfsp in bench.dfsps.values():
                        await dfsp.stop()
                assert not bench.defects, bench.defects
    finally:
        await ledger.stop()
        metrics.close()
