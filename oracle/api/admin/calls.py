"""One call of the admin listener, from its headers to its answer: who, which version, whether it is a repetition.

ETag.             The version of a resource; `If-Match` with another one is 412, looked at inside the transaction.
Idempotency-Key.  On a POST: the answer is kept in the transaction of the change, for 24 hours.  The same key with the
                  same call gets that answer again and nothing is done twice, however many arrive at once and whenever a
                  process dies; with another call it is 409.  A refusal is kept as well: the answer stays the same.
                  One that holds a new secret is kept encrypted under the secret of the caller.
Bodies.           Unknown members are refused: a misspelled one would silently change nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from litestar import Request, Response

from oracle.api.admin.problems import ProblemBody, Refusal, refusal_of
from oracle.errors import OracleError
from oracle.store.base import Context
from oracle.store.cache.coherence import LEASE_S
from oracle.telemetry.tracing import trace_id_of

if TYPE_CHECKING:
    from oracle.api.admin.access import Caller
    from oracle.identifiers import PartyKey
    from oracle.store.changes import Changes
    from oracle.store.postgres import Postgres, Transaction

T = TypeVar("T")

PAGE: Final = 100
PAGE_MAX: Final = 1_000
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,128}")
# RFC 9110: a list of entity tags.  A weak one is never the version that a change needs.
_ETAGS: Final = re.compile(r'\s*(?:W/)?"[!#-~]*"(?:\s*,\s*(?:W/)?"[!#-~]*")*\s*')
_ETAG: Final = re.compile(r'(W/)?"([!#-~]*)"')

_PLAIN: Final = b"\0"
_ENCRYPTED: Final = b"\1"

_encode = msgspec.json.Encoder().encode


class Body(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The base of what callers send."""


class Resource(msgspec.Struct, kw_only=True, rename="camel"):
    """The base of what is answered."""


