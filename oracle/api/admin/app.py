"""The admin listener: health and metrics, and below /admin/v1 what administrators do.

Litestar routes, validates and describes; who may call what is decided by one guard (api/access), what goes wrong
becomes `{"error": …}` in one place (api/problems).  The published description is made from the handlers themselves:
`python -m oracle.api.admin.app > schemas/admin.openapi.json`, and a test holds the two equal.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from litestar import Litestar, MediaType, Request, Response, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition

from oracle.api.admin import aliases, batches, credentials, fsps, prefixes, route_import, routes, what_if
from oracle.api.admin.access import PUBLIC, Access
from oracle.api.admin.calls import Call, answer_of
from oracle.api.admin.envelope import enveloped, with_slashes
from oracle.api.admin.problems import DEFECT, Refusal, refusal_of
from oracle.api.history import differences, events, reads, resolutions
from oracle.api.history import log as audit_log
from oracle.identifiers import Reading
from oracle.imports.quota import Quota
from oracle.telemetry import logs

if TYPE_CHECKING:
    from oracle.api.health import Health
    from oracle.store.changes import Changes
    from oracle.store.postgres import Postgres
    from oracle.telemetry import metrics

log = logs.Log(__name__)

_PUBLIC: Final = {"access": PUBLIC, "streams": False}
_DESCRIPTION: Final = """\
Administration of the alias directory.  `Authorization: Bearer aok_…`.  Every resource has an ETag; a change with
`If-Match` of another version is 412.  A POST with an `Idempotency-Key` is done once, and answered the same for 24
hours.  Every error is `{"error": {"code", "message", "hint"}}`.  Times are RFC 3339, pages go on with `cursor` set to
`next`."""
# In the order of the reading page.
_TAGS: Final = {
    "FSPs": "Who may register what, and is answered.",
    "Credentials": "Keys, and the calls that were refused.",
    "Aliases": "What an FSP has registered; for operators, whose an identifier is.",
    "Files": "Uploaded, checked, let in by a second person, applied: batches.",
    "Routes": "Prefix rules: who answers what nobody has registered.",
    "History": "Every change, and what was answered at an instant.",
    "The log": "That nobody rewrote it: checkpoints, proofs, exports.",
    "Prefixes": "The list that Pivotal's client reads.",
}


class Parts:
    """What the handlers stand on."""

    def __init__(
        self,
        changes: Changes,
        postgres: Postgres,
        health: Health,
        counters: metrics.Metrics,
        *,
        quota: Quota | None = None,
        proxies: Sequence[str] = (),
        reading: Reading | None = None,
    ) -> None:
        self.changes = changes
        self.postgres = postgres
        self.health = health
        self.stopping = asyncio.Event()  # what answers for ever ends then
        self.counters = counters
        self.quota = quota or Quota()
        self.proxies = proxies  # in front of the listener
        self.reading = reading or Reading()


def admin_app(parts: Parts) -> Litestar:
    """The ASGI application of the admin listener."""
    app = _app(parts, None)
    _require_rules(app)
    _note_parameters(app)
    app.asgi_handler = enveloped(app.asgi_handler)
    return app


def routers() -> list[Router]:
    """Everything that is declared with `operations.operation`; what is here is in the published description."""
    parts = (
        ("/admin/v1", "FSPs", [fsps]), ("/admin/v1", "Credentials", [credentials]), ("/admin/v1", "Aliases", [aliases]),
        ("/admin/v1", "Files", [batches]), ("/admin/v1", "Routes", [routes, what_if, route_import]),
        ("/audit/v1", "History", [events, resolutions, differences, reads]), ("/audit/v1", "The log", [audit_log]),
    )  # fmt: skip
    named = [_router(path, tag, [each for module in modules for each in module.handlers()])
             for path, tag, modules in parts]  # fmt: skip
    return [*named, prefixes.router()]


def description() -> bytes:
    """The OpenAPI document, as it is published."""
    config = OpenAPIConfig(
        title="Alias oracle: administration",
        version=version("alias-oracle").partition("+")[0],
        description=_DESCRIPTION,
        components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
        use_handler_docstrings=True,
        tags=[Tag(name, text) for name, text in _TAGS.items()],
    )
    document = _app(None, config).openapi_schema.to_schema()
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _router(path: str, tag: str, handlers: Sequence[HTTPRouteHandler]) -> Router:
    dependencies = {"call": Provide(_call), "reading": Provide(_reading)}
    return Router(path, route_handlers=list(handlers), dependencies=dependencies, tags=[tag])


def _app(parts: Parts | None, openapi_config: OpenAPIConfig | None) -> Litestar:
    return Litestar(
        [*_health_handlers(), *routers()],
        guards=[] if parts is None else [Access(parts.postgres, parts.proxies).admit],
        middleware=[with_slashes],
        exception_handlers={Exception: _refuse},
        openapi_config=openapi_config,
        logging_config=None,
        state=State({"parts": parts}),
    )


def _require_rules(app: Litestar) -> None:
    """A handler that does not say who may call it would let everybody in."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            if "access" not in handler.opt and handler.http_methods != {"OPTIONS"}:  # which Litestar answers itself
                raise RuntimeError(f"{handler} does not say who may call it")


