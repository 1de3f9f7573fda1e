"""Checks checkpoints: the log at one size, signed, in a form that anybody can verify.

Checkpoint.  C2SP tlog-checkpoint: a note of three lines, origin, size, root in base64.  The writer of the log signs it
             and cannot claim later that the log was different.
Note.        C2SP signed-note: a text, an empty line, and one line `— name base64(key id ‖ signature)` for each
             signature, Ed25519 over the text.  Go's sumdb/note reads notes and keys: `vkey` and `skey` are its forms.
Origin.      alias-oracle/<directory_id>; also the name of its keys.
Rotation.    A note introduces a new key: the lines origin/key, old vkey, new vkey, size, signed by both keys.
             Checkpoints beyond that size need a signature of the new key.  While the old key is in the key file, it
             signs them too, for verifiers that do not know the new key yet.  A verifier with any vkey of the chain can
             follow it in both directions (`Trust`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .merkle import HASH_BYTES

ED25519: Final = b"\x01"
NOTE_BYTES_MAX: Final = 100_000
SIGNATURES_MAX: Final = 100

_NAME = re.compile(r"[!-*,-~]+")  # neither spaces nor the plus that separates the parts of a key
_SIGNATURE = re.compile(r"— (\S+) ([A-Za-z0-9+/=]+)")
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


class BadNote(ValueError):
    """The text does not have the form that it needs; the message says what is wrong."""


# Keys -----------------------------------------------------------------------------------------------------------


class Verifier(NamedTuple):
    """A public key under a name."""

    name: str
    public: bytes

    @classmethod
    def of(cls, vkey: str) -> Verifier:
        """Raises BadNote."""
        name, key_id, key = split_key(vkey.strip())
        verifier = cls(name, key)
        if verifier.key_id.hex() != key_id:
            raise BadNote("the key does not match its id")
        return verifier

    @property
    def key_id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    def accepts(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


def split_key(text: str) -> tuple[str, str, bytes]:
    """Return the name, the id and the 32 bytes of the key.  Raises BadNote."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    key = unbase64(encoded)
    if not _NAME.fullmatch(name) or key[:1] != ED25519 or len(key) != 1 + 32:
        raise BadNote("not a public key")
    return name, key_id, key[1:]


def unbase64(text: str) -> bytes:
    """Accept one spelling only: a decoder ignores the last bits, so a changed note could keep its signature."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadNote("not base64") from exc
    if _base64(data) != text:
        raise BadNote("not base64")
    return data


# Notes ----------------------------------------------------------------------------------------------------------


class Signature(NamedTuple):
    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def of(cls, note: str) -> Note:
        """Raises BadNote."""
        head, separator, tail = note.rpartition("\n\n")
        if not separator or len(note) > NOTE_BYTES_MAX or not tail.endswith("\n"):
            raise BadNote("not a signed note")
        if any(ord(character) < ord(" ") and character != "\n" for character in note):
            raise BadNote("a note cannot have control characters")
        lines = tail[:-1].split("\n")
        if len(lines) > SIGNATURES_MAX:
            raise BadNote(f"a note cannot have more than {SIGNATURES_MAX} signatures")
        return cls(head + "\n", tuple(_signature(line) for line in lines))

    def is_signed_by(self, verifier: Verifier) -> bool:
        """Raises BadNote when it claims a signature of this key and that is wrong: then trust none of it."""
        named = [s for s in self.signatures if (s.name, s.key_id) == (verifier.name, verifier.key_id)]
        if any(not verifier.accepts(self.text, s.signature) for s in named):
            raise BadNote("the signature does not match the key that it names")
        return bool(named)


def _signature(line: str) -> Signature:
    found = _SIGNATURE.fullmatch(line)
    data = unbase64(found[2]) if found else b""
    if found is None or len(data) <= 4:  # noqa: PLR2004 - the id and at least one byte
        raise BadNote("not a signature line")
    return Signature(found[1], data[:4], data[4:])


class Checkpoint(NamedTuple):
    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in (self.origin, self.size, _base64(self.root), *self.extensions))

    @classmethod
    def of(cls, text: str) -> Checkpoint:
        """Raises BadNote."""
        origin, *lines = text.removesuffix("\n").split("\n")
        if len(lines) < 2 or not origin or not all(lines) or not _SIZE.fullmatch(lines[0]):  # noqa: PLR2004 - size, root
            raise BadNote("not a checkpoint")
        root = unbase64(lines[1])
        if len(root) != HASH_BYTES:
            raise BadNote("not a checkpoint")
        return cls(origin, int(lines[0]), root, tuple(lines[2:]))

    @classmethod
    def of_note(cls, note: str) -> Checkpoint:
        """Read a checkpoint without checking the signatures.  Raises BadNote."""
        return cls.of(Note.of(note).text)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Rotation -------------------------------------------------------------------------------------------------------


class VerifierKey(NamedTuple):
    """A public key of the log.  The first one has no statement that introduces it."""

    vkey: str
    from_size: int
    statement: str | None


def introduction(origin: str, old: Verifier, new: Verifier, from_size: int) -> str:
    return f"{origin}/key\n{old.vkey}\n{new.vkey}\n{from_size}\n"


class Trust:
    """Decides which keys of a log to believe, and for which sizes, starting from the keys that you trust."""

    def __init__(self, origin: str, keys: Sequence[VerifierKey], given: Sequence[str]) -> None:
        """Raises BadNote when no given key is a key of the log."""
        self.origin = origin
        self.keys = [(key.from_size, Verifier.of(key.vkey)) for key in keys]
        vouched = [self._is_vouched(number, key) for number, key in enumerate(keys)]
        wanted = {Verifier.of(vkey) for vkey in given}
        self.believed = {v for _, v in self.keys if v in wanted}
        if not self.believed:
            raise BadNote("the log has none of the keys that you trust")
        for numbers in (range(1, len(keys)), reversed(range(1, len(keys)))):
            for number in numbers:
                pair = {self.keys[number - 1][1], self.keys[number][1]}
                if vouched[number] and pair & self.believed:
                    self.believed |= pair

    def _is_vouched(self, number: int, key: VerifierKey) -> bool:
        if number == 0 or key.statement is None:
            return False
        old, new = self.keys[number - 1][1], self.keys[number][1]
        try:
            note = Note.of(key.statement)
            both = note.is_signed_by(old) and note.is_signed_by(new)
        except BadNote:
            return False
        return both and note.text == introduction(self.origin, old, new, key.from_size)

    def open(self, note: str) -> Checkpoint:
        """Return the checkpoint, if the key that must sign at its size signed it.  Raises BadNote."""
        read = Note.of(note)
        checkpoint = Checkpoint.of(read.text)
        if checkpoint.origin != self.origin:
            raise BadNote("this checkpoint belongs to another log")
        due = self.find_due(checkpoint.size)
        if due not in self.believed:
            raise BadNote("the key that must sign at this size is not trusted")
        if not read.is_signed_by(due):
            raise BadNote("not signed by the key that must sign at this size")
        return checkpoint

    def find_due(self, size: int) -> Verifier:
        """Return the key that must sign the log at this size.  Raises BadNote."""
        due = [verifier for from_size, verifier in self.keys if from_size < size or from_size == 0]
        if not due:
            raise BadNote("no key of the log signs at this size")
        return due[-1]
