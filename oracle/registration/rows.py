"""What ALS has registered, what is wanted, and which acts turn the one into the other.

Choice.   ALS chooses a row by its type alone: the only one, or of several the last default one.  Of several rows
          without a default it chooses none, and refuses every lookup of the type.  A bulk with a currency needs a row
          of exactly that currency.
Change.   ALS cannot change the URL or the default of a row, so a row that differs is removed and created again.  In
          between, lookups of its type fail.  That is done only where somebody allows it (`replace`).
Traps.    An act is refused if ALS would then refuse lookups, or if it would take a type away from another oracle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from oracle.scheme.urls import BadUrl, check_base_url

# registered  ALS has the row, and asks this oracle for the type
# missing     it has no such row: it can be created
# different   it has a row that differs: it can be replaced
# refused     the row cannot be created or used, because of other rows of the type
State = Literal["registered", "missing", "different", "refused"]
Code = Literal[
    "registered", "missing", "other_endpoint", "double_slash", "not_default", "duplicate", "no_default",
    "other_default", "takes_over",
]  # fmt: skip

# What each code means, and what a person can do.
MEANINGS: Final[dict[Code, tuple[str, str]]] = {
    "registered": ("ALS asks this oracle", ""),
    "missing": ("ALS has no such row", "Register it"),
    "other_endpoint": (
        "The row of ALS has another endpoint",
        "Check which endpoint is right. To replace the row, use `replace`",
    ),
    "double_slash": (
        "The endpoint in the row of ALS ends with a slash, so that ALS calls //participants",
        "To replace the row, use `replace`",
    ),
    "not_default": ("The row of ALS is not the default one", "To replace the row, use `replace`"),
    "duplicate": ("ALS has several rows of this type and currency", "To keep only one of them, use `replace`"),
    "no_default": (
        "ALS would have several rows of this type and no default one. It would refuse every lookup of the type (2001)",
        "Register this oracle as the default one, or remove the other rows at ALS",
    ),
    "other_default": (
        "Another oracle has the default row of this type, so ALS asks that one",
        "Remove that row at ALS if this oracle must answer for the type",
    ),
    "takes_over": (
        "ALS asks another oracle for this type now. This row would take the type away from it",
        "Check which oracle must answer. If it is this one, use `replace`",
    ),
}


class Row(msgspec.Struct, frozen=True):
    """A row of ALS; `oracle_id` is 0 before it is created."""

    oracle_id: int
    party_id_type: str
    currency: str  # '' for a row without
    url: str
    is_default: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.party_id_type, self.currency


class Wanted(msgspec.Struct, frozen=True):
    """A row that ALS must have.  Without `is_default`, it can be the default one or not."""

    party_id_type: str
    currency: str
    url: str
    is_default: bool

    @property
    def key(self) -> tuple[str, str]:
        return self.party_id_type, self.currency

    def accepts(self, row: Row) -> bool:
        return row.key == self.key and row.url == self.url and (row.is_default or not self.is_default)


class Act(msgspec.Struct, frozen=True):
    """One change of ALS."""

    action: Literal["registered", "removed"]
    row: Row


class Finding(msgspec.Struct, frozen=True):
    """What ALS has of one wanted row."""

    wanted: Wanted
    state: State
    code: Code
    row: Row | None = None  # the row that the code is about
    acts: tuple[Act, ...] = ()  # that make it registered

    @property
    def is_registered(self) -> bool:
        return self.state == "registered"


class BadEndpoint(ValueError):
    """Why ALS cannot be given this endpoint; the text does not hold it."""


def list_wanted(url: str, types: Iterable[str], currencies: Sequence[str], *, is_default: bool) -> list[Wanted]:
    """List the rows that ALS must have: one of each type and currency.  Raises BadEndpoint."""
    try:
        check_base_url(url)
    except BadUrl as exc:
        raise BadEndpoint(str(exc)) from None
    if len(currencies) > 1 and not is_default:
        raise BadEndpoint("rows of several currencies need a default one: ALS would refuse every lookup (2001)")
    return [Wanted(each, currency, url, is_default) for each in types for currency in currencies or ("",)]


def choose(rows: Sequence[Row]) -> Row | None:
    """Choose as ALS does among the rows of one type, in the order of its list; None: it refuses the lookup."""
    if len(rows) == 1:
        return rows[0]
    return next((row for row in reversed(rows) if row.is_default), None)


def examine(rows: Sequence[Row], wanted: Sequence[Wanted], *, replace: bool) -> list[Finding]:
    """Compare what ALS has with what is wanted; one finding for each, in order.  Only `replace` allows removals."""
    found: dict[tuple[str, str], Finding] = {}
    for party_id_type in dict.fromkeys(each.party_id_type for each in wanted):
        own = [each for each in wanted if each.party_id_type == party_id_type]
        there = [row for row in rows if row.party_id_type == party_id_type]
        found.update((each.wanted.key, each) for each in _examine_type(there, own, replace=replace))
    return [found[each.key] for each in wanted]


def _examine_type(rows: Sequence[Row], wanted: Sequence[Wanted], *, replace: bool) -> list[Finding]:
    findings = [_compare([row for row in rows if row.key == each.key], each, replace=replace) for each in wanted]
    trap = _find_trap(rows, findings, replace=replace)
    if trap is None:
        return findings
    code, row = trap
    return [
        each if each.state == "different" and not each.acts else Finding(each.wanted, "refused", code, row)
        for each in findings
    ]


def _compare(rows: Sequence[Row], wanted: Wanted, *, replace: bool) -> Finding:
    """Compare the rows that have the key of the wanted one."""
    create = Act("registered", Row(0, *wanted.key, wanted.url, wanted.is_default))
    if not rows:
        return Finding(wanted, "missing", "missing", acts=(create,))
    right = next((row for row in rows if wanted.accepts(row)), None)
    if right is not None and len(rows) == 1:
        return Finding(wanted, "registered", "registered", right)
    removals = tuple(Act("removed", row) for row in rows if row is not right)
    acts = removals if right is not None else (*removals, create)
    wrong = removals[0].row
    code: Code = "duplicate" if len(rows) > 1 else _find_difference(wrong, wanted)
    return Finding(wanted, "different", code, wrong, acts if replace else ())


def _find_difference(row: Row, wanted: Wanted) -> Code:
    if row.url == wanted.url:
        return "not_default"
    return "double_slash" if row.url.rstrip("/") == wanted.url else "other_endpoint"


def _find_trap(rows: Sequence[Row], findings: Sequence[Finding], *, replace: bool) -> tuple[Code, Row | None] | None:
    """Find out why ALS would not ask this oracle after the acts, and the row that is in the way."""
    url = findings[0].wanted.url
    acts = [act for each in findings for act in each.acts]
    removed = [act.row for act in acts if act.action == "removed"]
    after = [row for row in rows if row not in removed] + [act.row for act in acts if act.action == "registered"]
    others = [row for row in after if row.url != url]
    other_default = next((row for row in others if row.is_default), None)
    chosen = choose(after)
    # With two default ones, the newest answers: each change of either would make the other one answer.
    if acts and other_default is not None:
        return "other_default", other_default
    if chosen is None:
        # Without rows there is nothing to choose; that cannot be, because the wanted ones are there or created.
        return "no_default", others[0] if others else None
    if chosen.url != url and chosen.is_default:
        return "other_default", chosen
    before = choose(rows)
    if acts and not replace and before is not None and before.url != url:
        return "takes_over", before
    return None
