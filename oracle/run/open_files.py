"""How many files a process can have open, and how many clients a hub worker can therefore serve.

A socket is an open file.  At the limit a worker can accept no client, and also can neither connect to PostgreSQL again
nor write a file.  So the soft limit, which is often 1,024, is raised to the hard one, and clients are refused before
they reach it.
"""

from __future__ import annotations

import resource
from typing import Final, NamedTuple

from oracle.telemetry import logs

# More than every limit of this program, and few enough for programs that close each possible number.
OPEN_FILES_MAX: Final = 65_536
# For a worker's own files: 20 connections to PostgreSQL, one to each server of a cluster, metrics, pipes, libraries.
RESERVED: Final = 128
# The defaults of the HTTP server (api.http.Limits), which the supervisor does not import.
CLIENTS_MAX: Final = 10_000
REFUSED_MAX: Final = 10_000
CALLS_MAX: Final = 2_000  # connections to FSPs (calls.CallLimits)

log = logs.Log(__name__)


class Clients(NamedTuple):
    served: int
    refused: int  # further ones, which get a 503 and keep their socket for a moment; all others are cut off


def raise_open_files() -> None:
    """Raise the limit of this process and of all that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def log_open_files() -> None:
    """Log the limit, once for the whole service."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    served = count_clients(soft).served
    if served < CLIENTS_MAX:
        log.warning(
            "The hard limit of open files is low: hub workers refuse clients early. Raise it (ulimit -Hn)",
            open_files=soft, hub_clients_max=served,
        )  # fmt: skip
    else:
        log.info("The limit of open files", open_files=soft, hub_clients_max=served)


def count_calls(open_files: int | None = None) -> int:
    """Return how many connections to FSPs an account lookup worker can open below a limit: a quarter of its files."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if open_files is None else open_files
    if limit == resource.RLIM_INFINITY:
        return CALLS_MAX
    return min(CALLS_MAX, max((limit - RESERVED) // 4, 1))


def count_clients(open_files: int | None = None, *, calls: int = 0) -> Clients:
    """Return how many clients fit below a limit of open files, beside so many calls; None: that of this process."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if open_files is None else open_files
    if limit == resource.RLIM_INFINITY:
        return Clients(CLIENTS_MAX, REFUSED_MAX)
    room = max(limit - RESERVED - calls, 2)
    served = min(CLIENTS_MAX, room - min(REFUSED_MAX, room // 8 + 1))
    return Clients(served, min(REFUSED_MAX, room - served))
