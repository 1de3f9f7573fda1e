"""Whether calls to a host are tried at all.

closed    calls go through; `failures_max` failures in a row open it
open      no call goes through, until the pause has ended
half-open one call goes through, the probe; it closes the breaker, or opens it for a longer pause
"""

from __future__ import annotations

from oracle.backoff import Backoff
from oracle.calls.limits import CallLimits

SPREAD = 0.2  # so that all workers do not try at the same moment


class Breaker:
    def __init__(self, limits: CallLimits) -> None:
        self._failures_max = limits.failures_max
        self._backoff = Backoff(limits.pauses_s, spread=SPREAD)
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether a call that `allows` lets through is a probe."""
        return self._open_until is not None

    def allows(self, now: float) -> bool:
        return self._open_until is None or (now >= self._open_until and not self._probing)

    def begin_probe(self) -> None:
        self._probing = True

    def give_up_probe(self) -> None:
        """End a probe that has shown nothing: the next call is one."""
        self._probing = False

    def succeed(self) -> bool:
        """Count a success.  Returns whether this closes the breaker."""
        self._failures = 0
        if self._open_until is None:
            return False
        self._open_until = None
        self._probing = False
        self._backoff.reset()
        return True

    def fail(self, now: float, *, is_probe: bool = False) -> bool:
        """Count a failure.  Returns whether this opens a closed breaker.

        Calls from before the breaker opened can fail long after that, one by one: they do not make a pause longer.
        """
        if self._open_until is not None:
            if is_probe:
                self._probing = False
                self._open_until = now + self._backoff.fail()
            return False
        self._failures += 1
        if self._failures < self._failures_max:
            return False
        self._open_until = now + self._backoff.fail()
        return True
