"""Answers 503 on the listeners while the workers cannot, because PostgreSQL is not ready for them.

The listeners are open from the first moment.  A client that connects waits in the kernel, unanswered.  That is right
for the second or two of an ordinary start.  While PostgreSQL recovers, is migrated or does not answer at all, a client
must learn that it should try elsewhere.

This runs in the supervisor, so it knows nothing of aliases.  /live answers 200: to kill the process would not help.

The listeners share the open files of the supervisor, which needs some to reach PostgreSQL and to start workers.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from oracle.run.open_files import count_clients
from oracle.run.order import Role
from oracle.run.tls import Credentials, make_tls
from oracle.telemetry import logs

if TYPE_CHECKING:
    from oracle.api.http import Request

PATIENCE_S: Final = 3.0
DRAIN_S: Final = 1.0
# asyncio accepts as many clients as its backlog in one turn, before the server can count one of them.
ACCEPTED_AT_ONCE: Final = 16

_STATES: Final = (b"/health", b"/ready")
_DOWN: Final = b'{"status":"DOWN","services":[{"name":"datastore","status":"DOWN"}]}'
_UNAVAILABLE: Final = "The directory is not available; try again later"
_PROBLEM: Final = b"content-type: application/problem+json"

log = logs.Log(__name__)


@asynccontextmanager
async def answer_for_workers(
    listeners: Mapping[Role, socket.socket],
    backlog: int,
    credentials: Mapping[str, Credentials],
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[None]:
    """Answer on the listeners while the block runs, if it takes longer than `patience_s`.

    `backlog`: how many clients can wait at each listener.  `credentials`: of those that use TLS, by their roles.
    """
    answering = asyncio.create_task(_answer(listeners, backlog, credentials, patience_s))
    try:
        yield
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def _answer(
    listeners: Mapping[Role, socket.socket], backlog: int, credentials: Mapping[str, Credentials], patience_s: float
) -> None:
    await asyncio.sleep(patience_s)
    # Only a start that takes long needs it: it costs 0.3 s and some MiB.
    from oracle.api.http import HttpServer, Limits  # noqa: PLC0415

    # No warning: the first start of an embedded PostgreSQL takes as long.  The supervisor warns if one does not answer.
    log.info("The workers wait for PostgreSQL; answering 503 until it is ready")
    answer_hub = _make_hub_answer()
    served, refused = (max(count // len(listeners), 1) for count in count_clients())
    limits = Limits(connections_max=served, connections_refused_max=refused)
    servers = []
    try:
        for role, listener in listeners.items():
            answer = _answer_admin if role == "admin" else answer_hub
            server = HttpServer(answer, limits, on_error=lambda error: log.error("request failed", exc=error))
            servers.append(server)
            # It closes the socket that it gets.
            await server.start(listener.dup(), backlog=ACCEPTED_AT_ONCE, tls=make_tls(role, credentials.get(role)))
            listener.listen(backlog)  # the kernel still keeps this many waiting
        await asyncio.Event().wait()
    finally:
        await asyncio.gather(*(server.drain(DRAIN_S) for server in servers))


def _make_hub_answer() -> Callable[[Request], None]:
    from oracle import errors  # noqa: PLC0415 - as HttpServer
    from oracle.api import faults  # noqa: PLC0415

    status, body = faults.encode_error(errors.DirectoryUnavailable())

    def answer(request: Request) -> None:
        if not _answer_state(request):
            request.respond(status, body)

    return answer


def _answer_admin(request: Request) -> None:
    if not _answer_state(request):
        import msgspec  # noqa: PLC0415 - as HttpServer

        problem = {"type": "about:blank", "title": "Temporarily unavailable", "status": 503, "code": "unavailable",
                   "detail": _UNAVAILABLE, "hint": "Try again in a moment"}  # fmt: skip
        request.respond(503, msgspec.json.encode(problem), _PROBLEM)


def _answer_state(request: Request) -> bool:
    path = request.target.partition(b"?")[0]
    if path == b"/live":
        request.respond(200, b'{"status":"OK"}')
    elif path in _STATES:
        request.respond(503, _DOWN)
    else:
        return False
    return True
