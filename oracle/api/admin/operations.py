"""One way to declare an operation of the admin listener: name, method, path, who may call it, request and answer.

The published OpenAPI document, the guard and the test of who may call what are all made from these declarations.  The
name is the operationId: gateways make permissions of it, so it stays the same when a function or a path changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)
from litestar.status_codes import HTTP_201_CREATED

from oracle.api.admin import forms
from oracle.api.admin.access import Guard
from oracle.api.admin.problems import MEDIA_TYPE, Problem
from oracle.api.admin.speaking import find_sentences

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
BODY_BYTES_MAX: Final = 1_048_576

_MEANINGS: Final = {
    400: "The request is not valid",
    401: "The request has no valid key",
    403: "This role may not do that, or the key belongs to another FSP",
    404: "Not found",
    409: "The rules of the directory do not allow it",
    410: "The file and its results were deleted after their retention time",
    412: "The resource has another version than If-Match",
    413: "The body is too large",
    429: "Too many calls without a valid key; kept or long answers, secrets, questions of the key; uploads of the FSP",
    502: "The ALS of the hub failed, or cannot be reached",
    503: "The directory is not available",
}


def operation(
    name: str,
    method: Method,
    path: str,
    access: Guard,
    summary: str,
    *,
    answers: Any = None,
    status: int = 200,
    also: tuple[int, ...] = (),
    waits: Any = None,
    media_type: str = "application/json",
    also_as: tuple[str, ...] = (),
    takes: str | None = None,
    streams: bool = False,
    reads: bool = False,
    unversioned: bool = False,
    deleted: bool = False,
    upstream: bool = False,
) -> Callable[[Callable[..., Awaitable[Response[Any]]]], HTTPRouteHandler]:
    """Make a handler of a function that takes `call: Call`, `data: Body` and parameters, and returns a Response.

    `name` is the operationId: a verb and a noun.  `answers` is the type of a successful answer's body, `also` are its
    other statuses, `also_as` its other media types.  `waits` is the body of a change that waits for a second person
    (202).  `takes` is the media type of a body that is not JSON: there is no `data` then; the body is in
    `call.body`, or with `streams` the function reads it from the request.  `reads`: a POST that changes nothing.
    `unversioned`: what it changes has no ETag.
    `deleted`: what it answers with can have been deleted.  `upstream`: it asks another service, which can fail.
    """
    return HTTPRouteHandler(
        path,
        http_method=method,
        status_code=status,
        operation_id=name,
        summary=summary,
        media_type=media_type,
        opt={"access": access, "streams": streams, "sentences": find_sentences(answers) | find_sentences(waits)},
        request_max_body_size=None if streams else BODY_BYTES_MAX,
        security=[{"bearer": []}] if access.roles else [],
        responses=_responses(method, access, (status, *also), answers, media_type, waits=waits, deleted=deleted,
                             upstream=upstream),
        operation_class=_operation_class(
            _headers(
                method, path, access, has_version=not (reads or unversioned) and status != HTTP_201_CREATED
            ),
            takes, status, also_as, access.describe(), access.list_scopes(path),
        ),
    )  # fmt: skip


def _responses(
    method: Method,
    access: Guard,
    statuses: tuple[int, ...],
    answers: Any,
    media_type: str,
    *,
    waits: Any,
    deleted: bool,
    upstream: bool,
) -> dict[int, ResponseSpec]:
    possible = [400, 404, 413, 503]
    if access.roles:
        possible += [401, 403, 429]
    if method != "GET":
        possible += [409, 412]
    if deleted:
        possible.append(410)
    if upstream:
        possible += {409, 502} - set(possible)  # 409: there is none to ask
    found = {
        code: ResponseSpec(Problem, generate_examples=False, description=_MEANINGS[code], media_type=MEDIA_TYPE)
        for code in sorted(possible)
    }
    # Without a type and not text: JSON as it comes, events of a stream.
    untyped = Any if media_type in ("application/json", "text/event-stream") else bytes
    for status in statuses:
        found[status] = ResponseSpec(
            answers if answers is not None or status == 204 else untyped,  # noqa: PLR2004 - No Content
            generate_examples=False, description="Done", media_type=media_type,
        )  # fmt: skip
    if waits is not None:
        found[202] = ResponseSpec(
            waits, generate_examples=False, description="A second person must approve it: the batch that waits"
        )
    return found


def _headers(method: Method, path: str, access: Guard, *, has_version: bool) -> list[Parameter]:
    """List the headers that `Call` reads; no handler names them as parameters.

    `has_version`: the operation changes the thing that the path names, if it is one thing.
    """
    text = OpenAPIType.STRING
    if not access.roles:
        return []
    if method == "GET":
        return []
    found = [] if "{" not in path or not has_version else [
        Parameter("If-Match", "header", schema=Schema(type=text), required=False,
                  description="The ETag that you read; if the resource has changed since: 412"),
    ]  # fmt: skip
    if method == "POST":
        found.append(Parameter("Idempotency-Key", "header", schema=Schema(type=text, pattern=forms.IDEMPOTENCY_KEY),
                               required=False, description="Makes it safe to repeat the call, for 24 h"))  # fmt: skip
    return found


def _operation_class(
    headers: list[Parameter], takes: str | None, status: int, also_as: tuple[str, ...], roles: str, scopes: list[str]
) -> type[Operation]:
    @dataclasses.dataclass
    class Described(Operation):
        x_authz: dict[str, list[str]] = dataclasses.field(
            default_factory=lambda: {"scopedBy": scopes}, metadata={"alias": "x-authz"}
        )

        def __post_init__(self) -> None:
            self.description = f"{self.description}\n\n{roles}" if self.description else roles
            if headers:
                self.parameters = [*(self.parameters or []), *headers]
            if takes is not None:
                schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
                self.request_body = RequestBody(content={takes: OpenAPIMediaType(schema=schema)}, required=True)
            done = (self.responses or {}).get(str(status))
            if also_as and isinstance(done, OpenAPIResponse) and done.content:
                (described,) = done.content.values()
                done.content |= dict.fromkeys(also_as, described)

    return Described
