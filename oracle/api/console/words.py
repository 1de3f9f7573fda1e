"""Words of the API, as people read them; filters of the templates: {{ caller.role | role }}, {{ kind | kind }},
{{ event.action | action }}, {{ event.channel | channel }}, {{ ui.badge(batch | batch_state, batch | batch_kind) }}.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from oracle.api import naming
from oracle.api.console.formats import DASH
from oracle.api.console.languages import Lazy, Text, _, lazy
from oracle.identifiers import KINDS, PARTY_ID_TYPES

# Names of standards stay as they are.
KIND_NAMES: Final[Mapping[str, Text]] = {
    "MSISDN": lazy("Phone number"),
    "CLABE": "CLABE",
    "NRC": "NRC",
    "IBAN": "IBAN",
    "ACCOUNT_ID": lazy("Account number"),
    "EMAIL": lazy("Email"),
    "PERSONAL_ID": lazy("Personal document"),
    "BUSINESS": lazy("Business"),
    "DEVICE": lazy("Device"),
    "ALIAS": lazy("Chosen name"),
}


def name_kind(kind: str | None) -> str:
    """Name a kind of identifiers; one that is not known here stays as it is."""
    return str(KIND_NAMES.get(str(kind), kind or ""))


def list_kinds(allowed: Collection[str] | None = None) -> list[tuple[str, str]]:
    """List kinds and their names, for ui.select; with `allowed`, those and the narrower ones, as an FSP names them."""
    return [
        (kind, name_kind(kind))
        for kind in KINDS
        if allowed is None or kind in allowed or PARTY_ID_TYPES[kind] in allowed
    ]


def name_currency(code: str | None) -> str:
    """Name the currency of an entry; None: it answers for every currency."""
    return code or _("Every currency")


# What an event did, and how it came in.
ACTIONS: Final[Mapping[str, Lazy]] = {
    "registered": lazy("Registered"),
    "changed": lazy("Changed"),
    "removed": lazy("Removed"),
    "ignored": lazy("Ignored"),
}
CHANNELS: Final[Mapping[str, Lazy]] = {
    "hub": lazy("By the hub"),
    "account-lookup": lazy("By the account lookup"),
    "admin": lazy("By hand"),
    "import": lazy("By a file"),
    "self-heal": lazy("By automatic repair"),
    "seed": lazy("By test data"),
    "sql": lazy("In the database"),
}


def name_action(action: str) -> str:
    return str(ACTIONS.get(str(action), action))


def name_channel(channel: str) -> str:
    return str(CHANNELS.get(str(channel), channel))


STATUSES: Final[Mapping[str, Lazy]] = {
    "active": lazy("Active"),
    "provisional": lazy("Provisional"),
    "suspended": lazy("Suspended"),
    "closed": lazy("Closed"),
}


def name_status(status: str | None) -> str:
    """Name the status of an FSP."""
    return str(STATUSES.get(str(status), status or ""))


# What the change of one alias does, if it waits for a second person.
CHANGES: Final[Mapping[str, Lazy]] = {
    "add": lazy("Add an alias"),
    "update": lazy("Change an alias"),
    "remove": lazy("Remove an alias"),
}


def name_change(action: str) -> str:
    return str(CHANGES.get(str(action), action))


# States of files, and of changes that wait for a second person.  Each with the kind of its badge.
_KINDS_OF_STATES: Final = {"waiting": "warn", "done": "good", "rejected": "bad", "failed": "bad"}
BATCH_STATES: Final[Mapping[str, tuple[Lazy, str]]] = {
    state: (name, _KINDS_OF_STATES.get(state, "plain")) for state, name in naming.BATCH_STATES.items()
}
_SOME_FAILED: Final = lazy("Complete, some failed")
_ALL_FAILED: Final = lazy("Complete, all failed")


def name_batch_state(batch: Mapping[str, Any]) -> str:
    """Name the state of a batch of the API."""
    if batch["state"] == "done" and batch["rows"]["failed"]:
        return str(_SOME_FAILED if batch["rows"]["applied"] else _ALL_FAILED)
    return str(BATCH_STATES[batch["state"]][0])


def rate_batch_state(batch: Mapping[str, Any]) -> str:
    """Return the kind of the badge for ui.badge."""
    if batch["state"] == "done" and batch["rows"]["failed"]:
        return "warn" if batch["rows"]["applied"] else "bad"
    return BATCH_STATES[batch["state"]][1]


# Why an alias was removed; other reasons are what a person wrote.
REMOVAL_REASONS: Final[Mapping[str, Lazy]] = {
    "user_requested": lazy("The customer asked for it"),
    "account_closed": lazy("The account is closed"),
    "moved": lazy("The customer moved to another FSP"),
    "fraud": lazy("Fraud"),
    "correction": lazy("It was registered by mistake"),
    "other": lazy("Another reason"),
}


def name_reason(reason: str | None) -> str:
    return str(REMOVAL_REASONS.get(str(reason), reason or ""))


# Words of a User-Agent, each before those that others have too.
_BROWSERS: Final = {"Edg": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
_SYSTEMS: Final = {
    "Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Windows": "Windows", "Mac OS": "macOS", "Linux": "Linux",
}  # fmt: skip


def name_browser(user_agent: str) -> str:
    """Name a browser and its system, from what it says of itself.  Most name others before themselves."""
    browser = next((name for word, name in _BROWSERS.items() if word in user_agent), "")
    system = next((name for word, name in _SYSTEMS.items() if word in user_agent), "")
    return ", ".join(filter(None, (browser, system))) or user_agent[:40] or DASH
