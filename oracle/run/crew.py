"""The workers as the supervisor sees them: started, restarted, replaced and ended.

Control.   Each worker has a socket pair with the supervisor.  The supervisor sends the order; it holds secrets, so it
           is neither in arguments nor in the environment.  The worker reports when it answers, and then several times
           within the time limit.  The end of the pair means that the supervisor is gone; then a worker stops by
           itself, however the supervisor ended.
Deaths.    A worker that dies is started again: at once, and after longer and longer pauses when it keeps dying.
           A worker that dies before the first start is complete ends `serve`: the cause is a wrong setting.
Silence.   A worker that sends no report for `silent_s` hangs: it is killed, and that is a death like others.  The
           supervisor counts the silence each time it wakes, not by the clock.  While the whole machine is suspended, or
           the supervisor itself is stopped, the supervisor does not wake, so nobody is killed for that time.
Memory.    The reports say what the workers have read of the generation.  A worker that starts while PostgreSQL is away
           gets the newest of it with its order, so that it can answer from copies.
SIGHUP.    Workers are replaced one after the other.  The new one answers before the old one stops.  When one does not
           start with the new settings, those that have them are replaced again, with the old ones.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from oracle import compiled
from oracle.backoff import Backoff
from oracle.run.errors import ServeError
from oracle.run.order import Command, Order, Report, Role, count_processes
from oracle.run.secrecy import drop_settings
from oracle.run.states import LOOK_S, States
from oracle.run.worker import CLOSING_S
from oracle.settings import Settings
from oracle.store.base import Confirmed
from oracle.telemetry import logs

PAUSES_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

# How often the supervisor looks within `silent_s`, and how often a worker reports.
LOOKS: Final = 20
REPORT_BYTES_MAX: Final = 65_536

log = logs.Log(__name__)


@dataclass(frozen=True)
class CrewLimits:
    """How long the supervisor waits for a worker, in seconds."""

    ready_s: float = 60.0  # importing on a busy machine takes seconds; a worker that takes longer hangs
    steady_s: float = 10.0  # a worker that lived longer did not die because of its start
    silent_s: float = 10.0  # the longest turn of an event loop takes a tenth of a second
    jobs_silent_s: float = 60.0  # this worker gets the processor last, and nobody waits for its answer

    def find_silent_s(self, role: Role) -> float:
        return self.jobs_silent_s if role == "jobs" else self.silent_s


class WorkerProcess:
    """One process: its control socket, whether it is ready, its reports, how it ended."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket, ready_s: float) -> None:
        self.process = process
        self.born = time.monotonic()
        self.silent_s = 0.0  # without a report, in time that the supervisor was awake
        self.confirmed: Confirmed | None = None  # as it has reported
        self.states: Mapping[str, str] = {}  # as it has reported
        self._reports_on = False  # a worker of an older version sends one byte and no report
        self._received = b""
        self._ready_s = ready_s
        self._ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._control = control
        asyncio.get_running_loop().add_reader(control, self._receive)
        self.ended = asyncio.create_task(self._wait_for_end())

    def instruct(self, order: Order) -> None:
        with suppress(OSError):  # it is dead, which `ended` reports
            self._control.sendall(order.encode())

    async def is_ready(self) -> bool:
        """Wait until it answers; False when it ended instead, or hangs."""
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._ready), self._ready_s)
        return False

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        log.warning("A worker did not stop in time; killing it", pid=self.process.pid)
        self.signal(signal.SIGKILL)

    def hangs(self, awake_s: float, silent_max_s: float) -> bool:
        """Count this much more silence; return whether that is too much: a report, or the end of the start, is due."""
        self.silent_s += awake_s
        if not self._ready.done():
            return self.silent_s > self._ready_s
        return self._reports_on and self.silent_s > silent_max_s

    @property
    def end_reason(self) -> str:
        code = self.process.returncode
        if code is None:
            return f"not ready after {self._ready_s:.0f} s"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _receive(self) -> None:
        received = b""
        with suppress(OSError):
            received = self._control.recv(REPORT_BYTES_MAX)
        if not received:  # its end, which `ended` reports
            asyncio.get_running_loop().remove_reader(self._control)
            return
        self.silent_s = 0.0
        *lines, self._received = (self._received + received).split(b"\n")
        for line in lines:
            self._take_report(line)
        self._received = self._received[:REPORT_BYTES_MAX]

    def _take_report(self, line: bytes) -> None:
        self._reports_on = self._reports_on or bool(line)
        with suppress(msgspec.DecodeError):  # a report of another version: then only its arrival counts
            report = Report.decode(line)
            self.confirmed, self.states = report.confirmed or self.confirmed, report.states
        if not self._ready.done():
            self._ready.set_result(True)

    async def _wait_for_end(self) -> None:
        await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        if not self._ready.done():
            self._ready.set_result(False)


