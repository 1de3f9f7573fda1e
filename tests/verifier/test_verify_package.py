"""`oracle-verify` is complete without the service: a pure wheel with two dependencies, which Windows can run."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from made_log import Log

TOP = Path(__file__).resolve().parents[2]
FOLDER = TOP / "oracle" / "verifier"
MODULES = sorted(FOLDER.glob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES = {"cryptography", "msgspec"}
# What Windows lacks: modules, and members of os and signal.
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "signal", "syslog", "termios", "tty"}
NOT_ON_WINDOWS = {"chown", "fork", "getuid", "geteuid", "getgid", "mkfifo", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW"}

# Runs the wheel with nothing but the standard library, the two dependencies and what cryptography needs, at a console
# of Windows.
ALONE = """
import io, runpy, sys
wheel, allowed, words = sys.argv[1], set(sys.argv[2].split(",")), sys.argv[3:]

class Guard:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is not in the empty environment")
        if top in {"fcntl", "grp", "pwd", "resource", "termios"}:
            raise ModuleNotFoundError(f"{name} does not exist on Windows")

sys.meta_path.insert(0, Guard())
sys.path.insert(0, wheel)
sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="cp1252")
sys.argv = ["oracle-verify", *words]
runpy.run_module("oracle_verify", run_name="__main__", alter_sys=True)
"""


def list_imports(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


def test_its_modules_need_the_standard_library_and_two_packages() -> None:
    others = set().union(*map(list_imports, MODULES)) - sys.stdlib_module_names
    assert others == DEPENDENCIES
    needed: list[str] = PROJECT["project"]["dependencies"]
    assert {each.partition(">=")[0] for each in needed} == DEPENDENCIES
    service = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(needed) <= set(service["project"]["dependencies"]), "one version for both distributions"
    assert PROJECT["project"]["requires-python"] == service["project"]["requires-python"]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_no_module_needs_what_windows_lacks(module: Path) -> None:
    assert not list_imports(module) & POSIX_ONLY
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in NOT_ON_WINDOWS
        # Without an encoding, Windows reads and writes cp1252.
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = {keyword.arg for keyword in node.keywords}
            if node.func.attr in {"read_text", "write_text"}:
                assert "encoding" in named
            if node.func.attr == "open":
                assert {each.value for each in node.args if isinstance(each, ast.Constant)} <= {"rb"}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and module.stem in {"cli", "verdict"}:
            assert node.value.isascii(), "what is printed is ASCII"


def test_the_wheel_verifies_in_an_empty_environment(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(FOLDER, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    made = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True)
    wheel = source / made.stdout.splitlines()[-1]
    assert wheel.name == f"oracle_verify-{PROJECT['project']['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {name for name in names if ".dist-info/" not in name} == {f"oracle_verify/{each.name}" for each in MODULES}
    assert [line for line in metadata.splitlines() if line.startswith("Requires-Dist")] == [
        f"Requires-Dist: {each}" for each in PROJECT["project"]["dependencies"]
    ]

    log = Log(30, reason="ဖုန်း")
    log.export(tmp_path / "export", 10, since=20)
    log.write_proof(tmp_path / "proof.json", 3)
    (tmp_path / "kept").write_text(log.sign(30), encoding="utf-8")
    allowed = ",".join({"oracle_verify", "_cffi_backend", *DEPENDENCIES})

    def verify(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-c", ALONE, str(wheel), allowed, *words],
            cwd=tmp_path, capture_output=True, encoding="cp1252", check=False,
        )  # fmt: skip

    done = verify("export", "export", "--key", log.vkey, "--checkpoint", "kept")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.splitlines()[1] == "VERIFIED: 20 events are exactly as sealed."
    shown = verify("proof", "proof.json", "--checkpoint", "kept", "--show", "--json")
    assert (shown.returncode, shown.stderr) == (0, ""), shown
    assert json.loads(shown.stdout)["line"] == log.lines[3].decode()
    assert verify("export", "export").returncode == 1
    assert verify("export", "nowhere").returncode == 2