class Answer(msgspec.Struct, frozen=True):
    """What goes out, and what is kept for a repetition."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
    confidential: bool = False  # holds a secret

    def response(self) -> Response[bytes]:
        empty = self.status in (204, 304)
        media_type = None if empty else "application/json"
        return Response(
            b"" if empty else self.body, status_code=self.status, headers=self.headers, media_type=media_type
        )


def answer(
    body: Any, *, status: int = 200, version: object = None, location: str | None = None, confidential: bool = False
) -> Answer:
    headers = {}
    if version is not None:
        headers["ETag"] = f'"{version}"'
    if location is not None:
        headers["Location"] = location
    return Answer(status, b"" if body is None else _encode(body), headers, confidential)


def answer_of(refusal: Refusal) -> Answer:
    return Answer(refusal.status, _encode(ProblemBody(refusal.problem)), dict(refusal.headers))


def digest_of(request: Request[Any, Any, Any], body: bytes) -> bytes:
    """What makes two calls the same: method, path, query, body."""
    target = request.scope["path"].encode() + b"?" + request.scope["query_string"]
    return hashlib.sha256(b"\0".join([request.method.encode(), target, body])).digest()


class Call:
    """What a handler needs of the call it answers; made for each one by the listener (api/admin)."""

    def __init__(self, request: Request[Any, Any, Any], body: bytes, changes: Changes, postgres: Postgres) -> None:
        self.caller: Caller = request.state.caller
        self.body = body
        self.changes = changes
        self.postgres = postgres
        self.sha256 = digest_of(request, body)
        headers = request.headers
        self.request_id: str = request.state.request_id
        self.trace_id = trace_id_of(headers.get("traceparent", "").encode("latin-1")) or ""
        self._if_match = _tags(headers.getall("if-match", []))
        self._if_none_match = _tags(headers.getall("if-none-match", []))
        keys = ", ".join(headers.getall("idempotency-key", [])) if request.method == "POST" else ""
        self._idempotency_key = keys if "idempotency-key" in headers and request.method == "POST" else None
        if self._idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(self._idempotency_key):
            raise Refusal(400, "invalid", "The Idempotency-Key cannot be read", "1 to 128 visible ASCII characters")

    def context(self, *, fsp_id: str = "", reason: str = "") -> Context:
        """What a change says of itself.

        `fsp_id`: the database refuses to touch anybody else's entries; for a caller who is bound to an FSP always.
        """
        return Context(
            channel="admin", actor=self.caller.credential_id, role=self.caller.role,
            fsp_id=self.caller.fsp_id or fsp_id, reason=reason,
            request_id=self.request_id, trace_id=self.trace_id,
        )  # fmt: skip

    # -- versions -------------------------------------------------------------------------------------------------

    def match(self, *versions: object) -> None:
        """Raises Refusal 412 when the caller has seen another version than the one that is about to be changed.

        Several: of the resource, and of a part of it that has an ETag of its own.
        """
        if self._if_match is None or self._if_match == "*":
            return
        if not {("", str(version)) for version in versions} & set(_ETAG.findall(self._if_match)):
            raise Refusal(412, "version_mismatch", "It has changed since you read it", "Read it again")

    def has(self, version: object) -> bool:
        """Whether the caller of a GET has this version already."""
        if self._if_none_match is None:
            return False
        return self._if_none_match == "*" or str(version) in {tag for _, tag in _ETAG.findall(self._if_none_match)}

    def read(self, body: Any, version: object = None) -> Response[bytes]:
        """The answer to a GET."""
        if version is not None and self.has(version):
            return Answer(304, b"", {"ETag": f'"{version}"'}).response()
        return answer(body, version=version).response()

    # -- changes --------------------------------------------------------------------------------------------------

    async def is_repeated(self) -> bool:
        """Whether a call with its Idempotency-Key has been answered, whatever its body was."""
        if self._idempotency_key is None:
            return False
        return await self.postgres.row("idempotency_kept", self.caller.credential_id, self._idempotency_key) is not None

    async def administer(
        self,
        work: Callable[[Transaction], Awaitable[Answer]],
        *,
        reason: str = "",
        settles: bool = False,
    ) -> Response[bytes]:
        """A change of anything but aliases; see `Changes.administer`."""

        async def change(once: Once) -> Answer:
            try:
                return await self.changes.administer(self.context(reason=reason), work, once, settles=settles)
            except Replayed:
                # The first call may have committed just now, and whoever acknowledges has to wait (Changes.administer).
                if settles:
                    await asyncio.sleep(LEASE_S)
                raise

        return await self.once(change)

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

    async def once(self, change: Callable[[Once], Awaitable[Answer]]) -> Response[bytes]:
        """Make a change, or answer as when it was made.

        `change` passes the Once on to a method of Changes as its companion, and returns the answer.
        """
        once = Once(self.caller, self._idempotency_key, self.sha256)
        try:
            given = await change(once)
        except Replayed as replayed:
            return replayed.answer.response()
        except (Refusal, OracleError, ValueError) as exc:
            refusal = refusal_of(exc)
            if 400 <= refusal.status < 500:  # noqa: PLR2004 - a refusal is for good, a failure may be tried again
                return (await self._refused(once, answer_of(refusal))).response()
            raise
        return given.response()

    async def _refused(self, once: Once, refusal: Answer) -> Answer:
        if once.key is None:
            return refusal
        keeping = Once(self.caller, once.key, self.sha256)

        async def nothing(_: Transaction) -> Answer:
            return refusal

        try:
            return await self.changes.administer(self.context(), nothing, keeping)
        except Replayed as replayed:
            return replayed.answer
        except Refusal as reused:
            return answer_of(reused)


class Replayed(Exception):
    """Not an error: the call was answered before."""

    def __init__(self, given: Answer) -> None:
        super().__init__()
        self.answer = given


class Once:
    """Claims the Idempotency-Key before a change and keeps the answer after it: a companion of the change."""

    def __init__(self, caller: Caller, key: str | None, sha256: bytes) -> None:
        self.key = key
        self._caller = caller
        self._sha256 = sha256

    async def begin(self, transaction: Transaction) -> None:
        if self.key is not None:
            await self._claim(transaction, self.key)

    async def finish(self, transaction: Transaction, result: Answer) -> None:
        if self.key is not None:
            kept = self._sealed(self.key, result)
            await transaction.run("idempotency_keep", self._caller.credential_id, self.key, kept)

    async def _claim(self, transaction: Transaction, key: str) -> None:
        # Waits here for a call with this key that is at work: its answer is there when it is done, or the key is free.
        if await transaction.run("idempotency_claim", self._caller.credential_id, key, self._sha256):
            return
        (row,) = await transaction.rows("idempotency_kept", self._caller.credential_id, key)
        if row["call_sha256"] != self._sha256:
            raise Refusal(
                409, "idempotency_key_reused", "The Idempotency-Key was used for another call", "Take a new one"
            )
        given = self._opened(key, row["answer"])
        raise Replayed(msgspec.structs.replace(given, headers={**given.headers, "Idempotency-Replayed": "true"}))

    def _cipher(self, key: str) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(hashlib.sha256(f"{self._caller.secret}\0{key}".encode()).digest())

    def _sealed(self, key: str, given: Answer) -> bytes:
        plain = msgspec.msgpack.encode(given)
        if not given.confidential:
            return _PLAIN + plain
        nonce = os.urandom(12)
        return _ENCRYPTED + nonce + self._cipher(key).encrypt(nonce, plain, None)

    def _opened(self, key: str, kept: bytes) -> Answer:
        """Encrypted under another secret of the caller, rotated in between: the change was made, the answer is lost."""
        if kept.startswith(_PLAIN):
            return msgspec.msgpack.decode(kept[1:], type=Answer)
        try:
            plain = self._cipher(key).decrypt(kept[1:13], kept[13:], None)
        except InvalidTag:
            raise Refusal(
                409, "answer_lost", "The call was answered, under a secret that is no longer used", "Read the resource"
            ) from None
        return msgspec.msgpack.decode(plain, type=Answer)


def _tags(headers: list[str]) -> str | None:
    """The entity tags of If-Match or If-None-Match.  Raises Refusal for what is none."""
    if not headers:
        return None
    tags = ", ".join(headers).strip()
    if tags != "*" and not _ETAGS.fullmatch(tags):
        raise Refusal(400, "invalid", "If-Match or If-None-Match cannot be read", 'Send an ETag as it came: "…"')
    return tags


# Pages --------------------------------------------------------------------------------------------------------


def cursor_of(*position: Any) -> str:
    """Where the next page begins, as a text that means nothing to the caller."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(position)).rstrip(b"=").decode()


def position_of(cursor: str | None, *types: type) -> tuple[Any, ...] | None:
    """Raises Refusal for what is no cursor of ours."""
    if cursor is None:
        return None
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position: tuple[Any, ...] = msgspec.msgpack.decode(packed, type=tuple[types])  # type: ignore[valid-type]
    except (ValueError, msgspec.DecodeError):
        raise Refusal(400, "invalid", "The cursor cannot be read", "Use `next` of the page before") from None
    return position
