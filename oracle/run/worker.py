"""A worker process from the inside: it waits for its order, runs its role, and ends with SIGTERM or its supervisor.

It reports to the supervisor from its event loop (`Link`).  A worker whose loop no longer turns sends no report, and
the supervisor replaces it (crew.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final

from oracle.run.order import Order, Report, Role, Target
from oracle.run.secrecy import forbid_core_dumps
from oracle.store.base import Confirmed
from oracle.telemetry import logs

CLOSING_S: Final = 2  # beyond stop_timeout_s, which a worker gives its calls: to close what it has open
JOBS_NICE: Final = 10  # about a tenth of a core that a lookup wants as well, all of one that nothing else wants

log = logs.Log(__name__)


def work(role: Role, index: int, listener_fd: int | None, control_fd: int, target: Target | None = None) -> int:
    """Run the whole life of a worker process; returns its exit code."""
    # A signal to a whole process group is meant for the supervisor, which then stops or replaces us in its order.
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    forbid_core_dumps()  # the supervisor can be of an older version
    if role == "jobs":
        # Lookups go first on a machine they share with an import.  Now, because threads inherit it from their maker.
        os.nice(JOBS_NICE)
    import uvloop  # noqa: PLC0415 - the supervisor does not use it

    # Now, not when the settings come: the database is starting meanwhile.
    run = target or import_module("oracle.run.wiring").load(role)
    listeners = [] if listener_fd is None else [socket.socket(fileno=listener_fd)]
    with socket.socket(fileno=control_fd) as control:
        order = _receive_order(control)
        if order is None:
            return 0
        logs.configure(order.settings.log_level, order.settings.log_format, role=role, index=index)
        try:
            uvloop.run(_work(run, order, listeners, index, Link(control, order, role), control))
        except Exception as exc:  # noqa: BLE001 - the exit code informs the supervisor, this line informs people
            log.error("The worker failed", exc=exc)
            return 1
        finally:
            for listener in listeners:
                listener.detach()  # the process ends here, and a server may have taken and closed the descriptor
    return 0


def _receive_order(control: socket.socket) -> Order | None:
    """Receive the order of the supervisor; None when it ended before it sent one."""
    received = b""
    while not received.endswith(b"\n"):
        part = control.recv(65_536)
        if not part:
            return None
        received += part
    return Order.decode(received)


class Link:
    """The worker's side of the control socket, after the order: reports that its loop turns, and what it knows.

    The first report says that the worker answers.  Nothing is sent before it: to a supervisor of an older version, any
    byte means that.
    """

    def __init__(self, control: socket.socket, order: Order, role: Role = "jobs") -> None:
        self._control = control
        self.credentials = order.credentials.get(role)  # for TLS of the listener
        self._beat_s = order.beat_s
        self.confirmed = order.confirmed  # what an earlier worker read last
        self.logs_states = not order.logs_states  # else the supervisor does, once for all workers
        self.read_confirmed: Callable[[], Confirmed | None] = lambda: None
        self.read_states: Callable[[], Mapping[str, str]] = dict

    def report_ready(self) -> None:
        """Report that the worker answers, and from now on that it lives."""
        self._send(Report(ready=True, confirmed=self.read_confirmed(), states=self.read_states()))
        asyncio.get_running_loop().call_later(self._beat_s, self._beat)

    def _beat(self) -> None:
        asyncio.get_running_loop().call_later(self._beat_s, self._beat)
        self._send(Report(confirmed=self.read_confirmed(), states=self.read_states()))

    def _send(self, report: Report) -> None:
        # The kernel takes a short message whole or not at all.  It takes none while the supervisor is stopped and the
        # buffer is full: a worker goes on without it.
        with suppress(OSError):
            self._control.send(report.encode(), socket.MSG_DONTWAIT)


async def _work(
    run: Target, order: Order, listeners: Sequence[socket.socket], index: int, link: Link, control: socket.socket
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def end_as_orphan() -> None:
        # No supervisor is left to kill us if we hang, so the kernel does it.
        loop.remove_reader(control)
        signal.alarm(order.settings.stop_timeout_s + CLOSING_S)
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(control, end_as_orphan)
    await run(order.settings, *listeners, index, order.run_dir, link, stop)
