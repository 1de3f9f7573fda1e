"""Writes what a request must look like, in words for people, from what the validator found wrong.

The validator quotes the request, which may hold an identifier; its quote can be cut, with no quote mark at its end.  So
nothing of a quote is shown: what it expected comes from the description of the operation alone.
"""

from __future__ import annotations

import ast
import re
from typing import Any, Final

from msgspec import inspect

from oracle.api.admin.forms import FORMS

INVALID_ENUM: Final = "Invalid enum value"
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_NO_BODY: Final = "'data'"  # Litestar's words for a body of no bytes: the name of our handlers' argument
_UNKNOWN: Final = "Object contains unknown field"
_QUOTED: Final = re.compile(r"""['"].*|(?<=field )`.*""", re.DOTALL)
_types_in_backticks: Final = re.compile("`([^`]*)`")
_pattern: Final = re.compile(r"""text matching regex (['"].*['"])""", re.DOTALL)
_length: Final = re.compile(r"(text|a list) of length (<=|>=) (\d+)")
_limit: Final = re.compile(r"(a whole number|a number) (<=|>=|<|>) (-?[\d.]+)")
_BOUNDS: Final = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
# The validator's names of types, and what people read.
_TYPES: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "an object",
    "str": "text",
}
_STEPS: Final = re.compile(r"\[[^\]]*\]|[^.\[\]]+")


def name_member(key: str, message: str) -> str:
    """Return the member that is wrong; `data` is the name of the whole body in our handlers."""
    missing = _MISSING.match(message)
    if missing:
        return missing[1] if key == "data" else f"{key}.{missing[1]}"
    return "the body" if key == "data" else key


def explain(message: str, allowed: list[str]) -> str:
    """Return what is wrong with a member; `allowed` are its values, where they are a closed list."""
    if message.startswith("Expected "):
        return _write_plainly(message)
    if message.startswith(INVALID_ENUM):
        return f"Expected one of {', '.join(allowed)}" if allowed else "Its value is not one of those allowed"
    if _MISSING.match(message):
        return "It is missing: add it"
    if message == _NO_BODY:
        return "It is missing: send an object in JSON, at least {}"
    if message.startswith(_UNKNOWN):
        return "It has a member that is not known: remove it, or correct its name"
    return _QUOTED.sub("…", message)


def _write_plainly(expected: str) -> str:
    text = _types_in_backticks.sub(
        lambda types: " or ".join(_TYPES.get(each, each) for each in types[1].split(" | ")), expected
    )
    text = _pattern.sub(lambda found: FORMS.get(_unquote(found[1]), "another form of text: see the page /docs"), text)
    text = _length.sub(lambda found: f"{found[1]} of {_BOUNDS[found[2]]} {_count(found[1], found[3])}", text)
    return _limit.sub(lambda found: f"{found[1]} of {_BOUNDS[found[2]]} {found[3]}", text)


def _count(what: str, number: str) -> str:
    unit = "character" if what == "text" else "item"
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"


def _unquote(literal: str) -> str:
    try:
        return str(ast.literal_eval(literal))
    except (SyntaxError, ValueError):
        return ""


# Closed lists of values -------------------------------------------------------------------------------------------


def list_allowed(annotation: Any, path: str = "") -> list[str]:
    """Return the values that the type allows at this path, such as `kinds[0]`; none if it is no closed list."""
    nodes = [inspect.type_info(annotation)]
    for step in _STEPS.findall(path):
        nodes = [inner for node in nodes for inner in _enter(node, step)]
    return [str(value) for node in nodes for each in _unwrap(node) for value in _list_values(each)]


def _enter(node: inspect.Type, step: str) -> list[inspect.Type]:
    found: list[inspect.Type] = []
    for each in _unwrap(node):
        if isinstance(each, (inspect.ListType, inspect.CollectionType)) and step.startswith("["):
            found.append(each.item_type)
        elif isinstance(each, inspect.StructType):
            found += [field.type for field in each.fields if field.encode_name == step]
    return found


def _unwrap(node: inspect.Type) -> list[inspect.Type]:
    if isinstance(node, inspect.Metadata):
        return _unwrap(node.type)
    if isinstance(node, inspect.UnionType):
        return [inner for each in node.types for inner in _unwrap(each)]
    return [node]


def _list_values(node: inspect.Type) -> list[Any]:
    if isinstance(node, inspect.LiteralType):
        return list(node.values)
    return [member.value for member in node.cls] if isinstance(node, inspect.EnumType) else []
