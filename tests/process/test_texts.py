"""The texts of the command line: complete, short, and in the words of people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oracle.commands.words import API_WORDS
from oracle.identifiers import KINDS
from walks.texts import PACKAGE, Failure, Text, list_errors, list_failures, list_help, list_logs

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
    assert Text("oracle serve --only", "open only this listener (default: all that the settings turn on)") in HELP
    places = [place for place, text in list_errors(COMMANDS) if text.startswith("nothing was added")]
    assert places
    assert places[0].startswith("oracle/commands/routes.py:")


# Every error that a person can meet ---------------------------------------------------------------------------------

VALUE = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
PATTERN = re.compile(r"\^\[|\[[A-Za-z0-9]-[A-Za-z0-9]|\{\d+,|\\[dwsb]|regex|\(\?[:!=]")
PYTHON = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b|\b[A-Z]\w+(?:Error|Exception)\b|\bNone\b|\bTrue\b|__|\blambda\b")
# Names with an underscore that people see elsewhere: columns of files, members, programs, settings of PostgreSQL.
SEEN_ELSEWHERE = {
    "sub_id", "township_mm", "township_en", "pg_dump", "pg_hba", "max_connections", "ssl_cert_reqs", "ssl_ca_certs",
    "require_auth", "channel_binding", "target_session_attrs", "password_encryption",
}  # fmt: skip
# A step for the reader: a verb in the imperative, a duty, or a choice.
STEP = re.compile(
    r"\b(add|approve|ask|begin|check|choose|close|convert|copy|correct|create|delete|divide|do|download|dump|end|enter"
    r"|export|fill|find|format|give|import|install|issue|keep|leave|list|look|make|move|name|open|put|raise|read|remove"
    r"|reset|restart|restore|run|save|see|select|send|set|shorten|start|stop|swap|take|try|type|unpack|update|upload|use|wait"
    r"|write|must|cannot|needs?|only|instead|example|exactly|belongs?|`oracle [a-z]+)\b",
    re.IGNORECASE,
)
# Errors whose step is a value in braces, or whose text is a part of a sentence with the step.
STEPLESS = {
    "hub": "FSPIOP: a hub reads a code and what is wrong, at most 128 characters; docs/als-contract.md has the rest",
    "admin API": "the page of the code, which `type` names, has the remedy",
    "settings": "the setting's line adds the allowed values: `use …`",
    "oracle-verify": "findings: what is wrong with a file; the verdict below them says what to do",
    "identifiers": "explanations: the results of a file and the command line add the step",
}


# Parts of sentences: the parser adds the way to --help, the key file its own step, and each row the remedy of its code.
PARTS = {"ArgumentTypeError", "BadNote", "RowRefused"}


@pytest.fixture(scope="module")
def failures() -> list[Failure]:
    """Every error: reading all sources takes seconds, so no other process of a run does it."""
    return list(list_failures())


def strip_values(text: str) -> str:
    return VALUE.sub("…", text)


def test_the_list_of_failures_has_every_place_where_people_meet_errors(failures: list[Failure]) -> None:
    met = {failure.met for failure in failures}
    assert met >= {
        "admin API", "command line", "embedded servers", "files", "hub", "identifiers", "serve", "settings",
        "oracle-verify",
    }  # fmt: skip
    assert len(failures) > 400


def test_no_failure_shows_a_regular_expression(failures: list[Failure]) -> None:
    assert [failure for failure in failures if PATTERN.search(strip_values(failure.text))] == []


def test_no_failure_shows_a_name_of_the_program(failures: list[Failure]) -> None:
    found = [
        failure for failure in failures
        if set(PYTHON.findall(strip_values(failure.text))) - SEEN_ELSEWHERE or "__name__" in failure.text
    ]  # fmt: skip
    assert found == []


def test_no_failure_of_the_command_line_shows_a_word_of_the_api(failures: list[Failure]) -> None:
    shown = [failure for failure in failures if failure.met == "command line"]
    assert len(shown) > 150
    assert [failure for failure in shown if API_WORDS.search(strip_values(failure.text))] == []


def has_step(failure: Failure) -> bool:
    plain = strip_values(failure.text)
    words = re.sub(r"\W", "", plain)
    says_it_by_a_value = (
        "REMEDY" in failure.text or "complaint()" in failure.text or "{exc}" in failure.text or "remedy" in failure.text
    )
    return bool(STEP.search(plain)) or says_it_by_a_value or len(words) < 12 or failure.name in PARTS


def test_every_failure_says_what_to_do(failures: list[Failure]) -> None:
    assert [failure for failure in failures if failure.met not in STEPLESS and not has_step(failure)] == []


@pytest.mark.parametrize(
    "text",
    ["must match ^[a-z]{2,}$", "the value (ValueError) cannot be used", "set fsp_id", "it is None"],
)
def test_the_checks_find_a_text_for_programmers(text: str) -> None:
    assert PATTERN.search(text) or PYTHON.search(text)
