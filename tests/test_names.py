"""Names of people are compared without accents and case."""

import pytest

from oracle.names import fold, fold_look


@pytest.mark.parametrize(
    ("one", "other"),
    [("Rosa Díaz", "rosa DIAZ"), ("Peña", "PENA"), ("Rosa  Di\u0301az ", "Rosa Díaz"), ("Zoë Żak", "zoe zak")],
)
def test_accents_case_and_spaces_do_not_count(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("ဦးအောင်", "ဦးအောင"), ("ခင်", "ခငး"), ("Ana", "Ann")])
def test_other_names_stay_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@pytest.mark.parametrize("other", ["A\u200bna", "An\u00ada", "\uff21\uff2e\uff21", "\u202aÁna\u202c"])
def test_labels_that_look_the_same_are_one_person(other: str) -> None:
    assert fold_look("Ana") == fold_look(other)
    assert fold_look("Ann") != fold_look(other)
