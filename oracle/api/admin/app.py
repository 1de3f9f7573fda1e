"""The admin listener: the administration below /admin/v1, the history below /audit/v1, health, metrics and /docs.

Litestar routes, validates and describes.  One guard decides who may call what (`access`), and one place makes problem
documents of errors (`problems`).  `documentation` has the pages for people.  The published description is made from
the handlers themselves: `make contract`; a test holds the two equal.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from litestar import Litestar, MediaType, Request, Response, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import MethodNotAllowedException, NotFoundException, ValidationException
from litestar.handlers import HTTPRouteHandler, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition

from oracle.api.admin import (
    alias_export,
    alias_list,
    alias_questions,
    aliases,
    als,
    batch_results,
    batch_uploads,
    batches,
    budgets,
    credentials,
    documentation,
    doubtful,
    doubtful_routes,
    endpoints,
    fsps,
    oracles,
    prefixes,
    route_import,
    routes,
    service_state,
    sessions,
    tasks,
    what_if,
)
from oracle.api.admin.access import KEYS, PUBLIC, Access
from oracle.api.admin.budgets import Budgets
from oracle.api.admin.callers import Ways
from oracle.api.admin.calls import Call, answer_of
from oracle.api.admin.envelope import Budget, wrap_app, wrap_handler
from oracle.api.admin.examples import add_examples
from oracle.api.admin.expected import INVALID_ENUM, list_allowed
from oracle.api.admin.keeping import Keeping
from oracle.api.admin.methods import complete_methods
from oracle.api.admin.problems import DEFECT, Refusal, refusal_of
from oracle.api.admin.sending import STALL_S, limit_stalls
from oracle.api.admin.service_state import ServiceReader
from oracle.api.history import differences, events, exports, reads, resolutions, verifications
from oracle.api.history import log as audit_log
from oracle.api.history.reads_quota import ReadsQuota
from oracle.api.kept import Kept
from oracle.budgets.classes import Classes
from oracle.identifiers import Reading
from oracle.imports.quota import Quota
from oracle.registration.registration import Registration
from oracle.telemetry import logs, metrics

if TYPE_CHECKING:
    from oracle.api.health import Health
    from oracle.store.changes import Changes
    from oracle.store.postgres import Postgres

log = logs.Log(__name__)

ShowStray = Callable[[Request[Any, Any, Any], Refusal], Response[Any] | None]
_PUBLIC: Final = {"access": PUBLIC, "streams": False}
BODIES_MAX_BYTES: Final = 64 * 1024 * 1024
EXPORT_S: Final = 3_600.0
_DESCRIPTION: Final = """\
Administration and history of the alias directory.

**Keys.** Send `Authorization: Bearer aok_…`. Each operation lists the roles that may call it. A key of an FSP can only
act for that FSP. Where the operator has turned it on, you can send a token of your identity provider in place of a key,
or call through a gateway.

**Gateways** that grant single operations find this document at `/.authz/openapi` as well. `x-authz` of an operation
says what limits its callers. `fsps`: the caller needs the FSP in the path, or sees in a list only what is of their own
FSPs.

**Versions.** Answers have an ETag. A change with `If-Match` of another version is 412.

**Repeating a call.** A POST with an `Idempotency-Key` is done once; for 24 hours, the same call gets the same answer.
An answer that is too long to keep, or was given under an earlier secret of the key, is not given again: the repeated
call gets 409 `answer_lost`, and nothing is done twice. A POST that changes nothing is answered anew.

**Errors.** Each error is `application/problem+json` (RFC 9457). `code` stays the same between versions; `type` is a
link to the list of all codes: [error codes](/docs/errors).

**Times** are RFC 3339 with an offset, for example `2026-11-28T10:00:00Z`.

