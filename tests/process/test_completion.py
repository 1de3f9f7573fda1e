"""`oracle completion`: the scripts, run by the shells of this machine."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from oracle.cli import make_parser
from oracle.commands.completion import SHELLS, list_commands, write_script
from oracle.commands.keys import ROLES
from oracle.commands.parser import Parser
from oracle.identifiers import KINDS


@cache
def make_script(shell: str) -> str:
    parser = make_parser()
    assert isinstance(parser, Parser)
    return write_script(parser, shell)


def run_shell(*words: str, script: str) -> str:
    done = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# What is typed, the last word being incomplete, and what Tab offers.
CASES: list[tuple[list[str], set[str]]] = [
    (["ali"], {"alias"}),
    (["alias", "ad"], {"add"}),
    (["alias", "add", ""], set(KINDS)),
    (["alias", "add", "MSISDN", "--c"], {"--ca-file", "--config", "--country", "--currency"}),
    (["--config", "x.toml", "fsp", "su"], {"suspend"}),
    (["alias", "list", "--fsp", "alias", "--kind", "C"], {"CLABE"}),
    (["key", "issue", "--role", ""], set(ROLES)),
    (["key", "issue", "--label", "x", "--rol"], {"--role"}),
    (["batch", "template", ""], {"csv", "ndjson"}),
    (["work"], set()),
    (["alias", "xyz"], set()),
]


def test_bash_completes_commands_options_and_choices(tmp_path: Path) -> None:
    """All cases in one shell, in an empty directory: where nothing is known, files are offered."""
    lines = [f"cd {tmp_path}", make_script("bash")]
    for typed, _ in CASES:
        words = " ".join(f"'{word}'" for word in ["oracle", *typed])
        lines.append(f'COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _oracle; echo "${{COMPREPLY[*]}}"')
    offered = run_shell("bash", "--norc", script="\n".join(lines)).splitlines()
    assert [set(line.split()) for line in offered] == [expected for _, expected in CASES]


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shutil.which(shell)])
def test_a_shell_reads_its_script(shell: str) -> None:
    assert run_shell(shell, "-n", script=make_script(shell)) == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command_and_no_hidden_one(shell: str) -> None:
    script = make_script(shell)
    parser = make_parser()
    assert isinstance(parser, Parser)
    commands = list(list_commands(parser))
    assert len(commands) > 60
    for command in commands:
        assert f'"{command.path}' in script
        assert {name for name in command.options if name.startswith("--") and name[2:] not in script} == set()
    assert "worker" not in script
    assert "==SUPPRESS==" not in script