def _note_parameters(app: Litestar) -> None:
    """With each handler, what it takes in the query."""
    for route in app.routes:
        for handler, taken in getattr(route, "route_handler_map", {}).values():
            handler.opt["query"] = frozenset(parameter.field_alias for parameter in taken.expected_query_params)


def _require_known(request: Request[Any, Any, Any]) -> None:
    """As with members of a body: `?dryrun=true` must not make what it was to try, nor `?curency=MXN` remove all, nor
    `?identifer=` list what all the others did.
    """
    known: frozenset[str] = request.route_handler.opt["query"]
    if not request.query_params.keys() <= known:
        hint = f"Here it takes {', '.join(sorted(known))}" if known else "Here it takes none"
        raise Refusal(400, "unknown_parameter", "A parameter of the query is not known", hint)


async def _call(request: Request[Any, Any, Any], state: State) -> Call:
    _require_known(request)
    parts: Parts = state.parts
    body = b"" if request.route_handler.opt["streams"] else await request.body()
    return Call(request, body, parts.changes, parts.postgres)


async def _reading(state: State) -> Reading:
    parts: Parts = state.parts
    return parts.reading


# Health, metrics, the description -----------------------------------------------------------------------------


def _health_handlers() -> list[HTTPRouteHandler]:
    return [_report, _live, _ready, _metrics, _document, _page]


def _json(status: int, body: bytes) -> Response[bytes]:
    return Response(body, status_code=status, media_type=MediaType.JSON)


@get("/health", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _report(state: State) -> Response[bytes]:
    return _json(*state.parts.health.report())


@get("/live", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _live(state: State) -> Response[bytes]:
    return _json(*state.parts.health.live())


@get("/ready", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _ready(state: State) -> Response[bytes]:
    return _json(*state.parts.health.ready())


@get("/metrics", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _metrics(state: State) -> Response[bytes]:
    from oracle.telemetry.metrics import CONTENT_TYPE  # noqa: PLC0415 - not needed to make the description

    return Response(state.parts.counters.render(), media_type=CONTENT_TYPE)


@get("/openapi.json", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _document() -> Response[bytes]:
    return _json(200, files("oracle.schemas").joinpath("admin.openapi.json").read_bytes())


@get("/docs", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _page() -> Response[bytes]:
    page = files("oracle.api").joinpath("docs.html").read_bytes()
    return Response(page, media_type="text/html")


# What goes wrong ----------------------------------------------------------------------------------------------


def _name_as_sent(said: list[Any], parameters: Mapping[str, FieldDefinition]) -> None:
    """The validator names a parameter as its handler does, not as it stands in a URL."""
    for item in said:
        found = parameters.get(item.get("key", ""))
        if found is not None and isinstance(found.kwarg_definition, QueryParameter) and found.kwarg_definition.name:
            item["key"] = found.kwarg_definition.name


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        _name_as_sent(error.extra, request.route_handler.parsed_fn_signature.parameters)
    refusal = refusal_of(error)
    if refusal is DEFECT:
        log.error("admin request failed", exc=error)
    return answer_of(refusal).response()


if __name__ == "__main__":
    sys.stdout.buffer.write(description())
