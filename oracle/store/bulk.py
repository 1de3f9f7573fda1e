"""Registers up to thousands of aliases for one FSP, as the hub asks for them in one call.

Parts.    Each part is one change: all of it is registered, or nothing.  So an item is never half done.
Slow.     A statement must end within two seconds, and a commit must follow its fences as soon.  A part that a slow
          PostgreSQL cannot do in that time is halved and tried again.
Failed.   When a part fails for good, the parts before it are registered, and the caller must learn that: the hub does
          not repeat a bulk.  So the items of that part and of those after it have an error of their own.
No cache. Without Redis each change moves the generation and waits for a lease.  Then one part holds all items.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from oracle.errors import DirectoryUnavailable
from oracle.store.aliases import ChangeResult
from oracle.store.base import Context, Registration
from oracle.store.changes import Changes, TooSlow
from oracle.store.lanes import is_busy
from oracle.telemetry import logs

PART: Final = 2_000  # some 100 ms of PostgreSQL
PART_MIN: Final = 100  # a part of this size that fails is not halved

log = logs.Log(__name__)


async def register_bulk(
    changes: Changes,
    context: Context,
    fsp_id: str,
    registrations: Sequence[Registration],
    *,
    deadline: float,
    part: int = PART,
) -> list[ChangeResult]:
    """Register aliases for one FSP; one result each, in order.  A refused one does not affect the others.

    `deadline`: a time of the event loop; after it no part begins, and the one that runs is given up.
    Raises DirectoryUnavailable if no part was registered: then nothing is, or nobody knows.
    """
    results: list[ChangeResult] = []
    size = part if changes.can_fence else len(registrations)
    while len(results) < len(registrations):
        wanted = registrations[len(results) : len(results) + size]
        try:
            async with asyncio.timeout_at(deadline):
                results += await changes.register(context, fsp_id, wanted)
        except (DirectoryUnavailable, TimeoutError) as exc:
            if _is_slow(exc) and len(wanted) > PART_MIN:
                size = len(wanted) // 2
                log.warning("PostgreSQL is too slow for a part of a bulk; halving it", items=len(wanted))
                continue
            failed = len(registrations) - len(results)
            log.warning("A bulk failed, or a part of it", registered=len(results), failed=failed)
            if not results:
                raise DirectoryUnavailable from exc
            results += [ChangeResult(refused=DirectoryUnavailable()) for _ in range(failed)]
    return results


def _is_slow(error: BaseException) -> bool:
    """Whether PostgreSQL works, and a smaller part can succeed."""
    if isinstance(error, TooSlow):
        return True
    return isinstance(error, DirectoryUnavailable) and error.__cause__ is not None and is_busy(error.__cause__)
