"""What the supervisor and its workers agree on: roles, the order that a worker gets, the reports that it sends.

Both travel on the control socket, as lines of JSON.  SIGHUP brings workers of a newer version below the same
supervisor, so each side ignores fields that it does not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from oracle.settings import Settings
from oracle.store.base import Confirmed

Role = Literal["hub", "admin", "jobs"]
ROLES: Final[tuple[Role, ...]] = ("hub", "admin", "jobs")
# `--only`: jobs are ordered at the admin listener, so they run where that is.
PARTS: Final[Mapping[str, tuple[Role, ...]]] = {"hub": ("hub",), "admin": ("admin", "jobs")}

# The coroutine of a role: settings, listener (left out where the role has none), index, run_dir, link, stop.
Target = Callable[..., Awaitable[None]]
# The command of a worker: role, index, file descriptor of the listener, if there is one, and of the control socket.
Command = Callable[[Role, int, int | None, int], Sequence[str]]


class Order(msgspec.Struct, frozen=True):
    """What a worker needs to know; it holds secrets, so it travels on the control socket alone."""

    settings: Settings
    run_dir: Path
    beat_s: float = 1.0  # the time between two reports of the worker
    confirmed: Confirmed | None = None  # the last generation that a worker of this supervisor has read
    logs_states: bool = False  # this supervisor logs what its workers report of PostgreSQL and Redis

    def encode(self) -> bytes:
        """Write it as one line of JSON."""
        return msgspec.json.encode(self, enc_hook=str) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Order:
        return msgspec.json.decode(line, type=cls, dec_hook=_decode_other)


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker sends every `beat_s`: that its event loop turns.  A worker that hangs sends none."""

    ready: bool = False  # it answers
    confirmed: Confirmed | None = None  # the generation that it has read last, and when
    states: Mapping[str, str] = {}  # of PostgreSQL and Redis, as this process sees them (api/health)

    def encode(self) -> bytes:
        """Write it as one line of JSON."""
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Report:
        """Raises msgspec.DecodeError."""
        return msgspec.json.decode(line, type=cls)


def _decode_other(kind: type[Any], value: Any) -> Any:
    """Read what JSON has no form for: paths."""
    return kind(value)


def worker_arguments(role: Role, index: int, listener: int | None, control: int) -> Sequence[str]:
    arguments = f"worker --role {role} --index {index} --control {control}".split()
    return arguments if listener is None else [*arguments, "--fd", str(listener)]
