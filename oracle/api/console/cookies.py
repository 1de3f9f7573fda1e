"""The cookies of the console beside that of a session (oracle/identity/cookies.py), and messages for the next page."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

FLASH: Final = "__Host-oracle-flash"  # what the next page says, once
LANGUAGE: Final = "__Host-oracle-language"
ZONE: Final = "__Host-oracle-zone"  # the time zone of the browser, which our script writes
VISITOR: Final = "__Host-oracle-visitor"  # of somebody who is not signed in; protects their forms
TEXT_MAX: Final = 500


class Flash(msgspec.Struct, frozen=True):
    kind: str  # success, warning
    text: str


def write_flash(kind: str, text: str) -> str:
    return urlsafe_b64encode(msgspec.json.encode(Flash(kind, text[:TEXT_MAX]))).decode().rstrip("=")


def read_flash(value: str) -> Flash | None:
    """Read what the page before said; None: nothing, or something else."""
    if not value:
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(value + "=" * (-len(value) % 4)), type=Flash)
    except (ValueError, msgspec.MsgspecError):
        return None
