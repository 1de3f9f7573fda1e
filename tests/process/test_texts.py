"""The texts of the command line: complete, short, and in the words of people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oracle.identifiers import KINDS
from walks.texts import PACKAGE, Text, list_errors, list_help, list_logs

HELP = list(list_help())
COMMANDS = list((PACKAGE / "commands").glob("*.py"))
# Words that a reader in a second language does not expect here, and the plain ones.
UNPLAIN = {
    r"\b(has|have) to\b": "must",
    r"\bmay not\b": "cannot",
    r"\b(is|are) to\b": "must",
    r"\b(is|are|was|were) told\b": "report, print",
    r"\bstands?\b": "is, exists",
    r"\bleft out\b": "default",
    r"\blet in\b": "approve",
    r"\bfor ever\b": "forever",
    r"\bby then\b": "later",
    r"^(What|Who|Whatever|Whoever|Whose)\b(?!.*\?)": "a subject that is a noun",
}
LENGTH_MAX = 230


def test_every_argument_is_explained() -> None:
    assert [place for place, text in HELP if not text] == []


def test_descriptions_are_sentences_and_explanations_are_short() -> None:
    assert len(HELP) > 400
    for place, text in HELP:
        if place.endswith("(description)"):
            assert re.fullmatch(r"[A-Z].*\.", text), (place, text)
        if "(" not in place:
            assert len(text) <= LENGTH_MAX, (place, text)


@pytest.mark.parametrize("pattern", UNPLAIN)
def test_texts_of_commands_use_plain_words(pattern: str) -> None:
    texts = [*HELP, *list_errors(COMMANDS)]
    assert [text for text in texts if re.search(pattern, text.text)] == [], f"write: {UNPLAIN[pattern]}"


def test_help_names_every_kind_of_identifier() -> None:
    (text,) = {text for place, text in HELP if place == "oracle alias add KIND"}
    assert text == f"kind of the identifier: {', '.join(KINDS)}"


def test_the_lists_find_texts_of_each_form(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        'raise CommandError(f"no key in {file}. Look elsewhere")\n'
        'raise Refusal(403, "forbidden", "Your role cannot do this" if role else "Sign in first", hint="Ask for it")\n'
        'class Late(OracleError):\n    default = "Too late now"\n'
        'HINTS = {"late": "Come earlier next time"}\n'
        'print(f"{a}")\n'
        'log.info("The server is ready", port=1)\n'
    )
    found = [text for _, text in list_errors([source])]
    assert sorted(found) == [
        "Ask for it", "Come earlier next time", "Sign in first", "Too late now", "Your role cannot do this",
        "no key in {file}. Look elsewhere",
    ]  # fmt: skip
    assert [text for _, text in list_logs([source])] == ["The server is ready"]


def test_a_text_has_its_place() -> None:
    assert Text("oracle serve --only", "open only this listener (default: both)") in HELP
    places = [place for place, text in list_errors(COMMANDS) if text.startswith("nothing was added")]
    assert places
    assert places[0].startswith("oracle/commands/routes.py:")
