"""Why PostgreSQL or Redis cannot be used, in words, by real servers and real other programs."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import asyncpg
import pytest
import servers
from conftest import StartValkey
from tls import make_certificate

from oracle.run.embedded import PostgresServer, ValkeyServer
from oracle.run.errors import DatabaseError, explain_database_errors
from oracle.store.cache.session import Unreachable
from oracle.store.cache.topology import dialler
from oracle.store.diagnosis import explain
from oracle.store.servers import Servers

ROLES = """
CREATE ROLE diagnosed LOGIN;
CREATE ROLE locked NOLOGIN;
CREATE ROLE crowded LOGIN CONNECTION LIMIT 0;
CREATE DATABASE closed ALLOW_CONNECTIONS false;
CREATE DATABASE private;
REVOKE CONNECT ON DATABASE private FROM PUBLIC
"""
DROPS = ("DROP DATABASE closed", "DROP DATABASE private", "DROP ROLE diagnosed, locked, crowded")


@asynccontextmanager
async def other_program(answer: bytes) -> AsyncIterator[int]:
    """A program that answers each first message with this."""

    answers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.add(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            await reader.read(64)
            writer.write(answer)
            await reader.read()
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    for task in answers:
        task.cancel()
    await asyncio.gather(*answers, return_exceptions=True)
    await asyncio.sleep(0)  # the loop closes the sockets


async def fail(url: str) -> tuple[str, str]:
    """What the log and /health say of a PostgreSQL, and what a command says."""
    with pytest.raises(DatabaseError) as raised, explain_database_errors(url):
        await Servers(url).connect("test", timeout_s=1)
    assert isinstance(raised.value.__cause__, Exception)
    return explain(raised.value.__cause__), str(raised.value)


async def test_why_postgresql_refuses_a_connection(postgres_server: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres_server.url("postgres", "postgres"))
    try:
        for statement in ROLES.split(";"):
            await connection.execute(statement)
        for role, database, reason in (
            ("nobody_here", "postgres", "PostgreSQL does not accept this user from this machine"),
            ("locked", "postgres", "PostgreSQL does not accept this user from this machine"),
            ("crowded", "postgres", "PostgreSQL has no connection left"),
            ("diagnosed", "nowhere", "the database does not exist"),
            ("diagnosed", "closed", "the database takes no connections"),
            ("diagnosed", "private", "this user cannot connect to the database: GRANT CONNECT"),
        ):
            logged, said = await fail(postgres_server.url(database, role))
            assert logged.startswith(reason)
            assert f": {reason}" in said
        url = f"{postgres_server.url('postgres', 'diagnosed')}&options=-c%20nonsense%3D1"
        assert (await fail(url))[0] == "PostgreSQL does not know a parameter of the URL"  # not: it has no schema yet
    finally:
        for statement in DROPS:
            await connection.execute(statement)
        await connection.close()


async def test_what_is_at_the_address_instead_of_postgresql(start_valkey: StartValkey) -> None:
    valkey = await start_valkey()
    assert await fail("postgresql://u:hush@127.0.0.1:1/d") == (
        "nothing listens at the address of PostgreSQL",
        "database postgresql://u:***@127.0.0.1:1/d: nothing listens at the address of PostgreSQL",
    )
    assert (await fail("postgresql://u@no-such-host.invalid/d"))[0] == "the host name of PostgreSQL is not known"
    assert (await fail("postgresql://u@/d?host=/nowhere"))[0].startswith("PostgreSQL has no socket in the directory")
    redis = f"postgresql://u@127.0.0.1:{valkey.options['port']}/d"
    assert (await fail(redis))[0] == "Redis listens at the address of PostgreSQL: check the port"
    async with other_program(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        found, _ = await fail(f"postgresql://u@127.0.0.1:{port}/d")
        assert found == "an HTTP server listens at the address of PostgreSQL: check the port"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert (await fail(f"postgresql://u@127.0.0.1:{port}/d"))[0] == "PostgreSQL does not answer"
        both, said = await fail(f"postgresql://u@127.0.0.1:1,127.0.0.1:{port}/d")
        assert both == (
            "no server is the primary: server 1 of the URL: nothing listens at the address of PostgreSQL;"
            " server 2 of the URL: PostgreSQL does not answer"
        )
        assert "no server is the primary" in said


async def dial(url: str) -> str:
    with pytest.raises(Unreachable) as raised:
        await dialler(url, timeout_ms=300, token_ms=1000)()
    return str(raised.value)


async def test_a_redis_that_wants_a_certificate_of_its_clients(tmp_path: Path) -> None:
    """Redis with TLS does so by default.  With TLS 1.3 it refuses a client after the handshake of that client."""
    file = make_certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    context.verify_mode = ssl.CERT_REQUIRED

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # By hand: asyncio closes before it sends the alert.
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while data := await reader.read(65_536):
            incoming.write(data)
            with suppress(ssl.SSLError):
                tls.do_handshake()
            writer.write(outgoing.read())
        writer.close()

    server = await asyncio.start_server(refuse, "localhost", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="wants a certificate of the service"):
            await dialler(f"rediss://localhost:{port}/0?ssl_ca_certs={file}", timeout_ms=30_000, token_ms=1000)()


async def test_why_redis_cannot_be_used(start_valkey: StartValkey) -> None:
    valkey: ValkeyServer = await start_valkey()
    here = f"127.0.0.1:{valkey.options['port']}"
    assert await dial("redis://127.0.0.1:1/0") == "nothing listens at the address of Redis"
    assert await dial(f"redis://{here}/99") == "it does not have the database of the URL"
    assert await dial(f"redis://nobody:x@{here}/0") == "it does not accept the user or the password of the URL"
    assert await dial(f"rediss://{here}/0") == (
        "it does not answer, or does not use TLS: then write redis in place of rediss"
    )
    servers.valkey_command(valkey, "CONFIG", "SET", "requirepass", "one")
    assert await dial(f"redis://{here}/0") == "it wants a password, and the URL has none"
    for answer, reason in (
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "another program listens at the address of Redis"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "it uses TLS: write rediss in place of redis"),
        (b"-LOADING Redis is loading the dataset in memory\r\n" * 6, "it is loading its data"),
        (b"-MOVED 1 h:1\r\n" * 6, "it is one of a cluster: write redis+cluster in place of redis"),
    ):
        async with other_program(answer) as port:
            assert await dial(f"redis://127.0.0.1:{port}/0") == reason
