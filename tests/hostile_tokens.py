"""Tokens that an attacker sends, each with the code that refuses it.  All else about them is right.

The lists of RFC 8725 (section 2), RFC 9700 (sections 2 and 4) and the known attacks on libraries for tokens.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from issuer import Issuer, SigningKey, encode, encode_json, make_key, seal

Make = Callable[[Issuer], str]

EXPIRED: Final = "token_expired"
INVALID: Final = "token_invalid"
UNKNOWN: Final = "issuer_unknown"


def of_attacker() -> SigningKey:
    return make_key("RS256", "attacker")


def with_header(**members: Any) -> Make:
    return lambda issuer: issuer.issue(header=members)


def with_claims(**claims: Any) -> Make:
    return lambda issuer: issuer.issue(**claims)


def after(seconds: float, name: str) -> Make:
    """Set a time so many seconds from now."""

    def make(issuer: Issuer) -> str:
        changes: dict[str, Any] = {name: time.time() + seconds}
        return issuer.issue(**changes)

    return make


def sign_with_public_key(issuer: Issuer, *, encoding: Encoding, algorithm: str = "HS256") -> str:
    """Use the public key as the secret of an HMAC."""
    private = issuer.keys[0].private
    assert isinstance(private, rsa.RSAPrivateKey)
    form = PublicFormat.SubjectPublicKeyInfo if encoding == Encoding.PEM else PublicFormat.PKCS1
    secret = private.public_key().public_bytes(encoding, form)
    data = f"{encode_json({'alg': algorithm, 'kid': '1', 'typ': 'JWT'})}.{encode_json(issuer.describe())}"
    return f"{data}.{encode(hmac.digest(secret, data.encode(), hashlib.sha256))}"


def embed_key(issuer: Issuer) -> str:
    key = of_attacker()
    return issuer.issue(key=key, header={"jwk": key.publish(), "kid": "1"})


def point_to_key(issuer: Issuer, member: str) -> str:
    """The issuer itself would serve the attacker's key, so that only the refusal of the member counts."""
    issuer.documents["/attacker"] = {"keys": [of_attacker().publish()]}
    return issuer.issue(key=of_attacker(), header={member: f"{issuer.url}/attacker"})


def repeat_claim(issuer: Issuer, name: str) -> str:
    claims = json.dumps(issuer.describe())
    return seal({"alg": "RS256", "kid": "1"}, claims[:-1] + f', "{name}": "else"}}', issuer.keys[0])


def repeat_inside(issuer: Issuer) -> str:
    claims = json.dumps(issuer.describe(realm_access=None))
    inner = ', "realm_access": {"roles": ["HUB-User"], "roles": ["HUB-Admin"]}}'
    return seal({"alg": "RS256", "kid": "1"}, claims[:-1] + inner, issuer.keys[0])


def repeat_header(issuer: Issuer) -> str:
    return seal('{"alg": "RS256", "kid": "1", "alg": "none"}', issuer.describe(), issuer.keys[0])


def with_text(text: str) -> Make:
    """Sign these claims as they are."""
    return lambda issuer: seal({"alg": "RS256", "kid": "1"}, text, issuer.keys[0])


def with_claim_text(name: str, text: str) -> Make:
    """Sign good claims, but this one is written as it is."""

    def make(issuer: Issuer) -> str:
        claims = json.dumps(issuer.describe(**{name: None}))
        return with_text(claims[:-1] + f', "{name}": {text}}}')(issuer)

    return make


def encrypt(issuer: Issuer) -> str:
    header = encode_json({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "1", "cty": "JWT"})
    return ".".join([header, "a2V5", "aXY", encode(issuer.issue().encode()), "dGFn"])


def nest(issuer: Issuer) -> str:
    return seal({"alg": "RS256", "kid": "1", "cty": "JWT"}, issuer.issue(), issuer.keys[0])


