"""Roles, people and states have names in each language, and each reason of a part that does not work is translated."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

import pytest
from spoken import speak

from oracle.api.languages import LANGUAGES
from oracle.api.naming import join_label, name_person, read_person
from oracle.api.problem_texts import ROOT, write_template
from oracle.api.reasons import REASONS
from oracle.api.texts import find_message, translate
from oracle.names import name_actor

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES: Final = (
    "store/diagnosis.py", "store/lanes.py", "store/changes.py", "store/sessions.py", "store/servers.py",
    "store/cache/session.py", "store/cache/coherence.py", "store/cache/topology.py", "api/health.py",
)  # fmt: skip
ERRORS: Final = ("UnfitSession", "Unreachable", "NotPrimary")
TABLES: Final = ("_STATES", "_PHASES", "_SYSTEM", "_AT_CONNECT", "_REFUSALS", "_OF_A_CLUSTER", "_REQUIRED")
NAMES: Final = ("reason", "refusal", "cache_failure", "REPLACED", "NOT_YET", "NOT_WRITTEN", "WITHOUT_DIRECTORY")
# Texts with a part that the forms have as words, or that is a form of its own.
PARTS: Final = {
    "the {} is {}, but must be {}: {}": "the encoding of the database is {}, but must be {}: {}",
    "PostgreSQL {}": "PostgreSQL is an old primary, which a failover has replaced",
}


def drop_names(text: str) -> str:
    return re.sub(r"\{\w+\}", "{}", text)


def list_reasons() -> Iterator[str]:
    for name in FILES:
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ERRORS and node.args:
                yield from _read(node.args[-1])
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                if target in TABLES and isinstance(node.value, ast.Dict):
                    for value in node.value.values:
                        yield from _read(value)
                elif target.rpartition(".")[2] in NAMES:
                    yield from _read(node.value)
            elif isinstance(node, ast.FunctionDef) and "explain" in node.name:
                for part in node.body[1:]:
                    yield from _read(part)


def _read(node: ast.AST) -> Iterator[str]:
    text = write_template(node)
    if text is None:
        for child in ast.iter_child_nodes(node):
            yield from _read(child)
    elif " " in text and not text.startswith("`"):
        yield text


def test_each_reason_of_the_sources_has_a_form() -> None:
    found = {PARTS.get(drop_names(text), drop_names(text)) for text in list_reasons()} - {"rejected SSL"}
    assert len(found) > 60
    forms = {drop_names(reason.message) for reason in REASONS}
    assert sorted(found - forms) == []


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_each_reason_is_translated(code: str) -> None:
    assert [each.message for each in REASONS if speak(code, translate, each.message) == each.message] == []


def test_words_of_the_servers_stay() -> None:
    said = "the certificate of PostgreSQL is not accepted: self-signed certificate"
    assert speak("es", translate, said) == "no se acepta el certificado de PostgreSQL: self-signed certificate"
    several = (
        "no server is the primary: server 1 of the URL: PostgreSQL is starting; server 2 of the URL: PostgreSQL cannot"
        " be reached: No route to host"
    )
    assert speak("es", translate, several).startswith(
        "ningún servidor es el primario: servidor 1 de la URL: PostgreSQL está arrancando; servidor 2 de la URL: "
    )
    assert "No route to host" in speak("my", translate, several)


@pytest.mark.parametrize(
    ("name", "spanish", "burmese"),
    [
        ("Ana (maker of bluebank)", "Ana (creador de bluebank)", "Ana (bluebank ၏ ပြုလုပ်သူ)"),
        ("Ana (operator)", "Ana (operador del hub)", "Ana (ဟပ် စီမံသူ)"),
        ("A (maker of b) (reader)", "A (maker of b) (lector)", "A (maker of b) (ဖတ်ရှုသူ)"),
        ("{fsp}\n{role} (auditor of b)", "{fsp}\n{role} (auditor de b)", "{fsp}\n{role} (b ၏ စာရင်းစစ်)"),
        (name_actor("oidc:hub:4711"), "4711 (inició sesión con hub)", "4711 (hub ဖြင့် ဝင်ထားသူ)"),
        (name_actor("gateway:ana"), "ana (por la pasarela)", "ana (gateway မှတစ်ဆင့်)"),
        ("aaaaaaaaaaaa", "aaaaaaaaaaaa", "aaaaaaaaaaaa"),
    ],
)
def test_a_person_is_named_in_each_language_and_found_by_that_name(name: str, spanish: str, burmese: str) -> None:
    for code, expected in (("en", name), ("es", spanish), ("my", burmese)):
        assert speak(code, name_person, name) == expected
        assert speak(code, read_person, expected) == name
        assert speak(code, read_person, name) == name


def test_codes_in_hints_are_names() -> None:
    hint = "Your role is dfsp-maker; the role operator, auditor or reader is needed"
    assert speak("es", translate, hint) == ("Su rol es Creador; se necesita el rol Operador del hub, Auditor o Lector")
    state = "Its state is done. It was approved by Ana (checker of bluebank)"
    assert (
        speak("es", translate, state) == "Su estado es Completo. Ana (revisor de bluebank) hizo este cambio: Aprobado"
    )
    assert find_message("Its state is done") is not None


def test_a_value_stands_behind_its_name_as_the_language_writes_it() -> None:
    assert [speak(code, join_label, "FSP", "bluebank") for code in LANGUAGES] == [
        "FSP: bluebank", "FSP: bluebank", "FSP - bluebank",
    ]  # fmt: skip