**Pages.** A list has `next` while there is more: set `cursor` to it, with the same filters and the same key. A GET also
has it as `Link: <…>; rel="next"` (RFC 8288).
"""
# In the order of the page.
_TAGS: Final = {
    "FSPs": "The participants: their data, their status, and what they may register.",
    "Credentials": "Keys of people and programs, and the calls that were refused.",
    "Aliases": "The identifiers that an FSP has registered.",
    "Files": "Uploaded files (batches): upload, approve, follow, download results.",
    "Routes": "Prefix routes: they answer for identifiers that nobody has registered.",
    "Oracles": "Which oracle answers for a type, here and at the ALS of the hub.",
    "History": "Every change, and the answer at any past time.",
    "The log": "Proof that nobody rewrote the history: checkpoints, proofs, exports.",
    "Budgets": "How much each FSP can ask, against scans of the directory.",
    "Service": "The state of the service, and what it did in the last hour.",
    "Prefixes": "The list of prefixes for programs that route payments, without a key.",
}


class AdminServices:
    """Everything that the handlers use."""

    def __init__(
        self,
        changes: Changes,
        postgres: Postgres,
        health: Health,
        counters: metrics.Metrics,
        *,
        quota: Quota | None = None,
        keeping: Keeping | None = None,
        reads_quota: ReadsQuota | None = None,
        proxies: Sequence[str] = (),
        ways: Ways = KEYS,
        reading: Reading | None = None,
        bodies_max_bytes: int = BODIES_MAX_BYTES,
        stall_s: float = STALL_S,
        export_s: float = EXPORT_S,
        registration: Registration | None = None,
        budgets: Budgets | None = None,
        home: str = "docs",
    ) -> None:
        """`stall_s`: how long a client can take nothing, or send nothing of its body, before its call ends.

        `export_s`: how long an export of aliases can take.  `registration`: at the ALS of the hub, if one is set.
        `home`: where `/` leads.
        """
        self.changes = changes
        self.postgres = postgres
        self.health = health
        self.stopping = asyncio.Event()  # when it is set, endless answers end
        self.counters = counters
        self.page = Kept(lambda: counters.render())  # noqa: PLW0108 - the description is made without counters
        self.quota = quota or Quota()
        self.keeping = keeping or Keeping()
        self.reads_quota = reads_quota or ReadsQuota()
        self.proxies = proxies  # in front of the listener
        self.ways = ways  # how callers come in
        self.reading = reading or Reading()
        self.bodies_max_bytes = bodies_max_bytes  # of all calls together
        self.stall_s = stall_s
        self.export_s = export_s
        self.registration = registration
        self.budgets = budgets or Budgets("off", Classes.of_defaults(), lambda: None, "")
        self.service = ServiceReader(health, counters, self.budgets.mode, has_als=registration is not None)
        self.home = home
        self.access = Access(postgres, proxies, ways)


def admin_app(services: AdminServices, others: Sequence[Router] = (), show_stray: ShowStray | None = None) -> Litestar:
    """Make the ASGI application of the admin listener.

    `others`: what is served beside the API.  `show_stray`: answers a request without a route; None: not one of its own.
    """
    app = _app(services, None, others, show_stray)
    _require_guards(app)
    _note_parameters(app)
    complete = complete_methods(app.asgi_handler, app.routes)
    app.asgi_handler = limit_stalls(wrap_app(complete, Budget(services.bodies_max_bytes)), services.stall_s)
    return app


def routers() -> list[Router]:
    """Everything that is declared with `operations.operation`; what is here is in the published description."""
    parts = (
        ("/admin/v1", "FSPs", [fsps, endpoints]), ("/admin/v1", "Credentials", [credentials, sessions]),
        ("/admin/v1", "Aliases", [aliases, alias_list, alias_questions, alias_export, doubtful]),
        ("/admin/v1", "Files", [batches, batch_uploads, batch_results, tasks]),
        ("/admin/v1", "Routes", [routes, doubtful_routes, what_if, route_import]),
        ("/admin/v1", "Oracles", [oracles, als]), ("/admin/v1", "Budgets", [budgets]),
        ("/admin/v1", "Service", [service_state]),
        ("/audit/v1", "History", [events, resolutions, differences, reads]),
        ("/audit/v1", "The log", [audit_log, exports, verifications]),
    )  # fmt: skip
    named = [_router(path, tag, [each for module in modules for each in module.handlers()])
             for path, tag, modules in parts]  # fmt: skip
    return [*named, prefixes.router()]


def description() -> bytes:
    """Make the OpenAPI document, as it is published."""
    config = OpenAPIConfig(
        title="Alias oracle: administration and audit",
        version=version("alias-oracle").partition("+")[0],
        description=_DESCRIPTION,
        components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
        use_handler_docstrings=True,
        tags=[Tag(name, text) for name, text in _TAGS.items()],
    )
    document = add_examples(_app(None, config).openapi_schema.to_schema())
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _router(path: str, tag: str, handlers: Sequence[HTTPRouteHandler]) -> Router:
    dependencies = {"call": Provide(_call), "reading": Provide(_reading), "registration": Provide(_registration),
                    "budgets": Provide(_budgets), "service": Provide(_service),
                    "counters": Provide(_counters)}  # fmt: skip
    return Router(path, route_handlers=list(handlers), dependencies=dependencies, tags=[tag])


def _app(
    services: AdminServices | None,
    openapi_config: OpenAPIConfig | None,
    others: Sequence[Router] = (),
    show_stray: ShowStray | None = None,
) -> Litestar:
    def refuse(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        is_stray = "route_handler" not in request.scope and isinstance(error, _NO_ROUTE)
        shown = show_stray(request, refusal_of(error)) if is_stray and show_stray is not None else None
        return shown or _refuse(request, error)

    return Litestar(
        [*_health_handlers(), *routers(), *others],
        guards=[] if services is None else [services.access.admit],
        middleware=[wrap_handler],
        exception_handlers={Exception: refuse},
        openapi_config=openapi_config,
        logging_config=None,
        state=State({"services": services}),
    )


def _require_guards(app: Litestar) -> None:
    """Refuse to start with a handler that does not name who may call it: it would let everybody in."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            if "access" not in handler.opt and handler.http_methods != {"OPTIONS"}:  # which Litestar answers itself
                raise RuntimeError(f"{handler} does not name who may call it")


