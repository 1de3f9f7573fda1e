"""Finds the primary among the PostgreSQL servers of a URL, and opens every connection of this program.

Primary.   A URL can name several servers.  One of them is the primary, the others are standbys.  Each new connection
           asks its server which of the two it is; a standby is refused.  A primary that only reads (somebody set
           default_transaction_read_only, or a provider did because the disk is full) is used if no other one answers.
Order.     The last known primary comes first, then the others in the order of the URL.
Hanging.   A server without power or network neither answers nor refuses.  So after stagger_s the next one is tried as
           well, and the first primary that answers is taken.  While only servers that hang are left, the standbys are
           asked again, because one of them can be promoted.
Moved.     A statement on a server that hangs would wait for its own time-out.  So when a connection finds that another
           server is the primary now, all connections to other servers end at once.
Timeline.  Each promotion begins a new timeline.  A server with a lower one than the last primary is an old primary that
           came back, and is refused.  Two servers promoted from one primary can have equal timelines.  Nobody can tell
           those apart, so the cluster manager must fence the old primary.
Sessions.  Each connection has the settings that the rules rest on, or is refused (see `sessions`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from weakref import WeakKeyDictionary

import asyncpg

from oracle.store.base import Lineage
from oracle.store.diagnosis import explain, explain_connecting
from oracle.store.queries import QUERIES
from oracle.store.rows import ServerRow
from oracle.store.sessions import PINNED, UnfitSession, check_session, list_wanted

CONNECT_S: Final = 10.0  # for commands and background work
STAGGER_S: Final = 0.25  # a server that works answers sooner, also with TLS and from another site
LISTEN_S: Final = 1.0  # any program has answered then
READ_ONLY: Final = "default_transaction_read_only"

# The server ends the session of a client without power or network after half a minute, not after two hours: that
# session can hold the lock of a leader.
_KEEPALIVE: Final = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "4"}
_SESSION: Final = {**PINNED, **_KEEPALIVE}

# A line that makes Redis or an HTTP server answer.  PostgreSQL closes the connection, at most with an error before.
_QUESTION: Final = b"PING\r\n\r\n"
_ERROR: Final = b"E"


class Host(NamedTuple):
    """One server of a URL.  None: asyncpg finds the value elsewhere (PGHOST, PGPORT, its defaults)."""

    name: str | None
    port: int | None

    def __str__(self) -> str:
        return ":".join(str(part) for part in self if part is not None) or "the default server"


class NotPrimary(ConnectionError):
    """No server of the URL is a primary that answers; the text says why.  `shown`: the same without host names."""

    def __init__(self, text: str = "", shown: str = "") -> None:
        super().__init__(text)
        self.shown = shown


class _Primary(NamedTuple):
    """A primary, what it says of itself, and a connection to it."""

    host: Host
    state: ServerRow
    connection: asyncpg.Connection


class Servers:
    """The servers of one URL, as one process knows them."""

    def __init__(self, url: str, *, stagger_s: float = STAGGER_S) -> None:
        self._url = url
        self._hosts = read_hosts(url)
        self._stagger_s = stagger_s
        self._host: Host | None = None  # of the last primary
        self._lineage: Lineage = ("", 0)  # the latest one
        self._connections: WeakKeyDictionary[asyncpg.Connection, ServerRow] = WeakKeyDictionary()

    @property
    def lineage(self) -> Lineage:
        """The lineage of the last primary, or a later one that was learned; ("", 0) while nothing is known."""
        return self._lineage

    def learn(self, lineage: Lineage) -> None:
        """Refuse servers of a lower timeline from now on: another process has seen this one."""
        if self._lineage[0] and not _is_older(self._lineage, lineage):
            return
        self._lineage = lineage
        self._end_connections(lambda state: _is_older(_lineage_of(state), lineage))

    def lineage_of(self, connection: asyncpg.Connection) -> Lineage:
        """Return the lineage of the server of a connection that this object opened."""
        state = self._connections.get(connection)
        return ("", 0) if state is None else _lineage_of(state)

    async def connect(
        self,
        name: str,
        settings: Mapping[str, str] | None = None,
        *,
        timeout_s: float = CONNECT_S,
        command_timeout_s: float | None = None,
    ) -> asyncpg.Connection:
        """Open a connection to the primary.  `name` shows in pg_stat_activity; `settings` are those of PostgreSQL.

        Raises what asyncpg raises, NotPrimary, UnfitSession, TimeoutError.
        """
        settings = {**_SESSION, "application_name": name, **(settings or {})}
        return await self._open(timeout_s, {"server_settings": settings, "command_timeout": command_timeout_s})

    async def open_pool(
        self, size: int, settings: Mapping[str, str], *, timeout_s: float, **options: Any
    ) -> asyncpg.Pool:
        """Open a pool of connections to the primary.  Raises as `connect`."""

        async def open_connection(_: str | None, **options: Any) -> asyncpg.Connection:
            return await self._open(timeout_s, options)

        return await asyncpg.create_pool(
            connect=open_connection, min_size=0, max_size=size, server_settings={**_SESSION, **settings}, **options
        )

    async def _open(self, timeout_s: float, options: Mapping[str, Any]) -> asyncpg.Connection:
        tries: dict[Host, asyncio.Task[_Primary]] = {}
        found: _Primary | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._race(tries, timeout_s, options)
            try:
                found = _choose(tries, timeout_s)
            except OSError as exc:  # a TimeoutError is one; to the driver, any other answer rejects TLS
                if self._host is None and (isinstance(exc, TimeoutError) or "rejected SSL" in str(exc)):
                    await _refuse_other_program(*tries)
                raise
            self._settle(found)
        finally:
            _abandon(tries, found)
        return found.connection

    async def _race(
        self, tries: dict[Host, asyncio.Task[_Primary]], timeout_s: float, options: Mapping[str, Any]
    ) -> None:
        """Try the servers one after the other, each beside those that have not answered, until one can write."""
        waiting = sorted(self._hosts, key=lambda host: host != self._host)
        stagger_s = min(self._stagger_s, timeout_s / (2 * len(waiting)))
        while True:
            if waiting:
                host = waiting.pop(0)
                tries[host] = asyncio.create_task(self._try(host, timeout_s, options))
            pending = [task for task in tries.values() if not task.done()]
            if not (pending or waiting):
                return
            ended, _ = (
                await asyncio.wait(pending, timeout=stagger_s, return_when=asyncio.FIRST_COMPLETED)
                if pending
                else ((), ())
            )
            found = _list_found(tries)
            if any(primary.state["can_write"] for primary in found):
                return
            if not (ended or waiting) and pending:  # the rest hangs
                if found:
                    return
                waiting = [host for host, task in tries.items() if _is_standby(task)]  # one can be promoted meanwhile

    async def _try(self, host: Host, timeout_s: float, options: Mapping[str, Any]) -> _Primary:
        """Connect to one server.  Raises NotPrimary, UnfitSession, and what asyncpg raises."""
        wanted = list_wanted(options["server_settings"])
        try:
            connection = await asyncpg.connect(
                self._url, host=host.name, port=host.port, timeout=timeout_s, target_session_attrs="any", **options
            )
        except asyncpg.PostgresError as exc:
            reason = explain_connecting(exc)
            if not reason:
                raise
            raise UnfitSession(reason) from exc
        try:
            state = await _fetch_state(connection, list(wanted))
            is_own = state["backend_pid"] == connection.get_server_pid()
            check_session(wanted, state["settings"], is_own=is_own)
            if state["in_recovery"]:
                raise NotPrimary(f"{host} is a standby", "PostgreSQL is a standby, and the service needs the primary")
            if _is_older(_lineage_of(state), self._lineage):
                old = "is an old primary, which a failover has replaced"
                raise NotPrimary(f"{host} {old}", f"PostgreSQL {old}")
        except BaseException:
            connection.terminate()
            raise
        if options["server_settings"].get(READ_ONLY) == "on":
            state = {**state, "can_write": True}  # the connection asked for it: this says nothing of the server
        return _Primary(host, state, connection)

    def _settle(self, found: _Primary) -> None:
        """Remember the primary, and end all connections to other servers."""
        self._host, self._lineage = found.host, _lineage_of(found.state)
        self._connections[found.connection] = found.state
        # No two servers start in the same microsecond.
        self._end_connections(lambda state: state["started_at"] != found.state["started_at"])

    def _end_connections(self, is_lost: Callable[[ServerRow], bool]) -> None:
        for connection, state in list(self._connections.items()):
            if is_lost(state):
                connection.terminate()
                del self._connections[connection]


async def connect(url: str, name: str, settings: Mapping[str, str] | None = None) -> asyncpg.Connection:
    """Open one connection to the primary of a URL, for a command.  Raises as `Servers.connect`."""
    return await Servers(url).connect(name, settings)


async def _refuse_other_program(host: Host, *_: Host) -> None:
    """Raise UnfitSession if something else than PostgreSQL answers there: the driver would wait for PostgreSQL."""
    if host.name is None or host.name.startswith("/"):
        return
    answer = b""
    with suppress(OSError):  # a TimeoutError is one
        async with asyncio.timeout(LISTEN_S):
            reader, writer = await asyncio.open_connection(host.name, host.port or 5432)
            try:
                writer.write(_QUESTION)
                answer = await reader.read(16)
            finally:
                writer.transport.abort()
    if answer and answer[:1] != _ERROR:
        is_http = b"HTTP" in answer or answer.startswith(b"<")
        program = "an HTTP server" if is_http else "Redis" if answer[:1] in b"+-" else "another program"
        raise UnfitSession(f"{program} listens at the address of PostgreSQL: check the port")


async def _fetch_state(connection: asyncpg.Connection, settings: list[str]) -> ServerRow:
    try:
        state: ServerRow = await connection.fetchrow(QUERIES["server_state"], settings)
    except asyncpg.InsufficientPrivilegeError:  # somebody has revoked pg_control_system: no timeline is compared then
        state = await connection.fetchrow(QUERIES["server_state_of_stranger"], settings)
    return state


def _is_standby(task: asyncio.Task[_Primary]) -> bool:
    return task.done() and not task.cancelled() and isinstance(task.exception(), NotPrimary)


def _lineage_of(state: ServerRow) -> Lineage:
    return state["system_identifier"], state["timeline"]


def _is_older(one: Lineage, other: Lineage) -> bool:
    """Compare timelines, which count under the same system identifier only."""
    return one[0] == other[0] and one[1] < other[1]


def _list_found(tries: Mapping[Host, asyncio.Task[_Primary]]) -> list[_Primary]:
    ended = (task for task in tries.values() if task.done() and not task.cancelled())
    return [task.result() for task in ended if task.exception() is None]


def _choose(tries: Mapping[Host, asyncio.Task[_Primary]], timeout_s: float) -> _Primary:
    """Return the primary to use; else raise the failure that explains most."""
    found = _list_found(tries)
    if found:
        return next((primary for primary in found if primary.state["can_write"]), found[0])
    failures: dict[Host, BaseException] = {}
    for host, task in tries.items():
        failure = task.exception() if task.done() and not task.cancelled() else None
        failures[host] = failure or TimeoutError(f"no answer within {timeout_s:g} s")
    if len(failures) == 1:
        raise next(iter(failures.values()))
    for kind in (
        UnfitSession,
        asyncpg.PostgresError,
        ValueError,
    ):  # a server answers, and refuses us: that can be put right
        for failure in failures.values():
            if isinstance(failure, kind) and not isinstance(failure, asyncpg.CannotConnectNowError):
                raise failure
    reasons = [_explain(failure) for failure in failures.values()]
    named = "; ".join(f"{host}: {reason}" for host, reason in zip(failures, reasons, strict=True))
    counted = "; ".join(f"server {number} of the URL: {reason}" for number, reason in enumerate(reasons, 1))
    raise NotPrimary(f"no server is the primary: {named}", f"no server is the primary: {counted}")


def _explain(failure: BaseException) -> str:
    return explain(failure) or type(failure).__name__


def _abandon(tries: Mapping[Host, asyncio.Task[_Primary]], found: _Primary | None) -> None:
    """End all tries but the one that is used.

    It waits for nothing: a caller that is cancelled while it waits would leave its new connection open.
    """

    def end_unused(task: asyncio.Task[_Primary]) -> None:
        if not task.cancelled() and task.exception() is None and task.result() is not found:
            task.result().connection.terminate()

    for task in tries.values():
        task.add_done_callback(end_unused)
        task.cancel()


def read_hosts(url: str) -> list[Host]:
    """Read the servers that a URL names, as asyncpg does: before the path, or in the parameters host and port.

    Raises ValueError, without parts of the URL in its text.
    """
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    named = parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc
    specs = [spec for spec in (named or query.get("host", "")).split(",") if spec]
    if not specs:
        return [Host(None, None)]
    ports = query["port"].split(",") if "port" in query else [""]
    if len(ports) == 1:
        ports *= len(specs)
    if len(ports) != len(specs):
        raise ValueError("the URL of the database must have one port, or one for each host")
    try:
        return list(dict.fromkeys(_read_host(*pair) for pair in zip(specs, ports, strict=True)))
    except ValueError:
        raise ValueError("a port in the URL of the database is not a number: correct the URL") from None


def _read_host(spec: str, port: str) -> Host:
    if spec.startswith("/"):  # the directory of a Unix socket
        name, own_port = spec, ""
    elif spec.startswith("["):  # an IPv6 address
        name, _, own_port = spec[1:].partition("]")
        own_port = own_port.removeprefix(":")
    else:
        name, _, own_port = spec.partition(":")
    number = own_port or port
    return Host(unquote(name), int(number) if number else None)
