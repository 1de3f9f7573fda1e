"""People by name: whose key a credential is, and which keys a name means.

A name is the present label of the credential, with its role and its FSP: `Ana (maker of bluebank)`.  So a label that is
changed names everything that was done with the key, also before the change; history keeps the older labels as events.
Several keys with the same name are one person, who got a new key.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, Final, NamedTuple

from litestar.params import QueryParameter
from msgspec import Meta

from oracle.api.admin.calls import Call
from oracle.api.admin.problems import Refusal

PERSON_MAX: Final = 256
LISTED_MAX: Final = 10  # names in one refusal

ByQuery = Annotated[
    str | None,
    QueryParameter(
        name="by", min_length=1, max_length=PERSON_MAX, description="A person: a name, a part of it, or the id of a key"
    ),
]
By = Annotated[
    Annotated[str, Meta(min_length=1, max_length=PERSON_MAX)] | None,
    Meta(description="A person: a name, a part of it, or the id of a key"),
]

_WHOLE_NAME: Final = re.compile(r"(.+) \([^()]+\)")

Rows = Callable[..., Awaitable[list[Any]]]


def name_person(label: str, role: str, fsp_id: str | None) -> str:
    role = role.removeprefix("dfsp-")
    return f"{label} ({role} of {fsp_id})" if fsp_id else f"{label} ({role})"


def name_people(people: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return the name for each id; `people` are rows of id, label, role and FSP ('' for none)."""
    return {credential_id: name_person(label, role, fsp_id) for credential_id, label, role, fsp_id in people}


class Person(NamedTuple):
    """The label of a credential, and the name made of it; None for an actor that is no credential."""

    label: str | None
    name: str | None


NOBODY: Final = Person(None, None)


async def fetch_people(rows: Rows, actors: Iterable[str | None], own: str | None = None) -> dict[str | None, Person]:
    """Fetch those actors that are credentials; with `own`, those of that FSP and of the hub only."""
    wanted = sorted({actor for actor in actors if actor is not None})
    found = await rows("credential_labels", wanted) if wanted else []
    return {
        row["credential_id"]: Person(row["label"], _name(row)) for row in found
        if own is None or row["fsp_id"] in (None, own)
    }  # fmt: skip


async def find_people(call: Call, text: str | None, field: str = "by") -> list[str] | None:
    """Find the credentials that a text names: an id, a label, a whole name, or a part of a label; None for any.

    A caller of one FSP finds people of that FSP, and others only by their whole label.  Raises Refusal if the text
    names nobody, or more than one person.
    """
    if text is None:
        return None
    found = await _find(call, text)
    if not found and (whole := _WHOLE_NAME.fullmatch(text)):
        found = [row for row in await _find(call, whole[1]) if _name(row).casefold() == text.casefold()]
    names = sorted({_name(row).casefold(): _name(row) for row in found}.values())
    if len(names) == 1:
        return [row["credential_id"] for row in found]
    if not names:
        hint = "Use the name of a key as lists show it, a part of that name, or the id of the key"
        raise Refusal(400, "unknown_person", "No key has this name", hint, field=field)
    listed = "; ".join(names[:LISTED_MAX]) + ("; and more" if len(names) > LISTED_MAX else "")
    raise Refusal(
        400, "ambiguous_person", "Several people have this name",
        f"Use one of these names as a whole, or the id of a key: {listed}", field=field,
    )  # fmt: skip


async def _find(call: Call, text: str) -> list[Any]:
    rows = await call.postgres.rows("credentials_named", text, call.caller.fsp_id)
    ids = [row for row in rows if row["credential_id"] == text]
    return ids or [row for row in rows if text.casefold() in (row["label"].casefold(), _name(row).casefold())] or rows


def _name(row: Any) -> str:
    return name_person(row["label"], row["role"], row["fsp_id"])