def _note_parameters(app: Litestar) -> None:
    """Note with each handler the query parameters that it takes."""
    for route in app.routes:
        for handler, taken in getattr(route, "route_handler_map", {}).values():
            handler.opt["query"] = frozenset(parameter.field_alias for parameter in taken.expected_query_params)


def _require_known(request: Request[Any, Any, Any]) -> None:
    """Refuse unknown query parameters, as members of a body: a misspelled `?dryrun=true` must not create the route,
    `?curency=MXN` must not remove every entry, and `?identifer=` must not list every event.
    """
    known: frozenset[str] = request.route_handler.opt["query"]
    if not request.query_params.keys() <= known:
        hint = f"Known here: {', '.join(sorted(known))}" if known else "This operation takes no query parameters"
        raise Refusal(400, "unknown_parameter", "A query parameter is unknown", hint)


async def _call(request: Request[Any, Any, Any], state: State) -> Call:
    _require_known(request)
    services: AdminServices = state.services
    body = b"" if request.route_handler.opt["streams"] else await request.body()
    return Call(request, body, services.changes, services.postgres, services.keeping, services.reads_quota)


async def _reading(state: State) -> Reading:
    services: AdminServices = state.services
    return services.reading


async def _budgets(state: State) -> Budgets:
    services: AdminServices = state.services
    return services.budgets


async def _service(state: State) -> ServiceReader:
    services: AdminServices = state.services
    return services.service


async def _counters(state: State) -> metrics.Metrics:
    services: AdminServices = state.services
    return services.counters


async def _registration(state: State) -> Registration | None:
    services: AdminServices = state.services
    return services.registration


# Health, metrics, the description -----------------------------------------------------------------------------


def _health_handlers() -> list[HTTPRouteHandler]:
    return [_report, _live, _ready, _metrics, *documentation.handlers()]


def _json(status: int, body: bytes) -> Response[bytes]:
    return Response(body, status_code=status, media_type=MediaType.JSON)


_SPOKEN: Final = {**_PUBLIC, "sentences": {"services": {"reason": "text"}}}


@get("/health", opt=_SPOKEN, sync_to_thread=False, include_in_schema=False)
def _report(state: State) -> Response[bytes]:
    return _json(*state.services.health.report())


@get("/live", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _live(state: State) -> Response[bytes]:
    return _json(*state.services.health.live())


@get("/ready", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _ready(state: State) -> Response[bytes]:
    return _json(*state.services.health.ready())


@get("/metrics", opt=_PUBLIC, sync_to_thread=False, include_in_schema=False)
def _metrics(state: State) -> Response[bytes]:
    return Response(state.services.page.get(), media_type=metrics.CONTENT_TYPE)


# What goes wrong ----------------------------------------------------------------------------------------------


def _name_as_sent(extra: list[Any], parameters: Mapping[str, FieldDefinition]) -> None:
    """Rename parameters: the validator uses the handler's name, not the one in a URL."""
    for item in extra:
        found = parameters.get(item.get("key", ""))
        if found is not None and isinstance(found.kwarg_definition, QueryParameter) and found.kwarg_definition.name:
            item["key"] = found.kwarg_definition.name


def _note_allowed(extra: list[Any], parameters: Mapping[str, FieldDefinition]) -> None:
    """Note the values that are allowed where another one was sent: the validator does not name them."""
    for item in extra:
        if item.get("message", "").startswith(INVALID_ENUM):
            is_body = item.get("source") == "body"
            found = parameters.get("data" if is_body else item["key"])
            if found is not None:
                item["allowed"] = list_allowed(found.annotation, item["key"] if is_body else "")


_NO_ROUTE: Final = (NotFoundException, MethodNotAllowedException)


def _refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        parameters = request.route_handler.parsed_fn_signature.parameters
        _note_allowed(error.extra, parameters)
        _name_as_sent(error.extra, parameters)
    refusal = refusal_of(error)
    if refusal is DEFECT:
        log.error("admin request failed", exc=error)
    return answer_of(refusal).response()


if __name__ == "__main__":
    sys.stdout.buffer.write(description())
