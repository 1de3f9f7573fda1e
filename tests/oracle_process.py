"""The real `oracle serve` for tests: `with start_oracle(tmp_path, {"ORACLE_DATABASE_URL": database_url}) as oracle:`.

It has free ports, JSON logs, a data directory below tmp_path, and embedded servers where the test gives no URL.
The ports come from the log line "The oracle is ready" (so keep ORACLE_LOG_LEVEL at info).  The end of the block ends
every process that it started.

Processes are copies of one that has imported everything (warm.py).  `cold=True` starts interpreters, as a person does:
for tests of the start itself, of what is imported, and of what the kernel shows of a process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

import psutil
import warm

from oracle.compiled import VARIABLE

SERVE = (sys.executable, "-m", "oracle", "serve")
# A process imports for half a second of CPU time, and gets a tenth of a core on a busy machine.
PATIENCE_S = 60.0
# For a test of answers, not of their time: on a busy machine Redis can take longer than 50 ms, and a lookup longer than
# a second.
PATIENT = {
    "ORACLE_CACHE_TIMEOUT_MS": "10000",
    "ORACLE_LOOKUP_TIMEOUT_MS": "15000",
    "ORACLE_CHANGE_TIMEOUT_MS": "15000",
}


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait for a condition; the test fails when it does not come true."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.01
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)  # to ask takes CPU that what we wait for needs


def environment(tmp_path: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without the oracle settings of the person who runs the tests, but for ORACLE_COMPILED."""
    kept = {VARIABLE}
    inherited = {name: value for name, value in os.environ.items() if name in kept or not name.startswith("ORACLE_")}
    standard = {
        "ORACLE_DATA_DIR": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "ORACLE_HUB_PORT": "0",
        "ORACLE_ADMIN_PORT": "0",
        "ORACLE_LOG_FORMAT": "json",
    }
    return {**inherited, **standard, **(env or {})}


def run_oracle(
    tmp_path: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
    cold: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run one command of the real command line to its end."""
    command, given = [sys.executable, "-m", "oracle", *arguments], environment(tmp_path, env)
    if not cold and warm.can_start(command, given):
        return _run_copy(command, given, tmp_path, timeout_s)
    return subprocess.run(
        command,
        env=given,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _run_copy(command: list[str], env: dict[str, str], cwd: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    with Path(os.devnull).open() as nothing, TemporaryFile() as out, TemporaryFile() as err:
        copy = warm.start(command, env, cwd, [file.fileno() for file in (nothing, out, err)])
        try:
            code = copy.wait(timeout_s)
        finally:
            copy.kill()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(command, code, *texts)


def is_gone(process: psutil.Process) -> bool:
    """Dead; a zombie that its new parent does not reap is dead as well."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class OracleProcess:
    """A running `serve`.  It ends with its `with` block."""

    def __init__(
        self,
        command: Sequence[str],
        tmp_path: Path,
        env: Mapping[str, str] | None,
        *,
        cold: bool = False,
        **popen: Any,
    ) -> None:
        self._log = tmp_path / f"oracle-{time.monotonic_ns()}.log"
        self._seen: dict[int, psutil.Process] = {}
        with self._log.open("wb") as log:
            self.process = _start(list(command), environment(tmp_path, env), tmp_path, log, popen, cold=cold)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """stdout and stderr so far, of the workers as well."""
        return self._log.read_text(errors="replace")

    def read_lines(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        return [json.loads(line) for line in self.output.split("\n")[:-1] if line.startswith("{")]

    def find_log_lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self.read_lines() if line["event"] == event]

    @property
    def hub_url(self) -> str:
        return str(self.find_log_lines("The oracle is ready")[0]["hub_url"])

    @property
    def admin_url(self) -> str:
        return str(self.find_log_lines("The oracle is ready")[0]["admin_url"])

    @property
    def hub_port(self) -> int:
        return urlsplit(self.hub_url).port or 0

    @property
    def admin_port(self) -> int:
        return urlsplit(self.admin_url).port or 0

    def descendants(self) -> list[psutil.Process]:
        """Every process below ours: workers, servers, their backends."""
        try:
            living: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen.update({process.pid: process for process in living})
        return living

    def workers(self, role: str = "hub") -> list[psutil.Process]:
        return [process for process in self.descendants() if _is_worker(process, role)]

    def wait_ready(self, timeout_s: float = 2 * PATIENCE_S) -> Self:
        until(lambda: self.find_log_lines("The oracle is ready") or self.process.poll() is not None, timeout_s)
        assert self.process.poll() is None, f"serve ended with {self.process.returncode}:\n{self.output}"
        self.descendants()
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """Stop it in order, as an operator does; returns the exit code."""
        self.descendants()
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """Kill the supervisor alone; `wait_gone` waits for its children to end."""
        self.descendants()
        self.process.kill()
        self.process.wait()

    def wait_gone(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until none of the processes ever seen below ours is left."""
        until(lambda: all(is_gone(process) for process in self._seen.values()), timeout_s)

    def close(self) -> None:
        try:
            if self.process.poll() is None:
                self.stop()
        finally:
            self.kill()
            for process in self._seen.values():
                if not is_gone(process):
                    process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_oracle(
    tmp_path: Path,
    env: Mapping[str, str] | None = None,
    ready_timeout_s: float = 2 * PATIENCE_S,
    *,
    command: Sequence[str] = SERVE,
    cold: bool = False,
    **popen: Any,
) -> OracleProcess:
    """A `serve` that answers."""
    oracle = OracleProcess(command, tmp_path, env, cold=cold, **popen)
    try:
        return oracle.wait_ready(ready_timeout_s)
    except BaseException:
        oracle.close()
        raise


def _start(
    command: list[str], env: dict[str, str], cwd: Path, log: IO[bytes], popen: dict[str, Any], *, cold: bool
) -> subprocess.Popen[bytes] | warm.Copy:
    if not cold and not popen and warm.can_start(command, env):
        with Path(os.devnull).open() as nothing:
            return warm.start(command, env, cwd, [nothing.fileno(), log.fileno(), log.fileno()])
    standard: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": log,
        "stderr": subprocess.STDOUT,
        "start_new_session": True,  # signals to its group must not reach the tests
    }
    return subprocess.Popen(command, env=env, cwd=cwd, **{**standard, **popen})


def _is_worker(process: psutil.Process, role: str) -> bool:
    try:
        arguments = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return "worker" in arguments and arguments[arguments.index("--role") + 1] == role
