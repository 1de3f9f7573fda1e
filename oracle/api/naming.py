"""Names roles, people and states in the language of a person, and writes a label before its value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from oracle.api.languages import SOURCE, Lazy, _, language, lazy

ROLES: Final[Mapping[str, Lazy]] = {
    "operator": lazy("Operator of the hub"),
    "dfsp-maker": lazy("Maker"),
    "dfsp-checker": lazy("Checker"),
    "auditor": lazy("Auditor"),
    "reader": lazy("Reader"),
}
# States of files, and of changes that wait for a second person.
BATCH_STATES: Final[Mapping[str, Lazy]] = {
    "validating": lazy("Checking"),
    "waiting": lazy("Waiting for approval"),
    "applying": lazy("Processing"),
    "done": lazy("Complete"),
    "rejected": lazy("Rejected"),
    "cancelled": lazy("Cancelled"),
    "failed": lazy("Not accepted"),
}
# What a person did with one.
DECISIONS: Final[Mapping[str, Lazy]] = {
    "approved": lazy("Approved"), "rejected": lazy("Rejected"), "cancelled": lazy("Cancelled"),
}  # fmt: skip
_SEPARATORS: Final = {"my": " - "}  # as Unicode's CLDR has it (category-list), and sites of banks write it
# People, as `oracle.names` names them; each form with what it says in brackets.
_PEOPLE: Final = (
    (re.compile(r"(?P<name>.+) \((?P<role>operator|maker|checker|auditor|reader) of (?P<fsp>[^\s()]+)\)", re.DOTALL),
     lazy("{name} ({role} of {fsp})")),
    (re.compile(r"(?P<name>.+) \((?P<role>operator|maker|checker|auditor|reader)\)", re.DOTALL),
     lazy("{name} ({role})")),
    (re.compile(r"(?P<name>.+) \(signed in with (?P<provider>[a-z0-9-]+)\)", re.DOTALL),
     lazy("{name} (signed in with {provider})")),
    (re.compile(r"(?P<name>.+) \(through the gateway\)", re.DOTALL), lazy("{name} (through the gateway)")),
)  # fmt: skip
_PLACE: Final = re.compile(r"\{(\w+)\}")


def join_label(label: str, value: str) -> str:
    """Write a value behind its name: `Reason: fraud`."""
    return f"{label}{_SEPARATORS.get(language.get(), ': ')}{value}"


def name_role(role: str) -> str:
    """Name a role; one that is not known here stays as it is."""
    return str(ROLES.get(str(role), role))


def name_person(name: str) -> str:
    """Write the name of a person of the API, `Ana (maker of bluebank)`, with the role in the language of the reader."""
    if language.get() == SOURCE:
        return name
    for pattern, message in _PEOPLE:
        if found := pattern.fullmatch(name):
            values = found.groupdict()
            if "role" in values:
                values["role"] = _list_roles()[values["role"]]
            return _fill(str(message), values)
    return name


def read_person(text: str) -> str:
    """Read what `name_person` wrote, for a question to the API; any other text stays as it is."""
    if language.get() == SOURCE:
        return text
    for _pattern, message in _PEOPLE:
        words = _PLACE.split(str(message))
        pattern = "".join(f"(?P<{part}>.+)" if at % 2 else re.escape(part) for at, part in enumerate(words))
        if found := re.fullmatch(pattern, text, re.DOTALL | re.IGNORECASE):
            values = found.groupdict()
            if "role" in values:
                roles = {name.casefold(): role for role, name in _list_roles().items()}
                if values["role"].casefold() not in roles:
                    continue
                values["role"] = roles[values["role"].casefold()]
            return _fill(message.message, values)
    return text


def _fill(message: str, values: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: values[place[1]], message)


def _list_roles() -> dict[str, str]:
    """List the roles as they are named in brackets: `maker of bluebank`."""
    return {role.removeprefix("dfsp-"): str(name).lower() for role, name in ROLES.items()}


def name_roles(text: str) -> str:
    """Name the roles of a list: `operator, auditor or reader`."""
    *some, last = map(name_role, re.split(", | or ", text))
    return _("{some} or {last}").format(some=", ".join(some), last=last) if some else last
