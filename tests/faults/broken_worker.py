"""A service in which one rule of `oracle.store.cache.coherence` is left out: the rig must notice.

Run like `oracle serve`, with RIG_BROKEN=fence|unfence|verify|generation|lease|run-id|marker|patience.  Nothing in the
program knows of this: the workers of this command replace methods before they begin.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from oracle.run.order import PARTS, ROLES, Role, worker_arguments
from oracle.run.supervisor import serve
from oracle.run.worker import work
from oracle.settings import load
from oracle.store.cache.coherence import Coherence, Fence
from oracle.store.cache.session import RedisSession
from oracle.store.postgres import Postgres


def without_fence() -> None:
    """Rule 1: no fence is set, and the copies are not removed afterwards either."""

    async def fence(self: Coherence, keys: Sequence[tuple[str, str]]) -> Fence:
        return Fence(tuple(keys), self._clock(), self.generation, is_set=True)

    _replace(Coherence, "fence", fence)
    without_verification()


def with_deleted_fences() -> None:
    """Rule 1: a process deletes its fence after the acknowledgement, and with it the fence of a change in flight."""
    settle = Coherence.settle

    async def settle_and_delete(self: Coherence, fence: Fence) -> None:
        await settle(self, fence)
        if isinstance(self.session, RedisSession):
            self.session.send(b"".join(_del(self.key(*key)) for key in fence.keys), len(fence.keys), lambda _: None)

    _replace(Coherence, "settle", settle_and_delete)


def _del(key: bytes) -> bytes:
    return b"*2\r\n$3\r\nDEL\r\n$%d\r\n%b\r\n" % (len(key), key)


def without_verification() -> None:
    """Rule 3."""

    async def verify(*_: object) -> bool:
        return True

    _replace(Coherence, "_verify", verify)


def without_generation() -> None:
    """Rule 4: a change that cannot fence does not move the generation."""
    transaction = Postgres.transaction

    def as_if_fenced(self: Postgres, context: Any, **_: object) -> Any:
        return transaction(self, context, fenced=True)

    async def bump(self: Coherence) -> None:
        pass

    _replace(Postgres, "transaction", as_if_fenced)
    _replace(Coherence, "bump", bump)


def without_lease() -> None:
    """Rule 5: copies are believed forever, and nobody waits for a lease to end."""

    async def outlive(self: Coherence, since: float) -> None:
        pass

    _replace(Coherence, "fresh", property(lambda _: True))
    _replace(Coherence, "_outlive_leases", outlive)
    _replace(Coherence, "confirm_soon", lambda _: None)


def without_run_id() -> None:
    """Rule 6: every server is believed at once."""

    async def open_session(self: Coherence) -> None:
        assert self._dial is not None
        session = await self._dial()
        session.run_ids = self.run_ids
        self._session_lost.clear()
        session.lost = self._lose_session
        self.session = session

    _replace(Coherence, "_open_session", open_session)


def without_marker() -> None:
    """Rule 8: copies are believed without a lease, whatever others have seen."""

    def mget(self: RedisSession, _key: bytes, _marker: bytes, keys: Sequence[bytes], done: Any) -> None:
        self.mget(keys, done)

    _replace(RedisSession, "mget_marked", mget)


def without_patience() -> None:
    """Rule 9: a process is degraded whenever PostgreSQL does not answer, also after a stall."""
    _replace(Coherence, "patient", property(lambda self: not self.reachable))


def _replace(owner: type, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"{owner.__name__} has no {name} any more"
    setattr(owner, name, value)


BROKEN: dict[str, Callable[[], None]] = {
    "fence": without_fence,
    "unfence": with_deleted_fences,
    "verify": without_verification,
    "generation": without_generation,
    "lease": without_lease,
    "run-id": without_run_id,
    "marker": without_marker,
    "patience": without_patience,
}


def command(role: Role, index: int, listener: int | None, control: int) -> Sequence[str]:
    return [sys.executable, __file__, *worker_arguments(role, index, listener, control)]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("worker", nargs="?")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--role", choices=ROLES)
    for name in ("--index", "--fd", "--control"):
        parser.add_argument(name, type=int)
    options = parser.parse_args()
    if options.worker is None:
        serve(load(os.environ).settings, PARTS[options.only] if options.only else ROLES, command)
        return 0
    BROKEN[os.environ["RIG_BROKEN"]]()
    return work(options.role, options.index, options.fd, options.control)


if __name__ == "__main__":
    sys.exit(main())
