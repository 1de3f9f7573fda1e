"""The question that names the word that a person probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean …?`, or nothing if no known name is like it."""
    from oracle.suggestions import find_meant  # noqa: PLC0415 - imports as in cli

    meant = find_meant(name, known)
    return f" Did you mean {' or '.join(meant)}?" if meant else ""
