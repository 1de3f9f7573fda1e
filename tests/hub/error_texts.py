"""Every text that can become an errorDescription of the hub, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import oracle
from oracle import errors
from oracle.api.hub import wire

PACKAGE: Final = Path(oracle.__file__).parent
# The code that a request to the hub can reach.
FOLDERS: Final = (PACKAGE / "api" / "hub", PACKAGE / "api" / "http", PACKAGE / "store")
SOURCES: Final = [file for folder in FOLDERS for file in folder.rglob("*.py")]
# A text is fixed but for these names of elements and numbers of ours, each with its longest value.
INTERPOLATIONS: Final = {
    "name": "partySubIdOrType",
    "name.decode()": "fspiop-source",
    "wire.BULK_MAX": str(wire.BULK_MAX),
}


def kinds(root: type[errors.OracleError] = errors.OracleError) -> Iterator[type[errors.OracleError]]:
    """Find the errors of the hub's code, without those of administration, which tests may have imported as well."""
    if root.__module__.startswith(("oracle.errors", "oracle.api.hub", "oracle.api.http", "oracle.store")):
        yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def raise_sites() -> Iterator[tuple[str, str]]:
    """Find the place and the text of every error that is made with a text of its own."""
    names = {kind.__name__ for kind in kinds()}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in names:
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", _spell(node.args[0])


def _spell(argument: ast.expr) -> str:
    if isinstance(argument, ast.Constant):
        assert isinstance(argument.value, str)
        return argument.value
    assert isinstance(argument, ast.JoinedStr), "a text of the hub is written where it is raised"
    parts = []
    for part in argument.values:
        if isinstance(part, ast.FormattedValue):
            parts.append(INTERPOLATIONS[ast.unparse(part.value)])
        else:
            assert isinstance(part, ast.Constant)
            parts.append(str(part.value))
    return "".join(parts)
