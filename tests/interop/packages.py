"""Where tests/interop/install has put the packages, and how to run a program with one of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMPONENTS = "sdk-standard-components@19.19.1"
ADAPTER = "sdk-scheme-adapter@18.0.2"
PROVIDER = "oidc-provider@9.13.3"


def find_package(name: str) -> Path:
    """Find the directory whose node_modules has the package."""
    done = subprocess.run([HERE / "install"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip()) / name


def environment(package: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "NODE_PATH": str(package / "node_modules"), "LOG_LEVEL": "error", **more}


def ask_library(requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let jws.cjs answer the requests, in their order."""
    lines = "".join(f"{json.dumps(request)}\n" for request in requests)
    done = subprocess.run(
        ["node", HERE / "jws.cjs"],
        input=lines,
        capture_output=True,
        text=True,
        env=environment(find_package(COMPONENTS)),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.strip("\n").split("\n") if line.startswith("{")]
    assert len(answers) == len(requests), done.stdout
    return answers
