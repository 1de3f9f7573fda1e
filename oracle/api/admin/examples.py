"""Puts an example beside each request and each answer of the published description.

schemas/admin.examples.json holds them, captured from a running oracle: by the name of a component, and where the body
has none by operation and media type (`uploadBatch.request`, `getTemplate.text/csv`).  Problems are made from `codes`.
A test validates each example against its schema, and holds that none is missing.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import msgspec

from oracle.api.admin.codes import MEANINGS, Code
from oracle.api.admin.problems import MEDIA_TYPE, Refusal

_COMPONENT: Final = "#/components/schemas/"
_EXAMPLE: Final = "#/components/examples/"
# The code that a reader meets first with each status.
_CODES: Final[dict[int, Code]] = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "held_elsewhere",
    410: "file_deleted",
    412: "version_mismatch",
    413: "too_large",
    429: "too_many_failures",
    502: "als_failed",
    503: "unavailable",
}


def add_examples(document: dict[str, Any]) -> dict[str, Any]:
    """Add examples to an OpenAPI document, in place: each once, under components."""
    known = _load()
    used: dict[str, Any] = {}
    for item in document["paths"].values():
        for operation in item.values():
            for name, media in _bodies(operation):
                if name in known:
                    media["examples"] = {"example": {"$ref": _EXAMPLE + _spell(name)}}
                    used[_spell(name)] = {"value": known[name]}
    document["components"]["examples"] = used
    return document


def _load() -> dict[str, Any]:
    found = files("oracle.schemas").joinpath("admin.examples.json").read_bytes()
    examples: dict[str, Any] = msgspec.json.decode(found)
    for status, code in _CODES.items():
        problem = Refusal(status, code, MEANINGS[code].title, MEANINGS[code].remedy).problem()
        examples[f"Problem.{status}"] = msgspec.to_builtins(problem)
    return examples


def _bodies(operation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """List the bodies of an operation, each with the name of its example."""
    bodies = [
        (_component(media) or f"{operation['operationId']}.request", media)
        for media in operation.get("requestBody", {}).get("content", {}).values()
    ]
    for status, answer in operation["responses"].items():
        for media_type, media in answer.get("content", {}).items():
            if media_type == MEDIA_TYPE:
                bodies.append((f"Problem.{status}", media))
            else:
                bodies.append((_component(media) or f"{operation['operationId']}.{media_type}", media))
    return bodies


def _component(media: dict[str, Any]) -> str:
    reference: str = media.get("schema", {}).get("$ref", "")
    return reference.removeprefix(_COMPONENT)


def _spell(name: str) -> str:
    """Spell a name as a component can have it."""
    return name.replace("/", "-").replace("+", "-")
