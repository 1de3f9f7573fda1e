"""One rule: which claim of a token gives which role, and which FSPs.  `mapping` applies rules, `issuers` reads them.

    claim     where the words are: a path with dots, or a list of names if a name has a dot of its own
    has       one of the words is this one
    pattern   one of the words is like this regular expression, from its first to its last character; its group `fsp`
              names an FSP
    machine   true: only a program, whose subject is its client id.  Then `has` and `pattern` can be left out
    role      the role that a person or a program with this claim gets
    fsp_from  the claim with the ids of the FSPs that they can act for
    issuer    only tokens of the issuer with this alias

A role of a DFSP needs FSPs, and the roles of operators and auditors have none, as for keys.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

import msgspec

from oracle.identity.identity import Role

BOUND: Final = (Role.MAKER, Role.CHECKER)
UNBOUND: Final = (Role.OPERATOR, Role.AUDITOR)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    claim: str | list[str]
    role: Role
    has: str | None = None
    pattern: str | None = None
    machine: bool = False
    fsp_from: str | list[str] | None = None
    issuer: str | None = None

    @cached_property
    def expression(self) -> re.Pattern[str] | None:
        """Raises re.error."""
        return None if self.pattern is None else re.compile(self.pattern)

    @property
    def binds(self) -> bool:
        """Whether it names FSPs."""
        return self.fsp_from is not None or (self.expression is not None and "fsp" in self.expression.groupindex)


def find_fault(rule: Rule) -> str | None:
    """Say why the rule cannot be used, and what to write."""
    if not all(_is_path(path) for path in (rule.claim, rule.fsp_from) if path is not None):
        return "`claim` and `fsp_from` must name a claim, for example realm_access.roles"
    if rule.has is not None and rule.pattern is not None:
        return "it has `has` and `pattern`: remove one of them"
    if rule.has is None and rule.pattern is None and not rule.machine:
        return "it has neither `has` nor `pattern`: everybody would get this role. Add one of them"
    try:
        binds = rule.binds
    except re.error as exc:
        return f"`pattern` is not a regular expression: {exc}"
    if rule.role in BOUND and not binds:
        return f"the role {rule.role} needs an FSP: add `fsp_from`, or the group (?P<fsp>…) to `pattern`"
    if rule.role in UNBOUND and binds:
        return f"the role {rule.role} cannot be limited to an FSP: remove `fsp_from`, and the group `fsp`"
    return None


def _is_path(path: str | list[str]) -> bool:
    return bool(path) and all(path.split(".") if isinstance(path, str) else path)
