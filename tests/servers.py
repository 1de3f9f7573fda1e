"""Real servers for tests, for the fixtures of conftest.py.

Every server has a directory of its own, which is removed with it, so any number of test runs can share a machine.
PostgreSQL listens on its Unix socket alone (`postgres_socket`, for a proxy to connect to); Valkey on a Unix socket
(`server.socket`) and on a free loopback port (`tcp_url`).

PostgreSQL is the embedded one, or the one below the directory that ORACLE_TEST_POSTGRES names (in pginstall/bin, as in
the package of the embedded one): tests/versions.sh runs tests on other versions.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import shutil
import socket
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import psutil

from oracle.run.embedded import EmbeddedError, PostgresServer, ValkeyServer
from oracle.run.embedded.machine import Machine
from oracle.run.embedded.postgres import TUNING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEMPLATE = "oracle_template"
MEMORY = Path("/dev/shm")
# PostgreSQL keeps at most 2 GB of WAL, and each process of a run has one.  A container has 64 MB there by default.
MEMORY_BYTES_MIN = 8 << 30
# As docs/audit.md asks for before PostgreSQL 15; later versions are made so.
CLOSE_SCHEMA = "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO oracle"

# Below the ports that the kernel gives to clients, so that no client gets ours by chance.  A Valkey cluster needs the
# port 10000 above its own as well.
PORTS = range(10_000, 22_000)
# Not the generator that tests seed: then every run on a machine would try the same ports.
_random = random.SystemRandom()
_cluster: list[Path] = []


def choose_place() -> str:
    """Choose the directory for the data of a run's PostgreSQL: in memory if there is room, else on the disk.

    Each test makes a database.  That is 300 files, which cost 25 ms of CPU in memory, and 30 to 200 ms on a disk."""
    try:
        place = os.statvfs(MEMORY)
    except OSError:
        return "/tmp"
    room = min(place.f_bavail * place.f_frsize, psutil.virtual_memory().available)
    return str(MEMORY) if room >= MEMORY_BYTES_MIN and os.access(MEMORY, os.W_OK) else "/tmp"


@contextmanager
def temporary_home(place: str = "/tmp") -> Iterator[Path]:
    """A data directory with room for sockets in its path, for any value of TMPDIR."""
    home = Path(tempfile.mkdtemp(prefix="oracle-test-", dir=place))
    try:
        yield home
    finally:
        shutil.rmtree(home)


def free_port() -> int:
    """A port that no process listens on now, nor on the one 10000 above."""
    while True:
        port = _random.choice(PORTS)
        try:
            for candidate in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", candidate))
        except OSError:
            continue
        return port


class OtherPostgres(PostgresServer):
    """A PostgreSQL of any version from 14 on."""

    def _initdb_arguments(self, fresh: Path) -> list[str]:
        # Only PostgreSQL 17 and newer have the built-in locale, and only 16 and newer take settings here.
        newer = ("--locale-provider", "--builtin-locale", "--set")
        return [word for word in super()._initdb_arguments(fresh) if not word.startswith(newer)]


def make_postgres(home: Path, run: Path, options: Mapping[str, str] | None = None) -> PostgresServer:
    """PostgreSQL without durability, of the version that the tests run on; not started."""
    package = os.environ.get("ORACLE_TEST_POSTGRES")
    if not package:
        return PostgresServer(home, run, durable=False, options=options)
    machine = Machine(find_package=lambda _: Path(package))
    return OtherPostgres(home, run, durable=False, options={**TUNING, **(options or {})}, machine=machine)


async def start_postgres(
    home: Path, options: Mapping[str, str] | None = None, *, another_cluster: bool = False
) -> PostgresServer:
    """PostgreSQL without durability, with an empty database `oracle`.

    It is a copy of one that is made once for each process of a run, which takes a twentieth of the CPU.
    `another_cluster`: made anew, so that its system identifier differs from those of the others.
    """
    run = home / "run"
    run.mkdir(mode=0o700)
    server = make_postgres(home, run, options)
    try:
        if not another_cluster:
            shutil.copytree(await _make_cluster(), server.data)
        await server.start()
    except BaseException:
        server.kill()
        raise
    return server


async def _make_cluster() -> Path:
    """Return the data directory of a PostgreSQL that was started once and stopped."""
    if not _cluster:
        place = Path(tempfile.mkdtemp(prefix="oracle-test-", dir=choose_place()))
        atexit.register(shutil.rmtree, place)
        (place / "run").mkdir(mode=0o700)
        server = make_postgres(place, place / "run")
        await server.start()
        await server.stop()
        _cluster.append(server.data)
    return _cluster[0]


async def start_valkey(home: Path, options: Mapping[str, str] | None = None) -> ValkeyServer:
    """Valkey on a Unix socket and on a loopback port."""
    while True:
        port = str(free_port())
        server = ValkeyServer(home, home, options={"bind": "127.0.0.1", "port": port, **(options or {})})
        try:
            await server.start()
        except EmbeddedError as error:
            server.kill()
            # Another test run took the port between our look and our use.
            if "Address already in use" not in server.log.read_text():
                raise AssertionError(error) from error
        except BaseException:
            server.kill()
            raise
        else:
            return server


def postgres_socket(server: PostgresServer) -> Path:
    return server.run / ".s.PGSQL.5432"


def tcp_url(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.options['port']}/0"


def valkey_command(server: ValkeyServer, *words: str) -> bytes:
    """One inline command without a client library; the raw reply."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(server.socket))
        client.sendall(" ".join(words).encode() + b"\r\n")
        return client.recv(65536)


