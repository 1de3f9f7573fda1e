"""Prefixes of canonical identifiers as text: the routes that can take an identifier, and the range under a prefix."""

from typing import NamedTuple


class RoutePrefix(NamedTuple):
    """What a route answers: identifiers of this kind that begin with this prefix."""

    party_id_type: str
    kind: str
    prefix: str  # canonical


def list_prefixes(identifier: str) -> list[str]:
    """Return everything the identifier begins with, shortest first, itself last."""
    return [identifier[:length] for length in range(1, len(identifier) + 1)]


def bound_above(prefix: str) -> str:
    """Return a text above everything that begins with this prefix, by code points."""
    return prefix + "\U0010ffff"
