"""The public keys of one issuer, fetched over HTTP and kept.

Where.     `jwks` of the issuer, or the `jwks_uri` of its discovery document.  That document must name the very issuer
           that we asked for (OpenID Connect Discovery, section 4.3).  An issuer on https must name https addresses.
Bounds.    5 s, 512 KiB, no redirects (`calls`).  One fetch at a time, however many tokens wait for it.
Fresh.     Every 5 minutes the keys are fetched again: so a key that the issuer withdraws opens nothing any more.  A
           token fetches them if they are old when it comes.  `watch` fetches them without one, so that the metric
           shows an issuer that is away before people notice it.
Unknown.   A token with an unknown key id makes us fetch again at once, but at most once in 30 s: else everybody could
           make us call the issuer as often as they like.
Away.      If the issuer does not answer, the last keys stay good for 24 h.  Tokens do not wait for it then, and it is
           asked again every 5 s at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from oracle.calls.call import Call, CallFailed
from oracle.identity.issuers import Issuer, split_url
from oracle.identity.objects import read_object
from oracle.identity.refused import Refused
from oracle.identity.signatures import PublicKey, Unverified, read_keys
from oracle.telemetry import logs

if TYPE_CHECKING:
    from oracle.calls.call import Caller

log = logs.Log(__name__)

_DISCOVERY: Final = "/.well-known/openid-configuration"
_OK: Final = 200


class KeyLimits(msgspec.Struct, frozen=True):
    """All in seconds."""

    fresh_s: float = 300
    unknown_every_s: float = 30
    keep_s: float = 86_400
    retry_s: float = 5
    fetch_s: float = 5


LIMITS: Final = KeyLimits()


class FetchFailed(Exception):
    """The issuer gave no usable document; the text says why, for our log."""


class IssuerKeys:
    def __init__(
        self,
        issuer: Issuer,
        caller: Caller,
        limits: KeyLimits = LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self._caller = caller
        self._limits = limits
        self._clock = clock
        self._keys: Sequence[PublicKey] = ()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._unknown_at = float("-inf")  # when an unknown key id last made us fetch
        self._is_away = False
        self._fetching: asyncio.Task[None] | None = None
        self._discovering = asyncio.Lock()
        self._discovery: tuple[float, dict[str, Any] | FetchFailed] = float("-inf"), {}

    async def find(self, token: Unverified) -> list[PublicKey]:
        """Find the keys that can have signed the token: one as a rule.  Raises Refused."""
        await self._renew()
        found = self._list(token)
        now = self._clock()
        if not found and now - self._unknown_at >= self._limits.unknown_every_s:
            self._unknown_at = now
            await asyncio.shield(self._begin())
            found = self._list(token)
        if found and self._clock() - self._fetched_at < self._limits.keep_s:
            return found
        if self._is_away:
            raise Refused("keys_unavailable", "The keys of the identity provider cannot be fetched", "Try again later")
        raise Refused("token_invalid", "The token is signed with a key that its issuer does not publish")

    async def find_discovery(self) -> dict[str, Any]:
        """Return the discovery document, of the last 5 minutes.  Raises FetchFailed.

        Everybody can begin to sign in, so the issuer is not asked each time, and not again at once after a failure.
        """
        async with self._discovering:
            at, found = self._discovery
            age_s = self._clock() - at
            if age_s >= (self._limits.retry_s if isinstance(found, FetchFailed) else self._limits.fresh_s):
                try:
                    found = await self.fetch_discovery()
                except FetchFailed as exc:
                    found = exc
                self._discovery = self._clock(), found
        if isinstance(found, FetchFailed):
            raise FetchFailed(str(found))
        return found

    async def fetch_discovery(self) -> dict[str, Any]:
        """Fetch the discovery document.  Raises FetchFailed."""
        document = await self._fetch_document(self.issuer.issuer.rstrip("/") + _DISCOVERY)
        if document.get("issuer") != self.issuer.issuer:
            raise FetchFailed("the discovery document names another issuer")
        return document

    def read_address(self, document: dict[str, Any], name: str) -> str:
        """Read an address of the discovery document.  Raises FetchFailed.

        Browsers get one of them in a header, so it must be a URL from its first character to its last.
        """
        address = document.get(name)
        scheme = self.issuer.issuer.partition("://")[0]
        parts = split_url(address) if isinstance(address, str) else None
        if not isinstance(address, str) or parts is None or parts.scheme not in ("https", scheme):
            raise FetchFailed(f"{name} of the discovery document is not a URL with {scheme}")
        return address

    @property
    def is_away(self) -> bool:
        """Whether the keys could not be fetched at the last try."""
        return self._is_away

    async def renew_soon(self) -> None:
        """Fetch the keys again if they are old, or if the last try failed.  Raises nothing."""
        if self._is_away or self._clock() - self._fetched_at >= self._limits.fresh_s:
            await asyncio.shield(self._begin())

    async def fetch(self) -> list[PublicKey]:
        """Fetch the keys that the issuer publishes now.  Raises FetchFailed."""
        address = self.issuer.jwks or self.read_address(await self.fetch_discovery(), "jwks_uri")
        try:
            return read_keys(await self._fetch_document(address))
        except ValueError as exc:
            raise FetchFailed(f"the answer cannot be read: {exc}") from None

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError):
                await self._fetching

    def _list(self, token: Unverified) -> list[PublicKey]:
        """List the keys for it.  A token without a key id needs an issuer with one key (RFC 7515, section 6)."""
        usable = [key for key in self._keys if token.algorithm in key.algorithms]
        if token.kid is None:
            return usable if len(usable) == 1 else []
        return [key for key in usable if key.kid == token.kid]

    async def _renew(self) -> None:
        now = self._clock()
        age_s = now - self._fetched_at
        is_under_way = self._fetching is not None and not self._fetching.done()
        if age_s < self._limits.fresh_s or (not is_under_way and now - self._tried_at < self._limits.retry_s):
            return
        fetching = self._begin()
        if not self._is_away or age_s >= self._limits.keep_s:
            await asyncio.shield(fetching)

    def _begin(self) -> asyncio.Task[None]:
        """Begin to fetch, or return the fetch that is under way."""
        if self._fetching is None or self._fetching.done():
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            self._keys = await self.fetch()
        except FetchFailed as exc:
            if not self._is_away:
                log.error("The keys of an issuer of tokens cannot be fetched. Check that the issuer answers",
                          issuer=self.issuer.alias, reason=str(exc))  # fmt: skip
            self._is_away = True
            return
        self._fetched_at = self._clock()
        if self._is_away:
            log.info("The keys of an issuer of tokens are fetched again", issuer=self.issuer.alias)
        self._is_away = False

    async def _fetch_document(self, address: str) -> dict[str, Any]:
        try:
            answer = await self._caller.call(
                Call("GET", address, [(b"accept", b"application/json")]), timeout_s=self._limits.fetch_s
            )
        except CallFailed as exc:
            raise FetchFailed(f"no answer: {exc.reason}") from None
        if answer.status != _OK:
            raise FetchFailed(f"the answer has the status {answer.status}")
        try:
            return read_object(answer.body)
        except ValueError as exc:
            raise FetchFailed(f"the answer cannot be read: {exc}") from None
