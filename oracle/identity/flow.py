"""Signing in with a browser: the authorization code flow of OpenID Connect with PKCE (RFC 9700, section 2.1.1).

    1  `begin` makes the URL of the identity provider, and a cookie for the browser that goes there
    2  the browser comes back with a code, and with the cookie
    3  `finish` compares both, exchanges the code for tokens, and reads them

State.   The cookie holds what this browser began with: state, nonce and PKCE verifier, for 10 minutes.  So nothing is
         stored for people who are not signed in, and any process can finish what another one began.  A person who
         writes that cookie decides only about their own sign-in, and `__Host-` keeps others from writing it.
Code.    Useless to somebody who stole it: the provider wants the verifier, which never left this browser and us.
Mix-up.  The answer must name the issuer that was asked, if the provider says that it does so (RFC 9207), and each
         provider has a redirect URL of its own.
Tokens.  Come from the token endpoint over TLS.  The ID token must be of this issuer, for this client, with this nonce.
         Its subject is who signed in.  Roles are often in the access token alone (Keycloak), so its claims count if it
         is a token that this service accepts, of the same subject.  Else those of the ID token count.
Back.    Where the browser goes afterwards is a path of this service, so nobody can send it elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote_plus, urlencode

import msgspec

from oracle.calls.call import Call, CallFailed
from oracle.identity.claims import Claims
from oracle.identity.keys import FetchFailed
from oracle.identity.objects import read_object
from oracle.identity.refused import Refused

if TYPE_CHECKING:
    from oracle.calls.call import Caller
    from oracle.identity.tokens import Tokens

LOGIN_S: Final = 600
ANSWER_MAX: Final = 8  # parameters
_TEXT_MAX: Final = 4_096
_PATH: Final = re.compile(r"/(?![/\\])[!-\[\]-~]{0,500}")  # no backslash: browsers read it as a slash
_OK: Final = 200


class Client(msgspec.Struct, frozen=True):
    """What this service is at the identity provider."""

    client_id: str
    redirect_url: str
    secret: str = ""
    scope: str = "openid"


class Login(msgspec.Struct, frozen=True):
    """What a browser began with."""

    state: str
    nonce: str
    verifier: str
    back: str
    began_at: int


class SignedIn(NamedTuple):
    claims: Claims
    back: str


class LoginFailed(Exception):
    """Nobody signed in; the text says why, without a part of what was sent."""


class NotAccepted(LoginFailed):
    """The provider was asked, and what the browser brought is not valid: a guess, perhaps."""


class Flow:
    """Signs people in at one issuer."""

    def __init__(
        self, tokens: Tokens, issuer: str, client: Client, caller: Caller, clock: Callable[[], float] = time.time
    ) -> None:
        self._tokens = tokens
        self._keys = tokens.keys_of(issuer)
        self._client = client
        self._caller = caller
        self._clock = clock

    async def begin(self, back: str) -> tuple[str, str]:
        """Return the URL where the browser must go, and the value of its cookie.  Raises LoginFailed."""
        document = await self._discover()
        address = self._read_address(document, "authorization_endpoint")
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        login = Login(state, nonce, verifier, check_back(back), int(self._clock()))
        question = {
            "response_type": "code", "client_id": self._client.client_id, "redirect_uri": self._client.redirect_url,
            "scope": self._client.scope, "state": login.state, "nonce": login.nonce,
            "code_challenge": make_challenge(login.verifier), "code_challenge_method": "S256",
        }  # fmt: skip
        cookie = urlsafe_b64encode(msgspec.json.encode(login)).decode().rstrip("=")
        return f"{address}{'&' if '?' in address else '?'}{urlencode(question)}", cookie

    async def finish(self, answer: Sequence[tuple[str, str]], cookie: str) -> SignedIn:
        """Read what the browser brought: the parameters of its URL, and its cookie.  Raises LoginFailed."""
        login = self._read_login(cookie)
        parameters = _read_parameters(answer)
        if not hmac.compare_digest(parameters.get("state", "").encode(), login.state.encode()):
            raise LoginFailed("This answer belongs to another sign-in. Sign in again")
        document = await self._discover()
        self._check_issuer(document, parameters)
        if "error" in parameters or not parameters.get("code"):
            raise LoginFailed("The identity provider did not sign you in. Sign in again")
        return await self._read_tokens(await self._exchange(document, parameters["code"], login.verifier), login)

    def _read_login(self, cookie: str) -> Login:
        try:
            if len(cookie) > _TEXT_MAX:
                raise ValueError
            login = msgspec.json.decode(urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)), type=Login)
        except (ValueError, msgspec.MsgspecError):
            raise LoginFailed("This browser did not begin to sign in here. Sign in again, and allow cookies") from None
        if not 0 <= self._clock() - login.began_at < LOGIN_S:
            raise LoginFailed("Signing in took longer than 10 minutes. Sign in again")
        return login

    def _check_issuer(self, document: dict[str, Any], parameters: dict[str, str]) -> None:
        named = parameters.get("iss")
        must = document.get("authorization_response_iss_parameter_supported") is True
        if (must or named is not None) and named != self._keys.issuer.issuer:
            raise LoginFailed("This answer is of another identity provider. Sign in again")

    async def _discover(self) -> dict[str, Any]:
        try:
            return await self._keys.find_discovery()
        except FetchFailed:
            raise LoginFailed("The identity provider does not answer. Try again later") from None

    def _read_address(self, document: dict[str, Any], name: str) -> str:
        try:
            return self._keys.read_address(document, name)
        except FetchFailed:
            raise LoginFailed("The identity provider does not offer to sign in") from None

    async def _exchange(self, document: dict[str, Any], code: str, verifier: str) -> dict[str, Any]:
        """Exchange the code for tokens."""
        client = self._client
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": client.redirect_url,
            "code_verifier": verifier, "client_id": client.client_id,
        }  # fmt: skip
        headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"accept", b"application/json")]
        if client.secret:
            del form["client_id"]
            pair = f"{quote_plus(client.client_id)}:{quote_plus(client.secret)}".encode()  # RFC 6749, section 2.3.1
            headers.append((b"authorization", b"Basic " + b64encode(pair)))
        call = Call("POST", self._read_address(document, "token_endpoint"), headers, urlencode(form).encode())
        try:
            answer = await self._caller.call(call)
            if answer.status != _OK:
                raise NotAccepted("The identity provider did not accept the code. Sign in again")
            return read_object(answer.body)
        except (CallFailed, ValueError):
            raise LoginFailed("The identity provider does not answer. Try again later") from None

    async def _read_tokens(self, document: dict[str, Any], login: Login) -> SignedIn:
        identity, access, back = document.get("id_token"), document.get("access_token"), check_back(login.back)
        if not isinstance(identity, str):
            raise LoginFailed("The identity provider sent no ID token. Ask its operator to allow the scope openid")
        try:
            who = await self._tokens.read_id_token(
                identity, self._keys.issuer.issuer, self._client.client_id, login.nonce
            )
        except Refused as exc:
            raise NotAccepted(f"{exc.message}. Sign in again") from None
        if isinstance(access, str):
            try:
                what = await self._tokens.read(access)
            except Refused:  # it is for somebody else, or not even a JWT
                return SignedIn(who, back)
            if (what.alias, what.subject) == (who.alias, who.subject):
                return SignedIn(what, back)
        return SignedIn(who, back)


def _read_parameters(answer: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Raises LoginFailed."""
    parameters = dict(answer)
    if len(parameters) != len(answer):
        raise LoginFailed("The answer has a parameter twice. Sign in again")
    if any(len(value) > _TEXT_MAX for value in parameters.values()):
        raise LoginFailed("The answer has a parameter that is too long. Sign in again")
    return parameters


def check_back(back: str) -> str:
    """Return the path where the browser goes afterwards; `/` in place of one that leads elsewhere."""
    return back if _PATH.fullmatch(back) else "/"


def make_challenge(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
