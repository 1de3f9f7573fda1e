"""A listener that cannot be opened is one line: which port, why, which process has it, and which setting changes it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oracle.run.errors import ServeError
from oracle.run.listeners import Place, find_taken, open_listeners

HOST = "127.0.0.1"
LISTENS = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"


def find_reason(*places: Place) -> str:
    with pytest.raises(ServeError) as failure:
        open_listeners(places)
    reason = str(failure.value)
    assert "\n" not in reason
    return reason


@pytest.fixture
def other() -> Iterator[tuple[int, str]]:
    """A port that another program has, and the name of that program."""
    command = [sys.executable, "-c", LISTENS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        yield port, f"{name} (process {process.pid})"
        process.communicate("\n")


def test_a_check_names_a_taken_port_and_leaves_a_free_one_free(other: tuple[int, str]) -> None:
    port, name = other
    assert f"is taken by {name}: stop it, or set ORACLE_HUB_PORT" in find_taken([Place("hub", HOST, port)])
    with socket.create_server((HOST, 0)) as taken:
        free = taken.getsockname()[1]
    assert find_taken([Place("hub", HOST, free)]) == ""
    socket.create_server((HOST, free)).close()


def test_each_taken_port_is_named_with_its_process_and_its_setting(other: tuple[int, str]) -> None:
    port, name = other
    ours = f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"
    with socket.create_server((HOST, 0)) as taken:
        own = taken.getsockname()[1]
        hub, admin, own_admin = Place("hub", HOST, port), Place("admin", HOST, port), Place("admin", HOST, own)
        remedy = "stop it, or set ORACLE_HUB_PORT to a free port"
        assert find_reason(hub) == f"port {port} on {HOST} (hub listener) is taken by {name}: {remedy}"
        remedy = "stop it, or set ORACLE_ADMIN_PORT to a free port"
        assert find_reason(admin) == f"port {port} on {HOST} (admin listener) is taken by {name}: {remedy}"
        remedy = "stop them, or set ORACLE_HUB_PORT and ORACLE_ADMIN_PORT to free ports"
        assert find_reason(hub, own_admin) == (
            f"port {port} on {HOST} (hub listener) is taken by {name};"
            f" port {own} on {HOST} (admin listener) is taken by {ours}: {remedy}"
        )
        remedy = "stop it, or set ORACLE_HUB_PORT and ORACLE_ADMIN_PORT to free ports"
        assert find_reason(hub, admin) == (
            f"the ports {port} (hub listener) and {port} (admin listener) are taken by {name}: {remedy}"
        )


def test_a_listener_that_was_opened_beside_a_taken_port_is_closed(other: tuple[int, str]) -> None:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        free = probe.getsockname()[1]
    find_reason(Place("hub", HOST, free), Place("admin", HOST, other[0]))
    opened = open_listeners([Place("hub", HOST, free)])
    opened["hub"].close()


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        (Place("hub", "192.0.2.1", 0), "this machine does not have the address 192.0.2.1: set ORACLE_HUB_HOST to one"),
        (Place("admin", "192.0.2.1", 0), "set ORACLE_ADMIN_HOST to one that it has"),
        (Place("admin", "no host.invalid", 0), "set ORACLE_ADMIN_HOST to an address of this machine"),
    ],
)
def test_an_address_of_another_machine_is_named_with_its_setting(place: Place, remedy: str) -> None:
    assert remedy in find_reason(place)
