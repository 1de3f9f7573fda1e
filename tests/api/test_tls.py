"""TLS of our listeners, in front of the HTTP server of the hub listener: on asyncio, and on uvloop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from certificates import Authority, Identity
from test_http import WAIT_S, on_each_loop

from oracle.api.http import HttpServer, Limits, Request
from oracle.api.tls import TLS_LIMITS, Channel, Tls, TlsLimits, find_common_name, list_names
from oracle.run.tls import make_context, read_credentials
from oracle.settings import SettingsError, load

HOST = "127.0.0.1"
GET = b"GET /participants/MSISDN/1 HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def environ(identity: Identity, **more: object) -> dict[str, str]:
    names = {"CERTIFICATE": identity.certificate, "KEY": identity.key, **more}
    return {f"ORACLE_HUB_TLS_{name.upper()}": str(value) for name, value in names.items()}


def make_tls(identity: Identity, limits: TlsLimits = TLS_LIMITS, **more: object) -> Tls:
    credentials = read_credentials(load(environ(identity, **more)).settings, ["hub"])["hub"]
    return Tls(make_context(credentials), "hub", limits)


@dataclass
class Listener:
    """A server on a free port, and what became of handshakes."""

    server: HttpServer
    port: int
    results: Counter[str] = field(default_factory=Counter)
    names: list[frozenset[str]] = field(default_factory=list)

    async def has(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.002)


@asynccontextmanager
async def listening(tls: Tls, limits: Limits | None = None, body: bytes = b"{}") -> AsyncIterator[Listener]:
    names: list[frozenset[str]] = []
    errors: list[BaseException] = []

    def serve(request: Request) -> None:
        names.append(list_names(request.find_certificate()))
        request.respond(200, body if request.method == "GET" else b"%d" % len(request.body))

    server = HttpServer(serve, limits or Limits(), on_error=errors.append)
    listener = Listener(server, 0, names=names)
    results = listener.results

    def count(result: str) -> None:
        results[result] += 1

    with socket.create_server((HOST, 0)) as sock:
        sock.setblocking(False)
        listener.port = sock.getsockname()[1]
        await server.start(sock, tls=tls._replace(on_result=count))
        try:
            yield listener
        finally:
            server.close()
            assert not errors


def make_client(authority: Authority, identity: Identity | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if identity is not None:
        context.load_cert_chain(*identity)
    return context


async def connect(
    listener: Listener, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, listener.port, ssl=context)


@dataclass
class ByHand:
    """A client whose every step the test takes itself."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO

    @classmethod
    async def connect(cls, listener: Listener, context: ssl.SSLContext) -> ByHand:
        return await cls.connect_to(listener.port, context)

    @classmethod
    async def connect_to(cls, port: int, context: ssl.SSLContext) -> ByHand:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
        return cls(*await asyncio.open_connection(HOST, port), tls, incoming, outgoing)

    def begin(self) -> bytes:
        """Return the first bytes of a handshake."""
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    async def shake_hands(self) -> None:
        self.writer.write(self.begin())
        await self.receive()
        self.tls.do_handshake()
        self.send()

    def send(self) -> None:
        self.writer.write(self.outgoing.read())

    async def receive(self, size: int = 65_536) -> None:
        """Receive what comes; with -1 until the end."""
        self.incoming.write(await self.reader.read(size))


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head.split(b" ")[1]), await reader.readexactly(length)


async def ask(listener: Listener, context: ssl.SSLContext, request: bytes = GET) -> tuple[int, bytes]:
    reader, writer = await connect(listener, context)
    try:
        writer.write(request)
        return await read_answer(reader)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@on_each_loop
async def test_requests_and_answers_of_any_size_arrive_whole(authority: Authority) -> None:
    large = bytes(range(256)) * 12_000
    identity = authority.make("host", HOST)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = make_client(authority)
        client.minimum_version = client.maximum_version = version
        client.set_alpn_protocols(["h2", "http/1.1"])
        async with listening(make_tls(identity), body=large) as listener:
            reader, writer = await connect(listener, client)
            chosen = writer.get_extra_info("ssl_object")
            assert (chosen.version(), chosen.selected_alpn_protocol()) == (
                f"TLSv{version.name[-3:].replace('_', '.')}",
                "http/1.1",
            )
            for _ in range(2):
                writer.write(GET)
                assert await read_answer(reader) == (200, large)
            head = b"POST /participants HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(large)
            writer.write(head + large + GET * 3)  # more requests come while the first one is at work
            assert await read_answer(reader) == (200, b"%d" % len(large))
            for _ in range(3):
                assert await read_answer(reader) == (200, large)
            for byte in GET:  # one record for each byte
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert await read_answer(reader) == (200, large)
            writer.close()
            await writer.wait_closed()
            await listener.has(lambda listener=listener: not listener.server.connections)  # type: ignore[misc]
            assert listener.results == {"done": 1}


