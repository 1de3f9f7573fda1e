"""Passes each request of the hub listener on by its path: participants first, then health, contract and page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Final

from oracle import errors
from oracle.api import faults
from oracle.api.health import Health
from oracle.api.http import JSON, Request, make_fields
from oracle.api.hub.participants import Participants
from oracle.telemetry import logs
from oracle.telemetry.metrics import Metrics

log = logs.Log(__name__)

# The page needs nothing but itself: no script, no style, no picture.
_HTML: Final = b"\r\n".join(
    (
        b"content-type: text/html; charset=utf-8",
        b"content-security-policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        b"x-content-type-options: nosniff",
    )
)
_PARTICIPANTS: Final = b"/participants"
LOOKUP: Final = b"GET /participants/"  # how the requests begin that wait while there is too much work


def _send_contract(request: Request, openapi: bytes, tag: bytes) -> None:
    """Send the contract to a gateway that looks for what it can grant, unless it has this version already."""
    known = request.header(b"if-none-match") or b""
    fields = b"%b\r\netag: %b\r\ncache-control: no-cache" % (JSON, tag)
    if known == b"*" or tag in known:
        request.respond(304, b"", fields)
    else:
        request.respond(200, openapi, fields)


class Hub:
    """The application of the hub's HttpServer, which calls `serve` with each request."""

    def __init__(self, participants: Participants, health: Health, metrics: Metrics) -> None:
        self._participants = participants
        self._metrics = metrics
        openapi = files("oracle.schemas").joinpath("hub.openapi.json").read_bytes()
        tag = b'"%b"' % hashlib.sha256(openapi).hexdigest()[:32].encode()
        page = files("oracle.api.hub").joinpath("page.html").read_bytes()
        self._pages: dict[bytes, Callable[[Request], None]] = {
            b"/health": lambda request: request.respond(*health.report()),
            b"/ready": lambda request: request.respond(*health.ready()),
            b"/live": lambda request: request.respond(*health.live()),
            b"/openapi.json": lambda request: request.respond(200, openapi, JSON),
            b"/.authz/openapi": lambda request: _send_contract(request, openapi, tag),
            b"/": lambda request: request.respond(200, page, _HTML),
        }
        self._cells = metrics.cells
        self._requests = metrics.slots("http_requests_total", "method")

    def serve(self, request: Request) -> None:
        self._cells[self._requests[request.method]] += 1
        if request.target.startswith(_PARTICIPANTS):
            self._participants.serve(request)
            return
        page = self._pages.get(request.target.partition(b"?")[0])
        if page is None:
            self._participants.serve(request)  # //participants is valid, all else is an unknown URI
        elif request.method in ("GET", "HEAD"):
            page(request)
        else:
            error = errors.MethodNotAllowed(allowed="GET, HEAD")
            request.respond(*faults.encode_error(error), make_fields(error))

    def on_error(self, error: BaseException) -> None:
        """Log and count a defect; the server has answered 500 + 2001."""
        log.error("request failed", exc=error)
        self._metrics.add("errors_total", code="2001")
