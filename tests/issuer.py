"""A small OpenID Connect issuer on a loopback port: real keys, discovery, JWKS, and the code flow with PKCE.

It signs whatever a test asks for.  What it serves can be replaced, withheld or broken at any time:

    issuer.keys          the keys that it publishes; the first one signs
    issuer.documents     path -> document, instead of its own
    issuer.status        the status of all its answers
    issuer.requests      the paths that were asked for
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256

DISCOVERY = "/.well-known/openid-configuration"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_json(value: Any) -> str:
    return encode(json.dumps(value).encode())


def _encode_int(number: int, size: int) -> str:
    return encode(number.to_bytes(size, "big"))


class SigningKey:
    """A key pair and its algorithm.  It signs without any library for tokens."""

    def __init__(self, algorithm: str, kid: str, private: PrivateKeyTypes) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private = private

    def sign(self, data: bytes) -> bytes:
        key = self.private
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(data)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
            size = (key.key_size + 7) // 8
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        assert isinstance(key, rsa.RSAPrivateKey)
        if self.algorithm == "PS256":
            return key.sign(data, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
        return key.sign(data, padding.PKCS1v15(), SHA256())

    def publish(self) -> dict[str, Any]:
        """Write the public key as a JWK."""
        key = self.private
        common = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return {**common, "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().public_bytes_raw())}
        if isinstance(key, ec.EllipticCurvePrivateKey):
            point = key.public_key().public_numbers()
            size = (key.key_size + 7) // 8
            name = {256: "P-256", 384: "P-384"}[key.key_size]
            return {
                **common,
                "kty": "EC",
                "crv": name,
                "x": _encode_int(point.x, size),
                "y": _encode_int(point.y, size),
            }
        assert isinstance(key, rsa.RSAPrivateKey)
        numbers = key.public_key().public_numbers()
        return {**common, "kty": "RSA", "n": _encode_int(numbers.n, key.key_size // 8), "e": _encode_int(numbers.e, 3)}


@cache
def make_key(algorithm: str, kid: str = "1", size: int = 2048) -> SigningKey:
    """Make a key, or return the one that was made for this name: RSA keys take a tenth of a second."""
    private: PrivateKeyTypes
    if algorithm in ("EdDSA", "Ed25519"):
        private = ed25519.Ed25519PrivateKey.generate()
    elif algorithm.startswith("ES"):
        private = ec.generate_private_key(ec.SECP384R1() if algorithm == "ES384" else ec.SECP256R1())
    else:
        private = rsa.generate_private_key(65_537, size)
    return SigningKey(algorithm, kid, private)


def seal(header: Any, claims: Any, key: SigningKey | None) -> str:
    """Sign what is given, whether it makes sense or not.  A text is taken as it is; anything else becomes JSON."""
    head, body = (encode(part.encode()) if isinstance(part, str) else encode_json(part) for part in (header, claims))
    signature = encode(key.sign(f"{head}.{body}".encode())) if key else ""
    return f"{head}.{body}.{signature}"


def _leave_out_none(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


class Issuer:
    def __init__(self) -> None:
        self.url = ""
        self.keys = [make_key("RS256")]
        self.documents: dict[str, Any] = {}
        self.status = 200
        self.requests: list[str] = []
        self.asked = asyncio.Event()
        self.audience = "alias-oracle"
        self.subject = "ana"
        self.id_claims: dict[str, Any] = {}
        self.access_claims: dict[str, Any] = {}
        self.forms: list[dict[str, str]] = []  # what came to the token endpoint
        self.authorizations: list[str] = []  # and the header of it
        self._codes: dict[str, dict[str, str]] = {}
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self.holding: asyncio.Event | None = None  # answers wait for it

    def describe(self, **changes: Any) -> dict[str, Any]:
        """Write the claims of a good access token, with changes; None removes a claim."""
        now = int(time.time())
        claims = {
            "iss": self.url, "sub": self.subject, "aud": self.audience, "exp": now + 300, "iat": now, "nbf": now,
            "client_id": "portal", "realm_access": {"roles": ["HUB-Admin"]}, **changes,
        }  # fmt: skip
        return _leave_out_none(claims)

    def issue(self, *, key: SigningKey | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Make a good access token, with changes."""
        key = key or self.keys[0]
        members = {"alg": key.algorithm, "kid": key.kid, "typ": "JWT", **(header or {})}
        return seal(_leave_out_none(members), self.describe(**changes), key)

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{self.port}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for client in self._clients:
            client.close()
        await self._server.wait_closed()

    # HTTP.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append(head[0].split(" ")[1])
                self.asked.set()
                if self.holding is not None:
                    await self.holding.wait()
                status, lines, content = self._answer(head[0].split(" ")[1], headers, body)
                writer.write(
                    f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n{lines}"
                    f"content-length: {len(content)}\r\n\r\n".encode()
                    + content
                )
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()
        finally:
            self._clients.discard(writer)

    def _answer(self, target: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        parts = urlsplit(target)
        if parts.path in self.documents:
            document = self.documents[parts.path]
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            return self.status, "", content
        query = {name: values[0] for name, values in parse_qs(parts.query or body.decode()).items()}
        if parts.path == DISCOVERY:
            return self.status, "", json.dumps(self.describe_itself()).encode()
        if parts.path == "/jwks":
            return self.status, "", json.dumps({"keys": [key.publish() for key in self.keys]}).encode()
        if parts.path == "/authorize":
            return 302, f"location: {self._authorize(query)}\r\n", b""
        if parts.path == "/token":
            self.forms.append(query)
            self.authorizations.append(headers.get("authorization", ""))
            return self._exchange(query)
        return 404, "", b"{}"

    def describe_itself(self) -> dict[str, Any]:
        return {
            "issuer": self.url, "jwks_uri": f"{self.url}/jwks", "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token", "authorization_response_iss_parameter_supported": True,
            "code_challenge_methods_supported": ["S256"], "response_types_supported": ["code"],
        }  # fmt: skip

    # The code flow.

    def _authorize(self, query: dict[str, str]) -> str:
        code = secrets.token_urlsafe()
        self._codes[code] = query
        answer = urlencode({"code": code, "state": query["state"], "iss": self.url})
        return f"{query['redirect_uri']}?{answer}"

    def _exchange(self, form: dict[str, str]) -> tuple[int, str, bytes]:
        asked = self._codes.pop(form.get("code", ""), None)
        challenge = encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or asked["code_challenge"] != challenge
            or asked["code_challenge_method"] != "S256"
            or asked["redirect_uri"] != form["redirect_uri"]
        ):
            return 400, "", b'{"error": "invalid_grant"}'
        now = int(time.time())
        claims = {
            "iss": self.url, "sub": self.subject, "aud": asked["client_id"], "exp": now + 300, "iat": now,
            "nonce": asked["nonce"], **self.id_claims,
        }  # fmt: skip
        key = self.keys[0]
        header = {"alg": key.algorithm, "kid": key.kid}
        answer = {
            "token_type": "Bearer", "access_token": self.issue(**self.access_claims),
            "id_token": seal(header, claims, key),
        }  # fmt: skip
        return 200, "", json.dumps(answer).encode()


@asynccontextmanager
async def issuing(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Issuer]:
    issuer = Issuer()
    await issuer.start(port, tls)
    try:
        yield issuer
    finally:
        await issuer.stop()


@contextmanager
def issuing_beside() -> Iterator[Issuer]:
    """Serve it from a thread, for a test without an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    issuer = Issuer()
    asyncio.run_coroutine_threadsafe(issuer.start(), loop).result()
    try:
        yield issuer
    finally:
        asyncio.run_coroutine_threadsafe(issuer.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
