"""Sessions of people who signed in with a browser.

Token.   256 random bits in a cookie (`cookies`).  The directory holds its hash, so a copy of the database opens no
         session.  Each sign-in makes a new token: nobody can choose the token of somebody else.
End.     After 8 hours, after 30 minutes without a call, when the person signs out, or when an operator ends all
         sessions of an actor.  An actor has at most 20: a newer one ends the oldest.
Rights.  A session keeps the role and the FSPs of its sign-in.  A role that the identity provider takes away ends with
         the session, or with `end_all`.
CSRF.    A call that changes something must have a second token in a header.  It is made from the first, so nothing
         more is stored, and a page of somebody else can read neither.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any, Final

import msgspec

from oracle.identity.identity import Identity, Role

if TYPE_CHECKING:
    from oracle.store.postgres import Postgres

REST_S: Final = 1_800.0
CSRF_HEADER: Final = "x-csrf-token"
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_CSRF: Final = b"csrf of oracle"


class SessionLimits(msgspec.Struct, frozen=True):
    rest_s: float = REST_S
    life_s: float = 8 * 3_600.0
    noted_every_s: float = 60.0  # how exactly the directory knows when a session was last used
    actor_max: int = 20


LIMITS: Final = SessionLimits()


class Sessions:
    """All methods raise DirectoryUnavailable."""

    def __init__(self, postgres: Postgres, limits: SessionLimits = LIMITS) -> None:
        self._postgres = postgres
        self._limits = limits

    async def start(self, identity: Identity) -> str:
        """Start a session; return its token."""
        token = secrets.token_urlsafe(32)
        fsp_ids = None if identity.fsp_ids is None else sorted(identity.fsp_ids)
        await self._postgres.note(
            "session_add", _hash(token), identity.actor, identity.role, fsp_ids, identity.person, self._limits.life_s
        )
        await self._postgres.note("sessions_over", identity.actor, self._limits.actor_max)
        return token

    async def find(self, token: str) -> Identity | None:
        """Find who has this token; None: nobody, or the session has ended."""
        if _FORM.fullmatch(token) is None:
            return None
        digest = _hash(token)
        row: Any = await self._postgres.keys.row("session", digest, self._limits.rest_s)
        if row is None:
            return None
        if row["rests_s"] >= self._limits.noted_every_s:
            await self._postgres.note("session_seen", digest)
        fsp_ids = None if row["fsp_ids"] is None else frozenset(row["fsp_ids"])
        return Identity(row["actor"], Role(row["role"]), fsp_ids, "oidc", row["person"])

    async def end(self, token: str) -> None:
        await self._postgres.note("session_end", _hash(token))

    async def end_all(self, actor: str) -> int:
        """End all sessions of an actor; return how many there were."""
        return await self._postgres.note("sessions_end_of", actor)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def make_csrf(token: str) -> str:
    """Make the second token of a session, for its own pages."""
    return urlsafe_b64encode(hmac.digest(token.encode(), _CSRF, hashlib.sha256)).decode().rstrip("=")


def is_csrf(token: str, sent: str) -> bool:
    """Whether a call that changes something comes from a page of the session.  Compares in constant time."""
    return hmac.compare_digest(make_csrf(token).encode(), sent.encode())


def is_same_site(headers: dict[str, str], origin: str) -> bool:
    """Whether the browser says that one of our own pages made the call; `headers` has small names.

    A browser sends Sec-Fetch-Site since 2023, and Origin with each POST before.  A call with neither is refused.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    return headers.get("origin") == origin
