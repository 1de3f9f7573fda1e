"""A `serve` whose workers are simple enough to misbehave on order: STAND_IN=dies|hangs|never-ready.

STAND_IN_SILENT_S is how long a worker of any role can be silent before it counts as hung.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from oracle.run.crew import CrewLimits
from oracle.run.order import ROLES, Role, worker_arguments
from oracle.run.supervisor import serve
from oracle.run.worker import Link, work
from oracle.settings import Settings, load

BEHAVIOUR = os.environ.get("STAND_IN", "")

# On a busy machine a start takes long, and a worker that is killed right after it must still count as an early death.
SILENT_S = float(os.environ.get("STAND_IN_SILENT_S", "60"))
LIMITS = CrewLimits(steady_s=600.0, silent_s=SILENT_S, jobs_silent_s=SILENT_S)


async def idle(settings: Settings, index: int, run_dir: Path, link: Link, stop: asyncio.Event) -> None:
    """Do nothing until stopped."""
    assert settings.database_url
    assert index >= 0
    assert os.path.isdir(run_dir)  # noqa: ASYNC240, PTH112 - it blocks nobody
    if BEHAVIOUR == "dies":
        sys.exit(3)
    if BEHAVIOUR == "hangs":
        print("will hang", flush=True)
    if BEHAVIOUR != "never-ready":
        link.report_ready()
        print("has reported", flush=True)
    await stop.wait()
    if BEHAVIOUR == "hangs":
        print("hanging", flush=True)
        await asyncio.Event().wait()


async def answer(
    settings: Settings,
    listener: socket.socket,
    index: int,
    run_dir: Path,
    link: Link,
    stop: asyncio.Event,
) -> None:
    """Answer every connection with the process id, also those that were accepted just before the stop."""

    async def write_pid(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d\n" % os.getpid())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(write_pid, sock=listener)
    await idle(settings, index, run_dir, link, stop)
    server.close()
    for _ in range(10):  # `write_pid` takes only a few turns of the loop
        await asyncio.sleep(0)


def command(role: Role, index: int, listener: int | None, control: int) -> Sequence[str]:
    return [sys.executable, __file__, *worker_arguments(role, index, listener, control)]


def main() -> int:
    if sys.argv[1:2] != ["worker"]:
        serve(load(os.environ).settings, ROLES, command, LIMITS)
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=ROLES)
    for name in ("--index", "--fd", "--control"):
        parser.add_argument(name, type=int)
    given = parser.parse_args(sys.argv[2:])
    return work(given.role, given.index, given.fd, given.control, idle if given.fd is None else answer)


if __name__ == "__main__":
    sys.exit(main())
