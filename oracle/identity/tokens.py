"""Tokens of identity providers: whose they are, whether they are good now, and what they say.

Order.   Form, issuer, signature, and only then what the token says.  A token that nobody trusted signed is invalid, not
         expired.
Issuer.  The keys are those of the issuer that the token names, so no issuer can speak for another one.
Times.   `exp` must be there; `nbf` and `iat` count if they are there.  A clock can be wrong by 60 s.
Aud.     `aud` must have the audience of the issuer's settings.  If these list client ids, the token must be of one.
Use.     Only access tokens: an ID token, a refresh token or a logout token of the same issuer is refused.  So is one
         that is bound to a key (`cnf`, RFC 9449 and RFC 8705): nobody proves here that they hold that key.
Subject. At most 255 visible ASCII characters (OpenID Connect Core, section 2), as it becomes a part of history.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from oracle.identity.claims import Claims
from oracle.identity.issuers import Issuer
from oracle.identity.keys import LIMITS, IssuerKeys, KeyLimits
from oracle.identity.refused import Refused
from oracle.identity.signatures import Unverified, is_signed_by, read_token

if TYPE_CHECKING:
    from oracle.calls.call import Caller

LEEWAY_S: Final = 60
TIME_MAX: Final = 1e20  # seconds since 1970; NaN is not below it
_SUBJECT: Final = re.compile(r"[!-~]{1,255}")
_OF_OTHER_USES: Final = ("at_hash", "c_hash", "s_hash", "events")  # members of ID tokens and of logout tokens
_OTHER_USES: Final = frozenset({"ID", "Refresh", "Offline", "Logout"})  # what Keycloak writes into the claim `typ`


class Tokens:
    """Used on one loop.  `caller` stays its owner's to close."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        caller: Caller,
        limits: KeyLimits = LIMITS,
        clock: Callable[[], float] = time.time,
        key_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = {one.issuer: IssuerKeys(one, caller, limits, key_clock) for one in issuers}
        self._clock = clock

    async def read(self, token: str) -> Claims:
        """Read an access token.  Raises Refused."""
        keys, unverified = self._find_issuer(token)
        await _verify(keys, unverified)
        values = unverified.claims
        self._check_times(values)
        _check_use(values)
        _check_audience(keys.issuer, values)
        return _make_claims(keys.issuer, values)

    async def read_id_token(self, token: str, issuer: str, client_id: str, nonce: str) -> Claims:
        """Read the ID token that this issuer gave to us, the client, for this sign-in.  Raises Refused."""
        keys, unverified = self._find_issuer(token)
        await _verify(keys, unverified)
        values = unverified.claims
        self._check_times(values)
        audiences = read_audiences(values)
        # OpenID Connect Core, section 3.1.3.7.
        if keys.issuer.issuer != issuer or client_id not in audiences or values.get("azp", client_id) != client_id:
            raise Refused("token_invalid", "The ID token is for another client")
        if len(audiences) > 1 and "azp" not in values:
            raise Refused("token_invalid", "The ID token is for several clients")
        if values.get("nonce") != nonce:
            raise Refused("token_invalid", "The ID token is of another sign-in")
        return _make_claims(keys.issuer, {**values, "azp": client_id})

    def keys_of(self, issuer: str) -> IssuerKeys:
        """Raises KeyError for an issuer that is not configured."""
        return self._keys[issuer]

    def list_keys(self) -> list[IssuerKeys]:
        return list(self._keys.values())

    async def close(self) -> None:
        for keys in self._keys.values():
            await keys.close()

    def _find_issuer(self, token: str) -> tuple[IssuerKeys, Unverified]:
        unverified = read_token(token)
        issuer = unverified.claims.get("iss")
        keys = self._keys.get(issuer) if isinstance(issuer, str) else None
        if keys is None:
            hint = "Get a token from an identity provider that this service trusts; its operator knows which"
            raise Refused("issuer_unknown", "The issuer of the token is not known here", hint)
        return keys, unverified

    def _check_times(self, values: dict[str, Any]) -> None:
        now = self._clock()
        ends, begins, made = (_read_time(values, name) for name in ("exp", "nbf", "iat"))
        if ends is None:
            raise Refused("token_invalid", "The token has no expiry time", "Get a token with `exp`")
        if now >= ends + LEEWAY_S:
            raise Refused("token_expired", "The token has expired", "Get a new token from your identity provider")
        if any(then is not None and then > now + LEEWAY_S for then in (begins, made)):
            hint = "Compare the clocks of this service and of your identity provider"
            raise Refused("token_invalid", "The token is not valid yet", hint)


async def _verify(keys: IssuerKeys, token: Unverified) -> None:
    """Raises Refused."""
    if not any(is_signed_by(token, key) for key in await keys.find(token)):
        raise Refused("token_invalid", "The signature of the token is wrong")


def _check_use(values: dict[str, Any]) -> None:
    if values.get("typ") in _OTHER_USES or any(name in values for name in _OF_OTHER_USES):
        raise Refused("token_invalid", "This is not an access token", "Send the access token of your identity provider")
    if "cnf" in values:
        hint = "Get a token that is not bound to a key or a certificate"
        raise Refused("token_invalid", "The token is bound to a key, which cannot be checked here", hint)


def _check_audience(issuer: Issuer, values: dict[str, Any]) -> None:
    if issuer.audience and issuer.audience not in read_audiences(values):
        hint = f"Get a token whose `aud` has {issuer.audience}"
        raise Refused("token_invalid", "The token is for another service", hint)
    if issuer.client_ids and _read_client_id(values) not in issuer.client_ids:
        hint = "Use a client that this service accepts; its operator knows which"
        raise Refused("token_invalid", "The token is of a client that is not accepted here", hint)


def read_audiences(values: dict[str, Any]) -> list[str]:
    audience = values.get("aud", [])
    return [one for one in (audience if isinstance(audience, list) else [audience]) if isinstance(one, str)]


def _make_claims(issuer: Issuer, values: dict[str, Any]) -> Claims:
    subject = values.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise Refused("token_invalid", "The token has no subject of 1 to 255 visible ASCII characters")
    return Claims(issuer.alias, subject, _read_client_id(values), values)


def _read_client_id(values: dict[str, Any]) -> str:
    """Read the client that got the token: `client_id` (RFC 9068), or `azp` of Keycloak and others.  '': neither.

    Raises Refused if they differ.
    """
    found = {values[name] for name in ("client_id", "azp") if isinstance(values.get(name), str)}
    if len(found) > 1:
        raise Refused("token_invalid", "The token names two clients")
    return found.pop() if found else ""


def _read_time(values: dict[str, Any], name: str) -> float | None:
    """Read seconds since 1970.  Raises Refused."""
    value = values.get(name)
    if value is None:
        return None
    # A whole number can be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < TIME_MAX:
        raise Refused("token_invalid", f"`{name}` of the token is not a time in seconds")
    return value
