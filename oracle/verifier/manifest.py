"""The files of an export.

events.ndjson  the events of leaves [begin, end), one line each (see `leaf`), in the order of the log
hashes.bin     their leaf hashes as they were sealed, 32 bytes each: they show which line was changed
manifest.json  origin, begin, end, a signed checkpoint, the keys of the log; the subtrees left and right of the range,
               which complete it to the signed root; the consistency proof from an older checkpoint, if one was named
events.csv     optional: the same events for a spreadsheet; a check compares it with the lines
"""

from __future__ import annotations

from typing import Final

import msgspec

FORMAT: Final = "alias-oracle-history/1"
EVENTS, HASHES, MANIFEST, CSV = "events.ndjson", "hashes.bin", "manifest.json", "events.csv"


class ManifestKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vkey: str
    from_size: int
    statement: str | None = None


class Since(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The proof that the log of this size is the beginning of the log of the checkpoint."""

    size: int
    proof: list[bytes]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str = FORMAT
    origin: str
    begin: int
    end: int
    count: int
    root: bytes
    checkpoint: str
    keys: list[ManifestKey]
    left: list[bytes]
    right: list[bytes]
    since: Since | None = None
