"""The form of a token, its signature, and the public keys that can have made it.

Algorithms.  RS256, PS256, ES256, and EdDSA with Ed25519, which newer providers call Ed25519 (RFC 9864).  A key is read
             as what it is, and takes only the algorithms of its kind: so no public key becomes the secret of an HMAC,
             and `none` does not exist (RFC 8725, sections 2.1 and 3.1).
Form.        Three parts of base64url, at most 16 KiB.  Encrypted tokens have five, and are refused.
Header.      Members that would choose a key or change how the token is read are refused, whatever they hold: nothing
             that a token says is fetched or believed before its signature is checked.  Unknown members do not count.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from oracle.identity.objects import read_object
from oracle.identity.refused import Refused

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
TOKEN_MAX: Final = 16 * 1024  # characters; one of Keycloak with a hundred roles has about 5,000
KID_MAX: Final = 256
KEYS_MAX: Final = 100
_RSA_BITS: Final = (2_048, 8_192)  # RFC 7518, section 3.3; a longer key costs more time than it is worth
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_REFUSED_MEMBERS: Final = frozenset({
    "crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty", "epk", "apu", "apv", "iv", "tag", "p2s", "p2c",
})  # fmt: skip
# Also tokens of the same issuer that are for something else have a type (RFC 8725, section 3.11).
_TYPES: Final = ("jwt", "at+jwt")

AnyKey = RSAKey | ECKey | OKPKey


class _Registry(jws.JWSRegistry):
    """The algorithms above and no others."""

    max_header_length = TOKEN_MAX
    max_payload_length = TOKEN_MAX
    max_signature_length = TOKEN_MAX

    def get_alg(self, name: str) -> Any:
        """Without the warning that the name EdDSA is deprecated: providers use it."""
        if name not in ALGORITHMS:
            raise JoseError("not allowed")
        return self.algorithms[name]


_REGISTRY: Final = _Registry(algorithms=ALGORITHMS, strict_check_header=False)


class PublicKey(NamedTuple):
    kid: str | None
    algorithms: frozenset[str]
    key: AnyKey


class Unverified(NamedTuple):
    """A token whose signature nobody has checked yet."""

    token: str
    algorithm: str
    kid: str | None
    claims: dict[str, Any]


def read_token(token: str) -> Unverified:
    """Read a token without believing it.  Raises Refused."""
    if len(token) > TOKEN_MAX:
        raise Refused("token_invalid", "The token is too long", f"Use a token of at most {TOKEN_MAX} characters")
    parts = _FORM.fullmatch(token)
    if parts is None:
        raise Refused("token_invalid", "This is not a signed token: it must have three parts with dots between them")
    header, claims = _decode(parts[1]), _decode(parts[2])
    if header.keys() & _REFUSED_MEMBERS:
        raise Refused("token_invalid", "The header of the token has a member that is not allowed")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if algorithm not in ALGORITHMS:
        raise Refused(
            "token_invalid", "The algorithm of the token is not allowed", f"Allowed are {', '.join(ALGORITHMS)}"
        )
    if kid is not None and not (isinstance(kid, str) and len(kid) <= KID_MAX):
        raise Refused("token_invalid", "The key id of the token is not a short text")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise Refused("token_invalid", "The token is of another type", "Send an access token")
    return Unverified(token, algorithm, kid, claims)


def _decode(part: str) -> dict[str, Any]:
    try:
        return read_object(_decode_base64(part))
    except ValueError:
        raise Refused("token_invalid", "A part of the token is not a JSON object, or has a name twice") from None


def _decode_base64(text: str) -> bytes:
    """Raises ValueError."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def is_signed_by(token: Unverified, key: PublicKey) -> bool:
    try:
        jws.deserialize_compact(token.token, key.key, registry=_REGISTRY)
    except (JoseError, ValueError):
        return False
    return True


def read_keys(document: dict[str, Any]) -> list[PublicKey]:
    """Read a JWK set.  Keys that cannot be used are left out (RFC 7517, section 5).  Raises ValueError for no set."""
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise ValueError(f"it has no list of at most {KEYS_MAX} keys")
    return list(_read_keys(entries))


def _read_keys(entries: list[Any]) -> Iterator[PublicKey]:
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        operations, kid = entry.get("key_ops", ["verify"]), entry.get("kid")
        if not isinstance(operations, list) or "verify" not in operations:
            continue
        if not isinstance(kid, str | None):
            continue
        try:
            key, algorithms = _read_key(entry)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        declared = entry.get("alg")
        usable = frozenset(one for one in algorithms if declared in (None, one))
        if usable:
            yield PublicKey(kid, usable, key)


def _read_key(entry: dict[str, Any]) -> tuple[AnyKey, frozenset[str]]:
    """Read the public members alone.  Raises JoseError, ValueError, TypeError, KeyError."""
    match entry["kty"], entry.get("crv"):
        case "RSA", _:
            modulus = str(entry["n"])
            if not _RSA_BITS[0] <= int.from_bytes(_decode_base64(modulus)).bit_length() <= _RSA_BITS[1]:
                raise ValueError("size")
            rsa = RSAKey.import_key({"kty": "RSA", "n": modulus, "e": str(entry["e"])})
            return rsa, frozenset({"RS256", "PS256"})
        case "EC", "P-256":
            members = {name: str(entry[name]) for name in ("x", "y")}
            return ECKey.import_key({"kty": "EC", "crv": "P-256", **members}), frozenset({"ES256"})
        case "OKP", "Ed25519":
            okp = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": str(entry["x"])})
            return okp, frozenset({"EdDSA", "Ed25519"})
        case _:
            raise ValueError("kind")
