"""`make compile`: makes extension modules of the lookup path, for the Python that runs this.

    python -m oracle.compiled.build                 as `make compile` does it
    python -m oracle.compiled.build --level 0       faster to build, slower to run: to see whether it compiles

Needs a C compiler, the headers of Python, mypy and setuptools.  A build takes a minute.  It is made in a directory of
its own and renamed at the end, so nobody ever sees half of one, and processes that run keep the one that they loaded.
setup.py uses `build_into` for wheels.
"""
# ruff: noqa: T201 - a command line prints

from __future__ import annotations

import argparse
import ast
import fcntl
import json
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from oracle.compiled import GROUP, LIBRARY, MANIFEST, MODULES, PYTHON, Unusable, find_build, hash_source

TOP: Final = Path(__file__).resolve().parents[2]
BUILDS: Final = Path(__file__).resolve().parent
_UNFINISHED: Final = ".unfinished-"
_ASIDE: Final = "You can go on without: the oracle runs the same sources uncompiled, with more CPU for each lookup"


class BuildError(Exception):
    """Why nothing was built, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m oracle.compiled.build", description="Compile the lookup path.")
    parser.add_argument("--level", choices="0123", default="3", help="how much the C compiler optimises (default: 3)")
    parser.add_argument("--check", action="store_true", help="only look for the compiler")
    parser.add_argument("--again", action="store_true", help="build even if there is a build of the present sources")
    chosen = parser.parse_args(arguments)
    level = chosen.level
    try:
        _check_compiler()
        if chosen.check:
            return 0
        if not chosen.again and _read_level() == level:
            print("There is a build of the present sources already")
            return 0
        _check_tools()
        with _claim(BUILDS):
            print(f"Compiling {len(MODULES)} modules for {PYTHON}; this takes a minute or two", flush=True)
            work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=BUILDS))
            try:
                build_into(work / "new", TOP, level=level)
                _put_in_place(work / "new", BUILDS / PYTHON, work / "old")
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except BuildError as exc:
        print(f"make compile: {exc}", file=sys.stderr)
        return 1
    print(f"Compiled into {(BUILDS / PYTHON).relative_to(TOP)}. The next start of the oracle uses it")
    return 0


def _read_level() -> str | None:
    """Return the level of a build of the present sources; None if there is none."""
    try:
        find_build(str(BUILDS), str(TOP))
        level: str = json.loads((BUILDS / PYTHON / MANIFEST).read_text(encoding="utf-8"))["level"]
    except (Unusable, OSError, ValueError, KeyError):
        return None
    return level


def build_into(build: Path, top: Path, modules: Sequence[str] = MODULES, *, level: str = "3") -> None:
    """Make the extension modules, and the manifest that `oracle.compiled` reads.  Raises BuildError."""
    sources = [_find_source(top, module) for module in modules]
    if None in sources:
        raise BuildError(f"{modules[sources.index(None)]} has no source in {top}")
    before = _hash(top, list_sources(top, modules))
    build.mkdir(parents=True)
    scratch = build.with_name(f"{build.name}.scratch")
    try:
        _compile(build, scratch, top, [str(source) for source in sources], level)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if _hash(top, list_sources(top, modules)) != before:
        raise BuildError("a source was changed while it was compiled: run it again")
    files = {str(file.relative_to(build)): file.stat().st_size for file in build.rglob("*") if file.is_file()}
    manifest = {"python": PYTHON, "mypy": version("mypy"), "level": level, "files": files, "sources": before}
    (build / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def list_sources(top: Path, modules: Sequence[str]) -> list[str]:
    """List what mypyc reads of our own: these modules, all that they import, also for types alone, and packages."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        source = _find_source(top, module)
        if source is None or source in found:
            continue
        found.add(source)
        waiting += _list_imports(ast.parse((top / source).read_bytes()), modules[0].partition(".")[0])
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return sorted(map(str, found))


def _list_imports(tree: ast.AST, package: str) -> Iterator[str]:
    """List what may be a module of ours.  A relative import is not: the linter refuses it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith(package))
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith(package):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _find_source(top: Path, module: str) -> Path | None:
    """Return the source of a module, relative to `top`; None if it is not a module of ours."""
    path = Path(*module.split("."))
    return next((each for each in (path / "__init__.py", path.with_suffix(".py")) if (top / each).is_file()), None)


def _hash(top: Path, sources: Sequence[str]) -> dict[str, str]:
    return {source: hash_source(str(top / source)) for source in sources}


def _check_compiler() -> None:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise BuildError(
            f"there is no C compiler ({compiler[0]}): install one (Debian: apt install gcc), or set CC. {_ASIDE}"
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise BuildError(f"{headers} has no Python.h: install it (Debian: apt install python3-dev). {_ASIDE}")


def _check_tools() -> None:
    for tool in ("mypyc", "setuptools"):
        try:
            __import__(tool)
        except ImportError:
            raise BuildError(
                f"there is no {tool} in {sys.prefix}: install requirements-compile.lock. {_ASIDE}"
            ) from None


def _compile(build: Path, scratch: Path, top: Path, sources: Sequence[str], level: str) -> None:
    from mypyc.build import mypycify  # noqa: PLC0415 - `_check_tools` explains its absence
    from setuptools import Distribution  # noqa: PLC0415

    scratch.mkdir()
    with _work_in(top):  # mypy names the modules by their place, and reads its settings there
        try:
            extensions = mypycify(
                [f"--cache-dir={scratch / 'cache'}", *sources],
                opt_level=level, debug_level="0", group_name=GROUP, target_dir=str(scratch),
            )  # fmt: skip
        except SystemExit:
            raise BuildError("mypyc refuses a source: its messages are above") from None
        distribution = Distribution({"name": LIBRARY, "ext_modules": extensions})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(build), str(scratch)
        try:
            command.ensure_finalized()
            command.run()
        except Exception as exc:
            raise BuildError(f"the C compiler failed: {exc}") from exc


@contextmanager
def _work_in(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _claim(builds: Path) -> Iterator[None]:
    """Be the only one who builds there, and remove what killed builds have left."""
    place = os.open(builds, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(place)
        raise BuildError("another `make compile` is at work here: wait until it has finished") from None
    try:
        for left in builds.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(place)


def _put_in_place(new: Path, build: Path, old: Path) -> None:
    """A process that starts between the two renames finds no build, and runs the sources."""
    if build.exists():
        build.rename(old)
    new.rename(build)


if __name__ == "__main__":
    sys.exit(main())
