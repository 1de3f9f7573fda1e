"""Keeps secrets of the settings inside the service: the owner's URL of the database, keys, passwords in URLs.

Environment.  A worker gets its settings on the control socket, and nothing of ORACLE_* in its environment: a fault that
              lets somebody read /proc/self/environ must not give them the owner of the database.
Supervisor.   Its environment holds what the operator set.  No process of the same user can read it, nor the memory.
Core dumps.   A dump of a process holds all of these, and identifiers.  So neither we nor our servers write one.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from oracle.settings import PREFIX

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def forbid_core_dumps() -> None:
    """Write no core dump, from this process and from all that it starts."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def hide_process() -> None:
    """Let no process of the same user read the environment and the memory of this one, where the kernel can do that."""
    with suppress(OSError, AttributeError):  # another kernel than Linux, or another C library
        import ctypes  # noqa: PLC0415 - for the supervisor alone

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a worker."""
    return {name: value for name, value in environ.items() if not name.upper().startswith(PREFIX)}
