"""Prometheus' own checker of rules, from Debian's package prometheus.

Without it the tests that need it are not run, and the run's last line names them.  In CI that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MISSING = "alert rules are not tested: install Debian's package prometheus, which has promtool"


@pytest.fixture(scope="session")
def promtool() -> Path:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)  # a person without it can run the rest; the summary below names what is left out
    return Path(found)


def run_promtool(program: Path, *arguments: str) -> str:
    """Run it; the test fails with what it wrote if it finds a fault."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    if any(MISSING in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(f"tests/monitoring: {MISSING}")
