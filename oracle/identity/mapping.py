"""From the claims of a token to a role: the first rule that fits wins, and without one there is none.

A rule that names FSPs fits only if it finds one: otherwise a claim that is absent would open every FSP.  Ids that no
FSP can have do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from oracle.identity.claims import Claims
from oracle.identity.identity import Identity, is_fsp_id
from oracle.identity.rules import Rule

WORD_MAX: Final = 256  # characters; a pattern of an operator is not tried on a longer word
FSPS_MAX: Final = 1_000


class Mapping:
    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules

    def choose(self, claims: Claims) -> Identity | None:
        """Return who that is here; None: nobody, because no rule fits."""
        for rule in self._rules:
            fsp_ids = _apply(rule, claims)
            if fsp_ids is not None:
                bound = frozenset(fsp_ids) if rule.binds else None
                return Identity(claims.actor, rule.role, bound, "oidc", claims.person)
        return None


def _apply(rule: Rule, claims: Claims) -> set[str] | None:
    """Return the FSPs that the rule gives, none for one that names none; None: the rule does not fit."""
    if rule.issuer not in (None, claims.alias) or (rule.machine and not claims.is_machine):
        return None
    words = [word for word in claims.texts(rule.claim) if len(word) <= WORD_MAX]
    fsp_ids: set[str] = set()
    if rule.has is not None:
        found = rule.has in words
    elif rule.expression is not None:
        matches = [match for word in words if (match := rule.expression.fullmatch(word))]
        found = bool(matches)
        if "fsp" in rule.expression.groupindex:
            fsp_ids.update(match["fsp"] or "" for match in matches)
    else:
        found = bool(words)
    if not found:
        return None
    if rule.fsp_from is not None:
        fsp_ids.update(claims.texts(rule.fsp_from))
    if not rule.binds:
        return fsp_ids
    valid = {fsp_id for fsp_id in fsp_ids if is_fsp_id(fsp_id)}
    return valid if 0 < len(valid) <= FSPS_MAX else None