def as_json(issuer: Issuer) -> str:
    protected, payload, signature = issuer.issue().split(".")
    return json.dumps({"protected": protected, "payload": payload, "signature": signature})


def change_claims(issuer: Issuer) -> str:
    header, _, signature = issuer.issue().split(".")
    return f"{header}.{encode_json(issuer.describe(sub='root'))}.{signature}"


def strip_signature(issuer: Issuer) -> str:
    return issuer.issue().rpartition(".")[0] + "."


def cut_signature(issuer: Issuer) -> str:
    return issuer.issue()[:-8]


def detach(issuer: Issuer) -> str:
    header, _, signature = issuer.issue().split(".")
    return f"{header}..{signature}"


def pad(issuer: Issuer) -> str:
    return issuer.issue() + "=="


def swap_alphabet(issuer: Issuer) -> str:
    return issuer.issue().replace("-", "+").replace("_", "/") + "+"


def split_lines(issuer: Issuer) -> str:
    return issuer.issue() + "\n"


def use_raw_ecdsa_zeros(issuer: Issuer) -> str:
    """r = s = 0 was a valid signature of everything once (CVE-2022-21449)."""
    issuer.keys = [make_key("ES256")]
    header, claims, _ = issuer.issue().split(".")
    return f"{header}.{claims}.{encode(bytes(64))}"


def use_der_signature(issuer: Issuer) -> str:
    issuer.keys = [make_key("ES256")]
    header, claims, signature = issuer.issue().split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{header}.{claims}.{encode(b'0D' + bytes((2, 32)) + raw[:32] + bytes((2, 32)) + raw[32:])}"


def confuse_keys(issuer: Issuer, algorithm: str) -> str:
    """The key with this id is of another kind."""
    return issuer.issue(key=SigningKey(algorithm, "1", make_key(algorithm, "attacker").private))


def use_other_curve(issuer: Issuer) -> str:
    issuer.keys = [make_key("ES384")]
    return issuer.issue(header={"alg": "ES384"})


def use_declared_other_algorithm(issuer: Issuer) -> str:
    """The key is published for RS256 alone."""
    return issuer.issue(key=SigningKey("PS256", "1", issuer.keys[0].private))


def name_evil_issuer(issuer: Issuer) -> str:
    """An issuer of the attacker's own, with keys of its own, that is not configured."""
    return issuer.issue(key=of_attacker(), iss="https://evil.example")


