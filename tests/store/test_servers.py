"""Where connections go: to the primary, whichever server of the URL that is, and past a server that hangs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from asyncpg import connect_utils
from patience import LONG_S, PATIENT_TIMING
from replication import Pair, halt, kill, make_data, open_pair, resume, url_of
from servers import temporary_home
from test_changes import Store, open_store, until_done

from oracle.audit import log
from oracle.commands.seed import seed
from oracle.errors import DirectoryUnavailable
from oracle.run.bootstrap import bootstrap
from oracle.run.embedded import PostgresServer
from oracle.run.errors import DatabaseAway, DatabaseError, explain_database_errors
from oracle.store.cache.values import Entry
from oracle.store.lanes import LIMITS, PostgresLimits
from oracle.store.migrate import migrate
from oracle.store.servers import Host, NotPrimary, Servers, read_hosts

# A server that hangs would cost connect_s; a statement on one, command_timeout, which is longer.
SLOW_TO_GIVE_UP: Final = PostgresLimits(connect_s=LONG_S, commit_s=LONG_S)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@a/d",
        "postgresql://u:p%2Fw@a:6000,b,c:7000/d",
        "postgresql://u@[::1]:6000,[fe80::1]/d",
        "postgresql://u@%2Frun%2Fa,%2Frun%2Fb:6000/d",
        "postgresql://u@/d?host=/run/a,/run/b&port=5432",
        "postgresql://u@/d?host=a,b&port=6000,7000",
        "postgresql://u@/d?host=a:6000,b",
        "postgresql:///d?host=a",
        "postgres://a,b/d?sslmode=disable",
    ],
)
def test_the_hosts_of_a_url_are_those_that_the_driver_reads(url: str) -> None:
    options = dict.fromkeys(
        ("host", "port", "password", "passfile", "database", "ssl", "service", "servicefile", "direct_tls",
         "server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
    )  # fmt: skip
    read = connect_utils._parse_connect_dsn_and_args
    together = read(dsn=url, user="u", **options)[0]
    apart = [
        read(dsn=url, user="u", **(options | {"host": host.name, "port": host.port}))[0] for host in read_hosts(url)
    ]
    assert [address for addresses in apart for address in addresses] == together


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://u@127.0.0.1:1/d?sslmode=verify-full", '/.postgresql/root.crt" does not exist'),
        ("postgresql://127.0.0.1:1/d", "the URL must name its user"),
    ],
)
async def test_what_the_driver_does_not_find_on_this_machine_is_one_line(
    url: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without a home and without a line for its user in /etc/passwd."""
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DatabaseError) as failed, explain_database_errors(url):
        await Servers(url).connect("test")
    assert text in str(failed.value)
    assert len(str(failed.value).splitlines()) == 1
    assert not isinstance(failed.value, DatabaseAway)


@pytest.mark.parametrize("url", ["postgresql:///d", "postgresql://u@/d", "postgresql:"])
def test_a_url_without_a_host_leaves_the_choice_to_the_driver(url: str) -> None:
    assert read_hosts(url) == [Host(None, None)]


@pytest.mark.parametrize(
    "url", ["postgresql://u:hush@a:x/d", "postgresql://u:hush@a,b:5x/d", "postgresql://u:hush@/d?host=a,b&port=1,2,3"]
)
def test_a_wrong_port_is_an_error_that_repeats_nothing_of_the_url(url: str) -> None:
    with pytest.raises(ValueError, match="port") as caught:
        read_hosts(url)
    assert "hush" not in str(caught.value)


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with temporary_home() as home:
        yield asyncio.run(make_data(home))


async def test_every_command_works_with_a_standby_first_in_the_url(data: Path) -> None:
    async with open_pair(data) as pair:
        assert await migrate(pair.url()) > 0
        assert await bootstrap(pair.url()) is not None
        assert await seed(pair.url(), 10, 2, lambda _: None) == 10
        connection = await log.connect(pair.url(), "test")
        assert not await connection.fetchval("SELECT pg_is_in_recovery()")
        await connection.close()

        with pytest.raises(NotPrimary, match="is a standby"):
            await Servers(url_of([pair.standby])).connect("test")
        halt(pair.standby)
        assert await migrate(pair.url()) == 0
        resume(pair.standby)
        halt(pair.primary)
        with pytest.raises(NotPrimary, match=r"is a standby, .*: PostgreSQL does not answer"):
            await Servers(pair.url()).connect("test", timeout_s=1)


