"""Decides which FSP answers for an identifier, from its entries and its longest route.  Pure: no I/O, no HTTP.

The rule exists here only.  The hub, the what-if question and the history API all decide by it:

    1. A registered key is answered by one of its entries.  A lookup without a currency takes the default entry.  A
       lookup with a currency takes the entry in that currency, else the entry that answers for every currency.
    2. A key that is registered in other currencies only is answered with nobody.  No route answers in its place.
    3. A key that nobody has registered is answered by the longest route that is valid at the time and fits its kind
       (see `routes`).
    4. An FSP that is suspended or closed answers nobody.  Its entry or route still decides: neither a route nor a
       shorter route answers in its place, because that would send the payment to an FSP known to be the wrong one.

Callers write a suspended or closed FSP as '' (see `cache.values` and `routes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from oracle.store.cache.values import Entry

if TYPE_CHECKING:
    from datetime import datetime

    from oracle.store.history import EntryVersion, RouteVersion, Situation

Reason = Literal[
    "alias",  # an entry answers
    "route",  # a route answers
    "alias_not_answered",  # an entry decides, and its FSP is suspended or closed
    "route_not_answered",  # a route decides, and its FSP is suspended or closed
    "other_currencies",  # the key is registered, but not for the currency of the lookup
    "nobody",  # the key is not registered, and no route is valid for it
]
BY_ENTRY: Final = frozenset({"alias", "alias_not_answered", "other_currencies"})  # reasons that leave no say to routes

# The entry that means "registered in other currencies only".  Like that of a suspended FSP, it names nobody.
OTHER_CURRENCIES: Final = Entry("", "", "")


class Decision(NamedTuple):
    fsp_id: str  # '' for nobody
    currency: str  # of the entry that answers; '' if it answers for every currency, and for a route
    reason: Reason
    entry: Entry | None = None  # the entry that decides: one of those that were given


def choose_entry(entries: Sequence[Entry], sub_id: str, currency: str | None) -> Entry | None:
    """Choose the entry that decides (rules 1 and 2); None if nobody has registered the key, so that routes decide.

    `entries` are all of an identifier, default entries first; `sub_id` is that of the key ('' for none); `currency`
    is that of the lookup (None for none).  Returns OTHER_CURRENCIES itself under rule 2.  Every lookup that the memo of
    the hub does not answer calls this, so it makes no objects.
    """
    chosen = None
    for entry in entries:
        if entry.sub_id == sub_id:
            if currency is None or entry.currency == currency:
                return entry
            if not entry.currency:
                chosen = entry
            elif chosen is None:
                chosen = OTHER_CURRENCIES
    return chosen


def decide(entries: Sequence[Entry], sub_id: str, currency: str | None, route_fsp_id: str | None) -> Decision:
    """Decide with the reason.  `route_fsp_id` is the FSP of the longest valid route; None if there is no such route."""
    entry = choose_entry(entries, sub_id, currency)
    if entry is OTHER_CURRENCIES:
        return Decision("", "", "other_currencies")
    if entry is not None:
        if entry.fsp_id:
            return Decision(entry.fsp_id, entry.currency, "alias", entry)
        return Decision("", "", "alias_not_answered", entry)
    if route_fsp_id is None:
        return Decision("", "", "nobody")
    return Decision(route_fsp_id, "", "route" if route_fsp_id else "route_not_answered")


# In the past ------------------------------------------------------------------------------------------------------


class Resolution(NamedTuple):
    """A decision about an instant of the past, with the evidence for it."""

    fsp_id: str  # '' for nobody
    currency: str  # '' for every currency
    reason: Reason
    held: EntryVersion | None  # the entry that decided
    rule: RouteVersion | None  # the route that decided
    events: list[Any]  # that led to it, in their order


def resolve(situation: Situation, sub_id: str, currency: str | None, at: datetime) -> Resolution:
    """Decide as the hub did at an instant.  `sub_id` of the key ('' for none), `currency` of the lookup or None."""
    entries, rule = situation.list_cached_entries(), situation.find_route(at)
    decision = decide(entries, sub_id, currency, None if rule is None else situation.mask_fsp(rule.fsp_id))
    held, events = None, []
    if decision.entry is not None:
        held = situation.list_entries()[entries.index(decision.entry)]
        events = [held.event, _status_event(situation, held.entry.fsp_id)]
    elif decision.reason == "other_currencies":
        events = [each.event for each in situation.list_entries() if each.entry.sub_id == sub_id]
    else:
        events = [situation.find_last_event(sub_id)]
        if rule is not None:
            events += [rule.event, _status_event(situation, rule.fsp_id)]
    if decision.reason in BY_ENTRY:
        rule = None
    return Resolution(decision.fsp_id, decision.currency, decision.reason, held, rule, _sort(events))


def _status_event(situation: Situation, fsp_id: str) -> Any:
    status = situation.statuses.get(fsp_id)
    return None if status is None else status.event


def _sort(events: Sequence[Any]) -> list[Any]:
    return sorted((event for event in events if event is not None), key=lambda event: event["event_id"])
