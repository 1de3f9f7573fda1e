"""Signs checkpoints and the statements that introduce keys (their form: `oracle.verifier.checkpoint`)."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oracle.verifier.checkpoint import ED25519, BadNote, Verifier, split_key


class Signer:
    """A private key under a name.  Its repr does not show the key."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.verifier = Verifier(name, self._key.public_key().public_bytes_raw())

    @classmethod
    def new(cls, name: str) -> Signer:
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def of(cls, skey: str) -> Signer:
        """Raises BadNote, whose message never quotes the key."""
        head, _, rest = skey.strip().partition("PRIVATE+KEY+")
        if head:
            raise BadNote("not a private key")
        name, key_id, seed = split_key(rest)
        signer = cls(name, seed)
        if signer.verifier.key_id.hex() != key_id:
            raise BadNote("the key does not match its id")
        return signer

    @property
    def skey(self) -> str:
        key_id = self.verifier.key_id.hex()
        return f"PRIVATE+KEY+{self.verifier.name}+{key_id}+{base64.b64encode(ED25519 + self._seed).decode()}"

    def sign(self, text: str) -> bytes:
        return self._key.sign(text.encode())


def sign_note(text: str, signers: Iterable[Signer]) -> str:
    lines = []
    for signer in signers:
        data = base64.b64encode(signer.verifier.key_id + signer.sign(text)).decode()
        lines.append(f"— {signer.verifier.name} {data}\n")
    return f"{text}\n{''.join(lines)}"
