"""Serves an ASGI application with granian on a socket that the supervisor has bound."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server as GranianServer
from litestar import Litestar


class _InheritedServer(GranianServer):
    """granian on a socket that is bound already.  granian has no public way to take one, so a test checks this one."""

    def __init__(self, app: Litestar, sock: socket.socket) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            http1_settings=HTTP1Settings(header_read_timeout=600_000),
        )
        self._inherited = sock

    def _init_shared_socket(self) -> None:
        self._inherited.listen(1024)
        self._shd = SocketHolder(self._inherited.fileno(), False, 1024)  # type: ignore[call-arg,assignment]


async def serve_asgi(app: Litestar, sock: socket.socket, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set and the calls in flight are answered; `ready` is called when it listens."""
    server = _InheritedServer(app, sock)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    ready()
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.stop()  # type: ignore[no-untyped-call]
        with suppress(asyncio.CancelledError):
            await serving
    finally:
        stopping.cancel()
