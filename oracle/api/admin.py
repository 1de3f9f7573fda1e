"""The admin listener: health, metrics, and room for what administrators and auditors do.

Its errors are `{"error": {"code", "message", "hint"}}`: people and scripts read them, not ALS.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Litestar, MediaType, Request, Response, get
from litestar.exceptions import HTTPException

from oracle import logs, metrics
from oracle.api.health import Health

log = logs.Log(__name__)


class Problem(msgspec.Struct, frozen=True):
    code: str
    message: str
    hint: str = ""


class ProblemBody(msgspec.Struct, frozen=True):
    error: Problem


_HINTS: Final = {
    404: Problem("not_found", "No such resource", "GET /health, /live, /ready and /metrics are served here"),
    405: Problem("method_not_allowed", "This resource does not take that method", "Use GET"),
}
_DEFECT: Final = Problem("internal_error", "Something went wrong inside", "See the log of the admin process")


def admin_app(health: Health, counters: metrics.Metrics) -> Litestar:
    """The ASGI application of the admin listener."""

    @get("/health", sync_to_thread=False)
    def report() -> Response[bytes]:
        return _json(*health.report())

    @get("/live", sync_to_thread=False)
    def live() -> Response[bytes]:
        return _json(*health.live())

    @get("/ready", sync_to_thread=False)
    def ready() -> Response[bytes]:
        return _json(*health.ready())

    @get("/metrics", sync_to_thread=False)
    def page() -> Response[bytes]:
        return Response(counters.render(), media_type=metrics.CONTENT_TYPE)

    return Litestar(
        [report, live, ready, page],
        exception_handlers={HTTPException: _refusal, Exception: _defect},
        openapi_config=None,
        logging_config=None,
    )


def _json(status: int, body: bytes) -> Response[bytes]:
    return Response(body, status_code=status, media_type=MediaType.JSON)


def _refusal(_: Request[Any, Any, Any], error: HTTPException) -> Response[ProblemBody]:
    status = error.status_code
    if status >= 500:  # noqa: PLR2004 - the server's side of the statuses
        return _defect(_, error)
    return Response(
        ProblemBody(_HINTS.get(status, Problem("bad_request", "The request is not valid"))),
        status_code=status,
    )


def _defect(_: Request[Any, Any, Any], error: Exception) -> Response[ProblemBody]:
    log.error("admin request failed", exc=error)
    return Response(ProblemBody(_DEFECT), status_code=500)
