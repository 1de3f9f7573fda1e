"""Forms that change a thing, while somebody else can change it too.

Seen.       The form carries the values that the person saw, in a hidden field.  Only what the person changed is sent.
Meanwhile.  When the version of the person is outdated, the form comes back: with the values of now, with the person's
            own changes kept, and with a list of what somebody else changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.languages import Text

Values = dict[str, str]  # of the fields of a form, by name; a mapping of the same names in every function here


class Meanwhile(NamedTuple):
    """A field that somebody else changed."""

    label: Text
    seen: str
    now: str
    wanted: str  # '': the person did not change it


def write_seen(values: Mapping[str, str]) -> str:
    """Write what the person sees, for the hidden field `seen`."""
    return msgspec.json.encode(values).decode()


def read_seen(text: str, empty: Values) -> Values:
    """Read what the person saw.  From anything that is not the field `seen`, return `empty`: they saw nothing."""
    try:
        return empty | msgspec.json.decode(text, type=Values)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return dict(empty)


def merge(seen: Mapping[str, str], now: Mapping[str, str], wanted: Mapping[str, str]) -> Values:
    """Keep what the person changed, and take the values of now for the rest."""
    return {name: wanted[name] if wanted[name] != seen[name] else now[name] for name in now}


def list_meanwhile(
    labels: Mapping[str, Text], seen: Mapping[str, str], now: Mapping[str, str], wanted: Mapping[str, str]
) -> list[Meanwhile]:
    """List what somebody else changed since the person saw it."""
    return [
        Meanwhile(labels[name], seen[name], now[name], wanted[name] if wanted[name] != seen[name] else "")
        for name in now
        if now[name] != seen[name]
    ]
