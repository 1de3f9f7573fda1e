"""Every text that the hub can get as errorDescription: short enough for FSPIOP, and without personal data."""

from __future__ import annotations

from typing import Final

import pytest
from hub.error_texts import kinds, raise_sites

from oracle import errors
from oracle.api import faults
from oracle.identifiers import BadIdentifier
from oracle.identifiers.errors import EXPLANATIONS

LONGEST_SCHEME: Final = "CLABE prefix"


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
    texts = dict(raise_sites())
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
