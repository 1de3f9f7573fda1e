"""Whether a client takes gzip, and gzip for an answer that is made for one request."""

from __future__ import annotations

import re
import zlib
from typing import Final

# The lowest level: a third of the time of level 6 (0.4 ms for 100 kB), and a result that is a fifth larger at most.
_LEVEL: Final = 1
_GZIP_FORM: Final = 16 + zlib.MAX_WBITS
_NOT_TAKEN: Final = re.compile(r"\s*q\s*=\s*0(?:\.0*)?\s*").fullmatch


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a header Accept-Encoding allows gzip: by its name, or else by `*`, with a weight above 0."""
    taken: dict[str, bool] = {}
    for part in accept_encoding.lower().split(","):
        name, *parameters = part.split(";")
        taken[name.strip()] = not any(map(_NOT_TAKEN, parameters))
    return taken.get("gzip", taken.get("*", False))


def compress(body: bytes) -> bytes:
    """Compress the body of one answer, quickly rather than well."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_FORM)
    return compressor.compress(body) + compressor.flush()
