"""What is installed is what is in the tree."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text())


def test_every_package_is_installed() -> None:
    files = [file for file in (TOP / "oracle").rglob("__init__.py") if "build" not in file.parts]  # by oracle-verify
    found = {".".join(file.parent.relative_to(TOP).parts) for file in files}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | {"oracle.schemas"}


def test_lock_files_name_no_registry() -> None:
    for lock in TOP.glob("requirements*.lock"):
        lines = [line for line in lock.read_text().splitlines() if "://" in line or line.startswith("-")]
        assert lines == [], lock.name
