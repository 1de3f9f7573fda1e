"""Scenes: one change, and PostgreSQL that dies or loses it, at chosen moments.

A process without Redis cannot raise the marker, so its changes show what the other rules are for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from schedule import KEYS, WARM_UP_S, Prepare, Schedule, Violation
from servers_in_memory import Backend

KEY: Final = KEYS[0]
ASKED_S: Final = 4.0  # for how long after the change


@dataclass(frozen=True)
class Scene:
    dies_after_s: float = 0.0  # PostgreSQL, after the commit; 0: it lives
    stalls_s: float = 0.0  # the process that answers, from the change on
    suspends: bool = False  # by a process with Redis; else an alias, by a process without
    loses_after_s: float = 0.0  # a standby without the change takes over; 0: none does


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
        mover, other = self.processes
        self.universe.run(WARM_UP_S)
        for _ in range(2):
            self.ask(other, KEY)
            self.universe.run(self.universe.now + 0.05)
        if not (self.scene.suspends or self.scene.loses_after_s):
            mover.network.redis_cut = True
            for wire in mover.network.redis_wires:
                wire.hang_up()
            self.universe.run(self.universe.now + 0.07)
        if self.scene.stalls_s:
            other.stall(self.scene.stalls_s)
        kept = self.postgres.state.copy()
        if self.scene.suspends:
            self.settle(mover, KEY)
        else:
            self.change(mover, [KEY])
        ends_at = self.universe.now + ASKED_S
        if self.scene.loses_after_s:
            self.universe.after(self.scene.loses_after_s, lambda: self.promote(kept))
            ends_at += self.scene.loses_after_s
        while self.universe.now < ends_at:
            self.ask(other, KEY)
            self.universe.run(self.universe.now + 0.03)
        return self.judge(("A",))

    def note_commit(self, backend: Backend, wrote: dict[str, int]) -> None:
        super().note_commit(backend, wrote)
        if self.scene.dies_after_s:
            self.universe.after(self.scene.dies_after_s, self.postgres.stop)


def stalled() -> Iterator[Scene]:
    """PostgreSQL dies when the change is acknowledged, before the other process wakes."""
    return (Scene(1.1 + n * 0.02, stalls_s=2.5) for n in range(20))


def suspended() -> Iterator[Scene]:
    """PostgreSQL dies while a suspension waits for leases."""
    return (Scene(n * 0.002, suspends=True) for n in range(1, 25))


def lost() -> Iterator[Scene]:
    """A standby takes over without a change whose fence has expired, so that there is a copy of it."""
    return (Scene(loses_after_s=4.0 + n * 0.07) for n in range(10))


def cut_short() -> Iterator[Scene]:
    """PostgreSQL dies while the change waits for leases."""
    return (Scene(n * 0.002) for n in range(1, 25))
