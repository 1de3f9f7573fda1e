"""One call of the admin listener, from its headers to its answer: the caller, the version, and repetitions.

ETag.             The version of a resource.  `If-Match` with another version is 412; the transaction compares them.
Idempotency-Key.  On a POST that can change something: the transaction of the change stores the answer for a day
                  (`keeping`).  The same key with the same call returns that answer, and nothing is done twice, however
                  many calls arrive at once and whenever a process dies; with another call it is 409.  A refusal is
                  stored as well: the answer stays the same.  Nothing is stored for a question, nor for a dry run.
Bodies.           Unknown members are refused: a misspelled one would silently change nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Request, Response

from oracle.api.admin.keeping import Answer, Keeping, pack, unpack
from oracle.api.admin.problems import Refusal, refusal_of
from oracle.errors import OracleError
from oracle.store.base import Context
from oracle.store.cache.coherence import LEASE_S
from oracle.telemetry.tracing import trace_id_of

if TYPE_CHECKING:
    from oracle.api.admin.callers import Caller
    from oracle.api.history.reads_quota import ReadsQuota
    from oracle.identifiers import PartyKey
    from oracle.store.changes import Changes
    from oracle.store.postgres import Postgres, Transaction

T = TypeVar("T")

_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,128}")
# RFC 9110: a list of entity tags.  A weak one is never the version that a change needs.
_ETAGS: Final = re.compile(r'\s*(?:W/)?"[!#-~]*"(?:\s*,\s*(?:W/)?"[!#-~]*")*\s*')
_ETAG: Final = re.compile(r'(W/)?"([!#-~]*)"')

_encode = msgspec.json.Encoder().encode


class Body(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The base of each body that a caller sends."""


class Resource(msgspec.Struct, kw_only=True, rename="camel"):
    """The base of each body that is answered."""


def answer(
    body: Any,
    *,
    status: int = 200,
    version: object = None,
    location: str | None = None,
    headers: Mapping[str, str] | None = None,
    holds_key: bool = False,
) -> Answer:
    headers = dict(headers or {})
    if version is not None:
        headers["ETag"] = f'"{version}"'
    if location is not None:
        headers["Location"] = location
    return Answer(status, b"" if body is None else _encode(body), headers, holds_key)


def answer_of(refusal: Refusal) -> Answer:
    return Answer(refusal.status, _encode(refusal.problem()), dict(refusal.headers))


def digest_of(request: Request[Any, Any, Any], body: bytes) -> bytes:
    """Compute what makes two calls the same: method, path, query and body."""
    target = request.scope["path"].encode() + b"?" + request.scope["query_string"]
    return hashlib.sha256(b"\0".join([request.method.encode(), target, body])).digest()


def limit_fsps(caller: Caller, fsp_id: str | None) -> frozenset[str] | None:
    """Return the FSPs that this call can see and change.  None: all FSPs, because the caller is limited to none.

    `fsp_id`: the one in the path, which `access` has checked.
    """
    return caller.fsp_ids if caller.fsp_ids is None or fsp_id is None else frozenset({fsp_id})