def is_version_14(server: PostgresServer) -> bool:
    return (server.data / "PG_VERSION").read_text().strip() == "14"


async def make_template(server: PostgresServer) -> None:
    """The schema as our migrations make it, once; every test clones it."""
    from oracle.store.migrate import migrate

    await administer(server, f"CREATE DATABASE {TEMPLATE} OWNER oracle")
    if is_version_14(server):
        await administer(server, CLOSE_SCHEMA, TEMPLATE)
    await migrate(server.url(TEMPLATE))


async def make_database(server: PostgresServer, template: str = TEMPLATE) -> str:
    """Make a database and return its name.  The template must have no connections, as make_template leaves it."""
    name = choose_name()
    await administer(server, write_create(server, name, template))
    return name


async def drop_database(server: PostgresServer, name: str) -> None:
    """Drop the database, also when the test left a connection open or killed the server's backends."""
    await administer(server, write_drop(name))


def choose_name() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"


def write_create(server: PostgresServer, name: str, template: str = TEMPLATE) -> str:
    strategy = "" if is_version_14(server) else " STRATEGY FILE_COPY"
    return f"CREATE DATABASE {name} TEMPLATE {template} OWNER oracle{strategy}"


def write_drop(name: str) -> str:
    return f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"


class Administration:
    """One connection for the databases of a run, between tests: to connect each time takes a third of their CPU."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection[Any] | None = None

    def make_database(self, template: str = TEMPLATE) -> str:
        name = choose_name()
        self._execute(write_create(self._server, name, template))
        return name

    def drop_database(self, name: str) -> None:
        self._execute(write_drop(name))

    def _execute(self, statement: str) -> None:
        try:
            self._loop.run_until_complete(self._connect_and_execute(statement))
        except (asyncpg.InterfaceError, asyncpg.PostgresConnectionError, OSError):
            # A test has killed all backends.
            self._connection = None
            self._loop.run_until_complete(self._connect_and_execute(statement))

    async def _connect_and_execute(self, statement: str) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._server.url("postgres", "postgres"))
        await self._connection.execute(statement)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


async def administer(server: PostgresServer, statement: str, database: str = "postgres") -> None:
    connection = await asyncpg.connect(server.url(database, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
