"""Valkey: the cache, empty at every start."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oracle.run.embedded.binaries import find_valkey_binary
from oracle.run.embedded.machine import Machine
from oracle.run.embedded.process import Server, end_with_us

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONS: Final = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "allkeys-lru",
    "daemonize": "no",
    "set-proc-title": "no",  # stop_leftover recognises a server by its command line
}


class ValkeyServer(Server):
    """Valkey, always on a Unix socket.  `options` override ours."""

    name = "valkey"
    title = "Valkey"
    stop_signal = signal.SIGTERM

    def __init__(
        self, home: Path, run: Path, *, options: Mapping[str, str] | None = None, machine: Machine | None = None
    ) -> None:
        super().__init__(home, run)
        self.socket = run / "valkey.sock"
        self.options = dict(options or {})
        self._machine = machine or Machine()

    def url(self) -> str:
        return f"unix://{self.socket}"

    async def start(self) -> None:
        binary = find_valkey_binary(self._machine.find_package)
        pid_file = self.home / "valkey.pid"
        await self.stop_leftover(pid_file, pid_file)
        paths = {"dir": str(self.home), "pidfile": str(pid_file), "unixsocket": str(self.socket)}
        settings = OPTIONS | paths | self.options
        command = [*(end_with_us("TERM") if self._machine.ends_servers else ()), str(binary)]
        command += [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.process = self.launch(command)
        await self.wait_ready(self.process, lambda: _answers(self.socket))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.settimeout(1)
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        return client.recv(7) == b"+PONG\r\n"
    return False
