"""The command line for tests: `shell("fsp", "list")` runs a command in this process, with a key in the environment.

The result is what a shell gets, without the start of an interpreter each time.  The fixture `shell` types as the
operator of the fixture `service`.
"""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from oracle_process import environment

from oracle.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from admin_service import Service


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


class Shell:
    """`shell(*words)` runs as the operator; `shell.as_key(key, *words)` runs with another key."""

    def __init__(self, key: str, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._key = key
        self._patch = patch
        self._capsys = capsys

    def __call__(self, *words: str) -> Result:
        return self.as_key(self._key, *words)

    def as_key(self, key: str | None, *words: str, stdin: str = "", typed: str | None = None) -> Result:
        self._patch.setattr(sys, "stdin", io.StringIO(stdin) if typed is None else Terminal(typed))
        self._patch.setenv("ORACLE_KEY", key or "")
        try:
            code = main(words)
        except SystemExit as exc:  # argparse
            code = int(exc.code or 0)
        out, err = self._capsys.readouterr()
        return Result(code, out, err)


def key_of(service: Service) -> str:
    return str(service.operator.headers["authorization"]).removeprefix("Bearer ")


@pytest.fixture
def shell(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Shell:
    for name, value in environment(tmp_path).items():
        if name.startswith(("ORACLE_", "XDG_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORACLE_ADMIN_URL", service.oracle.admin_url)
    return Shell(key_of(service), monkeypatch, capsys)
