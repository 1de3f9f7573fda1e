"""Encryption under the secret of a caller: kept for this caller's eyes alone, and readable while the secret is used."""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_NONCE_BYTES = 12


class NotReadable(ValueError):
    """Encrypted under another secret, for another purpose or context, or not by us."""


class CallerCipher:
    """Encrypts for one caller and one purpose.  A `context` is not in the result, but needed to decrypt it."""

    def __init__(self, secret: str, purpose: str) -> None:
        self._cipher = ChaCha20Poly1305(hashlib.sha256(f"{secret}\0{purpose}".encode()).digest())

    def encrypt(self, plain: bytes, context: bytes | None = None) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context)

    def decrypt(self, encrypted: bytes, context: bytes | None = None) -> bytes:
        """Raises NotReadable."""
        try:
            return self._cipher.decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise NotReadable from None
