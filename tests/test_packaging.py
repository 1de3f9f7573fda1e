"""What is installed is what is in the tree."""

from __future__ import annotations

import hashlib
import pkgutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text())


def test_every_package_is_installed() -> None:
    files = [file for file in (TOP / "oracle").rglob("__init__.py") if "build" not in file.parts]  # by oracle-verify
    found = {".".join(file.parent.relative_to(TOP).parts) for file in files}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | {"oracle.schemas"}


def test_catalogues_and_fonts_are_installed() -> None:
    data: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]
    installed = {file for package, globs in data.items() for each in globs
                 for file in (TOP / package.replace(".", "/")).glob(each)}  # fmt: skip
    found = {file for suffix in ("po", "woff2") for file in (TOP / "oracle").rglob(f"*.{suffix}")}
    assert len(found) > 2
    assert found <= installed
    for font in (file for file in found if file.suffix == ".woff2"):
        assert hashlib.sha256(font.read_bytes()).hexdigest() in (font.parent / "SOURCE").read_text()
        assert "SIL Open Font License" in (font.parent / "LICENSE").read_text()


def test_the_program_for_auditors_is_installed_with_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    main = pkgutil.resolve_name(PROJECT["project"]["scripts"]["oracle-verify"])
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"oracle-verify {PROJECT['project']['version']}\n"


def test_lock_files_name_no_registry() -> None:
    for lock in TOP.glob("requirements*.lock"):
        lines = [line for line in lock.read_text().splitlines() if "://" in line or line.startswith("-")]
        assert lines == [], lock.name
