"""People by name: who an actor is, and which actors a name means.

Key.      The name is the present label of the credential, with its role and its FSP: `Ana (maker of bluebank)`.  So a
          label that is changed names everything that was done with the key, also before the change; history keeps the
          older labels as events.  Several keys with the same name are one person, who got a new key.
Others.   `4711 (signed in with hub)`, `4711 (through the gateway)`: what history records of them is all that we know.
          If a key is of the same person, its label replaces the number: `Ana (signed in with hub)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, NamedTuple

from litestar.params import QueryParameter
from msgspec import Meta

from oracle.api.admin.calls import Call
from oracle.api.admin.problems import Refusal
from oracle.names import fold, name_actor, name_person
from oracle.store.postgres import Rows

ACTOR_MAX: Final = 320  # of an identity provider: oidc:, an alias of up to 32 characters, and a subject of up to 255
LISTED_MAX: Final = 10  # names in one refusal

_BY: Final = "A person: a name, a part of it, the id of a key, or an actor as history has it"
ByQuery = Annotated[
    str | None,
    QueryParameter(name="by", min_length=1, max_length=ACTOR_MAX, description=_BY),
]
By = Annotated[
    Annotated[str, Meta(min_length=1, max_length=ACTOR_MAX)] | None,
    Meta(description=_BY),
]

_WHOLE_NAME: Final = re.compile(r"(.+) \([^()]+\)")
_OUTSIDE_NAME: Final = re.compile(r"(.+) \((?:signed in with ([a-z0-9-]+)|through the gateway)\)")


def name_people(people: Iterable[Sequence[str]], actors: Iterable[str | None]) -> dict[str | None, str]:
    """Name each actor that has a name; `people` are rows of id, label, role, FSP and person ('' for none)."""
    keys: dict[str, str] = {}
    labels: dict[str, str] = {}
    for credential_id, label, role, fsp_id, person in people:
        keys[credential_id] = name_person(label, role, fsp_id)
        labels.setdefault(person, label)
    named = {actor: keys.get(actor) or name_actor(actor, labels.get(actor, "")) for actor in actors if actor}
    return {actor: name for actor, name in named.items() if name is not None}


class Person(NamedTuple):
    """The label of a credential, and the name made of it; None for an actor that is neither credential nor person."""

    label: str | None
    name: str | None


NOBODY: Final = Person(None, None)


async def fetch_people(
    rows: Rows, actors: Iterable[str | None], own: frozenset[str] | None = None
) -> dict[str | None, Person]:
    """Fetch those actors that have a name; with `own`, use the labels of keys of these FSPs and of the hub only."""
    wanted = sorted({actor for actor in actors if actor is not None})
    found = await rows("credential_labels", wanted) if wanted else []
    people: dict[str | None, Person] = {}
    labels: dict[str, str] = {}
    for row in found:
        if own is None or row["fsp_id"] is None or row["fsp_id"] in own:
            people[row["credential_id"]] = Person(row["label"], _name(row))
            labels.setdefault(row["person"], row["label"])
    for actor in wanted:
        name = name_actor(actor, labels.get(actor, ""))
        if name is not None:
            people[actor] = Person(labels.get(actor), name)
    return people


async def find_people(call: Call, text: str | None, field: str = "by") -> list[str] | None:
    """Find the actors that a text names: an id, a label, a whole name, or a part of a label; None for any.

    They are keys, and the persons of these keys, whichever way they came in.  Accents and case do not count, unless the
    text is the exact spelling of a name.  A caller of some FSPs finds people of these, and others only by their
    whole label.  Raises Refusal if the text names nobody, or more than one person.
    """
    if text is None:
        return None
    if name_actor(text) is not None:
        return list({text: None} | dict.fromkeys(row["credential_id"] for row in await _rows(call, text)))
    if outside := _OUTSIDE_NAME.fullmatch(text):
        return await _find_outside(call, outside[1], outside[2])
    found = await _find(call, text)
    if not found and (whole := _WHOLE_NAME.fullmatch(text)):
        found = [row for row in await _find(call, whole[1]) if fold(_name(row)) == fold(text)]
        found = _prefer_exact(found, text)
    names = sorted({_name(row).casefold(): _name(row) for row in found}.values())
    if len(names) == 1:
        persons = (row["person"] for row in found if row["person"] is not None)
        return list(dict.fromkeys([*(row["credential_id"] for row in found), *persons]))
    if not names:
        hint = "Use the name of a person as lists show it, a part of that name, or the id of a key"
        raise Refusal(400, "unknown_person", "No key has this name", hint, field=field)
    listed = "; ".join(names[:LISTED_MAX]) + ("; and more" if len(names) > LISTED_MAX else "")
    raise Refusal(
        400, "ambiguous_person", "Several people have this name",
        f"Use one of these names as a whole, or the id of a key: {listed}", field=field,
    )  # fmt: skip


async def _find(call: Call, text: str) -> list[Any]:
    rows = await _rows(call, text)
    ids = [row for row in rows if row["credential_id"] == text]
    whole = [row for row in rows if fold(text) in map(fold, (row["label"], _name(row)))]
    return ids or _prefer_exact(whole, text) or rows


async def _find_outside(call: Call, name: str, alias: str | None) -> list[str]:
    """Find the actors of a name without a key: `alias` is that of the issuer, None for the gateway."""
    way = "gateway:" if alias is None else f"oidc:{alias}:"
    found = [row["person"] for row in await _rows(call, name) if fold(row["label"]) == fold(name)]
    return list(dict.fromkeys([way + name, *(person for person in found if person and person.startswith(way))]))


async def _rows(call: Call, text: str) -> list[Any]:
    return await call.postgres.rows("credentials_named", text, call.list_fsps())


def _prefer_exact(found: list[Any], text: str) -> list[Any]:
    """Return those who are spelled like this, accents included; all if there are none."""
    spelled = [row for row in found if text.casefold() in (row["label"].casefold(), _name(row).casefold())]
    return spelled or found


def _name(row: Any) -> str:
    return name_person(row["label"], row["role"], row["fsp_id"])