@on_each_loop
async def test_a_client_that_stops_sending_gets_the_answers_that_are_due_and_a_clean_end(authority: Authority) -> None:
    async with listening(make_tls(authority.make("host", HOST))) as listener:
        for last in (GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"):
            client = await ByHand.connect(listener, make_client(authority))
            await client.shake_hands()
            client.tls.write(last)
            with suppress(ssl.SSLWantReadError):
                client.tls.unwrap()  # a close_notify behind the request
            client.send()
            client.writer.write_eof()
            await client.receive(-1)
            answer = client.tls.read(65_536)
            assert answer.startswith(b"HTTP/1.1 200" if last is GET else b"HTTP/1.1 400")
            with suppress(ssl.SSLZeroReturnError):  # the end of TLS, not of the socket alone
                assert not client.tls.read(65_536)
            client.writer.close()
        await listener.has(lambda: not listener.server.connections)


@on_each_loop
async def test_a_client_certificate_is_verified_and_its_names_are_those_of_the_caller(
    authority: Authority, tmp_path: Path
) -> None:
    clients = Authority(tmp_path, "clients")
    right = clients.make("fsp", "fsp.example", uri="spiffe://scheme/fsp")
    identity = authority.make("host", HOST)
    wrong = {
        "certificate_of_unknown_authority": Authority(tmp_path, "stranger").make("forged"),
        "certificate_expired": clients.make("old", expired=True),
        "certificate_not_yet_valid": clients.make("early", days=(1, 2)),
        "no_certificate": None,
    }
    async with listening(make_tls(identity, client_ca=clients.file, require_client="on")) as listener:
        assert await ask(listener, make_client(authority, right)) == (200, b"{}")
        assert listener.names == [{"fsp", "fsp.example", "spiffe://scheme/fsp"}]
        for result, shown in wrong.items():
            # With TLS 1.3 a client hears of the refusal after it has sent its request.
            with pytest.raises(ssl.SSLError, match="ALERT"):
                await ask(listener, make_client(authority, shown))
            assert listener.results[result] == 1
        assert len(listener.names) == 1
        await listener.has(lambda: not listener.server._handshakes)
    async with listening(make_tls(identity, client_ca=clients.file)) as listener:
        assert await ask(listener, make_client(authority)) == (200, b"{}")
        assert await ask(listener, make_client(authority, right)) == (200, b"{}")
        assert [len(names) for names in listener.names] == [0, 3]
        with pytest.raises(ssl.SSLError, match="ALERT"):
            await ask(listener, make_client(authority, wrong["certificate_expired"]))


@on_each_loop
async def test_plain_http_gets_one_answer_and_other_bytes_a_clean_end(authority: Authority) -> None:
    async with listening(make_tls(authority.make("host", HOST))) as listener:
        for sent, status in ((GET, b"HTTP/1.1 400 Bad Request"), (b"\x00\x01nothing", b""), (b"hello", b"")):
            reader, writer = await connect(listener, None)
            writer.write(sent)
            answer = await reader.read()  # to its end: no reset
            assert answer.startswith(status)
            assert (b'"errorDescription":"' in answer) == bool(status)
            assert (b"This port needs TLS" in answer) == bool(status)
            writer.write(b"more of it, which is dropped")
            writer.close()
            await writer.wait_closed()
        assert listener.results == {"no_tls": 3}
        await listener.has(lambda: not listener.server._handshakes)
        reader, writer = await connect(listener, None)
        writer.write(b"\x16\x03\x01\x00\x05hello")  # begins as TLS
        assert (await reader.read())[:1] in (b"\x15", b"")  # an alert
        writer.close()


@on_each_loop
async def test_old_versions_and_weak_ciphers_are_refused(authority: Authority) -> None:
    async with listening(make_tls(authority.make("host", HOST))) as listener:
        old = make_client(authority)
        with pytest.warns(DeprecationWarning, match="TLSVersion"):  # Python's own, about what we want to see refused
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        weak = make_client(authority)
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("ECDHE+AES256+SHA384:!AESGCM:ECDHE-ECDSA-AES128-SHA")
        for client, result in ((old, "old_version"), (weak, "no_shared_cipher")):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(listener, client)
            await listener.has(lambda result=result: listener.results[result])  # type: ignore[misc]


@on_each_loop
async def test_clients_that_do_not_go_on_are_bounded_in_number_and_time(authority: Authority) -> None:
    limits = TlsLimits(handshake_timeout_s=0.2, handshakes_max=5, linger_s=0.2)
    client = make_client(authority)
    async with listening(make_tls(authority.make("host", HOST), limits)) as listener:
        served = await connect(listener, client)
        silent = [await connect(listener, None) for _ in range(12)]
        await listener.has(lambda: listener.results["crowded"] == 7)
        assert len(listener.server._handshakes or ()) <= 5
        assert await ask(listener, client) == (200, b"{}")  # takes the place of the one that waited longest
        await listener.has(lambda: listener.results["timed_out"] == 4)
        for reader, writer in silent:
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        served[1].write(GET)  # what is established does not count
        assert await read_answer(served[0]) == (200, b"{}")
        assert listener.results == {"done": 2, "crowded": 8, "timed_out": 4}
        served[1].close()


@on_each_loop
async def test_a_flood_of_handshakes_leaves_its_turn_to_a_client_that_is_served(authority: Authority) -> None:
    client = make_client(authority)
    async with listening(make_tls(authority.make("host", HOST))) as listener:
        reader, writer = await connect(listener, client)
        flood = [await ByHand.connect(listener, client) for _ in range(40)]
        handshakes = listener.server._handshakes
        assert handshakes is not None
        await listener.has(lambda: len(handshakes) == 40)
        for other in flood:
            other.writer.write(other.begin())
        await listener.has(lambda: handshakes._ready)
        writer.write(GET)
        left = []
        listener.server.app = lambda request: (left.append(len(handshakes._ready)), request.respond(200, b"{}"))[0]  # type: ignore[func-returns-value]
        assert await read_answer(reader) == (200, b"{}")
        assert left[0] > 0
        for other in flood:
            other.writer.close()
        writer.close()


class Collector(asyncio.Protocol):
    """Keeps what it gets, and wants to wait after the first piece."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self.got:
            self.transport.pause_reading()
        self.got += data


@on_each_loop
async def test_many_small_records_at_once_leave_their_turns_to_others(authority: Authority) -> None:
    """As in a flood of changes of keys: they take much longer than their bytes."""
    app, channels = Collector(), list[Channel]()
    handshakes = make_tls(authority.make("host", HOST)).begin(lambda: app, b"")

    def make_channel() -> Channel:
        channels.append(handshakes.make_channel())
        return channels[-1]

    server = await asyncio.get_running_loop().create_server(make_channel, HOST, 0)
    try:
        client = await ByHand.connect_to(server.sockets[0].getsockname()[1], make_client(authority))
        await client.shake_hands()
        async with asyncio.timeout(WAIT_S):
            while len(handshakes) or not channels:  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.002)
            sent = b"%d" % 10**2_999
            for number in sent:
                client.tls.write(bytes([number]))
            channels[0].data_received(client.outgoing.read())
            turns = 0
            while len(app.got) < len(sent):
                turns += 1
                await asyncio.sleep(0)
            assert (bytes(app.got), turns > 10) == (sent, True)
            app.transport.resume_reading()  # what comes later is received again
            client.tls.write(b"end")
            client.send()
            while not app.got.endswith(b"end"):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.002)
        client.writer.close()
    finally:
        server.close()
        handshakes.close()


@on_each_loop
async def test_a_server_that_stops_ends_the_handshakes_that_have_begun(authority: Authority) -> None:
    """Their clients still get an answer; clients that send nothing are cut off at the end."""
    client = make_client(authority)
    limits = Limits(drain_idle_s=0.1)
    async with listening(make_tls(authority.make("host", HOST)), limits) as listener:
        idle, _ = await connect(listener, client)
        late = await ByHand.connect(listener, client)
        late.writer.write(late.begin())
        await late.receive()
        draining = asyncio.create_task(listener.server.drain(10))
        await listener.has(lambda: listener.server.draining)
        assert await idle.read() == b""  # the time of grace for idle connections is over
        late.tls.do_handshake()
        late.tls.write(GET)
        late.send()
        await late.receive(-1)
        answer = late.tls.read(65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        late.writer.close()
        assert await draining == 0
    async with listening(make_tls(authority.make("host", HOST)), limits) as listener:
        reader, writer = await connect(listener, None)
        await listener.has(lambda: listener.server._handshakes)
        await listener.server.drain(0.2)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


# The files -----------------------------------------------------------------------------------------------------------


def find_problems(given: dict[str, str], *, refuse_expired: bool = False) -> list[str]:
    try:
        read_credentials(load(given).settings, ["hub", "admin"], refuse_expired=refuse_expired)
    except SettingsError as exc:
        return exc.problems
    return []


def test_files_that_cannot_be_used_are_problems_of_the_settings(authority: Authority, tmp_path: Path) -> None:
    identity, other = authority.make("host", HOST), authority.make("other", HOST)
    right = environ(identity)
    assert find_problems(right) == []
    both = tmp_path / "both.pem"
    both.touch(mode=0o600)
    both.write_bytes(identity.certificate.read_bytes() + identity.key.read_bytes())
    assert find_problems({"ORACLE_HUB_TLS_CERTIFICATE": str(both)}) == []
    empty = tmp_path / "empty.pem"
    empty.touch(mode=0o600)
    exposed = tmp_path / "exposed.key"
    exposed.write_bytes(identity.key.read_bytes())
    exposed.chmod(0o644)
    for wrong, problem in (
        ({"CERTIFICATE": "/nowhere.pem"}, "ORACLE_HUB_TLS_CERTIFICATE: /nowhere.pem: No such file or directory"),
        ({"CERTIFICATE": str(identity.key)}, "the file has no certificate in PEM that can be read"),
        ({"KEY": str(other.key)}, "KEY: {}: the key does not fit the first certificate in "),
        ({"KEY": str(exposed)}, "other users of this machine can read or change it (mode 0644): run chmod 600 {}"),
        ({"KEY": str(empty)}, "the file has no private key in PEM that can be read"),
        ({"KEY": ""}, "the file has no private key in PEM"),
        ({"CERTIFICATE": ""}, "ORACLE_HUB_TLS_KEY is set, but ORACLE_HUB_TLS_CERTIFICATE is not: set it, too"),
        ({"CLIENT_CA": str(empty)}, "CLIENT_CA: {}: the file is empty"),
        ({"CLIENT_CA": str(identity.key)}, "CLIENT_CA: {}: the file has no certificate in PEM that can be used"),
        ({"REQUIRE_CLIENT": "on"}, "ORACLE_HUB_TLS_REQUIRE_CLIENT is on, but ORACLE_HUB_TLS_CLIENT_CA is not set"),
    ):
        if wrong.get("KEY") == "":
            identity.certificate.chmod(0o600)
        problems = find_problems(right | {f"ORACLE_HUB_TLS_{name}": value for name, value in wrong.items()})
        assert len(problems) == 1
        assert problem.format(*wrong.values()) in problems[0]
        identity.certificate.chmod(0o644)
    expired = environ(authority.make("old", HOST, expired=True))
    assert find_problems(expired) == []
    assert "the certificate expired on " in find_problems(expired, refuse_expired=True)[0]


def test_every_file_of_a_listener_that_cannot_be_used_is_reported(authority: Authority, tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.touch(mode=0o600)
    text.write_text("no certificate")
    wrong = environ(authority.make("host", HOST)) | {
        f"ORACLE_HUB_TLS_{name}": str(text) for name in ("CERTIFICATE", "KEY", "CLIENT_CA")
    }
    assert [problem.split(": ")[2] for problem in find_problems(wrong)] == [
        "the file has no certificate in PEM that can be read",
        "the file has no private key in PEM that can be read",
        "the file has no certificate in PEM that can be used",
    ]


def test_a_listener_that_does_not_run_needs_no_files() -> None:
    settings = load({"ORACLE_ACCOUNT_LOOKUP_TLS_CERTIFICATE": "/nowhere.pem"}).settings
    assert read_credentials(settings, ["hub", "admin", "jobs"]) == {}


def test_a_subject_with_two_common_names_names_nobody(authority: Authority) -> None:
    for names, found in ((("fsp",), "fsp"), (("fsp", "other"), None)):
        file = authority.make("named", common_names=names).certificate
        described = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined] # as getpeercert describes it
        assert find_common_name(described) == found
        assert list_names(described) == set(names)
