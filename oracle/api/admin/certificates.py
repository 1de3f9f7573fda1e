"""The client certificate of an admin connection, as a call sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NAMES: Final = "certificate_names"  # in the state of a scope: set by `connections`, for a verified certificate alone


def read_certificate_names(scope: Mapping[str, Any]) -> frozenset[str]:
    """Return the names in the verified certificate of the client: its common name, DNS names and URIs.

    Empty without TLS, without a certificate, and where nobody has verified it.
    """
    names: frozenset[str] = scope["state"].get(NAMES, frozenset())
    return names
