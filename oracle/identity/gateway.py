"""Who a gateway says that somebody is: the headers with which gateways of hubs pass people and programs on.

    X-User            the id of the user at the gateway: the actor is gateway:USER
    X-Roles           their roles: a list in JSON, or words with commas between them
    X-DFSP-ID         the DFSP that they belong to
    X-Scope           `fsps=a,b`, `fsps=*` or `none`: the FSPs that they can act for in this call
    X-Gateway-Secret  a shared secret, which proves the gateway

Proof.   The connection comes from one of our proxies, and it shows a client certificate with a name that is listed, or
         the request has a secret that is ours: one, or two while it is replaced.  An address alone proves nothing: it
         can be that of a whole network of containers.
Rules.   The rules for tokens give the role.  They see the claims `sub`, `roles`, `dfsp_id` and `fsps` (the words of
         X-Scope, or `*`), and their `issuer` is "gateway".  Without a rule that fits there is no role.
FSPs.    X-DFSP-ID and X-Scope can only narrow what the rule gives.  `none` leaves no FSP.
Person.  Nobody knows which person of an identity provider a user of the gateway is.
Twice.   A header that is there twice is refused: a caller may have sent the other one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from oracle.identity.addresses import Network, is_proxy
from oracle.identity.claims import Claims
from oracle.identity.identity import Identity, is_fsp_id
from oracle.identity.issuers import GATEWAY
from oracle.identity.mapping import Mapping

USER: Final = "x-user"
ROLES: Final = "x-roles"
DFSP: Final = "x-dfsp-id"
SCOPE: Final = "x-scope"
SECRET: Final = "x-gateway-secret"  # noqa: S105 - the name of a header

_USER: Final = re.compile(r"[!-~]{1,255}")

ReadHeader = Callable[[str], Sequence[str]]  # every value of the header with this name


class Unproven(Exception):
    """The request is not proven to come from the gateway.  The text is for our log alone."""


class BadHeader(ValueError):
    """The gateway has sent a header that cannot be read."""

    def __init__(self, name: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.name = name
        self.hint = hint


class Gateway:
    def __init__(
        self, proxies: Sequence[Network], secrets: Sequence[str], certificate_names: AbstractSet[str], mapping: Mapping
    ) -> None:
        self._proxies = proxies
        self._digests = [_digest(secret) for secret in secrets]
        self._names = certificate_names
        self._mapping = mapping

    def read(self, header: ReadHeader, peer: str, names: AbstractSet[str]) -> tuple[str, Identity | None]:
        """Return the actor, and the identity if a rule gives a role.

        `peer` is the address of the other end, `names` are those in its verified client certificate.  Raises Unproven,
        BadHeader.
        """
        self._require_proof(header(SECRET), peer, names)
        user = _read_one(header, USER)
        if user is None or not _USER.fullmatch(user):
            raise BadHeader(
                USER, "X-User is not valid", "The gateway must send the id of the user: 1 to 255 characters"
            )
        if "@" in user:
            hint = "The gateway must send an id that names nobody: history keeps it forever"
            raise BadHeader(USER, "X-User is an e-mail address", hint)
        roles, dfsp, scope = _read_roles(header), _read_one(header, DFSP), _read_scope(header)
        values: dict[str, Any] = {"sub": user, "roles": roles}
        if dfsp:
            values["dfsp_id"] = dfsp
        if scope is not None:
            values["fsps"] = scope
        chosen = self._mapping.choose(Claims(GATEWAY, user, "", values))
        actor = f"gateway:{user}"
        if chosen is None:
            return actor, None
        fsp_ids = chosen.fsp_ids
        if dfsp:
            fsp_ids = _narrow(fsp_ids, frozenset({dfsp}))
        if scope is not None and scope != ["*"]:
            fsp_ids = _narrow(fsp_ids, frozenset(scope))
        return actor, Identity(actor, chosen.role, fsp_ids, "gateway", None)

    def _require_proof(self, secrets: Sequence[str], peer: str, names: AbstractSet[str]) -> None:
        shown = _digest(secrets[0] if len(secrets) == 1 else "")  # no secret is empty
        matches = [hmac.compare_digest(shown, digest) for digest in self._digests]  # each one takes the same time
        if not is_proxy(peer, self._proxies):
            raise Unproven("the address is not in ORACLE_ADMIN_PROXIES")
        if not any(matches) and not self._names & names:
            raise Unproven("neither X-Gateway-Secret nor a name in a client certificate proves the gateway")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _narrow(fsp_ids: frozenset[str] | None, to: frozenset[str]) -> frozenset[str]:
    return to if fsp_ids is None else fsp_ids & to


def _read_one(header: ReadHeader, name: str) -> str | None:
    found = header(name)
    if len(found) > 1:
        raise BadHeader(name, "A header of the gateway is there twice", "The gateway must remove what callers send")
    return found[0].strip() if found else None


def _read_roles(header: ReadHeader) -> list[str]:
    text = _read_one(header, ROLES) or ""
    if not text.startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        hint = 'The gateway must send a list in JSON, for example ["DFSP-Admin"]'
        raise BadHeader(ROLES, "X-Roles is not valid", hint) from None


def _read_scope(header: ReadHeader) -> list[str] | None:
    """Read the FSPs of X-Scope: ["*"] for all, [] for none; None without the header."""
    text = _read_one(header, SCOPE)
    if text is None:
        return None
    if text == "none":
        return []
    name, _, listed = text.partition("=")
    words = [word.strip() for word in listed.split(",")]
    if name != "fsps" or not all(map(is_fsp_id, words)) or ("*" in words and len(words) > 1):
        raise BadHeader(SCOPE, "X-Scope is not valid", "The gateway must send fsps=a,b or fsps=* or none")
    return words
