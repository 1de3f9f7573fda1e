"""Scenes: one change, and what happens around it at chosen moments.

A process without Redis cannot raise the marker, so its changes show what the other rules are for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from schedule import KEYS, WARM_UP_S, Prepare, Process, Schedule, State, Violation
from servers_in_memory import Backend

KEY: Final = KEYS[0]
ASKED_S: Final = 4.0  # for how long after the change
POLL_PHASES_S: Final = tuple(n * 0.037 for n in range(8))


@dataclass(frozen=True)
class Scene:
    begins_s: float = 0.0  # later than usual: the polls of the processes are elsewhere
    dies_after_s: float = 0.0  # PostgreSQL, after the commit; 0: it lives
    stalls_s: float = 0.0  # the process that answers, from the change on
    suspends: bool = False  # by a process with Redis; else an alias, by a process without
    loses_after_s: float = 0.0  # a standby without the change takes over; 0: none does
    fails_over: bool = False  # Redis, for the process that changes; the other one stays on the old primary
    repeats: bool = False  # a person changes it; then the process finds that nothing is new
    rolls_back_s: float = 0.0  # so long after a lookup began, Redis restarts as it was before the change
    moves: bool = False  # a person changes another key, and only the process that changes this one has heard of it
    restores: bool = False  # PostgreSQL goes back to before a change by hand, and a person changes it again


class SceneSchedule(Schedule):
    def __init__(self, scene: Scene, *, trace: bool = False, prepare: Prepare | None = None) -> None:
        super().__init__(0, trace=trace)
        self.scene = scene
        if prepare is not None:
            prepare(self)

    def latency(self, what: str) -> float:
        return 0.9 if what == "notice" else 0.001  # NOTIFY promises nothing

    def flip(self, probability: float) -> bool:  # noqa: ARG002 - never
        return False

    def run(self) -> Violation | None:
        scene, (mover, other) = self.scene, self.processes
        self.universe.run(WARM_UP_S + scene.begins_s)
        for _ in range(2):
            self.ask(other, KEY)
            self.universe.run(self.universe.now + 0.05)
        if scene.fails_over:
            self._fail_over(mover)
        elif not (
            scene.suspends
            or scene.loses_after_s
            or scene.repeats
            or scene.rolls_back_s
            or scene.restores
            or scene.moves
        ):
            mover.network.redis_cut = True
            for wire in mover.network.redis_wires:
                wire.hang_up()
            self.universe.run(self.universe.now + 0.07)
        if scene.stalls_s:
            other.stall(scene.stalls_s)
        kept, saved = self.postgres.state.copy(), dict(self.redis[0].data)
        if scene.restores:
            self._lose_change_by_hand(other)
        if scene.suspends:
            self.settle(mover, KEY)
        elif scene.repeats or scene.moves:
            self.by_hand(KEY if scene.repeats else "h")
            mover.loop.call_soon(mover.coherence.confirm_soon)  # it has heard of the change, the other one has not
            begin = self.repeat if scene.repeats else self._change_one
            self.universe.after(0.01, partial(begin, mover, KEY))
        elif not scene.restores:
            self.change(mover, [KEY])
        if scene.restores:
            self.by_hand(KEY)
        if scene.rolls_back_s:
            self.universe.run(self.universe.now + 0.05)
            self.ask(other, KEY)
            self.universe.after(scene.rolls_back_s, lambda: self.redis[0].start(saved))
        ends_at = self.universe.now + ASKED_S
        if scene.loses_after_s:
            self.universe.after(scene.loses_after_s, lambda: self.promote(kept))
            ends_at += scene.loses_after_s
        while self.universe.now < ends_at:
            self.ask(other, KEY)
            self.universe.run(self.universe.now + 0.03)
        return self.judge(("A", "hand"))

    def _fail_over(self, mover: Process) -> None:
        """Let the process find the new primary, which was in step, and wait until it uses it."""
        new = self.redis[1]
        new.data = dict(self.redis[0].data)
        for process in self.processes:
            process.redis = new  # when it dials again
        for wire in mover.network.redis_wires:
            wire.hang_up()
        self.universe.run(self.universe.now + 0.001)
        while mover.coherence.session is None:
            self.universe.run(self.universe.now + 0.001)

    def _lose_change_by_hand(self, other: Process) -> None:
        """A copy of it stays in Redis, under a generation that PostgreSQL can come to again."""
        self.postgres.kept = self.postgres.state.copy()
        self.by_hand(KEY)
        for _ in range(10):
            self.universe.run(self.universe.now + 0.2)
            self.ask(other, KEY)
        self.postgres.restore()
        self.states[KEY].append(State(self.postgres.state.values[KEY], self.stamp()))
        self.universe.run(self.universe.now + 1.0)

    def _change_one(self, mover: Process, key: str) -> None:
        self.change(mover, [key])

    def due(self, key: str, seconds: float) -> None:
        self.universe.after(seconds + 1e-5, partial(self.ask, self.processes[1], key))

    def note_commit(self, backend: Backend, wrote: dict[str, int]) -> None:
        super().note_commit(backend, wrote)
        if self.scene.dies_after_s:
            self.universe.after(self.scene.dies_after_s, self.postgres.stop)


def stalled() -> Iterator[Scene]:
    """PostgreSQL dies when the change is acknowledged, before the other process wakes."""
    return (Scene(dies_after_s=1.1 + n * 0.02, stalls_s=2.5) for n in range(20))


def suspended() -> Iterator[Scene]:
    """PostgreSQL dies while a suspension waits for leases."""
    return (Scene(dies_after_s=n * 0.002, suspends=True) for n in range(1, 25))


def lost() -> Iterator[Scene]:
    """A standby takes over without a change whose fence has expired, so that there is a copy of it."""
    return (Scene(loses_after_s=4.0 + n * 0.07) for n in range(10))


def cut_short() -> Iterator[Scene]:
    """PostgreSQL dies while the change waits for leases."""
    return (Scene(dies_after_s=n * 0.002) for n in range(1, 25))


def failed_over() -> Iterator[Scene]:
    """A process changes a key on the new primary of Redis, while the other one reads its copy on the old one."""
    return (Scene(begins_s=phase_s, fails_over=True) for phase_s in POLL_PHASES_S)


def repeated() -> Iterator[Scene]:
    """A process acknowledges a change by hand that the other process has not heard of."""
    return (Scene(begins_s=phase_s, repeats=True) for phase_s in POLL_PHASES_S)


def rolled_back() -> Iterator[Scene]:
    """A lookup that began after the change is on its way when Redis restarts with a copy from before it."""
    return (Scene(rolls_back_s=n * 0.0004) for n in range(1, 9))


def restored() -> Iterator[Scene]:
    """PostgreSQL is restored from a backup that lacks a change, of which there is a copy."""
    return (Scene(begins_s=phase_s, restores=True) for phase_s in POLL_PHASES_S)


def heard_by_one() -> Iterator[Scene]:
    """A process sets its fences under a generation that the other process has not heard of."""
    return (Scene(begins_s=phase_s, moves=True) for phase_s in POLL_PHASES_S)
