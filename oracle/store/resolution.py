"""The answer that the hub would have had, from what stood around an identifier at an instant (store/history).

The same functions choose the entry as for a lookup (api/answers), so the two cannot come apart: the default entry
without a currency, else the one of that currency, else the one for all; a key that somebody holds in other currencies
is answered with nobody, and no route in its place; so is an entry, and a rule, of an FSP that is suspended or closed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple

from oracle.api.hub import answers
from oracle.store.cache.values import Entry
from oracle.store.history import EntryVersion, RouteVersion, Situation

# Why: an entry; a route; an entry or a route whose FSP was not answered; held in other currencies only; nobody.
Reason = Literal["alias", "route", "alias_not_answered", "route_not_answered", "other_currencies", "nobody"]


class Resolution(NamedTuple):
    fsp_id: str  # '' nobody
    currency: str  # '' none said
    reason: Reason
    held: EntryVersion | None  # the entry that decided
    rule: RouteVersion | None  # the route that decided
    events: list[Any]  # that made it so, in their order

    def body(self, asked_sub_id: str | None) -> bytes:
        """As the hub would have got it."""
        return answers.body_of(self.fsp_id, self.currency, asked_sub_id)


def resolve(stood: Situation, sub_id: str, currency: str | None, at: datetime) -> Resolution:
    """`sub_id` of the key ('' for none), `currency` as asked (None for none)."""
    entries = stood.list_cached_entries()
    entry = answers.chosen(entries, sub_id, currency)
    if entry is not None:
        return _by_entry(stood, stood.list_entries()[entries.index(entry)], entry)
    if answers.has_key(entries, sub_id):
        held = [each for each in stood.list_entries() if each.entry.sub_id == sub_id]
        return Resolution("", "", "other_currencies", None, None, _in_order(*(each.event for each in held)))
    rule = stood.find_route(at)
    gone = stood.find_last_event(sub_id)
    if rule is None:
        return Resolution("", "", "nobody", None, None, _in_order(gone))
    fsp_id = stood.mask_fsp(rule.fsp_id)
    reason: Reason = "route" if fsp_id else "route_not_answered"
    return Resolution(fsp_id, "", reason, None, rule, _in_order(gone, rule.event, _status(stood, rule.fsp_id)))


def _by_entry(stood: Situation, held: EntryVersion, entry: Entry) -> Resolution:
    reason: Reason = "alias" if entry.fsp_id else "alias_not_answered"
    events = _in_order(held.event, _status(stood, held.entry.fsp_id))
    return Resolution(entry.fsp_id, entry.currency if entry.fsp_id else "", reason, held, None, events)


def _status(stood: Situation, fsp_id: str) -> Any:
    status = stood.statuses.get(fsp_id)
    return None if status is None else status.event


def _in_order(*events: Any) -> list[Any]:
    return sorted((event for event in events if event is not None), key=lambda event: event["event_id"])
