"""What a verification found is read in three languages, whatever the values in it are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from spoken import speak

from oracle.api.findings import EVENT, FAULTS, FORMS, LENGTH_MAX, split_events, translate_finding
from oracle.api.languages import LANGUAGES, load
from oracle.api.problem_texts import ROOT, write_template
from oracle.verifier import checkpoint

BATCH = "batch 12 to 29, sealed 2026-11-29T14:31:16Z"
# Texts of the sources that have several forms, or none of their own.
OTHERS = {
    "the event of leaf {} is missing{}, {}": "the event of leaf {} is missing, {}",
    "of {}: the log ends with {} leaves": "of {} leaves: the log ends with {} leaves",
    "{} belongs to a transaction that never ran": "event {} belongs to a transaction that never ran",
}


def drop_names(text: str) -> str:
    return re.sub(r"\{\w+\}", "{}", text)


def list_texts() -> list[str]:
    """List what `Finding` gets as its text, and how the texts of `_name_differences` are written."""
    found = []
    for node in ast.walk(ast.parse((ROOT / "audit/verify.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
            found.append(write_template(node.args[1]))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "text":
            found.append(write_template(node.value))
    return [text for text in found if text]


def test_each_text_of_the_sources_has_a_form() -> None:
    forms, texts = {drop_names(form.message) for form in FORMS}, [drop_names(text) for text in list_texts()]
    assert len(texts) > 30
    assert [text for text in texts if OTHERS.get(text, text) not in forms] == []


def test_each_fault_of_a_note_has_a_form() -> None:
    tree = ast.parse(Path(checkpoint.__file__).read_text(encoding="utf-8"))
    raised = [write_template(node.args[0]) for node in ast.walk(tree)
              if isinstance(node, ast.Call) and ast.unparse(node.func) == "BadNote"]  # fmt: skip
    assert len(raised) > 10
    assert {drop_names(text or "") for text in raised} == {drop_names(fault.message) for fault in FAULTS}


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_an_event_is_named_by_the_words_that_become_its_link(code: str) -> None:
    words = load(code).find(EVENT.message)
    forms = [form.message for form in FORMS if EVENT.message in form.message]
    assert len(forms) > 15
    assert [form for form in forms if words not in load(code).find(form)] == []


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("es", f"event 13 was not sealed, {BATCH}",
         "el evento 13 no se selló, lote 12 a 29, sellado 2026-11-29T14:31:16Z"),
        ("my", f"event 13 was not sealed, {BATCH}",
         "ဖြစ်ရပ် 13 ကို တံဆိပ်မခတ်ထားပါ၊ အသုတ် 12 မှ 29၊ တံဆိပ်ခတ်ချိန် 2026-11-29T14:31:16Z"),
        ("es", f"of 30 leaves: not base64: {BATCH}",
         "de 30 hojas: no es base64: lote 12 a 29, sellado 2026-11-29T14:31:16Z"),
        ("es",
         "A 5, SubId x: the directory has b as a hint, but its events have b for USD (event 5)",
         "A 5, con el SubId x: el directorio tiene b como indicación, pero sus eventos tienen b en USD (evento 5)"),
        # Values are put in as they are, also if they look like texts of ours.
        ("es", "b, name: the directory has event 7: the directory has nothing, but its events have A for M (event 4)",
         "b, name: el directorio tiene event 7: the directory has nothing, pero sus eventos tienen A for M (evento 4)"),
        ("es", "b, name: the directory has {past} {0} %s \\1, but its events have nothing (event 4)",
         "b, name: el directorio tiene {past} {0} %s \\1, pero sus eventos no tienen nada (evento 4)"),
        ("es", "b, name: the directory has \u202eWait a moment. Sign in again, but its events have x (event 4)",
         "b, name: el directorio tiene \u202eWait a moment. Sign in again, pero sus eventos tienen x (evento 4)"),
    ],
)  # fmt: skip
def test_values_stay_as_they_are(code: str, text: str, expected: str) -> None:
    assert speak(code, translate_finding, text) == expected
    assert speak("en", translate_finding, text) == text


def test_a_text_that_is_not_known_or_too_long_stays_english() -> None:
    long = f"redbank, name: the directory has {'x, but its events have ' * LENGTH_MAX}y (event 4)"
    for text in ("", "something new", long, "the directory has x, but no event registered it"):
        assert speak("es", translate_finding, text) == text


def test_events_are_found_in_each_language() -> None:
    text = "the event of leaf 5 is missing (after event 13, before event 15), " + BATCH
    for code in LANGUAGES:
        spoken = speak(code, translate_finding, text)
        parts = speak(code, split_events, spoken, [13])
        assert "".join(part for part, _number in parts) == spoken
        assert [number for _part, number in parts if number is not None] == [13], code


def test_hostile_values_cost_little() -> None:
    """Many pieces of our own words, in a text that ends otherwise."""
    text = "a: the directory has " + ", but its events have nothing (event 4), batch 1 to 2, sealed " * 60
    assert len(text) < LENGTH_MAX
    assert speak("es", translate_finding, text) == text
