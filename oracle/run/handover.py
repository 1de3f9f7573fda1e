"""Keeps the routes in a file of the run directory, for hub workers that start while PostgreSQL is away.

The generation is handed over by the supervisor (crew.py).  The routes can be 10 MB, too much for its control sockets.
They are useless without the generation: a worker uses them only if they have the version that its order names.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from oracle.private_files import create_private_file
from oracle.telemetry import logs

if TYPE_CHECKING:
    from oracle.store.routes import RouteRow

log = logs.Log(__name__)


class _Kept(msgspec.Struct, frozen=True):
    version: int
    rows: list[tuple[str, str, str, str, float, float]]


class RoutesFile:
    """The routes that a hub worker of this service loaded last."""

    def __init__(self, run_dir: Path | None) -> None:
        self._path = None if run_dir is None else run_dir / "routes.msgpack"

    def keep(self, version: int, rows: list[RouteRow]) -> None:
        """Replace the file as a whole.  A disk that is full leaves none, and is no reason to load no routes."""
        if self._path is None:
            return
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            with create_private_file(fresh) as file:
                file.write(msgspec.msgpack.encode(_Kept(version, rows)))
            fresh.replace(self._path)
        except OSError as exc:
            log.warning("The routes cannot be kept for a worker that starts without PostgreSQL", exc=exc)
            with suppress(OSError):
                fresh.unlink()

    def read(self, version: int) -> list[RouteRow] | None:
        """Return the routes of that version; None if they are not there."""
        if self._path is None:
            return None
        with suppress(OSError, msgspec.DecodeError):
            kept = msgspec.msgpack.decode(self._path.read_bytes(), type=_Kept)
            if kept.version == version:
                return list(kept.rows)
        return None
