"""Processes of the oracle that need not import: each begins as a copy of one that has imported everything.

`start(command, …)` is `python -m oracle WORDS`, or a program of the tests, without the half second of CPU that the
imports take, or the two seconds of a `serve` with its workers.  A run starts hundreds.  All else is real: a process of
its own for the command, for the supervisor and for each worker, with arguments, environment, descriptors, signals and
an exit code of its own.

Not the same: modules that a command does not import are there as well, and /proc/PID/environ has the environment of the
tests.  Tests of these, and of the start of a process itself, ask for a new interpreter (`cold` in oracle_process).

Nursery.   The process that has imported everything.  It forks what is asked for, and reports how it ended.  It ends
           with the tests, and ends its copies then.
Workers.   A supervisor forks its workers itself, because they must be its children: the supervisor has imported all
           that they need.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = Path(__file__).parent
# Room for the arguments of a copy, where `ps` and psutil read them.
ROOM: Final = "-" * 600
REQUEST_BYTES_MAX: Final = 1 << 18
PR_SET_DUMPABLE: Final = 4
# What an interpreter reads when it starts, before any code of ours.
READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "TZ", "MALLOC_", "ORACLE_COMPILED")


def choose_environment(env: dict[str, str]) -> dict[str, str]:
    """Choose the variables that a process reads before it can be told others."""
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


def can_start(command: Sequence[str], env: dict[str, str]) -> bool:
    """Whether a copy does the same as this command.  macOS has no safe fork, and no pidfd."""
    same = choose_environment(env) == choose_environment(dict(os.environ))
    return hasattr(os, "pidfd_open") and is_ours(command) and same


def is_ours(command: Sequence[str]) -> bool:
    """Whether this is the oracle, or a program of the tests."""
    interpreter, program, *words = [*command, "", ""]
    return interpreter == sys.executable and (
        (program == "-m" and words[0] == "oracle") or (program.endswith(".py") and Path(program).is_relative_to(HERE))
    )


# For the tests --------------------------------------------------------------------------------------------------


class Copy:
    """A process that the nursery has forked, for those who know a subprocess.Popen."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status
        self.returncode: int | None = None
        self.pid = self._receive()

    def _receive(self) -> int:
        return int(self._status.recv(64) or b"-9")  # nothing: the nursery was killed, and ends its copies

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("oracle", timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _end(self) -> None:
        self.returncode = self._receive()
        self._status.close()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The tests' side of it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([sys.executable, __file__, ROOM], stdin=theirs.fileno())

    def start(self, command: Sequence[str], env: dict[str, str], cwd: Path, stdio: list[int]) -> Copy:
        status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"command": command, "env": env, "cwd": str(cwd)}).encode()
        with theirs:
            socket.send_fds(self._control, [request], [*stdio, theirs.fileno()])
        return Copy(status)

    def close(self) -> None:
        self._control.close()
        self._process.wait()


_nurseries: list[Nursery] = []
_starting = threading.Lock()


def start(command: Sequence[str], env: dict[str, str], cwd: Path, stdio: list[int]) -> Copy:
    """Start a command that `can_start` in a session of its own; `stdio` are its descriptors 0, 1 and 2."""
    with _starting:
        if not _nurseries:
            _nurseries.append(Nursery())
            atexit.register(_nurseries[0].close)
        return _nurseries[0].start(command, env, cwd, stdio)


# The nursery ----------------------------------------------------------------------------------------------------


def import_everything() -> None:
    import pkgutil
    from importlib import import_module

    import uvloop  # noqa: F401 - imported for the workers

    import oracle.commands
    from oracle.api.console.console import read_files
    from oracle.identifiers import Reading
    from oracle.run import supervisor, wiring

    del supervisor
    for module in pkgutil.iter_modules(oracle.commands.__path__, "oracle.commands."):
        import_module(module.name)
    for role in ("hub", "admin", "jobs", "account-lookup", "oracles"):
        wiring.load(role)
    Reading().preload()
    read_files()


