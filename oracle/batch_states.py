"""States of a batch that importing processes, the API, the console and the commands know."""

from __future__ import annotations

from typing import Final

FINAL: Final = frozenset({"done", "rejected", "cancelled", "failed"})  # nothing changes any more
