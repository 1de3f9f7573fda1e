"""The API as the console asks it: in this process, through ASGI, by operationId.

Rules.    A call goes the whole way of one that comes by the network: limits, roles, FSPs, idempotency, problems,
          records of refusals.  Only the caller is known already (`callers.Inside`).  So no rule exists twice.
Cost.     No socket and no parser: some 0.1 ms beside the handler's own time.
Whole.    `ask` reads an answer to its end.  `open` reads it as it comes: downloads, and events of a batch.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from oracle.api.admin.access import Guard, is_allowed
from oracle.api.admin.callers import INSIDE, Caller, Inside
from oracle.api.admin.problems import Problem
from oracle.api.console.formats import straighten
from oracle.errors import Unavailable

if TYPE_CHECKING:
    from litestar import Litestar

_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_REFUSED: Final = 400
_OUTDATED: Final = 412
WAITING_MAX: Final = 4  # pieces of an answer that wait for their reader
Values = Mapping[str, Any]


class Operation(NamedTuple):
    """An operation of the API: where it is, and who may call it."""

    method: str
    path: str  # with {fsp_id}
    guard: Guard

    @property
    def of_fsp(self) -> bool:
        return "{fsp_id}" in self.path

    def fill(self, values: Values) -> tuple[str, bytes]:
        """Return the path with these values: decoded, and as a client would send it.  Raises KeyError."""
        plain = _PARAMETER.sub(lambda found: str(values[found[1]]), self.path)
        raw = _PARAMETER.sub(lambda found: quote(str(values[found[1]]), safe=""), self.path)
        return plain, raw.encode()


class Reply(msgspec.Struct, frozen=True, dict=True):
    """An answer of the API, whole."""

    status: int
    headers: Mapping[str, str]  # their names in small letters
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status < _REFUSED

    @cached_property
    def json(self) -> Any:
        """The body; None without one."""
        return msgspec.json.decode(self.body) if self.body else None

    @property
    def listing(self) -> Any:
        """The page of a list; an empty one, if the question was refused."""
        return self.json if self.ok else {"items": [], "next": None}

    @property
    def is_outdated(self) -> bool:
        """Whether somebody has changed the thing since the version of `if_match`."""
        return self.status == _OUTDATED

    @cached_property
    def problem(self) -> Problem | None:
        """What is wrong; None: nothing.

        A sentence of it can name people as they named themselves: no sign in a name turns the rest of the sentence.
        """
        if self.ok:
            return None
        problem = msgspec.json.decode(self.body, type=Problem)
        detail, hint = straighten(problem.detail), straighten(problem.hint)
        return msgspec.structs.replace(problem, detail=detail, hint=hint)

    @property
    def etag(self) -> str:
        """The version, for `if_match`; '': it has none."""
        return self.headers.get("etag", "")


class Stream:
    """An answer of the API as it comes."""

    def __init__(self, status: int, headers: Mapping[str, str], pieces: AsyncIterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.pieces = pieces

    @property
    def ok(self) -> bool:
        return self.status < _REFUSED

    async def read(self) -> Reply:
        """Read the rest."""
        return Reply(self.status, self.headers, b"".join([piece async for piece in self.pieces]))


class Question(msgspec.Struct, frozen=True):
    """A call, before it is known who makes it."""

    operation: str
    path: Values = {}
    query: Values = {}
    body: Any = None  # becomes JSON
    content: AsyncIterator[bytes] | bytes | None = None  # is sent as it is
    content_type: str = "application/json"
    idempotency_key: str = ""
    if_match: str = ""
    accept: str = ""
    request_id: str = ""


class Api:
    def __init__(self, app: Litestar) -> None:
        self._app = app
        self.operations = _list_operations(app)

    def may(self, caller: Caller, operation: str, fsp_id: str | None = None) -> bool:
        """Whether the caller can call this operation, for this FSP or, without one, for one of their own."""
        found = self.operations[operation]
        return is_allowed(caller, found.guard, of_fsp=found.of_fsp, fsp_id=fsp_id)

    async def ask(self, inside: Inside, question: Question) -> Reply:
        """Ask, and read the whole answer."""
        status, headers, parts = 500, dict[str, str](), list[bytes]()
        receive = _Sender(question).receive

        async def send(message: Any) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], _read_headers(message["headers"])
            else:
                parts.append(message.get("body", b""))

        await self._app(self._make_scope(inside, question), receive, send)
        return Reply(status, headers, b"".join(parts))

    @asynccontextmanager
    async def open(self, inside: Inside, question: Question) -> AsyncIterator[Stream]:
        """Ask, and read the answer as it comes.  Leaving the block ends the call."""
        queue: asyncio.Queue[Any] = asyncio.Queue(WAITING_MAX)
        sender = _Sender(question)

        async def run() -> None:
            failure: BaseException | None = None
            try:
                await self._app(self._make_scope(inside, question), sender.receive, queue.put)
            except Exception as exc:  # noqa: BLE001 - the reader of the answer gets it
                failure = exc
            await queue.put(failure)

        running = asyncio.create_task(run())
        try:
            begun = await queue.get()
            if not isinstance(begun, dict):
                raise begun or RuntimeError("an operation gave no answer")
            yield Stream(begun["status"], _read_headers(begun["headers"]), _read_pieces(queue))
        finally:
            sender.leave()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    def _make_scope(self, inside: Inside, question: Question) -> Any:
        operation = self.operations[question.operation]
        path, raw_path = operation.fill(question.path)
        query = [(name, value) for name, value in question.query.items() if value not in (None, "")]
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
            "method": operation.method, "scheme": "http", "path": path, "raw_path": raw_path, "root_path": "",
            "query_string": urlencode(query, doseq=True).encode(), "headers": _write_headers(question),
            "client": (inside.address, 0), "server": ("console", 0), "state": {}, "extensions": {}, INSIDE: inside,
        }  # fmt: skip


class _Sender:
    """Gives the body of a question to the operation."""

    def __init__(self, question: Question) -> None:
        content = question.content
        if content is None:
            content = b"" if question.body is None else msgspec.json.encode(question.body)
        self._pieces = None if isinstance(content, bytes) else content
        self._whole: bytes | None = content if isinstance(content, bytes) else None
        self._left: asyncio.Event | None = None

    def leave(self) -> None:
        if self._left is not None:
            self._left.set()

    async def receive(self) -> Any:
        if self._whole is not None:
            whole, self._whole = self._whole, None
            return {"type": "http.request", "body": whole, "more_body": False}
        if self._pieces is not None:
            piece = await anext(self._pieces, None)
            if piece is None:
                self._pieces = None
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.request", "body": piece, "more_body": True}
        self._left = self._left or asyncio.Event()
        await self._left.wait()
        return {"type": "http.disconnect"}


class BrokenOff(Unavailable):
    """An answer of the API ended before it was complete: its key was revoked, or its time was up."""


async def _read_pieces(queue: asyncio.Queue[Any]) -> AsyncIterator[bytes]:
    """Yield the pieces.  Raises what the operation raised.  Raises BrokenOff, so that no file looks complete."""
    while isinstance(message := await queue.get(), dict):
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            return
    raise message or BrokenOff


def _read_headers(sent: Any) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in sent}


def _write_headers(question: Question) -> list[tuple[bytes, bytes]]:
    found = {
        "content-type": question.content_type if question.body is not None or question.content is not None else "",
        "content-length": str(len(question.content)) if isinstance(question.content, bytes) else "",
        "idempotency-key": question.idempotency_key, "if-match": question.if_match, "accept": question.accept,
        "x-request-id": question.request_id,
    }  # fmt: skip
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in found.items() if value]


def _list_operations(app: Litestar) -> dict[str, Operation]:
    found = {}
    for route in app.routes:
        for handler, _ in getattr(route, "route_handler_map", {}).values():
            name = getattr(handler, "operation_id", None)
            if isinstance(name, str):
                (method,) = handler.http_methods - {"OPTIONS", "HEAD"}
                found[name] = Operation(str(method), _PARAMETER.sub(r"{\1}", route.path), handler.opt["access"])
    return found
