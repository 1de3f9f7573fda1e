"""Keeps files in the run directory for workers that start while PostgreSQL is away: routes, oracles, participants.

The generation is handed over by the supervisor (crew.py).  The routes can be 10 MB, too much for its control sockets.
They are useless without the generation: a worker uses them only if they have the version that its order names.
Registered oracles and participants have no version: the next read from PostgreSQL replaces them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from oracle.private_files import create_private_file
from oracle.store.oracles import RegisteredOracle
from oracle.store.participants import DirectoryParticipants
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
        try:
            _replace(self._path, msgspec.msgpack.encode(_Kept(version, rows)))
        except OSError as exc:
            log.warning("The routes cannot be kept for a worker that starts without PostgreSQL", exc=exc)

    def read(self, version: int) -> list[RouteRow] | None:
        """Return the routes of that version; None if they are not there."""
        if self._path is None:
            return None
        with suppress(OSError, msgspec.DecodeError):
            kept = msgspec.msgpack.decode(self._path.read_bytes(), type=_Kept)
            if kept.version == version:
                return list(kept.rows)
        return None


class OraclesFile:
    """The registered oracles that an account lookup worker of this service read last."""

    def __init__(self, run_dir: Path | None) -> None:
        self._path = None if run_dir is None else run_dir / "oracles.msgpack"

    def keep(self, rows: Sequence[RegisteredOracle]) -> None:
        """Replace the file as a whole, as that of the routes."""
        if self._path is None:
            return
        try:
            _replace(self._path, msgspec.msgpack.encode(rows))
        except OSError as exc:
            log.warning("The oracles cannot be kept for a worker that starts without PostgreSQL", exc=exc)

    def read(self) -> list[RegisteredOracle] | None:
        """Return the oracles; None if they are not there."""
        if self._path is not None:
            with suppress(OSError, msgspec.DecodeError):
                return msgspec.msgpack.decode(self._path.read_bytes(), type=list[RegisteredOracle])
        return None


class ParticipantsFile:
    """The FSPs, endpoints and JWS keys that an account lookup worker of this service read last."""

    def __init__(self, run_dir: Path | None) -> None:
        self._path = None if run_dir is None else run_dir / "participants.msgpack"

    def keep(self, participants: DirectoryParticipants) -> None:
        """Replace the file as a whole.  A disk that is full leaves none, and is no reason to stop."""
        if self._path is None:
            return
        try:
            _replace(self._path, msgspec.msgpack.encode(participants))
        except OSError as exc:
            log.warning("The participants cannot be kept for the next worker", exc=exc)

    def read(self) -> DirectoryParticipants | None:
        if self._path is None:
            return None
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.msgpack.decode(self._path.read_bytes(), type=DirectoryParticipants)
        return None


def _replace(path: Path, content: bytes) -> None:
    """Replace a file as a whole; an error leaves nothing beside it.  Raises OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with create_private_file(fresh) as file:
            file.write(content)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
