"""The collection of deploy/ttk, run by the engine of Mojaloop's Testing Toolkit: `make ttk`.  It needs npm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hub.process import run_oracle

if TYPE_CHECKING:
    from oracle.run.embedded import PostgresServer, ValkeyServer

HERE: Final = Path(__file__).parent
FOLDER: Final = HERE.parents[1] / "deploy" / "ttk"


@pytest.mark.timeout(900)  # the Toolkit waits for two seconds after each request
def test_the_toolkit_passes_the_collection(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = subprocess.run([HERE / "install"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with run_oracle(postgres_template, valkey_server, tmp_path) as hub:
        command: list[str | Path] = [
            "node",
            HERE / "run.cjs",
            home,
            FOLDER / "environment.json",
            f"http://127.0.0.1:{hub.port}",
        ]
        done = subprocess.run(
            [*command, *sorted(FOLDER.glob("[0-9]*.json"))],
            capture_output=True, text=True, timeout=800, check=False, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
    results = [line.removeprefix("result: ") for line in done.stdout.splitlines() if line.startswith("result: ")]
    with capsys.disabled():
        print("", *results, sep="\n")
    assert done.returncode == 0, results or done.stderr
