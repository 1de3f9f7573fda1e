"""Sessions of people who signed in with a browser.

Token.   256 random bits in a cookie (`cookies`).  The directory holds its hash, so a copy of the database opens no
         session.  Each sign-in makes a new token: nobody can choose the token of somebody else.
End.     After 12 hours, after 30 minutes without a call, when the person signs out, or when an operator ends it
         (oracle/api/admin/sessions.py).  An actor has at most 20: a newer one ends the oldest.
Rights.  A session of a key has the rights of the key, and ends with that secret of it.  One of an identity provider
         keeps the role and the FSPs of its sign-in: a role that the provider takes away ends with the session, which
         an operator can end.
CSRF.    A call that changes something must have a second token in a header.  It is made from the first, so nothing
         more is stored, and a page of somebody else can read neither.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from oracle.identity.identity import Identity, Role, Way

if TYPE_CHECKING:
    from oracle.store.postgres import Postgres

REST_S: Final = 1_800.0
BROWSER_MAX: Final = 200
ADDRESS_MAX: Final = 64
CSRF_HEADER: Final = "x-csrf-token"
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_CSRF: Final = b"csrf of oracle"
_CSRF_BYTES: Final = 32
_CSRF_FORM: Final = re.compile(r"[A-Za-z0-9_-]{86}")  # twice the bytes


class SessionLimits(msgspec.Struct, frozen=True):
    rest_s: float = REST_S
    life_s: float = 12 * 3_600.0
    noted_every_s: float = 60.0  # how exactly the directory knows when a session was last used
    actor_max: int = 20


LIMITS: Final = SessionLimits()


class Session(NamedTuple):
    """A session that has not ended."""

    digest: bytes  # of its token
    identity: Identity
    rests_s: float
    secret_sha256: bytes | None  # of the key that signed in; None: an identity provider did
    ends_at: float  # in seconds since 1970
    language: str | None = None  # None: as the browser says
    time_zone: str | None = None


class Place(NamedTuple):
    """Where somebody signs in, so that they can recognise the session later."""

    browser: str = ""
    address: str = ""


async def fetch_session(rows: Callable[..., Awaitable[list[Any]]], digest: bytes) -> Session | None:
    """Find a session by the hash of its token; None: it has ended, or there was none.

    `rows` runs a named query.  Raises DirectoryUnavailable.
    """
    found = await rows("session", digest)
    if not found:
        return None
    row = found[0]
    fsp_ids = None if row["fsp_ids"] is None else frozenset(row["fsp_ids"])
    way: Way = "oidc" if row["secret_sha256"] is None else "key"
    identity = Identity(row["actor"], Role(row["role"]), fsp_ids, way, row["person"])
    return Session(
        digest, identity, row["rests_s"], row["secret_sha256"], row["ends_at"].timestamp(), row["language"],
        row["time_zone"],
    )  # fmt: skip


class Sessions:
    """All methods raise DirectoryUnavailable."""

    def __init__(self, postgres: Postgres, limits: SessionLimits = LIMITS) -> None:
        self._postgres = postgres
        self._limits = limits

    async def start(self, identity: Identity, secret_sha256: bytes | None = None, place: Place | None = None) -> str:
        """Start a session; return its token.  `secret_sha256` is the hash of the key's secret, where a key signs in."""
        place = place or Place()
        token = secrets.token_urlsafe(32)
        fsp_ids = None if identity.fsp_ids is None else sorted(identity.fsp_ids)
        await self._postgres.note(
            "session_add", hash_token(token), identity.actor, identity.role, fsp_ids, identity.person,
            self._limits.life_s, self._limits.rest_s, secret_sha256,
            place.browser[:BROWSER_MAX], place.address[:ADDRESS_MAX],
        )  # fmt: skip
        await self._postgres.note("sessions_over", identity.actor, self._limits.actor_max)
        return token

    async def find(self, token: str, *, notes: bool = True) -> Session | None:
        """Find the session of this token; None: there is none, or it has ended.  `notes`: this counts as a use."""
        if _FORM.fullmatch(token) is None:
            return None
        session = await fetch_session(self._postgres.keys.rows, hash_token(token))
        if notes and session is not None and session.rests_s >= self._limits.noted_every_s:
            await self._postgres.note("session_seen", session.digest)
        return session

    async def end(self, token: str) -> None:
        await self._postgres.note("session_end", hash_token(token))

    async def end_one(self, actor: str, session_id: str) -> int:
        """End a session of an actor by its public id; return how many there were."""
        return await self._postgres.note("session_end_by_id", actor, session_id)

    async def end_all(self, actor: str) -> int:
        """End all sessions of an actor; return how many there were."""
        return await self._postgres.note("sessions_end_of", actor)

    async def set_preferences(self, actor: str, language: str | None, time_zone: str | None) -> None:
        await self._postgres.note("preferences_set", actor, language, time_zone)

    async def list(self, actor: str, digest: bytes) -> Sequence[Any]:
        """List the sessions of an actor, as OwnSessionRow; `digest` is that of the session that asks."""
        rows: Sequence[Any] = await self._postgres.rows("sessions_of", actor, digest)
        return rows


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def make_csrf(token: str) -> str:
    """Make the second token of a session, for its own pages.

    It is masked anew each time: a page is compressed, and who can add text to it could else guess it from the length.
    """
    pad = secrets.token_bytes(_CSRF_BYTES)
    return urlsafe_b64encode(pad + _mask(_digest_csrf(token), pad)).decode().rstrip("=")


def is_csrf(token: str, sent: str) -> bool:
    """Whether a call that changes something comes from a page of the session.  Compares in constant time."""
    if not _CSRF_FORM.fullmatch(sent):
        return False
    masked = urlsafe_b64decode(sent + "=" * (-len(sent) % 4))
    pad, rest = masked[:_CSRF_BYTES], masked[_CSRF_BYTES:]
    return hmac.compare_digest(_digest_csrf(token), _mask(rest, pad))


def _digest_csrf(token: str) -> bytes:
    return hmac.digest(token.encode(), _CSRF, hashlib.sha256)


def _mask(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def is_same_site(headers: dict[str, str], origin: str) -> bool:
    """Whether the browser says that one of our own pages made the call; `headers` has small names.

    A browser sends Sec-Fetch-Site since 2023, and Origin with each POST before.  A call with neither is refused.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    return headers.get("origin") == origin
