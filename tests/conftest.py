"""Real PostgreSQL and Valkey for every test that asks: one server for each run, a clean state for each test.

database_url        a migrated database of its own, dropped afterwards
empty_database_url  the same without a schema
redis_url           the run's Valkey, emptied; on a Unix socket
start_postgres      await start_postgres() -> a server for this test alone, to kill and start again; not migrated
start_valkey        await start_valkey({"maxmemory": "2mb"}) -> the same, on a Unix socket and a loopback port

The fixtures are synchronous and drive the servers with asyncio.run between tests, so no event loop needs to live
longer than its test.  pytest runs them in the main thread, which the servers' end is tied to.
"""

from __future__ import annotations

import asyncio
import functools
import gc
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

import hypothesis
import pytest
import servers
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from httpx._transports import default

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oracle.run.embedded import PostgresServer, ValkeyServer

# A client of httpx reads the certificates of all authorities when it is made, also for plain HTTP, which is all that
# the tests speak.  That takes 30 ms of CPU, and a run makes thousands of clients.
default.create_ssl_context = functools.cache(default.create_ssl_context)  # type: ignore[attr-defined]

# A client of httpx gives up after 5 seconds, which any answer can take on a busy machine.
for part in ("connect", "read", "write", "pool"):
    setattr(DEFAULT_TIMEOUT_CONFIG, part, 60.0)

# A collection makes hundreds of thousands of objects that all stay.  To look for garbage among them, now and in each
# full collection of a test, takes a quarter of the time.
gc.disable()

# No deadline for an example: a busy machine is no reason to fail.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# Fixtures around a running admin listener, people of the console, the command line, a real browser, the rendered
# chart, and the checker of alert rules.
pytest_plugins = ["admin_service", "browser", "console_people", "deploy_tools", "promtool", "shell"]

# The files that take longest begin first.  Else one process would run one of them alone at the end.  (The
# option --no-loadscope-reorder of the Makefile keeps this order.)
LONGEST: Final = (
    "tests/schedules/test_schedules.py",
    "tests/api/admin/test_schemathesis_admin.py",
    "tests/faults/test_visible.py",
    "tests/imports/test_batches_engine.py",
    "tests/process/test_serve.py",
    "tests/process/test_admin_commands.py",
    "tests/api/admin/test_admin_routes.py",
    "tests/store/test_marker.py",
    "tests/run/test_embedded.py",
    "tests/process/test_cli.py",
    "tests/api/hostile/test_schemathesis.py",
    "tests/pages/test_documentation_page.py",
    "tests/console/test_console_looks.py",
    "tests/api/admin/test_doubtful.py",
    "tests/api/test_http.py",
    "tests/audit/test_tampering.py",
    "tests/store/test_changes.py",
    "tests/process/test_diagnosis.py",
    "tests/audit/test_sealer.py",
    "tests/store/test_servers.py",
    "tests/api/admin/test_idempotency.py",
    "tests/audit/test_offline.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--complete",
        action="store_true",
        help="run each loop over all of its cases, where it else takes a sample of them",
    )


@pytest.fixture(scope="session")
def complete(request: pytest.FixtureRequest) -> bool:
    """Whether a loop must take all of its cases, not a sample."""
    return bool(request.config.getoption("--complete"))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(LONGEST)))


class StartPostgres(Protocol):
    async def __call__(
        self, options: Mapping[str, str] | None = None, *, another_cluster: bool = False
    ) -> PostgresServer: ...


class StartValkey(Protocol):
    async def __call__(self, options: Mapping[str, str] | None = None) -> ValkeyServer: ...


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with servers.temporary_home(servers.choose_place()) as home:
        server = asyncio.run(servers.start_postgres(home))
        try:
            yield server
        finally:
            asyncio.run(server.stop())


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> PostgresServer:
    """The server with a migrated database to clone."""
    asyncio.run(servers.make_template(postgres_server))
    return postgres_server


@pytest.fixture(scope="session")
def administration(postgres_server: PostgresServer) -> Iterator[servers.Administration]:
    administration = servers.Administration(postgres_server)
    yield administration
    administration.close()


@pytest.fixture
def database_url(postgres_template: PostgresServer, administration: servers.Administration) -> Iterator[str]:
    name = administration.make_database()
    yield postgres_template.url(name)
    administration.drop_database(name)


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer, administration: servers.Administration) -> Iterator[str]:
    """No schema: for tests of the migrations themselves."""
    name = administration.make_database("template0")
    yield postgres_server.url(name)
    administration.drop_database(name)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with servers.temporary_home() as home:
        server = asyncio.run(servers.start_valkey(home))
        try:
            yield server
        finally:
            asyncio.run(server.stop())


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """Without scripts as well: a test must not depend on the scripts that another test loaded."""
    assert servers.valkey_command(valkey_server, "FLUSHALL") == b"+OK\r\n"
    assert servers.valkey_command(valkey_server, "SCRIPT", "FLUSH") == b"+OK\r\n"
    return valkey_server.url()


@pytest.fixture
def start_postgres() -> Iterator[StartPostgres]:
    with ExitStack() as stack:

        async def start(options: Mapping[str, str] | None = None, *, another_cluster: bool = False) -> PostgresServer:
            home = stack.enter_context(servers.temporary_home(servers.choose_place()))
            server = await servers.start_postgres(home, options, another_cluster=another_cluster)
            stack.callback(lambda: asyncio.run(server.stop()))
            return server

        yield start


@pytest.fixture
def start_valkey() -> Iterator[StartValkey]:
    with ExitStack() as stack:

        async def start(options: Mapping[str, str] | None = None) -> ValkeyServer:
            server = await servers.start_valkey(stack.enter_context(servers.temporary_home()), options)
            stack.callback(lambda: asyncio.run(server.stop()))
            return server

        yield start
