"""Names of people are compared without accents and case."""

import pytest

from oracle.names import fold


@pytest.mark.parametrize(
    ("one", "other"),
    [("Rosa Díaz", "rosa DIAZ"), ("Peña", "PENA"), ("Rosa  Di\u0301az ", "Rosa Díaz"), ("Zoë Żak", "zoe zak")],
)
def test_accents_case_and_spaces_do_not_count(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("ဦးအောင်", "ဦးအောင"), ("ခင်", "ခငး"), ("Ana", "Ann")])
def test_other_names_stay_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)
