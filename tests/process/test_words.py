"""Every refusal of the admin API that a person at the command line can meet is in the words of the command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_admin_commands import PUBLISHED, find_calls

from oracle.api.admin import expected, forms
from oracle.api.admin.codes import MEANINGS
from oracle.cli import make_parser
from oracle.commands.parser import Parser
from oracle.commands.suggestions import suggest
from oracle.commands.words import API_WORDS, ARGUMENTS, HINTS, SENT_BY_COMMANDS, TEXTS, find_argument, translate
from oracle.identifiers import KINDS, Reading
from oracle.identifiers.errors import EXPLANATIONS, BadIdentifier
from oracle.imports.refusals import RowRefused
from oracle.imports.rows import RowChecks, read_change
from walks.texts import PACKAGE, list_errors

CONTRACT: Any = msgspec.json.decode(PUBLISHED.read_bytes())
# Texts of the service that no command can cause, and the reason.
UNREACHABLE = {
    "{handler} does not name who may call it": "the service does not start",
    "text/csv; charset=utf-8; header=present": "the type of a file",
    "DELETE, GET, PATCH, POST, PUT": "the value of a header",
    "Content-Encoding": "commands send files as they are",
}
OF_SERVICE = [*PACKAGE.glob("api/admin/*.py"), *PACKAGE.glob("api/history/*.py")]
NOT_REFUSALS = ("codes.py", "operations.py", "examples.py")


def list_leaves(parser: Parser) -> Iterator[Parser]:
    commands = parser.list_commands()
    if not commands:
        yield parser
    for child, _ in commands.values():
        yield from list_leaves(child)


def list_arguments() -> dict[str, dict[str, object]]:
    parser = make_parser()
    assert isinstance(parser, Parser)
    return {
        leaf.prog: {name: None for each in leaf._actions for name in each.option_strings or [str(each.metavar)]}
        for leaf in list_leaves(parser)
    }


# Every member and every code --------------------------------------------------------------------------------------


def list_members(schema: Any, prefix: str = "") -> Iterator[str]:
    while "$ref" in schema:
        schema = CONTRACT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in [*schema.get("oneOf", []), *schema.get("anyOf", []), *schema.get("allOf", [])]:
        yield from list_members(choice, prefix)
    for name, inner in schema.get("properties", {}).items():
        yield prefix + name
        yield from list_members(inner, f"{prefix}{name}.")


def list_sent() -> set[str]:
    """Every member, parameter and part of a path of the operations that commands call."""
    found = set()
    for method, path in find_calls():
        operation = CONTRACT["paths"].get(f"/admin/v1{path}", {}).get(method.lower(), {})
        found |= {parameter["name"] for parameter in operation.get("parameters", [])}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            found |= set(list_members(content.get("schema", {})))
    for path, operations in CONTRACT["paths"].items():  # whose paths the commands make up from parts
        if path.startswith("/audit/"):
            for operation in operations.values():
                found |= {parameter["name"] for parameter in operation.get("parameters", [])}
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    found |= set(list_members(content.get("schema", {})))
    return found


def test_every_member_that_a_command_can_send_has_an_argument() -> None:
    sent = list_sent()
    assert len(sent) > 50
    assert sent - ARGUMENTS.keys() - SENT_BY_COMMANDS == set()


def test_every_argument_in_the_table_is_one_of_a_command() -> None:
    known = {name for arguments in list_arguments().values() for name in arguments} | {"FORMAT"}
    assert {name for names in ARGUMENTS.values() for name in names} - known == set()


def test_every_code_has_a_hint_without_words_of_the_api() -> None:
    assert HINTS.keys() == MEANINGS.keys()
    assert {code: API_WORDS.findall(hint) for code, hint in HINTS.items() if API_WORDS.search(hint)} == {}


def test_hints_name_only_commands_and_options_that_exist() -> None:
    known = {prog.removeprefix("oracle "): arguments for prog, arguments in list_arguments().items()}
    options = {name for arguments in known.values() for name in arguments} | {"--help"}
    for text in [*HINTS.values(), *TEXTS.values()]:
        for command in re.findall(r"oracle ((?:[a-z-]+ )?[a-z-]+)(?![\w-]*\.)", text):
            assert any(name == command or name.startswith(f"{command} ") or command.startswith(f"{name} ")
                       for name in known), (command, text)  # fmt: skip
        assert set(re.findall(r"--[a-z][a-z-]*", text)) <= options, text


# Every text of the service ----------------------------------------------------------------------------------------


def list_refusals() -> Iterator[tuple[str, str, str]]:
    """The code, the detail and the hint of each refusal in the source, where they are written out."""
    for source in OF_SERVICE:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                texts = [" ".join(text.text for text in list_texts(given)) for given in node.args[1:4]]
                code = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
                yield str(code), texts[1], (texts[2] if len(texts) > 2 else "")


def list_texts(node: ast.expr) -> Any:
    from walks.texts import _read

    return list(_read("", node))


def test_every_refusal_of_the_service_is_shown_without_words_of_the_api() -> None:
    refusals = list(list_refusals())
    assert len(refusals) > 60
    for code, detail, hint in refusals:
        words = translate(detail, code or "invalid", hint)
        assert not API_WORDS.search(". ".join(words)), words
        assert words.hint, (code, detail)
        assert detail == "" or words.message != "The service refused the command", f"add words for {detail!r}"


def test_every_sentence_of_the_service_has_words() -> None:
    texts = {text for place, text in list_errors(OF_SERVICE) if not place.split(":")[0].endswith(NOT_REFUSALS)}
    for text in texts:
        if not any(part in text for part in UNREACHABLE):
            words = translate(text, "refused", text)
            assert not API_WORDS.search(". ".join(words)), words


@pytest.mark.parametrize(
    ("command", "answer", "words"),
    [
        ("oracle fsp create", ("The request is not valid", "invalid", "fspId: Expected 1 to 32 letters", "fspId"),
         ("FSP is not valid", "Expected 1 to 32 letters")),
        ("oracle key issue", ("No such FSP", "not_found", "List the FSPs to see their ids", "fspId"),
         ("No such FSP", "`oracle fsp list` shows the FSPs")),
        ("oracle route add", ("validTo must be after validFrom", "invalid",
                              "Leave validTo out to keep the route forever", "validTo"),
         ("--to must be after --from", "Leave --to out to keep the route forever")),
        ("oracle fsp list", ("The request is not valid", "invalid",
                             "limit: Expected a whole number of at least 1; status: Expected one of a, b", ""),
         ("The command cannot be carried out as it is written",
          "--limit: Expected a whole number of at least 1; --status: Expected one of a, b")),
        ("oracle fsp create", ("The request is not valid", "invalid",
                               "contact.email: Expected an email address", "contact.email"),
         ("--contact-email is not valid", "Expected an email address")),
        ("oracle fsp update", ("The resource has changed since you read it", "version_mismatch",
                               "Read it again, then send the change with its new version (ETag)", ""),
         ("It has changed since you read it", HINTS["version_mismatch"])),
        ("oracle audit events", ("`identifier` needs `kind`", "invalid", "Add `kind`", "kind"),
         ("--identifier needs --kind", "Add --kind")),
        ("oracle alias show", ("A newer text of a newer service", "a_new_code", "Send the header X", ""),
         ("A newer text of a newer service", "Correct the command: --help explains it")),
    ],
)  # fmt: skip
def test_an_answer_is_in_the_words_of_the_command(
    command: str, answer: tuple[str, str, str, str], words: tuple[str, str]
) -> None:
    assert translate(*answer, given=list_arguments()[command]) == words


@pytest.mark.parametrize("reason", EXPLANATIONS)
def test_every_reason_for_a_bad_identifier_has_a_next_step(reason: Any) -> None:
    words = translate(str(BadIdentifier(reason, "MSISDN")), "bad_identifier", f"Reason: {reason}")
    assert not API_WORDS.search(". ".join(words))
    assert words.hint
    assert reason not in f"{words.hint} "


@pytest.mark.parametrize(
    ("kind", "identifier", "country", "sub_id", "message"),
    [
        ("CLABE", "032180000118359718", None, None,
         "CLABE: the last digit is the check digit: it is 8, and 9 is needed for the other 17"),
        ("CLABE", "03218000011835971", None, None, "CLABE: it has 17 digits, and 18 are needed"),
        ("MSISDN", "+52 55 9876 543", None, None,
         "MSISDN: 9 digits follow the calling code 52, and numbers of MX have 10"),
        ("NRC", "12/OUKAMA(N)12345", None, None, "NRC: the number has 5 digits, and six are needed"),
        ("EMAIL", "ana(at)bank.mx", None, None, "EMAIL: it has no @"),
        ("PERSONAL_ID", "MA/123456", None, None, "PERSONAL_ID: character 3 is '/', and it is not allowed"),
        ("IBAN", "GB82WEST1234569876543", None, None, "IBAN: it has 21 characters, and one of GB has 22"),
        ("NRC", "12/OUKAMA(N)123456", "mx", None, "NRC: the country is MX, and every NRC is of MM"),
        ("ACCOUNT_ID", "1", None, "a/b", "SubId: character 2 is '/', and it is not allowed"),
    ],
)  # fmt: skip
def test_a_refused_identifier_is_explained_as_in_a_file(
    kind: str, identifier: str, country: str | None, sub_id: str | None, message: str
) -> None:
    with pytest.raises(BadIdentifier) as refused:
        Reading().read_key(kind, identifier, country=country, sub_id=sub_id)
    given = {"KIND": kind, "IDENTIFIER": identifier, "--country": country, "--sub": sub_id}
    answer = str(refused.value), "bad_identifier", f"Reason: {refused.value.reason}"
    assert translate(*answer, given=given).message == message


def test_a_kind_that_was_probably_meant_is_suggested() -> None:
    given = {"KIND": "MSISDM", "--kinds": ["CLABE", "IBANN"]}
    words = translate("identifier: this kind is not known", "bad_identifier", "Reason: unknown_kind", given=given)
    assert words.hint.startswith("Did you mean MSISDN? The kinds are MSISDN, CLABE")
    hint = "kinds[1]: Expected one of CLABE, IBAN, MSISDN"
    words = translate("The request is not valid", "invalid", hint, "kinds[1]", given=given)
    assert words == ("--kinds is not valid", "Did you mean IBAN? Expected one of CLABE, IBAN, MSISDN")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("MOBILE", "MSISDN"), ("Phone", "MSISDN"), ("tel", "MSISDN"), ("phone number", "MSISDN"), ("NRIC", "NRC"),
     ("ACCOUNT", "ACCOUNT_ID"), ("E-Mail", "EMAIL"), ("passport", "PERSONAL_ID"), ("IBN", "IBAN"), ("CABLE", "CLABE")],
)  # fmt: skip
def test_a_kind_by_another_name_is_suggested_in_a_command_and_in_a_file(typed: str, meant: str) -> None:
    assert suggest(typed, KINDS) == f" Did you mean {meant}?"
    with pytest.raises(RowRefused) as refused:
        read_change(RowChecks(Reading()), typed, "", "", "", "")
    assert f"(did you mean {meant}?). Write one of MSISDN, CLABE," in refused.value.message


def test_a_text_that_can_be_an_identifier_is_not_shown_as_a_kind() -> None:
    for typed, fact in (("mobile", "MOBILE is not a kind"), ("ana@bank.mx", "The kind has 11 characters and is not")):
        with pytest.raises(RowRefused) as refused:
            read_change(RowChecks(Reading()), typed, "", "", "", "")
        assert refused.value.message.startswith(fact)


def test_a_member_is_found_by_its_place_in_a_list() -> None:
    assert find_argument("currencies[0]", {}) == "--currencies"
    assert find_argument("contact.phone", {"--contact-phone": None}) == "--contact-phone"
    assert find_argument("unknown", {}) == ""


# Patterns ---------------------------------------------------------------------------------------------------------


def list_patterns(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("pattern"), str):
            yield node["pattern"]
        for inner in node.values():
            yield from list_patterns(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from list_patterns(inner)


def test_every_pattern_of_the_contract_is_explained_in_words() -> None:
    patterns = set(list_patterns(CONTRACT))
    assert len(patterns) > 4
    for pattern in patterns:
        text = expected.explain(f"Expected `str` matching regex {pattern!r}", [])
        assert text == f"Expected {forms.FORMS[pattern]}"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Expected `str` of length <= 3", "Expected text of at most 3 characters"),
        ("Expected `array` of length >= 1", "Expected a list of at least 1 item"),
        ("Expected `int` <= 1000", "Expected a whole number of at most 1000"),
        ("Expected `str | null`, got `int`", "Expected text or null, got a whole number"),
        ("Expected `str` matching regex '^new$'", "Expected another form of text: see the page /docs"),
        ("Invalid enum value 'x", "Its value is not one of those allowed"),
    ],
)
def test_what_the_validator_expects_is_in_plain_words(message: str, words: str) -> None:
    assert expected.explain(message, []) == words


def test_no_text_of_the_service_shows_a_pattern() -> None:
    source = Path(expected.__file__).parent
    texts = [text.text for text in list_errors(source.glob("*.py"))]
    assert [text for text in texts if re.search(r"\^\[|\{\d+,\d*\}\$|regex", text)] == []