@asynccontextmanager
async def open_replicated_store(pair: Pair, redis_url: str) -> AsyncIterator[Store]:
    await migrate(pair.url())
    async with open_store(pair.url(), redis_url, limits=SLOW_TO_GIVE_UP, timing=PATIENT_TIMING) as store:
        await store.add("a", "1")
        await store.get("1")
        yield store


@pytest.mark.parametrize("end", [kill, halt])
async def test_changes_and_cold_lookups_go_on_when_the_standby_is_promoted(
    end: Callable[[PostgresServer], None], data: Path, redis_url: str
) -> None:
    """No call waits for a server that is gone, and none for the time-out of a connection to it."""
    async with open_pair(data) as pair, open_replicated_store(pair, redis_url) as store:
        connections = [await store.postgres.servers.connect("test") for _ in range(2)]
        waiting = asyncio.ensure_future(connections[0].execute("SELECT pg_sleep(1000)"))
        end(pair.primary)
        async with asyncio.timeout(LONG_S):
            await pair.promote()
            assert await until_done(store.add, "a", "2") in (["new"], ["same"])
            assert await until_done(store.get, "2") == [Entry("a", "", "")]
            assert await until_done(store.get, "unknown") == []
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await waiting
        assert all(connection.is_closed() for connection in connections)
        if end is halt:  # the old primary comes back, and nobody has fenced it
            resume(pair.primary)
            pair.standby, pair.primary = pair.primary, pair.standby
            again = await store.postgres.servers.connect("test")
            assert await again.fetchval("SELECT count(*) FROM aliases WHERE identifier = '2'") == 1
            await again.close()
            store.postgres.servers._hosts = read_hosts(url_of([pair.standby]))
            with pytest.raises(NotPrimary, match="an old primary"):
                await store.postgres.servers.connect("test")


async def test_lookups_go_on_while_commits_wait_for_a_synchronous_standby(data: Path, redis_url: str) -> None:
    """A lost standby holds up commits, and nothing else.  What waits is known, and made good at once."""
    async with open_pair(data, synchronous=True) as pair:
        await migrate(pair.url())
        async with open_store(pair.url(), redis_url, limits=LIMITS, timing=PATIENT_TIMING) as store:
            await until_done(store.add, "a", "cached")
            await until_done(store.get, "cached")
            before = store.coherence.generation
            halt(pair.standby)
            changes = [asyncio.ensure_future(store.add("a", f"x{n}")) for n in range(20)]
            looks = 0
            while not all(change.done() for change in changes) or store.changes.repairs.waiting:
                assert await store.get("cached") == [Entry("a", "", "")]
                assert await store.get(f"cold {looks}") == []
                assert store.coherence.fresh
                looks += 1
                await asyncio.sleep(0.01)
            outcomes = {type(change.exception()) for change in changes}
            assert outcomes == {DirectoryUnavailable}
            assert store.changes.explain_failure() == "commits wait for a synchronous standby"
            assert store.coherence.generation > before
            resume(pair.standby)
            assert await until_done(store.add, "a", "x0") in (["new"], ["same"])
            assert store.changes.explain_failure() is None


FULL: Final = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END$$;
CREATE TRIGGER full_disk BEFORE INSERT ON aliases EXECUTE FUNCTION fail()
"""
READ_ONLY: Final = """
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'oracle changes'
"""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(FULL, "the disk of PostgreSQL is full"), (READ_ONLY, "PostgreSQL is read-only")],
    ids=["full", "read-only"],
)
async def test_lookups_go_on_while_postgresql_refuses_changes(
    fault: str, reason: str, database_url: str, redis_url: str
) -> None:
    async with open_store(database_url, redis_url) as store:
        await store.add("a", "cached")
        await store.get("cached")
        db = await asyncpg.connect(database_url)
        await db.execute(fault)
        await db.close()
        while store.changes.explain_failure() != reason:
            with pytest.raises(DirectoryUnavailable):
                await store.add("a", "refused")
        for number in range(20):
            refused, cold, cached = await asyncio.gather(
                store.add("a", f"x{number}"), store.get(f"cold {number}"), store.get("cached"), return_exceptions=True
            )
            assert isinstance(refused, DirectoryUnavailable)
            assert (cold, cached) == ([], [Entry("a", "", "")])
        assert store.coherence.fresh
