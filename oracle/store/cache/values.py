"""The values in the cache under one `(party_id_type, identifier)`: a copy of an answer, a fence or a token.

    0xFF + time + answer + tag   a copy: the time until which it counts (4 bytes, big end first), 16 bytes of `tags`
    F                            a fence: a change is in flight, read the directory
    T + 16 random bytes          a token: a lookup is filling it, read the directory

The answer is msgpack [[fsp_id, currency, sub_id], …]: every entry of the identifier, default entries first.  `[]` is an
answer, too: nobody has registered this identifier.  An fsp_id of '' is an entry whose FSP is suspended or closed: it
answers nobody, and no route answers in its place.

No key has a byte 0xFF, because keys are UTF-8: so the tag can be made over key and copy without a mark between them.
Versions before the tags take a copy with this first byte for a fence, so they can share the Redis during an update.

The marker has a key of its own (rule 8 of `coherence`): timeline:generation:routes version:system identifier:tag.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

FENCE: Final = b"F"
ANSWER: Final = b"\xff"
TOKEN_LENGTH: Final = 17


class Entry(NamedTuple):
    fsp_id: str
    currency: str  # '' if it answers for every currency
    sub_id: str


PlainEntry = tuple[str, str, str]  # the same without names: cheaper to make


class Marker(NamedTuple):
    """The newest generation that any process has seen (rule 8 of `coherence`)."""

    timeline: int
    generation: int
    routes_version: int
    system_identifier: str

    def pack(self) -> bytes:
        """Write it, without the tag."""
        return b"%d:%d:%d:%s" % (self.timeline, self.generation, self.routes_version, self.system_identifier.encode())

    @classmethod
    def unpack(cls, value: bytes) -> Marker:
        """Read what `pack` has written.  Raises ValueError for any other value."""
        timeline, generation, routes_version, system_identifier = value.decode().split(":", 3)
        return cls(int(timeline), int(generation), int(routes_version), system_identifier)

    def exceeds(self, other: Marker) -> bool:
        """Compare as the script in `session` does: timelines count under the same system identifier only."""
        skipped = 0 if self.system_identifier == other.system_identifier else 1
        return self[skipped:3] > other[skipped:3]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


def pack_entries(entries: Sequence[PlainEntry]) -> bytes:
    """Encode the entries of an identifier as an answer."""
    return _encode(entries)


def unpack_entries(answer: bytes) -> list[Entry]:
    """Decode an answer.  Raises msgspec.DecodeError for any other value."""
    return _decode(answer)


def new_token() -> bytes:
    """Make a token that no other lookup has."""
    return b"T" + os.urandom(TOKEN_LENGTH - 1)
