"""Serves the ASGI application of the admin listener on a socket that the supervisor has bound."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

from litestar import Litestar

from oracle.api.admin.connections import LIMITS, Connections, Limits
from oracle.api.tls import Tls
from oracle.identity.addresses import networks_of

BACKLOG: Final = 4096
# The kernel would keep up to 4 MiB of an answer that nobody reads, outside of every limit, and call it sent.
# Connections inherit this from the listener.  Linux doubles it.
SEND_BUFFER_BYTES: Final = 128 * 1024


async def serve_asgi(
    app: Litestar,
    sock: socket.socket,
    ready: Callable[[], None],
    stop: asyncio.Event,
    *,
    timeout_s: float,
    limits: Limits = LIMITS,
    proxies: Sequence[str] = (),
    tls: Tls | None = None,
) -> int:
    """Serve until `stop` is set and the calls in flight are answered; `ready` is called when it listens.

    Calls that are not answered `timeout_s` after `stop` are cut off; returns how many connections that were.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    connections = Connections(app, limits, networks_of(proxies))
    make = connections.make if tls is None else connections.secure(tls)
    listener = await asyncio.get_running_loop().create_server(make, sock=sock, backlog=BACKLOG)
    connections.tick()
    ready()
    try:
        await stop.wait()
        listener.close()
        for _ in range(2):  # the loop reports the last accepted connections in its next rounds
            await asyncio.sleep(0)
        return await connections.drain(timeout_s)
    finally:
        listener.close()
        connections.close()
