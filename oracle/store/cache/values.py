"""The values in the cache under one `(party_id_type, identifier)`: an answer, a fence or a token.

    V + msgpack [[fsp_id, currency, sub_id], …]   an answer: every entry of the identifier, default entries first
    F                                             a fence: a change is in flight, read the directory
    T + 16 random bytes                           a token: a lookup is filling it, read the directory

`[]` is an answer, too: nobody has registered this identifier.  An fsp_id of '' is an entry whose FSP is suspended or
closed: it answers nobody, and no route answers in its place.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

import msgspec

FENCE: Final = b"F"
ANSWER: Final = b"V"


class Entry(NamedTuple):
    fsp_id: str
    currency: str  # '' if it answers for every currency
    sub_id: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


def pack_entries(entries: list[Entry]) -> bytes:
    """Encode the entries of an identifier as an answer."""
    return ANSWER + _encode(entries)


def unpack_entries(value: bytes) -> list[Entry]:
    """Decode an answer.  Raises msgspec.DecodeError for any other value."""
    return _decode(value[1:])


def new_token() -> bytes:
    """Make a token that no other lookup has."""
    return b"T" + os.urandom(16)