def nurse(control: socket.socket) -> None:
    """Fork a copy for each request, and report its process id and then its exit code, until the tests end."""
    import_everything()
    gc.collect()
    gc.freeze()  # else each copy would copy all of this memory at its first collection
    statuses: dict[int, socket.socket] = {}
    wake, waker = socket.socketpair()
    for end in (wake, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    arguments = find_arguments()
    while True:
        readable = select.select([control, wake], [], [])[0]
        if wake in readable:
            wake.recv(4096)
            report_ends(statuses)
        if control in readable:
            request, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES_MAX, 4)
            if not request:
                break
            status = socket.socket(fileno=descriptors.pop())
            asked = json.loads(request)
            pid = fork(asked["command"], arguments)
            if pid == 0:
                os.setsid()
                become(asked, dict(enumerate(descriptors)))
            for descriptor in descriptors:
                os.close(descriptor)
            statuses[pid] = status
            status.send(b"%d" % pid)
    for pid in statuses:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def report_ends(statuses: dict[int, socket.socket]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with statuses.pop(pid) as reporting, suppress(OSError):  # nobody waits for it any more
                reporting.send(b"%d" % os.waitstatus_to_exitcode(status))


# A copy ---------------------------------------------------------------------------------------------------------


def fork(words: list[str], arguments: tuple[int, int]) -> int:
    """Fork, so that no signal to the child reaches a handler of its parent.

    The child shows these words as its arguments before the parent goes on, as after an exec: else who looks for a
    worker right then finds one more supervisor.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    shown, showing = os.pipe()
    every = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with warnings.catch_warnings():
        # Python 3.12 and newer warn where a supervisor has a thread: a copy uses none of its parent's locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        show_arguments(words, arguments)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(showing)
    if pid:
        os.read(shown, 1)  # the end of it, when the child has shown them or is dead
    os.close(shown)
    signal.pthread_sigmask(signal.SIG_SETMASK, every)
    return pid


def become(request: dict[str, Any], descriptors: dict[int, int]) -> NoReturn:
    """Become the command in this process, which was just forked; `descriptors`: what each of its descriptors is."""
    code = 1
    try:
        keep_descriptors(descriptors)
        os.environ.clear()
        os.environ.update(request["env"])
        if request["cwd"]:
            os.chdir(request["cwd"])
        open_streams()
        asyncio.create_subprocess_exec = worker_forker(find_arguments(), asyncio.create_subprocess_exec)
        code = run(*request["command"][1:])
    finally:
        os._exit(code)


def run(program: str, *words: str) -> int:
    """Run the program, and what an interpreter does at its end."""
    code = 0
    try:
        if program == "-m":
            sys.argv, sys.path[0] = list(words), str(Path.cwd())
            runpy.run_module("oracle", run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = [program, *words], str(Path(program).parent)
            runpy.run_path(program, run_name="__main__")
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - as an interpreter does
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    with suppress(OSError):
        sys.stderr.flush()
    return code


def keep_descriptors(descriptors: dict[int, int]) -> None:
    """Close all but these.  Those above 2 keep their numbers."""
    moved = {number: os.dup(given) if number != given else given for number, given in descriptors.items()}
    for number, given in moved.items():
        if number != given:
            os.dup2(given, number)
        os.set_inheritable(number, number <= 2)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - the descriptor of the listing itself is in it
        if int(name) not in descriptors:
            with suppress(OSError):
                os.close(int(name))


def open_streams() -> None:
    """Open the standard streams as an interpreter does."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), line_buffering=os.isatty(1))  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", buffering=0, closefd=False), errors="backslashreplace", write_through=True, line_buffering=True  # noqa: SIM115
    )  # fmt: skip


def find_arguments() -> tuple[int, int]:
    """Find where the kernel reads the arguments of this process, and where they end."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[45]), int(fields[46])


def show_arguments(words: list[str], place: tuple[int, int]) -> None:
    start, end = place
    text = b"\0".join(os.fsencode(word) for word in words)[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


class Worker:
    """A forked worker, for a supervisor that knows an asyncio.subprocess.Process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._watched = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._watched, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._watched)
        os.close(self._watched)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._ended.set()

    async def wait(self) -> int | None:
        await self._ended.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def worker_forker(arguments: tuple[int, int], execute: Any) -> Any:
    """Make what starts a worker, in place of asyncio.create_subprocess_exec, which is left to all else."""

    async def start_worker(*command: str, **options: Any) -> Any:
        same = choose_environment(options.get("env") or {}) == choose_environment(dict(os.environ))
        if not same or not is_ours(command) or "worker" not in command[2:4]:
            return await execute(*command, **options)
        pid = fork(list(command), arguments)
        if pid == 0:
            os.setpgid(0, options["process_group"])
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            nothing = os.open(os.devnull, os.O_RDWR)
            descriptors = {0: nothing, 1: 1, 2: 2, **{given: given for given in options["pass_fds"]}}
            become({"command": command, "env": options["env"], "cwd": ""}, descriptors)
        return Worker(pid)

    return start_worker


if __name__ == "__main__":
    nurse(socket.socket(fileno=os.dup(0)))
