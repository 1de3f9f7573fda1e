"""Every text that the hub can get as errorDescription: short enough for FSPIOP, and without personal data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import oracle
from oracle import errors
from oracle.api.hub import faults, wire
from oracle.identifiers import BadIdentifier
from oracle.identifiers.errors import EXPLANATIONS

PACKAGE: Final = Path(oracle.__file__).parent
# The code that a request to the hub can reach.
SOURCES: Final = [*(PACKAGE / "api" / "hub").rglob("*.py"), *(PACKAGE / "store").rglob("*.py")]
# A text is fixed but for these names of elements and numbers of ours, each with its longest value.
INTERPOLATIONS: Final = {
    "name": "partySubIdOrType",
    "name.decode()": "fspiop-destination",
    "wire.BULK_MAX": str(wire.BULK_MAX),
}
LONGEST_SCHEME: Final = "CLABE prefix"


def kinds(root: type[Exception] = errors.OracleError) -> Iterator[type[Exception]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def raised() -> Iterator[tuple[str, str]]:
    """The place and the text of every error that is made with a text of its own."""
    names = {kind.__name__ for kind in kinds()}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in names:
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", spell(node.args[0])


def spell(argument: ast.expr) -> str:
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


def check(text: str) -> None:
    assert 1 <= len(text) <= faults.DESCRIPTION_MAX
    assert text.isprintable()
    assert text[0].isupper() or text.split(" ", 1)[0] in {"fspId", "partyIdType", "partyList", "partySubIdOrType"}
    assert not text.endswith(".")


@pytest.mark.parametrize("kind", list(kinds()))
def test_the_default_text_of_an_error_fits(kind: type[errors.OracleError]) -> None:
    check(kind.default)
    assert faults.describe(kind())[1].error_description == kind.default


def test_every_text_written_at_a_raise_fits() -> None:
    texts = dict(raised())
    assert len(texts) > 30
    for place, text in texts.items():
        try:
            check(text)
        except AssertionError as exc:
            raise AssertionError(f"{place}: {text}") from exc


@pytest.mark.parametrize("reason", sorted(EXPLANATIONS))
def test_every_text_about_an_identifier_fits(reason: str) -> None:
    text = str(BadIdentifier(reason, LONGEST_SCHEME))  # type: ignore[arg-type]
    assert text.isprintable()
    assert faults.describe(BadIdentifier(reason, LONGEST_SCHEME))[1].error_description == text  # type: ignore[arg-type]


def test_an_unknown_exception_shows_nothing_of_itself() -> None:
    status, information = faults.describe(ValueError("525512345678"))
    assert (status, information) == (500, faults.ErrorInformation("2001", "Internal server error"))


def test_every_error_has_a_status_and_a_code_of_its_own_kind() -> None:
    for kind in kinds():
        status, information = faults.describe(kind())
        assert (status == 500) == (kind is errors.OracleError)
        assert (status, information.error_code) in faults.FAULTS.values()
