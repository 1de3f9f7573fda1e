"""Compares the oracle on several Pythons in one run: `python -m loadtests.pythons PYTHON ...` (or `make pythons`).

Each Python gets an environment with the locked packages in build/pythons, and a build of the lookup path where gcc is
at hand.  Then loadtests.ceiling measures all of them in turn, interpreted and compiled, beside one C and one nginx.

The speed of a Python depends as much on how it was built as on its version.  So the run shows the compiler and the
configuration of each.  A distribution can add a build with profiles (PGO) and link-time optimisation (LTO) in its own
rules, which Python then does not say; Debian does.
Exit.  That of loadtests.ceiling; 1 if an environment cannot be made.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtests import ceiling, machine
from loadtests.arguments import parse_count
from loadtests.peers import find_program
from loadtests.stack import StackError

HOME: Final = machine.ROOT / "build" / "pythons"
LOCKS: Final = ("requirements.lock", "requirements-compile.lock")
INSTALL_S: Final = 900.0

_READ_FACTS: Final = """
import json, platform, sys, sysconfig
read = lambda name: str(sysconfig.get_config_var(name) or "")
json.dump({
    "version": platform.python_version(),
    "compiler": platform.python_compiler(),
    "flags": read("OPT"),
    "arguments": read("CONFIG_ARGS"),
}, sys.stdout)
"""
_DIRECTORIES: Final = re.compile(r"'(?:--\w*(?:dir|prefix)|[A-Z_]+)=[^']*' ?")


class Facts(NamedTuple):
    version: str
    compiler: str
    flags: str  # of the compiler
    arguments: str  # of configure

    def __str__(self) -> str:
        arguments = _DIRECTORIES.sub("", self.arguments).replace("'", "").strip()
        return f"{self.version}: {self.compiler}; {self.flags}; {arguments or 'configured without arguments'}"


def read_facts(python: str) -> Facts:
    """Ask a Python how it was built.  Raises StackError if it does not run."""
    try:
        outcome = subprocess.run([python, "-c", _READ_FACTS], capture_output=True, text=True, check=True, timeout=60)
        return Facts(**json.loads(outcome.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        raise StackError(f"{python} is not a Python that runs here: {exc}") from exc


def make_environment(python: str, facts: Facts) -> Path:
    """Make an environment with the locked packages, unless it is there; return its Python.  Raises StackError."""
    digest = hashlib.sha256(str(Path(python).resolve()).encode())
    for lock in LOCKS:
        digest.update((machine.ROOT / lock).read_bytes())
    place = HOME / f"{facts.version}-{digest.hexdigest()[:8]}"
    made, program = place / ".made", place / "bin" / "python"
    if not made.exists():
        print(f"installing the packages for Python {facts.version} in {place}", flush=True)
        _run([python, "-m", "venv", "--clear", "--without-pip", str(place)])
        words = [part for lock in LOCKS for part in ("-r", str(machine.ROOT / lock))]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(program)]
        _run([*pip, "install", "--require-hashes", "--only-binary", ":all:", *words])
        # Our own package, for its version; the sources stay where they are.
        _run([*pip, "install", "--no-deps", "--no-build-isolation", "--editable", str(machine.ROOT)])
        made.touch()
    return program


def build(python: Path, version: str) -> None:
    """Compile the lookup path for a Python, unless a build of the present sources is there."""
    if not ceiling.has_build(str(python)):
        print(f"compiling the lookup path for Python {version}", flush=True)
        _run([str(python), "-m", "oracle.compiled.build"])


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as exc:
        raise StackError(f"{command[0]} did not end within {INSTALL_S:.0f} s: {' '.join(command[1:])}") from exc
    except subprocess.CalledProcessError as exc:
        raise StackError(f"{' '.join(command)} failed:\n{(exc.stderr or exc.stdout).strip()[-2_000:]}") from exc


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="interpreters, for example /usr/bin/python3.13")
    parser.add_argument("--interpreted", action="store_true", help="do not compile; measure builds that are there")
    parser.add_argument("--keys", type=parse_count, default=100_000, help="keys to ask (default 100,000)")
    parser.add_argument("--rounds", type=parse_count, default=5)
    parser.add_argument("--seconds", type=parse_count, default=4, help="seconds of each measurement (default 4)")
    return parser.parse_args(words)


def main() -> int:
    arguments = parse()
    environments: dict[str, Facts] = {}
    try:
        for python in arguments.pythons:
            facts = read_facts(python)
            program = make_environment(python, facts)
            if not arguments.interpreted and find_program("gcc"):
                build(program, facts.version)
            environments[str(program)] = facts
    except StackError as exc:
        print(f"pythons: {exc}", file=sys.stderr)
        return 1
    print(*(f"Python {facts}" for facts in environments.values()), sep="\n", flush=True)
    words: list[Any] = ["--keys", arguments.keys, "--rounds", arguments.rounds, "--seconds", arguments.seconds]
    return ceiling.main([*map(str, words), "--busy", "0", "--pythons", *environments])


if __name__ == "__main__":
    sys.exit(main())