class Call:
    """What a handler needs of the call it answers.  The listener (`app`) makes one for each call."""

    def __init__(
        self,
        request: Request[Any, Any, Any],
        body: bytes,
        changes: Changes,
        postgres: Postgres,
        keeping: Keeping,
        reads_quota: ReadsQuota,
    ) -> None:
        self.caller: Caller = request.state.caller
        self.fsp_ids = limit_fsps(self.caller, request.path_params.get("fsp_id"))
        self.body = body
        self.changes = changes
        self.postgres = postgres
        self.reads_quota = reads_quota
        self._keeping = keeping
        self.sha256 = digest_of(request, body)
        headers = request.headers
        self.request_id: str = request.state.request_id
        self.trace_id = trace_id_of(headers.get("traceparent", "").encode("latin-1")) or ""
        self._is_get = request.method == "GET"
        self._query: str = request.scope["query_string"].decode("latin-1")
        self._if_match = _read_tags("If-Match", headers.getall("if-match", []))
        self._if_none_match = _read_tags("If-None-Match", headers.getall("if-none-match", []))
        keys = ", ".join(headers.getall("idempotency-key", [])) if request.method == "POST" else ""
        self._idempotency_key = keys if "idempotency-key" in headers and request.method == "POST" else None
        if self._idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(self._idempotency_key):
            raise Refusal(
                400, "invalid", "The Idempotency-Key is not valid", "Use 1 to 128 visible ASCII characters",
                field="Idempotency-Key",
            )  # fmt: skip

    def context(self, *, fsp_id: str = "", reason: str = "") -> Context:
        """Describe a change: who makes it, and why.

        `fsp_id`: the database refuses to touch entries of any other FSP.  For a caller of some FSPs it is
        always one of these.  Raises Refusal where nobody knows which.
        """
        if self.fsp_ids is not None:
            if len(self.fsp_ids) != 1:
                raise Refusal(403, "foreign", "You can only act for your own FSP", "Name one FSP in the path")
            (fsp_id,) = self.fsp_ids
        return Context(
            channel="admin", actor=self.caller.actor, role=self.caller.role, fsp_id=fsp_id, reason=reason,
            request_id=self.request_id, trace_id=self.trace_id,
        )  # fmt: skip

    def list_fsps(self) -> list[str] | None:
        """List the FSPs that a list may show; None: all."""
        return None if self.fsp_ids is None else sorted(self.fsp_ids)

    # -- versions -------------------------------------------------------------------------------------------------

    def match(self, *versions: object) -> None:
        """Require that the caller has read the version that is about to be changed.  Raises Refusal 412.

        Several versions: of the resource, and of a part of it that has an ETag of its own.
        """
        if self._if_match is None or self._if_match == "*":
            return
        if not {("", str(version)) for version in versions} & set(_ETAG.findall(self._if_match)):
            raise Refusal(
                412, "version_mismatch", "The resource has changed since you read it",
                "Read it again, then send the change with its new version (ETag)", field="If-Match",
            )  # fmt: skip

    def expected(self, version: str) -> str | None:
        """Return the version that the change needs when it is made later, after `match`; None: any."""
        return None if self._if_match in (None, "*") else version

    def has(self, version: object) -> bool:
        """Whether the caller of a GET has this version already."""
        if self._if_none_match is None:
            return False
        return self._if_none_match == "*" or str(version) in {tag for _, tag in _ETAG.findall(self._if_none_match)}

    def read(self, body: Any, version: object = None) -> Response[bytes]:
        """Answer a GET: 304 where the caller has this version already."""
        if version is not None and self.has(version):
            return Answer(304, b"", {"ETag": f'"{version}"'}).response()
        return answer(body, version=version).response()

    def read_page(self, page: Any) -> Response[bytes]:
        """Answer with a page of a list; `page.next`, its cursor, is in a link as well (RFC 8288).

        The link is relative and has the query alone, so it stays right behind a proxy that adds to the path.  A list
        that is asked for by POST has no link: its cursor belongs in the body.
        """
        given = answer(page)
        if page.next is not None and self._is_get:
            sent = [(name, value) for name, value in parse_qsl(self._query, keep_blank_values=True) if name != "cursor"]
            given.headers["Link"] = f'<?{urlencode([*sent, ("cursor", page.next)])}>; rel="next"'
        return given.response()

    # -- changes --------------------------------------------------------------------------------------------------

    async def is_repeated(self) -> bool:
        """Whether a call with this Idempotency-Key has been answered before, with the same body or another one.

        Raises Refusal 429 for a new key whose answer could not be kept.
        """
        if self._idempotency_key is None:
            return False
        found = await self.postgres.row(
            "idempotency_answer", self.caller.actor, self._idempotency_key, self._keeping.retention_s
        )
        if found is None:
            await self._keeping.look(self.postgres, self.caller.actor)
            self._keeping.require_room(self.caller.actor)
        return found is not None

    async def administer(
        self,
        work: Callable[[Transaction], Awaitable[Answer]],
        *,
        reason: str = "",
        settles: bool = False,
        keeps: bool = True,
    ) -> Response[bytes]:
        """Change anything but aliases; see `Changes.administer`.

        `keeps`: keep the answer for a repetition; not where nothing is changed.
        """

        async def change(once: Once) -> Answer:
            try:
                return await self.changes.administer(self.context(reason=reason), work, once, settles=settles)
            except Replayed:
                # The first call may have committed just now, and an acknowledgement must wait (Changes.administer).
                if settles:
                    await asyncio.sleep(LEASE_S)
                raise

        return await self.once(change, keeps=keeps)

    async def change_alias(
        self, fsp_id: str, key: PartyKey, work: Callable[[Transaction], Awaitable[Answer]], *, reason: str
    ) -> Response[bytes]:
        """Change an alias of one FSP; see `Changes.change`.  `work` changes it and returns the answer."""

        async def write(transaction: Transaction) -> tuple[Answer, bool]:
            return await work(transaction), True

        async def change(once: Once) -> Answer:
            context = self.context(fsp_id=fsp_id, reason=reason)
            try:
                return await self.changes.change(context, [(key.party_id_type, key.identifier)], write, once)
            except Replayed:
                # The first call may have committed just now, without Redis: older copies are believed for one lease.
                await asyncio.sleep(LEASE_S)
                raise

        return await self.once(change)

    async def once(self, change: Callable[[Once], Awaitable[Answer]], *, keeps: bool = True) -> Response[bytes]:
        """Make a change, or answer as when it was made.

        `change` passes the Once on to a method of Changes as its companion, and returns the answer.
        """
        once = self._make_once(self._idempotency_key if keeps else None)
        if once.key is not None:
            await self._keeping.look(self.postgres, self.caller.actor)
        try:
            given = await change(once)
        except Replayed as replayed:
            return replayed.answer.response()
        except (Refusal, OracleError, ValueError) as exc:
            refusal = refusal_of(exc)
            if is_final(refusal.status):
                return (await self._keep_refusal(once, answer_of(refusal))).response()
            raise
        return given.response()

    def _make_once(self, key: str | None) -> Once:
        return Once(self.caller, key, self.sha256, self._keeping)

    async def _keep_refusal(self, once: Once, refusal: Answer) -> Answer:
        if once.key is None:
            return refusal
        keeping = self._make_once(once.key)

        async def nothing(_: Transaction) -> Answer:
            return refusal

        try:
            return await self.changes.administer(self.context(), nothing, keeping)
        except Replayed as replayed:
            return replayed.answer
        except Refusal as reused:
            return answer_of(reused)