class Post:
    """A place that one worker must fill at all times."""

    def __init__(self, role: Role, index: int, listener: socket.socket | None, limits: CrewLimits) -> None:
        self.role, self.index, self.listener = role, index, listener
        self.worker: WorkerProcess | None = None
        self.vacant = asyncio.Event()
        self.backoff = Backoff(PAUSES_S, steady_s=limits.steady_s)

    def __str__(self) -> str:
        return f"{self.role} worker {self.index}"


# Starts the process that fills a post.
StartWorker = Callable[[Post], Awaitable[WorkerProcess]]
# Makes the order of the next workers from that of the present ones; None keeps these workers.
Renew = Callable[[Order], Order | None]


def _keep_order(order: Order) -> Order:
    return order


def worker_starter(command: Command, ready_s: float, settings: Settings) -> StartWorker:
    environment = drop_settings(os.environ)
    if settings.compiled == "off":
        environment[compiled.VARIABLE] = "off"  # imports come before the order with the settings

    async def start(post: Post) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        listener, control = None if post.listener is None else post.listener.fileno(), theirs.fileno()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command(post.role, post.index, listener, control),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[given for given in (listener, control) if given is not None],
                process_group=0,  # a terminal's Ctrl-C is for the supervisor alone
                env=environment,
            )
        return WorkerProcess(process, ours, ready_s)

    return start


