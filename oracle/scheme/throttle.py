"""Bounds how often something is done that anybody can ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Throttle:
    """Runs a function when it is asked to: at once, but at most once in every_s.

    What is asked for in between is done once, at the end of that time: nobody's wish is lost.
    """

    def __init__(self, run: Callable[[], None], every_s: float) -> None:
        self._run = run
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None
        self._asked_again = False

    def ask(self) -> None:
        if self._timer is not None:
            self._asked_again = True
            return
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._go_on)
        self._run()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self) -> None:
        self._timer = None
        if self._asked_again:
            self._asked_again = False
            self.ask()