HOSTILE: Final[dict[str, tuple[str, Make]]] = {
    # Form.
    "empty": (INVALID, lambda _: ""),
    "a word": (INVALID, lambda _: "token"),
    "two parts": (INVALID, lambda issuer: issuer.issue().rpartition(".")[0]),
    "four parts": (INVALID, lambda issuer: issuer.issue() + ".e30"),
    "64 KiB of letters": (INVALID, lambda _: "A" * 65_536),
    "64 KiB, well signed": (INVALID, with_claims(filler="x" * 48_000)),
    "64 KiB in the header": (INVALID, with_header(filler="x" * 48_000)),
    "64 KiB of dots": (INVALID, lambda _: "." * 65_536),
    "JWS as JSON": (INVALID, as_json),
    "JWE": (INVALID, encrypt),
    "nested JWT": (INVALID, nest),
    "no payload": (INVALID, detach),
    "padding": (INVALID, pad),
    "another alphabet": (INVALID, swap_alphabet),
    "line end behind it": (INVALID, split_lines),
    "letters that are not ASCII": (INVALID, lambda issuer: issuer.issue().replace(".", "․")),
    "not UTF-8": (INVALID, lambda issuer: f"{encode(bytes([0xFF, 0xFE]))}.{issuer.issue().partition('.')[2]}"),
    "UTF-16": (INVALID, lambda issuer: f"{encode('{}'.encode('utf-16'))}.{issuer.issue().partition('.')[2]}"),
    "claims are a list": (INVALID, with_text("[]")),
    "claims are deeply nested": (INVALID, with_claim_text("filler", "[" * 5_000 + "]" * 5_000)),
    "NaN in a claim that does not count": (INVALID, with_claim_text("filler", "NaN")),
    "NaN": (INVALID, lambda issuer: issuer.issue(exp=float("nan"))),
    "a number of 5,000 digits": (INVALID, with_claim_text("exp", "9" * 5_000)),
    # Algorithm.
    "alg none": (INVALID, lambda issuer: seal({"alg": "none"}, issuer.describe(), None)),
    "alg none, with a signature": (INVALID, with_header(alg="none")),
    "alg None": (INVALID, with_header(alg="None")),
    "alg nOnE": (INVALID, lambda issuer: seal({"alg": "nOnE", "kid": "1"}, issuer.describe(), None)),
    "no alg": (INVALID, lambda issuer: seal({"kid": "1"}, issuer.describe(), issuer.keys[0])),
    "alg is a list": (INVALID, with_header(alg=["RS256"])),
    "alg is an object": (INVALID, with_header(alg={"RS256": 1})),
    "HS256 with the public key in PEM": (INVALID, lambda one: sign_with_public_key(one, encoding=Encoding.PEM)),
    "HS256 with the public key in DER": (INVALID, lambda one: sign_with_public_key(one, encoding=Encoding.DER)),
    "HMAC of the public key as RS256": (
        INVALID, lambda one: sign_with_public_key(one, encoding=Encoding.PEM, algorithm="RS256"),
    ),
    "RS512": (INVALID, with_header(alg="RS512")),
    "ES384": (INVALID, use_other_curve),
    "ES256K": (INVALID, with_header(alg="ES256K")),
    "ES256 with the id of an RSA key": (INVALID, lambda issuer: confuse_keys(issuer, "ES256")),
    "EdDSA with the id of an RSA key": (INVALID, lambda issuer: confuse_keys(issuer, "EdDSA")),
    "PS256 with a key for RS256": (INVALID, use_declared_other_algorithm),
    # Signature.
    "another claim behind the signature": (INVALID, change_claims),
    "no signature": (INVALID, strip_signature),
    "half a signature": (INVALID, cut_signature),
    "ECDSA of zeros": (INVALID, use_raw_ecdsa_zeros),
    "ECDSA in DER": (INVALID, use_der_signature),
    "a key of the attacker with a known id": (
        INVALID, lambda issuer: issuer.issue(key=of_attacker(), header={"kid": "1"}),
    ),
    "a key of the attacker without id": (INVALID, lambda issuer: issuer.issue(key=of_attacker(), header={"kid": None})),
    # Members of the header that choose a key, or change how the token is read.
    "jwk": (INVALID, embed_key),
    "jku": (INVALID, lambda issuer: point_to_key(issuer, "jku")),
    "x5u": (INVALID, lambda issuer: point_to_key(issuer, "x5u")),
    "jwk beside a good signature": (INVALID, with_header(jwk={"kty": "oct", "k": "c2VjcmV0"})),
    "jku beside a good signature": (INVALID, with_header(jku="https://evil.example/keys")),
    "x5u beside a good signature": (INVALID, with_header(x5u="https://evil.example/chain")),
    "x5c": (INVALID, with_header(x5c=["MIIB"])),
    "crit": (INVALID, with_header(crit=["exp"], exp=1)),
    "crit, empty": (INVALID, with_header(crit=[])),
    "b64": (INVALID, with_header(b64=False, crit=["b64"])),
    "zip": (INVALID, with_header(zip="DEF")),
    "enc": (INVALID, with_header(enc="A256GCM")),
    "p2c of a billion rounds": (INVALID, with_header(alg="PBES2-HS256+A128KW", p2c=1_000_000_000, p2s="x")),
    "header member twice": (INVALID, repeat_header),
    # Key ids.
    "kid is unknown": (INVALID, with_header(kid="2")),
    "kid is a path": (INVALID, with_header(kid="../../../../dev/null")),
    "kid is SQL": (INVALID, with_header(kid="' UNION SELECT 'secret' --")),
    "kid is a command": (INVALID, with_header(kid="1|id")),
    "kid is a URL": (INVALID, with_header(kid="https://evil.example/key")),
    "kid is a number": (INVALID, with_header(kid=1)),
    "kid is a list": (INVALID, with_header(kid=["1"])),
    "kid has a zero byte": (INVALID, with_header(kid="1\0")),
    "kid is long": (INVALID, with_header(kid="1" * 300)),
    # Type.
    "logout token": (INVALID, with_header(typ="logout+jwt")),
    "DPoP proof": (INVALID, with_header(typ="dpop+jwt")),
    "security event": (INVALID, with_claims(events={"http://schemas.openid.net/event/backchannel-logout": {}})),
    "ID token": (INVALID, with_claims(at_hash="abc", nonce="abc")),
    "ID token of Keycloak": (INVALID, with_claims(typ="ID")),
    "refresh token of Keycloak": (INVALID, with_claims(typ="Refresh")),
    "bound to a key": (INVALID, with_claims(cnf={"jkt": "abc"})),
    "bound to a certificate": (INVALID, with_claims(cnf={"x5t#S256": "abc"})),
    # Issuer.
    "an unknown issuer": (UNKNOWN, name_evil_issuer),
    "no issuer": (UNKNOWN, with_claims(iss=None)),
    "issuer is a list": (UNKNOWN, lambda issuer: issuer.issue(iss=[issuer.url])),
    "issuer with a slash behind it": (UNKNOWN, lambda issuer: issuer.issue(iss=issuer.url + "/")),
    "issuer in capitals": (UNKNOWN, lambda issuer: issuer.issue(iss=issuer.url.upper())),
    "issuer twice": (INVALID, lambda issuer: repeat_claim(issuer, "iss")),
    # Audience and client.
    "wrong audience": (INVALID, with_claims(aud="account")),
    "wrong audiences": (INVALID, with_claims(aud=["account", "alias-oracle-2"])),
    "no audience": (INVALID, with_claims(aud=None)),
    "empty audience": (INVALID, with_claims(aud="")),
    "audience is an object": (INVALID, with_claims(aud={"alias-oracle": 1})),
    "audience in a list in a list": (INVALID, with_claims(aud=[["alias-oracle"]])),
    "two clients": (INVALID, with_claims(azp="other")),
    # Times.
    "expired": (EXPIRED, after(-61, "exp")),
    "expired in 1970": (EXPIRED, with_claims(exp=0)),
    "not yet": (INVALID, after(90, "nbf")),
    "made in the future": (INVALID, after(90, "iat")),
    "no end": (INVALID, with_claims(exp=None)),
    "the end is a text": (INVALID, with_claims(exp="9999999999")),
    "the end is true": (INVALID, with_claims(exp=True)),
    "the end is infinite": (INVALID, with_claim_text("exp", "1e999")),
    "the end is larger than any float": (INVALID, with_claims(exp=10**400)),
    "the end comes twice": (INVALID, lambda issuer: repeat_claim(issuer, "exp")),
    "expired, with a wrong signature": (
        INVALID, lambda issuer: issuer.issue(key=of_attacker(), header={"kid": "1"}, exp=0),
    ),
    # Subject and claims.
    "no subject": (INVALID, with_claims(sub=None)),
    "empty subject": (INVALID, with_claims(sub="")),
    "subject is a number": (INVALID, with_claims(sub=7)),
    "subject has a line end": (INVALID, with_claims(sub="ana\nroot")),
    "subject has a space": (INVALID, with_claims(sub="ana root")),
    "subject is long": (INVALID, with_claims(sub="a" * 256)),
    "subject has another alphabet": (INVALID, with_claims(sub="аna")),
    "subject twice": (INVALID, lambda issuer: repeat_claim(issuer, "sub")),
    "roles twice": (INVALID, repeat_inside),
}  # fmt: skip
