"""Virtual time: several event loops and a world around them, one after the other on one thread.

Every process under test has a loop of its own, so that one can stall or die while the others go on.  Nothing waits:
when no loop has anything to do, the time jumps to the next timer or the next event of the world.  Two runs that draw
the same random numbers do the same things in the same order.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from asyncio import events
from collections.abc import Callable
from random import Random
from typing import Any, Final

NEVER: Final = float("inf")
# A loop that runs so often while the time does not advance would run forever.
TURNS_MAX: Final = 5_000
# What one turn of a loop takes.  A clock that did not advance would never reach what is due in less than the
# smallest step of a float.
TURN_S: Final = 1e-6
RESOLUTION_S: Final = 1e-9  # of the clock of a loop


class Livelock(Exception):
    """Something runs again and again and waits for nothing."""


class VirtualLoop(asyncio.BaseEventLoop):
    def __init__(self, universe: Universe) -> None:
        super().__init__()
        self.universe = universe
        self.stalled_until = 0.0
        self.ended = False
        self._own: Any = self  # the parts of BaseEventLoop that have no types

    def time(self) -> float:
        return self.universe.now

    def _write_to_self(self) -> None: ...

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """There are no threads here; what one would do takes a moment."""
        future = self.create_future()

        def finish() -> None:
            if not future.done():
                future.set_result(func(*args))

        self.universe.after(0.001, lambda: self.call_soon(finish))
        return future

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None: ...

    def next_at(self) -> float:
        """When this loop has something to do."""
        if self.ended:
            return NEVER
        if self._own._ready:
            return max(self.universe.now, self.stalled_until)
        scheduled = self._own._scheduled
        while scheduled:
            if not scheduled[0]._cancelled:
                return max(float(scheduled[0]._when), self.stalled_until)
            # Most timers are time limits of something that was in time.  None of them is worth a turn.
            heapq.heappop(scheduled)._scheduled = False
        return NEVER

    def turn(self) -> None:
        """Run what is ready, once: as BaseEventLoop._run_once, which is slower, because it looks for sockets."""
        ready, scheduled = self._own._ready, self._own._scheduled
        ends_at = self.universe.now + RESOLUTION_S
        with _Running(self):
            while scheduled and scheduled[0]._when < ends_at:
                timer = heapq.heappop(scheduled)
                timer._scheduled = False
                if not timer._cancelled:
                    ready.append(timer)
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()

    def within(self, function: Callable[[], Any]) -> Any:
        """Call something that asks for the running loop."""
        with _Running(self):
            return function()


class _Running:
    """A context manager of slots: this is entered a million times."""

    __slots__ = ("_loop",)

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        self._loop._thread_id = threading.get_ident()
        events._set_running_loop(self._loop)

    def __exit__(self, *_: object) -> None:
        self._loop._thread_id = None
        events._set_running_loop(None)


class Universe:
    """The clock, the loops, and what the world does by itself."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0
        self.loops: list[VirtualLoop] = []
        self._random = random
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def loop(self) -> VirtualLoop:
        loop = VirtualLoop(self)
        self.loops.append(loop)
        return loop

    def at(self, when: float, happens: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._events, (max(when, self.now), self._count, happens))

    def after(self, seconds: float, happens: Callable[[], object]) -> None:
        self.at(self.now + seconds, happens)

    def run(self, until: float) -> None:
        """Let everything happen up to that time.  Raises Livelock."""
        turns, world = 0, self._events
        due: list[VirtualLoop] = []
        while True:
            upcoming = world[0][0] if world else NEVER
            if upcoming <= self.now:
                heapq.heappop(world)[2]()
                continue
            due.clear()
            for loop in self.loops:
                at = loop.next_at()
                if at <= self.now:
                    due.append(loop)
                elif at < upcoming:
                    upcoming = at
            if due:
                turns += 1
                if turns > TURNS_MAX:
                    raise Livelock
                (due[0] if len(due) == 1 else self._random.choice(due)).turn()
                self.now += TURN_S
                continue
            turns = 0
            if upcoming > until:
                self.now = max(self.now, until)
                return
            self.now = upcoming

    def end(self) -> None:
        """Cancel all tasks of all loops and close them; nothing happens in the world any more."""
        self._events.clear()
        for loop in self.loops:
            loop.ended = False
            loop.stalled_until = 0.0
            loop.set_exception_handler(lambda *_: None)
            for _ in range(50):
                tasks = asyncio.all_tasks(loop)
                if not tasks:
                    break
                for task in tasks:
                    task.cancel()
                for _ in range(20):
                    loop.turn()
            self._events.clear()
            loop.close()
        self.loops.clear()
