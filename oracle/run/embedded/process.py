"""One server as a child process: its start, its end, its log, and the process that a pid file names."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from oracle.run.embedded.directory import open_private_file
from oracle.run.embedded.errors import EmbeddedError, add_remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POLL_S: Final = 0.01
START_S: Final = 30.0  # the first start on a slow disk writes and syncs about 40 MB
STOP_S: Final = 20.0  # a fast shutdown writes one checkpoint; a PostgreSQL killed after this recovers from its log
WATCH_S: Final = 0.1


class Server(ABC):
    """One child process: `start` returns when it is ready, `stop` when it has ended."""

    name: ClassVar[str]
    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Path, run: Path) -> None:
        self.home = home
        self.run = run
        self.log = home / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @abstractmethod
    async def start(self) -> None:
        """Start it, the first time or after its death.  Raises EmbeddedError, OSError."""

    async def stop(self) -> None:
        """Stop it in order; by force after STOP_S, or when we are cancelled while waiting."""
        process = self.process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(self.stop_signal)
            await wait_until(lambda: process.poll() is not None, STOP_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL, which is how a crash looks."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def wait_for_end(self) -> str:
        """Wait until it ends, and return why it ended."""
        process = self.process
        assert process is not None  # noqa: S101 - the caller has started it
        while (code := process.poll()) is None:  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(WATCH_S)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def launch(self, command: Sequence[str], *, stdin: bytes = b"") -> subprocess.Popen[bytes]:
        """Run the command in a session of its own.

        It writes to the server's log, and gets none of our environment, which holds secrets.
        """
        with open_private_file(self.log) as log, tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            self._log_start = log.seek(0, os.SEEK_END)
            return subprocess.Popen(
                command,
                stdin=given,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )

    async def wait_ready(
        self, process: subprocess.Popen[bytes], is_ready: Callable[[], bool], within_s: float = START_S
    ) -> None:
        await wait_until(lambda: process.poll() is not None or is_ready(), within_s)
        if process.poll() is not None:
            raise EmbeddedError(f"{self.title} did not start: {self.complaint()}")
        if not is_ready():
            raise EmbeddedError(f"{self.title} was not ready after {within_s:.0f} s: {self.complaint()}")

    def complaint(self) -> str:
        """Return the first line since the launch that calls itself an error, else the last one; with the log's path."""
        return f"{add_remedy(find_complaint(self.read_log()))} (log: {self.log})"

    def read_log(self) -> str:
        """Read the log since the launch.  Backends of a killed server may still write to the same file."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    async def stop_leftover(self, pid_file: Path, argument: Path) -> None:
        """Stop the server of a killed holder: one that is still stopping, or that the kernel did not stop.

        Its command line has `argument` in it.  A number in the file that another process has by now does not.
        """
        for wanted in (self.stop_signal, signal.SIGKILL):
            pid = _find_process(pid_file, argument)
            if pid is None:
                return
            with suppress(ProcessLookupError):
                os.kill(pid, wanted)
            await wait_until(lambda: _find_process(pid_file, argument) is None, STOP_S)


async def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Return when the condition holds or the time has passed; the caller checks which."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process sets no event
        await asyncio.sleep(POLL_S)


def find_complaint(text: str) -> str:
    """Find the first error in what a server printed, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if found := re.search(r"(?:PANIC|FATAL|ERROR|error): +(.*)", line):
            return found[1]
    return lines[-1] if lines else "it printed nothing"


def end_with_us(signal_name: str) -> list[str]:
    """Return the command prefix that makes the kernel send this signal when our thread ends.

    Without the program setpriv it is empty, and the next start stops a server that is left.  This must be the
    last step before the server: the kernel drops the request when the process changes its user.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name, "--"] if setpriv else []


def read_process(pid_file: Path) -> tuple[int, list[bytes]]:
    """Read the process that the file names, and its command line, which is empty when it is dead or a zombie."""
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        return pid, [word for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if word]
    except (OSError, ValueError):
        return 0, []


def _find_process(pid_file: Path, argument: Path) -> int | None:
    """Find the process that the file names, if it lives and was started with this argument."""
    pid, words = read_process(pid_file)
    return pid if os.fsencode(argument) in words else None
