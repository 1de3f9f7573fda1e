"""A `serve` whose workers are simple enough to misbehave on order: STAND_IN=dies|hangs|never-ready."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import oracle.run.supervisor
from oracle.run.supervisor import ROLES, Role, serve, work, worker_arguments
from oracle.settings import Settings, load

BEHAVIOUR = os.environ.get("STAND_IN", "")

# On a busy machine a start takes long, and who is killed right after it has died early all the same.
oracle.run.supervisor.STEADY_S = 600.0  # type: ignore[misc]


async def idle(settings: Settings, index: int, run_dir: Path, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Does nothing until it is stopped."""
    assert settings.database_url
    assert index >= 0
    assert os.path.isdir(run_dir)  # noqa: ASYNC240, PTH112 - it blocks nobody
    if BEHAVIOUR == "dies":
        sys.exit(3)
    if BEHAVIOUR == "hangs":
        print("will hang", flush=True)
    if BEHAVIOUR != "never-ready":
        ready()
    await stop.wait()
    if BEHAVIOUR == "hangs":
        print("hanging", flush=True)
        await asyncio.Event().wait()


async def answer(
    settings: Settings,
    listener: socket.socket,
    index: int,
    run_dir: Path,
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Answers every connection with its process id, also those that were accepted just before the stop."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d\n" % os.getpid())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(tell, sock=listener)
    await idle(settings, index, run_dir, ready, stop)
    server.close()
    for _ in range(10):  # a few turns of the loop are all that `tell` takes
        await asyncio.sleep(0)


def command(role: Role, index: int, listener: int | None, control: int) -> Sequence[str]:
    return [sys.executable, __file__, *worker_arguments(role, index, listener, control)]


def main() -> int:
    if sys.argv[1:2] != ["worker"]:
        serve(load(os.environ).settings, ROLES, command)
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=ROLES)
    for name in ("--index", "--fd", "--control"):
        parser.add_argument(name, type=int)
    told = parser.parse_args(sys.argv[2:])
    return work(told.role, told.index, told.fd, told.control, idle if told.fd is None else answer)


if __name__ == "__main__":
    sys.exit(main())
