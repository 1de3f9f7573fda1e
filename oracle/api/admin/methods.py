"""The methods that a path of the admin listener has: HEAD where programs check the state, and a complete `Allow`.

HEAD.      Balancers and monitors ask with HEAD, and gateways that look for a new contract.  It is answered for HEADS,
           as by the hub listener.
Allow.     Litestar answers OPTIONS with the methods of one handler of the path.  Here it names those of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from litestar.routes.base import BaseRoute
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

HEADS: Final = frozenset({"/health", "/live", "/ready", "/metrics", "/.authz/openapi"})


def complete_methods(app: ASGIApp, routes: Iterable[BaseRoute]) -> ASGIApp:
    """Wrap the application that has these routes."""
    methods = {route.path_format: frozenset(getattr(route, "methods", ())) for route in routes}

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope.get("method")
        path = scope.get("path", "")

        async def send_complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = methods.get(str(scope.get("path_template", "")), frozenset()) if asked == "OPTIONS" else ()
                message["headers"] = [
                    (name, _join(value, names, has_head=path in HEADS) if name.lower() == b"allow" else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        if asked == "HEAD" and path in HEADS:
            scope = {**scope, "method": "GET"}  # type: ignore[assignment]  # the server still knows, and sends no body
        await app(scope, receive, send_complete)

    return serve


def _join(value: bytes, names: Iterable[str], *, has_head: bool) -> bytes:
    present = {name.strip() for name in value.decode("ascii").split(",")}
    return ", ".join(sorted({*present, *names, *(("HEAD",) if has_head else ())})).encode()