def is_final(status: int) -> bool:
    """Whether a refusal stays the same when the call is repeated; a failure, or too many calls, can pass."""
    return 400 <= status < 500 and status != 429  # noqa: PLR2004


class Replayed(Exception):
    """Not an error: this call was answered before."""

    def __init__(self, given: Answer) -> None:
        super().__init__()
        self.answer = given


class Once:
    """Claims the Idempotency-Key before a change and stores the answer after it: a companion of the change."""

    def __init__(self, caller: Caller, key: str | None, sha256: bytes, keeping: Keeping) -> None:
        self.key = key
        self._caller = caller
        self._sha256 = sha256
        self._keeping = keeping

    async def begin(self, transaction: Transaction) -> None:
        if self.key is not None:
            await self._claim(transaction, self.key)

    async def finish(self, transaction: Transaction, result: Answer) -> None:
        if self.key is not None:
            kept = pack(self._caller, self.key, result)
            await transaction.run("idempotency_store", self._caller.actor, self.key, kept)
            self._keeping.count(self._caller.actor, kept)

    async def _claim(self, transaction: Transaction, key: str) -> None:
        # Waits here for a running call with this key: when it ends, its answer is stored or the key is free.
        claimed = await transaction.run(
            "idempotency_claim", self._caller.actor, key, self._sha256, self._keeping.retention_s
        )
        if claimed:
            self._keeping.require_room(self._caller.actor)
            return
        (row,) = await transaction.rows("idempotency_answer", self._caller.actor, key, self._keeping.retention_s)
        if row["call_sha256"] != self._sha256:
            raise Refusal(
                409, "idempotency_key_reused", "This Idempotency-Key was used for another call",
                "Use a new Idempotency-Key", field="Idempotency-Key",
            )  # fmt: skip
        given = unpack(self._caller, key, row["answer"])
        raise Replayed(msgspec.structs.replace(given, headers={**given.headers, "Idempotency-Replayed": "true"}))


def _read_tags(name: str, headers: list[str]) -> str | None:
    """Read the entity tags of If-Match or If-None-Match.  Raises Refusal."""
    if not headers:
        return None
    tags = ", ".join(headers).strip()
    if tags != "*" and not _ETAGS.fullmatch(tags):
        hint = 'Send the ETag of an answer, with its quotes: "…"'
        raise Refusal(400, "invalid", f"{name} is not valid", hint, field=name)
    return tags