class Crew:
    """All posts, and all living workers: during a replacement there are more workers than posts."""

    def __init__(
        self,
        settings: Settings,
        roles: Sequence[Role],
        listeners: Mapping[Role, socket.socket],
        start_worker: StartWorker,
        limits: CrewLimits,
    ) -> None:
        self._stop_timeout_s = settings.stop_timeout_s + CLOSING_S
        self._limits = limits
        self._confirmed: Confirmed | None = None
        self._start_worker = start_worker
        self._order: Order | None = None
        self._living: dict[WorkerProcess, Post] = {}
        self._ending = False
        self._posts = [
            Post(role, index, listeners.get(role), limits)
            for role in roles
            for index in range(count_processes(settings, role))
        ]

    async def start(self) -> None:
        for post in self._posts:
            if post.listener is not None:
                post.worker = await self._fill(post)

    async def instruct(self, order: Order) -> None:
        self._order = order
        for post in self._posts:
            if post.worker is not None:
                post.worker.instruct(self._make_order(order, post))

    async def wait_ready(self) -> None:
        """Wait until every worker with a listener answers; then start the others, on cores that are free again."""
        for post in self._posts:
            if post.worker is not None and not await post.worker.is_ready():
                raise ServeError(f"the {post} did not start: {post.worker.end_reason}")
        for post in self._posts:
            if post.worker is None:
                post.worker = await self._fill(post)

    async def keep(self, replace: asyncio.Event, renew: Renew = _keep_order) -> None:
        """Keep every post filled, forever.  `replace` is set to replace all workers; `renew` makes their order."""
        async with asyncio.TaskGroup() as group:
            for post in self._posts:
                group.create_task(self.keep_post(post))
                group.create_task(self._keep_awake(post))
            group.create_task(self._keep_fresh(replace, renew))
            group.create_task(self._watch_states())

    async def end(self) -> None:
        """End all workers: in order; by force after stop_timeout_s, or when cancelled while waiting."""
        self._ending = True
        self._close_unserved()
        for worker in self._living:
            worker.signal(signal.SIGTERM)
        ends = {worker.ended for worker in self._living}
        if not ends:
            return
        try:
            await asyncio.wait(ends, timeout=self._stop_timeout_s)
        finally:
            for worker in self._living:
                worker.kill()
            await asyncio.wait(ends)

    async def keep_post(self, post: Post) -> None:
        """Start a worker again whenever the post's worker has died, forever."""
        while True:
            await post.vacant.wait()
            post.vacant.clear()
            worker = post.worker
            if worker is None or not worker.ended.done():
                continue  # it was replaced meanwhile
            pause_s = post.backoff.fail(time.monotonic() - worker.born)
            log.warning(
                "A worker ended; starting another one", worker=str(post), reason=worker.end_reason, pause_s=pause_s
            )
            await asyncio.sleep(pause_s)
            if post.worker is worker:
                post.worker = await self._fill(post)
            else:
                # SIGHUP has filled the post: one more worker would push that one out of sight, alive until the stop.
                log.info("The ended worker is already replaced", worker=str(post))

    async def _fill(self, post: Post) -> WorkerProcess:
        worker = await self._start_worker(post)
        self._living[worker] = post
        worker.ended.add_done_callback(lambda _: self._remove(worker, post))
        if self._order is not None:
            worker.instruct(self._make_order(self._order, post))
        return worker

    def _make_order(self, order: Order, post: Post) -> Order:
        beat_s = self._limits.find_silent_s(post.role) / LOOKS
        return msgspec.structs.replace(order, beat_s=beat_s, confirmed=self._find_confirmed(), logs_states=True)

    def _find_confirmed(self) -> Confirmed | None:
        """Return the newest that any worker has reported, also one that is dead."""
        reported = [worker.confirmed for worker in self._living] + [self._confirmed]
        return max((each for each in reported if each is not None), key=lambda each: each.at, default=None)

    async def _keep_awake(self, post: Post) -> None:
        """Kill the post's worker when it hangs; `keep_post` starts another one."""
        silent_max_s = self._limits.find_silent_s(post.role)
        look_s = silent_max_s / LOOKS
        while True:
            await asyncio.sleep(look_s)
            worker = post.worker
            if worker is None or worker.ended.done():
                continue
            if worker.hangs(look_s, silent_max_s):
                log.error("A worker hangs; killing it", worker=str(post), silent_s=round(worker.silent_s, 1))
                worker.signal(signal.SIGKILL)
                worker.silent_s = 0.0  # one line for each try: a process in an uninterruptible call dies later

    async def _watch_states(self) -> None:
        """Log how PostgreSQL and Redis change, as the workers see them: once for all workers."""
        states = States()
        while True:
            workers = [post.worker for post in self._posts]
            states.look([worker.states for worker in workers if worker is not None])
            await asyncio.sleep(LOOK_S)

    def _remove(self, worker: WorkerProcess, post: Post) -> None:
        self._confirmed = self._find_confirmed()
        self._living.pop(worker, None)
        if self._ending:
            self._close_unserved()
        if post.worker is worker:
            post.vacant.set()

    def _close_unserved(self) -> None:
        """Close each listening socket whose last worker has ended, though other workers need longer.

        The kernel would still accept connections for it, and their requests would hang.  A client that is refused asks
        another machine at once.
        """
        served = {post.role for post in self._living.values()}
        for post in self._posts:
            if post.listener is not None and post.role not in served:
                post.listener.close()

    async def _keep_fresh(self, replace: asyncio.Event, renew: Renew) -> None:
        while True:
            await replace.wait()
            replace.clear()
            old = self._order
            new = None if old is None else renew(old)
            if old is not None and new is not None:
                await self.replace_all(old, new)

    async def replace_all(self, old: Order, new: Order) -> None:
        """Replace all workers by some with the new order, or go on with the old one."""
        log.info("Replacing the workers")
        self._order = new
        for index, post in enumerate(self._posts):
            if await self._replace(post):
                continue
            self._order = old
            if new != old:  # other settings or other certificates
                log.error("The workers go on with the old settings", replaced_again=index)
                for replaced in self._posts[:index]:
                    await self._replace(replaced)
            return
        self._stop_timeout_s = new.settings.stop_timeout_s + CLOSING_S
        log.info("All workers are replaced")

    async def _replace(self, post: Post) -> bool:
        fresh = await self._fill(post)
        if not await fresh.is_ready():
            log.error("The new worker did not start; keeping the old one", worker=str(post), reason=fresh.end_reason)
            fresh.signal(signal.SIGKILL)
            return False
        old, post.worker = post.worker, fresh
        if old is not None and not old.ended.done():
            old.signal(signal.SIGTERM)
            # When `serve` is stopped in here, `end` gives the old one its time.
            _, late = await asyncio.wait({old.ended}, timeout=self._stop_timeout_s)
            if late:
                old.kill()
        return True
