"""Who may call what on the admin listener: how they prove who they are, roles, and the FSPs a caller is bound to.

Ways.     A key, a token of an identity provider, headers of a gateway: each only where ORACLE_ADMIN_AUTH names it.  A
          bearer token decides before headers of a gateway, which can pass it on.  `callers` reads those without a key.
Key.      `aok_{credential id}_{256 random bits in hex}`, sent as `Authorization: Bearer`.  Only its hash is stored.
Guard.    Every handler names in `opt["access"]` who may call it; a handler without one keeps the listener from
          starting.
Bound.    A caller of FSPs reaches the paths below /fsps/{their own ids}, those whose guard is shared, and lists whose
          guard narrows: they show what is of these FSPs.  Every other path is 403 whether it exists or not.  Within
          its own FSP, things of another FSP are 404, as if absent.
Now.      Each call asks the directory, so the next call with a revoked credential is refused in every process.
Failed.   A call without a valid credential is 401: one text for all reasons, compared in constant time.  It is
          recorded (type of failure, credential id, address).  Over a limit for each address it is 429 and not recorded.
          A valid key is served in any case: many people can share one address, and one of them can fail on purpose.
          Over the limit, few calls ask the directory at a time, so that failures take nothing from other addresses.
          Bad tokens, unproven headers, unknown sessions and guesses at a sign-in count like bad keys.
          A valid credential without permission is 403, recorded as often and no more: nobody can fill the directory
          with refusals.
Proxy.    X-Forwarded-For holds the caller's address where one of our proxies wrote it (ORACLE_ADMIN_PROXIES).  Only the
          part right of the first address that is not ours counts: the caller may have written the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import time
from collections import OrderedDict
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from oracle.api.admin.callers import INSIDE, Caller, Entered, Inside, Outside, Ways, fetch_closed
from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit
from oracle.errors import DirectoryUnavailable
from oracle.identity.addresses import address_of, networks_of
from oracle.identity.identity import Role
from oracle.identity.sessions import Session, Sessions, fetch_session, hash_token
from oracle.store.lanes import holder
from oracle.store.rows import CredentialCheckRow
from oracle.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from litestar.connection import ASGIConnection
    from litestar.handlers.base import BaseRouteHandler

    from oracle.store.postgres import Postgres, Rows

log = logs.Log(__name__)

_TYPE_OF_NAME: Final = re.compile(r"(?<=\w):\w+(?=})")  # the framework's, in `{fsp_id:str}`

_TOKEN: Final = re.compile(r"aok_([a-z2-7]{12})_([0-9a-f]{64})")
_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_NO_HASH: Final = b"\0" * 32
_NO_DIGEST: Final = b"\1" * 32
FAILURES_MAX: Final = 20  # at once from one address; a person who mistypes a key needs three
FAILURES_PER_S: Final = 0.5
ADDRESSES_MAX: Final = 10_000
DOUBTED_MAX: Final = 2  # of calls from addresses over the limit that ask the directory at once
USE_NOTED_EVERY_S: Final = 60.0
NAMED_MAX: Final = 10  # FSPs in one refusal
KEYS: Final = Ways()


class Guard(msgspec.Struct, frozen=True):
    """Who may call a handler.  Without roles: everybody, without a credential."""

    roles: frozenset[Role] = frozenset()
    shared: bool = False  # also for callers that are bound to FSPs, where no FSP is in the path
    narrows: bool = False  # a list: for callers that are bound to FSPs it has what is of these

    def describe(self) -> str:
        """Write the sentence that the published description has with each operation."""
        if not self.roles:
            return "No key is needed."
        return f"Roles: {', '.join(role for role in Role if role in self.roles)}."

    def list_scopes(self, path: str) -> list[str]:
        """List what limits the calls of a caller, for gateways that grant single operations (`x-authz`)."""
        return ["fsps"] if self.roles and (self.narrows or "{fsp_id" in path) else []


def allow(*roles: Role, shared: bool = False, narrows: bool = False) -> Guard:
    return Guard(frozenset(roles), shared, narrows)


PUBLIC: Final = Guard()
OPERATOR: Final = allow(Role.OPERATOR)
ANYBODY: Final = allow(*Role, shared=True)


def new_credential_id() -> str:
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(12))


def new_secret() -> str:
    return secrets.token_hex(32)


def token_of(credential_id: str, secret: str) -> str:
    return f"aok_{credential_id}_{secret}"


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Access:
    """The guard of one process: `Litestar(guards=[access.admit])`."""

    def __init__(self, postgres: Postgres, proxies: Sequence[str] = (), ways: Ways = KEYS) -> None:
        """`proxies` are addresses or networks.  Raises ValueError for anything else."""
        self._postgres = postgres
        self._takes_keys = ways.keys
        self._outside = Outside(postgres, ways)
        self._unauthorized = make_unauthorized(ways)
        self._proxies = networks_of(proxies)
        self._limit = FailureLimit()  # of failures, by address
        self._records = FailureLimit()  # of refusals of valid credentials
        self._doubted = asyncio.Semaphore(DOUBTED_MAX)
        self._valid_before: OrderedDict[bytes, float] = OrderedDict()  # hash of a secret or session: when noted

    async def admit(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Raises Refusal (401, 403, 429), DirectoryUnavailable."""
        guard: Guard = PUBLIC if _method(connection) == "OPTIONS" else handler.opt["access"]
        if not guard.roles:
            self.note_address(connection)
            return
        try:
            caller = await self._authenticate(connection)
            holder.set(caller.actor)
            connection.state.caller = caller
            _authorize(caller, guard, connection.path_params.get("fsp_id"))
        except Refusal as refused:
            await self.record(connection, handler, refused)
            raise

    def note_address(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        """Note where a call comes from that needs no key, or has no route."""
        connection.state.address = self._address(connection)

    async def check_key(self, connection: ASGIConnection[Any, Any, Any, Any], key: str) -> Caller:
        """Check a key that somebody typed into a page, as the one of a call.  Raises Refusal 401, 429."""
        return await self._check_key(connection, key)

    async def find_session(
        self, connection: ASGIConnection[Any, Any, Any, Any], sessions: Sessions, token: str, *, notes: bool
    ) -> Session | None:
        """Find the session of a browser; None: there is none, or it has ended.

        A token that is no session counts as a failure, but gets no 429: a browser keeps the cookie of a session that
        ended.  Raises DirectoryUnavailable.
        """
        digest, address = hash_token(token), self._address(connection)
        is_doubted = digest not in self._valid_before and not self._limit.permits(address)
        async with self._doubted if is_doubted else nullcontext():
            session = await sessions.find(token, notes=notes)
        if session is None:
            self._valid_before.pop(digest, None)
            self._limit.count(address)
        else:
            self._remember(digest, time.monotonic())
        return session

    @asynccontextmanager
    async def doubt(
        self, connection: ASGIConnection[Any, Any, Any, Any], failure: type[Exception]
    ) -> AsyncIterator[None]:
        """Count a failure of another way to sign in, which the caller checks inside, like a bad key.

        Over the limit, only a few checks run at the same time, and a failure raises Refusal 429 in place of `failure`.
        """
        is_doubted = not self._limit.permits(self._address(connection))
        async with self._doubted if is_doubted else nullcontext():
            try:
                yield
            except failure:
                self._count_failure(connection)
                raise

    async def make_session_caller(self, session: Session) -> Caller | None:
        """Make the caller of a session; None: the session has ended.

        That of a key lives as long as this secret of the key, and that of an identity provider as long as the provider
        is trusted.  Raises Refusal 403 for somebody without an open FSP, DirectoryUnavailable.
        """
        who = session.identity
        if session.secret_sha256 is None:
            if not self._outside.trusts(who.actor):
                return None
            caller = await self._outside.make_caller(Entered(who.actor, who, session.ends_at))
            return replace(caller, session=session.digest)
        row: Any = await self._postgres.keys.row("credential_valid", who.actor)
        if not self._takes_keys or not _is_valid(row, session.secret_sha256):
            return None
        fsp_ids = None if row["fsp_id"] is None else frozenset({row["fsp_id"]})
        return Caller(
            actor=who.actor, role=Role(row["role"]), fsp_ids=fsp_ids, way="key", person=row["person"],
            secret=await self._outside.make_secret(who.actor), ends_at=session.ends_at, session=session.digest,
        )  # fmt: skip

    async def _authenticate(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
        inside = _find_inside(connection)
        if inside is not None:
            connection.state.actor = inside.caller.actor
            return inside.caller
        token = _bearer(connection)
        if self._takes_keys and token.startswith("aok_"):
            return await self._check_key(connection, token)
        entered = None
        try:
            if self._outside.takes_token(token):
                entered = await self._outside.read_token(token)
            elif self._outside.takes_headers(connection):
                entered = self._outside.read_headers(connection)
        except Refusal as refused:
            if refused.status != 503:  # noqa: PLR2004 - the issuer is away
                self._count_failure(connection)
            raise
        if entered is None:
            self._count_failure(connection)
            raise self._unauthorized
        holder.set(entered.actor)
        connection.state.actor = entered.actor
        return await self._outside.make_caller(entered)

    async def _check_key(self, connection: ASGIConnection[Any, Any, Any, Any], token: str) -> Caller:
        found = _TOKEN.fullmatch(token)
        address = self._address(connection)
        digest = hash_of(found[2]) if found else b""
        row: Any = await self._find_credential(found[1], digest, address) if found else None
        if not _is_valid(row, digest) or found is None:
            self._valid_before.pop(digest, None)
            self._count_failure(connection)
            raise self._unauthorized
        await self._note_use(found[1], digest)
        connection.state.actor = found[1]
        fsp_ids = None if row["fsp_id"] is None else frozenset({row["fsp_id"]})
        return Caller(
            actor=found[1], role=Role(row["role"]), fsp_ids=fsp_ids, way="key", person=row["person"], secret=found[2]
        )

    async def _find_credential(self, credential_id: str, digest: bytes, address: str) -> Any:
        is_doubted = digest not in self._valid_before and not self._limit.permits(address)
        async with self._doubted if is_doubted else nullcontext():
            return await self._postgres.keys.row("credential_valid", credential_id)

    def _count_failure(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        """Raises Refusal 429 over the limit."""
        address = self._address(connection)
        if not self._limit.permits(address):
            wait_s = str(self._limit.wait_s(address))
            hint = f"Send a valid key: it works at once. With another one, wait {wait_s} seconds"
            limit = describe_limit(
                "failures", FAILURES_MAX, window_s=FAILURES_MAX / FAILURES_PER_S, wait_s=float(wait_s)
            )
            headers = {"Retry-After": wait_s, **limit}
            raise Refusal(429, "too_many_failures", "Too many calls without a valid key", hint, headers)
        self._limit.count(address)

    def _address(self, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
        inside = _find_inside(connection)
        if inside is not None:
            return inside.address
        forwarded = ",".join(connection.headers.getall("x-forwarded-for", []))
        return address_of(connection.client.host if connection.client else "", forwarded, self._proxies)

    async def _note_use(self, credential_id: str, digest: bytes) -> None:
        now = time.monotonic()
        noted = self._valid_before.get(digest)
        if noted is not None and now - noted < USE_NOTED_EVERY_S:
            return
        self._remember(digest, now)
        with suppress(DirectoryUnavailable):  # the call itself reports it
            await self._postgres.note("credential_used", credential_id)

    def _remember(self, digest: bytes, now: float) -> None:
        self._valid_before[digest] = now
        self._valid_before.move_to_end(digest)
        if len(self._valid_before) > ADDRESSES_MAX:
            self._valid_before.popitem(last=False)

    async def record(
        self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler, refused: Refusal
    ) -> None:
        """Record that somebody was refused."""
        if refused.status in (429, 503):  # 429: the ones before it are recorded; 503: nobody was refused
            return
        actor: str | None = getattr(connection.state, "actor", None)
        if actor is not None:
            if not self._records.permits(actor):
                return
            self._records.count(actor)
        elif found := _TOKEN.fullmatch(_bearer(connection)):
            actor = found[1]
        # The path as the handler names it: the caller's own path may hold an identifier.
        route = _TYPE_OF_NAME.sub("", min(handler.paths))
        code = refused.code
        log.warning("call refused", status=refused.status, code=code, actor=actor, route=route)
        with suppress(DirectoryUnavailable):  # the caller gets the reason of the refusal in any case
            await self._postgres.note(
                "refusal_record",
                actor,
                self._address(connection),
                _method(connection),
                route,
                refused.status,
                code,
            )


def _method(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return str(connection.scope.get("method", ""))


def _find_inside(connection: ASGIConnection[Any, Any, Any, Any]) -> Inside | None:
    scope: Any = connection.scope
    inside = scope.get(INSIDE)
    return inside if isinstance(inside, Inside) else None


def _bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Read the bearer token.  Several headers count as none: a proxy before us may have read another one than we do."""
    sent = connection.headers.getall("authorization", [])
    scheme, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


async def is_still_valid(rows: Rows, caller: Caller) -> bool:
    """Ask whether the secret of a call is still valid: it can be replaced or revoked during a long call.

    A session can end as well.  Without a key, only a closed FSP ends a call; see `callers`.  `rows` runs a named query.
    Raises DirectoryUnavailable.
    """
    secret_sha256: bytes | None = None
    if caller.session:
        session = await fetch_session(rows, caller.session)
        if session is None:
            return False
        secret_sha256 = session.secret_sha256
    if caller.way != "key":
        return not caller.fsp_ids or bool(caller.fsp_ids - await fetch_closed(rows, caller.fsp_ids))
    found = await rows("credential_valid", caller.actor)
    return bool(found) and _is_valid(found[0], secret_sha256 or hash_of(caller.secret))


def _is_valid(row: CredentialCheckRow | None, digest: bytes) -> bool:
    """Compare in the same time, whether the credential exists or not."""
    hashes: list[bytes] = [] if row is None else row["hashes"]
    equal = False
    for candidate in [*hashes, _NO_HASH, _NO_HASH][:2]:
        equal |= hmac.compare_digest(candidate, digest or _NO_DIGEST)
    return equal and row is not None and bool(row["valid"])


def make_unauthorized(ways: Ways = KEYS) -> Refusal:
    """Make the same refusal for every reason, so that it does not help to guess a key."""
    found = (
        ("Send the header Authorization: Bearer aok_…", ways.keys),
        ("Send the header Authorization: Bearer with a token of your identity provider", ways.identities is not None),
        ("Call through the gateway", ways.gateway is not None),
    )
    hint = ". Or: ".join(text for text, is_open in found if is_open)
    detail = "A valid key is required" if ways.keys else "You must prove who you are"
    return Refusal(401, "unauthorized", detail, hint, {"WWW-Authenticate": "Bearer"})


def make_forbidden(role: Role, hint: str = "") -> Refusal:
    return Refusal(403, "forbidden", "This role may not do that", hint or f"Your role is {role}")


def is_allowed(caller: Caller, guard: Guard, *, of_fsp: bool, fsp_id: str | None = None) -> bool:
    """Whether `admit` would let the caller in; for pages that show only what somebody can do.

    `of_fsp`: the path of the operation has an FSP.  `fsp_id`: which one; None: one of the caller's own.
    """
    if not guard.roles:
        return True
    if of_fsp and fsp_id is None and caller.fsp_ids:
        fsp_id = min(caller.fsp_ids)
    try:
        _authorize(caller, guard, fsp_id if of_fsp else None)
    except Refusal:
        return False
    return True


def _authorize(caller: Caller, guard: Guard, fsp_id: str | None) -> None:
    if caller.role not in guard.roles:
        *others, last = (role for role in Role if role in guard.roles)
        able = f"{', '.join(others)} or {last}" if others else last
        raise make_forbidden(caller.role, f"Your role is {caller.role}; the role {able} is needed")
    if caller.fsp_ids is None or ((guard.shared or guard.narrows) and fsp_id is None):
        return
    if fsp_id not in caller.fsp_ids:
        own = ", ".join(sorted(caller.fsp_ids)[:NAMED_MAX])
        hint = f"Name your own FSP: {own}" if own else "Ask the operator of the hub for an FSP"
        raise Refusal(403, "foreign", "You can only act for your own FSP", hint)


class FailureLimit:
    """A bucket of failures for each address or credential; it empties with time."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # failures, at

    def permits(self, address: str) -> bool:
        return self._level(address) <= FAILURES_MAX - 1

    def wait_s(self, address: str) -> int:
        """Return the seconds until one more is permitted."""
        return max(1, math.ceil((self._level(address) - FAILURES_MAX + 1) / FAILURES_PER_S))

    def count(self, address: str) -> None:
        self._buckets[address] = (self._level(address) + 1, self._clock())
        self._buckets.move_to_end(address)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)

    def _level(self, address: str) -> float:
        failures, at = self._buckets.get(address, (0.0, 0.0))
        since: float = self._clock() - at
        return max(0.0, failures - since * FAILURES_PER_S)
