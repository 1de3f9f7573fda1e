"""Every schedule of a kind: one change and a lookup or two around it, with one or two messages later than the rest.

All messages take STEP_S, so without a delay there is one schedule for each moment at which the lookup starts.  Then
each message in turn, and each pair, takes as long as DELAYS_S says: the bound is on the number of delays, not on where
they fall.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, product
from typing import Final

from schedule import KEYS, SETTLE_S, WARM_UP_S, Prepare, Schedule, Violation
from servers_in_memory import Backend

STEP_S: Final = 0.001
# Later than the message that overtakes it; later than a session waits; later than any fence lasts.
DELAYS_S: Final = (0.0095, 0.0605, 3.6)
STARTS_S: Final = tuple(n * 0.0017 - 0.0105 for n in range(16))
# Of the messages that a case sends before everything is decided, counted by trial: no case has more.
MESSAGES: Final = 56
KEY: Final = KEYS[0]


@dataclass(frozen=True)
class Case:
    lookup_at: float  # relative to the change
    warm: bool = False  # a copy is there
    fault: str = ""
    fault_at: float = 0.0
    delays: Mapping[int | str, float] = field(default_factory=dict)  # of the n-th message, or of one by its name
    dies: bool = False
    promises: tuple[str, ...] = ("A",)


class SystematicSchedule(Schedule):
    def __init__(self, case: Case, *, trace: bool = False, prepare: Prepare | None = None) -> None:
        super().__init__(0, trace=trace)
        self.case = case
        self.messages = 0
        self._counting = False
        if prepare is not None:
            prepare(self)

    def latency(self, what: str) -> float:
        if self._counting:
            self.messages += 1
            if self.messages in self.case.delays:
                return self.case.delays[self.messages]
        return self.case.delays.get(what, STEP_S)

    def flip(self, probability: float) -> bool:  # noqa: ARG002 - never
        return False

    def run(self) -> Violation | None:
        case, begin = self.case, WARM_UP_S + 0.0123
        other = self.processes[1]
        self.universe.run(WARM_UP_S)
        if case.warm:
            self.ask(other, KEY)
        self.universe.run(begin)
        self.universe.after(0.0105, self._begin)
        self.universe.after(0.0105 + case.lookup_at, partial(self.ask, other, KEY))
        if case.fault:
            self.universe.after(0.0105 + case.fault_at, getattr(self, "_" + case.fault))
        self._counting = True
        self.universe.run(begin + 0.2)
        self._counting = False
        self.universe.run(begin + (7.0 if case.dies or "COMMIT" in case.delays else 4.6))
        asked = [self.ask(process, KEY) for process in self.processes if not process.dead]
        self.universe.run(self.universe.now + 0.5)
        truth = self.postgres.state.values[KEY]
        wrong = [x.value for x in asked if x.value != truth]
        live = Violation("live", f"{KEY}={wrong[0]} in the end, not {truth}") if wrong else None
        return self.judge(case.promises) or live

    def _begin(self) -> None:
        self.change(self.processes[0], [KEY])

    def due(self, key: str, seconds: float) -> None:
        for process in self.processes:
            if not process.dead:
                self.universe.after(seconds + 1e-5, partial(self.ask, process, key))

    def note_commit(self, backend: Backend, wrote: dict[str, int]) -> None:
        super().note_commit(backend, wrote)
        if self.case.dies and KEY in wrote:
            self.processes[0].die()
            state = self.states[KEY][-1]
            state.settled = (self.universe.now + SETTLE_S, 0)
            self.due(KEY, SETTLE_S)

    def _evict(self) -> None:
        self.note("the key is evicted")
        self.redis[0].data.pop(self.processes[1].coherence.key("ALIAS", KEY), None)

    def _bump(self) -> None:
        self.note("another key is changed by hand")
        self.by_hand("h")


FAULTS: Final = (("", 0.0), *product(("evict", "bump"), (n * 0.0023 - 0.0031 for n in range(8))))
CHOICES: Final = tuple(product(FAULTS, STARTS_S, (False, True)))


def sample(delays: int, every: int) -> Iterator[Case]:
    """Every so-many-th of the cases with exactly that many delays; a prime number is in step with no choice."""
    which, times = list(combinations(range(1, MESSAGES + 1), delays)), list(product(DELAYS_S, repeat=delays))
    for n in range(0, len(which) * len(times) * len(CHOICES), every):
        rest, choice = divmod(n, len(CHOICES))
        (fault, fault_at), start, warm = CHOICES[choice]
        late, how_late = which[rest // len(times)], times[rest % len(times)]
        promises = ("A",) if fault or any(seconds > 0.01 for seconds in how_late) else ("A", "B")
        yield Case(start, warm, fault, fault_at, dict(zip(late, how_late, strict=True)), promises=promises)
