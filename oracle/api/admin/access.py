"""Who may call what on the admin listener: credentials, roles, and the FSP a caller is bound to.

Key.      `aok_{credential id}_{256 random bits in hex}`, sent as `Authorization: Bearer`.  Only its hash is stored.
Guard.    Every handler names in `opt["access"]` who may call it; a handler without one keeps the listener from
          starting.
Bound.    The credential of a DFSP reaches the paths below /fsps/{its own id} and those whose guard is shared.  Every
          other path is 403 whether it exists or not.  Within its own FSP, things of another FSP are 404, as if absent.
Now.      Each call asks the directory, so the next call with a revoked credential is refused in every process.
Failed.   A call without a valid credential is 401: one text for all reasons, compared in constant time.  It is
          recorded (type of failure, credential id, address).  Over a limit for each address it is 429 and not recorded.
          A valid key is served in any case: many people can share one address, and one of them can fail on purpose.
          Over the limit, few calls ask the directory at a time, so that failures take nothing from other addresses.
          A valid credential without permission is 403, recorded as often and no more: nobody can fill the directory
          with refusals.
Proxy.    X-Forwarded-For holds the caller's address where one of our proxies wrote it (ORACLE_ADMIN_PROXIES).  Only the
          part right of the first address that is not ours counts: the caller may have written the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import math
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from oracle.api.admin.problems import Refusal
from oracle.errors import DirectoryUnavailable
from oracle.store.lanes import holder
from oracle.store.rows import CredentialCheckRow
from oracle.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.connection import ASGIConnection
    from litestar.handlers.base import BaseRouteHandler

    from oracle.store.postgres import Postgres

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


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Role(StrEnum):
    OPERATOR = "operator"
    MAKER = "dfsp-maker"
    CHECKER = "dfsp-checker"
    AUDITOR = "auditor"
    READER = "reader"


Fetch = Callable[..., Awaitable[list[Any]]]


class Guard(msgspec.Struct, frozen=True):
    """Who may call a handler.  Without roles: everybody, without a credential."""

    roles: frozenset[Role] = frozenset()
    shared: bool = False  # also for callers that are bound to an FSP, where no FSP is in the path

    def describe(self) -> str:
        """Write the sentence that the published description has with each operation."""
        if not self.roles:
            return "No key is needed."
        return f"Roles: {', '.join(role for role in Role if role in self.roles)}."


def allow(*roles: Role, shared: bool = False) -> Guard:
    return Guard(frozenset(roles), shared)


PUBLIC: Final = Guard()
OPERATOR: Final = allow(Role.OPERATOR)
ANYBODY: Final = allow(*Role, shared=True)


class Caller(msgspec.Struct, frozen=True):
    """Who makes a call."""

    credential_id: str
    role: Role
    fsp_id: str | None  # the FSP it is bound to
    secret: str = ""  # encrypts what this caller alone may read (see `encryption`)


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

    def __init__(self, postgres: Postgres, proxies: Sequence[str] = ()) -> None:
        """`proxies` are addresses or networks.  Raises ValueError for anything else."""
        self._postgres = postgres
        self._proxies = networks_of(proxies)
        self._limit = FailureLimit()  # of failures, by address
        self._records = FailureLimit()  # of refusals of valid credentials
        self._doubted = asyncio.Semaphore(DOUBTED_MAX)
        self._valid_before: OrderedDict[bytes, float] = OrderedDict()  # hash of a secret: when its use was noted

    async def admit(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Raises Refusal (401, 403, 429), DirectoryUnavailable."""
        guard: Guard = PUBLIC if _method(connection) == "OPTIONS" else handler.opt["access"]
        if not guard.roles:
            connection.state.address = self._address(connection)
            return
        try:
            caller = await self._authenticate(connection)
            holder.set(caller.credential_id)
            connection.state.caller = caller
            _authorize(caller, guard, connection.path_params.get("fsp_id"))
        except Refusal as refused:
            await self._record(connection, handler, refused)
            raise

    async def _authenticate(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
        found = _TOKEN.fullmatch(_bearer(connection))
        address = self._address(connection)
        digest = hash_of(found[2]) if found else b""
        row: Any = await self._find_credential(found[1], digest, address) if found else None
        if not _is_valid(row, digest) or found is None:
            self._valid_before.pop(digest, None)
            self._require_room(address)
            self._limit.count(address)
            raise make_unauthorized()
        await self._note_use(found[1], digest)
        return Caller(found[1], Role(row["role"]), row["fsp_id"], found[2])

    async def _find_credential(self, credential_id: str, digest: bytes, address: str) -> Any:
        is_doubted = digest not in self._valid_before and not self._limit.permits(address)
        async with self._doubted if is_doubted else nullcontext():
            return await self._postgres.keys.row("credential_valid", credential_id)

    def _require_room(self, address: str) -> None:
        if not self._limit.permits(address):
            wait_s = str(self._limit.wait_s(address))
            hint = f"Send a valid key: it works at once. With another one, wait {wait_s} seconds"
            raise Refusal(429, "too_many_failures", "Too many calls without a valid key", hint, {"Retry-After": wait_s})

    def _address(self, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
        forwarded = ",".join(connection.headers.getall("x-forwarded-for", []))
        return address_of(connection.client.host if connection.client else "", forwarded, self._proxies)

    async def _note_use(self, credential_id: str, digest: bytes) -> None:
        now = time.monotonic()
        noted = self._valid_before.get(digest)
        if noted is not None and now - noted < USE_NOTED_EVERY_S:
            return
        self._valid_before[digest] = now
        self._valid_before.move_to_end(digest)
        if len(self._valid_before) > ADDRESSES_MAX:
            self._valid_before.popitem(last=False)
        with suppress(DirectoryUnavailable):  # the call itself reports it
            await self._postgres.note("credential_used", credential_id)

    async def _record(
        self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler, refused: Refusal
    ) -> None:
        if refused.status == 429:  # noqa: PLR2004 - the ones before it are recorded
            return
        caller: Caller | None = getattr(connection.state, "caller", None)
        found = _TOKEN.fullmatch(_bearer(connection))
        credential_id = caller.credential_id if caller else found[1] if found else None
        if caller is not None:
            if not self._records.permits(caller.credential_id):
                return
            self._records.count(caller.credential_id)
        # The path as the handler names it: the caller's own path may hold an identifier.
        route = _TYPE_OF_NAME.sub("", min(handler.paths))
        code = refused.code
        log.warning("call refused", status=refused.status, code=code, credential_id=credential_id, route=route)
        with suppress(DirectoryUnavailable):  # the caller gets the reason of the refusal in any case
            await self._postgres.note(
                "refusal_record",
                credential_id,
                self._address(connection),
                _method(connection),
                route,
                refused.status,
                code,
            )


def _method(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return str(connection.scope.get("method", ""))


def _bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Read the bearer token.  Several headers count as none: a proxy before us may have read another one than we do."""
    sent = connection.headers.getall("authorization", [])
    scheme, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def networks_of(proxies: Sequence[str]) -> list[Network]:
    """Raises ValueError for what is no address and no network."""
    return [ipaddress.ip_network(proxy) for proxy in proxies]


def is_proxy(peer: str, proxies: Sequence[Network]) -> bool:
    """Return whether the other end of a connection is one of our own proxies."""
    address = _ip(peer) if proxies else None
    return address is not None and any(address in proxy for proxy in proxies)


def address_of(peer: str, forwarded: str, proxies: Sequence[Network]) -> str:
    """Find the caller's address, by the connection's other end and X-Forwarded-For.  Of IPv6 it is the network: each
    customer has 2**64 addresses.
    """
    hops = forwarded.split(",") if forwarded else []
    address = _ip(peer)
    while address is not None and hops and any(address in proxy for proxy in proxies):
        further = _ip(hops.pop())
        if further is None:  # not an address: nobody knows more than the last proxy
            break
        address = further
    if address is None:
        return peer
    return str(address if address.version == 4 else ipaddress.ip_network((int(address) >> 64 << 64, 64)))  # noqa: PLR2004


def _ip(text: str) -> _Address | None:
    """Read an IP address; some proxies write the port after it."""
    text = text.strip()
    host = text.partition(":")[0] if text.count(":") == 1 else text.removeprefix("[").partition("]")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


async def is_still_valid(rows: Fetch, caller: Caller) -> bool:
    """Ask whether the secret of a call is still valid: it can be replaced or revoked during a long call.

    `rows` runs a named query.  Raises DirectoryUnavailable.
    """
    found = await rows("credential_valid", caller.credential_id)
    return bool(found) and _is_valid(found[0], hash_of(caller.secret))


def _is_valid(row: CredentialCheckRow | None, digest: bytes) -> bool:
    """Compare in the same time, whether the credential exists or not."""
    hashes: list[bytes] = [] if row is None else row["hashes"]
    equal = False
    for candidate in [*hashes, _NO_HASH, _NO_HASH][:2]:
        equal |= hmac.compare_digest(candidate, digest or _NO_DIGEST)
    return equal and row is not None and bool(row["valid"])


def make_unauthorized() -> Refusal:
    """Make the same refusal for every reason, so that it does not help to guess a key."""
    return Refusal(401, "unauthorized", "A valid key is required", "Send the header Authorization: Bearer aok_…",
                   {"WWW-Authenticate": "Bearer"})  # fmt: skip


def make_forbidden(role: Role, hint: str = "") -> Refusal:
    return Refusal(403, "forbidden", "This role may not do that", hint or f"Your role is {role}")


def _authorize(caller: Caller, guard: Guard, fsp_id: str | None) -> None:
    if caller.role not in guard.roles:
        *others, last = (role for role in Role if role in guard.roles)
        able = f"{', '.join(others)} or {last}" if others else last
        raise make_forbidden(caller.role, f"Your role is {caller.role}; the role {able} is needed")
    if caller.fsp_id is None or (guard.shared and fsp_id is None):
        return
    if fsp_id != caller.fsp_id:
        raise Refusal(
            403, "foreign", "This credential can only act for its own FSP", f"Name your own FSP: {caller.fsp_id}"
        )


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
