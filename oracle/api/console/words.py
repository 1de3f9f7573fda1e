"""Words of the API, as people read them; filters of the templates: {{ caller.role | role }}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oracle.api.console.languages import Lazy, lazy

ROLES: Final[Mapping[str, Lazy]] = {
    "operator": lazy("Operator of the hub"),
    "dfsp-maker": lazy("Maker"),
    "dfsp-checker": lazy("Checker"),
    "auditor": lazy("Auditor"),
    "reader": lazy("Reader"),
}


def name_role(role: str) -> str:
    """Name a role; one that is not known here stays as it is."""
    return str(ROLES.get(str(role), role))
