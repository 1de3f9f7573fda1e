"""What the supervisor and its workers agree on: roles, the order that a worker gets, the reports that it sends.

Both travel on the control socket, as lines of JSON.  SIGHUP brings workers of a newer version below the same
supervisor, so each side ignores fields that it does not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from oracle.run.tls import Credentials
from oracle.settings import Settings
from oracle.store.base import Confirmed

Role = Literal["hub", "admin", "jobs", "account-lookup", "oracles"]
# These always run.
ROLES: Final[tuple[Role, ...]] = ("hub", "admin", "jobs")
# `--only`: jobs are ordered at the admin listener, so they run where that is.
PARTS: Final[Mapping[str, tuple[Role, ...]]] = {
    "hub": ("hub",),
    "admin": ("admin", "jobs"),
    "account-lookup": ("account-lookup",),
    "oracles": ("oracles",),
}

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
    credentials: Mapping[str, Credentials] = {}  # of the listeners that use TLS, by their roles

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


def choose_roles(settings: Settings, part: str | None = None) -> tuple[Role, ...]:
    """Choose what runs: all that the settings turn on, or only this part of PARTS."""
    roles = ROLES
    if settings.account_lookup == "on":
        roles += ("account-lookup",)
    if settings.account_lookup_admin_port is not None:
        roles += ("oracles",)
    return roles if part is None else tuple(role for role in roles if role in PARTS[part])


def count_processes(settings: Settings, role: Role) -> int:
    """Count the workers of a role."""
    return {"hub": settings.workers, "account-lookup": settings.account_lookup_workers}.get(role, 1)


def worker_arguments(role: Role, index: int, listener: int | None, control: int) -> Sequence[str]:
    arguments = f"worker --role {role} --index {index} --control {control}".split()
    return arguments if listener is None else [*arguments, "--fd", str(listener)]
