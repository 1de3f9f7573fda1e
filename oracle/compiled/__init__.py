"""The lookup path as compiled modules: which they are, and whether this process uses them.

Source.    The Python files are the reference, and run as they are wherever there is no build.  `make compile` (build.py
           here) makes extension modules of them with mypyc, into a directory here that is named after the Python.
Choice.    The first import of one of MODULES decides, for all of them and for the life of the process: either each
           comes from the build, or each from its source.  A mixture would have two forms of one class.
Stale.     A build is used only if every source that mypyc read is still the same: not only MODULES, but also what
           they import, because mypyc copies constants from there and relies on the types.  It must be for this Python
           (ABI and platform), and complete.  In all other cases the sources run, and `find_state` says why.
Off.       ORACLE_COMPILED=off runs the sources although there is a build.
Cost.      Nothing is opened before that import.  Then it costs about 1 ms, most of it for reading the sources.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# All that is compiled.  Nothing else lists them.
MODULES: Final = (
    "oracle.api.hub.answers",
    "oracle.api.http.message",
    "oracle.api.http.plain",
    "oracle.api.http.request",
    "oracle.api.http.server",
    "oracle.api.http.turns",
    "oracle.api.hub.listener",
    "oracle.api.hub.participants",
    "oracle.api.hub.target",
    "oracle.budgets.buckets",
    "oracle.identifiers.clabe",
    "oracle.identifiers.email",
    "oracle.identifiers.iban",
    "oracle.identifiers.msisdn",
    "oracle.identifiers.nrc",
    "oracle.identifiers.opaque",
    "oracle.identifiers.reading",
    "oracle.identifiers.scheme",
    "oracle.store.cache.lookups",
    "oracle.store.cache.session",
    "oracle.store.cache.tags",
    "oracle.store.cache.values",
    "oracle.store.resolution",
    "oracle.store.routes",
    "oracle.telemetry.cells",
)
GROUP: Final = "oracle"
LIBRARY: Final = f"{GROUP}__mypyc"  # mypyc's name for the extension that holds the code of all MODULES
VARIABLE: Final = "ORACLE_COMPILED"
MANIFEST: Final = "manifest.json"
PYTHON: Final = EXTENSION_SUFFIXES[0].split(".")[1]  # implementation, version, ABI and platform

_HERE: Final = os.path.dirname(__file__)  # noqa: PTH120 - pathlib would cost every command 10 ms
_TOP: Final = os.path.dirname(os.path.dirname(_HERE))  # noqa: PTH120


class State(NamedTuple):
    compiled: bool
    reason: str = ""  # why not

    def __str__(self) -> str:
        return "compiled: true" if self.compiled else f"compiled: false, because {self.reason}"


_OFF: Final = State(compiled=False, reason=f"{VARIABLE} is off")


class Unusable(Exception):
    """Why there is no build that can be used, in words that follow `because`."""


def hash_source(path: str) -> str:
    """Return the SHA-256 of a file.  Raises OSError."""
    from hashlib import sha256  # noqa: PLC0415 - commands that import none of MODULES do without it

    file = os.open(path, os.O_RDONLY)
    try:
        return sha256(os.read(file, os.fstat(file).st_size + 1)).hexdigest()
    finally:
        os.close(file)


def find_build(builds: str, top: str, modules: Sequence[str] = MODULES, library: str = LIBRARY) -> Mapping[str, str]:
    """Return the file of each compiled module, if there is a build of the present sources for this Python.

    `builds`: the directory with a build for each Python; `top`: where the sources are.  Raises Unusable.
    """
    build = os.path.join(builds, PYTHON)  # noqa: PTH118
    manifest = _read_manifest(build)
    try:
        python, sources, sizes = manifest["python"], manifest["sources"], manifest["files"]
        for source, digest in sources.items():
            _check_source(top, source, digest)
        if python != PYTHON:
            raise Unusable(f"the build is for another Python ({python}): {_advise()}")
        files = {}
        for module in (library, *modules):
            name = module.replace(".", "/") + EXTENSION_SUFFIXES[0]
            if name not in sizes:
                raise Unusable(f"the build was made without {module}: {_advise()}")
            files[module] = _check_file(build, name, sizes[name])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Unusable(f"{build}/{MANIFEST} is damaged: {_advise()}") from None
    return files


def _read_manifest(build: str) -> dict[str, Any]:
    from json import loads  # noqa: PLC0415 - as above

    try:
        with open(os.path.join(build, MANIFEST), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            manifest = loads(file.read())
    except FileNotFoundError:
        raise Unusable(f"there is no build for this Python ({PYTHON}): {_advise()}") from None
    except OSError as exc:
        raise Unusable(f"{build}/{MANIFEST} cannot be read ({exc.strerror}): {_advise()}") from None
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise Unusable(f"{build}/{MANIFEST} is damaged: {_advise()}")
    return manifest


def _check_source(top: str, source: str, digest: str) -> None:
    try:
        if hash_source(os.path.join(top, source)) != digest:  # noqa: PTH118
            raise Unusable(f"{source} was changed after the build: {_advise()}")
    except OSError as exc:
        raise Unusable(f"{source}, of which it was built, cannot be read ({exc.strerror}): {_advise()}") from None


def _check_file(build: str, name: str, size: object) -> str:
    """Return the path of a file of the build, if it can be read and is complete."""
    path = os.path.join(build, name)  # noqa: PTH118
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            complete = os.fstat(file).st_size == size
        finally:
            os.close(file)
    except OSError as exc:
        raise Unusable(f"{path} cannot be read ({exc.strerror}): {_advise()}") from None
    if not complete:
        raise Unusable(f"{path} is damaged: {_advise()}")
    return path


def _advise() -> str:
    return "run `make compile`" if os.path.exists(os.path.join(_TOP, "Makefile")) else "install a compiled wheel"  # noqa: PTH110, PTH118


class Finder:
    """Finds the modules of a build: an entry of sys.meta_path."""

    def __init__(self, builds: str, top: str, modules: Sequence[str] = MODULES, library: str = LIBRARY) -> None:
        self._place = (builds, top, modules, library)
        self._names = frozenset((library, *modules))
        self._library = library
        self._files: Mapping[str, str] = {}
        self._state: State | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if name not in self._names or (name != self._library and not self.decide().compiled):
            return None
        from importlib.util import spec_from_file_location  # noqa: PLC0415 - as above

        file = self._files.get(name)
        return None if file is None else spec_from_file_location(name, file)

    def decide(self) -> State:
        """Decide whether this process uses the build: at the first call, and for its whole life."""
        if self._state is None:
            self._state = self._find_state()
        return self._state

    def _find_state(self) -> State:
        if os.environ.get(VARIABLE, "").strip() == "off":
            return _OFF
        try:
            self._files = find_build(*self._place)
            # It holds the code of all modules: if it can be loaded, so can they.
            __import__(self._library)
        except Unusable as exc:
            return State(compiled=False, reason=str(exc))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the sources run
            self._files = {}
            return State(compiled=False, reason=f"the build cannot be loaded: {exc}")
        return State(compiled=True)


_finder: Final = Finder(_HERE, _TOP)


def install() -> None:
    """Let imports find the build.  Nothing is opened yet."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def find_state(setting: str = "auto") -> State:
    """Return whether this process runs the lookup path compiled, or would if it imported it.

    `setting`: that of the service, which can come from a file.
    """
    return _OFF if setting == "off" else _finder.decide()
