"""Names of people, `Rosa Díaz (maker of bluebank)`; they are compared without accents and case.

An actor, as history names it, is a credential's id, `oidc:{alias of the issuer}:{sub}` or `gateway:{user}`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

# The accents of Latin, Greek and Cyrillic letters.  Burmese vowels and tones are other characters, and stay.
_ACCENTS: Final = re.compile("[\u0300-\u036f]")


def fold(name: str) -> str:
    """Return the form in which two spellings of one name are equal.  `credentials_named` does the same in SQL."""
    return " ".join(_ACCENTS.sub("", unicodedata.normalize("NFD", name)).split()).casefold()


def fold_look(name: str) -> str:
    """Return the form in which names are equal that differ by wide letters, or by characters that nobody sees, too."""
    return fold("".join(one for one in unicodedata.normalize("NFKC", name) if unicodedata.category(one) != "Cf"))


def name_person(label: str, role: str, fsp_id: str | None) -> str:
    role = role.removeprefix("dfsp-")
    return f"{label} ({role} of {fsp_id})" if fsp_id else f"{label} ({role})"


def find_way(actor: str) -> Literal["key", "oidc", "gateway"]:
    """Return by which way an actor comes in."""
    way = actor.partition(":")[0]
    return "oidc" if way == "oidc" else "gateway" if way == "gateway" else "key"


def name_actor(actor: str, label: str = "") -> str | None:
    """Name an actor that comes in without a key: `4711 (signed in with hub)`; None for any other.

    `label`: that of a key of the same person, in the place of the number that the identity provider uses.
    """
    way = find_way(actor)
    if way == "oidc":
        _, alias, sub = [*actor.split(":", 2), "", ""][:3]
        return f"{label or sub} (signed in with {alias})"
    return f"{label or actor.removeprefix('gateway:')} (through the gateway)" if way == "gateway" else None
