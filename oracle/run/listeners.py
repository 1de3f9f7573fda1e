"""The listening sockets of all roles; a port that cannot be opened is one line for the operator.

A taken port is the most common mistake, so the line names the process that has it.  Linux shows which process holds a
socket to the process's user and to root.  An oracle hides itself (`secrecy`), so another oracle of ours is recognised
by its command line instead.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from oracle.run.errors import ServeError
from oracle.run.order import Role
from oracle.settings import Settings

BACKLOG: Final = 4096  # a restart of the hub brings all its connections at once
_LISTENING: Final = "0A"
_FREE: Final = 1024  # the first port that needs no right


# How the settings of a listener begin.
_PREFIXES: Final[Mapping[Role, str]] = {
    "hub": "HUB",
    "admin": "ADMIN",
    "account-lookup": "ACCOUNT_LOOKUP",
    "oracles": "ACCOUNT_LOOKUP_ADMIN",
}


class Place(NamedTuple):
    """Where a listener is to be, and the settings that say so."""

    role: Role
    host: str
    port: int

    @property
    def port_setting(self) -> str:
        return f"ORACLE_{_PREFIXES[self.role]}_PORT"

    @property
    def host_setting(self) -> str:
        return f"ORACLE_{_PREFIXES[self.role]}_HOST"


def list_places(settings: Settings, roles: Sequence[Role]) -> list[Place]:
    """List the listeners of these roles; the role `jobs` has none."""
    places = [
        Place("hub", settings.hub_host, settings.hub_port),
        Place("admin", settings.admin_host, settings.admin_port),
        Place("account-lookup", settings.account_lookup_host, settings.account_lookup_port),
    ]
    if settings.account_lookup_admin_port is not None:
        places.append(Place("oracles", settings.account_lookup_admin_host, settings.account_lookup_admin_port))
    return [place for place in places if place.role in roles]


def open_listeners(places: Sequence[Place]) -> dict[Role, socket.socket]:
    """Open all, or none.  Raises ServeError, which names every taken port."""
    opened: dict[Role, socket.socket] = {}
    taken: list[Place] = []
    try:
        for place in places:
            listener = _open(place)
            if listener is None:
                taken.append(place)
            else:
                opened[place.role] = listener
        if taken:
            raise ServeError(explain_taken(taken))
    except ServeError:
        for listener in opened.values():
            listener.close()
        raise
    return opened


def find_taken(places: Sequence[Place]) -> str:
    """Say why the listeners cannot be opened; '' if they can, or if an oracle has their ports, which can be ours."""
    try:
        opened = open_listeners(places)
    except ServeError as exc:
        return "" if "another oracle" in str(exc) else str(exc)
    for listener in opened.values():
        listener.close()
    return ""


def _open(place: Place) -> socket.socket | None:
    """Return the listener, or None if the port is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as exc:
        raise ServeError(
            f"host {place.host}: {exc.strerror}: set {place.host_setting} to an address of this machine"
        ) from exc
    try:
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise ServeError(f"{_name(place)}: {exc.strerror}: set {place.host_setting} to another address") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a restart waits for TIME_WAIT
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            return None
        raise ServeError(f"{_name(place)}: {_explain(exc, place)}") from exc
    listener.setblocking(False)
    return listener


def _name(place: Place) -> str:
    return f"port {place.port} on {place.host} ({place.role} listener)"


def _explain(error: OSError, place: Place) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine does not have the address {place.host}: set {place.host_setting} to one that it has"
    if error.errno in (errno.EACCES, errno.EPERM) and place.port < _FREE:
        return f"only root can open a port below {_FREE}: set {place.port_setting} to {_FREE} or higher"
    return f"{error.strerror}: set {place.port_setting} or {place.host_setting} to another value"


def explain_taken(places: Sequence[Place]) -> str:
    """Explain in one line which process has each port, and what to do."""
    holders = [find_holder(place.port) for place in places]
    settings = " and ".join(place.port_setting for place in places)
    if len(places) > 1 and len(set(holders)) == 1:
        ports = " and ".join(f"{place.port} ({place.role} listener)" for place in places)
        return f"the ports {ports} are taken by {holders[0]}: stop it, or set {settings} to free ports"
    taken = "; ".join(f"{_name(place)} is taken by {held}" for place, held in zip(places, holders, strict=True))
    remedy = "stop it, or set {} to a free port" if len(places) == 1 else "stop them, or set {} to free ports"
    return f"{taken}: {remedy.format(settings)}"


# The process that has a port ----------------------------------------------------------------------------------------


def find_holder(port: int) -> str:
    """Name the process that listens on this port: "nginx (process 77)"; "another program" if Linux does not show it."""
    sockets = dict(_list_listening(port))
    holders = {pid for pid in _list_processes() if _holds(pid, sockets)}
    # A worker that starts is visible for a moment, while its supervisor hides.
    holders |= {parent for pid in holders if _hides(parent := _read_parent(pid))}
    # The workers of a service inherit its sockets: the first one is not a child of another one.
    first = [pid for pid in holders if _read_parent(pid) not in holders]
    if not first:
        first = [pid for pid in _list_processes() if _hides(pid) and _read_owner(pid) in sockets.values()]
        if len(first) != 1:  # of two oracles it could be either
            return "another oracle" if first else "another program"
    pid = min(first)
    if _is_oracle(pid):
        return f"another oracle (process {pid})"
    name = _read(pid, "comm").strip()
    return f"{name} (process {pid})" if name.isprintable() and name else f"process {pid}"


def _list_listening(port: int) -> Iterator[tuple[str, str]]:
    """Yield the inode and the user id of each socket that listens on this port, at any address."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9], fields[7]


def _list_processes() -> list[int]:
    with suppress(OSError):
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return []


def _holds(pid: int, sockets: Mapping[str, str]) -> bool:
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
                if found and found[1] in sockets:
                    return True
    return False


def _hides(pid: int) -> bool:
    """Whether it is an oracle whose files Linux does not show us."""
    return pid != os.getpid() and _is_oracle(pid) and not os.access(f"/proc/{pid}/fd", os.R_OK)


def _is_oracle(pid: int) -> bool:
    words = [Path(word).name for word in _read(pid, "cmdline").split("\0")]
    return "serve" in words and "oracle" in words


def _read_parent(pid: int) -> int:
    found = re.search(r"^PPid:\s+(\d+)", _read(pid, "status"), re.MULTILINE)
    return int(found[1]) if found else 0


def _read_owner(pid: int) -> str:
    found = re.search(r"^Uid:\s+(\d+)", _read(pid, "status"), re.MULTILINE)
    return found[1] if found else ""


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
