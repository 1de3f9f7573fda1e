"""Finds the route of an identifier that nobody has registered: the longest prefix rule that is valid now and fits.

Fits.  A rule answers the kind of identifier that it was made for.  A rule for CLABE answers no other account number,
       and one for NRC no other document, whatever the settings are.  A rule for the PartyIdType itself answers all of
       it.  Of two rules with the same prefix, the one for the narrower kind comes first.
Skips. A rule outside its time, or one that does not fit, does not count, so a shorter one can match.  A rule whose FSP
       is suspended or closed still matches and answers nobody: a shorter rule would send the payment to an FSP that
       this rule says is the wrong one.

"Now" is PostgreSQL's time (rule 12 of `cache.coherence`): its difference to the steady clock of this process is known
from each answer of PostgreSQL.  The wall clock of this machine has no effect.

The rules are compiled into one dictionary of prefixes for each length that occurs.  A match takes at most as many
look-ups as there are lengths (CLABE rules have 3 to 17 digits), for any number of rules.  Only when a rule for a
narrower kind has the right prefix, the identifier is checked against that kind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from oracle.errors import DirectoryUnavailable
from oracle.identifiers import SCHEMES

# party_id_type, kind, prefix, fsp_id ('' if suspended or closed), valid from and to (seconds since 1970)
RouteRow = tuple[str, str, str, str, float, float]
Check = Callable[[str], bool]


class Rule(NamedTuple):
    fsp_id: str  # '' if suspended or closed
    valid_from_s: float
    valid_to_s: float
    check: Check | None  # of a narrower kind; None: every identifier of the type fits


Table = list[tuple[int, dict[str, list[Rule]]]]  # longest prefixes first
_NO_TABLE: Final[Table] = []


class Routes:
    """The rules of this process; `reload` replaces all of them at once."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[list[RouteRow]]],
        clock: Callable[[], float] = time.monotonic,
        keep: Callable[[int, list[RouteRow]], None] = lambda _version, _rows: None,
    ) -> None:
        """`clock` is a steady clock, the one of `Coherence`.  `keep(version, rows)` is called with all rules loaded."""
        self._fetch = fetch
        self._clock = clock
        self._offset_s = time.time() - clock()  # until PostgreSQL has answered
        self._keep = keep
        self._tables: dict[str, Table] | None = None  # not loaded: it cannot say that no route matches
        self.version = 0

    async def reload(self, version: int) -> None:
        """Load the rules again, before a lease with a new version of them is renewed.  Raises DirectoryUnavailable."""
        rows = await self._fetch()
        # In a thread, so that the event loop goes on: to compile 100,000 rules takes a tenth of a second.
        self._tables = await asyncio.to_thread(self._compile_and_keep, version, rows)
        self.version = version

    def _compile_and_keep(self, version: int, rows: list[RouteRow]) -> dict[str, Table]:
        self._keep(version, rows)
        return compile_routes(rows)

    def begin_with(self, version: int, rows: list[RouteRow]) -> None:
        """Use the rules that an earlier process loaded, until the first `reload`."""
        self._tables = compile_routes(rows)
        self.version = version

    def follow_clock(self, asked_s: float, answered_s: float, server_s: float) -> None:
        """Take PostgreSQL's time, read between two times of `clock`.

        The offset moves only if it contradicts this answer, and then as little as possible.  So a fast answer counts
        until a later one excludes it.
        """
        lowest_s, highest_s = server_s - answered_s, server_s - asked_s
        self._offset_s = min(max(self._offset_s, lowest_s), highest_s)

    def now_s(self) -> float:
        """Return PostgreSQL's time now, in seconds since 1970."""
        return self._clock() + self._offset_s

    def match(self, party_id_type: str, identifier: str, now_s: float | None = None) -> str | None:
        """Find the FSP of the longest fitting valid rule: '' if it is suspended or closed, None without such a rule.

        Raises DirectoryUnavailable before the rules are loaded.
        """
        loaded = self._tables
        if loaded is None:
            raise DirectoryUnavailable
        tables = loaded.get(party_id_type, _NO_TABLE)
        if not tables:
            return None
        at = self._clock() + self._offset_s if now_s is None else now_s
        for length, by_prefix in tables:
            rules = by_prefix.get(identifier[:length])
            if rules is not None and len(identifier) >= length:
                for fsp_id, valid_from_s, valid_to_s, check in rules:
                    if valid_from_s <= at < valid_to_s and (check is None or check(identifier)):
                        return fsp_id
        return None


def compile_routes(rows: list[RouteRow]) -> dict[str, Table]:
    """Sort the rules into the tables of each party id type."""
    tables: dict[str, dict[int, dict[str, list[Rule]]]] = {}
    checks = {kind: find_check(kind) for kind in {row[1] for row in rows}}
    for party_id_type, kind, prefix, fsp_id, valid_from_s, valid_to_s in rows:
        by_prefix = tables.setdefault(party_id_type, {}).setdefault(len(prefix), {})
        rules = by_prefix.setdefault(prefix, [])
        rule = Rule(fsp_id, valid_from_s, valid_to_s, checks[kind])
        if rule.check is None:
            rules.append(rule)
        else:
            rules.insert(0, rule)
    return {t: sorted(by_length.items(), reverse=True) for t, by_length in tables.items()}


# The rule of one decision, for those who explain it -----------------------------------------------------------------


def find_check(kind: str) -> Check | None:
    """Return what an identifier must pass to fit rules for this kind; None if every identifier of the type fits.

    The answer does not depend on settings: an old answer can be explained under new ones.
    """
    return _CHECKS.get(kind, _fit_nothing)


def fits(kind: str, identifier: str) -> bool:
    """Whether a rule for this kind can answer a canonical identifier that begins with the rule's prefix."""
    check = find_check(kind)
    return check is None or check(identifier)


def rank(prefix: str, kind: str) -> tuple[int, bool]:
    """Return the place of a rule among those that match, for `sorted`: the longest first, then the narrower kind."""
    return -len(prefix), find_check(kind) is None


def _fit_nothing(_: str) -> bool:
    """A newer version of this program wrote that kind."""
    return False


_CHECKS: Final[dict[str, Check | None]] = {
    scheme.kind: None if scheme.is_plain else scheme.is_canonical for scheme in SCHEMES
}
