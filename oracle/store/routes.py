"""Finds the route of an identifier that nobody has registered: the longest prefix rule that is valid now.

A rule outside its time does not count, so a shorter one can match.  A rule whose FSP is suspended or closed still
matches and answers nobody: a shorter rule would send the payment to an FSP that this rule says is the wrong one.

The rules are compiled into one dictionary of prefixes for each length that occurs.  A match takes at most as many
look-ups as there are lengths (CLABE rules have 3 to 17 digits), for any number of rules.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

# party_id_type, prefix, fsp_id ('' if suspended or closed), valid from and to (seconds since 1970)
RouteRow = tuple[str, str, str, float, float]


class Rule(NamedTuple):
    fsp_id: str  # '' if suspended or closed
    valid_from_s: float
    valid_to_s: float


Table = list[tuple[int, dict[str, list[Rule]]]]  # longest prefixes first
_NO_TABLE: Final[Table] = []


class Routes:
    """The rules of this process; `reload` replaces all of them at once."""

    def __init__(self, fetch: Callable[[], Awaitable[list[RouteRow]]]) -> None:
        self._fetch = fetch
        self._tables: dict[str, Table] = {}
        self.version = 0

    async def reload(self, version: int) -> None:
        """Load the rules again, before a lease with a new version of them is renewed.  Raises DirectoryUnavailable."""
        rows = await self._fetch()
        # In a thread, so that the event loop goes on: to compile 100,000 rules takes a tenth of a second.
        self._tables = await asyncio.to_thread(compile_routes, rows)
        self.version = version

    def match(self, party_id_type: str, identifier: str, now_s: float | None = None) -> str | None:
        """Return the FSP of the longest valid rule; '' if it is suspended or closed; None if there is no such rule."""
        tables = self._tables.get(party_id_type, _NO_TABLE)
        if not tables:
            return None
        at = time.time() if now_s is None else now_s
        for length, by_prefix in tables:
            rules = by_prefix.get(identifier[:length])
            if rules is not None and len(identifier) >= length:
                for fsp_id, valid_from_s, valid_to_s in rules:
                    if valid_from_s <= at < valid_to_s:
                        return fsp_id
        return None


def compile_routes(rows: list[RouteRow]) -> dict[str, Table]:
    """Sort the rules into the tables of each party id type."""
    tables: dict[str, dict[int, dict[str, list[Rule]]]] = {}
    for party_id_type, prefix, fsp_id, valid_from_s, valid_to_s in rows:
        by_prefix = tables.setdefault(party_id_type, {}).setdefault(len(prefix), {})
        by_prefix.setdefault(prefix, []).append(Rule(fsp_id, valid_from_s, valid_to_s))
    return {t: sorted(by_length.items(), reverse=True) for t, by_length in tables.items()}
