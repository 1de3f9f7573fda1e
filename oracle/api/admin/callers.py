"""Who calls the admin listener, and the ways in without a key: a token of an identity provider, headers of a gateway.

Closed.  A caller who can act only for a closed FSP is refused, as with a key of that FSP.  A caller who can act for
         several FSPs can still act for those that are not closed.
Secret.  What is kept for a caller is encrypted.  A key has its own secret for that.  For the others there is one that
         the directory keeps.  A person who can read the directory can then read it, too: so no key is kept for them.
Ends.    A token ends an endless answer when it expires; an upload or a download that began before goes on.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oracle.api.admin.certificates import read_certificate_names
from oracle.api.admin.problems import Refusal
from oracle.identity.gateway import USER, BadHeader, Unproven
from oracle.identity.identity import Identity
from oracle.identity.refused import Refused
from oracle.store.postgres import Rows
from oracle.telemetry import logs

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection

    from oracle.identity.gateway import Gateway
    from oracle.identity.opening import Identities
    from oracle.store.postgres import Postgres

    _Connection = ASGIConnection[Any, Any, Any, Any]

log = logs.Log(__name__)

DISBELIEF_S: Final = 60.0
GATEWAY_S: Final = 3_600.0  # a gateway does not say until when somebody is signed in


class Caller(Identity, frozen=True, kw_only=True):
    """Who makes a call, and what only this process needs to know about them."""

    secret: str = ""  # encrypts what this caller alone may read (see `encryption`)
    ends_at: float | None = None  # in seconds since 1970; None: only a revocation ends it
    session: bytes = b""  # the hash of its token, for somebody who signed in to the console

    @property
    def has_ended(self) -> bool:
        return self.ends_at is not None and time.time() > self.ends_at


class Inside(NamedTuple):
    """A caller who signed in to the console, and calls an operation of this process through it."""

    caller: Caller
    address: str  # of their browser


# Where the console puts an Inside into the scope of a call.  A server makes the scope of each request that comes by the
# network, with the members of ASGI alone, so nobody else can put one there.
INSIDE: Final = "oracle.inside"


class Ways(NamedTuple):
    """By which ways callers can come in."""

    keys: bool = True
    identities: Identities | None = None
    gateway: Gateway | None = None


class Entered(NamedTuple):
    """Somebody who proved who they are: the actor, and the identity if something gives a role."""

    actor: str
    identity: Identity | None
    ends_at: float


class Outside:
    """Reads callers who come in without a key."""

    def __init__(self, postgres: Postgres, ways: Ways) -> None:
        self._postgres = postgres
        self._ways = ways
        self._secret = b""
        # Everybody who reaches the port can send such headers.
        self._disbelief = logs.Condition(log, "The headers of a gateway", repeat_s=DISBELIEF_S)

    def trusts(self, actor: str) -> bool:
        """Whether the identity provider of an actor is one of ours: an operator can have removed it."""
        issuers = self._ways.identities.issuers if self._ways.identities is not None else ()
        return any(actor.startswith(f"oidc:{issuer.alias}:") for issuer in issuers)

    def takes_token(self, token: str) -> bool:
        return self._ways.identities is not None and token != "" and not token.startswith("aok_")

    def takes_headers(self, connection: _Connection) -> bool:
        return self._ways.gateway is not None and USER in connection.headers

    async def read_token(self, token: str) -> Entered:
        """Raises Refusal."""
        assert self._ways.identities is not None  # noqa: S101 - see takes_token
        try:
            claims = await self._ways.identities.tokens.read(token)
        except Refused as exc:
            headers = {"Retry-After": "30"} if exc.status == 503 else {  # noqa: PLR2004 - the issuer is away
                "WWW-Authenticate": 'Bearer error="invalid_token"'
            }  # fmt: skip
            raise Refusal(exc.status, exc.code, exc.message, exc.hint, headers) from exc
        identity = self._ways.identities.mapping.choose(claims)
        return Entered(claims.actor, identity, float(claims.values["exp"]))

    def read_headers(self, connection: _Connection) -> Entered | None:
        """Return None if nothing proves that the headers are those of the gateway.  Raises Refusal."""
        assert self._ways.gateway is not None  # noqa: S101 - see takes_headers
        peer = connection.client.host if connection.client else ""
        try:
            actor, identity = self._ways.gateway.read(
                lambda name: connection.headers.getall(name, []), peer, read_certificate_names(connection.scope)
            )
        except Unproven as exc:
            self._disbelief.now(f"are not believed: {exc}")
            return None
        except BadHeader as exc:
            raise Refusal(400, "bad_request", str(exc), exc.hint, field=exc.name) from exc
        return Entered(actor, identity, time.time() + GATEWAY_S)

    async def make_caller(self, entered: Entered) -> Caller:
        """Raises Refusal 403 for somebody without a role or an open FSP, DirectoryUnavailable."""
        identity = entered.identity
        if identity is None:
            raise _refuse_role("Nothing in your token or in the headers of your gateway gives you a role here")
        fsp_ids = identity.fsp_ids
        if fsp_ids:
            fsp_ids -= await fetch_closed(self._postgres.keys.rows, fsp_ids)
            if not fsp_ids:
                raise _refuse_role("Your FSP is closed")
        return Caller(
            actor=identity.actor, role=identity.role, fsp_ids=fsp_ids, way=identity.way, person=identity.person,
            secret=await self.make_secret(identity.actor), ends_at=entered.ends_at,
        )  # fmt: skip

    async def make_secret(self, actor: str) -> str:
        if not self._secret:
            row = await self._postgres.keys.row("caller_secret")
            self._secret = row["secret"]
        return hmac.new(self._secret, actor.encode(), hashlib.sha256).hexdigest()


def _refuse_role(detail: str) -> Refusal:
    return Refusal(403, "no_role", detail, "Ask the operator of the hub for a role")


async def fetch_closed(rows: Rows, fsp_ids: AbstractSet[str]) -> frozenset[str]:
    """Return those FSPs that are closed.  Raises DirectoryUnavailable."""
    return frozenset(row["fsp_id"] for row in await rows("fsps_closed", sorted(fsp_ids)))
