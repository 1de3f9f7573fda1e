"""A value that anybody can ask for, made at most a tenth of the time, however many ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")
SHARE: Final = 10
KEEP_MAX_S: Final = 1.0


class Kept(Generic[Value]):
    """Keeps a value for ten times as long as it took to make it, and for a second at most."""

    def __init__(self, make: Callable[[], Value], clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._value: Value | None = None
        self._until = 0.0

    def get(self) -> Value:
        now = self._clock()
        if self._value is None or now >= self._until:
            self._value = self._make()
            took_s = self._clock() - now
            self._until = now + min(SHARE * took_s, KEEP_MAX_S)
        return self._value
