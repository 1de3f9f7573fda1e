"""PostgreSQL: the directory, which stays on disk."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oracle.run.embedded.account import choose_account
from oracle.run.embedded.binaries import find_postgres_binaries
from oracle.run.embedded.directory import open_private_file
from oracle.run.embedded.errors import EmbeddedError, add_remedy
from oracle.run.embedded.machine import Machine
from oracle.run.embedded.process import POLL_S, START_S, Server, end_with_us, read_process, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECOVERY_S: Final = 300.0  # a PostgreSQL that was killed in an import replays up to max_wal_size, and more

# Written to postgresql.conf when the data directory is made, with shared_buffers.  An operator can change them there.
TUNING: Final = {
    "max_connections": "100",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "jit": "off",  # compiling takes longer than any query of ours
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A party identifier is personal data: no error of a query, no statement and no "Key (...)=(...)" enters
    # the log.  Our client gets them.  "log" still shows start, stop and fatal errors.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

SHARED_BUFFERS_MB: Final = (128, 1024)

# Given at every start, where they override postgresql.conf.
DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
FLEETING: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

_MAX_CONNECTIONS: Final = re.compile(r"^[ \t]*max_connections[ \t]*=?[ \t]*'?(\d+)", re.MULTILINE | re.IGNORECASE)

# The owner of the machine alone is superuser.  Migrations run as the owner of the database, the application as a
# role that cannot change history (migrations/0003).
ROLES: Final = "CREATE ROLE oracle_app NOLOGIN;\nCREATE ROLE oracle_service LOGIN IN ROLE oracle_app;\n"
ROLES_MARKER: Final = "oracle.roles"
FIRST_STATEMENTS: Final = f"CREATE ROLE oracle LOGIN;\nCREATE DATABASE oracle OWNER oracle;\n{ROLES}".encode()


class PostgresServer(Server):
    """PostgreSQL on <home>/postgres.  `options` override our settings.

    `connections`: how many it must have at least, whatever postgresql.conf says.
    """

    name = "postgres"
    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast: roll back, checkpoint, exit; SIGTERM would wait for clients

    def __init__(
        self,
        home: Path,
        run: Path,
        *,
        durable: bool = True,
        options: Mapping[str, str] | None = None,
        machine: Machine | None = None,
        connections: int = 0,
    ) -> None:
        super().__init__(home, run)
        self._connections = connections
        self.data = home / "postgres"
        self.durable = durable
        self.options = dict(options or {})
        self._machine = machine or Machine()
        self._has_run = False

    def url(self, database: str = "oracle", role: str = "oracle") -> str:
        return f"postgresql://{role}@/{database}?host={self.run}&port=5432"

    async def start(self) -> None:
        binaries = find_postgres_binaries(self.data, self._machine.find_package)
        pid_file = self.data / "postmaster.pid"
        await self.stop_leftover(pid_file, self.data)
        _remove_dead_pid_file(pid_file)
        if not self.data.exists():
            if self._has_run:  # an empty directory would be taken for the truth
                raise EmbeddedError(f"{self.data} is gone: put the directory back, then start the oracle again")
            await self._make_data(binaries)
        self._has_run = True
        account = choose_account(self._machine.list_accounts(self.data.stat()), binaries, self.data)
        account.take_over(self.data)
        account.take_over(self.run)
        settings = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self.run),
            "unix_socket_permissions": "0700",
            **(DURABLE if self.durable else FLEETING),
            **self._raise_connections(),
            **self.options,
        }
        command = [*account.prefix, *self._end_with_us("INT"), str(binaries / "postgres"), "-D", str(self.data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + START_S
        while True:
            self.process = self.launch(command)
            pid = self.process.pid
            try:
                return await self.wait_ready(self.process, partial(_is_ready, pid_file, pid), RECOVERY_S)
            except EmbeddedError:
                # The backends of a killed postmaster live some milliseconds longer than it does.
                if "pre-existing shared memory block" not in self.read_log() or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(POLL_S)

    def _raise_connections(self) -> dict[str, str]:
        """Return the setting that gives the service its connections, if the files of the data have a lower one."""
        found = 0
        for name in ("postgresql.conf", "postgresql.auto.conf"):  # the last one counts
            with suppress(OSError):
                found = int((_MAX_CONNECTIONS.findall((self.data / name).read_text("utf-8", "replace")) or [found])[-1])
        return {"max_connections": str(self._connections)} if found < self._connections else {}

    async def add_roles(self) -> None:
        """Create the roles of the application, where an older version made the data without them."""
        marker = self.data / ROLES_MARKER
        if marker.exists():
            return
        from oracle.store.servers import connect  # noqa: PLC0415 - 0.1 s, after the start of the server, not before it

        connection = await connect(self.url("postgres", "postgres"), "oracle roles")
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = 'oracle_service'"):
                await connection.execute(ROLES)
        finally:
            await connection.close()
        open_private_file(marker).close()

    async def _make_data(self, binaries: Path) -> None:
        """Make a data directory with our roles and database: beside its place, then renamed, so whole or not at all."""
        fresh = self.home / "postgres.new"
        try:
            shutil.rmtree(fresh, ignore_errors=True)  # a killed start left it
            fresh.mkdir(mode=0o700)
            account = choose_account(self._machine.list_accounts(self.home.stat()), binaries, fresh)
            account.take_over(fresh)
            prefix = [*account.prefix, *self._end_with_us("KILL")]
            await self._run_step([*prefix, str(binaries / "initdb"), *self._initdb_arguments(fresh)])
            single = ["--single", "-D", str(fresh), "-c", "exit_on_error=on", "postgres"]
            await self._run_step([*prefix, str(binaries / "postgres"), *single], stdin=FIRST_STATEMENTS)
            open_private_file(fresh / ROLES_MARKER).close()
            fresh.rename(self.data)
        except OSError as exc:
            raise EmbeddedError(f"cannot make a database in {self.home}: {add_remedy(str(exc.strerror))}") from exc
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        if self.durable:
            _sync_directory(self.home)

    def _initdb_arguments(self, fresh: Path) -> list[str]:
        # The C library's "C" beside the built-in C.UTF-8: the machine needs no installed locale.
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8"]
        access = ["--username=postgres", "--auth-local=trust", "--auth-host=reject"]
        tuning = [f"--set={name}={value}" for name, value in TUNING.items()]
        tuning.append(f"--set=shared_buffers={_choose_shared_buffers_mb()}MB")
        sync = [] if self.durable else ["--no-sync"]
        return [f"--pgdata={fresh}", "--data-checksums", *locale, *access, *tuning, *sync]

    async def _run_step(self, command: Sequence[str], *, stdin: bytes = b"") -> None:
        """Run one step of making the data directory to its end."""
        process = self.launch(command, stdin=stdin)
        try:
            await wait_until(lambda: process.poll() is not None, START_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise EmbeddedError(f"cannot make a database in {self.home}: {self.complaint()}")

    def _end_with_us(self, signal_name: str) -> Sequence[str]:
        return end_with_us(signal_name) if self._machine.ends_servers else ()


def _choose_shared_buffers_mb() -> int:
    """Choose a sixteenth of the machine's memory, within bounds.

    With 1 GB an import of ten million aliases is 1.2 times as fast as with 128 MB, which holds none of the indexes.
    """
    least, most = SHARED_BUFFERS_MB
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return min(max(memory_mb // 16, least), most)


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Ask as pg_ctl does: the eighth line of postmaster.pid is the state, the first the process it belongs to."""
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"  # noqa: PLR2004


def _remove_dead_pid_file(pid_file: Path) -> None:
    """Remove a postmaster.pid whose number is a zombie, or another program by now.

    PostgreSQL takes either for a running postmaster and refuses to start: forever, in a container that reaps no
    orphans or starts counting again.  Against backends that still run it has another guard: the shared memory,
    found by the inode of the data directory.
    """
    _, words = read_process(pid_file)
    if not words or Path(os.fsdecode(words[0])).name != "postgres":
        pid_file.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    """Make a rename durable, which it is not before its directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
