"""Makes good what commits without an answer leave behind: one task for each process, on a connection of its own.

A commit without an answer can take effect later, when its fences have expired and lookups have stored older copies.  It
also holds its locks until then: while a synchronous standby is missing, for as long as that takes.  So the task ends
the server processes that ran such commits.  Once they are gone, it moves the generation: this keeps promise C.  It also
moves the generation after a commit that could not be verified, because PostgreSQL went away right after it or the
caller's time was up.

However many changes fail, one move is enough for all that are known when it begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from oracle.backoff import Backoff
from oracle.errors import DirectoryUnavailable
from oracle.telemetry import logs

PAUSES_S: Final = (0.02, 0.1, 0.5)
STANDBY_WAIT: Final = "SyncRep"  # what PostgreSQL calls the wait for a synchronous standby

log = logs.Log(__name__)


class Repairs:
    """Tries until it has succeeded: there is no later occasion."""

    def __init__(
        self,
        end_backends: Callable[[Collection[int]], Awaitable[dict[int, str]]],
        bump: Callable[[], Awaitable[None]],
    ) -> None:
        """`end_backends` ends server processes, and returns those that are not gone with what each waits for."""
        self._end_backends = end_backends
        self._bump = bump
        self._backends: dict[int, bool] = {}  # by number, and whether the generation must move when it is gone
        self._move_is_due = False
        self._task: asyncio.Task[None] | None = None
        self.waits_for_standby = False  # the last commit without an answer

    @property
    def waiting(self) -> int:
        """How many commits without an answer, and moves, are not made good yet."""
        return len(self._backends) + self._move_is_due

    def add(self, backend_pid: int, *, moves: bool) -> None:
        """Nobody knows the outcome of the commit that this server process ran."""
        self._backends[backend_pid] = moves
        self._begin()

    def add_move(self) -> None:
        """A commit could not be verified."""
        self._move_is_due = True
        self._begin()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            log.warning("The cache can hold copies from before a change; invalidating all older copies")
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        backoff = Backoff(PAUSES_S)
        while self.waiting:
            try:
                if await self._advance():
                    backoff.reset()
                    continue
            except DirectoryUnavailable:
                pass
            except Exception as exc:  # noqa: BLE001 - giving up would leave an old copy for its whole TTL
                log.error("Older copies in the cache are not invalid yet; trying again", exc=exc)
            await asyncio.sleep(backoff.fail())

    async def _advance(self) -> bool:
        """End server processes, and move the generation for those that are gone; return whether one was gone."""
        asked = dict(self._backends)
        alive = await self._end_backends(asked) if asked else {}
        for pid in asked.keys() - alive.keys():
            self._move_is_due |= self._backends.pop(pid)
        if alive:
            self.waits_for_standby = STANDBY_WAIT in alive.values()
        if self._move_is_due:
            self._move_is_due = False
            try:
                await self._bump()
            except BaseException:
                self._move_is_due = True
                raise
        return len(alive) < len(asked)
