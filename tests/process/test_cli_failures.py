"""How a command fails: exit codes, errors as JSON, names that were probably meant.  All in this process."""

from __future__ import annotations

import argparse
import json
import re
from importlib import import_module
from typing import Any

import pytest

from oracle import commands
from oracle.cli import main, make_parser
from oracle.commands import failures
from oracle.commands.parser import Parser
from oracle.run.errors import DatabaseAway, ServeError
from oracle.settings import SettingsError


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(words)
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


def read_json(err: str) -> Any:
    return json.loads(err.splitlines()[-1])


# Exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 5), (401, 4), (403, 4), (404, 3), (409, 5), (410, 3), (412, 5), (413, 5), (429, 5), (500, 1), (503, 6)],
)
def test_each_status_of_the_service_has_an_exit_code(status: int, code: int) -> None:
    assert failures.make_error("No", "Ask", "why", status).exit_code == code
    assert failures.make_error("No", "Ask", "unknown_person", status).exit_code == failures.NOT_FOUND


def test_failures_of_the_machine_have_the_code_of_the_next_step() -> None:
    described = {
        type(error).__name__: failures.describe(error)
        for error in (DatabaseAway("away"), ServeError("no"), SettingsError(["a", "b"]), OSError(28, "full"))
    }
    codes = {name: failure.exit_code for name, failure in described.items() if failure}
    assert codes == {"DatabaseAway": 6, "ServeError": 1, "SettingsError": 1, "OSError": 1}
    assert failures.describe(ValueError("a bug")) is None


def test_help_explains_each_exit_code() -> None:
    text = make_parser().format_help()
    for code, meaning in failures.EXIT_CODES.items():
        assert re.search(rf"^  {code} +{re.escape(meaning)}$", text, re.MULTILINE), code


# JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["alias", "--json"], "missing: VERB"),
        (["alias", "list", "--json", "--limit", "x"], "--limit: 'x' is not a number"),
        (["--json", "batch", "list"], "not known: --json"),
        (["alias", "remove", "--json"], "missing: KIND, IDENTIFIER, --reason"),
    ],
)
def test_wrong_usage_is_one_object_with_json(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, err = run(capsys, *words)
    assert err.count("\n") == 1
    error = read_json(err)
    assert error.keys() == {"code", "message", "hint", "exitCode", "status"}
    assert (code, error["code"], error["exitCode"], error["status"]) == (2, "usage", 2, None)
    assert error["message"].startswith(message)
    assert error["hint"]


def test_json_behind_two_hyphens_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "alias", "add", "--", "--json")[1].startswith("usage: ")


def test_settings_errors_and_a_missing_key_are_objects_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("ORACLE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("ORACLE_KEY", raising=False)
    code, err = run(capsys, "fsp", "list", "--json")
    assert (code, read_json(err)["code"], read_json(err)["exitCode"]) == (4, "forbidden", 4)
    monkeypatch.setenv("ORACLE_HUB_PORT", "x")
    code, err = run(capsys, "fsp", "list", "--json")
    assert (code, read_json(err)["code"]) == (1, "settings")
    assert "ORACLE_HUB_PORT" in read_json(err)["message"]


# Names that were probably meant -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("aliass list", "alias"), ("aliases", "alias"), ("fsps list", "fsp"), ("serv", "serve"),
        ("alias create", "add"), ("alias delete", "remove"), ("fsp add x", "create"), ("key create", "issue"),
        ("batch ls", "list"), ("route delete 1", "end"), ("alias lst", "list"),
        ("alias list --knd MSISDN", "--kind"), ("batch list --stste done", "--state"), ("seed --cnt 1", None),
        ("key list --role operater", "operator"), ("alias list --state answred", "answered"),
        ("audit events --entity aliass", "alias"), ("batch template xlsx", None), ("xyzzy", None),
    ],
)  # fmt: skip
def test_the_name_that_was_meant_is_suggested(
    capsys: pytest.CaptureFixture[str], words: str, meant: str | None
) -> None:
    code, err = run(capsys, *words.split())
    found = re.search(r"Did you mean (.*?)\?", err)
    assert (code, found and found[1]) == (2, meant)


def test_a_hidden_command_is_in_no_list_choice_or_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("workr",), ("worke", "--json"), ("wor",)):
        assert "worker" not in run(capsys, *words)[1]
    assert "worker" not in make_parser().format_help()


def test_a_noun_alone_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser()
    assert isinstance(parser, Parser)
    for prog, group in (("", parser), *((noun, each) for noun, (each, _) in parser.list_commands().items())):
        commands = group.list_commands()
        if not commands:
            continue
        code, err = run(capsys, *prog.split())
        assert code == 2
        lines = [line.split(maxsplit=1) for line in err.splitlines()]
        for name, (_, text) in commands.items():
            assert [name, text] in lines
        if not prog:
            continue  # `oracle --json` is an option that is not known
        _, err = run(capsys, *prog.split(), "--json")
        assert read_json(err)["hint"] == f"Choose from: {', '.join(commands)}"


@pytest.mark.parametrize("module", commands.MODULES)
def test_the_table_of_commands_is_what_the_modules_declare(module: str) -> None:
    parser = Parser(prog="oracle")
    declared = parser.add_subparsers()
    import_module(f"oracle.commands.{module}").add(declared)
    assert tuple(declared.choices) == commands.MODULES[module]


@pytest.mark.parametrize("module", commands.MODULES)
def test_the_parser_of_one_command_is_that_of_all(module: str) -> None:
    every = find_commands(make_parser())
    for command in commands.MODULES[module]:
        for words in ([command], ["--config", "alias", command], ["--config=fsp", command, "key"]):
            found = find_commands(make_parser(words))
            assert found[command].format_help() == every[command].format_help()
            assert len(found) == (len(every) if command == "completion" else len(commands.MODULES[module]))


@pytest.mark.parametrize("words", [[], ["nothing"], ["--help", "fsp"], ["--conf", "alias", "fsp"], ["--config"]])
def test_a_parser_without_a_known_command_first_has_all(words: list[str]) -> None:
    assert len(find_commands(make_parser(words))) == sum(map(len, commands.MODULES.values()))


def find_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (group,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(group.choices)


def list_leaves(parser: Parser) -> list[Parser]:
    commands = parser.list_commands()
    return [leaf for child, _ in commands.values() for leaf in list_leaves(child)] if commands else [parser]


@pytest.mark.parametrize("text", ["x", "-", "1.5", ""])
def test_no_value_is_refused_in_the_words_of_python(text: str) -> None:
    """Each option and argument that reads its value: of all commands."""
    parser = make_parser()
    assert isinstance(parser, Parser)
    refused = 0
    for leaf in list_leaves(parser):
        for action in leaf._actions:
            if action.type is None or isinstance(action, argparse._VersionAction):
                continue
            try:
                leaf._get_value(action, text)
            except argparse.ArgumentError as exc:
                refused += 1
                with pytest.raises(failures.UsageError) as caught:
                    leaf.error(str(exc))
                said = (
                    str(caught.value.message).replace("PERSONAL_ID", "").replace("ACCOUNT_ID", "")
                )  # no words of Python
                assert not re.search(r"invalid|_|int\b|float|argument", said), caught.value
    assert refused or text in ("x", "-")
