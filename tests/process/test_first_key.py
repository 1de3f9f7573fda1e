"""Who sees the first operator's key: a person at a terminal, never a file."""

from __future__ import annotations

import os
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from oracle_process import SERVE, OracleProcess, until

ADMIN = (*SERVE, "--only", "admin")


class Terminal:
    """A terminal that remembers what was written to it."""

    def __init__(self) -> None:
        self._reads, self.writes = os.openpty()
        self._seen = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):  # it was closed
            while part := os.read(self._reads, 4096):
                self._seen += part

    @property
    def text(self) -> str:
        return self._seen.decode()

    def close(self) -> None:
        os.close(self.writes)


@pytest.mark.parametrize("layout", ["auto", "text"])
def test_the_first_key_reaches_a_terminal_and_no_file(
    tmp_path: Path, database_url: str, redis_url: str, layout: str
) -> None:
    env = {"ORACLE_DATABASE_URL": database_url, "ORACLE_REDIS_URL": redis_url, "ORACLE_LOG_FORMAT": layout}
    with start_to_file(tmp_path, env) as file:
        until(lambda: "key bootstrap --out FILE" in file.output)
        assert "aok_" not in file.output
    with closing(Terminal()) as terminal, start_to_file(tmp_path, env, stdout=terminal.writes) as process:
        until(lambda: "  aok_" in terminal.text)
        assert "aok_" not in process.output


def start_to_file(tmp_path: Path, env: dict[str, str], **popen: Any) -> OracleProcess:
    return OracleProcess(ADMIN, tmp_path, env, **popen)
