"""Helm's own engine and the validators of what it renders: packages of 100 MB that only tests of deploy/ need.

rendered  the chart for each set of values, with what the validators found: rendered once for a process of a run
composed  the Compose files, with what their validator found

`make deploy-tools` installs them into build/deploy-tools.  Without them these tests are not run, and the run's last
line names them.  In CI that is a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

TOP: Final = Path(__file__).parents[1]
TOOLS: Final = TOP / "build" / "deploy-tools"
RENDER: Final = TOP / "tests" / "deploy" / "render.py"
MISSING: Final = "the chart and the Compose files are not tested: run make deploy-tools"
# What Helm must refuse, with a part of what it says.
BAD_VALUES: Final = {
    "postgresql: {mode: mysql}": "value must be one of 'external', 'cnpg', 'percona', 'single'",
    "config: {db_hots: x}": "additional properties 'db_hots' not allowed",
    "config: {env: {HOME_COUNTRIES: MX}}": "HOME_COUNTRIES",
    "valkey: {enabled: false}": "set config.redis_url, or valkey.enabled to true",
    "gateway: {enabled: true}": "set gateway.parentRefs to the Gateway that serves the admin API",
    "image: {digest: latest}": "does not match pattern",
    "config: {log_level: verbose}": "value must be one of 'debug', 'info', 'warning', 'error'",
    "console: {url: oracle.example.com}": "does not match pattern",
    "auth: {ways: [keys, password]}": "value must be one of 'keys', 'oidc', 'gateway'",
    "auth: {oidc: {issuer: 'https://id.example.com'}}": "auth.oidc is set: add oidc to auth.ways",
    "auth: {oidc: {audience: oracle}}": "set auth.oidc.issuer, or write the issuer into config.file",
    "auth: {gatewaySecret: {name: gateway, key: secret}}": "auth.gatewaySecret is set: add gateway to auth.ways",
    "auth: {ways: [gateway]}": "auth.ways names gateway: set auth.proxies to its addresses",
}


@pytest.fixture(scope="session")
def rendered() -> dict[str, Any]:
    """What render.py prints."""
    return _run_render(json.dumps(list(BAD_VALUES)))


@pytest.fixture(scope="session")
def composed() -> dict[str, Any]:
    """What render.py prints of the Compose files."""
    return _run_render("", "compose")


def _run_render(given: str, *words: str) -> dict[str, Any]:
    if not TOOLS.exists():
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)  # a person without them can run the rest; the summary names what is left out
    done = subprocess.run(
        [sys.executable, str(RENDER), *words],
        input=given,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    if any(MISSING in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(f"tests/deploy: {MISSING}")
