"""The name that a person probably meant, for one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# Verbs that people try for one another.
_SYNONYMS: Final = (
    {"add", "create", "register", "issue", "new"},
    {"remove", "delete", "rm", "del", "revoke", "end", "close"},
    {"show", "get", "view", "info", "describe"},
    {"list", "ls", "all"},
    {"update", "change", "edit", "modify", "set"},
    {"lookup", "find", "search"},
)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean …?`, or nothing if no known name is like it."""
    from difflib import get_close_matches  # noqa: PLC0415 - imports as in cli

    names = {each.lower(): each for each in known}
    asked = name.lower()
    alike = [each for words in _SYNONYMS if asked in words for each in names if each in words]
    close = get_close_matches(asked, names, n=1, cutoff=0.8) or alike or get_close_matches(asked, names, n=1)
    if not close and len(asked) > 1:
        close = [each for each in names if each.startswith(asked)]
    return f" Did you mean {' or '.join(names[each] for each in close)}?" if close else ""
